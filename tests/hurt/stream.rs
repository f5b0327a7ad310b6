//! One direction of a connection: frames that are numbered and chained, so that a byte that is
//! lost, repeated, moved or changed is seen in the frame it happens to.

use std::fmt;

use hotloop::framing::LengthPrefix;
use hotloop::{ConnId, Net, Sent};

use crate::random::Random;

/// The longest body.
pub(crate) const BODY_MAX_BYTES: usize = 64 << 10;
pub(crate) const FRAMING: LengthPrefix = LengthPrefix::u32_be(HEADER_BYTES + BODY_MAX_BYTES);
/// Kind, connection, number, digest.
const HEADER_BYTES: usize = 1 + 8 + 8 + 8;
/// What FRAMING puts in front of it.
const PREFIX_BYTES: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The client's first: says which connection this is.
    Hello,
    Request,
    /// The body of a request, sent back.
    Answer,
    /// From the server, unasked.
    Push,
    /// The last one: nothing follows but the FIN.
    Bye,
}

impl Kind {
    fn of(byte: u8) -> Option<Kind> {
        [Kind::Hello, Kind::Request, Kind::Answer, Kind::Push, Kind::Bye]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// What is wrong with a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is too short for a header, or of a kind there is not.
    Header,
    /// It is another connection's.
    Foreign { tag: u64, expected: u64 },
    /// Frames are missing before it, or it was there before.
    Number { number: u64, expected: u64 },
    /// Its bytes, or those before it, are not those that were sent.
    Digest { number: u64 },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Header => f.write_str("no header"),
            Fault::Foreign { tag, expected } => write!(f, "frame of {tag} on {expected}"),
            Fault::Number { number, expected } => write!(f, "frame {number}, not {expected}"),
            Fault::Digest { number } => write!(f, "frame {number} has changed"),
        }
    }
}

/// What was sent, or what has arrived, up to here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Stream {
    /// Which connection; 0 until it is known.
    pub(crate) tag: u64,
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
    pub(crate) digest: u64,
}

impl Stream {
    /// Writes a frame, and counts it if it was taken.
    pub(crate) fn write(&mut self, net: &mut Net, conn: ConnId, kind: Kind, body: &[u8]) -> Sent {
        let after = self.after(kind, body);
        let parts = [&self.header(kind, &after)[..], body];
        let sent = FRAMING.write_frame_of(net, conn, &parts).expect("no longer than allowed");
        if sent.is_taken() {
            *self = after;
        }
        sent
    }

    /// Checks the next frame that has arrived, and returns what it is.
    pub(crate) fn read<'a>(&mut self, frame: &'a [u8]) -> Result<(Kind, &'a [u8]), Fault> {
        let (header, body) = frame.split_at_checked(HEADER_BYTES).ok_or(Fault::Header)?;
        let kind = Kind::of(header[0]).ok_or(Fault::Header)?;
        let (tag, number, digest) =
            (word(&header[1..9]), word(&header[9..17]), word(&header[17..]));
        if self.tag == 0 && kind == Kind::Hello {
            self.tag = tag;
        }
        if tag != self.tag {
            return Err(Fault::Foreign { tag, expected: self.tag });
        }
        if number != self.frames {
            return Err(Fault::Number { number, expected: self.frames });
        }
        let after = self.after(kind, body);
        if digest != after.digest {
            return Err(Fault::Digest { number });
        }
        *self = after;
        Ok((kind, body))
    }

    fn after(&self, kind: Kind, body: &[u8]) -> Stream {
        let start = chain(chain(chain(self.digest, kind as u64), self.tag), self.frames);
        Stream {
            tag: self.tag,
            frames: self.frames + 1,
            bytes: self.bytes + (PREFIX_BYTES + HEADER_BYTES + body.len()) as u64,
            digest: digest(start, body),
        }
    }

    fn header(&self, kind: Kind, after: &Stream) -> [u8; HEADER_BYTES] {
        let mut header = [kind as u8; HEADER_BYTES];
        header[1..9].copy_from_slice(&self.tag.to_le_bytes());
        header[9..17].copy_from_slice(&self.frames.to_le_bytes());
        header[17..].copy_from_slice(&after.digest.to_le_bytes());
        header
    }
}

/// Digests bytes. Each step maps the digest before it one to one, and the word as well: two
/// streams that differ in one word have different digests from there on.
pub(crate) fn digest(start: u64, bytes: &[u8]) -> u64 {
    let words = bytes.chunks(8).map(word);
    words.fold(chain(start, bytes.len() as u64), chain)
}

fn chain(digest: u64, word: u64) -> u64 {
    (digest ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
}

/// Up to eight bytes, the lowest first.
fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(word)
}

/// Makes a body of 1 byte to 64 KiB: each power of two is as likely as the others.
pub(crate) fn body(random: &mut Random) -> Vec<u8> {
    let most = 1_u64 << random.below(17);
    let len = 1 + random.below(most);
    let words = (0..len.div_ceil(8)).flat_map(|_| random.draw().to_le_bytes());
    words.take(usize::try_from(len).expect("64 KiB")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODIES: [&[u8]; 4] = [b"", b"one", b"two and more", b"three"];

    fn frames() -> Vec<Vec<u8>> {
        let mut stream = Stream { tag: 7, ..Stream::default() };
        let frame = |body: &&[u8]| {
            let after = stream.after(Kind::Push, body);
            let frame = [&stream.header(Kind::Push, &after)[..], body].concat();
            stream = after;
            frame
        };
        BODIES.iter().map(frame).collect()
    }

    fn read(frames: &[Vec<u8>]) -> Result<(), Fault> {
        let mut stream = Stream { tag: 7, ..Stream::default() };
        frames.iter().try_for_each(|frame| stream.read(frame).map(|_| ()))
    }

    #[test]
    fn what_was_sent_is_as_it_was_sent() {
        assert_eq!(read(&frames()), Ok(()));
    }

    #[test]
    fn every_changed_bit_is_seen() {
        let sent = frames();
        for (index, frame) in sent.iter().enumerate() {
            for bit in 0..8 * frame.len() {
                let mut arrived = sent.clone();
                arrived[index][bit / 8] ^= 1 << (bit % 8);
                assert!(read(&arrived).is_err(), "bit {bit} of frame {index}");
            }
        }
    }

    #[test]
    fn a_lost_byte_and_a_repeated_one_are_seen() {
        let sent = frames();
        for (index, frame) in sent.iter().enumerate() {
            for (at, byte) in frame.iter().enumerate() {
                let mut arrived = sent.clone();
                arrived[index].remove(at);
                assert!(read(&arrived).is_err(), "lost: byte {at} of frame {index}");
                let mut arrived = sent.clone();
                arrived[index].insert(at, *byte);
                assert!(read(&arrived).is_err(), "repeated: byte {at} of frame {index}");
            }
        }
    }

    #[test]
    fn a_frame_that_is_lost_repeated_moved_or_of_another_connection_is_seen() {
        let sent = frames();
        let lost = [sent[0].clone(), sent[2].clone()];
        assert_eq!(read(&lost), Err(Fault::Number { number: 2, expected: 1 }));
        let repeated = [sent[0].clone(), sent[0].clone()];
        assert_eq!(read(&repeated), Err(Fault::Number { number: 0, expected: 1 }));
        let moved = [sent[1].clone(), sent[0].clone()];
        assert_eq!(read(&moved), Err(Fault::Number { number: 1, expected: 0 }));
        let mut other = Stream { tag: 8, ..Stream::default() };
        assert_eq!(other.read(&sent[0]), Err(Fault::Foreign { tag: 7, expected: 8 }));
    }
}
