//! The reference model: a handler that knows what the contract promises and compares. It keeps
//! its own account of every connection, written from the contract and not from the core.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use hotloop::{CloseReason, ConnId, Handler, ListenerError, ListenerId, Net, Time, TimerId};

use crate::clock::Clock;
use crate::program::{Answer, Consume, Dialled, OPS, Op, Setup};
use crate::random::byte_at;

/// A panic that a program asks for.
pub struct Planned;

/// What the model knows of a connection.
#[derive(Debug, Clone)]
pub struct Conn {
    /// Names the streams of both directions.
    pub key: u64,
    /// Both ends are the loop's own.
    pub is_own: bool,
    pub dialled: Option<Dialled>,
    pub begun: Time,
    pub is_open: bool,
    pub end: Option<(CloseReason, u64)>,
    pub consumed: u64,
    /// Shown last and not consumed.
    pub left: usize,
    pub accepted: u64,
    pub is_paused: bool,
    /// Kept bytes are due without new ones.
    pub resumed: bool,
    pub is_shut: bool,
    pub is_closed: bool,
    /// It was open when it was aborted: that has to be the reason.
    pub is_aborted: bool,
    /// It was closing when it was aborted: that may be the reason.
    pub overridden: bool,
    pub read_closed: bool,
    /// `on_writable` is owed, or may be.
    pub pressed: bool,
    pub owed: bool,
    pub passed_outbound: bool,
    pub passed_inbound: bool,
    pub has_idle_timeout: bool,
    pub has_panicked: bool,
    /// Since when it has to end: closed here, or `Closed` was answered though nobody had.
    pub ends_since: Option<Time>,
}

impl Conn {
    pub fn new(key: u64, dialled: Option<Dialled>, begun: Time, setup: &Setup) -> Conn {
        Conn {
            key,
            is_own: key == OWN,
            dialled,
            begun,
            is_open: false,
            end: None,
            consumed: 0,
            left: 0,
            accepted: 0,
            is_paused: false,
            resumed: false,
            is_shut: false,
            is_closed: false,
            is_aborted: false,
            overridden: false,
            read_closed: false,
            pressed: false,
            owed: false,
            passed_outbound: false,
            passed_inbound: false,
            has_idle_timeout: setup.idle_ms.is_some(),
            has_panicked: false,
            ends_since: None,
        }
    }

    /// Whether the handler may still be told anything but the end.
    pub fn is_live(&self) -> bool {
        self.end.is_none() && !self.is_closed && !self.is_aborted && !self.has_panicked
    }

    pub fn takes_writes(&self) -> bool {
        self.is_live() && !self.is_shut
    }

    pub fn stream_in(&self) -> u64 {
        if self.is_own { OWN } else { self.key * 2 }
    }

    pub fn stream_out(&self) -> u64 {
        if self.is_own { OWN } else { self.key * 2 + 1 }
    }
}

/// The key of connections of which both ends are the loop's: their streams are all the same.
pub const OWN: u64 = 1;

/// The key of a connection: the address of its end outside the loop.
pub fn key_of(addr: SocketAddr) -> u64 {
    let SocketAddr::V4(addr) = addr else { panic!("only IPv4 is used") };
    (u64::from(u32::from(*addr.ip())) << 16) | u64::from(addr.port())
}

