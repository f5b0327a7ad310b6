//! Closing: what was written arrives before the FIN, unread input does no harm, nothing but
//! `on_close` follows, and it says what was lost (contract C5).

mod support;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use hotloop::{
    Bytes, CloseReason, Config, ConnId, ConnOptions, Limit, LimitKind, Sent, TimeoutKind,
};
use support::{Call, Kind, Peer, Rig};

const CLOSED_HERE: (CloseReason, u64) = (CloseReason::LocalClose, 0);
const LINGERED: (CloseReason, u64) = (CloseReason::Timeout(TimeoutKind::Linger), 0);
const LINGER: Duration = Duration::from_secs(5);
const STALL: Duration = Duration::from_secs(60);
const NANO: Duration = Duration::from_nanos(1);
/// More than the kernel takes from a loop whose peer does not read.
const MORE_THAN_ROOM: usize = 16 << 20;

fn a_close_sends_all_and_then_the_fin(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    let sent = noise(300_000);
    let net = rig.event_loop.net();
    net.write(conn, &sent[..1000]);
    net.write_shared(conn, Bytes::copy_from_slice(&sent[1000..]));
    net.close(conn);
    rig.until("the end", |rig| rig.at_end(peer));
    assert!(rig.received(peer) == sent, "the bytes differ");
    assert!(!rig.is_reset(peer));
    rig.finish(peer);
    assert_eq!(rig.until_closed(conn), CLOSED_HERE);
}

fn a_close_behind_a_write_in_a_callback_sends_it(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.on_data = Some(Box::new(|net, conn, data| {
        net.write(conn, b"bye");
        net.close(conn);
        data.len()
    }));
    let (peer, conn) = rig.client();
    rig.send(peer, b"go away");
    rig.until("the end", |rig| rig.at_end(peer));
    assert_eq!(rig.received(peer), b"bye");
    rig.finish(peer);
    assert_eq!(rig.until_closed(conn), CLOSED_HERE);
}

fn a_reply_survives_a_talkative_peer(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.on_accept = Some(Box::new(|net, conn| {
        net.pause_reading(conn);
    }));
    let (peer, conn) = rig.client();
    rig.stop_reading(peer);
    rig.send(peer, &noise(1 << 20));
    rig.settle();
    let reply = noise(200 << 10);
    let net = rig.event_loop.net();
    assert_eq!(net.write(conn, &reply), Sent::Pressured);
    net.close(conn);
    rig.settle();
    assert_eq!(rig.closed(conn), None, "with unread input a close would be a reset");
    rig.start_reading(peer);
    rig.until("the end", |rig| rig.at_end(peer) || rig.is_reset(peer));
    assert!(rig.received(peer) == reply, "{} of the reply", rig.received(peer).len());
    assert!(!rig.is_reset(peer));
    rig.finish(peer);
    assert_eq!(rig.until_closed(conn), CLOSED_HERE);
    let stats = rig.event_loop.net().stats();
    assert_eq!((stats.received_bytes, stats.discarded_bytes), (1 << 20, 1 << 20));
    assert!(rig.handler.shown(conn).is_empty());
}

fn a_peer_that_goes_on_talking_after_the_fin_loses_nothing(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    rig.stop_reading(peer);
    let net = rig.event_loop.net();
    net.write(conn, b"the answer");
    net.close(conn);
    for _ in 0..20 {
        rig.send(peer, &[b'?'; 10_000]);
        rig.settle();
    }
    rig.start_reading(peer);
    rig.until("the end", |rig| rig.at_end(peer) || rig.is_reset(peer));
    assert_eq!(rig.received(peer), b"the answer");
    rig.finish(peer);
    assert_eq!(rig.until_closed(conn), CLOSED_HERE);
}

fn a_closed_connection_waits_for_the_peers_fin(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    rig.event_loop.net().close(conn);
    rig.until("the FIN", |rig| rig.at_end(peer));
    rig.settle();
    assert_eq!(rig.closed(conn), None);
    assert_eq!(rig.event_loop.net().stats().connections, 1);
    rig.finish(peer);
    assert_eq!(rig.until_closed(conn), CLOSED_HERE);
    assert_eq!(rig.handler.calls, [Call::Accept(conn), closed_here(conn)]);
    let stats = rig.event_loop.net().stats();
    assert_eq!((stats.connections, stats.timers), (0, 0));
}

