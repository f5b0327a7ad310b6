//! A random program as plain data: how the world is made, what happens in it and when, and what
//! the handler does in its callbacks. Plain data can be shrunk and printed.

use std::time::Duration;

use hotloop::sim::{Dialect, Fault, Faults, Link, NodeOptions};
use hotloop::{Config, ConnOptions, Limit, Missed, SlowConsumer, Time};

use crate::errno::{ECONNABORTED, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM, EPROTO};
use crate::random::Random;

/// Everything a run is made of.
#[derive(Debug, Clone)]
pub struct Program {
    pub seed: u64,
    pub setup: Setup,
    /// What happens in the world: so many microseconds after the act before.
    pub acts: Vec<(u64, Act)>,
    /// What the handler does in its callbacks: each one takes the next list.
    pub answers: Vec<Answer>,
}

#[derive(Debug, Clone)]
pub struct Setup {
    pub dialect: Dialect,
    pub start_nanos: u64,
    pub faults: Level,
    pub link: usize,
    pub recv_buffer_bytes: usize,
    pub read_budget: (usize, u32),
    pub write_budget_bytes: usize,
    pub accept_budget: u32,
    pub max_connections: usize,
    pub global_buffer_bytes: usize,
    /// Those of the loop, and others for what is given its own.
    pub limits: [Limits; 2],
    pub socket_buffers: (usize, usize),
    pub descriptors_max: usize,
    pub turn_cost_micros: (u64, u64),
}

/// What is set for a connection.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub low: usize,
    pub high: usize,
    pub hard: usize,
    pub refuses: bool,
    pub inbound_max_bytes: usize,
    pub idle_ms: Option<u64>,
    pub stall_ms: u64,
    pub connect_ms: u64,
    pub linger_ms: u64,
    pub linger_bytes: usize,
}

/// How much goes wrong on the machine of the loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    None,
    Mild,
    Harsh,
    /// One kind alone, and often.
    One(usize),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    Dial,
    Send(usize, usize),
    SendUrgent(usize),
    Finish(usize),
    Reset(usize),
    StopReading(usize),
    StartReading(usize),
    Cut,
    CutOneWay(bool),
    Heal,
    /// The handler's `Net`, between two turns.
    Outside(Op),
    Wake,
    Refuse(Vec<i32>),
    Spurious(Target),
    Drop,
}

/// Which connection an operation is for; the number chooses among those there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    This,
    Live(usize),
    Stale(usize),
    Never,
}

/// What the handler does in one callback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub ops: Vec<Op>,
    pub consume: Consume,
    /// The default answer to a FIN, or none.
    pub closes: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consume {
    All,
    Nothing,
    Part(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    Write(Target, usize),
    WriteShared(Target, usize),
    Flush(Target),
    Pause(Target),
    Resume(Target),
    Shutdown(Target),
    Close(Target),
    Abort(Target),
    Timer(u64),
    Repeat(u64, bool),
    ConnTimer(Target, u64),
    CancelTimer(usize),
    IdleTimeout(Target, Option<u64>),
    /// With the limits of its own, or the loop's.
    Listen(bool),
    CloseListener(usize),
    Connect(Dialled, bool),
    Wake,
    Again,
    Stop,
    RefreshNow,
    Look(Target),
    Panic,
    /// Out of the loop and into it again.
    HandOver(Target, Adoption),
}

/// How a connection that is handed over comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Adoption {
    /// When a later turn starts, not inside `on_release`.
    pub is_late: bool,
    /// With limits of its own, or the loop's.
    pub is_special: bool,
}

/// Who is connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialled {
    Server,
    Nobody,
    BlackHole,
    Own,
    OwnListener,
}

impl Dialled {
    /// Whether the other end would be the loop's own, too.
    pub fn is_own(self) -> bool {
        matches!(self, Dialled::Own | Dialled::OwnListener)
    }
}

/// How many kinds of `Op` there are, and their names.
pub const OPS: &[&str] = &[
    "Write",
    "WriteShared",
    "Flush",
    "Pause",
    "Resume",
    "Shutdown",
    "Close",
    "Abort",
    "Timer",
    "Repeat",
    "ConnTimer",
    "CancelTimer",
    "IdleTimeout",
    "Listen",
    "CloseListener",
    "Connect",
    "Again",
    "Stop",
    "RefreshNow",
    "Look",
    "Panic",
    "Wake",
    "HandOver",
];

