//! What a callback may do: everything but running the loop.
//!
//! `Net` holds all records and the backend. It never calls the handler (contract C3): what a call
//! causes is put on a list, and the turn delivers it.

mod close;
mod fold;
mod hand_over;
mod mailbox;
mod open;
mod read;
mod run_list;
mod socket_options;
#[cfg(test)]
mod tests;
mod timers;
mod warnings;
mod write;

pub(crate) use fold::Next;
pub(crate) use open::Accepted;
pub(crate) use read::ReadBudget;
use run_list::RunList;
pub use socket_options::SocketId;
use timers::IdleOptions;
use warnings::Warnings;
pub use write::Sent;
use write::Starved;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::{Backend, Sock};
use crate::config::Config;
use crate::conn::Conn;
use crate::conn::inbound::KeptPool;
use crate::fault::FaultCounts;
use crate::id::{ConnId, Key, Kind, ListenerId, Slots};
use crate::listener::Listener;
use crate::mailbox::Mailboxes;
use crate::options::ConnOptions;
use crate::segment::Segments;
use crate::stats::{ConnStats, LoopStats};
use crate::time::Time;
use crate::timer::Timers;
use crate::wake::{Waker, Wakes};

/// What a callback may do.
///
/// A `Net` belongs to a [`Loop`](crate::Loop), which lends it to every callback;
/// [`Loop::net`](crate::Loop::net) lends it between turns.
///
/// # Re-entrancy
///
/// Every method may be called in every callback, with any id: an id that is stale or closing gets
/// an answer that says so. No method calls the handler.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use hotloop::{Config, Loop};
///
/// let mut event_loop = Loop::new(Config::default())?;
/// let net = event_loop.net();
/// let listener = net.listen("127.0.0.1:0")?;
/// let addr = net.listener_addr(listener).expect("it is open");
/// let conn = net.connect(addr)?;
/// assert!(net.write(conn, b"sent once it is connected").is_taken());
/// net.start_timer(Duration::from_secs(1), 7);
/// let stats = net.stats();
/// assert_eq!((stats.connections, stats.listeners, stats.timers), (1, 1, 2), "its timeout is one");
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Net {
    pub(crate) backend: Box<dyn Backend>,
    pub(crate) conns: Slots<Conn>,
    pub(crate) listeners: Slots<Listener>,
    pub(crate) timers: Timers,
    pub(crate) segments: Segments,
    pub(crate) kept_pool: KeptPool,
    /// Connections and listeners with work that needs no new event, in the order they are served.
    pub(crate) run: RunList,
    /// Connections that have ended and whose `on_close` is due.
    pub(crate) closings: VecDeque<ConnId>,
    /// Connections that were written to outside their own service.
    pub(crate) dirty: Vec<ConnId>,
    /// Connections with a write that was refused because the loop's buffers were full.
    starved: VecDeque<Starved>,
    /// Connections whose deadline timer fired in this turn: looked at behind the run list, because
    /// what would have moved the deadline may be among the events.
    pub(crate) expired: Vec<ConnId>,
    /// The connection or listener that is being served.
    pub(crate) serving: Option<Key>,
    /// The connection whose callback is running, or was when it panicked.
    pub(crate) calling: Option<ConnId>,
    pub(crate) config: Config,
    default_options: Arc<ConnOptions>,
    idle_options: IdleOptions,
    /// How much all connections together may hold.
    global_limit: usize,
    /// How far of that writes may go: the rest is for input, so that peers that do not read cannot
    /// have the connections of others closed for want of room.
    write_limit: usize,
    connections_max: usize,
    /// Cost of all queued output and all kept input.
    buffered_bytes: usize,
    paused_listeners: usize,
    pub(crate) wakes: Arc<Wakes>,
    mailboxes: Mailboxes,
    pub(crate) now: Time,
    /// The backend's signal was raised, and `on_wake` was not called since.
    pub(crate) woken: bool,
    /// `on_wake` is running, or was when it panicked.
    pub(crate) waking: bool,
    pub(crate) again: bool,
    pub(crate) stop: bool,
    /// Nothing new is opened: the loop is closing all.
    pub(crate) refusing: bool,
    pub(crate) callbacks: u64,
    pub(crate) stats: LoopStats,
    /// Time spent in waits that could block.
    pub(crate) asleep_nanos: u64,
    warnings: Warnings,
}

