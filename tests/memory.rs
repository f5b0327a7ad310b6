//! Memory in user space, to the byte: what an idle connection costs, that bursts are given back,
//! and that peers which never read stay within their limits. In a test binary of its own, because
//! the counting allocator is the process's; it counts by thread, so that tests do not disturb each
//! other.
#![cfg(target_os = "linux")]
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use hotloop::{
    BackendKind, Bytes, Config, ConnId, ConnOptions, Handler, Limit, ListenerId, Loop, Net, Sent,
    SlowConsumer,
};

const IDLE: usize = 15_000;
const IDLE_BYTES_MAX: usize = 200;
/// Under the kernel's default cap of a backlog, 4,096.
const DIALLED_AT_ONCE: usize = 500;
const CHILD: &str = "HOTLOOP_TEST_IDLE_CLIENTS";
const BURSTS: usize = 100;
const BURST_BYTES: usize = 16 << 20;
const POOL_BYTES: usize = 4 << 20;
const DEAF: usize = 1_000;
const DEAF_LIMIT: usize = 256 << 10;

thread_local! {
    static LIVE: Cell<usize> = const { Cell::new(0) };
}

/// Counts the bytes that this thread has allocated and not freed.
struct Counting;

fn count(bytes: usize, freed: usize) {
    LIVE.with(|live| live.set(live.get().wrapping_add(bytes).wrapping_sub(freed)));
}

// SAFETY: passes everything on to the system's allocator; the counter does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, layout.size());
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size, layout.size());
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn live() -> usize {
    LIVE.with(Cell::get)
}

/// What the process has in memory, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line of it");
    let kib = line.split_whitespace().nth(1).expect("a number");
    kib.parse::<usize>().expect("a number") << 10
}

#[derive(Default)]
struct Echo {
    accepted: usize,
    messages: usize,
    last_message: usize,
}

impl Handler for Echo {
    fn on_accept(&mut self, _: &mut Net, _: ConnId, _: ListenerId) {
        self.accepted += 1;
    }

    fn on_data(&mut self, net: &mut Net, conn: ConnId, data: &[u8]) -> usize {
        assert_eq!(net.write(conn, data), Sent::Queued);
        self.messages += 1;
        if self.messages == self.last_message {
            net.stop();
        }
        data.len()
    }
}

/// A loop with a listener, and the listener's address.
fn listening(config: Config) -> (Loop, SocketAddr) {
    let mut event_loop = Loop::new(config).expect("a loop");
    let listener = event_loop.net().listen("127.0.0.1:0").expect("a free port");
    let addr = event_loop.net().listener_addr(listener).expect("it is open");
    (event_loop, addr)
}

/// Turns until nothing is left to be done.
fn settle(event_loop: &mut Loop, handler: &mut impl Handler) {
    let mut quiet = 0;
    while quiet < 5 {
        let turn = event_loop.turn(handler, Duration::from_millis(1)).expect("the loop runs");
        quiet = if turn.callbacks == 0 && !turn.pending { quiet + 1 } else { 0 };
    }
}

/// The second process: dials all connections, echoes once over each, and holds them.
fn hold_idle_clients(addr: SocketAddr) {
    let mut streams = Vec::new();
    while streams.len() < IDLE {
        let from = streams.len();
        for _ in 0..DIALLED_AT_ONCE {
            streams.push(TcpStream::connect(addr).expect("the backlog is long enough"));
        }
        for mut stream in &streams[from..] {
            stream.write_all(b"hello there, how are you?").expect("the server reads");
        }
        for mut stream in &streams[from..] {
            stream.read_exact(&mut [0; 25]).expect("the server answers");
        }
    }
    // Until the parent has looked.
    let _ = std::io::stdin().read(&mut [0]);
}

fn spawn_idle_clients(addr: SocketAddr) -> Child {
    Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", "an_idle_connection_costs_at_most_200_bytes", "--nocapture"])
        .env(CHILD, addr.to_string())
        .stdin(Stdio::piped())
        .spawn()
        .expect("this binary runs")
}

fn measure_idle(kind: BackendKind) {
    let (mut event_loop, addr) = listening(Config::default().backend(kind));
    let mut echo = Echo { last_message: IDLE, ..Echo::default() };
    settle(&mut event_loop, &mut echo);
    let (base, resident_base) = (live(), resident());
    let mut child = spawn_idle_clients(addr);
    event_loop.run(&mut echo).expect("the loop runs");
    settle(&mut event_loop, &mut echo);
    assert_eq!((echo.accepted, echo.messages), (IDLE, IDLE));
    assert_eq!(event_loop.net().stats().connections, IDLE);
    let (each, rest) = ((live() - base) / IDLE, event_loop.net().stats().pooled_bytes);
    let resident = resident().saturating_sub(resident_base) / IDLE;
    println!("{kind:?}: {each} bytes each, {resident} resident; {rest} bytes pooled in all");
    drop(child.stdin.take());
    assert!(child.wait().expect("the child ends").success(), "the clients failed");
    let most = if kind == BackendKind::Epoll { IDLE_BYTES_MAX } else { 2 * IDLE_BYTES_MAX };
    assert!(each <= most, "{each} bytes per idle connection");
}

