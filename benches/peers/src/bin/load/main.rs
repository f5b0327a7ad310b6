//! Loads an echo server, checks every byte that comes back, and says what it cost.
//!
//! `load ADDRESS PID CONNS IN_A_ROW BYTES RATE SECONDS`: with a RATE of 0, each of CONNS
//! connections sends IN_A_ROW messages of BYTES bytes in one write, and again once all have come
//! back. With another one, so many messages are sent a second, by one connection after the other,
//! whether the last ones have come back or not; how long one took counts from when it was due. PID
//! is the server's, whose time on a processor is read at both ends of the measurement. Prints one
//! line of `name=value`; `total` is the messages of the warm-up, too. It spins: the server never
//! pays for waking it.

mod conn;
mod usage;

use std::io;
use std::mem;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token};

use conn::Conn;
use usage::Usage;

/// Before the measurement: caches, the congestion window, and the processor's clock.
const WARM_UP: Duration = Duration::from_millis(300);
const EVENTS: usize = 4096;
/// Round trips are told apart from a nanosecond to a minute, to three digits.
const LATENCY_MAX_NANOS: u64 = 60_000_000_000;

struct Settings {
    addr: SocketAddr,
    pid: u32,
    conns: usize,
    in_a_row: usize,
    bytes: usize,
    /// Messages a second; 0: as many as come back.
    rate: f64,
    duration: Duration,
}

impl Settings {
    fn read() -> Option<Settings> {
        let mut args = std::env::args().skip(1);
        Some(Settings {
            addr: next(&mut args)?,
            pid: next(&mut args)?,
            conns: next(&mut args)?,
            in_a_row: next(&mut args)?,
            bytes: next(&mut args)?,
            rate: next(&mut args)?,
            duration: Duration::try_from_secs_f64(next(&mut args)?).ok()?,
        })
    }
}

fn next<T: FromStr>(args: &mut impl Iterator<Item = String>) -> Option<T> {
    args.next()?.parse().ok()
}

/// What was measured.
struct Measured {
    messages: u64,
    total: u64,
    seconds: f64,
    server: Usage,
    own: Usage,
    latency: Histogram<u64>,
}

fn main() -> ExitCode {
    let Some(settings) = Settings::read() else {
        eprintln!("usage: load ADDRESS PID CONNS IN_A_ROW BYTES RATE SECONDS");
        return ExitCode::from(2);
    };
    match run(&settings) {
        Ok(measured) => {
            measured.print();
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(settings: &Settings) -> io::Result<Measured> {
    let mut load = Load::connect(settings)?;
    load.play(Instant::now() + WARM_UP)?;
    let warmed_up = mem::take(&mut load.messages);
    load.latency.reset();
    let (server, own) = (Usage::of(settings.pid)?, Usage::of(std::process::id())?);
    let began = Instant::now();
    load.play(began + settings.duration)?;
    Ok(Measured {
        messages: load.messages,
        total: warmed_up + load.messages,
        seconds: began.elapsed().as_secs_f64(),
        server: Usage::of(settings.pid)?.since(server),
        own: Usage::of(std::process::id())?.since(own),
        latency: load.latency,
    })
}

struct Load {
    poll: Poll,
    events: Events,
    conns: Vec<Conn>,
    in_a_row: usize,
    /// Between two messages; none if the answers say when.
    interval: Option<Duration>,
    /// When the next message is due, and whose it is.
    due: Instant,
    turn: usize,
    messages: u64,
    latency: Histogram<u64>,
}

impl Load {
    fn connect(settings: &Settings) -> io::Result<Load> {
        let poll = Poll::new()?;
        let mut conns = Vec::with_capacity(settings.conns);
        for number in 0..settings.conns {
            let mut conn = Conn::connect(settings.addr, number, settings.bytes)?;
            let both = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(conn.stream(), Token(number), both)?;
            conns.push(conn);
        }
        let paced = settings.rate > 0.0;
        Ok(Load {
            poll,
            events: Events::with_capacity(EVENTS),
            conns,
            in_a_row: settings.in_a_row,
            interval: paced.then(|| Duration::from_secs_f64(1.0 / settings.rate)),
            due: Instant::now(),
            turn: 0,
            messages: 0,
            latency: Histogram::new_with_max(LATENCY_MAX_NANOS, 3).map_err(io::Error::other)?,
        })
    }

    /// Goes on until it is time.
    fn play(&mut self, until: Instant) -> io::Result<()> {
        if self.interval.is_none() {
            for number in 0..self.conns.len() {
                self.ask_again(number)?;
            }
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

    /// Sends the messages for which it is time.
    fn ask_what_is_due(&mut self) -> io::Result<()> {
        let Some(interval) = self.interval else { return Ok(()) };
        while self.due <= Instant::now() {
            let conn = &mut self.conns[self.turn];
            conn.ask(self.due);
            conn.write()?;
            self.due += interval;
            self.turn = (self.turn + 1) % self.conns.len();
        }
        Ok(())
    }

    /// Reads what a connection is answered, and lets it ask again.
    fn hear(&mut self, number: usize) -> io::Result<()> {
        loop {
            let (messages, latency) = (&mut self.messages, &mut self.latency);
            self.conns[number].read(|due| {
                *messages += 1;
                let nanos = u64::try_from(due.elapsed().as_nanos()).unwrap_or(u64::MAX);
                latency.saturating_record(nanos);
            })?;
            if self.interval.is_some() || !self.conns[number].is_idle() {
                return Ok(());
            }
            self.ask_again(number)?;
        }
    }

    /// Sends as many as are sent in a row, unless some are on their way.
    fn ask_again(&mut self, number: usize) -> io::Result<()> {
        let conn = &mut self.conns[number];
        if conn.is_idle() {
            let now = Instant::now();
            (0..self.in_a_row).for_each(|_| conn.ask(now));
            conn.write()?;
        }
        Ok(())
    }
}

impl Measured {
    fn print(&self) {
        let micros = |quantile| self.latency.value_at_quantile(quantile) as f64 / 1e3;
        let per_message = self.server.on_cpu.as_nanos() as f64 / self.messages as f64;
        println!(
            "total={} per_second={:.0} server_ns={per_message:.1} p50_us={:.2} p99_us={:.2} \
             p999_us={:.2} server_waited={:.5} load_waited={:.5}",
            self.total,
            self.messages as f64 / self.seconds,
            micros(0.5),
            micros(0.99),
            micros(0.999),
            self.server.waited.as_secs_f64() / self.seconds,
            self.own.waited.as_secs_f64() / self.seconds,
        );
    }
}