fn after_the_peers_fin_nothing_is_waited_for(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.on_read_closed = Some(Box::new(|net, conn, _| {
        net.write(conn, b"you too");
    }));
    let (peer, conn) = rig.client();
    rig.finish(peer);
    rig.until("the answer", |rig| rig.received(peer) == b"you too");
    rig.settle();
    rig.event_loop.net().close(conn);
    rig.turn();
    // In the completion dialect the socket's own end takes a turn more.
    rig.turn();
    assert_eq!(rig.closed(conn), Some((CloseReason::PeerClosed, 0)));
    rig.until("the FIN", |rig| rig.at_end(peer));
    assert!(!rig.is_reset(peer));
}

fn a_peer_that_never_closes_is_given_up_exactly_after_the_linger_timeout(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    rig.settle();
    rig.pass(Duration::from_secs(100));
    rig.event_loop.net().close(conn);
    rig.settle();
    rig.pass(LINGER / 2);
    rig.send(peer, b"still talking");
    rig.settle();
    rig.pass(LINGER / 2 - NANO);
    assert_eq!(rig.closed(conn), None);
    rig.pass(NANO);
    assert_eq!(rig.until_closed(conn), LINGERED);
}

fn the_linger_counts_from_the_fin(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    rig.stop_reading(peer);
    let net = rig.event_loop.net();
    net.write(conn, b"slow");
    net.close(conn);
    rig.settle();
    rig.pass(2 * LINGER);
    assert_eq!(rig.closed(conn), None, "there is still something to send");
    rig.start_reading(peer);
    rig.until("the FIN", |rig| rig.at_end(peer));
    rig.settle();
    rig.pass(LINGER - NANO);
    assert_eq!(rig.closed(conn), None);
    rig.pass(NANO);
    assert_eq!(rig.until_closed(conn), LINGERED);
}

fn the_linger_of_a_close_behind_a_shutdown_counts_from_the_close(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    rig.event_loop.net().shutdown(conn);
    rig.settle();
    assert!(rig.at_end(peer));
    rig.pass(10 * LINGER);
    assert_eq!(rig.closed(conn), None, "half-closed is not closed");
    rig.event_loop.net().close(conn);
    rig.settle();
    rig.pass(LINGER - NANO);
    assert_eq!(rig.closed(conn), None);
    rig.pass(NANO);
    assert_eq!(rig.until_closed(conn), LINGERED);
}

fn a_peer_that_never_closes_is_given_up_by_the_clock_too(kind: Kind) {
    let linger = Duration::from_millis(3);
    let mut rig = configured(kind, ConnOptions::default().linger_timeout(linger));
    let (_, conn) = rig.client();
    rig.event_loop.net().close(conn);
    rig.pass(Duration::ZERO);
    rig.pass(linger);
    assert_eq!(rig.until_closed(conn), LINGERED);
}

fn a_peer_that_sends_too_much_after_the_fin_is_given_up(kind: Kind) {
    let mut rig = configured(kind, ConnOptions::default().linger_bytes(1000));
    let (peer, conn) = rig.client();
    rig.event_loop.net().close(conn);
    rig.until("the FIN", |rig| rig.at_end(peer));
    rig.send(peer, &[0; 1000]);
    rig.until("what is discarded", |rig| rig.event_loop.net().stats().discarded_bytes == 1000);
    rig.settle();
    assert_eq!(rig.closed(conn), None);
    rig.send(peer, b"+");
    assert_eq!(rig.until_closed(conn), (CloseReason::Limit(LimitKind::Linger), 0));
}

fn input_before_the_fin_does_not_count_as_linger(kind: Kind) {
    let mut rig = configured(kind, ConnOptions::default().linger_bytes(10));
    let (peer, conn) = rig.client();
    rig.stop_reading(peer);
    let net = rig.event_loop.net();
    net.write(conn, b"unsent");
    net.close(conn);
    rig.settle();
    rig.send(peer, &[0; 5000]);
    rig.settle();
    rig.start_reading(peer);
    rig.until("the FIN", |rig| rig.at_end(peer));
    rig.send(peer, &[0; 10]);
    rig.finish(peer);
    assert_eq!(rig.until_closed(conn), CLOSED_HERE);
}

