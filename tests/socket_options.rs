//! Options of sockets: each is set at once and read back as the system has it, those of
//! `ConnOptions` and `ListenOptions` are there from the start, what the kernel holds is counted. On
//! Linux: most of the options are Linux's alone.
#![cfg(target_os = "linux")]

mod support;

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;

use hotloop::{
    BackendKind, Config, ConnId, ConnOptions, Keepalive, ListenOptions, Loop, OptionName,
    SocketOption,
};
use support::{Kind, Rig};

const SECOND: Duration = Duration::from_secs(1);

fn keepalive() -> SocketOption {
    SocketOption::Keepalive(Some(Keepalive { idle: 30 * SECOND, interval: 5 * SECOND, probes: 3 }))
}

/// Options that are read back as they are set, on connections.
fn plain() -> Vec<SocketOption> {
    vec![
        SocketOption::Nodelay(false),
        SocketOption::Nodelay(true),
        keepalive(),
        SocketOption::Keepalive(None),
        SocketOption::Linger(Some(Duration::ZERO)),
        SocketOption::Linger(None),
        SocketOption::UserTimeout(Duration::from_millis(12_345)),
        SocketOption::NotsentLowatBytes(16_384),
        SocketOption::Quickack(false),
        SocketOption::TypeOfService(0xb8),
        SocketOption::Congestion("reno".to_owned()),
        SocketOption::Congestion("cubic".to_owned()),
        SocketOption::BusyPoll(Duration::from_micros(50)),
        SocketOption::Mark(7),
        SocketOption::ReuseAddress(true),
        SocketOption::ReusePort(true),
    ]
}

fn read(rig: &mut Rig, id: ConnId, name: OptionName) -> SocketOption {
    rig.event_loop.net().socket_option(id, name).expect("an option of Linux")
}

fn each_option_is_read_back_as_it_was_set(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (_, conn) = rig.client();
    for option in plain() {
        rig.event_loop.net().set_socket_option(conn, &option).expect("an option of Linux");
        assert_eq!(read(&mut rig, conn, option.name()), option);
    }
}

fn a_listener_has_options_of_its_own(kind: Kind) {
    let mut rig = Rig::new(kind);
    let listener = rig.listener;
    let net = rig.event_loop.net();
    for option in [SocketOption::FastOpen(16), SocketOption::Device(Some("lo".to_owned()))] {
        net.set_socket_option(listener, &option).expect("an option of Linux");
        assert_eq!(net.socket_option(listener, option.name()).expect("read"), option);
    }
    // The kernel rounds up to a whole number of retransmissions.
    net.set_socket_option(listener, &SocketOption::DeferAccept(5 * SECOND)).expect("set");
    match net.socket_option(listener, OptionName::DeferAccept).expect("read") {
        SocketOption::DeferAccept(time) => assert!(time >= 5 * SECOND && time < 60 * SECOND),
        other => panic!("{other:?}"),
    }
}

fn a_buffers_size_is_doubled_as_linux_does(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (_, conn) = rig.client();
    let net = rig.event_loop.net();
    for (option, read_back) in [
        (SocketOption::SendBufferBytes(50_000), SocketOption::SendBufferBytes(100_000)),
        (SocketOption::RecvBufferBytes(60_000), SocketOption::RecvBufferBytes(120_000)),
    ] {
        net.set_socket_option(conn, &option).expect("an option of every system");
        assert_eq!(net.socket_option(conn, option.name()).expect("read"), read_back);
    }
}

fn a_small_send_buffer_holds_less(kind: Kind) {
    let taken = [4 << 10, 256 << 10].map(|bytes| {
        let conn = ConnOptions::default()
            .hard_limit_bytes(64 << 20)
            .socket(SocketOption::SendBufferBytes(bytes));
        let mut rig = Rig::with(kind, Config::default().conn(conn));
        let (peer, conn) = rig.client();
        rig.stop_reading(peer);
        rig.event_loop.net().write(conn, &vec![7; 32 << 20]);
        rig.settle();
        (32 << 20) - rig.event_loop.net().queued_bytes(conn)
    });
    assert!(taken[0] < taken[1], "{taken:?} bytes were taken");
}

fn what_is_set_for_connections_is_there_in_the_first_callback(kind: Kind) {
    let conn = ConnOptions::default().nodelay(false).socket(keepalive());
    let mut rig = Rig::with(kind, Config::default().conn(conn));
    let seen = Rc::new(RefCell::new(Vec::new()));
    for _ in 0..2 {
        let saw = Rc::clone(&seen);
        let look = move |net: &mut hotloop::Net, id: ConnId| {
            let names = [OptionName::Keepalive, OptionName::Nodelay];
            saw.borrow_mut().push(names.map(|name| net.socket_option(id, name).expect("read")));
        };
        rig.handler.on_accept = Some(Box::new(look.clone()));
        rig.handler.on_connect = Some(Box::new(look));
    }
    rig.client();
    rig.connected();
    // A socket that is not real has always had no delay.
    let real = !kind.is_virtual();
    let expected = [keepalive(), SocketOption::Nodelay(!real)];
    assert_eq!(*seen.borrow(), [expected.clone(), expected]);
}

