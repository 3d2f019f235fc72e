//! [`Operations`]: what requests have under way on their queue's ring, beside the commands.
#![expect(unsafe_code, reason = "lends times to the kernel; docs/safety.md, island `slots`")]

use crate::errno::Errno;
use crate::handler::{Completion, Space};
use crate::kernel::timespec;
use crate::memory::Pages;
use crate::ring::Address;
use core::mem::ManuallyDrop;
use core::time::Duration;
use ublkit_sys::io_uring::__kernel_timespec;

/// How often in a row an operation may ask to try again before that is its answer.
const TRIES: u8 = 100;

/// What the ring is asked to do for a request. Ranges were checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Part of a file is read to part of the request's data.
    Read(Transfer),
    /// Part of the request's data is written to part of a file.
    Write {
        transfer: Transfer,
        /// And is durable when that ends.
        durable: bool,
    },
    /// What was written to a file becomes durable.
    Sync { file: u16, data_only: bool },
    /// Space of a file is taken or given up.
    Allocate { file: u16, space: Space, offset: u64, len_bytes: u64 },
    /// A file becomes readable.
    Readable { file: u16 },
    /// Time passes.
    Delay(Duration),
}

/// A stretch of a file, and the part of a request's data that is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Transfer {
    /// Which of the target's files.
    pub(crate) file: u16,
    /// Where in the file.
    pub(crate) offset: u64,
    /// Where in the request's data.
    pub(crate) start: u32,
    pub(crate) len_bytes: u32,
}

impl Transfer {
    /// What is left of it when so many bytes were moved.
    fn rest(self, moved: u32) -> Self {
        Self {
            offset: self.offset + u64::from(moved),
            start: self.start + moved,
            len_bytes: self.len_bytes - moved,
            ..self
        }
    }
}

impl Action {
    /// Which of the target's files it is about.
    pub(crate) fn file(&self) -> Option<u16> {
        match *self {
            Self::Read(transfer) | Self::Write { transfer, .. } => Some(transfer.file),
            Self::Sync { file, .. } | Self::Allocate { file, .. } | Self::Readable { file } => {
                Some(file)
            }
            Self::Delay(_) => None,
        }
    }

    /// What it moves of the request's data.
    pub(crate) fn transfer(&self) -> Option<Transfer> {
        match *self {
            Self::Read(transfer) | Self::Write { transfer, .. } => Some(transfer),
            _ => None,
        }
    }
}

/// An operation under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operation {
    /// What the ring was asked last: after a short transfer only what is left.
    pub(crate) action: Action,
    /// The handler's own number.
    cookie: u8,
    /// Bytes that were moved before.
    moved: u32,
    /// How often in a row it was to be tried again.
    tries: u8,
    /// The number of its SQE: before the kernel took that, it cannot complete.
    sqe: u64,
}

/// What becomes of an operation that the ring has completed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Next {
    /// It is not done: this is left to do.
    Again(Operation),
    /// It has ended.
    Ended(Completion),
}

impl Operation {
    pub(crate) fn new(action: Action, cookie: u8) -> Self {
        Self { action, cookie, moved: 0, tries: 0, sqe: 0 }
    }

    /// What the ring's result means: a transfer ends when it is whole, at the file's end, or with
    /// an error. `None` for what cannot be.
    pub(crate) fn next(mut self, result: i32) -> Option<Next> {
        let result = Errno::from_result(result);
        if let Err(Errno::EINTR | Errno::EAGAIN) = result
            && self.tries < TRIES
        {
            self.tries += 1;
            return Some(Next::Again(self));
        }
        let ended = |result| Some(Next::Ended(Completion { cookie: self.cookie, result }));
        match (&mut self.action, result) {
            (Action::Read(transfer) | Action::Write { transfer, .. }, Ok(count)) => {
                let moved = self.moved.checked_add(count)?;
                if count > transfer.len_bytes {
                    return None;
                }
                if count == 0 || count == transfer.len_bytes {
                    return ended(Ok(moved));
                }
                *transfer = transfer.rest(count);
                (self.moved, self.tries) = (moved, 0);
                Some(Next::Again(self))
            }
            (_, result) => ended(result),
        }
    }
}

/// The operations of a queue's requests: so many at one time for each.
///
/// The invariant that keeps their times sound: a time is written only while its place has no
/// operation, and all are leaked when one is under way at the end.
#[derive(Debug)]
pub(super) struct Operations {
    /// How many a request may have at one time.
    each: usize,
    /// Those of tag 0, of tag 1, and so on.
    table: Box<[Option<Operation>]>,
    /// A `__kernel_timespec` for each place.
    times: ManuallyDrop<Pages>,
    /// Places whose memory the kernel may use.
    pub(super) lent: u32,
}

impl Operations {
    pub(super) fn new(depth: u16, each: u8) -> Result<Self, Errno> {
        let each = usize::from(each);
        let places = usize::from(depth) * each;
        Ok(Self {
            each,
            table: vec![None; places].into_boxed_slice(),
            times: ManuallyDrop::new(Pages::new(places * size_of::<__kernel_timespec>())?),
            lent: 0,
        })
    }

    fn place(&self, tag: u16, index: u8) -> usize {
        usize::from(tag) * self.each + usize::from(index)
    }

    fn of(&self, tag: u16) -> impl Iterator<Item = &Option<Operation>> {
        self.table[usize::from(tag) * self.each..][..self.each].iter()
    }