fn unlimited_lingering_waits_for_ever(kind: Kind) {
    let options = ConnOptions::default()
        .linger_timeout(Limit::Unlimited)
        .linger_bytes(Limit::Unlimited)
        .write_stall_timeout(Limit::Unlimited);
    let mut rig = configured(kind, options);
    let (peer, conn) = rig.client();
    rig.event_loop.net().close(conn);
    rig.settle();
    rig.pass(Duration::from_secs(1 << 30));
    for _ in 0..30 {
        rig.send(peer, &[0; 100_000]);
        rig.settle();
    }
    assert_eq!(rig.closed(conn), None);
    rig.finish(peer);
    assert_eq!(rig.until_closed(conn), CLOSED_HERE);
}

fn the_second_close_changes_nothing(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    let net = rig.event_loop.net();
    net.write(conn, b"once");
    net.close(conn);
    net.close(conn);
    net.shutdown(conn);
    rig.until("the end", |rig| rig.at_end(peer));
    rig.event_loop.net().close(conn);
    rig.settle();
    rig.event_loop.net().shutdown(conn);
    rig.finish(peer);
    assert_eq!(rig.until_closed(conn), CLOSED_HERE);
    rig.event_loop.net().close(conn);
    rig.event_loop.net().abort(conn);
    rig.settle();
    assert_eq!(rig.handler.calls, [Call::Accept(conn), closed_here(conn)]);
    assert_eq!(rig.received(peer), b"once");
}

fn an_abort_overrides_a_close_and_drops_the_rest(kind: Kind) {
    let mut rig = configured(kind, ConnOptions::default().hard_limit_bytes(Limit::Unlimited));
    let (peer, conn) = rig.client();
    rig.stop_reading(peer);
    let net = rig.event_loop.net();
    net.write(conn, &vec![1; MORE_THAN_ROOM]);
    net.close(conn);
    rig.settle();
    let sent = rig.event_loop.net().conn_stats(conn).expect("it is closing").sent_bytes;
    rig.event_loop.net().abort(conn);
    let rest = MORE_THAN_ROOM as u64 - sent;
    assert!(rest > 0);
    assert_eq!(rig.until_closed(conn), (CloseReason::LocalAbort, rest));
    rig.start_reading(peer);
    rig.until("the reset", |rig| rig.is_reset(peer));
}

fn an_abort_overrides_a_linger(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    rig.event_loop.net().close(conn);
    rig.until("the FIN", |rig| rig.at_end(peer));
    rig.settle();
    rig.event_loop.net().abort(conn);
    assert_eq!(rig.until_closed(conn), (CloseReason::LocalAbort, 0));
}

fn an_abort_is_not_softened_by_a_close(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    let net = rig.event_loop.net();
    net.write(conn, b"never sent");
    net.abort(conn);
    net.close(conn);
    net.shutdown(conn);
    assert_eq!(rig.until_closed(conn), (CloseReason::LocalAbort, 10));
    rig.until("the reset", |rig| rig.is_reset(peer));
    assert_eq!(rig.received(peer), b"");
}

fn an_end_that_is_decided_stays_what_it_is(kind: Kind) {
    let mut rig = configured(kind, ConnOptions::default().hard_limit_bytes(100_000));
    let (_, aborted) = rig.client();
    let (_, flooded) = rig.client();
    let net = rig.event_loop.net();
    for conn in [aborted, flooded] {
        assert!(net.write(conn, b"never sent").is_taken());
    }
    net.abort(aborted);
    assert_eq!(net.write(flooded, &[1; 100_000]), Sent::Refused);
    for conn in [aborted, flooded] {
        net.abort(conn);
        net.close(conn);
    }
    assert_eq!(rig.until_closed(aborted), (CloseReason::LocalAbort, 10));
    assert_eq!(rig.until_closed(flooded), (CloseReason::Limit(LimitKind::Outbound), 10));
}

fn a_close_behind_a_shutdown_is_a_close(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    let net = rig.event_loop.net();
    net.write(conn, b"last words");
    net.shutdown(conn);
    rig.until("the end", |rig| rig.at_end(peer));
    rig.send(peer, b"heard");
    rig.until("what is still read", |rig| rig.handler.consumed == b"heard");
    rig.event_loop.net().close(conn);
    rig.send(peer, b"not heard");
    rig.finish(peer);
    assert_eq!(rig.until_closed(conn), CLOSED_HERE);
    assert_eq!(rig.handler.consumed, b"heard");
    assert_eq!(rig.received(peer), b"last words");
}

