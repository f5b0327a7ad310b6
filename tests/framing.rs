//! Framings in handlers: frames are whole however their bytes arrive, what is too long is not
//! kept, a handler may stop amid the data, and a frame is written whole or not at all.

mod support;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use hotloop::framing::{
    FixedSize, FrameError, Frames, Framing, LengthPrefix, LineScan, Lines, PayloadError,
};
use hotloop::sim::{Dialect, Fault, Faults, Link, NodeOptions, Script, World, for_seeds};
use hotloop::{
    Checked, CloseReason, Config, ConnId, ConnMap, ConnOptions, Handler, LimitKind, Net, Sent,
    SlowConsumer,
};
use support::{Call, Kind, Rig};

const OVERHEAD: usize = 128;

/// What a handler has been given.
type Got = Rc<RefCell<Vec<Vec<u8>>>>;

const PREFIXES: [LengthPrefix; 6] = [
    LengthPrefix::u8(200),
    LengthPrefix::u16_be(1000),
    LengthPrefix::u16_le(1000),
    LengthPrefix::u32_be(1000),
    LengthPrefix::u32_le(1000),
    LengthPrefix::varint(1000),
];

/// Serves all frames there are; aborts at an error, and returns it.
fn serve<F: Framing>(
    net: &mut Net,
    conn: ConnId,
    frames: &mut Frames<'_, F>,
    mut each: impl FnMut(&mut Net, &[u8]),
) -> Option<F::Error> {
    for frame in frames {
        match frame {
            Ok(frame) => each(net, frame),
            Err(error) => {
                net.abort(conn);
                return Some(error);
            }
        }
    }
    None
}

/// A handler that answers each frame with the same one.
fn echo_frames(rig: &mut Rig, framing: LengthPrefix) -> Rc<RefCell<Vec<FrameError>>> {
    let errors = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&errors);
    rig.handler.on_data = Some(Box::new(move |net, conn, data| {
        let mut frames = framing.frames(data);
        let error = serve(net, conn, &mut frames, |net, frame| {
            let sent = framing.write_frame(net, conn, frame).expect("as long as what came");
            assert!(sent.is_taken());
        });
        seen.borrow_mut().extend(error);
        frames.consumed()
    }));
    errors
}

fn kept_bytes(rig: &mut Rig, conn: ConnId) -> usize {
    rig.event_loop.net().conn_stats(conn).expect("it is open").kept_bytes
}

fn frames_that_are_dribbled_are_whole(kind: Kind) {
    for framing in PREFIXES {
        let mut rig = Rig::new(kind);
        let errors = echo_frames(&mut rig, framing);
        let (peer, conn) = rig.client();
        let mut sent = Vec::new();
        for len in [0, 1, 0, 130, 200, 3] {
            let payload: Vec<u8> = (0..=255).cycle().take(len).collect();
            sent.extend(framing.encode(&payload).expect("short enough"));
        }
        for byte in &sent {
            rig.send(peer, &[*byte]);
            rig.turn();
        }
        rig.until("the echo", |rig| rig.received(peer) == sent);
        assert_eq!((kept_bytes(&mut rig, conn), errors.borrow().len()), (0, 0), "{framing:?}");
    }
}

fn a_thousand_frames_of_one_delivery_are_served_in_order(kind: Kind) {
    let framing = LengthPrefix::u16_be(100);
    let mut rig = Rig::new(kind);
    echo_frames(&mut rig, framing);
    let (peer, conn) = rig.client();
    let frames = (0..1000_u32).map(|i| framing.encode(&i.to_le_bytes()).expect("4 bytes"));
    let sent = frames.collect::<Vec<_>>().concat();
    rig.send(peer, &sent);
    rig.until("the echo", |rig| rig.received(peer) == sent);
    assert_eq!(kept_bytes(&mut rig, conn), 0);
}

