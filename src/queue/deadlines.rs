//! Requests that wait for longer than they may: they are answered with `ETIMEDOUT`, whatever
//! becomes of what they wait for.

use super::{Queue, QueueError};
use crate::errno::Errno;
use crate::handler::Handler;
use crate::id::Id;
use crate::kernel::Kernel;
use crate::ring::Sqe;
use crate::slots::Where;
use core::time::Duration;

/// How long what was cancelled may take to end. What has not is left behind.
const CANCELLING: Duration = Duration::from_millis(500);

/// When something is to be done for a request that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Due {
    at: Duration,
    /// Whether it has its answer already, and what it waited for was cancelled.
    is_late: bool,
}

/// A queue's requests that wait, and since when.
#[derive(Debug)]
pub(super) struct Deadlines {
    timeout: Duration,
    /// Of each slot, if its request waits.
    due: Box<[Option<Due>]>,
    waiting: u16,
    /// Cancellations under way.
    cancelling: u32,
    /// When it is to be looked again, if any waits: not later than the first of them is due.
    next: Duration,
}

impl Deadlines {
    pub(super) fn new(timeout: Duration, depth: u16) -> Self {
        let due = vec![None; depth.into()].into();
        Self { timeout, due, waiting: 0, cancelling: 0, next: Duration::ZERO }
    }

    /// When a wait for completions must end. An idle queue has no timer.
    pub(super) fn next(&self) -> Option<Duration> {
        (self.waiting > 0).then_some(self.next)
    }

    /// A request is not answered in the turn in which it came. May be said more than once.
    fn waits(&mut self, tag: u16, kernel: &impl Kernel) {
        let due = &mut self.due[usize::from(tag)];
        if due.is_some() {
            return;
        }
        let at = kernel.now().saturating_add(self.timeout);
        *due = Some(Due { at, is_late: false });
        self.next = if self.waiting == 0 { at } else { self.next.min(at) };
        self.waiting += 1;
    }

    /// A request does not wait any more, if it did.
    fn ended(&mut self, tag: u16) {
        self.waiting -= u16::from(self.due[usize::from(tag)].take().is_some());
    }

    /// What is due for a request, which is due again some time after that.
    fn take_due(&mut self, tag: u16, now: Duration) -> Option<Due> {
        let due = self.due[usize::from(tag)].as_mut().filter(|due| due.at <= now)?;
        let was = *due;
        *due = Due { at: now.saturating_add(CANCELLING), is_late: true };
        Some(was)
    }

    /// A cancellation is over, whatever came of it: the operation itself tells. `false` when there
    /// was none.
    pub(super) fn cancelled(&mut self) -> bool {
        let was = self.cancelling > 0;
        self.cancelling -= u32::from(was);
        was
    }

    /// The first of all is next.
    fn look_again(&mut self) {
        self.next = self.due.iter().flatten().map(|due| due.at).min().unwrap_or_default();
    }
}

impl<K: Kernel, H: Handler> Queue<K, H> {
    /// Answers the requests that have waited for too long.
    pub(super) fn end_overdue(&mut self) -> Result<(), QueueError> {
        let Some(next) = self.deadlines.as_ref().and_then(|deadlines| deadlines.next()) else {
            return Ok(());
        };
        let now = self.ring.kernel().now();
        if now < next {
            return Ok(());
        }
        self.ring.submit()?; // so that there is room for cancellations
        for tag in 0..self.slots.depth() {
            let due = self.deadlines.as_mut().and_then(|deadlines| deadlines.take_due(tag, now));
            match due {
                // A defect of ours: nobody waits.
                Some(_) if !self.slots[tag].is_servers() => self.note_waiting(tag),
                Some(Due { is_late: true, .. }) if self.slots[tag].answer().is_some() => {
                    self.leave_behind(tag)?;
                }
                Some(_) => self.give_up(tag)?,
                None => {}
            }
        }
        if let Some(deadlines) = &mut self.deadlines {
            deadlines.look_again();
        }
        Ok(())
    }