fn after_a_close_every_call_says_so(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    let net = rig.event_loop.net();
    net.write(conn, b"taken");
    net.close(conn);
    assert_eq!(net.write(conn, b"late"), Sent::Closed);
    assert_eq!(net.write_shared(conn, Bytes::from_static(b"late")), Sent::Closed);
    assert_eq!(net.write(conn, b""), Sent::Closed);
    assert!(!net.is_open(conn));
    assert!(!net.pause_reading(conn) && !net.resume_reading(conn));
    assert!(!net.set_idle_timeout(conn, LINGER));
    assert_eq!(net.start_conn_timer(conn, LINGER, 0), None);
    assert!(net.flush(conn), "what was taken before can still be flushed");
    rig.until("the end", |rig| rig.at_end(peer));
    assert_eq!(rig.received(peer), b"taken");
}

fn input_behind_a_close_in_on_data_is_not_shown(kind: Kind) {
    let mut rig = Rig::with(kind, Config::default().recv_buffer_bytes(512));
    rig.handler.on_data = Some(Box::new(|net, conn, data| {
        net.close(conn);
        data.len()
    }));
    let (peer, conn) = rig.client();
    rig.send(peer, &[7; 2_000]);
    rig.until("data", |rig| !rig.handler.shown(conn).is_empty());
    rig.finish(peer);
    rig.until_closed(conn);
    assert_eq!(rig.handler.shown(conn).len(), 1);
}

fn nothing_but_on_close_follows_a_close(kind: Kind) {
    let mut rig = configured(kind, ConnOptions::default().high_water_bytes(20_000));
    rig.handler.on_data = Some(Box::new(|net, conn, _| {
        net.start_conn_timer(conn, Duration::ZERO, 7);
        assert_eq!(net.write(conn, &[1; 50_000]), Sent::Pressured);
        net.close(conn);
        0
    }));
    let (peer, conn) = rig.client();
    rig.send(peer, b"first");
    rig.until("the end", |rig| rig.at_end(peer));
    rig.send(peer, b"second");
    rig.settle();
    rig.finish(peer);
    assert_eq!(rig.until_closed(conn), CLOSED_HERE);
    rig.settle();
    let expected = [Call::Accept(conn), Call::Data(conn, b"first".to_vec()), closed_here(conn)];
    assert_eq!(rig.handler.calls, expected);
    assert_eq!(rig.event_loop.net().stats().discarded_bytes, 11);
}

fn a_close_releases_the_timers_of_its_connection(kind: Kind) {
    for abort in [false, true] {
        let mut rig = Rig::new(kind);
        let (peer, conn) = rig.client();
        let net = rig.event_loop.net();
        let own: Vec<_> = (0..5)
            .map(|token| net.start_conn_timer(conn, Duration::ZERO, token).expect("it is open"))
            .collect();
        let free = net.start_timer(Duration::ZERO, 9);
        if abort {
            net.abort(conn);
        } else {
            net.close(conn);
        }
        assert!(own.iter().all(|timer| net.timer_deadline(*timer).is_none()));
        assert_eq!(net.stats().timers, 1);
        rig.until("the loop's timer", |rig| rig.handler.calls.contains(&Call::Timer(free, 9)));
        rig.settle();
        if !abort {
            rig.finish(peer);
        }
        rig.until_closed(conn);
        rig.settle();
        assert_eq!(rig.handler.count(|call| matches!(call, Call::Timer(..))), 1);
        assert_eq!(rig.event_loop.net().stats().timers, 0);
    }
}

fn a_connection_lingers_once_all_is_sent_until_it_ends(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    rig.stop_reading(peer);
    let net = rig.event_loop.net();
    assert!(!net.is_lingering(conn), "it is open");
    net.write(conn, &noise(1000));
    net.shutdown(conn);
    rig.settle();
    assert!(!rig.event_loop.net().is_lingering(conn), "a shutdown is no close");
    rig.event_loop.net().close(conn);
    rig.start_reading(peer);
    rig.until("the FIN", |rig| rig.at_end(peer));
    assert!(rig.event_loop.net().is_lingering(conn));
    rig.finish(peer);
    rig.until_closed(conn);
    assert!(!rig.event_loop.net().is_lingering(conn), "it is gone");
}

