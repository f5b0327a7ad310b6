//! The user's state per connection.

use std::fmt;

use crate::id::ConnId;

/// A map from [`ConnId`] to whatever a handler keeps per connection.
///
/// A vector indexed by the id's slot, with the generation checked: no hashing, and a stale id
/// never finds the state of the connection that has its slot now. The loop does not touch it:
/// insert in [`on_accept`](crate::Handler::on_accept) or after
/// [`Net::connect`](crate::Net::connect), remove in [`on_close`](crate::Handler::on_close).
///
/// # Memory
///
/// One entry for each slot up to the highest that was ever inserted, and slots are dense: about
/// as many as there were connections at the same time, times the size of `Option<(ConnId, T)>`.
/// That memory is kept until the map is dropped, also by [`clear`](ConnMap::clear), so that a
/// server in steady state does not allocate. Box a large `T`.
///
/// # Examples
///
/// ```
/// use hotloop::{CloseReason, ConnId, ConnMap, Handler, ListenerId, Net};
///
/// /// Counts each connection's bytes.
/// #[derive(Default)]
/// struct Counter {
///     bytes: ConnMap<u64>,
/// }
///
/// impl Handler for Counter {
///     fn on_accept(&mut self, _: &mut Net, conn: ConnId, _: ListenerId) {
///         self.bytes.insert(conn, 0);
///     }
///
///     fn on_data(&mut self, _: &mut Net, conn: ConnId, data: &[u8]) -> usize {
///         if let Some(bytes) = self.bytes.get_mut(conn) {
///             *bytes += data.len() as u64;
///         }
///         data.len()
///     }
///
///     fn on_close(&mut self, _: &mut Net, conn: ConnId, reason: CloseReason, _: u64) {
///         let bytes = self.bytes.remove(conn).unwrap_or(0);
///         println!("{conn}: {bytes} bytes, {reason:?}");
///     }
/// }
/// ```
#[derive(Clone)]
pub struct ConnMap<T> {
    entries: Vec<Option<(ConnId, T)>>,
    len: usize,
}

impl<T> ConnMap<T> {
    /// Makes an empty map. Does not allocate.
    pub const fn new() -> ConnMap<T> {
        ConnMap { entries: Vec::new(), len: 0 }
    }

    /// Stores a value for a connection.
    ///
    /// Returns the previous value of the same id. A value that an earlier connection left in the
    /// slot is dropped. If the slot belongs to a *later* connection, `id` is stale: the map stays
    /// as it is, and `value` is handed back. So the answer is `Some` only if the map is left
    /// without that value, and for the first insert of a live id it is `None`.
    ///
    /// # Examples
    ///
    /// ```
    /// use hotloop::ConnMap;
    /// # let id = |bits| hotloop::ConnId::from_bits(bits).expect("an id's bits");
    /// # let conn = id(0x0000_0001_0100_0003);
    /// # let next_in_slot = id(0x0000_0002_0100_0003);
    ///
    /// let mut names = ConnMap::new();
    /// assert_eq!(names.insert(conn, "ann"), None);
    /// assert_eq!(names.insert(conn, "bob"), Some("ann"));
    ///
    /// assert_eq!(names.insert(next_in_slot, "eve"), None);
    /// assert_eq!(names.insert(conn, "late"), Some("late"));
    /// assert_eq!(names.get(next_in_slot), Some(&"eve"));
    /// ```
    #[allow(clippy::indexing_slicing, reason = "grown to the slot")]
    pub fn insert(&mut self, id: ConnId, value: T) -> Option<T> {
        if id.slot() >= self.entries.len() {
            self.entries.resize_with(id.slot() + 1, || None);
        }
        match &mut self.entries[id.slot()] {
            Some((stored, _)) if stored.generation() > id.generation() => Some(value),
            Some((stored, old)) if *stored == id => Some(std::mem::replace(old, value)),
            entry => {
                self.len += usize::from(entry.is_none());
                *entry = Some((id, value));
                None
            }
        }
    }

    /// Returns the value of a connection; `None` if there is none or the id is stale.
    #[inline]
    pub fn get(&self, id: ConnId) -> Option<&T> {
        match self.entries.get(id.slot()) {
            Some(Some((stored, value))) if *stored == id => Some(value),
            _ => None,
        }
    }

    /// Returns the value of a connection, to change it; `None` if there is none or the id is
    /// stale.
    #[inline]
    pub fn get_mut(&mut self, id: ConnId) -> Option<&mut T> {
        match self.entries.get_mut(id.slot()) {
            Some(Some((stored, value))) if *stored == id => Some(value),
            _ => None,
        }
    }

    /// Takes out the value of a connection; `None` if there is none or the id is stale.
    ///
    /// # Examples
    ///
    /// ```
    /// use hotloop::ConnMap;
    /// # let conn = hotloop::ConnId::from_bits(0x0000_0001_0100_0003).expect("an id's bits");
    ///
    /// let mut names = ConnMap::new();
    /// names.insert(conn, "ann");
    /// assert_eq!((names.get(conn), names.len()), (Some(&"ann"), 1));
    /// assert_eq!(names.remove(conn), Some("ann"));
    /// assert_eq!((names.remove(conn), names.is_empty()), (None, true));
    /// ```
    pub fn remove(&mut self, id: ConnId) -> Option<T> {
        let entry = self.entries.get_mut(id.slot())?;
        let (_, value) = entry.take_if(|(stored, _)| *stored == id)?;
        self.len -= 1;
        Some(value)
    }

