//! What happened in a world, one line per event. Lines are stored as small records and only made
//! into text when somebody asks, so that a trace is always there.

use std::collections::VecDeque;
use std::fmt::{self, Write};

use crate::error::{CloseReason, Errno};
use crate::id::{ConnId, Key, Kind, ListenerId, TimerId};
use crate::time::Time;

use crate::fault::Fault;

/// How many lines are kept; earlier ones are forgotten.
const LINES_MAX: usize = 1 << 17;

/// A machine, by its place in the world's list.
pub(crate) type HostIndex = usize;

/// One end of a way through the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spot {
    pub(crate) host: HostIndex,
    pub(crate) port: u16,
}

/// What happened.
#[derive(Debug, Clone, Copy)]
pub(crate) enum What {
    /// A loop called its kernel.
    Call {
        name: &'static str,
        key: Option<Key>,
        answer: Answer,
    },
    /// A loop called its handler; the number says how many bytes or which token.
    Callback {
        name: &'static str,
        key: Option<Key>,
        number: u64,
    },
    /// A loop called `on_close`.
    Closed {
        key: Key,
        reason: CloseReason,
        dropped_bytes: u64,
    },
    /// A packet arrived.
    Packet {
        name: &'static str,
        from: Spot,
        to: Spot,
        bytes: usize,
    },
    /// A peer without a loop did something.
    Peer {
        name: &'static str,
        from: Spot,
        to: Spot,
        bytes: usize,
    },
    Fault(Fault),
    /// Something about the way to another machine.
    Way {
        what: &'static str,
        to: HostIndex,
    },
    /// Something about a whole machine.
    Host(&'static str),
}

/// What a kernel answered.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answer {
    Done,
    Bytes(usize),
    /// And nothing is left.
    Drained(usize),
    Conn(Key),
    Events(usize),
    Messages(usize),
    WouldBlock,
    InFlight,
    Eof,
    Failed(Errno),
}

#[derive(Debug)]
struct Line {
    at: Time,
    host: HostIndex,
    what: What,
}

/// The last lines of what happened.
#[derive(Debug)]
pub(crate) struct Trace {
    lines: VecDeque<Line>,
    forgotten: u64,
}

impl Trace {
    pub(super) fn new() -> Trace {
        Trace { lines: VecDeque::new(), forgotten: 0 }
    }

    pub(super) fn note(&mut self, at: Time, host: HostIndex, what: What) {
        if self.lines.len() == LINES_MAX {
            self.lines.pop_front();
            self.forgotten += 1;
        }
        self.lines.push_back(Line { at, host, what });
    }

    /// Writes the last `most` lines, with the names of the hosts.
    pub(super) fn text(&self, names: &[&str], most: usize) -> String {
        let skipped = self.lines.len().saturating_sub(most);
        let mut text = String::new();
        if self.forgotten + skipped as u64 > 0 {
            let _ = writeln!(text, "({} earlier lines)", self.forgotten + skipped as u64);
        }
        for Line { at, host, what } in self.lines.iter().skip(skipped) {
            let _ = writeln!(text, "{at} {}: {}", names[*host], Told { what, names });
        }
        text
    }
}

/// What happened, with the names of the hosts.
struct Told<'a> {
    what: &'a What,
    names: &'a [&'a str],
}

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self.what {
            What::Call { name, key, answer } => write!(f, "{name}{} = {answer}", Named(key)),
            What::Callback { name, key, number } => write!(f, "{name}{} {number}", Named(key)),
            What::Closed { key, reason, dropped_bytes } => {
                let lost = if dropped_bytes > 0 { " bytes not sent" } else { "" };
                write!(f, "on_close{} {reason}, {dropped_bytes}{lost}", Named(Some(key)))
            }
            What::Packet { name, from, to, bytes } => {
                let (sender, receiver) = (self.names[from.host], self.names[to.host]);
                write!(f, "{name} {bytes} {sender}:{} > {receiver}:{}", from.port, to.port)
            }
            What::Peer { name, from, to, bytes } => {
                let other = self.names[to.host];
                write!(f, "peer :{} to {other}:{} {name} {bytes}", from.port, to.port)
            }
            What::Fault(kind) => write!(f, "fault {kind:?}"),
            What::Way { what, to } => write!(f, "{what}: to {}", self.names[to]),
            What::Host(what) => f.write_str(what),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Done => f.write_str("done"),
            Answer::Bytes(bytes) => write!(f, "{bytes} bytes"),
            Answer::Drained(bytes) => write!(f, "{bytes} bytes, drained"),
            Answer::Conn(key) => write!(f, "{}", Named(Some(*key)).to_string().trim_start()),
            Answer::Events(count) => write!(f, "{count} events"),
            Answer::Messages(count) => write!(f, "{count} messages"),
            Answer::WouldBlock => f.write_str("would block"),
            Answer::InFlight => f.write_str("in flight"),
            Answer::Eof => f.write_str("end of stream"),
            Answer::Failed(errno) => write!(f, "{errno}"),
        }
    }
}

/// A key as users know it, behind a space.
struct Named(Option<Key>);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(key) = self.0 else { return Ok(()) };
        match key.kind() {
            Some(Kind::Conn) => write!(f, " {}", ConnId(key)),
            Some(Kind::Listener) => write!(f, " {}", ListenerId(key)),
            Some(Kind::Timer) => write!(f, " {}", TimerId(key)),
            _ => write!(f, " {key:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_time_host_and_what_happened() {
        let mut trace = Trace::new();
        let key = Key::new(Kind::Conn, 2, 1);
        let answer = Answer::Drained(5);
        let at = Time::from_nanos(1_000_000_007);
        trace.note(at, 0, What::Call { name: "recv", key: Some(key), answer });
        let (from, to) = (Spot { host: 1, port: 7 }, Spot { host: 0, port: 80 });
        trace.note(at, 0, What::Packet { name: "data", from, to, bytes: 5 });
        let text = trace.text(&["server", "client"], usize::MAX);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "1.000000007s server: recv conn#2.1 = 5 bytes, drained");
        assert_eq!(lines[1], "1.000000007s server: data 5 client:7 > server:80");
        assert_eq!(trace.text(&["a", "b"], 1).lines().next(), Some("(1 earlier lines)"));
    }

    #[test]
    fn a_long_trace_forgets_its_beginning() {
        let mut trace = Trace::new();
        for _ in 0..LINES_MAX + 3 {
            trace.note(Time::default(), 0, What::Host("turn"));
        }
        assert!(trace.text(&["a"], usize::MAX).starts_with("(3 earlier lines)\n"));
    }
}
