//! Consumption: what `on_data` does not consume comes again, first and contiguous with what
//! follows (C7), within limits, and its memory is given back.

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};

use hotloop::{CloseReason, Config, ConnId, ConnOptions, LimitKind, Net};
use support::{Call, Kind, Peer, Rig};

fn what_is_left_comes_again_first_and_contiguous(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.on_data = Some(Box::new(|_, _, data| data.len().min(2)));
    let (peer, conn) = rig.client();
    rig.send(peer, b"hello");
    rig.until("the first bytes", |rig| rig.handler.shown(conn).len() == 1);
    assert_eq!(kept_bytes(&mut rig, conn), 3);
    rig.send(peer, b", world");
    rig.until("the next bytes", |rig| rig.handler.shown(conn).len() == 2);
    assert_eq!(rig.handler.shown(conn), [&b"hello"[..], b"llo, world"]);
    assert_eq!(kept_bytes(&mut rig, conn), 8);
    assert_nothing_lent(&rig);
}

fn what_is_left_comes_again_only_with_new_bytes_or_after_a_resume(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.on_data = Some(Box::new(|_, _, _| 0));
    let (peer, conn) = rig.client();
    rig.send(peer, b"abc");
    rig.until("the bytes", |rig| !rig.handler.shown(conn).is_empty());
    rig.settle();
    assert_eq!(rig.handler.shown(conn), [b"abc"]);
    assert!(rig.event_loop.net().resume_reading(conn));
    rig.settle();
    assert_eq!(rig.handler.shown(conn), [b"abc", b"abc"]);
    rig.send(peer, b"d");
    rig.until("the new byte", |rig| rig.handler.shown(conn).len() == 3);
    rig.settle();
    assert_eq!(rig.handler.shown(conn), [&b"abc"[..], b"abc", b"abcd"]);
    assert_nothing_lent(&rig);
}

fn a_stream_can_be_consumed_byte_by_byte(kind: Kind) {
    let mut rig = Rig::new(kind);
    let sent = pattern(700);
    follow(&mut rig, &sent, |net, conn, _| {
        net.resume_reading(conn);
        1
    });
    let (peer, conn) = rig.client();
    for piece in sent.chunks(333) {
        rig.send(peer, piece);
        rig.turn();
    }
    rig.until("every byte", |rig| rig.handler.consumed.len() == sent.len());
    assert_eq!(rig.handler.consumed, sent);
    assert_eq!(rig.handler.shown(conn).len(), sent.len(), "one callback for each byte");
    rig.settle();
    assert_eq!(rig.handler.shown(conn).len(), sent.len(), "nothing is shown when none is left");
    assert_nothing_lent(&rig);
}

fn frames_are_reassembled_from_pieces_of_any_size(kind: Kind) {
    for seed in 1..=12 {
        reassemble_frames(kind, seed, whole_frames);
    }
}

fn frames_can_be_consumed_one_per_callback(kind: Kind) {
    for seed in 101..=106 {
        reassemble_frames(kind, seed, |net, conn, data| {
            net.resume_reading(conn);
            first_frame(data)
        });
    }
}

/// Sends frames of odd lengths in random pieces, and wants all of them consumed.
fn reassemble_frames(
    kind: Kind,
    seed: u64,
    consume: impl FnMut(&mut Net, ConnId, &[u8]) -> usize + 'static,
) {
    println!("seed {seed}: call reassemble_frames with it to replay");
    let mut random = Random(seed);
    // A receive memory and a budget of odd sizes: receives end anywhere in a frame.
    let config = Config::default().recv_buffer_bytes(512 + random.below(3000));
    let mut rig = Rig::with(kind, config.read_budget_bytes(1 + random.below(5000)));
    let sent = frames(&mut random, 60);
    follow(&mut rig, &sent, consume);
    let (peer, conn) = rig.client();
    let mut at = 0;
    while at < sent.len() {
        let end = (at + 1 + random.below(900)).min(sent.len());
        rig.send(peer, &sent[at..end]);
        at = end;
        if random.below(3) > 0 {
            rig.turn();
        }
    }
    rig.until("all frames", |rig| rig.handler.consumed.len() == sent.len());
    assert_eq!(rig.handler.consumed, sent, "seed {seed}");
    assert_eq!(kept_bytes(&mut rig, conn), 0, "seed {seed}");
    assert_eq!(rig.event_loop.net().stats().buffered_bytes, 0, "seed {seed}");
    assert_nothing_lent(&rig);
}

