//! Peers without a loop: scripted, or moved by hand.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use crate::error::Errno;
use crate::sys::errno::ECONNREFUSED;

use super::end::{End, EndIndex, Fin, Owner, Stage};
use super::kernel::reachable;
use super::network::{Action, Network, Packet};
use super::trace::{HostIndex, What};

/// What a peer without a loop does, step by step.
///
/// What arrives and is not expected is read and kept in
/// [`World::received`](crate::sim::World::received).
///
/// # Examples
///
/// ```
/// use hotloop::sim::Script;
/// use std::time::Duration;
///
/// let script = Script::new()
///     .send("HELLO\n")
///     .expect("WELCOME\n")
///     .wait(Duration::from_secs(1))
///     .stop_reading()
///     .send(vec![b'x'; 100_000])
///     .wait(Duration::from_secs(5))
///     .start_reading()
///     .finish()
///     .expect_end();
/// # let _ = script;
/// ```
#[derive(Debug, Clone, Default)]
pub struct Script {
    steps: VecDeque<Step>,
}

#[derive(Debug, Clone)]
enum Step {
    Send(Vec<u8>),
    Expect(Vec<u8>),
    ExpectEnd,
    ExpectReset,
    ExpectRefused,
    Wait(Duration),
    Read(bool),
    Urgent(u8),
    Finish,
    Reset,
}

impl Script {
    /// Makes a script without any step.
    pub fn new() -> Script {
        Script::default()
    }

    fn then(mut self, step: Step) -> Script {
        self.steps.push_back(step);
        self
    }

    /// Sends bytes.
    pub fn send(self, data: impl Into<Vec<u8>>) -> Script {
        self.then(Step::Send(data.into()))
    }

    /// Waits for exactly these bytes. Other ones, or an end before them, fail the run, with the
    /// peer, the place, what was expected and what came.
    pub fn expect(self, data: impl Into<Vec<u8>>) -> Script {
        self.then(Step::Expect(data.into()))
    }

    /// Waits for the FIN; bytes before it, or a reset, fail the run.
    pub fn expect_end(self) -> Script {
        self.then(Step::ExpectEnd)
    }

    /// Waits for a reset by the other side; bytes before it are read and kept. Any other end fails
    /// the run.
    pub fn expect_reset(self) -> Script {
        self.then(Step::ExpectReset)
    }

    /// Waits for the connect to fail; comes first in a script.
    pub fn expect_refused(self) -> Script {
        self.then(Step::ExpectRefused)
    }

    /// Does nothing for a while; what arrives is read.
    pub fn wait(self, duration: Duration) -> Script {
        self.then(Step::Wait(duration))
    }

    /// Reads no more: the receive buffer fills, then the window is closed.
    pub fn stop_reading(self) -> Script {
        self.then(Step::Read(false))
    }

    /// Reads again.
    pub fn start_reading(self) -> Script {
        self.then(Step::Read(true))
    }

    /// Sends an urgent byte, which is not part of the stream.
    pub fn urgent(self, byte: u8) -> Script {
        self.then(Step::Urgent(byte))
    }

    /// Sends a FIN behind what was sent; reading goes on.
    pub fn finish(self) -> Script {
        self.then(Step::Finish)
    }

    /// Resets the connection; what was not transmitted yet is lost.
    pub fn reset(self) -> Script {
        self.then(Step::Reset)
    }
}

/// How far the connection of a peer without a loop is.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use hotloop::sim::{Progress, World};
///
/// let mut world = World::new(1);
/// let (host, nobody) = (world.host("client"), world.host("nobody"));
/// let addr = world.addr(nobody, 80);
/// let peer = world.connect(host, addr);
/// assert_eq!(world.state(peer).progress, Progress::Connecting);
/// world.run_for(Duration::from_secs(1));
/// assert!(matches!(world.state(peer).progress, Progress::Failed(_)), "nobody listens");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Its SYN is on the way.
    Connecting,
    /// It can send and receive.
    Open,
    /// The connect was refused, or the connection was given up (`ETIMEDOUT`).
    Failed(Errno),
    /// Reset, by one side or the other.
    Closed,
}

/// What can be seen of a peer without a loop.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use hotloop::sim::{Script, World};
///
/// let mut world = World::new(1);
/// let (host, other) = (world.host("client"), world.host("server"));
/// let addr = world.serve(other, 80, Script::new().send("hello").finish());
/// let peer = world.connect(host, addr);
/// world.run_for(Duration::from_secs(1));
/// let state = world.state(peer);
/// assert!(state.read_closed && !state.is_reset);
/// assert_eq!((state.received_bytes, state.remote), (5, addr));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerState {
    /// How far its connection is.
    pub progress: Progress,
    /// The other side's FIN was read, behind everything.
    pub read_closed: bool,
    /// A reset has arrived.
    pub is_reset: bool,
    /// Bytes it wants to send for which there is no window.
    pub unsent_bytes: usize,
    /// Bytes it has read.
    pub received_bytes: usize,
    /// Its script has come to its end.
    pub is_done: bool,
    /// Its own address.
    pub local: SocketAddr,
    /// The other side's address.
    pub remote: SocketAddr,
}

