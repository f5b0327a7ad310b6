//! Mailboxes: what is posted is received once and in order or comes back (contract C16), a drain
//! is a snapshot (C12), and whatever the handler does, what it has not taken is not lost.

mod support;

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::panic::{self, AssertUnwindSafe};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use hotloop::sim::{Dialect, NodeOptions, World};
use hotloop::{ConnId, Handler, Inbox, Mailbox, Net, PostError, TimerId};
use support::{Call, Kind, Rig};

/// What was received, and in which turn.
type Log<T> = Rc<RefCell<Vec<(u64, T)>>>;

fn mailbox<T: Send + 'static>(rig: &mut Rig, capacity: usize) -> (Mailbox<T>, Inbox<T>) {
    rig.event_loop.net().mailbox(capacity).expect("a valid capacity")
}

/// Lets the handler take out everything in each `on_wake`.
fn collect<T: 'static>(rig: &mut Rig, mut inbox: Inbox<T>) -> Log<T> {
    let log = Log::default();
    let received = Rc::clone(&log);
    rig.handler.on_wake = Some(Box::new(move |net| {
        let turn = net.stats().turns;
        received.borrow_mut().extend(inbox.drain(net).map(|message| (turn, message)));
    }));
    log
}

fn messages<T: Copy>(log: &Log<T>) -> Vec<T> {
    log.borrow().iter().map(|(_, message)| *message).collect()
}

fn wakes(rig: &Rig) -> usize {
    rig.handler.count(|call| *call == Call::Wake)
}

fn rest<T>(inbox: &mut Inbox<T>) -> Vec<T> {
    std::iter::from_fn(|| inbox.try_recv()).collect()
}

