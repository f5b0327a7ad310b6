//! What a fuzzer runs. The bytes of its input decide how the stream is cut, what it is made of, in
//! what pieces it arrives and where the handler stops.

use std::convert::Infallible;

use hotloop::framing::{
    FixedSize, FrameError, Frames, Framing, LengthPrefix, LineScan, Lines, PayloadError,
};

use super::choices::Choices;
use super::naive::{Cutting, First};

const STREAM_MAX_BYTES: usize = 3000;
/// What framings treat in a way of its own.
const SPECIAL: [&[u8]; 8] =
    [b"\n", b"\r", b"\r\n", b"\r\r\n", b"\0", b"\x80\0", b"\x80\x80\0", &[0xff; 10]];

/// How often things have happened.
#[derive(Debug, Default)]
pub struct Reached {
    pub frames: usize,
    pub empty: usize,
    /// Of frames as long as is allowed.
    pub longest: usize,
    pub put_back: usize,
    /// Of stops before the last frame.
    pub stopped: usize,
    pub too_long: usize,
    pub bad_varint: usize,
    /// Of ends in the middle of a frame.
    pub waits: usize,
    /// Of bytes that were shown again with new ones.
    pub kept: usize,
}

impl Reached {
    pub fn add(&mut self, other: &Reached) {
        self.frames += other.frames;
        self.empty += other.empty;
        self.longest += other.longest;
        self.put_back += other.put_back;
        self.stopped += other.stopped;
        self.too_long += other.too_long;
        self.bad_varint += other.bad_varint;
        self.waits += other.waits;
        self.kept += other.kept;
    }
}

type MakePrefix = fn(usize) -> LengthPrefix;

/// How a stream is cut, by the crate.
#[derive(Clone, Copy)]
enum Real {
    /// With the scan remembered, or always from the beginning.
    Lines(Lines, bool),
    Prefix(LengthPrefix),
    Fixed(FixedSize),
}

/// One connection: what was shown and not consumed, and what has to come of it.
struct Conn {
    cutting: Cutting,
    max: usize,
    kept: Vec<u8>,
    frames: Vec<Vec<u8>>,
    error: Option<FrameError>,
    reached: Reached,
}

/// Cuts a stream piece by piece, as a handler does, and compares each step with the model.
///
/// # Panics
///
/// If they differ.
pub fn check(input: &[u8]) -> Reached {
    let (arrival, content) = input.split_at(input.len() / 3);
    let (mut arrival, mut content) = (Choices::new(arrival), Choices::new(content));
    let (cutting, real, max) = choose(&mut content);
    let stream = stream(&mut content, cutting, real, max);
    let mut conn = Conn {
        cutting,
        max,
        kept: Vec::new(),
        frames: Vec::new(),
        error: None,
        reached: Reached::default(),
    };
    let most = 1 + arrival.below(200);
    let (mut at, mut scan) = (0, LineScan::default());
    while conn.error.is_none() {
        let end = stream.len().min(at + 1 + arrival.below(most));
        conn.reached.kept += usize::from(!conn.kept.is_empty() && at < end);
        conn.kept.extend(&stream[at..end]);
        let is_last = at == stream.len();
        // The last time all that is there is cut, as after a resume.
        let stop = if is_last { 0 } else { arrival.byte() };
        conn.show(real, &mut scan, stop);
        at = end;
        if is_last {
            break;
        }
    }
    conn.check_whole(&stream)
}

fn choose(content: &mut Choices<'_>) -> (Cutting, Real, usize) {
    let kind = content.byte() % 9;
    let max = match content.byte() % 4 {
        0 => content.below(4),
        1 => 120 + content.below(20),
        2 => 250 + content.below(10),
        _ => content.below(600),
    };
    let make: [(MakePrefix, Cutting); 6] = [
        (LengthPrefix::varint, Cutting::Varint),
        (LengthPrefix::u8, Cutting::Length(1, true)),
        (LengthPrefix::u16_be, Cutting::Length(2, true)),
        (LengthPrefix::u16_le, Cutting::Length(2, false)),
        (LengthPrefix::u32_be, Cutting::Length(4, true)),
        (LengthPrefix::u32_le, Cutting::Length(4, false)),
    ];
    match kind {
        0 | 1 => (Cutting::Lines, Real::Lines(Lines::new(max), kind == 1), max),
        2 => (Cutting::Fixed, Real::Fixed(FixedSize::new(max + 1)), max + 1),
        _ => {
            let (make, cutting) = make[usize::from(kind) - 3];
            (cutting, Real::Prefix(make(max)), max.min(cutting.widest()))
        }
    }
}

