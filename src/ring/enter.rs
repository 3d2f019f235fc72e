//! Submitting and waiting: the one place that calls `io_uring_enter`, and what its errnos mean.

use super::queues::Entry;
use super::{Ring, RingError};
use crate::errno::Errno;
use crate::kernel::Kernel;
use core::time::Duration;
use ublkit_sys::io_uring::{__kernel_timespec, IORING_ENTER_GETEVENTS, io_uring_getevents_arg};

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
    pub(crate) fn wait(&mut self, deadline: Option<Duration>) -> Result<Woken, RingError> {
        let mut tries = 0;
        loop {
            self.sq.publish();
            let queued = self.sq.queued();
            // With something to submit and something to reap: submit, and do not sleep.
            let want = u32::from(!self.cq.has_some());
            let timeout = deadline.map(|end| end.saturating_sub(self.kernel.now()));
            match self.enter(queued, want, timeout) {
                Ok(consumed) => {
                    self.sq.consumed(consumed);
                    if consumed > 0 {
                        tries = 0;
                    }
                }
                // A signal, with nothing submitted.
                Err(Errno::EINTR) => {}
                // The timer: with SQEs queued the kernel reports their number instead.
                Err(Errno::ETIME) => {}
                // No memory for requests, or (old kernels) a backlog of completions: reap first.
                Err(errno @ (Errno::EAGAIN | Errno::EBUSY | Errno::ENOMEM)) => {
                    tries += 1;
                    if tries == TRIES {
                        return Err(RingError::Starved(errno));
                    }
                    self.kernel.sleep(PAUSE);
                }
                // EBADR, EBADFD, EEXIST, EOWNERDEAD, EFAULT, EINVAL, …: see RingError::remedy.
                Err(errno) => return Err(RingError::Enter(errno)),
            }
            if self.cq.has_some() {
                return Ok(Woken::Completion);
            }
            if self.sq.queued() == 0 && deadline.is_some_and(|end| self.kernel.now() >= end) {
                return Ok(Woken::Deadline);
            }
        }
    }

    fn enter(&self, queued: u32, want: u32, timeout: Option<Duration>) -> Result<u32, Errno> {
        let time = timeout.map(|time| __kernel_timespec {
            tv_sec: time.as_secs().cast_signed(),
            tv_nsec: i64::from(time.subsec_nanos()),
        });
        let wait = time.as_ref().map(|time| io_uring_getevents_arg {
            ts: core::ptr::from_ref(time).addr() as u64,
            ..io_uring_getevents_arg::default()
        });
        self.kernel.ring_enter(self.name(), queued, want, IORING_ENTER_GETEVENTS, wait.as_ref())
    }
}
