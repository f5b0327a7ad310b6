//! One accepted connection: what it has said, and what it is owed.

use std::collections::VecDeque;
use std::time::Duration;

use hotloop::{ConnId, Net, Sent, TimerId};

use super::Common;
use super::doors::Door;
use crate::roles::Role;
use crate::side::Count;
use crate::wire::{FRAMING, Fault, Frame, Kind, Streams, number};

const STREAM_BODY_BYTES: usize = 4 << 10;

/// A relay that waits for a connection to the server behind, or for its answer.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) session: u32,
    pub(super) seq: u32,
    pub(super) body: Vec<u8>,
}

pub(super) struct Session {
    pub(super) door: Door,
    pub(super) role: Role,
    pub(super) number: u32,
    pub(super) group: usize,
    pub(super) streams: Streams,
    /// Relays that are not answered yet.
    pub(super) relays: u32,
    /// Frames that had no room.
    owed: VecDeque<(Kind, u32, Vec<u8>)>,
    stream_left: u32,
    said_bye: bool,
    /// Closes once everything is sent that is owed.
    closing: bool,
    /// How many frames the server behind answers before it ends the connection.
    patience: usize,
    timer: Option<TimerId>,
}

/// What became of a frame with which nothing is wrong.
enum Served {
    Yes,
    /// There is no room for the answer: the same frame has to come again.
    NoRoom,
}

impl Session {
    pub(super) fn new(door: Door) -> Session {
        Session {
            door,
            role: Role::Unknown,
            number: 0,
            group: 0,
            streams: Streams::accepted(),
            relays: 0,
            owed: VecDeque::new(),
            stream_left: 0,
            said_bye: false,
            closing: false,
            patience: usize::MAX,
            timer: None,
        }
    }

    /// Returns whether it may go through other hands: nobody has it in mind at this moment.
    pub(super) fn may_move(&self) -> bool {
        matches!(self.door, Door::Main | Door::Patient) && self.relays == 0 && !self.closing
    }

    pub(super) fn on_data(
        &mut self,
        net: &mut Net,
        conn: ConnId,
        data: &[u8],
        common: &mut Common,
    ) -> usize {
        let mut frames = FRAMING.frames(data);
        while let Some(frame) = frames.next() {
            let payload = frame.map_err(|_| Fault::Form);
            match payload.and_then(|payload| self.on_frame(net, conn, payload, common)) {
                Ok(Served::Yes) => {}
                Ok(Served::NoRoom) => {
                    frames.put_back();
                    net.pause_reading(conn);
                }
                Err(fault) => self.wrong(net, conn, fault, common),
            }
            if !net.is_reading(conn) {
                break;
            }
        }
        frames.consumed()
    }

    fn on_frame(
        &mut self,
        net: &mut Net,
        conn: ConnId,
        payload: &[u8],
        common: &mut Common,
    ) -> Result<Served, Fault> {
        let frame = self.streams.check(payload)?;
        let served = self.serve(net, conn, frame, common)?;
        if let Served::Yes = served {
            self.streams.take(payload);
            common.side.checked(payload);
        }
        Ok(served)
    }

    fn wrong(&mut self, net: &mut Net, conn: ConnId, fault: Fault, common: &mut Common) {
        if self.role.may_err() && self.door == Door::Strict {
            self.role = Role::Garbage;
            common.side.count(Count::ExpectedGarbage);
        } else {
            common.side.stream_fault(conn, self.role, fault);
        }
        hang_up(net, conn, common);
    }

    fn serve(
        &mut self,
        net: &mut Net,
        conn: ConnId,
        frame: Frame<'_>,
        common: &mut Common,
    ) -> Result<Served, Fault> {
        match frame.kind {
            Kind::Hello if self.role == Role::Unknown => {
                self.hello(net, conn, frame.body, common)?;
            }
            _ if self.role == Role::Unknown || self.said_bye => return Err(Fault::Order),
            Kind::Echo => return Ok(self.echo(net, conn, frame, common)),
            Kind::Relay => {
                let body = frame.body.to_vec();
                common.requests.push(Request { session: self.number, seq: frame.seq, body });
                self.relays += 1;
            }
            Kind::Stream => {
                self.stream_left += number(frame.body).unwrap_or(1);
                self.pump(net, conn, common);
            }
            Kind::Bye => self.bye(net, conn, common),
            _ => return Err(Fault::Order),
        }
        Ok(Served::Yes)
    }

    fn hello(
        &mut self,
        net: &mut Net,
        conn: ConnId,
        body: &[u8],
        common: &mut Common,
    ) -> Result<(), Fault> {
        let (Some(session), Some(&[role, group])) = (number(body), body.get(4..)) else {
            return Err(Fault::Form);
        };
        let role = Role::from_code(role).ok_or(Fault::Form)?;
        (self.number, self.role, self.group) = (session, role, usize::from(group));
        self.streams.meet(session);
        match role {
            Role::Upstream => self.patience = common.chance.within(50..300),
            Role::Feed => self.patience = common.chance.within(20..60),
            Role::Steady => drop(net.set_idle_timeout(conn, Duration::from_secs(60))),
            _ => {}
        }
        self.settle(net, conn, common);
        Ok(())
    }

