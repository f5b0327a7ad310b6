//! Faults on real sockets: a backend around another one.
//!
//! What it makes up is what the inner backend could have told at that moment, so that no promise
//! of the seam breaks: a would-block for no reason is followed by an event, a receive that is cut
//! short claims what the inner one claims of the shorter one, and while an event is withheld no
//! wait sleeps. A socket that it breaks answers from then on as a broken one does; that it is alive
//! shows to nobody but the peer, which gets a RST at the close.

mod events;
mod sockets;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::backend::{
    Accept, Backend, Close, Connect, Event, Loose, Recv, Send, Signal, Sock, Taken,
};
use crate::chaos::Chaos;
use crate::error::Errno;
use crate::fault::{Fault, FaultCounts};
use crate::id::Key;
use crate::options::{ConnOptions, ListenOptions};
use crate::random::Random;
use crate::recv_memory::{Lent, RecvMemory};
use crate::segment::Pieces;
use crate::socket_option::{KernelCount, OptionName, SocketOption, TcpInfo};
use crate::sys::errno::{
    EADDRNOTAVAIL, ECONNABORTED, ECONNRESET, EHOSTUNREACH, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM,
    ENOTCONN, EPERM, EPIPE, EPROTO, ETIMEDOUT,
};
use crate::sys::poll_fd::PollFd;
use crate::sys::socket_fd::SocketFd;
use crate::time::Time;

use sockets::{Broken, Sockets};

const ACCEPT_ERRORS: &[i32] =
    &[EMFILE, ENFILE, ENOBUFS, ENOMEM, ECONNABORTED, EINTR, EPROTO, EPERM];
/// Without those that are the network's answer: they come with a socket.
const CONNECT_ERRORS: &[i32] = &[EMFILE, ENOBUFS, EADDRNOTAVAIL];
const SEND_ERRORS: &[i32] = &[EPIPE, ECONNRESET, ENOBUFS, EHOSTUNREACH];
const RECV_ERRORS: &[i32] = &[ECONNRESET, ETIMEDOUT, EHOSTUNREACH];
/// A call that is cut short is left at most 2 to the power of less than this, most often little.
const SHORT_BITS: u64 = 15;
/// By how much the clock steps back at most.
const STEP_BACK_MAX_NANOS: u64 = 5_000_000;

/// A backend that makes faults on the sockets of another one.
pub(super) struct Chaotic {
    inner: Box<dyn Backend>,
    chaos: Chaos,
    random: Random,
    counts: FaultCounts,
    /// Calls on chosen sockets that could be made to fail.
    calls: u64,
    sockets: Sockets,
}

impl Chaotic {
    pub(super) fn new(inner: Box<dyn Backend>, chaos: Chaos) -> Chaotic {
        log::warn!("faults are made on purpose: {chaos:?}");
        let random = Random::new(chaos.seed);
        let sockets = Sockets::default();
        Chaotic { inner, chaos, random, counts: FaultCounts::default(), calls: 0, sockets }
    }

    fn happens(&mut self, kind: Fault) -> bool {
        let happens = self.chaos.faults.happens(kind, &mut self.random);
        if happens {
            self.counts.note(kind);
        }
        happens
    }

    /// Draws whether a call on a chosen socket fails, and with what.
    #[allow(clippy::indexing_slicing, reason = "drawn below the length")]
    fn failure(&mut self, kind: Fault, errors: &[i32]) -> Option<Errno> {
        let is_numbered = self.chaos.fail_call == Some(self.calls);
        self.calls += 1;
        if is_numbered {
            self.counts.note(kind);
        }
        let fails = is_numbered || self.happens(kind);
        fails.then(|| Errno(errors[self.random.index(errors.len())]))
    }

    /// Draws a length from 1 on that is less than this, most often a small one.
    fn shortened(&mut self, bytes: usize) -> usize {
        let most = 1 << self.random.below(SHORT_BITS);
        self.random.up_to((bytes - 1).min(most))
    }

    fn is_meant(&self, port: Option<u16>) -> bool {
        self.chaos.port.is_none() || self.chaos.port == port
    }

    /// Draws whether a connection is chosen.
    fn is_chosen(&mut self, port: Option<u16>) -> bool {
        self.is_meant(port) && self.random.happens(self.chaos.share)
    }

    /// Notes a new connection, if it is chosen.
    fn choose(&mut self, key: Key, handle: i32, port: Option<u16>, is_up: bool) {
        if self.is_chosen(port) {
            self.sockets.insert(Sock { key, handle, exhaust: false }, port, is_up);
        }
    }

    /// What a broken connection answers, if this is one.
    fn broken(&mut self, conn: &Sock) -> Option<&mut Broken> {
        self.sockets.get_mut(conn.key)?.broken.as_mut()
    }

