//! The rig on which behaviour tests run: one body, over real sockets on epoll and over the
//! scripted backend in both dialects.
//!
//! ```ignore
//! fn echoes(kind: Kind) {
//!     let mut rig = Rig::new(kind);
//!     rig.handler.echo();
//!     let (peer, _) = rig.client();
//!     rig.send(peer, b"hello");
//!     rig.until("the echo", |rig| rig.received(peer) == b"hello");
//! }
//! on_every_backend!(echoes);
//! ```
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]

mod real;
mod recorder;

use std::net::SocketAddr;
use std::time::Duration;

use hotloop::script::{self, Dialect, World};
use hotloop::{BackendKind, CloseReason, Config, ConnId, ListenOptions, ListenerId, Loop, Turn};

pub use recorder::{Call, Recorder};

use real::RealPeers;

/// What a test runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Epoll,
    ScriptReadiness,
    ScriptCompletion,
}

impl Kind {
    pub fn is_script(self) -> bool {
        self != Kind::Epoll
    }
}

/// Makes a test of each function for each of the three.
#[macro_export]
macro_rules! on_every_backend {
    ($($name:ident),* $(,)?) => {$(
        mod $name {
            use $crate::support::Kind;

            #[test]
            fn epoll() {
                super::$name(Kind::Epoll);
            }

            #[test]
            fn script_readiness() {
                super::$name(Kind::ScriptReadiness);
            }

            #[test]
            fn script_completion() {
                super::$name(Kind::ScriptCompletion);
            }
        }
    )*};
}

/// Makes a test of each function for both dialects of the scripted backend.
#[macro_export]
macro_rules! on_script {
    ($($name:ident),* $(,)?) => {$(
        mod $name {
            use $crate::support::Kind;

            #[test]
            fn script_readiness() {
                super::$name(Kind::ScriptReadiness);
            }

            #[test]
            fn script_completion() {
                super::$name(Kind::ScriptCompletion);
            }
        }
    )*};
}

/// The other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    Real(usize),
    Script(script::Peer),
}

enum Peers {
    Real(RealPeers),
    Script(World),
}

/// A loop with a listener, a handler that records, and peers.
pub struct Rig {
    // Dropped before the peers, so that they see what a drop does.
    pub event_loop: Loop,
    pub handler: Recorder,
    pub listener: ListenerId,
    /// The listener's address.
    pub addr: SocketAddr,
    pub kind: Kind,
    peers: Peers,
}

impl Rig {
    pub fn new(kind: Kind) -> Rig {
        Rig::with(kind, Config::default())
    }

    pub fn with(kind: Kind, config: Config) -> Rig {
        Rig::listening(kind, config, ListenOptions::default())
    }

    pub fn listening(kind: Kind, config: Config, options: ListenOptions) -> Rig {
        let (mut event_loop, peers) = match kind {
            Kind::Epoll => {
                let event_loop = Loop::new(config.backend(BackendKind::Epoll)).expect("a loop");
                (event_loop, Peers::Real(RealPeers::default()))
            }
            Kind::ScriptReadiness => scripted(config, Dialect::Readiness),
            Kind::ScriptCompletion => scripted(config, Dialect::Completion),
        };
        let listener = event_loop.net().listen_with("127.0.0.1:0", options).expect("a free port");
        let addr = event_loop.net().listener_addr(listener).expect("it is open");
        Rig { event_loop, handler: Recorder::default(), listener, addr, kind, peers }
    }

    /// The scripted world, on script.
    pub fn world(&self) -> &World {
        match &self.peers {
            Peers::Script(world) => world,
            Peers::Real(_) => panic!("only on script"),
        }
    }

    /// The scripted peer, on script.
    pub fn scripted(&self, peer: Peer) -> script::Peer {
        match peer {
            Peer::Script(peer) => peer,
            Peer::Real(_) => panic!("only on script"),
        }
    }

