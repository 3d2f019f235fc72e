//! [`QueuePlan`]: what a queue is to be.

use super::Meter;
use crate::data_path::DataPath;
use crate::needs::{Needs, QueueInfo};
use crate::request::Limits;
use crate::slots::{Allowed, Share};
use crate::wake::Wakers;
use core::time::Duration;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Which queue of which device, as the driver granted it. It may go to any thread; the [`Queue`]
/// made from it stays where it was made.
#[derive(Debug)]
pub(crate) struct QueuePlan<F> {
    pub(crate) device: u32,
    pub(crate) queue: u16,
    /// What of the queue is this thread's.
    pub(crate) share: Share,
    pub(crate) depth: u16,
    pub(crate) descriptor_bytes: u16,
    pub(crate) limits: Limits,
    /// How large the disk is by now: it may have grown beyond the limits.
    pub(crate) size_bytes: Arc<AtomicU64>,
    pub(crate) path: DataPath,
    /// Whether one command offers and answers many slots.
    pub(crate) batches: bool,
    pub(crate) needs: Needs,
    pub(crate) char_device: Arc<F>,
    /// The CPUs that its thread runs on; none: any.
    pub(crate) cpus: Vec<u32>,
    /// Where it says what it does, if anywhere.
    pub(crate) meter: Option<Arc<Meter>>,
    /// How long a request may wait, once its handler has returned.
    pub(crate) request_timeout: Option<Duration>,
    /// How long its thread looks for requests before it sleeps.
    pub(crate) spin: Duration,
    /// Set when the queue shall leave although its slots are live,
    pub(crate) leave: Arc<AtomicBool>,
    /// and then signalled.
    pub(crate) wake: Arc<F>,
    /// By what requests are woken, where the backend needs it.
    pub(crate) calls: Option<Calls<F>>,
}

/// An event of a queue, and what signals it for a request.
#[derive(Debug)]
pub(crate) struct Calls<F> {
    pub(crate) event: Arc<F>,
    pub(crate) wakers: Wakers,
}

impl<F> QueuePlan<F> {
    /// Whether the queue shall leave, and begin nothing new.
    #[inline]
    pub(super) fn leaves(&self) -> bool {
        self.leave.load(Ordering::Relaxed)
    }

    /// What the backend is told.
    pub(crate) fn info(&self) -> QueueInfo {
        QueueInfo {
            queue: self.queue,
            thread: self.share.thread,
            depth: self.depth,
            max_io_bytes: self.limits.max_io_bytes(),
            data_path: self.path,
            wakers: self.calls.as_ref().map_or_else(Wakers::deaf, |calls| calls.wakers.clone()),
        }
    }

    /// How many operations a request may have.
    pub(crate) fn operations(&self) -> Allowed {
        let each = self.needs.operations;
        // As many again that were given up and do not end.
        let places = if self.request_timeout.is_some() { each.saturating_mul(2) } else { each };
        Allowed { each, places }
    }

    /// The most entries that the ring's queues hold at one time. Batches have a few more, and
    /// wakers one.
    pub(crate) fn entries(&self) -> u32 {
        let gives_up = self.request_timeout.is_some();
        let slots = self.share.count(self.depth);
        Self::ring_entries(slots, self.path, self.needs.operations, gives_up)
    }

    /// Each slot's command or its operations, and the event's poll; where requests are given up,
    /// operations that do not end, and cancellations; by hand, pages that leave the table.
    pub(crate) fn ring_entries(slots: u16, path: DataPath, operations: u8, gives_up: bool) -> u32 {
        let times = if gives_up { 3 } else { 1 };
        let emptied = u32::from(path == DataPath::ZeroCopyByHand);
        u32::from(slots) * ((u32::from(operations) * times).max(1) + emptied) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Geometry;
    use crate::handler::{Handler, Io, Step};
    use crate::queue::Queue;
    use crate::ring::Played;

    #[test]
    fn rings_have_room_for_all_that_can_be_under_way() {
        let entries = |slots, operations, gives_up| {
            QueuePlan::<()>::ring_entries(slots, DataPath::Copy, operations, gives_up)
        };
        let by_hand = DataPath::ZeroCopyByHand;
        assert_eq!(QueuePlan::<()>::ring_entries(4096, by_hand, 7, false), 8 * 4096 + 1);
        assert_eq!(entries(128, 0, false), 128 + 1, "a command each, and the event's poll");
        assert_eq!(entries(128, 3, false), 3 * 128 + 1, "or its operations");
        assert_eq!(entries(128, 3, true), 9 * 128 + 1, "old ones, and cancellations");
        assert_eq!(entries(128, 0, true), 128 + 1);
        assert_eq!(entries(u16::MAX, u8::MAX, true), 65535 * 765 + 1);
    }

    struct Nobody;

    impl Handler for Nobody {
        fn start(&mut self, _: &mut Io<'_>) -> Step {
            Step::Done(Ok(()))
        }
    }

    /// How many SQEs and CQEs a queue of so many slots asks a ring for.
    fn entries(depth: u16, batches: bool, wakers: bool) -> Option<(u32, u32)> {
        let kernel = Played::default();
        let plan = QueuePlan {
            device: 0,
            queue: 0,
            share: Share::ALL,
            depth,
            descriptor_bytes: 24,
            limits: Limits::new(Geometry::new(1 << 20), 4096),
            size_bytes: Arc::default(),
            path: DataPath::Copy,
            batches,
            needs: Needs::default(),
            char_device: Arc::new(3),
            cpus: Vec::new(),
            meter: None,
            request_timeout: None,
            spin: Duration::ZERO,
            leave: Arc::default(),
            wake: Arc::new(4),
            calls: wakers.then(|| Calls { event: Arc::new(5), wakers: Wakers::deaf() }),
        };
        let _ = Queue::new(kernel.clone(), plan, Nobody); // the ring that it gets is too short
        kernel.entries()
    }

    /// A poll of the event by which wakers call; and what batches add.
    #[test]
    fn rings_are_no_longer_than_they_must_be() {
        assert_eq!(entries(128, false, false), Some((129, 129)));
        assert_eq!(entries(128, false, true), Some((130, 130)));
        assert_eq!(entries(128, true, false), Some((129 + 3, 129 + 131)));
        assert_eq!(entries(128, true, true), Some((129 + 3 + 1, 129 + 131 + 1)));
    }
}
