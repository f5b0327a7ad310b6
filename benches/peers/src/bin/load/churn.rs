//! Connections that come, say one thing, and go. It waits for each answer, which every server pays
//! for alike.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Instant;

use socket2::{Domain, Protocol, Socket, Type};

use crate::conn::set_options;
use crate::measured::{Load, Tally};
use crate::settings::Settings;

/// Who closes first keeps the pair of addresses for a minute (TIME-WAIT, RFC 9293): with so many
/// of its own, a load does not run out of ports.
const SOURCES: u32 = 250;

pub(crate) struct Churn {
    server: SocketAddr,
    /// The oldest is closed and made anew.
    conns: Vec<Option<TcpStream>>,
    turn: usize,
    made: u32,
    message: Vec<u8>,
    answer: Vec<u8>,
    tally: Tally,
}

impl Churn {
    pub(crate) fn new(settings: &Settings) -> io::Result<Churn> {
        Ok(Churn {
            server: settings.addr,
            conns: (0..settings.conns).map(|_| None).collect(),
            turn: 0,
            made: 0,
            message: (0..settings.bytes).map(|at| (at % 251) as u8).collect(),
            answer: vec![0; settings.bytes],
            tally: Tally::new()?,
        })
    }

    fn connect(&mut self) -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        let source = Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + 1 + self.made % SOURCES);
        self.made += 1;
        socket.bind(&SocketAddr::from((source, 0)).into())?;
        socket.connect(&self.server.into())?;
        set_options(&socket)?;
        Ok(socket.into())
    }
}

impl Load for Churn {
    fn play(&mut self, until: Instant) -> io::Result<()> {
        loop {
            let began = Instant::now();
            if began >= until {
                return Ok(());
            }
            let mut conn = self.connect()?;
            self.message[0] = self.message[0].wrapping_add(1);
            conn.write_all(&self.message)?;
            conn.read_exact(&mut self.answer)?;
            if self.answer != self.message {
                return Err(io::Error::other("other bytes came back than were sent"));
            }
            self.conns[self.turn] = Some(conn);
            self.turn = (self.turn + 1) % self.conns.len();
            self.tally.add(began);
        }
    }

    fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }
}
