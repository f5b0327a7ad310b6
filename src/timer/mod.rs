//! The timers of one loop: exact to the nanosecond, in order, cancelled cheaply (contract C15).
//!
//! A timer is armed in the heap until a snapshot finds it due, and then waits in the due list.
//! Nothing is taken out of the due list when a timer in it is cancelled or moved: its entry no
//! longer matches the timer and is skipped. This layer reads no clock; it is told the time.

#![allow(
    clippy::indexing_slicing,
    clippy::expect_used,
    reason = "places that the heap and the entries give each other; no peer's"
)]

mod heap;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::num::NonZeroU64;

use crate::id::{ConnId, Key, Kind, ListenerId, Slots, TimerId};
use crate::time::Time;

use heap::{Entry, Heap};

/// What becomes of the repeats of a timer that were missed while the loop was busy.
///
/// Either way the timer never fires early and never drifts: it is due at its first deadline plus
/// whole periods.
///
/// # Examples
///
/// A loop that was away for 95 ms, in simulation:
///
/// ```
/// use std::time::Duration;
///
/// use hotloop::sim::{NodeOptions, World};
/// use hotloop::{ConnId, Handler, Missed, Net, TimerId};
///
/// #[derive(Default)]
/// struct Counts {
///     skip: u32,
///     burst: u32,
/// }
///
/// impl Handler for Counts {
///     fn on_data(&mut self, _: &mut Net, _: ConnId, data: &[u8]) -> usize {
///         data.len()
///     }
///
///     fn on_timer(&mut self, _: &mut Net, _: TimerId, token: u64) {
///         let count = if token == 0 { &mut self.skip } else { &mut self.burst };
///         *count += 1;
///     }
/// }
///
/// let (mut world, ms) = (World::new(1), Duration::from_millis);
/// let (_, mut event_loop) = world.attach("server", NodeOptions::default())?;
/// event_loop.net().start_repeating(ms(10), Missed::Skip, 0);
/// event_loop.net().start_repeating(ms(10), Missed::Burst, 1);
/// world.run_for(ms(95)); // nobody gives the loop a turn
///
/// let mut counts = Counts::default();
/// event_loop.turn(&mut counts, ms(0))?;
/// assert_eq!((counts.skip, counts.burst), (1, 1), "one of each per turn");
/// while event_loop.turn(&mut counts, ms(0))?.callbacks > 0 {}
/// assert_eq!((counts.skip, counts.burst), (1, 9));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Missed {
    /// The timer fires once for all of them, and then at the next whole period after the current
    /// time. For work whose input is the time itself: statistics, keepalives, redrawing.
    Skip,
    /// The timer fires once for each of them, one per turn, until it has caught up. For work that
    /// is counted: the fixed steps of a simulation. A handler that never catches up keeps the
    /// loop busy.
    Burst,
}

/// What is to be done when a timer is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    /// Tell the handler.
    User { token: u64 },
    /// Look at the deadlines of a connection.
    ConnDeadline(ConnId),
    /// Accept again after a pause.
    AcceptRetry(ListenerId),
}

/// A timer that fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Due {
    /// Stale already, unless the timer repeats.
    pub(crate) id: TimerId,
    pub(crate) task: Task,
}

/// All timers of one loop.
pub(crate) struct Timers {
    timers: Slots<Timer>,
    armed: Heap,
    /// What the last snapshot found, and behind a panic what it left. May hold entries of timers
    /// that have been cancelled or moved since.
    due: VecDeque<Entry>,
    /// How many timers wait in the due list: those that are live and not armed.
    due_live: usize,
    next_sequence: u64,
    /// The first timer of each connection, by the connection's slot.
    owned: Vec<Option<TimerId>>,
}

struct Timer {
    task: Task,
    deadline: Time,
    /// The sequence number of the entry that stands for this timer, armed or due.
    sequence: u64,
    repeat: Option<Repeat>,
    owner: Option<Owner>,
}

#[derive(Clone, Copy)]
struct Repeat {
    period_nanos: NonZeroU64,
    missed: Missed,
}

/// A timer's place in the list of its connection.
#[derive(Clone, Copy)]
struct Owner {
    conn: ConnId,
    previous: Option<TimerId>,
    next: Option<TimerId>,
}

impl Timers {
    pub(crate) fn new() -> Timers {
        Timers {
            timers: Slots::new(Kind::Timer),
            armed: Heap::new(),
            due: VecDeque::new(),
            due_live: 0,
            next_sequence: 0,
            owned: Vec::new(),
        }
    }

