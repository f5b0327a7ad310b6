//! Budgets: no connection takes more of a turn than its share (C12), what a budget leaves over
//! needs no new event (C11), and a loop without work makes no calls (C14).

mod support;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use hotloop::{Config, ConnId};
use support::{Call, Kind, Peer, Rig};

const BUDGET: usize = 1000;

fn one_turn_reads_the_byte_budget_and_the_next_goes_on(kind: Kind) {
    let (mut rig, clients) = with_clients(kind, tight(), 1);
    let (peer, conn) = clients[0];
    let sent = pattern(10 * BUDGET);
    rig.send(peer, &sent);
    for turns in 1..=10 {
        let turn = rig.turn();
        assert_eq!(received(&mut rig, conn), turns * BUDGET);
        assert_eq!(turn.pending, turns < 10, "in turn {turns}");
    }
    assert_eq!(rig.handler.consumed, sent);
    assert_eq!(rig.turn().callbacks, 0);
}

fn what_a_budget_left_over_needs_no_new_event(kind: Kind) {
    let (mut rig, clients) = with_clients(kind, tight(), 1);
    let (peer, conn) = clients[0];
    rig.send(peer, &pattern(5 * BUDGET + 1));
    rig.turn();
    let events = rig.event_loop.net().stats().events;
    for _ in 0..5 {
        assert_eq!(rig.event_loop.next_wait(), Some(Duration::ZERO));
        rig.turn();
    }
    assert_eq!(received(&mut rig, conn), 5 * BUDGET + 1);
    assert_eq!(rig.event_loop.net().stats().events, events);
    assert_eq!(rig.event_loop.next_wait(), None);
}

fn a_budget_is_a_connections_own(kind: Kind) {
    let (mut rig, clients) = with_clients(kind, tight(), 4);
    for (peer, _) in &clients {
        rig.send(*peer, &pattern(6 * BUDGET));
    }
    for turns in 1..=6 {
        rig.turn();
        for (_, conn) in &clients {
            assert_eq!(received(&mut rig, *conn), turns * BUDGET);
        }
    }
}

fn one_turn_makes_as_many_receives_as_the_budget_allows(kind: Kind) {
    let config = Config::default().recv_buffer_bytes(512).read_budget_calls(3);
    let (mut rig, clients) = with_clients(kind, config, 1);
    let (peer, conn) = clients[0];
    let sent = pattern(9000);
    rig.send(peer, &sent);
    let mut before = rig.calls().recvs;
    while rig.turn().pending {
        let now = rig.calls().recvs;
        assert_eq!(now - before, 3);
        before = now;
    }
    assert!(rig.calls().recvs - before <= 3);
    assert_eq!(rig.handler.consumed, sent);
    assert!(rig.handler.shown(conn).len() >= 9000 / 512);
}

/// A closed connection's input is discarded within the same budget.
fn discarding_has_the_read_budget(kind: Kind) {
    let (mut rig, clients) = with_clients(kind, tight(), 1);
    let (peer, conn) = clients[0];
    rig.send(peer, &pattern(8 * BUDGET));
    rig.event_loop.net().close(conn);
    for turns in 1..=8 {
        rig.turn();
        assert_eq!(rig.event_loop.net().stats().discarded_bytes, (turns * BUDGET) as u64);
    }
    rig.finish(peer);
    rig.until_closed(conn);
}

fn floods_take_turns(kind: Kind) {
    let (mut rig, clients) = with_clients(kind, tight(), 3);
    for (peer, _) in &clients {
        rig.send(*peer, &pattern(50 * BUDGET));
    }
    let (_, first) = clients[0];
    rig.until("the flood", |rig| !rig.handler.shown(first).is_empty());
    rig.handler.calls.clear();
    for _ in 0..20 {
        rig.turn();
    }
    let served = rig.handler.calls.iter().map(|call| match call {
        Call::Data(conn, _) => *conn,
        _ => panic!("{call:?}"),
    });
    let served: Vec<ConnId> = served.collect();
    assert!(served.len() >= 60);
    for round in served.chunks_exact(3) {
        for (_, conn) in &clients {
            assert!(round.contains(conn), "{round:?} leaves out {conn}");
        }
    }
}

fn everybody_is_answered_in_the_turn_of_a_flood(kind: Kind) {
    let (mut rig, clients) = with_clients(kind, tight(), 6);
    rig.handler.echo();
    let (flooder, flood) = clients[0];
    rig.send(flooder, &pattern(100 * BUDGET));
    for turns in 1..=50 {
        for (peer, _) in &clients[1..] {
            rig.send(*peer, b"ping");
        }
        rig.turn();
        for (_, conn) in &clients[1..] {
            assert_eq!(received(&mut rig, *conn), 4 * turns, "in turn {turns}");
        }
        assert_eq!(received(&mut rig, flood), turns * BUDGET);
    }
    rig.settle();
    for (peer, _) in &clients[1..] {
        assert_eq!(rig.received(*peer), b"ping".repeat(50));
    }
}

const FLOOD_BYTES: usize = 4_000_000;