/// What only a peer without a loop has.
#[derive(Debug)]
pub(super) struct Raw {
    pub(super) received: Vec<u8>,
    reading: bool,
    steps: VecDeque<Step>,
    /// How much of what was received the script has looked at.
    seen: usize,
    asleep: bool,
    /// It has reset the connection itself.
    has_reset: bool,
}

impl Raw {
    pub(super) fn new(script: Script) -> Box<Raw> {
        Box::new(Raw {
            received: Vec::new(),
            reading: true,
            steps: script.steps,
            seen: 0,
            asleep: false,
            has_reset: false,
        })
    }
}

impl End {
    fn progress(&self, has_reset: bool) -> Progress {
        match (self.stage, self.error) {
            (Stage::Connecting, _) => Progress::Connecting,
            (Stage::Open, _) => Progress::Open,
            (Stage::Dead, _) if has_reset => Progress::Closed,
            (Stage::Dead, Some(errno)) if !is_reset(errno) => Progress::Failed(Errno(errno)),
            (Stage::Dead, _) => Progress::Closed,
        }
    }
}

fn is_reset(errno: i32) -> bool {
    use crate::sys::errno::{ECONNRESET, EPIPE};
    matches!(errno, ECONNRESET | EPIPE)
}

impl Network {
    /// Connects a peer without a loop, which plays a script once it is connected.
    pub(crate) fn play(&mut self, host: HostIndex, to: SocketAddr, script: Script) -> EndIndex {
        let to = reachable(to);
        let local = self.ephemeral_addr(host, to);
        let index = self.open_end(host, local, to, Owner::Raw);
        self.end_mut(index).raw = Some(Raw::new(script));
        self.send_syn(index);
        index
    }

    /// Makes an end that a raw listener has accepted a peer.
    pub(super) fn serve_raw(&mut self, index: EndIndex, script: Script) {
        let end = self.end_mut(index);
        end.owner = Owner::Raw;
        end.raw = Some(Raw::new(script));
        (end.send_max, end.no_space) = (usize::MAX, false);
        self.go_on(index);
    }

    pub(crate) fn peer_state(&self, index: EndIndex) -> PeerState {
        let end = self.end(index).expect("a peer is never forgotten");
        let raw = end.raw.as_ref().expect("a peer has no loop");
        PeerState {
            progress: end.progress(raw.has_reset),
            read_closed: end.fin_in && end.unread.is_empty(),
            is_reset: end.error.is_some_and(is_reset) && !raw.has_reset,
            unsent_bytes: end.unsent.len(),
            received_bytes: raw.received.len(),
            is_done: raw.steps.is_empty(),
            local: end.local,
            remote: end.remote,
        }
    }

    pub(crate) fn peer_received(&self, index: EndIndex) -> &[u8] {
        let raw = self.end(index).and_then(|end| end.raw.as_ref());
        &raw.expect("a peer has no loop").received
    }

    pub(crate) fn peer_send(&mut self, index: EndIndex, data: &[u8]) {
        self.note_peer(index, "sends", data.len());
        let end = self.end_mut(index);
        if !end.is_dead() && end.fin == Fin::No {
            end.unsent.extend(data);
            self.transmit(index);
        }
    }

    pub(crate) fn peer_send_urgent(&mut self, index: EndIndex, byte: u8) {
        self.note_peer(index, "sends urgent", 1);
        let end = self.end_mut(index);
        if !end.is_dead() && end.fin == Fin::No {
            end.urgent.push_back((end.sent_bytes + end.unsent.len() as u64, byte));
            self.transmit(index);
        }
    }

    pub(crate) fn peer_finish(&mut self, index: EndIndex) {
        self.note_peer(index, "finishes", 0);
        let end = self.end_mut(index);
        if end.fin == Fin::No {
            end.fin = Fin::Wanted;
            self.transmit(index);
        }
    }

    pub(crate) fn peer_reset(&mut self, index: EndIndex) {
        self.note_peer(index, "resets", 0);
        if self.end_mut(index).stage == Stage::Open {
            self.dispatch(index, Packet::Rst);
        }
        let end = self.end_mut(index);
        end.stage = Stage::Dead;
        end.unsent.clear();
        end.raw.as_mut().expect("a peer has no loop").has_reset = true;
    }

    pub(crate) fn peer_reads(&mut self, index: EndIndex, reading: bool) {
        self.note_peer(index, if reading { "reads again" } else { "stops reading" }, 0);
        let raw = self.end_mut(index).raw.as_mut();
        raw.expect("a peer has no loop").reading = reading;
        self.go_on(index);
    }

    fn note_peer(&mut self, index: EndIndex, name: &'static str, bytes: usize) {
        let end = self.end(index).expect("a peer is never forgotten");
        let Some(other) = end.remote_host else { return };
        let to = super::trace::Spot { host: other, port: end.remote.port() };
        let (host, from) = (end.host, end.spot());
        self.note(host, What::Peer { name, from, to, bytes });
    }