fn posts_before_the_loop_gets_to_them_are_one_batch(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (mailbox, inbox) = mailbox(&mut rig, 4000);
    let log = collect(&mut rig, inbox);
    for round in 1..=3 {
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let mailbox = mailbox.clone();
                thread::spawn(move || {
                    (0..1000).for_each(|number| mailbox.post((thread, number)).expect("room"));
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().expect("there is room"));
        rig.settle();
        assert_eq!(wakes(&rig), round);
        let received = std::mem::take(&mut *log.borrow_mut());
        for thread in 0..4 {
            let of_thread = received.iter().filter(|(_, message)| message.0 == thread);
            let numbers: Vec<i32> = of_thread.map(|(_, message)| message.1).collect();
            assert_eq!(numbers, (0..1000).collect::<Vec<_>>());
        }
        assert_eq!(received.len(), 4000);
    }
    assert_eq!(rig.event_loop.net().stats().wakes, 3);
}

fn a_post_within_a_callback_arrives_in_the_next_turn(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (mailbox, inbox) = mailbox(&mut rig, 4);
    let log = collect(&mut rig, inbox);
    rig.handler.on_timer = Some(Box::new(move |net, _, _| {
        mailbox.post(net.stats().turns).expect("there is room");
    }));
    rig.event_loop.net().start_timer(Duration::ZERO, 0);
    rig.until("the message", |_| !log.borrow().is_empty());
    let (received, posted) = log.borrow()[0];
    assert_eq!(received, posted + 1);
}

fn a_drain_takes_what_was_there_at_its_beginning(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (mailbox, mut inbox) = mailbox(&mut rig, 8);
    (0..3).for_each(|number| mailbox.post(number).expect("there is room"));
    let log: Log<u32> = Log::default();
    let received = Rc::clone(&log);
    let producer = mailbox.clone();
    rig.handler.on_wake = Some(Box::new(move |net| {
        let turn = net.stats().turns;
        for number in inbox.drain(net) {
            received.borrow_mut().push((turn, number));
            if number < 30 {
                producer.post(number + 10).expect("its place has become free");
            }
        }
    }));
    rig.settle();
    assert_eq!(messages(&log), [0, 1, 2, 10, 11, 12, 20, 21, 22, 30, 31, 32]);
    let first = log.borrow()[0].0;
    let turns: Vec<u64> = log.borrow().iter().map(|(turn, _)| turn - first).collect();
    assert_eq!(turns, [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]);
    assert_eq!(wakes(&rig), 4);
}

fn what_a_drain_leaves_is_told_in_the_next_turn(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (mailbox, mut inbox) = mailbox(&mut rig, 8);
    (0..8).for_each(|number| mailbox.post(number).expect("there is room"));
    let log: Log<u32> = Log::default();
    let received = Rc::clone(&log);
    rig.handler.on_wake = Some(Box::new(move |net| {
        let turn = net.stats().turns;
        received.borrow_mut().extend(inbox.drain(net).take(3).map(|number| (turn, number)));
    }));
    rig.settle();
    let first = log.borrow()[0].0;
    let turns: Vec<u64> = log.borrow().iter().map(|(turn, _)| turn - first).collect();
    assert_eq!((messages(&log), turns), ((0..8).collect(), vec![0, 0, 0, 1, 1, 1, 2, 2]));
    assert_eq!(wakes(&rig), 3);
}

fn a_handler_that_takes_nothing_is_told_again_by_the_next_post(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (mailbox, inbox) = mailbox(&mut rig, 2);
    mailbox.post(1).expect("there is room");
    rig.settle();
    assert_eq!((wakes(&rig), inbox.len()), (1, 1));
    mailbox.post(2).expect("there is room");
    rig.settle();
    assert_eq!((wakes(&rig), inbox.len()), (2, 2));
    // Also by one that is refused: there would be no other any more.
    assert_eq!(mailbox.post(3), Err(PostError::Full(3)));
    let log = collect(&mut rig, inbox);
    rig.settle();
    assert_eq!((wakes(&rig), messages(&log)), (3, vec![1, 2]));
}

fn a_full_mailbox_gives_the_message_back_until_there_is_room(kind: Kind) {
    for capacity in [1, 2, 3, 64] {
        let mut rig = Rig::new(kind);
        let (mailbox, inbox) = mailbox(&mut rig, capacity);
        assert_eq!((mailbox.capacity(), inbox.capacity()), (capacity, capacity));
        let log = collect(&mut rig, inbox);
        for round in 1..=3 {
            assert!(mailbox.is_empty());
            (0..capacity).for_each(|number| mailbox.post(number).expect("there is room"));
            assert_eq!(mailbox.post(99), Err(PostError::Full(99)));
            assert_eq!(mailbox.len(), capacity);
            rig.settle();
            assert_eq!(log.borrow().len(), round * capacity);
        }
        assert!(!messages(&log).contains(&99));
    }
}

fn capacities_that_cannot_be_are_errors(kind: Kind) {
    let mut rig = Rig::new(kind);
    for capacity in [0, (1 << 24) + 1, usize::MAX] {
        let error = rig.event_loop.net().mailbox::<()>(capacity).expect_err("out of range");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(&capacity.to_string()), "{error}");
    }
}

fn without_its_inbox_everything_comes_back(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (mailbox, inbox) = mailbox(&mut rig, 4);
    mailbox.post(1).expect("there is room");
    drop(inbox);
    assert!(mailbox.is_closed() && mailbox.is_empty());
    assert_eq!(mailbox.clone().post(2), Err(PostError::Closed(2)));
    rig.settle();
    // The wake of the one that was accepted.
    assert_eq!(wakes(&rig), 1);
}

fn a_closed_inbox_still_has_what_was_accepted(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (mailbox, mut inbox) = mailbox(&mut rig, 4);
    (0..4).for_each(|number| mailbox.post(number).expect("there is room"));
    inbox.close();
    inbox.close();
    assert!(inbox.is_closed());
    // Full and closed: closed is what stays.
    assert_eq!(mailbox.post(4), Err(PostError::Closed(4)));
    let log = collect(&mut rig, inbox);
    rig.settle();
    assert_eq!(messages(&log), [0, 1, 2, 3]);
}

