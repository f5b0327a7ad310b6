//! The operations of a program: each is done, and its answer compared with what the contract says.

use std::net::SocketAddr;
use std::time::Duration;

use hotloop::{Bytes, ConnId, Limit, Net, Sent};

use crate::model::Model;
use crate::program::{Dialled, Op, Target, missed};
use crate::random::bytes_of;

/// The most that a write can cost beside its payload: its segments, and the room that a shared
/// segment closes off.
const OVERHEAD_MAX: usize = 128 * 40 + 4096;

impl Model {
    /// Does one operation in a callback about `this`, or between turns.
    pub fn operate(&mut self, net: &mut Net, this: Option<ConnId>, op: Op) {
        self.counts[op.kind()] += 1;
        match op {
            Op::Write(target, len) => self.write(net, this, target, len, false),
            Op::WriteShared(target, len) => self.write(net, this, target, len, true),
            Op::Flush(target) => {
                let id = self.resolve(this, target);
                let is_there = self.conns.get(&id).is_some_and(|conn| conn.end.is_none());
                let known = net.flush(id);
                assert!(known || !is_there, "C5: {id}: a flush finds nothing");
            }
            Op::Pause(target) => self.pause(net, this, target, true),
            Op::Resume(target) => self.pause(net, this, target, false),
            Op::Shutdown(target) => {
                let id = self.resolve(this, target);
                net.shutdown(id);
                if let Some(conn) = self.conns.get_mut(&id).filter(|conn| conn.is_live()) {
                    conn.is_shut = true;
                }
            }
            Op::Close(target) => {
                let id = self.resolve(this, target);
                self.close(net, id);
            }
            Op::Abort(target) => self.abort(net, this, target),
            Op::Timer(nanos) => {
                let token = self.clock.next_token();
                let id = net.start_timer(Duration::from_nanos(nanos), token);
                self.clock.started(net, id, nanos, None, None);
            }
            Op::Repeat(nanos, is_burst) => {
                let (token, period) = (self.clock.next_token(), Duration::from_nanos(nanos));
                let id = net.start_repeating(period, missed(is_burst), token);
                self.clock.started(net, id, nanos, Some((nanos, is_burst)), None);
            }
            Op::ConnTimer(target, nanos) => self.start_conn_timer(net, this, target, nanos),
            Op::CancelTimer(number) => self.cancel_timer(net, number),
            Op::IdleTimeout(target, ms) => self.set_idle_timeout(net, this, target, ms),
            Op::Listen => self.listen(net),
            Op::CloseListener(number) => self.close_listener(net, number),
            Op::Connect(dialled) => self.connect(net, dialled),
            Op::Again => net.again(),
            Op::Stop => net.stop(),
            Op::RefreshNow => {
                let before = net.now();
                assert!(net.refresh_now() >= before, "C15: the clock went back");
            }
            Op::Look(target) => self.look(net, this, target),
            Op::Panic => {}
        }
    }

    /// Finds the id that an operation is for.
    pub fn resolve(&self, this: Option<ConnId>, target: Target) -> ConnId {
        let never = ConnId::from_bits((1 << 40) | (1 << 24) | 0xff_ffff).expect("a conn id");
        let some = |number: usize, is_live: bool| {
            let fits = self.conns.iter().filter(|(_, conn)| conn.end.is_none() == is_live);
            let count = fits.clone().count();
            fits.map(|(id, _)| *id).nth(number % count.max(1))
        };
        let found = match target {
            Target::This => this.or_else(|| some(0, true)),
            Target::Live(number) => some(number, true),
            Target::Stale(number) => some(number, false),
            Target::Never => None,
        };
        found.unwrap_or(never)
    }

