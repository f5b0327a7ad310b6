//! Descriptors: what is opened is closed, what fails leaves nothing open, and running out of them
//! costs nobody a connection. In a test binary of its own, because the descriptor table and its
//! limit are the process's; the tests take turns. On Linux: the table is read from procfs, and
//! setting its limit is Linux's way.
#![cfg(target_os = "linux")]
#![allow(unsafe_code)]

mod support;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;

use hotloop::{
    Checked, Config, ConnId, Errno, ErrorClass, Handler, ListenOptions, ListenerError, ListenerId,
    Loop, Net,
};
use support::Kind;

static TURN: Mutex<()> = Mutex::new(());
static SETTLED: Once = Once::new();

fn take_turn() -> MutexGuard<'static, ()> {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    SETTLED.call_once(settle_malloc);
    turn
}

/// The first time that a thread's heap shrinks, glibc opens `/proc/sys/vm/overcommit_memory` for a
/// moment (`check_may_shrink_heap`), in whatever thread: a descriptor that comes and goes while a
/// test counts them. Here it does so before any of them.
fn settle_malloc() {
    // Below what malloc maps by itself, together above what it keeps.
    let grow_and_shrink = || drop(vec![vec![1_u8; 100 << 10]; 8]);
    std::thread::spawn(grow_and_shrink).join().expect("there is memory");
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("procfs is mounted").count()
}

/// Sets the soft limit of open descriptors; returns what it was.
fn set_descriptor_limit(soft: u64) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a live `rlimit`.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) }, 0);
    let previous = std::mem::replace(&mut limit.rlim_cur, soft.min(limit.rlim_max));
    // SAFETY: the pointer is to a live `rlimit`.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
    previous
}

/// Echoes, and remembers what happened.
#[derive(Default)]
struct Echo {
    accepted: Vec<ConnId>,
    connected: usize,
    closed: usize,
    errors: Vec<ListenerError>,
}

impl Handler for Echo {
    fn on_accept(&mut self, _: &mut Net, conn: ConnId, _: ListenerId) {
        self.accepted.push(conn);
    }

    fn on_connect(&mut self, _: &mut Net, _: ConnId) {
        self.connected += 1;
    }

    fn on_data(&mut self, net: &mut Net, conn: ConnId, data: &[u8]) -> usize {
        net.write(conn, data);
        data.len()
    }

    fn on_close(&mut self, _: &mut Net, _: ConnId, _: hotloop::CloseReason, _: u64) {
        self.closed += 1;
    }

    fn on_listener_error(&mut self, _: &mut Net, _: ListenerId, error: ListenerError) {
        self.errors.push(error);
    }
}

fn listening(kind: Kind) -> (Loop, SocketAddr) {
    let mut event_loop = Loop::new(kind.real(Config::default())).expect("a loop");
    let listener = event_loop.net().listen("127.0.0.1:0").expect("a free port");
    let addr = event_loop.net().listener_addr(listener).expect("it is open");
    (event_loop, addr)
}

fn turn_until(event_loop: &mut Loop, echo: &mut Checked<Echo>, done: impl Fn(&Echo) -> bool) {
    for _ in 0..100_000 {
        if done(echo) {
            return;
        }
        event_loop.turn(echo, Duration::from_millis(5)).expect("the loop runs");
    }
    panic!("not reached: {} accepted, errors {:?}", echo.accepted.len(), echo.errors);
}

fn dropping_a_loop_closes_every_descriptor_and_calls_nobody(kind: Kind) {
    let _turn = take_turn();
    let before = open_descriptors();
    let (mut event_loop, addr) = listening(kind);
    event_loop.net().listen("[::1]:0").expect("IPv6 is there");
    let mut clients: Vec<TcpStream> =
        (0..20).map(|_| TcpStream::connect(addr).expect("the listener is there")).collect();
    for _ in 0..10 {
        event_loop.net().connect(addr).expect("there are slots");
    }
    let mut echo = Checked::<Echo>::default();
    turn_until(&mut event_loop, &mut echo, |echo| {
        echo.accepted.len() == 30 && echo.connected == 10
    });
    // Some of them in the middle of something.
    event_loop.net().write(echo.accepted[0], &[7; 500_000]);
    event_loop.net().close(echo.accepted[1]);
    event_loop.net().abort(echo.accepted[2]);
    event_loop.net().pause_reading(echo.accepted[3]);
    let waker = event_loop.waker();
    assert!(open_descriptors() > before + 60);
    drop(event_loop);
    // An eventfd; the crate polling has a poller around it, and a timer.
    let of_waker = if kind == Kind::Epoll { 1 } else { 3 };
    assert_eq!(open_descriptors(), before + clients.len() + of_waker, "the waker keeps its own");
    assert_eq!(echo.closed, 0);
    waker.wake();
    drop(waker);
    // The peers notice: an end or a reset, after whatever was sent.
    for client in &mut clients {
        let _ = client.read_to_end(&mut Vec::new());
    }
    drop(clients);
    assert_eq!(open_descriptors(), before);
}

