//! Handing over: a released connection leaves with every byte it holds, an adopted one goes on
//! where it was left, and neither `on_accept` nor `on_connect` tells of it (contract C1, C7, C8).

mod support;

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use hotloop::{CloseReason, Config, ConnId, ConnOptions, SendSide, Sent, TimeoutKind};
use support::{Call, Kind, Rig};

/// More than the kernel takes from a loop whose peer does not read.
const MORE_THAN_ROOM: usize = 16 << 20;

/// A limit that lets a test queue that much.
fn roomy() -> Config {
    Config::default().conn(ConnOptions::default().hard_limit_bytes(2 * MORE_THAN_ROOM))
}

fn noise(len: usize) -> Vec<u8> {
    (0..len).map(|i| u8::try_from(i * 31 % 251).expect("below 251")).collect()
}

fn names(rig: &Rig, conn: ConnId) -> Vec<&'static str> {
    let name = |call: &Call| match call {
        Call::Accept(id) if *id == conn => Some("accept"),
        Call::Connect(id) if *id == conn => Some("connect"),
        Call::Data(id, _) if *id == conn => Some("data"),
        Call::ReadClosed(id, _) if *id == conn => Some("read closed"),
        Call::Release(id) if *id == conn => Some("release"),
        Call::Close(id, ..) if *id == conn => Some("close"),
        _ => None,
    };
    rig.handler.calls.iter().filter_map(name).collect()
}

fn a_release_is_told_once_and_then_the_close(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    rig.send(peer, b"hello");
    rig.until("the bytes", |rig| rig.handler.consumed == b"hello");
    let detached = rig.release(conn);
    assert_eq!((detached.unread(), detached.queued()), (&b""[..], &b""[..]));
    assert_eq!(detached.send_side(), SendSide::Open);
    assert_eq!(names(&rig, conn), ["accept", "data", "release", "close"]);
    assert_eq!(rig.closed(conn), Some((CloseReason::Released, 0)));
    rig.settle();
    assert!(!rig.at_end(peer) && !rig.is_reset(peer), "the connection lives on");
    drop(detached);
    rig.until("the end", |rig| rig.at_end(peer));
    assert!(!rig.is_reset(peer));
}

fn what_was_not_consumed_goes_along(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.on_data = Some(Box::new(|net, conn, data| {
        if data.len() < 10 {
            return 0;
        }
        assert!(net.release(conn));
        assert!(!net.is_open(conn) && !net.is_reading(conn));
        assert_eq!(net.write(conn, b"too late"), Sent::Closed);
        4
    }));
    let (peer, conn) = rig.client();
    rig.send(peer, b"abcde");
    rig.until("the first half", |rig| !rig.handler.shown(conn).is_empty());
    rig.send(peer, b"fghij");
    rig.until("the release", |rig| !rig.handler.released.is_empty());
    assert_eq!(rig.handler.released[0].unread(), b"efghij");
    assert_eq!(rig.closed(conn), Some((CloseReason::Released, 0)));
}

fn what_was_not_sent_goes_along_and_an_adopter_sends_it(kind: Kind) {
    let mut rig = Rig::with(kind, roomy());
    let (peer, conn) = rig.client();
    rig.stop_reading(peer);
    let sent = noise(MORE_THAN_ROOM);
    assert_eq!(rig.event_loop.net().write(conn, &sent), Sent::Pressured);
    rig.settle();
    assert!(rig.event_loop.net().release(conn));
    // A send that is in flight lands first.
    if kind.is_completion() {
        rig.start_reading(peer);
    }
    let (reason, dropped) = rig.until_closed(conn);
    let detached = rig.handler.released.pop().expect("on_release came");
    assert_eq!((reason, dropped), (CloseReason::Released, detached.queued().len() as u64));
    let tail = &sent[sent.len() - detached.queued().len()..];
    assert!(detached.queued() == tail, "what is queued is the tail of what was written");
    let stats = rig.event_loop.net().stats();
    assert_eq!((stats.queued_bytes, stats.buffered_bytes), (0, 0));

    let again = rig.event_loop.net().adopt(detached).expect("it is a connection");
    rig.start_reading(peer);
    rig.until("all of it", |rig| rig.received(peer).len() == sent.len());
    assert!(rig.received(peer) == sent);
    rig.settle();
    let expected = usize::from(tail.len() > 64 << 10);
    assert_eq!(rig.handler.writables(again), expected, "the pressure it brought along is over");
}