    /// Starts a timer that fires once, at [`Time::NEVER`] never. It is not part of a snapshot that
    /// is being popped, even if its deadline has passed.
    ///
    /// # Panics
    ///
    /// If 2^24 timers are live.
    #[inline]
    pub(crate) fn start(&mut self, deadline: Time, task: Task) -> TimerId {
        self.insert(deadline, task, None)
    }

    /// Starts a timer that fires at `first` and every `period_nanos` after it. A period of 0
    /// counts as 1.
    ///
    /// # Panics
    ///
    /// If 2^24 timers are live.
    pub(crate) fn start_repeating(
        &mut self,
        first: Time,
        period_nanos: u64,
        missed: Missed,
        task: Task,
    ) -> TimerId {
        let period_nanos = NonZeroU64::new(period_nanos).unwrap_or(NonZeroU64::MIN);
        self.insert(first, task, Some(Repeat { period_nanos, missed }))
    }

    /// Starts a timer that fires once, unless [`cancel_owned`](Self::cancel_owned) of its
    /// connection comes first: whoever ends a connection has to call that.
    ///
    /// # Panics
    ///
    /// If 2^24 timers are live.
    pub(crate) fn start_owned(&mut self, owner: ConnId, deadline: Time, task: Task) -> TimerId {
        let id = self.insert(deadline, task, None);
        self.link(id, owner);
        id
    }

    /// Cancels a timer, due or not; returns whether it was live.
    #[inline]
    pub(crate) fn cancel(&mut self, id: TimerId) -> bool {
        let Some(timer) = self.timers.remove(id.0) else { return false };
        self.disarm(id);
        self.unlink(timer.owner);
        true
    }

    /// Cancels all timers of a connection, in time proportional to their number.
    pub(crate) fn cancel_owned(&mut self, owner: ConnId) {
        while let Some(first) = self.first_owned(owner) {
            self.cancel(first);
        }
    }

    /// Moves a live timer, due or not, as if it were started anew: it fires at `deadline` only,
    /// after those that were started before for the same moment. Returns whether it was live.
    #[inline]
    pub(crate) fn restart(&mut self, id: TimerId, deadline: Time) -> bool {
        if self.timers.get(id.0).is_none() {
            return false;
        }
        self.disarm(id);
        self.arm(id.0, deadline);
        true
    }

    /// Returns when a live timer fires next.
    #[inline]
    pub(crate) fn deadline(&self, id: TimerId) -> Option<Time> {
        self.timers.get(id.0).map(|timer| timer.deadline)
    }

    /// Returns the nearest deadline: the very beginning if timers of a snapshot are left, `None`
    /// if no timer will ever fire.
    #[inline]
    pub(crate) fn next_deadline(&self) -> Option<Time> {
        if self.due_live > 0 {
            return Some(Time::from_nanos(0));
        }
        self.armed.first().map(|entry| entry.deadline).filter(|deadline| *deadline != Time::NEVER)
    }

    /// Returns whether the due list holds a timer that will fire.
    #[inline]
    pub(crate) fn has_due(&self) -> bool {
        self.due_live > 0
    }

    /// Adds every timer whose deadline has come to the due list, in order.
    #[inline]
    pub(crate) fn snapshot(&mut self, now: Time) {
        if !self.due.is_empty() || self.armed.first().is_some_and(|first| first.deadline <= now) {
            self.collect_due(now);
        }
    }

    fn collect_due(&mut self, now: Time) {
        self.forget_outdated();
        let is_due = |entry: &Entry| entry.deadline <= now && entry.deadline != Time::NEVER;
        while let Some(entry) = self.armed.pop_if(is_due) {
            self.due.push_back(entry);
            self.due_live += 1;
        }
    }

    /// Takes the next timer out of the due list. One that repeats is armed again before this
    /// returns, any other is gone.
    ///
    /// May be left off at any time, and gone on with after further snapshots.
    #[inline]
    pub(crate) fn pop_due(&mut self, now: Time) -> Option<Due> {
        if self.due.is_empty() { None } else { self.pop_some_due(now) }
    }

    fn pop_some_due(&mut self, now: Time) -> Option<Due> {
        while let Some(entry) = self.due.pop_front() {
            if let Some(timer) = self.timers.get(entry.key).filter(|timer| timer.is(entry)) {
                let (task, repeat) = (timer.task, timer.repeat);
                self.due_live -= 1;
                self.rearm_or_free(entry, repeat, now);
                return Some(Due { id: TimerId(entry.key), task });
            }
        }
        debug_assert_eq!(self.due_live, 0, "a due timer has an entry");
        None
    }

