//! What is asserted about connections.

use crate::backend::Detached;
use crate::checked::turns::Turns;
use crate::conn::Flags;
use crate::error::{CloseReason, LimitKind, TimeoutKind};
use crate::id::ConnId;
use crate::net::Net;
use crate::options::{ConnOptions, SlowConsumer};
use crate::stats::ConnStats;

/// What was seen of each connection, by slot. The last owner of a slot is remembered, so that the
/// next one can be compared with it.
#[derive(Debug, Default)]
pub(super) struct Conns {
    slots: Vec<Option<SeenConn>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    /// It was there when the handler was given the loop: how far it was is not known.
    Joined,
    /// It was adopted: nothing has told of it.
    Adopted,
    /// Only its `on_close` was seen.
    NeverOpen,
    Open,
}

#[derive(Debug)]
struct SeenConn {
    id: ConnId,
    life: Life,
    /// A callback about it is running, or has panicked if another one comes.
    running: bool,
    read_closed: bool,
    released: bool,
    closed: bool,
    /// `on_writable` was called in `turn`.
    writable: bool,
    /// The counts of the last callback.
    received_bytes: u64,
    receives: u32,
    accepted_bytes: u64,
    sent_bytes: u64,
    consumed_bytes: u64,
    left: Ends,
    /// The turn of the last callback, and the counts of received bytes from before it.
    turn: u64,
    turn_received_bytes: u64,
    turn_receives: u32,
    at_writable: AtWritable,
}

/// Counts at the last `on_writable`, without which the next one has no cause.
#[derive(Debug, Clone, Copy, Default)]
struct AtWritable {
    accepted_bytes: u64,
    sent_bytes: u64,
    refused_writes: u64,
}

impl Conns {
    /// Takes the connections as they are, when a handler is given a loop.
    pub(super) fn join(&mut self, net: &Net) {
        for id in net.conns() {
            let stats = net.conn_stats(id).unwrap_or_default();
            let mut seen = SeenConn::new(id, Life::Joined);
            seen.consumed_bytes = stats.received_bytes - stats.kept_bytes as u64;
            seen.note(&stats);
            *self.slot(id) = Some(seen);
        }
    }

    pub(super) fn accept(&mut self, turns: &Turns, net: &Net, conn: ConnId) {
        let seen = self.first(turns, conn, "on_accept", Life::Open);
        seen.at_writable.refused_writes = turns.refused_writes;
        seen.begin(turns, net, "on_accept");
        let received = seen.received_bytes;
        assert!(received == 0, "C1: {conn}: {received} bytes received before on_accept");
    }

    pub(super) fn connect(&mut self, turns: &Turns, net: &Net, conn: ConnId) {
        let joined = self.find(conn).is_some_and(|seen| seen.life == Life::Joined);
        let seen = if joined {
            self.known(turns, net, conn, "on_connect")
        } else {
            self.first(turns, conn, "on_connect", Life::Open)
        };
        seen.life = Life::Open;
        seen.begin(turns, net, "on_connect");
        let received = seen.received_bytes;
        assert!(received == 0, "C1: {conn}: {received} bytes received before on_connect");
    }

    #[inline]
    pub(super) fn data(&mut self, turns: &Turns, net: &Net, conn: ConnId, data: &[u8]) {
        let seen = self.known(turns, net, conn, "on_data");
        seen.begin(turns, net, "on_data");
        seen.check_reading(net, "on_data");
        assert!(!data.is_empty(), "C7: {conn}: on_data without bytes");
        seen.check_shown("on_data", data);
        seen.check_budget(net);
    }

    /// `on_data` has returned: the handler has consumed this many bytes and left the rest.
    #[inline]
    pub(super) fn consumed(&mut self, conn: ConnId, bytes: usize, rest: &[u8]) {
        if let Some(seen) = self.find(conn) {
            seen.running = false;
            seen.consumed_bytes += bytes as u64;
            seen.left = Ends::of(rest);
        }
    }

