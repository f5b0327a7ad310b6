//! The simulated kernel against the real one, call by call: told the same story, both give the
//! loop the same answers and the same edges, and leave the peer with the same.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use socket2::SockRef;

use super::*;
use crate::backend::epoll::Epoll;
use crate::id::Kind;
use crate::random::Random;
use crate::segment::Segments;

const STORIES: usize = 400;
/// How often a story is told to real sockets: a segment may be on its way for a moment there.
const TRIES: usize = 5;

/// What the peer does, or the loop asks its kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    PeerSends(&'static [u8]),
    PeerSendsUrgent,
    PeerFinishes,
    PeerResets,
    FinishConnect,
    Wait,
    /// At most so many bytes.
    Recv(usize),
    Send(&'static [u8]),
    Shutdown,
    TakeError,
    Unread,
    Close,
    CloseWithReset,
}

/// The other end of the connection.
trait Peer {
    fn send(&mut self, data: &[u8]);
    fn send_urgent(&mut self, byte: u8);
    fn finish(&mut self);
    fn reset(&mut self);
    /// Lets what was sent arrive, and reads.
    fn settle(&mut self);
    /// What has arrived; whether a FIN has, and a reset.
    fn seen(&mut self) -> (Vec<u8>, bool, bool);
}

/// A peer on a real socket.
struct Real {
    stream: Option<TcpStream>,
    seen: (Vec<u8>, bool, bool),
}

impl Real {
    fn new(stream: TcpStream) -> Box<Real> {
        stream.set_nodelay(true).expect("a TCP socket");
        stream.set_nonblocking(true).expect("a TCP socket");
        Box::new(Real { stream: Some(stream), seen: (Vec::new(), false, false) })
    }

    /// Notes that a call found the connection broken: an error is told once, by whoever asks.
    fn note<T>(&mut self, result: io::Result<T>) {
        self.seen.2 |= result.is_err();
    }
}

impl Peer for Real {
    fn send(&mut self, data: &[u8]) {
        if let Some(mut stream) = self.stream.as_ref() {
            let result = stream.write(data);
            self.note(result);
        }
    }

    fn send_urgent(&mut self, byte: u8) {
        if let Some(stream) = &self.stream {
            let result = SockRef::from(stream).send_out_of_band(&[byte]);
            self.note(result);
        }
    }

    fn finish(&mut self) {
        if let Some(stream) = &self.stream {
            // Behind a reset it fails, which reading finds out.
            let _ = stream.shutdown(Shutdown::Write);
        }
    }

    fn reset(&mut self) {
        if let Some(stream) = self.stream.take() {
            SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a TCP socket");
        }
    }

    fn settle(&mut self) {
        let mut buffer = [0; 1024];
        let Some(mut stream) = self.stream.as_ref() else { return };
        while !self.seen.1 && !self.seen.2 {
            match stream.read(&mut buffer) {
                Ok(0) => self.seen.1 = true,
                Ok(count) => self.seen.0.extend(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.seen.2 = true,
            }
        }
        // Behind a FIN reading finds no error.
        self.seen.2 |= stream.take_error().expect("a TCP socket").is_some();
    }

    fn seen(&mut self) -> (Vec<u8>, bool, bool) {
        self.settle();
        self.seen.clone()
    }
}

/// A peer without a loop in the simulated network.
struct Simulated {
    shared: Shared,
    end: EndIndex,
}

impl Peer for Simulated {
    fn send(&mut self, data: &[u8]) {
        self.shared.lock().peer_send(self.end, data);
    }

    fn send_urgent(&mut self, byte: u8) {
        self.shared.lock().peer_send_urgent(self.end, byte);
    }

    fn finish(&mut self) {
        self.shared.lock().peer_finish(self.end);
    }

    fn reset(&mut self) {
        self.shared.lock().peer_reset(self.end);
    }

    fn settle(&mut self) {
        let mut network = self.shared.lock();
        let now = network.now;
        while network.step(now) != Stepped::Quiet {}
    }

    fn seen(&mut self) -> (Vec<u8>, bool, bool) {
        let network = self.shared.lock();
        let state = network.peer_state(self.end);
        (network.peer_received(self.end).to_vec(), state.read_closed, state.is_reset)
    }
}

/// One kernel with an accepted connection.
struct Stage {
    backend: Box<dyn Backend>,
    peer: Box<dyn Peer>,
    memory: RecvMemory,
    conn: Sock,
    is_open: bool,
}

impl Stage {
    /// The loop's kernel accepts a real peer.
    fn real() -> Stage {
        let mut backend = Box::new(Epoll::new().expect("Linux"));
        let (listener, addr) = listen(&mut *backend, SocketAddr::from(([127, 0, 0, 1], 0)));
        let stream = TcpStream::connect(addr).expect("it listens");
        Stage::accept(backend, listener, Real::new(stream))
    }

