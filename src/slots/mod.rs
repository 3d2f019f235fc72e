//! [`Slots`]: who owns each tag and its buffer, and so who may touch its memory.
#![expect(unsafe_code, reason = "lends buffers to the kernel; docs/safety.md, island `slots`")]

mod data;
mod elements;
mod fetching;
mod operations;
mod share;
#[cfg(test)]
mod tests;
mod under_way;

pub(crate) use elements::Elements;
pub(crate) use operations::{Action, Allowed, Begun, Ended, Next, Operation, Transfer};
pub(crate) use share::Share;

use crate::data_path::DataPath;
use crate::errno::Errno;
use crate::memory::Pages;
use crate::region::Region;
use crate::request::{Operation as Asked, Request};
use crate::ring::Address;
use core::mem::ManuallyDrop;
use core::ptr::NonNull;
use operations::Operations;
use std::sync::Arc;

/// Who owns a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nobody yet: it was never offered to the driver.
    New,
    /// The kernel: a command for it is under way, and the buffer may be written at any time.
    Kernel,
    /// The server: it has a request to answer.
    Server,
    /// Nobody any more: the driver took it away.
    Gone,
}

/// Where the data of the server's request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Where {
    /// In the slot's buffer: a write's data, or room for a read's.
    Buffer,
    /// In the slot's buffer, as a copy: a read's is to be given to the kernel.
    Copy,
    /// With the kernel: it is to be asked for, or given.
    Kernel,
    /// With the kernel, and a read's was given.
    Given,
    /// With the kernel, which has put its pages into the ring's table, at the tag's place.
    Table,
    /// In a region from so many bytes on, from where the kernel takes it.
    Region(u16, usize),
    /// Where nobody looks: a write's data that nobody wants, but that must be fetched.
    Waste,
    /// With the kernel, which took the request back and has sent another one to the slot, whose
    /// data is to be fetched or not.
    TakenBack(bool),
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    /// Where its buffer begins.
    buffer: NonNull<u8>,
    state: State,
    data: Where,
    /// The number of its command: before the kernel took that, it cannot complete.
    command: u64,
    /// What waits for that command, where it brings a write's data: the handler's own number.
    fetching: Option<u8>,
    /// The answer, once it is known, until the request's operations have ended.
    answer: Option<Result<(), Errno>>,
    request: Request,
    /// How much data the request has.
    data_bytes: u32,
    /// Bytes of a read's data that operations have filled.
    filled_bytes: u32,
    /// What it waits for: operations under way, and a waker.
    waits: u16,
    /// Whether it waits for a waker: the handler's own number.
    parked: Option<u8>,
}

impl Slot {
    /// Its command will have that number. Whether it is the first one.
    #[inline(always)]
    fn hand_over(&mut self, command: u64) -> bool {
        assert!(matches!(self.state, State::New | State::Server) && self.waits == 0);
        let is_first = self.state == State::New;
        (self.state, self.command) = (State::Kernel, command);
        is_first
    }

    /// Where its data is, for the kernel.
    #[inline(always)]
    fn address(&self, regions: &[Arc<Region>]) -> Address {
        let place = match self.data {
            Where::Region(region, offset) => {
                regions[usize::from(region)].at(offset, self.data_bytes as usize)
            }
            _ => self.buffer,
        };
        // SAFETY: the slot's buffer (`Slots::new`), or inside a region; both are unmapped only when
        // nothing is lent. References to buffers are made in `Slots::data` alone, not while the
        // kernel has the slot; that ends with the command's completion (`came`, `take`, `gone`). To
        // regions there are none but to atomics.
        unsafe { Address::new(place) }
    }
}

/// A queue's slots and their buffers.
///
/// The invariant that makes the buffers sound: the kernel may use a slot's buffer only while the
/// state is [`State::Kernel`] or an operation that moves data is under way, and a reference to it
/// is made only in [`State::Server`] without such an operation. Memory that the kernel may still
/// use when the slots are dropped is leaked.
#[derive(Debug)]
pub(crate) struct Slots {
    path: DataPath,
    /// Whether commands name memory.
    lends: bool,
    slots: Box<[Slot]>,
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
    /// Slots in [`State::Kernel`] and [`State::Server`].
    live: u16,
    /// Whether the kernel will use nothing any more.
    is_over: bool,
}

