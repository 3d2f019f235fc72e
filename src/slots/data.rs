//! The data of the server's requests: where it is, and who may look at it.
#![expect(unsafe_code, reason = "refers to lent buffers; docs/safety.md, island `slots`")]

use super::slot::State;
use super::{At, Shared, Slot, Transfer, Where};
use crate::data_path::DataPath;
use crate::errno::Errno;
use crate::region::Region;
use crate::request::Operation;
use crate::ring::Address;
use core::ops::Range;
use std::sync::Arc;

impl At<'_> {
    /// The data of the server's request.
    ///
    /// # Panics
    ///
    /// When an operation is using it, or it is not in the slot's buffer: a defect of a handler.
    #[inline(always)] // once a request
    pub(crate) fn data(&mut self) -> &mut [u8] {
        self.data_and_regions().0
    }

    #[inline(always)]
    fn data_and_regions(&mut self) -> (&mut [u8], &[Arc<Region>]) {
        let Self { tag, slot, shared } = self;
        let in_use = slot.waits > 0 && shared.operations.use_data(*tag);
        assert!(!in_use, "an operation is using the request's data");
        assert!(slot.state == State::Server, "only the server's own requests have data");
        let is_here = matches!(slot.data, Where::Buffer | Where::Copy);
        assert!(is_here, "the request's data is with the kernel");
        let len = slot.data_bytes as usize;
        let start = slot.buffer.as_ptr();
        // SAFETY: inside its mapping (`Slots::new`, or the later one of `leave_behind`), which is
        // zeroed, so initialised. In State::Server,
        // and with no operation on it, the kernel does not use this buffer; other slots' buffers do
        // not overlap it (`set_request` checked len <= buffer_bytes), and `&mut self` excludes a
        // second reference.
        (unsafe { core::slice::from_raw_parts_mut(start, len) }, &shared.regions)
    }

    /// The range of a region that the request's data has from `offset` on. `EINVAL` when there is
    /// none.
    pub(crate) fn range(&self, region: u16, offset: u64) -> Result<Range<usize>, Errno> {
        let region = self.shared.regions.get(usize::from(region)).ok_or(Errno::EINVAL)?;
        let start = usize::try_from(offset).map_err(|_| Errno::EINVAL)?;
        let end = start.checked_add(self.data_bytes as usize);
        match end {
            Some(end) if end <= region.len_bytes() => Ok(start..end),
            _ => Err(Errno::EINVAL),
        }
    }

    /// A region of the backend's.
    pub(crate) fn region(&self, region: u16) -> &Region {
        &self.shared.regions[usize::from(region)]
    }

    /// Fills a read's buffer from a region.
    pub(crate) fn load(&mut self, region: u16, start: usize) {
        let (data, regions) = self.data_and_regions();
        regions[usize::from(region)].read(start, data);
    }

    /// Puts a write's buffer into a region.
    pub(crate) fn store(&mut self, region: u16, start: usize) {
        let (data, regions) = self.data_and_regions();
        regions[usize::from(region)].write(start, data);
    }

    /// Whether the data of a write, or of a request that cannot be, waits to be fetched.
    #[inline]
    pub(crate) fn is_unfetched(&self) -> bool {
        self.shared.path == DataPath::GetData
            && self.data == Where::Kernel
            && self.request.operation != Operation::Read
    }

    /// Says where the data is from here on; ranges of regions were checked.
    pub(crate) fn set_place(&mut self, data: Where) {
        self.slot.data = data;
    }
}

impl At<'_> {
    /// The buffer's part that the operation at `index` moves, which is about to be queued
    /// (`At::begin`, `At::again`).
    #[inline(always)]
    pub(crate) fn part(&self, index: u8, transfer: Transfer) -> Address {
        debug_assert!(self.is_under_way(index), "an operation uses its data until it ends");
        let end = transfer.start.checked_add(transfer.len_bytes);
        assert!(end.is_some_and(|end| end <= self.slot.data_bytes), "a part of the request's data");
        // SAFETY: inside the slot's buffer, as just checked (`set_request`: data <= buffer_bytes).
        let place = unsafe { self.slot.buffer.byte_add(transfer.start as usize) };
        // SAFETY: inside the buffer, which is unmapped only when nothing is lent. The operation
        // counts as using the data until its completion (`At::ended`), and meanwhile `data`
        // makes no reference.
        unsafe { Address::new(place) }
    }

    /// Whether the request has an operation at `index`.
    fn is_under_way(&self, index: u8) -> bool {
        self.shared.operations.under_way(self.tag).any(|other| other == index)
    }
}

impl Shared {
    /// Where data goes that nobody wants, for the kernel.
    pub(super) fn waste(&self) -> Address {
        // SAFETY: as long as a buffer, in the same mapping (`Slots::new`), on `DataPath::GetData`,
        // the only path that fetches; nobody refers to it.
        unsafe { Address::new(self.waste) }
    }
}

impl Slot {
    /// Where its data is, for the kernel.
    #[inline(always)]
    pub(super) fn address(&self, regions: &[Arc<Region>]) -> Address {
        let place = match self.data {
            Where::Region(region, offset) => {
                regions[usize::from(region)].at(offset, self.data_bytes as usize)
            }
            _ => self.buffer,
        };
        // SAFETY: the slot's buffer (`Slots::new`), or inside a region; both are unmapped only when
        // nothing is lent, or no command names memory (`At::lend` masks the address then).
        // References to buffers are made in `At::data` alone, not while the kernel has the slot;
        // that ends with the command's completion (`came`, `take`, `gone`). To regions there are
        // none but to atomics.
        unsafe { Address::new(place) }
    }
}
