//! One connection's service: connect, read and deliver, end of stream, error, flush, crossing.

use crate::backend::Recv;
use crate::conn::Flags;
use crate::conn::inbound::Kept;
use crate::event_loop::Loop;
use crate::handler::Handler;
use crate::id::ConnId;
use crate::net::{Net, ReadBudget};
use crate::recv_memory::Lent;

impl Loop {
    /// Serves a connection that had something to read and nothing else. As soon as anything else
    /// turns up it goes on as with any other: this does no more than that, in fewer steps.
    #[inline]
    pub(super) fn serve_received<H: Handler + ?Sized>(
        &mut self,
        handler: &mut H,
        id: ConnId,
        got: Recv,
        budget: ReadBudget,
    ) {
        match &got {
            Recv::Data { lent, drained: true } if lent.buffer.is_none() => {
                self.deliver_space(handler, id, lent);
            }
            _ => {
                self.take_in(handler, id, got, None);
                self.read(handler, id, budget);
            }
        }
        self.end_service(handler, id);
    }

    /// Serves an open connection that was on the run list.
    #[inline]
    pub(super) fn serve_open<H: Handler + ?Sized>(
        &mut self,
        handler: &mut H,
        id: ConnId,
        show_kept: bool,
        budget: ReadBudget,
    ) {
        if show_kept {
            self.show_kept(handler, id);
        }
        self.read(handler, id, budget);
        self.end_service(handler, id);
    }

    /// Serves a connection whose connect may be decided.
    pub(super) fn serve_connecting<H: Handler + ?Sized>(
        &mut self,
        handler: &mut H,
        id: ConnId,
        budget: ReadBudget,
    ) {
        if self.net.finish_connect(id) {
            self.net.enter(id);
            handler.on_connect(&mut self.net, id);
            self.net.leave();
            self.read(handler, id, budget);
        }
        self.end_service(handler, id);
    }

    /// Does what follows the callbacks of a service: flushes and, if that leaves work, sees to it.
    #[inline]
    pub(super) fn end_service<H: Handler + ?Sized>(&mut self, handler: &mut H, id: ConnId) {
        if self.net.flush_conn(id) {
            self.finish_service(handler, id);
        }
        self.net.serving = None;
    }

    /// Discards what a closed connection received, looks for the error nobody reads up to, tells
    /// of the crossing, and leaves the rest to the run list.
    fn finish_service<H: Handler + ?Sized>(&mut self, handler: &mut H, id: ConnId) {
        self.net.discard_input(id, &mut self.memory);
        self.net.take_verdict(id);
        if self.net.crossed(id) {
            self.net.enter(id);
            handler.on_writable(&mut self.net, id);
            self.net.leave();
            self.net.flush_conn(id);
        }
        self.net.settle(id);
        self.net.serving = None;
        self.net.schedule(id);
    }

    /// Reads and delivers until the backend has no more, the budget is used up, or the handler
    /// pauses or closes.
    fn read<H: Handler + ?Sized>(&mut self, handler: &mut H, id: ConnId, mut budget: ReadBudget) {
        while let Some((got, kept)) = self.net.recv(id, &mut self.memory, &mut budget) {
            self.take_in(handler, id, got, kept);
        }
    }

    /// Delivers what a receive came to, behind the bytes that are kept.
    fn take_in<H: Handler + ?Sized>(
        &mut self,
        handler: &mut H,
        id: ConnId,
        got: Recv,
        kept: Option<Box<Kept>>,
    ) {
        match (got, kept) {
            (Recv::Data { lent, .. }, None) => self.deliver(handler, id, lent),
            (Recv::Data { lent, .. }, Some(kept)) => self.deliver_behind(handler, id, kept, lent),
            (Recv::Eof, _) => {
                if self.net.read_ended(id) {
                    self.deliver_read_closed(handler, id);
                }
            }
            (Recv::WouldBlock, _) => self.net.read_blocked(id),
            (Recv::Failed(errno), _) => self.net.fail(id, errno),
        }
    }

    /// Shows received bytes to the handler behind those it has not consumed.
    fn deliver_behind<H: Handler + ?Sized>(
        &mut self,
        handler: &mut H,
        id: ConnId,
        mut kept: Box<Kept>,
        lent: Lent,
    ) {
        self.net.grow_kept(&mut kept, self.memory.resolve(&lent));
        self.shown = Some(kept);
        self.release(lent);
        self.deliver_shown(handler, id);
    }

