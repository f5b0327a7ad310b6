//! `Pool`: connections are kept for the next request, looked at before they are used, bounded and
//! aged out; a request gets one connection or learns that it gets none.

mod support;

use std::cell::{RefCell, RefMut};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use hotloop::client::{Backoff, Ended, Opened, Pool, PoolOptions, Taken};
use hotloop::{CloseReason, ConnId, ConnOptions, Limit};
use support::{Call, InTime, Kind, Peer, Rig};

/// What the handler was answered.
#[derive(Debug, Default)]
struct Told {
    opened: Vec<(ConnId, Opened<u32>)>,
    ended: Vec<(ConnId, Ended<u32>)>,
}

/// Its connections linger for longer than a test takes.
fn lingering() -> PoolOptions {
    options().conn(ConnOptions::default().linger_timeout(Duration::from_secs(3600)))
}

struct Story {
    rig: Rig,
    server: SocketAddr,
    pool: Rc<RefCell<Pool<u32>>>,
    told: Rc<RefCell<Told>>,
}

fn options() -> PoolOptions {
    let backoff = Backoff::new(Duration::from_millis(2), Duration::from_millis(16));
    PoolOptions::default().conns_max(2).backoff(backoff)
}

impl Story {
    fn new(kind: Kind, options: PoolOptions) -> Story {
        let mut rig = Rig::new(kind);
        let server = rig.server();
        Story::to(rig, server, options)
    }

    /// One whose connects are refused.
    fn to_nobody(kind: Kind, options: PoolOptions) -> Story {
        let mut rig = Rig::new(kind);
        let nobody = rig.refusing();
        Story::to(rig, nobody, options)
    }

    fn to(mut rig: Rig, server: SocketAddr, options: PoolOptions) -> Story {
        let pool = Rc::new(RefCell::new(Pool::new(server, options).expect("an address")));
        let told = Rc::new(RefCell::new(Told::default()));
        let (own, tell) = (Rc::clone(&pool), Rc::clone(&told));
        rig.handler.on_connect = Some(Box::new(move |net, conn| {
            let opened = own.borrow_mut().on_connect(net, conn);
            tell.borrow_mut().opened.push((conn, opened));
        }));
        let own = Rc::clone(&pool);
        rig.handler.on_data = Some(Box::new(move |net, conn, data| {
            own.borrow_mut().on_data(net, conn, data);
            data.len()
        }));
        let (own, tell) = (Rc::clone(&pool), Rc::clone(&told));
        rig.handler.on_close = Some(Box::new(move |net, conn, _| {
            let ended = own.borrow_mut().on_close(net, conn);
            tell.borrow_mut().ended.push((conn, ended));
        }));
        let own = Rc::clone(&pool);
        rig.handler.on_timer = Some(Box::new(move |net, timer, token| {
            assert_eq!(own.borrow_mut().on_timer(net, timer), token == Pool::<u32>::TOKEN);
        }));
        Story { rig, server, pool, told }
    }

    fn pool(&self) -> RefMut<'_, Pool<u32>> {
        self.pool.borrow_mut()
    }

    fn take(&mut self, request: u32) -> Taken<u32> {
        self.pool.borrow_mut().take(self.rig.event_loop.net(), request)
    }

    fn give(&mut self, conn: ConnId) -> Option<u32> {
        self.pool.borrow_mut().give(self.rig.event_loop.net(), conn, &[])
    }

    /// Asks for a connection and waits for it; both ends.
    fn open(&mut self, request: u32) -> (ConnId, Peer) {
        let before = self.told.borrow().opened.len();
        assert_eq!(self.take(request), Taken::Waits);
        self.until(|story| story.told.borrow().opened.len() > before);
        let (conn, opened) = self.told.borrow().opened[before].clone();
        assert_eq!(opened, Opened::For(request));
        (conn, self.rig.server_peer(self.server).expect("it was connected to"))
    }

    /// What became of a connection.
    fn ended(&self, conn: ConnId) -> Option<Ended<u32>> {
        let told = self.told.borrow();
        told.ended.iter().find(|(id, _)| *id == conn).map(|(_, ended)| ended.clone())
    }

    fn counts(&self) -> (usize, usize, usize) {
        let pool = self.pool.borrow();
        (pool.conns(), pool.idle(), pool.waiters())
    }
}