impl Op {
    pub fn kind(&self) -> usize {
        match self {
            Op::Write(..) => 0,
            Op::WriteShared(..) => 1,
            Op::Flush(_) => 2,
            Op::Pause(_) => 3,
            Op::Resume(_) => 4,
            Op::Shutdown(_) => 5,
            Op::Close(_) => 6,
            Op::Abort(_) => 7,
            Op::Timer(_) => 8,
            Op::Repeat(..) => 9,
            Op::ConnTimer(..) => 10,
            Op::CancelTimer(_) => 11,
            Op::IdleTimeout(..) => 12,
            Op::Listen(_) => 13,
            Op::CloseListener(_) => 14,
            Op::Connect(..) => 15,
            Op::Again => 16,
            Op::Stop => 17,
            Op::RefreshNow => 18,
            Op::Look(_) => 19,
            Op::Panic => 20,
            Op::Wake => 21,
            Op::HandOver(..) => 22,
        }
    }
}

/// What faults of one kind are tried alone.
const ALONE: &[Fault] = &[
    Fault::ShortRead,
    Fault::ShortWrite,
    Fault::ReadBlocked,
    Fault::WriteBlocked,
    Fault::WaitInterrupted,
    Fault::SpuriousEvent,
    Fault::DelayedEvent,
    Fault::SplitBatch,
    Fault::ShuffledBatch,
    Fault::ClockStepBack,
    Fault::StaleEvent,
    Fault::AcceptError,
    Fault::ConnectError,
    Fault::SelfConnect,
    Fault::SendError,
    Fault::RecvError,
    Fault::Reset,
    Fault::LateCompletion,
    Fault::SlowTurn,
];

impl Level {
    pub fn faults(self) -> Faults {
        match self {
            Level::None => Faults::none(),
            Level::Mild => Faults::mild(),
            Level::Harsh => Faults::harsh(),
            Level::One(kind) => {
                let kind = ALONE[kind % ALONE.len()];
                let rare = matches!(kind, Fault::Reset | Fault::SendError | Fault::RecvError);
                Faults::none().of(kind, if rare { 0.03 } else { 0.4 })
            }
        }
    }
}

impl Limits {
    pub fn options(&self) -> ConnOptions {
        let policy = if self.refuses { SlowConsumer::Refuse } else { SlowConsumer::Close };
        let options = ConnOptions::default()
            .low_water_bytes(self.low)
            .high_water_bytes(self.high)
            .hard_limit_bytes(self.hard)
            .slow_consumer(policy)
            .inbound_max_bytes(self.inbound_max_bytes)
            .write_stall_timeout(Duration::from_millis(self.stall_ms))
            .connect_timeout(Duration::from_millis(self.connect_ms))
            .linger_timeout(Duration::from_millis(self.linger_ms))
            .linger_bytes(self.linger_bytes);
        match self.idle_ms {
            Some(ms) => options.idle_timeout(Duration::from_millis(ms)),
            None => options.idle_timeout(Limit::Unlimited),
        }
    }
}

impl Setup {
    pub fn config(&self) -> Config {
        Config::default()
            .recv_buffer_bytes(self.recv_buffer_bytes)
            .read_budget_bytes(self.read_budget.0)
            .read_budget_calls(self.read_budget.1)
            .write_budget_bytes(self.write_budget_bytes)
            .accept_budget(self.accept_budget)
            .max_connections(self.max_connections)
            .global_buffer_bytes(self.global_buffer_bytes)
            .conn(self.limits[0].options())
    }

    pub fn node_options(&self) -> NodeOptions {
        let (cost, jitter) = self.turn_cost_micros;
        NodeOptions::default()
            .config(self.config())
            .dialect(self.dialect)
            .faults(self.faults.faults())
            .send_buffer_bytes(self.socket_buffers.0)
            .recv_buffer_bytes(self.socket_buffers.1)
            .descriptors_max(self.descriptors_max)
            .turn_cost(Duration::from_micros(cost), Duration::from_micros(jitter))
    }

    pub fn link(&self) -> Link {
        match self.link {
            0 => Link::instant(),
            1 => Link::lan(),
            2 => Link::wifi(),
            3 => Link::mobile(),
            4 => Link::lan().loss(0.1).segment_max_bytes(100),
            5 => Link::lan().refuse(0.2).swallow(0.1),
            _ => Link::lan().bandwidth(100_000).jitter(Duration::from_millis(5)),
        }
    }

    pub fn start(&self) -> Time {
        Time::from_nanos(self.start_nanos)
    }
}

/// How the program of a seed is drawn. What is added later draws from a generator of its own, so
/// that a seed that has found something goes on to stand for the same program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drawing {
    /// Without handing over.
    Plain,
    /// All there is.
    Full,
}

