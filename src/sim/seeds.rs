//! Running a test with many seeds.

use std::cell::Cell;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

/// Names the one seed to run.
const SEED: &str = "HOTLOOP_SEED";
/// Says how many seeds to run.
const SEEDS: &str = "HOTLOOP_SEEDS";

thread_local! {
    /// A world that is dropped by a panic says nothing: its seed is run again, alone.
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
}

pub(super) fn is_quiet() -> bool {
    IS_QUIET.get()
}

/// Runs a test with many seeds, on all cores, until one fails.
///
/// The seeds are `count` fresh ones; the environment variable `HOTLOOP_SEEDS` sets another number
/// of them, and `HOTLOOP_SEED` one seed that is run alone. The seed that fails is run again by
/// itself, so that its own message and the end of its trace are what is printed.
///
/// ```
/// use hotloop::sim::{self, World};
///
/// sim::for_seeds(10, |seed| {
///     let world = World::new(seed);
///     assert_eq!(world.seed(), seed);
/// });
/// ```
///
/// # Panics
///
/// If the test panics for one of the seeds, with the seed and how to replay it; if one of the
/// variables is neither empty nor a number, and for 0 seeds.
pub fn for_seeds(count: u64, test: impl Fn(u64) + Sync) {
    if let Some(seed) = number_in(SEED) {
        return test(seed);
    }
    let count = number_in(SEEDS).unwrap_or(count);
    assert!(count > 0, "0 seeds would test nothing");
    // Not the clock and not the address of anything: the hasher of each run is another one.
    let first = RandomState::new().hash_one(count);
    if let Some(seed) = first_failure(first, count, &test) {
        eprintln!("seed {seed} fails; to replay it: {SEED}={seed}");
        test(seed);
        panic!(
            "seed {seed} failed, and passed when it was run again: the test is not deterministic"
        );
    }
}

/// Runs the seeds on all cores; returns the first one that is seen to fail.
fn first_failure(first: u64, count: u64, test: &(impl Fn(u64) + Sync)) -> Option<u64> {
    let (next, failed, is_over) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let work = || {
        IS_QUIET.set(true);
        while !is_over.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return;
            }
            let seed = first.wrapping_add(number);
            if panic::catch_unwind(AssertUnwindSafe(|| test(seed))).is_err()
                && !is_over.swap(true, Ordering::AcqRel)
            {
                failed.store(seed, Ordering::Release);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    is_over.into_inner().then(|| failed.into_inner())
}

/// Reads a number from the environment.
fn number_in(name: &str) -> Option<u64> {
    let text = std::env::var_os(name).filter(|text| !text.is_empty())?;
    let number = text.to_str().and_then(|text| text.parse().ok());
    Some(number.unwrap_or_else(|| panic!("{name}={text:?} is no number from 0 to 2^64 - 1")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_is_run_once_and_the_failing_one_is_found() {
        let sum = AtomicU64::new(0);
        let count = |seed: u64| {
            sum.fetch_add(seed, Ordering::Relaxed);
        };
        assert_eq!(first_failure(1, 100, &count), None);
        assert_eq!(sum.into_inner(), 5_050);
        let fails = |seed: u64| assert_ne!(seed, 37, "as it should");
        assert_eq!(first_failure(1, 100, &fails), Some(37));
    }
}
