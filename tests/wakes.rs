//! Waking a loop from another thread: no wake is lost, many before the loop gets to it are one
//! (contract C16), and the wakers there are decide whether the loop goes on.

mod support;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Duration;

use hotloop::{Checked, Config, ConnId, Handler, Loop, Net, TimerId, Waker};
use support::watchdog::Watchdog;
use support::{Call, Kind, Rig};

const PRODUCERS: usize = 8;
const POSTS: u64 = 100_000;

fn wakes(rig: &Rig) -> usize {
    rig.handler.count(|call| *call == Call::Wake)
}

/// A loop that nothing but wakers keeps running.
fn bare_loop(kind: Kind) -> Loop {
    Loop::new(kind.real(Config::default())).expect("a loop")
}

fn a_wake_of_another_thread_is_told_once(kind: Kind) {
    let mut rig = Rig::new(kind);
    let waker = rig.event_loop.waker();
    thread::spawn(move || waker.wake()).join().expect("a wake does not fail");
    rig.until("on_wake", |rig| wakes(rig) > 0);
    rig.settle();
    assert_eq!(wakes(&rig), 1);
    assert_eq!(rig.event_loop.net().stats().wakes, 1);
}

fn wakes_before_the_loop_gets_to_them_are_one(kind: Kind) {
    let mut rig = Rig::new(kind);
    let waker = rig.event_loop.waker();
    for round in 1..=3 {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let waker = waker.clone();
                thread::spawn(move || (0..1000).for_each(|_| waker.wake()))
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().expect("a wake does not fail"));
        waker.wake();
        rig.settle();
        assert_eq!(wakes(&rig), round);
    }
}

fn without_a_wake_nothing_is_told(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.echo();
    let waker = rig.event_loop.waker();
    drop(waker.clone());
    let (peer, _) = rig.client();
    rig.send(peer, b"not a wake");
    rig.until("the echo", |rig| rig.received(peer) == b"not a wake");
    // The signal that the last one is gone is no wake either.
    drop(waker);
    rig.settle();
    assert_eq!(wakes(&rig), 0);
    assert_eq!(rig.event_loop.net().stats().wakes, 0);
}

fn a_wake_within_a_callback_means_the_next_turn(kind: Kind) {
    let mut rig = Rig::new(kind);
    let turns = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&turns);
    let waker = rig.event_loop.waker();
    let again = waker.clone();
    rig.handler.on_wake = Some(Box::new(move |net| {
        seen.borrow_mut().push(net.stats().turns);
        if seen.borrow().len() < 5 {
            again.wake();
            again.wake();
        }
    }));
    waker.wake();
    rig.until("all of them", |_| turns.borrow().len() == 5);
    rig.settle();
    let first = turns.borrow()[0];
    assert_eq!(*turns.borrow(), (first..first + 5).collect::<Vec<_>>());
}

fn a_timer_that_wakes_is_followed_by_on_wake_in_the_next_turn(kind: Kind) {
    let mut rig = Rig::new(kind);
    let waker = rig.event_loop.waker();
    rig.handler.on_timer = Some(Box::new(move |_, _, _| waker.wake()));
    rig.event_loop.net().start_timer(Duration::ZERO, 0);
    assert_eq!(rig.turn().callbacks, 1);
    assert_eq!(wakes(&rig), 0);
    assert_eq!(rig.turn().callbacks, 1);
    assert_eq!(wakes(&rig), 1);
}

fn a_waker_from_a_callback_works_like_any_other(kind: Kind) {
    let mut rig = Rig::new(kind);
    let made = Rc::new(RefCell::new(None));
    let kept = Rc::clone(&made);
    rig.handler.on_accept = Some(Box::new(move |net, _| {
        kept.borrow_mut().replace(net.waker());
    }));
    rig.client();
    let waker: Waker = made.take().expect("it was made");
    thread::spawn(move || waker.wake()).join().expect("a wake does not fail");
    rig.until("on_wake", |rig| wakes(rig) == 1);
}

fn a_wake_after_the_loop_is_gone_does_nothing(kind: Kind) {
    let rig = Rig::new(kind);
    let waker = rig.event_loop.waker();
    waker.wake();
    drop(rig);
    waker.wake();
    let other = waker.clone();
    let thread = thread::spawn(move || {
        other.wake();
        drop(other);
    });
    thread.join().expect("no harm is done");
    waker.wake();
}

fn a_wake_is_told_although_its_waker_is_gone(kind: Kind) {
    let mut rig = Rig::new(kind);
    let waker = rig.event_loop.waker();
    waker.wake();
    drop(waker);
    rig.until("on_wake", |rig| wakes(rig) == 1);
}

