//! RESP2, the wire format of Redis: writes replies, takes commands out of bytes without copying
//! them and without allocating for a length that a peer merely announces.

use std::fmt::Display;
use std::io::Write;

use smallvec::SmallVec;

/// The largest command: so much has to be kept while it is incomplete.
pub(crate) const COMMAND_MAX_BYTES: usize = 1 << 20;
/// What the shortest word takes: `$0`, LF, CRLF.
const WORD_MIN_BYTES: usize = 5;
/// The type byte in front of a number, the largest number, and the complaint about any other.
const WORD_BYTES: Number = (b'$', 512 << 10, "invalid bulk length");
const WORDS: Number = (b'*', 65_536, "invalid multibulk length");
/// The longest inline command, and the longest line with a number.
const LINE_MAX_BYTES: usize = 4096;

type Number = (u8, usize, &'static str);
pub(crate) type Words<'a> = SmallVec<[&'a [u8]; 24]>;

/// Why there is no command to run.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stop {
    /// The command is not complete, and will not be with fewer than this many bytes.
    Incomplete(usize),
    /// This is no command, and nobody can tell where the next one begins.
    Malformed(&'static str),
}

/// Takes the first command out of `data`: its words (none for an empty line) and its length.
pub(crate) fn parse(data: &[u8]) -> Result<(Words<'_>, usize), Stop> {
    if data.first() == Some(&b'*') {
        return array(data);
    }
    let (line, end) = line(data, 0)?;
    Ok((line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).collect(), end))
}

/// Reads a decimal as Redis does: no plus sign, no leading zero, no blank.
pub(crate) fn integer(text: &[u8]) -> Option<i64> {
    let canonical = matches!(text, b"0" | [b'1'..=b'9', ..] | [b'-', b'1'..=b'9', ..]);
    std::str::from_utf8(text).ok().filter(|_| canonical)?.parse().ok()
}

/// Writes one line: a status (`+`), an error (`-`), an integer (`:`) or a header (`*`, `$`).
pub(crate) fn put(out: &mut Vec<u8>, kind: char, text: impl Display) {
    write!(out, "{kind}{text}\r\n").expect("a vector takes every write");
}

pub(crate) fn put_bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, '$', bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

fn array(data: &[u8]) -> Result<(Words<'_>, usize), Stop> {
    let (count, mut at) = number(data, 0, WORDS)?;
    let mut words = Words::new();
    for missing in (0..count).rev() {
        // Without this floor a command of many small words would be parsed for each of them.
        let floor = Stop::Incomplete(at + (missing + 1) * WORD_MIN_BYTES);
        let (length, start) = number(data, at, WORD_BYTES).map_err(|stop| stop.max(floor))?;
        at = start + length + 2;
        let least = at + missing * WORD_MIN_BYTES;
        if least > COMMAND_MAX_BYTES {
            return Err(Stop::Malformed("too big command"));
        }
        match data.get(at - 2..at) {
            None => return Err(Stop::Incomplete(least)),
            Some(b"\r\n") => words.push(&data[start..at - 2]),
            Some(_) => return Err(Stop::Malformed("expected CRLF after a bulk string")),
        }
    }
    Ok((words, at))
}

/// Reads a line with a number; returns the number and where the line ends.
fn number(data: &[u8], at: usize, (kind, max, wrong): Number) -> Result<(usize, usize), Stop> {
    let (line, end) = line(data, at)?;
    let digits = line.strip_prefix(&[kind]).ok_or(Stop::Malformed("expected '$'"))?;
    match integer(digits).map(usize::try_from) {
        Some(Ok(number)) if number <= max => Ok((number, end)),
        _ => Err(Stop::Malformed(wrong)),
    }
}

/// Returns the line at `at` without its end (LF or CRLF), and where the next one begins.
fn line(data: &[u8], at: usize) -> Result<(&[u8], usize), Stop> {
    let rest = &data[at..];
    match rest.iter().take(LINE_MAX_BYTES).position(|byte| *byte == b'\n') {
        Some(end) => Ok((rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]), at + end + 1)),
        None if rest.len() >= LINE_MAX_BYTES => Err(Stop::Malformed("too big inline request")),
        None => Err(Stop::Incomplete(data.len() + 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prefix_of_a_command_is_incomplete_and_asks_for_no_more_than_there_is() {
        for whole in ["*3\r\n$3\r\nSET\r\n$0\r\n\r\n$11\r\nhello\nworld\r\n", "SET  '' hello\r\n"] {
            for cut in 0..whole.len() {
                let stop = parse(&whole.as_bytes()[..cut]).expect_err("a prefix");
                let Stop::Incomplete(least) = stop else { panic!("{cut}: {stop:?}") };
                assert!(cut < least && least <= whole.len(), "{cut}: {least}");
            }
            let pipeline = format!("{whole}PING");
            let (words, used) = parse(pipeline.as_bytes()).expect("a whole command");
            assert_eq!((words.len(), words[0], used), (3, &b"SET"[..], whole.len()));
        }
    }

    #[test]
    fn rubbish_and_announced_lengths_over_the_limits_are_refused_at_once() {
        let half = format!("*2\r\n$524288\r\n{}\r\n$524288\r\n", "x".repeat(524_288));
        for (text, wrong) in [
            ("*1000000000\r\n$1000000000\r\n", "invalid multibulk length"),
            ("*3\r\n$524289\r\n", "invalid bulk length"),
            ("*3\r\n:1\r\n", "expected '$'"),
            ("*1\r\n$1\r\nabc", "expected CRLF after a bulk string"),
            (&half, "too big command"),
            (&"x".repeat(4096), "too big inline request"),
        ] {
            assert_eq!(parse(text.as_bytes()), Err(Stop::Malformed(wrong)), "{text:.20}");
        }
    }
}
