//! Writes: what is taken, what is refused, and what is owed for it (C8, C9).

use hotloop::{Bytes, ConnId, Net, Sent};

use crate::model::Model;
use crate::pressure::{OVERHEAD_MAX, Over, Refusal};
use crate::random::bytes_of;
use crate::record::Conn;

/// What could be seen of a queue before a write.
#[derive(Debug, Clone, Copy)]
struct Before {
    bytes: usize,
    cost: usize,
    buffered: usize,
    is_open: bool,
}

impl Before {
    fn of(net: &Net, id: ConnId) -> Before {
        let buffered = usize::try_from(net.stats().buffered_bytes).expect("it is in memory");
        let (bytes, cost) = (net.queued_bytes(id), net.queued_cost(id));
        Before { bytes, cost, buffered, is_open: net.is_open(id) }
    }
}

impl Model {
    /// Writes so many bytes, copied or shared.
    pub fn write(&mut self, net: &mut Net, id: ConnId, len: usize, is_shared: bool) {
        let record = self.conns.get(&id);
        if record.is_some_and(|conn| conn.key == 0) {
            // What it has to send is not known before its address is.
            return;
        }
        let (stream, from) = record.map_or((0, 0), |conn| (conn.stream_out(), conn.accepted));
        // Through a buffer of one byte a long message is nothing but more of the same.
        let len = len.min(500 + 60 * self.setup.socket_buffers.0);
        let data = bytes_of(stream, from, len);
        let before = Before::of(net, id);
        let sent = match is_shared {
            true => net.write_shared(id, Bytes::from(data)),
            // In pieces or in one, it is the same write.
            false if len % 3 == 1 => {
                let (head, body) = data.split_at(len / 5);
                net.write_vectored(id, &[head, b"", body])
            }
            false => net.write(id, &data),
        };
        if !self.conns.get(&id).is_some_and(Conn::takes_writes) {
            return assert_eq!(sent, Sent::Closed, "C8: {id}: a write to what takes none");
        }
        match sent {
            Sent::Closed => self.not_taken(net, id),
            Sent::Queued | Sent::Pressured => self.taken(net, id, len, before, sent),
            Sent::Refused => self.refused(net, id, (len, is_shared), before),
        }
    }

    fn conn(&mut self, id: ConnId) -> &mut Conn {
        self.conns.get_mut(&id).expect("the caller has found it")
    }

    /// The loop knows that it has ended, or that a send has failed.
    fn not_taken(&mut self, net: &Net, id: ConnId) {
        self.conn(id).ends_since.get_or_insert(net.now());
    }

    fn taken(&mut self, net: &Net, id: ConnId, len: usize, before: Before, sent: Sent) {
        assert!(before.is_open, "C8: {id}: taken, and not open");
        assert_eq!(net.queued_bytes(id), before.bytes + len, "C8: {id}: taken");
        let (cost, most) = (net.queued_cost(id), before.cost + len + OVERHEAD_MAX);
        assert!(cost >= before.cost + len && cost <= most, "C8: {id}: {len} bytes cost {cost}");
        let added = net.stats().buffered_bytes - before.buffered as u64;
        assert_eq!(added, (cost - before.cost) as u64, "C8: {id}: the cost in total");
        let limit = self.write_limit();
        let fits = len == 0 || before.buffered + cost - before.cost <= limit;
        assert!(fits, "C8: {id}: taken, over {limit} of all");
        let conn = self.conn(id);
        let (high, hard) = (conn.limits.high, conn.limits.hard);
        assert!(cost <= hard, "C8: {id}: {cost} are queued, the limit is {hard}");
        let is_pressed = sent == Sent::Pressured;
        assert_eq!(is_pressed, cost > high, "C9: {id}: {cost} of {high}: {sent:?}");
        if is_pressed {
            conn.pressure.pressed();
        }
        conn.accepted += len as u64;
        let stream = conn.stream_out();
        *self.written.entry(stream).or_default() += len as u64;
    }

    fn refused(&mut self, net: &Net, id: ConnId, what: (usize, bool), before: Before) {
        let (len, is_shared) = what;
        self.refused += 1;
        let write_limit = self.write_limit();
        let conn = self.conn(id);
        let refusal = Refusal {
            len,
            is_shared,
            queued: before.cost,
            hard: conn.limits.hard,
            low: conn.limits.low,
            buffered: before.buffered,
            write_limit,
        };
        let over = refusal.over();
        assert!(len > 0 && over.is_some(), "C8: {id}: refused below any limit: {refusal:?}");
        if net.is_open(id) {
            assert_eq!(net.queued_bytes(id), before.bytes, "C8: {id}: refused, and taken");
            let has_to_close = over == Some(Over::Hard) && !conn.limits.refuses;
            assert!(!has_to_close, "C8: {id}: over its limit, and still open");
            conn.pressure.refused(refusal);
        } else {
            let may_close = over != Some(Over::All) && !conn.limits.refuses;
            assert!(may_close, "C8: {id}: closed for a refusal: {refusal:?}");
            assert_eq!(net.queued_bytes(id), 0, "C8: {id}: aborted, and bytes are queued");
            conn.passed_outbound = true;
            conn.ends_since.get_or_insert(net.now());
        }
    }

    /// How much writes may have queued: the last eighth of all buffers is for input.
    pub fn write_limit(&self) -> usize {
        let limit = self.setup.global_buffer_bytes;
        limit - limit / 8
    }
}
