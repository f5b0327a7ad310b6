//! Resets by the peer in every state of a connection, and by the loop. In each case another
//! connection of the same loop goes on as if nothing had happened.

mod support;

use hotloop::{CloseReason, Config, ConnId, Errno, Net, Sent, TimeoutKind};
use support::{Call, Kind, Peer, Rig, errno};

/// A rig with a client that is echoed to, and the connection under test, which is not.
struct Case {
    rig: Rig,
    beside: Peer,
    peer: Peer,
    conn: ConnId,
}

impl Case {
    fn new(kind: Kind) -> Case {
        Case::with(kind, Config::default())
    }

    fn with(kind: Kind, config: Config) -> Case {
        Case::consuming(kind, config, |_, _, data| data.len())
    }

    /// With an `on_data` for all connections but the one beside.
    fn consuming(
        kind: Kind,
        config: Config,
        mut on_data: impl FnMut(&mut Net, ConnId, &[u8]) -> usize + 'static,
    ) -> Case {
        let mut rig = Rig::with(kind, config);
        let (beside, echoed) = rig.client();
        rig.handler.on_data = Some(Box::new(move |net, conn, data| {
            if conn != echoed {
                return on_data(net, conn, data);
            }
            net.write(conn, data);
            data.len()
        }));
        let (peer, conn) = rig.client();
        rig.settle();
        Case { rig, beside, peer, conn }
    }

    fn net(&mut self) -> &mut Net {
        self.rig.event_loop.net()
    }

    /// What was told of the connection under test, apart from how its queue was filled.
    fn calls(&self) -> Vec<Call> {
        let of_it = |call: &&Call| match call {
            Call::Data(id, _) | Call::ReadClosed(id, _) | Call::Close(id, ..) => *id == self.conn,
            Call::Connect(id) => *id == self.conn,
            _ => false,
        };
        self.rig.handler.calls.iter().filter(of_it).cloned().collect()
    }

    /// Fills the outbound queue of a peer that does not read; returns how much stays queued.
    fn fill(&mut self) -> u64 {
        self.rig.stop_reading(self.peer);
        let conn = self.conn;
        while self.net().queued_bytes(conn) == 0 {
            assert!(self.net().write(conn, &[7; 500_000]).is_taken());
            self.rig.settle();
        }
        self.net().queued_bytes(conn) as u64
    }

    /// Checks that this was told and nothing follows, and that nobody else has noticed.
    fn ends(mut self, expected: &[Call]) {
        self.rig.until_closed(self.conn);
        let (beside, before) = (self.beside, self.rig.received(self.beside).len());
        self.rig.send(beside, b"alive");
        self.rig.until("an echo", |rig| rig.received(beside).len() == before + 5);
        self.rig.settle();
        assert_eq!(self.calls(), expected);
        assert_eq!(self.net().stats().connections, 1);
    }

    fn close(&self, reason: CloseReason, dropped_bytes: u64) -> Call {
        Call::Close(self.conn, reason, dropped_bytes)
    }

    fn reset(&self, dropped_bytes: u64) -> Call {
        self.close(CloseReason::Reset, dropped_bytes)
    }

    fn data(&self, data: &[u8]) -> Call {
        Call::Data(self.conn, data.to_vec())
    }

    fn fin(&self) -> Call {
        Call::ReadClosed(self.conn, Vec::new())
    }
}

fn an_idle_connection_is_closed_as_reset(kind: Kind) {
    let mut case = Case::new(kind);
    case.rig.reset(case.peer);
    let expected = [case.reset(0)];
    case.ends(&expected);
}

fn what_came_before_the_reset_is_delivered_before_it(kind: Kind) {
    let mut case = Case::new(kind);
    case.rig.send(case.peer, b"last words");
    case.rig.reset(case.peer);
    let expected = [case.data(b"last words"), case.reset(0)];
    case.ends(&expected);
}

fn more_than_a_budget_before_the_reset_is_delivered_whole(kind: Kind) {
    let mut case = Case::with(kind, Config::default().read_budget_bytes(1000));
    let sent: Vec<u8> = (0..=250).cycle().take(5500).collect();
    case.rig.send(case.peer, &sent);
    case.rig.reset(case.peer);
    let conn = case.conn;
    assert_eq!(case.rig.until_closed(conn), (CloseReason::Reset, 0));
    assert_eq!(case.rig.handler.shown(conn).concat(), sent);
    let mut expected: Vec<Call> = sent.chunks(1000).map(|piece| case.data(piece)).collect();
    expected.push(case.reset(0));
    case.ends(&expected);
}