fn what_fails_leaves_nothing_open_and_is_named(kind: Kind) {
    let _turn = take_turn();
    let (mut event_loop, _) = listening(kind);
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let busy = taken.local_addr().expect("it is bound").to_string();
    let before = open_descriptors();
    let net = event_loop.net();
    let fails = |result: io::Result<ListenerId>, name: &str, kind: io::ErrorKind| {
        let error = result.expect_err(name);
        assert!(error.to_string().contains(name), "{error}");
        assert_eq!(error.kind(), kind, "{error}");
    };
    fails(net.listen("localhost:80"), "localhost:80", io::ErrorKind::InvalidInput);
    fails(net.listen("nonsense"), "nonsense", io::ErrorKind::InvalidInput);
    fails(net.listen("127.0.0.1:99999"), "127.0.0.1:99999", io::ErrorKind::InvalidInput);
    fails(net.listen(busy.as_str()), &busy, io::ErrorKind::AddrInUse);
    fails(net.listen("192.0.2.1:80"), "192.0.2.1:80", io::ErrorKind::AddrNotAvailable);
    let none = ListenOptions::default().backlog(0);
    fails(net.listen_with("127.0.0.1:0", none), "backlog", io::ErrorKind::InvalidInput);
    let error = net.connect("example.com:80").expect_err("a host name");
    assert!(error.to_string().contains("example.com:80"), "{error}");
    let config = Config::default().recv_buffer_bytes(1);
    let error = Loop::new(config).expect_err("too small");
    assert!(error.to_string().contains("recv_buffer_bytes"), "{error}");
    assert_eq!(open_descriptors(), before);
    assert_eq!(event_loop.net().stats().listeners, 1);
}

fn a_loop_without_descriptors_is_an_error_that_leaves_nothing_open(kind: Kind) {
    let _turn = take_turn();
    let before = open_descriptors();
    let next = first_free_descriptor();
    // None free, then one, then two: the poller, then the eventfd is refused.
    for free in 0..2 {
        let previous = set_descriptor_limit(next + free);
        let result = Loop::new(kind.real(Config::default()));
        set_descriptor_limit(previous);
        let error = result.expect_err("no descriptor");
        assert_eq!(ErrorClass::of(&error), ErrorClass::Resource, "{error}");
        assert_eq!(open_descriptors(), before);
    }
}

/// The number the next descriptor gets, below which all are taken.
fn first_free_descriptor() -> u64 {
    use std::os::fd::AsRawFd;
    let file = std::fs::File::open("/dev/null").expect("it is there");
    u64::try_from(file.as_raw_fd()).expect("a descriptor is not negative")
}

fn echoes(event_loop: &mut Loop, echo: &mut Checked<Echo>, client: &mut TcpStream) {
    client.write_all(b"still served?").expect("it is accepted");
    client.set_nonblocking(true).expect("a TCP socket");
    let mut answer = Vec::new();
    for _ in 0..100_000 {
        event_loop.turn(echo, Duration::from_millis(1)).expect("the loop runs");
        let _ = client.read_to_end(&mut answer);
        if answer == b"still served?" {
            return;
        }
    }
    panic!("no echo");
}

fn out_of_descriptors_the_listener_pauses_and_goes_on_when_one_is_freed(kind: Kind) {
    let _turn = take_turn();
    const CLIENTS: usize = 20;
    const ROOM: usize = 5;
    let (mut event_loop, addr) = listening(kind);
    let mut clients: Vec<TcpStream> =
        (0..CLIENTS).map(|_| TcpStream::connect(addr).expect("the backlog has room")).collect();
    let mut echo = Checked::<Echo>::default();
    let previous = set_descriptor_limit(first_free_descriptor() + ROOM as u64);
    turn_until(&mut event_loop, &mut echo, |echo| !echo.errors.is_empty());
    assert_eq!(echo.accepted.len(), ROOM);
    assert_eq!(echo.errors, [ListenerError::Paused(Errno(libc::EMFILE))]);

    let began = event_loop.net().now();
    for client in &mut clients[..ROOM] {
        echoes(&mut event_loop, &mut echo, client);
    }
    // Tries again by itself, ever more seldom, and says no more about it.
    turn_until_retries(&mut event_loop, &mut echo, 4);
    let elapsed = event_loop.net().now().since(began);
    let tries = u128::from(event_loop.net().stats().accept_errors);
    assert!(tries <= 3 + elapsed.as_millis() / 10, "{tries} tries in {elapsed:?}");
    assert_eq!(echo.errors.len(), 1);

    // Each one that is freed lets one in, without waiting for the retry.
    while echo.accepted.len() < CLIENTS {
        let accepted = echo.accepted.len();
        let errors = event_loop.net().stats().accept_errors;
        event_loop.net().abort(echo.accepted[accepted - ROOM]);
        turn_until(&mut event_loop, &mut echo, |echo| echo.accepted.len() > accepted);
        assert!(event_loop.net().stats().accept_errors <= errors + 2);
    }
    set_descriptor_limit(previous);
    assert_eq!(echo.closed, CLIENTS - ROOM);
}

