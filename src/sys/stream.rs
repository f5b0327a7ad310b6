//! TCP sockets as `socket2` has them on every system. What is made here is non-blocking and is
//! not inherited by child processes.

use std::io::{self, IoSlice, Read};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::errno::{self, EAGAIN, ECONNABORTED, EINPROGRESS, EINTR};
use super::option;
use crate::error::Errno;
use crate::options::{ListenOptions, invalid};

/// A peer that is gone must not become a SIGPIPE. On Apple's systems `socket2` sets an option
/// against it (`SO_NOSIGPIPE`), and Windows has no such signal.
#[cfg(all(unix, not(target_vendor = "apple")))]
const SEND_FLAGS: i32 = libc::MSG_NOSIGNAL;
#[cfg(not(all(unix, not(target_vendor = "apple"))))]
const SEND_FLAGS: i32 = 0;

/// Opens a socket that listens on an address.
pub(crate) fn listen(addr: SocketAddr, options: &ListenOptions) -> io::Result<Socket> {
    let socket = open(addr)?;
    // Elsewhere the option would let another process take the address over.
    #[cfg(unix)]
    socket.set_reuse_address(options.reuse_address)?;
    if options.reuse_port {
        set_reuse_port(&socket)?;
    }
    if addr.is_ipv6() {
        // Set both ways: the default is a setting of the system (`bindv6only`, ipv6(7)).
        socket.set_only_v6(options.v6_only)?;
    }
    option::set_all(&socket, &options.socket)?;
    socket.bind(&addr.into())?;
    socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
    Ok(socket)
}

#[cfg(unix)]
fn set_reuse_port(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_port(true)
}

#[cfg(not(unix))]
fn set_reuse_port(_: &Socket) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "reuse_port: this system has none"))
}

/// Opens a socket that can connect to an address.
pub(crate) fn open(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Returns the peer's address of a socket that came from elsewhere.
///
/// # Errors
///
/// `ENOTCONN` if it is not connected; [`io::ErrorKind::InvalidInput`] if it is no TCP connection.
pub(crate) fn check_stream(socket: &Socket) -> io::Result<SocketAddr> {
    if socket.r#type()? != Type::STREAM {
        return Err(invalid("no stream socket"));
    }
    // A listener has no peer: it is not connected.
    socket.peer_addr()?.as_socket().ok_or_else(|| invalid("no socket of IP"))
}

/// Returns the address of a listener that came from elsewhere.
///
/// # Errors
///
/// [`io::ErrorKind::InvalidInput`] if it is none of TCP.
pub(crate) fn check_listener(socket: &Socket) -> io::Result<SocketAddr> {
    if !is_listener(socket)? {
        return Err(invalid("a socket that does not listen"));
    }
    socket.local_addr()?.as_socket().ok_or_else(|| invalid("no socket of IP"))
}

#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
fn is_listener(socket: &Socket) -> io::Result<bool> {
    socket.is_listener()
}

/// Only a guess: a stream socket that is bound and not connected. The first accept tells.
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
fn is_listener(socket: &Socket) -> io::Result<bool> {
    let is_stream = socket.r#type()? == Type::STREAM;
    Ok(is_stream && socket.local_addr().is_ok() && socket.peer_addr().is_err())
}

/// Makes a socket that came from elsewhere one of ours: non-blocking and not inherited. The last
/// thing before it is registered: one that is refused goes on as it was.
pub(crate) fn make_ours(socket: &Socket) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    #[cfg(unix)]
    socket.set_cloexec(true)?;
    #[cfg(windows)]
    socket.set_no_inherit(true)?;
    Ok(())
}

