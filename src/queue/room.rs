//! Writes for whose data the driver finds no memory, where it is told to put it (get-data).
//!
//! It takes such a request back, lets it wait for 3 ms (`UBLK_REQUEUE_DELAY_MS`), and sends it
//! again: to the same slot, whose command to fetch completes as if a request had come, or to
//! another. The slot may have another request meanwhile. So whatever comes then is begun anew, and
//! of what was before only that it failed is kept. Without memory that would go on for ever, and
//! the driver takes no answer from whom it has not given the data: it is told to put it where
//! nobody looks.

use super::{Queue, QueueError};
use crate::errno::Errno;
use crate::handler::{Completion, Handler};
use crate::kernel::Kernel;
use crate::needs::Access;
use crate::request::Request;
use crate::slots::Where;
use core::time::Duration;

/// How long a write is tried; and one that did not fail for so long has been written.
const PATIENCE: Duration = Duration::from_millis(500);

/// The writes that failed lately, known by what they ask for.
#[derive(Debug)]
pub(super) struct Room {
    /// No more than there are slots.
    failed: Vec<Failed>,
}

#[derive(Clone, Copy, Debug)]
struct Failed {
    request: Request,
    /// When it failed first, and last.
    since: Duration,
    seen: Duration,
}

impl Room {
    pub(super) fn new(depth: u16) -> Self {
        Self { failed: Vec::with_capacity(depth.into()) }
    }

    /// Whether there is anything to know.
    #[inline]
    pub(super) fn is_short(&self) -> bool {
        !self.failed.is_empty()
    }

    /// What did not fail lately is past.
    fn forget_old(&mut self, now: Duration) {
        self.failed.retain(|failed| now.saturating_sub(failed.seen) < PATIENCE);
    }

    /// There was no room for a write's data.
    fn fails(&mut self, request: Request, now: Duration) {
        self.forget_old(now);
        let has_room = self.failed.len() < self.failed.capacity(); // no allocation here
        match self.failed.iter_mut().find(|failed| failed.request == request) {
            Some(failed) => failed.seen = now,
            None if has_room => self.failed.push(Failed { request, since: now, seen: now }),
            None => {}
        }
    }

    /// There was room.
    pub(super) fn succeeds(&mut self, request: &Request) {
        self.failed.retain(|failed| failed.request != *request);
    }

    /// Whether a write is not worth another try.
    pub(super) fn gives_up(&self, request: &Request, now: Duration) -> bool {
        let mut its = self.failed.iter().filter(|failed| failed.request == *request);
        its.any(|failed| now.saturating_sub(failed.since) >= PATIENCE)
    }
}

impl<K: Kernel, H: Handler> Queue<K, H> {
    /// Whether a write's handler waits for its data, and not its data for the handler.
    pub(super) fn has_started(&self, tag: u16) -> bool {
        self.plan.needs.access == Access::Regions && self.slots[tag].answer().is_none()
    }

    /// The driver has taken back what was being fetched, and the slot has a request anew, whose
    /// data is to be fetched or not. The handler does not wait in vain for the old one.
    #[cold]
    pub(super) fn taken_back(
        &mut self,
        tag: u16,
        cookie: u8,
        is_to_fetch: bool,
    ) -> Result<(), QueueError> {
        if !self.has_started(tag) {
            return self.begin_anew(tag, is_to_fetch);
        }
        self.slots.at(tag).set_place(Where::TakenBack(is_to_fetch));
        self.resume(tag, Completion { cookie, result: Err(Errno::ECANCELED) })
    }

    /// The slot's old request is over, and nobody is told; the one that it has now begins.
    #[cold]
    pub(super) fn begin_anew(&mut self, tag: u16, is_to_fetch: bool) -> Result<(), QueueError> {
        self.slots.at(tag).forget_answer();
        self.forget_waiting(tag);
        if is_to_fetch { self.start_if_worth_it(tag) } else { self.start(tag, false) }
    }

    /// What a slot's command was to fetch found no room.
    pub(super) fn note_no_room(&mut self, tag: u16) {
        if self.slots[tag].place() != Where::Waste {
            self.room.fails(self.slots[tag].request(), self.ring.kernel().now());
        }
    }

    /// Where room is short: starts a write, unless it has failed for so long.
    #[cold]
    pub(super) fn start_if_worth_it(&mut self, tag: u16) -> Result<(), QueueError> {
        let Ok(request) = Request::decode(self.descriptors.copy(tag), &self.plan.limits) else {
            return self.start(tag, true);
        };
        let now = self.ring.kernel().now();
        self.room.forget_old(now);
        // It may have come from a slot that was not told of that yet.
        for other in 0..self.slots.depth() {
            if self.slots[other].is_fetching() && self.slots[other].request() == request {
                self.room.fails(request, now);
                self.forget_waiting(other);
            }
        }
        if !self.room.gives_up(&request, now) {
            return self.start(tag, true);
        }
        self.slots.at(tag).set_request(request, Where::Kernel);
        self.slots.at(tag).settle(Err(Errno::EIO));
        self.commit_if_settled(tag) // its data goes where nobody looks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Operation;

    const MS: Duration = Duration::from_millis(1);

    fn write(offset: u64) -> Request {
        Request { operation: Operation::Write { fua: false }, offset, len_bytes: 512 }
    }

    #[test]
    fn each_is_tried_for_a_while() {
        let mut room = Room::new(2);
        assert!(!room.is_short());
        for ms in (0..500).step_by(4) {
            room.fails(write(0), ms * MS);
            assert!(room.is_short() && !room.gives_up(&write(0), ms * MS), "{ms} ms");
        }
        room.fails(write(512), 400 * MS);
        assert!(room.gives_up(&write(0), 500 * MS));
        assert!(!room.gives_up(&write(512), 500 * MS) && !room.gives_up(&write(1024), 500 * MS));
        room.fails(write(1024), 500 * MS); // more than can be under way
        assert_eq!(room.failed.len(), 2);
        room.succeeds(&write(0));
        assert!(!room.gives_up(&write(0), 501 * MS));
    }

    #[test]
    fn an_old_failure_does_not_count() {
        let mut room = Room::new(2);
        room.fails(write(0), MS);
        room.fails(write(0), 501 * MS); // meanwhile it was written
        assert!(!room.gives_up(&write(0), 502 * MS));
        room.fails(write(0), 900 * MS);
        room.forget_old(1399 * MS);
        assert!(room.is_short());
        room.forget_old(1400 * MS);
        assert!(!room.is_short() && !room.gives_up(&write(0), 1400 * MS));
    }
}