fn a_connection_with_a_queue_does_not_linger_yet(kind: Kind) {
    let mut rig = configured(kind, ConnOptions::default().hard_limit_bytes(Limit::Unlimited));
    let (peer, conn) = rig.client();
    rig.stop_reading(peer);
    let net = rig.event_loop.net();
    net.write(conn, &noise(MORE_THAN_ROOM));
    net.close(conn);
    rig.settle();
    assert!(!rig.event_loop.net().is_lingering(conn));
    rig.start_reading(peer);
    rig.until("the FIN", |rig| rig.at_end(peer));
    assert!(rig.event_loop.net().is_lingering(conn));
    assert_eq!(rig.received(peer).len(), MORE_THAN_ROOM);
}

fn a_peer_that_never_reads_is_given_up_for_the_stall(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    rig.world().set_window(rig.scripted(peer), 300);
    let net = rig.event_loop.net();
    net.write(conn, &[1; 1000]);
    net.close(conn);
    rig.settle();
    rig.pass(STALL - NANO);
    assert_eq!(rig.closed(conn), None);
    rig.pass(NANO);
    let stalled = CloseReason::Timeout(TimeoutKind::WriteStall);
    assert_eq!(rig.until_closed(conn), (stalled, 700));
    assert_eq!(rig.received(peer).len(), 300);
    assert!(rig.is_reset(peer));
}

fn a_reset_that_loses_queued_bytes_is_the_reason(kind: Kind) {
    let mut rig = configured(kind, ConnOptions::default().hard_limit_bytes(Limit::Unlimited));
    let (peer, conn) = rig.client();
    rig.stop_reading(peer);
    let net = rig.event_loop.net();
    net.write(conn, &vec![1; MORE_THAN_ROOM]);
    net.close(conn);
    rig.settle();
    rig.reset(peer);
    let (reason, dropped) = rig.until_closed(conn);
    assert_eq!(reason, CloseReason::Reset);
    assert!(dropped > 0);
}

fn a_reset_that_loses_nothing_leaves_the_first_reason(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    let net = rig.event_loop.net();
    net.write(conn, b"all of it");
    net.close(conn);
    rig.until("the end", |rig| rig.at_end(peer));
    assert_eq!(rig.received(peer), b"all of it");
    rig.reset(peer);
    assert_eq!(rig.until_closed(conn), CLOSED_HERE);
}

fn a_close_within_on_close_is_harmless(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.on_close = Some(Box::new(|net, conn, _| {
        net.close(conn);
        net.abort(conn);
        net.shutdown(conn);
        net.flush(conn);
    }));
    let (_, aborted) = rig.client();
    let (peer, closed) = rig.client();
    rig.event_loop.net().abort(aborted);
    rig.event_loop.net().close(closed);
    rig.finish(peer);
    assert_eq!(rig.until_closed(aborted), (CloseReason::LocalAbort, 0));
    assert_eq!(rig.until_closed(closed), CLOSED_HERE);
    rig.settle();
    assert_eq!(rig.handler.count(|call| matches!(call, Call::Close(..))), 2);
    assert_eq!(rig.event_loop.net().stats().connections, 0);
}

fn a_paused_connection_is_closed_as_any_other(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    rig.event_loop.net().pause_reading(conn);
    rig.send(peer, b"never shown");
    rig.settle();
    rig.event_loop.net().close(conn);
    rig.until("the FIN", |rig| rig.at_end(peer));
    rig.finish(peer);
    assert_eq!(rig.until_closed(conn), CLOSED_HERE);
    assert!(!rig.is_reset(peer));
    assert!(rig.handler.shown(conn).is_empty());
    assert_eq!(rig.event_loop.net().stats().discarded_bytes, 11);
}

fn many_closes_in_one_turn_end_one_by_one(kind: Kind) {
    let mut rig = Rig::new(kind);
    let clients: Vec<(Peer, ConnId)> = (0..50).map(|_| rig.client()).collect();
    let ends = Rc::new(RefCell::new(Vec::new()));
    rig.handler.on_close = Some(Box::new({
        let ends = Rc::clone(&ends);
        move |_, conn, reason| ends.borrow_mut().push((conn, reason))
    }));
    for (number, (_, conn)) in clients.iter().enumerate() {
        let net = rig.event_loop.net();
        net.write(*conn, format!("number {number}").as_bytes());
        net.close(*conn);
    }
    for (number, (peer, conn)) in clients.iter().enumerate() {
        rig.until("the end", |rig| rig.at_end(*peer));
        assert_eq!(rig.received(*peer), format!("number {number}").into_bytes());
        rig.finish(*peer);
        assert_eq!(rig.until_closed(*conn), CLOSED_HERE);
        assert_eq!(ends.borrow().len(), number + 1);
    }
}

