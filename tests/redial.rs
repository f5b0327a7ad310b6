//! `Redial`: a connect that fails is tried again after a delay that grows, a connection that is
//! lost is dialled again, at the next address, and it gives up when it was told to.

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
    /// What was said of connections that ended.
    ends: Rc<RefCell<Vec<Redialled>>>,
    /// What was said of delays that were over.
    delays: Rc<RefCell<Vec<Redialled>>>,
}

impl Story {
    fn new(kind: Kind, redial: impl FnOnce(&mut Rig) -> Redial) -> Story {
        let mut rig = Rig::new(kind);
        let redial = redial(&mut rig);
        Story::of(rig, redial)
    }

    fn of(mut rig: Rig, redial: Redial) -> Story {
        let redial = Rc::new(RefCell::new(redial));
        let (ends, delays) = (Rc::default(), Rc::default());
        let own = Rc::clone(&redial);
        rig.handler.on_connect =
            Some(Box::new(move |net, conn| assert!(own.borrow_mut().on_connect(net, conn))));
        let (own, told): (_, Rc<RefCell<Vec<_>>>) = (Rc::clone(&redial), Rc::clone(&ends));
        rig.handler.on_close = Some(Box::new(move |net, conn, _| {
            told.borrow_mut().push(own.borrow_mut().on_close(net, conn));
        }));
        let (own, told): (_, Rc<RefCell<Vec<_>>>) = (Rc::clone(&redial), Rc::clone(&delays));
        rig.handler.on_timer = Some(Box::new(move |net, timer, token| {
            let said = own.borrow_mut().on_timer(net, timer);
            assert_eq!(said != Redialled::Foreign, token == Redial::TOKEN);
            told.borrow_mut().push(said);
        }));
        Story { rig, redial, ends, delays }
    }

    fn start(&mut self) {
        assert!(self.redial.borrow_mut().start(self.rig.event_loop.net()));
        assert!(!self.redial.borrow_mut().start(self.rig.event_loop.net()), "it dials already");
    }

    fn conn(&self) -> Option<ConnId> {
        self.redial.borrow().conn()
    }