fn a_waker_keeps_the_loop_running_and_its_end_lets_it_return(kind: Kind) {
    let mut rig = Rig::new(kind);
    let listener = rig.listener;
    rig.event_loop.net().close_listener(listener);
    let waker = Rc::new(RefCell::new(Some(rig.event_loop.waker())));
    waker.borrow().as_ref().expect("it is kept").wake();
    let left = Cell::new(5);
    let held = Rc::clone(&waker);
    rig.handler.on_wake = Some(Box::new(move |_| {
        left.set(left.get() - 1);
        if left.get() > 0 {
            held.borrow().as_ref().expect("it is kept").wake();
        } else {
            held.take();
        }
    }));
    rig.event_loop.run(&mut rig.handler).expect("the loop runs");
    assert_eq!(wakes(&rig), 5);
    assert!(waker.borrow().is_none());
}

fn the_last_wake_is_told_before_run_returns(kind: Kind) {
    let mut rig = Rig::new(kind);
    let listener = rig.listener;
    rig.event_loop.net().close_listener(listener);
    // Before the run.
    let waker = rig.event_loop.waker();
    waker.wake();
    drop(waker);
    rig.event_loop.run(&mut rig.handler).expect("the loop runs");
    assert_eq!(wakes(&rig), 1);
    // At the end of what would be the last turn.
    let waker = Cell::new(Some(rig.event_loop.waker()));
    rig.handler.on_turn_end = Some(Box::new(move |_| {
        if let Some(waker) = waker.take() {
            waker.wake();
        }
    }));
    rig.event_loop.net().again();
    rig.event_loop.run(&mut rig.handler).expect("the loop runs");
    assert_eq!(wakes(&rig), 2);
}

/// Does nothing but tell when it begins to wait.
struct Idle(Option<mpsc::Sender<()>>);

impl Handler for Idle {
    fn on_data(&mut self, _: &mut Net, _: ConnId, data: &[u8]) -> usize {
        data.len()
    }

    fn on_turn_end(&mut self, _: &mut Net) {
        self.0.take();
    }
}

/// On real sockets only: a scripted loop does not block.
fn the_last_waker_that_goes_ends_a_run_that_blocks(kind: Kind) {
    let watchdog = Watchdog::new("the last waker is gone");
    for _ in 0..200 {
        let mut event_loop = bare_loop(kind);
        let (wakers, (turned, has_turned)) =
            ([(); 3].map(|()| event_loop.waker()), mpsc::channel::<()>());
        wakers[0].wake();
        let thread = thread::spawn(move || {
            // Behind the first turn, so that the loop is on its way into a wait without end.
            has_turned.recv().expect_err("nothing is sent");
            drop(wakers);
        });
        event_loop.run(&mut Checked::new(Idle(Some(turned)))).expect("the loop runs");
        thread.join().expect("the wakers are dropped");
    }
    watchdog.over();
}

/// On real sockets only: a scripted loop does not block.
fn a_storm_of_clones_and_drops_keeps_count(kind: Kind) {
    let watchdog = Watchdog::new("clones and drops");
    let mut event_loop = bare_loop(kind);
    let waker = event_loop.waker();
    let done = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..PRODUCERS)
        .map(|_| {
            let waker = waker.clone();
            thread::spawn(move || {
                for round in 0..10_000 {
                    let copy = waker.clone();
                    if round % 100 == 0 {
                        copy.wake();
                    }
                }
            })
        })
        .collect();
    let all_done = Arc::clone(&done);
    let last = thread::spawn(move || {
        threads.into_iter().for_each(|thread| thread.join().expect("it ends"));
        all_done.store(true, Ordering::SeqCst);
        drop(waker);
    });
    event_loop.run(&mut Checked::new(Idle(None))).expect("the loop runs");
    assert!(done.load(Ordering::SeqCst), "it did not return while there were wakers");
    last.join().expect("it ends");
    assert!(event_loop.net().stats().wakes >= 1);
    watchdog.over();
}

/// How a message gets from a producer to the loop.
trait Inbox {
    fn drain(&mut self, each: impl FnMut((usize, u64)));
}

impl Inbox for Arc<Mutex<VecDeque<(usize, u64)>>> {
    fn drain(&mut self, each: impl FnMut((usize, u64))) {
        let posted = std::mem::take(&mut *self.lock().expect("no producer panics"));
        posted.into_iter().for_each(each);
    }
}

impl Inbox for Receiver<(usize, u64)> {
    fn drain(&mut self, each: impl FnMut((usize, u64))) {
        self.try_iter().for_each(each);
    }
}

/// Takes what was posted in `on_wake` alone, and checks that it is in order.
struct Collector<I> {
    inbox: I,
    next: [u64; PRODUCERS],
}

impl<I: Inbox> Handler for Collector<I> {
    fn on_data(&mut self, _: &mut Net, _: ConnId, data: &[u8]) -> usize {
        data.len()
    }

    fn on_timer(&mut self, _: &mut Net, _: TimerId, _: u64) {
        panic!("nothing is started");
    }

