//! [`MadeFile`]: a file that was made for a disk, and goes again where no disk comes of it.

use rustix::fs::{AtFlags, Mode, OFlags};
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A file that was made, in the way of the next attempt if nothing comes of this one: it is removed
/// when this is dropped, unless it was [kept](Self::keep). It stays locked until then.
#[derive(Debug)]
#[must_use = "the file is removed when this is dropped"]
pub struct MadeFile {
    /// Where it is. Its path may lead elsewhere by then, or nowhere.
    folder: OwnedFd,
    /// What it is called there.
    name: OsString,
    /// The file, with its lock: nobody else serves it before it is gone.
    file: OwnedFd,
    /// Whether it goes when this is dropped.
    goes: bool,
}

impl MadeFile {
    /// Makes a file where there is none, and opens it with `flags`.
    pub(super) fn open(path: &Path, flags: OFlags) -> Result<(OwnedFd, Self), rustix::io::Errno> {
        let is_name = |name: &&OsStr| path.as_os_str().as_bytes().ends_with(name.as_bytes());
        let name = path.file_name().filter(is_name).ok_or(rustix::io::Errno::ISDIR)?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let looks = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(parent.unwrap_or(Path::new(".")), looks, Mode::empty())?;
        let flags = flags | OFlags::CREATE | OFlags::EXCL;
        let file = rustix::fs::openat(&folder, name, flags, Mode::RUSR | Mode::WUSR)?;
        let same = rustix::io::fcntl_dupfd_cloexec(&file, 0)?;
        Ok((file, Self { folder, name: name.into(), file: same, goes: true }))
    }

    /// Whether it goes when this is dropped.
    pub(super) fn goes(&mut self, goes: bool) {
        self.goes = goes;
    }

    /// A disk came of it: the file stays.
    pub fn keep(mut self) {
        self.goes = false;
    }

    /// Whether its name still leads to it.
    fn is_there(&self) -> bool {
        let own = rustix::fs::fstat(&self.file);
        let named = rustix::fs::statat(&self.folder, &self.name, AtFlags::SYMLINK_NOFOLLOW);
        let file = |stat: rustix::fs::Stat| (stat.st_dev, stat.st_ino);
        matches!((own.map(file), named.map(file)), (Ok(own), Ok(named)) if own == named)
    }
}

impl Drop for MadeFile {
    fn drop(&mut self) {
        if self.goes && self.is_there() {
            let _ = rustix::fs::unlinkat(&self.folder, &self.name, AtFlags::empty());
        }
    }
}
