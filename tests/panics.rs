//! A panic in any callback unwinds out of the turn and costs the connection whose callback it
//! was, and nothing else: the loop runs on or is dropped (contract C6).

mod support;

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::time::Duration;

use hotloop::{CloseReason, Config, ConnId, ConnOptions, ListenOptions, Loop, Missed, Net};
use support::{Call, Kind, Peer, Rig};

const MS: Duration = Duration::from_millis(1);
const PLANNED: &str = "planned";

/// Panics without a word on standard error.
fn blow() -> ! {
    panic::resume_unwind(Box::new(PLANNED))
}

/// Runs what should panic as planned; returns whether it did. Any other panic goes on.
fn blows(run: impl FnOnce()) -> bool {
    match panic::catch_unwind(AssertUnwindSafe(run)) {
        Ok(()) => false,
        Err(payload) if payload.downcast_ref() == Some(&PLANNED) => true,
        Err(payload) => panic::resume_unwind(payload),
    }
}

fn until_panic(rig: &mut Rig) {
    for _ in 0..100_000 {
        if blows(|| _ = rig.turn()) {
            return;
        }
    }
    panic!("no callback panicked: {:?}", rig.handler.calls);
}

/// What holds between turns whatever happened, once nothing is queued or kept any more.
fn assert_sound(rig: &mut Rig, connections: usize) {
    rig.settle();
    let stats = rig.event_loop.net().stats();
    assert_eq!(stats.connections, connections);
    assert_eq!(stats.accepted + stats.connects, stats.closed + connections as u64);
    assert_eq!((stats.buffered_bytes, stats.queued_bytes), (0, 0));
    assert_eq!(stats.accepted_bytes, stats.sent_bytes + stats.dropped_bytes);
    assert_eq!(rig.event_loop.net().conns().count(), connections);
    if rig.kind.is_script() {
        assert_eq!(rig.world().lent_buffers(), 0);
        assert_eq!(rig.open_sockets(), connections + stats.listeners);
    }
}

/// Two connections, one of which will meet a panic: the first that is served, or the second.
struct Pair {
    victim: (Peer, ConnId),
    other: (Peer, ConnId),
}

fn pair(rig: &mut Rig, victim_first: bool) -> Pair {
    let (one, two) = (rig.client(), rig.client());
    if victim_first { Pair { victim: one, other: two } } else { Pair { victim: two, other: one } }
}

/// For either order of service: prepares, lets both have input in the same wait, and expects the
/// panic to end the one and not to touch the other.
fn costs_one_connection(kind: Kind, config: &Config, prepare: impl Fn(&mut Rig, (Peer, ConnId))) {
    for victim_first in [true, false] {
        let mut rig = Rig::with(kind, config.clone());
        let Pair { victim, other } = pair(&mut rig, victim_first);
        rig.handler.echo();
        let timer = rig.event_loop.net().start_conn_timer(victim.1, Duration::MAX, 0);
        prepare(&mut rig, victim);
        rig.send(other.0, b"same wait");
        until_panic(&mut rig);
        assert_eq!(rig.until_closed(victim.1).0, CloseReason::HandlerPanicked);
        rig.until("its echo", |rig| rig.received(other.0) == b"same wait");
        rig.until("the reset", |rig| rig.is_reset(victim.0));
        let timer = timer.expect("it was open");
        assert_eq!(rig.event_loop.net().timer_deadline(timer), None);
        rig.send(other.0, b", and later");
        rig.until("its echo", |rig| rig.received(other.0) == b"same wait, and later");
        assert_sound(&mut rig, 1);
    }
}

/// Lets the data of one connection meet a panic when `consume` says so (`None`), and echoes that
/// of the others.
fn on_data_of(
    rig: &mut Rig,
    victim: ConnId,
    consume: impl Fn(&mut Net, &[u8]) -> Option<usize> + 'static,
) {
    rig.handler.on_data = Some(Box::new(move |net, conn, data| {
        if conn == victim {
            return consume(net, data).unwrap_or_else(|| blow());
        }
        net.write(conn, data);
        data.len()
    }));
}

fn in_on_data(kind: Kind) {
    costs_one_connection(kind, &Config::default(), |rig, (peer, conn)| {
        on_data_of(rig, conn, |_, _| None);
        rig.send(peer, b"bang");
    });
}

