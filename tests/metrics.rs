//! Counters: each moves exactly as the story says, and the sums hold at any time.

mod support;

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::rc::Rc;
use std::time::Duration;

use hotloop::sim::Link;
use hotloop::{
    CloseReason, Config, ConnId, ConnOptions, ConnStats, Errno, LimitKind, LoopStats, Sent,
    SlowConsumer, TimeoutKind,
};
use support::{Kind, Rig, errno};

const OVERHEAD: usize = 128;
const LOW: usize = 1000;
const HIGH: usize = 2000;
const HARD: usize = 4000;
const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const NANO: Duration = Duration::from_nanos(1);
/// What an age may be too long by.
const AGE_STEP: Duration = Duration::from_micros(66);

// Why connections ended.

fn a_close_by_the_peer_is_counted(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    rig.finish(peer);
    ended(&mut rig, conn, CloseReason::PeerClosed);
}

fn a_reset_is_counted(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    rig.reset(peer);
    ended(&mut rig, conn, CloseReason::Reset);
}

fn a_close_here_is_counted(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    rig.event_loop.net().close(conn);
    rig.until("the FIN", |rig| rig.at_end(peer));
    rig.finish(peer);
    ended(&mut rig, conn, CloseReason::LocalClose);
}

fn an_abort_is_counted(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (_, conn) = rig.client();
    rig.event_loop.net().abort(conn);
    ended(&mut rig, conn, CloseReason::LocalAbort);
}

fn a_connect_timeout_is_counted(kind: Kind) {
    let mut rig = Rig::new(kind);
    let hole = rig.black_hole();
    let conn = rig.event_loop.net().connect(hole).expect("there are slots");
    rig.pass(10 * SECOND);
    ended(&mut rig, conn, CloseReason::Timeout(TimeoutKind::Connect));
}

fn an_idle_timeout_is_counted(kind: Kind) {
    let mut rig = with(kind, ConnOptions::default().idle_timeout(20 * MS));
    let (_, conn) = rig.client();
    rig.pass(20 * MS);
    ended(&mut rig, conn, CloseReason::Timeout(TimeoutKind::Idle));
}

fn a_write_stall_is_counted(kind: Kind) {
    let mut rig = with(kind, ConnOptions::default().write_stall_timeout(SECOND));
    let (peer, conn) = rig.client();
    rig.stop_reading(peer);
    // More than the buffers on the way take.
    rig.event_loop.net().write(conn, &vec![1; 1_000_000]);
    rig.settle();
    rig.pass(SECOND);
    ended(&mut rig, conn, CloseReason::Timeout(TimeoutKind::WriteStall));
}

fn a_linger_timeout_is_counted(kind: Kind) {
    let mut rig = with(kind, ConnOptions::default().linger_timeout(20 * MS));
    let (_, conn) = rig.client();
    rig.event_loop.net().close(conn);
    rig.settle();
    rig.pass(20 * MS);
    ended(&mut rig, conn, CloseReason::Timeout(TimeoutKind::Linger));
}

fn a_kernel_that_gives_up_is_counted(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    rig.world().fail_recv(rig.scripted(peer), errno::ETIMEDOUT);
    ended(&mut rig, conn, CloseReason::Timeout(TimeoutKind::Kernel));
}

fn an_error_without_a_reason_of_its_own_is_counted(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    rig.world().fail_recv(rig.scripted(peer), errno::EHOSTUNREACH);
    ended(&mut rig, conn, CloseReason::Io(Errno(errno::EHOSTUNREACH)));
}

fn a_slow_consumer_is_counted(kind: Kind) {
    let mut rig = limited(kind, SlowConsumer::Close);
    let (_, conn) = rig.client();
    assert_eq!(rig.event_loop.net().write(conn, &[1; HARD]), Sent::Refused);
    ended(&mut rig, conn, CloseReason::Limit(LimitKind::Outbound));
    assert_eq!(rig.event_loop.net().stats().refused_writes, 1);
}

fn a_message_that_is_too_long_is_counted(kind: Kind) {
    let mut rig = with(kind, ConnOptions::default().inbound_max_bytes(10));
    let (peer, conn) = rig.client();
    rig.handler.on_data = Some(Box::new(|_, _, _| 0));
    rig.send(peer, b"eleven byte");
    rig.finish(peer);
    ended(&mut rig, conn, CloseReason::Limit(LimitKind::Inbound));
    assert_eq!(rig.event_loop.net().stats().discarded_bytes, 11);
}

