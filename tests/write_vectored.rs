//! Several pieces in one write: they are taken together or not at all, and lie and cost as the
//! same bytes in one piece.

mod support;

use hotloop::{Bytes, CloseReason, Config, ConnOptions, Limit, LimitKind, Sent, SlowConsumer};
use support::{Kind, Rig};

/// What a segment costs beyond its payload.
const OVERHEAD: usize = 128;
const HARD: usize = 1000;

fn pieces_arrive_in_order_and_in_one_send(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.on_data = Some(Box::new(|net, conn, data| {
        let sent = net.write_vectored(conn, &[b"", b"<", data, b"", b">", b""]);
        assert_eq!(sent, Sent::Queued);
        assert_eq!((net.queued_bytes(conn), net.queued_cost(conn)), (7, 7 + OVERHEAD));
        data.len()
    }));
    let (peer, conn) = rig.client();
    rig.send(peer, b"hello");
    rig.until("the pieces", |rig| rig.received(peer) == b"<hello>");
    rig.settle();
    let stats = rig.event_loop.net().conn_stats(conn).expect("it is open");
    assert_eq!((stats.accepted_bytes, stats.sent_bytes, stats.sends), (7, 7, 1));
}

fn pieces_of_nothing_are_queued_and_send_nothing(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    let net = rig.event_loop.net();
    assert_eq!(net.write_vectored(conn, &[]), Sent::Queued);
    assert_eq!(net.write_vectored(conn, &[b"", b""]), Sent::Queued);
    assert_eq!(net.queued_cost(conn), 0);
    assert!(net.flush(conn));
    rig.settle();
    assert_eq!(rig.event_loop.net().stats().sends, 0);
    rig.event_loop.net().write(conn, b"after");
    rig.until("what follows", |rig| rig.received(peer) == b"after");
}

/// Two connections are written the same bytes, one of them in pieces.
fn pieces_cost_as_much_as_the_bytes_in_one(kind: Kind) {
    let conn = ConnOptions::default().hard_limit_bytes(Limit::Unlimited);
    let mut rig = Rig::with(kind, Config::default().conn(conn));
    let ((one, whole), (other, parts)) = (rig.client(), rig.client());
    let source: Vec<u8> = (0..=250).cycle().take(100_000).collect();
    let net = rig.event_loop.net();
    let mut len = 0;
    for (round, size) in [10, 4096, 200, 20_000, 40_000, 1, 255, 4095, 16_384].iter().enumerate() {
        let data = &source[..*size];
        let (head, body) = data.split_at(size / 7);
        let sent = net.write(whole, data);
        assert_eq!(net.write_vectored(parts, &[head, body]), sent, "round {round}");
        assert_eq!(net.queued_cost(parts), net.queued_cost(whole), "round {round}");
        len += size;
        if round % 2 == 1 {
            net.write_shared(whole, Bytes::from_static(b"shared"));
            net.write_shared(parts, Bytes::from_static(b"shared"));
            len += 6;
        }
    }
    rig.until("all of both", |rig| {
        [one, other].iter().all(|peer| rig.received(*peer).len() == len)
    });
    assert!(rig.received(one) == rig.received(other), "the bytes differ");
    rig.settle();
    let stats = rig.event_loop.net().stats();
    assert_eq!((stats.buffered_bytes, stats.queued_bytes), (0, 0));
}

fn limited(kind: Kind, policy: SlowConsumer) -> Rig {
    let conn = ConnOptions::default().low_water_bytes(100).high_water_bytes(HARD);
    Rig::with(kind, Config::default().conn(conn.hard_limit_bytes(HARD).slow_consumer(policy)))
}

/// The first piece would fit by itself.
fn a_refusal_takes_nothing_of_any_piece(kind: Kind) {
    let mut rig = limited(kind, SlowConsumer::Refuse);
    let (peer, conn) = rig.client();
    let net = rig.event_loop.net();
    net.write(conn, b"first ");
    let body = [b'x'; HARD - OVERHEAD - 9];
    assert_eq!(net.write_vectored(conn, &[b"head", &body]), Sent::Refused);
    assert_eq!((net.queued_bytes(conn), net.stats().refused_writes), (6, 1));
    assert_eq!(net.write_vectored(conn, &[b"hea", &body]), Sent::Queued, "the limit is allowed");
    let expected = [b"first hea", &body[..]].concat();
    rig.until("what fits", |rig| rig.received(peer) == expected);
    rig.until("the end of pressure", |rig| rig.handler.writables(conn) == 1);
}

