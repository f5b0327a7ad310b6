//! The one source of chance in a simulated world.

#![allow(clippy::expect_used, reason = "the upper half of a product has half its bits")]

/// SplitMix64: small, fast, and the same on every platform and in every version, which a seed in
/// a bug report relies on.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

/// A probability as a threshold for a draw of 32 bits; zero draws nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) const NEVER: Chance = Chance(0);

    /// Makes a chance of a probability.
    ///
    /// # Panics
    ///
    /// If it is not within 0 to 1; `what` names it.
    pub(crate) fn new(probability: f64, what: &str) -> Chance {
        let valid = (0.0..=1.0).contains(&probability);
        assert!(valid, "{what}: {probability} is not a probability (0 to 1)");
        // A fraction of 2^32 fits a u64, and a float keeps it exactly.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "see above")]
        Chance((probability * 4_294_967_296.0) as u64)
    }
}

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub(crate) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Draws a number less than `bound`, which is at least 1.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.draw()) * u128::from(bound);
        u64::try_from(wide >> 64).expect("the upper half of a product has 64 bits")
    }

    /// Draws an index of a list of `len` things, of which there is at least one.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("less than a usize")
    }

    /// Draws a number from 1 to `most`, which is at least 1.
    pub(crate) fn up_to(&mut self, most: usize) -> usize {
        1 + self.index(most)
    }

    pub(crate) fn happens(&mut self, chance: Chance) -> bool {
        chance.0 != 0 && self.draw() >> 32 < chance.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_draws_the_same_on_every_platform() {
        // The first numbers of SplitMix64 for the seed 1234567, as its author publishes them.
        let mut random = Random::new(1_234_567);
        assert_eq!(random.draw(), 6_457_827_717_110_365_317);
        assert_eq!(random.draw(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn chances_of_none_and_all_are_certain() {
        let mut random = Random::new(1);
        let (never, always) = (Chance::new(0.0, "a"), Chance::new(1.0, "a"));
        assert_eq!(never, Chance::NEVER);
        assert!((0..1000).all(|_| !random.happens(never) && random.happens(always)));
        let half = Chance::new(0.5, "a");
        let times = (0..10_000).filter(|_| random.happens(half)).count();
        assert!((4_500..5_500).contains(&times), "{times}");
    }

    #[test]
    fn draws_below_a_bound_reach_all_of_it_and_no_further() {
        let mut random = Random::new(1);
        let mut seen = [0; 5];
        (0..1000).for_each(|_| seen[random.index(5)] += 1);
        assert!(seen.iter().all(|count| *count > 100), "{seen:?}");
        assert!((0..1000).all(|_| (1..=3).contains(&random.up_to(3))));
    }

    #[test]
    #[should_panic(expected = "loss: -0.1 is not a probability")]
    fn a_negative_probability_is_named() {
        Chance::new(-0.1, "loss");
    }

    #[test]
    #[should_panic(expected = "loss: NaN is not a probability")]
    fn no_number_is_no_probability() {
        Chance::new(f64::NAN, "loss");
    }
}
