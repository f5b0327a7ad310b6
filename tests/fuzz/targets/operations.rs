//! Runs `bodies::operations` on what the fuzzer makes up.
#![no_main]
#![allow(unused_macros, dead_code, unreachable_pub, reason = "a part is used")]
#![allow(clippy::cast_possible_truncation, reason = "what is drawn is below a bound that fits")]

#[path = "../../support/bodies/mod.rs"]
mod bodies;
#[macro_use]
#[path = "../../support/mod.rs"]
mod support;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    bodies::operations::check(input);
});
