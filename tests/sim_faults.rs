//! Every kind of fault that the simulator injects: that it does what its documentation says, and
//! is counted.

#[path = "support/errno.rs"]
mod errno;

use std::time::Duration;

use hotloop::sim::{
    Dialect, Fault, Faults, Host, Link, Node, NodeOptions, Peer, Report, Script, World,
};
use hotloop::{
    CloseReason, Config, ConnId, ConnOptions, Errno, Handler, Limit, ListenerError, ListenerId,
    Net, Sent, Time, TimerId,
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const LATENCY: Duration = Duration::from_millis(1);

/// A callback about data: when, in which turn, on which connection, how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    at: Time,
    turn: u64,
    conn: ConnId,
    bytes: usize,
}

#[derive(Default)]
struct Log {
    accepted: Vec<ConnId>,
    seen: Vec<Seen>,
    data: Vec<u8>,
    closed: Vec<(CloseReason, u64)>,
    timers: Vec<Time>,
    errors: Vec<ListenerError>,
}

impl Handler for Log {
    fn on_accept(&mut self, _: &mut Net, conn: ConnId, _: ListenerId) {
        self.accepted.push(conn);
    }

    fn on_data(&mut self, net: &mut Net, conn: ConnId, data: &[u8]) -> usize {
        let (at, turn) = (net.now(), net.stats().turns);
        self.seen.push(Seen { at, turn, conn, bytes: data.len() });
        self.data.extend(data);
        data.len()
    }

    fn on_close(&mut self, _: &mut Net, _: ConnId, reason: CloseReason, dropped_bytes: u64) {
        self.closed.push((reason, dropped_bytes));
    }

    fn on_timer(&mut self, net: &mut Net, _: TimerId, _: u64) {
        self.timers.push(net.now());
    }

    fn on_listener_error(&mut self, _: &mut Net, _: ListenerId, error: ListenerError) {
        self.errors.push(error);
    }
}

/// A server and peers; the server's faults begin once they are connected.
struct Case {
    world: World,
    server: Node<Log>,
    client: Host,
    peers: Vec<Peer>,
    conns: Vec<ConnId>,
}

impl Case {
    fn new(peers: usize) -> Case {
        Case::with(peers, NodeOptions::default())
    }

    fn with(peers: usize, options: NodeOptions) -> Case {
        let mut world = World::new(3);
        let conn = ConnOptions::default().hard_limit_bytes(Limit::Unlimited);
        let options = options.config(Config::default().conn(conn));
        let server = world.node("server", options, Log::default());
        let client = world.host("client");
        world.default_link(Link::instant().latency(LATENCY));
        let addr = world.addr(server, 1);
        world.net(server).listen(addr).expect("nobody else has the port");
        let peers: Vec<Peer> = (0..peers).map(|_| world.connect(client, addr)).collect();
        world.run_for(SECOND);
        let conns = world.handler(server).accepted.clone();
        assert_eq!(conns.len(), peers.len());
        Case { world, server, client, peers, conns }
    }

    fn faulty(mut self, fault: Fault, probability: f64) -> Case {
        self.world.faults(self.server, Faults::none().of(fault, probability));
        self
    }

    fn log(&mut self) -> &mut Log {
        self.world.handler(self.server)
    }

    fn write(&mut self, data: &[u8]) {
        let conn = self.conns[0];
        assert_ne!(self.world.net(self.server).write(conn, data), Sent::Closed);
    }

    /// Bytes both ways, all of which arrive in spite of the fault.
    fn exchange(&mut self) -> &mut Log {
        let data = pattern(20_000);
        self.write(&data);
        self.world.send(self.peers[0], &data);
        self.world.run_for(100 * SECOND);
        assert!(self.world.received(self.peers[0]) == data, "the bytes differ at the peer");
        assert!(self.log().data == data, "the bytes differ at the server");
        assert!(self.log().closed.is_empty());
        self.log()
    }

    /// One byte from each peer at the same moment; what the handler saw of them.
    fn burst(&mut self) -> Vec<Seen> {
        for peer in self.peers.clone() {
            self.world.send(peer, b"x");
        }
        self.world.run_for(SECOND);
        self.log().seen.clone()
    }

    fn connects_to(&mut self, port: u16, host: Host) -> std::io::Result<ConnId> {
        let addr = self.world.addr(host, port);
        self.world.net(self.server).connect(addr)
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..=250).cycle().take(len).collect()
}

