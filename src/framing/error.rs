//! Why bytes are not a frame, and why a payload cannot be one.

use std::error::Error;
use std::fmt;

/// Why no further frame can be cut from a stream. What follows cannot be understood either: end
/// the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FrameError {
    /// A length prefix announces more than is allowed.
    TooLong {
        /// What it announces, in bytes.
        len: u64,
        /// The most that is allowed, in bytes.
        max: usize,
    },
    /// A line is longer than is allowed. How long it would be is not known: it is given up as soon
    /// as that is certain, whether its end has come or not.
    LineTooLong {
        /// The most that is allowed, in bytes, without the end of the line.
        max: usize,
    },
    /// A varint is longer than its value needs, or its value does not fit into 64 bits.
    BadVarint,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::TooLong { len, max } => write!(f, "a frame of {len} bytes, {max} at most"),
            FrameError::LineTooLong { max } => write!(f, "a line of more than {max} bytes"),
            FrameError::BadVarint => f.write_str("a length that is not a proper varint"),
        }
    }
}

impl Error for FrameError {}

/// Why a payload cannot be written as a frame. Nothing of it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PayloadError {
    /// It is longer than is allowed, or than its prefix can say.
    TooLong {
        /// Its length in bytes.
        len: usize,
        /// The most that is allowed, in bytes.
        max: usize,
    },
    /// It is not as long as every frame is.
    WrongSize {
        /// Its length in bytes.
        len: usize,
        /// The length of every frame, in bytes.
        size: usize,
    },
    /// The other side would see the end of the line at another place: there is a line feed in it,
    /// or a carriage return at its end where lines end with a line feed alone.
    HoldsLineEnd,
}

impl fmt::Display for PayloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PayloadError::TooLong { len, max } => {
                write!(f, "a payload of {len} bytes, {max} at most")
            }
            PayloadError::WrongSize { len, size } => {
                write!(f, "a payload of {len} bytes where every frame has {size}")
            }
            PayloadError::HoldsLineEnd => f.write_str("a line with the end of a line in it"),
        }
    }
}

impl Error for PayloadError {}
