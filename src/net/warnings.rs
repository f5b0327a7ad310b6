//! What the loop writes to the log of connections that end, limits and paused listeners.
//!
//! A line that peers can bring about comes once per second and kind: see `throttle`. When the log
//! does not take warnings none of this costs more than a look at its level.

use crate::conn::Conn;
use crate::error::{CloseReason, LimitKind, ListenerError};
use crate::id::{ConnId, ListenerId};
use crate::net::Net;
use crate::throttle::{Suppressed, Throttle};

/// One throttle for each kind of line.
#[derive(Debug, Default)]
pub(crate) struct Warnings {
    outbound: Throttle,
    inbound: Throttle,
    kept: Throttle,
    linger: Throttle,
    buffers: Throttle,
    paused: Throttle,
    connections: Throttle,
    failed: Throttle,
}

impl Warnings {
    fn of_limit(&mut self, limit: LimitKind) -> &mut Throttle {
        match limit {
            LimitKind::Outbound => &mut self.outbound,
            LimitKind::Inbound => &mut self.inbound,
            LimitKind::Buffers => &mut self.kept,
            LimitKind::Linger => &mut self.linger,
        }
    }

    fn of_listener(&mut self, error: ListenerError) -> &mut Throttle {
        match error {
            ListenerError::Paused(_) => &mut self.paused,
            ListenerError::ConnectionLimit => &mut self.connections,
            ListenerError::Failed(_) => &mut self.failed,
        }
    }
}

impl Net {
    /// Writes one line about a connection that has ended: a warning if it was for a limit and it is
    /// time for one.
    pub(super) fn log_close(&mut self, id: ConnId, conn: &Conn) {
        let (peer, reason, dropped) = (conn.addrs.peer(), conn.reason, conn.dropped_bytes());
        match self.limit_passes(reason) {
            Some(more) => log::warn!("{id} {peer}: {reason}, {dropped} bytes not sent{more}"),
            None => log::debug!("{id} {peer}: {reason}, {dropped} bytes not sent"),
        }
    }

    fn limit_passes(&mut self, reason: CloseReason) -> Option<Suppressed> {
        match reason {
            CloseReason::Limit(limit) if log::log_enabled!(log::Level::Warn) => {
                self.warnings.of_limit(limit).pass(self.now)
            }
            _ => None,
        }
    }

    /// Warns that a write was refused because all connections together hold too much.
    pub(super) fn warn_of_buffers(&mut self, id: ConnId) {
        if !log::log_enabled!(log::Level::Warn) {
            return;
        }
        let Some(more) = self.warnings.buffers.pass(self.now) else { return };
        let (buffered, limit) = (self.buffered_bytes, self.write_limit);
        log::warn!(
            "{id}: a write is refused, all connections together hold {buffered} of the {limit} \
             bytes there are for writes{more}"
        );
    }

    /// Warns that a listener has paused; an error is written of one that has failed.
    pub(super) fn warn_of_listener(&mut self, id: ListenerId, error: ListenerError) {
        let failed = matches!(error, ListenerError::Failed(_));
        let level = if failed { log::Level::Error } else { log::Level::Warn };
        if !log::log_enabled!(level) {
            return;
        }
        let Some(more) = self.warnings.of_listener(error).pass(self.now) else { return };
        if let Some(local) = self.listener_addr(id) {
            log::log!(level, "{id} {local}: {error}{more}");
        }
    }
}
