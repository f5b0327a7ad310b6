//! `examples/echo.rs` sends back every byte, whatever happens to others.

use std::ops::Range;
use std::time::Duration;

use hotloop::ConnOptions;
use hotloop::sim::{Dialect, Faults, Link, NodeOptions, Peer, Script, World, for_seeds};

use crate::circumstances::{LIMIT, Place, RECV_BUFFER_BYTES, below, one_in};
use crate::echo::Echo;

const HIGH_WATER_BYTES: usize = 2000;

struct Client {
    peer: Peer,
    serial: u64,
    planned_bytes: usize,
    sent_bytes: usize,
    /// It does not read until the others are done.
    is_deaf: bool,
    is_done: bool,
    has_reset: bool,
}

impl Client {
    fn new(place: &mut Place<Echo>, serial: u64) -> Client {
        let peer = place.connect();
        let most = if place.is_narrow { 2000 } else { 60_000 };
        let planned_bytes = below(&mut place.world, most) + 1;
        let is_deaf = !place.is_scarce && one_in(&mut place.world, 4);
        if is_deaf {
            place.world.stop_reading(peer);
        }
        Client {
            peer,
            serial,
            planned_bytes,
            sent_bytes: 0,
            is_deaf,
            is_done: false,
            has_reset: false,
        }
    }

    /// Sends the next piece, and the FIN behind the last one; rarely gives up instead.
    fn go_on(&mut self, place: &mut Place<Echo>) {
        if self.is_done {
            return;
        }
        if one_in(&mut place.world, 200) {
            place.world.reset(self.peer);
            (self.has_reset, self.is_done) = (true, true);
            return;
        }
        let bytes = below(&mut place.world, self.planned_bytes / 3 + 1) + 1;
        let end = self.planned_bytes.min(self.sent_bytes + bytes);
        place.world.send(self.peer, &pattern(self.serial, self.sent_bytes..end));
        self.sent_bytes = end;
        self.is_done = end == self.planned_bytes || place.has_ended(self.peer);
        if self.is_done {
            place.world.finish(self.peer);
        }
    }

    fn has_ended(&self, place: &Place<Echo>) -> bool {
        self.has_reset || place.has_ended(self.peer)
    }

    fn check(&self, place: &Place<Echo>) {
        let got = place.world.received(self.peer);
        let expected = pattern(self.serial, 0..self.planned_bytes);
        assert!(expected.starts_with(&got), "client {}: wrong bytes came back", self.serial);
        // What a closed connection has left for a deaf client, its kernel gives up in a minute.
        let is_given_up = self.is_deaf && place.has_failed(self.peer);
        let is_excused = self.has_reset || is_given_up || place.is_cut(self.peer);
        let (got, planned) = (got.len(), self.planned_bytes);
        assert!(is_excused || got == planned, "client {}: {got} of {planned}", self.serial);
    }
}

#[test]
fn echo_sends_back_every_byte_to_every_client_and_a_deaf_one_hurts_no_other() {
    for_seeds(40, |seed| {
        let conn = ConnOptions::default().high_water_bytes(HIGH_WATER_BYTES).low_water_bytes(500);
        let mut place = Place::new(seed, Echo, conn);
        let count = below(&mut place.world, 6) + 2;
        let mut clients: Vec<Client> =
            (0..count).map(|serial| Client::new(&mut place, serial as u64)).collect();
        while clients.iter().any(|client| !client.is_done) {
            let next = below(&mut place.world, count);
            clients[next].go_on(&mut place);
            place.pass_time();
            assert_queues_are_bounded(&mut place);
        }
        place.calm();
        await_ends(&mut place, &clients, |client| !client.is_deaf);
        await_ends(&mut place, &clients, |_| true);
        clients.iter().for_each(|client| client.check(&place));
        place.assert_all_gone();
    });
}

#[test]
fn a_client_that_has_sent_its_fin_gets_the_rest_of_its_echo() {
    for_seeds(40, |seed| {
        let mut world = World::new(seed);
        let link = if one_in(&mut world, 2) { Link::wifi() } else { Link::mobile() };
        world.default_link(link);
        let dialects = [Dialect::Readiness, Dialect::Completion];
        let dialect = dialects[below(&mut world, 2)];
        let options = NodeOptions::default().dialect(dialect).faults(Faults::mild());
        let server = world.node("server", options, Echo);
        let addr = world.addr(server, 9000);
        world.net(server).listen(addr).expect("the port is free");
        let client = world.host("client");
        let bytes = pattern(seed, 0..60_000);
        let script = Script::new().stop_reading().send(bytes.clone()).finish();
        let late = script.wait(Duration::from_secs(5)).start_reading().expect(bytes).expect_end();
        let peer = world.play(client, addr, late);
        world.run_until("the echo", LIMIT, |world| world.state(peer).is_done);
        world.run_until_idle(LIMIT);
        assert_eq!(world.open_sockets(server), 1, "the listener alone is left");
    });
}

/// Runs until the clients that `who` chooses have read all there is; the others stay as they are.
fn await_ends(place: &mut Place<Echo>, clients: &[Client], who: impl Fn(&Client) -> bool) {
    let chosen: Vec<&Client> = clients.iter().filter(|client| who(client)).collect();
    for client in chosen.iter().filter(|client| client.is_deaf && !client.has_reset) {
        place.world.start_reading(client.peer);
    }
    place.run_until("the end of the echo", |place| {
        chosen.iter().all(|client| client.has_ended(place))
    });
}

/// Checks what pausing under pressure promises: a connection queues no more than the mark and
/// what one read may add.
fn assert_queues_are_bounded(place: &mut Place<Echo>) {
    let net = place.world.net(place.server);
    let conns: Vec<_> = net.conns().collect();
    for conn in conns {
        let queued_bytes = net.queued_bytes(conn);
        assert!(queued_bytes <= HIGH_WATER_BYTES + RECV_BUFFER_BYTES, "{conn}: {queued_bytes}");
    }
}

/// The bytes of a client at these offsets; no other client has the same.
fn pattern(serial: u64, offsets: Range<usize>) -> Vec<u8> {
    let start = serial.wrapping_mul(0x9E37_79B9);
    let mixed = |offset| start.wrapping_add(offset as u64).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    offsets.map(|offset| mixed(offset).to_le_bytes()[5]).collect()
}
