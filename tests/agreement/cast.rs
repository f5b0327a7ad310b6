//! The handler of a script: does what it says, and notes what it is told.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hotloop::{Bytes, CloseReason, ConnId, ConnOptions, Missed, Net, Sent, SocketOption, TimerId};

use crate::BYTES;
use crate::random::bytes_of;
use crate::script::{Behaviour, Op, Ops, Write};
use crate::support::Rig;

/// What is refused in any case; the options say so.
pub const HARD_LIMIT_BYTES: usize = 1 << 20;

/// What every backend receives in one piece when a pause is over: no more than `script` does.
const UNREAD_WHOLE_MAX_BYTES: usize = 16 << 10;

/// As much unread as any backend brings along.
const ADOPTED_MAX_BYTES: usize = 1 << 20;
/// Longer than a test takes: what waits for the peer waits on every backend.
const PATIENCE: Duration = Duration::from_secs(3600);
/// Of the connections' sockets, far below a large write.
const SEND_BUFFER_BYTES: usize = 16 << 10;

/// The options of a connection that keeps so much.
pub fn options(inbound_max_bytes: usize) -> ConnOptions {
    ConnOptions::default()
        .linger_timeout(PATIENCE)
        .hard_limit_bytes(HARD_LIMIT_BYTES)
        .inbound_max_bytes(inbound_max_bytes)
        .socket(SocketOption::SendBufferBytes(SEND_BUFFER_BYTES))
}

/// What was told about one connection, without what may differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    Accept,
    Connect,
    /// So many bytes were consumed, each of which was the one that had to come.
    Consumed(usize),
    /// Pressure that a large write had made is over.
    Writable,
    ReadClosed(usize),
    /// So many queued bytes went along. Of the unread ones, some backends leave more to the kernel.
    Released(usize),
    /// What was released was over by then: no loop takes that (`ENOTCONN`).
    NotAdopted,
    Close(CloseReason, u64),
}

/// One connection of the story, under whatever id.
#[derive(Debug)]
pub struct Role {
    pub id: ConnId,
    pub behaviour: Behaviour,
    pub later: Option<Ops>,
    pub told: Vec<Told>,
    /// What its writes have been answered.
    pub answers: Vec<Sent>,
    /// All that the peer is to receive.
    pub wrote: Vec<u8>,
    /// By the peer.
    pub sent: usize,
    /// Of that.
    pub consumed: usize,
    /// Its FIN is sent or owed.
    pub is_shut: bool,
    pub awaits_writable: bool,
}

impl Role {
    /// Returns whether what is unread need not have arrived whole, and its FIN not at all.
    pub fn owes_much(&self) -> bool {
        self.sent - self.consumed > UNREAD_WHOLE_MAX_BYTES
    }

    fn will_time_out(&self) -> bool {
        self.later.is_some_and(|ops| ops.iter().any(|op| matches!(op, Op::IdleTimeout(_))))
    }
}

/// What the handler's callbacks share.
#[derive(Default)]
pub struct Cast {
    /// Which connection of the story an id is.
    numbers: BTreeMap<ConnId, usize>,
    pub roles: Vec<Role>,
    pub timers: Vec<u64>,
    pub repeating: Option<(TimerId, u8)>,
    pub wakes: usize,
}

impl Cast {
    pub fn number(&mut self, id: ConnId) -> usize {
        let next = self.roles.len();
        let number = *self.numbers.entry(id).or_insert(next);
        if number == next {
            self.roles.push(Role {
                id,
                behaviour: Behaviour::Swallow,
                later: None,
                told: Vec::new(),
                answers: Vec::new(),
                wrote: Vec::new(),
                sent: 0,
                consumed: 0,
                is_shut: false,
                awaits_writable: false,
            });
        }
        number
    }

    fn role(&mut self, id: ConnId) -> &mut Role {
        let number = self.number(id);
        &mut self.roles[number]
    }

