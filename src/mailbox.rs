//! Mailboxes: messages from other threads, bounded, in order, with one wake-up per batch.
//!
//! The queue is `concurrent-queue`'s. Everything that is promised here about the end of a mailbox
//! rests on one word of it: a close and a push are decided by the same atomic, so that each push
//! is either before the close, and its message is there to be received, or behind it, and its
//! message comes back.

use std::error::Error;
use std::fmt;
use std::iter::FusedIterator;
use std::sync::{Arc, Weak};

use concurrent_queue::{ConcurrentQueue, PushError};

use crate::wake::{Waker, Wakes};

/// How many messages a mailbox may be made for. Far above what a loop could lag behind and still
/// be of use; below what the queue's arithmetic allows.
pub(crate) const CAPACITY_MAX: usize = 1 << 24;

/// Posts messages into a loop from other threads: the sending half of [`Net::mailbox`].
///
/// `Clone`, `Send` and `Sync`: give each thread a clone, or share one. The [`Inbox`] is the other
/// half; the handler keeps it and drains it in [`on_wake`](crate::Handler::on_wake).
///
/// # What is promised
///
/// Contract C16: each message that [`post`](Mailbox::post) accepted is received exactly once,
/// and those of one thread in the order of its posts; between threads the order is that in which
/// the queue took them. A message that is not accepted comes back in the error. There is no third
/// way, also not while the loop stops or is dropped.
///
/// # The end
///
/// A mailbox is closed when its inbox or its loop is dropped, or by [`Inbox::close`]: what is
/// posted from then on comes back as [`PostError::Closed`]. A loop whose
/// [`run`](crate::Loop::run) has returned still accepts posts, and delivers them when it is run
/// again. As long as a `Mailbox` lives, like a [`Waker`], `run` does not return for want of
/// work: a handler that keeps one for itself ends with [`Net::stop`](crate::Net::stop).
///
/// # Capacity
///
/// The memory for all messages is allocated at once: `size_of::<T>()` and 8 bytes for each, so
/// box what is large. If every message is the answer to a job and the jobs are bounded, that bound
/// is the right capacity, and a post is never refused (`examples/mailbox.rs`). Otherwise take what
/// the producers make in the longest pause that the loop is allowed, and decide what a producer
/// does when it is refused: drop, merge, or come back later. To block is for producers, never
/// for the loop's own thread, which would wait for itself.
///
/// # Cost
///
/// A post makes two atomic exchanges and allocates nothing: some 10 ns, on a 2-core x86-64 virtual
/// machine. The first of a batch makes a system call and has the loop make one more, 1.5 µs
/// together. Where eight threads post at the same time, a message takes 120 to 600 ns from its
/// post to the handler, most of that for the cache lines that go back and forth and for the
/// sleeps between small batches.
///
/// [`Net::mailbox`]: crate::Net::mailbox
///
/// # Examples
///
/// ```
/// use std::thread;
///
/// use hotloop::{Config, ConnId, Handler, Inbox, Loop, Net};
///
/// /// Adds up what the threads have found.
/// struct Sum {
///     inbox: Inbox<u64>,
///     total: u64,
/// }
///
/// impl Handler for Sum {
///     fn on_data(&mut self, _: &mut Net, _: ConnId, data: &[u8]) -> usize {
///         data.len()
///     }
///
///     fn on_wake(&mut self, net: &mut Net) {
///         for number in self.inbox.drain(net) {
///             self.total += number;
///         }
///     }
/// }
///
/// fn main() -> std::io::Result<()> {
///     let mut event_loop = Loop::new(Config::default())?;
///     let (mailbox, inbox) = event_loop.net().mailbox(64)?;
///     for number in 1..=4 {
///         let mailbox = mailbox.clone();
///         thread::spawn(move || mailbox.post(number).expect("four fit, and the loop is there"));
///     }
///     drop(mailbox);
///     // Returns when the last thread has dropped its clone and what it posted was told.
///     let mut sum = Sum { inbox, total: 0 };
///     event_loop.run(&mut sum)?;
///     assert_eq!(sum.total, 10);
///     Ok(())
/// }
/// ```
pub struct Mailbox<T> {
    queue: Arc<ConcurrentQueue<T>>,
    waker: Waker,
}

