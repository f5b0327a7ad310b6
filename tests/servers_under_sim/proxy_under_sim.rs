//! `examples/proxy.rs` between bare peers: what it forwards is what was sent, in order and whole,
//! a FIN goes through behind the last byte and alone, and a reset is never made a FIN.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use hotloop::sim::{Dialect, Faults, Host, NodeOptions, Peer, Script, World, for_seeds};
use hotloop::{Config, OptionName, SocketOption};

use crate::circumstances::{LIMIT, Place, RECV_BUFFER_BYTES, below, one_in};
use crate::proxy::Proxy;

const TARGET_PORT: u16 = 80;
const HIGH_WATER_BYTES: usize = 4000;
/// It has room for one full read and not for what may be queued already, so that writes are
/// refused.
const HARD_LIMIT_BYTES: usize = RECV_BUFFER_BYTES + 404;
/// How many bytes at the beginning of a stream say whose it is.
const NAME_BYTES: usize = 8;
/// What the first target is called; clients are called 0, 1, 2…
const FIRST_TARGET: u64 = 1000;

/// Who waits for the other side's FIN before it says anything.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manners {
    Nobody,
    Clients,
    Targets,
}

/// A client or a target: one end of a conversation through the proxy.
struct End {
    peer: Peer,
    name: u64,
    planned_bytes: usize,
    sent_bytes: usize,
    waits_for_fin: bool,
    is_deaf: bool,
    was_deaf: bool,
    /// All is said and the FIN sent.
    has_finished: bool,
    has_reset: bool,
}

impl End {
    fn new(place: &mut Place<Proxy>, peer: Peer, name: u64, waits_for_fin: bool) -> End {
        let most = if place.is_narrow { 1000 } else { 40_000 };
        let planned_bytes = NAME_BYTES + below(&mut place.world, most);
        let is_deaf = !place.is_scarce && one_in(&mut place.world, 4);
        if is_deaf {
            place.world.stop_reading(peer);
        }
        let (sent_bytes, has_finished, has_reset) = (0, false, false);
        End {
            peer,
            name,
            planned_bytes,
            sent_bytes,
            waits_for_fin,
            is_deaf,
            was_deaf: is_deaf,
            has_finished,
            has_reset,
        }
    }

    /// Sends the next piece, and the FIN behind the last one; rarely gives up instead.
    fn go_on(&mut self, place: &mut Place<Proxy>) {
        if self.is_deaf && one_in(&mut place.world, 20) {
            self.listen(place);
        }
        let waits = self.waits_for_fin && !place.world.state(self.peer).read_closed;
        if self.is_done(place) || waits {
            return;
        }
        if !place.is_cut && one_in(&mut place.world, 150) {
            place.world.reset(self.peer);
            self.has_reset = true;
            return;
        }
        let bytes = below(&mut place.world, self.planned_bytes / 3 + 1) + 1;
        let end = self.planned_bytes.min(self.sent_bytes + bytes);
        place.world.send(self.peer, &stream(self.name, self.sent_bytes..end));
        self.sent_bytes = end;
        if end == self.planned_bytes {
            place.world.finish(self.peer);
            self.has_finished = true;
        }
    }

    fn listen(&mut self, place: &mut Place<Proxy>) {
        self.is_deaf = false;
        if !self.has_ended(place) {
            place.world.start_reading(self.peer);
        }
    }

    /// Whether it has said all that it ever will.
    fn is_done(&self, place: &Place<Proxy>) -> bool {
        self.has_finished || self.has_reset || place.has_failed(self.peer)
    }

    /// Whether nothing more will come of it, in either direction.
    fn has_ended(&self, place: &Place<Proxy>) -> bool {
        let has_all = place.world.state(self.peer).read_closed && self.has_finished;
        self.has_reset || place.has_failed(self.peer) || has_all
    }
}

/// Clients and targets and what is between them.
struct Scene {
    place: Place<Proxy>,
    target: Host,
    target_addr: SocketAddr,
    manners: Manners,
    clients: Vec<End>,
    targets: Vec<End>,
}

impl Scene {
    fn new(seed: u64) -> Scene {
        let mut target = None;
        let conn = Proxy::options()
            .low_water_bytes(500)
            .high_water_bytes(HIGH_WATER_BYTES)
            .hard_limit_bytes(HARD_LIMIT_BYTES);
        let mut place = Place::with(seed, conn, |world| {
            let host = world.host("target");
            let addr = world.serve(host, TARGET_PORT, Script::new());
            target = Some((host, addr));
            Proxy::new(addr)
        });
        let (target, target_addr) = target.expect("it was made with the proxy");
        let manners = [Manners::Nobody, Manners::Clients, Manners::Targets];
        let manners = manners[below(&mut place.world, 3)];
        let (clients, targets) = (Vec::new(), Vec::new());
        let mut scene = Scene { place, target, target_addr, manners, clients, targets };
        let count = 1 + below(&mut scene.place.world, 6);
        for name in 0..count as u64 {
            let peer = scene.place.connect();
            let waits = manners == Manners::Clients;
            scene.clients.push(End::new(&mut scene.place, peer, name, waits));
        }
        scene
    }

