//! What can be set for each connection and each listener, with defaults and their reasons.

use std::io;
use std::time::Duration;

use crate::socket_option::{SocketOption, check_all};
use crate::time::nanos;

/// A bound that has to be switched off explicitly.
///
/// Every method that takes a limit takes `impl Into<Limit<T>>`: a plain value, or
/// [`Limit::Unlimited`].
///
/// # Examples
///
/// ```
/// use hotloop::{ConnOptions, Limit};
/// use std::time::Duration;
///
/// let options = ConnOptions::default()
///     .idle_timeout(Duration::from_secs(30))
///     .write_stall_timeout(Limit::Unlimited);
/// # let _ = options;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limit<T> {
    /// The largest value that is allowed.
    At(T),
    /// No bound. A peer may then cost as much as it likes.
    Unlimited,
}

impl<T> From<T> for Limit<T> {
    fn from(value: T) -> Limit<T> {
        Limit::At(value)
    }
}

impl Limit<usize> {
    /// The bound as a number that every amount can be compared with.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Limit::At(bytes) => bytes,
            Limit::Unlimited => usize::MAX,
        }
    }
}

impl Limit<Duration> {
    /// The bound in nanoseconds; `u64::MAX` means never.
    pub(crate) fn nanos(self) -> u64 {
        match self {
            Limit::At(duration) => nanos(duration),
            Limit::Unlimited => u64::MAX,
        }
    }
}

/// What happens to a connection whose outbound queue would pass its hard limit.
///
/// # Examples
///
/// ```
/// use hotloop::{Config, ConnOptions, Loop, Sent, SlowConsumer};
///
/// let conn = ConnOptions::default().slow_consumer(SlowConsumer::Refuse);
/// let mut event_loop = Loop::new(Config::default().conn(conn))?;
/// let peer = std::net::TcpListener::bind("127.0.0.1:0")?;
/// let net = event_loop.net();
/// let conn = net.connect(peer.local_addr()?)?;
/// assert_eq!(net.write(conn, &[0; 900_000]), Sent::Pressured);
/// assert_eq!(net.write(conn, &[0; 900_000]), Sent::Refused, "the hard limit is 1 MiB");
/// assert!(net.is_open(conn));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SlowConsumer {
    /// The write is refused and the connection aborted with
    /// [`LimitKind::Outbound`](crate::LimitKind::Outbound): a peer that does not read costs its
    /// own connection and nothing else.
    Close,
    /// The write is refused and the connection stays; `on_writable` follows when the queue has
    /// fallen to the low-water mark (not if that one write is larger than the hard limit by
    /// itself).
    Refuse,
}

/// What can be set for one connection, accepted or made.
///
/// ```
/// use hotloop::{ConnOptions, Limit, SlowConsumer};
/// use std::time::Duration;
///
/// let options = ConnOptions::default()
///     .high_water_bytes(256 << 10)
///     .hard_limit_bytes(4 << 20)
///     .slow_consumer(SlowConsumer::Refuse)
///     .idle_timeout(Duration::from_secs(30))
///     .write_stall_timeout(Limit::Unlimited);
/// # let _ = options;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnOptions {
    pub(crate) nodelay: bool,
    pub(crate) low_water_bytes: usize,
    pub(crate) high_water_bytes: usize,
    pub(crate) hard_limit_bytes: Limit<usize>,
    pub(crate) inbound_max_bytes: Limit<usize>,
    pub(crate) slow_consumer: SlowConsumer,
    pub(crate) idle_timeout: Limit<Duration>,
    pub(crate) write_stall_timeout: Limit<Duration>,
    pub(crate) connect_timeout: Limit<Duration>,
    pub(crate) linger_timeout: Limit<Duration>,
    pub(crate) linger_bytes: Limit<usize>,
    pub(crate) socket: Vec<SocketOption>,
}

impl Default for ConnOptions {
    fn default() -> ConnOptions {
        ConnOptions {
            nodelay: true,
            low_water_bytes: 16 << 10,
            high_water_bytes: 64 << 10,
            hard_limit_bytes: Limit::At(1 << 20),
            inbound_max_bytes: Limit::At(1 << 20),
            slow_consumer: SlowConsumer::Close,
            idle_timeout: Limit::Unlimited,
            write_stall_timeout: Limit::At(Duration::from_secs(60)),
            connect_timeout: Limit::At(Duration::from_secs(10)),
            linger_timeout: Limit::At(Duration::from_secs(5)),
            linger_bytes: Limit::At(1 << 20),
            socket: Vec::new(),
        }
    }
}

