//! `--trace`: where a server's conversation with the kernel goes.

use super::exit::{Failure, say};
use clap::{Args, ValueEnum};
use core::time::Duration;
use std::fs::File;
use ublkit::trace::{Detail, Format, Lines};
use ublkit::{ErrorKind, Linux};

/// How long what is left of a trace may take to be written.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Args, Debug)]
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
}

impl Tracing {
    /// Begins the trace, if one is wanted.
    pub(super) fn begin(&self) -> Result<Option<Trace>, Failure> {
        let Some(place) = &self.trace else { return Ok(None) };
        let (format, detail) = match self.trace_format {
            TraceFormat::Text => (Format::Text, Detail::default()),
            TraceFormat::Json => (Format::Json, Detail::ALL),
        };
        let lines = match place.as_str() {
            "-" => Lines::new(format, std::io::stderr()),
            path => File::create(path).and_then(|file| Lines::new(format, file)),
        };
        let failed = |error| {
            let sentence = format!("cannot write the trace to {place}: {error}");
            Failure::Said(ErrorKind::Failed, sentence)
        };
        Ok(Some(Trace { lines: lines.map_err(failed)?, detail }))
    }
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
            Some(error) => say(&format!("the trace is not whole, {lost} lines were lost: {error}")),
            None if lost > 0 => {
                say(&format!("the trace is not whole: {lost} lines came too fast to be written"));
            }
            None => {}
        }
    }
}
