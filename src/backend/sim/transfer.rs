//! Receiving and sending, as a simulated kernel does it in both dialects.

use crate::backend::{Recv, Send, Sock};
use crate::error::Errno;
use crate::recv_memory::{Lent, RecvMemory};
use crate::segment::Pieces;
use crate::sys::errno::{ECANCELED, ECONNRESET, EHOSTUNREACH, ENOBUFS, ENOMEM, EPIPE, ETIMEDOUT};
use crate::time::Time;

use super::end::{End, EndIndex, Fin, Flight, Stage, copy_out};
use super::network::{Action, Network, Packet};
use super::options::Dialect;
use super::trace::HostIndex;
use crate::fault::Fault;

const SEND_ERRORS: &[i32] = &[EPIPE, ECONNRESET, ENOBUFS, EHOSTUNREACH];
const RECV_ERRORS: &[i32] = &[ECONNRESET, ETIMEDOUT, EHOSTUNREACH, ENOMEM];
/// Lent buffers lie in turn in so many parts of the receive memory, so that a stale one shows.
const LENT_PARTS: usize = 4;

/// How much later than usual what is late comes, in microseconds.
const LATE_MICROS: u64 = 50_000;

impl Network {
    pub(super) fn recv(
        &mut self,
        host: HostIndex,
        conn: &Sock,
        memory: &mut RecvMemory,
        max_bytes: usize,
    ) -> Recv {
        let index = self.socket_end(host, conn);
        if self.machines[host].dialect == Dialect::Completion {
            return self.recv_arrived(host, index, memory, max_bytes);
        }
        let most = memory.space().len().min(max_bytes);
        let there = self.end_mut(index).readable_bytes().min(most);
        if there == 0 {
            return self.recv_end(host, index);
        }
        if let Some(other) = self.disturb_recv(host, index) {
            return other;
        }
        let is_short = self.fault(host, Fault::ShortRead);
        let count = if is_short { self.random.up_to(there) } else { there };
        self.end_mut(index).take(&mut memory.space()[..count]);
        self.tell_room(index);
        // As on epoll: a receive stops short only where the queue ends, or at something that the
        // last event told of or the next one will. One that stops short for no reason proves
        // nothing.
        let drained = count < most && !conn.exhaust && !is_short;
        Recv::Data { lent: memory.lend(0, count, None), drained }
    }

    /// Receives from the backend's own buffers.
    fn recv_arrived(
        &mut self,
        host: HostIndex,
        index: EndIndex,
        memory: &mut RecvMemory,
        max_bytes: usize,
    ) -> Recv {
        let end = self.end_mut(index);
        if end.arrived.is_empty() {
            // What has happened since the last report is not known yet; an event says so.
            return if end.end_shown { self.recv_end(host, index) } else { Recv::WouldBlock };
        }
        if let Some(other) = self.disturb_recv(host, index) {
            return other;
        }
        let part = memory.space().len() / LENT_PARTS;
        let is_short = self.fault(host, Fault::ShortRead);
        let there = self.end_mut(index).arrived.len().min(max_bytes).min(part);
        let count = if is_short { self.random.up_to(there) } else { there };
        let machine = &mut self.machines[host];
        let has_free = machine.lent.len() < LENT_PARTS;
        assert!(has_free, "{}: all buffers are lent, and none was released", machine.name);
        let buffer = machine.next_buffer;
        machine.next_buffer = machine.next_buffer.wrapping_add(1);
        machine.lent.insert(buffer);
        let start = buffer as usize % LENT_PARTS * part;
        let end = self.end_mut(index);
        copy_out(&mut end.arrived, &mut memory.space()[start..][..count]);
        let drained = end.arrived.is_empty() && end.unread.is_empty() && !end.is_at_end();
        Recv::Data { lent: memory.lend(start, count, Some(buffer)), drained }
    }

    /// Answers a receive that found no byte, as `tcp_recvmsg` does.
    fn recv_end(&mut self, host: HostIndex, index: EndIndex) -> Recv {
        let end = self.end_mut(index);
        if end.stage == Stage::Connecting {
            panic!("{}: ENOTCONN: a receive before the connect is done", self.machines[host].name);
        }
        if end.fin_in {
            return Recv::Eof;
        }
        match end.take_error() {
            Some(errno) => Recv::Failed(Errno(errno)),
            None if end.is_dead() => Recv::Eof,
            None => Recv::WouldBlock,
        }
    }

    /// Draws whether a receive of bytes that are there goes wrong.
    fn disturb_recv(&mut self, host: HostIndex, index: EndIndex) -> Option<Recv> {
        if self.fault(host, Fault::ReadBlocked) {
            self.plan_wake(index);
            return Some(Recv::WouldBlock);
        }
        if self.fault(host, Fault::RecvError) {
            let errno = RECV_ERRORS[self.random.index(RECV_ERRORS.len())];
            if errno == ENOMEM {
                // The socket itself could go on.
                return Some(Recv::Failed(Errno(errno)));
            }
            self.break_off(index);
            let end = self.end_mut(index);
            (end.error, end.watch_read) = (None, true);
            end.unread.clear();
            end.arrived.clear();
            return Some(Recv::Failed(Errno(errno)));
        }
        None
    }