fn a_refusal_is_met_by_the_policy(kind: Kind) {
    let mut rig = limited(kind, SlowConsumer::Close);
    let (_, conn) = rig.client();
    let net = rig.event_loop.net();
    assert_eq!(net.write_vectored(conn, &[b"head", &[b'x'; HARD]]), Sent::Refused);
    assert_eq!(net.write_vectored(conn, &[b"head"]), Sent::Closed);
    assert_eq!(rig.until_closed(conn), (CloseReason::Limit(LimitKind::Outbound), 0));
}

fn a_write_above_the_mark_is_pressured_whatever_its_pieces(kind: Kind) {
    let conn = ConnOptions::default().low_water_bytes(100).high_water_bytes(500);
    let mut rig = Rig::with(kind, Config::default().conn(conn));
    let (peer, conn) = rig.client();
    let net = rig.event_loop.net();
    assert_eq!(net.write_vectored(conn, &[&[1; 300], &[2; 500 - OVERHEAD - 300]]), Sent::Queued);
    assert_eq!(net.write_vectored(conn, &[b"", b"+"]), Sent::Pressured);
    rig.until("the end of pressure", |rig| rig.handler.writables(conn) == 1);
    rig.until("all", |rig| rig.received(peer).len() == 501 - OVERHEAD);
}

fn pieces_written_before_the_connect_is_done_wait_for_it(kind: Kind) {
    let mut rig = Rig::new(kind);
    let addr = rig.server();
    let net = rig.event_loop.net();
    let conn = net.connect(addr).expect("there are slots");
    assert_eq!(net.write_vectored(conn, &[b"early ", b"bird"]), Sent::Queued);
    rig.until("the connect", |rig| rig.handler.connected == [conn]);
    let peer = rig.server_peer(addr).expect("it has been connected to");
    rig.until("the pieces", |rig| rig.received(peer) == b"early bird");
}

fn a_connection_that_takes_no_writes_takes_no_pieces(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    let net = rig.event_loop.net();
    net.shutdown(conn);
    assert_eq!(net.write_vectored(conn, &[b"too ", b"late"]), Sent::Closed);
    assert_eq!(net.write_vectored(conn, &[]), Sent::Closed);
    rig.finish(peer);
    rig.until_closed(conn);
    assert_eq!(rig.event_loop.net().write_vectored(conn, &[b"too ", b"late"]), Sent::Closed);
    assert_eq!(rig.received(peer), b"");
}

on_every_backend!(
    pieces_arrive_in_order_and_in_one_send,
    pieces_of_nothing_are_queued_and_send_nothing,
    pieces_cost_as_much_as_the_bytes_in_one,
    a_refusal_takes_nothing_of_any_piece,
    a_refusal_is_met_by_the_policy,
    a_write_above_the_mark_is_pressured_whatever_its_pieces,
    pieces_written_before_the_connect_is_done_wait_for_it,
    a_connection_that_takes_no_writes_takes_no_pieces,
);

// Only the completion dialect has sends in flight, whose chunk is sealed.
#[test]
fn pieces_during_a_flight_go_behind_it() {
    let mut rig = Rig::new(Kind::ScriptCompletion);
    let (peer, conn) = rig.client();
    rig.stop_reading(peer);
    rig.event_loop.net().write_vectored(conn, &[b"first", b" "]);
    rig.turn();
    let net = rig.event_loop.net();
    net.write_vectored(conn, &[b"sec", b"ond"]);
    assert_eq!(net.queued_cost(conn), 12 + 2 * OVERHEAD);
    rig.start_reading(peer);
    rig.until("all", |rig| rig.received(peer) == b"first second");
    assert_eq!(rig.calls().sends, 2);
}
