//! The rig on which behaviour tests run: one body, over real sockets on epoll and on the portable
//! backend in its four modes, over the scripted backend and over the simulator, these two in both
//! dialects.
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

pub mod errno;
mod real;
mod recorder;
mod scripted;
mod simulated;
pub mod watchdog;

use std::net::SocketAddr;
use std::time::Duration;

use hotloop::{
    BackendKind, Checked, CloseReason, Config, ConnId, Detached, ListenOptions, ListenerId, Loop,
    Turn, script,
};

pub use recorder::{Call, Recorder};

use real::RealPeers;
use scripted::ScriptPeers;
use simulated::SimPeers;

/// What a test runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Epoll,
    PortableEdge,
    PortableLevel,
    PortableOneshot,
    PortableEdgeOneshot,
    ScriptReadiness,
    ScriptCompletion,
    SimReadiness,
    SimCompletion,
}

impl Kind {
    /// The system's own: what a loop runs on if nothing else is asked for.
    pub const NATIVE: Kind = if cfg!(target_os = "linux") {
        Kind::Epoll
    } else if cfg!(windows) {
        Kind::PortableLevel
    } else {
        Kind::PortableEdge
    };

    pub fn is_script(self) -> bool {
        matches!(self, Kind::ScriptReadiness | Kind::ScriptCompletion)
    }

    pub fn is_sim(self) -> bool {
        matches!(self, Kind::SimReadiness | Kind::SimCompletion)
    }

    /// Whether sends and closes are done by events.
    pub fn is_completion(self) -> bool {
        matches!(self, Kind::ScriptCompletion | Kind::SimCompletion)
    }

    /// Whether time passes only as the test says: everything happens at an exact moment.
    pub fn is_virtual(self) -> bool {
        self.is_script() || self.is_sim()
    }

    /// The configuration of a loop on real sockets.
    pub fn real(self, config: Config) -> Config {
        let portable = config.clone().backend(BackendKind::Portable);
        match self {
            Kind::PortableEdge => portable.portable_mode("edge"),
            Kind::PortableLevel => portable.portable_mode("level"),
            Kind::PortableOneshot => portable.portable_mode("oneshot"),
            Kind::PortableEdgeOneshot => portable.portable_mode("edge-oneshot"),
            _ => config.backend(BackendKind::Epoll),
        }
    }
}

/// Makes a test of each function for each kind.
#[macro_export]
macro_rules! on_every_backend {
    ($($name:ident),* $(,)?) => {$( $crate::tests_of!($name: epoll portable script sim); )*};
}

/// Makes a test of each function for each kind on which time is virtual.
#[macro_export]
macro_rules! on_virtual_time {
    ($($name:ident),* $(,)?) => {$( $crate::tests_of!($name: script sim); )*};
}

/// Makes a test of each function for both dialects of the scripted backend.
#[macro_export]
macro_rules! on_script {
    ($($name:ident),* $(,)?) => {$( $crate::tests_of!($name: script); )*};
}

/// Makes a test of each function for each kind that has a kernel, real or simulated.
#[macro_export]
macro_rules! on_kernels {
    ($($name:ident),* $(,)?) => {$( $crate::tests_of!($name: epoll portable sim); )*};
}

/// Makes a test of each function for each kind that has real sockets.
#[macro_export]
macro_rules! on_real_sockets {
    ($($name:ident),* $(,)?) => {$( $crate::tests_of!($name: epoll portable); )*};
}

/// Makes a module of a function's name, with a test for each kind of each of these groups.
#[macro_export]
macro_rules! tests_of {
    ($name:ident: $($group:ident)*) => {
        mod $name {
            use $crate::support::Kind;

            $( $crate::tests_on!($group, $name); )*
        }
    };
}

