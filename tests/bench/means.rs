//! What a run comes to: geometric means, over a backend's cells, of ublkit's IOPS to another's.

use crate::sample::{Run, Spread, once};
use std::fmt::Write;

/// ublkit beside somebody, over all cells of a backend that both had.
#[derive(Clone, Debug, PartialEq)]
pub struct Mean {
    pub backend: String,
    pub rival: String,
    pub cells: usize,
    /// The geometric mean of ublkit's IOPS, in the mode that it takes by itself, to the rival's.
    pub mean: f64,
    /// The least of a cell, and which that is.
    pub least: (f64, String),
}

/// Whoever was fastest in a cell, of ublk's other servers and of the kernel's own disks.
const BEST: [&str; 2] = ["best other server", "best of the kernel's own"];

/// The median IOPS of a contender, and whether it is a process.
fn median(run: &Run, key: [&str; 3]) -> Option<(f64, bool)> {
    let iops = Spread::of(run.of(key).map(|sample| sample.iops))?.median;
    Some((iops, run.of(key).any(|sample| sample.cpu_ns_per_io.is_some())))
}

/// ublkit in the mode that it takes by itself: the first of a group.
pub fn first<'a>(run: &'a Run, group: &str) -> Option<&'a str> {
    run.names(group, 2).into_iter().find(|name| name.starts_with("ublkit"))
}

/// All means of a run.
pub fn of(run: &Run) -> Vec<Mean> {
    let backend = |group: &str| group.split(", ").next().unwrap_or_default().to_owned();
    let backends: Vec<String> = run.groups().into_iter().map(backend).collect();
    let mut means = Vec::new();
    for name in once(backends.iter().map(String::as_str)) {
        // Where ublkit's modes alone are measured, nobody is beside them.
        let groups = run.groups().into_iter();
        let groups =
            groups.filter(|group| backend(group) == name && !group.ends_with("every mode"));
        let groups: Vec<&str> = groups.collect();
        // Each rival's ratios, with their cells; the best ones first.
        let mut ratios: Vec<(&str, Vec<(f64, String)>)> = BEST.map(|best| (best, vec![])).to_vec();
        for group in groups {
            let Some(first) = first(run, group) else { continue };
            for cell in run.names(group, 1) {
                let Some((ours, _)) = median(run, [group, cell, first]) else { continue };
                let mut best = [0.0_f64; 2];
                let mut note = |rival, theirs: f64| {
                    let ratio = (ours / theirs, format!("{group}: {cell}"));
                    match ratios.iter_mut().find(|(name, _)| *name == rival) {
                        Some((_, all)) => all.push(ratio),
                        None => ratios.push((rival, vec![ratio])),
                    }
                };
                for rival in run.names(group, 2).into_iter().filter(|rival| *rival != first) {
                    let Some((theirs, is_process)) = median(run, [group, cell, rival]) else {
                        continue;
                    };
                    note(rival, theirs);
                    if !rival.starts_with("ublkit") {
                        let best = &mut best[usize::from(!is_process)];
                        *best = best.max(theirs);
                    }
                }
                for (name, theirs) in BEST.into_iter().zip(best).filter(|(_, best)| *best > 0.0) {
                    note(name, theirs);
                }
            }
        }
        ratios.retain(|(_, all)| !all.is_empty());
        means.extend(ratios.into_iter().map(|(rival, all)| {
            let logarithms: f64 = all.iter().map(|(ratio, _)| ratio.ln()).sum();
            let cells = all.len();
            let least = all.into_iter().min_by(|one, other| one.0.total_cmp(&other.0));
            Mean {
                backend: name.into(),
                rival: rival.into(),
                cells,
                mean: (logarithms / cells as f64).exp(),
                least: least.expect("there is one"),
            }
        }));
    }
    means
}

const HEAD: &str = "| kernel | backend | ublkit's IOPS to those of | cells | geometric mean \
                    | least of a cell | date |\n|---|---|---|---:|---:|---|---|\n";

/// A line for each mean.
fn rows(run: &Run) -> Vec<String> {
    let row = |mean: &Mean| {
        let Mean { backend, rival, cells, mean, least: (least, cell) } = mean;
        let (release, date) = (&run.release, &run.date);
        let cell = cell.replace('|', "/");
        format!(
            "| {release} | {backend} | {rival} | {cells} | {mean:.2} | {least:.2} ({cell}) \
             | {date} |"
        )
    };
    of(run).iter().map(row).collect()
}

/// The table of a run, in which other kernels' lines stay as they were told before.
pub fn table(run: &Run, before: &str) -> String {
    let others = before.lines().filter(|row| row.starts_with("| ") && !row.starts_with("| kernel"));
    let others = others.filter(|row| series(row) != series(&run.release)).map(str::to_owned);
    let mut all: Vec<String> = others.chain(rows(run)).collect();
    // The newest kernel first; of one kernel as they came.
    all.sort_by_key(|row| std::cmp::Reverse(series(row)));
    let mut text = String::from(HEAD);
    for row in all {
        let _ = writeln!(text, "{row}");
    }
    text
}

/// The series that a kernel, or a line about it, is of: its updates come and go.
fn series(row: &str) -> (u32, u32) {
    let mut parts = row.trim_start_matches("| ").split(|c: char| !c.is_ascii_digit());
    let mut number = || parts.next().and_then(|part| part.parse().ok()).unwrap_or(0);
    (number(), number())
}
