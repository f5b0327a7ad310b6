//! Connecting: how it succeeds, fails, is given up, and what may be done meanwhile.
#![allow(unsafe_code)]

mod support;

use std::cell::{Cell, RefCell};
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::Duration;

use hotloop::{Bytes, CloseReason, Config, ConnId, ConnOptions, Errno, Limit, Sent, TimeoutKind};
use support::{Call, Kind, Rig, errno};

const NANO: Duration = Duration::from_nanos(1);
const SECOND: Duration = Duration::from_secs(1);
const REFUSED: CloseReason = CloseReason::ConnectFailed(Errno(errno::ECONNREFUSED));

fn on_connect_comes_once_and_then_data(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.connected();
    rig.send(peer, b"hello");
    rig.until("the data", |rig| !rig.handler.shown(conn).is_empty());
    rig.settle();
    assert_eq!(rig.handler.calls, [Call::Connect(conn), Call::Data(conn, b"hello".to_vec())]);
    let stats = rig.event_loop.net().stats();
    assert_eq!((stats.connects, stats.accepted, stats.connections), (1, 0, 1));
}

fn what_a_server_says_and_ends_at_once_comes_in_order(kind: Kind) {
    let mut rig = Rig::new(kind);
    let addr = rig.server();
    let conn = rig.event_loop.net().connect(addr).expect("there are slots");
    let peer = rig.server_peer(addr).expect("the handshake needs no turn of the loop");
    rig.send(peer, b"banner");
    rig.finish(peer);
    assert_eq!(rig.until_closed(conn), (CloseReason::PeerClosed, 0));
    let expected = [
        Call::Connect(conn),
        Call::Data(conn, b"banner".to_vec()),
        Call::ReadClosed(conn, Vec::new()),
        Call::Close(conn, CloseReason::PeerClosed, 0),
    ];
    assert_eq!(rig.handler.calls, expected);
}

fn a_refused_connect_is_told_by_on_close_alone(kind: Kind) {
    let mut rig = Rig::new(kind);
    let addr = rig.refusing();
    let conn = rig.event_loop.net().connect(addr).expect("an id is handed out");
    assert!(rig.handler.calls.is_empty(), "nothing in the call itself");
    assert_eq!(rig.event_loop.net().write(conn, b"in vain"), Sent::Queued);
    assert_eq!(rig.until_closed(conn), (REFUSED, 7));
    rig.settle();
    assert_eq!(rig.handler.calls, [Call::Close(conn, REFUSED, 7)]);
    assert_eq!(rig.event_loop.net().stats().connections, 0);
    assert_eq!(rig.event_loop.net().peer_addr(conn), None, "stale");
}

fn an_unanswered_connect_ends_at_its_timeout_and_not_before(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.echo();
    let (peer, _) = rig.client();
    let hole = rig.black_hole();
    let slow = rig.event_loop.net().connect(hole).expect("there are slots");
    rig.pass(SECOND);
    let options = ConnOptions::default().connect_timeout(3 * SECOND);
    let quick = rig.event_loop.net().connect_with(hole, options).expect("there are slots");
    assert_eq!(rig.event_loop.next_wait(), Some(3 * SECOND));
    rig.pass(3 * SECOND - NANO);
    assert_eq!(rig.closed(quick), None);
    rig.pass(NANO);
    let timeout = CloseReason::Timeout(TimeoutKind::Connect);
    assert_eq!(rig.closed(quick), Some((timeout, 0)));
    rig.pass(6 * SECOND - NANO);
    assert_eq!(rig.closed(slow), None);
    rig.pass(NANO);
    assert_eq!(rig.closed(slow), Some((timeout, 0)));
    assert_eq!(rig.handler.connected, []);
    rig.send(peer, b"others live");
    rig.until("the echo", |rig| rig.received(peer) == b"others live");
}

fn a_connect_without_a_limit_waits_for_ever(kind: Kind) {
    let mut rig = Rig::new(kind);
    let hole = rig.black_hole();
    let options = ConnOptions::default().connect_timeout(Limit::Unlimited);
    let conn = rig.event_loop.net().connect_with(hole, options).expect("there are slots");
    rig.settle();
    assert_eq!(rig.event_loop.next_wait(), None);
    rig.pass(1_000_000 * SECOND);
    assert!(rig.event_loop.net().is_open(conn));
}

fn the_connect_timeout_is_over_with_the_connect(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (_, conn) = rig.connected();
    rig.pass(20 * SECOND);
    assert!(rig.event_loop.net().is_open(conn));
    assert_eq!(rig.handler.calls, [Call::Connect(conn)]);
    assert_eq!(rig.event_loop.next_wait(), None, "its timer has fired for the last time");
}