/// Draws a program.
pub fn draw(seed: u64, drawing: Drawing) -> Program {
    let mut program = draw_plain(seed);
    if drawing == Drawing::Full {
        add_hand_overs(&mut program);
    }
    program
}

/// Has three programs of four hand connections over, some rarely and some at every turn.
fn add_hand_overs(program: &mut Program) {
    let mut random = Random::new(program.seed ^ 2);
    let one_of = [0, 30, 12, 5][random.below(4) as usize];
    if one_of == 0 {
        return;
    }
    for answer in &mut program.answers {
        if random.below(one_of) == 0 {
            let place = random.below(answer.ops.len() as u64 + 1) as usize;
            answer.ops.insert(place, draw_hand_over(&mut random));
        }
    }
    let mut place = 0;
    while place < program.acts.len() {
        if random.below(2 * one_of) == 0 {
            let op = draw_hand_over(&mut random);
            program.acts.insert(place, (draw_delay(&mut random), Act::Outside(op)));
            place += 1;
        }
        place += 1;
    }
}

fn draw_hand_over(random: &mut Random) -> Op {
    let target = draw_target(random);
    let adoption = Adoption { is_late: random.below(3) == 0, is_special: random.below(3) == 0 };
    Op::HandOver(target, adoption)
}

fn draw_plain(seed: u64) -> Program {
    let mut random = Random::new(seed);
    let setup = draw_setup(&mut random);
    let count = 30 + random.below(60);
    let acts = (0..count).map(|_| (draw_delay(&mut random), draw_act(&mut random))).collect();
    let count = random.below(150);
    let answers = (0..count).map(|_| draw_answer(&mut random)).collect();
    Program { seed, setup, acts, answers }
}

fn draw_setup(random: &mut Random) -> Setup {
    Setup {
        dialect: if random.below(2) == 0 { Dialect::Readiness } else { Dialect::Completion },
        start_nanos: draw_start(random),
        faults: match random.below(4) {
            0 => Level::None,
            1 => Level::Mild,
            2 => Level::Harsh,
            _ => Level::One(random.below(ALONE.len() as u64) as usize),
        },
        link: random.below(7) as usize,
        recv_buffer_bytes: 512 + random.size(8_000),
        read_budget: (1 + random.size(5_000), 1 + random.below(16) as u32),
        write_budget_bytes: 1 + random.size(50_000),
        accept_budget: 1 + random.below(4) as u32,
        max_connections: if random.below(4) == 0 { 1 + random.size(6) } else { 1_000 },
        global_buffer_bytes: if random.below(4) == 0 {
            4_000 + random.size(60_000)
        } else {
            1 << 28
        },
        limits: [draw_limits(random), draw_limits(random)],
        socket_buffers: (1 + random.size(20_000), 1 + random.size(20_000)),
        descriptors_max: if random.below(5) == 0 { 3 + random.size(8) } else { 1_000 },
        turn_cost_micros: (1 + random.below(50), random.below(200)),
    }
}

fn draw_limits(random: &mut Random) -> Limits {
    let low = random.size(2_000);
    let high = low + random.size(6_000);
    let hard = high + random.size(20_000);
    let low = if random.below(4) == 0 { 0 } else { low };
    Limits {
        low,
        high,
        hard,
        refuses: random.below(2) == 0,
        inbound_max_bytes: 1 + random.size(20_000),
        idle_ms: (random.below(4) == 0).then(|| 1 + random.below(3_000)),
        stall_ms: if random.below(3) == 0 { 10 + random.below(2_000) } else { 60_000 },
        connect_ms: if random.below(2) == 0 { 1 + random.below(3_000) } else { 30_000 },
        linger_ms: if random.below(2) == 0 { 1 + random.below(1_000) } else { 20_000 },
        linger_bytes: if random.below(3) == 0 { random.size(5_000) } else { 1 << 20 },
    }
}

/// The edges of uptime that other event loops have stumbled over.
fn draw_start(random: &mut Random) -> u64 {
    let edges_ms: [u64; 5] = [1 << 30, 1 << 31, 1 << 32, 1 << 36, 1];
    match random.below(4) {
        0 => 1_000_000_000,
        1 => u64::MAX / 2,
        _ => {
            let edge = edges_ms[random.below(5) as usize] * 1_000_000;
            edge.saturating_sub(random.below(2_000_000_000))
        }
    }
}

fn draw_delay(random: &mut Random) -> u64 {
    match random.below(10) {
        0..2 => 0,
        2..6 => random.below(500),
        6..9 => random.below(20_000),
        _ => random.below(1_500_000),
    }
}