    /// A peer connects to the listener, which has not accepted it yet.
    pub fn dial(&mut self) -> Peer {
        match &mut self.peers {
            Peers::Real(peers) => Peer::Real(peers.dial(self.addr)),
            Peers::Script(world) => Peer::Script(world.connect(self.addr).expect("it listens")),
        }
    }

    /// A peer connects and is accepted.
    pub fn client(&mut self) -> (Peer, ConnId) {
        let before = self.handler.accepted.len();
        let peer = self.dial();
        self.until("an accept", |rig| rig.handler.accepted.len() > before);
        (peer, self.handler.accepted[before])
    }

    /// A server outside the loop, for it to connect to.
    pub fn server(&mut self) -> SocketAddr {
        match &mut self.peers {
            Peers::Real(peers) => peers.listen(),
            Peers::Script(world) => {
                let addr = SocketAddr::from(([10, 0, 0, 9], 80));
                world.listen(addr);
                addr
            }
        }
    }

    /// An address nobody listens on.
    pub fn refusing(&mut self) -> SocketAddr {
        match &mut self.peers {
            Peers::Real(peers) => peers.refusing(),
            Peers::Script(_) => SocketAddr::from(([10, 0, 0, 9], 81)),
        }
    }

    /// The loop connects to a server of its own choice; both ends.
    pub fn connected(&mut self) -> (Peer, ConnId) {
        let addr = self.server();
        let before = self.handler.connected.len();
        let id = self.event_loop.net().connect(addr).expect("there are slots");
        self.until("a connect", |rig| rig.handler.connected.len() > before);
        (self.server_peer(addr).expect("it has been connected to"), id)
    }

    /// The server's end of the next connection made to it.
    pub fn server_peer(&mut self, addr: SocketAddr) -> Option<Peer> {
        match &mut self.peers {
            Peers::Real(peers) => peers.accept(addr).map(Peer::Real),
            Peers::Script(world) => world.accept(addr).map(Peer::Script),
        }
    }

    pub fn send(&mut self, peer: Peer, data: &[u8]) {
        match (&mut self.peers, peer) {
            (Peers::Real(peers), Peer::Real(peer)) => peers.send(peer, data),
            (Peers::Script(world), Peer::Script(peer)) => world.send(peer, data),
            _ => panic!("a peer of another rig"),
        }
    }

    /// The peer sends its FIN, behind what it has sent.
    pub fn finish(&mut self, peer: Peer) {
        match (&mut self.peers, peer) {
            (Peers::Real(peers), Peer::Real(peer)) => peers.finish(peer),
            (Peers::Script(world), Peer::Script(peer)) => world.finish(peer),
            _ => panic!("a peer of another rig"),
        }
    }

    /// The peer resets the connection.
    pub fn reset(&mut self, peer: Peer) {
        match (&mut self.peers, peer) {
            (Peers::Real(peers), Peer::Real(peer)) => peers.reset(peer),
            (Peers::Script(world), Peer::Script(peer)) => world.reset(peer),
            _ => panic!("a peer of another rig"),
        }
    }

    /// All the bytes that have reached the peer.
    pub fn received(&mut self, peer: Peer) -> Vec<u8> {
        match (&mut self.peers, peer) {
            (Peers::Real(peers), Peer::Real(peer)) => peers.received(peer).to_vec(),
            (Peers::Script(world), Peer::Script(peer)) => world.received(peer),
            _ => panic!("a peer of another rig"),
        }
    }

    /// The peer takes no more bytes. On script not one more; real buffers take megabytes.
    pub fn stop_reading(&mut self, peer: Peer) {
        match (&mut self.peers, peer) {
            (Peers::Real(peers), Peer::Real(peer)) => peers.set_reading(peer, false),
            (Peers::Script(world), Peer::Script(peer)) => world.set_window(peer, 0),
            _ => panic!("a peer of another rig"),
        }
    }

