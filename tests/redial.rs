//! `Redial`: a connect that fails is tried again after a delay that grows, a connection that is
//! lost is dialled again, and it gives up when it was told to.

mod support;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use hotloop::client::{Backoff, Redial, Redialled};
use hotloop::{Config, ConnId, ConnOptions};
use support::{InTime, Kind, Rig};

const FIRST: Duration = Duration::from_millis(2);
const LONGEST: Duration = Duration::from_millis(16);

/// A redial inside a handler, and what it has answered.
struct Story {
    rig: Rig,
    redial: Rc<RefCell<Redial>>,
    ends: Rc<RefCell<Vec<Redialled>>>,
}

impl Story {
    fn new(kind: Kind, redial: impl FnOnce(&mut Rig) -> Redial) -> Story {
        let mut rig = Rig::with(kind, Config::default());
        let redial = Rc::new(RefCell::new(redial(&mut rig)));
        let ends = Rc::new(RefCell::new(Vec::new()));
        let own = Rc::clone(&redial);
        rig.handler.on_connect =
            Some(Box::new(move |_, conn| assert!(own.borrow_mut().on_connect(conn))));
        let (own, told) = (Rc::clone(&redial), Rc::clone(&ends));
        rig.handler.on_close = Some(Box::new(move |net, conn, _| {
            told.borrow_mut().push(own.borrow_mut().on_close(net, conn));
        }));
        let own = Rc::clone(&redial);
        rig.handler.on_timer = Some(Box::new(move |net, timer, token| {
            assert_eq!(own.borrow_mut().on_timer(net, timer), token == Redial::TOKEN);
        }));
        Story { rig, redial, ends }
    }

    fn start(&mut self) {
        assert!(self.redial.borrow_mut().start(self.rig.event_loop.net()));
        assert!(!self.redial.borrow_mut().start(self.rig.event_loop.net()), "it dials already");
    }

    fn conn(&self) -> Option<ConnId> {
        self.redial.borrow().conn()
    }

    /// Turns until it is open. Real time passes by itself.
    fn until_open(&mut self) -> ConnId {
        self.until(|story| story.conn().is_some());
        self.conn().expect("it is open")
    }
}

impl InTime for Story {
    fn rig(&mut self) -> &mut Rig {
        &mut self.rig
    }

    fn outcome(&self) -> String {
        format!("{:?}, ends {:?}", self.redial.borrow(), self.ends.borrow())
    }
}

fn dialling(addrs: &[SocketAddr]) -> Redial {
    Redial::new(addrs.iter().copied(), Backoff::new(FIRST, LONGEST)).expect("addresses")
}

fn a_refused_connect_is_tried_at_the_next_address(kind: Kind) {
    let mut addrs = Vec::new();
    let mut story = Story::new(kind, |rig| {
        addrs = vec![rig.refusing(), rig.refusing(), rig.server()];
        dialling(&addrs)
    });
    story.start();
    let conn = story.until_open();
    assert_eq!(story.rig.event_loop.net().peer_addr(conn), Some(addrs[2]));
    assert_eq!(*story.ends.borrow(), [Redialled::Again, Redialled::Again]);
    assert_eq!(story.redial.borrow().tries(), 0, "they count from the last open connection");
}

fn a_connection_that_is_lost_is_dialled_again(kind: Kind) {
    let mut server = None;
    let mut story = Story::new(kind, |rig| dialling(&[*server.insert(rig.server())]));
    let server = server.expect("it is set");
    story.start();
    for round in 1..=3 {
        let conn = story.until_open();
        let peer = story.rig.server_peer(server).expect("it was connected to");
        story.rig.reset(peer);
        story.until(|story| story.ends.borrow().len() == round);
        assert_ne!(story.conn(), Some(conn));
        assert!(story.rig.closed(conn).is_some());
    }
    assert!(story.ends.borrow().iter().all(|end| *end == Redialled::Again));
}

fn it_gives_up_after_its_tries_and_can_be_started_again(kind: Kind) {
    let mut story = Story::new(kind, |rig| dialling(&[rig.refusing()]).tries_max(3));
    for round in 1..=2 {
        story.start();
        story.until(|story| story.redial.borrow().is_stopped());
        let ends = story.ends.borrow();
        assert_eq!(ends.len(), 3 * round);
        assert_eq!(ends[ends.len() - 1], Redialled::GaveUp);
        drop(ends);
    }
    story.rig.settle();
    assert_eq!(story.rig.event_loop.net().stats().timers, 0);
}

fn no_tries_at_all_are_one(kind: Kind) {
    let mut server = None;
    let mut story = Story::new(kind, |rig| dialling(&[*server.insert(rig.server())]).tries_max(0));
    let server = server.expect("it is set");
    story.start();
    for round in 1..=2 {
        story.until(|story| story.conn().is_some() || story.redial.borrow().is_stopped());
        assert!(story.conn().is_some(), "it has not given up");
        let peer = story.rig.server_peer(server).expect("it was connected to");
        story.rig.reset(peer);
        story.until(|story| story.ends.borrow().len() == round);
    }
    assert_eq!(*story.ends.borrow(), [Redialled::Again, Redialled::Again]);
}

