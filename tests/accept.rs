//! Accepting: who is told what, in which turn, and what happens when it cannot go on.

mod support;

use std::cell::RefCell;
use std::error::Error;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use hotloop::{CloseReason, Config, ConnOptions, Errno, ListenOptions, ListenerError, Sent};
use support::{Call, Kind, Rig, errno};

const MS: Duration = Duration::from_millis(1);
const NANO: Duration = Duration::from_nanos(1);

fn on_accept_comes_once_and_before_anything_else(kind: Kind) {
    let mut rig = Rig::new(kind);
    let peer = rig.dial();
    rig.send(peer, b"early");
    rig.finish(peer);
    rig.until("the end", |rig| rig.handler.calls.len() >= 4);
    rig.settle();
    let conn = rig.handler.accepted[0];
    let expected = [
        Call::Accept(conn),
        Call::Data(conn, b"early".to_vec()),
        Call::ReadClosed(conn, Vec::new()),
        Call::Close(conn, CloseReason::PeerClosed, 0),
    ];
    assert_eq!(rig.handler.calls, expected);
    assert_eq!(rig.event_loop.net().stats().accepted, 1);
}

fn an_ipv6_listener_accepts_beside_an_ipv4_one(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.echo();
    let (four, conn_four) = rig.client();
    let listener = rig.event_loop.net().listen("[::1]:0").expect("IPv6 on the loopback");
    rig.addr = rig.event_loop.net().listener_addr(listener).expect("it is open");
    let (six, conn_six) = rig.client();
    rig.send(four, b"4");
    rig.send(six, b"6");
    rig.until("both echoes", |rig| rig.received(four) == b"4" && rig.received(six) == b"6");
    assert!(rig.event_loop.net().local_addr(conn_four).expect("it is open").is_ipv4());
    assert_eq!(rig.event_loop.net().local_addr(conn_six), Some(rig.addr));
}

fn the_accept_budget_holds_turn_by_turn(kind: Kind) {
    let mut rig = Rig::with(kind, Config::default().accept_budget(3));
    dial(&mut rig, 8);
    let mut before = 0;
    while rig.handler.accepted.len() < 8 {
        let turn = rig.turn();
        let accepted = rig.handler.accepted.len() - before;
        assert!(accepted <= 3, "{accepted} accepts in one turn");
        assert!(turn.pending || accepted < 3, "the rest needs no event");
        before += accepted;
    }
    rig.settle();
    assert_eq!(rig.handler.accepted.len(), 8);
}

fn what_is_over_the_budget_is_served_in_the_next_turns_without_an_event(kind: Kind) {
    let mut rig = Rig::with(kind, Config::default().accept_budget(3));
    dial(&mut rig, 8);
    let mut history = Vec::new();
    for _ in 0..4 {
        let turn = rig.turn();
        let events = rig.event_loop.net().stats().events;
        history.push((rig.handler.accepted.len(), turn.callbacks, turn.pending, events));
    }
    assert_eq!(history, [(3, 3, true, 1), (6, 3, true, 1), (8, 2, false, 1), (8, 0, false, 1)]);
}

fn a_budget_that_is_just_enough_leaves_one_look_for_the_next_turn(kind: Kind) {
    let mut rig = Rig::with(kind, Config::default().accept_budget(3));
    dial(&mut rig, 3);
    let first = rig.turn();
    assert_eq!((rig.handler.accepted.len(), first.pending), (3, true));
    assert!(!rig.turn().pending);
    assert_eq!(rig.calls().accepts, 4);
}

fn each_listener_has_a_budget_of_its_own_and_connections_are_served_beside(kind: Kind) {
    let mut rig = Rig::with(kind, Config::default().accept_budget(2));
    rig.handler.echo();
    let (peer, _) = rig.client();
    rig.settle();
    let first = rig.addr;
    dial(&mut rig, 5);
    let other = rig.event_loop.net().listen("127.0.0.1:0").expect("a free port");
    rig.addr = rig.event_loop.net().listener_addr(other).expect("it is open");
    assert_ne!(rig.addr, first);
    dial(&mut rig, 5);
    rig.send(peer, b"ping");
    rig.turn();
    assert_eq!(rig.handler.accepted.len(), 1 + 2 + 2);
    assert_eq!(rig.handler.consumed, b"ping", "the storm does not hold it up");
}

