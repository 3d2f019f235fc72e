//! [`Device`]: a device of the driver's, its queues and slots, and its disk.

use super::buffers::Buffers;
use super::limits::Limits;
use crate::errno::Errno;
use crate::sim::merge::Digest;
use crate::sim::user::{PAGE_BYTES, Pages};
use crate::sim::world::FileId;
use std::collections::VecDeque;
use std::sync::Arc;
use ublkit_sys::ublk as sys;
use ublkit_sys::ublk::{ublk_params, ublksrv_ctrl_dev_info, ublksrv_io_desc};

/// Which slot of which device, by their places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::sim) struct SlotName {
    pub(in crate::sim) device: usize,
    pub(in crate::sim) queue: u16,
    pub(in crate::sim) tag: u16,
}

/// Whose turn a slot's is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Never fetched since its queue was made or reset.
    New,
    /// The driver has a command of the server's, and may have a request to complete it with.
    Idle,
    /// The server has a request.
    Owned,
    /// The server has a request, and is to say where its data goes.
    OwnedWantsData,
}

/// A command that waits in the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pending {
    pub(super) ring: FileId,
    pub(super) user_data: u64,
    /// The char device's open file, which it holds.
    pub(super) file: FileId,
    /// It asked for no CQE for a success.
    pub(super) skips: bool,
}

/// A command that brings the tags of requests, in buffers of a group of its ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fetch {
    pub(super) pending: Pending,
    pub(super) group: u16,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) state: State,
    /// Its command was taken back: it is not to be used before the char device is opened anew.
    pub(super) aborted: bool,
    pub(super) pending: Option<Pending>,
    /// The task that fetched it.
    pub(super) task: Option<usize>,
    /// The buffer that its last command named.
    pub(super) addr: u64,
    /// The request that has its tag.
    pub(super) request: Option<u64>,
    /// The request that had its tag, and the server's result, while somebody uses its pages.
    pub(super) answered: Option<(u64, i32)>,
    /// The ring and the place where the request's pages were put by themselves.
    pub(super) registered: Option<(FileId, u16)>,
}

pub(super) const NEW: Slot = Slot {
    state: State::New,
    aborted: false,
    pending: None,
    task: None,
    addr: 0,
    request: None,
    answered: None,
    registered: None,
};

impl Slot {
    /// Whether its tag can be given to a request.
    pub(super) fn is_free(&self) -> bool {
        self.request.is_none() && self.answered.is_none()
    }
}

#[derive(Debug)]
pub(super) struct Queue {
    pub(super) slots: Vec<Slot>,
    pub(super) descriptors: Arc<Pages>,
    /// Requests without a tag.
    pub(super) waiting: VecDeque<u64>,
    /// Requests that came to slots of a task that had ended: they wait for the next server.
    pub(super) parked: VecDeque<u64>,
    /// The task of all slots, where there is one for a queue.
    pub(super) task: Option<usize>,
    /// Its server is about to go: requests are parked or failed.
    pub(super) canceling: bool,
    /// With `BATCH_IO`: the commands that bring tags, the first of them in use,
    pub(super) fetches: VecDeque<Fetch>,
    /// the tags that are to be brought,
    pub(super) events: VecDeque<u16>,
    /// and whether those commands are over until all slots are prepared anew (`force_abort`).
    pub(super) refuses_fetches: bool,
    /// Whether the last try to bring tags found no buffer, by a fault.
    pub(super) lacked_buffer: bool,
}

impl Queue {
    fn digest(&self, digest: &mut Digest) {
        let Self {
            slots,
            descriptors: _,
            waiting,
            parked,
            task,
            canceling,
            fetches,
            events,
            refuses_fetches,
            lacked_buffer,
        } = self;
        digest.add(&(waiting, parked, task, canceling));
        digest.add(&(fetches, events, refuses_fetches, lacked_buffer));
        for slot in slots {
            let Slot { state, aborted, pending, task, addr: _, request, answered, registered } =
                slot;
            digest.add(&(state, aborted, pending, task, request, answered, registered));
        }
    }
}

