//! What both sides share: the loop, its clock, and the one command there is.

use std::io::{self, BufRead};
use std::thread;
use std::time::Duration;

use hotloop::{Checked, Config, Handler, Inbox, Loop, Mailbox, Missed, Net};

use crate::report::{Report, open_descriptors};

/// How often each side looks what there is to say. Every connection has its turn at every second.
pub(crate) const TICK: Duration = Duration::from_millis(50);
pub(crate) const TICK_TOKEN: u64 = 1;
/// How many ticks the last farewells may take.
pub(crate) const PATIENCE_TICKS: u64 = 600;

/// Come to an end.
#[derive(Debug)]
pub(crate) struct Stop;

/// A side's handler.
pub(crate) trait Side: Handler {
    /// Listens or dials.
    fn begin(&mut self, net: &mut Net);

    fn report(&mut self) -> &mut Report;
}

/// Runs a side until it has come to its end.
pub(crate) fn run<S: Side>(make: impl FnOnce(Inbox<Stop>) -> S) {
    let mut event_loop = Loop::new(Config::default()).expect("a loop");
    let (mailbox, inbox) = event_loop.net().mailbox(1).expect("a mailbox");
    let mut side = Checked::new(make(inbox));
    thread::spawn(move || stop_on_command(&mailbox));
    event_loop.net().start_repeating(TICK, Missed::Skip, TICK_TOKEN);
    let descriptors = open_descriptors();
    side.begin(event_loop.net());
    println!("ready");
    event_loop.run(&mut side).expect("a loop that runs");
    let left = event_loop.net().stats().connections;
    if left != 0 {
        side.report().fault("all", &format!("{left} connections are left"));
        event_loop.close_all(&mut side, Duration::ZERO).expect("a loop that runs");
    }
    side.report().end(&mut event_loop, descriptors);
}

/// Reads the command from the standard input. Its end is one, too: the script is gone.
fn stop_on_command(mailbox: &Mailbox<Stop>) {
    let mut line = String::new();
    let read = io::stdin().lock().read_line(&mut line);
    assert!(mailbox.post(Stop).is_ok(), "{read:?}: the loop has ended by itself");
}
