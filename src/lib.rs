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

mod addr;
mod backend;
mod config;
mod conn;
mod conn_map;
mod error;
mod event_loop;
mod handler;
mod id;
mod listener;
mod net;
mod options;
mod recv_memory;
mod segment;
mod stats;
mod sys;
mod time;
mod timer;
mod wake;

pub use addr::LiteralAddr;
pub use bytes::Bytes;
pub use config::{BackendKind, Config};
pub use conn_map::ConnMap;
pub use error::{CloseReason, Errno, ErrorClass, LimitKind, ListenerError, TimeoutKind};
pub use event_loop::{Loop, Turn};
pub use handler::Handler;
pub use id::{ConnId, ListenerId, TimerId};
pub use net::{Net, Sent};
pub use options::{ConnOptions, Limit, ListenOptions, SlowConsumer};
pub use stats::{ConnStats, LoopStats};
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
