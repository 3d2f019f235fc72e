//! Tables of what was measured.

use crate::cells::Sample;
use crate::host::{Run, today};

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

/// The samples of one contender in one cell of one group.
pub fn samples<'a>(run: &'a Run, key: [&'a str; 3]) -> impl Iterator<Item = &'a Sample> {
    run.samples.iter().filter(move |sample| sample.key.iter().map(String::as_str).eq(key))
}

/// Calls `row` for each contender in each cell of a group; makes its table's rows of the answers.
fn rows(run: &Run, group: &str, row: impl Fn(&str, &str) -> Option<String>) -> String {
    let here = || run.samples.iter().filter(|sample| sample.key[0] == group);
    let contenders = once(here().map(|sample| sample.key[2].as_str()));
    let mut text = String::new();
    for cell in once(here().map(|sample| sample.key[1].as_str())) {
        for contender in &contenders {
            text.extend(row(cell, contender).map(|row| format!("{row}\n")));
        }
    }
    let missing = |line: &&String| line.starts_with(&format!("{group}: "));
    for line in run.missing.iter().filter(missing) {
        let what = line[group.len() + 2..].replace('|', "/");
        text += &format!("\nMissing: {what}\n");
    }
    text
}

fn groups(run: &Run) -> Vec<&str> {
    let of_missing = run.missing.iter().filter_map(|line| line.split(": ").next());
    once(run.samples.iter().map(|sample| sample.key[0].as_str()).chain(of_missing))
}

/// Everything, cell by cell.
pub fn compared(run: &Run) -> String {
    let rounds = run.samples.iter().map(|sample| sample.round + 1).max().unwrap_or(0);
    let mut text = format!(
        "Linux {}, {}: medians of {rounds} interleaved rounds in one boot, with least and most; \
         {} s in all.\n",
        run.release,
        today(),
        run.seconds
    );
    for group in groups(run) {
        text += &format!("\n### {group}\n\n");
        text += "| cell | contender | IOPS | MB/s | p50, p99, p99.9 µs | server CPU µs/IO ";
        text += "| ublkit's IOPS to its |\n";
        text += "|---|---|---:|---:|---:|---:|---:|\n";
        text += &rows(run, group, |cell, contender| {
            let key = [group, cell, contender];
            let of = |figure: fn(&Sample) -> f64| Spread::of(samples(run, key).map(figure));
            let iops = of(|sample| sample.iops)?;
            let bandwidth = of(|sample| sample.bytes_per_second / 1e6)?.median;
            let latency = |index: usize| {
                let figures = samples(run, key).map(|sample| sample.latency_ns[index] / 1e3);
                Spread::of(figures).map_or(0.0, |spread| spread.median)
            };
            let cpu = Spread::of(samples(run, key).filter_map(|sample| sample.cpu_ns_per_io));
            let cpu = cpu.map_or("–".into(), |spread| format!("{:.1}", spread.median / 1e3));
            // Its first mode: the one that it takes by itself.
            let here = |sample: &&Sample| sample.key[0] == group;
            let mut names = run.samples.iter().filter(here).map(|sample| sample.key[2].as_str());
            let first = names.find(|name| name.starts_with("ublkit")).unwrap_or_default();
            let ours = samples(run, [group, cell, first]).map(|sample| sample.iops);
            let ratio = Spread::of(ours).map(|ours| ours.median / iops.median);
            let ratio = ratio.map_or("–".into(), |ratio| format!("{ratio:.2}"));
            let Spread { least, median, most } = iops;
            Some(format!(
                "| {cell} | {contender} | {median:.0} ({least:.0} to {most:.0}) | {bandwidth:.1} \
                 | {:.0}, {:.0}, {:.0} | {cpu} | {ratio} |",
                latency(0),
                latency(1),
                latency(2)
            ))
        });
    }
    text
}

/// Instructions.
pub fn counted(run: &Run) -> String {
    let mut text = format!("Linux {}, {}.\n", run.release, today());
    for group in groups(run) {
        text += &format!("\n| {group} | contender | the server's | all |\n|---|---|---:|---:|\n");
        text += &rows(run, group, |cell, contender| {
            let key = [group, cell, contender];
            let all = Spread::of(samples(run, key).map(|sample| 1e9 / sample.iops))?;
            let server = Spread::of(samples(run, key).filter_map(|sample| sample.cpu_ns_per_io));
            let server = server.map_or("–".into(), |spread| {
                let Spread { least, median, most } = spread;
                format!("{median:.0} (± {:.1} %)", (most - least) / median * 50.0)
            });
            Some(format!("| {cell} | {contender} | {server} | {:.0} |", all.median))
        });
    }
    text
}
