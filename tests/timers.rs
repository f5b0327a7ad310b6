//! Timers: in order, never early, exact in virtual time, gone when cancelled (contract C15), and
//! no obstacle to input and output (C12).

mod support;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use hotloop::{
    Checked, CloseReason, Config, ConnId, Handler, Loop, Missed, Net, Time, TimeoutKind, TimerId,
};
use support::{Call, Kind, Rig};

const MS: Duration = Duration::from_millis(1);
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The tokens of the timers that fired, in order.
fn fired(rig: &Rig) -> Vec<u64> {
    let tokens = rig.handler.calls.iter().filter_map(|call| match call {
        Call::Timer(_, token) => Some(*token),
        _ => None,
    });
    tokens.collect()
}

/// Numbers that look random and are the same each time (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

fn deadlines_fire_in_order_whatever_the_order_of_starts(kind: Kind) {
    let mut rig = Rig::new(kind);
    let net = rig.event_loop.net();
    for token in [5, 1, 4, 2, 3, 0] {
        net.start_timer(MS / 4 * u32::try_from(token).expect("small"), token);
    }
    rig.pass(5 * MS);
    assert_eq!(fired(&rig), [0, 1, 2, 3, 4, 5]);
}

fn equal_deadlines_fire_in_the_order_of_their_starts(kind: Kind) {
    let mut rig = Rig::new(kind);
    let net = rig.event_loop.net();
    let ids: Vec<TimerId> = (0..100).map(|token| net.start_timer(MS, token)).collect();
    for id in ids.iter().skip(7).step_by(10) {
        assert!(net.cancel_timer(*id));
    }
    // In the slots of the cancelled ones, and yet the last.
    net.start_timer(MS, 100);
    let repeating = net.start_repeating(MS, Missed::Skip, 101);
    net.start_timer(MS, 102);
    let expected: Vec<u64> = (0..=102).filter(|token| *token > 99 || token % 10 != 7).collect();
    if kind.is_virtual() {
        rig.advance(MS);
    }
    rig.until("the last", |rig| fired(rig).len() >= expected.len());
    rig.event_loop.net().cancel_timer(repeating);
    assert_eq!(fired(&rig)[..expected.len()], expected);
}

fn a_delay_of_zero_means_the_next_turn_and_no_earlier(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.on_timer = Some(Box::new(|net, _, token| {
        net.start_timer(Duration::ZERO, token + 1);
    }));
    rig.event_loop.net().start_timer(Duration::ZERO, 0);
    for turn in 0..10 {
        assert_eq!(rig.turn().callbacks, 1);
        assert_eq!(fired(&rig), (0..=turn).collect::<Vec<_>>());
    }
}

fn a_delay_of_zero_begun_by_data_means_the_next_turn(kind: Kind) {
    let mut rig = Rig::new(kind);
    let started = Rc::new(Cell::new(0));
    let (at, started_at) = (Rc::new(Cell::new(0)), Rc::clone(&started));
    rig.handler.on_data = Some(Box::new(move |net, _, data| {
        started_at.set(net.stats().turns);
        net.start_timer(Duration::ZERO, 0);
        data.len()
    }));
    let fired_at = Rc::clone(&at);
    rig.handler.on_timer = Some(Box::new(move |net, _, _| fired_at.set(net.stats().turns)));
    let (peer, _) = rig.client();
    rig.send(peer, b"x");
    rig.until("the timer", |rig| fired(rig).len() == 1);
    assert_eq!(at.get(), started.get() + 1);
}

fn a_timer_restarted_for_ever_leaves_input_its_turn(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.echo();
    rig.handler.on_timer = Some(Box::new(|net, _, token| {
        if token == 0 {
            net.start_timer(Duration::ZERO, token);
        }
    }));
    rig.event_loop.net().start_timer(Duration::ZERO, 0);
    // Far behind and never catching up: it fires in each turn as well.
    rig.event_loop.net().start_repeating(Duration::ZERO, Missed::Burst, 1);
    if kind.is_virtual() {
        rig.advance(MS);
    }
    let (peer, conn) = rig.client();
    for round in 0..20 {
        let before = fired(&rig).len();
        rig.send(peer, b"served");
        if kind.is_virtual() {
            rig.turn();
            assert_eq!(rig.handler.shown(conn).len(), round + 1, "in the very next turn");
            assert_eq!(fired(&rig)[before..], [1, 0], "and so do both timers");
        }
        let expected = b"served".repeat(round + 1);
        rig.until("the echo", |rig| rig.received(peer) == expected);
    }
}

