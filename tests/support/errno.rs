//! Error numbers as the sockets of the system give them, which are Winsock's on Windows.
#![allow(dead_code, unreachable_pub, unused_imports, reason = "each test binary uses a part")]

#[cfg(not(windows))]
pub use libc::{
    EBADF, ECONNABORTED, ECONNREFUSED, ECONNRESET, EHOSTUNREACH, EINTR, EINVAL, EMFILE, ENETDOWN,
    ENETUNREACH, ENFILE, ENOBUFS, ENOMEM, ENOTSOCK, EPERM, EPIPE, EPROTO, ETIMEDOUT,
};
#[cfg(windows)]
pub use winsock::*;

/// `winsock2.h`; what it does not have is C's.
#[cfg(windows)]
mod winsock {
    pub use libc::{ENFILE, EPERM, EPROTO};

    pub const ENOMEM: i32 = 8;
    pub const EINTR: i32 = 10004;
    pub const EBADF: i32 = 10009;
    pub const EINVAL: i32 = 10022;
    pub const EMFILE: i32 = 10024;
    pub const ENOTSOCK: i32 = 10038;
    pub const ENETDOWN: i32 = 10050;
    pub const ENETUNREACH: i32 = 10051;
    pub const ECONNABORTED: i32 = 10053;
    pub const ECONNRESET: i32 = 10054;
    pub const ENOBUFS: i32 = 10055;
    pub const EPIPE: i32 = 10058;
    pub const ETIMEDOUT: i32 = 10060;
    pub const ECONNREFUSED: i32 = 10061;
    pub const EHOSTUNREACH: i32 = 10065;
}
