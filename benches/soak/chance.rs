//! The one source of chance of a thread, from the seed of the run.

use std::ops::Range;

use crate::random::Random;

/// Draws numbers and bytes; the same seed draws the same ones.
pub(crate) struct Chance {
    random: Random,
    noise: Vec<u8>,
}

impl Chance {
    /// Makes one with noise of up to `noise_max_bytes` at a time.
    pub(crate) fn new(seed: u64, noise_max_bytes: usize) -> Chance {
        let mut random = Random::new(seed);
        // Twice as much: the longest noise, too, can begin anywhere.
        let words = (0..noise_max_bytes.div_ceil(4)).flat_map(|_| random.draw().to_le_bytes());
        let noise = words.collect();
        Chance { random, noise }
    }

    /// Draws a number from a range that is not empty.
    pub(crate) fn within(&mut self, range: Range<usize>) -> usize {
        let drawn = self.random.below((range.end - range.start) as u64);
        range.start + usize::try_from(drawn).expect("it is below a usize")
    }

    pub(crate) fn per_mille(&mut self, rate: usize) -> bool {
        self.within(0..1000) < rate
    }

    /// Returns some bytes that look like any others.
    pub(crate) fn noise(&mut self, len: usize) -> &[u8] {
        let from = self.within(0..self.noise.len() - len);
        &self.noise[from..from + len]
    }
}