impl Net {
    pub(crate) fn new(config: Config, mut backend: Box<dyn Backend>) -> Net {
        let connections_max = match config.max_connections {
            Some(limit) => limit.bytes(),
            None => backend.connections_max(),
        };
        let global_limit = config.global_buffer_bytes.bytes();
        let now = backend.now();
        let mut segments = Segments::new(config.pool_max_bytes);
        if backend.holds_sends() {
            segments.stage = None;
        }
        Net {
            wakes: Wakes::new(backend.signal()),
            mailboxes: Mailboxes::default(),
            backend,
            conns: Slots::new(Kind::Conn),
            listeners: Slots::new(Kind::Listener),
            timers: Timers::new(),
            segments,
            kept_pool: KeptPool::new(config.pool_max_bytes),
            run: RunList::default(),
            closings: VecDeque::new(),
            dirty: Vec::new(),
            starved: VecDeque::new(),
            expired: Vec::new(),
            serving: None,
            calling: None,
            default_options: Arc::new(config.conn.clone()),
            idle_options: IdleOptions::default(),
            global_limit,
            write_limit: global_limit - global_limit / 8,
            config,
            connections_max,
            buffered_bytes: 0,
            paused_listeners: 0,
            now,
            woken: false,
            waking: false,
            again: false,
            stop: false,
            refusing: false,
            callbacks: 0,
            stats: LoopStats::default(),
            asleep_nanos: 0,
            warnings: Warnings::default(),
        }
    }

    /// Returns the loop's clock: read once per turn, after the wait; also before a wait that
    /// may block, and when [`Loop::net`](crate::Loop::net) is called between turns.
    pub fn now(&self) -> Time {
        self.now
    }

    /// Reads the clock again, for a callback that has taken long and starts timers afterwards.
    /// Returns the new time. One clock read.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use hotloop::{Net, TimerId};
    /// fn after_long_work(net: &mut Net) -> TimerId {
    ///     let began = net.now();
    ///     // … something that takes its time
    ///     let took = net.refresh_now().since(began);
    ///     println!("it took {took:?}");
    ///     net.start_timer(Duration::from_millis(5), 0)
    /// }
    /// ```
    pub fn refresh_now(&mut self) -> Time {
        self.now = self.now.max(self.backend.now());
        self.now
    }

    /// Makes the next wait not wait: the next turn begins at once.
    ///
    /// # Examples
    ///
    /// For work that is done piece by piece, so that connections are served in between:
    ///
    /// ```
    /// # use hotloop::{ConnId, Handler, Net};
    /// struct Indexer {
    ///     left: Vec<u64>,
    /// }
    ///
    /// impl Handler for Indexer {
    ///     fn on_turn_end(&mut self, net: &mut Net) {
    ///         if let Some(_piece) = self.left.pop() {
    ///             // … a millisecond's work
    ///             net.again();
    ///         }
    ///     }
    ///     # fn on_data(&mut self, _: &mut Net, _: ConnId, data: &[u8]) -> usize { data.len() }
    /// }
    /// ```
    pub fn again(&mut self) {
        self.again = true;
    }

