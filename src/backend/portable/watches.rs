//! What is watched, and what the core knows of it.
//!
//! With edges a socket is registered once for everything. Otherwise a direction is watched while
//! it is wanted and the core does not know that it is ready: from a call that would have blocked
//! to the event that says that it will not. What has to be armed again is collected and seen to
//! at the start of the next wait, so that a socket that is closed in between costs nothing and
//! one that changes twice is changed once.

#![allow(
    clippy::indexing_slicing,
    clippy::expect_used,
    reason = "places of slots that the table was grown to"
)]

use std::io;
use std::time::Duration;

use slab::Slab;
use socket2::Socket;

use crate::backend::{Event, Sock};
use crate::error::Errno;
use crate::id::Key;
use crate::sys::errno;
use crate::sys::poller::{IS_INHERITED, Mode, PortablePoller, Report, Watch};
use crate::sys::stream;

#[derive(Debug)]
struct Watched {
    socket: Socket,
    key: Key,
    /// What the core waits for.
    wanted: Watch,
    /// What was reported, and no call has answered since that it would block.
    ready: Watch,
    /// What the poller watches; `None`: it has to be armed to report anything.
    armed: Option<Watch>,
    is_added: bool,
    /// A hang-up was reported. It stays, and every call answers at once: there is nothing to wait
    /// for until one would block after all, but for the reset that may follow both sides' FIN.
    is_hung_up: bool,
    /// The poller has refused to watch it, and nobody has been told.
    refused: Option<Errno>,
    /// On the list of those to arm.
    is_queued: bool,
}

/// The sockets of a loop. A handle is a place in `sockets`.
#[derive(Debug)]
pub(super) struct Watches {
    poller: PortablePoller,
    sockets: Slab<Watched>,
    /// Those whose registration may have to change before the next wait.
    queue: Vec<usize>,
    /// Those that the poller has refused to watch, and no wait has reported.
    refused: Vec<usize>,
}

const NOTHING: Watch = Watch { read: false, write: false, edge: false };
const EVERYTHING: Watch = Watch { read: true, write: true, edge: false };
/// What does not report a hang-up that is known again and again. One who does not read does not
/// learn of a reset behind both sides' FIN where there are no edges.
const NEWS_OF_HANG_UP: Watch = Watch { read: false, write: false, edge: true };

impl Watches {
    pub(super) fn new(poller: PortablePoller) -> Watches {
        Watches { poller, sockets: Slab::new(), queue: Vec::new(), refused: Vec::new() }
    }

    pub(super) fn poller(&self) -> &PortablePoller {
        &self.poller
    }

    /// Holds a socket and watches it.
    pub(super) fn add(
        &mut self,
        socket: Socket,
        key: Key,
        wanted: Watch,
    ) -> Result<i32, (io::Error, Socket)> {
        let watch = if self.is_edge() { EVERYTHING } else { wanted };
        match self.poller.add(&socket, self.sockets.vacant_key(), watch) {
            Ok(()) => Ok(self.insert(socket, key, wanted, Some(watch))),
            Err(error) => Err((error, socket)),
        }
    }

    /// Holds a socket that nothing will happen to.
    pub(super) fn hold(&mut self, socket: Socket, key: Key) -> i32 {
        self.insert(socket, key, NOTHING, None)
    }

    fn insert(&mut self, socket: Socket, key: Key, wanted: Watch, armed: Option<Watch>) -> i32 {
        debug_assert!(super::is_watched(key), "{key:?} has no events");
        let place = self.sockets.insert(Watched {
            socket,
            key,
            wanted,
            ready: NOTHING,
            armed,
            is_added: armed.is_some(),
            is_hung_up: false,
            refused: None,
            is_queued: false,
        });
        i32::try_from(place).expect("a process has fewer than 2^31 sockets")
    }

    /// Returns a socket that the core holds.
    pub(super) fn socket(&self, sock: &Sock) -> &Socket {
        &self.sockets[place(sock)].socket
    }

    /// Returns a socket on which a call is to be made, unless the poller has refused to watch it:
    /// that is told once.
    pub(super) fn usable(&mut self, sock: &Sock) -> Result<&Socket, Errno> {
        let watched = &mut self.sockets[place(sock)];
        match watched.refused.take() {
            Some(error) => Err(error),
            None => Ok(&watched.socket),
        }
    }

    /// Ends the registration of a socket and hands it out.
    pub(super) fn remove(&mut self, sock: &Sock) -> Socket {
        let watched = self.sockets.remove(place(sock));
        if watched.is_added {
            if let Err(error) = self.poller.delete(&watched.socket) {
                log::warn!("{:?} stays registered: {error}", watched.key);
            }
        }
        watched.socket
    }

    /// Closes a socket of a loop that goes away.
    pub(super) fn discard(&mut self, sock: &Sock) {
        if IS_INHERITED {
            self.sockets.remove(place(sock));
        } else {
            self.remove(sock);
        }
    }

