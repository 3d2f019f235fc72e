//! [`At`]: one of a queue's slots, and what becomes of it.

use super::slot::{IDLE, State};
use super::{Shared, Slot, Where};
use crate::errno::Errno;
use crate::request::Request;
use crate::ring::Address;
use core::ops::Deref;

/// One slot, looked up once, with what it shares with the queue's others.
#[derive(Debug)]
pub(crate) struct At<'a> {
    pub(super) tag: u16,
    pub(super) slot: &'a mut Slot,
    pub(super) shared: &'a mut Shared,
}

impl Deref for At<'_> {
    type Target = Slot;

    #[inline(always)]
    fn deref(&self) -> &Slot {
        self.slot
    }
}

impl At<'_> {
    /// Which slot it is.
    #[inline]
    pub(crate) fn tag(&self) -> u16 {
        self.tag
    }

    /// Gives the slot to the kernel: its first command, or the one that answers its request, will
    /// have number `command`. Answers the address that belongs into it.
    ///
    /// # Panics
    ///
    /// When the kernel has it already, or an operation is under way: a defect of the queue.
    #[inline(always)]
    pub(crate) fn lend(&mut self, command: u64) -> Address {
        let Self { slot, shared, .. } = self;
        let address = slot.address(&shared.regions).masked(shared.lends);
        slot.answer = None; // the next request has its own, also if nobody looks at it
        shared.live += u16::from(slot.hand_over(command, State::Kernel));
        address
    }

    /// The kernel's slot is told of by command number `again`, for it was not taken with `command`.
    /// `false` when that cannot be.
    #[must_use]
    pub(crate) fn lend_again(&mut self, command: u64, again: u64) -> bool {
        let is_its = self.is_kernels() && self.command == command;
        self.slot.command = if is_its { again } else { self.command };
        is_its
    }

    /// The slot's command completed with a request: the server owns the slot again. The kernel has
    /// `taken` so many commands; `None` when the slot's is not among them, so that this cannot be.
    /// Answers the number of the handler who waits, where the command was to bring a write's data.
    #[must_use]
    #[inline(always)] // the way of every request
    pub(crate) fn came(&mut self, taken: u64) -> Option<Option<u8>> {
        if self.is_fetching() {
            return self.take(taken).then_some(Some(self.cookie));
        }
        let slot = &mut *self.slot; // looked at here: there is one state left that fits
        let is_taken = slot.state == State::Kernel && slot.command < taken;
        is_taken.then(|| {
            slot.state = State::Server;
            None
        })
    }

    /// The same of a command that fetches nothing; `false` when it cannot be.
    #[must_use]
    #[inline]
    pub(crate) fn take(&mut self, taken: u64) -> bool {
        self.slot.leave_kernel(taken, State::Server)
    }

    /// The slot's command completed because the driver takes the slot away.
    #[must_use]
    #[inline]
    pub(crate) fn gone(&mut self, taken: u64) -> bool {
        let was = self.slot.leave_kernel(taken, State::Gone);
        self.shared.live -= u16::from(was);
        was
    }

    /// Notes what the server is asked, and where its data is.
    #[inline(always)] // as `came`
    pub(crate) fn set_request(&mut self, request: Request, data: Where) {
        let fits = request.data_len() <= u64::from(self.shared.buffer_bytes);
        assert!(fits, "decoded against the device");
        let slot = &mut *self.slot;
        (slot.request, slot.data) = (request, data);
        (slot.data_bytes, slot.filled_bytes) = (request.data_bytes(), 0);
    }

    /// The server has a request that cannot be.
    pub(crate) fn set_nonsense(&mut self, data: Where) {
        self.set_request(IDLE, data);
    }

    /// The server's request waits for a waker.
    pub(crate) fn park(&mut self, cookie: u8) {
        assert!(self.is_servers(), "only the server's own requests are parked");
        self.slot.waits += u16::from(self.parked.is_none());
        self.slot.parked = Some(cookie);
    }

    /// A waker woke the request, if it waits for one; answers the handler's number.
    pub(crate) fn unpark(&mut self) -> Option<u8> {
        self.slot.waits -= u16::from(self.parked.is_some());
        self.slot.parked.take()
    }

    /// Settles what the client will be answered, once its operations have ended. The first answer
    /// stands.
    #[inline]
    pub(crate) fn settle(&mut self, answer: Result<(), Errno>) {
        self.slot.answer.get_or_insert(answer);
    }

    /// The request is answered whatever becomes of its operations: success is no answer where some
    /// may not do what it says. Whether this error is the answer.
    pub(crate) fn settle_without_operations(&mut self, errno: Errno) -> bool {
        let before = self.answer;
        if self.shared.operations.matter(self.tag) {
            self.take_success_back(errno);
        }
        self.settle(Err(errno));
        self.answer != before
    }

    /// Success that was settled, and not told yet, is none.
    pub(crate) fn take_success_back(&mut self, errno: Errno) {
        if self.answer == Some(Ok(())) {
            self.slot.answer = Some(Err(errno));
        }
    }

    /// The slot has another request than the one that this was the answer to.
    pub(crate) fn forget_answer(&mut self) {
        self.slot.answer = None;
    }
}