/// The FIN does not make a frame whole: what is left of it is the rest.
fn the_rest_is_handed_over_with_the_fin_and_not_shown_again(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.on_data = Some(Box::new(|_, _, _| 1));
    let (peer, conn) = rig.client();
    rig.send(peer, b"partial");
    rig.until("the bytes", |rig| !rig.handler.shown(conn).is_empty());
    rig.finish(peer);
    assert_eq!(rig.until_closed(conn), (CloseReason::PeerClosed, 0));
    let told = Call::ReadClosed(conn, b"artial".to_vec());
    assert_eq!(rig.handler.count(|call| *call == told), 1);
    assert_eq!(rig.handler.shown(conn), [b"partial"]);
    assert_eq!(rig.event_loop.net().stats().discarded_bytes, 6);
    assert_eq!(rig.event_loop.net().stats().buffered_bytes, 0);
    assert_nothing_lent(&rig);
}

const INBOUND_MAX_BYTES: usize = 1000;

/// A rig whose connections may leave so many bytes, and a handler that consumes nothing.
fn hoarding(kind: Kind) -> (Rig, Peer, ConnId) {
    let options = ConnOptions::default().inbound_max_bytes(INBOUND_MAX_BYTES);
    let mut rig = Rig::with(kind, Config::default().conn(options));
    rig.handler.on_data = Some(Box::new(|_, _, _| 0));
    let (peer, conn) = rig.client();
    (rig, peer, conn)
}

fn leaving_as_much_as_the_limit_is_fine_and_one_byte_more_is_not(kind: Kind) {
    let (mut rig, peer, conn) = hoarding(kind);
    rig.send(peer, &pattern(INBOUND_MAX_BYTES));
    rig.until("all bytes", |rig| kept_bytes(rig, conn) == INBOUND_MAX_BYTES);
    rig.settle();
    assert!(rig.event_loop.net().is_open(conn));
    rig.send(peer, b"!");
    rig.until("the limit", |rig| !rig.event_loop.net().is_open(conn));
    rig.finish(peer);
    assert_eq!(rig.until_closed(conn), (CloseReason::Limit(LimitKind::Inbound), 0));
    let last = rig.handler.shown(conn).pop().expect("it was shown bytes");
    assert_eq!(last.len(), INBOUND_MAX_BYTES + 1, "the handler could have consumed them");
    assert_counted_as_discarded(&mut rig, INBOUND_MAX_BYTES + 1);
}

fn one_delivery_over_the_limit_is_enough(kind: Kind) {
    let (mut rig, peer, conn) = hoarding(kind);
    rig.send(peer, &pattern(3 * INBOUND_MAX_BYTES));
    rig.finish(peer);
    assert_eq!(rig.until_closed(conn), (CloseReason::Limit(LimitKind::Inbound), 0));
    assert_counted_as_discarded(&mut rig, 3 * INBOUND_MAX_BYTES);
}

fn the_limit_counts_what_is_left_and_not_what_is_shown(kind: Kind) {
    let (mut rig, peer, conn) = hoarding(kind);
    rig.handler.on_data = Some(Box::new(|_, _, data| data.len().saturating_sub(INBOUND_MAX_BYTES)));
    for _ in 0..5 {
        rig.send(peer, &pattern(700));
        rig.settle();
    }
    assert_eq!(kept_bytes(&mut rig, conn), INBOUND_MAX_BYTES);
    assert!(rig.event_loop.net().is_open(conn));
    rig.event_loop.net().abort(conn);
    rig.until_closed(conn);
    assert_counted_as_discarded(&mut rig, INBOUND_MAX_BYTES);
}

/// Everything received that was not consumed is counted, and its memory is free.
fn assert_counted_as_discarded(rig: &mut Rig, bytes: usize) {
    let stats = rig.event_loop.net().stats();
    assert_eq!((stats.discarded_bytes, stats.buffered_bytes), (bytes as u64, 0));
    assert_nothing_lent(rig);
}

