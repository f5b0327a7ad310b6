//! `Chaos`: the faults that a loop makes on its own real sockets are made, on the sockets that were
//! chosen, and the contract holds under them: no byte is lost that is not accounted for, and every
//! end is told as what it was. Under `HOTLOOP_CHAOS` the other tests run, too (`.ci/chaos`).

mod support;

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use hotloop::sim::{Fault, Faults};
use hotloop::{
    Chaos, CloseReason, Config, ConnId, ErrorClass, Limit, Loop, Net, SlowConsumer, TimeoutKind,
};
use support::watchdog::Watchdog;
use support::{Kind, Peer, Recorder, Rig};

/// Several receives long, and more than the sockets' small buffers hold at once.
const MESSAGE_BYTES: usize = 60_000;
const CLIENTS: usize = 3;

/// The kinds that end a connection, or keep it from beginning.
const ENDING: [Fault; 4] = [Fault::RecvError, Fault::SendError, Fault::Reset, Fault::ConnectError];

/// Those that end nothing.
fn transparent() -> impl Iterator<Item = &'static Fault> {
    Chaos::KINDS.iter().filter(|kind| !ENDING.contains(kind))
}

fn rig(kind: Kind, chaos: Chaos) -> Rig {
    let mut rig = Rig::with(kind, Config::default().chaos(chaos));
    rig.handler.echo();
    rig
}

fn count(rig: &mut Rig, kind: Fault) -> u64 {
    rig.event_loop.net().fault_counts().of(kind)
}

fn message(number: usize) -> Vec<u8> {
    (0..MESSAGE_BYTES)
        .map(|at| u8::try_from((at * 7 + number * 31) % 251).expect("< 251"))
        .collect()
}

/// Clients connect, send, get all of it back, and finish; each ends as an orderly one.
fn exchange(rig: &mut Rig) {
    let clients: Vec<(Peer, ConnId)> = (0..CLIENTS).map(|_| rig.client()).collect();
    for (number, (peer, _)) in clients.iter().enumerate() {
        rig.send(*peer, &message(number));
    }
    for (number, (peer, conn)) in clients.into_iter().enumerate() {
        rig.until("the echo", |rig| rig.received(peer).len() >= MESSAGE_BYTES);
        assert!(rig.received(peer) == message(number), "a byte is lost, repeated or reordered");
        rig.finish(peer);
        assert_eq!(rig.until_closed(conn), (CloseReason::PeerClosed, 0));
        rig.until("the FIN", |rig| rig.at_end(peer));
    }
}

fn each_kind_that_ends_nothing_is_made_and_loses_no_byte(kind: Kind) {
    for (seed, fault) in (1..).zip(transparent()) {
        let probability = if *fault == Fault::StaleEvent { 0.9 } else { 0.4 };
        let chaos = Chaos::new(seed).faults(Faults::none().of(*fault, probability));
        let mut rig = rig(kind, chaos);
        for _ in 0..50 {
            exchange(&mut rig);
            if count(&mut rig, *fault) > 3 {
                break;
            }
        }
        assert!(count(&mut rig, *fault) > 3, "{fault:?} is not made");
        let all: u64 = rig.event_loop.net().fault_counts().iter().map(|(_, count)| count).sum();
        assert_eq!(all, count(&mut rig, *fault), "others are made, too");
    }
}

fn all_of_mild_at_once_lose_no_byte(kind: Kind) {
    for seed in 0..5 {
        let mut rig = rig(kind, Chaos::new(seed));
        let mut kinds = 0;
        // One exchange meets few of them.
        for _ in 0..200 {
            exchange(&mut rig);
            let counts = rig.event_loop.net().fault_counts();
            kinds = counts.iter().filter(|(_, count)| *count > 0).count();
            if kinds >= 8 {
                break;
            }
        }
        assert!(kinds >= 8, "{}", rig.event_loop.net().fault_counts());
    }
}

fn is_an_error(reason: CloseReason) -> bool {
    matches!(
        reason,
        CloseReason::Reset | CloseReason::Io(_) | CloseReason::Timeout(TimeoutKind::Kernel)
    )
}

/// Checks that the loop's account holds and nothing is left of it.
fn assert_settled(net: &Net) {
    let stats = net.stats();
    assert_eq!(stats.accepted_bytes, stats.sent_bytes + stats.dropped_bytes, "C8");
    assert_eq!((stats.connections, stats.queued_bytes, stats.buffered_bytes), (0, 0, 0));
}

