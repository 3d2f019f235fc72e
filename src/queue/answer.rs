//! What becomes of a request that was handled: its answer, once that is settled and nothing is
//! waited for.

use super::batch::Batch;
use super::{Queue, QueueError, QueueStats};
use crate::errno::Errno;
use crate::handler::{Common, Handler};
use crate::id::Id;
use crate::kernel::Kernel;
use crate::request::success;
use crate::ring::{RingError, Sqe, SubmissionQueue};
use crate::slots::{At, Where};

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
            return self.answer(tag, answer);
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
        self.answer(tag, answer)
    }

    /// Tells the driver the answer, and offers the slot again.
    fn answer(&mut self, tag: u16, answer: Result<(), Errno>) -> Result<(), QueueError> {
        let (mut at, submissions) = (self.slots.at(tag), self.ring.submissions());
        Ok(tell(&mut at, answer, &mut self.batch, &self.common, submissions, &mut self.stats)?)
    }

    /// Offers a slot to the driver for the first time.
    pub(super) fn offer(&mut self, tag: u16) -> Result<(), QueueError> {
        let (mut at, submissions) = (self.slots.at(tag), self.ring.submissions());
        Ok(offer(&mut at, None, &mut self.batch, &self.common, submissions)?)
    }
}

/// Tells the driver the answer to what a slot was asked, and offers it again.
#[inline(always)] // into `Queue::enter`: the way of every request
pub(super) fn tell(
    at: &mut At<'_>,
    answer: Result<(), Errno>,
    batch: &mut Option<Batch>,
    common: &Common,
    submissions: &mut SubmissionQueue<Sqe>,
    stats: &mut QueueStats,
) -> Result<(), RingError> {
    let (asked, data_bytes) = at.asked();
    let result = match answer {
        Ok(()) => success(data_bytes),
        Err(errno) => -errno.number(),
    };
    offer(at, Some(result), batch, common, submissions)?;
    // Last: the slot need not be looked at again because something was written.
    stats.count(asked, data_bytes, answer);
    Ok(())
}

/// Offers a slot to the driver, with the result of its request if it has had one.
#[inline(always)] // as `tell`
fn offer(
    at: &mut At<'_>,
    result: Option<i32>,
    batch: &mut Option<Batch>,
    common: &Common,
    submissions: &mut SubmissionQueue<Sqe>,
) -> Result<(), RingError> {
    let tag = at.tag();
    if let Some(batch) = batch {
        let buffer = at.lend(batch.open());
        batch.add(tag, result.unwrap_or(0), buffer);
        return Ok(());
    }
    let buffer = at.lend(submissions.number());
    let id = Id::Command { tag }.encode();
    let command = match result {
        None => Sqe::fetch(common.name(tag), buffer, id),
        Some(result) => common.commit.of(common.name(tag), result, buffer, id),
    };
    submissions.push(command)
}
