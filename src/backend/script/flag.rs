//! What wakes a scripted loop.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::backend::Signal;

#[derive(Debug, Default)]
pub(super) struct Flag(AtomicBool);

impl Flag {
    /// Returns whether it was raised since the last time. Nobody sleeps here: time is virtual.
    pub(super) fn take(&self, _sleeps: bool) -> bool {
        self.0.swap(false, Ordering::AcqRel)
    }
}

impl Signal for Flag {
    fn raise(&self) {
        self.0.store(true, Ordering::Release);
    }
}
