//! Limits: of one queue, of all queues together, and of how long nothing may happen.

mod support;

use std::time::Duration;

use hotloop::{
    Bytes, CloseReason, Config, ConnId, ConnOptions, Limit, LimitKind, Sent, SlowConsumer,
    TimeoutKind,
};
use support::{Call, Kind, Peer, Rig};

const OVERHEAD: usize = 128;
const LOW: usize = 1000;
const HIGH: usize = 2000;
const HARD: usize = 4000;
/// What all queues together may cost.
/// What writes may use of the loop's buffers; an eighth more is for input.
const GLOBAL: usize = 100_000;
const OVER: (CloseReason, u64) =
    (CloseReason::Limit(LimitKind::Outbound), (HARD - OVERHEAD) as u64);
const STALL: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(30);
const NANO: Duration = Duration::from_nanos(1);

fn a_queue_is_filled_to_its_hard_limit_and_not_one_byte_further(kind: Kind) {
    let mut rig = limited(kind, SlowConsumer::Refuse);
    let (peer, conn) = rig.client();
    let net = rig.event_loop.net();
    assert!(net.write(conn, &[1; HARD - OVERHEAD]).is_taken());
    assert_eq!(net.queued_cost(conn), HARD);
    assert_eq!(net.write(conn, b"+"), Sent::Refused);
    assert_eq!(net.write_shared(conn, Bytes::from_static(b"+")), Sent::Refused);
    assert_eq!(net.write(conn, b""), Sent::Pressured, "nothing always fits");
    assert_eq!((net.queued_cost(conn), net.queued_bytes(conn)), (HARD, HARD - OVERHEAD));
    let stats = net.stats();
    assert_eq!((stats.refused_writes, stats.accepted_bytes), (2, (HARD - OVERHEAD) as u64));
    rig.until("what was taken", |rig| rig.received(peer).len() == HARD - OVERHEAD);
    rig.settle();
    assert_eq!(rig.received(peer), [1; HARD - OVERHEAD], "nothing of what was refused");
}

fn a_refused_write_takes_nothing_of_itself(kind: Kind) {
    let mut rig = limited(kind, SlowConsumer::Refuse);
    let (peer, conn) = rig.client();
    let net = rig.event_loop.net();
    net.write(conn, b"first ");
    // Most of it would fit into the room of the chunk.
    assert_eq!(net.write(conn, &[b'x'; HARD - OVERHEAD]), Sent::Refused);
    assert_eq!(net.queued_bytes(conn), 6);
    assert_eq!(net.write(conn, b"second"), Sent::Queued);
    rig.until("both", |rig| rig.received(peer) == b"first second");
}

fn a_slow_consumer_is_closed_and_told_by_a_reset(kind: Kind) {
    let mut rig = limited(kind, SlowConsumer::Close);
    let (peer, conn) = rig.client();
    let net = rig.event_loop.net();
    assert!(net.write(conn, &[1; HARD - OVERHEAD]).is_taken());
    assert_eq!(net.write(conn, b"+"), Sent::Refused);
    assert_eq!(net.write(conn, b"+"), Sent::Closed);
    assert_eq!(rig.until_closed(conn), OVER);
    rig.until("the reset", |rig| rig.is_reset(peer));
    rig.settle();
    assert_eq!(rig.handler.calls, [Call::Accept(conn), Call::Close(conn, OVER.0, OVER.1)]);
    assert_eq!(rig.event_loop.net().stats().dropped_bytes, OVER.1);
}

fn a_slow_consumer_in_a_callback_is_closed_behind_it(kind: Kind) {
    let mut rig = limited(kind, SlowConsumer::Close);
    let (peer, conn) = rig.client();
    rig.handler.on_data = Some(Box::new(|net, conn, data| {
        assert!(net.write(conn, &[1; HARD - OVERHEAD]).is_taken());
        assert_eq!(net.write(conn, b"+"), Sent::Refused);
        assert!(!net.is_open(conn));
        data.len()
    }));
    rig.send(peer, b"flood me");
    assert_eq!(rig.until_closed(conn), OVER);
    assert_eq!(rig.handler.writables(conn), 0);
}