impl InTime for Story {
    fn rig(&mut self) -> &mut Rig {
        &mut self.rig
    }

    fn outcome(&self) -> String {
        format!("{:?}, {:?}", self.pool.borrow(), self.told.borrow())
    }
}

fn a_connection_that_is_given_back_serves_the_next_request(kind: Kind) {
    let mut story = Story::new(kind, options());
    let (conn, peer) = story.open(1);
    assert_eq!(story.give(conn), None);
    assert_eq!(story.counts(), (1, 1, 0));
    assert_eq!(story.take(2), Taken::Conn(conn, 2));
    assert_eq!(story.counts(), (1, 0, 0));
    story.rig.event_loop.net().write(conn, b"question");
    story.until(|_| true);
    story.rig.until("the question", |rig| rig.received(peer) == b"question");
    assert_eq!(story.rig.event_loop.net().stats().connects, 1);
}

fn the_one_that_was_used_last_is_used_next(kind: Kind) {
    let mut story = Story::new(kind, options());
    let ((one, _), (other, _)) = (story.open(1), story.open(2));
    story.give(other);
    story.give(one);
    assert_eq!(story.take(3), Taken::Conn(one, 3));
    assert_eq!(story.take(4), Taken::Conn(other, 4));
}

fn over_the_bound_requests_wait_in_order_and_get_what_is_given_back(kind: Kind) {
    let mut story = Story::new(kind, options().waiters_max(2));
    let ((one, _), (other, _)) = (story.open(1), story.open(2));
    assert_eq!((story.take(3), story.take(4)), (Taken::Waits, Taken::Waits));
    assert_eq!(story.take(5), Taken::Refused(5));
    assert_eq!(story.counts(), (2, 0, 2));
    assert_eq!(story.give(other), Some(3));
    assert_eq!(story.give(one), Some(4));
    assert_eq!((story.give(other), story.give(one)), (None, None));
    assert_eq!(story.counts(), (2, 2, 0));
    assert_eq!(story.rig.event_loop.net().stats().connects, 2);
}

fn a_connection_that_ends_in_use_makes_room_for_one_that_waits(kind: Kind) {
    let mut story = Story::new(kind, options());
    let ((one, peer), _) = (story.open(1), story.open(2));
    assert_eq!(story.take(3), Taken::Waits);
    story.rig.reset(peer);
    story.until(|story| story.told.borrow().opened.len() == 3);
    assert_eq!(story.ended(one), Some(Ended::InUse));
    assert_eq!(story.told.borrow().opened[2].1, Opened::For(3));
    assert_eq!(story.counts(), (2, 0, 0));
    assert_eq!(story.give(one), None, "it is not there any more");
}

fn an_idle_connection_that_the_server_closes_is_forgotten(kind: Kind) {
    let mut story = Story::new(kind, options());
    let (conn, peer) = story.open(1);
    story.give(conn);
    story.rig.finish(peer);
    story.until(|story| story.ended(conn).is_some());
    assert_eq!(story.ended(conn), Some(Ended::Unused));
    assert_eq!(story.counts(), (0, 0, 0));
    assert_eq!(story.take(2), Taken::Waits);
}

/// The loop has not turned since: only a look at the socket can tell.
fn an_idle_connection_is_looked_at_before_it_is_used(kind: Kind) {
    let speak = |rig: &mut Rig, peer| rig.send(peer, b"?");
    for change in [Rig::finish as fn(&mut Rig, Peer), Rig::reset, speak] {
        let mut story = Story::new(kind, options());
        let ((dead, peer), (alive, _)) = (story.open(1), story.open(2));
        story.give(alive);
        story.give(dead);
        change(&mut story.rig, peer);
        story.rig.until_arrived();
        let net = story.rig.event_loop.net();
        for _ in 0..1_000_000 {
            if !net.is_quiet(dead) {
                break;
            }
        }
        assert_eq!(story.take(3), Taken::Conn(alive, 3));
        story.rig.finish(peer);
        story.until(|story| story.ended(dead).is_some());
        assert_eq!(story.ended(dead), Some(Ended::Unused));
        assert_eq!(story.counts(), (1, 0, 0));
    }
}

