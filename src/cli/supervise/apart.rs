//! Commands that a process of its own carries out, so that whoever gave one is answered in time.
//!
//! A process does not end before its control commands have (docs/protocol.md): one that gave up
//! STOP_DEV still waits for it, perhaps for a server that answers nothing. So that process says how
//! it went, and nobody waits for its end.

use super::other::{Line, Other};
use crate::cli::exit::Failure;
use rustix::process::Signal;

const APART: &str = "--apart";

/// Where a command is carried out.
#[derive(clap::Args, Clone, Copy, Debug)]
pub(in crate::cli) struct Apart {
    /// The process that does it, and for whom: that one's number.
    #[arg(long, hide = true, value_name = "PARENT")]
    apart: Option<u32>,
}

impl Apart {
    /// Whether this process was started for its command, and says how it went.
    pub(in crate::cli) fn is_there(self) -> bool {
        self.apart.is_some()
    }

    /// Does `work` in a process of its own, or is that process.
    ///
    /// # Errors
    /// What the other process ended with, which it has said.
    pub(in crate::cli) fn run(
        self,
        work: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if let Some(parent) = self.apart {
            return if is_wanted_by(parent) { work() } else { Err(Failure::Told(UNWANTED)) };
        }
        let mut words: Vec<_> = std::env::args_os().skip(1).collect();
        let apart = format!("{APART}={}", std::process::id());
        words.insert(words.len().min(1), apart.into()); // after the command's name
        let Ok(mut other) = Other::start(words.into_iter()) else {
            return work(); // all the same
        };
        let Some(Line::Ended(code)) = other.line()? else {
            return Err(other.gone(UNDONE));
        };
        if code != 0 {
            return Err(Failure::Told(code)); // the kernel may have a command of it still
        }
        other.wait(); // which has nothing left to do, and so leaves nothing in use
        Ok(())
    }
}

/// How a process ended that was to do something.
pub(in crate::cli) const UNDONE: &str = "the process that did it ended before it had";

/// What a process ends with that nobody wants any more: as by the signal that would tell it.
const UNWANTED: u8 = 128 + 15;

/// Whether `parent` still waits for this process, which from then on ends with it: nobody else
/// wants its work.
fn is_wanted_by(parent: u32) -> bool {
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::TERM));
    // One that has ended before sends no signal; then another is our parent by now.
    std::os::unix::process::parent_id() == parent
}
