//! [`Slots`]: who owns each tag and its buffer, and so who may touch its memory.
#![expect(unsafe_code, reason = "lends buffers to the kernel; docs/safety.md, island `slots`")]

mod operations;
#[cfg(test)]
mod tests;

pub(crate) use operations::{Action, Next, Operation, Transfer};

use crate::data_path::DataPath;
use crate::errno::Errno;
use crate::memory::Pages;
use crate::region::Region;
use crate::request::{Operation as Asked, Request};
use crate::ring::Address;
use core::mem::ManuallyDrop;
use core::ops::Range;
use core::time::Duration;
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
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    state: State,
    data: Where,
    /// The number of the SQE of its command: before the kernel took that, it cannot complete.
    sqe: u64,
    /// What waits for that command, where it brings a write's data: the handler's own number.
    fetching: Option<u8>,
    /// The answer, once it is known, until the request's operations have ended.
    answer: Option<Result<(), Errno>>,
    request: Request,
    /// Bytes of a read's data that operations have filled.
    filled_bytes: u32,
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
    slots: Box<[Slot]>,
    buffers: ManuallyDrop<Pages>,
    buffer_bytes: usize,
    /// Memory of the backend that commands may name.
    regions: ManuallyDrop<Vec<Arc<Region>>>,
    operations: Operations,
    /// Slots in [`State::Kernel`] and [`State::Server`].
    live: u16,
    /// Slots whose memory the kernel may use for their commands.
    lent: u32,
}

const IDLE: Request = Request { operation: Asked::Flush, offset: 0, len_bytes: 0 };

impl Slots {
    /// `depth` slots that can hold requests of up to `buffer_bytes`, with so many operations under
    /// way for each. Touches no page of theirs.
    pub(crate) fn new(
        path: DataPath,
        depth: u16,
        buffer_bytes: u32,
        operations: u8,
        regions: Vec<Arc<Region>>,
    ) -> Result<Self, Errno> {
        let slot = Slot {
            state: State::New,
            data: Where::Buffer,
            sqe: 0,
            fetching: None,
            answer: None,
            request: IDLE,
            filled_bytes: 0,
        };
        let buffer_bytes = buffer_bytes as usize;
        let total = usize::from(depth).checked_mul(buffer_bytes).ok_or(Errno::ENOMEM)?;
        Ok(Self {
            path,
            slots: vec![slot; depth.into()].into_boxed_slice(),
            buffers: ManuallyDrop::new(Pages::new(total)?),
            buffer_bytes,
            regions: ManuallyDrop::new(regions),
            operations: Operations::new(depth, operations)?,
            live: 0,
            lent: 0,
        })
    }

    /// How many slots there are.
    pub(crate) fn depth(&self) -> u16 {
        u16::try_from(self.slots.len()).expect("made from a u16")
    }

    /// How many slots the kernel or the server has.
    pub(crate) fn live(&self) -> u16 {
        self.live
    }

    /// Whether there is such a tag: the kernel's word is checked before anything else.
    pub(crate) fn exists(&self, tag: u16) -> bool {
        usize::from(tag) < self.slots.len()
    }

    fn get(&self, tag: u16) -> &Slot {
        &self.slots[usize::from(tag)]
    }

    fn slot(&mut self, tag: u16) -> &mut Slot {
        &mut self.slots[usize::from(tag)]
    }

    /// Gives the slot to the kernel: its first command, or the one that answers its request, will
    /// have number `sqe`. Answers the address that belongs into it.
    ///
    /// # Panics
    ///
    /// When the kernel has it already, or an operation is under way: a defect of the queue.
    pub(crate) fn lend(&mut self, tag: u16, sqe: u64) -> Address {
        let address = if self.path.names_memory() { self.address(tag) } else { Address::NONE };
        self.hand_over(tag, sqe);
        self.slot(tag).answer = None;
        address
    }

    /// Gives the slot to the kernel, to have a write's data put where it is to be: into the buffer,
    /// or into a region from `place` on. `cookie` is the handler's who waits for that.
    pub(crate) fn fetch_data(
        &mut self,
        tag: u16,
        place: Option<(u16, usize)>,
        cookie: u8,
        sqe: u64,
    ) -> Address {
        let slot = self.slot(tag);
        assert!(slot.data == Where::Kernel, "the data is to be asked for");
        slot.data = match place {
            Some((region, offset)) => Where::Region(region, offset),
            None => Where::Buffer,
        };
        slot.fetching = Some(cookie);
        let address = self.address(tag);
        self.hand_over(tag, sqe);
        address
    }

    fn hand_over(&mut self, tag: u16, sqe: u64) {
        assert!(!self.operations.any(tag), "its operations have not ended");
        let lends = self.path.names_memory();
        let slot = self.slot(tag);
        assert!(matches!(slot.state, State::New | State::Server));
        let is_new = slot.state == State::New;
        slot.state = State::Kernel;
        slot.sqe = sqe;
        self.live += u16::from(is_new);
        self.lent += u32::from(lends);
    }

