//! What operators ask of a connection beside its bytes, in 16 bytes of its record.

use std::time::Duration;

use crate::time::Time;

/// Rare counts, which saturate, and the moment the id was handed out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tally {
    cost_max: u32,
    /// The upper 48 bits of that moment's nanoseconds: all times there are, 66 µs apart.
    born_low: u32,
    born_high: u16,
    pressures: u16,
    refused_writes: u16,
    pauses: u16,
}

/// Nanoseconds below this bit are not kept.
const BORN_SHIFT: u32 = 16;

impl Tally {
    #[allow(clippy::expect_used, reason = "both are masked or shifted to their width")]
    pub(crate) fn new(now: Time) -> Tally {
        let born = now.as_nanos() >> BORN_SHIFT;
        let (low, high) = (born & u64::from(u32::MAX), born >> u32::BITS);
        Tally {
            cost_max: 0,
            born_low: u32::try_from(low).expect("32 bits"),
            born_high: u16::try_from(high).expect("48 bits are left, less 32"),
            pressures: 0,
            refused_writes: 0,
            pauses: 0,
        }
    }

    /// Notes what the queue costs.
    #[inline]
    pub(crate) fn queued(&mut self, cost: usize) {
        self.cost_max = self.cost_max.max(u32::try_from(cost).unwrap_or(u32::MAX));
    }

    /// Notes that pressure began.
    pub(crate) fn pressed(&mut self) {
        self.pressures = self.pressures.saturating_add(1);
    }

    /// Notes a write that was refused.
    pub(crate) fn refused(&mut self) {
        self.refused_writes = self.refused_writes.saturating_add(1);
    }

    /// Notes that reading was paused.
    pub(crate) fn paused(&mut self) {
        self.pauses = self.pauses.saturating_add(1);
    }

    pub(crate) fn queued_cost_max(&self) -> usize {
        usize::try_from(self.cost_max).unwrap_or(usize::MAX)
    }

    pub(crate) fn pressures(&self) -> u32 {
        self.pressures.into()
    }

    pub(crate) fn refused_writes(&self) -> u32 {
        self.refused_writes.into()
    }

    pub(crate) fn pauses(&self) -> u32 {
        self.pauses.into()
    }

    /// Returns the time since the id was handed out, less than 66 µs too long.
    pub(crate) fn age(&self, now: Time) -> Duration {
        let born = u64::from(self.born_high) << u32::BITS | u64::from(self.born_low);
        now.since(Time::from_nanos(born << BORN_SHIFT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_costs_sixteen_bytes() {
        assert_eq!(size_of::<Tally>(), 16);
    }

    #[test]
    fn counts_saturate() {
        let mut tally = Tally::new(Time::default());
        for _ in 0..70_000 {
            tally.pressed();
            tally.refused();
            tally.paused();
        }
        let counts = (tally.pressures(), tally.refused_writes(), tally.pauses());
        assert_eq!(counts, (65_535, 65_535, 65_535));
        tally.queued(usize::MAX);
        tally.queued(5);
        assert_eq!(tally.queued_cost_max(), 0xffff_ffff);
    }

    #[test]
    fn ages_are_right_to_66_microseconds_at_any_uptime() {
        for born in [0, 1, 0xffff, 1 << 48, (1 << 48) - 1, u64::MAX - 2_000_000_000] {
            for age in [0, 1, 1_000_000_000] {
                let age = Duration::from_nanos(age);
                let born = Time::from_nanos(born);
                let told = Tally::new(born).age(born + age);
                assert!(told >= age && told - age < Duration::from_micros(66), "{born}: {told:?}");
            }
        }
    }
}
