//! A host with a loop: the loop, its handler, and what is written down of its callbacks.

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;

use crate::backend::Detached;
use crate::backend::sim::{HostIndex, Shared, What};
use crate::checked::Checked;
use crate::error::{CloseReason, ListenerError};
use crate::event_loop::Loop;
use crate::handler::Handler;
use crate::id::{ConnId, Key, ListenerId, TimerId};
use crate::net::Net;

/// A host of a world.
///
/// # Examples
///
/// ```
/// use hotloop::sim::World;
///
/// let mut world = World::new(1);
/// let host = world.host("client");
/// assert_eq!(world.addr(host, 80).port(), 80);
/// assert_eq!(world.open_sockets(host), 0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Host {
    pub(super) world: u32,
    pub(super) index: HostIndex,
}

/// A host of a world that runs a loop with a handler of this type.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// # use hotloop::{ConnId, Handler, Net};
/// # struct Echo;
/// # impl Handler for Echo {
/// #     fn on_data(&mut self, net: &mut Net, conn: ConnId, data: &[u8]) -> usize {
/// #         net.write(conn, data);
/// #         data.len()
/// #     }
/// # }
/// use hotloop::sim::{Faults, Node, NodeOptions, World};
///
/// let mut world = World::new(1);
/// let server: Node<Echo> = world.node("server", NodeOptions::default(), Echo);
/// world.faults(server, Faults::harsh()); // it stands for its host as well
/// assert_eq!(world.addr(server, 7), world.addr(server.host(), 7));
/// # let _ = Duration::ZERO;
/// ```
pub struct Node<H> {
    pub(super) host: Host,
    handler: PhantomData<fn() -> H>,
}

impl<H> Node<H> {
    pub(super) fn new(host: Host) -> Node<H> {
        Node { host, handler: PhantomData }
    }

    /// Returns which host it is.
    pub fn host(self) -> Host {
        self.host
    }
}

impl<H> Clone for Node<H> {
    fn clone(&self) -> Node<H> {
        *self
    }
}

impl<H> Copy for Node<H> {}

impl<H> fmt::Debug for Node<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Node").field(&self.host).finish()
    }
}

impl<H> From<Node<H>> for Host {
    fn from(node: Node<H>) -> Host {
        node.host
    }
}

/// A loop that the world gives its turns.
pub(super) struct Runner {
    pub(super) event_loop: Loop,
    pub(super) handler: Box<dyn AnyHandler>,
    /// It has called `Net::stop`.
    pub(super) is_stopped: bool,
    /// Turns in a row that had no reason.
    pub(super) idle_turns: u32,
    /// The last turn left work, by its own account.
    pub(super) was_pending: bool,
}

impl Runner {
    pub(super) fn new(event_loop: Loop, handler: Box<dyn AnyHandler>) -> Runner {
        Runner { event_loop, handler, is_stopped: false, idle_turns: 0, was_pending: false }
    }
}

/// A handler whose type can be found out again.
pub(super) trait AnyHandler: Handler {
    fn as_any(&mut self) -> &mut dyn Any;
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
}

/// A handler whose callbacks are checked and written down.
pub(super) struct Observed<H> {
    pub(super) checked: Checked<H>,
    shared: Shared,
    host: HostIndex,
}

impl<H: Handler> Observed<H> {
    pub(super) fn new(handler: H, shared: Shared, host: HostIndex) -> Observed<H> {
        Observed { checked: Checked::new(handler), shared, host }
    }

    fn note(&self, name: &'static str, key: Option<Key>, number: u64) {
        self.shared.lock().note(self.host, What::Callback { name, key, number });
    }
}

impl<H: Handler + 'static> AnyHandler for Observed<H> {
    fn as_any(&mut self) -> &mut dyn Any {
        self
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

impl<H: Handler> Handler for Observed<H> {
    fn on_accept(&mut self, net: &mut Net, conn: ConnId, listener: ListenerId) {
        self.note("on_accept", Some(conn.0), listener.slot() as u64);
        self.checked.on_accept(net, conn, listener);
    }

    fn on_connect(&mut self, net: &mut Net, conn: ConnId) {
        self.note("on_connect", Some(conn.0), 0);
        self.checked.on_connect(net, conn);
    }

    fn on_data(&mut self, net: &mut Net, conn: ConnId, data: &[u8]) -> usize {
        self.note("on_data", Some(conn.0), data.len() as u64);
        self.checked.on_data(net, conn, data)
    }

    fn on_writable(&mut self, net: &mut Net, conn: ConnId) {
        self.note("on_writable", Some(conn.0), net.queued_bytes(conn) as u64);
        self.checked.on_writable(net, conn);
    }

    fn on_read_closed(&mut self, net: &mut Net, conn: ConnId, rest: &[u8]) {
        self.note("on_read_closed", Some(conn.0), rest.len() as u64);
        self.checked.on_read_closed(net, conn, rest);
    }

    fn on_release(&mut self, net: &mut Net, conn: ConnId, detached: Detached) {
        self.note("on_release", Some(conn.0), detached.queued().len() as u64);
        self.checked.on_release(net, conn, detached);
    }

    fn on_close(&mut self, net: &mut Net, conn: ConnId, reason: CloseReason, dropped_bytes: u64) {
        self.shared.lock().note(self.host, What::Closed { key: conn.0, reason, dropped_bytes });
        self.checked.on_close(net, conn, reason, dropped_bytes);
    }

    fn on_timer(&mut self, net: &mut Net, timer: TimerId, token: u64) {
        self.note("on_timer", Some(timer.0), token);
        self.checked.on_timer(net, timer, token);
    }

    fn on_wake(&mut self, net: &mut Net) {
        self.note("on_wake", None, 0);
        self.checked.on_wake(net);
    }

    fn on_listener_error(&mut self, net: &mut Net, listener: ListenerId, error: ListenerError) {
        self.note("on_listener_error", Some(listener.0), 0);
        self.checked.on_listener_error(net, listener, error);
    }

    fn on_turn_start(&mut self, net: &mut Net) {
        self.checked.on_turn_start(net);
    }

    fn on_turn_end(&mut self, net: &mut Net) {
        self.checked.on_turn_end(net);
    }
}