fn a_slow_consumer_costs_no_other_connection_anything(kind: Kind) {
    let mut rig = limited(kind, SlowConsumer::Close);
    let (_, slow) = rig.client();
    let (peer, other) = rig.client();
    let net = rig.event_loop.net();
    net.write(other, b"before ");
    net.write(slow, &[1; HARD]);
    net.write(other, b"after");
    assert_eq!(rig.until_closed(slow), (OVER.0, 0));
    rig.until("both", |rig| rig.received(peer) == b"before after");
    assert!(rig.event_loop.net().is_open(other));
}

fn a_refused_consumer_stays_and_is_told_of_room(kind: Kind) {
    let mut rig = limited(kind, SlowConsumer::Refuse);
    let (peer, conn) = rig.client();
    rig.handler.on_writable = Some(Box::new(|net, conn| {
        assert!(net.write(conn, b"at last").is_taken());
    }));
    let net = rig.event_loop.net();
    assert!(net.write(conn, &[1; HARD - OVERHEAD]).is_taken());
    assert_eq!(net.write(conn, b"at last"), Sent::Refused);
    rig.until("the rest", |rig| rig.received(peer).ends_with(b"at last"));
    quiet(&mut rig);
    assert_eq!(rig.handler.writables(conn), 1);
    assert_eq!(rig.closed(conn), None);
}

fn a_write_that_can_never_fit_is_not_waited_for(kind: Kind) {
    let mut rig = limited(kind, SlowConsumer::Refuse);
    let (peer, conn) = rig.client();
    let net = rig.event_loop.net();
    assert_eq!(net.write(conn, &[1; HARD - OVERHEAD + 1]), Sent::Refused);
    let shared = Bytes::from(vec![1; HARD - OVERHEAD + 1]);
    assert_eq!(net.write_shared(conn, shared), Sent::Refused);
    quiet(&mut rig);
    assert_eq!(rig.event_loop.net().write(conn, b"small"), Sent::Queued);
    rig.until("what fits", |rig| rig.received(peer) == b"small");
    quiet(&mut rig);
    assert_eq!(rig.handler.writables(conn), 0, "it would be refused again, for ever");
}

fn a_write_that_can_never_fit_closes_where_that_is_the_policy(kind: Kind) {
    let mut rig = limited(kind, SlowConsumer::Close);
    let (_, conn) = rig.client();
    assert_eq!(rig.event_loop.net().write(conn, &[1; HARD]), Sent::Refused);
    assert_eq!(rig.until_closed(conn), (OVER.0, 0));
}

fn a_write_refused_below_the_low_mark_waits_for_an_empty_queue(kind: Kind) {
    let mut rig = limited(kind, SlowConsumer::Refuse);
    let (peer, conn) = rig.client();
    rig.stop_reading(peer);
    let mut waiting = true;
    rig.handler.on_writable = Some(Box::new(move |net, conn| {
        if std::mem::take(&mut waiting) {
            let sent = net.write(conn, &[2; HARD - OVERHEAD]);
            assert!(sent.is_taken(), "told though it cannot fit");
        }
    }));
    let net = rig.event_loop.net();
    assert_eq!(net.write(conn, &[1; 500]), Sent::Queued);
    assert_eq!(net.write(conn, &[2; HARD - OVERHEAD]), Sent::Refused);
    assert!(net.queued_cost(conn) <= LOW);
    for part in [100, 399] {
        rig.world().set_window(rig.scripted(peer), part);
        quiet(&mut rig);
        assert_eq!(rig.handler.writables(conn), 0);
    }
    rig.start_reading(peer);
    rig.until("the second", |rig| rig.received(peer).len() == 500 + HARD - OVERHEAD);
    quiet(&mut rig);
    // Once for the refusal, once for the write in the callback, which pressed too.
    assert_eq!(rig.handler.writables(conn), 2);
}

fn a_handler_that_always_tries_again_does_not_spin(kind: Kind) {
    let mut rig = limited(kind, SlowConsumer::Refuse);
    let (peer, conn) = rig.client();
    rig.stop_reading(peer);
    rig.handler.on_writable =
        Some(Box::new(
            |net, conn| {
                while net.write(conn, &[2; HARD - OVERHEAD - 500]).is_taken() {}
            },
        ));
    let net = rig.event_loop.net();
    while net.write(conn, &[1; 700]).is_taken() {}
    quiet(&mut rig);
    for received in (0..20_000).step_by(100) {
        let more = received - rig.received(peer).len().min(received);
        rig.world().set_window(rig.scripted(peer), more);
        quiet(&mut rig);
    }
    let told = rig.handler.writables(conn);
    assert!((5..=15).contains(&told), "told {told} times for some six queues");
}