/// Frames that are allowed, some that are not, and bytes that are none.
fn stream(content: &mut Choices<'_>, cutting: Cutting, real: Real, max: usize) -> Vec<u8> {
    let mut stream = Vec::new();
    while !content.is_over() && stream.len() < STREAM_MAX_BYTES {
        match content.byte() % 32 {
            0 | 1 => stream.extend(content.take(9)),
            2 | 3 => stream.extend(SPECIAL[content.below(SPECIAL.len())]),
            op => {
                let len = match op {
                    4 => max + 1,
                    5..8 => max,
                    8..11 => content.below(max + 1),
                    _ => content.below(12).min(max),
                };
                let filler = content.take(1 + content.rest().len().min(5));
                let payload: Vec<u8> = filler.iter().copied().cycle().take(len).collect();
                check_encoding(cutting, real, max, &payload);
                if payload.len() <= cutting.widest() {
                    stream.extend(cutting.encode(&payload));
                }
            }
        }
    }
    stream
}

fn check_encoding(cutting: Cutting, real: Real, max: usize, payload: &[u8]) {
    let Real::Prefix(framing) = real else { return };
    let len = payload.len();
    match framing.encode(payload) {
        Ok(frame) => assert_eq!(frame, cutting.encode(payload)),
        Err(error) => assert_eq!((error, len > max), (PayloadError::TooLong { len, max }, true)),
    }
}

impl Conn {
    /// One call of `on_data`, which stops where `stop` says.
    fn show(&mut self, real: Real, scan: &mut LineScan, stop: u8) {
        let data = std::mem::take(&mut self.kept);
        let needs_bytes = self.cutting.needs_bytes(self.max);
        let consumed = match real {
            Real::Lines(lines, is_remembered) => {
                assert_eq!(lines.needs_bytes(), needs_bytes);
                let mut frames = lines.frames_from(&data, *scan);
                self.cut(&mut frames, &data, stop, |error| error);
                *scan = if is_remembered { frames.line_scan() } else { LineScan::default() };
                frames.consumed()
            }
            Real::Prefix(framing) => {
                assert_eq!(framing.needs_bytes(), needs_bytes);
                let mut frames = framing.frames(&data);
                self.cut(&mut frames, &data, stop, |error| error);
                frames.consumed()
            }
            Real::Fixed(framing) => {
                assert_eq!(framing.needs_bytes(), needs_bytes);
                let mut frames = framing.frames(&data);
                self.cut(&mut frames, &data, stop, |error: Infallible| match error {});
                frames.consumed()
            }
        };
        self.kept = data[consumed..].to_vec();
    }

    /// Compares frame by frame with what the model says of the bytes in front.
    fn cut<F: Framing>(
        &mut self,
        frames: &mut Frames<'_, F>,
        data: &[u8],
        stop: u8,
        error_of: fn(F::Error) -> FrameError,
    ) {
        // Stops after some frames, and takes the last one back.
        let most = if stop & 1 == 1 { usize::from(stop >> 4) } else { usize::MAX };
        let puts_back = stop & 2 == 2;
        let mut at = 0;
        for _ in 0..most {
            let first = self.cutting.first(self.max, &data[at..]);
            let Some(result) = frames.next() else {
                assert_eq!(first, First::Wait, "{:?} at {at} of {data:02x?}", self.cutting);
                assert!(data.len() - at < self.cutting.needs_bytes(self.max), "too much is kept");
                self.reached.waits += usize::from(at < data.len());
                break;
            };
            match result.map_err(error_of) {
                Ok(frame) => {
                    let taken = frames.consumed() - at;
                    assert_eq!(first, First::Frame(frame.to_vec(), taken), "{:?}", self.cutting);
                    at += taken;
                    self.frames.push(frame.to_vec());
                }
                Err(error) => {
                    assert_eq!(first, First::Error(error), "{:?}", self.cutting);
                    assert!(frames.next().is_none(), "nothing follows an error");
                    self.error = Some(error);
                    break;
                }
            }
            assert_eq!((frames.consumed(), frames.rest()), (at, &data[at..]));
        }
        self.reached.stopped += usize::from(most != usize::MAX && at < data.len());
        if puts_back && frames.put_back() {
            self.frames.pop();
            self.reached.put_back += 1;
        }
    }

    /// Compares all frames with those that the model cuts from the stream in one piece.
    fn check_whole(mut self, stream: &[u8]) -> Reached {
        let mut at = 0;
        let mut expected = Vec::new();
        let first = loop {
            match self.cutting.first(self.max, &stream[at..]) {
                First::Frame(frame, taken) => {
                    expected.push(frame);
                    at += taken;
                }
                other => break other,
            }
        };
        assert!(
            self.frames == expected,
            "{:?}: {} of {}",
            self.cutting,
            self.frames.len(),
            expected.len()
        );
        match self.error {
            Some(FrameError::BadVarint) => self.reached.bad_varint += 1,
            Some(_) => self.reached.too_long += 1,
            None => assert_eq!((first, &self.kept[..]), (First::Wait, &stream[at..])),
        }
        let (frames, max) = (&self.frames, self.max);
        self.reached.frames = frames.len();
        self.reached.empty = frames.iter().filter(|frame| frame.is_empty()).count();
        self.reached.longest = frames.iter().filter(|frame| frame.len() == max).count();
        assert!(frames.iter().all(|frame| frame.len() <= max), "longer than is allowed");
        self.reached
    }
}
