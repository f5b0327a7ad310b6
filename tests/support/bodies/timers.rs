//! Timers against a sorted list: starts, repeats and cancels at any time, deadlines however far.

use std::time::Duration;

use hotloop::{Missed, Time, TimerId};

use super::choices::Choices;
use crate::support::{Call, Kind, Rig};

const OPS_MAX: usize = 300;
/// Beyond that a test would have run for centuries.
const UPTIME_MAX_BITS: u32 = 62;

struct Live {
    /// `None`: past the largest reading.
    due: Option<u64>,
    /// Equal ones fire in the order of their starts.
    order: u64,
    id: TimerId,
    token: u64,
    repeat: Option<(u64, Missed)>,
}

struct Model {
    live: Vec<Live>,
    gone: Vec<TimerId>,
    orders: u64,
}

impl Model {
    fn next_order(&mut self) -> u64 {
        self.orders += 1;
        self.orders
    }

    fn due(now: Time, delay: Duration) -> Option<u64> {
        let nanos = u128::from(now.as_nanos()) + delay.as_nanos();
        u64::try_from(nanos).ok().filter(|due| *due != u64::MAX)
    }

    /// What fires in a turn whose clock shows this.
    fn fire(&mut self, now: u64) -> Vec<u64> {
        self.live.sort_by_key(|timer| (timer.due.unwrap_or(u64::MAX), timer.order));
        let is_due = |timer: &Live| timer.due.is_some_and(|due| due <= now);
        let count = self.live.iter().take_while(|timer| is_due(timer)).count();
        let fired: Vec<Live> = self.live.drain(..count).collect();
        let tokens = fired.iter().map(|timer| timer.token).collect();
        for mut timer in fired {
            let Some((period, missed)) = timer.repeat else {
                self.gone.push(timer.id);
                continue;
            };
            let due = timer.due.unwrap_or(0);
            let steps = if missed == Missed::Skip { (now - due) / period + 1 } else { 1 };
            timer.due = due.checked_add(steps.saturating_mul(period));
            timer.order = self.next_order();
            self.live.push(timer);
        }
        tokens
    }
}

/// Plays the input.
///
/// # Panics
///
/// If the loop fires something else than the list.
pub fn check(input: &[u8]) {
    let mut choices = Choices::new(input);
    let kind = if choices.is() { Kind::ScriptCompletion } else { Kind::ScriptReadiness };
    let mut rig = Rig::new(kind);
    let mut model = Model { live: Vec::new(), gone: Vec::new(), orders: 0 };
    for token in 0..OPS_MAX as u64 {
        if choices.is_over() {
            break;
        }
        match choices.byte() % 8 {
            0..=2 => start(&mut rig, &mut model, &mut choices, token),
            3 => repeat(&mut rig, &mut model, &mut choices, token),
            4 => cancel(&mut rig, &mut model, &mut choices),
            _ => turn(&mut rig, &mut model, &mut choices),
        }
        assert_eq!(rig.event_loop.net().stats().timers, model.live.len());
    }
}

fn start(rig: &mut Rig, model: &mut Model, choices: &mut Choices<'_>, token: u64) {
    let delay = if choices.byte() == 0xff { Duration::MAX } else { choices.span(64) };
    let net = rig.event_loop.net();
    let id = net.start_timer(delay, token);
    let due = Model::due(net.now(), delay);
    let order = model.next_order();
    model.live.push(Live { due, order, id, token, repeat: None });
}

fn repeat(rig: &mut Rig, model: &mut Model, choices: &mut Choices<'_>, token: u64) {
    let missed = if choices.is() { Missed::Skip } else { Missed::Burst };
    let period = choices.span(60);
    let net = rig.event_loop.net();
    let id = net.start_repeating(period, missed, token);
    let nanos = u64::try_from(period.as_nanos()).expect("60 bits").max(1);
    let due = Model::due(net.now(), Duration::from_nanos(nanos));
    let order = model.next_order();
    model.live.push(Live { due, order, id, token, repeat: Some((nanos, missed)) });
}

fn cancel(rig: &mut Rig, model: &mut Model, choices: &mut Choices<'_>) {
    let net = rig.event_loop.net();
    if !model.live.is_empty() {
        let timer = model.live.swap_remove(choices.below(model.live.len()));
        let told = net.timer_deadline(timer.id).map(Time::as_nanos);
        assert_eq!(told.filter(|due| *due != u64::MAX), timer.due, "its deadline");
        assert!(net.cancel_timer(timer.id), "it is live");
        model.gone.push(timer.id);
    }
    if !model.gone.is_empty() {
        let gone = model.gone[choices.below(model.gone.len())];
        assert!(!net.cancel_timer(gone) && net.timer_deadline(gone).is_none(), "it is stale");
    }
}

fn turn(rig: &mut Rig, model: &mut Model, choices: &mut Choices<'_>) {
    let span = choices.span(61);
    let now = rig.event_loop.net().now().as_nanos();
    if Duration::from_nanos(now) + span < Duration::from_nanos(1 << UPTIME_MAX_BITS) {
        rig.advance(span);
    }
    let before = rig.handler.calls.len();
    rig.turn();
    let now = rig.event_loop.net().now().as_nanos();
    let fired = rig.handler.calls[before..].iter().filter_map(|call| match call {
        Call::Timer(_, token) => Some(*token),
        _ => None,
    });
    assert_eq!(fired.collect::<Vec<_>>(), model.fire(now), "at {now}");
    for timer in &model.live {
        let told = rig.event_loop.net().timer_deadline(timer.id).map(Time::as_nanos);
        assert_eq!(told.filter(|due| *due != u64::MAX), timer.due, "of {} at {now}", timer.token);
    }
}
