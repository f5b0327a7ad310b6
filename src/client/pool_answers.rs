//! What a pool answers.

use crate::id::ConnId;

/// What asking for a connection came to. `T` is what the request was named with.
///
/// # Examples
///
/// ```
/// use hotloop::client::{Pool, Taken};
/// use hotloop::Net;
///
/// /// Returns what is to be told to who has asked, if anything.
/// fn ask(net: &mut Net, pool: &mut Pool<u64>, request: u64) -> Option<&'static str> {
///     match pool.take(net, request) {
///         Taken::Conn(conn, request) => {
///             net.write(conn, &request.to_be_bytes());
///             None
///         }
///         Taken::Waits => None,
///         Taken::Refused(_) => Some("busy"),
///     }
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken<T> {
    /// This one is yours until you [give](crate::client::Pool::give) it back or close it.
    Conn(ConnId, T),
    /// One will be: [`Pool::on_connect`], [`Pool::give`] or [`Pool::on_close`] says which, or
    /// that the connect has failed.
    ///
    /// [`Pool::on_connect`]: crate::client::Pool::on_connect
    /// [`Pool::give`]: crate::client::Pool::give
    /// [`Pool::on_close`]: crate::client::Pool::on_close
    Waits,
    /// As many wait as may.
    Refused(T),
}

/// What an `on_connect` was for the pool.
///
/// # Examples
///
/// ```
/// use hotloop::client::{Opened, Pool};
/// use hotloop::{ConnId, Net};
///
/// /// In `on_connect`.
/// fn on_connect(net: &mut Net, pool: &mut Pool<u64>, conn: ConnId) {
///     if let Opened::For(request) = pool.on_connect(net, conn) {
///         net.write(conn, &request.to_be_bytes());
///     }
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened<T> {
    /// The connection is not one of the pool's.
    Foreign,
    /// It is for this request.
    For(T),
    /// Whoever it was for has another one: it is kept.
    Unused,
}

/// What an `on_close` was for the pool.
///
/// # Examples
///
/// ```
/// use hotloop::client::{Ended, Pool};
/// use hotloop::{ConnId, Net};
///
/// /// In `on_close`; returns the request that goes without an answer.
/// fn on_close(net: &mut Net, pool: &mut Pool<u64>, conn: ConnId) -> Option<u64> {
///     match pool.on_close(net, conn) {
///         Ended::Failed(request) => Some(request),
///         Ended::Foreign | Ended::Unused | Ended::InUse => None,
///     }
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended<T> {
    /// The connection is not one of the pool's.
    Foreign,
    /// Nobody used it.
    Unused,
    /// It was in use: its user has to see to it.
    InUse,
    /// It was a connect that failed, and this request, for which it was begun, goes without.
    Failed(T),
}