fn a_want_of_buffers_is_counted(kind: Kind) {
    let mut rig = Rig::with(kind, Config::default().global_buffer_bytes(100));
    let (peer, conn) = rig.client();
    rig.handler.on_data = Some(Box::new(|_, _, _| 0));
    rig.send(peer, &[1; 200]);
    rig.finish(peer);
    ended(&mut rig, conn, CloseReason::Limit(LimitKind::Buffers));
}

fn a_peer_that_talks_on_is_counted(kind: Kind) {
    let mut rig = with(kind, ConnOptions::default().linger_bytes(10));
    let (peer, conn) = rig.client();
    rig.event_loop.net().close(conn);
    rig.until("the FIN", |rig| rig.at_end(peer));
    rig.send(peer, b"eleven byte");
    ended(&mut rig, conn, CloseReason::Limit(LimitKind::Linger));
}

fn a_refused_connect_is_counted(kind: Kind) {
    let mut rig = Rig::new(kind);
    let nobody = rig.refusing();
    let conn = rig.event_loop.net().connect(nobody).expect("there are slots");
    ended(&mut rig, conn, CloseReason::ConnectFailed(Errno(errno::ECONNREFUSED)));
    assert_eq!(rig.event_loop.net().stats().connects, 1);
}

fn a_panic_is_counted(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    rig.handler.on_data = Some(Box::new(|_, _, _| panic::resume_unwind(Box::new("planned"))));
    rig.send(peer, b"x");
    until_panic(&mut rig);
    ended(&mut rig, conn, CloseReason::HandlerPanicked);
}

fn a_panic_in_on_close_leaves_its_connection_counted(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (_, conn) = rig.client();
    rig.handler.on_close = Some(Box::new(|_, _, _| panic::resume_unwind(Box::new("planned"))));
    rig.event_loop.net().abort(conn);
    until_panic(&mut rig);
    rig.turn();
    ended(&mut rig, conn, CloseReason::LocalAbort);
}

fn a_shutdown_is_counted(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (_, conn) = rig.client();
    rig.event_loop.close_all(&mut rig.handler, Duration::ZERO).expect("the loop runs");
    ended(&mut rig, conn, CloseReason::Shutdown);
}

fn a_release_is_counted(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (_, conn) = rig.client();
    let detached = rig.release(conn);
    ended(&mut rig, conn, CloseReason::Released);
    let again = rig.event_loop.net().adopt(detached).expect("there are slots");
    let stats = rig.event_loop.net().stats();
    assert_sums(&stats);
    assert_eq!((stats.adopted, stats.closed, stats.connections), (1, 1, 1), "{again}");
}

fn each_of_many_ends_is_counted_once(kind: Kind) {
    let mut rig = Rig::new(kind);
    let clients: Vec<_> = (0..6).map(|_| rig.client()).collect();
    rig.event_loop.net().abort(clients[0].1);
    rig.reset(clients[1].0);
    rig.event_loop.net().abort(clients[2].1);
    rig.finish(clients[3].0);
    rig.until("four ends", |rig| rig.event_loop.net().stats().closed == 4);
    let stats = rig.event_loop.net().stats();
    assert_sums(&stats);
    assert_eq!((stats.accepted, stats.connections), (6, 2));
    let closes = stats.closes;
    assert_eq!(closes.to_string(), "1 peer_closed, 1 reset, 2 local_abort");
    assert_eq!(closes.iter().map(|(_, count)| count).sum::<u64>(), 4);
}

fn until_panic(rig: &mut Rig) {
    let turns = AssertUnwindSafe(|| rig.until("a panic", |_| false));
    let payload = panic::catch_unwind(turns).expect_err("the handler panics");
    assert_eq!(payload.downcast_ref(), Some(&"planned"));
}

// What one connection has done.

fn an_echo_is_counted_by_bytes_and_calls(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.echo();
    let (peer, conn) = rig.client();
    for round in 1..4 {
        rig.send(peer, b"hello");
        rig.until("the echo", |rig| rig.received(peer).len() == 5 * round);
        rig.settle();
    }
    let (own, all) = both(&mut rig, conn);
    assert_eq!((own.received_bytes, own.receives), (15, 3));
    assert_eq!((own.accepted_bytes, own.sent_bytes, own.sends), (15, 15, 3));
    assert_eq!((own.queued_bytes, own.queued_cost, own.kept_bytes), (0, 0, 0));
    assert_eq!(own.queued_cost_max, 5 + OVERHEAD);
    assert_eq!((all.received_bytes, all.receives), (15, 3));
    assert_eq!((all.accepted_bytes, all.sent_bytes, all.sends), (15, 15, 3));
}

