//! The budget: what a request may cost, in a file that is committed.

use crate::guest::{Outcome, root};
use crate::host::Run;
use crate::report::{Spread, once, samples};
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

/// Compares ublkit's instructions, user and kernel, with those of an earlier run on the same
/// kernel and of the same compiler; or makes them what others are compared with.
pub fn compare_totals(run: &Run, bless: bool) -> Outcome<()> {
    let mut figures = BTreeMap::new();
    let keys = || run.samples.iter().map(|sample| &sample.key);
    for group in once(keys().map(|key| key[0].as_str())) {
        for cell in once(keys().map(|key| key[1].as_str())) {
            for name in once(keys().map(|key| key[2].as_str())) {
                let costs = samples(run, [group, cell, name]).filter_map(|it| it.cpu_ns_per_io);
                if let Some(spread) = Spread::of(costs).filter(|_| name.starts_with("ublkit")) {
                    figures.insert(format!("{name}: {group}, {cell}"), spread.median.round());
                }
            }
        }
    }
    if bless {
        let kernel = Value::from(run.release.clone());
        return put(&[("kernel", kernel), ("instructions on it", json!(figures))]);
    }
    let budget = read()?;
    let (toolchain, kernel) = (toolchain()?, run.release.as_str());
    if budget.get("kernel").and_then(Value::as_str) != Some(kernel)
        || budget["toolchain"].as_str() != Some(&toolchain)
    {
        println!("Not compared: there are no figures of {kernel} and {toolchain}.");
        return Ok(());
    }
    for (name, figure) in &figures {
        if let Some(before) = budget["instructions on it"].get(name).and_then(Value::as_f64) {
            let change = (figure / before - 1.0) * 100.0;
            println!("{name}: {figure} instructions, {change:+.1} % of {before}");
        }
    }
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
