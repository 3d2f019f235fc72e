//! Random choices that can be had again.

use std::time::{SystemTime, UNIX_EPOCH};

/// A source of random numbers (splitmix64).
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// Seeded from `UBLKIT_SEED`, or the clock; the seed is printed.
    pub fn new(what: &str) -> Self {
        let given = std::env::var("UBLKIT_SEED").ok();
        let seed = given.map_or_else(
            || u64::from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos()),
            |text| text.parse().expect("UBLKIT_SEED is a number"),
        );
        println!("seed: {what}: UBLKIT_SEED={seed}");
        Self(seed)
    }

    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// One of 0 to `count` - 1.
    pub fn below(&mut self, count: usize) -> usize {
        usize::try_from(self.number() % count as u64).unwrap()
    }

    pub fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}
