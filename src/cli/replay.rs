//! `replay`: a recorded conversation with a backend, without kernel or root.

use super::exit::Failure;
use super::serve::memory_of;
use clap::ValueEnum;
use std::io::Write;
use std::path::Path;
use ublkit::replay::{Error, Malformed, Recording, Report, replay};
use ublkit::{Blocking, ErrorKind, Null};

/// The backends that a recording can be replayed with.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum BackendName {
    /// Keeps nothing and answers at once
    Null,
    /// Keeps the disk in memory
    Memory,
}

/// Replays the recording in a file.
pub(super) fn run(
    path: &Path,
    backend: BackendName,
    size_bytes: Option<u64>,
) -> Result<(), Failure> {
    let named = path.display();
    let bytes = std::fs::read(path).map_err(|error| {
        let sentence =
            format!("cannot read {named}: {error}; give what 'ublkit serve --trace=FILE' wrote");
        Failure::Said(ErrorKind::Failed, sentence)
    })?;
    let refused = |error: Malformed| {
        let sentence = format!("{named} cannot be replayed: {error}");
        Failure::Said(ErrorKind::Usage, sentence)
    };
    let recording = Recording::parse(&bytes).map_err(refused)?;
    let mut geometry = recording.geometry();
    if let Some(size_bytes) = size_bytes {
        geometry.size_bytes = size_bytes;
    }
    let report = match backend {
        BackendName::Null => replay(&recording, Blocking::new(Null::new(geometry))),
        BackendName::Memory => replay(&recording, Blocking::new(memory_of(geometry, None)?)),
    };
    let report = report.map_err(|error| match error {
        Error::Device(error) => Failure::Library(error),
        other => Failure::Said(ErrorKind::Failed, other.to_string()),
    })?;
    tell(&report)?;
    match report.different {
        0 => Ok(()),
        count => {
            let sentence = format!("{count} answers are not those of {named}");
            Err(Failure::Said(ErrorKind::Failed, sentence))
        }
    }
}

fn tell(report: &Report) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    for difference in &report.differences {
        writeln!(out, "{difference}")?;
    }
    let more = report.different - report.differences.len() as u64;
    if more > 0 {
        writeln!(out, "and {more} more")?;
    }
    let Report { requests, answers, reads, .. } = report;
    writeln!(
        out,
        "{requests} requests replayed, {answers} answers and the data of {reads} reads compared"
    )?;
    Ok(out.flush()?)
}