fn without_its_loop_everything_comes_back_but_what_was_accepted(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (mailbox, mut inbox) = mailbox(&mut rig, 4);
    let (other, mut other_inbox) = self::mailbox(&mut rig, 1);
    (0..3).for_each(|number| mailbox.post(number).expect("there is room"));
    rig.exit();
    assert_eq!(mailbox.post(3), Err(PostError::Closed(3)));
    assert_eq!(other.post("late"), Err(PostError::Closed("late")));
    assert!(mailbox.is_closed() && inbox.is_closed());
    assert_eq!((rest(&mut inbox), rest(&mut other_inbox)), (vec![0, 1, 2], vec![]));
    let thread = thread::spawn(move || mailbox.post(4));
    assert_eq!(thread.join().expect("it only comes back"), Err(PostError::Closed(4)));
}

fn one_wake_is_for_all_mailboxes(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (numbers, mut number_inbox) = mailbox(&mut rig, 4);
    let (words, mut word_inbox) = mailbox(&mut rig, 4);
    let log: Log<String> = Log::default();
    let received = Rc::clone(&log);
    rig.handler.on_wake = Some(Box::new(move |net| {
        let mut received = received.borrow_mut();
        received.extend(number_inbox.drain(net).map(|number: i32| (0, number.to_string())));
        received.extend(word_inbox.drain(net).map(|word: &str| (1, word.to_owned())));
    }));
    words.post("one").expect("there is room");
    numbers.post(2).expect("there is room");
    rig.settle();
    assert_eq!(*log.borrow(), [(0, "2".to_owned()), (1, "one".to_owned())]);
    assert_eq!(wakes(&rig), 1);
}

/// Turns until a callback panics with a `&str` of this test's.
fn until_panic(rig: &mut Rig) {
    for _ in 0..100_000 {
        if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(|| _ = rig.turn())) {
            return assert!(payload.is::<&str>(), "another panic");
        }
    }
    panic!("no callback panicked: {:?}", rig.handler.calls);
}

/// Panics without a word on standard error.
fn blow() -> ! {
    panic::resume_unwind(Box::new("planned"))
}

fn a_panic_in_the_middle_of_a_drain_loses_nothing(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (mailbox, mut inbox) = mailbox(&mut rig, 8);
    (0..8).for_each(|number| mailbox.post(number).expect("there is room"));
    let log: Log<u32> = Log::default();
    let received = Rc::clone(&log);
    rig.handler.on_wake = Some(Box::new(move |net| {
        for number in inbox.drain(net) {
            received.borrow_mut().push((0, number));
            if [2, 7].contains(&number) {
                blow();
            }
        }
    }));
    until_panic(&mut rig);
    assert_eq!(messages(&log), [0, 1, 2]);
    until_panic(&mut rig);
    assert_eq!(messages(&log), (0..8).collect::<Vec<_>>());
    rig.settle();
    assert_eq!(wakes(&rig), 2, "of an empty mailbox nothing is told");
}

fn a_panic_before_another_drain_loses_nothing(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (one, mut one_inbox) = mailbox(&mut rig, 8);
    let (other, mut other_inbox) = mailbox(&mut rig, 8);
    one.post(1).expect("there is room");
    other.post(2).expect("there is room");
    // Nothing else is left that would make the loop turn.
    drop((one, other));
    let listener = rig.listener;
    rig.event_loop.net().close_listener(listener);
    let log: Log<u32> = Log::default();
    let received = Rc::clone(&log);
    rig.handler.on_wake = Some(Box::new(move |net| {
        if one_inbox.drain(net).next().is_some() {
            blow();
        }
        received.borrow_mut().extend(other_inbox.drain(net).map(|number| (0, number)));
    }));
    until_panic(&mut rig);
    assert!(log.borrow().is_empty());
    assert_eq!(rig.event_loop.next_wait(), Some(Duration::ZERO));
    rig.event_loop.run(&mut rig.handler).expect("the loop runs");
    assert_eq!((messages(&log), wakes(&rig)), (vec![2], 2));
}

