//! What goes over the wire: frames that prove where in which stream they stand.
//!
//! A frame is a length, a head and a body. The head has the number of bytes that were sent before
//! it on its connection, and a hash of that number, of the connection's own key, of the rest of
//! the head and of the body. Whoever receives counts bytes, too: what is lost, repeated, swapped,
//! altered, or meant for another connection is found, and that for every byte.
//!
//! A broadcast is one piece of memory for all who receive it, so its head has its number within
//! its group instead; its own place is proved by the frame that follows it.

use bytes::Bytes;

use hotloop::framing::LengthPrefix;
use hotloop::{ConnId, Net, Sent};

pub(crate) const FRAME_MAX_BYTES: usize = 64 << 10;
pub(crate) const FRAMING: LengthPrefix = LengthPrefix::u32_be(FRAME_MAX_BYTES);
/// The largest body that fits.
pub(crate) const BODY_MAX_BYTES: usize = FRAME_MAX_BYTES - HEAD_BYTES;
/// The key of a stream until its first frame has named another.
pub(crate) const NO_KEY: u64 = 0;

const PREFIX_BYTES: usize = 4;
const HEAD_BYTES: usize = 21;
const BROADCAST_KEY: u64 = 1 << 63;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The first one of whoever connects: its number, its role, its group.
    Hello,
    /// To be answered by the same.
    Echo,
    /// To be answered by the same, which a server behind the server has said.
    Relay,
    /// The answer to a relay that came to nothing.
    Failed,
    /// To be answered by as many frames of this kind as the body says, or one such.
    Stream,
    Broadcast,
    /// The number of the next broadcast: the receiver is in the group from here on.
    Join,
    /// A timer's.
    Nudge,
    /// The last one.
    Bye,
}

const KINDS: [Kind; 9] = [
    Kind::Hello,
    Kind::Echo,
    Kind::Relay,
    Kind::Failed,
    Kind::Stream,
    Kind::Broadcast,
    Kind::Join,
    Kind::Nudge,
    Kind::Bye,
];

/// What is wrong with a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// No frame at all: too long, too short, of no known kind.
    Form,
    /// Bytes are missing before it, or came twice.
    Position,
    /// Its bytes are not those that were sent.
    Hash,
    /// Right as it is, but not what should come here.
    Order,
    /// The stream ended in the middle of a frame, or before all was said.
    Truncated,
}

/// A frame that is right.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: Kind,
    pub(crate) seq: u32,
    /// A broadcast's number in place of it.
    pub(crate) position: u64,
    pub(crate) body: &'a [u8],
}

/// The two directions of one connection.
#[derive(Debug)]
pub(crate) struct Streams {
    incoming: Stream,
    outgoing: Stream,
}

#[derive(Debug)]
struct Stream {
    key: u64,
    position: u64,
}

impl Streams {
    /// Begins those of the side that has connected.
    pub(crate) fn dialled(number: u32) -> Streams {
        let [to, from] = keys(number);
        Streams {
            incoming: Stream { key: from, position: 0 },
            outgoing: Stream { key: to, position: 0 },
        }
    }

    /// Begins those of the side that has accepted, which does not know yet whom.
    pub(crate) fn accepted() -> Streams {
        let nobody = || Stream { key: NO_KEY, position: 0 };
        Streams { incoming: nobody(), outgoing: nobody() }
    }

    /// Learns from the first frame who it is.
    pub(crate) fn meet(&mut self, number: u32) {
        [self.incoming.key, self.outgoing.key] = keys(number);
    }

    /// Writes a frame, which counts if it was taken.
    pub(crate) fn send(
        &mut self,
        net: &mut Net,
        conn: ConnId,
        (kind, seq, body): (Kind, u32, &[u8]),
    ) -> Sent {
        let Stream { key, position } = self.outgoing;
        let key = if kind == Kind::Hello { NO_KEY } else { key };
        let sent = net.write_vectored(conn, &[&head(key, kind, seq, position, body), body]);
        if sent.is_taken() {
            self.outgoing.position += frame_bytes(body) as u64;
        }
        sent
    }

    /// Writes a frame that others are sent, too.
    pub(crate) fn send_shared(&mut self, net: &mut Net, conn: ConnId, frame: &Bytes) -> Sent {
        let sent = net.write_shared(conn, frame.clone());
        if sent.is_taken() {
            self.outgoing.position += frame.len() as u64;
        }
        sent
    }

