//! The system calls of a simulated kernel.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::backend::{Accept, Close, Connect, Event, Sock};
use crate::error::Errno;
use crate::id::Key;
use crate::options::ListenOptions;
use crate::socket_option::SocketOption;
use crate::sys::errno::{
    EADDRINUSE, EADDRNOTAVAIL, ECONNABORTED, EINTR, EMFILE, ENETUNREACH, ENFILE, ENOBUFS, ENOMEM,
    ENOTCONN, EPERM, EPROTO,
};
use crate::time::Time;

use super::end::{End, EndIndex, Fin, Owner, Stage};
use super::machine::{Listener, Socket};
use super::network::{Action, Network};
use super::options::{Dialect, NodeOptions};
use super::peer::Script;
use super::trace::{HostIndex, What};
use crate::fault::Fault;

/// What an accept fails with, when it does.
const ACCEPT_ERRORS: &[i32] =
    &[EMFILE, ENFILE, ENOBUFS, ENOMEM, ECONNABORTED, EINTR, EPROTO, EPERM];
const CONNECT_ERRORS: &[i32] = &[EMFILE, ENOBUFS, EADDRNOTAVAIL, ENETUNREACH];

impl Network {
    /// Reads a machine's clock.
    pub(super) fn clock(&mut self, host: HostIndex) -> Time {
        // Not when a test looks at a loop between turns: that changes nothing.
        let is_turn = self.machines[host].is_given || self.machines[host].is_attached;
        let step_back = is_turn && self.fault(host, Fault::ClockStepBack);
        let back = if step_back { self.random.below(1_000_000) } else { 0 };
        let clock = self.machines[host].clock.max(self.now);
        self.machines[host].clock = clock;
        Time::from_nanos(clock.as_nanos().saturating_sub(back))
    }

    /// Lets a turn cost what it costs.
    pub(crate) fn charge_turn(&mut self, host: HostIndex) {
        let machine = &self.machines[host];
        let (cost, jitter) = (machine.turn_cost_nanos, machine.turn_jitter_nanos);
        let jitter = if jitter == 0 { 0 } else { self.random.below(jitter + 1) };
        let stall = if self.fault(host, Fault::SlowTurn) { 1 + self.random.below(500) } else { 0 };
        let spent = Duration::from_nanos(cost + jitter) + Duration::from_millis(stall);
        let machine = &mut self.machines[host];
        machine.clock = machine.clock.max(self.now) + spent;
    }

    pub(super) fn count_call(&mut self) {
        self.report.calls += 1;
    }

    /// Counts a call and returns what a loop's socket stands for.
    ///
    /// # Panics
    ///
    /// If the loop uses a descriptor that is closed, or another's: what a kernel would answer
    /// with `EBADF`, or worse.
    pub(super) fn socket(&mut self, host: HostIndex, sock: &Sock) -> Socket {
        self.count_call();
        let machine = &self.machines[host];
        let name = &machine.name;
        let Some(found) = machine.view(sock.handle) else {
            panic!("{name}: EBADF: {sock:?} is not open");
        };
        assert_eq!(found.key, sock.key, "{name}: the descriptor {} is another's", sock.handle);
        found.socket
    }

    /// Returns the end that a connection's socket is.
    ///
    /// # Panics
    ///
    /// As [`socket`](Self::socket), and if it is no connection's.
    pub(super) fn socket_end(&mut self, host: HostIndex, sock: &Sock) -> EndIndex {
        match self.socket(host, sock) {
            Socket::Conn(index) => index,
            other => panic!("{}: {sock:?} is {other:?}", self.machines[host].name),
        }
    }

