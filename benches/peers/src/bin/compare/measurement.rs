//! One server under one load, once.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::server::{LOAD_CORE, Running, Server};
use crate::workload::Workload;

/// Waiting for a processor for longer than this part of the time spoils a measurement.
const WAITED_MAX: f64 = 0.01;
/// A machine that disturbs every one of so many is too busy for any.
const TRIES: usize = 5;

/// What the load has printed: memory of connections that idle, the rest of all others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measurement {
    pub(crate) per_second: Option<f64>,
    /// Time of the server on a processor, for each message.
    pub(crate) server_ns: Option<f64>,
    pub(crate) p50_us: Option<f64>,
    pub(crate) p99_us: Option<f64>,
    pub(crate) p999_us: Option<f64>,
    /// What came back to a connection that floods.
    pub(crate) flood_gb: Option<f64>,
    pub(crate) bytes_per_conn: Option<f64>,
    /// The larger part of the time for which the server or the load waited for a processor.
    waited: f64,
}

impl Measurement {
    fn parse(line: &str) -> Option<Measurement> {
        let value = |name| value(line, name);
        let flood_gb = value("flood_gb");
        let measured = Measurement {
            per_second: value("per_second"),
            // A server that is flooded spends most of its time on that.
            server_ns: value("server_ns").filter(|_| flood_gb.is_none()),
            p50_us: value("p50_us"),
            p99_us: value("p99_us"),
            p999_us: value("p999_us"),
            flood_gb,
            bytes_per_conn: value("bytes_per_conn"),
            waited: value("server_waited").unwrap_or(0.0).max(value("load_waited").unwrap_or(0.0)),
        };
        let figures = [measured.server_ns, measured.flood_gb, measured.bytes_per_conn];
        figures.iter().any(Option::is_some).then_some(measured)
    }
}

/// Measures, again if something else wanted the processor.
pub(crate) fn measure(
    programs: &Path,
    server: Server,
    workload: Workload,
    seconds: f64,
) -> io::Result<Measurement> {
    let mut best: Option<Measurement> = None;
    for _ in 0..TRIES {
        let running = Running::start(programs, server, &[])?;
        let line = load(&[], programs, &running, workload, seconds)?;
        let measured = Measurement::parse(&line)
            .ok_or_else(|| io::Error::other(format!("the load says {line:?}")))?;
        if measured.waited <= WAITED_MAX {
            return Ok(measured);
        }
        if best.is_none_or(|best| measured.waited < best.waited) {
            best = Some(measured);
        }
    }
    let best = best.ok_or_else(|| io::Error::other("nothing was measured"))?;
    let percent = 100.0 * best.waited;
    eprintln!("{} {}: waited {percent:.1} % of the time", workload.name, server.name);
    Ok(best)
}

/// Lets the load run, within the program `wrap` if there is one; returns what it has printed.
pub(crate) fn load(
    wrap: &[String],
    programs: &Path,
    running: &Running,
    workload: Workload,
    seconds: f64,
) -> io::Result<String> {
    let mut command = Command::new("taskset");
    command.args(["-c", LOAD_CORE]).args(wrap).arg(programs.join("load"));
    command.args([&running.addr, &running.pid().to_string()]);
    command.args(workload.args()).arg(seconds.to_string());
    let output = command.stderr(Stdio::inherit()).output()?;
    let line = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() { Ok(line) } else { Err(io::Error::other("the load has failed")) }
}

/// Returns what the load says of a name.
pub(crate) fn value(line: &str, name: &str) -> Option<f64> {
    let pair = line.split_whitespace().find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    pair?.parse().ok()
}