fn at_the_connection_limit_the_next_one_waits_in_the_backlog(kind: Kind) {
    let mut rig = Rig::with(kind, Config::default().max_connections(2));
    rig.handler.echo();
    let (first, first_conn) = rig.client();
    assert_eq!(limits_told(&rig), 0, "one is below the limit");
    let (second, _) = rig.client();
    let third = rig.dial();
    rig.send(third, b"patience");
    rig.settle();
    rig.send(second, b"alive");
    rig.until("an echo at the limit", |rig| rig.received(second) == b"alive");
    rig.settle();
    assert_eq!((rig.handler.accepted.len(), limits_told(&rig)), (2, 1));
    rig.finish(first);
    rig.until_closed(first_conn);
    rig.until("what came to the backlog", |rig| rig.received(third) == b"patience");
    rig.settle();
    assert_eq!(rig.handler.accepted.len(), 3);
    assert_eq!(limits_told(&rig), 2, "full again, and an accept succeeded in between");
}

fn a_listener_at_the_limit_does_not_spin(kind: Kind) {
    let mut rig = Rig::with(kind, Config::default().max_connections(1));
    dial(&mut rig, 3);
    rig.settle();
    let accepts = rig.calls().accepts;
    for _ in 0..100 {
        rig.dial();
        assert!(!rig.turn().pending);
    }
    assert_eq!((rig.calls().accepts, accepts), (1, 1));
    assert_eq!((rig.handler.accepted.len(), limits_told(&rig)), (1, 1));
    assert_eq!(rig.event_loop.next_wait(), None, "only the end of a connection helps");
}

fn a_listener_closed_at_the_limit_leaves_the_other_one_to_go_on(kind: Kind) {
    let mut rig = Rig::with(kind, Config::default().max_connections(1));
    let other = rig.event_loop.net().listen("127.0.0.1:0").expect("a free port");
    let (_, conn) = rig.client();
    rig.dial();
    rig.settle();
    let closed = rig.addr;
    rig.addr = rig.event_loop.net().listener_addr(other).expect("it is open");
    rig.dial();
    rig.settle();
    assert_eq!(limits_told(&rig), 2, "each listener tells");
    assert!(rig.event_loop.net().close_listener(rig.listener));
    rig.event_loop.net().abort(conn);
    rig.until("the other one's turn", |rig| rig.handler.accepted.len() == 2);
    let second = rig.handler.accepted[1];
    let local = rig.event_loop.net().local_addr(second);
    assert!(local == Some(rig.addr) && local != Some(closed));
}

fn a_slot_that_on_close_sees_free_goes_to_the_next_in_the_backlog(kind: Kind) {
    let mut rig = Rig::with(kind, Config::default().max_connections(1));
    let (_, first) = rig.client();
    let peer = rig.dial();
    rig.settle();
    rig.event_loop.net().abort(first);
    rig.until("the next one", |rig| rig.handler.accepted.len() == 2);
    let second = rig.handler.accepted[1];
    assert_eq!(second.slot(), first.slot());
    assert_ne!(second, first);
    assert_eq!(rig.event_loop.net().write(first, b"stale"), Sent::Closed);
    assert_eq!(rig.event_loop.net().write(second, b"fresh"), Sent::Queued);
    rig.until("its bytes alone", |rig| rig.received(peer) == b"fresh");
}

fn closing_a_listener_leaves_its_connections_alone(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.echo();
    // Not 127.0.0.1, where another test may take the port as soon as it is free.
    let listener = rig.event_loop.net().listen("127.0.0.23:0").expect("a free port");
    rig.addr = rig.event_loop.net().listener_addr(listener).expect("it is open");
    let (peer, conn) = rig.client();
    assert!(rig.event_loop.net().close_listener(listener));
    assert_eq!(rig.event_loop.net().listener_addr(listener), None, "stale at once");
    assert!(!rig.event_loop.net().close_listener(listener));
    assert_eq!(rig.event_loop.net().stats().listeners, 1, "the rig's own");
    rig.send(peer, b"still here");
    rig.until("the echo", |rig| rig.received(peer) == b"still here");
    assert!(rig.is_refused(), "nobody listens");
    assert!(rig.event_loop.net().is_open(conn));
    assert_eq!(rig.handler.calls.len(), 2, "a listener's end is not told");
}

