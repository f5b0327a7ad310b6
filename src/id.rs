//! Ids with a generation, and the slots they name.
//!
//! An id is eight bytes: generation (32 bits, never 0), kind (8 bits), slot (24 bits). The same
//! eight bytes are the key that travels through the backend and the kernel, so that an event
//! which was meant for an earlier owner of a slot is recognised (contract C2).

use std::fmt;
use std::num::NonZeroU64;

use slab::Slab;

const SLOT_BITS: u32 = 24;
const KIND_BITS: u32 = 8;
/// How many slots one kind of id can have at the same time.
pub(crate) const SLOTS_MAX: usize = 1 << SLOT_BITS;

/// What a key names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Conn = 1,
    Listener = 2,
    Timer = 3,
    Waker = 4,
}

/// Generation, kind and slot in eight bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key(NonZeroU64);

impl Key {
    #[inline]
    #[allow(
        clippy::expect_used,
        reason = "a generation is never 0, and this is checked where it is counted"
    )]
    pub(crate) fn new(kind: Kind, slot: u32, generation: u32) -> Key {
        debug_assert!(slot < 1 << SLOT_BITS && generation != 0);
        let low = (u64::from(kind as u8) << SLOT_BITS) | u64::from(slot);
        let bits = (u64::from(generation) << (SLOT_BITS + KIND_BITS)) | low;
        Key(NonZeroU64::new(bits).expect("a generation is never 0"))
    }

    /// Reads a key back from its bits; `None` for bits that no key has.
    #[inline]
    pub(crate) fn from_bits(bits: u64) -> Option<Key> {
        NonZeroU64::new(bits).map(Key).filter(|key| key.generation() != 0 && key.kind().is_some())
    }

    #[inline]
    pub(crate) fn bits(self) -> u64 {
        self.0.get()
    }

    #[inline]
    pub(crate) fn slot(self) -> u32 {
        (self.bits() & ((1 << SLOT_BITS) - 1)) as u32
    }

    #[inline]
    pub(crate) fn generation(self) -> u32 {
        (self.bits() >> (SLOT_BITS + KIND_BITS)) as u32
    }

    #[inline]
    pub(crate) fn kind(self) -> Option<Kind> {
        match (self.bits() >> SLOT_BITS) & ((1 << KIND_BITS) - 1) {
            1 => Some(Kind::Conn),
            2 => Some(Kind::Listener),
            3 => Some(Kind::Timer),
            4 => Some(Kind::Waker),
            _ => None,
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind() {
            Some(kind) => write!(f, "{kind:?}({}.{})", self.slot(), self.generation()),
            None => write!(f, "Key({:#x})", self.bits()),
        }
    }
}

macro_rules! public_id {
    ($name:ident, $kind:ident, $short:literal, $what:literal, $example:literal) => {
        #[doc = concat!("Names ", $what, ".")]
        ///
        /// Eight bytes, `Copy`, with a generation: once its owner is gone the id is *stale* for
        /// good, and every call that is given a stale id says so; it never reaches another
        /// owner of the same slot. `Option` of an id is eight bytes too.
        ///
        /// # Examples
        ///
        #[doc = $example]
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub(crate) Key);

        impl $name {
            /// Returns the slot: dense, reused after its owner is gone, less than 2^24.
            pub fn slot(self) -> usize {
                self.0.slot() as usize
            }

            /// Returns the generation of the slot, never 0.
            pub fn generation(self) -> u32 {
                self.0.generation()
            }

            /// Returns the id as an integer, for logs, for maps and for the wire.
            pub fn to_bits(self) -> u64 {
                self.0.bits()
            }

            /// Reads an id back from [`to_bits`](Self::to_bits); `None` if the bits are not
            /// those of such an id. An id that was never handed out behaves like a stale one.
            pub fn from_bits(bits: u64) -> Option<Self> {
                Key::from_bits(bits).filter(|key| key.kind() == Some(Kind::$kind)).map($name)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($short, "#{}.{}"), self.slot(), self.generation())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self, f)
            }
        }
    };
}

