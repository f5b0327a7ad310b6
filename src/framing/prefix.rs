//! Frames behind their length.

use std::fmt;
use std::iter::once;
use std::ops::Deref;

use bytes::Bytes;

use crate::framing::{Cut, FrameError, Frames, Framing, PayloadError};
use crate::id::ConnId;
use crate::net::{Net, Sent};

/// The longest varint there is: 64 bits, seven in each byte.
const VARINT_MAX_BYTES: usize = 10;

/// Frames behind a prefix that says how long they are.
///
/// The length is that of the payload alone, without the prefix. (Where a protocol counts the
/// prefix as well, as that of PostgreSQL does, [`Framing`] is quickly implemented.) A length of 0
/// is a frame, an empty one.
///
/// # Varints
///
/// As in Protocol Buffers: unsigned LEB128, seven bits in each byte, the lowest first, the eighth
/// bit set in all but the last; at most ten bytes. So what others write as a `uint32` or a
/// `uint64` is read alike. A value has one encoding, the shortest: `80 00` for 0 is refused as
/// [`FrameError::BadVarint`]. Encoders of messages write no other, and two parties that disagree
/// about what the same frame is, byte for byte, are what attackers look for.
///
/// # Examples
///
/// ```
/// use hotloop::framing::LengthPrefix;
///
/// let framing = LengthPrefix::u16_be(1000);
/// let mut frames = framing.frames(b"\x00\x05hello\x00\x02h");
/// assert_eq!(frames.next(), Some(Ok(&b"hello"[..])));
/// assert_eq!((frames.next(), frames.consumed()), (None, 7));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LengthPrefix {
    width: Width,
    max_bytes: usize,
}

/// What the length is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Width {
    U8,
    U16Be,
    U16Le,
    U32Be,
    U32Le,
    Varint,
}

impl LengthPrefix {
    /// Makes the framing for a prefix of one byte and at most `max_bytes` of payload; more than
    /// 255 is 255.
    pub const fn u8(max_bytes: usize) -> LengthPrefix {
        LengthPrefix::new(Width::U8, max_bytes, u8::MAX as usize)
    }

    /// Makes the framing for a prefix of two bytes, the high one first, and at most `max_bytes` of
    /// payload; more than 65,535 is 65,535.
    pub const fn u16_be(max_bytes: usize) -> LengthPrefix {
        LengthPrefix::new(Width::U16Be, max_bytes, u16::MAX as usize)
    }

    /// Makes the framing for a prefix of two bytes, the low one first, and at most `max_bytes` of
    /// payload; more than 65,535 is 65,535.
    pub const fn u16_le(max_bytes: usize) -> LengthPrefix {
        LengthPrefix::new(Width::U16Le, max_bytes, u16::MAX as usize)
    }

    /// Makes the framing for a prefix of four bytes, the highest first, and at most `max_bytes` of
    /// payload; more than 2³² − 1 is that.
    pub const fn u32_be(max_bytes: usize) -> LengthPrefix {
        LengthPrefix::new(Width::U32Be, max_bytes, u32::MAX as usize)
    }

    /// Makes the framing for a prefix of four bytes, the lowest first, and at most `max_bytes` of
    /// payload; more than 2³² − 1 is that.
    pub const fn u32_le(max_bytes: usize) -> LengthPrefix {
        LengthPrefix::new(Width::U32Le, max_bytes, u32::MAX as usize)
    }

    /// Makes the framing for a [varint](LengthPrefix#varints) and at most `max_bytes` of payload.
    pub const fn varint(max_bytes: usize) -> LengthPrefix {
        LengthPrefix::new(Width::Varint, max_bytes, usize::MAX)
    }

    const fn new(width: Width, max_bytes: usize, width_max: usize) -> LengthPrefix {
        LengthPrefix { width, max_bytes: if max_bytes < width_max { max_bytes } else { width_max } }
    }

    /// Returns how long a payload may be, in bytes.
    pub const fn max_bytes(self) -> usize {
        self.max_bytes
    }

