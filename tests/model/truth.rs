//! Whether what the loop says is true: reasons, totals.

use std::collections::BTreeSet;
use std::time::Duration;

use hotloop::{CloseReason, ConnId, LimitKind, Net, Time, TimeoutKind};

use crate::model::Model;
use crate::program::Dialled;
use crate::record::{Conn, Release};
use hotloop::sim::Dialect;

impl Model {
    /// A reason is given only if its cause is on record (C4).
    pub fn check_reason(&mut self, net: &Net, id: ConnId, reason: CloseReason, dropped: u64) {
        let conn = self.conns[&id].clone();
        let is_true = self.has_cause(net, id, &conn, reason, dropped);
        assert!(is_true, "C4: {id}: {reason:?} is not what has happened: {conn:?}");
        if let Release::Told { queued, .. } = conn.release {
            let told = if conn.has_panicked {
                CloseReason::HandlerPanicked
            } else {
                CloseReason::Released
            };
            assert_eq!((reason, dropped), (told, queued), "C4: {id}: it was given away");
        }
        if conn.is_aborted {
            assert_eq!(reason, CloseReason::LocalAbort, "C5: {id}: it was open and aborted");
        }
        if conn.is_closed && !conn.is_open {
            assert_eq!(reason, CloseReason::LocalClose, "C5: {id}: closed while connecting");
        }
    }

    fn has_cause(
        &mut self,
        net: &Net,
        id: ConnId,
        conn: &Conn,
        reason: CloseReason,
        dropped: u64,
    ) -> bool {
        let limits = conn.limits;
        let passed = |since: Time, ms: u64| net.now().since(since) >= Duration::from_millis(ms);
        match reason {
            // Only a close that lost nothing keeps this reason.
            CloseReason::PeerClosed => conn.read_closed && dropped == 0,
            CloseReason::Reset | CloseReason::Io(_) | CloseReason::Timeout(TimeoutKind::Kernel) => {
                self.blame_break(conn, reason);
                conn.is_open
            }
            CloseReason::LocalClose => conn.is_closed && dropped == 0 || !conn.is_open,
            CloseReason::LocalAbort => conn.is_aborted || conn.overridden,
            CloseReason::Timeout(TimeoutKind::Connect) => {
                conn.dialled.is_some() && !conn.is_open && passed(conn.begun, limits.connect_ms)
            }
            CloseReason::Timeout(TimeoutKind::Idle) => conn.has_been_idle(net, id),
            CloseReason::Timeout(TimeoutKind::WriteStall) => {
                // What was in flight may have got through after all.
                let may_be_none = self.setup.dialect == Dialect::Completion;
                (dropped > 0 || may_be_none) && conn.has_been_stuck(net)
            }
            CloseReason::Timeout(TimeoutKind::Linger) => {
                conn.is_closed && dropped == 0 && passed(conn.closed_at, limits.linger_ms)
            }
            CloseReason::Limit(LimitKind::Outbound) => conn.passed_outbound,
            CloseReason::Limit(LimitKind::Inbound) => conn.passed_inbound,
            CloseReason::Limit(LimitKind::Buffers) => self.setup.global_buffer_bytes < 1 << 28,
            CloseReason::Limit(LimitKind::Linger) => conn.is_closed && dropped == 0,
            CloseReason::ConnectFailed(_) => {
                self.blame_refusal(conn);
                conn.dialled.is_some() && !conn.is_open
            }
            CloseReason::HandlerPanicked => conn.has_panicked,
            CloseReason::Released => matches!(conn.release, Release::Told { .. }),
            _ => false,
        }
    }

    /// A connection has broken: its peer has done it, or a fault has.
    fn blame_break(&mut self, conn: &Conn, reason: CloseReason) {
        // The other end of a connection to ourselves does as it likes.
        let by_peer = conn.is_own || self.outside.resets.contains(&conn.key);
        if !by_peer || reason != CloseReason::Reset {
            self.blamed.broken += 1;
        }
    }

    /// A connect has failed: nobody was there, or a fault has turned it away.
    fn blame_refusal(&mut self, conn: &Conn) {
        let by_peer = self.outside.resets.contains(&conn.key);
        if conn.dialled == Some(Dialled::Server) && !by_peer {
            self.blamed.refused += 1;
        }
    }

    /// What was accepted is sent, queued or dropped, for all connections together (C8).
    pub fn check_totals(&self, net: &Net) {
        let stats = net.stats();
        let accounted = stats.sent_bytes + stats.queued_bytes + stats.dropped_bytes;
        assert_eq!(stats.accepted_bytes, accounted, "C8: the totals of the loop");
        let most = self.setup.max_connections;
        assert!(stats.connections <= most, "{} connections, and at most {most}", stats.connections);
    }
}