    pub(super) fn writable(&mut self, turns: &Turns, net: &Net, conn: ConnId) {
        let seen = self.known(turns, net, conn, "on_writable");
        seen.begin(turns, net, "on_writable");
        let again = std::mem::replace(&mut seen.writable, true);
        assert!(!again, "C9: {conn}: a second on_writable in turn {}", turns.number);
        seen.check_pressure(net);
    }

    pub(super) fn read_closed(&mut self, turns: &Turns, net: &Net, conn: ConnId, rest: &[u8]) {
        let seen = self.known(turns, net, conn, "on_read_closed");
        seen.begin(turns, net, "on_read_closed");
        seen.check_reading(net, "on_read_closed");
        seen.check_shown("on_read_closed", rest);
        seen.check_budget(net);
        seen.read_closed = true;
    }

    pub(super) fn release(&mut self, turns: &Turns, net: &Net, conn: ConnId, detached: &Detached) {
        let seen = self.known(turns, net, conn, "on_release");
        let again = std::mem::replace(&mut seen.released, true);
        assert!(!again, "C1: {conn}: a second on_release");
        seen.running = true;
        seen.check_detached(net, detached);
    }

    pub(super) fn close(
        &mut self,
        turns: &Turns,
        net: &Net,
        conn: ConnId,
        reason: CloseReason,
        dropped_bytes: u64,
    ) {
        let seen = match self.find(conn) {
            Some(_) => self.known(turns, net, conn, "on_close"),
            None if is_adopted(net, conn) => self.known(turns, net, conn, "on_close"),
            None => self.first(turns, conn, "on_close", Life::NeverOpen),
        };
        // From here on it is over, also if the rest panics.
        seen.closed = true;
        seen.check_last_counts(net, dropped_bytes);
        seen.check_reason(net, reason, dropped_bytes);
    }

    /// A callback has returned.
    #[inline]
    pub(super) fn leave(&mut self, conn: ConnId) {
        if let Some(seen) = self.find(conn) {
            seen.running = false;
        }
    }

    pub(super) fn assert_all_closed(&self, net: &Net) {
        let left = self.slots.iter().flatten().find(|seen| !seen.closed);
        let left = left.map(|seen| seen.id).or_else(|| net.conns().next());
        if let Some(id) = left {
            panic!("C1: {id}: it has had no on_close");
        }
    }

    fn slot(&mut self, conn: ConnId) -> &mut Option<SeenConn> {
        if conn.slot() >= self.slots.len() {
            self.slots.resize_with(conn.slot() + 1, || None);
        }
        &mut self.slots[conn.slot()]
    }

    #[inline]
    fn find(&mut self, conn: ConnId) -> Option<&mut SeenConn> {
        self.slots.get_mut(conn.slot())?.as_mut().filter(|seen| seen.id == conn)
    }

    /// Returns a connection that has had its first callback and not its last.
    #[inline]
    fn known(
        &mut self,
        turns: &Turns,
        net: &Net,
        conn: ConnId,
        what: &'static str,
    ) -> &mut SeenConn {
        if self.find(conn).is_none() {
            self.meet_adopted(turns, net, conn, what);
        }
        let seen = self.find(conn).expect("it was there or is an adopted one");
        assert!(!seen.closed, "C1: {conn}: {what} after on_close");
        seen
    }

    /// Makes an adopted connection, of which the first callback can be any.
    #[cold]
    fn meet_adopted(&mut self, turns: &Turns, net: &Net, conn: ConnId, what: &'static str) {
        assert!(is_adopted(net, conn), "C1: {conn}: {what} before on_accept or on_connect");
        let seen = self.first(turns, conn, what, Life::Adopted);
        // What it brought along was not received in this turn.
        seen.note(&net.conn_stats(conn).unwrap_or_default());
    }

    /// Makes a connection of which nothing was seen before.
    fn first(
        &mut self,
        turns: &Turns,
        conn: ConnId,
        what: &'static str,
        life: Life,
    ) -> &mut SeenConn {
        let slot = self.slot(conn);
        match slot {
            Some(seen) => seen.check_next(conn, what),
            None if turns.joined_late => {}
            None => check_first(conn, what),
        }
        slot.insert(SeenConn::new(conn, life))
    }
}

