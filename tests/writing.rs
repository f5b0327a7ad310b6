//! Writing: what is accepted arrives, whole and in order, in as few sends as there can be, and
//! every byte is accounted for until it has.

mod support;

use std::cell::Cell;
use std::rc::Rc;

use hotloop::{Bytes, CloseReason, Config, ConnId, ConnOptions, Limit, Net, Sent};
use support::{Kind, Peer, Rig};

/// What a segment costs beyond its payload.
const OVERHEAD: usize = 128;
/// The chunk of ordinary writes, of small ones behind a shared segment, and of large ones.
const CHUNK: usize = 4096;
const SMALL_CHUNK: usize = 256;
const LARGE_CHUNK: usize = 16 << 10;

fn a_write_of_nothing_is_queued_and_sends_nothing(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    let net = rig.event_loop.net();
    assert_eq!(net.write(conn, b""), Sent::Queued);
    assert_eq!(net.write_shared(conn, Bytes::new()), Sent::Queued);
    assert_eq!(net.queued_cost(conn), 0);
    assert!(net.flush(conn));
    rig.settle();
    let stats = rig.event_loop.net().conn_stats(conn).expect("it is open");
    assert_eq!((stats.accepted_bytes, stats.sends), (0, 0));
    if kind.is_script() {
        assert_eq!(rig.calls().sends, 0, "an empty send is a system call for nothing");
    }
    assert_eq!(rig.event_loop.net().write(conn, b"after"), Sent::Queued);
    rig.until("what follows", |rig| rig.received(peer) == b"after");
}

fn empty_writes_between_others_cost_nothing(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    let net = rig.event_loop.net();
    for piece in ["a", "", "b", "", "", "c"] {
        net.write(conn, piece.as_bytes());
        net.write_shared(conn, Bytes::new());
    }
    assert_eq!((net.queued_bytes(conn), net.queued_cost(conn)), (3, 3 + OVERHEAD));
    rig.until("the rest", |rig| rig.received(peer) == b"abc");
}

fn a_million_one_byte_writes_are_coalesced(kind: Kind) {
    const COUNT: usize = 1_000_000;
    let mut rig = Rig::with(kind, without_limits());
    let (peer, conn) = rig.client();
    let sent = noise(COUNT);
    let net = rig.event_loop.net();
    for byte in sent.chunks(1) {
        net.write(conn, byte);
    }
    assert_eq!(net.queued_bytes(conn), COUNT);
    assert_eq!(net.queued_cost(conn), COUNT + COUNT.div_ceil(CHUNK) * OVERHEAD);
    assert!(all_that_arrives(&mut rig, peer, conn) == sent, "the bytes differ");
}

fn one_write_of_100_mib_arrives_intact(kind: Kind) {
    const LEN: usize = 100 << 20;
    let mut rig = Rig::with(kind, without_limits());
    let (peer, conn) = rig.client();
    let sent = noise(LEN);
    let net = rig.event_loop.net();
    assert_eq!(net.write(conn, &sent), Sent::Pressured);
    assert_eq!(net.queued_cost(conn), LEN + LEN / LARGE_CHUNK * OVERHEAD);
    assert!(all_that_arrives(&mut rig, peer, conn) == sent, "the bytes differ");
}

fn five_thousand_segments_of_all_sizes_arrive_in_order(kind: Kind) {
    let mut rig = Rig::with(kind, without_limits());
    let (peer, conn) = rig.client();
    let source = noise(64 << 10);
    let shared = Bytes::from(source.clone());
    let mut random = Random(1);
    let mut expected = Vec::new();
    let net = rig.event_loop.net();
    for _ in 0..5000 {
        // Around the size below which pieces are copied together, some far above it, some empty.
        let len = match random.below(64) {
            0 => random.below(64 << 10),
            1..8 => 2040 + random.below(16),
            8..16 => 0,
            16..32 => 2048 + random.below(2048),
            _ => random.below(300),
        };
        let start = random.below(source.len() - len + 1);
        if random.below(4) == 0 {
            net.write(conn, &source[start..][..len]);
        } else {
            net.write_shared(conn, shared.slice(start..start + len));
        }
        expected.extend(&source[start..][..len]);
    }
    assert_eq!(net.queued_bytes(conn), expected.len());
    assert!(all_that_arrives(&mut rig, peer, conn) == expected, "the bytes differ");
}

