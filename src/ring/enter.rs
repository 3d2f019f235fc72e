//! Submitting and waiting: the one place that calls `io_uring_enter`, and what its errnos mean.

use super::queues::Entry;
use super::spsc::Index;
use super::{Ring, RingError};
use crate::errno::Errno;
use crate::kernel::Kernel;
use core::sync::atomic::Ordering;
use core::time::Duration;
use ublkit_sys::io_uring::{IORING_ENTER_GETEVENTS, IORING_SQ_CQ_OVERFLOW, IORING_SQ_TASKRUN};

/// How often `io_uring_enter` may ask to try again, without any progress, before that is an error.
const TRIES: u32 = 100;
/// The pause before such a try.
const PAUSE: Duration = Duration::from_millis(1);

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    /// A CQE waits to be taken.
    Completion,
    /// The deadline passed; everything queued was submitted.
    Deadline,
}

impl<K: Kernel, S: Entry> Ring<K, S> {
    /// Submits all that is queued and waits for a CQE: until `deadline` on the kernel's clock, or
    /// without end.
    ///
    /// Signals do not end the wait.
    #[inline(never)]
    pub(crate) fn wait(&mut self, deadline: Option<Duration>) -> Result<Woken, RingError> {
        self.wait_for(1, deadline)
    }

    /// The same for so many CQEs, as far as the kernel can: with fewer it may end as well.
    #[inline(always)] // into a queue's turn
    pub(crate) fn wait_for(
        &mut self,
        completions: u32,
        deadline: Option<Duration>,
    ) -> Result<Woken, RingError> {
        let mut tries = 0;
        loop {
            // With something to submit and something to reap: submit, and do not sleep. The kernel
            // sees that for itself where one is enough.
            let want = if completions > 1 && self.cq.has_some() { 0 } else { completions };
            let timeout = deadline.map(|end| end.saturating_sub(self.kernel.now()));
            self.enter(want, IORING_ENTER_GETEVENTS, timeout, &mut tries)?;
            if self.cq.has_next()? {
                return Ok(Woken::Completion);
            }
            if self.sq.queued() == 0 && deadline.is_some_and(|end| self.kernel.now() >= end) {
                return Ok(Woken::Deadline);
            }
        }
    }

    /// Submits all that is queued, and has the kernel do what waits for this task; does not sleep.
    pub(crate) fn look(&mut self) -> Result<(), RingError> {
        let mut tries = 0;
        loop {
            self.enter(0, IORING_ENTER_GETEVENTS, None, &mut tries)?;
            if self.sq.queued() == 0 || self.cq.has_some() {
                return Ok(());
            }
        }
    }

    /// Whether so many CQEs are there, or a [`look`](Self::look) would find more. Of a ring whose
    /// kernel does not tell, only those that are there count. No system call.
    #[inline]
    pub(crate) fn has_news(&self, completions: u32) -> bool {
        // Relaxed: nothing but the word itself is believed.
        let waits = self.work.as_ref().is_some_and(|flags| {
            flags.load(Ordering::Relaxed) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW) != 0
        });
        waits || self.cq.ready() >= completions
    }

    /// Submits all that is queued, and asks for no completions: with `DEFER_TASKRUN` the driver can
    /// bring nothing new meanwhile.
    pub(crate) fn submit(&mut self) -> Result<(), RingError> {
        let mut tries = 0;
        while self.sq.queued() > 0 {
            self.enter(0, 0, None, &mut tries)?;
        }
        Ok(())
    }

    /// Calls the kernel once. `tries` counts the calls in a row that made no progress.
    #[inline(always)] // into the loops above: once a turn
    fn enter(
        &mut self,
        want: u32,
        flags: u32,
        timeout: Option<Duration>,
        tries: &mut u32,
    ) -> Result<(), RingError> {
        self.sq.publish();
        let queued = self.sq.queued();
        let entered = match self.kernel.ring_enter(self.name(), queued, want, flags, timeout) {
            Ok(0) if queued > 0 => Err(Errno::EAGAIN), // no progress, whatever it means
            other => other,
        };
        match entered {
            Ok(consumed) => {
                self.sq.consumed(consumed)?;
                *tries = 0;
            }
            // A signal, or the timer, with nothing to submit.
            Err(Errno::EINTR | Errno::ETIME) if queued == 0 => {}
            // With something to submit neither can be the answer, but who knows.
            Err(errno @ (Errno::EINTR | Errno::ETIME)) => self.try_again(errno, tries)?,
            // No memory for requests, or (old kernels) a backlog of completions: reap first.
            Err(errno @ (Errno::EAGAIN | Errno::EBUSY | Errno::ENOMEM)) => {
                self.try_again(errno, tries)?;
                self.kernel.sleep(PAUSE);
            }
            // EBADR, EBADFD, EEXIST, EOWNERDEAD, EFAULT, EINVAL, …: see RingError::remedy.
            Err(errno) => return Err(RingError::Enter(errno)),
        }
        Ok(())
    }

    /// Counts a call that made no progress.
    fn try_again(&self, errno: Errno, tries: &mut u32) -> Result<(), RingError> {
        *tries += 1;
        if *tries == TRIES { Err(RingError::Starved(errno)) } else { Ok(()) }
    }
}
