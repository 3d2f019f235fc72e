//! The two queues in shared memory: indices, barriers, entries.
//!
//! Both queues have one producer and one consumer, the kernel being the other side. Indices run
//! freely through all of `u32` and are masked on use, so they are compared by wrapping difference,
//! never by size.
#![expect(unsafe_code, reason = "shared memory is reached by pointer; docs/safety.md, `ring`")]

use super::RingError;
use super::sqe::{Sqe, Sqe128};
use crate::kernel::Memory;
use core::marker::PhantomData;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;
use ublkit_sys::io_uring::{
    IORING_SETUP_NO_SQARRAY, IORING_SETUP_SQE128, io_uring_cqe, io_uring_params,
};

/// A kind of SQE: the ring's entries are all of one.
///
/// # Safety
///
/// `Self` is laid out as the SQE of a ring that was set up with `SETUP_FLAGS`.
pub(crate) unsafe trait Entry: Copy {
    /// The setup flags that make entries of this size.
    const SETUP_FLAGS: u32;
}

// SAFETY: Sqe is a transparent io_uring_sqe, 64 bytes, the size without flags.
unsafe impl Entry for Sqe {
    const SETUP_FLAGS: u32 = 0;
}

// SAFETY: Sqe128 is a transparent io_uring_sqe128, 128 bytes.
unsafe impl Entry for Sqe128 {
    const SETUP_FLAGS: u32 = IORING_SETUP_SQE128;
}

/// Finds things in a mapping by the offsets that the kernel gave.
fn locate<T>(memory: &impl Memory, offset: u32, count: u32) -> Result<NonNull<T>, RingError> {
    memory
        .place(offset as usize, count as usize)
        .ok_or(RingError::Impossible("an offset lies outside of its mapping, or is misaligned"))
}

/// Where SQEs are written. We are the only producer; the kernel consumes inside `io_uring_enter`.
#[derive(Debug)]
pub(crate) struct SubmissionQueue<S> {
    tail: NonNull<AtomicU32>,
    sqes: NonNull<S>,
    entries: u32,
    /// Our tail; the shared one follows at [`publish`](Self::publish).
    next: u32,
    /// SQEs queued and not yet consumed by the kernel.
    queued: u32,
    _indices: Arc<dyn Memory>,
    _sqes: Arc<dyn Memory>,
    _entry: PhantomData<S>,
}

// SAFETY: the pointers lead into mappings that the queue keeps alive and that belong to the
// process;
// `&mut self` makes whoever holds the queue the only producer.
unsafe impl<S: Send> Send for SubmissionQueue<S> {}

impl<S: Entry> SubmissionQueue<S> {
    pub(super) fn new<M: Memory>(
        indices: Arc<M>,
        sqes: Arc<M>,
        params: &io_uring_params,
    ) -> Result<Self, RingError> {
        let entries = params.sq_entries;
        if !entries.is_power_of_two() {
            return Err(RingError::Impossible("the queue's length is no power of two"));
        }
        let tail: NonNull<AtomicU32> = locate(&*indices, params.sq_off.tail, 1)?;
        if params.flags & IORING_SETUP_NO_SQARRAY == 0 {
            // Slot i of the index array names SQE i, once and for all.
            let array = locate::<u32>(&*indices, params.sq_off.array, entries)?;
            for index in 0..entries {
                // SAFETY: inside the array, as located; the kernel reads it only in enter.
                unsafe { array.as_ptr().wrapping_add(index as usize).write(index) };
            }
        }
        // SAFETY: located above, aligned, alive with the mapping; only we write it.
        let next = unsafe { tail.as_ref() }.load(Ordering::Relaxed);
        let first = locate(&*sqes, 0, entries)?;
        Ok(Self {
            tail,
            sqes: first,
            entries,
            next,
            queued: 0,
            _indices: indices,
            _sqes: sqes,
            _entry: PhantomData,
        })
    }

    /// Queues one SQE; the kernel sees it at the next submission.
    pub(crate) fn push(&mut self, sqe: S) -> Result<(), RingError> {
        if self.queued == self.entries {
            debug_assert!(false, "a submission queue of {} is full", self.entries);
            return Err(RingError::SubmissionsFull);
        }
        let index = (self.next & (self.entries - 1)) as usize;
        // SAFETY: the index is masked to the located array. The kernel reads this slot only between
        // a tail that covers it and its consumption, and `queued` says it was consumed (SQEs are
        // read whole before enter returns: IORING_FEAT_SUBMIT_STABLE).
        unsafe { self.sqes.as_ptr().wrapping_add(index).write(sqe) };
        self.next = self.next.wrapping_add(1);
        self.queued += 1;
        Ok(())
    }

    /// SQEs that the kernel has not consumed yet.
    pub(super) fn queued(&self) -> u32 {
        self.queued
    }

