//! Stale ids: every call answers them, changes nothing, and no event or callback of a dead
//! connection reaches the one that has its slot (C2).

mod support;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use hotloop::{
    Bytes, CloseReason, Config, ConnId, ConnMap, Limit, ListenOptions, ListenerId, Missed, Net,
    Sent, TimerId,
};
use support::{Call, Kind, Peer, Rig};

fn every_call_answers_a_stale_id_and_changes_nothing(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (_, old) = rig.client();
    end(&mut rig, old);
    assert_stale_conn(rig.event_loop.net(), old);
    let (peer, heir) = rig.client();
    assert_eq!(heir.slot(), old.slot(), "the slot is used again");
    assert_ne!(heir.generation(), old.generation());
    assert_stale_conn(rig.event_loop.net(), old);
    assert_unharmed(&mut rig, peer, heir);
}

fn ids_that_were_never_handed_out_are_stale(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, live) = rig.client();
    let next_generation = 1 << 32;
    let last_generation = 0xffff_ffff << 32;
    let last_slot = 0xff_ffff;
    for bits in [
        live.to_bits() + next_generation,
        live.to_bits() | last_generation,
        live.to_bits() | last_slot,
        live.to_bits() | last_generation | last_slot,
        live.to_bits() + 1,
    ] {
        let id = ConnId::from_bits(bits).expect("the bits of a connection's id");
        assert_stale_conn(rig.event_loop.net(), id);
    }
    let listener = rig.listener.to_bits();
    for bits in [listener + 1, listener + next_generation, listener | last_slot] {
        let id = ListenerId::from_bits(bits).expect("the bits of a listener's id");
        assert_stale_listener(rig.event_loop.net(), id);
    }
    let timer = rig.event_loop.net().start_timer(Duration::MAX, 0);
    for bits in [timer.to_bits() + 1, timer.to_bits() + next_generation] {
        let id = TimerId::from_bits(bits).expect("the bits of a timer's id");
        assert_stale_timer(rig.event_loop.net(), id);
    }
    assert!(rig.event_loop.net().timer_deadline(timer).is_some());
    assert!(rig.event_loop.net().listener_addr(rig.listener).is_some());
    assert_unharmed(&mut rig, peer, live);
}

fn a_stale_id_is_answered_alike_in_every_callback(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (_, old) = rig.client();
    end(&mut rig, old);
    let checks = Rc::new(Cell::new(0));
    let check = |bit: u32| {
        let checks = Rc::clone(&checks);
        move |net: &mut Net| {
            assert_stale_conn(net, old);
            checks.set(checks.get() | 1 << bit);
        }
    };
    let [accept, data, read_closed, close, timer, start, turn_end] =
        [0, 1, 2, 3, 4, 5, 6].map(check);
    rig.handler.on_accept = Some(Box::new(move |net, _| accept(net)));
    rig.handler.on_data = Some(Box::new(move |net, _, bytes| {
        data(net);
        bytes.len()
    }));
    rig.handler.on_read_closed = Some(Box::new(move |net, conn, _| {
        read_closed(net);
        net.close(conn);
    }));
    rig.handler.on_close = Some(Box::new(move |net, _, _| close(net)));
    rig.handler.on_timer = Some(Box::new(move |net, _, _| timer(net)));
    rig.handler.on_turn_start = Some(Box::new(start));
    rig.handler.on_turn_end = Some(Box::new(turn_end));
    rig.event_loop.net().start_timer(Duration::ZERO, 0);
    let (peer, heir) = rig.client();
    assert_eq!(heir.slot(), old.slot());
    rig.send(peer, b"abc");
    rig.finish(peer);
    assert_eq!(rig.until_closed(heir), (CloseReason::PeerClosed, 0));
    rig.turn();
    assert_eq!(checks.get(), 0b111_1111, "every callback was called");
    assert_eq!(rig.handler.consumed, b"abc");
}

