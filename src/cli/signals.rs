//! [`Signals`]: what a server is asked by signals.

use super::exit::Failure;
use rustix::event::{PollFd, PollFlags, poll};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::flag::register_conditional_shutdown;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use ublkit::ErrorKind;

/// The signals that stop the server.
const SIGNALS: [i32; 3] = [SIGINT, SIGTERM, SIGHUP];

/// Whether whoever started us wants a signal ignored, as nohup does.
fn is_ignored(signal: i32) -> bool {
    ignores(&std::fs::read_to_string("/proc/self/status").unwrap_or_default(), signal)
}

/// Whether the process of this `/proc/…/status` ignores a signal.
pub(super) fn ignores(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal - 1) & 1 == 1
}

/// Why signals would not be heard.
pub(super) fn uncaught(what: &str, error: &std::io::Error) -> Failure {
    let remedy = "is there too little memory, or are too many files open (ulimit -n)?";
    Failure::Said(ErrorKind::Failed, format!("cannot {what} signals: {error}; {remedy}"))
}

/// Why a server goes on no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A signal asked it to stop.
    Stop,
    /// A signal asked it to leave its device to the next server.
    HandOver,
    /// A signal asked it to look how large the disk is to be.
    Grow,
    /// A queue has ended.
    Ended,
}

/// The signal of `ublkit upgrade`.
pub(super) const HAND_OVER: i32 = SIGUSR1;

/// The signal of `ublkit resize`.
pub(super) const GROW: i32 = SIGUSR2;

/// The signals that stop the server: the first is noted, the second ends the process, unless it is
/// a SIGHUP.
pub(super) struct Signals {
    noted: UnixStream,
    handed: UnixStream,
    grown: UnixStream,
}

impl Signals {
    /// In the background, SIGHUP is none of them: it comes from terminals, and is not heeded.
    pub(super) fn catch(in_background: bool) -> Result<Self, Failure> {
        let failed = |error| uncaught("catch", &error);
        let (noted, note) = UnixStream::pair().map_err(failed)?;
        let (handed, hand) = UnixStream::pair().map_err(failed)?;
        let (grown, grow) = UnixStream::pair().map_err(failed)?;
        let armed = Arc::new(AtomicBool::new(false));
        let mut stopping = SIGNALS.to_vec();
        if in_background {
            stopping.retain(|signal| *signal != SIGHUP);
            signal_hook::flag::register(SIGHUP, Arc::default()).map_err(failed)?;
        }
        for signal in stopping.into_iter().filter(|signal| !is_ignored(*signal)) {
            // A signal's actions are taken in this order: the first finds it not armed yet. A shell
            // and the kernel both send SIGHUP when one terminal goes, which is no second wish.
            if signal != SIGHUP {
                let first = Arc::clone(&armed);
                register_conditional_shutdown(signal, 128 + signal, first).map_err(failed)?;
            }
            signal_hook::flag::register(signal, Arc::clone(&armed)).map_err(failed)?;
            let note = note.try_clone().map_err(failed)?;
            signal_hook::low_level::pipe::register(signal, note).map_err(failed)?;
        }
        signal_hook::low_level::pipe::register(HAND_OVER, hand).map_err(failed)?;
        signal_hook::low_level::pipe::register(GROW, grow).map_err(failed)?;
        Ok(Self { noted, handed, grown })
    }

    /// Waits for a signal or for the device's end.
    pub(super) fn wait(&self, server: &impl AsFd) -> Result<Event, Failure> {
        let mut polled = [
            PollFd::new(&self.noted, PollFlags::IN),
            PollFd::new(&self.handed, PollFlags::IN),
            PollFd::new(&self.grown, PollFlags::IN),
            PollFd::new(server, PollFlags::IN),
        ];
        loop {
            match poll(&mut polled, None) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => {
                    return Err(uncaught("wait for", &error.into()));
                }
            }
            let events = [Event::Stop, Event::HandOver, Event::Grow, Event::Ended];
            let came = |polled: &PollFd<'_>| polled.revents().contains(PollFlags::IN);
            if let Some(at) = polled.iter().position(came) {
                if events[at] == Event::Grow {
                    let _ = (&self.grown).read(&mut [0; 8]); // it may come again
                }
                return Ok(events[at]);
            }
        }
    }
}
