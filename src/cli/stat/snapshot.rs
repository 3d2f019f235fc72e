//! [`Snapshot`]: what a device had done at one moment.

use core::time::Duration;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use ublkit::{Latencies, QueueStats, Reading, Stuck};

/// The form of the text. A server and a command that differ in it do not speak with each other.
const VERSION: u64 = 2;

/// A sector of `/sys/block/…/stat`.
const SECTOR_BYTES: u64 = 512;

/// What a device had done at one moment.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Snapshot {
    pub(super) device: u32,
    pub(super) server: Option<u32>,
    /// When, by a clock that never goes back.
    pub(super) time: Duration,
    pub(super) who: Who,
    pub(super) queues: Vec<Reading>,
    /// What does not come to an end, where the server watches that.
    pub(super) stuck: Option<Vec<Stuck>>,
}

/// Who counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// The queues themselves.
    Queues,
    /// The kernel: the whole disk, as if it were one queue, and no latencies.
    Disk,
}

/// The time since boot.
pub(super) fn now() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// What a server tells.
pub(super) fn text(readings: &[Reading], stuck: &[Stuck]) -> String {
    let queue = |reading: &Reading| {
        let QueueStats { reads, writes, others, read_bytes, written_bytes, .. } = reading.stats;
        let QueueStats { errors, panics, timeouts, .. } = reading.stats;
        let latencies: Vec<[u64; 2]> = reading
            .latencies
            .buckets()
            .map(|(time, count)| [u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), count])
            .collect();
        json!({
            "reads": reads,
            "writes": writes,
            "others": others,
            "read_bytes": read_bytes,
            "written_bytes": written_bytes,
            "errors": errors,
            "panics": panics,
            "timeouts": timeouts,
            "in_flight": reading.in_flight,
            "latencies_ns": latencies,
        })
    };
    let time_ns = u64::try_from(now().as_nanos()).unwrap_or(u64::MAX);
    let snapshot = json!({
        "version": VERSION,
        "pid": std::process::id(),
        "time_ns": time_ns,
        "queues": readings.iter().map(queue).collect::<Vec<_>>(),
        "stuck": stuck.iter().map(stuck_json).collect::<Vec<_>>(),
    });
    format!("{snapshot}\n")
}

/// What does not come to an end, as it is told.
pub(in crate::cli) fn stuck_json(stuck: &Stuck) -> Value {
    let Stuck { queue, tag, time } = *stuck;
    json!({ "queue": queue, "tag": tag, "seconds": time.as_secs() })
}

/// The same, read.
fn stuck_of(value: &Value) -> Option<Stuck> {
    let tag = match &value["tag"] {
        Value::Null => None,
        tag => Some(u16::try_from(tag.as_u64()?).ok()?),
    };
    let queue = u16::try_from(value["queue"].as_u64()?).ok()?;
    Some(Stuck { queue, tag, time: Duration::from_secs(value["seconds"].as_u64()?) })
}

impl Snapshot {
    /// Reads what a server told; the error is half a sentence.
    pub(super) fn parse(device: u32, text: &str) -> Result<Self, String> {
        let all: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let number = |value: &Value, name: &str| {
            value[name].as_u64().ok_or_else(|| format!("its server tells no {name}"))
        };
        let version = number(&all, "version")?;
        if version != VERSION {
            return Err(format!(
                "its server is another version of ublkit ({version}), which 'ublkit upgrade' \
                 replaces"
            ));
        }
        let queue = |queue: &Value| -> Result<Reading, String> {
            let stats = QueueStats {
                reads: number(queue, "reads")?,
                writes: number(queue, "writes")?,
                others: number(queue, "others")?,
                read_bytes: number(queue, "read_bytes")?,
                written_bytes: number(queue, "written_bytes")?,
                errors: number(queue, "errors")?,
                panics: number(queue, "panics")?,
                timeouts: number(queue, "timeouts")?,
            };
            let mut latencies = Latencies::default();
            for pair in queue["latencies_ns"].as_array().into_iter().flatten() {
                let (time, count) = (pair[0].as_u64(), pair[1].as_u64());
                let (Some(time), Some(count)) = (time, count) else {
                    return Err("its server tells latencies that are none".into());
                };
                latencies.add(Duration::from_nanos(time), count);
            }
            let in_flight = u32::try_from(number(queue, "in_flight")?).unwrap_or(u32::MAX);
            Ok(Reading { stats, in_flight, latencies })
        };
        let stuck = all["stuck"].as_array().ok_or("its server tells not what is stuck")?;
        let queues = all["queues"].as_array().ok_or("its server tells of no queues")?;
        Ok(Self {
            device,
            server: number(&all, "pid")?.try_into().ok(),
            time: Duration::from_nanos(number(&all, "time_ns")?),
            who: Who::Queues,
            queues: queues.iter().map(queue).collect::<Result<_, _>>()?,
            stuck: Some(stuck.iter().filter_map(stuck_of).collect()),
        })
    }
}

/// What the kernel says of a device's disk, if there is one.
pub(super) fn of_disk(device: u32, server: Option<u32>) -> Option<Snapshot> {
    let text = std::fs::read_to_string(format!("/sys/block/ublkb{device}/stat")).ok()?;
    let reading = disk(&text)?;
    Some(Snapshot {
        device,
        server,
        time: now(),
        who: Who::Disk,
        queues: vec![reading],
        stuck: None,
    })
}

/// A line of `/sys/block/…/stat` (Documentation/block/stat.rst).
pub(super) fn disk(text: &str) -> Option<Reading> {
    let fields: Vec<u64> = text.split_whitespace().map_while(|word| word.parse().ok()).collect();
    let field = |index: usize| fields.get(index).copied();
    let stats = QueueStats {
        reads: field(0)?,
        read_bytes: field(2)?.saturating_mul(SECTOR_BYTES),
        writes: field(4)?,
        written_bytes: field(6)?.saturating_mul(SECTOR_BYTES),
        others: field(11).unwrap_or(0).saturating_add(field(15).unwrap_or(0)), // discards, flushes
        ..QueueStats::default()
    };
    let in_flight = u32::try_from(field(8)?).unwrap_or(u32::MAX);
    Some(Reading { stats, in_flight, latencies: Latencies::default() })
}
