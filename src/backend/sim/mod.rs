//! A simulated network and its kernels, in memory, from one seed, in both dialects of the seam.
//!
//! This is what is below [`hotloop::sim`](crate::sim): the network (`network`, `pipes`), what TCP
//! does on it (`tcp`, `end`), the machines with their system calls and events (`machine`, `kernel`,
//! `transfer`, `events`), peers without a loop (`peer`), and what goes wrong (`faults`). It knows
//! nothing of loops and handlers.
//!
//! Everything that happens is an entry in one queue (`queue`), ordered by time and then by the
//! order of planning, and every choice is a draw from one generator (`random`): a seed makes the
//! same world twice, byte for byte.

#![allow(
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::unreachable,
    reason = "a test's world: what is impossible in it is a mistake to show"
)]

mod end;
mod events;
mod kernel;
mod loose;
mod machine;
mod network;
mod options;
mod peer;
mod pipes;
mod queue;
mod report;
mod sockets;
mod tcp;
mod trace;
mod transfer;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

use crate::backend::{
    Accept, Backend, Close, Connect, Event, Loose, Recv, Send, Signal, Sock, Taken,
};
use crate::error::Errno;
use crate::id::Key;
use crate::options::{ConnOptions, ListenOptions};
use crate::recv_memory::{Lent, RecvMemory};
use crate::segment::Pieces;
use crate::socket_option::{KernelCount, OptionName, SocketOption, TcpInfo};
use crate::sys::poll_fd::PollFd;
use crate::sys::socket_fd::SocketFd;
use crate::time::Time;

pub(crate) use end::EndIndex;
pub(crate) use loose::LooseSocket;
pub(crate) use network::{Network, Stepped};
pub use options::{Dialect, Link, NodeOptions};
pub use peer::{PeerState, Progress, Script};
pub use report::Report;
use trace::Answer;
pub(crate) use trace::{HostIndex, What};

/// The network, as its loops and the world share it. They take turns: nobody ever waits for it.
#[derive(Debug, Clone)]
pub(crate) struct Shared(Arc<Mutex<Network>>);

impl Shared {
    pub(crate) fn new(network: Network) -> Shared {
        Shared(Arc::new(Mutex::new(network)))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Network> {
        match self.0.try_lock() {
            Ok(network) => network,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // The world and its loops are on one thread: to wait here would be for ever.
            Err(TryLockError::WouldBlock) => panic!("the world is used inside with_received"),
        }
    }
}

/// The kernel of one machine.
#[derive(Debug)]
pub(crate) struct Sim {
    shared: Shared,
    host: HostIndex,
}

impl Sim {
    pub(crate) fn new(shared: Shared, host: HostIndex) -> Sim {
        Sim { shared, host }
    }

    /// Makes a system call and writes it down.
    fn call<T>(
        &self,
        name: &'static str,
        key: Key,
        call: impl FnOnce(&mut Network, HostIndex) -> T,
        answer: impl FnOnce(&T) -> Answer,
    ) -> T {
        let mut network = self.shared.lock();
        let result = call(&mut network, self.host);
        let answer = answer(&result);
        if !matches!(answer, Answer::WouldBlock | Answer::Failed(_)) {
            network.machine_mut(self.host).turn_progress += 1;
        }
        network.note(self.host, What::Call { name, key: Some(key), answer });
        result
    }
}

impl Backend for Sim {
    fn now(&mut self) -> Time {
        self.shared.lock().clock(self.host)
    }

    fn wait(
        &mut self,
        _: Time,
        deadline: Option<Time>,
        events: &mut Vec<Event>,
    ) -> io::Result<bool> {
        let mut network = self.shared.lock();
        let before = events.len();
        let woken = network.wait(self.host, deadline, events);
        let answer = Answer::Events(events.len() - before);
        network.note(self.host, What::Call { name: "wait", key: None, answer });
        Ok(woken)
    }

    fn mailbox_len(&mut self, seen: usize) -> usize {
        let mut network = self.shared.lock();
        network.machine_mut(self.host).turn_progress += u64::from(seen > 0);
        let answer = Answer::Messages(seen);
        network.note(self.host, What::Call { name: "mailbox", key: None, answer });
        seen
    }

    fn signal(&self) -> Arc<dyn Signal> {
        Arc::clone(&self.shared.lock().machines[self.host].signal) as Arc<dyn Signal>
    }

    fn poll_fd(&self) -> Option<PollFd<'_>> {
        None
    }

    fn connections_max(&self) -> usize {
        let network = self.shared.lock();
        network.machines[self.host].descriptors_max.saturating_sub(64).max(1)
    }

    fn listen(
        &mut self,
        key: Key,
        addr: SocketAddr,
        options: &ListenOptions,
    ) -> io::Result<(i32, SocketAddr)> {
        self.call("listen", key, |net, host| net.listen(host, key, addr, options), of_result)
    }

    fn accept(&mut self, listener: &Sock, key: Key, options: &ConnOptions) -> Accept {
        let answer = |accept: &Accept| match accept {
            Accept::Accepted { .. } => Answer::Conn(key),
            Accept::WouldBlock => Answer::WouldBlock,
            Accept::Failed(errno) => Answer::Failed(*errno),
        };
        let accept = |net: &mut Network, host| net.accept(host, listener, key, &options.socket);
        self.call("accept", listener.key, accept, answer)
    }

