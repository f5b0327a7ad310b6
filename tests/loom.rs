//! Mailboxes and wakers in every order that their steps can have, by the crate `loom` (contract
//! C16). The loop is the real one, on the scripted backend; what wakes it is a stand-in for the
//! eventfd that is no better than the kernel has to be (`src/backend/script/flag_loom.rs`): a loop
//! that would sleep for ever fails there.
//!
//! The loop's thread and two producers, exhaustive for as many preemptions as `PREEMPTIONS` says;
//! switches where a thread waits or ends come on top. Built by `.ci/loom` with `--cfg loom` alone.
#![cfg(loom)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use hotloop::script::{Dialect, open};
use hotloop::{Config, ConnId, Handler, Inbox, Loop, Mailbox, Net, PostError, Waker};
use loom::model::Builder;
use loom::sync::atomic::AtomicUsize;
use loom::thread::{self, JoinHandle};

const PREEMPTIONS: usize = 3;
const PRODUCERS: usize = 2;

/// A message says who posted it, and which of theirs it is, from 1.
type Post = (usize, usize);

/// Runs a story in every order, and prints how many those were.
fn in_every_order(name: &str, story: impl Fn() + Send + Sync + 'static) {
    let orders = Arc::new(AtomicU64::new(0));
    let (began, counted) = (Instant::now(), Arc::clone(&orders));
    let mut builder = Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    // No limit that would end the search before its end.
    (builder.max_permutations, builder.max_duration) = (None, None);
    builder.check(move || {
        counted.fetch_add(1, Relaxed);
        story();
    });
    let (orders, took) = (orders.load(Relaxed), began.elapsed().as_secs_f32());
    println!("{name}: {orders} orders, {took:.1} s");
    assert!(orders > 100, "there is nothing to explore");
}

fn bare_loop() -> Loop {
    // Small, for it is made anew for every order.
    let config = Config::default().recv_buffer_bytes(512);
    open(config, Dialect::Readiness).expect("a loop").0
}

/// What each producer has written before its post, in no order that the atomics would make.
#[derive(Clone)]
struct Written(Arc<[AtomicUsize; PRODUCERS]>);

impl Written {
    fn new() -> Written {
        Written(Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]))
    }

    fn write(&self, (producer, number): Post) {
        self.0[producer].store(number, Relaxed);
    }

    /// Returns the number of a producer's last write that is visible here.
    fn by(&self, producer: usize) -> usize {
        self.0[producer].load(Relaxed)
    }
}

/// Receives posts, and stops the loop when so many are there.
struct Collector {
    inbox: Inbox<Post>,
    written: Written,
    got: [usize; PRODUCERS],
    stop_at: usize,
}

impl Collector {
    fn take(&mut self, (producer, number): Post) {
        self.got[producer] += 1;
        assert_eq!(number, self.got[producer], "each once, and in order per producer");
        assert!(self.written.by(producer) >= number, "what was written before is visible");
    }

    fn total(&self) -> usize {
        self.got.iter().sum()
    }

    /// Takes out what the loop did not.
    fn take_rest(&mut self) {
        while let Some(post) = self.inbox.try_recv() {
            self.take(post);
        }
    }
}

impl Handler for Collector {
    fn on_data(&mut self, _: &mut Net, _: ConnId, data: &[u8]) -> usize {
        data.len()
    }

    fn on_wake(&mut self, net: &mut Net) {
        let (seen, most) = (self.inbox.len(), self.inbox.capacity());
        let drain = self.inbox.drain(net);
        assert!(seen <= drain.len() && drain.len() <= most, "nobody else takes any out");
        let mut posts: Vec<Post> = Vec::new();
        let left = self.stop_at - self.got.iter().sum::<usize>();
        // Dropped before its end if more are there.
        drain.take(left).for_each(|post| posts.push(post));
        posts.into_iter().for_each(|post| self.take(post));
        if self.total() == self.stop_at {
            net.stop();
        }
    }
}

