//! Ten thousand connections on one loop, each echoing; the clients are in a second process,
//! because both ends together would pass the descriptor limit. On Linux: raising that limit is
//! Linux's way, and the backlog is as long as Linux makes it.
#![cfg(target_os = "linux")]
#![allow(unsafe_code)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command};

use hotloop::{Checked, CloseReason, Config, ConnId, Handler, Loop, Net, Sent};

const CONNECTIONS: usize = 10_000;
const ROUNDS: usize = 3;
/// Under the kernel's default cap of a backlog, 4,096.
const DIALLED_AT_ONCE: usize = 500;
const CHILD: &str = "HOTLOOP_TEST_CLIENTS";

#[derive(Default)]
struct Echo {
    open: usize,
    most: usize,
    closed: usize,
    messages: u64,
}

impl Handler for Echo {
    fn on_accept(&mut self, _: &mut Net, _: ConnId, _: hotloop::ListenerId) {
        self.open += 1;
        self.most = self.most.max(self.open);
    }

    fn on_data(&mut self, net: &mut Net, conn: ConnId, data: &[u8]) -> usize {
        assert_eq!(net.write(conn, data), Sent::Queued);
        self.messages += 1;
        data.len()
    }

    fn on_close(&mut self, net: &mut Net, _: ConnId, reason: CloseReason, dropped_bytes: u64) {
        assert_eq!((reason, dropped_bytes), (CloseReason::PeerClosed, 0));
        self.open -= 1;
        self.closed += 1;
        if self.closed == CONNECTIONS {
            net.stop();
        }
    }
}

/// The second process: dials all connections, echoes over each of them in rounds, and closes.
fn clients(addr: SocketAddr) {
    let mut streams = Vec::new();
    while streams.len() < CONNECTIONS {
        let from = streams.len();
        for _ in 0..DIALLED_AT_ONCE {
            streams.push(TcpStream::connect(addr).expect("the backlog is long enough"));
        }
        // Once these have answered they are accepted, and the backlog is empty.
        echo_once(&streams[from..], 0);
    }
    for round in 1..=ROUNDS {
        echo_once(&streams, round);
    }
}

fn echo_once(streams: &[TcpStream], round: usize) {
    let message = |i: usize| format!("{i:08} {round:08} of this connection alone");
    for (i, mut stream) in streams.iter().enumerate() {
        stream.write_all(message(i).as_bytes()).expect("the server reads");
    }
    for (i, mut stream) in streams.iter().enumerate() {
        let mut answer = vec![0; message(i).len()];
        stream.read_exact(&mut answer).expect("the server answers");
        assert_eq!(answer, message(i).as_bytes(), "connection {i} got another one's bytes");
    }
}

/// Raises the soft limit of open descriptors, for this process and its child.
fn raise_descriptor_limit(needed: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a live `rlimit`.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) }, 0);
    let hard = limit.rlim_max;
    assert!(hard >= needed, "the hard limit of {hard} descriptors is below the {needed} needed");
    limit.rlim_cur = limit.rlim_cur.max(needed);
    // SAFETY: the pointer is to a live `rlimit`.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
}

fn spawn_clients(addr: SocketAddr) -> Child {
    Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", "ten_thousand_connections_echo", "--nocapture"])
        .env(CHILD, addr.to_string())
        .spawn()
        .expect("this binary runs")
}

#[test]
fn ten_thousand_connections_echo() {
    if let Ok(addr) = std::env::var(CHILD) {
        return clients(addr.parse().expect("the parent's address"));
    }
    raise_descriptor_limit(CONNECTIONS as u64 + 200);
    let mut event_loop = Loop::new(Config::default()).expect("a loop");
    let listener = event_loop.net().listen("127.0.0.1:0").expect("a free port");
    let addr = event_loop.net().listener_addr(listener).expect("it is open");
    let mut child = spawn_clients(addr);
    let mut echo = Checked::<Echo>::default();
    event_loop.run(&mut echo).expect("the loop runs");
    assert!(child.wait().expect("the child ends").success(), "the clients failed");
    assert_eq!(echo.most, CONNECTIONS, "all of them at the same time");
    assert!(echo.messages >= (CONNECTIONS * (ROUNDS + 1)) as u64);
}
