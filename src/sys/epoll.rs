//! epoll: which descriptors are ready.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use super::errno::{self, EINTR, ENOSYS, EPERM};
use crate::error::Errno;

pub(crate) const IN: u32 = libc::EPOLLIN as u32;
pub(crate) const OUT: u32 = libc::EPOLLOUT as u32;
pub(crate) const PRI: u32 = libc::EPOLLPRI as u32;
pub(crate) const RDHUP: u32 = libc::EPOLLRDHUP as u32;
pub(crate) const HUP: u32 = libc::EPOLLHUP as u32;
pub(crate) const ERR: u32 = libc::EPOLLERR as u32;
pub(crate) const ET: u32 = libc::EPOLLET as u32;

/// What one wait reports at most; the kernel keeps the rest for the next one, in turn.
const EVENTS_MAX: i32 = 1024;
/// The longest time `epoll_wait(2)` can express, 24 days. A longer wait ends early.
const LONGEST: Duration = Duration::from_millis(i32::MAX as u64);
const NANOS_PER_MILLI: u32 = 1_000_000;

/// A descriptor that is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ready {
    pub(crate) mask: u32,
    /// What the descriptor was registered with.
    pub(crate) data: u64,
}

/// An epoll instance (`epoll(7)`), close-on-exec.
#[derive(Debug)]
pub(crate) struct Poller {
    fd: OwnedFd,
    events: Vec<libc::epoll_event>,
    /// `epoll_pwait2(2)` is there: Linux 5.11, and no filter that forbids it.
    has_pwait2: bool,
}

impl Poller {
    pub(crate) fn new() -> io::Result<Poller> {
        // SAFETY: no memory is passed.
        let fd = errno::check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: a new descriptor that nobody else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let none = libc::epoll_event { events: 0, u64: 0 };
        Ok(Poller { fd, events: vec![none; EVENTS_MAX as usize], has_pwait2: true })
    }

    /// Registers a descriptor. What is ready already is reported by the next wait.
    pub(crate) fn add(&self, fd: RawFd, mask: u32, data: u64) -> Result<(), Errno> {
        self.control(libc::EPOLL_CTL_ADD, fd, mask, data)
    }

    /// Ends the registration of a descriptor.
    pub(crate) fn delete(&self, fd: RawFd) -> Result<(), Errno> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, 0)
    }

    /// Waits until a descriptor is ready or the timeout (`None`: without one) is over, in one
    /// system call. Ends early, with nothing, when a signal comes and after 24 days.
    #[inline]
    #[allow(
        clippy::indexing_slicing,
        reason = "the kernel writes no more events than there is room for"
    )]
    pub(crate) fn wait(
        &mut self,
        timeout: Option<Duration>,
    ) -> io::Result<impl Iterator<Item = Ready> + '_> {
        let count = match self.wait_for(timeout.map(|timeout| timeout.min(LONGEST))) {
            Ok(count) => count,
            Err(Errno(EINTR)) => 0,
            Err(errno) => return Err(errno.into()),
        };
        Ok(self.events[..count].iter().map(|event| Ready { mask: event.events, data: event.u64 }))
    }

    fn control(&self, operation: i32, fd: RawFd, mask: u32, data: u64) -> Result<(), Errno> {
        let mut event = libc::epoll_event { events: mask, u64: data };
        // SAFETY: `event` is an epoll_event; the kernel checks the descriptors.
        let result = unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), operation, fd, &mut event) };
        if result < 0 { Err(errno::last()) } else { Ok(()) }
    }

    #[inline]
    fn wait_for(&mut self, timeout: Option<Duration>) -> Result<usize, Errno> {
        let finer = timeout.filter(|time| time.subsec_nanos() % NANOS_PER_MILLI != 0);
        let Some(finer) = finer.filter(|_| self.has_pwait2) else {
            return self.wait_millis(millis(timeout));
        };
        match self.wait_nanos(finer) {
            Err(Errno(ENOSYS | EPERM)) => {
                self.has_pwait2 = false;
                self.wait_millis(millis(timeout))
            }
            result => result,
        }
    }

    #[inline]
    fn wait_millis(&mut self, millis: i32) -> Result<usize, Errno> {
        let events = self.events.as_mut_ptr();
        // SAFETY: `events` has room for EVENTS_MAX events.
        let count = unsafe { libc::epoll_wait(self.fd.as_raw_fd(), events, EVENTS_MAX, millis) };
        usize::try_from(count).map_err(|_| errno::last())
    }

    #[inline]
    fn wait_nanos(&mut self, timeout: Duration) -> Result<usize, Errno> {
        /// The kernel's own: 64 bits everywhere, also where libc's is not.
        #[repr(C)]
        struct KernelTimespec {
            tv_sec: u64,
            tv_nsec: u64,
        }
        let timeout = KernelTimespec {
            tv_sec: timeout.as_secs(),
            tv_nsec: u64::from(timeout.subsec_nanos()),
        };
        let no_mask = std::ptr::null::<libc::sigset_t>();
        // SAFETY: `events` has room for EVENTS_MAX events, `timeout` is what the kernel expects,
        // and without a signal mask its size is not looked at.
        let count = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.fd.as_raw_fd(),
                self.events.as_mut_ptr(),
                EVENTS_MAX,
                &raw const timeout,
                no_mask,
                0usize,
            )
        };
        usize::try_from(count).map_err(|_| errno::last())
    }
}

impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Returns a timeout in milliseconds, rounded up: rounded down, a loop would spin through the
/// last one.
fn millis(timeout: Option<Duration>) -> i32 {
    let Some(timeout) = timeout else { return -1 };
    let millis = timeout.as_nanos().div_ceil(u128::from(NANOS_PER_MILLI));
    i32::try_from(millis).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    use super::super::{clock, wake::EventFd};
    use super::*;

    const NOW: Option<Duration> = Some(Duration::ZERO);

    fn events(poller: &mut Poller, timeout: Option<Duration>) -> Vec<Ready> {
        poller.wait(timeout).expect("a wait does not fail").collect()
    }

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let near = TcpStream::connect(listener.local_addr().expect("bound")).expect("connect");
        (near, listener.accept().expect("accept").0)
    }

    #[test]
    fn timeouts_are_rounded_up_to_milliseconds_and_clamped() {
        let cases = [(0, 0), (1, 1), (999_999, 1), (1_000_000, 1), (1_000_001, 2)];
        for (nanos, expected) in cases {
            assert_eq!(millis(Some(Duration::from_nanos(nanos))), expected, "{nanos}");
        }
        assert_eq!(millis(Some(LONGEST + Duration::from_nanos(1))), i32::MAX);
        assert_eq!(millis(Some(Duration::MAX)), i32::MAX);
        assert_eq!(millis(None), -1);
    }

    #[test]
    fn no_wait_ends_before_its_timeout() {
        for has_pwait2 in [true, false] {
            for timeout in [Duration::from_nanos(300_001), Duration::from_millis(1)] {
                let mut poller = Poller::new().expect("epoll");
                poller.has_pwait2 = has_pwait2;
                let start = clock::monotonic();
                assert_eq!(events(&mut poller, Some(timeout)), []);
                // Without epoll_pwait2 whole milliseconds are all there is.
                let least = if has_pwait2 { timeout } else { Duration::from_millis(1) };
                assert!(clock::monotonic().since(start) >= least, "{timeout:?} {has_pwait2}");
            }
        }
    }

    #[test]
    fn every_kind_of_timeout_reports_what_is_ready() {
        let raised = EventFd::new().expect("eventfd");
        raised.raise();
        let nanos = Some(Duration::from_nanos(1));
        for timeout in [None, NOW, nanos, Some(Duration::from_millis(1)), Some(Duration::MAX)] {
            for has_pwait2 in [true, false] {
                let mut poller = Poller::new().expect("epoll");
                poller.has_pwait2 = has_pwait2;
                poller.add(raised.as_raw_fd(), IN, 7).expect("add");
                assert_eq!(events(&mut poller, timeout), [Ready { mask: IN, data: 7 }]);
            }
        }
    }

    #[test]
    fn an_edge_is_reported_once_and_each_raise_is_one() {
        let fd = EventFd::new().expect("eventfd");
        let mut poller = Poller::new().expect("epoll");
        poller.add(fd.as_raw_fd(), IN | ET, 1).expect("add");
        assert_eq!(events(&mut poller, NOW), []);
        for _ in 0..2 {
            fd.raise();
            assert_eq!(events(&mut poller, NOW).len(), 1);
            assert_eq!(events(&mut poller, NOW), []);
        }
    }

    #[test]
    fn a_deleted_descriptor_is_silent_while_a_duplicate_lives() {
        let (near, mut far) = pair();
        let mut poller = Poller::new().expect("epoll");
        poller.add(near.as_raw_fd(), IN, 1).expect("add");
        let duplicate = near.try_clone().expect("dup");
        poller.delete(near.as_raw_fd()).expect("delete");
        drop(near);
        far.write_all(b"x").expect("write");
        let mut byte = [0];
        assert_eq!(duplicate.peek(&mut byte).expect("the byte is there"), 1);
        assert_eq!(events(&mut poller, NOW), []);
    }

    #[test]
    fn errors_of_a_registration_are_told() {
        let fd = EventFd::new().expect("eventfd");
        let poller = Poller::new().expect("epoll");
        assert_eq!(poller.delete(fd.as_raw_fd()), Err(Errno(errno::ENOENT)));
        assert_eq!(poller.add(-1, IN, 0), Err(Errno(errno::EBADF)));
    }
}
