//! The ring: hand-made submission and completion queues over memory shared with the kernel.
//!
//! A [`Ring`] is used by the task that made it. Its sizes are chosen so that "full" cannot happen;
//! should it happen, that is a [`RingError`], never an overwritten entry.

mod enter;
mod error;
mod mapped;
mod queues;
mod setup;
mod spsc;
mod sqe;
#[cfg(test)]
mod tests;

pub use error::RingError;
pub(crate) use queues::{Cqe, Entry, SubmissionQueue};
pub(crate) use setup::RingPlan;
pub(crate) use sqe::{Address, FileName, Sqe, Sqe128};
#[cfg(test)]
pub(crate) use tests::fake_submissions;

use crate::kernel::{Kernel, Registration, RingName};
use queues::CompletionQueue;

/// A ring of one task; `S` says how long its SQEs are.
#[derive(Debug)]
pub(crate) struct Ring<K: Kernel, S: Entry> {
    kernel: K,
    sq: SubmissionQueue<S>,
    cq: CompletionQueue,
    /// The registered index, where the kernel gave one.
    registered: Option<u32>,
    /// Closed last: the mappings above hold no reference of their own that matters.
    file: K::File,
}

impl<K: Kernel, S: Entry> Ring<K, S> {
    /// The kernel, as the ring's task sees it.
    pub(crate) fn kernel(&self) -> &K {
        &self.kernel
    }

    /// Where SQEs are queued; [`wait`](Self::wait) submits them.
    pub(crate) fn submissions(&mut self) -> &mut SubmissionQueue<S> {
        &mut self.sq
    }

    /// How many SQEs the kernel has taken. Those with a smaller number can have completed, no
    /// others.
    pub(crate) fn taken(&self) -> u64 {
        self.sq.taken()
    }

    /// The oldest CQE that was not taken yet.
    pub(crate) fn pop(&mut self) -> Result<Option<Cqe>, RingError> {
        Ok(self.cq.pop()?.map(Cqe::from))
    }

    /// Makes `file` the fixed file 0, which spares a reference count per SQE. Where the kernel
    /// refuses, the answer names the file by its number.
    pub(crate) fn fix_file(&mut self, file: &K::File) -> FileName {
        let number = self.kernel.number(file);
        match self.kernel.ring_register(&self.file, Registration::Files(&[number])) {
            Ok(_) => FileName::Fixed(0),
            Err(_) => FileName::Number(number),
        }
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
