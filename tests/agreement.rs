//! The same script of operations on every backend: what the handler is told and what the peers
//! receive agree.
//!
//! A script is drawn from a seed and played on the simulator first, where it is settled after
//! every step. Every other backend then has to come to the same state after every step, and to
//! stay there at the end. What the contract leaves open is not compared: into how many `on_data`
//! a stream is cut, and the order of callbacks about different connections.

mod support;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use hotloop::{Bytes, CloseReason, Config, ConnId, ConnOptions, Net};
use support::{Kind, Peer, Rig, errno};

const STEPS: usize = 60;
const SEEDS_PER_TEST: u64 = 30;
const CONNS_MAX: usize = 6;

/// What is done in one step; the numbers choose among the connections there are.
#[derive(Debug, Clone, Copy)]
enum Step {
    Dial,
    Connect,
    ConnectToNobody,
    Send(usize, usize),
    Finish(usize),
    Reset(usize),
    Do(usize, Op),
    /// The handler does it in the next callback about the connection that has data or its end.
    Later(usize, Op),
    Behave(usize, Behaviour),
    Timer(u64),
    Wake,
}

#[derive(Debug, Clone, Copy)]
enum Op {
    Write(usize),
    WriteShared(usize),
    Flush,
    Pause,
    Resume,
    Shutdown,
    Close,
    Abort,
    /// Out of the loop and into it again.
    HandOver,
}

/// What a handler does with bytes.
#[derive(Debug, Clone, Copy)]
enum Behaviour {
    Swallow,
    Echo,
    /// Takes whole frames of so many bytes alone.
    Frames(usize),
}

/// What was told about one connection, without what may differ.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Told {
    Accept,
    Connect,
    /// So many bytes were consumed, and their sum.
    Consumed(usize, u64),
    ReadClosed(usize),
    Released(usize, usize),
    Close(CloseReason),
}

/// What a peer has seen of the end: the first thing alone, behind which not every peer looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PeerEnd {
    None,
    Fin,
    Reset,
    /// It has reset the connection itself.
    Own,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct State {
    conns: Vec<Vec<Told>>,
    timers: Vec<u64>,
    wakes: usize,
    /// How much each peer has received and its sum, and what has ended it.
    peers: Vec<(usize, u64, PeerEnd)>,
}

/// What the handler's callbacks share.
#[derive(Default)]
struct Cast {
    /// Which connection of the story an id is.
    numbers: BTreeMap<ConnId, usize>,
    ids: Vec<ConnId>,
    behaviours: Vec<Behaviour>,
    later: Vec<Option<Op>>,
    told: Vec<Vec<Told>>,
    timers: Vec<u64>,
    wakes: usize,
}

impl Cast {
    fn add(&mut self, id: ConnId) -> usize {
        self.numbers.insert(id, self.ids.len());
        self.ids.push(id);
        self.behaviours.push(Behaviour::Swallow);
        self.later.push(None);
        self.told.push(Vec::new());
        self.ids.len() - 1
    }

    fn number(&mut self, id: ConnId) -> usize {
        match self.numbers.get(&id) {
            Some(number) => *number,
            None => self.add(id),
        }
    }

    fn tell(&mut self, id: ConnId, what: Told) {
        let number = self.number(id);
        let told = &mut self.told[number];
        match (told.last_mut(), &what) {
            (Some(Told::Consumed(bytes, sum)), Told::Consumed(more, add)) => {
                (*bytes, *sum) = (*bytes + more, *sum + add);
            }
            _ => told.push(what),
        }
    }

    fn data(&mut self, net: &mut Net, id: ConnId, data: &[u8]) -> usize {
        let number = self.number(id);
        let consumed = match self.behaviours[number] {
            Behaviour::Swallow => data.len(),
            Behaviour::Echo => {
                net.write(id, data);
                data.len()
            }
            Behaviour::Frames(len) => data.len() / len * len,
        };
        if consumed > 0 {
            self.tell(id, Told::Consumed(consumed, sum(&data[..consumed])));
        }
        self.do_later(net, number);
        consumed
    }