fn short_read() -> Report {
    let mut whole = Case::new(1);
    let pieces = whole.exchange().seen.len();
    let mut case = Case::new(1).faulty(Fault::ShortRead, 1.0);
    assert!(case.exchange().seen.len() > pieces, "in more pieces");
    case.world.report()
}

fn short_write() -> Report {
    let mut case = Case::new(1).faulty(Fault::ShortWrite, 1.0);
    case.exchange();
    let conn = case.conns[0];
    let stats = case.world.net(case.server).conn_stats(conn).expect("it is open");
    assert!(stats.sends > 1, "in one send");
    case.world.report()
}

fn read_blocked() -> Report {
    let mut case = Case::new(1).faulty(Fault::ReadBlocked, 0.7);
    case.exchange();
    case.world.report()
}

fn write_blocked() -> Report {
    let mut case = Case::new(1).faulty(Fault::WriteBlocked, 0.7);
    case.exchange();
    case.world.report()
}

fn wait_interrupted() -> Report {
    let mut case = Case::new(1).faulty(Fault::WaitInterrupted, 0.7);
    case.exchange();
    let report = case.world.report();
    assert!(report.turns > report.count(Fault::WaitInterrupted), "each is a turn of its own");
    report
}

fn spurious_event() -> Report {
    let mut plain = Case::new(2);
    plain.exchange();
    let mut case = Case::new(2).faulty(Fault::SpuriousEvent, 1.0);
    case.exchange();
    let report = case.world.report();
    assert!(report.events > plain.world.report().events, "the loop was told of nothing more");
    report
}

fn delayed_event() -> Report {
    let mut case = Case::new(1).faulty(Fault::DelayedEvent, 0.5);
    let mut late = 0;
    for round in 0..20 {
        let sent_at = case.world.now();
        let took = case.burst()[round].at.since(sent_at);
        assert!(took >= LATENCY);
        late += usize::from(took > LATENCY);
    }
    assert!((1..20).contains(&late), "{late} of 20");
    case.world.report()
}

fn split_batch() -> Report {
    let turns = |seen: Vec<Seen>| {
        let mut turns: Vec<u64> = seen.iter().map(|seen| seen.turn).collect();
        assert_eq!(turns.len(), 20);
        turns.dedup();
        turns.len()
    };
    assert_eq!(turns(Case::new(20).burst()), 1);
    let mut case = Case::new(20).faulty(Fault::SplitBatch, 1.0);
    assert!(turns(case.burst()) > 1);
    case.world.report()
}

fn shuffled_batch() -> Report {
    let conns = |seen: Vec<Seen>| seen.iter().map(|seen| seen.conn).collect::<Vec<_>>();
    let mut case = Case::new(20).faulty(Fault::ShuffledBatch, 1.0);
    let (in_order, shuffled) = (conns(Case::new(20).burst()), conns(case.burst()));
    assert_eq!(shuffled.len(), 20);
    assert_ne!(shuffled, in_order);
    case.world.report()
}

fn stale_event() -> Report {
    let mut case = Case::new(2).faulty(Fault::StaleEvent, 1.0);
    let gone = case.conns[1];
    case.world.net(case.server).abort(gone);
    case.world.run_for(SECOND);
    assert_eq!(std::mem::take(&mut case.log().closed), [(CloseReason::LocalAbort, 0)]);
    case.exchange();
    let report = case.world.report();
    assert!(case.world.net(case.server).stats().stale_events > 0);
    report
}

fn accept_error() -> Report {
    let mut case = Case::new(0).faulty(Fault::AcceptError, 0.7);
    let addr = case.world.addr(case.server, 1);
    let peers: Vec<Peer> = (0..50).map(|_| case.world.connect(case.client, addr)).collect();
    case.world.run_for(100 * SECOND);
    let report = case.world.report();
    let stats = case.world.net(case.server).stats();
    assert_eq!(stats.accept_errors, report.count(Fault::AcceptError));
    let is_pause = |error: &ListenerError| matches!(error, ListenerError::Paused(_));
    assert!(!case.log().errors.is_empty() && case.log().errors.iter().all(is_pause));
    let reset = peers.iter().filter(|peer| case.world.state(**peer).is_reset).count();
    assert_eq!(case.log().accepted.len() + reset, 50, "each was accepted or reset");
    assert!(reset > 0);
    report
}