    /// Where the data is, for the kernel.
    fn address(&self, tag: u16) -> Address {
        let slot = self.get(tag);
        let place = match slot.data {
            Where::Region(region, offset) => {
                self.regions[usize::from(region)].at(offset, slot.request.data_bytes() as usize)
            }
            _ => self.buffers.at(usize::from(tag) * self.buffer_bytes, self.buffer_bytes),
        };
        // SAFETY: inside the buffers' mapping (`at`), or inside a region; both are unmapped only
        // when nothing is lent. References to buffers are made in `data` alone, not while the
        // kernel has the slot; that ends with the command's completion (`take`, `gone`). To regions
        // there are none but to atomics.
        unsafe { Address::new(place) }
    }

    /// The slot's command completed with a request: the server owns the slot again. The kernel has
    /// `taken` so many SQEs; `false` when the slot's is not among them, so that this cannot be.
    #[must_use]
    pub(crate) fn take(&mut self, tag: u16, taken: u64) -> bool {
        self.leave_kernel(tag, taken, State::Server)
    }

    /// The slot's command completed because the driver takes the slot away.
    #[must_use]
    pub(crate) fn gone(&mut self, tag: u16, taken: u64) -> bool {
        let was = self.leave_kernel(tag, taken, State::Gone);
        self.live -= u16::from(was);
        was
    }

    fn leave_kernel(&mut self, tag: u16, taken: u64, to: State) -> bool {
        let lends = self.path.names_memory();
        let slot = self.slot(tag);
        if slot.state != State::Kernel || slot.sqe >= taken {
            return false;
        }
        slot.state = to;
        self.lent -= u32::from(lends);
        true
    }

    /// Whether the server has a request to answer.
    pub(crate) fn is_servers(&self, tag: u16) -> bool {
        self.get(tag).state == State::Server
    }

    /// Whether the slot's command is to bring a write's data.
    pub(crate) fn is_fetching(&self, tag: u16) -> bool {
        self.get(tag).fetching.is_some()
    }

    /// Whether the slot's command was to bring a write's data; ends that, and answers the number of
    /// the handler who waits.
    pub(crate) fn end_fetching(&mut self, tag: u16) -> Option<u8> {
        self.slot(tag).fetching.take()
    }

    /// Notes what the server is asked, and where its data is.
    pub(crate) fn set_request(&mut self, tag: u16, request: Request, data: Where) {
        assert!(request.data_bytes() as usize <= self.buffer_bytes, "decoded against the device");
        let slot = self.slot(tag);
        (slot.request, slot.data, slot.filled_bytes) = (request, data, 0);
    }

    /// The server has a request that cannot be.
    pub(crate) fn set_nonsense(&mut self, tag: u16, data: Where) {
        self.set_request(tag, IDLE, data);
    }

    pub(crate) fn request(&self, tag: u16) -> Request {
        self.get(tag).request
    }

    /// Where the data of the server's request is.
    pub(crate) fn place(&self, tag: u16) -> Where {
        self.get(tag).data
    }

    /// The data of the server's request.
    ///
    /// # Panics
    ///
    /// When an operation is using it, or it is not in the slot's buffer: a defect of a handler.
    pub(crate) fn data(&mut self, tag: u16) -> &mut [u8] {
        self.data_and_regions(tag).0
    }

    fn data_and_regions(&mut self, tag: u16) -> (&mut [u8], &[Arc<Region>]) {
        assert!(!self.operations.use_data(tag), "an operation is using the request's data");
        let slot = self.get(tag);
        assert!(slot.state == State::Server, "only the server's own requests have data");
        let is_here = matches!(slot.data, Where::Buffer | Where::Copy);
        assert!(is_here, "the request's data is with the kernel");
        let len = slot.request.data_bytes() as usize;
        let start = self.buffers.at(usize::from(tag) * self.buffer_bytes, len).as_ptr();
        // SAFETY: inside the mapping (`at`), which is zeroed, so initialised. In State::Server, and
        // with no operation on it, the kernel does not use this buffer; other slots' buffers do not
        // overlap it (`set_request` checked len <= buffer_bytes), and `&mut self` excludes a second
        // reference.
        (unsafe { core::slice::from_raw_parts_mut(start, len) }, &self.regions)
    }

    /// The range of a region that the request's data has from `offset` on. `EINVAL` when there is
    /// none.
    pub(crate) fn range(&self, tag: u16, region: u16, offset: u64) -> Result<Range<usize>, Errno> {
        let region = self.regions.get(usize::from(region)).ok_or(Errno::EINVAL)?;
        let start = usize::try_from(offset).map_err(|_| Errno::EINVAL)?;
        let end = start.checked_add(self.get(tag).request.data_bytes() as usize);
        match end {
            Some(end) if end <= region.len_bytes() => Ok(start..end),
            _ => Err(Errno::EINVAL),
        }
    }

    /// A region of the backend's.
    pub(crate) fn region(&self, region: u16) -> &Region {
        &self.regions[usize::from(region)]
    }

    /// Fills a read's buffer from a region.
    pub(crate) fn load(&mut self, tag: u16, region: u16, start: usize) {
        let (data, regions) = self.data_and_regions(tag);
        regions[usize::from(region)].read(start, data);
    }

