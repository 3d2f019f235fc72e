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
#[cfg(any(test, fuzzing))]
pub(crate) use file::unit_of;
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
///
/// A disk in a file that holds no plain byte, moved by the queue's own ring:
///
/// ```
/// use std::{os::fd::OwnedFd, sync::Arc};
/// use ublkit::sim::{Ask, Choices, Faults, Profile, Sim};
/// use ublkit::{
///     Builder, Completion, Errno, FileIndex, Geometry, Handler, Io, Needs, Operation, QueueInfo,
///     Step, Target,
/// };
///
/// const FILE: FileIndex = FileIndex(0);
///
/// struct Masked(Arc<OwnedFd>);
/// struct Queue; // what is to be remembered of one queue: nothing
///
/// fn mask(data: &mut [u8]) {
///     data.iter_mut().for_each(|byte| *byte ^= 0xa5);
/// }
///
/// impl Target for Masked {
///     type Handler = Queue;
///     fn geometry(&self) -> Geometry { Geometry::new(1 << 20) }
///     fn needs(&self) -> Needs {
///         Needs { operations: 1, files: vec![Arc::clone(&self.0)], ..Needs::default() }
///     }
///     fn handler(&self, _: &QueueInfo) -> Result<Queue, Errno> { Ok(Queue) }
/// }
///
/// impl Handler for Queue {
///     fn start(&mut self, io: &mut Io<'_>) -> Step {
///         let (request, all) = (io.request(), 0..io.request().data_bytes());
///         let asked = match request.operation {
///             Operation::Read => io.read(FILE, request.offset, all, 0),
///             Operation::Write { fua } => {
///                 mask(io.data());
///                 io.write(FILE, request.offset, all, fua, 0)
///             }
///             _ => Err(Errno::EOPNOTSUPP),
///         };
///         asked.map_or_else(|errno| Step::Done(Err(errno)), |()| Step::Pending)
///     }
///
///     fn resume(&mut self, io: &mut Io<'_>, done: Completion) -> Step {
///         match (io.request().operation, done.result) {
///             (_, Err(errno)) => return Step::Done(Err(errno)),
///             (_, Ok(count)) if count < io.request().data_bytes() => {
///                 return Step::Done(Err(Errno::EIO)); // the file became shorter
///             }
///             (Operation::Read, Ok(_)) => mask(io.data()),
///             _ => {}
///         }
///         Step::Done(Ok(()))
///     }
/// }
///
/// let file = rustix::fs::memfd_create("masked", rustix::fs::MemfdFlags::CLOEXEC)?;
/// rustix::fs::ftruncate(&file, 1 << 20)?;
/// let file = Arc::new(file);
///
/// // On a real kernel `serve(Masked(…))`.
/// let sim = Sim::new(Profile::NEWEST, Choices::first(), Faults::default());
/// let server = Builder::new().serve_on(sim.task(), Masked(Arc::clone(&file)))?;
/// let answer = |ask| {
///     let asked = sim.ask(server.id(), 0, ask).unwrap();
///     sim.until_answered();
///     sim.answer(asked).unwrap()
/// };
/// let (offset, plain) = (4096, vec![7; 512]);
/// assert_eq!(answer(Ask::Write { offset, data: plain.clone(), fua: false }), Ok(vec![]));
/// assert_eq!(answer(Ask::Read { offset, len_bytes: 512 }), Ok(plain));
/// server.stop()?;
/// sim.assert_clean();
/// let mut kept = [0; 512];
/// rustix::io::pread(&*file, &mut kept, offset)?;
/// assert_eq!(kept, [7 ^ 0xa5; 512]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
