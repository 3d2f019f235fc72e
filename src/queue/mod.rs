//! The data plane: one queue of a device, or a share of it, served by the thread that made it.
//!
//! A slot's life: it is offered to the driver (a fetch), comes back with a request (a CQE), is
//! decoded, handed to the [`Handler`], answered and offered again (a commit and fetch), until the
//! driver takes it away. All that were answered in one turn are offered by one system call, and
//! where the driver takes that by one command.

mod answer;
mod batch;
mod calls;
mod deadlines;
mod descriptors;
mod desk;
mod ended;
mod error;
mod guard;
mod leave;
mod meter;
mod mover;
mod paths;
mod plan;
mod room;
mod spin;
mod stats;
#[cfg(test)]
mod tests;

pub use error::QueueError;
pub use meter::{Meter, Reading};
pub(crate) use plan::{Calls, QueuePlan};
pub use stats::QueueStats;

use crate::data_path::DataPath;
use crate::errno::Errno;
use crate::handler::{Common, Handler};
use crate::id::Id;
use crate::kernel::Kernel;
use crate::ring::{CommitAndFetch, Cqe, FileName, Ring, RingPlan, Slot, Sqe};
use crate::slots::Slots;
use batch::Batch;
use core::marker::PhantomData;
use core::time::Duration;
use deadlines::Deadlines;
use descriptors::Descriptors;
use meter::Metering;
use room::Room;
use spin::Spin;
use static_assertions::assert_not_impl_any;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use ublkit_sys::ublk::{UBLK_IO_RES_ABORT, UBLK_IO_RES_NEED_GET_DATA, UBLK_IO_RES_OK};

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

/// One queue, or its share of one, on its thread: the driver takes a slot's commands only from the
/// task that fetched it.
#[derive(Debug)]
pub(crate) struct Queue<K: Kernel, H> {
    // Dropped first: the driver gets its slots back before their memory is looked after.
    ring: Ring<K, Sqe>,
    slots: Slots,
    descriptors: Descriptors<K::Mapping>,
    common: Common,
    /// What many slots' commands are, where each does not have its own.
    batch: Option<Batch>,
    /// Whether its ring has a table for requests' pages.
    has_table: bool,
    /// Whether it listens to wakers.
    listens: bool,
    plan: QueuePlan<K::File>,
    stats: QueueStats,
    metering: Option<Box<Metering>>,
    /// Where requests may not wait for as long as they like.
    deadlines: Option<Box<Deadlines>>,
    /// Where it looks for requests before it sleeps.
    spin: Option<Spin>,
    /// Writes for whose data there is no memory.
    room: Room,
    /// Whose handler panicked, until that has cost its request an error.
    panicked: Option<u16>,
    // Dropped last: the driver has all back before a stranger's code runs.
    handler: H,
    _of_this_thread: PhantomData<*mut ()>,
}

assert_not_impl_any!(Queue<crate::Linux, ()>: Send, Sync);