fn connect_error() -> Report {
    let mut case = Case::new(0).faulty(Fault::ConnectError, 1.0);
    let there = case.world.serve(case.client, 80, Script::new());
    let host = case.client;
    for _ in 0..40 {
        // Those that the network answers get an id first, and their `on_close`.
        if let Err(error) = case.connects_to(there.port(), host) {
            assert!(error.to_string().contains(&there.to_string()), "{error}");
        }
    }
    case.world.run_for(SECOND);
    assert!(case.world.served(case.client, there).is_empty());
    let unreachable = CloseReason::ConnectFailed(Errno(errno::ENETUNREACH));
    assert!(case.log().closed.iter().all(|closed| *closed == (unreachable, 0)));
    assert!((1..40).contains(&case.log().closed.len()), "some and not all have an id");
    let report = case.world.report();
    assert_eq!(report.count(Fault::ConnectError), 40);
    report
}

fn self_connect() -> Report {
    let mut case = Case::new(0).faulty(Fault::SelfConnect, 1.0);
    let host = case.server.host();
    case.connects_to(50_000, host).expect("there are slots");
    case.world.run_for(SECOND);
    let refused = CloseReason::ConnectFailed(Errno(errno::ECONNREFUSED));
    assert_eq!(case.log().closed, [(refused, 0)]);
    case.world.report()
}

fn send_error() -> Report {
    let mut case = Case::new(1).faulty(Fault::SendError, 1.0);
    case.write(b"lost");
    case.world.run_for(SECOND);
    let (reason, dropped) = case.log().closed[0];
    assert!(matches!(reason, CloseReason::Reset | CloseReason::Io(_)), "{reason}");
    assert_eq!(dropped, 4);
    case.world.report()
}

fn recv_error() -> Report {
    let mut case = Case::new(1).faulty(Fault::RecvError, 1.0);
    assert_eq!(case.burst(), []);
    let reason = case.log().closed[0].0;
    let expected =
        matches!(reason, CloseReason::Reset | CloseReason::Io(_) | CloseReason::Timeout(_));
    assert!(expected, "{reason}");
    case.world.report()
}

fn reset() -> Report {
    let mut case = Case::new(1).faulty(Fault::Reset, 1.0);
    assert_eq!(case.burst(), []);
    assert_eq!(case.log().closed, [(CloseReason::Reset, 0)]);
    assert!(case.world.state(case.peers[0]).is_reset);
    case.world.report()
}

fn late_completion() -> Report {
    let took = |mut case: Case| {
        let from = case.world.now();
        case.write(b"x");
        let peer = case.peers[0];
        let arrived = |world: &mut World| world.received(peer) == b"x";
        case.world.run_until("the byte", SECOND, arrived);
        (case.world.now().since(from), case.world.report())
    };
    let completion = || Case::with(1, NodeOptions::default().dialect(Dialect::Completion));
    let (soon, _) = took(completion());
    let (late, report) = took(completion().faulty(Fault::LateCompletion, 1.0));
    assert!(late > soon, "{late:?}, {soon:?}");
    report
}

fn clock_step_back() -> Report {
    let mut case = Case::new(1).faulty(Fault::ClockStepBack, 0.5);
    let server = case.server;
    let from = case.world.now();
    case.world.net(server).start_timer(100 * MS, 1);
    let mut shown = Time::default();
    for _ in 0..50 {
        let now = case.world.net(server).now();
        assert!(now >= shown, "{now:?} after {shown:?}");
        shown = now;
        case.world.run_for(5 * MS);
    }
    // The clock it started by may have been a millisecond behind.
    let fired = case.log().timers[0].since(from);
    assert!((99 * MS..110 * MS).contains(&fired), "{fired:?}");
    case.exchange();
    case.world.report()
}

fn slow_turn() -> Report {
    let mut case = Case::new(2).faulty(Fault::SlowTurn, 1.0);
    let (first, second) = (case.peers[0], case.peers[1]);
    let from = case.world.now();
    case.world.send(first, b"x");
    case.world.run_for(MS);
    case.world.send(second, b"x");
    case.world.run_for(SECOND);
    let second_at = case.log().seen[1].at.since(from);
    assert!(second_at > 2 * MS && second_at < 502 * MS, "behind the first one's turn");
    case.world.report()
}

