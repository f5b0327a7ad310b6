//! A loop in somebody else's loop, and how a run begins and ends: turns, waits, stop, close_all.
#![allow(unsafe_code)]

mod support;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use hotloop::{Checked, CloseReason, Config, ConnId, Handler, Loop, Missed, Net};
use support::{Call, Kind, Rig};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

fn a_turn_of_zero_only_looks(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.event_loop.net().start_timer(HOUR, 7);
    let before = rig.event_loop.net().now();
    for _ in 0..10 {
        let turn = rig.turn();
        assert_eq!((turn.callbacks, turn.pending, turn.stopped), (0, false, false));
    }
    if kind.is_script() {
        assert_eq!(rig.event_loop.net().now(), before);
        assert_eq!(rig.calls().waits, 10, "each looks once");
    }
    let (peer, _) = rig.client();
    rig.send(peer, b"seen");
    rig.until("the data", |rig| rig.handler.consumed == b"seen");
}

fn a_turn_waits_until_a_timer_is_due_or_as_long_as_it_may(kind: Kind) {
    let mut rig = Rig::new(kind);
    let net = rig.event_loop.net();
    let timer = net.start_timer(10 * SECOND, 7);
    let begun = net.now();
    rig.event_loop.turn(&mut rig.handler, 3 * SECOND).expect("the loop runs");
    assert_eq!(rig.event_loop.net().now().since(begun), 3 * SECOND);
    assert!(rig.handler.calls.is_empty());
    rig.event_loop.turn(&mut rig.handler, HOUR).expect("the loop runs");
    assert_eq!(rig.event_loop.net().now().since(begun), 10 * SECOND);
    assert_eq!(rig.handler.calls, [Call::Timer(timer, 7)]);
}

fn a_turn_counts_its_callbacks(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.echo();
    rig.event_loop.net().start_timer(Duration::ZERO, 1);
    let waker = rig.event_loop.waker();
    waker.wake();
    let peers = [rig.dial(), rig.dial(), rig.dial()];
    let mut counted = 0;
    for round in 0..200 {
        peers.iter().for_each(|peer| rig.send(*peer, b"x"));
        if round == 150 {
            peers.iter().for_each(|peer| rig.finish(*peer));
        }
        counted += rig.turn().callbacks;
    }
    assert!(rig.handler.calls.len() > 20);
    assert_eq!(counted, rig.handler.calls.len() as u64, "without the hooks around a turn");
}

fn pending_and_next_wait_say_whether_there_is_work(kind: Kind) {
    let mut rig = Rig::with(kind, Config::default().read_budget_bytes(10));
    assert_eq!(rig.event_loop.next_wait(), None, "a listener alone waits for events");
    let (peer, conn) = rig.client();
    rig.settle();
    assert_eq!(rig.event_loop.next_wait(), None);
    rig.send(peer, &[1; 25]);
    let mut history = Vec::new();
    while rig.handler.consumed.len() < 25 {
        let turn = rig.turn();
        history.push((rig.handler.consumed.len(), turn.pending));
        let expected = turn.pending.then_some(Duration::ZERO);
        assert_eq!(rig.event_loop.next_wait(), expected);
    }
    assert_eq!(history[..2], [(10, true), (20, true)]);
    rig.settle();
    assert!(!rig.turn().pending);
    rig.event_loop.net().write(conn, b"to flush");
    assert_eq!(rig.event_loop.next_wait(), Some(Duration::ZERO));
    rig.settle();
    rig.event_loop.net().abort(conn);
    assert_eq!(rig.event_loop.next_wait(), Some(Duration::ZERO), "on_close is due");
    rig.settle();
    assert_eq!(rig.event_loop.next_wait(), None);
}

fn next_wait_is_what_is_left_of_the_nearest_timer(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.event_loop.net().start_timer(9 * SECOND, 1);
    let near = rig.event_loop.net().start_timer(5 * SECOND, 2);
    assert_eq!(rig.event_loop.next_wait(), Some(5 * SECOND));
    rig.pass(2 * SECOND);
    assert_eq!(rig.event_loop.next_wait(), Some(3 * SECOND));
    rig.event_loop.net().cancel_timer(near);
    assert_eq!(rig.event_loop.next_wait(), Some(7 * SECOND));
    rig.advance(HOUR);
    rig.event_loop.net();
    assert_eq!(rig.event_loop.next_wait(), Some(Duration::ZERO), "overdue");
    assert!(rig.event_loop.poll_fd().is_none(), "the scripted world has none");
}

