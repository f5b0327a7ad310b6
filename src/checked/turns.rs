//! What is asserted about turns, about the clock, and about the loop's own counts.

use std::fmt::Display;

use crate::error::CloseReason;
use crate::id::ConnId;
use crate::net::Net;
use crate::stats::{ClosesByReason, LoopStats};
use crate::time::Time;

/// The turn, and what was seen in it and before.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// The loop's number of this turn; 0: it has seen none.
    pub(super) number: u64,
    /// Between the start of a turn and its end.
    inside: bool,
    /// In a callback. If it is still set when the next one comes, that one has panicked.
    running: bool,
    /// The loop had run before it was given this handler.
    pub(super) joined_late: bool,
    woken: bool,
    now: Time,
    /// The last connection that was closed: stale when the next callback comes.
    closed: Option<ConnId>,
    /// Writes that had been refused when the turn began.
    pub(super) refused_writes: u64,
    /// How many callbacks were seen, added to what the loop had counted before.
    pub(super) seen: Seen,
}

/// Counts that the loop keeps too.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) accepted: u64,
    pub(super) closes: ClosesByReason,
    pub(super) timers_fired: u64,
    pub(super) wakes: u64,
}

impl Turns {
    /// A turn begins. Returns whether it is the first one that is seen, of a loop that has run
    /// before.
    pub(super) fn start(&mut self, net: &Net) -> bool {
        // Not a copy: its gauges are not looked at.
        let stats = &net.stats;
        let first = self.number == 0;
        if first {
            self.joined_late = stats.turns != 1;
            self.seen = Seen::of(stats);
        } else {
            self.follow(stats.turns);
        }
        self.number = stats.turns;
        self.inside = true;
        self.running = true;
        self.woken = false;
        self.refused_writes = stats.refused_writes;
        self.look(net, "on_turn_start", &"the loop");
        first && self.joined_late
    }

    fn follow(&self, turn: u64) {
        let last = self.number;
        let over = !self.inside || self.running;
        assert!(over, "C3: the loop: on_turn_start in turn {turn} before on_turn_end of {last}");
        assert!(
            turn == last + 1,
            "C3: the loop: turn {turn} follows turn {last}; every turn has to be seen"
        );
    }

    /// A callback begins, about something that a message names.
    #[inline]
    pub(super) fn enter(&mut self, net: &Net, what: &'static str, about: &dyn Display) {
        assert!(self.inside, "C3: {about}: {what} outside a turn");
        assert!(!self.running, "C6: {about}: {what} in a turn that a panic has ended");
        self.running = true;
        self.look(net, what, about);
    }

    /// It has returned.
    #[inline]
    pub(super) fn leave(&mut self) {
        self.running = false;
    }

    /// The last callback of a turn begins.
    pub(super) fn end(&mut self, net: &Net) {
        self.enter(net, "on_turn_end", &"the loop");
        let stats = net.stats();
        let turn = self.number;
        assert!(stats.turns == turn, "C3: the loop: turn {} ends, {turn} began", stats.turns);
        let seen = &self.seen;
        assert!(
            seen.agrees_with(&stats),
            "C1: the loop: it counts {:?}, called was {seen:?}",
            Seen::of(&stats)
        );
        check_totals(&stats);
    }

    /// The last callback of a turn has returned.
    pub(super) fn ended(&mut self) {
        self.running = false;
        self.inside = false;
    }

    pub(super) fn closed(&mut self, conn: ConnId, reason: CloseReason) {
        self.seen.closes.add(reason);
        self.closed = Some(conn);
    }

    pub(super) fn wake(&mut self) {
        self.seen.wakes += 1;
        let again = std::mem::replace(&mut self.woken, true);
        assert!(!again, "C16: the loop: a second on_wake in turn {}", self.number);
    }

    /// Looks at what holds at any time.
    #[inline]
    fn look(&mut self, net: &Net, what: &'static str, about: &dyn Display) {
        let now = net.now();
        assert!(now >= self.now, "C15: the loop: the clock went back from {} to {now}", self.now);
        self.now = now;
        if let Some(conn) = self.closed.take() {
            let is_gone = net.conn_stats(conn).is_none();
            assert!(is_gone, "C1: {conn}: still there after its on_close, in {what} of {about}");
        }
    }
}

impl Seen {
    #[inline]
    fn agrees_with(&self, stats: &LoopStats) -> bool {
        self.accepted == stats.accepted
            && self.timers_fired == stats.timers_fired
            && self.wakes == stats.wakes
            && self.closes == stats.closes
    }

    fn of(stats: &LoopStats) -> Seen {
        Seen {
            accepted: stats.accepted,
            closes: stats.closes,
            timers_fired: stats.timers_fired,
            wakes: stats.wakes,
        }
    }
}

fn check_totals(stats: &LoopStats) {
    let LoopStats { accepted_bytes, sent_bytes, queued_bytes, dropped_bytes, .. } = *stats;
    assert!(
        accepted_bytes == sent_bytes + queued_bytes + dropped_bytes,
        "C8: the loop: {accepted_bytes} bytes accepted, {sent_bytes} sent, {queued_bytes} queued, \
         {dropped_bytes} dropped"
    );
    let buffered_bytes = stats.buffered_bytes;
    assert!(
        buffered_bytes >= queued_bytes,
        "C8: the loop: {queued_bytes} bytes queued cost {buffered_bytes}"
    );
    let LoopStats { accepted, connects, adopted, closed, ref closes, connections, .. } = *stats;
    assert!(closes.total() == closed, "C4: the loop: {closed} closed, for a reason: {closes}");
    assert!(
        accepted + connects + adopted == closed + connections as u64,
        "C1: the loop: {accepted} accepts, {connects} connects, {adopted} adopted, \
         {closed} closed, {connections} left"
    );
}
