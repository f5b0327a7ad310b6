//! The queue of a connection against a plain list of bytes.

use hotloop::{Bytes, Config, ConnId, ConnOptions, Limit, Sent, SlowConsumer};

use super::choices::Choices;
use crate::support::{Kind, Peer, Rig};

const OPS_MAX: usize = 200;
/// What one op writes at most: above a chunk, and above what is copied together.
const WRITE_MAX_BYTES: usize = 9000;
/// As large as one that a shared segment may leave half empty.
const CHUNK_BYTES: usize = 4096;

struct Queue {
    rig: Rig,
    peer: Peer,
    conn: ConnId,
    accepted: Vec<u8>,
    checked: usize,
    high_water: usize,
    hard_limit: usize,
}

/// Plays the input.
///
/// # Panics
///
/// If a byte is lost, repeated or reordered, or an answer is not that of the limits.
pub fn check(input: &[u8]) {
    let mut choices = Choices::new(input);
    let kind = if choices.is() { Kind::ScriptCompletion } else { Kind::ScriptReadiness };
    let high_water = 1 + choices.below(20_000);
    let hard_limit = high_water + choices.below(40_000);
    let options = ConnOptions::default()
        .high_water_bytes(high_water)
        .low_water_bytes(high_water / 2)
        .hard_limit_bytes(Limit::At(hard_limit))
        .slow_consumer(SlowConsumer::Refuse);
    let mut rig = Rig::with(kind, Config::default().conn(options));
    let (peer, conn) = rig.client();
    let mut queue =
        Queue { rig, peer, conn, accepted: Vec::new(), checked: 0, high_water, hard_limit };
    for _ in 0..OPS_MAX {
        if choices.is_over() {
            break;
        }
        queue.operate(&mut choices);
        queue.check();
    }
    queue.end();
}

impl Queue {
    fn operate(&mut self, choices: &mut Choices<'_>) {
        let scripted = self.rig.scripted(self.peer);
        match choices.byte() % 8 {
            0..=3 => self.write(choices),
            4 => self.rig.world().set_window(scripted, choices.below(12_000)),
            5 => self.rig.world().set_send_max(scripted, 1 + choices.below(5000)),
            6 => _ = self.rig.event_loop.net().flush(self.conn),
            _ => _ = self.rig.turn(),
        }
    }

    fn write(&mut self, choices: &mut Choices<'_>) {
        let len = choices.below(WRITE_MAX_BYTES) >> (choices.byte() % 14);
        let start = self.accepted.len();
        let data: Vec<u8> = (start..start + len).map(|at| (at * 37 % 251) as u8).collect();
        let net = self.rig.event_loop.net();
        let sent = match choices.byte() % 3 {
            0 => net.write(self.conn, &data),
            1 => net.write_shared(self.conn, Bytes::from(data.clone())),
            _ => {
                let pieces: Vec<&[u8]> = data.chunks(1 + choices.below(3000)).collect();
                net.write_vectored(self.conn, &pieces)
            }
        };
        let stats = net.conn_stats(self.conn).expect("it is open");
        match sent {
            Sent::Queued => assert!(stats.queued_cost <= self.high_water, "{stats:?}"),
            Sent::Pressured => assert!(stats.queued_cost > self.high_water, "{stats:?}"),
            Sent::Refused => assert!(stats.queued_cost + len > 0, "nothing was refused"),
            Sent::Closed => panic!("it is open"),
        }
        assert!(stats.queued_cost <= self.hard_limit, "{stats:?}");
        // What would fit with the cost of its segments, and of a chunk that it may close off, is
        // not refused.
        let is_full = stats.queued_cost + 2 * len + CHUNK_BYTES + 300 > self.hard_limit;
        assert!(sent != Sent::Refused || is_full, "{len} are refused: {stats:?}");
        if sent.is_taken() {
            self.accepted.extend(data);
        }
    }

    fn check(&mut self) {
        let received = self.rig.received(self.peer);
        let right = self.accepted.get(self.checked..received.len());
        assert!(right == Some(&received[self.checked..]), "C7: received is not what was written");
        self.checked = received.len();
        let stats = self.rig.event_loop.net().conn_stats(self.conn).expect("it is open");
        assert_eq!(stats.accepted_bytes, self.accepted.len() as u64);
        assert_eq!(stats.accepted_bytes, stats.sent_bytes + stats.queued_bytes as u64, "C8");
        assert!(stats.sent_bytes <= received.len() as u64, "more is sent than has arrived");
    }

    /// Everything arrives, and the FIN behind it.
    fn end(&mut self) {
        let scripted = self.rig.scripted(self.peer);
        self.rig.world().set_send_max(scripted, usize::MAX);
        self.rig.world().set_window(scripted, usize::MAX);
        self.rig.event_loop.net().shutdown(self.conn);
        self.rig.settle();
        self.check();
        assert_eq!(self.checked, self.accepted.len(), "all of it");
        assert!(self.rig.at_end(self.peer), "the FIN");
        self.rig.event_loop.net().abort(self.conn);
        self.rig.settle();
        let stats = self.rig.event_loop.net().stats();
        assert_eq!((stats.queued_bytes, stats.buffered_bytes), (0, 0));
    }
}