    fn connect(
        &mut self,
        key: Key,
        addr: SocketAddr,
        options: &ConnOptions,
    ) -> io::Result<(i32, Connect)> {
        let connect = |net: &mut Network, host| net.connect(host, key, addr, &options.socket);
        self.call("connect", key, connect, of_result)
    }

    fn finish_connect(&mut self, conn: &Sock) -> Connect {
        let answer = |connect: &Connect| match connect {
            Connect::InProgress => Answer::WouldBlock,
            Connect::Connected => Answer::Done,
            Connect::Failed(errno) => Answer::Failed(*errno),
        };
        let name = "finish connect";
        self.call(name, conn.key, |net, host| net.finish_connect(host, conn), answer)
    }

    fn adopt(&mut self, key: Key, socket: Loose, options: &ConnOptions) -> Taken {
        self.take("adopt", key, socket, &options.socket)
    }

    fn adopt_listener(&mut self, key: Key, socket: Loose) -> Taken {
        self.take("adopt listener", key, socket, &[])
    }

    fn detach(&mut self, sock: &Sock, unread: &mut Vec<u8>) -> Loose {
        let detach = |net: &mut Network, host| net.detach(host, sock, unread);
        let life = self.call("detach", sock.key, detach, |_| Answer::Done);
        Loose::Simulated(LooseSocket::new(self.shared.clone(), self.host, life, sock.handle))
    }

    fn local_addr(&mut self, conn: &Sock) -> Option<SocketAddr> {
        let mut network = self.shared.lock();
        let index = network.socket_end(self.host, conn);
        network.end(index).map(|end| end.local)
    }

    fn recv(&mut self, conn: &Sock, memory: &mut RecvMemory, max_bytes: usize) -> Recv {
        let answer = |recv: &Recv| match recv {
            Recv::Data { lent, drained: false } => Answer::Bytes(lent.len()),
            Recv::Data { lent, drained: true } => Answer::Drained(lent.len()),
            Recv::Eof => Answer::Eof,
            Recv::WouldBlock => Answer::WouldBlock,
            Recv::Failed(errno) => Answer::Failed(*errno),
        };
        let call = |net: &mut Network, host| net.recv(host, conn, memory, max_bytes);
        self.call("recv", conn.key, call, answer)
    }

    fn release(&mut self, lent: Lent) {
        self.shared.lock().release(self.host, &lent);
    }

    fn holds_sends(&self) -> bool {
        self.shared.lock().machines[self.host].dialect == Dialect::Completion
    }

    fn send(&mut self, conn: &Sock, pieces: Pieces<'_>) -> Send {
        let answer = |send: &Send| match send {
            Send::Done { bytes, .. } => Answer::Bytes(*bytes),
            Send::WouldBlock => Answer::WouldBlock,
            Send::InFlight => Answer::InFlight,
            Send::Failed(errno) => Answer::Failed(*errno),
        };
        self.call("send", conn.key, |net, host| net.send(host, conn, pieces), answer)
    }

    fn shutdown(&mut self, conn: &Sock) -> Result<(), Errno> {
        let answer = |result: &Result<(), Errno>| match result {
            Ok(()) => Answer::Done,
            Err(errno) => Answer::Failed(*errno),
        };
        self.call("shutdown", conn.key, |net, host| net.shutdown(host, conn), answer)
    }

    fn interest(&mut self, sock: &Sock, read: bool, write: bool) {
        self.shared.lock().interest(self.host, sock.handle, read, write);
    }

    fn take_error(&mut self, conn: &Sock) -> Option<Errno> {
        let answer = |error: &Option<Errno>| error.map_or(Answer::Done, Answer::Failed);
        self.call("take error", conn.key, |net, host| net.take_error(host, conn), answer)
    }

    fn unread_bytes(&mut self, conn: &Sock) -> usize {
        self.shared.lock().unread_bytes(self.host, conn)
    }

    fn is_quiet(&mut self, conn: &Sock) -> bool {
        let answer = |quiet: &bool| if *quiet { Answer::WouldBlock } else { Answer::Done };
        self.call("peek", conn.key, |net, host| net.is_quiet(host, conn), answer)
    }

    fn set_option(&mut self, sock: &Sock, option: &SocketOption) -> io::Result<()> {
        let set = |net: &mut Network, host| net.set_option(host, sock, option);
        self.call("set option", sock.key, set, of_result)
    }

    fn option(&mut self, sock: &Sock, name: OptionName) -> io::Result<SocketOption> {
        Ok(self.shared.lock().option(self.host, sock, name))
    }

    fn tcp_info(&mut self, conn: &Sock) -> io::Result<TcpInfo> {
        Ok(self.shared.lock().tcp_info(self.host, conn))
    }

    fn kernel_count(&mut self, sock: &Sock, what: KernelCount) -> io::Result<usize> {
        self.shared.lock().kernel_count(self.host, sock, what)
    }

    fn fd(&self, _: &Sock) -> Option<SocketFd<'_>> {
        None
    }

    fn close(&mut self, sock: &Sock, reset: bool) -> Close {
        let answer = |close: &Close| match close {
            Close::Ended => Answer::Done,
            Close::InFlight => Answer::InFlight,
        };
        let name = if reset { "close with reset" } else { "close" };
        self.call(name, sock.key, |net, host| net.close(host, sock, reset), answer)
    }

    fn discard(&mut self, sock: &Sock) {
        self.shared.lock().discard(self.host, sock);
    }
}

fn of_result<T>(result: &io::Result<T>) -> Answer {
    match result {
        Ok(_) => Answer::Done,
        Err(error) => Answer::Failed(crate::sys::errno::of_io(error)),
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
