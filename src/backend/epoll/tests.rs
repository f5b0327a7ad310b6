//! The epoll backend over real loopback sockets.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use socket2::{Domain, SockRef, Socket, Type};

use super::*;
use crate::segment::{NONE, Segments};

/// Only a lost event takes as long.
const LOST: Duration = Duration::from_secs(20);

struct Rig {
    epoll: Epoll,
    memory: RecvMemory,
    events: Vec<Event>,
}

impl Rig {
    fn new() -> Rig {
        let epoll = Epoll::new().expect("Linux");
        Rig { epoll, memory: RecvMemory::new(64 << 10), events: Vec::new() }
    }

    /// Waits until an event of a socket shows the bits of `mask`, and does with the socket
    /// what the core does.
    fn wait_for(&mut self, sock: &mut Sock, mask: u32) {
        let wanted = bits(event(sock.key, Ready { mask, data: 0 }));
        let deadline = self.epoll.now() + LOST;
        let mut found = false;
        while !found {
            let now = self.epoll.now();
            assert!(now < deadline, "the event of {mask:#x} is lost");
            self.epoll.wait(now, Some(deadline), &mut self.events).expect("wait");
            for is in self.events.drain(..).map(bits) {
                sock.exhaust = is[3];
                found |= is.iter().zip(wanted).all(|(is, wanted)| *is || !wanted);
            }
        }
    }

    fn poll(&mut self) -> bool {
        let now = self.epoll.now();
        self.epoll.wait(now, Some(now), &mut self.events).expect("wait")
    }

    fn listen(&mut self) -> (Sock, SocketAddr) {
        let (key, addr) = (Key::new(Kind::Listener, 0, 1), loopback());
        let options = ListenOptions::default();
        let (handle, bound) = self.epoll.listen(key, addr, &options).expect("listen");
        (Sock { key, handle, exhaust: false }, bound)
    }

    fn accept(&mut self, listener: &mut Sock) -> Sock {
        let key = Key::new(Kind::Conn, 9, 3);
        self.wait_for(listener, epoll::IN);
        match self.epoll.accept(listener, key, &ConnOptions::default()) {
            Accept::Accepted { handle, .. } => Sock { key, handle, exhaust: false },
            other => panic!("{other:?}"),
        }
    }

    /// An accepted connection and its peer.
    fn pair(&mut self) -> (Sock, TcpStream) {
        let (mut listener, addr) = self.listen();
        let peer = TcpStream::connect(addr).expect("connect");
        let conn = self.accept(&mut listener);
        self.epoll.close(&listener, false);
        (conn, peer)
    }

    fn connect(&mut self, addr: SocketAddr) -> (Sock, Connect) {
        let (key, options) = (Key::new(Kind::Conn, 5, 1), ConnOptions::default());
        let (handle, progress) = self.epoll.connect(key, addr, &options).expect("connect");
        (Sock { key, handle, exhaust: false }, progress)
    }

    /// Receives; returns the bytes and whether the backend claims that these are all.
    fn recv(&mut self, conn: &Sock, max_bytes: usize) -> (Vec<u8>, bool) {
        match self.epoll.recv(conn, &mut self.memory, max_bytes) {
            Recv::Data { lent, drained } => (self.memory.resolve(&lent).to_vec(), drained),
            Recv::WouldBlock => (Vec::new(), true),
            other => panic!("{other:?}"),
        }
    }

    /// Receives so many bytes, and waits only when it may.
    fn recv_exactly(&mut self, conn: &mut Sock, count: usize) -> Vec<u8> {
        let mut got = Vec::new();
        while got.len() < count {
            let (bytes, drained) = self.recv(conn, count - got.len());
            got.extend(bytes);
            if drained && got.len() < count {
                self.wait_for(conn, epoll::IN);
            }
        }
        got
    }
}

fn bits(event: Event) -> [bool; 4] {
    match event {
        Event::Ready { readable, writable, hang_up, exhaust, .. } => {
            [readable, writable, hang_up, exhaust]
        }
        other => panic!("{other:?}"),
    }
}

fn reset(peer: TcpStream) {
    SockRef::from(&peer).set_linger(Some(Duration::ZERO)).expect("an option");
}

fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().expect("an address")
}

/// Puts these bytes in a queue; returns the first node.
fn queue(segments: &mut Segments, pieces: &[Bytes]) -> u32 {
    pieces.iter().rev().fold(NONE, |next, piece| {
        let node = segments.share(piece.clone());
        segments.node_mut(node).next = next;
        node
    })
}

