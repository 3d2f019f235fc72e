//! Exit codes, and the sentence that goes with them.

use std::io::Write;
use ublkit::{Error, ErrorKind};

/// The codes, as `--help` prints them.
pub(super) const CODES: &str = "Exit codes:
  0  done
  1  failed
  2  wrong usage, or a device that cannot be
  3  not permitted
  4  this machine or kernel cannot
  5  no such device
  6  the device or its number is in use
  7  no answer in time
  130, 143, …  ended at once by a second signal (128 + its number)";

/// The code for a device that there is not.
pub(super) const NOT_FOUND: i32 = 5;

/// The code for what did not come in time.
pub(super) const LATE: i32 = 7;

/// Why a command failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The library's error.
    Library(Error),
    /// A sentence of the command line's own.
    Said(ErrorKind, String),
    /// Another process said why, and ended with this code.
    Told(u8),
    /// Standard output could not be written.
    Output(std::io::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Library(error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Output(error)
    }
}

impl Failure {
    /// What is told of it.
    pub(super) fn sentence(&self) -> String {
        match self {
            Self::Library(error) => error.to_string(),
            Self::Said(_, sentence) => sentence.clone(),
            Self::Told(code) => format!("another process failed with code {code}"),
            Self::Output(error) => {
                let remedy = "is the disk full, or the reader of a pipe gone?";
                format!("cannot write to standard output: {error}; {remedy}")
            }
        }
    }

    fn kind(&self) -> ErrorKind {
        match self {
            Self::Library(error) => error.kind(),
            Self::Said(kind, _) => *kind,
            Self::Told(_) | Self::Output(_) => ErrorKind::Failed,
        }
    }
}

/// The process's exit code. A failure's sentence goes to standard error.
pub(super) fn code(result: Result<(), Failure>) -> u8 {
    let Err(failure) = result else { return 0 };
    if let Failure::Told(code) = failure {
        return code;
    }
    say(&failure.sentence());
    let code = match failure.kind() {
        ErrorKind::Usage => 2,
        ErrorKind::Permission => 3,
        ErrorKind::Unsupported => 4,
        ErrorKind::NotFound => NOT_FOUND,
        ErrorKind::Busy => 6,
        ErrorKind::Timeout => LATE,
        _ => 1,
    };
    u8::try_from(code).unwrap_or(1)
}

/// One line on standard error. Whether it can be written makes no difference to what is done.
pub(super) fn say(sentence: &str) {
    let _ = writeln!(std::io::stderr(), "ublkit: {sentence}");
}
