//! What is to be run: the command line and the environment.

use std::collections::hash_map::RandomState;
use std::env;
use std::hash::BuildHasher;

/// The settings of one run.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) minutes: u32,
    /// 100 is about an eighth of a core.
    pub(crate) load_percent: u32,
    pub(crate) seed: u64,
    /// What `HOTLOOP_CHAOS` holds, if it is set: connections may then end by faults, too.
    pub(crate) chaos: Option<String>,
}

pub(crate) const USAGE: &str = "usage: cargo bench --bench soak -- MINUTES [--load PERCENT]
  MINUTES         how long, 1 if left out
  --load PERCENT  how much of the usual load, 1 to 1000; 100 is an eighth of a core
HOTLOOP_SEED=N draws what N draws; HOTLOOP_CHAOS=... adds faults; HOTLOOP_BACKEND=... is heeded";

impl Settings {
    /// Reads them; an error is what to print.
    pub(crate) fn read() -> Result<Settings, String> {
        // `cargo bench` adds `--bench` itself.
        let mut args = env::args().skip(1).filter(|arg| arg != "--bench");
        let (mut minutes, mut load_percent) = (1, 100);
        while let Some(arg) = args.next() {
            if arg == "--load" {
                load_percent = number(args.next(), 1000)?;
            } else {
                minutes = number(Some(arg), 7 * 24 * 60)?;
            }
        }
        let chaos = env::var("HOTLOOP_CHAOS").ok().filter(|text| !text.is_empty());
        Ok(Settings { minutes, load_percent, seed: seed()?, chaos })
    }
}

fn seed() -> Result<u64, String> {
    match env::var("HOTLOOP_SEED").ok().filter(|text| !text.is_empty()) {
        Some(text) => text.parse().map_err(|_| format!("HOTLOOP_SEED={text} is no number")),
        // The hasher of each run is another one.
        None => Ok(RandomState::new().hash_one(0) >> 32),
    }
}

fn number(arg: Option<String>, most: u32) -> Result<u32, String> {
    let text = arg.ok_or("a number is missing")?;
    let number = text.parse().ok().filter(|number| (1..=most).contains(number));
    number.ok_or_else(|| format!("{text} is no number from 1 to {most}"))
}