/// Posts the numbers up to `count`; returns how many were accepted: the others have come back.
fn post(mailbox: &Mailbox<Post>, written: &Written, producer: usize, count: usize) -> usize {
    let mut accepted = 0;
    for _ in 0..count {
        let message = (producer, accepted + 1);
        written.write(message);
        match mailbox.post(message) {
            Ok(()) => accepted += 1,
            Err(PostError::Full(back)) => assert_eq!(back, message),
            Err(PostError::Closed(back)) => {
                assert_eq!((back, mailbox.is_closed()), (message, true));
                assert!(mailbox.post(back).is_err_and(|error| error.is_closed()), "for good");
                break;
            }
        }
    }
    accepted
}

/// A loop with a mailbox, and two threads that post into it.
struct Stage {
    event_loop: Loop,
    collector: Collector,
    /// Each ends with how many were accepted, and with its mailbox.
    producers: Vec<JoinHandle<(usize, Option<Mailbox<Post>>)>>,
}

impl Stage {
    /// `keep`: the threads do not drop their mailboxes, which would wake the loop once more.
    fn new(capacity: usize, posts: [usize; PRODUCERS], keep: bool) -> Stage {
        let mut event_loop = bare_loop();
        let (mailbox, inbox) = event_loop.net().mailbox(capacity).expect("a valid capacity");
        let written = Written::new();
        let producer = |producer| {
            let (mailbox, written): (Mailbox<Post>, _) = (mailbox.clone(), written.clone());
            thread::spawn(move || {
                let accepted = post(&mailbox, &written, producer, posts[producer]);
                (accepted, keep.then_some(mailbox))
            })
        };
        let producers = (0..PRODUCERS).map(producer).collect();
        let (got, stop_at) = ([0; PRODUCERS], usize::MAX);
        let collector = Collector { inbox, written: written.clone(), got, stop_at };
        Stage { event_loop, collector, producers }
    }

    fn run(&mut self) {
        self.event_loop.run(&mut self.collector).expect("the loop runs");
    }
}

/// Waits for the threads; returns how many posts of each were accepted, and their mailboxes.
fn join(
    producers: Vec<JoinHandle<(usize, Option<Mailbox<Post>>)>>,
) -> ([usize; PRODUCERS], Vec<Option<Mailbox<Post>>>) {
    let ended: Vec<_> =
        producers.into_iter().map(|thread| thread.join().expect("it posts and ends")).collect();
    let accepted = [ended[0].0, ended[1].0];
    (accepted, ended.into_iter().map(|(_, mailbox)| mailbox).collect())
}

/// Nobody wakes the loop but the posts: it would sleep on a lost one.
#[test]
fn no_wake_of_a_post_is_lost() {
    for (capacity, posts) in [(4, [2, 1]), (2, [1, 1])] {
        in_every_order(&format!("{posts:?} posts, room for {capacity}"), move || {
            let mut stage = Stage::new(capacity, posts, true);
            stage.collector.stop_at = posts.iter().sum();
            stage.run();
            let (accepted, _mailboxes) = join(stage.producers);
            assert_eq!((stage.collector.got, accepted), (posts, posts));
            assert_eq!(stage.collector.inbox.try_recv(), None, "nothing twice");
        });
    }
}

/// With more messages than there is room for in a mailbox of several, the search has no end: while
/// one thread empties it and another fills it, a third may see its past as often as it likes.
#[test]
fn run_returns_when_the_last_mailbox_is_gone_and_everything_was_told() {
    for (capacity, posts) in [(1, [2, 1]), (2, [1, 1])] {
        in_every_order(&format!("run returns, room for {capacity}"), move || {
            let mut stage = Stage::new(capacity, posts, false);
            stage.run();
            let received = stage.collector.got;
            let (accepted, _) = join(stage.producers);
            assert_eq!(received, accepted, "by on_wake alone");
            assert_eq!(stage.collector.inbox.try_recv(), None, "nothing twice");
            assert!(accepted.iter().sum::<usize>() >= capacity, "{accepted:?}");
        });
    }
}