fn a_self_connect_counts_as_refused(kind: Kind) {
    let mut rig = Rig::new(kind);
    let own = SocketAddr::from(([127, 0, 0, 1], 50_000));
    rig.world().self_connect(own);
    let sockets = rig.open_sockets();
    let conn = rig.event_loop.net().connect(own).expect("an id is handed out");
    rig.event_loop.net().write(conn, b"to myself");
    assert_eq!(rig.until_closed(conn), (REFUSED, 9));
    rig.settle();
    assert_eq!(rig.handler.calls.len(), 1);
    assert_eq!(rig.open_sockets(), sockets);
}

fn close_while_connecting_gives_up(kind: Kind) {
    let mut rig = Rig::new(kind);
    let addr = rig.server();
    let conn = rig.event_loop.net().connect(addr).expect("there are slots");
    rig.event_loop.net().write(conn, b"unsent");
    rig.event_loop.net().close(conn);
    rig.event_loop.net().close(conn);
    assert!(!rig.event_loop.net().is_open(conn));
    assert_eq!(rig.event_loop.net().write(conn, b"more"), Sent::Closed);
    rig.settle();
    assert_eq!(rig.handler.calls, [Call::Close(conn, CloseReason::LocalClose, 6)]);
    let peer = rig.server_peer(addr).expect("the handshake was done");
    rig.until("the reset, for bytes are lost", |rig| rig.is_reset(peer));
    assert!(rig.received(peer).is_empty());
}

fn abort_while_connecting_resets(kind: Kind) {
    let mut rig = Rig::new(kind);
    let addr = rig.server();
    let conn = rig.event_loop.net().connect(addr).expect("there are slots");
    rig.event_loop.net().write(conn, b"unsent");
    rig.event_loop.net().abort(conn);
    rig.event_loop.net().close(conn);
    rig.settle();
    assert_eq!(rig.handler.calls, [Call::Close(conn, CloseReason::LocalAbort, 6)]);
    let peer = rig.server_peer(addr).expect("the handshake was done");
    rig.until("the reset", |rig| rig.is_reset(peer));
}

fn an_unanswered_connect_is_given_up_at_once(kind: Kind) {
    let mut rig = Rig::new(kind);
    let hole = rig.black_hole();
    let sockets = rig.open_sockets();
    let closed = rig.event_loop.net().connect(hole).expect("there are slots");
    let aborted = rig.event_loop.net().connect(hole).expect("there are slots");
    rig.settle();
    rig.event_loop.net().close(closed);
    rig.event_loop.net().abort(aborted);
    rig.settle();
    assert_eq!(rig.closed(closed), Some((CloseReason::LocalClose, 0)));
    assert_eq!(rig.closed(aborted), Some((CloseReason::LocalAbort, 0)));
    assert_eq!(rig.open_sockets(), sockets);
    assert_eq!(rig.event_loop.next_wait(), None, "no timer is left");
}

fn writes_before_the_connect_is_done_arrive_in_order_after_it(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.on_connect = Some(Box::new(|net, conn| {
        assert_eq!(net.write(conn, b"four"), Sent::Queued);
    }));
    let addr = rig.server();
    let net = rig.event_loop.net();
    let conn = net.connect(addr).expect("there are slots");
    assert_eq!(net.write(conn, b"one "), Sent::Queued);
    assert_eq!(net.write_shared(conn, Bytes::from_static(b"two ")), Sent::Queued);
    assert!(net.flush(conn), "which does nothing yet");
    assert_eq!(net.write(conn, b"three "), Sent::Queued);
    assert_eq!(net.queued_bytes(conn), 14);
    rig.until("a connect", |rig| !rig.handler.connected.is_empty());
    let peer = rig.server_peer(addr).expect("the handshake was done");
    rig.until("all of it", |rig| rig.received(peer) == b"one two three four");
    rig.settle();
    assert_eq!(rig.event_loop.net().conn_stats(conn).expect("it is open").sent_bytes, 18);
}

fn shutdown_while_connecting_follows_what_was_written(kind: Kind) {
    let mut rig = Rig::new(kind);
    let addr = rig.server();
    let net = rig.event_loop.net();
    let conn = net.connect(addr).expect("there are slots");
    net.write(conn, b"request");
    net.shutdown(conn);
    assert_eq!(net.write(conn, b"too late"), Sent::Closed);
    rig.until("a connect", |rig| !rig.handler.connected.is_empty());
    let peer = rig.server_peer(addr).expect("the handshake was done");
    rig.until("the FIN", |rig| rig.at_end(peer));
    assert_eq!(rig.received(peer), b"request");
    rig.send(peer, b"response");
    rig.finish(peer);
    assert_eq!(rig.until_closed(conn), (CloseReason::PeerClosed, 0));
    assert_eq!(rig.handler.consumed, b"response");
}

