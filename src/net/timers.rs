//! Timers of the handler, and the deadlines of connections.

use std::sync::Arc;
use std::time::Duration;

use crate::error::{CloseReason, TimeoutKind};
use crate::id::{ConnId, TimerId};
use crate::net::Net;
use crate::options::{ConnOptions, Limit};
use crate::time::{Time, nanos};
use crate::timer::{Missed, Task};

impl Net {
    /// Starts a timer: `on_timer` comes once, `delay` after [`now`](Net::now), never earlier, with
    /// this token. A delay of zero means the next turn, [`Duration::MAX`] never.
    ///
    /// Exact to the nanosecond against the loop's clock, which is read once per turn; call
    /// [`refresh_now`](Net::refresh_now) before it in a callback that has taken long. Equal
    /// deadlines fire in the order of their starts.
    ///
    /// # Panics
    ///
    /// If 2^24 timers are live.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use hotloop::{Config, ConnId, Handler, Loop, Net, TimerId};
    ///
    /// #[derive(Default)]
    /// struct Order(Vec<u64>);
    ///
    /// impl Handler for Order {
    ///     fn on_data(&mut self, _: &mut Net, _: ConnId, data: &[u8]) -> usize {
    ///         data.len()
    ///     }
    ///
    ///     fn on_timer(&mut self, _: &mut Net, _: TimerId, token: u64) {
    ///         self.0.push(token);
    ///     }
    /// }
    ///
    /// let mut event_loop = Loop::new(Config::default())?;
    /// event_loop.net().start_timer(Duration::from_millis(2), 2);
    /// event_loop.net().start_timer(Duration::from_millis(1), 1);
    /// let mut order = Order::default();
    /// event_loop.run(&mut order)?; // until no timer is left
    /// assert_eq!(order.0, [1, 2]);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn start_timer(&mut self, delay: Duration, token: u64) -> TimerId {
        self.timers.start(self.now + delay, Task::User { token })
    }

    /// Starts a timer that repeats every `period`, the first time one period after
    /// [`now`](Net::now). Repeats do not drift: they are due at multiples of the period, and
    /// `missed` says what happens to those the loop was too busy for. A period of zero counts as
    /// one nanosecond.
    ///
    /// # Panics
    ///
    /// If 2^24 timers are live.
    ///
    /// [`Missed`] has an example.
    pub fn start_repeating(&mut self, period: Duration, missed: Missed, token: u64) -> TimerId {
        let (period, task) = (period.max(Duration::from_nanos(1)), Task::User { token });
        self.timers.start_repeating(self.now + period, nanos(period), missed, task)
    }

    /// Starts a timer that belongs to a connection: it is cancelled when that one is closed.
    /// `None` if the id is stale or closing.
    ///
    /// # Panics
    ///
    /// If 2^24 timers are live.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use hotloop::{ConnId, Handler, ListenerId, Net, TimerId};
    ///
    /// /// Gives each connection a minute.
    /// struct Minute;
    ///
    /// impl Handler for Minute {
    ///     fn on_accept(&mut self, net: &mut Net, conn: ConnId, _: ListenerId) {
    ///         net.start_conn_timer(conn, Duration::from_secs(60), conn.to_bits());
    ///     }
    ///
    ///     fn on_timer(&mut self, net: &mut Net, _: TimerId, token: u64) {
    ///         if let Some(conn) = ConnId::from_bits(token) {
    ///             net.close(conn);
    ///         }
    ///     }
    ///     # fn on_data(&mut self, _: &mut Net, _: ConnId, data: &[u8]) -> usize { data.len() }
    /// }
    /// ```
    pub fn start_conn_timer(
        &mut self,
        conn: ConnId,
        delay: Duration,
        token: u64,
    ) -> Option<TimerId> {
        let due = self.now + delay;
        self.is_open(conn).then(|| self.timers.start_owned(conn, due, Task::User { token }))
    }

    /// Cancels a timer: it will not fire, even if it was due in this very turn. Returns whether it
    /// was live.
    ///
    /// # Examples
    ///
    /// ```
    /// # let mut event_loop = hotloop::Loop::new(hotloop::Config::default())?;
    /// let net = event_loop.net();
    /// let timer = net.start_timer(std::time::Duration::from_secs(1), 0);
    /// assert!(net.cancel_timer(timer));
    /// assert!(!net.cancel_timer(timer), "the id is stale");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn cancel_timer(&mut self, timer: TimerId) -> bool {
        self.timers.cancel(timer)
    }

    /// Returns when a timer fires next; `None` if the id is stale.
    pub fn timer_deadline(&self, timer: TimerId) -> Option<Time> {
        self.timers.deadline(timer)
    }

    /// Sets how long this connection may go without a byte received or taken by the kernel,
    /// counted from the last one. Returns whether the id was that of an open connection.
    ///
    /// Costs no memory as long as connections with the same options are given the same timeout one
    /// after another, otherwise some 200 bytes for each that is given another.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use hotloop::{ConnId, Limit, Net};
    ///
    /// fn logged_in(net: &mut Net, conn: ConnId) {
    ///     net.set_idle_timeout(conn, Duration::from_secs(300));
    /// }
    ///
    /// fn watches_only(net: &mut Net, conn: ConnId) {
    ///     net.set_idle_timeout(conn, Limit::Unlimited);
    /// }
    /// ```
    #[allow(clippy::expect_used, reason = "`is_open` has found the record")]
    pub fn set_idle_timeout(&mut self, conn: ConnId, limit: impl Into<Limit<Duration>>) -> bool {
        if !self.is_open(conn) {
            return false;
        }
        let record = self.conns.get_mut(conn.0).expect("an open connection has a record");
        record.options = self.idle_options.of(&record.options, limit.into());
        self.arm_deadline(conn);
        true
    }

    /// Sees to it that the connection's timer fires no later than its nearest deadline.
    pub(crate) fn arm_deadline(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id.0) else { return };
        let (due, _) = conn.deadline();
        if due == Time::NEVER {
            return;
        }
        // Once it has fired, the timer's id is stale and nothing stands for the connection.
        let armed =
            conn.deadline_timer.and_then(|timer| Some((timer, self.timers.deadline(timer)?)));
        match armed {
            None => conn.deadline_timer = Some(self.timers.start(due, Task::ConnDeadline(id))),
            Some((timer, armed)) if due < armed => {
                self.timers.restart(timer, due);
            }
            Some(_) => {}
        }
    }

    /// Looks at the connections whose timer has fired, after they were served: a late loop finds
    /// the bytes that came in time before it finds the deadline.
    #[inline]
    #[allow(clippy::indexing_slicing, reason = "nothing is taken out meanwhile")]
    pub(crate) fn check_deadlines(&mut self) {
        for next in 0..self.expired.len() {
            self.deadline_fired(self.expired[next]);
        }
        self.expired.clear();
    }

    /// Ends a connection whose deadline has passed, or waits for the one that has moved.
    fn deadline_fired(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id.0) else { return };
        let (due, kind) = conn.deadline();
        if due > self.now {
            return self.arm_deadline(id);
        }
        let reason = conn.reason_at_bound(CloseReason::Timeout(kind));
        // A stalled queue is reset: a FIN would have to wait behind bytes the peer does not take.
        self.end(id, reason, kind == TimeoutKind::WriteStall);
    }
}

