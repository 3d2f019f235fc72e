//! The host's role: kernels, boots, verdicts.

use crate::guest::{self, Guest, Kernel, Outcome, root};
use crate::support::{self, Verdict};
use crate::{Depth, Wanted, kernels};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

/// How long all cases of one kernel may take, inside.
const SLICE_SECONDS: u32 = 1200;
const FULL_SECONDS: u32 = 3600;

/// Kernels unless said otherwise: the oldest that is simulated, and the newest.
const KERNELS: [&str; 2] = ["6.12", "newest"];

/// Runs the cases on every wanted kernel.
pub fn run(wanted: &Wanted) -> ExitCode {
    finish(all(wanted))
}

/// Runs the demo once, here or on the newest kernel.
pub fn demo(wanted: &Wanted) -> ExitCode {
    finish(kernels(wanted, &["newest"]).and_then(|kernels| {
        let [kernel, ..] = kernels.as_slice() else { return Err("no kernel".into()) };
        run_inside(kernel, &["demo".into(), "inside".into()], SLICE_SECONDS, "demo").map(drop)
    }))
}

fn finish(outcome: Outcome<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("real: {sentence}");
            ExitCode::FAILURE
        }
    }
}

fn all(wanted: &Wanted) -> Outcome<()> {
    let begun = Instant::now();
    let mut results = Vec::new();
    let mut failed = Vec::new();
    let kernels = kernels(wanted, &KERNELS)?;
    for kernel in &kernels {
        match one(wanted, kernel) {
            Ok(result) => results.push(result),
            // What the others say is worth the time.
            Err(sentence) => {
                eprintln!("real: {sentence}");
                failed.push(sentence);
            }
        }
    }
    println!("\nReal kernels, {} s in all:", begun.elapsed().as_secs());
    for result in &results {
        println!("{result}");
    }
    for sentence in &failed {
        println!("  {sentence}");
    }
    let passed: usize = results.iter().map(|result| result.passed).sum();
    println!("\n{passed} passed, {} failed", failed.len());
    // A few cases of many say nothing of what is supported, nor does a kernel that others lack.
    let is_told = wanted.names.is_empty() && kernels.iter().all(|k| matches!(k, Kernel::Vm(..)));
    let told = if is_told { support::told(&results, wanted.every()) } else { Ok(()) };
    if failed.is_empty() { told } else { Err(failed.join("; ")) }
}

/// Runs the cases on one kernel.
fn one(wanted: &Wanted, kernel: &Kernel) -> Outcome<Verdict> {
    let begun = Instant::now();
    let (depth, seconds) = match wanted.depth {
        Depth::Full => (Some("--full".to_string()), FULL_SECONDS),
        Depth::Slice => (None, SLICE_SECONDS),
    };
    let words: Vec<String> = ["inside".to_string()]
        .into_iter()
        .chain(depth)
        .chain(wanted.seeds.iter().flat_map(|seed| ["--seed".into(), seed.to_string()]))
        .chain(wanted.names.iter().cloned())
        .collect();
    let lines = run_inside(kernel, &words, seconds, "real")?;
    verdict(&lines, wanted.names.is_empty(), begun.elapsed().as_secs())
}

/// Reads the lines that the inside role prints for the host.
fn verdict(lines: &[String], all: bool, seconds: u64) -> Outcome<Verdict> {
    let with = |prefix: &str| -> Vec<String> {
        lines.iter().filter_map(|line| line.strip_prefix(prefix)).map(str::to_owned).collect()
    };
    let release = with("kernel: ").pop().ok_or("the inside role did not say its kernel")?;
    let passed = with("ok: ").len();
    let absent = with("absent: ");
    let least = kernels::series(&release).cases;
    if all && passed < least {
        return Err(format!("{passed} cases ran on {release}, where {least} must"));
    }
    Ok(Verdict { release, passed, absent, seconds })
}

fn kernels(wanted: &Wanted, default: &[&str]) -> Outcome<Vec<Kernel>> {
    if wanted.kernels.is_empty() && guest::is_native() || wanted.kernels == ["native"] {
        return Ok(vec![Kernel::Native]);
    }
    if wanted.kernels.is_empty() {
        return guest::kernels(&default.iter().map(|&name| name.into()).collect::<Vec<_>>());
    }
    guest::kernels(&wanted.kernels)
}

/// Takes what the witness saw on a kernel as its recording.
fn bless(seen: &Path) -> Outcome<()> {
    let error = |error: std::io::Error| format!("{}: {error}", seen.display());
    let recorded = root().join("tests/witness/recorded");
    for series in std::fs::read_dir(seen).into_iter().flatten().flatten() {
        let folder = recorded.join(series.file_name());
        std::fs::create_dir_all(&folder).map_err(error)?;
        for file in std::fs::read_dir(series.path()).map_err(error)?.flatten() {
            std::fs::copy(file.path(), folder.join(file.file_name())).map_err(error)?;
            println!("recorded: {}", folder.join(file.file_name()).display());
        }
    }
    Ok(())
}

/// Runs this program's inside role on a kernel. Prints and returns its lines.
fn run_inside(kernel: &Kernel, words: &[String], seconds: u32, what: &str) -> Outcome<Vec<String>> {
    let guest = Guest { what, cpus: 4, counts: false, seconds };
    let lines = guest.run(kernel, words);
    if let Some(out) = guest.out(kernel)
        && std::env::var_os("UBLKIT_BLESS").is_some()
    {
        bless(&out.join("recorded"))?;
    }
    lines
}
