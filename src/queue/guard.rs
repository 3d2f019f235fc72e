//! A handler that panics costs its request an `EIO`, and no other one anything.
//!
//! Panics are caught once for all that a turn does, not once a request: that would cost each of
//! them some forty instructions. So whoever unwinds from a handler notes whose it was, and what was
//! being done goes on where it was.

use super::{Queue, QueueError};
use crate::errno::Errno;
use crate::handler::Handler;
use crate::kernel::Kernel;
use core::any::Any;
use core::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Whose handler is called. Dropped only where that panics: to note it costs nothing before.
pub(super) struct Panics<'a> {
    tag: u16,
    noted: &'a mut Option<u16>,
}

impl<'a> Panics<'a> {
    pub(super) fn of(tag: u16, noted: &'a mut Option<u16>) -> Self {
        Self { tag, noted }
    }

    /// It has returned.
    pub(super) fn did_not(self) {
        mem::forget(self);
    }
}

impl Drop for Panics<'_> {
    fn drop(&mut self) {
        *self.noted = Some(self.tag);
    }
}

impl<K: Kernel, H: Handler> Queue<K, H> {
    /// Does what may call the handler. After a panic of that the request fails, and `work` is
    /// called again, once a panic: it goes on with what is left.
    #[inline]
    pub(super) fn guarded<T>(
        &mut self,
        mut work: impl FnMut(&mut Self) -> Result<T, QueueError>,
    ) -> Result<T, QueueError> {
        loop {
            match catch_unwind(AssertUnwindSafe(|| work(self))) {
                Ok(done) => return done,
                Err(panic) => self.fail_panicked(panic)?,
            }
        }
    }

    /// Answers the request whose handler panicked. What else panics is a defect of ours.
    #[cold]
    fn fail_panicked(&mut self, panic: Box<dyn Any + Send>) -> Result<(), QueueError> {
        let mut panicked = self.panicked.take();
        if panicked.is_none() {
            resume_unwind(panic);
        }
        mem::forget(panic); // its own drop might panic again
        self.stats.panics += 1;
        // The slot may have its next request already, whose handler may panic as well.
        self.guarded(|queue| match panicked.take() {
            Some(tag) => {
                queue.settle(tag, Err(Errno::EIO))?;
                queue.note_waiting(tag);
                Ok(())
            }
            None => Ok(()),
        })
    }
}
