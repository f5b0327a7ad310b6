//! An indexed 4-ary min-heap: the nearest deadline first, equal ones in the order of their starts.
//!
//! Four children lie in two cache lines, and the tree is half as deep as a binary one. Where each
//! entry stands is kept by slot, so that removing any of them needs no search.

use crate::id::Key;
use crate::time::Time;

const ARITY: usize = 4;
const ABSENT: u32 = u32::MAX;

/// A timer in the heap, or in the due list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) deadline: Time,
    /// Never the same for two entries: it tells apart the times one timer was armed, too.
    pub(super) sequence: u64,
    pub(super) key: Key,
}

impl Entry {
    #[inline]
    fn is_before(&self, other: &Entry) -> bool {
        (self.deadline, self.sequence) < (other.deadline, other.sequence)
    }
}

/// At most one entry per slot. Its memory grows to the most there ever were and stays.
pub(super) struct Heap {
    entries: Vec<Entry>,
    /// Where the entry of each slot stands.
    positions: Vec<u32>,
}

impl Heap {
    pub(super) fn new() -> Heap {
        Heap { entries: Vec::new(), positions: Vec::new() }
    }

    #[inline]
    pub(super) fn first(&self) -> Option<&Entry> {
        self.entries.first()
    }

    #[inline]
    pub(super) fn push(&mut self, entry: Entry) {
        let slot = entry.key.slot() as usize;
        if slot >= self.positions.len() {
            self.positions.resize(slot + 1, ABSENT);
        }
        debug_assert_eq!(self.positions[slot], ABSENT, "one entry per slot");
        let last = self.entries.len();
        self.entries.push(entry);
        self.sift_up(last, entry);
    }

    /// Takes out the entry of a slot; returns whether there was one.
    #[inline]
    pub(super) fn remove(&mut self, slot: u32) -> bool {
        let Some(&position) = self.positions.get(slot as usize) else { return false };
        if position == ABSENT {
            return false;
        }
        self.remove_at(position as usize);
        true
    }

    /// Takes out the first entry if `wanted` says so.
    #[inline]
    pub(super) fn pop_if(&mut self, wanted: impl FnOnce(&Entry) -> bool) -> Option<Entry> {
        let first = *self.first().filter(|entry| wanted(entry))?;
        self.remove_at(0);
        Some(first)
    }

    #[cfg(test)]
    pub(super) fn capacities(&self) -> [usize; 2] {
        [self.entries.capacity(), self.positions.capacity()]
    }

    fn remove_at(&mut self, position: usize) {
        self.positions[self.entries[position].key.slot() as usize] = ABSENT;
        let last = self.entries.pop().expect("a position is that of an entry");
        if position == self.entries.len() {
            return;
        }
        // The last entry may belong above the gap as well as below: it comes from another branch.
        if position > 0 && last.is_before(&self.entries[parent(position)]) {
            self.sift_up(position, last);
        } else {
            self.sift_down(position, last);
        }
    }

    /// Puts an entry at the gap `position`, or above it.
    fn sift_up(&mut self, mut position: usize, entry: Entry) {
        while position > 0 {
            let above = self.entries[parent(position)];
            if !entry.is_before(&above) {
                break;
            }
            self.place(position, above);
            position = parent(position);
        }
        self.place(position, entry);
    }

    /// Puts an entry at the gap `position`, or below it.
    fn sift_down(&mut self, mut position: usize, entry: Entry) {
        while let Some(child) = self.first_child(position) {
            let below = self.entries[child];
            if !below.is_before(&entry) {
                break;
            }
            self.place(position, below);
            position = child;
        }
        self.place(position, entry);
    }

    /// Returns the position of the child that comes before the others.
    #[inline]
    fn first_child(&self, position: usize) -> Option<usize> {
        let start = position * ARITY + 1;
        let children = self.entries.get(start..self.entries.len().min(start + ARITY))?;
        let mut first = 0;
        for (index, child) in children.iter().enumerate().skip(1) {
            if child.is_before(&children[first]) {
                first = index;
            }
        }
        (!children.is_empty()).then_some(start + first)
    }

    #[inline]
    fn place(&mut self, position: usize, entry: Entry) {
        self.entries[position] = entry;
        let position = u32::try_from(position).expect("at most one entry per slot of 24 bits");
        self.positions[entry.key.slot() as usize] = position;
    }
}

#[inline]
fn parent(position: usize) -> usize {
    (position - 1) / ARITY
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Kind;

    fn entry(deadline: u64, slot: u32) -> Entry {
        let key = Key::new(Kind::Timer, slot, 1);
        Entry { deadline: Time::from_nanos(deadline), sequence: u64::from(slot), key }
    }

    #[test]
    fn what_was_never_in_it_cannot_be_removed() {
        let mut heap = Heap::new();
        assert!(!heap.remove(7));
        heap.push(entry(1, 3));
        assert!(!heap.remove(7) && !heap.remove(2));
        assert!(heap.remove(3) && !heap.remove(3));
    }

    fn slots_in_order(heap: &mut Heap) -> Vec<u32> {
        std::iter::from_fn(|| heap.pop_if(|_| true)).map(|entry| entry.key.slot()).collect()
    }

    #[test]
    fn entries_leave_by_deadline_then_by_start() {
        let mut heap = Heap::new();
        for (slot, deadline) in [7, 3, 7, 1, 3, 9, 3, 0].into_iter().enumerate() {
            heap.push(entry(deadline, u32::try_from(slot).expect("small")));
        }
        assert_eq!(slots_in_order(&mut heap), [7, 3, 1, 4, 6, 0, 2, 5]);
    }

    #[test]
    fn an_unwanted_first_entry_stays() {
        let mut heap = Heap::new();
        heap.push(entry(5, 0));
        assert_eq!(heap.pop_if(|entry| entry.deadline < Time::from_nanos(5)), None);
        assert_eq!(heap.first(), Some(&entry(5, 0)));
    }

    #[test]
    fn any_entry_can_be_removed_and_the_order_holds() {
        for removed in 0..64 {
            let mut heap = Heap::new();
            for slot in 0..64 {
                heap.push(entry(u64::from(slot * 37 % 64), slot));
            }
            assert!(heap.remove(removed));
            assert!(!heap.remove(removed));
            let mut expected: Vec<u32> = (0..64).filter(|slot| *slot != removed).collect();
            expected.sort_by_key(|slot| slot * 37 % 64);
            assert_eq!(slots_in_order(&mut heap), expected);
        }
    }

    #[test]
    fn the_last_entry_rises_when_it_fills_a_gap_below_a_later_one() {
        let mut heap = Heap::new();
        // 100 heads the branch at positions 5 to 8, the last entry comes from the branch of 1.
        for (slot, deadline) in [0, 100, 1, 1, 1, 101, 102, 103, 104, 2].into_iter().enumerate() {
            heap.push(entry(deadline, u32::try_from(slot).expect("small")));
        }
        assert!(heap.remove(6));
        assert_eq!(slots_in_order(&mut heap), [0, 2, 3, 4, 9, 1, 5, 7, 8]);
    }
}