impl SeenConn {
    fn new(id: ConnId, life: Life) -> SeenConn {
        SeenConn {
            id,
            life,
            running: false,
            read_closed: false,
            released: false,
            closed: false,
            writable: false,
            received_bytes: 0,
            receives: 0,
            accepted_bytes: 0,
            sent_bytes: 0,
            consumed_bytes: 0,
            left: Ends::default(),
            turn: 0,
            turn_received_bytes: 0,
            turn_receives: 0,
            at_writable: AtWritable::default(),
        }
    }

    /// Looks at the next connection in the same slot.
    fn check_next(&self, next: ConnId, what: &'static str) {
        let id = self.id;
        assert!(next != id, "C1: {id}: {what}, but it was there before");
        assert!(next.generation() > id.generation(), "C2: {next}: {what} behind {id}");
        assert!(self.closed, "C1: {id}: no on_close before {what} for {next}");
        let is_next = next.generation() - 1 == id.generation();
        assert!(is_next, "C1: {next}: {what}, but one between {id} and it had no on_close");
    }

    /// A callback other than `on_close` begins.
    #[inline]
    fn begin(&mut self, turns: &Turns, net: &Net, what: &'static str) {
        let conn = self.id;
        let panicked = std::mem::replace(&mut self.running, true);
        assert!(!panicked, "C6: {conn}: {what} after a panic in its last callback");
        let Some(stats) = net.conn_stats(conn) else { panic!("C2: {conn}: {what}, it is stale") };
        assert!(net.is_open(conn), "C5: {conn}: {what}, but it is closing");
        assert!(!self.released, "C5: {conn}: {what} after on_release");
        if self.turn != turns.number {
            self.turn = turns.number;
            self.turn_received_bytes = self.received_bytes;
            self.turn_receives = self.receives;
            self.writable = false;
        }
        self.check_counts(net, &stats);
        self.note(&stats);
    }

    #[inline]
    fn check_counts(&self, net: &Net, stats: &ConnStats) {
        let conn = self.id;
        let (accepted, sent) = (stats.accepted_bytes, stats.sent_bytes);
        let queued = stats.queued_bytes;
        assert!(
            accepted == sent + queued as u64,
            "C8: {conn}: {accepted} bytes accepted, {sent} sent, {queued} queued"
        );
        let (cost, cost_max) = (stats.queued_cost, stats.queued_cost_max);
        let hard_limit = options(net, conn).map_or(usize::MAX, |it| it.hard_limit_bytes.bytes());
        assert!(
            (queued..=hard_limit).contains(&cost),
            "C8: {conn}: {queued} bytes queued cost {cost}, the hard limit is {hard_limit}"
        );
        // It saturates at 32 bits.
        let was_seen = cost <= cost_max || u32::try_from(cost).is_err();
        assert!(was_seen, "C8: {conn}: the queue costs {cost}, at most {cost_max} so far");
        self.check_monotone(stats);
    }

    #[inline]
    fn check_monotone(&self, stats: &ConnStats) {
        let falls = stats.accepted_bytes < self.accepted_bytes
            || stats.sent_bytes < self.sent_bytes
            || stats.received_bytes < self.received_bytes;
        assert!(!falls, "C8: {}: a count has fallen: {self:?}, then {stats:?}", self.id);
    }

    #[inline]
    fn note(&mut self, stats: &ConnStats) {
        self.received_bytes = stats.received_bytes;
        self.receives = stats.receives;
        self.accepted_bytes = stats.accepted_bytes;
        self.sent_bytes = stats.sent_bytes;
    }

    #[inline]
    fn check_reading(&self, net: &Net, what: &'static str) {
        let conn = self.id;
        assert!(net.is_reading(conn), "C13: {conn}: {what}, but reading is paused");
        assert!(!self.read_closed, "C7: {conn}: {what} after on_read_closed");
    }

    /// Looks at the bytes that are shown: all that was received and not consumed, those that were
    /// left first.
    #[inline]
    fn check_shown(&self, what: &'static str, data: &[u8]) {
        let (conn, shown) = (self.id, data.len() as u64);
        let due = self.received_bytes - self.consumed_bytes;
        assert!(shown == due, "C7: {conn}: {what} with {shown} bytes, due are {due}");
        let begins = self.left.begin(data);
        assert!(begins, "C7: {conn}: {what} does not begin with the {} bytes left", self.left.len);
    }

