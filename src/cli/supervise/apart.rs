//! Commands that a process of its own carries out, so that whoever gave one is answered in time.
//!
//! A process does not end before its control commands have (docs/protocol.md): one that gave up
//! STOP_DEV still waits for it, perhaps for a server that answers nothing. So that process says how
//! it went, and nobody waits for its end.

use super::other::Other;
use crate::cli::exit::Failure;
use rustix::process::Signal;

const APART: &str = "--apart";

/// Where a command is carried out.
#[derive(clap::Args, Clone, Copy, Debug)]
pub(in crate::cli) struct Apart {
    /// The process that does it.
    #[arg(long, hide = true)]
    apart: bool,
}

impl Apart {
    /// Whether this process was started for its command, and says how it went.
    pub(in crate::cli) fn is_there(self) -> bool {
        self.apart
    }

    /// Does `work` in a process of its own, or is that process.
    ///
    /// # Errors
    /// What the other process ended with, which it has said.
    pub(in crate::cli) fn run(
        self,
        work: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if self.apart {
            // Where nobody wants it any more, it need not go on.
            let _ = rustix::process::set_parent_process_death_signal(Some(Signal::TERM));
            return work();
        }
        let mut words: Vec<_> = std::env::args_os().skip(1).collect();
        words.insert(words.len().min(1), APART.into()); // after the command's name
        let Ok(mut other) = Other::start(words.into_iter()) else {
            return work(); // all the same
        };
        let said = other.line()?;
        let Ok(code) = said.parse() else {
            return Err(other.gone("the process that did it ended before it had"));
        };
        if code != 0 {
            return Err(Failure::Told(code)); // the kernel may have a command of it still
        }
        other.wait(); // which has nothing left to do, and so leaves nothing in use
        Ok(())
    }
}