public_id!(
    ConnId,
    Conn,
    "conn",
    "a connection",
    r#"```
use hotloop::{Config, ConnId, Loop};

let mut event_loop = Loop::new(Config::default())?;
let server = std::net::TcpListener::bind("127.0.0.1:0")?;
let conn = event_loop.net().connect(server.local_addr()?)?;
assert_eq!(conn.to_string(), "conn#0.1", "slot 0, generation 1");
let token = conn.to_bits(); // for a timer, say
assert_eq!(ConnId::from_bits(token), Some(conn));
# Ok::<(), std::io::Error>(())
```"#
);
public_id!(
    ListenerId,
    Listener,
    "listener",
    "a listener",
    r#"```
use hotloop::{ConnId, Handler, ListenerId, Net};

/// Serves players at one address and an operator at another.
struct Server {
    operators: ListenerId,
}

impl Handler for Server {
    fn on_accept(&mut self, net: &mut Net, conn: ConnId, listener: ListenerId) {
        if listener == self.operators {
            net.write(conn, net.stats().to_string().as_bytes());
        }
    }
    # fn on_data(&mut self, _: &mut Net, _: ConnId, data: &[u8]) -> usize { data.len() }
}
```"#
);
public_id!(
    TimerId,
    Timer,
    "timer",
    "a timer",
    r#"```
use std::time::Duration;

use hotloop::{Config, Loop};

let mut event_loop = Loop::new(Config::default())?;
let net = event_loop.net();
let timer = net.start_timer(Duration::from_secs(1), 0);
assert_eq!(net.timer_deadline(timer), Some(net.now() + Duration::from_secs(1)));
net.cancel_timer(timer);
assert_eq!(net.timer_deadline(timer), None, "it is stale");
# Ok::<(), std::io::Error>(())
```"#
);

struct Entry<T> {
    key: Key,
    /// `None` in a slot that is retired because its generations are used up.
    value: Option<T>,
}

/// Records of one kind in reusable slots, found by key and checked by kind and generation.
pub(crate) struct Slots<T> {
    kind: Kind,
    entries: Slab<Entry<T>>,
    /// The last generation each slot had; 0 for none.
    generations: Vec<u32>,
    live: usize,
}

impl<T> Slots<T> {
    pub(crate) fn new(kind: Kind) -> Slots<T> {
        Slots { kind, entries: Slab::new(), generations: Vec::new(), live: 0 }
    }

    /// What one slot takes, occupied or not.
    #[cfg(test)]
    pub(crate) const SLOT_BYTES: usize = size_of::<Option<Entry<T>>>() + size_of::<u32>();

    /// Returns the key that the next [`insert`](Self::insert) must be given, or `None` if all
    /// slots are taken.
    #[inline]
    pub(crate) fn vacant_key(&self) -> Option<Key> {
        let slot = self.entries.vacant_key();
        if slot >= SLOTS_MAX {
            return None;
        }
        let last = self.generations.get(slot).copied().unwrap_or(0);
        Some(Key::new(self.kind, u32::try_from(slot).ok()?, last + 1))
    }

    /// Puts a record at the vacant key.
    #[inline]
    #[allow(clippy::indexing_slicing, reason = "grown to the slot")]
    pub(crate) fn insert(&mut self, key: Key, value: T) {
        let slot = key.slot() as usize;
        if slot >= self.generations.len() {
            self.grow(slot);
        }
        self.generations[slot] = key.generation();
        let taken = self.entries.insert(Entry { key, value: Some(value) });
        debug_assert_eq!(taken, slot, "the key came from vacant_key");
        self.live += 1;
    }

    /// Makes room for one more slot. By a sixteenth and not by doubling: half of what a server
    /// with many connections needs would be room that nobody is in.
    #[cold]
    fn grow(&mut self, slot: usize) {
        if slot == self.entries.capacity() {
            let more = slot / 16 + 64;
            self.entries.reserve_exact(more);
            self.generations.reserve_exact(slot + more - self.generations.len());
        }
        self.generations.resize(slot + 1, 0);
    }

    #[inline]
    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        match self.entries.get(key.slot() as usize) {
            Some(entry) if entry.key == key => entry.value.as_ref(),
            _ => None,
        }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        match self.entries.get_mut(key.slot() as usize) {
            Some(entry) if entry.key == key => entry.value.as_mut(),
            _ => None,
        }
    }

    /// Takes a record out and frees its slot, or retires the slot after its last generation.
    #[inline]
    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        let slot = key.slot() as usize;
        let entry = self.entries.get_mut(slot)?;
        if entry.key != key {
            return None;
        }
        let value = entry.value.take()?;
        if key.generation() != u32::MAX {
            self.entries.remove(slot);
        }
        self.live -= 1;
        Some(value)
    }

    /// Returns how many records there are.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.live
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Returns every record, in slot order.
    pub(crate) fn values(&self) -> impl Iterator<Item = &T> + '_ {
        self.entries.iter().filter_map(|(_, entry)| entry.value.as_ref())
    }

    /// Returns the key of every record, in slot order.
    pub(crate) fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        self.entries.iter().filter(|(_, entry)| entry.value.is_some()).map(|(_, entry)| entry.key)
    }

    /// Makes the vacant slots start over at a chosen generation, to test what happens at the
    /// last one.
    #[cfg(test)]
    pub(crate) fn set_last_generation(&mut self, slot: usize, generation: u32) {
        self.generations.resize(self.generations.len().max(slot + 1), 0);
        self.generations[slot] = generation;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert(slots: &mut Slots<&'static str>, value: &'static str) -> Key {
        let key = slots.vacant_key().expect("not full");
        slots.insert(key, value);
        key
    }

    #[test]
    fn ids_are_eight_bytes_with_a_niche() {
        assert_eq!(size_of::<ConnId>(), 8);
        assert_eq!(size_of::<Option<TimerId>>(), 8);
    }

    #[test]
    fn an_id_survives_its_bits_and_only_its_own_kind() {
        let id = ConnId(Key::new(Kind::Conn, 77, 5));
        assert_eq!((id.slot(), id.generation()), (77, 5));
        assert_eq!(ConnId::from_bits(id.to_bits()), Some(id));
        assert_eq!(TimerId::from_bits(id.to_bits()), None);
        assert_eq!(ConnId::from_bits(0), None);
        assert_eq!(ConnId::from_bits(1 << SLOT_BITS), None, "generation 0");
        assert_eq!(id.to_string(), "conn#77.5");
    }

    #[test]
    fn a_reused_slot_has_a_new_generation() {
        let mut slots = Slots::new(Kind::Conn);
        let old = insert(&mut slots, "old");
        assert_eq!(slots.remove(old), Some("old"));
        assert_eq!(slots.remove(old), None);
        let new = insert(&mut slots, "new");
        assert_eq!(old.slot(), new.slot());
        assert_eq!(slots.get(old), None);
        assert_eq!(slots.get_mut(new), Some(&mut "new"));
        assert_eq!(slots.len(), 1);
    }

    #[test]
    fn a_key_of_another_kind_finds_nothing() {
        let mut slots = Slots::new(Kind::Conn);
        let key = insert(&mut slots, "conn");
        let other = Key::new(Kind::Listener, key.slot(), key.generation());
        assert_eq!(slots.get(other), None);
        assert_eq!(slots.remove(other), None);
        assert_eq!(slots.get(key), Some(&"conn"));
    }

    #[test]
    fn a_slot_is_retired_after_its_last_generation() {
        let mut slots = Slots::new(Kind::Conn);
        slots.set_last_generation(0, u32::MAX - 1);
        let last = insert(&mut slots, "last");
        assert_eq!(last.generation(), u32::MAX);
        assert_eq!(slots.remove(last), Some("last"));
        assert!(slots.is_empty());
        assert_eq!(slots.get(last), None);
        assert_eq!(slots.remove(last), None);
        let next = insert(&mut slots, "next");
        assert_ne!(next.slot(), last.slot());
        assert_eq!(slots.keys().collect::<Vec<_>>(), [next]);
    }
}