fn closing_the_listener_in_on_accept_ends_accepting(kind: Kind) {
    let mut rig = Rig::new(kind);
    let listener = rig.listener;
    rig.handler.on_accept = Some(Box::new(move |net, _| {
        assert!(net.close_listener(listener));
        assert_eq!(net.listener_addr(listener), None);
    }));
    let first = rig.dial();
    dial(&mut rig, 3);
    rig.until("an accept", |rig| !rig.handler.accepted.is_empty());
    rig.handler.echo();
    rig.send(first, b"in");
    rig.until("the echo", |rig| rig.received(first) == b"in");
    rig.settle();
    assert_eq!(rig.handler.accepted.len(), 1);
}

fn an_event_for_a_closed_listener_is_not_its_successors(kind: Kind) {
    let mut rig = Rig::new(kind);
    let old = rig.listener;
    let fresh = Rc::new(RefCell::new(None));
    let made = Rc::clone(&fresh);
    rig.handler.on_turn_start = Some(Box::new(move |net| {
        if net.close_listener(old) {
            *made.borrow_mut() = Some(net.listen("127.0.0.1:0").expect("a free port"));
        }
    }));
    rig.dial();
    rig.settle();
    let fresh = fresh.borrow().expect("a turn has begun");
    assert_eq!(fresh.slot(), old.slot());
    assert_eq!(rig.event_loop.net().stats().stale_events, 1);
    assert!(rig.handler.calls.is_empty());
    rig.addr = rig.event_loop.net().listener_addr(fresh).expect("it is open");
    rig.client();
}

fn an_accept_that_fails_for_one_connection_is_skipped_without_a_word(kind: Kind) {
    let mut rig = Rig::new(kind);
    let skipped = [errno::ECONNABORTED, errno::EPROTO, errno::EINTR, errno::EPERM, errno::ENETDOWN];
    rig.fail_accepts(&skipped);
    rig.dial();
    rig.turn();
    assert_eq!(rig.handler.calls, [Call::Accept(rig.handler.accepted[0])]);
    assert_eq!(rig.event_loop.net().stats().accept_errors, 5);
}

fn skipped_accepts_count_against_the_budget(kind: Kind) {
    let mut rig = Rig::with(kind, Config::default().accept_budget(4));
    rig.fail_accepts(&[errno::ECONNABORTED; 10]);
    rig.dial();
    let mut accepts = Vec::new();
    for _ in 0..3 {
        rig.turn();
        accepts.push(rig.calls().accepts);
    }
    assert_eq!(accepts, [4, 8, 12]);
    assert_eq!(rig.handler.accepted.len(), 1);
}

fn for_want_of_resources_accepting_pauses_ten_milliseconds(kind: Kind) {
    for errno in [errno::EMFILE, errno::ENFILE, errno::ENOBUFS, errno::ENOMEM] {
        let mut rig = Rig::new(kind);
        rig.fail_accepts(&[errno]);
        rig.dial();
        rig.settle();
        let told = Call::ListenerError(rig.listener, ListenerError::Paused(Errno(errno)));
        assert_eq!(rig.handler.calls, [told]);
        assert_eq!(rig.calls().accepts, 1);
        assert_eq!(rig.event_loop.next_wait(), Some(10 * MS));
        rig.pass(10 * MS - NANO);
        assert_eq!(rig.calls().accepts, 1, "{errno}: not before");
        rig.pass(NANO);
        assert_eq!(rig.handler.accepted.len(), 1, "{errno}");
        assert_eq!(rig.event_loop.next_wait(), None);
    }
}

fn the_pause_doubles_to_200_ms_and_is_told_once(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.fail_accepts(&[errno::EMFILE; 9]);
    rig.dial();
    rig.settle();
    for (tries, delay) in (1..).zip([10, 20, 40, 80, 160, 200, 200, 200, 200]) {
        // More that come meanwhile do not make it try.
        rig.dial();
        rig.settle();
        assert_eq!(rig.calls().accepts, tries);
        assert_eq!(rig.event_loop.next_wait(), Some(delay * MS));
        rig.pass(delay * MS - NANO);
        assert_eq!(rig.calls().accepts, tries, "before {delay} ms");
        rig.pass(NANO);
    }
    assert_eq!(rig.handler.accepted.len(), 10);
    assert_eq!(rig.handler.count(|call| matches!(call, Call::ListenerError(..))), 1);
    assert_eq!(rig.event_loop.net().stats().accept_errors, 9);
}

