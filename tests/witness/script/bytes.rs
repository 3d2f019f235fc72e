//! Memory that is lent to a kernel, for as long as the program runs.

use super::build::PAGE_BYTES;
use std::sync::atomic::{AtomicU8, Ordering};

/// Bytes that a kernel reads and writes while we look. Never freed: a ring is torn down some time
/// after it was closed, and until then its commands may write.
#[derive(Clone, Copy, Debug)]
pub struct Bytes(&'static [AtomicU8]);

impl Bytes {
    pub fn new(len: usize, byte: u8) -> Self {
        let bytes: Box<[AtomicU8]> = (0..len).map(|_| AtomicU8::new(byte)).collect();
        Self(Box::leak(bytes))
    }

    /// The same, from a page on.
    pub fn pages(len: usize, byte: u8) -> Self {
        let Self(all) = Self::new(len + PAGE_BYTES, byte);
        let before = all.as_ptr().addr().wrapping_neg() % PAGE_BYTES;
        Self(&all[before..][..len])
    }

    pub fn from(bytes: &[u8]) -> Self {
        let lent = Self::new(bytes.len(), 0);
        lent.write(0, bytes);
        lent
    }

    pub fn address(self) -> u64 {
        self.0.as_ptr().expose_provenance() as u64
    }

    pub fn len(self) -> usize {
        self.0.len()
    }

    pub fn fill(self, byte: u8) {
        self.0.iter().for_each(|place| place.store(byte, Ordering::Relaxed));
    }

    pub fn write(self, at: usize, bytes: &[u8]) {
        self.0[at..].iter().zip(bytes).for_each(|(place, b)| place.store(*b, Ordering::Relaxed));
    }

    pub fn read(self, len: usize) -> Vec<u8> {
        self.0.iter().take(len).map(|place| place.load(Ordering::Relaxed)).collect()
    }
}

/// Bytes as runs: `512*a5 3584*00`.
pub fn runs(bytes: &[u8]) -> String {
    let runs = bytes.chunk_by(|one, next| one == next);
    let runs: Vec<String> = runs.map(|run| format!("{}*{:02x}", run.len(), run[0])).collect();
    if runs.is_empty() { "nothing".into() } else { runs.join(" ") }
}
