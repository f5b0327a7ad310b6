//! Everything at once: the input plays the kernel, the peers and the handler. Around the handler
//! `Checked` asserts the contract; here every byte is known by its place.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use hotloop::{Bytes, Config, ConnId, ConnOptions, Net};

use super::choices::Choices;
use crate::support::{Kind, Peer, Rig, errno};

const OPS_MAX: usize = 250;
const CONNS_MAX: usize = 5;

/// One connection of the story, whatever its id is at the moment.
#[derive(Default)]
struct Stream {
    /// How much of what the peer has sent was consumed.
    consumed: usize,
    /// All that was accepted for the peer.
    wrote: usize,
    is_open: bool,
}

#[derive(Default)]
struct Cast {
    numbers: BTreeMap<ConnId, usize>,
    streams: Vec<Stream>,
    /// What the handler does next, two bytes each; nothing when there are none left.
    acts: Vec<u8>,
}

fn byte_at(number: usize, place: usize) -> u8 {
    ((number + 1) * 41 + place * 29 % 251) as u8
}

fn bytes_at(number: usize, place: usize, len: usize) -> Vec<u8> {
    (place..place + len).map(|at| byte_at(number, at)).collect()
}

impl Cast {
    fn met(&mut self, id: ConnId) -> usize {
        let number = self.streams.len();
        self.numbers.insert(id, number);
        self.streams.push(Stream { is_open: true, ..Stream::default() });
        number
    }

    fn act(&mut self, net: &mut Net, id: ConnId) {
        let (Some(what), Some(how)) = (self.acts.pop(), self.acts.pop()) else { return };
        let Some(number) = self.numbers.get(&id).copied() else { return };
        operate(net, id, number, &mut self.streams[number], what, how);
    }

    /// Does something to a connection that the callback is not about.
    fn act_elsewhere(&mut self, net: &mut Net) {
        let Some(which) = self.acts.pop() else { return };
        let ids: Vec<ConnId> = self.numbers.keys().copied().collect();
        if !ids.is_empty() {
            self.act(net, ids[usize::from(which) % ids.len()]);
        }
    }

    fn data(&mut self, net: &mut Net, id: ConnId, data: &[u8]) -> usize {
        let number = self.numbers[&id];
        let stream = &mut self.streams[number];
        let from = stream.consumed;
        let right = data.iter().enumerate().all(|(at, byte)| *byte == byte_at(number, from + at));
        assert!(right, "C7: {id} is shown something else than follows {from}");
        let part = self.acts.pop().unwrap_or(0xff);
        let take = if part < 200 { data.len() } else { usize::from(part) * 7 % (data.len() + 1) };
        self.streams[number].consumed += take;
        self.act(net, id);
        take
    }
}

/// Does one thing to a connection.
fn operate(net: &mut Net, id: ConnId, number: usize, stream: &mut Stream, what: u8, how: u8) {
    let len = usize::from(how) * usize::from(how) / 5;
    let data = bytes_at(number, stream.wrote, len);
    let sent = match what % 16 {
        0 | 1 => net.write(id, &data),
        2 => net.write_shared(id, Bytes::from(data)),
        3 => net.write_vectored(id, &data.chunks(1 + usize::from(how)).collect::<Vec<_>>()),
        _ => return operate_otherwise(net, id, what % 16, how),
    };
    if sent.is_taken() {
        stream.wrote += len;
    }
}

fn operate_otherwise(net: &mut Net, id: ConnId, what: u8, how: u8) {
    let time = Duration::from_millis(u64::from(how));
    match what {
        4 => _ = net.flush(id),
        5 => _ = net.pause_reading(id),
        6 | 7 => _ = net.resume_reading(id),
        8 if how % 2 == 0 => _ = net.start_conn_timer(id, time, id.to_bits()),
        8 => _ = net.start_timer(time, 0),
        9 => _ = net.set_idle_timeout(id, time + Duration::from_millis(1)),
        10 => net.shutdown(id),
        11 if how > 128 => net.close(id),
        12 if how > 200 => net.abort(id),
        13 => _ = net.release(id),
        14 => net.again(),
        15 if how > 200 => net.stop(),
        _ => {}
    }
}

struct Story {
    rig: Rig,
    cast: Rc<RefCell<Cast>>,
    /// The other end of each connection.
    peers: Vec<OtherEnd>,
}

