//! The clients: two hundred connections in one loop, each dialled again when it has ended.

use std::collections::VecDeque;
use std::time::Duration;

use hotloop::client::{Backoff, Redial, Redialled};
use hotloop::{CloseReason, ConnId, ConnMap, Handler, Inbox, Net, Sent, TimerId};

use crate::groups::{Fate, GROUPS, Group};
use crate::random::Random;
use crate::report::{Ended, Report};
use crate::side::{PATIENCE_TICKS, Side, Stop};
use crate::stream::{FRAMING, Kind, Stream, body, digest};

/// How many turns a slow reader does not read.
const PAUSE_TURNS: u64 = 10;
const REQUESTS_PER_TURN: usize = 2;

pub(crate) struct Client {
    inbox: Inbox<Stop>,
    dials: Vec<Redial>,
    links: ConnMap<Link>,
    tags: u64,
    random: Random,
    ticks: u64,
    stopped_at: Option<u64>,
    report: Report,
}

/// A connection that is open.
struct Link {
    group: &'static Group,
    port: u16,
    written: Stream,
    read: Stream,
    /// Length and digest of each request that is not answered, in order.
    requests: VecDeque<(usize, u64)>,
    answers: u64,
    /// After how many answers it says farewell.
    answers_max: u64,
    is_pressured: bool,
    /// Something was not taken, because the connection is over.
    is_lost: bool,
    pause_turns: u64,
    said_bye: bool,
    heard_bye: bool,
}

impl Client {
    pub(crate) fn new(addr: &str, inbox: Inbox<Stop>) -> Client {
        let dial = |group: &Group, seed| {
            let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
            let addr = format!("{addr}:{}", group.port);
            let redial = Redial::new([addr], backoff.seed(seed)).expect("a literal address");
            // Whatever was open is as good as any: at fault is the network, not the server.
            redial.options(group.client_options()).proven_after(Duration::ZERO)
        };
        let groups = GROUPS.iter().flat_map(|group| std::iter::repeat_n(group, group.conns));
        Client {
            inbox,
            dials: groups.zip(0..).map(|(group, seed)| dial(group, seed)).collect(),
            links: ConnMap::new(),
            tags: 0,
            random: Random::new(2),
            ticks: 0,
            stopped_at: None,
            report: Report::new("client"),
        }
    }

    fn tick(&mut self, net: &mut Net) {
        self.ticks += 1;
        self.report.totals(&net.stats());
        for (conn, link) in self.links.iter_mut() {
            if (self.ticks + link.written.tag) % 2 == 0 {
                link.turn(net, conn, &mut self.random);
            }
        }
        if let Some(stopped_at) = self.stopped_at {
            if net.stats().connections == 0 || self.ticks > stopped_at + PATIENCE_TICKS {
                net.stop();
            }
        }
    }

    fn stop(&mut self, net: &mut Net) {
        self.stopped_at = Some(self.ticks);
        for dial in &mut self.dials {
            dial.stop(net);
        }
        for (conn, link) in self.links.iter_mut() {
            link.leave(net, conn);
        }
    }
}

impl Link {
    fn new(group: &'static Group, port: u16, tag: u64, answers_max: u64) -> Link {
        let stream = Stream { tag, ..Stream::default() };
        Link {
            group,
            port,
            written: stream,
            read: stream,
            requests: VecDeque::new(),
            answers: 0,
            answers_max,
            is_pressured: false,
            is_lost: false,
            pause_turns: 0,
            said_bye: false,
            heard_bye: false,
        }
    }

    /// Asks what there is room for. Some stop reading for a while now and then.
    fn turn(&mut self, net: &mut Net, conn: ConnId, random: &mut Random) {
        if self.said_bye || !net.is_open(conn) {
            return;
        }
        let is_slow = self.written.tag % 8 == 0 && self.group.fate != Fate::Silent;
        match self.pause_turns {
            0 if is_slow && random.below(20) == 0 => {
                self.pause_turns = PAUSE_TURNS;
                net.pause_reading(conn);
            }
            0 => {}
            1 => {
                self.pause_turns = 0;
                net.resume_reading(conn);
            }
            _ => self.pause_turns -= 1,
        }
        for _ in 0..REQUESTS_PER_TURN {
            let is_full = self.requests.len() >= self.group.requests_max;
            if is_full || self.is_pressured || self.is_lost || !self.group.asks(self.answers) {
                break;
            }
            let body = body(random);
            self.say(net, conn, Kind::Request, &body);
            self.requests.push_back((body.len(), digest(0, &body)));
        }
    }

    fn say(&mut self, net: &mut Net, conn: ConnId, kind: Kind, body: &[u8]) {
        match self.written.write(net, conn, kind, body) {
            Sent::Queued => {}
            Sent::Pressured => self.is_pressured = true,
            // What had arrived before a reset is shown before it: `on_close` will tell.
            Sent::Closed => self.is_lost = true,
            Sent::Refused => panic!("{kind:?} was refused: no more is written under pressure"),
        }
    }

