//! The connections that the server itself makes: a pool for relays, and one that is redialled.

use std::time::Duration;

use hotloop::client::{Backoff, Ended, Opened, Pool, PoolOptions, Redial, Redialled, Taken};
use hotloop::{CloseReason, ConnId, Net};

use super::session::Request;
use super::{Link, Server};
use crate::roles::{End, Role};
use crate::side::Count;
use crate::wire::{FRAMING, Fault, Kind, Streams, number};

/// Numbers from here on are those of the server's own connections.
const OWN_NUMBERS: u32 = 1 << 31;
/// `tcpmux`: nobody listens there.
const DEAD: &str = "127.0.0.1:1";

/// The near end of a connection to the server behind.
pub(super) struct Line {
    streams: Streams,
    seq: u32,
    answered: u32,
    request: Option<Request>,
}

pub(super) struct Upstream {
    pub(super) pool: Pool<Request>,
    pub(super) feed: Redial,
    lines: u32,
}

impl Upstream {
    pub(super) fn new(back: std::net::SocketAddr, seed: u64) -> std::io::Result<Upstream> {
        let options = PoolOptions::default()
            .conns_max(8)
            .idle_max(4)
            .waiters_max(64)
            .idle_timeout(Duration::from_millis(500))
            .age_max(Duration::from_secs(5));
        let backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(1)).seed(seed);
        Ok(Upstream {
            pool: Pool::new(back, options.backoff(backoff.clone()))?,
            feed: Redial::new([DEAD.to_owned(), back.to_string()], backoff)?,
            lines: OWN_NUMBERS,
        })
    }

    /// Introduces a connection that has just been made.
    fn line(&mut self, net: &mut Net, conn: ConnId, role: Role) -> Line {
        self.lines = (self.lines + 1) | OWN_NUMBERS;
        let mut streams = Streams::dialled(self.lines);
        let hello = [&self.lines.to_le_bytes()[..], &[role.code(), 0]].concat();
        streams.send(net, conn, (Kind::Hello, 0, &hello));
        Line { streams, seq: 0, answered: 0, request: None }
    }
}

impl Server {
    /// Sees to the relays that have come in.
    pub(super) fn relay(&mut self, net: &mut Net) {
        while let Some(request) = self.common.requests.pop() {
            match self.upstream.pool.take(net, request) {
                Taken::Conn(conn, request) => self.ask(net, conn, request),
                Taken::Waits => {}
                Taken::Refused(request) => self.answer(net, &request, Kind::Failed, &[]),
            }
        }
    }

    fn ask(&mut self, net: &mut Net, conn: ConnId, request: Request) {
        let Some(Link::Line(line)) = self.links.get_mut(conn) else {
            return self.common.side.fault("pool", &format!("{conn} is none of its connections"));
        };
        let (session, seq) = (request.session.to_le_bytes(), request.seq.to_le_bytes());
        let body = [&session[..], &seq, &request.body].concat();
        let sent = line.streams.send(net, conn, (Kind::Echo, line.seq, &body));
        line.seq = line.seq.wrapping_add(1);
        let is_busy = line.request.replace(request).is_some();
        if is_busy || !sent.is_taken() {
            let detail = format!("{conn} was given for a relay: busy {is_busy}, {sent:?}");
            self.common.side.fault("pool", &detail);
        }
    }

    fn answer(&mut self, net: &mut Net, request: &Request, kind: Kind, body: &[u8]) {
        let side = &mut self.common.side;
        side.count(if kind == Kind::Relay { Count::Relays } else { Count::RelaysFailed });
        let Some(conn) = self.common.sessions.get(&request.session) else { return };
        let Some(Link::Session(session)) = self.links.get_mut(*conn) else { return };
        session.relays = session.relays.saturating_sub(1);
        session.send(net, *conn, (kind, request.seq, body));
    }

