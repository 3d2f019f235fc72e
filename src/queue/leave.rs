//! A queue leaves although it has requests: all of them are answered, as far as that can be.

use super::batch::Batch;
use super::{Queue, QueueError, Turn};
use crate::data_path::DataPath;
use crate::errno::Errno;
use crate::handler::Handler;
use crate::id::Id;
use crate::kernel::Kernel;
use crate::ring::Woken;
use crate::slots::{Ended, Next, Where};
use core::time::Duration;
use ublkit_sys::ublk::{UBLK_IO_RES_NEED_GET_DATA, UBLK_IO_RES_OK};

/// How often it is looked again, in the end, for what waits for a command: writes whose data had to
/// be fetched first, answers behind a batch. Once is enough, unless the kernel has data fetched
/// anew.
const ROUNDS: u32 = 3;

/// How long a queue stays to answer what still comes. Who stops the device takes no longer.
const PARTING: Duration = Duration::from_secs(2);

/// Requests that were sent to the server come within this time.
const SILENCE: Duration = Duration::from_millis(20);

impl<K: Kernel, H: Handler> Queue<K, H> {
    /// The driver sends nothing new (QUIESCE_DEV): serves what has come, and what still comes of
    /// what was sent before. Slots whose commands came after that are never taken away, so the end
    /// is when nothing comes for a while; or when the queue is told to leave.
    pub(crate) fn drain(&mut self) -> Result<Turn, QueueError> {
        loop {
            // To the last one first: only then does the kernel have the entries back, and waits.
            if self.guarded(|queue| queue.complete_all(true))? {
                return Ok(Turn::Woken);
            }
            let until = self.ring.kernel().now().saturating_add(SILENCE);
            self.send_batch()?;
            // A write whose data was not there by then was taken back, and waits elsewhere.
            let has = |tag| self.slots[tag].is_servers();
            let woken = self.ring.wait(Some(until))?;
            if woken == Woken::Deadline && !(0..self.slots.depth()).any(has) {
                return Ok(Turn::Stopped);
            }
        }
    }

    /// Sends what was answered, and answers all else that the server has with `EIO`, as far as the
    /// ring still works. The driver does that too once the char device is closed, but not while
    /// somebody holds what it needs for it (seen on 6.12: a START_DEV that scans for partitions).
    ///
    /// `stays`: what still comes fails in the same way, until the driver has taken all slots away,
    /// or nobody stops the device for a while. A driver before 6.15 looks for requests that a dead
    /// ring has only once, and keeps what it gives the ring after that for ever.
    pub(crate) fn fail_all(&mut self, stays: bool) {
        if let Some(batch) = &mut self.batch {
            batch.leave();
        }
        let patience = if stays { PARTING } else { Duration::ZERO };
        let until = self.ring.kernel().now().saturating_add(patience);
        let mut rounds = 0;
        // An error: what could not be answered is left to the driver.
        while let Ok(all_answered) = self.fail_once()
            && self.slots.live() > 0
        {
            if self.ring.kernel().now() < until {
                if self.ring.wait(Some(until)).is_err() {
                    return;
                }
                continue;
            }
            rounds += 1;
            if all_answered || rounds == ROUNDS {
                return;
            }
        }
    }

    /// Answers what has come, as far as that can be done at once. Whether that was all.
    fn fail_once(&mut self) -> Result<bool, QueueError> {
        self.take_to_fail()?;
        // A slot whose operation was not submitted yet is to have an answer in the ring as well.
        self.send_batch()?;
        self.ring.submit()?;
        self.take_to_fail()?;
        let mut all_answered = true;
        for tag in 0..self.slots.depth() {
            if self.slots[tag].is_servers() {
                if let Where::TakenBack(is_to_fetch) = self.slots[tag].place() {
                    self.taken_anew_to_fail(tag, is_to_fetch);
                }
                self.slots.at(tag).settle_without_operations(Errno::EIO);
                self.slots.at(tag).abandon_operations();
                self.commit_if_settled(tag)?;
            }
            // Begun just now or before: the driver has the data put there at once.
            all_answered &= !self.slots[tag].is_fetching();
        }
        // Nothing new may come: an old driver does not notice that a server is gone when no slot
        // has a command.
        self.send_batch()?;
        self.ring.submit()?;
        self.end_batch();
        Ok(all_answered && !self.batch.as_ref().is_some_and(Batch::has_unsent))
    }

    /// Takes what has come, to answer it with an error.
    fn take_to_fail(&mut self) -> Result<(), QueueError> {
        while let Some(cqe) = self.ring.pop()? {
            match Id::decode(cqe.user_data) {
                Some(Id::Command { tag }) if self.slots.exists(tag) => {
                    self.taken_to_fail(tag, cqe.result);
                }
                // Pages that were just registered are to be unregistered.
                Some(Id::Operation { tag, index }) if self.slots.exists(tag) => {
                    match self.slots.at(tag).ended(index, self.ring.taken(), cqe.result) {
                        Some(Ended::Request { registers: true, .. }) if cqe.result >= 0 => {
                            self.slots.at(tag).set_place(Where::Table);
                        }
                        // It is not done, or who knows what is; its rest is not asked for.
                        Some(Ended::Request {
                            next: next @ (Next::Again | Next::Nonsense),
                            ..
                        }) => {
                            self.slots.at(tag).take_success_back(Errno::EIO);
                            if next == Next::Again {
                                self.slots.at(tag).forget_operation(index);
                            }
                        }
                        _ => {}
                    }
                }
                Some(Id::Tags) => _ = self.tags_came(cqe, true)?,
                Some(Id::Elements) => _ = self.elements_ended(cqe.result)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// A slot's command has completed, and its request shall fail.
    fn taken_to_fail(&mut self, tag: u16, result: i32) {
        let taken = self.ring.taken();
        let asks = self.plan.path == DataPath::GetData;
        // Whatever it says, it brings no data any more that the slot would have to wait for;
        // perhaps another request than the one whose answer is settled.
        if self.slots.at(tag).end_fetching().is_some() {
            self.slots.at(tag).forget_answer();
        }
        match result {
            UBLK_IO_RES_NEED_GET_DATA if asks => {
                if self.slots.at(tag).take(taken) {
                    self.taken_anew_to_fail(tag, true);
                }
            }
            UBLK_IO_RES_OK => _ = self.slots.at(tag).take(taken),
            _ => _ = self.slots.at(tag).gone(taken),
        }
    }

    /// The slot has a request that is not even looked at.
    fn taken_anew_to_fail(&mut self, tag: u16, is_to_fetch: bool) {
        self.slots.at(tag).forget_answer();
        self.slots.at(tag).set_nonsense(if is_to_fetch { Where::Kernel } else { Where::Buffer });
    }
}

#[cfg(any(test, fuzzing))]
impl<K: Kernel, H> Queue<K, H> {
    /// Panics unless the slots' accounts are right.
    pub(crate) fn check(&self) {
        self.slots.check();
    }

    /// A kernel that is played uses nothing any more, so that nothing need be leaked.
    pub(crate) fn take_all_back(&mut self) {
        self.slots.take_all_back();
        if let Some(batch) = &mut self.batch {
            batch.take_all_back();
        }
    }
}
