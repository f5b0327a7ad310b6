//! mio's echo: edge-triggered, one receive buffer for all, answers sent at once; what the kernel
//! does not take waits with its connection, which is not read from until it has left.

use std::io::{self, ErrorKind, Read, Write};

use hotloop_peers::{RECV_BYTES, listen_addr, say_ready};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

const LISTENER: Token = Token(usize::MAX);
const EVENTS: usize = 1024;

struct Conn {
    stream: TcpStream,
    /// What the kernel has not taken.
    unsent: Vec<u8>,
}

/// What became of serving a connection.
enum Served {
    Waits,
    Over,
}

fn main() -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(listen_addr())?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    say_ready(listener.local_addr()?);
    let mut conns: Slab<Conn> = Slab::new();
    let mut events = Events::with_capacity(EVENTS);
    let mut buffer = vec![0; RECV_BYTES];
    loop {
        if let Err(error) = poll.poll(&mut events, None) {
            if error.kind() != ErrorKind::Interrupted {
                return Err(error);
            }
            continue;
        }
        for event in &events {
            if event.token() == LISTENER {
                accept(&poll, &listener, &mut conns)?;
                continue;
            }
            let key = event.token().0;
            let Some(conn) = conns.get_mut(key) else { continue };
            if !event.is_readable() && !event.is_error() && conn.unsent.is_empty() {
                continue;
            }
            // A read that stops short has emptied the socket, unless the end is near.
            let to_the_end = event.is_read_closed() || event.is_error();
            if let Served::Over = conn.serve(&mut buffer, to_the_end) {
                conns.remove(key);
            }
        }
    }
}

fn accept(poll: &Poll, listener: &TcpListener, conns: &mut Slab<Conn>) -> io::Result<()> {
    loop {
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        stream.set_nodelay(true)?;
        let entry = conns.vacant_entry();
        let both = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut stream, Token(entry.key()), both)?;
        entry.insert(Conn { stream, unsent: Vec::new() });
    }
}

impl Conn {
    fn serve(&mut self, buffer: &mut [u8], to_the_end: bool) -> Served {
        if !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Served::Waits,
                Err(_) => return Served::Over,
            }
        }
        while self.unsent.is_empty() {
            let count = match self.stream.read(buffer) {
                Ok(0) => return Served::Over,
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Served::Waits,
                Err(_) => return Served::Over,
            };
            match self.stream.write(&buffer[..count]) {
                Ok(sent) => self.unsent.extend_from_slice(&buffer[sent..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.unsent.extend_from_slice(&buffer[..count]);
                }
                Err(_) => return Served::Over,
            }
            if count < buffer.len() && !to_the_end {
                return Served::Waits;
            }
        }
        Served::Waits
    }
}
