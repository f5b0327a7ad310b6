//! The guide: what to write, what then happens, and what goes wrong otherwise.
//!
//! Each chapter stands for itself and names the rules of the [contract](crate#the-contract) it
//! rests on (C1 to C17). The code in it is compiled and, wherever it says what must come out, run
//! with the tests of this crate, most of it in a simulated [world](crate::sim::World).
//!
//! | chapter | what it tells |
//! |---|---|
//! | [first_server] | from an echo to a protocol with frames and state per connection |
//! | [back_pressure] | what a write answers, and how not to queue what nobody reads |
//! | [closing] | the ways a connection ends, which one to choose, and what the reasons mean |
//! | [timers] | once, repeating, per connection; timeouts; which clock |
//! | [threads] | bringing work from other threads in, and using more than one core |
//! | [limits] | every default limit, the attack it stops, and what the loop does not do for you |
//! | [embedding] | the loop as a guest in a game's frame or in another poller |
//! | [testing] | the contract asserted, the network simulated, a failing seed replayed |
//! | [production] | descriptors, kernel settings, logs, metrics, panics, signals, hand-over |

#[doc = include_str!("first_server.md")]
pub mod first_server {}

#[doc = include_str!("back_pressure.md")]
pub mod back_pressure {}

#[doc = include_str!("closing.md")]
pub mod closing {}

#[doc = include_str!("timers.md")]
pub mod timers {}

#[doc = include_str!("threads.md")]
pub mod threads {}

#[doc = include_str!("limits.md")]
pub mod limits {}

#[doc = include_str!("embedding.md")]
pub mod embedding {}

#[doc = include_str!("testing.md")]
pub mod testing {}

#[doc = include_str!("production.md")]
pub mod production {}