impl<T> Mailbox<T> {
    /// Posts a message: it is in the next [`drain`](Inbox::drain), and `on_wake` is called for it.
    ///
    /// What the thread wrote before is visible to the handler. Does not block; waits at most for
    /// another thread that is in the middle of its own post or receive.
    ///
    /// # Errors
    ///
    /// The message comes back: [`PostError::Full`] if as many as the capacity are waiting, which
    /// wakes the loop as well, should its handler have left them; [`PostError::Closed`] for good.
    ///
    /// # Re-entrancy
    ///
    /// Allowed in every callback, also in the middle of a drain: `on_wake` comes in a later turn.
    pub fn post(&self, message: T) -> Result<(), PostError<T>> {
        match self.queue.push(message) {
            Ok(()) => {
                self.waker.wake();
                Ok(())
            }
            Err(PushError::Full(message)) => {
                // No accepted post comes that could remind a handler which has left them all.
                self.waker.wake();
                Err(PostError::Full(message))
            }
            Err(PushError::Closed(message)) => Err(PostError::Closed(message)),
        }
    }

    /// Returns whether every post will come back as [`PostError::Closed`]: a producer may end.
    pub fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }

    /// Returns how many messages are waiting at this moment.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Returns whether none is waiting at this moment.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Returns how many messages can wait.
    pub fn capacity(&self) -> usize {
        capacity(&self.queue)
    }
}

impl<T> Clone for Mailbox<T> {
    fn clone(&self) -> Mailbox<T> {
        Mailbox { queue: Arc::clone(&self.queue), waker: self.waker.clone() }
    }
}

impl<T> fmt::Debug for Mailbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug("Mailbox", &self.queue, f)
    }
}

/// Receives what was posted: the half of a [`Mailbox`] that the handler keeps.
///
/// Outlives its loop: what was accepted stays readable by [`try_recv`](Inbox::try_recv). Dropping
/// it closes the mailbox and drops what is in it.
///
/// # Examples
///
/// ```
/// use hotloop::{Config, Loop};
///
/// let mut event_loop = Loop::new(Config::default())?;
/// let (mailbox, mut inbox) = event_loop.net().mailbox(8)?;
/// mailbox.post("accepted").expect("there is room");
/// drop(event_loop);
/// assert!(mailbox.post("too late").is_err_and(|error| error.is_closed()));
/// assert_eq!(inbox.try_recv(), Some("accepted"), "it outlives its loop");
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Inbox<T> {
    queue: Arc<ConcurrentQueue<T>>,
    wakes: Arc<Wakes>,
}

impl<T> Inbox<T> {
    /// Takes the oldest message, if there is one.
    ///
    /// For what is left when the loop is gone or has stopped for good. Within callbacks
    /// [`drain`](Inbox::drain) is the right way: it takes what was there at its beginning, so that
    /// producers who are faster than the handler cannot keep it for ever.
    pub fn try_recv(&mut self) -> Option<T> {
        self.queue.pop().ok()
    }

    /// Closes the mailbox: posts come back from here on, and what was accepted before stays
    /// readable. Idempotent.
    pub fn close(&mut self) {
        self.queue.close();
    }

    /// Returns whether the mailbox was closed, by this side or by the end of its loop.
    pub fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }

    /// Returns how many messages are waiting at this moment.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Returns whether none is waiting at this moment.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Returns how many messages can wait.
    pub fn capacity(&self) -> usize {
        capacity(&self.queue)
    }

    /// Begins a drain of as many messages as the backend says of those that are there.
    pub(crate) fn drain_counted(&mut self, count: impl FnOnce(usize) -> usize) -> Drain<'_, T> {
        let seen = self.queue.len();
        let left = count(seen).min(seen);
        Drain { inbox: self, left, withheld: seen - left }
    }
}

impl<T> Drop for Inbox<T> {
    fn drop(&mut self) {
        self.close();
        // A mailbox that a thread keeps would hold them until it goes.
        while self.try_recv().is_some() {}
    }
}

impl<T> fmt::Debug for Inbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug("Inbox", &self.queue, f)
    }
}

/// The messages that were there when [`Inbox::drain`] was called, oldest first.
///
/// Dropped before its end, by a `break` or a panic for instance, it leaves the rest where it is,
/// and `on_wake` is called again in the next turn.
///
/// # Examples
///
/// At most a hundred per turn; the rest wakes the loop again:
///
/// ```
/// use hotloop::{Inbox, Net};
///
/// /// In `on_wake`.
/// fn take_some(net: &mut Net, inbox: &mut Inbox<String>) {
///     for line in inbox.drain(net).take(100) {
///         println!("{line}");
///     }
/// }
/// ```
#[must_use = "what is not taken out stays, and wakes the loop again"]
pub struct Drain<'a, T> {
    inbox: &'a mut Inbox<T>,
    /// How many are still to be taken. They are there: nobody else takes any.
    left: usize,
    /// How many were there but not counted.
    withheld: usize,
}

