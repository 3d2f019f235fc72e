//! What a request has asked the ring for has ended.

use super::desk::{Enter, Left};
use super::{Queue, QueueError};
use crate::errno::Errno;
use crate::handler::Handler;
use crate::kernel::Kernel;
use crate::slots::{Ended, Next};

impl<K: Kernel, H: Handler> Queue<K, H> {
    /// The ring has completed an operation. `false` when that cannot be.
    #[inline(always)] // as `came`
    pub(super) fn operation_ended(
        &mut self,
        tag: u16,
        index: u8,
        result: i32,
    ) -> Result<bool, QueueError> {
        let taken = self.ring.taken();
        let mut desk = self.desk(tag);
        let (reads, next) = match desk.at.ended(index, taken, result) {
            None => return Ok(false),
            Some(Ended::LeftBehind(_)) => return Ok(true),
            Some(Ended::Request { registers: true, .. }) => {
                self.registered(tag, result)?;
                return Ok(true);
            }
            Some(Ended::Request { reads, next, .. }) => (reads, next),
        };
        if desk.plan.path.is_zero_copy()
            && reads
            && let Ok(bytes) = Errno::from_result(result)
        {
            desk.at.filled(bytes);
        }
        let left = match (next, desk.at.answer()) {
            (Next::Ended(done), None) => desk.enter(Enter::Resume(done))?,
            // What succeeds is to be done, though its request was answered.
            (Next::Again, None | Some(Ok(()))) => desk.enter(Enter::GoOn(index))?,
            // Nobody wants the rest of what fails.
            (Next::Again, Some(Err(_))) => {
                desk.at.forget_operation(index);
                Left::Settled
            }
            // The handler is not entered again.
            (Next::Ended(_), Some(_)) => Left::Settled,
            (Next::Nonsense, _) => {
                desk.at.take_success_back(Errno::EIO);
                return Ok(false);
            }
        };
        self.go_on(tag, left)?;
        self.note_waiting(tag);
        Ok(true)
    }
}
