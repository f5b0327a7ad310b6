//! What can be set for a simulated host and a simulated link.

use std::time::Duration;

use crate::config::Config;

use crate::fault::Faults;
use crate::random::Chance;

/// How a simulated kernel speaks to the loop.
///
/// # Examples
///
/// ```
/// use hotloop::sim::{Dialect, NodeOptions};
///
/// for dialect in [Dialect::Readiness, Dialect::Completion] {
///     let options = NodeOptions::default().dialect(dialect);
///     // … the same test on both
///     # let _ = options;
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Dialect {
    /// As epoll does: edges say that a call may succeed; sends and closes are done when they
    /// return.
    #[default]
    Readiness,
    /// As io_uring does: bytes have arrived in buffers that are lent; sends and closes are done
    /// when an event says so.
    Completion,
}

/// What can be set for a simulated host with a loop.
///
/// # Examples
///
/// ```
/// use hotloop::Config;
/// use hotloop::sim::{Faults, NodeOptions};
/// use std::time::Duration;
///
/// let options = NodeOptions::default()
///     .config(Config::default().max_connections(100))
///     .faults(Faults::mild())
///     .send_buffer_bytes(700)
///     .turn_cost(Duration::from_micros(20), Duration::from_millis(1));
/// # let _ = options;
/// ```
#[derive(Debug, Clone)]
pub struct NodeOptions {
    pub(crate) config: Config,
    pub(crate) dialect: Dialect,
    pub(crate) faults: Faults,
    pub(crate) send_buffer_bytes: usize,
    pub(crate) recv_buffer_bytes: usize,
    pub(crate) descriptors_max: usize,
    pub(crate) turn_cost: Duration,
    pub(crate) turn_jitter: Duration,
}

impl Default for NodeOptions {
    fn default() -> NodeOptions {
        NodeOptions {
            config: Config::default(),
            dialect: Dialect::Readiness,
            faults: Faults::none(),
            send_buffer_bytes: 64 << 10,
            recv_buffer_bytes: 64 << 10,
            descriptors_max: 20_000,
            turn_cost: Duration::from_micros(1),
            turn_jitter: Duration::ZERO,
        }
    }
}

impl NodeOptions {
    /// Sets the configuration of the loop; its backend is not looked at. Default:
    /// [`Config::default`].
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Sets how the kernel speaks to the loop. Default: [`Dialect::Readiness`].
    pub fn dialect(mut self, dialect: Dialect) -> Self {
        self.dialect = dialect;
        self
    }

    /// Sets the faults of the host. Default: [`Faults::none`].
    pub fn faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// Sets how many bytes a socket holds that the peer has not acknowledged. Default: 64 KiB.
    ///
    /// # Panics
    ///
    /// If it is 0.
    pub fn send_buffer_bytes(mut self, bytes: usize) -> Self {
        assert!(bytes > 0, "send_buffer_bytes 0 could send nothing");
        self.send_buffer_bytes = bytes;
        self
    }

    /// Sets how many bytes a socket holds that were not received yet; with no room left the
    /// peer's window is closed. Default: 64 KiB.
    ///
    /// # Panics
    ///
    /// If it is 0.
    pub fn recv_buffer_bytes(mut self, bytes: usize) -> Self {
        assert!(bytes > 0, "recv_buffer_bytes 0 could receive nothing");
        self.recv_buffer_bytes = bytes;
        self
    }

    /// Sets how many descriptors the process may have open, listeners included; beyond that
    /// accepts and connects answer `EMFILE`. The loop leaves 64 of them to the program, unless
    /// [`Config::max_connections`] says otherwise. Default: 20,000.
    ///
    /// # Panics
    ///
    /// If it is 0.
    pub fn descriptors_max(mut self, descriptors: usize) -> Self {
        assert!(descriptors > 0, "descriptors_max 0 could open nothing");
        self.descriptors_max = descriptors;
        self
    }

    /// Sets how long a turn keeps the host's one core busy: `cost`, and up to `jitter` more.
    /// Default: 1 µs and none. An [attached](crate::sim::World::attach) loop's turns cost nothing.
    ///
    /// # Panics
    ///
    /// If the cost is zero: then no virtual time would pass for a loop that never sleeps.
    pub fn turn_cost(mut self, cost: Duration, jitter: Duration) -> Self {
        assert!(!cost.is_zero(), "turn_cost 0 would let time stand still");
        self.turn_cost = cost;
        self.turn_jitter = jitter;
        self
    }
}

/// One direction of the way between two hosts.
///
/// What TCP makes of the packets is simulated as a whole: none is lost for good, none overtakes
/// another of its connection; they come late.
///
/// # Examples
///
/// ```
/// use hotloop::sim::Link;
/// use std::time::Duration;
///
/// let link = Link::wifi()
///     .latency(Duration::from_millis(40))
///     .jitter(Duration::from_millis(20))
///     .bandwidth(1 << 20)
///     .loss(0.01)
///     .segment_max_bytes(1_460);
/// # let _ = link;
/// ```
#[derive(Debug, Clone)]
pub struct Link {
    pub(super) latency: Duration,
    pub(super) jitter: Duration,
    /// Nanoseconds per 1,024 bytes; 0: no bound.
    pub(super) nanos_per_kib: u64,
    pub(super) loss: Chance,
    pub(super) refuse: Chance,
    pub(super) swallow: Chance,
    pub(super) segment_max_bytes: usize,
    pub(super) give_up: Duration,
}

