//! Writing: queueing, refusing, flushing.

use std::iter;

use bytes::Bytes;

use crate::backend::Send;
use crate::conn::{Conn, Flags, Phase};
use crate::error::{CloseReason, Errno, LimitKind};
use crate::id::ConnId;
use crate::net::Net;
use crate::options::SlowConsumer;
use crate::segment::{SEGMENT_OVERHEAD, chunks_for};
use crate::stats::LoopStats;
use crate::time::Time;

/// More than is in any memory, which one slice named many times can come to: its cost is not a
/// number.
const COPY_MAX_BYTES: usize = usize::MAX / 2;

/// What became of a write. All of it was taken, or nothing (contract C8).
///
/// # Examples
///
/// ```
/// use hotloop::{ConnId, Net, Sent};
///
/// /// Returns whether the message is out of this handler's hands.
/// fn tell(net: &mut Net, conn: ConnId, message: &[u8], is_behind: &mut bool) -> bool {
///     match net.write(conn, message) {
///         Sent::Queued => true,
///         Sent::Pressured => {
///             *is_behind = true; // until `on_writable`
///             true
///         }
///         Sent::Refused => false,
///         Sent::Closed => true, // nobody is there to be told
///     }
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sent {
    /// Taken.
    Queued,
    /// Taken, but the queue is above its high-water mark: stop until `on_writable`.
    Pressured,
    /// Nothing was taken: the queue would have passed its hard limit, or all together the part of
    /// `global_buffer_bytes` that is for writes. The slow-consumer policy says what follows.
    Refused,
    /// Nothing was taken: the id is stale, or the connection is shut down or closing.
    Closed,
}

impl Sent {
    /// Returns whether the bytes were taken.
    pub fn is_taken(self) -> bool {
        matches!(self, Sent::Queued | Sent::Pressured)
    }
}

impl Net {
    /// Queues a copy of `data` for sending: all of it or nothing.
    ///
    /// # Re-entrancy
    ///
    /// The bytes leave at the end of the connection's own service if this is one of its
    /// callbacks, otherwise at the end of the turn, or at [`flush`](Net::flush): several writes
    /// become one send. Before a connect is done they wait for it.
    ///
    /// # Examples
    ///
    /// ```
    /// use hotloop::{Config, Loop, Sent};
    ///
    /// let mut event_loop = Loop::new(Config::default())?;
    /// let net = event_loop.net();
    /// let listener = net.listen("127.0.0.1:0")?;
    /// let addr = net.listener_addr(listener).expect("it is open");
    /// let conn = net.connect(addr)?;
    /// assert_eq!(net.write(conn, &[0; 1_000]), Sent::Queued);
    /// assert_eq!(net.write(conn, &[0; 64 << 10]), Sent::Pressured); // its high-water mark
    /// assert_eq!(net.queued_bytes(conn), 1_000 + (64 << 10), "taken all the same");
    /// net.close(conn);
    /// assert_eq!(net.write(conn, b"too late"), Sent::Closed);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[inline]
    pub fn write(&mut self, conn: ConnId, data: &[u8]) -> Sent {
        let Some(record) = self.conns.get_mut(conn.0).filter(|record| record.takes_writes()) else {
            return Sent::Closed;
        };
        if data.is_empty() {
            return pressure(record, &mut self.stats);
        }
        let cost = record.outbound.cost_of_copy(&mut self.segments, data.len());
        if !fits(record, cost, self.buffered_bytes, self.write_limit) {
            return self.refuse(conn, cost, cost_alone(chunks_for(data.len()), data.len()));
        }
        let is_served = self.serving == Some(conn.0);
        let stages = is_served && record.may_stage();
        let queue = &mut record.outbound;
        if !stages || !queue.stage(&mut self.segments, iter::once(data), data.len()) {
            queue.push_copy(&mut self.segments, data);
        }
        if !is_served {
            add_dirty(&mut self.dirty, record);
        }
        self.buffered_bytes += cost;
        count_accepted(record, &mut self.stats, data.len());
        pressure(record, &mut self.stats)
    }

