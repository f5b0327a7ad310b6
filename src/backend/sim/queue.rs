//! The queue of what is going to happen: by time, and at one time in the order it was planned.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::time::Time;

/// Things that are going to happen.
#[derive(Debug)]
pub(super) struct Queue<T> {
    heap: BinaryHeap<Reverse<Planned<T>>>,
    next_sequence: u64,
}

#[derive(Debug)]
struct Planned<T> {
    at: Time,
    sequence: u64,
    what: T,
}

impl<T> Queue<T> {
    pub(super) fn new() -> Queue<T> {
        Queue { heap: BinaryHeap::new(), next_sequence: 0 }
    }

    pub(super) fn plan(&mut self, at: Time, what: T) {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.heap.push(Reverse(Planned { at, sequence, what }));
    }

    /// Returns when the next thing happens.
    pub(super) fn next_at(&self) -> Option<Time> {
        self.heap.peek().map(|Reverse(next)| next.at)
    }

    /// Takes the next thing.
    pub(super) fn pop(&mut self) -> Option<(Time, T)> {
        self.heap.pop().map(|Reverse(next)| (next.at, next.what))
    }
}

impl<T> Planned<T> {
    fn order(&self) -> (Time, u64) {
        (self.at, self.sequence)
    }
}

impl<T> PartialEq for Planned<T> {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl<T> Eq for Planned<T> {}

impl<T> PartialOrd for Planned<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Planned<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order().cmp(&other.order())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_planned_for_one_moment_happens_in_order() {
        let mut queue = Queue::new();
        let at = Time::from_nanos;
        for (time, what) in [(5, 'c'), (1, 'a'), (5, 'd'), (1, 'b'), (9, 'e')] {
            queue.plan(at(time), what);
        }
        assert_eq!(queue.next_at(), Some(at(1)));
        let order: String = std::iter::from_fn(|| queue.pop()).map(|(_, what)| what).collect();
        assert_eq!(order, "abcde");
        assert_eq!(queue.next_at(), None);
    }
}
