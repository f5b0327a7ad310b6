//! Closing: in order, at once, by the peer, by an error. Contract C4 and C5.

use crate::backend::{Backend, Close};
use crate::conn::{Conn, Flags, Phase};
use crate::error::{CloseReason, Errno};
use crate::id::{ConnId, ListenerId};
use crate::net::Net;
use crate::sys::errno::close_reason;

impl Net {
    /// Sends a FIN after everything that was queued; reading goes on. When the peer has sent its
    /// own, the connection is over. Does nothing for an id that is stale or closing.
    ///
    /// # Examples
    ///
    /// ```
    /// use hotloop::{ConnId, Net};
    ///
    /// /// Asks, says that this was the question, and goes on reading the answer.
    /// fn ask(net: &mut Net, conn: ConnId, question: &[u8]) {
    ///     net.write(conn, question);
    ///     net.shutdown(conn);
    /// }
    /// ```
    pub fn shutdown(&mut self, conn: ConnId) {
        if !self.is_open(conn) {
            return;
        }
        self.mark_flag(conn, Flags::SHUTDOWN);
        self.mark_dirty(conn);
    }

    /// Closes in order: sends what is queued, then a FIN, then reads and discards until the
    /// peer's FIN, within `linger_timeout` and `linger_bytes`. Only `on_close` follows.
    ///
    /// The reading is what makes the sending safe: a socket that is closed with unread input
    /// answers with a reset (RFC 9293 §3.6.1), which can destroy what the peer has not read yet.
    /// It is left out when the peer's FIN was read and nothing is unread.
    ///
    /// The reason is [`CloseReason::LocalClose`], or [`CloseReason::PeerClosed`] behind the peer's
    /// FIN; a stall, an expired linger or a reset that loses queued bytes says so instead. Whatever
    /// end drops queued bytes resets the connection.
    ///
    /// Does nothing for an id that is stale or closing. A connect that is not done is given up,
    /// with what was queued for it.
    ///
    /// # Examples
    ///
    /// ```
    /// use hotloop::{ConnId, Net};
    ///
    /// fn refuse(net: &mut Net, conn: ConnId) {
    ///     net.write(conn, b"too many players\n");
    ///     net.close(conn); // the line arrives first, whatever the peer is sending
    /// }
    /// ```
    pub fn close(&mut self, conn: ConnId) {
        let reason = match self.conns.get(conn.0) {
            Some(record) if record.flags.any(Flags::READ_CLOSED) => CloseReason::PeerClosed,
            _ => CloseReason::LocalClose,
        };
        self.begin_close(conn, reason);
    }

