//! What a callback writes to its own connection: it lies elsewhere than other writes until the
//! service ends, and nobody can tell.

mod support;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use hotloop::{Bytes, CloseReason, ConnId, Net, Sent};
use support::{Call, Kind, Peer, Rig};

/// The ways in which bytes can be written.
#[derive(Debug, Clone, Copy)]
enum Way {
    Copied,
    Pieces,
    Shared,
}

use Way::{Copied, Pieces, Shared};

/// Writes so many bytes, of which each names its place.
fn write(net: &mut Net, conn: ConnId, way: Way, from: usize, len: usize) -> Sent {
    let data: Vec<u8> = in_order(from + len).split_off(from);
    let (head, body) = data.split_at(len / 3);
    match way {
        Copied => net.write(conn, &data),
        Pieces => net.write_vectored(conn, &[head, &[], body]),
        Shared => net.write_shared(conn, data.into()),
    }
}

/// What the counts are after each write of a program.
fn counts(net: &mut Net, conn: ConnId, program: &[(Way, usize)]) -> Vec<(usize, usize, u64)> {
    let mut from = 0;
    let mut written = |&(way, len): &(Way, usize)| {
        assert_eq!(write(net, conn, way, from, len), Sent::Queued, "{program:?}");
        from += len;
        let stats = net.conn_stats(conn).expect("it is open");
        assert_eq!(stats.accepted_bytes - stats.sent_bytes, stats.queued_bytes as u64);
        assert_eq!(stats.queued_bytes, net.queued_bytes(conn));
        (net.queued_bytes(conn), net.queued_cost(conn), stats.accepted_bytes)
    };
    program.iter().map(&mut written).collect()
}

/// Around the length that lies elsewhere, and beyond every size of a chunk.
const PROGRAMS: [&[(Way, usize)]; 12] = [
    &[(Copied, 1)],
    &[(Copied, 4096), (Copied, 1)],
    &[(Copied, 4095), (Copied, 1), (Copied, 1)],
    &[(Copied, 4097), (Copied, 10)],
    &[(Copied, 16_384), (Copied, 10)],
    &[(Copied, 4000), (Copied, 200), (Copied, 4000)],
    &[(Copied, 10), (Shared, 10), (Copied, 10)],
    &[(Shared, 10), (Copied, 10), (Copied, 10)],
    &[(Pieces, 10), (Copied, 10), (Pieces, 5000)],
    &[(Pieces, 4096), (Pieces, 300)],
    &[(Copied, 4095), (Pieces, 2), (Shared, 1), (Pieces, 300), (Copied, 20_000)],
    &[(Copied, 7), (Copied, 0), (Pieces, 0), (Shared, 0), (Copied, 7)],
];

/// Lets each input be answered by the writes of a program; what they counted is in the list.
type Counts = Rc<RefCell<Vec<(usize, usize, u64)>>>;

fn answer_with(rig: &mut Rig, program: &'static [(Way, usize)]) -> Counts {
    let inside: Counts = Rc::default();
    let tell = Rc::clone(&inside);
    rig.handler.on_data = Some(Box::new(move |net, conn, data| {
        *tell.borrow_mut() = counts(net, conn, program);
        data.len()
    }));
    inside
}

fn len_of(program: &[(Way, usize)]) -> usize {
    program.iter().map(|(_, len)| len).sum()
}

fn in_order(len: usize) -> Vec<u8> {
    (0..=250).cycle().take(len).collect()
}

fn counts_and_costs_are_those_of_a_write_from_outside(kind: Kind) {
    for program in PROGRAMS {
        let mut rig = Rig::new(kind);
        let inside = answer_with(&mut rig, program);
        let (asks, _) = rig.client();
        let (told, other) = rig.client();
        let outside = counts(rig.event_loop.net(), other, program);
        rig.send(asks, b"?");
        for peer in [asks, told] {
            let expected = in_order(len_of(program));
            rig.until("the answer", |rig| rig.received(peer).len() == expected.len());
            assert_eq!(rig.received(peer), expected, "{program:?}");
        }
        assert_eq!(*inside.borrow(), outside, "{program:?}");
        rig.until("the end of it", |rig| rig.event_loop.net().stats().buffered_bytes == 0);
    }
}

/// The kernel takes an answer a few bytes at a time, and what it leaves is queued.
fn an_answer_that_is_taken_in_parts_arrives_in_order(kind: Kind) {
    for program in PROGRAMS {
        for window in [1, 9, 4095, 4096] {
            let mut rig = Rig::new(kind);
            let inside = answer_with(&mut rig, program);
            let (peer, conn) = rig.client();
            let inner = rig.scripted(peer);
            rig.world().set_window(inner, window);
            rig.send(peer, b"?");
            rig.settle();
            let whole = len_of(program);
            let taken = window.min(whole);
            let net = rig.event_loop.net();
            assert_eq!(net.queued_bytes(conn), whole - taken, "{program:?}");
            let most = inside.borrow().last().expect("it has written").1 - taken;
            assert!(net.queued_cost(conn) <= most, "{program:?} {window}");
            assert_eq!(write(net, conn, Copied, whole, 3), Sent::Queued, "behind it");
            rig.world().set_window(inner, usize::MAX);
            rig.until("the rest", |rig| rig.received(peer).len() == whole + 3);
            assert_eq!(rig.received(peer), in_order(whole + 3), "{program:?} {window}");
            assert_eq!(rig.event_loop.net().queued_cost(conn), 0);
        }
    }
}

