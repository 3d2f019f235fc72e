//! [`Payload`]: the memory of one control command, until its completion.
#![expect(unsafe_code, reason = "hands an address to the kernel; docs/safety.md, `control`")]

use crate::errno::Errno;
use crate::memory::Pages;
use crate::ring::Address;
use crate::shared::SharedMapping;
use core::mem::ManuallyDrop;
use std::sync::Arc;

/// The buffer that a control command names: the device's path, if it needs one, then the data.
///
/// The kernel reads and writes it until the command completes, however long that takes and whoever
/// still waits. So it belongs to the [`Control`](super::Control), which says when it
/// [`ended`](Self::ended); dropped before that, it is leaked.
#[derive(Debug)]
pub(super) struct Payload {
    pages: ManuallyDrop<Pages>,
    path_bytes: u16,
    len_bytes: u16,
    /// Memory that the data names, if it does.
    named: ManuallyDrop<Option<Arc<SharedMapping>>>,
}

impl Payload {
    /// Copies `path` and `data` one behind the other. `Err(E2BIG)` when a command cannot carry that
    /// much: its length is 16 bits.
    pub(super) fn new(
        path: &[u8],
        data: &[u8],
        named: Option<Arc<SharedMapping>>,
    ) -> Result<Self, Errno> {
        let total = path.len().checked_add(data.len()).ok_or(Errno::E2BIG)?;
        let len_bytes = u16::try_from(total).map_err(|_| Errno::E2BIG)?;
        let path_bytes = u16::try_from(path.len()).map_err(|_| Errno::E2BIG)?;
        let pages = ManuallyDrop::new(Pages::new(total)?);
        for (part, offset) in [(path, 0), (data, path.len())] {
            let place = pages.at(offset, part.len()).as_ptr();
            // SAFETY: that long (`at`), and nobody else knows of the mapping yet.
            unsafe { core::ptr::copy_nonoverlapping(part.as_ptr(), place, part.len()) };
        }
        Ok(Self { pages, path_bytes, len_bytes, named: ManuallyDrop::new(named) })
    }

    /// What the command's `addr` is.
    pub(super) fn address(&self) -> Address {
        if self.len_bytes == 0 {
            return Address::NONE;
        }
        let place = self.pages.at(0, usize::from(self.len_bytes));
        // SAFETY: `len_bytes` are mapped, no reference to them exists, and they are unmapped only
        // by
        // `ended`, or never.
        unsafe { Address::new(place) }
    }

    /// What the command's `len` is: path and data.
    pub(super) fn len_bytes(&self) -> u16 {
        self.len_bytes
    }

    /// What the command's `dev_path_len` is.
    pub(super) fn path_bytes(&self) -> u16 {
        self.path_bytes
    }

    /// The command has completed, the kernel does not touch the memory again: here is the data.
    pub(super) fn ended(mut self) -> Vec<u8> {
        let mut data = vec![0; usize::from(self.len_bytes - self.path_bytes)];
        let place = self.pages.at(usize::from(self.path_bytes), data.len()).as_ptr();
        // SAFETY: as long as `data`, mapped, and the kernel is done (the completion said so).
        unsafe { core::ptr::copy_nonoverlapping(place, data.as_mut_ptr(), data.len()) };
        // SAFETY: `self` is consumed here, and has no other way to drop the pages.
        unsafe { ManuallyDrop::drop(&mut self.pages) };
        // SAFETY: likewise.
        unsafe { ManuallyDrop::drop(&mut self.named) };
        data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// P45: what a command cannot carry is refused here, and nothing is cut off.
    #[test]
    fn lengths_fit_a_command() {
        let len = |path: usize, data: usize| {
            let payload = Payload::new(&vec![1; path], &vec![2; data], None);
            payload.map(|payload| payload.len_bytes())
        };
        assert_eq!(len(1, 64), Ok(65));
        assert_eq!(len(4096, 61439), Ok(u16::MAX));
        for (path, data) in [(4096, 61440), (0, 65536), (65536, 0), (1 << 17, 0)] {
            assert_eq!(len(path, data), Err(Errno::E2BIG), "{path} {data}");
        }
    }
}
