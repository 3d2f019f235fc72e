//! [`Mapped`]: indices and slots in memory that is shared with the kernel.
#![expect(unsafe_code, reason = "shared memory is reached by pointer; docs/safety.md, `ring`")]

use super::spsc::{Index, Slots};
use super::{RingError, broken};
use crate::kernel::Memory;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::sync::Arc;

/// Values of `T` in a mapping: a power of two of them, at least one. Keeps the mapping alive.
#[derive(Debug)]
pub(crate) struct Mapped<T> {
    first: NonNull<T>,
    count: u32,
    _memory: Arc<dyn Memory>,
}

// SAFETY: the pointer leads into a mapping that the value keeps alive and that belongs to the
// process; what may be done with it is the same in every thread.
unsafe impl<T: Send> Send for Mapped<T> {}

impl<T> Mapped<T> {
    /// Finds them by the offset that the kernel gave.
    pub(super) fn locate<M: Memory>(
        memory: &Arc<M>,
        offset_bytes: u32,
        count: u32,
    ) -> Result<Self, RingError> {
        if !count.is_power_of_two() {
            return Err(RingError::Impossible(broken::ODD_LEN));
        }
        let first = memory
            .place(offset_bytes as usize, count as usize)
            .ok_or(RingError::Impossible(broken::OUTSIDE))?;
        Ok(Self { first, count, _memory: Arc::clone(memory) as _ })
    }

    #[inline]
    fn at(&self, slot: u32) -> *mut T {
        debug_assert!(slot < self.count);
        self.first.as_ptr().wrapping_add(slot as usize)
    }
}

impl<T: Copy> Mapped<T> {
    /// Puts one of them in.
    ///
    /// # Safety
    ///
    /// `slot` is one of them, and nobody else reads or writes it meanwhile.
    pub(super) unsafe fn put(&self, slot: u32, value: T) {
        // SAFETY: as the caller promises.
        unsafe { Slots::write(self, slot, value) };
    }
}

impl Mapped<AtomicU16> {
    /// Lets the kernel see all that was written before.
    #[inline]
    pub(super) fn publish(&self, index: u16) {
        // SAFETY: located, aligned, alive with the mapping; both sides use it as an atomic only.
        unsafe { self.first.as_ref() }.store(index, Ordering::Release);
    }
}

impl Index for Mapped<AtomicU32> {
    #[inline]
    fn load(&self, ordering: Ordering) -> u32 {
        // SAFETY: located, aligned, alive with the mapping; both sides use it as an atomic only.
        unsafe { self.first.as_ref() }.load(ordering)
    }

    #[inline]
    fn store(&self, index: u32, ordering: Ordering) {
        // SAFETY: as in `load`.
        unsafe { self.first.as_ref() }.store(index, ordering);
    }
}

// SAFETY: `locate` checked the length, and nothing changes it.
unsafe impl<T: Copy> Slots for Mapped<T> {
    type Value = T;

    #[inline]
    fn len(&self) -> u32 {
        self.count
    }

    #[inline]
    unsafe fn read(&self, slot: u32) -> T {
        // SAFETY: inside the located array, as the caller promises. Volatile, for a kernel that
        // writes it all the same must not break ours.
        unsafe { self.at(slot).read_volatile() }
    }

    #[inline]
    unsafe fn write(&self, slot: u32, value: T) {
        // SAFETY: inside the located array and ours alone, as the caller promises.
        unsafe { self.at(slot).write(value) };
    }
}
