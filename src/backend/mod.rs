//! The seam between the loop and the system: the contract of a backend, and who implements it.
//!
//! Input is pull-shaped ([`Backend::recv`] is called until it has nothing), output is
//! completion-shaped ([`Backend::send`] may finish later), so that both readiness systems (epoll)
//! and completion systems (io_uring) fit without copies. The core reads the clock and the sockets
//! through this trait alone (contract C17).
//!
//! This layer knows nothing of handlers, connections' states, queues or timers.

mod chaos;
#[cfg(target_os = "linux")]
pub(crate) mod epoll;
mod gather;
mod loose;
mod portable;
#[cfg(any(test, feature = "script"))]
pub(crate) mod script;
pub(crate) mod sim;
mod stored_options;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

pub use loose::{AdoptError, Detached, DetachedListener, SendSide};
pub(crate) use loose::{Loose, Taken, foreign};

use crate::chaos::Chaos;
use crate::config::{BackendKind, Config};
use crate::error::Errno;
use crate::fault::FaultCounts;
use crate::id::Key;
use crate::options::{ConnOptions, ListenOptions, invalid};
use crate::recv_memory::{Lent, RecvMemory};
use crate::segment::Pieces;
use crate::socket_option::{KernelCount, OptionName, SocketOption, TcpInfo};
use crate::sys::poll_fd::PollFd;
use crate::sys::poller::Mode;
use crate::sys::socket_fd::SocketFd;
use crate::time::Time;

/// A socket as the core holds it for its backend.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sock {
    /// The key its events carry.
    pub(crate) key: Key,
    /// The backend's name for it, a file descriptor for instance.
    pub(crate) handle: i32,
    /// What the last event said of reading: until it says otherwise a short read does not prove
    /// that nothing is left. Set from [`Event::Ready`], read by the backend alone.
    pub(crate) exhaust: bool,
}

/// What a wait reports. What only completion backends make is unused without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// A connection or a listener may have become ready. Spurious ones are allowed.
    Ready {
        key: Key,
        readable: bool,
        writable: bool,
        /// A reset or an error is there, perhaps behind data, or both sides have sent their FIN.
        /// The peer's FIN alone is no hang-up: it is found by reading.
        hang_up: bool,
        /// See [`Sock::exhaust`].
        exhaust: bool,
    },
    /// A send that was answered with `InFlight` is done, and the backend holds no handle of its
    /// pieces any more.
    #[cfg_attr(not(any(test, feature = "script")), allow(dead_code))]
    Sent { key: Key, result: Result<usize, Errno> },
    /// A close that was answered with `InFlight` is done.
    #[cfg_attr(not(any(test, feature = "script")), allow(dead_code))]
    Ended { key: Key },
}

/// The answer to an accept.
#[derive(Debug)]
pub(crate) enum Accept {
    /// A new connection, registered under the key that was offered.
    Accepted { handle: i32, peer: SocketAddr },
    /// None is waiting; the next event says when there is one.
    WouldBlock,
    /// No connection came of it, and the offered key is still free.
    Failed(Errno),
}

/// How far a connect is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Connect {
    /// Not decided; an event says when to ask again.
    InProgress,
    Connected,
    Failed(Errno),
}

/// The answer to a receive.
#[derive(Debug)]
pub(crate) enum Recv {
    /// At least one byte. `drained`: nothing is left, and the next byte comes with an event.
    /// Only a backend can know that; the core never infers it from a length.
    Data {
        lent: Lent,
        drained: bool,
    },
    /// The peer's FIN, after all data.
    Eof,
    /// Nothing is there; the next byte comes with an event.
    WouldBlock,
    Failed(Errno),
}

/// The answer to a send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Send {
    /// The first `bytes` of the pieces are taken. `blocked`: there is no room for more, and an
    /// event says when there is.
    Done {
        bytes: usize,
        blocked: bool,
    },
    /// Nothing was taken; an event says when there is room.
    WouldBlock,
    /// [`Event::Sent`] follows. Until then the backend holds handles of the pieces, and the core
    /// sends nothing else on this connection.
    #[cfg_attr(not(any(test, feature = "script")), allow(dead_code))]
    InFlight,
    Failed(Errno),
}

/// The answer to a close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Close {
    /// The socket is gone and so is its handle.
    Ended,
    /// [`Event::Ended`] follows; the slot stays taken until then.
    #[cfg_attr(not(any(test, feature = "script")), allow(dead_code))]
    InFlight,
}

