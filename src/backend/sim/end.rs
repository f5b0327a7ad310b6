//! One end of a simulated TCP connection: what its kernel holds of it.

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::backend::stored_options::StoredOptions;
use crate::id::Key;
use crate::segment::{Piece, Pieces, Segment};
use crate::time::Time;

use super::peer::Raw;
use super::trace::{HostIndex, Spot};

/// An end, by its place in the world's list; places are not reused.
pub(crate) type EndIndex = usize;

/// Whose an end is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// A socket of a loop.
    Socket { key: Key, handle: i32 },
    /// Waiting in the backlog of a listener to be accepted.
    Backlog,
    /// A peer without a loop.
    Raw,
    /// Nobody's any more: closed, and what was sent is still on its way.
    Orphan,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Connecting,
    Open,
    /// Reset, refused, timed out. What arrived before can still be read.
    Dead,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fin {
    No,
    /// It follows what is unsent.
    Wanted,
    Sent,
}

/// A send in flight: handles of its segments, where the bytes were, and what they were.
#[derive(Debug)]
pub(super) struct Flight {
    /// When it is done at the earliest.
    pub(super) due: Time,
    held: Vec<(Segment, usize, usize)>,
    pub(super) copy: Vec<u8>,
}

/// One end of a connection.
#[derive(Debug)]
pub(super) struct End {
    pub(super) host: HostIndex,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    /// The machine that has the remote address, if one has.
    pub(super) remote_host: Option<HostIndex>,
    /// The other end, once there is one; it may be gone.
    pub(super) other: Option<EndIndex>,
    pub(super) owner: Owner,
    pub(super) stage: Stage,

    /// Taken from the owner and not transmitted.
    pub(super) unsent: VecDeque<u8>,
    /// Transmitted, all in all.
    pub(super) sent_bytes: u64,
    /// Urgent bytes that were not transmitted: behind how many others, and which.
    pub(super) urgent: VecDeque<(u64, u8)>,
    /// Transmitted and not acknowledged.
    pub(super) unacked: usize,
    /// Acknowledgements that have arrived, to see whether there was progress.
    pub(super) acks: u64,
    pub(super) send_max: usize,
    /// How much more the other end has room for.
    pub(super) credit: usize,
    pub(super) fin: Fin,
    /// Its FIN was sent, and did not get through yet.
    pub(super) is_fin_lost: bool,
    /// The owner found no room and waits for some (`SOCK_NOSPACE`).
    pub(super) no_space: bool,
    /// When the latest packet to this end arrives: they do not overtake each other.
    pub(super) latest_arrival: Time,
    /// A look at whether there was progress is planned.
    pub(super) giving_up: bool,
    pub(super) syns: u32,

    /// Arrived and not received.
    pub(super) unread: VecDeque<u8>,
    pub(super) recv_max: usize,
    /// Received, and the other end was not told that there is room again.
    pub(super) freed: usize,
    /// How many bytes were taken from `unread`.
    pub(super) read_bytes: u64,
    /// The urgent mark that was not read up to: its position in the stream, and the byte there.
    pub(super) mark: Option<(u64, u8)>,
    /// The other end's FIN has arrived.
    pub(super) fin_in: bool,
    /// The other end has sent its FIN, wherever that is.
    pub(super) fin_coming: bool,
    /// The pending error of the socket (`SO_ERROR`).
    pub(super) error: Option<i32>,

    /// The loop watches for input.
    pub(super) watch_read: bool,
    /// The loop watches for room to send.
    pub(super) watch_write: bool,
    /// Completion: in the backend's own buffers, and not received by the loop.
    pub(super) arrived: VecDeque<u8>,
    /// Completion: the loop was told of the end of the stream, or of the error.
    pub(super) end_shown: bool,
    /// Completion: the error that the standing receive has ended with.
    pub(super) recv_error: Option<i32>,
    pub(super) flight: Option<Flight>,
    pub(super) options: StoredOptions,
    /// How often something was sent again.
    pub(super) retransmits: u32,
    pub(super) raw: Option<Box<Raw>>,
}

