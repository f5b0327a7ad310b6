//! Handing over: connections and listeners that come from elsewhere, and those that go on there.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use crate::backend::{AdoptError, Detached, DetachedListener, SendSide};
use crate::conn::{Conn, Flags, Phase};
use crate::error::CloseReason;
use crate::id::{ConnId, Key, ListenerId};
use crate::listener::Listener;
use crate::net::Net;
use crate::net::close::learn_local;
use crate::options::{ConnOptions, ListenOptions, invalid};
use crate::segment::SEGMENT_OVERHEAD;

impl Net {
    /// Takes a connection from elsewhere, with the default options: a `TcpStream` that was
    /// connected or inherited, or what another loop has [released](Net::release).
    ///
    /// It is open from here on, and gets neither `on_accept` nor `on_connect` (C1). Its unread
    /// bytes are shown to the handler first and count as received, its queued bytes are sent first
    /// and count as accepted; a FIN that is owed follows them. A queue above the high-water mark is
    /// pressure, as if a write had been answered with [`Sent::Pressured`](crate::Sent::Pressured):
    /// `on_writable` tells when it is over (C9). If the peer has closed,
    /// `on_read_closed` tells of it here too. The socket becomes non-blocking and close-on-exec,
    /// and loses an `SO_LINGER` above zero, with which its `close(2)` would hold up the loop.
    ///
    /// # Errors
    ///
    /// In all cases with what was given: a socket that is not a connected one of TCP, one of
    /// another (simulated) system, the connection limit, a loop that is shutting down, more unread
    /// bytes than `inbound_max_bytes`, more queued ones than the hard limit (each counted with the
    /// loop's `global_buffer_bytes`), queued bytes behind a FIN that was sent, an option that the
    /// system refuses, and those of the registration (`epoll_ctl(2)`).
    ///
    /// # Platform
    ///
    /// On Linux a connection is no connected one any more once both FINs have arrived (`ENOTCONN`
    /// of `getpeername(2)`), a released one included: it is given back, and what is unread in the
    /// kernel can be read from its [parts](Detached::into_parts) alone.
    ///
    /// # Re-entrancy
    ///
    /// What is ready already is told in the next turn.
    ///
    /// # Examples
    ///
    /// ```
    /// use hotloop::{Config, Loop};
    /// use std::net::{TcpListener, TcpStream};
    ///
    /// fn main() -> std::io::Result<()> {
    ///     let mut event_loop = Loop::new(Config::default())?;
    ///     let listener = TcpListener::bind("127.0.0.1:0")?;
    ///     let stream = TcpStream::connect(listener.local_addr()?)?;
    ///     let conn = event_loop.net().adopt(stream)?;
    ///     assert_eq!(event_loop.net().peer_addr(conn), Some(listener.local_addr()?));
    ///     Ok(())
    /// }
    /// ```
    pub fn adopt(
        &mut self,
        connection: impl Into<Detached>,
    ) -> Result<ConnId, AdoptError<Detached>> {
        let options = Arc::clone(&self.default_options);
        self.adopt_on(connection.into(), options)
    }

    /// Takes a connection from elsewhere, as [`adopt`](Net::adopt), with options of its own.
    ///
    /// # Errors
    ///
    /// As [`adopt`](Net::adopt), and options that contradict each other.
    pub fn adopt_with(
        &mut self,
        connection: impl Into<Detached>,
        options: ConnOptions,
    ) -> Result<ConnId, AdoptError<Detached>> {
        let detached = connection.into();
        match options.check() {
            Ok(()) => self.adopt_on(detached, Arc::new(options)),
            Err(error) => Err(AdoptError::new(error, detached)),
        }
    }

    fn adopt_on(
        &mut self,
        mut detached: Detached,
        options: Arc<ConnOptions>,
    ) -> Result<ConnId, AdoptError<Detached>> {
        let key = match self.admit(&detached, &options) {
            Ok(key) => key,
            Err(error) => return Err(AdoptError::new(error, detached)),
        };
        match self.backend.adopt(key, detached.take_socket(), &options) {
            Ok((handle, peer)) => {
                let mut conn =
                    Conn::new(Net::sock(key, handle), Phase::Open, peer, options, self.now);
                conn.flags.set(Flags::WRITABLE.or(Flags::ADOPTED));
                self.conns.insert(key, conn);
                self.stats.adopted += 1;
                self.take_over(ConnId(key), detached);
                Ok(ConnId(key))
            }
            Err((error, socket)) => {
                detached.put_socket(socket);
                Err(AdoptError::new(error, detached))
            }
        }
    }

