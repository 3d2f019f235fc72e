//! What the server's requests have under way, and what they have left behind.

use super::slot::State;
use super::{Action, At, Ended, Next, Operation};
use crate::errno::Errno;
use crate::memory::Pages;
use crate::ring::Address;
use core::time::Duration;

impl At<'_> {
    /// Notes an operation of the server's request, whose SQE will have number `sqe`; answers its
    /// index. `EBUSY`: the request has as many as it may.
    #[inline(always)] // into `Io::begin`
    pub(crate) fn begin(&mut self, operation: Operation, sqe: u64) -> Result<u8, Errno> {
        let Self { tag, slot, shared } = self;
        assert!(slot.state == State::Server, "only the server's own requests have operations");
        let live = slot.waits - u16::from(slot.parked.is_some());
        let index = shared.operations.begin(*tag, operation, sqe, live)?;
        slot.waits += 1;
        Ok(index)
    }

    /// One that is not done ([`Next::Again`]) is asked for again, by an SQE with number `sqe`: what
    /// is left to do.
    #[inline(always)] // so that its `Io` need not be in memory, as those below
    pub(crate) fn again(&mut self, index: u8, sqe: u64) -> Action {
        self.shared.operations.again(self.tag, index, sqe)
    }

    /// Where the time of a delay is that is about to be queued.
    #[inline(always)]
    pub(crate) fn delay(&mut self, index: u8, time: Duration) -> Address {
        self.shared.operations.time(self.tag, index, time)
    }

    /// The ring has completed an operation of the slot with `result`. The kernel has `taken` so
    /// many SQEs; `None` when there was no such operation among them, so that this cannot be.
    #[inline(always)] // into `Queue::operation_ended`
    pub(crate) fn ended(&mut self, index: u8, taken: u64, result: i32) -> Option<Ended> {
        let ended = self.shared.operations.completed(self.tag, index, taken, result)?;
        match ended {
            Ended::Request { next: Next::Again, .. } => {}
            Ended::Request { .. } => self.slot.waits -= 1,
            Ended::LeftBehind(buffer) => {
                if !self.shared.operations.are_left_at(self.tag, buffer) {
                    self.shared.spare.push(buffer);
                }
            }
        }
        Some(ended)
    }

    /// The request goes on without its operations, in other memory: the kernel may use its buffer
    /// until they end. `ENOMEM`: there is none, and nothing was done.
    pub(crate) fn leave_behind(&mut self) -> Result<(), Errno> {
        assert!(self.is_servers(), "only the server's own requests have operations");
        let fresh = match self.shared.spare.pop() {
            Some(buffer) => buffer,
            None => {
                let len_bytes = self.shared.buffer_bytes as usize;
                let pages = Pages::new(len_bytes)?;
                let buffer = pages.at(0, len_bytes);
                self.shared.later.push(pages);
                buffer
            }
        };
        let old = core::mem::replace(&mut self.slot.buffer, fresh);
        let left = self.shared.operations.leave_behind(self.tag, old);
        if left == 0 {
            self.shared.spare.push(old);
        }
        self.slot.waits -= left;
        Ok(())
    }

    /// An operation has filled so many bytes of the request's data.
    #[inline]
    pub(crate) fn filled(&mut self, bytes: u32) {
        let slot = &mut *self.slot;
        slot.filled_bytes = slot.filled_bytes.saturating_add(bytes);
    }

    /// The operation is not under way: its SQE could not be queued, or nobody wants what is left of
    /// it.
    #[inline(always)]
    pub(crate) fn forget_operation(&mut self, index: u8) {
        self.shared.operations.forget(self.tag, index);
        self.slot.waits -= 1;
    }

    /// The queue ends before the request's operations do: see [`Operations::abandon`].
    pub(crate) fn abandon_operations(&mut self) {
        self.shared.operations.abandon(self.tag);
        let slot = &mut *self.slot;
        (slot.waits, slot.parked) = (0, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data_path::DataPath;
    use crate::slots::{Allowed, Share, Slots};

    /// A request may have as many operations as a byte can number, and no more.
    #[test]
    fn as_many_operations_as_a_byte_can_number() {
        let allowed = Allowed { each: u8::MAX, places: u8::MAX };
        let mut slots =
            Slots::new(DataPath::Copy, 2, Share::ALL, 4096, allowed, Vec::new()).unwrap();
        slots.at(1).lend(0);
        assert!(slots.at(1).take(1));
        let delay = Operation::new(Action::Delay(Duration::ZERO), 0);
        let begin = |slots: &mut Slots| slots.at(1).begin(delay, 2);
        for index in 0..u8::MAX {
            assert_eq!(begin(&mut slots), Ok(index));
        }
        assert_eq!(begin(&mut slots), Err(Errno::EBUSY));
        assert_eq!(slots.under_way(1).count(), 255);
        assert!(slots.at(1).ended(254, 3, 0).is_some());
        assert_eq!((slots.under_way(1).count(), begin(&mut slots)), (254, Ok(254)));
        slots.take_all_back();
    }
}
