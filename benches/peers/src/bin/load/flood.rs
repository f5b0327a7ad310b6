//! One connection that sends and is sent as much as goes, and others that exchange messages one at
//! a time: what the one does to the others.
//!
//! Only the others' latencies are told. In them is what the load itself does between two looks at
//! them: one receive of the flood, and the sends for which that has made room.

use std::io;
use std::mem;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};

use crate::conn::Conn;
use crate::measured::{Load, Tally};
use crate::settings::Settings;

const EVENTS: usize = 1024;
const FLOOD: Token = Token(0);
const FLOOD_BYTES: usize = 64 << 10;
/// So many of the flood's messages are on their way: enough to keep a server busy.
const FLOOD_MESSAGES: usize = 8;

pub(crate) struct Flood {
    poll: Poll,
    events: Events,
    flood: Conn,
    /// The flood may have something to receive.
    is_readable: bool,
    /// The first has the token behind the flood's.
    others: Vec<Conn>,
    tally: Tally,
}

impl Flood {
    /// Connects so many, one of which is the flood.
    pub(crate) fn connect(settings: &Settings) -> io::Result<Flood> {
        let poll = Poll::new()?;
        let connect = |number, bytes| Conn::connect(&poll, settings.addr, number, bytes);
        let flood = connect(FLOOD.0, FLOOD_BYTES)?;
        let others = (1..settings.conns).map(|number| connect(number, settings.bytes));
        Ok(Flood {
            flood,
            is_readable: false,
            others: others.collect::<io::Result<_>>()?,
            poll,
            events: Events::with_capacity(EVENTS),
            tally: Tally::new()?,
        })
    }

    /// Receives once of the flood, and sends as much again.
    fn flow(&mut self) -> io::Result<()> {
        let mut come = 0;
        if self.is_readable {
            self.is_readable = self.flood.read_some(|_| come += 1)?;
        }
        self.tally.add_flood(come * FLOOD_BYTES);
        let now = Instant::now();
        (self.flood.asked()..FLOOD_MESSAGES).for_each(|_| self.flood.ask(now));
        self.flood.write()
    }

    /// Reads what one of the others is answered, and lets it ask again.
    fn hear(&mut self, number: usize) -> io::Result<()> {
        let (conn, tally) = (&mut self.others[number], &mut self.tally);
        conn.read(|due| tally.add(due))?;
        ask(conn)
    }
}

/// Asks, unless an answer is due.
fn ask(conn: &mut Conn) -> io::Result<()> {
    if conn.asked() == 0 {
        conn.ask(Instant::now());
    }
    conn.write()
}

impl Load for Flood {
    fn play(&mut self, until: Instant) -> io::Result<()> {
        self.others.iter_mut().try_for_each(ask)?;
        while Instant::now() < until {
            self.poll.poll(&mut self.events, Some(Duration::ZERO))?;
            let events = mem::replace(&mut self.events, Events::with_capacity(0));
            for event in &events {
                match event.token() {
                    FLOOD => self.is_readable |= event.is_readable(),
                    Token(number) => self.hear(number - 1)?,
                }
            }
            self.events = events;
            self.flow()?;
        }
        Ok(())
    }

    fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }
}
