//! The simulated network: machines, ends, and the queue of what happens next.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::id::Key;
use crate::time::Time;

use super::end::{End, EndIndex, Owner};
use super::machine::Machine;
use super::options::{Link, NodeOptions};
use super::pipes::Pipe;
use super::queue::Queue;
use super::report::Report;
use super::trace::{HostIndex, Trace, What};
use crate::fault::Fault;
use crate::random::Random;

/// What is going to happen.
#[derive(Debug)]
pub(super) enum Action {
    /// A SYN arrives.
    Syn {
        from: EndIndex,
    },
    /// A SYN was not answered.
    SynAgain {
        from: EndIndex,
    },
    Arrive {
        from: EndIndex,
        to: EndIndex,
        packet: Packet,
    },
    /// Time to see whether the other end has acknowledged anything.
    GiveUp {
        end: EndIndex,
        acks: u64,
    },
    /// A delayed event.
    Wake {
        host: HostIndex,
        handle: i32,
        key: Key,
    },
    /// A send in flight may be done.
    Land {
        end: EndIndex,
    },
    /// A close in flight is done.
    Closed {
        host: HostIndex,
        life: u32,
        handle: i32,
        key: Key,
        reset: bool,
    },
    /// A loop has something to do.
    Turn {
        host: HostIndex,
    },
    /// A script has waited long enough.
    Awake {
        end: EndIndex,
    },
}

#[derive(Debug)]
pub(super) enum Packet {
    SynAck,
    Data(Box<[u8]>),
    Urgent(u8),
    /// So many bytes have arrived; there is room for so many more.
    Ack {
        bytes: usize,
        credit: usize,
    },
    Fin,
    Rst,
}

/// What the next step of a world was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stepped {
    /// The loop of this machine is to be given a turn.
    Turn(HostIndex),
    Happened,
    /// Nothing happens until the given time.
    Quiet,
}

/// A simulated world without its loops.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) now: Time,
    pub(crate) random: Random,
    pub(super) queue: Queue<Action>,
    pub(super) machines: Vec<Machine>,
    pub(super) ends: Vec<Option<Box<End>>>,
    pub(super) pipes: BTreeMap<(HostIndex, HostIndex), Pipe>,
    pub(super) default_link: Link,
    pub(super) trace: Trace,
    pub(crate) report: Report,
    /// Packets that were lost.
    pub(super) losses: u32,
    /// Why the run has failed.
    failure: Option<String>,
    /// Some loop's signal was raised.
    pub(crate) raised: Arc<AtomicBool>,
}

impl Network {
    pub(crate) fn new(seed: u64, start: Time) -> Network {
        Network {
            now: start,
            random: Random::new(seed),
            queue: Queue::new(),
            machines: Vec::new(),
            ends: Vec::new(),
            pipes: BTreeMap::new(),
            default_link: Link::lan(),
            trace: Trace::new(),
            report: Report::default(),
            losses: 0,
            failure: None,
            raised: Arc::default(),
        }
    }

    /// Adds a machine.
    pub(crate) fn add_machine(&mut self, name: &str, options: &NodeOptions) -> HostIndex {
        let is_new = self.machines.iter().all(|machine| machine.name != name);
        assert!(is_new, "there is a host {name} already");
        let host = self.machines.len();
        let number = u16::try_from(host + 1).expect("fewer than 65,535 hosts");
        let [high, low] = number.to_be_bytes();
        let ip = Ipv4Addr::new(10, 0, high, low);
        let raised = Arc::clone(&self.raised);
        self.machines.push(Machine::new(name, ip, options, self.now, raised));
        host
    }

    /// Returns the machine that has an address, as one machine sees it.
    pub(super) fn machine_at(&self, ip: IpAddr, seen_from: HostIndex) -> Option<HostIndex> {
        if ip.is_loopback() || ip.is_unspecified() {
            return Some(seen_from);
        }
        let IpAddr::V4(ip) = ip else { return None };
        let [10, 0, high, low] = ip.octets() else { return None };
        let number = usize::from(u16::from_be_bytes([high, low]));
        number.checked_sub(1).filter(|host| *host < self.machines.len())
    }

    /// Says why the run fails, unless it has failed already.
    pub(crate) fn fail(&mut self, why: String) {
        self.failure.get_or_insert(why);
    }

    /// # Panics
    ///
    /// If the run has failed, once.
    pub(crate) fn tell_failure(&mut self) {
        if let Some(why) = self.failure.take() {
            panic!("{why}");
        }
    }

    pub(crate) fn machine_mut(&mut self, host: HostIndex) -> &mut Machine {
        &mut self.machines[host]
    }