    /// Notes an operation whose SQE will have number `sqe`; answers its index. `EBUSY`: the request
    /// has as many as it may.
    pub(super) fn begin(&mut self, tag: u16, operation: Operation, sqe: u64) -> Result<u8, Errno> {
        let free = self.of(tag).position(Option::is_none);
        let index = free.and_then(|index| u8::try_from(index).ok()).ok_or(Errno::EBUSY)?;
        let place = self.place(tag, index);
        self.table[place] = Some(Operation { sqe, ..operation });
        self.lent += 1;
        Ok(index)
    }

    /// The place of a delay's time, filled. The delay was just begun, and is not queued yet.
    pub(super) fn time(&mut self, tag: u16, index: u8, time: Duration) -> Address {
        let len = size_of::<__kernel_timespec>();
        let place = self.times.at(self.place(tag, index) * len, len);
        // SAFETY: inside the mapping (`at`) and aligned (pages hold whole timespecs). No reference
        // to it is ever made, and the kernel is not reading it: the operation that it belongs to
        // was not queued yet, and the one before it has ended (`begin` found the place free).
        unsafe { place.cast::<__kernel_timespec>().write(timespec(time)) };
        // SAFETY: as above, and unmapped only when no operation is under way (`lent`).
        unsafe { Address::new(place) }
    }

    /// The ring has completed an operation; the kernel has `taken` so many SQEs. `None` when there
    /// was no such operation among them, so that this cannot be.
    pub(super) fn end(&mut self, tag: u16, index: u8, taken: u64) -> Option<Operation> {
        if usize::from(index) >= self.each {
            return None;
        }
        let place = self.place(tag, index);
        let ended = self.table[place].take_if(|operation| operation.sqe < taken)?;
        self.lent -= 1;
        Some(ended)
    }

    /// The queue ends before the request's operations do: the request is answered all the same.
    /// What they name stays lent, and so is never given back.
    pub(super) fn abandon(&mut self, tag: u16) {
        let first = self.place(tag, 0);
        self.table[first..][..self.each].fill(None);
    }

    /// Whether one of the request's operations uses its data.
    pub(super) fn use_data(&self, tag: u16) -> bool {
        self.of(tag).flatten().any(|operation| operation.action.transfer().is_some())
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn check(&self, under_way: usize) {
        let count = self.table.iter().flatten().count();
        assert_eq!(count, under_way);
        assert!(count <= self.lent as usize);
    }
}

impl Drop for Operations {
    fn drop(&mut self) {
        if self.lent == 0 {
            // SAFETY: dropped here only, once; the kernel uses nothing of it any more.
            unsafe { ManuallyDrop::drop(&mut self.times) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(len_bytes: u32) -> Operation {
        let transfer = Transfer { file: 0, offset: 1 << 40, start: 512, len_bytes };
        Operation::new(Action::Read(transfer), 9)
    }

    #[test]
    fn short_transfers_go_on() {
        let Some(Next::Again(rest)) = read(4096).next(1000) else { panic!("it is short") };
        let left = Transfer { file: 0, offset: (1 << 40) + 1000, start: 1512, len_bytes: 3096 };
        assert_eq!(rest.action, Action::Read(left));
        assert!(rest.next(3097).is_none(), "more than was asked");
        let Some(Next::Ended(done)) = rest.next(3096) else { panic!("it is whole") };
        assert_eq!(done, Completion { cookie: 9, result: Ok(4096) });
        let Some(Next::Ended(done)) = rest.next(0) else { panic!("the file ends") };
        assert_eq!(done.result, Ok(1000));
        let Some(Next::Ended(done)) = rest.next(-libc::EIO) else { panic!("it failed") };
        assert_eq!(done.result, Err(Errno::EIO));
    }

    #[test]
    fn trying_again_has_an_end() {
        let mut operation = read(4096);
        for _ in 0..TRIES {
            let Some(Next::Again(again)) = operation.next(-libc::EAGAIN) else { panic!("again") };
            operation = again;
        }
        let Some(Next::Ended(done)) = operation.next(-libc::EINTR) else { panic!("enough") };
        assert_eq!(done.result, Err(Errno::EINTR));
        let Some(Next::Again(moved)) = operation.next(512) else { panic!("it goes on") };
        assert!(matches!(moved.next(-libc::EAGAIN), Some(Next::Again(_))), "counted anew");
    }

    #[test]
    fn each_request_has_so_many() {
        let mut operations = Operations::new(2, 2).unwrap();
        assert_eq!(operations.begin(1, read(512), 4), Ok(0));
        assert_eq!(operations.begin(1, Operation::new(Action::Delay(Duration::ZERO), 1), 5), Ok(1));
        assert_eq!(operations.begin(1, read(512), 6), Err(Errno::EBUSY));
        assert_eq!(operations.begin(0, Operation::new(Action::Delay(Duration::ZERO), 1), 6), Ok(0));
        assert!(operations.use_data(1) && !operations.use_data(0));
        assert!(operations.end(1, 0, 4).is_none(), "the kernel does not have it yet");
        assert!(operations.end(1, 2, 9).is_none(), "there is no such place");
        assert!(operations.end(1, 0, 5).is_some());
        assert!(operations.end(1, 0, 9).is_none(), "it has ended");
        assert!(!operations.use_data(1));
        operations.check(2);
        operations.abandon(1);
        operations.check(1);
        assert_eq!(operations.lent, 2);
    }
}