fn a_flood_of_input_leaves_timers_their_turn(kind: Kind) {
    let mut rig = Rig::with(kind, Config::default().read_budget_bytes(1000));
    let (peer, _) = rig.client();
    rig.handler.on_timer = Some(Box::new(|net, _, token| {
        net.start_timer(Duration::ZERO, token + 1);
    }));
    rig.send(peer, &[0; 100_000]);
    rig.event_loop.net().start_timer(Duration::ZERO, 0);
    let began = rig.event_loop.net().stats().turns;
    rig.until("the flood", |rig| rig.handler.consumed.len() == 100_000);
    let turns = rig.event_loop.net().stats().turns - began;
    assert!(turns >= 100, "the budget spreads it over turns");
    assert_eq!(fired(&rig).len() as u64, turns, "once in each");
}

fn a_cancelled_timer_never_fires(kind: Kind) {
    let mut rig = Rig::new(kind);
    let net = rig.event_loop.net();
    let cancelled = [
        net.start_timer(Duration::ZERO, 0),
        net.start_timer(MS, 1),
        net.start_repeating(MS, Missed::Burst, 2),
    ];
    net.start_timer(MS, 3);
    for timer in cancelled {
        assert!(net.cancel_timer(timer), "it was live");
        assert!(!net.cancel_timer(timer), "and is not any more");
        assert_eq!(net.timer_deadline(timer), None);
    }
    rig.pass(3 * MS);
    assert_eq!(fired(&rig), [3]);
    assert_eq!(rig.event_loop.net().stats().timers, 0);
}

fn a_timer_cancelled_by_an_earlier_one_of_its_batch_never_fires(kind: Kind) {
    let mut rig = Rig::new(kind);
    let net = rig.event_loop.net();
    let first = net.start_timer(MS, 0);
    let second = net.start_timer(MS, 1);
    let third = net.start_repeating(MS, Missed::Skip, 2);
    net.start_timer(MS, 3);
    let answers = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&answers);
    rig.handler.on_timer = Some(Box::new(move |net, _, token| {
        let cancelled = [first, second, third].map(|timer| net.cancel_timer(timer));
        seen.borrow_mut().push((token, cancelled));
    }));
    rig.pass(4 * MS);
    let expected = [(0, [false, true, true]), (3, [false, false, false])];
    assert_eq!(*answers.borrow(), expected);
}

fn a_repeating_timer_cancelled_in_its_own_callback_stops(kind: Kind) {
    let mut rig = Rig::new(kind);
    let left = Cell::new(3);
    rig.handler.on_timer = Some(Box::new(move |net, timer, _| {
        left.set(left.get() - 1);
        if left.get() == 0 {
            assert!(net.cancel_timer(timer), "it repeats, so it is live");
            assert_eq!(net.timer_deadline(timer), None);
        }
    }));
    rig.event_loop.net().start_repeating(MS / 2, Missed::Skip, 9);
    for _ in 0..6 {
        rig.pass(MS);
    }
    assert_eq!(fired(&rig), [9, 9, 9]);
    assert_eq!(rig.event_loop.net().stats().timers, 0);
}

