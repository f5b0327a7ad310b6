//! The reference model: a handler that knows what the contract promises and compares. It keeps
//! its own account of every connection, written from the contract and not from the core.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use hotloop::{CloseReason, ConnId, Detached, Handler, ListenerError, ListenerId, Net, TimerId};

use crate::clock::Clock;
use crate::counts::{Counts, Place};
use crate::hand_over::Loose;
use crate::mail::Mail;
use crate::program::{Answer, Consume, Dialled, Limits, Op, Setup};
use crate::random::Pattern;
use crate::record::{Blamed, Conn, Outside, Release, key_of};

/// A panic that a program asks for.
pub struct Planned;

/// The model, as the handler of the loop under test.
pub struct Model {
    pub setup: Setup,
    pub answers: VecDeque<Answer>,
    pub conns: BTreeMap<ConnId, Conn>,
    pub listeners: Vec<ListenerId>,
    pub old_listeners: Vec<ListenerId>,
    /// Addresses of servers that nobody has connected to yet.
    pub servers: Vec<SocketAddr>,
    pub own_ip: std::net::IpAddr,
    pub clock: Clock,
    pub outside: Outside,
    /// How often each operation was done in each place.
    pub counts: Counts,
    /// Where the program is: which callback is running.
    pub place: Place,
    /// How many bytes were accepted for each stream, those of loops that are gone included.
    pub written: BTreeMap<u64, u64>,
    pub blamed: Blamed,
    /// Writes that this loop has refused.
    pub refused: u64,
    /// Listeners that were given limits of their own.
    pub special: BTreeSet<ListenerId>,
    pub is_calm: bool,
    pub wake_due: bool,
    pub mail: Mail,
    /// Connections that are out of the loop and come back when a later turn starts.
    pub loose: Vec<Loose>,
    /// How many connections this loop has adopted.
    pub adopted: u64,
    accepts: BTreeMap<ListenerId, u32>,
}

impl Model {
    pub fn new(setup: &Setup, answers: Vec<Answer>, own_ip: std::net::IpAddr) -> Model {
        Model {
            setup: setup.clone(),
            answers: answers.into(),
            conns: BTreeMap::new(),
            listeners: Vec::new(),
            old_listeners: Vec::new(),
            servers: Vec::new(),
            own_ip,
            clock: Clock::default(),
            outside: Outside::default(),
            counts: Counts::default(),
            place: Place::Between,
            written: BTreeMap::new(),
            blamed: Blamed::default(),
            refused: 0,
            special: BTreeSet::new(),
            is_calm: false,
            wake_due: false,
            mail: Mail::default(),
            loose: Vec::new(),
            adopted: 0,
            accepts: BTreeMap::new(),
        }
    }

    /// Forgets the loop, which was dropped, and goes on with another one.
    pub fn start_over(mut self) -> Model {
        self.conns.clear();
        self.listeners.clear();
        self.old_listeners.clear();
        self.clock = Clock::default();
        self.wake_due = false;
        self.mail.end();
        (self.refused, self.adopted) = (0, 0);
        self.special.clear();
        self.loose.clear();
        self
    }

    pub fn next_answer(&mut self) -> Answer {
        let plain = Answer { ops: Vec::new(), consume: Consume::All, closes: true };
        if self.is_calm {
            return plain;
        }
        self.answers.pop_front().unwrap_or(plain)
    }

    /// Does what the program says for this callback; returns the rest of the answer.
    fn answer(&mut self, place: Place, net: &mut Net, this: Option<ConnId>) -> Answer {
        let answer = self.next_answer();
        self.perform(place, net, this, &answer);
        answer
    }

    /// Does the operations of an answer.
    pub fn perform(&mut self, place: Place, net: &mut Net, this: Option<ConnId>, answer: &Answer) {
        self.place = place;
        for op in &answer.ops {
            if *op == Op::Panic {
                self.counts.add(place, *op);
                self.place = Place::Between;
                if let Some(conn) = this.and_then(|id| self.conns.get_mut(&id)) {
                    conn.has_panicked = conn.end.is_none();
                }
                std::panic::resume_unwind(Box::new(Planned));
            }
            self.operate(net, this, *op);
        }
        self.place = Place::Between;
    }

    /// The record of a connection that the loop tells something about.
    #[track_caller]
    fn told(&mut self, id: ConnId, what: &str) -> &mut Conn {
        let Some(conn) = self.conns.get_mut(&id) else { panic!("C2: {id}: {what}, and unknown") };
        assert!(conn.end.is_none(), "C1: {id}: {what} after on_close");
        assert!(conn.is_live(), "C5: {id}: {what} after a close: {conn:?}");
        conn
    }