/// A peer that sends more than a test has turns for.
fn flooded(kind: Kind) -> (Rig, ConnId) {
    let (mut rig, clients) = with_clients(kind, tight(), 1);
    let (peer, conn) = clients[0];
    rig.send(peer, &pattern(FLOOD_BYTES));
    rig.until("the flood", |rig| received(rig, conn) > 0);
    (rig, conn)
}

fn a_message_is_answered_while_another_connection_floods(kind: Kind) {
    let (mut rig, flood) = flooded(kind);
    let (peer, quiet) = rig.client();
    rig.handler.on_data = Some(Box::new(move |net, conn, data| {
        if conn == quiet {
            net.write(conn, data);
        }
        data.len()
    }));
    rig.send(peer, b"ping");
    rig.until("the echo", |rig| rig.received(peer) == b"ping");
    assert!(received(&mut rig, flood) < FLOOD_BYTES, "the flood was over first");
}

/// A timer that starts itself again at zero fires once a turn, and neither waits for the other.
fn timers_fire_while_a_connection_floods_and_the_flood_while_timers_fire(kind: Kind) {
    let (mut rig, flood) = flooded(kind);
    rig.handler.on_timer = Some(Box::new(|net, _, token| {
        net.start_timer(Duration::ZERO, token + 1);
    }));
    rig.event_loop.net().start_timer(Duration::ZERO, 0);
    let before = received(&mut rig, flood);
    for turns in 1..=100 {
        rig.turn();
        assert_eq!(rig.event_loop.net().stats().timers_fired, turns);
    }
    let read = received(&mut rig, flood) - before;
    assert!(read <= 100 * BUDGET, "{read} bytes are over the budgets");
    assert!(read >= 50 * BUDGET, "{read} bytes: the timers starve the flood");
}

fn the_write_budget_is_what_one_flush_sends(kind: Kind) {
    let (mut rig, clients) = with_clients(kind, Config::default().write_budget_bytes(BUDGET), 1);
    let (peer, conn) = clients[0];
    let data = pattern(10 * BUDGET);
    rig.event_loop.net().write(conn, &data);
    let mut before = 0;
    rig.until("all bytes", |rig| {
        let sent = rig.event_loop.net().conn_stats(conn).expect("it is open").sent_bytes;
        assert!(sent - before <= BUDGET as u64, "{before}, a turn later {sent}");
        before = sent;
        rig.received(peer) == data
    });
    rig.settle();
    let stats = rig.event_loop.net().conn_stats(conn).expect("it is open");
    assert_eq!(stats.sends, 10);
    assert_eq!(rig.event_loop.net().queued_bytes(conn), 0);
}

fn the_write_budget_holds_for_a_short_answer(kind: Kind) {
    let (mut rig, clients) = with_clients(kind, Config::default().write_budget_bytes(100), 1);
    rig.handler.echo();
    let (peer, conn) = clients[0];
    let data = pattern(1000);
    rig.send(peer, &data);
    let mut before = 0;
    rig.until("the echo", |rig| {
        let sent = rig.event_loop.net().conn_stats(conn).expect("it is open").sent_bytes;
        assert!(sent - before <= 100, "{before}, a turn later {sent}");
        before = sent;
        rig.received(peer) == data
    });
}

fn a_bulk_sender_does_not_keep_others_from_being_answered(kind: Kind) {
    let config = Config::default().write_budget_bytes(BUDGET);
    let (mut rig, clients) = with_clients(kind, config, 2);
    rig.handler.echo();
    let ((bulk_peer, bulk), (peer, _)) = (clients[0], clients[1]);
    let data = pattern(500_000);
    rig.event_loop.net().write(bulk, &data);
    rig.send(peer, b"ping");
    rig.until("the echo", |rig| rig.received(peer) == b"ping");
    assert!(rig.event_loop.net().queued_bytes(bulk) > 0, "the bulk was sent first");
    rig.until("the bulk", |rig| rig.received(bulk_peer).len() >= data.len());
    assert_eq!(rig.received(bulk_peer), data);
}

fn a_spurious_event_costs_one_receive_and_no_callback(kind: Kind) {
    let (mut rig, clients) = with_clients(kind, Config::default(), 1);
    let (peer, conn) = clients[0];
    rig.send(peer, b"abc");
    rig.settle();
    assert_quiet_when_spurious(&mut rig, conn, 1);
    rig.event_loop.net().pause_reading(conn);
    rig.turn();
    assert_quiet_when_spurious(&mut rig, conn, 0);
    assert_eq!(rig.handler.shown(conn), [b"abc"]);
}

fn a_spurious_event_does_not_show_kept_bytes_again(kind: Kind) {
    let (mut rig, clients) = with_clients(kind, Config::default(), 1);
    let (peer, conn) = clients[0];
    rig.handler.on_data = Some(Box::new(|_, _, _| 0));
    rig.send(peer, b"abc");
    rig.settle();
    assert_quiet_when_spurious(&mut rig, conn, 1);
    assert_eq!(rig.handler.shown(conn), [b"abc"]);
}

