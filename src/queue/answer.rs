//! What becomes of a request that was handled: its answer, once that is settled and nothing is
//! waited for.

use super::{Queue, QueueError};
use crate::errno::Errno;
use crate::handler::Handler;
use crate::kernel::Kernel;
use crate::slots::Where;

impl<K: Kernel, H: Handler> Queue<K, H> {
    /// Answers the request once its operations have ended, and its data is where it belongs.
    #[inline(never)]
    pub(super) fn settle(&mut self, tag: u16, answer: Result<(), Errno>) -> Result<(), QueueError> {
        if !self.slots[tag].is_waiting() {
            return self.commit(tag, answer);
        }
        let mut at = self.slots.at(tag);
        at.unpark();
        at.settle(answer);
        self.commit_if_settled(tag)?;
        self.note_waiting(tag);
        Ok(())
    }

    /// Answers the request if its answer is settled and it does not wait for anything.
    #[inline(never)]
    pub(super) fn commit_if_settled(&mut self, tag: u16) -> Result<(), QueueError> {
        match self.slots[tag].answer() {
            Some(answer) if !self.slots[tag].is_waiting() => self.commit(tag, answer),
            _ => Ok(()),
        }
    }

    /// Answers the request, which waits for nothing, and offers its slot again.
    pub(super) fn commit(&mut self, tag: u16, answer: Result<(), Errno>) -> Result<(), QueueError> {
        let place = self.slots[tag].place();
        if place == Where::Buffer {
            return Ok(self.desk(tag).tell(answer)?);
        }
        if let Where::TakenBack(has_data_to_fetch) = place {
            return self.begin_anew(tag, has_data_to_fetch); // nobody waits for this answer
        }
        if self.slots.at(tag).is_unfetched() {
            // The driver takes no answer to such a write before.
            self.slots.at(tag).settle(answer);
            return self.fetch_data(tag);
        }
        let answer = answer.and_then(|()| self.complete_data(tag));
        self.unregister_pages(tag)?;
        Ok(self.desk(tag).tell(answer)?)
    }
}
