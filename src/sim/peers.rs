//! Peers without a loop: what a test does with them.

use std::net::SocketAddr;

use crate::backend::sim::{EndIndex, PeerState, Script};

use super::node::Host;
use super::world::World;

/// A peer without a loop: one end of a connection that a test moves by hand or by a [`Script`].
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
/// use hotloop::sim::{NodeOptions, World};
///
/// let mut world = World::new(1);
/// let server = world.node("server", NodeOptions::default(), Echo);
/// let addr = world.addr(server, 7);
/// world.net(server).listen(addr)?;
/// let host = world.host("client");
/// let peer = world.connect(host, addr);
/// world.send(peer, b"hello");
/// world.finish(peer);
/// world.run_until("the end", Duration::from_secs(1), |world| world.state(peer).read_closed);
/// assert_eq!(world.received(peer), b"hello");
/// # Ok::<(), std::io::Error>(())
/// ```
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
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use hotloop::{ConnId, Handler, Net};
    /// # struct Client;
    /// # impl Handler for Client {
    /// #     fn on_data(&mut self, net: &mut Net, conn: ConnId, data: &[u8]) -> usize {
    /// #         net.close(conn);
    /// #         data.len()
    /// #     }
    /// # }
    /// use hotloop::sim::{NodeOptions, Script, World};
    ///
    /// let mut world = World::new(1);
    /// let client = world.node("client", NodeOptions::default(), Client);
    /// let host = world.host("server");
    /// let addr = world.serve(host, 80, Script::new().expect("GET /\n").send("hello\n").finish());
    /// let conn = world.net(client).connect(addr)?;
    /// world.net(client).write(conn, b"GET /\n");
    /// world.run_for(Duration::from_secs(1));
    /// let served = world.served(host, addr)[0];
    /// assert!(world.state(served).is_done);
    /// # Ok::<(), std::io::Error>(())
    /// ```
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