    /// Notes what the core waits for.
    pub(super) fn want(&mut self, sock: &Sock, wanted: Watch) {
        self.sockets[place(sock)].wanted = wanted;
        self.change(sock);
    }

    /// Notes that a receive or an accept would have blocked.
    pub(super) fn read_blocked(&mut self, sock: &Sock) {
        let watched = &mut self.sockets[place(sock)];
        (watched.ready.read, watched.is_hung_up) = (false, false);
        self.change(sock);
    }

    /// Notes that a send would have blocked.
    pub(super) fn write_blocked(&mut self, sock: &Sock) {
        let watched = &mut self.sockets[place(sock)];
        (watched.ready.write, watched.is_hung_up) = (false, false);
        self.change(sock);
    }

    /// Arms what has to be armed, waits, and reports.
    pub(super) fn wait(
        &mut self,
        timeout: Option<Duration>,
        events: &mut Vec<Event>,
    ) -> io::Result<bool> {
        self.catch_up();
        let timeout = if self.refused.is_empty() { timeout } else { Some(Duration::ZERO) };
        for place in self.refused.drain(..) {
            events.extend(self.sockets.get(place).map(|watched| watched.event(true, true, true)));
        }
        let mode = self.poller.mode();
        let (woken, reports) = self.poller.wait(timeout)?;
        for report in reports {
            let Some(watched) = self.sockets.get_mut(report.number) else { continue };
            watched.note(&report, mode);
            if mode != Mode::Edge {
                if report.urgent {
                    stream::discard_urgent(&watched.socket);
                }
                enqueue(&mut self.queue, watched, report.number);
            }
            events.push(watched.event(report.readable, report.writable, report.hang_up));
        }
        Ok(woken)
    }

    /// Makes the registrations what they should be. One that cannot be is reported by the next
    /// wait, so that somebody asks.
    pub(super) fn catch_up(&mut self) {
        for place in self.queue.drain(..) {
            let Some(watched) = self.sockets.get_mut(place) else { continue };
            watched.is_queued = false;
            if let Err(error) = watched.arm(&self.poller, place) {
                log::warn!("{:?} cannot be watched: {error}", watched.key);
                watched.refused = Some(errno::of_io(&error));
                self.refused.push(place);
            }
        }
    }

    /// Returns whether the next wait has more to do than to wait.
    pub(super) fn is_behind(&self) -> bool {
        let has_edges = self.poller.has_edges();
        let due = |place: &usize| self.sockets.get(*place)?.due(has_edges);
        !self.refused.is_empty() || self.queue.iter().any(|place| due(place).is_some())
    }

    fn is_edge(&self) -> bool {
        self.poller.mode() == Mode::Edge
    }

    /// Sees to it that a socket is looked at before the next wait.
    fn change(&mut self, sock: &Sock) {
        if !self.is_edge() {
            let place = place(sock);
            enqueue(&mut self.queue, &mut self.sockets[place], place);
        }
    }
}

impl Watched {
    /// Notes what was reported.
    fn note(&mut self, report: &Report, mode: Mode) {
        self.ready.read |= report.readable || report.hang_up;
        self.ready.write |= report.writable || report.hang_up;
        self.is_hung_up |= report.hang_up;
        if matches!(mode, Mode::Oneshot | Mode::EdgeOneshot) {
            self.armed = self.armed.filter(|armed| armed.edge);
        }
    }

    fn event(&self, readable: bool, writable: bool, hang_up: bool) -> Event {
        let (readable, writable) = (readable || hang_up, writable || hang_up);
        Event::Ready { key: self.key, readable, writable, hang_up, exhaust: true }
    }

    /// Makes the registration what it has to be.
    fn arm(&mut self, poller: &PortablePoller, place: usize) -> io::Result<()> {
        let Some(due) = self.due(poller.has_edges()) else { return Ok(()) };
        match due {
            Some(watch) if self.is_added => poller.modify(&self.socket, place, watch)?,
            Some(watch) => poller.add(&self.socket, place, watch)?,
            None => poller.delete(&self.socket)?,
        }
        (self.armed, self.is_added) = (due, due.is_some());
        Ok(())
    }

    /// Returns what the registration has to become (`Some(None)`: to end), if it has to change.
    fn due(&self, has_edges: bool) -> Option<Option<Watch>> {
        let due = if self.is_hung_up {
            has_edges.then_some(NEWS_OF_HANG_UP)
        } else {
            let read = self.wanted.read && !self.ready.read;
            let write = self.wanted.write && !self.ready.write;
            Some(Watch { read, write, edge: false })
        };
        (self.armed != due).then_some(due)
    }
}

/// Puts a socket on the list of those to arm, once.
fn enqueue(queue: &mut Vec<usize>, watched: &mut Watched, number: usize) {
    if !std::mem::replace(&mut watched.is_queued, true) {
        queue.push(number);
    }
}

fn place(sock: &Sock) -> usize {
    usize::try_from(sock.handle).expect("a handle is not negative")
}
