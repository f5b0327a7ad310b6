//! The simulated kernel against the real one: the same stories of a loop and a peer, told on real
//! sockets and in the simulated world, come to the same end for both of them.

mod support;

use support::{Call, Kind, Rig};

/// What happens in a story, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    PeerSends(&'static str),
    PeerSendsUrgent,
    PeerFinishes,
    PeerResets,
    /// The loop takes turns until nothing happens any more. Between its looks it sees nothing.
    Looks,
    /// A write that is flushed at once.
    Writes(&'static str),
    ShutsDown,
    Closes,
    Aborts,
    ClosesListener,
    /// The loop is dropped, as at the exit of its process: the kernel closes its sockets.
    Exits,
}

use Act::{
    Aborts, Closes, ClosesListener, Exits, Looks, PeerFinishes, PeerResets, PeerSends,
    PeerSendsUrgent, ShutsDown, Writes,
};

/// What the loop's handler was told of the connection, and what reached the peer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Told {
    to_loop: String,
    to_peer: String,
}

const STORIES_DRAWN: usize = 300;

/// What happens, what the loop sees of it, what the peer sees. The handler keeps a connection
/// open when the peer's FIN has come. `-5` behind a reason: five bytes were dropped.
const STORIES: &[(&[Act], &str, &str)] = &[
    // A reset does not destroy what came before it, and what was not sent is lost.
    (&[Looks, PeerSends("hello"), PeerResets], "'hello' Reset", "-"),
    (&[PeerSends("hello"), PeerResets], "'hello' Reset", "-"),
    (&[PeerResets], "Reset", "-"),
    (&[Looks, PeerResets, Writes("lost")], "Reset-4", "-"),
    (&[Looks, PeerSends("hello"), PeerResets, Writes("lost")], "'hello' Reset-4", "-"),
    (&[Looks, PeerResets, ShutsDown], "Reset", "-"),
    (&[Looks, PeerSends("hello"), PeerResets, ShutsDown], "'hello' Reset", "-"),
    (&[Looks, PeerResets, Closes], "LocalClose", "-"),
    (&[Looks, PeerResets, Aborts], "LocalAbort", "-"),
    // A FIN in front of a reset is read, and so is what came before.
    (&[Looks, PeerSends("bye"), PeerFinishes], "'bye' fin", "''"),
    (&[Looks, PeerSends("bye"), PeerFinishes, PeerResets], "'bye' fin Reset", "-"),
    (&[Looks, PeerFinishes, Looks, PeerResets], "fin Reset", "-"),
    (&[Looks, PeerFinishes, Looks, PeerResets, Writes("lost")], "fin Reset-4", "-"),
    (&[PeerSends("bye"), PeerFinishes, PeerResets], "'bye' fin Reset", "-"),
    // Half of a connection goes on alone.
    (&[Looks, ShutsDown, PeerSends("more")], "'more'", "'' fin"),
    (&[Looks, Writes("bye"), ShutsDown, PeerSends("more")], "'more'", "'bye' fin"),
    (&[Looks, PeerFinishes, Looks, Writes("more")], "fin", "'more'"),
    (&[Looks, PeerFinishes, Looks, Writes("more"), ShutsDown], "fin PeerClosed", "'more' fin"),
    (&[Looks, ShutsDown, Looks, PeerSends("x"), PeerFinishes], "'x' fin PeerClosed", "'' fin"),
    (&[Looks, ShutsDown, Looks, PeerSends("x"), PeerResets], "'x' Reset", "-"),
    (&[Looks, ShutsDown, Looks, PeerFinishes, PeerResets], "fin PeerClosed", "-"),
    (&[Looks, PeerFinishes, ShutsDown, Looks, PeerResets], "fin PeerClosed", "-"),
    // Closing: in full if the peer keeps to it, and a reset for what nobody will read.
    (&[Looks, Writes("bye"), Closes], "", "'bye' fin"),
    (&[Looks, Writes("bye"), Closes, PeerFinishes], "LocalClose", "'bye' fin"),
    (&[Looks, Closes, PeerSends("unread"), Looks, PeerFinishes], "LocalClose", "'' fin"),
    (&[Looks, Writes("bye"), Aborts], "LocalAbort", "'bye' reset"),
    (&[Looks, Writes("bye"), ShutsDown, Looks, Aborts], "LocalAbort", "'bye' fin"),
    (&[Looks, Writes("bye"), Looks, Exits], "", "'bye' fin"),
    (&[Looks, Writes("bye"), Looks, PeerSends("unread"), Exits], "", "'bye' reset"),
    (&[Looks, Exits, PeerSends("for nobody")], "", "'' fin"),
    (&[Looks, PeerFinishes, Exits], "", "'' fin"),
    (&[Looks, PeerSends("unread"), PeerFinishes, Exits], "", "'' reset"),
    (&[Looks, ShutsDown, Looks, PeerSends("unread"), Exits], "", "'' fin"),
    // In the backlog.
    (&[Exits], "", "'' reset"),
    (&[ClosesListener], "", "'' reset"),
    (&[PeerSends("unread"), ClosesListener], "", "'' reset"),
    (&[PeerFinishes], "fin", "''"),
    (&[Looks, ClosesListener, PeerSends("still there")], "'still there'", "''"),
    // A receive stops short of an urgent mark, and its byte is not part of the stream.
    (&[Looks, PeerSends("abc"), PeerSendsUrgent, PeerSends("def")], "'abcdef'", "''"),
    (&[Looks, PeerSendsUrgent], "", "''"),
    (&[Looks, PeerSendsUrgent, Looks, PeerSends("x")], "'x'", "''"),
    (&[Looks, PeerSends("ab"), PeerSendsUrgent, PeerFinishes], "'ab' fin", "''"),
    (&[Looks, PeerSends("ab"), PeerSendsUrgent, PeerResets], "'ab' Reset", "-"),
    (&[PeerSends("ab"), PeerSendsUrgent, PeerSends("cd")], "'abcd'", "''"),
    (&[Looks, PeerSendsUrgent, Exits], "", "'' reset"),
    (&[Looks, PeerSendsUrgent, Looks, Exits], "", "'' fin"),
    // The byte of a mark that a later one overtakes is part of the stream (RFC 6093 §3).
    (
        &[
            Looks,
            PeerSends("ab"),
            PeerSendsUrgent,
            PeerSends("cd"),
            PeerSendsUrgent,
            PeerSends("ef"),
        ],
        "'ab!cdef'",
        "''",
    ),
];

