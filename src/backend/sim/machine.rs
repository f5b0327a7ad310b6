//! A simulated machine: its descriptors, its listeners, its clock.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::backend::stored_options::StoredOptions;
use crate::backend::{Event, Signal};
use crate::id::Key;
use crate::time::{Time, nanos};

use super::end::EndIndex;
use super::options::{Dialect, NodeOptions};
use super::peer::Script;
use crate::fault::Faults;

/// The first port that the kernel chooses by itself (`ip(7)`, `ip_local_port_range`).
const EPHEMERAL_MIN: u16 = 32_768;
/// How many keys of closed sockets are remembered for stale events.
const GONE_MAX: usize = 16;

/// A loop's signal, and one for the whole world that some signal was raised.
#[derive(Debug)]
pub(crate) struct Flag {
    raised: AtomicBool,
    any: Arc<AtomicBool>,
}

impl Flag {
    pub(super) fn is_raised(&self) -> bool {
        self.raised.load(Ordering::Acquire)
    }

    pub(super) fn take(&self) -> bool {
        self.raised.swap(false, Ordering::AcqRel)
    }
}

impl Signal for Flag {
    fn raise(&self) {
        self.raised.store(true, Ordering::Release);
        self.any.store(true, Ordering::Release);
    }
}

/// What a descriptor stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Socket {
    Conn(EndIndex),
    Listener(usize),
    /// A listener that is closed, and whose close is in flight.
    Nothing,
}

#[derive(Debug)]
pub(super) struct Descriptor {
    pub(super) key: Key,
    pub(super) socket: Socket,
    /// On the ready list.
    pub(super) is_queued: bool,
    /// A close of it is in flight.
    pub(super) is_closing: bool,
    /// It belongs to no loop.
    pub(super) is_loose: bool,
}

#[derive(Debug)]
pub(super) struct Listener {
    pub(super) addr: SocketAddr,
    pub(super) reuse_port: bool,
    pub(super) backlog: usize,
    pub(super) options: StoredOptions,
    pub(super) waiting: VecDeque<EndIndex>,
    /// The loop's socket; `None`: peers without a loop are accepted here.
    pub(super) handle: Option<i32>,
    pub(super) script: Script,
    /// The peers without a loop that were accepted here.
    pub(super) served: Vec<EndIndex>,
}

impl Listener {
    pub(super) fn new(addr: SocketAddr, backlog: usize) -> Listener {
        Listener {
            addr,
            reuse_port: false,
            backlog,
            options: StoredOptions::default(),
            waiting: VecDeque::new(),
            handle: None,
            script: Script::new(),
            served: Vec::new(),
        }
    }
}

/// A simulated machine.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) name: String,
    pub(crate) ip: Ipv4Addr,
    pub(crate) is_up: bool,
    /// How often it was started again.
    pub(super) life: u32,
    pub(super) dialect: Dialect,
    pub(crate) faults: Faults,
    pub(crate) send_max: usize,
    pub(crate) recv_max: usize,
    pub(super) descriptors_max: usize,
    pub(super) turn_cost_nanos: u64,
    pub(super) turn_jitter_nanos: u64,
    /// The time as its loop sees it: ahead of the world's by what the last turn has cost.
    pub(crate) clock: Time,
    /// When its loop is planned to have a turn.
    pub(crate) turn_at: Option<Time>,
    /// Its loop waits by itself: nobody else gives it turns.
    pub(crate) is_attached: bool,
    /// The world gives its loop a turn: its wait only looks.
    pub(crate) is_given: bool,
    /// A fault was injected since the last turn.
    pub(crate) disturbed: bool,
    /// System calls since the last turn began that came to something, waits not.
    pub(crate) turn_progress: u64,
    /// Events that the last wait reported.
    pub(crate) turn_events: usize,
    descriptors: Vec<Option<Descriptor>>,
    free: BinaryHeap<Reverse<usize>>,
    open: usize,
    /// How many closes are in flight.
    pub(super) closing: usize,
    pub(super) listeners: Vec<Option<Listener>>,
    next_port: u16,
    /// Sockets that were woken since they were reported.
    pub(super) ready: VecDeque<i32>,
    /// Completions that were not reported yet.
    pub(super) done: Vec<Event>,
    pub(super) gone: VecDeque<Key>,
    pub(super) scripted_accepts: VecDeque<i32>,
    pub(super) signal: Arc<Flag>,
    pub(super) lent: BTreeSet<u32>,
    pub(super) next_buffer: u32,
}

impl Machine {
    pub(super) fn new(
        name: &str,
        ip: Ipv4Addr,
        options: &NodeOptions,
        now: Time,
        any: Arc<AtomicBool>,
    ) -> Machine {
        Machine {
            name: name.to_owned(),
            ip,
            is_up: true,
            life: 0,
            dialect: options.dialect,
            faults: options.faults.clone(),
            send_max: options.send_buffer_bytes,
            recv_max: options.recv_buffer_bytes,
            descriptors_max: options.descriptors_max,
            turn_cost_nanos: nanos(options.turn_cost),
            turn_jitter_nanos: nanos(options.turn_jitter),
            clock: now,
            turn_at: None,
            is_attached: false,
            is_given: false,
            disturbed: false,
            turn_progress: 0,
            turn_events: 0,
            descriptors: Vec::new(),
            free: BinaryHeap::new(),
            open: 0,
            closing: 0,
            listeners: Vec::new(),
            next_port: EPHEMERAL_MIN,
            ready: VecDeque::new(),
            done: Vec::new(),
            gone: VecDeque::new(),
            scripted_accepts: VecDeque::new(),
            signal: Arc::new(Flag { raised: AtomicBool::new(false), any }),
            lent: BTreeSet::new(),
            next_buffer: 0,
        }
    }

