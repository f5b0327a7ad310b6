//! `Checked` finds each broken rule and names it. A correct loop breaks none: here a liar stands
//! between the loop and `Checked`, and tells it something else than what has happened.

#[path = "../support/errno.rs"]
mod errno;

mod data;
mod liar;
mod lifecycle;
mod time;

use std::time::Duration;

use hotloop::{ConnId, Handler, Missed, Net};

use liar::{Rig, tell};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn the_truth_passes() {
    let mut rig = Rig::new(tell);
    let peer = rig.hears(b"hello");
    rig.world.finish(peer);
    rig.turn();
    rig.connects();
    rig.repeats(Missed::Skip, 3 * SECOND);
    rig.net().waker().wake();
    rig.turn();
    let conns: Vec<ConnId> = rig.net().conns().collect();
    conns.iter().for_each(|conn| rig.net().abort(*conn));
    rig.turn().turn();
    assert!(!conns.is_empty());
    let Rig { event_loop, handler, .. } = &mut rig;
    handler.checked.assert_all_closed(event_loop.net());
}

#[test]
fn each_callback_is_passed_on() {
    let names = |source: &'static str| -> Vec<&str> {
        let after = source.split("\n    fn on_").skip(1);
        after.map(|rest| rest.split('(').next().expect("a split has a first part")).collect()
    };
    let mut declared = names(include_str!("../../src/handler.rs"));
    let mut passed_on = names(include_str!("../../src/checked/mod.rs"));
    declared.sort_unstable();
    passed_on.sort_unstable();
    assert!(declared.len() >= 11);
    assert_eq!(declared, passed_on);
}

#[test]
fn a_handler_that_is_wrapped_late_takes_the_connections_as_they_are() {
    struct Keeps;
    impl Handler for Keeps {
        fn on_data(&mut self, _: &mut Net, _: ConnId, _: &[u8]) -> usize {
            0
        }
    }
    let mut rig = Rig::new(tell);
    rig.event_loop.turn(&mut Keeps, Duration::ZERO).expect("the loop runs");
    let addr = rig.event_loop.net().listener_addr(rig.listener).expect("it is open");
    let peer = rig.world.connect(addr).expect("it listens");
    rig.world.send(peer, b"kept ");
    for _ in 0..3 {
        rig.event_loop.turn(&mut Keeps, Duration::ZERO).expect("the loop runs");
    }
    rig.world.send(peer, b"and new");
    rig.turn();
    rig.world.finish(peer);
    rig.turn();
    rig.client();
}
