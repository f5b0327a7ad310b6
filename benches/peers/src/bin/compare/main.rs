//! Compares echo servers: alternates them over several rounds, each on one core and the load on
//! another one, and prints what each costs, as a ratio to C on the raw system calls.
//!
//! `compare [--rounds N] [--seconds S] [--servers A,B,...] [WORKLOAD...]`; `benches/peers/run`
//! builds everything first.
//!
//! Only ratios within one run hold: the same program costs up to a third more from one second to
//! the next. So each server's cost is set against that of C in the same round, and the median of
//! these is printed, beside the ratio of the lowest ones; below 3 % is noise.

mod counts;
mod machine;
mod measurement;
mod server;
mod table;
mod workload;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use counts::count;
use measurement::{Measurement, measure};
use server::{SERVERS, Server};
use table::{Row, median, print, write_csv};
use workload::{Mode, WORKLOADS, Workload};

/// How often the first server is measured to know what it manages.
const RATE_ROUNDS: usize = 3;

struct Settings {
    rounds: usize,
    seconds: f64,
    servers: Vec<Server>,
    workloads: Vec<Workload>,
}

impl Settings {
    /// Reads the command line; an error is what to print.
    fn read() -> Result<Settings, String> {
        let mut settings =
            Settings { rounds: 9, seconds: 1.0, servers: SERVERS.to_vec(), workloads: Vec::new() };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} needs a value"));
            match &*arg {
                "--rounds" => settings.rounds = number(&value()?)?,
                "--seconds" => settings.seconds = number(&value()?)?,
                "--servers" => {
                    let wanted = value()?;
                    let find = |name: &str| SERVERS.into_iter().find(|server| server.name == name);
                    let servers: Option<Vec<_>> = wanted.split(',').map(find).collect();
                    settings.servers = servers.ok_or(format!("{wanted}: no such servers"))?;
                }
                name => {
                    let known = WORKLOADS.into_iter().find(|workload| workload.name == name);
                    settings.workloads.push(known.ok_or(format!("{name}: no such workload"))?);
                }
            }
        }
        if settings.servers.first().map(|server| server.name) != Some(SERVERS[0].name) {
            return Err(format!(
                "the first server is what the others are set against: {SERVERS:?}"
            ));
        }
        if settings.workloads.is_empty() {
            settings.workloads = WORKLOADS.to_vec();
        }
        Ok(settings)
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text} is no number"))
}

fn main() -> ExitCode {
    let settings = match Settings::read() {
        Ok(settings) => settings,
        Err(why) => {
            eprintln!("compare: {why}");
            return ExitCode::from(2);
        }
    };
    match run(&settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(settings: &Settings) -> io::Result<()> {
    let programs = std::env::current_exe()?.parent().map_or_else(PathBuf::new, PathBuf::from);
    println!("{}", machine::description().join("\n"));
    let mut rows = Vec::new();
    for workload in &settings.workloads {
        let measured = rounds(settings, &programs, *workload)?;
        let count = |server: &Server| count(&programs, *server, *workload);
        let counts: Vec<_> = settings.servers.iter().map(count).collect();
        let of_workload = Row::all(workload.name, &settings.servers, &measured, &counts);
        print(&of_workload);
        rows.extend(of_workload);
    }
    let path = programs.join("peers.csv");
    write_csv(&path, &rows)?;
    println!("written to {}", path.display());
    Ok(())
}

/// Returns for each round what each server came to.
fn rounds(
    settings: &Settings,
    programs: &Path,
    workload: Workload,
) -> io::Result<Vec<Vec<Measurement>>> {
    let workload = paced(settings, programs, workload)?;
    let mut rounds = Vec::new();
    for round in 0..settings.rounds {
        let mut order: Vec<usize> = (0..settings.servers.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        let mut measured = vec![None; order.len()];
        for index in order {
            let server = settings.servers[index];
            measured[index] = Some(measure(programs, server, workload, settings.seconds)?);
        }
        rounds.push(measured.into_iter().flatten().collect());
    }
    Ok(rounds)
}

/// Makes a rate of a share.
fn paced(settings: &Settings, programs: &Path, workload: Workload) -> io::Result<Workload> {
    let Mode::Share(share) = workload.mode else { return Ok(workload) };
    let mut most = Vec::new();
    for _ in 0..RATE_ROUNDS {
        let measured = measure(programs, SERVERS[0], workload.most(), settings.seconds)?;
        most.extend(measured.per_second);
    }
    let most = median(most.into_iter()).ok_or_else(|| io::Error::other("nothing was measured"))?;
    Ok(Workload { mode: Mode::Rate(share * most), ..workload })
}
