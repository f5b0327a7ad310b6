//! Pausing: a paused connection is shown nothing, loses nothing, and still learns that its peer
//! died (C13).

mod support;

use std::cell::RefCell;
use std::rc::Rc;

use hotloop::{CloseReason, Config, ConnId};
use support::{Call, Kind, Peer, Rig};

fn bytes_that_arrive_while_paused_wait_for_the_resume(kind: Kind) {
    let (mut rig, peer, conn) = paused(kind);
    let sent: Vec<u8> = (0..=250).cycle().take(9000).collect();
    for piece in sent.chunks(1000) {
        rig.send(peer, piece);
        rig.settle();
    }
    assert_eq!(rig.handler.consumed, b"");
    assert!(rig.event_loop.net().resume_reading(conn));
    rig.until("all bytes", |rig| rig.handler.consumed.len() >= sent.len());
    assert_eq!(rig.handler.consumed, sent);
    assert_nothing_lent(&rig);
}

fn a_pause_inside_on_data_stops_delivery_at_once(kind: Kind) {
    // A receive memory that takes many receives for what is there.
    let mut rig = Rig::with(kind, Config::default().recv_buffer_bytes(512));
    rig.handler.on_data = Some(Box::new(|net, conn, data| {
        assert!(net.pause_reading(conn));
        data.len()
    }));
    let (peer, conn) = rig.client();
    let sent: Vec<u8> = (0..=250).cycle().take(4000).collect();
    rig.send(peer, &sent);
    rig.until("the first bytes", |rig| !rig.handler.consumed.is_empty());
    rig.settle();
    assert_eq!(rig.handler.shown(conn).len(), 1);
    assert!(rig.handler.consumed.len() <= 512);
    rig.handler.on_data = None;
    rig.event_loop.net().resume_reading(conn);
    rig.until("the rest", |rig| rig.handler.consumed.len() >= sent.len());
    assert_eq!(rig.handler.consumed, sent);
    assert_nothing_lent(&rig);
}

/// Pauses and resumes in the first `on_data`, which consumes 100 bytes.
fn yielding_once(kind: Kind) -> (Rig, Peer, ConnId, Vec<u8>) {
    let mut rig = Rig::with(kind, Config::default().recv_buffer_bytes(512));
    let mut first = true;
    rig.handler.on_data = Some(Box::new(move |net, conn, data| {
        if !std::mem::take(&mut first) {
            return data.len();
        }
        net.pause_reading(conn);
        net.resume_reading(conn);
        100
    }));
    let (peer, conn) = rig.client();
    (rig, peer, conn, (0..=250).cycle().take(4000).collect())
}

fn a_pause_and_resume_inside_on_data_yields_until_the_next_turn(kind: Kind) {
    let (mut rig, peer, conn, sent) = yielding_once(kind);
    rig.send(peer, &sent);
    rig.until("the first bytes", |rig| !rig.handler.shown(conn).is_empty());
    assert_eq!(rig.handler.shown(conn).len(), 1, "no more of it in the same turn");
    let left = rig.handler.shown(conn)[0][100..].to_vec();
    assert_eq!(rig.event_loop.next_wait(), Some(std::time::Duration::ZERO));
    rig.turn();
    assert!(rig.handler.shown(conn)[1].starts_with(&left), "what remains comes in the next turn");
    rig.until("the rest", |rig| rig.handler.consumed.len() >= sent.len());
    assert_eq!(rig.handler.consumed, sent);
    assert_nothing_lent(&rig);
}

fn a_pause_and_resume_inside_on_data_shows_what_remains_without_new_bytes(kind: Kind) {
    let (mut rig, peer, conn, sent) = yielding_once(kind);
    rig.send(peer, &sent[..120]);
    rig.until("the first bytes", |rig| !rig.handler.shown(conn).is_empty());
    assert_eq!(rig.handler.shown(conn), [&sent[..120]]);
    rig.turn();
    assert_eq!(rig.handler.shown(conn), [&sent[..120], &sent[100..120]]);
    rig.settle();
    assert_eq!(rig.handler.shown(conn).len(), 2);
}

