//! Faults that a loop makes on its own sockets: which, how often, on which of them.

use std::io;
use std::str::FromStr;

use crate::fault::{Fault, Faults};
use crate::options::invalid;
use crate::random::Chance;

/// Faults that a loop makes on its own, real sockets, drawn from a seed: for a test or a staging
/// server, to see that a handler lives with what a kernel and a network may do at any time.
///
/// A receive or a send stops short at any byte, answers that there is nothing or no room, or
/// fails; an accept or a connect fails; waits are interrupted, events come late, merged, in another
/// order, for nothing, or for what is closed; connections are reset. The contract
/// ([crate documentation](crate#the-contract)) holds all the same: a handler is told nothing that
/// it could not be told without. The kinds and their names are those of the
/// [simulator](crate::sim), where a seed also makes the same run again. Here it makes the same
/// draws; what they meet is for the kernel to say.
///
/// It is set by [`Config::chaos`](crate::Config::chaos), or without a change of the program by the
/// environment variable `HOTLOOP_CHAOS`, a list of these parts in any order:
///
/// | part | meaning |
/// |---|---|
/// | `seed=7` | [`new`](Chaos::new); has to be there |
/// | `faults=mild` | [`faults`](Chaos::faults): `none`, `mild` (the default) or `harsh` |
/// | `ShortRead=0.5` | how likely one kind is, after that |
/// | `share=0.1` | [`share`](Chaos::share) |
/// | `port=9000` | [`port`](Chaos::port) |
/// | `fail_call=12` | [`fail_call`](Chaos::fail_call) |
///
/// `HOTLOOP_CHAOS=seed=7,faults=harsh,share=0.1 ./server`. What is wrong in it is named by the
/// error of [`Loop::new`](crate::Loop::new). A loop under chaos says so in the log, at warn; what
/// was done is counted by [`Net::fault_counts`](crate::Net::fault_counts). Without it there is
/// nothing in the way: the loop calls its backend directly.
///
/// # Examples
///
/// ```
/// use hotloop::sim::{Fault, Faults};
/// use hotloop::{Chaos, Config, Loop};
///
/// let chaos = Chaos::new(7).faults(Faults::mild().of(Fault::Reset, 0.001)).share(0.1);
/// assert_eq!("seed=7,Reset=0.001,share=0.1".parse::<Chaos>()?, chaos);
///
/// let event_loop = Loop::new(Config::default().chaos(chaos))?;
/// # drop(event_loop);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chaos {
    pub(crate) seed: u64,
    pub(crate) faults: Faults,
    pub(crate) share: Chance,
    pub(crate) port: Option<u16>,
    pub(crate) fail_call: Option<u64>,
}

impl Chaos {
    /// The kinds that are made on real sockets. Of the others there are none:
    /// [`Faults::mild`] and [`Faults::harsh`] have them for the simulator.
    pub const KINDS: &[Fault] = &[
        Fault::ShortRead,
        Fault::ShortWrite,
        Fault::ReadBlocked,
        Fault::WriteBlocked,
        Fault::WaitInterrupted,
        Fault::SpuriousEvent,
        Fault::DelayedEvent,
        Fault::SplitBatch,
        Fault::ShuffledBatch,
        Fault::StaleEvent,
        Fault::AcceptError,
        Fault::ConnectError,
        Fault::SendError,
        Fault::RecvError,
        Fault::Reset,
        Fault::ClockStepBack,
    ];

    /// Makes [`Faults::mild`] on every connection and listener.
    pub fn new(seed: u64) -> Chaos {
        let share = Chance::new(1.0, "share");
        Chaos { seed, faults: Faults::mild(), share, port: None, fail_call: None }
    }

    /// Sets which faults, and how likely each is, per opportunity: per receive, send, accept or
    /// connect the ones of these calls; per wait [`Fault::WaitInterrupted`],
    /// [`Fault::SplitBatch`], [`Fault::ShuffledBatch`], [`Fault::ClockStepBack`], and for one
    /// connection [`Fault::Reset`], [`Fault::SpuriousEvent`] and [`Fault::StaleEvent`]; per event
    /// [`Fault::DelayedEvent`]. Default: [`Faults::mild`], which ends no connection.
    ///
    /// With a probability of 1 for [`Fault::ReadBlocked`], [`Fault::WriteBlocked`],
    /// [`Fault::WaitInterrupted`] or [`Fault::AcceptError`] nothing ever comes through.
    pub fn faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// Sets how large a share of the connections is chosen, from 0 to 1, drawn for each when it is
    /// opened. Default: 1. Listeners are always chosen, by [`port`](Chaos::port) alone.
    ///
    /// # Panics
    ///
    /// If it is not within 0 to 1.
    pub fn share(mut self, share: f64) -> Self {
        self.share = Chance::new(share, "share");
        self
    }

