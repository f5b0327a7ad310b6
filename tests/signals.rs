//! Signals: a write to a dead peer with SIGPIPE at its default, and a storm of interrupts. In a
//! test binary of its own, because signal dispositions are the process's. Windows has no signals.
#![cfg(unix)]
#![allow(unsafe_code)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use hotloop::{
    Bytes, Checked, CloseReason, Config, ConnId, Handler, ListenerId, Loop, Net, TimerId,
};

fn listening() -> (Loop, SocketAddr) {
    let mut event_loop = Loop::new(Config::default()).expect("a loop");
    let listener = event_loop.net().listen("127.0.0.1:0").expect("a free port");
    let addr = event_loop.net().listener_addr(listener).expect("it is open");
    (event_loop, addr)
}

/// How many sends are tried in a row.
const SENDS: u32 = 100;

/// Keeps a connection half-open and goes on writing to it, whatever the peer does.
#[derive(Default)]
struct Stubborn {
    vectored: bool,
    conn: Option<ConnId>,
    writes: u32,
    closed: Option<CloseReason>,
}

impl Handler for Stubborn {
    fn on_accept(&mut self, net: &mut Net, conn: ConnId, _: ListenerId) {
        self.conn = Some(conn);
        net.start_timer(Duration::ZERO, 0);
    }

    fn on_data(&mut self, _: &mut Net, _: ConnId, data: &[u8]) -> usize {
        data.len()
    }

    fn on_read_closed(&mut self, _: &mut Net, _: ConnId, _: &[u8]) {}

    fn on_timer(&mut self, net: &mut Net, _: TimerId, _: u64) {
        let Some(conn) = self.conn.filter(|conn| net.is_open(*conn)) else { return };
        // In one callback: a send finds the reset that the one before has brought about, before an
        // event tells of it.
        for _ in 0..SENDS {
            self.writes += 1;
            if self.vectored {
                net.write_shared(conn, Bytes::from(vec![1; 3000]));
                net.write_shared(conn, Bytes::from(vec![2; 3000]));
            } else {
                net.write(conn, b"are you there?");
            }
            net.flush(conn);
        }
        net.start_timer(Duration::from_millis(1), 0);
    }

    fn on_close(&mut self, net: &mut Net, _: ConnId, reason: CloseReason, _: u64) {
        self.closed = Some(reason);
        net.stop();
    }
}

fn write_to_the_dead(vectored: bool) {
    let (mut event_loop, addr) = listening();
    drop(TcpStream::connect(addr).expect("the listener is there"));
    let mut handler = Checked::new(Stubborn { vectored, ..Stubborn::default() });
    event_loop.run(&mut handler).expect("the loop runs");
    assert_eq!(handler.closed, Some(CloseReason::Reset));
    assert!(handler.writes >= 1);
}

/// With `EPIPE` the kernel sends SIGPIPE, whose default ends the process: there would be no
/// result to read.
#[test]
fn a_write_to_a_dead_peer_with_sigpipe_at_its_default_costs_one_connection() {
    // SAFETY: no handler is installed; the default disposition is set.
    let previous = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    assert_eq!(previous, libc::SIG_IGN, "Rust ignores the signal, the test does not");
    write_to_the_dead(false);
    write_to_the_dead(true);
}

/// How many interrupts make a storm.
const STORM: u64 = 2_000;
static INTERRUPTS: AtomicU64 = AtomicU64::new(0);

extern "C" fn count_interrupt(_: libc::c_int) {
    INTERRUPTS.fetch_add(1, Ordering::Relaxed);
}

/// Installs a handler without `SA_RESTART`: every blocking call is interrupted by the signal.
fn install_interrupt() {
    // SAFETY: an all-zero `sigaction` is a valid one.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = count_interrupt as extern "C" fn(libc::c_int) as usize;
    // SAFETY: the handler only increments an atomic, which is allowed in a signal handler.
    let result = unsafe { libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()) };
    assert_eq!(result, 0);
}