fn after_an_accept_the_pause_starts_over_and_is_told_again(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.fail_accepts(&[errno::EMFILE; 2]);
    rig.dial();
    rig.settle();
    rig.pass(10 * MS);
    rig.pass(20 * MS);
    assert_eq!(rig.handler.accepted.len(), 1);
    rig.fail_accepts(&[errno::ENFILE]);
    rig.settle();
    assert_eq!(rig.event_loop.next_wait(), Some(10 * MS));
    let told = |errno| Call::ListenerError(rig.listener, ListenerError::Paused(Errno(errno)));
    let expected =
        [told(errno::EMFILE), Call::Accept(rig.handler.accepted[0]), told(errno::ENFILE)];
    assert_eq!(rig.handler.calls, expected);
}

fn a_connection_that_ends_makes_a_paused_listener_try_at_once(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (_, first) = rig.client();
    let (_, second) = rig.client();
    rig.settle();
    let accepts = rig.calls().accepts;
    rig.fail_accepts(&[errno::EMFILE; 2]);
    rig.dial();
    rig.settle();
    rig.event_loop.net().abort(first);
    rig.settle();
    assert_eq!(rig.calls().accepts, accepts + 2);
    assert_eq!(rig.handler.accepted.len(), 2, "still short of descriptors");
    rig.event_loop.net().abort(second);
    rig.settle();
    assert_eq!(rig.handler.accepted.len(), 3);
    assert_eq!(rig.handler.count(|call| matches!(call, Call::ListenerError(..))), 1);
    assert_eq!(rig.event_loop.next_wait(), None, "its timer is gone");
}

fn a_paused_listener_that_is_closed_leaves_no_timer(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.on_listener_error =
        Some(Box::new(|net, listener| assert!(net.close_listener(listener))));
    rig.fail_accepts(&[errno::EMFILE]);
    rig.dial();
    rig.turn();
    assert_eq!(rig.handler.calls.len(), 1);
    assert_eq!(rig.event_loop.net().stats().timers, 0);
    assert_eq!(rig.event_loop.next_wait(), None);
    rig.event_loop.run(&mut rig.handler).expect("nothing is left to run for");
}

fn a_broken_listener_is_told_and_gone(kind: Kind) {
    for errno in [errno::EBADF, errno::EINVAL, errno::ENOTSOCK] {
        let mut rig = Rig::new(kind);
        rig.handler.echo();
        let (peer, _) = rig.client();
        let other = rig.event_loop.net().listen("127.0.0.1:0").expect("a free port");
        rig.handler.on_listener_error = Some(Box::new(|net, listener| {
            assert_eq!(net.listener_addr(listener), None, "stale already");
            assert!(!net.close_listener(listener));
        }));
        rig.fail_accepts(&[errno]);
        rig.settle();
        let told = Call::ListenerError(rig.listener, ListenerError::Failed(Errno(errno)));
        assert_eq!(rig.handler.calls[1..], [told]);
        assert!(rig.is_refused(), "its socket is closed");
        assert_eq!(rig.event_loop.net().stats().listeners, 1);
        rig.send(peer, b"alive");
        rig.until("the echo", |rig| rig.received(peer) == b"alive");
        rig.addr = rig.event_loop.net().listener_addr(other).expect("it is open");
        rig.client();
    }
}

fn an_accepted_connection_knows_both_addresses_to_its_end(kind: Kind) {
    let mut rig = Rig::new(kind);
    let seen = Rc::new(RefCell::new(Vec::new()));
    let (at_accept, at_close) = (Rc::clone(&seen), Rc::clone(&seen));
    rig.handler.on_accept = Some(Box::new(move |net, conn| {
        at_accept.borrow_mut().push((net.local_addr(conn), net.peer_addr(conn)));
    }));
    rig.handler.on_close = Some(Box::new(move |net, conn, _| {
        at_close.borrow_mut().push((net.local_addr(conn), net.peer_addr(conn)));
    }));
    let (peer, conn) = rig.client();
    rig.finish(peer);
    rig.until_closed(conn);
    let seen = seen.borrow();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0].0, Some(rig.addr));
    assert!(seen[0].1.is_some_and(|peer| peer != rig.addr));
    assert_eq!(rig.event_loop.net().peer_addr(conn), None, "stale");
    assert_eq!(rig.event_loop.net().local_addr(conn), None, "stale");
}