    /// Says farewell: what was asked is answered all the same.
    fn leave(&mut self, net: &mut Net, conn: ConnId) {
        if self.said_bye || !net.is_open(conn) {
            return;
        }
        self.said_bye = true;
        self.say(net, conn, Kind::Bye, b"");
        net.shutdown(conn);
        net.resume_reading(conn);
    }

    /// Takes a frame. Returns what is wrong with it, if something is.
    fn take(&mut self, frame: &[u8]) -> Result<(), String> {
        let (kind, body) = self.read.read(frame).map_err(|fault| fault.to_string())?;
        match kind {
            _ if self.heard_bye => Err("a frame behind the farewell".to_owned()),
            Kind::Push => Ok(()),
            Kind::Answer => {
                let asked = self.requests.pop_front();
                self.answers += 1;
                match asked {
                    Some(asked) if asked == (body.len(), digest(0, body)) => Ok(()),
                    _ => Err(format!("an answer of {} bytes to {asked:?}", body.len())),
                }
            }
            Kind::Bye => {
                self.heard_bye = true;
                let is_over = self.said_bye && self.requests.is_empty();
                if is_over { Ok(()) } else { Err("a farewell before its time".to_owned()) }
            }
            Kind::Hello | Kind::Request => Err(format!("{kind:?} from a server")),
        }
    }
}

impl Side for Client {
    fn begin(&mut self, net: &mut Net) {
        for dial in &mut self.dials {
            dial.start(net);
        }
    }

    fn report(&mut self) -> &mut Report {
        &mut self.report
    }
}

impl Handler for Client {
    fn on_connect(&mut self, net: &mut Net, conn: ConnId) {
        self.dials.iter_mut().any(|dial| dial.on_connect(net, conn));
        self.tags += 1;
        let port = net.local_addr(conn).map_or(0, |addr| addr.port());
        let group = Group::of_port(net.peer_addr(conn).expect("it is open").port());
        let answers_max = match group.fate {
            Fate::Churn => 5 + self.random.below(100),
            _ => u64::MAX,
        };
        let mut link = Link::new(group, port, self.tags, answers_max);
        link.say(net, conn, Kind::Hello, b"");
        if self.stopped_at.is_some() {
            link.leave(net, conn);
        }
        self.links.insert(conn, link);
    }

    fn on_data(&mut self, net: &mut Net, conn: ConnId, data: &[u8]) -> usize {
        let link = self.links.get_mut(conn).expect("it is open");
        let mut frames = FRAMING.frames(data);
        for frame in &mut frames {
            let taken = match frame {
                Ok(frame) => link.take(frame),
                Err(error) => Err(error.to_string()),
            };
            if let Err(fault) = taken {
                self.report.fault(link.group.name, &format!("{conn}: {fault}"));
                net.abort(conn);
            }
            if !net.is_reading(conn) {
                break;
            }
        }
        if link.answers >= link.answers_max {
            link.leave(net, conn);
        }
        frames.consumed()
    }

    fn on_writable(&mut self, _: &mut Net, conn: ConnId) {
        if let Some(link) = self.links.get_mut(conn) {
            link.is_pressured = false;
        }
    }

    fn on_read_closed(&mut self, net: &mut Net, conn: ConnId, rest: &[u8]) {
        let link = self.links.get(conn).expect("it is open");
        if !link.heard_bye || !rest.is_empty() {
            let what = format!("{conn}: a FIN, {} bytes before it", rest.len());
            self.report.fault(link.group.name, &what);
        }
        net.close(conn);
    }

    fn on_close(&mut self, net: &mut Net, conn: ConnId, reason: CloseReason, dropped_bytes: u64) {
        for dial in &mut self.dials {
            if dial.on_close(net, conn) != Redialled::Foreign {
                break;
            }
        }
        let connected = self.links.contains(conn);
        let link = self.links.remove(conn).unwrap_or_else(|| {
            let port = net.peer_addr(conn).expect("getters work in on_close").port();
            Link::new(Group::of_port(port), 0, 0, 0)
        });
        let ended = Ended {
            group: link.group,
            client_port: link.port,
            connected,
            clean: link.said_bye && link.heard_bye && !link.is_lost,
            written: link.written,
            read: link.read,
        };
        self.report.ended(net, conn, &ended, (reason, dropped_bytes));
    }

    fn on_timer(&mut self, net: &mut Net, timer: TimerId, token: u64) {
        if token == Redial::TOKEN {
            self.dials.iter_mut().any(|dial| dial.on_timer(net, timer) != Redialled::Foreign);
        } else {
            self.tick(net);
        }
    }

    fn on_wake(&mut self, net: &mut Net) {
        if self.inbox.drain(net).next().is_some() {
            self.stop(net);
        }
    }
}