fn what_an_idle_connection_says_unasked_ends_it(kind: Kind) {
    let mut story = Story::new(kind, options());
    let (conn, peer) = story.open(1);
    story.give(conn);
    story.rig.send(peer, b"by the way");
    story.rig.until("the close", |rig| !rig.event_loop.net().is_open(conn));
    assert_eq!(story.counts(), (1, 0, 0), "it is closing");
    story.rig.finish(peer);
    story.until(|story| story.ended(conn).is_some());
    assert_eq!(story.counts(), (0, 0, 0));
}

fn a_connection_with_bytes_left_either_way_is_not_kept(kind: Kind) {
    let mut story = Story::new(kind, options());
    let (conn, _) = story.open(1);
    story.rig.event_loop.net().write(conn, b"half a question");
    assert_eq!(story.give(conn), None);
    assert_eq!(story.counts(), (1, 0, 0));
    assert!(!story.rig.event_loop.net().is_open(conn));
}

/// The server never closes its end.
fn a_connection_that_lingers_gives_way_to_a_request(kind: Kind) {
    let mut story = Story::new(kind, lingering().conns_max(1));
    let (unclean, _) = story.open(1);
    story.rig.event_loop.net().write(unclean, b"half a question");
    assert_eq!(story.give(unclean), None);
    story.rig.settle();
    assert_eq!(story.ended(unclean), None, "it lingers, as long as nobody needs its place");
    let (conn, _) = story.open(2);
    assert_eq!(story.ended(unclean), Some(Ended::Unused));
    assert_eq!(story.counts(), (1, 0, 0));
    // Here a request waits already.
    assert_eq!(story.take(3), Taken::Waits);
    story.rig.event_loop.net().write(conn, b"half a question");
    assert_eq!(story.give(conn), None);
    story.until(|story| story.told.borrow().opened.len() == 3);
    assert_eq!(story.told.borrow().opened[2].1, Opened::For(3));
}

/// Its user may close a connection instead of giving it back.
fn a_connection_that_its_user_closed_gives_way_to_a_request(kind: Kind) {
    let mut story = Story::new(kind, lingering().conns_max(1));
    let (closed, _) = story.open(1);
    story.rig.event_loop.net().close(closed);
    assert_eq!(story.ended(closed), None, "it lingers, as long as nobody needs its place");
    story.open(2);
    assert_eq!(story.ended(closed), Some(Ended::InUse));
    assert_eq!(story.counts(), (1, 0, 0));
}

fn a_connection_that_its_user_releases_is_not_aborted(kind: Kind) {
    let mut story = Story::new(kind, lingering().conns_max(1));
    let (conn, _) = story.open(1);
    assert!(story.rig.event_loop.net().release(conn));
    assert_eq!(story.take(2), Taken::Waits);
    story.until(|story| story.ended(conn).is_some());
    assert_eq!(story.rig.closed(conn).map(|(reason, _)| reason), Some(CloseReason::Released));
}

fn a_connection_that_takes_no_more_writes_is_not_kept(kind: Kind) {
    let mut story = Story::new(kind, lingering());
    let (conn, _) = story.open(1);
    story.rig.event_loop.net().shutdown(conn);
    assert_eq!(story.give(conn), None);
    assert_eq!(story.counts().1, 0, "none is idle");
}

fn a_connection_that_was_paused_reads_again(kind: Kind) {
    let mut story = Story::new(kind, options());
    let (conn, peer) = story.open(1);
    story.rig.event_loop.net().pause_reading(conn);
    assert_eq!(story.give(conn), None);
    assert_eq!(story.counts().1, 1, "it is idle");
    story.rig.finish(peer);
    story.until(|story| story.ended(conn) == Some(Ended::Unused));
}

/// Only as many as are needed, and never more connections than there may be.
fn connections_that_linger_are_aborted_one_for_each_request(kind: Kind) {
    let mut story = Story::new(kind, lingering().conns_max(3));
    let open: Vec<_> = (1..=3).map(|request| story.open(request)).collect();
    for (conn, _) in &open {
        story.rig.event_loop.net().write(*conn, b"half a question");
        assert_eq!(story.give(*conn), None);
    }
    assert_eq!((story.take(4), story.take(5)), (Taken::Waits, Taken::Waits));
    assert_eq!(story.counts(), (3, 0, 2));
    story.until(|story| story.told.borrow().opened.len() == 5);
    assert_eq!(story.counts(), (3, 0, 0));
    let aborts = |call: &Call| matches!(call, Call::Close(_, CloseReason::LocalAbort, _));
    assert_eq!(story.rig.handler.count(aborts), 2);
}