fn a_prefix_of_too_much_ends_the_connection_before_anything_is_kept(kind: Kind) {
    for framing in PREFIXES {
        let mut rig = Rig::new(kind);
        let errors = echo_frames(&mut rig, framing);
        let (peer, conn) = rig.client();
        let good = framing.encode(b"good").expect("short enough");
        rig.send(peer, &good);
        rig.until("the echo", |rig| rig.received(peer) == good);
        let max = framing.max_bytes();
        let [low, high, ..] = (max + 1).to_le_bytes();
        let prefix = match framing.prefix_of(max).expect("as much as is allowed").len() {
            1 => vec![low],
            2 if framing == LengthPrefix::u16_be(1000) => vec![high, low],
            2 if framing == LengthPrefix::u16_le(1000) => vec![low, high],
            4 if framing == LengthPrefix::u32_be(1000) => vec![0, 0, high, low],
            4 => vec![low, high, 0, 0],
            _ => vec![0xe9, 0x07],
        };
        rig.send(peer, &prefix);
        assert_eq!(rig.until_closed(conn), (CloseReason::LocalAbort, 0), "{framing:?}");
        rig.until("the reset", |rig| rig.is_reset(peer));
        assert_eq!(*errors.borrow(), [FrameError::TooLong { len: max as u64 + 1, max }]);
        assert_eq!(rig.event_loop.net().stats().discarded_bytes, prefix.len() as u64);
    }
}

/// A server of lines that writes down what it is told and remembers how far it has searched.
fn note_lines(rig: &mut Rig, lines: Lines) -> Got {
    let got = Got::default();
    let told = Rc::clone(&got);
    let mut scans: ConnMap<LineScan> = ConnMap::new();
    rig.handler.on_data = Some(Box::new(move |net, conn, data| {
        let scan = scans.get(conn).copied().unwrap_or_default();
        let mut frames = lines.frames_from(data, scan);
        let error = serve(net, conn, &mut frames, |_, line| told.borrow_mut().push(line.to_vec()));
        told.borrow_mut().extend(error.map(|error| error.to_string().into_bytes()));
        scans.insert(conn, frames.line_scan());
        frames.consumed()
    }));
    got
}

fn lines_that_are_dribbled_end_behind_lf_also_apart_from_its_cr(kind: Kind) {
    let mut rig = Rig::new(kind);
    let got = note_lines(&mut rig, Lines::new(10));
    let (peer, conn) = rig.client();
    for byte in b"one\r\n\n\r\n0123456789\r\na\rb\0\n\r\r\nlast" {
        rig.send(peer, &[*byte]);
        rig.turn();
    }
    rig.until("the last line", |rig| kept_bytes(rig, conn) == 4);
    assert_eq!(*got.borrow(), [&b"one"[..], b"", b"", b"0123456789", b"a\rb\0", b"\r"]);
    rig.finish(peer);
    assert_eq!(rig.until_closed(conn), (CloseReason::PeerClosed, 0));
    let rest = Call::ReadClosed(conn, b"last".to_vec());
    assert_eq!(rig.handler.count(|call| *call == rest), 1);
}

fn a_line_without_end_is_given_up_at_one_byte_too_many(kind: Kind) {
    for (allowed, too_much) in [(&b"0123456789"[..], &b"x"[..]), (b"0123456789\r", b"x")] {
        let mut rig = Rig::new(kind);
        let got = note_lines(&mut rig, Lines::new(10));
        let (peer, conn) = rig.client();
        rig.send(peer, allowed);
        rig.until("all that is allowed", |rig| kept_bytes(rig, conn) == allowed.len());
        assert!(rig.event_loop.net().is_open(conn));
        rig.send(peer, too_much);
        assert_eq!(rig.until_closed(conn), (CloseReason::LocalAbort, 0));
        assert_eq!(*got.borrow(), [b"a line of more than 10 bytes"]);
    }
}

