//! The data plane: one queue of a device, served by the thread that made it.
//!
//! A slot's life: it is offered to the driver (a fetch), comes back with a request (a CQE), is
//! decoded, handed to the [`Handler`], answered and offered again (a commit and fetch), until the
//! driver takes it away. All slots that were answered in one turn are offered by one system call.

mod descriptors;
mod error;
mod id;
mod slots;

pub use error::QueueError;
pub(crate) use id::Id;
pub(crate) use slots::Slots;

use crate::errno::Errno;
use crate::handler::{Completion, Handler, Io, Step};
use crate::kernel::Kernel;
use crate::request::{Limits, Operation, Request};
use crate::ring::{FileName, Ring, RingPlan, Sqe};
use core::time::Duration;
use descriptors::Descriptors;
use static_assertions::assert_not_impl_any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use ublkit_sys::ublk::{UBLK_IO_RES_ABORT, UBLK_IO_RES_OK};

/// How many entries keep a queue's ring from ever being full: each slot has its command or its
/// operations under way, and the event its poll.
pub(crate) fn ring_entries(depth: u16, operations: u8) -> u32 {
    u32::from(depth) * u32::from(operations.max(1)) + 1
}

/// Which queue of which device, as the driver granted it. It may go to any thread; the [`Queue`]
/// made from it stays where it was made.
#[derive(Debug)]
pub(crate) struct QueuePlan<F> {
    pub(crate) device: u32,
    pub(crate) queue: u16,
    pub(crate) depth: u16,
    pub(crate) descriptor_bytes: u16,
    pub(crate) limits: Limits,
    pub(crate) char_device: Arc<F>,
    /// Signalled when the queue shall leave although its slots are live.
    pub(crate) wake: Arc<F>,
    /// Operations that a request may have under way at one time.
    pub(crate) operations: u8,
}

/// What a queue has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueStats {
    /// Reads answered with success.
    pub reads: u64,
    /// Writes answered with success.
    pub writes: u64,
    /// Flushes, discards and zeroings answered with success.
    pub others: u64,
    /// Bytes of those reads.
    pub read_bytes: u64,
    /// Bytes of those writes.
    pub written_bytes: u64,
    /// Requests answered with an error.
    pub errors: u64,
    /// Of those: because the handler panicked.
    pub panics: u64,
}

/// How a queue came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// There is more to serve.
    Live,
    /// The driver took all slots away: the device was stopped.
    Stopped,
    /// The queue was woken to leave.
    Woken,
}

/// One queue, on its thread: the driver takes a slot's commands only from the task that fetched it.
#[derive(Debug)]
pub(crate) struct Queue<K: Kernel, H> {
    // Dropped first: the driver gets its slots back before their memory is looked after.
    ring: Ring<K, Sqe>,
    slots: Slots,
    descriptors: Descriptors<K::Mapping>,
    handler: H,
    limits: Limits,
    queue: u16,
    char_device: FileName,
    stats: QueueStats,
    _plan: QueuePlan<K::File>,
    _of_this_thread: core::marker::PhantomData<*mut ()>,
}

assert_not_impl_any!(Queue<crate::Linux, ()>: Send, Sync);

impl<K: Kernel, H: Handler> Queue<K, H> {
    /// Makes the queue of the calling thread, and offers nothing yet.
    pub(crate) fn new(kernel: K, plan: QueuePlan<K::File>, handler: H) -> Result<Self, QueueError> {
        let most = ring_entries(plan.depth, plan.operations);
        let ring_plan = RingPlan { submissions: most, completions: most, one_task: true };
        let mut ring = Ring::new(kernel, ring_plan)?;
        let descriptors = Descriptors::map(
            ring.kernel(),
            &plan.char_device,
            plan.queue,
            plan.depth,
            plan.descriptor_bytes,
        )
        .map_err(QueueError::Descriptors)?;
        let slots = Slots::new(plan.depth, plan.limits.max_io_bytes, plan.operations)
            .map_err(QueueError::Buffers)?;
        let char_device = ring.fix_file(&plan.char_device);
        Ok(Self {
            ring,
            slots,
            descriptors,
            handler,
            limits: plan.limits,
            queue: plan.queue,
            char_device,
            stats: QueueStats::default(),
            _plan: plan,
            _of_this_thread: core::marker::PhantomData,
        })
    }

    /// Offers every slot to the driver, with one system call, which does not wait.
    pub(crate) fn offer_all(&mut self) -> Result<(), QueueError> {
        let wake = FileName::Number(self.ring.kernel().number(&self._plan.wake));
        self.ring.submissions().push(Sqe::poll_readable(wake, Id::Wake.encode()))?;
        for tag in 0..self.slots.depth() {
            let buffer = self.slots.lend(tag);
            let id = Id::Command { tag }.encode();
            let fetch = Sqe::fetch(self.char_device, self.queue, tag, buffer, id);
            self.ring.submissions().push(fetch)?;
        }
        self.ring.wait(Some(Duration::ZERO))?;
        Ok(())
    }

