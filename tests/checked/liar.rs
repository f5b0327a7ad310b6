//! A loop whose callbacks are told wrongly.
#![allow(unreachable_pub, reason = "the tests are one binary")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use hotloop::script::{self, Dialect, Peer, World};
use hotloop::{
    Checked, CloseReason, Config, ConnId, Handler, ListenerError, ListenerId, Loop, Missed, Net,
    TimerId,
};

use crate::errno::EMFILE;
use Call::{Accept, Close, Connect, Data, ReadClosed, Timer, TurnEnd, TurnStart, Wake, Writable};

const SECOND: Duration = Duration::from_secs(1);

/// A callback.
#[derive(Clone, Copy)]
pub enum Call<'a> {
    TurnStart,
    TurnEnd,
    Accept(ConnId, ListenerId),
    Connect(ConnId),
    Data(ConnId, &'a [u8]),
    Writable(ConnId),
    ReadClosed(ConnId, &'a [u8]),
    Close(ConnId, CloseReason, u64),
    Timer(TimerId),
    Wake,
    ListenerError(ListenerId, ListenerError),
}

/// Consumes all or nothing, and closes nothing by itself.
#[derive(Default)]
pub struct Quiet {
    pub leaves_all: bool,
    pub panics: bool,
}

impl Handler for Quiet {
    fn on_data(&mut self, _: &mut Net, _: ConnId, data: &[u8]) -> usize {
        assert!(!self.panics, "as the test wants it");
        if self.leaves_all { 0 } else { data.len() }
    }

    fn on_read_closed(&mut self, _: &mut Net, _: ConnId, _: &[u8]) {}
}

pub type Tested = Checked<Quiet>;

/// Tells the truth.
pub fn tell(checked: &mut Tested, net: &mut Net, call: Call<'_>) -> usize {
    match call {
        TurnStart => checked.on_turn_start(net),
        TurnEnd => checked.on_turn_end(net),
        Accept(conn, listener) => checked.on_accept(net, conn, listener),
        Connect(conn) => checked.on_connect(net, conn),
        Data(conn, data) => return checked.on_data(net, conn, data),
        Writable(conn) => checked.on_writable(net, conn),
        ReadClosed(conn, rest) => checked.on_read_closed(net, conn, rest),
        Close(conn, reason, dropped) => checked.on_close(net, conn, reason, dropped),
        Timer(timer) => checked.on_timer(net, timer, 0),
        Wake => checked.on_wake(net),
        Call::ListenerError(listener, error) => checked.on_listener_error(net, listener, error),
    }
    0
}

/// Tells nothing.
pub fn hide(call: Call<'_>) -> usize {
    if let Data(_, data) = call { data.len() } else { 0 }
}

type Lie = Box<dyn FnMut(&mut Tested, &mut Net, Call<'_>) -> usize>;

pub struct Liar {
    pub checked: Tested,
    lie: Lie,
}

impl Liar {
    fn call(&mut self, net: &mut Net, call: Call<'_>) -> usize {
        (self.lie)(&mut self.checked, net, call)
    }
}

impl Handler for Liar {
    fn on_accept(&mut self, net: &mut Net, conn: ConnId, listener: ListenerId) {
        self.call(net, Accept(conn, listener));
    }

    fn on_connect(&mut self, net: &mut Net, conn: ConnId) {
        self.call(net, Connect(conn));
    }

    fn on_data(&mut self, net: &mut Net, conn: ConnId, data: &[u8]) -> usize {
        self.call(net, Data(conn, data))
    }

    fn on_writable(&mut self, net: &mut Net, conn: ConnId) {
        self.call(net, Writable(conn));
    }

    fn on_read_closed(&mut self, net: &mut Net, conn: ConnId, rest: &[u8]) {
        self.call(net, ReadClosed(conn, rest));
    }

    fn on_close(&mut self, net: &mut Net, conn: ConnId, reason: CloseReason, dropped: u64) {
        self.call(net, Close(conn, reason, dropped));
    }

    fn on_timer(&mut self, net: &mut Net, timer: TimerId, _: u64) {
        self.call(net, Timer(timer));
    }

    fn on_wake(&mut self, net: &mut Net) {
        self.call(net, Wake);
    }

    fn on_listener_error(&mut self, net: &mut Net, listener: ListenerId, error: ListenerError) {
        self.call(net, Call::ListenerError(listener, error));
    }

    fn on_turn_start(&mut self, net: &mut Net) {
        self.call(net, TurnStart);
    }

    fn on_turn_end(&mut self, net: &mut Net) {
        self.call(net, TurnEnd);
    }
}

/// A loop with a listener, whose callbacks go through a liar.
pub struct Rig {
    pub event_loop: Loop,
    pub world: World,
    pub handler: Liar,
    pub listener: ListenerId,
}

impl Rig {
    pub fn new(lie: impl FnMut(&mut Tested, &mut Net, Call<'_>) -> usize + 'static) -> Rig {
        Rig::with(Config::default(), lie)
    }

    pub fn with(
        config: Config,
        lie: impl FnMut(&mut Tested, &mut Net, Call<'_>) -> usize + 'static,
    ) -> Rig {
        let (mut event_loop, world) = script::open(config, Dialect::Readiness).expect("a loop");
        let listener = event_loop.net().listen("10.0.0.1:80").expect("it is free");
        let handler = Liar { checked: Checked::default(), lie: Box::new(lie) };
        Rig { event_loop, world, handler, listener }
    }

    pub fn net(&mut self) -> &mut Net {
        self.event_loop.net()
    }

    pub fn turn(&mut self) -> &mut Rig {
        self.event_loop.turn(&mut self.handler, Duration::ZERO).expect("the loop runs");
        self
    }

    /// A peer connects and is accepted.
    pub fn client(&mut self) -> Peer {
        let addr = self.event_loop.net().listener_addr(self.listener).expect("it is open");
        let peer = self.world.connect(addr).expect("it listens");
        self.turn();
        peer
    }

    /// A peer connects, and what it sends is delivered.
    pub fn hears(&mut self, data: &[u8]) -> Peer {
        let peer = self.client();
        self.world.send(peer, data);
        self.turn();
        peer
    }

    /// The loop connects to a server, which sends something.
    pub fn connects(&mut self) -> (ConnId, Peer) {
        let server = "10.0.0.9:80".parse().expect("an address");
        self.world.listen(server);
        let conn = self.net().connect(server).expect("there are slots");
        let peer = self.world.accept(server).expect("it has connected");
        self.world.send(peer, b"welcome");
        self.turn().turn();
        (conn, peer)
    }

    /// The listener meets an error.
    pub fn fails_to_accept(&mut self) {
        let addr = self.event_loop.net().listener_addr(self.listener).expect("it is open");
        self.world.fail_accepts(addr, &[EMFILE]);
        self.turn();
    }

    /// A timer that repeats every second is due.
    pub fn repeats(&mut self, missed: Missed, after: Duration) {
        self.net().start_repeating(SECOND, missed, 0);
        self.world.advance(after);
        self.turn();
    }
}

/// Adds a lie in front of the truth.
pub fn before(
    mut lie: impl FnMut(&mut Tested, &mut Net, Call<'_>),
) -> impl FnMut(&mut Tested, &mut Net, Call<'_>) -> usize {
    move |checked, net, call| {
        lie(checked, net, call);
        tell(checked, net, call)
    }
}

/// Adds a lie behind the truth.
pub fn behind(
    mut lie: impl FnMut(&mut Tested, &mut Net, Call<'_>),
) -> impl FnMut(&mut Tested, &mut Net, Call<'_>) -> usize {
    move |checked, net, call| {
        let consumed = tell(checked, net, call);
        lie(checked, net, call);
        consumed
    }
}

/// What the panic of a story says.
pub fn message(story: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(story)).expect_err("it is found");
    panic.downcast_ref::<String>().expect("a message with a name in it").clone()
}

/// Names a connection without having been given its id.
pub fn conn(slot: u64, generation: u64) -> ConnId {
    ConnId::from_bits(generation << 32 | 1 << 24 | slot).expect("an id's bits")
}