impl<K: Kernel, H: Handler> Queue<K, H> {
    /// Makes the queue of the calling thread, and offers nothing yet.
    pub(crate) fn new(kernel: K, plan: QueuePlan<K::File>, handler: H) -> Result<Self, QueueError> {
        // Sized for all of them at one time, neither queue of the ring can be full.
        let (most, calls) = (plan.entries(), u32::from(plan.calls.is_some()));
        let (commands, tags) = if plan.batches { Batch::entries(plan.depth) } else { (0, 0) };
        let ring_plan = RingPlan {
            submissions: most + commands + calls,
            completions: most + tags + calls,
            one_task: true,
            tells: plan.spin > Duration::ZERO,
        };
        let mut ring = Ring::new(kernel, ring_plan)?;
        let descriptors = Descriptors::map(
            ring.kernel(),
            &plan.char_device,
            plan.queue,
            plan.depth,
            plan.descriptor_bytes,
        )
        .map_err(QueueError::Descriptors)?;
        let slots = Slots::new(
            plan.path,
            plan.depth,
            plan.share,
            plan.limits.max_io_bytes(),
            plan.operations(),
            plan.needs.regions.clone(),
        )
        .map_err(QueueError::Buffers)?;
        let mut numbers = vec![ring.kernel().number(&plan.char_device)];
        numbers.extend(plan.needs.files.iter().map(|file| file.as_raw_fd()));
        let names = ring.fix_files(&numbers);
        let registers = plan.path == DataPath::ZeroCopy;
        let slot = Slot { char_device: names[0], queue: plan.queue, tag: 0, registers };
        let has_table = plan.path.is_zero_copy() && ring.make_table(plan.depth);
        // A batch's completion says more than one request, a call of other threads none.
        let only_requests = plan.needs.operations == 0 && !plan.needs.wakers && !plan.batches;
        let metered = |meter| Metering::new(meter, plan.depth, only_requests);
        let metering = plan.meter.clone().map(metered);
        let deadlines = plan.request_timeout.map(|timeout| Deadlines::new(timeout, plan.depth));
        let (spin, room) = (Spin::new(plan.spin), Room::new(plan.depth));
        let batch = plan.batches.then(|| Batch::new(&mut ring, &plan)).transpose()?;
        Ok(Self {
            ring,
            slots,
            descriptors,
            common: Common {
                slot,
                commit: CommitAndFetch::new(slot),
                files: names[1..].into(),
                path: plan.path,
            },
            batch,
            has_table,
            listens: false,
            plan,
            stats: QueueStats::default(),
            metering: metering.map(Box::new),
            deadlines: deadlines.map(Box::new),
            spin,
            room,
            panicked: None,
            handler,
            _of_this_thread: PhantomData,
        })
    }

    /// Offers each of its slots to the driver, with one system call, which does not wait.
    pub(crate) fn offer_all(&mut self) -> Result<(), QueueError> {
        let wake = FileName::Number(self.ring.kernel().number(&self.plan.wake));
        self.ring.submissions().push(Sqe::poll_readable(wake, Id::Wake.encode()))?;
        self.listen()?;
        for tag in self.plan.share.tags(self.slots.depth()) {
            self.desk(tag).offer(None)?;
        }
        self.send_batch()?;
        self.ring.wait(Some(Duration::ZERO))?;
        Ok(())
    }

    /// Submits what was answered, waits for a completion (without end, unless a request may not
    /// wait for so long) and handles all that there are.
    pub(crate) fn turn(&mut self) -> Result<Turn, QueueError> {
        let mut completions = 1;
        if self.batch.is_some() {
            self.send_batch()?;
            completions += self.batch.as_ref().map_or(0, Batch::sure);
        }
        let deadline = self.deadlines.as_ref().and_then(|deadlines| deadlines.next());
        self.wait(completions, deadline)?;
        if let Some(metering) = &mut self.metering {
            metering.begin(self.ring.ready(), &self.stats, self.ring.kernel());
        }
        let woken = self.guarded(|queue| queue.complete_all(false))?;
        if let Some(metering) = &mut self.metering {
            metering.end(&self.stats, self.ring.kernel());
        }
        if woken {
            return Ok(Turn::Woken);
        }
        if self.batch.is_some() {
            self.end_batch();
        }
        Ok(if self.slots.live() == 0 { Turn::Stopped } else { Turn::Live })
    }

    /// Handles all completions that there are, and then what is overdue. Whether the queue shall
    /// leave; the event that wakes it does not say so where it `drains` already.
    #[inline(always)] // into `turn`: twenty instructions of each
    pub(super) fn complete_all(&mut self, drains: bool) -> Result<bool, QueueError> {
        // A batch of slow requests is not finished first; what is left of it fails. It is looked at
        // before each, for a panic of the last one comes back here, too.
        while !self.plan.leaves()
            && let Some(cqe) = self.ring.pop()?
        {
            if self.complete(cqe)? && !drains {
                return Ok(true);
            }
        }
        if self.plan.leaves() {
            return Ok(true);
        }
        if self.deadlines.is_some() {
            self.end_overdue()?;
        }
        Ok(false)
    }

