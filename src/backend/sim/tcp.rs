//! What TCP does between two ends: handshake, transmission, acknowledgement, FIN and RST.
//!
//! Modelled is what a program can see of it (RFC 9293; where kernels differ, Linux): not sequence
//! numbers and congestion, but when bytes and flags arrive, and what the calls answer then.

use std::time::Duration;

use crate::sys::errno::{ECONNRESET, EPIPE, ETIMEDOUT};

use super::end::{EndIndex, Fin, Owner, Stage, copy_out};
use super::network::{Action, Network, Packet};
use super::peer::REFUSED;
use super::trace::{HostIndex, Spot, What};

/// How often a SYN is sent again (`tcp(7)`, `tcp_syn_retries`).
const SYN_RETRIES: u32 = 6;
/// How long a closed end whose peer does not read goes on trying.
const ORPHAN_PATIENCE: Duration = Duration::from_secs(60);

impl Network {
    /// Sends the SYN of an end, for the first time or again.
    pub(super) fn send_syn(&mut self, index: EndIndex) {
        let Some(end) = self.ends[index].as_mut() else { return };
        if end.stage != Stage::Connecting {
            return;
        }
        if end.syns > SYN_RETRIES {
            return self.kill(index, ETIMEDOUT);
        }
        end.syns += 1;
        if end.other.is_some() {
            // It was answered, and the answer is held.
            let syns = end.syns;
            return self.plan_syn_again(index, syns);
        }
        let (host, remote, syns) = (end.host, end.remote_host, end.syns);
        if self.lets_syn_through(host, remote) {
            let remote = remote.expect("a SYN gets through to a machine");
            let at = self.arrival(host, remote, 0);
            self.queue.plan(at, Action::Syn { from: index });
        } else {
            self.plan_syn_again(index, syns);
        }
    }

    fn plan_syn_again(&mut self, index: EndIndex, syns: u32) {
        let at = self.now + Duration::from_secs(1 << (syns - 1));
        self.queue.plan(at, Action::SynAgain { from: index });
    }

    /// A SYN arrives: a listener answers it, or the kernel refuses it.
    pub(super) fn syn(&mut self, from: EndIndex) {
        let Some(end) = self.end(from).filter(|end| end.stage == Stage::Connecting) else {
            return;
        };
        let host = end.remote_host.expect("a SYN gets through to a machine");
        let (client, to, syns, spot) = (end.host, end.remote, end.syns, end.spot());
        self.report.packets += 1;
        if !self.machines[host].is_up {
            return self.plan_syn_again(from, syns);
        }
        let to_spot = Spot { host, port: to.port() };
        self.note(host, What::Packet { name: "SYN", from: spot, to: to_spot, bytes: 0 });
        let listeners = self.machines[host].listeners_at(to);
        if listeners.is_empty() || self.refuses(client, host) {
            let is_own = self.is_self_connect(from);
            return if is_own { self.meet(from, from) } else { self.refuse(from) };
        }
        let chosen = listeners[self.random.index(listeners.len())];
        let listener = self.machines[host].listeners[chosen].as_ref().expect("it was found");
        // As `sk_acceptq_is_full`: one more than asked for.
        if listener.waiting.len() > listener.backlog {
            return self.plan_syn_again(from, syns);
        }
        self.admit(from, host, chosen);
    }

    /// Returns whether an end has dialled its own address.
    fn is_self_connect(&self, index: EndIndex) -> bool {
        let end = self.end(index).expect("its SYN has arrived");
        end.remote_host == Some(end.host) && end.local.port() == end.remote.port()
    }

    fn refuse(&mut self, from: EndIndex) {
        let end = self.end(from).expect("its SYN has arrived");
        let (client, host) = (end.host, end.remote_host.expect("a SYN has reached a machine"));
        let at = self.arrival(host, client, 0);
        self.queue.plan(at, Action::Arrive { from, to: from, packet: Packet::Rst });
    }

    /// Makes the other end of a connection, in the backlog of a listener.
    fn admit(&mut self, from: EndIndex, host: HostIndex, listener: usize) {
        let end = self.end(from).expect("its SYN has arrived");
        let (local, remote, client) = (end.remote, end.local, end.host);
        let index = self.open_end(host, local, remote, Owner::Backlog);
        self.end_mut(index).remote_host = Some(client);
        self.meet(from, index);
        let listener = self.machines[host].listeners[listener].as_mut().expect("it was found");
        match listener.handle {
            Some(handle) => {
                listener.waiting.push_back(index);
                self.wake(host, handle);
            }
            None => {
                listener.served.push(index);
                let script = listener.script.clone();
                self.serve_raw(index, script);
            }
        }
    }

    /// Joins the end that has sent a SYN and the one that answers it.
    fn meet(&mut self, client: EndIndex, server: EndIndex) {
        let (client_max, server_max) =
            (self.end_mut(client).recv_max, self.end_mut(server).recv_max);
        let end = self.end_mut(client);
        (end.other, end.credit) = (Some(server), server_max);
        let end = self.end_mut(server);
        (end.other, end.credit) = (Some(client), client_max);
        if client != server {
            end.stage = Stage::Open;
        }
        self.dispatch(server, Packet::SynAck);
        let end = self.end_mut(client);
        let (host, remote, syns) = (end.host, end.remote_host.expect("it was met"), end.syns);
        if self.is_cut(remote, host) {
            self.plan_syn_again(client, syns);
        }
    }