struct OtherEnd {
    /// A connect that nobody answers has none.
    peer: Option<Peer>,
    /// How much it has sent.
    sent: usize,
    /// It says no more.
    is_over: bool,
}

/// Plays the input.
///
/// # Panics
///
/// If the contract is broken.
pub fn check(input: &[u8]) {
    let mut choices = Choices::new(input);
    let kind = if choices.is() { Kind::ScriptCompletion } else { Kind::ScriptReadiness };
    let options = ConnOptions::default()
        .high_water_bytes(4 << 10)
        .low_water_bytes(1 << 10)
        .hard_limit_bytes(16 << 10)
        .inbound_max_bytes(1 + choices.below(4000))
        .linger_timeout(Duration::from_millis(50))
        .write_stall_timeout(Duration::from_millis(500));
    let config = Config::default()
        .read_budget_bytes(64 + choices.below(8000))
        .global_buffer_bytes(8192 + choices.below(60_000))
        .max_connections(CONNS_MAX)
        .conn(options);
    let acts = choices.take(200).to_vec();
    let cast = Rc::new(RefCell::new(Cast { acts, ..Cast::default() }));
    let mut story = Story { rig: Rig::with(kind, config), cast, peers: Vec::new() };
    install(&mut story.rig, &story.cast);
    for _ in 0..OPS_MAX {
        if choices.is_over() {
            break;
        }
        story.step(&mut choices);
        story.check();
    }
    story.end();
}

/// Has the handler check, and do what the input says.
fn install(rig: &mut Rig, cast: &Rc<RefCell<Cast>>) {
    let own = || Rc::clone(cast);
    let handler = &mut rig.handler;
    let it = own();
    handler.on_accept = Some(Box::new(move |net, id| {
        it.borrow_mut().met(id);
        it.borrow_mut().act(net, id);
    }));
    let it = own();
    handler.on_connect = Some(Box::new(move |net, id| it.borrow_mut().act(net, id)));
    let it = own();
    handler.on_data = Some(Box::new(move |net, id, data| it.borrow_mut().data(net, id, data)));
    let it = own();
    handler.on_writable = Some(Box::new(move |net, id| it.borrow_mut().act(net, id)));
    let it = own();
    handler.on_read_closed = Some(Box::new(move |net, id, _| {
        it.borrow_mut().act(net, id);
        // It may go on writing, until something else ends it.
        if it.borrow_mut().acts.pop().is_none_or(|stays| stays < 128) {
            net.close(id);
        }
    }));
    let it = own();
    handler.on_timer = Some(Box::new(move |net, _, token| {
        let cast = &mut *it.borrow_mut();
        match ConnId::from_bits(token) {
            Some(id) => {
                assert!(net.is_open(id), "C15: {id} is closed, and its timer fires");
                cast.act(net, id);
            }
            None => cast.act_elsewhere(net),
        }
    }));
    let it = own();
    handler.on_release = Some(Box::new(move |net, id, detached| {
        let mut cast = it.borrow_mut();
        // Whom the loop does not take back is gone, with what was queued.
        if let Ok(new) = net.adopt(detached) {
            let number = cast.numbers[&id];
            cast.numbers.insert(new, number);
        }
    }));
    let it = own();
    handler.on_close = Some(Box::new(move |net, id, _| {
        let cast = &mut *it.borrow_mut();
        cast.act(net, id);
        cast.act_elsewhere(net);
        let number = cast.numbers.remove(&id).expect("it was met");
        cast.streams[number].is_open = cast.numbers.values().any(|other| *other == number);
        let stats = net.conn_stats(id).expect("getters work in on_close");
        assert_eq!(stats.queued_bytes, 0, "C8: nothing is queued behind an end");
    }));
}

impl Story {
    fn step(&mut self, choices: &mut Choices<'_>) {
        let (what, which) = (choices.byte() % 16, choices.below(CONNS_MAX.max(1)));
        match what {
            0 => self.meet(choices),
            1..=4 => _ = self.rig.turn(),
            5 => {
                self.rig.advance(choices.span(30));
                _ = self.rig.turn();
            }
            6 => self.rig.fail_accepts(&[errno::ECONNABORTED, errno::EMFILE][..=choices.below(2)]),
            7 => self.rig.inject(0x1234_5678_0000_0001 ^ u64::from(choices.byte())),
            8 | 9 => self.at_handler(which, choices),
            _ => self.at_peer(which, what, choices),
        }
    }

