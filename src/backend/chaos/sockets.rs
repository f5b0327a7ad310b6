//! The sockets on which faults are made, and what is owed about each.

use std::collections::{BTreeMap, VecDeque};

use crate::backend::{Event, Sock};
use crate::error::Errno;
use crate::id::{Key, Kind};
use crate::random::Random;

/// How many closed sockets are remembered, for events that come too late.
const GONE_MAX: usize = 16;

/// An event that is still to be told.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Owed {
    readable: bool,
    writable: bool,
    hang_up: bool,
    /// After so many more waits.
    waits: u64,
}

impl Owed {
    fn event(self, key: Key) -> Event {
        let Owed { readable, writable, hang_up, .. } = self;
        // What the kernel has said meanwhile may have been told already: a short receive proves
        // nothing until it says something new.
        Event::Ready { key, readable, writable, hang_up, exhaust: true }
    }
}

/// A connection that is over, by what its calls answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Broken {
    /// What nobody was told yet.
    pub(super) error: Option<Errno>,
    /// What had arrived when it broke.
    pub(super) unread_bytes: usize,
}

#[derive(Debug)]
pub(super) struct Socket {
    pub(super) sock: Sock,
    /// That by which it was chosen; what a listener accepts is chosen by its own.
    pub(super) port: Option<u16>,
    /// A connection whose connect is done.
    pub(super) is_up: bool,
    /// It has broken by itself: a would-block would be taken for the end of what there is to read.
    pub(super) is_ending: bool,
    pub(super) broken: Option<Broken>,
}

/// The chosen sockets, in the order of their keys: what is drawn among them is for the seed alone.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    by_key: BTreeMap<u64, Socket>,
    owed: BTreeMap<u64, Owed>,
    gone: VecDeque<Key>,
}

impl Sockets {
    pub(super) fn insert(&mut self, sock: Sock, port: Option<u16>, is_up: bool) {
        let socket = Socket { sock, port, is_up, is_ending: false, broken: None };
        self.by_key.insert(sock.key.bits(), socket);
    }

    pub(super) fn remove(&mut self, key: Key) {
        self.owed.remove(&key.bits());
        if self.by_key.remove(&key.bits()).is_some() {
            self.gone.truncate(GONE_MAX - 1);
            self.gone.push_front(key);
        }
    }

    pub(super) fn get(&self, key: Key) -> Option<&Socket> {
        self.by_key.get(&key.bits())
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut Socket> {
        self.by_key.get_mut(&key.bits())
    }

    /// Notes that a connection has broken by itself.
    pub(super) fn note_end(&mut self, key: Key) {
        if let Some(socket) = self.get_mut(key) {
            socket.is_ending = true;
        }
    }

    /// Returns whether something is owed.
    pub(super) fn owes(&self) -> bool {
        !self.owed.is_empty()
    }

    /// Has the next wait say that a socket is ready.
    pub(super) fn owe(&mut self, key: Key, readable: bool, writable: bool) {
        self.withhold(key, Owed { readable, writable, hang_up: false, waits: 0 });
    }

    /// Withholds an event for so many waits more than one; merges it with what is owed already.
    /// Returns whether it is one of a chosen socket.
    pub(super) fn delay(&mut self, event: &Event, waits: u64) -> bool {
        match *event {
            Event::Ready { key, readable, writable, hang_up, .. } if self.get(key).is_some() => {
                self.withhold(key, Owed { readable, writable, hang_up, waits });
                true
            }
            _ => false,
        }
    }

    /// Breaks a connection: the next wait says so.
    pub(super) fn break_off(&mut self, key: Key, broken: Broken) {
        if let Some(socket) = self.get_mut(key) {
            socket.broken = Some(broken);
            let all = Owed { readable: true, writable: true, hang_up: true, waits: 0 };
            self.owed.insert(key.bits(), all);
        }
    }

    fn withhold(&mut self, key: Key, more: Owed) {
        let owed = self.owed.entry(key.bits()).or_insert(more);
        owed.readable |= more.readable;
        owed.writable |= more.writable;
        owed.hang_up |= more.hang_up;
    }

    /// Tells what is due.
    pub(super) fn pay(&mut self, events: &mut Vec<Event>) {
        let by_key = &self.by_key;
        self.owed.retain(|bits, owed| {
            let is_due = owed.waits == 0;
            if is_due {
                events.extend(by_key.get(bits).map(|socket| owed.event(socket.sock.key)));
            }
            owed.waits = owed.waits.saturating_sub(1);
            !is_due
        });
    }

    /// Draws one of the sockets.
    pub(super) fn any(&self, random: &mut Random) -> Option<Key> {
        if self.by_key.is_empty() {
            return None;
        }
        self.by_key.values().nth(random.index(self.by_key.len())).map(|socket| socket.sock.key)
    }

    /// Draws one of those that were closed last.
    pub(super) fn any_gone(&self, random: &mut Random) -> Option<Key> {
        let gone = (!self.gone.is_empty()).then(|| random.index(self.gone.len()))?;
        self.gone.get(gone).copied()
    }

    /// Draws one of the connections that are up and not broken.
    pub(super) fn any_alive(&self, random: &mut Random) -> Option<Sock> {
        let key = self.any(random).filter(|key| key.kind() == Some(Kind::Conn))?;
        let alive = self.get(key).filter(|socket| socket.is_up && socket.broken.is_none())?;
        Some(alive.sock)
    }
}
