//! The clients: how many there are of which kind, and when they come.

mod client;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hotloop::{
    CloseReason, Config, ConnId, ConnMap, ConnOptions, Handler, Loop, Missed, Net, SocketOption,
    TimerId,
};

use crate::chance::Chance;
use crate::roles::{End, Role};
use crate::server::{Addrs, GROUPS};
use crate::settings::Settings;
use crate::side::{Phase, Shared, Side, publish};
use crate::wire::FRAME_MAX_BYTES;
use client::Client;

/// Those that stay, at the usual load.
const STEADY: usize = 48;
/// How many of each kind come in a hundred seconds, at the usual load.
const COMING: [(Role, usize); 13] = [
    (Role::Closes, 1500),
    (Role::Asks, 1500),
    (Role::HalfCloses, 1000),
    (Role::Aborts, 1000),
    (Role::Slow, 30),
    (Role::Burst, 30),
    (Role::Flooded, 20),
    (Role::Stalled, 30),
    (Role::Idle, 30),
    (Role::Garbage, 200),
    (Role::TooLong, 100),
    (Role::Vanishes, 1000),
    (Role::Dead, 100),
];
/// How many come at once now and then: more than the server lets in.
const STORM: usize = 300;
const STORM_EVERY: Duration = Duration::from_secs(20);
/// There is no use in more at a time.
const CLIENTS_MAX: usize = 600;
/// `tcpmux`: nobody listens there.
const NOWHERE: &str = "127.0.0.1:1";

const BEAT: u64 = 0;
const SECOND: u64 = 1;
const WAVE: u64 = 2;

/// What all clients share.
struct Common {
    shared: Arc<Shared>,
    side: Side,
    chance: Chance,
}

/// A loop of clients that does not run yet.
pub(crate) struct Crowd {
    event_loop: Loop,
    clients: Clients,
}

impl Crowd {
    pub(crate) fn new(
        shared: &Arc<Shared>,
        addrs: Addrs,
        settings: &Settings,
    ) -> io::Result<Crowd> {
        let common = Common {
            shared: Arc::clone(shared),
            side: Side::new("clients"),
            chance: Chance::new(settings.seed ^ 0x5eed_c11e, FRAME_MAX_BYTES),
        };
        let load = settings.load_percent as usize;
        let clients = Clients {
            common,
            addrs,
            conns: ConnMap::new(),
            next: 1,
            steady: 0,
            steady_max: (STEADY * load / 100).max(1),
            load,
            talkers: Vec::new(),
            turn: 0,
        };
        Ok(Crowd { event_loop: Loop::new(Config::default())?, clients })
    }

    /// Runs until every client has left.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let net = self.event_loop.net();
        let beat = net.start_repeating(Duration::from_millis(10), Missed::Skip, BEAT);
        self.clients.common.side.expect_beat(net, beat);
        net.start_repeating(Duration::from_secs(1), Missed::Skip, SECOND);
        net.start_repeating(STORM_EVERY, Missed::Skip, WAVE);
        self.event_loop.run(&mut self.clients)?;
        self.clients.tell(self.event_loop.net());
        Ok(())
    }
}

struct Clients {
    common: Common,
    addrs: Addrs,
    conns: ConnMap<Client>,
    /// The number of the next one.
    next: u32,
    steady: usize,
    steady_max: usize,
    load: usize,
    /// Those that speak when it is their turn.
    talkers: Vec<ConnId>,
    turn: usize,
}

impl Clients {
    fn tell(&mut self, net: &Net) {
        let side = &mut self.common.side;
        side.note(net);
        side.held = self.conns.len() + self.talkers.len();
        publish(side, &self.common.shared.crowd);
    }

    /// A hundred times a second.
    fn beat(&mut self, net: &mut Net) {
        if self.common.shared.phase() != Phase::Load {
            return self.leave(net);
        }
        while self.steady < self.steady_max {
            self.come(net, Role::Steady);
        }
        for (role, rate) in COMING {
            if self.conns.len() < CLIENTS_MAX && self.common.chance.within(0..10_000) < rate {
                // At a higher load, several at once.
                let whole = self.load / 100;
                let more = usize::from(self.common.chance.within(0..100) < self.load % 100);
                (0..whole + more).for_each(|_| self.come(net, role));
            }
        }
        // One in five speaks at each beat: twenty times a second each.
        let talkers = self.talkers.len();
        for _ in 0..talkers.div_ceil(5) {
            self.turn = (self.turn + 1) % talkers;
            let conn = self.talkers[self.turn];
            if let Some(client) = self.conns.get_mut(conn) {
                client.talk(net, conn, &mut self.common);
            }
        }
    }

