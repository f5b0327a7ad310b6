//! What a program needs that is itself a client: connects that are tried again ([`Redial`]), and
//! connections that are kept for the next request ([`Pool`]).
//!
//! Both are plain values in your handler, built on the public API alone: they start connects and
//! timers, and you pass the callbacks on to them. Each answers whether the callback was about one
//! of its own.
//!
//! They open no socket but through [`Net`](crate::Net) and read no clock but the loop's, so that
//! they run in simulation as they do on a real network.

mod backoff;
mod idle;
mod pool;
mod pool_answers;
mod pool_options;
mod redial;
mod waiters;

pub use backoff::Backoff;
pub use pool::Pool;
pub use pool_answers::{Ended, Opened, Taken};
pub use pool_options::PoolOptions;
pub use redial::{Redial, Redialled};
