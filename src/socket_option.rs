//! Options of sockets, typed.

use std::io;
use std::time::Duration;

use crate::options::invalid;

/// When a silent connection is asked whether the peer is still there (`tcp(7)`).
///
/// ```
/// use hotloop::Keepalive;
/// use std::time::Duration;
///
/// // Found dead after 30 s of silence and 3 unanswered questions, 5 s apart.
/// let keepalive = Keepalive {
///     idle: Duration::from_secs(30),
///     interval: Duration::from_secs(5),
///     probes: 3,
/// };
/// # let _ = keepalive;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Keepalive {
    /// How long the connection is silent before the first question (`TCP_KEEPIDLE`), 1 s to
    /// 32,767 s, whole seconds.
    pub idle: Duration,
    /// How long between questions that are not answered (`TCP_KEEPINTVL`), 1 s to 32,767 s, whole
    /// seconds.
    pub interval: Duration,
    /// How many unanswered questions end the connection (`TCP_KEEPCNT`), 1 to 127.
    pub probes: u32,
}

/// An option of a socket, with its value.
///
/// Set with [`Net::set_socket_option`](crate::Net::set_socket_option) at any time, or before the
/// socket is used with [`ConnOptions::socket`](crate::ConnOptions::socket) and
/// [`ListenOptions::socket`](crate::ListenOptions::socket); read with
/// [`Net::socket_option`](crate::Net::socket_option). What is not here can be set through
/// [`Net::fd`](crate::Net::fd).
///
/// # Platform
///
/// Each says where it exists; elsewhere setting and reading it is an error of the kind
/// [`Unsupported`](io::ErrorKind::Unsupported) that names it. On a simulated socket every option
/// is stored and read back by Linux's rules; only `SendBufferBytes` has an effect.
///
/// # Examples
///
/// ```
/// use hotloop::{ConnOptions, ListenOptions, SocketOption};
/// use std::time::Duration;
///
/// // What is sent last is not queued behind 4 MiB that are stale.
/// let conn = ConnOptions::default().socket(SocketOption::NotsentLowatBytes(16 << 10));
/// // Accepted when the first byte has come.
/// let second = Duration::from_secs(1);
/// let listen = ListenOptions::default().socket(SocketOption::DeferAccept(second)).conn(conn);
/// # let _ = listen;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SocketOption {
    /// `TCP_NODELAY` (`tcp(7)`): small segments are sent at once. Everywhere.
    Nodelay(bool),
    /// `SO_KEEPALIVE` and its three numbers (`tcp(7)`); `None`: off, the system's default.
    /// Everywhere; the three numbers are read back where the system tells them.
    Keepalive(Option<Keepalive>),
    /// `SO_SNDBUF` (`socket(7)`): how many unsent and unacknowledged bytes the kernel holds.
    /// Linux doubles the number for its own overhead, and says so when it is read; it no longer
    /// grows the buffer by itself then. Everywhere.
    SendBufferBytes(usize),
    /// `SO_RCVBUF` (`socket(7)`), as above. It bounds the window that is offered to the peer; to
    /// have an effect on the window's scale it has to be set on the listener, or before the
    /// connect (`tcp(7)`). Everywhere.
    RecvBufferBytes(usize),
    /// `SO_LINGER` (`socket(7)`). `Some(0)`: the socket's end is a reset, whatever was sent.
    /// Longer ones are refused: `close(2)` would block the loop for that long, even on a
    /// non-blocking socket; that waiting is what
    /// [`ConnOptions::linger_timeout`](crate::ConnOptions::linger_timeout) is for. Everywhere.
    Linger(Option<Duration>),
    /// `TCP_USER_TIMEOUT` (`tcp(7)`): how long sent bytes may stay unacknowledged before the
    /// kernel gives the connection up with
    /// [`TimeoutKind::Kernel`](crate::TimeoutKind::Kernel); up to 2^31 ms, whole milliseconds,
    /// zero for the system's default. Nothing sent, nothing given up: who only waits for an answer
    /// needs `Keepalive` as well. A peer that is alive and has its window closed for so long,
    /// because it does not read, is given up, too. What the own link refuses while nothing is in
    /// flight counts from the first time, whatever got through since (`tcp_probe_timer`, seen on
    /// Linux 6.18): a second cut of the own link may end a connection at once. Linux.
    UserTimeout(Duration),
    /// `TCP_NOTSENT_LOWAT` (`tcp(7)`): with more unsent bytes than this the socket counts as full,
    /// so that what is sent last is not queued behind what is stale. Linux.
    NotsentLowatBytes(u32),
    /// `TCP_QUICKACK` (`tcp(7)`): acknowledge at once. The kernel may switch it off by itself
    /// again. Linux.
    Quickack(bool),
    /// `TCP_DEFER_ACCEPT` (`tcp(7)`), for a listener: a connection is accepted when its first byte
    /// has come, or after about so long; whole seconds, rounded up by the kernel to a whole number
    /// of retransmissions. Linux.
    DeferAccept(Duration),
    /// `TCP_FASTOPEN` (`tcp(7)`, RFC 7413), for a listener: how many connections that brought data
    /// in their SYN may wait; 0 switches it off. Needs the system's leave
    /// (`net.ipv4.tcp_fastopen`). Linux.
    FastOpen(u32),
    /// `SO_REUSEADDR` (`socket(7)`). To bind with it it has to be set before, see
    /// [`ListenOptions::reuse_address`](crate::ListenOptions::reuse_address). Unix.
    ReuseAddress(bool),
    /// `SO_REUSEPORT` (`socket(7)`), likewise. Unix.
    ReusePort(bool),
    /// `IPV6_V6ONLY` (`ipv6(7)`). Only before the socket is bound; see
    /// [`ListenOptions::v6_only`](crate::ListenOptions::v6_only). Everywhere.
    V6Only(bool),
    /// The type of service (`IP_TOS`, `ip(7)`) or, of an IPv6 socket, the traffic class
    /// (`IPV6_TCLASS`, `ipv6(7)`); one that takes IPv4, too, gets both. The kernel keeps the two
    /// lowest bits of TCP for itself. Linux.
    TypeOfService(u8),
    /// The name of the congestion control (`TCP_CONGESTION`, `tcp(7)`), at most 15 bytes. Linux.
    Congestion(String),
    /// `SO_BUSY_POLL` (`socket(7)`): how long a wait polls the network card; whole microseconds,
    /// up to 2^31 µs. Raising it needs `CAP_NET_ADMIN`. Linux.
    BusyPoll(Duration),
    /// `SO_MARK` (`socket(7)`): the mark of its packets, for routing and filters. Needs
    /// `CAP_NET_ADMIN`. Linux.
    Mark(u32),
    /// `SO_BINDTODEVICE` (`socket(7)`): the network interface it is bound to, at most 15 bytes;
    /// `None`: any. Linux.
    Device(Option<String>),
}