fn more_shared_segments_than_a_send_can_name_arrive(kind: Kind) {
    // A budget that does not cut the send before the segments are too many.
    let mut rig = Rig::with(kind, without_limits().write_budget_bytes(16 << 20));
    let (peer, conn) = rig.client();
    let source = noise(4096 + 3000);
    let shared = Bytes::from(source.clone());
    let mut expected = Vec::new();
    let net = rig.event_loop.net();
    for start in 0..3000 {
        net.write_shared(conn, shared.slice(start..start + 2048));
        expected.extend(&source[start..][..2048]);
    }
    assert_eq!(net.queued_cost(conn), 3000 * (2048 + OVERHEAD));
    assert!(all_that_arrives(&mut rig, peer, conn) == expected, "the bytes differ");
}

fn copied_and_shared_writes_keep_their_order(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    let net = rig.event_loop.net();
    net.write(conn, b"one ");
    net.write_shared(conn, Bytes::from_static(b"two "));
    net.write(conn, b"three ");
    net.write(conn, b"four ");
    net.write_shared(conn, Bytes::from_static(b"five "));
    net.write_shared(conn, Bytes::from_static(b"six"));
    rig.until("all", |rig| rig.received(peer) == b"one two three four five six");
    rig.settle();
    let stats = rig.event_loop.net().conn_stats(conn).expect("it is open");
    assert_eq!(stats.sends, 1);
}

fn a_send_that_takes_a_part_is_resumed_exactly(kind: Kind) {
    for most in [1, 2, 7, 127, 255, 256, 257, 4095, 4096, 4097, 16_384, 65_536] {
        let mut rig = Rig::with(kind, without_limits());
        let (peer, conn) = rig.client();
        rig.world().set_send_max(rig.scripted(peer), most);
        let len = (most * 300).min(200_000);
        let expected = write_mixed(rig.event_loop.net(), conn, len);
        rig.until("all of it", |rig| {
            assert_balanced(rig.event_loop.net(), conn, 0);
            assert!(expected.starts_with(&rig.received(peer)), "at most {most}");
            rig.event_loop.net().queued_bytes(conn) == 0
        });
        assert!(rig.received(peer) == expected, "at most {most}");
        assert_eq!(rig.event_loop.net().queued_cost(conn), 0);
        let stats = rig.event_loop.net().conn_stats(conn).expect("it is open");
        assert!(stats.sends as usize >= len / most, "at most {most}");
    }
}

fn a_queue_that_is_stuck_is_resumed_at_every_byte(kind: Kind) {
    let mut rig = Rig::with(kind, without_limits());
    let (peer, conn) = rig.client();
    rig.stop_reading(peer);
    let expected = write_mixed(rig.event_loop.net(), conn, 3000);
    for received in 0..=expected.len() {
        rig.settle_at(peer, received);
        assert_eq!(rig.received(peer), expected[..received]);
        assert_eq!(rig.event_loop.net().queued_bytes(conn), expected.len() - received);
        assert_balanced(rig.event_loop.net(), conn, 0);
    }
    assert_eq!(rig.event_loop.net().queued_cost(conn), 0);
}

fn several_writes_in_one_callback_are_one_send(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.on_data = Some(Box::new(|net, conn, data| {
        for piece in data.chunks(3) {
            net.write(conn, piece);
        }
        assert_eq!(net.conn_stats(conn).expect("it is open").sends, 0, "not in the callback");
        data.len()
    }));
    let (peer, conn) = rig.client();
    rig.send(peer, b"twenty bytes of text");
    rig.until("the echo", |rig| rig.received(peer) == b"twenty bytes of text");
    rig.settle();
    let stats = rig.event_loop.net().conn_stats(conn).expect("it is open");
    assert_eq!(stats.sends, 1);
    if kind.is_script() {
        assert_eq!(rig.calls().sends, 1);
    }
}

