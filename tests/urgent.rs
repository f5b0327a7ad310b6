//! Urgent data: a receive stops short before an urgent mark, and the byte at the mark is not part
//! of the stream (`tcp(7)`). A peer that sends such bytes neither stalls its stream nor makes the
//! loop spin. On epoll alone: the scripted world has no urgent data.

mod support;

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::time::Duration;

use hotloop::{CloseReason, ConnId};
use socket2::SockRef;
use support::{Call, Kind, Rig};

/// What is sent out of band: a value that the stream does not hold.
const URGENT: u8 = 0xff;
const PIECE_BYTES: usize = 1024;
const PIECES: usize = 200;

/// One mark at a time: the kernel takes each urgent byte out of the stream.
#[test]
fn each_urgent_byte_is_left_out_and_the_stream_goes_on() {
    let (mut rig, mut peer, conn) = connected();
    let sent = pattern(PIECES * PIECE_BYTES);
    for (count, piece) in sent.chunks(PIECE_BYTES).enumerate() {
        send(&mut rig, &mut peer, piece);
        send_urgent(&mut rig, &peer);
        let so_far = (count + 1) * PIECE_BYTES;
        rig.until("the bytes before the mark", |rig| rig.handler.consumed.len() >= so_far);
    }
    assert!(rig.handler.consumed == sent, "the stream has changed");
    assert_quiet(&mut rig);
    assert_receives_at_most(&mut rig, conn, 3 * PIECES);
}

/// Many marks before the loop reads any: those that were overtaken by a later one stay in the
/// stream (RFC 6093 §3), all other bytes arrive in order.
#[test]
fn a_stream_with_a_mark_every_kibibyte_arrives_whole() {
    let (mut rig, mut peer, conn) = connected();
    let sent = pattern(PIECES * PIECE_BYTES);
    for piece in sent.chunks(PIECE_BYTES) {
        send(&mut rig, &mut peer, piece);
        send_urgent(&mut rig, &peer);
    }
    let turns = rig.event_loop.net().stats().turns;
    rig.until("the whole stream", |rig| ordinary(rig).len() >= sent.len());
    assert!(ordinary(&rig) == sent, "the stream has changed");
    let took = rig.event_loop.net().stats().turns - turns;
    assert!(took <= 10 * PIECES as u64, "{took} turns");
    assert_quiet(&mut rig);
    assert_receives_at_most(&mut rig, conn, 5 * PIECES);
}

/// What follows the mark was there when the receive stopped short of it: no further event tells.
#[test]
fn bytes_behind_the_mark_need_no_further_event() {
    for before in [1, PIECE_BYTES] {
        let (mut rig, mut peer, _) = connected();
        let sent = pattern(before + 100);
        send(&mut rig, &mut peer, &sent[..before]);
        send_urgent(&mut rig, &peer);
        send(&mut rig, &mut peer, &sent[before..]);
        rig.until("what is behind the mark", |rig| rig.handler.consumed.len() >= sent.len());
        assert_eq!(rig.handler.consumed, sent);
        assert_quiet(&mut rig);
    }
}

#[test]
fn urgent_bytes_alone_call_nobody() {
    let (mut rig, mut peer, conn) = connected();
    for _ in 0..50 {
        send_urgent(&mut rig, &peer);
        rig.settle();
    }
    assert_eq!(ordinary(&rig), b"");
    assert_quiet(&mut rig);
    assert_receives_at_most(&mut rig, conn, 50);
    send(&mut rig, &mut peer, b"at last");
    rig.until("the bytes", |rig| ordinary(rig) == b"at last");
}

#[test]
fn a_mark_does_not_wake_a_paused_connection() {
    let (mut rig, mut peer, conn) = connected();
    rig.event_loop.net().pause_reading(conn);
    send(&mut rig, &mut peer, b"before");
    send_urgent(&mut rig, &peer);
    send(&mut rig, &mut peer, b"behind");
    rig.settle();
    assert_eq!(rig.handler.calls, [Call::Accept(conn)]);
    assert_quiet(&mut rig);
    rig.event_loop.net().resume_reading(conn);
    rig.until("all bytes", |rig| rig.handler.consumed.len() >= 12);
    assert_eq!(rig.handler.consumed, b"beforebehind");
}

#[test]
fn the_fin_behind_a_mark_is_told() {
    let (mut rig, mut peer, conn) = connected();
    send(&mut rig, &mut peer, b"last words");
    send_urgent(&mut rig, &peer);
    drop(peer);
    assert_eq!(rig.until_closed(conn), (CloseReason::PeerClosed, 0));
    assert_eq!(rig.handler.consumed, b"last words");
}

/// A closed connection discards what comes with marks in it as it does everything else.
#[test]
fn a_closed_connection_reads_past_marks_up_to_the_fin() {
    let (mut rig, mut peer, conn) = connected();
    rig.event_loop.net().close(conn);
    for _ in 0..20 {
        send(&mut rig, &mut peer, &pattern(PIECE_BYTES));
        send_urgent(&mut rig, &peer);
    }
    drop(peer);
    assert_eq!(rig.until_closed(conn), (CloseReason::LocalClose, 0));
    let discarded = rig.event_loop.net().stats().discarded_bytes;
    assert!(discarded >= 20 * PIECE_BYTES as u64, "{discarded}");
}

/// A peer of its own, because it sends what the rig's peers cannot.
fn connected() -> (Rig, TcpStream, ConnId) {
    let mut rig = Rig::new(Kind::Epoll);
    let peer = TcpStream::connect(rig.addr).expect("it listens");
    peer.set_nonblocking(true).expect("a TCP socket");
    peer.set_nodelay(true).expect("a TCP socket");
    rig.until("an accept", |rig| !rig.handler.accepted.is_empty());
    let conn = rig.handler.accepted[0];
    (rig, peer, conn)
}

fn send(rig: &mut Rig, peer: &mut TcpStream, data: &[u8]) {
    let mut left = data;
    rig.until("room for the bytes", |_| {
        match peer.write(left) {
            Ok(sent) => left = &left[sent..],
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
        }
        left.is_empty()
    });
}

/// Sends one byte with `MSG_OOB`.
fn send_urgent(rig: &mut Rig, peer: &TcpStream) {
    rig.until("room for the urgent byte", |_| {
        match SockRef::from(peer).send_out_of_band(&[URGENT]) {
            Ok(sent) => sent == 1,
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(error) => panic!("{error}"),
        }
    });
}

/// What was consumed, without urgent bytes that stayed in the stream.
fn ordinary(rig: &Rig) -> Vec<u8> {
    rig.handler.consumed.iter().copied().filter(|byte| *byte != URGENT).collect()
}

/// Nothing is pending and no event comes, though the last mark may be unread.
fn assert_quiet(rig: &mut Rig) {
    rig.settle();
    let before = rig.event_loop.net().stats();
    for _ in 0..10 {
        let max_wait = Duration::from_millis(1);
        let turn = rig.event_loop.turn(&mut rig.handler, max_wait).expect("the loop runs");
        assert_eq!((turn.callbacks, turn.pending), (0, false));
    }
    let after = rig.event_loop.net().stats();
    assert_eq!((after.events, after.receives), (before.events, before.receives));
}

fn assert_receives_at_most(rig: &mut Rig, conn: ConnId, most: usize) {
    let receives = rig.event_loop.net().conn_stats(conn).expect("it is open").receives;
    assert!(receives as usize <= most, "{receives} receives");
}

fn pattern(len: usize) -> Vec<u8> {
    (0..=250).cycle().take(len).collect()
}
