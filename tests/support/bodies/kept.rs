//! What a handler leaves unconsumed, against a number: how far the stream was consumed.

use std::cell::RefCell;
use std::rc::Rc;

use hotloop::{CloseReason, Config, ConnId, ConnOptions, LimitKind};

use super::choices::Choices;
use crate::support::{Kind, Rig};

const OPS_MAX: usize = 200;

#[derive(Default)]
struct Shown {
    /// What the next deliveries take, one byte each; then everything.
    takes: Vec<u8>,
    consumed: usize,
    /// How far the stream was shown.
    end: usize,
    sent: usize,
    deliveries: usize,
}

fn byte_at(place: usize) -> u8 {
    (place * 31 % 251) as u8
}

impl Shown {
    /// Checks a delivery; returns how much of it is taken.
    fn deliver(&mut self, data: &[u8]) -> usize {
        self.deliveries += 1;
        let right = data.iter().enumerate().all(|(at, byte)| *byte == byte_at(self.consumed + at));
        assert!(right, "C7: shown is something else than follows {}", self.consumed);
        self.end = self.consumed + data.len();
        assert!(self.end <= self.sent, "more than was sent");
        let take = match self.takes.pop() {
            None | Some(0xff) => data.len(),
            Some(part) => usize::from(part) % (data.len() + 1),
        };
        self.consumed += take;
        take
    }
}

/// Plays the input.
///
/// # Panics
///
/// If bytes are lost, repeated, reordered, kept beyond the limit, or not shown.
pub fn check(input: &[u8]) {
    let mut choices = Choices::new(input);
    let kind = if choices.is() { Kind::ScriptCompletion } else { Kind::ScriptReadiness };
    let limit = 1 + choices.below(3000);
    let config = Config::default()
        .recv_buffer_bytes(512 + choices.below(5000))
        .read_budget_bytes(64 + choices.below(5000))
        .conn(ConnOptions::default().inbound_max_bytes(limit));
    let takes = choices.take(100).to_vec();
    let mut rig = Rig::with(kind, config);
    let shown = Rc::new(RefCell::new(Shown { takes, ..Shown::default() }));
    let its = Rc::clone(&shown);
    rig.handler.on_data = Some(Box::new(move |_, _, data| its.borrow_mut().deliver(data)));
    let (peer, conn) = rig.client();
    let mut is_paused = false;
    let mut has_finished = false;
    for _ in 0..OPS_MAX {
        if choices.is_over() || has_finished || rig.closed(conn).is_some() {
            break;
        }
        match choices.byte() % 8 {
            0..=2 => {
                let mut shown = shown.borrow_mut();
                let from = shown.sent;
                shown.sent += 1 + choices.below(2000);
                let data: Vec<u8> = (from..shown.sent).map(byte_at).collect();
                rig.world().send(rig.scripted(peer), &data);
            }
            3 => is_paused |= rig.event_loop.net().pause_reading(conn),
            4 => {
                let before = shown.borrow().deliveries;
                let has_left = shown.borrow().end > shown.borrow().consumed;
                if rig.event_loop.net().resume_reading(conn) {
                    is_paused = false;
                    rig.turn();
                    rig.turn();
                    let told = shown.borrow().deliveries > before;
                    assert!(told || !has_left, "what was left is shown again without new bytes");
                }
            }
            5 => rig.world().spurious(rig.scripted(peer)),
            6 if choices.byte() > 200 => {
                rig.finish(peer);
                has_finished = true;
            }
            _ => _ = rig.turn(),
        }
    }
    rig.settle();
    if !rig.event_loop.net().is_open(conn) && !has_finished && rig.closed(conn).is_none() {
        // It lingers.
        rig.finish(peer);
        rig.settle();
    }
    judge(&mut rig, conn, &shown.borrow(), (limit, is_paused, has_finished));
}

/// Checks what it has come to.
fn judge(rig: &mut Rig, conn: ConnId, shown: &Shown, known: (usize, bool, bool)) {
    let (limit, is_paused, has_finished) = known;
    let left = shown.end - shown.consumed;
    match rig.closed(conn) {
        Some((CloseReason::Limit(LimitKind::Inbound), _)) => {
            assert!(left > limit, "{left} are left, the limit is {limit}");
        }
        Some((CloseReason::PeerClosed, _)) => {
            assert!(has_finished && shown.end == shown.sent, "all of it before the end");
        }
        Some(other) => panic!("{other:?}"),
        None => {
            assert!(left <= limit, "{left} are left, the limit is {limit}");
            assert!(is_paused || shown.end == shown.sent, "{} of {}", shown.end, shown.sent);
            let stats = rig.event_loop.net().conn_stats(conn).expect("it is open");
            assert_eq!(stats.kept_bytes, left, "what is kept is what was left");
        }
    }
}
