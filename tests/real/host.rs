//! The host's role: kernels, boots, verdicts.

use crate::{Depth, Wanted, kernels};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

/// How long all cases of one kernel may take, inside.
const SLICE_SECONDS: u32 = 420;
const FULL_SECONDS: u32 = 3600;

/// Kernels unless said otherwise: the oldest and the newest that are served.
const KERNELS: [&str; 2] = ["6.12", "newest"];

type Outcome<T> = Result<T, String>;

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
    for kernel in kernels(wanted, &KERNELS)? {
        let depth = if wanted.depth == Depth::Full { Some("--full".to_string()) } else { None };
        let mut words = vec!["inside".to_string()];
        words.extend(depth);
        words.extend(wanted.names.iter().cloned());
        let seconds = if wanted.depth == Depth::Full { FULL_SECONDS } else { SLICE_SECONDS };
        let kernel_begun = Instant::now();
        let lines = run_inside(&kernel, &words, seconds, "real")?;
        let took = kernel_begun.elapsed().as_secs();
        results.push(verdict(&lines, wanted.names.is_empty(), took)?);
    }
    println!("\nReal kernels, {} s in all:", begun.elapsed().as_secs());
    for result in &results {
        println!("{result}");
    }
    let passed: usize = results.iter().map(|result| result.passed).sum();
    println!("\n{passed} passed, 0 failed");
    // A few cases of many say nothing of what is supported.
    if wanted.names.is_empty() { write_table(&results) } else { Ok(()) }
}

/// What came of one kernel.
struct Verdict {
    release: String,
    passed: usize,
    absent: Vec<String>,
    seconds: u64,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { release, passed, absent, seconds } = self;
        write!(f, "  {release}: {passed} cases passed, {} absent, {seconds} s", absent.len())
    }
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

/// The support table, for README.
fn write_table(results: &[Verdict]) -> Outcome<()> {
    let mut table = String::from("| kernel | cases passed | not in this kernel |\n|---|---|---|\n");
    for Verdict { release, passed, absent, .. } in results {
        let absent = if absent.is_empty() { "–".into() } else { absent.join(", ") };
        table += &format!("| {release} | {passed} | {absent} |\n");
    }
    let path = root().join("target/vm/support.md");
    std::fs::create_dir_all(root().join("target/vm"))
        .and_then(|()| std::fs::write(&path, table))
        .map_err(|error| format!("{}: {error}", path.display()))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn script(name: &str) -> Command {
    let mut command = Command::new(root().join("tests/vm").join(name));
    command.stdin(Stdio::null());
    command
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
    let names: Vec<&str> = if wanted.kernels.is_empty() {
        default.to_vec()
    } else {
        wanted.kernels.iter().map(String::as_str).collect()
    };
    let prepared = script("prepare.sh").status().map_err(|error| format!("prepare.sh: {error}"))?;
    if !prepared.success() {
        return Err("this machine cannot boot kernels; see the line above".into());
    }
    let output = script("kernels.sh")
        .args(names)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("kernels.sh: {error}"))?;
    if !output.status.success() {
        return Err("the kernels could not be had; see the line above".into());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let kernel = |line: &str| {
        let (release, image) = line.split_once(' ').ok_or("kernels.sh: what is this?")?;
        Ok(Kernel::Vm(release.into(), image.into()))
    };
    text.lines().map(kernel).collect()
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
            command.arg(program).args(words);
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
        let log = script("kernel-log.sh").arg(out.join("dmesg")).status();
        if !log.is_ok_and(|status| status.success()) {
            return Err(format!("the log of kernel {release} reports trouble; see above"));
        }
    }
    if status.success() { Ok(lines) } else { Err(format!("{what} failed on {release}: {status}")) }
}