fn unlimited_is_unlimited(kind: Kind) {
    let conn = ConnOptions::default().hard_limit_bytes(Limit::Unlimited);
    let mut rig = Rig::with(kind, Config::default().conn(conn));
    let (peer, conn) = rig.client();
    for _ in 0..80 {
        assert_eq!(rig.event_loop.net().write(conn, &[1; 100_000]), Sent::Pressured);
    }
    rig.until("all of it", |rig| rig.event_loop.net().queued_bytes(conn) == 0);
    rig.until("all of it", |rig| rig.received(peer).len() == 8_000_000);
}

fn the_default_limit_is_a_mebibyte(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (_, conn) = rig.client();
    let net = rig.event_loop.net();
    let at = Bytes::from(vec![1; (1 << 20) - OVERHEAD]);
    assert_eq!(net.write_shared(conn, at), Sent::Pressured);
    assert_eq!(net.write(conn, b"+"), Sent::Refused);
    assert_eq!(rig.until_closed(conn), (OVER.0, (1 << 20) - OVERHEAD as u64));
}

fn over_the_loops_limit_writes_are_refused_and_nobody_is_closed(kind: Kind) {
    let mut rig = together(kind);
    let (_, first) = rig.client();
    let (_, second) = rig.client();
    let (peer, third) = rig.client();
    rig.handler.on_writable = Some(Box::new(|net, conn| {
        assert_eq!(net.write(conn, b"at last"), Sent::Queued);
    }));
    let half = Bytes::from(vec![1; GLOBAL / 2 - OVERHEAD]);
    let net = rig.event_loop.net();
    assert_eq!(net.write_shared(first, half.clone()), Sent::Queued);
    assert_eq!(net.write_shared(second, half), Sent::Queued);
    assert_eq!(net.stats().buffered_bytes, GLOBAL as u64);
    assert_eq!(net.write(third, b"+"), Sent::Refused);
    assert_eq!(net.write(first, b"+"), Sent::Refused);
    assert_eq!(net.stats().refused_writes, 2);
    rig.until("the third", |rig| rig.received(peer) == b"at last");
    quiet(&mut rig);
    for (conn, told) in [(first, 1), (second, 0), (third, 1)] {
        assert_eq!(rig.handler.writables(conn), told);
        assert_eq!(rig.closed(conn), None);
    }
}

fn room_again_means_a_quarter_of_the_loops_limit(kind: Kind) {
    let (mut rig, holder, _) = holding(kind, 90_000);
    let (peer, conn) = rig.client();
    assert_eq!(rig.event_loop.net().write(conn, &[2; 15_000]), Sent::Refused);
    drain_to(&mut rig, holder, GLOBAL / 4 * 3 + 1);
    assert_eq!(rig.handler.writables(conn), 0);
    drain_to(&mut rig, holder, GLOBAL / 4 * 3);
    assert_eq!(rig.handler.writables(conn), 1);
    assert!(rig.event_loop.net().write(conn, &[2; 15_000]).is_taken());
    quiet(&mut rig);
    assert_eq!(rig.received(peer).len(), 15_000);
}

fn room_again_means_room_for_what_was_refused(kind: Kind) {
    let (mut rig, holder, _) = holding(kind, 90_000);
    let (_, conn) = rig.client();
    let large = Bytes::from(vec![2; 60_000]);
    assert_eq!(rig.event_loop.net().write_shared(conn, large.clone()), Sent::Refused);
    drain_to(&mut rig, holder, GLOBAL - 60_000 - OVERHEAD + 1);
    assert_eq!(rig.handler.writables(conn), 0);
    drain_to(&mut rig, holder, GLOBAL - 60_000 - OVERHEAD);
    assert_eq!(rig.handler.writables(conn), 1);
    assert!(rig.event_loop.net().write_shared(conn, large).is_taken());
}

