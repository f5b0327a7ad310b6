//! Decisions from bytes.

use std::time::Duration;

/// Takes decisions from bytes; when there are none left, each is 0.
#[derive(Debug, Clone, Default)]
pub struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    pub fn new(input: &'a [u8]) -> Choices<'a> {
        Choices(input)
    }

    pub fn byte(&mut self) -> u8 {
        let Some((byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *byte
    }

    pub fn below(&mut self, bound: usize) -> usize {
        usize::from(u16::from_le_bytes([self.byte(), self.byte()])) % bound
    }

    pub fn is(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    pub fn take(&mut self, most: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(most.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    /// A time of any magnitude below 2 to the power of `bits` nanoseconds; 64 at most.
    pub fn span(&mut self, bits: u8) -> Duration {
        let magnitude = u32::from(self.byte() % (bits + 1));
        let low = u64::from_le_bytes([self.byte(), self.byte(), 0, 0, 0, 0, 0, 0]);
        let most = u64::MAX.checked_shr(64 - magnitude).unwrap_or(0);
        Duration::from_nanos((most - (most >> 1)).saturating_add(low).min(most))
    }
}
