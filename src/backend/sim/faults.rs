//! What can go wrong on a simulated host or link, how often, and how often it did.

use super::random::{Chance, Random};

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

    pub(super) fn happens(&self, kind: Fault, random: &mut Random) -> bool {
        random.happens(self.chances[kind.index()])
    }
}

impl Default for Faults {
    fn default() -> Faults {
        Faults::none()
    }
}

/// What a world has done so far.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// # use hotloop::{ConnId, Handler, Net};
/// # struct Echo;
/// # impl Handler for Echo {
/// #     fn on_data(&mut self, net: &mut Net, conn: ConnId, data: &[u8]) -> usize {
/// #         net.write(conn, data);
/// #         data.len()
/// #     }
/// # }
/// use hotloop::sim::{Fault, Faults, NodeOptions, Script, World};
///
/// let mut world = World::new(1);
/// let options = NodeOptions::default().faults(Faults::none().of(Fault::ShortRead, 1.0));
/// let server = world.node("server", options, Echo);
/// let addr = world.addr(server, 7);
/// world.net(server).listen(addr)?;
/// let host = world.host("client");
/// world.play(host, addr, Script::new().send("hello").expect("hello"));
/// world.run_for(Duration::from_secs(1));
/// assert!(world.report().count(Fault::ShortRead) > 0, "the test has met what it is for");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// System calls of loops that the simulated kernels answered, waits included, reads of the
    /// clock not.
    pub calls: u64,
    /// Turns of loops.
    pub turns: u64,
    /// Events that were reported to loops.
    pub events: u64,
    /// Edges that merged with one that was not reported yet.
    pub merged_edges: u64,
    /// Packets that arrived.
    pub packets: u64,
    faults: [u64; KINDS],
}

impl Report {
    /// Returns how often a fault was injected.
    pub fn count(&self, kind: Fault) -> u64 {
        self.faults[kind.index()]
    }

    /// Returns every kind of fault and how often it was injected.
    pub fn faults(&self) -> impl Iterator<Item = (Fault, u64)> + '_ {
        Fault::ALL.iter().map(|kind| (*kind, self.count(*kind)))
    }

    /// Adds what another world has done.
    pub fn add(&mut self, other: &Report) {
        self.calls += other.calls;
        self.turns += other.turns;
        self.events += other.events;
        self.merged_edges += other.merged_edges;
        self.packets += other.packets;
        for (own, count) in self.faults.iter_mut().zip(other.faults) {
            *own += count;
        }
    }

    pub(super) fn note(&mut self, kind: Fault) {
        self.faults[kind.index()] += 1;
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
    #[should_panic(expected = "ShortRead: 1.5 is not a probability")]
    fn a_probability_above_one_is_named() {
        let _ = Faults::none().of(Fault::ShortRead, 1.5);
    }

    #[test]
    #[should_panic(expected = "Loss is a fault of links")]
    fn a_fault_of_links_is_refused_for_hosts() {
        let _ = Faults::none().of(Fault::Loss, 0.5);
    }

    #[test]
    fn reports_add_up() {
        let (mut sum, mut one) = (Report::default(), Report::default());
        one.note(Fault::Reset);
        one.calls = 3;
        sum.add(&one);
        sum.add(&one);
        assert_eq!((sum.calls, sum.count(Fault::Reset), sum.count(Fault::Loss)), (6, 2, 0));
    }
}