const IDLE: Request = Request { operation: Asked::Flush, offset: 0, len_bytes: 0 };

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
        let slot = |buffer, state| Slot {
            buffer,
            state,
            data: Where::Buffer,
            command: 0,
            fetching: None,
            answer: None,
            request: IDLE,
            data_bytes: 0,
            filled_bytes: 0,
            waits: 0,
            parked: None,
        };
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
            Some(index) => slot(place(index), State::New),
            None => slot(NonNull::dangling(), State::Gone),
        };
        Ok(Self {
            path,
            lends: path.names_memory(),
            slots: (0..depth).map(slot_of).collect(),
            buffers: ManuallyDrop::new(buffers),
            buffer_bytes,
            waste,
            later: ManuallyDrop::new(Vec::new()),
            spare: Vec::new(),
            regions: ManuallyDrop::new(regions),
            operations: Operations::new(depth, operations)?,
            live: 0,
            is_over: false,
        })
    }

    /// How many slots there are.
    #[inline]
    pub(crate) fn depth(&self) -> u16 {
        u16::try_from(self.slots.len()).expect("made from a u16")
    }

    /// How many slots the kernel or the server has.
    #[inline]
    pub(crate) fn live(&self) -> u16 {
        self.live
    }

    /// Whether there is such a tag: the kernel's word is checked before anything else.
    #[inline]
    pub(crate) fn exists(&self, tag: u16) -> bool {
        usize::from(tag) < self.slots.len()
    }

    #[inline(always)]
    fn get(&self, tag: u16) -> &Slot {
        &self.slots[usize::from(tag)]
    }

    #[inline(always)]
    fn slot(&mut self, tag: u16) -> &mut Slot {
        &mut self.slots[usize::from(tag)]
    }

    /// Gives the slot to the kernel: its first command, or the one that answers its request, will
    /// have number `command`. Answers the address that belongs into it.
    ///
    /// # Panics
    ///
    /// When the kernel has it already, or an operation is under way: a defect of the queue.
    #[inline(always)]
    pub(crate) fn lend(&mut self, tag: u16, command: u64) -> Address {
        let slot = &mut self.slots[usize::from(tag)];
        let address = if self.lends { slot.address(&self.regions) } else { Address::NONE };
        slot.answer = None; // the next request has its own, also if nobody looks at it
        self.live += u16::from(slot.hand_over(command));
        address
    }

    /// Where data goes that nobody wants, for the kernel.
    fn waste(&self) -> Address {
        // SAFETY: as long as a buffer, in the same mapping (`new`), on `DataPath::GetData`, the
        // only path that fetches; nobody refers to it.
        unsafe { Address::new(self.waste) }
    }

    /// The kernel's slot is told of by command number `again`, for it was not taken with `command`.
    /// `false` when that cannot be.
    #[must_use]
    pub(crate) fn lend_again(&mut self, tag: u16, command: u64, again: u64) -> bool {
        let slot = self.slot(tag);
        let is_its = slot.state == State::Kernel && slot.command == command;
        slot.command = if is_its { again } else { slot.command };
        is_its
    }

    /// The driver takes away all slots that are the kernel's: none of their commands is under way.
    pub(crate) fn all_gone(&mut self) {
        for slot in &mut self.slots {
            if slot.state == State::Kernel {
                slot.state = State::Gone;
                self.live -= 1;
            }
        }
    }

    /// The slot's command completed with a request: the server owns the slot again. The kernel has
    /// `taken` so many commands; `None` when the slot's is not among them, so that this cannot be.
    /// Answers the number of the handler who waits, where the command was to bring a write's data.
    #[must_use]
    #[inline(always)]
    pub(crate) fn came(&mut self, tag: u16, taken: u64) -> Option<Option<u8>> {
        let slot = self.slot(tag); // looked up once, for the way of every request
        let is_taken = slot.state == State::Kernel && slot.command < taken;
        is_taken.then(|| {
            slot.state = State::Server;
            slot.fetching.take()
        })
    }

    /// The same of a command that fetches nothing; `false` when it cannot be.
    #[must_use]
    #[inline]
    pub(crate) fn take(&mut self, tag: u16, taken: u64) -> bool {
        self.leave_kernel(tag, taken, State::Server)
    }

    /// The slot's command completed because the driver takes the slot away.
    #[must_use]
    #[inline]
    pub(crate) fn gone(&mut self, tag: u16, taken: u64) -> bool {
        let was = self.leave_kernel(tag, taken, State::Gone);
        self.live -= u16::from(was);
        self.slot(tag).fetching = None;
        was
    }

    #[inline]
    fn leave_kernel(&mut self, tag: u16, taken: u64, to: State) -> bool {
        let slot = self.slot(tag);
        if slot.state != State::Kernel || slot.command >= taken {
            return false;
        }
        slot.state = to;
        true
    }

    /// Whether the server has a request to answer.
    #[inline]
    pub(crate) fn is_servers(&self, tag: u16) -> bool {
        self.get(tag).state == State::Server
    }

    /// Notes what the server is asked, and where its data is.
    #[inline]
    pub(crate) fn set_request(&mut self, tag: u16, request: Request, data: Where) {
        let fits = request.data_len() <= u64::from(self.buffer_bytes);
        assert!(fits, "decoded against the device");
        let data_bytes = request.data_bytes();
        let slot = self.slot(tag);
        (slot.request, slot.data) = (request, data);
        (slot.data_bytes, slot.filled_bytes) = (data_bytes, 0);
    }

    /// The server has a request that cannot be.
    pub(crate) fn set_nonsense(&mut self, tag: u16, data: Where) {
        self.set_request(tag, IDLE, data);
    }

    #[inline]
    pub(crate) fn request(&self, tag: u16) -> Request {
        self.get(tag).request
    }

    /// What the server is asked, and for how much data.
    #[inline(always)]
    pub(crate) fn asked(&self, tag: u16) -> (Asked, u32) {
        let slot = self.get(tag);
        (slot.request.operation, slot.data_bytes)
    }

    /// What was [asked](Self::asked), if that can be answered as it is: it waits for nothing, and
    /// its data is in the slot's buffer.
    #[inline(always)]
    pub(crate) fn done(&self, tag: u16) -> Option<(Asked, u32)> {
        let slot = self.get(tag); // once, too
        let waits = slot.waits > 0 || slot.fetching.is_some();
        let is_done = !waits && slot.data == Where::Buffer;
        is_done.then_some((slot.request.operation, slot.data_bytes))
    }

    /// Whether the request waits: for operations, for a write's data, or for a waker.
    #[inline]
    pub(crate) fn is_waiting(&self, tag: u16) -> bool {
        let slot = self.get(tag);
        slot.waits > 0 || slot.fetching.is_some()
    }

    /// The server's request waits for a waker.
    pub(crate) fn park(&mut self, tag: u16, cookie: u8) {
        assert!(self.is_servers(tag), "only the server's own requests are parked");
        let slot = self.slot(tag);
        slot.waits += u16::from(slot.parked.is_none());
        slot.parked = Some(cookie);
    }

    /// A waker woke the request, if it waits for one; answers the handler's number.
    pub(crate) fn unpark(&mut self, tag: u16) -> Option<u8> {
        let slot = self.slot(tag);
        slot.waits -= u16::from(slot.parked.is_some());
        slot.parked.take()
    }

    /// Settles what the client will be answered, once its operations have ended. The first answer
    /// stands.
    #[inline]
    pub(crate) fn settle(&mut self, tag: u16, answer: Result<(), Errno>) {
        self.slot(tag).answer.get_or_insert(answer);
    }

    /// The request is answered whatever becomes of its operations: success is no answer where some
    /// may not do what it says. Whether this error is the answer.
    pub(crate) fn settle_without_operations(&mut self, tag: u16, errno: Errno) -> bool {
        let before = self.answer(tag);
        if self.operations.matter(tag) {
            self.take_success_back(tag, errno);
        }
        self.settle(tag, Err(errno));
        self.answer(tag) != before
    }

    /// Success that was settled, and not told yet, is none.
    pub(crate) fn take_success_back(&mut self, tag: u16, errno: Errno) {
        let answer = &mut self.slot(tag).answer;
        if *answer == Some(Ok(())) {
            *answer = Some(Err(errno));
        }
    }

    /// The answer, once it is settled.
    #[inline]
    pub(crate) fn answer(&self, tag: u16) -> Option<Result<(), Errno>> {
        self.get(tag).answer
    }
}

