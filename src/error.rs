//! Why a connection ended, what a system error means for the loop, and why a listener paused.

use std::fmt;
use std::io;

/// An error number of the operating system, as a backend reports it.
///
/// # Examples
///
/// ```
/// use hotloop::Errno;
///
/// let error = std::io::Error::from(Errno(libc::ECONNREFUSED));
/// assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        io::Error::from_raw_os_error(self.0).fmt(f)
    }
}

impl From<Errno> for io::Error {
    fn from(errno: Errno) -> io::Error {
        io::Error::from_raw_os_error(errno.0)
    }
}

/// What a system error means for an event loop. See [`ErrorClass::of`] for the table.
///
/// # Examples
///
/// ```
/// use hotloop::{Errno, ErrorClass};
///
/// assert_eq!(ErrorClass::of_errno(Errno(libc::EAGAIN)), ErrorClass::Retry);
/// assert_eq!(ErrorClass::of_errno(Errno(libc::ECONNRESET)), ErrorClass::Closed);
/// assert_eq!(ErrorClass::of_errno(Errno(libc::EMFILE)), ErrorClass::Resource);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// Nothing is wrong with the socket: try again, at once or when it is ready.
    Retry,
    /// This connection is over; every other one is unaffected.
    Closed,
    /// The process or the machine has run out of something: try again later.
    Resource,
    /// A mistake in the program, or a socket that cannot work any more.
    Fatal,
}

/// Which deadline passed.
///
/// # Examples
///
/// ```
/// use hotloop::{CloseReason, TimeoutKind};
///
/// /// Returns whether it is worth connecting to this server again.
/// fn is_worth_a_try(reason: CloseReason) -> bool {
///     use TimeoutKind::{Connect, Idle};
///     matches!(reason, CloseReason::PeerClosed | CloseReason::Timeout(Connect | Idle))
/// }
/// assert!(is_worth_a_try(CloseReason::Timeout(TimeoutKind::Idle)));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TimeoutKind {
    /// The connect was not done in time.
    Connect,
    /// No byte was received or sent for the idle timeout.
    Idle,
    /// Queued bytes made no progress for the write-stall timeout.
    WriteStall,
    /// The peer did not close its side in time after a [`Net::close`](crate::Net::close).
    Linger,
    /// The kernel gave the peer up (`ETIMEDOUT`): keepalive, `TCP_USER_TIMEOUT` or too many
    /// retransmissions, `tcp(7)`.
    Kernel,
}

/// Which limit was exceeded.
///
/// # Examples
///
/// ```
/// use hotloop::{CloseReason, LimitKind};
///
/// fn advice(reason: CloseReason) -> Option<&'static str> {
///     match reason {
///         CloseReason::Limit(LimitKind::Outbound) => Some("it does not read"),
///         CloseReason::Limit(LimitKind::Inbound) => Some("its message is too long"),
///         _ => None,
///     }
/// }
/// assert_eq!(advice(CloseReason::LocalClose), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LimitKind {
    /// A write would have passed the hard limit of the outbound queue, and the policy is
    /// [`SlowConsumer::Close`](crate::SlowConsumer::Close).
    Outbound,
    /// The handler left more input unconsumed than `inbound_max_bytes`.
    Inbound,
    /// Keeping unconsumed input would have passed the loop's `global_buffer_bytes`.
    Buffers,
    /// The peer went on sending after a [`Net::close`](crate::Net::close), past `linger_bytes`.
    Linger,
}