fn other_connections_are_flushed_once_each_when_the_turn_ends(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (speaker, from) = rig.client();
    let others: Vec<(Peer, ConnId)> = (0..20).map(|_| rig.client()).collect();
    let ids: Vec<ConnId> = others.iter().map(|(_, id)| *id).collect();
    rig.handler.on_data = Some(Box::new({
        let ids = ids.clone();
        move |net, conn, data| {
            for id in &ids {
                net.write(*id, data);
                net.write_shared(*id, Bytes::from_static(b", "));
                net.write(*id, data);
            }
            net.write(conn, b"done");
            data.len()
        }
    }));
    let waited = Rc::new(Cell::new(false));
    rig.handler.on_turn_end = Some(Box::new({
        let waited = Rc::clone(&waited);
        move |net| waited.set(waited.get() || ids.iter().all(|id| net.queued_bytes(*id) == 10))
    }));
    rig.send(speaker, b"news");
    for (peer, id) in others {
        rig.until("the news", |rig| rig.received(peer) == b"news, news");
        rig.settle();
        assert_eq!(rig.event_loop.net().conn_stats(id).expect("it is open").sends, 1);
    }
    assert!(waited.get(), "the last callback still sees all of it queued");
    assert_eq!(rig.received(speaker), b"done");
    assert_eq!(rig.event_loop.net().conn_stats(from).expect("it is open").sends, 1);
    if kind.is_script() {
        assert_eq!(rig.calls().sends, 21);
    }
}

fn a_flush_hands_the_queue_over_at_once(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    let (_, other) = rig.client();
    let flushed = Rc::new(Cell::new(false));
    rig.handler.on_data = Some(Box::new({
        let flushed = Rc::clone(&flushed);
        move |net, conn, data| {
            for id in [conn, other] {
                net.write(id, data);
                assert_eq!(net.queued_bytes(id), data.len());
                assert!(net.flush(id));
                // A send in flight is still queued; another write does not join it.
                let in_flight = kind.is_completion();
                assert_eq!(net.queued_bytes(id), if in_flight { data.len() } else { 0 });
                net.write(id, b"!");
                let cost = if in_flight { data.len() + OVERHEAD } else { 0 };
                assert_eq!(net.queued_cost(id), cost + 1 + OVERHEAD);
            }
            flushed.set(true);
            data.len()
        }
    }));
    rig.send(peer, b"now");
    rig.until("the echo", |rig| rig.received(peer) == b"now!");
    rig.settle();
    assert!(flushed.get());
    for id in [conn, other] {
        assert_eq!(rig.event_loop.net().conn_stats(id).expect("it is open").sends, 2);
    }
}

fn a_flush_of_a_stale_id_says_so(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (_, conn) = rig.client();
    rig.event_loop.net().abort(conn);
    rig.until_closed(conn);
    let net = rig.event_loop.net();
    assert!(!net.flush(conn));
    assert_eq!(net.write(conn, b"x"), Sent::Closed);
    assert_eq!(net.write(conn, b""), Sent::Closed, "an id that is stale is told so");
    assert_eq!((net.queued_bytes(conn), net.queued_cost(conn)), (0, 0));
}

fn the_cost_is_payload_and_segments_and_sealed_room(kind: Kind) {
    let mut rig = Rig::with(kind, without_limits());
    let (peer, conn) = rig.client();
    let net = rig.event_loop.net();
    let mut expected = 0;
    let mut total = 0;
    let mut step = |shared: bool, len: usize, added: usize| {
        let sent = if shared {
            net.write_shared(conn, Bytes::from(vec![b's'; len]))
        } else {
            net.write(conn, &vec![b'c'; len])
        };
        assert!(sent.is_taken());
        expected += added;
        total += len;
        let counted = (net.queued_bytes(conn), net.queued_cost(conn));
        assert_eq!(counted, (total, expected), "after {len} bytes, shared: {shared}");
        assert_eq!(net.stats().buffered_bytes, expected as u64);
        assert_eq!(net.stats().queued_bytes, total as u64);
    };
    step(false, 10, 10 + OVERHEAD);
    step(false, 90, 90);
    step(false, CHUNK - 100, CHUNK - 100);
    step(false, 1, 1 + OVERHEAD);
    step(true, 500, 500 + OVERHEAD + (CHUNK - 1));
    step(true, 500, 500 + OVERHEAD);
    step(false, 6, 6 + OVERHEAD);
    step(true, 1, 1 + OVERHEAD + (SMALL_CHUNK - 6));
    step(false, SMALL_CHUNK + 1, SMALL_CHUNK + 1 + OVERHEAD);
    step(true, 1, 1 + OVERHEAD + (CHUNK - SMALL_CHUNK - 1));
    step(false, 2 * LARGE_CHUNK + CHUNK + 5, 2 * LARGE_CHUNK + CHUNK + 5 + 4 * OVERHEAD);
    step(true, 70_000, 70_000 + OVERHEAD + (CHUNK - 5));
    rig.until("all", |rig| rig.received(peer).len() == total);
    rig.settle();
    let stats = rig.event_loop.net().stats();
    assert_eq!((stats.buffered_bytes, stats.queued_bytes), (0, 0));
}

