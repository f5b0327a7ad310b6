//! How long to wait before the next try.

use std::time::Duration;

use crate::time::nanos;

/// Delays that double from try to try, up to a maximum, each shortened by chance.
///
/// Chance, because clients that lose a server at the same moment must not come back at the same
/// moment: each delay lies between a half and the whole of its nominal value. It is drawn from a
/// seed, so that a run can be repeated; give each client its own, the process id for instance.
///
/// ```
/// use hotloop::client::Backoff;
/// use std::time::Duration;
///
/// let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5)).seed(7);
/// let first = backoff.next_delay();
/// assert!(first >= Duration::from_millis(50) && first <= Duration::from_millis(100));
/// let second = backoff.next_delay();
/// assert!(second >= Duration::from_millis(100) && second <= Duration::from_millis(200));
/// backoff.reset();
/// assert!(backoff.next_delay() <= Duration::from_millis(100));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    first_nanos: u64,
    longest_nanos: u64,
    /// The nominal value of the next delay.
    next_nanos: u64,
    random: u64,
}

impl Default for Backoff {
    /// From 100 ms, a few round trips, to 10 s, which a restarted server notices soon enough and
    /// an overloaded one survives.
    fn default() -> Backoff {
        Backoff::new(Duration::from_millis(100), Duration::from_secs(10))
    }
}

impl Backoff {
    /// Makes delays from `first` to `longest`; a `longest` below `first` counts as `first`. Zero
    /// counts as one nanosecond.
    pub fn new(first: Duration, longest: Duration) -> Backoff {
        let first_nanos = nanos(first).max(1);
        let longest_nanos = nanos(longest).max(first_nanos);
        Backoff { first_nanos, longest_nanos, next_nanos: first_nanos, random: 0 }
    }

    /// Sets what chance is drawn from. Default: 0.
    pub fn seed(mut self, seed: u64) -> Self {
        self.random = seed;
        self
    }

    /// Returns the delay before the next try.
    pub fn next_delay(&mut self) -> Duration {
        let nominal = self.next_nanos;
        self.next_nanos = nominal.saturating_mul(2).min(self.longest_nanos);
        let half = nominal / 2;
        Duration::from_nanos(nominal - self.draw() % (half + 1))
    }

    /// Starts over with the first delay: the last try has succeeded.
    pub fn reset(&mut self) {
        self.next_nanos = self.first_nanos;
    }

    /// Draws a number (SplitMix64, Steele, Lea and Flood 2014).
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delays(backoff: &mut Backoff, count: usize) -> Vec<Duration> {
        (0..count).map(|_| backoff.next_delay()).collect()
    }

    #[test]
    fn each_delay_is_between_half_and_all_of_twice_the_one_before() {
        for seed in 0..200 {
            let mut backoff =
                Backoff::new(Duration::from_millis(10), Duration::from_millis(65)).seed(seed);
            for nominal in [10, 20, 40, 65, 65, 65] {
                let delay = backoff.next_delay();
                let nominal = Duration::from_millis(nominal);
                assert!((nominal / 2..=nominal).contains(&delay), "{delay:?} of {nominal:?}");
            }
        }
    }

    #[test]
    fn a_seed_repeats_its_delays_and_another_one_has_others() {
        let make = |seed| Backoff::default().seed(seed);
        assert_eq!(delays(&mut make(1), 20), delays(&mut make(1), 20));
        assert_ne!(delays(&mut make(1), 20), delays(&mut make(2), 20));
    }

    #[test]
    fn extremes_neither_overflow_nor_come_to_nothing() {
        let mut never = Backoff::new(Duration::MAX, Duration::ZERO);
        assert!(delays(&mut never, 3).iter().all(|delay| delay.as_secs() > 1 << 30));
        let mut at_once = Backoff::new(Duration::ZERO, Duration::ZERO);
        assert!(delays(&mut at_once, 3).iter().all(|delay| delay.as_nanos() == 1));
    }
}
