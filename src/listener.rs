//! A listener's record: ready, paused, and when to try again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::Sock;
use crate::id::TimerId;
use crate::options::ConnOptions;

/// The first delay before an accept that found the process out of descriptors is tried again.
const RETRY_MIN_MS: u32 = 10;
/// How many accepts in a row may come to nothing before a pause.
const SKIPS_MAX: u32 = 64;
/// The longest such delay: somebody outside the loop may free a descriptor unseen, and five tries a
/// second cost nothing.
const RETRY_MAX_MS: u32 = 200;

/// A listening socket.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) sock: Sock,
    pub(crate) local: SocketAddr,
    /// The options of the connections it accepts.
    pub(crate) options: Arc<ConnOptions>,
    /// A connection may be waiting; cleared only when the backend says that none is (C11).
    pub(crate) ready: bool,
    /// On the run list.
    pub(crate) queued: bool,
    /// Not accepting until a slot or a descriptor is free, or the retry timer fires.
    pub(crate) paused: bool,
    /// The pause was told to the handler, and no accept has succeeded since.
    pub(crate) reported: bool,
    pub(crate) retry: Option<TimerId>,
    retry_ms: u32,
    /// Accepts in a row that came to nothing.
    skipped: u32,
}

impl Listener {
    pub(crate) fn new(sock: Sock, local: SocketAddr, options: Arc<ConnOptions>) -> Listener {
        Listener {
            sock,
            local,
            options,
            ready: false,
            queued: false,
            paused: false,
            reported: false,
            retry: None,
            retry_ms: RETRY_MIN_MS,
            skipped: 0,
        }
    }

    /// Returns whether an accept should be tried.
    pub(crate) fn runnable(&self) -> bool {
        self.ready && !self.paused
    }

    /// Returns the delay before the next try; the one after that is twice as long.
    pub(crate) fn next_retry(&mut self) -> Duration {
        let delay = self.retry_ms;
        self.retry_ms = (delay * 2).min(RETRY_MAX_MS);
        Duration::from_millis(delay.into())
    }

    /// Notes an accept that came to nothing; returns whether it is time for a pause: an error that
    /// does not go away (`EPERM` of a security module, say) must not keep the loop busy.
    pub(crate) fn skipped(&mut self) -> bool {
        self.skipped = self.skipped.wrapping_add(1);
        self.skipped % SKIPS_MAX == 0
    }

    /// Notes that an accept succeeded.
    pub(crate) fn succeeded(&mut self) {
        self.skipped = 0;
        self.reported = false;
        self.retry_ms = RETRY_MIN_MS;
    }

    /// Returns the address that accepted connections have here, if it follows from the
    /// listener's own.
    pub(crate) fn accepted_local(&self) -> Option<SocketAddr> {
        (!self.local.ip().is_unspecified()).then_some(self.local)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Key, Kind};

    #[test]
    fn the_retry_delay_doubles_to_200_ms_and_starts_over() {
        let sock = Sock { key: Key::new(Kind::Listener, 0, 1), handle: 0, exhaust: false };
        let local = SocketAddr::from(([127, 0, 0, 1], 80));
        let mut listener = Listener::new(sock, local, Arc::default());
        let delays: Vec<_> = (0..9).map(|_| listener.next_retry().as_millis()).collect();
        assert_eq!(delays, [10, 20, 40, 80, 160, 200, 200, 200, 200]);
        listener.succeeded();
        assert_eq!(listener.next_retry().as_millis(), 10);
        assert_eq!(listener.accepted_local(), Some(local));
    }
}