/// What one connection costs that keeps one byte.
fn cost_of_keeping_a_byte() -> usize {
    let mut rig = Rig::new(Kind::ScriptReadiness);
    rig.handler.on_data = Some(Box::new(|_, _, _| 0));
    let (peer, _) = rig.client();
    rig.send(peer, b"x");
    rig.settle();
    let cost = rig.event_loop.net().stats().buffered_bytes;
    usize::try_from(cost).expect("a buffer")
}

/// Three connections keep a byte each, one after the other.
fn keep_three(kind: Kind, global_buffer_bytes: usize) -> (Rig, Vec<(Peer, ConnId)>) {
    let config = Config::default().global_buffer_bytes(global_buffer_bytes);
    let mut rig = Rig::with(kind, config);
    rig.handler.on_data = Some(Box::new(|_, _, _| 0));
    let clients: Vec<_> = (0..3).map(|_| rig.client()).collect();
    for (peer, conn) in &clients {
        rig.send(*peer, b"x");
        rig.until("the byte", |rig| rig.handler.shown(*conn).len() == 1);
    }
    rig.settle();
    (rig, clients)
}

fn kept_input_may_fill_the_loops_buffers(kind: Kind) {
    let cost = cost_of_keeping_a_byte();
    let (mut rig, clients) = keep_three(kind, 3 * cost);
    assert_eq!(rig.event_loop.net().stats().buffered_bytes, 3 * cost as u64);
    for (_, conn) in clients {
        assert_eq!(kept_bytes(&mut rig, conn), 1);
        assert!(rig.event_loop.net().is_open(conn));
    }
}

fn kept_input_past_the_loops_buffers_closes_the_one_that_needs_it(kind: Kind) {
    let cost = cost_of_keeping_a_byte();
    let (mut rig, clients) = keep_three(kind, 3 * cost - 1);
    let (peer, last) = clients[2];
    rig.finish(peer);
    assert_eq!(rig.until_closed(last), (CloseReason::Limit(LimitKind::Buffers), 0));
    for (_, conn) in &clients[..2] {
        assert_eq!(kept_bytes(&mut rig, *conn), 1);
        assert!(rig.event_loop.net().is_open(*conn));
    }
    let stats = rig.event_loop.net().stats();
    assert_eq!((stats.discarded_bytes, stats.buffered_bytes), (1, 2 * cost as u64));
    assert_nothing_lent(&rig);
}

fn consuming_more_than_was_given_panics_and_costs_the_connection(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.on_data = Some(Box::new(|_, _, data| data.len() + 1));
    let (peer, conn) = rig.client();
    rig.send(peer, b"abc");
    assert_panics_with_c7(&mut rig);
    assert_panicked_connection_ends(&mut rig, peer, conn);
}

fn consuming_more_than_was_shown_again_panics_too(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.on_data = Some(Box::new(|_, _, _| 1));
    let (peer, conn) = rig.client();
    rig.send(peer, b"abc");
    rig.until("the bytes", |rig| rig.handler.shown(conn).len() == 1);
    rig.handler.on_data = Some(Box::new(|_, _, _| 3));
    rig.event_loop.net().resume_reading(conn);
    assert_panics_with_c7(&mut rig);
    assert_panicked_connection_ends(&mut rig, peer, conn);
    assert_counted_as_discarded(&mut rig, 2);
}

fn assert_panics_with_c7(rig: &mut Rig) {
    for _ in 0..1000 {
        let Err(panic) = catch_unwind(AssertUnwindSafe(|| rig.turn())) else { continue };
        let message = panic.downcast_ref::<String>().expect("a formatted message");
        assert!(message.contains("C7"), "{message}");
        return;
    }
    panic!("the loop believes a handler that consumed more than there was");
}

/// The connection ends, and the loop serves the next one.
fn assert_panicked_connection_ends(rig: &mut Rig, peer: Peer, conn: ConnId) {
    assert_eq!(rig.until_closed(conn), (CloseReason::HandlerPanicked, 0));
    rig.until("the reset", |rig| rig.is_reset(peer));
    rig.handler.echo();
    let (next, _) = rig.client();
    rig.send(next, b"still there?");
    rig.until("the echo", |rig| rig.received(next) == b"still there?");
    rig.settle();
    assert_nothing_lent(rig);
}