fn an_error_ends_its_connection_and_its_peer_is_reset(kind: Kind) {
    for (seed, fault) in (1..).zip([Fault::RecvError, Fault::SendError, Fault::Reset]) {
        let mut rig = rig(kind, Chaos::new(seed).faults(Faults::none().of(fault, 0.3)));
        let mut ended = 0;
        for _ in 0..40 {
            let (peer, conn) = rig.client();
            rig.send(peer, &message(0));
            rig.until("the echo or the end", |rig| {
                rig.received(peer).len() >= MESSAGE_BYTES || rig.closed(conn).is_some()
            });
            if let Some((reason, _)) = rig.closed(conn) {
                assert!(is_an_error(reason), "{fault:?} is told as {reason:?}");
                assert!(fault != Fault::Reset || reason == CloseReason::Reset, "{reason:?}");
                rig.until("the reset", |rig| rig.is_reset(peer));
                ended += 1;
            } else {
                rig.reset(peer);
                rig.until_closed(conn);
            }
            let echoed = rig.received(peer);
            assert!(message(0).starts_with(&echoed), "the peer has received what was not sent");
        }
        assert!(ended >= 5, "{fault:?} has ended {ended}");
        assert!(count(&mut rig, fault) >= ended, "some of them by something else");
        assert_settled(rig.event_loop.net());
    }
}

/// An idle connection is reset, although nobody calls anything on it.
fn a_paused_connection_is_told_of_its_reset(kind: Kind) {
    let mut rig = rig(kind, Chaos::new(1).faults(Faults::none().of(Fault::Reset, 0.05)));
    let (peer, conn) = loop {
        let (peer, conn) = rig.client();
        if rig.event_loop.net().pause_reading(conn) {
            break (peer, conn);
        }
    };
    assert_eq!(rig.until_closed(conn).0, CloseReason::Reset);
    rig.until("the reset", |rig| rig.is_reset(peer));
}

fn a_connect_that_fails_at_once_is_an_error_without_an_id(kind: Kind) {
    let mut rig = rig(kind, Chaos::new(1).faults(Faults::none().of(Fault::ConnectError, 1.0)));
    let addr = rig.server();
    let error = rig.event_loop.net().connect(addr).expect_err("each of them fails");
    assert_eq!(ErrorClass::of(&error), ErrorClass::Resource, "{error}");
    assert_eq!(rig.event_loop.net().stats().connections, 0);
    assert_eq!(count(&mut rig, Fault::ConnectError), 1);
}

/// The same story, each of whose calls fails once: it comes to an end that is told.
fn every_call_of_a_story_may_fail(kind: Kind) {
    let mut failed = Vec::new();
    for call in 0.. {
        let chaos = Chaos::new(1).faults(Faults::none()).fail_call(call);
        let mut rig = rig(kind, chaos);
        let addr = rig.server();
        let connect = rig.event_loop.net().connect(addr);
        let (peer, conn) = rig.client();
        rig.send(peer, b"a question");
        rig.finish(peer);
        let (reason, _) = rig.until_closed(conn);
        if let Ok(conn) = connect {
            rig.event_loop.net().abort(conn);
            rig.until_closed(conn);
        }
        rig.settle();
        assert_settled(rig.event_loop.net());
        let counts = rig.event_loop.net().fault_counts();
        let made: u64 = counts.iter().map(|(_, count)| count).sum();
        if made == 0 {
            break;
        }
        assert_eq!(made, 1, "{counts}");
        failed.extend(counts.iter().filter(|(_, count)| *count > 0).map(|(kind, _)| kind));
        let ends_it = counts.of(Fault::RecvError) + counts.of(Fault::SendError) == 1;
        assert!(reason == CloseReason::PeerClosed || ends_it && is_an_error(reason), "{reason:?}");
    }
    for kind in [Fault::ConnectError, Fault::AcceptError, Fault::RecvError, Fault::SendError] {
        assert!(failed.contains(&kind), "{kind:?} is not among {failed:?}");
    }
}

fn of_the_share_that_is_not_chosen_nothing_is_hurt(kind: Kind) {
    let faults = Faults::harsh().of(Fault::AcceptError, 0.0).of(Fault::ConnectError, 1.0);
    let mut rig = rig(kind, Chaos::new(1).faults(faults).share(0.0));
    exchange(&mut rig);
    let addr = rig.server();
    rig.event_loop.net().connect(addr).expect("it is not chosen");
    for fault in [
        Fault::ConnectError,
        Fault::DelayedEvent,
        Fault::ShortRead,
        Fault::ShortWrite,
        Fault::WriteBlocked,
        Fault::RecvError,
        Fault::SendError,
        Fault::Reset,
        Fault::StaleEvent,
    ] {
        assert_eq!(count(&mut rig, fault), 0, "{fault:?}");
    }
}