    pub(super) fn made(&mut self, net: &mut Net, conn: ConnId) {
        self.common.side.opened(net, conn);
        if self.upstream.feed.on_connect(net, conn) {
            let line = self.upstream.line(net, conn, Role::Feed);
            self.links.insert(conn, Link::Feed(line));
            return;
        }
        let opened = self.upstream.pool.on_connect(net, conn);
        let line = self.upstream.line(net, conn, Role::Upstream);
        self.links.insert(conn, Link::Line(line));
        match opened {
            Opened::For(request) => self.ask(net, conn, request),
            Opened::Unused => {}
            Opened::Foreign => self.common.side.fault("pool", &format!("{conn} is nobody's")),
        }
    }

    /// Reads what the server behind has answered.
    pub(super) fn on_answers(&mut self, net: &mut Net, conn: ConnId, data: &[u8]) -> usize {
        if self.upstream.pool.on_data(net, conn, data) {
            self.common.side.fault("pool", &format!("{conn} tells what nobody has asked for"));
            return data.len();
        }
        let mut frames = FRAMING.frames(data);
        for frame in &mut frames {
            let answered = frame.map_err(|_| Fault::Form);
            if let Err(fault) = answered.and_then(|payload| self.on_answer(net, conn, payload)) {
                self.common.side.stream_fault(conn, Role::Upstream, fault);
                net.abort(conn);
            }
            if !net.is_reading(conn) {
                break;
            }
        }
        frames.consumed()
    }

    fn on_answer(&mut self, net: &mut Net, conn: ConnId, payload: &[u8]) -> Result<(), Fault> {
        let (is_feed, line) = match self.links.get_mut(conn) {
            Some(Link::Feed(line)) => (true, line),
            Some(Link::Line(line)) => (false, line),
            _ => return Err(Fault::Order),
        };
        let frame = line.streams.check(payload)?;
        if frame.kind != Kind::Echo || frame.seq != line.answered {
            return Err(Fault::Order);
        }
        line.streams.take(payload);
        line.answered = line.answered.wrapping_add(1);
        self.common.side.checked(payload);
        if is_feed {
            return Ok(());
        }
        let request = line.request.take().ok_or(Fault::Order)?;
        let names = number(frame.body).zip(frame.body.get(4..).and_then(number));
        let body = frame.body.get(8..).unwrap_or_default();
        if names != Some((request.session, request.seq)) || body != request.body {
            return Err(Fault::Order);
        }
        self.answer(net, &request, Kind::Relay, body);
        if let Some(next) = self.upstream.pool.give(net, conn, &[]) {
            self.ask(net, conn, next);
        }
        Ok(())
    }

    /// Says something on the connection that is redialled.
    pub(super) fn feed(&mut self, net: &mut Net) {
        let Some(conn) = self.upstream.feed.conn() else { return };
        let Some(Link::Feed(line)) = self.links.get_mut(conn) else { return };
        let body = self.common.chance.noise(300);
        if line.streams.send(net, conn, (Kind::Echo, line.seq, body)).is_taken() {
            line.seq = line.seq.wrapping_add(1);
        }
    }

    /// Sees to the end of a connection that the server had made; returns whether it was one.
    pub(super) fn made_ended(
        &mut self,
        net: &mut Net,
        (conn, reason): (ConnId, CloseReason),
        line: Option<Line>,
    ) -> bool {
        let now = self.common_now();
        let common = &mut self.common;
        if self.upstream.feed.on_close(net, conn) != Redialled::Foreign {
            common.side.ended(conn, (Role::Feed, End::Made), reason, now);
            return true;
        }
        let ended = self.upstream.pool.on_close(net, conn);
        if !matches!(ended, Ended::Foreign) {
            common.side.ended(conn, (Role::Upstream, End::Made), reason, now);
        }
        match (ended, line.and_then(|line| line.request)) {
            (Ended::Foreign, _) => return false,
            (Ended::Failed(request), _) | (Ended::InUse, Some(request)) => {
                self.answer(net, &request, Kind::Failed, &[]);
            }
            (Ended::InUse | Ended::Unused, None) => {}
            (Ended::Unused, Some(_)) => self.common.side.fault("pool", "a request is forgotten"),
        }
        true
    }
}
