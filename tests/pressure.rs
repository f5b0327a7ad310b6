//! Pressure: a queue above its high-water mark says so, and `on_writable` says once when it has
//! fallen to the low-water mark (contract C9).

mod support;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use hotloop::{Bytes, CloseReason, Config, ConnOptions, Sent, SlowConsumer};
use support::{Call, Kind, Peer, Rig};

const OVERHEAD: usize = 128;
const LOW: usize = 1000;
const HIGH: usize = 2000;
const HARD: usize = 8000;
/// More than the kernel takes from a loop whose peer does not read.
const MORE_THAN_ROOM: usize = 16 << 20;

fn a_queue_at_its_high_water_mark_has_no_pressure_and_one_byte_more_has(kind: Kind) {
    let mut rig = marked(kind);
    let (_, conn) = rig.client();
    let net = rig.event_loop.net();
    assert_eq!(net.write(conn, &[1; HIGH - OVERHEAD]), Sent::Queued);
    assert_eq!(net.queued_cost(conn), HIGH);
    assert_eq!(net.write(conn, b""), Sent::Queued);
    assert_eq!(net.write(conn, b"+"), Sent::Pressured);
    assert_eq!(net.write(conn, b""), Sent::Pressured, "and so it is while the queue is above it");
}

fn shared_bytes_press_by_their_cost_too(kind: Kind) {
    let mut rig = marked(kind);
    let (_, conn) = rig.client();
    let (_, other) = rig.client();
    let net = rig.event_loop.net();
    let at = Bytes::from(vec![1; HIGH - OVERHEAD]);
    assert_eq!(net.write_shared(conn, at), Sent::Queued);
    let above = Bytes::from(vec![1; HIGH - OVERHEAD + 1]);
    assert_eq!(net.write_shared(other, above), Sent::Pressured);
}

fn many_small_segments_press_without_many_bytes(kind: Kind) {
    let mut rig = marked(kind);
    let (_, conn) = rig.client();
    let net = rig.event_loop.net();
    let most = HIGH / (1 + OVERHEAD);
    for _ in 0..most {
        assert_eq!(net.write_shared(conn, Bytes::from_static(b"s")), Sent::Queued);
    }
    assert_eq!(net.write_shared(conn, Bytes::from_static(b"s")), Sent::Pressured);
    assert_eq!(net.queued_bytes(conn), most + 1);
}

fn the_end_of_pressure_is_told_once(kind: Kind) {
    let mut rig = marked(kind);
    let (peer, conn) = rig.client();
    for crossing in 1..=3 {
        let net = rig.event_loop.net();
        assert_eq!(net.write(conn, &[1; HIGH]), Sent::Pressured);
        assert_eq!(net.write(conn, &[1; HIGH]), Sent::Pressured);
        rig.until("all of it", |rig| rig.received(peer).len() == crossing * 2 * HIGH);
        rig.settle();
        assert_eq!(rig.handler.writables(conn), crossing);
    }
}

fn without_pressure_nothing_is_told(kind: Kind) {
    let mut rig = marked(kind);
    let (peer, conn) = rig.client();
    for round in 1..=5 {
        let sent = rig.event_loop.net().write(conn, &[1; HIGH - OVERHEAD]);
        assert_eq!(sent, Sent::Queued);
        rig.until("all of it", |rig| rig.received(peer).len() == round * (HIGH - OVERHEAD));
        rig.settle();
    }
    assert_eq!(rig.handler.writables(conn), 0);
}

fn a_peer_that_reads_again_ends_the_pressure(kind: Kind) {
    let conn = ConnOptions::default().hard_limit_bytes(2 * MORE_THAN_ROOM);
    let mut rig = Rig::with(kind, Config::default().conn(conn));
    let (peer, conn) = rig.client();
    rig.stop_reading(peer);
    assert_eq!(rig.event_loop.net().write(conn, &vec![1; MORE_THAN_ROOM]), Sent::Pressured);
    rig.settle();
    assert_eq!(rig.handler.writables(conn), 0, "the queue is stuck above the mark");
    let at_call = Rc::new(Cell::new(usize::MAX));
    rig.handler.on_writable = Some(Box::new({
        let at_call = Rc::clone(&at_call);
        move |net, conn| at_call.set(net.queued_cost(conn))
    }));
    rig.start_reading(peer);
    rig.until("all of it", |rig| rig.received(peer).len() == MORE_THAN_ROOM);
    rig.settle();
    assert_eq!(rig.handler.writables(conn), 1);
    assert!(at_call.get() <= 16 << 10, "told at a cost of {}", at_call.get());
}