fn an_id_is_stale_once_its_timer_has_fired_for_good(kind: Kind) {
    let mut rig = Rig::new(kind);
    let once = rig.event_loop.net().start_timer(Duration::ZERO, 0);
    rig.handler.on_timer = Some(Box::new(|net, timer, token| {
        assert_eq!(net.timer_deadline(timer).is_some(), token == 1, "only the repeating one");
    }));
    let deadline = rig.event_loop.net().timer_deadline(once).expect("it is live");
    assert!(deadline <= rig.event_loop.net().now());
    rig.turn();
    let net = rig.event_loop.net();
    assert!(!net.cancel_timer(once));
    let next = net.start_repeating(MS, Missed::Skip, 1);
    assert_eq!(next.slot(), once.slot());
    assert_ne!(next, once);
    assert!(!net.cancel_timer(once), "the new owner of the slot is not hit");
    if kind.is_virtual() {
        rig.advance(MS);
    }
    rig.until("the first repeat", |rig| fired(rig).len() >= 2);
    assert!(rig.event_loop.net().cancel_timer(next));
}

fn a_conn_timer_dies_with_its_connection(kind: Kind) {
    type End = fn(&mut Rig, support::Peer, ConnId);
    let ends: [End; 5] = [
        |rig, _, conn| rig.event_loop.net().close(conn),
        |rig, _, conn| rig.event_loop.net().abort(conn),
        |rig, peer, _| rig.reset(peer),
        |rig, peer, _| rig.finish(peer),
        |rig, peer, conn| {
            // Over its limit, which ends it without a word of its own.
            rig.handler.on_data = Some(Box::new(|_, _, _| 0));
            rig.send(peer, &[0; 2 << 20]);
            rig.until("the limit", |rig| !rig.event_loop.net().is_open(conn));
        },
    ];
    for end in ends {
        let mut rig = Rig::new(kind);
        rig.handler.on_close = Some(Box::new(|net, conn, _| {
            assert_eq!(net.start_conn_timer(conn, Duration::ZERO, 8), None);
        }));
        let (peer, conn) = rig.client();
        let (_, alive) = rig.client();
        let net = rig.event_loop.net();
        let mut start = |delay, conn| net.start_conn_timer(conn, delay, 7).expect("it is open");
        // On a real clock the end itself takes time.
        let soon = if kind.is_virtual() { MS } else { YEAR };
        let timers = [start(soon, conn), start(2 * YEAR, conn), start(2 * soon, conn)];
        let kept = start(YEAR, alive);
        end(&mut rig, peer, conn);
        rig.until("the end", |rig| !rig.event_loop.net().is_open(conn));
        let net = rig.event_loop.net();
        assert_eq!(timers.map(|timer| net.timer_deadline(timer)), [None; 3]);
        assert_eq!(net.start_conn_timer(conn, Duration::ZERO, 8), None);
        assert!(net.timer_deadline(kept).is_some(), "another connection's timer stays");
        if kind.is_virtual() {
            rig.pass(4 * soon);
        }
        assert_eq!(fired(&rig), [0; 0]);
    }
}

fn a_conn_timer_of_the_next_owner_of_the_slot_is_another(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (_, first) = rig.client();
    let old = rig.event_loop.net().start_conn_timer(first, MS, 1).expect("it is open");
    rig.event_loop.net().abort(first);
    rig.until_closed(first);
    let (_, second) = rig.client();
    assert_eq!(second.slot(), first.slot());
    let net = rig.event_loop.net();
    assert_eq!(net.start_conn_timer(first, MS, 2), None);
    net.start_conn_timer(second, MS, 3).expect("it is open");
    assert!(!net.cancel_timer(old));
    rig.pass(2 * MS);
    assert_eq!(fired(&rig), [3]);
}

fn a_conn_timer_is_not_fired_by_the_batch_that_closes_its_connection(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (_, conn) = rig.client();
    rig.handler.on_timer = Some(Box::new(move |net, _, _| net.abort(conn)));
    let net = rig.event_loop.net();
    net.start_timer(MS, 1);
    net.start_conn_timer(conn, MS, 2).expect("it is open");
    rig.pass(2 * MS);
    assert_eq!(fired(&rig), [1]);
}

