//! `--background`: one process starts the server and tells what came of it, another serves.
//!
//! The server says one line on its standard output, a pipe: its disk's path, once that is live, or
//! the code that it ends with. Then it lets go of the pipe and of the terminal.

use super::other::{Line, Other, failed, let_go_of_standard_files};
use crate::cli::exit::Failure;
use std::ffi::OsStr;
use std::io::Write;

const BACKGROUND: &str = "--background";
/// What the server is told in its place.
const IN_BACKGROUND: &str = "--in-background";

/// Whether a word of `ublkit serve` says no more than where it runs.
pub(in crate::cli) fn is_about_background(word: &OsStr) -> bool {
    word == BACKGROUND || word == IN_BACKGROUND
}

/// Starts the server, and waits for its line.
pub(super) fn start() -> Result<(), Failure> {
    let words = std::env::args_os().skip(1).map(|word| match word {
        word if word == BACKGROUND => IN_BACKGROUND.into(),
        other => other,
    });
    let mut server = Other::start(words).map_err(|error| failed("start", error))?;
    match server.line()? {
        Some(Line::Live(disk)) => {
            let mut out = std::io::stdout().lock();
            // It is live in any case, and can be found by 'ublkit list'.
            Ok(writeln!(out, "{disk}").and_then(|()| out.flush())?)
        }
        Some(Line::Ended(code)) => Err(Failure::Told(code)), // it has said why
        None => Err(server.gone(NOT_LIVE)),
    }
}

/// How a server ended that said nothing.
pub(in crate::cli) const NOT_LIVE: &str = "the server ended before its disk was live";

/// The server begins: the terminal has no power over it.
pub(super) fn begin() {
    let _ = rustix::process::setsid(); // it fails for a session's leader, who needs none
}

/// The disk is live and its path was said: nobody is waited for, or kept waiting, any more.
pub(in crate::cli) fn let_go() {
    let_go_of_standard_files();
    let _ = std::env::set_current_dir("/");
}