/// The drain is dropped before its end, and the loop is run again.
#[test]
fn what_a_stop_leaves_inside_is_told_when_the_loop_runs_again() {
    in_every_order("a stop in the middle", || {
        let mut stage = Stage::new(2, [1, 1], true);
        for stop_at in 1..=2 {
            stage.collector.stop_at = stop_at;
            stage.run();
            assert_eq!(stage.collector.total(), stop_at);
        }
        let (accepted, _mailboxes) = join(stage.producers);
        assert_eq!(stage.collector.got, accepted);
        assert_eq!(stage.collector.inbox.try_recv(), None, "nothing twice");
    });
}

/// The room is taken by a message that the handler was told of and has left.
#[test]
fn a_refused_post_wakes_a_loop_that_has_left_its_messages() {
    in_every_order("a refused post", || {
        let mut event_loop = bare_loop();
        let (mailbox, inbox) = event_loop.net().mailbox(1).expect("a valid capacity");
        let written = Written::new();
        assert_eq!(post(&mailbox, &written, 0, 1), 1);
        let mut collector = Collector { inbox, written, got: [0; PRODUCERS], stop_at: usize::MAX };
        event_loop.turn(&mut Leave, Duration::ZERO).expect("a turn");
        let refused = |_| {
            let mailbox = mailbox.clone();
            thread::spawn(move || (usize::from(mailbox.post((1, 1)).is_ok()), Some(mailbox)))
        };
        let threads = (0..PRODUCERS).map(refused).collect();
        collector.stop_at = 1;
        event_loop.run(&mut collector).expect("the loop runs");
        assert_eq!(collector.got, [1, 0], "the one that was there first");
        let (accepted, _mailboxes) = join(threads);
        let rest = std::iter::from_fn(|| collector.inbox.try_recv()).count();
        assert_eq!(rest, accepted.iter().sum::<usize>());
    });
}

/// Is told, and takes nothing out.
struct Leave;

impl Handler for Leave {
    fn on_data(&mut self, _: &mut Net, _: ConnId, data: &[u8]) -> usize {
        data.len()
    }
}

#[test]
fn while_the_loop_is_dropped_every_post_is_readable_or_comes_back() {
    for capacity in [1, 2] {
        in_every_order(&format!("the loop is dropped, room for {capacity}"), move || {
            let Stage { event_loop, mut collector, producers } = Stage::new(capacity, [2, 1], true);
            drop(event_loop);
            assert!(collector.inbox.is_closed());
            collector.take_rest();
            let readable = collector.got;
            let (accepted, mailboxes) = join(producers);
            collector.take_rest();
            assert_eq!((collector.got, accepted), (readable, readable), "the close decides");
            let late = mailboxes.iter().flatten().map(|mailbox| mailbox.post((0, 9)));
            assert_eq!(late.collect::<Vec<_>>(), [Err(PostError::Closed((0, 9))); 2]);
        });
    }
}

#[test]
fn a_loop_that_stops_and_is_dropped_leaves_what_was_accepted() {
    in_every_order("a loop stops and is dropped", || {
        let mut stage = Stage::new(2, [1, 1], true);
        stage.collector.stop_at = 1;
        stage.run();
        let Stage { event_loop, mut collector, producers } = stage;
        drop(event_loop);
        let (accepted, _mailboxes) = join(producers);
        collector.take_rest();
        assert_eq!(collector.got, accepted);
    });
}

#[test]
fn while_the_inbox_is_closed_every_post_is_readable_or_comes_back() {
    for capacity in [1, 2] {
        in_every_order(&format!("the inbox is closed, room for {capacity}"), move || {
            let mut stage = Stage::new(capacity, [2, 1], true);
            let most = stage.collector.inbox.len();
            assert!(most <= capacity, "{most} messages");
            stage.collector.inbox.close();
            let left = stage.collector.inbox.len();
            stage.collector.take_rest();
            let readable = stage.collector.got;
            assert_eq!(stage.collector.total(), left, "closed, it has its final length");
            assert!(left >= most && stage.collector.inbox.is_empty());
            let (accepted, _mailboxes) = join(stage.producers);
            stage.collector.take_rest();
            assert_eq!((stage.collector.got, accepted), (readable, readable), "the close decides");
        });
    }
}

