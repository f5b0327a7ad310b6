//! One connection that is dialled again.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::addr::LiteralAddr;
use crate::client::Backoff;
use crate::id::{ConnId, TimerId};
use crate::net::Net;
use crate::options::{ConnOptions, Limit, invalid};
use crate::time::Time;

/// What the end of a connection or of a delay means, as [`Redial::on_close`] and
/// [`Redial::on_timer`] answer.
///
/// # Examples
///
/// ```
/// use hotloop::client::{Redial, Redialled};
/// use hotloop::{ConnId, Net};
///
/// /// In `on_close`.
/// fn on_close(net: &mut Net, upstream: &mut Redial, conn: ConnId) {
///     match upstream.on_close(net, conn) {
///         Redialled::Foreign => {} // one of the clients
///         Redialled::Again => println!("try {} has failed", upstream.tries()),
///         Redialled::GaveUp => net.stop(),
///     }
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redialled {
    /// The connection or the timer is not this one's, or was left to itself by
    /// [`stop`](Redial::stop).
    Foreign,
    /// It goes on: a connect is under way, or follows when the delay is over.
    Again,
    /// The tries are used up: nothing more comes until the next [`start`](Redial::start). Said
    /// once for each start, unless that is stopped.
    GaveUp,
}

/// Keeps one connection to a server: dials, waits longer after every failure, dials again, and
/// does so too when the connection is lost.
///
/// Several addresses are tried in turn: each try takes the one behind that of the last try, and
/// the first one behind the last, whatever has ended it: a failed connect, the loss of an open
/// connection, a [`stop`](Redial::stop).
///
/// The delays start over once a connection has proven itself: it was open for as long as
/// [`proven_after`](Redial::proven_after) says, 10 s by default. One that is lost sooner counts as
/// a try that failed, so that a server that accepts and drops is not hammered. What it has sent
/// proves nothing: a server that is full says so and drops.
///
/// Pass `on_connect`, `on_close` and `on_timer` on to it, and give it the timers with its
/// [`TOKEN`](Redial::TOKEN) before your own.
///
/// ```
/// use hotloop::client::{Backoff, Redial};
/// use hotloop::{CloseReason, Config, ConnId, Handler, Loop, Net, TimerId};
///
/// struct Client {
///     upstream: Redial,
/// }
///
/// impl Handler for Client {
///     fn on_connect(&mut self, net: &mut Net, conn: ConnId) {
///         if self.upstream.on_connect(net, conn) {
///             net.write(conn, b"hello\n");
///         }
///     }
///
///     fn on_data(&mut self, _: &mut Net, _: ConnId, data: &[u8]) -> usize {
///         data.len()
///     }
///
///     fn on_close(&mut self, net: &mut Net, conn: ConnId, _: CloseReason, _: u64) {
///         self.upstream.on_close(net, conn);
///     }
///
///     fn on_timer(&mut self, net: &mut Net, timer: TimerId, _: u64) {
///         self.upstream.on_timer(net, timer);
///     }
/// }
///
/// fn main() -> std::io::Result<()> {
///     let mut event_loop = Loop::new(Config::default())?;
///     let mut client = Client {
///         upstream: Redial::new(["127.0.0.1:9000", "127.0.0.1:9001"], Backoff::default())?,
///     };
///     client.upstream.start(event_loop.net());
///     # client.upstream.stop(event_loop.net());
///     event_loop.run(&mut client)
/// }
/// ```
#[derive(Debug)]
pub struct Redial {
    addrs: Vec<SocketAddr>,
    options: Option<ConnOptions>,
    backoff: Backoff,
    tries_max: Limit<u32>,
    proven_after: Duration,
    /// Tries since a connection has proven itself.
    tries: u32,
    /// Which address the next try takes; below the number of them.
    next_addr: usize,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Stopped,
    Dialling(ConnId),
    /// Since then.
    Open(ConnId, Time),
    /// For the next try, or to say that there is none.
    Waiting(TimerId),
}

impl Redial {
    /// The token of its timers.
    pub const TOKEN: u64 = u64::MAX;

    /// As long as the longest delay of [`Backoff::default`]: whenever a server drops what it has
    /// accepted, it is not dialled much more often than if it refused.
    const PROVEN_AFTER: Duration = Duration::from_secs(10);

    /// Makes one for a server with these literal addresses. It dials when it is started.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] for an address that is none, and for no address at all.
    pub fn new<A: LiteralAddr>(
        addrs: impl IntoIterator<Item = A>,
        backoff: Backoff,
    ) -> io::Result<Redial> {
        let addrs = addrs.into_iter().map(|addr| addr.literal_addr());
        let addrs = addrs.collect::<io::Result<Vec<_>>>()?;
        if addrs.is_empty() {
            return Err(invalid("a redial needs an address"));
        }
        Ok(Redial {
            addrs,
            options: None,
            backoff,
            tries_max: Limit::Unlimited,
            proven_after: Redial::PROVEN_AFTER,
            tries: 0,
            next_addr: 0,
            state: State::Stopped,
        })
    }

    /// Sets the options of its connections. Default: those of the loop.
    pub fn options(mut self, options: ConnOptions) -> Self {
        self.options = Some(options);
        self
    }

