//! What one loop tells about itself, and how it reaches the thread that prints it.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};

use hotloop::sim::FaultCounts;
use hotloop::{CloseReason, ClosesByReason, ConnId, LoopStats, Net, Time, TimerId};

use crate::lag::Lag;
use crate::roles::{Circumstances, End, Role, Verdict};
use crate::wire::{Fault, whole_bytes};

/// Unexpected ends that are printed one by one; the others are counted.
const TOLD_MAX: u64 = 20;

/// What is counted beside what the loop counts itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Count {
    Broadcasts,
    Relays,
    RelaysFailed,
    Posts,
    HandOvers,
    Adopted,
    AdoptsLost,
    Halts,
    Nudges,
    TimersRestarted,
    ConnectionLimits,
    ExpectedGarbage,
}

impl Count {
    /// What the load brings about in every minute.
    pub(crate) const ALWAYS: [Count; 9] = [
        Count::Broadcasts,
        Count::Relays,
        Count::Posts,
        Count::HandOvers,
        Count::Adopted,
        Count::Halts,
        Count::Nudges,
        Count::TimersRestarted,
        Count::ExpectedGarbage,
    ];
}

/// What one loop has done: a copy of it is printed every minute.
#[derive(Clone)]
pub(crate) struct Side {
    pub(crate) name: &'static str,
    pub(crate) stats: LoopStats,
    /// Slots that were ever in use, and the most connections there ever were.
    pub(crate) slots: usize,
    pub(crate) conns_peak: usize,
    /// Whatever else it holds per connection.
    pub(crate) held: usize,
    pub(crate) pool: [usize; 3],
    pub(crate) frames: u64,
    pub(crate) checked_bytes: u64,
    pub(crate) counts: BTreeMap<Count, u64>,
    pub(crate) ends: BTreeMap<(Role, &'static str, End), u64>,
    pub(crate) faults: BTreeMap<&'static str, u64>,
    /// Connections that only the faults that were switched on explain the end of.
    pub(crate) injected: u64,
    /// Those faults, by kind.
    pub(crate) chaos: FaultCounts,
    pub(crate) lag: Lag,
    /// When the timer that measures the lag is due.
    beat: Time,
}

impl Side {
    pub(crate) fn new(name: &'static str) -> Side {
        Side {
            name,
            stats: LoopStats::default(),
            slots: 0,
            conns_peak: 0,
            held: 0,
            pool: [0; 3],
            frames: 0,
            checked_bytes: 0,
            counts: BTreeMap::new(),
            ends: BTreeMap::new(),
            faults: BTreeMap::new(),
            injected: 0,
            chaos: FaultCounts::default(),
            lag: Lag::new(),
            beat: Time::from_nanos(u64::MAX),
        }
    }

    pub(crate) fn count(&mut self, what: Count) {
        *self.counts.entry(what).or_default() += 1;
    }

    pub(crate) fn counted(&self, what: Count) -> u64 {
        self.counts.get(&what).copied().unwrap_or(0)
    }

    /// Notes what the loop has counted itself.
    pub(crate) fn note(&mut self, net: &Net) {
        self.stats = net.stats();
        self.chaos = net.fault_counts();
    }

    /// Notes that there is one connection more.
    pub(crate) fn opened(&mut self, net: &Net, conn: ConnId) {
        self.slots = self.slots.max(conn.slot() + 1);
        self.conns_peak = self.conns_peak.max(net.stats().connections);
    }

    /// Notes a mistake, and says so.
    pub(crate) fn fault(&mut self, what: &'static str, detail: &str) {
        let count = self.faults.entry(what).or_default();
        *count += 1;
        if *count <= TOLD_MAX {
            eprintln!("{}: {what}: {detail}", self.name);
        }
    }

    pub(crate) fn stream_fault(&mut self, conn: ConnId, role: Role, fault: Fault) {
        let what = match fault {
            Fault::Form => "no frame",
            Fault::Position => "position",
            Fault::Hash => "checksum",
            Fault::Order => "order",
            Fault::Truncated => "truncated",
        };
        self.fault(what, &format!("{conn}, {}", role.name()));
    }

    pub(crate) fn fault_total(&self) -> u64 {
        self.faults.values().sum()
    }

    /// Judges the end of a connection.
    pub(crate) fn ended(
        &mut self,
        conn: ConnId,
        (role, end): (Role, End),
        reason: CloseReason,
        now: Circumstances,
    ) {
        *self.ends.entry((role, ClosesByReason::name(reason), end)).or_default() += 1;
        match role.judge(end, reason, now) {
            Verdict::Expected => {}
            Verdict::Injected => self.injected += 1,
            Verdict::Unexpected => {
                let detail = format!("{conn}, {} ({end:?}): {reason}", role.name());
                self.fault("unexpected end", &detail);
            }
        }
    }

    /// Returns how many connections of a role have ended.
    pub(crate) fn ends_of(&self, role: Role) -> u64 {
        let ends = self.ends.iter().filter(|((of, ..), _)| *of == role);
        ends.map(|(_, count)| count).sum()
    }

    /// Notes that a frame was right.
    pub(crate) fn checked(&mut self, payload: &[u8]) {
        self.frames += 1;
        self.checked_bytes += whole_bytes(payload) as u64;
    }

    /// Begins to measure how late a timer fires.
    pub(crate) fn expect_beat(&mut self, net: &Net, timer: TimerId) {
        self.beat = net.timer_deadline(timer).unwrap_or(Time::from_nanos(u64::MAX));
    }

    /// Measures how late the timer fires that has just fired, and when it is due next.
    pub(crate) fn beat(&mut self, net: &Net, timer: TimerId) {
        self.lag.add(net.now().since(self.beat));
        self.expect_beat(net, timer);
    }
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Load,
    /// The clients stop and leave.
    Drain,
    /// The clients have left.
    Empty,
}

/// What the threads share.
pub(crate) struct Shared {
    pub(crate) chaos: bool,
    phase: AtomicU8,
    pub(crate) server: Mutex<Side>,
    pub(crate) crowd: Mutex<Side>,
}

impl Shared {
    pub(crate) fn new(chaos: bool) -> Shared {
        let (server, crowd) = (Side::new("server"), Side::new("clients"));
        let phase = AtomicU8::new(0);
        Shared { chaos, phase, server: Mutex::new(server), crowd: Mutex::new(crowd) }
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Load,
            1 => Phase::Drain,
            _ => Phase::Empty,
        }
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    pub(crate) fn circumstances(&self) -> Circumstances {
        Circumstances { draining: self.phase() != Phase::Load, chaos: self.chaos }
    }
}

/// Lets the printing thread see what a loop has counted; the lag goes over to it.
pub(crate) fn publish(side: &mut Side, to: &Mutex<Side>) {
    let mut shown = to.lock().expect("nobody panics while holding it");
    shown.lag.take_from(&mut side.lag);
    let fresh = Side { lag: std::mem::replace(&mut shown.lag, Lag::new()), ..side.clone() };
    *shown = fresh;
}
