//! What a server does for whoever looks after it, and for a machine that depends on it.

mod apart;
mod background;
mod memory;
mod mounts;
mod notify;
mod other;
mod unit;

pub(super) use apart::Apart;
#[cfg(test)]
pub(super) use apart::UNDONE;
#[cfg(test)]
pub(super) use background::NOT_LIVE;
pub(super) use background::{is_about_background, let_go};
#[cfg(test)]
pub(super) use memory::{unlocked, unset};
pub(super) use notify::{Notify, VARIABLE as NOTIFY_VARIABLE};
pub(super) use other::ended;
#[cfg(test)]
pub(super) use other::{failed, wordless};
#[cfg(any(test, fuzzing))]
pub(super) use unit::told;
pub(super) use unit::{Unit, unit_of};

use super::exit::Failure;
use super::trace::Tracing;
use std::path::Path;
use ublkit::ErrorKind;

/// Where a server runs.
#[derive(clap::Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Supervision")]
pub(super) struct Background {
    /// Return once the disk is live, and serve on in the background
    ///
    /// The exit code and the sentence of one that cannot be served are those of the foreground. A
    /// server in the background has nothing to do with the terminal any more, has none of its
    /// caller's files open, and does not heed SIGHUP.
    #[arg(long)]
    background: bool,
    /// The server that '--background' has started.
    #[arg(long, hide = true, conflicts_with = "background")]
    in_background: bool,
}

impl Background {
    /// Whether this process serves there.
    pub(super) fn is_there(self) -> bool {
        self.in_background
    }

    /// Has another process serve there, if that is wanted; whether it was, and now does.
    ///
    /// # Errors
    /// What the other process ended with, which it has said.
    pub(super) fn begin(self, tracing: &Tracing) -> Result<bool, Failure> {
        if self.background && tracing.is_mixed() {
            let sentence = "in the background there is no standard error: give '--trace' a FILE";
            return Err(Failure::Said(ErrorKind::Usage, sentence.into()));
        }
        if self.background {
            background::start()?;
        }
        Ok(self.background)
    }
}

/// Words of `ublkit serve` about its life as a process.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Supervision")]
pub(super) struct Supervision {
    #[command(flatten)]
    pub(super) background: Background,
    /// Keep all memory of the server in RAM, and take it at once
    ///
    /// For disks that are swapped to, or that others are swapped for. It is the queues' buffers
    /// (queues x depth x largest request) and all of a memory disk.
    #[arg(long)]
    lock_memory: bool,
    /// How gladly the kernel ends the server when memory is short: -1000 (never) to 1000
    #[arg(long, value_name = "SCORE", allow_hyphen_values = true)]
    #[arg(value_parser = clap::value_parser!(i16).range(-1000..=1000))]
    oom_score: Option<i16>,
    /// Stay in the caller's mount namespace
    ///
    /// A server leaves it where it may (CAP_SYS_ADMIN), for it must not be the last in it: whoever
    /// is has to write what is mounted there, also what is on the server's own disk.
    #[arg(long)]
    shared_mounts: bool,
}

impl Supervision {
    /// What is done first.
    pub(super) fn begin(&self) -> Result<(), Failure> {
        if self.background.is_there() {
            background::begin();
        }
        self.oom_score.map_or(Ok(()), memory::set_oom_score)
    }

    /// What is done when all that the server opens by a path of the caller's is open, and no thread
    /// was made. The server still needs what is in `kept`.
    pub(super) fn settle(&self, kept: &[&Path]) -> Result<(), Failure> {
        if !self.shared_mounts {
            mounts::leave(kept);
        }
        if self.lock_memory { memory::lock() } else { Ok(()) }
    }
}

/// For fuzzing: a text, as each of those that are read here.
#[cfg(all(any(test, fuzzing), feature = "sim"))]
pub(super) fn exercise(text: &str) {
    assert!(mounts::exercise(text) <= text.lines().count());
    match other::Line::of(text) {
        Some(other::Line::Live(disk)) => assert!(disk.starts_with('/') && text.starts_with(&disk)),
        Some(other::Line::Ended(code)) => assert_eq!(text.trim_end().parse(), Ok(code)),
        None => assert!(!text.starts_with('/')),
    }
    if let Some(unit) = told(7, text.as_bytes(), text) {
        assert!(text.contains("SYSTEMD_EXEC_PID=7"));
        let command = unit.command("stop");
        assert!(command.starts_with("systemctl ") && !command.contains('\n'), "{command:?}");
    }
}