    fn write(
        &mut self,
        net: &mut Net,
        this: Option<ConnId>,
        target: Target,
        len: usize,
        shared: bool,
    ) {
        let id = self.resolve(this, target);
        let (stream, from) = match self.conns.get(&id) {
            Some(conn) => (conn.stream_out(), conn.accepted),
            None => (0, 0),
        };
        let data = bytes_of(stream, from, len);
        let before = (net.queued_bytes(id), net.queued_cost(id));
        let was_open = net.is_open(id);
        let sent =
            if shared { net.write_shared(id, Bytes::from(data)) } else { net.write(id, &data) };
        let (high, hard, now) = (self.setup.marks.1, self.setup.marks.2, net.now());
        let Some(conn) = self.conns.get_mut(&id).filter(|conn| conn.takes_writes()) else {
            return assert_eq!(sent, Sent::Closed, "C8: {id}: a write to what takes none");
        };
        let cost = net.queued_cost(id);
        match sent {
            // The loop knows that it has ended, or that a send has failed.
            Sent::Closed => {
                conn.ends_since.get_or_insert(now);
            }
            Sent::Queued | Sent::Pressured => {
                assert!(was_open, "C8: {id}: taken, and not open");
                assert_eq!(net.queued_bytes(id), before.0 + len, "C8: {id}: taken");
                assert!(cost >= before.1 + len && cost <= before.1 + len + OVERHEAD_MAX);
                assert!(cost <= hard, "C8: {id}: {cost} are queued, the limit is {hard}");
                let is_pressed = sent == Sent::Pressured;
                assert_eq!(is_pressed, cost > high, "C9: {id}: {cost} of {high}: {sent:?}");
                conn.pressed |= is_pressed;
                conn.owed |= is_pressed;
                conn.accepted += len as u64;
                *self.written.entry(conn.key).or_default() += len as u64;
            }
            Sent::Refused => {
                let over_hard = before.1 + len + OVERHEAD_MAX > hard;
                let limit = self.setup.global_buffer_bytes;
                let over_all =
                    net.stats().buffered_bytes as usize + len + OVERHEAD_MAX > limit - limit / 8;
                assert!(len > 0 && (over_hard || over_all), "C8: {id}: refused below any limit");
                if net.is_open(id) {
                    assert_eq!(net.queued_bytes(id), before.0, "C8: {id}: refused, and taken");
                    let certain = before.1 + len > hard && !self.setup.refuses;
                    assert!(!certain, "C8: {id}: over the limit, and still open");
                    conn.pressed = true;
                } else {
                    assert!(!self.setup.refuses && over_hard, "C8: {id}: closed for a refusal");
                    conn.passed_outbound = true;
                    conn.ends_since.get_or_insert(now);
                }
            }
        }
    }

    fn pause(&mut self, net: &mut Net, this: Option<ConnId>, target: Target, pauses: bool) {
        let id = self.resolve(this, target);
        let was_open = net.is_open(id);
        let known = if pauses { net.pause_reading(id) } else { net.resume_reading(id) };
        assert_eq!(known, was_open, "C13: {id}: the answer to a pause or a resume");
        let Some(conn) = self.conns.get_mut(&id).filter(|conn| conn.is_live()) else {
            return assert!(!known, "C5: {id}: paused or resumed, and closed");
        };
        if known {
            conn.is_paused = pauses;
            conn.resumed |= !pauses;
        }
    }

    pub fn close(&mut self, net: &mut Net, id: ConnId) {
        let (was_open, now) = (net.is_open(id), net.now());
        net.close(id);
        assert!(!net.is_open(id), "C5: {id}: closed, and open");
        self.clock.forget_owned(id);
        if let Some(conn) = self.conns.get_mut(&id).filter(|conn| conn.is_live()) {
            conn.is_closed = was_open;
            conn.ends_since.get_or_insert(now);
        }
    }

    fn abort(&mut self, net: &mut Net, this: Option<ConnId>, target: Target) {
        let id = self.resolve(this, target);
        let (was_open, now) = (net.is_open(id), net.now());
        net.abort(id);
        assert!(!net.is_open(id), "C5: {id}: aborted, and open");
        assert_eq!(net.queued_bytes(id), 0, "C5: {id}: aborted, and bytes are queued");
        self.clock.forget_owned(id);
        if let Some(conn) = self.conns.get_mut(&id).filter(|conn| conn.end.is_none()) {
            conn.is_aborted |= was_open;
            conn.overridden |= !was_open;
            conn.ends_since.get_or_insert(now);
        }
    }

    fn start_conn_timer(
        &mut self,
        net: &mut Net,
        this: Option<ConnId>,
        target: Target,
        nanos: u64,
    ) {
        let id = self.resolve(this, target);
        let (was_open, token) = (net.is_open(id), self.clock.next_token());
        let timer = net.start_conn_timer(id, Duration::from_nanos(nanos), token);
        assert_eq!(timer.is_some(), was_open, "C15: {id}: a timer of its own");
        if let Some(timer) = timer {
            self.clock.started(net, timer, nanos, None, Some(id));
        }
    }

