//! A script played on one backend, and the state that it is in after each step.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hotloop::{Config, ConnId, Sent};

use crate::cast::{Cast, Told, install, options, repeat, sent_by_peer};
use crate::random::bytes_of;
use crate::script::{Op, Step, Then};
use crate::support::{Kind, Peer, Rig};
use crate::{DONE, STEPS_DONE};

const CONNS_MAX: usize = 6;
/// Longer than the timers of a step take.
const STEP_TIME: Duration = Duration::from_millis(10);
/// Above every frame.
const HOARD_MAX_BYTES: usize = 2 << 10;
/// What arrives in one piece. With more, what is done in a callback depends on the pieces.
const SEND_WHOLE_MAX_BYTES: usize = 3000;

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
pub struct State {
    pub conns: Vec<(Vec<Told>, Vec<Sent>)>,
    pub timers: Vec<u64>,
    wakes: usize,
    /// How much each peer has received, of which every byte was right, and what has ended it.
    peers: Vec<(usize, PeerEnd)>,
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
    checked: usize,
    has_finished: bool,
    has_reset: bool,
}

impl Play {
    fn new(kind: Kind) -> Play {
        let mut rig = Rig::with(kind, Config::default().conn(options(HOARD_MAX_BYTES)));
        let cast: Rc<RefCell<Cast>> = Rc::default();
        install(&mut rig, &cast);
        Play { rig, cast, peers: Vec::new() }
    }

    fn state(&mut self) -> State {
        let (rig, cast) = (&mut self.rig, self.cast.borrow());
        let mut peers = Vec::new();
        for other in &mut self.peers {
            let received = rig.received(other.peer);
            cast.check_received(other.number, other.checked, &received);
            other.checked = received.len();
            let end = match (other.has_reset, rig.at_end(other.peer), rig.is_reset(other.peer)) {
                (true, ..) => PeerEnd::Own,
                (_, true, _) => PeerEnd::Fin,
                (_, _, true) => PeerEnd::Reset,
                _ => PeerEnd::None,
            };
            peers.push((received.len(), end));
        }
        let roles = cast.roles.iter();
        let conns = roles.map(|role| (role.told.clone(), role.answers.clone())).collect();
        State { conns, timers: cast.timers.clone(), wakes: cast.wakes, peers }
    }

    fn play(&mut self, step: Step) {
        let conns = self.peers.len();
        STEPS_DONE.fetch_add(1, Ordering::Relaxed);
        match step {
            Step::Dial if conns < CONNS_MAX => {
                let (peer, id) = self.rig.client();
                self.meet(peer, id);
            }
            Step::Connect if conns < CONNS_MAX => {
                let (peer, id) = self.rig.connected();
                self.meet(peer, id);
            }
            Step::ConnectToNobody(bytes) => self.connect_to_nobody(bytes),
            Step::Timers(delays) => self.start_timers(delays),
            Step::Repeat(times) => {
                repeat(&mut self.cast.borrow_mut(), self.rig.event_loop.net(), times);
            }
            Step::Wake => self.rig.event_loop.waker().wake(),
            Step::Dial | Step::Connect => {}
            _ if conns == 0 => {}
            Step::Send(which, _) | Step::Finish(which) | Step::Reset(which) => {
                self.at_peer(which % conns, step);
            }
            Step::Do(which, ops) => {
                let number = self.peers[which % conns].number;
                self.cast.borrow_mut().operate(self.rig.event_loop.net(), number, ops);
            }
            Step::Later(which, ops) => {
                let number = self.peers[which % conns].number;
                let role = &mut self.cast.borrow_mut().roles[number];
                if !role.owes_much() {
                    role.later = Some(ops);
                }
            }
            Step::Bulk(which, ..) => self.write_much(which % conns, step),
            Step::Behave(which, behaviour) => {
                let number = self.peers[which % conns].number;
                self.cast.borrow_mut().roles[number].behaviour = behaviour;
            }
        }
    }

