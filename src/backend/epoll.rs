//! Linux epoll, edge-triggered (`epoll(7)`).
//!
//! Every connection is registered once, for input, output and everything out of order, and never
//! modified: an edge is remembered by the core as a ready bit until a call answers that nothing
//! is left. The one thing to prove is when that may be claimed without asking the kernel again:
//! see `recv` for input and `send` for output.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd};
use std::sync::Arc;

use socket2::Socket;

use super::gather::{Gather, Slices};
use super::{Accept, Backend, Close, Connect, Event, Loose, Recv, Send, Signal, Sock, Taken};
use crate::error::Errno;
use crate::id::{Key, Kind};
use crate::options::{ConnOptions, ListenOptions};
use crate::recv_memory::{Lent, RecvMemory};
use crate::segment::Pieces;
use crate::socket_option::{KernelCount, OptionName, SocketOption, TcpInfo};
use crate::sys::epoll::{self, Poller, Ready};
use crate::sys::errno;
use crate::sys::poll_fd::PollFd;
use crate::sys::socket_fd::SocketFd;
use crate::sys::wake::EventFd;
use crate::sys::{clock, option, process, socket, stream};
use crate::throttle::Throttle;
use crate::time::Time;

/// What a connection is watched for; the kernel adds HUP and ERR. PRI, because a receive stops
/// short at an urgent mark.
const CONN_MASK: u32 = epoll::IN | epoll::OUT | epoll::RDHUP | epoll::PRI | epoll::ET;
const LISTENER_MASK: u32 = epoll::IN | epoll::ET;
const WAKE_MASK: u32 = epoll::IN | epoll::ET;

const READABLE: u32 = epoll::IN | epoll::PRI | epoll::RDHUP | epoll::HUP | epoll::ERR;
const WRITABLE: u32 = epoll::OUT | epoll::HUP | epoll::ERR;
const HANG_UP: u32 = epoll::HUP | epoll::ERR;
const EXHAUST: u32 = HANG_UP | epoll::RDHUP | epoll::PRI;

/// The backend on epoll. Dropping it closes the poller; the eventfd lives as long as a signal.
#[derive(Debug)]
pub(crate) struct Epoll {
    poller: Poller,
    wake: Arc<EventFd>,
    gather: Gather,
    /// The latest time shown.
    shown: Time,
    /// Of warnings that every accept could bring about.
    without_options: Throttle,
    refused: Throttle,
}

impl Epoll {
    pub(crate) fn new() -> io::Result<Epoll> {
        let poller = Poller::new()?;
        let wake = Arc::new(EventFd::new()?);
        poller.add(wake.as_raw_fd(), WAKE_MASK, Key::new(Kind::Waker, 0, 1).bits())?;
        Ok(Epoll {
            poller,
            wake,
            gather: Gather::new(),
            shown: Time::default(),
            without_options: Throttle::default(),
            refused: Throttle::default(),
        })
    }

    fn add_conn(&self, conn: &OwnedFd, key: Key) -> Result<(), Errno> {
        self.poller.add(conn.as_raw_fd(), CONN_MASK, key.bits())
    }
}

impl Signal for EventFd {
    fn raise(&self) {
        EventFd::raise(self);
    }
}

impl Backend for Epoll {
    #[inline]
    fn now(&mut self) -> Time {
        // Some virtual machines step back a little where the processors' counters differ.
        self.shown = self.shown.max(clock::monotonic());
        self.shown
    }

    #[inline]
    fn wait(
        &mut self,
        now: Time,
        deadline: Option<Time>,
        events: &mut Vec<Event>,
    ) -> io::Result<bool> {
        let mut woken = false;
        for ready in self.poller.wait(deadline.map(|deadline| deadline.since(now)))? {
            match Key::from_bits(ready.data).map(|key| (key, key.kind())) {
                Some((key, Some(Kind::Conn | Kind::Listener))) => events.push(event(key, ready)),
                Some((_, Some(Kind::Waker))) => woken = true,
                _ => log_unknown(ready),
            }
        }
        if woken {
            // Linux makes an edge of every raise; other kernels with this interface only of one
            // that finds the counter at 0.
            self.wake.reset();
        }
        Ok(woken)
    }

    fn signal(&self) -> Arc<dyn Signal> {
        Arc::clone(&self.wake) as Arc<dyn Signal>
    }