/// What happened outside, as far as the model has to know.
#[derive(Debug, Default)]
pub struct Outside {
    /// How many bytes each peer has sent.
    pub sent: BTreeMap<u64, u64>,
    /// Peers that have reset.
    pub resets: BTreeSet<u64>,
    pub finished: BTreeSet<u64>,
}

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
    pub counts: [u64; OPS.len()],
    /// How many bytes were accepted for each stream, those of loops that are gone included.
    pub written: BTreeMap<u64, u64>,
    /// Faults that end connections are possible.
    pub is_deadly: bool,
    pub is_calm: bool,
    pub wake_due: bool,
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
            counts: [0; OPS.len()],
            written: BTreeMap::new(),
            is_deadly: setup.faults.is_deadly(),
            is_calm: false,
            wake_due: false,
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
        self
    }

    fn next_answer(&mut self) -> Answer {
        let plain = Answer { ops: Vec::new(), consume: Consume::All, closes: true };
        if self.is_calm {
            return plain;
        }
        self.answers.pop_front().unwrap_or(plain)
    }

    /// Does what the program says for this callback; returns the rest of the answer.
    fn answer(&mut self, net: &mut Net, this: Option<ConnId>) -> Answer {
        let answer = self.next_answer();
        for op in &answer.ops {
            if *op == Op::Panic {
                self.counts[op.kind()] += 1;
                if let Some(conn) = this.and_then(|id| self.conns.get_mut(&id)) {
                    conn.has_panicked = conn.end.is_none();
                }
                std::panic::resume_unwind(Box::new(Planned));
            }
            self.operate(net, this, *op);
        }
        answer
    }

    /// The record of a connection that the loop tells something about.
    #[track_caller]
    fn told(&mut self, id: ConnId, what: &str) -> &mut Conn {
        let Some(conn) = self.conns.get_mut(&id) else { panic!("C2: {id}: {what}, and unknown") };
        assert!(conn.end.is_none(), "C1: {id}: {what} after on_close");
        assert!(conn.is_live(), "C5: {id}: {what} after a close: {conn:?}");
        conn
    }

    fn add(&mut self, id: ConnId, conn: Conn) {
        let old = self.conns.insert(id, conn);
        assert!(old.is_none(), "C2: {id} was given out twice");
    }

    pub fn connected(&mut self, net: &Net, id: ConnId, addr: SocketAddr, dialled: Dialled) {
        let is_own = matches!(dialled, Dialled::Own | Dialled::OwnListener);
        let key = if is_own { OWN } else { key_of(addr) };
        self.add(id, Conn::new(key, Some(dialled), net.now(), &self.setup));
    }

    fn check_content(&self, id: ConnId, data: &[u8]) {
        let conn = &self.conns[&id];
        for (place, byte) in data.iter().enumerate() {
            let offset = conn.consumed + place as u64;
            let expected = byte_at(conn.stream_in(), offset);
            assert_eq!(*byte, expected, "C7: {id}: a wrong byte at {offset} of the stream");
        }
        if !conn.is_own {
            let sent = self.outside.sent.get(&conn.key).copied().unwrap_or(0);
            let shown = conn.consumed + data.len() as u64;
            assert!(shown <= sent, "C7: {id}: {shown} bytes shown of {sent} that were sent");
        }
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
        let key = if is_own { OWN } else { key_of(peer) };
        let mut conn = Conn::new(key, None, net.now(), &self.setup);
        conn.is_open = true;
        self.add(id, conn);
        self.answer(net, Some(id));
    }

    fn on_connect(&mut self, net: &mut Net, id: ConnId) {
        let conn = self.told(id, "on_connect");
        assert!(conn.dialled.is_some() && !conn.is_open, "C1: {id}: on_connect: {conn:?}");
        conn.is_open = true;
        assert_ne!(conn.dialled, Some(Dialled::Nobody), "C1: {id}: connected to nobody");
        assert_ne!(conn.dialled, Some(Dialled::BlackHole), "C1: {id}: connected to a black hole");
        self.answer(net, Some(id));
    }

    fn on_data(&mut self, net: &mut Net, id: ConnId, data: &[u8]) -> usize {
        let conn = self.told(id, "on_data");
        assert!(conn.is_open && !data.is_empty(), "C7: {id}: on_data of nothing");
        assert!(!conn.is_paused, "C13: {id}: on_data while paused");
        assert!(!conn.read_closed, "C7: {id}: on_data after on_read_closed");
        let news = data.len() > conn.left || (conn.resumed && data.len() == conn.left);
        assert!(news, "C7: {id}: {} shown again without news: {}", conn.left, data.len());
        conn.resumed = false;
        self.check_content(id, data);
        let conn = self.conns.get_mut(&id).expect("it was there");
        conn.left = data.len();
        let answer = self.answer(net, Some(id));
        let consumed = match answer.consume {
            Consume::All => data.len(),
            Consume::Nothing => 0,
            Consume::Part(part) => part % (data.len() + 1),
        };
        let most = self.setup.inbound_max_bytes;
        let conn = self.conns.get_mut(&id).expect("it was there");
        conn.consumed += consumed as u64;
        conn.left = data.len() - consumed;
        conn.passed_inbound |= conn.left > most && conn.is_live();
        consumed
    }

    fn on_writable(&mut self, net: &mut Net, id: ConnId) {
        let (cost, low) = (net.queued_cost(id), self.setup.marks.0);
        let conn = self.told(id, "on_writable");
        assert!(conn.pressed, "C9: {id}: on_writable without pressure");
        assert!(cost <= low, "C9: {id}: on_writable at {cost}, the mark is {low}");
        (conn.pressed, conn.owed) = (false, false);
        self.answer(net, Some(id));
    }

    fn on_read_closed(&mut self, net: &mut Net, id: ConnId, rest: &[u8]) {
        let conn = self.told(id, "on_read_closed");
        assert!(!conn.is_paused, "C13: {id}: on_read_closed while paused");
        assert!(!conn.read_closed, "C7: {id}: on_read_closed twice");
        assert_eq!(rest.len(), conn.left, "C7: {id}: the rest is not what was left");
        conn.read_closed = true;
        self.check_content(id, rest);
        let conn = self.conns.get_mut(&id).expect("it was there");
        let total = conn.consumed + rest.len() as u64;
        (conn.consumed, conn.left) = (total, 0);
        let key = conn.key;
        let is_own = conn.is_own;
        if let Some(sent) = self.outside.sent.get(&key).filter(|_| !is_own) {
            assert_eq!(total, *sent, "C7: {id}: the end came before the last byte");
            assert!(self.outside.finished.contains(&key), "C7: {id}: an end nobody has sent");
        }
        if self.answer(net, Some(id)).closes {
            self.close(net, id);
        }
    }

    fn on_close(&mut self, net: &mut Net, id: ConnId, reason: CloseReason, dropped_bytes: u64) {
        let Some(conn) = self.conns.get(&id) else { panic!("C2: {id}: on_close, and unknown") };
        assert!(conn.end.is_none(), "C1: {id}: a second on_close");
        let stats = net.conn_stats(id).expect("C5: getters work in on_close");
        assert_eq!(stats.accepted_bytes, conn.accepted, "C8: {id}: accepted bytes");
        assert_eq!(stats.sent_bytes + dropped_bytes, conn.accepted, "C8: {id}: sent and dropped");
        self.check_reason(net, id, reason, dropped_bytes);
        self.conns.get_mut(&id).expect("it was there").end = Some((reason, dropped_bytes));
        self.clock.forget_owned(id);
        self.answer(net, Some(id));
    }

    fn on_timer(&mut self, net: &mut Net, timer: TimerId, token: u64) {
        self.clock.fired(net, timer, token);
        self.answer(net, None);
    }

    fn on_wake(&mut self, net: &mut Net) {
        assert!(std::mem::take(&mut self.wake_due), "C16: on_wake without a wake");
        self.answer(net, None);
    }

    fn on_listener_error(&mut self, net: &mut Net, listener: ListenerId, error: ListenerError) {
        let is_failed = matches!(error, ListenerError::Failed(_));
        assert!(!is_failed, "{listener}: no listener fails here: {error:?}");
        assert!(self.listeners.contains(&listener), "C2: {listener}: an error, and closed");
        self.answer(net, None);
    }

    fn on_turn_start(&mut self, net: &mut Net) {
        self.accepts.clear();
        self.clock.turn_starts(net);
        // Rarely, or the hooks would use up all the answers.
        if self.clock.turns() % 16 == 3 {
            self.answer(net, None);
        }
    }

    fn on_turn_end(&mut self, net: &mut Net) {
        self.clock.turn_ends(net);
        self.check_totals(net);
        if self.clock.turns() % 16 == 11 {
            self.answer(net, None);
        }
    }
}
