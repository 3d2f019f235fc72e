//! Documents print what the simulation is as it is: what differs between kernels, and what is not
//! played.

use super::known::{self, NOT_MODELLED, UNSHOWN};
use std::collections::BTreeSet;
use std::path::Path;
use ublkit::sim::Rule;

/// A table of a document, and the name of the marks around it.
type Table = (&'static str, &'static str, fn() -> String);

const TABLES: [Table; 2] =
    [("docs/protocol.md", "rules", rules), ("docs/testing.md", "gaps", gaps)];

fn rules() -> String {
    let mut text =
        String::from("| since | the newer way, and what was before | in |\n|---|---|---|\n");
    for rule in Rule::ALL {
        let words: Vec<&str> = rule.sentence().split_whitespace().collect();
        text += &format!("| {} | {} | `{}` |\n", rule.series(), words.join(" "), rule.source());
    }
    text
}

fn gaps() -> String {
    let mut text = format!("| not played ({}) | seen |\n|---|---|\n", known::count());
    for reason in known::reasons() {
        let lists = NOT_MODELLED.iter().filter(|list| list.reason == reason);
        let lines: usize = lists.clone().map(|list| list.lines.len() * list.series.len()).sum();
        let scripts: BTreeSet<_> = lists.map(|list| format!("`{}`", list.script)).collect();
        text +=
            &format!("| {reason} | {lines} lines of {} |\n", Vec::from_iter(scripts).join(", "));
    }
    for (gap, seen) in UNSHOWN {
        text += &format!("| {gap} | {} |\n", seen.words());
    }
    text
}

/// Compares the documents' tables with what they print; with `UBLKIT_BLESS`, writes them.
pub fn check() -> Result<(), String> {
    TABLES.iter().try_for_each(|table| check_one(*table))
}

fn check_one((document, name, table): Table) -> Result<(), String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(document);
    let text = std::fs::read_to_string(&path).map_err(|error| error.to_string())?;
    let begin = format!("<!-- {name}: written by UBLKIT_BLESS=1 cargo test --test witness -->\n");
    let end = "<!-- end -->";
    let parts = text.split_once(&begin).ok_or(format!("{document} has no table of {name}"))?;
    let (before, rest) = parts;
    let (printed, after) = rest.split_once(end).ok_or("a table has no end")?;
    if printed == table() {
        return Ok(());
    }
    if std::env::var_os("UBLKIT_BLESS").is_some() {
        let text = format!("{before}{begin}{}{end}{after}", table());
        return std::fs::write(&path, text).map_err(|error| error.to_string());
    }
    Err(format!("{document} does not print the {name} as they are: UBLKIT_BLESS=1 rewrites it"))
}
