//! What a connection is owed for writes that were pressed or refused (C9).

/// What one segment of a queue costs beside its payload, by the docs of `Net::queued_cost`.
pub const SEGMENT: usize = 128;
/// What a segment that is not the last one of a long write holds at least.
const SEGMENT_BYTES_MIN: usize = 4096;
/// The room that a shared segment closes off at most.
const ROOM_MAX: usize = 4096;
/// The most that a write can cost beside its payload.
pub const OVERHEAD_MAX: usize = SEGMENT * 40 + ROOM_MAX;

/// When `on_writable` has to come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Due {
    #[default]
    Never,
    /// When the queue has fallen to the low-water mark.
    AtLow,
    /// When it is empty: the write that was refused has no room before.
    AtEmpty,
    /// When the loop's buffers have room, which one connection cannot tell.
    Fed,
    /// That, or never.
    Perhaps,
}

/// The account of one connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pressure {
    /// It may come.
    may: bool,
    due: Due,
    /// How many turns in a row have ended without what was due.
    late_turns: u32,
}

/// Why a write was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// The hard limit of the connection.
    Hard,
    /// What all connections together may queue.
    All,
    /// Either: the cost of a write is known from outside only up to its overhead.
    Unknown,
}

/// The costs when a write was refused.
#[derive(Debug, Clone, Copy)]
pub struct Refusal {
    pub len: usize,
    pub is_shared: bool,
    pub queued: usize,
    pub hard: usize,
    pub low: usize,
    pub buffered: usize,
    pub write_limit: usize,
}

impl Refusal {
    /// Which limit stands in the way; `None`: none does.
    pub fn over(self) -> Option<Over> {
        let most = self.cost_max();
        let may_be = |held: usize, limit: usize| held + most > limit;
        let is = |held: usize, limit: usize| held + self.len > limit;
        let (hard, all) = (may_be(self.queued, self.hard), may_be(self.buffered, self.write_limit));
        match (hard, all) {
            (false, false) => None,
            (true, false) => Some(Over::Hard),
            (false, true) => Some(Over::All),
            (true, true) if is(self.queued, self.hard) => Some(Over::Hard),
            (true, true) => Some(Over::Unknown),
        }
    }

    /// The most that the write would have cost.
    fn cost_max(self) -> usize {
        self.alone_max() + if self.is_shared { ROOM_MAX } else { 0 }
    }

    /// The most that it would cost an empty queue.
    fn alone_max(self) -> usize {
        self.len + SEGMENT * (self.len / SEGMENT_BYTES_MIN + 1)
    }

    /// Whether the write alone surely fits a limit, and whether it may.
    fn alone(self, limit: usize) -> (bool, bool) {
        (self.alone_max() <= limit, self.len + SEGMENT <= limit)
    }
}

impl Pressure {
    /// A write was taken and the queue is above its high-water mark.
    pub fn pressed(&mut self) {
        self.may = true;
        if self.due == Due::Never {
            self.due = Due::AtLow;
        }
    }

    /// A write was refused, and the connection goes on.
    pub fn refused(&mut self, refusal: Refusal) {
        match refusal.over() {
            Some(Over::Hard) => self.refused_by_queue(refusal),
            Some(Over::All) => self.refused_by_all(refusal),
            Some(Over::Unknown) | None => {
                self.may = true;
                self.due = Due::Perhaps;
            }
        }
    }

    fn refused_by_all(&mut self, refusal: Refusal) {
        let (surely, perhaps) = refusal.alone(refusal.write_limit);
        self.may |= perhaps;
        self.due = match self.due {
            Due::Perhaps => Due::Perhaps,
            _ if surely => Due::Fed,
            Due::Never if !perhaps => Due::Never,
            Due::Never => Due::Perhaps,
            _ => Due::Fed,
        };
    }

    fn refused_by_queue(&mut self, refusal: Refusal) {
        let (surely, perhaps) = refusal.alone(refusal.hard);
        self.may |= perhaps;
        let is_low = refusal.queued <= refusal.low;
        self.due = match self.due {
            Due::Never if !surely => Due::Never,
            Due::Never | Due::AtLow if !is_low => Due::AtLow,
            Due::Never | Due::AtLow | Due::AtEmpty => Due::AtEmpty,
            Due::Fed | Due::Perhaps => self.due,
        };
    }

    /// `on_writable` has come.
    pub fn told(&mut self) -> bool {
        std::mem::take(self).may
    }

    /// Whether it is due at this cost.
    fn is_due(self, cost: usize, low: usize) -> bool {
        match self.due {
            Due::AtLow => cost <= low,
            Due::AtEmpty => cost == 0,
            Due::Never | Due::Fed | Due::Perhaps => false,
        }
    }

    /// A turn ends; returns whether what is due has been so since the one before.
    pub fn turn_ends(&mut self, cost: usize, low: usize) -> bool {
        let is_due = self.is_due(cost, low);
        self.late_turns = if is_due { self.late_turns + 1 } else { 0 };
        self.late_turns > 1
    }

    /// Whether it is owed when all queues are empty.
    pub fn is_owed(self) -> bool {
        !matches!(self.due, Due::Never | Due::Perhaps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSAL: Refusal = Refusal {
        len: 100,
        is_shared: false,
        queued: 20_000,
        hard: 20_050,
        low: 500,
        buffered: 0,
        write_limit: 1 << 30,
    };

    #[test]
    fn without_pressure_nothing_may_come() {
        assert!(!Pressure::default().told());
    }

    #[test]
    fn what_is_due_is_late_when_a_second_turn_ends_without_it() {
        let mut pressure = Pressure::default();
        pressure.pressed();
        assert!(!pressure.turn_ends(501, 500) && !pressure.turn_ends(501, 500));
        assert!(!pressure.turn_ends(500, 500), "it comes in the next turn");
        assert!(pressure.turn_ends(500, 500));
        assert!(pressure.told() && !pressure.told());
        assert!(!pressure.turn_ends(0, 500) && !pressure.turn_ends(0, 500));
    }

    #[test]
    fn a_refused_write_is_owed_at_the_low_water_mark_or_below_it_when_the_queue_is_empty() {
        let mut pressure = Pressure::default();
        pressure.refused(REFUSAL);
        assert!(!pressure.turn_ends(500, 500) && pressure.turn_ends(500, 500));
        let mut pressure = Pressure::default();
        pressure.refused(Refusal { queued: 400, len: 19_700, hard: 20_000, ..REFUSAL });
        assert!(!pressure.is_owed() && pressure.told(), "its overhead may be too much");
        let mut pressure = Pressure::default();
        pressure.refused(Refusal { queued: 400, len: 9_000, hard: 9_350, ..REFUSAL });
        assert!(!pressure.turn_ends(1, 500) && !pressure.turn_ends(1, 500));
    }

    #[test]
    fn a_write_over_no_limit_is_refused_by_none() {
        assert_eq!(REFUSAL.over(), Some(Over::Hard));
        assert_eq!(Refusal { hard: 1 << 20, ..REFUSAL }.over(), None);
        let full = Refusal { hard: 1 << 20, buffered: 1 << 30, ..REFUSAL };
        assert_eq!(full.over(), Some(Over::All));
        let mut pressure = Pressure::default();
        pressure.refused(full);
        assert!(pressure.is_owed() && !pressure.turn_ends(0, 0) && !pressure.turn_ends(0, 0));
    }
}
