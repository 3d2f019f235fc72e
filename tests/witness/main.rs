//! The simulated kernel against recordings of real ones: the same scripts, answer by answer.
//!
//! `cargo test --test witness -- [--kernel 6.12] [--seed N]… [SCRIPT…]`

#![allow(unreachable_pub, reason = "a program: nobody else sees it")]

mod known;
mod rules;
mod script;
mod simulated;

use known::NOT_MODELLED;
use script::record::{self, Observation};
use script::run::run;
use script::{Script, random, scripts};
use simulated::Simulated;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use ublkit::sim::Profile;

/// Virtual time that must pass without anything new before a step is taken to be over.
const QUIET: Duration = Duration::from_millis(20);

/// What the command line asks for.
#[derive(Debug, Default)]
struct Wanted {
    kernels: Vec<String>,
    seeds: Vec<u64>,
    /// Only scripts whose name contains one of these.
    names: Vec<String>,
}

/// What came of comparing.
#[derive(Debug, Default)]
struct Tally {
    scripts: usize,
    steps: usize,
    not_modelled: usize,
    left_out: usize,
    /// Scripts that real kernels do not run again.
    warn: usize,
    /// What is wrong, script by script.
    different: Vec<String>,
}

fn main() -> ExitCode {
    let mut wanted = Wanted::default();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--kernel" => wanted.kernels.extend(words.next()),
            "--seed" => wanted.seeds.extend(words.next().and_then(|seed| seed.parse::<u64>().ok())),
            flag if flag.starts_with('-') => {} // the usual harness's, such as --nocapture
            _ => wanted.names.push(word),
        }
    }
    if !wanted.seeds.is_empty() {
        show(&wanted);
        return ExitCode::SUCCESS;
    }
    let begun = Instant::now();
    let is_wanted =
        |name: &String| wanted.kernels.is_empty() || wanted.kernels.iter().any(|k| k == name);
    let witnessed = Profile::ALL.iter().filter(|profile| profile.is_witnessed());
    let recordings: Vec<String> =
        witnessed.map(ToString::to_string).filter(|name| is_wanted(name)).collect();
    let mut wrong = 0;
    for series in &recordings {
        let Tally { scripts, steps, not_modelled, left_out, warn, different } =
            compare(series, profile(series), &wanted.names, &recorded(series));
        different.iter().for_each(|text| println!("{text}"));
        println!(
            "{series}: {scripts} scripts, {steps} steps; {} scripts differ, {not_modelled} lines \
             not modelled, {left_out} scripts are left out, {warn} were only recorded",
            different.len()
        );
        wrong += different.len();
    }
    for what in NOT_MODELLED {
        println!("not modelled: {}: {:?}: {}", what.script, what.line, what.reason);
    }
    let controls = if wanted.names.is_empty() { controls(&recordings) } else { Ok(()) };
    if let Err(control) = &controls {
        println!("{control}");
    }
    let rules = rules::check();
    if let Err(error) = &rules {
        println!("{error}");
    }
    println!("{:.1} s", begun.elapsed().as_secs_f64());
    if wrong == 0 && controls.is_ok() && rules.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn profile(series: &str) -> Profile {
    Profile::named(series).expect("a profile")
}

/// Shows what the simulation says to scripts of seeds.
fn show(wanted: &Wanted) {
    let kernels =
        if wanted.kernels.is_empty() { vec!["7.3".into()] } else { wanted.kernels.clone() };
    for (kernel, seed) in kernels.iter().flat_map(|k| wanted.seeds.iter().map(move |s| (k, s))) {
        for script in [random::random(*seed), random::random_batch(*seed)] {
            let seen = run(&mut Simulated::new(profile(kernel)), &script, None, QUIET);
            print!("{kernel} {}", record::to_text(&[seen]));
        }
    }
}

/// All recordings of a kernel.
fn recorded(series: &str) -> BTreeMap<String, Observation> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/witness/recorded").join(series);
    let parts = scripts::PARTS.iter().map(|(part, _)| folder.join(format!("{part}.txt")));
    let texts = parts.filter_map(|path| std::fs::read_to_string(path).ok());
    texts.flat_map(|text| record::from_text(&text)).collect()
}

/// Runs scripts on a profile, and compares with recordings.
fn compare(
    series: &str,
    profile: Profile,
    names: &[String],
    recorded: &BTreeMap<String, Observation>,
) -> Tally {
    let mut tally = Tally::default();
    for script in scripts::PARTS.iter().flat_map(|(_, make)| make()) {
        let name = &script.name;
        if !names.is_empty() && !names.iter().any(|part| name.contains(part)) {
            continue;
        }
        if script.spares(series).is_some() {
            tally.left_out += 1;
            continue;
        }
        match recorded.get(name) {
            None => tally.different.push(format!("{series} {name}: is to be recorded")),
            Some(expected) => compare_one(series, profile, &script, expected, &mut tally),
        }
    }
    tally
}

fn compare_one(
    series: &str,
    profile: Profile,
    script: &Script,
    expected: &Observation,
    tally: &mut Tally,
) {
    let name = &script.name;
    let seen = run(&mut Simulated::new(profile), script, Some(expected), QUIET);
    if !record::same_steps(expected, &seen) {
        let changed = format!("{series} {name}: was changed, and is to be recorded anew");
        tally.different.push(changed);
        return;
    }
    tally.scripts += 1;
    tally.warn += usize::from(script.warns(series));
    tally.steps += seen.lines.len();
    let differences = record::differences(expected, &seen);
    let (known, unknown): (Vec<_>, Vec<_>) = differences
        .into_iter()
        .partition(|(_, is, _)| NOT_MODELLED.iter().any(|what| what.is(series, name, is)));
    tally.not_modelled += known.len();
    if !unknown.is_empty() {
        let both = |(line, kernel, simulation): (usize, String, String)| {
            format!("\n  {line}, kernel:     {kernel}\n  {line}, simulation: {simulation}")
        };
        let lines: String = unknown.into_iter().map(both).collect();
        tally.different.push(format!("{series} {name}: lines that differ:{lines}"));
    }
}

/// Changes that must be seen: one word of a recording, and another kernel's profile.
fn controls(recordings: &[String]) -> Result<(), String> {
    let few = ["slot: ".to_owned()];
    for series in recordings {
        let profile = profile(series);
        let right = compare(series, profile, &few, &recorded(series)).different.len();
        let mut changed = recorded(series);
        let line = changed
            .get_mut("slot: idle")
            .and_then(|seen| seen.lines.iter_mut().find(|line| line.contains("EBUSY")))
            .ok_or("control: nothing to change")?;
        *line = line.replace("EBUSY", "EINVAL");
        let with_change = compare(series, profile, &few, &changed).different.len();
        if with_change <= right {
            return Err(format!("control: a changed word of {series}'s recording is not noticed"));
        }
        let others = Profile::ALL.iter().filter(|other| **other != profile);
        for other in others.filter(|other| other.is_witnessed()) {
            if compare(series, *other, &few, &recorded(series)).different.len() <= right {
                return Err(format!("control: {other} passes for {series}"));
            }
        }
    }
    println!("controls: a changed word and another kernel's profile are noticed");
    Ok(())
}