    /// The loop's kernel accepts a simulated peer.
    fn simulated() -> Stage {
        let (mut backend, shared, away) = network();
        let (listener, addr) = listen(&mut *backend, SocketAddr::from(([10, 0, 0, 1], 0)));
        let end = shared.lock().play(away, addr, Script::new());
        let mut peer = Simulated { shared, end };
        peer.settle();
        Stage::accept(backend, listener, Box::new(peer))
    }

    fn accept(mut backend: Box<dyn Backend>, listener: Sock, peer: Box<dyn Peer>) -> Stage {
        let accepted = backend.accept(&listener, key(), &ConnOptions::default());
        let Accept::Accepted { handle, .. } = accepted else { panic!("{accepted:?}") };
        backend.discard(&listener);
        Stage::new(backend, handle, peer)
    }

    /// The loop's kernel connects to a real peer.
    fn real_connect() -> Stage {
        let mut backend = Box::new(Epoll::new().expect("Linux"));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let handle = connect(&mut *backend, listener.local_addr().expect("it is bound"));
        let (stream, _) = listener.accept().expect("the handshake is the kernels' own");
        Stage::new(backend, handle, Real::new(stream))
    }

    /// The loop's kernel connects to a simulated peer.
    fn simulated_connect() -> Stage {
        let (mut backend, shared, away) = network();
        let addr = shared.lock().serve(away, 80, Script::new());
        let handle = connect(&mut *backend, addr);
        let mut peer = Simulated { shared: shared.clone(), end: 0 };
        peer.settle();
        peer.end = shared.lock().served(away, addr)[0];
        Stage::new(backend, handle, Box::new(peer))
    }

    fn new(backend: Box<dyn Backend>, handle: i32, peer: Box<dyn Peer>) -> Stage {
        let conn = Sock { key: key(), handle, exhaust: false };
        let memory = RecvMemory::new(64 << 10);
        Stage { backend, peer, memory, conn, is_open: true }
    }

    /// Does one act; what the loop's kernel answers.
    fn play(&mut self, act: Act) -> String {
        let Stage { backend, memory, conn, .. } = self;
        match act {
            Act::FinishConnect => format!("{:?}", backend.finish_connect(conn)),
            Act::Wait => self.wait(),
            Act::Recv(most) => match backend.recv(conn, memory, most) {
                Recv::Data { lent, drained } => {
                    format!("{} {drained}", memory.resolve(&lent).escape_ascii())
                }
                other => format!("{other:?}"),
            },
            Act::Send(data) => {
                let mut segments = Segments::new(0);
                let first = segments.share(Bytes::from_static(data));
                format!("{:?}", backend.send(conn, segments.pieces(first, usize::MAX)))
            }
            Act::Shutdown => format!("{:?}", backend.shutdown(conn)),
            Act::TakeError => format!("{:?}", backend.take_error(conn)),
            Act::Unread => format!("{:?}", backend.unread_bytes(conn)),
            Act::Close | Act::CloseWithReset => {
                self.is_open = false;
                format!("{:?}", backend.close(conn, act == Act::CloseWithReset))
            }
            Act::PeerSends(_) | Act::PeerSendsUrgent | Act::PeerFinishes | Act::PeerResets => {
                self.play_peer(act);
                String::new()
            }
        }
    }

    fn play_peer(&mut self, act: Act) {
        match act {
            Act::PeerSends(data) => self.peer.send(data),
            Act::PeerSendsUrgent => self.peer.send_urgent(b'!'),
            Act::PeerFinishes => self.peer.finish(),
            _ => self.peer.reset(),
        }
    }

