//! [`Memory`]: a disk in memory, which takes as much of it as was written.

use super::{Backend, Target};
use crate::errno::Errno;
use crate::geometry::Geometry;
use crate::handler::{Completion, Handler, Io, RegionIndex, Step};
use crate::memory::page_bytes;
use crate::needs::{Access, Needs, QueueInfo};
use crate::region::Region;
use crate::request::{Operation, Request};
use core::ops::Range;
use std::sync::Arc;

/// A disk in memory. It is sparse: what was never written, or was discarded, takes no memory, so
/// that a disk may be larger than the machine. All is gone with the process.
///
/// Served as it is, it lets the kernel copy straight between requests and its memory where the
/// device's data path allows. It is a [`Backend`], too, for those who wrap one.
#[derive(Clone, Debug)]
pub struct Memory {
    geometry: Geometry,
    region: Arc<Region>,
}

/// The only region.
const ALL: RegionIndex = RegionIndex(0);

impl Memory {
    /// A disk of zeros that looks like `geometry`; discard gives memory back, page by page.
    ///
    /// # Errors
    ///
    /// `ENOMEM`: more address space than there is (128 TiB on most machines), or the machine does
    /// not overcommit memory (sysctl `vm.overcommit_memory` is 2).
    pub fn new(geometry: Geometry) -> Result<Self, Errno> {
        Self::with_room(geometry, geometry.size_bytes)
    }

    /// The same, with address space for a disk that may grow to `room_bytes` while it is served
    /// ([`Server::grow`](crate::Server::grow)). Room alone takes no memory.
    ///
    /// # Errors
    ///
    /// `EINVAL`: less room than the disk is large. `ENOMEM`: as for [`new`](Self::new).
    pub fn with_room(geometry: Geometry, room_bytes: u64) -> Result<Self, Errno> {
        if room_bytes < geometry.size_bytes {
            return Err(Errno::EINVAL);
        }
        let len_bytes = usize::try_from(room_bytes).map_err(|_| Errno::ENOMEM)?;
        let discard_bytes = u32::try_from(page_bytes()).map_err(|_| Errno::EINVAL)?;
        let geometry = Geometry { discard_bytes, write_zeroes: true, ..geometry };
        Ok(Self { geometry, region: Arc::new(Region::new(len_bytes)?) })
    }

    /// What the disk is.
    pub fn geometry(&self) -> Geometry {
        self.geometry
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

impl Target for Memory {
    type Handler = Self;

    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn needs(&self) -> Needs {
        let regions = vec![Arc::clone(&self.region)];
        Needs { access: Access::Regions, regions, ..Needs::default() }
    }

    fn handler(&self, _queue: &QueueInfo) -> Result<Self, Errno> {
        Ok(self.clone())
    }
}

impl Handler for Memory {
    fn start(&mut self, io: &mut Io<'_>) -> Step {
        let Request { operation, offset, len_bytes } = io.request();
        match operation {
            Operation::Read => io.load(ALL, offset),
            Operation::Write { .. } => io.store(ALL, offset, 0),
            Operation::Flush => Step::Done(Ok(())),
            Operation::Discard => Step::Done(self.discard(offset, len_bytes)),
            Operation::WriteZeroes { may_unmap } => {
                Step::Done(self.write_zeroes(offset, len_bytes, may_unmap))
            }
        }
    }

    /// What a write brought is in its place.
    fn resume(&mut self, _io: &mut Io<'_>, stored: Completion) -> Step {
        Step::Done(stored.result.map(drop))
    }
}
