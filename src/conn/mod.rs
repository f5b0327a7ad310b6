//! A connection's record: its states, its bits, and what follows from them.
//!
//! Nothing here makes a system call or knows a handler; `net` performs the transitions.

mod addrs;
pub(crate) mod inbound;
pub(crate) mod outbound;
mod tally;

use std::net::SocketAddr;
use std::sync::Arc;

use crate::backend::Sock;
use crate::error::{CloseReason, Errno, TimeoutKind};
use crate::id::TimerId;
use crate::options::ConnOptions;
use crate::time::Time;

use addrs::Addrs;
use inbound::Kept;
use outbound::Outbound;
use tally::Tally;

/// How far a connection's life is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Dialled, not answered. Writes are queued.
    Connecting,
    Open,
    /// Closed by the handler: flush, FIN, linger. Only `on_close` follows.
    Closing,
    /// To be given away, once nothing is in flight. Only `on_release` and `on_close` follow.
    Releasing,
    /// Decided: waits for the backend's close and for `on_close`.
    Ended,
}

/// One bit each. The ready bits are cleared only when the backend says so (C11).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flags(u32);

impl Flags {
    pub(crate) const NONE: Flags = Flags(0);
    /// There may be something to receive.
    pub(crate) const READABLE: Flags = Flags(1);
    /// There may be room to send.
    pub(crate) const WRITABLE: Flags = Flags(1 << 1);
    /// The connect may be decided.
    pub(crate) const CONNECT_READY: Flags = Flags(1 << 2);
    /// The backend spoke of a reset or an error.
    pub(crate) const HANG_UP: Flags = Flags(1 << 3);
    /// The handler paused reading.
    pub(crate) const PAUSED: Flags = Flags(1 << 4);
    /// The handler paused within its own service: no more of it in this turn.
    pub(crate) const YIELD: Flags = Flags(1 << 5);
    /// Kept bytes are to be shown again without new ones.
    pub(crate) const SHOW_KEPT: Flags = Flags(1 << 6);
    /// The peer's FIN was read and, unless the connection was closing, told.
    pub(crate) const READ_CLOSED: Flags = Flags(1 << 7);
    /// A FIN is to follow the queue.
    pub(crate) const SHUTDOWN: Flags = Flags(1 << 8);
    /// The FIN was sent.
    pub(crate) const FIN_SENT: Flags = Flags(1 << 9);
    /// The backend has a send in flight.
    pub(crate) const IN_FLIGHT: Flags = Flags(1 << 10);
    /// A write was answered with `Pressured` or `Refused`: `on_writable` is owed (C9).
    pub(crate) const PRESSURED: Flags = Flags(1 << 11);
    /// A write was refused though the queue was below its low-water mark: only an empty queue
    /// has room for it.
    pub(crate) const WAIT_EMPTY: Flags = Flags(1 << 21);
    /// A write was refused for the loop's buffers, not this queue's.
    pub(crate) const STARVED: Flags = Flags(1 << 12);
    /// On the run list.
    pub(crate) const QUEUED: Flags = Flags(1 << 13);
    /// On the dirty list.
    pub(crate) const DIRTY: Flags = Flags(1 << 14);
    /// The backend was told to watch for room to send.
    pub(crate) const WATCH_WRITE: Flags = Flags(1 << 15);
    /// The backend was told not to watch for input.
    pub(crate) const UNWATCH_READ: Flags = Flags(1 << 16);
    /// The socket is to be closed with a reset.
    pub(crate) const RESET: Flags = Flags(1 << 17);
    /// The backend has begun to close the socket.
    pub(crate) const SOCK_CLOSING: Flags = Flags(1 << 18);
    /// The backend has closed the socket.
    pub(crate) const SOCK_CLOSED: Flags = Flags(1 << 19);
    /// `on_close` was called.
    pub(crate) const CLOSE_TOLD: Flags = Flags(1 << 20);

    /// It was adopted: neither `on_accept` nor `on_connect` has told of it.
    pub(crate) const ADOPTED: Flags = Flags(1 << 22);

    /// Each kind of work shows in one of these, or in the outbound queue.
    const BUSY: Flags = Flags::READABLE
        .or(Flags::CONNECT_READY)
        .or(Flags::HANG_UP)
        .or(Flags::SHOW_KEPT)
        .or(Flags::SHUTDOWN)
        .or(Flags::FIN_SENT)
        .or(Flags::PRESSURED);