    /// Lets one client go on, and all targets that there are.
    fn step(&mut self) {
        let next = below(&mut self.place.world, self.clients.len());
        self.clients[next].go_on(&mut self.place);
        self.step_targets();
    }

    fn step_targets(&mut self) {
        let served = self.place.world.served(self.target, self.target_addr);
        for peer in served.into_iter().skip(self.targets.len()) {
            let name = FIRST_TARGET + self.targets.len() as u64;
            let waits = self.manners == Manners::Targets;
            self.targets.push(End::new(&mut self.place, peer, name, waits));
        }
        for target in &mut self.targets {
            target.go_on(&mut self.place);
        }
        self.assert_queues_are_bounded();
    }

    fn have_all_listen(&mut self) {
        for end in self.clients.iter_mut().chain(&mut self.targets) {
            end.listen(&mut self.place);
        }
    }

    /// Lets everybody finish. A peer whose reset was lost in a partition waits for ever.
    fn run_to_the_end(&mut self) {
        let patience = if self.place.is_cut { LIMIT / 2 } else { LIMIT };
        let began = self.place.world.now();
        while !self.ends().all(|end| end.has_ended(&self.place)) {
            for client in &mut self.clients {
                client.go_on(&mut self.place);
            }
            self.step_targets();
            let waited = self.place.world.now().since(began);
            if waited > patience {
                assert!(self.place.is_cut, "not over within {patience:?}");
                return self.give_up();
            }
            // Those who wait for a timeout wait for minutes.
            let pause_us = 50_000 + below(&mut self.place.world, 100_000);
            self.place.world.run_for(Duration::from_micros(pause_us as u64) + waited / 50);
        }
    }

    fn give_up(&mut self) {
        for end in self.clients.iter_mut().chain(&mut self.targets) {
            if !end.has_ended(&self.place) {
                self.place.world.reset(end.peer);
                end.has_reset = true;
            }
        }
    }

    fn ends(&self) -> impl Iterator<Item = &End> {
        self.clients.iter().chain(&self.targets)
    }

    /// Checks what pausing under pressure promises: a connection queues no more than the limit.
    fn assert_queues_are_bounded(&mut self) {
        let net = self.place.world.net(self.place.server);
        let conns: Vec<_> = net.conns().collect();
        for conn in conns {
            let queued_bytes = net.queued_bytes(conn);
            assert!(queued_bytes <= HARD_LIMIT_BYTES, "{conn}: {queued_bytes}");
        }
    }

    /// Checks what each end has received against what the one it is joined to has sent.
    fn check(&self) {
        let is_fair = self.is_fair();
        for end in self.ends() {
            let is_whole = self.is_whole(end) || end.was_deaf;
            assert!(!is_fair || is_whole, "{} was cut off for no reason", end.name);
            let got = self.place.world.received(end.peer);
            let state = self.place.world.state(end.peer);
            let Some(other) = self.whose(&got) else {
                assert!(got.len() < NAME_BYTES, "{} got a stream of nobody's", end.name);
                assert!(!state.read_closed, "{} got a FIN of nobody's", end.name);
                continue;
            };
            let sent = stream(other.name, 0..other.sent_bytes);
            assert!(sent.starts_with(&got), "{} got something else than sent", end.name);
            let is_whole = other.has_finished && got.len() == other.planned_bytes;
            assert!(!state.read_closed || is_whole, "{} got a FIN too early", end.name);
            let back = self.place.world.received(other.peer);
            let is_joined = self.whose(&back).is_none_or(|other| other.name == end.name);
            assert!(is_joined, "{} and {} are joined to others", end.name, other.name);
        }
    }

    /// Whether nothing was done to anybody that could cut a conversation. Not that of who has
    /// been deaf: what a closed connection has left for it, its kernel gives up in a minute.
    fn is_fair(&self) -> bool {
        let has_reset = self.ends().any(|end| end.has_reset);
        !has_reset && !self.place.is_scarce && !self.place.has_deadly_faults()
    }

    /// Whether an end has seen the other's FIN.
    fn is_whole(&self, end: &End) -> bool {
        self.place.world.state(end.peer).read_closed
    }

    fn whose(&self, got: &[u8]) -> Option<&End> {
        let name = u64::from_le_bytes(*got.first_chunk::<NAME_BYTES>()?);
        let found = self.ends().find(|end| end.name == name);
        Some(found.unwrap_or_else(|| panic!("a stream of {name}, who does not exist")))
    }
}

