//! What the model posts to itself: numbers one by one, and the account of them (C16).

use hotloop::{Inbox, Mailbox, Net, PostError};

/// Few, so that it is full at times.
const CAPACITY: usize = 3;

/// A mailbox of the loop under test, once there is one.
#[derive(Default)]
pub struct Mail {
    halves: Option<(Mailbox<u64>, Inbox<u64>)>,
    posted: u64,
    received: u64,
}

impl Mail {
    /// Posts the next number, or is told that there is no room for it.
    pub fn post(&mut self, net: &mut Net) {
        let make = || net.mailbox(CAPACITY).expect("a valid capacity");
        let (mailbox, inbox) = self.halves.get_or_insert_with(make);
        assert_eq!(inbox.len() as u64, self.posted - self.received, "C16: waiting");
        let is_full = inbox.len() == CAPACITY;
        let expected = if is_full { Err(PostError::Full(self.posted)) } else { Ok(()) };
        assert_eq!(mailbox.post(self.posted), expected, "C16: a post");
        self.posted += u64::from(!is_full);
    }

    /// Takes out what is there, every other time only the first; returns whether some is left.
    pub fn take(&mut self, net: &mut Net) -> bool {
        let Some((_, inbox)) = &mut self.halves else { return false };
        let most = if net.stats().wakes % 2 == 0 { 1 } else { CAPACITY };
        for number in inbox.drain(net).take(most) {
            assert_eq!(number, self.received, "C16: in order, each once");
            self.received += 1;
        }
        !inbox.is_empty()
    }

    /// Everybody had time enough.
    pub fn check_nothing_is_owed(&self) {
        assert_eq!(self.received, self.posted, "C16: posts were not told");
    }

    /// The loop is gone: what was accepted is there, and nothing else is accepted.
    pub fn end(&mut self) {
        let Mail { halves, posted, received } = std::mem::take(self);
        let Some((mailbox, mut inbox)) = halves else { return };
        assert_eq!(mailbox.post(posted), Err(PostError::Closed(posted)), "C16: the loop is gone");
        let rest: Vec<u64> = std::iter::from_fn(|| inbox.try_recv()).collect();
        assert_eq!(rest, (received..posted).collect::<Vec<_>>(), "C16: the loop is gone");
    }
}
