//! Scripts of operations, drawn from a seed.

use crate::random::Random;

pub const STEPS: usize = 60;

/// What is done in one step; the numbers choose among the connections there are.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    Dial,
    Connect,
    /// So many bytes wait for a connect that is refused.
    ConnectToNobody(usize),
    Send(usize, usize),
    Finish(usize),
    Reset(usize),
    Do(usize, Ops),
    /// The handler does it in the next callback about the connection that has data or its end.
    Later(usize, Ops),
    /// More than the sockets' buffers hold, to a peer that does not read at first.
    Bulk(usize, usize, Write, Then),
    Behave(usize, Behaviour),
    /// Timers that are started at once, after these milliseconds; the first one is cancelled.
    Timers([u64; 4]),
    /// One that fires so often, and is cancelled then.
    Repeat(u8),
    Wake,
}

/// What is done in one go.
pub type Ops = [Op; 2];

#[derive(Debug, Clone, Copy)]
pub enum Op {
    Nothing,
    Write(usize, Write),
    /// More than the hard limit, which ends the connection.
    WriteTooMuch,
    Flush,
    Pause,
    Resume,
    /// A timer of the connection, after these milliseconds.
    Timer(u64),
    /// The connection ends if nothing is said for so many milliseconds.
    IdleTimeout(u64),
    Shutdown,
    Close,
    Abort,
    /// Out of the loop and into it again.
    HandOver,
}

#[derive(Debug, Clone, Copy)]
pub enum Write {
    Copied,
    Shared,
    /// So many pieces.
    Vectored(usize),
}

/// What follows a large write before the peer reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    Nothing,
    Shutdown,
    Close,
}

/// What a handler does with bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    Swallow,
    Echo,
    /// Takes whole frames of so many bytes alone.
    Frames(usize),
    /// Takes nothing, up to the limit of what is kept.
    Hoard,
}

pub fn draw(seed: u64) -> Vec<Step> {
    let random = &mut Random::new(seed);
    (0..STEPS).map(|_| step(random)).collect()
}

fn number(random: &mut Random, below: usize) -> usize {
    random.below(below as u64) as usize
}

fn step(random: &mut Random) -> Step {
    let which = number(random, 1000);
    match number(random, 100) {
        0..10 => Step::Dial,
        10..16 => Step::Connect,
        16..18 => Step::ConnectToNobody(number(random, 2000)),
        18..40 => Step::Send(which, 1 + number(random, 3000)),
        40..42 => Step::Send(which, 1 + number(random, 300_000)),
        42..46 => Step::Finish(which),
        46..48 => Step::Reset(which),
        48..75 => Step::Do(which, ops(random)),
        75..83 => Step::Later(which, ops(random)),
        83..86 => {
            let then = [Then::Nothing, Then::Nothing, Then::Shutdown, Then::Close];
            let len = 100_000 + number(random, 300_000);
            Step::Bulk(which, len, write(random), then[number(random, 4)])
        }
        86..92 => Step::Behave(which, behaviour(random)),
        92..95 => Step::Timers([0; 4].map(|_| random.below(4))),
        95..97 => Step::Repeat(1 + number(random, 3) as u8),
        _ => Step::Wake,
    }
}

/// Two in one go. What a flush in between has done already, is for the kernel to say; and whether
/// an idle timeout is over already, for the clock.
fn ops(random: &mut Random) -> Ops {
    let is_alone = |op: &Op| matches!(op, Op::Flush | Op::IdleTimeout(_));
    let (first, second) = (op(random), op(random));
    if number(random, 3) > 0 || is_alone(&first) || is_alone(&second) {
        [first, Op::Nothing]
    } else {
        [first, second]
    }
}

fn op(random: &mut Random) -> Op {
    match number(random, 36) {
        0..10 => Op::Write(number(random, 5000), write(random)),
        10..12 => Op::Flush,
        12..16 => Op::Pause,
        16..22 => Op::Resume,
        22..25 => Op::Shutdown,
        25..27 => Op::Close,
        27..30 => Op::Abort,
        30 => Op::Timer(random.below(3)),
        31 => match number(random, 3) {
            0 => Op::WriteTooMuch,
            _ => Op::IdleTimeout(1 + random.below(2)),
        },
        _ => Op::HandOver,
    }
}

fn write(random: &mut Random) -> Write {
    match number(random, 3) {
        0 => Write::Copied,
        1 => Write::Shared,
        _ => Write::Vectored(1 + number(random, 5)),
    }
}

fn behaviour(random: &mut Random) -> Behaviour {
    match number(random, 7) {
        0 | 1 => Behaviour::Swallow,
        2 | 3 => Behaviour::Echo,
        4 => Behaviour::Hoard,
        _ => Behaviour::Frames(1 + number(random, 700)),
    }
}