/// The request of each answer, and its bytes.
type Answers = Rc<RefCell<Vec<(u32, Vec<u8>)>>>;

/// What `on_data` does in a story where it gives back within itself: takes an answer of four
/// bytes, says so much of the rest as it does, and consumes so much.
fn answering(story: &mut Story, is_honest: bool) -> Answers {
    let answers = Answers::default();
    let (own, told, tell) = (Rc::clone(&story.pool), Rc::clone(&story.told), Rc::clone(&answers));
    let mut asked = None;
    story.rig.handler.on_data = Some(Box::new(move |net, conn, data| {
        let mut pool = own.borrow_mut();
        if pool.on_data(net, conn, data) {
            return data.len();
        }
        let Some((answer, rest)) = data.split_at_checked(4) else { return 0 };
        let first = || match told.borrow().opened[0].1 {
            Opened::For(request) => request,
            _ => panic!("nobody asks"),
        };
        tell.borrow_mut().push((asked.take().unwrap_or_else(first), answer.to_vec()));
        asked = pool.give(net, conn, if is_honest { rest } else { &[] });
        answer.len()
    }));
    answers
}

fn what_stands_behind_an_answer_is_nobodys(kind: Kind) {
    let mut story = Story::new(kind, lingering().conns_max(1));
    let answers = answering(&mut story, true);
    let (conn, peer) = story.open(1);
    assert_eq!(story.take(2), Taken::Waits);
    story.rig.send(peer, b"one.two.");
    story.until(|story| story.told.borrow().opened.len() == 2);
    assert_eq!(*answers.borrow(), [(1, b"one.".to_vec())]);
    assert_eq!(story.ended(conn), Some(Ended::Unused));
    assert_eq!(story.told.borrow().opened[1].1, Opened::For(2));
}

fn a_clean_answer_hands_its_connection_on_within_on_data(kind: Kind) {
    let mut story = Story::new(kind, lingering().conns_max(1));
    let answers = answering(&mut story, true);
    let (conn, peer) = story.open(1);
    assert_eq!(story.take(2), Taken::Waits);
    story.rig.send(peer, b"one.");
    story.rig.until("the first", |_| answers.borrow().len() == 1);
    story.rig.send(peer, b"two.");
    story.rig.until("the other", |_| answers.borrow().len() == 2);
    assert_eq!(*answers.borrow(), [(1, b"one.".to_vec()), (2, b"two.".to_vec())]);
    assert_eq!(story.counts(), (1, 1, 0));
    assert_eq!(story.take(3), Taken::Conn(conn, 3));
}

/// It was said that there was no rest, and some was left unconsumed.
fn what_was_left_of_an_answer_ends_the_connection_when_it_shows_again(kind: Kind) {
    let mut story = Story::new(kind, lingering().conns_max(1));
    let answers = answering(&mut story, false);
    let (conn, peer) = story.open(1);
    assert_eq!(story.take(2), Taken::Waits);
    story.rig.send(peer, b"one.two.");
    story.rig.until("the first", |_| answers.borrow().len() == 1);
    story.rig.send(peer, b"???.");
    story.until(|story| story.ended(conn).is_some());
    assert_eq!(*answers.borrow(), [(1, b"one.".to_vec())]);
    assert_eq!(story.ended(conn), Some(Ended::InUse), "the second request had it");
    assert_eq!(story.rig.closed(conn).map(|(reason, _)| reason), Some(CloseReason::LocalAbort));
}

fn no_more_are_kept_than_may_be(kind: Kind) {
    let mut story = Story::new(kind, options().idle_max(1));
    let ((one, _), (other, _)) = (story.open(1), story.open(2));
    story.give(one);
    story.give(other);
    assert_eq!(story.counts(), (2, 1, 0));
    assert!(story.rig.event_loop.net().is_open(one) && !story.rig.event_loop.net().is_open(other));
}

fn one_that_is_not_to_be_kept_serves_a_request_that_waits(kind: Kind) {
    let mut story = Story::new(kind, options().conns_max(1).idle_timeout(Duration::ZERO));
    let (conn, _) = story.open(1);
    assert_eq!(story.take(2), Taken::Waits);
    assert_eq!(story.give(conn), Some(2));
    assert_eq!(story.give(conn), None);
    assert!(!story.rig.event_loop.net().is_open(conn));
    assert_eq!(story.counts(), (1, 0, 0));
}

