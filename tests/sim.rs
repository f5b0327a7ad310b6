//! What the simulator promises to those who test with it: time, links, hosts, seeds, and a word
//! about every wrong use of it.

#[path = "support/errno.rs"]
mod errno;

use std::panic::UnwindSafe;
use std::time::Duration;

use hotloop::sim::{
    Dialect, Fault, Faults, Host, Link, Node, NodeOptions, Peer, Progress, Script, World,
};
use hotloop::{
    CloseReason, Config, ConnId, ConnOptions, Errno, Handler, ListenerError, ListenerId, Missed,
    Net, Time, TimeoutKind, TimerId,
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
const PORT: u16 = 7;

/// Answers every byte, and notes what it is told, and when.
#[derive(Default)]
struct Echo {
    accepted: Vec<ConnId>,
    connected: Vec<ConnId>,
    data: Vec<u8>,
    data_at: Vec<Time>,
    closed: Vec<(Time, CloseReason)>,
    timers: Vec<(Time, u64)>,
    listener_errors: Vec<ListenerError>,
    wakes: usize,
}

impl Handler for Echo {
    fn on_accept(&mut self, _: &mut Net, conn: ConnId, _: ListenerId) {
        self.accepted.push(conn);
    }

    fn on_connect(&mut self, _: &mut Net, conn: ConnId) {
        self.connected.push(conn);
    }

    fn on_data(&mut self, net: &mut Net, conn: ConnId, data: &[u8]) -> usize {
        self.data.extend(data);
        self.data_at.push(net.now());
        net.write(conn, data);
        data.len()
    }

    fn on_close(&mut self, net: &mut Net, _: ConnId, reason: CloseReason, _: u64) {
        self.closed.push((net.now(), reason));
    }

    fn on_timer(&mut self, net: &mut Net, _: TimerId, token: u64) {
        self.timers.push((net.now(), token));
    }

    fn on_wake(&mut self, _: &mut Net) {
        self.wakes += 1;
    }

    fn on_listener_error(&mut self, _: &mut Net, _: ListenerId, error: ListenerError) {
        self.listener_errors.push(error);
    }
}

/// A world with an echo server and a host for peers, and how they are linked.
struct Pair {
    world: World,
    server: Node<Echo>,
    client: Host,
}

impl Pair {
    fn new(link: Link) -> Pair {
        Pair::with(1, NodeOptions::default(), link)
    }

    fn with(seed: u64, options: NodeOptions, link: Link) -> Pair {
        Pair::starting_at(seed, Time::from_nanos(1_000_000_000), options, link)
    }

    fn starting_at(seed: u64, start: Time, options: NodeOptions, link: Link) -> Pair {
        let mut world = World::starting_at(seed, start);
        let server = world.node("server", options, Echo::default());
        let client = world.host("client");
        world.link(server, client, link);
        let addr = world.addr(server, PORT);
        world.net(server).listen(addr).expect("nobody else has the port");
        Pair { world, server, client }
    }

    /// A peer that is connected and accepted.
    fn peer(&mut self) -> (Peer, ConnId) {
        let (server, before) = (self.server, self.handler().accepted.len());
        let addr = self.world.addr(server, PORT);
        let peer = self.world.connect(self.client, addr);
        let accepted = |world: &mut World| world.handler(server).accepted.len() > before;
        self.world.run_until("an accept", 10 * SECOND, accepted);
        self.world.run_for(10 * SECOND);
        (peer, self.handler().accepted[before])
    }

    fn handler(&mut self) -> &mut Echo {
        self.world.handler(self.server)
    }

    fn reasons(&mut self) -> Vec<CloseReason> {
        self.handler().closed.iter().map(|(_, reason)| *reason).collect()
    }

    fn write(&mut self, conn: ConnId, data: &[u8]) {
        assert!(self.world.call(self.server, |_, net| net.write(conn, data).is_taken()));
    }

    /// Sends, and returns how long it takes until the echo is back.
    fn round_trip(&mut self, peer: Peer, data: &[u8]) -> Duration {
        let (from, before) = (self.world.now(), self.world.received(peer).len());
        self.world.send(peer, data);
        let is_back = |world: &mut World| world.received(peer).len() == before + data.len();
        self.world.run_until("the echo", 100 * SECOND, is_back);
        self.world.now().since(from)
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..=250).cycle().take(len).collect()
}

fn busy_trace(seed: u64, dialect: Dialect) -> String {
    let options = NodeOptions::default().faults(Faults::harsh()).dialect(dialect);
    let mut pair = Pair::with(seed, options, Link::wifi());
    let addr = pair.world.addr(pair.server, PORT);
    for _ in 0..3 {
        let script = Script::new().send(pattern(20_000)).wait(SECOND).finish();
        pair.world.play(pair.client, addr, script);
    }
    pair.world.run_for(5 * SECOND);
    pair.world.trace()
}

#[test]
fn a_seed_makes_the_same_trace_twice_and_another_seed_another_one() {
    for dialect in [Dialect::Readiness, Dialect::Completion] {
        let trace = busy_trace(1, dialect);
        assert!(trace.lines().count() > 100, "something has happened:\n{trace}");
        assert_eq!(trace, busy_trace(1, dialect));
        assert_ne!(trace, busy_trace(2, dialect));
    }
}

#[test]
fn the_draws_of_a_test_come_from_the_seed() {
    let draw = |seed| {
        let mut world = World::new(seed);
        [world.random(), world.random()]
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
    assert_ne!(draw(1)[0], draw(1)[1]);
}

#[test]
fn each_direction_takes_its_own_latency_to_the_nanosecond() {
    let mut pair = Pair::new(Link::instant());
    let (peer, _) = pair.peer();
    pair.world.link_one_way(pair.client, pair.server, Link::instant().latency(10 * MS));
    pair.world.link_one_way(pair.server, pair.client, Link::instant().latency(30 * MS));
    let from = pair.world.now();
    assert_eq!(pair.round_trip(peer, b"ping"), 40 * MS);
    assert_eq!(pair.handler().data_at, [from + 10 * MS]);
}

#[test]
fn jitter_is_drawn_for_each_packet_within_its_bound() {
    let mut pair = Pair::new(Link::instant().latency(10 * MS).jitter(5 * MS));
    let (peer, _) = pair.peer();
    let times: Vec<Duration> = (0..50).map(|_| pair.round_trip(peer, b"x")).collect();
    assert!(times.iter().all(|time| (20 * MS..=30 * MS).contains(time)), "{times:?}");
    assert!(times.iter().any(|time| *time < 25 * MS), "{times:?}");
    assert!(times.iter().any(|time| *time > 25 * MS), "{times:?}");
}

#[test]
fn on_the_worst_link_everything_arrives_once_and_in_order() {
    let link = Link::mobile().loss(0.3).jitter(500 * MS).segment_max_bytes(100);
    let mut pair = Pair::new(link);
    let (peer, _) = pair.peer();
    pair.round_trip(peer, &pattern(30_000));
    assert!(pair.handler().data == pattern(30_000), "the bytes differ at the server");
    assert!(pair.world.received(peer) == pattern(30_000), "the bytes differ at the peer");
    assert!(pair.world.report().count(Fault::Loss) > 50);
}

#[test]
fn bandwidth_bounds_all_connections_of_a_link_together() {
    for peers in [1, 4] {
        let mut pair = Pair::new(Link::instant());
        let peers: Vec<Peer> = (0..peers).map(|_| pair.peer().0).collect();
        pair.world.link(pair.client, pair.server, Link::instant().bandwidth(1_000_000));
        let from = pair.world.now();
        for peer in &peers {
            pair.world.send(*peer, &pattern(400_000 / peers.len()));
        }
        let server = pair.server;
        let arrived = |world: &mut World| world.handler(server).data.len() == 400_000;
        pair.world.run_until("all bytes", 10 * SECOND, arrived);
        let took = pair.world.now().since(from);
        assert!((400 * MS..440 * MS).contains(&took), "{} peers: {took:?}", peers.len());
    }
}

#[test]
fn a_partition_holds_what_is_sent_and_healing_releases_it() {
    let mut pair = Pair::new(Link::lan());
    let (peer, _) = pair.peer();
    pair.world.partition(pair.server, pair.client);
    pair.world.send(peer, b"patience");
    pair.world.finish(peer);
    pair.world.run_for(300 * SECOND);
    assert!(pair.handler().data.is_empty() && pair.handler().closed.is_empty());
    assert_eq!(pair.world.state(peer).progress, Progress::Open);
    assert!(pair.world.report().count(Fault::Held) > 0);
    pair.world.heal(pair.server, pair.client);
    pair.world.run_for(SECOND);
    assert_eq!(pair.world.received(peer), b"patience");
    assert_eq!(pair.reasons(), [CloseReason::PeerClosed]);
}

#[test]
fn heal_all_heals_every_partition() {
    let mut pair = Pair::new(Link::lan());
    let (peer, _) = pair.peer();
    pair.world.partition_one_way(pair.server, pair.client);
    pair.world.partition_one_way(pair.client, pair.server);
    pair.world.send(peer, b"x");
    pair.world.run_for(SECOND);
    pair.world.heal_all();
    pair.world.run_for(SECOND);
    assert_eq!(pair.world.received(peer), b"x");
}

#[test]
fn half_a_partition_lets_the_other_direction_through() {
    let mut pair = Pair::new(Link::lan());
    let (peer, conn) = pair.peer();
    pair.world.partition_one_way(pair.client, pair.server);
    pair.write(conn, b"you can hear me");
    pair.world.send(peer, b"and you me?");
    pair.world.run_for(SECOND);
    assert_eq!(pair.world.received(peer), b"you can hear me");
    assert!(pair.handler().data.is_empty());
}

#[test]
fn what_is_not_acknowledged_for_long_enough_is_given_up() {
    let mut pair = Pair::new(Link::lan().give_up(30 * SECOND));
    let (peer, conn) = pair.peer();
    pair.world.partition(pair.server, pair.client);
    pair.write(conn, b"are you there?");
    pair.world.send(peer, b"are you?");
    let from = pair.world.now();
    pair.world.run_for(29 * SECOND);
    assert!(pair.handler().closed.is_empty());
    pair.world.run_for(2 * SECOND);
    let (at, reason) = pair.handler().closed[0];
    assert_eq!(reason, CloseReason::Timeout(TimeoutKind::Kernel));
    assert!((30 * SECOND..30 * SECOND + MS).contains(&at.since(from)), "{at:?}");
    assert_eq!(pair.world.state(peer).progress, Progress::Failed(Errno(errno::ETIMEDOUT)));
}

/// Where the server connects to, and its connect.
fn connecting(link: Link) -> (Pair, ConnId) {
    let mut pair = Pair::new(link);
    let addr = pair.world.serve(pair.client, 80, Script::new());
    let conn = pair.world.net(pair.server).connect(addr).expect("there are slots");
    (pair, conn)
}

#[test]
fn a_syn_that_vanishes_ends_in_the_connect_timeout() {
    let (mut pair, _) = connecting(Link::lan().swallow(1.0));
    let from = pair.world.now();
    pair.world.run_for(11 * SECOND);
    let (at, reason) = pair.handler().closed[0];
    assert_eq!((at.since(from), reason), (10 * SECOND, CloseReason::Timeout(TimeoutKind::Connect)));
    let tries = pair.world.report().count(Fault::Swallowed);
    assert_eq!(tries, 4, "at once, and 1, 3 and 7 seconds later");
    let addr = pair.world.addr(pair.server, PORT);
    let peer = pair.world.connect(pair.client, addr);
    pair.world.run_for(120 * SECOND);
    assert_eq!(pair.world.state(peer).progress, Progress::Connecting);
    pair.world.run_for(10 * SECOND);
    assert_eq!(pair.world.state(peer).progress, Progress::Failed(Errno(errno::ETIMEDOUT)));
}

#[test]
fn a_syn_that_comes_through_at_last_connects_late() {
    let (mut pair, conn) = connecting(Link::lan().swallow(1.0));
    pair.world.run_for(2 * SECOND);
    pair.world.link(pair.server, pair.client, Link::lan());
    pair.world.run_for(SECOND / 2);
    assert!(pair.handler().connected.is_empty());
    pair.world.run_for(SECOND);
    assert_eq!(pair.handler().connected, [conn]);
}

#[test]
fn a_link_that_refuses_and_a_port_nobody_listens_on_are_alike() {
    let refused = CloseReason::ConnectFailed(Errno(errno::ECONNREFUSED));
    let (mut pair, _) = connecting(Link::lan().refuse(1.0));
    pair.world.run_for(SECOND);
    assert_eq!((pair.reasons(), pair.world.report().count(Fault::Refused)), (vec![refused], 1));
    pair.world.link(pair.server, pair.client, Link::lan());
    let nobody = pair.world.addr(pair.client, 81);
    pair.world.net(pair.server).connect(nobody).expect("there are slots");
    pair.world.run_for(SECOND);
    assert_eq!(pair.reasons(), [refused, refused]);
}

#[test]
fn a_host_that_crashes_says_nothing_and_forgets() {
    let (mut pair, _) = connecting(Link::lan().give_up(60 * SECOND));
    pair.world.run_for(SECOND);
    let served = pair.world.addr(pair.server, PORT);
    let (peer, _) = pair.peer();
    pair.world.crash(pair.server);
    pair.world.send(peer, b"anybody?");
    pair.world.run_for(50 * SECOND);
    let state = pair.world.state(peer);
    assert_eq!((state.progress, state.read_closed, state.is_reset), (Progress::Open, false, false));
    pair.world.run_for(20 * SECOND);
    assert_eq!(pair.world.state(peer).progress, Progress::Failed(Errno(errno::ETIMEDOUT)));
    let late = pair.world.connect(pair.client, served);
    pair.world.run_for(SECOND);
    assert_eq!(pair.world.state(late).progress, Progress::Connecting, "no answer at all");
}

#[test]
fn a_host_that_comes_back_resets_what_it_has_forgotten() {
    let mut pair = Pair::new(Link::lan());
    let (peer, _) = pair.peer();
    pair.world.crash(pair.server);
    pair.server = pair.world.restart(pair.server, NodeOptions::default(), Echo::default());
    let addr = pair.world.addr(pair.server, PORT);
    pair.world.net(pair.server).listen(addr).expect("the port is free again");
    pair.world.send(peer, b"as I said");
    pair.world.run_for(SECOND);
    assert!(pair.world.state(peer).is_reset);
    let (peer, _) = pair.peer();
    pair.round_trip(peer, b"hello again");
}

#[test]
fn a_node_that_is_shut_closes_its_sockets_and_gives_its_handler_back() {
    let mut pair = Pair::new(Link::lan());
    let (peer, _) = pair.peer();
    pair.round_trip(peer, b"last words");
    assert_eq!(pair.world.open_sockets(pair.server), 2);
    let handler = pair.world.shut(pair.server);
    pair.world.run_for(SECOND);
    assert_eq!(handler.data, b"last words");
    assert!(pair.world.state(peer).read_closed);
    assert_eq!(pair.world.open_sockets(pair.server), 0);
    let addr = pair.world.addr(pair.server, PORT);
    let refused = pair.world.connect(pair.client, addr);
    pair.world.run_for(SECOND);
    assert_eq!(pair.world.state(refused).progress, Progress::Failed(Errno(errno::ECONNREFUSED)));
}

#[test]
fn beyond_the_descriptors_accepts_and_connects_answer_emfile() {
    let config = Config::default().max_connections(100);
    let options = NodeOptions::default().config(config).descriptors_max(3);
    let mut pair = Pair::with(1, options, Link::lan());
    let addr = pair.world.addr(pair.server, PORT);
    for _ in 0..3 {
        pair.world.connect(pair.client, addr);
    }
    pair.world.run_for(SECOND);
    assert_eq!(pair.world.open_sockets(pair.server), 3, "the listener and two");
    assert_eq!(pair.handler().listener_errors, [ListenerError::Paused(Errno(errno::EMFILE))]);
    let error = pair.world.net(pair.server).connect(addr).expect_err("nothing is free");
    assert!(error.to_string().contains(&addr.to_string()), "{error}");
    let first = pair.handler().accepted[0];
    pair.world.net(pair.server).abort(first);
    pair.world.run_for(SECOND);
    assert_eq!(pair.handler().accepted.len(), 3, "the one that waited");
}

#[test]
fn scripted_accepts_fail_as_they_are_told() {
    let mut pair = Pair::new(Link::lan());
    pair.world.fail_accepts(pair.server, &[errno::ECONNABORTED, errno::ENFILE]);
    let (_, conn) = pair.peer();
    assert_eq!(pair.handler().accepted, [conn]);
    assert_eq!(pair.handler().listener_errors, [ListenerError::Paused(Errno(errno::ENFILE))]);
    assert_eq!(pair.world.net(pair.server).stats().accept_errors, 2);
}

#[test]
fn a_spurious_event_reaches_the_loop_and_a_stale_one_is_recognised() {
    let mut pair = Pair::new(Link::lan());
    let (peer, conn) = pair.peer();
    let before = pair.world.net(pair.server).stats();
    pair.world.spurious(pair.server, conn.to_bits());
    pair.world.spurious(pair.server, conn.to_bits() + (1 << 32));
    pair.world.run_for(MS);
    let after = pair.world.net(pair.server).stats();
    assert_eq!((after.events - before.events, after.stale_events - before.stale_events), (2, 1));
    pair.round_trip(peer, b"unharmed");
}

#[test]
fn a_peer_that_stops_reading_closes_its_window() {
    let mut pair = Pair::new(Link::lan());
    pair.world.set_buffers(pair.client, 1, 1000);
    let (peer, conn) = pair.peer();
    pair.world.stop_reading(peer);
    let data = pattern(500_000);
    pair.write(conn, &data);
    pair.world.run_for(10 * SECOND);
    let queued = pair.world.net(pair.server).queued_bytes(conn);
    assert!(queued >= data.len() - (64 << 10) - 1000, "the buffers take no more: {queued}");
    assert!(pair.world.received(peer).is_empty());
    pair.world.start_reading(peer);
    pair.world.run_for(10 * SECOND);
    assert!(pair.world.received(peer) == data, "the bytes differ");
}

#[test]
fn a_waker_wakes_a_node() {
    let mut pair = Pair::new(Link::lan());
    let waker = pair.world.net(pair.server).waker();
    pair.world.run_for(SECOND);
    assert_eq!(pair.handler().wakes, 0);
    waker.wake();
    waker.wake();
    pair.world.run_for(SECOND);
    assert_eq!(pair.handler().wakes, 1);
}

#[test]
fn a_year_of_idling_takes_no_turns() {
    let mut pair = Pair::new(Link::lan());
    pair.peer();
    let (turns, from) = (pair.world.report().turns, pair.world.now());
    pair.world.run_for(YEAR);
    assert_eq!(pair.world.now(), from + YEAR);
    assert_eq!(pair.world.report().turns, turns);
    assert!(pair.world.run_until_idle(SECOND), "nothing will ever happen");
    assert!(!pair.world.step());
    pair.world.net(pair.server).start_timer(2 * YEAR, 1);
    assert!(!pair.world.run_until_idle(SECOND), "one thing will");
}

#[test]
fn a_node_that_stops_gets_turns_again_when_it_is_resumed() {
    let mut pair = Pair::new(Link::lan());
    let (peer, _) = pair.peer();
    pair.world.net(pair.server).stop();
    pair.world.run_for(SECOND);
    assert!(pair.world.is_stopped(pair.server));
    pair.world.send(peer, b"hello?");
    pair.world.run_for(SECOND);
    assert!(pair.handler().data.is_empty());
    pair.world.resume(pair.server);
    pair.world.run_for(SECOND);
    assert!(!pair.world.is_stopped(pair.server));
    assert_eq!(pair.world.received(peer), b"hello?");
}

/// What timers and deadlines make happen, counted from the start.
fn story_from(start: Time) -> Vec<(Duration, String)> {
    let conn = ConnOptions::default().idle_timeout(3 * SECOND).connect_timeout(2 * SECOND);
    let options = NodeOptions::default().config(Config::default().conn(conn));
    let mut pair = Pair::starting_at(1, start, options, Link::lan().swallow(0.2));
    let addr = pair.world.addr(pair.server, PORT);
    pair.world.connect(pair.client, addr);
    let nowhere = pair.world.addr(pair.client, 80);
    pair.world.partition_one_way(pair.server, pair.client);
    let net = pair.world.net(pair.server);
    net.start_repeating(700 * MS, Missed::Burst, 7);
    net.start_timer(1500 * MS, 1);
    net.start_timer(Duration::MAX, 2);
    net.connect(nowhere).expect("there are slots");
    pair.world.run_for(10 * SECOND);
    let handler = pair.world.shut(pair.server);
    let closed = handler.closed.iter().map(|(at, reason)| (at.since(start), reason.to_string()));
    let timers = handler.timers.iter().map(|(at, token)| (at.since(start), token.to_string()));
    closed.chain(timers).collect()
}

#[test]
fn a_clock_may_start_anywhere() {
    let expected = story_from(Time::from_nanos(1_000_000_000));
    assert!(expected.len() > 10, "{expected:?}");
    for edge_ms in [1 << 30, 1 << 31, 1 << 32, 1_u64 << 36] {
        for before_ms in [0, 1, 1600, 3000] {
            let start = Time::from_nanos((edge_ms - before_ms) * 1_000_000);
            assert_eq!(story_from(start), expected, "{before_ms} ms before {edge_ms} ms");
        }
    }
}

#[test]
fn each_thread_may_have_a_world_of_its_own() {
    let here = busy_trace(5, Dialect::Readiness);
    let there = std::thread::spawn(|| busy_trace(5, Dialect::Readiness));
    assert_eq!(there.join().expect("it does not panic"), here);
}

/// The message of a panic.
fn panic_of(run: impl FnOnce() + UnwindSafe) -> String {
    let panic = std::panic::catch_unwind(run).expect_err("it panics");
    let text = panic.downcast_ref::<String>().cloned();
    text.or(panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).expect("a message")
}

#[test]
fn what_a_script_expects_and_does_not_get_is_told_with_its_place() {
    let play = |script: Script| {
        panic_of(move || {
            let mut pair = Pair::new(Link::lan());
            pair.world.silence();
            let addr = pair.world.addr(pair.server, PORT);
            pair.world.play(pair.client, addr, script);
            pair.world.run_for(SECOND);
        })
    };
    let hello = || Script::new().send("hello, world");
    let peer = "peer 10.0.0.2:32768 of 10.0.0.1:7: ";
    let message = play(hello().expect("hello, ").expect("there"));
    assert_eq!(message, format!("{peer}at byte 7: expected \"there\", got \"world\""));
    let message = play(hello().expect("hello, wOrld"));
    assert_eq!(message, format!("{peer}at byte 8: expected \"Orld\", got \"orld\""));
    let message = play(hello().finish().expect("hello, world!"));
    assert_eq!(message, format!("{peer}at byte 12: expected \"!\", got the end"));
    let message = play(hello().expect("hello").expect_end());
    assert!(message.starts_with(peer) && message.contains("at byte 5"), "{message}");
}

#[test]
fn a_script_that_gets_what_it_expects_comes_to_its_end() {
    let mut pair = Pair::new(Link::lan());
    let addr = pair.world.addr(pair.server, PORT);
    let script = Script::new().send("ping").expect("ping").wait(SECOND).send("pong").expect("pong");
    let peer = pair.world.play(pair.client, addr, script.finish().expect_end());
    pair.world.run_for(SECOND / 2);
    assert!(!pair.world.state(peer).is_done);
    pair.world.run_for(SECOND);
    assert!(pair.world.state(peer).is_done);
    assert_eq!(pair.reasons(), [CloseReason::PeerClosed]);
}

#[test]
fn a_condition_that_never_holds_is_named() {
    let message = panic_of(|| {
        let mut world = World::new(1);
        world.silence();
        world.run_until("pigs fly", SECOND, |_| false);
    });
    assert!(message.contains("pigs fly"), "{message}");
}

#[track_caller]
fn assert_refused(expected: &str, ask: impl FnOnce(&mut Pair) + UnwindSafe) {
    let message = panic_of(move || {
        let mut pair = Pair::new(Link::lan());
        pair.world.silence();
        ask(&mut pair);
    });
    assert!(message.contains(expected), "{message}");
}

#[test]
fn who_is_of_another_world_is_refused() {
    let stranger = || World::new(2).host("elsewhere");
    let unknown = "does not exist in world";
    assert_refused(unknown, |pair| _ = pair.world.addr(stranger(), 1));
    assert_refused(unknown, |pair| pair.world.link(pair.client, stranger(), Link::lan()));
    assert_refused(unknown, |pair| pair.world.partition(stranger(), pair.client));
    assert_refused(unknown, |pair| pair.world.faults(stranger(), Faults::mild()));
    assert_refused(unknown, |pair| pair.world.crash(stranger()));
    assert_refused(unknown, |pair| _ = pair.world.net(Pair::new(Link::lan()).server));
    assert_refused(unknown, |pair| {
        let (peer, _) = Pair::new(Link::lan()).peer();
        pair.world.send(peer, b"to whom?");
    });
}

#[test]
fn figures_that_make_no_sense_are_refused_by_their_name() {
    assert_refused("bandwidth 0", |_| _ = Link::lan().bandwidth(0));
    assert_refused("segment_max_bytes 0", |_| _ = Link::lan().segment_max_bytes(0));
    assert_refused("loss: -0.1", |_| _ = Link::lan().loss(-0.1));
    assert_refused("loss: NaN", |_| _ = Link::lan().loss(f64::NAN));
    assert_refused("refuse: 1.1", |_| _ = Link::lan().refuse(1.1));
    assert_refused("swallow: 2", |_| _ = Link::lan().swallow(2.0));
    assert_refused("ShortRead: -0.1", |_| _ = Faults::none().of(Fault::ShortRead, -0.1));
    assert_refused("Loss is a fault of links", |_| _ = Faults::none().of(Fault::Loss, 0.1));
    let options = NodeOptions::default;
    assert_refused("send_buffer_bytes 0", |_| _ = options().send_buffer_bytes(0));
    assert_refused("recv_buffer_bytes 0", |_| _ = options().recv_buffer_bytes(0));
    assert_refused("turn_cost 0", |_| _ = options().turn_cost(Duration::ZERO, Duration::ZERO));
    assert_refused("send_bytes 0", |pair| pair.world.set_buffers(pair.client, 0, 1));
    assert_refused("recv_bytes 0", |pair| pair.world.set_buffers(pair.client, 1, 0));
    assert_refused("low_water_bytes 2", |pair| {
        let conn = ConnOptions::default().low_water_bytes(2).high_water_bytes(1);
        let options = options().config(Config::default().conn(conn));
        pair.world.node("contradiction", options, Echo::default());
    });
    assert_refused("0x0", |pair| pair.world.spurious(pair.server, 0));
}

#[test]
fn what_is_there_already_and_what_is_gone_is_refused() {
    assert_refused("10.0.0.1:7 on server is taken", |pair| {
        pair.world.serve(pair.server, PORT, Script::new());
    });
    assert_refused("host server runs a loop", |pair| {
        pair.world.restart(pair.server, NodeOptions::default(), Echo::default());
    });
    assert_refused("host server runs no loop", |pair| {
        pair.world.shut(pair.server);
        pair.world.net(pair.server);
    });
    assert_refused("host server runs no loop", |pair| {
        pair.world.crash(pair.server);
        pair.world.handler(pair.server);
    });
    assert_refused("host third runs no loop", |pair| {
        // Made of a node of the same world, which is gone.
        let gone = pair.world.node("third", NodeOptions::default(), Echo::default());
        pair.world.shut(gone);
        pair.world.event_loop(gone);
    });
}

/// A loop that spins is found by such turns; one whose handler asks for them does not spin.
#[test]
fn a_handler_may_ask_for_as_many_turns_as_it_likes() {
    struct Worker(u32);

    impl Handler for Worker {
        fn on_data(&mut self, _: &mut Net, _: ConnId, data: &[u8]) -> usize {
            data.len()
        }

        fn on_turn_end(&mut self, net: &mut Net) {
            if self.0 > 0 {
                self.0 -= 1;
                net.again();
            }
        }
    }

    let mut world = World::new(1);
    let worker = world.node("worker", NodeOptions::default(), Worker(20));
    world.run_for(SECOND);
    assert_eq!(world.handler(worker).0, 0);
}
