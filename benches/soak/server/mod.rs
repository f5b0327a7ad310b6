//! The server: everything that one on a single core does, at the same time.

mod doors;
mod groups;
mod hand_over;
mod session;
mod upstream;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hotloop::client::Redialled;
use hotloop::{
    CloseReason, Config, ConnId, ConnMap, Detached, Handler, Inbox, ListenerError, ListenerId,
    Loop, Mailbox, Missed, Net, Sent, TimerId,
};

pub(crate) use doors::Addrs;
pub(crate) use groups::GROUPS;

use crate::chance::Chance;
use crate::roles::{End, Role};
use crate::side::{Count, Phase, Shared, Side, publish};
use crate::wire::FRAME_MAX_BYTES;
use doors::{Door, Doors};
use groups::Groups;
use hand_over::Loose;
use session::{Request, Session};
use upstream::{Line, Upstream};

pub(crate) const PRODUCERS: usize = 2;

/// Reached by storms, and never for long.
const CONNECTIONS_MAX: usize = 256;
const GRACE: Duration = Duration::from_secs(20);

// Timers below are those of the groups; larger ones are ids of connections.
const BEAT: u64 = 100;
const SECOND: u64 = 101;
const MOVE: u64 = 102;
const FEED: u64 = 103;

/// What another thread tells.
pub(crate) struct Post {
    pub(crate) producer: usize,
    pub(crate) number: u64,
}

/// What serving one connection needs beside that connection.
struct Common {
    shared: Arc<Shared>,
    side: Side,
    chance: Chance,
    sessions: HashMap<u32, ConnId>,
    groups: Groups,
    requests: Vec<Request>,
}

enum Link {
    Session(Session),
    Line(Line),
    Feed(Line),
}

pub(crate) struct Server {
    common: Common,
    links: ConnMap<Link>,
    doors: Doors,
    upstream: Upstream,
    inbox: Inbox<Post>,
    posts: [u64; PRODUCERS],
    /// Released, and not adopted yet.
    loose: Vec<Loose>,
    halted: Option<ConnId>,
    timers: Vec<TimerId>,
    /// Moves to wait for clients that have left.
    moves_left: u32,
}

/// A server that does not run yet.
pub(crate) struct Ready {
    event_loop: Loop,
    server: Server,
    pub(crate) addrs: Addrs,
    pub(crate) mailbox: Mailbox<Post>,
}

impl Ready {
    pub(crate) fn new(shared: &Arc<Shared>, seed: u64) -> io::Result<Ready> {
        let mut event_loop = Loop::new(Config::default().max_connections(CONNECTIONS_MAX))?;
        let net = event_loop.net();
        let doors = Doors::open(net)?;
        let (mailbox, inbox) = net.mailbox(64)?;
        let addrs = doors.addrs;
        let upstream = Upstream::new(doors.back, seed)?;
        let common = Common {
            shared: Arc::clone(shared),
            side: Side::new("server"),
            chance: Chance::new(seed, FRAME_MAX_BYTES),
            sessions: HashMap::new(),
            groups: Groups::new(),
            requests: Vec::new(),
        };
        let server = Server {
            common,
            links: ConnMap::new(),
            doors,
            upstream,
            inbox,
            posts: [0; PRODUCERS],
            loose: Vec::new(),
            halted: None,
            timers: Vec::new(),
            moves_left: 200,
        };
        Ok(Ready { event_loop, server, addrs, mailbox })
    }

    /// Serves until the clients have left, closes everything, and drops the loop. Returns how many
    /// posts of each producer have come in their order, those included that the loop did not live
    /// to see.
    pub(crate) fn run(self) -> io::Result<[u64; PRODUCERS]> {
        let Ready { mut event_loop, mut server, mailbox, .. } = self;
        drop(mailbox);
        server.start(event_loop.net());
        event_loop.run(&mut server)?;
        event_loop.close_all(&mut server, GRACE)?;
        server.tell(event_loop.net());
        drop(event_loop);
        let Server { mut inbox, mut posts, .. } = server;
        while let Some(post) = inbox.try_recv() {
            posts[post.producer] += u64::from(post.number == posts[post.producer]);
        }
        Ok(posts)
    }
}