fn repeats_are_due_at_whole_periods_however_late_the_turns_are(kind: Kind) {
    for missed in [Missed::Skip, Missed::Burst] {
        let mut rig = Rig::new(kind);
        let period = 10 * MS;
        let repeating = rig.event_loop.net().start_repeating(period, missed, 0);
        let mut due = rig.event_loop.net().timer_deadline(repeating).expect("it is live");
        for late in [10, 3, 7, 12, 8, 19, 1, 10, 9, 10, 6] {
            rig.advance(late * MS);
            let before = fired(&rig).len();
            rig.turn();
            if rig.event_loop.net().now() >= due {
                due = due + period;
                assert_eq!(fired(&rig).len(), before + 1);
            } else {
                assert_eq!(fired(&rig).len(), before, "not early");
            }
            assert_eq!(rig.event_loop.net().timer_deadline(repeating), Some(due));
        }
    }
}

fn skipped_repeats_fire_once_and_then_at_the_next_whole_period(kind: Kind) {
    let mut rig = Rig::new(kind);
    let repeating = rig.event_loop.net().start_repeating(10 * MS, Missed::Skip, 0);
    let first = rig.event_loop.net().timer_deadline(repeating).expect("it is live");
    for (late_ms, next_ms) in [(45, 40), (5, 50), (30, 80), (1, 80), (9, 90)] {
        rig.advance(Duration::from_millis(late_ms));
        rig.settle();
        let next = rig.event_loop.net().timer_deadline(repeating).expect("it is live");
        assert_eq!(next.since(first), Duration::from_millis(next_ms));
    }
    assert_eq!(fired(&rig).len(), 4, "at 45, 50, 80 and 90 ms");
}

fn burst_repeats_fire_once_a_turn_until_they_have_caught_up(kind: Kind) {
    let mut rig = Rig::new(kind);
    let repeating = rig.event_loop.net().start_repeating(10 * MS, Missed::Burst, 0);
    let first = rig.event_loop.net().timer_deadline(repeating).expect("it is live");
    rig.advance(45 * MS);
    for count in [1, 2, 3, 4, 4, 4] {
        rig.turn();
        assert_eq!(fired(&rig).len(), count);
    }
    assert_eq!(rig.event_loop.net().timer_deadline(repeating), Some(first + 40 * MS));
    rig.pass(5 * MS);
    assert_eq!(fired(&rig).len(), 5);
}

fn a_wait_ends_exactly_at_the_deadline(kind: Kind) {
    let mut rig = Rig::new(kind);
    let period = Duration::from_nanos(1_234_567);
    let repeating = rig.event_loop.net().start_repeating(period, Missed::Skip, 0);
    let first = rig.event_loop.net().timer_deadline(repeating).expect("it is live");
    for count in 0..1000 {
        rig.event_loop.turn(&mut rig.handler, Duration::MAX).expect("the loop runs");
        assert_eq!(rig.event_loop.net().now(), first + period * count);
        assert_eq!(fired(&rig).len(), count as usize + 1);
    }
}

fn a_nanosecond_short_of_the_deadline_nothing_fires(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.event_loop.net().start_timer(MS, 0);
    rig.pass(MS - Duration::from_nanos(1));
    assert_eq!(fired(&rig), [0; 0]);
    rig.pass(Duration::from_nanos(1));
    assert_eq!(fired(&rig), [0]);
}

fn the_longest_delay_never_fires_and_bounds_no_wait(kind: Kind) {
    let mut rig = Rig::new(kind);
    let net = rig.event_loop.net();
    let never = net.start_timer(Duration::MAX, 0);
    net.start_repeating(Duration::MAX, Missed::Burst, 1);
    assert_eq!(net.timer_deadline(never), Some(Time::NEVER));
    assert_eq!(rig.event_loop.next_wait(), None);
    let from = rig.event_loop.net().now();
    rig.event_loop.net().start_timer(5 * MS, 2);
    assert_eq!(rig.event_loop.next_wait(), Some(5 * MS));
    rig.event_loop.turn(&mut rig.handler, Duration::MAX).expect("the loop runs");
    assert_eq!(fired(&rig), [2]);
    assert_eq!(rig.event_loop.net().now().since(from), 5 * MS);
    rig.event_loop.turn(&mut rig.handler, 100 * YEAR).expect("the loop runs");
    assert_eq!(rig.event_loop.net().now().since(from), 100 * YEAR + 5 * MS);
    rig.advance(Duration::MAX);
    rig.settle();
    assert_eq!(fired(&rig), [2]);
    assert_eq!(rig.event_loop.net().stats().timers, 2);
    assert!(rig.event_loop.net().cancel_timer(never));
}