    /// Queues a copy of several pieces for sending, one behind the other: all of them or nothing.
    /// Is to [`write`](Net::write) of the same bytes in one piece as `writev(2)` is to `write(2)`:
    /// a header and a body need not be put together before, nor can one be taken without the
    /// other.
    ///
    /// # Re-entrancy
    ///
    /// As [`write`](Net::write).
    ///
    /// # Examples
    ///
    /// ```
    /// use hotloop::{ConnId, Net, Sent};
    ///
    /// fn reply(net: &mut Net, conn: ConnId, body: &[u8]) -> Sent {
    ///     let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
    ///     net.write_vectored(conn, &[head.as_bytes(), body])
    /// }
    /// ```
    pub fn write_vectored(&mut self, conn: ConnId, pieces: &[&[u8]]) -> Sent {
        self.write_gathered(conn, pieces.iter().copied())
    }

    /// Queues what is [`write_vectored`](Net::write_vectored).
    #[inline]
    pub(crate) fn write_gathered<'a>(
        &mut self,
        conn: ConnId,
        pieces: impl Iterator<Item = &'a [u8]> + Clone,
    ) -> Sent {
        let Some(record) = self.conns.get_mut(conn.0).filter(|record| record.takes_writes()) else {
            return Sent::Closed;
        };
        let len = pieces.clone().fold(0, |len: usize, piece| len.saturating_add(piece.len()));
        if len == 0 {
            return pressure(record, &mut self.stats);
        }
        if len > COPY_MAX_BYTES {
            return self.refuse(conn, usize::MAX, usize::MAX);
        }
        let cost = record.outbound.cost_of_copy(&mut self.segments, len);
        if !fits(record, cost, self.buffered_bytes, self.write_limit) {
            return self.refuse(conn, cost, cost_alone(chunks_for(len), len));
        }
        let is_served = self.serving == Some(conn.0);
        let stages = is_served && record.may_stage();
        let queue = &mut record.outbound;
        if !stages || !queue.stage(&mut self.segments, pieces.clone(), len) {
            queue.push_gathered(&mut self.segments, pieces, len);
        }
        if !is_served {
            add_dirty(&mut self.dirty, record);
        }
        self.buffered_bytes += cost;
        count_accepted(record, &mut self.stats, len);
        pressure(record, &mut self.stats)
    }

    /// Queues shared bytes for sending: all of them or nothing. What many connections are sent is
    /// stored once.
    ///
    /// # Re-entrancy
    ///
    /// As [`write`](Net::write).
    ///
    /// # Examples
    ///
    /// ```
    /// use hotloop::{Bytes, ConnId, Net};
    ///
    /// fn tell_all(net: &mut Net, conns: &[ConnId], text: String) {
    ///     let text = Bytes::from(text); // encoded and stored once
    ///     for conn in conns {
    ///         net.write_shared(*conn, text.clone());
    ///     }
    /// }
    /// ```
    pub fn write_shared(&mut self, conn: ConnId, data: Bytes) -> Sent {
        let Some(record) = self.conns.get_mut(conn.0).filter(|record| record.takes_writes()) else {
            return Sent::Closed;
        };
        if data.is_empty() {
            return pressure(record, &mut self.stats);
        }
        let len = data.len();
        let cost = record.outbound.cost_of_shared(&mut self.segments, len);
        if !fits(record, cost, self.buffered_bytes, self.write_limit) {
            return self.refuse(conn, cost, cost_alone(1, len));
        }
        record.outbound.push_shared(&mut self.segments, data);
        if self.serving != Some(conn.0) {
            add_dirty(&mut self.dirty, record);
        }
        self.buffered_bytes += cost;
        count_accepted(record, &mut self.stats, len);
        pressure(record, &mut self.stats)
    }

    /// Sees to it that a connection is flushed in this turn. The one that is being served is
    /// flushed when its service ends.
    pub(crate) fn mark_dirty(&mut self, id: ConnId) {
        if self.serving != Some(id.0) {
            if let Some(conn) = self.conns.get_mut(id.0) {
                add_dirty(&mut self.dirty, conn);
            }
        }
    }

    /// Refuses a write that would raise the cost by `cost`, and that of an empty queue by `alone`.
    #[cold]
    #[allow(clippy::expect_used, reason = "its caller has just had it")]
    fn refuse(&mut self, id: ConnId, cost: usize, alone: usize) -> Sent {
        self.stats.refused_writes += 1;
        let write_limit = self.write_limit;
        let conn = self.conns.get_mut(id.0).expect("it was just found");
        conn.tally.refused();
        let hard_limit = conn.options.hard_limit_bytes.bytes();
        if conn.outbound.cost().saturating_add(cost) <= hard_limit {
            if alone <= write_limit && !conn.flags.any(Flags::STARVED) {
                press(conn, &mut self.stats);
                conn.flags.set(Flags::STARVED);
                self.starved.push_back(Starved { id, cost, alone });
                self.forget_ended_starved();
            }
            self.warn_of_buffers(id);
        } else if conn.options.slow_consumer == SlowConsumer::Close {
            self.end(id, CloseReason::Limit(LimitKind::Outbound), true);
        } else if alone <= hard_limit {
            let low = conn.outbound.cost() <= conn.options.low_water_bytes;
            press(conn, &mut self.stats);
            conn.flags.set(if low { Flags::WAIT_EMPTY } else { Flags::NONE });
        }
        Sent::Refused
    }

    /// Hands what is queued to the kernel at once, as far as it takes it. Returns whether the id
    /// was that of a connection.
    ///
    /// # Re-entrancy
    ///
    /// Calls no callback: an `on_writable` or `on_close` that follows from it comes later.
    ///
    /// # Examples
    ///
    /// Before something long, so that an answer does not wait for it:
    ///
    /// ```
    /// use hotloop::{ConnId, Net};
    ///
    /// fn answer_then_work(net: &mut Net, conn: ConnId, work: impl FnOnce()) {
    ///     net.write(conn, b"working\n");
    ///     net.flush(conn);
    ///     work();
    /// }
    /// ```
    pub fn flush(&mut self, conn: ConnId) -> bool {
        let known = self.conns.get(conn.0).is_some();
        if known {
            self.flush_conn(conn);
            self.schedule(conn);
        }
        known
    }

    /// Sends what is queued and what follows from an empty queue; returns whether there is work
    /// left that needs no event.
    #[inline(always)]
    pub(crate) fn flush_conn(&mut self, id: ConnId) -> bool {
        let Some(conn) = self.conns.get_mut(id.0) else { return false };
        if !conn.is_plain(Flags::WRITABLE) {
            return self.flush_queue(id, None);
        }
        if conn.outbound.is_empty() {
            return false;
        }
        let budget = self.config.write_budget_bytes;
        let Some(staged) = conn.outbound.staged(&self.segments, budget) else {
            return self.flush_queue(id, None);
        };
        let sent = self.backend.send(&conn.sock, staged);
        if sent != (Send::Done { bytes: conn.outbound.bytes(), blocked: false }) {
            return self.flush_queue(id, Some(sent));
        }
        let bytes = conn.outbound.bytes();
        self.buffered_bytes -= conn.outbound.end_stage(&mut self.segments);
        count_sent(conn, &mut self.stats, bytes, self.now);
        false
    }

    /// As [`flush_conn`](Self::flush_conn), of any connection; `sent` is what a send has come to
    /// already.
    #[inline(never)]
    fn flush_queue(&mut self, id: ConnId, mut sent: Option<Send>) -> bool {
        let Some(conn) = self.conns.get_mut(id.0) else { return false };
        let mut failed = None;
        let mut left = self.config.write_budget_bytes;
        while sent.is_some() || (conn.wants_send() && left > 0 && failed.is_none()) {
            let pieces = conn.outbound.pieces(&self.segments, left);
            match sent.take().unwrap_or_else(|| self.backend.send(&conn.sock, pieces)) {
                Send::Done { bytes, blocked } => {
                    if blocked {
                        conn.flags.clear(Flags::WRITABLE);
                    }
                    left -= bytes;
                    self.buffered_bytes -= conn.outbound.advance(&mut self.segments, bytes);
                    count_sent(conn, &mut self.stats, bytes, self.now);
                }
                Send::WouldBlock => conn.flags.clear(Flags::WRITABLE),
                Send::InFlight => conn.flags.set(Flags::IN_FLIGHT),
                Send::Failed(errno) => failed = Some(errno),
            }
        }
        if conn.outbound.is_empty() && !conn.flags.any(Flags::WATCH_WRITE.or(Flags::SHUTDOWN)) {
            return conn.runnable();
        }
        conn.outbound.unstage(&mut self.segments);
        self.after_flush(id, failed)
    }

    /// Sees to what a flush did not finish, or what only waited for it.
    fn after_flush(&mut self, id: ConnId, failed: Option<Errno>) -> bool {
        match failed {
            Some(errno) => self.send_failed(id, errno),
            None => self.watch_progress(id),
        }
        self.settle(id);
        self.conns.get(id.0).is_some_and(Conn::runnable)
    }

    /// Notes that a send in flight has taken the first `bytes` of a queue.
    pub(crate) fn sent(&mut self, id: ConnId, bytes: usize) {
        let Some(conn) = self.conns.get_mut(id.0) else { return };
        self.buffered_bytes -= conn.outbound.advance(&mut self.segments, bytes);
        count_sent(conn, &mut self.stats, bytes, self.now);
        self.watch_progress(id);
    }

    /// Notes a failed send. What the peer sent before is still to be read, so the connection
    /// ends when reading does, or at once if nobody reads.
    pub(crate) fn send_failed(&mut self, id: ConnId, errno: Errno) {
        let Some(conn) = self.conns.get_mut(id.0) else { return };
        conn.send_error = Some(errno);
        conn.flags.clear(Flags::WRITABLE);
        conn.flags.set(Flags::READABLE);
        self.schedule(id);
    }

    /// Starts the stall deadline of a queue that is stuck and has the backend watch for room, or
    /// ends both.
    pub(crate) fn watch_progress(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id.0) else { return };
        // Before the connect is done its own deadline counts.
        let stuck = !conn.outbound.is_empty() && conn.phase != Phase::Connecting;
        if stuck && conn.since == Time::NEVER {
            conn.since = self.now;
        }
        if conn.awaits_room() != conn.flags.any(Flags::WATCH_WRITE) {
            self.update_interest(id);
        }
        if stuck {
            self.arm_deadline(id);
        }
    }

    /// Tells the backend what is waited for.
    pub(crate) fn update_interest(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id.0).filter(|conn| conn.phase != Phase::Ended) else {
            return;
        };
        let write = conn.awaits_room();
        let read = !conn.flags.any(Flags::PAUSED);
        conn.flags.clear(Flags::WATCH_WRITE.or(Flags::UNWATCH_READ));
        conn.flags.set(if write { Flags::WATCH_WRITE } else { Flags::NONE });
        conn.flags.set(if read { Flags::NONE } else { Flags::UNWATCH_READ });
        self.backend.interest(&conn.sock, read, write);
    }

    /// Keeps the list of those who wait in proportion to the connections, however many of them
    /// come and go.
    fn forget_ended_starved(&mut self) {
        if self.starved.len() > 2 * self.conns.len() {
            let conns = &self.conns;
            self.starved.retain(|starved| conns.get(starved.id.0).is_some());
        }
    }

    /// Lets those try again whose write was refused for the loop's buffers: first come, first
    /// served, once a quarter of them is free and the write that was refused would fit. One whose
    /// own queue is in the way holds up nobody: it waits until that is empty.
    #[inline]
    pub(crate) fn feed_starved(&mut self) {
        if !self.starved.is_empty() && self.buffered_bytes <= self.write_limit / 4 * 3 {
            self.feed();
        }
    }

    fn feed(&mut self) {
        for _ in 0..self.starved.len() {
            let Some(starved) = self.starved.pop_front() else { return };
            let Starved { id, cost, alone } = starved;
            let Some(conn) = self.conns.get_mut(id.0).filter(|conn| conn.awaits_buffers()) else {
                continue;
            };
            let empty = conn.outbound.is_empty();
            let needed = if empty { alone } else { cost };
            let fits = self.buffered_bytes <= self.write_limit.saturating_sub(needed);
            if empty && !fits {
                // In its place, behind those that were passed in this round.
                self.starved.push_back(starved);
                continue;
            }
            conn.flags.clear(Flags::STARVED);
            conn.flags.set(if fits { Flags::NONE } else { Flags::WAIT_EMPTY });
            self.schedule(id);
        }
    }
}

