//! Error numbers and what they mean.

use std::error::Error;
use std::io;

#[cfg(unix)]
pub(crate) use libc::{
    EADDRINUSE, EADDRNOTAVAIL, EAGAIN, EALREADY, EBADF, ECANCELED, ECONNABORTED, ECONNREFUSED,
    ECONNRESET, EFAULT, EHOSTDOWN, EHOSTUNREACH, EINPROGRESS, EINTR, EINVAL, EMFILE, ENETDOWN,
    ENETUNREACH, ENFILE, ENOBUFS, ENOMEM, ENOSPC, ENOSYS, ENOTCONN, ENOTSOCK, EPERM, EPIPE, EPROTO,
    ETIMEDOUT,
};
#[cfg(target_os = "linux")]
pub(crate) use libc::{ENOENT, ENONET};
#[cfg(windows)]
pub(crate) use winsock::*;

use crate::error::{CloseReason, Errno, ErrorClass, TimeoutKind};

impl ErrorClass {
    /// Classifies an error of a system call.
    ///
    /// | class | error numbers |
    /// |---|---|
    /// | `Retry` | `EAGAIN` (`EWOULDBLOCK`), `EINTR`, `EINPROGRESS`, `EALREADY` |
    /// | `Resource` | `EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`, `ENOSPC` |
    /// | `Resource` | `EADDRINUSE`, `EADDRNOTAVAIL` (no address, or no free port) |
    /// | `Fatal` | `EBADF`, `EFAULT`, `EINVAL`, `ENOSYS`, `ENOTSOCK` |
    /// | `Closed` | every other, known or not |
    ///
    /// An error without a number goes by its kind:
    ///
    /// | class | [`io::ErrorKind`] |
    /// |---|---|
    /// | `Retry` | `WouldBlock`, `Interrupted` |
    /// | `Resource` | `OutOfMemory`, `StorageFull`, `AddrInUse`, `AddrNotAvailable` |
    /// | `Fatal` | `InvalidInput`, `Unsupported` |
    /// | `Closed` | every other |
    ///
    /// On Windows the numbers are those of `winsock2.h` (`WSAEWOULDBLOCK` for `EAGAIN`, and so on).
    ///
    /// What is not known counts as the end of the one connection it came from: the others have
    /// nothing to do with it. For an error that wraps another one
    /// ([`source`](std::error::Error::source)) the number of the inner one counts.
    ///
    /// ```
    /// use hotloop::ErrorClass;
    /// use std::io;
    ///
    /// let out_of_files = io::Error::from_raw_os_error(24);
    /// # #[cfg(target_os = "linux")]
    /// assert_eq!(ErrorClass::of(&out_of_files), ErrorClass::Resource);
    /// ```
    pub fn of(error: &io::Error) -> ErrorClass {
        match number_of(error) {
            Some(errno) => ErrorClass::of_errno(errno),
            None => of_kind(error.kind()),
        }
    }

    /// Classifies an error number, by the table of [`of`](ErrorClass::of).
    pub fn of_errno(errno: Errno) -> ErrorClass {
        match errno.0 {
            EAGAIN | EINTR | EINPROGRESS | EALREADY => ErrorClass::Retry,
            EMFILE | ENFILE | ENOBUFS | ENOMEM | ENOSPC | EADDRINUSE | EADDRNOTAVAIL => {
                ErrorClass::Resource
            }
            EBADF | EFAULT | EINVAL | ENOSYS | ENOTSOCK => ErrorClass::Fatal,
            _ => ErrorClass::Closed,
        }
    }
}

/// Classifies an error number of an accept. `accept(2)` passes errors on that are pending on the
/// new connection or come from the network and the firewall (`ECONNABORTED`, `EPROTO`, `EPERM`,
/// `ENETDOWN`, ...): the listener is as good as before, so whatever is neither scarcity nor a
/// broken listener is skipped (`Retry`). `ENOSPC` is the limit of watches (`epoll_ctl(2)`).
pub(crate) fn accept_class(errno: Errno) -> ErrorClass {
    match errno.0 {
        EMFILE | ENFILE | ENOBUFS | ENOMEM | ENOSPC => ErrorClass::Resource,
        EBADF | EFAULT | EINVAL | ENOTSOCK => ErrorClass::Fatal,
        _ => ErrorClass::Retry,
    }
}

