//! Groups whose members are sent the same, from one piece of memory.

use std::time::Duration;

use bytes::Bytes;

use hotloop::{ConnId, Missed, Net, TimerId};

use crate::wire::broadcast;

pub(crate) const GROUPS: usize = 8;
const PERIOD: Duration = Duration::from_millis(50);

/// Who is in which group, how many broadcasts it has had, and its timer.
pub(super) struct Groups([Group; GROUPS]);

#[derive(Default)]
struct Group {
    members: Vec<ConnId>,
    next: u64,
    timer: Option<TimerId>,
}

impl Groups {
    pub(super) fn new() -> Groups {
        Groups(Default::default())
    }

    /// Starts a group's timer, also anew: its token is the group.
    pub(super) fn restart(&mut self, net: &mut Net, group: usize) {
        let timer = net.start_repeating(PERIOD, Missed::Skip, group as u64);
        if let Some(old) = self.0[group].timer.replace(timer) {
            net.cancel_timer(old);
        }
    }

    pub(super) fn stop(&mut self, net: &mut Net) {
        for timer in self.0.iter_mut().filter_map(|group| group.timer.take()) {
            net.cancel_timer(timer);
        }
    }

    pub(super) fn join(&mut self, conn: ConnId, group: usize) {
        self.0[group % GROUPS].members.push(conn);
    }

    pub(super) fn leave(&mut self, conn: ConnId, group: usize) {
        self.0[group % GROUPS].members.retain(|member| *member != conn);
    }

    pub(super) fn next_number(&self, group: usize) -> u64 {
        self.0[group % GROUPS].next
    }

    pub(super) fn members(&self) -> usize {
        self.0.iter().map(|group| group.members.len()).sum()
    }

    /// Makes the next broadcast of a group, and says to whom it goes: a list to be
    /// [given back](Self::give_back).
    pub(super) fn next(&mut self, group: usize, body: &[u8]) -> (Bytes, Vec<ConnId>) {
        let of = &mut self.0[group];
        let number = u32::try_from(group).expect("there are few");
        let frame = broadcast(number, of.next, body);
        of.next += 1;
        (frame, std::mem::take(&mut of.members))
    }

    pub(super) fn give_back(&mut self, group: usize, members: Vec<ConnId>) {
        self.0[group].members = members;
    }
}
