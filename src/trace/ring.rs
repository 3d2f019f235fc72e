//! [`Watch`]: a ring that is listened to: which entries are new, and what they were about.

use super::event::{Command, Place, Slot};
use super::view::{copy, index};
use super::voice::{CharDevice, Kind, lock};
use crate::kernel::Memory;
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use ublkit_sys::io_uring::{
    IORING_SETUP_CQE32, IORING_SETUP_NO_SQARRAY, IORING_SETUP_SQE128, IOSQE_CQE_SKIP_SUCCESS,
    io_uring_buf, io_uring_cqe, io_uring_cqe32, io_uring_params, io_uring_sqe, io_uring_sqe128,
};
use ublkit_sys::ublk::ublksrv_io_desc;

/// A ring that is listened to.
pub(super) struct Watch<M> {
    heard: Mutex<Heard<M>>,
}

/// What was heard of a ring so far.
pub(super) struct Heard<M> {
    params: io_uring_params,
    /// Both queues' indices, and the CQEs. The mappings are the server's: they go when it lets go.
    indices: Weak<M>,
    sqes: Weak<M>,
    /// The entries of provided buffers.
    provided: Weak<M>,
    /// Where the first SQE stands that was not told yet, and the first CQE. They run freely through
    /// all of `u32`, as the shared ones.
    next_sqe: u32,
    next_cqe: u32,
    /// The table of fixed files.
    pub(super) fixed: Vec<Option<Kind<M>>>,
    /// What is under way, by its `user_data` and, where that is not unique, age.
    under_way: BTreeMap<(u64, u64), Asked<M>>,
    asked: u64,
    pub(super) slots: BTreeMap<Slot, SlotState>,
}

/// A submitted entry.
pub(super) enum Asked<M> {
    Control {
        command: Command,
        at: Duration,
        address: u64,
        len_bytes: u64,
    },
    Slot(Slot, Arc<CharDevice<M>>),
    /// A command that brings tags of a queue, again and again.
    Tags(u16, Arc<CharDevice<M>>),
    Other {
        opcode: u8,
    },
}

/// What is known of a slot.
#[derive(Clone, Copy, Default)]
pub(super) struct SlotState {
    /// What its last command named.
    pub(super) place: Place,
    /// The request that it has, and since when.
    pub(super) request: Option<(Duration, ublksrv_io_desc)>,
}

