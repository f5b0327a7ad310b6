//! Options and counts of the sockets themselves.

use std::io;

use crate::backend::Sock;
use crate::conn::Flags;
use crate::id::{ConnId, ListenerId};
use crate::net::{Net, while_doing};
use crate::socket_option::{KernelCount, OptionName, SocketOption, TcpInfo};
use crate::sys::socket_fd::SocketFd;

/// A connection or a listener: whatever has a socket.
///
/// # Examples
///
/// ```
/// use hotloop::{Config, Loop, SocketId, SocketOption};
///
/// let mut event_loop = Loop::new(Config::default())?;
/// let listener = event_loop.net().listen("127.0.0.1:0")?;
/// let option = SocketOption::RecvBufferBytes(256 << 10);
/// event_loop.net().set_socket_option(listener, &option)?; // `impl Into<SocketId>`
/// assert_eq!(SocketId::from(listener), SocketId::Listener(listener));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SocketId {
    /// A connection's.
    Conn(ConnId),
    /// A listener's.
    Listener(ListenerId),
}

impl From<ConnId> for SocketId {
    fn from(id: ConnId) -> SocketId {
        SocketId::Conn(id)
    }
}

impl From<ListenerId> for SocketId {
    fn from(id: ListenerId) -> SocketId {
        SocketId::Listener(id)
    }
}

impl Net {
    /// Sets an option of a socket, at once.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a value that is out of range,
    /// [`NotConnected`](io::ErrorKind::NotConnected) for an id without an open socket,
    /// [`Unsupported`](io::ErrorKind::Unsupported) for what this system lacks, and the system's
    /// own (`setsockopt(2)`): each names the option.
    ///
    /// # Examples
    ///
    /// ```
    /// use hotloop::{ConnId, Keepalive, Net, SocketOption};
    /// use std::time::Duration;
    ///
    /// fn watch_closely(net: &mut Net, conn: ConnId) -> std::io::Result<()> {
    ///     let second = Duration::from_secs(1);
    ///     let keepalive = Keepalive { idle: 10 * second, interval: second, probes: 5 };
    ///     net.set_socket_option(conn, &SocketOption::Keepalive(Some(keepalive)))?;
    ///     net.set_socket_option(conn, &SocketOption::UserTimeout(15 * second))
    /// }
    /// ```
    pub fn set_socket_option(
        &mut self,
        id: impl Into<SocketId>,
        option: &SocketOption,
    ) -> io::Result<()> {
        option.check()?;
        let sock = self.socket_of(id.into());
        let set = sock.and_then(|sock| self.backend.set_option(&sock, option));
        set.map_err(|error| while_doing(format!("set {option:?}"), error))
    }