fn a_connection_has_what_its_listener_has(kind: Kind) {
    let own = ConnOptions::default().socket(SocketOption::TypeOfService(0x20));
    let options = ListenOptions::default()
        .socket(keepalive())
        .socket(SocketOption::TypeOfService(0x10))
        .conn(own);
    let mut rig = Rig::listening(kind, Config::default(), options);
    let (_, conn) = rig.client();
    assert_eq!(read(&mut rig, conn, OptionName::Keepalive), keepalive());
    let own = read(&mut rig, conn, OptionName::TypeOfService);
    assert_eq!(own, SocketOption::TypeOfService(0x20), "its own win");
}

/// What an IPv4 peer of a listener for both gets is packets of IPv4.
fn the_type_of_service_is_that_of_the_packets_that_are_sent(kind: Kind) {
    let mut rig = Rig::new(kind);
    let options = ListenOptions::default().socket(SocketOption::TypeOfService(0x10));
    let listener = rig.event_loop.net().listen_with("[::]:0", options).expect("a free port");
    let port = rig.event_loop.net().listener_addr(listener).expect("it listens").port();
    for (host, bits) in [("127.0.0.1", 0x20), ("::1", 0x40)] {
        let known = rig.handler.accepted.len();
        let _peer = std::net::TcpStream::connect((host, port)).expect("it listens");
        rig.until("the connection", |rig| rig.handler.accepted.len() > known);
        let conn = rig.handler.accepted[known];
        let inherited = read(&mut rig, conn, OptionName::TypeOfService);
        assert_eq!(inherited, SocketOption::TypeOfService(0x10), "{host}");
        let net = rig.event_loop.net();
        net.set_socket_option(conn, &SocketOption::TypeOfService(bits)).expect("set");
        let fd = net.fd(conn).expect("a descriptor");
        let socket = socket2::SockRef::from(&fd);
        let sent = if host == "::1" { socket.tclass_v6() } else { socket.tos_v4() };
        assert_eq!(sent.expect("read"), u32::from(bits), "{host}");
    }
}

fn impossible_values_and_ids_without_a_socket_are_errors(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (_, conn) = rig.client();
    let listener = rig.listener;
    let net = rig.event_loop.net();
    let wrong = SocketOption::Linger(Some(SECOND));
    let error = net.set_socket_option(conn, &wrong).expect_err("it would block");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("Linger"), "{error}");
    let error = net.set_socket_option(conn, &SocketOption::V6Only(true)).expect_err("too late");
    assert!(error.to_string().contains("V6Only"), "{error}");
    let (too_long, too_late) = (Duration::from_millis(1 << 31), Duration::from_secs(32_768));
    let error = net.set_socket_option(conn, &SocketOption::UserTimeout(too_long));
    assert_eq!(error.expect_err("above an int").kind(), ErrorKind::InvalidInput);
    let too_busy = SocketOption::BusyPoll(Duration::from_micros(1 << 31));
    let error = net.set_socket_option(conn, &too_busy);
    assert_eq!(error.expect_err("above an int").kind(), ErrorKind::InvalidInput);
    let error = net.set_socket_option(listener, &SocketOption::DeferAccept(too_late));
    assert_eq!(error.expect_err("above its range").kind(), ErrorKind::InvalidInput);
    let looks = Rc::new(Cell::new(0));
    let looked = Rc::clone(&looks);
    rig.handler.on_close = Some(Box::new(move |net, id, _| {
        let kinds = [
            net.socket_option(id, OptionName::Nodelay).expect_err("closed").kind(),
            net.set_socket_option(id, &SocketOption::Nodelay(true)).expect_err("closed").kind(),
            net.tcp_info(id).expect_err("closed").kind(),
            net.unacked_bytes(id).expect_err("closed").kind(),
        ];
        assert_eq!(kinds, [ErrorKind::NotConnected; 4]);
        looked.set(looked.get() + 1);
    }));
    rig.event_loop.net().abort(conn);
    rig.until_closed(conn);
    assert_eq!(looks.get(), 1);
    let net = rig.event_loop.net();
    let stale = net.socket_option(conn, OptionName::Nodelay).expect_err("stale");
    assert_eq!(stale.kind(), ErrorKind::NotConnected);
    assert!(net.close_listener(listener));
    assert_eq!(net.backlog_len(listener).expect_err("stale").kind(), ErrorKind::NotConnected);
}