fn again_makes_one_wait_zero(kind: Kind) {
    let mut rig = Rig::new(kind);
    let net = rig.event_loop.net();
    net.start_timer(10 * SECOND, 7);
    let begun = net.now();
    net.again();
    assert_eq!(rig.event_loop.next_wait(), Some(Duration::ZERO));
    rig.event_loop.turn(&mut rig.handler, HOUR).expect("the loop runs");
    assert_eq!(rig.event_loop.net().now(), begun, "did not wait");
    rig.event_loop.turn(&mut rig.handler, SECOND).expect("the loop runs");
    assert_eq!(rig.event_loop.net().now().since(begun), SECOND, "waited again");
}

fn again_in_a_callback_means_the_next_wait(kind: Kind) {
    for at_the_end in [false, true] {
        let mut rig = Rig::new(kind);
        let left = Rc::new(Cell::new(5));
        let count = Rc::clone(&left);
        let hook: Box<dyn FnMut(&mut Net)> = Box::new(move |net| {
            if count.get() > 0 {
                count.set(count.get() - 1);
                net.again();
            }
        });
        let at =
            if at_the_end { &mut rig.handler.on_turn_end } else { &mut rig.handler.on_turn_start };
        *at = Some(hook);
        let pending: Vec<bool> = (0..7).map(|_| rig.turn().pending).collect();
        assert_eq!(pending, [true, true, true, true, true, false, false]);
        assert_eq!(left.get(), 0);
    }
}

fn a_turn_has_its_phases_in_order(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, _) = rig.client();
    let (_, doomed) = rig.client();
    let waker = rig.event_loop.waker();
    rig.settle();
    let log = log_callbacks(&mut rig);
    rig.send(peer, b"data");
    let net = rig.event_loop.net();
    net.abort(doomed);
    net.start_timer(Duration::ZERO, 1);
    waker.wake();
    let turns = rig.event_loop.net().stats().turns;
    let turn = rig.turn();
    if kind.is_completion() {
        // There a socket is closed by an event of the next wait.
        assert_eq!(*log.borrow(), ["start", "timer", "wake", "data", "end"]);
        log.borrow_mut().clear();
        assert_eq!(rig.turn().callbacks, 1);
        assert_eq!(*log.borrow(), ["start", "close", "end"]);
        return;
    }
    assert_eq!(*log.borrow(), ["start", "timer", "wake", "data", "close", "end"]);
    assert_eq!((turn.callbacks, rig.event_loop.net().stats().turns), (4, turns + 1));
}

fn the_hooks_come_once_in_every_turn(kind: Kind) {
    let mut rig = Rig::new(kind);
    let log = log_callbacks(&mut rig);
    let turns = rig.event_loop.net().stats().turns;
    for _ in 0..20 {
        rig.turn();
    }
    assert_eq!(*log.borrow(), ["start", "end"].repeat(20));
    assert_eq!(rig.event_loop.net().stats().turns, turns + 20);
}

fn what_the_hooks_write_leaves_in_the_same_turn(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    rig.settle();
    let (mut at_start, mut at_end) = (true, true);
    rig.handler.on_turn_start = Some(Box::new(move |net| {
        if std::mem::take(&mut at_start) {
            net.write(conn, b"start,");
        }
    }));
    rig.handler.on_turn_end = Some(Box::new(move |net| {
        if std::mem::take(&mut at_end) {
            net.write(conn, b"end");
        }
    }));
    rig.turn();
    if kind.is_completion() {
        // There the send is done by an event of the next wait.
        rig.turn();
    }
    let stats = rig.event_loop.net().conn_stats(conn).expect("it is open");
    assert_eq!((stats.sent_bytes, stats.sends), (9, 1), "one send for both");
    rig.until("both", |rig| rig.received(peer) == b"start,end");
}

fn run_returns_at_once_when_there_is_nothing_to_run_for(kind: Kind) {
    let mut rig = without_listener(kind);
    let turns = rig.event_loop.net().stats().turns;
    rig.event_loop.run(&mut rig.handler).expect("nothing to do");
    assert_eq!(rig.event_loop.net().stats().turns, turns);
}

