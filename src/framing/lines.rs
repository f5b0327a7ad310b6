//! Lines of text, or of any bytes but a line feed.

use crate::framing::{Cut, FrameError, Frames, Framing, PayloadError};
use crate::id::ConnId;
use crate::net::{Net, Sent};

/// How many bytes are looked at together: one vector register on the machines there are. With
/// twice as many, long lines are searched faster still and those of 20 to 80 bytes slower.
const BLOCK_BYTES: usize = 16;

/// Lines that end with LF or CRLF, at most so long.
///
/// What is yielded is the line without its end. One CR before the LF belongs to the end; every
/// other CR, as every other byte, NUL included, is one of the line. An empty line is a frame, too.
/// Protocols that take one sort of end alone have to look for the other themselves: it matters
/// where somebody else who takes the other sort reads the same bytes (RFC 9112 §2.2).
///
/// # Examples
///
/// ```
/// use hotloop::framing::{FrameError, Lines};
///
/// let mut frames = Lines::new(5).frames(b"hello\r\n\nbye\nabcdef");
/// assert_eq!(frames.next(), Some(Ok(&b"hello"[..])));
/// assert_eq!(frames.next(), Some(Ok(&b""[..])));
/// assert_eq!(frames.next(), Some(Ok(&b"bye"[..])));
/// assert_eq!(frames.next(), Some(Err(FrameError::LineTooLong { max: 5 })));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lines {
    max_bytes: usize,
    crlf: bool,
}

impl Lines {
    /// Makes the framing for lines of at most so many bytes without their end; that many are
    /// allowed. Writes end lines with LF, until [`crlf`](Lines::crlf) says otherwise.
    pub const fn new(max_bytes: usize) -> Lines {
        Lines { max_bytes, crlf: false }
    }

    /// Makes writes end lines with CRLF. What is read may end either way.
    pub const fn crlf(mut self) -> Lines {
        self.crlf = true;
        self
    }

    /// Returns what `inbound_max_bytes` has to be at least: the longest line with its end.
    pub const fn needs_bytes(self) -> usize {
        self.max_bytes.saturating_add(2)
    }

    /// Cuts `data`, all that `on_data` shows. A line whose end is not there is searched from its
    /// beginning; see [`frames_from`](Lines::frames_from) where lines are long.
    #[inline]
    pub fn frames(self, data: &[u8]) -> Frames<'_, ScannedLines> {
        self.frames_from(data, LineScan::default())
    }

    /// Cuts `data`, all that `on_data` shows, and goes on searching where the last call for this
    /// connection stopped. Take [`line_scan`](Frames::line_scan) afterwards, for the next one.
    ///
    /// Without it a peer that sends a line of `n` bytes one by one has n²/2 bytes searched. At a
    /// maximum of 1 MiB that is up to 40 µs per byte, and with it nothing.
    ///
    /// # Panics
    ///
    /// In debug builds, if `scan` is not that of these bytes: of another connection, or of an
    /// `on_data` that returned something other than [`consumed`](Frames::consumed).
    ///
    /// # Examples
    ///
    /// ```
    /// use hotloop::framing::{LineScan, Lines};
    /// use hotloop::{ConnId, ConnMap, Handler, ListenerId, Net};
    ///
    /// const LINES: Lines = Lines::new(1 << 20);
    ///
    /// #[derive(Default)]
    /// struct Server {
    ///     scans: ConnMap<LineScan>,
    /// }
    ///
    /// impl Handler for Server {
    ///     fn on_accept(&mut self, _: &mut Net, conn: ConnId, _: ListenerId) {
    ///         self.scans.insert(conn, LineScan::default());
    ///     }
    ///
    ///     fn on_data(&mut self, net: &mut Net, conn: ConnId, data: &[u8]) -> usize {
    ///         let scan = self.scans.get(conn).copied().unwrap_or_default();
    ///         let mut frames = LINES.frames_from(data, scan);
    ///         for line in &mut frames {
    ///             match line {
    ///                 Ok(line) => println!("{conn}: {}", String::from_utf8_lossy(line)),
    ///                 Err(_) => net.abort(conn),
    ///             }
    ///         }
    ///         self.scans.insert(conn, frames.line_scan());
    ///         frames.consumed()
    ///     }
    /// }
    /// ```
    #[inline]
    pub fn frames_from(self, data: &[u8], scan: LineScan) -> Frames<'_, ScannedLines> {
        Frames::new(ScannedLines { lines: self, scan }, data)
    }

    /// Writes a line and its end: all of it or nothing, as [`Net::write`].
    ///
    /// # Errors
    ///
    /// If the line is longer than is allowed, or the end of a line is in it: what comes from
    /// elsewhere cannot become two lines. Nothing was written.
    pub fn write_frame(
        self,
        net: &mut Net,
        conn: ConnId,
        line: &[u8],
    ) -> Result<Sent, PayloadError> {
        if line.len() > self.max_bytes {
            return Err(PayloadError::TooLong { len: line.len(), max: self.max_bytes });
        }
        if line_feed(line).is_some() || (!self.crlf && line.ends_with(b"\r")) {
            return Err(PayloadError::HoldsLineEnd);
        }
        let end: &[u8] = if self.crlf { b"\r\n" } else { b"\n" };
        Ok(net.write_vectored(conn, &[line, end]))
    }
}