#[cfg(any(test, fuzzing))]
impl Slots {
    /// Panics unless the counts are those of the slots.
    pub(crate) fn check(&self) {
        let count = |test: fn(&Slot) -> bool| self.slots.iter().filter(|slot| test(slot)).count();
        let kernels = count(|slot| slot.state == State::Kernel);
        let servers = count(|slot| slot.state == State::Server);
        assert_eq!(usize::from(self.live), kernels + servers);
        let operations = |slot: &Slot| usize::from(slot.waits) - usize::from(slot.parked.is_some());
        self.operations.check(self.slots.iter().map(operations).sum());
    }

    /// A kernel that is played will not use what it was lent any more: nothing is leaked.
    pub(crate) fn take_all_back(&mut self) {
        self.is_over = true;
        self.operations.lent = 0;
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        let is_lent = |slot: &Slot| self.lends && slot.state == State::Kernel;
        let any = self.operations.lent > 0 || self.slots.iter().any(is_lent);
        if any && !self.is_over {
            return; // the kernel may still write: leaked
        }
        // SAFETY: dropped here only, once.
        unsafe { ManuallyDrop::drop(&mut self.buffers) };
        // SAFETY: dropped here only, once.
        unsafe { ManuallyDrop::drop(&mut self.later) };
        // SAFETY: dropped here only, once.
        unsafe { ManuallyDrop::drop(&mut self.regions) };
    }
}