    /// Transmits what there is to transmit and room for, and the FIN behind it.
    pub(super) fn transmit(&mut self, index: EndIndex) {
        while self.transmit_packet(index) {}
        let end = self.end_mut(index);
        if end.stage == Stage::Open && end.unsent.is_empty() && end.fin == Fin::Wanted {
            end.fin = Fin::Sent;
            self.dispatch(index, Packet::Fin);
            if self.end_mut(index).owner == Owner::Orphan {
                self.ends[index] = None;
            }
        }
    }

    fn transmit_packet(&mut self, index: EndIndex) -> bool {
        let end = self.end_mut(index);
        if end.stage != Stage::Open {
            return false;
        }
        let before = end.urgent.front().map(|(at, _)| at - end.sent_bytes);
        if let (Some(0), Some((_, byte))) = (before, end.urgent.front().copied()) {
            end.urgent.pop_front();
            self.dispatch(index, Packet::Urgent(byte));
            return true;
        }
        let before = before.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(usize::MAX);
        let most = end.unsent.len().min(end.credit).min(before);
        if most == 0 {
            return false;
        }
        let (host, remote) = (end.host, end.remote_host.expect("it is connected"));
        let len = self.packet_bytes(host, remote, most);
        let end = self.end_mut(index);
        let mut data = vec![0; len].into_boxed_slice();
        copy_out(&mut end.unsent, &mut data);
        end.sent_bytes += len as u64;
        end.credit -= len;
        end.unacked += len;
        self.dispatch(index, Packet::Data(data));
        true
    }

    /// A packet arrives.
    pub(super) fn arrive(&mut self, from: EndIndex, to: EndIndex, packet: Packet) {
        self.report.packets += 1;
        self.note_packet(to, &packet);
        let Some(end) = self.ends[to].as_mut() else {
            return self.arrive_nowhere(from, &packet, false);
        };
        if end.is_dead() {
            return self.arrive_nowhere(from, &packet, true);
        }
        match packet {
            Packet::SynAck => {
                end.stage = Stage::Open;
                self.transmit(to);
                self.notice(to);
            }
            Packet::Data(_) | Packet::Urgent(_) | Packet::Fin if end.owner == Owner::Orphan => {
                // Nobody will read it, and the sender has to know (RFC 9293 §3.6.1).
                if !matches!(packet, Packet::Fin) {
                    self.dispatch(to, Packet::Rst);
                    self.ends[to] = None;
                }
            }
            Packet::Data(data) => {
                end.unread.extend(&data[..]);
                let credit = std::mem::take(&mut end.freed);
                self.dispatch(to, Packet::Ack { bytes: data.len(), credit });
                self.notice(to);
            }
            Packet::Urgent(byte) => {
                end.set_mark(byte);
                self.notice(to);
            }
            Packet::Fin => {
                end.fin_in = true;
                self.notice(to);
            }
            Packet::Ack { bytes, credit } => self.acknowledged(to, bytes, credit),
            Packet::Rst if end.stage == Stage::Connecting => self.kill(to, REFUSED),
            // Both sides are done: it is nobody's business any more.
            Packet::Rst if end.is_over() => {}
            // As `tcp_reset` has it.
            Packet::Rst => {
                let errno = if end.fin_in { EPIPE } else { ECONNRESET };
                self.kill(to, errno);
            }
        }
    }

    /// A packet arrives at an end that is gone: the sender of data is told by a reset. That of a
    /// FIN, too, unless the end is gone in order and has sent its own.
    fn arrive_nowhere(&mut self, from: EndIndex, packet: &Packet, is_broken: bool) {
        let Some(end) = self.end(from) else { return };
        let Some(remote) = end.remote_host else { return };
        let fin_coming = end.fin_coming;
        if !self.machines[remote].is_up {
            self.end_mut(from).is_fin_lost |= matches!(packet, Packet::Fin);
            return self.plan_give_up(from);
        }
        let is_answered = match packet {
            Packet::Data(_) | Packet::Urgent(_) | Packet::SynAck => true,
            Packet::Fin => is_broken || !fin_coming,
            Packet::Ack { .. } | Packet::Rst => false,
        };
        if is_answered {
            self.answer_with_reset(from);
        }
    }

    /// Sends an end the RST of a host that knows nothing of its connection.
    pub(super) fn answer_with_reset(&mut self, index: EndIndex) {
        let Some(end) = self.end(index) else { return };
        if let (host, Some(remote)) = (end.host, end.remote_host) {
            self.send_packet(remote, host, index, index, Packet::Rst);
        }
    }

