//! Descriptors that others hold: a child process inherits none of the loop's, and one that was
//! duplicated and outlives its connection makes no events. In a test binary of its own, because
//! the descriptor table is the process's; the tests take turns. On Linux: what is open is read from
//! procfs.
#![cfg(target_os = "linux")]
#![allow(unsafe_code)]

mod support;

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hotloop::{
    Checked, CloseReason, Config, ConnId, ConnOptions, Handler, ListenerId, Loop, Net, TimeoutKind,
};
use socket2::{Domain, Socket, Type};
use support::Kind;

const O_NONBLOCK: u32 = 0o4000;
const O_CLOEXEC: u32 = 0o2_000_000;

static TURN: Mutex<()> = Mutex::new(());

fn take_turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The open descriptors and what they are, `socket:[12345]` for one.
fn descriptors() -> BTreeMap<RawFd, String> {
    let entries = std::fs::read_dir("/proc/self/fd").expect("procfs is mounted");
    let paths: Vec<_> = entries.map(|entry| entry.expect("a descriptor").path()).collect();
    // The one of the directory itself is closed by then, and has no name any more. Those of /proc
    // come and go: malloc looks there once.
    let named = paths.into_iter().filter_map(|path| {
        let number = path.file_name()?.to_str()?.parse().ok()?;
        Some((number, std::fs::read_link(&path).ok()?.to_str()?.to_owned()))
    });
    named.filter(|(_, name): &(RawFd, String)| !name.starts_with("/proc/")).collect()
}

/// The descriptors that were opened since, apart from the given ones.
fn opened(before: &BTreeMap<RawFd, String>, apart: &[RawFd]) -> BTreeMap<RawFd, String> {
    let mut opened = descriptors();
    opened.retain(|fd, _| !before.contains_key(fd) && !apart.contains(fd));
    opened
}

/// The flags of an open file, as `open(2)` names them.
fn flags(fd: RawFd) -> u32 {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).expect("it is open");
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).expect("proc(5)");
    u32::from_str_radix(flags.trim(), 8).expect("proc(5): octal")
}

/// A duplicate that, unlike those of the standard library, a child process inherits.
fn duplicate(fd: RawFd) -> OwnedFd {
    // SAFETY: no memory is passed; the kernel checks the descriptor.
    let copy = unsafe { libc::dup(fd) };
    assert!(copy >= 0, "dup(2)");
    // SAFETY: a new descriptor that nobody else owns.
    unsafe { OwnedFd::from_raw_fd(copy) }
}

/// Echoes, and remembers what happened.
#[derive(Default)]
struct Echo {
    accepted: Vec<ConnId>,
    connected: Vec<ConnId>,
    closed: Vec<(ConnId, CloseReason)>,
}

impl Handler for Echo {
    fn on_accept(&mut self, _: &mut Net, conn: ConnId, _: ListenerId) {
        self.accepted.push(conn);
    }

    fn on_connect(&mut self, _: &mut Net, conn: ConnId) {
        self.connected.push(conn);
    }

    fn on_data(&mut self, net: &mut Net, conn: ConnId, data: &[u8]) -> usize {
        net.write(conn, data);
        data.len()
    }

    fn on_close(&mut self, _: &mut Net, conn: ConnId, reason: CloseReason, _: u64) {
        self.closed.push((conn, reason));
    }
}

/// A socket that has its descriptor before it is connected.
fn socket() -> Socket {
    Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket")
}

struct Server {
    event_loop: Loop,
    echo: Checked<Echo>,
    listener: ListenerId,
    addr: SocketAddr,
}

impl Server {
    fn new(kind: Kind) -> Server {
        // The peers here do not answer a FIN.
        let options = ConnOptions::default().linger_timeout(Duration::from_millis(1));
        let config = kind.real(Config::default().conn(options));
        let mut event_loop = Loop::new(config).expect("a loop");
        let listener = event_loop.net().listen("127.0.0.1:0").expect("a free port");
        let addr = event_loop.net().listener_addr(listener).expect("it is open");
        Server { event_loop, echo: Checked::default(), listener, addr }
    }

    fn until(&mut self, what: &str, mut done: impl FnMut(&Echo) -> bool) {
        for _ in 0..20_000 {
            if done(&self.echo) {
                return;
            }
            self.turn(Duration::from_millis(1));
        }
        panic!("never: {what}; closed: {:?}", self.echo.closed);
    }

    fn turn(&mut self, max_wait: Duration) {
        self.event_loop.turn(&mut self.echo, max_wait).expect("the loop runs");
    }

    /// A client that is accepted, and the loop's descriptor of it.
    fn client(&mut self) -> (TcpStream, ConnId, RawFd) {
        self.client_on(socket())
    }