fn those_who_were_refused_are_told_in_that_order(kind: Kind) {
    let (mut rig, holder, held) = holding(kind, 99_000);
    let ids: Vec<ConnId> = (0..6).map(|_| rig.client().1).collect();
    let order = [4, 0, 5, 2, 1, 3].map(|i| ids[i]);
    for id in order {
        assert_eq!(rig.event_loop.net().write(id, &[2; 1000]), Sent::Refused);
        assert_eq!(rig.event_loop.net().write(id, &[2; 1000]), Sent::Refused, "and again");
    }
    drain_to(&mut rig, holder, 0);
    let told = rig.handler.calls.iter().filter_map(|call| match call {
        Call::Writable(id) if *id != held => Some(*id),
        _ => None,
    });
    assert_eq!(told.collect::<Vec<_>>(), order);
}

fn a_write_larger_than_the_loops_limit_is_not_waited_for(kind: Kind) {
    let mut rig = together(kind);
    let (peer, conn) = rig.client();
    let shared = Bytes::from(vec![1; GLOBAL - OVERHEAD + 1]);
    assert_eq!(rig.event_loop.net().write_shared(conn, shared.clone()), Sent::Refused);
    quiet(&mut rig);
    let fits = shared.slice(1..);
    assert!(rig.event_loop.net().write_shared(conn, fits).is_taken());
    rig.until("all of it", |rig| rig.received(peer).len() == GLOBAL - OVERHEAD);
    quiet(&mut rig);
    assert_eq!(rig.handler.writables(conn), 1, "for the pressure of the second alone");
}

fn a_full_loop_does_not_spin(kind: Kind) {
    let (mut rig, _, _) = holding(kind, 99_000);
    rig.handler.on_writable = Some(Box::new(|net, conn| {
        net.write(conn, &[2; 2000]);
    }));
    for _ in 0..5 {
        let (_, conn) = rig.client();
        assert_eq!(rig.event_loop.net().write(conn, &[2; 2000]), Sent::Refused);
    }
    quiet(&mut rig);
    assert_eq!(rig.handler.count(|call| matches!(call, Call::Writable(_))), 0);
}

fn room_that_the_own_chunk_would_waste_is_no_room(kind: Kind) {
    let mut rig = together(kind);
    let (peer, conn) = rig.client();
    let (other_peer, other) = rig.client();
    rig.stop_reading(peer);
    rig.stop_reading(other_peer);
    let net = rig.event_loop.net();
    net.write_shared(other, Bytes::from(vec![1; 8000]));
    net.write(conn, b"ten bytes.");
    // It would fit, were it not for the rest of the chunk that it closes off.
    let large = Bytes::from(vec![2; 90_000]);
    assert_eq!(net.write_shared(conn, large.clone()), Sent::Refused);
    rig.handler.on_writable = Some(Box::new(move |net, conn| {
        net.write_shared(conn, large.clone());
    }));
    quiet(&mut rig);
    rig.start_reading(peer);
    rig.until("all of it", |rig| rig.received(peer).len() == 90_010);
}

fn a_connection_that_has_ended_holds_up_nobody_who_waits_for_room(kind: Kind) {
    for (abort, reason) in [(true, CloseReason::LocalAbort), (false, CloseReason::LocalClose)] {
        let (mut rig, holder, _) = holding(kind, 95_000);
        let (gone_peer, gone) = rig.client();
        let (_, waiting) = rig.client();
        let net = rig.event_loop.net();
        assert_eq!(net.write_shared(gone, Bytes::from(vec![2; 99_000])), Sent::Refused);
        assert_eq!(net.write(waiting, &[2; 6000]), Sent::Refused);
        if abort {
            net.abort(gone);
        } else {
            net.close(gone);
            rig.finish(gone_peer);
        }
        assert_eq!(rig.until_closed(gone), (reason, 0));
        drain_to(&mut rig, holder, GLOBAL / 2);
        assert_eq!(rig.handler.writables(waiting), 1);
    }
}

fn a_connection_that_waits_for_its_own_peer_holds_up_no_other(kind: Kind) {
    let (mut rig, holder, _) = holding(kind, 95_000);
    let (slow_peer, slow) = rig.client();
    let (_, waiting) = rig.client();
    rig.stop_reading(slow_peer);
    let net = rig.event_loop.net();
    assert_eq!(net.write(slow, &[2; 1000]), Sent::Queued);
    // With a thousand bytes of its own queued, this one cannot fit.
    assert_eq!(net.write_shared(slow, Bytes::from(vec![2; 99_000])), Sent::Refused);
    assert_eq!(net.write(waiting, &[2; 6000]), Sent::Refused);
    drain_to(&mut rig, holder, 0);
    assert_eq!(rig.handler.writables(waiting), 1);
    rig.start_reading(slow_peer);
    quiet(&mut rig);
    assert_eq!(rig.handler.writables(slow), 1);
}