/// Which option to read: a [`SocketOption`] without its value.
///
/// # Examples
///
/// ```
/// use hotloop::{OptionName, SocketOption};
///
/// assert_eq!(SocketOption::Nodelay(true).name(), OptionName::Nodelay);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum OptionName {
    /// [`SocketOption::Nodelay`].
    Nodelay,
    /// [`SocketOption::Keepalive`].
    Keepalive,
    /// [`SocketOption::SendBufferBytes`].
    SendBufferBytes,
    /// [`SocketOption::RecvBufferBytes`].
    RecvBufferBytes,
    /// [`SocketOption::Linger`].
    Linger,
    /// [`SocketOption::UserTimeout`].
    UserTimeout,
    /// [`SocketOption::NotsentLowatBytes`].
    NotsentLowatBytes,
    /// [`SocketOption::Quickack`].
    Quickack,
    /// [`SocketOption::DeferAccept`].
    DeferAccept,
    /// [`SocketOption::FastOpen`].
    FastOpen,
    /// [`SocketOption::ReuseAddress`].
    ReuseAddress,
    /// [`SocketOption::ReusePort`].
    ReusePort,
    /// [`SocketOption::V6Only`].
    V6Only,
    /// [`SocketOption::TypeOfService`].
    TypeOfService,
    /// [`SocketOption::Congestion`].
    Congestion,
    /// [`SocketOption::BusyPoll`].
    BusyPoll,
    /// [`SocketOption::Mark`].
    Mark,
    /// [`SocketOption::Device`].
    Device,
}