/// Takes sent bytes off a queue; returns its first node.
fn advance(segments: &mut Segments, mut first: u32, mut bytes: usize) -> u32 {
    while first != NONE {
        let node = segments.node_mut(first);
        let left = node.segment.bytes().len() - node.start;
        if bytes < left {
            node.start += bytes;
            break;
        }
        bytes -= left;
        first = segments.remove(first);
    }
    first
}

#[test]
fn a_short_receive_of_plain_data_is_drained_and_a_full_one_is_not() {
    let mut rig = Rig::new();
    let (mut conn, mut peer) = rig.pair();
    peer.write_all(b"abcde").expect("write");
    rig.wait_for(&mut conn, epoll::IN);
    assert_eq!(rig.recv(&conn, 3), (b"abc".to_vec(), false));
    assert_eq!(rig.recv(&conn, 2), (b"de".to_vec(), false));
    assert!(matches!(rig.epoll.recv(&conn, &mut rig.memory, 9), Recv::WouldBlock));
    peer.write_all(b"f").expect("write");
    rig.wait_for(&mut conn, epoll::IN);
    assert_eq!(rig.recv(&conn, usize::MAX), (b"f".to_vec(), true));
}

#[test]
fn data_before_a_fin_is_never_called_drained() {
    let mut rig = Rig::new();
    let (mut conn, mut peer) = rig.pair();
    peer.write_all(b"bye").expect("write");
    peer.shutdown(Shutdown::Write).expect("connected");
    rig.wait_for(&mut conn, epoll::IN | epoll::RDHUP);
    assert_eq!(rig.recv(&conn, 100), (b"bye".to_vec(), false));
    assert!(matches!(rig.epoll.recv(&conn, &mut rig.memory, 100), Recv::Eof));
}

#[test]
fn only_a_reset_or_two_fins_hang_up_and_only_plain_data_need_not_be_exhausted() {
    let of = |mask| bits(event(Key::new(Kind::Conn, 0, 1), Ready { mask, data: 0 }));
    assert_eq!(of(epoll::IN), [true, false, false, false]);
    assert_eq!(of(epoll::OUT), [false, true, false, false]);
    assert_eq!(of(epoll::PRI), [true, false, false, true]);
    assert_eq!(of(epoll::IN | epoll::RDHUP), [true, false, false, true]);
    assert_eq!(of(epoll::HUP), [true; 4]);
    assert_eq!(of(epoll::ERR), [true; 4]);
}

#[test]
fn a_fin_after_drained_data_makes_an_event_of_its_own() {
    let mut rig = Rig::new();
    let (mut conn, mut peer) = rig.pair();
    peer.write_all(b"bye").expect("write");
    rig.wait_for(&mut conn, epoll::IN);
    assert_eq!(rig.recv(&conn, 100), (b"bye".to_vec(), true));
    peer.shutdown(Shutdown::Write).expect("connected");
    rig.wait_for(&mut conn, epoll::RDHUP);
    assert!(matches!(rig.epoll.recv(&conn, &mut rig.memory, 100), Recv::Eof));
}

#[test]
fn a_receive_that_stops_at_an_urgent_mark_is_not_drained() {
    let mut rig = Rig::new();
    let (mut conn, peer) = rig.pair();
    let urgent = SockRef::from(&peer);
    urgent.send(b"ab").expect("send");
    urgent.send_out_of_band(b"!").expect("send");
    rig.wait_for(&mut conn, epoll::PRI);
    urgent.send(b"cd").expect("send");
    assert_eq!(rig.recv(&conn, 100), (b"ab".to_vec(), false));
    assert_eq!(rig.recv_exactly(&mut conn, 2), b"cd");
    urgent.send(b"ef").expect("send");
    rig.wait_for(&mut conn, epoll::IN);
    assert_eq!(rig.recv(&conn, 100), (b"ef".to_vec(), true), "the mark is passed");
}

#[test]
fn data_then_the_reset_then_nothing() {
    let mut rig = Rig::new();
    let (mut conn, mut peer) = rig.pair();
    peer.write_all(b"abc").expect("write");
    rig.wait_for(&mut conn, epoll::IN);
    reset(peer);
    rig.wait_for(&mut conn, epoll::HUP | epoll::ERR);
    assert_eq!(rig.recv(&conn, 100), (b"abc".to_vec(), false));
    let answer = rig.epoll.recv(&conn, &mut rig.memory, 100);
    assert!(matches!(answer, Recv::Failed(Errno(errno::ECONNRESET))), "{answer:?}");
}