    fn tell(&mut self, id: ConnId, what: Told) {
        let told = &mut self.role(id).told;
        match (told.last_mut(), &what) {
            (Some(Told::Consumed(bytes)), Told::Consumed(more)) => *bytes += more,
            _ => told.push(what),
        }
    }

    fn data(&mut self, net: &mut Net, id: ConnId, data: &[u8]) -> usize {
        let number = self.number(id);
        let role = &mut self.roles[number];
        let expected = bytes_of(sent_by_peer(number), role.consumed as u64, data.len());
        assert!(data == expected, "connection {number} is shown something else than was sent");
        let consumed = match role.behaviour {
            Behaviour::Swallow | Behaviour::Echo => data.len(),
            Behaviour::Frames(len) => data.len() / len * len,
            Behaviour::Hoard => 0,
        };
        role.consumed += consumed;
        BYTES.fetch_add(consumed as u64, Ordering::Relaxed);
        if role.behaviour == Behaviour::Echo && net.write(id, data).is_taken() {
            role.wrote.extend(data);
        }
        if consumed > 0 {
            self.tell(id, Told::Consumed(consumed));
        }
        self.do_later(net, number);
        consumed
    }

    fn do_later(&mut self, net: &mut Net, number: usize) {
        if let Some(ops) = self.roles[number].later.take() {
            self.operate(net, number, ops);
        }
    }

    pub fn operate(&mut self, net: &mut Net, number: usize, ops: Ops) {
        for op in ops {
            self.operate_once(net, number, op);
        }
    }

    fn operate_once(&mut self, net: &mut Net, number: usize, op: Op) {
        let id = self.roles[number].id;
        let millis = Duration::from_millis;
        match op {
            Op::Nothing => {}
            Op::Write(len, how) => drop(self.write(net, number, len, how)),
            Op::WriteTooMuch => {
                let sent = self.write(net, number, HARD_LIMIT_BYTES + 1, Write::Shared);
                assert!(!sent.is_taken(), "{sent:?} above the hard limit");
            }
            Op::Flush => drop(net.flush(id)),
            Op::Pause => drop(net.pause_reading(id)),
            Op::Resume => drop(net.resume_reading(id)),
            // Which of the two is due first, an idle timeout that a callback of this step sets or
            // the timer, is for the clock to say.
            Op::Timer(_) if self.roles[number].will_time_out() => {}
            Op::Timer(delay) => drop(net.start_conn_timer(id, millis(delay), number as u64)),
            Op::IdleTimeout(limit) => drop(net.set_idle_timeout(id, millis(limit))),
            Op::Shutdown => self.shutdown(net, number),
            Op::Close => net.close(id),
            Op::Abort => net.abort(id),
            // Whether the peer's FIN has arrived, too, so that nobody can adopt the connection, is
            // for the size of the buffers to say.
            Op::HandOver if self.roles[number].is_shut && self.roles[number].owes_much() => {}
            Op::HandOver => drop(net.release(id)),
        }
    }

    fn shutdown(&mut self, net: &mut Net, number: usize) {
        let role = &mut self.roles[number];
        role.is_shut = true;
        net.shutdown(role.id);
    }

    /// Writes the next bytes of a connection's own stream.
    pub fn write(&mut self, net: &mut Net, number: usize, len: usize, how: Write) -> Sent {
        let role = &mut self.roles[number];
        let data = bytes_of(sent_by_loop(number), role.wrote.len() as u64, len);
        let sent = match how {
            Write::Copied => net.write(role.id, &data),
            Write::Shared => net.write_shared(role.id, Bytes::from(data.clone())),
            Write::Vectored(pieces) => {
                let pieces: Vec<&[u8]> = data.chunks(len.div_ceil(pieces).max(1)).collect();
                net.write_vectored(role.id, &pieces)
            }
        };
        if sent.is_taken() {
            role.wrote.extend(data);
        }
        role.answers.push(sent);
        sent
    }

