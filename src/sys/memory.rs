//! Aligned heap memory.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// A fixed number of bytes on the heap, at an address that is a multiple of the alignment.
pub(crate) struct AlignedBytes {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the bytes belong to this value alone, as those of a `Box<[u8]>` do.
unsafe impl Send for AlignedBytes {}
// SAFETY: shared access only reads, as with a `Box<[u8]>`.
unsafe impl Sync for AlignedBytes {}

impl AlignedBytes {
    /// Allocates `len` zeros. `len` is at least 1, `align` a power of two.
    #[allow(
        clippy::expect_used,
        reason = "documented, and its callers' sizes are constants or checked"
    )]
    pub(crate) fn zeroed(len: usize, align: usize) -> AlignedBytes {
        assert!(len > 0, "an empty allocation has no address");
        let layout = Layout::from_size_align(len, align).expect("a power of two, and no overflow");
        // SAFETY: the layout's size is not zero.
        let start = unsafe { alloc_zeroed(layout) };
        let start = NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout));
        AlignedBytes { start, layout }
    }
}

impl Deref for AlignedBytes {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: `start` points to `size` initialised bytes that live as long as `self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.layout.size()) }
    }
}

impl DerefMut for AlignedBytes {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `&mut self` makes the access unique.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.layout.size()) }
    }
}

impl Drop for AlignedBytes {
    fn drop(&mut self) {
        // SAFETY: allocated in `zeroed` with this very layout, and freed once.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

impl fmt::Debug for AlignedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedBytes({} at {})", self.layout.size(), self.layout.align())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_aligned_zeroed_and_writable() {
        let mut bytes = AlignedBytes::zeroed(100, 4096);
        assert_eq!(bytes.as_ptr() as usize % 4096, 0);
        assert!(bytes.iter().all(|byte| *byte == 0));
        bytes[99] = 7;
        assert_eq!((bytes.len(), bytes[99]), (100, 7));
    }
}
