//! Every call may be made in every callback, about any connection: a table of both, in which each
//! pair ends every connection once, for the right reason, and leaves a loop that serves.
//!
//! That callbacks do not nest needs no test: the loop lends the handler to one at a time, and
//! nothing in `Net` has it.

mod support;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use hotloop::{
    Bytes, CloseReason, Config, ConnId, ConnOptions, LimitKind, ListenOptions, ListenerId, Net,
    Sent, TimerId,
};
use support::{Call, Kind, Peer, Rig};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Callback {
    Accept,
    Connect,
    Data,
    Writable,
    ReadClosed,
    Release,
    Close,
    Timer,
    Wake,
    ListenerError,
    TurnStart,
    TurnEnd,
}

impl Callback {
    /// Whether its connection is over for the loop.
    fn is_last(self) -> bool {
        matches!(self, Callback::Release | Callback::Close)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    CloseSelf,
    AbortSelf,
    CloseThenAbortSelf,
    AbortThenCloseSelf,
    ShutdownSelf,
    ShutdownThenCloseSelf,
    ReleaseSelf,
    ReleaseAndAdoptSelf,
    ReleaseThenAbortSelf,
    ReleaseOther,
    CloseOther,
    AbortOther,
    ShutdownOther,
    CloseAll,
    AbortAll,
    CloseListener,
    WriteSelf,
    WriteAndFlushSelf,
    WriteOther,
    WriteAndFlushOther,
    FloodSelf,
    PauseAndResumeSelf,
    PauseOther,
    StartTimers,
    CancelTimers,
    Connect,
    ConnectAndAbort,
    Listen,
    Again,
    Stop,
}

const OPS: [Op; 30] = [
    Op::CloseSelf,
    Op::AbortSelf,
    Op::CloseThenAbortSelf,
    Op::AbortThenCloseSelf,
    Op::ShutdownSelf,
    Op::ShutdownThenCloseSelf,
    Op::ReleaseSelf,
    Op::ReleaseAndAdoptSelf,
    Op::ReleaseThenAbortSelf,
    Op::ReleaseOther,
    Op::CloseOther,
    Op::AbortOther,
    Op::ShutdownOther,
    Op::CloseAll,
    Op::AbortAll,
    Op::CloseListener,
    Op::WriteSelf,
    Op::WriteAndFlushSelf,
    Op::WriteOther,
    Op::WriteAndFlushOther,
    Op::FloodSelf,
    Op::PauseAndResumeSelf,
    Op::PauseOther,
    Op::StartTimers,
    Op::CancelTimers,
    Op::Connect,
    Op::ConnectAndAbort,
    Op::Listen,
    Op::Again,
    Op::Stop,
];

const HARD: usize = 8000;
/// Tokens: of the timer that was there before, and of those an operation starts.
const BEFORE: u64 = 1;
const PROVOKED: u64 = 2;
const FREE: u64 = 3;
const OWNED: u64 = 4;
const CANCELLED: u64 = 5;

fn in_on_accept(kind: Kind) {
    try_every_operation(kind, Callback::Accept);
}

fn in_on_connect(kind: Kind) {
    try_every_operation(kind, Callback::Connect);
}

fn in_on_data(kind: Kind) {
    try_every_operation(kind, Callback::Data);
}

fn in_on_writable(kind: Kind) {
    try_every_operation(kind, Callback::Writable);
}

fn in_on_read_closed(kind: Kind) {
    try_every_operation(kind, Callback::ReadClosed);
}

fn in_on_release(kind: Kind) {
    try_every_operation(kind, Callback::Release);
}

fn in_on_close(kind: Kind) {
    try_every_operation(kind, Callback::Close);
}

fn in_on_timer(kind: Kind) {
    try_every_operation(kind, Callback::Timer);
}

fn in_on_wake(kind: Kind) {
    try_every_operation(kind, Callback::Wake);
}

fn in_on_listener_error(kind: Kind) {
    try_every_operation(kind, Callback::ListenerError);
}

fn in_on_turn_start(kind: Kind) {
    try_every_operation(kind, Callback::TurnStart);
}

fn in_on_turn_end(kind: Kind) {
    try_every_operation(kind, Callback::TurnEnd);
}

on_every_backend!(
    in_on_accept,
    in_on_connect,
    in_on_data,
    in_on_writable,
    in_on_read_closed,
    in_on_release,
    in_on_close,
    in_on_timer,
    in_on_wake,
    in_on_listener_error,
    in_on_turn_start,
    in_on_turn_end,
);

fn try_every_operation(kind: Kind, callback: Callback) {
    for op in OPS {
        // Shown with the failure of a test alone.
        println!("{op:?} in {callback:?}");
        let mut stage = Stage::new(kind, callback, op);
        stage.provoke();
        stage.check_effects();
        stage.end_all();
        stage.check_ends();
        stage.serve_a_fresh_client();
    }
}

/// What an operation may touch.
struct Cast {
    callback: Callback,
    op: Op,
    /// Whose callback it is; that of `on_accept` and `on_connect` is known only there.
    own: Cell<Option<ConnId>>,
    other: ConnId,
    listener: ListenerId,
    server: SocketAddr,
    before: TimerId,
    /// Connections the operation has made.
    made: RefCell<Vec<ConnId>>,
    done: Cell<bool>,
}

/// A loop in which one operation is made in one callback.
struct Stage {
    rig: Rig,
    cast: Rc<Cast>,
    own_peer: Option<Peer>,
    other_peer: Peer,
    peers: Vec<Peer>,
}

impl Stage {
    fn new(kind: Kind, callback: Callback, op: Op) -> Stage {
        let conn = ConnOptions::default()
            .low_water_bytes(1000)
            .high_water_bytes(2000)
            .hard_limit_bytes(HARD);
        let mut config = Config::default().conn(conn);
        if callback == Callback::ListenerError {
            config = config.max_connections(3);
        }
        let mut rig = Rig::listening(kind, config, ListenOptions::default());
        let (other_peer, other) = rig.client();
        let client = match callback {
            Callback::Accept | Callback::Connect => None,
            _ => Some(rig.client()),
        };
        let server = rig.server();
        let before = rig.event_loop.net().start_timer(Duration::from_secs(3600), BEFORE);
        let cast = Rc::new(Cast {
            callback,
            op,
            own: Cell::new(client.map(|(_, id)| id)),
            other,
            listener: rig.listener,
            server,
            before,
            made: RefCell::default(),
            done: Cell::new(false),
        });
        rig.settle();
        let own_peer = client.map(|(peer, _)| peer);
        let peers = own_peer.into_iter().chain([other_peer]).collect();
        let mut stage = Stage { rig, cast, own_peer, other_peer, peers };
        stage.install();
        stage
    }

