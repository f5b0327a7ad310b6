//! Uptime: timers and deadlines do the same thing at any reading of the clock, across 2^30, 2^31,
//! 2^32 and 2^36 milliseconds, and up to the largest one (contract C15).

mod support;

use std::cell::Cell;
use std::time::Duration;

use hotloop::{CloseReason, Config, ConnOptions, Limit, Missed, Time, TimeoutKind};
use support::{Call, Kind, Rig, errno};

const MS: Duration = Duration::from_millis(1);
const MS_NANOS: u64 = 1_000_000;
/// How long the story of [`trace`] is.
const STORY: Duration = Duration::from_millis(90);

/// A rig whose clock reads `start` nanoseconds.
fn rig_at(kind: Kind, start: u64) -> Rig {
    let options = ConnOptions::default()
        .idle_timeout(20 * MS)
        .write_stall_timeout(30 * MS)
        .connect_timeout(15 * MS)
        .linger_timeout(10 * MS);
    let mut rig = Rig::with(kind, Config::default().conn(options));
    let read = rig.event_loop.net().now().as_nanos();
    rig.advance(Duration::from_nanos(start - read));
    assert_eq!(rig.event_loop.net().now(), Time::from_nanos(start));
    rig
}

/// What happens when, counted from the start, to a loop whose clock reads `start` at first: all
/// kinds of timers and of deadlines, in waits that end at each of them, and a callback that makes
/// the loop late.
fn trace(kind: Kind, start: u64) -> Vec<(Duration, Call)> {
    let mut rig = rig_at(kind, start);
    let began = rig.event_loop.net().now();
    connections(&mut rig);
    timers(&mut rig);
    let mut trace = Vec::new();
    while rig.event_loop.net().now().since(began) < STORY {
        rig.event_loop.turn(&mut rig.handler, STORY).expect("the loop runs");
        let at = rig.event_loop.net().now().since(began);
        trace.extend(rig.handler.calls.drain(..).map(|call| (at, call)));
        assert!(trace.len() < 1000, "it spins");
    }
    trace
}

/// One that is idle for a while, one that stalls, one that lingers, one whose connect is never
/// answered, and one that a listener accepts only behind a pause.
fn connections(rig: &mut Rig) {
    let (_, idle) = rig.client();
    let (stuck, stalling) = rig.client();
    let (_, lingering) = rig.client();
    rig.stop_reading(stuck);
    let nowhere = rig.refusing();
    rig.world().black_hole(nowhere);
    let net = rig.event_loop.net();
    net.set_idle_timeout(stalling, Limit::Unlimited);
    net.write(stalling, b"is not taken");
    net.start_conn_timer(idle, 3 * MS, 30);
    net.start_conn_timer(idle, 39 * MS, 31);
    net.close(lingering);
    net.connect(nowhere).expect("there are slots");
    let world = rig.world().clone();
    world.fail_accepts(rig.addr, &[errno::EMFILE]);
    rig.dial();
    rig.handler.on_timer = Some(Box::new(move |net, timer, token| match token {
        // Keeps the idle one open for longer.
        10 => _ = net.write(idle, b"ping"),
        // The loop comes late to everything in between.
        26 => world.advance(20 * MS),
        33 => assert!(net.cancel_timer(timer)),
        _ => {}
    }));
}

fn timers(rig: &mut Rig) {
    let net = rig.event_loop.net();
    for delay_ms in [1, 25, 10, 26, 2, 40, 27, 41, 0] {
        net.start_timer(Duration::from_millis(delay_ms), delay_ms);
    }
    net.start_timer(MS / 1000 + Duration::from_nanos(1), 32);
    net.start_timer(Duration::MAX, 999);
    net.start_repeating(7 * MS, Missed::Skip, 7);
    net.start_repeating(8 * MS, Missed::Burst, 8);
    net.start_repeating(9 * MS, Missed::Burst, 33);
    let cancelled = net.start_timer(24 * MS, 999);
    assert!(net.cancel_timer(cancelled));
}

fn ended(trace: &[(Duration, Call)], wanted: TimeoutKind) -> Option<Duration> {
    trace.iter().find_map(|(at, call)| match call {
        Call::Close(_, CloseReason::Timeout(kind), _) if *kind == wanted => Some(*at),
        _ => None,
    })
}

fn fired(trace: &[(Duration, Call)], token: u64) -> Vec<u128> {
    let of_token = |call: &Call| matches!(call, Call::Timer(_, its) if *its == token);
    trace.iter().filter(|(_, call)| of_token(call)).map(|(at, _)| at.as_millis()).collect()
}

