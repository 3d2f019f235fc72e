//! Totals as Prometheus reads them (text format 0.0.4).

use super::snapshot::{Snapshot, Who};
use ublkit::Reading;

/// Latencies are told up to 2^n nanoseconds, for these n: 1 us to 8.6 s. Limits that stay the same
/// can be compared over time and between queues.
const POWERS: core::ops::RangeInclusive<u32> = 10..=33;

/// A number of a queue, by the labels that it has beside the queue's.
type Number = (&'static str, fn(&Reading) -> u64);

/// A family of numbers.
struct Family {
    name: &'static str,
    help: &'static str,
    kind: &'static str,
    /// Whether the kernel counts it, too, where a server tells nothing.
    of_kernel: bool,
    numbers: &'static [Number],
}

const FAMILIES: &[Family] = &[
    Family {
        name: "ublkit_requests_total",
        help: "Requests answered with success.",
        kind: "counter",
        of_kernel: true,
        numbers: &[
            (",operation=\"read\"", |reading| reading.stats.reads),
            (",operation=\"write\"", |reading| reading.stats.writes),
            (",operation=\"other\"", |reading| reading.stats.others),
        ],
    },
    Family {
        name: "ublkit_bytes_total",
        help: "Bytes of those requests.",
        kind: "counter",
        of_kernel: true,
        numbers: &[
            (",operation=\"read\"", |reading| reading.stats.read_bytes),
            (",operation=\"write\"", |reading| reading.stats.written_bytes),
        ],
    },
    Family {
        name: "ublkit_errors_total",
        help: "Requests answered with an error.",
        kind: "counter",
        of_kernel: false,
        numbers: &[("", |reading| reading.stats.errors)],
    },
    Family {
        name: "ublkit_panics_total",
        help: "Of those: because the backend panicked.",
        kind: "counter",
        of_kernel: false,
        numbers: &[("", |reading| reading.stats.panics)],
    },
    Family {
        name: "ublkit_timeouts_total",
        help: "Of those: because the request had waited for too long.",
        kind: "counter",
        of_kernel: false,
        numbers: &[("", |reading| reading.stats.timeouts)],
    },
    Family {
        name: "ublkit_in_flight",
        help: "Requests not answered yet.",
        kind: "gauge",
        of_kernel: true,
        numbers: &[("", |reading| reading.in_flight.into())],
    },
];

const LATENCY: &str = "ublkit_sampled_latency_seconds";

/// All numbers of devices. What the kernel counted is one queue, `disk`.
pub(super) fn text(snapshots: &[Snapshot]) -> String {
    let mut text = String::new();
    for Family { name, help, kind, of_kernel, numbers } in FAMILIES {
        text += &format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
        let counted = |who| *of_kernel || who == Who::Queues;
        for (labels, reading, _) in queues(snapshots).filter(|(.., who)| counted(*who)) {
            for (more, number) in *numbers {
                text += &format!("{name}{{{labels}{more}}} {}\n", number(reading));
            }
        }
    }
    text += &format!("# HELP {LATENCY} Time in the server, of a sample of requests.\n");
    text += &format!("# TYPE {LATENCY} histogram\n");
    for (labels, reading, who) in queues(snapshots) {
        if who == Who::Queues {
            text += &latencies(&labels, reading);
        }
    }
    text
}

/// The queues of all devices, by their labels.
fn queues(snapshots: &[Snapshot]) -> impl Iterator<Item = (String, &Reading, Who)> {
    snapshots.iter().flat_map(|Snapshot { device, who, queues, .. }| {
        queues.iter().enumerate().map(move |(index, reading)| {
            let queue = match who {
                Who::Queues => index.to_string(),
                Who::Disk => "disk".into(),
            };
            (format!("device=\"{device}\",queue=\"{queue}\""), reading, *who)
        })
    })
}

fn latencies(labels: &str, reading: &Reading) -> String {
    let buckets: Vec<(f64, u64)> = reading
        .latencies
        .buckets()
        .map(|(longest, count)| (longest.as_secs_f64(), count))
        .collect();
    let mut text = String::new();
    for power in POWERS {
        let limit = (1_u64 << power) as f64 / 1e9;
        let within: u64 =
            buckets.iter().filter(|(longest, _)| *longest < limit).map(|(_, count)| count).sum();
        text += &format!("{LATENCY}_bucket{{{labels},le=\"{limit}\"}} {within}\n");
    }
    let count = reading.latencies.count();
    let sum = buckets.iter().fold(0.0, |sum, (longest, count)| sum + longest * *count as f64);
    text += &format!("{LATENCY}_bucket{{{labels},le=\"+Inf\"}} {count}\n");
    text += &format!("{LATENCY}_sum{{{labels}}} {sum}\n{LATENCY}_count{{{labels}}} {count}\n");
    text
}