fn the_end_is_told_at_the_low_water_mark_and_not_one_byte_above(kind: Kind) {
    let mut rig = marked(kind);
    let (peer, conn) = rig.client();
    rig.stop_reading(peer);
    assert_eq!(rig.event_loop.net().write(conn, &[1; 3000]), Sent::Pressured);
    let to_mark = 3000 + OVERHEAD - LOW;
    for part in [1000, to_mark - 1001] {
        let_through(&mut rig, peer, part);
        assert_eq!(rig.handler.writables(conn), 0);
    }
    assert_eq!(rig.event_loop.net().queued_cost(conn), LOW + 1);
    let_through(&mut rig, peer, 1);
    assert_eq!(rig.event_loop.net().queued_cost(conn), LOW);
    assert_eq!(rig.handler.writables(conn), 1);
    let_through(&mut rig, peer, 100);
    rig.start_reading(peer);
    rig.settle();
    assert_eq!(rig.handler.writables(conn), 1, "the rest of the way down is no crossing");
}

fn below_the_high_mark_a_new_crossing_needs_a_new_answer(kind: Kind) {
    let mut rig = marked(kind);
    let (peer, conn) = rig.client();
    rig.stop_reading(peer);
    rig.event_loop.net().write(conn, &[1; 3000]);
    let_through(&mut rig, peer, 2500);
    assert_eq!(rig.handler.writables(conn), 1);
    // Back up to between the marks, and down again.
    assert_eq!(rig.event_loop.net().write(conn, &[1; 1000]), Sent::Queued);
    let_through(&mut rig, peer, 1000);
    assert_eq!(rig.handler.writables(conn), 1);
    assert_eq!(rig.event_loop.net().write(conn, &[1; HIGH]), Sent::Pressured);
    rig.start_reading(peer);
    rig.settle();
    assert_eq!(rig.handler.writables(conn), 2);
}

fn a_queue_between_the_marks_waits_for_the_low_one(kind: Kind) {
    let mut rig = marked(kind);
    let (peer, conn) = rig.client();
    rig.stop_reading(peer);
    rig.event_loop.net().write(conn, &[1; 3000]);
    let_through(&mut rig, peer, 1500);
    // Not pressured any more, but once more said to be: it is still one crossing.
    assert_eq!(rig.event_loop.net().write(conn, &[1; 500]), Sent::Pressured);
    rig.start_reading(peer);
    rig.settle();
    assert_eq!(rig.handler.writables(conn), 1);
}

fn a_refused_write_is_told_too(kind: Kind) {
    let options = options().high_water_bytes(4000).hard_limit_bytes(4000);
    let mut rig = Rig::with(kind, Config::default().conn(options));
    let (peer, conn) = rig.client();
    rig.stop_reading(peer);
    let net = rig.event_loop.net();
    assert_eq!(net.write(conn, &[1; 4000 - OVERHEAD]), Sent::Queued);
    assert_eq!(net.write(conn, b"+"), Sent::Refused);
    rig.start_reading(peer);
    rig.until("the end of pressure", |rig| rig.handler.writables(conn) == 1);
    rig.settle();
    assert_eq!(rig.handler.writables(conn), 1);
    assert_eq!(rig.received(peer).len(), 4000 - OVERHEAD);
}