impl SocketOption {
    /// Returns which option it is.
    pub fn name(&self) -> OptionName {
        match self {
            SocketOption::Nodelay(_) => OptionName::Nodelay,
            SocketOption::Keepalive(_) => OptionName::Keepalive,
            SocketOption::SendBufferBytes(_) => OptionName::SendBufferBytes,
            SocketOption::RecvBufferBytes(_) => OptionName::RecvBufferBytes,
            SocketOption::Linger(_) => OptionName::Linger,
            SocketOption::UserTimeout(_) => OptionName::UserTimeout,
            SocketOption::NotsentLowatBytes(_) => OptionName::NotsentLowatBytes,
            SocketOption::Quickack(_) => OptionName::Quickack,
            SocketOption::DeferAccept(_) => OptionName::DeferAccept,
            SocketOption::FastOpen(_) => OptionName::FastOpen,
            SocketOption::ReuseAddress(_) => OptionName::ReuseAddress,
            SocketOption::ReusePort(_) => OptionName::ReusePort,
            SocketOption::V6Only(_) => OptionName::V6Only,
            SocketOption::TypeOfService(_) => OptionName::TypeOfService,
            SocketOption::Congestion(_) => OptionName::Congestion,
            SocketOption::BusyPoll(_) => OptionName::BusyPoll,
            SocketOption::Mark(_) => OptionName::Mark,
            SocketOption::Device(_) => OptionName::Device,
        }
    }

    /// Says why the value is impossible, if it is.
    pub(crate) fn check(&self) -> io::Result<()> {
        match self {
            SocketOption::Keepalive(Some(keepalive)) => keepalive.check(),
            SocketOption::SendBufferBytes(bytes) | SocketOption::RecvBufferBytes(bytes) => {
                self.require(*bytes <= 1 << 30, "at most 2^30 bytes")
            }
            SocketOption::Linger(Some(duration)) => {
                self.require(duration.is_zero(), "a close would block the loop: only zero")
            }
            SocketOption::UserTimeout(duration) => {
                let fits = duration.as_millis() < 1 << 31;
                self.require(fits && is_whole(*duration, MILLI), "whole ms below 2^31")
            }
            SocketOption::DeferAccept(duration) => {
                let fits = duration.as_secs() <= 32_767;
                self.require(fits && is_whole(*duration, SECOND), "whole seconds up to 32,767")
            }
            SocketOption::BusyPoll(duration) => {
                let fits = duration.as_micros() < 1 << 31;
                self.require(fits && is_whole(*duration, MICRO), "whole µs below 2^31")
            }
            SocketOption::FastOpen(conns) => self.require(*conns < 1 << 31, "below 2^31"),
            SocketOption::Congestion(name) | SocketOption::Device(Some(name)) => {
                let fits = (1..=15).contains(&name.len()) && !name.contains('\0');
                self.require(fits, "a name of 1 to 15 bytes")
            }
            _ => Ok(()),
        }
    }

    fn require(&self, holds: bool, what: &str) -> io::Result<()> {
        if holds { Ok(()) } else { Err(invalid(&format!("{self:?}: {what}"))) }
    }
}

const SECOND: u128 = 1_000_000_000;
const MILLI: u128 = 1_000_000;
const MICRO: u128 = 1_000;

fn is_whole(duration: Duration, unit_nanos: u128) -> bool {
    duration.as_nanos() % unit_nanos == 0
}

impl Keepalive {
    fn check(&self) -> io::Result<()> {
        for duration in [self.idle, self.interval] {
            if !(1..=32_767).contains(&duration.as_secs()) || !is_whole(duration, SECOND) {
                return Err(invalid(&format!("{self:?}: whole seconds from 1 to 32,767")));
            }
        }
        if !(1..=127).contains(&self.probes) {
            return Err(invalid(&format!("{self:?}: 1 to 127 probes")));
        }
        Ok(())
    }
}

