//! Handing over: a connection leaves the loop and comes back, and its account goes on under
//! another id (C1, C4, C7, C8).

use std::io::ErrorKind;

use hotloop::sim::Dialect;
use hotloop::{AdoptError, ConnId, Detached, Net, SendSide, Sent};

use crate::counts::Place;
use crate::model::Model;
use crate::pressure::SEGMENT;
use crate::program::{Adoption, Limits};
use crate::random::Pattern;
use crate::record::{Conn, Release, key_of};

/// A connection that is out of the loop.
#[derive(Debug)]
pub struct Loose {
    /// What it was called.
    id: ConnId,
    detached: Detached,
    adoption: Adoption,
}

impl Model {
    /// Asks for a connection, which comes back when it was given.
    pub fn hand_over(&mut self, net: &mut Net, id: ConnId, adoption: Adoption) {
        let was_open = net.is_open(id);
        // Of one that is open and takes no writes the loop has found that it is broken.
        let can_write = self.conns.get(&id).is_some_and(|conn| conn.is_open && conn.takes_writes());
        let is_broken = can_write && was_open && net.write(id, b"") == Sent::Closed;
        let is_asked = net.release(id);
        assert!(was_open || !is_asked, "C5: {id}: asked for, and not open");
        assert!(!is_asked || !net.is_open(id), "C5: {id}: asked for, and open");
        let Some(conn) = self.conns.get_mut(&id).filter(|conn| conn.is_live()) else {
            return assert!(!is_asked, "C5: {id}: asked for, and closed");
        };
        if is_asked {
            assert!(conn.is_open, "C1: {id}: asked for, and connecting");
            assert!(!is_broken, "C5: {id}: asked for, and broken");
            conn.is_asked_for(adoption);
            conn.ends_since.get_or_insert(net.now());
            self.clock.forget_owned(id);
        } else if was_open && conn.is_open {
            assert!(is_broken || conn.is_shut, "C5: {id}: whole, and not given");
            conn.ends_since.get_or_insert(net.now());
        }
    }

    /// A connection is given: looks at what it brings, and hands it on.
    pub fn released(&mut self, net: &mut Net, id: ConnId, detached: Detached) {
        let Some(conn) = self.conns.get(&id) else { panic!("C2: {id}: on_release, and unknown") };
        assert!(conn.end.is_none(), "C1: {id}: on_release after on_close");
        let is_over = conn.overridden || conn.is_aborted || conn.has_panicked;
        assert!(!is_over, "C5: {id}: on_release of what has ended: {conn:?}");
        let Release::Asked(adoption) = conn.release else {
            panic!("C1: {id}: on_release, and not asked for: {conn:?}");
        };
        self.check_detached(net, id, &detached);
        let conn = self.conns.get_mut(&id).expect("it was there");
        conn.release = Release::Told { queued: detached.queued().len() as u64, goes_on: false };
        let loose = Loose { id, detached, adoption };
        let answer = self.next_answer();
        if answer.closes {
            self.hand_on(net, loose);
            self.perform(Place::Release, net, Some(id), &answer);
        } else {
            // A panic in here drops it.
            self.perform(Place::Release, net, Some(id), &answer);
            self.hand_on(net, loose);
        }
    }

    /// What leaves is what nobody has consumed and what was not sent, all of it and in order.
    fn check_detached(&self, net: &mut Net, id: ConnId, detached: &Detached) {
        let conn = &self.conns[&id];
        let (unread, queued) = (detached.unread(), detached.queued().len() as u64);
        let is_right = Pattern::new(conn.stream_in(), conn.consumed).matches(unread);
        assert!(is_right, "C7: {id}: wrong bytes are unread behind {}", conn.consumed);
        // A completion backend has some that were never shown.
        let is_all = match self.setup.dialect {
            Dialect::Readiness => unread.len() == conn.left,
            Dialect::Completion => unread.len() >= conn.left,
        };
        assert!(is_all, "C7: {id}: {} are unread, and {} were left", unread.len(), conn.left);
        let (seen, sent) = (conn.consumed + unread.len() as u64, self.sent_to(conn));
        assert!(seen <= sent, "C7: {id}: {seen} bytes seen of {sent} that were sent");
        assert!(queued <= conn.own_accepted(), "C8: {id}: {queued} are queued: {conn:?}");
        let from = conn.accepted - queued;
        let is_right = Pattern::new(conn.stream_out(), from).matches(detached.queued());
        assert!(is_right, "C8: {id}: what is queued is not the end of what was written");
        let side = detached.send_side();
        assert_eq!(conn.is_shut, side != SendSide::Open, "C5: {id}: {side:?}");
        assert!(side != SendSide::FinSent || queued == 0, "C5: {id}: a FIN before {queued} bytes");
        let stats = net.conn_stats(id).expect("getters work in on_release");
        let counted = (stats.accepted_bytes, stats.sent_bytes + queued);
        let accepted = conn.own_accepted();
        assert_eq!(counted, (accepted, accepted), "C8: {id}: accepted; sent and queued");
        self.check_name(net, id, conn);
    }

    /// The addresses are those of the same connection.
    fn check_name(&self, net: &mut Net, id: ConnId, conn: &Conn) {
        let is_dialler = conn.is_own && conn.dialled.is_some();
        let addr = if is_dialler { net.local_addr(id) } else { net.peer_addr(id) };
        assert_eq!(addr.map(key_of), Some(conn.key), "C2: {id}: another's address");
    }

