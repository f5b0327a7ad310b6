//! Pieces of outbound data: pooled chunks that writes are copied into, and shared bytes.

#![allow(
    clippy::indexing_slicing,
    clippy::expect_used,
    reason = "nodes and places that the queues keep; no peer's"
)]

use std::mem;
use std::sync::Arc;

use bytes::Bytes;
use slab::Slab;

use crate::stage::Stage;
use crate::sys::memory::AlignedBytes;

/// What one queued segment costs beyond its payload: the node, the chunk's head, the allocator.
pub(crate) const SEGMENT_OVERHEAD: usize = 128;
/// The chunk of ordinary writes: several small messages, one page.
pub(crate) const CHUNK_BYTES: usize = 4096;
/// The chunk of a small write behind a shared segment: a header before a shared body.
const SMALL_CHUNK_BYTES: usize = 256;
/// The chunk of a write that fills it.
const LARGE_CHUNK_BYTES: usize = 16 << 10;
/// A cache line: copies from and to an odd address are up to four times slower.
const ALIGN: usize = 64;
/// No segment.
pub(crate) const NONE: u32 = u32::MAX;

/// Memory at a stable address that writes are appended to.
#[derive(Debug)]
pub(crate) struct Chunk {
    bytes: AlignedBytes,
    used: usize,
}

impl Chunk {
    fn new(capacity: usize) -> Chunk {
        Chunk { bytes: AlignedBytes::zeroed(capacity, ALIGN), used: 0 }
    }

    pub(crate) fn room(&self) -> usize {
        self.bytes.len() - self.used
    }

    /// Appends as much of `data` as there is room for; returns how much that was.
    #[inline]
    fn append(&mut self, data: &[u8]) -> usize {
        let taken = data.len().min(self.room());
        self.bytes[self.used..][..taken].copy_from_slice(&data[..taken]);
        self.used += taken;
        taken
    }
}

/// Free chunks by size.
#[derive(Debug)]
struct ChunkPool {
    small: Vec<Arc<Chunk>>,
    page: Vec<Arc<Chunk>>,
    large: Vec<Arc<Chunk>>,
    free_bytes: usize,
    max_bytes: usize,
}

impl ChunkPool {
    fn of(&mut self, capacity: usize) -> &mut Vec<Arc<Chunk>> {
        match capacity {
            SMALL_CHUNK_BYTES => &mut self.small,
            CHUNK_BYTES => &mut self.page,
            _ => &mut self.large,
        }
    }

    #[inline]
    fn take(&mut self, capacity: usize) -> Arc<Chunk> {
        match self.of(capacity).pop() {
            Some(chunk) => {
                self.free_bytes -= capacity;
                chunk
            }
            None => Arc::new(Chunk::new(capacity)),
        }
    }

    /// Keeps a chunk for reuse, unless the pool is full or a backend still holds the chunk.
    #[inline]
    fn give(&mut self, mut chunk: Arc<Chunk>) {
        let capacity = chunk.bytes.len();
        if self.free_bytes + capacity > self.max_bytes {
            return;
        }
        if let Some(sole) = Arc::get_mut(&mut chunk) {
            sole.used = 0;
            self.free_bytes += capacity;
            self.of(capacity).push(chunk);
        }
    }
}

/// Outbound data that is neither moved nor changed while anybody holds a handle of it (C10).
#[derive(Debug, Clone)]
pub(crate) enum Segment {
    /// Copied; appended to only while the queue holds the sole handle.
    Chunk(Arc<Chunk>),
    /// Shared with other queues and with the user.
    Shared(Bytes),
}

impl Segment {
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Segment::Chunk(chunk) => &chunk.bytes[..chunk.used],
            Segment::Shared(bytes) => bytes,
        }
    }
}

/// A queued segment. Queues are lists through the loop's one store of nodes, so that an empty
/// queue owns nothing.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) segment: Segment,
    /// How much of the segment the kernel has taken.
    pub(crate) start: usize,
    /// What the segment costs beyond its payload.
    pub(crate) overhead: usize,
    pub(crate) next: u32,
}

/// How many nodes an empty store keeps room for: what a larger burst took is given back.
const NODES_KEPT: usize = 4096;

/// All queued segments of one loop, and the pool their chunks come from.
#[derive(Debug)]
pub(crate) struct Segments {
    nodes: Slab<Node>,
    pool: ChunkPool,
    /// The first chunk of the queue whose connection is being served. None where a backend holds
    /// what it is given beyond the call.
    pub(crate) stage: Option<Stage>,
}

impl Segments {
    pub(crate) fn new(pool_max_bytes: usize) -> Segments {
        let pool = ChunkPool {
            small: Vec::new(),
            page: Vec::new(),
            large: Vec::new(),
            free_bytes: 0,
            max_bytes: pool_max_bytes,
        };
        Segments { nodes: Slab::new(), pool, stage: Some(Stage::new(CHUNK_BYTES, ALIGN)) }
    }