fn a_queue_that_makes_no_progress_ends_exactly_at_its_timeout(kind: Kind) {
    let mut rig = with_timeouts(kind);
    let (peer, conn) = rig.client();
    rig.stop_reading(peer);
    rig.event_loop.net().write(conn, &[1; 100]);
    rig.settle();
    rig.pass(STALL / 2);
    // Neither what is written nor what is received is progress, nor an event without room.
    rig.event_loop.net().write(conn, &[1; 100]);
    rig.send(peer, b"still here");
    rig.world().set_window(rig.scripted(peer), 0);
    rig.pass(STALL / 2 - NANO);
    assert_eq!(rig.closed(conn), None);
    rig.pass(NANO);
    let stalled = CloseReason::Timeout(TimeoutKind::WriteStall);
    assert_eq!(rig.until_closed(conn), (stalled, 200));
    assert!(rig.is_reset(peer));
    assert_eq!(rig.handler.writables(conn), 0);
}

fn progress_postpones_the_stall(kind: Kind) {
    let mut rig = with_timeouts(kind);
    let (peer, conn) = rig.client();
    rig.stop_reading(peer);
    rig.event_loop.net().write(conn, &[1; 100]);
    rig.settle();
    for _ in 0..5 {
        rig.pass(STALL - NANO);
        rig.world().set_window(rig.scripted(peer), 1);
        rig.settle();
    }
    rig.pass(STALL - NANO);
    assert_eq!(rig.closed(conn), None);
    rig.pass(NANO);
    let stalled = CloseReason::Timeout(TimeoutKind::WriteStall);
    assert_eq!(rig.until_closed(conn), (stalled, 95));
}

fn a_queue_that_has_emptied_stalls_no_more(kind: Kind) {
    let mut rig = with_timeouts(kind);
    let (peer, conn) = rig.client();
    assert!(rig.event_loop.net().set_idle_timeout(conn, Limit::Unlimited));
    rig.stop_reading(peer);
    rig.event_loop.net().write(conn, &[1; 100]);
    rig.settle();
    rig.pass(STALL - NANO);
    rig.start_reading(peer);
    rig.settle();
    rig.pass(100 * STALL);
    rig.stop_reading(peer);
    rig.event_loop.net().write(conn, &[1; 100]);
    rig.settle();
    rig.pass(STALL - NANO);
    assert_eq!(rig.closed(conn), None, "each stall is counted from its own beginning");
    rig.pass(NANO);
    assert!(rig.closed(conn).is_some());
}

fn without_a_stall_timeout_a_queue_waits_for_ever(kind: Kind) {
    let conn = ConnOptions::default().write_stall_timeout(Limit::Unlimited);
    let mut rig = Rig::with(kind, Config::default().conn(conn));
    let (peer, conn) = rig.client();
    rig.stop_reading(peer);
    rig.event_loop.net().write(conn, b"patience");
    rig.settle();
    assert_eq!(rig.event_loop.net().stats().timers, 0);
    rig.pass(Duration::from_secs(1 << 30));
    rig.start_reading(peer);
    rig.until("it", |rig| rig.received(peer) == b"patience");
}

fn a_silent_connection_ends_exactly_at_its_timeout(kind: Kind) {
    let mut rig = with_timeouts(kind);
    let (peer, conn) = rig.client();
    rig.settle();
    rig.pass(IDLE - NANO);
    assert_eq!(rig.closed(conn), None);
    rig.pass(NANO);
    assert_eq!(rig.until_closed(conn), (CloseReason::Timeout(TimeoutKind::Idle), 0));
    assert!(rig.at_end(peer) && !rig.is_reset(peer));
}

fn traffic_either_way_postpones_the_idle_timeout(kind: Kind) {
    let mut rig = with_timeouts(kind);
    let (peer, conn) = rig.client();
    rig.settle();
    for round in 0..6 {
        rig.pass(IDLE - NANO);
        if round % 2 == 0 {
            rig.send(peer, b"in");
        } else {
            rig.event_loop.net().write(conn, b"out");
        }
        rig.settle();
    }
    rig.pass(IDLE - NANO);
    assert_eq!(rig.closed(conn), None);
    rig.pass(NANO);
    assert_eq!(rig.until_closed(conn), (CloseReason::Timeout(TimeoutKind::Idle), 0));
    assert_eq!(rig.received(peer), b"outoutout");
}

