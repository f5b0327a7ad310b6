//! Whether what the loop says is true: reasons, totals.

use std::time::Duration;

use hotloop::sim::Dialect;
use hotloop::{CloseReason, ConnId, LimitKind, Net, Time, TimeoutKind};

use crate::model::{Conn, Model};
use crate::program::Dialled;

impl Model {
    /// A reason is given only if its cause is on record (C4).
    pub fn check_reason(&self, net: &Net, id: ConnId, reason: CloseReason, dropped_bytes: u64) {
        let conn = &self.conns[&id];
        let is_outgoing = conn.dialled.is_some();
        // The other end of a connection to ourselves does as it likes.
        let is_disturbed = self.is_deadly || conn.is_own;
        let is_reset = self.outside.resets.contains(&conn.key) || is_disturbed;
        let waited = net.now().since(conn.begun);
        let is_true = match reason {
            CloseReason::PeerClosed => conn.read_closed,
            CloseReason::Reset => is_reset && conn.is_open,
            CloseReason::LocalClose => conn.is_closed,
            CloseReason::LocalAbort => conn.is_aborted || conn.overridden,
            CloseReason::Timeout(TimeoutKind::Connect) => {
                is_outgoing
                    && !conn.is_open
                    && waited >= Duration::from_millis(self.setup.connect_ms)
            }
            CloseReason::Timeout(TimeoutKind::Idle) => conn.is_open && conn.has_idle_timeout,
            CloseReason::Timeout(TimeoutKind::WriteStall) => {
                // What was in flight may have been taken after all.
                let lost = dropped_bytes > 0 || self.setup.dialect == Dialect::Completion;
                lost && waited >= Duration::from_millis(self.setup.stall_ms)
            }
            CloseReason::Timeout(TimeoutKind::Linger) => {
                conn.is_closed && waited >= Duration::from_millis(self.setup.linger_ms)
            }
            CloseReason::Timeout(TimeoutKind::Kernel) => is_disturbed,
            CloseReason::Limit(LimitKind::Outbound) => conn.passed_outbound,
            CloseReason::Limit(LimitKind::Inbound) => conn.passed_inbound,
            CloseReason::Limit(LimitKind::Buffers) => self.setup.global_buffer_bytes < 1 << 28,
            CloseReason::Limit(LimitKind::Linger) => conn.is_closed,
            CloseReason::ConnectFailed(_) => is_outgoing && !conn.is_open,
            CloseReason::Io(_) => is_disturbed,
            CloseReason::HandlerPanicked => conn.has_panicked,
            _ => false,
        };
        assert!(is_true, "C4: {id}: {reason:?} is not what has happened: {conn:?}");
        if conn.is_aborted {
            assert_eq!(reason, CloseReason::LocalAbort, "C5: {id}: it was open and aborted");
        }
        if conn.is_closed && is_outgoing && !conn.is_open {
            assert_eq!(reason, CloseReason::LocalClose, "C5: {id}: closed while connecting");
        }
        let known = conn.dialled != Some(Dialled::Nobody) || !conn.is_open;
        assert!(known, "C4: {id}: connected to nobody");
    }

    /// What was accepted is sent, queued or dropped, for all connections together (C8).
    pub fn check_totals(&self, net: &Net) {
        let stats = net.stats();
        let accounted = stats.sent_bytes + stats.queued_bytes + stats.dropped_bytes;
        assert_eq!(stats.accepted_bytes, accounted, "C8: the totals of the loop");
    }
}

impl Model {
    /// The end of the program: from here on every answer is the default.
    pub fn calm(&mut self, net: &mut Net) {
        self.is_calm = true;
        self.clock.cancel_all(net);
        let ids: Vec<ConnId> = net.conns().collect();
        for id in ids {
            if net.resume_reading(id) {
                let conn = self.conns.get_mut(&id).expect("every id was given out");
                (conn.is_paused, conn.resumed) = (false, true);
            }
        }
    }

    /// Everybody is there, nothing goes wrong, and much time has passed (C9, C11, C13).
    pub fn check_nothing_is_owed(&self, net: &Net, is_full: bool) {
        assert!(!self.wake_due, "C16: a wake was lost");
        for (id, conn) in &self.conns {
            // Its queue is read, and the longest linger is 20 seconds.
            let is_late = |since: Time| net.now().since(since) > Duration::from_secs(25);
            let is_overdue =
                conn.end.is_none() && !conn.is_own && conn.ends_since.is_some_and(is_late);
            assert!(!is_overdue, "C5: {id} has to end: {conn:?}");
        }
        for (id, conn) in self.conns.iter().filter(|(id, _)| net.is_open(**id)) {
            // The other end of an own one may wait in the backlog for a slot, as a young one has.
            let is_young = net.now().since(conn.begun) < Duration::from_secs(10);
            if !conn.is_open || conn.is_own || is_young {
                continue;
            }
            assert_eq!(net.queued_bytes(*id), 0, "C11: {id}: bytes are queued: {conn:?}");
            assert!(!conn.owed || is_full, "C9: {id}: on_writable is owed: {conn:?}");
            assert_eq!(conn.left, 0, "C13: {id}: kept bytes were not shown: {conn:?}");
            if !conn.read_closed && !self.outside.resets.contains(&conn.key) {
                let sent = self.outside.sent.get(&conn.key).copied().unwrap_or(0);
                assert_eq!(conn.consumed, sent, "C11: {id}: bytes were not shown: {conn:?}");
                let finished = self.outside.finished.contains(&conn.key);
                assert!(!finished, "C11: {id}: the end was not told: {conn:?}");
            }
        }
    }

    /// Closes what nobody outside will end: connections to ourselves, those whose peer's reset was
    /// lost, and those that were left half-open.
    pub fn close_own(&mut self, net: &mut Net) {
        let is_lost = |conn: &Conn| self.outside.resets.contains(&conn.key);
        let is_left = |conn: &Conn| conn.is_own || conn.read_closed || is_lost(conn);
        let own: Vec<ConnId> = self
            .conns
            .iter()
            .filter(|(_, conn)| conn.end.is_none() && is_left(conn))
            .map(|(id, _)| *id)
            .collect();
        own.into_iter().for_each(|id| self.close(net, id));
    }

    pub fn check_all_ended(&self, net: &Net) {
        for (id, conn) in &self.conns {
            assert!(conn.end.is_some(), "C1: {id}: no on_close: {conn:?}");
        }
        assert_eq!(net.conns().count(), 0, "C1: connections that nobody was told of");
    }

    pub fn close_listeners(&mut self, net: &mut Net) {
        for id in std::mem::take(&mut self.listeners) {
            assert!(net.close_listener(id), "C1: {id}: live, and not closed");
        }
    }
}
