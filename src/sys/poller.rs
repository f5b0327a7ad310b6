//! The crate `polling`: readiness on every system it knows, in the mode that is asked for.

use std::io;
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use polling::{Event, Events, PollMode};
use socket2::Socket;

use super::poll_fd::PollFd;

/// After a `fork(2)` the child has the parent's poller: what it deleted there would be gone for
/// the parent.
pub(crate) const IS_INHERITED: bool = cfg!(unix);

/// Longer ones are waits that end early, with nothing.
const LONGEST: Duration = Duration::from_secs(24 * 24 * 3600);

/// When a source that is ready is reported again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// When it becomes ready anew.
    Edge,
    /// As long as it is ready.
    Level,
    /// After it was armed again.
    Oneshot,
    /// When it becomes ready anew after it was armed again.
    EdgeOneshot,
}

/// What a source is watched for. A hang-up is reported in any case, where the system can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Watch {
    pub(crate) read: bool,
    pub(crate) write: bool,
    /// In the mode of edges, whatever the poller's is; only where the system has them.
    pub(crate) edge: bool,
}

/// What a wait reports of the source that was added with this number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) number: usize,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// A reset, an error, or both ends' FIN; a guess on systems that do not say.
    pub(crate) hang_up: bool,
    /// There is a byte out of band (`MSG_OOB`, `send(2)`).
    pub(crate) urgent: bool,
}

/// A poller, and what wakes it.
#[derive(Debug)]
pub(crate) struct PortablePoller {
    shared: Arc<Shared>,
    events: Events,
    mode: Mode,
}

/// What wakers hold of a poller.
#[derive(Debug)]
pub(crate) struct Shared {
    /// There until the drop.
    poller: ManuallyDrop<polling::Poller>,
    /// With the flag of the poller's own this is a pair of which each side writes one and reads
    /// the other: in any weaker order than one that all threads agree on, a raise that finds the
    /// poller notified already could be missed by the wait that takes that notification.
    raised: AtomicBool,
    /// The process that has made it.
    process: u32,
}

impl Shared {
    fn new(poller: polling::Poller) -> Shared {
        let (poller, raised) = (ManuallyDrop::new(poller), AtomicBool::new(false));
        Shared { poller, raised, process: std::process::id() }
    }

    /// Makes the current or the next wait return. Callable from every thread.
    pub(crate) fn raise(&self) {
        self.raised.store(true, Ordering::SeqCst);
        if let Err(error) = self.poller.notify() {
            // The next wait that ends says so all the same.
            log::error!("a wait cannot be woken: {error}");
        }
    }
}

impl Drop for Shared {
    /// Closes the poller. It would first delete what it has registered for itself, and in a forked
    /// child that is its parent's: there it is cut off before or, where it cannot be, left open.
    fn drop(&mut self) {
        if self.process == std::process::id() || cut_off(&self.poller) {
            // SAFETY: it was not dropped before, and nothing comes after this drop.
            unsafe { ManuallyDrop::drop(&mut self.poller) }
        }
    }
}

/// Puts an empty poller behind the descriptor of one that a parent process uses; returns whether
/// that is done.
#[cfg(target_os = "linux")]
fn cut_off(poller: &polling::Poller) -> bool {
    use std::os::fd::{AsFd, AsRawFd};
    let Ok(empty) = super::epoll::Poller::new() else { return false };
    let (from, to) = (empty.as_fd().as_raw_fd(), poller.as_fd().as_raw_fd());
    // SAFETY: no memory is passed, and the owner of `to` goes on having an epoll instance there.
    unsafe { libc::dup3(from, to, libc::O_CLOEXEC) >= 0 }
}

/// A child inherits no kqueue (`kqueue(2)`): what its number is by then is somebody else's.
#[cfg(not(target_os = "linux"))]
fn cut_off(_: &polling::Poller) -> bool {
    false
}

