//! Mailboxes under threads that post as fast as they can: each accepted post is received exactly
//! once and in order per thread, each other one comes back, and no wake is lost, also while the
//! loop stops, is dropped, or its inbox is closed (contract C16).
//!
//! On real sockets: the other backends do not block, and theirs are the tests in `mailbox`.

mod support;

use std::sync::mpsc;
use std::sync::{Arc, Barrier};
use std::thread::{self, JoinHandle};

use hotloop::{Checked, Config, ConnId, Handler, Inbox, Loop, Mailbox, Net, PostError};
use support::Kind;
use support::watchdog::Watchdog;

const THREADS: usize = 8;
const EACH: u64 = 125_000;
/// Small against the number of posts, so that it is often full.
const CAPACITY: usize = 1024;
/// How often a loop ends in the middle, each time elsewhere.
const ROUNDS: u64 = 40;

/// A message says who posted it, and which of theirs it is.
type Post = (usize, u64);

/// A loop that nothing but mailboxes keeps running.
fn bare_loop(kind: Kind) -> Loop {
    Loop::new(kind.real(Config::default())).expect("a loop")
}

/// What is known of the posts of all threads, at one end or the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counts([u64; THREADS]);

impl Counts {
    /// Counts a message that should be the next of its thread.
    fn take(&mut self, (thread, number): Post) {
        assert_eq!(number, self.0[thread], "thread {thread}: in order, each once");
        self.0[thread] += 1;
    }

    fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// Counts what it takes out, and stops the loop each time so many are there.
struct Collector {
    inbox: Inbox<Post>,
    counts: Counts,
    stop_every: u64,
}

impl Collector {
    fn new(inbox: Inbox<Post>, stop_every: u64) -> Collector {
        Collector { inbox, counts: Counts([0; THREADS]), stop_every }
    }

    /// Takes out what the loop did not.
    fn take_rest(&mut self) {
        while let Some(post) = self.inbox.try_recv() {
            self.counts.take(post);
        }
    }
}

impl Handler for Collector {
    fn on_data(&mut self, _: &mut Net, _: ConnId, data: &[u8]) -> usize {
        data.len()
    }