    #[inline]
    pub(crate) const fn or(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// Returns whether any of these bits is set.
    #[inline]
    pub(crate) const fn any(self, of: Flags) -> bool {
        self.0 & of.0 != 0
    }

    /// Returns whether these bits are set and no others, apart from who opened the connection.
    #[inline]
    pub(crate) const fn are(self, bits: Flags) -> bool {
        self.0 & !Flags::ADOPTED.0 == bits.0
    }

    #[inline]
    pub(crate) fn set(&mut self, bits: Flags) {
        self.0 |= bits.0;
    }

    #[inline]
    pub(crate) fn clear(&mut self, bits: Flags) {
        self.0 &= !bits.0;
    }
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) sock: Sock,
    pub(crate) phase: Phase,
    pub(crate) flags: Flags,
    pub(crate) outbound: Outbound,
    /// Input the handler has not consumed; taken out while the handler looks at it.
    pub(crate) kept: Option<Box<Kept>>,
    pub(crate) options: Arc<ConnOptions>,
    pub(crate) addrs: Addrs,
    /// When a byte was last received or taken by the kernel.
    pub(crate) active_at: Time,
    /// When what has a deadline began: the connect; afterwards, if the queue holds anything, since
    /// when it has made no progress; behind a close the FIN, once it was sent. Otherwise `NEVER`.
    pub(crate) since: Time,
    /// The one timer for all deadlines of the connection. It is moved when a deadline comes
    /// nearer, never when one goes further away: that is found when it fires.
    pub(crate) deadline_timer: Option<TimerId>,
    pub(crate) received_bytes: u64,
    pub(crate) accepted_bytes: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) receives: u32,
    pub(crate) sends: u32,
    pub(crate) tally: Tally,
    /// Why it is closing or has ended.
    pub(crate) reason: CloseReason,
    /// A send failed; told as the reason after what can still be read.
    pub(crate) send_error: Option<Errno>,
    /// Of one that has ended, the accepted bytes that did not reach the kernel; of one that
    /// lingers, those that were read and discarded since its FIN was sent.
    pub(crate) lost_bytes: u64,
}

impl Conn {
    pub(crate) fn new(
        sock: Sock,
        phase: Phase,
        peer: SocketAddr,
        options: Arc<ConnOptions>,
        now: Time,
    ) -> Conn {
        Conn {
            sock,
            phase,
            flags: Flags::NONE,
            outbound: Outbound::EMPTY,
            kept: None,
            options,
            addrs: Addrs::new(peer),
            active_at: now,
            since: Time::NEVER,
            deadline_timer: None,
            received_bytes: 0,
            accepted_bytes: 0,
            sent_bytes: 0,
            receives: 0,
            sends: 0,
            tally: Tally::new(now),
            reason: CloseReason::LocalClose,
            send_error: None,
            lost_bytes: 0,
        }
    }

    /// Returns how many accepted bytes did not reach the kernel, once it has ended.
    pub(crate) fn dropped_bytes(&self) -> u64 {
        if self.phase == Phase::Ended { self.lost_bytes } else { 0 }
    }

