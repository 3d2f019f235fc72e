//! The simulated kernel against recordings of real ones: the same scripts, answer by answer.
//!
//! `cargo test --test witness -- [--kernel 6.12] [--seed N]… [SCRIPT…]`

#![allow(unreachable_pub, reason = "a program: nobody else sees it")]

mod known;
mod script;
mod simulated;
mod tables;

use known::{NOT_MODELLED, NotModelled, UNSHOWN};
use script::record::{self, Observation};
use script::run::run;
use script::{Script, random, scripts};
use simulated::Simulated;
use std::collections::{BTreeMap, BTreeSet};
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
    /// Lines that may differ, and do: the place of each in its list, and of the list.
    not_modelled: BTreeSet<(usize, usize)>,
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
            "{series}: {scripts} scripts, {steps} steps; {} scripts differ, {} lines not \
             modelled, {left_out} scripts are left out, {warn} were only recorded",
            different.len(),
            not_modelled.len()
        );
        let unneeded = unneeded(series, &wanted.names, &not_modelled);
        unneeded
            .iter()
            .for_each(|line| println!("{series}: agrees, and need not be known: {line}"));
        wrong += different.len() + unneeded.len();
    }
    for what in NOT_MODELLED {
        let NotModelled { series, script, reason, lines } = what;
        let series = series.join(" and ");
        println!("not modelled: {series}: {script}: {} lines: {reason}", lines.len());
    }
    for (gap, seen) in UNSHOWN {
        println!("not modelled: no script: {}: {gap}", seen.words());
    }
    println!("not modelled: {} things", known::count());
    let controls = if wanted.names.is_empty() { controls(&recordings) } else { Ok(()) };
    if let Err(control) = &controls {
        println!("{control}");
    }
    let tables = tables::check();
    if let Err(error) = &tables {
        println!("{error}");
    }
    println!("{:.1} s", begun.elapsed().as_secs_f64());
    if wrong == 0 && controls.is_ok() && tables.is_ok() {
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
            None => {
                let seen = run(&mut Simulated::new(profile), &script, None, QUIET);
                let text = record::to_text(&[seen]);
                let line = format!("{series} is to be recorded; the simulation says:\n{text}");
                tally.different.push(line);
            }
            Some(expected) => compare_one(series, profile, &script, expected, &mut tally),
        }
    }
    tally
}

/// Lines of scripts that ran which may differ, and do not.
fn unneeded(series: &str, names: &[String], used: &BTreeSet<(usize, usize)>) -> Vec<String> {
    let ran = |script: &str| names.is_empty() || names.iter().any(|part| script.contains(part));
    let lists = NOT_MODELLED.iter().enumerate();
    let lists = lists.filter(|(_, list)| list.series.contains(&series) && ran(list.script));
    let lines = lists.flat_map(|(place, list)| {
        list.lines.iter().enumerate().map(move |(line, (_, kernel, _))| ((place, line), *kernel))
    });
    lines.filter(|(place, _)| !used.contains(place)).map(|(_, line)| line.into()).collect()
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
    let mut unknown = Vec::new();
    for difference in differences {
        match known::find(series, name, &difference) {
            Some(place) => drop(tally.not_modelled.insert(place)),
            None => unknown.push(difference),
        }
    }
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
    for series in recordings {
        controls_of_known(series)?;
    }
    println!(
        "controls: a changed word, another kernel's profile, another answer of a step that is not \
         modelled, and a step that agrees by now are noticed"
    );
    Ok(())
}

/// What is known to differ is known with its answers: another one is a difference, and then the
/// known one is not needed any more.
fn controls_of_known(series: &str) -> Result<(), String> {
    for list in NOT_MODELLED.iter().filter(|list| list.series.contains(&series)) {
        let names = [list.script.to_owned()];
        for (step, kernel, answer) in list.lines {
            let what = kernel.split(" => ").next().unwrap_or_default();
            let changed_to = |new: &str| {
                let mut changed = recorded(series);
                let lines = changed.get_mut(list.script).map(|seen| &mut seen.lines);
                let line = lines.and_then(|lines| lines.get_mut(*step));
                *line.ok_or("control: nothing to change")? = format!("{what} => {new}");
                let tally = compare(series, profile(series), &names, &changed);
                let unneeded = unneeded(series, &names, &tally.not_modelled);
                Ok::<_, String>((tally.different.len(), unneeded.len()))
            };
            let (another, same) = (changed_to("EXDEV")?, changed_to(answer)?);
            if another != (1, 1) || same != (0, 1) {
                return Err(format!("control: {kernel:?}: {another:?} and {same:?} are noticed"));
            }
        }
    }
    Ok(())
}