/// Both have input in the same wait: what the first wrote and lost is not what the second sends.
fn what_is_dropped_in_a_callback_is_nobody_elses(kind: Kind) {
    for first in [true, false] {
        let mut rig = Rig::new(kind);
        let (one, two) = (rig.client(), rig.client());
        let (dropped, kept) = if first { (one, two) } else { (two, one) };
        rig.handler.on_data = Some(Box::new(move |net, conn, data| {
            if conn == dropped.1 {
                net.write(conn, b"this is dropped");
                net.abort(conn);
                assert_eq!(net.write(conn, b"and this is not taken"), Sent::Closed);
            } else {
                net.write(conn, b"this");
                net.write(conn, b" is sent");
            }
            data.len()
        }));
        rig.send(dropped.0, b"?");
        rig.send(kept.0, b"?");
        assert_eq!(rig.until_closed(dropped.1), (CloseReason::LocalAbort, 15));
        rig.until("the answer", |rig| rig.received(kept.0) == b"this is sent");
        rig.until("the reset", |rig| rig.is_reset(dropped.0));
        assert_eq!(rig.received(dropped.0), b"");
    }
}

fn a_flush_in_the_callback_sends_what_was_written_before_it(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.on_data = Some(Box::new(|net, conn, data| {
        net.write(conn, b"one, ");
        assert!(net.flush(conn));
        net.write(conn, b"two, ");
        net.write_shared(conn, Bytes::from_static(b"three"));
        data.len()
    }));
    let (peer, conn) = rig.client();
    rig.send(peer, b"?");
    rig.until("all of it", |rig| rig.received(peer) == b"one, two, three");
    rig.settle();
    let stats = rig.event_loop.net().conn_stats(conn).expect("it is open");
    assert_eq!(stats.sends, 2);
}

fn a_close_in_the_callback_sends_what_was_written_before_it(kind: Kind) {
    for close in [Net::close, Net::shutdown] {
        let mut rig = Rig::new(kind);
        rig.handler.on_data = Some(Box::new(move |net, conn, data| {
            net.write(conn, b"goodbye");
            close(net, conn);
            data.len()
        }));
        let (peer, conn) = rig.client();
        rig.send(peer, b"?");
        rig.until("the last word", |rig| rig.received(peer) == b"goodbye" && rig.at_end(peer));
        rig.finish(peer);
        assert_eq!(rig.until_closed(conn).1, 0, "nothing was dropped");
    }
}

/// The answer goes along with a connection that is given away, and its memory stays.
fn a_release_takes_the_answer_along(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (given, kept) = (rig.client(), rig.client());
    let queued: Rc<Cell<Option<Vec<u8>>>> = Rc::default();
    let tell = Rc::clone(&queued);
    rig.handler.on_release = Some(Box::new(move |_, _, detached| {
        tell.set(Some(detached.queued().to_vec()));
    }));
    rig.handler.on_data = Some(Box::new(move |net, conn, data| {
        net.write(conn, if conn == given.1 { b"for the next one" } else { b"from here" });
        if conn == given.1 {
            assert!(net.release(conn));
        }
        data.len()
    }));
    rig.send(given.0, b"?");
    rig.send(kept.0, b"?");
    assert_eq!(rig.until_closed(given.1).0, CloseReason::Released);
    rig.until("the answer", |rig| rig.received(kept.0) == b"from here");
    let received = rig.received(given.0);
    let queued = queued.take().expect("it was given away");
    assert_eq!([received, queued].concat(), b"for the next one");
}

/// Between turns the one whose callback has panicked is still there, and takes what nobody sends.
#[cfg(panic = "unwind")]
fn what_a_panic_leaves_is_nobody_elses(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (victim, other) = (rig.client(), rig.client());
    rig.handler.on_data = Some(Box::new(move |net, conn, data| {
        if conn == victim.1 {
            net.write(conn, b"lost, ");
            std::panic::resume_unwind(Box::new(()));
        }
        net.write(conn, data);
        data.len()
    }));
    rig.send(victim.0, b"?");
    let mut turn = || std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| rig.turn()));
    while turn().is_ok() {}
    let net = rig.event_loop.net();
    net.write(victim.1, b"like this");
    net.write(other.1, b"one, ");
    rig.send(other.0, b"two");
    rig.until("both", |rig| rig.received(other.0) == b"one, two");
    assert_eq!(rig.until_closed(victim.1), (CloseReason::HandlerPanicked, 15));
    assert_eq!(rig.handler.count(|call| matches!(call, Call::Close(..))), 1);
    assert_eq!(rig.received(victim.0), b"");
}

fn on_writable_may_write_and_is_flushed(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn): (Peer, ConnId) = rig.client();
    rig.handler.on_writable = Some(Box::new(|net, conn| {
        net.write(conn, b"!");
    }));
    let len = 1 << 20;
    rig.stop_reading(peer);
    while rig.event_loop.net().write(conn, &[b'.'; 10_000]) == Sent::Queued {}
    let before = rig.event_loop.net().conn_stats(conn).expect("it is open").accepted_bytes;
    assert!(before < len);
    rig.start_reading(peer);
    rig.until("the call", |rig| rig.received(peer).ends_with(b"!"));
    assert_eq!(rig.received(peer).len() as u64, before + 1);
}

on_every_backend!(
    counts_and_costs_are_those_of_a_write_from_outside,
    what_is_dropped_in_a_callback_is_nobody_elses,
    a_flush_in_the_callback_sends_what_was_written_before_it,
    a_close_in_the_callback_sends_what_was_written_before_it,
    a_release_takes_the_answer_along,
    on_writable_may_write_and_is_flushed,
);

#[cfg(panic = "unwind")]
on_every_backend!(what_a_panic_leaves_is_nobody_elses);

// The window is the script's.
on_script!(an_answer_that_is_taken_in_parts_arrives_in_order);