    /// Puts the operation into its callback.
    fn install(&mut self) {
        let cast = Rc::clone(&self.cast);
        let handler = &mut self.rig.handler;
        if cast.op == Op::ReleaseAndAdoptSelf {
            let cast = Rc::clone(&cast);
            handler.on_release = Some(Box::new(move |net, _, detached| {
                let adopted = net.adopt(detached);
                // Its slot is free only behind its `on_close`, and in there all are taken.
                assert_eq!(adopted.is_err(), cast.callback == Callback::ListenerError);
                cast.made.borrow_mut().extend(adopted);
            }));
        }
        let of_conn = |cast: Rc<Cast>| Some(Box::new(move |net: &mut Net, id| cast.act(net, id)));
        match cast.callback {
            Callback::Accept => handler.on_accept = of_conn(cast).map(|act| act as _),
            Callback::Connect => handler.on_connect = of_conn(cast).map(|act| act as _),
            Callback::Writable => handler.on_writable = of_conn(cast).map(|act| act as _),
            Callback::Data => {
                handler.on_data = Some(Box::new(move |net, id, data| {
                    cast.act(net, id);
                    data.len()
                }));
            }
            Callback::ReadClosed => {
                handler.on_read_closed = Some(Box::new(move |net, id, _| {
                    cast.act(net, id);
                    net.close(id);
                }));
            }
            Callback::Release => {
                handler.on_release = Some(Box::new(move |net, id, _| cast.act(net, id)));
            }
            Callback::Close => {
                handler.on_close = Some(Box::new(move |net, id, _| cast.act(net, id)));
            }
            Callback::Timer => {
                handler.on_timer = Some(Box::new(move |net, _, _| cast.act_for_own(net)));
            }
            Callback::Wake => handler.on_wake = Some(Box::new(move |net| cast.act_for_own(net))),
            Callback::ListenerError => {
                handler.on_listener_error = Some(Box::new(move |net, _| cast.act_for_own(net)));
            }
            Callback::TurnStart => {
                handler.on_turn_start = Some(Box::new(move |net| cast.act_for_own(net)));
            }
            Callback::TurnEnd => {
                handler.on_turn_end = Some(Box::new(move |net| cast.act_for_own(net)));
            }
        }
    }