on_every_backend!(
    a_close_sends_all_and_then_the_fin,
    a_close_behind_a_write_in_a_callback_sends_it,
    a_reply_survives_a_talkative_peer,
    a_peer_that_goes_on_talking_after_the_fin_loses_nothing,
    a_closed_connection_waits_for_the_peers_fin,
    after_the_peers_fin_nothing_is_waited_for,
    a_peer_that_never_closes_is_given_up_by_the_clock_too,
    a_peer_that_sends_too_much_after_the_fin_is_given_up,
    the_second_close_changes_nothing,
    an_abort_overrides_a_close_and_drops_the_rest,
    an_abort_overrides_a_linger,
    a_connection_lingers_once_all_is_sent_until_it_ends,
    a_connection_with_a_queue_does_not_linger_yet,
    an_abort_is_not_softened_by_a_close,
    an_end_that_is_decided_stays_what_it_is,
    a_close_behind_a_shutdown_is_a_close,
    after_a_close_every_call_says_so,
    input_behind_a_close_in_on_data_is_not_shown,
    nothing_but_on_close_follows_a_close,
    a_close_releases_the_timers_of_its_connection,
    a_reset_that_loses_queued_bytes_is_the_reason,
    a_reset_that_loses_nothing_leaves_the_first_reason,
    a_close_within_on_close_is_harmless,
    a_paused_connection_is_closed_as_any_other,
    many_closes_in_one_turn_end_one_by_one,
);
// Exact times, and a window of so many bytes, are not to be had from a kernel.
on_virtual_time!(
    a_peer_that_never_closes_is_given_up_exactly_after_the_linger_timeout,
    the_linger_of_a_close_behind_a_shutdown_counts_from_the_close,
    unlimited_lingering_waits_for_ever,
);

// The scripted peer takes not one byte more, or exactly so many; a kernel has buffers.
on_script!(
    input_before_the_fin_does_not_count_as_linger,
    the_linger_counts_from_the_fin,
    a_peer_that_never_reads_is_given_up_for_the_stall,
);

// Only the completion dialect closes sockets and sends by events.
#[test]
fn the_slot_waits_for_the_end_of_its_socket() {
    let mut rig = Rig::new(Kind::ScriptCompletion);
    let (_, conn) = rig.client();
    let listener_and_conn = rig.open_sockets();
    rig.event_loop.net().abort(conn);
    rig.turn();
    assert_eq!(rig.closed(conn), None);
    assert_eq!(rig.open_sockets(), listener_and_conn);
    let net = rig.event_loop.net();
    assert!(net.peer_addr(conn).is_some() && net.stats().connections == 1);
    rig.turn();
    assert_eq!(rig.closed(conn), Some((CloseReason::LocalAbort, 0)));
    assert_eq!(rig.open_sockets(), listener_and_conn - 1);
    assert_eq!(rig.event_loop.net().peer_addr(conn), None);
}

#[test]
fn the_fin_waits_for_the_send_in_flight() {
    let mut rig = Rig::new(Kind::ScriptCompletion);
    let (peer, conn) = rig.client();
    rig.stop_reading(peer);
    rig.event_loop.net().write(conn, b"in flight");
    rig.settle();
    rig.event_loop.net().close(conn);
    rig.settle();
    assert!(!rig.at_end(peer));
    rig.start_reading(peer);
    rig.settle();
    assert!(rig.at_end(peer));
    assert_eq!(rig.received(peer), b"in flight");
}

fn configured(kind: Kind, options: ConnOptions) -> Rig {
    Rig::with(kind, Config::default().conn(options))
}

fn closed_here(conn: ConnId) -> Call {
    Call::Close(conn, CLOSED_HERE.0, CLOSED_HERE.1)
}

/// Bytes in which a piece that is lost, repeated or out of place shows.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..len).map(|_| next()).collect()
}
