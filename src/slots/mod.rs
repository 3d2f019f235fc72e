//! [`Slots`]: who owns each tag and its buffer, and so who may touch its memory.
#![expect(unsafe_code, reason = "frees what was lent; docs/safety.md, island `slots`")]

mod at;
mod data;
mod elements;
mod fetching;
mod operation;
mod operations;
mod share;
mod slot;
#[cfg(test)]
mod tests;
mod under_way;

pub(crate) use at::At;
pub(crate) use elements::Elements;
pub(crate) use operation::{Action, Ended, Next, Operation, Transfer};
pub(crate) use operations::Allowed;
pub(crate) use share::Share;
pub(crate) use slot::{Slot, Where};

use crate::data_path::DataPath;
use crate::errno::Errno;
use crate::memory::Pages;
use crate::region::Region;
use core::mem::ManuallyDrop;
use core::ops::Index;
use core::ptr::NonNull;
use operations::Operations;
use slot::State;
use std::sync::Arc;

/// A queue's slots and their buffers.
///
/// The invariant that makes the buffers sound: the kernel may use a slot's buffer only while the
/// state is [`State::Kernel`] or [`State::Fetching`], or an operation that moves data is under way,
/// and a reference to it is made only in [`State::Server`] without such an operation. Memory that
/// the kernel may still use when the slots are dropped is leaked.
#[derive(Debug)]
pub(crate) struct Slots {
    table: Box<[Slot]>,
    shared: Shared,
}

/// What a queue's slots have in common.
#[derive(Debug)]
struct Shared {
    path: DataPath,
    /// All ones where commands name memory: see [`Address::masked`](crate::ring::Address::masked).
    lends: u64,
    buffers: ManuallyDrop<Pages>,
    buffer_bytes: u32,
    /// Where data goes that nobody wants: as long as a buffer, with a page that stays.
    waste: NonNull<u8>,
    /// Buffers that were made later, for slots that have left theirs behind,
    later: ManuallyDrop<Vec<Pages>>,
    /// and of all buffers those that nobody uses any more.
    spare: Vec<NonNull<u8>>,
    /// Memory of the backend that commands may name.
    regions: ManuallyDrop<Vec<Arc<Region>>>,
    operations: Operations,
    /// Slots that the kernel or the server has.
    live: u16,
    /// Whether the kernel will use nothing any more.
    is_over: bool,
}

impl Slots {
    /// `depth` slots, of which those of the `share` can hold requests of up to `buffer_bytes`, and
    /// the others are never had. Touches no page of theirs.
    pub(crate) fn new(
        path: DataPath,
        depth: u16,
        share: Share,
        buffer_bytes: u32,
        operations: Allowed,
        regions: Vec<Arc<Region>>,
    ) -> Result<Self, Errno> {
        let each = buffer_bytes as usize;
        let count = usize::from(share.count(depth));
        let wastes = usize::from(path == DataPath::GetData);
        let total = (count + wastes).checked_mul(each).ok_or(Errno::ENOMEM)?;
        let buffers = Pages::new(total)?;
        let place = |index| buffers.at(usize::from(index) * each, each);
        let waste = buffers.at(count * each, wastes * each);
        if wastes > 0 {
            buffers.hold_page(count * each);
        }
        let slot_of = |tag| match share.index(tag) {
            Some(index) => Slot::new(place(index), State::New),
            None => Slot::new(NonNull::dangling(), State::Gone),
        };
        let table = (0..depth).map(slot_of).collect();
        let shared = Shared {
            path,
            lends: if path.names_memory() { u64::MAX } else { 0 },
            buffers: ManuallyDrop::new(buffers),
            buffer_bytes,
            waste,
            later: ManuallyDrop::new(Vec::new()),
            spare: Vec::new(),
            regions: ManuallyDrop::new(regions),
            operations: Operations::new(depth, operations)?,
            live: 0,
            is_over: false,
        };
        Ok(Self { table, shared })
    }

    /// How many slots there are.
    #[inline]
    pub(crate) fn depth(&self) -> u16 {
        u16::try_from(self.table.len()).expect("made from a u16")
    }

    /// How many slots the kernel or the server has.
    #[inline]
    pub(crate) fn live(&self) -> u16 {
        self.shared.live
    }

    /// Whether there is such a tag: the kernel's word is checked before anything else.
    #[inline]
    pub(crate) fn exists(&self, tag: u16) -> bool {
        usize::from(tag) < self.table.len()
    }

    /// One of them.
    #[inline(always)]
    pub(crate) fn at(&mut self, tag: u16) -> At<'_> {
        At { tag, slot: &mut self.table[usize::from(tag)], shared: &mut self.shared }
    }

    /// The driver takes away all slots that are the kernel's: none of their commands is under way.
    pub(crate) fn all_gone(&mut self) {
        for slot in self.table.iter_mut().filter(|slot| slot.is_kernels()) {
            slot.state = State::Gone;
            self.shared.live -= 1;
        }
    }

    /// Whether the ring has an operation of any request, those left behind included.
    pub(crate) fn have_operations(&self) -> bool {
        self.shared.operations.lent > 0
    }

    /// The operations that a request has under way, by their index.
    pub(crate) fn under_way(&self, tag: u16) -> impl Iterator<Item = u8> {
        self.shared.operations.under_way(tag)
    }
}

impl Index<u16> for Slots {
    type Output = Slot;

    #[inline]
    fn index(&self, tag: u16) -> &Slot {
        &self.table[usize::from(tag)]
    }
}

#[cfg(any(test, fuzzing))]
impl Slots {
    /// Panics unless the counts are those of the slots.
    pub(crate) fn check(&self) {
        let count = |test: fn(&Slot) -> bool| self.table.iter().filter(|slot| test(slot)).count();
        let kernels = count(Slot::is_kernels);
        let servers = count(Slot::is_servers);
        assert_eq!(usize::from(self.shared.live), kernels + servers);
        let operations = |slot: &Slot| usize::from(slot.waits) - usize::from(slot.parked.is_some());
        self.shared.operations.check(self.table.iter().map(operations).sum());
    }

    /// A kernel that is played will not use what it was lent any more: nothing is leaked.
    pub(crate) fn take_all_back(&mut self) {
        self.shared.is_over = true;
        self.shared.operations.lent = 0;
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        let Self { table, shared } = self;
        let any =
            shared.operations.lent > 0 || shared.lends != 0 && table.iter().any(Slot::is_kernels);
        if any && !shared.is_over {
            return; // the kernel may still write: leaked
        }
        // SAFETY: dropped here only, once.
        unsafe { ManuallyDrop::drop(&mut shared.buffers) };
        // SAFETY: dropped here only, once.
        unsafe { ManuallyDrop::drop(&mut shared.later) };
        // SAFETY: dropped here only, once.
        unsafe { ManuallyDrop::drop(&mut shared.regions) };
    }
}
