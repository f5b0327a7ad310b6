//! The portable backend over real loopback sockets, in every mode that the system has.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use socket2::SockRef;

use super::*;

/// Only a lost event takes as long.
const LOST: Duration = Duration::from_secs(20);
/// How long nothing may happen where nothing should.
const A_WHILE: Duration = Duration::from_millis(20);

struct Rig {
    portable: Portable,
    memory: RecvMemory,
    events: Vec<Event>,
    mode: Mode,
}

/// Runs a test in each mode.
fn in_each_mode(test: impl Fn(&mut Rig)) {
    for name in ["edge", "level", "oneshot", "edge-oneshot"] {
        let mode = mode_named(name);
        match Portable::new(mode) {
            Ok(portable) => test(&mut Rig {
                portable,
                memory: RecvMemory::new(64 << 10),
                events: Vec::new(),
                mode: mode.expect("it has a name"),
            }),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}"),
        }
    }
}

/// What an event says: whether it is readable, writable, hung up.
type Bits = [bool; 3];
const READABLE: Bits = [true, false, false];
const WRITABLE: Bits = [false, true, false];
const HUNG_UP: Bits = [true; 3];

impl Rig {
    /// Waits; returns what is reported of each key.
    fn wait(&mut self, timeout: Duration) -> Vec<(Key, Bits)> {
        let now = self.portable.now();
        self.portable.wait(now, Some(now + timeout), &mut self.events).expect("wait");
        let bits = |event| match event {
            Event::Ready { key, readable, writable, hang_up, exhaust: true } => {
                (key, [readable, writable, hang_up])
            }
            other => panic!("{other:?}"),
        };
        self.events.drain(..).map(bits).collect()
    }

    /// Waits until events of a socket have said what is `wanted`.
    #[track_caller]
    fn until(&mut self, sock: &Sock, wanted: Bits) {
        let deadline = self.portable.now() + LOST;
        let mut seen = [false; 3];
        while wanted.iter().zip(seen).any(|(wanted, seen)| *wanted && !seen) {
            assert!(self.portable.now() < deadline, "{wanted:?} is lost in mode {:?}", self.mode);
            for (key, bits) in self.wait(LOST) {
                let seen_of = |index: usize| seen[index] || (key == sock.key && bits[index]);
                seen = [seen_of(0), seen_of(1), seen_of(2)];
            }
        }
    }

    /// The kernel may report the same end twice, for its steps, but not for ever.
    #[track_caller]
    fn assert_calm(&mut self) {
        let reported: usize = (0..10).map(|_| self.wait(A_WHILE / 10).len()).sum();
        assert!(reported <= 2, "{reported} events in mode {:?}", self.mode);
    }

    #[track_caller]
    fn assert_silent(&mut self) {
        for _ in 0..3 {
            let reported = self.wait(A_WHILE);
            assert_eq!(reported, [], "in mode {:?}", self.mode);
        }
    }

    fn listen(&mut self) -> (Sock, SocketAddr) {
        let key = Key::new(Kind::Listener, 0, 1);
        let addr = SocketAddr::from(([127, 0, 0, 1], 0));
        let options = ListenOptions::default();
        let (handle, bound) = self.portable.listen(key, addr, &options).expect("a free port");
        (Sock { key, handle, exhaust: false }, bound)
    }

    fn accept(&mut self, listener: &Sock, key: Key) -> Option<Sock> {
        match self.portable.accept(listener, key, &ConnOptions::default()) {
            Accept::Accepted { handle, .. } => Some(Sock { key, handle, exhaust: false }),
            Accept::WouldBlock => None,
            other => panic!("{other:?}"),
        }
    }

    /// An accepted connection and its peer.
    fn pair(&mut self, slot: u32) -> (Sock, TcpStream) {
        let (listener, addr) = self.listen();
        let peer = TcpStream::connect(addr).expect("it listens");
        self.until(&listener, READABLE);
        let conn = self.accept(&listener, Key::new(Kind::Conn, slot, 1)).expect("it is ready");
        self.portable.close(&listener, false);
        (conn, peer)
    }

