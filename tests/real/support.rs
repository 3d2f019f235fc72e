//! The support table: which kernels passed what, in `target/vm/support.md` and in README.

use crate::document;
use crate::guest::{Outcome, root};
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
/// Its name in README.
const SECTION: &str = "support";

/// Writes the table of a run of all cases, with those kernels that passed them. When that was on
/// every kernel there is, README's table becomes that; or by `UBLKIT_BLESS` these rows of it.
/// Otherwise README must not promise more of the kernels that ran than they kept.
pub fn told(results: &[Verdict], every: bool) -> Outcome<()> {
    let rows: Vec<String> = results.iter().map(Verdict::row).collect();
    let table = |rows: &[String]| format!("{HEAD}{}\n", rows.join("\n"));
    let folder = root().join("target/vm");
    let failed = |error| format!("the support table: {error}");
    std::fs::create_dir_all(&folder).map_err(failed)?;
    std::fs::write(folder.join("support.md"), table(&rows)).map_err(failed)?;

    let readme = root().join("README.md");
    if every {
        return document::rewrite(&readme, SECTION, &table(&rows));
    }
    let told = document::section(&readme, SECTION)?;
    if std::env::var_os("UBLKIT_BLESS").is_some() {
        let is_new = |row: &&str| rows.iter().any(|new| series(new) == series(row));
        let others = told.lines().skip(2).filter(|row| !is_new(row)).map(str::to_owned);
        let mut all: Vec<String> = others.chain(rows.iter().cloned()).collect();
        all.sort_by_key(|row| {
            series(row).into_iter().map(|number| number.parse::<u32>().ok()).collect::<Vec<_>>()
        });
        return document::rewrite(&readme, SECTION, &table(&all));
    }
    for (result, row) in results.iter().zip(&rows) {
        let broken = |line: &&str| series(line) == series(row) && !is_kept(line, result);
        if let Some(line) = told.lines().find(broken) {
            return Err(format!(
                "README's support table promises '{line}', and this run gave '{row}': see why, or \
                 run 'cargo matrix', which writes the table"
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

/// Whether a kernel passed as many cases as a row says, and lacks no more than it says.
fn is_kept(row: &str, result: &Verdict) -> bool {
    let passed = row.split(" | ").nth(1).and_then(|number| number.parse::<usize>().ok());
    passed.is_some_and(|passed| passed <= result.passed)
        && result.absent.iter().all(|name| row.contains(name))
}
