//! What a run is up against, drawn from its seed: the link, the machine's faults, the sizes of
//! buffers, and what happens to the network meanwhile.

use std::net::SocketAddr;
use std::time::Duration;

use hotloop::sim::{Dialect, Fault, Faults, Host, Link, Node, NodeOptions, Peer, Progress, World};
use hotloop::{Config, ConnOptions, Handler};

/// The port that servers listen on.
const PORT: u16 = 9000;
/// What a server is shown at once, if it leaves nothing unconsumed.
pub(crate) const RECV_BUFFER_BYTES: usize = 4096;
/// How many machines the clients are spread over.
const HOSTS: usize = 3;
/// So long nothing is given up while a network is cut for some seconds.
const PATIENCE: Duration = Duration::from_secs(600);
/// Everything is over within this time.
pub(crate) const LIMIT: Duration = Duration::from_secs(1800);

/// A server among machines from which clients come.
pub(crate) struct Place<H> {
    pub(crate) world: World,
    pub(crate) server: Node<H>,
    pub(crate) addr: SocketAddr,
    pub(crate) hosts: Vec<Host>,
    /// The buffers or the link are so small that much data would take for ever.
    pub(crate) is_narrow: bool,
    /// There are not descriptors for all: clients that wait are served when others have gone.
    pub(crate) is_scarce: bool,
    /// There are partitions, and a reset that meets one is lost.
    pub(crate) is_cut: bool,
}

impl<H: Handler + 'static> Place<H> {
    /// Draws everything but what the clients say; `conn` is what the server's `main` would set.
    pub(crate) fn new(seed: u64, handler: H, conn: ConnOptions) -> Place<H> {
        Place::with(seed, conn, |_| handler)
    }

    /// Makes the handler in the world: one that has to know of another host.
    pub(crate) fn with(
        seed: u64,
        conn: ConnOptions,
        handler: impl FnOnce(&mut World) -> H,
    ) -> Place<H> {
        let mut world = World::new(seed);
        let handler = handler(&mut world);
        // A reset that meets a partition leaves half a connection, which only a timeout ends.
        let conn =
            conn.linger_timeout(PATIENCE).write_stall_timeout(PATIENCE).idle_timeout(PATIENCE);
        let (is_narrow, is_scarce) = (one_in(&mut world, 3), one_in(&mut world, 4));
        // Without its own limit the loop would stay 64 below that of descriptors: at none.
        let config = Config::default()
            .max_connections(10_000)
            .recv_buffer_bytes(RECV_BUFFER_BYTES)
            .conn(conn);
        let descriptors_max = if is_scarce { 4 } else { 1000 };
        let is_cut = one_in(&mut world, 2);
        let options = machine(&mut world, is_narrow, is_cut).descriptors_max(descriptors_max);
        let link = link(&mut world, is_narrow);
        world.default_link(link);
        let server = world.node("server", options.config(config), handler);
        let addr = world.addr(server, PORT);
        world.net(server).listen(addr).expect("the port is free");
        let hosts = Vec::new();
        let mut place = Place { world, server, addr, hosts, is_narrow, is_scarce, is_cut };
        place.hosts = (0..HOSTS).map(|number| place.client_host(number)).collect();
        place
    }

    fn client_host(&mut self, number: usize) -> Host {
        let host = self.world.host(&format!("clients {number}"));
        let (send_bytes, recv_bytes) =
            (buffer(&mut self.world, self.is_narrow), buffer(&mut self.world, self.is_narrow));
        self.world.set_buffers(host, send_bytes, recv_bytes);
        host
    }

    /// Begins a connection from one of the machines.
    pub(crate) fn connect(&mut self) -> Peer {
        let host = self.hosts[below(&mut self.world, HOSTS)];
        self.world.connect(host, self.addr)
    }

    /// Lets some time pass, in which the network may be cut or mended and accepts may fail.
    pub(crate) fn pass_time(&mut self) {
        let world = &mut self.world;
        let host = self.hosts[below(world, HOSTS)];
        match below(world, 40) {
            0..3 if !self.is_cut => {}
            0 => world.partition(host, self.server),
            1 => world.partition_one_way(host, self.server),
            2 => world.partition_one_way(self.server, host),
            3 => world.fail_accepts(self.server, &[crate::errno::EMFILE, crate::errno::ENOBUFS]),
            4..20 => world.heal_all(),
            _ => {}
        }
        let pause = Duration::from_micros(below(world, 20_000) as u64);
        world.run_for(pause);
    }

    /// Ends all faults and partitions: what is on its way arrives.
    pub(crate) fn calm(&mut self) {
        self.world.heal_all();
        self.world.faults(self.server, Faults::none());
    }

    pub(crate) fn run_until(&mut self, what: &str, done: impl Fn(&Place<H>) -> bool) {
        let began = self.world.now();
        while !done(self) {
            let is_late = self.world.now().since(began) > LIMIT;
            assert!(!is_late, "{what}: not within {LIMIT:?}");
            self.world.run_for(Duration::from_millis(10));
        }
    }

    /// Whether this connection's end is excused: something on record has cut it.
    pub(crate) fn is_cut(&self, peer: Peer) -> bool {
        self.has_deadly_faults() && self.has_failed(peer)
    }

    /// Whether anything on record has cut or refused connections.
    pub(crate) fn has_deadly_faults(&self) -> bool {
        let deadly = [
            Fault::Reset,
            Fault::SendError,
            Fault::RecvError,
            Fault::AcceptError,
            Fault::ConnectError,
            Fault::SelfConnect,
            Fault::Refused,
            Fault::Swallowed,
        ];
        let report = self.world.report();
        deadly.iter().any(|kind| report.count(*kind) > 0)
    }

    /// Whether nothing more can come of this connection.
    pub(crate) fn has_ended(&self, peer: Peer) -> bool {
        self.world.state(peer).read_closed || self.has_failed(peer)
    }

    pub(crate) fn has_failed(&self, peer: Peer) -> bool {
        let state = self.world.state(peer);
        state.is_reset || matches!(state.progress, Progress::Failed(_))
    }

    /// Checks that the server has forgotten its clients, all of them.
    pub(crate) fn assert_all_gone(&mut self) {
        let server = self.server;
        self.world.run_until("the end of every connection but the listener", LIMIT, |world| {
            world.open_sockets(server) == 1
        });
        // The last close may still be in flight.
        self.world.run_for(Duration::from_secs(1));
        let stats = self.world.net(server).stats();
        assert_eq!((stats.connections, stats.queued_bytes, stats.buffered_bytes), (0, 0, 0));
        assert_eq!(stats.accepted_bytes, stats.sent_bytes + stats.dropped_bytes);
    }
}