    /// Brings the callback about, and turns until the operation is done.
    fn provoke(&mut self) {
        let rig = &mut self.rig;
        let own = self.cast.own.get();
        match (self.cast.callback, self.own_peer) {
            (Callback::Accept, _) => self.own_peer = Some(rig.dial()),
            // One that reaches the limit, and one that has to wait.
            (Callback::ListenerError, _) => self.peers.extend([rig.dial(), rig.dial()]),
            (Callback::Data, Some(peer)) => rig.send(peer, b"data"),
            (Callback::ReadClosed, Some(peer)) => rig.finish(peer),
            (callback, _) => {
                let net = rig.event_loop.net();
                match (callback, own) {
                    (Callback::Connect, _) => drop(net.connect(self.cast.server).expect("slots")),
                    (Callback::Writable, Some(own)) => {
                        assert_eq!(net.write(own, &[b'.'; 3000]), Sent::Pressured);
                    }
                    (Callback::Release, Some(own)) => assert!(net.release(own)),
                    (Callback::Close, Some(own)) => net.abort(own),
                    (Callback::Timer, _) => drop(net.start_timer(Duration::ZERO, PROVOKED)),
                    (Callback::Wake, _) => net.waker().wake(),
                    _ => {}
                }
            }
        }
        let stopped = self.turn_until_done();
        assert_eq!(stopped, self.cast.op == Op::Stop);
        self.rig.settle();
        self.meet_server_peers();
    }

    /// Returns whether the turn of the operation was the last one.
    fn turn_until_done(&mut self) -> bool {
        for _ in 0..20_000 {
            let turn = self.rig.turn();
            if self.cast.done.get() {
                return turn.stopped;
            }
            assert!(!turn.stopped);
        }
        panic!("never called: {:?}", self.cast.callback);
    }

    fn meet_server_peers(&mut self) {
        while let Some(peer) = self.rig.server_peer(self.cast.server) {
            if self.cast.callback == Callback::Connect && self.own_peer.is_none() {
                self.own_peer = Some(peer);
            }
            self.peers.push(peer);
        }
        if self.cast.callback == Callback::Accept {
            self.peers.extend(self.own_peer);
        }
    }

    /// Checks what the operation has brought about.
    fn check_effects(&mut self) {
        let own_peer = self.own_peer.expect("it is connected");
        let in_close = self.cast.callback.is_last();
        let written = match self.cast.op {
            Op::WriteSelf | Op::WriteAndFlushSelf if !in_close => Some(own_peer),
            Op::WriteOther | Op::WriteAndFlushOther => Some(self.other_peer),
            _ => None,
        };
        if let Some(peer) = written {
            self.rig
                .until("what was written", |rig| rig.received(peer).ends_with(b"copied shared"));
        }
        self.check_peers(own_peer);
        let started = self.cast.op == Op::StartTimers;
        let dies = self.cast.callback.is_last() || self.cast.callback == Callback::ReadClosed;
        assert_eq!(self.fired(FREE), usize::from(started));
        assert_eq!(self.fired(OWNED), usize::from(started && !dies));
        assert_eq!(self.fired(CANCELLED) + self.fired(BEFORE), 0);
        let listens = self.rig.event_loop.net().listener_addr(self.cast.listener).is_some();
        assert_eq!(listens, self.cast.op != Op::CloseListener);
    }

    /// Checks that a FIN or a reset reaches the peer before that does anything itself.
    fn check_peers(&mut self, own_peer: Peer) {
        let other_peer = self.other_peer;
        let (fins, resets): (&[Peer], &[Peer]) = match self.cast.op {
            Op::CloseSelf | Op::ShutdownSelf | Op::ShutdownThenCloseSelf => (&[own_peer], &[]),
            Op::CloseOther | Op::ShutdownOther => (&[other_peer], &[]),
            Op::CloseAll => (&[own_peer, other_peer], &[]),
            Op::AbortSelf
            | Op::CloseThenAbortSelf
            | Op::AbortThenCloseSelf
            | Op::ReleaseThenAbortSelf
            | Op::FloodSelf => (&[], &[own_peer]),
            Op::AbortOther => (&[], &[other_peer]),
            Op::AbortAll => (&[], &[own_peer, other_peer]),
            _ => (&[], &[]),
        };
        // What `on_close` is about was aborted to bring it about.
        let aborted = self.cast.callback == Callback::Close;
        for peer in fins.iter().filter(|peer| !(aborted && **peer == own_peer)) {
            self.rig.until("the FIN", |rig| rig.at_end(*peer));
        }
        // What `on_release` is about was given to it, and is dropped behind it.
        let given = self.cast.callback == Callback::Release;
        for peer in resets.iter().filter(|peer| !(given && **peer == own_peer)) {
            self.rig.until("the reset", |rig| rig.is_reset(*peer));
        }
    }

