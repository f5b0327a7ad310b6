//! The run list: who has work that needs no new event, in the order of service.

use crate::id::Key;

/// Connections and listeners. A turn serves those that are on it when its service begins; who
/// comes on meanwhile is served in the next one.
#[derive(Debug, Default)]
pub(crate) struct RunList {
    keys: Vec<Key>,
    /// So many of them have been served. They leave together: to take each from the front would
    /// cost more.
    served: usize,
}

impl RunList {
    /// Puts one at the end.
    #[inline]
    pub(crate) fn push(&mut self, key: Key) {
        self.keys.push(key);
    }

    /// Returns whether nobody waits.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.served == self.keys.len()
    }

    /// Begins a round; returns how many wait, and forgets who was served. That is done here
    /// because a round that a panic has cut off has no end.
    #[inline]
    pub(crate) fn begin_round(&mut self) -> usize {
        self.keys.drain(..self.served);
        self.served = 0;
        self.keys.len()
    }

    /// Takes the next one.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<Key> {
        let key = self.keys.get(self.served).copied();
        self.served += usize::from(key.is_some());
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Kind;

    fn keys() -> [Key; 4] {
        [0, 1, 2, 3].map(|slot| Key::new(Kind::Conn, slot, 1))
    }

    #[test]
    fn each_is_taken_once_in_order_and_who_comes_meanwhile_stays() {
        let [first, second, third, last] = keys();
        let mut list = RunList::default();
        list.push(first);
        list.push(second);
        assert_eq!((list.begin_round(), list.next()), (2, Some(first)));
        list.push(third);
        assert_eq!((list.next(), list.is_empty()), (Some(second), false));
        assert_eq!(list.begin_round(), 1);
        list.push(last);
        assert_eq!((list.next(), list.next(), list.is_empty()), (Some(third), Some(last), true));
        assert_eq!((list.next(), list.begin_round(), list.next()), (None, 0, None));
    }

    #[test]
    fn rounds_that_are_cut_off_do_not_make_it_longer() {
        let [first, second, ..] = keys();
        let mut list = RunList::default();
        list.push(first);
        for _ in 0..1_000 {
            list.push(second);
            assert_eq!(list.begin_round(), 2);
            assert!(list.next().is_some());
        }
        assert_eq!(list.keys.len(), 2);
    }
}