fn run_returns_after_the_last_timer(kind: Kind) {
    let mut rig = without_listener(kind);
    let net = rig.event_loop.net();
    let millis = Duration::from_millis;
    let timers = [net.start_timer(millis(1), 1), net.start_timer(millis(3), 3)];
    let kept = net.start_repeating(millis(2), Missed::Skip, 2);
    rig.handler.on_timer = Some(Box::new(move |net, _, token| {
        if token == 3 {
            assert!(net.cancel_timer(kept));
        }
    }));
    rig.event_loop.run(&mut rig.handler).expect("the loop runs");
    let fired = |id, token| rig.handler.calls.contains(&Call::Timer(id, token));
    assert!(fired(timers[0], 1) && fired(timers[1], 3));
    assert_eq!(rig.event_loop.net().stats().timers, 0);
}

fn run_returns_after_the_last_connection(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    let listener = rig.listener;
    rig.event_loop.net().close_listener(listener);
    rig.send(peer, b"the last");
    rig.finish(peer);
    rig.event_loop.run(&mut rig.handler).expect("the loop runs");
    assert_eq!(rig.handler.consumed, b"the last");
    assert_eq!(rig.closed(conn), Some((CloseReason::PeerClosed, 0)));
}

fn run_goes_on_as_long_as_there_is_a_waker(kind: Kind) {
    let mut rig = without_listener(kind);
    let waker = rig.event_loop.waker();
    waker.wake();
    let mut held = Some(waker);
    rig.handler.on_wake = Some(Box::new(move |_| drop(held.take())));
    rig.event_loop.run(&mut rig.handler).expect("the loop runs");
    assert_eq!(rig.handler.calls, [Call::Wake]);
}

/// On real sockets only: in the scripted world a wait that nothing ends is an error.
fn run_waits_for_a_waker_on_another_thread_to_be_dropped(kind: Kind) {
    let mut rig = without_listener(kind);
    let (told, tell) = (std::sync::mpsc::channel(), rig.event_loop.waker());
    let (send, receive) = told;
    rig.handler.on_wake = Some(Box::new(move |_| send.send(()).expect("the thread waits")));
    let thread = std::thread::spawn(move || {
        for _ in 0..3 {
            tell.wake();
            receive.recv().expect("the loop runs");
        }
        drop(tell);
    });
    rig.event_loop.run(&mut rig.handler).expect("the loop runs");
    thread.join().expect("no panic");
    assert_eq!(rig.handler.calls, [Call::Wake, Call::Wake, Call::Wake]);
}

fn stop_ends_the_run_with_its_turn_and_closes_nothing(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (first, _) = rig.client();
    let (second, _) = rig.client();
    rig.settle();
    rig.handler.on_data = Some(Box::new(|net, conn, data| {
        net.write(conn, data);
        net.stop();
        data.len()
    }));
    rig.send(first, b"a");
    rig.send(second, b"b");
    let turns = rig.event_loop.net().stats().turns;
    rig.event_loop.run(&mut rig.handler).expect("the loop runs");
    assert_eq!(rig.event_loop.net().stats().turns, turns + 1);
    assert_eq!(rig.handler.consumed.len(), 2, "the turn is done to its end");
    let stats = rig.event_loop.net().stats();
    assert_eq!((stats.connections, stats.listeners), (2, 1));
    rig.send(first, b"c");
    rig.event_loop.run(&mut rig.handler).expect("the loop runs again");
    assert_eq!(rig.handler.consumed.len(), 3);
    rig.until("the echoes", |rig| rig.received(first) == b"ac" && rig.received(second) == b"b");
}

fn a_stop_before_the_run_ends_its_first_turn(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.dial();
    rig.event_loop.net().stop();
    assert_eq!(rig.event_loop.next_wait(), Some(Duration::ZERO), "it does not wait first");
    rig.event_loop.run(&mut rig.handler).expect("the loop runs");
    assert_eq!(rig.event_loop.net().stats().turns, 1);
    assert_eq!(rig.handler.accepted.len(), 1, "which is a whole turn");
    rig.event_loop.net().stop();
    let turn = rig.turn();
    assert!(turn.stopped);
    assert!(!rig.turn().stopped, "it counts once");
}

fn a_stop_before_a_run_that_has_nothing_to_run_for_is_used_up(kind: Kind) {
    let mut rig = without_listener(kind);
    let turns = rig.event_loop.net().stats().turns;
    rig.event_loop.net().stop();
    rig.event_loop.run(&mut rig.handler).expect("one turn");
    assert_eq!(rig.event_loop.net().stats().turns, turns + 1);
    assert!(!rig.turn().stopped);
}

