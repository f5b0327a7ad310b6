//! One test for each mistake of the core that was found by more than the test written for its
//! feature: by reviews, by the model test, by fuzzing, by servers under simulation. Named by what
//! holds.

mod support;

use std::time::Duration;

use hotloop::script::Dialect;
use hotloop::{
    Bytes, CloseReason, Config, ConnOptions, Errno, Limit, ListenerError, LoopStats, Missed, Sent,
    TimeoutKind, script,
};
use support::{Call, Kind, Rig, errno};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Lets time pass while the loop is not run.
fn be_late(rig: &mut Rig, duration: Duration) {
    if rig.kind.is_virtual() {
        rig.advance(duration);
    } else {
        std::thread::sleep(duration);
    }
}

fn bytes_that_came_in_time_count_though_the_loop_is_late(kind: Kind) {
    let conn = ConnOptions::default().idle_timeout(50 * MS);
    let mut rig = Rig::with(kind, Config::default().conn(conn));
    let (peer, id) = rig.client();
    rig.send(peer, b"in time");
    be_late(&mut rig, 60 * MS);
    rig.turn();
    assert_eq!((rig.closed(id), rig.handler.consumed.as_slice()), (None, &b"in time"[..]));
}

fn a_connect_that_was_done_in_time_counts_though_the_loop_is_late(kind: Kind) {
    let conn = ConnOptions::default().connect_timeout(50 * MS);
    let mut rig = Rig::with(kind, Config::default().conn(conn));
    let addr = rig.server();
    let id = rig.event_loop.net().connect(addr).expect("there are slots");
    be_late(&mut rig, 60 * MS);
    rig.turn();
    assert_eq!((rig.closed(id), rig.handler.connected.as_slice()), (None, &[id][..]));
}

#[track_caller]
fn assert_accounted(stats: LoopStats) {
    let accounted = stats.sent_bytes + stats.queued_bytes + stats.dropped_bytes;
    assert_eq!(stats.accepted_bytes, accounted, "C8: {stats:?}");
}

fn the_totals_hold_between_an_end_and_its_on_close(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    rig.stop_reading(peer);
    rig.event_loop.net().write(conn, &[1; 1000]);
    rig.event_loop.net().flush(conn);
    rig.event_loop.net().write(conn, &[1; 1000]);
    rig.event_loop.net().abort(conn);
    assert_accounted(rig.event_loop.net().stats());
    rig.handler.on_close = Some(Box::new(|net, _, _| assert_accounted(net.stats())));
    rig.until_closed(conn);
    assert_accounted(rig.event_loop.net().stats());
}

fn a_shutdown_that_meets_a_reset_tells_the_reset(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    rig.reset(peer);
    rig.event_loop.net().shutdown(conn);
    rig.event_loop.net().flush(conn);
    assert_eq!(rig.until_closed(conn).0, CloseReason::Reset);
}

fn a_stop_outlives_close_all(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.client();
    rig.handler.on_close = Some(Box::new(|net, _, _| net.stop()));
    rig.event_loop.close_all(&mut rig.handler, Duration::ZERO).expect("the loop runs");
    assert!(rig.turn().stopped);
    assert!(!rig.turn().stopped, "once");
}

fn a_zero_timer_of_on_turn_start_means_the_next_turn(kind: Kind) {
    let mut rig = Rig::new(kind);
    let mut first = true;
    rig.handler.on_turn_start = Some(Box::new(move |net| {
        if std::mem::take(&mut first) {
            net.start_timer(Duration::ZERO, 7);
        }
    }));
    let fired = |rig: &Rig| rig.handler.count(|call| matches!(call, Call::Timer(_, 7)));
    rig.turn();
    assert_eq!(fired(&rig), 0);
    rig.turn();
    assert_eq!(fired(&rig), 1);
}

fn an_accept_error_that_stays_pauses_the_listener(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.fail_accepts(&[errno::EPERM; 5_000]);
    for _ in 0..50 {
        rig.turn();
    }
    assert_eq!(rig.calls().accepts, 64, "and then no more");
    let told = Call::ListenerError(rig.listener, ListenerError::Paused(Errno(errno::EPERM)));
    assert_eq!(rig.handler.calls, [told]);
    rig.pass(10 * MS);
    assert_eq!(rig.calls().accepts, 128);
    assert_eq!(rig.handler.calls.len(), 1, "told once");
}

