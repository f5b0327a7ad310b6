//! The stack does not grow with the work (C3): everything here runs on 64 KiB.

use std::thread;

use hotloop::{Checked, CloseReason, Config, ConnId, Handler, ListenerId, Loop, Net, TimerId};

const STACK_BYTES: usize = 64 << 10;

fn on_a_small_stack(work: fn()) {
    let thread = thread::Builder::new().stack_size(STACK_BYTES).spawn(work).expect("a thread");
    thread.join().expect("the work is done");
}

fn listening(connections: usize) -> Loop {
    let mut event_loop = Loop::new(Config::default()).expect("a loop");
    let net = event_loop.net();
    let listener = net.listen("127.0.0.1:0").expect("a free port");
    let addr = net.listener_addr(listener).expect("it is open");
    for _ in 0..connections {
        net.connect(addr).expect("there are slots");
    }
    event_loop
}

/// Both ends are here: what one receives it answers, a number at a time.
struct PingPong {
    left: u32,
}

impl Handler for PingPong {
    fn on_connect(&mut self, net: &mut Net, conn: ConnId) {
        net.write(conn, b"x");
    }

    fn on_data(&mut self, net: &mut Net, conn: ConnId, data: &[u8]) -> usize {
        self.left = self.left.saturating_sub(1);
        if self.left == 0 {
            net.stop();
        }
        // Written, flushed and written again: whatever one of them causes comes later.
        net.write(conn, data);
        net.flush(conn);
        data.len()
    }
}

#[test]
fn chained_writes_do_not_nest() {
    on_a_small_stack(|| {
        let mut handler = Checked::new(PingPong { left: 200_000 });
        listening(1).run(&mut handler).expect("the loop runs");
        assert_eq!(handler.left, 0);
    });
}

/// Each `on_close` closes the next connection.
#[derive(Default)]
struct Domino {
    open: Vec<ConnId>,
    accepted: usize,
    closed: usize,
}

const DOMINOES: usize = 500;

impl Handler for Domino {
    fn on_accept(&mut self, net: &mut Net, conn: ConnId, _: ListenerId) {
        self.open.push(conn);
        self.accepted += 1;
        if self.accepted == DOMINOES {
            net.abort(conn);
        }
    }

    fn on_data(&mut self, _: &mut Net, _: ConnId, data: &[u8]) -> usize {
        data.len()
    }

    fn on_close(&mut self, net: &mut Net, _: ConnId, _: CloseReason, _: u64) {
        self.closed += 1;
        if let Some(next) = self.open.pop() {
            net.abort(next);
        }
        if self.closed == 2 * DOMINOES {
            net.stop();
        }
    }
}

#[test]
fn chained_closes_do_not_nest() {
    on_a_small_stack(|| {
        let mut handler = Checked::<Domino>::default();
        listening(DOMINOES).run(&mut handler).expect("the loop runs");
        assert_eq!(handler.closed, 2 * DOMINOES);
    });
}

/// Each timer starts the next one at once.
struct Relay {
    left: u32,
}

impl Handler for Relay {
    fn on_data(&mut self, _: &mut Net, _: ConnId, data: &[u8]) -> usize {
        data.len()
    }

    fn on_timer(&mut self, net: &mut Net, _: TimerId, token: u64) {
        self.left -= 1;
        if self.left > 0 {
            net.start_timer(std::time::Duration::ZERO, token + 1);
        }
    }
}

#[test]
fn chained_timers_do_not_nest() {
    on_a_small_stack(|| {
        let mut event_loop = Loop::new(Config::default()).expect("a loop");
        event_loop.net().start_timer(std::time::Duration::ZERO, 0);
        let mut handler = Checked::new(Relay { left: 200_000 });
        event_loop.run(&mut handler).expect("the last timer ends the run");
        assert_eq!(handler.left, 0);
    });
}
