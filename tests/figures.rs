//! What the bench says of figures: tables, means and verdicts, of runs that are made up here.

#![allow(unreachable_pub, dead_code, reason = "the bench's own, of which this is a part")]
#![allow(clippy::cast_precision_loss, reason = "as there")]

#[path = "bench/cells.rs"]
mod cells;
#[path = "bench/contenders.rs"]
mod contenders;
#[path = "bench/means.rs"]
mod means;
#[path = "bench/null.rs"]
mod null;
#[path = "bench/report.rs"]
mod report;
#[path = "bench/sample.rs"]
mod sample;
#[path = "bench/totals.rs"]
mod totals;

use contenders::{Contender, Field, Kind};
use means::Mean;
use sample::{Run, Sample, Seen};
use ublkit::sim::{Ask, Choices, Faults, Profile, Sim};
use ublkit::{Builder, DataPath};

const NULL: &str = "null, 1 queue";
const CELLS: [&str; 2] = ["4 KiB read QD1", "4 KiB read QD32"];

/// Three rounds of one contender in one cell, around `iops`; a server is a process.
fn rounds(key: [&str; 3], iops: f64, cpu_ns_per_io: Option<f64>) -> impl Iterator<Item = Sample> {
    let key = key.map(str::to_owned);
    [0.5, 1.0, 4.0].into_iter().enumerate().map(move |(round, factor)| {
        let seen = Seen {
            iops: iops * factor,
            bytes_per_second: iops * factor * 4096.0,
            latency_ns: [1e3, 2e3, 3e3],
            cpu_ns_per_io: cpu_ns_per_io.map(|cpu| cpu * (1.0 + 0.01 * round as f64)),
        };
        Sample::new(key.clone(), round, &seen)
    })
}

fn run() -> Run {
    let mut samples = Vec::new();
    for (contender, iops, cpu) in [
        ("ublkit copy", [100.0, 800.0], Some(2000.0)),
        ("ublkit batches", [50.0, 1600.0], Some(2000.0)),
        ("kublk", [50.0, 1600.0], Some(4000.0)),
        ("rublk", [200.0, 400.0], Some(3000.0)),
        ("null_blk", [1000.0, 8000.0], None),
    ] {
        for (cell, iops) in CELLS.into_iter().zip(iops) {
            samples.extend(rounds([NULL, cell, contender], iops, cpu));
        }
    }
    for (contender, iops) in [("ublkit copy", 1.0), ("ublkit user-copy", 1000.0)] {
        let group = "null, 1 queue, every mode";
        samples.extend(rounds([group, CELLS[0], contender], iops, Some(1.0)));
    }
    for (contender, iops, cpu) in [("ublkit zero-copy", 30.0, Some(1.0)), ("loop", 60.0, None)] {
        samples.extend(rounds(["file, 4 queues", CELLS[1], contender], iops, cpu));
    }
    Run {
        release: "7.3.4+deb13-amd64".into(),
        build: "Debian 7.3.4-1".into(),
        date: "2026-11-28".into(),
        missing: vec![format!("{NULL}: libublk: it | was not built")],
        failed: vec![],
        samples,
        seconds: 60,
    }
}

fn mean(backend: &str, rival: &str, cells: usize, mean: f64, least: (f64, &str)) -> Mean {
    let (backend, rival) = (backend.into(), rival.into());
    Mean { backend, rival, cells, mean, least: (least.0, least.1.into()) }
}

#[track_caller]
fn assert_means(run: &Run, right: &[Mean]) {
    let is = means::of(run);
    let rounded = |all: &[Mean]| -> Vec<Mean> {
        let cut = |figure: f64| (figure * 1e6).round() / 1e6;
        let all = all.iter().cloned();
        all.map(|it| Mean { mean: cut(it.mean), least: (cut(it.least.0), it.least.1), ..it })
            .collect()
    };
    assert_eq!(rounded(&is), rounded(right));
}

fn right_means() -> Vec<Mean> {
    let (first, second) = (format!("{NULL}: {}", CELLS[0]), format!("{NULL}: {}", CELLS[1]));
    let file = format!("file, 4 queues: {}", CELLS[1]);
    vec![
        mean("null", "best other server", 2, 0.5, (0.5, &first)), // of rublk, then of kublk
        mean("null", "best of the kernel's own", 2, 0.1, (0.1, &first)),
        mean("null", "ublkit batches", 2, 1.0, (0.5, &second)),
        mean("null", "kublk", 2, 1.0, (0.5, &second)),
        mean("null", "rublk", 2, 1.0, (0.5, &first)),
        mean("null", "null_blk", 2, 0.1, (0.1, &first)),
        mean("file", "best of the kernel's own", 1, 0.5, (0.5, &file)),
        mean("file", "loop", 1, 0.5, (0.5, &file)),
    ]
}

#[test]
fn means_are_geometric_and_of_medians() {
    assert_means(&run(), &right_means());
}

