//! Lines of the log that a peer could otherwise write as many of as it likes: one per second.

use std::fmt;
use std::time::Duration;

use crate::time::Time;

/// How long after a line the next one of its kind is written.
const PERIOD: Duration = Duration::from_secs(1);

/// Says of one kind of line when it may be written.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Throttle {
    next: Time,
    suppressed: u64,
}

/// How many lines of this kind were not written since the last one. Displayed behind a line, as
/// nothing if there were none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Suppressed(u64);

impl Throttle {
    /// Returns whether a line may be written, and what it says of those that were not.
    pub(crate) fn pass(&mut self, now: Time) -> Option<Suppressed> {
        if now < self.next {
            self.suppressed += 1;
            return None;
        }
        self.next = now + PERIOD;
        Some(Suppressed(std::mem::take(&mut self.suppressed)))
    }
}

impl fmt::Display for Suppressed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            more => write!(f, " ({more} more like it since the last line)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_passes_and_says_how_many_did_not() {
        let mut throttle = Throttle::default();
        let start = Time::from_nanos(5);
        assert_eq!(throttle.pass(start), Some(Suppressed(0)));
        for nanos in [0, 1, 999_999_999] {
            assert_eq!(throttle.pass(start.after_nanos(nanos)), None);
        }
        let second = start + PERIOD;
        assert_eq!(throttle.pass(second), Some(Suppressed(3)));
        assert_eq!(throttle.pass(second), None);
        assert_eq!(throttle.pass(second + PERIOD * 9), Some(Suppressed(1)));
        assert_eq!(throttle.pass(second + PERIOD * 10), Some(Suppressed(0)));
    }

    #[test]
    fn what_was_suppressed_is_said_if_there_was_any() {
        assert_eq!(Suppressed(0).to_string(), "");
        assert_eq!(Suppressed(7).to_string(), " (7 more like it since the last line)");
    }
}