    /// Makes a node with a chunk that holds the first bytes of `data`; returns the node and how
    /// many bytes it took. `after_shared`: the queue's last segment is a shared one.
    #[inline]
    pub(crate) fn copy(&mut self, data: &[u8], after_shared: bool) -> (u32, usize) {
        self.copy_first(data, data.len(), after_shared)
    }

    /// As [`copy`](Self::copy), of data that is the first part of `len` bytes: the chunk is as
    /// large as all of them would have it.
    #[inline]
    pub(crate) fn copy_first(
        &mut self,
        data: &[u8],
        len: usize,
        after_shared: bool,
    ) -> (u32, usize) {
        let mut chunk = self.pool.take(chunk_bytes(len, after_shared));
        let taken = Arc::get_mut(&mut chunk).expect("a pooled chunk has one handle").append(data);
        (self.insert(Segment::Chunk(chunk)), taken)
    }

    /// Makes a node of what is staged, without the first `sent` bytes.
    #[cold]
    pub(crate) fn unstage(&mut self, sent: usize) -> u32 {
        let mut chunk = self.pool.take(CHUNK_BYTES);
        let fresh = Arc::get_mut(&mut chunk).expect("a pooled chunk has one handle");
        fresh.append(&staged(&self.stage)[sent..]);
        if let Some(stage) = &mut self.stage {
            stage.give_back();
        }
        self.insert(Segment::Chunk(chunk))
    }

    /// Makes a node for shared bytes.
    pub(crate) fn share(&mut self, bytes: Bytes) -> u32 {
        self.insert(Segment::Shared(bytes))
    }

    fn insert(&mut self, segment: Segment) -> u32 {
        let node = Node { segment, start: 0, overhead: SEGMENT_OVERHEAD, next: NONE };
        u32::try_from(self.nodes.insert(node)).expect("fewer than 2^32 segments fit into memory")
    }

    /// Appends to the chunk of a node as much as fits: nothing if it is shared, full, or sealed
    /// because a backend holds a handle of it.
    #[inline]
    pub(crate) fn append(&mut self, node: u32, data: &[u8]) -> usize {
        match &mut self.nodes[node as usize].segment {
            Segment::Chunk(chunk) => Arc::get_mut(chunk).map_or(0, |chunk| chunk.append(data)),
            Segment::Shared(_) => 0,
        }
    }

    /// Returns how many bytes [`append`](Self::append) would take.
    #[inline]
    pub(crate) fn room(&mut self, node: u32) -> usize {
        match &mut self.nodes[node as usize].segment {
            Segment::Chunk(chunk) => Arc::get_mut(chunk).map_or(0, |chunk| chunk.room()),
            Segment::Shared(_) => 0,
        }
    }

    pub(crate) fn is_shared(&self, node: u32) -> bool {
        matches!(self.nodes[node as usize].segment, Segment::Shared(_))
    }

    #[cfg(test)]
    fn node(&self, node: u32) -> &Node {
        &self.nodes[node as usize]
    }

    #[inline]
    pub(crate) fn node_mut(&mut self, node: u32) -> &mut Node {
        &mut self.nodes[node as usize]
    }

    /// Frees a node and gives its chunk back; returns the next node.
    #[inline]
    pub(crate) fn remove(&mut self, node: u32) -> u32 {
        let node = self.nodes.remove(node as usize);
        if self.nodes.is_empty() && self.nodes.capacity() > NODES_KEPT {
            self.nodes = Slab::new();
        }
        if let Segment::Chunk(chunk) = node.segment {
            self.pool.give(chunk);
        }
        node.next
    }

    /// Returns the bytes of free chunks.
    pub(crate) fn pooled_bytes(&self) -> usize {
        self.pool.free_bytes
    }

    /// Returns the pieces of a queue from its first node on, at most `max_bytes` of them.
    #[inline]
    pub(crate) fn pieces(&self, first: u32, max_bytes: usize) -> Pieces<'_> {
        Pieces { staged: &[], nodes: &self.nodes, next: first, left_bytes: max_bytes }
    }

    /// Returns what is staged as pieces.
    #[inline]
    pub(crate) fn staged(&self, max_bytes: usize) -> Pieces<'_> {
        Pieces { staged: staged(&self.stage), ..self.pieces(NONE, max_bytes) }
    }
}

#[inline]
fn staged(stage: &Option<Stage>) -> &[u8] {
    match stage {
        Some(stage) => stage.bytes(),
        None => &[],
    }
}

/// How large a chunk to take for a write of which `len` bytes are left.
#[inline]
fn chunk_bytes(len: usize, after_shared: bool) -> usize {
    if len >= LARGE_CHUNK_BYTES {
        LARGE_CHUNK_BYTES
    } else if after_shared && len <= SMALL_CHUNK_BYTES {
        SMALL_CHUNK_BYTES
    } else {
        CHUNK_BYTES
    }
}

/// Returns how many chunks [`Segments::copy`] takes for a write of `len` bytes.
#[inline]
pub(crate) fn chunks_for(len: usize) -> usize {
    if len <= CHUNK_BYTES {
        return usize::from(len > 0);
    }
    (len / LARGE_CHUNK_BYTES) + (len % LARGE_CHUNK_BYTES).div_ceil(CHUNK_BYTES)
}