/// How far one connection's unconsumed bytes were searched for the end of a line. Of a connection
/// that has none, and at its beginning, it is the default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct LineScan {
    bytes: usize,
}

/// [`Lines`], searched from a [`LineScan`] on: what their [`Frames`] are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScannedLines {
    lines: Lines,
    scan: LineScan,
}

impl Frames<'_, ScannedLines> {
    /// Returns how far what is left was searched, for [`Lines::frames_from`]. Right only together
    /// with [`consumed`](Frames::consumed).
    #[inline]
    pub fn line_scan(&self) -> LineScan {
        self.framing.scan
    }
}

impl Framing for ScannedLines {
    type Error = FrameError;

    #[inline]
    #[allow(
        clippy::indexing_slicing,
        reason = "each is at most the window's length, or was found in it"
    )]
    fn cut(&mut self, data: &[u8]) -> Result<Option<Cut>, FrameError> {
        let max = self.lines.max_bytes;
        // Further than this the end of a line that is allowed cannot be.
        let window = &data[..data.len().min(self.lines.needs_bytes())];
        let from = self.scan.bytes.min(window.len());
        debug_assert!(!window[..from].contains(&b'\n'), "the scan is not that of these bytes");
        let Some(found) = line_feed(&window[from..]) else {
            self.scan.bytes = window.len();
            let may_end = window.len() <= max || (window[max..] == *b"\r");
            return if may_end { Ok(None) } else { Err(FrameError::LineTooLong { max }) };
        };
        self.scan.bytes = 0;
        let end = from + found;
        let len = end - usize::from(window[..end].ends_with(b"\r"));
        if len > max {
            return Err(FrameError::LineTooLong { max });
        }
        Ok(Some(Cut { frame: 0..len, whole_bytes: end + 1 }))
    }
}