    /// Lets the kernel see all that was pushed.
    pub(super) fn publish(&mut self) {
        // SAFETY: located in `new`, alive with the mapping; we are the only writer.
        let tail = unsafe { self.tail.as_ref() };
        // Release: whoever acquires this tail sees the SQEs before it.
        tail.store(self.next, Ordering::Release);
    }

    /// Notes that the kernel consumed `count` SQEs.
    pub(super) fn consumed(&mut self, count: u32) -> Result<(), RingError> {
        let left = self.queued.checked_sub(count);
        self.queued = left.ok_or(RingError::Impossible("it consumed more than there was"))?;
        Ok(())
    }
}

/// One completion, copied out of the ring. Only a [`CompletionQueue`] makes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cqe {
    /// What the SQE carried.
    pub(crate) user_data: u64,
    /// The result: a count, or a negated errno.
    pub(crate) result: i32,
}

/// Where CQEs are read. The kernel is the only producer, we are the only consumer.
#[derive(Debug)]
pub(super) struct CompletionQueue {
    head: NonNull<AtomicU32>,
    tail: NonNull<AtomicU32>,
    cqes: NonNull<io_uring_cqe>,
    entries: u32,
    /// Our head; the shared one follows when all that was seen is taken.
    next: u32,
    /// The tail when it was last looked at.
    seen: u32,
    _indices: Arc<dyn Memory>,
}

// SAFETY: as for SubmissionQueue; `&mut self` makes whoever holds the queue the only consumer.
unsafe impl Send for CompletionQueue {}

impl CompletionQueue {
    pub(super) fn new<M: Memory>(
        indices: Arc<M>,
        params: &io_uring_params,
    ) -> Result<Self, RingError> {
        let entries = params.cq_entries;
        if !entries.is_power_of_two() {
            return Err(RingError::Impossible("the queue's length is no power of two"));
        }
        let head: NonNull<AtomicU32> = locate(&*indices, params.cq_off.head, 1)?;
        let tail = locate(&*indices, params.cq_off.tail, 1)?;
        let cqes = locate(&*indices, params.cq_off.cqes, entries)?;
        // SAFETY: located above, aligned, alive with the mapping; only we write it.
        let next = unsafe { head.as_ref() }.load(Ordering::Relaxed);
        Ok(Self { head, tail, cqes, entries, next, seen: next, _indices: indices })
    }

    /// The oldest CQE not taken yet. When there is none the kernel gets the taken slots back.
    pub(super) fn pop(&mut self) -> Result<Option<Cqe>, RingError> {
        if self.next == self.seen && !self.look()? {
            return Ok(None);
        }
        let index = (self.next & (self.entries - 1)) as usize;
        // SAFETY: the index is masked to the located array; the slot lies between our head and the
        // acquired tail, so the kernel finished writing it and does not reuse it before our head
        // passes it. Volatile, for a kernel that breaks that rule must not break ours.
        let cqe = unsafe { self.cqes.as_ptr().wrapping_add(index).read_volatile() };
        self.next = self.next.wrapping_add(1);
        Ok(Some(Cqe { user_data: cqe.user_data, result: cqe.res }))
    }

    /// Gives back what was taken and looks for more.
    fn look(&mut self) -> Result<bool, RingError> {
        // SAFETY: located in `new`, alive with the mapping.
        let head = unsafe { self.head.as_ref() };
        // SAFETY: as above.
        let tail = unsafe { self.tail.as_ref() };
        // Release: our reads of the taken slots happen before the kernel may write them again.
        head.store(self.next, Ordering::Release);
        // Acquire: the CQEs before this tail are visible to us.
        self.seen = tail.load(Ordering::Acquire);
        if self.seen.wrapping_sub(self.next) > self.entries {
            return Err(RingError::CompletionsOverrun);
        }
        Ok(self.seen != self.next)
    }

