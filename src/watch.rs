//! [`Watchdog`]: which queues do not come back from their backend, and which requests wait.

use crate::queue::Meter;
use core::time::Duration;
use std::sync::Arc;

/// What has not come to its end for some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// The queue.
    pub queue: u16,
    /// The slot whose request waits; none where the queue's thread itself is in its backend, and
    /// all that came meanwhile waits with it.
    pub tag: Option<u16>,
    /// For how long, from the first look that saw it.
    pub time: Duration,
}

/// Looks at the [`Meter`]s of a server's queues, again and again, from any thread, and tells what
/// has not changed. That costs the queues nothing but their meters.
#[derive(Debug)]
pub struct Watchdog {
    threads: Vec<Watched>,
}

#[derive(Debug)]
struct Watched {
    meter: Arc<Meter>,
    turn: Seen,
    waits: Box<[Seen]>,
}

/// A mark, and since when it is the same.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    mark: u32,
    since: Duration,
}

impl Seen {
    /// For how long something has been under way; none where it is not. Marks of what is under way
    /// are odd.
    fn look(&mut self, mark: u32, now: Duration) -> Option<Duration> {
        if self.mark != mark {
            *self = Self { mark, since: now };
        }
        (mark % 2 == 1).then(|| now.saturating_sub(self.since))
    }
}

impl Watchdog {
    /// Watches the queues of a [metered](crate::Builder::metered) server.
    pub fn new(meters: &[Arc<Meter>]) -> Self {
        let watch = |meter: &Arc<Meter>| Watched {
            meter: Arc::clone(meter),
            turn: Seen::default(),
            waits: vec![Seen::default(); meter.depth()].into(),
        };
        Self { threads: meters.iter().map(watch).collect() }
    }

    /// Looks, at the time `now` of any clock that does not go back. Answers what has been the same
    /// at all looks for `least` or longer, in the order of the queues.
    pub fn look(&mut self, now: Duration, least: Duration) -> Vec<Stuck> {
        let mut all = Vec::new();
        for Watched { meter, turn, waits } in &mut self.threads {
            let queue = meter.queue();
            let mut tell = |tag, time: Option<Duration>| {
                all.extend(time.filter(|it| *it >= least).map(|time| Stuck { queue, tag, time }));
            };
            tell(None, turn.look(meter.turn(), now));
            for (tag, (seen, mark)) in (0..).zip(waits.iter_mut().zip(meter.waits())) {
                tell(Some(tag), seen.look(mark, now));
            }
        }
        all
    }
}
