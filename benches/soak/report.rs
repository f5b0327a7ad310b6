//! What is printed, and the judgement at the end.

use std::io;

use crate::process;
use crate::roles::Role;
use crate::settings::Settings;
use crate::side::{Count, Shared, Side};

/// What resident memory may grow by, for runs that are long enough to tell.
const SLOPE_MAX_MIB_H: f64 = 1.0;
const SLOPE_MINUTES_MIN: u32 = 30;
/// Minutes at the beginning that do not count for it, of a run of so many: buffers, tables and the
/// allocator find their size.
const WARM_UP_SHARE: u32 = 6;
/// How often the ends of each story must have been seen, per minute, so that the load is one.
const ENDS_MIN: [(Role, u64); 6] = [
    (Role::Closes, 60),
    (Role::Asks, 60),
    (Role::HalfCloses, 40),
    (Role::Aborts, 40),
    (Role::Vanishes, 40),
    (Role::Garbage, 8),
];

pub(crate) struct Report {
    minutes: u32,
    load_percent: u32,
    chaos: bool,
    descriptors_before: usize,
    /// Of this minute: KiB and descriptors of every second.
    samples: Vec<(u64, usize)>,
    /// Medians of the minutes.
    resident_kib: Vec<f64>,
    descriptors: Vec<f64>,
    frames: u64,
    failures: Vec<String>,
}

impl Report {
    pub(crate) fn new(settings: &Settings, descriptors_before: usize) -> Report {
        println!(
            "min    RSS KiB  fds conns slots  buffered  frames/s   GiB checked  lag p99/max ms \
             (server, clients)  CPU s  injected  errors"
        );
        Report {
            minutes: settings.minutes,
            load_percent: settings.load_percent,
            chaos: settings.chaos.is_some(),
            descriptors_before,
            samples: Vec::new(),
            resident_kib: Vec::new(),
            descriptors: Vec::new(),
            frames: 0,
            failures: Vec::new(),
        }
    }

    /// Once a second.
    pub(crate) fn sample(&mut self) -> io::Result<()> {
        self.samples.push((process::resident_kib()?, process::descriptors()?));
        Ok(())
    }

    /// Prints what the last minute was.
    pub(crate) fn minute(&mut self, minute: u32, shared: &Shared) -> io::Result<()> {
        let resident = median(self.samples.iter().map(|sample| sample.0 as f64).collect());
        let descriptors = median(self.samples.iter().map(|sample| sample.1 as f64).collect());
        self.samples.clear();
        self.resident_kib.push(resident);
        self.descriptors.push(descriptors);
        let mut server = shared.server.lock().expect("nobody panics while holding it");
        let mut crowd = shared.crowd.lock().expect("nobody panics while holding it");
        let sum = |of: fn(&Side) -> u64| of(&server) + of(&crowd);
        let frames = sum(|side| side.frames);
        println!(
            "{minute:3} {resident:10.0} {descriptors:4.0} {:5} {:5} {:9} {:9} {:13.2}  \
             {:6.2}/{:.1} {:.2}/{:.1}  {:7.1} {:8} {:7}",
            sum(|side| side.stats.connections as u64),
            sum(|side| side.slots as u64),
            sum(|side| side.stats.buffered_bytes),
            (frames - self.frames) / 60,
            sum(|side| side.checked_bytes) as f64 / f64::from(1 << 30),
            server.lag.p99_ms(),
            server.lag.max_ms(),
            crowd.lag.p99_ms(),
            crowd.lag.max_ms(),
            process::processor_s()?,
            sum(|side| side.injected),
            sum(Side::fault_total),
        );
        self.frames = frames;
        // Each line has the lag of its own minute.
        server.lag.clear();
        crowd.lag.clear();
        Ok(())
    }

    /// Holds what the producers say that they posted against what has arrived.
    pub(crate) fn posts(&mut self, posted: &[u64], seen: &[u64]) {
        println!("posts: {posted:?} posted, {seen:?} arrived in their order");
        self.check("a post is lost", posted == seen && posted.iter().all(|count| *count > 0));
    }

    /// Prints the sums and judges them.
    pub(crate) fn end(mut self, shared: &Shared) -> io::Result<bool> {
        for side in [&shared.server, &shared.crowd] {
            let side = side.lock().expect("nobody panics while holding it").clone();
            self.side(&side);
        }
        self.descriptors()?;
        self.slopes();
        for failure in &self.failures {
            println!("FAILED: {failure}");
        }
        println!("{}", if self.failures.is_empty() { "passed" } else { "failed" });
        Ok(self.failures.is_empty())
    }

