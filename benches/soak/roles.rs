//! Who is at the other end, and for what reasons such a connection may end.

use hotloop::{CloseReason, ClosesByReason};

/// What a client is there for. Whoever connects tells it in the first frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// Stays: echoes, relays, broadcasts of a group.
    Steady,
    /// A few messages; then says that it goes, and closes.
    Closes,
    /// A few messages; then says that it goes, and waits for the server to close.
    Asks,
    /// Says that it goes and sends its FIN while answers are still to come.
    HalfCloses,
    /// Resets amid everything.
    Aborts,
    /// Reads now and then only, a stream that is far larger than all buffers.
    Slow,
    /// Sends some megabytes as fast as they are taken.
    Burst,
    /// Asks for more than the hard limit and never reads.
    Flooded,
    /// Asks for less than the hard limit, more than sockets hold, and never reads.
    Stalled,
    /// Says who it is, and no more.
    Idle,
    /// Sends what is no frame.
    Garbage,
    /// Begins a frame that is longer than the server keeps input.
    TooLong,
    /// Connects and is gone.
    Vanishes,
    /// Connects to where nobody listens.
    Dead,
    /// The server's own connections to the one behind it: for relays, as seen from either side.
    Upstream,
    /// The same for the one connection that is dialled again and again.
    Feed,
    /// Has not said.
    Unknown,
}

use Role::{
    Aborts, Asks, Burst, Closes, Dead, Feed, Flooded, Garbage, HalfCloses, Idle, Slow, Stalled,
    Steady, TooLong, Unknown, Upstream, Vanishes,
};

/// Each role in the order of its code, with the reasons for which its connections may end where
/// they were accepted, and where they were made.
const TABLE: [(Role, &str, &[&str], &[&str]); 17] = [
    (Steady, "steady", &["peer_closed", "released"], &[]),
    (Closes, "closes", &["peer_closed", "released"], &["local_close"]),
    (Asks, "asks", &["peer_closed", "local_close", "released"], &["peer_closed"]),
    (HalfCloses, "half-closes", &["peer_closed", "released"], &["peer_closed"]),
    (Aborts, "aborts", &["reset", "released"], &["local_abort"]),
    (Slow, "slow", &["peer_closed", "released"], &["local_close"]),
    (Burst, "burst", &["peer_closed", "local_close", "released"], &["peer_closed"]),
    (Flooded, "flooded", &["limit_outbound"], &["reset"]),
    (Stalled, "stalled", &["timeout_write_stall"], &["reset"]),
    (Idle, "idle", &["timeout_idle"], &["peer_closed"]),
    (
        Garbage,
        "garbage",
        &["local_close", "local_abort", "limit_linger", "timeout_idle", "limit_inbound"],
        &["peer_closed", "reset"],
    ),
    (TooLong, "too long", &["limit_inbound"], &["peer_closed", "reset"]),
    (Vanishes, "vanishes", &["reset", "peer_closed"], &["local_abort"]),
    (Dead, "dead", &[], &["connect_failed"]),
    (
        Upstream,
        "upstream",
        &["peer_closed", "local_close", "local_abort"],
        // The pool aborts one that lingers for a relay that waits.
        &["peer_closed", "local_close", "local_abort", "reset"],
    ),
    (Feed, "feed", &["local_close", "local_abort"], &["peer_closed", "reset", "connect_failed"]),
    (Unknown, "unknown", &["peer_closed", "reset", "released"], &[]),
];

/// What may end any connection while everything is being drained.
const DRAINING: &[&str] =
    &["shutdown", "peer_closed", "reset", "local_close", "local_abort", "limit_linger"];
/// How faults may end any connection that could not end so otherwise.
const INJECTED: &[&str] = &["reset", "io", "connect_failed", "timeout_kernel"];

/// Which end of the connection it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    Accepted,
    Made,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Expected,
    /// Explained by the faults that were switched on, and by nothing else.
    Injected,
    Unexpected,
}

impl Role {
    pub(crate) fn code(self) -> u8 {
        self as u8
    }

    pub(crate) fn from_code(code: u8) -> Option<Role> {
        TABLE.get(usize::from(code)).map(|row| row.0)
    }

    pub(crate) fn name(self) -> &'static str {
        TABLE[usize::from(self.code())].1
    }

    /// Returns whether what it sends may be wrong.
    pub(crate) fn may_err(self) -> bool {
        matches!(self, Garbage | TooLong | Unknown)
    }

    /// Returns whether it says that it goes, before it does.
    pub(crate) fn says_bye(self) -> bool {
        matches!(self, Closes | Asks | HalfCloses | Slow | Burst)
    }

    /// Judges why a connection has ended.
    pub(crate) fn judge(self, end: End, reason: CloseReason, now: Circumstances) -> Verdict {
        let (_, _, accepted, made) = TABLE[usize::from(self.code())];
        let usual = if end == End::Accepted { accepted } else { made };
        let name = ClosesByReason::name(reason);
        if usual.contains(&name) || (now.draining && DRAINING.contains(&name)) {
            Verdict::Expected
        } else if now.chaos && INJECTED.contains(&name) {
            Verdict::Injected
        } else {
            Verdict::Unexpected
        }
    }
}

/// What else may end connections at this moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Circumstances {
    pub(crate) draining: bool,
    pub(crate) chaos: bool,
}
