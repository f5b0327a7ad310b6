//! Random programs against a reference model of the contract, on the simulator.
//!
//! `HOTLOOP_SEEDS=n` sets how many fresh seeds are run, `HOTLOOP_SEED=x` runs one. A seed that
//! fails is shrunk: the program that is printed does as little as possible and still fails.
//! `HOTLOOP_SHRINK=0` leaves that out.
#![allow(unreachable_pub, reason = "a test binary has no outside")]
#![allow(clippy::cast_possible_truncation, reason = "what is drawn is below a bound that fits")]

#[path = "../support/errno.rs"]
mod errno;
#[path = "../support/leave_out.rs"]
mod leave_out;
#[path = "../support/random.rs"]
mod random;

mod clock;
mod counts;
mod hand_over;
mod mail;
mod model;
mod operate;
mod pressure;
mod program;
mod record;
mod run;
mod shrink;
mod truth;
mod writes;

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use hotloop::sim::Report;

use counts::Counts;
use program::Drawing;
use run::Outcome;

/// Seeds that have found something once, and how their programs were drawn then. One stands for its
/// program only as long as that drawing stays what it is; what was found has a story of its own in
/// `regressions` or `sim`.
const REGRESSIONS: &[(u64, Drawing)] = &[
    // An end of stream that overtook a failed send's completion.
    (12_895_737_264_082_746_155, Drawing::Plain),
    (5_372_404_203_591_479_341, Drawing::Plain),
    // A closed window that was taken for a dead peer.
    (7_457_641_012_413_821_982, Drawing::Plain),
    // An adopted connection that was closed for the size of the buffer it was given.
    (14_103_817_119_105_125_047, Drawing::Full),
    // One without a byte to bring, adopted while the buffers were full.
    (3_798_911_103_622_469_742, Drawing::Full),
    // One released while its end was told, with a rest that goes along.
    (3_769_198_877_764_799_308, Drawing::Full),
    // One paused before its turn to show what it brought, and resumed behind it.
    (10_807_471_151_149_388_596, Drawing::Full),
];
/// Enough to find a gross mistake, few enough for an unoptimized build.
const SEEDS: u64 = 300;
/// From so many seeds on every kind of fault has to have occurred, and every operation in every
/// callback. `cargo test` runs fewer and does not ask.
const SEEDS_FOR_ALL: u64 = 10_000;
/// A long run says how far it is whenever so many seeds have been begun.
const PROGRESS: u64 = 100_000;
/// One seed of so many is run twice, and the traces compared.
const TWICE: u64 = 50;

#[derive(Default)]
struct Sum {
    report: Report,
    ops: Counts,
    calls_min: u64,
}

#[test]
fn regression_seeds_pass() {
    for (seed, drawing) in REGRESSIONS {
        shrink::run_or_explain(*seed, *drawing);
    }
}

#[test]
fn fresh_seeds_keep_the_contract() {
    if let Some(seed) = number_in("HOTLOOP_SEED") {
        shrink::run_or_explain(seed, Drawing::Full);
        return;
    }
    let count = number_in("HOTLOOP_SEEDS").unwrap_or(SEEDS);
    assert!(count > 0, "0 seeds would test nothing");
    let first = RandomState::new().hash_one(count);
    let began = Instant::now();
    let sum = run_all(first, count);
    let took_s = began.elapsed().as_secs_f64();
    println!("{count} seeds from {first} in {took_s:.1} s: {:.0} seeds/s", count as f64 / took_s);
    sum.print();
    sum.check(count);
}

/// Runs so many seeds on all cores.
fn run_all(first: u64, count: u64) -> Sum {
    let next = AtomicU64::new(0);
    let failed = Mutex::new(None);
    let total = Mutex::new(Sum { calls_min: u64::MAX, ..Sum::default() });
    let work = || {
        let mut own = Sum { calls_min: u64::MAX, ..Sum::default() };
        while failed.lock().expect("no panic while it is held").is_none() {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                break;
            }
            if number > 0 && number % PROGRESS == 0 {
                println!("{number} seeds so far");
            }
            let seed = first.wrapping_add(number);
            match shrink::try_seed(seed, Drawing::Full, number % TWICE == 0) {
                Ok(outcome) => own.add(&outcome),
                Err(why) => {
                    let mut first = failed.lock().expect("no panic while it is held");
                    first.get_or_insert((seed, number, why));
                }
            }
        }
        total.lock().expect("no panic while it is held").merge(&own);
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    if let Some((seed, number, why)) = failed.into_inner().expect("no panic while it was held") {
        println!("failed after {} seeds", number + 1);
        shrink::run_or_explain(seed, Drawing::Full);
        panic!("C17: seed {seed} failed, and passed when it was run again: {why}");
    }
    total.into_inner().expect("no panic while it was held")
}

impl Sum {
    fn add(&mut self, outcome: &Outcome) {
        self.report.add(&outcome.report);
        self.calls_min = self.calls_min.min(outcome.report.calls);
        self.ops.merge(&outcome.ops);
    }

    fn merge(&mut self, other: &Sum) {
        self.report.add(&other.report);
        self.calls_min = self.calls_min.min(other.calls_min);
        self.ops.merge(&other.ops);
    }

    fn print(&self) {
        let Report { calls, turns, packets, merged_edges, .. } = self.report;
        println!("{calls} system calls, at least {} per seed; {turns} turns", self.calls_min);
        println!("{packets} packets, {merged_edges} merged edges");
        for (kind, count) in self.report.faults() {
            println!("fault {kind:?}: {count}");
        }
        for (name, count, place, least) in self.ops.rows() {
            println!("operation {name}: {count}, {least} of them in {place:?}");
        }
    }

    fn check(&self, seeds: u64) {
        assert!(self.calls_min >= 500, "a seed has made {} system calls only", self.calls_min);
        if seeds >= SEEDS_FOR_ALL {
            let never: Vec<_> = self.report.faults().filter(|(_, count)| *count == 0).collect();
            assert!(never.is_empty(), "faults that never occurred: {never:?}");
            assert!(self.report.merged_edges > 0, "no edges have ever merged");
            let rare = self.ops.rows().find(|(_, _, _, least)| *least == 0);
            assert!(rare.is_none(), "never done in this callback: {rare:?}");
        }
    }
}

fn number_in(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text:?} is no number")))
}