    /// Takes its place: after the first frame, and after it has been through other hands.
    pub(super) fn settle(&mut self, net: &mut Net, conn: ConnId, common: &mut Common) {
        common.sessions.insert(self.number, conn);
        if self.role == Role::Steady {
            common.groups.join(conn, self.group);
            let next = common.groups.next_number(self.group).to_le_bytes();
            self.send(net, conn, (Kind::Join, 0, &next));
        }
        self.restart_timer(net, conn, common);
    }

    fn echo(
        &mut self,
        net: &mut Net,
        conn: ConnId,
        frame: Frame<'_>,
        common: &mut Common,
    ) -> Served {
        if self.patience == 0 {
            hang_up(net, conn, common);
            return Served::Yes;
        }
        self.patience -= 1;
        if frame.seq % 4 == 0 {
            self.restart_timer(net, conn, common);
        }
        match self.streams.send(net, conn, (Kind::Echo, frame.seq, frame.body)) {
            Sent::Queued | Sent::Closed => Served::Yes,
            Sent::Pressured => {
                net.pause_reading(conn);
                Served::Yes
            }
            Sent::Refused => Served::NoRoom,
        }
    }

    fn bye(&mut self, net: &mut Net, conn: ConnId, common: &mut Common) {
        self.said_bye = true;
        if self.role == Role::HalfCloses {
            return;
        }
        self.send(net, conn, (Kind::Bye, 0, &[]));
        if !matches!(self.role, Role::Asks | Role::Burst) {
            return;
        }
        if self.owed.is_empty() && common.chance.per_mille(500) {
            net.shutdown(conn);
        } else {
            self.closing = true;
            self.pump(net, conn, common);
        }
    }

    /// Sends a frame, at once or when there is room.
    pub(super) fn send(&mut self, net: &mut Net, conn: ConnId, frame: (Kind, u32, &[u8])) {
        let has_room = self.owed.is_empty();
        if !has_room || self.streams.send(net, conn, frame) == Sent::Refused {
            let (kind, seq, body) = frame;
            self.owed.push_back((kind, seq, body.to_vec()));
        }
    }

    /// Sends what is owed, as far as there is room, and then reads on.
    pub(super) fn pump(&mut self, net: &mut Net, conn: ConnId, common: &mut Common) {
        while let Some((kind, seq, body)) = self.owed.front() {
            if !self.streams.send(net, conn, (*kind, *seq, body)).is_taken() {
                return;
            }
            self.owed.pop_front();
        }
        while self.stream_left > 0 {
            let body = common.chance.noise(STREAM_BODY_BYTES);
            let sent = self.streams.send(net, conn, (Kind::Stream, self.stream_left, body));
            if !sent.is_taken() {
                return;
            }
            self.stream_left -= 1;
            // Those that do not read are to fill the queue up to its end.
            let is_heedless = matches!(self.role, Role::Flooded | Role::Stalled | Role::Slow);
            if sent == Sent::Pressured && !is_heedless {
                return;
            }
        }
        if self.closing {
            return net.close(conn);
        }
        net.resume_reading(conn);
    }

    pub(super) fn on_read_closed(
        &mut self,
        net: &mut Net,
        conn: ConnId,
        rest: &[u8],
        common: &mut Common,
    ) {
        let is_loading = !common.shared.circumstances().draining;
        let is_short = is_loading && self.role.says_bye() && !self.said_bye;
        if is_short || (is_loading && !rest.is_empty() && !self.role.may_err()) {
            common.side.stream_fault(conn, self.role, Fault::Truncated);
        }
        if self.role == Role::HalfCloses {
            self.send(net, conn, (Kind::Bye, 0, &[]));
        }
        self.closing = true;
        self.stream_left = 0;
        self.pump(net, conn, common);
    }

    /// Starts the timer anew that makes the server say something unasked.
    fn restart_timer(&mut self, net: &mut Net, conn: ConnId, common: &mut Common) {
        if !matches!(self.role, Role::Steady | Role::Slow) {
            return;
        }
        if let Some(timer) = self.timer.take() {
            net.cancel_timer(timer);
            common.side.count(Count::TimersRestarted);
        }
        let delay = Duration::from_millis(common.chance.within(50..1000) as u64);
        self.timer = net.start_conn_timer(conn, delay, conn.to_bits());
    }

    pub(super) fn on_timer(
        &mut self,
        net: &mut Net,
        conn: ConnId,
        timer: TimerId,
        common: &mut Common,
    ) {
        if self.timer.take() != Some(timer) {
            common.side.fault("timer", &format!("{conn} is told of one that it has cancelled"));
        }
        common.side.count(Count::Nudges);
        self.send(net, conn, (Kind::Nudge, 0, b"there?"));
        self.restart_timer(net, conn, common);
    }
}

/// Ends a connection in one of the two ways.
fn hang_up(net: &mut Net, conn: ConnId, common: &mut Common) {
    if common.chance.per_mille(500) { net.abort(conn) } else { net.close(conn) }
}
