//! What is watched, and what the core knows of it.
//!
//! With edges a socket is registered once for everything. Otherwise a direction is watched while
//! it is wanted and the core does not know that it is ready: from a call that would have blocked
//! to the event that says that it will not. What has to be armed again is collected and seen to
//! at the start of the next wait, so that a socket that is closed in between costs nothing and
//! one that changes twice is changed once.

use std::io;
use std::time::Duration;

use slab::Slab;
use socket2::Socket;

use crate::backend::{Event, Sock};
use crate::id::Key;
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
    /// for until one would block after all.
    is_hung_up: bool,
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
}

const NOTHING: Watch = Watch { read: false, write: false };
const EVERYTHING: Watch = Watch { read: true, write: true };

impl Watches {
    pub(super) fn new(poller: PortablePoller) -> Watches {
        Watches { poller, sockets: Slab::new(), queue: Vec::new() }
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
            is_queued: false,
        });
        i32::try_from(place).expect("a process has fewer than 2^31 sockets")
    }

    /// Returns a socket that the core holds.
    pub(super) fn socket(&self, sock: &Sock) -> &Socket {
        &self.sockets[place(sock)].socket
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
        for next in 0..self.queue.len() {
            self.arm(self.queue[next]);
        }
        self.queue.clear();
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
            events.push(watched.event(&report));
        }
        Ok(woken)
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

    /// Makes the registration of a socket what it should be.
    fn arm(&mut self, number: usize) {
        let Some(watched) = self.sockets.get_mut(number) else { return };
        watched.is_queued = false;
        let changed = watched.due().map(|due| match due {
            Some(watch) if watched.is_added => {
                (self.poller.modify(&watched.socket, number, watch), Some(watch))
            }
            Some(watch) => (self.poller.add(&watched.socket, number, watch), Some(watch)),
            None => (self.poller.delete(&watched.socket), None),
        });
        let Some((result, armed)) = changed else { return };
        match result {
            Ok(()) => (watched.armed, watched.is_added) = (armed, armed.is_some()),
            Err(error) => log::error!("{:?} cannot be watched: {error}", watched.key),
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
            self.armed = None;
        }
    }

    fn event(&self, report: &Report) -> Event {
        let hang_up = report.hang_up;
        Event::Ready {
            key: self.key,
            readable: report.readable || hang_up,
            writable: report.writable || hang_up,
            hang_up,
            exhaust: true,
        }
    }

    /// Returns what the registration has to become (`Some(None)`: to end), if it has to change.
    fn due(&self) -> Option<Option<Watch>> {
        if self.is_hung_up {
            // It would be reported again and again.
            return self.is_added.then_some(None);
        }
        let due = Watch {
            read: self.wanted.read && !self.ready.read,
            write: self.wanted.write && !self.ready.write,
        };
        (self.armed != Some(due)).then_some(Some(due))
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
