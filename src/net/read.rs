//! Reading: what may be read, what is kept, what is discarded.

use crate::backend::{Backend, Recv};
use crate::conn::inbound::Kept;
use crate::conn::{Conn, Flags, Phase};
use crate::error::{CloseReason, LimitKind};
use crate::id::ConnId;
use crate::net::Net;
use crate::recv_memory::RecvMemory;
use crate::stats::LoopStats;
use crate::time::Time;

/// What one connection may read in one turn (C12).
pub(crate) struct ReadBudget {
    bytes: usize,
    calls: u32,
}

impl ReadBudget {
    #[inline]
    fn is_spent(&self) -> bool {
        self.bytes == 0 || self.calls == 0
    }
}

impl Net {
    /// Stops `on_data` and `on_read_closed` for this connection until
    /// [`resume_reading`](Net::resume_reading). What arrives stays in the kernel, which makes the
    /// peer slow down; a reset or an error still ends the connection at once (C13). Returns
    /// whether the id was that of an open connection.
    ///
    /// # Re-entrancy
    ///
    /// Within `on_data` of the same connection it stops delivery at once. Who pauses there without
    /// consuming anything is shown the same bytes by each resume, before there is anything new: to
    /// wait for the rest of a message, return without a pause.
    ///
    /// # Examples
    ///
    /// ```
    /// use hotloop::{ConnId, Handler, Net, Sent};
    ///
    /// struct Echo;
    ///
    /// impl Handler for Echo {
    ///     fn on_data(&mut self, net: &mut Net, conn: ConnId, data: &[u8]) -> usize {
    ///         let sent = net.write(conn, data);
    ///         if sent != Sent::Queued {
    ///             net.pause_reading(conn); // who does not read is not read from
    ///         }
    ///         if sent.is_taken() { data.len() } else { 0 }
    ///     }
    ///
    ///     fn on_writable(&mut self, net: &mut Net, conn: ConnId) {
    ///         net.resume_reading(conn);
    ///     }
    /// }
    /// ```
    #[allow(clippy::expect_used, reason = "`is_open` has found the record")]
    pub fn pause_reading(&mut self, conn: ConnId) -> bool {
        if !self.is_open(conn) {
            return false;
        }
        let record = self.conns.get_mut(conn.0).expect("an open connection has a record");
        if !record.flags.any(Flags::PAUSED) {
            record.tally.paused();
            self.stats.pauses += 1;
        }
        record.flags.set(Flags::PAUSED.or(Flags::YIELD));
        self.update_interest(conn);
        self.schedule(conn);
        true
    }

    /// Lets `on_data` and `on_read_closed` come again. Bytes that were not consumed are shown
    /// again without waiting for new ones, also if reading was not paused; so a handler that pauses
    /// for want of more bytes sees the same ones again and no more. Returns whether the id was that
    /// of an open connection.
    ///
    /// # Re-entrancy
    ///
    /// Delivery happens later in this turn or in the next, never inside this call.
    #[allow(clippy::expect_used, reason = "`is_open` has found the record")]
    pub fn resume_reading(&mut self, conn: ConnId) -> bool {
        if !self.is_open(conn) {
            return false;
        }
        let record = self.conns.get_mut(conn.0).expect("an open connection has a record");
        let paused = record.flags.any(Flags::PAUSED);
        record.flags.clear(Flags::PAUSED);
        // While the handler looks at them, the kept bytes are not in the record.
        if record.kept.is_some() || self.calling == Some(conn) {
            record.flags.set(Flags::SHOW_KEPT);
        }
        if paused {
            self.update_interest(conn);
        }
        self.schedule(conn);
        true
    }

    /// Returns whether reading is on: not for an id that is stale or closing, and not from
    /// [`pause_reading`](Net::pause_reading) until [`resume_reading`](Net::resume_reading). The
    /// peer's FIN does not switch it off.
    pub fn is_reading(&self, conn: ConnId) -> bool {
        let paused = |record: &Conn| record.flags.any(Flags::PAUSED);
        self.is_open(conn) && !self.conns.get(conn.0).is_some_and(paused)
    }