#[test]
fn proxy_forwards_every_byte_in_order_and_each_end_as_what_it_was() {
    for_seeds(40, |seed| {
        run(seed);
    });
}

#[test]
fn what_proxy_goes_through_has_refused_writes_and_whole_conversations_in_it() {
    let runs = (0..30).map(run);
    let (refused, whole) =
        runs.fold((0, 0), |sum, (refused, whole)| (sum.0 + refused, sum.1 + whole));
    assert!(refused > 10 && whole > 20, "{refused} writes were refused, {whole} ends were whole");
}

#[test]
fn what_the_loops_buffers_have_no_room_for_waits_and_arrives() {
    for_seeds(10, |seed| {
        let mut world = World::new(seed);
        let dialect = if seed % 2 == 0 { Dialect::Readiness } else { Dialect::Completion };
        let (bytes, pairs) = (400_000, 3);
        let (up, down) = (stream(1, 0..bytes), stream(2, 0..bytes));
        let late = |wait_s, own: &[u8], other: &[u8]| {
            let script = Script::new().stop_reading().send(own).finish();
            let wait = Duration::from_secs(wait_s);
            script.wait(wait).start_reading().expect(other).expect_end()
        };
        let target = world.host("target");
        let target_addr = world.serve(target, TARGET_PORT, late(20, &down, &up));
        // So much for writes that six queues at their high-water mark have no room; and for what
        // is kept of six reads.
        let config = Config::default()
            .recv_buffer_bytes(RECV_BUFFER_BYTES)
            .global_buffer_bytes(320_000)
            .conn(Proxy::options());
        let options = NodeOptions::default().dialect(dialect).faults(Faults::mild());
        let proxy = world.node("proxy", options.config(config), Proxy::new(target_addr));
        let addr = world.addr(proxy, 9000);
        world.net(proxy).listen(addr).expect("the port is free");
        let client = world.host("client");
        let clients: Vec<Peer> =
            (0..pairs).map(|_| world.play(client, addr, late(10, &up, &down))).collect();
        world.run_for(Duration::from_secs(9));
        assert!(world.net(proxy).stats().refused_writes > 0, "nothing was refused");
        world.run_until("everything", LIMIT, |world| {
            let served = world.served(target, target_addr);
            clients.iter().chain(&served).all(|peer| world.state(*peer).is_done)
        });
        world.run_until("the end", LIMIT, |world| world.open_sockets(proxy) == 1);
    });
}

#[test]
fn both_ends_are_probed_when_idle_and_neither_has_to_read_in_time() {
    let mut world = World::new(1);
    let target = world.host("target");
    let target_addr = world.serve(target, TARGET_PORT, Script::new());
    let config = Config::default().conn(Proxy::options());
    let options = NodeOptions::default().config(config);
    let proxy = world.node("proxy", options, Proxy::new(target_addr));
    let addr = world.addr(proxy, 9000);
    world.net(proxy).listen(addr).expect("the port is free");
    let client = world.host("client");
    world.connect(client, addr);
    world.run_for(Duration::from_secs(1));
    let net = world.net(proxy);
    let conns: Vec<_> = net.conns().collect();
    assert_eq!(conns.len(), 2);
    for conn in conns {
        let mut read = |name| net.socket_option(conn, name).expect("it is stored");
        let keepalive = read(OptionName::Keepalive);
        let SocketOption::Keepalive(Some(probing)) = keepalive else { panic!("{keepalive:?}") };
        assert!(probing.idle + probing.interval * probing.probes <= Duration::from_secs(120));
        let unlimited = SocketOption::UserTimeout(Duration::ZERO);
        assert_eq!(read(OptionName::UserTimeout), unlimited);
    }
}

/// Returns how many writes were refused, and how many ends have had all from the other where
/// they all had to.
fn run(seed: u64) -> (u64, usize) {
    let mut scene = Scene::new(seed);
    while !scene.clients.iter().all(|client| client.is_done(&scene.place) || client.waits_for_fin) {
        scene.step();
        scene.place.pass_time();
    }
    scene.place.calm();
    scene.have_all_listen();
    scene.run_to_the_end();
    scene.check();
    let refused = scene.place.world.net(scene.place.server).stats().refused_writes;
    scene.place.assert_all_gone();
    let whole = scene.ends().filter(|end| scene.is_fair() && scene.is_whole(end)).count();
    (refused, whole)
}

/// The bytes of an end at these offsets: its name, and then what no other end has.
fn stream(name: u64, offsets: Range<usize>) -> Vec<u8> {
    let start = name.wrapping_mul(0x9E37_79B9);
    let mixed = |offset| start.wrapping_add(offset as u64).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    let byte = |offset| match name.to_le_bytes().get(offset) {
        Some(byte) => *byte,
        None => mixed(offset).to_le_bytes()[5],
    };
    offsets.map(byte).collect()
}
