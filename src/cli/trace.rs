//! `--trace`: where a server's conversation with the kernel goes.

use super::exit::{Failure, say};
use clap::{Args, ValueEnum};
use core::time::Duration;
use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::path::PathBuf;
use ublkit::Linux;
use ublkit::trace::{Detail, Format, Lines};

/// How long what is left of a trace may take to be written.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Tracing")]
pub(super) struct Tracing {
    /// Write what is said to the kernel and by it to FILE, a line each; to standard error without
    /// one
    ///
    /// Control commands, fetches, requests, the backend's operations and commits, with their times
    /// and how long they took. Nobody waits for the lines to be written: what comes too fast is
    /// lost, and counted at the end.
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "-")]
    trace: Option<String>,
    /// What the lines are
    #[arg(long, value_name = "FORMAT", default_value = "text", requires = "trace")]
    trace_format: TraceFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum TraceFormat {
    /// Text for people
    Text,
    /// JSON objects, which 'ublkit replay' reads
    Json,
}

/// A kernel that is listened to.
pub(super) type Kernel = ublkit::trace::Traced<Linux>;

/// A trace that is being written.
pub(super) struct Trace {
    lines: Lines,
    detail: Detail,
    /// It goes to standard error, where all else is said, too.
    is_mixed: bool,
}

impl Tracing {
    /// Whether it goes to standard error, where all else is said, too.
    pub(super) fn is_mixed(&self) -> bool {
        self.trace.as_deref() == Some("-")
    }

    /// The file that it goes to, if it goes to one.
    pub(super) fn file(&self) -> Option<PathBuf> {
        let place = self.trace.as_ref().filter(|_| !self.is_mixed())?;
        std::path::absolute(place).ok()
    }

    /// Whether the trace can be written, as far as that is known beforehand: not of a pipe, say,
    /// whose reader would take this for its end.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let Some(path) = self.file() else { return Ok(()) };
        let opened = match std::fs::metadata(&path) {
            Ok(found) if found.is_file() => File::options().append(true).open(&path).map(drop),
            Ok(_) => Ok(()),
            Err(_) => File::create_new(&path).and_then(|_| std::fs::remove_file(&path)),
        };
        opened.map_err(|error| unwritten(&path.display().to_string(), &error))
    }

    /// Begins the trace, if one is wanted.
    pub(super) fn begin(&self) -> Result<Option<Trace>, Failure> {
        let Some(place) = &self.trace else { return Ok(None) };
        let (format, detail) = match self.trace_format {
            TraceFormat::Text => (Format::Text, Detail::default()),
            TraceFormat::Json => (Format::Json, Detail::ALL),
        };
        let file = match place.as_str() {
            // A file of its own: whoever else writes there does not wait for us.
            "-" => std::io::stderr().as_fd().try_clone_to_owned().map(File::from),
            path => File::create(path),
        };
        let lines = file.and_then(|file| Lines::new(format, file));
        let lines = lines.map_err(|error| unwritten(place, &error))?;
        Ok(Some(Trace { lines, detail, is_mixed: self.is_mixed() }))
    }
}

fn unwritten(place: &str, error: &std::io::Error) -> Failure {
    let sentence =
        format!("cannot write the trace to {place}: {error}; name a file that can be written");
    Failure::Said(ublkit::ErrorKind::Failed, sentence)
}

impl Trace {
    /// The kernel, listened to.
    pub(super) fn kernel(&self) -> Kernel {
        Kernel::new(Linux, self.detail, self.lines.clone())
    }

    /// Ends the trace, and says what it lacks.
    pub(super) fn finish(self) {
        let ending = self.lines.finish(PATIENCE);
        let lost = ending.lost;
        match ending.error {
            // Where nobody reads the trace, nobody would read this, but we would wait.
            Some(error) if self.is_mixed && error.kind() == ErrorKind::TimedOut => {}
            error => not_whole(lost, error.as_ref()).iter().for_each(|sentence| say(sentence)),
        }
    }
}

/// What a trace lacks, if it lacks anything.
pub(super) fn not_whole(lost: u64, error: Option<&std::io::Error>) -> Option<String> {
    match error {
        Some(error) => Some(format!(
            "the trace is not whole, {lost} lines were lost: {error}; give it a place with room"
        )),
        None if lost > 0 => Some(format!(
            "the trace is not whole: {lost} lines came too fast to be written; give it a faster \
             place, or ask for less at a time"
        )),
        None => None,
    }
}