/// Makes the tests of one group.
#[macro_export]
macro_rules! tests_on {
    (epoll, $name:ident) => {
        #[cfg(target_os = "linux")]
        $crate::tests_on!($name, epoll Epoll);
    };
    (portable, $name:ident) => {
        $crate::tests_on!($name, portable_level PortableLevel);
        $crate::tests_on!($name, portable_oneshot PortableOneshot);
        // Windows has no edges.
        #[cfg(not(windows))]
        $crate::tests_on!($name, portable_edge PortableEdge);
        #[cfg(not(windows))]
        $crate::tests_on!($name, portable_edge_oneshot PortableEdgeOneshot);
    };
    (script, $name:ident) => {
        $crate::tests_on!($name, script_readiness ScriptReadiness);
        $crate::tests_on!($name, script_completion ScriptCompletion);
    };
    (sim, $name:ident) => {
        $crate::tests_on!($name, sim_readiness SimReadiness);
        $crate::tests_on!($name, sim_completion SimCompletion);
    };
    ($name:ident, $test:ident $kind:ident) => {
        #[test]
        fn $test() {
            super::$name(Kind::$kind);
        }
    };
}

/// The other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(usize);

/// The other ends, numbered, and the servers they belong to.
trait Peers {
    /// Connects to a listener of the loop.
    fn dial(&mut self, addr: SocketAddr) -> usize;
    /// Whether a connect to an address is refused.
    fn is_refused(&mut self, addr: SocketAddr) -> bool;
    fn listen(&mut self) -> SocketAddr;
    fn refusing(&mut self) -> SocketAddr;
    /// The next connection made to a server.
    fn accept(&mut self, addr: SocketAddr) -> Option<usize>;
    fn send(&mut self, peer: usize, data: &[u8]);
    fn finish(&mut self, peer: usize);
    fn reset(&mut self, peer: usize);
    fn received(&mut self, peer: usize) -> Vec<u8>;
    fn set_reading(&mut self, peer: usize, reading: bool);
    fn at_end(&mut self, peer: usize) -> bool;
    fn is_reset(&mut self, peer: usize) -> bool;
    /// Whether the peer's kernel has taken all that it sent.
    fn is_sent(&mut self, peer: usize) -> bool;
    /// Sends a byte with `MSG_OOB` behind what was sent.
    fn send_urgent(&mut self, peer: usize, byte: u8);
    /// Does what is due.
    fn pump(&mut self);
    /// Waits until what was sent has arrived.
    fn until_arrived(&mut self);
}

enum World {
    Real(RealPeers),
    Script(ScriptPeers),
    Sim(SimPeers),
}

impl World {
    fn peers(&mut self) -> &mut dyn Peers {
        match self {
            World::Real(peers) => peers,
            World::Script(peers) => peers,
            World::Sim(peers) => peers,
        }
    }
}

/// A loop with a listener, a handler that records, and peers.
pub struct Rig {
    // Dropped before the peers, so that they see what a drop does.
    pub event_loop: Loop,
    pub handler: Checked<Recorder>,
    pub listener: ListenerId,
    /// The listener's address.
    pub addr: SocketAddr,
    pub kind: Kind,
    world: World,
}

/// Tells `.ci/chaos` that faults were made.
impl Drop for Rig {
    fn drop(&mut self) {
        if std::env::var_os("HOTLOOP_CHAOS").is_some() {
            println!("faults made: {}", self.event_loop.net().fault_counts());
        }
    }
}

impl Rig {
    pub fn new(kind: Kind) -> Rig {
        Rig::with(kind, Config::default())
    }

    pub fn with(kind: Kind, config: Config) -> Rig {
        Rig::listening(kind, config, ListenOptions::default())
    }

    pub fn listening(kind: Kind, config: Config, options: ListenOptions) -> Rig {
        let mut bind = SocketAddr::from(([127, 0, 0, 1], 0));
        let (mut event_loop, world) = match kind {
            Kind::ScriptReadiness | Kind::ScriptCompletion => {
                let (event_loop, peers) = ScriptPeers::open(config, kind);
                (event_loop, World::Script(peers))
            }
            Kind::SimReadiness | Kind::SimCompletion => {
                let (event_loop, peers) = SimPeers::open(config, kind);
                bind = peers.loop_addr();
                (event_loop, World::Sim(peers))
            }
            _ => {
                let event_loop = Loop::new(kind.real(config)).expect("a loop");
                (event_loop, World::Real(RealPeers::default()))
            }
        };
        let listener = event_loop.net().listen_with(bind, options).expect("a free port");
        let addr = event_loop.net().listener_addr(listener).expect("it is open");
        Rig { event_loop, handler: Checked::default(), listener, addr, kind, world }
    }

