//! A callback-driven, single-threaded TCP event loop with a written contract.
//!
//! Implement [`Handler`], call [`Loop::run`], and have a game or trading server on one core. The
//! loop owns all connections, drains edge-triggered readiness inside, batches writes into
//! vectored sends, and calls [`on_accept`](Handler::on_accept), [`on_data`](Handler::on_data),
//! [`on_writable`](Handler::on_writable) and their siblings.
//!
//! ```no_run
//! use hotloop::{Config, ConnId, Handler, Loop, Net};
//!
//! struct Echo;
//!
//! impl Handler for Echo {
//!     fn on_data(&mut self, net: &mut Net, conn: ConnId, data: &[u8]) -> usize {
//!         net.write(conn, data);
//!         data.len() // consumed; the rest is kept and shown again, first
//!     }
//! }
//!
//! fn main() -> std::io::Result<()> {
//!     let mut event_loop = Loop::new(Config::default())?;
//!     event_loop.net().listen("127.0.0.1:9000")?;
//!     event_loop.run(&mut Echo)
//! }
//! ```
//!
//! The [guide] goes on from here, chapter by chapter: from the first server to production.
//!
//! # The contract
//!
//! The numbers are stable; docs and tests use them. Every backend passes all.
//!
//! **Lifecycle**
//! - **C1** Each accepted connection gets `on_accept` once, each outgoing one `on_connect` once or
//!   never, an adopted one neither. Every connection id ever handed out gets exactly one
//!   `on_close`, its last callback, unless the loop is dropped. A failed connect arrives only as
//!   `on_close`. Listeners and timers get none: their ids go stale at once when closed or fired
//!   for good.
//! - **C2** No callback for a stale id; no event is attributed to another generation of the slot.
//! - **C3** Callbacks never nest: nothing in [`Net`] calls the handler. What a callback causes is
//!   delivered later in the same turn or in the next. The stack does not grow with the work.
//! - **C4** `on_close` carries a truthful [`CloseReason`], and how many accepted bytes never
//!   reached the kernel.
//! - **C5** [`close`](Net::close) flushes, sends FIN, lingers within bounds; [`abort`](Net::abort)
//!   drops the queue and resets; [`shutdown`](Net::shutdown) flushes and sends FIN, and reading
//!   goes on. All are idempotent and infallible. After `close` or `abort` nothing but `on_close`
//!   follows. An end that drops queued bytes resets: a FIN says that all was sent.
//! - **C6** A panic in a callback unwinds out of `run` with the loop consistent: it can be run
//!   again or dropped. The connection whose callback panicked is aborted.
//!
//! **Data**
//! - **C7** Bytes delivered are a prefix of the bytes the peer sent: in order, no gap, no repeat.
//!   Unconsumed bytes come again first. Data before end-of-stream before error.
//! - **C8** A write takes all or nothing. accepted = sent + queued + dropped, exactly.
//! - **C9** `on_writable` comes once per crossing: only after `Pressured` or `Refused` (or a queue
//!   that an adopted connection brought), when the queue has fallen to the low-water mark, at most
//!   once per connection and turn.
//! - **C10** Memory handed to the kernel is neither moved, freed nor reused before it is done.
//!
//! **Liveness and fairness**
//! - **C11** Readiness is never lost; the wait is zero exactly when there is work.
//! - **C12** Reads and accepts have budgets per turn; timers, posts and closings are snapshots.
//! - **C13** A paused connection still learns that its peer died; a FIN waits for the resume.
//! - **C14** No spinning: an idle loop wakes for timers only.
//!
//! **Time and threads**
//! - **C15** A timer never fires early; equal deadlines fire in start order; a cancelled one never
//!   fires; zero means the next turn; repeats do not drift.
//! - **C16** Each accepted post is received exactly once, in order per producer; the last wake is
//!   never lost; accepted posts stay readable after the loop is gone.
//! - **C17** The clock, the sockets and the counts of mailboxes are reached through the backend
//!   alone: on a simulated one the same seed makes the same trace, byte for byte.
//!
//! [`Checked`] asserts around any handler what of this can be seen from outside, and [`sim`] runs
//! handlers over simulated kernels: read there how to test yours.
//!
//! # What it tells
//!
//! [`Net::stats`] and [`Net::conn_stats`] count. The log (of the crate `log`, target `hotloop`) has
//! a line at debug for each connection that ends, with the reason; a connection that a limit has
//! ended, a listener that has paused and a write refused for want of buffers are warnings. What
//! peers can bring about as often as they like is written once a second of each kind, and the next
//! line says how many like it were left out.

// No byte of a peer's makes the loop panic: where one of these is right, it says why.
#![cfg_attr(not(test), deny(clippy::expect_used, clippy::indexing_slicing, clippy::panic))]
#![cfg_attr(not(test), deny(clippy::string_slice, clippy::unreachable, clippy::unwrap_used))]

mod addr;
mod backend;
mod chaos;
mod checked;
pub mod client;
mod config;
mod conn;
mod conn_map;
mod error;
mod event_loop;
mod fault;
pub mod framing;
#[cfg(doc)]
pub mod guide;
mod handler;
mod id;
mod listener;
mod mailbox;
mod net;
mod options;
mod random;
mod recv_memory;
mod segment;
pub mod sim;
mod socket_option;
mod stage;
mod stats;
mod sys;
mod throttle;
mod time;
mod timer;
mod wake;

pub use addr::LiteralAddr;
pub use backend::{AdoptError, Detached, DetachedListener, SendSide};
pub use bytes::Bytes;
pub use chaos::Chaos;
pub use checked::Checked;
pub use config::{BackendKind, Config};
pub use conn_map::ConnMap;
pub use error::{CloseReason, Errno, ErrorClass, LimitKind, ListenerError, TimeoutKind};
pub use event_loop::{Loop, Turn};
pub use handler::Handler;
pub use id::{ConnId, ListenerId, TimerId};
pub use mailbox::{Drain, Inbox, Mailbox, PostError};
pub use net::{Net, Sent, SocketId};
pub use options::{ConnOptions, Limit, ListenOptions, SlowConsumer};
pub use socket_option::{Keepalive, OptionName, SocketOption, TcpInfo};
pub use stats::{ClosesByReason, ConnStats, LoopStats};
pub use sys::poll_fd::PollFd;
pub use sys::socket_fd::SocketFd;
pub use time::Time;
pub use timer::Missed;
pub use wake::Waker;

/// The scripted in-memory backend of hotloop's own tests; not part of the public API.
#[cfg(feature = "script")]
#[doc(hidden)]
pub mod script {
    pub use crate::backend::script::*;
    pub use crate::event_loop::open_script as open;
}
