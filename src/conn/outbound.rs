//! A connection's outbound queue: a list of segments with exact counts.

use bytes::Bytes;

use crate::segment::{CHUNK_BYTES, NONE, Pieces, SEGMENT_OVERHEAD, Segments, chunks_for};

/// Bytes that writes accepted and the kernel has not taken. Empty, it owns nothing.
#[derive(Debug)]
pub(crate) struct Outbound {
    first: u32,
    last: u32,
    /// Payload, exact (C8).
    bytes: usize,
    /// Payload and overhead: what limits and marks compare.
    cost: usize,
}

impl Outbound {
    pub(crate) const EMPTY: Outbound = Outbound { first: NONE, last: NONE, bytes: 0, cost: 0 };

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Returns whether all of it is staged.
    #[inline]
    fn is_staged(&self) -> bool {
        self.first == NONE && self.bytes > 0
    }

    /// Returns the first `max_bytes` that are queued, if all is staged.
    #[inline]
    pub(crate) fn staged<'a>(
        &self,
        segments: &'a Segments,
        max_bytes: usize,
    ) -> Option<Pieces<'a>> {
        self.is_staged().then(|| segments.staged(max_bytes))
    }

    /// Empties a queue of which all is staged; returns what it cost.
    #[inline]
    pub(crate) fn end_stage(&mut self, segments: &mut Segments) -> usize {
        let cost = self.cost;
        self.give_stage_back(segments);
        *self = Outbound::EMPTY;
        cost
    }

    /// Moves what is staged to a segment: before anything follows that does not fit there, and
    /// before another connection is served.
    #[inline]
    pub(crate) fn unstage(&mut self, segments: &mut Segments) {
        if self.is_staged() {
            self.leave_stage(segments, 0);
        }
    }

    /// Returns how much [`push_copy`](Self::push_copy) could append to the last segment.
    #[inline]
    fn room(&self, segments: &mut Segments) -> usize {
        match &segments.stage {
            Some(stage) if self.is_staged() => stage.room(),
            _ => segments.room(self.last),
        }
    }

    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    #[inline]
    pub(crate) fn cost(&self) -> usize {
        self.cost
    }

    /// Returns by how much [`push_copy`](Self::push_copy) of `len` bytes will raise the cost.
    #[inline]
    pub(crate) fn cost_of_copy(&self, segments: &mut Segments, len: usize) -> usize {
        if self.is_empty() {
            return len + chunks_for(len) * SEGMENT_OVERHEAD;
        }
        let room = self.room(segments);
        len + chunks_for(len.saturating_sub(room)) * SEGMENT_OVERHEAD
    }

    /// Returns by how much [`push_shared`](Self::push_shared) of `len` bytes will raise the cost:
    /// the room left in the chunk before it is never used, and is charged.
    pub(crate) fn cost_of_shared(&self, segments: &mut Segments, len: usize) -> usize {
        let slack = if self.is_empty() { 0 } else { self.room(segments) };
        len.saturating_add(SEGMENT_OVERHEAD + slack)
    }

    /// Copies data to the end of the queue.
    #[inline]
    #[allow(clippy::indexing_slicing, reason = "a segment takes no more than it is given")]
    pub(crate) fn push_copy(&mut self, segments: &mut Segments, data: &[u8]) {
        let mut taken = 0;
        let mut after_shared = false;
        self.unstage(segments);
        if !self.is_empty() {
            taken = segments.append(self.last, data);
            after_shared = segments.is_shared(self.last);
        }
        self.bytes += data.len();
        self.cost += data.len();
        while taken < data.len() {
            let (node, copied) = segments.copy(&data[taken..], after_shared);
            self.link(segments, node);
            taken += copied;
            after_shared = false;
        }
    }

    /// Copies pieces, of `len` bytes altogether, to the stage: if the queue is empty or there
    /// already, and all of them fit. Costs what [`push_copy`](Self::push_copy) of them would.
    #[inline]
    pub(crate) fn stage<'a>(
        &mut self,
        segments: &mut Segments,
        pieces: impl Iterator<Item = &'a [u8]>,
        len: usize,
    ) -> bool {
        let Some(stage) = &mut segments.stage else { return false };
        let begins = self.is_empty();
        let is_there = if begins { len <= CHUNK_BYTES && stage.take() } else { self.first == NONE };
        if !is_there || !stage.append(pieces, len) {
            return false;
        }
        self.bytes += len;
        self.cost += len + if begins { SEGMENT_OVERHEAD } else { 0 };
        true
    }

    /// Copies pieces, of `len` bytes altogether, to the end of the queue: into the same chunks and
    /// at the same cost as [`push_copy`](Self::push_copy) of all of them in one.
    #[inline]
    #[allow(clippy::indexing_slicing, reason = "a segment takes no more than it is given")]
    pub(crate) fn push_gathered<'a>(
        &mut self,
        segments: &mut Segments,
        pieces: impl Iterator<Item = &'a [u8]>,
        len: usize,
    ) {
        let mut left = len;
        self.unstage(segments);
        let mut after_shared = !self.is_empty() && segments.is_shared(self.last);
        self.bytes += len;
        self.cost += len;
        for mut piece in pieces {
            while !piece.is_empty() {
                let has_last = self.last != NONE;
                let mut taken = if has_last { segments.append(self.last, piece) } else { 0 };
                if taken == 0 {
                    let (node, copied) = segments.copy_first(piece, left, after_shared);
                    self.link(segments, node);
                    taken = copied;
                    after_shared = false;
                }
                piece = &piece[taken..];
                left -= taken;
            }
        }
        debug_assert_eq!(left, 0, "the pieces are as long as was said");
    }

    /// Puts shared bytes, of which there is at least one, at the end of the queue.
    pub(crate) fn push_shared(&mut self, segments: &mut Segments, bytes: Bytes) {
        debug_assert!(!bytes.is_empty(), "an empty segment would never leave the queue");
        self.unstage(segments);
        if !self.is_empty() {
            let slack = segments.room(self.last);
            segments.node_mut(self.last).overhead += slack;
            self.cost += slack;
        }
        self.bytes += bytes.len();
        self.cost += bytes.len();
        let node = segments.share(bytes);
        self.link(segments, node);
    }

    #[inline]
    fn link(&mut self, segments: &mut Segments, node: u32) {
        self.cost += SEGMENT_OVERHEAD;
        if self.last == NONE {
            self.first = node;
        } else {
            segments.node_mut(self.last).next = node;
        }
        self.last = node;
    }

    /// Returns the first pieces of the queue, at most `max_bytes`.
    #[inline]
    pub(crate) fn pieces<'a>(&self, segments: &'a Segments, max_bytes: usize) -> Pieces<'a> {
        if self.is_staged() {
            segments.staged(max_bytes)
        } else {
            segments.pieces(self.first, max_bytes)
        }
    }

    /// Takes off the first `sent` bytes, which the kernel has; frees the segments they end.
    /// Returns by how much the cost fell.
    #[inline]
    pub(crate) fn advance(&mut self, segments: &mut Segments, sent: usize) -> usize {
        assert!(sent <= self.bytes, "a backend sends at most what it was given");
        let cost = self.cost;
        if self.first == NONE {
            self.advance_stage(segments, sent);
            return cost - self.cost;
        }
        let mut left = sent;
        while left > 0 {
            let node = segments.node_mut(self.first);
            let unsent = node.segment.bytes().len() - node.start;
            if left < unsent {
                node.start += left;
                self.cost -= left;
                break;
            }
            left -= unsent;
            self.cost -= unsent + node.overhead;
            self.first = segments.remove(self.first);
        }
        self.bytes -= sent;
        if self.first == NONE {
            self.last = NONE;
        }
        debug_assert!(self.bytes > 0 || (self.cost == 0 && self.is_empty()));
        cost - self.cost
    }

    /// Takes off the first `sent` bytes of what is staged; the rest moves to a segment.
    #[inline]
    fn advance_stage(&mut self, segments: &mut Segments, sent: usize) {
        if sent < self.bytes {
            self.leave_stage(segments, sent);
            self.bytes -= sent;
            self.cost -= sent;
        } else {
            self.end_stage(segments);
        }
    }

    #[inline]
    fn give_stage_back(&self, segments: &mut Segments) {
        if let Some(stage) = segments.stage.as_mut().filter(|_| self.is_staged()) {
            stage.give_back();
        }
    }

    /// Moves what is staged to a segment, without the first `sent` bytes.
    #[cold]
    fn leave_stage(&mut self, segments: &mut Segments, sent: usize) {
        self.first = segments.unstage(sent);
        self.last = self.first;
    }

    /// Drops the whole queue; returns the payload and the cost it had.
    pub(crate) fn clear(&mut self, segments: &mut Segments) -> (usize, usize) {
        let dropped = (self.bytes, self.cost);
        self.give_stage_back(segments);
        while self.first != NONE {
            self.first = segments.remove(self.first);
        }
        *self = Outbound::EMPTY;
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(queue: &Outbound, segments: &Segments) -> Vec<u8> {
        queue.pieces(segments, usize::MAX).flat_map(|piece| piece.bytes.to_vec()).collect()
    }

    #[test]
    fn the_cost_of_a_push_is_known_before_it() {
        let mut segments = Segments::new(1 << 20);
        let mut queue = Outbound::EMPTY;
        for len in [1, 300, 4000, 5000, 20_000, 1, 257] {
            for shared in [false, true] {
                let data = vec![7; len];
                let before = queue.cost();
                let expected = if shared {
                    let cost = queue.cost_of_shared(&mut segments, len);
                    queue.push_shared(&mut segments, data.into());
                    cost
                } else {
                    let cost = queue.cost_of_copy(&mut segments, len);
                    queue.push_copy(&mut segments, &data);
                    cost
                };
                assert_eq!(queue.cost() - before, expected, "{len} {shared}");
            }
        }
        let bytes = queue.bytes();
        assert_eq!(content(&queue, &segments).len(), bytes);
        assert_eq!(queue.advance(&mut segments, bytes), expected_cost(bytes));
        assert_eq!((queue.cost(), queue.bytes(), queue.is_empty()), (0, 0, true));
    }

    /// The cost of the queue that the test above builds, counted by hand.
    fn expected_cost(bytes: usize) -> usize {
        // Copies of 1, 300, 4000, 5000, 20000, 1 and 257 bytes take 1, 1, 1, 2, 2, 1 and 1 chunks.
        let segments = (1 + 1 + 1 + 2 + 2 + 1 + 1) + 7;
        // What a shared segment seals is the room of the chunk before it.
        let page = CHUNK_BYTES;
        let slack = (page - 1)
            + (page - 300)
            + (page - 4000)
            + (2 * page - 5000)
            + (page - (20_000 - 16_384))
            + (256 - 1)
            + (page - 257);
        bytes + segments * SEGMENT_OVERHEAD + slack
    }

    #[test]
    fn gathered_pieces_lie_as_one_copy_of_them_would() {
        // What is there before: nothing, a chunk with room, a full one, a shared segment.
        let before: [&[(usize, bool)]; 4] = [&[], &[(100, false)], &[(4096, false)], &[(9, true)]];
        let sizes = [0, 1, 4, 252, 256, 257, 4092, 4096, 4097, 16_380, 16_384, 40_000];
        for (start, first, second) in before
            .iter()
            .flat_map(|start| sizes.map(|first| sizes.map(|second| (start, first, second))))
            .flatten()
        {
            let data: Vec<u8> = (0..=250).cycle().take(first + second).collect();
            let layout = |gathered: bool| {
                let mut segments = Segments::new(1 << 20);
                let mut queue = Outbound::EMPTY;
                for (len, is_shared) in *start {
                    match is_shared {
                        true => queue.push_shared(&mut segments, vec![7; *len].into()),
                        false => queue.push_copy(&mut segments, &vec![7; *len]),
                    }
                }
                let (head, body) = data.split_at(first);
                match gathered {
                    true => {
                        let pieces = [&[][..], head, &[], body, &[]].into_iter();
                        queue.push_gathered(&mut segments, pieces, data.len());
                    }
                    false => queue.push_copy(&mut segments, &data),
                }
                let pieces = queue.pieces(&segments, usize::MAX);
                let pieces: Vec<Vec<u8>> = pieces.map(|piece| piece.bytes.to_vec()).collect();
                (pieces, queue.bytes(), queue.cost())
            };
            assert!(layout(true) == layout(false), "{start:?} {first} {second}");
        }
    }

    #[test]
    fn an_advance_by_any_steps_keeps_order_and_counts() {
        let mut segments = Segments::new(1 << 20);
        let mut queue = Outbound::EMPTY;
        let all: Vec<u8> = (0..=250).cycle().take(40_000).collect();
        for (i, part) in all.chunks(777).enumerate() {
            if i % 3 == 0 {
                queue.push_shared(&mut segments, Bytes::copy_from_slice(part));
            } else {
                queue.push_copy(&mut segments, part);
            }
        }
        let mut sent = 0;
        for step in (1..).map(|i| i * 13 % 1500 + 1) {
            let step = step.min(all.len() - sent);
            assert_eq!(content(&queue, &segments), &all[sent..]);
            assert_eq!(queue.bytes(), all.len() - sent);
            queue.advance(&mut segments, step);
            sent += step;
            if sent == all.len() {
                break;
            }
        }
        assert!(queue.is_empty());
        assert_eq!(queue.cost(), 0);
    }

    #[test]
    fn a_million_one_byte_writes_are_coalesced() {
        let mut segments = Segments::new(1 << 20);
        let mut queue = Outbound::EMPTY;
        for _ in 0..1_000_000 {
            queue.push_copy(&mut segments, b"x");
        }
        let chunks = 1_000_000usize.div_ceil(CHUNK_BYTES);
        assert_eq!(queue.cost(), 1_000_000 + chunks * SEGMENT_OVERHEAD);
        assert_eq!(queue.clear(&mut segments).0, 1_000_000);
        assert!(queue.is_empty());
    }
}
