//! A handler that writes down every callback and does what a test tells it to. The rig runs it
//! inside `Checked`, which asserts the contract.

#![allow(clippy::type_complexity, reason = "a boxed closure reads better in its place")]

use hotloop::{CloseReason, ConnId, Detached, Handler, ListenerError, ListenerId, Net, TimerId};

/// A callback that was called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    Accept(ConnId),
    Connect(ConnId),
    Data(ConnId, Vec<u8>),
    Writable(ConnId),
    ReadClosed(ConnId, Vec<u8>),
    Release(ConnId),
    Close(ConnId, CloseReason, u64),
    Timer(TimerId, u64),
    Wake,
    ListenerError(ListenerId, ListenerError),
}

pub type OnConn = Option<Box<dyn FnMut(&mut Net, ConnId)>>;

/// The callbacks a test fills in. Without one, all data is consumed and the defaults apply.
#[derive(Default)]
pub struct Recorder {
    pub calls: Vec<Call>,
    pub accepted: Vec<ConnId>,
    pub connected: Vec<ConnId>,
    pub released: Vec<Detached>,
    /// Consumed or not, everything `on_data` showed is in `calls`; this is only what was consumed.
    pub consumed: Vec<u8>,
    pub on_accept: OnConn,
    pub on_connect: OnConn,
    pub on_data: Option<Box<dyn FnMut(&mut Net, ConnId, &[u8]) -> usize>>,
    pub on_writable: OnConn,
    pub on_read_closed: Option<Box<dyn FnMut(&mut Net, ConnId, &[u8])>>,
    pub on_close: Option<Box<dyn FnMut(&mut Net, ConnId, CloseReason)>>,
    /// Without it, what is released is in `released`.
    pub on_release: Option<Box<dyn FnMut(&mut Net, ConnId, Detached)>>,
    pub on_timer: Option<Box<dyn FnMut(&mut Net, TimerId, u64)>>,
    pub on_wake: Option<Box<dyn FnMut(&mut Net)>>,
    pub on_listener_error: Option<Box<dyn FnMut(&mut Net, ListenerId)>>,
    pub on_turn_start: Option<Box<dyn FnMut(&mut Net)>>,
    pub on_turn_end: Option<Box<dyn FnMut(&mut Net)>>,
}

impl Recorder {
    /// The data callbacks of a connection, one by one.
    pub fn shown(&self, conn: ConnId) -> Vec<Vec<u8>> {
        let shown = self.calls.iter().filter_map(|call| match call {
            Call::Data(id, data) if *id == conn => Some(data.clone()),
            _ => None,
        });
        shown.collect()
    }

    /// How many calls are like this one.
    pub fn count(&self, like: impl Fn(&Call) -> bool) -> usize {
        self.calls.iter().filter(|call| like(call)).count()
    }

    pub fn writables(&self, conn: ConnId) -> usize {
        self.count(|call| *call == Call::Writable(conn))
    }

    /// Answers every byte.
    pub fn echo(&mut self) {
        self.on_data = Some(Box::new(|net, conn, data| {
            net.write(conn, data);
            data.len()
        }));
    }
}

impl Handler for Recorder {
    fn on_accept(&mut self, net: &mut Net, conn: ConnId, _: ListenerId) {
        self.calls.push(Call::Accept(conn));
        self.accepted.push(conn);
        if let Some(then) = &mut self.on_accept {
            then(net, conn);
        }
    }

    fn on_connect(&mut self, net: &mut Net, conn: ConnId) {
        self.calls.push(Call::Connect(conn));
        self.connected.push(conn);
        if let Some(then) = &mut self.on_connect {
            then(net, conn);
        }
    }

    fn on_data(&mut self, net: &mut Net, conn: ConnId, data: &[u8]) -> usize {
        self.calls.push(Call::Data(conn, data.to_vec()));
        let consumed = match &mut self.on_data {
            Some(then) => then(net, conn, data),
            None => data.len(),
        };
        self.consumed.extend(&data[..consumed.min(data.len())]);
        consumed
    }

    fn on_writable(&mut self, net: &mut Net, conn: ConnId) {
        self.calls.push(Call::Writable(conn));
        if let Some(then) = &mut self.on_writable {
            then(net, conn);
        }
    }

    fn on_read_closed(&mut self, net: &mut Net, conn: ConnId, rest: &[u8]) {
        self.calls.push(Call::ReadClosed(conn, rest.to_vec()));
        match &mut self.on_read_closed {
            Some(then) => then(net, conn, rest),
            None => net.close(conn),
        }
    }

    fn on_release(&mut self, net: &mut Net, conn: ConnId, detached: Detached) {
        self.calls.push(Call::Release(conn));
        match &mut self.on_release {
            Some(then) => then(net, conn, detached),
            None => self.released.push(detached),
        }
    }

    fn on_close(&mut self, net: &mut Net, conn: ConnId, reason: CloseReason, dropped_bytes: u64) {
        self.calls.push(Call::Close(conn, reason, dropped_bytes));
        if let Some(then) = &mut self.on_close {
            then(net, conn, reason);
        }
    }

    fn on_timer(&mut self, net: &mut Net, timer: TimerId, token: u64) {
        self.calls.push(Call::Timer(timer, token));
        if let Some(then) = &mut self.on_timer {
            then(net, timer, token);
        }
    }

    fn on_wake(&mut self, net: &mut Net) {
        self.calls.push(Call::Wake);
        if let Some(then) = &mut self.on_wake {
            then(net);
        }
    }

    fn on_listener_error(&mut self, net: &mut Net, listener: ListenerId, error: ListenerError) {
        self.calls.push(Call::ListenerError(listener, error));
        if let Some(then) = &mut self.on_listener_error {
            then(net, listener);
        }
    }

    fn on_turn_start(&mut self, net: &mut Net) {
        if let Some(then) = &mut self.on_turn_start {
            then(net);
        }
    }

    fn on_turn_end(&mut self, net: &mut Net) {
        if let Some(then) = &mut self.on_turn_end {
            then(net);
        }
    }
}
