//! The model: what the bytes at the beginning of a stream are, found out anew each time.

use hotloop::framing::FrameError;

/// How a stream is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cutting {
    Lines,
    /// A length of so many bytes, the high one first or last.
    Length(usize, bool),
    Varint,
    /// All of the maximum's size.
    Fixed,
}

/// What a stream begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum First {
    /// A frame, and how many bytes it takes.
    Frame(Vec<u8>, usize),
    /// More bytes have to come.
    Wait,
    Error(FrameError),
}

impl Cutting {
    pub fn first(self, max: usize, data: &[u8]) -> First {
        match self {
            Cutting::Lines => first_line(max, data),
            Cutting::Length(width, is_big) => match data.get(..width) {
                Some(prefix) => first_behind(number(prefix, is_big), width, max, data),
                None => First::Wait,
            },
            Cutting::Varint => first_behind_varint(max, data),
            Cutting::Fixed if data.len() < max => First::Wait,
            Cutting::Fixed => First::Frame(data[..max].to_vec(), max),
        }
    }

    /// The bytes of a frame, allowed or not, if they can be said at all.
    pub fn encode(self, payload: &[u8]) -> Vec<u8> {
        let before = match self {
            Cutting::Length(width, is_big) => {
                let mut bytes = payload.len().to_le_bytes()[..width].to_vec();
                if is_big {
                    bytes.reverse();
                }
                bytes
            }
            Cutting::Varint => encode_varint(payload.len()),
            Cutting::Lines | Cutting::Fixed => Vec::new(),
        };
        let behind: &[u8] = if self == Cutting::Lines { b"\n" } else { b"" };
        [&before, payload, behind].concat()
    }

    /// The longest payload that the prefix has a number for.
    pub fn widest(self) -> usize {
        match self {
            Cutting::Length(width, _) => (1 << (8 * width)) - 1,
            _ => usize::MAX,
        }
    }

    /// All that may have to be kept, and one byte more: the longest frame.
    pub fn needs_bytes(self, max: usize) -> usize {
        match self {
            Cutting::Lines => max + 2,
            Cutting::Length(width, _) => max + width,
            Cutting::Varint => (max + encode_varint(max).len()).max(10),
            Cutting::Fixed => max,
        }
    }
}

/// With an end put where there is none, a line is too long or may still be short enough.
fn first_line(max: usize, data: &[u8]) -> First {
    let found = data.iter().position(|byte| *byte == b'\n');
    let mut line = data[..found.unwrap_or(data.len())].to_vec();
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    match found {
        _ if line.len() > max => First::Error(FrameError::LineTooLong { max }),
        Some(at) => First::Frame(line, at + 1),
        None => First::Wait,
    }
}

fn number(prefix: &[u8], is_big: bool) -> u128 {
    let mut prefix = prefix.to_vec();
    if !is_big {
        prefix.reverse();
    }
    prefix.iter().fold(0, |number, byte| number * 256 + u128::from(*byte))
}

fn first_behind(len: u128, start: usize, max: usize, data: &[u8]) -> First {
    if len > max as u128 {
        return First::Error(FrameError::TooLong { len: len as u64, max });
    }
    let end = start + len as usize;
    data.get(start..end).map_or(First::Wait, |frame| First::Frame(frame.to_vec(), end))
}

fn first_behind_varint(max: usize, data: &[u8]) -> First {
    let digits = match data.iter().position(|byte| *byte < 128) {
        Some(last) => &data[..=last],
        None if data.len() < 10 => return First::Wait,
        None => return First::Error(FrameError::BadVarint),
    };
    let values = digits.iter().rev().take(18).map(|byte| u128::from(byte % 128));
    let value = values.fold(0, |value, digit| value * 128 + digit);
    let is_padded = digits.len() > 1 && digits.ends_with(&[0]);
    if is_padded || digits.len() > 10 || value > u128::from(u64::MAX) {
        return First::Error(FrameError::BadVarint);
    }
    first_behind(value, digits.len(), max, data)
}

fn encode_varint(mut value: usize) -> Vec<u8> {
    let mut digits = Vec::new();
    loop {
        let digit = (value % 128) as u8;
        value /= 128;
        if value == 0 {
            digits.push(digit);
            return digits;
        }
        digits.push(digit + 128);
    }
}
