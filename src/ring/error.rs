//! [`RingError`]: why a ring could not be made or cannot go on.

use crate::errno::Errno;
use core::fmt;

/// Why a ring could not be made or cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RingError {
    /// `io_uring_setup` refused, whatever flags were left out.
    Setup(Errno),
    /// The rings could not be mapped.
    Map(Errno),
    /// Provided buffers could not be registered.
    Provide(Errno),
    /// The kernel did what cannot be: described rings that are too small or misaligned, left out a
    /// feature that every kernel with ublk has, or took more entries than there were.
    Impossible(&'static str),
    /// `io_uring_enter` failed in a way that does not pass.
    Enter(Errno),
    /// `io_uring_enter` kept asking to try again although nothing was left to wait for.
    Starved(Errno),
    /// The submission queue is full: it was sized wrongly, which is a defect of this crate.
    SubmissionsFull,
    /// The completion queue's tail is further ahead than the queue is long.
    CompletionsOverrun,
}

/// The rules that a kernel can break, as [`RingError::Impossible`] says.
pub(crate) mod broken {
    pub(crate) const LONG_PROVIDED: &str = "a ring of provided buffers has 32768 at the most";
    pub(crate) const ODD_LEN: &str = "a queue's length is no power of two";
    pub(crate) const OUTSIDE: &str = "an offset lies outside of its mapping, or is misaligned";
    pub(crate) const OVERTAKEN: &str = "it consumed more than there was";
    pub(crate) const UNKNOWN: &str = "it completed a command that it does not have";
    pub(crate) const OLD: &str = "a feature of Linux 5.11 is missing";
    pub(crate) const SHORT: &str = "a queue is shorter than was asked for";
    /// All of them.
    #[cfg(all(test, feature = "sim"))]
    pub(crate) const ALL: [&str; 7] =
        [LONG_PROVIDED, ODD_LEN, OUTSIDE, OVERTAKEN, UNKNOWN, OLD, SHORT];
}

impl RingError {
    /// What a person can do about it, or what the kernel meant by it.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Setup(Errno::EPERM) => {
                "io_uring is switched off here: see sysctl kernel.io_uring_disabled, and seccomp \
                 rules of a container"
            }
            Self::Setup(Errno::ENOSYS) => "this kernel was built without io_uring",
            Self::Setup(Errno::ENOMEM)
            | Self::Provide(Errno::ENOMEM)
            | Self::Map(Errno::ENOMEM | Errno::EAGAIN) => {
                "there is too little memory, or the limit on locked memory is too low \
                 (ulimit -l): use fewer queues or a smaller depth"
            }
            Self::Setup(Errno::EMFILE | Errno::ENFILE) => {
                "too many files are open: raise the limit (ulimit -n)"
            }
            Self::Setup(Errno::EINVAL) => "this kernel's io_uring is too old: 6.4 is the least",
            Self::Enter(Errno::EBADR) => {
                "the kernel ran out of memory and dropped completions: use fewer queues or a \
                 smaller depth"
            }
            Self::Enter(Errno::EEXIST) => {
                "the ring was used by a thread that does not own it: please report it"
            }
            Self::Enter(Errno::EBADFD) => "the ring was never enabled: please report it",
            Self::Enter(Errno::EACCES | Errno::EPERM) => {
                "a security policy (SELinux, say) forbids io_uring commands on this file: have it \
                 allow them"
            }
            Self::Starved(_) => {
                "the kernel has no memory to accept requests with: free some, or use fewer queues"
            }
            _ => "this is a defect of ublkit or of the kernel: please report it",
        }
    }
}

impl fmt::Display for RingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setup(errno) => write!(f, "io_uring_setup failed with {errno}")?,
            Self::Map(errno) => write!(f, "mapping an io_uring failed with {errno}")?,
            Self::Provide(errno) => write!(f, "registering provided buffers failed with {errno}")?,
            Self::Impossible(what) => write!(f, "the kernel broke the rules of io_uring: {what}")?,
            Self::Enter(errno) => write!(f, "io_uring_enter failed with {errno}")?,
            Self::Starved(errno) => write!(f, "io_uring_enter answered {errno} again and again")?,
            Self::SubmissionsFull => write!(f, "an io_uring's submission queue is full")?,
            Self::CompletionsOverrun => write!(f, "an io_uring's completion queue was overrun")?,
        }
        write!(f, "; {}", self.remedy())
    }
}

impl std::error::Error for RingError {}

#[cfg(test)]
mod tests {
    use super::*;

    /// What can be done is said for each errno that says what is wrong, and a report asked for
    /// otherwise.
    #[test]
    fn remedies_fit_their_errors() {
        use RingError::{Enter, Map, Setup, Starved};
        let remedies = [
            (Setup(Errno::EPERM), "kernel.io_uring_disabled"),
            (Setup(Errno::ENOSYS), "without io_uring"),
            (Setup(Errno::ENOMEM), "ulimit -l"),
            (Map(Errno::ENOMEM), "ulimit -l"),
            (Map(Errno::EAGAIN), "ulimit -l"),
            (RingError::Provide(Errno::ENOMEM), "ulimit -l"),
            (Setup(Errno::EMFILE), "ulimit -n"),
            (Setup(Errno::ENFILE), "ulimit -n"),
            (Setup(Errno::EINVAL), "6.4 is the least"),
            (Enter(Errno::EBADR), "dropped completions"),
            (Enter(Errno::EEXIST), "does not own it"),
            (Enter(Errno::EBADFD), "never enabled"),
            (Enter(Errno::EACCES), "security policy"),
            (Enter(Errno::EPERM), "security policy"),
            (Starved(Errno::EAGAIN), "no memory to accept"),
            (RingError::SubmissionsFull, "please report it"),
            (RingError::CompletionsOverrun, "please report it"),
            (RingError::Impossible("it is odd"), "please report it"),
            (Enter(Errno::EINVAL), "please report it"),
        ];
        for (error, remedy) in remedies {
            assert!(error.remedy().contains(remedy), "{error:?}: {}", error.remedy());
            assert!(error.to_string().ends_with(error.remedy()), "{error}");
        }
        let starved = Starved(Errno::EAGAIN).to_string();
        assert!(starved.contains("EAGAIN") && starved.contains("again and again"), "{starved}");
    }
}