impl Server {
    fn start(&mut self, net: &mut Net) {
        let ms = Duration::from_millis;
        let beat = net.start_repeating(ms(10), Missed::Skip, BEAT);
        self.common.side.expect_beat(net, beat);
        let periods = [(1000, SECOND), (100, MOVE), (50, FEED)];
        self.timers = vec![beat];
        self.timers.extend(
            periods.map(|(period, token)| net.start_repeating(ms(period), Missed::Skip, token)),
        );
        (0..GROUPS).for_each(|group| self.common.groups.restart(net, group));
        self.upstream.feed.start(net);
    }

    /// Stops everything that goes on by itself.
    fn stop(&mut self, net: &mut Net) {
        self.common.groups.stop(net);
        for timer in self.timers.drain(..) {
            net.cancel_timer(timer);
        }
        self.upstream.feed.stop(net);
        self.upstream.pool.clear(net).for_each(drop);
        self.loose.clear();
        net.stop();
    }

    fn tell(&mut self, net: &Net) {
        let common = &mut self.common;
        let pool = &self.upstream.pool;
        common.side.note(net);
        common.side.pool = [pool.conns(), pool.idle(), pool.waiters()];
        common.side.held = self.links.len()
            + common.sessions.len()
            + common.groups.members()
            + common.requests.len()
            + self.loose.len();
        publish(&mut common.side, &common.shared.server);
    }

    /// Sends the same to all members of a group.
    fn broadcast(&mut self, net: &mut Net, group: usize) {
        let body = self.common.chance.noise(200).to_vec();
        let (frame, members) = self.common.groups.next(group, &body);
        for member in &members {
            let Some(Link::Session(session)) = self.links.get_mut(*member) else { continue };
            self.common.side.count(Count::Broadcasts);
            // One that is gone is told of at its end; one that has missed a broadcast must not go
            // on as if it had not.
            if session.streams.send_shared(net, *member, &frame) == Sent::Refused {
                net.abort(*member);
            }
        }
        self.common.groups.give_back(group, members);
    }

    /// Ends when no client is left, or after a while in which they should have left.
    fn wind_up(&mut self, net: &mut Net) {
        let is_client = |link: &Link| matches!(link, Link::Session(one) if one.door != Door::Back);
        let left = self.links.iter().filter(|(_, link)| is_client(link)).count();
        self.moves_left -= 1;
        if left > 0 && self.moves_left > 0 {
            return;
        }
        if left > 0 {
            self.common.side.fault("left behind", &format!("{left} connections without a peer"));
        }
        self.stop(net);
    }

    fn common_now(&self) -> crate::roles::Circumstances {
        self.common.shared.circumstances()
    }
}

impl Handler for Server {
    fn on_accept(&mut self, net: &mut Net, conn: ConnId, listener: ListenerId) {
        self.common.side.opened(net, conn);
        self.links.insert(conn, Link::Session(Session::new(self.doors.of(listener))));
    }

    fn on_connect(&mut self, net: &mut Net, conn: ConnId) {
        self.made(net, conn);
    }

    fn on_data(&mut self, net: &mut Net, conn: ConnId, data: &[u8]) -> usize {
        let Some(Link::Session(session)) = self.links.get_mut(conn) else {
            return self.on_answers(net, conn, data);
        };
        let consumed = session.on_data(net, conn, data, &mut self.common);
        self.relay(net);
        consumed
    }

    fn on_writable(&mut self, net: &mut Net, conn: ConnId) {
        if let Some(Link::Session(session)) = self.links.get_mut(conn) {
            session.pump(net, conn, &mut self.common);
        }
    }

    fn on_read_closed(&mut self, net: &mut Net, conn: ConnId, rest: &[u8]) {
        match self.links.get_mut(conn) {
            Some(Link::Session(one)) => one.on_read_closed(net, conn, rest, &mut self.common),
            _ => net.close(conn),
        }
    }

    fn on_release(&mut self, net: &mut Net, conn: ConnId, detached: Detached) {
        self.released(net, conn, detached);
    }

    fn on_close(&mut self, net: &mut Net, conn: ConnId, reason: CloseReason, _: u64) {
        let line = match self.links.remove(conn) {
            Some(Link::Session(session)) => return self.session_ended(conn, &session, reason),
            // After `Redial::stop` nobody asks for it any more.
            Some(Link::Feed(_)) if self.upstream.feed.is_stopped() => {
                let now = self.common_now();
                return self.common.side.ended(conn, (Role::Feed, End::Made), reason, now);
            }
            Some(Link::Line(line) | Link::Feed(line)) => Some(line),
            None if reason == CloseReason::Released => return,
            None => None,
        };
        if !self.made_ended(net, (conn, reason), line) {
            self.common.side.fault("unknown", &format!("{conn} has ended: {reason}"));
        }
    }