fn the_highest_cost_stays_when_the_queue_has_gone(kind: Kind) {
    let mut rig = limited(kind, SlowConsumer::Refuse);
    let (peer, conn) = rig.client();
    for (bytes, cost_max) in [(500, 628), (1500, 1628), (700, 1628)] {
        assert_eq!(rig.event_loop.net().write(conn, &vec![1; bytes]), Sent::Queued);
        let (own, _) = both(&mut rig, conn);
        assert_eq!((own.queued_bytes, own.queued_cost), (bytes, bytes + OVERHEAD));
        assert_eq!(own.queued_cost_max, cost_max);
        rig.until("it", |rig| rig.received(peer).len() as u64 == own.accepted_bytes);
        rig.settle();
        let (own, _) = both(&mut rig, conn);
        assert_eq!((own.queued_cost, own.queued_cost_max), (0, cost_max));
        assert_eq!(own.pressures, 0);
    }
}

fn pressure_is_counted_where_it_begins(kind: Kind) {
    let mut rig = limited(kind, SlowConsumer::Refuse);
    let (peer, conn) = rig.client();
    for pressures in 1..4 {
        let net = rig.event_loop.net();
        assert_eq!(net.write(conn, &[1; HIGH - OVERHEAD]), Sent::Queued);
        assert_eq!(net.conn_stats(conn).expect("it is open").pressures, pressures - 1);
        for _ in 0..3 {
            assert_eq!(net.write(conn, b"+"), Sent::Pressured);
        }
        assert_eq!(net.write(conn, &[1; 2500]), Sent::Refused, "under pressure already");
        let (own, all) = both(&mut rig, conn);
        assert_eq!((own.pressures, all.pressures), (pressures, pressures.into()));
        assert_eq!((own.refused_writes, all.refused_writes), (pressures, pressures.into()));
        rig.until("it", |rig| rig.received(peer).len() as u64 == own.accepted_bytes);
        rig.settle();
        assert_eq!(rig.handler.writables(conn), pressures as usize);
    }
}

fn a_refused_write_begins_pressure_if_it_can_ever_fit(kind: Kind) {
    let mut rig = limited(kind, SlowConsumer::Refuse);
    let (_, conn) = rig.client();
    let net = rig.event_loop.net();
    assert_eq!(net.write(conn, &[1; HARD]), Sent::Refused);
    let (own, all) = both(&mut rig, conn);
    assert_eq!((own.refused_writes, own.pressures, all.pressures), (1, 0, 0));
    let net = rig.event_loop.net();
    assert_eq!(net.write(conn, &[1; 500]), Sent::Queued);
    assert_eq!(net.write(conn, &[1; HARD - OVERHEAD]), Sent::Refused);
    let (own, all) = both(&mut rig, conn);
    assert_eq!((own.refused_writes, own.pressures, all.pressures), (2, 1, 1));
    assert_eq!(own.queued_cost_max, 500 + OVERHEAD, "nothing of what was refused");
}

fn a_write_refused_for_the_loops_buffers_is_counted_as_pressure(kind: Kind) {
    let mut rig = Rig::with(kind, Config::default().global_buffer_bytes(8000));
    let (_, one) = rig.client();
    let (_, other) = rig.client();
    let net = rig.event_loop.net();
    assert_eq!(net.write(one, &[1; 6000]), Sent::Queued);
    assert_eq!(net.write(other, &[1; 6000]), Sent::Refused);
    assert_eq!(net.write(other, &[1; 6000]), Sent::Refused);
    let (own, all) = both(&mut rig, other);
    assert_eq!((own.refused_writes, own.pressures), (2, 1));
    assert_eq!((all.refused_writes, all.pressures), (2, 1));
    let (own, _) = both(&mut rig, one);
    assert_eq!((own.refused_writes, own.pressures), (0, 0), "another's");
}