    fn acknowledged(&mut self, index: EndIndex, bytes: usize, credit: usize) {
        let end = self.end_mut(index);
        end.unacked -= bytes;
        end.credit += credit;
        end.acks += 1;
        self.transmit(index);
        let Some(end) = self.ends[index].as_mut() else { return };
        if end.no_space && end.is_writable() {
            end.no_space = false;
            self.notice(index);
        }
        if self.end_mut(index).flight.is_some() {
            self.land(index);
        }
    }

    /// Tells the other end that there is room again, if it is worth a packet.
    pub(super) fn tell_room(&mut self, index: EndIndex) {
        let end = self.end_mut(index);
        if end.stage == Stage::Open {
            if let Some(credit) = end.take_update() {
                self.dispatch(index, Packet::Ack { bytes: 0, credit });
            }
        }
    }

    /// Lets the owner of an end know that something has happened to it.
    pub(super) fn notice(&mut self, index: EndIndex) {
        let Some(end) = self.end(index) else { return };
        match end.owner {
            Owner::Socket { handle, .. } => self.wake(end.host, handle),
            Owner::Raw => self.go_on(index),
            Owner::Backlog | Owner::Orphan => {}
        }
    }

    /// Breaks an end: the owner finds this error.
    pub(super) fn kill(&mut self, index: EndIndex, errno: i32) {
        let Some(end) = self.ends[index].as_mut() else { return };
        if end.owner == Owner::Orphan {
            self.ends[index] = None;
            return;
        }
        end.stage = Stage::Dead;
        end.error = Some(errno);
        end.unsent.clear();
        end.unacked = 0;
        let in_flight = end.flight.is_some();
        self.notice(index);
        if in_flight {
            self.land(index);
        }
    }

    /// Closes an end that its owner leaves.
    pub(super) fn leave(&mut self, index: EndIndex, reset: bool) {
        let end = self.end_mut(index);
        end.flight = None;
        if end.stage != Stage::Open {
            self.ends[index] = None;
            return;
        }
        // Unread input makes it a reset (RFC 9293 §3.6.1, `tcp_close`), unless both are done.
        let is_unread = !end.unread.is_empty() || end.mark.is_some();
        if (reset || is_unread) && !end.is_over() {
            self.dispatch(index, Packet::Rst);
            self.ends[index] = None;
            return;
        }
        end.owner = Owner::Orphan;
        if end.fin == Fin::Sent {
            self.ends[index] = None;
            return;
        }
        end.fin = Fin::Wanted;
        self.transmit(index);
        self.plan_orphan_look(index);
    }

    /// Plans a look at whether the peer of a closed end has acknowledged anything.
    fn plan_orphan_look(&mut self, index: EndIndex) {
        if let Some(end) = self.end(index) {
            let (acks, at) = (end.acks, self.now + ORPHAN_PATIENCE);
            self.queue.plan(at, Action::GiveUp { end: index, acks });
        }
    }

    /// Plans a look at whether the other end has acknowledged anything.
    pub(super) fn plan_give_up(&mut self, index: EndIndex) {
        let Some(end) = self.ends[index].as_mut() else { return };
        let Some(remote) = end.remote_host.filter(|_| !end.giving_up) else { return };
        end.giving_up = true;
        let (host, acks) = (end.host, end.acks);
        let at = self.now + self.patience(host, remote);
        self.queue.plan(at, Action::GiveUp { end: index, acks });
    }

    /// Gives an end up whose other end has not acknowledged anything for too long.
    pub(super) fn give_up(&mut self, index: EndIndex, acks: u64) {
        let Some(end) = self.ends[index].as_mut() else { return };
        if end.owner == Owner::Orphan {
            if end.acks != acks {
                return self.plan_orphan_look(index);
            }
            self.dispatch(index, Packet::Rst);
            self.ends[index] = None;
            return;
        }
        end.giving_up = false;
        let is_outstanding = end.unacked > 0 || end.is_fin_lost;
        let stuck = end.stage == Stage::Open && !end.is_settled();
        let (host, remote, silent) = (end.host, end.remote_host, end.acks == acks);
        let Some(remote) = remote.filter(|_| stuck) else { return };
        let is_away =
            !self.machines[remote].is_up || self.is_cut(host, remote) || self.is_cut(remote, host);
        // What is only unsent waits for a window, and its probes are answered.
        if silent && (is_outstanding || is_away) {
            self.forget_held(|_, from| from == index);
            self.kill(index, ETIMEDOUT);
        } else if is_away {
            self.plan_give_up(index);
        }
    }

    /// Turns a machine off: nothing of it answers any more.
    pub(crate) fn crash(&mut self, host: HostIndex) {
        self.note(host, What::Host("crashes"));
        self.machines[host].turn_off();
        for end in &mut self.ends {
            if end.as_ref().is_some_and(|end| end.host == host && end.owner != Owner::Raw) {
                *end = None;
            } else if let Some(end) = end.as_mut().filter(|end| end.host == host) {
                end.stage = Stage::Dead;
            }
        }
        self.forget_held(|from, _| from == host);
        for index in 0..self.ends.len() {
            if self.end(index).is_some_and(|end| end.remote_host == Some(host)) {
                self.plan_give_up(index);
            }
        }
    }
}
