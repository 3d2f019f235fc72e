//! [`Meter`]: what a queue does, for others to read while it serves; and what that costs the queue.
//!
//! The queue's thread alone writes, relaxed: nothing waits, and nothing is exact to the request
//! between two of its numbers. All is done once a turn, not once a request. Only one turn of some
//! is timed, by two looks at the clock: a request is answered by the system call after its turn, so
//! all that begin and end in one took the same.

use super::QueueStats;
use crate::kernel::Kernel;
use crate::latency::{BUCKETS, Latencies, bucket};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use core::time::Duration;
use std::sync::Arc;

/// What a queue has done and does, readable from any thread while it serves
/// ([`Builder::metered`](crate::Builder::metered)).
#[derive(Debug)]
#[repr(align(128))] // of two caches' lines: queues do not disturb each other
pub struct Meter {
    queue: u16,
    counts: [AtomicU64; QueueStats::COUNTS],
    in_flight: AtomicU32,
    /// Counts beginnings and ends of turns, so that it is odd during one,
    turn: AtomicU32,
    /// and those of the waits of each slot's requests.
    waits: Box<[AtomicU32]>,
    latencies: [AtomicU64; BUCKETS],
}

/// What a [`Meter`] said at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// What the queue has done since it began.
    pub stats: QueueStats,
    /// Requests that it has not answered yet.
    pub in_flight: u32,
    /// How long requests took in the server, from when it was told of them until it had answered: a
    /// sample, of one turn of the queue in some thirty-two.
    pub latencies: Latencies,
}

impl Reading {
    /// Both together: of threads of one queue, or of several queues.
    #[must_use]
    pub fn with(&self, other: &Self) -> Self {
        let mut stats = self.stats;
        stats += other.stats;
        Self {
            stats,
            in_flight: self.in_flight.saturating_add(other.in_flight),
            latencies: self.latencies.with(&other.latencies),
        }
    }
}

impl Meter {
    /// Of a queue so deep, or of one of its threads.
    pub(crate) fn new(queue: u16, depth: u16) -> Self {
        Self {
            queue,
            counts: [const { AtomicU64::new(0) }; QueueStats::COUNTS],
            in_flight: AtomicU32::new(0),
            turn: AtomicU32::new(0),
            waits: (0..depth).map(|_| AtomicU32::new(0)).collect(),
            latencies: [const { AtomicU64::new(0) }; BUCKETS],
        }
    }

    /// Whose it is: a queue that has several threads has as many meters.
    pub fn queue(&self) -> u16 {
        self.queue
    }

    /// How deep its queue is.
    pub(crate) fn depth(&self) -> usize {
        self.waits.len()
    }

    /// A number that is odd while the queue's thread is not in the kernel, and another each time.
    pub(crate) fn turn(&self) -> u32 {
        self.turn.load(Ordering::Relaxed)
    }

    /// For each slot, a number that is odd while its request waits, and another each time.
    pub(crate) fn waits(&self) -> impl Iterator<Item = u32> {
        self.waits.iter().map(|mark| mark.load(Ordering::Relaxed))
    }

    /// What it says now.
    pub fn read(&self) -> Reading {
        let counts = core::array::from_fn(|index| self.counts[index].load(Ordering::Relaxed));
        Reading {
            stats: QueueStats::of(counts),
            in_flight: self.in_flight.load(Ordering::Relaxed),
            latencies: Latencies::of(|bucket| self.latencies[bucket].load(Ordering::Relaxed)),
        }
    }

    #[inline]
    fn publish(&self, stats: &QueueStats, in_flight: u32) {
        for (shared, count) in self.counts.iter().zip(stats.counts()) {
            shared.store(count, Ordering::Relaxed);
        }
        self.in_flight.store(in_flight, Ordering::Relaxed);
    }

