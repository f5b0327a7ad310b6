//! Ends a test that would hang.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// Far beyond what any of these tests takes: that it passes means that a wake was lost.
const LOST: Duration = Duration::from_secs(120);

/// Ends the process if the loop it guards sleeps for ever, which no assertion could report.
pub struct Watchdog(mpsc::Sender<()>);

impl Watchdog {
    pub fn new(what: &'static str) -> Watchdog {
        let (alive, ended) = mpsc::channel();
        thread::spawn(move || {
            if ended.recv_timeout(LOST) == Err(RecvTimeoutError::Timeout) {
                eprintln!("the loop sleeps for ever: {what}");
                std::process::abort();
            }
        });
        Watchdog(alive)
    }

    pub fn over(self) {
        drop(self.0);
    }
}