    /// Waits for nothing, and tells what is reported: readable, writable, hung up, exhaust.
    fn wait(&mut self) -> String {
        let mut events = Vec::new();
        let now = self.backend.now();
        self.backend.wait(now, Some(now), &mut events).expect("a wait");
        let mut shown = String::new();
        for event in events {
            let Event::Ready { key, readable, writable, hang_up, exhaust } = event else {
                panic!("{event:?}");
            };
            if key == self.conn.key {
                self.conn.exhaust = exhaust;
                shown += &format!("{:?}", [readable, writable, hang_up, exhaust].map(u8::from));
            }
        }
        shown
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if self.is_open {
            self.backend.discard(&self.conn);
        }
    }
}

fn key() -> Key {
    Key::new(Kind::Conn, 9, 3)
}

/// A kernel, its network, and another machine.
fn network() -> (Box<Sim>, Shared, HostIndex) {
    let mut network = Network::new(1, Time::from_nanos(1));
    network.set_default_link(Link::instant());
    let home = network.add_machine("home", &NodeOptions::default());
    let away = network.add_machine("away", &NodeOptions::default());
    let shared = Shared::new(network);
    (Box::new(Sim::new(shared.clone(), home)), shared, away)
}

fn connect(backend: &mut dyn Backend, addr: SocketAddr) -> i32 {
    let begun = backend.connect(key(), addr, &ConnOptions::default());
    let (handle, progress) = begun.expect("there are descriptors");
    assert_eq!(progress, Connect::InProgress);
    handle
}

fn listen(backend: &mut dyn Backend, addr: SocketAddr) -> (Sock, SocketAddr) {
    let key = Key::new(Kind::Listener, 0, 1);
    let (handle, bound) =
        backend.listen(key, addr, &ListenOptions::default()).expect("a free port");
    (Sock { key, handle, exhaust: false }, bound)
}

fn tell(mut stage: Stage, acts: &[Act]) -> Vec<String> {
    let mut told = Vec::new();
    for act in acts {
        told.push(stage.play(*act));
        stage.peer.settle();
    }
    // Who has reset the connection sees nothing of it any more.
    if !acts.contains(&Act::PeerResets) {
        let (data, is_finished, is_reset) = stage.peer.seen();
        told.push(format!("{} fin {is_finished} reset {is_reset}", data.escape_ascii()));
    }
    told
}

fn draw_story(random: &mut Random) -> Vec<Act> {
    let mut acts = Vec::new();
    let len = 4 + random.index(9);
    while acts.len() < len && !acts.iter().any(|act| is_close(*act)) {
        let act = match random.index(20) {
            0..=2 => Act::PeerSends(b"peer"),
            3 => Act::PeerSendsUrgent,
            4 => Act::PeerFinishes,
            5 => Act::PeerResets,
            6..=9 => Act::Wait,
            10..=12 => Act::Recv(1000),
            13 => Act::Recv(3),
            14..=15 => Act::Send(b"loop"),
            16 => Act::Shutdown,
            17 => Act::TakeError,
            18 => Act::Unread,
            _ => [Act::Close, Act::CloseWithReset][random.index(2)],
        };
        let is_over = acts.contains(&Act::PeerResets);
        let is_mute = is_over || acts.contains(&Act::PeerFinishes);
        let makes_sense = match act {
            Act::PeerSends(_) | Act::PeerSendsUrgent | Act::PeerFinishes => !is_mute,
            Act::PeerResets => !is_over,
            _ => true,
        };
        acts.extend(makes_sense.then_some(act));
    }
    if !acts.iter().any(|act| is_close(*act)) {
        acts.push(Act::Wait);
    }
    acts
}

fn is_of_peer(act: Act) -> bool {
    matches!(act, Act::PeerSends(_) | Act::PeerSendsUrgent | Act::PeerFinishes | Act::PeerResets)
}

fn is_close(act: Act) -> bool {
    matches!(act, Act::Close | Act::CloseWithReset)
}

/// Tells a story on both kernels.
fn compare(simulated: fn() -> Stage, real: fn() -> Stage, acts: &[Act]) {
    let expected = tell(simulated(), acts);
    let mut told = tell(real(), acts);
    for _ in 1..TRIES {
        if told != expected {
            told = tell(real(), acts);
        }
    }
    assert_eq!(expected, told, "simulated and real, of {acts:?}");
}

#[test]
fn in_stories_drawn_at_random_both_kernels_answer_every_call_alike() {
    let mut random = Random::new(11);
    for _ in 0..STORIES {
        compare(Stage::simulated, Stage::real, &draw_story(&mut random));
    }
}

#[test]
fn so_they_do_when_the_loop_connects() {
    let mut random = Random::new(12);
    for _ in 0..STORIES {
        let mut acts = draw_story(&mut random);
        // Asked after the first event or after a later one, and before anything else.
        let first = acts.iter().position(|act| !is_of_peer(*act)).expect("a wait or a close");
        acts.splice(first..first, [Act::Wait, Act::FinishConnect]);
        compare(Stage::simulated_connect, Stage::real_connect, &acts);
    }
}
