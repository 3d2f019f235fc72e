//! What becomes of a request that was handled: its answer, once that is settled and nothing is
//! waited for.

use super::{Queue, QueueError};
use crate::errno::Errno;
use crate::handler::Handler;
use crate::id::Id;
use crate::kernel::Kernel;
use crate::request::{Operation as Asked, success};
use crate::ring::Sqe;
use crate::slots::Where;

impl<K: Kernel, H: Handler> Queue<K, H> {
    /// Answers the request once its operations have ended, and its data is where it belongs.
    #[inline(never)]
    pub(super) fn settle(&mut self, tag: u16, answer: Result<(), Errno>) -> Result<(), QueueError> {
        if !self.slots.is_waiting(tag) {
            return self.commit(tag, answer);
        }
        self.slots.unpark(tag);
        self.slots.settle(tag, answer);
        self.commit_if_settled(tag)?;
        self.note_waiting(tag);
        Ok(())
    }

    /// Answers the request if its answer is settled and it does not wait for anything.
    #[inline(never)]
    pub(super) fn commit_if_settled(&mut self, tag: u16) -> Result<(), QueueError> {
        match self.slots.answer(tag) {
            Some(answer) if !self.slots.is_waiting(tag) => self.commit(tag, answer),
            _ => Ok(()),
        }
    }

    /// Answers the request, which waits for nothing, and offers its slot again.
    pub(super) fn commit(&mut self, tag: u16, answer: Result<(), Errno>) -> Result<(), QueueError> {
        let place = self.slots.place(tag);
        if place == Where::Buffer {
            return self.answer(tag, self.slots.asked(tag), answer);
        }
        if let Where::TakenBack(has_data_to_fetch) = place {
            return self.begin_anew(tag, has_data_to_fetch); // nobody waits for this answer
        }
        if self.slots.is_unfetched(tag) {
            // The driver takes no answer to such a write before.
            self.slots.settle(tag, answer);
            return self.fetch_data(tag);
        }
        let answer = answer.and_then(|()| self.complete_data(tag));
        self.unregister_pages(tag)?;
        self.answer(tag, self.slots.asked(tag), answer)
    }

    /// Tells the driver the answer to what was asked, and offers the slot again.
    #[inline(always)] // into `enter`
    pub(super) fn answer(
        &mut self,
        tag: u16,
        (asked, data_bytes): (Asked, u32),
        answer: Result<(), Errno>,
    ) -> Result<(), QueueError> {
        let result = match answer {
            Ok(()) => success(data_bytes),
            Err(errno) => -errno.number(),
        };
        self.offer(tag, Some(result))?;
        // Last: the slot need not be looked at again because something was written.
        self.stats.count(asked, data_bytes, answer);
        Ok(())
    }

    /// Offers a slot to the driver, with the result of its request if it has had one.
    #[inline(always)] // also in `commit`, which is the way of every request
    pub(super) fn offer(&mut self, tag: u16, result: Option<i32>) -> Result<(), QueueError> {
        if let Some(batch) = &mut self.batch {
            let buffer = self.slots.lend(tag, batch.open());
            batch.add(tag, result.unwrap_or(0), buffer);
            return Ok(());
        }
        let buffer = self.slots.lend(tag, self.ring.submissions().number());
        let id = Id::Command { tag }.encode();
        let command = match result {
            None => Sqe::fetch(self.common.name(tag), buffer, id),
            Some(result) => self.commit.of(self.common.name(tag), result, buffer, id),
        };
        Ok(self.ring.submissions().push(command)?)
    }
}