fn the_cost_falls_with_each_byte_and_by_the_rest_of_a_segment_at_its_end(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    rig.stop_reading(peer);
    let net = rig.event_loop.net();
    net.write(conn, &[1; 100]);
    net.write_shared(conn, Bytes::from(vec![2; 50]));
    let slack = CHUNK - 100;
    assert_eq!(net.queued_cost(conn), 150 + 2 * OVERHEAD + slack);
    for (received, cost) in [
        (1, 149 + 2 * OVERHEAD + slack),
        (99, 51 + 2 * OVERHEAD + slack),
        (100, 50 + OVERHEAD),
        (149, 1 + OVERHEAD),
        (150, 0),
    ] {
        rig.settle_at(peer, received);
        let net = rig.event_loop.net();
        assert_eq!(net.queued_cost(conn), cost, "{received} received");
        assert_eq!(net.queued_bytes(conn), 150 - received);
        assert_eq!(net.stats().buffered_bytes, cost as u64);
    }
}

fn every_accepted_byte_is_sent_or_queued_or_dropped_at_every_step(kind: Kind) {
    for seed in 1..=if kind.is_virtual() { 10 } else { 3 } {
        let mut random = Random(seed);
        let mut rig = Rig::with(kind, without_limits());
        let (peer, conn) = rig.client();
        let source = noise(40_000);
        let mut accepted = Vec::new();
        for _ in 0..300 {
            let most = if random.below(20) == 0 { 40_000 } else { 300 };
            let piece = &source[..random.below(most)];
            match random.below(8) {
                0 | 1 => assert!(rig.event_loop.net().write(conn, piece).is_taken()),
                2 | 3 => {
                    let shared = Bytes::copy_from_slice(piece);
                    assert!(rig.event_loop.net().write_shared(conn, shared).is_taken());
                }
                4 => assert!(rig.event_loop.net().flush(conn)),
                5 => rig.stop_reading(peer),
                6 => rig.start_reading(peer),
                _ => {
                    rig.turn();
                }
            }
            if accepted.len() < total_accepted(&mut rig, conn) {
                accepted.extend(piece);
            }
            assert_eq!(accepted.len(), total_accepted(&mut rig, conn));
            assert_balanced(rig.event_loop.net(), conn, 0);
        }
        rig.stop_reading(peer);
        rig.event_loop.net().write(conn, b"never sent");
        let queued = rig.event_loop.net().queued_bytes(conn) as u64;
        rig.event_loop.net().abort(conn);
        let (reason, dropped) = rig.until_closed(conn);
        assert_eq!(reason, CloseReason::LocalAbort);
        assert!(dropped <= queued && dropped >= 10, "{dropped} of {queued}");
        let stats = rig.event_loop.net().stats();
        assert_eq!(stats.accepted_bytes, stats.sent_bytes + stats.dropped_bytes);
        assert_eq!((stats.queued_bytes, stats.buffered_bytes), (0, 0));
        assert_eq!((stats.dropped_bytes, stats.accepted_bytes), (dropped, queued_total(&accepted)));
        if kind.is_script() {
            let received = rig.received(peer);
            assert_eq!(received.len() as u64, stats.sent_bytes);
            assert!(accepted.starts_with(&received), "seed {seed}");
        }
    }
}

fn a_burst_gives_its_buffers_back(kind: Kind) {
    const POOL: usize = 100_000;
    let mut rig = Rig::with(kind, without_limits().pool_max_bytes(POOL));
    let clients: Vec<(Peer, ConnId)> = (0..10).map(|_| rig.client()).collect();
    for round in 1..=3 {
        for (_, conn) in &clients {
            let net = rig.event_loop.net();
            net.write(*conn, &[1; 300_000]);
            net.write_shared(*conn, Bytes::from(vec![2; 100_000]));
            net.write(*conn, &[3; 10]);
        }
        let stats = rig.event_loop.net().stats();
        assert!(stats.buffered_bytes > 10 * 400_010, "{}", stats.buffered_bytes);
        for (peer, _) in &clients {
            rig.until("all", |rig| rig.received(*peer).len() == round * 400_010);
        }
        rig.settle();
        let stats = rig.event_loop.net().stats();
        assert_eq!((stats.buffered_bytes, stats.queued_bytes), (0, 0));
        assert!(stats.pooled_bytes > 0 && stats.pooled_bytes <= POOL, "{}", stats.pooled_bytes);
    }
}