/// A connection keeps all of a frame but its last byte.
fn the_longest_frame_fits_into_what_the_framing_needs(kind: Kind) {
    let framing = LengthPrefix::u32_be(50_000);
    let whole = framing.encode(&[7; 50_000]).expect("as long as is allowed");
    for (inbound_max_bytes, fits) in [(framing.needs_bytes(), true), (whole.len() - 2, false)] {
        let conn = ConnOptions::default().inbound_max_bytes(inbound_max_bytes);
        let config = Config::default().recv_buffer_bytes(4096).conn(conn);
        let mut rig = Rig::with(kind, config);
        echo_frames(&mut rig, framing);
        let (peer, conn) = rig.client();
        rig.send(peer, &whole[..whole.len() - 1]);
        rig.settle();
        rig.send(peer, &whole[whole.len() - 1..]);
        if fits {
            rig.until("the echo", |rig| rig.received(peer) == whole);
        } else {
            rig.finish(peer);
            let over = CloseReason::Limit(LimitKind::Inbound);
            assert_eq!(rig.until_closed(conn), (over, 0));
        }
    }
}

fn what_a_paused_handler_left_comes_again_after_the_resume(kind: Kind) {
    let framing = LengthPrefix::u8(10);
    let mut rig = Rig::new(kind);
    let got = Got::default();
    let told = Rc::clone(&got);
    rig.handler.on_data = Some(Box::new(move |net, conn, data| {
        let mut frames = framing.frames(data);
        for frame in &mut frames {
            told.borrow_mut().push(frame.expect("they are all good").to_vec());
            net.pause_reading(conn);
            if !net.is_reading(conn) {
                break;
            }
        }
        frames.consumed()
    }));
    let (peer, conn) = rig.client();
    rig.send(peer, b"\x03one\x03two\x00\x05thr");
    for served in 1..=3 {
        rig.until("the next frame", |_| got.borrow().len() == served);
        rig.settle();
        assert_eq!(got.borrow().len(), served, "one for each resume");
        rig.event_loop.net().resume_reading(conn);
    }
    rig.settle();
    assert_eq!(kept_bytes(&mut rig, conn), 4, "the part of a frame");
    rig.send(peer, b"ee");
    rig.until("the last", |_| got.borrow().len() == 4);
    assert_eq!(*got.borrow(), [&b"one"[..], b"two", b"", b"three"]);
}

fn a_frame_that_closes_the_connection_is_the_last(kind: Kind) {
    let framing = LengthPrefix::u8(10);
    let mut rig = Rig::new(kind);
    let got = Got::default();
    let told = Rc::clone(&got);
    rig.handler.on_data = Some(Box::new(move |net, conn, data| {
        let mut frames = framing.frames(data);
        for frame in &mut frames {
            let frame = frame.expect("they are all good");
            told.borrow_mut().push(frame.to_vec());
            if frame == b"bye" {
                net.close(conn);
            }
            if !net.is_reading(conn) {
                break;
            }
        }
        frames.consumed()
    }));
    let (peer, conn) = rig.client();
    rig.send(peer, b"\x02hi\x03bye\x03and");
    rig.until("the close", |rig| !rig.event_loop.net().is_open(conn));
    rig.finish(peer);
    assert_eq!(rig.until_closed(conn), (CloseReason::LocalClose, 0));
    assert_eq!(*got.borrow(), [&b"hi"[..], b"bye"]);
    assert_eq!(rig.event_loop.net().stats().discarded_bytes, 4);
}

