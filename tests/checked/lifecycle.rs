//! C1 to C6: order, ids, turns, reasons, closing, panics.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use hotloop::{
    CloseReason, Config, ConnOptions, Errno, Handler, LimitKind, ListenerError, Net, SlowConsumer,
    TimeoutKind,
};

use crate::errno::{EBADF, ECONNREFUSED};
use crate::liar::{Call, Rig, Tested, before, behind, conn, hide, message, tell};
use Call::{Accept, Close, Connect, Data, Timer, TurnEnd, TurnStart, Wake, Writable};

// C1

#[test]
#[should_panic(expected = "C1: conn#0.1: on_accept, but it was there before")]
fn a_second_on_accept_is_found() {
    Rig::new(before(|checked, net, call| {
        if let Accept(conn, listener) = call {
            checked.on_accept(net, conn, listener);
        }
    }))
    .client();
}

#[test]
#[should_panic(expected = "C1: conn#0.1: on_data before on_accept or on_connect")]
fn on_data_before_on_accept_is_found() {
    Rig::new(before(|checked, net, call| {
        if let Accept(conn, _) = call {
            checked.on_data(net, conn, b"early");
        }
    }))
    .client();
}

#[test]
#[should_panic(expected = "C1: conn#0.1: 7 bytes received before on_connect")]
fn on_connect_behind_data_is_found() {
    Rig::new(|checked, net, call| match call {
        Connect(_) => hide(call),
        Data(conn, _) => tell(checked, net, Connect(conn)),
        _ => tell(checked, net, call),
    })
    .connects();
}

/// Tells something more about a connection at the end of the turn that closed it.
fn late(told: Call<'static>) {
    let mut rig = Rig::new(before(move |checked, net, call| {
        if matches!(call, TurnEnd) && net.stats().closed == 1 {
            tell(checked, net, told);
        }
    }));
    let peer = rig.client();
    rig.world.reset(peer);
    rig.turn();
}

#[test]
#[should_panic(expected = "C1: conn#0.1: on_data after on_close")]
fn on_data_after_on_close_is_found() {
    late(Data(conn(0, 1), b"late"));
}

#[test]
#[should_panic(expected = "C1: conn#0.1: on_close after on_close")]
fn a_second_on_close_is_found() {
    late(Close(conn(0, 1), CloseReason::Reset, 0));
}

#[test]
#[should_panic(expected = "C1: conn#0.1: still there after its on_close, in on_wake of the loop")]
fn a_connection_that_outlives_its_on_close_is_found() {
    Rig::new(before(|checked, net, call| {
        if let Data(conn, _) = call {
            net.abort(conn);
            checked.on_close(net, conn, CloseReason::LocalAbort, 0);
            checked.on_wake(net);
        }
    }))
    .hears(b"hello");
}