    /// Whether a CQE waits to be taken.
    pub(super) fn has_some(&self) -> bool {
        // SAFETY: located in `new`, alive with the mapping.
        let tail = unsafe { self.tail.as_ref() };
        self.next != self.seen || self.next != tail.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Pages;
    use crate::ring::FileName;
    use ublkit_sys::io_uring::{io_cqring_offsets, io_sqring_offsets};

    /// Rings in ordinary memory, where the test plays the kernel.
    #[derive(Debug)]
    struct Fake(Pages, usize);

    // SAFETY: Pages are page aligned, that long, and handed out as pointers only.
    unsafe impl Memory for Fake {
        fn base(&self) -> NonNull<u8> {
            self.0.at(0, self.1)
        }

        fn len_bytes(&self) -> usize {
            self.1
        }
    }

    const SQ_HEAD: u32 = 0;
    const SQ_TAIL: u32 = 4;
    const CQ_HEAD: u32 = 8;
    const CQ_TAIL: u32 = 12;
    const CQES: u32 = 64;
    const ENTRIES: u32 = 4;
    /// Two entries before the indices wrap.
    const START: u32 = u32::MAX - 1;

    fn fake(len_bytes: usize) -> Arc<Fake> {
        Arc::new(Fake(Pages::new(len_bytes).unwrap(), len_bytes))
    }

    fn word(memory: &Fake, offset: u32) -> &AtomicU32 {
        // SAFETY: inside the page, aligned, and only ever used as an atomic.
        unsafe { memory.place::<AtomicU32>(offset as usize, 1).unwrap().as_ref() }
    }

    fn params() -> io_uring_params {
        io_uring_params {
            sq_entries: ENTRIES,
            cq_entries: ENTRIES,
            flags: IORING_SETUP_NO_SQARRAY,
            sq_off: io_sqring_offsets { head: SQ_HEAD, tail: SQ_TAIL, ..Default::default() },
            cq_off: io_cqring_offsets {
                head: CQ_HEAD,
                tail: CQ_TAIL,
                cqes: CQES,
                ..Default::default()
            },
            ..Default::default()
        }
    }

    fn indices() -> Arc<Fake> {
        let memory = fake(4096);
        for offset in [SQ_HEAD, SQ_TAIL, CQ_HEAD, CQ_TAIL] {
            word(&memory, offset).store(START, Ordering::Relaxed);
        }
        memory
    }

    fn complete(memory: &Fake, user_data: u64) {
        let tail = word(memory, CQ_TAIL).load(Ordering::Relaxed);
        let place = CQES as usize + (tail % ENTRIES) as usize * size_of::<io_uring_cqe>();
        let cqe = io_uring_cqe { user_data, ..Default::default() };
        // SAFETY: inside the page and aligned (`place`); the queue does not look at it yet.
        unsafe { memory.place(place, 1).unwrap().write(cqe) };
        word(memory, CQ_TAIL).store(tail.wrapping_add(1), Ordering::Release);
    }

    #[test]
    fn completions_come_in_order_across_the_wrap() {
        let memory = indices();
        let mut queue = CompletionQueue::new(Arc::clone(&memory), &params()).unwrap();
        assert_eq!(queue.pop(), Ok(None));
        for round in 0..8_u64 {
            for index in 0..3 {
                complete(&memory, round * 3 + index);
            }
            assert!(queue.has_some());
            for index in 0..3 {
                assert_eq!(queue.pop().unwrap().unwrap().user_data, round * 3 + index);
            }
            assert_eq!(queue.pop(), Ok(None));
            let head = word(&memory, CQ_HEAD).load(Ordering::Relaxed);
            assert_eq!(head, word(&memory, CQ_TAIL).load(Ordering::Relaxed), "slots given back");
        }
    }

    #[test]
    fn a_tail_that_cannot_be_is_an_error() {
        let memory = indices();
        let mut queue = CompletionQueue::new(Arc::clone(&memory), &params()).unwrap();
        word(&memory, CQ_TAIL).store(START.wrapping_add(ENTRIES + 1), Ordering::Relaxed);
        assert_eq!(queue.pop(), Err(RingError::CompletionsOverrun));
    }

    #[test]
    fn submissions_are_published_in_order_across_the_wrap() {
        let (memory, sqes) = (indices(), fake(4096));
        let mut queue =
            SubmissionQueue::<Sqe>::new(Arc::clone(&memory), Arc::clone(&sqes), &params()).unwrap();
        for id in 0..12_u64 {
            queue.push(Sqe::poll_readable(FileName::Number(3), id)).unwrap();
            let tail = word(&memory, SQ_TAIL).load(Ordering::Relaxed);
            assert_eq!(
                tail,
                START.wrapping_add(u32::try_from(id).unwrap()),
                "not seen before it is published"
            );
            queue.publish();
            let slot = (tail % ENTRIES) as usize * size_of::<Sqe>() + 32; // user_data
            // SAFETY: inside the page and aligned; the queue wrote it.
            let written = unsafe { sqes.place::<u64>(slot, 1).unwrap().read() };
            assert_eq!(written, id);
            queue.consumed(1).unwrap();
        }
    }

    #[test]
    #[cfg_attr(debug_assertions, should_panic(expected = "is full"))]
    fn a_full_queue_is_an_error() {
        let mut queue = SubmissionQueue::<Sqe>::new(indices(), fake(4096), &params()).unwrap();
        let sqe = Sqe::poll_readable(FileName::Number(3), 0);
        (0..ENTRIES).for_each(|_| queue.push(sqe).unwrap());
        assert_eq!(queue.push(sqe), Err(RingError::SubmissionsFull));
    }

    #[test]
    fn offsets_outside_of_the_mapping_are_refused() {
        let mut bad = params();
        bad.cq_off.cqes = 4096 - 16;
        assert!(CompletionQueue::new(indices(), &bad).is_err());
        bad = params();
        bad.cq_off.tail = 2;
        assert!(CompletionQueue::new(indices(), &bad).is_err());
        bad = params();
        bad.sq_entries = 3;
        assert!(SubmissionQueue::<Sqe>::new(indices(), fake(4096), &bad).is_err());
    }
}
