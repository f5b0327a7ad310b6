//! Peers in the simulated world, on a host of their own. Nothing takes time there, so that what
//! is due has happened after each turn, and deadlines can be met to the nanosecond.

use std::net::SocketAddr;
use std::time::Duration;

use hotloop::script::Calls;
use hotloop::sim::{self, Dialect, Host, Link, NodeOptions, Progress, Script, World};
use hotloop::{Config, Errno, Loop};

use super::errno::ECONNREFUSED;
use super::{Kind, Peers};

const SEED: u64 = 1;

pub struct SimPeers {
    pub world: World,
    /// Where the loop runs.
    pub home: Host,
    /// Where the peers are.
    pub away: Host,
    peers: Vec<sim::Peer>,
    /// Servers, and how many of those who connected to them have been asked for.
    servers: Vec<(SocketAddr, usize)>,
}

impl SimPeers {
    pub(super) fn open(config: Config, kind: Kind) -> (Loop, SimPeers) {
        let mut world = World::new(SEED);
        world.default_link(Link::instant());
        let dialect = if kind.is_completion() { Dialect::Completion } else { Dialect::Readiness };
        let options = NodeOptions::default().config(config).dialect(dialect);
        let (home, event_loop) = world.attach("loop", options).expect("a loop");
        let away = world.host("peers");
        (event_loop, SimPeers { world, home, away, peers: Vec::new(), servers: Vec::new() })
    }

    /// The address of the loop's host, with any port.
    pub(super) fn loop_addr(&self) -> SocketAddr {
        self.world.addr(self.home, 0)
    }

    pub fn peer(&self, peer: super::Peer) -> sim::Peer {
        self.peers[peer.0]
    }

    /// How often the loop has called; changes of interest are not in the trace.
    pub(super) fn calls(&self) -> Calls {
        let trace = self.world.trace();
        let count = |call: &str| trace.lines().filter(|line| line.contains(call)).count();
        Calls {
            waits: count(" loop: wait "),
            recvs: count(" loop: recv "),
            sends: count(" loop: send "),
            accepts: count(" loop: accept "),
            interests: 0,
        }
    }

    pub(super) fn open_sockets(&self) -> usize {
        self.world.open_sockets(self.home)
    }

    pub(super) fn fail_accepts(&mut self, errnos: &[i32]) {
        self.world.fail_accepts(self.home, errnos);
    }

    pub(super) fn inject(&mut self, id_bits: u64) {
        self.world.spurious(self.home, id_bits);
    }

    /// An address on a host that is cut off.
    pub(super) fn black_hole(&mut self) -> SocketAddr {
        let hole = self.world.host("black hole");
        self.world.partition(self.home, hole);
        self.world.addr(hole, 82)
    }

    pub(super) fn advance(&mut self, duration: Duration) {
        self.world.run_for(duration);
    }

    fn add(&mut self, peer: sim::Peer) -> usize {
        self.peers.push(peer);
        self.peers.len() - 1
    }
}

impl Peers for SimPeers {
    fn dial(&mut self, addr: SocketAddr) -> usize {
        let from = if addr.ip().is_loopback() { self.home } else { self.away };
        let peer = self.world.connect(from, addr);
        self.pump();
        self.add(peer)
    }

    fn is_refused(&mut self, addr: SocketAddr) -> bool {
        let peer = self.dial(addr);
        self.world.state(self.peers[peer]).progress == Progress::Failed(Errno(ECONNREFUSED))
    }

    fn listen(&mut self) -> SocketAddr {
        let port = 80 + u16::try_from(self.servers.len()).expect("few servers");
        let addr = self.world.serve(self.away, port, Script::new());
        self.servers.push((addr, 0));
        addr
    }

    fn refusing(&mut self) -> SocketAddr {
        self.world.addr(self.away, 9999)
    }

    fn accept(&mut self, addr: SocketAddr) -> Option<usize> {
        self.pump();
        let is_it = |server: &&mut (SocketAddr, usize)| server.0 == addr;
        let (_, asked) = self.servers.iter_mut().find(is_it).expect("it is a server of this rig");
        let peer = *self.world.served(self.away, addr).get(*asked)?;
        *asked += 1;
        Some(self.add(peer))
    }

    fn send(&mut self, peer: usize, data: &[u8]) {
        self.world.send(self.peers[peer], data);
        self.pump();
    }

    fn finish(&mut self, peer: usize) {
        self.world.finish(self.peers[peer]);
        self.pump();
    }

    fn reset(&mut self, peer: usize) {
        self.world.reset(self.peers[peer]);
        self.pump();
    }

    fn received(&mut self, peer: usize) -> Vec<u8> {
        self.pump();
        self.world.received(self.peers[peer])
    }

    fn set_reading(&mut self, peer: usize, reading: bool) {
        match reading {
            true => self.world.start_reading(self.peers[peer]),
            false => self.world.stop_reading(self.peers[peer]),
        }
    }

    fn at_end(&mut self, peer: usize) -> bool {
        self.pump();
        self.world.state(self.peers[peer]).read_closed
    }

    fn is_reset(&mut self, peer: usize) -> bool {
        self.pump();
        self.world.state(self.peers[peer]).is_reset
    }

    fn is_sent(&mut self, peer: usize) -> bool {
        self.pump();
        self.world.state(self.peers[peer]).unsent_bytes == 0
    }

    fn send_urgent(&mut self, peer: usize, byte: u8) {
        self.world.send_urgent(self.peers[peer], byte);
        self.pump();
    }

    fn pump(&mut self) {
        self.world.run_for(Duration::ZERO);
    }

    fn until_arrived(&mut self) {
        self.pump();
    }
}
