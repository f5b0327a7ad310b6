//! Bytes come back as they were sent.

mod support;

use hotloop::CloseReason;
use support::{Kind, Rig};

fn what_is_sent_in_odd_pieces_comes_back_whole(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.echo();
    let (peer, conn) = rig.client();
    let sent: Vec<u8> = (0..=250).cycle().take(100_000).collect();
    for piece in sent.chunks(977) {
        rig.send(peer, piece);
        rig.turn();
    }
    rig.until("the echo", |rig| rig.received(peer) == sent);
    rig.settle();
    assert_eq!(rig.handler.consumed, sent);
    let stats = rig.event_loop.net().conn_stats(conn).expect("it is open");
    assert_eq!((stats.received_bytes, stats.sent_bytes), (100_000, 100_000));
}

fn the_peers_fin_is_answered_behind_the_echo(kind: Kind) {
    let mut rig = Rig::new(kind);
    rig.handler.echo();
    let (peer, conn) = rig.client();
    rig.send(peer, b"last words");
    rig.finish(peer);
    assert_eq!(rig.until_closed(conn), (CloseReason::PeerClosed, 0));
    rig.until("the FIN", |rig| rig.at_end(peer));
    assert_eq!(rig.received(peer), b"last words");
    assert!(!rig.is_reset(peer));
}

on_every_backend!(
    what_is_sent_in_odd_pieces_comes_back_whole,
    the_peers_fin_is_answered_behind_the_echo,
);