fn each_story_ends_as_it_does_on_linux(kind: Kind) {
    for (acts, to_loop, to_peer) in STORIES {
        let expected = Told { to_loop: (*to_loop).to_owned(), to_peer: (*to_peer).to_owned() };
        let told = tell_expecting(kind, acts, &expected);
        assert_eq!(told, expected, "{acts:?}");
    }
}

/// Stories nobody has thought of.
fn stories_drawn_at_random_end_as_they_do_on_linux(kind: Kind) {
    let mut random = 7;
    for _ in 0..STORIES_DRAWN {
        let mut acts = draw_story(&mut random);
        if kind.is_completion() {
            acts = acts.into_iter().flat_map(land).collect();
        }
        let simulated = tell(kind, &acts);
        let real = tell_expecting(Kind::NATIVE, &acts, &simulated);
        assert_eq!(simulated, real, "simulated and real, of {acts:?}");
    }
}

/// Tells a story; on real sockets again if it ends otherwise than expected, because a segment may
/// be on its way for a moment even on the loopback.
fn tell_expecting(kind: Kind, acts: &[Act], expected: &Told) -> Told {
    for _ in 0..5 {
        let told = tell(kind, acts);
        if told == *expected || kind.is_virtual() {
            return told;
        }
    }
    tell(kind, acts)
}