/// What wakes a loop from another thread.
pub(crate) trait Signal: std::fmt::Debug + std::marker::Send + Sync {
    /// Makes the current or the next wait return. What the thread has done before is visible
    /// behind that wait: the end of a loop's last waker is told by nothing else. Of an eventfd
    /// that is so because the write and the read take the lock of its counter (`fs/eventfd.c`).
    fn raise(&self);
}

/// The system, as the core sees it.
pub(crate) trait Backend {
    /// Reads the monotonic clock.
    fn now(&mut self) -> Time;

    /// Waits for events until `deadline` (`None`: without one; a past one: not at all; `now` is
    /// what the clock showed last) and appends them. Returns whether a signal was raised since
    /// the last wait. May return early and with nothing.
    fn wait(
        &mut self,
        now: Time,
        deadline: Option<Time>,
        events: &mut Vec<Event>,
    ) -> io::Result<bool>;

    /// Returns how many of the `seen` messages in a mailbox a drain may take: what other threads
    /// have done is read through here, so that it can be recorded (C17).
    fn mailbox_len(&mut self, seen: usize) -> usize {
        seen
    }

    /// Tells the system at once what the next wait would tell it first: somebody may wait for
    /// [`poll_fd`](Backend::poll_fd) in between.
    fn catch_up(&mut self) {}

    /// Returns whether there is something to catch up with, or to report without waiting.
    fn is_behind(&self) -> bool {
        false
    }

    /// Returns how often it has made each fault itself.
    fn fault_counts(&self) -> FaultCounts {
        FaultCounts::default()
    }

    /// Returns what raises the signal; it outlives the backend harmlessly.
    fn signal(&self) -> Arc<dyn Signal>;

    /// Returns a descriptor that is readable when a wait would return events.
    fn poll_fd(&self) -> Option<PollFd<'_>>;

    /// Returns how many connections the system allows.
    fn connections_max(&self) -> usize;

    /// Opens a listener; returns its handle and the address it is bound to. The error is the
    /// system's own; the core adds the address.
    fn listen(
        &mut self,
        key: Key,
        addr: SocketAddr,
        options: &ListenOptions,
    ) -> io::Result<(i32, SocketAddr)>;

    /// Accepts one connection and registers it under `key`.
    fn accept(&mut self, listener: &Sock, key: Key, options: &ConnOptions) -> Accept;

    /// Begins a connect and registers the socket under `key`. An error means that there is no
    /// socket; what the network answers is in the [`Connect`].
    fn connect(
        &mut self,
        key: Key,
        addr: SocketAddr,
        options: &ConnOptions,
    ) -> io::Result<(i32, Connect)>;

    /// Asks how a connect went, after an event. The socket's own error is the truth, not the
    /// event: a hang-up can come before the connection.
    fn finish_connect(&mut self, conn: &Sock) -> Connect;

    /// Takes a connected socket and registers it under `key`; what is ready already is told by an
    /// event. Gives it back with an error if it cannot be used.
    fn adopt(&mut self, key: Key, socket: Loose, options: &ConnOptions) -> Taken;

    /// Takes a listening socket and registers it under `key`, as [`adopt`](Backend::adopt).
    fn adopt_listener(&mut self, key: Key, socket: Loose) -> Taken;

    /// Gives a connection or a listener away; no event of it follows. Nothing of a connection is
    /// in flight. What the backend itself holds of its input is appended to `unread`.
    fn detach(&mut self, sock: &Sock, unread: &mut Vec<u8>) -> Loose;

    /// Returns the address a connection has on this side.
    fn local_addr(&mut self, conn: &Sock) -> Option<SocketAddr>;

    /// Receives at most `max_bytes` (at least 1).
    fn recv(&mut self, conn: &Sock, memory: &mut RecvMemory, max_bytes: usize) -> Recv;

    /// Takes back a lent range that names a buffer. Called for those only.
    fn release(&mut self, lent: Lent);

    /// Returns whether a send may be `InFlight`, for which pieces have to have segments.
    fn holds_sends(&self) -> bool {
        false
    }

