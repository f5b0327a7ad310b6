//! Clients of the key-value server: each has its pipeline of commands, made beforehand, and sends
//! it in pieces that end anywhere.

use hotloop::Handler;
use hotloop::sim::{Peer, World};

use crate::circumstances::{Place, below, one_in};
use crate::kv_model::{Command, Compared, Model, Reply, Word, compare};

/// So many keys of its own a client uses: few, so that commands meet.
const KEYS: usize = 6;

pub(crate) struct Client {
    pub(crate) peer: Peer,
    name: usize,
    pipeline: Vec<u8>,
    sent_bytes: usize,
    expected: Vec<Reply>,
    pub(crate) is_done: bool,
    has_reset: bool,
}

impl Client {
    pub(crate) fn new<H: Handler + 'static>(place: &mut Place<H>, name: usize) -> Client {
        let commands = commands(&mut place.world, name, place.is_narrow);
        let mut model = Model::default();
        let expected = commands.iter().map(|command| model.run(command)).collect();
        let pipeline = commands.iter().flat_map(|command| {
            let as_line = one_in(&mut place.world, 3);
            command.encoded(as_line)
        });
        let pipeline = pipeline.collect();
        let peer = place.connect();
        Client { peer, name, pipeline, sent_bytes: 0, expected, is_done: false, has_reset: false }
    }

    /// How many counts of the shared counter this client asks for.
    pub(crate) fn counts_wanted(&self) -> usize {
        self.expected.iter().filter(|reply| **reply == Reply::Count).count()
    }

    /// Does the next thing: mostly sends a piece, at last the FIN.
    pub(crate) fn go_on<H: Handler + 'static>(&mut self, place: &mut Place<H>) {
        if self.is_done {
            return;
        }
        match below(&mut place.world, 150) {
            0 => self.reset(place),
            1..20 => place.world.stop_reading(self.peer),
            20..50 => place.world.start_reading(self.peer),
            _ => self.send_piece(place),
        }
    }

    fn reset<H: Handler + 'static>(&mut self, place: &mut Place<H>) {
        place.world.reset(self.peer);
        (self.has_reset, self.is_done) = (true, true);
    }

    fn send_piece<H: Handler + 'static>(&mut self, place: &mut Place<H>) {
        let left = self.pipeline.len() - self.sent_bytes;
        // Half of the pieces are shorter than most commands, the others are pipelines.
        let most = if one_in(&mut place.world, 2) { 20 } else { left };
        let bytes = left.min(1 + below(&mut place.world, most.max(1)));
        let end = self.sent_bytes + bytes;
        place.world.send(self.peer, &self.pipeline[self.sent_bytes..end]);
        self.sent_bytes = end;
        self.is_done = end == self.pipeline.len() || place.has_ended(self.peer);
        if self.is_done {
            place.world.start_reading(self.peer);
            place.world.finish(self.peer);
        }
    }

    pub(crate) fn has_ended<H: Handler + 'static>(&self, place: &Place<H>) -> bool {
        self.has_reset || place.has_ended(self.peer)
    }

    /// Checks every reply, and that none is missing unless something has cut the connection.
    pub(crate) fn check<H: Handler + 'static>(&self, place: &Place<H>) -> Compared {
        let compared = compare(&place.world.received(self.peer), &self.expected);
        let is_excused = self.has_reset || place.is_cut(self.peer);
        let (name, missing) = (self.name, compared.missing);
        assert!(is_excused || missing == 0, "client {name}: {missing} replies are missing");
        compared
    }
}

fn commands(world: &mut World, name: usize, is_narrow: bool) -> Vec<Command> {
    let count = 1 + below(world, 60);
    let mut commands: Vec<Command> = (0..count).map(|_| command(world, name, is_narrow)).collect();
    match below(world, 6) {
        0 => commands.push(Command::Quit),
        1 => commands.push(Command::Malformed),
        _ => {}
    }
    commands
}

fn command(world: &mut World, name: usize, is_narrow: bool) -> Command {
    match below(world, 24) {
        0..4 => Command::Set(key(world, name), value(world, is_narrow)),
        4..7 => Command::Get(key(world, name)),
        7 => Command::SetMany(pairs(world, name, is_narrow)),
        8..12 => Command::GetMany(keys(world, name)),
        12 => Command::Delete(keys(world, name)),
        13 => Command::Exists(keys(world, name)),
        14..16 => Command::Increment(key(world, name)),
        16..19 => Command::IncrementShared,
        19 => Command::Ping,
        20 => Command::Echo(value(world, is_narrow)),
        21 => Command::Nothing,
        22 => Command::Unknown,
        _ => Command::TooFewWords,
    }
}

fn key(world: &mut World, name: usize) -> Word {
    format!("client{name}:{}", below(world, KEYS)).into_bytes()
}

fn keys(world: &mut World, name: usize) -> Vec<Word> {
    (0..1 + below(world, 5)).map(|_| key(world, name)).collect()
}

fn pairs(world: &mut World, name: usize, is_narrow: bool) -> Vec<(Word, Word)> {
    let count = 1 + below(world, 4);
    (0..count).map(|_| (key(world, name), value(world, is_narrow))).collect()
}

/// A number, a word, or any bytes at all, among them those that end lines; some of them many.
fn value(world: &mut World, is_narrow: bool) -> Word {
    let bytes = match below(world, 8) {
        0 if !is_narrow => below(world, 40_000),
        _ => below(world, 40),
    };
    match below(world, 3) {
        0 => below(world, 1000).to_string().into_bytes(),
        1 => (0..bytes).map(|at| b"abcdefghij"[at % 10]).collect(),
        _ => {
            let noise = world.random();
            (0..bytes).map(|at| noise.to_le_bytes()[at % 8] ^ b"\r\n$*"[at % 4]).collect()
        }
    }
}
