//! A small in-memory backend for tests: a scripted world of peers, in both dialects of the seam,
//! readiness and completion. What a test scripts happens at the next wait; time is virtual and
//! jumps to the next deadline.

#![allow(
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::unreachable,
    reason = "a test's world: what is impossible in it is a mistake to show"
)]

#[cfg_attr(loom, path = "flag_loom.rs")]
mod flag;
mod link;
mod loose;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::backend::stored_options::StoredOptions;
use crate::backend::{
    Accept, Backend, Close, Connect, Event, Loose, Recv, Send, Signal, Sock, Taken,
};
use crate::error::Errno;
use crate::id::Key;
use crate::options::{ConnOptions, ListenOptions};
use crate::recv_memory::{Lent, RecvMemory};
use crate::segment::Pieces;
use crate::socket_option::{KernelCount, OptionName, SocketOption, TcpInfo, unsupported};
use crate::sys::errno::{ECONNREFUSED, ECONNRESET, ENOTCONN};
use crate::sys::poll_fd::PollFd;
use crate::sys::socket_fd::SocketFd;
use crate::time::Time;

pub use crate::backend::sim::Dialect;
use flag::Flag;
use link::{Flight, Link, hold};
pub(crate) use loose::LooseSocket;

/// The other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Peer(usize);

/// How often the loop called the backend.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Calls {
    /// Waits.
    pub waits: usize,
    /// Receives.
    pub recvs: usize,
    /// Sends.
    pub sends: usize,
    /// Accepts.
    pub accepts: usize,
    /// Changes of interest.
    pub interests: usize,
}

/// What a test scripts, shared with the backend.
#[derive(Debug, Clone)]
pub struct World(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    dialect: Dialect,
    now: Time,
    signal: Arc<Flag>,
    /// The sockets of the loop by handle; the lowest free one is reused first.
    sockets: Vec<Option<Socket>>,
    /// By handle.
    options: HashMap<i32, StoredOptions>,
    links: Vec<Link>,
    /// Servers outside the loop, and who has been connected to them.
    servers: HashMap<SocketAddr, VecDeque<Peer>>,
    black_holes: BTreeSet<SocketAddr>,
    injected: Vec<Event>,
    lent: BTreeSet<u32>,
    next_buffer: u32,
    calls: Calls,
    self_connect: Option<SocketAddr>,
}

#[derive(Debug)]
enum Socket {
    Listener {
        key: Key,
        addr: SocketAddr,
        queue: VecDeque<Peer>,
        errors: VecDeque<i32>,
        edge: bool,
    },
    Conn(Peer),
    /// A connect that is refused or never answered.
    Nowhere {
        key: Key,
        refused: bool,
        told: bool,
    },
    /// A completion close that has not been reported.
    Closing(Key),
}

impl World {
    /// Makes an empty world.
    pub fn new(dialect: Dialect) -> World {
        World(Arc::new(Mutex::new(State {
            dialect,
            now: Time::from_nanos(1_000_000_000),
            signal: Arc::default(),
            sockets: Vec::new(),
            options: HashMap::new(),
            links: Vec::new(),
            servers: HashMap::new(),
            black_holes: BTreeSet::new(),
            injected: Vec::new(),
            lent: BTreeSet::new(),
            next_buffer: 0,
            calls: Calls::default(),
            self_connect: None,
        })))
    }