fn in_on_data_behind_kept_bytes(kind: Kind) {
    costs_one_connection(kind, &Config::default(), |rig, (peer, conn)| {
        on_data_of(rig, conn, |_, data| (data.len() < 8).then_some(1));
        rig.send(peer, b"kept");
        rig.until("the bytes to be kept", |rig| !rig.handler.shown(conn).is_empty());
        assert!(rig.event_loop.net().stats().buffered_bytes > 0);
        rig.send(peer, b"and new");
    });
}

fn in_on_data_that_shows_kept_bytes_again(kind: Kind) {
    costs_one_connection(kind, &Config::default(), |rig, (peer, conn)| {
        on_data_of(rig, conn, |_, data| (data.len() == 4).then_some(1));
        rig.send(peer, b"kept");
        rig.until("the bytes to be kept", |rig| !rig.handler.shown(conn).is_empty());
        assert!(rig.event_loop.net().resume_reading(conn));
    });
}

fn in_on_data_behind_a_write(kind: Kind) {
    costs_one_connection(kind, &Config::default(), |rig, (peer, conn)| {
        on_data_of(rig, conn, move |net, _| {
            net.write(conn, &[7; 50_000]);
            None
        });
        rig.send(peer, b"bang");
    });
}

fn in_on_data_behind_a_close(kind: Kind) {
    costs_one_connection(kind, &Config::default(), |rig, (peer, conn)| {
        on_data_of(rig, conn, move |net, _| {
            net.close(conn);
            None
        });
        rig.send(peer, b"bang");
    });
}

fn in_on_read_closed(kind: Kind) {
    costs_one_connection(kind, &Config::default(), |rig, (peer, conn)| {
        on_data_of(rig, conn, |_, _| Some(0));
        rig.handler.on_read_closed = Some(Box::new(|_, _, rest| {
            assert_eq!(rest, b"rest");
            blow();
        }));
        rig.send(peer, b"rest");
        rig.finish(peer);
    });
}

fn in_on_writable(kind: Kind) {
    let options = ConnOptions::default().hard_limit_bytes(64 << 20);
    costs_one_connection(kind, &Config::default().conn(options), |rig, (peer, conn)| {
        rig.stop_reading(peer);
        // Real buffers take megabytes before anything stays queued.
        while rig.event_loop.net().write(conn, &[1; 64 << 10]) != hotloop::Sent::Pressured
            || rig.event_loop.net().queued_bytes(conn) < 128 << 10
        {
            rig.turn();
        }
        rig.handler.on_writable = Some(Box::new(|net, conn| {
            net.write(conn, b"never sent");
            blow();
        }));
        rig.start_reading(peer);
    });
}

fn an_abort_before_the_panic_keeps_its_reason(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    on_data_of(&mut rig, conn, move |net, _| {
        net.abort(conn);
        None
    });
    rig.send(peer, b"bang");
    until_panic(&mut rig);
    assert_eq!(rig.until_closed(conn).0, CloseReason::LocalAbort);
    assert_sound(&mut rig, 0);
}

fn consuming_more_than_there_is_names_the_rule_and_costs_the_connection(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    rig.handler.on_data = Some(Box::new(|_, _, data| data.len() + 1));
    rig.send(peer, b"four");
    let turns = AssertUnwindSafe(|| (0..10_000).for_each(|_| _ = rig.turn()));
    let payload = panic::catch_unwind(turns).expect_err("the loop panics");
    let message = payload.downcast_ref::<String>().expect("a message");
    assert!(message.contains("C7") && message.contains("5 of 4"), "{message}");
    assert_eq!(rig.until_closed(conn).0, CloseReason::HandlerPanicked);
    assert_sound(&mut rig, 0);
}