fn a_buffer_is_given_back_when_its_bytes_are_consumed(kind: Kind) {
    const POOL_BYTES: usize = 20_000;
    let mut rig = Rig::with(kind, Config::default().pool_max_bytes(POOL_BYTES));
    rig.handler.on_data = Some(Box::new(|_, _, _| 0));
    let clients: Vec<_> = (0..20).map(|_| rig.client()).collect();
    for (peer, conn) in &clients {
        rig.send(*peer, &pattern(3000));
        rig.until("its bytes", |rig| kept_bytes(rig, *conn) == 3000);
    }
    assert!(rig.event_loop.net().stats().buffered_bytes >= 20 * 3000);
    rig.handler.on_data = None;
    for (_, conn) in &clients {
        rig.event_loop.net().resume_reading(*conn);
    }
    rig.settle();
    let stats = rig.event_loop.net().stats();
    assert_eq!((stats.buffered_bytes, stats.discarded_bytes), (0, 0));
    assert!((1..=POOL_BYTES).contains(&stats.pooled_bytes), "{}", stats.pooled_bytes);
    assert_nothing_lent(&rig);
}

fn a_large_message_does_not_pin_its_memory(kind: Kind) {
    const LARGE: usize = 600_000;
    let mut rig = Rig::new(kind);
    rig.handler.on_data = Some(Box::new(|_, _, data| if data.len() < LARGE { 0 } else { LARGE }));
    let (peer, _) = rig.client();
    rig.send(peer, &pattern(LARGE));
    rig.until("the whole message", |rig| rig.handler.consumed.len() == LARGE);
    let stats = rig.event_loop.net().stats();
    assert_eq!(stats.buffered_bytes, 0);
    assert!(stats.pooled_bytes <= 64 << 10, "{}", stats.pooled_bytes);
    assert_nothing_lent(&rig);
}

fn closing_inside_on_data_drops_and_counts_what_is_left(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.on_data = Some(Box::new(|net, conn, _| {
        net.write(conn, b"bye");
        net.close(conn);
        2
    }));
    let (peer, conn) = rig.client();
    rig.send(peer, b"abcdef");
    rig.until("the close", |rig| !rig.event_loop.net().is_open(conn));
    rig.finish(peer);
    assert_eq!(rig.until_closed(conn), (CloseReason::LocalClose, 0));
    rig.until("the FIN", |rig| rig.at_end(peer));
    assert_eq!(rig.received(peer), b"bye");
    assert_eq!(rig.handler.shown(conn), [b"abcdef"]);
    assert_counted_as_discarded(&mut rig, 4);
}

fn closing_while_shown_again_drops_and_counts_what_is_left(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.on_data = Some(Box::new(|net, conn, data| {
        if data.starts_with(b"b") {
            net.close(conn);
        }
        1
    }));
    let (peer, conn) = rig.client();
    rig.send(peer, b"abcdef");
    rig.until("the bytes", |rig| rig.handler.shown(conn).len() == 1);
    rig.event_loop.net().resume_reading(conn);
    rig.until("the close", |rig| !rig.event_loop.net().is_open(conn));
    rig.finish(peer);
    assert_eq!(rig.until_closed(conn), (CloseReason::LocalClose, 0));
    assert_eq!(rig.handler.shown(conn), [&b"abcdef"[..], b"bcdef"]);
    assert_counted_as_discarded(&mut rig, 4);
}

fn aborting_inside_on_data_drops_and_counts_what_is_left(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.on_data = Some(Box::new(|net, conn, _| {
        net.abort(conn);
        2
    }));
    let (peer, conn) = rig.client();
    rig.send(peer, b"abcdef");
    assert_eq!(rig.until_closed(conn), (CloseReason::LocalAbort, 0));
    rig.until("the reset", |rig| rig.is_reset(peer));
    assert_eq!(rig.handler.shown(conn), [b"abcdef"]);
    assert_counted_as_discarded(&mut rig, 4);
}

