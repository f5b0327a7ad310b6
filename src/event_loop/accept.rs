//! One listener's service: accepts within its budget.

use crate::event_loop::Loop;
use crate::handler::Handler;
use crate::id::{ConnId, ListenerId};
use crate::net::Accepted;

impl Loop {
    /// Serves a listener that was on the run list.
    pub(super) fn serve_listener<H: Handler + ?Sized>(&mut self, handler: &mut H, id: ListenerId) {
        for _ in 0..self.net.config.accept_budget {
            self.net.serving = Some(id.0);
            match self.net.accept_one(id) {
                Accepted::Conn(conn) => self.deliver_accept(handler, conn, id),
                Accepted::Skipped => {}
                Accepted::Error(error) => {
                    self.net.callbacks += 1;
                    handler.on_listener_error(&mut self.net, id, error);
                    break;
                }
                Accepted::Done => break,
            }
        }
        self.net.serving = None;
        self.net.schedule_listener(id);
    }

    fn deliver_accept<H: Handler + ?Sized>(
        &mut self,
        handler: &mut H,
        conn: ConnId,
        listener: ListenerId,
    ) {
        self.net.enter(conn);
        handler.on_accept(&mut self.net, conn, listener);
        self.net.leave();
        self.net.schedule(conn);
    }
}
