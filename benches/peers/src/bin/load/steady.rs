//! Connections that stay: how the next message follows the last one is the mode's.

use std::io;
use std::mem;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};

use crate::conn::Conn;
use crate::measured::{Load, Tally};
use crate::settings::{Mode, Settings};

const EVENTS: usize = 4096;

pub(crate) struct Steady {
    poll: Poll,
    events: Events,
    conns: Vec<Conn>,
    mode: Mode,
    /// At a rate: when the next message is due, and whose it is.
    due: Instant,
    turn: usize,
    tally: Tally,
}

impl Steady {
    pub(crate) fn connect(settings: &Settings) -> io::Result<Steady> {
        let poll = Poll::new()?;
        let mut conns = Vec::with_capacity(settings.conns);
        for number in 0..settings.conns {
            conns.push(Conn::connect(&poll, settings.addr, number, settings.bytes)?);
        }
        Ok(Steady {
            poll,
            events: Events::with_capacity(EVENTS),
            conns,
            mode: settings.mode,
            due: Instant::now(),
            turn: 0,
            tally: Tally::new()?,
        })
    }

    /// Sends the messages for which it is time, one for each connection at most: if it cannot keep
    /// up, answers have to be read all the same.
    fn ask_what_is_due(&mut self) -> io::Result<()> {
        let Mode::Rate(rate) = self.mode else { return Ok(()) };
        for _ in 0..self.conns.len() {
            if self.due > Instant::now() {
                break;
            }
            let conn = &mut self.conns[self.turn];
            conn.ask(self.due);
            conn.write()?;
            self.due += Duration::from_secs_f64(1.0 / rate);
            self.turn = (self.turn + 1) % self.conns.len();
        }
        Ok(())
    }

    /// Reads what a connection is answered, and lets it ask again.
    fn hear(&mut self, number: usize) -> io::Result<()> {
        loop {
            let tally = &mut self.tally;
            self.conns[number].read(|due| tally.add(due))?;
            if !self.ask_again(number)? {
                return Ok(());
            }
        }
    }

    /// Sends what follows from what has come back; returns whether there was something.
    fn ask_again(&mut self, number: usize) -> io::Result<bool> {
        let conn = &mut self.conns[number];
        let missing = match self.mode {
            Mode::Rounds(count) if conn.asked() == 0 => count,
            Mode::Window(count) => count - conn.asked(),
            _ => 0,
        };
        let now = Instant::now();
        (0..missing).for_each(|_| conn.ask(now));
        conn.write()?;
        Ok(missing > 0)
    }
}

impl Load for Steady {
    fn play(&mut self, until: Instant) -> io::Result<()> {
        for number in 0..self.conns.len() {
            self.ask_again(number)?;
        }
        while Instant::now() < until {
            self.ask_what_is_due()?;
            self.poll.poll(&mut self.events, Some(Duration::ZERO))?;
            let events = mem::replace(&mut self.events, Events::with_capacity(0));
            for event in &events {
                let Token(number) = event.token();
                self.conns[number].write()?;
                self.hear(number)?;
            }
            self.events = events;
        }
        Ok(())
    }

    fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }
}
