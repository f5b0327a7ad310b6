//! What is asserted about listeners and timers.

use crate::checked::turns::Turns;
use crate::error::ListenerError;
use crate::id::{ConnId, ListenerId, TimerId};
use crate::net::Net;
use crate::time::Time;

/// What was seen of each listener, by slot.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    slots: Vec<Option<SeenListener>>,
}

#[derive(Debug, Clone, Copy)]
struct SeenListener {
    id: ListenerId,
    /// The turn in which it last accepted, and how many it accepted in it.
    turn: u64,
    accepts: u32,
    /// That it is paused was told, and it has accepted nothing since.
    is_paused: bool,
}

impl Listeners {
    /// A connection was accepted.
    pub(super) fn accept(&mut self, turns: &Turns, net: &Net, conn: ConnId, id: ListenerId) {
        assert!(net.listener_addr(id).is_some(), "C2: {conn}: on_accept by {id}, which is stale");
        let seen = self.slot(id);
        seen.is_paused = false;
        if seen.turn != turns.number {
            (seen.turn, seen.accepts) = (turns.number, 0);
        }
        seen.accepts += 1;
        let budget = net.config.accept_budget;
        let accepts = seen.accepts;
        assert!(accepts <= budget, "C12: {id}: {accepts} accepts in one turn, of {budget}");
    }

    /// Accepting is paused or has failed.
    pub(super) fn error(&mut self, net: &Net, id: ListenerId, error: ListenerError) {
        let is_gone = net.listener_addr(id).is_none();
        let failed = matches!(error, ListenerError::Failed(_));
        assert!(is_gone == failed, "C2: {id}: on_listener_error, {error}; is stale: {is_gone}");
        let again = std::mem::replace(&mut self.slot(id).is_paused, true);
        assert!(!again || failed, "C14: {id}: told again that {error}");
    }

    fn slot(&mut self, id: ListenerId) -> &mut SeenListener {
        let fresh = SeenListener { id, turn: 0, accepts: 0, is_paused: false };
        let slot = slot(&mut self.slots, id.slot());
        match slot {
            Some(seen) if seen.id == id => {}
            Some(seen) => {
                let later = seen.id;
                assert!(later.generation() < id.generation(), "C2: {id}: called behind {later}");
                *seen = fresh;
            }
            None => {}
        }
        slot.get_or_insert(fresh)
    }
}

/// What was seen of each timer, by slot.
#[derive(Debug, Default)]
pub(super) struct Timers {
    slots: Vec<Option<SeenTimer>>,
}

#[derive(Debug, Clone, Copy)]
struct SeenTimer {
    id: TimerId,
    /// When it is due again; `None`: it has fired for good.
    next: Option<Time>,
    turn: u64,
}

impl Timers {
    /// A timer has fired.
    pub(super) fn fire(&mut self, turns: &Turns, net: &Net, id: TimerId) {
        let next = net.timer_deadline(id);
        let slot = slot(&mut self.slots, id.slot());
        if let Some(last) = *slot {
            last.check_next(id, next, net.now(), turns.number);
        }
        *slot = Some(SeenTimer { id, next, turn: turns.number });
    }
}

impl SeenTimer {
    /// Looks at the next firing in the same slot.
    fn check_next(self, id: TimerId, next: Option<Time>, now: Time, turn: u64) {
        let last = self.id;
        if last != id {
            assert!(last.generation() < id.generation(), "C15: {id}: it fired behind {last}");
            return;
        }
        let Some(due) = self.next else {
            panic!("C15: {id}: on_timer for a timer that has fired for good");
        };
        assert!(next.is_some(), "C15: {id}: on_timer for a repeating timer that was cancelled");
        assert!(now >= due, "C15: {id}: on_timer at {now}, due at {due}");
        assert!(self.turn != turn, "C12: {id}: a second on_timer in turn {turn}");
        assert!(next > self.next, "C15: {id}: due at {due} once more");
    }
}

/// Returns a slot of a table, which grows as needed.
fn slot<T>(slots: &mut Vec<Option<T>>, index: usize) -> &mut Option<T> {
    if index >= slots.len() {
        slots.resize_with(index + 1, || None);
    }
    &mut slots[index]
}