fn the_id_is_stale_once_on_close_has_returned(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (_, conn) = rig.client();
    rig.handler.on_close = Some(Box::new(|net, conn, _| {
        assert!(net.peer_addr(conn).is_some() && net.local_addr(conn).is_some());
        assert_eq!(net.write(conn, b"x"), Sent::Closed);
        assert_eq!(net.start_conn_timer(conn, Duration::ZERO, 0), None);
        net.close(conn);
        net.abort(conn);
    }));
    rig.event_loop.net().abort(conn);
    assert_eq!(rig.until_closed(conn), (CloseReason::LocalAbort, 0));
    assert_stale_conn(rig.event_loop.net(), conn);
    assert_eq!(rig.event_loop.net().conns().count(), 0);
}

/// The events of all are in one wait, the first callback aborts the others, and the next ones to
/// come have their slots.
fn a_batch_of_events_reaches_nobody_who_took_a_slot_meanwhile(kind: Kind) {
    const COUNT: usize = 40;
    let mut rig = Rig::new(kind);
    let old: Vec<(Peer, ConnId)> = (0..COUNT).map(|_| rig.client()).collect();
    let ids: Vec<ConnId> = old.iter().map(|(_, conn)| *conn).collect();
    rig.handler.on_data = Some(Box::new(move |net, conn, data| {
        ids.iter().filter(|other| **other != conn).for_each(|other| net.abort(*other));
        data.len()
    }));
    for (peer, _) in &old {
        rig.send(*peer, b"old");
    }
    rig.until("the aborts", |rig| rig.event_loop.net().conns().count() == 1);
    assert_eq!(rig.handler.consumed, b"old", "one is shown its bytes, and no other");
    rig.handler.on_data = None;
    rig.handler.consumed.clear();
    let heirs: Vec<(Peer, ConnId)> = (1..COUNT).map(|_| rig.client()).collect();
    assert_eq!(slots(&heirs), slots(old.iter().filter(|(_, conn)| rig.closed(*conn).is_some())));
    rig.settle();
    assert_eq!(rig.handler.consumed, b"", "an heir is shown nothing of the dead");
    for (peer, heir) in heirs {
        assert_unharmed(&mut rig, peer, heir);
    }
}

fn an_event_of_an_older_generation_is_counted_and_dropped(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (_, old) = rig.client();
    end(&mut rig, old);
    let (peer, heir) = rig.client();
    assert_eq!(heir.slot(), old.slot());
    rig.settle();
    let (calls, before) = (rig.calls(), rig.event_loop.net().stats());
    for id in [old.to_bits(), heir.to_bits() + (1 << 32), heir.to_bits() | 0xff_ffff] {
        rig.inject(id);
    }
    let turn = rig.turn();
    assert_eq!((turn.callbacks, turn.pending), (0, false));
    let after = rig.event_loop.net().stats();
    assert_eq!(after.stale_events - before.stale_events, 3);
    assert_eq!(rig.calls().recvs, calls.recvs, "nobody is read for it");
    assert_unharmed(&mut rig, peer, heir);
}

/// A stale event between live ones costs those nothing.
fn a_stale_event_in_a_batch_does_not_disturb_the_others(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (_, old) = rig.client();
    end(&mut rig, old);
    let clients: Vec<_> = (0..5).map(|_| rig.client()).collect();
    for (peer, _) in &clients {
        rig.inject(old.to_bits());
        rig.send(*peer, b"abc");
    }
    rig.turn();
    assert_eq!(rig.event_loop.net().stats().stale_events, 5);
    for (_, conn) in &clients {
        assert_eq!(rig.handler.shown(*conn), [b"abc"]);
    }
}

fn an_event_of_a_listener_that_was_closed_is_counted_and_dropped(kind: Kind) {
    let mut rig = Rig::new(kind);
    let listener = rig.listener;
    rig.dial();
    assert!(rig.event_loop.net().close_listener(listener));
    let heir = rig.event_loop.net().listen("127.0.0.1:0").expect("a free port");
    assert_eq!((heir.slot(), heir == listener), (listener.slot(), false));
    let accepts = rig.calls().accepts;
    let stale = rig.event_loop.net().stats().stale_events;
    rig.inject(listener.to_bits());
    let turn = rig.turn();
    assert_eq!((turn.callbacks, turn.pending), (0, false));
    assert_eq!(rig.event_loop.net().stats().stale_events, stale + 1);
    assert_eq!(rig.calls().accepts, accepts);
}