    fn meet(&mut self, peer: Peer, id: ConnId) {
        let number = self.cast.borrow_mut().number(id);
        self.peers.push(OtherEnd {
            peer,
            number,
            checked: 0,
            has_finished: false,
            has_reset: false,
        });
    }

    fn connect_to_nobody(&mut self, bytes: usize) {
        let nobody = self.rig.refusing();
        let net = self.rig.event_loop.net();
        let id = net.connect(nobody).expect("there are slots");
        let number = self.cast.borrow_mut().number(id);
        let ops = [Op::Write(bytes, crate::script::Write::Copied), Op::Nothing];
        self.cast.borrow_mut().operate(net, number, ops);
        self.rig.until_closed(id);
    }

    fn start_timers(&mut self, delays: [u64; 4]) {
        let net = self.rig.event_loop.net();
        let mut timers = Vec::new();
        for (token, delay) in delays.iter().enumerate() {
            timers.push(net.start_timer(Duration::from_millis(*delay), token as u64));
        }
        assert!(net.cancel_timer(timers[0]), "it was just started");
    }

    /// Writes more than the buffers hold while the peer does not read, and has it read then.
    fn write_much(&mut self, which: usize, step: Step) {
        let Step::Bulk(_, len, how, then) = step else { return };
        let other = &self.peers[which];
        if !other.has_reset {
            self.rig.stop_reading(other.peer);
        }
        {
            let (net, cast) = (self.rig.event_loop.net(), &mut self.cast.borrow_mut());
            let sent = cast.write(net, other.number, len, how);
            // Whether it comes before an end depends on how much the last send takes.
            let awaits_writable = sent == Sent::Pressured && then == Then::Nothing;
            cast.roles[other.number].awaits_writable = awaits_writable;
            let end = match then {
                Then::Nothing => Op::Nothing,
                Then::Shutdown => Op::Shutdown,
                Then::Close => Op::Close,
            };
            cast.operate(net, other.number, [end, Op::Nothing]);
        }
        self.rig.look();
        if !other.has_reset {
            self.rig.start_reading(other.peer);
        }
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
            Step::Send(_, len) => {
                let role = &mut self.cast.borrow_mut().roles[other.number];
                let data = bytes_of(sent_by_peer(other.number), role.sent as u64, len);
                role.sent += len;
                if len > SEND_WHOLE_MAX_BYTES || role.owes_much() {
                    role.later = None;
                }
                rig.send(other.peer, &data);
            }
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

/// Plays a script on the simulator, as far as it can be played; returns that and the state after
/// each step.
pub fn reference(script: &[Step]) -> Vec<(Step, State)> {
    let mut play = Play::new(Kind::SimReadiness);
    let mut played = Vec::new();
    for step in script.iter().copied().chain((0..CONNS_MAX).map(Step::Finish)) {
        if play.can_play(step) {
            play.play(step);
            play.rig.settle();
            play.rig.pass(STEP_TIME);
            played.push((step, play.state()));
        }
    }
    played
}

/// Plays a script on another backend, and panics where it comes to another state. So often it is
/// looked whether it has come to the right one.
pub fn agrees(kind: Kind, script: &[(Step, State)], looks: u32) {
    let mut play = Play::new(kind);
    for (number, (step, expected)) in script.iter().enumerate() {
        play.play(*step);
        for look in 0.. {
            // What shows in no state (bytes shown and left again) is over before the next step.
            play.rig.look();
            let state = play.state();
            if state == *expected {
                break;
            }
            let difference = difference(expected, &state);
            assert!(look < looks, "step {number}: {step:?} on {kind:?}\n{difference}");
            play.rig.pass(Duration::from_millis(u64::from(kind.is_virtual())));
        }
    }
    play.rig.settle();
    if let Some((_, last)) = script.last() {
        assert_eq!(play.state(), *last, "after the end on {kind:?}");
    }
    DONE.fetch_add(1, Ordering::Relaxed);
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