fn in_on_accept_the_other_accepts_of_the_batch_are_not_lost(kind: Kind) {
    for unlucky in 0..3 {
        let mut rig = Rig::new(kind);
        rig.handler.echo();
        let count = Cell::new(0);
        rig.handler.on_accept = Some(Box::new(move |net, conn| {
            net.write(conn, b"welcome");
            if count.replace(count.get() + 1) == unlucky {
                blow();
            }
        }));
        let peers = [(); 3].map(|()| rig.dial());
        until_panic(&mut rig);
        rig.until("all accepts", |rig| rig.handler.accepted.len() == 3);
        let victim = rig.handler.accepted[unlucky];
        assert_eq!(rig.until_closed(victim).0, CloseReason::HandlerPanicked);
        for (index, peer) in peers.into_iter().enumerate() {
            if index == unlucky {
                rig.until("the reset", |rig| rig.is_reset(peer));
            } else {
                rig.send(peer, b" back");
                rig.until("the echo", |rig| rig.received(peer) == b"welcome back");
            }
        }
        assert_sound(&mut rig, 2);
    }
}

fn in_on_connect(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.echo();
    rig.handler.on_connect = Some(Box::new(|_, _| blow()));
    let (other, _) = rig.client();
    let addr = rig.server();
    let conn = rig.event_loop.net().connect(addr).expect("there are slots");
    rig.event_loop.net().write(conn, b"queued");
    rig.send(other, b"same wait");
    until_panic(&mut rig);
    assert_eq!(rig.until_closed(conn), (CloseReason::HandlerPanicked, 6));
    rig.until("the echo", |rig| rig.received(other) == b"same wait");
    assert_sound(&mut rig, 1);
}

fn in_on_close_it_counts_as_delivered_and_the_others_of_the_batch_follow(kind: Kind) {
    for unlucky in 0..3 {
        let mut rig = Rig::new(kind);
        let conns = [(); 3].map(|()| rig.client().1);
        let count = Cell::new(0);
        rig.handler.on_close = Some(Box::new(move |_, _, _| {
            if count.replace(count.get() + 1) == unlucky {
                blow();
            }
        }));
        conns.iter().for_each(|conn| rig.event_loop.net().abort(*conn));
        until_panic(&mut rig);
        // That it comes once is what the recorder asserts.
        rig.until("all of them", |rig| conns.iter().all(|conn| rig.closed(*conn).is_some()));
        assert_sound(&mut rig, 0);
        let slots = [(); 3].map(|()| rig.client().1.slot());
        assert!(slots.iter().all(|slot| *slot < 3), "the slots are free: {slots:?}");
    }
}

fn in_on_close_with_nothing_left_run_returns(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (_, conn) = rig.client();
    rig.handler.on_close = Some(Box::new(|_, _, _| blow()));
    rig.event_loop.net().abort(conn);
    let listener = rig.listener;
    rig.event_loop.net().close_listener(listener);
    assert!(blows(|| rig.event_loop.run(&mut rig.handler).expect("the loop runs")));
    // On script a wait without end panics.
    rig.event_loop.run(&mut rig.handler).expect("there is nothing to do");
    assert_sound(&mut rig, 0);
}

fn what_a_panic_left_is_work_that_does_not_wait(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    on_data_of(&mut rig, conn, |_, _| None);
    rig.send(peer, b"bang");
    until_panic(&mut rig);
    // Whoever nests the loop in another poller goes by this.
    assert_eq!(rig.event_loop.next_wait(), Some(Duration::ZERO));
    rig.turn();
    rig.until_closed(conn);
    rig.settle();
    assert_eq!(rig.event_loop.next_wait(), None);
}

fn in_on_timer_the_others_of_the_batch_fire_once_and_in_order(kind: Kind) {
    for repeating in [false, true] {
        let mut rig = Rig::new(kind);
        rig.handler.echo();
        let (peer, _) = rig.client();
        rig.handler.on_timer = Some(Box::new(|net, timer, token| {
            net.cancel_timer(timer);
            if token == 1 || token == 2 {
                blow();
            }
        }));
        let net = rig.event_loop.net();
        net.start_timer(MS, 0);
        if repeating {
            net.start_repeating(MS, Missed::Burst, 1);
        } else {
            net.start_timer(MS, 1);
        }
        net.start_timer(MS, 2);
        net.start_timer(MS, 3);
        let turns = net.stats().turns;
        if kind.is_virtual() {
            rig.advance(MS);
        }
        rig.send(peer, b"same wait");
        until_panic(&mut rig);
        until_panic(&mut rig);
        if kind.is_virtual() {
            assert_eq!(rig.event_loop.net().stats().turns, turns + 2);
        }
        rig.until("the last", |rig| rig.handler.count(|call| is_timer(call, 3)) == 1);
        rig.until("the echo", |rig| rig.received(peer) == b"same wait");
        rig.settle();
        let is_any = |call: &&Call| matches!(call, Call::Timer(..));
        let fired: Vec<Call> = rig.handler.calls.iter().filter(is_any).cloned().collect();
        assert!(fired.iter().zip(0..).all(|(call, token)| is_timer(call, token)), "{fired:?}");
        assert_eq!(fired.len(), 4);
        assert_sound(&mut rig, 1);
    }
}

