//! What a simulated world has done so far.

use crate::fault::{Fault, FaultCounts};

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
    pub(super) faults: FaultCounts,
}

impl Report {
    /// Returns how often a fault was injected.
    pub fn count(&self, kind: Fault) -> u64 {
        self.faults.of(kind)
    }

    /// Returns every kind of fault and how often it was injected.
    pub fn faults(&self) -> impl Iterator<Item = (Fault, u64)> + '_ {
        self.faults.iter()
    }

    /// Adds what another world has done.
    pub fn add(&mut self, other: &Report) {
        self.calls += other.calls;
        self.turns += other.turns;
        self.events += other.events;
        self.merged_edges += other.merged_edges;
        self.packets += other.packets;
        self.faults.add(&other.faults);
    }

    pub(super) fn note(&mut self, kind: Fault) {
        self.faults.note(kind);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
