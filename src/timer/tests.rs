//! The rules of timers one by one, and all of them at once against a plain list.

use std::time::Duration;

use super::*;

const SKIP: Missed = Missed::Skip;
const BURST: Missed = Missed::Burst;

fn at(nanos: u64) -> Time {
    Time::from_nanos(nanos)
}

fn task(token: u64) -> Task {
    Task::User { token }
}

fn conn(slot: u32, generation: u32) -> ConnId {
    ConnId(Key::new(Kind::Conn, slot, generation))
}

fn token(due: Due) -> u64 {
    match due.task {
        Task::User { token } => token,
        other => panic!("{other:?} is not the handler's"),
    }
}

/// One turn: the tokens that fire at `now`, in order.
fn turn(timers: &mut Timers, now: u64) -> Vec<u64> {
    timers.snapshot(at(now));
    std::iter::from_fn(|| timers.pop_due(at(now))).map(token).collect()
}

#[test]
fn a_timer_fires_at_its_very_nanosecond_and_not_before() {
    let mut timers = Timers::new();
    let id = timers.start(at(1_000), task(1));
    assert_eq!(turn(&mut timers, 999), []);
    assert_eq!((timers.deadline(id), timers.len()), (Some(at(1_000)), 1));
    assert_eq!(turn(&mut timers, 1_000), [1]);
    assert_eq!((timers.deadline(id), timers.len(), timers.cancel(id)), (None, 0, false));
}

#[test]
fn equal_deadlines_fire_in_start_order() {
    let mut timers = Timers::new();
    let ids: Vec<TimerId> = (0..50).map(|token| timers.start(at(9), task(token))).collect();
    assert!(timers.restart(ids[10], at(9)));
    assert!(timers.cancel(ids[20]));
    timers.start(at(9), task(50));
    let expected: Vec<u64> = (0..50).filter(|t| ![10, 20].contains(t)).chain([10, 50]).collect();
    assert_eq!(turn(&mut timers, 100), expected);
}

#[test]
fn timers_are_exact_at_every_edge_of_uptime() {
    for bits in [30, 31, 32, 36] {
        let edge = (1_u64 << bits) * 1_000_000;
        let mut timers = Timers::new();
        // One that was started at the beginning for long after the edge must not hold up others.
        timers.start(at(edge * 4), task(9));
        for (token, deadline) in [(3, edge + 1), (2, edge), (1, edge - 1), (4, edge + 1_000_000)] {
            timers.start(at(deadline), task(token));
        }
        assert_eq!(turn(&mut timers, edge - 2), [], "2^{bits} ms");
        assert_eq!(turn(&mut timers, edge - 1), [1], "2^{bits} ms");
        assert_eq!(turn(&mut timers, edge), [2], "2^{bits} ms");
        assert_eq!(timers.next_deadline(), Some(at(edge + 1)), "2^{bits} ms");
        assert_eq!(turn(&mut timers, edge + 1_000_000), [3, 4], "2^{bits} ms");
    }
}

#[test]
fn the_longest_delay_never_fires_yet_counts_and_can_be_cancelled() {
    let mut timers = Timers::new();
    let id = timers.start(at(5) + Duration::MAX, task(1));
    assert_eq!((timers.next_deadline(), timers.len()), (None, 1));
    assert_eq!(turn(&mut timers, u64::MAX), []);
    assert_eq!(timers.deadline(id), Some(Time::NEVER));
    assert!(timers.restart(id, at(7)));
    assert_eq!(timers.next_deadline(), Some(at(7)));
    assert!(timers.restart(id, Time::NEVER) && timers.cancel(id));
    assert!(timers.is_empty());
}

#[test]
fn a_timer_started_while_others_fire_waits_for_the_next_snapshot() {
    let mut timers = Timers::new();
    timers.start(at(0), task(1));
    timers.snapshot(at(10));
    assert_eq!(timers.pop_due(at(10)).map(token), Some(1));
    timers.start(at(10), task(2));
    assert_eq!(timers.pop_due(at(10)), None);
    assert_eq!(timers.next_deadline(), Some(at(10)));
    assert_eq!(turn(&mut timers, 10), [2]);
}

