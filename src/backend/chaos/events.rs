//! Waits that go wrong.

use std::io;

use super::Chaotic;
use super::sockets::Broken;
use crate::backend::Event;
use crate::error::Errno;
use crate::fault::Fault;
use crate::id::Key;
use crate::sys::errno::ECONNRESET;
use crate::time::Time;

/// For how many waits an event is withheld at most.
const DELAY_MAX_WAITS: u64 = 3;

impl Chaotic {
    pub(super) fn wait_and_disturb(
        &mut self,
        now: Time,
        deadline: Option<Time>,
        events: &mut Vec<Event>,
    ) -> io::Result<bool> {
        if self.happens(Fault::WaitInterrupted) {
            return Ok(false);
        }
        // What is withheld is due by the number of waits: none of them sleeps.
        let deadline = if self.sockets.owes() { Some(now) } else { deadline };
        let mut told = Vec::new();
        let woken = self.inner.wait(now, deadline, &mut told)?;
        self.sockets.pay(events);
        self.pass(told, events);
        self.invent(events);
        if events.len() > 1 && self.happens(Fault::ShuffledBatch) {
            for last in (1..events.len()).rev() {
                events.swap(last, self.random.index(last + 1));
            }
        }
        Ok(woken)
    }

    /// Tells events, but for those that are withheld.
    fn pass(&mut self, mut told: Vec<Event>, events: &mut Vec<Event>) {
        let mut kept = told.len();
        if told.len() > 1 && self.chaos.faults.happens(Fault::SplitBatch, &mut self.random) {
            kept = self.random.up_to(told.len() - 1);
        }
        for event in &told {
            if let Event::Ready { key, hang_up: true, .. } = *event {
                self.sockets.note_end(key);
            }
        }
        let rest = told.split_off(kept);
        for event in told {
            let is_late = self.chaos.faults.happens(Fault::DelayedEvent, &mut self.random);
            let waits = if is_late { self.random.below(DELAY_MAX_WAITS) } else { 0 };
            if is_late && self.sockets.delay(&event, waits) {
                self.counts.note(Fault::DelayedEvent);
            } else {
                events.push(event);
            }
        }
        let mut is_split = false;
        for event in rest {
            if self.sockets.delay(&event, 0) {
                is_split = true;
            } else {
                events.push(event);
            }
        }
        if is_split {
            self.counts.note(Fault::SplitBatch);
        }
    }

    /// Tells what is not so, and breaks a connection.
    fn invent(&mut self, events: &mut Vec<Event>) {
        if self.chaos.faults.happens(Fault::SpuriousEvent, &mut self.random) {
            let key = self.sockets.any(&mut self.random);
            self.report(Fault::SpuriousEvent, key, events);
        }
        if self.chaos.faults.happens(Fault::StaleEvent, &mut self.random) {
            let key = self.sockets.any_gone(&mut self.random);
            self.report(Fault::StaleEvent, key, events);
        }
        if self.chaos.faults.happens(Fault::Reset, &mut self.random) {
            self.reset_one();
        }
    }

    fn report(&mut self, kind: Fault, key: Option<Key>, events: &mut Vec<Event>) {
        let Some(key) = key else { return };
        let (readable, writable) = (true, true);
        events.push(Event::Ready { key, readable, writable, hang_up: false, exhaust: true });
        self.counts.note(kind);
    }

    fn reset_one(&mut self) {
        let Some(sock) = self.sockets.any_alive(&mut self.random) else { return };
        let unread_bytes = self.inner.unread_bytes(&sock);
        let broken = Broken { error: Some(Errno(ECONNRESET)), unread_bytes };
        self.sockets.break_off(sock.key, broken);
        self.counts.note(Fault::Reset);
    }
}
