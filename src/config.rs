//! What can be set for a whole loop, with defaults and their reasons.

use std::io;

use crate::chaos::Chaos;
use crate::options::{ConnOptions, Limit, invalid};

/// Which implementation of the system the loop runs on.
///
/// # Examples
///
/// ```
/// use hotloop::{BackendKind, Config, Loop};
///
/// let event_loop = Loop::new(Config::default().backend(BackendKind::Portable))?;
/// # drop(event_loop);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum BackendKind {
    /// The one that the environment variable `HOTLOOP_BACKEND` names (`auto`, `epoll`,
    /// `portable`), and without it the best one there is: epoll on Linux, elsewhere the portable
    /// one.
    #[default]
    Auto,
    /// Linux epoll, edge-triggered (`epoll(7)`). Elsewhere no loop can be had
    /// with it ([`io::ErrorKind::Unsupported`]).
    Epoll,
    /// What the crate `polling` finds: epoll, kqueue, event ports, IOCP or `poll(2)`. On Linux it
    /// makes five system calls per wait where [`Epoll`](BackendKind::Epoll) makes one, and is
    /// there so that what is meant for other systems can be tried.
    ///
    /// It waits for edges where the system has them, otherwise for levels or single shots; the
    /// environment variable `HOTLOOP_PORTABLE_MODE` (`edge`, `level`, `oneshot`, `edge-oneshot`)
    /// forces one, or [`Loop::new`](crate::Loop::new) fails.
    ///
    /// # Platform
    ///
    /// On event ports and `poll(2)`, which have no edges and report it again and again that both
    /// sides have sent their FIN, a paused connection learns of a reset behind them only when it is
    /// resumed. A [`Waker`](crate::Waker) holds the poller: on Linux three descriptors, as long as
    /// it lives.
    Portable,
}

/// What can be set for a loop.
///
/// ```
/// use hotloop::{Config, ConnOptions};
///
/// let config = Config::default()
///     .max_connections(10_000)
///     .conn(ConnOptions::default().high_water_bytes(128 << 10));
/// # let _ = config;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub(crate) backend: BackendKind,
    pub(crate) portable_mode: Option<&'static str>,
    pub(crate) chaos: Option<Chaos>,
    pub(crate) recv_buffer_bytes: usize,
    pub(crate) read_budget_bytes: usize,
    pub(crate) read_budget_calls: u32,
    pub(crate) write_budget_bytes: usize,
    pub(crate) accept_budget: u32,
    pub(crate) max_connections: Option<Limit<usize>>,
    pub(crate) global_buffer_bytes: Limit<usize>,
    pub(crate) pool_max_bytes: usize,
    pub(crate) conn: ConnOptions,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            backend: BackendKind::Auto,
            portable_mode: None,
            chaos: None,
            recv_buffer_bytes: 64 << 10,
            read_budget_bytes: 128 << 10,
            read_budget_calls: 16,
            write_budget_bytes: 1 << 20,
            accept_budget: 64,
            max_connections: None,
            global_buffer_bytes: Limit::At(256 << 20),
            pool_max_bytes: 16 << 20,
            conn: ConnOptions::default(),
        }
    }
}

impl Config {
    /// Sets the backend. Default: [`BackendKind::Auto`].
    pub fn backend(mut self, kind: BackendKind) -> Self {
        self.backend = kind;
        self
    }

    /// Forces a mode of the portable backend, by the name it has in `HOTLOOP_PORTABLE_MODE`. For
    /// hotloop's own tests; not part of the public API.
    #[doc(hidden)]
    pub fn portable_mode(mut self, name: &'static str) -> Self {
        self.portable_mode = Some(name);
        self
    }

    /// Has the loop make faults on its own sockets, for tests and staging. Default: those that the
    /// environment variable `HOTLOOP_CHAOS` asks for, and without it none.
    pub fn chaos(mut self, chaos: Chaos) -> Self {
        self.chaos = Some(chaos);
        self
    }