#[test]
fn while_the_inbox_is_dropped_every_message_is_dropped_or_comes_back() {
    for capacity in [1, 2] {
        in_every_order(&format!("the inbox is dropped, room for {capacity}"), move || {
            let mut event_loop = bare_loop();
            let (mailbox, inbox) = event_loop.net().mailbox(capacity).expect("a valid capacity");
            let alive = Arc::new(());
            let producer = |_| {
                let (mailbox, alive): (Mailbox<Arc<()>>, _) = (mailbox.clone(), Arc::clone(&alive));
                thread::spawn(move || {
                    let posts = (0..2).map(|_| mailbox.post(Arc::clone(&alive)).is_ok());
                    let accepted = posts.filter(|&is_accepted| is_accepted).count();
                    (accepted, None)
                })
            };
            let producers = (0..PRODUCERS).map(producer).collect();
            drop(inbox);
            join(producers);
            // The mailbox is there, and would hold them.
            assert_eq!((mailbox.len(), Arc::strong_count(&alive)), (0, 1));
        });
    }
}

/// Waits for what the threads have written, of which nothing but wakes tells.
struct Watcher {
    written: Written,
    seen: [usize; PRODUCERS],
    stop_at: [usize; PRODUCERS],
}

impl Watcher {
    fn new(written: &Written, stop_at: [usize; PRODUCERS]) -> Watcher {
        Watcher { written: written.clone(), seen: [0; PRODUCERS], stop_at }
    }
}

impl Handler for Watcher {
    fn on_data(&mut self, _: &mut Net, _: ConnId, data: &[u8]) -> usize {
        data.len()
    }

    fn on_wake(&mut self, net: &mut Net) {
        self.seen = [self.written.by(0), self.written.by(1)];
        if self.seen == self.stop_at {
            net.stop();
        }
    }
}

/// Begins two threads that write and wake, so many times each.
fn writers(
    waker: &Waker,
    written: &Written,
    counts: [usize; PRODUCERS],
    keep: bool,
) -> Vec<JoinHandle<Option<Waker>>> {
    let writer = |producer| {
        let (waker, written) = (waker.clone(), written.clone());
        thread::spawn(move || {
            for number in 1..=counts[producer] {
                written.write((producer, number));
                waker.wake();
            }
            keep.then_some(waker)
        })
    };
    (0..PRODUCERS).map(writer).collect()
}

/// A wake that finds another one posted raises nothing: the `on_wake` of that has to see both.
#[test]
fn what_was_written_before_a_wake_is_visible_in_an_on_wake_that_follows() {
    in_every_order("two wakes each", || {
        let mut event_loop = bare_loop();
        let (waker, written) = (event_loop.waker(), Written::new());
        let threads = writers(&waker, &written, [2, 2], true);
        event_loop.run(&mut Watcher::new(&written, [2, 2])).expect("the loop runs");
        threads.into_iter().for_each(|thread| drop(thread.join().expect("it ends")));
    });
}

#[test]
fn run_returns_when_the_last_waker_is_gone_and_every_wake_was_told() {
    in_every_order("the last waker", || {
        let mut event_loop = bare_loop();
        let (waker, written) = (event_loop.waker(), Written::new());
        let threads = writers(&waker, &written, [2, 1], false);
        drop(waker);
        let mut watcher = Watcher::new(&written, [usize::MAX; PRODUCERS]);
        event_loop.run(&mut watcher).expect("the loop runs");
        assert_eq!(watcher.seen, [2, 1], "the last wake is told although its waker is gone");
        threads.into_iter().for_each(|thread| drop(thread.join().expect("it ends")));
    });
}

/// Nobody wakes: the loop waits for the wakers alone.
#[test]
fn the_last_waker_ends_the_wait_for_it() {
    in_every_order("wakers that only go", || {
        let mut event_loop = bare_loop();
        let waker = event_loop.waker();
        let gone = |_| {
            let waker = waker.clone();
            thread::spawn(move || drop(waker.clone()))
        };
        let threads: Vec<_> = (0..PRODUCERS).map(gone).collect();
        drop(waker);
        event_loop.run(&mut Leave).expect("the loop runs");
        threads.into_iter().for_each(|thread| thread.join().expect("it ends"));
    });
}
