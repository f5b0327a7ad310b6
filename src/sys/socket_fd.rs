//! A socket as its system names it.

use socket2::Socket;

/// A socket that is lent by a loop ([`Net::fd`](crate::Net::fd)).
///
/// # Platform
///
/// On Unix a [`BorrowedFd`](std::os::fd::BorrowedFd), on Windows a `BorrowedSocket`.
#[cfg(unix)]
pub type SocketFd<'a> = std::os::fd::BorrowedFd<'a>;

/// A socket that is lent by a loop ([`Net::fd`](crate::Net::fd)).
#[cfg(windows)]
pub type SocketFd<'a> = std::os::windows::io::BorrowedSocket<'a>;

/// Lends a socket.
#[cfg(unix)]
pub(crate) fn lend(socket: &Socket) -> SocketFd<'_> {
    std::os::fd::AsFd::as_fd(socket)
}

/// Lends a socket.
#[cfg(windows)]
pub(crate) fn lend(socket: &Socket) -> SocketFd<'_> {
    std::os::windows::io::AsSocket::as_socket(socket)
}