#[test]
fn a_callback_that_never_comes_is_found_at_the_end_of_the_turn() {
    let hides = |hidden: fn(Call<'_>) -> bool| {
        let mut rig = Rig::new(move |checked, net, call| match call {
            call if hidden(call) => hide(call),
            _ => tell(checked, net, call),
        });
        let peer = rig.client();
        rig.world.reset(peer);
        rig.net().waker().wake();
        rig.net().start_timer(Duration::ZERO, 0);
        rig.turn();
    };
    hides(|_| false);
    let kinds: [fn(Call<'_>) -> bool; 4] = [
        |call| matches!(call, Accept(..)),
        |call| matches!(call, Close(..)),
        |call| matches!(call, Timer(_)),
        |call| matches!(call, Wake),
    ];
    for hidden in kinds {
        let found = message(|| hides(hidden));
        assert!(found.starts_with("C1: the loop: it counts "), "{found}");
    }
}

#[test]
fn a_connection_without_on_close_is_named() {
    let mut rig = Rig::new(tell);
    rig.client();
    let Rig { event_loop, handler, .. } = &mut rig;
    let found = message(|| handler.checked.assert_all_closed(event_loop.net()));
    assert_eq!(found, "C1: conn#0.1: it has had no on_close");
}

// C2

#[test]
#[should_panic(expected = "C2: conn#0.1: on_accept behind conn#0.2")]
fn an_id_from_before_is_found() {
    let mut first = None;
    let mut rig = Rig::new(behind(move |checked, net, call| match (call, first) {
        (Accept(conn, _), None) => first = Some(conn),
        (Accept(_, listener), Some(first)) => checked.on_accept(net, first, listener),
        _ => {}
    }));
    let peer = rig.client();
    rig.world.reset(peer);
    rig.turn();
    rig.client();
}

#[test]
#[should_panic(expected = "C2: conn#0.1: on_writable, it is stale")]
fn a_callback_for_a_stale_connection_is_found() {
    let mut rig = Rig::new(|checked, net, call| match call {
        Close(..) => hide(call),
        TurnEnd if net.stats().closed == 1 => tell(checked, net, Writable(conn(0, 1))),
        _ => tell(checked, net, call),
    });
    let peer = rig.client();
    rig.world.reset(peer);
    rig.turn();
}

#[test]
#[should_panic(expected = "C2: conn#0.1: on_accept by listener#0.1, which is stale")]
fn an_accept_by_a_closed_listener_is_found() {
    Rig::new(before(|_, net, call| {
        if let Accept(_, listener) = call {
            net.close_listener(listener);
        }
    }))
    .client();
}

#[test]
#[should_panic(expected = "C2: listener#0.1: on_listener_error")]
fn a_listener_that_failed_and_is_open_is_found() {
    Rig::new(|checked, net, call| match call {
        Call::ListenerError(listener, _) => {
            let failed = ListenerError::Failed(Errno(EBADF));
            tell(checked, net, Call::ListenerError(listener, failed))
        }
        _ => tell(checked, net, call),
    })
    .fails_to_accept();
}

#[test]
#[should_panic(expected = "C2: listener#0.1: called behind listener#0.2")]
fn a_listener_from_before_is_found() {
    Rig::new(before(|checked, net, call| {
        if let Call::ListenerError(first, error) = call {
            net.close_listener(first);
            let second = net.listen("10.0.0.1:81").expect("it is free");
            checked.on_listener_error(net, second, error);
            checked.on_listener_error(net, first, ListenerError::Failed(Errno(EBADF)));
        }
    }))
    .fails_to_accept();
}

// C3

#[test]
#[should_panic(expected = "C3: the loop: on_turn_start in turn 2 before on_turn_end of 1")]
fn a_turn_without_an_end_is_found() {
    Rig::new(|checked, net, call| match call {
        TurnEnd => hide(call),
        _ => tell(checked, net, call),
    })
    .turn()
    .turn();
}

#[test]
#[should_panic(expected = "C3: the loop: turn 3 follows turn 1")]
fn a_turn_that_is_not_told_is_found() {
    Rig::new(|checked, net, call| match net.stats().turns {
        2 => hide(call),
        _ => tell(checked, net, call),
    })
    .turn()
    .turn()
    .turn();
}

#[test]
#[should_panic(expected = "C3: conn#0.1: on_accept outside a turn")]
fn a_callback_outside_a_turn_is_found() {
    Rig::new(|checked, net, call| match call {
        TurnStart => hide(call),
        _ => tell(checked, net, call),
    })
    .client();
}

// C4

/// Tells another reason than the one there was.
fn told_as(reason: CloseReason) -> impl FnMut(&mut Tested, &mut Net, Call<'_>) -> usize {
    move |checked, net, call| match call {
        Close(conn, _, dropped) => tell(checked, net, Close(conn, reason, dropped)),
        _ => tell(checked, net, call),
    }
}

/// A peer resets an open connection.
fn reset_told_as(reason: CloseReason) {
    let options = ConnOptions::default().slow_consumer(SlowConsumer::Refuse);
    let mut rig = Rig::with(Config::default().conn(options), told_as(reason));
    let peer = rig.client();
    rig.world.reset(peer);
    rig.turn();
}

#[test]
fn a_reason_without_a_cause_is_found() {
    reset_told_as(CloseReason::Reset);
    let without_a_cause = [
        CloseReason::PeerClosed,
        CloseReason::ConnectFailed(Errno(ECONNREFUSED)),
        CloseReason::Timeout(TimeoutKind::Connect),
        CloseReason::Timeout(TimeoutKind::Idle),
        CloseReason::Limit(LimitKind::Inbound),
        CloseReason::Limit(LimitKind::Buffers),
        CloseReason::Limit(LimitKind::Outbound),
        CloseReason::HandlerPanicked,
    ];
    for reason in without_a_cause {
        let found = message(|| reset_told_as(reason));
        assert!(found.starts_with("C4: conn#0.1: on_close with"), "{found}");
    }
}

#[test]
fn that_the_peer_closed_first_is_no_reason_for_lost_bytes() {
    let found = message(|| {
        let mut rig = Rig::new(told_as(CloseReason::PeerClosed));
        let peer = rig.client();
        rig.world.set_window(peer, 0);
        assert!(rig.net().write(conn(0, 1), b"never sent").is_taken());
        rig.world.finish(peer);
        rig.turn();
        rig.world.reset(peer);
        rig.turn();
    });
    assert!(found.starts_with("C4: conn#0.1: on_close with PeerClosed"), "{found}");
}

#[test]
fn a_reason_that_cannot_drop_bytes_and_did_is_found() {
    let reasons = [
        CloseReason::LocalClose,
        CloseReason::Timeout(TimeoutKind::Linger),
        CloseReason::Limit(LimitKind::Linger),
    ];
    for reason in reasons {
        let found = message(|| {
            let mut rig = Rig::new(told_as(reason));
            let peer = rig.client();
            rig.world.set_window(peer, 0);
            assert!(rig.net().write(conn(0, 1), b"never sent").is_taken());
            rig.turn();
            rig.net().abort(conn(0, 1));
            rig.turn();
        });
        assert!(found.starts_with("C4: conn#0.1: on_close with"), "{found}");
        assert!(found.contains("and 10 dropped"), "{found}");
    }
}

/// A connect fails.
fn failed_connect_told_as(reason: CloseReason) {
    let mut rig = Rig::new(told_as(reason));
    rig.net().connect("10.0.0.9:81").expect("there are slots");
    rig.turn().turn();
}

#[test]
fn a_reason_that_is_none_for_a_connect_is_found() {
    failed_connect_told_as(CloseReason::ConnectFailed(Errno(ECONNREFUSED)));
    let none = [
        CloseReason::Reset,
        CloseReason::Io(Errno(ECONNREFUSED)),
        // Not so soon.
        CloseReason::Timeout(TimeoutKind::Connect),
        CloseReason::Timeout(TimeoutKind::WriteStall),
    ];
    for reason in none {
        let found = message(|| failed_connect_told_as(reason));
        assert!(found.starts_with("C4: conn#0.1: on_close with"), "{found}");
    }
}

#[test]
#[should_panic(expected = "C4: conn#0.1: on_close with LocalClose")]
fn a_local_close_behind_the_peers_fin_is_found() {
    let mut rig = Rig::new(told_as(CloseReason::LocalClose));
    let peer = rig.client();
    rig.world.finish(peer);
    rig.turn();
    rig.world.reset(peer);
    rig.turn();
}

// C5

#[test]
#[should_panic(expected = "C5: conn#0.1: on_data, but it is closing")]
fn on_data_after_a_close_is_found() {
    Rig::new(before(|_, net, call| {
        if let Data(conn, _) = call {
            net.close(conn);
        }
    }))
    .hears(b"hello");
}

#[test]
#[should_panic(expected = "C5: conn#0.1: on_close, but it is open")]
fn on_close_of_an_open_connection_is_found() {
    Rig::new(|checked, net, call| match call {
        Data(conn, _) => tell(checked, net, Close(conn, CloseReason::Reset, 0)),
        _ => tell(checked, net, call),
    })
    .hears(b"hello");
}

#[test]
#[should_panic(expected = "C5: conn#0.1: on_close, and no getter works")]
fn on_close_of_a_connection_that_is_gone_is_found() {
    let mut late = None;
    let mut rig = Rig::new(move |checked, net, call| match (call, late) {
        (Close(conn, ..), _) => {
            late = Some(conn);
            hide(call)
        }
        (TurnEnd, Some(conn)) => tell(checked, net, Close(conn, CloseReason::Reset, 0)),
        _ => tell(checked, net, call),
    });
    let peer = rig.client();
    rig.world.reset(peer);
    rig.turn();
}

// C6

/// A loop whose handler has panicked in `on_data`.
fn panicked(lie: impl FnMut(&mut Tested, &mut Net, Call<'_>) -> usize + 'static) -> Rig {
    let mut rig = Rig::new(lie);
    rig.handler.checked.panics = true;
    let unwound = catch_unwind(AssertUnwindSafe(|| rig.hears(b"hello")));
    assert!(unwound.is_err());
    rig
}

#[test]
fn a_panic_of_the_handler_breaks_no_rule() {
    let mut rig = panicked(tell);
    rig.turn().turn();
    let Rig { event_loop, handler, .. } = &mut rig;
    handler.checked.assert_all_closed(event_loop.net());
}

#[test]
#[should_panic(expected = "C6: conn#0.1: on_writable after a panic in its last callback")]
fn another_callback_after_a_panic_is_found() {
    let mut turns = 0;
    panicked(behind(move |checked, net, call| {
        turns += u64::from(matches!(call, TurnStart));
        if let (TurnStart, 3) = (call, turns) {
            checked.on_writable(net, conn(0, 1));
        }
    }))
    .turn();
}

#[test]
#[should_panic(expected = "C6: conn#0.1: on_close with LocalClose")]
fn a_reason_that_hides_a_panic_is_found() {
    panicked(told_as(CloseReason::LocalClose)).turn();
}

#[test]
#[should_panic(expected = "C6: the loop: on_turn_end in a turn that a panic has ended")]
fn a_turn_that_goes_on_after_a_panic_is_found() {
    let mut rig = Rig::new(|checked, net, call| {
        catch_unwind(AssertUnwindSafe(|| tell(checked, net, call))).unwrap_or_else(|panic| {
            if let Data(..) = call { hide(call) } else { resume_unwind(panic) }
        })
    });
    rig.handler.checked.panics = true;
    rig.hears(b"hello");
}
