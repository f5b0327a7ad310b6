//! The crate `polling`'s echo: level-triggered, one receive buffer for all, answers sent at once;
//! what the kernel does not take waits with its connection, which is not read from until it has
//! left.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};

use hotloop_peers::{RECV_BYTES, listen_addr, say_ready};
use polling::{Event, Events, PollMode, Poller};
use slab::Slab;

const LISTENER: usize = usize::MAX - 1;

struct Conn {
    stream: TcpStream,
    /// What the kernel has not taken.
    unsent: Vec<u8>,
}

fn main() -> io::Result<()> {
    let poller = Poller::new()?;
    let listener = TcpListener::bind(listen_addr())?;
    listener.set_nonblocking(true)?;
    // SAFETY: it is open for as long as the poller is.
    unsafe { poller.add_with_mode(&listener, Event::readable(LISTENER), PollMode::Level)? };
    say_ready(listener.local_addr()?);
    let mut conns: Slab<Conn> = Slab::new();
    let mut events = Events::new();
    let mut buffer = vec![0; RECV_BYTES];
    loop {
        events.clear();
        poller.wait(&mut events, None)?;
        for event in events.iter() {
            if event.key == LISTENER {
                accept(&poller, &listener, &mut conns)?;
                continue;
            }
            let Some(conn) = conns.get_mut(event.key) else { continue };
            if !conn.serve(&poller, event.key, &mut buffer)? {
                poller.delete(&conns.remove(event.key).stream)?;
            }
        }
    }
}

fn accept(poller: &Poller, listener: &TcpListener, conns: &mut Slab<Conn>) -> io::Result<()> {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let entry = conns.vacant_entry();
        // SAFETY: it is deleted before it is closed.
        unsafe { poller.add_with_mode(&stream, Event::readable(entry.key()), PollMode::Level)? };
        entry.insert(Conn { stream, unsent: Vec::new() });
    }
}

impl Conn {
    /// Returns whether the connection goes on.
    fn serve(&mut self, poller: &Poller, key: usize, buffer: &mut [u8]) -> io::Result<bool> {
        let waited = !self.unsent.is_empty();
        if waited {
            match self.stream.write(&self.unsent) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return Ok(false),
            }
        } else {
            match self.stream.read(buffer) {
                Ok(0) => return Ok(false),
                Ok(count) => match self.stream.write(&buffer[..count]) {
                    Ok(sent) => self.unsent.extend_from_slice(&buffer[sent..count]),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        self.unsent.extend_from_slice(&buffer[..count]);
                    }
                    Err(_) => return Ok(false),
                },
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return Ok(false),
            }
        }
        let waits = !self.unsent.is_empty();
        if waits != waited {
            let interest = if waits { Event::writable(key) } else { Event::readable(key) };
            poller.modify_with_mode(&self.stream, interest, PollMode::Level)?;
        }
        Ok(true)
    }
}