/// What to call an error that a new connection met after the accept: by its number it could be
/// taken for the listener's, and end it.
pub(crate) fn not_of_listener(errno: Errno) -> Errno {
    match accept_class(errno) {
        ErrorClass::Fatal => Errno(ECONNABORTED),
        _ => errno,
    }
}

/// Returns whether a failed `connect(2)` is the network's answer. If not, the call could not be
/// begun: the address, the permission or the local port is at fault.
pub(crate) fn is_network_answer(errno: Errno) -> bool {
    matches!(
        errno.0,
        ECONNREFUSED
            | ECONNRESET
            | ECONNABORTED
            | ETIMEDOUT
            | ENETUNREACH
            | EHOSTUNREACH
            | ENETDOWN
            | EHOSTDOWN
            | ENONET
            | EPROTO
            | EPIPE
    )
}

/// Returns the reason a connection closes with when it has failed with this error number.
pub(crate) fn close_reason(errno: Errno) -> CloseReason {
    match errno.0 {
        ECONNRESET | ECONNABORTED | EPIPE | ENOTCONN => CloseReason::Reset,
        ETIMEDOUT => CloseReason::Timeout(TimeoutKind::Kernel),
        _ => CloseReason::Io(errno),
    }
}

/// Returns the error number of the call that has just failed.
#[cfg(target_os = "linux")]
#[inline]
pub(crate) fn last() -> Errno {
    of_io(&io::Error::last_os_error())
}

/// Returns the error number of an error of the system; `EIO` for one without a number, which no
/// system call makes.
pub(crate) fn of_io(error: &io::Error) -> Errno {
    Errno(error.raw_os_error().unwrap_or(libc::EIO))
}