/// What the kernel knows of a TCP connection (`TCP_INFO`, `tcp(7)`). `None`: this kernel does not
/// tell, or has measured nothing yet.
///
/// # Platform
///
/// Linux; a simulated connection tells what the simulation knows.
///
/// # Examples
///
/// ```
/// use hotloop::{ConnId, Net};
///
/// fn is_lossy(net: &mut Net, conn: ConnId) -> bool {
///     net.tcp_info(conn).is_ok_and(|info| info.total_retransmits > 100)
/// }
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TcpInfo {
    /// The smoothed round-trip time (RFC 6298); zero before the first was measured.
    pub rtt: Duration,
    /// How much it varies (RFC 6298).
    pub rtt_variance: Duration,
    /// The shortest round-trip time that was seen.
    pub min_rtt: Option<Duration>,
    /// When the next retransmission would be.
    pub retransmit_timeout: Duration,
    /// Retransmissions of the segment that is unacknowledged now, in a row.
    pub retransmits: u32,
    /// Segments that were sent again, all in all.
    pub total_retransmits: u32,
    /// Segments that are sent and not acknowledged.
    pub unacked_segments: u32,
    /// Segments that count as lost.
    pub lost_segments: u32,
    /// The congestion window, in segments.
    pub congestion_window_segments: u32,
    /// The largest segment that is sent, in bytes.
    pub segment_max_bytes: u32,
    /// How many bytes per second arrive at the peer, as measured last; `None` before that.
    pub delivery_rate: Option<u64>,
    /// At how many bytes per second the kernel sends; `None` also if it has set itself no bound.
    pub pacing_rate: Option<u64>,
    /// Bytes that were acknowledged, all in all.
    pub acked_bytes: Option<u64>,
    /// Bytes that have arrived, all in all.
    pub arrived_bytes: Option<u64>,
    /// Bytes that the kernel holds and has not sent once.
    pub unsent_bytes: Option<u32>,
}

/// What a backend is asked to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KernelCount {
    /// Bytes that the kernel holds of a connection: unsent, and sent and not acknowledged.
    Unacked,
    /// Bytes that it holds and has not sent once.
    Unsent,
    /// Connections that wait in a listener's backlog.
    Backlog,
}

impl KernelCount {
    /// The error where the system does not tell.
    pub(crate) fn unsupported(self) -> io::Error {
        unsupported(&format!("{self:?} count"))
    }
}

/// The error for something that this system lacks.
pub(crate) fn unsupported(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, format!("{what}: this system has none"))
}

/// Says which of the options that are to be set is impossible, or comes too late.
pub(crate) fn check_all(options: &[SocketOption]) -> io::Result<()> {
    options.iter().try_for_each(|option| match option {
        SocketOption::V6Only(_) => Err(invalid("V6Only: see ListenOptions::v6_only")),
        other => other.check(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_values_are_named() {
        let seconds = Duration::from_secs;
        let keepalive = |idle, interval, probes| {
            SocketOption::Keepalive(Some(Keepalive { idle, interval, probes }))
        };
        let wrong = [
            keepalive(seconds(0), seconds(1), 1),
            keepalive(seconds(1), seconds(32_768), 1),
            keepalive(seconds(1), Duration::from_millis(1500), 1),
            keepalive(seconds(1), seconds(1), 0),
            keepalive(seconds(1), seconds(1), 128),
            SocketOption::SendBufferBytes((1 << 30) + 1),
            SocketOption::Linger(Some(seconds(1))),
            SocketOption::UserTimeout(Duration::from_micros(1)),
            SocketOption::UserTimeout(Duration::from_millis(1 << 31)),
            SocketOption::DeferAccept(Duration::from_millis(1)),
            SocketOption::BusyPoll(Duration::from_nanos(1)),
            SocketOption::Congestion(String::new()),
            SocketOption::Congestion("a".repeat(16)),
            SocketOption::Device(Some("a\0b".to_owned())),
        ];
        for option in wrong {
            let error = option.check().expect_err("out of range");
            assert!(error.to_string().contains(&format!("{:?}", option.name())), "{error}");
        }
        keepalive(seconds(1), seconds(32_767), 127).check().expect("in range");
        SocketOption::Linger(Some(Duration::ZERO)).check().expect("a reset");
        SocketOption::Device(None).check().expect("any");
    }
}
