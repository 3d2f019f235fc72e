//! The data plane: one queue of a device, served by the thread that made it.
//!
//! A slot's life: it is offered to the driver (a fetch), comes back with a request (a CQE), is
//! decoded, handed to the [`Handler`], answered and offered again (a commit and fetch), until the
//! driver takes it away. All slots that were answered in one turn are offered by one system call.

mod descriptors;
mod error;

pub use error::QueueError;

use crate::errno::Errno;
use crate::handler::{Completion, Handler, Io, Step};
use crate::id::Id;
use crate::kernel::Kernel;
use crate::request::{Limits, Operation, Request};
use crate::ring::{Cqe, FileName, Ring, RingPlan, Sqe};
use crate::slots::Slots;
use core::marker::PhantomData;
use core::time::Duration;
use descriptors::Descriptors;
use static_assertions::assert_not_impl_any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use ublkit_sys::ublk::{UBLK_IO_RES_ABORT, UBLK_IO_RES_OK};

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
    /// Set when the queue shall leave although its slots are live,
    pub(crate) leave: Arc<AtomicBool>,
    /// and then signalled.
    pub(crate) wake: Arc<F>,
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
    char_device: FileName,
    plan: QueuePlan<K::File>,
    stats: QueueStats,
    // Dropped last: the driver has all back before a stranger's code runs.
    handler: H,
    _of_this_thread: PhantomData<*mut ()>,
}

assert_not_impl_any!(Queue<crate::Linux, ()>: Send, Sync);

impl<K: Kernel, H: Handler> Queue<K, H> {
    /// Makes the queue of the calling thread, and offers nothing yet.
    pub(crate) fn new(kernel: K, plan: QueuePlan<K::File>, handler: H) -> Result<Self, QueueError> {
        // Each slot has its command or its delay under way, and the event its poll: sized for all
        // of them at one time, neither queue of the ring can be full.
        let most = u32::from(plan.depth) + 1;
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
        let slots =
            Slots::new(plan.depth, plan.limits.max_io_bytes).map_err(QueueError::Buffers)?;
        let char_device = ring.fix_file(&plan.char_device);
        Ok(Self {
            ring,
            slots,
            descriptors,
            char_device,
            plan,
            stats: QueueStats::default(),
            handler,
            _of_this_thread: PhantomData,
        })
    }

    /// Offers every slot to the driver, with one system call, which does not wait.
    pub(crate) fn offer_all(&mut self) -> Result<(), QueueError> {
        let wake = FileName::Number(self.ring.kernel().number(&self.plan.wake));
        self.ring.submissions().push(Sqe::poll_readable(wake, Id::Wake.encode()))?;
        for tag in 0..self.slots.depth() {
            let buffer = self.slots.lend(tag, self.ring.submissions().number());
            let id = Id::Command { tag }.encode();
            let fetch = Sqe::fetch(self.char_device, self.plan.queue, tag, buffer, id);
            self.ring.submissions().push(fetch)?;
        }
        self.ring.wait(Some(Duration::ZERO))?;
        Ok(())
    }

    /// Submits what was answered, waits for a completion (until `deadline` on the kernel's clock,
    /// or without end) and handles all that there are.
    pub(crate) fn turn(&mut self, deadline: Option<Duration>) -> Result<Turn, QueueError> {
        self.ring.wait(deadline)?;
        let mut woken = false;
        while !woken && let Some(cqe) = self.ring.pop()? {
            // A batch of slow requests is not finished first; what is left of it fails.
            woken = self.complete(cqe)? || self.plan.leave.load(Ordering::Relaxed);
        }
        if woken {
            return Ok(Turn::Woken);
        }
        Ok(if self.slots.live() == 0 { Turn::Stopped } else { Turn::Live })
    }

    /// Handles one completion. Whether it says that the queue shall leave.
    fn complete(&mut self, cqe: Cqe) -> Result<bool, QueueError> {
        let Cqe { user_data, result } = cqe;
        let fits = match Id::decode(user_data) {
            Some(Id::Command { tag }) if self.slots.exists(tag) => {
                self.command_ended(tag, result)?
            }
            Some(Id::Delay { tag, cookie }) if self.slots.exists(tag) => {
                self.slots.end_delay(tag, cookie, self.ring.taken()) && {
                    self.resume(tag, cookie, result)?;
                    true
                }
            }
            Some(Id::Wake) if result >= 0 => return Ok(true),
            _ => false,
        };
        if fits { Ok(false) } else { Err(QueueError::Unexpected { user_data, result }) }
    }

