//! [`Share`]: which of a queue's slots a thread has.

/// Which of a queue's slots a thread serves: the driver takes a slot's commands from the task that
/// fetched it, and since 6.16 (`PER_IO_DAEMON`) each slot may have its own. Slots that follow one
/// another are of different threads, for a client that asks for little gets the first ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    /// Which thread,
    pub(crate) thread: u16,
    /// of so many.
    pub(crate) threads: u16,
}

impl Share {
    /// All slots: the queue has one thread.
    #[cfg(any(test, fuzzing))]
    pub(crate) const ALL: Self = Self { thread: 0, threads: 1 };

    /// The shares of all threads of a queue.
    pub(crate) fn all(threads: u16) -> impl Iterator<Item = Self> {
        (0..threads).map(move |thread| Self { thread, threads })
    }

    /// The thread's tags in a queue so deep.
    pub(crate) fn tags(self, depth: u16) -> impl ExactSizeIterator<Item = u16> {
        (self.thread..depth).step_by(usize::from(self.threads))
    }

    /// How many these are.
    pub(crate) fn count(self, depth: u16) -> u16 {
        u16::try_from(self.tags(depth).len()).expect("no more than the queue has")
    }

    /// Which of them a tag is, if it is one.
    pub(super) fn index(self, tag: u16) -> Option<u16> {
        (tag % self.threads == self.thread).then_some(tag / self.threads)
    }
}
