//! After warm-up, echoing and re-arming timers allocate nothing; reading the counters never does.
//! In a test binary of its own, because the counting allocator is the process's.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use hotloop::{Checked, Config, ConnId, Handler, Loop, Net, TimerId};

const MESSAGE_BYTES: usize = 64;
const PIPELINED: usize = 16;
const WARM_UP: u64 = 50_000;
const COUNTED: u64 = 1_000_000;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// Counts what this thread allocates, so that the client's thread does not disturb.
struct Counting;

// SAFETY: passes everything on to the system's allocator; the counter does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations() -> u64 {
    ALLOCATIONS.with(Cell::get)
}

/// Echoes message by message; each message re-arms a timer of the loop and one of the connection.
#[derive(Default)]
struct Echo {
    messages: u64,
    fired: u64,
    at_warm_up: u64,
    timers: Option<(TimerId, TimerId)>,
    has_kept: bool,
}

impl Echo {
    fn rearm(&mut self, net: &mut Net, conn: ConnId) {
        if let Some((one, other)) = self.timers.take() {
            assert!(net.cancel_timer(one) && net.cancel_timer(other), "neither was due");
        }
        let timeout = Duration::from_secs(3600);
        let own = net.start_conn_timer(conn, timeout, 2).expect("the connection is open");
        self.timers = Some((net.start_timer(timeout, 1), own));
        if self.messages % 64 == 0 {
            net.start_timer(Duration::ZERO, 3);
        }
    }
}

impl Handler for Echo {
    fn on_data(&mut self, net: &mut Net, conn: ConnId, data: &[u8]) -> usize {
        if !std::mem::replace(&mut self.has_kept, true) {
            // On a busy machine no message may come in pieces before the warm-up is over.
            net.resume_reading(conn);
            return 0;
        }
        let whole = data.len() / MESSAGE_BYTES * MESSAGE_BYTES;
        for message in data[..whole].chunks(MESSAGE_BYTES) {
            assert!(net.write(conn, message).is_taken());
            self.messages += 1;
            self.rearm(net, conn);
            if self.messages == WARM_UP {
                self.at_warm_up = allocations();
            }
        }
        if self.messages >= WARM_UP + COUNTED {
            net.stop();
        }
        whole
    }

    fn on_timer(&mut self, _: &mut Net, _: TimerId, token: u64) {
        assert_eq!(token, 3);
        self.fired += 1;
    }
}

fn client(addr: SocketAddr) {
    let mut stream = TcpStream::connect(addr).expect("the listener is there");
    stream.set_nodelay(true).expect("a TCP socket");
    let sent: Vec<u8> = (0..=250u8).cycle().take(MESSAGE_BYTES * PIPELINED).collect();
    let mut received = vec![0; sent.len()];
    for round in 0..(WARM_UP + COUNTED).div_ceil(PIPELINED as u64) {
        // Odd rounds come in two pieces, so that a partial message has to be kept.
        let cut = if round % 2 == 0 { sent.len() } else { 100 };
        stream.write_all(&sent[..cut]).expect("the server reads");
        stream.write_all(&sent[cut..]).expect("the server reads");
        stream.read_exact(&mut received).expect("the server answers");
        assert_eq!(sent, received);
    }
}

#[test]
fn a_million_echoed_messages_and_timer_rearms_allocate_nothing() {
    let mut event_loop = Loop::new(Config::default()).expect("a loop");
    let listener = event_loop.net().listen("127.0.0.1:0").expect("a free port");
    let addr = event_loop.net().listener_addr(listener).expect("it is open");
    let client = thread::spawn(move || client(addr));
    let mut echo = Checked::<Echo>::default();
    let before = allocations();
    event_loop.run(&mut echo).expect("the loop runs");
    assert!(allocations() > before, "the counter counts");
    assert!(echo.fired > COUNTED / 64, "the zero timers fired");
    assert_eq!(allocations() - echo.at_warm_up, 0, "allocations after warm-up");
    event_loop.turn(&mut echo, Duration::ZERO).expect("the last flush");
    client.join().expect("every byte came back");
}

#[test]
fn reading_the_counters_allocates_nothing_nor_does_showing_them() {
    let mut event_loop = Loop::new(Config::default()).expect("a loop");
    let net = event_loop.net();
    let listener = net.listen("127.0.0.1:0").expect("a free port");
    let addr = net.listener_addr(listener).expect("it is open");
    let conn = net.connect(addr).expect("there are slots");
    net.write(conn, b"queued");
    let mut shown = [0; 4096];
    let before = allocations();
    let (stats, own) = (net.stats(), net.conn_stats(conn).expect("it is there"));
    let passed = net.stats().since(&stats);
    let mut rest = &mut shown[..];
    write!(rest, "{stats}{passed}{own}").expect("there is room");
    for (name, count) in stats.closes.iter() {
        write!(rest, "{name}={count} ").expect("there is room");
    }
    assert_eq!(allocations() - before, 0);
    assert_eq!((stats.connects, own.queued_bytes), (1, 6));
    assert!(shown.starts_with(b"turns "));
}
