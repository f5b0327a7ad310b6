//! What a simulated kernel reports to its loop, and when.
//!
//! As in `epoll(7)`, edge-triggered: something that happens to a socket puts it on the ready
//! list; a wait takes the list and looks at each socket as it is then. So edges merge, and a
//! socket that is ready and to which nothing happens is not reported again.

use crate::backend::Event;
use crate::error::Errno;
use crate::id::Key;
use crate::time::Time;

use super::end::{EndIndex, Fin, Owner, Stage};
use super::machine::Socket;
use super::network::{Action, Network, Stepped};
use super::options::Dialect;
use super::trace::HostIndex;
use crate::fault::Fault;

/// How late a delayed event is at most, in microseconds.
const DELAY_MICROS: u64 = 20_000;
/// How much later a wait is interrupted again, in microseconds.
const EARLY_MICROS: u64 = 1_000;

impl Network {
    /// Puts a socket on the ready list of its machine.
    pub(super) fn wake(&mut self, host: HostIndex, handle: i32) {
        let machine = &mut self.machines[host];
        let Some(found) = machine.descriptor(handle).filter(|found| !found.is_loose) else {
            return;
        };
        if std::mem::replace(&mut found.is_queued, true) {
            self.report.merged_edges += 1;
            return;
        }
        machine.ready.push_back(handle);
        self.plan_turn(host, self.now);
    }

    /// Wakes a socket some time after this, if it is still there.
    pub(super) fn plan_wake(&mut self, index: EndIndex) {
        let end = self.end_mut(index);
        let (host, Owner::Socket { key, handle }) = (end.host, end.owner) else { return };
        let at = self.within_micros(DELAY_MICROS);
        self.queue.plan(at, Action::Wake { host, handle, key });
    }

    pub(super) fn wake_late(&mut self, host: HostIndex, handle: i32, key: Key) {
        if self.machines[host].view(handle).is_some_and(|found| found.key == key) {
            self.wake(host, handle);
        }
    }

    /// Reports something that is done.
    pub(super) fn complete(&mut self, host: HostIndex, event: Event) {
        self.machines[host].done.push(event);
        self.plan_turn(host, self.now);
    }

    pub(super) fn complete_send(&mut self, index: EndIndex, result: Result<usize, Errno>) {
        let end = self.end_mut(index);
        if let (host, Owner::Socket { key, .. }) = (end.host, end.owner) {
            self.complete(host, Event::Sent { key, result });
        }
    }

    /// Makes the next wait report an id as ready for everything, whether it is there or not.
    pub(crate) fn inject(&mut self, host: HostIndex, key: Key) {
        self.complete(host, everything(key));
    }

    pub(crate) fn fail_accepts(&mut self, host: HostIndex, errnos: &[i32]) {
        self.machines[host].scripted_accepts.extend(errnos);
        for index in 0..self.machines[host].listeners.len() {
            let listener = self.machines[host].listeners[index].as_ref();
            if let Some(handle) = listener.and_then(|listener| listener.handle) {
                self.wake(host, handle);
            }
        }
    }

    /// Says what the loop waits for on a socket.
    pub(super) fn interest(&mut self, host: HostIndex, handle: i32, read: bool, write: bool) {
        if self.machines[host].dialect == Dialect::Readiness {
            return;
        }
        let socket = self.machines[host].view(handle).map(|found| found.socket);
        if let Some(Socket::Conn(index)) = socket {
            let end = self.end_mut(index);
            let is_news = (read && !end.watch_read) || (write && !end.watch_write);
            (end.watch_read, end.watch_write) = (read, write);
            if is_news {
                // What is armed anew reports what is there.
                self.wake(host, handle);
            }
        }
    }

    /// Waits for events: with a loop that others give its turns to, only looks.
    pub(super) fn wait(
        &mut self,
        host: HostIndex,
        deadline: Option<Time>,
        events: &mut Vec<Event>,
    ) -> bool {
        self.count_call();
        if !self.machines[host].is_given {
            self.run_until_due(host, deadline);
        }
        let before = events.len();
        let woken = self.poll(host, events);
        let count = events.len() - before;
        self.report.events += count as u64;
        self.machines[host].turn_events = count + usize::from(woken);
        self.start_turn(host);
        woken
    }

    fn start_turn(&mut self, host: HostIndex) {
        self.report.turns += 1;
        self.machines[host].turn_progress = 0;
        let machine = &self.machines[host];
        if !machine.ready.is_empty() || !machine.done.is_empty() || machine.signal.is_raised() {
            self.plan_turn(host, self.now);
        }
    }

    fn poll(&mut self, host: HostIndex, events: &mut Vec<Event>) -> bool {
        if self.fault(host, Fault::WaitInterrupted) {
            // The next one is, too: before anything has happened.
            let at = self.within_micros(EARLY_MICROS);
            self.plan_turn(host, at);
            return false;
        }
        let mut batch = std::mem::take(&mut self.machines[host].ready);
        if batch.len() > 1 && self.fault(host, Fault::ShuffledBatch) {
            for last in (1..batch.len()).rev() {
                batch.swap(last, self.random.index(last + 1));
            }
        }
        if batch.len() > 1 && self.fault(host, Fault::SplitBatch) {
            let rest = batch.split_off(self.random.up_to(batch.len() - 1));
            self.machines[host].ready = rest;
        }
        // Completions of one socket come in order, and before an edge that follows from them.
        events.append(&mut self.machines[host].done);
        for handle in batch.drain(..) {
            self.report_socket(host, handle, events);
        }
        if self.machines[host].ready.is_empty() {
            // The list keeps its room.
            self.machines[host].ready = batch;
        }
        self.invent_events(host, events);
        self.machines[host].signal.take()
    }

