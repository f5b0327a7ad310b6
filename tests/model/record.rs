//! What the model knows of one connection, and of what happens outside.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use hotloop::{CloseReason, ConnId, Net, Time};

use crate::pressure::Pressure;
use crate::program::{Adoption, Dialled, Limits};

/// What the model knows of a connection.
#[derive(Debug, Clone)]
pub struct Conn {
    /// Names the streams of both directions; 0: not known yet.
    pub key: u64,
    /// Both ends are the loop's own.
    pub is_own: bool,
    pub dialled: Option<Dialled>,
    pub limits: Limits,
    pub begun: Time,
    pub is_open: bool,
    pub end: Option<(CloseReason, u64)>,
    pub consumed: u64,
    /// Shown last and not consumed.
    pub left: usize,
    pub accepted: u64,
    pub is_paused: bool,
    /// Kept bytes are due without new ones.
    pub resumed: bool,
    pub is_shut: bool,
    pub is_closed: bool,
    /// When it was closed, or ended otherwise.
    pub closed_at: Time,
    /// It was open when it was aborted.
    pub is_aborted: bool,
    /// It was closing when it was aborted.
    pub overridden: bool,
    pub read_closed: bool,
    pub pressure: Pressure,
    pub passed_outbound: bool,
    pub passed_inbound: bool,
    pub idle_ms: Option<u64>,
    pub has_panicked: bool,
    /// Its queue had been stuck for too long when it ended, whatever the reason says.
    pub was_stuck: bool,
    /// Since when it has to end: closed here, or `Closed` was answered though nobody had.
    pub ends_since: Option<Time>,
    pub release: Release,
    /// Bytes of the streams that were consumed and sent under an earlier id.
    pub consumed_before: u64,
    pub sent_before: u64,
    /// Bytes it brought along have to be shown without new ones.
    pub show_due: bool,
    seen: Seen,
}

/// How far the release of a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    No,
    /// `on_release` is due.
    Asked(Adoption),
    /// It came, with so many queued bytes; whether the connection goes on under another id.
    Told {
        queued: u64,
        goes_on: bool,
    },
}

/// What was seen of a connection when turns began, for deadlines that must not come early.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    at: Time,
    received_bytes: u64,
    sent_bytes: u64,
    /// No byte has come or gone since then, or a little later.
    still_since: Time,
    /// The queue has made no progress since then, or a little later.
    stuck_since: Time,
    /// How many turns in a row have ended with a deadline passed.
    late_turns: u32,
    /// How many turns in a row have ended without what is due of a hand-over.
    handing_turns: u32,
}

impl Conn {
    pub fn new(key: u64, dialled: Option<Dialled>, begun: Time, limits: Limits) -> Conn {
        let still = Seen { at: begun, still_since: begun, stuck_since: begun, ..Seen::default() };
        Conn {
            key,
            is_own: dialled.is_some_and(Dialled::is_own),
            dialled,
            limits,
            begun,
            is_open: false,
            end: None,
            consumed: 0,
            left: 0,
            accepted: 0,
            is_paused: false,
            resumed: false,
            is_shut: false,
            is_closed: false,
            closed_at: Time::NEVER,
            is_aborted: false,
            overridden: false,
            read_closed: false,
            pressure: Pressure::default(),
            passed_outbound: false,
            passed_inbound: false,
            idle_ms: limits.idle_ms,
            has_panicked: false,
            was_stuck: false,
            ends_since: None,
            release: Release::No,
            consumed_before: 0,
            sent_before: 0,
            show_due: false,
            seen: still,
        }
    }

    /// Whether the handler may still be told anything but the end.
    pub fn is_live(&self) -> bool {
        self.end.is_none()
            && !self.is_closed
            && !self.is_aborted
            && !self.has_panicked
            && self.release == Release::No
    }

    /// Whether its id has ended and the connection has not.
    pub fn goes_on(&self) -> bool {
        matches!(self.release, Release::Told { goes_on: true, .. })
    }

    /// How many bytes were accepted under this id, those that it brought along included.
    pub fn own_accepted(&self) -> u64 {
        self.accepted - self.sent_before
    }

    pub fn takes_writes(&self) -> bool {
        self.is_live() && !self.is_shut
    }

    /// Of a connection to ourselves both ends are here, and what one reads the other has written.
    fn is_mirrored(&self) -> bool {
        self.is_own && self.dialled.is_some()
    }

    pub fn stream_in(&self) -> u64 {
        self.key * 2 + u64::from(self.is_mirrored())
    }

    pub fn stream_out(&self) -> u64 {
        self.key * 2 + u64::from(!self.is_mirrored())
    }

