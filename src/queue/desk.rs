//! [`Desk`]: a slot's request, from its descriptor to the handler and back to the driver.

use super::batch::Batch;
use super::descriptors::Descriptors;
use super::guard::Panics;
use super::mover::CharDevice;
use super::{Queue, QueueError, QueuePlan, QueueStats};
use crate::errno::Errno;
use crate::handler::{Common, Completion, Handler, Io, Step};
use crate::id::Id;
use crate::kernel::Kernel;
use crate::needs::Access;
use crate::request::{Request, success};
use crate::ring::{RingError, Sqe, SubmissionQueue};
use crate::slots::{At, Operation, Where};
use std::sync::atomic::Ordering;

/// One slot, looked up once, and what the queue has for its request.
pub(super) struct Desk<'a, K: Kernel, H> {
    pub(super) at: At<'a>,
    submissions: &'a mut SubmissionQueue<Sqe>,
    kernel: &'a K,
    descriptors: &'a Descriptors<K::Mapping>,
    common: &'a Common,
    pub(super) plan: &'a QueuePlan<K::File>,
    batch: &'a mut Option<Batch>,
    stats: &'a mut QueueStats,
    panicked: &'a mut Option<u16>,
    handler: &'a mut H,
}

/// Why the handler is called.
#[derive(Clone, Copy, Debug)]
pub(super) enum Enter {
    /// To begin the request.
    Start,
    /// It goes on.
    Resume(Completion),
    /// It is not: the ring is asked for an operation that the handler knows nothing of,
    Ask(Operation),
    /// or for the rest of one, by its index.
    GoOn(u8),
}

/// What is left to do for a request that was at its desk.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub(super) enum Left {
    /// Nothing: it was answered.
    Nothing,
    /// It waits for something.
    Waits,
    /// It is to be answered, with that.
    Answer(Result<(), Errno>),
    /// It is to be answered as was settled, once it does not wait for anything.
    Settled,
    /// Its data is to be brought.
    Data,
    /// It cannot be, as far as is known; and whether it has data to fetch.
    Nonsense(bool),
}

impl<K: Kernel, H: Handler> Desk<'_, K, H> {
    /// The slot's command has completed with a request, or with a write's data: as [`At::came`].
    #[must_use]
    #[inline(always)]
    pub(super) fn came(&mut self) -> Option<Option<u8>> {
        self.at.came(self.submissions.taken())
    }

    /// The server owns the slot, and its descriptor holds a request.
    #[inline(always)] // into whatever tells of requests
    pub(super) fn start(mut self, has_data_to_fetch: bool) -> Result<Left, RingError> {
        let descriptor = self.descriptors.copy(self.at.tag());
        let Ok(request) = Request::decode(descriptor, &self.plan.limits) else {
            return Ok(Left::Nonsense(has_data_to_fetch));
        };
        let place = self.plan.place(&request, descriptor.op_flags, has_data_to_fetch);
        if place == Where::Kernel && self.plan.needs.access != Access::Regions {
            self.at.set_request(request, place); // here, too: most need not ask that twice
            return Ok(Left::Data);
        }
        self.at.set_request(request, place); // before a panic is taken for the handler's
        self.enter(Enter::Start)
    }

    /// Calls the handler: the one place where it may panic. See [`Queue::guarded`].
    #[inline(always)] // as often as there are calls of it
    pub(super) fn enter(self, why: Enter) -> Result<Left, RingError> {
        let panics = Panics::of(self.at.tag(), self.panicked);
        let mut io = Io {
            at: self.at,
            submissions: self.submissions,
            common: self.common,
            mover: &CharDevice { kernel: self.kernel, plan: self.plan },
        };
        let step = match why {
            Enter::Start => self.handler.start(&mut io),
            Enter::Resume(done) => self.handler.resume(&mut io, done),
            Enter::Ask(operation) => Step::of(io.begin(operation)),
            Enter::GoOn(index) => Step::of(io.go_on(index)),
        };
        panics.did_not();
        let desk = Desk { at: io.at, submissions: io.submissions, ..self };
        let answer = match step {
            Step::Done(answer) => answer,
            Step::Pending if desk.at.is_waiting() => return Ok(Left::Waits),
            Step::Pending => Err(Errno::EIO), // on nothing: for ever
        };
        if !desk.at.is_done() {
            return Ok(Left::Answer(answer));
        }
        desk.tell(answer)?;
        Ok(Left::Nothing)
    }

    /// Tells the driver the answer to what the slot was asked, and offers it again.
    #[inline(always)] // into `enter`: the way of every request
    pub(super) fn tell(mut self, answer: Result<(), Errno>) -> Result<(), RingError> {
        let (asked, data_bytes) = self.at.asked();
        let result = match answer {
            Ok(()) => success(data_bytes),
            Err(errno) => -errno.number(),
        };
        self.offer(Some(result))?;
        // Last: the slot need not be looked at again because something was written.
        self.stats.count(asked, data_bytes, answer);
        Ok(())
    }

    /// Offers the slot to the driver, with the result of its request if it has had one.
    #[inline(always)] // as `tell`
    pub(super) fn offer(&mut self, result: Option<i32>) -> Result<(), RingError> {
        let tag = self.at.tag();
        if let Some(batch) = &mut self.batch {
            let buffer = self.at.lend(batch.open());
            batch.add(tag, result.unwrap_or(0), buffer);
            return Ok(());
        }
        let buffer = self.at.lend(self.submissions.number());
        let id = Id::Command { tag }.encode();
        let command = match result {
            None => Sqe::fetch(self.common.name(tag), buffer, id),
            Some(result) => self.common.commit.of(self.common.name(tag), result, buffer, id),
        };
        self.submissions.push(command)
    }
}

