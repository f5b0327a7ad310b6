//! Runs a program: makes the world, lets happen what happens, calms everything down, and looks at
//! what is left.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use hotloop::CloseReason;
use hotloop::sim::{Faults, Host, Link, Node, Peer, Report, Script, World};

use crate::model::{Conn, Model, Planned, key_of};
use crate::program::{Act, OPS, Op, Program};
use crate::random::{Random, bytes_of};

/// How many servers there are to connect to; each is connected to once.
const SERVERS: u16 = 24;
const CALLS_MIN: u64 = 500;

/// What a run has done.
pub struct Outcome {
    pub report: Report,
    pub ops: [u64; OPS.len()],
    pub trace: Option<String>,
}

/// A run in progress.
struct Run<'a> {
    program: &'a Program,
    world: World,
    node: Node<Model>,
    clients: [Host; 2],
    servers: Host,
    peers: Vec<Peer>,
    /// Peers that have finished before the end of the program.
    early: BTreeSet<u64>,
    /// Peers of loops that were dropped.
    orphans: BTreeSet<u64>,
    dropped: u32,
    random: Random,
}

/// Runs a program.
///
/// # Panics
///
/// If a rule is broken.
pub fn run(program: &Program, with_trace: bool, is_silent: bool) -> Outcome {
    let mut run = Run::new(program);
    if is_silent {
        run.world.silence();
    }
    for (delay_micros, act) in &program.acts {
        run.run_for(Duration::from_micros(*delay_micros));
        run.act(act);
    }
    run.fill();
    run.calm();
    run.finish();
    let trace = with_trace.then(|| run.world.trace());
    Outcome { report: run.world.report(), ops: run.world.handler(run.node).counts, trace }
}

