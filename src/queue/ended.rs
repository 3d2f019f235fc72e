//! What a request has asked the ring for has ended.

use super::desk::{Enter, Left};
use super::{Queue, QueueError};
use crate::errno::Errno;
use crate::handler::Handler;
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
        let taken = self.ring.taken();
        let mut desk = self.desk(tag);
        let ended = desk.at.see_end(index, taken, |ended| {
            let is_read = matches!(ended.action, Action::Read(_));
            (matches!(ended.action, Action::Register), is_read, ended.next(result))
        });
        let Some(ended) = ended else { return Ok(false) };
        let Ended::Request((registers, is_read, next)) = ended else { return Ok(true) };
        if registers {
            self.registered(tag, result)?;
            return Ok(true);
        }
        if desk.plan.path.is_zero_copy()
            && is_read
            && let Ok(bytes) = Errno::from_result(result)
        {
            desk.at.filled(bytes);
        }
        let left = match (next, desk.at.answer()) {
            (None, _) => return Ok(false),
            (Some(Next::Ended(done)), None) => desk.enter(Enter::Resume(done))?,
            // What succeeds is to be done, though its request was answered.
            (Some(Next::Again(rest)), None | Some(Ok(()))) => desk.enter(Enter::Ask(rest))?,
            // The handler is not entered again, and nobody wants the rest of what fails.
            (Some(_), Some(_)) => Left::Settled,
        };
        self.go_on(tag, left)?;
        self.note_waiting(tag);
        Ok(true)
    }
}
