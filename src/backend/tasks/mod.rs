//! [`Tasks`]: requests that are served by `async` functions, on the queue's thread.

mod join;
mod task;

pub use join::join;
pub use task::Task;

use super::Target;
use crate::errno::Errno;
use crate::geometry::Geometry;
use crate::handler::{Completion, Handler, Io, Step};
use crate::needs::{Needs, QueueInfo};
use crate::wake::Wakers;
use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Wake;
use task::Shared;

/// Serves each request by a future, which the queue's thread polls: one at a time for each slot, in
/// memory that is there from the start.
///
/// What a future awaits may be operations of its [`Task`], done by the queue's own ring, or
/// anything else that wakes its waker, from any thread: a channel, another runtime's work. One that
/// awaits what never wakes it keeps its client waiting. One that panics costs its request an `EIO`.
/// What a future gives up, as `select` does, goes on: its client is answered only when all that it
/// has begun has ended.
///
/// A disk that keeps two copies, each write under way to both at one time:
///
/// ```
/// use std::sync::Arc;
/// use ublkit::sim::{Ask, Choices, Faults, Profile, Sim};
/// use ublkit::{Access, Builder, Errno, FileIndex, Geometry, Needs, Operation, Task, Tasks, join};
///
/// const COPIES: [FileIndex; 2] = [FileIndex(0), FileIndex(1)];
///
/// async fn serve(task: Task) -> Result<(), Errno> {
///     let request = task.request();
///     let all = 0..request.data_bytes();
///     match request.operation {
///         Operation::Read => task.read(COPIES[0], request.offset, all).await.map(drop),
///         Operation::Write { .. } => {
///             let write = |copy| task.write(copy, request.offset, all.clone(), false);
///             let (one, other) = join(write(COPIES[0]), write(COPIES[1])).await;
///             one.and(other).map(drop)
///         }
///         _ => Err(Errno::EOPNOTSUPP),
///     }
/// }
///
/// let file = || {
///     let file = rustix::fs::memfd_create("copy", rustix::fs::MemfdFlags::CLOEXEC)?;
///     rustix::fs::ftruncate(&file, 1 << 20)?;
///     std::io::Result::Ok(Arc::new(file))
/// };
/// let files: Vec<Arc<std::os::fd::OwnedFd>> = vec![file()?, file()?];
/// let needs = Needs {
///     access: Access::Operations,
///     operations: 2,
///     files: files.clone(),
///     ..Needs::default()
/// };
/// let disk = Tasks::new(Geometry::new(1 << 20), needs, serve);
///
/// // On a real kernel `serve(disk)`.
/// let sim = Sim::new(Profile::NEWEST, Choices::first(), Faults::default());
/// let server = Builder::new().serve_on(sim.task(), disk)?;
/// let write = Ask::Write { offset: 4096, data: vec![7; 512], fua: false };
/// let asked = sim.ask(server.id(), 0, write).unwrap();
/// sim.until_answered();
/// assert_eq!(sim.answer(asked), Some(Ok(vec![])));
/// server.stop()?;
/// for file in files {
///     let mut sector = [0; 512];
///     rustix::io::pread(&file, &mut sector, 4096)?;
///     assert_eq!(sector, [7; 512]);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Tasks<F> {
    geometry: Geometry,
    needs: Needs,
    serve: Arc<F>,
}

impl<F, T> Tasks<F>
where
    F: Fn(Task) -> T + Send + Sync + 'static,
    T: Future<Output = Result<(), Errno>> + 'static,
{
    /// A disk that looks like `geometry`, uses its queues as `needs` says, and serves each request
    /// by the future that `serve` makes of it, on the queue's thread.
    pub fn new(geometry: Geometry, needs: Needs, serve: F) -> Self {
        Self { geometry, needs: Needs { wakers: true, ..needs }, serve: Arc::new(serve) }
    }
}

impl<F> fmt::Debug for Tasks<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks").field("geometry", &self.geometry).finish_non_exhaustive()
    }
}

impl<F, T> Target for Tasks<F>
where
    F: Fn(Task) -> T + Send + Sync + 'static,
    T: Future<Output = Result<(), Errno>> + 'static,
{
    type Handler = TaskQueue<F, T>;

    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn needs(&self) -> Needs {
        self.needs.clone()
    }

    fn handler(&self, queue: &QueueInfo) -> Result<TaskQueue<F, T>, Errno> {
        let operations = usize::from(self.needs.operations);
        let slot = |tag| Slot {
            future: Box::pin(None),
            waker: Arc::new(TagWaker { tag, wakers: queue.wakers.clone() }).into(),
            shared: Rc::new(Shared::new(operations)),
        };
        Ok(TaskQueue {
            serve: Arc::clone(&self.serve),
            slots: (0..queue.depth).map(slot).collect(),
        })
    }
}

/// The futures of one queue.
pub struct TaskQueue<F, T> {
    serve: Arc<F>,
    slots: Box<[Slot<T>]>,
}

struct Slot<T> {
    future: Pin<Box<Option<T>>>,
    waker: Waker,
    shared: Rc<Shared>,
}

struct TagWaker {
    tag: u16,
    wakers: Wakers,
}

impl Wake for TagWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wakers.wake(self.tag);
    }
}

/// The cookie of a request that was woken. Operations' are below their number, 255 at the most.
const WOKEN: u8 = u8::MAX;

impl<T: Future<Output = Result<(), Errno>>> Slot<T> {
    fn poll(&mut self, io: &mut Io<'_>) -> Step {
        let Self { future, waker, shared } = self;
        let polled = shared.lend(io, || match future.as_mut().as_pin_mut() {
            Some(future) => future.poll(&mut Context::from_waker(waker)),
            None => Poll::Ready(Err(Errno::EIO)),
        });
        match polled {
            Poll::Ready(answer) => {
                self.future.set(None);
                Step::Done(answer)
            }
            Poll::Pending => {
                io.park(WOKEN);
                Step::Pending
            }
        }
    }
}

impl<F, T> Handler for TaskQueue<F, T>
where
    F: Fn(Task) -> T + Send + Sync + 'static,
    T: Future<Output = Result<(), Errno>> + 'static,
{
    fn start(&mut self, io: &mut Io<'_>) -> Step {
        let slot = &mut self.slots[usize::from(io.tag())];
        let task = slot.shared.begin(io);
        slot.future.set(Some((self.serve)(task)));
        slot.poll(io)
    }

    fn resume(&mut self, io: &mut Io<'_>, done: Completion) -> Step {
        let slot = &mut self.slots[usize::from(io.tag())];
        slot.shared.ended(done);
        slot.poll(io)
    }
}

impl<F, T> fmt::Debug for TaskQueue<F, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskQueue").field("slots", &self.slots.len()).finish_non_exhaustive()
    }
}