    /// Handles one completion. Whether it says that the queue shall leave.
    #[inline(always)] // into `complete_all`, which is the way of every request
    fn complete(&mut self, cqe: Cqe) -> Result<bool, QueueError> {
        let Cqe { user_data, result, .. } = cqe;
        let fits = match Id::decode(user_data) {
            Some(Id::Command { tag }) if self.slots.exists(tag) => {
                if result == UBLK_IO_RES_OK {
                    self.came(tag, false)?
                } else {
                    self.came_otherwise(tag, result)?
                }
            }
            Some(Id::Operation { tag, index }) if self.slots.exists(tag) => {
                self.operation_ended(tag, index, result)?
            }
            Some(Id::Tags) => self.tags_came(cqe, false)?,
            Some(Id::Elements) => self.elements_ended(result)?,
            Some(Id::Wake) if result >= 0 => return Ok(true),
            Some(id) => self.other_ended(id, result)?,
            None => false,
        };
        if fits { Ok(false) } else { Err(QueueError::Unexpected { user_data, result }) }
    }

    /// What the queue waits for beside its slots' commands and operations.
    #[inline(never)]
    fn other_ended(&mut self, id: Id, result: i32) -> Result<bool, QueueError> {
        match id {
            Id::Timer => Ok(self.timer_ended()),
            Id::Call => self.called(result),
            // Only what failed is told.
            Id::Emptied => Ok(false),
            Id::Cancel => {
                Ok(self.deadlines.as_mut().is_some_and(|deadlines| deadlines.cancelled()))
            }
            Id::Tags | Id::Elements | Id::Wake | Id::Command { .. } | Id::Operation { .. } => {
                Ok(false)
            }
        }
    }

    /// Its ring, which stays open for as long as somebody has this.
    pub(crate) fn ring_file(&self) -> Arc<K::File> {
        self.ring.file()
    }

    /// Gives the driver and the ring back, and leaves the handler.
    pub(crate) fn into_handler(self) -> H {
        if let Some(metering) = self.metering {
            metering.finish(&self.stats);
        }
        self.handler
    }

    /// What the queue has done so far.
    pub(crate) fn stats(&self) -> QueueStats {
        self.stats
    }

    /// A slot's command has completed with a write whose data is to be fetched, or without a
    /// request. `false` when that cannot be.
    #[inline(never)]
    fn came_otherwise(&mut self, tag: u16, result: i32) -> Result<bool, QueueError> {
        match result {
            UBLK_IO_RES_NEED_GET_DATA if self.plan.path == DataPath::GetData => {
                self.came(tag, true)
            }
            // Whatever it says, the command is over, and the slot not ours to answer.
            _ if !self.slots.at(tag).gone(self.ring.taken()) => Ok(false),
            UBLK_IO_RES_ABORT => Ok(true),
            1.. => Ok(false), // other positive numbers do not exist
            refused => {
                let errno = Errno::from_result(refused).err().unwrap_or(Errno::EIO);
                Err(QueueError::Refused { tag, errno })
            }
        }
    }

    /// A slot's command has completed with a request, or with a write's data, which a handler waits
    /// for. `false` when that cannot be.
    #[inline(always)] // into `complete_all`, too
    fn came(&mut self, tag: u16, has_data_to_fetch: bool) -> Result<bool, QueueError> {
        let has_no_room = has_data_to_fetch && self.room.is_short();
        let mut desk = self.desk(tag);
        match desk.came() {
            Some(None) if !has_no_room => {
                let left = desk.start(has_data_to_fetch)?;
                self.go_on(tag, left)?;
            }
            Some(None) => self.start_if_worth_it(tag)?,
            Some(Some(cookie)) => self.fetch_ended(tag, cookie, has_data_to_fetch)?,
            None => return Ok(false),
        }
        Ok(true)
    }
}
