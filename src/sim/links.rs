//! What lies between hosts, and what goes wrong on them.

use crate::backend::sim::Link;
use crate::fault::Faults;
use crate::id::Key;

use super::node::Host;
use super::world::World;

impl World {
    /// Sets the way between two hosts, in both directions.
    ///
    /// # Examples
    ///
    /// ```
    /// use hotloop::sim::{Link, World};
    ///
    /// let mut world = World::new(1);
    /// let (phone, desk) = (world.host("phone"), world.host("desk"));
    /// let server = world.host("server");
    /// world.link(phone, server, Link::mobile());
    /// world.link(desk, server, Link::lan());
    /// ```
    pub fn link(&mut self, a: impl Into<Host>, b: impl Into<Host>, link: Link) {
        let (a, b) = (self.index(a), self.index(b));
        let mut network = self.shared.lock();
        network.set_link(a, b, link.clone());
        network.set_link(b, a, link);
    }

    /// Sets the way from one host to another.
    pub fn link_one_way(&mut self, from: impl Into<Host>, to: impl Into<Host>, link: Link) {
        let (from, to) = (self.index(from), self.index(to));
        self.shared.lock().set_link(from, to, link);
    }

    /// Sets all ways that were not set one by one. Default: [`Link::lan`].
    pub fn default_link(&mut self, link: Link) {
        self.shared.lock().set_default_link(link);
    }

    /// Cuts the way between two hosts: packets wait, as TCP sends them again, until it is
    /// [healed](World::heal); a SYN is lost and sent again, a RST is lost for good. An end that
    /// hears no acknowledgement for [`Link::give_up`] breaks, also if only one direction is cut.
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
    /// let client = world.connect(host, addr);
    /// world.run_for(Duration::from_secs(1));
    /// world.partition(host, server);
    /// world.send(client, b"hello");
    /// world.run_for(Duration::from_secs(5));
    /// assert_eq!(world.state(client).received_bytes, 0);
    /// world.heal(host, server);
    /// world.run_for(Duration::from_secs(60));
    /// assert_eq!(world.received(client), b"hello");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn partition(&mut self, a: impl Into<Host>, b: impl Into<Host>) {
        let (a, b) = (self.index(a), self.index(b));
        let mut network = self.shared.lock();
        network.cut(a, b);
        network.cut(b, a);
    }

    /// Cuts the way from one host to another.
    pub fn partition_one_way(&mut self, from: impl Into<Host>, to: impl Into<Host>) {
        let (from, to) = (self.index(from), self.index(to));
        self.shared.lock().cut(from, to);
    }

    /// Ends a partition, in both directions.
    pub fn heal(&mut self, a: impl Into<Host>, b: impl Into<Host>) {
        let (a, b) = (self.index(a), self.index(b));
        let mut network = self.shared.lock();
        network.heal(a, b);
        network.heal(b, a);
    }

    /// Ends all partitions.
    pub fn heal_all(&mut self) {
        self.shared.lock().heal_all();
    }

    /// Sets what goes wrong on a host from here on.
    pub fn faults(&mut self, host: impl Into<Host>, faults: Faults) {
        let host = self.index(host);
        self.shared.lock().machine_mut(host).faults = faults;
    }

    /// Makes the next accepts of a host's loop fail with these error numbers.
    ///
    /// # Panics
    ///
    /// If it runs no loop.
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
    /// use hotloop::sim::{NodeOptions, Script, World};
    ///
    /// let mut world = World::new(1);
    /// let server = world.node("server", NodeOptions::default(), Echo);
    /// let addr = world.addr(server, 7);
    /// world.net(server).listen(addr)?;
    /// world.fail_accepts(server, &[libc::EMFILE]);
    /// let host = world.host("client");
    /// let client = world.play(host, addr, Script::new().send("hello").expect("hello"));
    /// world.run_until("the echo", Duration::from_secs(5), |world| world.state(client).is_done);
    /// assert_eq!(world.net(server).stats().accept_pauses, 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn fail_accepts(&mut self, host: impl Into<Host>, errnos: &[i32]) {
        let host = self.running(host);
        self.shared.lock().fail_accepts(host, errnos);
    }

    /// Makes the next wait of a host's loop report an id, by
    /// [`ConnId::to_bits`](crate::ConnId::to_bits), as ready for everything, whether it is or not,
    /// stale or not.
    ///
    /// # Panics
    ///
    /// If the bits are those of no id, or the host runs no loop.
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
    /// let listener = world.net(server).listen(addr)?;
    /// world.spurious(server, listener.to_bits()); // nobody has connected
    /// world.run_for(Duration::from_secs(1));
    /// assert_eq!(world.net(server).stats().accepted, 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn spurious(&mut self, host: impl Into<Host>, id_bits: u64) {
        let host = self.running(host);
        let key = Key::from_bits(id_bits);
        let key = key.unwrap_or_else(|| panic!("{id_bits:#x} are the bits of no id"));
        self.shared.lock().inject(host, key);
    }

    /// Sets the buffers of the sockets that are opened on a host from here on.
    ///
    /// # Panics
    ///
    /// If one of them is 0.
    ///
    /// # Examples
    ///
    /// ```
    /// use hotloop::sim::World;
    ///
    /// let mut world = World::new(1);
    /// let phone = world.host("phone");
    /// world.set_buffers(phone, 4 << 10, 700); // its window is never more than 700 bytes
    /// ```
    pub fn set_buffers(&mut self, host: impl Into<Host>, send_bytes: usize, recv_bytes: usize) {
        let host = self.index(host);
        assert!(send_bytes > 0, "send_bytes 0 could send nothing");
        assert!(recv_bytes > 0, "recv_bytes 0 could receive nothing");
        let mut network = self.shared.lock();
        let machine = network.machine_mut(host);
        (machine.send_max, machine.recv_max) = (send_bytes, recv_bytes);
    }
}
