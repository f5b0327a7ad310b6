//! What only a loop could break whose own records are wrong: counts, clock, generations.

use super::*;
use crate::backend::script::{Dialect, World};
use crate::config::Config;
use crate::error::{Errno, TimeoutKind};
use crate::id::{Key, Kind};
use crate::options::ConnOptions;
use crate::time::Time;

struct Quiet;

impl Handler for Quiet {
    fn on_data(&mut self, _: &mut Net, _: ConnId, data: &[u8]) -> usize {
        data.len()
    }
}

fn id(slot: u32, generation: u32) -> ConnId {
    ConnId(Key::new(Kind::Conn, slot, generation))
}

/// A loop's records in its first turn, with a connect under way.
fn connecting() -> (Net, Checked<Quiet>) {
    let mut net = Net::new(Config::default(), World::new(Dialect::Readiness).backend());
    assert_eq!(net.connect("10.0.0.9:80").expect("there are slots"), id(0, 1));
    let mut checked = Checked::new(Quiet);
    net.stats.turns = 1;
    checked.on_turn_start(&mut net);
    (net, checked)
}

/// The same once the connect was told.
fn connected() -> (Net, Checked<Quiet>) {
    let (mut net, mut checked) = connecting();
    checked.on_connect(&mut net, id(0, 1));
    (net, checked)
}

/// A connect is told, the records change, and `on_writable` follows.
fn with_conn(change: impl FnOnce(&mut crate::conn::Conn)) {
    let (mut net, mut checked) = connected();
    change(net.conns.get_mut(id(0, 1).0).expect("it is there"));
    checked.on_writable(&mut net, id(0, 1));
}

/// A turn ends behind a change of the loop's own counts.
fn ends_with(change: impl FnOnce(&mut Net)) {
    let (mut net, mut checked) = connected();
    change(&mut net);
    checked.on_turn_end(&mut net);
}

/// Another connection is told of behind one that had its `on_close`.
fn behind_a_close(change: impl FnOnce(&mut Net), next: ConnId) {
    let (mut net, mut checked) = connected();
    net.abort(id(0, 1));
    checked.on_close(&mut net, id(0, 1), CloseReason::LocalAbort, 0);
    net.free(id(0, 1));
    change(&mut net);
    checked.on_connect(&mut net, next);
}

#[test]
fn a_turn_whose_counts_agree_passes() {
    ends_with(|_| {});
}

#[test]
#[should_panic(expected = "C4: the loop: 1 closed, for a reason: none")]
fn a_close_without_a_reason_is_named() {
    ends_with(|net| net.stats.closed += 1);
}

#[test]
#[should_panic(expected = "C1: the loop: it counts")]
fn a_reason_that_was_not_told_is_found() {
    ends_with(|net| net.stats.closes.add(CloseReason::Reset));
}

#[test]
#[should_panic(expected = "C8: conn#0.1: the queue costs 129, at most 0 so far")]
fn a_queue_above_its_highest_cost_is_found() {
    let (mut net, mut checked) = connected();
    let other = net.connect("10.0.0.9:80").expect("there are slots");
    let fresh = net.conns.get(other.0).expect("it is there").tally;
    net.write(id(0, 1), b"x");
    net.conns.get_mut(id(0, 1).0).expect("it is there").tally = fresh;
    checked.on_writable(&mut net, id(0, 1));
}

#[test]
#[should_panic(expected = "C8: conn#0.1: 5 dropped, not 0")]
fn dropped_bytes_that_are_not_in_the_counts_are_found() {
    let (mut net, mut checked) = connected();
    net.conns.get_mut(id(0, 1).0).expect("it is there").accepted_bytes = 5;
    net.abort(id(0, 1));
    checked.on_close(&mut net, id(0, 1), CloseReason::LocalAbort, 5);
}

#[test]
#[should_panic(expected = "C1: the loop: 0 accepts, 2 connects, 0 adopted, 0 closed, 1 left")]
fn a_connection_that_got_lost_is_found() {
    ends_with(|net| net.stats.connects += 1);
}

#[test]
#[should_panic(expected = "C1: conn#0.3: on_connect, but one between conn#0.1 and it had no")]
fn a_generation_that_was_passed_over_is_found() {
    behind_a_close(|_| {}, id(0, 3));
}

#[test]
#[should_panic(expected = "C1: conn#5.2: on_connect, but the one before it in its slot had no")]
fn a_first_generation_that_was_passed_over_is_found() {
    behind_a_close(|_| {}, id(5, 2));
}

#[test]
#[should_panic(expected = "C1: conn#0.1: no on_close before on_connect for conn#0.2")]
fn a_slot_that_is_taken_over_without_on_close_is_found() {
    let (mut net, mut checked) = connected();
    checked.on_connect(&mut net, id(0, 2));
}

