//! What the loop itself asks of a connection, of one that is gone.

use super::*;
use crate::backend::Event;
use crate::backend::script::{Dialect, World};
use crate::conn::Flags;
use crate::error::{CloseReason, Errno};
use crate::id::{Key, Kind};
use crate::recv_memory::RecvMemory;

/// The callers have all just found the connection, so that no run shows what else would happen; it
/// is nothing all the same, not a record of somebody else.
#[test]
fn what_names_a_connection_that_is_gone_changes_nothing() {
    let mut net = Net::new(Config::default(), World::new(Dialect::Readiness).backend());
    let other = net.connect("10.0.0.9:80").expect("there are slots");
    let stale = ConnId(Key::new(Kind::Conn, other.slot().try_into().expect("small"), 7));
    let mut memory = RecvMemory::new(1024);
    let before = (net.stats(), net.conn_stats(other));

    assert!(!net.finish_connect(stale) && !net.read_ended(stale));
    assert!(!net.is_lingering(stale) && !net.release(stale) && net.detach(stale).is_none());
    assert!(net.last_word(stale).is_none());
    net.decide(stale, CloseReason::Reset, true);
    net.settle(stale);
    net.fail(stale, Errno(32));
    net.free(stale);
    net.mark_flag(stale, Flags::READABLE);
    net.clear_flag(stale, Flags::READABLE);
    net.discard_input(stale, &mut memory);
    net.arm_deadline(stale);
    net.mark_dirty(stale);
    net.sent(stale, 1);
    net.send_failed(stale, Errno(32));
    net.watch_progress(stale);
    assert_eq!((net.stats(), net.conn_stats(other)), before);
    assert!(net.is_open(other) && !net.has_work());

    // What a send still tells is counted; the end of a socket is not, as a listener's has no slot.
    net.fold(Event::Sent { key: stale.0, result: Ok(1) });
    net.fold(Event::Ended { key: stale.0 });
    assert_eq!(net.stats().stale_events, 1);
    assert_eq!(net.conn_stats(other), before.1);
}

/// Between two callbacks a panic of the loop itself leaves a service without its end, and so does
/// a handler that swaps the `Net`s of two loops, twice: what one connection has staged does not
/// become another one's.
#[test]
fn a_service_that_is_not_ended_keeps_what_was_written() {
    let mut net = Net::new(Config::default(), World::new(Dialect::Readiness).backend());
    let serve_new = |net: &mut Net, text: &[u8]| {
        let conn = net.connect("10.0.0.9:80").expect("there are slots");
        let record = net.conns.get_mut(conn.0).expect("it is there");
        record.phase = crate::conn::Phase::Open;
        record.flags.set(Flags::WRITABLE);
        net.serving = Some(conn.0);
        assert_eq!(net.write(conn, text), Sent::Queued);
        conn
    };
    let is_staged = |net: &Net, conn: ConnId, text: &[u8]| {
        let record = net.conns.get(conn.0).expect("it is there");
        let piece = record.outbound.pieces(&net.segments, usize::MAX).next().expect("one piece");
        assert_eq!(piece.bytes, text);
        piece.segment.is_none()
    };
    let (one, two) = (serve_new(&mut net, b"one"), serve_new(&mut net, b"two"));
    assert_eq!((is_staged(&net, one, b"one"), is_staged(&net, two, b"two")), (true, false));
    net.abort(one);
    let three = serve_new(&mut net, b"three");
    assert!(is_staged(&net, three, b"three"), "the first one does not need it any more");
}

/// Or one slow peer would have all others do without it.
#[test]
fn what_the_kernel_does_not_take_leaves_the_stage() {
    let world = World::new(Dialect::Readiness);
    world.listen("10.0.0.9:80".parse().expect("an address"));
    let mut net = Net::new(Config::default(), world.backend());
    let conn = net.connect("10.0.0.9:80").expect("there are slots");
    let record = net.conns.get_mut(conn.0).expect("it is there");
    record.phase = crate::conn::Phase::Open;
    record.flags.set(Flags::WRITABLE);
    net.serving = Some(conn.0);
    assert_eq!(net.write(conn, b"later"), Sent::Queued);
    net.clear_flag(conn, Flags::WRITABLE);
    net.flush(conn);
    let record = net.conns.get(conn.0).expect("it is there");
    let piece = record.outbound.pieces(&net.segments, usize::MAX).next().expect("one piece");
    assert!(piece.bytes == b"later" && piece.segment.is_some());
    assert!(net.segments.stage.as_mut().is_some_and(crate::stage::Stage::take), "it is free");
}
