//! The atomics at which threads meet in mailboxes and wakers: std's, or under `--cfg loom` those of
//! the crate `loom`, which has the orders of their steps happen that the memory model allows, with
//! up to three preemptions (`tests/loom.rs`).
//!
//! `Arc` is std's in both: its counts are not what is to be proved, and loom's has no `Weak`.

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
