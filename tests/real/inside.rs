//! The inside role: runs the cases as root on a kernel with ublk.

use crate::cases::{CASES, Case, Context, LAST};
use crate::{Wanted, kernels, tools};
use std::io::{BufRead, BufReader};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use ublkit::{Control, DeviceInfo, Error, Features, Linux};

/// A case that takes longer hangs.
const SLICE_LIMIT: Duration = Duration::from_secs(120);
const FULL_LIMIT: Duration = Duration::from_secs(900);

/// What the process of the cases prints last.
const PASSED: &str = "verdict: passed";
const FAILED: &str = "verdict: failed";

/// Has a process of its own run the cases, and believes its verdict: a process whose commands the
/// kernel never ends cannot end either.
#[expect(clippy::zombie_processes, reason = "it may never end; this process ends at once")]
pub fn run() -> ExitCode {
    let program = std::env::current_exe().expect("a program");
    let words = std::env::args().skip(2); // without the program and the role
    let mut command = Command::new(program);
    command.arg("cases").args(words).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("it runs");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    for line in lines.map_while(Result::ok) {
        match line.as_str() {
            PASSED => return ExitCode::SUCCESS,
            FAILED => return ExitCode::FAILURE,
            line => println!("{line}"),
        }
    }
    println!("FAILED: the process of the cases ended without a verdict: {:?}", child.wait());
    ExitCode::FAILURE
}

/// Runs the wanted cases. Prints lines for the host (`kernel: …`, `ok: …`, `absent: …`) and the
/// verdict.
pub fn cases(wanted: &Wanted) -> ExitCode {
    let passed = all(wanted);
    println!("{}", if passed { PASSED } else { FAILED });
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs the wanted cases; whether all passed.
fn all(wanted: &Wanted) -> bool {
    let release = tools::read("/proc/sys/kernel/osrelease").trim().to_string();
    println!("kernel: {release}");
    let features = match features() {
        Ok(features) => features,
        Err(error) => {
            println!("FAILED: {error}");
            return false;
        }
    };
    let series = kernels::series(&release);
    let seeds = Vec::leak(wanted.seeds.clone());
    let context = Context {
        depth: wanted.depth,
        features,
        quirks: series.quirks,
        expendable: wanted.expendable,
        seeds,
    };
    if wanted.expendable {
        // Pages stay dirty until somebody writes them: cases kill servers while that is done.
        for (setting, percent) in [("dirty_ratio", "80"), ("dirty_background_ratio", "60")] {
            let set = std::fs::write(format!("/proc/sys/vm/{setting}"), percent);
            set.unwrap_or_else(|error| println!("  {setting}: {error}"));
        }
    }
    let mut failed = Vec::new();
    let mut lacks_recordings = false;
    let last = if wanted.expendable { LAST } else { &[] };
    for case in CASES.iter().chain(last) {
        if !wanted.names.is_empty() && !wanted.names.iter().any(|name| case.name.contains(name)) {
            continue;
        }
        if !case.is_possible() {
            if !std::mem::replace(&mut lacks_recordings, true) {
                println!("absent: witness"); // one word for all of them
            }
            continue;
        }
        let missing = case.needs - features;
        if !missing.is_empty() {
            if series.absent.contains(missing) {
                println!("absent: {}", case.name);
            } else {
                println!("FAILED: {}: the kernel lacks {missing}, and no table says so", case.name);
                failed.push(case.name);
            }
            continue;
        }
        let begun = Instant::now();
        let (result, usable) = one(case, context);
        match result {
            Ok(()) => println!("ok: {} ({:.1} s)", case.name, begun.elapsed().as_secs_f64()),
            Err(why) => {
                println!("FAILED: {}: {why}", case.name);
                failed.push(case.name);
            }
        }
        if !usable {
            println!("no more cases: what {} left behind cannot be removed", case.name);
            break;
        }
    }
    if !failed.is_empty() {
        println!("{} failed: {}", failed.len(), failed.join(", "));
    }
    failed.is_empty()
}

/// What the driver knows, if it can add a device and delete it: the cases have no use for one that
/// cannot, such as 6.18.5's.
fn features() -> Result<Features, Error> {
    let mut control = Control::open(Linux)?;
    let granted = control.add(&DeviceInfo::wish(1, 1, 4096), Duration::from_secs(10))?;
    if let Some(id) = granted.id {
        control.device(id).delete()?;
    }
    Ok(control.features()?.unwrap_or_default())
}

/// Runs one case, and looks for what it left behind; and whether others can run after it.
fn one(case: &'static Case, context: Context) -> (Result<(), String>, bool) {
    let limit = if context.depth == crate::Depth::Full { FULL_LIMIT } else { SLICE_LIMIT };
    let (done, watched) = channel::<()>();
    let watchdog = std::thread::spawn(move || {
        if watched.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            println!("FAILED: {}: hangs for {} s already", case.name, limit.as_secs());
            tools::show_stacks();
            println!("{FAILED}");
            std::process::exit(1);
        }
    });
    let result = catch_unwind(AssertUnwindSafe(|| (case.run)(context)));
    drop(done);
    let _ = watchdog.join();
    let result = result.map_err(|panic| tools::panic_message(&*panic));
    if LAST.iter().any(|last| last.name == case.name) {
        return (result, true); // it leaves much behind, and only its like comes after it
    }
    let left = tools::leftovers();
    let usable = tools::clean();
    let tidy =
        if left.is_empty() { Ok(()) } else { Err(format!("left behind: {}", left.join(", "))) };
    (result.and(tidy), usable)
}
