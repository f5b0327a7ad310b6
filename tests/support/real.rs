//! Peers on real sockets: non-blocking, pumped between the turns of the loop under test.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use super::Peers;

/// Small, so that a peer that does not read makes the loop feel it soon.
const RECEIVE_BUFFER_BYTES: usize = 16 << 10;

#[derive(Default)]
pub(super) struct RealPeers {
    peers: Vec<RealPeer>,
    servers: Vec<TcpListener>,
}

struct RealPeer {
    /// `None` once it was reset.
    stream: Option<TcpStream>,
    to_send: VecDeque<u8>,
    finish: bool,
    has_finished: bool,
    reading: bool,
    received: Vec<u8>,
    at_end: bool,
    is_reset: bool,
}

impl RealPeers {
    fn add(&mut self, stream: TcpStream) -> usize {
        stream.set_nonblocking(true).expect("a TCP socket");
        stream.set_nodelay(true).expect("a TCP socket");
        self.add_peer(Some(stream))
    }

    fn add_peer(&mut self, stream: Option<TcpStream>) -> usize {
        self.peers.push(RealPeer {
            is_reset: stream.is_none(),
            stream,
            to_send: VecDeque::new(),
            finish: false,
            has_finished: false,
            reading: true,
            received: Vec::new(),
            at_end: false,
        });
        self.peers.len() - 1
    }

    /// A peer, after it has done what it can.
    fn pumped(&mut self, peer: usize) -> &RealPeer {
        self.peers[peer].pump();
        &self.peers[peer]
    }
}

impl Peers for RealPeers {
    fn dial(&mut self, addr: SocketAddr) -> usize {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES).expect("a socket");
        socket.connect(&addr.into()).expect("it listens, and the backlog has room");
        self.add(socket.into())
    }

    fn is_refused(&mut self, addr: SocketAddr) -> bool {
        TcpStream::connect(addr).is_err()
    }

    fn listen(&mut self) -> SocketAddr {
        let server = TcpListener::bind("127.0.0.1:0").expect("a free port");
        server.set_nonblocking(true).expect("a TCP socket");
        let addr = server.local_addr().expect("it is bound");
        self.servers.push(server);
        addr
    }

    /// An address that was free a moment ago.
    fn refusing(&mut self) -> SocketAddr {
        let gone = TcpListener::bind("127.0.0.1:0").expect("a free port");
        gone.local_addr().expect("it is bound")
    }

    fn accept(&mut self, addr: SocketAddr) -> Option<usize> {
        let is_it = |server: &&TcpListener| server.local_addr().expect("it is bound") == addr;
        let server = self.servers.iter().find(is_it).expect("it is a server of this rig");
        match server.accept() {
            Ok((stream, _)) => Some(self.add(stream)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            // It was reset before the accept, which on Linux gives it all the same.
            Err(error) if cfg!(windows) && error.kind() == ErrorKind::NotConnected => {
                Some(self.add_peer(None))
            }
            Err(error) => panic!("accept: {error}"),
        }
    }

    fn send(&mut self, peer: usize, data: &[u8]) {
        self.peers[peer].to_send.extend(data);
        self.peers[peer].pump();
    }

    fn finish(&mut self, peer: usize) {
        self.peers[peer].finish = true;
        self.peers[peer].pump();
    }

    /// Resets, behind what the kernel has taken (`SO_LINGER` of zero, `socket(7)`).
    fn reset(&mut self, peer: usize) {
        let stream = self.peers[peer].stream.take().expect("it is open");
        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a TCP socket");
    }

    fn received(&mut self, peer: usize) -> Vec<u8> {
        self.pumped(peer).received.clone()
    }

    fn set_reading(&mut self, peer: usize, reading: bool) {
        self.peers[peer].reading = reading;
    }

    fn at_end(&mut self, peer: usize) -> bool {
        self.pumped(peer).at_end
    }

    fn is_reset(&mut self, peer: usize) -> bool {
        self.pumped(peer).is_reset
    }

    fn is_sent(&mut self, peer: usize) -> bool {
        self.pumped(peer).to_send.is_empty()
    }

    fn send_urgent(&mut self, peer: usize, byte: u8) {
        let peer = &mut self.peers[peer];
        peer.pump();
        assert!(peer.to_send.is_empty(), "it goes behind what was sent");
        let stream = peer.stream.as_ref().expect("it is open");
        // Fails if the loop has closed, which receiving finds out.
        let _ = SockRef::from(stream).send_out_of_band(&[byte]);
    }

    fn pump(&mut self) {
        self.peers.iter_mut().for_each(RealPeer::pump);
    }

    fn until_arrived(&mut self) {
        self.pump();
        let streams = self.peers.iter().filter_map(|peer| peer.stream.as_ref());
        streams.for_each(until_acknowledged);
    }
}

/// Waits until the other end's kernel has everything, the FIN included (`SIOCOUTQ`, `tcp(7)`).
/// A queue that the other end has no room for is waited for only a while.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "none of the crates in use asks for it")]
fn until_acknowledged(stream: &TcpStream) {
    use std::os::fd::AsRawFd;

    for _ in 0..100_000 {
        let mut unacked: libc::c_int = 0;
        let to = &raw mut unacked;
        // SAFETY: the kernel writes one integer to where `to` points.
        let result = unsafe { libc::ioctl(stream.as_raw_fd(), libc::TIOCOUTQ, to) };
        // A socket that was reset has no other end any more.
        if result != 0 || unacked == 0 || stream.peer_addr().is_err() {
            return;
        }
        std::thread::yield_now();
    }
}

/// Elsewhere nothing answers that, and loopback delivers within the call that sends.
#[cfg(not(target_os = "linux"))]
fn until_acknowledged(_: &TcpStream) {}

impl RealPeer {
    /// Sends and receives as far as it goes without blocking.
    fn pump(&mut self) {
        let Some(mut stream) = self.stream.as_ref() else { return };
        while !self.to_send.is_empty() {
            match stream.write(self.to_send.as_slices().0) {
                Ok(sent) => drop(self.to_send.drain(..sent)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // The loop has closed; what that means the receiving below finds out.
                Err(_) => self.to_send.clear(),
            }
        }
        if self.to_send.is_empty() && std::mem::take(&mut self.finish) {
            self.has_finished = true;
            // Fails if the loop has reset, which the receiving below finds out.
            let _ = stream.shutdown(Shutdown::Write);
        }
        let mut buffer = [0; 64 << 10];
        while self.reading && !self.at_end && !self.is_reset {
            match stream.read(&mut buffer) {
                Ok(0) => self.at_end = true,
                Ok(count) => self.received.extend(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.is_reset = true,
            }
        }
        // A RST of wine's has a FIN before it, which is what a receive reports for ever. But a
        // socket has a peer until it was reset, or has sent its own FIN too.
        if cfg!(windows) && self.at_end && !self.has_finished && stream.peer_addr().is_err() {
            (self.at_end, self.is_reset) = (false, true);
        }
    }
}