    /// Sends the pieces, of which there is at least one.
    fn send(&mut self, conn: &Sock, pieces: Pieces<'_>) -> Send;

    /// Sends a FIN after everything that was sent.
    fn shutdown(&mut self, conn: &Sock) -> Result<(), Errno>;

    /// Says what the core waits for on this socket: called when that changes, not per message.
    /// Without any interest a hang-up is still reported (C13).
    fn interest(&mut self, sock: &Sock, read: bool, write: bool);

    /// Takes the socket's pending error, if there is one.
    fn take_error(&mut self, conn: &Sock) -> Option<Errno>;

    /// Returns how many bytes have arrived and were not received; final once there is an error.
    fn unread_bytes(&mut self, conn: &Sock) -> usize;

    /// Returns whether a connection is up and has nothing to receive: no byte, no FIN, no error.
    /// Takes nothing.
    fn is_quiet(&mut self, conn: &Sock) -> bool;

    /// Sets an option of a socket, whose value was checked.
    fn set_option(&mut self, sock: &Sock, option: &SocketOption) -> io::Result<()>;

    /// Reads an option of a socket.
    fn option(&mut self, sock: &Sock, name: OptionName) -> io::Result<SocketOption>;

    /// Returns what the kernel knows of a connection.
    fn tcp_info(&mut self, conn: &Sock) -> io::Result<TcpInfo>;

    /// Counts what the kernel holds.
    fn kernel_count(&mut self, sock: &Sock, what: KernelCount) -> io::Result<usize>;

    /// Lends the descriptor of a real socket.
    fn fd(&self, sock: &Sock) -> Option<SocketFd<'_>>;

    /// Closes a connection or a listener; with `reset` the peer gets a RST and the kernel drops
    /// what it has.
    fn close(&mut self, sock: &Sock, reset: bool) -> Close;

    /// Closes a socket of a loop that is going away: in this process alone, should the loop have
    /// been inherited from another by `fork(2)`. No event follows.
    fn discard(&mut self, sock: &Sock);
}

/// Opens the backend that the configuration, and for `Auto` the environment, names, with the
/// faults that either asks for.
pub(crate) fn open(config: &Config) -> io::Result<Box<dyn Backend>> {
    let chaos = match &config.chaos {
        Some(chaos) => Some(chaos.clone()),
        None => variable("HOTLOOP_CHAOS")?.map(|text| text.parse::<Chaos>()).transpose()?,
    };
    let inner = open_system(config)?;
    Ok(match chaos {
        Some(chaos) => Box::new(chaos::Chaotic::new(inner, chaos)),
        None => inner,
    })
}

fn open_system(config: &Config) -> io::Result<Box<dyn Backend>> {
    let kind = match config.backend {
        BackendKind::Auto => kind_of_environment()?,
        kind => kind,
    };
    match kind {
        BackendKind::Portable => Ok(Box::new(portable::Portable::new(portable_mode(config)?)?)),
        BackendKind::Epoll | BackendKind::Auto => open_epoll(),
    }
}

#[cfg(target_os = "linux")]
fn open_epoll() -> io::Result<Box<dyn Backend>> {
    Ok(Box::new(epoll::Epoll::new()?))
}

#[cfg(not(target_os = "linux"))]
fn open_epoll() -> io::Result<Box<dyn Backend>> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "epoll: this system has none"))
}

fn kind_of_environment() -> io::Result<BackendKind> {
    match variable("HOTLOOP_BACKEND")?.as_deref() {
        None | Some("auto") if cfg!(not(target_os = "linux")) => Ok(BackendKind::Portable),
        None | Some("auto" | "epoll") => Ok(BackendKind::Epoll),
        Some("portable") => Ok(BackendKind::Portable),
        Some(name) => {
            let known = "auto, epoll, portable";
            Err(invalid(&format!("HOTLOOP_BACKEND={name:?}: no such backend ({known})")))
        }
    }
}

fn portable_mode(config: &Config) -> io::Result<Option<Mode>> {
    let variable = variable("HOTLOOP_PORTABLE_MODE")?;
    let Some(name) = config.portable_mode.or(variable.as_deref()) else { return Ok(None) };
    let unknown = || {
        let known = "edge, level, oneshot, edge-oneshot";
        invalid(&format!("HOTLOOP_PORTABLE_MODE={name:?}: no such mode ({known})"))
    };
    portable::mode_named(name).ok_or_else(unknown).map(Some)
}

/// Returns a variable of the environment, unless it is empty.
fn variable(name: &str) -> io::Result<Option<String>> {
    match std::env::var(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(error) => Err(invalid(&format!("{name}: {error}"))),
    }
}