    /// Reads what has arrived and goes on with the script.
    pub(super) fn go_on(&mut self, index: EndIndex) {
        self.read_raw(index);
        while let Some(step) = self.next_step(index) {
            match step {
                Step::Send(data) => self.peer_send(index, &data),
                Step::Wait(duration) => {
                    self.raw(index).asleep = true;
                    let at = self.now + duration;
                    self.queue.plan(at, Action::Awake { end: index });
                }
                Step::Read(reading) => {
                    self.raw(index).reading = reading;
                    self.read_raw(index);
                }
                Step::Urgent(byte) => self.peer_send_urgent(index, byte),
                Step::Finish => self.peer_finish(index),
                Step::Reset => self.peer_reset(index),
                Step::Expect(data) => {
                    let raw = self.raw(index);
                    raw.seen += data.len();
                }
                Step::ExpectEnd | Step::ExpectReset | Step::ExpectRefused => {}
            }
        }
    }

    /// Wakes a script that has waited.
    pub(super) fn awake(&mut self, index: EndIndex) {
        self.raw(index).asleep = false;
        self.go_on(index);
    }

    fn raw(&mut self, index: EndIndex) -> &mut Raw {
        self.end_mut(index).raw.as_mut().expect("a peer has no loop")
    }

    fn read_raw(&mut self, index: EndIndex) {
        let end = self.end_mut(index);
        let raw = end.raw.as_mut().expect("a peer has no loop");
        if !raw.reading {
            return;
        }
        let (front, back) = end.unread.as_slices();
        raw.received.extend_from_slice(front);
        raw.received.extend_from_slice(back);
        end.freed += end.unread.len();
        end.read_bytes += end.unread.len() as u64;
        end.unread.clear();
        end.mark = None;
        self.tell_room(index);
    }

    /// Takes the next step of the script, if it can be taken.
    fn next_step(&mut self, index: EndIndex) -> Option<Step> {
        let end = self.end_mut(index);
        let raw = end.raw.as_ref().expect("a peer has no loop");
        let step = raw.steps.front().filter(|_| !raw.asleep && end.stage != Stage::Connecting)?;
        match verdict(step, end, raw) {
            Verdict::Take => self.raw(index).steps.pop_front(),
            Verdict::Wait => None,
            Verdict::Fail(why) => {
                let (local, remote) = (end.local, end.remote);
                // It stays before the step that failed: it is not done.
                self.raw(index).asleep = true;
                self.fail(format!("peer {local} of {remote}: {why}"));
                None
            }
        }
    }
}

enum Verdict {
    Take,
    Wait,
    Fail(String),
}

fn verdict(step: &Step, end: &End, raw: &Raw) -> Verdict {
    let news = &raw.received[raw.seen..];
    let ended = (end.fin_in || end.is_dead()) && end.unread.is_empty();
    match (step, end.is_dead() && end.other.is_none()) {
        (Step::ExpectRefused, true) => return Verdict::Take,
        (Step::ExpectRefused, false) => {
            return Verdict::Fail("expected the connect to fail, and it did not".to_owned());
        }
        (_, true) => return Verdict::Fail(format!("the connect failed: {}", failure(end))),
        _ => {}
    }
    match step {
        Step::Expect(data) => match first_difference(data, news) {
            Some(at) => Verdict::Fail(unexpected(data, news, raw.seen, at)),
            None if news.len() >= data.len() => Verdict::Take,
            None if ended => Verdict::Fail(unexpected(data, news, raw.seen, news.len())),
            None => Verdict::Wait,
        },
        Step::ExpectEnd if !news.is_empty() => Verdict::Fail(unexpected(b"", news, raw.seen, 0)),
        Step::ExpectEnd if end.is_dead() && !end.fin_in => {
            Verdict::Fail("expected the end of the stream, got a reset".to_owned())
        }
        Step::ExpectEnd if !end.fin_in => Verdict::Wait,
        Step::ExpectReset if !end.is_dead() => Verdict::Wait,
        Step::ExpectReset if raw.has_reset || !end.error.is_some_and(is_reset) => {
            Verdict::Fail(format!("expected a reset, got {}", failure(end)))
        }
        _ => Verdict::Take,
    }
}

fn failure(end: &End) -> String {
    end.error.map_or("its own end".to_owned(), |errno| Errno(errno).to_string())
}

fn first_difference(expected: &[u8], got: &[u8]) -> Option<usize> {
    expected.iter().zip(got).position(|(expected, got)| expected != got)
}

fn unexpected(expected: &[u8], got: &[u8], seen: usize, at: usize) -> String {
    let show = |bytes: &[u8]| bytes[at..bytes.len().min(at + 40)].escape_ascii().to_string();
    let got = if got.len() > at { format!("\"{}\"", show(got)) } else { "the end".to_owned() };
    format!("at byte {}: expected \"{}\", got {got}", seen + at, show(expected))
}

/// What a connect to nobody comes to.
pub(super) const REFUSED: i32 = ECONNREFUSED;
