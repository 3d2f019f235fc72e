//! The budget: what a request may cost, in a file that is committed.

use crate::guest::{Outcome, root};
use crate::sample::Run;
use crate::totals;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

/// How much more than its budget a request may cost.
const GROWTH: f64 = 1.03;

fn file() -> PathBuf {
    root().join("tests/bench/budget.json")
}

/// Whether a figure is more than its budget allows.
pub fn exceeds(figure: f64, budget: f64) -> bool {
    figure > budget * GROWTH
}

/// The compiler: another one makes other instructions.
pub fn toolchain() -> Outcome<String> {
    let output = Command::new("rustc").arg("--version").output();
    let output = output.map_err(|error| format!("rustc: {error}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn read() -> Outcome<Map<String, Value>> {
    let file = file();
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let text = std::fs::read_to_string(&file).map_err(|error| failed(&error))?;
    serde_json::from_str(&text).map_err(|error| failed(&error))
}

/// Writes one part of the budget, and leaves the others.
fn put(parts: &[(&str, Value)]) -> Outcome<()> {
    let mut budget = if file().exists() { read()? } else { Map::new() };
    for (name, value) in parts {
        budget.insert((*name).into(), value.clone());
    }
    let text = format!("{:#}\n", Value::Object(budget));
    std::fs::write(file(), text).map_err(|error| format!("{}: {error}", file().display()))?;
    println!("\nThis is the budget now.");
    Ok(())
}

/// Makes the figures the budget of user instructions.
pub fn write(figures: &BTreeMap<String, f64>) -> Outcome<()> {
    let rounded: BTreeMap<&String, f64> =
        figures.iter().map(|(name, figure)| (name, (figure * 10.0).round() / 10.0)).collect();
    put(&[("toolchain", toolchain()?.into()), ("user instructions", json!(rounded))])
}

/// Makes ublkit's instructions, user and kernel, what later runs are compared with.
pub fn record_totals(run: &Run) -> Outcome<()> {
    let costs = totals::of(run, |name| name.starts_with("ublkit"));
    put(&[
        ("kernel", Value::from(run.release.clone())),
        ("kernel's build", Value::from(run.build.clone())),
        ("instructions on it", totals::to_json(&costs)),
    ])
}

/// Compares ublkit's instructions, user and kernel, with those of an earlier run on the same
/// kernel package and of the same compiler; with `check` more than is allowed is a failure.
pub fn compare_totals(run: &Run, check: bool) -> Outcome<()> {
    let budget = read()?;
    let text = |name: &str| budget.get(name).and_then(Value::as_str).unwrap_or("nothing");
    let ours = [run.release.clone(), run.build.clone(), toolchain()?];
    let kept = ["kernel", "kernel's build", "toolchain"].map(text);
    if ours.iter().zip(kept).any(|(ours, kept)| ours != kept) {
        let (ours, kept) = (ours.join(", "), kept.join(", "));
        println!("Not compared: this is {ours}, and the figures are of {kept}.");
        return Ok(());
    }
    let before = totals::from_json(&budget["instructions on it"]);
    let verdict = totals::judge(&totals::of(run, |name| name.starts_with("ublkit")), &before);
    verdict.lines.iter().for_each(|line| println!("{line}"));
    if check && verdict.lines.is_empty() {
        return Err("nothing was compared".into());
    }
    if verdict.broken.is_empty() {
        println!("None costs more than it did, but for 3 %.");
        return Ok(());
    }
    let sentence = format!("more than it was: {}", verdict.broken.join("; "));
    if check {
        return Err(sentence);
    }
    println!("{sentence}");
    Ok(())
}

/// Says how the figures compare with the budget, and fails for one that exceeds it.
pub fn compare(figures: &BTreeMap<String, f64>, check: bool) -> Outcome<()> {
    let budget = read()?;
    let (ours, theirs) = (toolchain()?, budget["toolchain"].as_str().unwrap_or_default());
    if ours != theirs {
        println!("\nNot compared: the budget is {theirs}'s, and this is {ours}.");
        return Ok(());
    }
    let of = |name: &str| budget["user instructions"].get(name).and_then(Value::as_f64);
    let mut broken = Vec::new();
    for (name, &figure) in figures {
        match of(name) {
            None => broken.push(format!("{name} has no budget")),
            Some(budget) if exceeds(figure, budget) => {
                broken.push(format!("{name} costs {figure:.1} instructions, where {budget} were"));
            }
            Some(budget) if exceeds(budget, figure) => {
                println!("\n{name} costs less than its budget of {budget}: lower it (--bless)");
            }
            Some(_) => {}
        }
    }
    if broken.is_empty() {
        println!("\nAll within the budget, which may be exceeded by 3 %.");
        return Ok(());
    }
    let sentence = broken.join("; ");
    if check {
        return Err(sentence);
    }
    println!("\nOver the budget: {sentence}");
    Ok(())
}