    fn check(&mut self, what: &str, is_right: bool) {
        if !is_right {
            self.failures.push(what.to_owned());
        }
    }

    fn side(&mut self, side: &Side) {
        let stats = &side.stats;
        println!(
            "{}: {} accepted, {} connects, {} adopted, {} closed, at most {} at once in {} slots; \
             {} turns, {} frames, {} bytes checked",
            side.name,
            stats.accepted,
            stats.connects,
            stats.adopted,
            stats.closed,
            side.conns_peak,
            side.slots,
            stats.turns,
            side.frames,
            side.checked_bytes
        );
        println!("  {:?}", side.counts);
        println!("  faults of chaos: {}", side.chaos);
        for ((role, reason, end), count) in &side.ends {
            println!("  {:12} {end:?}: {count} x {reason}", role.name());
        }
        for (what, count) in &side.faults {
            self.failures.push(format!("{}: {count} x {what}", side.name));
        }
        let held = [
            ("connections", stats.connections as u64),
            ("queued bytes", stats.queued_bytes),
            ("buffered bytes", stats.buffered_bytes),
            ("records", side.held as u64),
            ("pooled connections", side.pool.iter().sum::<usize>() as u64),
        ];
        for (what, count) in held {
            let failure = format!("{}: {count} {what} are left at the end", side.name);
            self.check(&failure, count == 0);
        }
        // One that waited is told of in the slot of another one, so slots are as many as there
        // were at once; a few more, because an ended one leaves its slot at the end of the turn.
        let failure = format!("{}: more slots than connections", side.name);
        self.check(&failure, side.slots <= side.conns_peak + side.conns_peak / 4 + 64);
        self.is_a_load(side);
    }

    /// A run in which nothing happens proves nothing.
    fn is_a_load(&mut self, side: &Side) {
        let minutes = u64::from(self.minutes) * u64::from(self.load_percent.min(100)) / 100;
        // Who vanishes at once has not told the server who it is.
        let is_told = |role| side.name == "clients" || role != Role::Vanishes;
        for (role, least) in ENDS_MIN.into_iter().filter(|(role, _)| is_told(*role)) {
            let ends = side.ends_of(role);
            let failure = format!("{}: {} stories of {}", side.name, ends, role.name());
            self.check(&failure, ends >= least * minutes);
        }
        if side.name == "server" {
            for what in Count::ALWAYS {
                self.check(&format!("{what:?} never happened"), side.counted(what) > 0);
            }
        }
        let made: u64 = side.chaos.iter().map(|(_, count)| count).sum();
        let failure = format!("{}: chaos is switched on and has done nothing", side.name);
        self.check(&failure, !self.chaos || made >= 100 * minutes);
    }

    fn descriptors(&mut self) -> io::Result<()> {
        let now = process::descriptors()?;
        println!("descriptors: {} before, {now} after", self.descriptors_before);
        self.check("descriptors are left open", now == self.descriptors_before);
        Ok(())
    }

    fn slopes(&mut self) {
        let from = (self.minutes / WARM_UP_SHARE) as usize;
        let memory = slope_per_hour(&self.resident_kib[from..]) / 1024.0;
        let descriptors = slope_per_hour(&self.descriptors[from..]);
        println!(
            "after {from} minutes of warm-up: RSS {memory:+.2} MiB/h, \
             descriptors {descriptors:+.1}/h"
        );
        if self.minutes >= SLOPE_MINUTES_MIN {
            self.check("memory grows", memory <= SLOPE_MAX_MIB_H);
            // A quarter of what there is on average: the load goes up and down.
            let mean = self.descriptors.iter().sum::<f64>() / self.descriptors.len() as f64;
            self.check("descriptors grow", descriptors.abs() <= mean / 4.0);
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// Least squares over values of one minute each.
fn slope_per_hour(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let mean_x = (count - 1.0) / 2.0;
    let mean_y = values.iter().sum::<f64>() / count;
    let (mut above, mut below) = (0.0, 0.0);
    for (x, y) in values.iter().enumerate() {
        let dx = x as f64 - mean_x;
        above += dx * (y - mean_y);
        below += dx * dx;
    }
    if below > 0.0 { 60.0 * above / below } else { 0.0 }
}