/// Echoes; a timer keeps the waits bounded, so that those are interrupted too.
struct Echo {
    timers: u64,
}

impl Handler for Echo {
    fn on_data(&mut self, net: &mut Net, conn: ConnId, data: &[u8]) -> usize {
        if net.write(conn, data).is_taken() { data.len() } else { 0 }
    }

    fn on_writable(&mut self, net: &mut Net, conn: ConnId) {
        net.resume_reading(conn);
    }

    fn on_timer(&mut self, net: &mut Net, _: TimerId, _: u64) {
        self.timers += 1;
        net.start_timer(Duration::from_micros(300), 0);
    }

    fn on_close(&mut self, net: &mut Net, _: ConnId, reason: CloseReason, dropped_bytes: u64) {
        assert_eq!((reason, dropped_bytes), (CloseReason::PeerClosed, 0));
        net.stop();
    }
}

fn echo_client(addr: SocketAddr) {
    let mut stream = TcpStream::connect(addr).expect("the listener is there");
    // As long as it takes for the storm to break loose, on a machine that is busy with others too.
    for round in 0.. {
        if round >= 2_000 && INTERRUPTS.load(Ordering::Relaxed) >= STORM {
            return;
        }
        let sent: Vec<u8> = (0..=250u8).cycle().skip(round % 251).take(4_000).collect();
        stream.write_all(&sent).expect("the server reads");
        let mut received = vec![0; sent.len()];
        stream.read_exact(&mut received).expect("the server answers");
        assert_eq!(sent, received);
    }
}

/// Interrupts the calling thread, which has to wait for the end of the storm before its own.
fn interrupt_me_until(over: &Arc<AtomicBool>) -> thread::JoinHandle<()> {
    // SAFETY: asks only for the calling thread's own name.
    let thread = unsafe { libc::pthread_self() };
    let over = Arc::clone(over);
    thread::spawn(move || {
        while !over.load(Ordering::Relaxed) {
            // SAFETY: the thread waits for this one before it ends.
            assert_eq!(unsafe { libc::pthread_kill(thread, libc::SIGUSR1) }, 0);
            thread::yield_now();
        }
    })
}

/// Ends the storm when a timer fires.
struct Shelter(Arc<AtomicBool>);

impl Handler for Shelter {
    fn on_data(&mut self, _: &mut Net, _: ConnId, data: &[u8]) -> usize {
        data.len()
    }

    fn on_timer(&mut self, _: &mut Net, _: TimerId, _: u64) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A wait that began anew with every interrupt would last as long as they do, and they as long as
/// the wait.
#[test]
fn a_storm_of_interrupts_does_not_put_off_a_timer() {
    install_interrupt();
    let over = Arc::new(AtomicBool::new(false));
    let mut event_loop = Loop::new(Config::default()).expect("a loop");
    event_loop.net().start_timer(Duration::from_millis(300), 0);
    let storm = interrupt_me_until(&over);
    event_loop.run(&mut Shelter(Arc::clone(&over))).expect("no interrupt is an error");
    assert!(over.load(Ordering::Relaxed), "the timer fired");
    storm.join().expect("the storm ends");
}

#[test]
fn a_storm_of_interrupts_disturbs_nothing() {
    install_interrupt();
    let (mut event_loop, addr) = listening();
    let over = Arc::new(AtomicBool::new(false));
    let storm = interrupt_me_until(&over);
    let client = thread::spawn(move || echo_client(addr));
    let mut echo = Checked::new(Echo { timers: 0 });
    event_loop.net().start_timer(Duration::from_micros(300), 0);
    event_loop.run(&mut echo).expect("no interrupt is an error");
    over.store(true, Ordering::Relaxed);
    storm.join().expect("the storm ends");
    client.join().expect("every byte came back");
    assert!(echo.timers > 0, "timers went on");
}