fn failed_connects_fail_the_requests_they_were_begun_for(kind: Kind) {
    let mut story = Story::to_nobody(kind, options().conns_max(1));
    assert_eq!((story.take(1), story.take(2)), (Taken::Waits, Taken::Waits));
    story.until(|story| story.told.borrow().ended.len() == 2);
    let ended: Vec<_> = story.told.borrow().ended.iter().map(|(_, end)| end.clone()).collect();
    assert_eq!(ended, [Ended::Failed(1), Ended::Failed(2)]);
    assert_eq!(story.counts(), (0, 0, 0));
}

/// Asks for two connections; the connects that were begun for them.
fn two_connects(story: &mut Story) -> (ConnId, ConnId) {
    assert_eq!(story.take(1), Taken::Waits);
    let first: Vec<_> = story.rig.event_loop.net().conns().collect();
    assert_eq!(story.take(2), Taken::Waits);
    let both: Vec<_> = story.rig.event_loop.net().conns().collect();
    let other = both.iter().find(|conn| !first.contains(conn)).expect("there is room");
    (first[0], *other)
}

fn a_failed_connect_leaves_a_request_alone_whose_own_one_runs(kind: Kind) {
    for fails in [1, 2] {
        let mut story = Story::new(kind, options());
        let connects = two_connects(&mut story);
        let (failing, other) = if fails == 1 { connects } else { (connects.1, connects.0) };
        story.rig.event_loop.net().abort(failing);
        story.until(|story| !story.told.borrow().opened.is_empty());
        assert_eq!(story.told.borrow().opened, [(other, Opened::For(3 - fails))]);
        assert_eq!(story.ended(failing), Some(Ended::Failed(fails)));
    }
}

fn the_connect_of_a_cancelled_request_fails_nobody(kind: Kind) {
    let mut story = Story::new(kind, options());
    let (first, other) = two_connects(&mut story);
    assert_eq!(story.pool().cancel(|request| *request == 1), Some(1));
    story.rig.event_loop.net().abort(first);
    story.until(|story| !story.told.borrow().opened.is_empty());
    assert_eq!(story.ended(first), Some(Ended::Unused));
    assert_eq!(story.told.borrow().opened, [(other, Opened::For(2))]);
}

/// Or whoever waits longest, if that one waits no more.
fn a_connect_that_is_done_serves_the_request_it_was_begun_for(kind: Kind) {
    for is_cancelled in [false, true] {
        let mut story = Story::new(kind, options());
        let (_, other) = two_connects(&mut story);
        let mut served = 2;
        if is_cancelled {
            served = 1;
            story.pool().cancel(|request| *request == 2);
        }
        // As if it were done first: the order of the system's answers is not the test's to choose.
        let opened = story.pool.borrow_mut().on_connect(story.rig.event_loop.net(), other);
        assert_eq!(opened, Opened::For(served));
    }
}

fn what_was_dialled_for_a_request_that_is_served_otherwise_fails_nobody(kind: Kind) {
    let mut story = Story::new(kind, options());
    let (conn, _) = story.open(1);
    let before: Vec<_> = story.rig.event_loop.net().conns().collect();
    assert_eq!((story.take(2), story.take(3)), (Taken::Waits, Taken::Waits));
    let conns: Vec<_> = story.rig.event_loop.net().conns().collect();
    let dialled = *conns.iter().find(|conn| !before.contains(conn)).expect("there is room");
    assert_eq!(story.give(conn), Some(2));
    story.rig.event_loop.net().abort(dialled);
    story.until(|story| !story.told.borrow().opened.is_empty() && story.counts().2 == 0);
    assert_eq!(story.ended(dialled), Some(Ended::Unused));
    assert_eq!(story.told.borrow().opened[1].1, Opened::For(3));
}

fn a_cancelled_request_leaves_its_connection_to_the_pool(kind: Kind) {
    let mut story = Story::new(kind, options());
    assert_eq!(story.take(1), Taken::Waits);
    assert_eq!(story.pool().cancel(|request| *request == 1), Some(1));
    assert_eq!(story.pool().cancel(|request| *request == 1), None);
    story.until(|story| !story.told.borrow().opened.is_empty());
    assert_eq!(story.told.borrow().opened[0].1, Opened::Unused);
    assert_eq!(story.counts(), (1, 1, 0));
}

