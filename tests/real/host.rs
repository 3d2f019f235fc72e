//! The host's role: kernels, boots, verdicts.

use crate::support::{self, Verdict};
use crate::{Depth, Wanted, kernels};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

/// How long all cases of one kernel may take, inside.
const SLICE_SECONDS: u32 = 600;
const FULL_SECONDS: u32 = 3600;

/// Kernels unless said otherwise: the oldest and the newest that are served.
const KERNELS: [&str; 2] = ["6.12", "newest"];

pub type Outcome<T> = Result<T, String>;

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

/// A kernel to run on.
#[derive(Debug)]
enum Kernel {
    /// The machine's own.
    Native,
    /// One to boot: its release and its image.
    Vm(String, PathBuf),
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
    if !failed.is_empty() {
        return Err(failed.join("; "));
    }
    // A few cases of many say nothing of what is supported, nor does a kernel that others lack.
    let is_told = wanted.names.is_empty() && kernels.iter().all(|k| matches!(k, Kernel::Vm(..)));
    if is_told { support::told(&results, wanted.every()) } else { Ok(()) }
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

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn script(name: &str) -> Command {
    let mut command = Command::new(root().join("tests/vm").join(name));
    command.stdin(Stdio::null());
    command
}

/// What a script prints.
fn said(name: &str, words: &[String]) -> Outcome<String> {
    let output = script(name).args(words).stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| format!("{name}: {error}"))?;
    if !output.status.success() {
        return Err("the kernels could not be had; see the line above".into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether this machine can serve ublk devices itself.
fn native() -> bool {
    let root = rustix::process::geteuid().is_root();
    let node = Path::new("/dev/ublk-control");
    let quiet = |command: &mut Command| {
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
    };
    root && (node.exists() || (quiet(Command::new("modprobe").arg("ublk_drv")) && node.exists()))
}

fn kernels(wanted: &Wanted, default: &[&str]) -> Outcome<Vec<Kernel>> {
    if wanted.kernels.is_empty() && native() || wanted.kernels == ["native"] {
        return Ok(vec![Kernel::Native]);
    }
    let prepared = script("prepare.sh").status().map_err(|error| format!("prepare.sh: {error}"))?;
    if !prepared.success() {
        return Err("this machine cannot boot kernels; see the line above".into());
    }
    let names: Vec<String> = if wanted.every() {
        said("kernels.sh", &["--list".into()])?.lines().map(str::to_owned).collect()
    } else if wanted.kernels.is_empty() {
        default.iter().map(|&name| name.into()).collect()
    } else {
        wanted.kernels.clone()
    };
    let text = said("kernels.sh", &names)?;
    let kernel = |line: &str| {
        let (release, image) = line.split_once(' ').ok_or("kernels.sh: what is this?")?;
        Ok(Kernel::Vm(release.into(), image.into()))
    };
    text.lines().map(kernel).collect()
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
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let (mut command, out, release) = match kernel {
        Kernel::Native => {
            let mut command = Command::new(program);
            command.args(words);
            (command, None, "this machine's kernel".to_string())
        }
        Kernel::Vm(release, image) => {
            let out = root().join(format!("target/vm/out/{what}-{release}"));
            let mut command = script("boot.sh");
            command.args(["--cpus", "4", "--memory", "2G", "--timeout"]);
            command.arg(seconds.to_string()).arg("--out").arg(&out).arg(image).arg("--");
            command.env("UBLKIT_OUT", &out); // writable inside, unlike the rest
            command.arg(program).args(words).arg("--expendable");
            (command, Some(out), release.clone())
        }
    };
    println!("\n== {what} on {release}");
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot run on {release}: {error}"))?;
    let mut lines = Vec::new();
    for line in BufReader::new(child.stdout.take().expect("piped")).lines() {
        let line = line.map_err(|error| error.to_string())?;
        println!("{line}");
        let _ = std::io::stdout().flush();
        lines.push(line);
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    if let Some(out) = out {
        if std::env::var_os("UBLKIT_BLESS").is_some() {
            bless(&out.join("recorded"))?;
        }
        let log = script("kernel-log.sh").arg(out.join("dmesg")).status();
        if !log.is_ok_and(|status| status.success()) {
            return Err(format!("the log of kernel {release} reports trouble; see above"));
        }
    }
    if status.success() {
        return Ok(lines);
    }
    let which = lines.iter().rev().find(|line| line.contains(" failed: "));
    let why = which.map_or_else(|| status.to_string(), Clone::clone);
    Err(format!("{what} failed on {release}: {why}"))
}
