//! What a server does for a message, counted where it is counted exactly: system calls by perf, the
//! instructions in user space by callgrind. Both cost time, so each has runs of its own.
//!
//! Under callgrind a server is many times slower than the load: with several connections nearly all
//! have something to say at each wait, so that what a turn costs is shared by more messages than at
//! full speed.

use std::fs;
use std::io;
use std::path::Path;

use crate::measurement::{load, value};
use crate::server::{Running, Server};
use crate::workload::{Mode, Workload};

/// Of the shorter run; the other one is three times as long, and the difference is what counts:
/// the start and the connects drop out.
const SECONDS: f64 = 0.3;

/// Per message; none where the tool does not count.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) calls: Option<f64>,
    pub(crate) instructions: Option<f64>,
}

/// Counts what a closed loop costs; there is nothing new to learn from the others.
pub(crate) fn count(programs: &Path, server: Server, workload: Workload) -> Counts {
    let per_message = |what: &str, once: Once| {
        let is_closed = matches!(workload.mode, Mode::Rounds(_) | Mode::Window(_) | Mode::Churn);
        if !is_closed {
            return None;
        }
        let (few, many) = (SECONDS, 3.0 * SECONDS);
        let both = once(programs, server, workload, few)
            .and_then(|few| Ok((few, once(programs, server, workload, many)?)));
        match both {
            Ok(((few, of), (many, of_more))) => Some((many - few) / (of_more - of)),
            Err(error) => {
                eprintln!("{} {}: {what} are not counted: {error}", workload.name, server.name);
                None
            }
        }
    };
    Counts {
        calls: per_message("system calls", calls),
        instructions: per_message("instructions", instructions),
    }
}

/// Returns a count, and of how many messages it is.
type Once = fn(&Path, Server, Workload, f64) -> io::Result<(f64, f64)>;

fn calls(programs: &Path, server: Server, workload: Workload, s: f64) -> io::Result<(f64, f64)> {
    let running = Running::start(programs, server, &[])?;
    let (path, pid) = (programs.join("calls.txt"), running.pid().to_string());
    let path_text = path.to_string_lossy();
    let perf =
        ["perf", "stat", "-x,", "-e", "raw_syscalls:sys_enter", "-p", &pid, "-o", &path_text];
    let line = load(&perf.map(str::to_owned), programs, &running, workload, s)?;
    let text = fs::read_to_string(&path)?;
    let row = text.lines().find(|line| line.contains("sys_enter"));
    let count = row.and_then(|row| row.split(',').next()?.parse().ok());
    pair(count, value(&line, "total"), &text)
}

fn instructions(
    programs: &Path,
    server: Server,
    workload: Workload,
    s: f64,
) -> io::Result<(f64, f64)> {
    let path = programs.join("instructions.txt");
    let file = format!("--callgrind-out-file={}", path.display());
    let valgrind = ["valgrind", "-q", "--tool=callgrind", &file].map(str::to_owned);
    let running = Running::start(programs, server, &valgrind)?;
    let line = load(&[], programs, &running, workload, s)?;
    running.terminate()?;
    let text = fs::read_to_string(&path)?;
    let count = text.lines().find_map(|line| line.strip_prefix("totals: ")?.parse().ok());
    pair(count, value(&line, "total"), &line)
}

fn pair(count: Option<f64>, messages: Option<f64>, of: &str) -> io::Result<(f64, f64)> {
    count.zip(messages).ok_or_else(|| io::Error::other(format!("no number in {of:?}")))
}