fn what_is_queued_and_not_taken_is_no_traffic(kind: Kind) {
    let conn = ConnOptions::default().idle_timeout(IDLE).write_stall_timeout(2 * IDLE);
    let mut rig = Rig::with(kind, Config::default().conn(conn));
    let (peer, conn) = rig.client();
    rig.settle();
    rig.stop_reading(peer);
    rig.pass(IDLE / 2);
    rig.event_loop.net().write(conn, &[1; 10]);
    rig.settle();
    rig.pass(IDLE / 2);
    assert_eq!(rig.until_closed(conn), (CloseReason::Timeout(TimeoutKind::Idle), 10));
}

fn an_idle_timeout_is_changed_while_it_runs(kind: Kind) {
    for (before, after) in [(30, 10), (10, 30), (30, 30)].map(|(a, b)| (seconds(a), seconds(b))) {
        let mut rig = with_timeouts(kind);
        let (_, conn) = rig.client();
        assert!(rig.event_loop.net().set_idle_timeout(conn, before));
        rig.pass(seconds(5));
        assert!(rig.event_loop.net().set_idle_timeout(conn, after));
        rig.pass(after - seconds(5) - NANO);
        assert_eq!(rig.closed(conn), None, "{before:?} to {after:?}");
        rig.pass(NANO);
        assert!(rig.closed(conn).is_some(), "{before:?} to {after:?}: counted from the last byte");
    }
}

fn an_idle_timeout_that_has_passed_when_it_is_set_ends_the_connection(kind: Kind) {
    let mut rig = with_timeouts(kind);
    let (_, conn) = rig.client();
    rig.pass(seconds(20));
    assert!(rig.event_loop.net().set_idle_timeout(conn, seconds(10)));
    assert_eq!(rig.until_closed(conn), (CloseReason::Timeout(TimeoutKind::Idle), 0));
}

fn an_idle_timeout_is_set_and_lifted_in_callbacks(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.on_accept = Some(Box::new(|net, conn| {
        assert!(net.set_idle_timeout(conn, seconds(10)));
    }));
    rig.handler.on_data = Some(Box::new(|net, conn, data| {
        assert!(net.set_idle_timeout(conn, Limit::Unlimited));
        data.len()
    }));
    let (_, silent) = rig.client();
    let (peer, spoken) = rig.client();
    rig.send(peer, b"I stay");
    rig.settle();
    rig.pass(seconds(10));
    assert!(rig.closed(silent).is_some());
    rig.pass(seconds(1 << 30));
    assert_eq!(rig.closed(spoken), None);
    assert_eq!(rig.event_loop.net().stats().timers, 0);
    assert!(!rig.event_loop.net().set_idle_timeout(silent, seconds(1)), "a stale id");
}

fn a_message_costs_no_timer(kind: Kind) {
    let mut rig =
        Rig::with(kind, Config::default().conn(ConnOptions::default().idle_timeout(seconds(3600))));
    rig.handler.echo();
    let (peer, _) = rig.client();
    rig.settle();
    let timers = rig.event_loop.net().stats().timers;
    assert_eq!(timers, 1);
    for round in 1..=300 {
        rig.send(peer, b"ping");
        rig.until("the echo", |rig| rig.received(peer).len() == 4 * round);
        assert_eq!(rig.event_loop.net().stats().timers, timers);
    }
}

fn a_silent_connection_ends_by_the_clock_too(kind: Kind) {
    let idle = Duration::from_millis(3);
    let mut rig =
        Rig::with(kind, Config::default().conn(ConnOptions::default().idle_timeout(idle)));
    let (peer, conn) = rig.client();
    rig.pass(idle);
    assert_eq!(rig.until_closed(conn), (CloseReason::Timeout(TimeoutKind::Idle), 0));
    rig.until("the FIN", |rig| rig.at_end(peer));
    assert_eq!(rig.event_loop.net().stats().timers, 0);
}

