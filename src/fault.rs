//! What can be made to go wrong, how often, and how often it was.

#![allow(clippy::indexing_slicing, reason = "one place for each kind")]

use std::fmt;

use crate::random::{Chance, Random};

/// A kind of fault that the simulator injects.
///
/// # Examples
///
/// ```
/// use hotloop::sim::{Fault, Faults};
///
/// let faults = Faults::none().of(Fault::ShortRead, 0.5).of(Fault::Reset, 0.001);
/// # let _ = faults;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Fault {
    /// A receive returns less than there is.
    ShortRead,
    /// A send takes less than there is room for.
    ShortWrite,
    /// A receive answers that nothing is there, though something is; an event follows.
    ReadBlocked,
    /// A send answers that there is no room, though there is; an event follows.
    WriteBlocked,
    /// A wait returns early and with nothing, as a signal does (`EINTR`).
    WaitInterrupted,
    /// A wait reports a socket as ready for everything, which it is not.
    SpuriousEvent,
    /// An event comes later than what it tells of.
    DelayedEvent,
    /// A wait reports only part of the sockets that are ready; the next ones the rest.
    SplitBatch,
    /// A wait reports what is ready in another order.
    ShuffledBatch,
    /// A wait reports a socket that was closed before.
    StaleEvent,
    /// An accept fails: `EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`, `ECONNABORTED`, `EINTR`,
    /// `EPROTO`, `EPERM`.
    AcceptError,
    /// A connect fails at once: `EMFILE`, `ENOBUFS`, `EADDRNOTAVAIL`, `ENETUNREACH`.
    ConnectError,
    /// A connect reaches the connecting socket itself, which TCP allows when an ephemeral port is
    /// dialled and nobody listens there.
    SelfConnect,
    /// A send fails: `EPIPE`, `ECONNRESET`, `ENOBUFS`, `EHOSTUNREACH`. The connection is over.
    SendError,
    /// A receive fails: `ECONNRESET`, `ETIMEDOUT`, `EHOSTUNREACH`, which end the connection, or
    /// `ENOMEM`.
    RecvError,
    /// A connection is reset by something in between: both ends are told. Drawn for each packet.
    Reset,
    /// A send in flight, or a close, is done much later (completion dialect).
    LateCompletion,
    /// The clock shows an earlier time than before, as some virtual machines let it.
    ClockStepBack,
    /// A turn takes from 1 to 500 milliseconds.
    SlowTurn,
    /// A packet is lost and comes when TCP has sent it again.
    Loss,
    /// A SYN is answered with a RST.
    Refused,
    /// A SYN vanishes; TCP sends it again after 1, 3, 7, 15 … seconds.
    Swallowed,
    /// A packet meets a partition, and waits there until it is healed; a RST, which is sent once,
    /// is lost.
    Held,
}

impl Fault {
    /// All kinds.
    pub const ALL: &[Fault] = &[
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
        Fault::SelfConnect,
        Fault::SendError,
        Fault::RecvError,
        Fault::Reset,
        Fault::LateCompletion,
        Fault::ClockStepBack,
        Fault::SlowTurn,
        Fault::Loss,
        Fault::Refused,
        Fault::Swallowed,
        Fault::Held,
    ];

    fn index(self) -> usize {
        self as usize
    }
}

const KINDS: usize = Fault::ALL.len();

/// How likely each fault of a host is, per opportunity: per receive, per send, per wait, per
/// accept …
///
/// [`Fault::Loss`], [`Fault::Refused`] and [`Fault::Swallowed`] belong to a
/// [`Link`](crate::sim::Link), and [`Fault::Held`] to a partition.
///
/// # Examples
///
/// ```
/// use hotloop::sim::{Fault, Faults, World};
///
/// let mut world = World::new(1);
/// let host = world.host("server");
/// world.faults(host, Faults::mild().of(Fault::ShortRead, 0.9));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    chances: [Chance; KINDS],
}

impl Faults {
    /// None at all: the default.
    pub fn none() -> Faults {
        Faults { chances: [Chance::NEVER; KINDS] }
    }

    /// What a correct kernel does on a bad day: short and blocked calls, events that are late,
    /// spurious or split, interrupted waits; nothing that ends a connection. A server loses no
    /// byte under it.
    pub fn mild() -> Faults {
        Faults::none().with(&[
            (Fault::ShortRead, 0.1),
            (Fault::ShortWrite, 0.1),
            (Fault::ReadBlocked, 0.03),
            (Fault::WriteBlocked, 0.03),
            (Fault::WaitInterrupted, 0.03),
            (Fault::SpuriousEvent, 0.03),
            (Fault::DelayedEvent, 0.05),
            (Fault::SplitBatch, 0.1),
            (Fault::ShuffledBatch, 0.1),
            (Fault::StaleEvent, 0.03),
            (Fault::LateCompletion, 0.2),
            (Fault::ClockStepBack, 0.01),
            (Fault::SlowTurn, 0.002),
        ])
    }