    fn do_later(&mut self, net: &mut Net, number: usize) {
        if let Some(op) = self.later[number].take() {
            operate(net, self.ids[number], op);
        }
    }
}

fn operate(net: &mut Net, id: ConnId, op: Op) {
    match op {
        Op::Write(len) => drop(net.write(id, &noise(len))),
        Op::WriteShared(len) => drop(net.write_shared(id, Bytes::from(noise(len)))),
        Op::Flush => drop(net.flush(id)),
        Op::Pause => drop(net.pause_reading(id)),
        Op::Resume => drop(net.resume_reading(id)),
        Op::Shutdown => net.shutdown(id),
        Op::Close => net.close(id),
        Op::Abort => net.abort(id),
        Op::HandOver => drop(net.release(id)),
    }
}

fn noise(len: usize) -> Vec<u8> {
    (0..len).map(|i| u8::try_from(i * 31 % 251).expect("below 251")).collect()
}

fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(*byte)).sum()
}

/// A generator of scripts (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % end as u64).expect("below a usize")
    }

    fn step(&mut self) -> Step {
        let which = self.below(1000);
        match self.below(100) {
            0..9 => Step::Dial,
            9..14 => Step::Connect,
            14..16 => Step::ConnectToNobody,
            16..42 => Step::Send(which, 1 + self.below(3000)),
            42..46 => Step::Finish(which),
            46..49 => Step::Reset(which),
            49..80 => Step::Do(which, self.op()),
            80..90 => Step::Later(which, self.op()),
            90..96 => Step::Behave(which, self.behaviour()),
            96..98 => Step::Timer(which as u64),
            _ => Step::Wake,
        }
    }

    fn op(&mut self) -> Op {
        match self.below(31) {
            0..7 => Op::Write(1 + self.below(5000)),
            7..11 => Op::WriteShared(1 + self.below(5000)),
            11..13 => Op::Flush,
            13..17 => Op::Pause,
            17..22 => Op::Resume,
            22..24 => Op::Shutdown,
            24..26 => Op::Close,
            26..28 => Op::Abort,
            _ => Op::HandOver,
        }
    }

    fn behaviour(&mut self) -> Behaviour {
        match self.below(3) {
            0 => Behaviour::Swallow,
            1 => Behaviour::Echo,
            _ => Behaviour::Frames(1 + self.below(700)),
        }
    }
}

/// A script on one backend.
struct Play {
    rig: Rig,
    cast: Rc<RefCell<Cast>>,
    peers: Vec<OtherEnd>,
}

struct OtherEnd {
    peer: Peer,
    /// The connection's number.
    number: usize,
    has_finished: bool,
    has_reset: bool,
}

impl Play {
    fn new(kind: Kind) -> Play {
        // Longer than a test takes: what waits for the peer waits on every backend.
        let patience = Duration::from_secs(3600);
        let conn = ConnOptions::default().linger_timeout(patience);
        let mut rig = Rig::with(kind, Config::default().conn(conn));
        let cast: Rc<RefCell<Cast>> = Rc::default();
        install(&mut rig, &cast);
        Play { rig, cast, peers: Vec::new() }
    }

    fn state(&mut self) -> State {
        let rig = &mut self.rig;
        let mut peers = Vec::new();
        for other in &self.peers {
            let received = rig.received(other.peer);
            let end = match (other.has_reset, rig.at_end(other.peer), rig.is_reset(other.peer)) {
                (true, ..) => PeerEnd::Own,
                (_, true, _) => PeerEnd::Fin,
                (_, _, true) => PeerEnd::Reset,
                _ => PeerEnd::None,
            };
            peers.push((received.len(), sum(&received), end));
        }
        let cast = self.cast.borrow();
        let (conns, timers) = (cast.told.clone(), cast.timers.clone());
        State { conns, timers, wakes: cast.wakes, peers }
    }