/// Begins to connect; returns whether it is done.
pub(crate) fn connect(socket: &Socket, addr: SocketAddr) -> Result<bool, Errno> {
    match socket.connect(&addr.into()).map_err(|error| errno::of_io(&error)) {
        Ok(()) => Ok(true),
        // An interrupted connect goes on by itself (`connect(2)`).
        Err(Errno(EINPROGRESS | EINTR)) => Ok(false),
        // Winsock's word for it (`connect`, WSAEWOULDBLOCK).
        Err(Errno(EAGAIN)) if cfg!(windows) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Accepts a connection.
pub(crate) fn accept(listener: &Socket) -> Result<(Socket, SocketAddr), Errno> {
    let (socket, peer) = done(|| listener.accept())?;
    let peer = peer.as_socket().ok_or(Errno(ECONNABORTED))?;
    match socket.set_nonblocking(true) {
        Ok(()) => Ok((socket, peer)),
        Err(_) => Err(Errno(ECONNABORTED)),
    }
}

/// Receives into `space`; 0 is the peer's FIN.
pub(crate) fn recv(socket: &Socket, space: &mut [u8]) -> Result<usize, Errno> {
    let mut socket = socket;
    done(|| socket.read(space))
}

/// Looks at the next byte without taking it; 0 is the peer's FIN.
pub(crate) fn peek(socket: &Socket) -> Result<usize, Errno> {
    done(|| socket.peek(&mut [MaybeUninit::uninit()]))
}

/// Takes the byte out of band, if there is one: until then it is reported again and again where
/// readiness is a level.
pub(crate) fn discard_urgent(socket: &Socket) {
    let _ = socket.recv_out_of_band(&mut [MaybeUninit::uninit()]);
}

/// Sends the first bytes of `data`; returns how many.
pub(crate) fn send(socket: &Socket, data: &[u8]) -> Result<usize, Errno> {
    done(|| socket.send_with_flags(data, SEND_FLAGS))
}

/// Sends the first bytes of several slices; returns how many bytes.
pub(crate) fn send_vectored(socket: &Socket, slices: &[IoSlice<'_>]) -> Result<usize, Errno> {
    done(|| socket.send_vectored_with_flags(slices, SEND_FLAGS))
}

/// Sends a FIN after everything that was sent.
pub(crate) fn shutdown_write(socket: &Socket) -> Result<(), Errno> {
    done(|| socket.shutdown(std::net::Shutdown::Write))
}

/// Takes the pending error. If even asking fails, that error is it.
pub(crate) fn take_error(socket: &Socket) -> Option<Errno> {
    match socket.take_error() {
        Ok(pending) => pending.as_ref().map(errno::of_io),
        Err(error) => Some(errno::of_io(&error)),
    }
}

/// Returns the peer's address, or `ENOTCONN`.
pub(crate) fn peer_addr(socket: &Socket) -> Result<SocketAddr, Errno> {
    done(|| socket.peer_addr())?.as_socket().ok_or(Errno(ECONNABORTED))
}

/// Has the close that follows reset the connection.
pub(crate) fn reset_on_close(socket: &Socket) {
    // A failure leaves an ordinary close, which is all that can be done then.
    let _ = socket.set_linger(Some(Duration::ZERO));
}

/// Returns how many bytes can be received at once (`FIONREAD`, `tcp(7)`), not counting what lies
/// behind an urgent mark; 0 if the system does not say.
#[cfg(unix)]
pub(crate) fn unread_bytes(socket: &Socket) -> usize {
    let fd = std::os::fd::AsRawFd::as_raw_fd(socket);
    let mut count: libc::c_int = 0;
    // SAFETY: `count` is the integer that this request writes.
    let result = unsafe { libc::ioctl(fd, libc::FIONREAD, &raw mut count) };
    if result < 0 { 0 } else { usize::try_from(count).unwrap_or(0) }
}

/// The system is not asked.
#[cfg(not(unix))]
pub(crate) fn unread_bytes(_: &Socket) -> usize {
    0
}

/// Makes a call until no signal interrupts it.
fn done<T>(mut call: impl FnMut() -> io::Result<T>) -> Result<T, Errno> {
    loop {
        match call().map_err(|error| errno::of_io(&error)) {
            Err(Errno(EINTR)) => {}
            result => return result,
        }
    }
}
