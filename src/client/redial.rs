//! One connection that is dialled again.

use std::io;
use std::net::SocketAddr;

use crate::addr::LiteralAddr;
use crate::client::Backoff;
use crate::id::{ConnId, TimerId};
use crate::net::Net;
use crate::options::{ConnOptions, Limit, invalid};

/// What the end of a connection means, as [`Redial::on_close`] answers.
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
    /// The connection is not this one's, or was left to itself by [`stop`](Redial::stop).
    Foreign,
    /// It is dialled again when the delay is over.
    Again,
    /// The tries are used up: nothing more comes.
    GaveUp,
}

/// Keeps one connection to a server: dials, waits longer after every failure, dials again, and
/// does so too when the connection is lost.
///
/// Several addresses are tried in turn: the next try takes the next one, whatever the failure
/// was. A connection that was open makes the delays start over, from the first one.
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
///         if self.upstream.on_connect(conn) {
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
    /// Tries since a connection was open.
    tries: u32,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Stopped,
    Dialling(ConnId),
    Open(ConnId),
    Waiting(TimerId),
}

impl Redial {
    /// The token of its timers.
    pub const TOKEN: u64 = u64::MAX;

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
        let (tries_max, state) = (Limit::Unlimited, State::Stopped);
        Ok(Redial { addrs, options: None, backoff, tries_max, tries: 0, state })
    }

    /// Sets the options of its connections. Default: those of the loop.
    pub fn options(mut self, options: ConnOptions) -> Self {
        self.options = Some(options);
        self
    }

    /// Sets after how many tries in a row without an open connection it gives up, at least 1.
    /// Default: unlimited, because a server that is away tends to come back.
    pub fn tries_max(mut self, tries: impl Into<Limit<u32>>) -> Self {
        self.tries_max = tries.into();
        self
    }

    /// Dials, unless it does already. A connect that cannot even be begun counts as a try that
    /// failed: the next one follows after its delay. If it was the last one, no callback tells of
    /// it but [`is_stopped`](Redial::is_stopped) does, here and behind
    /// [`on_timer`](Redial::on_timer). Returns whether it was stopped before.
    pub fn start(&mut self, net: &mut Net) -> bool {
        let was_stopped = self.state == State::Stopped;
        if was_stopped {
            self.tries = 0;
            self.backoff.reset();
            self.dial(net);
        }
        was_stopped
    }

    /// Stops dialling. An open connection stays, and is not dialled again when it ends; a connect
    /// that is not done is aborted.
    pub fn stop(&mut self, net: &mut Net) {
        match std::mem::replace(&mut self.state, State::Stopped) {
            State::Dialling(conn) => net.abort(conn),
            State::Waiting(timer) => drop(net.cancel_timer(timer)),
            State::Open(_) | State::Stopped => {}
        }
    }

    /// Returns the connection, if it is open.
    pub fn conn(&self) -> Option<ConnId> {
        match self.state {
            State::Open(conn) => Some(conn),
            _ => None,
        }
    }

    /// Returns whether it is stopped: never started, stopped, or given up.
    pub fn is_stopped(&self) -> bool {
        self.state == State::Stopped
    }

    /// Returns how many tries there were since a connection was open.
    pub fn tries(&self) -> u32 {
        self.tries
    }

    /// Has to be told of every `on_connect`. Returns whether it is its own.
    pub fn on_connect(&mut self, conn: ConnId) -> bool {
        let is_own = self.state == State::Dialling(conn);
        if is_own {
            self.state = State::Open(conn);
            self.tries = 0;
            self.backoff.reset();
        }
        is_own
    }

    /// Has to be told of every `on_close`. Says what follows from it.
    pub fn on_close(&mut self, net: &mut Net, conn: ConnId) -> Redialled {
        match self.state {
            State::Dialling(own) | State::Open(own) if own == conn => self.wait(net),
            _ => Redialled::Foreign,
        }
    }

    /// Has to be told of every `on_timer`. Returns whether it is its own.
    pub fn on_timer(&mut self, net: &mut Net, timer: TimerId) -> bool {
        let is_own = self.state == State::Waiting(timer);
        if is_own {
            self.dial(net);
        }
        is_own
    }

    fn dial(&mut self, net: &mut Net) {
        let addr = self.addrs[self.tries as usize % self.addrs.len()];
        self.tries = self.tries.saturating_add(1);
        let connecting = match &self.options {
            Some(options) => net.connect_with(addr, options.clone()),
            None => net.connect(addr),
        };
        match connecting {
            Ok(conn) => self.state = State::Dialling(conn),
            Err(error) => {
                log::debug!("try {}: {error}", self.tries);
                self.wait(net);
            }
        }
    }

    /// Starts the delay before the next try, if there is one.
    fn wait(&mut self, net: &mut Net) -> Redialled {
        if matches!(self.tries_max, Limit::At(most) if self.tries >= most.max(1)) {
            self.state = State::Stopped;
            return Redialled::GaveUp;
        }
        let delay = self.backoff.next_delay();
        self.state = State::Waiting(net.start_timer(delay, Redial::TOKEN));
        Redialled::Again
    }
}
