//! Another process of this program, which says one line of how it went on its standard output.
#![expect(unsafe_code, reason = "a system call of no wrapper; docs/safety.md")]

use crate::cli::exit::Failure;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Error, Write};
use std::process::{Child, Command, Stdio};
use ublkit::ErrorKind;

/// That process.
pub(super) struct Other(Child);

impl Other {
    /// Starts it with such words. It has none of this process's files but the standard ones: the
    /// caller's, a lock perhaps, are not for somebody who may stay for long.
    pub(super) fn start(words: impl Iterator<Item = OsString>) -> Result<Self, Error> {
        keep_files();
        // Told apart by its path, not by what this process is called.
        let program = std::env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into());
        let mut other = Command::new(program);
        other.args(words).stdin(Stdio::null()).stdout(Stdio::piped());
        Ok(Self(other.spawn()?))
    }

    /// Waits for its line; there is none if it ends without one.
    pub(super) fn line(&mut self) -> Result<Option<Line>, Failure> {
        let pipe = self.0.stdout.take().expect("piped, and read once");
        let mut line = String::new();
        match BufReader::new(pipe).read_line(&mut line) {
            Ok(_) => Ok(Line::of(&line)),
            Err(error) => Err(failed("hear of", error)),
        }
    }

    /// Waits until it is gone, whatever it ends with.
    pub(super) fn wait(&mut self) {
        let _ = self.0.wait();
    }

    /// The same of one that said nothing: how it `ended`.
    pub(super) fn gone(&mut self, ended: &str) -> Failure {
        match self.0.wait() {
            Ok(status) => wordless(ended, &status.to_string()),
            Err(error) => failed("wait for", error),
        }
    }
}

/// Has all files but the standard ones stay behind when another program is executed.
fn keep_files() {
    let (first, last) = (3, libc::c_uint::MAX);
    // SAFETY: files are marked, none is closed, and no memory is read (close_range(2), since 5.11).
    let _ = unsafe { libc::syscall(libc::SYS_close_range, first, last, libc::CLOSE_RANGE_CLOEXEC) };
}

/// What such a process says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Line {
    /// The disk with this path is live.
    Live(String),
    /// It ends with this code.
    Ended(u8),
}

impl Line {
    pub(in crate::cli) fn of(line: &str) -> Option<Self> {
        let line = line.trim_end();
        if line.starts_with('/') {
            return Some(Self::Live(line.into()));
        }
        line.parse().ok().map(Self::Ended)
    }
}

/// What is told of a process that ended without a word.
pub(in crate::cli) fn wordless(ended: &str, status: &str) -> Failure {
    let remedy = "the kernel's log (dmesg) may say why, and 'ublkit list' what is left";
    Failure::Said(ErrorKind::Failed, format!("{ended} ({status}): {remedy}"))
}

/// Why there is no such process, or none that can be heard.
pub(in crate::cli) fn failed(what: &str, error: Error) -> Failure {
    let remedy = "is there too little memory, or too little of 'ulimit -u' or '-n'?";
    let sentence = format!("cannot {what} another process of ublkit: {error}; {remedy}");
    Failure::Said(ErrorKind::Failed, sentence)
}

/// This process is one, and ends with this code. If whoever started it still waits, he is told: the
/// process itself may stay for long, when the kernel does not let it go.
pub(in crate::cli) fn ended(code: u8) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{code}").and_then(|()| out.flush());
    let_go_of_standard_files();
}

/// Nobody is kept waiting for what this process may still say.
pub(super) fn let_go_of_standard_files() {
    let Ok(null) = File::options().read(true).write(true).open("/dev/null") else { return };
    let _ = rustix::stdio::dup2_stdin(&null);
    let _ = rustix::stdio::dup2_stdout(&null);
    let _ = rustix::stdio::dup2_stderr(&null);
}