fn stop_works_in_every_callback(kind: Kind) {
    type Setup = fn(&mut Rig);
    let setups: [Setup; 7] = [
        |rig| rig.handler.on_turn_start = Some(Box::new(Net::stop)),
        |rig| rig.handler.on_turn_end = Some(Box::new(Net::stop)),
        |rig| rig.handler.on_accept = Some(Box::new(|net, _| net.stop())),
        |rig| rig.handler.on_read_closed = Some(Box::new(|net, _, _| net.stop())),
        |rig| rig.handler.on_close = Some(Box::new(|net, _, _| net.stop())),
        |rig| rig.handler.on_timer = Some(Box::new(|net, _, _| net.stop())),
        |rig| rig.handler.on_wake = Some(Box::new(Net::stop)),
    ];
    for setup in setups {
        let mut rig = Rig::new(kind);
        setup(&mut rig);
        let peer = rig.dial();
        rig.finish(peer);
        rig.event_loop.net().start_timer(Duration::ZERO, 1);
        rig.event_loop.waker().wake();
        rig.event_loop.run(&mut rig.handler).expect("the loop runs");
        assert_eq!(rig.event_loop.net().stats().listeners, 1);
    }
}

fn close_all_sends_what_is_queued_and_says_shutdown(kind: Kind) {
    let mut rig = Rig::new(kind);
    let clients = [rig.client(), rig.client(), rig.client()];
    rig.settle();
    for (peer, conn) in clients {
        rig.event_loop.net().write(conn, b"good ");
        rig.event_loop.net().write(conn, b"night");
        rig.send(peer, b"not shown any more");
        rig.finish(peer);
    }
    let listener = rig.listener;
    rig.event_loop.close_all(&mut rig.handler, HOUR).expect("the loop runs");
    for (peer, conn) in clients {
        assert_eq!(rig.closed(conn), Some((CloseReason::Shutdown, 0)));
        rig.until("the FIN", |rig| rig.at_end(peer));
        assert_eq!(rig.received(peer), b"good night");
        assert!(!rig.is_reset(peer));
    }
    assert!(rig.handler.consumed.is_empty());
    assert_eq!(rig.event_loop.net().listener_addr(listener), None);
    let stats = rig.event_loop.net().stats();
    assert_eq!((stats.connections, stats.listeners, stats.timers), (0, 0, 0));
}

fn close_all_aborts_what_is_not_done_after_the_grace(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (stuck, conn) = rig.client();
    let (silent, quiet) = rig.client();
    rig.stop_reading(stuck);
    rig.event_loop.net().write(conn, &[7; 1000]);
    rig.settle();
    rig.event_loop.net().start_repeating(SECOND, Missed::Skip, 1);
    let begun = rig.event_loop.net().now();
    rig.event_loop.close_all(&mut rig.handler, 3 * SECOND).expect("the loop runs");
    assert_eq!(rig.event_loop.net().now().since(begun), 3 * SECOND);
    assert_eq!(rig.closed(conn), Some((CloseReason::Shutdown, 1000)));
    assert_eq!(rig.closed(quiet), Some((CloseReason::Shutdown, 0)));
    assert!(rig.is_reset(stuck) && rig.is_reset(silent));
    assert_eq!(rig.handler.count(|call| matches!(call, Call::Timer(..))), 3, "timers go on");
}

fn close_all_without_grace_resets_at_once(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    rig.event_loop.close_all(&mut rig.handler, Duration::ZERO).expect("the loop runs");
    assert_eq!(rig.closed(conn), Some((CloseReason::Shutdown, 0)));
    rig.until("the reset", |rig| rig.is_reset(peer));
}

fn close_all_gives_up_connects_and_keeps_first_reasons(kind: Kind) {
    let mut rig = Rig::new(kind);
    let addr = rig.server();
    let (peer, closing) = rig.client();
    rig.event_loop.net().close(closing);
    rig.until("the FIN", |rig| rig.at_end(peer));
    rig.finish(peer);
    let connecting = rig.event_loop.net().connect(addr).expect("there are slots");
    rig.event_loop.close_all(&mut rig.handler, HOUR).expect("the loop runs");
    assert_eq!(rig.closed(closing), Some((CloseReason::LocalClose, 0)));
    assert_eq!(rig.closed(connecting), Some((CloseReason::Shutdown, 0)));
    assert!(rig.handler.connected.is_empty());
}