fn a_resume_shows_kept_bytes_without_new_ones(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.on_data = Some(Box::new(|net, conn, _| {
        net.pause_reading(conn);
        1
    }));
    let (peer, conn) = rig.client();
    rig.send(peer, b"abc");
    rig.until("the bytes", |rig| !rig.handler.shown(conn).is_empty());
    rig.settle();
    assert_eq!(rig.handler.shown(conn), [b"abc"]);
    rig.event_loop.net().resume_reading(conn);
    rig.settle();
    assert_eq!(rig.handler.shown(conn), [&b"abc"[..], b"bc"]);
    rig.event_loop.net().resume_reading(conn);
    rig.settle();
    assert_eq!(rig.handler.shown(conn), [&b"abc"[..], b"bc", b"c"]);
    rig.event_loop.net().resume_reading(conn);
    rig.settle();
    assert_eq!(rig.handler.shown(conn).len(), 3, "there are none left to show");
    assert_nothing_lent(&rig);
}

fn kept_bytes_are_shown_contiguous_with_those_that_came_while_paused(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.on_data = Some(Box::new(|net, conn, _| {
        net.pause_reading(conn);
        1
    }));
    let (peer, conn) = rig.client();
    rig.send(peer, b"abc");
    rig.until("the bytes", |rig| !rig.handler.shown(conn).is_empty());
    rig.handler.on_data = None;
    rig.send(peer, b"def");
    rig.settle();
    assert_eq!(rig.handler.shown(conn), [b"abc"]);
    rig.event_loop.net().resume_reading(conn);
    rig.until("the rest", |rig| rig.handler.consumed.len() >= 6);
    assert_eq!(rig.handler.consumed, b"abcdef");
}

fn pausing_twice_is_pausing_once(kind: Kind) {
    let (mut rig, peer, conn) = paused(kind);
    assert!(rig.event_loop.net().pause_reading(conn));
    assert!(rig.event_loop.net().pause_reading(conn));
    rig.send(peer, b"abc");
    rig.settle();
    assert!(rig.handler.shown(conn).is_empty());
    assert!(rig.event_loop.net().resume_reading(conn));
    rig.until("the bytes", |rig| rig.handler.consumed == b"abc");
}

fn a_resume_without_a_pause_shows_kept_bytes_again_and_nothing_else(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.on_data = Some(Box::new(|_, _, _| 0));
    let (peer, conn) = rig.client();
    assert!(rig.event_loop.net().resume_reading(conn));
    rig.settle();
    assert!(rig.handler.shown(conn).is_empty(), "nothing is kept");
    rig.send(peer, b"abc");
    rig.until("the bytes", |rig| !rig.handler.shown(conn).is_empty());
    assert!(rig.event_loop.net().resume_reading(conn));
    assert!(rig.event_loop.net().resume_reading(conn));
    rig.settle();
    assert_eq!(rig.handler.shown(conn), [b"abc", b"abc"], "once, however often it was asked");
}

fn a_pause_takes_a_resume_back(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.on_data = Some(Box::new(|_, _, _| 0));
    let (peer, conn) = rig.client();
    rig.send(peer, b"abc");
    rig.until("the bytes", |rig| !rig.handler.shown(conn).is_empty());
    rig.event_loop.net().resume_reading(conn);
    rig.event_loop.net().pause_reading(conn);
    rig.settle();
    assert_eq!(rig.handler.shown(conn).len(), 1);
    rig.event_loop.net().resume_reading(conn);
    rig.settle();
    assert_eq!(rig.handler.shown(conn).len(), 2);
}

fn a_fin_waits_for_the_resume_behind_the_data(kind: Kind) {
    let (mut rig, peer, conn) = paused(kind);
    rig.send(peer, b"last words");
    rig.finish(peer);
    rig.settle();
    assert_eq!(rig.handler.calls, [Call::Accept(conn)]);
    rig.event_loop.net().resume_reading(conn);
    assert_eq!(rig.until_closed(conn), (CloseReason::PeerClosed, 0));
    let told = Call::ReadClosed(conn, Vec::new());
    assert_eq!(rig.handler.consumed, b"last words");
    assert_eq!(rig.handler.calls[rig.handler.calls.len() - 2], told);
    assert_nothing_lent(&rig);
}

fn a_pause_inside_on_data_keeps_the_fin_back_too(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.on_data = Some(Box::new(|net, conn, data| {
        net.pause_reading(conn);
        data.len() - 1
    }));
    let (peer, conn) = rig.client();
    rig.send(peer, b"last words");
    rig.finish(peer);
    rig.until("the data", |rig| !rig.handler.shown(conn).is_empty());
    rig.settle();
    assert_eq!(rig.handler.calls.len(), 2, "{:?}", rig.handler.calls);
    // Consumes nothing of what is shown again: it is the rest that comes with the FIN.
    rig.handler.on_data = Some(Box::new(|_, _, _| 0));
    rig.event_loop.net().resume_reading(conn);
    rig.until_closed(conn);
    let shown = Call::Data(conn, b"s".to_vec());
    assert_eq!(rig.handler.calls[2..4], [shown, Call::ReadClosed(conn, b"s".to_vec())]);
    assert_nothing_lent(&rig);
}