fn a_stop_ends_whatever_it_was_doing(kind: Kind) {
    let hour = Duration::from_secs(3600);
    let mut story = Story::new(kind, |rig| {
        Redial::new([rig.server()], Backoff::new(hour, hour)).expect("an address")
    });
    // While it connects.
    story.start();
    story.redial.borrow_mut().stop(story.rig.event_loop.net());
    story.rig.settle();
    assert_eq!(*story.ends.borrow(), [Redialled::Foreign]);
    // While it waits.
    story.start();
    let conn = story.until_open();
    story.rig.event_loop.net().abort(conn);
    story.until(|story| story.ends.borrow().len() == 2);
    story.redial.borrow_mut().stop(story.rig.event_loop.net());
    assert_eq!(story.rig.event_loop.net().stats().timers, 0);
    // While it is open: the connection stays, and its end is nobody's.
    story.start();
    let conn = story.until_open();
    story.redial.borrow_mut().stop(story.rig.event_loop.net());
    assert!(story.rig.event_loop.net().is_open(conn));
    story.rig.event_loop.net().abort(conn);
    story.rig.settle();
    assert_eq!(story.ends.borrow()[2], Redialled::Foreign);
    assert!(story.redial.borrow().is_stopped());
}

fn a_connect_that_cannot_be_begun_counts_as_a_try(kind: Kind) {
    let mut rig = Rig::with(kind, Config::default().max_connections(1));
    let (_, conn) = rig.client();
    let server = rig.server();
    let redial = Rc::new(RefCell::new(dialling(&[server])));
    let own = Rc::clone(&redial);
    rig.handler.on_timer =
        Some(Box::new(move |net, timer, _| assert!(own.borrow_mut().on_timer(net, timer))));
    let own = Rc::clone(&redial);
    rig.handler.on_connect =
        Some(Box::new(move |_, conn| assert!(own.borrow_mut().on_connect(conn))));
    redial.borrow_mut().start(rig.event_loop.net());
    assert_eq!((redial.borrow().tries(), redial.borrow().conn()), (1, None));
    rig.event_loop.net().abort(conn);
    for _ in 0..20_000 {
        if redial.borrow().conn().is_some() {
            break;
        }
        rig.turn();
        rig.pass(Duration::from_millis(1));
    }
    assert!(redial.borrow().conn().is_some());
}

fn the_delays_grow_as_the_backoff_says_and_start_over(kind: Kind) {
    let mut server = None;
    let mut refusing = None;
    let mut story = Story::new(kind, |rig| {
        refusing = Some(rig.refusing());
        dialling(&[refusing.expect("set"), refusing.expect("set"), *server.insert(rig.server())])
    });
    let mut expected = Backoff::new(FIRST, LONGEST);
    story.start();
    for round in 0..2 {
        for _ in 0..2 {
            let count = story.ends.borrow().len();
            story.rig.until("the refusal", |_| story.ends.borrow().len() > count);
            let delay = expected.next_delay();
            assert_eq!(story.rig.event_loop.next_wait(), Some(delay), "round {round}");
            story.rig.advance(delay);
        }
        story.rig.until("it is open", |_| story.redial.borrow().conn().is_some());
        expected.reset();
        let peer = story.rig.server_peer(server.expect("set")).expect("it was connected to");
        let count = story.ends.borrow().len();
        story.rig.reset(peer);
        story.rig.until("the loss", |_| story.ends.borrow().len() > count);
        let delay = expected.next_delay();
        assert_eq!(story.rig.event_loop.next_wait(), Some(delay));
        story.rig.advance(delay);
    }
}

#[test]
fn what_cannot_be_dialled_is_an_error() {
    let error = Redial::new(["localhost:80"], Backoff::default()).expect_err("a name");
    assert!(error.to_string().contains("localhost"), "{error}");
    Redial::new(Vec::<SocketAddr>::new(), Backoff::default()).expect_err("no address");
}

#[test]
fn the_options_are_those_of_its_connections() {
    let mut rig = Rig::new(Kind::ScriptReadiness);
    let hole = rig.black_hole();
    let options = ConnOptions::default().connect_timeout(Duration::from_millis(7));
    let mut redial = dialling(&[hole]).options(options);
    redial.start(rig.event_loop.net());
    assert_eq!(rig.event_loop.next_wait(), Some(Duration::from_millis(7)));
}

on_every_backend!(
    a_refused_connect_is_tried_at_the_next_address,
    a_connection_that_is_lost_is_dialled_again,
    it_gives_up_after_its_tries_and_can_be_started_again,
    no_tries_at_all_are_one,
    a_stop_ends_whatever_it_was_doing,
    a_connect_that_cannot_be_begun_counts_as_a_try,
);
on_virtual_time!(the_delays_grow_as_the_backoff_says_and_start_over);
