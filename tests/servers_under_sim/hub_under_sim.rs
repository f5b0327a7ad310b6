//! `examples/hub.rs` tells everybody everything, in one order, and a reader that does not read is
//! closed by its limit while nobody else misses a line.

use std::time::Duration;

use hotloop::Config;
use hotloop::sim::{Dialect, NodeOptions, Peer, World, for_seeds};

use crate::circumstances::{LIMIT, Place, below, one_in};
use crate::hub::{Hub, LINE_MAX_BYTES};

const HARD_LIMIT_BYTES: usize = 24_000;
/// So many lines are under way at most, so that nobody who reads comes near the limit.
const LINES_AHEAD: usize = 10;
/// More than the largest buffers and the limit hold of the shortest lines.
const LINES_MAX: usize = 8_000;

struct Member {
    peer: Peer,
    name: usize,
    is_deaf: bool,
    has_reset: bool,
    /// The hub has closed it, with what it had said and nobody had read; it may not know, as a
    /// reset that meets a partition is lost.
    is_closed: bool,
    /// Lines that it has said, in the order of saying: their serial numbers.
    said: Vec<usize>,
    /// Of the line that it is saying, what is not sent.
    rest: Vec<u8>,
}

struct Room {
    place: Place<Hub>,
    members: Vec<Member>,
    lines: usize,
}

impl Room {
    fn new(seed: u64) -> Room {
        let conn = Hub::options()
            .low_water_bytes(500)
            .high_water_bytes(2000)
            .hard_limit_bytes(HARD_LIMIT_BYTES);
        let mut place = Place::new(seed, Hub::default(), conn);
        // Nobody waits outside for a descriptor.
        let most = if place.is_scarce { 1 } else { 5 };
        let count = 2 + below(&mut place.world, most);
        let has_deaf = !place.is_scarce && !one_in(&mut place.world, 4);
        let member = |name| {
            let peer = place.connect();
            let is_deaf = has_deaf && name == 0;
            if is_deaf {
                place.world.stop_reading(peer);
            }
            let (said, rest) = (Vec::new(), Vec::new());
            Member { peer, name, is_deaf, has_reset: false, is_closed: false, said, rest }
        };
        let members = (0..count).map(member).collect();
        Room { place, members, lines: 0 }
    }

    /// Lets everybody in who gets in.
    fn open(&mut self) {
        let addrs: Vec<_> =
            self.members.iter().map(|member| self.place.world.state(member.peer).local).collect();
        let began = self.place.world.now();
        loop {
            self.place.world.run_for(Duration::from_millis(50));
            let net = self.place.world.net(self.place.server);
            let inside: Vec<_> = net.conns().filter_map(|conn| net.peer_addr(conn)).collect();
            let is_in = |(member, addr): (&Member, _)| {
                inside.contains(addr) || self.place.has_failed(member.peer)
            };
            if self.members.iter().zip(&addrs).all(is_in) {
                return;
            }
            assert!(self.place.world.now().since(began) < LIMIT, "somebody waits outside");
        }
    }

    fn live(&self) -> impl Iterator<Item = &Member> {
        let has_ended = |member: &&Member| {
            member.has_reset || member.is_closed || self.place.has_failed(member.peer)
        };
        self.members.iter().filter(move |member| !has_ended(member))
    }

    /// Whether the hub has closed the deaf member; it may not know.
    fn is_deaf_gone(&mut self) -> bool {
        let Some(deaf) = self.members.iter().find(|member| member.is_deaf) else { return true };
        let addr = self.place.world.state(deaf.peer).local;
        let net = self.place.world.net(self.place.server);
        net.conns().all(|conn| net.peer_addr(conn) != Some(addr))
    }