fn pause_while_connecting_holds_the_data_back(kind: Kind) {
    let mut rig = Rig::new(kind);
    let addr = rig.server();
    let conn = rig.event_loop.net().connect(addr).expect("there are slots");
    assert!(rig.event_loop.net().pause_reading(conn));
    let peer = rig.server_peer(addr).expect("the handshake was done");
    rig.send(peer, b"banner");
    rig.settle();
    assert_eq!(rig.handler.calls, [Call::Connect(conn)]);
    rig.event_loop.net().resume_reading(conn);
    rig.until("the data", |rig| rig.handler.consumed == b"banner");
}

fn a_spurious_event_decides_no_connect(kind: Kind) {
    let mut rig = Rig::new(kind);
    let hole = rig.black_hole();
    let conn = rig.event_loop.net().connect(hole).expect("there are slots");
    rig.event_loop.net().write(conn, b"waiting");
    for _ in 0..3 {
        rig.inject(conn.to_bits());
        assert!(!rig.turn().pending);
    }
    assert!(rig.handler.calls.is_empty());
    assert!(rig.event_loop.net().is_open(conn));
    assert_eq!(rig.event_loop.net().queued_bytes(conn), 7);
    rig.pass(10 * SECOND);
    assert_eq!(rig.closed(conn), Some((CloseReason::Timeout(TimeoutKind::Connect), 7)));
}

fn a_connect_that_gets_no_id_says_why(kind: Kind) {
    let mut rig = Rig::with(kind, Config::default().max_connections(1));
    let addr = rig.server();
    let net = rig.event_loop.net();
    let name = net.connect("localhost:80").expect_err("a look-up would block").to_string();
    assert!(name.contains("localhost:80") && name.contains("host name"), "{name}");
    let options = ConnOptions::default().inbound_max_bytes(0);
    assert!(net.connect_with(addr, options).is_err(), "options that contradict themselves");
    let conn = net.connect(addr).expect("the first of one");
    let limit = net.connect(addr).expect_err("the second of one").to_string();
    assert!(limit.contains("max_connections 1") && limit.contains(&addr.to_string()), "{limit}");
    assert_eq!((net.stats().connects, net.stats().connections), (1, 1));
    rig.settle();
    assert_eq!(rig.handler.calls, [Call::Connect(conn)], "what got no id gets no callback");
    rig.event_loop.net().abort(conn);
    rig.settle();
    rig.event_loop.net().connect(addr).expect("the slot is free again");
}

fn a_connect_during_close_all_gets_no_id(kind: Kind) {
    let mut rig = Rig::new(kind);
    let addr = rig.server();
    let (_, conn) = rig.client();
    let refused = Rc::new(RefCell::new(String::new()));
    let said = Rc::clone(&refused);
    rig.handler.on_close = Some(Box::new(move |net, _, _| {
        *said.borrow_mut() = net.connect(addr).expect_err("it is closing").to_string();
    }));
    rig.event_loop.close_all(&mut rig.handler, Duration::ZERO).expect("the loop runs");
    assert_eq!(rig.closed(conn), Some((CloseReason::Shutdown, 0)));
    assert!(refused.borrow().contains(&addr.to_string()), "{refused:?}");
    assert_eq!(rig.event_loop.net().stats().connects, 0);
}

/// On real sockets only: it is the kernel that refuses to begin.
fn a_connect_that_cannot_be_begun_is_an_error_with_its_address(kind: Kind) {
    let mut rig = Rig::new(kind);
    let error = rig.event_loop.net().connect("[fe80::1]:80").expect_err("it has no scope");
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    assert!(error.to_string().contains("[fe80::1]:80"), "{error}");
    rig.settle();
    assert!(rig.handler.calls.is_empty());
    assert_eq!(rig.event_loop.net().stats().connections, 0);
}

