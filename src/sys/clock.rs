//! The monotonic clock.

use crate::time::Time;

/// Reads `CLOCK_MONOTONIC` (`clock_gettime(2)`): the clock that `epoll_wait(2)` counts on, and
/// one call without a switch to the kernel.
#[cfg(target_os = "linux")]
#[inline]
pub(crate) fn monotonic() -> Time {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a timespec to write to.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    debug_assert_eq!(result, 0, "every Linux has this clock");
    // The kernel's clock starts at boot and its nanoseconds are below 10^9: neither is negative.
    let (seconds, nanos) = (now.tv_sec as u64, now.tv_nsec as u64);
    Time::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

/// Reads the monotonic clock of the standard library, from the first time on that it is read.
#[cfg(not(target_os = "linux"))]
pub(crate) fn monotonic() -> Time {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    let start = *START.get_or_init(std::time::Instant::now);
    // One, because zero is no time that a clock shows.
    let nanos = start.elapsed().as_nanos() + 1;
    Time::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_runs_and_does_not_step_back() {
        let start = monotonic();
        assert!(start > Time::from_nanos(0));
        let mut last = start;
        while last == start {
            let next = monotonic();
            assert!(next >= last);
            last = next;
        }
    }
}