    pub(super) fn listen(
        &mut self,
        host: HostIndex,
        key: Key,
        mut addr: SocketAddr,
        options: &ListenOptions,
    ) -> io::Result<(i32, SocketAddr)> {
        self.count_call();
        let machine = &mut self.machines[host];
        if machine.is_full() {
            return Err(Errno(EMFILE).into());
        }
        if !machine.has_addr(addr.ip()) {
            return Err(Errno(EADDRNOTAVAIL).into());
        }
        if addr.port() == 0 {
            addr.set_port(machine.ephemeral_port());
        } else if machine.is_taken(addr, options.reuse_port) {
            return Err(Errno(EADDRINUSE).into());
        }
        let backlog = usize::try_from(options.backlog).unwrap_or(usize::MAX);
        let mut listener = Listener::new(addr, backlog);
        listener.reuse_port = options.reuse_port;
        for option in &options.socket {
            listener.options.set(option)?;
        }
        let index = machine.add_listener(listener);
        let handle = machine.open(key, Socket::Listener(index));
        self.listener(host, index).handle = Some(handle);
        Ok((handle, addr))
    }

    /// Opens a listener whose connections play a script.
    pub(crate) fn serve(&mut self, host: HostIndex, port: u16, script: Script) -> SocketAddr {
        let machine = &mut self.machines[host];
        let mut addr = SocketAddr::new(IpAddr::V4(machine.ip), port);
        if port == 0 {
            addr.set_port(machine.ephemeral_port());
        }
        assert!(!machine.is_taken(addr, false), "{addr} on {} is taken", machine.name);
        let mut listener = Listener::new(addr, usize::MAX);
        listener.script = script;
        machine.add_listener(listener);
        addr
    }

    /// Returns the peers without a loop that were accepted at an address.
    pub(crate) fn served(&self, host: HostIndex, addr: SocketAddr) -> Vec<EndIndex> {
        let listeners = self.machines[host].listeners.iter().flatten();
        let there = listeners.filter(|one| one.addr == addr && one.handle.is_none());
        there.flat_map(|one| one.served.iter().copied()).collect()
    }

    pub(super) fn accept(
        &mut self,
        host: HostIndex,
        listener: &Sock,
        key: Key,
        options: &[SocketOption],
    ) -> Accept {
        let Socket::Listener(index) = self.socket(host, listener) else {
            panic!("{}: {listener:?} is no listener", self.machines[host].name);
        };
        if let Some(errno) = self.machines[host].scripted_accepts.pop_front() {
            // Something was used up: a loop that goes on at once does not spin.
            self.machines[host].turn_progress += 1;
            return Accept::Failed(Errno(errno));
        }
        if self.machines[host].is_full() {
            return Accept::Failed(Errno(EMFILE));
        }
        let waiting = &self.listener(host, index).waiting;
        if waiting.is_empty() {
            return Accept::WouldBlock;
        }
        if self.fault(host, Fault::AcceptError) {
            return Accept::Failed(self.fail_accept(host, index));
        }
        let end = self.listener(host, index).waiting.pop_front().expect("it is not empty");
        let handle = self.open_conn(host, key, end);
        let accepted = self.end_mut(end);
        accepted.owner = Owner::Socket { key, handle };
        let peer = accepted.remote;
        self.inherit_options(host, index, end, options);
        self.wake(host, handle);
        Accept::Accepted { handle, peer }
    }

    /// # Panics
    ///
    /// If the loop has given a slot away whose socket is still being closed (C10).
    fn open_conn(&mut self, host: HostIndex, key: Key, end: EndIndex) -> i32 {
        let machine = &mut self.machines[host];
        let is_taken = machine.is_closing(key);
        assert!(!is_taken, "{}: {key:?} has the slot of a close in flight", machine.name);
        machine.open(key, Socket::Conn(end))
    }

    /// Draws what an accept fails with; some errors take a waiting connection with them.
    fn fail_accept(&mut self, host: HostIndex, listener: usize) -> Errno {
        let errno = ACCEPT_ERRORS[self.random.index(ACCEPT_ERRORS.len())];
        if matches!(errno, ECONNABORTED | EPROTO | EPERM) {
            let lost = self.listener(host, listener).waiting.pop_front();
            self.leave(lost.expect("it is not empty"), true);
        }
        Errno(errno)
    }