impl End {
    pub(super) fn new(host: HostIndex, local: SocketAddr, remote: SocketAddr, owner: Owner) -> End {
        End {
            host,
            local,
            remote,
            remote_host: None,
            other: None,
            owner,
            stage: Stage::Connecting,
            unsent: VecDeque::new(),
            sent_bytes: 0,
            urgent: VecDeque::new(),
            unacked: 0,
            acks: 0,
            send_max: usize::MAX,
            credit: 0,
            fin: Fin::No,
            is_fin_lost: false,
            no_space: false,
            latest_arrival: Time::default(),
            giving_up: false,
            syns: 0,
            unread: VecDeque::new(),
            recv_max: usize::MAX,
            freed: 0,
            read_bytes: 0,
            mark: None,
            fin_in: false,
            fin_coming: false,
            error: None,
            watch_read: true,
            watch_write: true,
            arrived: VecDeque::new(),
            end_shown: false,
            recv_error: None,
            flight: None,
            options: StoredOptions::default(),
            retransmits: 0,
            raw: None,
        }
    }

    /// Returns where this end is.
    pub(super) fn spot(&self) -> Spot {
        Spot { host: self.host, port: self.local.port() }
    }

    /// Returns how many bytes more the owner may send.
    pub(super) fn room(&self) -> usize {
        self.send_max.saturating_sub(self.unsent.len()).saturating_sub(self.unacked)
    }

    /// Returns whether there is enough room to be worth an event (`sk_stream_is_writeable`).
    pub(super) fn is_writable(&self) -> bool {
        self.room() >= (self.send_max / 3).max(1)
    }

    /// Returns whether there is nothing left for the other end to wait for.
    pub(super) fn is_settled(&self) -> bool {
        self.unsent.is_empty()
            && self.unacked == 0
            && !self.is_fin_lost
            && self.stage != Stage::Connecting
    }

    /// Returns whether both sides have sent their FIN, and this one has got the other's.
    pub(super) fn is_over(&self) -> bool {
        self.fin_in && self.fin == Fin::Sent
    }

    pub(super) fn is_dead(&self) -> bool {
        self.stage == Stage::Dead
    }

    /// Returns whether no more bytes will arrive, or an error is there.
    pub(super) fn is_at_end(&self) -> bool {
        self.fin_in || self.is_dead() || self.error.is_some()
    }

    /// Returns whether both sides are shut or the connection is broken (`EPOLLHUP`, `EPOLLERR`).
    pub(super) fn is_hung_up(&self) -> bool {
        self.is_dead() || self.error.is_some() || (self.fin_in && self.fin != Fin::No)
    }

    /// Takes the error that is there to be found, if it is.
    pub(super) fn take_error(&mut self) -> Option<i32> {
        self.recv_error.take().or_else(|| self.error.take())
    }

    /// Returns how many bytes can be read before the urgent mark (`FIONREAD`).
    pub(super) fn bytes_before_mark(&self) -> usize {
        let before = self.mark.map_or(u64::MAX, |(at, _)| at.saturating_sub(self.read_bytes));
        self.unread.len().min(usize::try_from(before).unwrap_or(usize::MAX))
    }

    /// Returns how many bytes can be read; passes the urgent mark if that is next.
    pub(super) fn readable_bytes(&mut self) -> usize {
        self.mark.take_if(|(at, _)| *at <= self.read_bytes);
        self.bytes_before_mark()
    }

    /// Puts an urgent mark behind what has arrived. The byte at one that it overtakes becomes part
    /// of the stream (RFC 6093 §3), unless the reader stands there (`tcp_check_urg`).
    pub(super) fn set_mark(&mut self, byte: u8) {
        if let Some((at, overtaken)) = self.mark.take_if(|(at, _)| *at > self.read_bytes) {
            let before = usize::try_from(at - self.read_bytes).expect("a mark is ahead");
            self.unread.insert(before, overtaken);
        }
        self.mark = Some((self.read_bytes + self.unread.len() as u64, byte));
    }

    /// Takes `count` bytes of what has arrived into a place of that size.
    pub(super) fn take(&mut self, place: &mut [u8]) {
        copy_out(&mut self.unread, place);
        self.read_bytes += place.len() as u64;
        self.freed += place.len();
    }