    fn on_wake(&mut self, net: &mut Net) {
        for post in self.inbox.drain(net) {
            self.counts.take(post);
            if self.counts.total() % self.stop_every == 0 {
                // With the rest of the drain still inside.
                return net.stop();
            }
        }
    }
}

/// How a thread's posts went.
#[derive(Debug, Default)]
struct Posted {
    accepted: u64,
    refused: u64,
}

/// Posts until `most` are accepted or they come back for good; tries again while there is no room.
fn post_all(mailbox: &Mailbox<Post>, thread: usize, most: u64) -> Posted {
    let mut posted = Posted::default();
    while posted.accepted < most {
        let message = (thread, posted.accepted);
        match mailbox.post(message) {
            Ok(()) => posted.accepted += 1,
            Err(PostError::Full(back)) => {
                assert_eq!(back, message);
                posted.refused += 1;
                thread::yield_now();
            }
            Err(PostError::Closed(back)) => {
                assert_eq!(back, message);
                assert_eq!(mailbox.post(back), Err(PostError::Closed(back)), "closed for good");
                return posted;
            }
        }
    }
    posted
}

/// Begins to post from all threads at once.
fn post_from_threads(mailbox: Mailbox<Post>, most: u64) -> Vec<JoinHandle<Posted>> {
    let start = Arc::new(Barrier::new(THREADS));
    let begin = |thread| {
        let (mailbox, start) = (mailbox.clone(), Arc::clone(&start));
        thread::spawn(move || {
            start.wait();
            post_all(&mailbox, thread, most)
        })
    };
    (0..THREADS).map(begin).collect()
}

/// What the threads know when they have ended: accepted by thread, and refused by all.
fn joined(threads: Vec<JoinHandle<Posted>>) -> (Counts, u64) {
    let posted = threads.into_iter().map(|thread| thread.join().expect("it posts and ends"));
    let posted: Vec<Posted> = posted.collect();
    let refused = posted.iter().map(|one| one.refused).sum();
    (Counts(std::array::from_fn(|thread| posted[thread].accepted)), refused)
}

fn a_million_posts_of_eight_threads_arrive_once_and_in_order(kind: Kind) {
    let watchdog = Watchdog::new("a million posts");
    let mut event_loop = bare_loop(kind);
    let (mailbox, inbox) = event_loop.net().mailbox(CAPACITY).expect("a valid capacity");
    let threads = post_from_threads(mailbox, EACH);
    let mut collector = Checked::new(Collector::new(inbox, u64::MAX));
    // Returns when the last thread has dropped its clone.
    event_loop.run(&mut collector).expect("the loop runs");
    let (accepted, refused) = joined(threads);
    assert_eq!(accepted, Counts([EACH; THREADS]));
    assert_eq!(collector.counts, accepted);
    assert_eq!(collector.inbox.try_recv(), None, "nothing twice");
    let wakes = event_loop.net().stats().wakes;
    assert!((1..=accepted.total() + refused).contains(&wakes), "{wakes} wakes");
    watchdog.over();
}

fn a_million_posts_arrive_while_the_loop_stops_and_runs_again(kind: Kind) {
    let watchdog = Watchdog::new("a million posts and many stops");
    let mut event_loop = bare_loop(kind);
    let (mailbox, inbox) = event_loop.net().mailbox(CAPACITY).expect("a valid capacity");
    let threads = post_from_threads(mailbox, EACH);
    let mut collector = Checked::new(Collector::new(inbox, 1009));
    let mut stops = 0;
    while collector.counts.total() < EACH * THREADS as u64 {
        event_loop.run(&mut collector).expect("the loop runs");
        stops += 1;
    }
    let (accepted, _) = joined(threads);
    assert_eq!((collector.counts, accepted), (accepted, Counts([EACH; THREADS])));
    assert_eq!(collector.inbox.try_recv(), None, "nothing twice");
    assert!(stops >= EACH * THREADS as u64 / 1009, "{stops} runs");
    watchdog.over();
}

/// Lets the threads post without end into a loop that stops in the middle, and ends the mailbox.
fn ends_in_the_middle(kind: Kind, end: impl Fn(Loop, &mut Collector) -> Option<Loop>) {
    let watchdog = Watchdog::new("an end in the middle");
    for (round, capacity) in (0..ROUNDS).zip([CAPACITY, 64, 3, 1].into_iter().cycle()) {
        let mut event_loop = bare_loop(kind);
        let (mailbox, inbox) = event_loop.net().mailbox(capacity).expect("a valid capacity");
        let threads = post_from_threads(mailbox, u64::MAX);
        let mut collector = Checked::new(Collector::new(inbox, 1 + round * 331));
        event_loop.run(&mut collector).expect("the loop runs");
        let kept = end(event_loop, collector.inner_mut());
        let (accepted, _) = joined(threads);
        collector.take_rest();
        assert_eq!(collector.counts, accepted, "round {round}");
        drop(kept);
    }
    watchdog.over();
}

fn while_the_loop_is_dropped_every_post_is_received_or_comes_back(kind: Kind) {
    ends_in_the_middle(kind, |event_loop, _| {
        drop(event_loop);
        None
    });
}

fn while_the_inbox_is_closed_every_post_is_received_or_comes_back(kind: Kind) {
    ends_in_the_middle(kind, |event_loop, collector| {
        collector.take_rest();
        collector.inbox.close();
        Some(event_loop)
    });
}

/// A message that is alive until it is dropped.
struct Alive(#[expect(dead_code, reason = "it only counts")] Arc<()>);

fn while_the_inbox_is_dropped_every_post_is_dropped_or_comes_back(kind: Kind) {
    let mut event_loop = bare_loop(kind);
    for _ in 0..ROUNDS {
        let alive = Arc::new(());
        let (mailbox, inbox) = event_loop.net().mailbox(CAPACITY).expect("a valid capacity");
        let post = |_| {
            let (mailbox, alive) = (mailbox.clone(), Arc::clone(&alive));
            thread::spawn(move || {
                while !mailbox.post(Alive(Arc::clone(&alive))).is_err_and(|error| error.is_closed())
                {
                }
                mailbox
            })
        };
        let threads: Vec<_> = (0..THREADS).map(post).collect();
        while mailbox.len() < CAPACITY / 2 {
            thread::yield_now();
        }
        drop(inbox);
        let ended = threads.into_iter().map(|thread| thread.join().expect("it posts and ends"));
        // The mailboxes are still there: it was the inbox that dropped them.
        let kept: Vec<_> = ended.collect();
        assert_eq!((kept.len(), Arc::strong_count(&alive)), (THREADS, 1));
    }
}

/// Sends every message back.
struct Answer(Inbox<u32>, mpsc::Sender<u32>);

impl Handler for Answer {
    fn on_data(&mut self, _: &mut Net, _: ConnId, data: &[u8]) -> usize {
        data.len()
    }

    fn on_wake(&mut self, net: &mut Net) {
        for number in self.0.drain(net) {
            self.1.send(number).expect("the other side waits");
        }
    }
}

/// One message at a time: the loop goes to sleep between any two, so that no later post makes up
/// for a wake that is lost.
fn a_post_wakes_a_loop_that_is_about_to_sleep(kind: Kind) {
    let watchdog = Watchdog::new("a post before the sleep");
    let mut event_loop = bare_loop(kind);
    let (mailbox, inbox) = event_loop.net().mailbox(1).expect("a valid capacity");
    let (answer, answered) = mpsc::channel();
    let thread = thread::spawn(move || {
        for number in 0..20_000 {
            mailbox.post(number).expect("the one before was taken out");
            assert_eq!(answered.recv(), Ok(number));
        }
    });
    event_loop.run(&mut Checked::new(Answer(inbox, answer))).expect("the loop runs");
    thread.join().expect("every message was answered");
    watchdog.over();
}

on_real_sockets!(
    a_million_posts_of_eight_threads_arrive_once_and_in_order,
    a_million_posts_arrive_while_the_loop_stops_and_runs_again,
    while_the_loop_is_dropped_every_post_is_received_or_comes_back,
    while_the_inbox_is_closed_every_post_is_received_or_comes_back,
    while_the_inbox_is_dropped_every_post_is_dropped_or_comes_back,
    a_post_wakes_a_loop_that_is_about_to_sleep,
);