fn a_timer_years_ahead_fires_then(kind: Kind) {
    let mut rig = Rig::new(kind);
    let from = rig.event_loop.net().now();
    for years in [3, 1, 500] {
        rig.event_loop.net().start_timer(YEAR * years, u64::from(years));
    }
    for (count, years) in [1, 3, 500].into_iter().enumerate() {
        rig.event_loop.turn(&mut rig.handler, Duration::MAX).expect("the loop runs");
        assert_eq!(fired(&rig).len(), count + 1);
        assert_eq!(rig.event_loop.net().now().since(from), YEAR * years);
    }
    assert_eq!(fired(&rig), [1, 3, 500]);
}

/// On real sockets only; epoll's timeouts are clamped (`epoll_wait(2)`).
fn a_timer_years_ahead_disturbs_no_wait_of_the_kernel(kind: Kind) {
    let mut rig = Rig::new(kind);
    let net = rig.event_loop.net();
    net.start_timer(Duration::MAX, 0);
    net.start_timer(500 * YEAR, 1);
    net.start_timer(2 * MS, 2);
    rig.event_loop.turn(&mut rig.handler, Duration::MAX).expect("the loop runs");
    rig.until("the near one", |rig| !fired(rig).is_empty());
    rig.settle();
    assert_eq!(fired(&rig), [2]);
    assert!(rig.event_loop.next_wait().is_some_and(|wait| wait > 499 * YEAR));
}

fn timers_due_behind_a_long_callback_fire_once_in_order(kind: Kind) {
    let mut rig = Rig::new(kind);
    let world = rig.world().clone();
    let net = rig.event_loop.net();
    for (delay_ms, token) in [(300, 3), (1, 0), (100, 1), (700, 4), (200, 2)] {
        net.start_timer(Duration::from_millis(delay_ms), token);
    }
    rig.handler.on_timer = Some(Box::new(move |_, _, token| {
        if token == 0 {
            world.advance(500 * MS);
        }
    }));
    rig.pass(MS);
    assert_eq!(fired(&rig), [0, 1, 2, 3]);
    rig.pass(199 * MS);
    assert_eq!(fired(&rig), [0, 1, 2, 3, 4]);
}

/// The deadline of the connection waits in the same batch when it is moved to another moment,
/// which has passed as well.
fn a_deadline_moved_by_an_earlier_timer_of_its_batch_comes_once(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (_, conn) = rig.client();
    let net = rig.event_loop.net();
    assert!(net.set_idle_timeout(conn, 10 * MS));
    net.start_timer(9 * MS, 1);
    rig.handler.on_timer = Some(Box::new(move |net, _, token| {
        if token == 1 {
            assert!(net.set_idle_timeout(conn, 5 * MS));
            // Takes the slot of the one that fires.
            net.start_timer(MS, 2);
        }
    }));
    rig.pass(12 * MS);
    assert_eq!(rig.until_closed(conn).0, CloseReason::Timeout(TimeoutKind::Idle));
    let net = rig.event_loop.net();
    assert_eq!(net.stats().timers, 1);
    (3..6).for_each(|token| _ = net.start_timer(MS, token));
    rig.pass(MS);
    assert_eq!(fired(&rig), [1, 2, 3, 4, 5]);
    assert_eq!(rig.event_loop.net().stats().timers, 0);
}