    /// Moves what has arrived into the backend's buffers.
    pub(super) fn pull(&mut self) {
        let count = self.unread.len();
        self.arrived.append(&mut self.unread);
        self.read_bytes += count as u64;
        self.freed += count;
        self.mark = None;
    }

    /// Returns what the loop is told about room on the other side, if it is worth a packet.
    pub(super) fn take_update(&mut self) -> Option<usize> {
        (self.freed > 0 && self.freed >= self.recv_max / 2).then(|| std::mem::take(&mut self.freed))
    }
}

/// Moves the first bytes of a queue out of it.
pub(super) fn copy_out(queue: &mut VecDeque<u8>, place: &mut [u8]) {
    let (front, back) = queue.as_slices();
    let split = front.len().min(place.len());
    place[..split].copy_from_slice(&front[..split]);
    let rest = place.len() - split;
    place[split..].copy_from_slice(&back[..rest]);
    queue.drain(..place.len());
}

impl Flight {
    pub(super) fn new(pieces: Pieces<'_>, due: Time) -> Flight {
        let mut copy = Vec::new();
        pieces.clone().for_each(|piece| copy.extend_from_slice(piece.bytes));
        Flight { due, held: pieces.map(hold).collect(), copy }
    }

    /// # Panics
    ///
    /// If the bytes are not what they were when they were sent.
    pub(super) fn check(&self) {
        let mut left: &[u8] = &self.copy;
        for (segment, start, len) in &self.held {
            let bytes = &segment.bytes()[*start..][..*len];
            assert_eq!(&left[..*len], bytes, "C10: bytes in flight have changed");
            left = &left[*len..];
        }
    }
}

/// A counted handle of a piece: its segment, and where in it the piece lies.
fn hold(piece: Piece<'_>) -> (Segment, usize, usize) {
    let segment = piece.segment.expect("nothing is staged for a backend that holds sends");
    let start = piece.bytes.as_ptr() as usize - segment.bytes().as_ptr() as usize;
    (segment.clone(), start, piece.bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end() -> End {
        let addr = SocketAddr::from(([10, 0, 0, 1], 1));
        End::new(0, addr, addr, Owner::Raw)
    }

    fn read(end: &mut End) -> Vec<u8> {
        let mut place = vec![0; end.readable_bytes()];
        end.take(&mut place);
        place
    }

    #[test]
    fn reading_stops_at_a_mark_and_goes_on_behind_it() {
        let mut end = end();
        end.unread.extend(b"ab");
        end.set_mark(b'!');
        end.unread.extend(b"cd");
        assert_eq!((read(&mut end), read(&mut end)), (b"ab".to_vec(), b"cd".to_vec()));
        assert_eq!((end.mark, end.freed), (None, 4));
    }

    #[test]
    fn an_overtaken_mark_is_part_of_the_stream() {
        let mut end = end();
        end.unread.extend(b"ab");
        end.set_mark(b'1');
        end.unread.extend(b"cd");
        end.set_mark(b'2');
        end.unread.extend(b"ef");
        assert_eq!((read(&mut end), read(&mut end)), (b"ab1cd".to_vec(), b"ef".to_vec()));
    }

    #[test]
    fn an_update_is_told_when_half_the_buffer_is_free() {
        let mut end = end();
        (end.recv_max, end.freed) = (10, 4);
        assert_eq!(end.take_update(), None);
        end.freed = 5;
        assert_eq!((end.take_update(), end.take_update()), (Some(5), None));
        (end.recv_max, end.freed) = (1, 1);
        assert_eq!(end.take_update(), Some(1));
    }

    #[test]
    fn bytes_that_wrap_around_a_queue_are_taken_in_order() {
        let mut queue = VecDeque::with_capacity(8);
        queue.extend(b"12345678");
        queue.drain(..6);
        queue.extend(b"abcd");
        let mut place = [0; 5];
        copy_out(&mut queue, &mut place);
        assert_eq!((&place, queue.make_contiguous() as &[u8]), (b"78abc", &b"d"[..]));
    }
}