fn a_handler_that_panics_for_ever_does_not_keep_the_others_from_their_turn(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (mailbox, inbox) = mailbox(&mut rig, 8);
    rig.handler.echo();
    let (peer, _) = rig.client();
    mailbox.post(1).expect("there is room");
    rig.handler.on_wake = Some(Box::new(move |_| {
        // The signal is raised before the next turn begins.
        _ = mailbox.post(1);
        blow();
    }));
    rig.send(peer, b"still here");
    for _ in 0..1000 {
        until_panic(&mut rig);
        if rig.received(peer) == b"still here" {
            let log = collect(&mut rig, inbox);
            rig.settle();
            return assert!(!messages(&log).is_empty());
        }
    }
    panic!("no echo beside the panics");
}

fn a_mailbox_keeps_the_loop_running_until_its_last_post_is_told(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (mailbox, inbox) = mailbox(&mut rig, 2);
    let listener = rig.listener;
    rig.event_loop.net().close_listener(listener);
    let log = collect(&mut rig, inbox);
    mailbox.clone().post(1).expect("there is room");
    let turns = Cell::new(0);
    let last = Cell::new(Some(mailbox));
    rig.handler.on_turn_end = Some(Box::new(move |net| {
        turns.set(turns.get() + 1);
        match (turns.get(), last.take()) {
            (5, Some(mailbox)) => mailbox.post(5).expect("there is room"),
            (_, Some(mailbox)) => {
                last.set(Some(mailbox));
                net.again();
            }
            (_, None) => {}
        }
    }));
    rig.event_loop.run(&mut rig.handler).expect("the loop runs");
    assert_eq!(messages(&log), [1, 5]);
}

fn posts_to_a_loop_that_has_stopped_are_told_when_it_runs_again(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (mailbox, inbox) = mailbox(&mut rig, 2);
    let log = collect(&mut rig, inbox);
    rig.event_loop.net().stop();
    rig.event_loop.run(&mut rig.handler).expect("the loop runs");
    thread::spawn(move || mailbox.post(1)).join().expect("a post").expect("there is room");
    assert!(log.borrow().is_empty());
    let listener = rig.listener;
    rig.event_loop.net().close_listener(listener);
    rig.event_loop.run(&mut rig.handler).expect("the loop runs");
    assert_eq!(messages(&log), [1]);
}

/// A message that counts those that are dropped.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn every_message_is_dropped_once(kind: Kind) {
    let dropped = Arc::new(AtomicUsize::new(0));
    let count = || dropped.load(Ordering::SeqCst);
    let message = || Counted(Arc::clone(&dropped));
    let mut rig = Rig::new(kind);
    let (mailbox, mut inbox) = mailbox(&mut rig, 4);
    (0..4).for_each(|_| mailbox.post(message()).expect("there is room"));
    assert_eq!(count(), 0);
    drop(mailbox.post(message()).expect_err("it is full"));
    assert_eq!(count(), 1);
    let net = rig.event_loop.net();
    assert_eq!((inbox.drain(net).take(1).count(), count()), (1, 2));
    drop(inbox.try_recv());
    assert_eq!(count(), 3);
    mailbox.post(message()).expect("there is room");
    rig.exit();
    drop(mailbox.post(message()).expect_err("it is closed").into_inner());
    assert_eq!((inbox.len(), count()), (3, 4));
    drop(inbox);
    assert_eq!(count(), 7, "also while the mailbox is still there");
    drop(mailbox);
    assert_eq!(count(), 7);
    // The other way round.
    let (mailbox, inbox) = self::mailbox(&mut rig, 4);
    mailbox.post(message()).expect("there is room");
    drop(mailbox);
    assert_eq!((inbox.len(), count()), (1, 7));
    drop(inbox);
    assert_eq!(count(), 8);
}

fn both_halves_say_how_they_are(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (mailbox, mut inbox) = mailbox(&mut rig, 4);
    mailbox.post(Cell::new(1)).expect("there is room");
    assert_eq!(format!("{mailbox:?}"), "Mailbox { len: 1, capacity: 4, is_closed: false, .. }");
    assert_eq!(format!("{:?}", inbox.drain(rig.event_loop.net())), "Drain { left: 1, .. }");
    inbox.close();
    assert_eq!(format!("{inbox:?}"), "Inbox { len: 1, capacity: 4, is_closed: true, .. }");
}