/// One wrong figure is seen where it belongs, and nowhere else.
#[test]
fn a_planted_figure_moves_its_means() {
    let mut run = run();
    let wrong = |sample: &&mut Sample| sample.key == [NULL, CELLS[0], "kublk"];
    run.samples.iter_mut().filter(wrong).for_each(|sample| sample.iops *= 16.0);
    let mut right = right_means();
    let first = format!("{NULL}: {}", CELLS[0]);
    right[0] = mean("null", "best other server", 2, 0.25, (0.125, &first));
    right[3] = mean("null", "kublk", 2, 0.25, (0.125, &first));
    assert_means(&run, &right);

    // A round that went wrong alone does not count.
    let mut run = self::run();
    let one = |sample: &&mut Sample| sample.key == [NULL, CELLS[0], "kublk"] && sample.round == 2;
    run.samples.iter_mut().filter(one).for_each(|sample| sample.iops *= 16.0);
    assert_means(&run, &right_means());

    // Whoever is missing in a cell is not compared there.
    let mut run = self::run();
    run.samples.retain(|sample| sample.key != [NULL, CELLS[0], "rublk"]);
    let second = format!("{NULL}: {}", CELLS[1]);
    right = right_means();
    right[0] = mean("null", "best other server", 2, 1.0, (0.5, &second));
    right[4] = mean("null", "rublk", 1, 2.0, (2.0, &second));
    right.swap(4, 5); // it comes later
    assert_means(&run, &right);
}

#[test]
fn the_table_of_means_keeps_other_kernels() {
    let table = means::table(&run(), "");
    let begin = "| kernel | backend | ublkit's IOPS to those of | cells | geometric mean | least";
    assert!(table.starts_with(begin), "{table}");
    let row = "| 7.3.4+deb13-amd64 | null | kublk | 2 | 1.00 | 0.50 (null, 1 queue: 4 KiB read \
               QD32) | 2026-11-28 |";
    assert_eq!(table.lines().nth(5), Some(row));
    assert_eq!(table.lines().count(), 2 + right_means().len());
    let older = Run { release: "6.12.117+deb13-amd64".into(), ..run() };
    let both = means::table(&older, &table);
    assert_eq!(both.lines().filter(|line| line.starts_with("| 7.3.4+")).count(), 8);
    assert_eq!(both.lines().filter(|line| line.starts_with("| 6.12.117+")).count(), 8);
    assert!(both.starts_with(&table), "the newest is the first: {both}");
    // An update of a kernel takes the place of what it was.
    let update = Run { release: "7.3.5+deb13-amd64".into(), ..run() };
    let both = means::table(&update, &both);
    assert_eq!(both.lines().filter(|line| line.starts_with("| 7.3.4+")).count(), 0);
    assert_eq!(both.lines().count(), 2 + 8 + 8);
}

#[test]
fn tables_say_what_was_measured() {
    let text = report::compared(&run());
    for line in [
        "Linux 7.3.4+deb13-amd64, 2026-11-28: medians of 3 interleaved rounds in one boot, with \
         least and most; 60 s in all.",
        "### null, 1 queue, every mode",
        "| 4 KiB read QD32 | ublkit copy | 800 (400 to 3200) | 3.3 | 1, 2, 3 | 2.0 | 1.00 |",
        "| 4 KiB read QD32 | kublk | 1600 (800 to 6400) | 6.6 | 1, 2, 3 | 4.0 | 0.50 |",
        "| 4 KiB read QD1 | null_blk | 1000 (500 to 4000) | 4.1 | 1, 2, 3 | – | 0.10 |",
        "Missing: libublk: it / was not built",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
    }
    let text = report::counted(&run());
    let line = "| 4 KiB read QD1 | kublk | 4040 (± 1.0 %) | 20000000 |";
    assert!(text.lines().any(|found| found == line), "{text}");
}

#[test]
fn samples_are_kept_and_read_again() {
    for sample in &run().samples {
        let again = Sample::from_json(&sample.to_json()).unwrap();
        assert_eq!(format!("{again:?}"), format!("{sample:?}"));
    }
}

fn totals_of(factor: f64) -> totals::Costs {
    let mut run = run();
    let all = run.samples.iter_mut();
    all.for_each(|sample| sample.cpu_ns_per_io = sample.cpu_ns_per_io.map(|cpu| cpu * factor));
    totals::of(&run, |name| name == "ublkit copy")
}

#[test]
fn totals_may_grow_by_three_percent() {
    let kept = totals::from_json(&totals::to_json(&totals_of(1.0)));
    assert_eq!(kept.len(), 3, "two cells, and one with every mode");
    // Its rounds differ by 2 %: what is more than that and 3 % is dearer in each round.
    for (factor, is_broken) in [(1.0, false), (1.04, false), (1.06, true), (0.9, false)] {
        let verdict = totals::judge(&totals_of(factor), &kept);
        let big = verdict.broken.iter().filter(|line| line.contains("null, 1 queue, 4 KiB"));
        assert_eq!(big.count(), if is_broken { 2 } else { 0 }, "{factor}: {verdict:?}");
    }
    let less = totals::judge(&totals_of(0.9), &kept).lines;
    let line = "ublkit copy: null, 1 queue, 4 KiB read QD1: 1818 instructions, -10.0 % of 2020: \
                record it (--bless)";
    assert_eq!(less.first().map(String::as_str), Some(line));
    let others = totals::of(&run(), |name| name == "kublk");
    assert!(totals::judge(&others, &kept).broken[0].ends_with("was never recorded"));
    // An older file has the median alone.
    let old = serde_json::json!({ "ublkit copy: null, 1 queue, 4 KiB read QD1": 1900.0 });
    let verdict = totals::judge(&totals_of(1.0), &totals::from_json(&old));
    assert_eq!(verdict.lines.len(), 1);
    assert!(verdict.broken.iter().any(|line| line.contains("+6.3 % of 1900")), "{verdict:?}");
}