fn an_adopted_connection_shows_its_unread_bytes_first(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.on_data = Some(Box::new(|_, _, data| if data.len() < 7 { 0 } else { data.len() }));
    let (peer, conn) = rig.client();
    rig.send(peer, b"abc");
    rig.until("the bytes", |rig| rig.handler.shown(conn).concat() == b"abc");
    let detached = rig.release(conn);
    assert_eq!(detached.unread(), b"abc");
    let again = rig.event_loop.net().adopt(detached.with_unread(b"d")).expect("a connection");
    assert_eq!(rig.event_loop.net().conn_stats(again).map(|stats| stats.received_bytes), Some(4));
    rig.until("what it brought", |rig| rig.handler.shown(again) == [b"abcd"]);
    rig.send(peer, b"efg");
    rig.until("the rest", |rig| rig.handler.consumed == b"abcdefg");
    assert_eq!(rig.handler.shown(again).last().expect("shown"), b"abcdefg");
    assert!(!names(&rig, again).contains(&"accept"), "C1");
    rig.finish(peer);
    assert_eq!(rig.until_closed(again), (CloseReason::PeerClosed, 0));
    let stats = rig.event_loop.net().stats();
    assert_eq!((stats.accepted, stats.adopted, stats.closed), (1, 1, 2));
}

fn what_the_kernel_holds_at_the_release_is_read_by_the_adopter(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    rig.event_loop.net().pause_reading(conn);
    rig.settle();
    rig.send(peer, b"unseen");
    rig.finish(peer);
    rig.until_arrived();
    rig.settle();
    let detached = rig.release(conn);
    let again = rig.event_loop.net().adopt(detached).expect("a connection");
    assert_eq!(rig.until_closed(again), (CloseReason::PeerClosed, 0));
    assert_eq!(rig.handler.shown(again).concat(), b"unseen");
    assert!(rig.handler.shown(conn).is_empty());
    assert_eq!(names(&rig, again).last_chunk(), Some(&["read closed", "close"]));
}

fn a_fin_that_is_owed_or_sent_goes_along(kind: Kind) {
    for pending in [false, true] {
        let mut rig = Rig::with(kind, roomy());
        let (peer, conn) = rig.client();
        if pending {
            rig.stop_reading(peer);
        }
        let sent = noise(if pending { MORE_THAN_ROOM } else { 10 });
        rig.event_loop.net().write(conn, &sent);
        rig.event_loop.net().shutdown(conn);
        rig.settle();
        assert!(rig.event_loop.net().release(conn));
        rig.start_reading(peer);
        rig.until_closed(conn);
        let detached = rig.handler.released.pop().expect("on_release came");
        let expected = if pending { SendSide::FinOwed } else { SendSide::FinSent };
        assert_eq!(detached.send_side(), expected);
        let again = rig.event_loop.net().adopt(detached).expect("a connection");
        assert_eq!(rig.event_loop.net().write(again, b"x"), Sent::Closed);
        rig.until("the end", |rig| rig.at_end(peer));
        assert!(rig.received(peer) == sent);
        rig.send(peer, b"still heard");
        rig.until("the answer", |rig| rig.handler.consumed == b"still heard");
        rig.finish(peer);
        assert_eq!(rig.until_closed(again), (CloseReason::PeerClosed, 0));
    }
}

/// The adopter finds the FIN again, and before it what nobody has consumed.
fn what_is_left_at_the_fin_goes_along(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.on_data = Some(Box::new(|_, _, _| 0));
    rig.handler.on_read_closed = Some(Box::new(|net, conn, rest| {
        assert_eq!(rest, b"half a line");
        assert!(net.release(conn));
    }));
    let (peer, conn) = rig.client();
    rig.send(peer, b"half a line");
    rig.finish(peer);
    assert_eq!(rig.until_closed(conn), (CloseReason::Released, 0));
    let detached = rig.handler.released.pop().expect("on_release came");
    assert_eq!(detached.unread(), b"half a line");
    let stats = rig.event_loop.net().stats();
    assert_eq!((stats.discarded_bytes, stats.buffered_bytes), (0, 0));
    rig.handler.on_read_closed = None;
    let again = rig.event_loop.net().adopt(detached).expect("a connection");
    assert_eq!(rig.until_closed(again), (CloseReason::PeerClosed, 0));
    assert_eq!(rig.handler.shown(again).concat(), b"half a line");
}