/// On the run list for what its budget left over, on the list of those to flush, and dead: none
/// of it is done to the connection that takes its slot in the same turn.
fn work_left_over_of_a_dead_connection_is_not_its_heirs(kind: Kind) {
    let mut rig = Rig::with(kind, Config::default().read_budget_bytes(1000));
    let addr = rig.server();
    let [first, second, third] = [rig.client(), rig.client(), rig.client()];
    rig.settle();
    rig.handler.on_data = Some(Box::new(move |net, conn, data| {
        if conn == third.1 {
            assert!(net.write(first.1, b"for the dead").is_taken());
            net.abort(first.1);
            net.abort(second.1);
        }
        data.len()
    }));
    let heir = Rc::new(Cell::new(None));
    let born = Rc::clone(&heir);
    rig.handler.on_close = Some(Box::new(move |net, conn, _| {
        if conn == second.1 {
            born.set(Some(net.connect(addr).expect("there are slots")));
        }
    }));
    rig.send(first.0, &[1; 3000]);
    rig.send(third.0, b"now");
    rig.until("a connect", |rig| !rig.handler.connected.is_empty());
    rig.settle();
    let heir = heir.get().expect("it was made when the second one ended");
    assert_eq!(heir.slot(), first.1.slot(), "it has the slot of the first");
    assert_eq!(rig.closed(first.1), Some((CloseReason::LocalAbort, 12)));
    assert_eq!(rig.handler.shown(first.1), [[1; 1000]]);
    let peer = rig.server_peer(addr).expect("it has been connected to");
    assert_unharmed(&mut rig, peer, heir);
}

/// A write that was refused for the loop's buffers is remembered until there is room: not for the
/// one that has the slot then.
fn what_a_dead_connection_waited_for_is_not_told_to_its_heir(kind: Kind) {
    let mut rig = Rig::with(kind, Config::default().global_buffer_bytes(60_000));
    let (full_peer, full) = rig.client();
    let (_, old) = rig.client();
    rig.stop_reading(full_peer);
    assert!(rig.event_loop.net().write(full, &[1; 45_000]).is_taken());
    assert_eq!(rig.event_loop.net().write(old, &[2; 45_000]), Sent::Refused);
    end(&mut rig, old);
    let (peer, heir) = rig.client();
    assert_eq!(heir.slot(), old.slot());
    rig.start_reading(full_peer);
    rig.until("the bytes", |rig| rig.received(full_peer).len() == 45_000);
    rig.settle();
    assert_eq!(rig.handler.writables(heir), 0);
    assert_unharmed(&mut rig, peer, heir);
}

fn a_map_keeps_the_dead_and_the_heir_apart(kind: Kind) {
    let mut rig = Rig::new(kind);
    let names: Rc<RefCell<ConnMap<Vec<u8>>>> = Rc::default();
    let map = Rc::clone(&names);
    rig.handler.on_accept = Some(Box::new(move |_, conn| {
        assert_eq!(map.borrow_mut().insert(conn, Vec::new()), None, "a fresh id has no value");
    }));
    let map = Rc::clone(&names);
    rig.handler.on_data = Some(Box::new(move |_, conn, data| {
        map.borrow_mut().get_mut(conn).expect("it is open").extend(data);
        data.len()
    }));
    let (peer, old) = rig.client();
    rig.send(peer, b"ann");
    rig.until("the name", |rig| rig.handler.consumed == b"ann");
    // Not removed in `on_close`: the map must keep them apart even so.
    end(&mut rig, old);
    assert_eq!(names.borrow().get(old).map(Vec::as_slice), Some(&b"ann"[..]));
    let (peer, heir) = rig.client();
    assert_eq!(heir.slot(), old.slot());
    rig.send(peer, b"bob");
    rig.until("the name", |rig| rig.handler.consumed == b"annbob");
    let mut names = names.borrow_mut();
    assert_eq!(names.get(old), None);
    assert_eq!(names.insert(old, b"late".to_vec()), Some(b"late".to_vec()));
    assert_eq!(names.remove(old), None);
    assert_eq!((names.remove(heir), names.len()), (Some(b"bob".to_vec()), 0));
}

