//! What a fuzzer runs (`tests/fuzz`), and `fuzz_corpus` with what it has found worth keeping: each
//! takes its decisions from bytes, and panics where a promise is broken.
#![allow(dead_code, reason = "each target is one of them")]

pub mod choices;
pub mod framing;
pub mod kept;
mod naive;
pub mod operations;
pub mod outbound;
pub mod resp;
pub mod timers;
