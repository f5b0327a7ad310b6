//! A scripted connection: what both of its ends have of it.

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::backend::Event;
use crate::error::Errno;
use crate::id::Key;
use crate::segment::{Piece, Segment};
use crate::sys::errno::EPIPE;

use super::ready;

/// A connection, both ends.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) key: Option<Key>,
    pub(super) local: SocketAddr,
    pub(super) inbound: VecDeque<u8>,
    pub(super) fin: bool,
    pub(super) error: Option<i32>,
    pub(super) outbound: Vec<u8>,
    pub(super) window: usize,
    pub(super) most: usize,
    pub(super) finished: bool,
    pub(super) reset: bool,
    pub(super) closed: bool,
    pub(super) edge_in: bool,
    pub(super) edge_out: bool,
    pub(super) hang_up: bool,
    /// The loop does not watch for input.
    pub(super) ignored: bool,
    /// The loop watches for room to send, or for the connect: no one else is told of it.
    pub(super) watched: bool,
    pub(super) in_flight: Option<Flight>,
    pub(super) fail_send: Option<i32>,
}

/// A send in flight: handles of its segments, where the bytes were, and what they were.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) held: Vec<(Segment, usize, usize)>,
    pub(super) copy: Vec<u8>,
}

impl Link {
    /// Is the loop's from here on: what is there already is news.
    pub(super) fn register(&mut self, key: Key) {
        self.key = Some(key);
        (self.edge_in, self.edge_out, self.hang_up) = (true, true, self.reset);
        (self.ignored, self.watched) = (false, false);
    }

    /// The loop's side closes it.
    pub(super) fn close(&mut self, reset: bool) {
        // Unread input makes it a reset (RFC 9293 §3.6.1), in place of a FIN.
        let reset = reset || !self.inbound.is_empty();
        self.finished |= !reset;
        self.reset |= reset;
        self.closed = true;
    }

    /// Finishes the send in flight as far as there is room, or fails it.
    pub(super) fn land(&mut self, events: &mut Vec<Event>) {
        let Some(key) = self.key else { return };
        let stuck = self.window == 0 && !self.reset && !self.closed;
        let Some(flight) = self.in_flight.take_if(|_| !stuck) else {
            return;
        };
        let mut held: &[u8] = &flight.copy;
        for (segment, start, len) in &flight.held {
            let bytes = &segment.bytes()[*start..][..*len];
            assert_eq!(&held[..*len], bytes, "C10: bytes in flight have changed");
            held = &held[*len..];
        }
        let result = match self.take_send_error() {
            Some(errno) => Err(Errno(errno)),
            None if self.closed => Err(Errno(EPIPE)),
            None => Ok(self.take_bytes(&flight.copy)),
        };
        events.push(Event::Sent { key, result });
    }

    /// Takes from the loop what there is room for.
    pub(super) fn take_bytes(&mut self, data: &[u8]) -> usize {
        let taken = data.len().min(self.window).min(self.most);
        self.outbound.extend(&data[..taken]);
        self.window -= if self.window == usize::MAX { 0 } else { taken };
        taken
    }

    pub(super) fn take_send_error(&mut self) -> Option<i32> {
        let reset = self.reset.then(|| self.error.take().unwrap_or(EPIPE));
        self.fail_send.take().or(reset)
    }

    /// Reports the edges there were since the last report.
    pub(super) fn report(&mut self, events: &mut Vec<Event>) {
        let Some(key) = self.key.filter(|_| !self.closed) else {
            return;
        };
        let read = self.edge_in && !self.ignored;
        let (write, hang_up) = (self.edge_out && self.watched, self.hang_up);
        if read || write || hang_up {
            let exhaust = self.fin || self.reset;
            events.push(ready(key, read || hang_up, write, hang_up, exhaust));
            self.edge_in &= !read;
            self.edge_out &= !write;
            self.hang_up = false;
        }
    }
}

/// A counted handle of a piece: its segment, and where in it the piece lies.
pub(super) fn hold(piece: Piece<'_>) -> (Segment, usize, usize) {
    let segment = piece.segment.expect("nothing is staged for a backend that holds sends");
    let start = piece.bytes.as_ptr() as usize - segment.bytes().as_ptr() as usize;
    (segment.clone(), start, piece.bytes.len())
}
