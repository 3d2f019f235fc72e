//! How people see rates: a table, lines, or a view that is drawn anew.

use super::is_seen;
use super::rates::{QUANTILES, Rate, Rates};
use super::snapshot::Who;
use core::time::Duration;
use std::collections::VecDeque;

/// Queues that a live view shows, so that it fits a terminal of 24 lines.
const MOST_QUEUES: usize = 12;
/// How many moments are remembered.
const HISTORY: usize = 32;
/// Heights of a bar.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

const COLUMNS: [&str; 10] = [
    "QUEUE",
    "READ/s",
    "WRITE/s",
    "OTHER/s",
    "READ B/s",
    "WRITE B/s",
    "IN FLIGHT",
    "P50",
    "P99",
    "ERRORS",
];

/// A row of the table.
fn row(name: &str, rate: &Rate, who: Who) -> [String; COLUMNS.len()] {
    [
        name.into(),
        count(rate.reads),
        count(rate.writes),
        count(rate.others),
        bytes(rate.read_bytes),
        bytes(rate.written_bytes),
        rate.in_flight.to_string(),
        time(rate.quantile(0.5)),
        time(rate.quantile(0.99)),
        if who == Who::Queues { rate.errors.to_string() } else { "-".into() },
    ]
}

/// The rows of a device: its queues, and all of them together.
fn rows(rates: &Rates, most: usize) -> Vec<[String; COLUMNS.len()]> {
    let mut rows = Vec::new();
    if rates.who == Who::Queues && rates.queues.len() > 1 {
        let queues = rates.queues.iter().enumerate().take(most);
        rows.extend(queues.map(|(index, rate)| row(&index.to_string(), rate, rates.who)));
    }
    let all = if rates.who == Who::Queues { "all" } else { "disk" };
    rows.push(row(all, &rates.all, rates.who));
    rows
}

/// One line, its numbers to the right.
fn line(cells: &[String; COLUMNS.len()]) -> String {
    let widths = [5, 6, 7, 7, 9, 9, 9, 6, 6, 6]; // 79 columns in all
    let cells = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:>width$}"));
    cells.collect::<Vec<_>>().join(" ")
}

fn head() -> String {
    line(&COLUMNS.map(String::from))
}

/// What is not told, and why.
fn remark(rates: &Rates) -> Option<String> {
    (rates.who == Who::Disk).then(|| {
        let server = rates.server.map_or_else(|| "nobody".into(), |pid| format!("process {pid}"));
        format!(
            "{server} serves it and tells nothing of its own; this is what the kernel counts, \
             without latencies, queues and errors"
        )
    })
}

/// What a device did, once.
pub(super) fn table(rates: &Rates) -> String {
    let mut text = remark(rates).map_or_else(String::new, |remark| format!("# {remark}\n"));
    text += &format!("{}\n", head());
    for row in rows(rates, usize::MAX) {
        text += &format!("{}\n", line(&row));
    }
    text
}

/// What a device does, line by line.
#[derive(Debug, Default)]
pub(super) struct Lines {
    has_begun: bool,
}

impl Lines {
    pub(super) fn next(&mut self, rates: &Rates, elapsed: Duration) -> String {
        let mut text = String::new();
        if !core::mem::replace(&mut self.has_begun, true) {
            text = remark(rates).map_or(text, |remark| format!("# {remark}\n"));
            text += &format!("{:>7} {}\n", "SECONDS", head());
        }
        for row in rows(rates, usize::MAX) {
            text += &format!("{:>7.1} {}\n", elapsed.as_secs_f64(), line(&row));
        }
        text
    }
}

/// Has a terminal cut lines that are too long for it, or continue them below.
const NO_WRAP: &str = "\x1b[?7l";
const WRAP: &str = "\x1b[?7h";

/// What a device does, drawn over what was drawn before.
#[derive(Debug)]
pub(super) struct Live {
    requests: VecDeque<f64>,
    bytes: VecDeque<f64>,
    /// Lines that are to be drawn over.
    lines: usize,
    has_colours: bool,
}

impl Live {
    /// A view, if it is wanted and there is somebody to see it.
    pub(super) fn begin(is_wanted: bool) -> Option<Self> {
        (is_wanted && is_seen()).then(|| Self::new(std::env::var_os("NO_COLOR").is_none()))
    }

    pub(super) fn new(has_colours: bool) -> Self {
        Self { requests: VecDeque::new(), bytes: VecDeque::new(), lines: 0, has_colours }
    }