fn an_abort_gives_the_buffers_back_too(kind: Kind) {
    let mut rig = Rig::with(kind, without_limits().pool_max_bytes(CHUNK));
    let (peer, conn) = rig.client();
    rig.stop_reading(peer);
    write_mixed(rig.event_loop.net(), conn, 50_000);
    rig.event_loop.net().abort(conn);
    assert_eq!(rig.until_closed(conn), (CloseReason::LocalAbort, 50_000));
    let stats = rig.event_loop.net().stats();
    assert_eq!((stats.buffered_bytes, stats.queued_bytes), (0, 0));
    assert!(stats.pooled_bytes <= CHUNK, "{}", stats.pooled_bytes);
}

on_every_backend!(
    a_write_of_nothing_is_queued_and_sends_nothing,
    empty_writes_between_others_cost_nothing,
    a_million_one_byte_writes_are_coalesced,
    one_write_of_100_mib_arrives_intact,
    five_thousand_segments_of_all_sizes_arrive_in_order,
    more_shared_segments_than_a_send_can_name_arrive,
    copied_and_shared_writes_keep_their_order,
    several_writes_in_one_callback_are_one_send,
    other_connections_are_flushed_once_each_when_the_turn_ends,
    a_flush_hands_the_queue_over_at_once,
    a_flush_of_a_stale_id_says_so,
    the_cost_is_payload_and_segments_and_sealed_room,
    every_accepted_byte_is_sent_or_queued_or_dropped_at_every_step,
    a_burst_gives_its_buffers_back,
    an_abort_gives_the_buffers_back_too,
);
// A window of so many bytes is not to be had from a kernel.
on_script!(
    a_send_that_takes_a_part_is_resumed_exactly,
    a_queue_that_is_stuck_is_resumed_at_every_byte,
    the_cost_falls_with_each_byte_and_by_the_rest_of_a_segment_at_its_end,
);

// Only in the readiness dialect does a send say that it was blocked.
#[test]
fn a_send_that_stops_short_is_not_tried_again_without_room() {
    let mut rig = Rig::new(Kind::ScriptReadiness);
    let (peer, conn) = rig.client();
    rig.stop_reading(peer);
    rig.event_loop.net().write(conn, &[1; 100]);
    rig.settle();
    let before = rig.calls().sends;
    rig.world().set_window(rig.scripted(peer), 10);
    rig.settle();
    rig.event_loop.net().write(conn, &[1; 100]);
    rig.settle();
    assert_eq!(rig.received(peer), [1; 10]);
    assert_eq!(rig.calls().sends, before + 1);
}

// Only the completion dialect has sends in flight.
#[test]
fn writes_during_a_flight_go_behind_it() {
    let mut rig = Rig::new(Kind::ScriptCompletion);
    let (peer, conn) = rig.client();
    rig.stop_reading(peer);
    rig.event_loop.net().write(conn, b"first ");
    rig.turn();
    let net = rig.event_loop.net();
    net.write(conn, b"second ");
    net.write_shared(conn, Bytes::from_static(b"third "));
    net.write(conn, b"fourth");
    assert!(net.flush(conn), "which sends nothing: one send in flight at a time");
    assert_eq!(net.queued_bytes(conn), 6 + 7 + 6 + 6);
    rig.settle();
    assert_eq!(rig.calls().sends, 1);
    rig.start_reading(peer);
    rig.until("all", |rig| rig.received(peer) == b"first second third fourth");
    assert_eq!(rig.calls().sends, 2, "all that waited leaves together");
}

#[test]
fn an_abort_during_a_flight_drops_what_was_not_taken() {
    let mut rig = Rig::new(Kind::ScriptCompletion);
    let (peer, conn) = rig.client();
    rig.world().set_window(rig.scripted(peer), 10);
    rig.event_loop.net().write(conn, &[1; 100]);
    rig.settle();
    rig.event_loop.net().write(conn, &[2; 50]);
    assert_eq!(rig.event_loop.net().queued_bytes(conn), 140);
    rig.event_loop.net().abort(conn);
    assert_eq!(rig.until_closed(conn), (CloseReason::LocalAbort, 140));
    assert_eq!(rig.received(peer), [1; 10]);
}

