//! The host's role: boots a kernel once, and makes tables of what the inside role measured.

use crate::cells;
use crate::contenders::{Contender, Kind};
use crate::fio::Length;
use crate::guest::{self, Guest, Kernel, Outcome, root};
use crate::sample::{Run, Sample};
use crate::{document, inside, means, plot, report, totals};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Instant;

/// What the command line asks for.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The words, for the inside role.
    pub words: Vec<String>,
    /// The full grid instead of the usual cells.
    pub full: bool,
    /// ublkit in every mode in all cells, instead of in a few.
    pub modes: bool,
    pub kernel: Option<String>,
    pub rounds: Option<u32>,
    pub milliseconds: Option<u32>,
    /// Further servers.
    pub servers: Vec<Contender>,
    /// Only contenders whose name, as `file: loop direct`, contains one of these.
    pub only: Vec<String>,
    /// Write docs/performance.md.
    pub bless: bool,
    /// Write the geometric means there, and nothing else: of a further kernel.
    pub bless_means: bool,
    /// Fail when a request costs more instructions than it did.
    pub check: bool,
    /// Of that the little that each change is judged by.
    pub slice: bool,
}

impl Options {
    pub fn parse(words: &[String]) -> Outcome<Self> {
        let mut options = Self { words: words.to_vec(), ..Self::default() };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} wants a value"));
            let number = |word: &String| word.parse().map_err(|_| format!("{word} is no number"));
            match word.as_str() {
                "--full" => options.full = true,
                "--modes" => options.modes = true,
                "--bless" => options.bless = true,
                "--bless-means" => options.bless_means = true,
                "--check" => options.check = true,
                "--slice" => options.slice = true,
                "--kernel" => options.kernel = Some(value()?.clone()),
                "--rounds" => options.rounds = Some(number(value()?)?),
                "--milliseconds" => options.milliseconds = Some(number(value()?)?),
                "--only" => options.only.push(value()?.clone()),
                "--server" => {
                    let word = value()?;
                    let server = Contender::parse(word);
                    options.servers.push(server.ok_or(format!("{word} is no KIND:NAME=COMMAND"))?);
                }
                _ => {} // the usual harness's, such as --bench
            }
        }
        Ok(options)
    }

    fn contenders(&self) -> Vec<Contender> {
        let mut all = Contender::all();
        all.extend(self.servers.iter().cloned());
        let wanted = |name: &str| self.only.iter().any(|only| name.contains(only));
        all.retain(|Contender { kind, name, .. }| {
            self.only.is_empty() || wanted(&format!("{}: {name}", kind.name()))
        });
        all
    }

    /// What the inside role is to do: compare, or count instructions.
    pub fn wanted(&self, counts: bool) -> inside::Wanted {
        let (mut groups, rounds, length) = if counts {
            (cells::counted(), 3, Length::Requests(4000))
        } else {
            let groups = if self.full { cells::full() } else { cells::usual() };
            let milliseconds = self.milliseconds.unwrap_or(cells::MILLISECONDS);
            (groups, cells::ROUNDS, Length::Milliseconds(milliseconds))
        };
        if self.modes {
            groups = cells::with_modes(groups);
        }
        let mut contenders = self.contenders();
        if self.check {
            contenders.retain(|contender| contender.name.starts_with("ublkit"));
            if self.slice {
                groups.retain(|group| group.kind == Kind::Null);
                contenders.retain(|contender| contender.name == "ublkit copy");
            }
            contenders.extend(Contender::controls());
        }
        let rounds = self.rounds.unwrap_or(rounds);
        inside::Wanted { groups, contenders, rounds, length }
    }
}

/// Measures in one boot of one kernel.
pub fn measure(options: &Options, counts: bool) -> Outcome<Run> {
    let begun = Instant::now();
    let name = options.kernel.as_deref().unwrap_or("newest");
    let kernel = if name == "native" {
        Kernel::Native
    } else {
        guest::kernels(&[name.to_owned()])?.pop().ok_or("no kernel")?
    };
    let role = if counts { "count" } else { "compare" };
    let words = ["inside", role].map(str::to_owned);
    let words: Vec<String> = words.into_iter().chain(options.words.iter().cloned()).collect();
    let cpus = if counts { 1 } else { 4 };
    let seconds = if options.full { 100 * 3600 } else { 45 * 60 };
    let what = if counts { "count" } else { "bench" };
    let lines = Guest { what, cpus, counts, seconds }.run(&kernel, &words)?;
    let with = |prefix: &'static str| {
        lines.iter().filter_map(move |line| line.strip_prefix(prefix)).map(str::to_owned)
    };
    let sample = |line: String| Sample::from_json(&serde_json::from_str::<Value>(&line).ok()?);
    Ok(Run {
        release: with("kernel: ").next().ok_or("the inside role did not say its kernel")?,
        build: with("build: ").next().unwrap_or_default(),
        date: today(),
        missing: with("missing: ").collect(),
        samples: with("sample: ").filter_map(sample).collect(),
        failed: with("failed: ").collect(),
        seconds: begun.elapsed().as_secs(),
    })
}

/// Saves what was measured, and returns the folder.
fn save(run: &Run, name: &str) -> Outcome<PathBuf> {
    let folder = root().join("target/bench");
    let file = folder.join(format!("{name}.json"));
    let samples: Vec<Value> = run.samples.iter().map(Sample::to_json).collect();
    let text = json!({
        "kernel": run.release, "build": run.build, "date": run.date, "seconds": run.seconds,
        "missing": run.missing, "failed": run.failed, "samples": samples,
    });
    std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::write(&file, format!("{text:#}\n")))
        .map_err(|error| format!("{}: {error}", file.display()))?;
    println!("\nsaved: {}", file.display());
    Ok(folder)
}

fn today() -> String {
    let output = std::process::Command::new("date").arg("+%F").output();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&text).trim().to_owned()
}

/// Compares all contenders.
pub fn compare(options: &Options) -> Outcome<()> {
    let run = measure(options, false)?;
    let folder = save(&run, "compared")?;
    let report = report::compared(&run);
    let performance = root().join("docs/performance.md");
    let means = means::table(&run, &document::section(&performance, "means")?);
    println!("\n{report}\n{means}");
    let plots = plot::of(&run.samples);
    for (name, svg) in &plots {
        let file = folder.join(name);
        std::fs::write(&file, svg).map_err(|error| format!("{}: {error}", file.display()))?;
        println!("plotted: {}", file.display());
    }
    if options.bless || options.bless_means {
        document::rewrite(&performance, "means", &means)?;
    }
    if options.bless {
        let mut text = report;
        for (name, svg) in &plots {
            text += &format!("\n![{name}](plots/{name})\n");
            let file = root().join("docs/plots").join(name);
            std::fs::create_dir_all(root().join("docs/plots"))
                .and_then(|()| std::fs::write(&file, svg))
                .map_err(|error| format!("{}: {error}", file.display()))?;
        }
        document::rewrite(&performance, "compared", &text)?;
    }
    run.verdict()
}

/// Counts instructions, user and kernel, of all contenders.
pub fn count(options: &Options) -> Outcome<()> {
    if options.check && options.bless {
        return Err("choose one of --check and --bless".into());
    }
    let run = measure(options, true)?;
    save(&run, "counted")?;
    let report = report::counted(&run);
    println!("\n{report}");
    if options.check {
        println!("{}", totals::control(&run)?);
    }
    if options.bless {
        document::rewrite(&root().join("docs/performance.md"), "counted", &report)?;
        crate::user::record_totals(&run)?;
    } else {
        crate::user::compare_totals(&run, options.check)?;
    }
    run.verdict()
}