    /// Makes [`Loop::run`](crate::Loop::run) return at the end of this turn. Closes nothing: the
    /// loop can be run again.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hotloop::{ConnId, Handler, Net, TimerId};
    /// # struct Server;
    /// impl Handler for Server {
    ///     fn on_timer(&mut self, net: &mut Net, _: TimerId, _: u64) {
    ///         net.stop();
    ///     }
    ///     # fn on_data(&mut self, _: &mut Net, _: ConnId, data: &[u8]) -> usize { data.len() }
    /// }
    ///
    /// # let mut event_loop = hotloop::Loop::new(hotloop::Config::default())?;
    /// event_loop.net().listen("127.0.0.1:0")?;
    /// event_loop.net().start_timer(std::time::Duration::ZERO, 0);
    /// event_loop.run(&mut Server)?;
    /// assert_eq!(event_loop.net().stats().listeners, 1, "nothing was closed");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn stop(&mut self) {
        self.stop = true;
    }

    /// Returns a handle with which other threads wake this loop. Its existence keeps
    /// [`Loop::run`](crate::Loop::run) from returning.
    pub fn waker(&self) -> Waker {
        self.wakes.waker()
    }

    /// Returns whether a connection is there and may still be closed: not stale, not closing.
    pub fn is_open(&self, conn: ConnId) -> bool {
        use crate::conn::Phase::{Connecting, Open};
        self.conns.get(conn.0).is_some_and(|conn| matches!(conn.phase, Connecting | Open))
    }

    /// Returns the peer's address; `None` if the id is stale.
    pub fn peer_addr(&self, conn: ConnId) -> Option<SocketAddr> {
        self.conns.get(conn.0).map(|conn| conn.addrs.peer())
    }

    /// Returns the connection's address on this side; `None` if the id is stale or the connect
    /// is not done. May cost one system call, the first time.
    pub fn local_addr(&mut self, conn: ConnId) -> Option<SocketAddr> {
        use crate::conn::{Flags, Phase};
        let conn = self.conns.get_mut(conn.0)?;
        let known = conn.phase == Phase::Connecting || conn.flags.any(Flags::SOCK_CLOSING);
        if !known {
            close::learn_local(conn, &mut *self.backend);
        }
        conn.addrs.local()
    }

    /// Returns the bytes that were accepted by writes and not yet taken by the kernel; 0 if the
    /// id is stale.
    pub fn queued_bytes(&self, conn: ConnId) -> usize {
        self.conns.get(conn.0).map_or(0, |conn| conn.outbound.bytes())
    }

    /// Returns [`queued_bytes`](Net::queued_bytes) and the overhead of the queue: 128 bytes per
    /// segment, and the room in a chunk that a shared segment closed off. This is what limits and
    /// marks compare.
    pub fn queued_cost(&self, conn: ConnId) -> usize {
        self.conns.get(conn.0).map_or(0, |conn| conn.outbound.cost())
    }

    /// Returns what a connection has done; `None` if the id is stale.
    pub fn conn_stats(&self, conn: ConnId) -> Option<ConnStats> {
        self.conns.get(conn.0).map(|conn| ConnStats {
            received_bytes: conn.received_bytes,
            receives: conn.receives,
            accepted_bytes: conn.accepted_bytes,
            sent_bytes: conn.sent_bytes,
            sends: conn.sends,
            dropped_bytes: conn.dropped_bytes(),
            queued_bytes: conn.outbound.bytes(),
            queued_cost: conn.outbound.cost(),
            queued_cost_max: conn.tally.queued_cost_max(),
            pressures: conn.tally.pressures(),
            refused_writes: conn.tally.refused_writes(),
            pauses: conn.tally.pauses(),
            kept_bytes: conn.kept.as_ref().map_or(0, |kept| kept.len()),
            age: conn.tally.age(self.now),
            idle: self.now.since(conn.active_at),
        })
    }

    /// Returns how often each fault was made by [`Chaos`](crate::Chaos); without it, and on a
    /// simulated world, whose [`Report`](crate::sim::Report) counts, there are none.
    pub fn fault_counts(&self) -> FaultCounts {
        self.backend.fault_counts()
    }

    /// Returns what the loop has done and what it holds.
    pub fn stats(&self) -> LoopStats {
        LoopStats {
            asleep: Duration::from_nanos(self.asleep_nanos),
            buffered_bytes: self.buffered_bytes as u64,
            connections: self.conns.len(),
            listeners: self.listeners.len(),
            paused_listeners: self.paused_listeners,
            timers: self.timers.len(),
            pooled_bytes: self.segments.pooled_bytes() + self.kept_pool.free_bytes(),
            ..self.stats
        }
    }

    /// Returns the ids of all connections, those that are closing included, in slot order.
    ///
    /// # Examples
    ///
    /// ```
    /// use hotloop::Net;
    ///
    /// fn close_silent_ones(net: &mut Net, seconds: u64) {
    ///     let silent = |net: &Net, conn| {
    ///         net.conn_stats(conn).is_some_and(|stats| stats.idle.as_secs() >= seconds)
    ///     };
    ///     for conn in net.conns().collect::<Vec<_>>() {
    ///         if silent(net, conn) {
    ///             net.close(conn);
    ///         }
    ///     }
    /// }
    /// ```
    pub fn conns(&self) -> impl Iterator<Item = ConnId> + '_ {
        self.conns.keys().map(ConnId)
    }

    /// Returns the address a listener is bound to; `None` if the id is stale.
    pub fn listener_addr(&self, listener: ListenerId) -> Option<SocketAddr> {
        self.listeners.get(listener.0).map(|listener| listener.local)
    }

    /// Returns whether there is anything that could still call the handler.
    pub(crate) fn is_alive(&self) -> bool {
        !self.conns.is_empty()
            || !self.listeners.is_empty()
            || !self.timers.is_empty()
            || self.waking
            || self.wakes.in_use()
    }

    /// Returns whether there is work for a turn without any wait.
    pub(crate) fn has_work(&self) -> bool {
        !self.run.is_empty()
            || !self.closings.is_empty()
            || !self.dirty.is_empty()
            || !self.expired.is_empty()
            || self.woken
            || self.waking
            || self.again
            || self.stop
    }

    /// Returns when the next turn has something to do; `None`: only an event can say.
    pub(crate) fn next_deadline(&self) -> Option<Time> {
        if self.has_work() { Some(self.now) } else { self.timers.next_deadline() }
    }

    /// Returns until when the next turn waits for events; `None`: until there is one.
    pub(crate) fn wait_until(&mut self, max_wait: Duration) -> Option<Time> {
        if max_wait.is_zero() || self.has_work() {
            return Some(self.now);
        }
        // The callbacks since the last reading have taken time, by which a wait that is counted
        // from it would be too long, and which is not time asleep.
        let latest = self.refresh_now() + max_wait;
        let due = self.timers.next_deadline();
        if due.is_none() && max_wait == Duration::MAX {
            return None;
        }
        Some(due.map_or(latest, |due| due.min(latest)))
    }

    /// Counts a wait that began at `began` and was to end at `deadline`; one that could not block
    /// is no sleep. `empty`: it reported nothing.
    #[inline]
    pub(crate) fn count_wait(&mut self, began: Time, deadline: Option<Time>, empty: bool) {
        self.stats.turns += 1;
        if deadline.is_none_or(|deadline| deadline > began) {
            self.stats.sleeps += 1;
            self.asleep_nanos += self.now.as_nanos() - began.as_nanos();
        }
        if empty && !self.has_work() && !self.timers.has_due() {
            self.stats.empty_turns += 1;
        }
    }

    /// Describes a handle as the socket of a slot.
    fn sock(key: Key, handle: i32) -> Sock {
        Sock { key, handle, exhaust: false }
    }
}

impl Drop for Net {
    /// Closes every socket and calls no handler.
    fn drop(&mut self) {
        use crate::conn::Flags;
        for conn in self.conns.values().filter(|conn| !conn.flags.any(Flags::SOCK_CLOSING)) {
            self.backend.discard(&conn.sock);
        }
        for listener in self.listeners.values() {
            self.backend.discard(&listener.sock);
        }
    }
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Net").field("now", &self.now).field("stats", &self.stats()).finish()
    }
}

/// An error of the system, with what was being done when it came.
#[derive(Debug)]
struct WhileDoing {
    what: String,
    source: io::Error,
}

impl fmt::Display for WhileDoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.source)
    }
}

impl std::error::Error for WhileDoing {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Adds what was being done to an error of the system; its kind stays, and its number can be
/// found as the source.
fn while_doing(what: String, source: io::Error) -> io::Error {
    io::Error::new(source.kind(), WhileDoing { what, source })
}