fn a_delay_counts_from_the_clock_that_was_read_last(kind: Kind) {
    let mut rig = Rig::new(kind);
    let world = rig.world().clone();
    let seen = Rc::new(Cell::new(None));
    let deadlines = Rc::clone(&seen);
    rig.handler.on_timer = Some(Box::new(move |net, _, _| {
        let turn_began = net.now();
        world.advance(50 * MS);
        assert_eq!(net.now(), turn_began, "the clock is read once a turn");
        let before = net.start_timer(MS, 1);
        assert_eq!(net.refresh_now(), turn_began + 50 * MS);
        let after = net.start_timer(MS, 2);
        let of = |timer| net.timer_deadline(timer).map(|due| due.since(turn_began));
        seen.set(of(before).zip(of(after)));
    }));
    rig.event_loop.net().start_timer(Duration::ZERO, 0);
    rig.turn();
    assert_eq!(deadlines.get(), Some((MS, 51 * MS)));
}

fn between_turns_a_delay_counts_from_a_fresh_clock(kind: Kind) {
    let mut rig = Rig::new(kind);
    let from = rig.event_loop.net().now();
    rig.advance(20 * MS);
    let net = rig.event_loop.net();
    let timer = net.start_timer(10 * MS, 0);
    assert_eq!(net.timer_deadline(timer), Some(from + 30 * MS));
    rig.pass(9 * MS);
    assert_eq!(fired(&rig), [0; 0]);
    rig.pass(MS);
    assert_eq!(fired(&rig), [0]);
}

fn timers_outlast_a_stop(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.on_timer = Some(Box::new(|net, _, token| {
        if token < 3 {
            net.stop();
        }
    }));
    let net = rig.event_loop.net();
    net.start_timer(MS, 1);
    net.start_timer(2 * MS, 2);
    net.start_timer(3 * MS, 3);
    let listener = rig.listener;
    rig.event_loop.net().close_listener(listener);
    let mut runs = 0;
    while fired(&rig).len() < 3 {
        assert!(rig.event_loop.net().stats().timers > 0);
        rig.event_loop.run(&mut rig.handler).expect("the loop runs");
        runs += 1;
    }
    assert_eq!(fired(&rig), [1, 2, 3]);
    assert!(runs <= 3 && (runs == 3 || !kind.is_virtual()), "each stop ends a run: {runs}");
}

fn run_returns_when_the_last_timer_has_fired(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.on_timer = Some(Box::new(|net, _, token| {
        if token < 5 {
            net.start_timer(MS / 2, token + 1);
        }
    }));
    let listener = rig.listener;
    rig.event_loop.net().close_listener(listener);
    rig.event_loop.run(&mut rig.handler).expect("there is nothing to do");
    rig.event_loop.net().start_timer(MS / 2, 0);
    rig.event_loop.run(&mut rig.handler).expect("the loop runs");
    assert_eq!(fired(&rig), [0, 1, 2, 3, 4, 5]);
}

/// Starts and cancels at random, beside a list that is sorted for each comparison.
fn any_mix_of_starts_and_cancels_fires_as_a_sorted_list_would(kind: Kind) {
    let mut rig = Rig::new(kind);
    let mut random = Random(0x5eed);
    let mut model: Vec<(Time, u64, TimerId)> = Vec::new();
    for token in 0..3000 {
        let delay = Duration::from_nanos(random.below(200) * 100);
        let net = rig.event_loop.net();
        let timer = net.start_timer(delay, token);
        model.push((net.now() + delay, token, timer));
        if random.below(3) == 0 {
            let at = usize::try_from(random.below(model.len() as u64)).expect("small");
            assert!(net.cancel_timer(model.swap_remove(at).2));
        }
        if random.below(4) == 0 {
            let before = fired(&rig).len();
            rig.pass(Duration::from_nanos(random.below(5000)));
            let now = rig.event_loop.net().now();
            model.sort_by_key(|(deadline, token, _)| (*deadline, *token));
            let due = model.iter().take_while(|(deadline, ..)| *deadline <= now).count();
            let expected: Vec<u64> = model.drain(..due).map(|(_, token, _)| token).collect();
            assert_eq!(fired(&rig)[before..], expected);
        }
    }
    assert_eq!(rig.event_loop.net().stats().timers, model.len());
}