fn tell(kind: Kind, acts: &[Act]) -> Told {
    let mut rig = Rig::new(kind);
    rig.handler.on_read_closed = Some(Box::new(|_, _, _| {}));
    let peer = rig.dial();
    let mut has_loop = true;
    for act in acts {
        let conn = rig.handler.accepted.first().copied();
        match (*act, conn) {
            (PeerSends(text), _) => rig.send(peer, text.as_bytes()),
            (PeerSendsUrgent, _) => rig.send_urgent(peer, b'!'),
            (PeerFinishes, _) => rig.finish(peer),
            (PeerResets, _) => rig.reset(peer),
            (Looks, _) => rig.look(),
            (Writes(text), Some(conn)) => {
                rig.event_loop.net().write(conn, text.as_bytes());
                rig.event_loop.net().flush(conn);
            }
            (ShutsDown, Some(conn)) => rig.event_loop.net().shutdown(conn),
            (Closes, Some(conn)) => rig.event_loop.net().close(conn),
            (Aborts, Some(conn)) => rig.event_loop.net().abort(conn),
            (ClosesListener, _) => assert!(rig.event_loop.net().close_listener(rig.listener)),
            (Exits, _) => {
                rig.exit();
                has_loop = false;
            }
            (_, None) => panic!("{act:?} before the accept, in {acts:?}"),
        }
        rig.until_arrived();
    }
    if has_loop {
        rig.look();
    }
    let to_peer =
        if acts.contains(&PeerResets) { "-".to_owned() } else { shown_to(&mut rig, peer) };
    Told { to_loop: told_to_loop(&rig.handler.calls), to_peer }
}

/// The callbacks, one word each; data is one word however many callbacks brought it.
fn told_to_loop(calls: &[Call]) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut data = Vec::new();
    for call in calls {
        if let Call::Data(_, more) = call {
            data.extend(more);
            continue;
        }
        words.extend(shown_data(&mut data));
        words.extend(match call {
            Call::ReadClosed(_, rest) if rest.is_empty() => Some("fin".to_owned()),
            Call::Close(_, reason, 0) => Some(format!("{reason:?}")),
            Call::Close(_, reason, dropped) => Some(format!("{reason:?}-{dropped}")),
            Call::Accept(_) => None,
            other => Some(format!("{other:?}")),
        });
    }
    words.extend(shown_data(&mut data));
    words.join(" ")
}

fn shown_data(data: &mut Vec<u8>) -> Option<String> {
    let shown = format!("'{}'", data.escape_ascii());
    (!std::mem::take(data).is_empty()).then_some(shown)
}

fn shown_to(rig: &mut Rig, peer: support::Peer) -> String {
    let data = format!("'{}'", rig.received(peer).escape_ascii());
    // What comes behind the FIN the peer does not see by reading.
    match (rig.at_end(peer), rig.is_reset(peer)) {
        (true, _) => format!("{data} fin"),
        (false, true) => format!("{data} reset"),
        (false, false) => data,
    }
}

/// A send that completes by an event is decided when the loop looks: at its exit or an abort it
/// could have gone either way.
fn land(act: Act) -> Vec<Act> {
    if matches!(act, Writes(_)) { vec![act, Looks] } else { vec![act] }
}

/// Draws three to nine acts that make sense one after the other.
fn draw_story(random: &mut u64) -> Vec<Act> {
    let mut acts = Vec::new();
    let len = 3 + below(random, 7);
    while acts.len() < len && !(acts.contains(&Exits) && acts.contains(&PeerResets)) {
        let act = match below(random, 16) {
            0..=2 => PeerSends("peer's "),
            3 => PeerSendsUrgent,
            4 => PeerFinishes,
            5 => PeerResets,
            6..=9 => Looks,
            10..=11 => Writes("loop's "),
            12 => ShutsDown,
            13 => Closes,
            14 => Aborts,
            _ => Exits,
        };
        if makes_sense(&acts, act) {
            acts.push(act);
        }
    }
    acts
}

fn makes_sense(before: &[Act], act: Act) -> bool {
    let has = |act: Act| before.contains(&act);
    match act {
        PeerSends(_) | PeerSendsUrgent | PeerFinishes => !has(PeerResets) && !has(PeerFinishes),
        PeerResets => !has(PeerResets),
        Looks | Exits => !has(Exits),
        Writes(_) | ShutsDown | Closes | Aborts | ClosesListener => has(Looks) && !has(Exits),
    }
}

/// A linear congruential generator (Knuth's), its upper bits.
fn below(random: &mut u64, bound: u64) -> usize {
    *random =
        random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    usize::try_from((*random >> 33) % bound).expect("a small number")
}

on_kernels!(each_story_ends_as_it_does_on_linux);

tests_of!(stories_drawn_at_random_end_as_they_do_on_linux: sim);