    /// Sets the size of the one receive buffer that all connections share, in bytes, 512 to 2^30.
    /// Default: 64 KiB, which serves messages; 256 KiB is about 9 % cheaper for bulk transfers.
    pub fn recv_buffer_bytes(mut self, bytes: usize) -> Self {
        self.recv_buffer_bytes = bytes;
        self
    }

    /// Sets how many bytes one connection may read per turn, at least 1. Default: 128 KiB, so
    /// that a flooding connection delays the others by some 30 µs a turn.
    pub fn read_budget_bytes(mut self, bytes: usize) -> Self {
        self.read_budget_bytes = bytes;
        self
    }

    /// Sets how many receive calls one connection may make per turn, at least 1. Default: 16, so
    /// that a stream of tiny segments is bounded too.
    pub fn read_budget_calls(mut self, calls: u32) -> Self {
        self.read_budget_calls = calls;
        self
    }

    /// Sets how many bytes one flush of one connection may hand to the kernel, at least 1.
    /// Default: 1 MiB, so that a peer which reads as fast as the loop writes does not hold it.
    pub fn write_budget_bytes(mut self, bytes: usize) -> Self {
        self.write_budget_bytes = bytes;
        self
    }

    /// Sets how many connections one listener may accept per turn, at least 1. Default: 64, about
    /// a millisecond's work.
    pub fn accept_budget(mut self, connections: u32) -> Self {
        self.accept_budget = connections;
        self
    }

    /// Sets how many connections the loop holds at the same time, incoming and outgoing. Default:
    /// the process's limit of open descriptors less 64, which leaves the program its own files.
    pub fn max_connections(mut self, limit: impl Into<Limit<usize>>) -> Self {
        self.max_connections = Some(limit.into());
        self
    }

    /// Sets how many bytes of queued output (as cost) and kept input all connections together may
    /// hold. Above seven eighths of it writes are refused, whatever the slow-consumer policy; the
    /// last eighth is for input, and a connection that would keep more than that is closed with
    /// [`LimitKind::Buffers`](crate::LimitKind::Buffers). Default: 256 MiB.
    pub fn global_buffer_bytes(mut self, limit: impl Into<Limit<usize>>) -> Self {
        self.global_buffer_bytes = limit.into();
        self
    }

    /// Sets how many bytes of free buffers the loop keeps for reuse. Default: 16 MiB, enough for
    /// 4,000 connections that are written to in one turn; what a larger burst took goes back to
    /// the allocator.
    pub fn pool_max_bytes(mut self, bytes: usize) -> Self {
        self.pool_max_bytes = bytes;
        self
    }

    /// Sets the options of connections that are given none of their own.
    pub fn conn(mut self, options: ConnOptions) -> Self {
        self.conn = options;
        self
    }

    /// Says which setting is impossible, if one is.
    pub(crate) fn check(&self) -> io::Result<()> {
        let zero = [
            (self.read_budget_bytes, "read_budget_bytes"),
            (self.read_budget_calls as usize, "read_budget_calls"),
            (self.write_budget_bytes, "write_budget_bytes"),
            (self.accept_budget as usize, "accept_budget"),
        ];
        if let Some((_, name)) = zero.iter().find(|(value, _)| *value == 0) {
            return Err(invalid(&format!("{name} 0 would stop the loop")));
        }
        if !(512..=1 << 30).contains(&self.recv_buffer_bytes) {
            let bytes = self.recv_buffer_bytes;
            return Err(invalid(&format!("recv_buffer_bytes {bytes} is not within 512 to 2^30")));
        }
        self.conn.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_of_zero_is_named() {
        let error = Config::default().accept_budget(0).check().expect_err("0");
        assert!(error.to_string().contains("accept_budget"), "{error}");
    }

    #[test]
    fn a_receive_buffer_out_of_range_is_named() {
        for bytes in [0, 511, (1 << 30) + 1] {
            let error = Config::default().recv_buffer_bytes(bytes).check().expect_err("range");
            assert!(error.to_string().contains("recv_buffer_bytes"), "{error}");
        }
        Config::default().recv_buffer_bytes(512).check().expect("512 is allowed");
    }
}