    pub(crate) fn note(&mut self, host: HostIndex, what: What) {
        self.trace.note(self.now, host, what);
    }

    pub(crate) fn trace_text(&self, most: usize) -> String {
        let names: Vec<&str> = self.machines.iter().map(|machine| &*machine.name).collect();
        self.trace.text(&names, most)
    }

    /// Draws whether a fault of a machine happens here; counts it.
    pub(super) fn fault(&mut self, host: HostIndex, kind: Fault) -> bool {
        let happens = self.machines[host].faults.happens(kind, &mut self.random);
        if happens {
            self.count_fault(host, kind);
        }
        happens
    }

    pub(super) fn count_fault(&mut self, host: HostIndex, kind: Fault) {
        self.report.note(kind);
        self.machines[host].disturbed = true;
        self.note(host, What::Fault(kind));
    }

    /// Draws a moment within the next so many microseconds.
    pub(super) fn within_micros(&mut self, micros: u64) -> Time {
        self.now + Duration::from_nanos(1 + self.random.below(micros * 1_000))
    }

    pub(super) fn end(&self, index: EndIndex) -> Option<&End> {
        self.ends[index].as_deref()
    }

    pub(super) fn end_mut(&mut self, index: EndIndex) -> &mut End {
        self.ends[index].as_mut().expect("the end is there")
    }

    /// Makes an end on a machine.
    pub(super) fn open_end(
        &mut self,
        host: HostIndex,
        local: SocketAddr,
        remote: SocketAddr,
        owner: Owner,
    ) -> EndIndex {
        let mut end = End::new(host, local, remote, owner);
        let machine = &self.machines[host];
        end.recv_max = machine.recv_max;
        if owner != Owner::Raw {
            end.send_max = machine.send_max;
        }
        end.remote_host = self.machine_at(remote.ip(), host);
        self.ends.push(Some(Box::new(end)));
        self.ends.len() - 1
    }

    /// Lets the next thing happen, unless that is later than `until`.
    pub(crate) fn step(&mut self, until: Time) -> Stepped {
        if self.queue.next_at().is_none_or(|at| at > until) {
            return Stepped::Quiet;
        }
        let (at, action) = self.queue.pop().expect("it was there a moment ago");
        self.now = self.now.max(at);
        match action {
            Action::Syn { from } => self.syn(from),
            Action::SynAgain { from } => self.send_syn(from),
            Action::Arrive { from, to, packet } => self.arrive(from, to, packet),
            Action::GiveUp { end, acks } => self.give_up(end, acks),
            Action::Wake { host, handle, key } => self.wake_late(host, handle, key),
            Action::Land { end } => self.land(end),
            Action::Closed { host, life, handle, key, reset } => {
                if self.machines[host].life == life {
                    self.closed(host, handle, key, reset);
                }
            }
            Action::Awake { end } => self.awake(end),
            Action::Turn { host } => return self.turn_due(host, at),
        }
        Stepped::Happened
    }

    /// Lets everything happen until a loop is to be given a turn, or until the given time.
    pub(crate) fn run(&mut self, until: Time) -> Stepped {
        loop {
            let stepped = self.step(until);
            if stepped != Stepped::Happened || self.failure.is_some() {
                return stepped;
            }
        }
    }

    /// Returns when the next thing happens.
    pub(crate) fn next_at(&self) -> Option<Time> {
        self.queue.next_at()
    }

    fn turn_due(&mut self, host: HostIndex, at: Time) -> Stepped {
        let machine = &mut self.machines[host];
        if machine.turn_at != Some(at) {
            return Stepped::Happened;
        }
        machine.turn_at = None;
        if machine.clock > self.now {
            let free = machine.clock;
            self.plan_turn(host, free);
            return Stepped::Happened;
        }
        Stepped::Turn(host)
    }

    /// Sees to it that a loop gets a turn at that time or before.
    pub(crate) fn plan_turn(&mut self, host: HostIndex, at: Time) {
        let machine = &mut self.machines[host];
        let at = at.max(self.now).max(machine.clock);
        if machine.turn_at.is_none_or(|planned| at < planned) {
            machine.turn_at = Some(at);
            self.queue.plan(at, Action::Turn { host });
        }
    }

    /// Plans turns for the loops whose signal was raised.
    pub(crate) fn notice_signals(&mut self) {
        if self.raised.swap(false, Ordering::AcqRel) {
            for host in 0..self.machines.len() {
                if self.machines[host].signal.is_raised() {
                    self.plan_turn(host, self.now);
                }
            }
        }
    }
}