fn an_option_that_cannot_be_is_an_error_of_what_has_it(kind: Kind) {
    let wrong = || ConnOptions::default().socket(SocketOption::Congestion(String::new()));
    let mut rig = Rig::new(kind);
    let net = rig.event_loop.net();
    net.connect_with("127.0.0.1:9", wrong()).expect_err("no name");
    net.listen_with("127.0.0.1:0", ListenOptions::default().conn(wrong())).expect_err("no name");
    let too_late = ListenOptions::default().socket(SocketOption::V6Only(true));
    let error = net.listen_with("127.0.0.1:0", too_late).expect_err("it has its own place");
    assert!(error.to_string().contains("v6_only"), "{error}");
    assert!(Loop::new(Config::default().conn(wrong())).is_err());
}

/// What the system refuses, as opposed to what is out of range.
fn an_option_that_the_system_refuses_fails_a_connect_and_a_listen(kind: Kind) {
    let unknown = || SocketOption::Congestion("quux".to_owned());
    let mut rig = Rig::new(kind);
    let net = rig.event_loop.net();
    let options = ConnOptions::default().socket(unknown());
    let error = net.connect_with("127.0.0.1:9", options).expect_err("no such algorithm");
    assert!(error.to_string().contains("quux"), "{error}");
    let options = ListenOptions::default().socket(unknown());
    let error = net.listen_with("127.0.0.1:0", options).expect_err("no such algorithm");
    assert!(error.to_string().contains("quux"), "{error}");
    // An accepted connection is worth more than its option.
    let conn = ConnOptions::default().socket(unknown());
    let mut rig = Rig::listening(kind, Config::default(), ListenOptions::default().conn(conn));
    rig.handler.echo();
    // The second one is told in the log no more.
    for _ in 0..2 {
        let (peer, _) = rig.client();
        rig.send(peer, b"served");
        rig.until("the echo", |rig| rig.received(peer) == b"served");
    }
}

fn a_connection_is_accepted_when_its_first_byte_has_come(kind: Kind) {
    let options = ListenOptions::default().socket(SocketOption::DeferAccept(30 * SECOND));
    let mut rig = Rig::listening(kind, Config::default(), options);
    let peer = rig.dial();
    rig.settle();
    assert!(rig.handler.accepted.is_empty(), "nothing has come");
    rig.send(peer, b"first");
    rig.until("the bytes", |rig| rig.handler.consumed == b"first");
}

fn the_backlog_is_as_long_as_those_who_wait(kind: Kind) {
    let mut rig = Rig::new(kind);
    let listener = rig.listener;
    let backlog = |rig: &mut Rig| rig.event_loop.net().backlog_len(listener).expect("counted");
    assert_eq!(backlog(&mut rig), 0);
    for waiting in 1..=5 {
        rig.dial();
        rig.until_arrived();
        assert_eq!(backlog(&mut rig), waiting);
    }
    rig.until("all are accepted", |rig| rig.handler.accepted.len() == 5);
    assert_eq!(backlog(&mut rig), 0);
}

fn what_a_peer_does_not_read_is_unacked_or_unsent(kind: Kind) {
    let conn = ConnOptions::default().hard_limit_bytes(64 << 20);
    let mut rig = Rig::with(kind, Config::default().conn(conn));
    let (peer, conn) = rig.client();
    let net = rig.event_loop.net();
    assert_eq!((net.unacked_bytes(conn).ok(), net.unsent_bytes(conn).ok()), (Some(0), Some(0)));
    rig.stop_reading(peer);
    rig.event_loop.net().write(conn, &vec![7; 32 << 20]);
    rig.settle();
    let net = rig.event_loop.net();
    let (unacked, unsent) =
        (net.unacked_bytes(conn).expect("n"), net.unsent_bytes(conn).expect("n"));
    assert!(unsent > 0 && unsent <= unacked, "{unsent} unsent, {unacked} unacknowledged");
    rig.start_reading(peer);
    rig.until("all is there", |rig| rig.received(peer).len() == 32 << 20);
    rig.until("it is known", |rig| rig.event_loop.net().unacked_bytes(conn).expect("n") == 0);
    assert_eq!(rig.event_loop.net().unsent_bytes(conn).expect("n"), 0);
}

