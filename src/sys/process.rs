//! Limits of the process.

/// Descriptors left to the program: its files, and the loop's own.
const FILES_RESERVED: usize = 64;

/// Returns how many connections a loop can have.
pub(crate) fn connections_max() -> usize {
    open_files_max().saturating_sub(FILES_RESERVED)
}

/// Returns how many descriptors the process may have open: the soft `RLIMIT_NOFILE`
/// (`getrlimit(2)`).
#[cfg(unix)]
pub(crate) fn open_files_max() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is an rlimit to write to.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    debug_assert_eq!(result, 0, "every Unix has this limit");
    // RLIM_INFINITY is the largest value of its type.
    usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX)
}

/// Windows has no such limit but its memory: this is far above what anybody has run.
#[cfg(not(unix))]
pub(crate) fn open_files_max() -> usize {
    1 << 20
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn the_limit_is_above_every_open_descriptor() {
        let file = std::fs::File::open("/proc/self/stat").expect("Linux");
        let fd = usize::try_from(file.as_raw_fd()).expect("not negative");
        assert!(open_files_max() > fd);
    }
}