impl Link {
    fn of(latency: Duration, jitter: Duration) -> Link {
        Link {
            latency,
            jitter,
            nanos_per_kib: 0,
            loss: Chance::NEVER,
            refuse: Chance::NEVER,
            swallow: Chance::NEVER,
            segment_max_bytes: 64 << 10,
            give_up: Duration::from_secs(15 * 60),
        }
    }

    /// Nothing takes any time.
    pub fn instant() -> Link {
        Link::of(Duration::ZERO, Duration::ZERO)
    }

    /// A local network, the default: 100 µs, jitter 20 µs.
    pub fn lan() -> Link {
        Link::of(Duration::from_micros(100), Duration::from_micros(20))
    }

    /// A wireless network: 3 ms, jitter 5 ms, 1 % loss.
    pub fn wifi() -> Link {
        Link::of(Duration::from_millis(3), Duration::from_millis(5)).loss(0.01)
    }

    /// A telephone on the move: 60 ms, jitter 40 ms, 2 % loss, 10 Mbit/s.
    pub fn mobile() -> Link {
        Link::of(Duration::from_millis(60), Duration::from_millis(40))
            .loss(0.02)
            .bandwidth(1_250_000)
            .segment_max_bytes(1448)
    }

    /// The other side of the world: 90 ms, jitter 2 ms, 0.1 % loss.
    pub fn intercontinental() -> Link {
        Link::of(Duration::from_millis(90), Duration::from_millis(2)).loss(0.001)
    }

    /// Sets how long every packet takes.
    pub fn latency(mut self, latency: Duration) -> Link {
        self.latency = latency;
        self
    }

    /// Sets how much longer than the latency a packet takes at most.
    pub fn jitter(mut self, jitter: Duration) -> Link {
        self.jitter = jitter;
        self
    }

    /// Sets how many bytes per second go through, those of all connections together.
    ///
    /// # Panics
    ///
    /// If it is 0: that is a partition.
    pub fn bandwidth(mut self, bytes_per_second: u64) -> Link {
        assert!(bytes_per_second > 0, "bandwidth 0 lets nothing through: use World::partition");
        self.nanos_per_kib = (1024 * 1_000_000_000 / bytes_per_second).max(1);
        self
    }

    /// Sets how likely a packet is lost: it comes when TCP has sent it again, 200 ms later, or
    /// 600 if that one is lost, too … So is a SYN; see [`swallow`](Link::swallow) for one that
    /// takes a second.
    ///
    /// # Panics
    ///
    /// If it is not within 0 to 1.
    pub fn loss(mut self, probability: f64) -> Link {
        self.loss = Chance::new(probability, "loss");
        self
    }

    /// Sets how likely a SYN is answered with a RST.
    ///
    /// # Panics
    ///
    /// If it is not within 0 to 1.
    pub fn refuse(mut self, probability: f64) -> Link {
        self.refuse = Chance::new(probability, "refuse");
        self
    }

    /// Sets how likely a SYN vanishes; it is sent again after 1, 3, 7, 15 … seconds, six times. 1
    /// makes a black hole of the way.
    ///
    /// # Panics
    ///
    /// If it is not within 0 to 1.
    pub fn swallow(mut self, probability: f64) -> Link {
        self.swallow = Chance::new(probability, "swallow");
        self
    }

    /// Sets how many bytes a packet has at most; how many it has is drawn. Default: 64 KiB.
    ///
    /// # Panics
    ///
    /// If it is 0.
    pub fn segment_max_bytes(mut self, bytes: usize) -> Link {
        assert!(bytes > 0, "segment_max_bytes 0 lets nothing through");
        self.segment_max_bytes = bytes;
        self
    }

    /// Sets after which time without an acknowledgement a connection is given up with
    /// `ETIMEDOUT` (`tcp(7)`, `tcp_retries2`). Default: 15 minutes.
    pub fn give_up(mut self, after: Duration) -> Link {
        self.give_up = after;
        self
    }
}

impl Default for Link {
    fn default() -> Link {
        Link::lan()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "bandwidth 0")]
    fn no_bandwidth_is_named() {
        let _ = Link::lan().bandwidth(0);
    }

    #[test]
    #[should_panic(expected = "recv_buffer_bytes 0")]
    fn no_buffer_is_named() {
        let _ = NodeOptions::default().recv_buffer_bytes(0);
    }

    #[test]
    #[should_panic(expected = "turn_cost 0")]
    fn a_free_turn_is_named() {
        let _ = NodeOptions::default().turn_cost(Duration::ZERO, Duration::ZERO);
    }
}