    /// Breaks a connection on both ends.
    fn break_off(&mut self, index: EndIndex) {
        if self.end_mut(index).stage == Stage::Open {
            self.dispatch(index, Packet::Rst);
        }
        self.kill(index, ECONNRESET);
    }

    pub(super) fn release(&mut self, host: HostIndex, lent: &Lent) {
        let buffer = lent.buffer.expect("only a buffer is released");
        let was_lent = self.machines[host].lent.remove(&buffer);
        assert!(was_lent, "a buffer is released once: {lent:?}");
    }

    pub(super) fn send(&mut self, host: HostIndex, conn: &Sock, pieces: Pieces<'_>) -> Send {
        let index = self.socket_end(host, conn);
        let total: usize = pieces.clone().map(|piece| piece.bytes.len()).sum();
        assert!(total > 0, "there is something to send");
        if self.machines[host].dialect == Dialect::Completion {
            return self.send_later(host, index, pieces);
        }
        if let Some(errno) = self.send_error(host, index) {
            return Send::Failed(errno);
        }
        let room = self.end_mut(index).room();
        if room > 0 && self.fault(host, Fault::WriteBlocked) {
            self.plan_wake(index);
            return Send::WouldBlock;
        }
        if room == 0 {
            self.end_mut(index).no_space = true;
            return Send::WouldBlock;
        }
        let most = total.min(room);
        let is_short = self.fault(host, Fault::ShortWrite);
        let bytes = if is_short { self.random.up_to(most) } else { most };
        let mut blocked = bytes < total;
        self.end_mut(index).no_space |= blocked && !is_short;
        if is_short && blocked {
            // Short for no reason: either another try goes on, or an event says when.
            blocked = self.random.below(2) == 0;
            if blocked {
                self.plan_wake(index);
            }
        }
        take_pieces(self.end_mut(index), pieces, bytes);
        self.transmit(index);
        Send::Done { bytes, blocked }
    }

    /// Returns what a send fails with, if it does, as `sk_stream_error` has it.
    fn send_error(&mut self, host: HostIndex, index: EndIndex) -> Option<Errno> {
        if self.fault(host, Fault::SendError) {
            let errno = SEND_ERRORS[self.random.index(SEND_ERRORS.len())];
            if matches!(errno, EPIPE | ECONNRESET) {
                self.break_off(index);
                self.end_mut(index).error = None;
            }
            return Some(Errno(errno));
        }
        let end = self.end_mut(index);
        let is_shut = end.is_dead() || end.fin != Fin::No;
        is_shut.then(|| Errno(end.error.take().unwrap_or(EPIPE)))
    }

    fn send_later(&mut self, host: HostIndex, index: EndIndex, pieces: Pieces<'_>) -> Send {
        let end = self.end_mut(index);
        assert!(end.flight.is_none(), "one send in flight at a time");
        let at = self.completion_at(host);
        self.end_mut(index).flight = Some(Flight::new(pieces, at));
        self.queue.plan(at, Action::Land { end: index });
        Send::InFlight
    }

    /// Draws when something in flight is done.
    pub(super) fn completion_at(&mut self, host: HostIndex) -> Time {
        let late = self.fault(host, Fault::LateCompletion);
        if late { self.within_micros(LATE_MICROS) } else { self.now }
    }

    /// Finishes a send in flight as far as there is room, or fails it.
    pub(super) fn land(&mut self, index: EndIndex) {
        let now = self.now;
        let Some(end) = self.ends[index].as_mut() else { return };
        let (host, is_dead, stuck) = (end.host, end.is_dead(), end.room() == 0);
        let flight = end.flight.take_if(|one| is_dead || (!stuck && one.due <= now));
        let Some(flight) = flight else { return };
        flight.check();
        let result = match self.send_error(host, index) {
            Some(errno) => Err(errno),
            None => Ok(self.land_bytes(host, index, &flight.copy)),
        };
        self.complete_send(index, result);
    }

    fn land_bytes(&mut self, host: HostIndex, index: EndIndex, data: &[u8]) -> usize {
        let is_short = self.fault(host, Fault::ShortWrite);
        let most = data.len().min(self.end_mut(index).room());
        let bytes = if is_short { self.random.up_to(most) } else { most };
        self.end_mut(index).unsent.extend(&data[..bytes]);
        self.transmit(index);
        bytes
    }

    /// Ends a send in flight because its socket is closed: some of it may have been sent.
    pub(super) fn cancel_flight(&mut self, index: EndIndex) {
        let Some(flight) = self.end_mut(index).flight.take() else { return };
        flight.check();
        let end = self.end_mut(index);
        let most = flight.copy.len().min(end.room());
        let sendable = end.stage == Stage::Open && end.fin == Fin::No && most > 0;
        if !sendable || self.random.below(2) == 0 {
            return self.complete_send(index, Err(Errno(ECANCELED)));
        }
        let bytes = self.random.up_to(most);
        self.end_mut(index).unsent.extend(&flight.copy[..bytes]);
        self.transmit(index);
        self.complete_send(index, Ok(bytes));
    }
}

/// Takes the first `bytes` of the pieces into the send buffer.
fn take_pieces(end: &mut End, pieces: Pieces<'_>, bytes: usize) {
    let mut left = bytes;
    for piece in pieces {
        let taken = left.min(piece.bytes.len());
        end.unsent.extend(&piece.bytes[..taken]);
        left -= taken;
        if left == 0 {
            return;
        }
    }
}
