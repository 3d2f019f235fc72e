//! Plots: a figure over the requests under way, a line for each contender, as SVG.

use crate::sample::{Sample, Spread, once};
use std::fmt::Write;

const COLOURS: [&str; 10] = [
    "#1b6ca8", "#d1495b", "#66a182", "#edae49", "#6a4c93", "#8d6a4f", "#2e4057", "#c77dff",
    "#5f9ea0", "#777777",
];

/// What is plotted.
struct Figure {
    name: &'static str,
    label: &'static str,
    of: fn(&Sample) -> f64,
}

const FIGURES: [Figure; 3] = [
    Figure { name: "iops", label: "IOPS", of: |sample| sample.iops },
    Figure { name: "p99", label: "99 % latency, µs", of: |sample| sample.latency_ns[1] / 1e3 },
    Figure {
        name: "cpu",
        label: "server CPU, µs per request",
        of: |sample| sample.cpu_ns_per_io.unwrap_or(f64::NAN) / 1e3,
    },
];

/// A contender's points: requests under way, and the median.
type Line<'a> = (&'a str, Vec<(u32, f64)>);

/// Plots of all that was measured at three depths or more: name and text.
pub fn of(samples: &[Sample]) -> Vec<(String, String)> {
    let mut plots = Vec::new();
    for group in once(samples.iter().map(|sample| sample.key[0].as_str())) {
        let here: Vec<&Sample> = samples.iter().filter(|sample| sample.key[0] == group).collect();
        let what = |sample: &&Sample| depth(&sample.key[1]).map_or("", |(what, _)| what).to_owned();
        let all: Vec<String> = here.iter().map(what).collect();
        for kind in once(all.iter().map(String::as_str)) {
            for figure in &FIGURES {
                let lines = lines(&here, kind, figure);
                if lines.iter().any(|(_, points)| points.len() > 2) {
                    let name = format!("{group} {kind} {}.svg", figure.name);
                    let title = format!("{kind}, {group}: {}", figure.label);
                    plots.push((name.replace(", ", " ").replace(' ', "-"), svg(&title, &lines)));
                }
            }
        }
    }
    plots
}

/// A cell's name without its depth, and the depth.
fn depth(cell: &str) -> Option<(&str, u32)> {
    let (what, depth) = cell.rsplit_once(" QD")?;
    Some((what, depth.parse().ok()?))
}

fn lines<'a>(samples: &[&'a Sample], kind: &str, figure: &Figure) -> Vec<Line<'a>> {
    let of_kind =
        |sample: &&&'a Sample| depth(&sample.key[1]).is_some_and(|(what, _)| what == kind);
    let here: Vec<&Sample> = samples.iter().filter(of_kind).copied().collect();
    let line = |contender: &'a str| {
        let mine = || here.iter().filter(move |sample| sample.key[2] == contender);
        let mut depths: Vec<u32> =
            mine().filter_map(|sample| Some(depth(&sample.key[1])?.1)).collect();
        depths.sort_unstable();
        depths.dedup();
        let point = |at: u32| {
            let there = mine().filter(|sample| depth(&sample.key[1]).is_some_and(|it| it.1 == at));
            let figures = there.map(|sample| (figure.of)(sample)).filter(|it| it.is_finite());
            Some((at, Spread::of(figures)?.median))
        };
        (contender, depths.into_iter().filter_map(point).collect::<Vec<_>>())
    };
    let names = once(here.iter().map(|sample| sample.key[2].as_str()));
    names.into_iter().map(line).filter(|(_, points)| !points.is_empty()).collect()
}

/// The picture. Both axes are logarithmic: a factor is a distance.
fn svg(title: &str, lines: &[Line<'_>]) -> String {
    const LEFT: f64 = 70.0;
    const TOP: f64 = 40.0;
    const WIDTH: f64 = 420.0;
    const HEIGHT: f64 = 280.0;
    let points = || lines.iter().flat_map(|(_, points)| points);
    let spread = |figures: &mut dyn Iterator<Item = f64>| {
        figures.fold((f64::MAX, f64::MIN), |(least, most), it| (least.min(it), most.max(it)))
    };
    let (first, last) = spread(&mut points().map(|(depth, _)| f64::from(*depth)));
    let (low, high) = spread(&mut points().map(|(_, figure)| *figure));
    let (low, high) = (low * 0.8, high * 1.25);
    let part = |at: f64, from: f64, to: f64| (at / from).ln() / (to / from).ln();
    let x = |depth: f64| LEFT + WIDTH * part(depth, first, last);
    let y = |figure: f64| TOP + HEIGHT * (1.0 - part(figure, low, high));

    let mut text = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"660\" height=\"370\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"660\" height=\"370\" fill=\"white\"/>\n",
    );
    let say = |x: f64, y: f64, anchor: &str, what: &str| {
        format!("<text x=\"{x:.0}\" y=\"{y:.0}\" text-anchor=\"{anchor}\">{what}</text>\n")
    };
    text += &say(LEFT, 24.0, "start", title);
    text += &say(LEFT + WIDTH / 2.0, TOP + HEIGHT + 38.0, "middle", "requests under way");
    let mut grid = String::new();
    let mut depth = first;
    while depth <= last {
        let at = x(depth);
        let (top, bottom) = (TOP, TOP + HEIGHT);
        let _ = writeln!(grid, "<path d=\"M{at:.1} {top}V{bottom}\" stroke=\"#ddd\"/>");
        grid += &say(at, bottom + 18.0, "middle", &format!("{depth}"));
        depth *= 2.0;
    }
    // 1, 2 and 5 of each power of ten.
    for power in -1..9 {
        for step in [1.0, 2.0, 5.0] {
            let figure = step * 10_f64.powi(power);
            if (low..=high).contains(&figure) {
                let (at, right) = (y(figure), LEFT + WIDTH);
                let _ = writeln!(grid, "<path d=\"M{LEFT} {at:.1}H{right}\" stroke=\"#ddd\"/>");
                grid += &say(LEFT - 6.0, at + 4.0, "end", &format!("{figure}"));
            }
        }
    }
    text += &grid;
    for (index, (name, points)) in lines.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let width = if name.starts_with("ublkit") { 3 } else { 1 };
        let at =
            |(depth, figure): &(u32, f64)| format!("{:.1},{:.1}", x(f64::from(*depth)), y(*figure));
        let path: Vec<String> = points.iter().map(at).collect();
        let _ = writeln!(
            text,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\"/>",
            path.join(" ")
        );
        let (from, row) = (LEFT + WIDTH + 14.0, TOP + 10.0 + 20.0 * index as f64);
        let to = from + 18.0;
        let _ = writeln!(
            text,
            "<path d=\"M{from} {row}H{to}\" stroke=\"{colour}\" stroke-width=\"{width}\"/>"
        );
        text += &say(to + 6.0, row + 4.0, "start", name);
    }
    text + "</svg>\n"
}
