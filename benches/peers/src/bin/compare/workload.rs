//! What the load does.

/// How one message follows another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Mode {
    /// So many in one write, and again when all have come back.
    Rounds(usize),
    /// So many on their way at all times.
    Window(usize),
    /// At a fixed rate, which is this share of what the first server manages in rounds of one.
    Share(f64),
    /// So many a second.
    Rate(f64),
    /// One at a time, beside a connection that sends as much as goes.
    Flood,
    /// On a new connection.
    Churn,
    /// It does not: what matters is memory.
    Idle,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) mode: Mode,
    pub(crate) conns: usize,
    pub(crate) bytes: usize,
}

pub(crate) const WORKLOADS: [Workload; 12] = [
    workload("echo-1", Mode::Rounds(1), 1, 64),
    workload("echo-50", Mode::Rounds(1), 50, 64),
    workload("echo-1000", Mode::Rounds(1), 1000, 64),
    workload("echo-10000", Mode::Rounds(1), 10_000, 64),
    workload("pipelined-50", Mode::Rounds(16), 50, 64),
    workload("echo-16k", Mode::Rounds(1), 50, 16 << 10),
    workload("bulk", Mode::Window(16), 4, 64 << 10),
    workload("open-30", Mode::Share(0.3), 50, 64),
    workload("open-70", Mode::Share(0.7), 50, 64),
    workload("flood", Mode::Flood, 32, 64),
    workload("churn", Mode::Churn, 1, 64),
    workload("idle", Mode::Idle, 15_000, 64),
];

const fn workload(name: &'static str, mode: Mode, conns: usize, bytes: usize) -> Workload {
    Workload { name, mode, conns, bytes }
}

impl Workload {
    /// What a share is a share of.
    pub(crate) fn most(self) -> Workload {
        Workload { mode: Mode::Rounds(1), ..self }
    }

    /// The arguments of the load between the server's and the time.
    pub(crate) fn args(self) -> [String; 3] {
        let mode = match self.mode {
            Mode::Rounds(count) => format!("rounds:{count}"),
            Mode::Window(count) => format!("window:{count}"),
            Mode::Rate(rate) => format!("rate:{rate}"),
            Mode::Flood => "flood".to_owned(),
            Mode::Churn => "churn".to_owned(),
            Mode::Idle => "idle".to_owned(),
            Mode::Share(_) => unreachable!("it is made a rate first"),
        };
        [mode, self.conns.to_string(), self.bytes.to_string()]
    }
}
