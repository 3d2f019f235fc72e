//! [`Source`] and [`Destination`]: memory that one call of the kernel reads or fills.
#![expect(unsafe_code, reason = "addresses for system calls; docs/safety.md, island `kernel`")]

use core::marker::PhantomData;
use core::ptr::NonNull;

/// Memory that a kernel may read while a call lasts.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    start: NonNull<u8>,
    len_bytes: usize,
    _memory: PhantomData<&'a [u8]>,
}

/// Memory that a kernel may write while a call lasts.
#[derive(Debug)]
pub struct Destination<'a> {
    start: NonNull<u8>,
    len_bytes: usize,
    _memory: PhantomData<&'a mut [u8]>,
}

impl<'a> From<&'a [u8]> for Source<'a> {
    fn from(data: &'a [u8]) -> Self {
        let start = NonNull::from(data).cast();
        Self { start, len_bytes: data.len(), _memory: PhantomData }
    }
}

impl<'a> From<&'a mut [u8]> for Destination<'a> {
    fn from(data: &'a mut [u8]) -> Self {
        let (len_bytes, start) = (data.len(), NonNull::from(data).cast());
        Self { start, len_bytes, _memory: PhantomData }
    }
}

impl Source<'_> {
    /// Memory that is no slice.
    ///
    /// # Safety
    ///
    /// It is valid for reads through `'a`; what races with them is atomic.
    pub(crate) unsafe fn new(start: NonNull<u8>, len_bytes: usize) -> Self {
        Self { start, len_bytes, _memory: PhantomData }
    }

    /// Where it begins.
    pub fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// How long it is.
    pub fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// What is left of it behind its first `bytes`.
    ///
    /// # Panics
    ///
    /// When it is not that long.
    #[must_use]
    pub fn after(self, bytes: usize) -> Self {
        assert!(bytes <= self.len_bytes, "more than there is");
        // SAFETY: inside, as just checked.
        let start = unsafe { self.start.byte_add(bytes) };
        Self { start, len_bytes: self.len_bytes - bytes, ..self }
    }
}

impl Destination<'_> {
    /// Memory that is no slice.
    ///
    /// # Safety
    ///
    /// It is valid for writes through `'a`; what races with them is atomic.
    pub(crate) unsafe fn new(start: NonNull<u8>, len_bytes: usize) -> Self {
        Self { start, len_bytes, _memory: PhantomData }
    }

    /// Where it begins.
    pub fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// How long it is.
    pub fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// What is left of it behind its first `bytes`.
    ///
    /// # Panics
    ///
    /// When it is not that long.
    #[must_use]
    pub fn after(self, bytes: usize) -> Self {
        assert!(bytes <= self.len_bytes, "more than there is");
        // SAFETY: inside, as just checked.
        let start = unsafe { self.start.byte_add(bytes) };
        Self { start, len_bytes: self.len_bytes - bytes, ..self }
    }

    /// The same memory, for a call that ends before this is used again.
    #[must_use]
    pub fn again(&mut self) -> Destination<'_> {
        Destination { start: self.start, len_bytes: self.len_bytes, _memory: PhantomData }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_begins_behind() {
        let data = [1_u8, 2, 3, 4];
        let source = Source::from(&data[..]);
        let rest = source.after(1);
        assert_eq!(rest.len_bytes(), 3);
        assert_eq!(rest.start().as_ptr().cast_const(), &raw const data[1]);
        assert_eq!(rest.after(3).len_bytes(), 0);
    }

    #[test]
    #[should_panic(expected = "more than there is")]
    fn nothing_lies_behind_the_end() {
        let _ = Destination::from(&mut [0_u8; 4][..]).after(5);
    }
}
