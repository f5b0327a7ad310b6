//! The descriptor by which another loop waits for this one.

/// A descriptor that another poller can wait on, borrowed from a loop
/// ([`Loop::poll_fd`](crate::Loop::poll_fd)).
///
/// # Platform
///
/// On Unix a [`BorrowedFd`](std::os::fd::BorrowedFd). Windows has no descriptors, and nothing that
/// its waits take makes a loop part of another: there this is a type without values.
#[cfg(unix)]
pub type PollFd<'a> = std::os::fd::BorrowedFd<'a>;

/// A descriptor that another poller can wait on, borrowed from a loop
/// ([`Loop::poll_fd`](crate::Loop::poll_fd)). There is none on this system: no value has this type.
#[cfg(not(unix))]
#[derive(Debug, Clone, Copy)]
pub struct PollFd<'a>(std::convert::Infallible, std::marker::PhantomData<&'a ()>);
