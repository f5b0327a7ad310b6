//! Cuts the bytes of a connection into frames, without copies: [`Lines`], [`LengthPrefix`],
//! [`FixedSize`], or a [`Framing`] of your own.
//!
//! TCP is a stream: [`on_data`](crate::Handler::on_data) shows pieces of any size, half a message
//! or a thousand of them. What it does not consume is shown again, first and contiguous with what
//! follows (contract C7). That is all that cutting needs, so a framing is a small `Copy` value
//! without a buffer, the same one for all connections. [`Frames`] yields slices of `data` and
//! counts what they used up:
//!
//! ```
//! use hotloop::framing::LengthPrefix;
//! use hotloop::{ConnId, Handler, Net};
//!
//! struct Server {
//!     framing: LengthPrefix,
//! }
//!
//! impl Handler for Server {
//!     fn on_data(&mut self, net: &mut Net, conn: ConnId, data: &[u8]) -> usize {
//!         let mut frames = self.framing.frames(data);
//!         for frame in &mut frames {
//!             match frame {
//!                 Ok(frame) => self.serve(net, conn, frame),
//!                 Err(error) => {
//!                     eprintln!("{conn}: {error}");
//!                     net.abort(conn);
//!                 }
//!             }
//!             if !net.is_reading(conn) {
//!                 break; // closed or paused
//!             }
//!         }
//!         frames.consumed()
//!     }
//! }
//!
//! impl Server {
//!     fn serve(&mut self, net: &mut Net, conn: ConnId, frame: &[u8]) {
//!         let answer = frame.to_ascii_uppercase();
//!         if self.framing.write_frame(net, conn, &answer).is_err() {
//!             net.close(conn); // longer than the framing allows
//!         }
//!     }
//! }
//! # let _ = Server { framing: LengthPrefix::u32_be(64 << 10) };
//! ```
//!
//! # Stopping in the middle
//!
//! The loop above ends early if [`is_reading`](crate::Net::is_reading) says no. That covers both
//! reasons to stop:
//!
//! - **The connection was closed or aborted**, for an error or by the frame itself. More frames
//!   would be served for nobody, and writes answer [`Closed`](crate::Sent::Closed). Whatever is
//!   returned is right: what is left is discarded.
//! - **Reading was paused**, because a write was [`Pressured`](crate::Sent::Pressured).
//!   [`Frames::consumed`] counts the frames that were yielded; the others come again after
//!   [`resume_reading`](crate::Net::resume_reading). If the frame itself could not be served, as
//!   when its answer was [`Refused`](crate::Sent::Refused), [`Frames::put_back`] makes it come
//!   again, too.
//!
//! A handler that stops for another reason, so many frames per turn for example, has to pause or
//! to call `resume_reading` itself: what it leaves is shown again only with new bytes or after
//! that.
//!
//! # How much a peer can make the loop keep
//!
//! Each framing has a maximum, which has no default: only the protocol knows it. It is compared
//! with a length prefix as soon as that is there, and with a line as soon as it is too long
//! whatever follows: nothing of a frame that is too long is kept for its rest to come. A frame
//! that is allowed takes memory only as its bytes arrive, however much its prefix announces.
//!
//! **A frame has to fit into [`inbound_max_bytes`](crate::ConnOptions::inbound_max_bytes)**, 1 MiB
//! unless set: a connection that leaves more unconsumed than that is closed with
//! [`LimitKind::Inbound`](crate::LimitKind::Inbound), and a longer frame, maximum or not, is never
//! delivered. Set it from the framing's `needs_bytes`; a handler that pauses amid frames adds one
//! receive, [`recv_buffer_bytes`](crate::Config::recv_buffer_bytes):
//!
//! ```
//! use hotloop::framing::LengthPrefix;
//! use hotloop::{Config, ConnOptions};
//!
//! const FRAMING: LengthPrefix = LengthPrefix::u32_be(4 << 20);
//!
//! let options = ConnOptions::default().inbound_max_bytes(FRAMING.needs_bytes() + (64 << 10));
//! let config = Config::default().recv_buffer_bytes(64 << 10).conn(options);
//! # let _ = config;
//! ```
//!
//! # A peer that sends one byte at a time
//!
//! Each byte is a call of `on_data` with all of the frame so far. A length prefix is read anew, a
//! few instructions. A line without end is searched anew, at some 28 GB/s: at a maximum of 8 KiB
//! that is 0.3 µs in the worst case, beside microseconds for the receive itself. For longer lines
//! there is [`LineScan`], which remembers how far was searched.
//!
//! # The end of the stream
//!
//! A frame that the peer's FIN cuts off is the `rest` of
//! [`on_read_closed`](crate::Handler::on_read_closed). Whether a last line without its end counts
//! is for the protocol to say; a part of a frame with a length never does.
//!
//! # Writing
//!
//! `write_frame` of each framing writes a frame whole or not at all, in one write: a header that
//! was taken before a payload that was [`Refused`](crate::Sent::Refused) would ruin the stream.
//! The payload is copied once, into the queue behind its header
//! ([`Net::write_vectored`](crate::Net::write_vectored)). What many connections are sent is made
//! once by [`LengthPrefix::encode`] and queued by [`Net::write_shared`](crate::Net::write_shared).