    pub(super) fn listener(&mut self, host: HostIndex, index: usize) -> &mut Listener {
        self.machines[host].listeners[index].as_mut().expect("its descriptor is open")
    }

    pub(super) fn connect(
        &mut self,
        host: HostIndex,
        key: Key,
        addr: SocketAddr,
        options: &[SocketOption],
    ) -> io::Result<(i32, Connect)> {
        self.count_call();
        let addr = reachable(addr);
        let mut failed = self.machines[host].is_full().then_some(EMFILE);
        if failed.is_none() && self.fault(host, Fault::ConnectError) {
            failed = Some(CONNECT_ERRORS[self.random.index(CONNECT_ERRORS.len())]);
        }
        if let Some(errno) = failed.filter(|errno| *errno != ENETUNREACH) {
            return Err(Errno(errno).into());
        }
        let mut local = self.ephemeral_addr(host, addr);
        let dials_self = self.machine_at(addr.ip(), host) == Some(host);
        let unheard = dials_self && self.machines[host].listeners_at(addr).is_empty();
        if unheard && self.fault(host, Fault::SelfConnect) {
            local.set_port(addr.port());
        }
        let index = self.open_end(host, local, addr, Owner::Orphan);
        let handle = self.open_conn(host, key, index);
        self.end_mut(index).owner = Owner::Socket { key, handle };
        self.set_all(index, options);
        if let Some(errno) = failed {
            self.end_mut(index).stage = Stage::Dead;
            return Ok((handle, Connect::Failed(Errno(errno))));
        }
        self.send_syn(index);
        Ok((handle, Connect::InProgress))
    }

    /// Returns the address that a connect to another one comes from.
    pub(super) fn ephemeral_addr(&mut self, host: HostIndex, to: SocketAddr) -> SocketAddr {
        let machine = &mut self.machines[host];
        let ip = if to.ip().is_loopback() { to.ip() } else { IpAddr::V4(machine.ip) };
        SocketAddr::new(ip, machine.ephemeral_port())
    }

    pub(super) fn finish_connect(&mut self, host: HostIndex, conn: &Sock) -> Connect {
        let index = self.socket_end(host, conn);
        let end = self.end_mut(index);
        match (end.take_error(), end.stage) {
            (Some(errno), _) => Connect::Failed(Errno(errno)),
            (None, Stage::Connecting) => Connect::InProgress,
            (None, Stage::Open) => Connect::Connected,
            (None, Stage::Dead) => Connect::Failed(Errno(ENOTCONN)),
        }
    }

    pub(super) fn shutdown(&mut self, host: HostIndex, conn: &Sock) -> Result<(), Errno> {
        let index = self.socket_end(host, conn);
        let end = self.end_mut(index);
        let is_connected = end.stage == Stage::Open && !end.is_over();
        assert!(!is_connected || end.flight.is_none(), "a FIN overtakes what is in flight");
        if is_connected && end.fin == Fin::No {
            end.fin = Fin::Wanted;
            self.transmit(index);
        }
        // `inet_shutdown` wakes whoever polls, also when it fails.
        self.wake(host, conn.handle);
        if is_connected { Ok(()) } else { Err(Errno(ENOTCONN)) }
    }

    pub(super) fn take_error(&mut self, host: HostIndex, conn: &Sock) -> Option<Errno> {
        let index = self.socket_end(host, conn);
        self.end_mut(index).take_error().map(Errno)
    }

    pub(super) fn unread_bytes(&mut self, host: HostIndex, conn: &Sock) -> usize {
        let index = self.socket_end(host, conn);
        let end = self.end_mut(index);
        end.bytes_before_mark() + end.arrived.len()
    }

    pub(super) fn is_quiet(&mut self, host: HostIndex, conn: &Sock) -> bool {
        let index = self.socket_end(host, conn);
        let end = self.end_mut(index);
        let has_bytes = !end.unread.is_empty() || !end.arrived.is_empty() || end.mark.is_some();
        end.stage == Stage::Open && !has_bytes && !end.is_at_end()
    }