/// Each frame is answered by one ten times as long, for a peer that does not read at first.
fn a_frame_whose_answer_is_refused_is_put_back_and_served_later(kind: Kind) {
    const FRAMES: usize = 30;
    let framing = LengthPrefix::u16_be(2000);
    let conn = ConnOptions::default().low_water_bytes(500).high_water_bytes(3000);
    let conn = conn.hard_limit_bytes(3000).slow_consumer(SlowConsumer::Refuse);
    let mut rig = Rig::with(kind, Config::default().conn(conn));
    let refusals = Rc::new(RefCell::new(0));
    let refused = Rc::clone(&refusals);
    rig.handler.on_data = Some(Box::new(move |net, conn, data| {
        let mut frames = framing.frames(data);
        while let Some(frame) = frames.next() {
            let answer = frame.expect("they are all good").repeat(10);
            if framing.write_frame(net, conn, &answer) == Ok(Sent::Refused) {
                *refused.borrow_mut() += 1;
                assert!(frames.put_back());
                net.pause_reading(conn);
                break;
            }
        }
        frames.consumed()
    }));
    rig.handler.on_writable = Some(Box::new(|net, conn| assert!(net.resume_reading(conn))));
    let (peer, _) = rig.client();
    let payload = |i: usize| vec![u8::try_from(i).expect("few"); 100];
    let frames = (0..FRAMES).map(|i| framing.encode(&payload(i)).expect("short enough"));
    rig.send(peer, &frames.collect::<Vec<_>>().concat());
    let answers = (0..FRAMES).map(|i| framing.encode(&payload(i).repeat(10)).expect("2000"));
    let expected = answers.collect::<Vec<_>>().concat();
    rig.until("every answer once", |rig| rig.received(peer) == expected);
    assert!(*refusals.borrow() > 0, "nothing was refused");
}

/// The prefix alone would fit.
fn a_frame_is_written_whole_or_not_at_all(kind: Kind) {
    const HARD: usize = 1000;
    let conn = ConnOptions::default().low_water_bytes(500).high_water_bytes(HARD);
    let conn = conn.hard_limit_bytes(HARD).slow_consumer(SlowConsumer::Refuse);
    let mut rig = Rig::with(kind, Config::default().conn(conn));
    let (peer, conn) = rig.client();
    let (lines, fixed) = (Lines::new(HARD).crlf(), FixedSize::new(HARD));
    for framing in PREFIXES {
        let net = rig.event_loop.net();
        let prefix_bytes = framing.prefix_of(150).expect("short enough").len();
        assert_eq!(net.write(conn, &[b'-'; HARD - OVERHEAD - 150]), Sent::Queued);
        let before = (net.queued_bytes(conn), net.queued_cost(conn));
        assert_eq!(framing.write_frame(net, conn, &[1; 150]), Ok(Sent::Refused));
        assert_eq!(framing.write_frame_of(net, conn, &[&[1; 50], &[2; 100]]), Ok(Sent::Refused));
        assert_eq!(lines.write_frame(net, conn, &[1; 149]), Ok(Sent::Refused));
        assert_eq!(fixed.write_frame(net, conn, &[1; HARD]), Ok(Sent::Refused));
        assert_eq!((net.queued_bytes(conn), net.queued_cost(conn)), before);
        let body = vec![3; 150 - prefix_bytes];
        let (left, right) = body.split_at(20);
        assert_eq!(framing.write_frame_of(net, conn, &[left, right]), Ok(Sent::Queued));
        let whole = framing.encode(&body).expect("short enough");
        rig.until("the frame", |rig| rig.received(peer).ends_with(&whole));
        rig.until("an empty queue", |rig| rig.event_loop.net().queued_cost(conn) == 0);
    }
}

fn what_cannot_be_a_frame_is_not_written(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (peer, conn) = rig.client();
    let net = rig.event_loop.net();
    let prefixed = LengthPrefix::u8(4);
    let too_long = PayloadError::TooLong { len: 5, max: 4 };
    assert_eq!(prefixed.write_frame(net, conn, b"fives"), Err(too_long));
    assert_eq!(prefixed.write_frame_of(net, conn, &[b"fi", b"ves"]), Err(too_long));
    let (lf, crlf) = (Lines::new(4), Lines::new(4).crlf());
    assert_eq!(lf.write_frame(net, conn, b"fives"), Err(too_long));
    for line in [&b"\n"[..], b"a\nb", b"a\r\nb"] {
        assert_eq!(lf.write_frame(net, conn, line), Err(PayloadError::HoldsLineEnd));
        assert_eq!(crlf.write_frame(net, conn, line), Err(PayloadError::HoldsLineEnd));
    }
    assert_eq!(lf.write_frame(net, conn, b"a\r"), Err(PayloadError::HoldsLineEnd));
    let wrong = PayloadError::WrongSize { len: 3, size: 4 };
    assert_eq!(FixedSize::new(4).write_frame(net, conn, b"odd"), Err(wrong));
    assert_eq!(net.queued_bytes(conn), 0);
    assert_eq!(prefixed.write_frame(net, conn, b"four"), Ok(Sent::Queued));
    assert_eq!(lf.write_frame(net, conn, b"\rab"), Ok(Sent::Queued));
    assert_eq!(crlf.write_frame(net, conn, b"a\r"), Ok(Sent::Queued));
    assert_eq!(FixedSize::new(4).write_frame(net, conn, b"even"), Ok(Sent::Queued));
    rig.until("the frames", |rig| rig.received(peer) == b"\x04four\rab\na\r\r\neven");
}