    fn client_on(&mut self, socket: Socket) -> (TcpStream, ConnId, RawFd) {
        let count = self.echo.accepted.len();
        socket.connect(&self.addr.into()).expect("the listener is there");
        let before = descriptors();
        self.until("an accept", |echo| echo.accepted.len() > count);
        let new: Vec<RawFd> = opened(&before, &[]).into_keys().collect();
        let [fd] = new[..] else { panic!("one descriptor, not {new:?}") };
        (socket.into(), self.echo.accepted[count], fd)
    }

    fn assert_echoes(&mut self, client: &mut TcpStream) {
        client.write_all(b"served?").expect("it is open");
        let answer = self.read(client, 7);
        assert_eq!(answer, b"served?");
    }

    /// Reads so many bytes, with turns in between.
    fn read(&mut self, client: &mut TcpStream, count: usize) -> Vec<u8> {
        client.set_nonblocking(true).expect("a TCP socket");
        let mut answer = Vec::new();
        let mut buffer = [0; 64];
        self.until("the bytes", |_| {
            match client.read(&mut buffer) {
                Ok(count) => answer.extend(&buffer[..count]),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            answer.len() >= count
        });
        client.set_nonblocking(false).expect("a TCP socket");
        answer
    }

    /// Nothing is reported, turn after turn, and the loop would sleep.
    #[track_caller]
    fn assert_silent(&mut self) {
        let before = self.event_loop.net().stats();
        for _ in 0..50 {
            self.turn(Duration::ZERO);
        }
        let after = self.event_loop.net().stats();
        assert_eq!((after.events, after.stale_events), (before.events, before.stale_events));
        assert_eq!(self.event_loop.next_wait(), None);
    }
}

/// Waits until so many bytes have arrived at a socket, without taking them.
fn until_readable(socket: &TcpStream, bytes: usize) {
    let mut seen = [0; 64];
    for _ in 0..1_000_000 {
        match socket.peek(&mut seen) {
            Ok(count) if count == bytes => return,
            Ok(count) => assert_ne!(count, 0, "not the end"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        std::thread::yield_now();
    }
    panic!("they have not arrived");
}

/// An epoll and an eventfd; the crate `polling` has a timerfd too.
fn descriptors_of_poller(kind: Kind) -> usize {
    if kind == Kind::Epoll { 2 } else { 3 }
}

/// What a child process finds open.
fn inherited() -> String {
    let listing = Command::new("ls").args(["-l", "/proc/self/fd"]).output().expect("ls runs");
    assert!(listing.status.success());
    String::from_utf8(listing.stdout).expect("ls prints text")
}

fn count(listing: &str, what: &str) -> usize {
    listing.lines().filter(|line| line.ends_with(what)).count()
}

fn a_child_process_inherits_nothing_of_the_loop(kind: Kind) {
    let _turn = take_turn();
    let (before, child_before) = (descriptors(), inherited());
    let mut server = Server::new(kind);
    server.event_loop.net().listen("[::1]:0").expect("IPv6 is there");
    let _waker = server.event_loop.waker();
    let outside = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = outside.local_addr().expect("it is bound");
    server.event_loop.net().connect(addr).expect("there are slots");
    server.until("the connect", |echo| echo.connected.len() == 1);
    let (client, _, accepted) = server.client();
    let of_loop = opened(&before, &[outside.as_raw_fd(), client.as_raw_fd()]);
    let poller = descriptors_of_poller(kind);
    assert_eq!(of_loop.len(), poller + 4, "and two listeners, two connections: {of_loop:?}");

    let child = inherited();
    for name in of_loop.values().filter(|name| name.starts_with("socket:")) {
        assert_eq!(count(&child, name), 0, "{name} is inherited:\n{child}");
    }
    for anonymous in ["[eventpoll]", "[eventfd]", "[timerfd]"] {
        assert_eq!(count(&child, anonymous), count(&child_before, anonymous), "{child}");
    }
    // And one that is meant to be inherited is seen.
    let meant = duplicate(accepted);
    assert_eq!(count(&inherited(), &of_loop[&accepted]), 1);
    drop(meant);
}

fn every_descriptor_of_the_loop_is_close_on_exec_and_no_call_on_it_blocks(kind: Kind) {
    let _turn = take_turn();
    let before = descriptors();
    let mut server = Server::new(kind);
    let _waker = server.event_loop.waker();
    let outside = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = outside.local_addr().expect("it is bound");
    server.event_loop.net().connect(addr).expect("there are slots");
    server.until("the connect", |echo| echo.connected.len() == 1);
    let (client, ..) = server.client();
    let apart = [outside.as_raw_fd(), client.as_raw_fd()];
    let of_loop = opened(&before, &apart);
    assert_eq!(of_loop.len(), descriptors_of_poller(kind) + 3);
    for (fd, name) in &of_loop {
        assert_ne!(flags(*fd) & O_CLOEXEC, 0, "{name}");
        // The poller is only waited on, with a timeout.
        if !name.ends_with("[eventpoll]") {
            assert_ne!(flags(*fd) & O_NONBLOCK, 0, "{name}");
        }
    }
    assert_eq!(flags(apart[1]) & O_NONBLOCK, 0, "the client's is a blocking one");
}

fn a_duplicate_that_outlives_its_connection_makes_no_events(kind: Kind) {
    let _turn = take_turn();
    for in_order in [true, false] {
        let mut server = Server::new(kind);
        let (mut client, conn, fd) = server.client();
        server.assert_echoes(&mut client);
        let copy = TcpStream::from(duplicate(fd));
        let dialler = socket();
        let reason = if in_order {
            server.event_loop.net().close(conn);
            CloseReason::Timeout(TimeoutKind::Linger)
        } else {
            server.event_loop.net().abort(conn);
            CloseReason::LocalAbort
        };
        server.until("on_close", |echo| echo.closed.len() == 1);
        assert_eq!(server.echo.closed, [(conn, reason)]);
        // The connection lives on in the duplicate, and is still readable.
        client.write_all(b"anybody there?").expect("it is open");
        until_readable(&copy, 14);
        server.assert_silent();

        // The number of the closed descriptor goes to the next, with events of its own only.
        let (mut next, new_conn, new_fd) = server.client_on(dialler);
        assert_eq!((new_fd, new_conn.slot()), (fd, conn.slot()));
        server.assert_echoes(&mut next);
        client.write_all(b"again").expect("it is open");
        until_readable(&copy, 19);
        server.assert_silent();
        drop(client);
        drop(copy);
        server.assert_silent();
        assert_eq!(server.event_loop.net().stats().stale_events, 0);
        assert_eq!(server.echo.closed.len(), 1);
    }
}

fn a_duplicate_of_a_closed_listener_makes_no_events(kind: Kind) {
    let _turn = take_turn();
    let before = descriptors();
    let mut server = Server::new(kind);
    let sockets = opened(&before, &[]);
    let is_socket = |name: &&String| name.starts_with("socket:");
    let mut sockets = sockets.iter().filter(|(_, name)| is_socket(name));
    let copy = TcpListener::from(duplicate(*sockets.next().expect("the listener").0));
    assert!(server.event_loop.net().close_listener(server.listener));
    // Whoever holds the duplicate listens on.
    let _client = TcpStream::connect(server.addr).expect("it still listens");
    server.assert_silent();
    copy.set_nonblocking(false).expect("a TCP socket");
    copy.accept().expect("there is one");
    assert_eq!(server.echo.accepted, []);
}

fn a_child_process_that_holds_a_connection_makes_no_events(kind: Kind) {
    let _turn = take_turn();
    let mut server = Server::new(kind);
    let (mut client, conn, fd) = server.client();
    let mut child = Command::new("cat")
        .stdin(Stdio::piped())
        .stdout(Stdio::from(duplicate(fd)))
        .spawn()
        .expect("cat runs");
    server.event_loop.net().abort(conn);
    server.until("on_close", |echo| echo.closed.len() == 1);
    let mut to_child = child.stdin.take().expect("it is piped");
    to_child.write_all(b"from the child").expect("it reads");
    assert_eq!(server.read(&mut client, 14), b"from the child");
    client.write_all(b"to nobody").expect("it is open");
    server.assert_silent();
    let (mut next, ..) = server.client();
    server.assert_echoes(&mut next);
    drop(to_child);
    assert!(child.wait().expect("it ends").success());
    // With its last holder the connection is gone at once.
    let _ = client.read_to_end(&mut Vec::new());
    server.assert_silent();
    assert_eq!(server.event_loop.net().stats().stale_events, 0);
}

fn a_forked_child_that_drops_the_loop_takes_nothing_from_its_parent(kind: Kind) {
    let _turn = take_turn();
    let mut server = Server::new(kind);
    let (mut client, ..) = server.client();
    // SAFETY: the child only drops what it has inherited and ends without running anything else.
    match unsafe { libc::fork() } {
        0 => {
            drop(server);
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(0) }
        }
        child => {
            let mut status = -1;
            // SAFETY: the pointer is to a live integer, and the child is this process's own.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            assert_eq!(status, 0, "the child ends in order");
        }
    }
    server.assert_echoes(&mut client);
    let (mut next, ..) = server.client();
    server.assert_echoes(&mut next);
    assert_eq!(server.echo.closed, []);
}

on_real_sockets!(
    a_child_process_inherits_nothing_of_the_loop,
    every_descriptor_of_the_loop_is_close_on_exec_and_no_call_on_it_blocks,
    a_duplicate_that_outlives_its_connection_makes_no_events,
    a_duplicate_of_a_closed_listener_makes_no_events,
    a_child_process_that_holds_a_connection_makes_no_events,
    a_forked_child_that_drops_the_loop_takes_nothing_from_its_parent,
);
