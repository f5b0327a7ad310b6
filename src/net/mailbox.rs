//! Making mailboxes and draining them.

use std::io;

use crate::mailbox::{CAPACITY_MAX, Drain, Inbox, Mailbox};
use crate::net::Net;
use crate::options::invalid;

impl Net {
    /// Makes a mailbox for up to `capacity` waiting messages (1 to 2^24): threads
    /// [post](Mailbox::post) to the first half, the handler keeps the second and
    /// [drains](Inbox::drain) it in [`on_wake`](crate::Handler::on_wake). [`Mailbox`] says how to
    /// choose the capacity, and has an example.
    ///
    /// A loop may have several, of different messages: they share the wake-up, so that `on_wake`
    /// drains each of them.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] for a capacity that is out of range.
    pub fn mailbox<T: Send + 'static>(
        &mut self,
        capacity: usize,
    ) -> io::Result<(Mailbox<T>, Inbox<T>)> {
        if !(1..=CAPACITY_MAX).contains(&capacity) {
            return Err(invalid(&format!(
                "a mailbox for {capacity} messages (1 to {CAPACITY_MAX})"
            )));
        }
        Ok(self.mailboxes.make(capacity, &self.wakes))
    }

    /// Puts right what a panic cut off in `on_wake`, one turn later, so that a handler that always
    /// panics does not keep the others from their turn. Returns whether that was so.
    #[inline]
    pub(crate) fn wake_again(&mut self) -> bool {
        let was_cut_off = std::mem::take(&mut self.waking);
        if was_cut_off && self.mailboxes.have_posts() {
            self.wakes.wake();
        }
        was_cut_off
    }
}

impl<T> Inbox<T> {
    /// Takes out the messages that are there at this moment, oldest first, and no others: a
    /// snapshot (contract C12). What is posted meanwhile is told by another `on_wake`.
    ///
    /// To handle fewer at a time, `take` some of them: dropping the iterator leaves the rest in
    /// place, and `on_wake` is called again in the next turn. So it is after a panic in `on_wake`,
    /// for as long as any mailbox of the loop has messages, except that a turn without it comes
    /// between. Messages that no drain was begun for stay, too, but are not told again until
    /// something is posted.
    ///
    /// Waits for a post that another thread is in the middle of. That is a few instructions,
    /// unless that thread is preempted there: do not run the loop at a real-time priority above
    /// that of producers on the same core.
    ///
    /// # Re-entrancy
    ///
    /// Right in `on_wake`, allowed in every callback; a wake-up for what was taken earlier than
    /// that comes all the same, and finds nothing.
    pub fn drain(&mut self, net: &mut Net) -> Drain<'_, T> {
        self.drain_counted(|seen| net.backend.mailbox_len(seen))
    }
}
