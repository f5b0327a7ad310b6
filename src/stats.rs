//! Counters, as plain structs that are read without an allocation.

use std::time::Duration;

/// What the loop has done since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoopStats {
    /// Turns begun.
    pub turns: u64,
    /// Events the backend reported.
    pub events: u64,
    /// Events that were meant for an earlier owner of a slot, and were dropped.
    pub stale_events: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Accepts that failed, whatever for.
    pub accept_errors: u64,
    /// Connects that were begun.
    pub connects: u64,
    /// Connections that were adopted.
    pub adopted: u64,
    /// Connections that ended (`on_close` was called).
    pub closed: u64,
    /// Timers that fired.
    pub timers_fired: u64,
    /// Batches of wake-ups (`on_wake` was called).
    pub wakes: u64,
    /// Receive calls that returned data.
    pub receives: u64,
    /// Bytes received.
    pub received_bytes: u64,
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
    /// Timers there are at this moment, the loop's own deadlines included.
    pub timers: usize,
    /// Bytes of free buffers kept for reuse at this moment.
    pub pooled_bytes: usize,
}

/// What one connection has done since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnStats {
    /// Bytes received.
    pub received_bytes: u64,
    /// Receive calls that returned data.
    pub receives: u32,
    /// Bytes that writes accepted: `sent_bytes` + queued + dropped at the end, exactly.
    pub accepted_bytes: u64,
    /// Bytes the kernel took.
    pub sent_bytes: u64,
    /// Sends that took data.
    pub sends: u32,
    /// Bytes received that the handler has not consumed yet.
    pub kept_bytes: usize,
    /// Time since the last byte was received from the peer or taken by the kernel.
    pub idle: Duration,
}