fn a_clear_closes_all_that_is_not_in_use(kind: Kind) {
    let mut story = Story::new(kind, options().conns_max(3));
    let ((idle, _), (busy, _)) = (story.open(1), story.open(2));
    assert_eq!((story.take(3), story.take(4)), (Taken::Waits, Taken::Waits));
    story.give(idle);
    // The third is connecting, and whoever waits longest has the one that was given back.
    let waiting: Vec<u32> = story.pool.borrow_mut().clear(story.rig.event_loop.net()).collect();
    assert_eq!(waiting, [4]);
    story.until(|story| {
        story.rig.handler.count(|call| matches!(call, Call::Close(_, CloseReason::LocalAbort, _)))
            == 1
    });
    assert_eq!(story.counts(), (2, 0, 0));
    assert!(story.rig.event_loop.net().is_open(busy));
    assert_eq!(story.give(busy), None);
    assert_eq!(story.counts(), (2, 1, 0));
}

fn strangers_are_left_alone(kind: Kind) {
    let mut story = Story::new(kind, options());
    let (peer, conn) = story.rig.client();
    assert!(!story.pool.borrow_mut().on_data(story.rig.event_loop.net(), conn, b"?"));
    assert_eq!(story.give(conn), None);
    assert!(story.rig.event_loop.net().is_open(conn));
    let opened = story.pool.borrow_mut().on_connect(story.rig.event_loop.net(), conn);
    assert_eq!(opened, Opened::Foreign);
    story.rig.event_loop.net().start_timer(Duration::ZERO, 7);
    story.until(|story| story.rig.handler.count(|call| matches!(call, Call::Timer(_, 7))) == 1);
    story.rig.reset(peer);
    story.until(|story| story.ended(conn).is_some());
    assert_eq!(story.ended(conn), Some(Ended::Foreign));
    assert_eq!(story.counts(), (0, 0, 0));
}

fn a_clear_closes_the_idle_ones_and_gives_up_the_next_try(kind: Kind) {
    let mut story = Story::new(kind, options());
    let (conn, _) = story.open(1);
    story.give(conn);
    let timers = story.rig.event_loop.net().stats().timers;
    assert_eq!(story.pool.borrow_mut().clear(story.rig.event_loop.net()).count(), 0);
    assert!(!story.rig.event_loop.net().is_open(conn));
    assert!(story.rig.event_loop.net().stats().timers < timers, "its idle timeout goes, too");
    assert_eq!(story.counts().1, 0);

    let hour = Duration::from_secs(3600);
    let patient = options().conns_max(1).backoff(Backoff::new(hour, hour));
    let mut story = Story::to_nobody(kind, patient);
    assert_eq!((story.take(1), story.take(2)), (Taken::Waits, Taken::Waits));
    story.until(|story| story.told.borrow().ended.len() == 1);
    assert_eq!(story.rig.event_loop.net().stats().timers, 1, "for the next try");
    let waiting: Vec<u32> = story.pool.borrow_mut().clear(story.rig.event_loop.net()).collect();
    assert_eq!(waiting, [2]);
    assert_eq!(story.rig.event_loop.net().stats().timers, 0);
}

fn two_connects_that_fail_are_followed_by_one_delay(kind: Kind) {
    let hour = Duration::from_secs(3600);
    let mut story = Story::to_nobody(kind, options().backoff(Backoff::new(hour, hour)));
    for request in 1..=3 {
        assert_eq!(story.take(request), Taken::Waits);
    }
    story.until(|story| story.told.borrow().ended.len() == 2);
    assert_eq!(story.rig.event_loop.net().stats().timers, 1);
    assert_eq!(story.counts(), (0, 0, 1));
}

fn without_a_limit_an_idle_connection_has_no_timer(kind: Kind) {
    let mut story = Story::new(kind, options().idle_timeout(Limit::Unlimited));
    let (conn, _) = story.open(1);
    let timers = story.rig.event_loop.net().stats().timers;
    story.give(conn);
    assert_eq!(story.rig.event_loop.net().stats().timers, timers);
    assert_eq!(story.take(2), Taken::Conn(conn, 2));
}

