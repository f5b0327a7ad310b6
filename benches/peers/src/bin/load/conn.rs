//! One connection of the load: messages that are sent, and what comes back.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Instant;

use hotloop_peers::CONGESTION_CONTROL;
use mio::net::TcpStream;
use mio::{Interest, Poll, Token};
use socket2::SockRef;

/// Where the number of a message is in it, as far as it is that long.
const NUMBER_BYTES: usize = 8;
const RECV_BYTES: usize = 64 << 10;

pub(crate) struct Conn {
    stream: TcpStream,
    /// A message without its number; each connection has bytes of its own, so that a mix-up is
    /// seen.
    message: Vec<u8>,
    /// The number of the next message to send.
    next: u64,
    unsent: Vec<u8>,
    /// When each message was due that is not answered yet.
    asked: VecDeque<Instant>,
    /// The message that comes back next, and how much of it has come.
    expected: Vec<u8>,
    come: usize,
    expected_number: u64,
    buffer: Vec<u8>,
}

impl Conn {
    /// Connects the `number`th of several, which sends messages of `bytes` bytes. Its number is
    /// the token of its events.
    pub(crate) fn connect(
        poll: &Poll,
        addr: SocketAddr,
        number: usize,
        bytes: usize,
    ) -> io::Result<Conn> {
        let stream = std::net::TcpStream::connect(addr)?;
        set_options(&stream)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        let both = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut stream, Token(number), both)?;
        let message: Vec<u8> = (0..bytes).map(|at| ((at * 31 + number * 7) % 251) as u8).collect();
        let first = (number as u64) << 40;
        let mut conn = Conn {
            stream,
            expected: message.clone(),
            message,
            next: first,
            unsent: Vec::new(),
            asked: VecDeque::new(),
            come: 0,
            expected_number: first,
            buffer: vec![0; RECV_BYTES],
        };
        write_number(&mut conn.expected, first);
        Ok(conn)
    }

    /// Returns how many messages were not answered yet.
    pub(crate) fn asked(&self) -> usize {
        self.asked.len()
    }

    /// Adds a message that is due to what [`write`](Self::write) sends.
    pub(crate) fn ask(&mut self, due: Instant) {
        write_number(&mut self.message, self.next);
        self.next += 1;
        self.unsent.extend_from_slice(&self.message);
        self.asked.push_back(due);
    }

    /// Sends what there is, as far as it is taken.
    pub(crate) fn write(&mut self) -> io::Result<()> {
        let mut sent = 0;
        while sent < self.unsent.len() {
            match self.stream.write(&self.unsent[sent..]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        self.unsent.drain(..sent);
        Ok(())
    }

    /// Reads until nothing is there or everything is answered; tells when each message was due
    /// that has come back whole.
    pub(crate) fn read(&mut self, mut answered: impl FnMut(Instant)) -> io::Result<()> {
        while !self.asked.is_empty() && self.read_some(&mut answered)? {}
        Ok(())
    }

    /// As [`read`](Self::read), by one receive; returns whether there was anything.
    pub(crate) fn read_some(&mut self, mut answered: impl FnMut(Instant)) -> io::Result<bool> {
        let count = match self.stream.read(&mut self.buffer) {
            Ok(0) => return Err(io::Error::other("the server has closed a connection")),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        let mut start = 0;
        while start < count {
            let len = (count - start).min(self.expected.len() - self.come);
            if self.buffer[start..][..len] != self.expected[self.come..][..len] {
                return Err(io::Error::other("other bytes came back than were sent"));
            }
            (start, self.come) = (start + len, self.come + len);
            if self.come == self.expected.len() {
                self.has_come(&mut answered)?;
            }
        }
        Ok(true)
    }

    fn has_come(&mut self, answered: &mut impl FnMut(Instant)) -> io::Result<()> {
        let due = self.asked.pop_front();
        answered(due.ok_or_else(|| io::Error::other("an answer without a question"))?);
        self.expected_number += 1;
        write_number(&mut self.expected, self.expected_number);
        self.come = 0;
        Ok(())
    }
}

/// Sets what every socket of the load has set.
pub(crate) fn set_options<'a>(socket: impl Into<SockRef<'a>>) -> io::Result<()> {
    let socket = socket.into();
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_congestion(CONGESTION_CONTROL.as_bytes())
}

fn write_number(message: &mut [u8], number: u64) {
    let len = message.len().min(NUMBER_BYTES);
    message[..len].copy_from_slice(&number.to_le_bytes()[..len]);
}
