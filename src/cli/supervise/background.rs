//! `--background`: one process starts the server and tells what came of it, another serves.
//!
//! The server says one line on its standard output, a pipe: its disk's path, once that is live, or
//! the code that it ends with. Then it lets go of the pipe and of the terminal.

use crate::cli::exit::Failure;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use ublkit::ErrorKind;

const BACKGROUND: &str = "--background";
/// What the server is told in its place.
const IN_BACKGROUND: &str = "--in-background";

/// Whether a word of `ublkit serve` says no more than where it runs.
pub(in crate::cli) fn is_about_background(word: &OsStr) -> bool {
    word == BACKGROUND || word == IN_BACKGROUND
}

/// Starts the server, and waits for its line.
pub(super) fn start() -> Result<(), Failure> {
    let failed = |what: &str, error: std::io::Error| {
        Failure::Said(ErrorKind::Failed, format!("cannot {what} a server: {error}"))
    };
    let words = std::env::args_os().skip(1).map(|word| match word {
        word if word == BACKGROUND => IN_BACKGROUND.into(),
        other => other,
    });
    // Told apart by its path, not by what this process is called.
    let program = std::env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into());
    let mut server = Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed("start", error))?;
    let mut line = String::new();
    let pipe = server.stdout.take().expect("piped");
    BufReader::new(pipe).read_line(&mut line).map_err(|error| failed("hear of", error))?;
    if line.starts_with('/') {
        let mut out = std::io::stdout().lock();
        // It is live in any case, and can be found by 'ublkit list'.
        return Ok(out.write_all(line.as_bytes()).and_then(|()| out.flush())?);
    }
    match line.trim_end().parse() {
        Ok(code) => Err(Failure::Told(code)), // it has said why
        Err(_) => {
            let ended = server.wait().map_err(|error| failed("wait for", error))?;
            let sentence = format!("the server ended before its disk was live ({ended})");
            Err(Failure::Said(ErrorKind::Failed, sentence))
        }
    }
}

/// The server begins: the terminal has no power over it.
pub(super) fn begin() {
    let _ = rustix::process::setsid(); // it fails for a session's leader, who needs none
}

/// The disk is live and its path was said: nobody is waited for, or kept waiting, any more.
pub(in crate::cli) fn let_go() {
    let_go_of_standard_files();
    let _ = std::env::set_current_dir("/");
}

fn let_go_of_standard_files() {
    let Ok(null) = File::options().read(true).write(true).open("/dev/null") else { return };
    let _ = rustix::stdio::dup2_stdin(&null);
    let _ = rustix::stdio::dup2_stdout(&null);
    let _ = rustix::stdio::dup2_stderr(&null);
}

/// The server ends with this code. If whoever started it still waits, he is told: the process
/// itself may stay for long, when the kernel does not let it go.
pub(in crate::cli) fn ended(code: u8) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{code}").and_then(|()| out.flush());
    let_go_of_standard_files();
}
