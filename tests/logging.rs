//! What the loop writes to the log: one line for each connection that ends, at debug; limits and
//! paused listeners as warnings, one a second of each kind, which says how many were left out. In a
//! test binary of its own, because the logger is the process's.

mod support;

use std::cell::{Cell, RefCell};
use std::sync::Once;
use std::time::Duration;

use hotloop::script::{self, Dialect};
use hotloop::{
    CloseReason, Config, ConnId, ConnOptions, Handler, LimitKind, ListenerError, ListenerId, Net,
    Sent,
};
use log::{Level, LevelFilter, Log, Metadata, Record};
use support::{Call, Kind, Peer, Rig, errno};

const HARD: usize = 1000;
const SECOND: Duration = Duration::from_secs(1);
const NANO: Duration = Duration::from_nanos(1);
const STORM: usize = 1000;

thread_local! {
    static LINES: RefCell<Vec<(Level, String)>> = const { RefCell::new(Vec::new()) };
    static LEVEL: Cell<LevelFilter> = const { Cell::new(LevelFilter::Debug) };
}

/// Keeps what this thread, and so this test, has logged.
struct Keep;

impl Log for Keep {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= LEVEL.get() && metadata.target().starts_with("hotloop")
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let line = (record.level(), record.args().to_string());
            LINES.with_borrow_mut(|lines| lines.push(line));
        }
    }

    fn flush(&self) {}
}

fn listen_to_the_log() {
    static INIT: Once = Once::new();
    INIT.call_once(|| {
        log::set_logger(&Keep).expect("no other logger is in this binary");
        log::set_max_level(LevelFilter::Trace);
    });
}

/// Takes the lines since the last time.
fn lines() -> Vec<(Level, String)> {
    LINES.with_borrow_mut(std::mem::take)
}

/// Takes them and returns the warnings and errors.
fn warnings() -> Vec<(Level, String)> {
    lines().into_iter().filter(|(level, _)| *level <= Level::Warn).collect()
}

fn a_closed_connection_is_one_line_at_debug(kind: Kind) {
    let mut rig = rig(kind, Config::default());
    let (peer, conn) = rig.client();
    let from = rig.event_loop.net().peer_addr(conn).expect("it is open");
    lines();
    rig.finish(peer);
    rig.until_closed(conn);
    let expected = format!("{conn} {from}: peer closed, 0 bytes not sent");
    assert_eq!(lines(), [(Level::Debug, expected)]);
}

fn what_was_not_sent_is_said(kind: Kind) {
    let mut rig = rig(kind, Config::default());
    let (peer, conn) = rig.client();
    rig.stop_reading(peer);
    rig.event_loop.net().write(conn, b"unsent");
    rig.event_loop.net().abort(conn);
    lines();
    rig.until_closed(conn);
    let (level, line) = &lines()[0];
    assert_eq!(*level, Level::Debug);
    assert!(line.ends_with(": aborted here, 6 bytes not sent"), "{line}");
}

fn a_storm_of_slow_consumers_is_one_warning_a_second(kind: Kind) {
    let mut rig = limited(kind);
    lines();
    for _ in 0..STORM {
        slow_consumer(&mut rig);
    }
    let logged = lines();
    let (warned, debug): (Vec<_>, Vec<_>) =
        logged.into_iter().partition(|(level, _)| *level == Level::Warn);
    assert_eq!(warned.len(), 1);
    assert!(warned[0].1.ends_with(": limit: Outbound, 0 bytes not sent"), "{}", warned[0].1);
    let lower = debug.iter().filter(|(_, line)| line.contains("limit: Outbound"));
    assert_eq!(lower.count(), STORM - 1, "the others are there, at debug");
    rig.pass(SECOND - NANO);
    slow_consumer(&mut rig);
    assert_eq!(warnings(), [], "the second is not over");
    rig.pass(NANO);
    slow_consumer(&mut rig);
    let said = warnings();
    assert_eq!(said.len(), 1);
    assert!(said[0].1.ends_with(" (1000 more like it since the last line)"), "{}", said[0].1);
    rig.pass(SECOND);
    slow_consumer(&mut rig);
    assert!(warnings()[0].1.ends_with("0 bytes not sent"), "none was left out");
}

