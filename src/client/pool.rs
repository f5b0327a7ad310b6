//! Connections to one server that are kept for the next request.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use smallvec::SmallVec;

use crate::addr::LiteralAddr;
use crate::client::idle::IdleConns;
use crate::client::pool_answers::{Ended, Opened, Taken};
use crate::client::pool_options::PoolOptions;
use crate::client::waiters::Waiters;
use crate::conn_map::ConnMap;
use crate::id::{ConnId, TimerId};
use crate::net::{Net, Sent};
use crate::options::{Limit, invalid};
use crate::time::Time;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Connecting,
    /// Open since then; what its user is to see begins behind so many bytes received.
    Busy(Time, u64),
    /// Open since then.
    Idle(Time),
    /// The pool has closed it, and it may linger.
    Closing,
    /// The pool has aborted it: its `on_close` is on its way.
    Aborted,
}

/// A bounded set of connections to one server, kept for the next request.
///
/// Requests are named by values of your own (`T`): what waits for a connection is handed back
/// when it has one: that which was dialled for it, or one that was given back, first come, first
/// served. Idle connections are looked at before they are used, closed when the server sends
/// something nobody asked for, and aged out. One that still lingers when the pool is asked for its
/// place is aborted, whoever has closed it.
///
/// A failed connect fails one request, the one that it was begun for, unless that has got another
/// connection or was cancelled meanwhile; the next connect follows after a delay that grows. A
/// connect that cannot even be begun (for want of descriptors, say) fails none, and is tried again.
///
/// No request sees bytes that were there before it: a connection on which there are any is not
/// handed out, or ended when they show.
///
/// Pass `on_connect`, `on_data`, `on_close` and `on_timer` on to it. An `on_read_closed` of your
/// own closes, as the default does: a connection that the server has closed is not used again.
///
/// ```
/// use hotloop::client::{Ended, Opened, Pool, PoolOptions, Taken};
/// use hotloop::{CloseReason, ConnId, Handler, Net, TimerId};
///
/// struct Client {
///     pool: Pool<String>,
/// }
///
/// impl Client {
///     fn ask(&mut self, net: &mut Net, question: String) {
///         match self.pool.take(net, question) {
///             Taken::Conn(conn, question) => drop(net.write(conn, question.as_bytes())),
///             Taken::Waits => {}
///             Taken::Refused(question) => eprintln!("too busy for {question}"),
///         }
///     }
/// }
///
/// impl Handler for Client {
///     fn on_connect(&mut self, net: &mut Net, conn: ConnId) {
///         if let Opened::For(question) = self.pool.on_connect(net, conn) {
///             net.write(conn, question.as_bytes());
///         }
///     }
///
///     fn on_data(&mut self, net: &mut Net, conn: ConnId, data: &[u8]) -> usize {
///         if self.pool.on_data(net, conn, data) {
///             return data.len(); // nobody asked for it
///         }
///         let Some(end) = data.iter().position(|byte| *byte == b'\n') else { return 0 };
///         let (answer, rest) = data.split_at(end + 1);
///         println!("{}", String::from_utf8_lossy(answer));
///         if let Some(question) = self.pool.give(net, conn, rest) {
///             net.write(conn, question.as_bytes());
///         }
///         data.len()
///     }
///
///     fn on_close(&mut self, net: &mut Net, conn: ConnId, reason: CloseReason, _: u64) {
///         match self.pool.on_close(net, conn) {
///             Ended::Failed(question) => eprintln!("{question}: {reason}"),
///             Ended::InUse => eprintln!("an answer is lost: {reason}"),
///             Ended::Foreign | Ended::Unused => {}
///         }
///     }
///
///     fn on_timer(&mut self, net: &mut Net, timer: TimerId, _: u64) {
///         self.pool.on_timer(net, timer);
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Pool<T> {
    addr: SocketAddr,
    options: PoolOptions,
    conns: ConnMap<Use>,
    idle: IdleConns,
    waiters: Waiters<T>,
    connecting: usize,
    /// How many were aborted whose `on_close` is on its way.
    aborted: usize,
    /// Runs after a failed connect; until it fires there is no other one.
    delay: Option<TimerId>,
}

impl<T> Pool<T> {
    /// The token of its timers.
    pub const TOKEN: u64 = u64::MAX - 1;

    /// Makes an empty pool for a server with a literal address.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] for an address that is none, and for no connections.
    pub fn new(addr: impl LiteralAddr, options: PoolOptions) -> io::Result<Pool<T>> {
        let addr = addr.literal_addr()?;
        if options.conns_max == 0 {
            return Err(invalid("conns_max 0 leaves a pool without connections"));
        }
        if options.waiters_max == 0 {
            return Err(invalid("waiters_max 0: every connection is begun for one that waits"));
        }
        Ok(Pool {
            addr,
            options,
            conns: ConnMap::new(),
            idle: IdleConns::default(),
            waiters: Waiters::new(),
            connecting: 0,
            aborted: 0,
            delay: None,
        })
    }

