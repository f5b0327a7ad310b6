//! Peers without a loop: what a test does with them.

use std::net::SocketAddr;

use crate::backend::sim::{EndIndex, PeerState, Script};

use super::node::Host;
use super::world::World;

/// A peer without a loop: one end of a connection that a test moves by hand or by a [`Script`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Peer {
    world: u32,
    end: EndIndex,
}

impl World {
    /// Connects a peer to an address. What it sends before it is connected waits.
    pub fn connect(&mut self, from: impl Into<Host>, to: SocketAddr) -> Peer {
        self.play(from, to, Script::new())
    }

    /// Connects a peer to an address; it plays the script once it is connected.
    pub fn play(&mut self, from: impl Into<Host>, to: SocketAddr, script: Script) -> Peer {
        let from = self.up(from);
        Peer { world: self.id, end: self.shared.lock().play(from, to, script) }
    }

    /// Listens on a host without its loop: whoever connects finds a peer that plays the script.
    /// Port 0 takes a free one.
    ///
    /// # Panics
    ///
    /// If the port is taken.
    pub fn serve(&mut self, host: impl Into<Host>, port: u16, script: Script) -> SocketAddr {
        let host = self.up(host);
        self.shared.lock().serve(host, port, script)
    }

    /// Returns the peers that were connected to at an address of [`serve`](World::serve), in
    /// order.
    pub fn served(&self, host: impl Into<Host>, addr: SocketAddr) -> Vec<Peer> {
        let ends = self.shared.lock().served(self.index(host), addr);
        ends.into_iter().map(|end| Peer { world: self.id, end }).collect()
    }

    /// Sends bytes from a peer.
    pub fn send(&mut self, peer: Peer, data: &[u8]) {
        let end = self.end(peer);
        self.shared.lock().peer_send(end, data);
    }

    /// Sends an urgent byte from a peer (`MSG_OOB`), which is not part of the stream.
    pub fn send_urgent(&mut self, peer: Peer, byte: u8) {
        let end = self.end(peer);
        self.shared.lock().peer_send_urgent(end, byte);
    }

    /// Sends a FIN from a peer, behind what it has sent.
    pub fn finish(&mut self, peer: Peer) {
        let end = self.end(peer);
        self.shared.lock().peer_finish(end);
    }

    /// Resets a peer's connection; what was not transmitted yet is lost.
    pub fn reset(&mut self, peer: Peer) {
        let end = self.end(peer);
        self.shared.lock().peer_reset(end);
    }

    /// Makes a peer read no more: its receive buffer fills, then its window is closed.
    pub fn stop_reading(&mut self, peer: Peer) {
        let end = self.end(peer);
        self.shared.lock().peer_reads(end, false);
    }

    /// Makes a peer read again.
    ///
    /// # Panics
    ///
    /// If its script expects something else than what it then reads.
    pub fn start_reading(&mut self, peer: Peer) {
        let end = self.end(peer);
        let mut network = self.shared.lock();
        network.peer_reads(end, true);
        network.tell_failure();
    }

    /// Returns all the bytes a peer has read.
    pub fn received(&self, peer: Peer) -> Vec<u8> {
        self.shared.lock().peer_received(self.end(peer)).to_vec()
    }

    /// Looks at all the bytes a peer has read. Meanwhile the world cannot be asked anything else.
    pub fn with_received<T>(&self, peer: Peer, look: impl FnOnce(&[u8]) -> T) -> T {
        look(self.shared.lock().peer_received(self.end(peer)))
    }

    /// Returns what can be seen of a peer.
    pub fn state(&self, peer: Peer) -> PeerState {
        self.shared.lock().peer_state(self.end(peer))
    }

    /// # Panics
    ///
    /// If the peer is another world's.
    fn end(&self, peer: Peer) -> EndIndex {
        assert_eq!(peer.world, self.id, "{peer:?} does not exist in world {}", self.id);
        peer.end
    }
}