fn bytes_behind_a_fin_that_was_sent_are_given_back(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    rig.event_loop.net().shutdown(conn);
    rig.until("the FIN", |rig| rig.at_end(peer));
    let detached = rig.release(conn);
    assert_eq!(detached.send_side(), SendSide::FinSent);
    let adopted = rig.event_loop.net().adopt(detached.with_queued(b"too late"));
    let refused = adopted.expect_err("they can never be sent");
    assert_eq!(refused.error().kind(), ErrorKind::InvalidInput, "{refused}");
    assert_eq!(refused.into_inner().queued(), b"too late");
}

fn a_full_loop_adopts_what_brings_nothing(kind: Kind) {
    let mut rig = Rig::with(kind, Config::default().global_buffer_bytes(30 << 10));
    rig.handler.on_data = Some(Box::new(|_, _, _| 0));
    // Kept input may have all of the buffers, writes seven eighths.
    let full = |rig: &mut Rig| rig.event_loop.net().stats().buffered_bytes > 26_880;
    while !full(&mut rig) {
        let (peer, conn) = rig.client();
        rig.send(peer, b"x");
        rig.until("the byte", |rig| !rig.handler.shown(conn).is_empty());
    }
    let (_, conn) = rig.client();
    let detached = rig.release(conn);
    let refused = rig.event_loop.net().adopt(detached.with_unread(b"x")).expect_err("no room");
    assert!(refused.error().to_string().contains("global_buffer_bytes"), "{refused}");
    drop(refused);
    let (_, conn) = rig.client();
    let detached = rig.release(conn);
    rig.event_loop.net().adopt(detached).expect("it needs no room");
}

/// On Linux: two of the options are Linux's.
#[cfg(target_os = "linux")]
fn an_adopted_connection_has_the_options_it_is_adopted_with(kind: Kind) {
    use hotloop::{Keepalive, SocketOption};
    const SECOND: Duration = Duration::from_secs(1);

    let mut rig = Rig::new(kind);
    let (_, conn) = rig.client();
    let before = SocketOption::TypeOfService(0x20);
    rig.event_loop.net().set_socket_option(conn, &before).expect("an option of Linux");
    let detached = rig.release(conn);
    let keepalive = Keepalive { idle: SECOND, interval: SECOND, probes: 3 };
    let options = [SocketOption::Keepalive(Some(keepalive)), SocketOption::NotsentLowatBytes(999)];
    let own = options.iter().cloned().fold(ConnOptions::default(), ConnOptions::socket);
    let again = rig.event_loop.net().adopt_with(detached, own).expect("a connection");
    for option in options.iter().chain([&before]) {
        let read = rig.event_loop.net().socket_option(again, option.name());
        assert_eq!(&read.expect("an option of Linux"), option);
    }
}

fn a_dropped_connection_resets_if_it_loses_bytes(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    let detached = rig.release(conn).with_queued(b"never sent");
    drop(detached);
    rig.until("the reset", |rig| rig.is_reset(peer));
    assert!(!rig.at_end(peer), "a FIN would say that all was sent");
}

fn an_abort_and_a_second_release_in_the_same_callback(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.on_data = Some(Box::new(|net, conn, data| {
        assert!(net.release(conn));
        assert!(!net.release(conn), "it is asked already");
        net.close(conn);
        net.shutdown(conn);
        if data == b"abort" {
            net.abort(conn);
        }
        data.len()
    }));
    let (peer, conn) = rig.client();
    rig.send(peer, b"abort");
    assert_eq!(rig.until_closed(conn), (CloseReason::LocalAbort, 0));
    rig.until("the reset", |rig| rig.is_reset(peer));
    let (peer, conn) = rig.client();
    rig.send(peer, b"go on");
    assert_eq!(rig.until_closed(conn), (CloseReason::Released, 0));
    assert_eq!(names(&rig, conn), ["accept", "data", "release", "close"]);
    assert!(!rig.is_reset(peer));
}

fn what_cannot_be_released_says_so(kind: Kind) {
    let mut rig = Rig::new(kind);
    let addr = rig.server();
    let connecting = rig.event_loop.net().connect(addr).expect("there are slots");
    assert!(!rig.event_loop.net().release(connecting), "it is connecting");
    let (_, closing) = rig.client();
    rig.event_loop.net().close(closing);
    assert!(!rig.event_loop.net().release(closing), "it is closing");
    let (peer, gone) = rig.client();
    rig.reset(peer);
    rig.until_closed(gone);
    assert!(!rig.event_loop.net().release(gone), "it is stale");
    rig.settle();
    assert!(rig.handler.released.is_empty());
}