fn turn_until_retries(event_loop: &mut Loop, echo: &mut Checked<Echo>, tries: u64) {
    while event_loop.net().stats().accept_errors < tries {
        event_loop.turn(echo, Duration::from_millis(50)).expect("the loop runs");
    }
}

fn out_of_descriptors_a_connect_is_an_error_without_an_id(kind: Kind) {
    let _turn = take_turn();
    let (mut event_loop, addr) = listening(kind);
    let before = open_descriptors();
    let previous = set_descriptor_limit(first_free_descriptor());
    let result = event_loop.net().connect(addr);
    set_descriptor_limit(previous);
    let error = result.expect_err("no descriptor");
    assert!(error.to_string().contains(&addr.to_string()), "{error}");
    assert_eq!(ErrorClass::of(&error), ErrorClass::Resource);
    assert_eq!((event_loop.net().stats().connections, open_descriptors()), (0, before));
}

/// From here on every registration by this thread fails, as at the limit of watches (`ENOSPC`,
/// `epoll_ctl(2)`): a filter of its calls (`seccomp(2)`), which ends with the thread.
fn refuse_registrations() {
    let load = u16::try_from(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS).expect("16 bits");
    let equal = u16::try_from(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K).expect("16 bits");
    let answer = u16::try_from(libc::BPF_RET | libc::BPF_K).expect("16 bits");
    let call = u32::try_from(libc::SYS_epoll_ctl).expect("a small number");
    let add = u32::try_from(libc::EPOLL_CTL_ADD).expect("a small number");
    let refused = libc::SECCOMP_RET_ERRNO | u32::try_from(libc::ENOSPC).expect("a small number");
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    // In a `seccomp_data` the number of the call is at 0, and the second argument, which says what
    // to do, at 24.
    let mut steps = [
        step(load, 0, 0, 0),
        step(equal, 0, 3, call),
        step(load, 0, 0, if cfg!(target_endian = "little") { 24 } else { 28 }),
        step(equal, 0, 1, add),
        step(answer, 0, 0, refused),
        step(answer, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let len = u16::try_from(steps.len()).expect("6");
    let filter = libc::sock_fprog { len, filter: steps.as_mut_ptr() };
    // SAFETY: no memory is passed.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    let mode = libc::SECCOMP_MODE_FILTER;
    // SAFETY: `filter` names as many steps as there are, and the kernel copies them.
    let result = unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const filter) };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
}

fn what_cannot_be_registered_is_not_left_open(kind: Kind) {
    let _turn = take_turn();
    let story = move || {
        let (mut event_loop, addr) = listening(kind);
        let elsewhere = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let far = elsewhere.local_addr().expect("it is bound");
        let near = TcpStream::connect(far).expect("it listens");
        refuse_registrations();
        let before = open_descriptors();

        let error = event_loop.net().listen("127.0.0.1:0").expect_err("no registration");
        assert_eq!(ErrorClass::of(&error), ErrorClass::Resource, "{error}");
        assert_eq!(open_descriptors(), before, "a listener");
        let error = event_loop.net().connect(far).expect_err("no registration");
        assert_eq!(ErrorClass::of(&error), ErrorClass::Resource, "{error}");
        assert_eq!(open_descriptors(), before, "an outgoing connection");
        let error = event_loop.net().adopt(near).expect_err("no registration");
        assert_eq!(open_descriptors(), before, "an adopted connection comes back");
        drop(error);
        assert_eq!(open_descriptors(), before - 1);

        let mut client = TcpStream::connect(addr).expect("the backlog has room");
        let mut echo = Checked::<Echo>::default();
        turn_until(&mut event_loop, &mut echo, |echo| !echo.errors.is_empty());
        assert_eq!(echo.errors, [ListenerError::Paused(Errno(libc::ENOSPC))]);
        assert_eq!((echo.accepted.len(), open_descriptors()), (0, before), "the client is new");
        // An end or a reset: it is not left waiting.
        let _ = client.read_to_end(&mut Vec::new());
    };
    std::thread::spawn(story).join().expect("the story ends well");
}

on_real_sockets!(
    dropping_a_loop_closes_every_descriptor_and_calls_nobody,
    what_fails_leaves_nothing_open_and_is_named,
    a_loop_without_descriptors_is_an_error_that_leaves_nothing_open,
    out_of_descriptors_the_listener_pauses_and_goes_on_when_one_is_freed,
    out_of_descriptors_a_connect_is_an_error_without_an_id,
    what_cannot_be_registered_is_not_left_open,
);