fn a_pause_is_counted_once_until_the_resume(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (_, conn) = rig.client();
    let (_, other) = rig.client();
    for pauses in 1..4 {
        let net = rig.event_loop.net();
        assert!(net.pause_reading(conn) && net.pause_reading(conn));
        let (own, all) = both(&mut rig, conn);
        assert_eq!((own.pauses, all.pauses), (pauses, pauses.into()));
        assert!(rig.event_loop.net().resume_reading(conn));
    }
    assert_eq!(both(&mut rig, other).0.pauses, 0);
    let net = rig.event_loop.net();
    net.abort(conn);
    assert!(!net.pause_reading(conn));
    assert_eq!(net.stats().pauses, 3);
}

fn in_on_close_the_account_is_complete(kind: Kind) {
    let mut rig = limited(kind, SlowConsumer::Close);
    let (peer, conn) = rig.client();
    rig.stop_reading(peer);
    let last = Rc::new(Cell::new(ConnStats::default()));
    let seen = Rc::clone(&last);
    rig.handler.on_close = Some(Box::new(move |net, conn, _| {
        seen.set(net.conn_stats(conn).expect("getters work"));
    }));
    let net = rig.event_loop.net();
    net.write(conn, &[1; 1000]);
    net.write(conn, &[1; 500]);
    net.abort(conn);
    rig.until_closed(conn);
    let own = last.get();
    assert_eq!((own.accepted_bytes, own.sent_bytes, own.dropped_bytes), (1500, 0, 1500));
    assert_eq!((own.queued_bytes, own.queued_cost), (0, 0));
    assert_eq!(own.queued_cost_max, 1500 + OVERHEAD);
    assert_eq!(rig.event_loop.net().stats().dropped_bytes, 1500);
}

fn an_age_is_counted_from_the_accept_or_the_start_of_the_connect(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (_, accepted) = rig.client();
    let hole = rig.black_hole();
    let dialled = rig.event_loop.net().connect(hole).expect("there are slots");
    for (passed, expected) in [(0, 0), (2, 2), (3, 5)] {
        rig.advance(passed * SECOND);
        let expected = expected * SECOND;
        for conn in [accepted, dialled] {
            let age = both(&mut rig, conn).0.age;
            assert!(age >= expected && age < expected + AGE_STEP, "{conn}: {age:?}");
        }
    }
}

// Accepting.

fn every_pause_of_a_listener_is_counted(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.fail_accepts(&[errno::EMFILE; 2]);
    rig.dial();
    for (pauses, delay) in [(1, 10), (2, 20)] {
        rig.settle();
        let stats = rig.event_loop.net().stats();
        assert_eq!((stats.accept_pauses, stats.accept_errors), (pauses, pauses));
        assert_eq!((stats.listeners, stats.paused_listeners), (1, 1));
        rig.pass(delay * MS);
    }
    let stats = rig.event_loop.net().stats();
    assert_eq!((stats.accepted, stats.accept_pauses, stats.paused_listeners), (1, 2, 0));
}

fn the_connection_limit_pauses_and_a_close_ends_it(kind: Kind) {
    let mut rig = Rig::with(kind, Config::default().max_connections(1));
    let (_, conn) = rig.client();
    rig.dial();
    rig.until("a pause", |rig| rig.event_loop.net().stats().paused_listeners == 1);
    let stats = rig.event_loop.net().stats();
    assert_eq!((stats.accept_pauses, stats.accept_errors), (1, 0));
    rig.event_loop.net().abort(conn);
    rig.until("the other", |rig| rig.handler.accepted.len() == 2);
    rig.settle();
    let stats = rig.event_loop.net().stats();
    assert_sums(&stats);
    // It was tried once more whether another one waits.
    assert_eq!((stats.accepted, stats.connections), (2, 1));
    assert_eq!(stats.accept_pauses, 2);
}

fn a_paused_listener_that_is_closed_is_none(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.fail_accepts(&[errno::EMFILE]);
    rig.dial();
    rig.settle();
    assert_eq!(rig.event_loop.net().stats().paused_listeners, 1);
    assert!(rig.event_loop.net().close_listener(rig.listener));
    let stats = rig.event_loop.net().stats();
    assert_eq!((stats.listeners, stats.paused_listeners, stats.accept_pauses), (0, 0, 1));
}

// Sleeping.

fn time_asleep_is_the_time_of_waits_to_the_nanosecond(kind: Kind) {
    let mut rig = quiet(kind);
    wait(&mut rig, 250 * MS + NANO);
    assert_eq!(slept(&mut rig), (1, 250 * MS + NANO, 1), "nothing came, nothing was due");
    rig.advance(SECOND);
    wait(&mut rig, 7 * NANO);
    assert_eq!(slept(&mut rig), (2, 250 * MS + 8 * NANO, 2), "time between turns is no sleep");
}

