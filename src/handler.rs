//! [`Handler`]: what the queue knows of a backend, and [`Io`]: what a backend holds for one call.

#[cfg(test)]
pub(crate) mod tests;

use crate::data_path::DataPath;
use crate::errno::Errno;
use crate::id::Id;
use crate::kernel::{Destination, Source};
use crate::request::{Operation as Asked, Request};
use crate::ring::{self, CommitAndFetch, FileName, Sqe, SubmissionQueue};
use crate::slots::{Action, At, Operation, Transfer, Where};
use core::fmt;
use core::ops::Range;
use core::time::Duration;

/// What a call to a handler comes to.
#[must_use = "the client waits for the answer"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The request is answered: all of it succeeded, or it failed.
    Done(Result<(), Errno>),
    /// The request goes on when something that it waits for has ended.
    Pending,
}

impl Step {
    /// What a request that asked for an operation waits for.
    #[inline(always)] // nobody looks at both
    pub(crate) fn of(asked: Result<(), Errno>) -> Self {
        asked.map_or_else(|errno| Self::Done(Err(errno)), |()| Self::Pending)
    }
}

/// What a request waited for has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// What it was asked for with.
    pub cookie: u8,
    /// What came of it: of a transfer the number of bytes, less than was asked only at the end of
    /// the file.
    pub result: Result<u32, Errno>,
}

/// Serves the requests of one queue, on the queue's thread.
///
/// Each request is [`start`](Self::start)ed once and [`resume`](Self::resume)d whenever an
/// operation that it waits for has ended, until a call answers [`Step::Done`]. Operations are asked
/// for through [`Io`]; the queue's own ring does them. A call must not block for longer than its
/// clients shall wait: the queue's other requests wait too.
///
/// Mistakes cost an `EIO`, never a hang: a call that panics, and one that is `Pending` on nothing.
/// After a panic the request is not entered again; the next one of that tag begins with a `start`.
/// A request is answered only when all its operations have ended, whatever the handler says.
///
/// [`Target`](crate::Target) has an example.
pub trait Handler {
    /// Begins a request.
    fn start(&mut self, io: &mut Io<'_>) -> Step;

    /// Goes on with a request. A handler that is never [`Step::Pending`] needs none.
    fn resume(&mut self, io: &mut Io<'_>, done: Completion) -> Step {
        let _ = (io, done);
        Step::Done(Err(Errno::EIO))
    }
}

/// One of a target's files, by its place in [`Needs::files`](crate::Needs::files).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileIndex(pub u16);

/// One of a target's regions, by its place in [`Needs::regions`](crate::Needs::regions).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionIndex(pub u16);

/// What becomes of a file's space. The file's size stays.
///
/// The first three are modes of `fallocate(2)`. On a block device it only zeroes: to give up is
/// `EOPNOTSUPP` on a disk that cannot zero a range by itself, whether it can discard or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Space {
    /// It is there for what will be written.
    Taken,
    /// It is given up, and the range reads as zeros.
    GivenUp,
    /// It is there, and the range reads as zeros.
    Zeroed,
    /// A block device's own discard (`blkdev_uring_cmd` in Linux's `block/ioctl.c`, since 6.12): it
    /// may give the space up, and the range reads as anything.
    ///
    /// `EOPNOTSUPP`: the file is no block device, or one that cannot discard, or the kernel is
    /// older; `EINVAL`: the range is empty, not in whole logical blocks, or not on the disk;
    /// `EBADF`: it is not open for writing; `EPERM`: the disk is read-only; `EBUSY`: its cached
    /// pages are in use.
    Discarded,
}

impl Space {
    /// The mode of `fallocate(2)`, where that does it.
    fn mode(self) -> Option<u32> {
        let flags = match self {
            Self::Discarded => return None,
            Self::Taken => libc::FALLOC_FL_KEEP_SIZE,
            Self::GivenUp => libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
            Self::Zeroed => libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE,
        };
        Some(flags.unsigned_abs())
    }
}

