//! What is ready and not acted upon does not keep a loop on real sockets busy (contract C14): a
//! wait that reports the same thing over and over would be a loop at full load for nothing.

mod support;

use std::time::Duration;

use hotloop::{Config, ConnOptions};
use support::{Kind, Rig};

/// How often something may be reported before it is noticed that nobody acts on it.
const NOTICED: u64 = 2;
const TURNS: usize = 20;

/// Turns with patience, and checks that next to nothing is reported.
fn assert_quiet(rig: &mut Rig) {
    rig.settle();
    let before = rig.event_loop.net().stats().events;
    for _ in 0..TURNS {
        let turn = rig.event_loop.turn(&mut rig.handler, Duration::from_millis(2));
        assert!(!turn.expect("the loop runs").pending, "it has work for ever");
    }
    let events = rig.event_loop.net().stats().events - before;
    assert!(events <= NOTICED, "{events} events in {TURNS} turns");
}

fn a_paused_connection_with_bytes_to_read(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    rig.event_loop.net().pause_reading(conn);
    rig.send(peer, b"unread");
    assert_quiet(&mut rig);
    rig.event_loop.net().resume_reading(conn);
    rig.until("the bytes", |rig| rig.handler.consumed == b"unread");
}

fn a_paused_connection_both_sides_of_which_have_finished(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    let net = rig.event_loop.net();
    net.pause_reading(conn);
    net.shutdown(conn);
    rig.until("the end", |rig| rig.at_end(peer));
    rig.send(peer, b"unread");
    rig.finish(peer);
    assert_quiet(&mut rig);
    assert_eq!(rig.closed(conn), None, "C13: a FIN waits for the resume");
    rig.event_loop.net().resume_reading(conn);
    rig.until_closed(conn);
    assert_eq!(rig.handler.consumed, b"unread");
}

fn a_half_closed_connection_that_learns_of_a_reset(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.on_read_closed = Some(Box::new(|_, _, _| {}));
    let (peer, conn) = rig.client();
    rig.finish(peer);
    rig.until("the FIN", |rig| rig.handler.count(is_read_closed) == 1);
    assert_quiet(&mut rig);
    rig.reset(peer);
    rig.until_closed(conn);
}

fn is_read_closed(call: &support::Call) -> bool {
    matches!(call, support::Call::ReadClosed(..))
}

fn a_byte_out_of_band_at_the_end_of_a_stream(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    rig.send(peer, b"before");
    rig.send_urgent(peer, b'!');
    rig.until("the bytes", |rig| rig.handler.consumed == b"before");
    assert_quiet(&mut rig);
    rig.event_loop.net().pause_reading(conn);
    rig.send_urgent(peer, b'!');
    assert_quiet(&mut rig);
    rig.event_loop.net().resume_reading(conn);
    rig.send(peer, b" after");
    rig.until("the bytes", |rig| rig.handler.consumed == b"before after");
}

fn a_listener_at_the_connection_limit(kind: Kind) {
    let mut rig = Rig::with(kind, Config::default().max_connections(1));
    let (_, conn) = rig.client();
    for _ in 0..3 {
        rig.dial();
    }
    assert_quiet(&mut rig);
    rig.event_loop.net().abort(conn);
    rig.until("the next one", |rig| rig.handler.accepted.len() == 2);
    assert_quiet(&mut rig);
}

fn a_queue_that_is_stuck_and_one_that_was(kind: Kind) {
    let conn = ConnOptions::default().hard_limit_bytes(64 << 20);
    let mut rig = Rig::with(kind, Config::default().conn(conn));
    let (peer, conn) = rig.client();
    rig.stop_reading(peer);
    rig.event_loop.net().write(conn, &vec![7; 16 << 20]);
    assert_quiet(&mut rig);
    assert!(rig.event_loop.net().queued_bytes(conn) > 0, "it is stuck");
    rig.start_reading(peer);
    rig.until("all of it", |rig| rig.received(peer).len() == 16 << 20);
    assert_quiet(&mut rig);
}

fn an_idle_connection_and_one_that_was_adopted(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.echo();
    let (peer, conn) = rig.client();
    rig.send(peer, b"once");
    rig.until("the echo", |rig| rig.received(peer) == b"once");
    assert_quiet(&mut rig);
    let detached = rig.release(conn);
    rig.event_loop.net().adopt(detached).expect("a connection");
    assert_quiet(&mut rig);
    rig.send(peer, b" more");
    rig.until("the echo", |rig| rig.received(peer) == b"once more");
}

fn a_connect_that_waits(kind: Kind) {
    let mut rig = Rig::new(kind);
    let addr = rig.server();
    let conn = rig.event_loop.net().connect(addr).expect("there are slots");
    rig.event_loop.net().pause_reading(conn);
    assert_quiet(&mut rig);
    assert_eq!(rig.handler.connected, [conn]);
}

on_real_sockets!(
    a_paused_connection_with_bytes_to_read,
    a_paused_connection_both_sides_of_which_have_finished,
    a_half_closed_connection_that_learns_of_a_reset,
    a_byte_out_of_band_at_the_end_of_a_stream,
    a_listener_at_the_connection_limit,
    a_queue_that_is_stuck_and_one_that_was,
    an_idle_connection_and_one_that_was_adopted,
    a_connect_that_waits,
);

#[test]
fn a_mode_that_there_is_not_is_an_error() {
    let config = Config::default().backend(hotloop::BackendKind::Portable);
    let error = hotloop::Loop::new(config.portable_mode("quux")).expect_err("no such mode");
    assert!(error.to_string().contains("quux"), "{error}");
}
