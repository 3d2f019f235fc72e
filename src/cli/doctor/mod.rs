//! `doctor`: whether this machine can serve, in words.
//!
//! A table of checks, each a function over [`Machine`], which is files below a root and what the
//! kernel answered: tests make bad machines of it.

mod access;
mod devices;
mod kernel;
mod limits;
mod machine;
#[cfg(any(test, fuzzing))]
mod made;
#[cfg(test)]
mod tests;

#[cfg(test)]
pub(super) use made::GOOD;
#[cfg(all(any(test, fuzzing), feature = "sim"))]
pub(super) use made::exercise;

use super::Output;
use super::exit::Failure;
use super::listing::print_json;
use machine::Machine;
use serde_json::{Value, json};
use std::io::Write;
use ublkit::ErrorKind;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// As it should be.
    Ok,
    /// Devices can be served, but somebody should know.
    Note,
    /// No device can be served: the machine or its kernel cannot,
    Cannot,
    /// or whoever asks may not.
    MayNot,
}

/// What a check found.
#[derive(Debug)]
struct Finding {
    verdict: Verdict,
    sentence: String,
    /// What can be done about it; nothing where all is well.
    remedy: Option<String>,
}

impl Finding {
    fn ok(sentence: impl Into<String>) -> Self {
        Self { verdict: Verdict::Ok, sentence: sentence.into(), remedy: None }
    }

    fn note(sentence: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::bad(Verdict::Note, sentence, remedy)
    }

    fn cannot(sentence: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::bad(Verdict::Cannot, sentence, remedy)
    }

    fn may_not(sentence: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::bad(Verdict::MayNot, sentence, remedy)
    }

    fn bad(verdict: Verdict, sentence: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { verdict, sentence: sentence.into(), remedy: Some(remedy.into()) }
    }
}

/// Looks at one thing; finds something in any case.
struct Check {
    name: &'static str,
    look: fn(&Machine) -> Vec<Finding>,
}

/// All checks. What comes first is what the others need.
const CHECKS: &[Check] = &[
    Check { name: "kernel", look: kernel::release },
    Check { name: "health", look: kernel::health },
    Check { name: "processes", look: kernel::processes },
    Check { name: "driver", look: kernel::driver },
    Check { name: "control device", look: access::control_device },
    Check { name: "io_uring", look: access::io_uring },
    Check { name: "capabilities", look: access::capabilities },
    Check { name: "nodes", look: devices::nodes },
    Check { name: "open files", look: limits::open_files },
    Check { name: "locked memory", look: limits::locked_memory },
    Check { name: "device limit", look: limits::unprivileged_devices },
    Check { name: "features", look: devices::features },
    Check { name: "devices", look: devices::leftovers },
    Check { name: "records", look: devices::records },
];

/// What all checks found.
struct Report(Vec<(&'static str, Finding)>);

/// Looks at this machine, and says what came of it.
pub(super) fn run(output: Output) -> Result<(), Failure> {
    let report = Report::of(&Machine::here());
    if output.json {
        print_json(&report.json())?;
    } else {
        let mut out = std::io::stdout().lock();
        write!(out, "{}", report.text())?;
        out.flush()?;
    }
    report.verdict()
}

impl Report {
    fn of(machine: &Machine) -> Self {
        let look = |check: &Check| {
            let name = check.name;
            (check.look)(machine).into_iter().map(move |finding| (name, finding))
        };
        Self(CHECKS.iter().flat_map(look).collect())
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.0.iter().filter(|(_, finding)| finding.verdict == verdict).count()
    }

    /// Success, if devices can be served; the kind of failure says why they cannot.
    fn verdict(&self) -> Result<(), Failure> {
        let kind = match (self.count(Verdict::Cannot), self.count(Verdict::MayNot)) {
            (0, 0) => return Ok(()),
            (0, _) => ErrorKind::Permission,
            _ => ErrorKind::Unsupported,
        };
        let sentence = match self.count(Verdict::Cannot) + self.count(Verdict::MayNot) {
            1 => "one thing keeps this machine from serving: see 'problem' above".into(),
            many => format!("{many} things keep this machine from serving: see 'problem' above"),
        };
        Err(Failure::Said(kind, sentence))
    }

    fn text(&self) -> String {
        let width = CHECKS.iter().map(|check| check.name.len()).max().unwrap_or(0);
        let mut text = String::new();
        for (name, Finding { verdict, sentence, remedy }) in &self.0 {
            let word = verdict.word();
            text += &format!("{word:7}  {name:width$}  {sentence}\n");
            if let Some(remedy) = remedy {
                text += &format!("{:7}  {:width$}  -> {remedy}\n", "", "");
            }
        }
        text
    }

    fn json(&self) -> Value {
        let finding = |(name, finding): &(&str, Finding)| {
            let Finding { verdict, sentence, remedy } = finding;
            json!({
                "check": name,
                "verdict": verdict.word(),
                "sentence": sentence,
                "remedy": remedy,
            })
        };
        json!({
            "can_serve": self.verdict().is_ok(),
            "findings": self.0.iter().map(finding).collect::<Vec<_>>(),
        })
    }
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Cannot | Self::MayNot => "problem",
        }
    }
}