    /// Checks what a peer has received, of which the first `checked` bytes were checked before.
    pub fn check_received(&self, number: usize, checked: usize, received: &[u8]) {
        let expected = self.roles[number].wrote.get(checked..received.len());
        let is_right = expected == Some(&received[checked..]);
        assert!(is_right, "the peer of connection {number} received something else than written");
        BYTES.fetch_add((received.len() - checked) as u64, Ordering::Relaxed);
    }
}

/// The stream of what a connection's peer sends.
pub fn sent_by_peer(number: usize) -> u64 {
    2 * number as u64 + 2
}

fn sent_by_loop(number: usize) -> u64 {
    2 * number as u64 + 3
}

/// Has the handler write down what it is told, and do what the script says.
pub fn install(rig: &mut Rig, cast: &Rc<RefCell<Cast>>) {
    let own = || Rc::clone(cast);
    let handler = &mut rig.handler;
    let it = own();
    handler.on_accept = Some(Box::new(move |_, id| it.borrow_mut().tell(id, Told::Accept)));
    let it = own();
    handler.on_connect = Some(Box::new(move |_, id| it.borrow_mut().tell(id, Told::Connect)));
    let it = own();
    handler.on_data = Some(Box::new(move |net, id, data| it.borrow_mut().data(net, id, data)));
    let it = own();
    handler.on_writable = Some(Box::new(move |_, id| {
        let mut cast = it.borrow_mut();
        if std::mem::take(&mut cast.role(id).awaits_writable) {
            cast.tell(id, Told::Writable);
        }
    }));
    let it = own();
    handler.on_read_closed = Some(Box::new(move |net, id, rest| {
        let mut cast = it.borrow_mut();
        cast.tell(id, Told::ReadClosed(rest.len()));
        let number = cast.number(id);
        cast.do_later(net, number);
        if cast.roles[number].behaviour == Behaviour::Swallow {
            net.close(id);
        }
    }));
    install_ends(rig, cast);
    let handler = &mut rig.handler;
    let it = own();
    handler.on_timer = Some(Box::new(move |net, timer, token| {
        let mut cast = it.borrow_mut();
        cast.timers.push(token);
        match &mut cast.repeating {
            Some((repeating, left)) if *repeating == timer => {
                *left -= 1;
                if *left == 0 {
                    net.cancel_timer(timer);
                    cast.repeating = None;
                }
            }
            _ => {}
        }
    }));
    let it = own();
    handler.on_wake = Some(Box::new(move |_| it.borrow_mut().wakes += 1));
}

fn install_ends(rig: &mut Rig, cast: &Rc<RefCell<Cast>>) {
    let handler = &mut rig.handler;
    let it = Rc::clone(cast);
    handler.on_release = Some(Box::new(move |net, id, detached| {
        let mut cast = it.borrow_mut();
        cast.tell(id, Told::Released(detached.queued().len()));
        let new = match net.adopt_with(detached, options(ADOPTED_MAX_BYTES)) {
            Ok(new) => new,
            Err(failed) => {
                assert_eq!(failed.error().kind(), ErrorKind::NotConnected, "{failed:?}");
                return cast.tell(id, Told::NotAdopted);
            }
        };
        let number = cast.number(id);
        cast.numbers.insert(new, number);
        cast.roles[number].id = new;
    }));
    let it = Rc::clone(cast);
    handler.on_close = Some(Box::new(move |net, id, reason| {
        let dropped = net.conn_stats(id).expect("getters work in on_close").dropped_bytes;
        it.borrow_mut().tell(id, Told::Close(reason, dropped));
    }));
}

/// Starts a timer that repeats, so often.
pub fn repeat(cast: &mut Cast, net: &mut Net, times: u8) {
    let timer = net.start_repeating(Duration::from_millis(1), Missed::Burst, u64::from(times));
    cast.repeating = Some((timer, times));
}
