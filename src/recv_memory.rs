//! Where received bytes live while a handler looks at them.
//!
//! The memory is a sibling of `Net` in `Loop`, so that a callback can borrow bytes of it while it
//! holds `&mut Net`.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::sys::memory::AlignedBytes;

/// Page-aligned: at an offset of 8 a receive of 64 KiB takes four times as long.
const ALIGN: usize = 4096;

/// A range of the receive memory that a backend lends to the core until it is released.
#[derive(Debug)]
pub(crate) struct Lent {
    memory: u32,
    start: u32,
    len: u32,
    /// The backend's name for the buffer, if it has to be given back by `Backend::release`.
    pub(crate) buffer: Option<u32>,
}

impl Lent {
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }
}

/// The receive memory of one loop.
#[derive(Debug)]
pub(crate) struct RecvMemory {
    id: u32,
    bytes: AlignedBytes,
}

impl RecvMemory {
    /// Makes a memory of `len` bytes, at most 2^30.
    pub(crate) fn new(len: usize) -> RecvMemory {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        RecvMemory { id, bytes: AlignedBytes::zeroed(len, ALIGN) }
    }

    /// The space a backend receives into.
    #[inline]
    pub(crate) fn space(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Describes `len` bytes at `start` as lent. The range has to lie within the memory.
    #[inline]
    #[allow(clippy::expect_used, reason = "the configuration bounds the memory")]
    pub(crate) fn lend(&self, start: usize, len: usize, buffer: Option<u32>) -> Lent {
        assert!(start + len <= self.bytes.len(), "a backend lends what it has");
        let start = u32::try_from(start).expect("the memory is at most 2^30 bytes");
        let len = u32::try_from(len).expect("the memory is at most 2^30 bytes");
        Lent { memory: self.id, start, len, buffer }
    }

    /// Returns the bytes of a lent range, which has to be one of this memory's.
    #[inline]
    #[allow(clippy::indexing_slicing, reason = "`lend` has checked the range")]
    pub(crate) fn resolve(&self, lent: &Lent) -> &[u8] {
        assert_eq!(lent.memory, self.id, "a range is resolved in the memory that lent it");
        &self.bytes[lent.start as usize..][..lent.len as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lent_range_shows_the_bytes_received() {
        let mut memory = RecvMemory::new(1024);
        memory.space()[3..6].copy_from_slice(b"abc");
        let lent = memory.lend(3, 3, None);
        assert_eq!((memory.resolve(&lent), lent.len()), (&b"abc"[..], 3));
    }

    #[test]
    #[should_panic(expected = "the memory that lent it")]
    fn a_range_of_another_memory_is_refused() {
        let (one, other) = (RecvMemory::new(1024), RecvMemory::new(1024));
        other.resolve(&one.lend(0, 1, None));
    }
}
