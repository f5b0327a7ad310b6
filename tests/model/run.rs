//! Runs a program: makes the world, lets happen what happens, calms everything down, and looks at
//! what is left.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use hotloop::sim::{Fault, Faults, Host, Link, Node, Peer, Progress, Report, Script, World};
use hotloop::{CloseReason, TimeoutKind};

use crate::counts::Counts;
use crate::model::{Model, Planned};
use crate::program::{Act, Op, Program};
use crate::random::{Pattern, Random, bytes_of};
use crate::record::{Conn, key_of};

/// How many servers there are to connect to; each is connected to once.
const SERVERS: u16 = 24;
const CALLS_MIN: u64 = 500;
/// How many full buffers one message fills at most.
const PACKETS_MAX: usize = 60;

/// What a run has done.
pub struct Outcome {
    pub report: Report,
    pub ops: Counts,
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
    /// Peers of loops that were dropped.
    orphans: BTreeSet<u64>,
    dropped: u32,
    is_cut: bool,
    /// A reset may have been lost on the way: it is sent once.
    was_cut: bool,
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
    run.go_through();
    let trace = with_trace.then(|| run.world.trace());
    Outcome { report: run.world.report(), ops: run.world.handler(run.node).counts, trace }
}

/// Runs a program that fails; returns its trace up to there.
pub fn trace_of(program: &Program) -> String {
    let mut run = Run::new(program);
    let failed = catch_unwind(AssertUnwindSafe(|| run.go_through())).is_err();
    assert!(failed, "it has failed before");
    run.world.trace()
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
            model.listen(net, false);
        });
        let random = Random::new(program.seed ^ 1);
        let (peers, orphans) = (Vec::new(), BTreeSet::new());
        let clients = [near, far];
        Run {
            program,
            world,
            node,
            clients,
            servers,
            peers,
            orphans,
            dropped: 0,
            is_cut: false,
            was_cut: false,
            random,
        }
    }

    fn go_through(&mut self) {
        for (delay_micros, act) in &self.program.acts {
            self.run_for(Duration::from_micros(*delay_micros));
            self.act(act);
        }
        self.fill();
        self.calm();
        self.finish();
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

    fn some_peer(&self, number: usize) -> Option<Peer> {
        (!self.peers.is_empty()).then(|| self.peers[number % self.peers.len()])
    }

    fn act(&mut self, act: &Act) {
        match act {
            Act::Dial => self.dial(),
            Act::Send(who, len) => self.send(*who, *len),
            Act::SendUrgent(who) => self.send_urgent(*who),
            Act::Finish(who) => {
                if let Some(peer) = self.some_peer(*who) {
                    self.finish_peer(peer);
                }
            }
            Act::Reset(who) => {
                if let Some(peer) = self.some_peer(*who) {
                    self.reset(peer);
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
            Act::Cut | Act::CutOneWay(_) => self.cut(act),
            Act::Heal => self.heal(),
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

    fn cut(&mut self, act: &Act) {
        (self.is_cut, self.was_cut) = (true, true);
        match act {
            Act::CutOneWay(true) => self.world.partition_one_way(self.node, self.servers),
            Act::CutOneWay(false) => self.world.partition_one_way(self.clients[1], self.node),
            _ => self.world.partition(self.node, self.clients[0]),
        }
    }

    fn heal(&mut self) {
        self.is_cut = false;
        self.world.heal_all();
    }

    fn reset(&mut self, peer: Peer) {
        let (key, is_cut) = (self.key(peer), self.is_cut);
        let outside = &mut self.model().outside;
        outside.resets.insert(key);
        if is_cut {
            outside.silent.insert(key);
        }
        self.world.reset(peer);
    }

    fn outside(&mut self, op: Op) {
        if !matches!(op, Op::Stop | Op::Panic) {
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
        // Through a buffer of one byte a long message is nothing but more of the same.
        let len = len.min(PACKETS_MAX * self.program.setup.socket_buffers.1);
        if self.may_send(peer) {
            let key = self.key(peer);
            let sent = self.model().outside.sent.entry(key).or_default();
            let data = bytes_of(key * 2, *sent, len);
            *sent += len as u64;
            self.world.send(peer, &data);
        }
    }

    /// One mark for each peer: a second one may overtake the first, whose byte joins the stream.
    fn send_urgent(&mut self, who: usize) {
        let Some(peer) = self.some_peer(who) else { return };
        let key = self.key(peer);
        if self.may_send(peer) && self.model().outside.urgent.insert(key) {
            self.world.send_urgent(peer, b'!');
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
        self.world.call(self.node, |model, net| model.listen(net, false));
    }

    /// Goes on until there were enough system calls.
    fn fill(&mut self) {
        for round in 0..10_000 {
            if self.world.report().calls >= CALLS_MIN {
                return;
            }
            if round % 20 == 0 {
                self.heal();
                self.world.call(self.node, |model, net| model.listen(net, false));
                self.dial();
            }
            // A loop that is full and whose peers are quiet has its turns, too.
            self.outside(Op::Timer(0));
            let who = self.random.below(64) as usize;
            self.send(who, 40);
            self.run_for(Duration::from_millis(3 + round / 20));
        }
    }

    /// Ends all trouble, and sees that what is due comes: first while everybody is still there.
    fn calm(&mut self) {
        self.world.faults(self.node, Faults::none());
        self.world.default_link(Link::lan());
        self.heal();
        for peer in self.peers.clone() {
            self.world.start_reading(peer);
        }
        self.world.call(self.node, Model::calm);
        self.run_for(Duration::from_millis(1));
        self.reset_paused();
        self.world.call(self.node, Model::resume_all);
        self.run_for(Duration::from_secs(30));
        self.world.call(self.node, |model, net| model.check_nothing_is_owed(net));
        self.end_all();
        self.world.call(self.node, |model, net| model.check_all_ended(net));
    }

    /// Ends everything in order. With few slots one connection is accepted when another has ended.
    fn end_all(&mut self) {
        for wait_s in [200, 60, 60, 60, 60, 60, 60, 60] {
            for peer in self.peers.clone() {
                self.finish_peer(peer);
            }
            self.world.call(self.node, Model::close_own);
            self.run_for(Duration::from_secs(wait_s));
            if self.model().has_ended() {
                break;
            }
        }
    }

    /// Resets some of the peers whose connections are paused, which has to be told all the same.
    fn reset_paused(&mut self) {
        let paused = self.model().paused();
        let mut resets = Vec::new();
        for peer in self.peers.clone() {
            let key = self.key(peer);
            let is_open = self.world.state(peer).progress == Progress::Open;
            if is_open && paused.contains(&key) && key % 3 == 0 {
                self.reset(peer);
                resets.push(key);
            }
        }
        self.run_for(Duration::from_secs(30));
        self.model().check_resets_are_told(&resets);
    }

    /// Closes what listens, and looks at what is left.
    fn finish(&mut self) {
        self.world.call(self.node, Model::close_listeners);
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
        self.check_blamed();
        self.check_peers();
    }

    /// What nobody has done, faults have (C4).
    fn check_blamed(&mut self) {
        let (report, blamed) = (self.world.report(), self.model().blamed);
        let deadly = self.deadly_faults();
        assert!(blamed.broken <= deadly, "C4: {blamed:?}, and {deadly} faults");
        let refusing = [Fault::Refused, Fault::SelfConnect, Fault::ConnectError];
        let refusals = refusing.iter().map(|kind| report.count(*kind)).sum::<u64>() + deadly;
        assert!(blamed.refused <= refusals, "C4: {blamed:?}, and {refusals} faults");
    }

    /// How many connections faults may have broken.
    fn deadly_faults(&self) -> u64 {
        let report = self.world.report();
        let [send, recv, reset] =
            [Fault::SendError, Fault::RecvError, Fault::Reset].map(|kind| report.count(kind));
        // A reset is told to both ends, which may be the loop's both.
        send + recv + 2 * reset
    }

    /// What the peers have read is what was written to them, from its beginning (C5, C7, C8).
    fn check_peers(&mut self) {
        let ended = |conn: &&Conn| conn.is_open && !conn.is_own && !conn.goes_on();
        let ends: BTreeMap<u64, Conn> = self
            .model()
            .conns
            .values()
            .filter(ended)
            .map(|conn| (conn.key, conn.clone()))
            .collect();
        let is_deadly = self.deadly_faults() > 0;
        for peer in self.peers.clone() {
            let key = self.key(peer);
            self.check_received(peer, key);
            let is_dropped = self.orphans.contains(&key);
            if let Some(conn) = ends.get(&key).filter(|_| !is_dropped) {
                let is_disturbed = is_deadly || self.model().outside.resets.contains(&key);
                self.check_end(peer, conn, is_disturbed);
            }
        }
    }

    fn check_received(&mut self, peer: Peer, key: u64) {
        let stream = key * 2 + 1;
        let written = self.model().written.get(&stream).copied().unwrap_or(0);
        self.world.with_received(peer, |received| {
            assert!(received.len() as u64 <= written, "C8: {peer:?} got more than was written");
            let is_right = Pattern::new(stream, 0).matches(received);
            assert!(is_right, "C7: {peer:?} got other bytes than were written");
        });
    }

    /// What a peer has seen of the end of its connection.
    fn check_end(&mut self, peer: Peer, conn: &Conn, is_disturbed: bool) {
        let state = self.world.state(peer);
        let (reason, dropped) = conn.end.expect("all have ended");
        let received = state.received_bytes as u64;
        if state.read_closed && !state.is_reset {
            // A FIN says that this was all.
            assert_eq!(received, conn.accepted, "C5: {peer:?}: a FIN, and not all: {conn:?}");
        }
        let broke =
            matches!(reason, CloseReason::Io(_) | CloseReason::Timeout(TimeoutKind::Kernel));
        if broke && !conn.is_shut && !conn.is_closed {
            assert!(!state.read_closed, "C5: {peer:?} got a FIN of what broke: {conn:?}");
        }
        let is_orderly = matches!(reason, CloseReason::LocalClose | CloseReason::PeerClosed);
        if is_orderly && !is_disturbed && !conn.was_stuck {
            let got = (received, dropped, state.read_closed, state.is_reset);
            let all = (conn.accepted, 0, true, false);
            assert_eq!(got, all, "C5: {peer:?}, closed with {reason}: bytes, dropped, FIN, RST");
        }
        let loses = reason == CloseReason::Released && dropped > 0;
        if (reason == CloseReason::LocalAbort || loses) && !is_disturbed {
            // Behind both FINs there is nothing to reset.
            let early = &self.model().outside.finished_early;
            let is_over = state.read_closed && early.contains(&conn.key) || self.was_cut;
            assert!(state.is_reset || is_over, "C5: {peer:?}: {reason} without a reset: {state:?}");
        }
    }
}
