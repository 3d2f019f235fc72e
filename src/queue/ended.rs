//! What a request has asked the ring for has ended.

use super::{Enter, Queue, QueueError};
use crate::errno::Errno;
use crate::handler::{Completion, Handler};
use crate::kernel::Kernel;
use crate::slots::{Action, Ended, Next};

impl<K: Kernel, H: Handler> Queue<K, H> {
    /// The ring has completed an operation. `false` when that cannot be.
    #[inline(always)] // as `came`
    pub(super) fn operation_ended(
        &mut self,
        tag: u16,
        index: u8,
        result: i32,
    ) -> Result<bool, QueueError> {
        let ended = self.slots.at(tag).see_end(index, self.ring.taken(), |ended| {
            let is_read = matches!(ended.action, Action::Read(_));
            (matches!(ended.action, Action::Register), is_read, ended.next(result))
        });
        let Some(ended) = ended else { return Ok(false) };
        let Ended::Request((registers, is_read, next)) = ended else { return Ok(true) };
        if registers {
            self.registered(tag, result)?;
            return Ok(true);
        }
        if self.plan.path.is_zero_copy()
            && is_read
            && let Ok(bytes) = Errno::from_result(result)
        {
            self.slots.at(tag).filled(bytes);
        }
        match next {
            None => return Ok(false),
            Some(Next::Ended(done)) => self.resume(tag, done)?,
            // Nobody wants the rest of what fails; what succeeds is to be done.
            Some(Next::Again(_)) if matches!(self.slots[tag].answer(), Some(Err(_))) => {
                self.commit_if_settled(tag)?;
            }
            Some(Next::Again(rest)) => self.enter(tag, Enter::Ask(rest))?,
        }
        self.note_waiting(tag);
        Ok(true)
    }

    /// What the request waited for has ended.
    #[inline(always)] // into `operation_ended`
    pub(super) fn resume(&mut self, tag: u16, done: Completion) -> Result<(), QueueError> {
        if self.slots[tag].answer().is_some() {
            self.commit_if_settled(tag)?; // the handler is not entered again
        } else {
            self.enter(tag, Enter::Resume(done))?;
        }
        Ok(())
    }
}