    /// Lets somebody say a piece of a line; what is cut off comes next time.
    fn step(&mut self) {
        let next = below(&mut self.place.world, self.members.len());
        let is_behind = self.backlog() >= LINES_AHEAD;
        let lives = self.live().any(|member| member.name == next);
        let member = &mut self.members[next];
        if !lives || (is_behind && member.rest.is_empty()) {
            return;
        }
        if !self.place.is_cut && one_in(&mut self.place.world, 2000) {
            self.place.world.reset(member.peer);
            member.has_reset = true;
            return;
        }
        if member.rest.is_empty() {
            let most = if self.place.is_narrow { 40 } else { 1000 };
            let padding = "-".repeat(below(&mut self.place.world, most));
            member.rest = format!("{next} {} {padding}\n", self.lines).into_bytes();
            member.said.push(self.lines);
            self.lines += 1;
        }
        let bytes = 1 + below(&mut self.place.world, member.rest.len());
        let piece: Vec<u8> = member.rest.drain(..bytes).collect();
        self.place.world.send(member.peer, &piece);
    }

    /// How many lines the slowest reader has yet to see, of those said by who is still there.
    fn backlog(&self) -> usize {
        let readers = self.live().filter(|member| !member.is_deaf);
        readers.map(|reader| self.expected(reader) - self.seen_of_live(reader)).max().unwrap_or(0)
    }

    fn expected(&self, reader: &Member) -> usize {
        let others = self.live().filter(|member| member.name != reader.name);
        others.map(|member| member.said.len()).sum()
    }

    fn seen_of_live(&self, reader: &Member) -> usize {
        let seen = self.seen(reader);
        self.live().map(|member| seen.iter().filter(|(name, _)| *name == member.name).count()).sum()
    }

    /// The speaker and the serial number of each whole line that a member has read.
    fn seen(&self, reader: &Member) -> Vec<(usize, usize)> {
        self.place.world.with_received(reader.peer, |text| {
            let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            let text = std::str::from_utf8(&text[..whole]).expect("lines of text");
            text.lines().map(parsed).collect()
        })
    }

    /// Checks that every reader has a beginning of what each other has said, in order, that those
    /// who are still there have all of it, and that all have the same order.
    fn check(&mut self) {
        let is_deaf_gone = self.is_deaf_gone();
        assert!(is_deaf_gone, "{} lines, and who reads none is still there", self.lines);
        let seen: Vec<Vec<(usize, usize)>> =
            self.members.iter().map(|member| self.seen(member)).collect();
        for reader in &self.members {
            for speaker in &self.members {
                let got = of(&seen[reader.name], |name| name == speaker.name);
                let said = if speaker.name == reader.name { &[][..] } else { &speaker.said[..] };
                assert!(said.starts_with(&got), "{} heard {}: {got:?}", reader.name, speaker.name);
            }
            self.check_order(reader, &seen);
        }
        for reader in self.live().filter(|member| !member.is_deaf) {
            assert_eq!(self.seen_of_live(reader), self.expected(reader), "{}", reader.name);
        }
    }

    /// Checks that two have heard the same of all others, or one of them less.
    fn check_order(&self, reader: &Member, seen: &[Vec<(usize, usize)>]) {
        for other in &self.members {
            let third = |name| name != reader.name && name != other.name;
            let (a, b) = (of(&seen[reader.name], third), of(&seen[other.name], third));
            let is_same = a.starts_with(&b) || b.starts_with(&a);
            assert!(is_same, "{} and {} heard different orders", reader.name, other.name);
        }
    }
}

#[test]
fn hub_tells_everybody_everything_in_one_order_and_closes_who_does_not_read() {
    for_seeds(40, |seed| {
        run(seed);
    });
}

#[test]
fn what_hub_goes_through_has_readers_in_it_that_do_not_read() {
    let deaf = (0..20).filter(|seed| run(*seed)).count();
    assert!(deaf >= 3, "{deaf} of 20 runs had one, with somebody to tell");
}

#[test]
fn too_long_a_line_ends_its_speaker_and_nobody_hears_of_it() {
    for_seeds(20, |seed| {
        let mut place = Place::new(seed, Hub::default(), Hub::options());
        let (listener, speaker) = (place.connect(), place.connect());
        place.calm();
        place.world.run_for(Duration::from_secs(30));
        let mut text = b"short\n".to_vec();
        text.extend(std::iter::repeat_n(b'x', LINE_MAX_BYTES + 1));
        text.extend(b"\nbehind it\n");
        place.world.send(speaker, &text);
        place.run_until("the end of the speaker", |place| place.has_ended(speaker));
        place.world.run_for(Duration::from_secs(30));
        let heard = place.world.received(listener);
        let all = &b"short\n"[..];
        let is_excused = place.has_failed(listener) || place.is_cut(speaker);
        assert!(heard == all || (is_excused && heard.is_empty()), "{}", heard.escape_ascii());
        place.world.finish(listener);
        place.world.finish(speaker);
        place.assert_all_gone();
    });
}

