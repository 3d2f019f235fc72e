//! [`Task`]: a request, as its future sees it.
#![expect(unsafe_code, reason = "lends an Io to a future; docs/safety.md, island `tasks`")]

use crate::errno::Errno;
use crate::handler::{Completion, FileIndex, Io, Space};
use crate::request::Request;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::future::Future;
use core::ops::Range;
use core::pin::Pin;
use core::ptr::NonNull;
use core::task::{Context, Poll};
use core::time::Duration;
use std::rc::Rc;

/// What a slot and its request's [`Task`] share.
#[derive(Debug)]
pub(super) struct Shared {
    /// The request's view, while its future is polled and does not use it.
    io: Cell<Option<NonNull<Io<'static>>>>,
    /// Which of the slot's requests it is.
    generation: Cell<u64>,
    operations: RefCell<Box<[Stage]>>,
}

/// How far an operation is.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Free,
    Begun,
    /// Nobody waits for it any more.
    Abandoned,
    Ended(Result<u32, Errno>),
}

impl Shared {
    /// That of a slot whose requests may have so many operations.
    pub(super) fn new(operations: usize) -> Self {
        Self {
            io: Cell::new(None),
            generation: Cell::new(0),
            operations: RefCell::new(vec![Stage::Free; operations].into()),
        }
    }

    /// The slot has a new request.
    pub(super) fn begin(self: &Rc<Self>, io: &Io<'_>) -> Task {
        self.generation.set(self.generation.get() + 1);
        self.operations.borrow_mut().fill(Stage::Free);
        let (generation, shared) = (self.generation.get(), Rc::clone(self));
        Task { request: io.request(), tag: io.tag(), generation, shared }
    }

    /// An operation has ended.
    pub(super) fn ended(&self, done: Completion) {
        if let Some(stage) = self.operations.borrow_mut().get_mut(usize::from(done.cookie)) {
            *stage = match stage {
                Stage::Begun => Stage::Ended(done.result),
                _ => Stage::Free,
            };
        }
    }

    /// Lets the request's task use `io` while `poll` runs.
    pub(super) fn lend<R>(&self, io: &mut Io<'_>, poll: impl FnOnce() -> R) -> R {
        let _lent = Lent(self);
        self.io.set(Some(NonNull::from(io).cast()));
        poll()
    }
}

/// Takes the view away again, also when the future panics.
struct Lent<'a>(&'a Shared);

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.0.io.set(None);
    }
}

/// A request, as its future sees it. What it does is done by the queue's own ring, as [`Io`]'s
/// methods of the same names say; it ends when it was awaited.
///
/// Only the request's own future may use it, while it is polled: elsewhere all fails with `EIO`.
pub struct Task {
    request: Request,
    tag: u16,
    generation: u64,
    shared: Rc<Shared>,
}

impl Task {
    /// What the client asks.
    pub fn request(&self) -> Request {
        self.request
    }

    /// The request's number in its queue, below the depth.
    pub fn tag(&self) -> u16 {
        self.tag
    }

    /// Looks at the request's data, for a target of [`Slices`](crate::Access::Slices):
    /// [`Io::data`]. No operation may be using it.
    ///
    /// # Errors
    ///
    /// `EIO`: called elsewhere than in the request's future, or while it looks already.
    pub fn with_data<R>(&self, look: impl FnOnce(&mut [u8]) -> R) -> Result<R, Errno> {
        self.with_io(|io| look(io.data()))
    }

