//! A wrapper around a handler that asserts the contract, as far as it can be seen from outside.

#![allow(
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::unreachable,
    reason = "it is there to panic"
)]

mod conns;
mod others;
#[cfg(test)]
mod tests;
mod turns;

use std::ops::{Deref, DerefMut};

use crate::backend::Detached;
use crate::error::{CloseReason, ListenerError};
use crate::handler::Handler;
use crate::id::{ConnId, ListenerId, TimerId};
use crate::net::Net;

use conns::Conns;
use others::{Listeners, Timers};
use turns::Turns;

/// Wraps a handler and asserts, in every callback, each rule of the
/// [contract](crate#the-contract) that can be seen from outside.
///
/// It changes nothing: every callback is passed on, every answer is passed back. If the loop
/// breaks a rule, it panics with a message that begins with the rule and names the connection,
/// the listener or the timer:
///
/// ```text
/// C9: conn#3.1: on_writable with 20480 bytes of cost queued, the low-water mark is 16384
/// ```
///
/// It derefs to the handler, so that a test reaches its fields as before.
///
/// # When to use it
///
/// In every test: a mistake of the loop then shows as the rule it breaks, not as a symptom three
/// callbacks later. [`sim::World`](crate::sim::World) wraps each handler by itself. It is cheap
/// enough for staging, where it finds what only real peers and a real kernel can bring about.
///
/// # What it costs
///
/// A callback costs some 30 ns more, and so does a turn: about 1 % of an echo on a real socket. It
/// keeps 120 bytes for each slot that ever had a connection and 32 for each that had a timer, and
/// allocates only when there are more of either than there ever were. A message that stays
/// unconsumed is not read again: of what the handler left, the length and both ends are compared.
///
/// # What it sees
///
/// - **C1** `on_accept` or `on_connect` once and first, `on_close` once and last, for every id that
///   was handed out; the loop's own counts agree with what was called; an id is stale after its
///   `on_close`.
/// - **C2** No callback for a stale connection or listener; a slot's generations come one by one.
/// - **C3** Callbacks come within a turn, whose start and end alternate. That they do not nest
///   holds by construction: each borrows the handler.
/// - **C4** Each reason that has a visible cause had it, and bytes were dropped only where the
///   reason allows it.
/// - **C5** Nothing but `on_close` for a connection that is closing; getters work in it.
/// - **C6** After a panic in a callback, only `on_close` in a later turn, with a fitting reason.
/// - **C7** No empty `on_data`; what is shown is all that was received and not consumed, and begins
///   with what was left; nothing behind `on_read_closed`.
/// - **C8** accepted = sent + queued + dropped, per connection and in total; the cost is not below
///   the bytes nor above the hard limit; no count falls.
/// - **C9** `on_writable` at or below the low-water mark, once per turn, and only after a write
///   that was refused, or that was queued and has been sent since.
/// - **C12** The budgets of reads and accepts; one `on_timer` per timer and turn.
/// - **C13** No `on_data` and no `on_read_closed` while reading is paused.
/// - **C14** That a listener is paused is told once.
/// - **C15** A timer that repeats is never early, one that has fired for good or was cancelled does
///   not fire, and the clock does not go back.
/// - **C16** One `on_wake` per turn.
///
/// C10, C11 and C17 cannot be seen from here, nor when a timer that fires once was due.
///
/// # Panics
///
/// In every callback, if the loop breaks a rule. Also if it does not see every turn of its loop,
/// from the first one that it was given: it belongs to one loop, which runs no other handler.
/// Connections from before that turn are taken as they are found.
///
/// # Examples
///
/// ```
/// use hotloop::{Checked, Config, ConnId, Handler, Loop, Net};
///
/// #[derive(Default)]
/// struct Count {
///     bytes: usize,
/// }
///
/// impl Handler for Count {
///     fn on_data(&mut self, _: &mut Net, _: ConnId, data: &[u8]) -> usize {
///         self.bytes += data.len();
///         data.len()
///     }
/// }
///
/// fn main() -> std::io::Result<()> {
///     let mut event_loop = Loop::new(Config::default())?;
///     let mut handler = Checked::new(Count::default());
///     event_loop.net().listen("127.0.0.1:0")?;
///     # event_loop.net().stop();
///     event_loop.run(&mut handler)?;
///     println!("{} bytes", handler.bytes);
///     Ok(())
/// }
/// ```
#[derive(Debug, Default)]
pub struct Checked<H> {
    inner: H,
    turns: Turns,
    conns: Conns,
    listeners: Listeners,
    timers: Timers,
}

impl<H> Checked<H> {
    /// Wraps a handler.
    pub fn new(handler: H) -> Checked<H> {
        Checked {
            inner: handler,
            turns: Turns::default(),
            conns: Conns::default(),
            listeners: Listeners::default(),
            timers: Timers::default(),
        }
    }