/// Draws a number below `end`.
pub(crate) fn below(world: &mut World, end: usize) -> usize {
    usize::try_from(world.random() % end as u64).expect("it is below a usize")
}

pub(crate) fn one_in(world: &mut World, count: usize) -> bool {
    below(world, count) == 0
}

/// Where there are partitions nothing else ends connections: a reset that meets one is lost, and a
/// client that only waits would wait for ever.
fn machine(world: &mut World, is_narrow: bool, is_cut: bool) -> NodeOptions {
    let dialect = if one_in(world, 2) { Dialect::Readiness } else { Dialect::Completion };
    let faults = match below(world, 5) {
        0 => Faults::none(),
        1 => Faults::mild(),
        2 if !is_cut => Faults::harsh(),
        3 => Faults::none().of(Fault::ShortRead, 0.5).of(Fault::ShortWrite, 0.5),
        _ => Faults::mild().of(Fault::DelayedEvent, 0.3).of(Fault::SpuriousEvent, 0.3),
    };
    NodeOptions::default()
        .dialect(dialect)
        .faults(faults)
        .send_buffer_bytes(buffer(world, is_narrow))
        .recv_buffer_bytes(buffer(world, is_narrow))
}

fn buffer(world: &mut World, is_narrow: bool) -> usize {
    if is_narrow { 1 + below(world, 300) } else { 4096 + below(world, 60 << 10) }
}

fn link(world: &mut World, is_narrow: bool) -> Link {
    let far = [Link::wifi(), Link::mobile(), Link::intercontinental()];
    let link = match below(world, 6) {
        0 => Link::instant(),
        1 => Link::lan(),
        2 => Link::lan().loss(0.05),
        place if is_narrow => Link::lan().latency(Duration::from_micros(200 * place as u64)),
        place => far[place - 3].clone(),
    };
    match below(world, 8) {
        0 => link.refuse(0.2),
        1 => link.swallow(0.2),
        2 => link.segment_max_bytes(1 + below(world, 100)),
        _ => link,
    }
}