fn nothing_is_opened_during_close_all_and_all_may_be_after_it(kind: Kind) {
    let mut rig = Rig::new(kind);
    let addr = rig.server();
    let (peer, _) = rig.client();
    rig.finish(peer);
    let said: Rc<RefCell<Vec<String>>> = Rc::default();
    let errors = Rc::clone(&said);
    rig.handler.on_close = Some(Box::new(move |net, _, _| {
        let listen = net.listen("127.0.0.1:0").expect_err("the loop is closing all");
        let connect = net.connect(addr).expect_err("the loop is closing all");
        errors.borrow_mut().extend([listen.to_string(), connect.to_string()]);
    }));
    rig.event_loop.close_all(&mut rig.handler, HOUR).expect("the loop runs");
    let named = |error: &String| error.contains("closing");
    assert!(said.borrow().len() == 2 && said.borrow().iter().all(named), "{said:?}");
    rig.handler.on_close = None;
    let listener = rig.event_loop.net().listen("127.0.0.1:0").expect("a free port");
    rig.addr = rig.event_loop.net().listener_addr(listener).expect("it is open");
    rig.handler.echo();
    let (peer, _) = rig.client();
    rig.connected();
    rig.send(peer, b"open again");
    rig.until("the echo", |rig| rig.received(peer) == b"open again");
}

fn close_all_of_an_empty_loop_has_nothing_to_wait_for(kind: Kind) {
    let mut rig = without_listener(kind);
    let turns = rig.event_loop.net().stats().turns;
    rig.event_loop.close_all(&mut rig.handler, Duration::MAX).expect("the loop runs");
    assert_eq!(rig.event_loop.net().stats().turns, turns);
}

/// On real sockets only: the scripted world has no descriptor.
#[cfg(unix)]
fn the_descriptor_is_readable_exactly_when_a_turn_has_events(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.settle();
    assert!(!readable(&rig.event_loop, 0));
    rig.dial();
    assert!(readable(&rig.event_loop, 0), "a connection waits");
    let (peer, _) = rig.client();
    rig.settle();
    assert!(!readable(&rig.event_loop, 0));
    rig.send(peer, b"data");
    assert!(readable(&rig.event_loop, 0), "data waits");
    rig.settle();
    assert!(!readable(&rig.event_loop, 0));
    let waker = rig.event_loop.waker();
    waker.wake();
    assert!(readable(&rig.event_loop, 0), "a wake waits");
    rig.settle();
    assert!(!readable(&rig.event_loop, 0));
    rig.finish(peer);
    assert!(readable(&rig.event_loop, 0), "a FIN waits");
    rig.settle();
    assert!(!readable(&rig.event_loop, 0));
}

/// On real sockets only: the scripted world has no descriptor.
#[cfg(unix)]
fn a_host_loop_needs_only_the_descriptor_and_next_wait(kind: Kind) {
    let mut rig = Rig::with(kind, Config::default().read_budget_bytes(100));
    rig.handler.echo();
    let peer = rig.dial();
    rig.send(peer, &[5; 1234]);
    rig.event_loop.net().start_timer(Duration::from_millis(2), 1);
    let timed = |rig: &Rig| rig.handler.count(|call| matches!(call, Call::Timer(..))) == 1;
    while !timed(&rig) || rig.received(peer).len() < 1234 {
        host_turn(&mut rig);
    }
    // What a turn has seen to the end, and what was asked for between turns, is watched again.
    for round in 1..4 {
        rig.send(peer, b"more");
        while rig.received(peer).len() < 1234 + round * 4 {
            host_turn(&mut rig);
        }
    }
    let conn = rig.handler.accepted[0];
    rig.event_loop.net().pause_reading(conn);
    rig.settle();
    rig.event_loop.net().resume_reading(conn);
    rig.send(peer, b"resumed");
    while rig.received(peer).len() < 1253 {
        host_turn(&mut rig);
    }
}

/// What a host does: waits for the descriptor, no longer than it may, and takes a turn.
#[cfg(unix)]
#[track_caller]
fn host_turn(rig: &mut Rig) {
    let wait = rig.event_loop.next_wait();
    let millis = wait.map_or(10_000, |wait| wait.as_nanos().div_ceil(1_000_000));
    let ready = readable(&rig.event_loop, i32::try_from(millis).expect("short"));
    assert!(ready || wait.is_some(), "without a deadline only an event ends the wait");
    rig.turn();
}