    /// Settles a request's answer, and has the kernel cancel what it waits for.
    fn give_up(&mut self, tag: u16) -> Result<(), QueueError> {
        let is_taken_back = matches!(self.slots[tag].place(), Where::TakenBack(_));
        if self.slots.at(tag).settle_without_operations(Errno::ETIMEDOUT) && !is_taken_back {
            self.stats.timeouts += 1;
        }
        self.slots.at(tag).unpark();
        let submissions = self.ring.submissions();
        for index in self.slots.under_way(tag) {
            let operation = Id::Operation { tag, index }.encode();
            submissions.push(Sqe::cancel(operation, Id::Cancel.encode()))?;
            if let Some(deadlines) = &mut self.deadlines {
                deadlines.cancelling += 1;
            }
        }
        self.commit_if_settled(tag)?;
        self.note_waiting(tag);
        Ok(())
    }

    /// Answers a request whose operations could not be cancelled. The slot goes on in other memory,
    /// for they still use what it had.
    fn leave_behind(&mut self, tag: u16) -> Result<(), QueueError> {
        if self.slots.at(tag).leave_behind().is_err() {
            return Ok(()); // no memory: later
        }
        self.commit_if_settled(tag)?;
        self.note_waiting(tag);
        Ok(())
    }
}

impl<K: Kernel, H> Queue<K, H> {
    /// Tells the meter and the deadlines of a request that waits, or has waited.
    #[inline]
    pub(super) fn note_waiting(&mut self, tag: u16) {
        if self.metering.is_some() || self.deadlines.is_some() {
            self.tell_waiting(tag);
        }
    }

    /// Tells them of a request that was taken back: nobody is answered.
    #[cold]
    pub(super) fn forget_waiting(&mut self, tag: u16) {
        if let Some(metering) = &mut self.metering {
            metering.forget(tag);
        }
        if let Some(deadlines) = &mut self.deadlines {
            deadlines.ended(tag);
        }
    }

    fn tell_waiting(&mut self, tag: u16) {
        let is_servers = self.slots[tag].is_servers();
        if let Some(metering) = &mut self.metering {
            match is_servers || self.slots[tag].is_fetching() {
                true => metering.waits(tag),
                false => metering.ended(tag),
            }
        }
        if let Some(deadlines) = &mut self.deadlines {
            match is_servers {
                true => deadlines.waits(tag, self.ring.kernel()),
                false => deadlines.ended(tag),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{Choices, Faults, Profile, Sim};

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn as_many_cancellations_end_as_were_begun() {
        let mut deadlines = Deadlines::new(SECOND, 1);
        assert!(!deadlines.cancelled());
        deadlines.cancelling = 2;
        assert_eq!([(); 4].map(|()| deadlines.cancelled()), [true, true, false, false]);
    }

    #[test]
    fn the_first_of_all_is_next() {
        let sim = Sim::new(Profile::NEWEST, Choices::first(), Faults::default());
        let kernel = sim.task();
        let mut deadlines = Deadlines::new(10 * SECOND, 4);
        assert_eq!(deadlines.next(), None);
        let begun = kernel.now();
        deadlines.waits(2, &kernel);
        kernel.sleep(SECOND);
        deadlines.waits(2, &kernel); // as before
        deadlines.waits(0, &kernel);
        assert_eq!(deadlines.next(), Some(begun + 10 * SECOND));
        let second = kernel.now() + 10 * SECOND;
        assert_eq!(deadlines.take_due(0, begun + 10 * SECOND), None);
        let due = deadlines.take_due(2, begun + 10 * SECOND);
        assert_eq!(due, Some(Due { at: begun + 10 * SECOND, is_late: false }));
        deadlines.look_again();
        assert_eq!(deadlines.next(), Some(begun + 10 * SECOND + CANCELLING));
        assert!(deadlines.take_due(2, begun + 11 * SECOND).unwrap().is_late);
        deadlines.ended(2);
        deadlines.ended(2);
        deadlines.look_again();
        assert_eq!(deadlines.next(), Some(second));
        deadlines.ended(0);
        assert_eq!(deadlines.next(), None);
    }
}