    /// The scripted world, on script.
    pub fn world(&self) -> &script::World {
        match &self.world {
            World::Script(peers) => &peers.world,
            _ => panic!("only on script"),
        }
    }

    /// The scripted peer, on script.
    pub fn scripted(&self, peer: Peer) -> script::Peer {
        match &self.world {
            World::Script(peers) => peers.peer(peer.0),
            _ => panic!("only on script"),
        }
    }

    /// The simulated world and who is in it, on sim.
    pub fn sim(&mut self) -> &mut SimPeers {
        match &mut self.world {
            World::Sim(peers) => peers,
            _ => panic!("only on sim"),
        }
    }

    /// A peer connects to the listener, which has not accepted it yet.
    pub fn dial(&mut self) -> Peer {
        Peer(self.world.peers().dial(self.addr))
    }

    /// A peer connects and is accepted.
    pub fn client(&mut self) -> (Peer, ConnId) {
        let before = self.handler.accepted.len();
        let peer = self.dial();
        self.until("an accept", |rig| rig.handler.accepted.len() > before);
        (peer, self.handler.accepted[before])
    }

    /// Whether a peer that connects to `addr` is refused.
    pub fn is_refused(&mut self) -> bool {
        self.world.peers().is_refused(self.addr)
    }

    /// Releases a connection and returns what the handler is given.
    pub fn release(&mut self, conn: ConnId) -> Detached {
        assert!(self.event_loop.net().release(conn), "it is open");
        assert_eq!(self.until_closed(conn).0, CloseReason::Released);
        self.handler.released.pop().expect("on_release comes before on_close")
    }

    /// A server outside the loop, for it to connect to.
    pub fn server(&mut self) -> SocketAddr {
        self.world.peers().listen()
    }

    /// An address nobody listens on.
    pub fn refusing(&mut self) -> SocketAddr {
        self.world.peers().refusing()
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
        self.world.peers().accept(addr).map(Peer)
    }

    pub fn send(&mut self, peer: Peer, data: &[u8]) {
        self.world.peers().send(peer.0, data);
    }

    /// The peer sends its FIN, behind what it has sent.
    pub fn finish(&mut self, peer: Peer) {
        self.world.peers().finish(peer.0);
    }

    /// The peer resets the connection.
    pub fn reset(&mut self, peer: Peer) {
        self.world.peers().reset(peer.0);
    }

    /// All the bytes that have reached the peer.
    pub fn received(&mut self, peer: Peer) -> Vec<u8> {
        self.world.peers().received(peer.0)
    }

    /// The peer takes no more bytes. On script not one more; the buffers on sim take some hundred
    /// kilobytes, real ones megabytes.
    pub fn stop_reading(&mut self, peer: Peer) {
        self.world.peers().set_reading(peer.0, false);
    }

    pub fn start_reading(&mut self, peer: Peer) {
        self.world.peers().set_reading(peer.0, true);
    }

    /// Whether the loop's FIN has reached the peer, behind all data.
    pub fn at_end(&mut self, peer: Peer) -> bool {
        self.world.peers().at_end(peer.0)
    }

    /// Whether a reset by the loop has reached the peer.
    pub fn is_reset(&mut self, peer: Peer) -> bool {
        self.world.peers().is_reset(peer.0)
    }

    /// How often the loop has called its backend, on virtual time.
    pub fn calls(&mut self) -> script::Calls {
        match &mut self.world {
            World::Script(peers) => peers.world.calls(),
            World::Sim(peers) => peers.calls(),
            World::Real(_) => panic!("only on virtual time"),
        }
    }

    /// How many sockets the loop has open, on virtual time.
    pub fn open_sockets(&mut self) -> usize {
        match &mut self.world {
            World::Script(peers) => peers.world.open_sockets(),
            World::Sim(peers) => peers.open_sockets(),
            World::Real(_) => panic!("only on virtual time"),
        }
    }

    /// Makes the next accepts of the listener fail, on virtual time.
    pub fn fail_accepts(&mut self, errnos: &[i32]) {
        match &mut self.world {
            World::Script(peers) => peers.world.fail_accepts(self.addr, errnos),
            World::Sim(peers) => peers.fail_accepts(errnos),
            World::Real(_) => panic!("only on virtual time"),
        }
    }