fn only_what_belongs_to_the_port_is_hurt(kind: Kind) {
    let hurt = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = hurt.local_addr().expect("it is bound");
    let faults = Faults::none().of(Fault::RecvError, 1.0);
    let mut rig = rig(kind, Chaos::new(1).faults(faults).port(addr.port()));
    exchange(&mut rig);
    rig.event_loop.net().adopt_listener(hurt).expect("it listens");
    let elsewhere = rig.server();
    let dialled = rig.event_loop.net().connect(elsewhere).expect("there are slots");
    rig.until("the connect", |rig| rig.handler.connected.contains(&dialled));
    rig.server_peer(elsewhere).map(|peer| rig.send(peer, b"unhurt")).expect("it has come");
    rig.until("the echo", |rig| rig.handler.consumed.ends_with(b"unhurt"));
    let before = rig.handler.accepted.len();
    let mut client = TcpStream::connect(addr).expect("it listens");
    client.write_all(b"a question").expect("it is connected");
    rig.until("an accept", |rig| rig.handler.accepted.len() > before);
    let conn = rig.handler.accepted[before];
    assert!(is_an_error(rig.until_closed(conn).0));
    exchange(&mut rig);
    assert_eq!(count(&mut rig, Fault::RecvError), 1);
}

/// Between the turn that breaks it and the one that tells, it is as broken as it will ever be.
fn a_connection_that_breaks_is_not_quiet_and_takes_nothing(kind: Kind) {
    let faults = Faults::none().of(Fault::Reset, 0.3);
    let mut rig = rig(kind, Chaos::new(5).faults(faults));
    let (mut quiet, mut broken) = (0, 0);
    for _ in 0..200 {
        let (peer, conn) = rig.client();
        while rig.event_loop.net().is_open(conn) {
            let is_quiet = rig.event_loop.net().is_quiet(conn);
            *(if is_quiet { &mut quiet } else { &mut broken }) += 1;
            rig.event_loop.net().write(conn, b"late");
            rig.event_loop.net().flush(conn);
            rig.turn();
        }
        assert!(is_an_error(rig.until_closed(conn).0));
        rig.until("the reset", |rig| rig.is_reset(peer));
    }
    assert!(quiet > 0 && broken > 0, "{quiet} quiet, {broken} broken");
    assert_settled(rig.event_loop.net());
}

fn a_connection_whose_send_has_failed_is_not_quiet_and_not_released(kind: Kind) {
    let faults = Faults::none().of(Fault::SendError, 1.0);
    let mut rig = rig(kind, Chaos::new(1).faults(faults));
    let said = Rc::new(RefCell::new(Vec::new()));
    let says = Rc::clone(&said);
    rig.handler.on_data = Some(Box::new(move |net, conn, data| {
        says.borrow_mut().push(net.is_quiet(conn));
        net.write(conn, b"an answer");
        net.flush(conn);
        says.borrow_mut().extend([net.is_quiet(conn), net.release(conn)]);
        data.len()
    }));
    let (peer, conn) = rig.client();
    rig.send(peer, b"a question");
    assert!(is_an_error(rig.until_closed(conn).0));
    assert_eq!(*said.borrow(), [true, false, false]);
}

/// What there is nothing to do to is left alone: a loop without connections, one byte, a batch in
/// which nothing was chosen.
fn what_cannot_be_hurt_is_not(kind: Kind) {
    let faults = || Faults::none().of(Fault::Reset, 1.0).of(Fault::SpuriousEvent, 1.0);
    let chaos = Chaos::new(1).faults(faults());
    let mut alone = Loop::new(kind.real(Config::default().chaos(chaos))).expect("a loop");
    for _ in 0..10 {
        alone.turn(&mut Recorder::default(), Duration::ZERO).expect("it runs");
    }
    assert_eq!(alone.net().fault_counts().iter().map(|(_, count)| count).sum::<u64>(), 0);

    let mut short = rig(kind, Chaos::new(1).faults(Faults::none().of(Fault::ShortRead, 1.0)));
    let (peer, _) = short.client();
    for sent in 1..=20 {
        short.send(peer, b"x");
        short.until("the echo", |rig| rig.received(peer).len() == sent);
    }

    let split = Faults::none().of(Fault::SplitBatch, 1.0);
    let mut rig = rig(kind, Chaos::new(1).faults(split).share(0.5));
    (0..20).for_each(|_| exchange(&mut rig));
    assert!(count(&mut rig, Fault::SplitBatch) > 0);
}