#[test]
fn a_due_timer_that_is_cancelled_does_not_fire_even_if_its_slot_is_reused() {
    let mut timers = Timers::new();
    let ids = [1, 2, 3].map(|token| timers.start(at(token), task(token)));
    timers.snapshot(at(5));
    assert_eq!(timers.pop_due(at(5)).map(token), Some(1));
    assert!(timers.cancel(ids[1]));
    assert!(!timers.cancel(ids[1]));
    let reused = timers.start(at(0), task(9));
    assert_eq!(reused.slot(), ids[1].slot());
    assert_eq!(timers.pop_due(at(5)).map(token), Some(3));
    assert_eq!(timers.pop_due(at(5)), None);
    assert_eq!(turn(&mut timers, 5), [9]);
}

#[test]
fn a_due_timer_that_is_restarted_fires_at_its_new_deadline_only() {
    let mut timers = Timers::new();
    let id = timers.start(at(1), task(1));
    timers.snapshot(at(5));
    assert!(timers.restart(id, at(20)));
    assert_eq!((timers.pop_due(at(5)), timers.next_deadline()), (None, Some(at(20))));
    assert_eq!((turn(&mut timers, 19), turn(&mut timers, 20)), (vec![], vec![1]));
    assert!(!timers.restart(id, at(30)));
}

#[test]
fn a_snapshot_that_was_left_off_goes_on_first_and_keeps_the_loop_awake() {
    let mut timers = Timers::new();
    let moved = timers.start(at(1), task(1));
    timers.start(at(2), task(2));
    timers.start(at(3), task(3));
    timers.snapshot(at(2));
    assert_eq!(timers.next_deadline(), Some(at(0)));
    assert!(timers.restart(moved, at(2)));
    assert_eq!(turn(&mut timers, 3), [2, 1, 3]);
    assert_eq!(timers.next_deadline(), None);
}

#[test]
fn the_due_list_does_not_grow_when_every_turn_is_left_off() {
    let mut timers = Timers::new();
    let id = timers.start(at(0), task(1));
    for now in 0..1_000 {
        timers.snapshot(at(now));
        assert!(timers.restart(id, at(now)));
    }
    assert!(timers.due.len() <= 1, "{}", timers.due.len());
}

#[test]
fn skipped_repeats_fire_once_and_stay_on_whole_periods() {
    let mut timers = Timers::new();
    let id = timers.start_repeating(at(100), 10, SKIP, task(1));
    assert_eq!(turn(&mut timers, 100), [1]);
    assert_eq!(timers.deadline(id), Some(at(110)));
    assert_eq!(turn(&mut timers, 147), [1]);
    assert_eq!(timers.deadline(id), Some(at(150)));
    assert_eq!(turn(&mut timers, 160), [1]);
    assert_eq!(timers.deadline(id), Some(at(170)), "after now, not at it");
}

#[test]
fn burst_repeats_fire_once_per_turn_until_they_have_caught_up() {
    let mut timers = Timers::new();
    let id = timers.start_repeating(at(100), 10, BURST, task(1));
    for deadline in [110, 120, 130] {
        assert_eq!(turn(&mut timers, 125), [1]);
        assert_eq!(timers.deadline(id), Some(at(deadline)));
    }
    assert_eq!(turn(&mut timers, 125), []);
}

#[test]
fn a_repeating_timer_is_armed_while_it_fires_so_it_can_be_cancelled() {
    let mut timers = Timers::new();
    let id = timers.start_repeating(at(1), 1, BURST, task(1));
    timers.snapshot(at(5));
    assert_eq!(timers.pop_due(at(5)), Some(Due { id, task: task(1) }));
    assert_eq!(timers.deadline(id), Some(at(2)));
    assert!(timers.cancel(id));
    assert_eq!((turn(&mut timers, 9), timers.len()), (vec![], 0));
}

