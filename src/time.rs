//! Time as the loop counts it: monotonic nanoseconds since an arbitrary start.

use std::fmt;
use std::ops::Add;
use std::time::Duration;

/// A moment on the loop's monotonic clock, in nanoseconds since an arbitrary start.
///
/// It is its own type, not [`std::time::Instant`], because a simulated clock has to be able to
/// make one. Two loops of one process share the start on a real kernel (`CLOCK_MONOTONIC`,
/// `clock_gettime(2)`); no more than that is promised.
///
/// All arithmetic saturates: the largest value means "never".
///
/// # Examples
///
/// ```
/// use hotloop::Time;
/// use std::time::Duration;
///
/// let begun = Time::from_nanos(1_500_000_000);
/// let due = begun + Duration::from_millis(250);
/// assert_eq!(due.since(begun), Duration::from_millis(250));
/// assert_eq!(begun.since(due), Duration::ZERO, "it saturates");
/// assert_eq!(due.to_string(), "1.750000000s");
/// assert_eq!(begun + Duration::MAX, Time::NEVER);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(u64);

impl Time {
    /// The moment that never comes.
    pub const NEVER: Time = Time(u64::MAX);

    /// Makes a moment from nanoseconds since the clock's start.
    pub const fn from_nanos(nanos: u64) -> Time {
        Time(nanos)
    }

    /// Returns the nanoseconds since the clock's start.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Returns how long after `earlier` this moment lies; zero if it lies before.
    pub const fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Returns the moment `nanos` nanoseconds later, at most [`Time::NEVER`].
    pub(crate) const fn after_nanos(self, nanos: u64) -> Time {
        Time(self.0.saturating_add(nanos))
    }
}

impl Add<Duration> for Time {
    type Output = Time;

    fn add(self, delay: Duration) -> Time {
        self.after_nanos(nanos(delay))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}s", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}

/// Returns a duration in nanoseconds, at most `u64::MAX` (584 years: never).
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_past_u64_saturates_to_never() {
        assert_eq!(Time::from_nanos(5) + Duration::MAX, Time::NEVER);
        assert_eq!(nanos(Duration::MAX), u64::MAX);
    }

    #[test]
    fn since_is_zero_for_a_later_moment() {
        let (early, late) = (Time::from_nanos(3), Time::from_nanos(10));
        assert_eq!(late.since(early), Duration::from_nanos(7));
        assert_eq!(early.since(late), Duration::ZERO);
    }
}