    /// Puts a write's buffer into a region.
    pub(crate) fn store(&mut self, tag: u16, region: u16, start: usize) {
        let (data, regions) = self.data_and_regions(tag);
        regions[usize::from(region)].write(start, data);
    }

    /// Whether the data of a write, or of a request that cannot be, waits to be fetched.
    pub(crate) fn is_unfetched(&self, tag: u16) -> bool {
        let slot = self.get(tag);
        self.path == DataPath::GetData
            && slot.data == Where::Kernel
            && slot.request.operation != Asked::Read
    }

    /// Says where the data is from here on; ranges of regions were checked.
    pub(crate) fn set_place(&mut self, tag: u16, data: Where) {
        self.slot(tag).data = data;
    }

    /// Whether a read's data is a copy that the kernel is still to be given.
    pub(crate) fn has_copy_to_give(&self, tag: u16) -> bool {
        let slot = self.get(tag);
        slot.data == Where::Copy && slot.request.operation == Asked::Read
    }

    /// Whether success would show a client memory that nobody filled: a read whose data stayed with
    /// the kernel.
    pub(crate) fn is_unfilled(&self, tag: u16) -> bool {
        let slot = self.get(tag);
        let unfilled = match slot.data {
            Where::Kernel => true,
            Where::Table => slot.filled_bytes < slot.request.data_bytes(),
            Where::Buffer | Where::Copy | Where::Given | Where::Region(..) => false,
        };
        unfilled && slot.request.operation == Asked::Read
    }

    /// Notes an operation of the server's request, whose SQE will have number `sqe`; answers its
    /// index. `EBUSY`: the request has as many as it may.
    pub(crate) fn begin(&mut self, tag: u16, operation: Operation, sqe: u64) -> Result<u8, Errno> {
        assert!(self.is_servers(tag), "only the server's own requests have operations");
        self.operations.begin(tag, operation, sqe)
    }

    /// Where the time of a delay is that was just begun.
    pub(crate) fn delay(&mut self, tag: u16, index: u8, time: Duration) -> Address {
        self.operations.time(tag, index, time)
    }

    /// The buffer's part from `start` on, for an operation that was just begun and moves no more
    /// than the request's data from there.
    pub(crate) fn part(&self, tag: u16, transfer: &Transfer) -> Address {
        let end = transfer.start.checked_add(transfer.len_bytes);
        let most = self.get(tag).request.data_bytes();
        assert!(end.is_some_and(|end| end <= most), "a part of the request's data");
        assert!(self.operations.use_data(tag), "the operation was begun");
        let start = usize::from(tag) * self.buffer_bytes + transfer.start as usize;
        let place = self.buffers.at(start, transfer.len_bytes as usize);
        // SAFETY: inside the mapping (`at`), which is unmapped only when nothing is lent. The
        // operation counts as using the data until its completion (`end_operation`), and meanwhile
        // `data` makes no reference.
        unsafe { Address::new(place) }
    }

    /// The ring has completed an operation of the request. The kernel has `taken` so many SQEs;
    /// `None` when there was no such operation among them, so that this cannot be.
    pub(crate) fn end_operation(&mut self, tag: u16, index: u8, taken: u64) -> Option<Operation> {
        self.operations.end(tag, index, taken)
    }

    /// An operation has filled so many bytes of the request's data.
    pub(crate) fn filled(&mut self, tag: u16, bytes: u32) {
        let slot = self.slot(tag);
        slot.filled_bytes = slot.filled_bytes.saturating_add(bytes);
    }

    /// The operation never was under way: its SQE could not be queued.
    pub(crate) fn drop_unqueued(&mut self, tag: u16, index: u8) {
        self.operations.drop_unqueued(tag, index);
    }

    /// The queue ends before the request's operations do: see [`Operations::abandon`].
    pub(crate) fn abandon_operations(&mut self, tag: u16) {
        self.operations.abandon(tag);
    }

    /// Whether the request waits: for operations, or for a write's data.
    pub(crate) fn is_waiting(&self, tag: u16) -> bool {
        self.operations.any(tag) || self.is_fetching(tag)
    }

    /// Settles what the client will be answered, once its operations have ended. The first answer
    /// stands.
    pub(crate) fn settle(&mut self, tag: u16, answer: Result<(), Errno>) {
        self.slot(tag).answer.get_or_insert(answer);
    }

    /// The answer, once it is settled.
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
        assert_eq!(self.lent as usize, if self.path.names_memory() { kernels } else { 0 });
        self.operations.check();
    }

    /// A kernel that is played will not use what it was lent any more: nothing is leaked.
    pub(crate) fn take_all_back(&mut self) {
        self.lent = 0;
        self.operations.lent = 0;
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        if self.lent > 0 || self.operations.lent > 0 {
            return; // the kernel may still write: leaked
        }
        // SAFETY: dropped here only, once.
        unsafe { ManuallyDrop::drop(&mut self.buffers) };
        // SAFETY: dropped here only, once.
        unsafe { ManuallyDrop::drop(&mut self.regions) };
    }
}