    fn on_wake(&mut self, net: &mut Net) {
        let next = &mut self.next;
        self.inbox.drain(|(producer, number)| {
            assert_eq!(number, next[producer], "in order, each once");
            next[producer] += 1;
        });
        if self.next == [POSTS; PRODUCERS] {
            net.stop();
        }
    }
}

/// Lets the producers post and wake as fast as they can. Every message has been received when the
/// loop returns: it stops at nothing else, because the waker that stays here keeps it running.
fn storm<I, P>(kind: Kind, inbox: I, post: impl Fn() -> P)
where
    I: Inbox,
    P: FnMut((usize, u64)) + Send + 'static,
{
    let watchdog = Watchdog::new("a storm of posts");
    let mut event_loop = bare_loop(kind);
    let waker = event_loop.waker();
    let start = Arc::new(Barrier::new(PRODUCERS));
    let threads: Vec<_> = (0..PRODUCERS)
        .map(|producer| {
            let (waker, start, mut post) = (waker.clone(), Arc::clone(&start), post());
            thread::spawn(move || {
                start.wait();
                for number in 0..POSTS {
                    post((producer, number));
                    waker.wake();
                    if number % 1000 == 0 {
                        // Lets the loop empty the box and go to sleep.
                        thread::yield_now();
                    }
                }
            })
        })
        .collect();
    let mut collector = Checked::new(Collector { inbox, next: [0; PRODUCERS] });
    event_loop.run(&mut collector).expect("the loop runs");
    watchdog.over();
    threads.into_iter().for_each(|thread| thread.join().expect("it ends"));
    assert_eq!(collector.next, [POSTS; PRODUCERS]);
    let mut left = 0;
    collector.inbox.drain(|_| left += 1);
    assert_eq!(left, 0, "nothing twice");
    let wakes = event_loop.net().stats().wakes;
    assert!((1..=POSTS * PRODUCERS as u64).contains(&wakes));
}

/// On real sockets only: a scripted loop does not block.
fn every_post_of_a_storm_through_a_shared_queue_arrives_once_and_in_order(kind: Kind) {
    let inbox = Arc::new(Mutex::new(VecDeque::new()));
    storm(kind, Arc::clone(&inbox), || {
        let inbox = Arc::clone(&inbox);
        move |message| inbox.lock().expect("the loop does not panic").push_back(message)
    });
}

/// On real sockets only: a scripted loop does not block.
fn every_post_of_a_storm_through_a_channel_arrives_once_and_in_order(kind: Kind) {
    let (sender, receiver) = mpsc::channel();
    storm(kind, receiver, || {
        let sender = sender.clone();
        move |message| sender.send(message).expect("the loop is there")
    });
}

/// One message at a time, each answered before the next: the loop goes to sleep between any two,
/// so that no later wake makes up for one that is lost.
///
/// On real sockets only: a scripted loop does not block.
fn no_wake_is_lost_on_a_loop_that_is_about_to_sleep(kind: Kind) {
    struct Answer(Receiver<u32>, mpsc::Sender<u32>);
    impl Handler for Answer {
        fn on_data(&mut self, _: &mut Net, _: ConnId, data: &[u8]) -> usize {
            data.len()
        }

        fn on_wake(&mut self, _: &mut Net) {
            for number in self.0.try_iter() {
                self.1.send(number).expect("the other side waits");
            }
        }
    }
    let watchdog = Watchdog::new("a wake before the sleep");
    let mut event_loop = bare_loop(kind);
    let waker = event_loop.waker();
    let ((post, posted), (answer, answered)) = (mpsc::channel(), mpsc::channel());
    let thread = thread::spawn(move || {
        for number in 0..20_000 {
            post.send(number).expect("the loop is there");
            waker.wake();
            assert_eq!(answered.recv(), Ok(number));
        }
    });
    // Returns when the thread has dropped its waker.
    event_loop.run(&mut Checked::new(Answer(posted, answer))).expect("the loop runs");
    thread.join().expect("every message was answered");
    watchdog.over();
}

on_every_backend!(
    a_wake_of_another_thread_is_told_once,
    wakes_before_the_loop_gets_to_them_are_one,
    without_a_wake_nothing_is_told,
    a_wake_within_a_callback_means_the_next_turn,
    a_timer_that_wakes_is_followed_by_on_wake_in_the_next_turn,
    a_waker_from_a_callback_works_like_any_other,
    a_wake_after_the_loop_is_gone_does_nothing,
    a_wake_is_told_although_its_waker_is_gone,
    a_waker_keeps_the_loop_running_and_its_end_lets_it_return,
    the_last_wake_is_told_before_run_returns,
);

on_real_sockets!(
    the_last_waker_that_goes_ends_a_run_that_blocks,
    a_storm_of_clones_and_drops_keeps_count,
    every_post_of_a_storm_through_a_shared_queue_arrives_once_and_in_order,
    every_post_of_a_storm_through_a_channel_arrives_once_and_in_order,
    no_wake_is_lost_on_a_loop_that_is_about_to_sleep,
);