    fn play(&mut self, step: Step) {
        let conns = self.peers.len();
        match step {
            Step::Dial if conns < CONNS_MAX => {
                let (peer, id) = self.rig.client();
                self.meet(peer, id);
            }
            Step::Connect if conns < CONNS_MAX => {
                let (peer, id) = self.rig.connected();
                self.meet(peer, id);
            }
            Step::ConnectToNobody => {
                let nobody = self.rig.refusing();
                let id = self.rig.event_loop.net().connect(nobody).expect("there are slots");
                self.cast.borrow_mut().number(id);
                self.rig.until_closed(id);
            }
            Step::Timer(token) => {
                self.rig.event_loop.net().start_timer(Duration::ZERO, token);
            }
            Step::Wake => self.rig.event_loop.waker().wake(),
            _ if conns == 0 => {}
            Step::Send(which, _) | Step::Finish(which) | Step::Reset(which) => {
                self.at_peer(which % conns, step);
            }
            Step::Do(which, op) => {
                let id = self.cast.borrow().ids[self.peers[which % conns].number];
                operate(self.rig.event_loop.net(), id, op);
            }
            Step::Later(which, op) => {
                let number = self.peers[which % conns].number;
                self.cast.borrow_mut().later[number] = Some(op);
            }
            Step::Behave(which, behaviour) => {
                let number = self.peers[which % conns].number;
                self.cast.borrow_mut().behaviours[number] = behaviour;
            }
            Step::Dial | Step::Connect => {}
        }
    }

    fn meet(&mut self, peer: Peer, id: ConnId) {
        let number = self.cast.borrow_mut().number(id);
        self.peers.push(OtherEnd { peer, number, has_finished: false, has_reset: false });
    }

    /// Returns whether a step can be made: not at a peer that has nothing to say any more. Only
    /// the reference is asked, because a real peer that has seen a FIN does not look for a reset.
    fn can_play(&mut self, step: Step) -> bool {
        let conns = self.peers.len();
        match step {
            Step::Send(which, _) | Step::Finish(which) | Step::Reset(which) if conns > 0 => {
                let other = &self.peers[which % conns];
                !other.has_finished && !other.has_reset && !self.rig.is_reset(other.peer)
            }
            _ => true,
        }
    }

    fn at_peer(&mut self, which: usize, step: Step) {
        let other = &mut self.peers[which];
        let rig = &mut self.rig;
        match step {
            Step::Send(_, len) => rig.send(other.peer, &noise(len)),
            Step::Finish(_) => {
                rig.finish(other.peer);
                other.has_finished = true;
            }
            _ => {
                rig.reset(other.peer);
                other.has_reset = true;
            }
        }
    }
}

/// Has the handler write down what it is told, and do what the script says.
fn install(rig: &mut Rig, cast: &Rc<RefCell<Cast>>) {
    let own = || Rc::clone(cast);
    let handler = &mut rig.handler;
    let it = own();
    handler.on_accept = Some(Box::new(move |_, id| it.borrow_mut().tell(id, Told::Accept)));
    let it = own();
    handler.on_connect = Some(Box::new(move |_, id| it.borrow_mut().tell(id, Told::Connect)));
    let it = own();
    handler.on_data = Some(Box::new(move |net, id, data| it.borrow_mut().data(net, id, data)));
    let it = own();
    handler.on_read_closed = Some(Box::new(move |net, id, rest| {
        let mut cast = it.borrow_mut();
        cast.tell(id, Told::ReadClosed(rest.len()));
        let number = cast.number(id);
        cast.do_later(net, number);
        if let Behaviour::Swallow = cast.behaviours[number] {
            net.close(id);
        }
    }));
    let it = own();
    handler.on_release = Some(Box::new(move |net, id, detached| {
        let mut cast = it.borrow_mut();
        let (unread, queued) = (detached.unread().len(), detached.queued().len());
        cast.tell(id, Told::Released(unread, queued));
        if let Ok(new) = net.adopt(detached) {
            let number = cast.number(id);
            cast.numbers.insert(new, number);
            cast.ids[number] = new;
        }
    }));
    let it = own();
    handler.on_close = Some(Box::new(move |_, id, reason| {
        it.borrow_mut().tell(id, Told::Close(reason));
    }));
    let it = own();
    handler.on_timer = Some(Box::new(move |_, _, token| it.borrow_mut().timers.push(token)));
    let it = own();
    handler.on_wake = Some(Box::new(move |_| it.borrow_mut().wakes += 1));
}

