//! [`Rates`]: what a device did between two moments, in a second.

use super::or_null;
use super::snapshot::{Snapshot, Who};
use core::time::Duration;
use serde_json::{Value, json};
use ublkit::{Latencies, QueueStats, Reading};

/// What a device did between two moments.
#[derive(Clone, Debug)]
pub(super) struct Rates {
    pub(super) device: u32,
    pub(super) server: Option<u32>,
    pub(super) who: Who,
    seconds: f64,
    pub(super) queues: Vec<Rate>,
    /// All queues together.
    pub(super) all: Rate,
}

/// What one queue did in a second.
#[derive(Clone, Debug)]
pub(super) struct Rate {
    pub(super) reads: f64,
    pub(super) writes: f64,
    pub(super) others: f64,
    pub(super) read_bytes: f64,
    pub(super) written_bytes: f64,
    /// Of the time that was looked at, not of a second: each counts.
    pub(super) errors: u64,
    pub(super) in_flight: u32,
    /// Of the time that was looked at.
    pub(super) latencies: Latencies,
    /// Since the queue began.
    totals: QueueStats,
}

/// The parts of requests whose latencies are told.
pub(super) const QUANTILES: [(&str, f64); 4] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

impl Rates {
    pub(super) fn between(before: &Snapshot, after: &Snapshot) -> Self {
        let seconds = after.time.saturating_sub(before.time).as_secs_f64().max(1e-9);
        let nothing = Reading::default();
        let rate = |(index, after): (usize, &Reading)| {
            Rate::between(before.queues.get(index).unwrap_or(&nothing), after, seconds)
        };
        let of = |snapshot: &Snapshot| {
            let queues = snapshot.queues.iter();
            queues.fold(Reading::default(), |all, queue| all.with(queue))
        };
        Self {
            device: after.device,
            server: after.server,
            who: after.who,
            seconds,
            queues: after.queues.iter().enumerate().map(rate).collect(),
            all: Rate::between(&of(before), &of(after), seconds),
        }
    }

    pub(super) fn json(&self) -> Value {
        let queue = |(index, rate): (usize, &Rate)| {
            let mut value = rate.json();
            value["queue"] = index.into();
            value
        };
        let mut all = self.all.json();
        if self.who == Who::Disk {
            all["errors"] = Value::Null; // the kernel does not count them
            for count in ["errors", "panics", "timeouts"] {
                all["totals"][count] = Value::Null;
            }
        }
        let queues: Vec<Value> = self.queues.iter().enumerate().map(queue).collect();
        json!({
            "device": self.device,
            "path": format!("/dev/ublkb{}", self.device),
            "server_pid": self.server,
            "counted_by": match self.who { Who::Queues => "queues", Who::Disk => "kernel" },
            "seconds": self.seconds,
            "queues": match self.who { Who::Queues => queues.into(), Who::Disk => Value::Null },
            "all": all,
        })
    }
}

impl Rate {
    fn between(before: &Reading, after: &Reading, seconds: f64) -> Self {
        let per_second = |count: fn(&QueueStats) -> u64| {
            count(&after.stats).saturating_sub(count(&before.stats)) as f64 / seconds
        };
        Self {
            reads: per_second(|stats| stats.reads),
            writes: per_second(|stats| stats.writes),
            others: per_second(|stats| stats.others),
            read_bytes: per_second(|stats| stats.read_bytes),
            written_bytes: per_second(|stats| stats.written_bytes),
            errors: after.stats.errors.saturating_sub(before.stats.errors),
            in_flight: after.in_flight,
            latencies: after.latencies.since(&before.latencies),
            totals: after.stats,
        }
    }

    /// All requests answered in a second.
    pub(super) fn requests(&self) -> f64 {
        self.reads + self.writes + self.others
    }

    /// The time within which that part of the requests was answered.
    pub(super) fn quantile(&self, part: f64) -> Option<Duration> {
        self.latencies.quantile(part)
    }

    fn json(&self) -> Value {
        let latency = |part| {
            or_null(
                self.quantile(part).map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)),
            )
        };
        let mut latencies = json!({ "sampled": self.latencies.count(), "most": latency(1.0) });
        for (name, part) in QUANTILES {
            latencies[name] = latency(part);
        }
        let totals = &self.totals;
        json!({
            "reads_per_s": self.reads,
            "writes_per_s": self.writes,
            "others_per_s": self.others,
            "read_bytes_per_s": self.read_bytes,
            "written_bytes_per_s": self.written_bytes,
            "errors": self.errors,
            "in_flight": self.in_flight,
            "latency_ns": latencies,
            "totals": {
                "reads": totals.reads,
                "writes": totals.writes,
                "others": totals.others,
                "read_bytes": totals.read_bytes,
                "written_bytes": totals.written_bytes,
                "errors": totals.errors,
                "panics": totals.panics,
                "timeouts": totals.timeouts,
            },
        })
    }
}
