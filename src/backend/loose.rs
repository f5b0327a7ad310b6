//! Sockets that belong to no loop: on their way into one, or out of one.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};

use socket2::Socket;

#[cfg(any(test, feature = "script"))]
use super::script;
use super::sim;
use crate::options::invalid;

/// A socket that no backend watches. Dropping it closes it.
#[derive(Debug)]
pub(crate) enum Loose {
    System(Socket),
    Simulated(sim::LooseSocket),
    #[cfg(any(test, feature = "script"))]
    Scripted(script::LooseSocket),
}

impl Loose {
    /// Returns the system's socket, for a backend on the system.
    pub(crate) fn system(self) -> Result<Socket, (io::Error, Loose)> {
        match self {
            Loose::System(socket) => Ok(socket),
            other => Err((foreign(), other)),
        }
    }

    /// Has the close that follows reset the connection.
    fn reset_on_close(&mut self) {
        match self {
            // A failure leaves an ordinary close, which is all that can be done then.
            Loose::System(socket) => drop(socket.set_linger(Some(std::time::Duration::ZERO))),
            Loose::Simulated(socket) => socket.reset_on_close(),
            #[cfg(any(test, feature = "script"))]
            Loose::Scripted(socket) => socket.reset_on_close(),
        }
    }
}

/// What a backend answers that is given a socket of another world.
pub(crate) fn foreign() -> io::Error {
    invalid("a socket of another system than the loop's")
}

/// How far the sending side of a connection is.
///
/// # Examples
///
/// ```
/// use hotloop::{Detached, SendSide};
///
/// /// Returns whether more can be sent.
/// fn is_writable(detached: &Detached) -> bool {
///     detached.send_side() == SendSide::Open
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SendSide {
    /// It can be written to.
    Open,
    /// [`Net::shutdown`](crate::Net::shutdown) was called, and the FIN is still to be sent behind
    /// the queued bytes.
    FinOwed,
    /// The FIN was sent.
    FinSent,
}

/// A connection that belongs to no loop: its socket, what was received and not consumed, and what
/// was written and not sent.
///
/// A loop gives one away with [`Net::release`](crate::Net::release) and takes one with
/// [`Net::adopt`](crate::Net::adopt). Between the two it can go to another thread, or be taken
/// apart with [`into_parts`](Detached::into_parts).
///
/// Dropping it closes the connection: with a reset if queued bytes are lost by that or a panic
/// drops it, otherwise with a FIN, as `close(2)` does.
///
/// ```no_run
/// use hotloop::{ConnId, Detached, Handler, Net};
/// use std::net::TcpStream;
///
/// struct HandOver {
///     upgraded: Vec<(TcpStream, Vec<u8>)>,
/// }
///
/// impl Handler for HandOver {
///     fn on_data(&mut self, net: &mut Net, conn: ConnId, data: &[u8]) -> usize {
///         net.release(conn);
///         data.len().min(4) // the rest goes along as unread
///     }
///
///     fn on_release(&mut self, _: &mut Net, _: ConnId, detached: Detached) {
///         if let Ok((stream, unread, queued)) = detached.into_parts() {
///             assert!(queued.is_empty(), "this handler writes nothing");
///             self.upgraded.push((stream, unread));
///         }
///     }
/// }
/// ```
pub struct Detached {
    /// There until it is taken apart.
    socket: Option<Loose>,
    pub(crate) unread: Vec<u8>,
    pub(crate) queued: Vec<u8>,
    pub(crate) send_side: SendSide,
}

impl Detached {
    pub(crate) fn new(
        socket: Loose,
        unread: Vec<u8>,
        queued: Vec<u8>,
        send_side: SendSide,
    ) -> Detached {
        Detached { socket: Some(socket), unread, queued, send_side }
    }

    /// Adds bytes that were received and are to be shown to the handler first, behind those that
    /// are there already: what a protocol's preamble has read too far.
    ///
    /// # Examples
    ///
    /// ```
    /// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let stream = std::net::TcpStream::connect(listener.local_addr()?)?;
    /// use hotloop::Detached;
    ///
    /// let detached = Detached::from(stream).with_unread(b"GET / ").with_queued(b"hello\n");
    /// assert_eq!((detached.unread(), detached.queued()), (&b"GET / "[..], &b"hello\n"[..]));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn with_unread(mut self, bytes: &[u8]) -> Self {
        self.unread.extend_from_slice(bytes);
        self
    }

    /// Adds bytes that are to be sent before anything else, behind those that are there already.
    pub fn with_queued(mut self, bytes: &[u8]) -> Self {
        self.queued.extend_from_slice(bytes);
        self
    }

    /// Returns the bytes that were received and not consumed. What the kernel still holds is not
    /// among them: it stays readable on the socket.
    pub fn unread(&self) -> &[u8] {
        &self.unread
    }

    /// Returns the bytes that writes had accepted and that were not sent.
    pub fn queued(&self) -> &[u8] {
        &self.queued
    }

    /// Returns how far the sending side is.
    pub fn send_side(&self) -> SendSide {
        self.send_side
    }

    /// Takes it apart: the socket, the unread bytes and the queued bytes. The socket is
    /// non-blocking (`TcpStream::set_nonblocking` changes that). If
    /// [`send_side`](Detached::send_side) says that a FIN is owed, it is owed behind the queued
    /// bytes.
    ///
    /// # Errors
    ///
    /// Gives it back if its socket is a simulated one, which is nothing outside its world.
    pub fn into_parts(mut self) -> Result<(TcpStream, Vec<u8>, Vec<u8>), Detached> {
        match self.socket.take() {
            Some(Loose::System(socket)) => {
                let unread = std::mem::take(&mut self.unread);
                Ok((socket.into(), unread, std::mem::take(&mut self.queued)))
            }
            other => {
                self.socket = other;
                Err(self)
            }
        }
    }

    /// Lends out the socket, which has to be put back if nobody takes it.
    #[allow(clippy::expect_used, reason = "its callers put it back or give it up for good")]
    pub(crate) fn take_socket(&mut self) -> Loose {
        self.socket.take().expect("it is there until the connection is taken apart")
    }

    pub(crate) fn put_socket(&mut self, socket: Loose) {
        self.socket = Some(socket);
    }
}