#[derive(Debug)]
pub(super) struct Disk {
    pub(super) limits: Limits,
    /// Being deleted: new requests fail.
    pub(super) dying: bool,
}

/// Who has the char device open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Open {
    Nobody,
    By(usize),
    /// Closed, and not yet let go by the driver.
    Closing,
}

/// A device.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) info: ublksrv_ctrl_dev_info,
    pub(super) params: ublk_params,
    pub(super) queues: Vec<Queue>,
    pub(super) disk: Option<Disk>,
    pub(super) open: Open,
    /// Clients that have the disk open.
    pub(super) openers: u32,
    /// The process that mapped descriptors first.
    pub(super) mapper: Option<usize>,
    /// Every slot was fetched.
    pub(super) ready: bool,
    /// Stopped while a server had it open, which is to let go first.
    pub(super) stopping: bool,
    /// Requests are not given tags: a stop waits for those that have one.
    pub(super) quieted: bool,
    /// Requests fail, whatever recovery says.
    pub(super) force_abort: bool,
    /// A slot was fetched without `CAP_SYS_ADMIN`: partitions are not looked for.
    pub(super) untrusted: bool,
    /// The control command that holds the device's mutex.
    pub(super) mutex: Option<u64>,
    /// What is shared with clients.
    pub(super) buffers: Buffers,
    /// DEL_DEV was here: no node any more.
    pub(super) unlinked: bool,
    /// Forgotten: its number is free.
    pub(super) freed: bool,
}

/// Whole pages.
fn pages(len_bytes: usize) -> usize {
    len_bytes.next_multiple_of(PAGE_BYTES)
}

/// How many slots a queue can have: what descriptors' places are computed from.
const MAX_DEPTH: usize = 4096;

impl Device {
    /// What it is, but for addresses and what lies in memory.
    pub(super) fn digest(&self, digest: &mut Digest) {
        let Self {
            info,
            params,
            queues,
            disk,
            open,
            openers,
            mapper,
            ready,
            stopping,
            quieted,
            force_abort,
            untrusted,
            mutex,
            buffers,
            unlinked,
            freed,
        } = self;
        digest.add(&(info, params, disk, open, openers, mapper, ready, stopping));
        digest.add(&(quieted, force_abort, untrusted, mutex, buffers, unlinked, freed));
        queues.iter().for_each(|queue| queue.digest(digest));
    }

    pub(super) fn new(info: ublksrv_ctrl_dev_info) -> Self {
        let depth = usize::from(info.queue_depth);
        let mut device = Self {
            info,
            params: ublk_params::default(),
            queues: Vec::new(),
            disk: None,
            open: Open::Nobody,
            openers: 0,
            mapper: None,
            ready: false,
            stopping: false,
            quieted: false,
            force_abort: false,
            untrusted: false,
            mutex: None,
            buffers: Buffers::default(),
            unlinked: false,
            freed: false,
        };
        let len_bytes = depth * device.stride_bytes();
        device.queues = (0..info.nr_hw_queues)
            .map(|_| Queue {
                slots: vec![NEW; depth],
                descriptors: Arc::new(Pages::new(len_bytes)),
                waiting: VecDeque::new(),
                parked: VecDeque::new(),
                task: None,
                canceling: false,
                fetches: VecDeque::new(),
                events: VecDeque::new(),
                refuses_fetches: false,
                lacked_buffer: false,
            })
            .collect();
        device
    }

    /// Bytes from one descriptor to the next.
    pub(super) fn stride_bytes(&self) -> usize {
        if self.has(sys::UBLK_F_IO_DESC_SIZE) {
            self.info.io_desc_size.into()
        } else {
            size_of::<ublksrv_io_desc>()
        }
    }

    pub(super) fn has(&self, flag: u64) -> bool {
        self.info.flags & flag != 0
    }

    /// Whether data goes through a buffer that each command names.
    pub(super) fn copies(&self) -> bool {
        let others =
            sys::UBLK_F_USER_COPY | sys::UBLK_F_SUPPORT_ZERO_COPY | sys::UBLK_F_AUTO_BUF_REG;
        self.info.flags & others == 0
    }

