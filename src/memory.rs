//! [`Pages`]: private memory that the kernel may be told to use.
#![expect(unsafe_code, reason = "owns an anonymous mapping; docs/safety.md, island `memory`")]

use crate::errno::Errno;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use rustix::mm::{Advice, MapFlags, ProtFlags};

/// The size of a page here: asked, not assumed.
pub(crate) fn page_bytes() -> usize {
    static CACHED: AtomicUsize = AtomicUsize::new(0);
    match CACHED.load(Ordering::Relaxed) {
        0 => {
            let asked = rustix::param::page_size();
            CACHED.store(asked, Ordering::Relaxed);
            asked
        }
        cached => cached,
    }
}

/// An anonymous mapping: zeroed, page aligned, costs memory only where it was touched.
///
/// It hands out a raw pointer and never a reference, and is unmapped when dropped. Whoever lets the
/// kernel use it drops it only after the kernel has finished, or never.
#[derive(Debug)]
pub(crate) struct Pages {
    base: NonNull<u8>,
    len_bytes: usize,
}

// SAFETY: the mapping belongs to the process; this type hands out addresses and touches nothing.
unsafe impl Send for Pages {}
// SAFETY: as above.
unsafe impl Sync for Pages {}

impl Pages {
    /// Maps at least `len_bytes`, rounded up to whole pages; one page when that is 0.
    ///
    /// Small pages only: a huge page would make memory of a single touched byte, and copying one
    /// together later would stall the I/O path. A forked child does not inherit it.
    pub(crate) fn new(len_bytes: usize) -> Result<Self, Errno> {
        let len_bytes =
            len_bytes.max(1).checked_next_multiple_of(page_bytes()).ok_or(Errno::ENOMEM)?;
        // SAFETY: a new mapping at an address that the kernel chooses disturbs no other memory.
        let base = unsafe {
            rustix::mm::mmap_anonymous(
                core::ptr::null_mut(),
                len_bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )
        }?;
        let pages = Self { base: NonNull::new(base.cast()).ok_or(Errno::EFAULT)?, len_bytes };
        // A kernel without huge pages answers EINVAL, and needs no such advice.
        let _ = pages.advise(0, len_bytes, Advice::LinuxNoHugepage);
        pages.advise(0, len_bytes, Advice::LinuxDontFork)?;
        Ok(pages)
    }

    /// How long it is, in whole pages.
    pub(crate) fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// The place of `len_bytes` from `offset` on: valid, readable and writable while `self` lives.
    ///
    /// # Panics
    ///
    /// When that is not inside the mapping: a defect of the caller.
    #[inline]
    pub(crate) fn at(&self, offset: usize, len_bytes: usize) -> NonNull<u8> {
        let end = offset.checked_add(len_bytes);
        assert!(end.is_some_and(|end| end <= self.len_bytes), "outside of the mapping");
        // SAFETY: inside our own mapping, as just checked.
        unsafe { self.base.byte_add(offset) }
    }

    /// Has the page at `offset` be there from here on, and stay if the process may lock it.
    ///
    /// # Panics
    ///
    /// When it is not inside the mapping: a defect of the caller.
    pub(crate) fn hold_page(&self, offset: usize) {
        let page = self.at(offset, 1).as_ptr();
        // SAFETY: inside our own mapping; a lock changes no contents.
        let _ = unsafe { rustix::mm::mlock(page.cast(), 1) };
        // SAFETY: as above. Atomic, for others may use it.
        unsafe { AtomicU8::from_ptr(page) }.fetch_or(0, Ordering::Relaxed);
    }

    /// Gives the memory of whole pages back; they read as zeros afterwards.
    ///
    /// # Panics
    ///
    /// When the range is not one of whole pages inside the mapping: a defect of the caller.
    pub(crate) fn release(&self, offset: usize, len_bytes: usize) -> Result<(), Errno> {
        assert!(offset.is_multiple_of(page_bytes()) && len_bytes.is_multiple_of(page_bytes()));
        if len_bytes == 0 {
            return Ok(());
        }
        self.advise(offset, len_bytes, Advice::LinuxDontNeed)
    }

    fn advise(&self, offset: usize, len_bytes: usize, advice: Advice) -> Result<(), Errno> {
        let start = self.at(offset, len_bytes).as_ptr().cast();
        // SAFETY: the range lies in our own mapping. The advices used here change no address;
        // DontNeed turns private anonymous pages to zeros, which every reader of this memory must
        // expect, for it reads through pointers and atomics only.
        Ok(unsafe { rustix::mm::madvise(start, len_bytes, advice) }?)
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: our own mapping, unmapped once; the owner promised that nobody uses it any more.
        let unmapped = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len_bytes) };
        debug_assert!(unmapped.is_ok(), "munmap of our own mapping: {unmapped:?}");
    }
}

/// How much of the process's memory from `address` on is mapped.
#[cfg(test)]
pub(crate) fn mapped_bytes(address: u64, len_bytes: u64) -> u64 {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let inside = |line: &str| {
        let (start, rest) = line.split_once('-').unwrap();
        let end = rest.split(' ').next().unwrap();
        let hex = |digits| u64::from_str_radix(digits, 16).unwrap();
        hex(end).min(address + len_bytes).saturating_sub(hex(start).max(address))
    };
    maps.lines().map(inside).sum()
}
