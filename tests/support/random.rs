//! The chance of the programs: SplitMix64, of its own, so that a seed makes the same program
//! whatever the simulator draws.
#![allow(dead_code, unreachable_pub, reason = "each of the binaries it is in uses a part")]
#![allow(clippy::cast_possible_truncation, reason = "what is drawn is below a bound that fits")]

pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed ^ 0x5bd1_e995_97f4_a7c5)
    }

    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.draw()) * u128::from(bound)) >> 64) as u64
    }

    /// Draws a size up to a bound: small ones as often as large ones.
    pub fn size(&mut self, most: usize) -> usize {
        let bits = u64::from(most.max(1).ilog2()) + 1;
        let bound = (1_u64 << (1 + self.below(bits))).min(most as u64 + 1);
        self.below(bound) as usize
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The bytes of a stream, from a place on: of its own for every stream, so that nothing that is
/// moved, lost or repeated fits.
pub struct Pattern {
    stream: u64,
    offset: u64,
}

impl Pattern {
    pub fn new(stream: u64, offset: u64) -> Pattern {
        Pattern { stream: stream.wrapping_mul(0x9e37_79b9_7f4a_7c15), offset }
    }

    fn word(&self, place: u64) -> [u8; 8] {
        mix(self.stream ^ place).to_le_bytes()
    }

    pub fn matches(&self, data: &[u8]) -> bool {
        bytes(self, data.len()) == data
    }
}

fn bytes(pattern: &Pattern, len: usize) -> Vec<u8> {
    let skipped = (pattern.offset & 7) as usize;
    let words = (skipped + len).div_ceil(8) as u64;
    let first = pattern.offset >> 3;
    let mut bytes: Vec<u8> = (first..first + words).flat_map(|at| pattern.word(at)).collect();
    bytes.truncate(skipped + len);
    bytes.drain(..skipped);
    bytes
}

/// So many bytes of a stream, from a place on.
pub fn bytes_of(stream: u64, from: u64, len: usize) -> Vec<u8> {
    bytes(&Pattern::new(stream, from), len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_stream_is_the_same_wherever_it_is_cut() {
        let whole = bytes_of(7, 0, 100);
        for from in 0..100 {
            for len in 0..=100 - from {
                assert_eq!(bytes_of(7, from as u64, len), &whole[from..from + len]);
            }
        }
        assert_ne!(bytes_of(8, 0, 100), whole);
        assert!(!Pattern::new(7, 1).matches(&whole[..8]), "moved by one");
    }
}