#[test]
fn a_period_of_zero_counts_as_one_nanosecond() {
    let mut timers = Timers::new();
    let skip = timers.start_repeating(at(0), 0, SKIP, task(1));
    let burst = timers.start_repeating(at(0), 0, BURST, task(2));
    assert_eq!(turn(&mut timers, 1_000), [1, 2]);
    assert_eq!(timers.deadline(skip), Some(at(1_001)));
    assert_eq!(timers.deadline(burst), Some(at(1)));
}

#[test]
fn repeats_that_pass_the_end_of_time_never_come() {
    for (first, period, now) in [
        (5, u64::MAX, 5),
        (5, u64::MAX - 4, 6),
        (u64::MAX - 1, 1, u64::MAX - 1),
        (u64::MAX - 3, 2, u64::MAX),
    ] {
        for missed in [SKIP, BURST] {
            let mut timers = Timers::new();
            let id = timers.start_repeating(at(first), period, missed, task(1));
            assert_eq!(turn(&mut timers, now), [1]);
            let expected = first.saturating_add(period);
            let skipped = missed == SKIP && expected <= now;
            let expected = if skipped { u64::MAX } else { expected };
            assert_eq!(timers.deadline(id), Some(at(expected)), "{first} + {period} at {now}");
        }
    }
}

#[test]
fn a_clock_that_stands_still_or_goes_back_makes_nothing_fire_early() {
    let mut timers = Timers::new();
    let id = timers.start_repeating(at(50), 10, SKIP, task(1));
    timers.snapshot(at(55));
    assert_eq!(timers.pop_due(at(40)).map(token), Some(1));
    assert_eq!(timers.deadline(id), Some(at(60)));
}

#[test]
fn the_timers_of_a_connection_end_with_it_and_with_nothing_else() {
    let mut timers = Timers::new();
    let (one, other) = (conn(3, 1), conn(0, 1));
    let ids = [1, 2, 3, 4].map(|token| timers.start_owned(one, at(token), task(token)));
    timers.start_owned(other, at(1), task(5));
    timers.start(at(1), task(6));
    assert!(timers.cancel(ids[1]) && timers.cancel(ids[3]));
    timers.snapshot(at(1));
    timers.cancel_owned(one);
    timers.cancel_owned(conn(3, 2));
    timers.cancel_owned(conn(900, 1));
    assert_eq!((timers.len(), timers.deadline(ids[0])), (2, None));
    assert_eq!(turn(&mut timers, 9), [5, 6]);
}

#[test]
fn a_stale_owner_cancels_nothing_of_the_next_one() {
    let mut timers = Timers::new();
    timers.start_owned(conn(3, 1), at(1), task(1));
    timers.cancel_owned(conn(3, 1));
    timers.start_owned(conn(3, 2), at(1), task(2));
    timers.cancel_owned(conn(3, 1));
    assert_eq!(turn(&mut timers, 1), [2]);
    timers.cancel_owned(conn(3, 2));
}

#[test]
fn steady_use_takes_no_more_memory() {
    let mut timers = Timers::new();
    let mut capacities = Vec::new();
    for round in 0..200 {
        let ids: Vec<TimerId> =
            (0..100).map(|t| timers.start(at(round + t % 7), task(t))).collect();
        ids.iter().step_by(2).for_each(|id| assert!(timers.cancel(*id)));
        timers.start_owned(conn(5, 1), at(round), task(0));
        assert_eq!(turn(&mut timers, round + 7).len(), 51);
        capacities.push((
            timers.due.capacity(),
            timers.owned.capacity(),
            timers.armed.capacities(),
        ));
    }
    assert_eq!(capacities.last(), capacities.get(1));
}

/// What [`Timers`] has to do, done with lists that are searched.
#[derive(Default)]
struct Model {
    live: Vec<ModelTimer>,
    due: Vec<u64>,
    next_sequence: u64,
}

