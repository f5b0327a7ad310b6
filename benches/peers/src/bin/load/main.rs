//! Loads an echo server, checks every byte that comes back, and says what it cost.
//!
//! Prints one line of `name=value`: messages a second and in all, the server's time on a processor
//! for each of them, latencies, and how long either waited for a processor. With connections that
//! stay it spins, so that the server never pays for waking it.

mod churn;
mod conn;
mod flood;
mod idle;
mod measured;
mod settings;
mod steady;
mod usage;

use std::io;
use std::process::ExitCode;

use churn::Churn;
use flood::Flood;
use measured::measure;
use settings::{Mode, Settings, USAGE};
use steady::Steady;

fn main() -> ExitCode {
    let Some(settings) = Settings::read() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match run(&settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(settings: &Settings) -> io::Result<()> {
    let measured = match settings.mode {
        Mode::Idle => return idle::run(settings),
        Mode::Churn => measure(&mut Churn::new(settings)?, settings.pid, settings.duration)?,
        Mode::Flood => measure(&mut Flood::connect(settings)?, settings.pid, settings.duration)?,
        _ => measure(&mut Steady::connect(settings)?, settings.pid, settings.duration)?,
    };
    measured.print();
    Ok(())
}
