//! The trait a user implements.

use crate::backend::Detached;
use crate::error::{CloseReason, ListenerError};
use crate::id::{ConnId, ListenerId, TimerId};
use crate::net::Net;

/// What happens on a loop, told one callback at a time.
///
/// Everything but [`on_data`](Handler::on_data) has a default. Every callback is given the
/// [`Net`], with which it may do anything to any connection, listener or timer.
///
/// # Re-entrancy
///
/// Callbacks never nest (contract C3): nothing in `Net` calls the handler. What a callback causes
/// is remembered and delivered later in the same turn or in the next one.
///
/// # Panics
///
/// A panic in a callback unwinds out of [`Loop::run`](crate::Loop::run) or
/// [`Loop::turn`](crate::Loop::turn) and leaves the loop consistent (C6): it can be run again or
/// dropped. The connection whose callback panicked is aborted, and its `on_close` comes with
/// [`CloseReason::HandlerPanicked`] when the loop runs again. A timer whose `on_timer` panicked
/// counts as fired, an `on_close` that panicked as delivered.
///
/// # Examples
///
/// A server that greets, counts, and says who has gone:
///
/// ```
/// use hotloop::{CloseReason, ConnId, Handler, ListenerId, Net};
///
/// #[derive(Default)]
/// struct Server {
///     received_bytes: u64,
/// }
///
/// impl Handler for Server {
///     fn on_accept(&mut self, net: &mut Net, conn: ConnId, _: ListenerId) {
///         net.write(conn, b"welcome\n");
///     }
///
///     fn on_data(&mut self, _: &mut Net, _: ConnId, data: &[u8]) -> usize {
///         self.received_bytes += data.len() as u64;
///         data.len()
///     }
///
///     fn on_close(&mut self, _: &mut Net, conn: ConnId, reason: CloseReason, dropped_bytes: u64) {
///         println!("{conn}: {reason}, {dropped_bytes} bytes not sent");
///     }
/// }
/// # let _ = Server::default();
/// ```
pub trait Handler {
    /// An incoming connection is open. Called once for each accepted connection, before any other
    /// callback about it.
    fn on_accept(&mut self, net: &mut Net, conn: ConnId, listener: ListenerId) {
        let _ = (net, conn, listener);
    }

    /// An outgoing connection is open. Called at most once for each [`Net::connect`]; a connect
    /// that fails is told by [`on_close`](Handler::on_close) alone.
    fn on_connect(&mut self, net: &mut Net, conn: ConnId) {
        let _ = (net, conn);
    }

    /// Bytes arrived. Returns how many of them are consumed: `data.len()` for all.
    ///
    /// Bytes that are not consumed are kept and shown again, first and contiguous with what
    /// follows, as soon as new bytes arrive or after [`Net::resume_reading`]. A handler that
    /// leaves more than `inbound_max_bytes` gets its connection closed with
    /// [`LimitKind::Inbound`](crate::LimitKind::Inbound).
    ///
    /// # Panics
    ///
    /// The loop panics, naming contract rule C7, if the answer is more than `data.len()`.
    ///
    /// # Examples
    ///
    /// Takes lines, and leaves the one that is not whole:
    ///
    /// ```
    /// # use hotloop::{ConnId, Handler, Net};
    /// # struct Lines;
    /// # impl Lines {
    /// #     fn on_line(&mut self, _: &mut Net, _: ConnId, _: &[u8]) {}
    /// # }
    /// impl Handler for Lines {
    ///     fn on_data(&mut self, net: &mut Net, conn: ConnId, data: &[u8]) -> usize {
    ///         let mut used = 0;
    ///         while let Some(length) = data[used..].iter().position(|byte| *byte == b'\n') {
    ///             self.on_line(net, conn, &data[used..used + length]);
    ///             used += length + 1;
    ///         }
    ///         used
    ///     }
    /// }
    /// ```
    fn on_data(&mut self, net: &mut Net, conn: ConnId, data: &[u8]) -> usize;

    /// Pressure is over: after a write that was answered with
    /// [`Sent::Pressured`](crate::Sent::Pressured) or [`Sent::Refused`](crate::Sent::Refused) the
    /// queue has fallen to the low-water mark. Once per crossing, and at most once per turn.
    fn on_writable(&mut self, net: &mut Net, conn: ConnId) {
        let _ = (net, conn);
    }

    /// The peer sent its FIN: no more bytes will arrive. `rest` is what was never consumed; it is
    /// not shown again. Sending still works. The default closes the connection; a handler that
    /// does not close it keeps it half-open until it calls [`Net::shutdown`] or [`Net::close`].
    fn on_read_closed(&mut self, net: &mut Net, conn: ConnId, rest: &[u8]) {
        let _ = rest;
        net.close(conn);
    }

    /// The connection is out of the loop, as [`Net::release`] has asked: with its socket, what was
    /// not consumed and what was not sent. `on_close` follows, with
    /// [`CloseReason::Released`]. The default drops it, which closes the connection.
    ///
    /// Getters still work for `conn` inside this callback, as in [`on_close`](Handler::on_close).
    ///
    /// # Panics
    ///
    /// A panic in here that drops `detached` resets the connection; one that was adopted or passed
    /// on before it lives on. `on_close` says [`CloseReason::HandlerPanicked`] in both cases.
    fn on_release(&mut self, net: &mut Net, conn: ConnId, detached: Detached) {
        let _ = (net, conn, detached);
    }

    /// The last word about this id, once for every id that was ever handed out. `dropped_bytes`
    /// is how many bytes of accepted writes never reached the kernel.
    ///
    /// Getters still work for `conn` inside this callback; writes answer
    /// [`Sent::Closed`](crate::Sent::Closed). After it the id is stale.
    fn on_close(&mut self, net: &mut Net, conn: ConnId, reason: CloseReason, dropped_bytes: u64) {
        let _ = (net, conn, reason, dropped_bytes);
    }

    /// A timer is due. `token` is the number given at its start.
    fn on_timer(&mut self, net: &mut Net, timer: TimerId, token: u64) {
        let _ = (net, timer, token);
    }

    /// Other threads [posted](crate::Mailbox::post) or called
    /// [`Waker::wake`](crate::Waker::wake) since the last time; once per batch. The place to
    /// [drain](crate::Inbox::drain) every inbox, which may be empty.
    fn on_wake(&mut self, net: &mut Net) {
        let _ = net;
    }

    /// Accepting is paused or has failed; [`ListenerError`] says which, and when it goes on.
    ///
    /// The loop has logged it already, if one like it was not logged within the last second, so
    /// that a flood of connections is no flood of lines. The default does nothing.
    fn on_listener_error(&mut self, net: &mut Net, listener: ListenerId, error: ListenerError) {
        let _ = (net, listener, error);
    }

    /// A turn begins: the loop has waited and read the clock.
    fn on_turn_start(&mut self, net: &mut Net) {
        let _ = net;
    }

    /// A turn ends: only the flush of what other connections wrote is left.
    fn on_turn_end(&mut self, net: &mut Net) {
        let _ = net;
    }
}