    /// Closes at once: drops what is queued and resets the connection. Only `on_close` follows.
    /// Overrides a [`close`](Net::close) that is not done. Does nothing for a stale id.
    ///
    /// # Examples
    ///
    /// ```
    /// use hotloop::{CloseReason, Config, ConnId, Handler, Loop, Net};
    ///
    /// #[derive(Default)]
    /// struct Ends(Vec<(CloseReason, u64)>);
    ///
    /// impl Handler for Ends {
    ///     fn on_data(&mut self, _: &mut Net, _: ConnId, data: &[u8]) -> usize {
    ///         data.len()
    ///     }
    ///
    ///     fn on_close(&mut self, _: &mut Net, _: ConnId, reason: CloseReason, dropped: u64) {
    ///         self.0.push((reason, dropped));
    ///     }
    /// }
    ///
    /// let mut event_loop = Loop::new(Config::default())?;
    /// let peer = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// let conn = event_loop.net().connect(peer.local_addr()?)?;
    /// event_loop.net().write(conn, b"never sent");
    /// event_loop.net().abort(conn);
    /// let mut ends = Ends::default();
    /// event_loop.run(&mut ends)?;
    /// assert_eq!(ends.0, [(CloseReason::LocalAbort, 10)]);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn abort(&mut self, conn: ConnId) {
        self.end(conn, CloseReason::LocalAbort, true);
    }

    /// Returns whether a connection was closed and the kernel has taken all that was written: it
    /// only waits for its peer to close too, for the
    /// [`linger_timeout`](crate::ConnOptions::linger_timeout) at most. Whoever needs its place can
    /// [`abort`](Net::abort) it; the peer may lose what it has not received yet. False for an id
    /// that is stale.
    ///
    /// # Examples
    ///
    /// ```
    /// use hotloop::{ConnId, Net};
    ///
    /// /// Makes room, at the cost of a peer that is slow to say goodbye.
    /// fn make_room(net: &mut Net, closed: &mut Vec<ConnId>) {
    ///     closed.retain(|conn| net.peer_addr(*conn).is_some());
    ///     if let Some(conn) = closed.iter().find(|conn| net.is_lingering(**conn)) {
    ///         net.abort(*conn);
    ///     }
    /// }
    /// # let mut event_loop = hotloop::Loop::new(hotloop::Config::default())?;
    /// # make_room(event_loop.net(), &mut Vec::new());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn is_lingering(&self, conn: ConnId) -> bool {
        let lingers = |conn: &Conn| conn.phase == Phase::Closing && conn.outbound.is_empty();
        self.conns.get(conn.0).is_some_and(lingers)
    }

    /// Begins an orderly close.
    pub(crate) fn begin_close(&mut self, id: ConnId, reason: CloseReason) {
        let Some(conn) = self.conns.get_mut(id.0) else { return };
        match (conn.phase, conn.send_error) {
            (Phase::Connecting, _) => return self.end(id, reason, false),
            (Phase::Open, Some(errno)) => return self.end(id, close_reason(errno), true),
            (Phase::Open, None) => {}
            (Phase::Closing | Phase::Releasing | Phase::Ended, _) => return,
        }
        conn.phase = Phase::Closing;
        conn.reason = reason;
        conn.flags.set(Flags::SHUTDOWN);
        let watch = conn.flags.any(Flags::UNWATCH_READ);
        conn.flags.clear(Flags::PAUSED.or(Flags::PRESSURED).or(Flags::SHOW_KEPT));
        if conn.flags.any(Flags::FIN_SENT) {
            conn.since = self.now;
        }
        self.discard_kept(id);
        self.timers.cancel_owned(id);
        if watch {
            self.update_interest(id);
        }
        self.arm_deadline(id);
        self.mark_dirty(id);
        self.schedule(id);
    }

    /// Decides a connection: drops what it holds and puts it where `on_close` is called. With
    /// queued bytes to drop it is reset in any case: a FIN would say that the peer has everything.
    /// Those in flight count: whether they arrive is not known yet.
    pub(crate) fn end(&mut self, id: ConnId, reason: CloseReason, reset: bool) {
        if self.conns.get(id.0).is_some_and(|conn| conn.phase != Phase::Ended) {
            self.decide(id, reason, reset);
            self.closings.push_back(id);
        }
    }

    /// Decides a connection and drops what it holds.
    pub(crate) fn decide(&mut self, id: ConnId, reason: CloseReason, reset: bool) {
        let Some(conn) = self.conns.get_mut(id.0) else { return };
        conn.phase = Phase::Ended;
        conn.reason = reason;
        let (bytes, cost) = conn.outbound.clear(&mut self.segments);
        conn.flags.set(if reset || bytes > 0 { Flags::RESET } else { Flags::NONE });
        conn.lost_bytes = bytes as u64;
        self.buffered_bytes -= cost;
        self.stats.queued_bytes -= bytes as u64;
        self.stats.dropped_bytes += bytes as u64;
        if let Some(timer) = conn.deadline_timer.take() {
            self.timers.cancel(timer);
        }
        self.discard_kept(id);
        self.timers.cancel_owned(id);
    }

    /// Does what an empty queue allows: the FIN, and the end once both sides have sent theirs.
    pub(crate) fn settle(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id.0) else { return };
        if conn.wants_fin() {
            self.send_fin(id);
        }
        let Some(conn) = self.conns.get(id.0) else { return };
        if conn.is_over() {
            let reason =
                if conn.phase == Phase::Closing { conn.reason } else { CloseReason::PeerClosed };
            self.end(id, reason, false);
        }
    }

    fn send_fin(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id.0) else { return };
        if let Err(errno) = self.backend.shutdown(&conn.sock) {
            // `ENOTCONN` says that the connection has broken before; the socket knows why.
            let errno = self.backend.take_error(&conn.sock).unwrap_or(errno);
            return self.send_failed(id, errno);
        }
        conn.flags.set(Flags::FIN_SENT);
        if conn.phase == Phase::Closing {
            conn.since = self.now;
            self.arm_deadline(id);
        }
    }

    /// Ends a connection that the system says is broken.
    pub(crate) fn fail(&mut self, id: ConnId, errno: Errno) {
        let Some(conn) = self.conns.get(id.0) else { return };
        let reason = reason_for(conn, close_reason(conn.send_error.unwrap_or(errno)));
        // What the handler still wanted to send is missing, unless it has said that this was all.
        let reset = conn.phase == Phase::Open && !conn.flags.any(Flags::FIN_SENT);
        self.end(id, reason, reset);
    }

    /// Asks for the error that reading will not find, because nobody reads (C13).
    pub(crate) fn take_verdict(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id.0).filter(|conn| conn.wants_verdict()) else {
            return;
        };
        conn.flags.clear(Flags::HANG_UP);
        let found = self.backend.take_error(&conn.sock);
        let Some(errno) = conn.send_error.or(found) else { return self.settle(id) };
        self.stats.discarded_bytes += self.backend.unread_bytes(&conn.sock) as u64;
        self.fail(id, errno);
    }

    /// Closes the socket of a connection that has ended. Returns whether it is closed; if not,
    /// an event says when.
    pub(crate) fn close_sock(&mut self, id: ConnId) -> bool {
        let Some(conn) = self.conns.get_mut(id.0) else { return false };
        if conn.flags.any(Flags::SOCK_CLOSED) {
            return true;
        }
        if conn.flags.any(Flags::SOCK_CLOSING) {
            return false;
        }
        // The getters still work in `on_close`.
        learn_local(conn, &mut *self.backend);
        conn.flags.set(Flags::SOCK_CLOSING);
        let closed = self.backend.close(&conn.sock, conn.flags.any(Flags::RESET)) == Close::Ended;
        conn.flags.set(if closed { Flags::SOCK_CLOSED } else { Flags::NONE });
        closed
    }

    /// Returns what `on_close` says, and notes that it is said.
    pub(crate) fn last_word(&mut self, id: ConnId) -> Option<(CloseReason, u64)> {
        let conn = self.conns.get_mut(id.0)?;
        conn.flags.set(Flags::CLOSE_TOLD);
        Some((conn.reason, conn.dropped_bytes()))
    }

    /// Frees the slot of a connection whose `on_close` was called.
    pub(crate) fn free(&mut self, id: ConnId) {
        let Some(conn) = self.conns.remove(id.0) else { return };
        self.stats.closed += 1;
        self.stats.closes.add(conn.reason);
        self.log_close(id, &conn);
        self.resume_all_accepting();
    }

    /// Returns whether a callback has panicked since the last turn began.
    #[inline]
    pub(crate) fn was_cut_off(&self) -> bool {
        self.serving.is_some() || self.calling.is_some()
    }

    /// Puts right what a callback left undone when it panicked (C6).
    pub(crate) fn recover(&mut self) {
        match self.serving.take().map(|key| (key, self.listeners.get(key).is_some())) {
            Some((key, true)) => self.schedule_listener(ListenerId(key)),
            Some((key, false)) => self.schedule(ConnId(key)),
            None => {}
        }
        let Some(id) = self.calling.take() else { return };
        match self.conns.get_mut(id.0) {
            Some(conn) if conn.flags.any(Flags::CLOSE_TOLD) => self.free(id),
            Some(conn) if conn.reason == CloseReason::Released => {
                // `on_release` had it: the unwinding has reset it, unless it was passed on before.
                conn.reason = CloseReason::HandlerPanicked;
                self.closings.push_back(id);
            }
            _ => self.end(id, CloseReason::HandlerPanicked, true),
        }
    }
}

/// Asks for the connection's own address, unless it is known.
pub(crate) fn learn_local(conn: &mut Conn, backend: &mut dyn Backend) {
    if conn.addrs.local().is_none() {
        if let Some(local) = backend.local_addr(&conn.sock) {
            conn.addrs.set_local(local);
        }
    }
}

/// The reason to give when the system reports one: while closing, the first reason stands unless
/// queued bytes are lost.
fn reason_for(conn: &Conn, reported: CloseReason) -> CloseReason {
    if conn.phase == Phase::Closing && conn.outbound.is_empty() { conn.reason } else { reported }
}
