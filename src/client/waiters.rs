//! Requests that wait for a connection, each with the connect that was begun for it.

use std::collections::VecDeque;

use crate::id::ConnId;

#[derive(Debug)]
struct Waiter<T> {
    request: T,
    /// The connect that was begun for it, while it runs.
    connect: Option<ConnId>,
}

/// The requests that wait, in the order of asking. What a connect comes to is for the one that it
/// was begun for; every other connection goes to the first.
#[derive(Debug)]
pub(super) struct Waiters<T> {
    queue: VecDeque<Waiter<T>>,
}

impl<T> Waiters<T> {
    pub(super) fn new() -> Waiters<T> {
        Waiters { queue: VecDeque::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn push(&mut self, request: T) {
        self.queue.push_back(Waiter { request, connect: None });
    }

    /// Takes out the first one, for a connection that was there. A connect that was begun for it
    /// runs on for nobody.
    pub(super) fn pop(&mut self) -> Option<T> {
        self.queue.pop_front().map(|waiter| waiter.request)
    }

    /// Notes that a connect was begun: for the first one that has none.
    pub(super) fn begun(&mut self, conn: ConnId) {
        if let Some(waiter) = self.queue.iter_mut().find(|waiter| waiter.connect.is_none()) {
            waiter.connect = Some(conn);
        }
    }

    /// Takes out the one whose connect is done, or the first one if that waits no more.
    pub(super) fn opened(&mut self, conn: ConnId) -> Option<T> {
        self.remove(|waiter| waiter.connect == Some(conn)).or_else(|| self.pop())
    }

    /// Takes out the one whose connect has failed, if it still waits.
    pub(super) fn failed(&mut self, conn: ConnId) -> Option<T> {
        self.remove(|waiter| waiter.connect == Some(conn))
    }

    /// Takes out the first one of which this is true.
    pub(super) fn cancel(&mut self, mut is_it: impl FnMut(&T) -> bool) -> Option<T> {
        self.remove(|waiter| is_it(&waiter.request))
    }

    /// Takes out all.
    pub(super) fn clear(&mut self) -> impl Iterator<Item = T> + use<T> {
        std::mem::take(&mut self.queue).into_iter().map(|waiter| waiter.request)
    }

    fn remove(&mut self, is_it: impl FnMut(&Waiter<T>) -> bool) -> Option<T> {
        let at = self.queue.iter().position(is_it)?;
        self.queue.remove(at).map(|waiter| waiter.request)
    }
}