impl ConnOptions {
    /// Sets `TCP_NODELAY` (`tcp(7)`). Default: on, because the loop gathers small writes itself,
    /// and Nagle's algorithm would only add a round trip to the last one.
    pub fn nodelay(mut self, on: bool) -> Self {
        self.nodelay = on;
        self
    }

    /// Sets the low-water mark of the outbound queue, in bytes of cost: `on_writable` comes when
    /// the queue has fallen to it. At most the high-water mark. Default: 16 KiB, enough to keep
    /// the socket busy while the handler produces more.
    pub fn low_water_bytes(mut self, bytes: usize) -> Self {
        self.low_water_bytes = bytes;
        self
    }

    /// Sets the high-water mark of the outbound queue, in bytes of cost: a write that leaves the
    /// queue above it answers `Pressured`. At most the hard limit. Default: 64 KiB, about what a
    /// fresh TCP connection has in flight.
    pub fn high_water_bytes(mut self, bytes: usize) -> Self {
        self.high_water_bytes = bytes;
        self
    }

    /// Sets the hard limit of the outbound queue, in bytes of cost: a write that would pass it is
    /// refused. Default: 1 MiB, so that a thousand peers that do not read cost 1 GiB at most.
    pub fn hard_limit_bytes(mut self, limit: impl Into<Limit<usize>>) -> Self {
        self.hard_limit_bytes = limit.into();
        self
    }

    /// Sets how many bytes of input a handler may leave unconsumed; a connection that leaves more
    /// is closed. At least 1. Default: 1 MiB, the largest message most protocols allow.
    pub fn inbound_max_bytes(mut self, limit: impl Into<Limit<usize>>) -> Self {
        self.inbound_max_bytes = limit.into();
        self
    }

    /// Sets what happens to a connection that passes the hard limit. Default:
    /// [`SlowConsumer::Close`], because a refused write that nobody looks at is silent data loss.
    pub fn slow_consumer(mut self, policy: SlowConsumer) -> Self {
        self.slow_consumer = policy;
        self
    }

    /// Sets how long a connection may go without a byte received from the peer or taken by the
    /// kernel. Default: unlimited, because only the protocol knows how long silence is normal.
    pub fn idle_timeout(mut self, limit: impl Into<Limit<Duration>>) -> Self {
        self.idle_timeout = limit.into();
        self
    }

    /// Sets how long queued bytes may make no progress, before a close and during its flush.
    /// Default: 60 s; TCP itself would give a silent peer a quarter of an hour.
    pub fn write_stall_timeout(mut self, limit: impl Into<Limit<Duration>>) -> Self {
        self.write_stall_timeout = limit.into();
        self
    }

    /// Sets how long a connect may take. Default: 10 s, three retransmissions of the SYN.
    pub fn connect_timeout(mut self, limit: impl Into<Limit<Duration>>) -> Self {
        self.connect_timeout = limit.into();
        self
    }

    /// Sets how long a closed connection waits for the peer's FIN, from the moment its own was
    /// sent. Default: 5 s. See [`Net::close`](crate::Net::close) for why it waits.
    pub fn linger_timeout(mut self, limit: impl Into<Limit<Duration>>) -> Self {
        self.linger_timeout = limit.into();
        self
    }

    /// Sets how many bytes a closed connection reads and discards, from the moment its own FIN
    /// was sent, while it waits for the peer's. Default: 1 MiB.
    pub fn linger_bytes(mut self, limit: impl Into<Limit<usize>>) -> Self {
        self.linger_bytes = limit.into();
        self
    }

    /// Adds an option of the socket, which is set before the connect or right after the accept.
    /// Setting it costs one system call per connection; on Linux a connection that is accepted has
    /// most options of its listener, see [`ListenOptions::socket`]. An accepted connection on which
    /// it cannot be set goes on without it, which is logged. Default: none.
    pub fn socket(mut self, option: SocketOption) -> Self {
        self.socket.push(option);
        self
    }

