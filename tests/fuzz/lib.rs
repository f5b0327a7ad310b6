//! What the targets run, of which each is one of the bodies.
#![allow(missing_docs, unused_macros, dead_code, unreachable_pub, reason = "a part is used")]
#![allow(clippy::cast_possible_truncation, reason = "what is drawn is below a bound that fits")]

#[path = "../support/bodies/mod.rs"]
pub mod bodies;
#[macro_use]
#[path = "../support/mod.rs"]
mod support;