    /// Returns the slot for a connection, if there is room for it and for its bytes.
    fn admit(&self, detached: &Detached, options: &ConnOptions) -> io::Result<Key> {
        let key = self.vacant_conn()?;
        let (unread, queued) = (detached.unread.len(), detached.queued.len());
        if unread > options.inbound_max_bytes.bytes() {
            return Err(invalid(&format!("{unread} unread bytes are over inbound_max_bytes")));
        }
        if queued > 0 && detached.send_side == SendSide::FinSent {
            return Err(invalid(&format!("{queued} queued bytes are behind a FIN that was sent")));
        }
        let cost = if queued == 0 { 0 } else { queued + SEGMENT_OVERHEAD };
        if cost > options.hard_limit_bytes.bytes() {
            return Err(invalid(&format!("{queued} queued bytes are over hard_limit_bytes")));
        }
        let brought = unread.saturating_add(cost);
        if brought > 0 && self.buffered_bytes.saturating_add(brought) > self.write_limit {
            return Err(io::Error::other("global_buffer_bytes is used up"));
        }
        Ok(key)
    }

    /// Takes over what a connection brings along.
    fn take_over(&mut self, id: ConnId, mut detached: Detached) {
        let queued = std::mem::take(&mut detached.queued);
        let unread = std::mem::take(&mut detached.unread);
        // While it can still be written to.
        self.write_shared(id, Bytes::from(queued));
        self.mark_flag(
            id,
            match detached.send_side {
                SendSide::Open => Flags::NONE,
                SendSide::FinOwed => Flags::SHUTDOWN,
                SendSide::FinSent => Flags::SHUTDOWN.or(Flags::FIN_SENT),
            },
        );
        if !unread.is_empty() {
            self.stats.received_bytes += unread.len() as u64;
            if let Some(conn) = self.conns.get_mut(id.0) {
                conn.received_bytes = unread.len() as u64;
            }
            self.keep_whole(id, unread);
            self.mark(id, Flags::SHOW_KEPT);
        }
        self.mark_dirty(id);
        self.arm_deadline(id);
    }

    /// Asks for a connection to be given away: the handler is given its socket by
    /// [`on_release`](crate::Handler::on_release), with what it has not consumed and what was not
    /// sent, and `on_close` follows with [`CloseReason::Released`]. Its `dropped_bytes` are those
    /// that were handed out as queued. Returns whether it was asked: not for an id that is stale,
    /// connecting or closing, and not for a connection that is found broken.
    ///
    /// From here on nothing is read, sent or accepted for sending, and its timers are gone. While
    /// a send is in flight (on backends where sends complete later) the release waits for it,
    /// within the write-stall timeout. [`abort`](Net::abort) and a failure of that send win over
    /// it.
    ///
    /// # Re-entrancy
    ///
    /// Within `on_data` of the same connection, what that call does not consume goes along, and
    /// within `on_read_closed` what that is shown. The release comes at the end of this turn, or
    /// after it if called in `on_turn_end`. The slot is free behind `on_close`: a loop at
    /// `max_connections` cannot adopt the connection again within `on_release`.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::mpsc::Sender;
    ///
    /// use hotloop::{ConnId, Detached, Handler, Net};
    ///
    /// /// Reads the name of a room, and hands the connection to whoever runs that.
    /// struct Lobby {
    ///     room: Sender<Detached>,
    /// }
    ///
    /// impl Handler for Lobby {
    ///     fn on_data(&mut self, net: &mut Net, conn: ConnId, data: &[u8]) -> usize {
    ///         let Some(end) = data.iter().position(|byte| *byte == b'\n') else { return 0 };
    ///         net.release(conn);
    ///         end + 1 // what is behind it goes along
    ///     }
    ///
    ///     fn on_release(&mut self, _: &mut Net, _: ConnId, detached: Detached) {
    ///         // An error has it in it, and drops it: that closes the connection.
    ///         let _ = self.room.send(detached);
    ///     }
    /// }
    /// ```
    pub fn release(&mut self, conn: ConnId) -> bool {
        let Some(record) = self.conns.get_mut(conn.0) else { return false };
        if record.phase != Phase::Open || record.send_error.is_some() {
            return false;
        }
        record.phase = Phase::Releasing;
        record.flags.clear(Flags::PRESSURED.or(Flags::STARVED).or(Flags::SHOW_KEPT));
        self.timers.cancel_owned(conn);
        self.release_when_idle(conn);
        true
    }