    /// Whether requests wait for the next server, when there is none.
    pub(super) fn parks(&self) -> bool {
        self.has(sys::UBLK_F_USER_RECOVERY) && !self.has(sys::UBLK_F_USER_RECOVERY_FAIL_IO)
    }

    /// Whether requests of a queue fail that would wait for the next server: in batches, once a
    /// STOP_DEV or QUIESCE_DEV took its commands away (`ublk_batch_cancel_queue`).
    pub(super) fn aborts(&self, queue: &Queue) -> bool {
        queue.refuses_fetches && self.parks()
    }

    /// Whether a dead server's requests are delivered again.
    pub(super) fn reissues(&self) -> bool {
        self.has(sys::UBLK_F_USER_RECOVERY) && self.has(sys::UBLK_F_USER_RECOVERY_REISSUE)
    }

    pub(super) fn slot(&mut self, queue: u16, tag: u16) -> Option<&mut Slot> {
        self.queues.get_mut(usize::from(queue))?.slots.get_mut(usize::from(tag))
    }

    /// Every slot, by queue and tag.
    pub(super) fn names(&self, device: usize) -> Vec<SlotName> {
        let of_queue = |(queue, slots): (u16, &Queue)| {
            let tags = 0..u16::try_from(slots.slots.len()).expect("a u16 of slots");
            tags.map(move |tag| SlotName { device, queue, tag }).collect::<Vec<_>>()
        };
        (0..).zip(&self.queues).flat_map(of_queue).collect()
    }

    /// Requests that wait for another server wait for a tag again.
    pub(super) fn unpark(&mut self) {
        for queue in &mut self.queues {
            queue.parked.append(&mut queue.waiting);
            std::mem::swap(&mut queue.parked, &mut queue.waiting);
        }
    }

    /// Whether a request has a tag.
    pub(super) fn has_tagged(&self) -> bool {
        let mut slots = self.queues.iter().flat_map(|queue| &queue.slots);
        slots.any(|slot| !slot.is_free())
    }

    /// Requests that have a tag or wait for one.
    pub(super) fn requests(&self) -> Vec<u64> {
        let of_queue = |queue: &Queue| {
            let answered = |slot: &Slot| slot.answered.map(|(request, _)| request);
            let tagged = queue.slots.iter().filter_map(|slot| slot.request.or(answered(slot)));
            let rest = queue.waiting.iter().chain(&queue.parked);
            tagged.chain(rest.copied()).collect::<Vec<_>>()
        };
        self.queues.iter().flat_map(of_queue).collect()
    }

    /// `mmap` of descriptors.
    pub(super) fn map(
        &mut self,
        process: usize,
        offset_bytes: u64,
        len_bytes: usize,
        writable: bool,
    ) -> Result<Arc<Pages>, Errno> {
        if writable {
            return Err(Errno::EPERM);
        }
        if *self.mapper.get_or_insert(process) != process {
            return Err(Errno::EINVAL);
        }
        if !offset_bytes.is_multiple_of(PAGE_BYTES as u64) {
            return Err(Errno::EINVAL);
        }
        let place = pages(MAX_DEPTH * self.stride_bytes()) as u64;
        let queue = usize::try_from(offset_bytes / place).map_err(|_| Errno::EINVAL)?;
        let queue = self.queues.get(queue).ok_or(Errno::EINVAL)?;
        let right = pages(queue.slots.len() * self.stride_bytes());
        if pages(len_bytes) != right {
            return Err(Errno::EINVAL);
        }
        Ok(Arc::clone(&queue.descriptors))
    }

    /// All slots as they were when the device was made.
    pub(super) fn reset(&mut self) {
        for queue in &mut self.queues {
            queue.task = None;
            queue.canceling = false;
            queue.events.clear();
            for slot in &mut queue.slots {
                *slot = Slot { request: slot.request, answered: slot.answered, ..NEW };
            }
        }
        self.ready = false;
        self.stopping = false;
        self.untrusted = false;
        self.mapper = None;
    }
}
