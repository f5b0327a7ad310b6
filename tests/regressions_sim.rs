//! One test for each mistake of the simulator that was found. Named by what holds.

#[path = "support/errno.rs"]
mod errno;

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, UnwindSafe, catch_unwind};
use std::time::Duration;

use hotloop::sim::{
    Dialect, Fault, Faults, Host, Link, Node, NodeOptions, Peer, Progress, Script, World,
};
use hotloop::{
    CloseReason, Config, ConnId, ConnOptions, Detached, Errno, Handler, Limit, ListenerId, Net,
    TimeoutKind,
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DIALECTS: [Dialect; 2] = [Dialect::Readiness, Dialect::Completion];
const GIVEN_UP: CloseReason = CloseReason::Timeout(TimeoutKind::Kernel);
const TIMED_OUT: Progress = Progress::Failed(Errno(errno::ETIMEDOUT));

/// Takes every byte, closes when the peer does, and notes what it is told.
#[derive(Default)]
struct Sink {
    accepted: Vec<ConnId>,
    data: Vec<u8>,
    ends: usize,
    closed: Vec<CloseReason>,
}

impl Handler for Sink {
    fn on_accept(&mut self, _: &mut Net, conn: ConnId, _: ListenerId) {
        self.accepted.push(conn);
    }

    fn on_data(&mut self, _: &mut Net, _: ConnId, data: &[u8]) -> usize {
        self.data.extend(data);
        data.len()
    }

    fn on_read_closed(&mut self, net: &mut Net, conn: ConnId, _: &[u8]) {
        self.ends += 1;
        net.close(conn);
    }

    fn on_close(&mut self, _: &mut Net, _: ConnId, reason: CloseReason, _: u64) {
        self.closed.push(reason);
    }
}

/// Answers whatever comes with one letter.
struct SaysZ;

impl Handler for SaysZ {
    fn on_data(&mut self, net: &mut Net, conn: ConnId, data: &[u8]) -> usize {
        net.write(conn, b"z");
        data.len()
    }
}

/// A world with a server and a host for peers; the link gives up after half a minute.
struct Pair {
    world: World,
    server: Node<Sink>,
    client: Host,
    addr: SocketAddr,
}

impl Pair {
    fn new() -> Pair {
        Pair::with(1, NodeOptions::default())
    }

    fn with(seed: u64, options: NodeOptions) -> Pair {
        Pair::reading(128 << 10, seed, options)
    }

    /// One whose server reads so many bytes a turn.
    fn reading(budget_bytes: usize, seed: u64, options: NodeOptions) -> Pair {
        let conn = ConnOptions::default().write_stall_timeout(Limit::Unlimited);
        let config = Config::default().conn(conn).read_budget_bytes(budget_bytes);
        let options = options.config(config);
        let mut world = World::new(seed);
        let server = world.node("server", options, Sink::default());
        let client = world.host("client");
        world.link(server, client, Link::lan().give_up(30 * SECOND));
        let addr = world.addr(server, 7);
        world.net(server).listen(addr).expect("nobody else has the port");
        Pair { world, server, client, addr }
    }

    fn of(dialect: Dialect) -> Pair {
        Pair::with(1, NodeOptions::default().dialect(dialect))
    }

    /// A peer that is connected and accepted.
    fn peer(&mut self) -> (Peer, ConnId) {
        let peer = self.world.connect(self.client, self.addr);
        self.world.run_for(SECOND);
        (peer, *self.handler().accepted.last().expect("it was accepted"))
    }

    fn handler(&mut self) -> &mut Sink {
        self.world.handler(self.server)
    }

    fn progress(&self, peer: Peer) -> Progress {
        self.world.state(peer).progress
    }

    fn cut(&mut self) {
        self.world.partition(self.server, self.client);
    }

    fn heal(&mut self) {
        self.world.heal(self.server, self.client);
        self.world.run_for(SECOND);
    }
}

/// The message of a panic.
fn panic_of(run: impl FnOnce() + UnwindSafe) -> String {
    let panic = catch_unwind(run).expect_err("it panics");
    let text = panic.downcast_ref::<String>().cloned();
    text.or(panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).expect("a message")
}

/// Found by storms of peers with small windows: the rest was lost a minute after the close.
#[test]
fn a_slow_reader_of_a_closed_connection_gets_everything() {
    for dialect in DIALECTS {
        let mut pair = Pair::of(dialect);
        pair.world.link(pair.server, pair.client, Link::intercontinental());
        pair.world.set_buffers(pair.client, 1 << 16, 100);
        let (peer, conn) = pair.peer();
        pair.world.net(pair.server).write(conn, &[7; 50_000]);
        pair.world.net(pair.server).close(conn);
        pair.world.run_for(10 * MINUTE);
        let state = pair.world.state(peer);
        assert_eq!((state.received_bytes, state.is_reset), (50_000, false));
    }
}

/// Found by review: whoever had to answer was given up, and not who waited for the answer.
#[test]
fn who_hears_no_answer_gives_up_though_its_own_way_is_open() {
    let mut pair = Pair::new();
    let (peer, _) = pair.peer();
    pair.world.partition_one_way(pair.server, pair.client);
    pair.world.send(peer, b"hello?");
    pair.world.run_for(MINUTE);
    assert_eq!((pair.progress(peer), pair.handler().data.as_slice()), (TIMED_OUT, &b"hello?"[..]));
}

/// Found by review: a FIN was not counted as something that waits for an answer.
#[test]
fn a_fin_into_a_partition_times_out_on_either_side() {
    for dialect in DIALECTS {
        let mut pair = Pair::of(dialect);
        let (peer, conn) = pair.peer();
        pair.cut();
        pair.world.finish(peer);
        pair.world.net(pair.server).shutdown(conn);
        pair.world.run_for(MINUTE);
        assert_eq!(pair.progress(peer), TIMED_OUT);
        assert_eq!(pair.handler().closed, [GIVEN_UP]);
    }
}

/// Found by review: it was connecting for ever.
#[test]
fn a_connect_whose_answer_does_not_come_back_times_out() {
    let mut pair = Pair::new();
    pair.world.partition_one_way(pair.server, pair.client);
    let peer = pair.world.connect(pair.client, pair.addr);
    pair.world.run_for(MINUTE);
    assert_eq!(pair.progress(peer), Progress::Connecting);
    pair.world.run_for(2 * MINUTE);
    assert_eq!(pair.progress(peer), TIMED_OUT);
}

/// Found by review: without a packet under way nobody noticed.
#[test]
fn a_machine_that_crashes_behind_a_closed_window_is_given_up() {
    for dialect in DIALECTS {
        let mut pair = Pair::of(dialect);
        pair.world.set_buffers(pair.client, 1000, 1000);
        let (peer, conn) = pair.peer();
        pair.world.stop_reading(peer);
        pair.world.net(pair.server).write(conn, &[1; 200_000]);
        pair.world.run_for(SECOND);
        pair.world.crash(pair.client);
        pair.world.run_for(2 * MINUTE);
        assert_eq!(pair.handler().closed, [GIVEN_UP]);
    }
}

/// Found by review: what was sent to a machine that was off was never sent again.
#[test]
fn a_machine_that_comes_back_resets_who_has_sent_to_it_meanwhile() {
    let mut pair = Pair::new();
    let (peer, _) = pair.peer();
    pair.world.crash(pair.server);
    pair.world.send(peer, b"lost");
    pair.world.run_for(2 * SECOND);
    assert!(!pair.world.state(peer).is_reset);
    pair.server = pair.world.restart(pair.server, NodeOptions::default(), Sink::default());
    pair.world.run_for(25 * SECOND);
    assert!(pair.world.state(peer).is_reset);
}

/// Found by review: what a partition held outlived the machine that had sent it.
#[test]
fn nothing_arrives_from_a_machine_that_crashed_in_a_partition() {
    let mut pair = Pair::new();
    let (peer, _) = pair.peer();
    pair.cut();
    pair.world.send(peer, b"ghost");
    pair.world.run_for(SECOND);
    pair.world.crash(pair.client);
    pair.heal();
    assert_eq!(pair.handler().data, b"");
}

/// Found by review: a client that sends again after its timeout was seen twice.
#[test]
fn nothing_arrives_from_a_sender_that_has_given_up() {
    let mut pair = Pair::new();
    let (peer, _) = pair.peer();
    pair.cut();
    pair.world.send(peer, b"ghost");
    pair.world.run_for(MINUTE);
    assert_eq!(pair.progress(peer), TIMED_OUT);
    pair.heal();
    assert_eq!(pair.handler().data, b"");
}

/// Found by review: held RSTs hid servers that never notice a half-open connection.
#[test]
fn a_rst_that_meets_a_partition_is_lost() {
    let mut pair = Pair::new();
    let (peer, conn) = pair.peer();
    pair.cut();
    pair.world.reset(peer);
    pair.world.run_for(SECOND);
    pair.heal();
    assert_eq!(pair.handler().closed, []);
    pair.world.net(pair.server).write(conn, b"still there?");
    pair.world.run_for(SECOND);
    assert_eq!(pair.handler().closed, [CloseReason::Reset]);
}

/// Found by review: the wait of a lent loop took no time.
#[test]
fn a_turn_of_a_lent_loop_waits_as_long_as_it_is_told() {
    let mut pair = Pair::new();
    let from = pair.world.now();
    pair.world.event_loop(pair.server).turn(&mut SaysZ, SECOND).expect("the loop runs");
    let took = pair.world.now().since(from);
    assert!((SECOND..SECOND + MS).contains(&took), "{took:?}");
}

/// Found by review: it never came back.
#[test]
fn close_all_of_a_node_ends_after_its_grace() {
    for dialect in DIALECTS {
        let mut pair = Pair::of(dialect);
        let (peer, _) = pair.peer();
        let from = pair.world.now();
        pair.world.close_all(pair.server, 3 * SECOND);
        let took = pair.world.now().since(from);
        assert!((3 * SECOND..4 * SECOND).contains(&took), "{took:?}");
        assert_eq!(pair.handler().closed.len(), 1);
        assert!(pair.world.state(peer).read_closed);
    }
}

/// Found by review: it waited for itself, for ever.
#[test]
fn the_world_cannot_be_asked_inside_with_received() {
    let mut pair = Pair::new();
    let (peer, _) = pair.peer();
    pair.world.silence();
    let ask = || _ = pair.world.with_received(peer, |_| pair.world.now());
    let message = panic_of(AssertUnwindSafe(ask));
    assert!(message.contains("with_received"), "{message}");
    pair.world.send(peer, b"it goes on");
    pair.world.run_for(SECOND);
    assert_eq!(pair.handler().data, b"it goes on");
}

/// Found by review: the mark of the first one was looked for in bytes that were gone.
#[test]
fn a_peer_takes_a_second_urgent_byte_after_it_has_read_the_first() {
    let mut world = World::new(1);
    let (a, b) = (world.host("a"), world.host("b"));
    let addr = world.serve(b, 80, Script::new());
    let peer = world.connect(a, addr);
    world.run_for(SECOND);
    let served = world.served(b, addr)[0];
    world.stop_reading(served);
    world.send(peer, b"ab");
    world.send_urgent(peer, b'!');
    world.run_for(SECOND);
    world.start_reading(served);
    world.send_urgent(peer, b'?');
    world.send(peer, b"cd");
    world.run_for(SECOND);
    let mut received = world.received(served);
    received.retain(u8::is_ascii_alphabetic);
    assert_eq!(received, b"abcd");
}

/// The trace of a busy while, in which the test looks at the loop or does not.
fn trace_of(seed: u64, is_looked_at: bool) -> String {
    let mut pair = Pair::with(seed, NodeOptions::default().faults(Faults::harsh()));
    let peer = pair.world.connect(pair.client, pair.addr);
    for round in 0..200 {
        if round < 20 {
            pair.world.send(peer, b"hello");
        }
        if is_looked_at {
            _ = pair.world.net(pair.server).stats();
        }
        pair.world.run_for(MS);
    }
    pair.world.trace()
}

/// Found by review: a look drew a step of the clock, and the seed took another course.
#[test]
fn looking_at_a_loop_leaves_the_trace_the_same() {
    for seed in 1..=20 {
        assert!(trace_of(seed, true) == trace_of(seed, false), "seed {seed}");
    }
}

const FAILURE: &str = "at byte 0: expected \"y\", got \"z\"";

/// Found by review: the test's own loop ended content.
#[test]
fn a_failed_script_is_told_in_the_turns_of_an_attached_loop() {
    let message = panic_of(|| {
        let mut world = World::new(1);
        world.silence();
        let (host, mut event_loop) = world.attach("a", NodeOptions::default()).expect("it is new");
        let addr = world.addr(host, 7);
        event_loop.net().listen(addr).expect("the port is free");
        let client = world.host("client");
        let peer = world.play(client, addr, Script::new().send("x").expect("y"));
        while !world.state(peer).is_done {
            event_loop.turn(&mut SaysZ, SECOND).expect("the loop runs");
        }
    });
    assert!(message.contains(FAILURE), "{message}");
}

/// Found by review: a condition on `is_done` held before anybody was told.
#[test]
fn a_script_that_fails_when_its_peer_reads_on_is_told() {
    let message = panic_of(|| {
        let mut world = World::new(1);
        world.silence();
        let server = world.node("server", NodeOptions::default(), SaysZ);
        let addr = world.addr(server, 7);
        world.net(server).listen(addr).expect("the port is free");
        let client = world.host("client");
        let peer = world.play(client, addr, Script::new().send("x").expect("y"));
        world.stop_reading(peer);
        world.run_for(SECOND);
        world.start_reading(peer);
        world.run_until("the script", SECOND, |world| world.state(peer).is_done);
    });
    assert!(message.contains(FAILURE), "{message}");
}

/// Found by review: a fast link was busy with what its slow predecessor had taken.
#[test]
fn a_new_link_is_not_held_up_by_what_the_old_one_had_to_carry() {
    let mut pair = Pair::new();
    let (peer, _) = pair.peer();
    pair.world.link(pair.server, pair.client, Link::lan().bandwidth(10));
    pair.world.send(peer, &[1; 60_000]);
    pair.world.run_for(SECOND);
    pair.world.link(pair.server, pair.client, Link::lan());
    let late = pair.world.connect(pair.client, pair.addr);
    pair.world.run_for(SECOND);
    assert_eq!(pair.progress(late), Progress::Open);
}

/// Found by the model test: the receive behind a send that had taken the error saw an end that
/// nobody had sent.
#[test]
fn a_reset_that_a_send_has_taken_is_no_end_of_stream() {
    let faults = Faults::none().of(Fault::WaitInterrupted, 0.7);
    for seed in 1..=200 {
        let options = NodeOptions::default().dialect(Dialect::Completion).faults(faults.clone());
        let mut pair = Pair::reading(1, seed, options.send_buffer_bytes(100));
        pair.world.link(pair.server, pair.client, Link::instant());
        let (peer, conn) = pair.peer();
        pair.world.stop_reading(peer);
        pair.world.net(pair.server).write(conn, &[1; 100_000]);
        pair.world.run_for(SECOND);
        // Still being read, byte by byte, when the reset comes: no event is waited for.
        pair.world.send(peer, b"last words");
        pair.world.run_until("the first byte", SECOND, |world| {
            !world.handler(pair.server).data.is_empty()
        });
        pair.world.reset(peer);
        pair.world.run_for(SECOND);
        let handler = pair.handler();
        assert_eq!((handler.ends, &handler.closed[..]), (0, &[CloseReason::Reset][..]), "{seed}");
        assert_eq!(handler.data, b"last words", "{seed}");
    }
}

/// Found by the model test: who could send nothing was taken for one that is not answered.
#[test]
fn a_window_that_is_closed_for_long_after_a_healed_partition_ends_nothing() {
    let mut pair = Pair::new();
    let (peer, conn) = pair.peer();
    pair.world.net(pair.server).pause_reading(conn);
    pair.world.send(peer, &[1; 4_000_000]);
    pair.world.run_for(SECOND);
    pair.cut();
    pair.world.net(pair.server).write(conn, b"held");
    pair.world.run_for(MS);
    pair.heal();
    pair.world.run_for(20 * MINUTE);
    assert_eq!((pair.progress(peer), pair.handler().closed.len()), (Progress::Open, 0));
    pair.world.net(pair.server).resume_reading(conn);
    pair.world.run_for(MINUTE);
    assert_eq!(pair.handler().data.len(), 4_000_000);
}

/// Found by the behaviour tests: until its close was done a listener kept its address.
#[test]
fn an_address_is_free_at_once_when_its_listener_is_closed() {
    for dialect in DIALECTS {
        let mut pair = Pair::of(dialect);
        let addr = pair.world.addr(pair.server, 8);
        let net = pair.world.net(pair.server);
        let listener = net.listen(addr).expect("the port is free");
        net.close_listener(listener);
        net.listen(addr).expect("the port is free again");
        let peer = pair.world.connect(pair.client, addr);
        pair.world.run_for(SECOND);
        assert_eq!(pair.progress(peer), Progress::Open);
    }
}

/// Found by the servers under simulation: each look planned a turn, and no time passed.
#[test]
fn a_condition_may_look_at_the_loop() {
    let mut pair = Pair::new();
    let server = pair.server;
    let script = Script::new().wait(10 * SECOND).finish();
    pair.world.play(pair.client, pair.addr, script);
    pair.world.run_for(SECOND);
    let all_gone = |world: &mut World| world.net(server).stats().connections == 0;
    assert!(!all_gone(&mut pair.world));
    pair.world.run_until("all gone", 20 * SECOND, all_gone);
}

/// Flushes its FIN in the callback of the peer's, and panics.
#[derive(Default)]
struct FlushesAndPanics(Vec<CloseReason>);

impl Handler for FlushesAndPanics {
    fn on_accept(&mut self, net: &mut Net, conn: ConnId, _: ListenerId) {
        net.shutdown(conn);
    }

    fn on_data(&mut self, _: &mut Net, _: ConnId, data: &[u8]) -> usize {
        data.len()
    }

    fn on_read_closed(&mut self, net: &mut Net, conn: ConnId, _: &[u8]) {
        net.flush(conn);
        panic!("as it was told");
    }

    fn on_close(&mut self, _: &mut Net, _: ConnId, reason: CloseReason, _: u64) {
        self.0.push(reason);
    }
}

/// Found by the model test: `Checked` took the reason for one that no panic explains.
#[test]
fn a_connection_may_be_settled_in_a_callback_that_panics_afterwards() {
    for dialect in DIALECTS {
        let mut world = World::new(1);
        world.silence();
        let options = NodeOptions::default().dialect(dialect);
        let server = world.node("server", options, FlushesAndPanics::default());
        let addr = world.addr(server, 7);
        world.net(server).listen(addr).expect("the port is free");
        let client = world.host("client");
        world.play(client, addr, Script::new().finish().expect_end());
        let message = panic_of(AssertUnwindSafe(|| world.run_for(SECOND)));
        assert_eq!(message, "as it was told");
        world.run_for(SECOND);
        assert_eq!(world.handler(server).0, [CloseReason::PeerClosed]);
    }
}

/// Keeps what it releases.
#[derive(Default)]
struct Keeps(Vec<Detached>);

impl Handler for Keeps {
    fn on_accept(&mut self, net: &mut Net, conn: ConnId, _: ListenerId) {
        assert!(net.release(conn), "it is open");
    }

    fn on_data(&mut self, _: &mut Net, _: ConnId, data: &[u8]) -> usize {
        data.len()
    }

    fn on_release(&mut self, _: &mut Net, _: ConnId, detached: Detached) {
        self.0.push(detached);
    }
}

/// Found by the model test: `on_release` did not reach the handler of a node, and the connection
/// was closed.
#[test]
fn the_handler_of_a_node_is_given_what_it_releases() {
    for dialect in DIALECTS {
        let mut world = World::new(1);
        let options = NodeOptions::default().dialect(dialect);
        let server = world.node("server", options, Keeps::default());
        let addr = world.addr(server, 7);
        world.net(server).listen(addr).expect("the port is free");
        let client = world.host("client");
        let peer = world.connect(client, addr);
        world.run_for(SECOND);
        assert_eq!(world.handler(server).0.len(), 1);
        assert_eq!(world.state(peer).progress, Progress::Open);
        assert!(world.trace().contains("on_release conn#0.1"), "{}", world.trace());
        world.handler(server).0.clear();
        world.run_for(SECOND);
        assert!(world.state(peer).read_closed, "dropping it closes it");
    }
}
