//! How late timers fire: a histogram of fixed size.

use std::time::Duration;

/// Values below this have a bucket of their own; above it sixteen to each power of two.
const FINE: u64 = 16;
const BUCKETS: usize = 16 * 40;

/// Durations in microseconds, told apart to one part in sixteen.
#[derive(Clone)]
pub(crate) struct Lag {
    buckets: Box<[u32; BUCKETS]>,
    max_us: u64,
}

impl Lag {
    pub(crate) fn new() -> Lag {
        Lag { buckets: Box::new([0; BUCKETS]), max_us: 0 }
    }

    pub(crate) fn add(&mut self, late: Duration) {
        let us = u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
        self.buckets[bucket(us)] += 1;
        self.max_us = self.max_us.max(us);
    }

    /// Moves what `other` has counted here.
    pub(crate) fn take_from(&mut self, other: &mut Lag) {
        for (to, from) in self.buckets.iter_mut().zip(other.buckets.iter_mut()) {
            *to += std::mem::take(from);
        }
        self.max_us = self.max_us.max(std::mem::take(&mut other.max_us));
    }

    pub(crate) fn clear(&mut self) {
        *self = Lag::new();
    }

    pub(crate) fn max_ms(&self) -> f64 {
        self.max_us as f64 / 1e3
    }

    /// Returns what 99 of 100 do not exceed.
    pub(crate) fn p99_ms(&self) -> f64 {
        let total: u64 = self.buckets.iter().map(|count| u64::from(*count)).sum();
        let mut counted = 0;
        let reached = self.buckets.iter().position(|count| {
            counted += u64::from(*count);
            counted > 0 && counted >= total - total / 100
        });
        reached.map_or(0.0, |index| upper_us(index).min(self.max_us) as f64 / 1e3)
    }
}

fn bucket(us: u64) -> usize {
    if us < FINE {
        return usize::try_from(us).expect("it is small");
    }
    let power = us.ilog2();
    let within = usize::try_from(us >> (power - 4)).expect("four bits and one") - 16;
    (16 * (power as usize - 3) + within).min(BUCKETS - 1)
}

/// Returns the largest value of a bucket.
fn upper_us(index: usize) -> u64 {
    if index < 16 {
        return index as u64;
    }
    let (power, within) = (index / 16 + 3, index % 16);
    ((17 + within as u64) << (power - 4)) - 1
}