    /// Returns whether a connection is up and has nothing to read: no byte that was left
    /// unconsumed or has yet to be shown, no FIN, no error. Asks the system (`recv(2)` with
    /// `MSG_PEEK`), in one call; for a connection that was not used for a while, before it is used
    /// again. It may end a moment later all the same. Not for an id that is stale, connecting or
    /// closing.
    ///
    /// # Re-entrancy
    ///
    /// Within the connection's own `on_data` the bytes that are being shown do not count: whether
    /// they are consumed is known when that returns.
    ///
    /// # Examples
    ///
    /// ```
    /// use hotloop::{ConnId, Net};
    ///
    /// /// Takes a kept connection that the server has not closed meanwhile.
    /// fn take(net: &mut Net, kept: &mut Vec<ConnId>) -> Option<ConnId> {
    ///     while let Some(conn) = kept.pop() {
    ///         if net.is_quiet(conn) {
    ///             return Some(conn);
    ///         }
    ///         net.abort(conn);
    ///     }
    ///     None
    /// }
    /// ```
    pub fn is_quiet(&mut self, conn: ConnId) -> bool {
        let Some(record) = self.conns.get(conn.0) else { return false };
        record.phase == Phase::Open
            && record.kept.is_none()
            && record.send_error.is_none()
            && !record.flags.any(Flags::READ_CLOSED)
            && self.backend.is_quiet(&record.sock)
    }

    /// Returns the read budget of one connection and turn.
    #[inline]
    pub(crate) fn read_budget(&self) -> ReadBudget {
        ReadBudget { bytes: self.config.read_budget_bytes, calls: self.config.read_budget_calls }
    }

    /// Receives once for the handler, if it is to be shown more in this service and there is
    /// budget left; `None` ends reading. Beside the answer are the kept bytes that new ones follow.
    #[inline]
    pub(crate) fn recv(
        &mut self,
        id: ConnId,
        memory: &mut RecvMemory,
        budget: &mut ReadBudget,
    ) -> Option<(Recv, Option<Box<Kept>>)> {
        let conn = self.conns.get_mut(id.0)?;
        let ready = conn.flags.any(Flags::READABLE) && conn.wants_read();
        if !ready || conn.flags.any(Flags::YIELD) || budget.is_spent() {
            return None;
        }
        let got = receive(conn, &mut *self.backend, memory, budget, self.now, &mut self.stats);
        let Recv::Data { .. } = got else { return Some((got, None)) };
        conn.flags.clear(Flags::SHOW_KEPT);
        Some((got, conn.kept.take()))
    }

    /// Notes that reading found the end: true if `on_read_closed` is due.
    pub(crate) fn read_ended(&mut self, id: ConnId) -> bool {
        let Some(conn) = self.conns.get_mut(id.0) else { return false };
        if let Some(errno) = conn.send_error {
            // The failed send has taken the socket's error, so that what looks like the peer's
            // FIN may be the rest of a reset.
            self.fail(id, errno);
            return false;
        }
        conn.flags.set(Flags::READ_CLOSED);
        conn.phase == Phase::Open
    }

    /// Notes that nothing is there; a send that failed is told then.
    pub(crate) fn read_blocked(&mut self, id: ConnId) {
        if let Some(errno) = self.conns.get(id.0).and_then(|conn| conn.send_error) {
            self.fail(id, errno);
        }
    }

    /// Takes the kept bytes out of the connection, for as long as the handler looks at them.
    #[inline]
    pub(crate) fn take_kept(&mut self, id: ConnId) -> Option<Box<Kept>> {
        let conn = self.conns.get_mut(id.0)?;
        conn.flags.clear(Flags::SHOW_KEPT);
        conn.kept.take()
    }

    /// Appends received bytes to kept ones.
    pub(crate) fn grow_kept(&mut self, kept: &mut Kept, data: &[u8]) {
        let cost = kept.cost();
        kept.append(data);
        self.buffered_bytes += kept.cost() - cost;
    }

    /// Keeps what a handler has not consumed of received bytes.
    pub(crate) fn keep(&mut self, id: ConnId, rest: &[u8]) {
        let mut kept = self.kept_pool.take();
        self.buffered_bytes += kept.cost();
        self.grow_kept(&mut kept, rest);
        self.put_kept(id, kept);
    }

    /// Keeps bytes that a connection brings along. They cost what they are and no more: for that
    /// its adoption has found room.
    pub(crate) fn keep_whole(&mut self, id: ConnId, bytes: Vec<u8>) {
        let kept = Box::new(Kept::whole(bytes));
        self.buffered_bytes += kept.cost();
        self.put_kept(id, kept);
    }

    /// Puts kept bytes back into their connection, and closes it if they are too many.
    pub(crate) fn put_kept(&mut self, id: ConnId, kept: Box<Kept>) {
        let takes = |conn: &&mut Conn| matches!(conn.phase, Phase::Open | Phase::Releasing);
        let open = self.conns.get_mut(id.0).filter(takes);
        let Some(conn) = open.filter(|_| kept.len() > 0) else {
            return self.drop_kept(kept);
        };
        let over = if kept.len() > conn.options.inbound_max_bytes.bytes() {
            Some(LimitKind::Inbound)
        } else if self.buffered_bytes > self.global_limit {
            Some(LimitKind::Buffers)
        } else {
            None
        };
        conn.kept = Some(kept);
        if let Some(limit) = over {
            self.begin_close(id, CloseReason::Limit(limit));
        }
    }

