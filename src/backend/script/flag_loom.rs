//! What wakes a scripted loop under loom: an eventfd in edge-triggered epoll as `Epoll` uses it,
//! and no better than it has to be.
//!
//! - It orders what `Signal` says that it does, and nothing else.
//! - Only a raise that finds it reset makes an edge. Linux makes one of each; that adds waits that
//!   end early, and no other order of steps.
//! - Between the end of the wait and the reset others may step in.

use crate::backend::Signal;
use crate::sys::sync::{AtomicBool, Ordering};

/// Far above what other threads could do until they have ended: they are let go first, each time.
const FRUITLESS_LOOKS_MAX: usize = 100;

/// Whether the counter is not 0.
#[derive(Debug)]
pub(super) struct Flag(AtomicBool);

impl Default for Flag {
    fn default() -> Flag {
        Flag(AtomicBool::new(false))
    }
}

impl Flag {
    /// Returns whether it was raised since the last time; `sleeps` until it is.
    pub(super) fn take(&self, sleeps: bool) -> bool {
        let mut looks = 0;
        // An exchange, not a load: a kernel shows nothing that is past.
        while !self.0.fetch_and(true, Ordering::Relaxed) {
            if !sleeps {
                return false;
            }
            looks += 1;
            assert!(looks < FRUITLESS_LOOKS_MAX, "asleep for ever: a wake is lost (C16)");
            loom::thread::yield_now();
        }
        self.0.swap(false, Ordering::Acquire)
    }
}

impl Signal for Flag {
    fn raise(&self) {
        self.0.swap(true, Ordering::Release);
    }
}