/// Passes what it is sent on to itself by mail, late by a timer.
struct Relay {
    mailbox: Mailbox<u64>,
    inbox: Inbox<u64>,
    received: Vec<u64>,
}

impl Relay {
    fn new(net: &mut Net) -> Relay {
        let (mailbox, inbox) = net.mailbox(8).expect("a valid capacity");
        Relay { mailbox, inbox, received: Vec::new() }
    }
}

/// Without a loop yet: it is given its halves when there is one.
#[derive(Default)]
struct Node(Option<Relay>);

impl Handler for Node {
    fn on_data(&mut self, _: &mut Net, _: ConnId, data: &[u8]) -> usize {
        data.len()
    }

    fn on_timer(&mut self, _: &mut Net, _: TimerId, token: u64) {
        let relay = self.0.as_ref().expect("it was given");
        relay.mailbox.post(token).expect("there is room");
    }

    fn on_wake(&mut self, net: &mut Net) {
        let relay = self.0.as_mut().expect("it was given");
        for number in relay.inbox.drain(net) {
            relay.received.push(number);
            if number < 3 {
                net.start_timer(Duration::from_secs(number), number + 1);
            }
        }
    }
}

/// Posts between turns and within callbacks, in a world that drives the loop; its trace.
fn relayed(dialect: Dialect) -> String {
    let mut world = World::new(1);
    let options = NodeOptions::default().dialect(dialect);
    let node = world.node("relay", options, Node::default());
    let relay = Relay::new(world.net(node));
    let mailbox = relay.mailbox.clone();
    *world.handler(node) = Node(Some(relay));
    let began = world.now();
    mailbox.post(1).expect("there is room");
    mailbox.post(10).expect("there is room");
    world.run_for(Duration::from_millis(1500));
    mailbox.post(20).expect("there is room");
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.now().since(began), Duration::from_millis(11_500));
    let received = &world.handler(node).0.as_ref().expect("it was given").received;
    assert_eq!(*received, [1, 10, 2, 20, 3]);
    world.shut(node);
    assert_eq!(mailbox.post(4), Err(PostError::Closed(4)));
    world.trace()
}

#[test]
fn in_a_simulated_world_mail_is_a_part_of_the_trace() {
    for dialect in [Dialect::Readiness, Dialect::Completion] {
        let trace = relayed(dialect);
        assert_eq!(trace, relayed(dialect));
        let counts = trace.lines().filter_map(|line| line.split_once(" mailbox = "));
        let counts: Vec<&str> = counts.map(|(_, count)| count).collect();
        assert_eq!(counts, ["2 messages", "1 messages", "1 messages", "1 messages"], "{trace}");
    }
}

on_every_backend!(
    posts_before_the_loop_gets_to_them_are_one_batch,
    a_post_within_a_callback_arrives_in_the_next_turn,
    a_drain_takes_what_was_there_at_its_beginning,
    what_a_drain_leaves_is_told_in_the_next_turn,
    a_handler_that_takes_nothing_is_told_again_by_the_next_post,
    a_full_mailbox_gives_the_message_back_until_there_is_room,
    capacities_that_cannot_be_are_errors,
    without_its_inbox_everything_comes_back,
    a_closed_inbox_still_has_what_was_accepted,
    without_its_loop_everything_comes_back_but_what_was_accepted,
    one_wake_is_for_all_mailboxes,
    a_panic_in_the_middle_of_a_drain_loses_nothing,
    a_panic_before_another_drain_loses_nothing,
    a_handler_that_panics_for_ever_does_not_keep_the_others_from_their_turn,
    a_mailbox_keeps_the_loop_running_until_its_last_post_is_told,
    posts_to_a_loop_that_has_stopped_are_told_when_it_runs_again,
    every_message_is_dropped_once,
    both_halves_say_how_they_are,
);
