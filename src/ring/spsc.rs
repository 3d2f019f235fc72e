//! One producer, one consumer: the index protocol of a queue, and all its memory orderings.
//!
//! Indices run freely through all of `u32` and are masked on use, so they are compared by wrapping
//! difference, never by size. The kernel is the other side of each queue. What the memory is made
//! of is left to [`Index`] and [`Slots`], so that loom can explore this very code
//! (`tests/orderings.rs`).
#![expect(unsafe_code, reason = "says when a slot is whose; docs/safety.md, `ring`")]

use super::{RingError, broken};
use core::sync::atomic::Ordering;

/// An index that one side writes and the other side reads.
pub(crate) trait Index {
    fn load(&self, ordering: Ordering) -> u32;
    fn store(&self, index: u32, ordering: Ordering);
}

/// The entries between the two indices.
///
/// # Safety
///
/// `len` is a power of two and always the same.
pub(crate) unsafe trait Slots {
    type Value: Copy;

    fn len(&self) -> u32;

    /// Copies an entry out.
    ///
    /// # Safety
    ///
    /// `slot` is less than `len`, and nobody writes it meanwhile.
    unsafe fn read(&self, slot: u32) -> Self::Value;

    /// Puts an entry in.
    ///
    /// # Safety
    ///
    /// `slot` is less than `len`, and nobody else reads or writes it meanwhile.
    unsafe fn write(&self, slot: u32, value: Self::Value);
}

/// Where entries go in. `&mut self` makes whoever holds it the only producer.
#[derive(Debug)]
pub(crate) struct Producer<I, S> {
    tail: I,
    slots: S,
    mask: u32,
    /// Where the tail began.
    start: u32,
    /// Entries ever pushed; the shared tail follows at [`publish`](Self::publish).
    pushed: u64,
    /// Of those, the ones that were consumed.
    taken: u64,
    /// How many may be pushed before more are consumed: so many more than `taken` as there are.
    full: u64,
}

impl<I: Index, S: Slots> Producer<I, S> {
    pub(super) fn over(tail: I, slots: S) -> Self {
        // Relaxed: only we write it.
        let start = tail.load(Ordering::Relaxed);
        let len = slots.len();
        Self { tail, slots, mask: len - 1, start, pushed: 0, taken: 0, full: len.into() }
    }

    /// Our tail.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "indices wrap")]
    fn next(&self) -> u32 {
        self.start.wrapping_add(self.pushed as u32)
    }

    /// Queues one entry; the consumer sees it when it is published.
    #[inline]
    pub(crate) fn push(&mut self, entry: S::Value) -> Result<(), RingError> {
        if self.pushed == self.full {
            debug_assert!(false, "a submission queue of {} is full", self.slots.len());
            return Err(RingError::SubmissionsFull);
        }
        // SAFETY: masked. The consumer reads this slot only between a tail that covers it and its
        // consumption, and `taken`, which `full` follows, says that it was consumed.
        unsafe { self.slots.write(self.next() & self.mask, entry) };
        self.pushed += 1;
        Ok(())
    }

    /// The number of the entry that is pushed next: how many there were before.
    #[inline]
    pub(crate) fn number(&self) -> u64 {
        self.pushed
    }

    /// How many entries were consumed: those with a smaller number.
    #[inline]
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// Entries that were not consumed yet.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "no more than the queue is long")]
    pub(super) fn queued(&self) -> u32 {
        (self.pushed - self.taken) as u32
    }

    /// Lets the consumer see all that was pushed.
    #[inline]
    pub(super) fn publish(&mut self) {
        // Release: whoever acquires this tail sees the entries before it.
        self.tail.store(self.next(), Ordering::Release);
    }

    /// Notes that `count` entries were consumed: the consumer has copied them, and does not look at
    /// them again. Whoever calls this has acquired that fact.
    #[inline]
    pub(super) fn consumed(&mut self, count: u32) -> Result<(), RingError> {
        if count > self.queued() {
            return Err(RingError::Impossible(broken::OVERTAKEN));
        }
        self.taken += u64::from(count);
        self.full += u64::from(count);
        Ok(())
    }
}

/// Where entries come out. `&mut self` makes whoever holds it the only consumer.
#[derive(Debug)]
pub(super) struct Consumer<I, S> {
    head: I,
    tail: I,
    slots: S,
    mask: u32,
    /// Our head; the shared one follows when all that was seen is taken.
    next: u32,
    /// The tail when it was last looked at.
    seen: u32,
}

impl<I: Index, S: Slots> Consumer<I, S> {
    pub(super) fn over(head: I, tail: I, slots: S) -> Self {
        // Relaxed: only we write it.
        let next = head.load(Ordering::Relaxed);
        let mask = slots.len() - 1;
        Self { head, tail, slots, mask, next, seen: next }
    }

    /// The oldest entry not taken yet. When there is none the producer gets the taken slots back.
    #[inline]
    pub(super) fn pop(&mut self) -> Result<Option<S::Value>, RingError> {
        if !self.has_next()? {
            return Ok(None);
        }
        // SAFETY: masked. The slot lies between our head and the acquired tail, so the producer
        // finished writing it and does not reuse it before our head passes it.
        let entry = unsafe { self.slots.read(self.next & self.mask) };
        self.next = self.next.wrapping_add(1);
        Ok(Some(entry))
    }

    /// Whether there is an entry. When all that was seen is taken, that is given back first.
    #[inline]
    pub(super) fn has_next(&mut self) -> Result<bool, RingError> {
        if self.next != self.seen {
            return Ok(true);
        }
        // Release: our reads of the taken slots happen before the producer may write them again.
        self.head.store(self.next, Ordering::Release);
        // Acquire: the entries before this tail are visible to us.
        let tail = self.tail.load(Ordering::Acquire);
        if tail.wrapping_sub(self.next) > self.slots.len() {
            return Err(RingError::CompletionsOverrun);
        }
        self.seen = tail;
        Ok(self.seen != self.next)
    }

    /// Whether an entry waits to be taken.
    #[inline]
    pub(super) fn has_some(&self) -> bool {
        // Relaxed: no entry is read here. `has_next` acquires, and cannot find an older tail.
        self.next != self.seen || self.next != self.tail.load(Ordering::Relaxed)
    }

    /// How many entries wait to be taken.
    #[inline]
    pub(super) fn ready(&self) -> u32 {
        // Relaxed: no entry is read here.
        self.tail.load(Ordering::Relaxed).wrapping_sub(self.next).min(self.slots.len())
    }
}