    /// Sends what was answered, and answers all else that the server has with `EIO`, as far as the
    /// ring still works. The driver does that too once the char device is closed, but not while
    /// somebody holds what it needs for it (seen on 6.12: a START_DEV that scans for partitions).
    pub(crate) fn fail_all(&mut self) {
        let mut fail = || -> Result<(), QueueError> {
            while let Some(Cqe { user_data, result }) = self.ring.pop()? {
                if let Some(Id::Command { tag }) = Id::decode(user_data)
                    && self.slots.exists(tag)
                {
                    let taken = self.ring.taken();
                    let _ = match result {
                        UBLK_IO_RES_OK => self.slots.take(tag, taken),
                        _ => self.slots.gone(tag, taken),
                    };
                }
            }
            // A slot whose delay was not submitted yet is to have an answer in the ring as well.
            self.ring.submit()?;
            for tag in 0..self.slots.depth() {
                if self.slots.is_servers(tag) {
                    self.slots.settle(tag, Err(Errno::EIO));
                    self.slots.abandon_delay(tag);
                    self.commit_if_settled(tag)?;
                }
            }
            // Nothing new may come: an old driver does not notice for half a minute that a server
            // is gone when no slot has a command.
            Ok(self.ring.submit()?)
        };
        let _ = fail(); // what could not be answered is left to the driver
    }

    /// Gives the driver and the ring back, and leaves the handler.
    pub(crate) fn into_handler(self) -> H {
        self.handler
    }

    /// What the queue has done so far.
    pub(crate) fn stats(&self) -> QueueStats {
        self.stats
    }

    /// A slot's command has completed. `false` when that cannot be.
    fn command_ended(&mut self, tag: u16, result: i32) -> Result<bool, QueueError> {
        let taken = self.ring.taken();
        match result {
            UBLK_IO_RES_OK => {
                let fits = self.slots.take(tag, taken);
                if fits {
                    self.start(tag)?;
                }
                Ok(fits)
            }
            // Whatever else it says, the command is over, and the slot not ours to answer.
            _ if !self.slots.gone(tag, taken) => Ok(false),
            UBLK_IO_RES_ABORT => Ok(true),
            // NEED_GET_DATA was not asked for; other positive numbers do not exist.
            1.. => Ok(false),
            refused => {
                let errno = Errno::from_result(refused).err().unwrap_or(Errno::EIO);
                Err(QueueError::Refused { tag, errno })
            }
        }
    }

    /// The server owns the slot and its descriptor holds a request.
    fn start(&mut self, tag: u16) -> Result<(), QueueError> {
        match Request::decode(&self.descriptors.copy(tag), &self.plan.limits) {
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

    /// What the request waited for has ended.
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
            Ok(Step::Pending) if self.slots.delayed(tag) => {}
            Ok(Step::Pending) => self.slots.settle(tag, Err(Errno::EIO)), // on nothing: for ever
            Err(panic) => {
                std::mem::forget(panic); // its own drop might panic again
                self.stats.panics += 1;
                self.slots.settle(tag, Err(Errno::EIO));
            }
        }
        self.commit_if_settled(tag)
    }

    /// Answers the request if its answer is settled and it has no delay under way.
    fn commit_if_settled(&mut self, tag: u16) -> Result<(), QueueError> {
        let Some(answer) = self.slots.answer(tag) else { return Ok(()) };
        if self.slots.delayed(tag) {
            return Ok(());
        }
        let request = self.slots.request(tag);
        self.stats.count(&request, answer);
        let result = match answer {
            Ok(()) => request.success(),
            Err(errno) => -errno.number(),
        };
        let buffer = self.slots.lend(tag, self.ring.submissions().number());
        let id = Id::Command { tag }.encode();
        let commit =
            Sqe::commit_and_fetch(self.char_device, self.plan.queue, tag, result, buffer, id);
        Ok(self.ring.submissions().push(commit)?)
    }
}

#[cfg(any(test, fuzzing))]
impl<K: Kernel, H> Queue<K, H> {
    /// Panics unless the slots' accounts are right.
    pub(crate) fn check(&self) {
        self.slots.check();
    }

    /// A kernel that is played uses nothing any more, so that nothing need be leaked.
    pub(crate) fn take_all_back(&mut self) {
        self.slots.take_all_back();
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
