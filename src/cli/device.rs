//! [`Device`]: a device as people name it.

use super::exit::Failure;
use super::{devices, number, state};
use std::fmt;
use std::path::{Path, PathBuf};
use ublkit::ErrorKind;

/// Which device a command is about.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct Device {
    /// The number N in /dev/ublkbN, that path, or the name that '--name' gave
    #[arg(value_name = "DEVICE", value_parser = Which::parse)]
    which: Which,
}

impl Device {
    #[cfg(test)]
    pub(super) fn named(which: Which) -> Self {
        Self { which }
    }

    /// Its number.
    ///
    /// # Errors
    /// `NotFound` for a name or a path that leads to no device. A number need not be one's.
    pub(super) fn id(&self) -> Result<u32, Failure> {
        self.which.id()
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.which {
            Which::Number(id) => write!(f, "ublk device {id}"),
            Which::Path(path) => write!(f, "the device of {}", path.display()),
            Which::Name(name) => write!(f, "the device '{name}'"),
        }
    }
}

/// What was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Which {
    Number(u32),
    /// Of a link to its disk.
    Path(PathBuf),
    Name(String),
}

impl Which {
    /// Reads a number, a path or a name.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if let Ok(number) = number::device(text) {
            return Ok(Self::Number(number));
        }
        if text.starts_with('/') {
            return Ok(Self::Path(text.into()));
        }
        state::name(text).map(Self::Name).map_err(|_| {
            "give the number N of /dev/ublkbN, that path, or the name that '--name' gave".into()
        })
    }

    /// Its number.
    pub(super) fn id(&self) -> Result<u32, Failure> {
        match self {
            Self::Number(id) => Ok(*id),
            Self::Path(path) => behind(path).ok_or_else(|| {
                not_found(format!(
                    "{} does not lead to a ublk device: 'ublkit list' shows all that there are",
                    path.display()
                ))
            }),
            Self::Name(name) => named(name)?.ok_or_else(|| {
                let place = state::place().unwrap_or_default();
                not_found(format!(
                    "no device is called '{name}' in {}: 'ublkit list' shows all that there are",
                    place.display()
                ))
            }),
        }
    }
}

fn not_found(sentence: String) -> Failure {
    Failure::Said(ErrorKind::NotFound, sentence)
}

/// The device to whose disk a link leads.
fn behind(link: &Path) -> Option<u32> {
    number::device(std::fs::canonicalize(link).ok()?.to_str()?).ok()
}

/// The device with that name: its record has the word by which the kernel knows it.
fn named(name: &str) -> Result<Option<u32>, Failure> {
    let Some(tag) = state::tag_of(name)? else { return Ok(None) };
    let mut control = devices::control()?;
    let mut has_it = |id| devices::info(&mut control, id).is_ok_and(|it| it.server_word == tag);
    Ok(devices::ids().into_iter().find(|id| has_it(*id)))
}

#[cfg(test)]
mod tests {
    use super::Which;
    use proptest::prelude::*;

    #[test]
    fn devices_of_people() {
        for (text, which) in [
            ("7", Which::Number(7)),
            ("/dev/ublkb7", Which::Number(7)),
            ("/dev/ublkc7", Which::Number(7)),
            ("scratch", Which::Name("scratch".into())),
            ("/run/ublkit/by-name/x", Which::Path("/run/ublkit/by-name/x".into())),
            ("/dev/ublkb1p1", Which::Path("/dev/ublkb1p1".into())),
        ] {
            assert_eq!(Which::parse(text), Ok(which), "{text}");
        }
        for text in ["", "-1", "4294967296", "a/b", "a b"] {
            assert!(Which::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_link_leads_to_a_disk() {
        let link = std::env::temp_dir().join(format!("ublkit-link-{}", std::process::id()));
        for (disk, id) in [("/dev/null", None), ("/nowhere/at/all", None)] {
            std::os::unix::fs::symlink(disk, &link).unwrap();
            let found = Which::Path(link.clone()).id();
            std::fs::remove_file(&link).unwrap();
            assert_eq!(found.ok(), id, "{disk}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "\\PC*") {
            let _ = Which::parse(&text);
        }
    }
}
