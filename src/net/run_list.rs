//! The run list: who has work that needs no new event, in the order of service.

use crate::id::Key;

/// Connections and listeners. A turn serves those that are on it when its service begins; who
/// comes on meanwhile is served in the next one.
#[derive(Debug, Default)]
pub(crate) struct RunList {
    keys: Vec<Key>,
    /// So many of them have been served. They leave together when all are: to take each from the
    /// front would cost more.
    served: usize,
}

impl RunList {
    /// Puts one at the end.
    #[inline]
    pub(crate) fn push(&mut self, key: Key) {
        self.keys.push(key);
    }

    /// Returns how many wait.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.keys.len() - self.served
    }

    /// Takes the next one.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<Key> {
        let key = self.keys.get(self.served).copied();
        self.served += usize::from(key.is_some());
        key
    }

    /// Makes room of those that were served.
    #[inline]
    pub(crate) fn forget_served(&mut self) {
        self.keys.drain(..self.served);
        self.served = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Kind;

    #[test]
    fn each_is_taken_once_in_order_and_who_comes_meanwhile_stays() {
        let keys: Vec<Key> = (0..4).map(|slot| Key::new(Kind::Conn, slot, 1)).collect();
        let mut list = RunList::default();
        list.push(keys[0]);
        list.push(keys[1]);
        assert_eq!((list.len(), list.next()), (2, Some(keys[0])));
        list.push(keys[2]);
        assert_eq!((list.next(), list.len()), (Some(keys[1]), 1));
        list.forget_served();
        list.push(keys[3]);
        assert_eq!((list.len(), list.next(), list.next()), (2, Some(keys[2]), Some(keys[3])));
        assert_eq!((list.next(), list.len()), (None, 0));
        list.forget_served();
        assert_eq!((list.next(), list.len()), (None, 0));
    }
}
