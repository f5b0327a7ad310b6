//! Peers in the scripted world.

use std::net::SocketAddr;

use hotloop::script::{self, Dialect, World};
use hotloop::{Config, Loop};

use super::{Kind, Peers};

pub(super) struct ScriptPeers {
    pub(super) world: World,
    peers: Vec<script::Peer>,
}

impl ScriptPeers {
    pub(super) fn open(config: Config, kind: Kind) -> (Loop, ScriptPeers) {
        let dialect = if kind.is_completion() { Dialect::Completion } else { Dialect::Readiness };
        let (event_loop, world) = script::open(config, dialect).expect("a loop");
        (event_loop, ScriptPeers { world, peers: Vec::new() })
    }

    pub(super) fn peer(&self, peer: usize) -> script::Peer {
        self.peers[peer]
    }

    pub(super) fn black_hole(&self) -> SocketAddr {
        let addr = SocketAddr::from(([10, 0, 0, 9], 82));
        self.world.black_hole(addr);
        addr
    }

    fn add(&mut self, peer: script::Peer) -> usize {
        self.peers.push(peer);
        self.peers.len() - 1
    }
}

impl Peers for ScriptPeers {
    fn dial(&mut self, addr: SocketAddr) -> usize {
        let peer = self.world.connect(addr).expect("it listens");
        self.add(peer)
    }

    fn is_refused(&mut self, addr: SocketAddr) -> bool {
        self.world.connect(addr).is_none()
    }

    fn listen(&mut self) -> SocketAddr {
        let addr = SocketAddr::from(([10, 0, 0, 9], 80));
        self.world.listen(addr);
        addr
    }

    fn refusing(&mut self) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 9], 81))
    }

    fn accept(&mut self, addr: SocketAddr) -> Option<usize> {
        let peer = self.world.accept(addr)?;
        Some(self.add(peer))
    }

    fn send(&mut self, peer: usize, data: &[u8]) {
        self.world.send(self.peers[peer], data);
    }

    fn finish(&mut self, peer: usize) {
        self.world.finish(self.peers[peer]);
    }

    fn reset(&mut self, peer: usize) {
        self.world.reset(self.peers[peer]);
    }

    fn received(&mut self, peer: usize) -> Vec<u8> {
        self.world.received(self.peers[peer])
    }

    fn set_reading(&mut self, peer: usize, reading: bool) {
        self.world.set_window(self.peers[peer], if reading { usize::MAX } else { 0 });
    }

    fn at_end(&mut self, peer: usize) -> bool {
        self.world.is_finished(self.peers[peer])
    }

    fn is_reset(&mut self, peer: usize) -> bool {
        self.world.is_reset(self.peers[peer])
    }

    fn is_sent(&mut self, _: usize) -> bool {
        true
    }

    fn send_urgent(&mut self, _: usize, _: u8) {
        panic!("the scripted world has no urgent data");
    }

    fn pump(&mut self) {}

    fn until_arrived(&mut self) {}
}
