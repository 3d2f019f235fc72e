//! [`Handler`]: what the queue knows of a backend, and [`Io`]: what a backend holds for one call.

use crate::errno::Errno;
use crate::queue::{Id, Slots};
use crate::request::Request;
use crate::ring::{Sqe, SubmissionQueue};
use core::fmt;
use core::time::Duration;

/// What a call to a handler comes to.
#[must_use = "the client waits for the answer"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The request is answered: all of it succeeded, or it failed.
    Done(Result<(), Errno>),
    /// The request goes on when an operation that was submitted for it ends.
    Pending,
}

/// An operation of a request has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// What the operation was submitted with.
    pub cookie: u8,
    /// What came of it.
    pub result: Result<u32, Errno>,
}

/// Serves the requests of one queue, on the queue's thread.
///
/// Each request is [`start`](Self::start)ed once and [`resume`](Self::resume)d once for every
/// operation that was submitted for it, until a call answers [`Step::Done`]. A call must not block
/// for longer than its clients shall wait: the queue's other requests wait too.
///
/// Mistakes cost an `EIO`, never a hang: a call that panics, and one that is `Pending` with no
/// operation under way. After a panic the request is not entered again; the next one of that tag
/// begins with a `start`.
pub trait Handler {
    /// Begins a request.
    fn start(&mut self, io: &mut Io<'_>) -> Step;

    /// Goes on with a request after one of its operations. A handler that submits none needs none.
    fn resume(&mut self, io: &mut Io<'_>, done: Completion) -> Step {
        let _ = (io, done);
        Step::Done(Err(Errno::EIO))
    }
}

/// A request as a handler sees it during one call: what is asked, its data, and the operations that
/// can be submitted for it on the queue's own ring.
pub struct Io<'a> {
    pub(crate) slots: &'a mut Slots,
    pub(crate) submissions: &'a mut SubmissionQueue<Sqe>,
    pub(crate) tag: u16,
}

impl Io<'_> {
    /// What the client asks.
    pub fn request(&self) -> Request {
        self.slots.request(self.tag)
    }

    /// The request's number in its queue, below the depth. No two requests at one time share it.
    pub fn tag(&self) -> u16 {
        self.tag
    }

    /// The request's data: what a write brings, or what a read is to fill, which holds anything
    /// before. Empty for other operations.
    pub fn data(&mut self) -> &mut [u8] {
        self.slots.data(self.tag)
    }

    /// Submits an operation that ends after `time`, with `Err(ETIME)`.
    ///
    /// # Errors
    ///
    /// `EBUSY`: the request has a delay under way; there can be one. `ENOSPC`: it has as many
    /// operations under way as [`Target::operations`](crate::Target::operations) said.
    pub fn delay(&mut self, time: Duration, cookie: u8) -> Result<(), Errno> {
        let address = self.slots.begin_delay(self.tag, time)?;
        let id = Id::Operation { tag: self.tag, cookie, delay: true };
        self.submissions.push(Sqe::timeout(address, id.encode())).map_err(|_| Errno::ENOSPC)
    }
}

impl fmt::Debug for Io<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Io").field("tag", &self.tag).field("request", &self.request()).finish()
    }
}
