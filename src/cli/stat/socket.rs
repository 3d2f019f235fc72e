//! [`Teller`]: a server's private socket, where others read what its queues do.
//!
//! It lies in the state directory, which nobody else may enter. Whoever connects is told, and that
//! is all: nothing that he says is read.

use super::snapshot;
use crate::cli::state::Directory;
use crate::cli::watch::AllStuck;
use core::time::Duration;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, PoisonError};
use ublkit::{Meter, Reading};

/// How long either side may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a server tells is not longer, whatever its queues.
const MAX_BYTES: u64 = 64 << 20;

/// A socket that tells; removed when dropped.
#[derive(Debug)]
pub(in crate::cli) struct Teller {
    directory: Directory,
    tag: u64,
}

impl Teller {
    /// Tells what the meters of the device with this tag say, to whoever asks. None where there is
    /// no place for a socket: the device is served without.
    pub(in crate::cli) fn begin(tag: u64, meters: &[Arc<Meter>], stuck: AllStuck) -> Option<Self> {
        if meters.is_empty() {
            return None;
        }
        let directory = Directory::open().ok()?;
        directory.remove_socket(tag); // of the server before us
        let listener = UnixListener::bind(directory.socket(tag)).ok()?;
        let teller = Self { directory, tag };
        let meters = meters.to_vec();
        // It ends with the process.
        let thread = std::thread::Builder::new().name("ublk-stat".into());
        thread.spawn(move || tell_all(&listener, &meters, &stuck)).ok()?;
        Some(teller)
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.directory.remove_socket(self.tag);
    }
}

fn tell_all(listener: &UnixListener, meters: &[Arc<Meter>], stuck: &AllStuck) {
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                let _ = tell(stream, meters, stuck); // whoever does not listen is not told
            }
            // Too many files, or no memory: later.
            Err(_) => std::thread::sleep(PATIENCE),
        }
    }
}

fn tell(mut stream: UnixStream, meters: &[Arc<Meter>], stuck: &AllStuck) -> std::io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let queues = meters.chunk_by(|one, next| one.queue() == next.queue());
    let read = |threads: &[Arc<Meter>]| {
        threads.iter().fold(Reading::default(), |all, meter| all.with(&meter.read()))
    };
    let readings: Vec<Reading> = queues.map(read).collect();
    let stuck = stuck.lock().unwrap_or_else(PoisonError::into_inner).clone();
    stream.write_all(snapshot::text(&readings, &stuck).as_bytes())
}

/// Asks the server of the device with this tag; the error is half a sentence.
pub(super) fn ask(tag: u64) -> Result<String, String> {
    let directory = Directory::find().map_err(|_| UNREACHED)?;
    let directory = directory.ok_or("no server of ublkit's runs here")?;
    let mut text = String::new();
    let asked = UnixStream::connect(directory.socket(tag)).and_then(|stream| {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.take(MAX_BYTES).read_to_string(&mut text)
    });
    asked.map_err(|error| silent(&error))?;
    Ok(text)
}

/// Why nothing is heard of a server, in half a sentence:
pub(super) const UNREACHED: &str = "its server's socket cannot be reached";

/// the same.
pub(super) fn silent(error: &std::io::Error) -> String {
    format!("its server's socket: {error}")
}