fn a_stall_during_a_shutdown_keeps_the_reason(kind: Kind) {
    let conn = ConnOptions::default().write_stall_timeout(SECOND);
    let mut rig = Rig::with(kind, Config::default().conn(conn));
    let (peer, conn) = rig.client();
    rig.stop_reading(peer);
    rig.event_loop.net().write(conn, &[1; 1000]);
    rig.turn();
    rig.event_loop.close_all(&mut rig.handler, 10 * SECOND).expect("the loop runs");
    assert_eq!(rig.closed(conn), Some((CloseReason::Shutdown, 1000)));
}

/// Found by the model test: it said that the peer had closed, of a queue that was lost.
fn a_stall_behind_a_close_after_the_peers_fin_is_the_reason(kind: Kind) {
    let conn = ConnOptions::default().write_stall_timeout(SECOND);
    let mut rig = Rig::with(kind, Config::default().conn(conn));
    let (peer, conn) = rig.client();
    rig.stop_reading(peer);
    rig.event_loop.net().write(conn, &[1; 1000]);
    rig.finish(peer);
    rig.settle();
    assert_eq!(rig.closed(conn), None, "the default answer to the FIN waits for the queue");
    rig.advance(SECOND);
    rig.settle();
    assert_eq!(rig.closed(conn), Some((CloseReason::Timeout(TimeoutKind::WriteStall), 1000)));
}

/// Found by the echo example under simulation: its client took a part for the whole.
fn an_end_that_loses_queued_bytes_is_no_orderly_one_for_the_peer(kind: Kind) {
    let conn = ConnOptions::default().idle_timeout(SECOND);
    let mut rig = Rig::with(kind, Config::default().conn(conn));
    let (peer, conn) = rig.client();
    rig.stop_reading(peer);
    rig.event_loop.net().write(conn, &[1; 1000]);
    rig.settle();
    rig.advance(SECOND);
    rig.settle();
    assert_eq!(rig.closed(conn), Some((CloseReason::Timeout(TimeoutKind::Idle), 1000)));
    assert!(rig.is_reset(peer) && !rig.at_end(peer));
}

/// As above: the system reports an error, and the socket itself could go on.
fn a_send_that_fails_for_want_of_memory_is_no_orderly_end_for_the_peer(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    let scripted = rig.scripted(peer);
    rig.world().fail_send(scripted, errno::ENOBUFS);
    rig.event_loop.net().write(conn, b"lost");
    rig.settle();
    assert_eq!(rig.closed(conn), Some((CloseReason::Io(Errno(errno::ENOBUFS)), 4)));
    assert!(rig.is_reset(peer) && !rig.at_end(peer));
}

fn the_write_stall_counts_from_the_connect(kind: Kind) {
    let conn = ConnOptions::default().write_stall_timeout(SECOND);
    let mut rig = Rig::with(kind, Config::default().conn(conn));
    let addr = rig.server();
    let conn = rig.event_loop.net().connect(addr).expect("there are slots");
    rig.event_loop.net().write(conn, b"patience");
    rig.event_loop.net().flush(conn);
    rig.advance(2 * SECOND);
    rig.settle();
    assert_eq!((rig.closed(conn), rig.handler.connected.as_slice()), (None, &[conn][..]));
    let peer = rig.server_peer(addr).expect("it has been connected to");
    assert_eq!(rig.received(peer), b"patience");
}

fn a_large_refused_write_holds_up_no_small_one(kind: Kind) {
    let conn = ConnOptions::default().hard_limit_bytes(Limit::Unlimited);
    let mut rig = Rig::with(kind, Config::default().global_buffer_bytes(120_000).conn(conn));
    let (keeper, _) = rig.client();
    let (full_peer, full) = rig.client();
    let ((_, large), (_, small)) = (rig.client(), rig.client());
    rig.handler.on_data = Some(Box::new(|_, _, _| 0));
    rig.send(keeper, b"half a message");
    rig.settle();
    rig.stop_reading(full_peer);
    let mut write = |conn, len| rig.event_loop.net().write_shared(conn, Bytes::from(vec![1; len]));
    assert!(write(full, 95_000).is_taken());
    assert_eq!((write(large, 104_000), write(small, 9_000)), (Sent::Refused, Sent::Refused));
    rig.start_reading(full_peer);
    rig.settle();
    assert_eq!((rig.handler.writables(small), rig.handler.writables(large)), (1, 0));
}

