//! The queue of what is going to happen: by time, and at one time in the order it was planned.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use slab::Slab;

use crate::time::Time;

/// Things that are going to happen.
#[derive(Debug)]
pub(super) struct Queue<T> {
    /// When, in which order, and where in `plans`: small, because a heap moves its entries a lot.
    heap: BinaryHeap<Reverse<(Time, u64, usize)>>,
    plans: Slab<T>,
    next_sequence: u64,
}

impl<T> Queue<T> {
    pub(super) fn new() -> Queue<T> {
        Queue { heap: BinaryHeap::new(), plans: Slab::new(), next_sequence: 0 }
    }

    pub(super) fn plan(&mut self, at: Time, what: T) {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.heap.push(Reverse((at, sequence, self.plans.insert(what))));
    }

    /// Returns when the next thing happens.
    pub(super) fn next_at(&self) -> Option<Time> {
        self.heap.peek().map(|Reverse((at, _, _))| *at)
    }

    /// Takes the next thing.
    pub(super) fn pop(&mut self) -> Option<(Time, T)> {
        self.heap.pop().map(|Reverse((at, _, plan))| (at, self.plans.remove(plan)))
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