    /// Adopts a connection, or keeps it for later.
    fn hand_on(&mut self, net: &mut Net, loose: Loose) {
        if loose.adoption.is_late && !self.is_calm {
            self.set_goes_on(loose.id);
            self.loose.push(loose);
        } else {
            self.adopt(net, loose);
        }
    }

    /// Adopts what was kept for later.
    pub fn adopt_loose(&mut self, net: &mut Net) {
        for loose in std::mem::take(&mut self.loose) {
            self.adopt(net, loose);
        }
    }

    fn set_goes_on(&mut self, id: ConnId) {
        let conn = self.conns.get_mut(&id).expect("it was given away");
        if let Release::Told { goes_on, .. } = &mut conn.release {
            *goes_on = true;
        }
    }

    fn adopt(&mut self, net: &mut Net, loose: Loose) {
        let Loose { id, detached, adoption } = loose;
        let limits = self.setup.limits[usize::from(adoption.is_special)];
        let obstacles = self.obstacles(net, &detached, limits);
        let brought = (detached.unread().len(), detached.queued().len());
        let adopting = if adoption.is_special {
            net.adopt_with(detached, limits.options())
        } else {
            net.adopt(detached)
        };
        match adopting {
            Ok(new) => {
                assert!(obstacles.is_empty(), "C8: {id}: adopted, over {obstacles:?}");
                self.adopted(net, id, new, brought, limits);
            }
            Err(refused) => self.not_adopted(id, refused, brought, &obstacles),
        }
    }

    /// The limits that stand in the way of an adoption.
    fn obstacles(&self, net: &Net, detached: &Detached, limits: Limits) -> Vec<&'static str> {
        let (unread, queued) = (detached.unread().len(), detached.queued().len());
        let cost = if queued == 0 { 0 } else { queued + SEGMENT };
        let stats = net.stats();
        let held = usize::try_from(stats.buffered_bytes).expect("it is in memory");
        // One that brings nothing is no burden, however full the buffers are.
        let brought = unread + cost;
        [
            ("max_connections", stats.connections >= self.setup.max_connections),
            ("inbound_max_bytes", unread > limits.inbound_max_bytes),
            ("hard_limit_bytes", cost > limits.hard),
            ("global_buffer_bytes", brought > 0 && held + brought > self.write_limit()),
        ]
        .into_iter()
        .filter_map(|(name, is_over)| is_over.then_some(name))
        .collect()
    }

    /// The account of a connection goes on under its new id.
    fn adopted(
        &mut self,
        net: &mut Net,
        old: ConnId,
        new: ConnId,
        brought: (usize, usize),
        limits: Limits,
    ) {
        let (unread, queued) = brought;
        self.set_goes_on(old);
        self.adopted += 1;
        let before = &self.conns[&old];
        let mut conn = Conn::new(before.key, before.dialled, net.now(), limits);
        conn.is_own = before.is_own;
        conn.opened();
        (conn.consumed, conn.consumed_before) = (before.consumed, before.consumed);
        (conn.left, conn.resumed, conn.show_due) = (unread, unread > 0, unread > 0);
        (conn.accepted, conn.sent_before) = (before.accepted, before.accepted - queued as u64);
        conn.is_shut = before.is_shut;
        if net.queued_cost(new) > limits.high {
            conn.pressure.pressed();
        }
        assert_eq!(net.queued_bytes(new), queued, "C8: {new}: the queue of {old}");
        let stats = net.conn_stats(new).expect("it was adopted");
        let counted = (stats.received_bytes, stats.accepted_bytes, stats.sent_bytes);
        let begun = (unread as u64, queued as u64, 0);
        assert_eq!(counted, begun, "C8: {new}: received, accepted, sent: those of {old}");
        self.check_name(net, new, &conn);
        self.add(new, conn);
    }

    /// An adoption is refused for a limit, or because the connection is none any more: dropping
    /// what comes back ends it.
    fn not_adopted(
        &mut self,
        id: ConnId,
        refused: AdoptError<Detached>,
        brought: (usize, usize),
        obstacles: &[&str],
    ) {
        let (kind, why) = (refused.error().kind(), refused.error().to_string());
        let is_full = obstacles.iter().any(|name| why.contains(name));
        let conn = self.conns.get_mut(&id).expect("it was given away");
        if let Release::Told { goes_on, .. } = &mut conn.release {
            *goes_on = false;
        }
        if !is_full {
            let is_gone = obstacles.is_empty() && kind == ErrorKind::NotConnected;
            assert!(is_gone, "C8: {id}: {why}, and over {obstacles:?}: {conn:?}");
            let conn = conn.clone();
            self.blame_end(&conn);
        }
        let back = refused.into_inner();
        let returned = (back.unread().len(), back.queued().len());
        assert_eq!(returned, brought, "C8: {id}: what comes back is not what was given");
    }

    /// A connection has ended while it was nobody's.
    fn blame_end(&mut self, conn: &Conn) {
        let is_over = conn.is_shut && self.outside.finished.contains(&conn.key);
        let by_peer = conn.is_own || self.outside.resets.contains(&conn.key);
        if !is_over && !by_peer {
            self.blamed.broken += 1;
        }
    }

    /// What is due of hand-overs has come. Where sends are done when they return, nothing keeps a
    /// release waiting.
    pub fn check_hand_overs(&mut self, net: &Net) {
        let is_due = self.setup.dialect == Dialect::Readiness;
        for (id, conn) in &mut self.conns {
            let is_late = conn.hand_over_is_late(is_due, net.is_open(*id));
            assert!(!is_late, "C3: {id}: on_release, or what it brought, is due: {conn:?}");
        }
    }
}