fn an_owed_event_is_work_for_the_next_turn(kind: Kind) {
    let faults = Faults::none().of(Fault::ReadBlocked, 0.5);
    let mut rig = rig(kind, Chaos::new(1).faults(faults));
    let (peer, _) = rig.client();
    let mut waits = [0; 2];
    for sent in 1..=40 {
        rig.send(peer, b"x");
        while rig.received(peer).len() < sent {
            rig.turn();
            let is_due = rig.event_loop.next_wait() == Some(Duration::ZERO);
            waits[usize::from(is_due)] += 1;
        }
    }
    assert!(count(&mut rig, Fault::ReadBlocked) > 0 && waits[0] > 0 && waits[1] > 0, "{waits:?}");
}

/// Nothing but the withheld event itself would end the wait.
fn no_wait_sleeps_while_an_event_is_withheld(kind: Kind) {
    let watchdog = Watchdog::new("an event is withheld");
    let faults = Faults::none().of(Fault::DelayedEvent, 0.5).of(Fault::ReadBlocked, 0.5);
    let mut rig = rig(kind, Chaos::new(1).faults(faults));
    rig.handler.on_close = Some(Box::new(|net, _, _| net.stop()));
    let addr = rig.addr;
    let client = thread::spawn(move || {
        let mut stream = TcpStream::connect(addr).expect("it listens");
        for round in 0..50 {
            stream.write_all(&[round]).expect("it is read");
            let mut answer = [0];
            stream.read_exact(&mut answer).expect("it is answered");
            assert_eq!(answer, [round]);
        }
    });
    rig.event_loop.run(&mut rig.handler).expect("the loop runs");
    client.join().expect("every byte is answered");
    watchdog.over();
    assert!(count(&mut rig, Fault::DelayedEvent) > 5);
}

fn limits_hold_under_short_writes(kind: Kind) {
    let faults = Faults::mild().of(Fault::WriteBlocked, 0.5).of(Fault::ShortWrite, 0.9);
    let options = hotloop::ConnOptions::default()
        .high_water_bytes(4096)
        .low_water_bytes(1024)
        .hard_limit_bytes(Limit::At(8192))
        .slow_consumer(SlowConsumer::Refuse);
    let config = Config::default().conn(options).chaos(Chaos::new(3).faults(faults));
    let mut rig = Rig::with(kind, config);
    let (peer, conn) = rig.client();
    let (mut wrote, mut refused) = (Vec::new(), 0);
    while wrote.len() < 200_000 {
        let part = vec![u8::try_from(wrote.len() % 251).expect("< 251"); 3000];
        let net = rig.event_loop.net();
        if net.write(conn, &part).is_taken() {
            wrote.extend(part);
        } else {
            refused += 1;
            rig.turn();
        }
        let cost = rig.event_loop.net().queued_cost(conn);
        assert!(cost <= 8192, "{cost} above the limit");
    }
    rig.until("all of it", |rig| rig.received(peer).len() == wrote.len());
    assert!(rig.received(peer) == wrote, "the bytes differ");
    assert_eq!(rig.closed(conn), None);
    assert!(refused > 0 && count(&mut rig, Fault::ShortWrite) > 0, "{refused} refused");
}

on_real_sockets!(
    a_connection_whose_send_has_failed_is_not_quiet_and_not_released,
    what_cannot_be_hurt_is_not,
    an_owed_event_is_work_for_the_next_turn,
    a_connection_that_breaks_is_not_quiet_and_takes_nothing,
    each_kind_that_ends_nothing_is_made_and_loses_no_byte,
    all_of_mild_at_once_lose_no_byte,
    an_error_ends_its_connection_and_its_peer_is_reset,
    a_paused_connection_is_told_of_its_reset,
    a_connect_that_fails_at_once_is_an_error_without_an_id,
    every_call_of_a_story_may_fail,
    of_the_share_that_is_not_chosen_nothing_is_hurt,
    only_what_belongs_to_the_port_is_hurt,
    no_wait_sleeps_while_an_event_is_withheld,
    limits_hold_under_short_writes,
);

/// Run as a program of its own, under variables of its own.
#[test]
#[ignore = "a program that another test runs"]
fn a_server_that_knows_nothing_of_chaos() {
    let mut event_loop = Loop::new(Config::default()).expect("a loop");
    assert!(event_loop.net().connect("127.0.0.1:1").is_err(), "each of them fails");
}

fn under(variable: &str) -> std::process::Output {
    let binary = std::env::current_exe().expect("a test is a file");
    Command::new(binary)
        .args(["--exact", "--ignored", "--nocapture", "a_server_that_knows_nothing_of_chaos"])
        .env("HOTLOOP_CHAOS", variable)
        .output()
        .expect("it can be run")
}

#[test]
fn the_environment_switches_it_on_and_is_refused_when_it_is_wrong() {
    assert!(under("seed=1,faults=none,ConnectError=1").status.success());
    let failed = under("seed=1,Colour=1");
    let text = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(!failed.status.success() && text.contains("Colour=1: there is no such part"), "{text}");
}
