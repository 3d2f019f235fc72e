//! Writes for whose data the driver finds no memory, where it is told to put it (get-data).
//!
//! It takes such a request back, lets it wait for 3 ms (`UBLK_REQUEUE_DELAY_MS`), and sends it
//! again: to the same slot, whose command to fetch completes as if a request had come, or to
//! another. The slot may have another request meanwhile. So whatever comes then is begun anew, and
//! nothing is kept of what was before. Without memory that would go on for ever, and the driver
//! takes no answer from whom it has not given the data: it is told to put it where nobody looks.

use super::{Queue, QueueError};
use crate::errno::Errno;
use crate::handler::{Completion, Handler};
use crate::kernel::Kernel;
use crate::needs::Access;
use crate::request::Request;
use crate::slots::Where;
use core::time::Duration;

/// How long a write is tried. After that all fail at their first try, until for as long none did.
const PATIENCE: Duration = Duration::from_millis(500);

/// What is known of such writes: one is watched, as an example for all.
#[derive(Debug, Default)]
pub(super) struct Room {
    watched: Option<Watched>,
    /// No try is worth it until then.
    hopeless_until: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Watched {
    request: Request,
    /// When it failed first, and last.
    since: Duration,
    seen: Duration,
}

impl Room {
    /// There was no room for a write's data. Whether it is given up.
    fn fails(&mut self, request: Request, now: Duration) -> bool {
        let watched = self.watched.filter(|watched| now - watched.seen < PATIENCE);
        let is_its = watched.is_none_or(|watched| watched.request == request);
        let since = watched.filter(|_| is_its).map_or(now, |watched| watched.since);
        if is_its {
            self.watched = Some(Watched { request, since, seen: now });
        }
        let gives_up = now < self.hopeless_until || now - since >= PATIENCE;
        if gives_up {
            self.hopeless_until = now.saturating_add(PATIENCE);
        }
        gives_up
    }
}

impl<K: Kernel, H: Handler> Queue<K, H> {
    /// Whether a write's handler waits for its data, and not its data for the handler.
    pub(super) fn has_started(&self, tag: u16) -> bool {
        self.plan.needs.access == Access::Regions && self.slots.answer(tag).is_none()
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
        self.slots.set_place(tag, Where::TakenBack(is_to_fetch));
        self.resume(tag, Completion { cookie, result: Err(Errno::ECANCELED) })
    }

    /// The slot's old request is over, and nobody is told; the one that it has now begins.
    #[cold]
    pub(super) fn begin_anew(&mut self, tag: u16, is_to_fetch: bool) -> Result<(), QueueError> {
        self.slots.forget_answer(tag);
        self.forget_waiting(tag);
        if is_to_fetch
            && let Ok(request) = Request::decode(&self.descriptors.copy(tag), &self.plan.limits)
            && self.room.fails(request, self.ring.kernel().now())
        {
            self.slots.set_request(tag, request, Where::Kernel);
            self.slots.settle(tag, Err(Errno::EIO));
            return self.commit_if_settled(tag); // its data goes where nobody looks
        }
        self.start(tag, is_to_fetch)
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
    fn one_is_tried_for_a_while_and_then_none() {
        let mut room = Room::default();
        for ms in (0..500).step_by(4) {
            assert!(!room.fails(write(0), ms * MS), "{ms} ms");
            assert!(!room.fails(write(512), ms * MS), "{ms} ms");
        }
        assert!(room.fails(write(0), 500 * MS));
        assert!(room.fails(write(512), 900 * MS), "it is hopeless");
        assert!(room.fails(write(1024), 1300 * MS), "still");
        assert!(!room.fails(write(0), 1800 * MS), "half a second later it may be well");
        assert!(!room.fails(write(0), 2290 * MS));
        assert!(room.fails(write(0), 2300 * MS));
    }

    #[test]
    fn an_old_failure_does_not_count() {
        let mut room = Room::default();
        assert!(!room.fails(write(0), MS));
        assert!(!room.fails(write(0), 501 * MS), "meanwhile it was written");
        assert!(!room.fails(write(512), 900 * MS), "the first one is watched");
        assert!(!room.fails(write(512), 1001 * MS), "but not any more");
        assert!(!room.fails(write(0), 1400 * MS));
        assert!(!room.fails(write(512), 1500 * MS));
        assert!(room.fails(write(512), 1501 * MS));
    }
}
