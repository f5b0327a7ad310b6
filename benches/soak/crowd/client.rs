//! One client: what it says, and what it must hear.

use std::collections::{BTreeMap, VecDeque};

use hotloop::{ConnId, Net};

use super::Common;
use crate::roles::Role;
use crate::wire::{BODY_MAX_BYTES, FRAMING, Fault, Frame, Kind, Streams};

/// Answers that one waits for at most before it says more.
const PENDING_MAX: usize = 32;
/// How much a burst is, and how long its frames are.
const BURST_FRAMES: u32 = 200;
const BURST_BODY_BYTES: usize = 8 << 10;
/// Streamed frames of the server, of 4 KiB each: what a slow one reads in some seconds, what is
/// more than any limit, and what is less than the limit and more than sockets hold.
const SLOW_FRAMES: u32 = 500;
const FLOOD_FRAMES: u32 = 4000;
const STALL_FRAMES: u32 = 40;

pub(super) struct Client {
    role: Role,
    number: u32,
    group: usize,
    streams: Streams,
    seq: u32,
    /// What echoes have to bring, in order.
    echoes: VecDeque<(u32, Vec<u8>)>,
    /// What relays have to bring, in any order.
    relays: BTreeMap<u32, Vec<u8>>,
    /// The number of the next broadcast, once it is in its group.
    broadcast: Option<u64>,
    /// Streamed frames that are still to come.
    streamed: u32,
    /// Frames of a burst that are still to be sent.
    burst: u32,
    said_bye: bool,
    heard_bye: bool,
}

impl Client {
    pub(super) fn new(role: Role, number: u32, group: usize) -> Client {
        Client {
            role,
            number,
            group,
            streams: Streams::dialled(number),
            seq: 0,
            echoes: VecDeque::new(),
            relays: BTreeMap::new(),
            broadcast: None,
            streamed: 0,
            burst: 0,
            said_bye: false,
            heard_bye: false,
        }
    }

    pub(super) fn role(&self) -> Role {
        self.role
    }

    /// Says who it is, and what it has come for.
    pub(super) fn begin(&mut self, net: &mut Net, conn: ConnId, common: &mut Common) {
        if self.role == Role::Vanishes {
            return net.abort(conn);
        }
        if self.role == Role::Garbage && common.chance.per_mille(500) {
            let len = common.chance.within(1..2000);
            net.write(conn, common.chance.noise(len));
            return;
        }
        let group = u8::try_from(self.group).expect("there are few");
        let hello = [&self.number.to_le_bytes()[..], &[self.role.code(), group]].concat();
        self.send(net, conn, (Kind::Hello, &hello));
        match self.role {
            Role::Closes | Role::Asks | Role::HalfCloses => self.chat(net, conn, common),
            Role::Aborts => {
                self.chat(net, conn, common);
                if common.chance.per_mille(500) {
                    net.abort(conn);
                }
            }
            Role::Slow => self.ask_for_stream(net, conn, SLOW_FRAMES),
            Role::Flooded | Role::Stalled => {
                let is_flood = self.role == Role::Flooded;
                let frames = if is_flood { FLOOD_FRAMES } else { STALL_FRAMES };
                self.ask_for_stream(net, conn, frames);
                net.pause_reading(conn);
            }
            Role::Burst => {
                self.burst = BURST_FRAMES;
                self.on_writable(net, conn, common);
            }
            Role::Garbage => {
                let len = common.chance.within(1..2000);
                net.write(conn, common.chance.noise(len));
            }
            Role::TooLong => {
                let len = u32::try_from(BODY_MAX_BYTES).expect("it is short");
                net.write_vectored(conn, &[&len.to_be_bytes(), common.chance.noise(20 << 10)]);
            }
            _ => {}
        }
    }

    /// Its turn has come.
    pub(super) fn talk(&mut self, net: &mut Net, conn: ConnId, common: &mut Common) {
        if self.role == Role::Slow {
            net.resume_reading(conn);
            return;
        }
        if self.echoes.len() + self.relays.len() >= PENDING_MAX {
            return;
        }
        let len = match common.chance.within(0..100) {
            0 => BODY_MAX_BYTES,
            1..10 => common.chance.within(0..16_000),
            _ => common.chance.within(0..500),
        };
        let body = common.chance.noise(len).to_vec();
        if len < 500 && common.chance.per_mille(200) {
            let seq = self.seq;
            if self.send(net, conn, (Kind::Relay, &body)) {
                self.relays.insert(seq, body);
            }
        } else {
            self.echo(net, conn, body);
        }
    }

    /// A few messages, and those that go then say so.
    fn chat(&mut self, net: &mut Net, conn: ConnId, common: &mut Common) {
        for _ in 0..common.chance.within(1..8) {
            let len = common.chance.within(0..3000);
            let body = common.chance.noise(len).to_vec();
            self.echo(net, conn, body);
        }
        if self.role == Role::HalfCloses {
            self.bye(net, conn);
            net.shutdown(conn);
        }
    }

