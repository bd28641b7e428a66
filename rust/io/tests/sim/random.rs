//! Numbers that one seed determines.

use std::{ops::Range, time::Duration};

/// SplitMix64 (Steele, Lea, Flood 2014): one word of state, good enough for dice, the same on every machine.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Different labels of one seed give independent sequences, so that one part of the simulation can roll more dice without
    /// changing the others'.
    pub fn new(seed: u64, label: &str) -> Self {
        let mut random = Self(seed);
        for byte in label.bytes() {
            random.0 = random.next() ^ u64::from(byte);
        }
        random
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.below(range.end - range.start)
    }

    pub fn millis(&mut self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.within(range))
    }

    pub fn chance(&mut self, probability: f64) -> bool {
        // 53 bits are what a double holds.
        ((self.next() >> 11) as f64) < probability * (1_u64 << 53) as f64
    }

    pub fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    pub fn seed(&mut self) -> [u8; 32] {
        let mut seed = [0; 32];
        for word in seed.chunks_mut(8) {
            word.copy_from_slice(&self.next().to_le_bytes());
        }
        seed
    }
}

/// The finalizer of SplitMix64: every bit of the input changes half of the output.
pub fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// The bytes of content `number` from `offset` on: any place of any content can be told without what is before it.
pub fn fill(number: u64, offset: u64, bytes: &mut [u8]) {
    let mut word = [0; 8];
    for (index, byte) in bytes.iter_mut().enumerate() {
        let at = offset + index as u64;
        if index == 0 || at.is_multiple_of(8) {
            word = mix(number.rotate_left(32) ^ (at / 8)).to_le_bytes();
        }
        *byte = word[(at % 8) as usize];
    }
}

/// Where `bytes` first differ from content `number` at `offset`.
pub fn difference(number: u64, offset: u64, bytes: &[u8]) -> Option<u64> {
    let mut expected = vec![0; bytes.len()];
    fill(number, offset, &mut expected);
    let index = bytes.iter().zip(&expected).position(|(is, should)| is != should)?;
    Some(offset + index as u64)
}