#[test]
fn a_flight_that_ends_in_the_turn_of_an_abort_is_counted_as_sent() {
    let mut rig = Rig::new(Kind::ScriptCompletion);
    let (peer, conn) = rig.client();
    rig.world().set_window(rig.scripted(peer), 30);
    rig.event_loop.net().write(conn, &[1; 100]);
    rig.turn();
    rig.handler.on_turn_start = Some(Box::new(move |net| net.abort(conn)));
    assert_eq!(rig.until_closed(conn), (CloseReason::LocalAbort, 70));
    assert_eq!(rig.received(peer), [1; 30]);
    let stats = rig.event_loop.net().stats();
    assert_eq!((stats.sent_bytes, stats.dropped_bytes), (30, 70));
}

/// No limit of the queue, none of the loop.
fn without_limits() -> Config {
    let conn = ConnOptions::default().hard_limit_bytes(Limit::Unlimited);
    Config::default().global_buffer_bytes(Limit::Unlimited).conn(conn)
}

/// Closes behind what was written, and returns what the peer has when it sees the end.
fn all_that_arrives(rig: &mut Rig, peer: Peer, conn: ConnId) -> Vec<u8> {
    rig.event_loop.net().close(conn);
    rig.until("the end", |rig| rig.at_end(peer));
    let stats = rig.event_loop.net().conn_stats(conn).expect("it lingers");
    let received = rig.received(peer);
    assert_eq!(stats.sent_bytes, received.len() as u64);
    received
}

/// Writes so many bytes in pieces of all kinds; returns them.
fn write_mixed(net: &mut Net, conn: ConnId, len: usize) -> Vec<u8> {
    let all = noise(len);
    let mut random = Random(7);
    let mut rest = &all[..];
    while !rest.is_empty() {
        let most = [3, 300, 3000, 9000][random.below(4)];
        let (piece, behind) = rest.split_at((1 + random.below(most)).min(rest.len()));
        if random.below(2) == 0 {
            net.write(conn, piece);
        } else {
            net.write_shared(conn, Bytes::copy_from_slice(piece));
        }
        rest = behind;
    }
    all
}

fn assert_balanced(net: &Net, conn: ConnId, dropped: u64) {
    let stats = net.conn_stats(conn).expect("it is open");
    let queued = net.queued_bytes(conn) as u64;
    assert_eq!(stats.accepted_bytes, stats.sent_bytes + queued + dropped);
    assert!(net.queued_cost(conn) as u64 >= queued);
    let all = net.stats();
    assert_eq!(all.accepted_bytes, all.sent_bytes + all.queued_bytes + all.dropped_bytes);
    assert_eq!((all.queued_bytes, all.buffered_bytes), (queued, net.queued_cost(conn) as u64));
}

fn total_accepted(rig: &mut Rig, conn: ConnId) -> usize {
    let stats = rig.event_loop.net().conn_stats(conn).expect("it is open");
    usize::try_from(stats.accepted_bytes).expect("it fits into memory")
}

fn queued_total(accepted: &[u8]) -> u64 {
    (accepted.len() + b"never sent".len()) as u64
}

impl Rig {
    /// Lets the peer have so many bytes in all, and no more.
    fn settle_at(&mut self, peer: Peer, total: usize) {
        let more = total - self.received(peer).len();
        self.world().set_window(self.scripted(peer), more);
        self.settle();
    }
}

/// Bytes in which a piece that is lost, repeated or out of place shows.
fn noise(len: usize) -> Vec<u8> {
    let mut random = Random(99);
    let block: Vec<u8> = (0..100_003).map(|_| random.next().to_le_bytes()[3]).collect();
    let mut all = block.repeat(len.div_ceil(block.len()));
    all.truncate(len);
    all
}

/// A small generator (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, bound: usize) -> usize {
        let bound = bound.max(1) as u64;
        usize::try_from(self.next() % bound).expect("it is below a usize")
    }
}

// With completions it is the send that waits.
#[test]
fn a_queue_that_waits_for_room_tells_the_backend_once_and_takes_it_back_once() {
    let mut rig = Rig::new(Kind::ScriptReadiness);
    let (peer, conn) = rig.client();
    let before = rig.calls().interests;
    let inner = rig.scripted(peer);
    rig.world().set_window(inner, 10);
    for sent in 1..=5 {
        rig.event_loop.net().write(conn, &[7; 100]);
        rig.settle();
        assert_eq!(rig.event_loop.net().queued_bytes(conn), sent * 100 - 10);
        assert_eq!(rig.calls().interests, before + 1, "{sent} writes");
    }
    rig.world().set_window(inner, usize::MAX);
    rig.until("the rest", |rig| rig.received(peer).len() == 500);
    rig.settle();
    assert_eq!(rig.calls().interests, before + 2);
}