impl<T> Iterator for Drain<'_, T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        self.left = self.left.checked_sub(1)?;
        let message = self.inbox.try_recv();
        debug_assert!(message.is_some(), "C16: one of the messages that were there is gone");
        message
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<T> ExactSizeIterator for Drain<'_, T> {}

impl<T> FusedIterator for Drain<'_, T> {}

impl<T> Drop for Drain<'_, T> {
    fn drop(&mut self) {
        if self.left + self.withheld > 0 {
            self.inbox.wakes.wake();
        }
    }
}

impl<T> fmt::Debug for Drain<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drain").field("left", &self.left).finish_non_exhaustive()
    }
}

/// Why a message was not accepted, and the message.
///
/// # Examples
///
/// ```
/// use hotloop::{Mailbox, PostError};
///
/// /// Keeps what there is no room for; returns whether the loop is there.
/// fn post(mailbox: &Mailbox<u64>, number: u64, later: &mut Vec<u64>) -> bool {
///     match mailbox.post(number) {
///         Ok(()) => true,
///         Err(PostError::Full(number)) => {
///             later.push(number);
///             true
///         }
///         Err(PostError::Closed(_)) => false,
///     }
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum PostError<T> {
    /// As many messages as the mailbox has room for are waiting; later there may be room.
    Full(T),
    /// The inbox or the loop is gone, or the inbox was closed. It stays so.
    Closed(T),
}

impl<T> PostError<T> {
    /// Returns the message.
    pub fn into_inner(self) -> T {
        match self {
            PostError::Full(message) | PostError::Closed(message) => message,
        }
    }

    /// Returns whether it may be accepted later.
    pub fn is_full(&self) -> bool {
        matches!(self, PostError::Full(_))
    }

    /// Returns whether it will never be accepted.
    pub fn is_closed(&self) -> bool {
        matches!(self, PostError::Closed(_))
    }
}

/// Without the message, which need not be printable.
impl<T> fmt::Debug for PostError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_full() { "Full(..)" } else { "Closed(..)" })
    }
}

impl<T> fmt::Display for PostError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_full() { "the mailbox is full" } else { "the mailbox is closed" })
    }
}

impl<T> Error for PostError<T> {}

/// The mailboxes of a loop, which end with it.
#[derive(Default)]
pub(crate) struct Mailboxes {
    open: Vec<Weak<dyn Posts>>,
}

/// What a loop knows of a mailbox, whatever it carries.
trait Posts: Send + Sync {
    fn close(&self);
    fn is_empty(&self) -> bool;
}

impl<T: Send> Posts for ConcurrentQueue<T> {
    fn close(&self) {
        ConcurrentQueue::close(self);
    }

    fn is_empty(&self) -> bool {
        ConcurrentQueue::is_empty(self)
    }
}

impl Mailboxes {
    /// Makes a mailbox of a valid capacity.
    pub(crate) fn make<T: Send + 'static>(
        &mut self,
        capacity: usize,
        wakes: &Arc<Wakes>,
    ) -> (Mailbox<T>, Inbox<T>) {
        let queue = Arc::new(ConcurrentQueue::bounded(capacity));
        if self.open.len() == self.open.capacity() {
            // Only then, so that many of them do not cost the square of their number.
            self.open.retain(|one| one.strong_count() > 0);
        }
        let posts: Arc<dyn Posts> = Arc::clone(&queue) as Arc<dyn Posts>;
        self.open.push(Arc::downgrade(&posts));
        let inbox = Inbox { queue: Arc::clone(&queue), wakes: Arc::clone(wakes) };
        (Mailbox { queue, waker: wakes.waker() }, inbox)
    }

    /// Returns whether a message waits in any of them.
    pub(crate) fn have_posts(&self) -> bool {
        self.open.iter().filter_map(Weak::upgrade).any(|posts| !posts.is_empty())
    }
}

impl Drop for Mailboxes {
    fn drop(&mut self) {
        self.open.iter().filter_map(Weak::upgrade).for_each(|posts| posts.close());
    }
}

#[allow(clippy::expect_used, reason = "it was made bounded")]
fn capacity<T>(queue: &ConcurrentQueue<T>) -> usize {
    queue.capacity().expect("it was made bounded")
}

