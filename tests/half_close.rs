//! Half-closed connections: the peer's FIN, the loop's own, both orders, and what still flows.

mod support;

use std::time::Duration;

use hotloop::{CloseReason, Config, ConnId, Sent};
use support::{Call, Kind, Rig};

const PEER_CLOSED: (CloseReason, u64) = (CloseReason::PeerClosed, 0);

fn the_fin_comes_once_behind_the_data_with_what_was_never_consumed(kind: Kind) {
    let mut rig = keeping_open(kind);
    rig.handler.on_data = Some(Box::new(|_, _, data| consume_lines(data)));
    let (peer, conn) = rig.client();
    rig.send(peer, b"one\ntwo\nthr");
    rig.until("the lines", |rig| rig.handler.consumed == b"one\ntwo\n");
    rig.finish(peer);
    rig.until("the FIN", |rig| read_closed(rig, conn).len() == 1);
    rig.settle();
    assert_eq!(read_closed(&rig, conn), [b"thr"]);
    assert_eq!(rig.handler.shown(conn), [b"one\ntwo\nthr"], "kept bytes are not shown twice");
    let stats = rig.event_loop.net().stats();
    assert_eq!((stats.received_bytes, stats.discarded_bytes), (11, 3));
}

fn a_fin_alone_has_no_rest(kind: Kind) {
    let mut rig = keeping_open(kind);
    let (peer, conn) = rig.client();
    rig.finish(peer);
    rig.until("the FIN", |rig| !read_closed(rig, conn).is_empty());
    rig.settle();
    assert_eq!(rig.handler.calls, [Call::Accept(conn), Call::ReadClosed(conn, Vec::new())]);
}

fn data_and_fin_of_one_event_come_in_one_turn(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    rig.settle();
    rig.send(peer, b"all");
    rig.finish(peer);
    let turn = rig.turn();
    assert!(turn.callbacks >= 2, "{:?}", rig.handler.calls);
    assert_eq!(rig.until_closed(conn), PEER_CLOSED);
    let expected = [
        Call::Accept(conn),
        Call::Data(conn, b"all".to_vec()),
        Call::ReadClosed(conn, Vec::new()),
        Call::Close(conn, CloseReason::PeerClosed, 0),
    ];
    assert_eq!(rig.handler.calls, expected);
}

fn a_fin_behind_more_than_the_budget_is_found_without_another_event(kind: Kind) {
    let mut rig = Rig::with(kind, Config::default().read_budget_bytes(1000));
    let (peer, conn) = rig.client();
    rig.settle();
    let sent: Vec<u8> = (0..=250).cycle().take(5500).collect();
    rig.send(peer, &sent);
    rig.finish(peer);
    rig.turn();
    assert_eq!(rig.handler.consumed, sent[..1000]);
    assert_eq!(rig.until_closed(conn), PEER_CLOSED);
    assert_eq!(rig.handler.consumed, sent);
    assert!(rig.handler.shown(conn).iter().all(|piece| piece.len() <= 1000));
    assert_eq!(read_closed(&rig, conn).len(), 1);
}

fn by_default_the_fin_is_answered_with_a_fin(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    rig.finish(peer);
    assert_eq!(rig.until_closed(conn), PEER_CLOSED);
    rig.until("the FIN", |rig| rig.at_end(peer));
    assert!(!rig.is_reset(peer));
    assert_eq!(rig.event_loop.net().write(conn, b"stale"), Sent::Closed);
}

fn a_connection_kept_open_after_the_fin_can_still_be_written_to(kind: Kind) {
    let mut rig = keeping_open(kind);
    let (peer, conn) = rig.client();
    rig.finish(peer);
    rig.until("the FIN", |rig| !read_closed(rig, conn).is_empty());
    let mut expected = Vec::new();
    for round in 0..5 {
        let piece = vec![b'a' + round; 10_000];
        assert_eq!(rig.event_loop.net().write(conn, &piece), Sent::Queued);
        expected.extend(piece);
        rig.until("the bytes", |rig| rig.received(peer) == expected);
    }
    assert!(rig.event_loop.net().is_open(conn) && !rig.at_end(peer));
    rig.event_loop.net().close(conn);
    assert_eq!(rig.until_closed(conn), PEER_CLOSED);
    rig.until("the FIN", |rig| rig.at_end(peer));
}