on_every_backend!(
    a_queue_is_filled_to_its_hard_limit_and_not_one_byte_further,
    a_refused_write_takes_nothing_of_itself,
    a_slow_consumer_is_closed_and_told_by_a_reset,
    a_slow_consumer_in_a_callback_is_closed_behind_it,
    a_slow_consumer_costs_no_other_connection_anything,
    a_refused_consumer_stays_and_is_told_of_room,
    a_write_that_can_never_fit_is_not_waited_for,
    a_write_that_can_never_fit_closes_where_that_is_the_policy,
    unlimited_is_unlimited,
    the_default_limit_is_a_mebibyte,
    over_the_loops_limit_writes_are_refused_and_nobody_is_closed,
    a_write_larger_than_the_loops_limit_is_not_waited_for,
    a_message_costs_no_timer,
    a_silent_connection_ends_by_the_clock_too,
);
// A window of so many bytes and a nanosecond more are not to be had from a kernel.
on_virtual_time!(
    without_a_stall_timeout_a_queue_waits_for_ever,
    a_silent_connection_ends_exactly_at_its_timeout,
    traffic_either_way_postpones_the_idle_timeout,
    an_idle_timeout_is_changed_while_it_runs,
    an_idle_timeout_that_has_passed_when_it_is_set_ends_the_connection,
    an_idle_timeout_is_set_and_lifted_in_callbacks,
);

// The scripted peer takes not one byte more, or exactly so many; a kernel has buffers.
on_script!(
    what_is_queued_and_not_taken_is_no_traffic,
    a_full_loop_does_not_spin,
    room_that_the_own_chunk_would_waste_is_no_room,
    a_queue_that_has_emptied_stalls_no_more,
    a_write_refused_below_the_low_mark_waits_for_an_empty_queue,
    a_handler_that_always_tries_again_does_not_spin,
    room_again_means_a_quarter_of_the_loops_limit,
    room_again_means_room_for_what_was_refused,
    those_who_were_refused_are_told_in_that_order,
    a_connection_that_has_ended_holds_up_nobody_who_waits_for_room,
    a_connection_that_waits_for_its_own_peer_holds_up_no_other,
    a_queue_that_makes_no_progress_ends_exactly_at_its_timeout,
    progress_postpones_the_stall,
);

fn limited(kind: Kind, policy: SlowConsumer) -> Rig {
    let conn = ConnOptions::default()
        .low_water_bytes(LOW)
        .high_water_bytes(HIGH)
        .hard_limit_bytes(HARD)
        .slow_consumer(policy);
    Rig::with(kind, Config::default().conn(conn))
}

/// All queues together have a limit, each by itself has none.
fn together(kind: Kind) -> Rig {
    let conn = ConnOptions::default().hard_limit_bytes(Limit::Unlimited);
    Rig::with(kind, Config::default().global_buffer_bytes(GLOBAL + GLOBAL / 7).conn(conn))
}

/// A connection whose queue holds so much of the loop's buffers, because its peer does not read.
fn holding(kind: Kind, cost: usize) -> (Rig, Peer, ConnId) {
    let mut rig = together(kind);
    let (peer, conn) = rig.client();
    rig.stop_reading(peer);
    let held = Bytes::from(vec![1; cost - OVERHEAD]);
    assert!(rig.event_loop.net().write_shared(conn, held).is_taken());
    rig.settle();
    (rig, peer, conn)
}

/// Lets the holder's peer read until all queues together cost so much.
fn drain_to(rig: &mut Rig, holder: Peer, buffered: usize) {
    let buffered = buffered as u64;
    let excess = rig.event_loop.net().stats().buffered_bytes - buffered;
    let room = if buffered == 0 { usize::MAX } else { usize::try_from(excess).expect("small") };
    rig.world().set_window(rig.scripted(holder), room);
    quiet(rig);
    assert!(rig.event_loop.net().stats().buffered_bytes >= buffered);
}

fn with_timeouts(kind: Kind) -> Rig {
    let conn = ConnOptions::default().write_stall_timeout(STALL).idle_timeout(IDLE);
    Rig::with(kind, Config::default().conn(conn))
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Turns until the loop has nothing to do, which must be soon (C14).
fn quiet(rig: &mut Rig) {
    let mut idle_turns = 0;
    for _ in 0..200 {
        let turn = rig.turn();
        idle_turns = if turn.pending || turn.callbacks > 0 { 0 } else { idle_turns + 1 };
        if idle_turns == 5 {
            return;
        }
    }
    let last = rig.handler.calls.len().saturating_sub(9);
    panic!("C14: the loop spins; called last: {:?}", &rig.handler.calls[last..]);
}
