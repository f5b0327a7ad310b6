//! Everything unsafe and everything `libc`, behind functions that are safe to call.
//!
//! This layer knows descriptors, buffers and error numbers; nothing of connections or events'
//! meaning.
#![allow(unsafe_code)]

pub(crate) mod clock;
#[cfg(target_os = "linux")]
pub(crate) mod epoll;
pub(crate) mod errno;
pub(crate) mod memory;
pub(crate) mod option;
pub(crate) mod poll_fd;
pub(crate) mod poller;
pub(crate) mod process;
#[cfg(target_os = "linux")]
pub(crate) mod socket;
pub(crate) mod socket_fd;
pub(crate) mod stream;
pub(crate) mod sync;
#[cfg(target_os = "linux")]
pub(crate) mod wake;