fn the_kernel_tells_what_it_knows_of_a_connection(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.echo();
    let (peer, conn) = rig.client();
    let sent = vec![7; 100_000];
    rig.send(peer, &sent);
    rig.until("the echo", |rig| rig.received(peer).len() == sent.len());
    rig.until("it is known", |rig| rig.event_loop.net().unacked_bytes(conn).expect("n") == 0);
    let info = rig.event_loop.net().tcp_info(conn).expect("TCP_INFO");
    assert!(info.rtt > Duration::ZERO || kind.is_sim(), "{info:?}");
    assert!(info.retransmit_timeout >= Duration::from_millis(1), "{info:?}");
    assert!(info.congestion_window_segments > 0 && info.segment_max_bytes > 0, "{info:?}");
    assert_eq!(info.arrived_bytes, Some(100_000));
    // The kernel counts the SYN, too.
    assert!(info.acked_bytes.is_some_and(|bytes| (100_000..=100_001).contains(&bytes)), "{info:?}");
    assert_eq!((info.unacked_segments, info.unsent_bytes), (0, Some(0)));
    assert_eq!((info.retransmits, info.lost_segments), (0, 0));
    // A busy machine's kernel probes for an acknowledgement that is merely late.
    assert!(info.total_retransmits == 0 || !kind.is_virtual(), "{info:?}");
}

/// Exact where the network is simulated.
#[test]
fn a_simulated_connection_tells_its_links_latency_and_losses() {
    use hotloop::sim::{Link, NodeOptions, World};
    let mut world = World::new(1);
    world.default_link(Link::lan().latency(7 * SECOND / 1000).jitter(Duration::ZERO));
    let server = world.node("server", NodeOptions::default(), support::Recorder::default());
    let client = world.host("client");
    let addr = world.addr(server.host(), 80);
    world.call(server, |_, net| net.listen(addr).expect("a free port"));
    let peer = world.connect(client, addr);
    world.run_for(SECOND);
    let info = |world: &mut World| {
        world.call(server, |handler, net| net.tcp_info(handler.accepted[0]).expect("known"))
    };
    assert_eq!(info(&mut world).rtt, 14 * SECOND / 1000);
    assert_eq!(info(&mut world).total_retransmits, 0);
    world.default_link(Link::lan().loss(0.5));
    world.call(server, |handler, net| net.write(handler.accepted[0], &[7; 100_000]));
    world.run_for(60 * SECOND);
    assert_eq!(world.received(peer).len(), 100_000);
    assert!(info(&mut world).total_retransmits > 0, "half of all packets were lost");
}

#[test]
fn a_descriptor_is_lent_for_other_options() {
    use std::os::fd::AsRawFd;
    for kind in [BackendKind::Epoll, BackendKind::Portable] {
        let mut event_loop = Loop::new(Config::default().backend(kind)).expect("a loop");
        let listener = event_loop.net().listen("127.0.0.1:0").expect("a free port");
        let net = event_loop.net();
        let fd = net.fd(listener).expect("it is real");
        assert!(fd.as_raw_fd() >= 0);
        assert!(socket2::SockRef::from(&fd).is_listener().expect("an option"));
        assert!(net.close_listener(listener));
        assert!(net.fd(listener).is_none());
    }
    let mut rig = Rig::new(Kind::SimReadiness);
    let listener = rig.listener;
    assert!(rig.event_loop.net().fd(listener).is_none());
}

on_every_backend!(
    each_option_is_read_back_as_it_was_set,
    a_listener_has_options_of_its_own,
    a_buffers_size_is_doubled_as_linux_does,
    impossible_values_and_ids_without_a_socket_are_errors,
    an_option_that_cannot_be_is_an_error_of_what_has_it,
    the_backlog_is_as_long_as_those_who_wait,
);
on_kernels!(
    what_is_set_for_connections_is_there_in_the_first_callback,
    a_small_send_buffer_holds_less,
    a_connection_has_what_its_listener_has,
    what_a_peer_does_not_read_is_unacked_or_unsent,
    the_kernel_tells_what_it_knows_of_a_connection,
);
#[cfg(target_os = "linux")]
fn a_listener_of_ipv6_alone_has_a_type_of_service(kind: Kind) {
    let mut rig = Rig::new(kind);
    let service = SocketOption::TypeOfService(0x10);
    let options = ListenOptions::default().v6_only(true).socket(service.clone());
    let net = rig.event_loop.net();
    let listener = net.listen_with("[::1]:0", options).expect("a free port");
    assert_eq!(net.socket_option(listener, OptionName::TypeOfService).expect("read"), service);
    let only = net.socket_option(listener, OptionName::V6Only).expect("read");
    assert_eq!(only, SocketOption::V6Only(true));
}

#[cfg(target_os = "linux")]
on_real_sockets!(a_listener_of_ipv6_alone_has_a_type_of_service,);

on_real_sockets!(
    an_option_that_the_system_refuses_fails_a_connect_and_a_listen,
    a_connection_is_accepted_when_its_first_byte_has_come,
    the_type_of_service_is_that_of_the_packets_that_are_sent,
);