fn a_reset_while_paused_ends_the_connection_at_once(kind: Kind) {
    let (mut rig, peer, conn) = paused(kind);
    rig.send(peer, b"unread");
    rig.settle();
    rig.reset(peer);
    assert_eq!(rig.until_closed(conn), (CloseReason::Reset, 0));
    assert!(rig.handler.shown(conn).is_empty());
    assert_eq!(rig.event_loop.net().stats().discarded_bytes, 6);
    assert_nothing_lent(&rig);
}

fn a_reset_behind_a_fin_while_paused_ends_the_connection_at_once(kind: Kind) {
    let (mut rig, peer, conn) = paused(kind);
    rig.finish(peer);
    rig.settle();
    assert_eq!(rig.closed(conn), None);
    rig.reset(peer);
    // A real peer has nothing to reset once both of its directions are shut: the loop finds out
    // by sending.
    rig.event_loop.net().write(conn, b"anybody there?");
    assert_eq!(rig.until_closed(conn).0, CloseReason::Reset);
    assert_eq!(rig.handler.count(|call| matches!(call, Call::ReadClosed(..))), 0);
}

/// Both sides' FIN is a state that a level would report again and again.
fn a_reset_behind_both_fins_while_paused_ends_the_connection_at_once(kind: Kind) {
    let (mut rig, peer, conn) = paused(kind);
    rig.stop_reading(peer);
    // More than the peer's window, so that the FIN is still to be sent when the peer resets.
    rig.event_loop.net().write(conn, &[7; 100 << 10]);
    rig.event_loop.net().shutdown(conn);
    rig.settle();
    assert_eq!(rig.event_loop.net().queued_bytes(conn), 0, "the kernel has it");
    rig.finish(peer);
    rig.settle();
    assert_eq!(rig.closed(conn), None, "a FIN waits for the resume");
    rig.reset(peer);
    assert_eq!(rig.until_closed(conn), (CloseReason::Reset, 0));
}

fn a_reset_counts_kept_bytes_of_a_paused_connection_as_discarded(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.on_data = Some(Box::new(|net, conn, _| {
        net.pause_reading(conn);
        1
    }));
    let (peer, conn) = rig.client();
    rig.send(peer, b"abc");
    rig.until("the bytes", |rig| !rig.handler.shown(conn).is_empty());
    rig.send(peer, b"defg");
    rig.settle();
    rig.reset(peer);
    assert_eq!(rig.until_closed(conn), (CloseReason::Reset, 0));
    assert_eq!(rig.handler.shown(conn).len(), 1);
    let stats = rig.event_loop.net().stats();
    assert_eq!((stats.discarded_bytes, stats.buffered_bytes), (2 + 4, 0));
}

fn a_paused_connection_can_be_closed(kind: Kind) {
    let (mut rig, peer, conn) = paused(kind);
    rig.send(peer, b"unread");
    rig.settle();
    rig.event_loop.net().write(conn, b"bye");
    rig.event_loop.net().close(conn);
    assert!(!rig.event_loop.net().pause_reading(conn));
    assert!(!rig.event_loop.net().resume_reading(conn));
    rig.until("the FIN", |rig| rig.at_end(peer));
    assert_eq!(rig.received(peer), b"bye");
    rig.finish(peer);
    assert_eq!(rig.until_closed(conn), (CloseReason::LocalClose, 0));
    assert!(rig.handler.shown(conn).is_empty());
    assert_eq!(rig.event_loop.net().stats().discarded_bytes, 6);
    assert!(!rig.is_reset(peer), "what is unread was read and discarded");
    assert_nothing_lent(&rig);
}

fn a_paused_connection_can_be_aborted(kind: Kind) {
    let (mut rig, peer, conn) = paused(kind);
    rig.send(peer, b"unread");
    rig.settle();
    rig.event_loop.net().abort(conn);
    assert_eq!(rig.until_closed(conn), (CloseReason::LocalAbort, 0));
    rig.until("the reset", |rig| rig.is_reset(peer));
    assert!(rig.handler.shown(conn).is_empty());
}

