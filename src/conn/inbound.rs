//! Kept bytes: input a handler has not consumed, in pooled buffers.

/// A buffer that grew past this is freed, not pooled: one large message must not pin memory.
const POOLED_MAX_BYTES: usize = 64 << 10;
/// What a fresh buffer holds before it has to grow.
const FRESH_BYTES: usize = 4096;

/// Received bytes that the handler has not consumed, contiguous.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    bytes: Vec<u8>,
    start: usize,
}

impl Kept {
    /// Bytes that were received elsewhere, in a buffer that holds no more than them.
    pub(crate) fn whole(mut bytes: Vec<u8>) -> Kept {
        bytes.shrink_to_fit();
        Kept { bytes, start: 0 }
    }

    #[allow(clippy::indexing_slicing, reason = "`consume` moves the start within the bytes")]
    pub(crate) fn unread(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// The memory it holds.
    pub(crate) fn cost(&self) -> usize {
        self.bytes.capacity()
    }

    /// Appends received bytes; moves what is there to the front if that spares growing.
    pub(crate) fn append(&mut self, data: &[u8]) {
        if self.start > 0 && self.bytes.len() + data.len() > self.bytes.capacity() {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(data);
    }

    /// Drops the first `consumed` bytes.
    pub(crate) fn consume(&mut self, consumed: usize) {
        self.start += consumed;
        debug_assert!(self.start <= self.bytes.len());
    }
}

/// Free buffers for kept bytes.
#[derive(Debug)]
pub(crate) struct KeptPool {
    // Boxed: a connection holds eight bytes for what it seldom needs, and the box is pooled too.
    #[allow(clippy::vec_box)]
    free: Vec<Box<Kept>>,
    free_bytes: usize,
    max_bytes: usize,
}

impl KeptPool {
    pub(crate) fn new(max_bytes: usize) -> KeptPool {
        KeptPool { free: Vec::new(), free_bytes: 0, max_bytes }
    }

    /// Returns an empty buffer.
    pub(crate) fn take(&mut self) -> Box<Kept> {
        match self.free.pop() {
            Some(kept) => {
                self.free_bytes -= kept.cost();
                kept
            }
            None => Box::new(Kept { bytes: Vec::with_capacity(FRESH_BYTES), start: 0 }),
        }
    }

    /// Keeps a buffer for reuse, unless it is large or the pool is full.
    pub(crate) fn give(&mut self, mut kept: Box<Kept>) {
        let cost = kept.cost();
        if cost <= POOLED_MAX_BYTES && self.free_bytes + cost <= self.max_bytes {
            kept.bytes.clear();
            kept.start = 0;
            self.free_bytes += cost;
            self.free.push(kept);
        }
    }

    pub(crate) fn free_bytes(&self) -> usize {
        self.free_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(i: u32) -> u8 {
        u8::try_from(i % 251).expect("below 251")
    }

    #[test]
    fn kept_bytes_stay_contiguous_through_any_steps() {
        let mut kept = KeptPool::new(1 << 20).take();
        let (mut written, mut read) = (0u32, 0u32);
        for step in 0..2000u32 {
            let data: Vec<u8> = (0..step % 37).map(|i| pattern(written + i)).collect();
            kept.append(&data);
            written += step % 37;
            let part = (kept.len() / 2).min(step as usize % 29);
            for byte in &kept.unread()[..part] {
                assert_eq!(*byte, pattern(read));
                read += 1;
            }
            kept.consume(part);
        }
        assert_eq!(kept.len(), (written - read) as usize);
    }

    #[test]
    fn a_stream_that_is_consumed_does_not_grow_the_buffer() {
        let mut kept = KeptPool::new(0).take();
        for _ in 0..10_000 {
            kept.append(&[1; 100]);
            kept.consume(100);
        }
        assert_eq!(kept.cost(), FRESH_BYTES);
    }

    #[test]
    fn a_large_buffer_is_freed_and_a_small_one_reused() {
        let mut pool = KeptPool::new(1 << 20);
        let mut kept = pool.take();
        kept.append(&vec![1; POOLED_MAX_BYTES + 1]);
        pool.give(kept);
        assert_eq!(pool.free_bytes(), 0);
        let mut kept = pool.take();
        kept.append(b"old");
        pool.give(kept);
        assert_eq!(pool.free_bytes(), FRESH_BYTES);
        assert_eq!((pool.take().len(), pool.free_bytes()), (0, 0));
    }
}