/// On real sockets only: the scripted world has no addresses of its own.
fn a_connection_of_a_wildcard_listener_knows_which_address_was_dialled(kind: Kind) {
    for (listen, dial) in [("0.0.0.0:0", "127.0.0.7"), ("[::]:0", "::1"), ("[::]:0", "127.0.0.1")] {
        let mut rig = Rig::new(kind);
        let listener = rig.event_loop.net().listen(listen).expect("a free port");
        let port = rig.event_loop.net().listener_addr(listener).expect("it is open").port();
        let at_close = Rc::new(RefCell::new(None));
        let seen = Rc::clone(&at_close);
        rig.handler.on_close = Some(Box::new(move |net, conn, _| {
            *seen.borrow_mut() = net.local_addr(conn).zip(net.peer_addr(conn));
        }));
        let client = TcpStream::connect((dial, port)).expect("it listens");
        let own = client.local_addr().expect("it is connected");
        drop(client);
        rig.until("the end", |_| at_close.borrow().is_some());
        let (local, peer) = at_close.borrow().expect("just seen");
        let plain = |addr: SocketAddr| (addr.ip().to_canonical(), addr.port());
        assert_eq!(local.ip().to_canonical().to_string(), dial);
        assert_eq!((local.port(), plain(peer)), (port, plain(own)));
    }
}

/// On real sockets only: the scripted world has no address families.
fn a_listener_for_ipv6_only_leaves_the_port_to_ipv4(kind: Kind) {
    let mut rig = Rig::new(kind);
    let options = ListenOptions::default().v6_only(true);
    let listener = rig.event_loop.net().listen_with("[::]:0", options).expect("a free port");
    let port = rig.event_loop.net().listener_addr(listener).expect("it is open").port();
    assert!(TcpStream::connect(("127.0.0.24", port)).is_err());
    TcpStream::connect(("::1", port)).expect("it listens");
    rig.until("an accept", |rig| rig.handler.accepted.len() == 1);
}

fn what_is_written_in_on_accept_arrives(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.on_accept = Some(Box::new(|net, conn| {
        assert_eq!(net.write(conn, b"welcome "), Sent::Queued);
        assert_eq!(net.write(conn, b"aboard"), Sent::Queued);
    }));
    let (peer, conn) = rig.client();
    rig.until("the greeting", |rig| rig.received(peer) == b"welcome aboard");
    rig.settle();
    assert_eq!(rig.event_loop.net().conn_stats(conn).expect("it is open").sends, 1);
}

fn close_in_on_accept_sends_what_was_written_and_a_fin(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.on_accept = Some(Box::new(|net, conn| {
        net.write(conn, b"full");
        net.close(conn);
        assert!(!net.is_open(conn));
    }));
    let peer = rig.dial();
    rig.send(peer, b"never shown");
    rig.until("the FIN", |rig| rig.at_end(peer));
    assert_eq!(rig.received(peer), b"full");
    assert!(!rig.is_reset(peer), "unread input does not make a reset of it");
    rig.finish(peer);
    let conn = rig.handler.accepted[0];
    assert_eq!(rig.until_closed(conn), (CloseReason::LocalClose, 0));
    assert_eq!(rig.handler.calls.len(), 2);
}

fn abort_in_on_accept_resets(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.on_accept = Some(Box::new(|net, conn| {
        net.write(conn, b"dropped");
        net.abort(conn);
    }));
    let peer = rig.dial();
    rig.until("the reset", |rig| rig.is_reset(peer));
    let conn = rig.handler.accepted[0];
    assert_eq!(rig.until_closed(conn), (CloseReason::LocalAbort, 7));
    assert!(rig.received(peer).is_empty());
}

fn pause_in_on_accept_holds_the_data_back(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.on_accept = Some(Box::new(|net, conn| assert!(net.pause_reading(conn))));
    let peer = rig.dial();
    rig.send(peer, b"later");
    rig.until("an accept", |rig| !rig.handler.accepted.is_empty());
    rig.settle();
    let conn = rig.handler.accepted[0];
    assert!(rig.handler.shown(conn).is_empty());
    rig.event_loop.net().resume_reading(conn);
    rig.until("the data", |rig| rig.handler.shown(conn) == [b"later"]);
}

