//! What was measured: samples, and the run that they are of.

use serde_json::{Value, json};

/// What clients saw of a disk.
#[derive(Debug)]
pub struct Seen {
    pub iops: f64,
    pub bytes_per_second: f64,
    pub latency_ns: [f64; 3],
    /// What the server's threads had of CPUs, where it is a process.
    pub cpu_ns_per_io: Option<f64>,
}

/// One run of one contender in one cell.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The group's name, the cell's and the contender's.
    pub key: [String; 3],
    pub round: usize,
    pub iops: f64,
    pub bytes_per_second: f64,
    /// Completion latencies: median, 99 % and 99.9 %.
    pub latency_ns: [f64; 3],
    /// Of the server, where it is a process.
    pub cpu_ns_per_io: Option<f64>,
}

impl Sample {
    pub fn new(key: [String; 3], round: usize, seen: &Seen) -> Self {
        let Seen { iops, bytes_per_second, latency_ns, cpu_ns_per_io } = *seen;
        Self { key, round, iops, bytes_per_second, latency_ns, cpu_ns_per_io }
    }

    pub fn to_json(&self) -> Value {
        json!({
            "group": self.key[0], "cell": self.key[1], "contender": self.key[2],
            "round": self.round, "iops": self.iops, "bytes_per_second": self.bytes_per_second,
            "latency_ns": self.latency_ns, "cpu_ns_per_io": self.cpu_ns_per_io,
        })
    }

    pub fn from_json(value: &Value) -> Option<Self> {
        let text = |name: &str| Some(value[name].as_str()?.to_owned());
        let latency = |index: usize| value["latency_ns"][index].as_f64();
        Some(Self {
            key: [text("group")?, text("cell")?, text("contender")?],
            round: usize::try_from(value["round"].as_u64()?).ok()?,
            iops: value["iops"].as_f64()?,
            bytes_per_second: value["bytes_per_second"].as_f64()?,
            latency_ns: [latency(0)?, latency(1)?, latency(2)?],
            cpu_ns_per_io: value["cpu_ns_per_io"].as_f64(),
        })
    }
}

/// What one boot brought.
#[derive(Debug)]
pub struct Run {
    pub release: String,
    /// The kernel as it was built: its package's version, too.
    pub build: String,
    pub date: String,
    pub missing: Vec<String>,
    /// Cells that came to nothing: a defect of a contender or of the bench.
    pub failed: Vec<String>,
    pub samples: Vec<Sample>,
    pub seconds: u64,
}

impl Run {
    /// The run fails when a cell did, after all else was told.
    pub fn verdict(&self) -> Result<(), String> {
        if self.failed.is_empty() { Ok(()) } else { Err(self.failed.join("; ")) }
    }

    /// The samples of one contender in one cell of one group.
    pub fn of<'a>(&'a self, key: [&'a str; 3]) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| sample.key.iter().map(String::as_str).eq(key))
    }

    /// The groups, in their order.
    pub fn groups(&self) -> Vec<&str> {
        let of_missing = self.missing.iter().filter_map(|line| line.split(": ").next());
        once(self.samples.iter().map(|sample| sample.key[0].as_str()).chain(of_missing))
    }

    /// A group's cells (1) or contenders (2), in their order.
    pub fn names(&self, group: &str, which: usize) -> Vec<&str> {
        let here = self.samples.iter().filter(|sample| sample.key[0] == group);
        once(here.map(|sample| sample.key[which].as_str()))
    }
}

/// The least, the median and the most of some figures.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    pub least: f64,
    pub median: f64,
    pub most: f64,
}

impl Spread {
    pub fn of(figures: impl Iterator<Item = f64>) -> Option<Self> {
        let mut figures: Vec<f64> = figures.collect();
        figures.sort_by(f64::total_cmp);
        let (&least, &most) = (figures.first()?, figures.last()?);
        let middle = figures.len() / 2;
        let even = figures.len().is_multiple_of(2);
        let median = if even {
            f64::midpoint(figures[middle - 1], figures[middle])
        } else {
            figures[middle]
        };
        Some(Self { least, median, most })
    }

    /// How far the figures are apart, to either side, as a part of the median.
    pub fn half_width(&self) -> f64 {
        (self.most - self.least) / self.median / 2.0
    }
}

/// Names in the order in which they came, once each.
pub fn once<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut all: Vec<&str> = Vec::new();
    for name in names {
        if !all.contains(&name) {
            all.push(name);
        }
    }
    all
}