    pub fn add(&mut self, id: ConnId, conn: Conn) {
        let old = self.conns.insert(id, conn);
        assert!(old.is_none(), "C2: {id} was given out twice");
    }

    pub fn connected(&mut self, net: &Net, id: ConnId, addr: SocketAddr, how: (Dialled, Limits)) {
        let (dialled, limits) = how;
        // The one to ourselves is named by the port it will get.
        let key = if dialled.is_own() { 0 } else { key_of(addr) };
        self.add(id, Conn::new(key, Some(dialled), net.now(), limits));
    }

    /// How many bytes the other end has sent so far.
    pub fn sent_to(&self, conn: &Conn) -> u64 {
        let (by, stream) = if conn.is_own {
            (&self.written, conn.stream_in())
        } else {
            (&self.outside.sent, conn.key)
        };
        by.get(&stream).copied().unwrap_or(0)
    }

    fn check_content(&self, id: ConnId, data: &[u8]) {
        let conn = &self.conns[&id];
        let is_right = Pattern::new(conn.stream_in(), conn.consumed).matches(data);
        assert!(is_right, "C7: {id}: wrong bytes behind {} of the stream", conn.consumed);
        let (shown, sent) = (conn.consumed + data.len() as u64, self.sent_to(conn));
        assert!(shown <= sent, "C7: {id}: {shown} bytes shown of {sent} that were sent");
    }
}

impl Handler for Model {
    fn on_accept(&mut self, net: &mut Net, id: ConnId, listener: ListenerId) {
        assert!(self.listeners.contains(&listener), "C1: {id}: of a listener that is closed");
        let count = self.accepts.entry(listener).or_default();
        *count += 1;
        assert!(*count <= self.setup.accept_budget, "C12: {listener}: {count} accepts in a turn");
        let peer = net.peer_addr(id).expect("an accepted connection has a peer");
        let is_own = peer.ip() == self.own_ip || peer.ip().is_loopback();
        let limits = self.setup.limits[usize::from(self.special.contains(&listener))];
        let key = key_of(peer);
        let again = self.conns.values().any(|conn| conn.key == key && conn.dialled.is_none());
        assert!(!again, "C1: {id}: {peer} was accepted before");
        let mut conn = Conn::new(key, None, net.now(), limits);
        conn.is_own = is_own;
        conn.opened();
        self.add(id, conn);
        self.answer(Place::Accept, net, Some(id));
    }

    fn on_connect(&mut self, net: &mut Net, id: ConnId) {
        let conn = self.told(id, "on_connect");
        assert!(conn.dialled.is_some() && !conn.is_open, "C1: {id}: on_connect: {conn:?}");
        conn.opened();
        if conn.is_own {
            conn.key = net.local_addr(id).map_or(0, key_of);
            assert_ne!(conn.key, 0, "{id}: open, and without an address");
        }
        assert_ne!(conn.dialled, Some(Dialled::Nobody), "C1: {id}: connected to nobody");
        assert_ne!(conn.dialled, Some(Dialled::BlackHole), "C1: {id}: connected to a black hole");
        self.answer(Place::Connect, net, Some(id));
    }

    fn on_data(&mut self, net: &mut Net, id: ConnId, data: &[u8]) -> usize {
        let conn = self.told(id, "on_data");
        assert!(conn.is_open && !data.is_empty(), "C7: {id}: on_data of nothing");
        assert!(!conn.is_paused, "C13: {id}: on_data while paused");
        assert!(!conn.read_closed, "C7: {id}: on_data after on_read_closed");
        let news = data.len() > conn.left || (conn.resumed && data.len() == conn.left);
        assert!(news, "C7: {id}: {} shown again without news: {}", conn.left, data.len());
        (conn.resumed, conn.show_due) = (false, false);
        self.check_content(id, data);
        let conn = self.conns.get_mut(&id).expect("it was there");
        conn.left = data.len();
        let answer = self.answer(Place::Data, net, Some(id));
        let consumed = match answer.consume {
            Consume::All => data.len(),
            Consume::Nothing => 0,
            Consume::Part(part) => part % (data.len() + 1),
        };
        let conn = self.conns.get_mut(&id).expect("it was there");
        let most = conn.limits.inbound_max_bytes;
        conn.consumed += consumed as u64;
        conn.left = data.len() - consumed;
        conn.passed_inbound |= conn.left > most && conn.is_live();
        consumed
    }

    fn on_writable(&mut self, net: &mut Net, id: ConnId) {
        let cost = net.queued_cost(id);
        let conn = self.told(id, "on_writable");
        let low = conn.limits.low;
        assert!(conn.pressure.told(), "C9: {id}: on_writable without pressure");
        assert!(cost <= low, "C9: {id}: on_writable at {cost}, the mark is {low}");
        self.answer(Place::Writable, net, Some(id));
    }

