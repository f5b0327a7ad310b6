//! The ways between machines: when a packet arrives, and what becomes of it before.

use std::time::Duration;

use crate::time::{Time, nanos};

use super::end::EndIndex;
use super::network::{Action, Network, Packet};
use super::options::Link;
use super::trace::{HostIndex, Spot, What};
use crate::fault::Fault;

/// The first retransmission of a lost packet comes after this time (RFC 6298 §2, as Linux has it).
const RETRANSMIT: Duration = Duration::from_millis(200);
/// How often one packet is lost at most.
const LOSSES_MAX: u32 = 5;
/// What a packet takes on the wire beside its payload.
const HEADER_BYTES: u64 = 40;

/// One direction of the way between two machines.
#[derive(Debug)]
pub(super) struct Pipe {
    link: Link,
    /// Somebody has chosen the link.
    is_named: bool,
    is_cut: bool,
    /// What met the partition.
    held: Vec<(EndIndex, EndIndex, Packet)>,
    busy_until: Time,
}

impl Network {
    pub(crate) fn set_link(&mut self, from: HostIndex, to: HostIndex, link: Link) {
        self.note_way(from, to, "another link");
        let now = self.now;
        let pipe = self.pipe(from, to);
        // What waits for the old one's bandwidth does not hold up the new one.
        (pipe.link, pipe.is_named, pipe.busy_until) = (link, true, now);
    }

    fn note_way(&mut self, host: HostIndex, to: HostIndex, what: &'static str) {
        self.note(host, What::Way { what, to });
    }

    pub(crate) fn set_default_link(&mut self, link: Link) {
        self.default_link = link;
        let (default, now) = (&self.default_link, self.now);
        for ((from, to), pipe) in &mut self.pipes {
            if !pipe.is_named && from != to {
                (pipe.link, pipe.busy_until) = (default.clone(), now);
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
        self.note_way(from, to, "cut off");
        self.pipe(from, to).is_cut = true;
    }

    /// Ends a partition: what it held is sent again.
    pub(crate) fn heal(&mut self, from: HostIndex, to: HostIndex) {
        if self.is_cut(from, to) {
            self.note_way(from, to, "healed");
        }
        let pipe = self.pipe(from, to);
        pipe.is_cut = false;
        for (sender, receiver, packet) in std::mem::take(&mut pipe.held) {
            if let (Packet::Fin, Some(end)) = (&packet, self.ends[sender].as_mut()) {
                end.is_fin_lost = false;
            }
            self.send_packet(from, to, sender, receiver, packet);
        }
    }

    pub(crate) fn heal_all(&mut self) {
        for (from, to) in self.pipes.keys().copied().collect::<Vec<_>>() {
            self.heal(from, to);
        }
    }

    /// Forgets what an end, or a whole machine, would have sent again.
    pub(super) fn forget_held(&mut self, is_gone: impl Fn(HostIndex, EndIndex) -> bool) {
        for ((host, _), pipe) in &mut self.pipes {
            pipe.held.retain(|(from, _, _)| !is_gone(*host, *from));
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
        if let (Packet::Fin, Some(other)) = (&packet, self.ends[to].as_mut()) {
            other.fin_coming = true;
        }
        let is_cut = self.is_cut(host, remote);
        if is_cut && matches!(packet, Packet::Rst) {
            // It is sent once: who was to get it is left with half a connection.
            return self.count_fault(host, Fault::Held);
        }
        if !is_cut && matches!(packet, Packet::Data(_)) && self.is_reset_between(host, remote) {
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
            let is_fin = matches!(packet, Packet::Fin);
            self.pipe(host, remote).held.push((from, to, packet));
            self.count_fault(host, Fault::Held);
            if let Some(end) = self.ends[from].as_mut().filter(|_| is_fin) {
                end.is_fin_lost = true;
            }
            // Nobody hears of it: with data not the sender, with its answer not the other.
            self.plan_give_up(from);
            return self.plan_give_up(to);
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
        let losses = self.losses;
        let mut at = self.arrival(host, remote, bytes);
        let lost = self.losses - losses;
        if let Some(end) = self.ends[from].as_mut() {
            end.retransmits += lost;
        }
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
        let (latency, jitter) = (pipe.link.latency, nanos(pipe.link.jitter));
        let jitter = if jitter == 0 { 0 } else { self.random.below(jitter.saturating_add(1)) };
        let mut at = left + latency + Duration::from_nanos(jitter);
        for again in 0..LOSSES_MAX {
            if !self.random.happens(loss) {
                break;
            }
            self.count_fault(host, Fault::Loss);
            self.losses += 1;
            at = at + RETRANSMIT * (1 << again);
        }
        at
    }

    /// Returns how long a packet takes at least, and by how much that varies.
    pub(super) fn spread(&mut self, from: HostIndex, to: HostIndex) -> (Duration, Duration) {
        let link = &self.pipe(from, to).link;
        (link.latency, link.jitter)
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
