//! Looks at memory that the server shares with the kernel, as the kernel does: rings, descriptors,
//! and what commands name by address.
#![expect(unsafe_code, reason = "reads what is said to the kernel; docs/safety.md, island `trace`")]

use crate::kernel::Memory;
use core::ptr::{NonNull, from_mut, from_ref};
use core::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;
use ublkit_sys::abi::Abi;

/// The most that is read by address: the largest request there can be.
const MOST_BYTES: u64 = 32 << 20;

/// A mapping that is listened to. Only the server keeps it alive.
#[derive(Debug)]
pub struct Mapping<M>(pub(super) Arc<M>);

// SAFETY: what is inside keeps these promises, and lives as long as this.
unsafe impl<M: Memory> Memory for Mapping<M> {
    fn base(&self) -> NonNull<u8> {
        self.0.base()
    }

    fn len_bytes(&self) -> usize {
        self.0.len_bytes()
    }
}

/// An index of a ring; what came before it was stored is seen.
pub(super) fn index<M: Memory>(memory: &M, offset_bytes: u32) -> Option<u32> {
    let place = memory.place::<AtomicU32>(offset_bytes as usize, 1)?;
    // SAFETY: inside the mapping and aligned (`place`), which is borrowed for as long. Both sides
    // of a ring only ever use its indices atomically.
    Some(unsafe { place.as_ref() }.load(Ordering::Acquire))
}

/// A copy of an entry or a descriptor, which its writer has said to be there.
pub(super) fn copy<T: Abi, M: Memory>(memory: &M, offset_bytes: usize) -> Option<T> {
    let place = memory.place::<T>(offset_bytes, 1)?;
    // SAFETY: inside the mapping and aligned (`place`), which is borrowed for as long. Any bits
    // make a T (it is Abi); volatile, for whoever writes it may break its rules.
    Some(unsafe { place.read_volatile() })
}

/// A copy of the memory that a command names, from its submission to its completion. `None` where
/// there is no such memory, or the kernel does not let a process read its own that way.
pub(super) fn at_address(address: u64, len_bytes: u64) -> Option<Vec<u8>> {
    if address == 0 || len_bytes > MOST_BYTES {
        return None;
    }
    let mut data = vec![0; usize::try_from(len_bytes).ok()?];
    if data.is_empty() {
        return Some(data);
    }
    let base = core::ptr::with_exposed_provenance_mut(usize::try_from(address).ok()?);
    let local = libc::iovec { iov_base: from_mut(&mut data[..]).cast(), iov_len: data.len() };
    let remote = libc::iovec { iov_base: base, iov_len: data.len() };
    let pid = std::process::id().cast_signed();
    // SAFETY: `local` is all of `data`. `remote` is not trusted: the kernel checks it page by page
    // and copies what can be read. That nobody writes there is the promise of whoever submitted the
    // address (`ring::Address`): until the command has ended, the memory is the kernel's.
    let copied =
        unsafe { libc::process_vm_readv(pid, from_ref(&local), 1, from_ref(&remote), 1, 0) };
    (usize::try_from(copied) == Ok(data.len())).then_some(data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Pages, page_bytes};

    #[test]
    fn memory_is_read_where_there_is_some() {
        let data: Vec<u8> = (0..=255).collect();
        let address = data.as_ptr().expose_provenance() as u64;
        assert_eq!(at_address(address, 256).as_deref(), Some(&data[..]));
        assert_eq!(at_address(address + 255, 1), Some(vec![255]));
        assert_eq!(at_address(address, 0), Some(Vec::new()));
        for bad in [0, 1, 4096, u64::MAX, u64::MAX - 4095] {
            assert_eq!(at_address(bad, 8), None, "{bad:#x}");
        }
        assert_eq!(at_address(address, u64::MAX), None);
        let pages = Pages::new(1).unwrap();
        let start = pages.at(0, 1).as_ptr().expose_provenance() as u64;
        let end = start + page_bytes() as u64;
        assert_eq!(at_address(end - 8, 8), Some(vec![0; 8]));
    }
}