fn a_paused_connection_still_sends(kind: Kind) {
    let (mut rig, peer, conn) = paused(kind);
    rig.event_loop.net().write(conn, b"I am listening later");
    rig.until("the bytes", |rig| rig.received(peer) == b"I am listening later");
}

/// Whichever is served first pauses the other, although both had bytes in the same wait; its next
/// bytes make it resume the other.
fn one_connections_callback_pauses_and_resumes_another(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (a, b) = (rig.client(), rig.client());
    rig.handler.on_data = Some(Box::new(move |net, conn, data| {
        let other = if conn == a.1 { b.1 } else { a.1 };
        match data {
            b"pause" => assert!(net.pause_reading(other)),
            b"resume" => assert!(net.resume_reading(other)),
            _ => panic!("{data:?}"),
        }
        data.len()
    }));
    rig.send(a.0, b"pause");
    rig.send(b.0, b"pause");
    rig.until("one of them", |rig| !rig.handler.consumed.is_empty());
    rig.settle();
    assert_eq!(rig.handler.consumed, b"pause", "the other is paused");
    let a_was_first = rig.handler.shown(a.1).len() == 1;
    let (first, second) = if a_was_first { (a, b) } else { (b, a) };
    // The second one pauses the first when it is resumed.
    rig.send(first.0, b"resume");
    rig.until("the second", |rig| rig.handler.shown(second.1).len() == 1);
    rig.send(first.0, b"resume");
    rig.settle();
    assert_eq!(rig.handler.shown(first.1), [&b"pause"[..], b"resume"]);
    rig.send(second.0, b"resume");
    rig.until("the first again", |rig| rig.handler.shown(first.1).len() == 3);
}

fn a_pause_inside_on_accept_holds_what_is_already_there(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.on_accept = Some(Box::new(|net, conn| assert!(net.pause_reading(conn))));
    let peer = rig.dial();
    rig.send(peer, b"early");
    rig.until("an accept", |rig| !rig.handler.accepted.is_empty());
    rig.settle();
    let conn = rig.handler.accepted[0];
    assert_eq!(rig.handler.calls, [Call::Accept(conn)]);
    rig.event_loop.net().resume_reading(conn);
    rig.until("the bytes", |rig| rig.handler.consumed == b"early");
}

fn a_pause_before_the_connect_is_done_holds(kind: Kind) {
    let mut rig = Rig::new(kind);
    let addr = rig.server();
    let conn = rig.event_loop.net().connect(addr).expect("there are slots");
    assert!(rig.event_loop.net().pause_reading(conn));
    rig.until("a connect", |rig| !rig.handler.connected.is_empty());
    let peer = rig.server_peer(addr).expect("it has been connected to");
    rig.send(peer, b"welcome");
    rig.settle();
    assert_eq!(rig.handler.calls, [Call::Connect(conn)]);
    rig.event_loop.net().resume_reading(conn);
    rig.until("the bytes", |rig| rig.handler.consumed == b"welcome");
}

/// A timer's callback is nobody's service: what it resumes is delivered in the same turn or the
/// next.
fn a_timer_resumes(kind: Kind) {
    let (mut rig, peer, conn) = paused(kind);
    rig.send(peer, b"abc");
    rig.settle();
    rig.handler.on_timer = Some(Box::new(move |net, _, _| {
        net.resume_reading(conn);
    }));
    rig.event_loop.net().start_timer(std::time::Duration::ZERO, 0);
    rig.until("what was held back", |rig| rig.handler.consumed == b"abc");
}

fn a_paused_connection_with_bytes_there_does_not_keep_the_loop_busy(kind: Kind) {
    let (mut rig, peer, conn) = paused(kind);
    rig.send(peer, b"unread");
    rig.finish(peer);
    rig.settle();
    let calls = rig.kind.is_script().then(|| rig.calls());
    let events = rig.event_loop.net().stats().events;
    for _ in 0..20 {
        let turn = rig.turn();
        assert_eq!((turn.callbacks, turn.pending), (0, false));
        assert_eq!(rig.event_loop.next_wait(), None, "there is nothing to do");
    }
    assert_eq!(rig.event_loop.net().stats().events, events);
    if let Some(before) = calls {
        let after = rig.calls();
        assert_eq!((after.recvs, after.interests), (before.recvs, before.interests));
    }
    assert_eq!(rig.handler.calls, [Call::Accept(conn)]);
}

