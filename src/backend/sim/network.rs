//! The simulated network: machines, the ways between them, and the queue of what happens next.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::id::Key;
use crate::time::Time;

use super::end::{End, EndIndex, Owner};
use super::faults::{Fault, Report};
use super::machine::Machine;
use super::options::{Link, NodeOptions};
use super::queue::Queue;
use super::random::Random;
use super::trace::{HostIndex, Spot, Trace, What};

/// The first retransmission of a lost packet comes after this time (RFC 6298 §2, as Linux has it).
const RETRANSMIT: Duration = Duration::from_millis(200);
/// How often one packet is lost at most.
const LOSSES_MAX: u32 = 5;
/// What a packet takes on the wire beside its payload.
const HEADER_BYTES: u64 = 40;

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

/// One direction of the way between two machines.
#[derive(Debug)]
struct Pipe {
    link: Link,
    /// Somebody has chosen the link.
    is_named: bool,
    is_cut: bool,
    /// What met the partition.
    held: Vec<(EndIndex, EndIndex, Packet)>,
    busy_until: Time,
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
    pipes: BTreeMap<(HostIndex, HostIndex), Pipe>,
    default_link: Link,
    pub(super) trace: Trace,
    pub(crate) report: Report,
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
            failure: None,
            raised: Arc::default(),
        }
    }

    /// Adds a machine.
    pub(crate) fn add_machine(&mut self, name: &str, options: &NodeOptions) -> HostIndex {
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

    pub(crate) fn take_failure(&mut self) -> Option<String> {
        self.failure.take()
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
        let at = at.max(self.now);
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

    pub(crate) fn set_link(&mut self, from: HostIndex, to: HostIndex, link: Link) {
        let pipe = self.pipe(from, to);
        (pipe.link, pipe.is_named) = (link, true);
    }

    pub(crate) fn set_default_link(&mut self, link: Link) {
        self.default_link = link;
        let default = &self.default_link;
        for ((from, to), pipe) in &mut self.pipes {
            if !pipe.is_named && from != to {
                pipe.link = default.clone();
            }
        }
    }

    fn pipe(&mut self, from: HostIndex, to: HostIndex) -> &mut Pipe {
        let default = &self.default_link;
        self.pipes.entry((from, to)).or_insert_with(|| Pipe {
            link: if from == to { Link::instant() } else { default.clone() },
            is_named: false,
            is_cut: false,
            held: Vec::new(),
            busy_until: Time::default(),
        })
    }

    pub(crate) fn cut(&mut self, from: HostIndex, to: HostIndex) {
        self.pipe(from, to).is_cut = true;
    }

    /// Ends a partition: what it held is sent again.
    pub(crate) fn heal(&mut self, from: HostIndex, to: HostIndex) {
        let pipe = self.pipe(from, to);
        pipe.is_cut = false;
        for (sender, receiver, packet) in std::mem::take(&mut pipe.held) {
            self.send_packet(from, to, sender, receiver, packet);
        }
    }

    pub(crate) fn heal_all(&mut self) {
        for (from, to) in self.pipes.keys().copied().collect::<Vec<_>>() {
            self.heal(from, to);
        }
    }

    /// Returns whether a SYN gets through; a cut way and a machine that is off hold it.
    pub(super) fn lets_syn_through(&mut self, from: HostIndex, to: Option<HostIndex>) -> bool {
        let Some(to) = to.filter(|to| self.machines[*to].is_up) else {
            self.count_fault(from, Fault::Swallowed);
            return false;
        };
        let pipe = self.pipe(from, to);
        let (is_cut, swallow) = (pipe.is_cut, pipe.link.swallow);
        if is_cut || self.random.happens(swallow) {
            self.count_fault(from, if is_cut { Fault::Held } else { Fault::Swallowed });
            return false;
        }
        true
    }

    /// Draws whether the way refuses a connect.
    pub(super) fn refuses(&mut self, from: HostIndex, to: HostIndex) -> bool {
        let refuse = self.pipe(from, to).link.refuse;
        let refused = self.random.happens(refuse);
        if refused {
            self.count_fault(from, Fault::Refused);
        }
        refused
    }

    /// Draws how large the next packet is that has so many bytes to carry.
    pub(super) fn packet_bytes(&mut self, from: HostIndex, to: HostIndex, most: usize) -> usize {
        let most = most.min(self.pipe(from, to).link.segment_max_bytes);
        if most > 1 && self.random.below(4) == 0 { self.random.up_to(most) } else { most }
    }

    /// Sends a packet of an end to the other one.
    pub(super) fn dispatch(&mut self, from: EndIndex, packet: Packet) {
        let end = self.end(from).expect("the sender is there");
        let (host, Some(remote), Some(to)) = (end.host, end.remote_host, end.other) else {
            return;
        };
        if matches!(packet, Packet::Data(_)) && self.is_reset_between(host, remote) {
            self.plan_arrival(remote, host, to, from, Packet::Rst);
            return self.plan_arrival(host, remote, from, to, Packet::Rst);
        }
        self.send_packet(host, remote, from, to, packet);
    }

    fn is_reset_between(&mut self, host: HostIndex, remote: HostIndex) -> bool {
        self.fault(host, Fault::Reset) || (host != remote && self.fault(remote, Fault::Reset))
    }

    /// Sends a packet, or holds it at a partition.
    pub(super) fn send_packet(
        &mut self,
        host: HostIndex,
        remote: HostIndex,
        from: EndIndex,
        to: EndIndex,
        packet: Packet,
    ) {
        if self.pipe(host, remote).is_cut {
            self.pipe(host, remote).held.push((from, to, packet));
            self.count_fault(host, Fault::Held);
            return self.plan_give_up(from);
        }
        self.plan_arrival(host, remote, from, to, packet);
    }

    fn plan_arrival(
        &mut self,
        host: HostIndex,
        remote: HostIndex,
        from: EndIndex,
        to: EndIndex,
        packet: Packet,
    ) {
        let bytes = if let Packet::Data(data) = &packet { data.len() as u64 } else { 0 };
        let mut at = self.arrival(host, remote, bytes);
        if let Some(end) = self.ends[to].as_mut() {
            at = at.max(end.latest_arrival);
            end.latest_arrival = at;
        }
        self.queue.plan(at, Action::Arrive { from, to, packet });
    }

    /// Draws when a packet arrives.
    pub(super) fn arrival(&mut self, host: HostIndex, remote: HostIndex, bytes: u64) -> Time {
        let now = self.now;
        let pipe = self.pipe(host, remote);
        let wire = Duration::from_nanos(pipe.link.nanos_per_kib * (bytes + HEADER_BYTES) / 1024);
        pipe.busy_until = pipe.busy_until.max(now) + wire;
        let (left, loss) = (pipe.busy_until, pipe.link.loss);
        let (latency, jitter) = (pipe.link.latency, crate::time::nanos(pipe.link.jitter));
        let jitter = if jitter == 0 { 0 } else { self.random.below(jitter.saturating_add(1)) };
        let mut at = left + latency + Duration::from_nanos(jitter);
        for again in 0..LOSSES_MAX {
            if !self.random.happens(loss) {
                break;
            }
            self.count_fault(host, Fault::Loss);
            at = at + RETRANSMIT * (1 << again);
        }
        at
    }

    /// Returns after which time without an acknowledgement an end is given up.
    pub(super) fn patience(&mut self, from: HostIndex, to: HostIndex) -> Duration {
        self.pipe(from, to).link.give_up
    }

    pub(super) fn is_cut(&mut self, from: HostIndex, to: HostIndex) -> bool {
        self.pipe(from, to).is_cut
    }

    pub(super) fn note_packet(&mut self, to: EndIndex, packet: &Packet) {
        let (name, bytes) = match packet {
            Packet::SynAck => ("SYN-ACK", 0),
            Packet::Data(data) => ("data", data.len()),
            Packet::Urgent(_) => ("urgent", 1),
            Packet::Ack { .. } => return,
            Packet::Fin => ("FIN", 0),
            Packet::Rst => ("RST", 0),
        };
        let Some(receiver) = self.end(to) else { return };
        let (host, to_spot) = (receiver.host, receiver.spot());
        let sender = receiver.remote_host.unwrap_or(host);
        let from_spot = Spot { host: sender, port: receiver.remote.port() };
        self.note(host, What::Packet { name, from: from_spot, to: to_spot, bytes });
    }
}
