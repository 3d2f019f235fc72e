//! The two queues, found in the mappings that the kernel gave.
#![expect(unsafe_code, reason = "says what lies in shared memory; docs/safety.md, `ring`")]

use super::RingError;
use super::mapped::Mapped;
use super::spsc::{Consumer, Producer, Slots};
use super::sqe::{Sqe, Sqe128};
use crate::kernel::Memory;
use core::sync::atomic::AtomicU32;
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

/// Where SQEs are written. We are the only producer; the kernel consumes inside `io_uring_enter`,
/// and has copied what it consumed before that returns (`IORING_FEAT_SUBMIT_STABLE`).
pub(crate) type SubmissionQueue<S> = Producer<Mapped<AtomicU32>, Mapped<S>>;

impl<S: Entry> SubmissionQueue<S> {
    pub(super) fn new<M: Memory>(
        indices: &Arc<M>,
        sqes: &Arc<M>,
        params: &io_uring_params,
    ) -> Result<Self, RingError> {
        let entries = params.sq_entries;
        let tail = Mapped::locate(indices, params.sq_off.tail, 1)?;
        let slots = Mapped::locate(sqes, 0, entries)?;
        if params.flags & IORING_SETUP_NO_SQARRAY == 0 {
            // Slot i of the index array names SQE i, once and for all.
            let array: Mapped<u32> = Mapped::locate(indices, params.sq_off.array, entries)?;
            for index in 0..entries {
                // SAFETY: less than its length; the kernel reads it only in enter.
                unsafe { array.write(index, index) };
            }
        }
        Ok(Self::over(tail, slots))
    }
}

/// Where CQEs are read. The kernel is the only producer, we are the only consumer.
pub(super) type CompletionQueue = Consumer<Mapped<AtomicU32>, Mapped<io_uring_cqe>>;

impl CompletionQueue {
    pub(super) fn new<M: Memory>(
        indices: &Arc<M>,
        params: &io_uring_params,
    ) -> Result<Self, RingError> {
        let head = Mapped::locate(indices, params.cq_off.head, 1)?;
        let tail = Mapped::locate(indices, params.cq_off.tail, 1)?;
        let slots = Mapped::locate(indices, params.cq_off.cqes, params.cq_entries)?;
        Ok(Self::over(head, tail, slots))
    }
}

/// One completion, copied out of the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cqe {
    /// What the SQE carried.
    pub(crate) user_data: u64,
    /// The result: a count, or a negated errno.
    pub(crate) result: i32,
    /// Whether there will be more, and which buffer was used (`CQE_FLAGS`).
    pub(crate) flags: u32,
}

impl From<io_uring_cqe> for Cqe {
    #[inline]
    fn from(cqe: io_uring_cqe) -> Self {
        Self { user_data: cqe.user_data, result: cqe.res, flags: cqe.flags }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::FileName;
    use crate::ring::tests::{CQ_HEAD, CQ_TAIL, CQES, Fake, SQ_TAIL, fake, params, word};
    use core::sync::atomic::Ordering;

    const ENTRIES: u32 = 4;
    /// Two entries before the indices wrap.
    const START: u32 = u32::MAX - 1;

    fn indices() -> Arc<Fake> {
        crate::ring::tests::indices(START)
    }

    fn complete(memory: &Fake, user_data: u64) {
        let tail = word(memory, CQ_TAIL).load(Ordering::Relaxed);
        let place = CQES as usize + (tail % ENTRIES) as usize * size_of::<io_uring_cqe>();
        let cqe = io_uring_cqe { user_data, ..Default::default() };
        // SAFETY: inside the page and aligned (`place`); the queue does not look at it yet.
        unsafe { memory.place(place, 1).unwrap().write(cqe) };
        word(memory, CQ_TAIL).store(tail.wrapping_add(1), Ordering::Release);
    }

    /// P69: indices are compared as what they are, which wraps.
    #[test]
    fn completions_come_in_order_across_the_wrap() {
        let memory = indices();
        let mut queue = CompletionQueue::new(&memory, &params(ENTRIES)).unwrap();
        assert_eq!(queue.pop(), Ok(None));
        for round in 0..8_u64 {
            for index in 0..3 {
                complete(&memory, round * 3 + index);
            }
            assert_eq!((queue.has_some(), queue.ready()), (true, 3));
            for index in 0..3 {
                assert_eq!(queue.pop().unwrap().unwrap().user_data, round * 3 + index);
            }
            assert_eq!((queue.pop(), queue.ready()), (Ok(None), 0));
            let head = word(&memory, CQ_HEAD).load(Ordering::Relaxed);
            assert_eq!(head, word(&memory, CQ_TAIL).load(Ordering::Relaxed), "slots given back");
        }
    }

    #[test]
    fn a_tail_that_cannot_be_is_an_error() {
        let memory = indices();
        let mut queue = CompletionQueue::new(&memory, &params(ENTRIES)).unwrap();
        word(&memory, CQ_TAIL).store(START.wrapping_add(ENTRIES + 1), Ordering::Relaxed);
        assert_eq!(queue.pop(), Err(RingError::CompletionsOverrun));
        assert_eq!(queue.pop(), Err(RingError::CompletionsOverrun), "nothing of it is believed");
        assert_eq!(queue.ready(), ENTRIES, "no more than there is room for");
    }

    #[test]
    fn submissions_are_published_in_order_across_the_wrap() {
        let (memory, sqes) = (indices(), fake(4096));
        let mut queue = SubmissionQueue::<Sqe>::new(&memory, &sqes, &params(ENTRIES)).unwrap();
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
        let mut queue =
            SubmissionQueue::<Sqe>::new(&indices(), &fake(4096), &params(ENTRIES)).unwrap();
        let sqe = Sqe::poll_readable(FileName::Number(3), 0);
        (0..ENTRIES).for_each(|_| queue.push(sqe).unwrap());
        assert_eq!(queue.push(sqe), Err(RingError::SubmissionsFull));
    }

    #[test]
    fn offsets_outside_of_the_mapping_are_refused() {
        let mut bad = params(ENTRIES);
        bad.cq_off.cqes = 4096 - 16;
        assert!(CompletionQueue::new(&indices(), &bad).is_err());
        bad = params(ENTRIES);
        bad.cq_off.tail = 2;
        assert!(CompletionQueue::new(&indices(), &bad).is_err());
        bad = params(ENTRIES);
        bad.sq_entries = 3;
        assert!(SubmissionQueue::<Sqe>::new(&indices(), &fake(4096), &bad).is_err());
    }
}
