//! The server: answers requests, sends unasked, and checks what arrives.

use hotloop::{
    CloseReason, ConnId, ConnMap, Handler, Inbox, ListenOptions, ListenerId, Net, Sent, TimerId,
};

use crate::groups::{Fate, GROUPS, Group};
use crate::random::Random;
use crate::report::{Ended, Report};
use crate::side::{PATIENCE_TICKS, Side, Stop};
use crate::stream::{FRAMING, Kind, Stream, body};

pub(crate) struct Server {
    addr: String,
    inbox: Inbox<Stop>,
    listeners: Vec<(ListenerId, &'static Group)>,
    peers: ConnMap<Peer>,
    random: Random,
    ticks: u64,
    stopped_at: Option<u64>,
    report: Report,
}

struct Peer {
    group: &'static Group,
    port: u16,
    written: Stream,
    read: Stream,
    is_pressured: bool,
    /// Something was not taken, because the connection is over.
    is_lost: bool,
    said_bye: bool,
}

impl Server {
    pub(crate) fn new(addr: String, inbox: Inbox<Stop>) -> Server {
        Server {
            addr,
            inbox,
            listeners: Vec::new(),
            peers: ConnMap::new(),
            random: Random::new(1),
            ticks: 0,
            stopped_at: None,
            report: Report::new("server"),
        }
    }

    /// Serves a frame. Returns what is wrong with it, if something is.
    fn serve(&mut self, net: &mut Net, conn: ConnId, frame: &[u8]) -> Result<(), String> {
        let Some(peer) = self.peers.get_mut(conn) else { return Err("unknown".to_owned()) };
        let (kind, body) = peer.read.read(frame).map_err(|fault| fault.to_string())?;
        match kind {
            _ if peer.said_bye => Err("a frame behind the farewell".to_owned()),
            Kind::Hello => {
                peer.written.tag = peer.read.tag;
                Ok(())
            }
            Kind::Request => peer.say(net, conn, Kind::Answer, body),
            Kind::Bye => {
                peer.said_bye = true;
                peer.say(net, conn, Kind::Bye, b"")?;
                // Every other one is closed without waiting for the peer's FIN.
                if peer.group.fate == Fate::Churn && peer.read.tag % 2 == 0 {
                    net.close(conn);
                }
                Ok(())
            }
            Kind::Answer | Kind::Push => Err(format!("{kind:?} from a client")),
        }
    }

    fn tick(&mut self, net: &mut Net) {
        self.ticks += 1;
        self.report.totals(&net.stats());
        let mut faults = Vec::new();
        for (conn, peer) in self.peers.iter_mut() {
            if (self.ticks + peer.read.tag) % 2 == 0 {
                faults.extend(peer.push(net, conn, &mut self.random).err());
            }
        }
        for fault in faults {
            self.report.fault("all", &fault);
        }
        if let Some(stopped_at) = self.stopped_at {
            if net.stats().connections == 0 || self.ticks > stopped_at + PATIENCE_TICKS {
                net.stop();
            }
        }
    }
}

impl Peer {
    /// Writes a frame; under pressure nothing more is read until it is over.
    fn say(&mut self, net: &mut Net, conn: ConnId, kind: Kind, body: &[u8]) -> Result<(), String> {
        match self.written.write(net, conn, kind, body) {
            Sent::Queued => {}
            Sent::Pressured => {
                self.is_pressured = true;
                net.pause_reading(conn);
            }
            // What had arrived before a reset is shown before it: `on_close` will tell.
            Sent::Closed => self.is_lost = true,
            Sent::Refused => return Err(format!("{kind:?} was refused")),
        }
        Ok(())
    }

    /// Sends unasked what its group wants: as much as there is room for, where it has to stall.
    fn push(&mut self, net: &mut Net, conn: ConnId, random: &mut Random) -> Result<(), String> {
        let is_greeted = self.read.frames > 0 && !self.said_bye && net.is_open(conn);
        let most = match self.group.fate {
            _ if !self.group.pushes || !is_greeted => 0,
            Fate::Stall => 8,
            _ => 1,
        };
        for _ in 0..most {
            if self.is_pressured || self.is_lost {
                break;
            }
            self.say(net, conn, Kind::Push, &body(random))?;
        }
        Ok(())
    }
}

impl Side for Server {
    fn begin(&mut self, net: &mut Net) {
        for group in GROUPS.iter().filter(|group| group.is_served()) {
            let options = ListenOptions::default().conn(group.server_options());
            let addr = format!("{}:{}", self.addr, group.port);
            let listener = net.listen_with(&addr, options).expect("a free port");
            self.listeners.push((listener, group));
        }
    }

    fn report(&mut self) -> &mut Report {
        &mut self.report
    }
}

impl Handler for Server {
    fn on_accept(&mut self, net: &mut Net, conn: ConnId, listener: ListenerId) {
        let found = self.listeners.iter().find(|(id, _)| *id == listener);
        let (_, group) = found.expect("one of ours");
        let peer = Peer {
            group,
            port: net.peer_addr(conn).map_or(0, |addr| addr.port()),
            written: Stream::default(),
            read: Stream::default(),
            is_pressured: false,
            is_lost: false,
            said_bye: false,
        };
        self.peers.insert(conn, peer);
    }

    fn on_data(&mut self, net: &mut Net, conn: ConnId, data: &[u8]) -> usize {
        let mut frames = FRAMING.frames(data);
        for frame in &mut frames {
            let served = match frame {
                Ok(frame) => self.serve(net, conn, frame),
                Err(error) => Err(error.to_string()),
            };
            if let Err(fault) = served {
                self.report.fault("all", &format!("{conn}: {fault}"));
                net.abort(conn);
            }
            if !net.is_reading(conn) {
                break;
            }
        }
        frames.consumed()
    }

    fn on_writable(&mut self, net: &mut Net, conn: ConnId) {
        if let Some(peer) = self.peers.get_mut(conn) {
            peer.is_pressured = false;
            net.resume_reading(conn);
        }
    }

    fn on_read_closed(&mut self, net: &mut Net, conn: ConnId, rest: &[u8]) {
        // A client that gives up a connect which is done at that moment has not said a word.
        let may_end = |peer: &Peer| peer.said_bye || peer.read.frames == 0;
        if !self.peers.get(conn).is_some_and(may_end) || !rest.is_empty() {
            self.report.fault("all", &format!("{conn}: a FIN, {} bytes before it", rest.len()));
        }
        net.close(conn);
    }

    fn on_close(&mut self, net: &mut Net, conn: ConnId, reason: CloseReason, dropped_bytes: u64) {
        let peer = self.peers.remove(conn).expect("it was accepted");
        let ended = Ended {
            group: peer.group,
            client_port: peer.port,
            connected: true,
            clean: peer.said_bye && !peer.is_lost,
            written: peer.written,
            read: peer.read,
        };
        self.report.ended(net, conn, &ended, (reason, dropped_bytes));
    }

    fn on_timer(&mut self, net: &mut Net, _: TimerId, _: u64) {
        self.tick(net);
    }

    fn on_wake(&mut self, net: &mut Net) {
        if self.inbox.drain(net).next().is_some() {
            self.stopped_at = Some(self.ticks);
            for (listener, _) in self.listeners.drain(..) {
                net.close_listener(listener);
            }
        }
    }
}
