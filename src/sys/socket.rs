//! TCP sockets by descriptor: creation, options, input and output.
//!
//! Whatever is made here is non-blocking and close-on-exec from the start. A descriptor that has
//! an owner is an `OwnedFd`; the functions of the hot path take the number, and the kernel
//! answers `EBADF` for one that is not open.

use std::io::{self, IoSlice};
use std::mem;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, SockRef, Socket, Type};

use super::errno::{self, EINTR};
use super::option;
use super::stream;
use crate::error::Errno;
use crate::options::ListenOptions;

/// `O_NONBLOCK` belongs to the open file, which a forked or a receiving process may share and
/// change; the flag does not. A peer that is gone must not become a SIGPIPE.
const SEND_FLAGS: i32 = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
const RECV_FLAGS: i32 = libc::MSG_DONTWAIT;

/// Opens a socket that listens on an address.
pub(crate) fn listen(addr: SocketAddr, options: &ListenOptions) -> io::Result<OwnedFd> {
    let socket = stream(addr)?;
    socket.set_reuse_address(options.reuse_address)?;
    if options.reuse_port {
        socket.set_reuse_port(true)?;
    }
    if addr.is_ipv6() {
        // Set both ways: the system's default is a setting (`bindv6only`, ipv6(7)).
        socket.set_only_v6(options.v6_only)?;
    }
    option::set_all(&socket, &options.socket)?;
    socket.bind(&addr.into())?;
    socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

/// Takes a descriptor back that was given away as a number.
pub(crate) fn own(fd: RawFd) -> Socket {
    // SAFETY: the caller gives the descriptor up, and it was made from an owned socket.
    unsafe { Socket::from_raw_fd(fd) }
}

/// Opens a socket that can connect to an address.
pub(crate) fn open(addr: SocketAddr) -> io::Result<OwnedFd> {
    stream(addr).map(OwnedFd::from)
}

/// Begins to connect (`connect(2)`).
pub(crate) fn connect(fd: RawFd, addr: SocketAddr) -> Result<(), Errno> {
    with(fd, |socket| socket.connect(&addr.into()))
}

/// Accepts a connection (`accept4(2)`). The address is missing if it is not one of IP.
#[inline]
pub(crate) fn accept(listener: RawFd) -> Result<(OwnedFd, Option<SocketAddr>), Errno> {
    let mut storage = SockAddrStorage::zeroed();
    let mut len = storage.size_of();
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    let start = (&raw mut storage).cast();
    // SAFETY: `start` points to `len` bytes to write to.
    let fd = unsafe { libc::accept4(listener, start, &mut len, flags) };
    if fd < 0 {
        return Err(errno::last());
    }
    // SAFETY: a new descriptor that nobody else owns.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: the kernel wrote an address of this length, and the rest is zero.
    let peer = unsafe { SockAddr::new(storage, len) };
    Ok((socket, peer.as_socket()))
}

/// Receives into `space`; 0 is the peer's FIN.
#[inline]
pub(crate) fn recv(fd: RawFd, space: &mut [u8]) -> Result<usize, Errno> {
    let (start, len) = (space.as_mut_ptr().cast(), space.len());
    // SAFETY: `start` points to `len` bytes to write to.
    transfer(|| unsafe { libc::recv(fd, start, len, RECV_FLAGS) })
}

/// Looks at the next byte without taking it; 0 is the peer's FIN.
pub(crate) fn peek(fd: RawFd) -> Result<usize, Errno> {
    let mut byte = [0u8];
    let (start, flags) = (byte.as_mut_ptr().cast(), RECV_FLAGS | libc::MSG_PEEK);
    // SAFETY: `start` points to one byte to write to.
    transfer(|| unsafe { libc::recv(fd, start, 1, flags) })
}

/// Sends the first bytes of `data`; returns how many.
#[inline]
pub(crate) fn send(fd: RawFd, data: &[u8]) -> Result<usize, Errno> {
    // SAFETY: the pointer and the length are those of a slice.
    transfer(|| unsafe { libc::send(fd, data.as_ptr().cast(), data.len(), SEND_FLAGS) })
}

/// Sends the first bytes of several slices, at most `IOV_MAX`; returns how many bytes.
#[inline]
pub(crate) fn send_vectored(fd: RawFd, slices: &[IoSlice<'_>]) -> Result<usize, Errno> {
    // SAFETY: all zeros is a message without address, data and control.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    // `IoSlice` has the layout of an iovec, by its documentation. The kernel only reads.
    message.msg_iov = slices.as_ptr().cast_mut().cast();
    message.msg_iovlen = slices.len() as _;
    // SAFETY: `message` names as many slices as there are, and they outlive the call.
    transfer(|| unsafe { libc::sendmsg(fd, &message, SEND_FLAGS) })
}

/// Sends a FIN after everything that was sent (`shutdown(2)`).
pub(crate) fn shutdown_write(fd: RawFd) -> Result<(), Errno> {
    // SAFETY: no memory is passed.
    let result = unsafe { libc::shutdown(fd, libc::SHUT_WR) };
    if result < 0 { Err(errno::last()) } else { Ok(()) }
}

/// Takes the pending error (`SO_ERROR`, `socket(7)`). If even asking fails, that error is it.
pub(crate) fn take_error(fd: RawFd) -> Option<Errno> {
    match with(fd, |socket| socket.take_error()) {
        Ok(pending) => pending.as_ref().map(errno::of_io),
        Err(errno) => Some(errno),
    }
}

/// Returns how many bytes can be received at once, as [`stream::unread_bytes`].
pub(crate) fn unread_bytes(fd: RawFd) -> usize {
    with(fd, |socket| Ok(stream::unread_bytes(&socket))).unwrap_or(0)
}

/// Returns the socket's own address.
pub(crate) fn local_addr(fd: RawFd) -> Result<SocketAddr, Errno> {
    with(fd, |socket| socket.local_addr())?.as_socket().ok_or(Errno(libc::EAFNOSUPPORT))
}

/// Returns the peer's address, or `ENOTCONN`.
pub(crate) fn peer_addr(fd: RawFd) -> Result<SocketAddr, Errno> {
    with(fd, |socket| socket.peer_addr())?.as_socket().ok_or(Errno(libc::EAFNOSUPPORT))
}

/// Closes a descriptor. Linux frees it whatever the answer is (`close(2)`).
#[inline]
pub(crate) fn close(fd: RawFd) {
    // SAFETY: no memory is passed; the caller gives the descriptor up.
    unsafe { libc::close(fd) };
}

/// Closes a connection with a RST and drops what the kernel has of it (`SO_LINGER` of 0,
/// `socket(7)`).
pub(crate) fn close_reset(fd: RawFd) {
    // A failure leaves an ordinary close, which is all that can be done then.
    let _ = with(fd, |socket| socket.set_linger(Some(Duration::ZERO)));
    close(fd);
}

/// Opens a stream socket of an address's family.
fn stream(addr: SocketAddr) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    Socket::new_raw(Domain::for_address(addr), kind, Some(Protocol::TCP))
}

/// Calls a function on a descriptor as a socket.
pub(crate) fn borrowed<R>(fd: RawFd, call: impl FnOnce(&Socket) -> io::Result<R>) -> io::Result<R> {
    if fd < 0 {
        return Err(Errno(errno::EBADF).into());
    }
    // SAFETY: not -1, and the caller keeps the descriptor open during this call.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    call(&SockRef::from(&fd))
}

/// Lends a descriptor for as long as its owner is not changed.
pub(crate) fn lend<T>(_owner: &T, fd: RawFd) -> BorrowedFd<'_> {
    // SAFETY: the owner keeps the descriptor open as long as it is borrowed, and it is not -1.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// Calls a function of `socket2` on a descriptor.
#[inline]
fn with<R>(fd: RawFd, call: impl FnOnce(SockRef<'_>) -> io::Result<R>) -> Result<R, Errno> {
    if fd < 0 {
        return Err(Errno(errno::EBADF));
    }
    // SAFETY: not -1, and the caller keeps the descriptor open during this call.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    call(SockRef::from(&fd)).map_err(|error| errno::of_io(&error))
}

/// Makes a transfer, again as long as a signal interrupts it; returns what it came to.
#[inline]
fn transfer(call: impl Fn() -> isize) -> Result<usize, Errno> {
    usize::try_from(call()).or_else(|_| transfer_again(call))
}

/// Goes on with a transfer whose last call failed: only a signal's interruption is no answer.
#[cold]
fn transfer_again(call: impl Fn() -> isize) -> Result<usize, Errno> {
    loop {
        match errno::last() {
            Errno(EINTR) => {}
            errno => return Err(errno),
        }
        if let Ok(count) = usize::try_from(call()) {
            return Ok(count);
        }
    }
}

/// Makes a second descriptor of the same socket, as a fork does.
#[cfg(test)]
pub(crate) fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the caller keeps the descriptor open during the call.
    unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv6Addr, TcpListener, TcpStream};
    use std::os::fd::AsRawFd;

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let near = TcpStream::connect(listener.local_addr().expect("bound")).expect("connect");
        let (far, _) = listener.accept().expect("accept");
        (near, far)
    }

    fn loopback() -> SocketAddr {
        "127.0.0.1:0".parse().expect("an address")
    }

    /// Tries until the kernel has an answer.
    fn answer<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
        loop {
            match call() {
                Err(Errno(errno::EAGAIN)) => std::thread::yield_now(),
                result => return result,
            }
        }
    }

    fn flags(fd: RawFd) -> (bool, bool) {
        // SAFETY: no memory is passed.
        let status = unsafe { libc::fcntl(fd, libc::F_GETFL) };
        // SAFETY: no memory is passed.
        let own = unsafe { libc::fcntl(fd, libc::F_GETFD) };
        (status & libc::O_NONBLOCK != 0, own & libc::FD_CLOEXEC != 0)
    }

    #[test]
    fn every_socket_is_non_blocking_and_close_on_exec() {
        let listener = listen(loopback(), &ListenOptions::default()).expect("listen");
        let addr = local_addr(listener.as_raw_fd()).expect("bound");
        let near = open(addr).expect("socket");
        let begun = connect(near.as_raw_fd(), addr);
        assert!(matches!(begun, Ok(()) | Err(Errno(errno::EINPROGRESS))), "{begun:?}");
        let (far, peer) = answer(|| accept(listener.as_raw_fd())).expect("accept");
        assert_eq!(peer, local_addr(near.as_raw_fd()).ok());
        for fd in [&listener, &near, &far] {
            assert_eq!(flags(fd.as_raw_fd()), (true, true));
        }
        assert!(matches!(accept(listener.as_raw_fd()), Err(Errno(errno::EAGAIN))));
    }

    #[test]
    fn an_ipv6_listener_says_whether_it_serves_ipv4() {
        let addr = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
        for v6_only in [true, false] {
            let options = ListenOptions::default().v6_only(v6_only);
            let Ok(listener) = listen(addr, &options) else { return };
            assert_eq!(SockRef::from(&listener).only_v6().expect("an option"), v6_only);
        }
    }

    #[test]
    fn two_listeners_share_a_port_only_if_both_ask() {
        let share = ListenOptions::default().reuse_port(true);
        let first = listen(loopback(), &share).expect("listen");
        let addr = local_addr(first.as_raw_fd()).expect("bound");
        listen(addr, &share).expect("both share");
        let taken = listen(addr, &ListenOptions::default()).expect_err("taken");
        assert_eq!(taken.raw_os_error(), Some(errno::EADDRINUSE));
    }

    #[test]
    fn slices_are_sent_in_order() {
        let (near, mut far) = pair();
        let slices = [IoSlice::new(b"one "), IoSlice::new(b""), IoSlice::new(b"two")];
        assert_eq!(send_vectored(near.as_raw_fd(), &slices), Ok(7));
        assert_eq!(send(near.as_raw_fd(), b"!"), Ok(1));
        shutdown_write(near.as_raw_fd()).expect("connected");
        let mut text = String::new();
        far.read_to_string(&mut text).expect("read");
        assert_eq!(text, "one two!");
    }

    #[test]
    fn a_receive_is_a_count_then_would_block_then_the_fin() {
        let (near, mut far) = pair();
        let mut space = [0; 16];
        assert_eq!(recv(near.as_raw_fd(), &mut space), Err(Errno(errno::EAGAIN)));
        far.write_all(b"abc").expect("write");
        assert_eq!(answer(|| recv(near.as_raw_fd(), &mut space)), Ok(3));
        assert_eq!(&space[..3], b"abc");
        drop(far);
        assert_eq!(answer(|| recv(near.as_raw_fd(), &mut space)), Ok(0));
    }

    #[test]
    fn a_receive_stops_short_at_an_urgent_mark() {
        let (near, far) = pair();
        let urgent = SockRef::from(&far);
        urgent.send(b"ab").expect("send");
        urgent.send_out_of_band(b"!").expect("send");
        urgent.send(b"cd").expect("send");
        urgent.shutdown(std::net::Shutdown::Write).expect("connected");
        while peek(near.as_raw_fd()) < 2 {
            std::thread::yield_now();
        }
        let mut space = [0; 16];
        let mut reads = Vec::new();
        loop {
            match answer(|| recv(near.as_raw_fd(), &mut space)).expect("read") {
                0 => break,
                count => reads.push(space[..count].to_vec()),
            }
        }
        assert_eq!(reads, [b"ab", b"cd"]);
    }

    /// Returns how many bytes lie before the urgent mark once the mark has come, else 0.
    fn peek(fd: RawFd) -> usize {
        let mut byte = 0u8;
        let flags = libc::MSG_OOB | libc::MSG_PEEK | libc::MSG_DONTWAIT;
        // SAFETY: `byte` is one byte to write to.
        let marked = unsafe { libc::recv(fd, (&raw mut byte).cast(), 1, flags) };
        if marked == 1 { unread_bytes(fd) } else { 0 }
    }

    #[test]
    fn a_reset_shows_as_an_error_once_and_hides_no_bytes() {
        let (near, mut far) = pair();
        far.write_all(b"abc").expect("write");
        while unread_bytes(near.as_raw_fd()) < 3 {
            std::thread::yield_now();
        }
        close_reset(std::os::fd::IntoRawFd::into_raw_fd(far));
        let error = answer(|| take_error(near.as_raw_fd()).ok_or(Errno(errno::EAGAIN)));
        assert_eq!(error, Ok(Errno(errno::ECONNRESET)));
        assert_eq!(take_error(near.as_raw_fd()), None);
        assert_eq!(unread_bytes(near.as_raw_fd()), 3);
        assert_eq!(peer_addr(near.as_raw_fd()), Err(Errno(errno::ENOTCONN)));
        assert_eq!(send(near.as_raw_fd(), b"x"), Err(Errno(errno::EPIPE)));
    }

    /// Has this thread keep its SIGPIPEs; a signal that is ignored is kept too while it is blocked.
    fn keep_sigpipe() {
        // SAFETY: all zeros is a set of signals.
        let mut set: libc::sigset_t = unsafe { mem::zeroed() };
        // SAFETY: `set` is a set of signals.
        unsafe { libc::sigaddset(&mut set, libc::SIGPIPE) };
        // SAFETY: `set` is a set of signals, and the old one is not asked for.
        let result = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) };
        assert_eq!(result, 0);
    }

    fn has_sigpipe() -> bool {
        // SAFETY: all zeros is a set of signals.
        let mut set: libc::sigset_t = unsafe { mem::zeroed() };
        // SAFETY: `set` is a set of signals to write to.
        assert_eq!(unsafe { libc::sigpending(&mut set) }, 0);
        // SAFETY: `set` is a set of signals.
        unsafe { libc::sigismember(&set, libc::SIGPIPE) == 1 }
    }

    #[test]
    fn sending_to_a_peer_that_is_gone_raises_no_signal() {
        keep_sigpipe();
        let (near, _far) = pair();
        shutdown_write(near.as_raw_fd()).expect("connected");
        let gone = Err(Errno(errno::EPIPE));
        assert_eq!(send(near.as_raw_fd(), b"x"), gone);
        assert_eq!(send_vectored(near.as_raw_fd(), &[IoSlice::new(b"x")]), gone);
        assert!(!has_sigpipe());
    }

    #[test]
    fn a_descriptor_that_is_not_open_is_an_error_not_a_panic() {
        let bad = Errno(errno::EBADF);
        assert_eq!(recv(-1, &mut [0]), Err(bad));
        assert_eq!((take_error(-1), unread_bytes(-1)), (Some(bad), 0));
        assert_eq!(peer_addr(-1), Err(bad));
        let error = borrowed(-1, |socket| socket.set_tcp_nodelay(true)).expect_err("not open");
        assert_eq!(error.raw_os_error(), Some(errno::EBADF));
        close_reset(-1);
    }
}