    /// Reads `part` of the request's data from a file: [`Io::read`]. Answers how many bytes.
    pub fn read(
        &self,
        file: FileIndex,
        offset: u64,
        part: Range<u32>,
    ) -> impl Future<Output = Result<u32, Errno>> + '_ {
        self.operation(move |io, cookie| io.read(file, offset, part.clone(), cookie))
    }

    /// Writes `part` of the request's data to a file: [`Io::write`]. Answers how many bytes.
    pub fn write(
        &self,
        file: FileIndex,
        offset: u64,
        part: Range<u32>,
        durable: bool,
    ) -> impl Future<Output = Result<u32, Errno>> + '_ {
        self.operation(move |io, cookie| io.write(file, offset, part.clone(), durable, cookie))
    }

    /// Makes what was written to a file durable: [`Io::sync`].
    pub async fn sync(&self, file: FileIndex, data_only: bool) -> Result<(), Errno> {
        self.operation(move |io, cookie| io.sync(file, data_only, cookie)).await.map(drop)
    }

    /// Takes space of a file, or gives it up: [`Io::allocate`].
    pub async fn allocate(
        &self,
        file: FileIndex,
        space: Space,
        range: Range<u64>,
    ) -> Result<(), Errno> {
        let begin = move |io: &mut Io<'_>, cookie| io.allocate(file, space, range.clone(), cookie);
        self.operation(begin).await.map(drop)
    }

    /// Waits until a file is readable: [`Io::readable`].
    pub async fn readable(&self, file: FileIndex) -> Result<(), Errno> {
        self.operation(move |io, cookie| io.readable(file, cookie)).await.map(drop)
    }

    /// Waits for `time`.
    pub async fn sleep(&self, time: Duration) -> Result<(), Errno> {
        match self.operation(move |io, cookie| io.delay(time, cookie)).await {
            Err(Errno::ETIME) => Ok(()),
            other => other.map(drop),
        }
    }

    fn operation<B>(&self, begin: B) -> Waiting<'_, B>
    where
        B: FnMut(&mut Io<'_>, u8) -> Result<(), Errno> + Unpin,
    {
        Waiting { task: self, begin, index: None }
    }

    /// Uses the request's view.
    fn with_io<R>(&self, then: impl FnOnce(&mut Io<'_>) -> R) -> Result<R, Errno> {
        if self.shared.generation.get() != self.generation {
            return Err(Errno::EIO); // the request was answered
        }
        // Nobody else finds it meanwhile, also not `then`.
        let mut lent = self.shared.io.take().ok_or(Errno::EIO)?;
        let _back = Back { shared: &self.shared, lent };
        // SAFETY: `Shared::lend` put it there, from an exclusive reference that it holds and does
        // not use until it takes the pointer away (`Lent`), so that this runs meanwhile. It was
        // taken out, so that there is no second reference. `then` gets it for a lifetime that it
        // cannot name, and so keeps nothing of it.
        Ok(then(unsafe { lent.as_mut() }))
    }

    /// Where a new operation's stage is kept.
    fn begin(&self, begin: impl FnOnce(&mut Io<'_>, u8) -> Result<(), Errno>) -> Result<u8, Errno> {
        let free = |stage: &Stage| matches!(stage, Stage::Free);
        let index = self.shared.operations.borrow().iter().position(free);
        let index = index.and_then(|index| u8::try_from(index).ok()).ok_or(Errno::EBUSY)?;
        self.with_io(|io| begin(io, index))??;
        self.shared.operations.borrow_mut()[usize::from(index)] = Stage::Begun;
        Ok(index)
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("tag", &self.tag).field("request", &self.request).finish()
    }
}

/// Puts the view back after its use.
struct Back<'a> {
    shared: &'a Shared,
    lent: NonNull<Io<'static>>,
}

impl Drop for Back<'_> {
    fn drop(&mut self) {
        self.shared.io.set(Some(self.lent));
    }
}

/// An operation: begun when it is polled first.
struct Waiting<'a, B> {
    task: &'a Task,
    begin: B,
    index: Option<u8>,
}

impl<B> Waiting<'_, B> {
    /// Its stage, once it was begun and while its request is not answered.
    fn change(&self, change: impl FnOnce(&mut Stage)) {
        let Task { shared, generation, .. } = self.task;
        if let Some(index) = self.index
            && shared.generation.get() == *generation
        {
            change(&mut shared.operations.borrow_mut()[usize::from(index)]);
        }
    }
}

impl<B> Future for Waiting<'_, B>
where
    B: FnMut(&mut Io<'_>, u8) -> Result<(), Errno> + Unpin,
{
    type Output = Result<u32, Errno>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<u32, Errno>> {
        let this = self.get_mut();
        if this.index.is_none() {
            return match this.task.begin(&mut this.begin) {
                Ok(index) => {
                    this.index = Some(index);
                    Poll::Pending
                }
                Err(errno) => Poll::Ready(Err(errno)),
            };
        }
        let mut result = Poll::Pending;
        this.change(|stage| {
            if let Stage::Ended(ended) = *stage {
                (*stage, result) = (Stage::Free, Poll::Ready(ended));
            }
        });
        if result.is_ready() {
            this.index = None;
        }
        result
    }
}

impl<B> Drop for Waiting<'_, B> {
    fn drop(&mut self) {
        self.change(|stage| {
            *stage = match stage {
                Stage::Begun => Stage::Abandoned,
                _ => Stage::Free,
            };
        });
    }
}
