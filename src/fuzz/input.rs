//! [`Input`]: a fuzzer's bytes, taken as numbers.

/// A fuzzer's bytes, taken from the front; zeros once they are used up.
#[derive(Clone, Debug)]
pub(super) struct Input {
    bytes: Vec<u8>,
    next: usize,
}

impl Input {
    pub(super) fn new(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), next: 0 }
    }

    /// Whether all bytes were taken.
    pub(super) fn is_empty(&self) -> bool {
        self.next >= self.bytes.len()
    }

    /// The next `N` bytes.
    pub(super) fn array<const N: usize>(&mut self) -> [u8; N] {
        core::array::from_fn(|_| self.byte())
    }

    pub(super) fn byte(&mut self) -> u8 {
        let byte = self.bytes.get(self.next).copied().unwrap_or(0);
        self.next += 1;
        byte
    }

    pub(super) fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    pub(super) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    pub(super) fn i32(&mut self) -> i32 {
        i32::from_le_bytes(self.array())
    }

    pub(super) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// A number below `of`, which is 1 to 256, out of one byte.
    pub(super) fn below(&mut self, of: usize) -> usize {
        usize::from(self.byte()) % of
    }

    /// One of them.
    pub(super) fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// The next `len` bytes, or as many as there are.
    pub(super) fn take(&mut self, len: usize) -> Vec<u8> {
        let start = self.next.min(self.bytes.len());
        let end = start.saturating_add(len).min(self.bytes.len());
        self.next = end;
        self.bytes[start..end].to_vec()
    }

    /// All that is left.
    pub(super) fn rest(mut self) -> Vec<u8> {
        self.take(usize::MAX)
    }
}
