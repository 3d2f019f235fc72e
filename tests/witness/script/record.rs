//! Recordings: what a kernel answered, as text, and how two of them are compared.

use std::collections::BTreeMap;
use std::fmt::Write;

/// What was observed of one script: a line for each step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    pub name: String,
    pub lines: Vec<String>,
}

/// Between the result of a step and the things that it made happen.
pub const BETWEEN: &str = " | ";

/// What follows the number of a command whose answer did not come in its step.
pub const WAITS: &str = " waits";

/// What is known of a step before it is made, and so what is waited for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hint {
    /// How many things happen.
    pub events: usize,
    /// How many control commands are not answered.
    pub waits: usize,
}

impl Hint {
    /// Of a step that was observed.
    pub fn of(line: &str) -> Self {
        let happened = line.split(BETWEEN).skip(1);
        let (waits, events): (Vec<_>, Vec<_>) = happened.partition(|what| what.ends_with(WAITS));
        Self { events: events.len(), waits: waits.len() }
    }
}

/// The text of a recording.
pub fn to_text(observations: &[Observation]) -> String {
    let mut text = String::new();
    for Observation { name, lines } in observations {
        let _ = writeln!(text, "{name}");
        lines.iter().for_each(|line| {
            let _ = writeln!(text, "  {line}");
        });
    }
    text
}

/// Reads a recording.
pub fn from_text(text: &str) -> BTreeMap<String, Observation> {
    let mut all: BTreeMap<String, Observation> = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(line) = line.strip_prefix("  ") {
            if let Some(observation) = all.get_mut(&current) {
                observation.lines.push(line.to_owned());
            }
        } else {
            current = line.to_owned();
            all.insert(line.into(), Observation { name: line.into(), lines: Vec::new() });
        }
    }
    all
}

/// The lines in which two observations of a script differ: their number, and both.
pub fn differences(one: &Observation, other: &Observation) -> Vec<(usize, String, String)> {
    let longest = one.lines.len().max(other.lines.len());
    let line = |from: &Observation, at: usize| {
        from.lines.get(at).cloned().unwrap_or_else(|| "(nothing)".into())
    };
    (0..longest)
        .map(|at| (at, line(one, at), line(other, at)))
        .filter(|(_, one, other)| one != other)
        .collect()
}

/// Whether two observations are of the same steps: a script that was changed is to be recorded
/// anew.
pub fn same_steps(one: &Observation, other: &Observation) -> bool {
    let step = |line: &String| line.split(" => ").next().unwrap_or_default().to_owned();
    one.lines.iter().map(step).eq(other.lines.iter().map(step))
}