    /// Submits what was answered, waits for a completion (until `deadline` on the kernel's clock,
    /// or without end) and handles all that there are.
    pub(crate) fn turn(&mut self, deadline: Option<Duration>) -> Result<Turn, QueueError> {
        self.ring.wait(deadline)?;
        while let Some(cqe) = self.ring.pop()? {
            let unexpected =
                QueueError::Unexpected { user_data: cqe.user_data, result: cqe.result };
            match Id::decode(cqe.user_data) {
                Some(Id::Command { tag }) if self.slots.exists(tag) => self
                    .command_ended(tag, cqe.result)
                    .map_err(|error| error.unwrap_or(unexpected))?,
                Some(Id::Operation { tag, cookie, delay }) if self.slots.exists(tag) => {
                    if !self.slots.end_operation(tag, delay) {
                        return Err(unexpected);
                    }
                    self.resume(tag, cookie, cqe.result)?;
                }
                Some(Id::Wake) => return Ok(Turn::Woken),
                _ => return Err(unexpected),
            }
        }
        Ok(if self.slots.live() == 0 { Turn::Stopped } else { Turn::Live })
    }

    /// What the queue has done so far.
    pub(crate) fn stats(&self) -> QueueStats {
        self.stats
    }

    /// A slot's command has completed. `Err(None)` when that cannot be.
    fn command_ended(&mut self, tag: u16, result: i32) -> Result<(), Option<QueueError>> {
        match result {
            UBLK_IO_RES_OK => {
                if !self.slots.take(tag) {
                    return Err(None);
                }
                self.start(tag).map_err(Some)
            }
            UBLK_IO_RES_ABORT => self.slots.gone(tag).then_some(()).ok_or(None),
            // NEED_GET_DATA was not asked for; other positive numbers do not exist.
            1.. => Err(None),
            refused => {
                let errno = Errno::from_result(refused).err().unwrap_or(Errno::EIO);
                Err(Some(QueueError::Refused { tag, errno }))
            }
        }
    }

    /// The server owns the slot and its descriptor holds a request.
    fn start(&mut self, tag: u16) -> Result<(), QueueError> {
        match Request::decode(&self.descriptors.copy(tag), &self.limits) {
            Ok(request) => {
                self.slots.set_request(tag, request);
                self.enter(tag, |handler, io| handler.start(io))
            }
            Err(errno) => {
                self.slots.settle(tag, Err(errno));
                self.commit_if_settled(tag)
            }
        }
    }

    /// One of the request's operations has ended.
    fn resume(&mut self, tag: u16, cookie: u8, result: i32) -> Result<(), QueueError> {
        if self.slots.answer(tag).is_some() {
            return self.commit_if_settled(tag); // the handler is not entered again
        }
        let done = Completion { cookie, result: Errno::from_result(result) };
        self.enter(tag, |handler, io| handler.resume(io, done))
    }

    /// Calls the handler: the one place where it may panic.
    fn enter(
        &mut self,
        tag: u16,
        call: impl FnOnce(&mut H, &mut Io<'_>) -> Step,
    ) -> Result<(), QueueError> {
        let handler = &mut self.handler;
        let mut io = Io { slots: &mut self.slots, submissions: self.ring.submissions(), tag };
        match catch_unwind(AssertUnwindSafe(|| call(handler, &mut io))) {
            Ok(Step::Done(answer)) => self.slots.settle(tag, answer),
            Ok(Step::Pending) if self.slots.operations(tag) > 0 => {}
            Ok(Step::Pending) => self.slots.settle(tag, Err(Errno::EIO)), // on nothing: for ever
            Err(_panic) => {
                self.stats.panics += 1;
                self.slots.settle(tag, Err(Errno::EIO));
            }
        }
        self.commit_if_settled(tag)
    }

    /// Answers the request if its answer is settled and none of its operations is under way.
    fn commit_if_settled(&mut self, tag: u16) -> Result<(), QueueError> {
        let Some(answer) = self.slots.answer(tag) else { return Ok(()) };
        if self.slots.operations(tag) > 0 {
            return Ok(());
        }
        let request = self.slots.request(tag);
        self.stats.count(&request, answer);
        let result = match answer {
            Ok(()) => request.success(),
            Err(errno) => -errno.number(),
        };
        let buffer = self.slots.lend(tag);
        let id = Id::Command { tag }.encode();
        let commit = Sqe::commit_and_fetch(self.char_device, self.queue, tag, result, buffer, id);
        Ok(self.ring.submissions().push(commit)?)
    }
}

impl QueueStats {
    fn count(&mut self, request: &Request, answer: Result<(), Errno>) {
        let bytes = u64::from(request.data_bytes());
        match (answer, request.operation) {
            (Err(_), _) => self.errors += 1,
            (Ok(()), Operation::Read) => {
                self.reads += 1;
                self.read_bytes += bytes;
            }
            (Ok(()), Operation::Write { .. }) => {
                self.writes += 1;
                self.written_bytes += bytes;
            }
            (Ok(()), _) => self.others += 1,
        }
    }
}