fn the_listeners_options_are_those_of_its_connections(kind: Kind) {
    let options = ListenOptions::default().conn(ConnOptions::default().inbound_max_bytes(3));
    let mut rig = Rig::listening(kind, Config::default(), options);
    rig.handler.on_data = Some(Box::new(|_, _, _| 0));
    let (peer, conn) = rig.client();
    rig.send(peer, b"four");
    rig.finish(peer);
    let (reason, _) = rig.until_closed(conn);
    assert_eq!(reason, CloseReason::Limit(hotloop::LimitKind::Inbound));
}

fn dial(rig: &mut Rig, peers: usize) {
    for _ in 0..peers {
        rig.dial();
    }
}

fn limits_told(rig: &Rig) -> usize {
    rig.handler.count(|call| matches!(call, Call::ListenerError(_, ListenerError::ConnectionLimit)))
}

on_every_backend!(
    on_accept_comes_once_and_before_anything_else,
    an_ipv6_listener_accepts_beside_an_ipv4_one,
    the_accept_budget_holds_turn_by_turn,
    at_the_connection_limit_the_next_one_waits_in_the_backlog,
    a_listener_closed_at_the_limit_leaves_the_other_one_to_go_on,
    a_slot_that_on_close_sees_free_goes_to_the_next_in_the_backlog,
    closing_a_listener_leaves_its_connections_alone,
    closing_the_listener_in_on_accept_ends_accepting,
    an_event_for_a_closed_listener_is_not_its_successors,
    an_accepted_connection_knows_both_addresses_to_its_end,
    what_is_written_in_on_accept_arrives,
    close_in_on_accept_sends_what_was_written_and_a_fin,
    abort_in_on_accept_resets,
    pause_in_on_accept_holds_the_data_back,
    the_listeners_options_are_those_of_its_connections,
);

// A kernel reports each accepted connection by an event of its own.
on_script!(what_is_over_the_budget_is_served_in_the_next_turns_without_an_event,);

on_virtual_time!(
    each_listener_has_a_budget_of_its_own_and_connections_are_served_beside,
    an_accept_that_fails_for_one_connection_is_skipped_without_a_word,
    after_an_accept_the_pause_starts_over_and_is_told_again,
    a_paused_listener_that_is_closed_leaves_no_timer,
    a_budget_that_is_just_enough_leaves_one_look_for_the_next_turn,
    a_listener_at_the_limit_does_not_spin,
    skipped_accepts_count_against_the_budget,
    for_want_of_resources_accepting_pauses_ten_milliseconds,
    the_pause_doubles_to_200_ms_and_is_told_once,
    a_connection_that_ends_makes_a_paused_listener_try_at_once,
    a_broken_listener_is_told_and_gone,
);

/// `ErrorClass::of` finds the number there, and so do users.
fn a_taken_ports_error_has_the_systems_own_as_its_source(kind: Kind) {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = taken.local_addr().expect("it is bound");
    let mut rig = Rig::new(kind);
    let error = rig.event_loop.net().listen(addr).expect_err("it is taken");
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    assert!(source.is_some_and(|source| source.raw_os_error().is_some()), "{error}");
}

/// `SO_REUSEPORT`, socket(7): the kernel spreads what comes.
#[cfg(unix)]
fn two_loops_share_a_port_if_both_say_so(kind: Kind) {
    let shared = || ListenOptions::default().reuse_port(true);
    let mut rig = Rig::listening(kind, Config::default(), shared());
    let mut other = hotloop::Loop::new(kind.real(Config::default())).expect("a loop");
    let mut swallow = support::Recorder::default();
    let error = other.net().listen(rig.addr).expect_err("it is taken");
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    let listener = other.net().listen_with(rig.addr, shared()).expect("it is shared");
    assert_eq!(other.net().listener_addr(listener), Some(rig.addr));
    for _ in 0..64 {
        rig.dial();
    }
    rig.until("all of them", |rig| {
        other.turn(&mut swallow, Duration::ZERO).expect("it runs");
        rig.handler.accepted.len() as u64 + other.net().stats().accepted == 64
    });
}

#[cfg(unix)]
on_real_sockets!(two_loops_share_a_port_if_both_say_so,);

on_real_sockets!(
    a_taken_ports_error_has_the_systems_own_as_its_source,
    a_connection_of_a_wildcard_listener_knows_which_address_was_dialled,
    a_listener_for_ipv6_only_leaves_the_port_to_ipv4,
);