#[test]
fn an_idle_connection_costs_at_most_200_bytes() {
    if let Ok(addr) = std::env::var(CHILD) {
        return hold_idle_clients(addr.parse().expect("the parent's address"));
    }
    measure_idle(BackendKind::Epoll);
    // There it has its socket, its interest and `polling`'s own record, too.
    measure_idle(BackendKind::Portable);
}

/// Accepts `count` connections, whose other ends are returned.
fn accept_all(event_loop: &mut Loop, addr: SocketAddr, count: usize) -> Vec<TcpStream> {
    let mut echo = Echo::default();
    let mut peers = Vec::with_capacity(count);
    while echo.accepted < count {
        for _ in 0..50.min(count - peers.len()) {
            peers.push(TcpStream::connect(addr).expect("the backlog is long enough"));
        }
        event_loop.turn(&mut echo, Duration::from_millis(1)).expect("the loop runs");
    }
    settle(event_loop, &mut echo);
    peers
}

#[test]
fn a_burst_is_given_back() {
    let conn = ConnOptions::default().hard_limit_bytes(2 * BURST_BYTES);
    let config = Config::default()
        .conn(conn)
        .pool_max_bytes(POOL_BYTES)
        .global_buffer_bytes(Limit::Unlimited);
    let (mut event_loop, addr) = listening(config);
    let peers = accept_all(&mut event_loop, addr, BURSTS);
    let (base, resident_base) = (live(), resident());
    let net = event_loop.net();
    let conns: Vec<ConnId> = net.conns().collect();
    let message = vec![7; 64 << 10];
    for conn in &conns {
        for _ in 0..BURST_BYTES / message.len() {
            assert!(net.write(*conn, &message).is_taken());
        }
    }
    let (most, resident_most) = (live() - base, resident());
    assert!(most >= BURSTS * BURST_BYTES, "{most} bytes are queued");
    let readers = thread::spawn(move || {
        for mut peer in &peers {
            let mut left = BURST_BYTES;
            let mut buffer = vec![0; 256 << 10];
            while left > 0 {
                let got = peer.read(&mut buffer).expect("the server sends");
                assert!(got > 0, "{left} bytes are missing");
                left -= got;
            }
        }
        peers
    });
    let mut echo = Echo::default();
    while event_loop.net().stats().queued_bytes > 0 {
        event_loop.turn(&mut echo, Duration::from_millis(1)).expect("the loop runs");
    }
    let _peers = readers.join().expect("they read all");
    settle(&mut event_loop, &mut echo);
    drop(message);
    let left = live().saturating_sub(base);
    println!(
        "{} MiB queued; {left} bytes left, {} pooled; resident {} MiB, at most {}, then {}",
        most >> 20,
        event_loop.net().stats().pooled_bytes,
        resident_base >> 20,
        resident_most >> 20,
        resident() >> 20
    );
    // The pool is what was asked for; its lists, and those of the loop, are the rest.
    assert!(left <= POOL_BYTES + (512 << 10), "{left} bytes are not given back");
}

/// A way to write to a connection once.
type Way = fn(&mut Net, ConnId) -> Sent;

/// Writes until it is refused.
fn fill(net: &mut Net, conn: ConnId, write: impl Fn(&mut Net, ConnId) -> Sent) {
    while write(net, conn).is_taken() {}
}

#[test]
fn a_thousand_peers_that_never_read_stay_within_their_limits() {
    let ways: [(&str, Way); 4] = [
        ("copies of 300 bytes", |net, conn| net.write(conn, &[7; 300])),
        ("copies of 9,000 bytes", |net, conn| net.write(conn, &[7; 9_000])),
        ("shared, 1,000 bytes", |net, conn| share(net, conn, 1_000)),
        ("shared, 20 bytes", |net, conn| share(net, conn, 20)),
    ];
    for (name, write) in ways {
        let conn = ConnOptions::default()
            .high_water_bytes(64 << 10)
            .hard_limit_bytes(DEAF_LIMIT)
            .slow_consumer(SlowConsumer::Refuse);
        let config = Config::default().conn(conn).global_buffer_bytes(Limit::Unlimited);
        let (mut event_loop, addr) = listening(config);
        let _peers = accept_all(&mut event_loop, addr, DEAF);
        let base = live();
        let mut echo = Echo::default();
        let conns: Vec<ConnId> = event_loop.net().conns().collect();
        // The kernel takes some of it first.
        for _ in 0..3 {
            for conn in &conns {
                fill(event_loop.net(), *conn, write);
            }
            settle(&mut event_loop, &mut echo);
        }
        for conn in &conns {
            fill(event_loop.net(), *conn, write);
        }
        let (held, limits) = (live() - base, DEAF * DEAF_LIMIT);
        let queued = event_loop.net().stats().queued_bytes >> 20;
        println!("{name}: {queued} MiB queued in {} MiB, limits {}", held >> 20, limits >> 20);
        assert!(held <= limits / 100 * 115, "{name}: {held} bytes with limits of {limits}");
        assert!(held >= limits / 4, "{name}: {held} bytes are no load");
    }
}

fn share(net: &mut Net, conn: ConnId, len: usize) -> Sent {
    net.write_shared(conn, Bytes::from(vec![7; len]))
}