    /// Asks for a connection for a request. One that nobody uses is looked at before it is handed
    /// out: if the server has closed it or sent something, it is closed and the next one taken.
    /// One system call per connection looked at.
    pub fn take(&mut self, net: &mut Net, request: T) -> Taken<T> {
        while let Some(conn) = self.idle.pop(net) {
            if net.is_quiet(conn) {
                if let Some(Use::Idle(since)) = self.conns.get(conn) {
                    self.set_busy(net, conn, *since);
                }
                return Taken::Conn(conn, request);
            }
            self.close(net, conn);
        }
        if self.waiters.len() >= self.options.waiters_max {
            return Taken::Refused(request);
        }
        self.waiters.push(request);
        self.dial(net);
        Taken::Waits
    }

    /// Gives a connection back that was taken. If it is for a request that waits, that one is
    /// returned and has it from here on.
    ///
    /// Within `on_data`, `rest` is what the server has sent behind the answer: all that is shown
    /// and was not for its user. Elsewhere it is empty. A connection is closed instead if there is
    /// a rest, if there is more to read than was shown, if something is not sent yet, if it takes
    /// no more writes, or if it is too old: the next request would be sent half a question, or take
    /// for its answer what is none. Reading that was paused is resumed.
    ///
    /// `on_data` has to consume what it has shown when it returns, because the pool cannot know
    /// whether it will: if bytes are left of it all the same, [`on_data`](Pool::on_data) ends the
    /// connection when they are shown again.
    pub fn give(&mut self, net: &mut Net, conn: ConnId, rest: &[u8]) -> Option<T> {
        let Some(&Use::Busy(since, _)) = self.conns.get(conn) else { return None };
        // A write of nothing asks whether one would be taken.
        let is_clean = rest.is_empty()
            && net.queued_bytes(conn) == 0
            && net.is_quiet(conn)
            && net.write(conn, &[]) != Sent::Closed;
        if !is_clean || self.age_left(net, since) == Some(Duration::ZERO) {
            self.close(net, conn);
            self.dial(net);
            return None;
        }
        if !net.is_reading(conn) {
            net.resume_reading(conn);
        }
        let next = self.waiters.pop();
        match next {
            Some(_) => self.set_busy(net, conn, since),
            None => self.keep(net, conn, since),
        }
        next
    }

    /// Gives up the first request that waits and of which this is true: its time is over, for
    /// instance. A connect that was begun for it goes on, for whoever waits when it is done; if it
    /// fails it fails nobody.
    pub fn cancel(&mut self, is_it: impl FnMut(&T) -> bool) -> Option<T> {
        self.waiters.cancel(is_it)
    }

    /// Has to be told of every `on_connect`.
    pub fn on_connect(&mut self, net: &mut Net, conn: ConnId) -> Opened<T> {
        if self.conns.get(conn) != Some(&Use::Connecting) {
            return Opened::Foreign;
        }
        self.connecting -= 1;
        self.options.backoff.reset();
        self.set_busy(net, conn, net.now());
        match self.waiters.opened(conn) {
            Some(request) => Opened::For(request),
            None => {
                self.give(net, conn, &[]);
                Opened::Unused
            }
        }
    }

    /// Has to be told of every `on_data`, before anything is made of what it shows. Returns
    /// whether that is for nobody: the connection is one that nobody uses, and is closed; or the
    /// bytes are from before its user had it, and it is aborted. They would be taken for the
    /// answer to another request.
    pub fn on_data(&mut self, net: &mut Net, conn: ConnId, data: &[u8]) -> bool {
        match self.conns.get(conn) {
            None | Some(Use::Connecting) => false,
            Some(Use::Busy(_, from)) => {
                let is_stale = received(net, conn).saturating_sub(data.len() as u64) < *from;
                if is_stale {
                    net.abort(conn);
                }
                is_stale
            }
            Some(Use::Idle(_)) => {
                self.idle.remove(conn);
                self.close(net, conn);
                true
            }
            Some(Use::Closing | Use::Aborted) => true,
        }
    }

    /// Has to be told of every `on_close`. A connection that has ended makes room: if requests
    /// wait, another one is dialled.
    pub fn on_close(&mut self, net: &mut Net, conn: ConnId) -> Ended<T> {
        let Some(was) = self.conns.remove(conn) else { return Ended::Foreign };
        let ended = match was {
            Use::Connecting => {
                self.connecting -= 1;
                self.wait(net);
                self.waiters.failed(conn).map_or(Ended::Unused, Ended::Failed)
            }
            Use::Busy(..) => Ended::InUse,
            Use::Idle(_) => {
                self.idle.remove(conn);
                Ended::Unused
            }
            Use::Closing => Ended::Unused,
            Use::Aborted => {
                self.aborted -= 1;
                Ended::Unused
            }
        };
        self.dial(net);
        ended
    }