    /// Sets after how many tries in a row without a connection that proves itself it gives up, at
    /// least 1. Default: unlimited, because a server that is away tends to come back.
    pub fn tries_max(mut self, tries: impl Into<Limit<u32>>) -> Self {
        self.tries_max = tries.into();
        self
    }

    /// Sets how long a connection has to be open until it has proven itself: when it ends, the
    /// tries are counted anew and the delays start over. Default: 10 s, the longest delay of
    /// [`Backoff::default`], so that a server that drops what it accepts is not dialled much more
    /// often than one that refuses, whenever it drops. Zero: whatever was open has proven itself.
    pub fn proven_after(mut self, duration: Duration) -> Self {
        self.proven_after = duration;
        self
    }

    /// Dials, unless it does already; with as many tries as ever, and from the first delay.
    /// Returns whether it was stopped before.
    ///
    /// A connect that cannot even be begun, for want of descriptors for instance, counts as a try
    /// that failed: the next one follows after its delay. If it was the last one,
    /// [`on_timer`](Redial::on_timer) says so, in the next turn if this was the only one.
    pub fn start(&mut self, net: &mut Net) -> bool {
        let was_stopped = self.state == State::Stopped;
        if was_stopped {
            self.start_over();
            if !self.dial(net) {
                let delay =
                    if self.is_used_up() { Duration::ZERO } else { self.backoff.next_delay() };
                self.wait(net, delay);
            }
        }
        was_stopped
    }

    /// Stops dialling. An open connection stays, and is not dialled again when it ends; a connect
    /// that is not done is aborted.
    pub fn stop(&mut self, net: &mut Net) {
        match std::mem::replace(&mut self.state, State::Stopped) {
            State::Dialling(conn) => net.abort(conn),
            State::Waiting(timer) => drop(net.cancel_timer(timer)),
            State::Open(..) | State::Stopped => {}
        }
    }

    /// Returns the connection, if it is open.
    pub fn conn(&self) -> Option<ConnId> {
        match self.state {
            State::Open(conn, _) => Some(conn),
            _ => None,
        }
    }

    /// Returns whether it is stopped: never started, stopped, or given up.
    pub fn is_stopped(&self) -> bool {
        self.state == State::Stopped
    }

    /// Returns how many tries there were since [`start`](Redial::start), or since the end of the
    /// last connection that has proven itself. That of a connection that is open counts.
    pub fn tries(&self) -> u32 {
        self.tries
    }

    /// Has to be told of every `on_connect`. Returns whether it is its own.
    pub fn on_connect(&mut self, net: &mut Net, conn: ConnId) -> bool {
        let is_own = self.state == State::Dialling(conn);
        if is_own {
            self.state = State::Open(conn, net.now());
        }
        is_own
    }

    /// Has to be told of every `on_close`. Says what follows from it.
    pub fn on_close(&mut self, net: &mut Net, conn: ConnId) -> Redialled {
        match self.state {
            State::Dialling(own) if own == conn => {}
            State::Open(own, since) if own == conn => {
                if net.now().since(since) >= self.proven_after {
                    self.start_over();
                }
            }
            _ => return Redialled::Foreign,
        }
        self.go_on(net)
    }

    /// Has to be told of every `on_timer`. Says what follows from it: that the tries are used up
    /// if the last one could not even be begun.
    pub fn on_timer(&mut self, net: &mut Net, timer: TimerId) -> Redialled {
        if self.state != State::Waiting(timer) {
            return Redialled::Foreign;
        }
        if !self.is_used_up() && self.dial(net) {
            return Redialled::Again;
        }
        self.go_on(net)
    }

    fn start_over(&mut self) {
        self.tries = 0;
        self.backoff.reset();
    }

    fn is_used_up(&self) -> bool {
        matches!(self.tries_max, Limit::At(most) if self.tries >= most.max(1))
    }

    /// Makes a try. Returns whether it could be begun.
    #[allow(
        clippy::indexing_slicing,
        reason = "counted modulo the number of addresses, which is not 0"
    )]
    fn dial(&mut self, net: &mut Net) -> bool {
        let addr = self.addrs[self.next_addr];
        self.next_addr = (self.next_addr + 1) % self.addrs.len();
        self.tries = self.tries.saturating_add(1);
        let connecting = match &self.options {
            Some(options) => net.connect_with(addr, options.clone()),
            None => net.connect(addr),
        };
        match connecting {
            Ok(conn) => self.state = State::Dialling(conn),
            Err(ref error) => log::debug!("try {}: {error}", self.tries),
        }
        connecting.is_ok()
    }

    /// Starts the delay before the next try, if there is one.
    fn go_on(&mut self, net: &mut Net) -> Redialled {
        if self.is_used_up() {
            self.state = State::Stopped;
            return Redialled::GaveUp;
        }
        let delay = self.backoff.next_delay();
        self.wait(net, delay);
        Redialled::Again
    }

    fn wait(&mut self, net: &mut Net, delay: Duration) {
        self.state = State::Waiting(net.start_timer(delay, Redial::TOKEN));
    }
}