fn getters_work_in_on_release_and_timers_are_gone(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (_, conn) = rig.client();
    let net = rig.event_loop.net();
    net.start_conn_timer(conn, Duration::from_millis(1), 7);
    let addrs = (net.local_addr(conn), net.peer_addr(conn));
    let seen = Rc::new(Cell::new(None));
    let saw = Rc::clone(&seen);
    rig.handler.on_release = Some(Box::new(move |net, conn, _| {
        saw.set(Some((net.local_addr(conn), net.peer_addr(conn))));
        assert_eq!(net.write(conn, b"x"), Sent::Closed);
        assert!(!net.release(conn));
        net.abort(conn);
    }));
    assert!(rig.event_loop.net().release(conn));
    assert_eq!(rig.until_closed(conn), (CloseReason::Released, 0));
    assert_eq!(seen.get(), Some(addrs));
    rig.pass(Duration::from_millis(5));
    rig.settle();
    assert_eq!(rig.handler.count(|call| matches!(call, Call::Timer(..))), 0);
}

fn a_panic_in_on_release_resets_what_it_was_given(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    rig.handler.on_release = Some(Box::new(|_, _, _| panic!("on purpose")));
    assert!(rig.event_loop.net().release(conn));
    let turned = catch_unwind(AssertUnwindSafe(|| rig.turn()));
    assert!(turned.is_err(), "the panic comes through");
    assert_eq!(rig.until_closed(conn), (CloseReason::HandlerPanicked, 0));
    rig.until("the reset", |rig| rig.is_reset(peer));
    assert_eq!(names(&rig, conn), ["accept", "release", "close"]);
}

fn what_was_passed_on_before_a_panic_in_on_release_lives_on(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.echo();
    let (peer, conn) = rig.client();
    rig.handler.on_release = Some(Box::new(|net, _, detached| {
        net.adopt(detached).expect("a connection");
        panic!("on purpose");
    }));
    assert!(rig.event_loop.net().release(conn));
    let turned = catch_unwind(AssertUnwindSafe(|| rig.turn()));
    assert!(turned.is_err(), "the panic comes through");
    assert_eq!(rig.until_closed(conn), (CloseReason::HandlerPanicked, 0));
    rig.send(peer, b"hello");
    rig.until("the echo", |rig| rig.received(peer) == b"hello");
}

fn a_loop_that_cannot_take_a_connection_gives_it_back(kind: Kind) {
    let config =
        Config::default().max_connections(1).conn(ConnOptions::default().inbound_max_bytes(100));
    let mut rig = Rig::with(kind, config);
    let (peer, conn) = rig.client();
    let detached = rig.release(conn);
    let too_much = rig.event_loop.net().adopt(detached.with_unread(&[7; 101]));
    let refused = too_much.expect_err("over the limit");
    assert!(refused.error().to_string().contains("inbound_max_bytes"), "{refused}");
    let detached = refused.into_inner();
    assert_eq!(detached.unread(), [7; 101]);
    let options = ConnOptions::default().inbound_max_bytes(101);
    let again = rig.event_loop.net().adopt_with(detached, options).expect("it fits");
    rig.until("what it brought", |rig| rig.handler.shown(again).concat() == [7; 101]);

    let mut other = Rig::with(kind, Config::default().max_connections(1));
    let (_, other_conn) = other.client();
    let detached = other.release(other_conn);
    let refused = rig.event_loop.net().adopt(detached).expect_err("the slot is taken");
    assert!(refused.error().to_string().contains("max_connections 1"), "{refused}");
    drop(refused);
    assert!(!rig.is_reset(peer), "the one that is there is as it was");
}

fn a_queue_over_the_hard_limit_is_given_back(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (_, conn) = rig.client();
    let detached = rig.release(conn).with_queued(&noise(2 << 20));
    let refused = rig.event_loop.net().adopt(detached).expect_err("over the limit");
    assert!(refused.error().to_string().contains("hard_limit_bytes"), "{refused}");
    assert_eq!(refused.into_inner().queued().len(), 2 << 20);
}