    /// Starts over with other options. What listens without a loop stays.
    pub(super) fn restart(&mut self, options: &NodeOptions, now: Time) {
        let any = Arc::clone(&self.signal.any);
        let fresh = Machine::new(&self.name, self.ip, options, now, any);
        let listeners = std::mem::take(&mut self.listeners);
        let (next_port, life) = (self.next_port, self.life + 1);
        *self = Machine { next_port, life, listeners, ..fresh };
    }

    /// Forgets what was open. The loop that is dropped afterwards finds nothing to close.
    pub(super) fn turn_off(&mut self) {
        self.is_up = false;
        (self.open, self.closing) = (0, 0);
        self.listeners.clear();
        self.descriptors.clear();
        self.free.clear();
        self.ready.clear();
        self.done.clear();
    }

    /// Returns all open descriptors.
    pub(super) fn handles(&self) -> Vec<i32> {
        let all = self.descriptors.iter().enumerate().filter(|(_, one)| one.is_some());
        all.filter_map(|(index, _)| i32::try_from(index).ok()).collect()
    }

    pub(crate) fn open_descriptors(&self) -> usize {
        self.open
    }

    pub(super) fn is_full(&self) -> bool {
        self.open >= self.descriptors_max
    }

    /// Takes the lowest free descriptor.
    pub(super) fn open(&mut self, key: Key, socket: Socket) -> i32 {
        let index = match self.free.pop() {
            Some(Reverse(index)) => index,
            None => {
                self.descriptors.push(None);
                self.descriptors.len() - 1
            }
        };
        let fresh =
            Descriptor { key, socket, is_queued: false, is_closing: false, is_loose: false };
        self.descriptors[index] = Some(fresh);
        self.open += 1;
        i32::try_from(index).expect("fewer than 2^31 descriptors")
    }

    pub(super) fn view(&self, handle: i32) -> Option<&Descriptor> {
        self.descriptors.get(usize::try_from(handle).ok()?)?.as_ref()
    }

    pub(super) fn descriptor(&mut self, handle: i32) -> Option<&mut Descriptor> {
        self.descriptors.get_mut(usize::try_from(handle).ok()?)?.as_mut()
    }

    pub(super) fn free(&mut self, handle: i32) {
        let index = usize::try_from(handle).expect("a handle is not negative");
        if let Some(gone) = self.descriptors[index].take() {
            self.open -= 1;
            self.closing -= usize::from(gone.is_closing);
            self.free.push(Reverse(index));
            self.gone.push_back(gone.key);
            if self.gone.len() > GONE_MAX {
                self.gone.pop_front();
            }
        }
    }

    /// Returns the key of some open socket, chosen by a number.
    pub(super) fn some_key(&self, number: usize) -> Option<Key> {
        let open = self.descriptors.iter().flatten();
        let count = self.open.max(1);
        open.filter(|one| !one.is_closing).nth(number % count).map(|one| one.key)
    }

    /// Returns whether an address can be bound here.
    pub(super) fn has_addr(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || ip.is_unspecified() || ip == IpAddr::V4(self.ip)
    }

    /// Returns the listener that a SYN to an address reaches.
    pub(super) fn listeners_at(&self, addr: SocketAddr) -> Vec<usize> {
        let hears = |listener: &Listener| {
            let own = listener.addr;
            own.port() == addr.port() && (own.ip() == addr.ip() || own.ip().is_unspecified())
        };
        let all = self.listeners.iter().enumerate();
        all.filter(|(_, one)| one.as_ref().is_some_and(hears)).map(|(index, _)| index).collect()
    }

    /// Returns whether a close is in flight of a socket that had this slot.
    pub(super) fn is_closing(&self, key: Key) -> bool {
        let same = |one: &Descriptor| one.key.kind() == key.kind() && one.key.slot() == key.slot();
        self.closing > 0 && self.descriptors.iter().flatten().any(|one| one.is_closing && same(one))
    }

    pub(super) fn add_listener(&mut self, listener: Listener) -> usize {
        let free = self.listeners.iter().position(Option::is_none);
        let index = free.unwrap_or_else(|| {
            self.listeners.push(None);
            self.listeners.len() - 1
        });
        self.listeners[index] = Some(listener);
        index
    }

    /// Returns whether a listener cannot be bound, because another one has the address.
    pub(super) fn is_taken(&self, addr: SocketAddr, reuse_port: bool) -> bool {
        self.listeners.iter().flatten().any(|other| {
            let same = other.addr.ip() == addr.ip()
                || other.addr.ip().is_unspecified()
                || addr.ip().is_unspecified();
            same && other.addr.port() == addr.port() && !(reuse_port && other.reuse_port)
        })
    }

    /// Takes the next port that the kernel chooses by itself.
    pub(super) fn ephemeral_port(&mut self) -> u16 {
        loop {
            let port = self.next_port;
            self.next_port = if port == u16::MAX { EPHEMERAL_MIN } else { port + 1 };
            if !self.listeners.iter().flatten().any(|other| other.addr.port() == port) {
                return port;
            }
        }
    }
}