fn is_timer(call: &Call, token: u64) -> bool {
    matches!(call, Call::Timer(_, its) if *its == token)
}

fn in_on_timer_that_repeats_the_next_one_comes_in_time(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.on_timer = Some(Box::new(|_, _, _| blow()));
    let timer = rig.event_loop.net().start_repeating(MS, Missed::Skip, 0);
    let first = rig.event_loop.net().timer_deadline(timer).expect("it is live");
    for count in 1..5 {
        rig.advance(MS);
        until_panic(&mut rig);
        assert_eq!(rig.handler.calls.len(), count);
        let next = rig.event_loop.net().timer_deadline(timer).expect("it is live");
        assert_eq!(next.since(first), MS * u32::try_from(count).expect("small"));
    }
}

/// The turn behind it leaves `on_wake` to the one that follows, which must not wait for another
/// signal: the wake-up has been asked for already.
fn a_wake_behind_one_in_on_wake_is_work_for_the_turn_after_next(kind: Kind) {
    let mut rig = Rig::new(kind);
    let waker = rig.event_loop.waker();
    rig.handler.on_wake = Some(Box::new(|_| blow()));
    waker.wake();
    until_panic(&mut rig);
    rig.handler.on_wake = None;
    waker.wake();
    let turn = rig.turn();
    assert_eq!((turn.callbacks, turn.pending), (0, true));
    assert_eq!(rig.event_loop.next_wait(), Some(Duration::ZERO));
    assert_eq!(rig.turn().callbacks, 1, "on_wake");
}

fn in_on_wake_it_counts_as_delivered(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.echo();
    let (peer, _) = rig.client();
    rig.handler.on_wake = Some(Box::new(|_| blow()));
    let waker = rig.event_loop.waker();
    waker.wake();
    rig.send(peer, b"same wait");
    until_panic(&mut rig);
    rig.until("the echo", |rig| rig.received(peer) == b"same wait");
    rig.settle();
    assert_eq!(rig.handler.count(|call| *call == Call::Wake), 1);
    waker.wake();
    until_panic(&mut rig);
    assert_eq!(rig.handler.count(|call| *call == Call::Wake), 2);
    assert_sound(&mut rig, 1);
}

fn in_on_listener_error_accepting_goes_on_later(kind: Kind) {
    let mut rig = Rig::with(kind, Config::default().max_connections(1));
    rig.handler.echo();
    let mut once = fuse(1);
    rig.handler.on_listener_error = Some(Box::new(move |net, _| once(net)));
    let (first, second) = (rig.dial(), rig.dial());
    rig.send(first, b"same wait");
    until_panic(&mut rig);
    let conn = rig.handler.accepted[0];
    rig.until("the echo", |rig| rig.received(first) == b"same wait");
    assert_eq!(rig.handler.accepted, [conn]);
    rig.event_loop.net().abort(conn);
    rig.until("the second", |rig| rig.handler.accepted.len() == 2);
    rig.send(second, b"late");
    rig.until("the echo", |rig| rig.received(second) == b"late");
    let told = rig.handler.count(|call| matches!(call, Call::ListenerError(..)));
    assert_eq!(told, 2, "once before the second was accepted, and once after");
    assert_sound(&mut rig, 1);
}

/// Panics as often as it says.
fn fuse(times: usize) -> Box<dyn FnMut(&mut Net)> {
    let left = Cell::new(times);
    Box::new(move |_| {
        if left.get() > 0 {
            left.set(left.get() - 1);
            blow();
        }
    })
}