fn on_close_may_connect_again_until_it_succeeds(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (refusing, serving) = (rig.refusing(), rig.server());
    let tries: Rc<RefCell<Vec<ConnId>>> = Rc::default();
    let made = Rc::clone(&tries);
    rig.handler.on_close = Some(Box::new(move |net, conn, reason| {
        assert_eq!(reason, REFUSED);
        let tried = made.borrow().len();
        let next = if tried < 3 { refusing } else { serving };
        let id = net.connect(next).expect("there are slots");
        assert_ne!(id, conn);
        made.borrow_mut().push(id);
    }));
    let first = rig.event_loop.net().connect(refusing).expect("there are slots");
    rig.until("a connect", |rig| !rig.handler.connected.is_empty());
    let tries = tries.borrow();
    let mut expected: Vec<Call> = vec![Call::Close(first, REFUSED, 0)];
    expected.extend(tries[..3].iter().map(|id| Call::Close(*id, REFUSED, 0)));
    expected.push(Call::Connect(tries[3]));
    assert_eq!(rig.handler.calls, expected);
}

fn on_close_that_always_connects_does_not_hold_the_turn(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.echo();
    let (peer, _) = rig.client();
    rig.settle();
    let refusing = rig.refusing();
    rig.handler.on_close = Some(Box::new(move |net, _, _| {
        let id = net.connect(refusing).expect("there are slots");
        net.abort(id);
    }));
    let id = rig.event_loop.net().connect(refusing).expect("there are slots");
    rig.event_loop.net().abort(id);
    rig.send(peer, b"me too");
    for _ in 0..20 {
        assert!(rig.turn().callbacks <= 2, "closings of a turn are a snapshot");
    }
    rig.until("the echo", |rig| rig.received(peer) == b"me too");
}

fn a_relay_connects_in_on_accept_and_writes_at_once(kind: Kind) {
    let mut rig = Rig::new(kind);
    let addr = rig.server();
    let upstream = Rc::new(Cell::new(None));
    let (set, to) = (Rc::clone(&upstream), Rc::clone(&upstream));
    rig.handler.on_accept = Some(Box::new(move |net, _| {
        set.set(Some(net.connect(addr).expect("there are slots")));
    }));
    rig.handler.on_data = Some(Box::new(move |net, _, data| {
        assert!(net.write(to.get().expect("connected in on_accept"), data).is_taken());
        data.len()
    }));
    let client = rig.dial();
    rig.send(client, b"through");
    rig.until("a connect", |rig| !rig.handler.connected.is_empty());
    let server = rig.server_peer(addr).expect("the handshake was done");
    rig.until("it came through", |rig| rig.received(server) == b"through");
    assert_eq!(rig.handler.connected, [upstream.get().expect("just seen")]);
}

fn close_and_abort_in_on_connect_are_the_last_but_on_close(kind: Kind) {
    for abort in [false, true] {
        let mut rig = Rig::new(kind);
        rig.handler.on_connect = Some(Box::new(move |net, conn| {
            net.write(conn, b"bye");
            if abort { net.abort(conn) } else { net.close(conn) }
        }));
        let (peer, conn) = rig.connected();
        rig.until("its end", |rig| rig.at_end(peer) || rig.is_reset(peer));
        assert_eq!((rig.is_reset(peer), rig.received(peer).is_empty()), (abort, abort));
        if !abort {
            rig.finish(peer);
        }
        let end = match abort {
            true => (CloseReason::LocalAbort, 3),
            false => (CloseReason::LocalClose, 0),
        };
        assert_eq!(rig.until_closed(conn), end);
        assert_eq!(rig.handler.calls.len(), 2);
    }
}

fn the_peers_address_is_known_at_once_and_the_own_after_the_connect(kind: Kind) {
    let mut rig = Rig::new(kind);
    let addr = rig.server();
    let conn = rig.event_loop.net().connect(addr).expect("there are slots");
    assert_eq!(rig.event_loop.net().peer_addr(conn), Some(addr));
    assert_eq!(rig.event_loop.net().local_addr(conn), None);
    let at_close = Rc::new(Cell::new(None));
    let seen = Rc::clone(&at_close);
    rig.handler.on_close = Some(Box::new(move |net, conn, _| seen.set(net.local_addr(conn))));
    rig.until("a connect", |rig| !rig.handler.connected.is_empty());
    let local = rig.event_loop.net().local_addr(conn);
    assert!(local.is_some_and(|local| local != addr));
    rig.event_loop.net().abort(conn);
    rig.until_closed(conn);
    assert_eq!(at_close.get(), local);
}

/// On real sockets only: the scripted world has no addresses of its own.
fn the_own_address_is_the_one_the_server_sees(kind: Kind) {
    let mut rig = Rig::new(kind);
    for bind in ["127.0.0.1:0", "[::1]:0"] {
        let server = TcpListener::bind(bind).expect("a free port");
        let addr = server.local_addr().expect("it is bound");
        let conn = rig.event_loop.net().connect(addr).expect("there are slots");
        rig.until("a connect", |rig| rig.handler.connected.contains(&conn));
        let (_stream, seen) = server.accept().expect("the handshake was done");
        assert_eq!(rig.event_loop.net().local_addr(conn), Some(seen));
        assert_eq!(rig.event_loop.net().peer_addr(conn), Some(addr));
    }
}