    fn storm(&mut self, net: &mut Net) {
        if self.common.shared.phase() == Phase::Load {
            (0..STORM).for_each(|_| self.come(net, Role::Closes));
        }
    }

    /// Everybody says goodbye, and the last one stops the loop.
    fn leave(&mut self, net: &mut Net) {
        if self.conns.is_empty() {
            return net.stop();
        }
        let conns: Vec<ConnId> = self.conns.iter().map(|(conn, _)| conn).collect();
        conns.into_iter().for_each(|conn| net.close(conn));
    }

    fn come(&mut self, net: &mut Net, role: Role) {
        let (addr, options) = self.way(role);
        let conn = match net.connect_with(addr, options) {
            Ok(conn) => conn,
            Err(_) if self.common.shared.chaos => return,
            Err(error) => return self.common.side.fault("connect", &error.to_string()),
        };
        let group = self.common.chance.within(0..GROUPS);
        self.conns.insert(conn, Client::new(role, self.next, group));
        // The server's own connections have the upper half.
        self.next = (self.next + 1) & (u32::MAX >> 1);
        self.steady += usize::from(role == Role::Steady);
    }

    /// Returns where such a one knocks, and how much it lets arrive.
    fn way(&mut self, role: Role) -> (SocketAddr, ConnOptions) {
        let options = ConnOptions::default().linger_timeout(Duration::from_secs(30));
        match role {
            Role::Dead => (NOWHERE.parse().expect("it is an address"), options),
            Role::Stalled => {
                (self.addrs.strict, options.socket(SocketOption::RecvBufferBytes(4 << 10)))
            }
            Role::Idle | Role::Garbage | Role::TooLong => (self.addrs.strict, options),
            Role::Slow => (self.addrs.patient, options),
            Role::Steady if self.common.chance.per_mille(500) => (self.addrs.patient, options),
            _ => (self.addrs.main, options),
        }
    }
}

impl Handler for Clients {
    fn on_connect(&mut self, net: &mut Net, conn: ConnId) {
        self.common.side.opened(net, conn);
        let Some(client) = self.conns.get_mut(conn) else {
            return self.common.side.fault("unknown", &format!("{conn} is nobody's"));
        };
        client.begin(net, conn, &mut self.common);
        if matches!(client.role(), Role::Steady | Role::Slow) {
            self.talkers.push(conn);
        }
    }

    fn on_data(&mut self, net: &mut Net, conn: ConnId, data: &[u8]) -> usize {
        let Some(client) = self.conns.get_mut(conn) else { return data.len() };
        client.on_data(net, conn, data, &mut self.common)
    }

    fn on_writable(&mut self, net: &mut Net, conn: ConnId) {
        if let Some(client) = self.conns.get_mut(conn) {
            client.on_writable(net, conn, &mut self.common);
        }
    }

    fn on_read_closed(&mut self, net: &mut Net, conn: ConnId, rest: &[u8]) {
        if let Some(client) = self.conns.get_mut(conn) {
            client.on_read_closed(net, conn, rest, &mut self.common);
        }
    }

    fn on_close(&mut self, _: &mut Net, conn: ConnId, reason: CloseReason, _: u64) {
        let now = self.common.shared.circumstances();
        let Some(client) = self.conns.remove(conn) else {
            return self.common.side.fault("unknown", &format!("{conn} has ended: {reason}"));
        };
        self.talkers.retain(|talker| *talker != conn);
        self.steady -= usize::from(client.role() == Role::Steady);
        self.common.side.ended(conn, (client.role(), End::Made), reason, now);
    }

    fn on_timer(&mut self, net: &mut Net, timer: TimerId, token: u64) {
        match token {
            BEAT => {
                self.common.side.beat(net, timer);
                self.beat(net);
            }
            SECOND => self.tell(net),
            _ => self.storm(net),
        }
    }
}