#[test]
fn the_error_of_a_connection_nobody_reads_leaves_its_unread_bytes_to_count() {
    let mut rig = Rig::new();
    let (mut conn, mut peer) = rig.pair();
    assert_eq!(rig.epoll.take_error(&conn), None);
    peer.write_all(b"abc").expect("write");
    rig.wait_for(&mut conn, epoll::IN);
    reset(peer);
    rig.wait_for(&mut conn, epoll::ERR);
    assert_eq!(rig.epoll.take_error(&conn), Some(Errno(errno::ECONNRESET)));
    assert_eq!((rig.epoll.take_error(&conn), rig.epoll.unread_bytes(&conn)), (None, 3));
}

#[test]
fn a_blocked_send_goes_on_after_its_event_and_keeps_the_order() {
    let mut rig = Rig::new();
    let (mut conn, mut peer) = rig.pair();
    let mut pieces: Vec<_> = (0..32).map(|n| Bytes::from(vec![n; 1 << 20])).collect();
    pieces.splice(1..1, (0..=255).map(|n| Bytes::from(vec![n; 900])));
    let mut segments = Segments::new(0);
    let mut first = queue(&mut segments, &pieces);
    let mut reader = None;
    while first != NONE {
        let sent = rig.epoll.send(&conn, segments.pieces(first, 4 << 20));
        let blocked = match sent {
            Send::Done { bytes, blocked } => {
                first = advance(&mut segments, first, bytes);
                blocked
            }
            other => other == Send::WouldBlock,
        };
        if blocked {
            // Until here nobody reads, so that no kernel has room for it all.
            let mut peer = peer.try_clone().expect("dup");
            reader.get_or_insert_with(|| {
                let total = pieces.iter().map(Bytes::len).sum();
                let mut got = vec![0; total];
                std::thread::spawn(move || peer.read_exact(&mut got).map(|()| got))
            });
            rig.wait_for(&mut conn, epoll::OUT);
        }
    }
    let got = reader.expect("32 MiB block").join().expect("no panic").expect("read");
    assert!(got == pieces.concat(), "the bytes arrive in order");
    rig.epoll.close(&conn, false);
    assert_eq!(peer.read(&mut [0]).expect("a FIN"), 0);
}

#[test]
fn a_single_piece_that_is_not_taken_whole_is_blocked() {
    let mut rig = Rig::new();
    let (conn, _peer) = rig.pair();
    let mut segments = Segments::new(0);
    let first = queue(&mut segments, &[Bytes::from(vec![1; 32 << 20])]);
    let sent = rig.epoll.send(&conn, segments.pieces(first, usize::MAX));
    assert!(matches!(sent, Send::Done { bytes: 1.., blocked: true }), "{sent:?}");
    while rig.epoll.send(&conn, segments.pieces(first, usize::MAX)) != Send::WouldBlock {}
}

#[test]
fn an_accept_without_a_connection_would_block() {
    let mut rig = Rig::new();
    let (mut listener, addr) = rig.listen();
    let key = Key::new(Kind::Conn, 0, 1);
    let options = ConnOptions::default();
    let answer = rig.epoll.accept(&listener, key, &options);
    assert!(matches!(answer, Accept::WouldBlock), "{answer:?}");
    let peer = TcpStream::connect(addr).expect("connect");
    let conn = rig.accept(&mut listener);
    assert_eq!(rig.epoll.local_addr(&conn), peer.peer_addr().ok());
    let answer = rig.epoll.accept(&conn, key, &options);
    assert!(matches!(answer, Accept::Failed(Errno(errno::EINVAL))), "{answer:?}");
}

#[test]
fn a_connect_is_decided_by_an_event() {
    let mut rig = Rig::new();
    let listener = TcpListener::bind(loopback()).expect("loopback");
    let (mut conn, progress) = rig.connect(listener.local_addr().expect("bound"));
    assert!(matches!(progress, Connect::InProgress | Connect::Connected), "{progress:?}");
    rig.wait_for(&mut conn, epoll::OUT);
    assert_eq!(rig.epoll.finish_connect(&conn), Connect::Connected);
    let (peer, from) = listener.accept().expect("accept");
    assert_eq!(rig.epoll.local_addr(&conn), Some(from));
    drop(peer);
    rig.wait_for(&mut conn, epoll::RDHUP);
    assert_eq!(rig.epoll.finish_connect(&conn), Connect::Connected, "and closed since");
}

#[test]
fn a_refused_connect_is_the_networks_answer() {
    let mut rig = Rig::new();
    // A port that is taken, so that no other test listens on it, by one who does not listen.
    let taken = Socket::new(Domain::IPV4, Type::STREAM, None).expect("socket");
    taken.bind(&loopback().into()).expect("loopback");
    let addr = socket::local_addr(taken.as_raw_fd()).expect("bound");
    let (mut conn, progress) = rig.connect(addr);
    let answer = match progress {
        Connect::InProgress => {
            rig.wait_for(&mut conn, epoll::HUP);
            rig.epoll.finish_connect(&conn)
        }
        decided => decided,
    };
    assert_eq!(answer, Connect::Failed(Errno(errno::ECONNREFUSED)));
    assert_eq!(rig.epoll.close(&conn, false), Close::Ended);
}