fn an_answer_to_a_peer_that_has_reset_is_dropped(kind: Kind) {
    let echo = |net: &mut Net, conn, data: &[u8]| {
        assert_eq!(net.write(conn, data), Sent::Queued);
        data.len()
    };
    let mut case = Case::consuming(kind, Config::default(), echo);
    case.rig.send(case.peer, b"anyone?");
    case.rig.reset(case.peer);
    let expected = [case.data(b"anyone?"), case.reset(7)];
    case.ends(&expected);
}

fn kept_bytes_are_counted_and_not_shown_again(kind: Kind) {
    let mut case = Case::consuming(kind, Config::default(), |_, _, _| 1);
    case.rig.send(case.peer, b"part");
    case.rig.settle();
    assert_eq!(case.net().stats().discarded_bytes, 0);
    case.rig.reset(case.peer);
    case.rig.until_closed(case.conn);
    assert_eq!(case.net().stats().discarded_bytes, 3);
    let expected = [case.data(b"part"), case.reset(0)];
    case.ends(&expected);
}

fn a_paused_connection_learns_of_the_reset_at_once(kind: Kind) {
    let mut case = Case::new(kind);
    let conn = case.conn;
    case.net().pause_reading(conn);
    case.rig.send(case.peer, b"unread bytes");
    case.rig.settle();
    case.rig.reset(case.peer);
    case.rig.until_closed(conn);
    assert_eq!(case.net().stats().discarded_bytes, 12);
    let expected = [case.reset(0)];
    case.ends(&expected);
}

fn a_paused_connection_loses_kept_and_unread_bytes_counted(kind: Kind) {
    let mut case = Case::consuming(kind, Config::default(), |net, conn, _| {
        net.pause_reading(conn);
        0
    });
    case.rig.send(case.peer, b"kept");
    case.rig.settle();
    case.rig.send(case.peer, b" and unread");
    case.rig.settle();
    case.rig.reset(case.peer);
    case.rig.until_closed(case.conn);
    assert_eq!(case.net().stats().discarded_bytes, 15);
    let expected = [case.data(b"kept"), case.reset(0)];
    case.ends(&expected);
}

fn a_paused_connection_with_a_fin_to_read_learns_of_the_reset(kind: Kind) {
    let mut case = Case::new(kind);
    let conn = case.conn;
    case.net().pause_reading(conn);
    case.rig.send(case.peer, b"unread");
    case.rig.finish(case.peer);
    case.rig.settle();
    assert!(case.calls().is_empty(), "the FIN waits");
    case.rig.reset(case.peer);
    case.rig.until_closed(conn);
    assert_eq!(case.net().stats().discarded_bytes, 6);
    let expected = [case.reset(0)];
    case.ends(&expected);
}

fn a_pause_after_the_reset_was_reported_does_not_hide_it(kind: Kind) {
    let mut case = Case::consuming(kind, Config::default(), |net, conn, data| {
        net.pause_reading(conn);
        data.len()
    });
    case.rig.send(case.peer, b"one");
    case.rig.reset(case.peer);
    let expected = [case.data(b"one"), case.reset(0)];
    case.ends(&expected);
}

fn a_full_queue_is_dropped_to_the_byte(kind: Kind) {
    let mut case = Case::new(kind);
    let queued = case.fill();
    case.rig.reset(case.peer);
    let conn = case.conn;
    let (_, dropped) = case.rig.until_closed(conn);
    assert_eq!(dropped, queued);
    let stats = case.net().stats();
    assert_eq!((stats.queued_bytes, stats.buffered_bytes), (0, 0));
    assert_eq!(stats.dropped_bytes, queued);
    let expected = [case.reset(queued)];
    case.ends(&expected);
}

fn what_the_peer_took_of_a_queue_is_not_dropped(kind: Kind) {
    let mut case = Case::new(kind);
    let (conn, peer) = (case.conn, case.rig.scripted(case.peer));
    case.rig.world().set_window(peer, 300);
    case.net().write(conn, &[1; 1000]);
    case.rig.settle();
    assert_eq!(case.net().queued_bytes(conn), 700);
    case.rig.reset(case.peer);
    let expected = [case.reset(700)];
    case.ends(&expected);
}

