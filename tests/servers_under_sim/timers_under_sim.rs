//! `examples/timers.rs` in virtual time: what it says when, to the millisecond.

use std::time::Duration;

use hotloop::sim::{Link, NodeOptions, Peer, Script, World};

use crate::timers::Clock;

const LIMIT: Duration = Duration::from_secs(60);

fn play(script: Script) -> (World, Peer) {
    let mut world = World::new(7);
    world.default_link(Link::instant());
    let server = world.node("server", NodeOptions::default(), Clock::default());
    let addr = world.addr(server, 9000);
    world.net(server).listen(addr).expect("the port is free");
    let host = world.host("client");
    let peer = world.play(host, addr, script);
    world.run_until("the script", LIMIT, |world| world.state(peer).is_done);
    world.run_until_idle(LIMIT);
    assert_eq!(world.net(server).stats().timers, 0, "no timer outlives its connection");
    (world, peer)
}

#[test]
fn alarms_go_off_in_the_order_of_their_times_and_cancelled_ones_do_not() {
    play(
        Script::new()
            .send("in 300 c\nin 100 a\nin 200 b\n")
            .expect("a 1\nb 1\nc 1\n")
            .send("in 100 lost\nevery 50 lost\ncancel\nin 200 kept\n")
            .expect("kept 1\n")
            .finish()
            .expect_end(),
    );
}

#[test]
fn a_repeating_alarm_ends_with_its_connection() {
    play(
        Script::new()
            .send("every 100 tick\nin 5000 never\n")
            .expect("tick 1\ntick 2\ntick 3\n")
            .finish()
            .expect_end(),
    );
}

#[test]
fn what_is_too_much_or_unknown_is_refused_and_what_is_silent_is_closed() {
    let refused = "in, every, count MS TEXT; cancel; idle, stall MS\n";
    play(
        Script::new()
            .send("in 9000\n".repeat(17))
            .expect(refused)
            .send("cancel\nfrobnicate\nin soon\n")
            .expect(refused.repeat(2))
            .send("idle 1000\n")
            .expect_end(),
    );
}