/// Moves a request's data by system calls, on a device that does it so.
pub(crate) trait Mover {
    /// Fills all of `data` with what a write brings.
    fn fetch(&self, tag: u16, data: Destination<'_>) -> Result<(), Errno>;
    /// Gives a read all of `data`.
    fn give(&self, tag: u16, data: Source<'_>) -> Result<(), Errno>;
}

/// A request as a handler sees it during one call: what is asked, its data, and what the queue's
/// own ring can do for it.
///
/// Operations end later: the handler answers [`Step::Pending`], and is resumed with the `cookie`
/// that it gave, any number of its own. All of them fail with `EBUSY` when the request has as many
/// under way as [`Needs::operations`](crate::Needs::operations) says, and with `EBADF` when there
/// is no such file.
pub struct Io<'a> {
    pub(crate) at: At<'a>,
    pub(crate) submissions: &'a mut SubmissionQueue<Sqe>,
    pub(crate) common: &'a Common,
    pub(crate) mover: &'a dyn Mover,
}

/// What is the same for all requests of a queue.
#[derive(Debug)]
pub(crate) struct Common {
    /// Its slots, as commands name them, but for the tag.
    pub(crate) slot: ring::Slot,
    /// What answers one.
    pub(crate) commit: CommitAndFetch,
    /// The target's files, as SQEs name them.
    pub(crate) files: Box<[FileName]>,
    pub(crate) path: DataPath,
}

impl Common {
    /// A slot, as its commands name it.
    #[inline]
    pub(crate) fn name(&self, tag: u16) -> ring::Slot {
        ring::Slot { tag, ..self.slot }
    }
}

impl Io<'_> {
    /// What the client asks.
    #[inline]
    pub fn request(&self) -> Request {
        self.at.request()
    }

    /// The request's number in its queue, below the depth. No two requests at one time share it.
    #[inline]
    pub fn tag(&self) -> u16 {
        self.at.tag()
    }

    /// How much data the request has: [`Request::data_bytes`], worked out already.
    #[inline]
    pub fn data_bytes(&self) -> u32 {
        self.at.asked().1
    }

    /// The request's data: what a write brings, or what a read is to fill, which holds anything
    /// before. Empty for other operations.
    ///
    /// # Panics
    ///
    /// While an operation is using it; and where it stayed in the kernel, for a target that did not
    /// ask for [`Slices`](crate::Access::Slices). Either costs the request an `EIO`.
    #[inline]
    pub fn data(&mut self) -> &mut [u8] {
        self.at.data()
    }

    /// Reads `part` of the request's data from a file, from `offset` on. Short transfers and
    /// interruptions go on by themselves.
    ///
    /// # Errors
    ///
    /// `EINVAL`: no such part, or no such offset; `EOPNOTSUPP`: the data stayed in the kernel, for
    /// a target of [`Regions`](crate::Access::Regions).
    #[inline(always)] // a handler knows most of it, and an `Io` that nobody else sees is no memory
    pub fn read(
        &mut self,
        file: FileIndex,
        offset: u64,
        part: Range<u32>,
        cookie: u8,
    ) -> Result<(), Errno> {
        let transfer = self.transfer(file, offset, part)?;
        self.begin(Operation::new(Action::Read(transfer), cookie))
    }

    /// Writes `part` of the request's data to a file, from `offset` on. With `durable` the
    /// operation ends when what it wrote is durable. Otherwise as [`read`](Self::read).
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    #[inline(always)] // as `read`
    pub fn write(
        &mut self,
        file: FileIndex,
        offset: u64,
        part: Range<u32>,
        durable: bool,
        cookie: u8,
    ) -> Result<(), Errno> {
        let transfer = self.transfer(file, offset, part)?;
        self.begin(Operation::new(Action::Write { transfer, durable }, cookie))
    }

    /// Makes what was written to a file durable: with `data_only` as `fdatasync(2)`.
    ///
    /// # Errors
    ///
    /// As all operations.
    #[inline(always)] // as `read`
    pub fn sync(&mut self, file: FileIndex, data_only: bool, cookie: u8) -> Result<(), Errno> {
        self.begin(Operation::new(Action::Sync { file: file.0, data_only }, cookie))
    }