/// A connection with a write that was refused because the loop's buffers were full.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Starved {
    id: ConnId,
    /// By how much the write would have raised the cost of the queue as it was.
    cost: usize,
    /// What it would cost an empty queue.
    alone: usize,
}

/// Notes that a write was taken.
#[inline]
fn count_accepted(conn: &mut Conn, stats: &mut LoopStats, bytes: usize) {
    conn.accepted_bytes += bytes as u64;
    conn.tally.queued(conn.outbound.cost());
    stats.accepted_bytes += bytes as u64;
    stats.queued_bytes += bytes as u64;
}

/// Notes that the kernel took the first `bytes` of a queue, which they have left.
#[inline]
fn count_sent(conn: &mut Conn, stats: &mut LoopStats, bytes: usize, now: Time) {
    conn.sent_bytes += bytes as u64;
    conn.sends = conn.sends.wrapping_add(1);
    conn.active_at = now;
    conn.since = if conn.outbound.is_empty() { Time::NEVER } else { now };
    stats.sent_bytes += bytes as u64;
    stats.queued_bytes -= bytes as u64;
    stats.sends += 1;
}

/// Puts a connection on the dirty list, once.
#[inline]
fn add_dirty(dirty: &mut Vec<ConnId>, conn: &mut Conn) {
    if !conn.flags.any(Flags::DIRTY) {
        conn.flags.set(Flags::DIRTY);
        dirty.push(ConnId(conn.sock.key));
    }
}