impl<K: Kernel, H: Handler> Queue<K, H> {
    /// A slot, with what the queue has for its request.
    #[inline(always)] // it is never more than what of it is used
    pub(super) fn desk(&mut self, tag: u16) -> Desk<'_, K, H> {
        let (kernel, submissions) = self.ring.kernel_and_submissions();
        Desk {
            at: self.slots.at(tag),
            submissions,
            kernel,
            descriptors: &self.descriptors,
            common: &self.common,
            plan: &self.plan,
            batch: &mut self.batch,
            stats: &mut self.stats,
            panicked: &mut self.panicked,
            handler: &mut self.handler,
        }
    }

    /// The server owns the slot, and its descriptor holds a request.
    pub(super) fn start(&mut self, tag: u16, has_data_to_fetch: bool) -> Result<(), QueueError> {
        let left = self.desk(tag).start(has_data_to_fetch)?;
        self.go_on(tag, left)
    }

    /// Calls the request's handler, for one reason or another.
    #[inline]
    pub(super) fn enter(&mut self, tag: u16, why: Enter) -> Result<(), QueueError> {
        let left = self.desk(tag).enter(why)?;
        self.go_on(tag, left)
    }

    /// What the request waited for has ended: the handler goes on, unless it was answered already.
    pub(super) fn resume(&mut self, tag: u16, done: Completion) -> Result<(), QueueError> {
        match self.slots[tag].answer() {
            Some(_) => self.commit_if_settled(tag),
            None => self.enter(tag, Enter::Resume(done)),
        }
    }

    /// Does what is left to do.
    #[inline(always)] // for most requests that is nothing
    pub(super) fn go_on(&mut self, tag: u16, left: Left) -> Result<(), QueueError> {
        match left {
            Left::Nothing => Ok(()),
            Left::Waits => {
                self.note_waiting(tag);
                Ok(())
            }
            Left::Answer(answer) => self.settle(tag, answer),
            Left::Settled => self.commit_if_settled(tag),
            Left::Data => self.bring_data(tag),
            Left::Nonsense(has_data_to_fetch) => self.refuse(tag, has_data_to_fetch),
        }
    }

    /// The server owns the slot, and its descriptor holds what could not be asked of the disk as it
    /// was when that was last looked at.
    #[cold]
    fn refuse(&mut self, tag: u16, has_data_to_fetch: bool) -> Result<(), QueueError> {
        let size_bytes = self.plan.size_bytes.load(Ordering::Relaxed);
        if self.plan.limits.grow(size_bytes) {
            return self.start(tag, has_data_to_fetch);
        }
        let decoded = Request::decode(self.descriptors.copy(tag), &self.plan.limits);
        let place = if has_data_to_fetch { Where::Kernel } else { Where::Buffer };
        self.slots.at(tag).set_nonsense(place);
        self.slots.at(tag).settle(Err(decoded.err().unwrap_or(Errno::EIO)));
        self.commit_if_settled(tag)
    }
}