    /// Returns what `inbound_max_bytes` has to be at least: the longest frame with its prefix, or
    /// the longest varint, which is read to its end to say what is wrong with it.
    pub const fn needs_bytes(self) -> usize {
        let (prefix_bytes, least) = match self.width {
            Width::U8 => (1, 1),
            Width::U16Be | Width::U16Le => (2, 2),
            Width::U32Be | Width::U32Le => (4, 4),
            Width::Varint => (varint_bytes(self.max_bytes as u64), VARINT_MAX_BYTES),
        };
        let frame_bytes = self.max_bytes.saturating_add(prefix_bytes);
        if frame_bytes > least { frame_bytes } else { least }
    }

    /// Cuts `data`, all that `on_data` shows.
    #[inline]
    pub fn frames(self, data: &[u8]) -> Frames<'_, LengthPrefix> {
        Frames::new(self, data)
    }

    /// Returns the prefix of a payload of so many bytes.
    ///
    /// # Errors
    ///
    /// If it is longer than is allowed.
    #[inline]
    pub fn prefix_of(self, payload_bytes: usize) -> Result<Prefix, PayloadError> {
        if payload_bytes > self.max_bytes {
            return Err(PayloadError::TooLong { len: payload_bytes, max: self.max_bytes });
        }
        // Cut off to the width: the maximum is within it.
        let len = payload_bytes as u64;
        let [b0, b1, b2, b3, ..] = len.to_le_bytes();
        Ok(match self.width {
            Width::U8 => Prefix::of(&[b0]),
            Width::U16Be => Prefix::of(&[b1, b0]),
            Width::U16Le => Prefix::of(&[b0, b1]),
            Width::U32Be => Prefix::of(&[b3, b2, b1, b0]),
            Width::U32Le => Prefix::of(&[b0, b1, b2, b3]),
            Width::Varint => Prefix::varint(len),
        })
    }

    /// Writes a frame, prefix and payload: all of it or nothing, as [`Net::write`]. The payload is
    /// copied once.
    ///
    /// # Errors
    ///
    /// If the payload is longer than is allowed. Nothing was written.
    ///
    /// # Examples
    ///
    /// ```
    /// use hotloop::framing::{LengthPrefix, PayloadError};
    /// use hotloop::{ConnId, Net, Sent};
    ///
    /// fn answer(net: &mut Net, conn: ConnId, text: &str) -> Result<Sent, PayloadError> {
    ///     LengthPrefix::varint(64 << 10).write_frame(net, conn, text.as_bytes())
    /// }
    /// ```
    #[inline]
    pub fn write_frame(
        self,
        net: &mut Net,
        conn: ConnId,
        payload: &[u8],
    ) -> Result<Sent, PayloadError> {
        let prefix = self.prefix_of(payload.len())?;
        Ok(net.write_vectored(conn, &[&prefix, payload]))
    }

    /// Writes a frame whose payload is in several parts, a header of yours and a body for example,
    /// as [`write_frame`](LengthPrefix::write_frame).
    ///
    /// # Errors
    ///
    /// If the parts together are longer than is allowed. Nothing was written.
    pub fn write_frame_of(
        self,
        net: &mut Net,
        conn: ConnId,
        parts: &[&[u8]],
    ) -> Result<Sent, PayloadError> {
        let len = parts.iter().fold(0, |len: usize, part| len.saturating_add(part.len()));
        let prefix = self.prefix_of(len)?;
        Ok(net.write_gathered(conn, once(&*prefix).chain(parts.iter().copied())))
    }

    /// Makes a frame to be shared: what many connections are sent is encoded and stored once, and
    /// queued by [`Net::write_shared`]. Allocates.
    ///
    /// # Errors
    ///
    /// If the payload is longer than is allowed.
    ///
    /// # Examples
    ///
    /// ```
    /// use hotloop::framing::LengthPrefix;
    ///
    /// let frame = LengthPrefix::u32_le(100).encode(b"hello")?;
    /// assert_eq!(frame, &b"\x05\0\0\0hello"[..]);
    /// # Ok::<(), hotloop::framing::PayloadError>(())
    /// ```
    pub fn encode(self, payload: &[u8]) -> Result<Bytes, PayloadError> {
        let prefix = self.prefix_of(payload.len())?;
        Ok([&prefix, payload].concat().into())
    }

    /// Reads the prefix that `data` begins with, if all of it is there: the length, and how many
    /// bytes say it.
    #[inline]
    fn read(self, data: &[u8]) -> Result<Option<(u64, usize)>, FrameError> {
        let two = |read: fn([u8; 2]) -> u16| Some((read(*data.first_chunk()?).into(), 2));
        let four = |read: fn([u8; 4]) -> u32| Some((read(*data.first_chunk()?).into(), 4));
        Ok(match self.width {
            Width::U8 => data.first().map(|len| (u64::from(*len), 1)),
            Width::U16Be => two(u16::from_be_bytes),
            Width::U16Le => two(u16::from_le_bytes),
            Width::U32Be => four(u32::from_be_bytes),
            Width::U32Le => four(u32::from_le_bytes),
            Width::Varint => return read_varint(data),
        })
    }
}