fn peers_that_do_not_read_leave_room_for_the_input_of_others(kind: Kind) {
    let mut rig = Rig::with(kind, Config::default().global_buffer_bytes(100_000));
    let (deaf, full) = rig.client();
    let (talker, innocent) = rig.client();
    rig.stop_reading(deaf);
    rig.handler.on_data = Some(Box::new(|_, _, _| 0));
    while rig.event_loop.net().write_shared(full, Bytes::from(vec![1; 500])).is_taken() {}
    rig.settle();
    rig.send(talker, b"half a message");
    rig.settle();
    assert!(rig.event_loop.net().is_open(innocent), "{:?}", rig.handler.calls);
}

/// Through the unspecified address the kernel dials its own (`ip(7)`).
#[test]
fn a_self_connect_through_the_unspecified_address_is_refused() {
    for dialect in [Dialect::Readiness, Dialect::Completion] {
        let (mut event_loop, world) = script::open(Config::default(), dialect).expect("a loop");
        world.self_connect("127.0.0.1:4000".parse().expect("an address"));
        world.listen("0.0.0.0:4000".parse().expect("an address"));
        let mut handler = hotloop::Checked::<support::Recorder>::default();
        let conn = event_loop.net().connect("0.0.0.0:4000").expect("there are slots");
        for _ in 0..4 {
            event_loop.turn(&mut handler, Duration::ZERO).expect("the loop runs");
        }
        let refused = CloseReason::ConnectFailed(Errno(errno::ECONNREFUSED));
        assert_eq!(handler.calls, [Call::Close(conn, refused, 0)]);
    }
}

/// Found by a review: the reset could destroy what was on its way to the peer.
fn a_receive_that_fails_behind_the_own_fin_takes_nothing_from_the_peer(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    rig.event_loop.net().write(conn, b"that was all");
    rig.event_loop.net().shutdown(conn);
    rig.settle();
    let scripted = rig.scripted(peer);
    rig.world().fail_recv(scripted, errno::EHOSTUNREACH);
    rig.settle();
    assert_eq!(rig.closed(conn), Some((CloseReason::Io(Errno(errno::EHOSTUNREACH)), 0)));
    assert!(rig.at_end(peer) && !rig.is_reset(peer));
    assert_eq!(rig.received(peer), b"that was all");
}

/// Found by the model test: a pooled buffer that costs more than its bytes passed the limit.
fn an_adopted_connection_that_fits_the_buffers_is_not_closed_for_them(kind: Kind) {
    let mut rig = Rig::with(kind, Config::default().global_buffer_bytes(4000));
    let (_, conn) = rig.client();
    let detached = rig.release(conn).with_unread(b"no page, but three words");
    let again = rig.event_loop.net().adopt(detached).expect("there is room for its bytes");
    rig.until("its bytes", |rig| rig.handler.consumed == b"no page, but three words");
    assert!(rig.event_loop.net().is_open(again), "{:?}", rig.handler.calls);
}

/// Found by fuzzing: the first time it was due at once.
fn a_period_of_zero_counts_as_a_nanosecond(kind: Kind) {
    let mut rig = Rig::new(kind);
    let net = rig.event_loop.net();
    let timer = net.start_repeating(Duration::ZERO, Missed::Burst, 1);
    let (now, due) = (net.now(), net.timer_deadline(timer).expect("it is live"));
    assert_eq!(due.since(now), Duration::from_nanos(1));
}

on_every_backend!(
    a_period_of_zero_counts_as_a_nanosecond,
    bytes_that_came_in_time_count_though_the_loop_is_late,
    a_connect_that_was_done_in_time_counts_though_the_loop_is_late,
    the_totals_hold_between_an_end_and_its_on_close,
    a_shutdown_that_meets_a_reset_tells_the_reset,
    a_stop_outlives_close_all,
    a_zero_timer_of_on_turn_start_means_the_next_turn,
    an_adopted_connection_that_fits_the_buffers_is_not_closed_for_them,
);

// The scripted peer takes not one byte more, or exactly so many; a kernel has buffers.
on_script!(
    a_stall_during_a_shutdown_keeps_the_reason,
    a_stall_behind_a_close_after_the_peers_fin_is_the_reason,
    an_end_that_loses_queued_bytes_is_no_orderly_one_for_the_peer,
    a_send_that_fails_for_want_of_memory_is_no_orderly_end_for_the_peer,
    a_receive_that_fails_behind_the_own_fin_takes_nothing_from_the_peer,
);

on_virtual_time!(
    the_write_stall_counts_from_the_connect,
    a_large_refused_write_holds_up_no_small_one,
    peers_that_do_not_read_leave_room_for_the_input_of_others,
    an_accept_error_that_stays_pauses_the_listener,
);