    /// Returns the handler.
    pub fn inner(&self) -> &H {
        &self.inner
    }

    /// Returns the handler, to change it.
    pub fn inner_mut(&mut self) -> &mut H {
        &mut self.inner
    }

    /// Unwraps the handler.
    pub fn into_inner(self) -> H {
        self.inner
    }

    /// Asserts that every connection has had its `on_close`, for a test that has closed all.
    ///
    /// # Panics
    ///
    /// If one has not, naming it (C1).
    pub fn assert_all_closed(&self, net: &Net) {
        self.conns.assert_all_closed(net);
    }

    /// Notes that a callback about a connection has returned.
    #[inline]
    fn leave(&mut self, conn: ConnId) {
        self.turns.leave();
        self.conns.leave(conn);
    }
}

impl<H> Deref for Checked<H> {
    type Target = H;

    fn deref(&self) -> &H {
        &self.inner
    }
}

impl<H> DerefMut for Checked<H> {
    fn deref_mut(&mut self) -> &mut H {
        &mut self.inner
    }
}

impl<H: Handler> Handler for Checked<H> {
    fn on_accept(&mut self, net: &mut Net, conn: ConnId, listener: ListenerId) {
        self.turns.enter(net, "on_accept", &conn);
        self.turns.seen.accepted += 1;
        self.listeners.accept(&self.turns, net, conn, listener);
        self.conns.accept(&self.turns, net, conn);
        self.inner.on_accept(net, conn, listener);
        self.leave(conn);
    }

    fn on_connect(&mut self, net: &mut Net, conn: ConnId) {
        self.turns.enter(net, "on_connect", &conn);
        self.conns.connect(&self.turns, net, conn);
        self.inner.on_connect(net, conn);
        self.leave(conn);
    }

    fn on_data(&mut self, net: &mut Net, conn: ConnId, data: &[u8]) -> usize {
        self.turns.enter(net, "on_data", &conn);
        self.conns.data(&self.turns, net, conn, data);
        let consumed = self.inner.on_data(net, conn, data);
        // Over more than it has given the loop panics, and takes that for a panic in here.
        if let Some(rest) = data.get(consumed..) {
            self.turns.leave();
            self.conns.consumed(conn, consumed, rest);
        }
        consumed
    }

    fn on_writable(&mut self, net: &mut Net, conn: ConnId) {
        self.turns.enter(net, "on_writable", &conn);
        self.conns.writable(&self.turns, net, conn);
        self.inner.on_writable(net, conn);
        self.leave(conn);
    }

    fn on_read_closed(&mut self, net: &mut Net, conn: ConnId, rest: &[u8]) {
        self.turns.enter(net, "on_read_closed", &conn);
        self.conns.read_closed(&self.turns, net, conn, rest);
        self.inner.on_read_closed(net, conn, rest);
        self.leave(conn);
    }

    fn on_release(&mut self, net: &mut Net, conn: ConnId, detached: Detached) {
        self.turns.enter(net, "on_release", &conn);
        self.conns.release(&self.turns, net, conn, &detached);
        self.inner.on_release(net, conn, detached);
        self.leave(conn);
    }

    fn on_close(&mut self, net: &mut Net, conn: ConnId, reason: CloseReason, dropped_bytes: u64) {
        self.turns.enter(net, "on_close", &conn);
        self.turns.closed(conn, reason);
        self.conns.close(&self.turns, net, conn, reason, dropped_bytes);
        self.inner.on_close(net, conn, reason, dropped_bytes);
        self.leave(conn);
    }

    fn on_timer(&mut self, net: &mut Net, timer: TimerId, token: u64) {
        self.turns.enter(net, "on_timer", &timer);
        self.turns.seen.timers_fired += 1;
        self.timers.fire(&self.turns, net, timer);
        self.inner.on_timer(net, timer, token);
        self.turns.leave();
    }

    fn on_wake(&mut self, net: &mut Net) {
        self.turns.enter(net, "on_wake", &"the loop");
        self.turns.wake();
        self.inner.on_wake(net);
        self.turns.leave();
    }

    fn on_listener_error(&mut self, net: &mut Net, listener: ListenerId, error: ListenerError) {
        self.turns.enter(net, "on_listener_error", &listener);
        self.listeners.error(net, listener, error);
        self.inner.on_listener_error(net, listener, error);
        self.turns.leave();
    }

    fn on_turn_start(&mut self, net: &mut Net) {
        if self.turns.start(net) {
            self.conns.join(net);
        }
        self.inner.on_turn_start(net);
        self.turns.leave();
    }

    fn on_turn_end(&mut self, net: &mut Net) {
        self.turns.end(net);
        self.inner.on_turn_end(net);
        self.turns.ended();
    }
}
