//! How often each operation was done in each callback: every one has to have been, in every one.

use crate::program::{OPS, Op};

/// Where an operation is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Between,
    Accept,
    Connect,
    Data,
    Writable,
    ReadClosed,
    Close,
    Timer,
    Wake,
    ListenerError,
    TurnStart,
    TurnEnd,
    Release,
}

const PLACES: &[Place] = &[
    Place::Between,
    Place::Accept,
    Place::Connect,
    Place::Data,
    Place::Writable,
    Place::ReadClosed,
    Place::Close,
    Place::Timer,
    Place::Wake,
    Place::ListenerError,
    Place::TurnStart,
    Place::TurnEnd,
    Place::Release,
];

/// The counts of one run, or of many.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts([[u64; OPS.len()]; PLACES.len()]);

impl Counts {
    pub fn add(&mut self, place: Place, op: Op) {
        self.0[place as usize][op.kind()] += 1;
    }

    pub fn merge(&mut self, other: &Counts) {
        let own = self.0.iter_mut().flatten();
        own.zip(other.0.iter().flatten()).for_each(|(sum, count)| *sum += count);
    }

    /// Returns every operation, how often it was done, and where most rarely.
    pub fn rows(&self) -> impl Iterator<Item = (&'static str, u64, Place, u64)> + '_ {
        OPS.iter().enumerate().map(move |(op, name)| {
            let counts = PLACES.iter().map(move |place| (*place, self.0[*place as usize][op]));
            let (place, least) = counts
                .filter(|(place, _)| is_done(*place, name))
                .min_by_key(|(_, count)| *count)
                .expect("there are places");
            (*name, self.0.iter().map(|row| row[op]).sum(), place, least)
        })
    }
}

/// Between turns nobody is there to panic, and a stop would only be resumed.
fn is_done(place: Place, name: &str) -> bool {
    place != Place::Between || !matches!(name, "Panic" | "Stop")
}

#[test]
fn every_place_has_its_own_row() {
    for (index, place) in PLACES.iter().enumerate() {
        assert_eq!(*place as usize, index, "{place:?}");
    }
}