fn a_half_open_connection_of_a_silent_handler_ends(kind: Kind) {
    let mut case = Case::new(kind);
    case.rig.handler.on_read_closed = Some(Box::new(|_, _, _| {}));
    case.rig.finish(case.peer);
    case.rig.settle();
    assert_eq!(case.calls(), [case.fin()]);
    case.rig.reset(case.peer);
    let expected = [case.fin(), case.reset(0)];
    case.ends(&expected);
}

fn a_half_open_connection_with_a_queue_loses_it(kind: Kind) {
    let mut case = Case::new(kind);
    case.rig.handler.on_read_closed = Some(Box::new(|_, _, _| {}));
    let queued = case.fill();
    case.rig.finish(case.peer);
    case.rig.settle();
    case.rig.reset(case.peer);
    let expected = [case.fin(), case.reset(queued)];
    case.ends(&expected);
}

fn after_our_shutdown_the_reset_is_told(kind: Kind) {
    let mut case = Case::new(kind);
    let (conn, peer) = (case.conn, case.peer);
    case.net().shutdown(conn);
    case.rig.until("the FIN", |rig| rig.at_end(peer));
    case.rig.reset(peer);
    let expected = [case.reset(0)];
    case.ends(&expected);
}

fn after_our_shutdown_data_before_the_reset_is_delivered(kind: Kind) {
    let mut case = Case::new(kind);
    let (conn, peer) = (case.conn, case.peer);
    case.net().shutdown(conn);
    case.rig.until("the FIN", |rig| rig.at_end(peer));
    case.rig.send(peer, b"but");
    case.rig.reset(peer);
    let expected = [case.data(b"but"), case.reset(0)];
    case.ends(&expected);
}

fn a_shutdown_that_waits_for_its_queue_loses_it(kind: Kind) {
    let mut case = Case::new(kind);
    let queued = case.fill();
    let conn = case.conn;
    case.net().shutdown(conn);
    case.rig.settle();
    case.rig.reset(case.peer);
    let expected = [case.reset(queued)];
    case.ends(&expected);
}

fn during_the_flush_of_a_close_the_loss_is_the_reason(kind: Kind) {
    let mut case = Case::new(kind);
    let queued = case.fill();
    let conn = case.conn;
    case.net().close(conn);
    case.rig.settle();
    assert!(case.calls().is_empty());
    case.rig.reset(case.peer);
    let expected = [case.reset(queued)];
    case.ends(&expected);
}

fn during_the_linger_the_close_stays_a_local_one(kind: Kind) {
    let mut case = Case::new(kind);
    let (conn, peer) = (case.conn, case.peer);
    case.net().write(conn, b"all of it");
    case.net().close(conn);
    case.rig.until("the FIN", |rig| rig.at_end(peer));
    assert!(case.calls().is_empty(), "it lingers");
    case.rig.send(peer, b"ignored");
    case.rig.reset(peer);
    let expected = [case.close(CloseReason::LocalClose, 0)];
    case.ends(&expected);
}

fn a_peer_that_is_gone_before_the_close_leaves_it_local(kind: Kind) {
    let mut case = Case::new(kind);
    let conn = case.conn;
    case.rig.reset(case.peer);
    case.net().close(conn);
    let expected = [case.close(CloseReason::LocalClose, 0)];
    case.ends(&expected);
}

fn a_peer_that_is_gone_before_the_flush_of_a_close_is_a_reset(kind: Kind) {
    let mut case = Case::new(kind);
    let conn = case.conn;
    case.rig.reset(case.peer);
    case.net().write(conn, b"lost");
    case.net().close(conn);
    let expected = [case.reset(4)];
    case.ends(&expected);
}

fn a_peer_that_is_gone_before_the_fin_of_a_shutdown_is_a_reset(kind: Kind) {
    let mut case = Case::new(kind);
    let conn = case.conn;
    case.rig.reset(case.peer);
    case.net().shutdown(conn);
    let expected = [case.reset(0)];
    case.ends(&expected);
}