    fn connect(&mut self, addr: SocketAddr) -> (Sock, Connect) {
        let (key, options) = (Key::new(Kind::Conn, 5, 1), ConnOptions::default());
        let (handle, progress) = self.portable.connect(key, addr, &options).expect("a socket");
        (Sock { key, handle, exhaust: false }, progress)
    }

    fn recv(&mut self, conn: &Sock) -> Recv {
        self.portable.recv(conn, &mut self.memory, usize::MAX)
    }

    /// Receives until a receive would block.
    fn exhaust(&mut self, conn: &Sock) -> Vec<u8> {
        let mut got = Vec::new();
        loop {
            match self.recv(conn) {
                Recv::Data { lent, drained: false } => got.extend(self.memory.resolve(&lent)),
                Recv::WouldBlock => return got,
                other => panic!("{other:?} in mode {:?}", self.mode),
            }
        }
    }

    /// Sends until a send would block; the pieces are of a megabyte.
    fn stuff(&mut self, conn: &Sock) -> usize {
        let mut segments = crate::segment::Segments::new(0);
        let first = segments.share(bytes::Bytes::from(vec![7; 1 << 20]));
        let mut total = 0;
        loop {
            match self.portable.send(conn, segments.pieces(first, usize::MAX)) {
                Send::Done { bytes, blocked: false } => total += bytes,
                Send::WouldBlock => return total,
                other => panic!("{other:?}"),
            }
        }
    }
}

fn reset(peer: TcpStream) {
    SockRef::from(&peer).set_linger(Some(Duration::ZERO)).expect("an option");
}

#[test]
fn the_best_mode_is_edges_where_there_are_edges() {
    let portable = Portable::new(None).expect("a poller");
    let best = Portable::new(Some(Mode::Edge)).map_or(Mode::Level, |_| Mode::Edge);
    assert_eq!(portable.watches.poller().mode(), best);
    assert_eq!(mode_named("Edge"), None);
}

#[test]
fn what_is_not_acted_upon_is_reported_once_and_what_is_blocked_again() {
    in_each_mode(|rig| {
        let (conn, mut peer) = rig.pair(1);
        peer.write_all(b"a").expect("it is open");
        rig.until(&conn, READABLE);
        rig.assert_silent();
        assert_eq!(rig.exhaust(&conn), b"a");
        rig.assert_silent();
        for byte in 0..3 {
            peer.write_all(&[byte]).expect("it is open");
            rig.until(&conn, READABLE);
            assert_eq!(rig.exhaust(&conn), [byte]);
        }
        rig.assert_silent();
    });
}

#[test]
fn an_exchange_changes_a_registration_only_if_it_was_a_single_shot() {
    in_each_mode(|rig| {
        let (conn, mut peer) = rig.pair(1);
        for _ in 0..3 {
            peer.write_all(b"a").expect("it is open");
            rig.until(&conn, READABLE);
            assert_eq!(rig.exhaust(&conn), b"a");
            let shots = matches!(rig.mode, Mode::Oneshot | Mode::EdgeOneshot);
            assert_eq!(rig.portable.is_behind(), shots, "in mode {:?}", rig.mode);
            rig.portable.catch_up();
            assert!(!rig.portable.is_behind());
        }
    });
}

#[test]
fn room_is_reported_to_who_waits_for_it() {
    in_each_mode(|rig| {
        let (conn, mut peer) = rig.pair(1);
        let mut sent = rig.stuff(&conn);
        rig.portable.interest(&conn, true, true);
        // A new edge, which was there from the start, says nothing of room.
        while !rig.wait(A_WHILE).is_empty() {
            sent += rig.stuff(&conn);
        }
        let reader = std::thread::spawn(move || {
            let mut got = vec![0; sent];
            peer.read_exact(&mut got).map(|()| peer)
        });
        rig.until(&conn, WRITABLE);
        let _peer = reader.join().expect("no panic").expect("all arrives");
        rig.portable.interest(&conn, true, false);
        rig.wait(Duration::ZERO);
        rig.assert_silent();
    });
}