fn a_storm_of_refused_accepts_is_one_warning_a_second(kind: Kind) {
    let mut rig = rig(kind, Config::default().max_connections(1));
    let (_, mut conn) = rig.client();
    for told in 1..STORM {
        assert_eq!(connection_limits(&rig), told, "the handler is told every time");
        conn = displace(&mut rig, conn);
    }
    let listener = (rig.listener, rig.addr);
    let expected = format!("{} {}: the connection limit is reached", listener.0, listener.1);
    assert_eq!(warnings(), [(Level::Warn, expected.clone())]);
    rig.pass(SECOND);
    displace(&mut rig, conn);
    let more = format!("{expected} (999 more like it since the last line)");
    assert_eq!(warnings(), [(Level::Warn, more)]);
}

fn a_storm_of_refused_writes_is_one_warning_a_second(kind: Kind) {
    let mut rig = rig(kind, Config::default().global_buffer_bytes(8000));
    let (_, conn) = rig.client();
    lines();
    let storm = |rig: &mut Rig| {
        for _ in 0..STORM {
            assert_eq!(rig.event_loop.net().write(conn, &[1; 7000]), Sent::Refused);
        }
    };
    storm(&mut rig);
    let expected = format!(
        "{conn}: a write is refused, all connections together hold 0 of the 7000 bytes there are \
         for writes"
    );
    assert_eq!(warnings(), [(Level::Warn, expected.clone())]);
    rig.advance(SECOND);
    storm(&mut rig);
    let more = format!("{expected} (999 more like it since the last line)");
    assert_eq!(warnings(), [(Level::Warn, more)]);
}

fn a_storm_of_long_messages_is_one_warning_a_second(kind: Kind) {
    let conn = ConnOptions::default().inbound_max_bytes(3);
    let mut rig = rig(kind, Config::default().conn(conn));
    rig.handler.on_data = Some(Box::new(|_, _, _| 0));
    lines();
    for _ in 0..3 {
        let (peer, conn) = rig.client();
        rig.send(peer, b"four");
        rig.finish(peer);
        assert_eq!(rig.until_closed(conn).0, CloseReason::Limit(LimitKind::Inbound));
    }
    let said = warnings();
    assert_eq!(said.len(), 1);
    assert!(said[0].1.ends_with(": limit: Inbound, 0 bytes not sent"), "{}", said[0].1);
}

fn kinds_do_not_silence_each_other(kind: Kind) {
    let mut rig = limited(kind);
    lines();
    slow_consumer(&mut rig);
    rig.fail_accepts(&[errno::EMFILE]);
    rig.dial();
    rig.settle();
    slow_consumer_after(&mut rig, Duration::from_millis(10));
    let said = warnings();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].1.contains(": limit: Outbound"), "{}", said[0].1);
    let paused = format!("{} {}: accepting is paused: ", rig.listener, rig.addr);
    assert!(said[1].1.starts_with(&paused), "{}", said[1].1);
    assert_eq!((said[0].0, said[1].0), (Level::Warn, Level::Warn));
}

fn a_listener_that_has_failed_is_an_error(kind: Kind) {
    let mut rig = rig(kind, Config::default());
    rig.fail_accepts(&[errno::EBADF]);
    lines();
    rig.dial();
    rig.settle();
    let said = warnings();
    assert_eq!(said.len(), 1);
    assert_eq!(said[0].0, Level::Error);
    let failed = format!("{} {}: the listener failed: ", rig.listener, rig.addr);
    assert!(said[0].1.starts_with(&failed), "{}", said[0].1);
}

