//! The inside role: runs the cases as root on a kernel with ublk.

use crate::cases::{CASES, Case, Context, LAST};
use crate::{Wanted, kernels, tools};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use ublkit::{Control, Linux};

/// A case that takes longer hangs.
const SLICE_LIMIT: Duration = Duration::from_secs(120);
const FULL_LIMIT: Duration = Duration::from_secs(900);

/// Runs the wanted cases. Prints lines for the host: `kernel: …`, `ok: …`, `absent: …`.
pub fn run(wanted: &Wanted) -> ExitCode {
    let release = tools::read("/proc/sys/kernel/osrelease").trim().to_string();
    println!("kernel: {release}");
    let known = Control::open(Linux).and_then(|mut control| control.features());
    let features = match known {
        Ok(features) => features.unwrap_or_default(),
        Err(error) => {
            println!("FAILED: {error}");
            return ExitCode::FAILURE;
        }
    };
    let series = kernels::series(&release);
    let context = Context { depth: wanted.depth, features, quirks: series.quirks };
    let mut failed = Vec::new();
    let last = if wanted.expendable { Some(&LAST) } else { None };
    for case in CASES.iter().chain(last) {
        if !wanted.names.is_empty() && !wanted.names.iter().any(|name| case.name.contains(name)) {
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
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("{} failed: {}", failed.len(), failed.join(", "));
    ExitCode::FAILURE
}

/// Runs one case, and looks for what it left behind; and whether others can run after it.
fn one(case: &'static Case, context: Context) -> (Result<(), String>, bool) {
    let limit = if context.depth == crate::Depth::Full { FULL_LIMIT } else { SLICE_LIMIT };
    let (done, watched) = channel::<()>();
    let watchdog = std::thread::spawn(move || {
        if watched.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            println!("FAILED: {}: hangs for {} s already", case.name, limit.as_secs());
            tools::show_stacks();
            std::process::exit(1);
        }
    });
    let result = catch_unwind(AssertUnwindSafe(|| (case.run)(context)));
    drop(done);
    let _ = watchdog.join();
    let result = result.map_err(|panic| tools::panic_message(&*panic));
    if case.name == LAST.name {
        return (result, true); // it leaves much behind, and nothing comes after it
    }
    let left = tools::leftovers();
    let usable = tools::clean();
    let tidy =
        if left.is_empty() { Ok(()) } else { Err(format!("left behind: {}", left.join(", "))) };
    (result.and(tidy), usable)
}
