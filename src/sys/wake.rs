//! An eventfd: a descriptor that any thread can make readable.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::errno::{self, EINTR};

/// A counter of the kernel's that is readable when it is not 0 (`eventfd(2)`). Non-blocking and
/// close-on-exec.
#[derive(Debug)]
pub(crate) struct EventFd(OwnedFd);

impl EventFd {
    pub(crate) fn new() -> io::Result<EventFd> {
        // SAFETY: no memory is passed.
        let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        let fd = errno::check(fd)?;
        // SAFETY: a new descriptor that nobody else owns.
        Ok(EventFd(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Makes it readable. Callable from every thread; does not block and does not fail.
    pub(crate) fn raise(&self) {
        let one = 1u64.to_ne_bytes();
        loop {
            // SAFETY: the pointer and the length are those of an array.
            let taken = unsafe { libc::write(self.as_raw_fd(), one.as_ptr().cast(), one.len()) };
            // Any other error is EAGAIN, from a counter that is full: it is raised already.
            if taken >= 0 || errno::last().0 != EINTR {
                return;
            }
        }
    }

    /// Makes it unreadable until it is raised again.
    pub(crate) fn reset(&self) {
        let mut count = [0u8; 8];
        let (start, len) = (count.as_mut_ptr(), count.len());
        loop {
            // SAFETY: the pointer and the length are those of an array.
            let got = unsafe { libc::read(self.as_raw_fd(), start.cast(), len) };
            // Any other error is EAGAIN, from a counter that is 0: it is reset already.
            if got >= 0 || errno::last().0 != EINTR {
                return;
            }
        }
    }
}

impl AsRawFd for EventFd {
    #[inline]
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(fd: &EventFd) -> Option<u64> {
        let mut bytes = [0u8; 8];
        // SAFETY: the pointer and the length are those of an array.
        let got = unsafe { libc::read(fd.as_raw_fd(), bytes.as_mut_ptr().cast(), 8) };
        (got == 8).then(|| u64::from_ne_bytes(bytes))
    }

    #[test]
    fn raises_add_up_and_one_reset_takes_them_all() {
        let fd = EventFd::new().expect("eventfd");
        fd.raise();
        fd.raise();
        assert_eq!(count(&fd), Some(2));
        fd.raise();
        fd.reset();
        assert_eq!(count(&fd), None);
        fd.reset();
    }

    #[test]
    fn a_full_counter_takes_a_raise_without_harm() {
        let fd = EventFd::new().expect("eventfd");
        let most = (u64::MAX - 1).to_ne_bytes();
        // SAFETY: the pointer and the length are those of an array.
        let taken = unsafe { libc::write(fd.as_raw_fd(), most.as_ptr().cast(), most.len()) };
        assert_eq!(taken, 8);
        fd.raise();
        assert_eq!(count(&fd), Some(u64::MAX - 1));
    }
}