    /// [`mild`](Faults::mild), more of it, and what ends connections: errors and resets.
    pub fn harsh() -> Faults {
        Faults::none().with(&[
            (Fault::ShortRead, 0.3),
            (Fault::ShortWrite, 0.3),
            (Fault::ReadBlocked, 0.1),
            (Fault::WriteBlocked, 0.1),
            (Fault::WaitInterrupted, 0.1),
            (Fault::SpuriousEvent, 0.1),
            (Fault::DelayedEvent, 0.15),
            (Fault::SplitBatch, 0.3),
            (Fault::ShuffledBatch, 0.3),
            (Fault::StaleEvent, 0.1),
            (Fault::AcceptError, 0.15),
            (Fault::ConnectError, 0.1),
            (Fault::SelfConnect, 0.1),
            (Fault::SendError, 0.01),
            (Fault::RecvError, 0.01),
            (Fault::Reset, 0.003),
            (Fault::LateCompletion, 0.5),
            (Fault::ClockStepBack, 0.03),
            (Fault::SlowTurn, 0.01),
        ])
    }

    /// Sets the probability of one kind, from 0 to 1.
    ///
    /// # Panics
    ///
    /// If it is not within 0 to 1, or the kind is one of a link; the kind is named.
    pub fn of(mut self, kind: Fault, probability: f64) -> Faults {
        let of_link = matches!(kind, Fault::Loss | Fault::Refused | Fault::Swallowed | Fault::Held);
        assert!(!of_link, "{kind:?} is a fault of links, not of hosts");
        self.chances[kind.index()] = Chance::new(probability, &format!("{kind:?}"));
        self
    }

    fn with(self, kinds: &[(Fault, f64)]) -> Faults {
        kinds.iter().fold(self, |faults, (kind, probability)| faults.of(*kind, *probability))
    }

    pub(crate) fn happens(&self, kind: Fault, random: &mut Random) -> bool {
        random.happens(self.chances[kind.index()])
    }
}

impl Default for Faults {
    fn default() -> Faults {
        Faults::none()
    }
}

/// How often each fault was made.
///
/// # Examples
///
/// ```
/// use hotloop::sim::{Fault, FaultCounts};
///
/// let counts = FaultCounts::default();
/// assert_eq!(counts.of(Fault::Reset), 0);
/// assert_eq!(counts.to_string(), "none");
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FaultCounts {
    counts: [u64; KINDS],
}

impl FaultCounts {
    /// Returns how often one kind was.
    pub fn of(&self, kind: Fault) -> u64 {
        self.counts[kind.index()]
    }

    /// Returns every kind and how often it was.
    pub fn iter(&self) -> impl Iterator<Item = (Fault, u64)> + '_ {
        Fault::ALL.iter().map(|kind| (*kind, self.of(*kind)))
    }

    pub(crate) fn note(&mut self, kind: Fault) {
        self.counts[kind.index()] += 1;
    }

    pub(crate) fn add(&mut self, other: &FaultCounts) {
        for (own, count) in self.counts.iter_mut().zip(other.counts) {
            *own += count;
        }
    }
}

/// The kinds that there were: `ShortRead 12, Reset 1`.
impl fmt::Display for FaultCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut there = self.iter().filter(|(_, count)| *count > 0);
        let Some((kind, count)) = there.next() else { return f.write_str("none") };
        write!(f, "{kind:?} {count}")?;
        there.try_for_each(|(kind, count)| write!(f, ", {kind:?} {count}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_own_place() {
        for (index, kind) in Fault::ALL.iter().enumerate() {
            assert_eq!(kind.index(), index, "{kind:?}");
        }
    }

    #[test]
    fn mild_faults_end_no_connection() {
        let mild = Faults::mild();
        for kind in [Fault::Reset, Fault::SendError, Fault::RecvError, Fault::AcceptError] {
            assert_eq!(mild.chances[kind.index()], Chance::NEVER, "{kind:?}");
        }
    }

    #[test]
    fn counts_name_the_kinds_that_there_were() {
        let mut counts = FaultCounts::default();
        assert_eq!(counts.to_string(), "none");
        counts.note(Fault::Reset);
        (0..12).for_each(|_| counts.note(Fault::ShortRead));
        assert_eq!(counts.to_string(), "ShortRead 12, Reset 1");
    }

    #[test]
    #[should_panic(expected = "ShortRead: 1.5 is not a probability")]
    fn a_probability_above_one_is_named() {
        let _ = Faults::none().of(Fault::ShortRead, 1.5);
    }

    #[test]
    #[should_panic(expected = "Loss is a fault of links")]
    fn a_fault_of_links_is_refused_for_hosts() {
        let _ = Faults::none().of(Fault::Loss, 0.5);
    }
}