#[test]
fn without_any_interest_a_reset_is_reported() {
    in_each_mode(|rig| {
        let (conn, mut peer) = rig.pair(1);
        rig.portable.interest(&conn, false, false);
        rig.wait(Duration::ZERO);
        peer.write_all(b"unread").expect("it is open");
        rig.wait(A_WHILE);
        reset(peer);
        rig.until(&conn, HUNG_UP);
        rig.assert_calm();
        assert_eq!(rig.portable.take_error(&conn), Some(Errno(errno::ECONNRESET)));
        assert_eq!(rig.portable.take_error(&conn), None);
    });
}

#[test]
fn both_fins_are_not_reported_for_ever_and_the_end_can_be_read() {
    in_each_mode(|rig| {
        let (conn, mut peer) = rig.pair(1);
        peer.write_all(b"bye").expect("it is open");
        peer.shutdown(Shutdown::Write).expect("it is open");
        rig.portable.shutdown(&conn).expect("it is open");
        // On Windows that is no hang-up.
        rig.until(&conn, READABLE);
        rig.assert_calm();
        assert!(matches!(rig.recv(&conn), Recv::Data { .. }));
        assert!(matches!(rig.recv(&conn), Recv::Eof));
        rig.assert_calm();
        assert_eq!(rig.portable.close(&conn, false), Close::Ended);
    });
}

#[test]
fn a_connect_is_decided_by_an_event() {
    in_each_mode(|rig| {
        let server = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = server.local_addr().expect("it is bound");
        let (conn, _) = rig.connect(addr);
        rig.until(&conn, WRITABLE);
        assert_eq!(rig.portable.finish_connect(&conn), Connect::Connected);
        let (peer, from) = server.accept().expect("it is there");
        assert_eq!(rig.portable.local_addr(&conn), Some(from));
        rig.portable.close(&conn, true);
        drop((server, peer));
        let (conn, progress) = rig.connect(addr);
        if progress == Connect::InProgress {
            rig.until(&conn, HUNG_UP);
            let failed = Connect::Failed(Errno(errno::ECONNREFUSED));
            assert_eq!(rig.portable.finish_connect(&conn), failed, "in mode {:?}", rig.mode);
        }
        assert_eq!(rig.portable.close(&conn, false), Close::Ended);
    });
}

#[test]
fn a_place_that_is_taken_again_has_the_events_of_its_new_owner_only() {
    in_each_mode(|rig| {
        let (listener, addr) = rig.listen();
        let (gone, mut old) = {
            let peer = TcpStream::connect(addr).expect("it listens");
            rig.until(&listener, READABLE);
            (rig.accept(&listener, Key::new(Kind::Conn, 3, 1)).expect("it is ready"), peer)
        };
        old.write_all(b"a").expect("it is open");
        rig.until(&gone, READABLE);
        assert_eq!(rig.exhaust(&gone), b"a");
        // On the list of those to arm when it goes.
        rig.portable.close(&gone, true);
        let mut peer = TcpStream::connect(addr).expect("it listens");
        let next = loop {
            match rig.accept(&listener, Key::new(Kind::Conn, 3, 2)) {
                Some(next) => break next,
                None => rig.until(&listener, READABLE),
            }
        };
        assert_eq!(next.handle, gone.handle);
        peer.write_all(b"b").expect("it is open");
        rig.until(&next, READABLE);
        assert_eq!(rig.exhaust(&next), b"b");
        rig.portable.interest(&next, true, false);
        rig.assert_silent();
    });
}

#[test]
fn a_listener_nobody_accepts_from_is_reported_once() {
    in_each_mode(|rig| {
        let (listener, addr) = rig.listen();
        let _waiting = TcpStream::connect(addr).expect("it listens");
        rig.until(&listener, READABLE);
        rig.assert_silent();
        let key = Key::new(Kind::Conn, 1, 1);
        let conn = rig.accept(&listener, key).expect("one waits");
        assert!(rig.accept(&listener, key).is_none());
        rig.portable.close(&conn, true);
        let _next = TcpStream::connect(addr).expect("it listens");
        rig.until(&listener, READABLE);
    });
}