fn a_handler_that_writes_on_is_told_once_per_turn(kind: Kind) {
    const CROSSINGS: usize = 20;
    let mut rig = marked(kind);
    let (peer, conn) = rig.client();
    rig.handler.on_writable = Some(Box::new({
        let mut left = CROSSINGS;
        move |net, conn| {
            left -= 1;
            if left > 0 {
                assert_eq!(net.write(conn, &[1; HIGH]), Sent::Pressured);
                // Which ends the pressure within the callback.
                net.flush(conn);
            }
        }
    }));
    rig.event_loop.net().write(conn, &[1; HIGH]);
    let mut told = 0;
    while told < CROSSINGS {
        let before = told;
        rig.until("another", |rig| {
            let count = rig.handler.writables(conn);
            assert!(count <= told + 1, "more than once in a turn");
            told = count;
            told > before
        });
    }
    rig.settle();
    assert_eq!(rig.handler.writables(conn), CROSSINGS);
    assert_eq!(rig.received(peer).len(), CROSSINGS * HIGH);
}

fn each_turn_of_a_handler_that_writes_on_serves_the_others(kind: Kind) {
    let mut rig = marked(kind);
    let (_, greedy) = rig.client();
    let (peer, _) = rig.client();
    rig.handler.echo();
    rig.handler.on_writable = Some(Box::new(|net, conn| {
        net.write(conn, &[1; HIGH]);
    }));
    rig.event_loop.net().write(greedy, &[1; HIGH]);
    rig.until("the first", |rig| rig.handler.writables(greedy) > 0);
    rig.send(peer, b"me too");
    rig.until("the echo", |rig| rig.received(peer) == b"me too");
    let told = rig.handler.writables(greedy);
    rig.until("another", |rig| rig.handler.writables(greedy) > told);
}

fn after_a_close_nothing_is_told(kind: Kind) {
    let mut rig = marked(kind);
    let (peer, conn) = rig.client();
    rig.stop_reading(peer);
    let net = rig.event_loop.net();
    assert_eq!(net.write(conn, &[1; 3000]), Sent::Pressured);
    net.close(conn);
    rig.settle();
    rig.start_reading(peer);
    rig.until("the end", |rig| rig.at_end(peer));
    rig.finish(peer);
    assert_eq!(rig.until_closed(conn), (CloseReason::LocalClose, 0));
    assert_eq!(rig.received(peer).len(), 3000);
    assert_eq!(rig.handler.writables(conn), 0);
}

fn after_an_abort_nothing_is_told(kind: Kind) {
    let mut rig = marked(kind);
    let (_, conn) = rig.client();
    let net = rig.event_loop.net();
    assert_eq!(net.write(conn, &[1; 3000]), Sent::Pressured);
    net.abort(conn);
    assert_eq!(rig.until_closed(conn), (CloseReason::LocalAbort, 3000));
    assert_eq!(rig.handler.writables(conn), 0);
}

fn a_close_in_the_callback_before_the_crossing_is_told_prevents_it(kind: Kind) {
    let mut rig = marked(kind);
    let (peer, conn) = rig.client();
    rig.handler.on_data = Some(Box::new(|net, conn, data| {
        assert_eq!(net.write(conn, &[1; HIGH]), Sent::Pressured);
        net.flush(conn);
        net.close(conn);
        data.len()
    }));
    rig.send(peer, b"go");
    rig.until("the end", |rig| rig.at_end(peer));
    rig.finish(peer);
    assert_eq!(rig.until_closed(conn), (CloseReason::LocalClose, 0));
    assert_eq!(rig.handler.writables(conn), 0);
}

fn pressure_is_each_connections_own(kind: Kind) {
    let mut rig = Rig::with(kind, Config::default().conn(options().hard_limit_bytes(1 << 30)));
    let (slow_peer, slow) = rig.client();
    let (peer, quick) = rig.client();
    rig.stop_reading(slow_peer);
    assert_eq!(rig.event_loop.net().write(slow, &vec![1; MORE_THAN_ROOM]), Sent::Pressured);
    rig.settle();
    for round in 1..=3 {
        assert_eq!(rig.event_loop.net().write(quick, &[2; 500]), Sent::Queued);
        rig.until("the quick one", |rig| rig.received(peer).len() == round * 500);
    }
    assert_eq!(rig.event_loop.net().write(slow, b"x"), Sent::Pressured);
    rig.settle();
    assert_eq!((rig.handler.writables(slow), rig.handler.writables(quick)), (0, 0));
    rig.start_reading(slow_peer);
    rig.until("the slow one", |rig| rig.handler.writables(slow) == 1);
    rig.settle();
    assert_eq!(rig.handler.writables(quick), 0);
}