    fn on_timer(&mut self, net: &mut Net, timer: TimerId, token: u64) {
        match token {
            group if group < GROUPS as u64 => {
                self.broadcast(net, usize::try_from(group).expect("there are few"));
            }
            BEAT => self.common.side.beat(net, timer),
            SECOND => self.tell(net),
            MOVE => self.make_moves(net),
            FEED => self.feed(net),
            _ => self.other_timer(net, timer, token),
        }
    }

    fn on_wake(&mut self, net: &mut Net) {
        let mut groups = Vec::new();
        for Post { producer, number } in self.inbox.drain(net) {
            self.common.side.count(Count::Posts);
            if number != self.posts[producer] {
                let detail = format!("{number} of producer {producer} after {:?}", self.posts);
                self.common.side.fault("post", &detail);
            }
            self.posts[producer] = number + 1;
            if number % 16 == 0 {
                groups.push(usize::try_from(number / 16 % GROUPS as u64).expect("there are few"));
            }
        }
        groups.into_iter().for_each(|group| self.broadcast(net, group));
    }

    fn on_listener_error(&mut self, _: &mut Net, _: ListenerId, error: ListenerError) {
        match error {
            ListenerError::ConnectionLimit => self.common.side.count(Count::ConnectionLimits),
            _ if self.common.shared.chaos => {}
            error => self.common.side.fault("listener", &error.to_string()),
        }
    }
}

impl Server {
    fn session_ended(&mut self, conn: ConnId, session: &Session, reason: CloseReason) {
        let now = self.common_now();
        self.common.groups.leave(conn, session.group);
        if self.common.sessions.get(&session.number) == Some(&conn) {
            self.common.sessions.remove(&session.number);
        }
        let role = if session.door == Door::Strict && session.role == Role::Unknown {
            Role::Garbage
        } else {
            session.role
        };
        self.common.side.ended(conn, (role, End::Accepted), reason, now);
    }

    /// A timer of a pool, of a redial, or of a connection.
    fn other_timer(&mut self, net: &mut Net, timer: TimerId, token: u64) {
        if self.upstream.feed.on_timer(net, timer) != Redialled::Foreign
            || self.upstream.pool.on_timer(net, timer)
        {
            return;
        }
        let link =
            ConnId::from_bits(token).and_then(|conn| Some((conn, self.links.get_mut(conn)?)));
        match link {
            Some((conn, Link::Session(session))) => {
                session.on_timer(net, conn, timer, &mut self.common);
            }
            _ => self.common.side.fault("timer", &format!("{timer}, token {token}, of nobody")),
        }
    }

    /// Ten times a second: what happens to connections without their doing.
    fn make_moves(&mut self, net: &mut Net) {
        self.adopt_loose(net);
        match self.common.shared.phase() {
            Phase::Load => {
                self.hand_over(net);
                self.halt(net);
                let group = self.common.chance.within(0..GROUPS);
                self.common.groups.restart(net, group);
            }
            Phase::Drain => self.unhalt(net),
            Phase::Empty => {
                self.unhalt(net);
                self.wind_up(net);
            }
        }
    }

    /// Pauses one, and lets the last one read on.
    fn halt(&mut self, net: &mut Net) {
        self.unhalt(net);
        let Some(conn) = self.any_session(|_| true) else { return };
        if net.is_reading(conn) && net.pause_reading(conn) {
            self.common.side.count(Count::Halts);
            self.halted = Some(conn);
        }
    }

    fn unhalt(&mut self, net: &mut Net) {
        if let Some(halted) = self.halted.take() {
            net.resume_reading(halted);
        }
    }

    /// Draws one of the connections that were accepted.
    fn any_session(&mut self, is_one: impl Fn(&Session) -> bool) -> Option<ConnId> {
        let fits = |(conn, link): (ConnId, &Link)| match link {
            Link::Session(session) if is_one(session) => Some(conn),
            _ => None,
        };
        let candidates = self.links.iter().filter_map(fits).count();
        let drawn = self.common.chance.within(0..candidates.max(1));
        self.links.iter().filter_map(fits).nth(drawn)
    }
}