/// Many receives in one turn: each buffer is back before the next is lent.
fn a_lent_buffer_is_released_when_on_data_returns(kind: Kind) {
    let mut rig = Rig::with(kind, Config::default().recv_buffer_bytes(512));
    let lent_most = usize::from(kind == Kind::ScriptCompletion);
    let world = rig.world().clone();
    rig.handler.on_data = Some(Box::new(move |_, _, data| {
        assert!(world.lent_buffers() <= lent_most, "{} are lent", world.lent_buffers());
        // Sometimes all of it, sometimes a part: both ways to hold the bytes.
        data.len() - usize::from(data[0] % 3 == 0)
    }));
    let world = rig.world().clone();
    rig.handler.on_turn_end = Some(Box::new(move |_| assert_eq!(world.lent_buffers(), 0)));
    let (peer, conn) = rig.client();
    let sent = pattern(20_000);
    rig.send(peer, &sent);
    rig.until("all bytes", |rig| rig.handler.consumed.len() >= sent.len() - 1);
    let stats = rig.event_loop.net().conn_stats(conn).expect("it is open");
    assert_eq!(rig.handler.consumed, sent[..sent.len() - stats.kept_bytes]);
    assert!(stats.receives >= 20_000 / 512);
}

// Only the scripted world tells which buffers are lent.
on_script!(a_lent_buffer_is_released_when_on_data_returns,);

on_every_backend!(
    what_is_left_comes_again_first_and_contiguous,
    what_is_left_comes_again_only_with_new_bytes_or_after_a_resume,
    a_stream_can_be_consumed_byte_by_byte,
    frames_are_reassembled_from_pieces_of_any_size,
    frames_can_be_consumed_one_per_callback,
    the_rest_is_handed_over_with_the_fin_and_not_shown_again,
    leaving_as_much_as_the_limit_is_fine_and_one_byte_more_is_not,
    one_delivery_over_the_limit_is_enough,
    the_limit_counts_what_is_left_and_not_what_is_shown,
    kept_input_may_fill_the_loops_buffers,
    kept_input_past_the_loops_buffers_closes_the_one_that_needs_it,
    consuming_more_than_was_given_panics_and_costs_the_connection,
    consuming_more_than_was_shown_again_panics_too,
    a_buffer_is_given_back_when_its_bytes_are_consumed,
    a_large_message_does_not_pin_its_memory,
    closing_inside_on_data_drops_and_counts_what_is_left,
    closing_while_shown_again_drops_and_counts_what_is_left,
    aborting_inside_on_data_drops_and_counts_what_is_left,
);

fn kept_bytes(rig: &mut Rig, conn: ConnId) -> usize {
    rig.event_loop.net().conn_stats(conn).expect("it is open").kept_bytes
}

/// A completion backend has all its buffers back.
fn assert_nothing_lent(rig: &Rig) {
    if rig.kind.is_script() {
        assert_eq!(rig.world().lent_buffers(), 0);
    }
}

/// Makes the handler check that it is shown where the stream goes on, and consume as it is told.
fn follow(
    rig: &mut Rig,
    sent: &[u8],
    mut consume: impl FnMut(&mut Net, ConnId, &[u8]) -> usize + 'static,
) {
    let sent = sent.to_vec();
    let mut at = 0;
    rig.handler.on_data = Some(Box::new(move |net, conn, data| {
        assert!(sent[at..].starts_with(data), "C7: {} bytes shown at {at}", data.len());
        let consumed = consume(net, conn, data);
        at += consumed;
        consumed
    }));
}

fn pattern(len: usize) -> Vec<u8> {
    (0..=250).cycle().take(len).collect()
}

/// Frames of odd lengths: two bytes that say how long, then the payload.
fn frames(random: &mut Random, count: usize) -> Vec<u8> {
    let mut stream = Vec::new();
    for _ in 0..count {
        let len = 2 * random.below(400) + 1;
        stream.extend(u16::try_from(len).expect("below 801").to_be_bytes());
        stream.extend((0..len).map(|_| u8::try_from(random.below(256)).expect("below 256")));
    }
    stream
}

/// How long the first frame is with its head; 0 if it is not whole.
fn first_frame(data: &[u8]) -> usize {
    let Some(head) = data.first_chunk() else { return 0 };
    let len = 2 + usize::from(u16::from_be_bytes(*head));
    if len <= data.len() { len } else { 0 }
}

fn whole_frames(_: &mut Net, _: ConnId, data: &[u8]) -> usize {
    let mut consumed = 0;
    loop {
        match first_frame(&data[consumed..]) {
            0 => return consumed,
            len => consumed += len,
        }
    }
}

/// A xorshift generator: a seed is all there is to a run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let bits = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(bits).expect("31 bits") % end
    }
}
