//! What each side says: one line for each connection that has ended, each mistake, and the end.

use std::fs;
use std::time::{Duration, SystemTime};

use hotloop::{CloseReason, ConnId, ConnStats, Loop, LoopStats, Net, TimeoutKind};

use crate::groups::{Group, LIMIT};
use crate::stream::Stream;

/// What a side knows of a connection that has ended.
#[derive(Debug)]
pub(crate) struct Ended<'a> {
    pub(crate) group: &'a Group,
    /// The client's port; 0 if it never had one.
    pub(crate) client_port: u16,
    pub(crate) connected: bool,
    /// Both farewells were said, and every request was answered.
    pub(crate) clean: bool,
    pub(crate) written: Stream,
    pub(crate) read: Stream,
}

/// Prints, and counts the mistakes that a side sees by itself.
#[derive(Debug)]
pub(crate) struct Report {
    side: &'static str,
    faults: u64,
}

impl Report {
    pub(crate) fn new(side: &'static str) -> Report {
        Report { side, faults: 0 }
    }

    /// Says that something is not as it has to be.
    pub(crate) fn fault(&mut self, group: &str, what: &str) {
        self.faults += 1;
        println!("fault side={} group={group} {what}", self.side);
    }

    /// Tells of a connection's end, in `on_close`, where its account is complete.
    pub(crate) fn ended(
        &mut self,
        net: &Net,
        conn: ConnId,
        ended: &Ended<'_>,
        (reason, dropped_bytes): (CloseReason, u64),
    ) {
        let stats = net.conn_stats(conn).expect("getters work in on_close");
        for what in faults_of(&stats, ended, reason, dropped_bytes) {
            self.fault(ended.group.name, &format!("{what}: {reason:?}, {stats:?}"));
        }
        let (read, written) = (&ended.read, &ended.written);
        let closed = now_s();
        println!(
            "conn side={} group={} tag={} port={} connected={} clean={} reason={} \
             opened={:.3} closed={closed:.3} idle={:.3} accepted={} sent={} dropped={} received={} \
             frames_out={} frames_in={} bytes_in={} digest_out={:x} digest_in={:x} pressures={} \
             refused={} pauses={}",
            self.side,
            ended.group.name,
            read.tag.max(written.tag),
            ended.client_port,
            u8::from(ended.connected),
            u8::from(ended.clean),
            format!("{reason:?}").replace(' ', ""),
            closed - stats.age.as_secs_f64(),
            stats.idle.as_secs_f64(),
            stats.accepted_bytes,
            stats.sent_bytes,
            stats.dropped_bytes,
            stats.received_bytes,
            written.frames,
            read.frames,
            read.bytes,
            written.digest,
            read.digest,
            stats.pressures,
            stats.refused_writes,
            stats.pauses,
        );
    }

    /// Compares the loop's totals, which hold at any time.
    pub(crate) fn totals(&mut self, stats: &LoopStats) {
        if stats.accepted_bytes != stats.sent_bytes + stats.queued_bytes + stats.dropped_bytes {
            self.fault("all", &format!("C8, the loop: {stats:?}"));
        }
        let begun = stats.accepted + stats.connects + stats.adopted;
        if begun != stats.closed + stats.connections as u64 {
            self.fault("all", &format!("C1, the loop: {stats:?}"));
        }
    }

    /// Tells what is left at the end. `descriptors`: how many there were before any connection.
    pub(crate) fn end(&mut self, event_loop: &mut Loop, descriptors: usize) {
        let stats = event_loop.net().stats();
        self.totals(&stats);
        println!(
            "end side={} faults={} descriptors_before={descriptors} descriptors_after={} \
             connections={} queued={} buffered={} listeners={} accepted={} connects={} \
             received_bytes={} sent_bytes={} dropped_bytes={} pressures={} refused={} pauses={} \
             turns={} stale_events={} accept_errors={}",
            self.side,
            self.faults,
            open_descriptors(),
            stats.connections,
            stats.queued_bytes,
            stats.buffered_bytes,
            stats.listeners,
            stats.accepted,
            stats.connects,
            stats.received_bytes,
            stats.sent_bytes,
            stats.dropped_bytes,
            stats.pressures,
            stats.refused_writes,
            stats.pauses,
            stats.turns,
            stats.stale_events,
            stats.accept_errors,
        );
    }
}

/// What this side can tell by itself about the end of a connection: C8 of it, and whether a
/// deadline that is the reason has passed.
fn faults_of(
    stats: &ConnStats,
    ended: &Ended<'_>,
    reason: CloseReason,
    dropped_bytes: u64,
) -> Vec<&'static str> {
    let (read, written) = (&ended.read, &ended.written);
    let account = stats.sent_bytes + stats.dropped_bytes;
    let timely = |limit: Duration| stats.idle >= limit;
    let holds = [
        ("C8: accepted is not sent and dropped", stats.accepted_bytes == account),
        ("C8: bytes are queued at the end", stats.queued_bytes == 0),
        ("C4: the dropped bytes are others", stats.dropped_bytes == dropped_bytes),
        ("C8: what was accepted was not counted", stats.accepted_bytes == written.bytes),
        ("C7: frames are longer than what came", stats.received_bytes >= read.bytes),
        ("C5: a clean end has dropped bytes", !ended.clean || dropped_bytes == 0),
        (
            "C4: an idle timeout before its time",
            reason != CloseReason::Timeout(TimeoutKind::Idle) || timely(LIMIT),
        ),
        (
            "C4: a stall without bytes that wait",
            reason != CloseReason::Timeout(TimeoutKind::WriteStall) || dropped_bytes > 0,
        ),
        (
            "C4: a connect that failed was open",
            !matches!(
                reason,
                CloseReason::ConnectFailed(_) | CloseReason::Timeout(TimeoutKind::Connect)
            ) || !ended.connected,
        ),
    ];
    holds.into_iter().filter(|(_, holds)| !holds).map(|(what, _)| what).collect()
}

/// The time of day in seconds, by which both sides and the script go.
fn now_s() -> f64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.expect("the epoch is over").as_secs_f64()
}

/// How many descriptors the process has open, the one that lists them left out.
pub(crate) fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("a list of descriptors").count() - 1
}
