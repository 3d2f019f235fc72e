//! [`QueueError`]: why a queue could not be set up, or ended before its device was stopped.

use crate::errno::Errno;
use crate::ring::RingError;
use core::fmt;

/// Why a queue could not be set up, or ended before its device was stopped. The device goes down
/// with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum QueueError {
    /// Its ring could not be made or used.
    Ring(RingError),
    /// Its descriptors could not be mapped.
    Descriptors(Errno),
    /// Its buffers could not be mapped.
    Buffers(Errno),
    /// Its thread could not be bound to the queue's CPUs: `EINVAL` where the process may use none
    /// of them.
    Cpus(Errno),
    /// The backend made no handler for it.
    Handler(Errno),
    /// Its event could not be made.
    Event(Errno),
    /// The driver refused a fetch or a commit: the request, if there was one, is not answered.
    Refused {
        /// The slot.
        tag: u16,
        /// The driver's answer.
        errno: Errno,
    },
    /// The driver refused a command for many slots: the requests that it was to answer, if any, are
    /// not answered.
    Batch {
        /// The driver's answer.
        errno: Errno,
    },
    /// A completion came that fits nothing that was asked.
    Unexpected {
        /// What it carried.
        user_data: u64,
        /// Its result.
        result: i32,
    },
    /// The queue's thread panicked outside of its handler: a defect.
    Panicked,
    /// Somebody stopped the device while it was started.
    Stopped,
    /// The queue did not get ready, or did not end, in time.
    Late,
}

impl fmt::Display for QueueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ring(error) => write!(f, "{error}"),
            Self::Descriptors(errno) => {
                write!(
                    f,
                    "mapping its I/O descriptors failed with {errno}; is there too little memory, \
                     or does 'ulimit -v' set a limit?"
                )
            }
            Self::Cpus(errno) => write!(
                f,
                "binding its thread to the queue's CPUs failed with {errno}: see the process's \
                 cpuset, or do not pin it"
            ),
            Self::Buffers(errno) => {
                write!(
                    f,
                    "mapping its buffers failed with {errno}; use a smaller depth or --max-io, or \
                     see sysctl vm.overcommit_memory"
                )
            }
            Self::Handler(errno) => {
                write!(f, "the backend cannot serve it: {errno}; what it needs is to be seen there")
            }
            Self::Event(errno) => write!(
                f,
                "making its event failed with {errno}; raise the limit on open files (ulimit -n) \
                 or use fewer queues"
            ),
            Self::Refused { tag, errno } => {
                write!(
                    f,
                    "the driver refused a command for tag {tag} with {errno}; the kernel's log \
                     (dmesg) may say why"
                )
            }
            Self::Batch { errno } => {
                write!(
                    f,
                    "the driver refused a command for many slots with {errno}; the kernel's log \
                     (dmesg) may say why"
                )
            }
            Self::Unexpected { user_data, result } => {
                write!(
                    f,
                    "a completion fits nothing: user_data {user_data:#x}, result {result}; this is \
                     a defect of ublkit or of the kernel: please report it"
                )
            }
            Self::Panicked => {
                write!(f, "its thread panicked; this is a defect of ublkit: please report it")
            }
            Self::Stopped => {
                write!(f, "somebody stopped the device while it was started: serve it again")
            }
            Self::Late => {
                write!(
                    f,
                    "its thread did not answer in time: the backend may be stuck in a call; see \
                     what it waits for, or give it longer"
                )
            }
        }
    }
}

impl std::error::Error for QueueError {}

impl From<RingError> for QueueError {
    fn from(error: RingError) -> Self {
        Self::Ring(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_say_what_was_refused() {
        let refused = QueueError::Refused { tag: 7, errno: Errno::EBUSY }.to_string();
        assert!(refused.starts_with("the driver refused a command for tag 7 with EBUSY"));
        let odd = QueueError::Unexpected { user_data: 0xff, result: -5 }.to_string();
        assert!(odd.starts_with("a completion fits nothing: user_data 0xff, result -5; "));
    }
}
