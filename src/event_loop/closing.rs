//! Phase 8, where connections end, and closing them all.

use std::io;
use std::time::Duration;

use crate::backend::Detached;
use crate::error::CloseReason;
use crate::event_loop::Loop;
use crate::handler::Handler;
use crate::id::{ConnId, ListenerId};

impl Loop {
    /// Phase 8: calls `on_close` for the connections that had ended at its start, and frees
    /// their slots. One whose socket is still closing comes back with the event that says so.
    pub(super) fn deliver_closings<H: Handler + ?Sized>(&mut self, handler: &mut H) {
        for _ in 0..self.net.closings.len() {
            let Some(id) = self.net.closings.pop_front() else { return };
            if let Some(detached) = self.net.detach(id) {
                self.deliver_release(handler, id, detached);
            } else if self.net.close_sock(id) {
                self.deliver_close(handler, id);
            }
        }
    }

    fn deliver_release<H: Handler + ?Sized>(
        &mut self,
        handler: &mut H,
        id: ConnId,
        detached: Detached,
    ) {
        self.net.enter(id);
        handler.on_release(&mut self.net, id, detached);
        self.net.leave();
        self.deliver_close(handler, id);
    }

    fn deliver_close<H: Handler + ?Sized>(&mut self, handler: &mut H, id: ConnId) {
        let Some((reason, dropped_bytes)) = self.net.last_word(id) else { return };
        self.net.enter(id);
        handler.on_close(&mut self.net, id, reason, dropped_bytes);
        self.net.leave();
        self.net.free(id);
    }

    /// Closes all listeners and all connections, and runs the loop until the last `on_close`.
    ///
    /// Connections are closed in order, with the reason [`CloseReason::Shutdown`]; those that are
    /// not done after `grace` are aborted. Meanwhile `listen`, `connect` and `adopt` fail. Timers
    /// go on. The loop can be used again afterwards.
    ///
    /// # Errors
    ///
    /// As [`run`](Loop::run).
    ///
    /// # Panics
    ///
    /// As [`run`](Loop::run).
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use hotloop::{Config, ConnId, Handler, Loop, Net};
    /// # struct Server;
    /// # impl Handler for Server {
    /// #     fn on_data(&mut self, _: &mut Net, _: ConnId, data: &[u8]) -> usize { data.len() }
    /// # }
    /// # let mut event_loop = Loop::new(Config::default())?;
    /// # event_loop.net().listen("127.0.0.1:0")?;
    /// # event_loop.net().stop();
    /// event_loop.run(&mut Server)?; // until `Net::stop`
    /// event_loop.close_all(&mut Server, Duration::from_secs(5))?;
    /// assert_eq!(event_loop.net().stats().connections, 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn close_all<H: Handler + ?Sized>(
        &mut self,
        handler: &mut H,
        grace: Duration,
    ) -> io::Result<()> {
        self.recover();
        self.net().refusing = true;
        let closed = self.close_until(handler, grace);
        self.net.refusing = false;
        closed
    }

    fn close_until<H: Handler + ?Sized>(
        &mut self,
        handler: &mut H,
        grace: Duration,
    ) -> io::Result<()> {
        for key in self.net.listeners.keys().collect::<Vec<_>>() {
            self.net.close_listener(ListenerId(key));
        }
        let conns: Vec<ConnId> = self.net.conns().collect();
        for id in conns {
            self.net.begin_close(id, CloseReason::Shutdown);
        }
        let mut stopped = false;
        let latest = self.net.now + grace;
        while !self.net.conns.is_empty() && self.net.now < latest {
            let left = latest.since(self.net.now);
            stopped |= self.turn_once(handler, left)?.stopped;
        }
        stopped |= self.abort_until(handler)?;
        self.net.stop |= stopped;
        Ok(())
    }

    fn abort_until<H: Handler + ?Sized>(&mut self, handler: &mut H) -> io::Result<bool> {
        let mut stopped = false;
        let conns: Vec<ConnId> = self.net.conns().collect();
        for id in conns {
            self.net.end(id, CloseReason::Shutdown, true);
        }
        while !self.net.conns.is_empty() {
            stopped |= self.turn_once(handler, Duration::MAX)?.stopped;
        }
        Ok(stopped)
    }
}