    fn fired(&self, wanted: u64) -> usize {
        self.rig.handler.count(|call| matches!(call, Call::Timer(_, token) if *token == wanted))
    }

    /// Has every peer close, and waits until no connection is left.
    fn end_all(&mut self) {
        let net = self.rig.event_loop.net();
        for id in net.conns().collect::<Vec<_>>() {
            net.resume_reading(id);
        }
        for peer in std::mem::take(&mut self.peers) {
            self.rig.finish(peer);
        }
        let clients = match self.cast.callback {
            Callback::Connect => 1,
            // Whom the limit kept waiting is accepted when there is room, unless nobody listens.
            Callback::ListenerError => 3 + usize::from(self.cast.op != Op::CloseListener),
            _ => 2,
        };
        self.rig.until("the end of all", |rig| {
            let all = rig.handler.accepted.len() == clients;
            all && rig.event_loop.net().stats().connections == 0
        });
        self.rig.settle();
    }

    /// Checks that each connection has ended once, and for its own reason.
    fn check_ends(&mut self) {
        let own = self.cast.own.get().expect("the callback was called");
        let handler = &self.rig.handler;
        let mut all: Vec<ConnId> = handler.accepted.clone();
        all.extend(&handler.connected);
        all.extend(self.cast.made.borrow().iter());
        all.sort_by_key(|id| format!("{id}"));
        all.dedup();
        for id in &all {
            let ends = handler.count(|call| matches!(call, Call::Close(of, ..) if of == id));
            assert_eq!(ends, 1, "{id} ended {ends} times: {:?}", handler.calls);
        }
        assert_eq!(handler.count(|call| matches!(call, Call::Close(..))), all.len());
        assert_eq!(self.reason(own), self.expected_of_own());
        assert_eq!(self.reason(self.cast.other), self.expected_of_other());
        let stats = self.rig.event_loop.net().stats();
        assert_eq!((stats.buffered_bytes, stats.queued_bytes), (0, 0));
        assert_eq!(stats.accepted_bytes, stats.sent_bytes + stats.dropped_bytes);
        assert_eq!(stats.timers, usize::from(self.cast.op != Op::CancelTimers));
    }

    fn reason(&self, id: ConnId) -> CloseReason {
        self.rig.closed(id).expect("all have ended").0
    }

    fn expected_of_own(&self) -> CloseReason {
        let peer_was_first = self.cast.callback == Callback::ReadClosed;
        match self.cast.op {
            _ if self.cast.callback == Callback::Close => CloseReason::LocalAbort,
            _ if self.cast.callback == Callback::Release => CloseReason::Released,
            Op::ReleaseSelf | Op::ReleaseAndAdoptSelf => CloseReason::Released,
            Op::AbortSelf
            | Op::CloseThenAbortSelf
            | Op::AbortThenCloseSelf
            | Op::ReleaseThenAbortSelf
            | Op::AbortAll => CloseReason::LocalAbort,
            Op::FloodSelf => CloseReason::Limit(LimitKind::Outbound),
            Op::CloseSelf | Op::ShutdownThenCloseSelf | Op::CloseAll if !peer_was_first => {
                CloseReason::LocalClose
            }
            _ => CloseReason::PeerClosed,
        }
    }

    fn expected_of_other(&self) -> CloseReason {
        match self.cast.op {
            Op::AbortOther | Op::AbortAll => CloseReason::LocalAbort,
            Op::ReleaseOther => CloseReason::Released,
            Op::CloseOther | Op::CloseAll => CloseReason::LocalClose,
            _ => CloseReason::PeerClosed,
        }
    }

    fn serve_a_fresh_client(mut self) {
        let rig = &mut self.rig;
        rig.handler.echo();
        if self.cast.op == Op::CloseListener {
            let net = rig.event_loop.net();
            rig.listener = net.listen("127.0.0.1:0").expect("a free port");
            rig.addr = net.listener_addr(rig.listener).expect("it is open");
        }
        let (peer, conn) = rig.client();
        rig.send(peer, b"are you there?");
        rig.until("the echo", |rig| rig.received(peer) == b"are you there?");
        rig.finish(peer);
        assert_eq!(rig.until_closed(conn), (CloseReason::PeerClosed, 0));
    }
}

impl Cast {
    fn act(&self, net: &mut Net, own: ConnId) {
        if !self.done.replace(true) {
            self.own.set(Some(own));
            self.perform(net, own);
        }
    }