fn while_connecting_there_is_one_word_about_it(kind: Kind) {
    let mut case = Case::new(kind);
    let unused = case.conn;
    case.net().abort(unused);
    case.rig.settle();
    let addr = case.rig.server();
    case.conn = case.net().connect(addr).expect("there are slots");
    let conn = case.conn;
    case.net().write(conn, b"unsent");
    let peer = case.rig.server_peer(addr).expect("the handshake needs no turn of the loop");
    case.rig.reset(peer);
    // A kernel tells it as the result of the connect; the scripted world connects first.
    let expected = if kind.is_script() {
        vec![Call::Connect(conn), case.reset(6)]
    } else {
        vec![case.close(CloseReason::ConnectFailed(Errno(errno::ECONNRESET)), 6)]
    };
    case.ends(&expected);
}

fn input_is_delivered_before_the_end_that_a_failed_send_makes(kind: Kind) {
    for (errno, reason) in [
        (errno::EPIPE, CloseReason::Reset),
        (errno::ECONNRESET, CloseReason::Reset),
        (errno::ETIMEDOUT, CloseReason::Timeout(TimeoutKind::Kernel)),
        (errno::EHOSTUNREACH, CloseReason::Io(Errno(errno::EHOSTUNREACH))),
    ] {
        let mut case = Case::new(kind);
        let (conn, peer) = (case.conn, case.rig.scripted(case.peer));
        case.rig.world().fail_send(peer, errno);
        case.rig.send(case.peer, b"readable");
        case.net().write(conn, b"fails");
        case.net().flush(conn);
        let expected = [case.data(b"readable"), case.close(reason, 5)];
        case.ends(&expected);
    }
}

fn a_failed_send_ends_a_connection_that_no_event_comes_for(kind: Kind) {
    let mut case = Case::new(kind);
    let (conn, peer) = (case.conn, case.rig.scripted(case.peer));
    case.rig.world().fail_send(peer, errno::EHOSTUNREACH);
    case.net().write(conn, b"fails");
    let expected = [case.close(CloseReason::Io(Errno(errno::EHOSTUNREACH)), 5)];
    case.ends(&expected);
}

fn after_a_failed_send_writes_are_not_taken(kind: Kind) {
    let mut case = Case::consuming(kind, Config::default(), |net, conn, data| {
        assert_eq!(net.write(conn, b"late"), Sent::Closed);
        data.len()
    });
    let (conn, peer) = (case.conn, case.rig.scripted(case.peer));
    case.rig.world().fail_send(peer, errno::EPIPE);
    case.net().write(conn, b"fails");
    case.net().flush(conn);
    case.rig.send(case.peer, b"readable");
    let expected = [case.data(b"readable"), case.reset(5)];
    case.ends(&expected);
}

fn a_send_that_finds_the_reset_first_leaves_the_input_to_be_delivered(kind: Kind) {
    let mut case = Case::new(kind);
    let conn = case.conn;
    case.rig.send(case.peer, b"readable");
    case.rig.reset(case.peer);
    case.net().write(conn, b"fails");
    case.net().flush(conn);
    let expected = [case.data(b"readable"), case.reset(5)];
    case.ends(&expected);
}

fn a_send_that_finds_the_reset_of_a_paused_connection_ends_it(kind: Kind) {
    let mut case = Case::new(kind);
    let conn = case.conn;
    case.net().pause_reading(conn);
    case.rig.send(case.peer, b"unread");
    case.rig.reset(case.peer);
    case.net().write(conn, b"fails");
    case.net().flush(conn);
    case.rig.until_closed(conn);
    assert_eq!(case.net().stats().discarded_bytes, 6, "C13: unread bytes are counted");
    let expected = [case.reset(5)];
    case.ends(&expected);
}

fn a_failed_send_of_a_half_open_connection_ends_it(kind: Kind) {
    let mut case = Case::new(kind);
    case.rig.handler.on_read_closed = Some(Box::new(|_, _, _| {}));
    case.rig.finish(case.peer);
    case.rig.settle();
    let (conn, peer) = (case.conn, case.rig.scripted(case.peer));
    case.rig.world().fail_send(peer, errno::EPIPE);
    case.net().write(conn, b"fails");
    let expected = [case.fin(), case.reset(5)];
    case.ends(&expected);
}