    fn meet(&mut self, choices: &mut Choices<'_>) {
        let met = self.cast.borrow().streams.len();
        // One after the other, so that it is known who is who.
        if self.peers.len() > met || self.rig.event_loop.net().stats().connections >= CONNS_MAX {
            return;
        }
        let peer = match choices.byte() % 4 {
            0 => self.connect_to_somebody(),
            1 => {
                let nobody = self.rig.refusing();
                let net = self.rig.event_loop.net();
                let id = net.connect(nobody).expect("there is room");
                self.cast.borrow_mut().met(id);
                None
            }
            _ => Some(self.rig.dial()),
        };
        self.peers.push(OtherEnd { peer, sent: 0, is_over: peer.is_none() });
    }

    fn connect_to_somebody(&mut self) -> Option<Peer> {
        let server = self.rig.server();
        let id = self.rig.event_loop.net().connect(server).expect("there is room");
        self.cast.borrow_mut().met(id);
        _ = self.rig.turn();
        self.rig.server_peer(server)
    }

    fn at_handler(&mut self, which: usize, choices: &mut Choices<'_>) {
        let cast = &mut *self.cast.borrow_mut();
        let found = cast.numbers.iter().nth(which).map(|(id, number)| (*id, *number));
        if let Some((id, number)) = found {
            let (what, how) = (choices.byte(), choices.byte());
            operate(self.rig.event_loop.net(), id, number, &mut cast.streams[number], what, how);
        }
    }

    fn at_peer(&mut self, which: usize, what: u8, choices: &mut Choices<'_>) {
        let met = self.cast.borrow().streams.len();
        let mut talking = self.peers[..met].iter_mut().enumerate().filter(|(_, end)| !end.is_over);
        let Some((number, OtherEnd { peer, sent, is_over })) = talking.nth(which) else { return };
        let Some(peer) = peer else { return };
        let (world, scripted) = (self.rig.world(), self.rig.scripted(*peer));
        match what {
            10 | 11 => {
                let len = 1 + choices.below(3000);
                world.send(scripted, &bytes_at(number, *sent, len));
                *sent += len;
            }
            12 => world.set_window(scripted, choices.below(9000)),
            13 => world.set_send_max(scripted, 1 + choices.below(3000)),
            14 => world.spurious(scripted),
            _ => match choices.byte() % 5 {
                0 => world.finish(scripted),
                1 => world.reset(scripted),
                2 => world.fail_send(scripted, errno::EPIPE),
                3 => world.fail_recv(scripted, errno::ECONNRESET),
                _ => return,
            },
        }
        *is_over = what == 15;
    }

    fn check(&mut self) {
        let cast = self.cast.borrow();
        for (number, OtherEnd { peer, sent, .. }) in self.peers.iter().enumerate() {
            let Some(stream) = cast.streams.get(number) else { continue };
            assert!(stream.consumed <= *sent, "more is consumed than was sent");
            let Some(peer) = peer else { continue };
            let received = self.rig.received(*peer);
            assert!(received.len() <= stream.wrote, "more has arrived than was written");
            assert!(received == bytes_at(number, 0, received.len()), "C7: at peer {number}");
        }
        let stats = self.rig.event_loop.net().stats();
        let accounted = stats.sent_bytes + stats.queued_bytes + stats.dropped_bytes;
        assert_eq!(stats.accepted_bytes, accounted, "C8");
    }

    /// Nothing is left of it.
    fn end(&mut self) {
        self.cast.borrow_mut().acts.clear();
        let ids: Vec<ConnId> = self.cast.borrow().numbers.keys().copied().collect();
        for id in ids {
            self.rig.event_loop.net().abort(id);
        }
        self.rig.settle();
        let late: Vec<ConnId> = self.cast.borrow().numbers.keys().copied().collect();
        for id in late {
            self.rig.event_loop.net().abort(id);
        }
        self.rig.settle();
        self.check();
        let stats = self.rig.event_loop.net().stats();
        assert_eq!((stats.connections, stats.queued_bytes, stats.buffered_bytes), (0, 0, 0));
        assert_eq!(self.rig.open_sockets(), 1, "the listener");
        assert_eq!(self.rig.world().lent_buffers(), 0);
        assert!(self.cast.borrow().streams.iter().all(|stream| !stream.is_open), "C1: all ended");
    }
}