    /// Drops what `on_read_closed` was shown; with a connection that is given away it goes along.
    pub(crate) fn put_rest(&mut self, id: ConnId, rest: Box<Kept>) {
        match self.conns.get(id.0) {
            Some(conn) if conn.phase == Phase::Releasing => self.put_kept(id, rest),
            _ => self.drop_kept(rest),
        }
    }

    /// Gives a buffer back and counts what nobody consumed.
    pub(crate) fn drop_kept(&mut self, kept: Box<Kept>) {
        self.buffered_bytes -= kept.cost();
        self.stats.discarded_bytes += kept.len() as u64;
        self.kept_pool.give(kept);
    }

    /// Takes the kept bytes of a connection out of the loop.
    pub(crate) fn hand_out_kept(&mut self, id: ConnId) -> Vec<u8> {
        let Some(kept) = self.take_kept(id) else { return Vec::new() };
        let unread = kept.unread().to_vec();
        self.buffered_bytes -= kept.cost();
        self.kept_pool.give(kept);
        unread
    }

    /// Drops the kept bytes of a connection.
    pub(crate) fn discard_kept(&mut self, id: ConnId) {
        if let Some(kept) = self.take_kept(id) {
            self.drop_kept(kept);
        }
    }

    /// Reads and discards the input of a closing connection.
    pub(crate) fn discard_input(&mut self, id: ConnId, memory: &mut RecvMemory) {
        let mut budget = self.read_budget();
        while let Some(conn) = self.conns.get_mut(id.0) {
            if !conn.wants_discard() || budget.is_spent() {
                return;
            }
            match receive(conn, &mut *self.backend, memory, &mut budget, self.now, &mut self.stats)
            {
                Recv::Data { lent, .. } => {
                    self.discarded(id, lent.len());
                    if lent.buffer.is_some() {
                        self.backend.release(lent);
                    }
                }
                Recv::Eof => {
                    self.read_ended(id);
                }
                Recv::WouldBlock => self.read_blocked(id),
                Recv::Failed(errno) => self.fail(id, errno),
            }
        }
    }

    /// Counts discarded input against the linger limit.
    fn discarded(&mut self, id: ConnId, bytes: usize) {
        self.stats.discarded_bytes += bytes as u64;
        let Some(conn) = self.conns.get_mut(id.0) else { return };
        if conn.flags.any(Flags::FIN_SENT) {
            conn.lost_bytes += bytes as u64;
            if conn.lost_bytes > conn.options.linger_bytes.bytes() as u64 {
                let reason = conn.reason_at_bound(CloseReason::Limit(LimitKind::Linger));
                self.end(id, reason, false);
            }
        }
    }
}

/// Receives once and keeps count. The ready bit is cleared only if the backend says so (C11).
#[inline]
pub(super) fn receive(
    conn: &mut Conn,
    backend: &mut dyn Backend,
    memory: &mut RecvMemory,
    budget: &mut ReadBudget,
    now: Time,
    stats: &mut LoopStats,
) -> Recv {
    budget.calls -= 1;
    let got = backend.recv(&conn.sock, memory, budget.bytes);
    match &got {
        Recv::Data { lent, drained } => {
            // After a failed send the end is near: it is read up to.
            if *drained && conn.send_error.is_none() {
                conn.flags.clear(Flags::READABLE);
            }
            budget.bytes = budget.bytes.saturating_sub(lent.len());
            conn.received_bytes += lent.len() as u64;
            conn.receives = conn.receives.wrapping_add(1);
            conn.active_at = now;
            stats.received_bytes += lent.len() as u64;
            stats.receives += 1;
        }
        Recv::WouldBlock | Recv::Eof => conn.flags.clear(Flags::READABLE),
        Recv::Failed(_) => {}
    }
    got
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::script::{Dialect, World};
    use crate::config::Config;

    #[test]
    fn reading_is_on_unless_it_is_paused_or_the_connection_closes() {
        let world = World::new(Dialect::Readiness);
        let mut net = Net::new(Config::default(), world.backend());
        let id = net.connect("10.0.0.9:80").expect("there are slots");
        assert!(net.is_reading(id));
        assert!(net.pause_reading(id));
        assert!(!net.is_reading(id));
        assert!(net.resume_reading(id));
        assert!(net.is_reading(id));
        net.abort(id);
        assert!(!net.is_reading(id), "it is closing");
        net.free(id);
        assert!(!net.is_reading(id), "it is stale");
    }
}
