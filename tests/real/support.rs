//! The support table: which kernels passed what, in `target/vm/support.md` and in README.

use crate::host::{Outcome, root};
use std::fmt;

/// What came of one kernel.
#[derive(Debug)]
pub struct Verdict {
    pub release: String,
    pub passed: usize,
    pub absent: Vec<String>,
    pub seconds: u64,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { release, passed, absent, seconds } = self;
        write!(f, "  {release}: {passed} cases passed, {} absent, {seconds} s", absent.len())
    }
}

impl Verdict {
    /// Its line of the table.
    fn row(&self) -> String {
        let Self { release, passed, absent, .. } = self;
        let absent = if absent.is_empty() { "–".into() } else { absent.join(", ") };
        format!("| {release} | {passed} | {absent} |")
    }
}

const HEAD: &str = "| kernel | cases passed | not in this kernel |\n|---|---|---|\n";
const BEGIN: &str = "<!-- support: written by `cargo matrix` -->\n";
const END: &str = "<!-- /support -->";

/// Writes the table of a run of all cases. When that was on every kernel there is, README's table
/// becomes that; otherwise README must not say anything else about the kernels that ran.
pub fn told(results: &[Verdict], every: bool) -> Outcome<()> {
    let rows: Vec<String> = results.iter().map(Verdict::row).collect();
    let table = format!("{HEAD}{}\n", rows.join("\n"));
    let folder = root().join("target/vm");
    let failed = |error| format!("the support table: {error}");
    std::fs::create_dir_all(&folder).map_err(failed)?;
    std::fs::write(folder.join("support.md"), &table).map_err(failed)?;

    let readme = root().join("README.md");
    let text = std::fs::read_to_string(&readme).map_err(failed)?;
    let (before, rest) = text.split_once(BEGIN).ok_or("README has lost its support table")?;
    let (told, after) = rest.split_once(END).ok_or("README's support table has no end")?;
    if every {
        let text = format!("{before}{BEGIN}{table}{END}{after}");
        return std::fs::write(&readme, text).map_err(failed);
    }
    for row in &rows {
        let differs = |line: &&str| series(line) == series(row) && counts(line) != counts(row);
        if let Some(line) = told.lines().find(differs) {
            return Err(format!(
                "README's support table says '{line}', and this run '{row}': run 'cargo matrix', \
                 which writes it"
            ));
        }
    }
    Ok(())
}

/// The series that a row is about, such as `6.12`: its updates come and go.
fn series(row: &str) -> Vec<&str> {
    let release = row.trim_start_matches("| ");
    release.split(|c: char| !c.is_ascii_digit()).take(2).collect()
}

/// What a row says of it.
fn counts(row: &str) -> Option<&str> {
    row.trim_start_matches("| ").split_once(" | ").map(|(_, counts)| counts)
}
