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

/// Whatever has unwound, between two callbacks as well: what one connection has staged does not
/// become another one's.
#[test]
fn a_service_that_was_cut_off_keeps_what_was_written() {
    let mut net = Net::new(Config::default(), World::new(Dialect::Readiness).backend());
    let conns = [(); 2].map(|()| net.connect("10.0.0.9:80").expect("there are slots"));
    for (conn, data) in conns.into_iter().zip([b"one", b"two"]) {
        let record = net.conns.get_mut(conn.0).expect("it is there");
        record.phase = crate::conn::Phase::Open;
        record.flags.set(Flags::WRITABLE);
        net.serving = Some(conn.0);
        assert_eq!(net.write(conn, data), Sent::Queued);
        net.recover();
    }
    for (conn, data) in conns.into_iter().zip([b"one", b"two"]) {
        let record = net.conns.get(conn.0).expect("it is there");
        let mut pieces = record.outbound.pieces(&net.segments, usize::MAX);
        assert_eq!(pieces.next().map(|piece| piece.bytes), Some(&data[..]));
    }
}
