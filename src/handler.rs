//! [`Handler`]: what the queue knows of a backend, and [`Io`]: what a backend holds for one call.

use crate::errno::Errno;
use crate::id::Id;
use crate::request::Request;
use crate::ring::{Sqe, SubmissionQueue};
use crate::slots::Slots;
use core::fmt;
use core::time::Duration;

/// What a call to a handler comes to.
#[must_use = "the client waits for the answer"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The request is answered: all of it succeeded, or it failed.
    Done(Result<(), Errno>),
    /// The request goes on when its delay has ended.
    Pending,
}

/// What a request waited for has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// What it was asked for with.
    pub cookie: u8,
    /// What came of it.
    pub result: Result<u32, Errno>,
}

/// Serves the requests of one queue, on the queue's thread.
///
/// Each request is [`start`](Self::start)ed once and [`resume`](Self::resume)d whenever what it
/// waits for has ended, until a call answers [`Step::Done`]. So far it can wait for a delay
/// ([`Io::delay`]). A call must not block for longer than its clients shall wait: the queue's other
/// requests wait too.
///
/// Mistakes cost an `EIO`, never a hang: a call that panics, and one that is `Pending` on nothing.
/// After a panic the request is not entered again; the next one of that tag begins with a `start`.
pub trait Handler {
    /// Begins a request.
    fn start(&mut self, io: &mut Io<'_>) -> Step;

    /// Goes on with a request. A handler that is never [`Step::Pending`] needs none.
    fn resume(&mut self, io: &mut Io<'_>, done: Completion) -> Step {
        let _ = (io, done);
        Step::Done(Err(Errno::EIO))
    }
}

/// A request as a handler sees it during one call: what is asked, its data, and what it can wait
/// for on the queue's own ring.
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

    /// Has the request resumed after `time`, with `Err(ETIME)`. Until then it is not answered,
    /// whatever the handler says.
    ///
    /// # Errors
    ///
    /// `EBUSY`: the request has a delay under way; there can be one.
    pub fn delay(&mut self, time: Duration, cookie: u8) -> Result<(), Errno> {
        let sqe = self.submissions.number();
        let address = self.slots.begin_delay(self.tag, time, cookie, sqe)?;
        let id = Id::Delay { tag: self.tag, cookie };
        self.submissions.push(Sqe::timeout(address, id.encode())).map_err(|_| {
            // The ring is too small, which its queue will see for itself at the commit.
            self.slots.drop_delay(self.tag);
            Errno::ENOSPC
        })
    }
}

impl fmt::Debug for Io<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Io").field("tag", &self.tag).field("request", &self.request()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Operation;
    use crate::ring::fake_submissions;

    /// What a handler that panics prints.
    #[test]
    fn an_io_prints_what_is_asked() {
        let mut slots = Slots::new(4, 4096).unwrap();
        slots.lend(3, 0);
        assert!(slots.take(3, 1));
        let operation = Operation::Write { fua: true };
        slots.set_request(3, Request { operation, offset: 512, len_bytes: 1024 });
        let io = Io { slots: &mut slots, submissions: &mut fake_submissions(), tag: 3 };
        let text = format!("{io:?}");
        assert!(text.starts_with("Io { tag: 3, request: Request { operation: Write"), "{text}");
    }
}
