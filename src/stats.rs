//! Counters, as plain structs that are read without an allocation.

mod closes;
mod display;

pub use closes::ClosesByReason;

use std::time::Duration;

/// What the loop has done since it was made, and what it holds at this moment.
///
/// [`Net::stats`](crate::Net::stats) copies it out of the loop: no allocation, no system call. What
/// is said to be of this moment is a gauge; everything else is a counter that only grows, and
/// [`since`](LoopStats::since) makes rates of two of them. The counters that are 64 bits wide do
/// not wrap within the life of a machine.
///
/// At any time, exactly:
///
/// - `accepted + connects + adopted == closed + connections`, and `closes.total() == closed`;
/// - `accepted_bytes == sent_bytes + queued_bytes + dropped_bytes` (contract C8).
///
/// Its [`Display`](std::fmt::Display) is a block of lines for people; it may change in any release.
/// Programs read the fields.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use hotloop::{ConnId, Handler, LoopStats, Net, TimerId};
///
/// /// Prints every ten seconds what has happened in them.
/// #[derive(Default)]
/// struct Server {
///     last: LoopStats,
/// }
///
/// impl Handler for Server {
///     fn on_data(&mut self, _: &mut Net, _: ConnId, data: &[u8]) -> usize {
///         data.len()
///     }
///
///     fn on_timer(&mut self, net: &mut Net, _: TimerId, _: u64) {
///         let stats = net.stats();
///         println!("{}", stats.since(&self.last));
///         self.last = stats;
///         net.start_timer(Duration::from_secs(10), 0);
///     }
/// }
/// # let _ = Server::default();
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoopStats {
    /// Turns begun.
    pub turns: u64,
    /// Turns that found nothing to do: no event, no wake-up, no timer or deadline that was due, and
    /// no work left over. A loop that blocks has few of them, where a signal of the process ended
    /// the wait; one that a host polls without waiting has many.
    pub empty_turns: u64,
    /// Waits that could block. The others only looked, because there was work, because a deadline
    /// had come, or because [`Loop::turn`](crate::Loop::turn) was told not to wait.
    pub sleeps: u64,
    /// Time spent in the waits that could block: from a reading of the clock right before the call
    /// to the turn's own right after it, so that no callback's time is in it. It is an upper bound:
    /// it holds the duration of the call itself, some hundred nanoseconds each, and the time until
    /// the system ran the thread again. What a host sleeps elsewhere, on
    /// [`Loop::poll_fd`](crate::Loop::poll_fd) for instance, is not seen. On simulated time it is
    /// exact; a node of a [`World`](crate::sim::World) is such a host's guest and never sleeps.
    pub asleep: Duration,
    /// Events the backend reported.
    pub events: u64,
    /// Events that were meant for an earlier owner of a slot, and were dropped.
    pub stale_events: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Accepts that failed, whatever for.
    pub accept_errors: u64,
    /// How often a listener stopped accepting: for want of descriptors or memory, or at the
    /// connection limit. Each one counts, told to the handler or not.
    pub accept_pauses: u64,
    /// Connects that were begun.
    pub connects: u64,
    /// Connections that were adopted.
    pub adopted: u64,
    /// Connections that ended (`on_close` was called).
    pub closed: u64,
    /// The same ones by the reason they ended for.
    pub closes: ClosesByReason,
    /// Timers that fired.
    pub timers_fired: u64,
    /// Batches of wake-ups (`on_wake` was called).
    pub wakes: u64,
    /// Receive calls that returned data.
    pub receives: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// How often reading was paused ([`Net::pause_reading`](crate::Net::pause_reading)), of a
    /// connection that was not paused already.
    pub pauses: u64,
    /// Sends that took data.
    pub sends: u64,
    /// Bytes that writes accepted.
    pub accepted_bytes: u64,
    /// Bytes the kernel took.
    pub sent_bytes: u64,
    /// Accepted bytes that never reached the kernel, of connections that ended.
    pub dropped_bytes: u64,
    /// Received bytes that no handler consumed: kept ones at the end of their connection, and
    /// those read and discarded after a close.
    pub discarded_bytes: u64,
    /// How often pressure began: a write that was not answered with `Queued`, on a connection whose
    /// last pressure was over. Each is answered by one `on_writable` unless the connection ends.
    pub pressures: u64,
    /// Writes that were refused.
    pub refused_writes: u64,
    /// Bytes queued at this moment, of all connections: payload.
    pub queued_bytes: u64,
    /// Bytes of buffers in use at this moment, of all connections: cost of the queued output and
    /// kept input.
    pub buffered_bytes: u64,
    /// Connections there are at this moment, those that are closing included.
    pub connections: usize,
    /// Listeners there are at this moment.
    pub listeners: usize,
    /// Those of them that do not accept at this moment, for want of descriptors or memory, or at
    /// the connection limit.
    pub paused_listeners: usize,
    /// Timers there are at this moment, the loop's own deadlines included.
    pub timers: usize,
    /// Bytes of free buffers kept for reuse at this moment.
    pub pooled_bytes: usize,
}