/// Plays a script on the simulator; returns it and the state after each step.
fn reference(seed: u64) -> Vec<(Step, State)> {
    let mut random = Random(seed);
    let mut play = Play::new(Kind::SimReadiness);
    let mut script: Vec<Step> = (0..STEPS).map(|_| random.step()).collect();
    script.extend((0..CONNS_MAX).map(Step::Finish));
    let mut played = Vec::new();
    for step in script {
        if play.can_play(step) {
            play.play(step);
            play.rig.settle();
            played.push((step, play.state()));
        }
    }
    played
}

fn agrees(kind: Kind, seed: u64, script: &[(Step, State)]) {
    let mut play = Play::new(kind);
    for (number, (step, expected)) in script.iter().enumerate() {
        play.play(*step);
        for tries in 0.. {
            // What shows in no state (bytes shown and left again) is over before the next step.
            play.rig.look();
            let state = play.state();
            if state == *expected {
                break;
            }
            assert!(
                tries < 3000,
                "seed {seed}, step {number}: {step:?} on {kind:?}\n{}",
                difference(expected, &state)
            );
            play.rig.pass(Duration::from_micros(200 * u64::from(!kind.is_virtual())));
        }
    }
    play.rig.settle();
    assert_eq!(play.state(), script[script.len() - 1].1, "seed {seed}: after the end on {kind:?}");
}

/// Shows the connections and peers that differ, alone.
fn difference(expected: &State, found: &State) -> String {
    let mut text = String::new();
    let rows = expected.conns.len().max(found.conns.len());
    for row in (0..rows).filter(|row| expected.conns.get(*row) != found.conns.get(*row)) {
        let (wanted, got) = (expected.conns.get(row), found.conns.get(row));
        text += &format!("connection {row}:\n  expected {wanted:?}\n  found    {got:?}\n");
    }
    for (row, (wanted, got)) in expected.peers.iter().zip(&found.peers).enumerate() {
        if wanted != got {
            text += &format!("peer {row}: expected {wanted:?}, found {got:?}\n");
        }
    }
    let rest = |state: &State| (state.timers.clone(), state.wakes);
    if rest(expected) != rest(found) {
        text += &format!("timers and wakes: {:?}, found {:?}\n", rest(expected), rest(found));
    }
    text
}

fn play_from(kind: Kind, first_seed: u64) {
    for seed in first_seed..first_seed + SEEDS_PER_TEST {
        agrees(kind, seed, &reference(seed));
    }
}

fn scripts_from_1(kind: Kind) {
    play_from(kind, 1);
}

fn scripts_from_101(kind: Kind) {
    play_from(kind, 101);
}

fn scripts_from_201(kind: Kind) {
    play_from(kind, 201);
}

/// A script that does nothing would agree with everything.
#[test]
fn the_scripts_do_what_they_are_there_for() {
    let mut seen = BTreeMap::new();
    for seed in [1, 101, 201].into_iter().flat_map(|first| first..first + SEEDS_PER_TEST) {
        for told in reference(seed).last().expect("there are steps").1.conns.iter().flatten() {
            let name = match told {
                Told::Close(reason) => format!("{reason:?}"),
                other => format!("{other:?}").split('(').next().unwrap_or("").to_owned(),
            };
            *seen.entry(name).or_insert(0) += 1;
        }
    }
    for name in [
        "Accept",
        "Connect",
        "Consumed",
        "ReadClosed",
        "Released",
        "PeerClosed",
        "Reset",
        "LocalClose",
        "LocalAbort",
        &format!("ConnectFailed(Errno({}))", errno::ECONNREFUSED),
    ] {
        assert!(seen.get(name).is_some_and(|count| *count >= 5), "{name}: {seen:?}");
    }
}

on_every_backend!(scripts_from_1, scripts_from_101, scripts_from_201);
