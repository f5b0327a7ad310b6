//! Gathering the pieces of a queue into one vectored send.

use std::io::IoSlice;
use std::mem;

use smallvec::SmallVec;

use crate::segment::Pieces;
use crate::sys::memory::AlignedBytes;

/// A slice costs the kernel about as much as copying this many bytes: smaller pieces are copied.
const COPY_BELOW_BYTES: usize = 2048;
/// What one send copies at most.
const BUFFER_BYTES: usize = 64 << 10;
/// Page-aligned, for the kernel's copy.
const ALIGN: usize = 4096;
/// Far below `IOV_MAX`, and the list stays on the stack.
const SLICES_MAX: usize = 64;

/// What one vectored send offers.
pub(crate) type Slices<'a> = SmallVec<[IoSlice<'a>; SLICES_MAX]>;

/// The memory that small pieces are copied into.
#[derive(Debug)]
pub(crate) struct Gather {
    buffer: AlignedBytes,
}

impl Gather {
    pub(crate) fn new() -> Gather {
        Gather { buffer: AlignedBytes::zeroed(BUFFER_BYTES, ALIGN) }
    }

    /// Fills the empty list with the pieces in order, the first of them at least, until it or the
    /// buffer is full; returns how many bytes it offers. Small pieces that follow each other
    /// share a slice.
    #[inline]
    pub(crate) fn fill<'a>(&'a mut self, pieces: Pieces<'a>, slices: &mut Slices<'a>) -> usize {
        let mut run = Run { free: &mut self.buffer, len: 0 };
        let mut bytes = 0;
        for piece in pieces.map(|piece| piece.bytes) {
            let small = piece.len() < COPY_BELOW_BYTES;
            // A run that is open needs a slice, and so does whatever does not continue it.
            let needed = usize::from(run.len > 0) + usize::from(!small || run.len == 0);
            if slices.len() + needed > SLICES_MAX || (small && !run.append(piece)) {
                break;
            }
            if !small {
                slices.extend(run.end());
                slices.push(IoSlice::new(piece));
            }
            bytes += piece.len();
        }
        slices.extend(run.end());
        bytes
    }
}

/// Small pieces that follow each other, at the start of what is free of the buffer.
struct Run<'a> {
    free: &'a mut [u8],
    len: usize,
}

impl<'a> Run<'a> {
    /// Copies a piece; returns whether there was room.
    #[inline]
    #[allow(clippy::indexing_slicing, reason = "a run is no longer than the buffer it lies in")]
    fn append(&mut self, piece: &[u8]) -> bool {
        let Some(space) = self.free[self.len..].get_mut(..piece.len()) else { return false };
        space.copy_from_slice(piece);
        self.len += piece.len();
        true
    }

    /// Ends the run, if there is one, and begins an empty one behind it.
    #[inline]
    fn end(&mut self) -> Option<IoSlice<'a>> {
        let (run, free) = mem::take(&mut self.free).split_at_mut(mem::take(&mut self.len));
        self.free = free;
        (!run.is_empty()).then(|| IoSlice::new(run))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::segment::{NONE, Segments};

    /// A queue of shared pieces with these lengths, each filled with its own number.
    fn queue(lens: &[usize]) -> (Segments, u32) {
        let mut segments = Segments::new(0);
        let mut first = NONE;
        for (number, len) in lens.iter().enumerate().rev() {
            let fill = u8::try_from(number % 251).expect("below 251");
            let node = segments.share(Bytes::from(vec![fill; *len]));
            segments.node_mut(node).next = first;
            first = node;
        }
        (segments, first)
    }

    /// Returns the lengths of the slices and their bytes.
    fn gathered(lens: &[usize]) -> (Vec<usize>, Vec<u8>) {
        let (segments, first) = queue(lens);
        let mut gather = Gather::new();
        let mut slices = Slices::new();
        let bytes = gather.fill(segments.pieces(first, usize::MAX), &mut slices);
        assert!(!slices.spilled(), "the list stays on the stack");
        assert!(slices.iter().all(|slice| !slice.is_empty()));
        let joined: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        assert_eq!(joined.len(), bytes);
        (slices.iter().map(|slice| slice.len()).collect(), joined)
    }

    fn expected(lens: &[usize]) -> Vec<u8> {
        let (segments, first) = queue(lens);
        segments.pieces(first, usize::MAX).flat_map(|piece| piece.bytes.to_vec()).collect()
    }

    #[test]
    fn small_pieces_share_one_slice() {
        let lens = [1, 2047, 3];
        assert_eq!(gathered(&lens), (vec![2051], expected(&lens)));
    }

    #[test]
    fn large_pieces_stay_where_they_are() {
        let (segments, first) = queue(&[2048, 5000]);
        let at: Vec<_> = segments.pieces(first, usize::MAX).map(|p| p.bytes.as_ptr()).collect();
        let mut gather = Gather::new();
        let mut slices = Slices::new();
        assert_eq!(gather.fill(segments.pieces(first, usize::MAX), &mut slices), 7048);
        assert_eq!(slices.iter().map(|slice| slice.as_ptr()).collect::<Vec<_>>(), at);
    }

    #[test]
    fn a_mix_keeps_its_order() {
        let lens = [10, 20, 4096, 5, 3000, 2500, 1, 2, 3];
        assert_eq!(gathered(&lens), (vec![30, 4096, 5, 3000, 2500, 6], expected(&lens)));
    }

    #[test]
    fn more_pieces_than_slices_are_offered_if_they_are_small() {
        let lens = [100; 600];
        assert_eq!(gathered(&lens), (vec![60_000], expected(&lens)));
    }

    #[test]
    fn the_list_ends_when_it_is_full() {
        let lens = [2048; 65];
        assert_eq!(gathered(&lens), (vec![2048; 64], expected(&lens[..64])));
    }

    #[test]
    fn an_open_run_counts_as_a_slice() {
        // 63 slices; then a run takes the last one, goes on, and leaves none for a large piece.
        let mut lens = vec![2048; 63];
        lens.extend([7, 8, 2048]);
        let (slices, bytes) = gathered(&lens);
        assert_eq!((slices.len(), slices[63]), (64, 15));
        assert_eq!(bytes, expected(&lens[..65]));
    }

    #[test]
    fn no_run_is_begun_in_a_full_list() {
        let mut lens = vec![2048; 64];
        lens.push(7);
        assert_eq!(gathered(&lens), (vec![2048; 64], expected(&lens[..64])));
    }

    #[test]
    fn the_list_ends_when_the_buffer_is_full() {
        // 64 KiB hold 64 pieces of 1,000 bytes and 1,536 bytes more, with large ones between.
        let mut lens = vec![1000; 64];
        lens.extend([4000, 1536, 1, 4000]);
        let (slices, bytes) = gathered(&lens);
        assert_eq!(slices, [64_000, 4000, 1536]);
        assert_eq!(bytes, expected(&lens[..66]));
    }
}