fn in_the_hooks_around_a_turn_nothing_is_lost(kind: Kind) {
    for at_start in [true, false] {
        let mut rig = Rig::new(kind);
        rig.handler.echo();
        let (peer, conn) = rig.client();
        let (_, ending) = rig.client();
        let waker = rig.event_loop.waker();
        // To a connection outside its own service: flushed behind the second hook.
        rig.handler.on_timer = Some(Box::new(move |net, _, _| {
            net.write(conn, b"timer ");
        }));
        let hook =
            if at_start { &mut rig.handler.on_turn_start } else { &mut rig.handler.on_turn_end };
        *hook = Some(fuse(3));
        waker.wake();
        rig.event_loop.net().start_timer(Duration::ZERO, 0);
        rig.event_loop.net().abort(ending);
        let dialled = rig.dial();
        rig.send(peer, b"echo");
        (0..3).for_each(|_| until_panic(&mut rig));
        rig.until("both answers", |rig| rig.received(peer).len() == 10);
        rig.until("the accept", |rig| rig.handler.accepted.len() == 3);
        assert_eq!(rig.until_closed(ending).0, CloseReason::LocalAbort);
        rig.send(dialled, b"served");
        rig.until("the echo", |rig| rig.received(dialled) == b"served");
        assert_eq!(rig.received(peer), b"timer echo");
        assert_eq!(rig.handler.count(|call| *call == Call::Wake), 1);
        assert_eq!(rig.handler.count(|call| is_timer(call, 0)), 1);
        assert_sound(&mut rig, 2);
    }
}

fn in_close_all_the_loop_stays_usable(kind: Kind) {
    let mut rig = Rig::new(kind);
    let conns = [(); 3].map(|()| rig.client().1);
    let first = Cell::new(true);
    rig.handler.on_close = Some(Box::new(move |_, _, _| {
        if first.replace(false) {
            blow();
        }
    }));
    let grace = Duration::ZERO;
    assert!(blows(|| rig.event_loop.close_all(&mut rig.handler, grace).expect("the loop runs")));
    let net = rig.event_loop.net();
    rig.listener = net.listen_with("127.0.0.1:0", ListenOptions::default()).expect("it runs on");
    rig.addr = net.listener_addr(rig.listener).expect("it is open");
    rig.handler.echo();
    let (peer, fourth) = rig.client();
    rig.send(peer, b"open again");
    rig.until("the echo", |rig| rig.received(peer) == b"open again");
    rig.event_loop.close_all(&mut rig.handler, grace).expect("the loop runs");
    for conn in [conns[0], conns[1], conns[2], fourth] {
        assert_eq!(rig.closed(conn).map(|(reason, _)| reason), Some(CloseReason::Shutdown));
    }
    assert_sound(&mut rig, 0);
}

/// Each of these panics in another callback, with a lot going on.
fn plants() -> Vec<fn(&mut Rig)> {
    vec![
        |rig| rig.handler.on_accept = Some(Box::new(|_, _| blow())),
        |rig| rig.handler.on_connect = Some(Box::new(|_, _| blow())),
        |rig| rig.handler.on_data = Some(Box::new(|_, _, _| blow())),
        |rig| rig.handler.on_read_closed = Some(Box::new(|_, _, _| blow())),
        |rig| rig.handler.on_close = Some(Box::new(|_, _, _| blow())),
        |rig| rig.handler.on_timer = Some(Box::new(|_, _, _| blow())),
        |rig| rig.handler.on_wake = Some(Box::new(|_| blow())),
        |rig| rig.handler.on_turn_start = Some(Box::new(|_| blow())),
        |rig| rig.handler.on_turn_end = Some(Box::new(|_| blow())),
    ]
}

/// Gives every callback a reason to be called in the turns that follow, one of which panics.
fn stir(rig: &mut Rig, plant: fn(&mut Rig)) {
    let [busy, ending, finishing, aborted, _idle] = [(); 5].map(|()| rig.client());
    plant(rig);
    let net = rig.event_loop.net();
    net.write(busy.1, &[3; 10_000]);
    net.close(ending.1);
    net.abort(aborted.1);
    net.start_timer(Duration::ZERO, 0);
    net.waker().wake();
    rig.send(busy.0, b"bang");
    rig.finish(finishing.0);
    let addr = rig.server();
    rig.event_loop.net().connect(addr).expect("there are slots");
    rig.dial();
}