fn one_that_has_something_to_read_is_not_kept(kind: Kind) {
    let mut story = Story::new(kind, options());
    let (conn, peer) = story.open(1);
    story.rig.event_loop.net().pause_reading(conn);
    story.rig.send(peer, b"more than the answer");
    story.rig.settle();
    assert_eq!(story.give(conn), None);
    assert!(!story.rig.event_loop.net().is_open(conn));
}

fn an_idle_connection_is_closed_exactly_when_its_time_is_over(kind: Kind) {
    let idle = Duration::from_secs(30);
    let nano = Duration::from_nanos(1);
    let mut story = Story::new(kind, options().idle_timeout(idle));
    let (conn, _) = story.open(1);
    story.give(conn);
    story.rig.advance(idle - nano);
    story.rig.look();
    assert_eq!(story.take(2), Taken::Conn(conn, 2), "its time begins anew with each use");
    story.give(conn);
    story.rig.advance(idle - nano);
    story.rig.look();
    assert!(story.rig.event_loop.net().is_open(conn));
    story.rig.advance(nano);
    story.rig.look();
    assert!(!story.rig.event_loop.net().is_open(conn));
    assert_eq!(story.counts().1, 0);
}

fn one_that_is_too_old_is_closed_when_it_is_given_back(kind: Kind) {
    let mut story = Story::new(kind, options().age_max(Duration::from_secs(5)));
    let (conn, _) = story.open(1);
    story.rig.advance(Duration::from_secs(5));
    story.rig.look();
    assert_eq!(story.give(conn), None);
    assert!(!story.rig.event_loop.net().is_open(conn));
}

#[test]
fn what_makes_no_pool_is_an_error() {
    Pool::<()>::new("localhost:80", options()).expect_err("a name");
    let error = Pool::<()>::new("127.0.0.1:80", options().conns_max(0)).expect_err("none");
    assert!(error.to_string().contains("conns_max 0"), "{error}");
    let error = Pool::<()>::new("127.0.0.1:80", options().waiters_max(0)).expect_err("none");
    assert!(error.to_string().contains("waiters_max 0"), "{error}");
}

on_every_backend!(
    a_clear_closes_the_idle_ones_and_gives_up_the_next_try,
    two_connects_that_fail_are_followed_by_one_delay,
    without_a_limit_an_idle_connection_has_no_timer,
    one_that_has_something_to_read_is_not_kept,
    a_connection_that_is_given_back_serves_the_next_request,
    the_one_that_was_used_last_is_used_next,
    over_the_bound_requests_wait_in_order_and_get_what_is_given_back,
    a_connection_that_ends_in_use_makes_room_for_one_that_waits,
    an_idle_connection_that_the_server_closes_is_forgotten,
    an_idle_connection_is_looked_at_before_it_is_used,
    what_an_idle_connection_says_unasked_ends_it,
    a_connection_with_bytes_left_either_way_is_not_kept,
    a_connection_that_lingers_gives_way_to_a_request,
    a_connection_that_its_user_closed_gives_way_to_a_request,
    a_connection_that_its_user_releases_is_not_aborted,
    a_connection_that_takes_no_more_writes_is_not_kept,
    a_connection_that_was_paused_reads_again,
    connections_that_linger_are_aborted_one_for_each_request,
    what_stands_behind_an_answer_is_nobodys,
    a_clean_answer_hands_its_connection_on_within_on_data,
    what_was_left_of_an_answer_ends_the_connection_when_it_shows_again,
    no_more_are_kept_than_may_be,
    one_that_is_not_to_be_kept_serves_a_request_that_waits,
    failed_connects_fail_the_requests_they_were_begun_for,
    a_failed_connect_leaves_a_request_alone_whose_own_one_runs,
    the_connect_of_a_cancelled_request_fails_nobody,
    a_connect_that_is_done_serves_the_request_it_was_begun_for,
    what_was_dialled_for_a_request_that_is_served_otherwise_fails_nobody,
    a_cancelled_request_leaves_its_connection_to_the_pool,
    a_clear_closes_all_that_is_not_in_use,
    strangers_are_left_alone,
);
on_virtual_time!(
    an_idle_connection_is_closed_exactly_when_its_time_is_over,
    one_that_is_too_old_is_closed_when_it_is_given_back,
);