    pub(crate) fn backend(&self) -> Box<dyn Backend> {
        Box::new(Script(self.clone()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connects a peer to a listener of the loop; `None` if there is none.
    pub fn connect(&self, addr: SocketAddr) -> Option<Peer> {
        let mut state = self.state();
        let peer = state.new_link(addr);
        state.sockets.iter_mut().flatten().find_map(|socket| match socket {
            Socket::Listener { addr: bound, queue, edge, .. } if *bound == addr => {
                queue.push_back(peer);
                *edge = true;
                Some(peer)
            }
            _ => None,
        })
    }

    /// Opens a server outside the loop, for it to connect to.
    pub fn listen(&self, addr: SocketAddr) {
        self.state().servers.entry(addr).or_default();
    }

    /// Makes connects to an address stay unanswered.
    pub fn black_hole(&self, addr: SocketAddr) {
        self.state().black_holes.insert(addr);
    }

    /// Makes connects to an address reach the connecting socket itself.
    pub fn self_connect(&self, addr: SocketAddr) {
        self.state().self_connect = Some(addr);
    }

    /// Returns the next connection the loop has made to a server.
    pub fn accept(&self, addr: SocketAddr) -> Option<Peer> {
        self.state().servers.get_mut(&addr)?.pop_front()
    }

    fn link<T>(&self, peer: Peer, change: impl FnOnce(&mut Link) -> T) -> T {
        change(&mut self.state().links[peer.0])
    }

    /// Sends bytes to the loop.
    pub fn send(&self, peer: Peer, data: &[u8]) {
        self.link(peer, |link| {
            link.inbound.extend(data);
            link.edge_in = true;
        });
    }

    /// Sends a FIN to the loop.
    pub fn finish(&self, peer: Peer) {
        self.link(peer, |link| (link.fin, link.edge_in) = (true, true));
    }

    /// Resets the connection: what was sent before can still be read.
    pub fn reset(&self, peer: Peer) {
        self.link(peer, |link| {
            (link.error, link.reset) = (Some(ECONNRESET), true);
            (link.edge_in, link.edge_out, link.hang_up) = (true, true, true);
        });
    }

    /// Returns all the bytes the loop has sent.
    pub fn received(&self, peer: Peer) -> Vec<u8> {
        self.link(peer, |link| link.outbound.clone())
    }

    /// Makes room for so many more bytes from the loop.
    pub fn set_window(&self, peer: Peer, bytes: usize) {
        self.link(peer, |link| (link.window, link.edge_out) = (bytes, true));
    }

    /// Makes each send take so many bytes at most.
    pub fn set_send_max(&self, peer: Peer, bytes: usize) {
        self.link(peer, |link| link.most = bytes);
    }

    /// Makes the next send fail.
    pub fn fail_send(&self, peer: Peer, errno: i32) {
        self.link(peer, |link| link.fail_send = Some(errno));
    }

    /// Makes the receive behind what was sent fail once; the connection itself stays.
    pub fn fail_recv(&self, peer: Peer, errno: i32) {
        self.link(peer, |link| (link.error, link.edge_in) = (Some(errno), true));
    }

    /// Reports the connection as ready for everything, though it is not.
    pub fn spurious(&self, peer: Peer) {
        self.link(peer, |link| {
            (link.edge_in, link.edge_out, link.hang_up) = (true, true, true);
        });
    }

    /// Reports an id, stale or not, as ready for everything at the next wait.
    pub fn inject(&self, id_bits: u64) {
        let Some(key) = Key::from_bits(id_bits) else {
            return;
        };
        self.state().injected.push(ready(key, true, true, true, true));
    }

    /// Returns whether the loop's FIN has arrived.
    pub fn is_finished(&self, peer: Peer) -> bool {
        self.link(peer, |link| link.finished)
    }

    /// Returns whether a reset by the loop has arrived.
    pub fn is_reset(&self, peer: Peer) -> bool {
        self.link(peer, |link| link.reset && link.closed)
    }

    /// Makes the next accepts of a listener fail.
    pub fn fail_accepts(&self, addr: SocketAddr, errnos: &[i32]) {
        for socket in self.state().sockets.iter_mut().flatten() {
            if let Socket::Listener { addr: bound, errors, edge, .. } = socket {
                if *bound == addr {
                    errors.extend(errnos);
                    *edge = true;
                }
            }
        }
    }

    /// Lets virtual time pass.
    pub fn advance(&self, duration: Duration) {
        let mut state = self.state();
        state.now = state.now + duration;
    }

    /// Returns how many sockets the loop has open.
    pub fn open_sockets(&self) -> usize {
        self.state().sockets.iter().flatten().count()
    }

    /// Returns how many received buffers are lent and not released.
    pub fn lent_buffers(&self) -> usize {
        self.state().lent.len()
    }

    /// Returns how often the loop called.
    pub fn calls(&self) -> Calls {
        self.state().calls
    }
}

fn ready(key: Key, readable: bool, writable: bool, hang_up: bool, exhaust: bool) -> Event {
    Event::Ready { key, readable, writable, hang_up, exhaust }
}

impl State {
    fn new_link(&mut self, local: SocketAddr) -> Peer {
        self.links.push(Link {
            key: None,
            local,
            inbound: VecDeque::new(),
            fin: false,
            error: None,
            outbound: Vec::new(),
            window: usize::MAX,
            most: usize::MAX,
            finished: false,
            reset: false,
            closed: false,
            edge_in: false,
            edge_out: false,
            hang_up: false,
            ignored: false,
            watched: false,
            in_flight: None,
            fail_send: None,
        });
        Peer(self.links.len() - 1)
    }

    fn open(&mut self, socket: Socket) -> i32 {
        let free = self.sockets.iter().position(Option::is_none);
        let handle = free.unwrap_or_else(|| {
            self.sockets.push(None);
            self.sockets.len() - 1
        });
        self.sockets[handle] = Some(socket);
        self.options.remove(&i32::try_from(handle).expect("few sockets"));
        i32::try_from(handle).expect("few sockets")
    }

    fn socket(&mut self, sock: &Sock) -> &mut Option<Socket> {
        &mut self.sockets[usize::try_from(sock.handle).expect("a handle is not negative")]
    }

    fn conn(&mut self, sock: &Sock) -> &mut Link {
        let Some(Socket::Conn(peer)) = self.socket(sock) else { panic!("no connection: {sock:?}") };
        let peer = *peer;
        let link = &mut self.links[peer.0];
        assert_eq!(link.key, Some(sock.key), "the handle is another connection's");
        link
    }

    /// Reports everything that has happened; forgets that it was news.
    fn collect(&mut self, events: &mut Vec<Event>) {
        events.append(&mut self.injected);
        for socket in self.sockets.iter_mut().flatten() {
            match socket {
                Socket::Listener { key, edge, .. } if *edge => {
                    *edge = false;
                    events.push(ready(*key, true, false, false, false));
                }
                Socket::Nowhere { key, refused: true, told } if !*told => {
                    *told = true;
                    events.push(ready(*key, true, true, true, true));
                }
                _ => {}
            }
        }
        for link in &mut self.links {
            link.land(events);
            link.report(events);
        }
        for socket in &mut self.sockets {
            if let Some(Socket::Closing(key)) = *socket {
                events.push(Event::Ended { key });
                *socket = None;
            }
        }
    }
}

impl Socket {
    fn listens_on(&self, wanted: SocketAddr) -> bool {
        matches!(self, Socket::Listener { addr, .. } if *addr == wanted)
    }
}

struct Script(World);

impl Drop for Script {
    /// Finishes the closes that were never reported.
    fn drop(&mut self) {
        for socket in &mut self.0.state().sockets {
            socket.take_if(|socket| matches!(socket, Socket::Closing(_)));
        }
    }
}

impl Backend for Script {
    fn now(&mut self) -> Time {
        self.0.state().now
    }

    fn wait(
        &mut self,
        _: Time,
        deadline: Option<Time>,
        events: &mut Vec<Event>,
    ) -> io::Result<bool> {
        let mut state = self.0.state();
        state.calls.waits += 1;
        state.collect(events);
        let sleeps = events.is_empty() && deadline.is_none();
        let woken = state.signal.take(sleeps);
        if events.is_empty() && !woken {
            let deadline =
                deadline.expect("without an event or a deadline the loop sleeps for ever");
            state.now = state.now.max(deadline);
        }
        Ok(woken)
    }

    fn signal(&self) -> Arc<dyn Signal> {
        Arc::clone(&self.0.state().signal) as Arc<dyn Signal>
    }

    fn poll_fd(&self) -> Option<PollFd<'_>> {
        None
    }

    fn connections_max(&self) -> usize {
        1 << 20
    }

    fn listen(
        &mut self,
        key: Key,
        mut addr: SocketAddr,
        _: &ListenOptions,
    ) -> io::Result<(i32, SocketAddr)> {
        let mut state = self.0.state();
        if state.sockets.iter().flatten().any(|socket| socket.listens_on(addr)) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let handle = state.open(Socket::Closing(key));
        if addr.port() == 0 {
            addr.set_port(40_000 + u16::try_from(handle).expect("few sockets"));
        }
        let (queue, errors) = (VecDeque::new(), VecDeque::new());
        let index = usize::try_from(handle).expect("not negative");
        state.sockets[index] = Some(Socket::Listener { key, addr, queue, errors, edge: false });
        Ok((handle, addr))
    }

    fn accept(&mut self, listener: &Sock, key: Key, _: &ConnOptions) -> Accept {
        let mut state = self.0.state();
        state.calls.accepts += 1;
        let Some(Socket::Listener { queue, errors, .. }) = state.socket(listener) else {
            panic!("no listener: {listener:?}");
        };
        if let Some(errno) = errors.pop_front() {
            return Accept::Failed(Errno(errno));
        }
        let Some(peer) = queue.pop_front() else {
            return Accept::WouldBlock;
        };
        let link = &mut state.links[peer.0];
        link.key = Some(key);
        let port = u16::try_from(peer.0).unwrap_or(u16::MAX);
        let handle = state.open(Socket::Conn(peer));
        Accept::Accepted { handle, peer: SocketAddr::from(([10, 0, 0, 1], port)) }
    }

    fn connect(
        &mut self,
        key: Key,
        addr: SocketAddr,
        _: &ConnOptions,
    ) -> io::Result<(i32, Connect)> {
        let mut state = self.0.state();
        let local = state.self_connect.unwrap_or(SocketAddr::from(([10, 0, 0, 2], 1)));
        if local != addr && !state.servers.contains_key(&addr) {
            let refused = !state.black_holes.contains(&addr);
            let handle = state.open(Socket::Nowhere { key, refused, told: false });
            return Ok((handle, Connect::InProgress));
        }
        let peer = state.new_link(local);
        let link = &mut state.links[peer.0];
        (link.key, link.edge_out, link.watched) = (Some(key), true, true);
        if let Some(server) = state.servers.get_mut(&addr) {
            server.push_back(peer);
        }
        Ok((state.open(Socket::Conn(peer)), Connect::InProgress))
    }

    fn finish_connect(&mut self, conn: &Sock) -> Connect {
        let mut state = self.0.state();
        match state.socket(conn) {
            Some(Socket::Nowhere { refused: true, .. }) => Connect::Failed(Errno(ECONNREFUSED)),
            Some(Socket::Nowhere { refused: false, .. }) => Connect::InProgress,
            _ => Connect::Connected,
        }
    }

    fn adopt(&mut self, key: Key, socket: Loose, _: &ConnOptions) -> Taken {
        self.0.take(key, socket)
    }

    fn adopt_listener(&mut self, key: Key, socket: Loose) -> Taken {
        self.0.take(key, socket)
    }

    fn detach(&mut self, sock: &Sock, _: &mut Vec<u8>) -> Loose {
        let mut state = self.0.state();
        if let Some(Socket::Conn(_)) = state.socket(sock) {
            state.conn(sock).key = None;
        }
        let socket = state.socket(sock).take().expect("it is open");
        drop(state);
        Loose::Scripted(LooseSocket::new(self.0.clone(), socket))
    }

    fn local_addr(&mut self, conn: &Sock) -> Option<SocketAddr> {
        let mut state = self.0.state();
        match state.socket(conn) {
            Some(Socket::Conn(_)) => Some(state.conn(conn).local),
            _ => None,
        }
    }

    fn recv(&mut self, conn: &Sock, memory: &mut RecvMemory, max_bytes: usize) -> Recv {
        let mut state = self.0.state();
        state.calls.recvs += 1;
        let completion = state.dialect == Dialect::Completion;
        let (buffer, link) = (state.next_buffer, state.conn(conn));
        if link.inbound.is_empty() {
            return match link.error.take_if(|_| !link.fin) {
                _ if link.fin => Recv::Eof,
                Some(errno) => Recv::Failed(Errno(errno)),
                None if link.reset => Recv::Eof,
                None => Recv::WouldBlock,
            };
        }
        // Lent buffers lie in turn in four quarters, so that a stale one would show.
        let quarter = memory.space().len() / 4;
        let start = if completion { (buffer as usize % 4) * quarter } else { 0 };
        let room = if completion { quarter } else { memory.space().len() };
        let len = link.inbound.len().min(max_bytes).min(room);
        for (to, from) in memory.space()[start..].iter_mut().zip(link.inbound.drain(..len)) {
            *to = from;
        }
        let drained = link.inbound.is_empty() && !link.fin && !link.reset && !conn.exhaust;
        if completion {
            state.next_buffer += 1;
            state.lent.insert(buffer);
        }
        let lent = memory.lend(start, len, completion.then_some(buffer));
        Recv::Data { lent, drained }
    }

    fn release(&mut self, lent: Lent) {
        let buffer = lent.buffer.expect("only a buffer is released");
        assert!(self.0.state().lent.remove(&buffer), "a buffer is released once");
    }

    fn holds_sends(&self) -> bool {
        self.0.state().dialect == Dialect::Completion
    }

    fn send(&mut self, conn: &Sock, pieces: Pieces<'_>) -> Send {
        let mut state = self.0.state();
        state.calls.sends += 1;
        let copy = pieces.clone().map(|piece| piece.bytes).collect::<Vec<_>>().concat();
        assert!(!copy.is_empty(), "there is something to send");
        if state.dialect == Dialect::Completion {
            let link = state.conn(conn);
            assert!(link.in_flight.is_none(), "one send in flight at a time");
            link.in_flight = Some(Flight { held: pieces.map(hold).collect(), copy });
            return Send::InFlight;
        }
        let link = state.conn(conn);
        if let Some(errno) = link.take_send_error() {
            return Send::Failed(Errno(errno));
        }
        match link.take_bytes(&copy) {
            0 => Send::WouldBlock,
            bytes => {
                // Short because the test wants it so, not for want of room: another try goes on.
                let blocked = bytes < copy.len() && link.window == 0;
                Send::Done { bytes, blocked }
            }
        }
    }

    fn shutdown(&mut self, conn: &Sock) -> Result<(), Errno> {
        let mut state = self.0.state();
        let link = state.conn(conn);
        link.finished |= !link.reset;
        if link.reset { Err(Errno(ENOTCONN)) } else { Ok(()) }
    }

    fn interest(&mut self, sock: &Sock, read: bool, write: bool) {
        let mut state = self.0.state();
        state.calls.interests += 1;
        if let Some(Socket::Conn(_)) = state.socket(sock) {
            let link = state.conn(sock);
            (link.ignored, link.watched) = (!read, write);
        }
    }

    fn take_error(&mut self, conn: &Sock) -> Option<Errno> {
        self.0.state().conn(conn).error.take().map(Errno)
    }

    fn unread_bytes(&mut self, conn: &Sock) -> usize {
        self.0.state().conn(conn).inbound.len()
    }

    fn is_quiet(&mut self, conn: &Sock) -> bool {
        let mut state = self.0.state();
        let link = state.conn(conn);
        link.inbound.is_empty() && !link.fin && !link.reset
    }

    fn set_option(&mut self, sock: &Sock, option: &SocketOption) -> io::Result<()> {
        let mut state = self.0.state();
        assert!(state.socket(sock).is_some(), "an option of a socket that is closed: {sock:?}");
        state.options.entry(sock.handle).or_default().set(option)
    }

    fn option(&mut self, sock: &Sock, name: OptionName) -> io::Result<SocketOption> {
        let mut state = self.0.state();
        assert!(state.socket(sock).is_some(), "an option of a socket that is closed: {sock:?}");
        Ok(state.options.entry(sock.handle).or_default().get(name))
    }

    fn tcp_info(&mut self, _: &Sock) -> io::Result<TcpInfo> {
        Err(unsupported("TCP_INFO"))
    }

    fn kernel_count(&mut self, sock: &Sock, what: KernelCount) -> io::Result<usize> {
        match (self.0.state().socket(sock), what) {
            (Some(Socket::Listener { queue, .. }), KernelCount::Backlog) => Ok(queue.len()),
            // What a peer takes, it has.
            (Some(Socket::Conn(_)), KernelCount::Unacked | KernelCount::Unsent) => Ok(0),
            _ => Err(what.unsupported()),
        }
    }

    fn fd(&self, _: &Sock) -> Option<SocketFd<'_>> {
        None
    }

    fn close(&mut self, sock: &Sock, reset: bool) -> Close {
        let mut state = self.0.state();
        let completion = state.dialect == Dialect::Completion;
        if let Some(Socket::Conn(_)) = state.socket(sock) {
            state.conn(sock).close(reset);
        }
        *state.socket(sock) = completion.then_some(Socket::Closing(sock.key));
        if completion { Close::InFlight } else { Close::Ended }
    }

    fn discard(&mut self, sock: &Sock) {
        self.close(sock, false);
    }
}