impl<M> Watch<M> {
    pub(super) fn new(params: io_uring_params) -> Self {
        let heard = Heard {
            params,
            indices: Weak::new(),
            sqes: Weak::new(),
            provided: Weak::new(),
            next_sqe: 0,
            next_cqe: 0,
            fixed: Vec::new(),
            under_way: BTreeMap::new(),
            asked: 0,
            slots: BTreeMap::new(),
        };
        Self { heard: Mutex::new(heard) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Heard<M>> {
        lock(&self.heard)
    }
}

impl<M: Memory> Heard<M> {
    /// The server mapped the indices: listening begins there.
    pub(super) fn set_indices(&mut self, mapping: &Arc<M>) {
        self.indices = Arc::downgrade(mapping);
        let at = |offset| index(&**mapping, offset).unwrap_or(0);
        self.next_sqe = at(self.params.sq_off.tail);
        self.next_cqe = at(self.params.cq_off.tail);
    }

    /// The server mapped the SQEs.
    pub(super) fn set_sqes(&mut self, mapping: &Arc<M>) {
        self.sqes = Arc::downgrade(mapping);
    }

    /// The server mapped the entries of provided buffers.
    pub(super) fn set_provided(&mut self, mapping: &Arc<M>) {
        self.provided = Arc::downgrade(mapping);
    }

    /// Where a provided buffer is: as long as it is not given back, its entry names it.
    pub(super) fn provided(&self, number: u16) -> Option<u64> {
        let entries = self.provided.upgrade()?;
        let entry = copy(&*entries, usize::from(number) * size_of::<io_uring_buf>());
        entry.map(|io_uring_buf { addr, .. }| addr)
    }

    /// The SQEs among the next `to_submit` that were not told yet, oldest first.
    pub(super) fn new_sqes(&mut self, to_submit: u32) -> Vec<io_uring_sqe128> {
        let mut new = Vec::new();
        let (Some(indices), Some(sqes)) = (self.indices.upgrade(), self.sqes.upgrade()) else {
            return new;
        };
        let at = |offset| index(&*indices, offset);
        let offsets = self.params.sq_off;
        let (Some(head), Some(tail)) = (at(offsets.head), at(offsets.tail)) else { return new };
        let end = head.wrapping_add(to_submit.min(tail.wrapping_sub(head)));
        // What was offered before and not taken was told before.
        let count = end.wrapping_sub(self.next_sqe);
        if count > self.params.sq_entries {
            return new;
        }
        let mask = self.params.sq_entries.wrapping_sub(1);
        let is_long = self.params.flags & IORING_SETUP_SQE128 != 0;
        for position in (0..count).map(|step| self.next_sqe.wrapping_add(step)) {
            let slot = position & mask;
            let slot = if self.params.flags & IORING_SETUP_NO_SQARRAY == 0 {
                copy_word(&*indices, offsets.array, slot)
            } else {
                Some(slot)
            };
            let Some(slot) = slot.filter(|slot| *slot < self.params.sq_entries) else { continue };
            let sqe = if is_long {
                copy(&*sqes, slot as usize * size_of::<io_uring_sqe128>())
            } else {
                let head = copy(&*sqes, slot as usize * size_of::<io_uring_sqe>());
                head.map(|head| io_uring_sqe128 { head, ..io_uring_sqe128::default() })
            };
            new.extend(sqe);
        }
        self.next_sqe = end;
        new
    }

    /// The CQEs that were not told yet, oldest first, and how many were overwritten before.
    pub(super) fn new_cqes(&mut self) -> (Vec<io_uring_cqe>, u32) {
        let Some(indices) = self.indices.upgrade() else { return (Vec::new(), 0) };
        let offsets = self.params.cq_off;
        let Some(tail) = index(&*indices, offsets.tail) else { return (Vec::new(), 0) };
        let entries = self.params.cq_entries;
        let missed = tail.wrapping_sub(self.next_cqe).saturating_sub(entries);
        let first = self.next_cqe.wrapping_add(missed);
        let is_long = self.params.flags & IORING_SETUP_CQE32 != 0;
        let stride = if is_long { size_of::<io_uring_cqe32>() } else { size_of::<io_uring_cqe>() };
        let new = (0..tail.wrapping_sub(first)).filter_map(|step| {
            let slot = first.wrapping_add(step) & entries.wrapping_sub(1);
            copy(&*indices, offsets.cqes as usize + slot as usize * stride)
        });
        let new = new.collect();
        self.next_cqe = tail;
        (new, missed)
    }

    pub(super) fn begin(&mut self, user_data: u64, asked: Asked<M>) {
        self.asked += 1;
        self.under_way.insert((user_data, self.asked), asked);
    }

    /// The same of an entry. One that completes only when it fails leaves no trace of its success:
    /// of those that are alike the newest is remembered.
    pub(super) fn begin_entry(&mut self, sqe: &io_uring_sqe, asked: Asked<M>) {
        if sqe.flags & IOSQE_CQE_SKIP_SUCCESS != 0 {
            self.end(sqe.user_data);
        }
        self.begin(sqe.user_data, asked);
    }

    /// What a completion is about.
    pub(super) fn end(&mut self, user_data: u64) -> Option<Asked<M>> {
        let oldest = self.under_way.range((user_data, 0)..=(user_data, u64::MAX)).next();
        let key = *oldest?.0;
        self.under_way.remove(&key)
    }
}

/// An element of the index array.
fn copy_word<M: Memory>(indices: &M, array: u32, slot: u32) -> Option<u32> {
    index(indices, array.checked_add(slot.checked_mul(4)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Kernel;

    /// What completes only when it fails is not remembered for every time that it succeeds.
    #[test]
    fn silent_successes_leave_nothing() {
        let watch = Watch::<<crate::Linux as Kernel>::Mapping>::new(io_uring_params::default());
        let mut heard = watch.lock();
        for flags in [0, IOSQE_CQE_SKIP_SUCCESS] {
            let sqe = io_uring_sqe { flags, user_data: flags.into(), ..io_uring_sqe::default() };
            (0..5).for_each(|_| heard.begin_entry(&sqe, Asked::Other { opcode: 1 }));
        }
        assert_eq!(heard.under_way.len(), 5 + 1);
        let silent = IOSQE_CQE_SKIP_SUCCESS.into();
        assert!(matches!(heard.end(silent), Some(Asked::Other { opcode: 1 })), "one that fails");
    }
}