    /// Takes space of a file, or gives it up. `range` is in bytes.
    ///
    /// # Errors
    ///
    /// As all operations.
    #[inline(always)] // as `read`
    pub fn allocate(
        &mut self,
        file: FileIndex,
        space: Space,
        range: Range<u64>,
        cookie: u8,
    ) -> Result<(), Errno> {
        let len_bytes = range.end.checked_sub(range.start).ok_or(Errno::EINVAL)?;
        let action = Action::Allocate { file: file.0, space, offset: range.start, len_bytes };
        self.begin(Operation::new(action, cookie))
    }

    /// Waits until a file is readable: an eventfd, a socket.
    ///
    /// # Errors
    ///
    /// As all operations.
    pub fn readable(&mut self, file: FileIndex, cookie: u8) -> Result<(), Errno> {
        self.begin(Operation::new(Action::Readable { file: file.0 }, cookie))
    }

    /// Waits for `time`; that ends with `Err(ETIME)`.
    ///
    /// # Errors
    ///
    /// As all operations.
    pub fn delay(&mut self, time: Duration, cookie: u8) -> Result<(), Errno> {
        self.begin(Operation::new(Action::Delay(time), cookie))
    }

    /// Waits until [`Wakers::wake`](crate::Wakers::wake) is called with this request's tag, or was
    /// while the handler was. It stays parked while it is resumed for other reasons. Without
    /// [`Needs::wakers`](crate::Needs::wakers) nobody ever calls.
    pub fn park(&mut self, cookie: u8) {
        self.at.park(cookie);
    }

    /// Answers a read with what a region holds from `offset` on, without a copy in between where
    /// the device's data path allows: `return io.load(…)`.
    ///
    /// The answer is `EINVAL` when the request is no read, or there is no such range.
    pub fn load(&mut self, region: RegionIndex, offset: u64) -> Step {
        Step::Done(self.loaded(region, offset))
    }

    fn loaded(&mut self, region: RegionIndex, offset: u64) -> Result<(), Errno> {
        if self.request().operation != Asked::Read {
            return Err(Errno::EINVAL);
        }
        let range = self.at.range(region.0, offset)?;
        match (self.common.path, self.at.place()) {
            (_, Where::Buffer | Where::Copy) => self.at.load(region.0, range.start),
            (DataPath::GetData, _) => {
                self.at.set_place(Where::Region(region.0, range.start));
            }
            (_, place) => {
                self.mover.give(self.at.tag(), self.at.region(region.0).source(range))?;
                match place {
                    // Where the pages are stays known: whoever put them there takes them out.
                    Where::Table => self.at.filled(self.data_bytes()),
                    _ => self.at.set_place(Where::Given),
                }
            }
        }
        Ok(())
    }

    /// Puts what a write brings into a region, from `offset` on, as [`load`](Self::load) does.
    /// Where that ends later, the request is resumed with `cookie`.
    ///
    /// It may be resumed with `ECANCELED`, where the kernel found no memory for the data: then
    /// the request was taken back, its answer goes nowhere, and it is or was started anew,
    /// perhaps under another tag. No other request may wait for this one to be told: that is when
    /// its slot is used again.
    ///
    /// The answer is `EINVAL` when the request is no write, or there is no such range, and `EBUSY`
    /// when it waits for something else and the data is still to be brought.
    pub fn store(&mut self, region: RegionIndex, offset: u64, cookie: u8) -> Step {
        match self.stored(region, offset, cookie) {
            Ok(step) => step,
            Err(errno) => Step::Done(Err(errno)),
        }
    }

    fn stored(&mut self, region: RegionIndex, offset: u64, cookie: u8) -> Result<Step, Errno> {
        if !matches!(self.request().operation, Asked::Write { .. }) {
            return Err(Errno::EINVAL);
        }
        let range = self.at.range(region.0, offset)?;
        match (self.common.path, self.at.place()) {
            (_, Where::Buffer | Where::Copy) => self.at.store(region.0, range.start),
            (DataPath::GetData, Where::Kernel) => {
                if self.at.is_waiting() {
                    return Err(Errno::EBUSY); // the slot is the kernel's meanwhile, and no more
                }
                self.fetch_data(Some((region.0, range.start)), cookie)?;
                return Ok(Step::Pending);
            }
            (DataPath::GetData, _) => return Err(Errno::EIO), // it was asked for, and did not come
            _ => self.mover.fetch(self.at.tag(), self.at.region(region.0).destination(range))?,
        }
        Ok(Step::Done(Ok(())))
    }