    /// Has to be told of every `on_timer`. Returns whether it is its own.
    pub fn on_timer(&mut self, net: &mut Net, timer: TimerId) -> bool {
        if self.delay == Some(timer) {
            self.delay = None;
            self.dial(net);
            return true;
        }
        let expired = self.idle.expired(timer);
        if let Some(conn) = expired {
            self.close(net, conn);
        }
        expired.is_some()
    }

    /// Closes the connections that nobody uses, aborts the connects, and gives up the requests
    /// that wait, which are returned. Connections in use stay, and are kept again when they are
    /// given back.
    pub fn clear(&mut self, net: &mut Net) -> impl Iterator<Item = T> + use<T> {
        while let Some(conn) = self.idle.pop(net) {
            self.close(net, conn);
        }
        for (conn, state) in self.conns.iter_mut() {
            if *state == Use::Connecting {
                *state = Use::Aborted;
                net.abort(conn);
            }
        }
        self.aborted += std::mem::take(&mut self.connecting);
        if let Some(delay) = self.delay.take() {
            net.cancel_timer(delay);
        }
        self.waiters.clear()
    }

    /// Returns how many connections there are, in whatever state.
    pub fn conns(&self) -> usize {
        self.conns.len()
    }

    /// Returns how many connections nobody uses.
    pub fn idle(&self) -> usize {
        self.idle.len()
    }

    /// Returns how many requests wait.
    pub fn waiters(&self) -> usize {
        self.waiters.len()
    }

    /// Dials for the requests that wait, as far as there is room, and makes room for the others.
    fn dial(&mut self, net: &mut Net) {
        while self.delay.is_none()
            && self.connecting < self.waiters.len()
            && self.conns.len() < self.options.conns_max
        {
            let connecting = match &self.options.conn {
                Some(options) => net.connect_with(self.addr, options.clone()),
                None => net.connect(self.addr),
            };
            match connecting {
                Ok(conn) => {
                    self.conns.insert(conn, Use::Connecting);
                    self.connecting += 1;
                    self.waiters.begun(conn);
                }
                Err(error) => {
                    log::debug!("{error}");
                    self.wait(net);
                }
            }
        }
        let coming = self.connecting + self.aborted;
        if self.delay.is_none() && self.waiters.len() > coming {
            self.abort_closing(net, self.waiters.len() - coming);
        }
    }

    /// Aborts connections that may linger, so many at most; their `on_close` makes room. Among
    /// them may be those that their users have closed.
    fn abort_closing(&mut self, net: &mut Net, most: usize) {
        let may_linger = |conn, state| match state {
            Use::Closing => true,
            Use::Busy(..) => net.is_lingering(conn),
            _ => false,
        };
        let states = self.conns.iter_mut().filter(|(conn, state)| may_linger(*conn, **state));
        let chosen: SmallVec<[ConnId; 4]> = states.map(|(conn, _)| conn).take(most).collect();
        for conn in chosen {
            net.abort(conn);
            if self.conns.get(conn) == Some(&Use::Closing) {
                self.conns.insert(conn, Use::Aborted);
                self.aborted += 1;
            }
        }
    }

    /// Puts the next connect off.
    fn wait(&mut self, net: &mut Net) {
        if self.delay.is_none() {
            let delay = self.options.backoff.next_delay();
            self.delay = Some(net.start_timer(delay, Pool::<T>::TOKEN));
        }
    }

    /// Has a connection used by another one than before: what it has received is not for that.
    fn set_busy(&mut self, net: &Net, conn: ConnId, since: Time) {
        self.conns.insert(conn, Use::Busy(since, received(net, conn)));
    }

    /// Keeps a connection that nobody uses, if there is room for it.
    fn keep(&mut self, net: &mut Net, conn: ConnId, since: Time) {
        let left = self.time_left(net, since);
        if self.idle.len() >= self.options.idle_max || left == Some(Duration::ZERO) {
            return self.close(net, conn);
        }
        self.conns.insert(conn, Use::Idle(since));
        self.idle.push(net, conn, left, Pool::<T>::TOKEN);
    }

    /// Returns how long a connection may be kept while nobody uses it; `None`: for ever.
    fn time_left(&self, net: &Net, since: Time) -> Option<Duration> {
        match (self.options.idle_timeout, self.age_left(net, since)) {
            (Limit::At(idle), Some(left)) => Some(idle.min(left)),
            (Limit::At(idle), None) => Some(idle),
            (Limit::Unlimited, left) => left,
        }
    }

    /// Returns how much older a connection may get; `None`: as old as it likes.
    fn age_left(&self, net: &Net, since: Time) -> Option<Duration> {
        match self.options.age_max {
            Limit::At(most) => Some(most.saturating_sub(net.now().since(since))),
            Limit::Unlimited => None,
        }
    }

    fn close(&mut self, net: &mut Net, conn: ConnId) {
        self.conns.insert(conn, Use::Closing);
        net.close(conn);
    }
}

/// Returns how many bytes a connection has received, those included that are being shown.
fn received(net: &Net, conn: ConnId) -> u64 {
    net.conn_stats(conn).map_or(0, |stats| stats.received_bytes)
}
