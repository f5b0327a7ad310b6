//! Urgent data: a receive stops short before an urgent mark, and the byte at the mark is not part
//! of the stream (`tcp(7)`). A peer that sends such bytes neither stalls its stream nor makes the
//! loop spin.

mod support;

use std::time::Duration;

use hotloop::{CloseReason, ConnId};
use support::{Call, Kind, Peer, Rig};

/// What is sent out of band: a value that the stream does not hold.
const URGENT: u8 = 0xff;
const PIECE_BYTES: usize = 1024;
const PIECES: usize = 200;

/// One mark at a time: the kernel takes each urgent byte out of the stream.
fn each_urgent_byte_is_left_out_and_the_stream_goes_on(kind: Kind) {
    let (mut rig, peer, conn) = connected(kind);
    let sent = pattern(PIECES * PIECE_BYTES);
    for (count, piece) in sent.chunks(PIECE_BYTES).enumerate() {
        rig.send(peer, piece);
        send_urgent(&mut rig, peer);
        let so_far = (count + 1) * PIECE_BYTES;
        rig.until("the bytes before the mark", |rig| rig.handler.consumed.len() >= so_far);
    }
    assert!(rig.handler.consumed == sent, "the stream has changed");
    assert_quiet(&mut rig);
    assert_receives_at_most(&mut rig, conn, 3 * PIECES);
}

/// Many marks before the loop reads any: those that were overtaken by a later one stay in the
/// stream (RFC 6093 §3), all other bytes arrive in order.
fn a_stream_with_a_mark_every_kibibyte_arrives_whole(kind: Kind) {
    let (mut rig, peer, conn) = connected(kind);
    let sent = pattern(PIECES * PIECE_BYTES);
    for piece in sent.chunks(PIECE_BYTES) {
        rig.send(peer, piece);
        send_urgent(&mut rig, peer);
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
fn bytes_behind_the_mark_need_no_further_event(kind: Kind) {
    for before in [1, PIECE_BYTES] {
        let (mut rig, peer, _) = connected(kind);
        let sent = pattern(before + 100);
        rig.send(peer, &sent[..before]);
        send_urgent(&mut rig, peer);
        rig.send(peer, &sent[before..]);
        rig.until("what is behind the mark", |rig| rig.handler.consumed.len() >= sent.len());
        assert_eq!(rig.handler.consumed, sent);
        assert_quiet(&mut rig);
    }
}

fn urgent_bytes_alone_call_nobody(kind: Kind) {
    let (mut rig, peer, conn) = connected(kind);
    for _ in 0..50 {
        send_urgent(&mut rig, peer);
        rig.settle();
    }
    assert_eq!(ordinary(&rig), b"");
    assert_quiet(&mut rig);
    assert_receives_at_most(&mut rig, conn, 50);
    rig.send(peer, b"at last");
    rig.until("the bytes", |rig| ordinary(rig) == b"at last");
}

fn a_mark_does_not_wake_a_paused_connection(kind: Kind) {
    let (mut rig, peer, conn) = connected(kind);
    rig.event_loop.net().pause_reading(conn);
    rig.send(peer, b"before");
    send_urgent(&mut rig, peer);
    rig.send(peer, b"behind");
    rig.settle();
    assert_eq!(rig.handler.calls, [Call::Accept(conn)]);
    assert_quiet(&mut rig);
    rig.event_loop.net().resume_reading(conn);
    rig.until("all bytes", |rig| rig.handler.consumed.len() >= 12);
    assert_eq!(rig.handler.consumed, b"beforebehind");
}

fn the_fin_behind_a_mark_is_told(kind: Kind) {
    let (mut rig, peer, conn) = connected(kind);
    rig.send(peer, b"last words");
    send_urgent(&mut rig, peer);
    rig.finish(peer);
    assert_eq!(rig.until_closed(conn), (CloseReason::PeerClosed, 0));
    assert_eq!(rig.handler.consumed, b"last words");
}

/// A closed connection discards what comes with marks in it as it does everything else.
fn a_closed_connection_reads_past_marks_up_to_the_fin(kind: Kind) {
    let (mut rig, peer, conn) = connected(kind);
    rig.event_loop.net().close(conn);
    for _ in 0..20 {
        rig.send(peer, &pattern(PIECE_BYTES));
        send_urgent(&mut rig, peer);
    }
    rig.finish(peer);
    assert_eq!(rig.until_closed(conn), (CloseReason::LocalClose, 0));
    let discarded = rig.event_loop.net().stats().discarded_bytes;
    assert!(discarded >= 20 * PIECE_BYTES as u64, "{discarded}");
}

fn connected(kind: Kind) -> (Rig, Peer, ConnId) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    (rig, peer, conn)
}

/// Sends one byte with `MSG_OOB` behind what was sent.
fn send_urgent(rig: &mut Rig, peer: Peer) {
    rig.until("room for all before it", |rig| rig.is_sent(peer));
    rig.send_urgent(peer, URGENT);
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

// The scripted world has no urgent data.
on_kernels!(
    each_urgent_byte_is_left_out_and_the_stream_goes_on,
    a_stream_with_a_mark_every_kibibyte_arrives_whole,
    bytes_behind_the_mark_need_no_further_event,
    urgent_bytes_alone_call_nobody,
    a_mark_does_not_wake_a_paused_connection,
    the_fin_behind_a_mark_is_told,
    a_closed_connection_reads_past_marks_up_to_the_fin,
);