    /// Looks at what was received in this turn.
    #[inline]
    fn check_budget(&self, net: &Net) {
        let conn = self.id;
        let bytes = self.received_bytes - self.turn_received_bytes;
        let budget = net.config.read_budget_bytes;
        assert!(bytes <= budget as u64, "C12: {conn}: {bytes} bytes in one turn, of {budget}");
        let calls = self.receives.wrapping_sub(self.turn_receives);
        let budget = net.config.read_budget_calls;
        assert!(calls <= budget, "C12: {conn}: {calls} receives in one turn, of {budget}");
    }

    fn check_pressure(&mut self, net: &Net) {
        let (conn, cost) = (self.id, net.queued_cost(self.id));
        let low = options(net, conn).map_or(usize::MAX, |options| options.low_water_bytes);
        assert!(
            cost <= low,
            "C9: {conn}: on_writable with {cost} bytes of cost queued, the low-water mark is {low}"
        );
        let refused_writes = net.stats().refused_writes;
        let last = std::mem::replace(
            &mut self.at_writable,
            AtWritable {
                accepted_bytes: self.accepted_bytes,
                sent_bytes: self.sent_bytes,
                refused_writes,
            },
        );
        let pressured =
            self.accepted_bytes > last.accepted_bytes && self.sent_bytes > last.sent_bytes;
        assert!(
            pressured || refused_writes > last.refused_writes,
            "C9: {conn}: on_writable without a Pressured or Refused before it"
        );
    }

    /// Looks at what goes along: all that was left, and all that was accepted and not sent.
    fn check_detached(&self, net: &Net, detached: &Detached) {
        let conn = self.id;
        assert!(!net.is_open(conn), "C5: {conn}: on_release, but it is open");
        let unread = detached.unread();
        // What `on_read_closed` was shown is not shown again.
        let all = if self.read_closed { Ends::default() } else { self.left };
        let (given, left) = (unread.len(), all.len);
        assert!(all.begin(unread), "C7: {conn}: {given} bytes unread, {left} were left");
        let stats = net.conn_stats(conn).unwrap_or_default();
        let (accepted, sent) = (stats.accepted_bytes, stats.sent_bytes);
        let queued = detached.queued().len();
        assert!(
            accepted == sent + queued as u64,
            "C8: {conn}: {accepted} bytes accepted, {sent} sent, {queued} handed out"
        );
    }

    fn check_last_counts(&self, net: &Net, dropped_bytes: u64) {
        let conn = self.id;
        let Some(stats) = net.conn_stats(conn) else {
            panic!("C5: {conn}: on_close, and no getter works");
        };
        assert!(!net.is_open(conn), "C5: {conn}: on_close, but it is open");
        let (accepted, sent) = (stats.accepted_bytes, stats.sent_bytes);
        assert!(
            accepted == sent + dropped_bytes,
            "C8: {conn}: {accepted} bytes accepted, {sent} sent, {dropped_bytes} dropped"
        );
        let (queued, counted) = (stats.queued_bytes, stats.dropped_bytes);
        assert!(queued == 0, "C8: {conn}: {queued} bytes queued in on_close");
        assert!(counted == dropped_bytes, "C8: {conn}: {dropped_bytes} dropped, not {counted}");
        self.check_monotone(&stats);
    }

    /// Looks for what is behind the reason.
    fn check_reason(&self, net: &Net, reason: CloseReason, dropped_bytes: u64) {
        let conn = self.id;
        let truthful = if self.running {
            may_follow_panic(reason)
        } else {
            self.life == Life::Joined || self.has_cause(net, reason, dropped_bytes)
        };
        let rule = if self.running { "C6" } else { "C4" };
        assert!(
            truthful,
            "{rule}: {conn}: on_close with {reason:?} and {dropped_bytes} dropped; \
             panicked: {}, {:?}, peer's FIN told: {}, {} bytes left",
            self.running, self.life, self.read_closed, self.left.len
        );
    }

