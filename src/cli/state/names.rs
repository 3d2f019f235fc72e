//! [`Names`]: symbolic links from what users call their devices to the disks.

use super::Directory;
use crate::cli::exit::Failure;
use std::path::{Path, PathBuf};
use ublkit::ErrorKind;

/// The longest name.
const MAX_BYTES: usize = 64;

/// Reads a name: letters, digits, `.`, `_` and `-`, and no number.
pub(in crate::cli) fn name(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    if !text.chars().all(fits) || text.starts_with(['.', '-']) || is_number {
        return Err("give letters, digits, '.', '_' and '-', such as 'scratch-1'; a number would \
                    be a device's"
            .into());
    }
    if text.len() > MAX_BYTES {
        return Err(format!("give {MAX_BYTES} letters at the most"));
    }
    Ok(text.into())
}

/// The folder of links.
#[derive(Debug)]
pub(super) struct Names {
    folder: PathBuf,
}

impl Names {
    /// Opens it in a directory that is believed; makes it where it is not there.
    pub(super) fn open(directory: &Directory) -> Result<Self, Failure> {
        let folder = directory.path().join("by-name");
        Directory::open_at(folder.clone())?;
        Ok(Self { folder })
    }

    /// Lets a name lead to a disk, at once.
    pub(super) fn point(&self, name: &str, disk: &str) -> Result<(), Failure> {
        let (link, draft) = (self.folder.join(name), self.folder.join(format!(".{name}")));
        let _ = std::fs::remove_file(&draft);
        let made = std::os::unix::fs::symlink(disk, &draft);
        made.and_then(|()| std::fs::rename(&draft, &link)).map_err(|error| {
            let sentence = format!(
                "cannot make the link {}: {error}; its disk is {disk} all the same",
                link.display()
            );
            Failure::Said(ErrorKind::Failed, sentence)
        })
    }

    /// Forgets a name, if it leads to that disk.
    pub(super) fn remove(&self, name: &str, disk: &str) {
        let link = self.folder.join(name);
        if std::fs::read_link(&link).is_ok_and(|target| target == Path::new(disk)) {
            let _ = std::fs::remove_file(link);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn names_of_people() {
        for good in ["scratch", "a", "7up", "x_1.img-2"] {
            assert_eq!(name(good), Ok(good.into()));
        }
        for bad in ["", "7", ".x", "..", "-x", "a/b", "a b", "ä", &"x".repeat(65)] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }
}