fn a_look_without_a_wait_is_no_sleep(kind: Kind) {
    let mut rig = quiet(kind);
    rig.advance(SECOND);
    wait(&mut rig, Duration::ZERO);
    assert_eq!(slept(&mut rig), (0, Duration::ZERO, 1));
    rig.event_loop.net().again();
    wait(&mut rig, SECOND);
    assert_eq!(slept(&mut rig), (0, Duration::ZERO, 1), "it was asked for");
}

fn a_timer_ends_a_sleep_and_its_turn_is_not_empty(kind: Kind) {
    let mut rig = quiet(kind);
    rig.event_loop.net().start_timer(40 * MS, 1);
    wait(&mut rig, SECOND);
    assert_eq!(slept(&mut rig), (1, 40 * MS, 0));
    rig.event_loop.net().start_timer(Duration::ZERO, 2);
    wait(&mut rig, SECOND);
    assert_eq!(slept(&mut rig), (1, 40 * MS, 0), "it was due");
}

fn the_deadline_of_a_connection_is_work(kind: Kind) {
    let mut rig = with(kind, ConnOptions::default().idle_timeout(30 * MS));
    let (peer, conn) = rig.client();
    rig.settle();
    let before = rig.event_loop.net().stats();
    rig.advance(20 * MS);
    rig.send(peer, b"x");
    rig.look();
    wait(&mut rig, SECOND);
    let stats = rig.event_loop.net().stats().since(&before);
    assert_eq!((stats.sleeps, stats.asleep), (1, 10 * MS), "the old deadline, which has moved");
    wait(&mut rig, SECOND);
    let stats = rig.event_loop.net().stats().since(&before);
    assert_eq!((stats.sleeps, stats.asleep), (2, 30 * MS));
    ended(&mut rig, conn, CloseReason::Timeout(TimeoutKind::Idle));
}

/// What a callback spends, in a world whose clock it can move.
fn time_in_callbacks_is_no_sleep(kind: Kind) {
    let mut rig = quiet(kind);
    let (peer, _) = rig.client();
    rig.settle();
    let before = rig.event_loop.net().stats();
    let world = rig.world().clone();
    rig.handler.on_data = Some(Box::new(move |_, _, data| {
        world.advance(3 * SECOND);
        data.len()
    }));
    rig.send(peer, b"one");
    wait(&mut rig, SECOND);
    // A wait without a bound, which an event ends at once.
    rig.send(peer, b"two");
    wait(&mut rig, Duration::MAX);
    // And one with a bound.
    wait(&mut rig, 10 * MS);
    let stats = rig.event_loop.net().stats().since(&before);
    assert_eq!((stats.sleeps, stats.asleep, stats.empty_turns), (3, 10 * MS, 1));
}

fn a_wait_without_a_bound_sleeps_until_its_event(kind: Kind) {
    let mut rig = quiet(kind);
    let (peer, _) = rig.client();
    rig.settle();
    let before = rig.event_loop.net().stats();
    let sim = rig.sim();
    sim.world.default_link(Link::instant().latency(5 * MS));
    sim.world.send(sim.peer(peer), b"late");
    rig.until("it", |rig| {
        wait(rig, Duration::MAX);
        rig.handler.consumed == b"late"
    });
    let stats = rig.event_loop.net().stats().since(&before);
    assert_eq!((stats.asleep, stats.empty_turns), (5 * MS, 0));
    assert_eq!(stats.sleeps, stats.turns);
}

/// The system's clock: it was asked before the wait and behind it.
fn time_asleep_is_within_the_time_that_passed(kind: Kind) {
    let mut rig = quiet(kind);
    let (peer, _) = rig.client();
    rig.handler.echo();
    let (before, from) = (rig.event_loop.net().stats(), rig.event_loop.net().now());
    for _ in 0..20 {
        rig.send(peer, b"x");
        wait(&mut rig, MS);
    }
    let net = rig.event_loop.net();
    let (stats, passed) = (net.stats().since(&before), net.now().since(from));
    assert!(stats.sleeps > 0 && stats.sleeps <= stats.turns, "{stats}");
    assert!(stats.asleep > Duration::ZERO && stats.asleep <= passed, "{passed:?} for {stats}");
}

/// A loop that has settled and its counts from there on: `slept` adds from zero.
fn quiet(kind: Kind) -> Rig {
    let mut rig = Rig::new(kind);
    rig.settle();
    rig
}

