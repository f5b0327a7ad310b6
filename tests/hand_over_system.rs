//! Handing over between a loop and the rest of the program: sockets of the standard library.

mod support;

use std::io::{self, ErrorKind, Read, Write};
#[cfg(target_os = "linux")]
use std::net::Shutdown;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use hotloop::{
    CloseReason, Config, ConnId, ConnOptions, Detached, Loop, Net, OptionName, Sent, SocketOption,
};
use socket2::{SockRef, Socket};
use support::{Kind, Rig};

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let near = TcpStream::connect(listener.local_addr().expect("bound")).expect("connect");
    (near, listener.accept().expect("accept").0)
}

fn a_blocking_stream_is_adopted_and_served(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.echo();
    let (near, mut far) = pair();
    far.write_all(b"sent before").expect("write");
    let conn = rig.event_loop.net().adopt(near).expect("a connection");
    assert_eq!(rig.event_loop.net().peer_addr(conn), far.local_addr().ok());
    assert_eq!(rig.event_loop.net().local_addr(conn), far.peer_addr().ok());
    rig.until("its bytes", |rig| rig.handler.consumed == b"sent before");
    let mut answer = [0; 11];
    rig.settle();
    far.read_exact(&mut answer).expect("the echo");
    assert_eq!(&answer, b"sent before");
    drop(far);
    assert_eq!(rig.until_closed(conn), (CloseReason::PeerClosed, 0));
    assert_eq!(rig.handler.accepted, [], "C1");
}

fn a_released_stream_goes_on_in_the_standard_library(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (near, mut far) = pair();
    let conn = rig.event_loop.net().adopt(near).expect("a connection");
    rig.handler.on_data = Some(Box::new(|net, conn, _| {
        net.write(conn, b"queued");
        net.release(conn);
        0
    }));
    far.write_all(b"unread").expect("write");
    rig.until_closed(conn);
    let detached = rig.handler.released.pop().expect("on_release came");
    let (mut stream, unread, queued) = detached.into_parts().expect("a real one");
    assert_eq!((&unread[..], &queued[..]), (&b"unread"[..], &b"queued"[..]));
    stream.set_nonblocking(false).expect("a socket");
    stream.write_all(&queued).expect("write");
    far.write_all(b"more").expect("write");
    let mut more = [0; 4];
    stream.read_exact(&mut more).expect("read");
    assert_eq!(&more, b"more");
    drop(stream);
    let mut all = String::new();
    far.read_to_string(&mut all).expect("read");
    assert_eq!(all, "queued");
}

fn a_connection_moves_to_a_loop_of_another_thread(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (near, mut far) = pair();
    let conn = rig.event_loop.net().adopt(near).expect("a connection");
    let detached = rig.release(conn).with_unread(b"moved ");
    let (to, from) = mpsc::channel::<Detached>();
    let other = thread::spawn(move || {
        let mut rig = Rig::new(kind);
        rig.handler.echo();
        let detached = from.recv().expect("it is sent");
        let conn = rig.event_loop.net().adopt(detached).expect("a connection");
        rig.until_closed(conn)
    });
    to.send(detached).expect("the thread lives");
    far.write_all(b"house").expect("write");
    let mut echo = [0; 11];
    far.read_exact(&mut echo).expect("the echo");
    assert_eq!(&echo, b"moved house");
    drop(far);
    assert_eq!(other.join().expect("it ends"), (CloseReason::PeerClosed, 0));
}

fn an_inherited_listener_is_served(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.echo();
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let addr = listener.local_addr().expect("bound");
    let mut early = TcpStream::connect(addr).expect("connect");
    early.write_all(b"early").expect("write");
    let id = rig.event_loop.net().adopt_listener(listener).expect("it listens");
    assert_eq!(rig.event_loop.net().listener_addr(id), Some(addr));
    rig.until("the early one", |rig| rig.handler.consumed == b"early");
    let back = rig.event_loop.net().release_listener(id).expect("it is open");
    let back = back.into_listener().expect("a real one");
    back.set_nonblocking(false).expect("a socket");
    let _late = TcpStream::connect(addr).expect("connect");
    back.accept().expect("the late one");
}

fn a_stream_that_is_refused_blocks_as_before(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (near, mut far) = pair();
    let unknown = SocketOption::Congestion("nonesuch".to_owned());
    let options = ConnOptions::default().socket(unknown);
    let refused = rig.event_loop.net().adopt_with(near, options).expect_err("no such algorithm");
    let (mut near, ..) = refused.into_inner().into_parts().expect("a real one");
    #[cfg(unix)]
    assert!(!SockRef::from(&near).nonblocking().expect("a socket"));
    far.write_all(b"goes on").expect("write");
    let mut rest = [0; 7];
    near.read_exact(&mut rest).expect("read");
    assert_eq!(&rest, b"goes on");
}

/// `close(2)` would wait, and the loop with it; and small writes wait for acknowledgements.
fn what_would_hold_up_the_loop_is_switched_off(kind: Kind) {
    let mut rig = Rig::new(kind);
    for nodelay in [true, false] {
        let (near, _far) = pair();
        let socket = SockRef::from(&near);
        socket.set_linger(Some(Duration::from_secs(30))).expect("a socket");
        socket.set_tcp_nodelay(!nodelay).expect("a socket");
        let options = ConnOptions::default().nodelay(nodelay);
        let conn = rig.event_loop.net().adopt_with(near, options).expect("a connection");
        let read = |name| rig.event_loop.net().socket_option(conn, name).expect("an option");
        let found = [OptionName::Linger, OptionName::Nodelay].map(read);
        assert_eq!(found, [SocketOption::Linger(None), SocketOption::Nodelay(nodelay)]);
    }
}