/// Finds the first line feed. Whole blocks are asked first whether they hold one, which the
/// compiler makes vector instructions of.
#[inline]
#[allow(clippy::indexing_slicing, reason = "whole blocks of the data")]
fn line_feed(data: &[u8]) -> Option<usize> {
    let holds = |block: &[u8]| block.iter().fold(false, |found, byte| found | (*byte == b'\n'));
    let blocks = data.chunks_exact(BLOCK_BYTES);
    let start = blocks.take_while(|block| !holds(block)).count() * BLOCK_BYTES;
    data[start..].iter().position(|byte| *byte == b'\n').map(|found| start + found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOO_LONG: FrameError = FrameError::LineTooLong { max: 3 };

    /// What lines of at most three bytes are cut from `data`, what comes of the rest, and how
    /// much is consumed.
    fn cut(data: &[u8]) -> (Vec<Vec<u8>>, Option<FrameError>, usize) {
        let mut frames = Lines::new(3).frames(data);
        let mut lines = Vec::new();
        let mut error = None;
        for line in &mut frames {
            match line {
                Ok(line) => lines.push(line.to_vec()),
                Err(why) => error = Some(why),
            }
        }
        (lines, error, frames.consumed())
    }

    #[test]
    fn a_line_ends_with_lf_or_crlf() {
        let lines = [&b"abc"[..], b"", b"", b"d", b"ef"].map(<[u8]>::to_vec).to_vec();
        assert_eq!(cut(b"abc\n\n\r\nd\r\nef\nrest"), (lines, Some(TOO_LONG), 13));
        assert_eq!(cut(b""), (Vec::new(), None, 0));
        assert_eq!(cut(b"ab"), (Vec::new(), None, 0));
    }

    #[test]
    fn only_the_last_cr_belongs_to_the_end() {
        assert_eq!(cut(b"a\rb\n").0, [b"a\rb"]);
        assert_eq!(cut(b"\r\r\r\n").0, [b"\r\r"]);
        assert_eq!(cut(b"\ra\n").0, [b"\ra"]);
        assert_eq!(cut(b"\r\n\r\n").0, [b"", b""]);
    }

    #[test]
    fn nul_and_every_byte_but_lf_are_of_the_line() {
        assert_eq!(cut(b"\0\0\0\n\xff\x80\0\r\n").0, [b"\0\0\0", b"\xff\x80\0"]);
        let all: Vec<u8> = (0..=255).filter(|byte| *byte != b'\n').collect();
        let mut frames = Lines::new(255).frames(&all);
        assert_eq!(frames.next(), None);
        let whole = [&all[..], b"\n"].concat();
        frames = Lines::new(255).frames(&whole);
        assert_eq!(frames.next(), Some(Ok(&all[..])));
    }

    #[test]
    fn a_line_is_given_up_when_it_cannot_be_short_enough_any_more() {
        let waits = (Vec::new(), None, 0);
        let fails = (Vec::new(), Some(TOO_LONG), 0);
        assert_eq!(cut(b"abc"), waits);
        assert_eq!(cut(b"abc\r"), waits, "an LF makes it a line of three");
        assert_eq!(cut(b"abcd"), fails);
        assert_eq!(cut(b"abcd\n"), fails);
        assert_eq!(cut(b"abcd\r\n"), fails);
        assert_eq!(cut(b"abc\rx"), fails);
        assert_eq!(cut(b"abc\r\r"), fails, "an LF makes it a line of four");
        assert_eq!(cut(b"abc\r\r\n"), fails);
        assert_eq!(cut(b"abc\r\n"), (vec![b"abc".to_vec()], None, 5));
        assert_eq!(cut(b"ab\r\n"), (vec![b"ab".to_vec()], None, 4));
        assert_eq!(cut(b"ab\r\r\n"), (vec![b"ab\r".to_vec()], None, 5));
    }

    #[test]
    fn the_smallest_and_the_largest_maximum_hold() {
        let first = |max, data| Lines::new(max).frames(data).next();
        assert_eq!(first(0, b"\r\n"), Some(Ok(&b""[..])));
        assert_eq!(first(0, b"\r"), None);
        assert_eq!(first(0, b"x"), Some(Err(FrameError::LineTooLong { max: 0 })));
        assert_eq!(first(usize::MAX, b"abc\r"), None);
        assert_eq!(first(usize::MAX - 1, b"abc\r\n"), Some(Ok(&b"abc"[..])));
        assert_eq!(Lines::new(usize::MAX).needs_bytes(), usize::MAX);
    }

    #[test]
    fn a_scan_goes_on_where_it_stopped() {
        let lines = Lines::new(100);
        let data = b"no end in sight for a while\r\nnext";
        let mut scan = LineScan::default();
        for len in 0..28 {
            let mut frames = lines.frames_from(&data[..len], scan);
            assert_eq!((frames.next(), frames.consumed()), (None, 0));
            scan = frames.line_scan();
            assert_eq!(scan, LineScan { bytes: len });
        }
        let mut frames = lines.frames_from(data, scan);
        assert_eq!(frames.next(), Some(Ok(&data[..27])));
        assert_eq!(frames.line_scan(), LineScan::default(), "of the next line nothing is known");
        assert!(frames.put_back());
        assert_eq!(frames.next(), Some(Ok(&data[..27])), "nor of one that comes again");
        assert_eq!((frames.next(), frames.consumed()), (None, 29));
        assert_eq!(frames.line_scan(), LineScan { bytes: 4 });
    }

    #[test]
    fn a_scan_of_more_than_there_is_asks_for_the_end_of_it() {
        let mut frames = Lines::new(9).frames_from(b"abc", LineScan { bytes: 64 });
        assert_eq!((frames.next(), frames.line_scan()), (None, LineScan { bytes: 3 }));
    }

    /// A line feed that was passed over shows it; debug builds say that it should not be there.
    #[test]
    #[cfg_attr(debug_assertions, should_panic(expected = "not that of these bytes"))]
    fn what_was_searched_is_not_searched_again() {
        let mut frames = Lines::new(9).frames_from(b"a\nb", LineScan { bytes: 2 });
        assert_eq!(frames.next(), None);
    }

    #[test]
    fn the_first_line_feed_is_found_at_every_place() {
        for len in 0..70 {
            let mut data = vec![b'\r'; len];
            assert_eq!(line_feed(&data), None);
            for at in (0..len).rev() {
                data[at] = b'\n';
                assert_eq!(line_feed(&data), Some(at), "{len}");
            }
        }
    }
}
