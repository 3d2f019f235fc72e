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

/// Of how many scripts a slice takes one: of those by hand, and of the recorded random ones.
const SLICE: usize = 4;
const SLICE_OF_RANDOM: usize = 12;
/// Fresh scripts in a slice, and at full length.
const FRESH: [u64; 2] = [8, 200];
const FRESH_OF_BATCHES: [u64; 2] = [4, 100];
/// A slice, which judges a change, is the same each time; at full length nobody has seen them.
const FIRST_OF_SLICE: u64 = 1_795_000_000;

/// The scripts of a part: all, or one of some.
fn part(name: &str, context: Context) {
    part_of(name, SLICE, context);
}

fn part_of(name: &str, slice: usize, context: Context) {
    let (name, make) = scripts::PARTS.iter().find(|(part, _)| *part == name).expect("a part");
    let step = if is_blessing() { 1 } else { context.pick(slice, 1) };
    let all = make();
    let count = all.len();
    let bearable: Vec<Script> = all.into_iter().filter(is_bearable).collect();
    println!("measured: {} scripts of {name} are spared", count - bearable.len());
    witness(name, &bearable.into_iter().step_by(step).collect::<Vec<_>>());
}

/// Whether a script does not harm the running kernel, and has it say nothing of faults, but for a
/// recording.
fn is_bearable(script: &Script) -> bool {
    script.spares(&series()).is_none() && (is_blessing() || !script.warns(&series()))
}

/// Whether there is anything that the running kernel can be compared with.
pub fn is_recorded() -> bool {
    is_blessing() || recorded("slots").exists()
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

pub fn server(context: Context) {
    part("server", context);
}

/// The recorded seeds; or those that are wished, of which nothing is recorded: what they do is
/// printed.
pub fn random(context: Context) {
    if context.seeds.is_empty() {
        return part_of("random", SLICE_OF_RANDOM, context);
    }
    show(context.seeds, script::random::random);
}

/// What the kernel says to the scripts of seeds.
fn show(seeds: &[u64], make: fn(u64) -> Script) {
    for seed in seeds {
        let seen = run(&mut Threads::new(), &make(*seed), None, QUIET_UNKNOWN);
        print!("{}", record::to_text(&[seen]));
    }
}

pub fn optional(context: Context) {
    part("optional", context);
}

/// Seeds that are not recorded: the kernel and the simulation, side by side.
pub fn fresh(context: Context) {
    let profile = Profile::named(&series()).expect("who is recorded is simulated");
    assert!(profile.is_witnessed());
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let first = context.pick(FIRST_OF_SLICE, since_1970.as_secs());
    let first = context.seeds.first().copied().unwrap_or(first);
    let of_slots = context.pick(FRESH[0], FRESH[1]);
    let of_batches = context.pick(FRESH_OF_BATCHES[0], FRESH_OF_BATCHES[1]);
    let of_slots = (first..first + of_slots).map(script::random::random);
    let of_batches = (first..first + of_batches).map(script::random::random_batch);
    let scripts: Vec<Script> = of_slots.chain(of_batches).filter(is_bearable).collect();
    println!("measured: {} random scripts, the first of seed {first}", scripts.len());
    let (mut steps, mut differences) = (0, Vec::new());
    for script in scripts {
        println!("{}", script.name); // the last one, should it hang
        let told = simulated(profile, &script);
        let seen = compared(&script, &told);
        steps += seen.lines.len();
        if let Some((line, says, does)) = record::differences(&told, &seen).first() {
            let both = format!("  simulation: {says}\n  kernel:     {does}");
            differences.push(format!("{}, line {line}:\n{both}", script.name));
        }
    }
    println!("measured: {steps} steps, of which no recording tells");
    let count = differences.len();
    assert!(count == 0, "{count} differences:\n{}", differences.join("\n"));
}

/// Those by hand and random ones; or those of wished seeds, like [`random`].
pub fn batches(context: Context) {
    if context.seeds.is_empty() {
        part("batch", context);
        return part_of("random-batch", SLICE_OF_RANDOM, context);
    }
    show(context.seeds, script::random::random_batch);
}

pub fn cancellations(context: Context) {
    part("cancel", context);
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

fn simulated(profile: Profile, script: &Script) -> Observation {
    run(&mut Simulated::new(profile), script, None, QUIET_SIMULATED)
}

/// Runs a script of which it is known what is to be seen. On a busy machine something may come
/// late: what differs is looked at once more, slowly.
fn compared(script: &Script, expected: &Observation) -> Observation {
    let seen = run(&mut Threads::new(), script, Some(expected), QUIET);
    if seen == *expected || !record::same_steps(expected, &seen) {
        return seen;
    }
    println!("measured: {} is run again, slowly", script.name);
    run(&mut Threads::new(), script, Some(expected), QUIET_UNKNOWN)
}

/// Runs a script to write down what is seen; the simulation only says how long to wait for it.
fn blessed(script: &Script) -> Observation {
    let told = Profile::named(&series()).map(|profile| simulated(profile, script));
    run(&mut Threads::new(), script, told.as_ref(), QUIET_UNKNOWN)
}

/// Runs the scripts of a part, and compares what is seen with the recording; or makes that its
/// recording.
fn witness(part: &str, scripts: &[Script]) {
    let text = std::fs::read_to_string(recorded(part)).ok();
    let recording = text.as_deref().map(record::from_text);
    let begun = Instant::now();
    let (mut steps, mut wrong) = (0, Vec::new());
    let mut blessing = is_blessing().then(|| written(part));
    assert!(recording.is_some() || is_blessing(), "{part} is not recorded on {}", series());
    let recording = recording.unwrap_or_default();
    for script in scripts {
        let script_begun = Instant::now();
        let name = &script.name;
        let expected = recording.get(name);
        let seen = match (expected, &blessing) {
            (_, Some(_)) => blessed(script),
            (Some(expected), None) => compared(script, expected),
            (None, None) => {
                wrong.push(format!("{name}: is to be recorded"));
                continue;
            }
        };
        if script_begun.elapsed() > SLOW {
            println!("{name}: {:.1} s", script_begun.elapsed().as_secs_f64());
        }
        if seen.lines.iter().any(|line| line.contains("STUCK")) {
            wrong.push(format!("{name} was stuck: {}", seen.lines.join("; ")));
        }
        let differences = expected.map(|expected| record::differences(expected, &seen));
        if let Some((line, was, is)) = differences.iter().flatten().next() {
            wrong.push(format!("{name}: line {line}:\n  recorded: {was}\n  now:      {is}"));
        }
        steps += seen.lines.len();
        if let Some(out) = &mut blessing {
            out.write_all(record::to_text(&[seen]).as_bytes()).unwrap();
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!("measured: {} scripts of {part}, {steps} steps, {seconds:.1} s", scripts.len());
    let report = format!("{} scripts differ:\n{}", wrong.len(), wrong.join("\n"));
    if blessing.is_some() {
        println!("{report}");
    } else {
        assert!(wrong.is_empty(), "{report}");
    }
}

/// A new recording, in the folder that can be written inside a virtual machine.
fn written(part: &str) -> File {
    let out = std::env::var_os("UBLKIT_OUT").expect("a recording is made in a virtual machine");
    let folder = Path::new(&out).join("recorded").join(series());
    std::fs::create_dir_all(&folder).unwrap();
    File::create(folder.join(format!("{part}.txt"))).unwrap()
}