fn a_half_open_connection_is_idle(kind: Kind) {
    let mut rig = keeping_open(kind);
    let (peer, conn) = rig.client();
    rig.finish(peer);
    rig.until("the FIN", |rig| !read_closed(rig, conn).is_empty());
    rig.settle();
    let events = rig.event_loop.net().stats().events;
    for _ in 0..20 {
        let turn = rig.turn();
        assert_eq!((turn.callbacks, turn.pending), (0, false));
    }
    assert_eq!(rig.event_loop.net().stats().events, events, "no event comes over and over");
    // Reading is over, whatever is asked for.
    assert!(rig.event_loop.net().pause_reading(conn));
    assert!(rig.event_loop.net().resume_reading(conn));
    rig.settle();
    assert_eq!(rig.handler.calls.len(), 2);
}

fn shutdown_in_on_read_closed_ends_the_connection_behind_its_queue(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.on_read_closed = Some(Box::new(|net, conn, rest| {
        assert_eq!(net.write(conn, rest), Sent::Queued);
        net.shutdown(conn);
    }));
    rig.handler.on_data = Some(Box::new(|_, _, _| 0));
    let (peer, conn) = rig.client();
    rig.send(peer, b"kept");
    rig.finish(peer);
    assert_eq!(rig.until_closed(conn), PEER_CLOSED);
    rig.until("the FIN", |rig| rig.at_end(peer));
    assert_eq!(rig.received(peer), b"kept");
}

fn the_fin_of_a_stuck_peer_does_not_lose_what_is_queued_for_it(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    rig.stop_reading(peer);
    let sent: Vec<u8> = (0..=250).cycle().take(700_000).collect();
    assert!(rig.event_loop.net().write(conn, &sent).is_taken());
    rig.settle();
    rig.finish(peer);
    rig.until("the FIN", |rig| !read_closed(rig, conn).is_empty());
    rig.settle();
    rig.start_reading(peer);
    assert_eq!(rig.until_closed(conn), PEER_CLOSED);
    rig.until("the FIN", |rig| rig.at_end(peer));
    assert!(rig.received(peer) == sent);
}

fn shutdown_sends_the_fin_behind_all_that_is_queued(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    rig.stop_reading(peer);
    let sent: Vec<u8> = (0..=250).cycle().take(700_000).collect();
    let net = rig.event_loop.net();
    assert!(net.write(conn, &sent).is_taken());
    net.shutdown(conn);
    assert_eq!(net.write(conn, b"too late"), Sent::Closed);
    assert!(net.is_open(conn), "reading goes on");
    rig.settle();
    assert!(!rig.at_end(peer));
    rig.start_reading(peer);
    rig.until("the FIN", |rig| rig.at_end(peer));
    assert!(rig.received(peer) == sent);
    assert_eq!(rig.event_loop.net().queued_bytes(conn), 0);
}

fn no_fin_overtakes_a_queue_that_leaves_byte_by_byte(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    let scripted = rig.scripted(peer);
    rig.world().set_window(scripted, 0);
    rig.event_loop.net().write(conn, b"abc");
    rig.event_loop.net().shutdown(conn);
    for sent in 0..3 {
        rig.settle();
        assert_eq!((rig.received(peer).len(), rig.at_end(peer)), (sent, false));
        rig.world().set_window(scripted, 1);
    }
    rig.settle();
    assert_eq!((rig.received(peer), rig.at_end(peer)), (b"abc".to_vec(), true));
}

fn after_shutdown_reading_goes_on_until_the_peers_fin(kind: Kind) {
    // Whether the handler closes in on_read_closed or says nothing.
    for silent in [true, false] {
        let mut rig = if silent { keeping_open(kind) } else { Rig::new(kind) };
        let (peer, conn) = rig.client();
        rig.event_loop.net().shutdown(conn);
        rig.until("the FIN", |rig| rig.at_end(peer));
        for word in [&b"still "[..], b"talking"] {
            rig.send(peer, word);
            rig.settle();
        }
        assert_eq!(rig.handler.consumed, b"still talking");
        rig.finish(peer);
        assert_eq!(rig.until_closed(conn), PEER_CLOSED);
        assert_eq!(read_closed(&rig, conn), [b""]);
        rig.settle();
        assert_eq!(rig.event_loop.net().stats().connections, 0);
    }
}

fn after_shutdown_the_peer_may_take_its_time(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    rig.event_loop.net().write(conn, b"question");
    rig.event_loop.net().shutdown(conn);
    rig.settle();
    rig.pass(Duration::from_secs(100_000));
    assert!(rig.event_loop.net().is_open(conn), "the linger timeout is that of close");
    rig.send(peer, b"answer");
    rig.until("the answer", |rig| rig.handler.consumed == b"answer");
}