#[test]
#[should_panic(expected = "C1: conn#0.1: 4 bytes received before on_accept")]
fn on_accept_behind_data_is_found() {
    let mut net = Net::new(Config::default(), World::new(Dialect::Readiness).backend());
    let listener = net.listen("10.0.0.1:80").expect("it is free");
    let conn = net.connect("10.0.0.9:80").expect("there are slots");
    net.conns.get_mut(conn.0).expect("it is there").received_bytes = 4;
    let mut checked = Checked::new(Quiet);
    net.stats.turns = 1;
    checked.on_turn_start(&mut net);
    checked.on_accept(&mut net, conn, listener);
}

#[test]
#[should_panic(expected = "C3: the loop: turn 2 ends, 1 began")]
fn a_turn_that_is_another_at_its_end_is_found() {
    ends_with(|net| net.stats.turns += 1);
}

#[test]
#[should_panic(expected = "C8: the loop: 9 bytes accepted, 8 sent, 0 queued, 0 dropped")]
fn totals_that_do_not_add_up_are_found() {
    ends_with(|net| (net.stats.accepted_bytes, net.stats.sent_bytes) = (9, 8));
}

#[test]
#[should_panic(expected = "C8: the loop: 7 bytes queued cost 0")]
fn a_queue_that_costs_less_than_it_holds_is_found() {
    ends_with(|net| (net.stats.accepted_bytes, net.stats.queued_bytes) = (7, 7));
}

#[test]
#[should_panic(expected = "C8: conn#0.1: 3 bytes accepted, 2 sent, 0 queued")]
fn counts_of_a_connection_that_do_not_add_up_are_found() {
    with_conn(|conn| (conn.accepted_bytes, conn.sent_bytes) = (3, 2));
}

#[test]
#[should_panic(expected = "C8: conn#0.1: a count has fallen")]
fn a_count_that_falls_is_found() {
    let (mut net, mut checked) = connected();
    net.conns.get_mut(id(0, 1).0).expect("it is there").received_bytes = 5;
    checked.on_data(&mut net, id(0, 1), b"hello");
    net.conns.get_mut(id(0, 1).0).expect("it is there").received_bytes = 4;
    checked.on_data(&mut net, id(0, 1), b"hell");
}

#[test]
#[should_panic(expected = "C8: conn#0.1: a count has fallen")]
fn a_count_of_writes_that_falls_is_found() {
    let (mut net, mut checked) = connected();
    let counts = |net: &mut Net, bytes| {
        let conn = net.conns.get_mut(id(0, 1).0).expect("it is there");
        (conn.accepted_bytes, conn.sent_bytes) = (bytes, bytes);
    };
    counts(&mut net, 5);
    checked.on_writable(&mut net, id(0, 1));
    counts(&mut net, 4);
    checked.on_writable(&mut net, id(0, 1));
}

/// A connect that was not told ends for a reason that only an open connection has.
fn never_open_ends_with(reason: CloseReason) {
    let (mut net, mut checked) = connecting();
    net.end(id(0, 1), reason, true);
    checked.on_close(&mut net, id(0, 1), reason, 0);
}

#[test]
#[should_panic(expected = "C4: conn#0.1: on_close with Timeout(Linger)")]
fn a_connect_that_lingers_is_found() {
    never_open_ends_with(CloseReason::Timeout(TimeoutKind::Linger));
}

#[test]
#[should_panic(expected = "C4: conn#0.1: on_close with Timeout(Idle)")]
fn a_connect_that_is_idle_is_found() {
    never_open_ends_with(CloseReason::Timeout(TimeoutKind::Idle));
}

#[test]
#[should_panic(expected = "C4: conn#0.1: on_close with Reset")]
fn a_connect_that_is_reset_is_found() {
    never_open_ends_with(CloseReason::Reset);
}

#[test]
fn a_listener_that_has_failed_is_gone() {
    let (mut net, mut checked) = connected();
    let listener = net.listen("10.0.0.1:80").expect("the port is free");
    checked.on_listener_error(&mut net, listener, ListenerError::Paused(Errno(24)));
    assert!(net.close_listener(listener));
    checked.on_listener_error(&mut net, listener, ListenerError::Failed(Errno(9)));
}

#[test]
#[should_panic(expected = "C8: conn#0.1: 100 bytes queued cost 228, the hard limit is 200")]
fn a_queue_past_its_hard_limit_is_found() {
    let (mut net, mut checked) = connected();
    assert!(net.write(id(0, 1), &[7; 100]).is_taken());
    let tight = ConnOptions::default().hard_limit_bytes(200);
    net.conns.get_mut(id(0, 1).0).expect("it is there").options = tight.into();
    checked.on_writable(&mut net, id(0, 1));
}

#[test]
#[should_panic(expected = "C15: the loop: the clock went back from ")]
fn a_clock_that_goes_back_is_found() {
    ends_with(|net| net.now = Time::from_nanos(1));
}
