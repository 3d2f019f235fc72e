//! The data of the server's requests: where it is, and who may look at it.
#![expect(unsafe_code, reason = "refers to lent buffers; docs/safety.md, island `slots`")]

use super::{Slot, Slots, State, Transfer, Where};
use crate::data_path::DataPath;
use crate::errno::Errno;
use crate::region::Region;
use crate::request::Operation;
use crate::ring::Address;
use core::ops::Range;
use std::sync::Arc;

impl Slots {
    /// Where the data of the server's request is.
    #[inline]
    pub(crate) fn place(&self, tag: u16) -> Where {
        self.get(tag).data
    }

    /// The data of the server's request.
    ///
    /// # Panics
    ///
    /// When an operation is using it, or it is not in the slot's buffer: a defect of a handler.
    #[inline(always)] // once a request
    pub(crate) fn data(&mut self, tag: u16) -> &mut [u8] {
        self.data_and_regions(tag).0
    }

    #[inline(always)]
    fn data_and_regions(&mut self, tag: u16) -> (&mut [u8], &[Arc<Region>]) {
        let slot = self.get(tag);
        let in_use = slot.waits > 0 && self.operations.use_data(tag);
        assert!(!in_use, "an operation is using the request's data");
        assert!(slot.state == State::Server, "only the server's own requests have data");
        let is_here = matches!(slot.data, Where::Buffer | Where::Copy);
        assert!(is_here, "the request's data is with the kernel");
        let len = slot.data_bytes as usize;
        let start = slot.buffer.as_ptr();
        // SAFETY: inside the mapping (`new`), which is zeroed, so initialised. In State::Server,
        // and with no operation on it, the kernel does not use this buffer; other slots' buffers do
        // not overlap it (`set_request` checked len <= buffer_bytes), and `&mut self` excludes a
        // second reference.
        (unsafe { core::slice::from_raw_parts_mut(start, len) }, &self.regions)
    }

    /// The range of a region that the request's data has from `offset` on. `EINVAL` when there is
    /// none.
    pub(crate) fn range(&self, tag: u16, region: u16, offset: u64) -> Result<Range<usize>, Errno> {
        let region = self.regions.get(usize::from(region)).ok_or(Errno::EINVAL)?;
        let start = usize::try_from(offset).map_err(|_| Errno::EINVAL)?;
        let end = start.checked_add(self.get(tag).data_bytes as usize);
        match end {
            Some(end) if end <= region.len_bytes() => Ok(start..end),
            _ => Err(Errno::EINVAL),
        }
    }

    /// A region of the backend's.
    pub(crate) fn region(&self, region: u16) -> &Region {
        &self.regions[usize::from(region)]
    }

    /// Fills a read's buffer from a region.
    pub(crate) fn load(&mut self, tag: u16, region: u16, start: usize) {
        let (data, regions) = self.data_and_regions(tag);
        regions[usize::from(region)].read(start, data);
    }

    /// Puts a write's buffer into a region.
    pub(crate) fn store(&mut self, tag: u16, region: u16, start: usize) {
        let (data, regions) = self.data_and_regions(tag);
        regions[usize::from(region)].write(start, data);
    }

    /// Whether the data of a write, or of a request that cannot be, waits to be fetched.
    #[inline]
    pub(crate) fn is_unfetched(&self, tag: u16) -> bool {
        let slot = self.get(tag);
        self.path == DataPath::GetData
            && slot.data == Where::Kernel
            && slot.request.operation != Operation::Read
    }

    /// Says where the data is from here on; ranges of regions were checked.
    pub(crate) fn set_place(&mut self, tag: u16, data: Where) {
        self.slot(tag).data = data;
    }

    /// Whether a read's data is a copy that the kernel is still to be given.
    #[inline]
    pub(crate) fn has_copy_to_give(&self, tag: u16) -> bool {
        let slot = self.get(tag);
        slot.data == Where::Copy && slot.request.operation == Operation::Read
    }

    /// Whether success would show a client memory that nobody filled: a read whose data stayed with
    /// the kernel.
    #[inline]
    pub(crate) fn is_unfilled(&self, tag: u16) -> bool {
        let slot = self.get(tag);
        let unfilled = match slot.data {
            Where::Kernel => true,
            Where::Table => slot.filled_bytes < slot.data_bytes,
            _ => false,
        };
        unfilled && slot.request.operation == Operation::Read
    }
}

impl Slot {
    /// The buffer's part that an operation moves, which was just begun (`Slots::begin`).
    #[inline(always)]
    pub(super) fn part(&self, transfer: Transfer) -> Address {
        let end = transfer.start.checked_add(transfer.len_bytes);
        assert!(end.is_some_and(|end| end <= self.data_bytes), "a part of the request's data");
        // SAFETY: inside the slot's buffer, as just checked (`set_request`: data <= buffer_bytes).
        let place = unsafe { self.buffer.byte_add(transfer.start as usize) };
        // SAFETY: inside the buffer, which is unmapped only when nothing is lent. The operation
        // counts as using the data until its completion (`end_operation`), and meanwhile `data`
        // makes no reference.
        unsafe { Address::new(place) }
    }
}