fn timers_of_a_dead_connection_never_fire(kind: Kind) {
    let mut rig = Rig::new(kind);
    let delay = Duration::from_millis(2);
    let (peer, aborted) = rig.client();
    let (other, closed) = rig.client();
    let net = rig.event_loop.net();
    let timers: Vec<TimerId> = [aborted, closed, aborted, closed]
        .map(|conn| net.start_conn_timer(conn, delay, 1).expect("it is open"))
        .into();
    net.abort(aborted);
    net.close(closed);
    for timer in timers {
        assert_stale_timer(rig.event_loop.net(), timer);
    }
    rig.finish(other);
    rig.until_closed(aborted);
    rig.until_closed(closed);
    rig.until("the reset", |rig| rig.is_reset(peer));
    let heirs = [rig.client(), rig.client()];
    let mut both = [heirs[0].1.slot(), heirs[1].1.slot()];
    both.sort_unstable();
    assert_eq!(both, [aborted.slot(), closed.slot()]);
    rig.pass(3 * delay);
    assert_eq!(rig.handler.count(|call| matches!(call, Call::Timer(..))), 0);
}

/// A timer that is due in the turn in which its connection ends: the first of two ends it.
fn a_timer_due_in_the_turn_its_connection_ends_does_not_fire(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (_, conn) = rig.client();
    rig.handler.on_timer = Some(Box::new(move |net, _, _| net.abort(conn)));
    rig.event_loop.net().start_timer(Duration::ZERO, 1);
    rig.event_loop.net().start_conn_timer(conn, Duration::ZERO, 2).expect("it is open");
    rig.until_closed(conn);
    rig.settle();
    assert_eq!(rig.handler.count(|call| matches!(call, Call::Timer(_, 1))), 1);
    assert_eq!(rig.handler.count(|call| matches!(call, Call::Timer(_, 2))), 0);
}

fn a_listeners_id_is_stale_once_it_is_closed(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    let listener = rig.listener;
    assert!(rig.event_loop.net().close_listener(listener));
    assert_stale_listener(rig.event_loop.net(), listener);
    // The address is free: the new listener has it, and the slot.
    let heir = rig.event_loop.net().listen_with(rig.addr, ListenOptions::default());
    let heir = heir.expect("the address is free");
    assert_eq!(heir.slot(), listener.slot());
    assert_stale_listener(rig.event_loop.net(), listener);
    assert_eq!(rig.event_loop.net().listener_addr(heir), Some(rig.addr));
    assert_unharmed(&mut rig, peer, conn);
    let (peer, conn) = rig.client();
    assert_unharmed(&mut rig, peer, conn);
}

fn a_timers_id_is_stale_once_it_is_cancelled(kind: Kind) {
    let mut rig = Rig::new(kind);
    let timer = rig.event_loop.net().start_timer(Duration::ZERO, 1);
    let repeating = rig.event_loop.net().start_repeating(Duration::from_millis(1), Missed::Skip, 2);
    for timer in [timer, repeating] {
        assert!(rig.event_loop.net().cancel_timer(timer));
        assert_stale_timer(rig.event_loop.net(), timer);
    }
    let heir = rig.event_loop.net().start_timer(Duration::ZERO, 3);
    assert!(!rig.event_loop.net().cancel_timer(timer));
    assert!(!rig.event_loop.net().cancel_timer(repeating));
    rig.pass(Duration::from_millis(3));
    assert_eq!(rig.handler.calls, [Call::Timer(heir, 3)]);
}

fn a_timers_id_is_stale_in_the_callback_that_fires_it_for_good(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.on_timer = Some(Box::new(|net, timer, token| match token {
        1 => assert_stale_timer(net, timer),
        _ => {
            assert!(net.timer_deadline(timer).is_some(), "it repeats");
            assert!(net.cancel_timer(timer));
            assert_stale_timer(net, timer);
        }
    }));
    let net = rig.event_loop.net();
    net.start_timer(Duration::ZERO, 1);
    net.start_repeating(Duration::from_millis(1), Missed::Skip, 2);
    rig.pass(Duration::from_millis(4));
    assert_eq!(rig.handler.calls.len(), 2, "{:?}", rig.handler.calls);
    assert_eq!(rig.event_loop.net().stats().timers, 0);
}

