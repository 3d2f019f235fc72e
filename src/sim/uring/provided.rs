//! Provided buffers: a ring of them that the program fills, and a command takes from.

use crate::errno::Errno;
use crate::sim::user::Pages;
use crate::sim::world::{FileId, World};
use core::sync::atomic::Ordering;
use std::sync::Arc;
use ublkit_sys::io_uring::{IORING_OFF_PBUF_SHIFT, io_uring_buf};

/// The aligned word whose upper half is the tail.
const TAIL_WORD: usize = 12;

/// A ring of provided buffers, which this kernel made.
#[derive(Debug)]
pub(super) struct Group {
    entries: u16,
    /// How many were taken.
    head: u16,
    pub(super) memory: Arc<Pages>,
}

/// A buffer that a command may fill.
#[derive(Clone, Copy, Debug)]
pub(in crate::sim) struct Buffer {
    pub(in crate::sim) address: u64,
    pub(in crate::sim) len_bytes: usize,
    pub(in crate::sim) number: u16,
}

impl World {
    /// `IORING_REGISTER_PBUF_RING`, with `IOU_PBUF_RING_MMAP`.
    pub(super) fn provide(&mut self, id: FileId, group: u16, entries: u16) -> Result<u32, Errno> {
        let ring = self.ring(id).ok_or(Errno::EBADF)?;
        if !entries.is_power_of_two() {
            return Err(Errno::EINVAL);
        }
        if ring.groups.contains_key(&group) {
            return Err(Errno::EEXIST);
        }
        let bytes = usize::from(entries) * size_of::<io_uring_buf>();
        let memory = Arc::new(Pages::new(bytes));
        ring.groups.insert(group, Group { entries, head: 0, memory });
        Ok(0)
    }

    /// The memory of the group that an offset to `mmap` names.
    pub(super) fn provided(&mut self, id: FileId, offset_bytes: u64) -> Option<Arc<Pages>> {
        let number = u16::try_from(offset_bytes >> IORING_OFF_PBUF_SHIFT & 0x7ff).ok()?;
        let groups = &self.ring(id)?.groups;
        Some(Arc::clone(&groups.get(&number)?.memory))
    }

    /// The buffer of a group that comes next, if the program has provided one.
    pub(in crate::sim) fn next_buffer(&mut self, id: FileId, group: u16) -> Option<Buffer> {
        let group = self.ring(id)?.groups.get(&group)?;
        let tail = group.memory.word(TAIL_WORD).load(Ordering::Acquire) >> 16;
        if u32::from(group.head) == tail {
            return None;
        }
        let entry = usize::from(group.head & (group.entries - 1));
        let buffer: io_uring_buf = group.memory.load(entry * size_of::<io_uring_buf>());
        let io_uring_buf { addr: address, len, bid: number, .. } = buffer;
        Some(Buffer { address, len_bytes: len as usize, number })
    }

    /// A command has filled it.
    pub(in crate::sim) fn use_buffer(&mut self, id: FileId, group: u16) {
        if let Some(group) = self.ring(id).and_then(|ring| ring.groups.get_mut(&group)) {
            group.head = group.head.wrapping_add(1);
        }
    }
}
