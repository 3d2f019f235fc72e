//! [`Operations`]: what requests have under way on their queue's ring, beside the commands.
#![expect(unsafe_code, reason = "lends times to the kernel; docs/safety.md, island `slots`")]

use super::{Action, Ended, Next, Operation};
use crate::errno::Errno;
use crate::kernel::timespec;
use crate::memory::Pages;
use crate::ring::Address;
use core::mem::ManuallyDrop;
use core::ptr::NonNull;
use core::time::Duration;
use ublkit_sys::io_uring::__kernel_timespec;

/// How many operations one request may have under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowed {
    pub(crate) each: u8,
    /// The same, with those that its slot's former requests have left behind.
    pub(crate) places: u8,
}

/// The operations of a queue's requests: so many at one time for each.
///
/// The invariant that keeps their times sound: a time is written only while its place's operation
/// is not queued (not yet, or completed), and all are leaked when one is under way at the end.
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
    #[inline(always)] // as `At::begin`
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
        let (first, mut index) = (self.place(tag, 0), 0_u8);
        while self.table[first + usize::from(index)].is_some() {
            let next = index.checked_add(1).filter(|next| usize::from(*next) < self.places);
            index = next.ok_or(Errno::EBUSY)?;
        }
        self.table[first + usize::from(index)] = Some(operation.numbered(sqe));
        self.lent += 1;
        Ok(index)
    }

    /// The operation at `index` is asked for again, by an SQE with number `sqe`.
    #[inline(never)] // rare
    pub(super) fn again(&mut self, tag: u16, index: u8, sqe: u64) -> Action {
        let operation = self.of_mut(tag)[usize::from(index)].as_mut().expect("it goes on");
        operation.sqe = sqe;
        operation.action
    }

    /// The place of a delay's time, filled. The delay is about to be queued.
    pub(super) fn time(&mut self, tag: u16, index: u8, time: Duration) -> Address {
        let len = size_of::<__kernel_timespec>();
        let place = self.times.at(self.place(tag, index) * len, len);
        // SAFETY: inside the mapping (`at`) and aligned (pages hold whole timespecs). No reference
        // to it is ever made, and the kernel is not reading it: the operation that it belongs to
        // is not queued (not yet, or completed: `again`), and the one before it has ended (`begin`
        // found the place free).
        unsafe { place.cast::<__kernel_timespec>().write(timespec(time)) };
        // SAFETY: as above, and unmapped only when no operation is under way (`lent`).
        unsafe { Address::new(place) }
    }

    /// The ring has completed an operation with `result`; the kernel has `taken` so many SQEs.
    /// Answers what it was; `None` when there was no such operation among them, so that this cannot
    /// be.
    #[inline(always)] // as `At::ended`
    pub(super) fn completed(
        &mut self,
        tag: u16,
        index: u8,
        taken: u64,
        result: i32,
    ) -> Option<Ended> {
        if usize::from(index) >= self.places {
            return None;
        }
        let place = self.place(tag, index);
        let place = &mut self.table[place];
        let operation = place.as_mut().filter(|operation| operation.sqe < taken)?;
        let ended = match operation.left {
            Some(buffer) => Ended::LeftBehind(buffer),
            None => Ended::Request {
                registers: operation.action == Action::Register,
                reads: matches!(operation.action, Action::Read(_)),
                next: operation.next(result),
            },
        };
        if !matches!(ended, Ended::Request { next: Next::Again, .. }) {
            *place = None;
            self.lent -= 1;
        }
        Some(ended)
    }

    /// The operation at `index`, which is not queued, is none.
    #[inline(never)] // rare
    pub(super) fn forget(&mut self, tag: u16, index: u8) {
        self.of_mut(tag)[usize::from(index)].take().expect("it is there");
        self.lent -= 1;
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
    use super::super::operation::tests::read;
    use super::*;
    use crate::handler::Completion;

    #[test]
    fn what_is_not_done_stays_in_its_place() {
        let mut operations = Operations::new(1, Allowed { each: 2, places: 2 }).unwrap();
        operations.begin(0, read(512), 0, 0).unwrap();
        operations.begin(0, read(4096), 1, 1).unwrap();
        let ended = |next| Some(Ended::Request { registers: false, reads: true, next });
        assert_eq!(operations.completed(0, 1, 2, 512), ended(Next::Again));
        let Action::Read(rest) = operations.again(0, 1, 7) else { panic!("another") };
        assert_eq!((rest.start, rest.len_bytes, operations.lent), (1024, 3584, 2));
        assert_eq!(operations.completed(0, 1, 7, 512), None, "the kernel does not have it yet");
        let all = Completion { cookie: 9, result: Ok(4096) };
        assert_eq!(operations.completed(0, 1, 8, 3584), ended(Next::Ended(all)));
        assert_eq!(operations.completed(0, 0, 8, 513), ended(Next::Nonsense));
        assert_eq!((operations.lent, operations.under_way(0).count()), (0, 0));
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
        assert!(operations.completed(1, 0, 4, 0).is_none(), "the kernel does not have it yet");
        assert!(operations.completed(1, 2, 9, 0).is_none(), "there is no such place");
        assert!(operations.completed(1, 0, 5, 0).is_some());
        assert!(operations.completed(1, 0, 9, 0).is_none(), "it has ended");
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
            assert_eq!(operations.completed(1, index, 9, 1), Some(Ended::LeftBehind(buffer)));
        }
        assert!(!operations.are_left_at(1, buffer));
        assert_eq!(operations.lent, 1);
    }
}