impl Run<'_> {
    fn new(program: &Program) -> Run<'_> {
        let setup = &program.setup;
        let mut world = World::starting_at(program.seed, setup.start());
        world.default_link(setup.link());
        let near = world.host("near");
        let far = world.host("far");
        let servers = world.host("servers");
        let own_ip = SocketAddr::from(([10, 0, 0, 4], 0)).ip();
        let model = Model::new(setup, program.answers.clone(), own_ip);
        let node = world.node("loop", setup.node_options(), model);
        assert_eq!(world.addr(node, 0).ip(), own_ip, "the loop is the fourth machine");
        let addrs: Vec<_> =
            (0..SERVERS).map(|port| world.serve(servers, 1_000 + port, Script::new())).collect();
        world.call(node, |model, net| {
            model.servers = addrs;
            model.listen(net);
        });
        let random = Random::new(program.seed ^ 1);
        let (peers, orphans, early) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
        let clients = [near, far];
        Run { program, early, world, node, clients, servers, peers, orphans, dropped: 0, random }
    }

    fn model(&mut self) -> &mut Model {
        self.world.handler(self.node)
    }

    /// Lets time pass, over panics that were planned.
    fn run_for(&mut self, duration: Duration) {
        let end = self.world.now() + duration;
        loop {
            let left = end.since(self.world.now());
            match catch_unwind(AssertUnwindSafe(|| self.world.run_for(left))) {
                Ok(()) => break,
                Err(panic) if panic.is::<Planned>() => {}
                Err(panic) => resume_unwind(panic),
            }
        }
        if self.world.is_stopped(self.node) {
            self.world.resume(self.node);
        }
        self.meet_servers();
    }

    /// Adds the peers that the loop has connected to.
    fn meet_servers(&mut self) {
        for port in 0..SERVERS {
            let addr = self.world.addr(self.servers, 1_000 + port);
            for peer in self.world.served(self.servers, addr) {
                if !self.peers.contains(&peer) {
                    self.peers.push(peer);
                }
            }
        }
    }

    fn key(&self, peer: Peer) -> u64 {
        key_of(self.world.state(peer).local)
    }

    fn had_cut(&self) -> bool {
        self.program.acts.iter().any(|(_, act)| matches!(act, Act::Cut | Act::CutOneWay(_)))
    }

    fn some_peer(&self, number: usize) -> Option<Peer> {
        (!self.peers.is_empty()).then(|| self.peers[number % self.peers.len()])
    }

    fn act(&mut self, act: &Act) {
        match act {
            Act::Dial => self.dial(),
            Act::Send(who, len) => self.send(*who, *len),
            Act::SendUrgent(who) => {
                if let Some(peer) = self.some_peer(*who).filter(|peer| self.may_send(*peer)) {
                    // What overtakes a mark joins the stream: the model would have to know when.
                    let _ = peer;
                }
            }
            Act::Finish(who) => {
                if let Some(peer) = self.some_peer(*who) {
                    self.finish_peer(peer);
                }
            }
            Act::Reset(who) => {
                if let Some(peer) = self.some_peer(*who) {
                    let key = self.key(peer);
                    self.model().outside.resets.insert(key);
                    self.world.reset(peer);
                }
            }
            Act::StopReading(who) => {
                if let Some(peer) = self.some_peer(*who) {
                    self.world.stop_reading(peer);
                }
            }
            Act::StartReading(who) => {
                if let Some(peer) = self.some_peer(*who) {
                    self.world.start_reading(peer);
                }
            }
            Act::Cut => self.world.partition(self.node, self.clients[0]),
            Act::CutOneWay(out) if *out => {
                self.world.partition_one_way(self.node, self.servers);
            }
            Act::CutOneWay(_) => self.world.partition_one_way(self.clients[1], self.node),
            Act::Heal => self.world.heal_all(),
            Act::Outside(op) => self.outside(*op),
            Act::Wake => {
                self.model().wake_due = true;
                self.world.net(self.node).waker().wake();
            }
            Act::Refuse(errnos) => self.world.fail_accepts(self.node, errnos),
            Act::Spurious(target) => {
                let id = self.model().resolve(None, *target);
                self.world.spurious(self.node, id.to_bits());
            }
            Act::Drop => self.drop_loop(),
        }
    }

    fn outside(&mut self, op: Op) {
        if op != Op::Stop {
            self.world.call(self.node, |model, net| model.operate(net, None, op));
        }
    }

    fn dial(&mut self) {
        let number = self.random.below(64) as usize;
        let addr = self.world.call(self.node, |model, net| {
            let all = &model.listeners;
            (!all.is_empty()).then(|| net.listener_addr(all[number % all.len()])).flatten()
        });
        let port = addr.map_or(9, |addr| addr.port());
        let from = self.clients[number % 2];
        let to = self.world.addr(self.node, port);
        let peer = self.world.connect(from, to);
        self.peers.push(peer);
        let key = self.key(peer);
        self.model().outside.sent.insert(key, 0);
    }

    fn may_send(&mut self, peer: Peer) -> bool {
        let key = self.key(peer);
        let outside = &self.model().outside;
        !outside.finished.contains(&key) && !outside.resets.contains(&key)
    }

    fn send(&mut self, who: usize, len: usize) {
        let Some(peer) = self.some_peer(who) else { return };
        if self.may_send(peer) {
            let key = self.key(peer);
            let sent = self.model().outside.sent.entry(key).or_default();
            let data = bytes_of(key * 2, *sent, len);
            *sent += len as u64;
            self.world.send(peer, &data);
        }
    }

    fn finish_peer(&mut self, peer: Peer) {
        let key = self.key(peer);
        self.model().outside.sent.entry(key).or_default();
        self.model().outside.finished.insert(key);
        self.world.finish(peer);
    }

    /// Drops the loop and starts another one in its place.
    fn drop_loop(&mut self) {
        self.dropped += 1;
        let keys: Vec<u64> = self.peers.iter().map(|peer| self.key(*peer)).collect();
        self.orphans.extend(keys);
        let model = self.world.shut(self.node).start_over();
        self.node = self.world.restart(self.node, self.program.setup.node_options(), model);
        self.world.call(self.node, |model, net| model.listen(net));
    }

    /// Goes on until there were enough system calls.
    fn fill(&mut self) {
        for round in 0..10_000 {
            if self.world.report().calls >= CALLS_MIN {
                return;
            }
            if round % 20 == 0 {
                self.world.heal_all();
                self.world.call(self.node, |model, net| model.listen(net));
                self.dial();
            }
            let who = self.random.below(64) as usize;
            self.send(who, 40);
            self.run_for(Duration::from_millis(3 + round / 20));
        }
    }

    /// Ends all trouble, and sees that what is due comes: first while everybody is still there.
    fn calm(&mut self) {
        self.early = self.model().outside.finished.clone();
        self.world.faults(self.node, Faults::none());
        self.world.default_link(Link::lan());
        self.world.heal_all();
        for peer in self.peers.clone() {
            self.world.start_reading(peer);
        }
        self.world.call(self.node, |model, net| model.calm(net));
        self.run_for(Duration::from_secs(30));
        let program = self.program;
        let is_full = program.setup.global_buffer_bytes < 1 << 28;
        self.world.call(self.node, |model, net| model.check_nothing_is_owed(net, is_full));
        for peer in self.peers.clone() {
            self.finish_peer(peer);
        }
        self.world.call(self.node, |model, net| model.close_own(net));
        // The longest that is waited for is a SYN that nobody answers.
        self.run_for(Duration::from_secs(200));
        self.meet_servers();
        for peer in self.peers.clone() {
            self.finish_peer(peer);
        }
        // Those that a slot was found for late.
        for _ in 0..3 {
            self.run_for(Duration::from_secs(30));
            self.world.call(self.node, |model, net| model.close_own(net));
        }
        self.run_for(Duration::from_secs(60));
        self.world.call(self.node, |model, net| model.check_all_ended(net));
    }

    /// Closes what listens, and looks at what is left.
    fn finish(&mut self) {
        self.world.call(self.node, |model, net| model.close_listeners(net));
        self.run_for(Duration::from_secs(130));
        let stats = self.world.net(self.node).stats();
        let left = (stats.connections, stats.listeners, stats.timers);
        assert_eq!(left, (0, 0, 0), "C1: connections, listeners and timers are left");
        assert_eq!((stats.queued_bytes, stats.buffered_bytes), (0, 0), "C8: bytes are left");
        assert_eq!(stats.accepted_bytes, stats.sent_bytes + stats.dropped_bytes, "C8: totals");
        assert_eq!(self.world.open_sockets(self.node), 0, "C1: descriptors are left open");
        self.run_for(Duration::ZERO);
        let turns = self.world.report().turns;
        self.run_for(Duration::from_secs(10));
        assert_eq!(self.world.report().turns, turns, "C14: a loop without anything takes turns");
        self.check_peers();
    }

    /// What the peers have read is what was written to them, from its beginning (C5, C7, C8).
    fn check_peers(&mut self) {
        let ends: BTreeMap<u64, Conn> = self
            .model()
            .conns
            .values()
            .filter(|conn| conn.is_open && !conn.is_own)
            .map(|conn| (conn.key, conn.clone()))
            .collect();
        for peer in self.peers.clone() {
            let (key, state) = (self.key(peer), self.world.state(peer));
            let received = self.world.received(peer);
            let written = self.model().written.get(&key).copied().unwrap_or(0);
            assert!(received.len() as u64 <= written, "C8: {peer:?} got more than was written");
            let expected = bytes_of(key * 2 + 1, 0, received.len());
            assert!(received == expected, "C7: {peer:?} got other bytes than were written");
            let is_dropped = self.orphans.contains(&key);
            let disturbed = self.model().is_deadly || self.model().outside.resets.contains(&key);
            let Some(conn) = ends.get(&key).filter(|_| !is_dropped) else { continue };
            let Some((reason, dropped)) = conn.end else { continue };
            let orderly = matches!(reason, CloseReason::LocalClose | CloseReason::PeerClosed);
            if orderly && !disturbed {
                let got = (received.len() as u64, dropped, state.read_closed, state.is_reset);
                let all = (conn.accepted, 0, true, false);
                assert_eq!(
                    got, all,
                    "C5: {peer:?}, closed with {reason}: bytes, dropped, FIN, RST"
                );
            }
            if reason == CloseReason::LocalAbort && !disturbed {
                // Behind both FINs there is nothing to reset.
                let is_over = state.read_closed && self.early.contains(&key);
                // And one that meets a partition is lost.
                let is_reset = state.is_reset || is_over || self.had_cut();
                assert!(is_reset, "C5: {peer:?} was aborted without a reset: {state:?}");
            }
        }
    }
}
