//! Backends: what a disk's contents are.
//!
//! Most implement [`Backend`], the sync trait over slices, and are served through [`Blocking`].
//! What wants to keep many requests of one queue under way implements [`Handler`] and [`Target`].

mod blocking;
mod file;
mod memory;
mod null;
mod offload;
mod tasks;

pub use blocking::Blocking;
#[cfg(all(test, feature = "sim"))]
pub(crate) use file::too_large_blocks;
pub use file::{File, FileOptions, FileQueue, MadeFile};
pub use memory::Memory;
pub use null::Null;
pub use offload::{Job, Offload, OffloadQueue};
pub use tasks::{Task, TaskQueue, Tasks, join};

use crate::errno::Errno;
use crate::geometry::Geometry;
use crate::handler::Handler;
use crate::needs::{Needs, QueueInfo};

/// What a device serves: a disk, and a handler for each of its queues.
pub trait Target: Send + Sync + 'static {
    /// Serves one queue.
    type Handler: Handler;

    /// What the disk is. Asked once, before the device is made.
    fn geometry(&self) -> Geometry;

    /// What it uses of its queues. Asked once, before the device is made.
    fn needs(&self) -> Needs;

    /// Makes the handler of one queue, on the thread that will serve it.
    fn handler(&self, queue: &QueueInfo) -> Result<Self::Handler, Errno>;
}

/// A disk whose operations are done when the call returns.
///
/// Every range was checked: it lies in the disk, and it is whole logical blocks. Calls come from
/// several queues at one time, also for overlapping ranges: then either order will do, and so will
/// a mixture, as clients who race expect. A call that panics costs its request an `EIO`.
pub trait Backend: Send + Sync + 'static {
    /// What the disk is. Asked once, before the device is made.
    fn geometry(&self) -> Geometry;

    /// Fills all of `data` from `offset` on. What is left as it was may show a client what another
    /// wrote.
    fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), Errno>;

    /// Writes all of `data` at `offset`.
    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Errno>;

    /// Writes, and makes that durable before it returns. Comes only with
    /// [`FlushAndFua`](crate::Durability::FlushAndFua).
    fn write_durably(&self, offset: u64, data: &[u8]) -> Result<(), Errno> {
        self.write(offset, data)?;
        self.flush()
    }

    /// Makes all writes that were answered before durable. Comes only when the geometry says that
    /// writes are not durable at once.
    fn flush(&self) -> Result<(), Errno> {
        Ok(())
    }

    /// May forget the contents of a range. Comes only when the geometry has a discard unit.
    fn discard(&self, offset: u64, len_bytes: u64) -> Result<(), Errno> {
        let _ = (offset, len_bytes);
        Err(Errno::EOPNOTSUPP)
    }

    /// Makes a range read as zeros, and gives up its space only if it may. Comes only when the
    /// geometry says so.
    fn write_zeroes(&self, offset: u64, len_bytes: u64, may_unmap: bool) -> Result<(), Errno> {
        let _ = (offset, len_bytes, may_unmap);
        Err(Errno::EOPNOTSUPP)
    }
}
