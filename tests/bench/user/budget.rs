//! The budget: what a request may cost, in a file that is committed.

use crate::host::{Outcome, root};
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

/// Makes the figures the budget.
pub fn write(figures: &BTreeMap<String, f64>) -> Outcome<()> {
    let rounded: BTreeMap<&String, f64> =
        figures.iter().map(|(name, figure)| (name, (figure * 10.0).round() / 10.0)).collect();
    let budget = json!({ "toolchain": toolchain()?, "user instructions": rounded });
    let text = format!("{budget:#}\n");
    std::fs::write(file(), text).map_err(|error| format!("{}: {error}", file().display()))?;
    println!("\nThis is the budget now.");
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
