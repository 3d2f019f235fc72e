//! [`QueuePlan`]: what a queue is to be.

use super::Meter;
use crate::data_path::DataPath;
use crate::needs::{Needs, QueueInfo};
use crate::request::Limits;
use crate::wake::Wakers;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

/// Which queue of which device, as the driver granted it. It may go to any thread; the [`Queue`]
/// made from it stays where it was made.
#[derive(Debug)]
pub(crate) struct QueuePlan<F> {
    pub(crate) device: u32,
    pub(crate) queue: u16,
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
    /// Where it says what it does, if anywhere.
    pub(crate) meter: Option<Arc<Meter>>,
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
    /// What the backend is told.
    pub(crate) fn info(&self) -> QueueInfo {
        QueueInfo {
            queue: self.queue,
            depth: self.depth,
            max_io_bytes: self.limits.max_io_bytes,
            data_path: self.path,
            wakers: self.calls.as_ref().map_or_else(Wakers::deaf, |calls| calls.wakers.clone()),
        }
    }

    /// The most entries that the ring's queues hold at one time: each slot's command or its
    /// operations, and the event's poll. Batches have a few more, and wakers one.
    pub(crate) fn ring_entries(depth: u16, operations: u8) -> u32 {
        u32::from(depth) * u32::from(operations.max(1)) + 1
    }
}