#[derive(Clone, Copy)]
struct ModelTimer {
    id: TimerId,
    token: u64,
    deadline: u64,
    sequence: u64,
    repeat: Option<(u64, Missed)>,
    owner: Option<ConnId>,
    is_due: bool,
}

impl Model {
    fn sequence(&mut self) -> u64 {
        self.next_sequence += 1;
        self.next_sequence
    }

    fn find(&mut self, id: TimerId) -> Option<&mut ModelTimer> {
        self.live.iter_mut().find(|timer| timer.id == id)
    }

    fn move_to(&mut self, id: TimerId, deadline: u64) -> bool {
        let sequence = self.sequence();
        let Some(timer) = self.find(id) else { return false };
        *timer = ModelTimer { deadline, sequence, is_due: false, ..*timer };
        true
    }

    fn cancel(&mut self, id: TimerId) -> bool {
        let before = self.live.len();
        self.live.retain(|timer| timer.id != id);
        self.live.len() < before
    }

    fn snapshot(&mut self, now: u64) {
        let mut found = Vec::new();
        for timer in &mut self.live {
            if !timer.is_due && timer.deadline <= now && timer.deadline != u64::MAX {
                timer.is_due = true;
                found.push((timer.deadline, timer.sequence));
            }
        }
        found.sort_unstable();
        self.due.extend(found.into_iter().map(|(_, sequence)| sequence));
    }

    fn pop(&mut self, now: u64) -> Option<(TimerId, u64)> {
        while !self.due.is_empty() {
            let sequence = self.due.remove(0);
            let found = self.live.iter().find(|t| t.is_due && t.sequence == sequence).copied();
            let Some(ModelTimer { id, token, deadline, repeat, .. }) = found else { continue };
            match repeat {
                None => self.cancel(id),
                Some((period, missed)) => {
                    self.move_to(id, repeat_of(deadline, period, missed, now))
                }
            };
            return Some((id, token));
        }
        None
    }

    fn next_deadline(&self) -> Option<Time> {
        if self.live.iter().any(|timer| timer.is_due) {
            return Some(at(0));
        }
        self.live.iter().map(|timer| timer.deadline).filter(|at| *at != u64::MAX).min().map(at)
    }
}

/// The next deadline, in numbers too wide to overflow.
fn repeat_of(deadline: u64, period: u64, missed: Missed, now: u64) -> u64 {
    let [deadline, period, now] = [deadline, period, now].map(u128::from);
    let skips = missed == SKIP && deadline <= now;
    let periods = if skips { (now - deadline) / period + 1 } else { 1 };
    u64::try_from(deadline + periods * period).unwrap_or(u64::MAX)
}

/// xorshift64*, enough to choose operations.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> Option<T> {
        let bound = u64::try_from(of.len()).expect("a length fits into 64 bits");
        (bound > 0).then(|| of[usize::try_from(self.below(bound)).expect("less than a length")])
    }
}

/// Drives the timers and their model through the same operations.
struct Pair {
    timers: Timers,
    model: Model,
    random: Random,
    now: u64,
    /// Every id there ever was, so that stale ones are tried too.
    ids: Vec<TimerId>,
    /// The generation of each connection slot.
    conns: [u32; 4],
    fired: usize,
}

impl Pair {
    fn new(seed: u64, now: u64) -> Pair {
        let (timers, model) = (Timers::new(), Model::default());
        let random = Random(seed);
        Pair { timers, model, random, now, ids: Vec::new(), conns: [1; 4], fired: 0 }
    }

    fn step(&mut self) {
        match self.random.below(16) {
            0..=3 => self.start(),
            4 => self.start_repeating(),
            5 | 6 => self.start_owned(),
            7 | 8 => self.cancel(),
            9 | 10 => self.restart(),
            11 => self.end_connection(),
            12 => self.now = self.now.saturating_add(self.random.below(40)),
            13 => self.snapshot(),
            _ => self.pop(),
        }
        assert_eq!(self.timers.len(), self.model.live.len());
        assert_eq!(self.timers.next_deadline(), self.model.next_deadline());
    }

