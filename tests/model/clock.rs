//! The model of the timers: a plain list.

use std::time::Duration;

use hotloop::{ConnId, Net, Time, TimerId};

/// How often a timer repeats at most.
const FIRES_MAX: u32 = 60;

/// All the timers that are live, as the model sees it.
#[derive(Debug, Default)]
pub struct Clock {
    timers: Vec<Timer>,
    pub gone: Vec<TimerId>,
    turn: u64,
    /// The clock at the beginning of the turn.
    turn_now: Time,
    /// A panic has cut the last turn off: what it left comes first, whatever is due since.
    was_cut_off: bool,
    in_turn: bool,
    /// Deadline and order of the last timer that fired in this turn.
    last: Option<(Time, u64)>,
    next_order: u64,
    next_token: u64,
}

#[derive(Debug, Clone)]
struct Timer {
    id: TimerId,
    token: u64,
    deadline: Time,
    order: u64,
    /// The turn in which it was armed; 0 between turns counts as the one before.
    armed_in: u64,
    repeat: Option<(u64, bool)>,
    fires: u32,
    owner: Option<ConnId>,
}

impl Clock {
    pub fn turns(&self) -> u64 {
        self.turn
    }

    pub fn next_token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }

    pub fn started(
        &mut self,
        net: &Net,
        id: TimerId,
        delay_nanos: u64,
        repeat: Option<(u64, bool)>,
        owner: Option<ConnId>,
    ) {
        let deadline = net.now() + Duration::from_nanos(delay_nanos);
        assert_eq!(net.timer_deadline(id), Some(deadline), "C15: {id}: the deadline");
        let known = self.timers.iter().any(|timer| timer.id == id) || self.gone.contains(&id);
        assert!(!known, "C2: {id} was given out twice");
        let (order, token, armed_in) = (self.next_order, self.next_token, self.turn);
        self.next_order += 1;
        self.timers.push(Timer { id, token, deadline, order, armed_in, repeat, fires: 0, owner });
    }

    /// Some timer, live or not.
    pub fn some(&self, number: usize) -> Option<TimerId> {
        let all = self.timers.iter().map(|timer| timer.id).chain(self.gone.iter().copied());
        let count = self.timers.len() + self.gone.len();
        (count > 0).then(|| all.clone().nth(number % count)).flatten()
    }

    pub fn is_live(&self, id: TimerId) -> bool {
        self.timers.iter().any(|timer| timer.id == id)
    }

    /// Whether a timer has repeated often enough: a run should not be its ticks alone.
    pub fn is_tired(&self, id: TimerId) -> bool {
        self.timers.iter().any(|timer| timer.id == id && timer.fires >= FIRES_MAX)
    }

    pub fn cancelled(&mut self, id: TimerId) {
        self.timers.retain(|timer| timer.id != id);
        self.gone.push(id);
    }

    pub fn forget_owned(&mut self, owner: ConnId) {
        let (gone, live) = self.timers.drain(..).partition(|timer| timer.owner == Some(owner));
        let _: &Vec<Timer> = &gone;
        self.timers = live;
        self.gone.extend(gone.into_iter().map(|timer| timer.id));
    }

    pub fn cancel_all(&mut self, net: &mut Net) {
        for timer in std::mem::take(&mut self.timers) {
            let lives = timer.owner.is_none_or(|owner| net.is_open(owner));
            let was_live = net.cancel_timer(timer.id);
            assert_eq!(was_live, lives, "C15: {}: cancelled, and live before", timer.id);
            self.gone.push(timer.id);
        }
    }

    pub fn turn_starts(&mut self, net: &Net) {
        self.turn += 1;
        assert!(net.now() >= self.turn_now, "C15: the clock went back");
        (self.turn_now, self.last) = (net.now(), None);
        self.was_cut_off = std::mem::replace(&mut self.in_turn, true);
    }

    pub fn fired(&mut self, net: &Net, id: TimerId, token: u64) {
        let Some(place) = self.timers.iter().position(|timer| timer.id == id) else {
            panic!("C15: {id}: it fired, and is not live");
        };
        let timer = self.timers[place].clone();
        assert_eq!(timer.token, token, "C15: {id}: another timer's token");
        assert!(
            timer.deadline <= net.now(),
            "C15: {id}: early: {} of {}",
            net.now(),
            timer.deadline
        );
        assert!(timer.armed_in < self.turn, "C15: {id}: fired in the turn it was started in");
        let order = (timer.deadline, timer.order);
        let in_order = self.was_cut_off || self.last.is_none_or(|last| last < order);
        assert!(in_order, "C15: {id}: {order:?} behind {:?}", self.last);
        self.last = Some(order);
        match timer.repeat {
            None => {
                assert_eq!(net.timer_deadline(id), None, "C15: {id}: fired for good, and live");
                self.timers.remove(place);
                self.gone.push(id);
            }
            Some((period, is_burst)) => {
                let late = net.now().as_nanos() - timer.deadline.as_nanos();
                let skipped = if is_burst { 0 } else { late / period * period };
                let next = &mut self.timers[place];
                next.fires += 1;
                let nanos = timer.deadline.as_nanos().saturating_add(skipped + period);
                next.deadline = Time::from_nanos(nanos);
                (next.armed_in, next.order) = (self.turn, self.next_order);
                self.next_order += 1;
                let deadline = net.timer_deadline(id);
                assert_eq!(deadline, Some(next.deadline), "C15: {id}: off the grid");
            }
        }
    }

    /// Whatever was due when the turn began has fired.
    pub fn turn_ends(&mut self, net: &Net) {
        self.in_turn = false;
        // A connection's own are gone with it, before its `on_close` says so.
        let lives = |timer: &Timer| timer.owner.is_none_or(|owner| net.is_open(owner));
        let due = |timer: &&Timer| {
            timer.deadline <= self.turn_now && timer.armed_in < self.turn && lives(timer)
        };
        if let Some(late) = self.timers.iter().find(due) {
            panic!("C15: {}: due at {}, and not fired: {late:?}", late.id, self.turn_now);
        }
    }
}