    /// Breaks a connection whose call has told why.
    fn break_told(&mut self, conn: &Sock) {
        self.sockets.break_off(conn.key, Broken { error: None, unread_bytes: 0 });
    }

    fn recv_chosen(&mut self, conn: &Sock, memory: &mut RecvMemory, max_bytes: usize) -> Recv {
        if let Some(broken) = self.broken(conn) {
            return broken.error.take().map_or(Recv::Eof, Recv::Failed);
        }
        if let Some(errno) = self.failure(Fault::RecvError, RECV_ERRORS) {
            self.break_told(conn);
            return Recv::Failed(errno);
        }
        let is_ending = self.sockets.get(conn.key).is_some_and(|socket| socket.is_ending);
        if !is_ending && self.happens(Fault::ReadBlocked) {
            self.sockets.owe(conn.key, true, false);
            return Recv::WouldBlock;
        }
        let is_short =
            max_bytes > 1 && self.chaos.faults.happens(Fault::ShortRead, &mut self.random);
        let most = if is_short { self.shortened(max_bytes) } else { max_bytes };
        let answer = self.inner.recv(conn, memory, most);
        match &answer {
            Recv::Data { lent, .. } if is_short && lent.len() == most => {
                self.counts.note(Fault::ShortRead);
            }
            _ => {}
        }
        answer
    }

    fn send_chosen(&mut self, conn: &Sock, pieces: Pieces<'_>) -> Send {
        if let Some(broken) = self.broken(conn) {
            return Send::Failed(broken.error.take().unwrap_or(Errno(EPIPE)));
        }
        if let Some(errno) = self.failure(Fault::SendError, SEND_ERRORS) {
            self.break_told(conn);
            return Send::Failed(errno);
        }
        if self.happens(Fault::WriteBlocked) {
            self.sockets.owe(conn.key, false, true);
            return Send::WouldBlock;
        }
        let bytes = pieces.bytes();
        if bytes > 1 && self.happens(Fault::ShortWrite) {
            let most = self.shortened(bytes);
            return self.send_inside(conn, pieces.first(most));
        }
        self.send_inside(conn, pieces)
    }

    fn send_inside(&mut self, conn: &Sock, pieces: Pieces<'_>) -> Send {
        let answer = self.inner.send(conn, pieces);
        if matches!(answer, Send::Failed(_)) {
            self.sockets.note_end(conn.key);
        }
        answer
    }
}

impl Backend for Chaotic {
    fn now(&mut self) -> Time {
        let now = self.inner.now();
        if self.happens(Fault::ClockStepBack) {
            let back = self.random.below(STEP_BACK_MAX_NANOS);
            return Time::from_nanos(now.as_nanos().saturating_sub(back));
        }
        now
    }

    fn wait(
        &mut self,
        now: Time,
        deadline: Option<Time>,
        events: &mut Vec<Event>,
    ) -> io::Result<bool> {
        self.wait_and_disturb(now, deadline, events)
    }

    fn mailbox_len(&mut self, seen: usize) -> usize {
        self.inner.mailbox_len(seen)
    }

    fn catch_up(&mut self) {
        self.inner.catch_up();
    }

    fn holds_sends(&self) -> bool {
        self.inner.holds_sends()
    }

    fn is_behind(&self) -> bool {
        self.sockets.owes() || self.inner.is_behind()
    }

    fn fault_counts(&self) -> FaultCounts {
        self.counts
    }

    fn signal(&self) -> Arc<dyn Signal> {
        self.inner.signal()
    }