    fn has_cause(&self, net: &Net, reason: CloseReason, dropped_bytes: u64) -> bool {
        use CloseReason::{
            ConnectFailed, HandlerPanicked, Io, Limit, LocalAbort, LocalClose, PeerClosed,
            Released, Reset, Shutdown, Timeout,
        };
        let never_open = self.life == Life::NeverOpen;
        let Some(record) = net.conns.get(self.id.0) else { return false };
        let options = &record.options;
        let is_idle = |limit_nanos: u64| {
            let stats = net.conn_stats(self.id).unwrap_or_default();
            stats.idle.as_nanos() >= u128::from(limit_nanos)
        };
        match reason {
            ConnectFailed(_) => never_open,
            Timeout(TimeoutKind::Connect) => never_open && is_idle(options.connect_timeout.nanos()),
            PeerClosed => self.read_closed && dropped_bytes == 0,
            // One that loses queued bytes tells what lost them.
            LocalClose => never_open || (!self.read_closed && dropped_bytes == 0),
            // The linger begins when all has been sent.
            Timeout(TimeoutKind::Linger) | Limit(LimitKind::Linger) => {
                !never_open && dropped_bytes == 0
            }
            Timeout(TimeoutKind::Idle) => !never_open && is_idle(options.idle_timeout.nanos()),
            Limit(LimitKind::Outbound) => options.slow_consumer == SlowConsumer::Close,
            Limit(LimitKind::Inbound) => self.left.len > options.inbound_max_bytes.bytes(),
            Limit(LimitKind::Buffers) => self.left.len > 0,
            Reset | Io(_) | Timeout(TimeoutKind::WriteStall | TimeoutKind::Kernel) => !never_open,
            Released => self.released,
            LocalAbort | Shutdown => true,
            HandlerPanicked => false,
        }
    }
}

/// The length and both ends of bytes that a handler has left: enough to recognise them when they
/// are shown again, without reading all of a long message once more for every piece.
#[derive(Debug, Clone, Copy, Default)]
struct Ends {
    len: usize,
    first: u64,
    last: u64,
}

impl Ends {
    #[inline]
    fn of(bytes: &[u8]) -> Ends {
        if bytes.is_empty() {
            return Ends::default();
        }
        let size = bytes.len().min(8);
        let last = bytes.len() - size;
        Ends { len: bytes.len(), first: word(&bytes[..size]), last: word(&bytes[last..]) }
    }

    /// Returns whether bytes begin with these.
    #[inline]
    fn begin(&self, bytes: &[u8]) -> bool {
        self.len == 0
            || bytes.get(..self.len).is_some_and(|bytes| {
                let Ends { first, last, .. } = Ends::of(bytes);
                (first, last) == (self.first, self.last)
            })
    }
}

/// Returns up to eight bytes as a number.
#[inline]
fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(word)
}

/// Looks at the first connection of a slot.
fn check_first(conn: ConnId, what: &'static str) {
    let is_first = conn.generation() == 1;
    assert!(is_first, "C1: {conn}: {what}, but the one before it in its slot had no on_close");
}

/// Returns whether a connection came from elsewhere.
fn is_adopted(net: &Net, conn: ConnId) -> bool {
    net.conns.get(conn.0).is_some_and(|record| record.flags.any(Flags::ADOPTED))
}

/// Returns what was set for a connection.
#[inline]
fn options(net: &Net, conn: ConnId) -> Option<&ConnOptions> {
    net.conns.get(conn.0).map(|conn| &*conn.options)
}

/// Returns whether a connection may end so whose callback has panicked: by the panic, or by what
/// had ended it within that callback before.
fn may_follow_panic(reason: CloseReason) -> bool {
    use CloseReason::{HandlerPanicked, Io, Limit, LocalAbort, PeerClosed, Reset, Timeout};
    matches!(
        reason,
        HandlerPanicked
            | LocalAbort
            | PeerClosed
            | Reset
            | Io(_)
            | Limit(LimitKind::Outbound)
            | Timeout(TimeoutKind::Kernel)
    )
}