    fn poll_fd(&self) -> Option<PollFd<'_>> {
        Some(self.poller.as_fd())
    }

    fn connections_max(&self) -> usize {
        process::connections_max()
    }

    fn listen(
        &mut self,
        key: Key,
        addr: SocketAddr,
        options: &ListenOptions,
    ) -> io::Result<(i32, SocketAddr)> {
        let listener = socket::listen(addr, options)?;
        let bound = socket::local_addr(listener.as_raw_fd())?;
        self.poller.add(listener.as_raw_fd(), LISTENER_MASK, key.bits())?;
        Ok((listener.into_raw_fd(), bound))
    }

    fn accept(&mut self, listener: &Sock, key: Key, options: &ConnOptions) -> Accept {
        let (conn, peer) = match socket::accept(listener.handle) {
            Ok((conn, Some(peer))) => (conn, peer),
            Ok((_, None)) => return Accept::Failed(Errno(errno::ECONNABORTED)),
            Err(Errno(errno::EAGAIN)) => return Accept::WouldBlock,
            Err(errno) => return Accept::Failed(errno),
        };
        let prepare = |socket: &Socket| option::prepare(socket, options);
        if let Err(error) = socket::borrowed(conn.as_raw_fd(), prepare) {
            if let Some(more) = self.without_options.pass(self.shown) {
                log::warn!("{peer} is accepted without its options: {error}{more}");
            }
        }
        match self.add_conn(&conn, key) {
            Ok(()) => Accept::Accepted { handle: conn.into_raw_fd(), peer },
            Err(error) => {
                if let Some(more) = self.refused.pass(self.shown) {
                    log::warn!("{peer} is dropped, epoll refuses it: {error}{more}");
                }
                Accept::Failed(errno::not_of_listener(error))
            }
        }
    }

    fn connect(
        &mut self,
        key: Key,
        addr: SocketAddr,
        options: &ConnOptions,
    ) -> io::Result<(i32, Connect)> {
        let conn = socket::open(addr)?;
        socket::borrowed(conn.as_raw_fd(), |socket| option::prepare(socket, options))?;
        let progress = match socket::connect(conn.as_raw_fd(), addr) {
            Ok(()) => Connect::Connected,
            // An interrupted connect goes on by itself (`connect(2)`).
            Err(Errno(errno::EINPROGRESS | errno::EINTR)) => Connect::InProgress,
            Err(error) if errno::is_network_answer(error) => {
                return Ok((conn.into_raw_fd(), Connect::Failed(error)));
            }
            Err(error) => return Err(error.into()),
        };
        // Only here: before its connect a socket is reported as hung up.
        self.add_conn(&conn, key)?;
        Ok((conn.into_raw_fd(), progress))
    }

    fn finish_connect(&mut self, conn: &Sock) -> Connect {
        match socket::take_error(conn.handle) {
            Some(error) => Connect::Failed(error),
            None => match socket::peer_addr(conn.handle) {
                Ok(_) => Connect::Connected,
                Err(Errno(errno::ENOTCONN)) => Connect::InProgress,
                Err(error) => Connect::Failed(error),
            },
        }
    }

    fn adopt(&mut self, key: Key, socket: Loose, options: &ConnOptions) -> Taken {
        let socket = socket.system()?;
        let peer = stream::check_stream(&socket).and_then(|peer| {
            option::prepare_adopted(&socket, options)?;
            stream::make_ours(&socket)?;
            self.poller.add(socket.as_raw_fd(), CONN_MASK, key.bits())?;
            Ok(peer)
        });
        taken(socket, peer)
    }

    fn adopt_listener(&mut self, key: Key, socket: Loose) -> Taken {
        let socket = socket.system()?;
        let local = stream::check_listener(&socket).and_then(|local| {
            stream::make_ours(&socket)?;
            self.poller.add(socket.as_raw_fd(), LISTENER_MASK, key.bits())?;
            Ok(local)
        });
        taken(socket, local)
    }

    fn detach(&mut self, sock: &Sock, _: &mut Vec<u8>) -> Loose {
        self.unregister(sock);
        Loose::System(socket::own(sock.handle))
    }

    fn local_addr(&mut self, conn: &Sock) -> Option<SocketAddr> {
        socket::local_addr(conn.handle).ok()
    }

    #[inline]
    #[allow(clippy::indexing_slicing, reason = "the length is at most that of the space")]
    fn recv(&mut self, conn: &Sock, memory: &mut RecvMemory, max_bytes: usize) -> Recv {
        let space = memory.space();
        let len = space.len().min(max_bytes);
        match socket::recv(conn.handle, &mut space[..len]) {
            Ok(0) => Recv::Eof,
            Ok(count) => {
                // A receive of TCP stops short (`tcp_recvmsg`) where the queue ends, at the FIN,
                // at an error and before an urgent mark. `epoll(7)` lets only the first be taken
                // for "nothing is left" (question 9). The other three are states, not moments:
                // what was there when the last event was fetched is in its mask (RDHUP, HUP, ERR,
                // PRI), and that made `exhaust`. What came after it, like every byte that comes
                // after the end of the queue was seen, wakes epoll again: the next wait has an
                // event, with whatever is left behind it.
                let drained = count < len && !conn.exhaust;
                Recv::Data { lent: memory.lend(0, count, None), drained }
            }
            Err(Errno(errno::EAGAIN)) => Recv::WouldBlock,
            Err(error) => Recv::Failed(error),
        }
    }

    fn release(&mut self, lent: Lent) {
        // Nothing is lent as a buffer here: the whole memory is free again for the next receive.
        debug_assert!(lent.buffer.is_none(), "another backend's buffer: {lent:?}");
    }

    #[inline]
    fn send(&mut self, conn: &Sock, pieces: Pieces<'_>) -> Send {
        match pieces.only() {
            Some(bytes) => answer(bytes.len(), socket::send(conn.handle, bytes)),
            None => self.send_gathered(conn, pieces),
        }
    }

    fn shutdown(&mut self, conn: &Sock) -> Result<(), Errno> {
        socket::shutdown_write(conn.handle)
    }

    fn interest(&mut self, _sock: &Sock, _read: bool, _write: bool) {
        // An edge costs nothing while nobody acts on it, and the core remembers it. A change of
        // the registration would cost a system call and report what is ready a second time.
    }

    fn take_error(&mut self, conn: &Sock) -> Option<Errno> {
        socket::take_error(conn.handle)
    }

    fn unread_bytes(&mut self, conn: &Sock) -> usize {
        socket::unread_bytes(conn.handle)
    }

    fn is_quiet(&mut self, conn: &Sock) -> bool {
        socket::peek(conn.handle) == Err(Errno(errno::EAGAIN))
    }

    fn set_option(&mut self, sock: &Sock, set: &SocketOption) -> io::Result<()> {
        socket::borrowed(sock.handle, |socket| option::set(socket, set))
    }

    fn option(&mut self, sock: &Sock, name: OptionName) -> io::Result<SocketOption> {
        socket::borrowed(sock.handle, |socket| option::get(socket, name))
    }

    fn tcp_info(&mut self, conn: &Sock) -> io::Result<TcpInfo> {
        socket::borrowed(conn.handle, option::tcp_info)
    }

    fn kernel_count(&mut self, sock: &Sock, what: KernelCount) -> io::Result<usize> {
        socket::borrowed(sock.handle, |socket| option::count(socket, what))
    }

    fn fd(&self, sock: &Sock) -> Option<SocketFd<'_>> {
        Some(socket::lend(self, sock.handle))
    }

    fn close(&mut self, sock: &Sock, reset: bool) -> Close {
        self.unregister(sock);
        if reset {
            socket::close_reset(sock.handle);
        } else {
            socket::close(sock.handle);
        }
        Close::Ended
    }

    fn discard(&mut self, sock: &Sock) {
        // Deleting it would delete the parent's registration; it ends with the poller.
        socket::close(sock.handle);
    }
}

