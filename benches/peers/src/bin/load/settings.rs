//! The command line.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

pub(crate) const USAGE: &str = "usage: load ADDRESS PID MODE CONNS BYTES SECONDS
  rounds:N  each connection sends N messages in one write, and again once all have come back
  window:N  each connection has N messages on their way at all times
  rate:N    N messages a second, by one connection after the other, whether the last ones have
            come back or not; how long one took counts from when it was due
  flood     the first connection has 64 KiB messages on their way at all times, the others one
            message of BYTES each, of which alone the latencies are
  churn     each connection sends one message, is closed when it has come back, and is made anew
  idle      connections that have said something once: what memory each costs the server";

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Mode {
    Rounds(usize),
    Window(usize),
    Rate(f64),
    Flood,
    Churn,
    Idle,
}

impl FromStr for Mode {
    type Err = ();

    fn from_str(text: &str) -> Result<Mode, ()> {
        let (name, number) = text.split_once(':').unwrap_or((text, ""));
        let count = || number.parse().ok().filter(|count| *count > 0).ok_or(());
        match name {
            "rounds" => count().map(Mode::Rounds),
            "window" => count().map(Mode::Window),
            "rate" => number.parse().ok().filter(|rate| *rate > 0.0).map(Mode::Rate).ok_or(()),
            "flood" => Ok(Mode::Flood),
            "churn" => Ok(Mode::Churn),
            "idle" => Ok(Mode::Idle),
            _ => Err(()),
        }
    }
}

pub(crate) struct Settings {
    pub(crate) addr: SocketAddr,
    /// The server's.
    pub(crate) pid: u32,
    pub(crate) mode: Mode,
    pub(crate) conns: usize,
    pub(crate) bytes: usize,
    pub(crate) duration: Duration,
}

impl Settings {
    pub(crate) fn read() -> Option<Settings> {
        let mut args = std::env::args().skip(1);
        let settings = Settings {
            addr: next(&mut args)?,
            pid: next(&mut args)?,
            mode: next(&mut args)?,
            conns: next(&mut args)?,
            bytes: next(&mut args)?,
            duration: Duration::try_from_secs_f64(next(&mut args)?).ok()?,
        };
        (settings.conns > 0 && settings.bytes > 0).then_some(settings)
    }
}

fn next<T: FromStr>(args: &mut impl Iterator<Item = String>) -> Option<T> {
    args.next()?.parse().ok()
}