    /// Chooses the listener at this port and what it accepts, the connections to this port of
    /// others, and nothing else. Default: all. Waits and the clock belong to the loop: their faults
    /// are not for some sockets alone.
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Has one call fail: the `k`-th, counted from 0, of all the accepts, connects, receives and
    /// sends on chosen sockets, whatever the seed. Default: none. With [`Faults::none`], and one
    /// run after another for each `k`, a test sees what a story makes of each of them.
    pub fn fail_call(mut self, k: u64) -> Self {
        self.fail_call = Some(k);
        self
    }

    fn set(self, name: &str, value: &str) -> io::Result<Chaos> {
        Ok(match name {
            "seed" => Chaos { seed: number(name, value)?, ..self },
            "faults" => self.faults(faults(value)?),
            "share" => Chaos { share: chance(name, value)?, ..self },
            "port" => self.port(number(name, value)?),
            "fail_call" => self.fail_call(number(name, value)?),
            _ => {
                let kind = Chaos::KINDS.iter().find(|kind| format!("{kind:?}") == name);
                let kind = kind.ok_or_else(|| wrong(name, value, "there is no such part"))?;
                chance(name, value)?;
                let faults = self.faults.clone();
                self.faults(faults.of(*kind, number(name, value)?))
            }
        })
    }
}

fn wrong(name: &str, value: &str, why: &str) -> io::Error {
    invalid(&format!("chaos: {name}={value}: {why}"))
}

fn number<T: FromStr>(name: &str, value: &str) -> io::Result<T> {
    value.parse().map_err(|_| wrong(name, value, "not such a number"))
}

fn chance(name: &str, value: &str) -> io::Result<Chance> {
    let probability = number(name, value)?;
    if (0.0..=1.0).contains(&probability) {
        Ok(Chance::new(probability, name))
    } else {
        Err(wrong(name, value, "not within 0 to 1"))
    }
}

fn faults(value: &str) -> io::Result<Faults> {
    match value {
        "none" => Ok(Faults::none()),
        "mild" => Ok(Faults::mild()),
        "harsh" => Ok(Faults::harsh()),
        _ => Err(wrong("faults", value, "none, mild or harsh")),
    }
}

/// Reads what the environment variable holds.
impl FromStr for Chaos {
    type Err = io::Error;

    fn from_str(text: &str) -> io::Result<Chaos> {
        let pair = |part: &str| {
            let (name, value) = part.split_once('=').ok_or_else(|| wrong(part, "", "no value"))?;
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        };
        let mut parts = text.split(',').map(pair).collect::<io::Result<Vec<_>>>()?;
        if !parts.iter().any(|(name, _)| name == "seed") {
            return Err(invalid(&format!("chaos: {text:?} has no seed")));
        }
        // Whether a kind stands before them or behind, they do not undo it.
        parts.sort_by_key(|(name, _)| name != "faults");
        parts.iter().try_fold(Chaos::new(0), |chaos, (name, value)| chaos.set(name, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_can_be_written() {
        let written = "seed=9, Reset=0.25,faults=none,share=0.5,port=80,fail_call=3";
        let chaos = Chaos::new(9)
            .faults(Faults::none().of(Fault::Reset, 0.25))
            .share(0.5)
            .port(80)
            .fail_call(3);
        assert_eq!(written.parse::<Chaos>().expect("it is right"), chaos);
        for kind in Chaos::KINDS {
            let chaos = format!("seed=1,{kind:?}=1").parse::<Chaos>().expect("it is right");
            assert_eq!(chaos.faults, Faults::mild().of(*kind, 1.0));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, what) in [
            ("", "no value"),
            ("faults=mild", "no seed"),
            ("seed", "no value"),
            ("seed=x", "seed=x"),
            ("seed=1,faults=wild", "none, mild or harsh"),
            ("seed=1,share=1.5", "share=1.5: not within"),
            ("seed=1,Reset=NaN", "not within 0 to 1"),
            ("seed=1,port=70000", "port=70000"),
            ("seed=1,SlowTurn=0.5", "no such part"),
            ("seed=1,colour=red", "colour=red: there is no such part"),
        ] {
            let error = text.parse::<Chaos>().expect_err(text);
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.to_string().contains(what), "{text}: {error}");
        }
    }
}