fn debug<T>(name: &str, queue: &ConcurrentQueue<T>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (len, is_closed) = (queue.len(), queue.is_closed());
    let mut text = f.debug_struct(name);
    text.field("len", &len).field("capacity", &capacity(queue)).field("is_closed", &is_closed);
    text.finish_non_exhaustive()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::backend::Signal;

    #[derive(Debug, Default)]
    struct Count(AtomicUsize);

    impl Signal for Count {
        fn raise(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A loop's side of mailboxes, without a loop.
    #[derive(Default)]
    struct Side {
        count: Arc<Count>,
        mailboxes: Mailboxes,
    }

    impl Side {
        fn mailbox(&mut self, capacity: usize) -> (Mailbox<u32>, Inbox<u32>, Arc<Wakes>) {
            let wakes = Wakes::new(Arc::clone(&self.count) as Arc<dyn Signal>);
            let (mailbox, inbox) = self.mailboxes.make(capacity, &wakes);
            (mailbox, inbox, wakes)
        }

        fn raised(&self) -> usize {
            self.count.0.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn the_posts_of_a_batch_raise_one_signal() {
        let mut side = Side::default();
        let (mailbox, mut inbox, wakes) = side.mailbox(8);
        let other = mailbox.clone();
        for round in 1..=3 {
            assert_eq!((mailbox.post(1), other.post(2), mailbox.post(3)), (Ok(()), Ok(()), Ok(())));
            assert_eq!(side.raised(), round);
            assert!(wakes.take());
            assert_eq!(inbox.drain_counted(|seen| seen).collect::<Vec<_>>(), [1, 2, 3]);
            assert!(!wakes.take(), "a drain to the end leaves nothing to be told");
        }
    }

    #[test]
    fn what_is_left_of_a_drain_or_withheld_from_it_raises_the_signal() {
        let mut side = Side::default();
        let (mailbox, mut inbox, wakes) = side.mailbox(8);
        (0..4).for_each(|number| mailbox.post(number).expect("there is room"));
        assert!(wakes.take());
        let mut drain = inbox.drain_counted(|seen| seen);
        assert_eq!((drain.len(), drain.next(), drain.len()), (4, Some(0), 3));
        drop(drain);
        assert_eq!((side.raised(), wakes.take()), (2, true));
        assert_eq!(inbox.drain_counted(|_| 1).collect::<Vec<_>>(), [1]);
        assert_eq!((side.raised(), wakes.take()), (3, true));
        let mut drain = inbox.drain_counted(|_| usize::MAX);
        assert_eq!((drain.by_ref().collect::<Vec<_>>(), drain.next()), (vec![2, 3], None));
        drop(drain);
        assert_eq!((side.raised(), wakes.take()), (3, false));
    }

    #[test]
    fn the_mailboxes_that_are_gone_are_forgotten() {
        let mut side = Side::default();
        let kept: Vec<_> = (0..3).map(|_| side.mailbox(1)).collect();
        (0..1000).for_each(|_| drop(side.mailbox(1)));
        assert!(side.mailboxes.open.len() < 16, "{}", side.mailboxes.open.len());
        drop(side);
        assert!(kept.iter().all(|(mailbox, ..)| mailbox.post(1) == Err(PostError::Closed(1))));
    }

    #[test]
    fn an_error_says_which_and_gives_the_message_back() {
        let mut side = Side::default();
        let (mailbox, mut inbox, _) = side.mailbox(1);
        mailbox.post(1).expect("there is room");
        let full = mailbox.post(2).expect_err("it is full");
        assert_eq!((full.is_full(), full.is_closed(), full.into_inner()), (true, false, 2));
        assert_eq!(
            (full.to_string(), format!("{full:?}")),
            words("the mailbox is full", "Full(..)")
        );
        inbox.close();
        let closed = mailbox.post(3).expect_err("it is closed");
        assert_eq!((closed.is_full(), closed.is_closed(), closed.into_inner()), (false, true, 3));
        let (shown, debug) = (closed.to_string(), format!("{closed:?}"));
        assert_eq!((shown, debug), words("the mailbox is closed", "Closed(..)"));
        assert_eq!((inbox.try_recv(), inbox.try_recv()), (Some(1), None));
    }

    fn words(shown: &str, debug: &str) -> (String, String) {
        (shown.to_owned(), debug.to_owned())
    }

    #[test]
    fn both_halves_can_go_to_other_threads() {
        fn is_send_and_sync<T: Send + Sync>() {}
        fn is_send<T: Send>() {}
        // A message that is Send but not Sync.
        is_send_and_sync::<Mailbox<std::cell::Cell<u8>>>();
        is_send::<Inbox<std::cell::Cell<u8>>>();
    }
}
