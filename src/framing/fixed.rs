//! Frames that are all of one size.

use std::convert::Infallible;

use crate::framing::{Cut, Frames, Framing, PayloadError};
use crate::id::ConnId;
use crate::net::{Net, Sent};

/// Frames of one size, without header.
///
/// # Examples
///
/// ```
/// use hotloop::framing::FixedSize;
///
/// let mut frames = FixedSize::new(4).frames(b"tickTOCKti");
/// assert_eq!(frames.next(), Some(Ok(&b"tick"[..])));
/// assert_eq!(frames.next(), Some(Ok(&b"TOCK"[..])));
/// assert_eq!((frames.next(), frames.consumed()), (None, 8));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FixedSize {
    bytes: usize,
}

impl FixedSize {
    /// Makes the framing with so many bytes in every frame.
    ///
    /// # Panics
    ///
    /// If that is 0: there would be any number of frames anywhere. In a `const` this is an error
    /// of the compiler.
    pub const fn new(bytes: usize) -> FixedSize {
        assert!(bytes > 0, "a frame has at least one byte");
        FixedSize { bytes }
    }

    /// Returns what `inbound_max_bytes` has to be at least: one frame.
    pub const fn needs_bytes(self) -> usize {
        self.bytes
    }

    /// Cuts `data`, all that `on_data` shows. There is no error: any bytes are frames.
    #[inline]
    pub fn frames(self, data: &[u8]) -> Frames<'_, FixedSize> {
        Frames::new(self, data)
    }

    /// Writes a frame: all of it or nothing, as [`Net::write`].
    ///
    /// # Errors
    ///
    /// If the payload is not as long as every frame is. Nothing was written.
    pub fn write_frame(
        self,
        net: &mut Net,
        conn: ConnId,
        payload: &[u8],
    ) -> Result<Sent, PayloadError> {
        if payload.len() != self.bytes {
            return Err(PayloadError::WrongSize { len: payload.len(), size: self.bytes });
        }
        Ok(net.write(conn, payload))
    }
}

impl Framing for FixedSize {
    type Error = Infallible;

    #[inline]
    fn cut(&mut self, data: &[u8]) -> Result<Option<Cut>, Infallible> {
        let bytes = self.bytes;
        Ok((data.len() >= bytes).then_some(Cut { frame: 0..bytes, whole_bytes: bytes }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_whole_at_its_last_byte() {
        let data = b"abcdefg";
        for size in 1..=8 {
            for len in 0..=data.len() {
                let mut frames = FixedSize::new(size).frames(&data[..len]);
                let all: Vec<&[u8]> = frames.by_ref().map(|Ok(frame)| frame).collect();
                assert_eq!(all.len(), len / size, "{size} {len}");
                assert_eq!(all.concat(), data[..frames.consumed()]);
                assert_eq!(frames.consumed(), len / size * size);
            }
        }
    }

    #[test]
    #[should_panic(expected = "at least one byte")]
    fn a_size_of_nothing_panics() {
        let _ = FixedSize::new(0);
    }
}