impl LoopStats {
    /// Returns what has happened since `earlier`, which was read from the same loop: counters are
    /// subtracted, gauges stay as they are here. A counter that is below the earlier one, as that
    /// of another loop may be, becomes 0.
    #[must_use]
    pub fn since(&self, earlier: &LoopStats) -> LoopStats {
        let less = u64::saturating_sub;
        LoopStats {
            turns: less(self.turns, earlier.turns),
            empty_turns: less(self.empty_turns, earlier.empty_turns),
            sleeps: less(self.sleeps, earlier.sleeps),
            asleep: self.asleep.saturating_sub(earlier.asleep),
            events: less(self.events, earlier.events),
            stale_events: less(self.stale_events, earlier.stale_events),
            accepted: less(self.accepted, earlier.accepted),
            accept_errors: less(self.accept_errors, earlier.accept_errors),
            accept_pauses: less(self.accept_pauses, earlier.accept_pauses),
            connects: less(self.connects, earlier.connects),
            adopted: less(self.adopted, earlier.adopted),
            closed: less(self.closed, earlier.closed),
            closes: self.closes.since(&earlier.closes),
            timers_fired: less(self.timers_fired, earlier.timers_fired),
            wakes: less(self.wakes, earlier.wakes),
            receives: less(self.receives, earlier.receives),
            received_bytes: less(self.received_bytes, earlier.received_bytes),
            pauses: less(self.pauses, earlier.pauses),
            sends: less(self.sends, earlier.sends),
            accepted_bytes: less(self.accepted_bytes, earlier.accepted_bytes),
            sent_bytes: less(self.sent_bytes, earlier.sent_bytes),
            dropped_bytes: less(self.dropped_bytes, earlier.dropped_bytes),
            discarded_bytes: less(self.discarded_bytes, earlier.discarded_bytes),
            pressures: less(self.pressures, earlier.pressures),
            refused_writes: less(self.refused_writes, earlier.refused_writes),
            queued_bytes: self.queued_bytes,
            buffered_bytes: self.buffered_bytes,
            connections: self.connections,
            listeners: self.listeners,
            paused_listeners: self.paused_listeners,
            timers: self.timers,
            pooled_bytes: self.pooled_bytes,
        }
    }
}

/// What one connection has done since its id was handed out, and what it holds at this moment.
///
/// [`Net::conn_stats`](crate::Net::conn_stats) copies it out of the loop: no allocation, no system
/// call, also inside `on_close`. At any time `accepted_bytes == sent_bytes + queued_bytes +
/// dropped_bytes`, exactly (contract C8).
///
/// The counts of bytes are 64 bits wide. Those of calls wrap at 2^32, so that the difference of two
/// readings is right if it is wrapped, too. The rarer counts saturate, because ten thousand idle
/// connections pay for their width: 65,535 means that many or more.
///
/// Its [`Display`](std::fmt::Display) is one line for people; it may change in any release.
///
/// # Examples
///
/// ```
/// use hotloop::{ConnId, Net};
///
/// /// Returns whether a peer has been near its limit of 1 MiB.
/// fn was_slow(net: &Net, conn: ConnId) -> bool {
///     net.conn_stats(conn).is_some_and(|stats| stats.queued_cost_max > 900_000)
/// }
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnStats {
    /// Bytes received.
    pub received_bytes: u64,
    /// Receive calls that returned data. Wraps at 2^32.
    pub receives: u32,
    /// Bytes that writes accepted: sent, queued or dropped.
    pub accepted_bytes: u64,
    /// Bytes the kernel took.
    pub sent_bytes: u64,
    /// Sends that took data. Wraps at 2^32.
    pub sends: u32,
    /// Accepted bytes that never reached the kernel, once the connection has ended.
    pub dropped_bytes: u64,
    /// Bytes queued at this moment: payload.
    pub queued_bytes: usize,
    /// Those bytes and the overhead of the queue at this moment: what limits and marks compare.
    pub queued_cost: usize,
    /// The highest cost the queue has had: how near to its limits the peer has come. Saturates at
    /// 2^32 - 1.
    pub queued_cost_max: usize,
    /// How often pressure began: the queue passed its high-water mark, or a write was refused,
    /// while no `on_writable` was owed. Saturates at 65,535.
    pub pressures: u32,
    /// Writes that were refused, for the connection's limit or the loop's. Saturates at 65,535.
    pub refused_writes: u32,
    /// How often reading was paused, when it was not paused already. Saturates at 65,535.
    pub pauses: u32,
    /// Bytes received that the handler has not consumed yet, at this moment.
    pub kept_bytes: usize,
    /// Time since the id was handed out: since the accept, the start of the connect, or the
    /// adoption. Up to 66 µs too long.
    pub age: Duration,
    /// Time since the last byte was received from the peer or taken by the kernel.
    pub idle: Duration,
}