    fn act_for_own(&self, net: &mut Net) {
        self.act(net, self.own.get().expect("known from the start"));
    }

    fn perform(&self, net: &mut Net, own: ConnId) {
        let all: Vec<ConnId> = net.conns().collect();
        match self.op {
            Op::CloseSelf => net.close(own),
            Op::AbortSelf => net.abort(own),
            Op::CloseThenAbortSelf => {
                net.close(own);
                net.abort(own);
            }
            Op::AbortThenCloseSelf => {
                net.abort(own);
                net.close(own);
            }
            Op::ShutdownSelf => net.shutdown(own),
            Op::ShutdownThenCloseSelf => {
                net.shutdown(own);
                net.close(own);
            }
            Op::ReleaseSelf | Op::ReleaseAndAdoptSelf => {
                assert_eq!(net.release(own), self.is_open(own));
            }
            Op::ReleaseThenAbortSelf => {
                assert_eq!(net.release(own), self.is_open(own));
                net.abort(own);
            }
            Op::ReleaseOther => assert!(net.release(self.other)),
            Op::CloseOther => net.close(self.other),
            Op::AbortOther => net.abort(self.other),
            Op::ShutdownOther => net.shutdown(self.other),
            Op::CloseAll => all.into_iter().for_each(|id| net.close(id)),
            Op::AbortAll => all.into_iter().for_each(|id| net.abort(id)),
            Op::CloseListener => assert!(net.close_listener(self.listener)),
            Op::WriteSelf => self.write(net, own, false),
            Op::WriteAndFlushSelf => self.write(net, own, true),
            Op::WriteOther => self.write(net, self.other, false),
            Op::WriteAndFlushOther => self.write(net, self.other, true),
            Op::FloodSelf => while net.write(own, &[b'!'; HARD]).is_taken() {},
            Op::PauseAndResumeSelf => {
                let open = self.is_open(own);
                assert_eq!((net.pause_reading(own), net.resume_reading(own)), (open, open));
            }
            Op::PauseOther => assert!(net.pause_reading(self.other)),
            Op::StartTimers => self.start_timers(net, own),
            Op::CancelTimers => self.cancel_timers(net),
            Op::Connect => self.made.borrow_mut().extend(net.connect(self.server)),
            Op::ConnectAndAbort => {
                let made = net.connect(self.server);
                made.iter().for_each(|id| net.abort(*id));
                self.made.borrow_mut().extend(made);
            }
            Op::Listen => drop(net.listen("127.0.0.1:0").expect("a free port")),
            Op::Again => net.again(),
            Op::Stop => net.stop(),
        }
    }

    /// Whether a connection takes what it is told: not that which is gone behind this callback.
    fn is_open(&self, id: ConnId) -> bool {
        !self.callback.is_last() || self.own.get() != Some(id)
    }

    fn write(&self, net: &mut Net, id: ConnId, flush: bool) {
        let sent = net.write(id, b"copied ");
        assert_eq!(sent.is_taken(), self.is_open(id), "{sent:?}");
        assert_eq!(sent == Sent::Closed, !self.is_open(id), "{sent:?}");
        if flush {
            assert!(net.flush(id), "getters and flush know it in on_close too");
        }
        let sent = net.write_shared(id, Bytes::from_static(b"shared"));
        assert_eq!(sent.is_taken(), self.is_open(id), "{sent:?}");
    }

    fn start_timers(&self, net: &mut Net, own: ConnId) {
        net.start_timer(Duration::ZERO, FREE);
        let owned = net.start_conn_timer(own, Duration::ZERO, OWNED);
        assert_eq!(owned.is_some(), self.is_open(own));
    }

    fn cancel_timers(&self, net: &mut Net) {
        let started = net.start_timer(Duration::ZERO, CANCELLED);
        assert!(net.cancel_timer(started) && !net.cancel_timer(started));
        let owned = net.start_conn_timer(self.other, Duration::ZERO, CANCELLED);
        assert!(net.cancel_timer(owned.expect("the other is open")));
        assert!(net.cancel_timer(self.before));
    }
}
