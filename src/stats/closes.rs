//! Closed connections, by reason.

#![allow(clippy::indexing_slicing, reason = "one place for each reason")]

use std::fmt;
use std::ops::Index;

use crate::error::{CloseReason, LimitKind, TimeoutKind};

/// The names of the reasons, in the order of `position`.
const NAMES: [&str; KINDS] = [
    "peer_closed",
    "reset",
    "local_close",
    "local_abort",
    "timeout_connect",
    "timeout_idle",
    "timeout_write_stall",
    "timeout_linger",
    "timeout_kernel",
    "limit_outbound",
    "limit_inbound",
    "limit_buffers",
    "limit_linger",
    "connect_failed",
    "io",
    "handler_panicked",
    "released",
    "shutdown",
];
const KINDS: usize = 18;

/// How many connections ended for which reason.
///
/// There is one count for each [`CloseReason`], for each [`TimeoutKind`] and for each
/// [`LimitKind`]; the error numbers within [`CloseReason::ConnectFailed`] and [`CloseReason::Io`]
/// are not told apart. Indexing with a reason gives its count; all counts together are
/// [`LoopStats::closed`](crate::LoopStats::closed).
///
/// Its [`Display`](fmt::Display) lists the reasons that have occurred, for people.
///
/// # Examples
///
/// ```
/// use hotloop::{CloseReason, Config, Loop, TimeoutKind};
///
/// let mut event_loop = Loop::new(Config::default())?;
/// let closes = event_loop.net().stats().closes;
/// assert_eq!(closes[CloseReason::Timeout(TimeoutKind::Idle)], 0);
/// for (name, count) in closes.iter() {
///     println!("closed_total{{reason=\"{name}\"}} {count}");
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClosesByReason([u64; KINDS]);

impl ClosesByReason {
    /// Returns how many connections ended, whatever for.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Returns every reason's name and count, those that are 0 included, in an order that does not
    /// change within a release. The names are for labels of metrics: `peer_closed`, `timeout_idle`,
    /// `limit_outbound`. They are stable; more may be added.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        NAMES.iter().copied().zip(self.0.iter().copied())
    }

    /// Returns the name that [`iter`](Self::iter) gives a reason: `timeout_idle` for
    /// `CloseReason::Timeout(TimeoutKind::Idle)`.
    pub fn name(reason: CloseReason) -> &'static str {
        NAMES[position(reason)]
    }

    /// Counts one.
    pub(crate) fn add(&mut self, reason: CloseReason) {
        self.0[position(reason)] += 1;
    }

    /// Returns those that came after `earlier`.
    pub(super) fn since(&self, earlier: &ClosesByReason) -> ClosesByReason {
        let mut counts = self.0;
        for (count, earlier) in counts.iter_mut().zip(earlier.0) {
            *count = count.saturating_sub(earlier);
        }
        ClosesByReason(counts)
    }
}

impl Index<CloseReason> for ClosesByReason {
    type Output = u64;

    fn index(&self, reason: CloseReason) -> &u64 {
        &self.0[position(reason)]
    }
}

impl fmt::Display for ClosesByReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (name, count) in self.iter().filter(|(_, count)| *count > 0) {
            write!(f, "{separator}{count} {name}")?;
            separator = ", ";
        }
        if separator.is_empty() { f.write_str("none") } else { Ok(()) }
    }
}

fn position(reason: CloseReason) -> usize {
    match reason {
        CloseReason::PeerClosed => 0,
        CloseReason::Reset => 1,
        CloseReason::LocalClose => 2,
        CloseReason::LocalAbort => 3,
        CloseReason::Timeout(kind) => 4 + timeout_position(kind),
        CloseReason::Limit(kind) => 9 + limit_position(kind),
        CloseReason::ConnectFailed(_) => 13,
        CloseReason::Io(_) => 14,
        CloseReason::HandlerPanicked => 15,
        CloseReason::Released => 16,
        CloseReason::Shutdown => 17,
    }
}

fn timeout_position(kind: TimeoutKind) -> usize {
    match kind {
        TimeoutKind::Connect => 0,
        TimeoutKind::Idle => 1,
        TimeoutKind::WriteStall => 2,
        TimeoutKind::Linger => 3,
        TimeoutKind::Kernel => 4,
    }
}

fn limit_position(kind: LimitKind) -> usize {
    match kind {
        LimitKind::Outbound => 0,
        LimitKind::Inbound => 1,
        LimitKind::Buffers => 2,
        LimitKind::Linger => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Errno;

    const REASONS: [CloseReason; KINDS] = [
        CloseReason::PeerClosed,
        CloseReason::Reset,
        CloseReason::LocalClose,
        CloseReason::LocalAbort,
        CloseReason::Timeout(TimeoutKind::Connect),
        CloseReason::Timeout(TimeoutKind::Idle),
        CloseReason::Timeout(TimeoutKind::WriteStall),
        CloseReason::Timeout(TimeoutKind::Linger),
        CloseReason::Timeout(TimeoutKind::Kernel),
        CloseReason::Limit(LimitKind::Outbound),
        CloseReason::Limit(LimitKind::Inbound),
        CloseReason::Limit(LimitKind::Buffers),
        CloseReason::Limit(LimitKind::Linger),
        CloseReason::ConnectFailed(Errno(111)),
        CloseReason::Io(Errno(5)),
        CloseReason::HandlerPanicked,
        CloseReason::Released,
        CloseReason::Shutdown,
    ];

    /// `Timeout(WriteStall)` as `timeout_write_stall`, without the number of an error.
    fn snake_case(reason: CloseReason) -> String {
        let debug = format!("{reason:?}");
        let mut name = String::new();
        for c in debug.split("(Errno").next().unwrap_or_default().chars() {
            if c.is_uppercase() && !name.is_empty() {
                name.push('_');
            }
            name.extend(c.to_lowercase().filter(|c| c.is_alphanumeric()));
        }
        name
    }

    #[test]
    fn every_reason_has_a_count_and_a_name_of_its_own() {
        let mut closes = ClosesByReason::default();
        for (index, reason) in REASONS.into_iter().enumerate() {
            assert_eq!(closes[reason], 0, "{reason:?}");
            closes.add(reason);
            assert_eq!(closes[reason], 1, "{reason:?}");
            assert_eq!(closes.total(), index as u64 + 1);
            let (name, count) = closes.iter().nth(index).expect("as many as there are reasons");
            assert_eq!((name, count), (&*snake_case(reason), 1));
            assert_eq!(ClosesByReason::name(reason), name);
        }
    }

    #[test]
    fn error_numbers_are_not_told_apart() {
        let mut closes = ClosesByReason::default();
        closes.add(CloseReason::Io(Errno(5)));
        assert_eq!(closes[CloseReason::Io(Errno(6))], 1);
        assert_eq!(closes[CloseReason::ConnectFailed(Errno(5))], 0);
    }

    #[test]
    fn people_are_shown_what_has_occurred() {
        let mut closes = ClosesByReason::default();
        assert_eq!(closes.to_string(), "none");
        let earlier = closes;
        closes.add(CloseReason::Shutdown);
        closes.add(CloseReason::Limit(LimitKind::Buffers));
        closes.add(CloseReason::Shutdown);
        assert_eq!(closes.to_string(), "1 limit_buffers, 2 shutdown");
        assert_eq!(closes.since(&earlier), closes);
        assert_eq!(earlier.since(&closes), earlier, "never below 0");
    }
}
