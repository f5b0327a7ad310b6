//! Waking a loop from another thread.

use std::fmt;
use std::sync::Arc;

use crate::backend::Signal;
use crate::sys::sync::{AtomicBool, AtomicUsize, Ordering};

/// Wakes a loop from another thread: its handler's `on_wake` follows.
///
/// The only part of a loop that is `Send + Sync`. Wakes are coalesced: however many threads wake
/// a loop before it gets to it, `on_wake` comes once, and at most one of them makes a system
/// call. None is lost (contract C16): what a thread wrote before [`wake`](Waker::wake) is visible
/// in the `on_wake` that follows.
///
/// As long as a `Waker` lives, [`Loop::run`](crate::Loop::run) does not return for want of work.
/// A `Waker` may outlive its loop; it does nothing then.
///
/// # Examples
///
/// ```
/// use std::thread;
///
/// use hotloop::{Config, ConnId, Handler, Loop, Net};
///
/// #[derive(Default)]
/// struct Woken(u32);
///
/// impl Handler for Woken {
///     fn on_data(&mut self, _: &mut Net, _: ConnId, data: &[u8]) -> usize {
///         data.len()
///     }
///
///     fn on_wake(&mut self, _: &mut Net) {
///         self.0 += 1;
///     }
/// }
///
/// let mut event_loop = Loop::new(Config::default())?;
/// let waker = event_loop.waker();
/// thread::spawn(move || waker.wake());
/// let mut woken = Woken::default();
/// event_loop.run(&mut woken)?; // until the thread has dropped its waker
/// assert_eq!(woken.0, 1);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Waker {
    shared: Arc<Wakes>,
}

impl Waker {
    /// Makes the loop's current or next wait return, and `on_wake` be called.
    ///
    /// Does not block and does not fail. From within a callback it means the next turn.
    pub fn wake(&self) {
        self.shared.wake();
    }
}

impl Clone for Waker {
    fn clone(&self) -> Waker {
        self.shared.waker()
    }
}

impl Drop for Waker {
    fn drop(&mut self) {
        if self.shared.wakers.fetch_sub(1, Ordering::AcqRel) == 1 {
            // The loop may be waiting for this one alone.
            self.shared.signal.raise();
        }
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waker")
    }
}

/// What a loop shares with its wakers.
#[derive(Debug)]
pub(crate) struct Wakes {
    /// A wake was asked for and the loop has not got to it. Cleared before `on_wake` and after
    /// the signal is reset: in the other order a wake in between would be lost.
    posted: AtomicBool,
    wakers: AtomicUsize,
    signal: Arc<dyn Signal>,
}

impl Wakes {
    pub(crate) fn new(signal: Arc<dyn Signal>) -> Arc<Wakes> {
        let (posted, wakers) = (AtomicBool::new(false), AtomicUsize::new(0));
        Arc::new(Wakes { posted, wakers, signal })
    }

    /// Makes one more waker.
    pub(crate) fn waker(self: &Arc<Wakes>) -> Waker {
        self.wakers.fetch_add(1, Ordering::AcqRel);
        Waker { shared: Arc::clone(self) }
    }

    /// Asks for a wake, and raises the signal if none was asked for.
    #[inline]
    pub(crate) fn wake(&self) {
        if !self.posted.swap(true, Ordering::AcqRel) {
            self.signal.raise();
        }
    }

    /// Returns whether there are wakers, or a wake of one that is gone was not told yet.
    pub(crate) fn in_use(&self) -> bool {
        // In this order: who sees that the last waker is gone sees what it posted.
        self.wakers.load(Ordering::Acquire) > 0 || self.posted.load(Ordering::Acquire)
    }

    /// Takes what was posted since the last time.
    pub(crate) fn take(&self) -> bool {
        self.posted.swap(false, Ordering::AcqRel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default)]
    struct Count(AtomicUsize);

    impl Signal for Count {
        fn raise(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn wakes() -> (Arc<Count>, Arc<Wakes>) {
        let count = Arc::new(Count::default());
        (Arc::clone(&count), Wakes::new(count))
    }

    #[test]
    fn wakes_before_the_loop_gets_to_them_raise_one_signal() {
        let (count, wakes) = wakes();
        let waker = wakes.waker();
        waker.wake();
        waker.clone().wake();
        assert_eq!((count.0.load(Ordering::Relaxed), wakes.take(), wakes.take()), (1, true, false));
        waker.wake();
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn the_last_waker_raises_the_signal_without_a_wake() {
        let (count, wakes) = wakes();
        let (one, other) = (wakes.waker(), wakes.waker());
        drop(one);
        assert!(wakes.in_use());
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
        drop(other);
        assert!(!wakes.in_use() && !wakes.take());
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
    }
}
