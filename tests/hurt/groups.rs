//! Who takes part: groups of connections, each with a port of its own, by which the script knows
//! what it does to whom.

use std::time::Duration;

use hotloop::{ConnOptions, Keepalive, Limit, SocketOption};

use crate::stream::FRAMING;

/// Longer than a cut of the network lasts, twice over, and far shorter than a black hole.
pub(crate) const LIMIT: Duration = Duration::from_secs(12);
/// Longer than that: the other side of a stalled connection notices later.
const LATER: Duration = Duration::from_secs(14);
/// Far longer than anything that is done to the network.
const FOR_EVER: Duration = Duration::from_secs(90);

/// What a connection does, and what it has against a peer that is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nothing ends it but its own farewell, at the end of all.
    Steady,
    /// Says farewell by itself, again and again.
    Churn,
    /// Some of its segments are answered with a reset, by the firewall of one side.
    Reset,
    /// Its socket is destroyed on one side.
    Killed,
    /// Falls into a black hole, and has `TCP_USER_TIMEOUT`.
    Deaf,
    /// Likewise, with an idle timeout: asks, and waits for the answer.
    Idle,
    /// Likewise, with a write-stall timeout on the server, which sends all the time.
    Stall,
    /// Likewise, with keepalive: says nothing.
    Silent,
    /// Dials where nobody listens.
    Refused,
    /// Dials where nothing arrives.
    Nowhere,
}

/// A number of connections that share a fate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Group {
    pub(crate) fate: Fate,
    pub(crate) name: &'static str,
    pub(crate) port: u16,
    pub(crate) conns: usize,
    /// Requests that wait for their answer, at most.
    pub(crate) requests_max: usize,
    /// Whether the server sends unasked.
    pub(crate) pushes: bool,
}

const fn group(
    fate: Fate,
    name: &'static str,
    port: u16,
    conns: usize,
    requests_max: usize,
    pushes: bool,
) -> Group {
    Group { fate, name, port, conns, requests_max, pushes }
}

/// Two hundred framed clients, and four that never get through.
pub(crate) const GROUPS: [Group; 10] = [
    group(Fate::Steady, "steady", 7000, 80, 2, true),
    group(Fate::Churn, "churn", 7001, 40, 2, true),
    group(Fate::Reset, "reset", 7002, 24, 1, true),
    group(Fate::Killed, "killed", 7003, 16, 1, true),
    // Asks on and on: `TCP_USER_TIMEOUT` is for those who have sent something.
    group(Fate::Deaf, "deaf", 7004, 12, 1000, true),
    group(Fate::Idle, "idle", 7005, 10, 1, false),
    group(Fate::Stall, "stall", 7006, 8, 0, true),
    group(Fate::Silent, "silent", 7007, 10, 2, false),
    group(Fate::Refused, "refused", 7008, 2, 0, false),
    group(Fate::Nowhere, "nowhere", 7009, 2, 0, false),
];

impl Group {
    /// The group that has this port.
    pub(crate) fn of_port(port: u16) -> &'static Group {
        GROUPS.iter().find(|group| group.port == port).expect("every port is a group's")
    }

    pub(crate) fn is_served(&self) -> bool {
        !matches!(self.fate, Fate::Refused | Fate::Nowhere)
    }

    /// Whether the n-th turn of a silent connection is one at which it asks.
    pub(crate) fn asks(&self, answers: u64) -> bool {
        self.fate != Fate::Silent || answers < 4
    }

    fn options(&self) -> ConnOptions {
        ConnOptions::default()
            .inbound_max_bytes(FRAMING.needs_bytes() + (64 << 10))
            .connect_timeout(FOR_EVER)
            .write_stall_timeout(FOR_EVER)
            .linger_timeout(FOR_EVER)
            .linger_bytes(Limit::Unlimited)
            .socket(SocketOption::SendBufferBytes(32 << 10))
    }

    pub(crate) fn server_options(&self) -> ConnOptions {
        let options = self.options();
        match self.fate {
            Fate::Stall => options.write_stall_timeout(LIMIT),
            _ => self.common_limits(options),
        }
    }

    pub(crate) fn client_options(&self) -> ConnOptions {
        let options = self.options();
        match self.fate {
            Fate::Stall => options.idle_timeout(LATER).connect_timeout(CONNECT),
            Fate::Deaf | Fate::Idle | Fate::Silent | Fate::Nowhere => {
                self.common_limits(options).connect_timeout(CONNECT)
            }
            _ => self.common_limits(options),
        }
    }

    fn common_limits(&self, options: ConnOptions) -> ConnOptions {
        match self.fate {
            Fate::Deaf => options.socket(SocketOption::UserTimeout(LIMIT)),
            Fate::Idle => options.idle_timeout(LIMIT),
            // Who waits for an answer that a reset has eaten would wait for ever.
            Fate::Silent | Fate::Reset | Fate::Killed => {
                options.socket(SocketOption::Keepalive(Some(KEEPALIVE)))
            }
            _ => options,
        }
    }
}

/// How long those wait for a connection that may fall into a black hole.
const CONNECT: Duration = Duration::from_secs(3);

/// Dead after ten silent seconds: one question in two or three is lost at the worst, not eight.
const KEEPALIVE: Keepalive =
    Keepalive { idle: Duration::from_secs(2), interval: Duration::from_secs(1), probes: 8 };
