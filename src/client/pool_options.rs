//! What can be set for a pool.

use std::time::Duration;

use crate::client::Backoff;
use crate::options::{ConnOptions, Limit};

/// What can be set for a [`Pool`](crate::client::Pool).
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use hotloop::client::{Pool, PoolOptions};
///
/// let options = PoolOptions::default()
///     .conns_max(4)
///     .idle_timeout(Duration::from_secs(10))
///     .age_max(Duration::from_secs(600));
/// let pool = Pool::<u64>::new("127.0.0.1:6379", options)?;
/// assert_eq!((pool.conns(), pool.idle(), pool.waiters()), (0, 0, 0));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolOptions {
    pub(super) conns_max: usize,
    pub(super) idle_max: usize,
    pub(super) waiters_max: usize,
    pub(super) idle_timeout: Limit<Duration>,
    pub(super) age_max: Limit<Duration>,
    pub(super) conn: Option<ConnOptions>,
    pub(super) backoff: Backoff,
}

impl Default for PoolOptions {
    fn default() -> PoolOptions {
        PoolOptions {
            conns_max: 16,
            idle_max: usize::MAX,
            waiters_max: 1024,
            idle_timeout: Limit::At(Duration::from_secs(30)),
            age_max: Limit::Unlimited,
            conn: None,
            backoff: Backoff::default(),
        }
    }
}

impl PoolOptions {
    /// Sets how many connections there are at most, those that are connecting or closing included;
    /// at least 1. Default: 16, as many as one server usually answers at the same time.
    pub fn conns_max(mut self, conns: usize) -> Self {
        self.conns_max = conns;
        self
    }

    /// Sets how many of them are kept while nobody uses them. Default: all.
    pub fn idle_max(mut self, conns: usize) -> Self {
        self.idle_max = conns;
        self
    }

    /// Sets how many requests may wait for a connection, at least 1: a connection is begun for one
    /// that waits. More are refused. Default: 1024, so that a server that is away does not collect
    /// requests without end.
    pub fn waiters_max(mut self, waiters: usize) -> Self {
        self.waiters_max = waiters;
        self
    }

    /// Sets how long a connection is kept while nobody uses it. Default: 30 s, below what most
    /// servers and middleboxes allow.
    pub fn idle_timeout(mut self, limit: impl Into<Limit<Duration>>) -> Self {
        self.idle_timeout = limit.into();
        self
    }

    /// Sets how old a connection may get; one that is older is closed when its user gives it
    /// back. Default: unlimited; set it where servers behind one address come and go.
    pub fn age_max(mut self, limit: impl Into<Limit<Duration>>) -> Self {
        self.age_max = limit.into();
        self
    }

    /// Sets the options of its connections. Default: those of the loop.
    pub fn conn(mut self, options: ConnOptions) -> Self {
        self.conn = Some(options);
        self
    }

    /// Sets the delays between connects once one has failed. Default: [`Backoff::default`].
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }
}
