//! Where the queue of the connection that is being served is, as long as it is short.
//!
//! Most of what a callback writes leaves when the service of its connection ends. It needs no
//! segment of its own: one buffer of the loop holds it, and what the kernel does not take then
//! moves to a segment.

#![allow(clippy::indexing_slicing, reason = "no more is used than there is")]

use crate::sys::memory::AlignedBytes;

/// One chunk of a queue, which is lent to one queue at a time.
#[derive(Debug)]
pub(crate) struct Stage {
    bytes: AlignedBytes,
    used: usize,
    /// A queue has it. It is another connection's turn only if a service was not ended: a panic
    /// has cut it off, or a handler has swapped the `Net`s of two loops.
    is_taken: bool,
}

impl Stage {
    /// Makes one with room for `capacity` bytes.
    pub(crate) fn new(capacity: usize, align: usize) -> Stage {
        Stage { bytes: AlignedBytes::zeroed(capacity, align), used: 0, is_taken: false }
    }

    /// Lends it to a queue, empty; returns whether it was free.
    #[inline]
    pub(crate) fn take(&mut self) -> bool {
        if self.is_taken {
            return false;
        }
        self.used = 0;
        self.is_taken = true;
        true
    }

    /// Takes it back.
    #[inline]
    pub(crate) fn give_back(&mut self) {
        self.is_taken = false;
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
    fn it_is_lent_to_one_queue_at_a_time_and_is_empty_then() {
        let mut stage = Stage::new(8, 64);
        assert!(stage.take());
        assert!(stage.append([&b"abcdefgh"[..]].into_iter(), 8));
        assert!(!stage.take());
        assert_eq!(stage.bytes(), b"abcdefgh");
        stage.give_back();
        assert!(stage.take());
        assert_eq!((stage.bytes(), stage.room()), (&b""[..], 8));
    }
}
