//! Memory of the program under test, by address, and its real files, by number: how the simulated
//! kernel reaches what is not its own.
#![expect(unsafe_code, reason = "a kernel copies by address; docs/safety.md, island `sim`")]

use crate::errno::Errno;
use core::ptr::{NonNull, from_ref};
use std::os::fd::{FromRawFd, OwnedFd};

/// Copies `data.len()` bytes from `address` on, as far as there are any; answers how many.
///
/// The real kernel does the copying, so that an address that leads nowhere is a short count here
/// as well, and no crash.
pub(crate) fn copy_in(address: u64, data: &mut [u8]) -> usize {
    transfer(address, data.as_mut_ptr(), data.len(), libc::process_vm_readv)
}

/// Copies `data` to `address` on, as far as that can be written; answers how many bytes.
pub(crate) fn copy_out(address: u64, data: &[u8]) -> usize {
    transfer(address, data.as_ptr().cast_mut(), data.len(), libc::process_vm_writev)
}

/// The same, all or nothing.
pub(crate) fn read(address: u64, data: &mut [u8]) -> Result<(), Errno> {
    if copy_in(address, data) == data.len() { Ok(()) } else { Err(Errno::EFAULT) }
}

/// The same, all or nothing.
pub(crate) fn write(address: u64, data: &[u8]) -> Result<(), Errno> {
    if copy_out(address, data) == data.len() { Ok(()) } else { Err(Errno::EFAULT) }
}

type Transfer = unsafe extern "C" fn(
    libc::pid_t,
    *const libc::iovec,
    libc::c_ulong,
    *const libc::iovec,
    libc::c_ulong,
    libc::c_ulong,
) -> isize;

fn transfer(address: u64, local: *mut u8, len: usize, call: Transfer) -> usize {
    if len == 0 {
        return 0;
    }
    let Ok(address) = usize::try_from(address) else { return 0 };
    let remote = core::ptr::with_exposed_provenance_mut::<libc::c_void>(address);
    let local = libc::iovec { iov_base: local.cast(), iov_len: len };
    let remote = libc::iovec { iov_base: remote, iov_len: len };
    let pid = std::process::id().cast_signed();
    // SAFETY: `local` is a caller's slice, borrowed for as long and as mutably as the direction
    // needs. `remote` is checked by the kernel page by page; that nobody refers to it is the
    // promise of whoever handed the address to the (simulated) kernel, see `ring::Address`.
    let copied = unsafe { call(pid, from_ref(&local), 1, from_ref(&remote), 1, 0) };
    usize::try_from(copied).unwrap_or(0)
}

/// Another handle of the file that the test process has open as `number`. `EBADF`: it has none.
pub(crate) fn held(number: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: a number, and no memory. Whoever named it to the (simulated) kernel had it open.
    let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 0) };
    if copy < 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    // SAFETY: just made, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Page-aligned zeroed memory that both sides see: rings and descriptors.
pub(crate) struct Pages {
    base: NonNull<u8>,
    len_bytes: usize,
}

/// Of the simulated machine.
pub(crate) const PAGE_BYTES: usize = 4096;

// SAFETY: plain memory, reached by pointer only; who reads and writes when is the protocol's rule.
unsafe impl Send for Pages {}
// SAFETY: as above.
unsafe impl Sync for Pages {}

impl Pages {
    fn layout(len_bytes: usize) -> std::alloc::Layout {
        std::alloc::Layout::from_size_align(len_bytes, PAGE_BYTES).expect("a few pages")
    }

    /// At least `len_bytes`, in whole pages.
    pub(crate) fn new(len_bytes: usize) -> Self {
        let len_bytes = len_bytes.max(1).next_multiple_of(PAGE_BYTES);
        // SAFETY: the layout is not empty.
        let base = unsafe { std::alloc::alloc_zeroed(Self::layout(len_bytes)) };
        Self { base: NonNull::new(base).expect("memory for a simulated ring"), len_bytes }
    }

    /// How long it is, in whole pages.
    pub(crate) fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// Where it begins.
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    fn at<T>(&self, offset: usize) -> NonNull<T> {
        let end = offset + size_of::<T>();
        assert!(end <= self.len_bytes && offset.is_multiple_of(align_of::<T>()), "our own layout");
        // SAFETY: inside the allocation, as just checked.
        unsafe { self.base.byte_add(offset) }.cast()
    }

    /// An index that both sides use atomically.
    pub(crate) fn word(&self, offset: usize) -> &core::sync::atomic::AtomicU32 {
        // SAFETY: inside and aligned (`at`), alive with `self`, only ever used as an atomic: by us
        // here, and by the other side as its contract with a kernel is.
        unsafe { self.at(offset).as_ref() }
    }

    /// An entry of the index array, which the other side wrote before it said so.
    pub(crate) fn load_word(&self, offset: usize) -> u32 {
        self.word(offset).load(core::sync::atomic::Ordering::Relaxed)
    }

    /// Reads what the other side wrote before it said so.
    pub(crate) fn load<T: ublkit_sys::abi::Abi>(&self, offset: usize) -> T {
        // SAFETY: inside and aligned (`at`); any bits make a T (it is Abi); volatile, for the other
        // side may break its rules.
        unsafe { self.at::<T>(offset).read_volatile() }
    }

    /// Writes what the other side shall read once it was told.
    pub(crate) fn store<T: ublkit_sys::abi::Abi>(&self, offset: usize, value: T) {
        // SAFETY: inside and aligned (`at`); the other side reads it only after it was told.
        unsafe { self.at::<T>(offset).write_volatile(value) }
    }
}

impl core::fmt::Debug for Pages {
    /// Says nothing that differs from run to run: no address.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} bytes", self.len_bytes)
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout, freed once.
        unsafe { std::alloc::dealloc(self.base.as_ptr(), Self::layout(self.len_bytes)) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_and_faults() {
        let mut data = [1_u8, 2, 3, 4];
        let address = data.as_mut_ptr().expose_provenance() as u64;
        let mut copy = [0; 4];
        read(address, &mut copy).unwrap();
        assert_eq!(copy, [1, 2, 3, 4]);
        write(address, &[9, 8]).unwrap();
        assert_eq!(core::hint::black_box(data), [9, 8, 3, 4]);
        assert_eq!(read(1, &mut copy), Err(Errno::EFAULT));
        assert_eq!(write(0, &copy), Err(Errno::EFAULT));
        assert_eq!(read(u64::MAX - 1, &mut copy), Err(Errno::EFAULT));
    }

    #[test]
    fn files_by_number() {
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        let number = std::os::fd::AsRawFd::as_raw_fd(&file);
        assert_ne!(std::os::fd::AsRawFd::as_raw_fd(&held(number).unwrap()), number);
        assert_eq!(held(-1).err(), Some(Errno::EBADF));
        assert_eq!(held(i32::MAX).err(), Some(Errno::EBADF));
    }

    #[test]
    fn a_copy_ends_where_memory_does() {
        let page = Pages::new(PAGE_BYTES);
        let address = page.base().as_ptr().expose_provenance() as u64;
        write(address, &[7; PAGE_BYTES]).unwrap();
        let last: ublkit_sys::io_uring::io_uring_cqe = page.load(PAGE_BYTES - 16);
        assert_eq!(last.user_data, 0x0707_0707_0707_0707);
    }
}
