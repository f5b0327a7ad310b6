//! C7 to C9, C12 and C13: bytes, counts, pressure, budgets, pausing.

use hotloop::{CloseReason, Config, ConnOptions, Handler, Net, Sent};

use crate::liar::{Call, Rig, Tested, before, behind, conn, hide, message, tell};
use Call::{Close, Data, ReadClosed, TurnEnd, Writable};

// C7

#[test]
#[should_panic(expected = "C7: conn#0.1: on_data without bytes")]
fn an_empty_on_data_is_found() {
    Rig::new(before(|checked, net, call| {
        if let Data(conn, _) = call {
            checked.on_data(net, conn, b"");
        }
    }))
    .hears(b"hello");
}

#[test]
fn a_gap_and_a_repeat_are_found() {
    let wrong: [(&'static [u8], usize); 2] = [(b"ello", 4), (b"hhello", 6)];
    for (shown, len) in wrong {
        let mut rig = Rig::new(move |checked, net, call| match call {
            Data(conn, _) => tell(checked, net, Data(conn, shown)),
            _ => tell(checked, net, call),
        });
        let found = message(|| {
            rig.hears(b"hello");
        });
        assert_eq!(found, format!("C7: conn#0.1: on_data with {len} bytes, due are 5"));
    }
}

/// Tells of other bytes than those that were left, when they come again.
fn left_and_told_as(second: &'static [u8]) {
    let mut shown = 0;
    let mut rig = Rig::new(move |checked, net, call| match call {
        Data(conn, data) => {
            shown += 1;
            tell(checked, net, Data(conn, if shown == 2 { second } else { data }))
        }
        _ => tell(checked, net, call),
    });
    rig.handler.checked.leaves_all = true;
    let peer = rig.hears(b"a long word");
    rig.world.send(peer, b"!");
    rig.turn();
}

#[test]
fn bytes_that_come_again_changed_are_found() {
    left_and_told_as(b"a long word!");
    for changed in [&b"A long word!"[..], b"a long worD!"] {
        let found = message(|| left_and_told_as(changed));
        assert_eq!(found, "C7: conn#0.1: on_data does not begin with the 11 bytes left");
    }
}

#[test]
#[should_panic(expected = "C7: conn#0.1: on_read_closed with 0 bytes, due are 5")]
fn a_rest_that_is_not_told_is_found() {
    let mut rig = Rig::new(|checked, net, call| match call {
        ReadClosed(conn, _) => tell(checked, net, ReadClosed(conn, b"")),
        _ => tell(checked, net, call),
    });
    rig.handler.checked.leaves_all = true;
    let peer = rig.hears(b"hello");
    rig.world.finish(peer);
    rig.turn();
}

#[test]
#[should_panic(expected = "C7: conn#0.1: on_read_closed after on_read_closed")]
fn a_second_on_read_closed_is_found() {
    let mut rig = Rig::new(behind(|checked, net, call| {
        if let ReadClosed(..) = call {
            tell(checked, net, call);
        }
    }));
    let peer = rig.client();
    rig.world.finish(peer);
    rig.turn();
}

// C8

#[test]
#[should_panic(expected = "C8: conn#0.1: 0 bytes accepted, 0 sent, 1 dropped")]
fn dropped_bytes_that_were_never_written_are_found() {
    let mut rig = Rig::new(|checked, net, call| match call {
        Close(conn, reason, dropped) => tell(checked, net, Close(conn, reason, dropped + 1)),
        _ => tell(checked, net, call),
    });
    let peer = rig.client();
    rig.world.reset(peer);
    rig.turn();
}

#[test]
#[should_panic(expected = "C8: conn#0.1: 5 bytes queued in on_close")]
fn bytes_that_are_queued_in_on_close_are_found() {
    Rig::new(|checked, net, call| match call {
        Data(conn, _) => {
            net.write(conn, b"hello");
            net.close(conn);
            tell(checked, net, Close(conn, CloseReason::LocalAbort, 5))
        }
        _ => tell(checked, net, call),
    })
    .hears(b"hello");
}

// C9

/// A loop that has written 5,000 bytes to a peer which takes nothing, with a low-water mark of
/// 1,000 bytes and a high-water mark of 2,000; then the peer takes all.
fn pressed(lie: impl FnMut(&mut Tested, &mut Net, Call<'_>) -> usize + 'static) {
    let options = ConnOptions::default().low_water_bytes(1_000).high_water_bytes(2_000);
    let mut rig = Rig::with(Config::default().conn(options), lie);
    let peer = rig.client();
    rig.world.set_window(peer, 0);
    assert!(rig.net().write(conn(0, 1), &[7; 5_000]).is_taken());
    rig.turn();
    rig.world.set_window(peer, usize::MAX);
    rig.turn();
}

#[test]
fn on_writable_behind_pressure_passes() {
    let mut writables = 0;
    pressed(behind(move |_, net, call| {
        writables += u64::from(matches!(call, Writable(_)));
        let over = matches!(call, TurnEnd) && net.stats().turns == 3;
        assert!(!over || writables == 1, "it was told");
    }));
}

#[test]
#[should_panic(expected = "C9: conn#0.1: a second on_writable in turn 3")]
fn a_second_on_writable_in_a_turn_is_found() {
    pressed(behind(|checked, net, call| {
        if let Writable(_) = call {
            tell(checked, net, call);
        }
    }));
}

#[test]
#[should_panic(expected = "C9: conn#0.1: on_writable with 1")]
fn on_writable_above_the_low_water_mark_is_found() {
    pressed(before(|_, net, call| {
        if let Writable(conn) = call {
            assert_eq!(net.write(conn, &[7; 1_000]), Sent::Queued);
        }
    }));
}

#[test]
#[should_panic(expected = "C9: conn#0.1: on_writable without a Pressured or Refused before it")]
fn on_writable_without_a_write_is_found() {
    Rig::new(behind(|checked, net, call| {
        if let Data(conn, _) = call {
            checked.on_writable(net, conn);
        }
    }))
    .hears(b"hello");
}

// C12

/// Hides the first bytes of a connection and tells of them in the next turn, with those that
/// follow.
fn told_at_once(config: Config) {
    let mut hidden = Vec::new();
    let mut rig = Rig::with(config, move |checked, net, call| match call {
        Data(_, data) if hidden.is_empty() => {
            hidden.extend(data);
            hide(call)
        }
        Data(conn, data) => {
            hidden.extend(data);
            tell(checked, net, Data(conn, &hidden));
            data.len()
        }
        _ => tell(checked, net, call),
    });
    let peer = rig.hears(b"abcdefgh");
    rig.world.send(peer, b"ijkl");
    rig.turn();
}

#[test]
#[should_panic(expected = "C12: conn#0.1: 8 bytes in one turn, of 4")]
fn bytes_past_the_read_budget_are_found() {
    told_at_once(Config::default().read_budget_bytes(4));
}

#[test]
#[should_panic(expected = "C12: conn#0.1: 2 receives in one turn, of 1")]
fn receives_past_the_read_budget_are_found() {
    told_at_once(Config::default().read_budget_calls(1));
}

// C13

#[test]
#[should_panic(expected = "C13: conn#0.1: on_data, but reading is paused")]
fn on_data_of_a_paused_connection_is_found() {
    Rig::new(before(|_, net, call| {
        if let Data(conn, _) = call {
            net.pause_reading(conn);
        }
    }))
    .hears(b"hello");
}

#[test]
#[should_panic(expected = "C13: conn#0.1: on_read_closed, but reading is paused")]
fn on_read_closed_of_a_paused_connection_is_found() {
    let mut rig = Rig::new(before(|_, net, call| {
        if let ReadClosed(conn, _) = call {
            net.pause_reading(conn);
        }
    }));
    let peer = rig.client();
    rig.world.finish(peer);
    rig.turn();
}