impl From<TcpStream> for Detached {
    fn from(stream: TcpStream) -> Detached {
        let socket = Loose::System(Socket::from(stream));
        Detached::new(socket, Vec::new(), Vec::new(), SendSide::Open)
    }
}

impl Drop for Detached {
    /// Closes the connection. A FIN says that all was sent, so that one that loses bytes resets;
    /// so does one that a panic drops, whose user cannot say what was to follow (C6).
    fn drop(&mut self) {
        let is_cut = !self.queued.is_empty() || std::thread::panicking();
        if let Some(mut socket) = self.socket.take().filter(|_| is_cut) {
            socket.reset_on_close();
        }
    }
}

impl fmt::Debug for Detached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Detached")
            .field("socket", &self.socket)
            .field("unread_bytes", &self.unread.len())
            .field("queued_bytes", &self.queued.len())
            .field("send_side", &self.send_side)
            .finish()
    }
}

/// A listener that belongs to no loop, as [`Net::release_listener`](crate::Net::release_listener)
/// gives it away and [`Net::adopt_listener`](crate::Net::adopt_listener) takes it. The connections
/// that wait in its backlog stay there. Dropping it closes it.
///
/// # Examples
///
/// ```
/// use hotloop::{Config, Loop};
///
/// let mut event_loop = Loop::new(Config::default())?;
/// let listener = event_loop.net().listen("127.0.0.1:0")?;
/// let addr = event_loop.net().listener_addr(listener);
/// let detached = event_loop.net().release_listener(listener).expect("it listens");
/// let listener = detached.into_listener().expect("it is the system's");
/// assert_eq!(listener.local_addr().ok(), addr);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct DetachedListener {
    pub(crate) socket: Loose,
}

impl DetachedListener {
    /// Returns the system's listener. It is non-blocking.
    ///
    /// # Errors
    ///
    /// Gives it back if its socket is a simulated one, which is nothing outside its world.
    pub fn into_listener(self) -> Result<TcpListener, DetachedListener> {
        match self.socket {
            Loose::System(socket) => Ok(socket.into()),
            socket => Err(DetachedListener { socket }),
        }
    }
}

impl From<TcpListener> for DetachedListener {
    fn from(listener: TcpListener) -> DetachedListener {
        DetachedListener { socket: Loose::System(Socket::from(listener)) }
    }
}

/// What a backend makes of a socket that it takes: its handle and an address (the peer's of a
/// connection, the own of a listener); or an error, and the socket back.
pub(crate) type Taken = Result<(i32, SocketAddr), (io::Error, Loose)>;

/// A loop did not take what it was given to adopt: why, and what it was given.
///
/// Becomes an [`io::Error`] by `?`, which drops what was given.
///
/// # Examples
///
/// ```
/// use hotloop::{Config, Loop};
///
/// let mut full = Loop::new(Config::default().max_connections(0))?;
/// let peer = std::net::TcpListener::bind("127.0.0.1:0")?;
/// let stream = std::net::TcpStream::connect(peer.local_addr()?)?;
/// let refused = full.net().adopt(stream).expect_err("there is no room");
/// assert!(refused.error().to_string().contains("max_connections"));
/// let mut other = Loop::new(Config::default())?;
/// other.net().adopt(refused.into_inner())?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct AdoptError<T> {
    error: io::Error,
    given: T,
}

impl<T> AdoptError<T> {
    pub(crate) fn new(error: io::Error, given: T) -> AdoptError<T> {
        AdoptError { error, given }
    }

    /// Returns why it was not taken.
    pub fn error(&self) -> &io::Error {
        &self.error
    }

    /// Returns what was given. Some of the options of its socket may have been set, but it blocks
    /// or not as before, unless only its registration has failed.
    pub fn into_inner(self) -> T {
        self.given
    }
}

impl<T> From<AdoptError<T>> for io::Error {
    fn from(refused: AdoptError<T>) -> io::Error {
        refused.error
    }
}

impl<T> fmt::Display for AdoptError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not adopted: {}", self.error)
    }
}

impl<T: fmt::Debug> std::error::Error for AdoptError<T> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}