    /// Says which setting contradicts another, if one does.
    pub(crate) fn check(&self) -> io::Result<()> {
        let wrong = if self.low_water_bytes > self.high_water_bytes {
            format!("low_water_bytes {} > high_water_bytes", self.low_water_bytes)
        } else if self.high_water_bytes > self.hard_limit_bytes.bytes() {
            format!("high_water_bytes {} > hard_limit_bytes", self.high_water_bytes)
        } else if self.inbound_max_bytes == Limit::At(0) {
            "inbound_max_bytes 0 leaves no room for a partial message".to_owned()
        } else {
            return check_all(&self.socket);
        };
        Err(invalid(&wrong))
    }
}

/// What can be set for a listener.
///
/// # Examples
///
/// ```
/// use hotloop::{Config, ConnOptions, ListenOptions, Loop};
/// use std::time::Duration;
///
/// let options = ListenOptions::default()
///     .backlog(4096)
///     .conn(ConnOptions::default().idle_timeout(Duration::from_secs(60)));
/// let mut event_loop = Loop::new(Config::default())?;
/// event_loop.net().listen_with("127.0.0.1:0", options)?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenOptions {
    pub(crate) backlog: u32,
    pub(crate) reuse_address: bool,
    pub(crate) reuse_port: bool,
    pub(crate) v6_only: bool,
    pub(crate) socket: Vec<SocketOption>,
    pub(crate) conn: Option<ConnOptions>,
}

impl Default for ListenOptions {
    fn default() -> ListenOptions {
        ListenOptions {
            backlog: 1024,
            reuse_address: true,
            reuse_port: false,
            v6_only: false,
            socket: Vec::new(),
            conn: None,
        }
    }
}

impl ListenOptions {
    /// Sets how many finished handshakes the kernel keeps until they are accepted (`listen(2)`;
    /// the kernel caps it at `net.core.somaxconn`). At least 1. Default: 1024, a second's burst
    /// for a loop that accepts 64 per turn.
    pub fn backlog(mut self, connections: u32) -> Self {
        self.backlog = connections;
        self
    }

    /// Sets `SO_REUSEADDR` (`socket(7)`). Default: on, so that a restarted server can bind while
    /// old connections are in `TIME_WAIT`. Has no effect on Windows, where the option means
    /// something else.
    pub fn reuse_address(mut self, on: bool) -> Self {
        self.reuse_address = on;
        self
    }

    /// Sets `SO_REUSEPORT` (`socket(7)`), with which several loops listen on one port and the
    /// kernel spreads the connections. Default: off, because it hides a port that is taken.
    pub fn reuse_port(mut self, on: bool) -> Self {
        self.reuse_port = on;
        self
    }

    /// Sets `IPV6_V6ONLY` (`ipv6(7)`) for an IPv6 listener. Default: off, so that `[::]` serves
    /// IPv4 too, on every platform.
    pub fn v6_only(mut self, on: bool) -> Self {
        self.v6_only = on;
        self
    }

    /// Adds an option of the listening socket, which is set before it is bound. On Linux the
    /// connections that are accepted have it too, except for `DeferAccept`, `FastOpen` and
    /// `Quickack`. Default: none.
    pub fn socket(mut self, option: SocketOption) -> Self {
        self.socket.push(option);
        self
    }

    /// Sets the options of the connections that this listener accepts. Default: those of
    /// [`Config::conn`](crate::Config::conn).
    pub fn conn(mut self, options: ConnOptions) -> Self {
        self.conn = Some(options);
        self
    }

    /// Says which setting is impossible, if one is.
    pub(crate) fn check(&self) -> io::Result<()> {
        if self.backlog == 0 {
            return Err(invalid("backlog 0 would refuse every connection"));
        }
        check_all(&self.socket)?;
        self.conn.as_ref().map_or(Ok(()), ConnOptions::check)
    }
}

/// An error for a setting that cannot be.
pub(crate) fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_consistent() {
        ConnOptions::default().check().expect("consistent");
        ListenOptions::default().check().expect("consistent");
    }

    #[test]
    fn marks_out_of_order_are_named() {
        let low = ConnOptions::default().low_water_bytes(65 << 10).check().expect_err("low > high");
        assert!(low.to_string().contains("low_water_bytes"), "{low}");
        let high = ConnOptions::default().hard_limit_bytes(1000).check().expect_err("high > hard");
        assert!(high.to_string().contains("high_water_bytes"), "{high}");
        let options = ListenOptions::default().conn(ConnOptions::default().inbound_max_bytes(0));
        assert!(options.check().is_err());
    }
}
