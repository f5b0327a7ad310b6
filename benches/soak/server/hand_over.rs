//! Connections that leave the loop amid everything, and come back.

use hotloop::{CloseReason, ConnId, Detached, Net};

use super::{Link, Server};
use crate::roles::{End, Role};
use crate::server::session::Session;
use crate::side::Count;

/// A connection that is in no loop.
pub(super) struct Loose {
    detached: Detached,
    session: Session,
}

impl Server {
    /// Lets one go.
    pub(super) fn hand_over(&mut self, net: &mut Net) {
        let Some(conn) = self.any_session(Session::may_move) else { return };
        if !net.release(conn) {
            return;
        }
        self.common.side.count(Count::HandOvers);
        if let Some(Link::Session(session)) = self.links.get_mut(conn) {
            self.common.groups.leave(conn, session.group);
        }
    }

    /// Takes one back at once, or remembers it for a while.
    pub(super) fn released(&mut self, net: &mut Net, conn: ConnId, detached: Detached) {
        let Some(Link::Session(session)) = self.links.remove(conn) else {
            return self.common.side.fault("released", &format!("{conn} is none that was to go"));
        };
        let (role, now) = (session.role, self.common_now());
        self.common.side.ended(conn, (role, End::Accepted), CloseReason::Released, now);
        self.common.groups.leave(conn, session.group);
        self.common.sessions.remove(&session.number);
        let loose = Loose { detached, session };
        if self.common.chance.per_mille(500) {
            self.adopt(net, loose);
        } else {
            self.loose.push(loose);
        }
    }

    /// Takes back whatever is loose.
    pub(super) fn adopt_loose(&mut self, net: &mut Net) {
        for loose in std::mem::take(&mut self.loose) {
            self.adopt(net, loose);
        }
    }

    fn adopt(&mut self, net: &mut Net, Loose { detached, session }: Loose) {
        let refused = match net.adopt_with(detached, session.door.options()) {
            Ok(conn) => {
                self.common.side.count(Count::Adopted);
                self.common.side.opened(net, conn);
                return self.settle(net, conn, session);
            }
            Err(refused) => refused,
        };
        if refused.error().to_string().contains("max_connections") {
            self.loose.push(Loose { detached: refused.into_inner(), session });
            return;
        }
        self.common.side.count(Count::AdoptsLost);
        let now = self.common_now();
        // The peer may have reset it in between.
        let may_be_gone = matches!(session.role, Role::Aborts | Role::Unknown);
        if !(may_be_gone || now.draining || now.chaos) {
            let detail = format!("{}: {}", session.role.name(), refused.error());
            self.common.side.fault("adopt", &detail);
        }
    }

    fn settle(&mut self, net: &mut Net, conn: ConnId, mut session: Session) {
        if session.role != Role::Unknown {
            session.settle(net, conn, &mut self.common);
            session.pump(net, conn, &mut self.common);
        }
        self.links.insert(conn, Link::Session(session));
    }
}