fn a_hundred_pauses_in_one_stream_lose_nothing(kind: Kind) {
    let mut rig = Rig::with(kind, Config::default().recv_buffer_bytes(1024));
    let paused = Rc::new(RefCell::new(Vec::new()));
    let pausing = Rc::clone(&paused);
    rig.handler.on_data = Some(Box::new(move |net, conn, data| {
        net.pause_reading(conn);
        pausing.borrow_mut().push(conn);
        data.len().div_ceil(2)
    }));
    let (peer, conn) = rig.client();
    let sent: Vec<u8> = (0..=250).cycle().take(50_000).collect();
    rig.send(peer, &sent);
    rig.until("all bytes", |rig| {
        if let Some(conn) = paused.borrow_mut().pop() {
            rig.event_loop.net().resume_reading(conn);
        }
        rig.handler.consumed.len() >= sent.len()
    });
    assert_eq!(rig.handler.consumed, sent);
    assert!(rig.handler.shown(conn).len() >= 49, "{}", rig.handler.shown(conn).len());
    assert_nothing_lent(&rig);
}

fn a_connection_is_quiet_while_nothing_came_from_its_peer(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.on_read_closed = Some(Box::new(|_, _, _| {}));
    let server = rig.server();
    let net = rig.event_loop.net();
    let dialled = net.connect(server).expect("there are slots");
    assert!(!net.is_quiet(dialled), "it is connecting");
    let (peer, conn) = rig.client();
    assert!(rig.event_loop.net().is_quiet(conn));
    rig.handler.on_data = Some(Box::new(|_, _, data| data.len() - 1));
    rig.send(peer, b"kept");
    rig.until("the bytes", |rig| !rig.handler.shown(conn).is_empty());
    assert!(!rig.event_loop.net().is_quiet(conn), "a byte is kept");
    rig.handler.on_data = None;
    rig.send(peer, b"!");
    rig.until("the bytes", |rig| rig.handler.consumed == b"kept!");
    assert!(rig.event_loop.net().is_quiet(conn));
    rig.finish(peer);
    rig.until("the FIN", |rig| rig.handler.count(|call| matches!(call, Call::ReadClosed(..))) == 1);
    assert!(!rig.event_loop.net().is_quiet(conn), "its peer has finished");
    rig.event_loop.net().close(conn);
    assert!(!rig.event_loop.net().is_quiet(conn), "it is closing");
    rig.until_closed(conn);
    assert!(!rig.event_loop.net().is_quiet(conn), "it is gone");
}

on_every_backend!(
    a_connection_is_quiet_while_nothing_came_from_its_peer,
    bytes_that_arrive_while_paused_wait_for_the_resume,
    a_pause_inside_on_data_stops_delivery_at_once,
    a_pause_and_resume_inside_on_data_yields_until_the_next_turn,
    a_pause_and_resume_inside_on_data_shows_what_remains_without_new_bytes,
    a_resume_shows_kept_bytes_without_new_ones,
    kept_bytes_are_shown_contiguous_with_those_that_came_while_paused,
    pausing_twice_is_pausing_once,
    a_resume_without_a_pause_shows_kept_bytes_again_and_nothing_else,
    a_pause_takes_a_resume_back,
    a_fin_waits_for_the_resume_behind_the_data,
    a_pause_inside_on_data_keeps_the_fin_back_too,
    a_reset_while_paused_ends_the_connection_at_once,
    a_reset_behind_a_fin_while_paused_ends_the_connection_at_once,
    a_reset_counts_kept_bytes_of_a_paused_connection_as_discarded,
    a_paused_connection_can_be_closed,
    a_paused_connection_can_be_aborted,
    a_paused_connection_still_sends,
    one_connections_callback_pauses_and_resumes_another,
    a_pause_inside_on_accept_holds_what_is_already_there,
    a_pause_before_the_connect_is_done_holds,
    a_timer_resumes,
    a_paused_connection_with_bytes_there_does_not_keep_the_loop_busy,
    a_hundred_pauses_in_one_stream_lose_nothing,
);

/// A rig with a connection that is paused from its start.
fn paused(kind: Kind) -> (Rig, Peer, ConnId) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    assert!(rig.event_loop.net().pause_reading(conn));
    (rig, peer, conn)
}

/// A completion backend has all its buffers back.
fn assert_nothing_lent(rig: &Rig) {
    if rig.kind.is_script() {
        assert_eq!(rig.world().lent_buffers(), 0);
    }
}

// The scripted peer takes not one byte of what it does not read.
on_kernels!(a_reset_behind_both_fins_while_paused_ends_the_connection_at_once,);
