//! The loop: waits, and calls the handler. The only caller of `Handler`.

mod accept;
mod closing;
mod service;

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::time::Duration;

use crate::backend::{self, Backend, Event};
use crate::config::Config;
use crate::conn::Flags;
use crate::conn::inbound::Kept;
use crate::handler::Handler;
use crate::net::{Net, Next};
use crate::recv_memory::{Lent, RecvMemory};
use crate::sys::poll_fd::PollFd;
use crate::timer::{Due, Task};
use crate::wake::Waker;

/// A callback-driven, single-threaded event loop.
///
/// # Examples
///
/// ```
/// use hotloop::{Config, ConnId, Handler, Loop, Net};
///
/// struct Shout;
///
/// impl Handler for Shout {
///     fn on_data(&mut self, net: &mut Net, conn: ConnId, data: &[u8]) -> usize {
///         net.write(conn, &data.to_ascii_uppercase());
///         data.len()
///     }
/// }
///
/// fn main() -> std::io::Result<()> {
///     let mut event_loop = Loop::new(Config::default())?;
///     event_loop.net().listen("127.0.0.1:0")?;
///     # event_loop.net().stop();
///     event_loop.run(&mut Shout)
/// }
/// ```
///
/// # Portability
///
/// On Linux the loop runs on `epoll(7)`, edge-triggered, and elsewhere on what the crate `polling`
/// finds; [`Config::backend`] chooses. Every backend passes the same contract on Linux. For
/// Windows the crate is compiled and runs under wine, for macOS and FreeBSD it is compiled alone.
///
/// # What is not promised
///
/// The order in which connections are served within one turn, how many bytes one `on_data` is
/// given, and how events fall into turns.
pub struct Loop {
    net: Net,
    memory: RecvMemory,
    /// What the wait reported and no turn has folded yet.
    events: Vec<Event>,
    /// The kept bytes the handler is looking at.
    shown: Option<Box<Kept>>,
    /// The lent range the handler is looking at, if it has to be released.
    lent: Option<Lent>,
    /// A loop stays on its thread, on every backend.
    not_send: PhantomData<*const ()>,
}

/// What a turn did, as [`Loop::turn`] tells.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use hotloop::{Handler, Loop};
///
/// /// Takes turns until nothing is left over, at most ten.
/// fn catch_up(event_loop: &mut Loop, handler: &mut impl Handler) -> std::io::Result<u64> {
///     let mut callbacks = 0;
///     for _ in 0..10 {
///         let turn = event_loop.turn(handler, Duration::ZERO)?;
///         callbacks += turn.callbacks;
///         if !turn.pending || turn.stopped {
///             break;
///         }
///     }
///     Ok(callbacks)
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Turn {
    /// How many callbacks were called, [`Handler::on_turn_start`] and [`Handler::on_turn_end`]
    /// apart.
    pub callbacks: u64,
    /// There is work that needs no event: the next turn should begin at once.
    pub pending: bool,
    /// [`Net::stop`] was called.
    pub stopped: bool,
}

impl Loop {
    /// Makes a loop.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] for a configuration that contradicts itself or a backend
    /// that there is not, with its name; the system's own error if it cannot be opened. Nothing
    /// is left open.
    pub fn new(config: Config) -> io::Result<Loop> {
        config.check()?;
        let backend = backend::open(&config)?;
        Ok(Loop::on(config, backend))
    }

    /// Makes a loop that runs on a backend.
    pub(crate) fn on(config: Config, backend: Box<dyn Backend>) -> Loop {
        Loop {
            memory: RecvMemory::new(config.recv_buffer_bytes),
            net: Net::new(config, backend),
            events: Vec::new(),
            shown: None,
            lent: None,
            not_send: PhantomData,
        }
    }