#[test]
fn a_handler_may_be_a_trait_object() {
    struct Stops;
    impl Handler for Stops {
        fn on_data(&mut self, _: &mut Net, _: ConnId, data: &[u8]) -> usize {
            data.len()
        }

        fn on_turn_end(&mut self, net: &mut Net) {
            net.stop();
        }
    }
    let mut event_loop = Loop::new(Config::default()).expect("a loop");
    event_loop.net().again();
    event_loop.net().start_timer(HOUR, 1);
    let handler: &mut dyn Handler = &mut Checked::new(Stops);
    event_loop.run(handler).expect("the loop runs");
    assert_eq!(event_loop.net().stats().turns, 1);
}

/// A rig whose loop has nothing to run for.
fn without_listener(kind: Kind) -> Rig {
    let mut rig = Rig::new(kind);
    let listener = rig.listener;
    assert!(rig.event_loop.net().close_listener(listener));
    rig.settle();
    rig
}

/// Has the callbacks of a turn write down their names.
fn log_callbacks(rig: &mut Rig) -> Rc<RefCell<Vec<&'static str>>> {
    let log: Rc<RefCell<Vec<&'static str>>> = Rc::default();
    let noting = |name| {
        let log = Rc::clone(&log);
        move || log.borrow_mut().push(name)
    };
    let note = noting("start");
    rig.handler.on_turn_start = Some(Box::new(move |_| note()));
    let note = noting("timer");
    rig.handler.on_timer = Some(Box::new(move |_, _, _| note()));
    let note = noting("wake");
    rig.handler.on_wake = Some(Box::new(move |_| note()));
    let note = noting("data");
    rig.handler.on_data = Some(Box::new(move |_, _, data| {
        note();
        data.len()
    }));
    let note = noting("close");
    rig.handler.on_close = Some(Box::new(move |_, _, _| note()));
    let note = noting("end");
    rig.handler.on_turn_end = Some(Box::new(move |_| note()));
    log
}

/// Whether the loop's descriptor is or becomes readable within so many milliseconds (`poll(2)`).
#[cfg(unix)]
fn readable(event_loop: &Loop, timeout_ms: i32) -> bool {
    use std::os::fd::AsRawFd;

    let fd = event_loop.poll_fd().expect("it has one");
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: the pointer is to one live `pollfd`, and the descriptor is borrowed.
    let count = unsafe { libc::poll(&raw mut poll, 1, timeout_ms) };
    assert!(count >= 0, "poll: {}", std::io::Error::last_os_error());
    poll.revents & libc::POLLIN != 0
}

on_every_backend!(
    a_turn_of_zero_only_looks,
    a_turn_counts_its_callbacks,
    pending_and_next_wait_say_whether_there_is_work,
    again_in_a_callback_means_the_next_wait,
    a_turn_has_its_phases_in_order,
    the_hooks_come_once_in_every_turn,
    what_the_hooks_write_leaves_in_the_same_turn,
    run_returns_at_once_when_there_is_nothing_to_run_for,
    run_returns_after_the_last_timer,
    run_returns_after_the_last_connection,
    run_goes_on_as_long_as_there_is_a_waker,
    stop_ends_the_run_with_its_turn_and_closes_nothing,
    a_stop_before_the_run_ends_its_first_turn,
    a_stop_before_a_run_that_has_nothing_to_run_for_is_used_up,
    stop_works_in_every_callback,
    close_all_sends_what_is_queued_and_says_shutdown,
    close_all_without_grace_resets_at_once,
    close_all_gives_up_connects_and_keeps_first_reasons,
    nothing_is_opened_during_close_all_and_all_may_be_after_it,
    close_all_of_an_empty_loop_has_nothing_to_wait_for,
);

on_real_sockets!(run_waits_for_a_waker_on_another_thread_to_be_dropped);

#[cfg(unix)]
on_real_sockets!(
    the_descriptor_is_readable_exactly_when_a_turn_has_events,
    a_host_loop_needs_only_the_descriptor_and_next_wait,
);

// The scripted peer takes not one byte more, or exactly so many; a kernel has buffers.
on_script!(close_all_aborts_what_is_not_done_after_the_grace,);

on_virtual_time!(
    a_turn_waits_until_a_timer_is_due_or_as_long_as_it_may,
    next_wait_is_what_is_left_of_the_nearest_timer,
    again_makes_one_wait_zero,
);