    /// Reports one socket of the ready list, now or later.
    fn report_socket(&mut self, host: HostIndex, handle: i32, events: &mut Vec<Event>) {
        // One that was closed is off the list, even if its number has another owner.
        let found = self.machines[host].descriptor(handle).filter(|found| found.is_queued);
        let Some(found) = found else { return };
        found.is_queued = false;
        let (key, socket, is_closing) = (found.key, found.socket, found.is_closing);
        if is_closing {
            return;
        }
        if self.fault(host, Fault::DelayedEvent) {
            let at = self.within_micros(DELAY_MICROS);
            self.queue.plan(at, Action::Wake { host, handle, key });
            return;
        }
        let event = match socket {
            Socket::Nothing => None,
            Socket::Listener(_) => Some(listener_event(key)),
            Socket::Conn(index) if self.machines[host].dialect == Dialect::Readiness => {
                self.readiness(index, key)
            }
            Socket::Conn(index) => self.completion(index, key),
        };
        events.extend(event);
    }

    /// Looks at a socket as `tcp_poll` does.
    fn readiness(&mut self, index: EndIndex, key: Key) -> Option<Event> {
        let end = self.end_mut(index);
        if end.stage == Stage::Connecting {
            return None;
        }
        let has_mark = end.mark.is_some();
        let readable = !end.unread.is_empty() || end.is_at_end() || has_mark;
        let writable = end.is_writable() || end.is_dead() || end.fin != Fin::No;
        end.no_space |= !writable;
        let hang_up = end.is_hung_up();
        let exhaust = end.is_at_end() || has_mark;
        (readable || writable).then_some(Event::Ready { key, readable, writable, hang_up, exhaust })
    }

    /// Looks at a socket as a ring with a standing receive does.
    fn completion(&mut self, index: EndIndex, key: Key) -> Option<Event> {
        let end = self.end_mut(index);
        if end.stage == Stage::Connecting {
            return None;
        }
        let hang_up = end.is_hung_up();
        let watched = end.watch_read && (!end.unread.is_empty() || !end.arrived.is_empty());
        let readable = watched || hang_up || (end.watch_read && end.is_at_end());
        let writable = end.watch_write;
        if end.watch_read {
            end.end_shown = end.is_at_end();
            if !end.fin_in {
                // It is the receive that has taken it, whoever asks afterwards.
                end.recv_error = end.error.take().or(end.recv_error);
            }
            end.pull();
            self.tell_room(index);
        }
        let ready = readable || writable;
        ready.then_some(Event::Ready { key, readable, writable, hang_up, exhaust: true })
    }

    /// Reports what is not so.
    fn invent_events(&mut self, host: HostIndex, events: &mut Vec<Event>) {
        if self.fault(host, Fault::SpuriousEvent) {
            let number = self.random.index(1 << 20);
            events.extend(self.machines[host].some_key(number).map(everything));
        }
        if !self.machines[host].gone.is_empty() && self.fault(host, Fault::StaleEvent) {
            let which = self.random.index(self.machines[host].gone.len());
            events.push(everything(self.machines[host].gone[which]));
        }
    }

    /// Lets the world go on until a loop that waits by itself has something to do.
    fn run_until_due(&mut self, host: HostIndex, deadline: Option<Time>) {
        let mut postponed = Vec::new();
        loop {
            self.notice_signals();
            self.tell_failure();
            let machine = &self.machines[host];
            let clock = machine.clock.max(self.now);
            if self.next_at().is_some_and(|at| at <= clock) {
                // Of the past, as this loop sees it.
                if let Stepped::Turn(other) = self.step(clock) {
                    postponed.push(other);
                }
                continue;
            }
            let is_due = deadline.is_some_and(|deadline| deadline <= clock);
            let has_news = !machine.ready.is_empty() || !machine.done.is_empty();
            if is_due || has_news || machine.signal.is_raised() {
                break;
            }
            match self.step(deadline.unwrap_or(Time::NEVER)) {
                Stepped::Turn(other) => postponed.push(other),
                Stepped::Happened => {}
                Stepped::Quiet => {
                    let wake_at = deadline.unwrap_or_else(|| {
                        let name = &self.machines[host].name;
                        panic!("host {name} waits without a deadline, and nothing will happen")
                    });
                    self.now = self.now.max(wake_at);
                }
            }
        }
        for other in postponed.into_iter().filter(|other| *other != host) {
            self.plan_turn(other, self.now);
        }
    }
}

fn listener_event(key: Key) -> Event {
    Event::Ready { key, readable: true, writable: false, hang_up: false, exhaust: false }
}

fn everything(key: Key) -> Event {
    Event::Ready { key, readable: true, writable: true, hang_up: true, exhaust: true }
}
