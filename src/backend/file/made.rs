//! [`MadeFile`]: a file that was made for a disk, and goes again where no disk comes of it.

use rustix::fs::{AtFlags, Mode, OFlags};
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::Path;

/// A file that was made, in the way of the next attempt if nothing comes of this one: it is removed
/// when this is dropped, unless it was [kept](Self::keep).
#[derive(Debug)]
#[must_use = "the file is removed when this is dropped"]
pub struct MadeFile {
    /// Where it is. Its path may lead elsewhere by then, or nowhere.
    folder: OwnedFd,
    name: OsString,
    /// Whether it goes when this is dropped.
    goes: bool,
}

impl MadeFile {
    /// Makes a file where there is none, and opens it with `flags`.
    pub(super) fn open(path: &Path, flags: OFlags) -> Result<(OwnedFd, Self), rustix::io::Errno> {
        let name = path.file_name().ok_or(rustix::io::Errno::EXIST)?; // a folder's
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let looks = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(parent.unwrap_or(Path::new(".")), looks, Mode::empty())?;
        let flags = flags | OFlags::CREATE | OFlags::EXCL;
        let file = rustix::fs::openat(&folder, name, flags, Mode::RUSR | Mode::WUSR)?;
        Ok((file, Self { folder, name: name.into(), goes: true }))
    }

    /// Whether it goes when this is dropped.
    pub(super) fn goes(&mut self, goes: bool) {
        self.goes = goes;
    }

    /// A disk came of it: the file stays.
    pub fn keep(mut self) {
        self.goes = false;
    }
}

impl Drop for MadeFile {
    fn drop(&mut self) {
        if self.goes {
            let _ = rustix::fs::unlinkat(&self.folder, &self.name, AtFlags::empty());
        }
    }
}