    /// Mostly soon, so that equal ones are frequent; also long past, far off, and never.
    fn deadline(&mut self) -> u64 {
        match self.random.below(20) {
            0 => u64::MAX,
            1 => self.now.saturating_add(1 << self.random.below(64)),
            2 => 0,
            _ => self.now.saturating_add(self.random.below(30)),
        }
    }

    fn add(&mut self, id: TimerId, deadline: u64, repeat: Option<(u64, Missed)>) {
        let (token, sequence) = (self.token(), self.model.sequence());
        self.ids.push(id);
        let timer =
            ModelTimer { id, token, deadline, sequence, repeat, owner: None, is_due: false };
        self.model.live.push(timer);
    }

    fn token(&self) -> u64 {
        u64::try_from(self.ids.len()).expect("a length fits into 64 bits")
    }

    fn start(&mut self) {
        let deadline = self.deadline();
        let id = self.timers.start(at(deadline), task(self.token()));
        self.add(id, deadline, None);
    }

    fn start_repeating(&mut self) {
        let first = self.now.saturating_add(self.random.below(30));
        let period = 1 + self.random.below(25);
        let missed = if self.random.below(2) == 0 { SKIP } else { BURST };
        let token = task(self.token());
        let id = self.timers.start_repeating(at(first), period, missed, token);
        self.add(id, first, Some((period, missed)));
    }

    fn conn(&mut self) -> (ConnId, usize) {
        let slot = self.random.pick(&[0, 1, 2, 3]).expect("there are four");
        (conn(u32::try_from(slot).expect("small"), self.conns[slot]), slot)
    }

    fn start_owned(&mut self) {
        let (deadline, (owner, _)) = (self.deadline(), self.conn());
        let id = self.timers.start_owned(owner, at(deadline), task(self.token()));
        self.add(id, deadline, None);
        self.model.find(id).expect("just added").owner = Some(owner);
    }

    fn end_connection(&mut self) {
        let (owner, slot) = self.conn();
        self.timers.cancel_owned(owner);
        self.model.live.retain(|timer| timer.owner != Some(owner));
        self.conns[slot] += 1;
    }

    /// One of the latest ids mostly, live or stale.
    fn id(&mut self) -> Option<TimerId> {
        let recent =
            self.ids.len().saturating_sub(if self.random.below(4) == 0 { 1_000 } else { 20 });
        self.random.pick(&self.ids[recent..])
    }

    fn cancel(&mut self) {
        let Some(id) = self.id() else { return };
        assert_eq!(self.timers.cancel(id), self.model.cancel(id));
        assert_eq!(self.timers.deadline(id), None);
    }

    fn restart(&mut self) {
        let (Some(id), deadline) = (self.id(), self.deadline()) else { return };
        assert_eq!(self.timers.restart(id, at(deadline)), self.model.move_to(id, deadline));
        let expected = self.model.find(id).map(|timer| at(timer.deadline));
        assert_eq!(self.timers.deadline(id), expected);
    }

    fn snapshot(&mut self) {
        self.timers.snapshot(at(self.now));
        self.model.snapshot(self.now);
    }

    fn pop(&mut self) {
        let popped = self.timers.pop_due(at(self.now));
        assert_eq!(popped.map(|due| (due.id, token(due))), self.model.pop(self.now));
        self.fired += usize::from(popped.is_some());
    }
}

#[test]
fn timers_do_what_a_plain_list_does() {
    for seed in 1..=40 {
        let origin = [0, 1 << 50, u64::MAX - 20_000][usize::try_from(seed % 3).expect("small")];
        let mut pair = Pair::new(seed, origin);
        for step in 0..5_000 {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pair.step()));
            assert!(result.is_ok(), "seed {seed}, step {step}");
        }
        assert!(pair.fired > 500, "seed {seed} fired {} timers only", pair.fired);
    }
}