/// A program that the process executes would keep the connection open. Read from procfs, which has
/// the flag of the descriptor among those of the file (`proc(5)`).
#[cfg(target_os = "linux")]
fn what_was_inherited_is_not_passed_on(kind: Kind) {
    use std::os::fd::{AsRawFd, RawFd};

    fn closes_on_exec(fd: RawFd) -> bool {
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).expect("it is open");
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).expect("a line");
        let flags = i32::from_str_radix(flags.trim(), 8).expect("an octal number");
        flags & libc::O_CLOEXEC != 0
    }

    let mut rig = Rig::new(kind);
    let (near, _far) = pair();
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let fds = [near.as_raw_fd(), listener.as_raw_fd()];
    for socket in [SockRef::from(&near), SockRef::from(&listener)] {
        socket.set_cloexec(false).expect("a socket");
    }
    assert_eq!(fds.map(closes_on_exec), [false, false]);
    rig.event_loop.net().adopt(near).expect("a connection");
    rig.event_loop.net().adopt_listener(listener).expect("it listens");
    assert_eq!(fds.map(closes_on_exec), [true, true]);
}

/// Linux knows of no peer any more then, but keeps what has arrived.
#[cfg(target_os = "linux")]
fn what_both_ends_have_finished_is_given_back_with_what_is_unread(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (near, mut far) = pair();
    far.write_all(b"unread").expect("write");
    far.shutdown(Shutdown::Write).expect("it is connected");
    near.shutdown(Shutdown::Write).expect("it is connected");
    rig.until("the last acknowledgement", |_| near.peer_addr().is_err());
    let refused = rig.event_loop.net().adopt(near).expect_err("it is over");
    assert_eq!(refused.error().kind(), ErrorKind::NotConnected, "{refused}");
    let (mut near, ..) = refused.into_inner().into_parts().expect("a real one");
    let mut rest = String::new();
    near.read_to_string(&mut rest).expect("read");
    assert_eq!(rest, "unread");
}

fn what_is_no_connection_is_given_back(kind: Kind) {
    let mut rig = Rig::new(kind);
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let as_stream = TcpStream::from(Socket::from(listener));
    let refused = rig.event_loop.net().adopt(as_stream).expect_err("it listens");
    assert_eq!(refused.error().kind(), ErrorKind::NotConnected, "{refused}");
    let (stream, ..) = refused.into_inner().into_parts().expect("a real one");
    let refused = rig.event_loop.net().adopt_listener(TcpListener::from(Socket::from(pair().0)));
    assert_eq!(refused.expect_err("a stream").error().kind(), ErrorKind::InvalidInput);
    rig.event_loop
        .net()
        .adopt_listener(TcpListener::from(Socket::from(stream)))
        .expect("the listener is as it was");

    for stream in not_of_tcp() {
        let refused = rig.event_loop.net().adopt(stream).expect_err("no TCP");
        assert_eq!(refused.error().kind(), ErrorKind::InvalidInput, "{refused}");
    }
    assert_eq!(rig.event_loop.net().stats().adopted, 0);
}

/// Sockets of other kinds under the name of one of TCP's.
fn not_of_tcp() -> Vec<TcpStream> {
    let udp = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    #[allow(unused_mut, reason = "Windows has no pairs")]
    let mut sockets = vec![Socket::from(udp)];
    #[cfg(unix)]
    {
        let pair = Socket::pair(socket2::Domain::UNIX, socket2::Type::STREAM, None);
        sockets.push(pair.expect("a pair").0);
    }
    sockets.into_iter().map(TcpStream::from).collect()
}

fn the_error_becomes_one_of_io(kind: Kind) {
    fn adopt(net: &mut Net, stream: TcpStream) -> io::Result<ConnId> {
        Ok(net.adopt(stream)?)
    }
    let mut rig = Rig::new(kind);
    let (near, _far) = pair();
    rig.event_loop.net().listen("127.0.0.1:0").expect("a free port");
    let conn = adopt(rig.event_loop.net(), near).expect("a connection");
    assert_eq!(rig.event_loop.net().write(conn, b"x"), Sent::Queued);
    for stream in not_of_tcp() {
        adopt(rig.event_loop.net(), stream).expect_err("no TCP");
    }
}

#[test]
fn a_scripted_or_simulated_socket_is_nothing_outside_its_world() {
    for kind in [Kind::ScriptReadiness, Kind::SimReadiness] {
        let mut rig = Rig::new(kind);
        let (_, conn) = rig.client();
        let detached = rig.release(conn).into_parts().expect_err("it is simulated");
        let mut other = Loop::new(Config::default()).expect("a loop");
        let refused = other.net().adopt(detached).expect_err("a foreign socket");
        assert_eq!(refused.error().kind(), ErrorKind::InvalidInput);
        let again = rig.event_loop.net().adopt(refused.into_inner()).expect("it is at home");
        assert!(rig.event_loop.net().is_open(again));
        let (near, _far) = pair();
        rig.event_loop.net().adopt(near).expect_err("a real one in a simulated world");
    }
}

on_real_sockets!(
    a_blocking_stream_is_adopted_and_served,
    a_released_stream_goes_on_in_the_standard_library,
    a_connection_moves_to_a_loop_of_another_thread,
    an_inherited_listener_is_served,
    a_stream_that_is_refused_blocks_as_before,
    what_would_hold_up_the_loop_is_switched_off,
    what_is_no_connection_is_given_back,
    the_error_becomes_one_of_io,
);
#[cfg(target_os = "linux")]
on_real_sockets!(
    what_was_inherited_is_not_passed_on,
    what_both_ends_have_finished_is_given_back_with_what_is_unread,
);