/// Turns the result of a system call, negative on failure, into one of Rust's.
#[cfg(target_os = "linux")]
pub(super) fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn number_of(error: &io::Error) -> Option<Errno> {
    if let Some(number) = error.raw_os_error() {
        return Some(Errno(number));
    }
    let inner: &(dyn Error + 'static) = error.get_ref()?;
    let chain = std::iter::successors(Some(inner), |error| (**error).source());
    chain.filter_map(|error| error.downcast_ref::<io::Error>()).find_map(number_of)
}

fn of_kind(kind: io::ErrorKind) -> ErrorClass {
    match kind {
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => ErrorClass::Retry,
        io::ErrorKind::OutOfMemory
        | io::ErrorKind::StorageFull
        | io::ErrorKind::AddrInUse
        | io::ErrorKind::AddrNotAvailable => ErrorClass::Resource,
        io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported => ErrorClass::Fatal,
        _ => ErrorClass::Closed,
    }
}

/// A number that no call on this system fails with.
#[cfg(not(target_os = "linux"))]
pub(crate) const ENONET: i32 = -1;

/// The error numbers of `winsock2.h`; `EPIPE` is what a send behind the own FIN fails with. What it
/// does not have is C's, and no call on a socket fails with that.
#[cfg(windows)]
mod winsock {
    pub(crate) use libc::{ENFILE, ENOSPC, ENOSYS, EPERM, EPROTO};

    pub(crate) const ENOMEM: i32 = 8;
    pub(crate) const ECANCELED: i32 = 995;
    pub(crate) const EINTR: i32 = 10004;
    pub(crate) const EBADF: i32 = 10009;
    pub(crate) const EFAULT: i32 = 10014;
    pub(crate) const EINVAL: i32 = 10022;
    pub(crate) const EMFILE: i32 = 10024;
    pub(crate) const EAGAIN: i32 = 10035;
    pub(crate) const EINPROGRESS: i32 = 10036;
    pub(crate) const EALREADY: i32 = 10037;
    pub(crate) const ENOTSOCK: i32 = 10038;
    pub(crate) const EADDRINUSE: i32 = 10048;
    pub(crate) const EADDRNOTAVAIL: i32 = 10049;
    pub(crate) const ENETDOWN: i32 = 10050;
    pub(crate) const ENETUNREACH: i32 = 10051;
    pub(crate) const ECONNABORTED: i32 = 10053;
    pub(crate) const ECONNRESET: i32 = 10054;
    pub(crate) const ENOBUFS: i32 = 10055;
    pub(crate) const ENOTCONN: i32 = 10057;
    pub(crate) const EPIPE: i32 = 10058;
    pub(crate) const ETIMEDOUT: i32 = 10060;
    pub(crate) const ECONNREFUSED: i32 = 10061;
    pub(crate) const EHOSTDOWN: i32 = 10064;
    pub(crate) const EHOSTUNREACH: i32 = 10065;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(class: fn(Errno) -> ErrorClass, numbers: &[i32]) -> Vec<ErrorClass> {
        let mut classes: Vec<_> = numbers.iter().map(|number| class(Errno(*number))).collect();
        classes.dedup();
        classes
    }

    #[test]
    fn each_row_of_the_table_has_its_class() {
        let of = ErrorClass::of_errno;
        let retry = [EAGAIN, EINTR, EINPROGRESS, EALREADY];
        assert_eq!(classes(of, &retry), [ErrorClass::Retry]);
        let scarce = [EMFILE, ENFILE, ENOBUFS, ENOMEM, ENOSPC, EADDRINUSE, EADDRNOTAVAIL];
        assert_eq!(classes(of, &scarce), [ErrorClass::Resource]);
        let fatal = [EBADF, EFAULT, EINVAL, ENOSYS, ENOTSOCK];
        assert_eq!(classes(of, &fatal), [ErrorClass::Fatal]);
        let closed = [ECONNRESET, ECONNABORTED, EPIPE, ETIMEDOUT, ECONNREFUSED, EPERM, 0, -1, 9999];
        assert_eq!(classes(of, &closed), [ErrorClass::Closed]);
    }

    #[test]
    fn only_a_broken_listener_is_fatal_to_accepting() {
        assert_eq!(classes(accept_class, &[EBADF, EINVAL, ENOTSOCK, EFAULT]), [ErrorClass::Fatal]);
        let scarce = [EMFILE, ENFILE, ENOBUFS, ENOMEM, ENOSPC];
        assert_eq!(classes(accept_class, &scarce), [ErrorClass::Resource]);
        let skipped = [
            EINTR,
            ECONNABORTED,
            EPROTO,
            ENETDOWN,
            libc::ENOPROTOOPT,
            EHOSTDOWN,
            ENONET,
            EHOSTUNREACH,
            libc::EOPNOTSUPP,
            ENETUNREACH,
            EPERM,
            9999,
        ];
        assert_eq!(classes(accept_class, &skipped), [ErrorClass::Retry]);
    }

    #[test]
    fn an_error_of_a_new_connection_does_not_end_its_listener() {
        assert_eq!(not_of_listener(Errno(EBADF)), Errno(ECONNABORTED));
        assert_eq!(not_of_listener(Errno(ENOMEM)), Errno(ENOMEM));
    }

    #[test]
    fn an_error_without_a_number_goes_by_its_kind() {
        let of = |kind| ErrorClass::of(&io::Error::new(kind, "no number"));
        assert_eq!(of(io::ErrorKind::WouldBlock), ErrorClass::Retry);
        assert_eq!(of(io::ErrorKind::OutOfMemory), ErrorClass::Resource);
        assert_eq!(of(io::ErrorKind::InvalidInput), ErrorClass::Fatal);
        assert_eq!(of(io::ErrorKind::BrokenPipe), ErrorClass::Closed);
        assert_eq!(of(io::ErrorKind::Other), ErrorClass::Closed);
    }

    #[test]
    fn the_number_of_a_wrapped_error_counts() {
        let inner = io::Error::from_raw_os_error(EMFILE);
        assert_eq!(ErrorClass::of(&inner), ErrorClass::Resource);
        assert_eq!(ErrorClass::of(&io::Error::other(inner)), ErrorClass::Resource);
    }

    #[test]
    fn a_vanished_peer_is_a_reset_and_a_silent_one_a_timeout() {
        for number in [ECONNRESET, ECONNABORTED, EPIPE] {
            assert_eq!(close_reason(Errno(number)), CloseReason::Reset);
        }
        let timeout = CloseReason::Timeout(TimeoutKind::Kernel);
        assert_eq!(close_reason(Errno(ETIMEDOUT)), timeout);
        assert_eq!(close_reason(Errno(EHOSTUNREACH)), CloseReason::Io(Errno(EHOSTUNREACH)));
    }

    #[test]
    fn a_refusal_is_the_networks_answer_and_a_bad_address_is_not() {
        for number in [ECONNREFUSED, ENETUNREACH, EHOSTUNREACH, ETIMEDOUT] {
            assert!(is_network_answer(Errno(number)), "{number}");
        }
        for number in [EINVAL, libc::EAFNOSUPPORT, libc::EACCES, EPERM, EADDRNOTAVAIL, EAGAIN] {
            assert!(!is_network_answer(Errno(number)), "{number}");
        }
    }
}