/// The options that were last derived from others by another idle timeout, shared by those that
/// are given the same.
#[derive(Debug, Default)]
pub(crate) struct IdleOptions {
    last: Option<(Arc<ConnOptions>, Arc<ConnOptions>)>,
}

impl IdleOptions {
    /// Returns options that differ from `base` by the idle timeout alone.
    fn of(&mut self, base: &Arc<ConnOptions>, limit: Limit<Duration>) -> Arc<ConnOptions> {
        if base.idle_timeout == limit {
            return Arc::clone(base);
        }
        match &self.last {
            Some((from, derived)) if Arc::ptr_eq(from, base) && derived.idle_timeout == limit => {
                Arc::clone(derived)
            }
            _ => {
                let derived = Arc::new(ConnOptions::clone(base).idle_timeout(limit));
                self.last = Some((Arc::clone(base), Arc::clone(&derived)));
                derived
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_timeout_again_shares_its_options() {
        let base = Arc::new(ConnOptions::default());
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        let mut idle = IdleOptions::default();
        let one = idle.of(&base, second.into());
        assert!(Arc::ptr_eq(&one, &idle.of(&base, second.into())));
        assert!(Arc::ptr_eq(&one, &idle.of(&one, second.into())));
        assert!(Arc::ptr_eq(&base, &idle.of(&base, Limit::Unlimited)));
        let other = idle.of(&base, minute.into());
        assert_eq!((one.idle_timeout, other.idle_timeout), (second.into(), minute.into()));
        let back = idle.of(&other, Limit::Unlimited);
        assert_eq!(*back, *base);
    }
}