fn a_connection_that_is_not_open_yet_has_pressure_too(kind: Kind) {
    let mut rig = marked(kind);
    let addr = rig.server();
    let net = rig.event_loop.net();
    let conn = net.connect(addr).expect("there are slots");
    assert_eq!(net.write(conn, &[1; HIGH - OVERHEAD]), Sent::Queued);
    assert_eq!(net.write(conn, b"+"), Sent::Pressured);
    net.flush(conn);
    assert_eq!(net.queued_cost(conn), HIGH + 1, "there is nobody to send it to");
    rig.until("the end of pressure", |rig| rig.handler.writables(conn) == 1);
    rig.settle();
    assert_eq!(rig.handler.calls, [Call::Connect(conn), Call::Writable(conn)]);
    let peer = rig.server_peer(addr).expect("it has been connected to");
    rig.until("all of it", |rig| rig.received(peer).len() == HIGH - OVERHEAD + 1);
}

fn data_comes_before_the_crossing_of_the_same_turn(kind: Kind) {
    let mut rig = marked(kind);
    let (peer, conn) = rig.client();
    let order = Rc::new(RefCell::new(Vec::new()));
    rig.handler.on_data = Some(Box::new({
        let order = Rc::clone(&order);
        move |net, conn, data| {
            order.borrow_mut().push("data");
            assert_eq!(net.write(conn, &[1; HIGH]), Sent::Pressured);
            data.len()
        }
    }));
    rig.handler.on_writable = Some(Box::new({
        let order = Rc::clone(&order);
        move |_, _| order.borrow_mut().push("writable")
    }));
    rig.send(peer, b"go");
    rig.until("the end of pressure", |rig| rig.handler.writables(conn) == 1);
    assert_eq!(*order.borrow(), ["data", "writable"]);
}

on_every_backend!(
    a_queue_at_its_high_water_mark_has_no_pressure_and_one_byte_more_has,
    shared_bytes_press_by_their_cost_too,
    many_small_segments_press_without_many_bytes,
    the_end_of_pressure_is_told_once,
    without_pressure_nothing_is_told,
    a_peer_that_reads_again_ends_the_pressure,
    a_refused_write_is_told_too,
    a_handler_that_writes_on_is_told_once_per_turn,
    each_turn_of_a_handler_that_writes_on_serves_the_others,
    after_a_close_nothing_is_told,
    after_an_abort_nothing_is_told,
    a_close_in_the_callback_before_the_crossing_is_told_prevents_it,
    pressure_is_each_connections_own,
    a_connection_that_is_not_open_yet_has_pressure_too,
    data_comes_before_the_crossing_of_the_same_turn,
);
// A window of so many bytes is not to be had from a kernel.
on_script!(
    the_end_is_told_at_the_low_water_mark_and_not_one_byte_above,
    below_the_high_mark_a_new_crossing_needs_a_new_answer,
    a_queue_between_the_marks_waits_for_the_low_one,
);

fn options() -> ConnOptions {
    ConnOptions::default()
        .low_water_bytes(LOW)
        .high_water_bytes(HIGH)
        .hard_limit_bytes(HARD)
        .slow_consumer(SlowConsumer::Refuse)
}

fn marked(kind: Kind) -> Rig {
    Rig::with(kind, Config::default().conn(options()))
}

/// Lets the peer take so many bytes more, and what follows happen.
fn let_through(rig: &mut Rig, peer: Peer, bytes: usize) {
    let before = rig.received(peer).len();
    rig.world().set_window(rig.scripted(peer), bytes);
    rig.settle();
    assert_eq!(rig.received(peer).len(), before + bytes);
}