    /// Shows received bytes to the handler.
    fn deliver<H: Handler + ?Sized>(&mut self, handler: &mut H, id: ConnId, lent: Lent) {
        if lent.buffer.is_some() {
            self.deliver_buffer(handler, id, lent);
        } else {
            self.deliver_space(handler, id, &lent);
        }
    }

    /// Shows received bytes that need not be given back.
    #[inline(always)]
    #[allow(clippy::indexing_slicing, reason = "`check_consumed` has seen that it is within")]
    fn deliver_space<H: Handler + ?Sized>(&mut self, handler: &mut H, id: ConnId, lent: &Lent) {
        let data = self.memory.resolve(lent);
        let consumed = show(handler, &mut self.net, id, data);
        if consumed < data.len() {
            self.net.keep(id, &data[consumed..]);
        }
    }

    /// Shows received bytes in a buffer of the backend, which is given back also after a panic.
    #[allow(clippy::indexing_slicing, reason = "`check_consumed` has seen that it is within")]
    fn deliver_buffer<H: Handler + ?Sized>(&mut self, handler: &mut H, id: ConnId, lent: Lent) {
        let data = self.memory.resolve(self.lent.insert(lent));
        let consumed = show(handler, &mut self.net, id, data);
        if consumed < data.len() {
            self.net.keep(id, &data[consumed..]);
        }
        if let Some(lent) = self.lent.take() {
            self.release(lent);
        }
    }

    /// Shows kept bytes again, without new ones.
    fn show_kept<H: Handler + ?Sized>(&mut self, handler: &mut H, id: ConnId) {
        self.shown = self.net.take_kept(id);
        self.deliver_shown(handler, id);
    }

    /// Delivers the bytes in `shown`, and puts back what is not consumed.
    fn deliver_shown<H: Handler + ?Sized>(&mut self, handler: &mut H, id: ConnId) {
        let Some(kept) = &self.shown else { return };
        let consumed = show(handler, &mut self.net, id, kept.unread());
        if let Some(mut kept) = self.shown.take() {
            kept.consume(consumed);
            self.net.put_kept(id, kept);
        }
    }

    /// Tells of the peer's FIN, with what was never consumed.
    fn deliver_read_closed<H: Handler + ?Sized>(&mut self, handler: &mut H, id: ConnId) {
        self.shown = self.net.take_kept(id);
        let rest = self.shown.as_ref().map_or(&[][..], |kept| kept.unread());
        self.net.enter(id);
        handler.on_read_closed(&mut self.net, id, rest);
        self.net.leave();
        if let Some(kept) = self.shown.take() {
            self.net.put_rest(id, kept);
        }
    }

    fn release(&mut self, lent: Lent) {
        if lent.buffer.is_some() {
            self.net.backend.release(lent);
        }
    }
}

impl Net {
    /// Notes whose callback begins, so that a panic in it can be put right (C6).
    #[inline]
    pub(super) fn enter(&mut self, id: ConnId) {
        self.callbacks += 1;
        self.calling = Some(id);
    }

    /// Notes that it has returned.
    #[inline]
    pub(super) fn leave(&mut self) {
        self.calling = None;
    }

    /// Returns whether `on_writable` is due, and owes it no longer.
    fn crossed(&mut self, id: ConnId) -> bool {
        let Some(conn) = self.conns.get_mut(id.0) else { return false };
        let due = conn.wants_writable();
        if due {
            conn.flags.clear(Flags::PRESSURED.or(Flags::WAIT_EMPTY));
        }
        due
    }
}

/// Shows bytes to the handler; returns how many it has consumed.
#[inline]
fn show<H: Handler + ?Sized>(handler: &mut H, net: &mut Net, id: ConnId, data: &[u8]) -> usize {
    net.enter(id);
    let consumed = handler.on_data(net, id, data);
    check_consumed(consumed, data.len());
    net.leave();
    consumed
}

/// # Panics
///
/// If a handler says that it has consumed more than it was given.
#[inline]
fn check_consumed(consumed: usize, given: usize) {
    assert!(consumed <= given, "C7: on_data consumed {consumed} of {given} bytes");
}
