//! The ring: hand-made submission and completion queues over memory shared with the kernel.
//!
//! A [`Ring`] is used by the task that made it. Its sizes are chosen so that "full" cannot happen;
//! should it happen, that is a [`RingError`], never an overwritten entry.

mod enter;
mod error;
mod mapped;
mod provided;
mod queues;
mod setup;
mod spsc;
mod sqe;
#[cfg(test)]
mod tests;

pub(crate) use enter::Woken;
pub use error::RingError;
pub(crate) use error::broken;
pub(crate) use provided::{Provided, Words};
pub(crate) use queues::{Cqe, Entry, SubmissionQueue};
pub(crate) use setup::RingPlan;
pub(crate) use sqe::{Address, CommitAndFetch, Data, Elements, FileName, Slot, Sqe, Sqe128};
#[cfg(test)]
pub(crate) use tests::{Played, fake_submissions};

use crate::kernel::{Kernel, Registration, RingName};
use core::sync::atomic::AtomicU32;
use mapped::Mapped;
use queues::CompletionQueue;
use std::sync::Arc;

/// A ring of one task; `S` says how long its SQEs are.
#[derive(Debug)]
pub(crate) struct Ring<K: Kernel, S: Entry> {
    kernel: K,
    sq: SubmissionQueue<S>,
    cq: CompletionQueue,
    /// Where the kernel says that work waits for this task, if it shall.
    work: Option<Mapped<AtomicU32>>,
    /// The registered index, where the kernel gave one.
    registered: Option<u32>,
    /// Closed last: the mappings above hold no reference of their own that matters.
    file: Arc<K::File>,
}

impl<K: Kernel, S: Entry> Ring<K, S> {
    /// The kernel, as the ring's task sees it.
    pub(crate) fn kernel(&self) -> &K {
        &self.kernel
    }

    /// Its file: whoever has that keeps the ring open, though nobody uses it any more.
    pub(crate) fn file(&self) -> Arc<K::File> {
        Arc::clone(&self.file)
    }

    /// Where SQEs are queued; [`wait`](Self::wait) submits them.
    pub(crate) fn submissions(&mut self) -> &mut SubmissionQueue<S> {
        &mut self.sq
    }

    /// Both at one time.
    pub(crate) fn kernel_and_submissions(&mut self) -> (&K, &mut SubmissionQueue<S>) {
        (&self.kernel, &mut self.sq)
    }

    /// How many SQEs the kernel has taken. Those with a smaller number can have completed, no
    /// others.
    pub(crate) fn taken(&self) -> u64 {
        self.sq.taken()
    }

    /// How many CQEs wait to be taken.
    #[inline]
    pub(crate) fn ready(&self) -> u32 {
        self.cq.ready()
    }

    /// The oldest CQE that was not taken yet.
    pub(crate) fn pop(&mut self) -> Result<Option<Cqe>, RingError> {
        Ok(self.cq.pop()?.map(Cqe::from))
    }

    /// Makes the files with these numbers the ring's fixed files, which spares a reference count
    /// per SQE. Where the kernel refuses, SQEs name them by their numbers.
    pub(crate) fn fix_files(&mut self, numbers: &[i32]) -> Box<[FileName]> {
        let fixed = self.kernel.ring_register(&self.file, Registration::Files(numbers)).is_ok();
        let name = |(index, number): (i32, &i32)| match fixed {
            true => FileName::Fixed(index),
            false => FileName::Number(*number),
        };
        (0..).zip(numbers).map(name).collect()
    }

    /// Makes a table of so many places, all empty, for requests' pages. Whether the kernel did;
    /// otherwise the driver cannot put any there.
    pub(crate) fn make_table(&mut self, places: u16) -> bool {
        self.kernel.ring_register(&self.file, Registration::Buffers(places.into())).is_ok()
    }

    /// Lets so many of the ring's commands block at one time. Where the kernel cannot, it stays at
    /// its own choice.
    pub(crate) fn allow_blocking(&self, commands: u32) {
        let _ = self.kernel.ring_register(&self.file, Registration::MaxWorkers(commands));
    }

    fn name(&self) -> RingName<'_, K::File> {
        match self.registered {
            Some(index) => RingName::Registered(index),
            None => RingName::File(&self.file),
        }
    }
}

impl<K: Kernel, S: Entry> Drop for Ring<K, S> {
    fn drop(&mut self) {
        if let Some(index) = self.registered.take() {
            // The registration would keep the ring, and with it the char device, alive.
            let _ = self.kernel.ring_register(&self.file, Registration::UnregisterRingFd(index));
        }
    }
}