fn dropped_right_after_a_panic_a_loop_closes_everything_and_calls_nobody(kind: Kind) {
    for plant in plants() {
        let mut rig = Rig::new(kind);
        stir(&mut rig, plant);
        let world = rig.world().clone();
        until_panic(&mut rig);
        assert!(world.open_sockets() > 0);
        let calls = rig.handler.calls.len();
        let another = Loop::new(Config::default()).expect("a loop");
        drop(std::mem::replace(&mut rig.event_loop, another));
        assert_eq!(world.open_sockets(), 0);
        assert_eq!(rig.handler.calls.len(), calls);
    }
}

fn whichever_callback_panics_for_ever_the_others_go_on(kind: Kind) {
    for plant in plants() {
        let mut rig = Rig::new(kind);
        stir(&mut rig, plant);
        until_panic(&mut rig);
        for _ in 0..50 {
            blows(|| _ = rig.turn());
        }
        rig.handler.on_turn_start = None;
        rig.handler.on_turn_end = None;
        rig.handler.on_accept = None;
        rig.handler.echo();
        let (peer, _) = rig.client();
        rig.send(peer, b"still served");
        rig.until("the echo", |rig| rig.received(peer) == b"still served");
        let conns: Vec<ConnId> = rig.event_loop.net().conns().collect();
        rig.handler.on_close = None;
        conns.into_iter().for_each(|conn| rig.event_loop.net().abort(conn));
        assert_sound(&mut rig, 0);
    }
}

fn a_thousand_panics_leak_nothing(kind: Kind) {
    let mut rig = Rig::new(kind);
    let keeps = |rig: &mut Rig, conn: ConnId| {
        on_data_of(rig, conn, move |net, data| {
            net.start_conn_timer(conn, MS, 0);
            net.write(conn, data);
            (data.len() == 4).then_some(1)
        });
    };
    let mut pooled = None;
    // The real ones that are gone keep their descriptor at the peer's end.
    let rounds = if kind.is_virtual() { 1000 } else { 300 };
    for round in 0..rounds {
        let (peer, conn) = rig.client();
        assert_eq!(conn.slot(), 0);
        keeps(&mut rig, conn);
        rig.send(peer, b"kept");
        rig.until("the bytes to be kept", |rig| !rig.handler.shown(conn).is_empty());
        rig.send(peer, b"bang");
        until_panic(&mut rig);
        assert_eq!(rig.until_closed(conn).0, CloseReason::HandlerPanicked);
        rig.handler.calls.clear();
        let stats = rig.event_loop.net().stats();
        assert_eq!((stats.timers, stats.buffered_bytes), (0, 0), "after {round}");
        assert_eq!(*pooled.get_or_insert(stats.pooled_bytes), stats.pooled_bytes);
    }
    assert_sound(&mut rig, 0);
}

on_every_backend!(
    in_on_data,
    in_on_data_behind_kept_bytes,
    in_on_data_that_shows_kept_bytes_again,
    in_on_data_behind_a_write,
    in_on_data_behind_a_close,
    in_on_read_closed,
    in_on_writable,
    an_abort_before_the_panic_keeps_its_reason,
    consuming_more_than_there_is_names_the_rule_and_costs_the_connection,
    in_on_accept_the_other_accepts_of_the_batch_are_not_lost,
    in_on_connect,
    in_on_close_it_counts_as_delivered_and_the_others_of_the_batch_follow,
    what_a_panic_left_is_work_that_does_not_wait,
    in_on_timer_the_others_of_the_batch_fire_once_and_in_order,
    in_on_wake_it_counts_as_delivered,
    a_wake_behind_one_in_on_wake_is_work_for_the_turn_after_next,
    in_on_listener_error_accepting_goes_on_later,
    in_the_hooks_around_a_turn_nothing_is_lost,
    in_close_all_the_loop_stays_usable,
    whichever_callback_panics_for_ever_the_others_go_on,
    a_thousand_panics_leak_nothing,
);

on_virtual_time!(in_on_timer_that_repeats_the_next_one_comes_in_time,);

// They look into the scripted world.
on_script!(
    in_on_close_with_nothing_left_run_returns,
    dropped_right_after_a_panic_a_loop_closes_everything_and_calls_nobody,
);