    /// Returns whether a write is taken at all.
    #[inline]
    pub(crate) fn takes_writes(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Connecting)
            && !self.flags.any(Flags::SHUTDOWN)
            && self.send_error.is_none()
    }

    /// Returns whether the handler should be shown kept bytes or more input.
    #[inline]
    pub(crate) fn wants_read(&self) -> bool {
        self.phase == Phase::Open
            && !self.flags.any(Flags::PAUSED.or(Flags::READ_CLOSED))
            && (self.flags.any(Flags::READABLE)
                || (self.flags.any(Flags::SHOW_KEPT) && self.kept.is_some()))
    }

    /// Returns whether it is as most connections are most of the time: open, with these bits set
    /// and no others, and neither input that was kept nor an error to look at.
    #[inline]
    pub(crate) fn is_plain(&self, bits: Flags) -> bool {
        self.flags.are(bits)
            && self.phase == Phase::Open
            && self.kept.is_none()
            && self.send_error.is_none()
    }

    /// Returns whether kept bytes are to be shown again without new ones.
    #[inline]
    pub(crate) fn wants_show(&self) -> bool {
        self.flags.any(Flags::SHOW_KEPT) && self.wants_read() && self.kept.is_some()
    }

    /// Returns whether input has to be read and discarded, because the handler has closed.
    #[inline]
    pub(crate) fn wants_discard(&self) -> bool {
        self.phase == Phase::Closing
            && self.flags.any(Flags::READABLE)
            && !self.flags.any(Flags::READ_CLOSED)
    }

    /// Returns whether what is written now is likely to leave at the end of the service.
    #[inline]
    pub(crate) fn may_stage(&self) -> bool {
        self.flags.any(Flags::WRITABLE)
            && !self.flags.any(Flags::IN_FLIGHT)
            && self.phase == Phase::Open
    }

    /// Returns whether a send could be made.
    #[inline]
    pub(crate) fn wants_send(&self) -> bool {
        !self.outbound.is_empty()
            && self.flags.any(Flags::WRITABLE)
            && !self.flags.any(Flags::IN_FLIGHT)
            && matches!(self.phase, Phase::Open | Phase::Closing)
            && self.send_error.is_none()
    }

    /// Returns whether an event has to say when something can be sent; a connect that is done is
    /// reported as room to send, too.
    #[inline]
    pub(crate) fn awaits_room(&self) -> bool {
        self.phase == Phase::Connecting
            || (!self.outbound.is_empty() && !self.flags.any(Flags::WRITABLE.or(Flags::IN_FLIGHT)))
    }

    /// Returns whether the FIN is due.
    #[inline]
    pub(crate) fn wants_fin(&self) -> bool {
        self.flags.any(Flags::SHUTDOWN)
            && !self.flags.any(Flags::FIN_SENT.or(Flags::IN_FLIGHT))
            && self.outbound.is_empty()
            && matches!(self.phase, Phase::Open | Phase::Closing)
            && self.send_error.is_none()
    }

    /// Returns whether `on_writable` is due (C9).
    #[inline]
    pub(crate) fn wants_writable(&self) -> bool {
        self.flags.any(Flags::PRESSURED)
            && !self.flags.any(Flags::STARVED)
            && self.phase == Phase::Open
            && self.outbound.cost() <= self.options.low_water_bytes
            && (self.outbound.is_empty() || !self.flags.any(Flags::WAIT_EMPTY))
    }

    /// Returns whether a write was refused for the loop's buffers and may be tried again.
    #[inline]
    pub(crate) fn awaits_buffers(&self) -> bool {
        self.flags.any(Flags::STARVED) && matches!(self.phase, Phase::Open | Phase::Connecting)
    }

    /// Returns whether the socket has to be asked for an error, because reading will not find it
    /// (C13).
    #[inline]
    pub(crate) fn wants_verdict(&self) -> bool {
        let unread = Flags::PAUSED.or(Flags::READ_CLOSED);
        matches!(self.phase, Phase::Open | Phase::Closing)
            && ((self.flags.any(Flags::HANG_UP) && self.flags.any(unread))
                || (self.send_error.is_some()
                    && (self.flags.any(unread) || self.phase == Phase::Closing)))
    }

    /// Returns whether both sides have sent their FIN and nothing is left to do.
    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Closing)
            && self.flags.any(Flags::FIN_SENT)
            && self.flags.any(Flags::READ_CLOSED)
    }

    /// Returns whether there is work that needs no new event: the run list holds exactly the
    /// connections of which this is true (C11).
    #[inline]
    pub(crate) fn runnable(&self) -> bool {
        // Short-cuts for a connection that has something to read, and for one that has been served
        // and waits: nothing else is true of it.
        self.wants_read()
            || ((self.flags.any(Flags::BUSY) || !self.outbound.is_empty()) && self.has_work())
    }

    fn has_work(&self) -> bool {
        match self.phase {
            Phase::Connecting => self.flags.any(Flags::CONNECT_READY),
            Phase::Open | Phase::Closing => {
                self.wants_read()
                    || self.wants_send()
                    || self.wants_writable()
                    || self.wants_discard()
                    || self.wants_fin()
                    || self.wants_verdict()
                    || self.is_over()
            }
            Phase::Releasing | Phase::Ended => false,
        }
    }

    /// Returns the reason to end with when a deadline or a limit is passed: of a connection that is
    /// closing the first reason stands, unless `Net::close` has given it.
    pub(crate) fn reason_at_bound(&self, passed: CloseReason) -> CloseReason {
        let by_close = matches!(self.reason, CloseReason::LocalClose | CloseReason::PeerClosed);
        let stands = self.phase == Phase::Closing && !by_close;
        if stands { self.reason } else { passed }
    }

    /// Returns the nearest deadline and what it means; `NEVER` if there is none.
    pub(crate) fn deadline(&self) -> (Time, TimeoutKind) {
        let stall = self.since.after_nanos(self.options.write_stall_timeout.nanos());
        match self.phase {
            Phase::Connecting => {
                let timeout = self.options.connect_timeout.nanos();
                (self.since.after_nanos(timeout), TimeoutKind::Connect)
            }
            Phase::Open => {
                let idle = self.active_at.after_nanos(self.options.idle_timeout.nanos());
                if idle < stall {
                    (idle, TimeoutKind::Idle)
                } else {
                    (stall, TimeoutKind::WriteStall)
                }
            }
            Phase::Closing if self.flags.any(Flags::FIN_SENT) => {
                let timeout = self.options.linger_timeout.nanos();
                (self.since.after_nanos(timeout), TimeoutKind::Linger)
            }
            Phase::Closing | Phase::Releasing => (stall, TimeoutKind::WriteStall),
            Phase::Ended => (Time::NEVER, TimeoutKind::Linger),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Slots;

    #[test]
    fn a_record_and_its_slot_have_a_size() {
        assert_eq!((size_of::<Conn>(), Slots::<Conn>::SLOT_BYTES), (176, 188));
    }
}