impl PortablePoller {
    /// Opens a poller in a mode, or in the best one the system has.
    pub(crate) fn new(mode: Option<Mode>) -> io::Result<PortablePoller> {
        let poller = polling::Poller::new()?;
        let mode = match mode {
            Some(mode) if !supports(&poller, mode) => return Err(unsupported(mode)),
            Some(mode) => mode,
            None if poller.supports_edge() => Mode::Edge,
            None if poller.supports_level() => Mode::Level,
            None => Mode::Oneshot,
        };
        let shared = Arc::new(Shared::new(poller));
        Ok(PortablePoller { shared, events: Events::new(), mode })
    }

    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    pub(crate) fn has_edges(&self) -> bool {
        self.shared.poller.supports_edge()
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Returns the descriptor of the system's poller, where it is one.
    #[cfg(unix)]
    pub(crate) fn poll_fd(&self) -> Option<PollFd<'_>> {
        Some(std::os::fd::AsFd::as_fd(&*self.shared.poller))
    }

    #[cfg(not(unix))]
    pub(crate) fn poll_fd(&self) -> Option<PollFd<'_>> {
        None
    }

    /// Registers a socket under a number, which is not `usize::MAX`.
    pub(crate) fn add(&self, socket: &Socket, number: usize, watch: Watch) -> io::Result<()> {
        let (event, mode) = (event(number, watch), self.mode_of(watch));
        // SAFETY: the backend deletes a socket before it closes it, or closes the poller first of
        // all where that would delete another process's (see `IS_INHERITED`); there the system
        // forgets a socket by itself when it is closed (`epoll(7)`, `kqueue(2)`).
        let added = unsafe { self.shared.poller.add_with_mode(socket, event, mode) };
        if added.is_err() {
            // On some systems half of it has been done, and the number would be taken for ever.
            let _ = self.delete(socket);
        }
        added
    }

    /// Changes what a socket is watched for; a mode of one shot is armed again.
    pub(crate) fn modify(&self, socket: &Socket, number: usize, watch: Watch) -> io::Result<()> {
        let mode = self.mode_of(watch);
        self.shared.poller.modify_with_mode(socket, event(number, watch), mode)
    }

    fn mode_of(&self, watch: Watch) -> PollMode {
        poll_mode(if watch.edge { Mode::Edge } else { self.mode })
    }

    /// Ends the registration of a socket.
    pub(crate) fn delete(&self, socket: &Socket) -> io::Result<()> {
        self.shared.poller.delete(socket)
    }

    /// Waits until a source is ready, the timeout (`None`: without one) is over, or somebody has
    /// raised the signal, which is what the first answer says. May end early.
    pub(crate) fn wait(
        &mut self,
        timeout: Option<Duration>,
    ) -> io::Result<(bool, impl Iterator<Item = Report> + '_)> {
        self.events.clear();
        let timeout = timeout.map(|timeout| timeout.min(LONGEST));
        match self.shared.poller.wait(&mut self.events, timeout) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        let raised = self.shared.raised.swap(false, Ordering::SeqCst);
        Ok((raised, self.events.iter().map(report)))
    }
}

fn supports(poller: &polling::Poller, mode: Mode) -> bool {
    match mode {
        Mode::Edge | Mode::EdgeOneshot => poller.supports_edge(),
        Mode::Level => poller.supports_level(),
        Mode::Oneshot => true,
    }
}

fn unsupported(mode: Mode) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, format!("HOTLOOP_PORTABLE_MODE: no {mode:?} here"))
}

fn event(number: usize, watch: Watch) -> Event {
    Event::new(number, watch.read, watch.write).with_interrupt()
}

fn poll_mode(mode: Mode) -> PollMode {
    match mode {
        Mode::Edge => PollMode::Edge,
        Mode::Level => PollMode::Level,
        Mode::Oneshot => PollMode::Oneshot,
        Mode::EdgeOneshot => PollMode::EdgeOneshot,
    }
}

fn report(event: Event) -> Report {
    // Where nothing is said of errors, each event may be one: who looks costs one call.
    let hang_up = event.is_interrupt() || event.is_err().unwrap_or(event.readable);
    Report {
        number: event.key,
        readable: event.readable,
        writable: event.writable,
        hang_up,
        urgent: event.is_priority(),
    }
}