fn shutdown_may_be_repeated_and_comes_to_nothing_when_closed(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    let net = rig.event_loop.net();
    net.shutdown(conn);
    net.shutdown(conn);
    rig.settle();
    rig.event_loop.net().shutdown(conn);
    rig.settle();
    assert!(rig.at_end(peer) && rig.event_loop.net().is_open(conn));
    assert_eq!(rig.handler.calls, [Call::Accept(conn)]);
    rig.event_loop.net().close(conn);
    rig.event_loop.net().shutdown(conn);
    rig.finish(peer);
    assert_eq!(rig.until_closed(conn), (CloseReason::LocalClose, 0));
    rig.event_loop.net().shutdown(conn);
    rig.settle();
    assert_eq!(rig.handler.calls.len(), 2);
}

fn shutdown_in_a_callback_follows_what_it_wrote(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.on_data = Some(Box::new(|net, conn, data| {
        net.write(conn, b"goodbye");
        net.shutdown(conn);
        assert_eq!(net.write(conn, b"more"), Sent::Closed);
        data.len()
    }));
    let (peer, conn) = rig.client();
    rig.send(peer, b"hello");
    rig.until("the FIN", |rig| rig.at_end(peer));
    assert_eq!(rig.received(peer), b"goodbye");
    rig.finish(peer);
    assert_eq!(rig.until_closed(conn), PEER_CLOSED);
}

fn both_fins_at_once_end_it(kind: Kind) {
    let mut rig = keeping_open(kind);
    let (peer, conn) = rig.client();
    rig.event_loop.net().shutdown(conn);
    rig.finish(peer);
    assert_eq!(rig.until_closed(conn), PEER_CLOSED);
    rig.until("the FIN", |rig| rig.at_end(peer));
    let expected = [
        Call::Accept(conn),
        Call::ReadClosed(conn, Vec::new()),
        Call::Close(conn, CloseReason::PeerClosed, 0),
    ];
    assert_eq!(rig.handler.calls, expected);
}

fn the_peers_fin_first_and_a_shutdown_later_end_it(kind: Kind) {
    let mut rig = keeping_open(kind);
    let (peer, conn) = rig.client();
    rig.finish(peer);
    rig.until("the FIN", |rig| !read_closed(rig, conn).is_empty());
    rig.settle();
    rig.event_loop.net().write(conn, b"the end");
    rig.event_loop.net().shutdown(conn);
    assert_eq!(rig.until_closed(conn), PEER_CLOSED);
    rig.until("the FIN", |rig| rig.at_end(peer));
    assert_eq!(rig.received(peer), b"the end");
    assert!(!rig.is_reset(peer));
}

fn a_close_before_the_peers_fin_is_a_local_one(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    rig.event_loop.net().shutdown(conn);
    rig.until("the FIN", |rig| rig.at_end(peer));
    rig.event_loop.net().close(conn);
    rig.settle();
    assert_eq!(rig.closed(conn), None, "it lingers");
    rig.send(peer, b"unheard");
    rig.finish(peer);
    assert_eq!(rig.until_closed(conn), (CloseReason::LocalClose, 0));
    assert_eq!(rig.handler.calls.len(), 2);
    assert!(!rig.is_reset(peer));
}

fn abort_after_shutdown_resets(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    rig.event_loop.net().shutdown(conn);
    rig.settle();
    rig.event_loop.net().abort(conn);
    assert_eq!(rig.until_closed(conn), (CloseReason::LocalAbort, 0));
    assert!(rig.is_reset(peer));
}

fn while_paused_the_fin_waits_behind_the_data(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    rig.event_loop.net().pause_reading(conn);
    rig.send(peer, b"first");
    rig.finish(peer);
    rig.settle();
    assert_eq!(rig.handler.calls, [Call::Accept(conn)]);
    assert!(!rig.turn().pending, "nobody spins meanwhile");
    rig.event_loop.net().resume_reading(conn);
    assert_eq!(rig.until_closed(conn), PEER_CLOSED);
    let expected = [
        Call::Accept(conn),
        Call::Data(conn, b"first".to_vec()),
        Call::ReadClosed(conn, Vec::new()),
        Call::Close(conn, CloseReason::PeerClosed, 0),
    ];
    assert_eq!(rig.handler.calls, expected);
}