impl Model {
    /// The end of the program: from here on every answer is the default.
    pub fn calm(&mut self, net: &mut Net) {
        self.is_calm = true;
        self.outside.finished_early = self.outside.finished.clone();
        self.clock.cancel_all(net);
        self.adopt_loose(net);
    }

    /// Peers whose connections are paused here: they are not read from. Behind both FINs a reset
    /// means nothing any more.
    pub fn paused(&self) -> BTreeSet<u64> {
        let is_over = |conn: &Conn| conn.is_shut && self.outside.finished.contains(&conn.key);
        let is_paused = |conn: &&Conn| conn.is_live() && conn.is_open && conn.is_paused;
        let paused = self.conns.values().filter(is_paused);
        paused.filter(|conn| !is_over(conn)).map(|conn| conn.key).collect()
    }

    /// A paused connection learns that its peer has gone (C13).
    pub fn check_resets_are_told(&self, keys: &[u64]) {
        for (id, conn) in self.conns.iter().filter(|(_, conn)| keys.contains(&conn.key)) {
            assert!(conn.end.is_some(), "C13: {id}: paused, and its peer's reset is not told");
        }
    }

    pub fn resume_all(&mut self, net: &mut Net) {
        let ids: Vec<ConnId> = net.conns().collect();
        for id in ids {
            if net.resume_reading(id) {
                let conn = self.conns.get_mut(&id).expect("every id was given out");
                (conn.is_paused, conn.resumed) = (false, true);
            }
        }
    }

    /// Everybody is there, nothing goes wrong, and much time has passed (C9, C11, C13).
    pub fn check_nothing_is_owed(&self, net: &Net) {
        assert!(!self.wake_due, "C16: a wake was lost");
        self.mail.check_nothing_is_owed();
        for (id, conn) in self.conns.iter().filter(|(_, conn)| conn.end.is_none()) {
            // Its queue is read, and the longest linger is 20 seconds.
            let is_late = |since: Time| net.now().since(since) > Duration::from_secs(25);
            let is_overdue = conn.ends_since.is_some_and(is_late) && !conn.is_own;
            assert!(!is_overdue, "C5: {id} has to end: {conn:?}");
        }
        for (id, conn) in self.conns.iter().filter(|(id, _)| net.is_open(**id)) {
            // One that had waited in the backlog for a slot may be young.
            let is_young = net.now().since(conn.begun) < Duration::from_secs(10);
            let is_gone = self.outside.silent.contains(&conn.key);
            if !conn.is_open || is_young || is_gone || self.waits_for_itself(conn) {
                continue;
            }
            assert_eq!(net.queued_bytes(*id), 0, "C11: {id}: bytes are queued: {conn:?}");
            assert!(!conn.pressure.is_owed(), "C9: {id}: on_writable is owed: {conn:?}");
            assert_eq!(conn.left, 0, "C13: {id}: kept bytes were not shown: {conn:?}");
            if !conn.read_closed {
                let sent = self.sent_to(conn);
                assert_eq!(conn.consumed, sent, "C11: {id}: bytes were not shown: {conn:?}");
                let finished = self.outside.finished.contains(&conn.key) && !conn.is_own;
                assert!(!finished, "C11: {id}: the end was not told: {conn:?}");
            }
        }
    }

    /// A connection to ourselves that was not accepted: there may be no descriptor for it.
    fn waits_for_itself(&self, conn: &Conn) -> bool {
        let is_other = |other: &Conn| other.key == conn.key && other.dialled.is_none();
        conn.is_own && conn.dialled.is_some() && !self.conns.values().any(is_other)
    }

    /// Closes what nobody outside will end: connections to ourselves, or to who has gone.
    pub fn close_own(&mut self, net: &mut Net) {
        let open = |conn: &&Conn| conn.end.is_none();
        let is_gone = |conn: &Conn| self.outside.silent.contains(&conn.key);
        let own: Vec<ConnId> = self
            .conns
            .iter()
            .filter(|(_, conn)| open(conn) && (conn.is_own || conn.read_closed || is_gone(conn)))
            .map(|(id, _)| *id)
            .collect();
        own.into_iter().for_each(|id| self.close(net, id));
    }

    pub fn has_ended(&self) -> bool {
        self.conns.values().all(|conn| conn.end.is_some())
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