    fn cancel_timer(&mut self, net: &mut Net, number: usize) {
        let Some(id) = self.clock.some(number) else { return };
        let was_live = net.cancel_timer(id);
        let is_live = self.clock.is_live(id);
        // Those of a connection are cancelled when it ends, which the model learns later.
        assert!(!was_live || is_live, "C15: {id}: live, and gone for the model");
        if is_live {
            self.clock.cancelled(id);
        }
        assert_eq!(net.timer_deadline(id), None, "C15: {id}: cancelled, and has a deadline");
    }

    fn set_idle_timeout(
        &mut self,
        net: &mut Net,
        this: Option<ConnId>,
        target: Target,
        ms: Option<u64>,
    ) {
        let id = self.resolve(this, target);
        let was_open = net.is_open(id);
        let limit = ms.map_or(Limit::Unlimited, |ms| Limit::At(Duration::from_millis(ms)));
        assert_eq!(net.set_idle_timeout(id, limit), was_open, "C5: {id}: an idle timeout");
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.has_idle_timeout |= ms.is_some();
        }
    }

    pub fn listen(&mut self, net: &mut Net) {
        if self.listeners.len() < 4 {
            // Without a descriptor there is none.
            if let Ok(id) = net.listen("0.0.0.0:0") {
                assert!(net.listener_addr(id).is_some(), "{id}: no address");
                self.listeners.push(id);
            }
        }
    }

    fn close_listener(&mut self, net: &mut Net, number: usize) {
        let all = self.listeners.len() + self.old_listeners.len();
        if all == 0 {
            return;
        }
        let place = number % all;
        let is_live = place < self.listeners.len();
        let id = if is_live {
            self.listeners.remove(place)
        } else {
            self.old_listeners[place - self.listeners.len()]
        };
        assert_eq!(net.close_listener(id), is_live, "C1: {id}: closing a listener");
        assert_eq!(net.listener_addr(id), None, "C1: {id}: closed, and has an address");
        if is_live {
            self.old_listeners.push(id);
        }
    }

    fn connect(&mut self, net: &mut Net, dialled: Dialled) {
        let listening = self.listeners.first().and_then(|id| net.listener_addr(*id));
        let (addr, dialled) = match dialled {
            Dialled::Server => match self.servers.pop() {
                Some(addr) => (addr, dialled),
                None => return,
            },
            Dialled::Nobody => (SocketAddr::new(self.own_ip, 7), dialled),
            Dialled::BlackHole => (SocketAddr::from(([10, 0, 200, 200], 7)), dialled),
            Dialled::Own => (SocketAddr::new(self.own_ip, 40_000), dialled),
            Dialled::OwnListener => match listening {
                Some(addr) => (SocketAddr::new(self.own_ip, addr.port()), dialled),
                None => return,
            },
        };
        match net.connect(addr) {
            Ok(id) => self.connected(net, id, addr, dialled),
            Err(error) => {
                assert!(error.to_string().contains(&addr.to_string()), "no address in: {error}");
                if dialled == Dialled::Server {
                    self.servers.push(addr);
                }
            }
        }
    }

    /// All that can be looked at.
    fn look(&mut self, net: &mut Net, this: Option<ConnId>, target: Target) {
        let id = self.resolve(this, target);
        let conn = self.conns.get(&id).filter(|conn| conn.end.is_none());
        let is_there = conn.is_some() || (self.conns.contains_key(&id) && this == Some(id));
        let found = [net.peer_addr(id).is_some(), net.conn_stats(id).is_some()];
        assert_eq!(found, [is_there; 2], "C2: {id}: what getters find");
        assert_eq!(net.conns().any(|other| other == id), is_there, "C2: {id}: among conns()");
        if !is_there {
            let nothing = (net.local_addr(id), net.queued_bytes(id), net.queued_cost(id));
            assert_eq!(nothing, (None, 0, 0), "C2: {id}: a stale id has something");
        }
        let is_live = conn.is_some_and(|conn| conn.is_live());
        assert!(is_live || !net.is_open(id), "C5: {id}: open, and closed for the model");
        let is_paused = conn.is_some_and(|conn| conn.is_paused);
        assert_eq!(net.is_reading(id), net.is_open(id) && !is_paused, "C13: {id}: reading");
    }
}