mod error;
mod fixed;
mod lines;
mod prefix;

use std::fmt;
use std::ops::Range;

pub use error::{FrameError, PayloadError};
pub use fixed::FixedSize;
pub use lines::{LineScan, Lines, ScannedLines};
pub use prefix::{LengthPrefix, Prefix};

/// A way to cut a stream into frames. Implement it for a header of your own, and have
/// [`Frames::new`] do the counting.
///
/// # Examples
///
/// A type, a length of three bytes, and the payload:
///
/// ```
/// use hotloop::framing::{Cut, FrameError, Frames, Framing};
///
/// struct Typed;
///
/// impl Framing for Typed {
///     type Error = FrameError;
///
///     fn cut(&mut self, data: &[u8]) -> Result<Option<Cut>, FrameError> {
///         let Some(&[_, high, mid, low]) = data.first_chunk() else { return Ok(None) };
///         let len = u32::from_be_bytes([0, high, mid, low]);
///         if len > 16_384 {
///             return Err(FrameError::TooLong { len: len.into(), max: 16_384 });
///         }
///         let end = 4 + len as usize;
///         // The frame with its type, which says what it is.
///         Ok((data.len() >= end).then_some(Cut { frame: 0..end, whole_bytes: end }))
///     }
/// }
///
/// let mut frames = Frames::new(Typed, b"\x07\0\0\x02hi\x08\0\0\x09part");
/// assert_eq!(frames.next(), Some(Ok(&b"\x07\0\0\x02hi"[..])));
/// assert_eq!((frames.next(), frames.consumed()), (None, 6));
/// ```
pub trait Framing {
    /// Why there are no further frames.
    type Error;

    /// Finds the frame that `data` begins with; `None`: not all of it is there. `data` may be
    /// empty, and may hold any number of frames.
    ///
    /// # Errors
    ///
    /// If `data` begins with no frame, and would not with any bytes behind it. That should be said
    /// as early as it is certain, and before there is as much as `inbound_max_bytes`.
    fn cut(&mut self, data: &[u8]) -> Result<Option<Cut>, Self::Error>;
}

/// Where a frame is in the bytes that begin with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// What is yielded.
    pub frame: Range<usize>,
    /// How many bytes it takes with all that belongs to it, at least 1: the next frame begins
    /// there.
    pub whole_bytes: usize,
}

/// The frames that the bytes of one [`on_data`](crate::Handler::on_data) begin with, in order.
///
/// An iterator over `Result`s: slices of the data, without copy or allocation, then perhaps one
/// error, then `None`. See the [module](self) for the loop around it.
///
/// # Examples
///
/// ```
/// use hotloop::framing::{FrameError, LengthPrefix};
///
/// let mut frames = LengthPrefix::u8(5).frames(b"\x05hello\x00\x02hi\x06x");
/// assert_eq!(frames.next(), Some(Ok(&b"hello"[..])));
/// assert_eq!(frames.next(), Some(Ok(&b""[..])));
/// assert_eq!(frames.next(), Some(Ok(&b"hi"[..])));
/// assert_eq!(frames.next(), Some(Err(FrameError::TooLong { len: 6, max: 5 })));
/// assert_eq!(frames.next(), None);
/// assert_eq!(frames.consumed(), 10);
/// ```
#[derive(Clone)]
pub struct Frames<'a, F> {
    framing: F,
    data: &'a [u8],
    consumed: usize,
    /// What the frame took that was yielded by the last call, if one was.
    last_bytes: usize,
    failed: bool,
}