on_every_backend!(
    every_call_answers_a_stale_id_and_changes_nothing,
    ids_that_were_never_handed_out_are_stale,
    a_stale_id_is_answered_alike_in_every_callback,
    the_id_is_stale_once_on_close_has_returned,
    a_batch_of_events_reaches_nobody_who_took_a_slot_meanwhile,
    a_map_keeps_the_dead_and_the_heir_apart,
    timers_of_a_dead_connection_never_fire,
    a_timer_due_in_the_turn_its_connection_ends_does_not_fire,
    a_listeners_id_is_stale_once_it_is_closed,
    a_timers_id_is_stale_once_it_is_cancelled,
    a_timers_id_is_stale_in_the_callback_that_fires_it_for_good,
);

on_virtual_time!(
    a_stale_event_in_a_batch_does_not_disturb_the_others,
    work_left_over_of_a_dead_connection_is_not_its_heirs,
    what_a_dead_connection_waited_for_is_not_told_to_its_heir,
    an_event_of_an_older_generation_is_counted_and_dropped,
    an_event_of_a_listener_that_was_closed_is_counted_and_dropped,
);

/// Every call that takes a connection's id, with the answer its documentation gives.
fn assert_stale_conn(net: &mut Net, id: ConnId) {
    let before = net.stats();
    assert_eq!(net.write(id, b"for nobody"), Sent::Closed);
    assert_eq!(net.write(id, b""), Sent::Closed);
    assert_eq!(net.write_shared(id, Bytes::from_static(b"for nobody")), Sent::Closed);
    assert!(!net.flush(id));
    assert!(!net.pause_reading(id));
    assert!(!net.resume_reading(id));
    assert_eq!(net.start_conn_timer(id, Duration::ZERO, 0), None);
    assert!(!net.set_idle_timeout(id, Duration::ZERO));
    assert!(!net.set_idle_timeout(id, Limit::Unlimited));
    assert!(!net.is_open(id));
    assert_eq!((net.peer_addr(id), net.local_addr(id)), (None, None));
    assert_eq!((net.queued_bytes(id), net.queued_cost(id)), (0, 0));
    assert_eq!(net.conn_stats(id), None);
    assert!(!net.conns().any(|live| live == id));
    net.shutdown(id);
    net.close(id);
    net.abort(id);
    assert_eq!(net.stats(), before, "a call with {id} has changed something");
}

fn assert_stale_listener(net: &mut Net, id: ListenerId) {
    let before = net.stats();
    assert_eq!(net.listener_addr(id), None);
    assert!(!net.close_listener(id));
    assert_eq!(net.stats(), before);
}

fn assert_stale_timer(net: &mut Net, id: TimerId) {
    let before = net.stats();
    assert_eq!(net.timer_deadline(id), None);
    assert!(!net.cancel_timer(id));
    assert_eq!(net.stats(), before);
}

/// The connection was shown and sent nothing that was meant for another, and works.
fn assert_unharmed(rig: &mut Rig, peer: Peer, conn: ConnId) {
    rig.settle();
    assert_eq!(rig.closed(conn), None);
    assert!(rig.handler.shown(conn).is_empty());
    assert_eq!(rig.received(peer), b"");
    assert!(!rig.at_end(peer) && !rig.is_reset(peer));
    rig.send(peer, b"well?");
    rig.until("its bytes", |rig| !rig.handler.shown(conn).is_empty());
    assert_eq!(rig.handler.shown(conn), [b"well?"]);
    assert_eq!(rig.event_loop.net().write(conn, b"well!"), Sent::Queued);
    rig.until("the answer", |rig| rig.received(peer) == b"well!");
}

/// Ends a connection and frees its slot.
fn end(rig: &mut Rig, conn: ConnId) {
    rig.event_loop.net().abort(conn);
    rig.until_closed(conn);
}

fn slots<'a>(conns: impl IntoIterator<Item = &'a (Peer, ConnId)>) -> Vec<usize> {
    let mut slots: Vec<usize> = conns.into_iter().map(|(_, conn)| conn.slot()).collect();
    slots.sort_unstable();
    slots
}