fn what_the_log_does_not_take_is_not_counted_as_left_out(kind: Kind) {
    let mut rig = limited(kind);
    lines();
    LEVEL.set(LevelFilter::Error);
    for _ in 0..3 {
        slow_consumer(&mut rig);
    }
    assert_eq!(lines(), []);
    LEVEL.set(LevelFilter::Warn);
    slow_consumer(&mut rig);
    let said = lines();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].1.ends_with("0 bytes not sent"), "{}", said[0].1);
}

/// A handler that leaves `on_listener_error` as it is.
struct Plain;

impl Handler for Plain {
    fn on_data(&mut self, _: &mut Net, _: ConnId, data: &[u8]) -> usize {
        data.len()
    }
}

#[test]
fn without_a_handler_for_it_a_paused_listener_is_still_one_line() {
    listen_to_the_log();
    let opened = script::open(Config::default(), Dialect::Readiness);
    let (mut event_loop, world) = opened.expect("a loop");
    let listener = event_loop.net().listen("127.0.0.1:0").expect("a free port");
    let addr = event_loop.net().listener_addr(listener).expect("it is open");
    assert_eq!(lines(), [(Level::Info, format!("listening on {addr}"))]);
    world.fail_accepts(addr, &[errno::EMFILE]);
    world.connect(addr).expect("it listens");
    event_loop.turn(&mut Plain, Duration::ZERO).expect("the loop runs");
    assert_eq!(event_loop.net().stats().paused_listeners, 1);
    assert_eq!(lines().len(), 1);
}

fn rig(kind: Kind, config: Config) -> Rig {
    listen_to_the_log();
    Rig::with(kind, config)
}

fn limited(kind: Kind) -> Rig {
    let conn =
        ConnOptions::default().low_water_bytes(HARD).high_water_bytes(HARD).hard_limit_bytes(HARD);
    rig(kind, Config::default().conn(conn))
}

/// A client is written more than its queue may hold.
fn slow_consumer(rig: &mut Rig) {
    let (_, conn) = rig.client();
    assert_eq!(rig.event_loop.net().write(conn, &[1; HARD]), Sent::Refused);
    assert_eq!(rig.until_closed(conn).0, CloseReason::Limit(LimitKind::Outbound));
}

/// Another one, once the listener that has paused goes on.
fn slow_consumer_after(rig: &mut Rig, pause: Duration) {
    rig.pass(pause);
    let conn = *rig.handler.accepted.last().expect("the one that was dialled");
    assert_eq!(rig.event_loop.net().write(conn, &[1; HARD]), Sent::Refused);
    assert_eq!(rig.until_closed(conn).0, CloseReason::Limit(LimitKind::Outbound));
}

/// A client comes while there is room for one connection only, which then ends.
fn displace(rig: &mut Rig, conn: ConnId) -> ConnId {
    let _: Peer = rig.dial();
    rig.settle();
    rig.event_loop.net().abort(conn);
    rig.settle();
    let next = *rig.handler.accepted.last().expect("it has been accepted");
    assert_ne!(next, conn);
    next
}

fn connection_limits(rig: &Rig) -> usize {
    let is_one =
        |id: ListenerId, error| (id, error) == (rig.listener, ListenerError::ConnectionLimit);
    rig.handler.count(|call| matches!(call, Call::ListenerError(id, error) if is_one(*id, *error)))
}

on_every_backend!(a_closed_connection_is_one_line_at_debug, what_was_not_sent_is_said);

on_virtual_time!(
    a_storm_of_slow_consumers_is_one_warning_a_second,
    a_storm_of_refused_accepts_is_one_warning_a_second,
    a_storm_of_refused_writes_is_one_warning_a_second,
    a_storm_of_long_messages_is_one_warning_a_second,
    kinds_do_not_silence_each_other,
    a_listener_that_has_failed_is_an_error,
    what_the_log_does_not_take_is_not_counted_as_left_out,
);
