//! [`Memory`]: a disk in memory, which takes as much of it as was written.

use super::Backend;
use super::region::Region;
use crate::errno::Errno;
use crate::geometry::Geometry;
use crate::memory::page_bytes;
use core::ops::Range;

/// A disk in memory. It is sparse: what was never written, or was discarded, takes no memory, so
/// that a disk may be larger than the machine. All is gone with the process.
#[derive(Debug)]
pub struct Memory {
    geometry: Geometry,
    region: Region,
}

impl Memory {
    /// A disk of zeros that looks like `geometry`; discard gives memory back, page by page.
    ///
    /// # Errors
    ///
    /// `ENOMEM`: more address space than there is (128 TiB on most machines), or the machine does
    /// not overcommit memory (sysctl `vm.overcommit_memory` is 2).
    pub fn new(geometry: Geometry) -> Result<Self, Errno> {
        let len_bytes = usize::try_from(geometry.size_bytes).map_err(|_| Errno::ENOMEM)?;
        let discard_bytes = u32::try_from(page_bytes()).map_err(|_| Errno::EINVAL)?;
        let geometry = Geometry { discard_bytes, write_zeroes: true, ..geometry };
        Ok(Self { geometry, region: Region::new(len_bytes)? })
    }
}

/// A checked range of the disk as one of the address space.
fn range(offset: u64, len_bytes: u64) -> Result<Range<usize>, Errno> {
    let place = |at: u64| usize::try_from(at).map_err(|_| Errno::EINVAL);
    Ok(place(offset)?..place(offset.checked_add(len_bytes).ok_or(Errno::EINVAL)?)?)
}

impl Backend for Memory {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        self.region.read(range(offset, 0)?.start, data);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Errno> {
        self.region.write(range(offset, 0)?.start, data);
        Ok(())
    }

    fn discard(&self, offset: u64, len_bytes: u64) -> Result<(), Errno> {
        self.region.release(range(offset, len_bytes)?)
    }

    fn write_zeroes(&self, offset: u64, len_bytes: u64, may_unmap: bool) -> Result<(), Errno> {
        self.region.zero(range(offset, len_bytes)?, may_unmap)
    }
}
