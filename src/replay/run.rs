//! [`replay`]: holds a recorded conversation again.

use super::pace::{Moments, Paced, Plan};
use super::recording::{Recorded, Recording};
use super::{Error, Report};
use crate::backend::Target;
use crate::device::Builder;
use crate::errno::Errno;
use crate::features::Features;
use crate::kernel::Kernel;
use crate::sim::{Choices, Faults, Injected, Profile, Sim};
use crate::trace::{Detail, Event, Sink, Sums, Traced, What};
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use ublkit_sys::ublk as sys;
use ublkit_sys::ublk::SECTOR_BYTES;

/// The time from one line of the recording to the next.
const STEP: Duration = Duration::from_micros(1);

/// What is compared while it happens.
#[derive(Debug, Default)]
struct Comparison {
    report: Report,
    /// The requests under way, by queue and tag.
    under_way: BTreeMap<(u16, u16), Recorded>,
}

fn lock(comparison: &Mutex<Comparison>) -> MutexGuard<'_, Comparison> {
    comparison.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Listens to the replay, and hands on what it hears.
#[derive(Debug)]
struct Judge<S> {
    comparison: Arc<Mutex<Comparison>>,
    sink: S,
}

impl<S: Sink> Sink for Judge<S> {
    fn take(&self, event: Event) {
        if let What::Commit { slot, result, sums, .. } = &event.what {
            let mut comparison = lock(&self.comparison);
            if let Some(recorded) = comparison.under_way.remove(&(slot.queue, slot.tag)) {
                comparison.report.compare(&recorded, *result, sums.as_ref());
            }
        }
        self.sink.take(event);
    }
}

/// Wants to know nothing.
struct Deaf;

impl Sink for Deaf {
    fn take(&self, _event: Event) {}
}

/// The data of a write, made up; zeros where nothing is known of it.
fn brought(recorded: &Recorded) -> Vec<u8> {
    match (&recorded.sums, recorded.op()) {
        (Some(sums), sys::UBLK_IO_OP_WRITE) => sums.made_up(),
        (None, sys::UBLK_IO_OP_WRITE) => {
            vec![0; usize::try_from(recorded.data_bytes()).unwrap_or(0)]
        }
        _ => Vec::new(),
    }
}

/// A result in words.
fn in_words(result: i32) -> String {
    match Errno::from_result(result) {
        Ok(count) => count.to_string(),
        Err(errno) => errno.name().map_or_else(|| errno.to_string(), str::to_string),
    }
}

/// A request in words.
fn name(recorded: &Recorded) -> String {
    let op = u64::from(recorded.op());
    let found = sys::IO_OPS.iter().find(|constant| constant.value == op);
    let op = found.map_or("an operation", |constant| &constant.name["UBLK_IO_OP_".len()..]);
    let Recorded { queue, tag, .. } = recorded;
    let range = recorded.sectors();
    let offset = range.start.saturating_mul(SECTOR_BYTES);
    let len_bytes = (range.end - range.start) * SECTOR_BYTES;
    if range.is_empty() {
        return format!("{op} (queue {queue}, tag {tag})");
    }
    format!("{op} of {len_bytes} bytes at {offset} (queue {queue}, tag {tag})")
}

impl Report {
    fn compare(&mut self, recorded: &Recorded, result: i32, found: Option<&Sums>) {
        let Some(answer) = &recorded.answer else { return };
        self.answers += 1;
        let line = answer.line;
        if result != answer.result {
            let (now, then) = (in_words(result), in_words(answer.result));
            let what = format!("{} is answered with {now}, not {then}", name(recorded));
            return self.differs(line, what);
        }
        let is_known = recorded.op() == sys::UBLK_IO_OP_READ && result > 0 && !recorded.is_open;
        let (Some(expected), true) = (&answer.sums, is_known) else { return };
        self.reads += 1;
        let sector = match found {
            None => Some(0), // its memory could not be read
            Some(found) => expected.first_difference(found),
        };
        if let Some(sector) = sector {
            let at = recorded.start_sector.saturating_add(sector).saturating_mul(SECTOR_BYTES);
            let what = format!("{} brings other data, from byte {at} on", name(recorded));
            self.differs(line, what);
        }
    }
}

/// Holds a recorded conversation again, with `target`, and says what was otherwise.
///
/// Blocks until all is answered; what the recording waited for takes no time.
///
/// # Errors
///
/// [`Error::Device`]: no device can be made of the target's disk, or it did not end well.
/// [`Error::Stuck`]: nobody could go on.
pub fn replay<T: Target>(recording: &Recording, target: T) -> Result<Report, Error> {
    replay_traced(recording, target, Deaf)
}

/// The same, and tells `sink` what is said this time.
///
/// # Errors
///
/// As [`replay`].
pub fn replay_traced<T: Target>(
    recording: &Recording,
    target: T,
    sink: impl Sink,
) -> Result<Report, Error> {
    let sim = Sim::new(Profile::NEWEST, Choices::first(), Faults::default());
    let device = recording.device;
    sim.set_cpus(device.queues);
    let task = sim.task();
    let judge = Judge { comparison: Arc::default(), sink };
    let comparison = Arc::clone(&judge.comparison);
    let plan = Plan::default();
    let server = Builder::new()
        .queues(device.queues)
        .depth(device.depth)
        .max_io_bytes(device.max_io_bytes)
        // The recording has those requests.
        .features(Features::NO_AUTO_PART_SCAN)
        .serve_on(
            Traced::new(task.clone(), Detail::REPEATABLE, judge),
            Paced { inner: target, plan: plan.clone(), clock: task.clone() },
        )?;
    let start = task.now();
    let moment = |line: usize| {
        let line = u32::try_from(line).unwrap_or(u32::MAX);
        start.saturating_add(STEP.saturating_mul(line))
    };
    let mut askings = BTreeMap::new();
    for recorded in &recording.requests {
        let Recorded { line, queue, tag, .. } = *recorded;
        task.sleep(moment(line).saturating_sub(task.now()));
        if let Some(before) = askings.remove(&(queue, tag))
            && sim.answer(before).is_none()
        {
            // It takes longer than it did, or was never answered.
            sim.until_answered();
            let _ = sim.answer(before);
        }
        let answered = recorded.answer.as_ref().map_or(line, |answer| answer.line);
        let done = recorded.operation_line.unwrap_or(line);
        plan.set(queue, tag, Moments { done: moment(done), answered: moment(answered) });
        let injected = Injected {
            op_flags: recorded.op_flags,
            start_sector: recorded.start_sector,
            nr_sectors: recorded.nr_sectors,
            data: brought(recorded),
        };
        let mut comparison = lock(&comparison);
        comparison.under_way.insert((queue, tag), recorded.clone());
        match sim.inject(server.id(), queue, tag, injected) {
            Some(asking) => {
                comparison.report.requests += 1;
                askings.insert((queue, tag), asking);
            }
            None => {
                let what = format!("{} finds no slot", name(recorded));
                comparison.report.differs(line, what);
            }
        }
    }
    sim.until_answered();
    let stopped = server.stop();
    if let Some(why) = sim.failure() {
        return Err(Error::Stuck(why));
    }
    stopped?;
    let report = std::mem::take(&mut lock(&comparison).report);
    Ok(report)
}