/// On Linux: the options are the kernel's, and the accepted end's socket is found in procfs.
#[cfg(target_os = "linux")]
fn nodelay_is_on_at_both_ends_unless_switched_off(kind: Kind) {
    for on in [true, false] {
        let mut rig = Rig::new(kind);
        let mut options = (hotloop::ListenOptions::default(), ConnOptions::default());
        if !on {
            let off = options.1.nodelay(false);
            options = (options.0.conn(off.clone()), off);
        }
        let net = rig.event_loop.net();
        let listener = net.listen_with("[::1]:0", options.0).expect("a free port");
        let addr = net.listener_addr(listener).expect("it is open");
        let conn = net.connect_with(addr, options.1).expect("there are slots");
        rig.until("both ends", |rig| rig.handler.calls.len() == 2);
        assert_eq!(rig.handler.connected, [conn]);
        let local = rig.event_loop.net().local_addr(conn).expect("it is connected");
        assert_eq!(nodelay_of(local, addr), Some(on), "of the connected end");
        assert_eq!(nodelay_of(addr, local), Some(on), "of the accepted end");
    }
}

/// Finds a socket of this process by its two addresses and asks for `TCP_NODELAY`.
#[cfg(target_os = "linux")]
fn nodelay_of(local: SocketAddr, peer: SocketAddr) -> Option<bool> {
    use std::os::fd::{BorrowedFd, RawFd};

    let entries = std::fs::read_dir("/proc/self/fd").expect("procfs is mounted");
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter_map(|name| name.parse::<RawFd>().ok()).find_map(|fd| {
        // SAFETY: only asked about itself; one that was closed meanwhile answers with an error.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        let socket = socket2::SockRef::from(&fd);
        let own = socket.local_addr().ok()?.as_socket()?;
        let other = socket.peer_addr().ok()?.as_socket()?;
        (own == local && other == peer).then(|| socket.tcp_nodelay().expect("a TCP socket"))
    })
}

on_every_backend!(
    on_connect_comes_once_and_then_data,
    what_a_server_says_and_ends_at_once_comes_in_order,
    a_refused_connect_is_told_by_on_close_alone,
    close_while_connecting_gives_up,
    abort_while_connecting_resets,
    writes_before_the_connect_is_done_arrive_in_order_after_it,
    shutdown_while_connecting_follows_what_was_written,
    pause_while_connecting_holds_the_data_back,
    a_connect_that_gets_no_id_says_why,
    a_connect_during_close_all_gets_no_id,
    on_close_may_connect_again_until_it_succeeds,
    on_close_that_always_connects_does_not_hold_the_turn,
    a_relay_connects_in_on_accept_and_writes_at_once,
    close_and_abort_in_on_connect_are_the_last_but_on_close,
    the_peers_address_is_known_at_once_and_the_own_after_the_connect,
);

on_virtual_time!(
    the_connect_timeout_is_over_with_the_connect,
    an_unanswered_connect_ends_at_its_timeout_and_not_before,
    an_unanswered_connect_is_given_up_at_once,
    a_spurious_event_decides_no_connect,
);

// A kernel gives a connect up after some minutes, and connects to itself only by chance.
on_script!(a_connect_without_a_limit_waits_for_ever, a_self_connect_counts_as_refused,);

on_real_sockets!(
    a_connect_that_cannot_be_begun_is_an_error_with_its_address,
    the_own_address_is_the_one_the_server_sees,
);

/// The broadcast address of the loopback network: `connect` itself fails, and as it is the network
/// that says so, `on_close` tells.
#[cfg(target_os = "linux")]
fn a_network_that_refuses_at_once_is_told_by_on_close(kind: Kind) {
    let mut rig = Rig::new(kind);
    let conn = rig.event_loop.net().connect("127.255.255.255:9").expect("it has an id");
    let unreachable = CloseReason::ConnectFailed(Errno(errno::ENETUNREACH));
    assert_eq!(rig.until_closed(conn), (unreachable, 0));
    assert!(rig.handler.connected.is_empty());
}

#[cfg(target_os = "linux")]
on_real_sockets!(a_network_that_refuses_at_once_is_told_by_on_close,);

#[cfg(target_os = "linux")]
on_real_sockets!(nodelay_is_on_at_both_ends_unless_switched_off);
