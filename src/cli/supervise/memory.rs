//! What becomes of a server when memory is short.

use crate::cli::exit::Failure;
use rustix::mm::MlockAllFlags;
use ublkit::{Errno, ErrorKind};

/// Takes all memory of the process, what it has and what it will have, and keeps it in RAM.
pub(super) fn lock() -> Result<(), Failure> {
    rustix::mm::mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE)
        .map_err(|error| unlocked(error.into()))
}

/// Why memory could not be locked.
pub(in crate::cli) fn unlocked(errno: Errno) -> Failure {
    let (kind, remedy) = match errno {
        Errno::EPERM => (ErrorKind::Permission, "it needs CAP_IPC_LOCK or 'ulimit -l'"),
        _ => (ErrorKind::Failed, "see 'ulimit -l', and whether there is so much memory"),
    };
    Failure::Said(kind, format!("cannot lock the server's memory: {errno}; {remedy}"))
}

/// Says how gladly the kernel shall end this process.
pub(super) fn set_oom_score(score: i16) -> Result<(), Failure> {
    std::fs::write("/proc/self/oom_score_adj", score.to_string())
        .map_err(|error| unset(score, error.into()))
}

/// Why the OOM score could not be set.
pub(in crate::cli) fn unset(score: i16, errno: Errno) -> Failure {
    let (kind, remedy) = match errno {
        Errno::EACCES | Errno::EPERM => {
            (ErrorKind::Permission, "less than it has needs CAP_SYS_RESOURCE")
        }
        _ => (ErrorKind::Failed, "is /proc mounted, and may it be written?"),
    };
    let sentence = format!("cannot set the server's OOM score to {score}: {errno}; {remedy}");
    Failure::Said(kind, sentence)
}