on_every_backend!(
    frames_that_are_dribbled_are_whole,
    a_thousand_frames_of_one_delivery_are_served_in_order,
    a_prefix_of_too_much_ends_the_connection_before_anything_is_kept,
    lines_that_are_dribbled_end_behind_lf_also_apart_from_its_cr,
    a_line_without_end_is_given_up_at_one_byte_too_many,
    the_longest_frame_fits_into_what_the_framing_needs,
    what_a_paused_handler_left_comes_again_after_the_resume,
    a_frame_that_closes_the_connection_is_the_last,
    a_frame_whose_answer_is_refused_is_put_back_and_served_later,
    a_frame_is_written_whole_or_not_at_all,
    what_cannot_be_a_frame_is_not_written,
);

/// Echoes frames, pausing whenever there is pressure.
struct Echo(LengthPrefix);

impl Handler for Echo {
    fn on_data(&mut self, net: &mut Net, conn: ConnId, data: &[u8]) -> usize {
        let mut frames = self.0.frames(data);
        for frame in &mut frames {
            let frame = frame.expect("they are all good");
            match self.0.write_frame(net, conn, frame).expect("as long as what came") {
                Sent::Queued => {}
                Sent::Pressured => assert!(net.pause_reading(conn)),
                sent => panic!("{sent:?}, though it stops when there is pressure"),
            }
            if !net.is_reading(conn) {
                break;
            }
        }
        frames.consumed()
    }

    fn on_writable(&mut self, net: &mut Net, conn: ConnId) {
        net.resume_reading(conn);
    }
}

/// Reads, sends and events of every size and order that a correct kernel can come up with.
#[test]
fn frames_come_back_whole_under_short_reads_and_writes() {
    for_seeds(60, |seed| {
        let framing = PREFIXES[usize::try_from(seed % 6).expect("below 6")];
        let mut world = World::new(seed);
        world.default_link(if seed % 2 == 0 { Link::lan() } else { Link::wifi() });
        let dialect = [Dialect::Readiness, Dialect::Completion];
        let faults = Faults::mild().of(Fault::ShortRead, 0.5).of(Fault::ShortWrite, 0.3);
        let conn = ConnOptions::default().low_water_bytes(200).high_water_bytes(2000);
        let options = NodeOptions::default()
            .config(Config::default().conn(conn))
            .dialect(dialect[usize::try_from(seed / 6 % 2).expect("0, 1")])
            .faults(faults);
        let server = world.node("server", options, Checked::new(Echo(framing)));
        let addr = world.addr(server, 9000);
        world.net(server).listen(addr).expect("the port is free");
        let payload: Vec<u8> = (0..=255).cycle().take(200).collect();
        let frames = (0..150).map(|i| framing.encode(&payload[..i * 37 % 201]).expect("200"));
        let stream = frames.collect::<Vec<_>>().concat();
        let mut script = Script::new();
        for piece in stream.chunks(1 + usize::try_from(seed % 700).expect("below 700")) {
            script = script.send(piece.to_vec());
        }
        let host = world.host("client");
        let client = world.play(host, addr, script.expect(stream).finish().expect_end());
        let within = Duration::from_secs(600);
        world.run_until("the end", within, |world| world.state(client).is_done);
    });
}
