//! Readiness on any system, by the crates `polling` and `socket2`.
//!
//! The core's rules are those of edge-triggered readiness: what was reported is remembered until
//! a call answers that it would block. `Watches` makes that of whatever the system has: edges, or
//! levels and single shots that are armed again. Nothing is claimed here that was not asked: a
//! receive or a send that comes up short is tried again, and answers that it would block.

mod watches;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::backend::gather::{Gather, Slices};
use crate::backend::{
    Accept, Backend, Close, Connect, Event, Loose, Recv, Send, Signal, Sock, Taken,
};
use crate::error::Errno;
use crate::id::{Key, Kind};
use crate::options::{ConnOptions, ListenOptions};
use crate::recv_memory::{Lent, RecvMemory};
use crate::segment::Pieces;
use crate::socket_option::{KernelCount, OptionName, SocketOption, TcpInfo};
use crate::sys::poll_fd::PollFd;
use crate::sys::poller::{Mode, PortablePoller, Shared, Watch};
use crate::sys::socket_fd::{self, SocketFd};
use crate::sys::{clock, errno, option, process, stream};
use crate::throttle::Throttle;
use crate::time::Time;

use watches::Watches;

/// The backend on `polling`. A socket's handle is its place in `watches`.
#[derive(Debug)]
pub(crate) struct Portable {
    watches: Watches,
    gather: Gather,
    /// Accepted connections on which an option could not be set, and those that cannot be watched.
    without_options: Throttle,
    refused: Throttle,
    /// The latest time shown.
    shown: Time,
}

impl Portable {
    /// Opens the backend in the mode with this name; without one, in the best one there is.
    pub(crate) fn new(mode: Option<Mode>) -> io::Result<Portable> {
        let watches = Watches::new(PortablePoller::new(mode)?);
        let (without_options, refused) = (Throttle::default(), Throttle::default());
        let (gather, shown) = (Gather::new(), Time::default());
        Ok(Portable { watches, gather, without_options, refused, shown })
    }
}

/// Returns the mode with a name, as `HOTLOOP_PORTABLE_MODE` has it.
pub(crate) fn mode_named(name: &str) -> Option<Mode> {
    match name {
        "edge" => Some(Mode::Edge),
        "level" => Some(Mode::Level),
        "oneshot" => Some(Mode::Oneshot),
        "edge-oneshot" => Some(Mode::EdgeOneshot),
        _ => None,
    }
}

impl Signal for Shared {
    fn raise(&self) {
        Shared::raise(self);
    }
}

impl Backend for Portable {
    fn now(&mut self) -> Time {
        self.shown = self.shown.max(clock::monotonic());
        self.shown
    }

    fn wait(
        &mut self,
        now: Time,
        deadline: Option<Time>,
        events: &mut Vec<Event>,
    ) -> io::Result<bool> {
        self.watches.wait(deadline.map(|deadline| deadline.since(now)), events)
    }

    fn catch_up(&mut self) {
        self.watches.catch_up();
    }

    fn is_behind(&self) -> bool {
        self.watches.is_behind()
    }

    fn signal(&self) -> Arc<dyn Signal> {
        self.watches.poller().shared() as Arc<dyn Signal>
    }

