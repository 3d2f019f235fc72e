//! [`Operations`]: what requests have under way on their queue's ring, beside the commands.
#![expect(unsafe_code, reason = "lends times to the kernel; docs/safety.md, island `slots`")]

use crate::errno::Errno;
use crate::handler::{Completion, Space};
use crate::kernel::timespec;
use crate::memory::Pages;
use crate::ring::Address;
use core::mem::ManuallyDrop;
use core::ptr::NonNull;
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
    /// The request's pages go into the ring's table: the queue's own, before the handler's.
    Register,
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
            Self::Delay(_) | Self::Register => None,
        }
    }

    /// The same action with another transfer, if it moves anything.
    fn rest(self, transfer: Transfer) -> Self {
        match self {
            Self::Read(_) => Self::Read(transfer),
            Self::Write { durable, .. } => Self::Write { transfer, durable },
            other => other,
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
    /// The memory that it may still use, where its request has gone on without it.
    left: Option<NonNull<u8>>,
}

/// How many operations one request may have under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowed {
    pub(crate) each: u8,
    /// The same, with those that its slot's former requests have left behind.
    pub(crate) places: u8,
}

/// An operation that was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Begun {
    /// Its place among its request's.
    pub(crate) index: u8,
    /// The buffer's part that it moves, if any.
    pub(crate) part: Address,
}