fn an_event_of_doom_without_an_error_ends_nothing(kind: Kind) {
    let mut case = Case::new(kind);
    let (conn, peer) = (case.conn, case.rig.scripted(case.peer));
    for paused in [false, true] {
        if paused {
            case.net().pause_reading(conn);
        }
        case.rig.world().spurious(peer);
        case.rig.settle();
        assert!(case.net().is_open(conn), "paused: {paused}");
        assert!(!case.rig.turn().pending);
    }
    case.net().resume_reading(conn);
    case.rig.send(case.peer, b"still here");
    case.rig.settle();
    case.rig.reset(case.peer);
    let expected = [case.data(b"still here"), case.reset(0)];
    case.ends(&expected);
}

fn our_abort_reaches_the_peer_as_a_reset(kind: Kind) {
    let mut case = Case::new(kind);
    let (conn, peer) = (case.conn, case.peer);
    case.net().abort(conn);
    case.net().abort(conn);
    case.rig.until("the reset", |rig| rig.is_reset(peer));
    let expected = [case.close(CloseReason::LocalAbort, 0)];
    case.ends(&expected);
}

fn our_abort_drops_the_queue(kind: Kind) {
    let mut case = Case::new(kind);
    let queued = case.fill();
    let (conn, peer) = (case.conn, case.peer);
    case.net().abort(conn);
    case.rig.settle();
    case.rig.start_reading(peer);
    case.rig.until("the reset", |rig| rig.is_reset(peer));
    let expected = [case.close(CloseReason::LocalAbort, queued)];
    case.ends(&expected);
}

fn a_hundred_resets_of_one_batch_are_told_one_by_one(kind: Kind) {
    let mut case = Case::new(kind);
    let clients: Vec<_> = (0..100).map(|_| case.rig.client()).collect();
    case.rig.settle();
    clients.iter().for_each(|(peer, _)| case.rig.reset(*peer));
    for (_, conn) in &clients {
        assert_eq!(case.rig.until_closed(*conn), (CloseReason::Reset, 0));
    }
    assert_eq!(case.rig.handler.count(|call| matches!(call, Call::Close(..))), 100);
    case.rig.reset(case.peer);
    let expected = [case.reset(0)];
    case.ends(&expected);
}

on_every_backend!(
    an_idle_connection_is_closed_as_reset,
    what_came_before_the_reset_is_delivered_before_it,
    more_than_a_budget_before_the_reset_is_delivered_whole,
    an_answer_to_a_peer_that_has_reset_is_dropped,
    kept_bytes_are_counted_and_not_shown_again,
    a_paused_connection_learns_of_the_reset_at_once,
    a_paused_connection_loses_kept_and_unread_bytes_counted,
    a_paused_connection_with_a_fin_to_read_learns_of_the_reset,
    a_pause_after_the_reset_was_reported_does_not_hide_it,
    a_full_queue_is_dropped_to_the_byte,
    a_half_open_connection_of_a_silent_handler_ends,
    a_half_open_connection_with_a_queue_loses_it,
    after_our_shutdown_the_reset_is_told,
    after_our_shutdown_data_before_the_reset_is_delivered,
    a_shutdown_that_waits_for_its_queue_loses_it,
    during_the_flush_of_a_close_the_loss_is_the_reason,
    during_the_linger_the_close_stays_a_local_one,
    a_peer_that_is_gone_before_the_close_leaves_it_local,
    a_peer_that_is_gone_before_the_flush_of_a_close_is_a_reset,
    a_peer_that_is_gone_before_the_fin_of_a_shutdown_is_a_reset,
    while_connecting_there_is_one_word_about_it,
    a_send_that_finds_the_reset_first_leaves_the_input_to_be_delivered,
    a_send_that_finds_the_reset_of_a_paused_connection_ends_it,
    our_abort_reaches_the_peer_as_a_reset,
    our_abort_drops_the_queue,
    a_hundred_resets_of_one_batch_are_told_one_by_one,
);

// They make single calls fail, or peers that take part of a queue.
on_script!(
    what_the_peer_took_of_a_queue_is_not_dropped,
    input_is_delivered_before_the_end_that_a_failed_send_makes,
    a_failed_send_ends_a_connection_that_no_event_comes_for,
    after_a_failed_send_writes_are_not_taken,
    a_failed_send_of_a_half_open_connection_ends_it,
    an_event_of_doom_without_an_error_ends_nothing,
);