    fn poll_fd(&self) -> Option<PollFd<'_>> {
        self.watches.poller().poll_fd()
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
        let listener = stream::listen(addr, options)?;
        let bound = listener.local_addr()?.as_socket();
        let bound = bound.ok_or_else(|| io::Error::from(Errno(errno::EINVAL)))?;
        Ok((self.watches.add(listener, key, READ).map_err(|(error, _)| error)?, bound))
    }

    fn accept(&mut self, listener: &Sock, key: Key, options: &ConnOptions) -> Accept {
        let (conn, peer) = match self.watches.usable(listener).and_then(stream::accept) {
            Ok(accepted) => accepted,
            Err(Errno(errno::EAGAIN)) => {
                self.watches.read_blocked(listener);
                return Accept::WouldBlock;
            }
            Err(error) => return Accept::Failed(error),
        };
        if let Err(error) = option::prepare(&conn, options) {
            if let Some(more) = self.without_options.pass(self.shown) {
                log::warn!("{peer} is accepted without its options: {error}{more}");
            }
        }
        match self.watches.add(conn, key, READ) {
            Ok(handle) => Accept::Accepted { handle, peer },
            Err((error, _)) => {
                if let Some(more) = self.refused.pass(self.shown) {
                    log::warn!("{peer} is dropped, it cannot be watched: {error}{more}");
                }
                Accept::Failed(errno::not_of_listener(errno::of_io(&error)))
            }
        }
    }

    fn connect(
        &mut self,
        key: Key,
        addr: SocketAddr,
        options: &ConnOptions,
    ) -> io::Result<(i32, Connect)> {
        let conn = stream::open(addr)?;
        option::prepare(&conn, options)?;
        let progress = match stream::connect(&conn, addr) {
            Ok(true) => Connect::Connected,
            Ok(false) => Connect::InProgress,
            Err(error) if errno::is_network_answer(error) => {
                return Ok((self.watches.hold(conn, key), Connect::Failed(error)));
            }
            Err(error) => return Err(error.into()),
        };
        // Only here: before its connect a socket is reported as hung up.
        let handle = self.watches.add(conn, key, BOTH).map_err(|(error, _)| error)?;
        Ok((handle, progress))
    }

    fn finish_connect(&mut self, conn: &Sock) -> Connect {
        let socket = match self.watches.usable(conn) {
            Ok(socket) => socket,
            Err(error) => return Connect::Failed(error),
        };
        match stream::take_error(socket) {
            Some(error) => Connect::Failed(error),
            None => match stream::peer_addr(socket) {
                Ok(_) => Connect::Connected,
                Err(Errno(errno::ENOTCONN)) => {
                    self.watches.write_blocked(conn);
                    Connect::InProgress
                }
                Err(error) => Connect::Failed(error),
            },
        }
    }

    fn adopt(&mut self, key: Key, socket: Loose, options: &ConnOptions) -> Taken {
        let socket = socket.system()?;
        let peer = stream::check_stream(&socket).and_then(|peer| {
            option::prepare_adopted(&socket, options)?;
            stream::make_ours(&socket)?;
            Ok(peer)
        });
        self.take(socket, key, peer)
    }

    fn adopt_listener(&mut self, key: Key, socket: Loose) -> Taken {
        let socket = socket.system()?;
        let local = stream::check_listener(&socket).and_then(|local| {
            stream::make_ours(&socket)?;
            Ok(local)
        });
        self.take(socket, key, local)
    }

    fn detach(&mut self, sock: &Sock, _: &mut Vec<u8>) -> Loose {
        Loose::System(self.watches.remove(sock))
    }

    fn local_addr(&mut self, conn: &Sock) -> Option<SocketAddr> {
        self.watches.socket(conn).local_addr().ok()?.as_socket()
    }

    #[allow(clippy::indexing_slicing, reason = "the length is at most that of the space")]
    fn recv(&mut self, conn: &Sock, memory: &mut RecvMemory, max_bytes: usize) -> Recv {
        let space = memory.space();
        let len = space.len().min(max_bytes);
        let socket = self.watches.usable(conn);
        match socket.and_then(|socket| stream::recv(socket, &mut space[..len])) {
            Ok(0) => Recv::Eof,
            Ok(count) => Recv::Data { lent: memory.lend(0, count, None), drained: false },
            Err(Errno(errno::EAGAIN)) => {
                self.watches.read_blocked(conn);
                Recv::WouldBlock
            }
            Err(error) => Recv::Failed(error),
        }
    }

    fn release(&mut self, lent: Lent) {
        // Nothing is lent as a buffer here: the whole memory is free again for the next receive.
        debug_assert!(lent.buffer.is_none(), "another backend's buffer: {lent:?}");
    }

    fn send(&mut self, conn: &Sock, pieces: Pieces<'_>) -> Send {
        let socket = self.watches.usable(conn);
        let sent = socket.and_then(|socket| match pieces.only() {
            Some(bytes) => stream::send(socket, bytes),
            None => {
                let mut slices = Slices::new();
                self.gather.fill(pieces, &mut slices);
                stream::send_vectored(socket, slices.as_slice())
            }
        });
        match sent {
            Ok(bytes) => Send::Done { bytes, blocked: false },
            Err(Errno(errno::EAGAIN)) => {
                self.watches.write_blocked(conn);
                Send::WouldBlock
            }
            Err(error) => Send::Failed(error),
        }
    }

    fn shutdown(&mut self, conn: &Sock) -> Result<(), Errno> {
        stream::shutdown_write(self.watches.socket(conn))
    }

    fn interest(&mut self, sock: &Sock, read: bool, write: bool) {
        self.watches.want(sock, Watch { read, write, edge: false });
    }

    fn take_error(&mut self, conn: &Sock) -> Option<Errno> {
        self.watches.usable(conn).map_or_else(Some, stream::take_error)
    }

    fn unread_bytes(&mut self, conn: &Sock) -> usize {
        stream::unread_bytes(self.watches.socket(conn))
    }

    fn is_quiet(&mut self, conn: &Sock) -> bool {
        stream::peek(self.watches.socket(conn)) == Err(Errno(errno::EAGAIN))
    }

    fn set_option(&mut self, sock: &Sock, set: &SocketOption) -> io::Result<()> {
        option::set(self.watches.socket(sock), set)
    }

    fn option(&mut self, sock: &Sock, name: OptionName) -> io::Result<SocketOption> {
        option::get(self.watches.socket(sock), name)
    }

    fn tcp_info(&mut self, conn: &Sock) -> io::Result<TcpInfo> {
        option::tcp_info(self.watches.socket(conn))
    }

    fn kernel_count(&mut self, sock: &Sock, what: KernelCount) -> io::Result<usize> {
        option::count(self.watches.socket(sock), what)
    }

    fn fd(&self, sock: &Sock) -> Option<SocketFd<'_>> {
        Some(socket_fd::lend(self.watches.socket(sock)))
    }

    fn close(&mut self, sock: &Sock, reset: bool) -> Close {
        let socket = self.watches.remove(sock);
        if reset {
            stream::reset_on_close(&socket);
        }
        Close::Ended
    }

    fn discard(&mut self, sock: &Sock) {
        self.watches.discard(sock);
    }
}

/// What a socket is watched for at first.
const READ: Watch = Watch { read: true, write: false, edge: false };
const BOTH: Watch = Watch { read: true, write: true, edge: false };

impl Portable {
    /// Takes a socket from elsewhere, or gives it back.
    fn take(&mut self, socket: socket2::Socket, key: Key, addr: io::Result<SocketAddr>) -> Taken {
        match addr {
            Ok(addr) => match self.watches.add(socket, key, READ) {
                Ok(handle) => Ok((handle, addr)),
                Err((error, socket)) => Err((error, Loose::System(socket))),
            },
            Err(error) => Err((error, Loose::System(socket))),
        }
    }
}

/// Whether a key is one that is watched.
fn is_watched(key: Key) -> bool {
    matches!(key.kind(), Some(Kind::Conn | Kind::Listener))
}

#[cfg(test)]
mod tests;