impl Framing for LengthPrefix {
    type Error = FrameError;

    #[inline]
    fn cut(&mut self, data: &[u8]) -> Result<Option<Cut>, FrameError> {
        let Some((len, start)) = self.read(data)? else { return Ok(None) };
        let max = self.max_bytes;
        let payload_bytes = usize::try_from(len).ok().filter(|len| *len <= max);
        let Some(payload_bytes) = payload_bytes else {
            return Err(FrameError::TooLong { len, max });
        };
        if data.len() - start < payload_bytes {
            return Ok(None);
        }
        let end = start + payload_bytes;
        Ok(Some(Cut { frame: start..end, whole_bytes: end }))
    }
}

/// The bytes of one length prefix, without allocation.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Prefix {
    bytes: [u8; VARINT_MAX_BYTES],
    len: u8,
}

impl Prefix {
    #[inline]
    fn of<const N: usize>(bytes: &[u8; N]) -> Prefix {
        let mut prefix = Prefix { bytes: [0; VARINT_MAX_BYTES], len: 0 };
        bytes.iter().for_each(|byte| prefix.push(*byte));
        prefix
    }

    #[inline]
    fn varint(mut value: u64) -> Prefix {
        let mut prefix = Prefix::of(&[]);
        while value > 0x7f {
            prefix.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        prefix.push(value.to_le_bytes()[0]);
        prefix
    }

    #[inline]
    #[allow(clippy::indexing_slicing, reason = "there is room for the widest prefix")]
    fn push(&mut self, byte: u8) {
        self.bytes[usize::from(self.len)] = byte;
        self.len += 1;
    }
}

impl Deref for Prefix {
    type Target = [u8];