    /// Looks at it when a turn begins.
    pub fn turn_starts(&mut self, net: &Net, id: ConnId) {
        let Some(stats) = net.conn_stats(id) else { return };
        if !net.is_open(id) && net.queued_bytes(id) == 0 {
            // It lingers, or its queue was dropped.
            return;
        }
        let last = self.seen.at;
        let has_sent = stats.sent_bytes != self.seen.sent_bytes;
        if has_sent || stats.received_bytes != self.seen.received_bytes {
            self.seen.still_since = last;
        }
        if has_sent || net.queued_bytes(id) == 0 {
            self.seen.stuck_since = last;
        }
        (self.seen.received_bytes, self.seen.sent_bytes) = (stats.received_bytes, stats.sent_bytes);
        self.seen.at = net.now();
    }

    /// It has been opened: the deadlines of an open connection count from here.
    pub fn opened(&mut self) {
        self.is_open = true;
        (self.seen.still_since, self.seen.stuck_since) = (self.seen.at, self.seen.at);
    }

    /// Moves the deadline, which is looked at anew in the next turn.
    pub fn set_idle(&mut self, ms: Option<u64>) {
        self.idle_ms = ms;
        self.seen.late_turns = 0;
    }

    pub fn has_been_idle(&self, net: &Net, id: ConnId) -> bool {
        let told = net.conn_stats(id).map_or(Duration::ZERO, |stats| stats.idle);
        let seen = net.now().since(self.seen.still_since);
        self.is_open && self.idle_ms.is_some_and(|ms| told.min(seen) >= Duration::from_millis(ms))
    }

    pub fn has_been_stuck(&self, net: &Net) -> bool {
        let seen = net.now().since(self.seen.stuck_since);
        self.is_open && seen >= Duration::from_millis(self.limits.stall_ms)
    }

    /// Its release was asked for, and is due from here on.
    pub fn is_asked_for(&mut self, adoption: Adoption) {
        self.release = Release::Asked(adoption);
        self.seen.handing_turns = 0;
    }

    /// The handler pauses it, or resumes it.
    pub fn pauses(&mut self, pauses: bool) {
        self.is_paused = pauses;
        self.resumed |= !pauses;
        if pauses {
            // Its service in this turn may come between the pause and a resume.
            self.seen.handing_turns = 0;
        }
    }

    /// A turn ends: returns whether its release, or the showing of what it brought along, was due
    /// in the one before. `is_due`: nothing is in flight that a release would wait for; `is_open`:
    /// the loop has not closed it for a limit.
    pub fn hand_over_is_late(&mut self, is_due: bool, is_open: bool) -> bool {
        let waits = match self.release {
            Release::No => self.show_due && is_open && !self.is_paused,
            Release::Asked(_) => is_due && !self.overridden && !self.has_panicked,
            Release::Told { .. } => false,
        };
        let waits = waits && self.end.is_none();
        self.seen.handing_turns = if waits { self.seen.handing_turns + 1 } else { 0 };
        self.seen.handing_turns > 1
    }

    /// A turn ends: returns whether something that is due has not come since the one before.
    pub fn turn_ends(&mut self, net: &Net, id: ConnId) -> Option<&'static str> {
        if !net.is_open(id) {
            return None;
        }
        if self.is_open && self.pressure.turn_ends(net.queued_cost(id), self.limits.low) {
            return Some("C9: on_writable is due");
        }
        let connect = Duration::from_millis(self.limits.connect_ms);
        let is_late = if self.is_open {
            self.has_been_idle(net, id)
        } else {
            net.now().since(self.begun) >= connect
        };
        self.seen.late_turns = if is_late { self.seen.late_turns + 1 } else { 0 };
        (self.seen.late_turns > 1).then_some("C15: its deadline has passed")
    }
}

/// The key of a connection: the address of the end that dialled, or of the server.
pub fn key_of(addr: SocketAddr) -> u64 {
    let SocketAddr::V4(addr) = addr else { panic!("only IPv4 is used") };
    (u64::from(u32::from(*addr.ip())) << 16) | u64::from(addr.port())
}

/// What happened outside, as far as the model has to know.
#[derive(Debug, Default)]
pub struct Outside {
    /// How many bytes each peer has sent.
    pub sent: BTreeMap<u64, u64>,
    /// Peers that have reset.
    pub resets: BTreeSet<u64>,
    /// Those of them that did so while a way was cut: nobody may ever have been told.
    pub silent: BTreeSet<u64>,
    pub finished: BTreeSet<u64>,
    /// Those that did so before the end of the program.
    pub finished_early: BTreeSet<u64>,
    /// Peers that have sent an urgent byte.
    pub urgent: BTreeSet<u64>,
}

/// What only a fault explains; in the end the faults that occurred are counted.
#[derive(Debug, Default, Clone, Copy)]
pub struct Blamed {
    /// Connections that broke though nobody broke them.
    pub broken: u64,
    /// Connects that failed though somebody was there.
    pub refused: u64,
}
