//! What a server says of its own requests that do not come to an end, and when it gives up.

use super::exit;
use core::time::Duration;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use ublkit::{Meter, Stuck, Watchdog};

/// What takes as long is called stuck; or half of what a request may take.
const STUCK: Duration = Duration::from_secs(30);

/// Between two looks.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How often longer than a request may take its backend may not return, before the process ends.
const PATIENCE: u32 = 2;

/// What is stuck now, for whoever asks.
pub(super) type AllStuck = Arc<Mutex<Vec<Stuck>>>;

/// Watches a server's queues, if they have meters, from a thread that ends with the process.
pub(super) fn begin(
    path: String,
    meters: &[Arc<Meter>],
    request_timeout: Option<Duration>,
) -> AllStuck {
    let stuck = AllStuck::default();
    if meters.is_empty() {
        return stuck;
    }
    let mut watchdog = Watchdog::new(meters);
    let least = request_timeout.map_or(STUCK, |most| STUCK.min(most / 2));
    let shared = Arc::clone(&stuck);
    let watch = move || {
        let begun = Instant::now();
        let mut told = false;
        loop {
            std::thread::sleep((least / 4).clamp(PAUSES.0, PAUSES.1));
            let all = watchdog.look(begun.elapsed(), least);
            if !all.is_empty() && !told {
                exit::say(&sentence(&path, &all, request_timeout));
            }
            told = !all.is_empty();
            if let Some(lost) = all.iter().find(|stuck| is_lost(stuck, request_timeout)) {
                exit::say(&given_up(&path, lost.queue));
                std::process::exit(exit::LATE);
            }
            *shared.lock().unwrap_or_else(PoisonError::into_inner) = all;
        }
    };
    let thread = std::thread::Builder::new().name("ublk-watch".into()).spawn(watch);
    if let Err(error) = thread {
        exit::say(&unwatched(&error));
    }
    stuck
}

/// Whether a server should give up for this: its backend has not returned for too long. A request
/// that waits is answered by its queue.
fn is_lost(stuck: &Stuck, request_timeout: Option<Duration>) -> bool {
    stuck.tag.is_none() && request_timeout.is_some_and(|most| stuck.time >= most * PATIENCE)
}

/// What is told at the end.
pub(super) fn given_up(path: &str, queue: u16) -> String {
    format!(
        "the backend of queue {queue} of {path} does not return: this server gives up; with \
         '--recover' another one can go on"
    )
}

/// What is stuck, in the words of all who tell of it; nothing if nothing is.
pub(super) fn what(all: &[Stuck]) -> Option<String> {
    let longest = all.iter().map(|stuck| stuck.time.as_secs()).max()?;
    let what = match (lost_queue(all), all.len()) {
        (Some(queue), _) => format!("the backend of queue {queue} has not returned"),
        (None, 1) => "a request has waited".into(),
        (None, count) => format!("{count} requests have waited"),
    };
    Some(format!("{what} for {longest} s"))
}

/// A queue whose backend does not return.
fn lost_queue(all: &[Stuck]) -> Option<u16> {
    all.iter().find(|stuck| stuck.tag.is_none()).map(|stuck| stuck.queue)
}

/// What is told of some that are stuck.
pub(super) fn sentence(path: &str, all: &[Stuck], request_timeout: Option<Duration>) -> String {
    let what = what(all).unwrap_or_default();
    let then = match (request_timeout, lost_queue(all)) {
        (None, _) => "'--request-timeout' would set an end to that".into(),
        (Some(most), None) => format!("clients get an error after {} s", most.as_secs()),
        (Some(most), Some(_)) => {
            format!("this server gives up after {} s", (most * PATIENCE).as_secs())
        }
    };
    format!("in the server of {path} {what}: its disk or network may hang; {then}")
}

/// What is told where nobody can watch.
pub(super) fn unwatched(error: &std::io::Error) -> String {
    format!(
        "nobody watches for requests that are stuck: {error}; raise the limit on processes \
         (ulimit -u)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_gives_up_for_its_backend_alone() {
        let stuck = |tag, secs| Stuck { queue: 0, tag, time: Duration::from_secs(secs) };
        let most = Some(Duration::from_secs(5));
        assert!(is_lost(&stuck(None, 10), most));
        assert!(!is_lost(&stuck(None, 9), most), "not yet");
        assert!(!is_lost(&stuck(Some(3), 100), most), "a request that waits is no reason");
        assert!(!is_lost(&stuck(None, 100), None), "nobody asked for it");
    }

    #[test]
    fn what_is_stuck_is_said() {
        let stuck = |tag, secs| Stuck { queue: 1, tag, time: Duration::from_secs(secs) };
        let said = |all: &[Stuck], most| sentence("/dev/ublkb0", all, most);
        let (one, two, all) = (stuck(Some(3), 31), stuck(Some(4), 40), stuck(None, 30));
        assert_eq!(
            said(&[one], None),
            "in the server of /dev/ublkb0 a request has waited for 31 s: its disk or network may \
             hang; '--request-timeout' would set an end to that"
        );
        let most = Some(Duration::from_secs(50));
        assert_eq!(
            said(&[one, two], most),
            "in the server of /dev/ublkb0 2 requests have waited for 40 s: its disk or network \
             may hang; clients get an error after 50 s"
        );
        assert_eq!(
            said(&[one, all], most),
            "in the server of /dev/ublkb0 the backend of queue 1 has not returned for 31 s: its \
             disk or network may hang; this server gives up after 100 s"
        );
        assert_eq!(what(&[one]).as_deref(), Some("a request has waited for 31 s"));
        assert_eq!(what(&[]), None);
    }
}