    /// Checks the next frame, without its length. It counts once it is [taken](Self::take).
    pub(crate) fn check<'a>(&self, payload: &'a [u8]) -> Result<Frame<'a>, Fault> {
        let stream = &self.incoming;
        let (frame, hash) = parse(payload).ok_or(Fault::Form)?;
        let key = match frame.kind {
            Kind::Broadcast => BROADCAST_KEY | u64::from(frame.seq),
            Kind::Hello => NO_KEY,
            _ if frame.position != stream.position => return Err(Fault::Position),
            _ => stream.key,
        };
        if hash != hash_of(key, frame.kind, frame.seq, frame.position, frame.body) {
            return Err(Fault::Hash);
        }
        Ok(frame)
    }

    /// Counts a frame that was right.
    pub(crate) fn take(&mut self, payload: &[u8]) {
        self.incoming.position += whole_bytes(payload) as u64;
    }
}

/// Makes a broadcast.
pub(crate) fn broadcast(group: u32, number: u64, body: &[u8]) -> Bytes {
    let head = head(BROADCAST_KEY | u64::from(group), Kind::Broadcast, group, number, body);
    Bytes::from([&head, body].concat())
}

/// Returns what a frame of this payload takes in its stream.
pub(crate) fn whole_bytes(payload: &[u8]) -> usize {
    PREFIX_BYTES + payload.len()
}

/// Returns what a frame of this body takes in its stream.
fn frame_bytes(body: &[u8]) -> usize {
    PREFIX_BYTES + HEAD_BYTES + body.len()
}

/// Reads the number that a part of a body is.
pub(crate) fn number(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.first_chunk()?))
}

fn keys(number: u32) -> [u64; 2] {
    [u64::from(number) << 1 | 1 << 33, u64::from(number) << 1 | 1 << 33 | 1]
}

fn head(key: u64, kind: Kind, seq: u32, position: u64, body: &[u8]) -> [u8; 25] {
    let len = u32::try_from(HEAD_BYTES + body.len()).expect("a frame is short");
    let mut head = [0; PREFIX_BYTES + HEAD_BYTES];
    head[..4].copy_from_slice(&len.to_be_bytes());
    head[4] = kind as u8;
    head[5..9].copy_from_slice(&seq.to_le_bytes());
    head[9..17].copy_from_slice(&position.to_le_bytes());
    head[17..].copy_from_slice(&hash_of(key, kind, seq, position, body).to_le_bytes());
    head
}

fn parse(payload: &[u8]) -> Option<(Frame<'_>, u64)> {
    let (kind, rest) = payload.split_first()?;
    let (seq, rest) = rest.split_first_chunk()?;
    let (position, rest) = rest.split_first_chunk()?;
    let (hash, body) = rest.split_first_chunk()?;
    let kind = *KINDS.get(usize::from(*kind))?;
    let (seq, position) = (u32::from_le_bytes(*seq), u64::from_le_bytes(*position));
    Some((Frame { kind, seq, position, body }, u64::from_le_bytes(*hash)))
}

fn hash_of(key: u64, kind: Kind, seq: u32, position: u64, body: &[u8]) -> u64 {
    let mut hash = mix(key, u64::from(seq) << 8 | kind as u64);
    hash = mix(hash, position);
    hash = mix(hash, body.len() as u64);
    let mut words = body.chunks_exact(8);
    for word in &mut words {
        hash = mix(hash, u64::from_le_bytes(word.try_into().expect("eight bytes")));
    }
    words.remainder().iter().fold(hash, |hash, byte| mix(hash, u64::from(*byte)))
}

/// Multiplies to 128 bits and folds them, so that every bit of a word moves half of all bits.
fn mix(hash: u64, word: u64) -> u64 {
    let rotated = hash.rotate_left(23) ^ 0xa076_1d64_78bd_642f;
    let product = u128::from(rotated ^ word) * 0xe703_7ed1_a0b4_28db;
    #[expect(clippy::cast_possible_truncation, reason = "the halves are folded")]
    let folded = (product as u64) ^ ((product >> 64) as u64);
    folded
}