    #[inline]
    #[allow(clippy::indexing_slicing, reason = "`push` counts within the array")]
    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl AsRef<[u8]> for Prefix {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Prefix({:02x?})", &**self)
    }
}

/// Returns how many bytes the shortest varint of a value has.
const fn varint_bytes(value: u64) -> usize {
    // 0 has one digit, too.
    ((value | 1).ilog2() / 7 + 1) as usize
}

/// Reads a varint: the value, and how many bytes say it; `None`: not all of it is there.
#[inline]
fn read_varint(data: &[u8]) -> Result<Option<(u64, usize)>, FrameError> {
    let mut value = 0;
    for (index, byte) in data.iter().take(VARINT_MAX_BYTES).enumerate() {
        let is_last = byte & 0x80 == 0;
        let bits = u64::from(byte & 0x7f);
        // The tenth byte has room for the sixty-fourth bit alone.
        let overflows = index == VARINT_MAX_BYTES - 1 && (bits > 1 || !is_last);
        let is_padded = is_last && bits == 0 && index > 0;
        if overflows || is_padded {
            return Err(FrameError::BadVarint);
        }
        value |= bits << (7 * index);
        if is_last {
            return Ok(Some((value, index + 1)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Make = fn(usize) -> LengthPrefix;

    const ALL: [Make; 6] = [
        LengthPrefix::u8,
        LengthPrefix::u16_be,
        LengthPrefix::u16_le,
        LengthPrefix::u32_be,
        LengthPrefix::u32_le,
        LengthPrefix::varint,
    ];

    fn first(framing: LengthPrefix, data: &[u8]) -> Option<Result<&[u8], FrameError>> {
        framing.frames(data).next()
    }

    #[test]
    fn the_bytes_of_each_prefix_are_the_protocols() {
        let prefixes = ALL.map(|make| make(300).prefix_of(200).expect("short enough").to_vec());
        let expected =
            [&[200][..], &[0, 200], &[200, 0], &[0, 0, 0, 200], &[200, 0, 0, 0], &[0xc8, 0x01]];
        assert_eq!(prefixes, expected);
        let long = LengthPrefix::u32_be(usize::MAX).prefix_of(0x0102_0304).expect("it fits");
        assert_eq!(&*long, [1, 2, 3, 4]);
        assert_eq!(format!("{long:?}"), "Prefix([01, 02, 03, 04])");
    }

    #[test]
    fn a_frame_may_be_split_at_every_byte() {
        for make in ALL {
            let framing = make(200);
            for len in [0, 1, 127, 128, 200] {
                let payload = vec![0xff; len];
                let whole = framing.encode(&payload).expect("short enough");
                for split in 0..whole.len() {
                    assert_eq!(first(framing, &whole[..split]), None, "{framing:?} {split}");
                }
                let mut frames = framing.frames(&whole);
                assert_eq!(frames.next(), Some(Ok(&payload[..])), "{framing:?}");
                assert_eq!(frames.consumed(), whole.len());
            }
        }
    }

    #[test]
    fn the_maximum_is_allowed_and_one_more_is_refused_by_its_prefix_alone() {
        for make in ALL {
            for max in [0, 1, 127, 128, 254] {
                let framing = make(max);
                let whole = framing.encode(&vec![1; max]).expect("as much as is allowed");
                let least = if framing.width == Width::Varint { 10 } else { 0 };
                assert_eq!(framing.needs_bytes(), whole.len().max(least), "{framing:?}");
                assert!(matches!(first(framing, &whole), Some(Ok(_))), "{framing:?}");
                let prefix = make(255).prefix_of(max + 1).expect("short enough");
                let len = max as u64 + 1;
                let error = FrameError::TooLong { len, max };
                assert_eq!(first(framing, &prefix), Some(Err(error)), "{framing:?}");
                let error = PayloadError::TooLong { len: max + 1, max };
                assert_eq!(framing.encode(&vec![1; max + 1]), Err(error), "{framing:?}");
            }
        }
    }

    #[test]
    fn no_maximum_is_more_than_the_prefix_can_say() {
        assert_eq!(LengthPrefix::u8(256).max_bytes(), 255);
        assert_eq!(LengthPrefix::u16_le(1 << 20).needs_bytes(), 65_537);
        assert_eq!(LengthPrefix::u32_be(usize::MAX).max_bytes() as u64, u64::from(u32::MAX));
        assert_eq!(LengthPrefix::varint(usize::MAX).needs_bytes(), usize::MAX);
        let huge = first(LengthPrefix::varint(usize::MAX), b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f");
        assert_eq!(huge, None, "it is waited for");
    }

    #[test]
    fn a_varint_has_one_encoding() {
        let values = [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), 1 << 63, u64::MAX];
        for value in values {
            let shortest = Prefix::varint(value);
            assert_eq!(shortest.len(), varint_bytes(value), "{value}");
            assert_eq!(read_varint(&shortest), Ok(Some((value, shortest.len()))));
            for split in 0..shortest.len() {
                assert_eq!(read_varint(&shortest[..split]), Ok(None), "{value}");
            }
            let mut padded = shortest.to_vec();
            *padded.last_mut().expect("at least one byte") |= 0x80;
            padded.push(0);
            assert_eq!(read_varint(&padded), Err(FrameError::BadVarint), "{value}");
        }
    }

    #[test]
    fn a_varint_has_at_most_64_bits() {
        let nine = [0xff; 9];
        let read = |last: u8| read_varint(&[&nine[..], &[last]].concat());
        assert_eq!(read(1), Ok(Some((u64::MAX, 10))));
        for last in [2, 0x7f, 0x80, 0x81, 0xff] {
            assert_eq!(read(last), Err(FrameError::BadVarint), "{last:x}");
        }
        assert_eq!(read_varint(&nine), Ok(None));
    }
}
