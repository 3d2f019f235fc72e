//! User instructions and calls of a request: the library over the simulated kernel, in callgrind.
//!
//! A request's share is the difference between two runs of different length, so that what is done
//! once cancels out. The simulated kernel's own work is not counted; the calls to it are.

mod budget;
mod kernel;
mod profile;
mod rate;
mod served;

pub use budget::{compare_totals, record_totals};
pub use served::run as served;

use crate::document;
use crate::guest::{Outcome, root};
use profile::Place;
use served::Cell;
use std::collections::BTreeMap;
use std::process::{Command, Stdio};

/// Requests of the two runs; whole bursts of either depth.
const REQUESTS: [u32; 2] = [320, 6720];

/// What one request costs.
#[derive(Debug)]
struct Cost {
    instructions: f64,
    calls: f64,
    places: BTreeMap<Place, f64>,
}

/// What is to be done with the figures.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// Fail when the budget is exceeded.
    pub check: bool,
    /// Make the budget what was measured.
    pub bless: bool,
    /// See that planted work is reported.
    pub self_test: bool,
    /// Print the dearest lines of the sources, too.
    pub lines: bool,
}

impl Wanted {
    pub fn parse(words: &[String]) -> Self {
        let has = |flag: &str| words.iter().any(|word| word == flag);
        Self {
            check: has("--check"),
            bless: has("--bless"),
            self_test: has("--self-test"),
            lines: has("--lines"),
        }
    }
}

/// Counts all cells and prints what came of it.
pub fn run(wanted: Wanted) -> Outcome<()> {
    if wanted.self_test {
        return self_test();
    }
    let mut costs = Vec::new();
    for cell in Cell::all() {
        costs.push((cell, count(cell)?));
    }
    let report = report(&costs, wanted.lines);
    println!("{report}");
    let figures = costs.iter().map(|(cell, cost)| (cell.name(), cost.instructions)).collect();
    if wanted.check {
        rate::check()?;
    }
    if !wanted.bless {
        return budget::compare(&figures, wanted.check);
    }
    budget::write(&figures)?;
    document::rewrite(&root().join("docs/performance.md"), "instructions", &report)
}

/// The table, and where the instructions of reads of nothing go.
fn report(costs: &[(Cell, Cost)], lines: bool) -> String {
    let mut text = format!("{}\n\n", budget::toolchain().unwrap_or_default());
    text += "| a request of 4 KiB | user instructions | system calls |\n|---|---:|---:|\n";
    for (cell, Cost { instructions, calls, .. }) in costs {
        text += &format!("| {} | {instructions:.1} | {calls:.2} |\n", cell.name());
    }
    text += "\nWhere they are:\n\n```text\n";
    for (cell, cost) in costs {
        text += &format!("{}, by function\n", cell.name());
        text += &dearest(cost, |place| place.function.clone());
        if cell.backend == "null" {
            text += &format!("{}, by source\n", cell.name());
            text += &dearest(cost, |place| place.file.clone());
        }
        if lines {
            text += &format!("{}, by line\n", cell.name());
            text += &dearest(cost, |place| format!("{}:{}", place.file, place.line));
        }
    }
    text + "```\n"
}

/// The control: work that a backend does for nothing is reported.
fn self_test() -> Outcome<()> {
    let cell = Cell { backend: "null", ..Cell::all()[0] };
    let honest = count(cell)?.instructions;
    let planted = count(Cell { backend: "planted", ..cell })?.instructions;
    println!("{}: {honest:.1}, with planted work {planted:.1}", cell.name());
    if budget::exceeds(honest, honest) || !budget::exceeds(planted, honest) {
        return Err("planted work is not told from honest work".into());
    }
    println!("planted work is reported");
    Ok(())
}

/// Lines of what is worth one, the dearest first.
fn dearest(cost: &Cost, key: impl Fn(&Place) -> String) -> String {
    let mut shares: BTreeMap<String, f64> = BTreeMap::new();
    for (place, share) in &cost.places {
        *shares.entry(key(place)).or_default() += share;
    }
    let mut shares: Vec<(String, f64)> = shares.into_iter().collect();
    shares.retain(|(_, share)| *share >= 0.5);
    shares.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    shares.iter().map(|(what, share)| format!("  {share:>7.1}  {what}\n")).collect()
}

/// What a request of a cell costs.
fn count(cell: Cell) -> Outcome<Cost> {
    let [short, long] = REQUESTS;
    let more = f64::from(long - short);
    let (short, long) = (profiled(cell, short)?, profiled(cell, long)?);
    let calls = (long.0 - short.0) as f64 / more;
    let mut places: BTreeMap<_, f64> = BTreeMap::new();
    for (places_of, sign) in [(&long.1, 1.0), (&short.1, -1.0)] {
        for (place, &instructions) in places_of {
            *places.entry(place.clone()).or_default() += sign * instructions as f64 / more;
        }
    }
    Ok(Cost { instructions: places.values().sum(), calls, places })
}

/// Runs a cell under callgrind: its calls, and its instructions by place.
fn profiled(cell: Cell, requests: u32) -> Outcome<(u64, BTreeMap<Place, u64>)> {
    let folder = root().join("target/bench");
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let file = folder.join("callgrind.out");
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let bursts = requests / u32::try_from(cell.under_way).expect("small");
    let mut command = Command::new("valgrind");
    command
        .args(["--quiet", "--tool=callgrind", "--collect-atstart=no"])
        .args(kernel::TURNS.map(|pattern| format!("--toggle-collect={pattern}")))
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(program)
        .arg("served")
        .args(cell.words())
        .arg(bursts.to_string())
        // The C library copies by what the processor can; the figures are to be every machine's.
        .env("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-AVX2,-AVX512F,-AVX512VL,-ERMS,-FSRM")
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    let output = command.output().map_err(|error| format!("valgrind: {error}; install it"))?;
    if !output.status.success() {
        return Err(format!("{} under valgrind: {}", cell.name(), output.status));
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let calls = said.lines().find_map(|line| line.strip_prefix("calls: ")?.parse().ok());
    let text = std::fs::read_to_string(&file).map_err(|error| error.to_string())?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: ")?.parse::<u64>().ok());
    let places = profile::read(&text);
    if total != Some(places.values().sum()) {
        return Err(format!("{}: its lines do not add up to {total:?}", file.display()));
    }
    Ok((calls.ok_or("no calls were told")?, shortened(places)))
}

/// Names without what differs between machines.
fn shortened(places: BTreeMap<Place, u64>) -> BTreeMap<Place, u64> {
    let root = format!("{}/", root().display());
    let short = |file: &str| match file.split_once("/library/") {
        Some((_, rest)) => rest.to_owned(), // Rust's own
        None => file.strip_prefix(&root).unwrap_or(file).to_owned(),
    };
    let mut all = BTreeMap::new();
    for (place, cost) in places {
        *all.entry(Place { file: short(&place.file), ..place }).or_default() += cost;
    }
    all
}
