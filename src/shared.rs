//! [`SharedBuffer`]: memory that clients and the server of a device can share.
#![expect(unsafe_code, reason = "maps a memory file; docs/safety.md, island `shared`")]

use crate::errno::Errno;
use crate::memory::page_bytes;
use core::ptr::NonNull;
use rustix::fs::MemfdFlags;
use rustix::mm::{MapFlags, ProtFlags};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// A memory file and its mapping here, to be registered with a device that was made with
/// [`SHMEM_ZC`](crate::Features::SHMEM_ZC): a client that maps the same file and does direct I/O
/// from it needs no copy.
///
/// The memory is never seen as a slice: clients change it at any time.
#[derive(Debug)]
pub struct SharedBuffer {
    file: OwnedFd,
    mapping: Arc<SharedMapping>,
}

/// The mapping of a [`SharedBuffer`]. A registration that was given up keeps it, for the kernel may
/// still look the address up.
#[derive(Debug)]
pub(crate) struct SharedMapping {
    base: NonNull<u8>,
    len_bytes: usize,
}

// SAFETY: the mapping belongs to the process; this type hands out its address as a number only.
unsafe impl Send for SharedMapping {}
// SAFETY: as above.
unsafe impl Sync for SharedMapping {}

impl SharedBuffer {
    /// A zeroed buffer of `len_bytes`, rounded up to whole pages.
    ///
    /// # Errors
    ///
    /// Those of `memfd_create`, `ftruncate` and `mmap`; `EINVAL` for a length of 0.
    pub fn new(len_bytes: usize) -> Result<Self, Errno> {
        let len_bytes = len_bytes.checked_next_multiple_of(page_bytes()).ok_or(Errno::ENOMEM)?;
        let file = rustix::fs::memfd_create(c"ublkit-shared", MemfdFlags::CLOEXEC)?;
        rustix::fs::ftruncate(&file, len_bytes as u64)?;
        // SAFETY: a new mapping at an address that the kernel chooses disturbs no other memory.
        let base = unsafe {
            rustix::mm::mmap(
                core::ptr::null_mut(),
                len_bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                &file,
                0,
            )
        }?;
        let base = NonNull::new(base.cast()).ok_or(Errno::EFAULT)?;
        Ok(Self { file, mapping: Arc::new(SharedMapping { base, len_bytes }) })
    }

    /// Its length in bytes, whole pages.
    pub fn len_bytes(&self) -> usize {
        self.mapping.len_bytes
    }

    pub(crate) fn address(&self) -> u64 {
        self.mapping.base.as_ptr().expose_provenance() as u64
    }

    pub(crate) fn mapping(&self) -> Arc<SharedMapping> {
        Arc::clone(&self.mapping)
    }
}

impl AsFd for SharedBuffer {
    /// The memory file, for clients to map.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for SharedMapping {
    fn drop(&mut self) {
        // SAFETY: our own mapping, unmapped once. A registration pins pages, not addresses.
        let unmapped = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len_bytes) };
        debug_assert!(unmapped.is_ok(), "munmap of our own mapping: {unmapped:?}");
    }
}