/// Keeps timers with random delays of less than 5 ms going, and checks each that fires.
struct NeverEarly {
    random: Random,
    deadlines: Vec<Time>,
    left: usize,
    /// A reading of the system's clock, and one of the loop's that came after it.
    origin: (Instant, Time),
}

impl NeverEarly {
    fn start(&mut self, net: &mut Net) {
        let delay = Duration::from_nanos(self.random.below(5_000_000));
        net.start_timer(delay, self.deadlines.len() as u64);
        self.deadlines.push(net.now() + delay);
    }
}

impl Handler for NeverEarly {
    fn on_data(&mut self, _: &mut Net, _: ConnId, data: &[u8]) -> usize {
        data.len()
    }

    fn on_timer(&mut self, net: &mut Net, _: TimerId, token: u64) {
        let deadline = self.deadlines[usize::try_from(token).expect("small")];
        assert!(net.now() >= deadline, "{} early", deadline.since(net.now()).as_nanos());
        let (system, of_loop) = self.origin;
        assert!(deadline.since(of_loop) <= system.elapsed(), "early on the system's clock");
        if self.deadlines.len() < self.left {
            net.refresh_now();
            self.start(net);
        }
    }
}

/// On real sockets only: only a real clock can be early.
fn no_timer_is_early_on_a_real_clock(kind: Kind) {
    let config = kind.real(Config::default());
    let mut event_loop = Loop::new(config).expect("a loop");
    let before = Instant::now();
    let origin = (before, event_loop.net().now());
    let (random, deadlines) = (Random(0xc10c), Vec::new());
    let early = NeverEarly { random, deadlines, left: 10_000, origin };
    let mut handler = Checked::new(early);
    for _ in 0..100 {
        handler.start(event_loop.net());
    }
    event_loop.run(&mut handler).expect("the loop runs until the last has fired");
    assert_eq!(handler.deadlines.len(), 10_000);
    assert_eq!(event_loop.net().stats().timers_fired, 10_000);
}

on_every_backend!(
    deadlines_fire_in_order_whatever_the_order_of_starts,
    equal_deadlines_fire_in_the_order_of_their_starts,
    a_delay_of_zero_means_the_next_turn_and_no_earlier,
    a_delay_of_zero_begun_by_data_means_the_next_turn,
    a_timer_restarted_for_ever_leaves_input_its_turn,
    a_flood_of_input_leaves_timers_their_turn,
    a_cancelled_timer_never_fires,
    a_timer_cancelled_by_an_earlier_one_of_its_batch_never_fires,
    a_repeating_timer_cancelled_in_its_own_callback_stops,
    an_id_is_stale_once_its_timer_has_fired_for_good,
    a_conn_timer_dies_with_its_connection,
    a_conn_timer_of_the_next_owner_of_the_slot_is_another,
    a_conn_timer_is_not_fired_by_the_batch_that_closes_its_connection,
    timers_outlast_a_stop,
    run_returns_when_the_last_timer_has_fired,
);

on_virtual_time!(
    repeats_are_due_at_whole_periods_however_late_the_turns_are,
    skipped_repeats_fire_once_and_then_at_the_next_whole_period,
    burst_repeats_fire_once_a_turn_until_they_have_caught_up,
    a_wait_ends_exactly_at_the_deadline,
    a_nanosecond_short_of_the_deadline_nothing_fires,
    the_longest_delay_never_fires_and_bounds_no_wait,
    a_timer_years_ahead_fires_then,
    a_deadline_moved_by_an_earlier_timer_of_its_batch_comes_once,
    between_turns_a_delay_counts_from_a_fresh_clock,
    any_mix_of_starts_and_cancels_fires_as_a_sorted_list_would,
);

// They let time pass inside a callback.
on_script!(
    timers_due_behind_a_long_callback_fire_once_in_order,
    a_delay_counts_from_the_clock_that_was_read_last,
);

on_real_sockets!(
    a_timer_years_ahead_disturbs_no_wait_of_the_kernel,
    no_timer_is_early_on_a_real_clock,
);
