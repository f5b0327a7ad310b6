//! The operations of a program: each is done, and its answer compared with what the contract says.

use std::net::SocketAddr;
use std::time::Duration;

use hotloop::{ConnId, Limit, ListenOptions, Net};

use crate::model::Model;
use crate::program::{Dialled, Op, Target, missed};
use crate::record::Conn;

impl Model {
    /// Does one operation in a callback about `this`, or between turns.
    pub fn operate(&mut self, net: &mut Net, this: Option<ConnId>, op: Op) {
        self.counts.add(self.place, op);
        match op {
            Op::Write(target, len) => self.write(net, self.resolve(this, target), len, false),
            Op::WriteShared(target, len) => self.write(net, self.resolve(this, target), len, true),
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
            Op::Listen(is_special) => self.listen(net, is_special),
            Op::CloseListener(number) => self.close_listener(net, number),
            Op::Connect(dialled, is_special) => self.connect(net, dialled, is_special),
            Op::Again => net.again(),
            Op::Stop => net.stop(),
            Op::RefreshNow => {
                let before = net.now();
                assert!(net.refresh_now() >= before, "C15: the clock went back");
            }
            Op::Look(target) => self.look(net, this, target),
            Op::Wake => {
                self.wake_due = true;
                self.mail.post(net);
            }
            Op::HandOver(target, adoption) => {
                let id = self.resolve(this, target);
                self.hand_over(net, id, adoption);
            }
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

    fn pause(&mut self, net: &mut Net, this: Option<ConnId>, target: Target, pauses: bool) {
        let id = self.resolve(this, target);
        let was_open = net.is_open(id);
        let known = if pauses { net.pause_reading(id) } else { net.resume_reading(id) };
        assert_eq!(known, was_open, "C13: {id}: the answer to a pause or a resume");
        let Some(conn) = self.conns.get_mut(&id).filter(|conn| conn.is_live()) else {
            return assert!(!known, "C5: {id}: paused or resumed, and closed");
        };
        if known {
            conn.pauses(pauses);
        }
    }

    pub fn close(&mut self, net: &mut Net, id: ConnId) {
        let was_open = net.is_open(id);
        net.close(id);
        assert!(!net.is_open(id), "C5: {id}: closed, and open");
        self.clock.forget_owned(id);
        if let Some(conn) = self.conns.get_mut(&id).filter(|conn| conn.is_live()) {
            conn.is_closed = was_open;
            conn.closed_at = net.now();
            conn.ends_since.get_or_insert(net.now());
        }
    }

    fn abort(&mut self, net: &mut Net, this: Option<ConnId>, target: Target) {
        let id = self.resolve(this, target);
        let was_open = net.is_open(id);
        net.abort(id);
        assert!(!net.is_open(id), "C5: {id}: aborted, and open");
        assert_eq!(net.queued_bytes(id), 0, "C5: {id}: aborted, and bytes are queued");
        self.clock.forget_owned(id);
        if let Some(conn) = self.conns.get_mut(&id).filter(|conn| conn.end.is_none()) {
            conn.is_aborted |= was_open;
            conn.overridden |= !was_open;
            conn.ends_since.get_or_insert(net.now());
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
            if was_open {
                conn.set_idle(ms);
            }
        }
    }

    pub fn listen(&mut self, net: &mut Net, is_special: bool) {
        if self.listeners.len() >= 4 {
            return;
        }
        let listening = if is_special {
            let options = ListenOptions::default().conn(self.setup.limits[1].options());
            net.listen_with("0.0.0.0:0", options)
        } else {
            net.listen("0.0.0.0:0")
        };
        // Without a descriptor there is none.
        if let Ok(id) = listening {
            assert!(net.listener_addr(id).is_some(), "{id}: no address");
            self.listeners.push(id);
            if is_special {
                self.special.insert(id);
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

    fn connect(&mut self, net: &mut Net, dialled: Dialled, is_special: bool) {
        let Some(addr) = self.addr_of(net, dialled) else { return };
        let limits = self.setup.limits[usize::from(is_special)];
        let connecting =
            if is_special { net.connect_with(addr, limits.options()) } else { net.connect(addr) };
        match connecting {
            Ok(id) => {
                if dialled == Dialled::Server {
                    self.servers.pop();
                }
                self.connected(net, id, addr, (dialled, limits));
            }
            Err(error) => {
                assert!(error.to_string().contains(&addr.to_string()), "no address in: {error}");
            }
        }
    }

    fn addr_of(&self, net: &Net, dialled: Dialled) -> Option<SocketAddr> {
        let listening = self.listeners.first().and_then(|id| net.listener_addr(*id));
        match dialled {
            Dialled::Server => self.servers.last().copied(),
            Dialled::Nobody => Some(SocketAddr::new(self.own_ip, 7)),
            Dialled::BlackHole => Some(SocketAddr::from(([10, 0, 200, 200], 7))),
            Dialled::Own => Some(SocketAddr::new(self.own_ip, 40_000)),
            Dialled::OwnListener => listening.map(|addr| SocketAddr::new(self.own_ip, addr.port())),
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
        let is_live = conn.is_some_and(Conn::is_live);
        assert!(is_live || !net.is_open(id), "C5: {id}: open, and closed for the model");
        let is_paused = conn.is_some_and(|conn| conn.is_paused);
        assert_eq!(net.is_reading(id), net.is_open(id) && !is_paused, "C13: {id}: reading");
        if let Some(conn) = conn.filter(|_| net.is_open(id)) {
            check_counts(net, this, id, conn);
        }
        self.check_stats(net, this);
    }

    /// What the loop counts at this moment.
    fn check_stats(&self, net: &Net, this: Option<ConnId>) {
        let stats = net.stats();
        let is_last = this.is_some_and(|id| self.conns.get(&id).is_some_and(|c| c.end.is_some()));
        let live = self.conns.values().filter(|conn| conn.end.is_none()).count();
        let counted = (stats.connections, net.conns().count());
        let there = live + usize::from(is_last);
        assert_eq!(counted, (there, there), "C1: connections");
        assert_eq!(stats.listeners, self.listeners.len(), "C1: listeners");
        assert_eq!(stats.refused_writes, self.refused, "C8: refused writes");
        assert_eq!(stats.adopted, self.adopted, "C1: adopted connections");
    }
}

/// What the loop counts of an open connection.
fn check_counts(net: &Net, this: Option<ConnId>, id: ConnId, conn: &Conn) {
    let stats = net.conn_stats(id).expect("it is open");
    let shown = conn.consumed - conn.consumed_before + conn.left as u64;
    assert_eq!(stats.received_bytes, shown, "C7: {id}: received and shown");
    let queued = net.queued_bytes(id) as u64;
    let accepted = conn.own_accepted();
    assert_eq!(stats.accepted_bytes, accepted, "C8: {id}: accepted bytes");
    assert_eq!(stats.sent_bytes + queued, accepted, "C8: {id}: sent and queued");
    if this != Some(id) {
        assert_eq!(stats.kept_bytes, conn.left, "C7: {id}: kept");
    }
}