    /// Has the driver put a write's data where it belongs.
    pub(crate) fn fetch_data(
        &mut self,
        place: Option<(u16, usize)>,
        cookie: u8,
    ) -> Result<(), Errno> {
        let tag = self.at.tag();
        let address = self.at.fetch_data(place, cookie, self.submissions.number());
        let id = Id::Command { tag }.encode();
        // A ring that is too small ends its queue at the next push.
        self.submissions
            .push(Sqe::get_data(self.common.name(tag), address, id))
            .map_err(|_| Errno::ENOSPC)
    }

    #[inline(always)] // into both
    fn transfer(&self, file: FileIndex, offset: u64, part: Range<u32>) -> Result<Transfer, Errno> {
        let (start, end) = (part.start, part.end);
        let len_bytes = end.checked_sub(start).ok_or(Errno::EINVAL)?;
        let fits = offset.checked_add(len_bytes.into()).is_some_and(|end| end <= i64::MAX as u64);
        if end > self.data_bytes() || !fits {
            return Err(Errno::EINVAL);
        }
        Ok(Transfer { file: file.0, offset, start, len_bytes })
    }

    /// Asks the ring for an operation.
    #[inline(always)] // what it is is known to whoever asks: a fifth of a file's instructions
    pub(crate) fn begin(&mut self, operation: Operation) -> Result<(), Errno> {
        let file = self.file(&operation.action).ok_or(Errno::EBADF)?;
        let is_reachable = matches!(self.at.place(), Where::Buffer | Where::Copy | Where::Table);
        if operation.action.transfer().is_some() && !is_reachable {
            return Err(Errno::EOPNOTSUPP);
        }
        let index = self.at.begin(operation, self.submissions.number())?;
        self.ask(index, operation.action, file)
    }

    /// Asks for what is left of one.
    #[inline(always)] // as `begin`
    pub(crate) fn go_on(&mut self, index: u8) -> Result<(), Errno> {
        let action = self.at.again(index, self.submissions.number());
        match self.file(&action) {
            Some(file) => self.ask(index, action, file),
            None => {
                self.at.forget_operation(index);
                Err(Errno::EBADF) // it had one when it began
            }
        }
    }

    /// The file that it is about, if there is such a one.
    #[inline(always)] // into both
    fn file(&self, action: &Action) -> Option<FileName> {
        match action.file() {
            Some(file) => self.common.files.get(usize::from(file)).copied(),
            None => Some(FileName::Number(-1)),
        }
    }

    /// Queues an operation of the request: it has a place.
    #[inline(always)] // as `begin`
    fn ask(&mut self, index: u8, action: Action, file: FileName) -> Result<(), Errno> {
        let tag = self.at.tag();
        let id = Id::Operation { tag, index }.encode();
        let data = |transfer: Transfer| match self.at.place() {
            Where::Table => ring::Data::Table {
                place: tag,
                start: transfer.start,
                len_bytes: transfer.len_bytes,
            },
            _ => ring::Data::Memory(self.at.part(index, transfer), transfer.len_bytes),
        };
        let sqe = match action {
            Action::Read(transfer) => Sqe::read(file, transfer.offset, data(transfer), id),
            Action::Write { transfer, durable } => {
                Sqe::write(file, transfer.offset, data(transfer), durable, id)
            }
            Action::Sync { data_only, .. } => Sqe::sync(file, data_only, id),
            Action::Allocate { space, offset, len_bytes, .. } => match space.mode() {
                Some(mode) => Sqe::allocate(file, mode, offset, len_bytes, id),
                None => Sqe::discard(file, offset, len_bytes, id),
            },
            Action::Readable { .. } => Sqe::poll_readable(file, id),
            Action::Delay(time) => Sqe::timeout(self.at.delay(index, time), id),
            Action::Register => Sqe::register_pages(self.common.name(tag), id),
        };
        self.submissions.push(sqe).map_err(|_| {
            // The ring is too small, which its queue will see for itself at the commit.
            self.at.forget_operation(index);
            Errno::ENOSPC
        })
    }
}

impl fmt::Debug for Io<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Io").field("tag", &self.tag()).field("request", &self.request()).finish()
    }
}