fn wait(rig: &mut Rig, max_wait: Duration) {
    rig.event_loop.turn(&mut rig.handler, max_wait).expect("the loop runs");
}

/// Sleeps, the time of them, and empty turns; the rig's own ten looks apart.
fn slept(rig: &mut Rig) -> (u64, Duration, u64) {
    let stats = rig.event_loop.net().stats();
    (stats.sleeps, stats.asleep, stats.empty_turns - 10)
}

fn with(kind: Kind, options: ConnOptions) -> Rig {
    Rig::with(kind, Config::default().conn(options))
}

fn limited(kind: Kind, policy: SlowConsumer) -> Rig {
    let options = ConnOptions::default()
        .low_water_bytes(LOW)
        .high_water_bytes(HIGH)
        .hard_limit_bytes(HARD)
        .slow_consumer(policy);
    with(kind, options)
}

fn both(rig: &mut Rig, conn: ConnId) -> (ConnStats, LoopStats) {
    let net = rig.event_loop.net();
    let own = net.conn_stats(conn).expect("it is there");
    let accounted = own.sent_bytes + own.queued_bytes as u64 + own.dropped_bytes;
    assert_eq!(own.accepted_bytes, accounted);
    assert_eq!(own.queued_bytes, net.queued_bytes(conn));
    assert_eq!(own.queued_cost, net.queued_cost(conn));
    assert_sums(&net.stats());
    (own, net.stats())
}

/// One connection has ended, for this reason, and no other has.
fn ended(rig: &mut Rig, conn: ConnId, reason: CloseReason) {
    assert_eq!(rig.until_closed(conn).0, reason);
    let stats = rig.event_loop.net().stats();
    assert_sums(&stats);
    assert_eq!((stats.closed, stats.closes[reason], stats.connections), (1, 1, 0), "{stats}");
}

/// What holds at any time.
fn assert_sums(stats: &LoopStats) {
    let begun = stats.accepted + stats.connects + stats.adopted;
    assert_eq!(begun, stats.closed + stats.connections as u64);
    assert_eq!(stats.closes.total(), stats.closed);
    let accounted = stats.sent_bytes + stats.queued_bytes + stats.dropped_bytes;
    assert_eq!(stats.accepted_bytes, accounted);
    assert!(stats.paused_listeners <= stats.listeners);
    assert!(stats.empty_turns <= stats.turns && stats.sleeps <= stats.turns);
}

on_every_backend!(
    a_close_by_the_peer_is_counted,
    a_reset_is_counted,
    a_close_here_is_counted,
    an_abort_is_counted,
    an_idle_timeout_is_counted,
    a_linger_timeout_is_counted,
    a_slow_consumer_is_counted,
    a_message_that_is_too_long_is_counted,
    a_want_of_buffers_is_counted,
    a_peer_that_talks_on_is_counted,
    a_refused_connect_is_counted,
    a_panic_is_counted,
    a_panic_in_on_close_leaves_its_connection_counted,
    a_shutdown_is_counted,
    a_release_is_counted,
    each_of_many_ends_is_counted_once,
    an_echo_is_counted_by_bytes_and_calls,
    the_highest_cost_stays_when_the_queue_has_gone,
    pressure_is_counted_where_it_begins,
    a_refused_write_begins_pressure_if_it_can_ever_fit,
    a_write_refused_for_the_loops_buffers_is_counted_as_pressure,
    a_pause_is_counted_once_until_the_resume,
    in_on_close_the_account_is_complete,
    the_connection_limit_pauses_and_a_close_ends_it,
);

on_virtual_time!(
    a_connect_timeout_is_counted,
    a_write_stall_is_counted,
    an_age_is_counted_from_the_accept_or_the_start_of_the_connect,
    every_pause_of_a_listener_is_counted,
    a_paused_listener_that_is_closed_is_none,
    time_asleep_is_the_time_of_waits_to_the_nanosecond,
    a_look_without_a_wait_is_no_sleep,
    a_timer_ends_a_sleep_and_its_turn_is_not_empty,
    the_deadline_of_a_connection_is_work,
);

on_script!(
    a_kernel_that_gives_up_is_counted,
    an_error_without_a_reason_of_its_own_is_counted,
    time_in_callbacks_is_no_sleep,
);

tests_of!(a_wait_without_a_bound_sleeps_until_its_event: sim);
on_real_sockets!(time_asleep_is_within_the_time_that_passed);
