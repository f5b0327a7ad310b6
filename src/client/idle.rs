//! Connections that nobody uses, each with the timer that ends it.

use std::time::Duration;

use crate::id::{ConnId, TimerId};
use crate::net::Net;

/// A connection that nobody uses.
#[derive(Debug, Clone, Copy)]
struct Idle {
    conn: ConnId,
    timer: Option<TimerId>,
}

/// The connections that nobody uses; the one that was used last is used next, so that those that
/// are not needed age.
#[derive(Debug, Default)]
pub(super) struct IdleConns {
    stack: Vec<Idle>,
}

impl IdleConns {
    pub(super) fn len(&self) -> usize {
        self.stack.len()
    }

    /// Keeps a connection, at most so long.
    pub(super) fn push(&mut self, net: &mut Net, conn: ConnId, left: Option<Duration>, token: u64) {
        let timer = left.and_then(|left| net.start_conn_timer(conn, left, token));
        self.stack.push(Idle { conn, timer });
    }

    /// Takes the connection that was used last.
    pub(super) fn pop(&mut self, net: &mut Net) -> Option<ConnId> {
        let idle = self.stack.pop()?;
        if let Some(timer) = idle.timer {
            net.cancel_timer(timer);
        }
        Some(idle.conn)
    }

    /// Takes out a connection that has ended, and its timer with it. Returns whether it was there.
    pub(super) fn remove(&mut self, conn: ConnId) -> bool {
        let found = self.stack.iter().position(|idle| idle.conn == conn);
        found.map(|at| self.stack.remove(at)).is_some()
    }

    /// Takes out the connection whose time is over.
    pub(super) fn expired(&mut self, timer: TimerId) -> Option<ConnId> {
        let at = self.stack.iter().position(|idle| idle.timer == Some(timer))?;
        Some(self.stack.remove(at).conn)
    }
}
