//! Folding events into ready bits, and the run list. No callback is called here, so that a whole
//! batch of events survives a panic, and stale ones are recognised in one place (C2).

use crate::backend::{Event, Recv};
use crate::conn::{Conn, Flags, Phase};
use crate::error::Errno;
use crate::id::{ConnId, Kind, ListenerId};
use crate::net::Net;
use crate::net::read::{ReadBudget, receive};
use crate::net::run_list::RunList;
use crate::recv_memory::RecvMemory;

/// What is to be served next.
pub(crate) enum Next {
    Listener(ListenerId),
    Connecting(ConnId),
    /// It has something to read and nothing else: what a first receive has come to.
    Received(ConnId, Recv),
    /// And whether kept bytes are to be shown again without new ones.
    Open(ConnId, bool),
    Closing(ConnId),
    /// It ended while it was on the run list.
    Gone,
}

impl Net {
    /// Folds one event.
    #[inline]
    pub(crate) fn fold(&mut self, event: Event) {
        self.stats.events += 1;
        match event {
            Event::Ready { key, readable, writable, hang_up, exhaust } => match key.kind() {
                Some(Kind::Conn) => {
                    let readable = if readable { Flags::READABLE } else { Flags::NONE };
                    let writable = if writable { Flags::WRITABLE } else { Flags::NONE };
                    let hang_up = if hang_up { Flags::HANG_UP } else { Flags::NONE };
                    self.conn_ready(ConnId(key), readable.or(writable).or(hang_up), exhaust);
                }
                _ => self.listener_ready(ListenerId(key)),
            },
            Event::Sent { key, result } => self.send_finished(ConnId(key), result),
            Event::Ended { key } => self.sock_ended(ConnId(key)),
        }
    }

    #[inline]
    fn conn_ready(&mut self, id: ConnId, bits: Flags, exhaust: bool) {
        let Some(conn) = self.conns.get_mut(id.0) else {
            self.stats.stale_events += 1;
            return;
        };
        conn.sock.exhaust = exhaust;
        conn.flags.set(bits);
        if conn.phase == Phase::Connecting {
            conn.flags.set(Flags::CONNECT_READY);
        }
        enqueue(&mut self.run, conn);
    }

    fn listener_ready(&mut self, id: ListenerId) {
        match self.listeners.get_mut(id.0) {
            Some(listener) => listener.ready = true,
            None => self.stats.stale_events += 1,
        }
        self.schedule_listener(id);
    }

    fn send_finished(&mut self, id: ConnId, result: Result<usize, Errno>) {
        let Some(conn) = self.conns.get_mut(id.0) else {
            self.stats.stale_events += 1;
            return;
        };
        conn.flags.clear(Flags::IN_FLIGHT);
        match result {
            Ok(bytes) if conn.phase == Phase::Ended => {
                // The queue was dropped while these bytes were on their way.
                conn.lost_bytes -= bytes as u64;
                conn.sent_bytes += bytes as u64;
                self.stats.sent_bytes += bytes as u64;
                self.stats.dropped_bytes -= bytes as u64;
            }
            Ok(bytes) => self.sent(id, bytes),
            Err(errno) if conn.phase == Phase::Releasing => self.fail(id, errno),
            Err(errno) => self.send_failed(id, errno),
        }
        self.release_when_idle(id);
        self.schedule(id);
    }

    fn sock_ended(&mut self, id: ConnId) {
        // A listener's slot does not wait for its socket.
        if let Some(conn) = self.conns.get_mut(id.0) {
            conn.flags.set(Flags::SOCK_CLOSED);
            self.closings.push_back(id);
        }
    }

    /// Puts a connection on the run list if it has work that needs no new event (C11). The one
    /// that is being served is looked at when its service ends.
    #[inline]
    pub(crate) fn schedule(&mut self, id: ConnId) {
        if self.serving == Some(id.0) {
            return;
        }
        if let Some(conn) = self.conns.get_mut(id.0) {
            enqueue(&mut self.run, conn);
        }
    }

    /// Puts a listener on the run list if an accept should be tried.
    pub(crate) fn schedule_listener(&mut self, id: ListenerId) {
        if let Some(listener) = self.listeners.get_mut(id.0) {
            if listener.runnable() && !listener.queued {
                listener.queued = true;
                self.run.push(id.0);
            }
        }
    }

    /// Takes the next connection or listener off the run list and makes it the served one. Of a
    /// connection that has something to read and nothing else it receives as well, which spares
    /// most services looking it up once more.
    #[inline]
    pub(crate) fn next_to_serve(
        &mut self,
        memory: &mut RecvMemory,
        budget: &mut ReadBudget,
    ) -> Option<Next> {
        let key = self.run.next()?;
        self.serving = Some(key);
        if key.kind() == Some(Kind::Listener) {
            if let Some(listener) = self.listeners.get_mut(key) {
                listener.queued = false;
            }
            return Some(Next::Listener(ListenerId(key)));
        }
        let Some(conn) = self.conns.get_mut(key) else { return Some(Next::Gone) };
        conn.flags.clear(Flags::QUEUED.or(Flags::YIELD));
        if conn.is_plain(Flags::READABLE.or(Flags::WRITABLE)) && conn.outbound.is_empty() {
            let got = receive(conn, &mut *self.backend, memory, budget, self.now, &mut self.stats);
            return Some(Next::Received(ConnId(key), got));
        }
        Some(match conn.phase {
            Phase::Connecting => Next::Connecting(ConnId(key)),
            Phase::Open => Next::Open(ConnId(key), conn.wants_show()),
            Phase::Closing | Phase::Releasing | Phase::Ended => Next::Closing(ConnId(key)),
        })
    }

    /// Sets bits of a connection.
    pub(crate) fn mark_flag(&mut self, id: ConnId, bits: Flags) {
        if let Some(conn) = self.conns.get_mut(id.0) {
            conn.flags.set(bits);
        }
    }

    /// Clears bits of a connection.
    pub(crate) fn clear_flag(&mut self, id: ConnId, bits: Flags) {
        if let Some(conn) = self.conns.get_mut(id.0) {
            conn.flags.clear(bits);
        }
    }

    /// Sets bits of a connection that give it work.
    pub(crate) fn mark(&mut self, id: ConnId, bits: Flags) {
        self.mark_flag(id, bits);
        self.schedule(id);
    }
}

/// Puts a connection at the end of the run list, once, if it has work.
#[inline]
fn enqueue(run: &mut RunList, conn: &mut Conn) {
    if conn.runnable() && !conn.flags.any(Flags::QUEUED) {
        conn.flags.set(Flags::QUEUED);
        run.push(conn.sock.key);
    }
}