fn kept_bytes_of_a_paused_connection_are_shown_before_its_fin(kind: Kind) {
    let mut rig = keeping_open(kind);
    let mut first = true;
    rig.handler.on_data = Some(Box::new(move |net, conn, data| {
        if std::mem::take(&mut first) {
            net.pause_reading(conn);
        }
        usize::from(data.len() > 4)
    }));
    let (peer, conn) = rig.client();
    rig.send(peer, b"kept");
    rig.until("the data", |rig| rig.handler.shown(conn).len() == 1);
    rig.send(peer, b"+new");
    rig.finish(peer);
    rig.settle();
    assert_eq!(rig.handler.calls.len(), 2, "paused");
    rig.event_loop.net().resume_reading(conn);
    rig.settle();
    let shown = rig.handler.shown(conn);
    assert_eq!(shown[1..], [&b"kept"[..], b"kept+new"], "first again, then with what followed");
    assert_eq!(read_closed(&rig, conn), [b"ept+new"]);
}

fn a_pause_in_on_data_holds_the_fin_of_the_same_event_back(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.on_data = Some(Box::new(|net, conn, data| {
        net.pause_reading(conn);
        data.len()
    }));
    let (peer, conn) = rig.client();
    rig.send(peer, b"data");
    rig.finish(peer);
    rig.until("the data", |rig| !rig.handler.consumed.is_empty());
    rig.settle();
    assert!(read_closed(&rig, conn).is_empty());
    rig.event_loop.net().resume_reading(conn);
    assert_eq!(rig.until_closed(conn), PEER_CLOSED);
}

fn data_fin_and_reset_of_one_event_come_in_this_order(kind: Kind) {
    let mut rig = keeping_open(kind);
    let (peer, conn) = rig.client();
    rig.settle();
    rig.send(peer, b"data");
    rig.finish(peer);
    rig.reset(peer);
    assert_eq!(rig.until_closed(conn), (CloseReason::Reset, 0));
    let expected = [
        Call::Accept(conn),
        Call::Data(conn, b"data".to_vec()),
        Call::ReadClosed(conn, Vec::new()),
        Call::Close(conn, CloseReason::Reset, 0),
    ];
    assert_eq!(rig.handler.calls, expected);
}

fn a_reset_behind_a_fin_that_was_answered_changes_no_reason(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    rig.settle();
    rig.finish(peer);
    rig.reset(peer);
    assert_eq!(rig.until_closed(conn), PEER_CLOSED);
}

/// A rig whose handler does nothing at the peer's FIN.
fn keeping_open(kind: Kind) -> Rig {
    let mut rig = Rig::new(kind);
    rig.handler.on_read_closed = Some(Box::new(|_, _, _| {}));
    rig
}

fn consume_lines(data: &[u8]) -> usize {
    data.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1)
}

/// The rests that were told with a FIN.
fn read_closed(rig: &Rig, conn: ConnId) -> Vec<Vec<u8>> {
    let rests = rig.handler.calls.iter().filter_map(|call| match call {
        Call::ReadClosed(id, rest) if *id == conn => Some(rest.clone()),
        _ => None,
    });
    rests.collect()
}

on_every_backend!(
    the_fin_comes_once_behind_the_data_with_what_was_never_consumed,
    a_fin_alone_has_no_rest,
    data_and_fin_of_one_event_come_in_one_turn,
    a_fin_behind_more_than_the_budget_is_found_without_another_event,
    by_default_the_fin_is_answered_with_a_fin,
    a_connection_kept_open_after_the_fin_can_still_be_written_to,
    a_half_open_connection_is_idle,
    shutdown_in_on_read_closed_ends_the_connection_behind_its_queue,
    the_fin_of_a_stuck_peer_does_not_lose_what_is_queued_for_it,
    shutdown_sends_the_fin_behind_all_that_is_queued,
    after_shutdown_reading_goes_on_until_the_peers_fin,
    shutdown_may_be_repeated_and_comes_to_nothing_when_closed,
    shutdown_in_a_callback_follows_what_it_wrote,
    both_fins_at_once_end_it,
    the_peers_fin_first_and_a_shutdown_later_end_it,
    a_close_before_the_peers_fin_is_a_local_one,
    while_paused_the_fin_waits_behind_the_data,
    kept_bytes_of_a_paused_connection_are_shown_before_its_fin,
    a_pause_in_on_data_holds_the_fin_of_the_same_event_back,
    data_fin_and_reset_of_one_event_come_in_this_order,
    a_reset_behind_a_fin_that_was_answered_changes_no_reason,
);

// A real peer that has read the FIN cannot see the reset behind it.
on_virtual_time!(abort_after_shutdown_resets, after_shutdown_the_peer_may_take_its_time,);

// A window of single bytes is not to be had from a kernel.
on_script!(no_fin_overtakes_a_queue_that_leaves_byte_by_byte,);