fn loss() -> Report {
    let mut case = Case::new(1);
    case.world.link(case.client, case.server, Link::instant().latency(LATENCY).loss(1.0));
    let sent_at = case.world.now();
    case.world.send(case.peers[0], b"x");
    case.world.run_for(100 * SECOND);
    let took = case.log().seen[0].at.since(sent_at);
    assert_eq!(took, 31 * 200 * MS + LATENCY, "five times, and each time twice as late");
    case.world.report()
}

fn refused() -> Report {
    let mut case = Case::new(0);
    case.world.link(case.client, case.server, Link::instant().refuse(1.0));
    case.world.serve(case.client, 80, Script::new());
    let host = case.client;
    case.connects_to(80, host).expect("there are slots");
    case.world.run_for(SECOND);
    let refused = CloseReason::ConnectFailed(Errno(errno::ECONNREFUSED));
    assert_eq!(case.log().closed, [(refused, 0)]);
    case.world.report()
}

fn swallowed() -> Report {
    let mut case = Case::new(0);
    case.world.link(case.client, case.server, Link::instant().swallow(1.0));
    case.world.serve(case.client, 80, Script::new());
    let host = case.client;
    case.connects_to(80, host).expect("there are slots");
    case.world.run_for(9 * SECOND);
    assert!(case.log().closed.is_empty(), "no answer");
    case.world.report()
}

fn held() -> Report {
    let mut case = Case::new(1);
    case.world.partition(case.client, case.server);
    assert_eq!(case.burst(), []);
    case.world.heal(case.client, case.server);
    case.world.run_for(SECOND);
    assert_eq!(case.log().data, b"x");
    case.world.report()
}

type Run = fn() -> Report;

const CASES: &[(Fault, Run)] = &[
    (Fault::ShortRead, short_read),
    (Fault::ShortWrite, short_write),
    (Fault::ReadBlocked, read_blocked),
    (Fault::WriteBlocked, write_blocked),
    (Fault::WaitInterrupted, wait_interrupted),
    (Fault::SpuriousEvent, spurious_event),
    (Fault::DelayedEvent, delayed_event),
    (Fault::SplitBatch, split_batch),
    (Fault::ShuffledBatch, shuffled_batch),
    (Fault::StaleEvent, stale_event),
    (Fault::AcceptError, accept_error),
    (Fault::ConnectError, connect_error),
    (Fault::SelfConnect, self_connect),
    (Fault::SendError, send_error),
    (Fault::RecvError, recv_error),
    (Fault::Reset, reset),
    (Fault::LateCompletion, late_completion),
    (Fault::ClockStepBack, clock_step_back),
    (Fault::SlowTurn, slow_turn),
    (Fault::Loss, loss),
    (Fault::Refused, refused),
    (Fault::Swallowed, swallowed),
    (Fault::Held, held),
];

#[test]
fn each_fault_does_what_it_says_and_is_counted_and_no_other_one_is() {
    for (fault, run) in CASES {
        eprintln!("{fault:?}");
        let report = run();
        for (kind, count) in report.faults() {
            assert_eq!(count > 0, kind == *fault, "{kind:?}: {count}");
        }
    }
}

#[test]
fn no_kind_of_fault_is_left_out() {
    for kind in Fault::ALL {
        assert_eq!(CASES.iter().filter(|(fault, _)| fault == kind).count(), 1, "{kind:?}");
    }
}

#[test]
fn without_faults_none_is_counted() {
    let mut case = Case::new(20);
    case.exchange();
    assert!(case.world.report().faults().all(|(_, count)| count == 0));
}

#[test]
fn mild_faults_lose_nothing_and_harsh_ones_are_more_of_them() {
    let count = |faults: Faults| {
        let mut case = Case::new(1);
        case.world.faults(case.server, faults);
        for piece in pattern(20_000).chunks(100) {
            case.world.send(case.peers[0], piece);
            case.world.run_for(10 * MS);
        }
        case.world.run_for(100 * SECOND);
        let report = case.world.report();
        (report.faults().filter(|(_, count)| *count > 0).count(), case.log().data.len())
    };
    let (mild, arrived) = count(Faults::mild());
    assert!(mild >= 3 && arrived == 20_000, "{mild} kinds, {arrived} bytes");
    assert!(count(Faults::harsh()).0 > mild);
}