    /// The next view, and what goes over the last one.
    pub(super) fn frame(&mut self, rates: &Rates, elapsed: Duration) -> String {
        let all = &rates.all;
        remember(&mut self.requests, all.requests());
        remember(&mut self.bytes, all.read_bytes + all.written_bytes);
        let lines = self.lines(rates, elapsed);
        let mut text = String::from(NO_WRAP); // or a long line would count twice
        if self.lines > 0 {
            text += &format!("\x1b[{}F", self.lines); // up, to the first column
        }
        for line in &lines {
            text += &format!("{line}\x1b[K\n"); // and nothing behind it
        }
        text += "\x1b[J"; // nor below
        text += WRAP;
        self.lines = lines.len();
        text
    }

    fn lines(&self, rates: &Rates, elapsed: Duration) -> Vec<String> {
        let all = &rates.all;
        let server = rates.server.map_or_else(String::new, |pid| format!("   server {pid}"));
        let seconds = elapsed.as_secs();
        let seen = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
        let errors = match all.errors {
            _ if rates.who == Who::Disk => String::new(),
            0 => ", no errors".into(),
            1 => format!(", {}", self.red("1 error")),
            errors => format!(", {}", self.red(&format!("{errors} errors"))),
        };
        let quantiles: Vec<String> = QUANTILES
            .iter()
            .map(|(name, part)| format!("{name} {}", time(all.quantile(*part))))
            .collect();
        let mut lines = vec![
            self.bold(&format!("/dev/ublkb{}{server}   seen for {seen}", rates.device)),
            String::new(),
            format!("requests  {:>9}/s  {}", count(all.requests()), self.bars(&self.requests)),
            format!(
                "data      {:>9}/s  {}",
                bytes(all.read_bytes + all.written_bytes),
                self.bars(&self.bytes)
            ),
            format!("latency   {}", quantiles.join("   ")),
            format!("now       {} in flight{errors}", all.in_flight),
            String::new(),
            self.dim(&head()),
        ];
        lines.extend(rows(rates, MOST_QUEUES).iter().map(line));
        let more = rates.queues.len().saturating_sub(MOST_QUEUES);
        if more > 0 {
            lines.push(format!("and {more} queues more"));
        }
        lines.extend(remark(rates));
        lines
    }

    /// How it went, the latest to the right, in parts of the most.
    fn bars(&self, history: &VecDeque<f64>) -> String {
        let most = history.iter().copied().fold(0.0, f64::max);
        let bar = |value: &f64| {
            let height = if most > 0.0 { value / most * (BARS.len() - 1) as f64 } else { 0.0 };
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 7")]
            BARS[(height.round() as usize).min(BARS.len() - 1)]
        };
        self.cyan(&history.iter().map(bar).collect::<String>())
    }

    fn bold(&self, text: &str) -> String {
        self.painted("1", text)
    }

    fn dim(&self, text: &str) -> String {
        self.painted("2", text)
    }

    fn red(&self, text: &str) -> String {
        self.painted("31", text)
    }

    fn cyan(&self, text: &str) -> String {
        self.painted("36", text)
    }

    fn painted(&self, code: &str, text: &str) -> String {
        if self.has_colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.into() }
    }
}

fn remember(history: &mut VecDeque<f64>, value: f64) {
    history.push_back(value);
    if history.len() > HISTORY {
        history.pop_front();
    }
}

/// A count for people: three digits at the least, and a unit.
pub(super) fn count(value: f64) -> String {
    with_unit(value, 1000.0, &["", "k", "M", "G", "T"])
}

/// Bytes for people.
pub(super) fn bytes(value: f64) -> String {
    with_unit(value, 1024.0, &[" B", " KiB", " MiB", " GiB", " TiB"])
}

fn with_unit(mut value: f64, step: f64, units: &[&str]) -> String {
    let mut unit = 0;
    // What would be rounded up to the next unit is of the next unit.
    while value >= step - 0.5 && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    let digits = if unit == 0 || value >= 99.95 { 0 } else { 1 };
    format!("{value:.digits$}{}", units[unit])
}

/// A time for people.
pub(super) fn time(time: Option<Duration>) -> String {
    let Some(time) = time else { return "-".into() };
    let mut value = time.as_nanos() as f64;
    let units = ["ns", "us", "ms", "s"];
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = if unit == 0 || value >= 99.95 { 0 } else { 1 };
    format!("{value:.digits$}{}", units[unit])
}
