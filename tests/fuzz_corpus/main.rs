//! Plays again what the fuzzer has found worth keeping (`tests/fuzz/corpus`), and some inputs drawn
//! from seeds, without nightly. The same ones in every run: to find others is the fuzzer's work.
#![allow(unreachable_pub, reason = "a test binary has no outside")]
#![allow(clippy::cast_possible_truncation, reason = "what is drawn is below a bound that fits")]

#[path = "../support/bodies/mod.rs"]
mod bodies;
#[path = "../support/random.rs"]
mod random;
#[allow(unused_macros, reason = "no body runs on every backend")]
#[path = "../support/mod.rs"]
mod support;

use std::path::Path;

use random::Random;

/// Some seconds of an unoptimized build, all targets together.
const SEEDS: u64 = 300;
const INPUT_MAX_BYTES: u64 = 1500;

fn play(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let mut played = 0;
    for entry in std::fs::read_dir(&folder).expect("a corpus") {
        let path = entry.expect("a folder that can be listed").path();
        println!("{}", path.display());
        check(&std::fs::read(&path).expect("a file"));
        played += 1;
    }
    assert!(played >= 10, "{played} inputs are no corpus");
    for seed in 0..SEEDS {
        println!("seed {seed}");
        let random = &mut Random::new(seed);
        let len = random.below(INPUT_MAX_BYTES);
        let input: Vec<u8> = (0..len).map(|_| random.below(256) as u8).collect();
        check(&input);
    }
}

#[test]
fn framing() {
    play("framing", |input| _ = bodies::framing::check(input));
}

#[test]
fn kept() {
    play("kept", bodies::kept::check);
}

#[test]
fn operations() {
    play("operations", bodies::operations::check);
}

#[test]
fn outbound() {
    play("outbound", bodies::outbound::check);
}

#[test]
fn resp() {
    play("resp", bodies::resp::check);
}

#[test]
fn timers() {
    play("timers", bodies::timers::check);
}