fn draw_act(random: &mut Random) -> Act {
    let who = random.below(64) as usize;
    match random.below(100) {
        0..16 => Act::Dial,
        16..46 => Act::Send(who, 1 + random.size(9_000)),
        46..49 => Act::SendUrgent(who),
        49..54 => Act::Finish(who),
        54..57 => Act::Reset(who),
        57..61 => Act::StopReading(who),
        61..66 => Act::StartReading(who),
        66..67 => Act::Cut,
        67..68 => Act::CutOneWay(random.below(2) == 0),
        68..71 => Act::Heal,
        71..93 => Act::Outside(draw_op(random)),
        93..95 => Act::Wake,
        95..97 => Act::Refuse(draw_errnos(random)),
        97..99 => Act::Spurious(draw_target(random)),
        _ if random.below(8) == 0 => Act::Drop,
        _ => Act::Dial,
    }
}

fn draw_errnos(random: &mut Random) -> Vec<i32> {
    let all = [EMFILE, ENFILE, ENOBUFS, ENOMEM, ECONNABORTED, EINTR, EPROTO];
    (0..1 + random.below(4)).map(|_| all[random.below(all.len() as u64) as usize]).collect()
}

fn draw_answer(random: &mut Random) -> Answer {
    let count = [0, 1, 1, 1, 2, 3][random.below(6) as usize];
    let consume = match random.below(6) {
        0 => Consume::Nothing,
        1 => Consume::Part(random.below(3_000) as usize),
        _ => Consume::All,
    };
    let ops = (0..count).map(|_| draw_op(random)).collect();
    Answer { ops, consume, closes: random.below(3) > 0 }
}

fn draw_target(random: &mut Random) -> Target {
    match random.below(10) {
        0..6 => Target::This,
        6..8 => Target::Live(random.below(64) as usize),
        8 => Target::Stale(random.below(64) as usize),
        _ => Target::Never,
    }
}

fn draw_op(random: &mut Random) -> Op {
    let target = draw_target(random);
    match random.below(100) {
        0..24 => Op::Write(target, random.size(8_000)),
        24..34 => Op::WriteShared(target, random.size(8_000)),
        34..38 => Op::Flush(target),
        38..44 => Op::Pause(target),
        44..51 => Op::Resume(target),
        51..54 => Op::Shutdown(target),
        54..58 => Op::Close(target),
        58..60 => Op::Abort(target),
        60..67 => Op::Timer(draw_timer_nanos(random)),
        67..70 => Op::Repeat(draw_period_nanos(random), random.below(2) == 0),
        70..74 => Op::ConnTimer(target, draw_timer_nanos(random)),
        74..78 => Op::CancelTimer(random.below(64) as usize),
        78..80 => Op::IdleTimeout(target, (random.below(3) > 0).then(|| random.below(2_000))),
        80..82 => Op::Listen(random.below(3) == 0),
        82..83 => Op::CloseListener(random.below(8) as usize),
        83..90 => Op::Connect(draw_dialled(random), random.below(3) == 0),
        90..92 => Op::Again,
        92..93 => Op::Stop,
        93..94 => Op::RefreshNow,
        94..95 => Op::Wake,
        95..99 => Op::Look(target),
        _ => Op::Panic,
    }
}

fn draw_timer_nanos(random: &mut Random) -> u64 {
    match random.below(5) {
        0 => 0,
        1 => random.below(2_000),
        2 => random.below(1_000_000),
        3 => random.below(50_000_000),
        _ => random.below(20_000) * 100_000,
    }
}

/// Not so short that a run is nothing but the ticks of one timer.
fn draw_period_nanos(random: &mut Random) -> u64 {
    let bits = 10 + random.below(17);
    200_000 + random.below(1 << bits)
}

fn draw_dialled(random: &mut Random) -> Dialled {
    match random.below(8) {
        0..4 => Dialled::Server,
        4 => Dialled::Nobody,
        5 => Dialled::BlackHole,
        6 => Dialled::Own,
        _ => Dialled::OwnListener,
    }
}

pub fn missed(burst: bool) -> Missed {
    if burst { Missed::Burst } else { Missed::Skip }
}

#[test]
fn every_fault_of_a_host_is_tried_alone() {
    let of_links = [Fault::Loss, Fault::Refused, Fault::Swallowed, Fault::Held];
    for kind in Fault::ALL.iter().filter(|kind| !of_links.contains(kind)) {
        assert!(ALONE.contains(kind), "{kind:?} is not");
    }
}
