//! The outcome of a comparison, printed.

use super::compare::{Count, Finding, Outcome, Verdict};
use crate::cli::exit::Failure;
use crate::cli::listing::{print_json, print_rows};
use serde_json::{Value, json};
use std::io::Write;
use ublkit::Features;
use ublkit::sys::ublk::FEATURES;

/// What was compared, and what came of it.
#[derive(Debug)]
pub(super) struct Report {
    /// The running kernel's release; none for a file.
    pub(super) kernel: Option<String>,
    /// The files with BTF.
    pub(super) files: Vec<String>,
    /// Why the driver's own BTF is not among them.
    pub(super) driver_left_out: Option<String>,
    pub(super) outcome: Outcome,
    /// What the driver answered, or why it was not asked.
    pub(super) features: Result<Features, String>,
}

impl Report {
    /// How many things differ.
    pub(super) fn differing(&self) -> usize {
        let differs = |finding: &&Finding| finding.verdict == Verdict::Differs;
        self.outcome.findings.iter().filter(differs).count()
    }

    /// Prints it.
    pub(super) fn print(&self, as_json: bool) -> Result<(), Failure> {
        let mut findings = self.outcome.findings.clone();
        findings.extend(self.feature_findings());
        findings.sort_by_key(|finding| finding.verdict);
        if as_json { self.print_json(&findings) } else { self.print_text(&findings) }
    }

    /// Feature bits that one side has and the other does not.
    fn feature_findings(&self) -> Vec<Finding> {
        let Ok(offered) = self.features else { return Vec::new() };
        let lacking = FEATURES.iter().filter(|one| offered.bits() & one.value == 0);
        let mut findings: Vec<Finding> = lacking
            .map(|one| Finding {
                verdict: Verdict::Lacks,
                what: one.name.into(),
                says: "a feature".into(),
            })
            .collect();
        let known = FEATURES.iter().fold(0, |all, one| all | one.value);
        let beyond = (0..u64::BITS).filter(|bit| offered.bits() & !known & 1 << bit != 0);
        findings.extend(beyond.map(|bit| Finding {
            verdict: Verdict::Beyond,
            what: format!("bit {bit}"),
            says: "a feature".into(),
        }));
        findings
    }

    fn print_text(&self, findings: &[Finding]) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        let kernel = self.kernel.as_ref().map_or("a saved kernel".into(), |k| format!("Linux {k}"));
        writeln!(out, "ublkit {} and {kernel}", env!("CARGO_PKG_VERSION"))?;
        writeln!(out, "BTF of {}", self.files.join(" and "))?;
        if let Some(why) = &self.driver_left_out {
            writeln!(out, "BTF of the driver left out: {why}")?;
        }
        writeln!(out)?;
        drop(out);
        let row = |finding: &Finding| {
            [word(finding.verdict).to_string(), finding.what.clone(), finding.says.clone()]
        };
        let rows: Vec<[String; 3]> = findings.iter().map(row).collect();
        print_rows(&rows)?;
        let mut out = std::io::stdout().lock();
        if !findings.is_empty() {
            writeln!(out)?;
        }
        let Outcome { structs, constants, .. } = self.outcome;
        writeln!(out, "structs:   {}", sentence(structs, "not in any kernel's BTF"))?;
        writeln!(
            out,
            "constants: {}",
            sentence(constants, "macros or lacking: BTF has enums only")
        )?;
        match &self.features {
            Ok(offered) => {
                let there = FEATURES.iter().filter(|one| offered.bits() & one.value != 0).count();
                let lacking = FEATURES.len() - there;
                writeln!(out, "features:  {there} there, {lacking} lacking")?;
            }
            Err(why) => writeln!(out, "features:  left out: {why}")?,
        }
        Ok(out.flush()?)
    }

    fn print_json(&self, findings: &[Finding]) -> Result<(), Failure> {
        let findings: Vec<Value> = findings
            .iter()
            .map(|one| json!({ "verdict": word(one.verdict), "what": one.what, "says": one.says }))
            .collect();
        print_json(&json!({
            "ublkit": env!("CARGO_PKG_VERSION"),
            "kernel": self.kernel,
            "btf": self.files,
            "driver_left_out": self.driver_left_out,
            "differing": self.differing(),
            "structs": count_json(self.outcome.structs),
            "constants": count_json(self.outcome.constants),
            "features_bits": self.features.as_ref().ok().map(|offered| offered.bits()),
            "features_left_out": self.features.as_ref().err(),
            "findings": findings,
        }))
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Differs => "differs",
        Verdict::Lacks => "lacks",
        Verdict::Beyond => "beyond",
        Verdict::Renamed => "renamed",
    }
}

fn sentence(count: Count, why_not: &str) -> String {
    let Count { agree, differ, lacking, not_comparable } = count;
    format!(
        "{agree} agree, {differ} differ, {lacking} lacking, \
         {not_comparable} cannot be compared ({why_not})"
    )
}

fn count_json(count: Count) -> Value {
    json!({
        "agree": count.agree,
        "differ": count.differ,
        "lacking": count.lacking,
        "not_comparable": count.not_comparable,
    })
}