    pub fn start_reading(&mut self, peer: Peer) {
        match (&mut self.peers, peer) {
            (Peers::Real(peers), Peer::Real(peer)) => peers.set_reading(peer, true),
            (Peers::Script(world), Peer::Script(peer)) => world.set_window(peer, usize::MAX),
            _ => panic!("a peer of another rig"),
        }
    }

    /// Whether the loop's FIN has reached the peer, behind all data.
    pub fn at_end(&mut self, peer: Peer) -> bool {
        match (&mut self.peers, peer) {
            (Peers::Real(peers), Peer::Real(peer)) => peers.at_end(peer),
            (Peers::Script(world), Peer::Script(peer)) => world.is_finished(peer),
            _ => panic!("a peer of another rig"),
        }
    }

    /// Whether a reset by the loop has reached the peer.
    pub fn is_reset(&mut self, peer: Peer) -> bool {
        match (&mut self.peers, peer) {
            (Peers::Real(peers), Peer::Real(peer)) => peers.is_reset(peer),
            (Peers::Script(world), Peer::Script(peer)) => world.is_reset(peer),
            _ => panic!("a peer of another rig"),
        }
    }

    /// One turn that does not wait.
    pub fn turn(&mut self) -> Turn {
        self.pump();
        self.event_loop.turn(&mut self.handler, Duration::ZERO).expect("the loop runs")
    }

    /// Turns until the condition holds; panics with what was called if it never does.
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&mut Rig) -> bool) {
        for _ in 0..20_000 {
            if done(self) {
                return;
            }
            self.pump();
            // On script a wait would jump over time, to deadlines that the test does not mean.
            let max_wait = Duration::from_millis(u64::from(!self.kind.is_script()));
            self.event_loop.turn(&mut self.handler, max_wait).expect("the loop runs");
        }
        panic!("never: {what}; called: {:?}", self.handler.calls);
    }

    /// Turns until nothing happens any more; panics with what was called if something always does.
    pub fn settle(&mut self) {
        let mut quiet = 0;
        for _ in 0..20_000 {
            if quiet == 10 {
                return;
            }
            self.pump();
            let max_wait = Duration::from_millis(u64::from(!self.kind.is_script()));
            let turn = self.event_loop.turn(&mut self.handler, max_wait).expect("the loop runs");
            quiet = if turn.callbacks == 0 && !turn.pending { quiet + 1 } else { 0 };
        }
        let calls = &self.handler.calls;
        panic!("never quiet; called last: {:?}", &calls[calls.len().saturating_sub(10)..]);
    }

    /// Lets time pass: on script at once, on a real clock by waiting.
    pub fn pass(&mut self, duration: Duration) {
        match &self.peers {
            Peers::Script(world) => world.advance(duration),
            Peers::Real(_) => {
                let from = self.event_loop.net().now();
                while self.event_loop.net().now().since(from) < duration {
                    self.pump();
                    let max_wait = Duration::from_millis(1);
                    self.event_loop.turn(&mut self.handler, max_wait).expect("the loop runs");
                }
            }
        }
        self.settle();
    }

    /// How the connection ended, if it has.
    pub fn closed(&self, conn: ConnId) -> Option<(CloseReason, u64)> {
        self.handler.calls.iter().find_map(|call| match call {
            Call::Close(id, reason, dropped) if *id == conn => Some((*reason, *dropped)),
            _ => None,
        })
    }

    /// Turns until the connection has ended; how.
    pub fn until_closed(&mut self, conn: ConnId) -> (CloseReason, u64) {
        self.until("on_close", |rig| rig.closed(conn).is_some());
        self.closed(conn).expect("it has just been seen")
    }

    fn pump(&mut self) {
        if let Peers::Real(peers) = &mut self.peers {
            peers.pump();
        }
    }
}

fn scripted(config: Config, dialect: Dialect) -> (Loop, Peers) {
    let (event_loop, world) = script::open(config, dialect).expect("a loop");
    (event_loop, Peers::Script(world))
}