    /// Reads an option of a socket: what the system makes of it, which may differ from what was
    /// set.
    ///
    /// # Errors
    ///
    /// As [`set_socket_option`](Net::set_socket_option).
    ///
    /// # Examples
    ///
    /// ```
    /// use hotloop::{Config, Loop, OptionName, SocketOption};
    ///
    /// let mut event_loop = Loop::new(Config::default())?;
    /// let listener = event_loop.net().listen("127.0.0.1:0")?;
    /// let found = event_loop.net().socket_option(listener, OptionName::ReusePort)?;
    /// assert_eq!(found, SocketOption::ReusePort(false));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn socket_option(
        &mut self,
        id: impl Into<SocketId>,
        name: OptionName,
    ) -> io::Result<SocketOption> {
        let sock = self.socket_of(id.into());
        let found = sock.and_then(|sock| self.backend.option(&sock, name));
        found.map_err(|error| while_doing(format!("read {name:?}"), error))
    }

    /// Returns what the kernel knows of a connection: round-trip time, retransmissions, congestion
    /// window, and more. One system call.
    ///
    /// # Errors
    ///
    /// [`NotConnected`](io::ErrorKind::NotConnected) for an id without an open socket,
    /// [`Unsupported`](io::ErrorKind::Unsupported) where the system does not tell (`tcp(7)`,
    /// `TCP_INFO`: Linux).
    ///
    /// # Examples
    ///
    /// ```
    /// use hotloop::{ConnId, Net};
    ///
    /// fn log_rtt(net: &mut Net, conn: ConnId) {
    ///     if let Ok(info) = net.tcp_info(conn) {
    ///         log::info!("{conn}: rtt {:?} ± {:?}", info.rtt, info.rtt_variance);
    ///     }
    /// }
    /// ```
    pub fn tcp_info(&mut self, conn: ConnId) -> io::Result<TcpInfo> {
        let sock = self.socket_of(conn.into());
        let info = sock.and_then(|sock| self.backend.tcp_info(&sock));
        info.map_err(|error| while_doing("read TCP_INFO".to_owned(), error))
    }

    /// Returns how many bytes the kernel holds of what was sent: those that it has not sent, and
    /// those that the peer has not acknowledged (`SIOCOUTQ`, `tcp(7)`). With
    /// [`queued_bytes`](Net::queued_bytes) it is all that the peer does not have for certain.
    ///
    /// # Errors
    ///
    /// As [`tcp_info`](Net::tcp_info).
    ///
    /// # Examples
    ///
    /// ```
    /// use hotloop::{ConnId, Net};
    ///
    /// /// Returns how many bytes the peer may not have yet.
    /// fn behind_bytes(net: &mut Net, conn: ConnId) -> std::io::Result<usize> {
    ///     Ok(net.queued_bytes(conn) + net.unacked_bytes(conn)?)
    /// }
    /// ```
    pub fn unacked_bytes(&mut self, conn: ConnId) -> io::Result<usize> {
        self.kernel_count(conn.into(), KernelCount::Unacked)
    }

    /// Returns how many bytes the kernel holds and has not sent even once (`SIOCOUTQNSD`).
    ///
    /// # Errors
    ///
    /// As [`tcp_info`](Net::tcp_info).
    pub fn unsent_bytes(&mut self, conn: ConnId) -> io::Result<usize> {
        self.kernel_count(conn.into(), KernelCount::Unsent)
    }

    /// Returns how many connections wait in a listener's backlog to be accepted.
    ///
    /// # Errors
    ///
    /// As [`tcp_info`](Net::tcp_info).
    ///
    /// # Examples
    ///
    /// ```
    /// use hotloop::{ListenerId, Net};
    ///
    /// /// Returns whether connects come faster than they are accepted.
    /// fn is_behind(net: &mut Net, listener: ListenerId) -> bool {
    ///     net.backlog_len(listener).is_ok_and(|waiting| waiting > 512)
    /// }
    /// ```
    pub fn backlog_len(&mut self, listener: ListenerId) -> io::Result<usize> {
        self.kernel_count(listener.into(), KernelCount::Backlog)
    }

    /// Lends the socket itself, for what there is no function for: another option, a filter.
    /// `None` for an id without an open socket, and on a simulated one.
    ///
    /// Reading, writing, shutting down, closing, and changing whether it blocks is the loop's: do
    /// none of it, or the contract does not hold for this connection.
    pub fn fd(&self, id: impl Into<SocketId>) -> Option<SocketFd<'_>> {
        let sock = self.socket_of(id.into()).ok()?;
        self.backend.fd(&sock)
    }

    fn kernel_count(&mut self, id: SocketId, what: KernelCount) -> io::Result<usize> {
        let sock = self.socket_of(id)?;
        self.backend.kernel_count(&sock, what)
    }

    /// Finds an open socket.
    fn socket_of(&self, id: SocketId) -> io::Result<Sock> {
        let sock = match id {
            SocketId::Conn(id) => {
                let open = |conn: &&crate::conn::Conn| !conn.flags.any(Flags::SOCK_CLOSING);
                self.conns.get(id.0).filter(open).map(|conn| conn.sock)
            }
            SocketId::Listener(id) => self.listeners.get(id.0).map(|listener| listener.sock),
        };
        sock.ok_or_else(|| io::Error::new(io::ErrorKind::NotConnected, "an id without a socket"))
    }
}