/// Room that is not there costs one send at most, and no `on_writable`.
fn a_spurious_event_does_not_make_a_stuck_queue_writable(kind: Kind) {
    let (mut rig, clients) = with_clients(kind, Config::default(), 1);
    let (peer, conn) = clients[0];
    rig.stop_reading(peer);
    rig.event_loop.net().write(conn, &pattern(200_000));
    rig.settle();
    assert_quiet_when_spurious(&mut rig, conn, 1);
    assert_eq!(rig.handler.writables(conn), 0);
}

/// Reports the connection ready ten times, though it is not.
fn assert_quiet_when_spurious(rig: &mut Rig, conn: ConnId, recvs_most: usize) {
    for _ in 0..10 {
        let before = rig.calls();
        let events = rig.event_loop.net().stats().events;
        rig.inject(conn.to_bits());
        let turn = rig.turn();
        assert_eq!((turn.callbacks, turn.pending), (0, false));
        assert_eq!(rig.event_loop.net().stats().events, events + 1);
        let after = rig.calls();
        assert!(after.recvs - before.recvs <= recvs_most, "{before:?}, then {after:?}");
        assert!(after.sends - before.sends <= 1, "{before:?}, then {after:?}");
    }
}

fn an_idle_loop_makes_no_calls_but_the_wait(kind: Kind) {
    let (mut rig, clients) = with_clients(kind, Config::default(), 20);
    rig.handler.echo();
    for (peer, _) in &clients {
        rig.send(*peer, b"ping");
    }
    rig.settle();
    let before = rig.calls();
    for _ in 0..20 {
        let turn = rig.turn();
        assert_eq!((turn.callbacks, turn.pending), (0, false));
    }
    let mut after = rig.calls();
    assert_eq!(after.waits, before.waits + 20);
    after.waits = before.waits;
    assert_eq!(after, before);
    assert_ne!(rig.event_loop.next_wait(), Some(Duration::ZERO));
}

fn an_idle_loop_has_nothing_pending(kind: Kind) {
    let (mut rig, clients) = with_clients(kind, Config::default(), 5);
    rig.handler.echo();
    for (peer, _) in &clients {
        rig.send(*peer, b"ping");
    }
    rig.until("the echoes", |rig| clients.iter().all(|(peer, _)| rig.received(*peer) == b"ping"));
    rig.settle();
    let before = rig.event_loop.net().stats();
    for _ in 0..20 {
        let turn = rig.turn();
        assert_eq!((turn.callbacks, turn.pending), (0, false));
        assert_ne!(rig.event_loop.next_wait(), Some(Duration::ZERO));
    }
    let after = rig.event_loop.net().stats();
    assert_eq!((after.events, after.receives), (before.events, before.receives));
}

/// A callback that asks for another turn each time gets it, and the flood its share.
fn again_does_not_starve_a_flood(kind: Kind) {
    let (mut rig, flood) = flooded(kind);
    let turns = Rc::new(Cell::new(0));
    let counted = Rc::clone(&turns);
    rig.handler.on_turn_end = Some(Box::new(move |net| {
        counted.set(counted.get() + 1);
        net.again();
    }));
    let before = received(&mut rig, flood);
    for _ in 0..50 {
        assert!(rig.turn().pending);
    }
    assert_eq!(turns.get(), 50);
    assert!(received(&mut rig, flood) - before >= 25 * BUDGET);
}

on_every_backend!(
    floods_take_turns,
    a_message_is_answered_while_another_connection_floods,
    timers_fire_while_a_connection_floods_and_the_flood_while_timers_fire,
    the_write_budget_is_what_one_flush_sends,
    the_write_budget_holds_for_a_short_answer,
    a_bulk_sender_does_not_keep_others_from_being_answered,
    an_idle_loop_has_nothing_pending,
    again_does_not_starve_a_flood,
);

// A kernel does not say that a receive which filled its space was the last.
on_script!(one_turn_reads_the_byte_budget_and_the_next_goes_on,);

on_virtual_time!(
    what_a_budget_left_over_needs_no_new_event,
    a_budget_is_a_connections_own,
    discarding_has_the_read_budget,
    everybody_is_answered_in_the_turn_of_a_flood,
    one_turn_makes_as_many_receives_as_the_budget_allows,
    a_spurious_event_costs_one_receive_and_no_callback,
    a_spurious_event_does_not_show_kept_bytes_again,
    a_spurious_event_does_not_make_a_stuck_queue_writable,
    an_idle_loop_makes_no_calls_but_the_wait,
);

/// A small read budget that one receive fills.
fn tight() -> Config {
    Config::default().read_budget_bytes(BUDGET)
}

fn with_clients(kind: Kind, config: Config, count: usize) -> (Rig, Vec<(Peer, ConnId)>) {
    let mut rig = Rig::with(kind, config);
    let clients = (0..count).map(|_| rig.client()).collect();
    rig.settle();
    (rig, clients)
}

fn received(rig: &mut Rig, conn: ConnId) -> usize {
    let stats = rig.event_loop.net().conn_stats(conn).expect("it is open");
    usize::try_from(stats.received_bytes).expect("some megabytes")
}

fn pattern(len: usize) -> Vec<u8> {
    (0..=250).cycle().take(len).collect()
}