    fn poll_fd(&self) -> Option<PollFd<'_>> {
        self.inner.poll_fd()
    }

    fn connections_max(&self) -> usize {
        self.inner.connections_max()
    }

    fn listen(
        &mut self,
        key: Key,
        addr: SocketAddr,
        options: &ListenOptions,
    ) -> io::Result<(i32, SocketAddr)> {
        let (handle, bound) = self.inner.listen(key, addr, options)?;
        self.note_listener(key, handle, bound);
        Ok((handle, bound))
    }

    fn accept(&mut self, listener: &Sock, key: Key, options: &ConnOptions) -> Accept {
        let port = match self.sockets.get(listener.key) {
            None => return self.inner.accept(listener, key, options),
            Some(chosen) => chosen.port,
        };
        if let Some(errno) = self.failure(Fault::AcceptError, ACCEPT_ERRORS) {
            return Accept::Failed(errno);
        }
        if self.happens(Fault::ReadBlocked) {
            self.sockets.owe(listener.key, true, false);
            return Accept::WouldBlock;
        }
        let answer = self.inner.accept(listener, key, options);
        if let Accept::Accepted { handle, .. } = answer {
            self.choose(key, handle, port, true);
        }
        answer
    }

    fn connect(
        &mut self,
        key: Key,
        addr: SocketAddr,
        options: &ConnOptions,
    ) -> io::Result<(i32, Connect)> {
        let port = Some(addr.port());
        let is_chosen = self.is_chosen(port);
        if is_chosen {
            if let Some(errno) = self.failure(Fault::ConnectError, CONNECT_ERRORS) {
                return Err(errno.into());
            }
        }
        let (handle, progress) = self.inner.connect(key, addr, options)?;
        if is_chosen {
            let sock = Sock { key, handle, exhaust: false };
            self.sockets.insert(sock, port, progress == Connect::Connected);
        }
        Ok((handle, progress))
    }

    fn finish_connect(&mut self, conn: &Sock) -> Connect {
        let progress = self.inner.finish_connect(conn);
        if let Some(socket) = self.sockets.get_mut(conn.key) {
            socket.is_up |= progress == Connect::Connected;
        }
        progress
    }

    fn adopt(&mut self, key: Key, socket: Loose, options: &ConnOptions) -> Taken {
        let (handle, peer) = self.inner.adopt(key, socket, options)?;
        let local = self.inner.local_addr(&Sock { key, handle, exhaust: false });
        let own = local.map(|addr| addr.port()).filter(|port| self.is_meant(Some(*port)));
        self.choose(key, handle, own.or(Some(peer.port())), true);
        Ok((handle, peer))
    }

    fn adopt_listener(&mut self, key: Key, socket: Loose) -> Taken {
        let (handle, bound) = self.inner.adopt_listener(key, socket)?;
        self.note_listener(key, handle, bound);
        Ok((handle, bound))
    }

    fn detach(&mut self, sock: &Sock, unread: &mut Vec<u8>) -> Loose {
        self.sockets.remove(sock.key);
        self.inner.detach(sock, unread)
    }

    fn local_addr(&mut self, conn: &Sock) -> Option<SocketAddr> {
        self.inner.local_addr(conn)
    }

    fn recv(&mut self, conn: &Sock, memory: &mut RecvMemory, max_bytes: usize) -> Recv {
        if self.sockets.get(conn.key).is_some() {
            return self.recv_chosen(conn, memory, max_bytes);
        }
        self.inner.recv(conn, memory, max_bytes)
    }

    fn release(&mut self, lent: Lent) {
        self.inner.release(lent);
    }

    fn send(&mut self, conn: &Sock, pieces: Pieces<'_>) -> Send {
        if self.sockets.get(conn.key).is_some() {
            return self.send_chosen(conn, pieces);
        }
        self.inner.send(conn, pieces)
    }

    fn shutdown(&mut self, conn: &Sock) -> Result<(), Errno> {
        match self.broken(conn) {
            Some(_) => Err(Errno(ENOTCONN)),
            None => {
                let result = self.inner.shutdown(conn);
                if result.is_err() {
                    self.sockets.note_end(conn.key);
                }
                result
            }
        }
    }

    fn interest(&mut self, sock: &Sock, read: bool, write: bool) {
        self.inner.interest(sock, read, write);
    }

    fn take_error(&mut self, conn: &Sock) -> Option<Errno> {
        match self.broken(conn) {
            Some(broken) => broken.error.take(),
            None => self.inner.take_error(conn),
        }
    }

    fn unread_bytes(&mut self, conn: &Sock) -> usize {
        match self.broken(conn) {
            Some(broken) => broken.unread_bytes,
            None => self.inner.unread_bytes(conn),
        }
    }

    fn is_quiet(&mut self, conn: &Sock) -> bool {
        self.broken(conn).is_none() && self.inner.is_quiet(conn)
    }

    fn set_option(&mut self, sock: &Sock, option: &SocketOption) -> io::Result<()> {
        self.inner.set_option(sock, option)
    }

    fn option(&mut self, sock: &Sock, name: OptionName) -> io::Result<SocketOption> {
        self.inner.option(sock, name)
    }

    fn tcp_info(&mut self, conn: &Sock) -> io::Result<TcpInfo> {
        self.inner.tcp_info(conn)
    }

    fn kernel_count(&mut self, sock: &Sock, what: KernelCount) -> io::Result<usize> {
        self.inner.kernel_count(sock, what)
    }

    fn fd(&self, sock: &Sock) -> Option<SocketFd<'_>> {
        self.inner.fd(sock)
    }

    fn close(&mut self, sock: &Sock, reset: bool) -> Close {
        let is_broken = self.broken(sock).is_some();
        self.sockets.remove(sock.key);
        self.inner.close(sock, reset || is_broken)
    }

    fn discard(&mut self, sock: &Sock) {
        self.inner.discard(sock);
    }
}

impl Chaotic {
    fn note_listener(&mut self, key: Key, handle: i32, bound: SocketAddr) {
        if self.is_meant(Some(bound.port())) {
            self.sockets.insert(Sock { key, handle, exhaust: false }, Some(bound.port()), false);
        }
    }
}
