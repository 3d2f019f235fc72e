//! Tables of what was measured.

use crate::means;
use crate::sample::{Run, Sample, Spread};

/// Calls `row` for each contender in each cell of a group; makes its table's rows of the answers.
fn rows(run: &Run, group: &str, row: impl Fn(&str, &str) -> Option<String>) -> String {
    let mut text = String::new();
    for cell in run.names(group, 1) {
        for contender in run.names(group, 2) {
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

/// Everything, cell by cell.
pub fn compared(run: &Run) -> String {
    let rounds = run.samples.iter().map(|sample| sample.round + 1).max().unwrap_or(0);
    let mut text = format!(
        "Linux {}, {}: medians of {rounds} interleaved rounds in one boot, with least and most; \
         {} s in all.\n",
        run.release, run.date, run.seconds
    );
    for group in run.groups() {
        text += &format!("\n### {group}\n\n");
        text += "| cell | contender | IOPS | MB/s | p50, p99, p99.9 µs | server CPU µs/IO ";
        text += "| ublkit's IOPS to its |\n";
        text += "|---|---|---:|---:|---:|---:|---:|\n";
        text += &rows(run, group, |cell, contender| {
            let key = [group, cell, contender];
            let of = |figure: fn(&Sample) -> f64| Spread::of(run.of(key).map(figure));
            let iops = of(|sample| sample.iops)?;
            let bandwidth = of(|sample| sample.bytes_per_second / 1e6)?.median;
            let latency = |index: usize| {
                let figures = run.of(key).map(|sample| sample.latency_ns[index] / 1e3);
                Spread::of(figures).map_or(0.0, |spread| spread.median)
            };
            let cpu = Spread::of(run.of(key).filter_map(|sample| sample.cpu_ns_per_io));
            let cpu = cpu.map_or("–".into(), |spread| format!("{:.1}", spread.median / 1e3));
            let first = means::first(run, group).unwrap_or_default();
            let ours = run.of([group, cell, first]).map(|sample| sample.iops);
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
    let mut text = format!("Linux {}, {}.\n", run.release, run.date);
    for group in run.groups() {
        text += &format!("\n| {group} | contender | the server's | all |\n|---|---|---:|---:|\n");
        text += &rows(run, group, |cell, contender| {
            let key = [group, cell, contender];
            let all = Spread::of(run.of(key).map(|sample| 1e9 / sample.iops))?;
            let server = Spread::of(run.of(key).filter_map(|sample| sample.cpu_ns_per_io));
            let server = server.map_or("–".into(), |spread| {
                format!("{:.0} (± {:.1} %)", spread.median, spread.half_width() * 100.0)
            });
            Some(format!("| {cell} | {contender} | {server} | {:.0} |", all.median))
        });
    }
    text
}