    /// Reports an id, stale or not, as ready for everything at the next wait, on virtual time.
    pub fn inject(&mut self, id_bits: u64) {
        match &mut self.world {
            World::Script(peers) => peers.world.inject(id_bits),
            World::Sim(peers) => peers.inject(id_bits),
            World::Real(_) => panic!("only on virtual time"),
        }
    }

    /// An address that never answers, on virtual time.
    pub fn black_hole(&mut self) -> SocketAddr {
        match &mut self.world {
            World::Script(peers) => peers.black_hole(),
            World::Sim(peers) => peers.black_hole(),
            World::Real(_) => panic!("only on virtual time"),
        }
    }

    /// Whether the peer's kernel has taken all that it sent.
    pub fn is_sent(&mut self, peer: Peer) -> bool {
        self.world.peers().is_sent(peer.0)
    }

    /// The peer sends a byte out of band (`send(2)`, `MSG_OOB`), not on script.
    pub fn send_urgent(&mut self, peer: Peer, byte: u8) {
        self.world.peers().send_urgent(peer.0, byte);
    }

    /// Waits until what the peers have sent has arrived, while the loop does not turn.
    pub fn until_arrived(&mut self) {
        self.world.peers().until_arrived();
    }

    /// Drops the loop, as the exit of its process does; another one is in its place.
    pub fn exit(&mut self) {
        self.event_loop = Loop::new(Config::default()).expect("a loop");
    }

    /// One turn that does not wait.
    pub fn turn(&mut self) -> Turn {
        self.world.peers().pump();
        self.event_loop.turn(&mut self.handler, Duration::ZERO).expect("the loop runs")
    }

    /// A turn that may wait for what real sockets take their time with.
    fn turn_patiently(&mut self) -> Turn {
        self.world.peers().pump();
        // On virtual time a wait would jump to deadlines that the test does not mean.
        let max_wait = Duration::from_millis(u64::from(!self.kind.is_virtual()));
        self.event_loop.turn(&mut self.handler, max_wait).expect("the loop runs")
    }

    /// Turns until the condition holds; panics with what was called if it never does.
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&mut Rig) -> bool) {
        for _ in 0..20_000 {
            if done(self) {
                return;
            }
            self.turn_patiently();
        }
        panic!("never: {what}; called: {:?}", self.handler.calls);
    }

    /// Turns without waiting until nothing is there to be done.
    pub fn look(&mut self) {
        let mut quiet = 0;
        while quiet < 3 {
            let turn = self.turn();
            quiet = if turn.callbacks == 0 && !turn.pending { quiet + 1 } else { 0 };
        }
    }

    /// Turns until nothing happens any more; panics with what was called if something always does.
    pub fn settle(&mut self) {
        let mut quiet = 0;
        for _ in 0..20_000 {
            if quiet == 10 {
                return;
            }
            let turn = self.turn_patiently();
            quiet = if turn.callbacks == 0 && !turn.pending { quiet + 1 } else { 0 };
        }
        let calls = &self.handler.calls;
        panic!("never quiet; called last: {:?}", &calls[calls.len().saturating_sub(10)..]);
    }

    /// Lets virtual time pass while the loop does not turn.
    pub fn advance(&mut self, duration: Duration) {
        match &mut self.world {
            World::Script(peers) => peers.world.advance(duration),
            World::Sim(peers) => peers.advance(duration),
            World::Real(_) => panic!("only on virtual time"),
        }
    }

    /// Lets time pass: virtual time at once, on a real clock by waiting.
    pub fn pass(&mut self, duration: Duration) {
        if self.kind.is_virtual() {
            self.advance(duration);
        } else {
            let from = self.event_loop.net().now();
            while self.event_loop.net().now().since(from) < duration {
                self.turn_patiently();
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
}

/// A story of a test's own around a rig, in which time passes: virtual time at once, real time by
/// itself.
pub trait InTime {
    fn rig(&mut self) -> &mut Rig;

    /// What it has come to, for who waits in vain.
    fn outcome(&self) -> String;

    /// Lets time pass, a millisecond at a time, until the condition holds.
    fn until(&mut self, done: impl Fn(&Self) -> bool) {
        for _ in 0..20_000 {
            if done(self) {
                return;
            }
            self.rig().turn();
            self.rig().pass(Duration::from_millis(1));
        }
        panic!("never; {}", self.outcome());
    }
}