#[test]
fn what_is_ready_when_it_is_adopted_is_reported() {
    in_each_mode(|rig| {
        let (conn, mut peer) = rig.pair(1);
        peer.write_all(b"early").expect("it is open");
        let loose = rig.portable.detach(&conn, &mut Vec::new());
        rig.assert_silent();
        let key = Key::new(Kind::Conn, 8, 4);
        let (handle, addr) =
            rig.portable.adopt(key, loose, &ConnOptions::default()).expect("a connection");
        assert_eq!(Some(addr), peer.local_addr().ok());
        let conn = Sock { key, handle, exhaust: false };
        rig.until(&conn, READABLE);
        assert_eq!(rig.exhaust(&conn), b"early");
    });
}

#[test]
fn a_socket_that_the_poller_refuses_is_reported_with_the_error_once() {
    in_each_mode(|rig| {
        if rig.mode == Mode::Edge {
            // It changes no registration.
            return;
        }
        let (conn, mut peer) = rig.pair(1);
        rig.portable.watches.poller().delete(rig.portable.watches.socket(&conn)).expect("there");
        rig.portable.interest(&conn, true, true);
        rig.portable.catch_up();
        assert!(rig.portable.is_behind(), "it has something to report");
        assert_eq!(rig.wait(LOST), [(conn.key, HUNG_UP)]);
        assert!(!rig.portable.is_behind());
        peer.write_all(b"a").expect("it is open");
        let answer = rig.recv(&conn);
        assert!(matches!(answer, Recv::Failed(_)), "{answer:?}");
        assert_eq!(rig.portable.take_error(&conn), None, "it is told once");
    });
}

#[test]
fn a_signal_from_another_thread_ends_a_wait_once() {
    in_each_mode(|rig| {
        let signal = rig.portable.signal();
        let now = rig.portable.now();
        std::thread::scope(|scope| {
            scope.spawn(|| signal.raise());
            let mut woken = false;
            while !woken && rig.portable.now() < now + LOST {
                let now = rig.portable.now();
                woken = rig.portable.wait(now, Some(now + LOST), &mut rig.events).expect("wait");
            }
            assert!(woken, "it is lost");
        });
        let mut woken = |portable: &mut Portable| {
            let now = portable.now();
            portable.wait(now, Some(now), &mut rig.events).expect("wait")
        };
        assert!(!woken(&mut rig.portable));
        signal.raise();
        signal.raise();
        let twice = [woken(&mut rig.portable), woken(&mut rig.portable)];
        assert_eq!(twice, [true, false], "a raise before the wait counts");
        assert_eq!(rig.events, []);
    });
    let signal = Portable::new(None).expect("a poller").signal();
    // It outlives the backend.
    signal.raise();
}

#[test]
fn a_reset_close_resets_and_a_plain_one_sends_a_fin() {
    in_each_mode(|rig| {
        let (conn, mut peer) = rig.pair(1);
        assert_eq!(rig.portable.close(&conn, false), Close::Ended);
        assert_eq!(peer.read(&mut [0]).expect("a FIN"), 0);
        let (conn, mut peer) = rig.pair(1);
        assert_eq!(rig.portable.close(&conn, true), Close::Ended);
        let error = peer.read(&mut [0]).expect_err("a RST");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_closed_connection_is_silent_while_a_duplicate_lives() {
    in_each_mode(|rig| {
        let (conn, mut peer) = rig.pair(1);
        let duplicate = rig.portable.watches.socket(&conn).try_clone().expect("a descriptor");
        rig.portable.close(&conn, false);
        peer.write_all(b"x").expect("it is open");
        while stream::peek(&duplicate) != Ok(1) {
            std::thread::yield_now();
        }
        rig.assert_silent();
    });
}

#[test]
fn time_does_not_step_back() {
    let mut portable = Portable::new(None).expect("a poller");
    let ahead = portable.now() + LOST;
    portable.shown = ahead;
    assert_eq!(portable.now(), ahead);
}