/// The story that the other tests compare with, in its own right.
fn the_story_is_what_was_asked_for(kind: Kind) {
    let trace = trace(kind, 2_000_000_000);
    assert_eq!(ended(&trace, TimeoutKind::Linger), Some(10 * MS));
    assert_eq!(ended(&trace, TimeoutKind::Connect), Some(15 * MS));
    assert_eq!(ended(&trace, TimeoutKind::Idle), Some(46 * MS), "was due at 30");
    assert_eq!(ended(&trace, TimeoutKind::WriteStall), Some(46 * MS), "was due at 30");
    assert_eq!(fired(&trace, 10), [10]);
    assert_eq!((fired(&trace, 25), fired(&trace, 27)), (vec![25], vec![46]));
    assert_eq!(fired(&trace, 7)[..6], [7, 14, 21, 46, 49, 56]);
    assert_eq!(fired(&trace, 8)[..6], [8, 16, 24, 46, 46, 48]);
    assert_eq!((fired(&trace, 30), fired(&trace, 31)), (vec![3], vec![46]));
    assert_eq!(fired(&trace, 33), [9]);
    assert_eq!(fired(&trace, 999), []);
}

fn across_an_edge_of_the_clock_everything_happens_as_ever(kind: Kind) {
    let expected = trace(kind, 2_000_000_000);
    let edges_ms = [30, 31, 32, 36].map(|power| (1u64 << power) * MS_NANOS);
    // And those of narrower counts of nanoseconds and microseconds, and of a signed one.
    let edges = [1 << 32, (1 << 32) * 1000, 1 << 63].into_iter().chain(edges_ms);
    for edge in edges {
        for before_ms in (0..50).step_by(2) {
            let start = edge - before_ms * MS_NANOS - 1;
            assert_eq!(trace(kind, start), expected, "{before_ms} ms before {edge} ns");
        }
    }
}

fn close_to_the_largest_reading_everything_happens_as_ever(kind: Kind) {
    let expected = trace(kind, 2_000_000_000);
    // As close as the longest deadline that is not to be cut off.
    assert_eq!(trace(kind, u64::MAX - 200 * MS_NANOS), expected);
}

fn what_would_be_due_past_the_largest_reading_never_happens(kind: Kind) {
    let mut rig = rig_at(kind, u64::MAX - 10 * MS_NANOS);
    rig.handler.echo();
    let (peer, conn) = rig.client();
    let (stuck, stalling) = rig.client();
    rig.stop_reading(stuck);
    let nowhere = rig.refusing();
    rig.world().black_hole(nowhere);
    let net = rig.event_loop.net();
    net.write(stalling, b"is not taken");
    let connecting = net.connect(nowhere).expect("there are slots");
    net.start_timer(5 * MS, 5);
    let past = net.start_timer(11 * MS, 999);
    let repeating = net.start_repeating(4 * MS, Missed::Burst, 4);
    let skipping = net.start_repeating(4 * MS, Missed::Skip, 4);
    let turns = Cell::new(0);
    while rig.event_loop.next_wait().is_some() {
        turns.set(turns.get() + 1);
        assert!(turns.get() < 100, "it spins");
        rig.event_loop.turn(&mut rig.handler, Duration::MAX).expect("the loop runs");
    }
    let is_timer = |call: &&Call| matches!(call, Call::Timer(..));
    let tokens: Vec<u64> = rig.handler.calls.iter().filter(is_timer).map(token).collect();
    assert_eq!(tokens, [4, 4, 5, 4, 4]);
    for timer in [past, repeating, skipping] {
        assert_eq!(rig.event_loop.net().timer_deadline(timer), Some(Time::NEVER));
    }
    rig.advance(Duration::MAX);
    rig.settle();
    assert_eq!(rig.event_loop.net().now(), Time::NEVER);
    assert_eq!(rig.handler.count(|call| matches!(call, Call::Timer(..))), 5);
    for conn in [conn, stalling, connecting] {
        assert!(rig.event_loop.net().is_open(conn), "its deadline has not come");
    }
    rig.send(peer, b"at the end of time");
    rig.until("the echo", |rig| rig.received(peer) == b"at the end of time");
}

fn token(call: &Call) -> u64 {
    match call {
        Call::Timer(_, token) => *token,
        _ => panic!("no timer: {call:?}"),
    }
}

// They let time pass inside a callback, and peers take nothing; tests/sim.rs has the edges too.
on_script!(
    the_story_is_what_was_asked_for,
    across_an_edge_of_the_clock_everything_happens_as_ever,
    close_to_the_largest_reading_everything_happens_as_ever,
    what_would_be_due_past_the_largest_reading_never_happens,
);