/// None of the queues comes near its own limit, so that nobody but the hub can say who has to go.
#[test]
fn who_misses_a_line_for_want_of_the_loops_buffers_hears_nothing_behind_it() {
    for_seeds(10, |seed| {
        let mut world = World::new(seed);
        let dialect = if seed % 2 == 0 { Dialect::Readiness } else { Dialect::Completion };
        let config = Config::default()
            .recv_buffer_bytes(LINE_MAX_BYTES)
            .global_buffer_bytes(128 << 10)
            .conn(Hub::options());
        let options = NodeOptions::default().dialect(dialect).config(config);
        let hub = world.node("hub", options, Hub::default());
        let addr = world.addr(hub, 9003);
        world.net(hub).listen(addr).expect("the port is free");
        let host = world.host("members");
        let members: Vec<Peer> = (0..8).map(|_| world.connect(host, addr)).collect();
        world.run_for(Duration::from_secs(1));
        for deaf in members.iter().skip(1).step_by(2) {
            world.stop_reading(*deaf);
        }
        let line = |number| format!("{number:05} {}\n", "-".repeat(1000));
        let said: Vec<String> = (0..1500).map(line).collect();
        for lines in said.chunks(20) {
            world.send(members[0], lines.concat().as_bytes());
            world.run_for(Duration::from_millis(10 + seed % 5));
        }
        assert!(world.net(hub).stats().refused_writes > 0, "there was room for all");
        members.iter().for_each(|member| world.start_reading(*member));
        world.run_for(Duration::from_secs(60));
        let all = said.concat();
        for member in &members[1..] {
            let heard = world.received(*member);
            assert!(all.as_bytes().starts_with(&heard), "member {member:?} has missed a line");
            let has_all = heard.len() == all.len();
            assert!(has_all || world.state(*member).is_reset, "member {member:?} lacks the end");
        }
    });
}

/// Returns whether somebody did not read and was closed for it.
fn run(seed: u64) -> bool {
    let mut room = Room::new(seed);
    room.open();
    let lines_wanted = 20 + below(&mut room.place.world, 60);
    while room.live().count() > 1
        && (room.lines < lines_wanted || (room.lines < LINES_MAX && !room.is_deaf_gone()))
    {
        room.step();
        room.place.pass_time();
    }
    room.place.calm();
    let is_deaf_gone = room.is_deaf_gone();
    for member in &mut room.members {
        member.is_closed = member.is_deaf && is_deaf_gone;
    }
    for member in room.members.iter_mut().filter(|member| !member.rest.is_empty()) {
        let rest = std::mem::take(&mut member.rest);
        room.place.world.send(member.peer, &rest);
    }
    let began = room.place.world.now();
    while room.backlog() > 0 {
        room.place.world.run_for(Duration::from_millis(100));
        assert!(room.place.world.now().since(began) < LIMIT, "some lines do not arrive");
    }
    let has_deaf = room.members.iter().any(|member| member.is_deaf) && room.live().count() > 1;
    if room.live().count() > 1 {
        room.check();
    }
    for member in &room.members {
        room.place.world.start_reading(member.peer);
        room.place.world.finish(member.peer);
    }
    room.place.assert_all_gone();
    has_deaf
}

/// The serial numbers of the lines of some speakers, in the order of hearing.
fn of(seen: &[(usize, usize)], who: impl Fn(usize) -> bool) -> Vec<usize> {
    seen.iter().filter(|(name, _)| who(*name)).map(|(_, line)| *line).collect()
}

fn parsed(line: &str) -> (usize, usize) {
    let mut words = line.split(' ');
    let mut number = || words.next().and_then(|word| word.parse().ok()).expect("a number");
    (number(), number())
}