#[test]
fn a_connect_that_cannot_begin_is_an_error() {
    let mut rig = Rig::new();
    // A link-local address without its link.
    let addr = "[fe80::1]:9".parse().expect("an address");
    let key = Key::new(Kind::Conn, 0, 1);
    rig.epoll.connect(key, addr, &ConnOptions::default()).expect_err("nowhere to go");
}

#[test]
fn a_connect_that_is_not_decided_stays_in_progress() {
    let mut rig = Rig::new();
    let unconnected = socket::open(loopback()).expect("socket");
    let key = Key::new(Kind::Conn, 0, 1);
    let conn = Sock { key, handle: unconnected.as_raw_fd(), exhaust: false };
    assert_eq!(rig.epoll.finish_connect(&conn), Connect::InProgress);
}

#[test]
fn a_signal_from_another_thread_ends_a_wait_once() {
    let mut rig = Rig::new();
    let signal = rig.epoll.signal();
    let thread = std::thread::spawn(move || signal.raise());
    let now = rig.epoll.now();
    let mut woken = false;
    while !woken {
        woken = rig.epoll.wait(now, None, &mut rig.events).expect("wait");
    }
    thread.join().expect("no panic");
    assert!(!rig.poll());
    let signal = rig.epoll.signal();
    signal.raise();
    signal.raise();
    assert_eq!([rig.poll(), rig.poll()], [true, false], "a raise before the wait counts");
    let mut level = Poller::new().expect("epoll");
    level.add(rig.epoll.wake.as_raw_fd(), epoll::IN, 1).expect("add");
    assert_eq!(level.wait(Some(Duration::ZERO)).expect("wait").count(), 0, "it is reset");
    assert_eq!(rig.events, []);
    drop(rig);
    signal.raise();
}

#[test]
fn a_reset_close_resets_and_a_plain_one_sends_a_fin() {
    let mut rig = Rig::new();
    let (conn, mut peer) = rig.pair();
    assert_eq!(rig.epoll.close(&conn, false), Close::Ended);
    assert_eq!(peer.read(&mut [0]).expect("a FIN"), 0);
    let (conn, mut peer) = rig.pair();
    assert_eq!(rig.epoll.close(&conn, true), Close::Ended);
    let error = peer.read(&mut [0]).expect_err("a RST");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_closed_connection_is_silent_while_a_duplicate_lives() {
    let mut rig = Rig::new();
    let (mut conn, mut peer) = rig.pair();
    rig.wait_for(&mut conn, epoll::OUT);
    let duplicate = socket::duplicate(conn.handle).expect("dup");
    rig.epoll.close(&conn, false);
    peer.write_all(b"x").expect("write");
    while socket::unread_bytes(duplicate.as_raw_fd()) == 0 {
        std::thread::yield_now();
    }
    rig.poll();
    assert_eq!(rig.events, []);
}

#[test]
fn an_event_of_nobody_is_ignored() {
    let mut rig = Rig::new();
    let raised = EventFd::new().expect("eventfd");
    EventFd::raise(&raised);
    for data in [0, 5, Key::new(Kind::Timer, 0, 1).bits()] {
        rig.epoll.poller.add(raised.as_raw_fd(), epoll::IN, data).expect("add");
        assert!(!rig.poll());
        assert_eq!(rig.events, []);
        rig.epoll.poller.delete(raised.as_raw_fd()).expect("delete");
    }
}

#[test]
fn the_pollers_descriptor_is_readable_when_there_are_events() {
    let mut rig = Rig::new();
    let mut outer = Poller::new().expect("epoll");
    let inner = rig.epoll.poll_fd().expect("epoll has one").as_raw_fd();
    outer.add(inner, epoll::IN, 1).expect("add");
    let mut ready = || outer.wait(Some(Duration::ZERO)).expect("wait").count();
    assert_eq!(ready(), 0);
    rig.epoll.signal().raise();
    assert_eq!(ready(), 1);
    assert!(rig.poll());
    assert_eq!(ready(), 0);
}

#[test]
fn time_does_not_step_back() {
    let mut rig = Rig::new();
    let ahead = rig.epoll.now() + LOST;
    rig.epoll.shown = ahead;
    assert_eq!(rig.epoll.now(), ahead);
}

#[test]
fn the_connection_limit_leaves_room_for_files() {
    let files = process::open_files_max();
    assert_eq!(Rig::new().epoll.connections_max(), files.saturating_sub(64));
}