impl<'a, F: Framing> Frames<'a, F> {
    /// Begins to cut `data`, all that `on_data` shows.
    pub fn new(framing: F, data: &'a [u8]) -> Frames<'a, F> {
        Frames { framing, data, consumed: 0, last_bytes: 0, failed: false }
    }
}

impl<'a, F> Frames<'a, F> {
    /// Returns how many bytes the frames took that were yielded: what
    /// [`on_data`](crate::Handler::on_data) returns.
    #[inline]
    pub fn consumed(&self) -> usize {
        self.consumed
    }

    /// Returns the bytes behind the frames that were yielded.
    #[allow(clippy::indexing_slicing, reason = "what was consumed was there")]
    pub fn rest(&self) -> &'a [u8] {
        &self.data[self.consumed..]
    }

    /// Takes the frame back that was just yielded: it does not count as consumed, so that it is
    /// the first one in the next `on_data`. Returns whether there was one to take back: there is
    /// none after an error, after `None`, and twice.
    pub fn put_back(&mut self) -> bool {
        let bytes = std::mem::take(&mut self.last_bytes);
        self.consumed -= bytes;
        bytes > 0
    }
}

impl<'a, F: Framing> Iterator for Frames<'a, F> {
    type Item = Result<&'a [u8], F::Error>;

    /// Yields the next frame if all of it is there.
    ///
    /// # Panics
    ///
    /// If a [`Framing`] of yours cuts what is not there, or nothing.
    #[inline]
    #[allow(
        clippy::indexing_slicing,
        reason = "documented: a framing of the user's is to cut what is there"
    )]
    fn next(&mut self) -> Option<Self::Item> {
        self.last_bytes = 0;
        if self.failed {
            return None;
        }
        let data = self.rest();
        let Cut { frame, whole_bytes } = match self.framing.cut(data) {
            Ok(cut) => cut?,
            Err(error) => {
                self.failed = true;
                return Some(Err(error));
            }
        };
        assert!((1..=data.len()).contains(&whole_bytes), "{whole_bytes} of {} bytes", data.len());
        self.consumed += whole_bytes;
        self.last_bytes = whole_bytes;
        Some(Ok(&data[frame]))
    }
}

impl<F: fmt::Debug> fmt::Debug for Frames<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frames")
            .field("framing", &self.framing)
            .field("data", &format_args!("{} bytes", self.data.len()))
            .field("consumed", &self.consumed)
            .field("failed", &self.failed)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_put_back_once_and_only_right_after_it() {
        let mut frames = LengthPrefix::u8(1).frames(b"\x01a\x01b\x02");
        assert!(!frames.put_back(), "none was yielded");
        assert_eq!(frames.next(), Some(Ok(&b"a"[..])));
        assert_eq!(frames.next(), Some(Ok(&b"b"[..])));
        assert!(frames.put_back());
        assert!(!frames.put_back());
        assert_eq!((frames.consumed(), frames.rest()), (2, &b"\x01b\x02"[..]));
        assert_eq!(frames.next(), Some(Ok(&b"b"[..])));
        assert!(matches!(frames.next(), Some(Err(_))));
        assert!(!frames.put_back(), "an error is no frame");
        assert_eq!((frames.consumed(), frames.next()), (4, None));
    }

    #[test]
    fn nothing_is_put_back_after_the_last_frame_was_followed_by_none() {
        let mut frames = FixedSize::new(1).frames(b"a");
        assert_eq!((frames.next(), frames.next()), (Some(Ok(&b"a"[..])), None));
        assert!(!frames.put_back());
        assert_eq!(frames.consumed(), 1);
    }

    struct Liar(usize);

    impl Framing for Liar {
        type Error = FrameError;

        fn cut(&mut self, _: &[u8]) -> Result<Option<Cut>, FrameError> {
            Ok(Some(Cut { frame: 0..0, whole_bytes: self.0 }))
        }
    }

    #[test]
    #[should_panic(expected = "0 of 3 bytes")]
    fn a_framing_that_takes_nothing_for_ever_panics() {
        let _ = Frames::new(Liar(0), b"abc").count();
    }

    #[test]
    #[should_panic(expected = "4 of 3 bytes")]
    fn a_framing_that_takes_what_is_not_there_panics() {
        let _ = Frames::new(Liar(4), b"abc").count();
    }
}