    /// Lends what a callback is lent, to set things up and between turns. Reads the clock.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hotloop::{Config, Loop};
    /// let mut event_loop = Loop::new(Config::default())?;
    /// event_loop.net().listen("127.0.0.1:0")?;
    /// println!("{}", event_loop.net().stats());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn net(&mut self) -> &mut Net {
        // A panic may have left `close_all` before its end.
        self.net.refusing = false;
        self.net.refresh_now();
        &mut self.net
    }

    /// Returns a handle with which other threads wake this loop.
    pub fn waker(&self) -> Waker {
        self.net.waker()
    }

    /// Runs until [`Net::stop`], or until there is nothing left that could call the handler: no
    /// listener, no connection, no timer and no [`Waker`]. A `stop` from before ends the first
    /// turn.
    ///
    /// # Errors
    ///
    /// Those of the wait, after which the loop cannot be used any more. What goes wrong with one
    /// connection is told by its `on_close`.
    ///
    /// # Panics
    ///
    /// Passes on a panic of the handler; see [`Handler`] for what then holds.
    pub fn run<H: Handler + ?Sized>(&mut self, handler: &mut H) -> io::Result<()> {
        self.recover();
        // A panic may have left `close_all` before its end.
        self.net.refusing = false;
        while self.net.is_alive() || self.net.stop {
            if self.turn_once(handler, Duration::MAX)?.stopped {
                break;
            }
        }
        Ok(())
    }

    /// Runs one turn, which waits `max_wait` at most: zero only looks. For embedding the loop in
    /// one that belongs to somebody else.
    ///
    /// # Errors
    ///
    /// As [`run`](Loop::run).
    ///
    /// # Panics
    ///
    /// As [`run`](Loop::run).
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use hotloop::{Config, ConnId, Handler, Loop, Net};
    /// # struct Game;
    /// # impl Handler for Game {
    /// #     fn on_data(&mut self, _: &mut Net, _: ConnId, data: &[u8]) -> usize { data.len() }
    /// # }
    /// # impl Game {
    /// #     fn step(&mut self, _: &mut Net) {}
    /// # }
    /// # let (mut event_loop, mut game) = (Loop::new(Config::default())?, Game);
    /// for _frame in 0..3 {
    ///     game.step(event_loop.net());
    ///     event_loop.turn(&mut game, Duration::from_millis(1))?;
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn turn<H: Handler + ?Sized>(
        &mut self,
        handler: &mut H,
        max_wait: Duration,
    ) -> io::Result<Turn> {
        // A panic may have left `close_all` before its end.
        self.net.refusing = false;
        let turn = self.turn_once(handler, max_wait)?;
        self.net.backend.catch_up();
        Ok(turn)
    }

    fn turn_once<H: Handler + ?Sized>(
        &mut self,
        handler: &mut H,
        max_wait: Duration,
    ) -> io::Result<Turn> {
        self.recover();
        self.wait(max_wait)?;
        handler.on_turn_start(&mut self.net);
        self.fire_timers(handler);
        self.deliver_wake(handler);
        self.fold_events();
        self.serve_run_list(handler);
        self.net.check_deadlines();
        self.deliver_closings(handler);
        handler.on_turn_end(&mut self.net);
        self.flush_dirty();
        let stopped = std::mem::take(&mut self.net.stop);
        Ok(Turn { callbacks: self.net.callbacks, pending: self.net.has_work(), stopped })
    }

    /// Returns a descriptor that becomes readable when [`turn`](Loop::turn) has events to fold,
    /// to nest the loop in another poller; `None` if the backend has none, as on Windows. Timers
    /// and pending work are not seen there: wait no longer than [`next_wait`](Loop::next_wait).
    pub fn poll_fd(&self) -> Option<PollFd<'_>> {
        self.net.backend.poll_fd()
    }

    /// Returns how long the next turn may be put off if no event comes: zero if there is work,
    /// `None` if only an event can bring some. Counted from [`Net::now`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # let mut event_loop = hotloop::Loop::new(hotloop::Config::default())?;
    /// assert_eq!(event_loop.next_wait(), None, "there is nothing to wait for");
    /// event_loop.net().start_timer(Duration::from_secs(5), 0);
    /// assert_eq!(event_loop.next_wait(), Some(Duration::from_secs(5)));
    /// event_loop.net().again();
    /// assert_eq!(event_loop.next_wait(), Some(Duration::ZERO));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn next_wait(&self) -> Option<Duration> {
        let net = &self.net;
        if !self.events.is_empty() || net.was_cut_off() || net.backend.is_behind() {
            return Some(Duration::ZERO);
        }
        net.next_deadline().map(|deadline| deadline.since(net.now))
    }

    /// Returns whether the handler has asked for another turn at once, or for none.
    pub(crate) fn was_asked(&self) -> bool {
        self.net.again || self.net.stop
    }

    /// Phases 1 and 2: waits and reads the clock.
    fn wait(&mut self, max_wait: Duration) -> io::Result<()> {
        let net = &mut self.net;
        let deadline =
            if self.events.is_empty() { net.wait_until(max_wait) } else { Some(net.now) };
        let began = net.now;
        net.woken |= net.backend.wait(began, deadline, &mut self.events)?;
        net.refresh_now();
        net.timers.snapshot(net.now);
        net.count_wait(began, deadline, self.events.is_empty());
        net.again = false;
        net.callbacks = 0;
        Ok(())
    }

    /// Phase 4: fires the timers that are due at this moment, and no others.
    fn fire_timers<H: Handler + ?Sized>(&mut self, handler: &mut H) {
        let net = &mut self.net;
        while let Some(Due { id, task }) = net.timers.pop_due(net.now) {
            match task {
                Task::User { token } => {
                    net.callbacks += 1;
                    net.stats.timers_fired += 1;
                    handler.on_timer(net, id, token);
                }
                Task::ConnDeadline(conn) => net.expired.push(conn),
                Task::AcceptRetry(listener) => net.resume_accepting(listener),
            }
        }
    }

    /// Phase 5: tells what other threads have posted, once per batch.
    fn deliver_wake<H: Handler + ?Sized>(&mut self, handler: &mut H) {
        let net = &mut self.net;
        if net.wake_again() {
            return;
        }
        if std::mem::take(&mut net.woken) && net.wakes.take() {
            net.callbacks += 1;
            net.stats.wakes += 1;
            net.waking = true;
            handler.on_wake(net);
            net.waking = false;
        }
    }

    /// Phase 6: turns events into ready bits.
    fn fold_events(&mut self) {
        for event in &self.events {
            self.net.fold(*event);
        }
        self.events.clear();
    }

    /// Phase 7: serves each connection and listener that was on the run list at its start.
    fn serve_run_list<H: Handler + ?Sized>(&mut self, handler: &mut H) {
        for _ in 0..self.net.run.begin_round() {
            let mut budget = self.net.read_budget();
            match self.net.next_to_serve(&mut self.memory, &mut budget) {
                Some(Next::Received(id, got)) => self.serve_received(handler, id, got, budget),
                Some(Next::Open(id, show_kept)) => self.serve_open(handler, id, show_kept, budget),
                Some(Next::Connecting(id)) => self.serve_connecting(handler, id, budget),
                Some(Next::Closing(id)) => self.end_service(handler, id),
                Some(Next::Listener(id)) => self.serve_listener(handler, id),
                Some(Next::Gone) | None => self.net.serving = None,
            }
        }
    }

    /// Phase 10: flushes what was written to connections outside their own service. Calls no
    /// handler: what it finds goes on the run list.
    #[inline]
    fn flush_dirty(&mut self) {
        if self.net.dirty.is_empty() {
            return self.net.feed_starved();
        }
        let mut dirty = std::mem::take(&mut self.net.dirty);
        for id in dirty.drain(..) {
            self.net.clear_flag(id, Flags::DIRTY);
            self.net.flush_conn(id);
            self.net.schedule(id);
        }
        self.net.dirty = dirty;
        self.net.feed_starved();
    }

    /// Puts right what a callback left undone when it panicked out of the last turn.
    #[inline]
    fn recover(&mut self) {
        if self.net.was_cut_off() {
            self.net.recover();
        }
        if let Some(kept) = self.shown.take() {
            self.net.drop_kept(kept);
        }
        if let Some(lent) = self.lent.take() {
            self.net.backend.release(lent);
        }
    }
}

/// Makes a loop on the scripted backend, in one dialect or the other.
#[cfg(any(test, feature = "script"))]
#[doc(hidden)]
pub fn open_script(
    config: Config,
    dialect: backend::script::Dialect,
) -> io::Result<(Loop, backend::script::World)> {
    config.check()?;
    let world = backend::script::World::new(dialect);
    Ok((Loop::on(config, world.backend()), world))
}

impl fmt::Debug for Loop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loop").field("net", &self.net).finish_non_exhaustive()
    }
}