    /// Puts a connection that is to be given away where that is done, once nothing is in flight.
    pub(crate) fn release_when_idle(&mut self, id: ConnId) {
        if self.conns.get(id.0).is_some_and(is_releasable) {
            self.closings.push_back(id);
        }
    }

    /// Takes a connection that is to be given away out of the loop: only its `on_close` is due
    /// after this. `None` for any other.
    pub(crate) fn detach(&mut self, id: ConnId) -> Option<Detached> {
        let conn = self.conns.get_mut(id.0).filter(|conn| is_releasable(conn))?;
        // The getters still work in `on_release` and `on_close`.
        learn_local(conn, &mut *self.backend);
        let queued = conn.outbound.pieces(&self.segments, usize::MAX);
        let queued = queued.map(|piece| piece.bytes).collect::<Vec<_>>().concat();
        let send_side = match conn.flags {
            flags if flags.any(Flags::FIN_SENT) => SendSide::FinSent,
            flags if flags.any(Flags::SHUTDOWN) => SendSide::FinOwed,
            _ => SendSide::Open,
        };
        conn.flags.set(Flags::SOCK_CLOSING.or(Flags::SOCK_CLOSED));
        let sock = conn.sock;
        let mut unread = self.hand_out_kept(id);
        let socket = self.backend.detach(&sock, &mut unread);
        self.decide(id, CloseReason::Released, false);
        Some(Detached::new(socket, unread, queued, send_side))
    }

    /// Listens on a socket from elsewhere: one that was inherited (socket activation of systemd,
    /// `sd_listen_fds(3)`), or what another loop has [released](Net::release_listener). What waits
    /// in its backlog is accepted. The socket becomes non-blocking and close-on-exec.
    ///
    /// # Errors
    ///
    /// In all cases with what was given: a socket that does not listen or is not one of IP, one of
    /// another (simulated) system, a loop that is shutting down, and those of the registration.
    ///
    /// # Examples
    ///
    /// ```
    /// use hotloop::{Config, Loop};
    ///
    /// let inherited = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// let addr = inherited.local_addr()?;
    /// let mut event_loop = Loop::new(Config::default())?;
    /// let listener = event_loop.net().adopt_listener(inherited)?;
    /// assert_eq!(event_loop.net().listener_addr(listener), Some(addr));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn adopt_listener(
        &mut self,
        listener: impl Into<DetachedListener>,
    ) -> Result<ListenerId, AdoptError<DetachedListener>> {
        self.adopt_listener_with(listener, ListenOptions::default())
    }

    /// Listens on a socket from elsewhere, as [`adopt_listener`](Net::adopt_listener). Of the
    /// options only those for its connections apply: the socket is bound and listens already.
    ///
    /// # Errors
    ///
    /// As [`adopt_listener`](Net::adopt_listener), and options that contradict each other.
    pub fn adopt_listener_with(
        &mut self,
        listener: impl Into<DetachedListener>,
        options: ListenOptions,
    ) -> Result<ListenerId, AdoptError<DetachedListener>> {
        let given = listener.into();
        let key = match options.check().and_then(|()| self.vacant_listener()) {
            Ok(key) => key,
            Err(error) => return Err(AdoptError::new(error, given)),
        };
        match self.backend.adopt_listener(key, given.socket) {
            Ok((handle, local)) => Ok(self.listening(key, handle, local, &options)),
            Err((error, socket)) => Err(AdoptError::new(error, DetachedListener { socket })),
        }
    }

    /// Gives a listener away: its id is stale at once. Connections it accepted stay; those in its
    /// backlog wait for the next owner. `None` if the id is stale.
    pub fn release_listener(&mut self, listener: ListenerId) -> Option<DetachedListener> {
        let gone = self.forget_listener(listener)?;
        let socket = self.backend.detach(&gone.sock, &mut Vec::new());
        Some(DetachedListener { socket })
    }

    /// Makes the record of a listener.
    pub(crate) fn listening(
        &mut self,
        key: Key,
        handle: i32,
        local: SocketAddr,
        options: &ListenOptions,
    ) -> ListenerId {
        let conn_options = match &options.conn {
            Some(own) => Arc::new(own.clone()),
            None => Arc::clone(&self.default_options),
        };
        self.listeners.insert(key, Listener::new(Net::sock(key, handle), local, conn_options));
        log::info!("listening on {local}");
        ListenerId(key)
    }
}

fn is_releasable(conn: &Conn) -> bool {
    conn.phase == Phase::Releasing && !conn.flags.any(Flags::IN_FLIGHT)
}