    fn echo(&mut self, net: &mut Net, conn: ConnId, body: Vec<u8>) -> bool {
        let seq = self.seq;
        let is_taken = self.send(net, conn, (Kind::Echo, &body));
        if is_taken {
            self.echoes.push_back((seq, body));
        }
        is_taken
    }

    fn ask_for_stream(&mut self, net: &mut Net, conn: ConnId, frames: u32) {
        self.streamed = frames;
        self.send(net, conn, (Kind::Stream, &frames.to_le_bytes()));
    }

    fn bye(&mut self, net: &mut Net, conn: ConnId) {
        self.said_bye = true;
        self.send(net, conn, (Kind::Bye, &[]));
    }

    fn send(&mut self, net: &mut Net, conn: ConnId, (kind, body): (Kind, &[u8])) -> bool {
        let sent = self.streams.send(net, conn, (kind, self.seq, body));
        self.seq = self.seq.wrapping_add(u32::from(sent.is_taken()));
        sent.is_taken()
    }

    pub(super) fn on_writable(&mut self, net: &mut Net, conn: ConnId, common: &mut Common) {
        while self.burst > 0 {
            let body = common.chance.noise(BURST_BODY_BYTES).to_vec();
            if !self.echo(net, conn, body) {
                return;
            }
            self.burst -= 1;
            if net.queued_bytes(conn) > 128 << 10 {
                return;
            }
        }
    }

    pub(super) fn on_data(
        &mut self,
        net: &mut Net,
        conn: ConnId,
        data: &[u8],
        common: &mut Common,
    ) -> usize {
        let mut frames = FRAMING.frames(data);
        for frame in &mut frames {
            let payload = frame.map_err(|_| Fault::Form);
            if let Err(fault) = payload.and_then(|payload| self.on_frame(payload, common)) {
                common.side.stream_fault(conn, self.role, fault);
                net.abort(conn);
                break;
            }
        }
        let consumed = frames.consumed();
        self.go_on(net, conn, consumed, common);
        consumed
    }

    fn on_frame(&mut self, payload: &[u8], common: &mut Common) -> Result<(), Fault> {
        let frame = self.streams.check(payload)?;
        self.hear(frame)?;
        self.streams.take(payload);
        common.side.checked(payload);
        Ok(())
    }

    /// Checks what one frame says.
    fn hear(&mut self, frame: Frame<'_>) -> Result<(), Fault> {
        let is_right = match frame.kind {
            Kind::Echo => self
                .echoes
                .pop_front()
                .is_some_and(|(seq, body)| seq == frame.seq && body == frame.body),
            Kind::Relay => self.relays.remove(&frame.seq).is_some_and(|body| body == frame.body),
            Kind::Failed => self.relays.remove(&frame.seq).is_some(),
            Kind::Stream => {
                let is_due = frame.seq == self.streamed && self.streamed > 0;
                self.streamed = self.streamed.saturating_sub(1);
                is_due
            }
            Kind::Join => {
                let next = frame.body.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
                self.broadcast = next;
                next.is_some() && self.role == Role::Steady
            }
            Kind::Broadcast => {
                let is_next = self.broadcast == Some(frame.position);
                self.broadcast = Some(frame.position + 1);
                is_next && frame.seq as usize == self.group
            }
            Kind::Nudge => matches!(self.role, Role::Steady | Role::Slow),
            Kind::Bye => !std::mem::replace(&mut self.heard_bye, true),
            Kind::Hello => false,
        };
        if is_right && (!self.heard_bye || frame.kind == Kind::Bye) {
            Ok(())
        } else {
            Err(Fault::Order)
        }
    }

    /// Does what comes next, now that something was heard.
    fn go_on(&mut self, net: &mut Net, conn: ConnId, consumed: usize, common: &mut Common) {
        let has_heard_all = self.echoes.is_empty() && self.burst == 0 && self.streamed == 0;
        match self.role {
            Role::Closes | Role::Slow if has_heard_all && !self.said_bye => {
                self.bye(net, conn);
                net.close(conn);
            }
            Role::Asks | Role::Burst if has_heard_all && !self.said_bye => self.bye(net, conn),
            Role::Aborts if common.chance.per_mille(500) => net.abort(conn),
            Role::Aborts if has_heard_all => self.chat(net, conn, common),
            // One piece at a time: the next one when its turn has come. After a part of a frame it
            // has to read on, or it would be shown the same part for ever.
            Role::Slow if consumed > 0 => {
                net.pause_reading(conn);
            }
            _ => {}
        }
    }

    pub(super) fn on_read_closed(
        &mut self,
        net: &mut Net,
        conn: ConnId,
        rest: &[u8],
        common: &mut Common,
    ) {
        let now = common.shared.circumstances();
        let waits = matches!(self.role, Role::Asks | Role::Burst | Role::HalfCloses);
        let is_short = !rest.is_empty() || (waits && !(self.heard_bye && self.echoes.is_empty()));
        if is_short && !now.draining && !now.chaos {
            common.side.stream_fault(conn, self.role, Fault::Truncated);
        }
        net.close(conn);
    }
}