    fn on_read_closed(&mut self, net: &mut Net, id: ConnId, rest: &[u8]) {
        let conn = self.told(id, "on_read_closed");
        assert!(!conn.is_paused, "C13: {id}: on_read_closed while paused");
        assert!(!conn.read_closed, "C7: {id}: on_read_closed twice");
        assert_eq!(rest.len(), conn.left, "C7: {id}: the rest is not what was left");
        (conn.read_closed, conn.show_due) = (true, false);
        self.check_content(id, rest);
        let conn = self.conns.get_mut(&id).expect("it was there");
        let total = conn.consumed + rest.len() as u64;
        (conn.consumed, conn.left) = (total, 0);
        let conn = &self.conns[&id];
        assert_eq!(total, self.sent_to(conn), "C7: {id}: the end came before the last byte");
        let is_known = conn.is_own || self.outside.finished.contains(&conn.key);
        assert!(is_known, "C7: {id}: an end nobody has sent");
        let closes = self.answer(Place::ReadClosed, net, Some(id)).closes;
        let conn = self.conns.get_mut(&id).expect("it was there");
        if matches!(conn.release, Release::Asked(_)) {
            // It takes along what it was shown.
            (conn.consumed, conn.left) = (total - rest.len() as u64, rest.len());
        }
        if closes {
            self.close(net, id);
        }
    }

    fn on_release(&mut self, net: &mut Net, id: ConnId, detached: Detached) {
        self.released(net, id, detached);
    }

    fn on_close(&mut self, net: &mut Net, id: ConnId, reason: CloseReason, dropped_bytes: u64) {
        let Some(conn) = self.conns.get(&id) else { panic!("C2: {id}: on_close, and unknown") };
        assert!(conn.end.is_none(), "C1: {id}: a second on_close");
        let stats = net.conn_stats(id).expect("C5: getters work in on_close");
        let accepted = conn.own_accepted();
        assert_eq!(stats.accepted_bytes, accepted, "C8: {id}: accepted bytes");
        assert_eq!(stats.sent_bytes + dropped_bytes, accepted, "C8: {id}: sent and dropped");
        self.check_reason(net, id, reason, dropped_bytes);
        let conn = self.conns.get_mut(&id).expect("it was there");
        (conn.end, conn.was_stuck) = (Some((reason, dropped_bytes)), conn.has_been_stuck(net));
        self.clock.forget_owned(id);
        self.answer(Place::Close, net, Some(id));
    }

    fn on_timer(&mut self, net: &mut Net, timer: TimerId, token: u64) {
        self.clock.fired(net, timer, token);
        if self.clock.is_tired(timer) {
            assert!(net.cancel_timer(timer), "C15: {timer}: it repeats, and is not live");
            self.clock.cancelled(timer);
        }
        self.answer(Place::Timer, net, None);
    }

    fn on_wake(&mut self, net: &mut Net) {
        assert!(std::mem::take(&mut self.wake_due), "C16: on_wake without a wake");
        self.wake_due = self.mail.take(net);
        self.answer(Place::Wake, net, None);
    }

    fn on_listener_error(&mut self, net: &mut Net, listener: ListenerId, error: ListenerError) {
        let is_failed = matches!(error, ListenerError::Failed(_));
        assert!(!is_failed, "{listener}: no listener fails here: {error:?}");
        assert!(self.listeners.contains(&listener), "C2: {listener}: an error, and closed");
        self.answer(Place::ListenerError, net, None);
    }

    fn on_turn_start(&mut self, net: &mut Net) {
        self.accepts.clear();
        self.clock.turn_starts(net);
        self.adopt_loose(net);
        for (id, conn) in self.conns.iter_mut().filter(|(_, conn)| conn.end.is_none()) {
            conn.turn_starts(net, *id);
        }
        // Rarely, or the hooks would use up all the answers.
        if self.clock.turns() % 16 == 3 {
            self.answer(Place::TurnStart, net, None);
        }
    }

    fn on_turn_end(&mut self, net: &mut Net) {
        self.clock.turn_ends(net);
        self.check_totals(net);
        self.check_hand_overs(net);
        for (id, conn) in self.conns.iter_mut().filter(|(_, conn)| conn.is_live()) {
            if let Some(what) = conn.turn_ends(net, *id) {
                panic!("{what}: {id}: {conn:?}");
            }
        }
        if self.clock.turns() % 16 == 11 {
            self.answer(Place::TurnEnd, net, None);
        }
    }
}
