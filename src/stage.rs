//! Where the queue of the connection that is being served is, as long as it is short.
//!
//! Most of what a callback writes leaves when the service of its connection ends. It needs no
//! segment of its own: one buffer of the loop holds it, and what the kernel does not take then
//! moves to a segment.

#![allow(clippy::indexing_slicing, reason = "no more is used than there is")]

use crate::sys::memory::AlignedBytes;

/// One chunk of a queue, which belongs to no queue: the last one that has begun it.
#[derive(Debug)]
pub(crate) struct Stage {
    bytes: AlignedBytes,
    used: usize,
}

impl Stage {
    /// Makes one with room for `capacity` bytes.
    pub(crate) fn new(capacity: usize, align: usize) -> Stage {
        Stage { bytes: AlignedBytes::zeroed(capacity, align), used: 0 }
    }

    /// Forgets what it holds: it is another queue's now.
    #[inline]
    pub(crate) fn begin(&mut self) {
        self.used = 0;
    }

    /// Appends all of the pieces, which are `len` bytes, or nothing; returns whether it did.
    #[inline]
    pub(crate) fn append<'a>(
        &mut self,
        pieces: impl Iterator<Item = &'a [u8]>,
        len: usize,
    ) -> bool {
        if len > self.room() {
            return false;
        }
        for piece in pieces {
            self.bytes[self.used..][..piece.len()].copy_from_slice(piece);
            self.used += piece.len();
        }
        true
    }

    /// Returns how much it has room for.
    #[inline]
    pub(crate) fn room(&self) -> usize {
        self.bytes.len() - self.used
    }

    /// Returns what it holds.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.used]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_a_write_is_appended_or_nothing() {
        let mut stage = Stage::new(8, 64);
        assert!(stage.append([&b"abc"[..], b"", b"de"].into_iter(), 5));
        assert!(!stage.append([&b"fghi"[..]].into_iter(), 4));
        assert_eq!((stage.bytes(), stage.room()), (&b"abcde"[..], 3));
        assert!(stage.append([&b"fgh"[..]].into_iter(), 3));
        assert!(stage.append([].into_iter(), 0));
        assert_eq!((stage.bytes(), stage.room()), (&b"abcdefgh"[..], 0));
    }

    #[test]
    fn another_queue_begins_with_all_of_it() {
        let mut stage = Stage::new(8, 64);
        assert!(stage.append([&b"abcdefgh"[..]].into_iter(), 8));
        stage.begin();
        assert_eq!((stage.bytes(), stage.room()), (&b""[..], 8));
    }
}