impl Epoll {
    /// Ends a registration. Closing would end it only with the last descriptor of the socket, and
    /// a child process may have another (`epoll(7)`, question 6): its events would go on for ever.
    fn unregister(&self, sock: &Sock) {
        match self.poller.delete(sock.handle) {
            Ok(()) | Err(Errno(errno::ENOENT | errno::EBADF)) => {}
            Err(error) => log::warn!("{:?} stays registered: {error}", sock.key),
        }
    }

    /// Apart, because of the room that its slices take on the stack.
    #[inline(never)]
    fn send_gathered(&mut self, conn: &Sock, pieces: Pieces<'_>) -> Send {
        let mut slices = Slices::new();
        let offered = self.gather.fill(pieces, &mut slices);
        let result = match slices.as_slice() {
            [only] => socket::send(conn.handle, only),
            several => socket::send_vectored(conn.handle, several),
        };
        answer(offered, result)
    }
}

/// Makes a handle of a socket that was taken, or gives it back.
fn taken(socket: Socket, addr: io::Result<SocketAddr>) -> Taken {
    match addr {
        Ok(addr) => Ok((socket.into_raw_fd(), addr)),
        Err(error) => Err((error, Loose::System(socket))),
    }
}

#[inline]
fn event(key: Key, ready: Ready) -> Event {
    let has = |bits| ready.mask & bits != 0;
    Event::Ready {
        key,
        readable: has(READABLE),
        writable: has(WRITABLE),
        hang_up: has(HANG_UP),
        exhaust: has(EXHAUST),
    }
}

#[cold]
fn log_unknown(ready: Ready) {
    log::warn!("epoll reports {:#x}, which nothing is registered with", ready.data);
}

/// What a send came to that was offered so many bytes. It stops short (`tcp_sendmsg`) for want of
/// room, and then it has asked the kernel for an event when there is some (`SOCK_NOSPACE`), as a
/// send that answers `EAGAIN` does; or at an error, which has made an event.
#[inline]
fn answer(offered: usize, result: Result<usize, Errno>) -> Send {
    match result {
        Ok(bytes) => Send::Done { bytes, blocked: bytes < offered },
        Err(Errno(errno::EAGAIN)) => Send::WouldBlock,
        Err(error) => Send::Failed(error),
    }
}

#[cfg(test)]
mod tests;
