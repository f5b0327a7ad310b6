//! C12 and C14 to C16: accepts, timers, wakes.

use std::time::Duration;

use hotloop::{Handler, Missed, Net};

use crate::SECOND;
use crate::liar::{Call, Rig, Tested, before, behind, tell};
use Call::{Accept, Timer, TurnStart, Wake};

// C12

#[test]
#[should_panic(expected = "C12: listener#0.1: 2 accepts in one turn, of 1")]
fn accepts_past_the_budget_are_found() {
    let again = behind(|checked, net, call| {
        if let Accept(..) = call {
            tell(checked, net, call);
        }
    });
    Rig::with(hotloop::Config::default().accept_budget(1), again).client();
}

/// Tells of each timer twice.
fn twice() -> impl FnMut(&mut Tested, &mut Net, Call<'_>) -> usize {
    behind(|checked, net, call| {
        if let Timer(_) = call {
            tell(checked, net, call);
        }
    })
}

#[test]
#[should_panic(expected = "C12: timer#0.1: a second on_timer in turn 1")]
fn missed_repeats_that_come_in_one_turn_are_found() {
    Rig::new(twice()).repeats(Missed::Burst, 5 * SECOND);
}

// C14

#[test]
#[should_panic(expected = "C14: listener#0.1: told again that accepting is paused")]
fn a_listener_that_is_paused_and_told_so_twice_is_found() {
    Rig::new(behind(|checked, net, call| {
        if let Call::ListenerError(..) = call {
            tell(checked, net, call);
        }
    }))
    .fails_to_accept();
}

// C15

#[test]
#[should_panic(expected = "C15: timer#0.1: on_timer at ")]
fn a_repeat_that_is_early_is_found() {
    Rig::new(twice()).repeats(Missed::Skip, SECOND);
}

#[test]
#[should_panic(expected = "C15: timer#0.1: on_timer for a timer that has fired for good")]
fn a_timer_that_fires_again_is_found() {
    let mut rig = Rig::new(twice());
    rig.net().start_timer(Duration::ZERO, 0);
    rig.turn();
}

#[test]
#[should_panic(expected = "C15: timer#0.1: it fired behind timer#0.2")]
fn a_timer_from_before_is_found() {
    let mut first = None;
    let mut rig = Rig::new(behind(move |checked, net, call| {
        if let Timer(timer) = call {
            let first = *first.get_or_insert(timer);
            if first != timer {
                checked.on_timer(net, first, 0);
            }
        }
    }));
    for _ in 0..2 {
        rig.net().start_timer(Duration::ZERO, 0);
        rig.turn();
    }
}

#[test]
#[should_panic(expected = "C15: timer#0.1: on_timer for a repeating timer that was cancelled")]
fn a_cancelled_timer_that_fires_is_found() {
    Rig::new(behind(|checked, net, call| {
        if let Timer(timer) = call {
            net.cancel_timer(timer);
            tell(checked, net, call);
        }
    }))
    .repeats(Missed::Skip, SECOND);
}

#[test]
#[should_panic(expected = "C15: timer#0.1: due at 3.000000000s once more")]
fn a_repeat_that_fires_twice_for_one_deadline_is_found() {
    let mut fired = None;
    let mut rig = Rig::new(behind(move |checked, net, call| match (call, fired) {
        (Timer(timer), _) => fired = Some(timer),
        (TurnStart, Some(timer)) => checked.on_timer(net, timer, 0),
        _ => {}
    }));
    rig.repeats(Missed::Skip, SECOND);
    rig.world.advance(SECOND);
    rig.turn();
}

// C16

#[test]
#[should_panic(expected = "C16: the loop: a second on_wake in turn 1")]
fn a_second_on_wake_in_a_turn_is_found() {
    let mut rig = Rig::new(before(|checked, net, call| {
        if let Wake = call {
            checked.on_wake(net);
        }
    }));
    rig.net().waker().wake();
    rig.turn();
}
