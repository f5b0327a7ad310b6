//! Framings against a model that is as plain as can be, on random bytes that arrive in random
//! pieces.
//!
//! `HOTLOOP_SEEDS=n` sets how many fresh seeds are run, `HOTLOOP_SEED=x` runs one.
#![allow(unreachable_pub, reason = "a test binary has no outside")]
#![allow(clippy::cast_possible_truncation, reason = "what is drawn is below a bound that fits")]

#[path = "../support/bodies/mod.rs"]
mod bodies;
#[path = "../support/mod.rs"]
mod support;

use bodies::framing::{self, Reached};
use hotloop::sim::for_seeds;

/// Some two seconds of an unoptimized build.
const SEEDS: u64 = 16_000;
const INPUT_MAX_BYTES: u64 = 400;

/// The input of a seed: SplitMix64.
fn input_of(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut draw = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let len = draw() % INPUT_MAX_BYTES;
    (0..len).map(|_| draw() as u8).collect()
}

#[test]
fn fresh_seeds_are_cut_as_the_model_cuts_them() {
    for_seeds(SEEDS, |seed| {
        framing::check(&input_of(seed));
    });
}

/// That the inputs are not of a kind that tests nothing. The seeds are always the same.
#[test]
fn a_thousand_inputs_reach_everything() {
    let mut reached = Reached::default();
    for seed in 0..1000 {
        reached.add(&framing::check(&input_of(seed)));
    }
    println!("{reached:?}");
    let Reached { frames, empty, longest, put_back, stopped, too_long, bad_varint, waits, kept } =
        reached;
    let rare = [empty, longest, put_back, stopped, too_long, bad_varint, waits, kept];
    assert!(frames > 5000 && rare.into_iter().all(|count| count > 20), "{reached:?}");
}

#[test]
fn inputs_without_chance_are_cut_as_the_model_cuts_them() {
    framing::check(b"");
    for byte in 0..=255 {
        for len in [1, 2, 40, 300] {
            framing::check(&vec![byte; len]);
        }
    }
}