fn a_release_within_on_accept_and_its_adoption_within_on_release(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.on_accept = Some(Box::new(|net, conn| assert!(net.release(conn))));
    let adopted = Rc::new(RefCell::new(Vec::new()));
    let adopts = Rc::clone(&adopted);
    rig.handler.on_release = Some(Box::new(move |net, _, detached| {
        adopts.borrow_mut().push(net.adopt(detached.with_queued(b"hi")).expect("a connection"));
    }));
    let (peer, conn) = rig.client();
    rig.until("the greeting", |rig| rig.received(peer) == b"hi");
    let again = adopted.borrow()[0];
    assert_ne!(again, conn);
    assert_eq!(rig.closed(conn), Some((CloseReason::Released, 0)));
    rig.send(peer, b"hello");
    rig.until("the answer", |rig| rig.handler.shown(again).concat() == b"hello");
    assert_eq!(rig.event_loop.net().peer_addr(conn), None);
}

fn close_all_gives_away_what_was_asked_for_before(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (_, conn) = rig.client();
    let (_, other) = rig.client();
    rig.event_loop.net().release(conn);
    rig.event_loop.close_all(&mut rig.handler, Duration::ZERO).expect("the loop runs");
    let reasons = (rig.closed(conn), rig.closed(other));
    let reasons = (reasons.0.map(|(reason, _)| reason), reasons.1.map(|(reason, _)| reason));
    assert_eq!(reasons.1, Some(CloseReason::Shutdown));
    assert!(matches!(reasons.0, Some(CloseReason::Released | CloseReason::Shutdown)));
}

/// On a backend where sends complete later, a release waits for the one in flight.
fn a_release_waits_for_a_send_in_flight_no_longer_than_the_stall(kind: Kind) {
    let mut rig = Rig::with(kind, roomy());
    let (peer, conn) = rig.client();
    rig.stop_reading(peer);
    rig.event_loop.net().write(conn, &noise(MORE_THAN_ROOM));
    rig.settle();
    assert!(rig.event_loop.net().release(conn));
    if kind.is_completion() {
        rig.look();
        assert_eq!(rig.closed(conn), None, "the kernel has its bytes");
        rig.advance(Duration::from_secs(60));
        let (reason, _) = rig.until_closed(conn);
        assert_eq!(reason, CloseReason::Timeout(TimeoutKind::WriteStall));
    } else {
        assert_eq!(rig.until_closed(conn).0, CloseReason::Released);
    }
}

fn a_listener_goes_on_elsewhere_with_its_backlog(kind: Kind) {
    let mut rig = Rig::new(kind);
    let waiting = rig.dial();
    let listener = rig.listener;
    let detached = rig.event_loop.net().release_listener(listener).expect("it is open");
    let net = rig.event_loop.net();
    assert!(net.release_listener(listener).is_none(), "its id is stale");
    assert_eq!(net.listener_addr(listener), None);
    rig.settle();
    assert!(rig.handler.accepted.is_empty());
    let again = rig.event_loop.net().adopt_listener(detached).expect("it listens");
    assert_eq!(rig.event_loop.net().listener_addr(again), Some(rig.addr));
    rig.until("the one that waits", |rig| rig.handler.accepted.len() == 1);
    rig.send(waiting, b"here");
    rig.until("its bytes", |rig| rig.handler.consumed == b"here");
    rig.client();
}

on_every_backend!(
    a_release_is_told_once_and_then_the_close,
    what_was_not_consumed_goes_along,
    what_was_not_sent_goes_along_and_an_adopter_sends_it,
    an_adopted_connection_shows_its_unread_bytes_first,
    what_the_kernel_holds_at_the_release_is_read_by_the_adopter,
    a_fin_that_is_owed_or_sent_goes_along,
    what_is_left_at_the_fin_goes_along,
    bytes_behind_a_fin_that_was_sent_are_given_back,
    a_full_loop_adopts_what_brings_nothing,
    a_dropped_connection_resets_if_it_loses_bytes,
    an_abort_and_a_second_release_in_the_same_callback,
    what_cannot_be_released_says_so,
    getters_work_in_on_release_and_timers_are_gone,
    a_panic_in_on_release_resets_what_it_was_given,
    what_was_passed_on_before_a_panic_in_on_release_lives_on,
    a_queue_over_the_hard_limit_is_given_back,
    a_release_within_on_accept_and_its_adoption_within_on_release,
    close_all_gives_away_what_was_asked_for_before,
    a_listener_goes_on_elsewhere_with_its_backlog,
    a_loop_that_cannot_take_a_connection_gives_it_back,
);
#[cfg(target_os = "linux")]
on_kernels!(an_adopted_connection_has_the_options_it_is_adopted_with);
on_virtual_time!(a_release_waits_for_a_send_in_flight_no_longer_than_the_stall);