/// Why a connection ended, as [`Handler::on_close`](crate::Handler::on_close) is told.
///
/// The first reason wins, with three exceptions: an abort overrides a pending close, a reset that
/// loses queued bytes reports the reset, and a close by [`Net::close`](crate::Net::close) whose
/// flush stalls or whose linger expires reports that timeout or limit.
///
/// # Examples
///
/// ```
/// use hotloop::{CloseReason, ConnId, Handler, Net};
///
/// /// Counts the ends that nobody wanted.
/// #[derive(Default)]
/// struct Server {
///     failures: u64,
/// }
///
/// impl Handler for Server {
///     fn on_close(&mut self, _: &mut Net, conn: ConnId, reason: CloseReason, _: u64) {
///         use CloseReason::{LocalClose, PeerClosed, Released, Shutdown};
///         if !matches!(reason, LocalClose | PeerClosed | Released | Shutdown) {
///             self.failures += 1;
///             println!("{conn}: {reason}");
///         }
///     }
///     # fn on_data(&mut self, _: &mut Net, _: ConnId, data: &[u8]) -> usize { data.len() }
/// }
/// # let _ = Server::default();
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer closed first: its FIN had been read when the connection was closed here, or both
    /// sides had sent theirs. Everything that was accepted here was sent.
    PeerClosed,
    /// The peer reset the connection, or vanished while there was something to send to it
    /// (`ECONNRESET`, `ECONNABORTED`, `EPIPE`).
    Reset,
    /// [`Net::close`](crate::Net::close) was called.
    LocalClose,
    /// [`Net::abort`](crate::Net::abort) was called.
    LocalAbort,
    /// A deadline passed.
    Timeout(TimeoutKind),
    /// A limit was exceeded.
    Limit(LimitKind),
    /// An outgoing connection could not be made. A connection to itself, which TCP allows when
    /// an ephemeral port is dialled, counts as refused.
    ConnectFailed(Errno),
    /// The system reported an error that has no reason of its own.
    Io(Errno),
    /// A callback of this connection panicked.
    HandlerPanicked,
    /// [`Net::release`](crate::Net::release) was called, and the connection goes on elsewhere.
    Released,
    /// [`Loop::close_all`](crate::Loop::close_all) was called.
    Shutdown,
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CloseReason::PeerClosed => f.write_str("peer closed"),
            CloseReason::Reset => f.write_str("reset by peer"),
            CloseReason::LocalClose => f.write_str("closed here"),
            CloseReason::LocalAbort => f.write_str("aborted here"),
            CloseReason::Timeout(kind) => write!(f, "timeout: {kind:?}"),
            CloseReason::Limit(kind) => write!(f, "limit: {kind:?}"),
            CloseReason::ConnectFailed(errno) => write!(f, "connect failed: {errno}"),
            CloseReason::Io(errno) => write!(f, "i/o error: {errno}"),
            CloseReason::HandlerPanicked => f.write_str("handler panicked"),
            CloseReason::Released => f.write_str("released"),
            CloseReason::Shutdown => f.write_str("shutdown"),
        }
    }
}

/// Why a listener stopped accepting, as
/// [`Handler::on_listener_error`](crate::Handler::on_listener_error) is told.
///
/// # Examples
///
/// ```
/// use hotloop::{ConnId, Handler, ListenerError, ListenerId, Net};
///
/// /// Ends when it cannot serve any more.
/// struct Server;
///
/// impl Handler for Server {
///     fn on_listener_error(&mut self, net: &mut Net, _: ListenerId, error: ListenerError) {
///         if matches!(error, ListenerError::Failed(_)) {
///             net.stop();
///         }
///     }
///     # fn on_data(&mut self, _: &mut Net, _: ConnId, data: &[u8]) -> usize { data.len() }
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ListenerError {
    /// The process or the machine has run out of something (`EMFILE`, `ENFILE`, `ENOBUFS`,
    /// `ENOMEM`), or 64 accepts in a row have failed with what is skipped otherwise. Accepting goes
    /// on when a descriptor is freed, or after 10 ms, doubling up to 200 ms. Reported once until
    /// an accept succeeds again.
    Paused(Errno),
    /// The loop holds `max_connections` connections. Accepting goes on when one of them ends;
    /// until then incoming ones wait in the kernel's backlog. Reported once until an accept
    /// succeeds again.
    ConnectionLimit,
    /// The listening socket cannot work any more (`EBADF`, `EINVAL`, `ENOTSOCK`). The listener is
    /// closed; its id is stale from here on.
    Failed(Errno),
}

impl fmt::Display for ListenerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenerError::Paused(errno) => write!(f, "accepting is paused: {errno}"),
            ListenerError::ConnectionLimit => f.write_str("the connection limit is reached"),
            ListenerError::Failed(errno) => write!(f, "the listener failed: {errno}"),
        }
    }
}

impl std::error::Error for ListenerError {}