    /// Returns how many timers are live, those that never fire included.
    pub(crate) fn len(&self) -> usize {
        self.timers.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.timers.is_empty()
    }

    fn insert(&mut self, deadline: Time, task: Task, repeat: Option<Repeat>) -> TimerId {
        let key = self.timers.vacant_key().expect("fewer than 2^24 timers are live");
        self.timers.insert(key, Timer { task, deadline, sequence: 0, repeat, owner: None });
        self.arm(key, deadline);
        TimerId(key)
    }

    /// Puts a live timer into the heap, behind all that have the same deadline.
    #[inline]
    fn arm(&mut self, key: Key, deadline: Time) {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let timer = self.timers.get_mut(key).expect("only a live timer is armed");
        timer.deadline = deadline;
        timer.sequence = sequence;
        self.armed.push(Entry { deadline, sequence, key });
    }

    /// Takes a timer out of the heap, or if it is not there counts it out of the due list.
    #[inline]
    fn disarm(&mut self, id: TimerId) {
        if !self.armed.remove(id.0.slot()) {
            self.due_live -= 1;
        }
    }

    fn rearm_or_free(&mut self, entry: Entry, repeat: Option<Repeat>, now: Time) {
        if let Some(repeat) = repeat {
            return self.arm(entry.key, repeat.next(entry.deadline, now));
        }
        if let Some(timer) = self.timers.remove(entry.key) {
            self.unlink(timer.owner);
        }
    }

    /// Drops entries of timers that are cancelled or moved: only after a panic is there one, and
    /// if every turn panicked they would pile up.
    fn forget_outdated(&mut self) {
        let timers = &self.timers;
        self.due.retain(|entry| timers.get(entry.key).is_some_and(|timer| timer.is(*entry)));
    }

    /// Returns the first timer of a connection; `None` for a stale id.
    fn first_owned(&self, owner: ConnId) -> Option<TimerId> {
        let first = (*self.owned.get(owner.slot())?)?;
        let links = self.timers.get(first.0)?.owner?;
        (links.conn == owner).then_some(first)
    }

    /// Puts a timer at the head of its connection's list.
    fn link(&mut self, id: TimerId, conn: ConnId) {
        if conn.slot() >= self.owned.len() {
            self.owned.resize(conn.slot() + 1, None);
        }
        let next = self.owned[conn.slot()].replace(id);
        self.owner_mut(id).replace(Owner { conn, previous: None, next });
        if let Some(next) = next {
            self.links(next).previous = Some(id);
            debug_assert_eq!(self.links(next).conn, conn, "the slot's last owner was cancelled");
        }
    }

    /// Closes the gap that a timer leaves in the list of its connection.
    #[inline]
    fn unlink(&mut self, owner: Option<Owner>) {
        let Some(Owner { conn, previous, next }) = owner else { return };
        match previous {
            Some(previous) => self.links(previous).next = next,
            None => self.owned[conn.slot()] = next,
        }
        if let Some(next) = next {
            self.links(next).previous = previous;
        }
    }

    fn owner_mut(&mut self, id: TimerId) -> &mut Option<Owner> {
        &mut self.timers.get_mut(id.0).expect("a list holds live timers only").owner
    }

    fn links(&mut self, id: TimerId) -> &mut Owner {
        self.owner_mut(id).as_mut().expect("a list holds owned timers only")
    }
}

impl Timer {
    /// Returns whether an entry still stands for this timer.
    #[inline]
    fn is(&self, entry: Entry) -> bool {
        self.sequence == entry.sequence
    }
}

impl Repeat {
    /// Returns the deadline that follows `last`, which fires at `now`.
    fn next(self, last: Time, now: Time) -> Time {
        let period_nanos = self.period_nanos.get();
        let whole_nanos = match self.missed {
            Missed::Burst => 0,
            Missed::Skip => {
                let late_nanos = now.as_nanos().saturating_sub(last.as_nanos());
                late_nanos - late_nanos % period_nanos
            }
        };
        last.after_nanos(whole_nanos).after_nanos(period_nanos)
    }
}

impl fmt::Debug for Timers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (len, due) = (self.len(), self.due_live);
        f.debug_struct("Timers").field("len", &len).field("due", &due).finish_non_exhaustive()
    }
}