    pub(super) fn close(&mut self, host: HostIndex, sock: &Sock, reset: bool) -> Close {
        let mut socket = self.socket(host, sock);
        let machine = &self.machines[host];
        let is_closing = machine.view(sock.handle).is_some_and(|found| found.is_closing);
        assert!(!is_closing, "{}: {sock:?} is closed a second time", machine.name);
        if machine.dialect == Dialect::Readiness {
            self.close_now(host, sock.handle, reset);
            return Close::Ended;
        }
        if let Socket::Listener(index) = socket {
            self.stop_listening(host, index);
            socket = Socket::Nothing;
        }
        let at = self.completion_at(host);
        let (handle, key) = (sock.handle, sock.key);
        if let Some(closing) = self.machines[host].descriptor(handle) {
            (closing.socket, closing.is_closing) = (socket, true);
            self.machines[host].closing += 1;
        }
        let life = self.machines[host].life;
        self.queue.plan(at, Action::Closed { host, life, handle, key, reset });
        Close::InFlight
    }

    /// A close in flight is done.
    pub(super) fn closed(&mut self, host: HostIndex, handle: i32, key: Key, reset: bool) {
        let found = self.machines[host].view(handle).filter(|found| found.key == key);
        let Some(socket) = found.map(|found| found.socket) else { return };
        if let Socket::Conn(index) = socket {
            self.cancel_flight(index);
        }
        self.close_now(host, handle, reset);
        self.complete(host, Event::Ended { key });
    }

    /// Closes a socket of a loop that goes away.
    pub(super) fn discard(&mut self, host: HostIndex, sock: &Sock) {
        let found = self.machines[host].view(sock.handle);
        if found.is_some_and(|found| found.key == sock.key) {
            self.close_now(host, sock.handle, false);
        }
    }

    /// Closes what a loop has left open, and starts the machine over with other options.
    pub(crate) fn restart(&mut self, host: HostIndex, options: &NodeOptions) {
        for handle in self.machines[host].handles() {
            self.close_now(host, handle, false);
        }
        let now = self.now;
        self.machines[host].restart(options, now);
        self.note(host, What::Host("starts again"));
        self.reset_unanswered(host);
    }

    /// What others send again finds a machine that knows nothing of it.
    fn reset_unanswered(&mut self, host: HostIndex) {
        for index in 0..self.ends.len() {
            let is_lost = |end: &&End| {
                end.remote_host == Some(host)
                    && end.stage == Stage::Open
                    && !end.is_settled()
                    && end.other.and_then(|other| self.end(other)).is_none_or(End::is_dead)
            };
            if self.end(index).as_ref().is_some_and(is_lost) {
                self.answer_with_reset(index);
            }
        }
    }

    /// Closes a descriptor and what it stands for.
    pub(super) fn close_now(&mut self, host: HostIndex, handle: i32, reset: bool) {
        let found = self.machines[host].descriptor(handle).map(|found| found.socket);
        self.machines[host].free(handle);
        match found {
            Some(Socket::Conn(index)) => self.leave(index, reset),
            Some(Socket::Listener(index)) => self.stop_listening(host, index),
            Some(Socket::Nothing) | None => {}
        }
    }

    /// Ends a listener: its address is free at once, and what waits in its backlog is reset.
    fn stop_listening(&mut self, host: HostIndex, index: usize) {
        let gone = self.machines[host].listeners[index].take();
        for waiting in gone.into_iter().flat_map(|gone| gone.waiting) {
            self.leave(waiting, true);
        }
    }
}

/// Returns where a connect to an address goes: to the unspecified one is to this host (`ip(7)`).
pub(super) fn reachable(mut addr: SocketAddr) -> SocketAddr {
    if addr.ip().is_unspecified() {
        addr.set_ip(match addr.ip() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    addr
}