    /// Something begins or ends. Nobody else writes: no need for an addition that is one step.
    #[inline]
    fn mark(mark: &AtomicU32) {
        mark.store(mark.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    fn took(&self, time: Duration, requests: u64) {
        let count = &self.latencies[bucket(nanoseconds(time))];
        count.store(count.load(Ordering::Relaxed) + requests, Ordering::Relaxed);
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Since when a request waits for something, beyond the turn in which it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Since {
    /// It does not wait.
    Answered,
    /// Its turn was not timed.
    Untimed,
    /// The beginning of its turn.
    Time(Duration),
}

/// A queue's own side of its meter.
#[derive(Debug)]
pub(super) struct Metering {
    meter: Arc<Meter>,
    /// When the turn began, if it is one that is timed.
    began: Option<Duration>,
    /// How many turns there are until one is timed: at random, or clients that take turns of their
    /// own would be seen on one side alone.
    until_timed: u64,
    dice: u64,
    /// Requests answered before the last turn that was timed began,
    answered: u64,
    /// and those answered since that had waited.
    late: u64,
    /// The timed ones among them: since when. Never longer than the queue is deep.
    ended: Vec<Duration>,
    /// For each slot, since when its request waits.
    since: Box<[Since]>,
    waiting: u32,
    depth: u32,
    /// Whether each completion is a request, not an operation of one, nor many.
    only_requests: bool,
}

/// Turns from one that is timed to the next: 1 to this, and so half of it.
const MOST_UNTIMED: u64 = 64;

impl Metering {
    /// Of a queue so deep; and whether each of its completions is a request.
    pub(super) fn new(meter: Arc<Meter>, depth: u16, only_requests: bool) -> Self {
        Self {
            meter,
            began: None,
            until_timed: 1,
            dice: 0,
            answered: 0,
            late: 0,
            ended: Vec::with_capacity(depth.into()),
            since: vec![Since::Answered; depth.into()].into(),
            waiting: 0,
            depth: depth.into(),
            only_requests,
        }
    }

    /// A turn begins, with so many completions to handle.
    #[inline]
    pub(super) fn begin(&mut self, completions: u32, stats: &QueueStats, kernel: &impl Kernel) {
        Meter::mark(&self.meter.turn);
        self.until_timed -= 1;
        if self.until_timed == 0 {
            self.begin_timed(stats, kernel);
        }
        if self.only_requests {
            self.came(completions);
        }
    }

    /// So many requests came, and none of this turn has its answer before the turn is over: a
    /// backend that is stuck in its call is seen to have them.
    #[inline]
    pub(super) fn came(&mut self, requests: u32) {
        let in_flight = (self.waiting + requests).min(self.depth);
        self.meter.in_flight.store(in_flight, Ordering::Relaxed);
    }

    #[cold]
    fn begin_timed(&mut self, stats: &QueueStats, kernel: &impl Kernel) {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        self.until_timed = 1 + (self.dice >> 32) % MOST_UNTIMED;
        (self.answered, self.late) = (stats.answered(), 0);
        self.began = Some(kernel.now());
    }

    /// The turn is over: what was answered in it is about to be told to the kernel.
    #[inline]
    pub(super) fn end(&mut self, stats: &QueueStats, kernel: &impl Kernel) {
        if self.began.is_some() || !self.ended.is_empty() {
            self.end_timed(stats, kernel);
        }
        self.meter.publish(stats, self.waiting);
        Meter::mark(&self.meter.turn);
    }

    #[cold]
    fn end_timed(&mut self, stats: &QueueStats, kernel: &impl Kernel) {
        let now = kernel.now();
        if let Some(began) = self.began.take() {
            let fresh = stats.answered() - self.answered - self.late;
            self.meter.took(now.saturating_sub(began), fresh);
        }
        for since in self.ended.drain(..) {
            self.meter.took(now.saturating_sub(since), 1);
        }
    }

    /// The queue is over, and whatever it had was answered.
    pub(super) fn finish(&self, stats: &QueueStats) {
        self.meter.publish(stats, 0);
        for mark in self.meter.waits.iter().chain([&self.meter.turn]) {
            if mark.load(Ordering::Relaxed) % 2 == 1 {
                Meter::mark(mark);
            }
        }
    }

    /// A request is not answered in the turn in which it came. May be said more than once.
    pub(super) fn waits(&mut self, tag: u16) {
        let since = &mut self.since[usize::from(tag)];
        if *since == Since::Answered {
            *since = self.began.map_or(Since::Untimed, Since::Time);
            self.waiting += 1;
            Meter::mark(&self.meter.waits[usize::from(tag)]);
        }
    }

    /// A request was answered that may have waited.
    pub(super) fn ended(&mut self, tag: u16) {
        match self.forget(tag) {
            Since::Answered => return,
            Since::Untimed => {}
            Since::Time(since) => self.ended.push(since),
        }
        self.late += 1;
    }

    /// A request that may have waited is not the server's any more; since when it waited.
    pub(super) fn forget(&mut self, tag: u16) -> Since {
        let since = core::mem::replace(&mut self.since[usize::from(tag)], Since::Answered);
        if since != Since::Answered {
            self.waiting -= 1;
            Meter::mark(&self.meter.waits[usize::from(tag)]);
        }
        since
    }
}
#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::Played;

    const MS: Duration = Duration::from_millis(1);

    /// A meter of a queue of four slots, and the queue's side of it.
    fn metering(only_requests: bool) -> (Arc<Meter>, Metering) {
        let meter = Arc::new(Meter::new(0, 4));
        (Arc::clone(&meter), Metering::new(meter, 4, only_requests))
    }

    fn answered(reads: u64) -> QueueStats {
        QueueStats { reads, read_bytes: 512 * reads, ..QueueStats::default() }
    }

    /// Of each time how many requests took it, to the bucket.
    fn took(times: &[(u32, u64)]) -> Latencies {
        let mut latencies = Latencies::default();
        times.iter().for_each(|(ms, requests)| latencies.add(*ms * MS, *requests));
        latencies
    }

    /// From the begin of the turn in which it came to the end of that in which it was answered. The
    /// first two turns are timed.
    #[test]
    fn requests_are_timed() {
        let kernel = Played::default();
        let (meter, mut metering) = metering(true);
        metering.begin(3, &answered(0), &kernel);
        assert_eq!(meter.read().in_flight, 3, "none of them is answered yet");
        kernel.sleep(MS);
        metering.waits(1);
        metering.waits(1);
        metering.ended(2); // it never waited
        metering.end(&answered(2), &kernel);
        let reading = Reading { stats: answered(2), in_flight: 1, latencies: took(&[(1, 2)]) };
        assert_eq!(meter.read(), reading);

        kernel.sleep(4 * MS);
        metering.begin(2, &answered(2), &kernel);
        assert_eq!(meter.read().in_flight, 3);
        kernel.sleep(2 * MS);
        metering.ended(1);
        metering.waits(3);
        metering.end(&answered(4), &kernel);
        let latencies = took(&[(1, 2), (2, 1), (7, 1)]);
        assert_eq!(meter.read(), Reading { stats: answered(4), in_flight: 1, latencies });

        // What came in a turn that was timed is timed to its end in one that is not.
        kernel.sleep(8 * MS);
        metering.begin(0, &answered(4), &kernel);
        metering.ended(3);
        metering.end(&answered(5), &kernel);
        let latencies = took(&[(1, 2), (2, 1), (7, 1), (10, 1)]);
        assert_eq!(meter.read(), Reading { stats: answered(5), in_flight: 0, latencies });
        metering.waits(0);
        metering.end(&answered(5), &kernel);
        assert_eq!(meter.read().in_flight, 1);
        metering.finish(&answered(6));
        assert_eq!(meter.read().stats, answered(6));
        assert_eq!(meter.read().in_flight, 0);
    }

    /// One turn in thirty-two, at random, and never none of 64 in a row.
    #[test]
    fn some_turns_are_timed() {
        let kernel = Played::default();
        let (meter, mut metering) = metering(false);
        let (mut last, mut gaps) = (0, Vec::new());
        for turn in 1..=32_000 {
            metering.begin(4, &answered(turn - 1), &kernel);
            assert_eq!(meter.read().in_flight, 0, "they may be operations");
            metering.end(&answered(turn), &kernel);
            if meter.read().latencies.count() > gaps.len() as u64 {
                gaps.push(turn - last);
                last = turn;
            }
        }
        assert_eq!(gaps.iter().max(), Some(&MOST_UNTIMED));
        assert!((800..1200).contains(&gaps.len()), "{}", gaps.len());
        assert!((1..=MOST_UNTIMED).all(|gap| gaps.contains(&gap)), "at random");
    }

    /// What waits, and whether the thread is in the kernel, is told by marks that are odd; when the
    /// queue is over no mark is.
    #[test]
    fn marks_are_odd_while_it_lasts() {
        let kernel = Played::default();
        let (meter, mut metering) = metering(true);
        assert_eq!(meter.depth(), 4);
        let marks = || (meter.turn(), meter.waits().collect::<Vec<_>>());
        assert_eq!(marks(), (0, vec![0; 4]));
        metering.begin(1, &answered(0), &kernel);
        metering.waits(2);
        assert_eq!(marks(), (1, vec![0, 0, 1, 0]));
        metering.end(&answered(0), &kernel);
        metering.begin(1, &answered(0), &kernel);
        metering.ended(2);
        metering.waits(3);
        metering.waits(1);
        assert_eq!(marks(), (3, vec![0, 1, 2, 1]));
        metering.finish(&answered(3));
        assert_eq!(marks(), (4, vec![0, 2, 2, 2]));
    }

    /// More completions than slots are not requests under way.
    #[test]
    fn no_more_are_in_flight_than_there_are_slots() {
        let (meter, mut metering) = metering(false);
        metering.waits(0);
        metering.came(2);
        assert_eq!(meter.read().in_flight, 3);
        metering.came(4);
        assert_eq!(meter.read().in_flight, 4);
    }
}
