//! The running kernel as a witness: it still answers every script as its recording says.

mod linux;
#[path = "../../../witness/script/mod.rs"]
mod script;
#[path = "../../../witness/simulated.rs"]
mod simulated;

use super::Context;
use crate::tools;
use linux::Threads;
use script::record::{self, Observation};
use script::run::run;
use script::{Script, scripts};
use simulated::Simulated;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};
use ublkit::sim::Profile;

/// How long it must be quiet before a step is taken to be over: where a recording says what to wait
/// for, and where nothing does.
const QUIET: Duration = Duration::from_millis(8);
const QUIET_UNKNOWN: Duration = Duration::from_millis(50);
/// The same in the simulation, where time costs nothing.
const QUIET_SIMULATED: Duration = Duration::from_millis(20);
/// A script that takes longer is named.
const SLOW: Duration = Duration::from_secs(5);

/// Of how many scripts a slice takes one.
const SLICE: usize = 4;

/// The scripts of a part: all, or one of some.
fn part(name: &str, context: Context) {
    let (name, make) = scripts::PARTS.iter().find(|(part, _)| *part == name).expect("a part");
    let step = if is_blessing() { 1 } else { context.pick(SLICE, 1) };
    witness(name, &make().into_iter().step_by(step).collect::<Vec<_>>());
}

/// Whether what is seen becomes the recording.
fn is_blessing() -> bool {
    std::env::var_os("UBLKIT_BLESS").is_some()
}

pub fn control(context: Context) {
    part("control", context);
}

pub fn params(context: Context) {
    part("params", context);
}

pub fn lives(context: Context) {
    part("lives", context);
}

pub fn slots(context: Context) {
    part("slots", context);
}

pub fn results(context: Context) {
    part("results", context);
}

pub fn user_copy(context: Context) {
    part("user-copy", context);
}

/// Scripts that a kernel may not survive (6.12 oopses), or that take long, run at full length only.
fn is_left_to_full(context: Context) -> bool {
    let is_slice = context.depth == crate::Depth::Slice && context.seeds.is_empty();
    if is_slice && !is_blessing() {
        println!("measured: nothing: these scripts run with --full only");
    }
    is_slice && !is_blessing()
}

pub fn server(context: Context) {
    if is_left_to_full(context) {
        return;
    }
    part("server", context);
}

/// The recorded seeds; or those that are wished, of which nothing is recorded: what they do is
/// printed.
pub fn random(context: Context) {
    if is_left_to_full(context) {
        return;
    }
    if context.seeds.is_empty() {
        return part("random", context);
    }
    for seed in context.seeds {
        let seen = run(&mut Threads::new(), &script::random::random(*seed), None, QUIET_UNKNOWN);
        print!("{}", record::to_text(&[seen]));
    }
}

pub fn optional(context: Context) {
    part("optional", context);
}

/// Seeds that nobody has seen: the kernel and the simulation, side by side.
pub fn fresh(context: Context) {
    if is_left_to_full(context) {
        return;
    }
    let Some(profile) = Profile::named(&series()) else {
        println!("measured: there is no profile of {} to compare with", series());
        return;
    };
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let first = context.seeds.first().copied().unwrap_or(since_1970.as_secs());
    let count = context.pick(10, 200);
    println!("measured: {count} random scripts, the first of seed {first}");
    let (mut steps, mut differences) = (0, Vec::new());
    for seed in first..first + count {
        let script = script::random::random(seed);
        if script.spares(&series()).is_some() {
            continue;
        }
        let told = run(&mut Simulated::new(profile), &script, None, QUIET_SIMULATED);
        let seen = run(&mut Threads::new(), &script, Some(&told), QUIET);
        steps += seen.lines.len();
        if let Some((line, says, does)) = record::differences(&told, &seen).first() {
            let both = format!("  simulation: {says}\n  kernel:     {does}");
            differences.push(format!("seed {seed}, line {line}:\n{both}"));
        }
    }
    println!("measured: {steps} steps, of which the simulation knows nothing before");
    let count = differences.len();
    assert!(count == 0, "{count} differences:\n{}", differences.join("\n"));
}

pub fn rings(context: Context) {
    part("rings", context);
}

/// The series of the running kernel, such as `6.12`.
fn series() -> String {
    let release = tools::read("/proc/sys/kernel/osrelease");
    release.split('.').take(2).collect::<Vec<_>>().join(".")
}

fn recorded(part: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/witness/recorded");
    folder.join(series()).join(format!("{part}.txt"))
}

/// Runs scripts, writes down what was observed, and compares it with the recording.
fn witness(part: &str, scripts: &[Script]) {
    let path = recorded(part);
    let recording = std::fs::read_to_string(&path).map(|text| record::from_text(&text));
    let recording: BTreeMap<String, Observation> = recording.unwrap_or_default();
    let blessing = is_blessing();
    // The folder that can be written inside a virtual machine.
    let out = std::env::var_os("UBLKIT_OUT").map(|out| {
        let folder = Path::new(&out).join("recorded").join(series());
        std::fs::create_dir_all(&folder).unwrap();
        File::create(folder.join(format!("{part}.txt"))).unwrap()
    });
    let begun = Instant::now();
    let mut steps = 0;
    let mut differences = Vec::new();
    for script in scripts {
        let name = &script.name;
        if script.spares(&series()).is_some() {
            continue;
        }
        let expected = recording.get(name);
        if expected.is_none() && !blessing {
            println!("{name}: is to be recorded");
            continue; // it would take its time, and there is nothing to compare it with
        }
        let quiet = if expected.is_some() && !blessing { QUIET } else { QUIET_UNKNOWN };
        let script_begun = Instant::now();
        let observation = run(&mut Threads::new(), script, expected, quiet);
        if script_begun.elapsed() > SLOW {
            println!("{name}: {:.1} s", script_begun.elapsed().as_secs_f64());
        }
        if observation.lines.iter().any(|line| line.contains("STUCK")) {
            println!("{name}: stuck: {}", observation.lines.join("; "));
            differences.push(format!("{name} was stuck"));
        }
        let same = expected.filter(|expected| record::same_steps(expected, &observation));
        match same.map(|expected| record::differences(expected, &observation)) {
            None => println!("{name}: is to be recorded (anew)"),
            Some(lines) => differences.extend(lines.first().map(|(line, was, is)| {
                format!("{name}: line {line}:\n  recorded: {was}\n  now:      {is}")
            })),
        }
        steps += observation.lines.len();
        if let Some(mut out) = out.as_ref() {
            out.write_all(record::to_text(&[observation]).as_bytes()).unwrap();
        }
    }
    println!(
        "measured: {} scripts of {part}, {steps} steps, {:.1} s",
        scripts.len(),
        begun.elapsed().as_secs_f64()
    );
    let count = differences.len();
    if blessing {
        println!("{count} differences from what was recorded");
    } else {
        assert!(count == 0, "{count} differences:\n{}", differences.join("\n"));
    }
}