/// Returns whether a queue may grow by `cost`.
#[inline]
fn fits(conn: &Conn, cost: usize, buffered: usize, write_limit: usize) -> bool {
    conn.outbound.cost().saturating_add(cost) <= conn.options.hard_limit_bytes.bytes()
        && buffered.saturating_add(cost) <= write_limit
}

/// The cost of a queue that holds one write alone.
fn cost_alone(segments: usize, len: usize) -> usize {
    len.saturating_add(segments.saturating_mul(SEGMENT_OVERHEAD))
}

/// Says whether a queue is above its high-water mark, and then owes `on_writable`.
#[inline]
fn pressure(conn: &mut Conn, stats: &mut LoopStats) -> Sent {
    if conn.outbound.cost() <= conn.options.high_water_bytes {
        return Sent::Queued;
    }
    press(conn, stats);
    Sent::Pressured
}

/// Owes `on_writable`.
fn press(conn: &mut Conn, stats: &mut LoopStats) {
    if !conn.flags.any(Flags::PRESSURED) {
        conn.flags.set(Flags::PRESSURED);
        conn.tally.pressed();
        stats.pressures += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::script::{Dialect, World};
    use crate::config::Config;

    #[test]
    fn refused_writers_that_come_and_go_are_forgotten() {
        let world = World::new(Dialect::Readiness);
        let mut net = Net::new(Config::default().global_buffer_bytes(12_000), world.backend());
        let write = |net: &mut Net| {
            let id = net.connect("10.0.0.9:80").expect("there are slots");
            (id, net.write(id, &[7; 6_000]))
        };
        assert_eq!(write(&mut net).1, Sent::Queued);
        assert_eq!(write(&mut net).1, Sent::Refused, "and it waits, at the head");
        for _ in 0..1_000 {
            let (id, sent) = write(&mut net);
            assert_eq!(sent, Sent::Refused);
            net.abort(id);
            net.close_sock(id);
            net.free(id);
        }
        assert!(net.starved.len() <= 2 * 3, "{} are remembered", net.starved.len());
    }

    #[test]
    fn a_connection_is_on_the_dirty_list_once_however_often_it_is_flushed() {
        let world = World::new(Dialect::Readiness);
        let mut net = Net::new(Config::default(), world.backend());
        let id = net.connect("10.0.0.9:80").expect("there are slots");
        for _ in 0..1_000 {
            assert_eq!(net.write(id, b"x"), Sent::Queued);
            assert!(net.flush(id));
        }
        assert_eq!(net.dirty, [id]);
    }
}