/// One piece of a queue: a range of a segment, or of the stage.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece<'a> {
    /// A completion backend clones it, to hold the bytes until the kernel is done with them. None
    /// for those that are staged.
    pub(crate) segment: Option<&'a Segment>,
    /// The range to send. A chunk in flight is not appended to, so the range stays what it is.
    pub(crate) bytes: &'a [u8],
}

/// The pieces of one queue, in order. None of them is empty.
#[derive(Debug, Clone)]
pub(crate) struct Pieces<'a> {
    /// The first of them, unless it is empty.
    staged: &'a [u8],
    nodes: &'a Slab<Node>,
    next: u32,
    left_bytes: usize,
}

impl<'a> Pieces<'a> {
    /// Returns the piece if there is only one.
    #[inline]
    pub(crate) fn only(&self) -> Option<&'a [u8]> {
        let mut bytes = self.staged;
        if bytes.is_empty() {
            let node = self.nodes.get(self.next as usize).filter(|node| node.next == NONE)?;
            bytes = &node.segment.bytes()[node.start..];
        }
        Some(&bytes[..bytes.len().min(self.left_bytes)])
    }

    /// Returns how many bytes they are.
    pub(crate) fn bytes(&self) -> usize {
        self.clone().map(|piece| piece.bytes.len()).sum()
    }

    /// Returns the first of them, so many bytes at most.
    pub(crate) fn first(mut self, bytes: usize) -> Pieces<'a> {
        self.left_bytes = self.left_bytes.min(bytes);
        self
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    #[inline]
    fn next(&mut self) -> Option<Piece<'a>> {
        if self.left_bytes == 0 {
            return None;
        }
        let mut segment = None;
        let mut bytes = mem::take(&mut self.staged);
        if bytes.is_empty() {
            let node = self.nodes.get(self.next as usize)?;
            segment = Some(&node.segment);
            bytes = &node.segment.bytes()[node.start..];
            self.next = node.next;
        }
        let bytes = &bytes[..bytes.len().min(self.left_bytes)];
        self.left_bytes -= bytes.len();
        Some(Piece { segment, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_held_by_a_backend_is_sealed() {
        let mut segments = Segments::new(1 << 20);
        let (node, taken) = segments.copy(b"abc", false);
        assert_eq!((taken, segments.append(node, b"de")), (3, 2));
        let held = segments.node(node).segment.clone();
        assert_eq!((segments.append(node, b"f"), segments.room(node)), (0, 0));
        drop(held);
        assert_eq!(segments.append(node, b"f"), 1);
        assert_eq!(segments.node(node).segment.bytes(), b"abcdef");
    }

    #[test]
    fn a_removed_chunk_is_reused_empty() {
        let mut segments = Segments::new(1 << 20);
        let (node, _) = segments.copy(b"old", false);
        let address = segments.node(node).segment.bytes().as_ptr();
        segments.remove(node);
        assert_eq!(segments.pooled_bytes(), CHUNK_BYTES);
        let (node, _) = segments.copy(b"new!", false);
        assert_eq!(segments.node(node).segment.bytes(), b"new!");
        assert_eq!(segments.node(node).segment.bytes().as_ptr(), address);
    }

    #[test]
    fn the_pool_keeps_no_more_than_its_limit() {
        let mut segments = Segments::new(CHUNK_BYTES);
        let nodes: Vec<u32> = (0..3).map(|_| segments.copy(b"x", false).0).collect();
        for node in nodes {
            segments.remove(node);
        }
        assert_eq!(segments.pooled_bytes(), CHUNK_BYTES);
    }

    #[test]
    fn pieces_end_at_the_byte_limit() {
        let mut segments = Segments::new(1 << 20);
        let first = segments.share(Bytes::from_static(b"hello"));
        let second = segments.share(Bytes::from_static(b"world"));
        segments.node_mut(first).next = second;
        segments.node_mut(first).start = 2;
        let text = |max| segments.pieces(first, max).map(|piece| piece.bytes).collect::<Vec<_>>();
        assert_eq!(text(100), [&b"llo"[..], b"world"]);
        assert_eq!(text(5), [&b"llo"[..], b"wo"]);
        assert_eq!(text(3), [&b"llo"[..]]);
        assert_eq!(segments.pieces(first, 100).only(), None);
        assert_eq!(segments.pieces(second, 3).only(), Some(&b"wor"[..]));
    }

    #[test]
    fn the_chunk_count_of_a_write_is_exact() {
        for len in [0, 1, 255, 4096, 4097, 16383, 16384, 16385, 100_000] {
            let mut segments = Segments::new(0);
            let (mut left, mut chunks) = (len, 0);
            while left > 0 {
                left -= segments.copy(&vec![0; left], false).1;
                chunks += 1;
            }
            assert_eq!(chunks, chunks_for(len), "{len}");
        }
    }
}