#[test]
fn planted_work_must_be_noticed() {
    let [honest, planted] = totals::CONTROL;
    let with = |more: f64| {
        let both = [(honest, 1000.0), (planted, 1000.0 * more)];
        let samples = both
            .into_iter()
            .flat_map(|(name, cost)| {
                CELLS
                    .into_iter()
                    .flat_map(move |cell| rounds([NULL, cell, name], 100.0, Some(cost)))
            })
            .collect();
        totals::control(&Run { samples, ..run() })
    };
    assert!(with(1.08).unwrap().starts_with("planted work was noticed: null, 1 queue, 4 KiB"));
    assert!(with(1.02).unwrap_err().starts_with("planted work is not told from honest work"));
    assert_eq!(totals::control(&run()).unwrap_err(), "the control was not measured");
}

/// How long a run of one disk takes besides: fio's beginning and end, in the emulation.
const BESIDES_MILLISECONDS: u32 = 760;

#[test]
fn the_usual_cells_end_in_time() {
    let all = Contender::all();
    let takes_part = |group: &cells::Group| {
        all.iter().filter(|it| it.kind == group.kind && it.field.meets(group.field)).count()
    };
    let of = |group: &cells::Group| takes_part(group) * group.cells.len();
    let disks: usize = cells::usual().iter().map(of).sum();
    let disks = u32::try_from(disks).unwrap();
    let each = cells::MILLISECONDS + BESIDES_MILLISECONDS;
    let seconds = 30 + disks * cells::ROUNDS * each / 1000;
    assert!((20 * 60..25 * 60).contains(&seconds), "{disks} disks take {seconds} s");
}

#[test]
fn who_is_measured() {
    let names = |kind, field: Field| -> Vec<String> {
        let all = Contender::all().into_iter();
        all.filter(|it| it.kind == kind && it.field.meets(field)).map(|it| it.name).collect()
    };
    let modes = [
        "ublkit copy",
        "ublkit batches",
        "ublkit get-data",
        "ublkit user-copy",
        "ublkit batches of user-copy",
        "ublkit zero-copy, by operations",
        "ublkit batches of zero-copy, by operations",
        "ublkit zero-copy-by-hand, by operations",
        "ublkit batches of zero-copy-by-hand, by operations",
    ];
    assert_eq!(names(Kind::Null, Field::Modes), modes);
    assert_eq!(names(Kind::File, Field::Modes).len(), 9, "each path, and batches of all but one");
    assert_eq!(names(Kind::Memory, Field::Modes).len(), 5);
    let memory = names(Kind::Memory, Field::Beside);
    assert_eq!(memory[0], "ublkit get-data", "the one that it takes by itself");
    for rival in ["brd", "loop over tmpfs", "libublk"] {
        assert!(memory.iter().any(|name| name == rival), "{memory:?}");
    }
    let file = cells::usual().into_iter().find(|group| group.kind == Kind::File).unwrap();
    let file: Vec<String> = file.cells.iter().map(|cell| cell.name()).collect();
    for cell in ["128 KiB sequential read QD8", "128 KiB sequential write QD8"] {
        assert!(file.iter().any(|name| name == cell), "{file:?}");
    }
    let groups = cells::with_modes(cells::usual());
    assert!(groups.iter().all(|group| group.field == Field::Both), "{groups:?}");
    assert_eq!(groups.len(), cells::usual().len() - 2);
}

/// The bench's null disk is served on every path; a read whose pages nobody fills would fail.
#[test]
fn a_null_disk_on_every_path() {
    for &path in DataPath::ALL {
        for batches in [false, path != DataPath::GetData] {
            let sim = Sim::new(Profile::NEWEST, Choices::first(), Faults::default());
            let disk = null::Null::new(path, 1).unwrap();
            let builder = Builder::new().data_path(path).batches(batches);
            let server = builder.serve_on(sim.task(), disk).unwrap();
            let answer = |ask| {
                let asked = sim.ask(server.id(), 0, ask).unwrap();
                sim.until_answered();
                sim.answer(asked).unwrap()
            };
            let write = Ask::Write { offset: 4096, data: vec![7; 4096], fua: false };
            assert_eq!(answer(write), Ok(vec![]), "{path}");
            let read = answer(Ask::Read { offset: 0, len_bytes: 4096 });
            assert_eq!(read.map(|data| data.len()), Ok(4096), "{path}");
            server.stop().unwrap();
            sim.assert_clean();
        }
    }
}
