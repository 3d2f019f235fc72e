//! Requests that are woken from other threads.

use super::{Queue, QueueError};
use crate::handler::{Completion, Handler};
use crate::id::Id;
use crate::kernel::Kernel;
use crate::ring::{FileName, Sqe};

impl<K: Kernel, H: Handler> Queue<K, H> {
    /// Listens to the event by which wakers call, if there are any.
    pub(super) fn listen(&mut self) -> Result<(), QueueError> {
        if let Some(calls) = &self.plan.calls {
            let event = FileName::Number(self.ring.kernel().number(&calls.event));
            self.ring.submissions().push(Sqe::poll_readable(event, Id::Call.encode()))?;
            self.listens = true;
        }
        Ok(())
    }

    /// The event is readable: resumes all requests that were woken and wait for that, each once;
    /// what is woken meanwhile makes it readable again. `false` when that cannot be.
    pub(super) fn called(&mut self, result: i32) -> Result<bool, QueueError> {
        let Some(calls) = self.plan.calls.as_ref().filter(|_| self.listens && result >= 0) else {
            return Ok(false);
        };
        self.listens = false;
        let wakers = calls.wakers.clone();
        self.ring.kernel().clear(&calls.event);
        wakers.begin_look();
        self.listen()?;
        let mut woken = wakers.take();
        self.guarded(|queue| {
            for tag in woken.by_ref() {
                queue.wake(tag)?;
            }
            Ok(())
        })?;
        Ok(true)
    }

    /// A request was woken: resumes it if it waits for that, unless the queue leaves.
    fn wake(&mut self, tag: u16) -> Result<(), QueueError> {
        let waits = self.slots.exists(tag) && self.slots[tag].is_servers();
        if waits
            && !self.plan.leaves()
            && let Some(cookie) = self.slots.at(tag).unpark()
        {
            self.resume(tag, Completion { cookie, result: Ok(0) })?;
            self.note_waiting(tag);
        }
        Ok(())
    }
}