    /// The server loses the connection; waits until this is known.
    fn lose(&mut self, server: SocketAddr) -> Redialled {
        let count = self.ends.borrow().len();
        let peer = self.rig.server_peer(server).expect("it was connected to");
        self.rig.reset(peer);
        let ends = Rc::clone(&self.ends);
        self.rig.until("the loss", |_| ends.borrow().len() > count);
        self.ends.borrow()[count]
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
        let (ends, delays) = (self.ends.borrow(), self.delays.borrow());
        format!("{:?}, ends {ends:?}, delays {delays:?}", self.redial.borrow())
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
    assert_eq!(story.redial.borrow().tries(), 3, "that it is open proves nothing");
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
    let mut story = Story::new(kind, |rig| {
        dialling(&[*server.insert(rig.server())]).tries_max(0).proven_after(Duration::ZERO)
    });
    let server = server.expect("it is set");
    story.start();
    for _ in 1..=2 {
        story.until(|story| story.conn().is_some() || story.redial.borrow().is_stopped());
        assert!(story.conn().is_some(), "it has not given up");
        assert_eq!(story.lose(server), Redialled::Again);
        assert_eq!(story.redial.borrow().tries(), 0);
    }
}

fn each_try_takes_the_next_address_behind_a_loss_too(kind: Kind) {
    let mut servers = Vec::new();
    let mut story = Story::new(kind, |rig| {
        servers = vec![rig.server(), rig.server(), rig.server()];
        dialling(&servers).proven_after(Duration::ZERO)
    });
    story.start();
    for server in [0, 1, 2, 0, 1] {
        let conn = story.until_open();
        assert_eq!(story.rig.event_loop.net().peer_addr(conn), Some(servers[server]));
        story.lose(servers[server]);
    }
    story.redial.borrow_mut().stop(story.rig.event_loop.net());
    story.start();
    let conn = story.until_open();
    assert_eq!(story.rig.event_loop.net().peer_addr(conn), Some(servers[2]), "across a stop");
}

/// What it says while it drops is no proof either.
fn a_server_that_accepts_and_drops_uses_up_the_tries(kind: Kind) {
    let mut server = None;
    let mut story = Story::new(kind, |rig| dialling(&[*server.insert(rig.server())]).tries_max(3));
    let server = server.expect("it is set");
    story.start();
    for said in [Redialled::Again, Redialled::Again, Redialled::GaveUp] {
        let conn = story.until_open();
        let peer = story.rig.server_peer(server).expect("it was connected to");
        story.rig.send(peer, b"too many clients");
        story.rig.finish(peer);
        story.until(|story| story.rig.closed(conn).is_some());
        assert_eq!(story.ends.borrow().last(), Some(&said));
    }
    assert!(story.redial.borrow().is_stopped());
    story.start();
    story.until_open();
    assert_eq!(story.redial.borrow().tries(), 1, "with as many tries as ever");
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

fn strangers_are_left_alone(kind: Kind) {
    let mut server = None;
    let mut story = Story::new(kind, |rig| dialling(&[*server.insert(rig.server())]));
    let (_, stranger) = story.rig.client();
    let net = story.rig.event_loop.net();
    let timer = net.start_timer(Duration::from_secs(3600), 7);
    let tell_all = |story: &mut Story| {
        let (redial, net) = (Rc::clone(&story.redial), story.rig.event_loop.net());
        let mut redial = redial.borrow_mut();
        assert!(!redial.on_connect(net, stranger));
        assert_eq!(redial.on_close(net, stranger), Redialled::Foreign);
        assert_eq!(redial.on_timer(net, timer), Redialled::Foreign);
    };
    tell_all(&mut story);
    story.start();
    tell_all(&mut story);
    let conn = story.until_open();
    tell_all(&mut story);
    assert_eq!(story.conn(), Some(conn), "it is as it was");
    assert_eq!(story.lose(server.expect("it is set")), Redialled::Again);
    tell_all(&mut story);
    assert_ne!(story.until_open(), conn);
}

fn a_connect_that_cannot_be_begun_counts_as_a_try(kind: Kind) {
    let (mut story, conn) = full(kind, |redial| redial);
    story.start();
    assert_eq!((story.redial.borrow().tries(), story.conn()), (1, None));
    story.rig.event_loop.net().abort(conn);
    story.until_open();
}

/// Once, whether it is the first that cannot be begun or a later one, and not from within `start`.
fn the_last_try_that_cannot_be_begun_is_told_by_on_timer(kind: Kind) {
    for tries in 1..=3 {
        let (mut story, _) = full(kind, |redial| redial.tries_max(tries));
        story.start();
        assert!(!story.redial.borrow().is_stopped(), "it is yet to be told");
        story.until(|story| story.redial.borrow().is_stopped());
        story.rig.settle();
        let again = vec![Redialled::Again; tries as usize - 1];
        // What follows the first failure is a delay, and without one the news.
        let told = [&again[again.len().min(1)..], &[Redialled::GaveUp]].concat();
        assert_eq!(*story.delays.borrow(), told, "{tries} tries");
        assert_eq!(story.redial.borrow().tries(), tries);
        assert_eq!(story.rig.event_loop.net().stats().timers, 0);
    }
}

fn a_stop_keeps_the_news_of_the_last_try(kind: Kind) {
    let (mut story, _) = full(kind, |redial| redial.tries_max(1));
    story.start();
    story.redial.borrow_mut().stop(story.rig.event_loop.net());
    story.rig.settle();
    assert_eq!(*story.delays.borrow(), []);
    assert_eq!(story.rig.event_loop.net().stats().timers, 0);
}

/// A loop with no room for one more connection than the one that is returned.
fn full(kind: Kind, set: impl FnOnce(Redial) -> Redial) -> (Story, ConnId) {
    let mut rig = Rig::with(kind, Config::default().max_connections(1));
    let (_, conn) = rig.client();
    let redial = set(dialling(&[rig.server()]));
    (Story::of(rig, redial), conn)
}

fn the_delays_grow_as_the_backoff_says_and_start_over(kind: Kind) {
    let mut server = None;
    let mut story = Story::new(kind, |rig| {
        let (refusing, server) = (rig.refusing(), *server.insert(rig.server()));
        dialling(&[refusing, refusing, server]).proven_after(Duration::ZERO)
    });
    let server = server.expect("it is set");
    let mut expected = Backoff::new(FIRST, LONGEST);
    story.start();
    for round in 0..2 {
        for _ in 0..2 {
            let count = story.ends.borrow().len();
            story.rig.until("the refusal", |_| story.ends.borrow().len() > count);
            pass_delay(&mut story, &mut expected, round);
        }
        until_open_now(&mut story);
        expected.reset();
        story.lose(server);
        pass_delay(&mut story, &mut expected, round);
    }
}

fn the_delays_grow_where_a_server_accepts_and_drops(kind: Kind) {
    let mut server = None;
    let mut story = Story::new(kind, |rig| dialling(&[*server.insert(rig.server())]));
    let server = server.expect("it is set");
    let mut expected = Backoff::new(FIRST, LONGEST);
    story.start();
    for round in 1..=6 {
        until_open_now(&mut story);
        story.lose(server);
        assert_eq!(story.redial.borrow().tries(), round);
        pass_delay(&mut story, &mut expected, round);
    }
}

fn a_connection_has_proven_itself_exactly_after_its_time(kind: Kind) {
    let (time, nano) = (Duration::from_secs(10), Duration::from_nanos(1));
    let mut story = Story::new(kind, |rig| dialling(&[rig.server()]));
    let mut expected = Backoff::new(FIRST, LONGEST);
    story.start();
    for (lived, tries) in [(time - nano, 1), (time - nano, 2), (time, 0), (time - nano, 1)] {
        until_open_now(&mut story);
        story.rig.advance(lived);
        story.rig.look();
        let conn = story.conn().expect("it is open");
        story.rig.event_loop.net().abort(conn);
        story.rig.look();
        assert_eq!(story.redial.borrow().tries(), tries, "open for {lived:?}");
        if tries == 0 {
            expected.reset();
        }
        pass_delay(&mut story, &mut expected, tries);
    }
}

/// Checks the delay and lets it pass.
fn pass_delay(story: &mut Story, expected: &mut Backoff, round: u32) {
    let delay = expected.next_delay();
    assert_eq!(story.rig.event_loop.next_wait(), Some(delay), "round {round}");
    story.rig.advance(delay);
}

/// Waits for no more than the network.
fn until_open_now(story: &mut Story) {
    let redial = Rc::clone(&story.redial);
    story.rig.until("it is open", |_| redial.borrow().conn().is_some());
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
    strangers_are_left_alone,
    a_refused_connect_is_tried_at_the_next_address,
    a_connection_that_is_lost_is_dialled_again,
    it_gives_up_after_its_tries_and_can_be_started_again,
    no_tries_at_all_are_one,
    each_try_takes_the_next_address_behind_a_loss_too,
    a_server_that_accepts_and_drops_uses_up_the_tries,
    a_stop_ends_whatever_it_was_doing,
    a_connect_that_cannot_be_begun_counts_as_a_try,
    the_last_try_that_cannot_be_begun_is_told_by_on_timer,
    a_stop_keeps_the_news_of_the_last_try,
);
on_virtual_time!(
    the_delays_grow_as_the_backoff_says_and_start_over,
    the_delays_grow_where_a_server_accepts_and_drops,
    a_connection_has_proven_itself_exactly_after_its_time,
);
