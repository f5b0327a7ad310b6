//! Opening: listeners, accepted connections, connects.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::addr::LiteralAddr;
use crate::backend::{Accept, Connect};
use crate::conn::{Conn, Flags, Phase};
use crate::error::{CloseReason, Errno, ErrorClass, ListenerError};
use crate::id::{ConnId, Key, ListenerId};
use crate::listener::Listener;
use crate::net::{Net, while_doing};
use crate::options::{ConnOptions, ListenOptions, invalid};
use crate::sys::errno;
use crate::time::Time;
use crate::timer::Task;

/// What one attempt to accept came to.
pub(crate) enum Accepted {
    /// `on_accept` is due.
    Conn(ConnId),
    /// That one came to nothing; there may be another.
    Skipped,
    /// `on_listener_error` is due, and accepting is over for this turn.
    Error(ListenerError),
    /// Accepting is over for this turn.
    Done,
}

impl Net {
    /// Listens on a literal address with the default options. Port 0 takes a free port;
    /// [`listener_addr`](Net::listener_addr) tells which.
    ///
    /// # Errors
    ///
    /// Those of `socket(2)`, `bind(2)` and `listen(2)`, an address that is none, and a loop that
    /// is shutting down: always with the address in the message. Nothing is left open.
    ///
    /// # Examples
    ///
    /// ```
    /// use hotloop::{Config, Loop};
    ///
    /// let mut event_loop = Loop::new(Config::default())?;
    /// let listener = event_loop.net().listen("127.0.0.1:0")?;
    /// println!("listening on {:?}", event_loop.net().listener_addr(listener));
    /// let error = event_loop.net().listen("localhost:80").expect_err("a name is no address");
    /// assert!(error.to_string().contains("localhost:80"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn listen(&mut self, addr: impl LiteralAddr) -> io::Result<ListenerId> {
        self.listen_with(addr, ListenOptions::default())
    }

    /// Listens on a literal address.
    ///
    /// # Errors
    ///
    /// As [`listen`](Net::listen), and options that contradict each other.
    ///
    /// [`ListenOptions`] has an example.
    pub fn listen_with(
        &mut self,
        addr: impl LiteralAddr,
        options: ListenOptions,
    ) -> io::Result<ListenerId> {
        let addr = addr.literal_addr()?;
        options.check()?;
        self.listen_on(addr, &options)
            .map_err(|error| while_doing(format!("listen on {addr}"), error))
    }

    fn listen_on(&mut self, addr: SocketAddr, options: &ListenOptions) -> io::Result<ListenerId> {
        let key = self.vacant_listener()?;
        let (handle, local) = self.backend.listen(key, addr, options)?;
        Ok(self.listening(key, handle, local, options))
    }

    /// Closes a listener: nothing more is accepted, and its id is stale at once. Connections it
    /// accepted stay. Returns whether the id was that of a listener.
    ///
    /// # Examples
    ///
    /// ```
    /// # let mut event_loop = hotloop::Loop::new(hotloop::Config::default())?;
    /// let net = event_loop.net();
    /// let listener = net.listen("127.0.0.1:0")?;
    /// assert!(net.close_listener(listener));
    /// assert!(!net.close_listener(listener), "the id is stale");
    /// assert_eq!(net.listener_addr(listener), None);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn close_listener(&mut self, listener: ListenerId) -> bool {
        let Some(gone) = self.forget_listener(listener) else { return false };
        self.backend.close(&gone.sock, false);
        true
    }

    /// Takes a listener's record out.
    pub(crate) fn forget_listener(&mut self, id: ListenerId) -> Option<Listener> {
        let gone = self.listeners.remove(id.0)?;
        if let Some(retry) = gone.retry {
            self.timers.cancel(retry);
        }
        self.paused_listeners -= usize::from(gone.paused);
        Some(gone)
    }

    /// Connects to a literal address with the default options. The id can be written to at once:
    /// the bytes are queued. `on_connect` follows, or `on_close` if it fails.
    ///
    /// # Errors
    ///
    /// Only if no id was handed out: an address that is none, the connection limit, a loop that
    /// is shutting down, and a socket that could not be made (`socket(2)`, and those errors of
    /// `connect(2)` that say that nothing was begun). The message names the address.
    ///
    /// # Examples
    ///
    /// ```
    /// use hotloop::{CloseReason, Config, ConnId, Handler, Loop, Net};
    ///
    /// #[derive(Default)]
    /// struct Client(Vec<u8>);
    ///
    /// impl Handler for Client {
    ///     fn on_data(&mut self, _: &mut Net, _: ConnId, data: &[u8]) -> usize {
    ///         self.0.extend_from_slice(data);
    ///         data.len()
    ///     }
    /// }
    ///
    /// let server = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// let mut event_loop = Loop::new(Config::default())?;
    /// let conn = event_loop.net().connect(server.local_addr()?)?;
    /// event_loop.net().write(conn, b"hello"); // waits for the connect
    /// let mut client = Client::default();
    /// # std::thread::spawn(move || {
    /// #     let (mut stream, _) = server.accept()?;
    /// #     std::io::copy(&mut std::io::Read::take(&mut stream.try_clone()?, 5), &mut stream)
    /// # });
    /// event_loop.run(&mut client)?; // until the server has closed
    /// assert_eq!(client.0, b"hello");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn connect(&mut self, addr: impl LiteralAddr) -> io::Result<ConnId> {
        let addr = addr.literal_addr()?;
        let options = Arc::clone(&self.default_options);
        self.connect_to(addr, options)
    }

    /// Connects to a literal address.
    ///
    /// # Errors
    ///
    /// As [`connect`](Net::connect), and options that contradict each other.
    ///
    /// # Examples
    ///
    /// ```
    /// use hotloop::{Config, ConnOptions, Loop};
    /// use std::time::Duration;
    ///
    /// let server = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// let mut event_loop = Loop::new(Config::default())?;
    /// let options = ConnOptions::default().connect_timeout(Duration::from_secs(2));
    /// event_loop.net().connect_with(server.local_addr()?, options)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn connect_with(
        &mut self,
        addr: impl LiteralAddr,
        options: ConnOptions,
    ) -> io::Result<ConnId> {
        let addr = addr.literal_addr()?;
        options.check()?;
        self.connect_to(addr, Arc::new(options))
    }

    fn connect_to(&mut self, addr: SocketAddr, options: Arc<ConnOptions>) -> io::Result<ConnId> {
        self.begin_connect(addr, options)
            .map_err(|error| while_doing(format!("connect to {addr}"), error))
    }

    fn begin_connect(&mut self, addr: SocketAddr, options: Arc<ConnOptions>) -> io::Result<ConnId> {
        let key = self.vacant_conn()?;
        let (handle, progress) = self.backend.connect(key, addr, &options)?;
        let sock = Net::sock(key, handle);
        let mut conn = Conn::new(sock, Phase::Connecting, addr, options, self.now);
        conn.since = self.now;
        self.conns.insert(key, conn);
        self.stats.connects += 1;
        let id = ConnId(key);
        match progress {
            Connect::Failed(errno) => self.end(id, CloseReason::ConnectFailed(errno), false),
            Connect::Connected => self.mark(id, Flags::CONNECT_READY),
            Connect::InProgress => {}
        }
        self.arm_deadline(id);
        Ok(id)
    }

    /// Finds out how a connect went; returns whether `on_connect` is due.
    pub(crate) fn finish_connect(&mut self, id: ConnId) -> bool {
        let Some(conn) = self.conns.get_mut(id.0) else { return false };
        conn.flags.clear(Flags::CONNECT_READY);
        match self.backend.finish_connect(&conn.sock) {
            Connect::InProgress => false,
            Connect::Failed(errno) => {
                self.end(id, CloseReason::ConnectFailed(errno), false);
                false
            }
            Connect::Connected => {
                let local = self.backend.local_addr(&conn.sock);
                if let Some(local) = local {
                    conn.addrs.set_local(local);
                }
                if local.is_some_and(|local| is_itself(local, conn.addrs.peer())) {
                    // An ephemeral port that was dialled connects to itself (RFC 9293 §3.5,
                    // simultaneous open); nobody means that.
                    self.end(id, CloseReason::ConnectFailed(Errno(errno::ECONNREFUSED)), true);
                    return false;
                }
                self.opened(id);
                true
            }
        }
    }

    /// Makes a connection open: from here on it can be read and written.
    fn opened(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id.0) else { return };
        conn.phase = Phase::Open;
        conn.active_at = self.now;
        conn.since = Time::NEVER;
        conn.flags.set(Flags::WRITABLE);
        // The connect was watched for as room to send.
        self.update_interest(id);
        self.arm_deadline(id);
    }

    /// Accepts one connection of a listener that is ready.
    pub(crate) fn accept_one(&mut self, id: ListenerId) -> Accepted {
        let Some(listener) = self.listeners.get(id.0).filter(|listener| listener.runnable()) else {
            return Accepted::Done;
        };
        let vacant = self.conns.vacant_key().filter(|_| self.conns.len() < self.connections_max);
        let Some(key) = vacant else {
            return self.pause_accepting(id, ListenerError::ConnectionLimit);
        };
        match self.backend.accept(&listener.sock, key, &listener.options) {
            Accept::Accepted { handle, peer } => self.accepted(id, key, handle, peer),
            Accept::WouldBlock => {
                self.listener_mut(id).ready = false;
                Accepted::Done
            }
            Accept::Failed(errno) => self.accept_failed(id, errno),
        }
    }

    fn accepted(&mut self, id: ListenerId, key: Key, handle: i32, peer: SocketAddr) -> Accepted {
        let now = self.now;
        let listener = self.listener_mut(id);
        listener.succeeded();
        let options = Arc::clone(&listener.options);
        let local = listener.accepted_local();
        let mut conn = Conn::new(Net::sock(key, handle), Phase::Open, peer, options, now);
        if let Some(local) = local {
            conn.addrs.set_local(local);
        }
        conn.flags.set(Flags::WRITABLE);
        self.conns.insert(key, conn);
        self.stats.accepted += 1;
        self.arm_deadline(ConnId(key));
        Accepted::Conn(ConnId(key))
    }

    fn accept_failed(&mut self, id: ListenerId, errno: Errno) -> Accepted {
        self.stats.accept_errors += 1;
        match errno::accept_class(errno) {
            ErrorClass::Resource => self.pause_accepting(id, ListenerError::Paused(errno)),
            ErrorClass::Fatal => {
                let error = ListenerError::Failed(errno);
                self.warn_of_listener(id, error);
                self.close_listener(id);
                Accepted::Error(error)
            }
            ErrorClass::Retry | ErrorClass::Closed if self.listener_mut(id).skipped() => {
                self.pause_accepting(id, ListenerError::Paused(errno))
            }
            ErrorClass::Retry | ErrorClass::Closed => Accepted::Skipped,
        }
    }

    /// Stops accepting until a connection ends or, for want of resources, a timer fires; says so
    /// once until an accept succeeds.
    fn pause_accepting(&mut self, id: ListenerId, error: ListenerError) -> Accepted {
        let now = self.now;
        let listener = self.listener_mut(id);
        listener.paused = true;
        let news = !std::mem::replace(&mut listener.reported, true);
        if matches!(error, ListenerError::Paused(_)) {
            let due = now + listener.next_retry();
            let retry = self.timers.start(due, Task::AcceptRetry(id));
            self.listener_mut(id).retry = Some(retry);
        }
        self.paused_listeners += 1;
        self.stats.accept_pauses += 1;
        if !news {
            return Accepted::Done;
        }
        self.warn_of_listener(id, error);
        Accepted::Error(error)
    }

    /// Lets a paused listener accept again.
    pub(crate) fn resume_accepting(&mut self, id: ListenerId) {
        let Some(listener) = self.listeners.get_mut(id.0).filter(|listener| listener.paused) else {
            return;
        };
        listener.paused = false;
        let retry = listener.retry.take();
        self.paused_listeners -= 1;
        if let Some(retry) = retry {
            self.timers.cancel(retry);
        }
        self.schedule_listener(id);
    }

    /// Lets all paused listeners accept again, because a slot and a descriptor are free.
    pub(crate) fn resume_all_accepting(&mut self) {
        if self.paused_listeners > 0 {
            for key in self.listeners.keys().collect::<Vec<_>>() {
                self.resume_accepting(ListenerId(key));
            }
        }
    }

    #[allow(clippy::expect_used, reason = "its callers have just had it")]
    fn listener_mut(&mut self, id: ListenerId) -> &mut Listener {
        self.listeners.get_mut(id.0).expect("the listener was there a moment ago")
    }

    /// Returns the slot for one more listener.
    pub(crate) fn vacant_listener(&self) -> io::Result<Key> {
        self.refuse_when_closing()?;
        self.listeners.vacant_key().ok_or_else(no_slot)
    }

    /// Returns the slot for one more connection that was not accepted.
    pub(crate) fn vacant_conn(&self) -> io::Result<Key> {
        self.refuse_when_closing()?;
        if self.conns.len() >= self.connections_max {
            let most = self.connections_max;
            return Err(io::Error::other(format!("max_connections {most} is reached")));
        }
        self.conns.vacant_key().ok_or_else(no_slot)
    }

    fn refuse_when_closing(&self) -> io::Result<()> {
        if self.refusing { Err(io::Error::other("the loop is closing all")) } else { Ok(()) }
    }
}

/// Returns whether a connection's own address is the one that was dialled. The unspecified address
/// is dialled as that of this host (`ip(7)`).
fn is_itself(local: SocketAddr, dialled: SocketAddr) -> bool {
    let host =
        local.ip() == dialled.ip() || (dialled.ip().is_unspecified() && local.ip().is_loopback());
    host && local.port() == dialled.port()
}

fn no_slot() -> io::Error {
    invalid("all 2^24 slots are taken")
}