    /// Returns whether there is a value for this very id.
    #[inline]
    pub fn contains(&self, id: ConnId) -> bool {
        self.get(id).is_some()
    }

    /// Returns how many values there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns all values with their ids, in slot order. Passes over empty slots, too.
    ///
    /// # Examples
    ///
    /// ```
    /// use hotloop::{ConnId, ConnMap, Net};
    ///
    /// struct Player {
    ///     room: u32,
    /// }
    ///
    /// fn tell_room(net: &mut Net, players: &ConnMap<Player>, room: u32, text: &[u8]) {
    ///     for (conn, player) in players.iter() {
    ///         if player.room == room {
    ///             net.write(conn, text);
    ///         }
    ///     }
    /// }
    /// ```
    pub fn iter(&self) -> impl Iterator<Item = (ConnId, &T)> {
        self.entries.iter().flatten().map(|(id, value)| (*id, value))
    }

    /// Returns all values with their ids, to change them, in slot order.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (ConnId, &mut T)> {
        self.entries.iter_mut().flatten().map(|(id, value)| (*id, value))
    }

    /// Drops all values, and keeps the memory for the next ones.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.len = 0;
    }
}

impl<T> Default for ConnMap<T> {
    fn default() -> ConnMap<T> {
        ConnMap::new()
    }
}

impl<T: fmt::Debug> fmt::Debug for ConnMap<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Key, Kind};

    fn conn(slot: u32, generation: u32) -> ConnId {
        ConnId(Key::new(Kind::Conn, slot, generation))
    }

    #[test]
    fn a_value_is_found_by_its_own_id_only() {
        let mut map = ConnMap::new();
        assert_eq!(map.insert(conn(2, 5), "a"), None);
        assert_eq!(map.get(conn(2, 5)), Some(&"a"));
        for other in [conn(2, 4), conn(2, 6), conn(1, 5), conn(3, 5), conn(0xff_ffff, 5)] {
            assert_eq!((map.get(other), map.contains(other)), (None, false), "{other}");
            assert_eq!(map.get_mut(other), None, "{other}");
            assert_eq!(map.remove(other), None, "{other}");
        }
        assert_eq!((map.remove(conn(2, 5)), map.remove(conn(2, 5))), (Some("a"), None));
    }

    #[test]
    fn insert_returns_what_the_same_id_had() {
        let mut map = ConnMap::new();
        map.insert(conn(0, 1), 1);
        assert_eq!(map.insert(conn(0, 1), 2), Some(1));
        assert_eq!((map.get(conn(0, 1)), map.len()), (Some(&2), 1));
    }

    #[test]
    fn a_later_generation_replaces_an_earlier_one_and_drops_its_value() {
        let value = std::sync::Arc::new(());
        let mut map = ConnMap::new();
        map.insert(conn(0, 1), value.clone());
        assert_eq!(map.insert(conn(0, 2), std::sync::Arc::default()), None);
        assert_eq!(std::sync::Arc::strong_count(&value), 1);
        assert_eq!((map.get(conn(0, 1)), map.len()), (None, 1));
    }

    #[test]
    fn a_stale_insert_changes_nothing_and_gets_its_value_back() {
        let mut map = ConnMap::new();
        map.insert(conn(0, 2), "live");
        assert_eq!(map.insert(conn(0, 1), "stale"), Some("stale"));
        assert_eq!((map.get(conn(0, 2)), map.len()), (Some(&"live"), 1));
    }

    #[test]
    fn the_length_counts_values_and_not_slots() {
        let mut map = ConnMap::new();
        assert!(map.is_empty());
        map.insert(conn(9, 1), 'a');
        map.insert(conn(4, 7), 'b');
        assert_eq!(map.len(), 2);
        map.remove(conn(9, 2));
        assert_eq!(map.len(), 2);
        map.remove(conn(9, 1));
        assert_eq!((map.len(), map.is_empty()), (1, false));
    }

    #[test]
    fn iteration_goes_by_slot_and_gives_the_ids() {
        let mut map = ConnMap::new();
        map.insert(conn(9, 1), 1);
        map.insert(conn(4, 7), 2);
        for (_, value) in map.iter_mut() {
            *value *= 10;
        }
        assert_eq!(map.iter().collect::<Vec<_>>(), [(conn(4, 7), &20), (conn(9, 1), &10)]);
        assert_eq!(format!("{map:?}"), "{conn#4.7: 20, conn#9.1: 10}");
    }

    #[test]
    fn clear_empties_the_map_and_keeps_its_memory() {
        let mut map = ConnMap::default();
        map.insert(conn(50, 1), 1);
        let capacity = map.entries.capacity();
        map.clear();
        assert_eq!((map.len(), map.get(conn(50, 1)), map.iter().count()), (0, None, 0));
        assert_eq!(map.entries.capacity(), capacity);
    }
}