/// An operation that has ended, or what was seen of it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ended<T = Operation> {
    /// Of the request that the slot has.
    Request(T),
    /// Of a former one, which was answered long ago.
    LeftBehind,
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
        Self { action, cookie, moved: 0, tries: 0, sqe: 0, left: None }
    }

    /// Whether its request waits for it.
    fn is_live(&self) -> bool {
        self.left.is_none()
    }

    /// The memory that it may have used until now, where it was left behind.
    pub(super) fn left(&self) -> Option<NonNull<u8>> {
        self.left
    }

    /// What the ring's result means: a transfer ends when it is whole, at the file's end, or with
    /// an error. `None` for what cannot be.
    #[inline(always)] // once an operation
    pub(crate) fn next(&self, result: i32) -> Option<Next> {
        let result = Errno::from_result(result);
        if let Err(Errno::EINTR | Errno::EAGAIN) = result
            && self.tries < TRIES
        {
            return Some(Next::Again(Self { tries: self.tries + 1, ..*self }));
        }
        let ended = |result| Some(Next::Ended(Completion { cookie: self.cookie, result }));
        match (&self.action, result) {
            (Action::Read(transfer) | Action::Write { transfer, .. }, Ok(count)) => {
                let moved = self.moved.checked_add(count)?;
                if count > transfer.len_bytes {
                    return None;
                }
                if count == 0 || count == transfer.len_bytes {
                    return ended(Ok(moved));
                }
                let action = self.action.rest(transfer.rest(count));
                Some(Next::Again(Self { action, moved, tries: 0, ..*self }))
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
    /// How many a request may have at one time,
    each: usize,
    /// and with those that were left behind.
    places: usize,
    /// Those of tag 0, of tag 1, and so on.
    table: Box<[Option<Operation>]>,
    /// A `__kernel_timespec` for each place.
    times: ManuallyDrop<Pages>,
    /// Places whose memory the kernel may use.
    pub(super) lent: u32,
}

impl Operations {
    pub(super) fn new(depth: u16, allowed: Allowed) -> Result<Self, Errno> {
        let (each, places) = (usize::from(allowed.each), usize::from(allowed.places));
        let all = usize::from(depth) * places;
        Ok(Self {
            each,
            places,
            table: vec![None; all].into_boxed_slice(),
            times: ManuallyDrop::new(Pages::new(all * size_of::<__kernel_timespec>())?),
            lent: 0,
        })
    }

    #[inline]
    fn place(&self, tag: u16, index: u8) -> usize {
        usize::from(tag) * self.places + usize::from(index)
    }

    #[inline]
    fn of(&self, tag: u16) -> &[Option<Operation>] {
        &self.table[usize::from(tag) * self.places..][..self.places]
    }

    #[inline]
    fn of_mut(&mut self, tag: u16) -> &mut [Option<Operation>] {
        &mut self.table[usize::from(tag) * self.places..][..self.places]
    }

    /// The places of those that the request itself has.
    pub(super) fn under_way(&self, tag: u16) -> impl Iterator<Item = u8> {
        let is_its = |place: &Option<Operation>| place.as_ref().is_some_and(Operation::is_live);
        // In this order: behind the last of 255 places there is no number.
        self.of(tag).iter().zip(0..).filter(move |(it, _)| is_its(it)).map(|(_, index)| index)
    }

    /// The request goes on without its operations, which may still use memory from `buffer` on.
    /// Answers how many they are.
    pub(super) fn leave_behind(&mut self, tag: u16, buffer: NonNull<u8>) -> u16 {
        let mut count = 0;
        for operation in self.of_mut(tag).iter_mut().flatten().filter(|it| it.is_live()) {
            operation.left = Some(buffer);
            count += 1;
        }
        count
    }

    /// Whether operations that were left behind may still use memory from `buffer` on.
    pub(super) fn are_left_at(&self, tag: u16, buffer: NonNull<u8>) -> bool {
        self.of(tag).iter().flatten().any(|operation| operation.left == Some(buffer))
    }

    /// Notes an operation whose SQE will have number `sqe`, beside `live` ones of its request;
    /// answers its index. `EBUSY`: the request has as many as it may.
    #[inline]
    pub(super) fn begin(
        &mut self,
        tag: u16,
        operation: Operation,
        sqe: u64,
        live: u16,
    ) -> Result<u8, Errno> {
        if usize::from(live) >= self.each {
            return Err(Errno::EBUSY);
        }
        let mut places = self.of_mut(tag).iter_mut().zip(0..);
        let (place, index) = places.find(|(place, _)| place.is_none()).ok_or(Errno::EBUSY)?;
        *place = Some(Operation { sqe, ..operation });
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
    /// was no such operation among them, so that this cannot be; otherwise what is `seen` of it.
    #[inline(always)] // as `At::see_end`
    pub(super) fn end<T>(
        &mut self,
        tag: u16,
        index: u8,
        taken: u64,
        seen: impl FnOnce(&Operation) -> T,
    ) -> Option<T> {
        if usize::from(index) >= self.places {
            return None;
        }
        let place = self.place(tag, index);
        let place = &mut self.table[place];
        let seen = place.as_ref().filter(|operation| operation.sqe < taken).map(seen)?;
        *place = None;
        self.lent -= 1;
        Some(seen)
    }

    /// The queue ends before the request's operations do: the request is answered all the same.
    /// What they name stays lent, and so is never given back.
    pub(super) fn abandon(&mut self, tag: u16) {
        self.of_mut(tag).fill(None);
    }

    /// Whether one of the request's operations uses its data.
    pub(super) fn use_data(&self, tag: u16) -> bool {
        let uses = |it: &Operation| it.is_live() && it.action.transfer().is_some();
        self.of(tag).iter().flatten().any(uses)
    }

    /// Whether the request has an operation under way that does something for it: more than wait.
    pub(super) fn matter(&self, tag: u16) -> bool {
        let waits = |action: &Action| matches!(action, Action::Delay(_) | Action::Readable { .. });
        self.of(tag).iter().flatten().any(|it| it.is_live() && !waits(&it.action))
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn check(&self, under_way: usize) {
        let count = self.table.iter().flatten().filter(|operation| operation.is_live()).count();
        assert_eq!(count, under_way);
        assert!(self.table.iter().flatten().count() <= self.lent as usize);
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
        let mut operations = Operations::new(2, Allowed { each: 2, places: 2 }).unwrap();
        let delay = Operation::new(Action::Delay(Duration::ZERO), 1);
        assert_eq!(operations.begin(1, read(512), 4, 0), Ok(0));
        assert_eq!(operations.begin(1, delay, 5, 1), Ok(1));
        assert_eq!(operations.begin(1, read(512), 6, 2), Err(Errno::EBUSY));
        assert_eq!(operations.begin(0, delay, 6, 0), Ok(0));
        assert!(operations.use_data(1) && !operations.use_data(0));
        assert!(operations.end(1, 0, 4, |it| *it).is_none(), "the kernel does not have it yet");
        assert!(operations.end(1, 2, 9, |it| *it).is_none(), "there is no such place");
        assert!(operations.end(1, 0, 5, |it| *it).is_some());
        assert!(operations.end(1, 0, 9, |it| *it).is_none(), "it has ended");
        assert!(!operations.use_data(1));
        operations.check(2);
        operations.abandon(1);
        operations.check(1);
        assert_eq!(operations.lent, 2);
    }

    #[test]
    fn those_left_behind_are_nobodys() {
        let mut operations = Operations::new(2, Allowed { each: 2, places: 4 }).unwrap();
        let buffer = NonNull::dangling();
        assert_eq!(operations.begin(1, read(512), 0, 0), Ok(0));
        assert_eq!(operations.begin(1, read(512), 1, 1), Ok(1));
        assert_eq!(operations.begin(1, read(512), 2, 2), Err(Errno::EBUSY), "two at one time");
        assert_eq!(operations.leave_behind(1, buffer), 2);
        assert!(!operations.use_data(1) && operations.are_left_at(1, buffer));
        assert_eq!(operations.under_way(1).count(), 0);
        assert_eq!(operations.begin(1, read(512), 2, 0), Ok(2));
        assert_eq!(operations.under_way(1).collect::<Vec<u8>>(), [2]);
        operations.check(1);
        assert_eq!(operations.leave_behind(1, buffer), 1);
        assert_eq!(operations.begin(1, read(512), 3, 0), Ok(3));
        assert_eq!(operations.begin(1, read(512), 4, 0), Err(Errno::EBUSY), "no place is left");
        for index in 0..3 {
            assert!(operations.are_left_at(1, buffer));
            assert_eq!(operations.end(1, index, 9, |it| *it).unwrap().left(), Some(buffer));
        }
        assert!(!operations.are_left_at(1, buffer));
        assert_eq!(operations.lent, 1);
    }
}
