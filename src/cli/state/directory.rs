//! [`Directory`]: where records of devices are kept, and why what is read there can be believed.
//!
//! It belongs to the user who runs ublkit, nobody else may enter it, and no symbolic link is
//! followed in it. A record is replaced at once or not at all.

use super::Record;
use crate::cli::exit::Failure;
use core::time::Duration;
use rustix::fs::{Access, AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Instant;
use ublkit::ErrorKind;

/// Names another directory, for tests.
const OVERRIDE: &str = "UBLKIT_STATE_DIR";

/// What it is called, in `/run` or the user's own part of it.
const NAME: &str = "ublkit";

/// How a record's file ends.
const END: &str = ".json";
const SOCKET_END: &str = ".sock";

/// A record is not longer.
const MAX_BYTES: u64 = 1 << 20;

/// What only its owner may do anything with.
const PRIVATE: Mode = Mode::RWXU;

/// The directory of records, open.
#[derive(Debug)]
pub(in crate::cli) struct Directory {
    fd: OwnedFd,
    path: PathBuf,
}

impl Directory {
    /// Where it is: `/run/ublkit` for root, `$XDG_RUNTIME_DIR/ublkit` for others.
    pub(super) fn place() -> Result<PathBuf, Failure> {
        if let Some(path) = std::env::var_os(OVERRIDE).filter(|path| !path.is_empty()) {
            return Ok(path.into());
        }
        if rustix::process::geteuid().is_root() {
            return Ok(Path::new("/run").join(NAME));
        }
        match std::env::var_os("XDG_RUNTIME_DIR").filter(|path| !path.is_empty()) {
            Some(folder) => Ok(Path::new(&folder).join(NAME)),
            None => Err(Failure::Said(
                ErrorKind::Failed,
                format!(
                    "there is no place for records of devices: XDG_RUNTIME_DIR is not set; log in \
                     properly, or name a directory of your own in {OVERRIDE}"
                ),
            )),
        }
    }

    /// Opens it; makes it where it is not there.
    pub(in crate::cli) fn open() -> Result<Self, Failure> {
        Self::open_at(Self::place()?)
    }

    pub(super) fn open_at(path: PathBuf) -> Result<Self, Failure> {
        match rustix::fs::mkdir(&path, PRIVATE) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(failed("make", &path, error)),
        }
        Self::found_at(path.clone())?.ok_or_else(|| failed("open", &path, Errno::NOENT))
    }

    /// Opens it if it is there.
    pub(in crate::cli) fn find() -> Result<Option<Self>, Failure> {
        Self::found_at(Self::place()?)
    }

    fn found_at(path: PathBuf) -> Result<Option<Self>, Failure> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(failed("open", &path, error)),
        };
        let stat = rustix::fs::fstat(&fd).map_err(|error| failed("look at", &path, error))?;
        trusted(&stat, FileType::Directory, Mode::RWXG | Mode::RWXO)
            .map_err(|why| Failure::Said(ErrorKind::Permission, unbelieved(&path, &why)))?;
        Ok(Some(Self { fd, path }))
    }

    /// Keeps others who change a disk's size out until the answer is dropped. Waits for them for
    /// `timeout` at the most.
    pub(in crate::cli) fn lock(&self, timeout: Duration) -> Result<OwnedFd, Failure> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let own = rustix::fs::openat(&self.fd, ".", flags, Mode::empty());
        let own = own.map_err(|error| failed("open", &self.path, error))?;
        let begun = Instant::now();
        loop {
            match rustix::fs::flock(&own, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(own),
                Err(Errno::WOULDBLOCK) if begun.elapsed() < timeout => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(error) => return Err(failed("lock", &self.path, error)),
            }
        }
    }

    /// What keeps records from being kept there, or from being believed. Makes nothing.
    pub(super) fn troubles_at(path: &Path) -> Vec<String> {
        let may_write = |what: &str, folder: &Path| {
            let may = rustix::fs::access(folder, Access::WRITE_OK | Access::EXEC_OK);
            may.map_err(|error| failed(what, path, error))
        };
        let unfit = match Self::found_at(path.into()) {
            Err(failure) => vec![failure],
            Ok(None) => {
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
                Vec::from_iter(may_write("make", folder.unwrap_or(Path::new("."))).err())
            }
            Ok(Some(directory)) => {
                let records = directory.tags().into_iter().map(|tag| directory.read(tag).map(drop));
                let all = records.chain([may_write("write in", path)]);
                all.filter_map(Result::err).collect()
            }
        };
        unfit.iter().map(Failure::sentence).collect()
    }

    /// Where it is.
    pub(in crate::cli) fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps a record, in place of the one before it.
    pub(in crate::cli) fn write(&self, record: &Record) -> Result<(), Failure> {
        self.replace(&file_name(record.tag), &record.text())
    }

    /// Writes a file in place of the one before it.
    fn replace(&self, name: &str, text: &str) -> Result<(), Failure> {
        let draft = format!(".{name}.{}", std::process::id());
        let failed = |error| failed("write", &self.path.join(name), error);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let _ = rustix::fs::unlinkat(&self.fd, &draft, AtFlags::empty());
        let mode = Mode::RUSR | Mode::WUSR;
        let file = rustix::fs::openat(&self.fd, &draft, flags | OFlags::CLOEXEC, mode);
        let mut file = File::from(file.map_err(failed)?);
        let written = file.write_all(text.as_bytes());
        let kept = written.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO));
        let kept = kept.and_then(|()| rustix::fs::renameat(&self.fd, &draft, &self.fd, name));
        if kept.is_err() {
            let _ = rustix::fs::unlinkat(&self.fd, &draft, AtFlags::empty());
        }
        kept.map_err(failed)
    }

    /// The record of the device that the kernel knows by this tag, if there is one.
    pub(in crate::cli) fn read(&self, tag: u64) -> Result<Option<Record>, Failure> {
        let name = file_name(tag);
        let path = self.path.join(&name);
        // A FIFO or a device would otherwise have its say here.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.fd, &name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(failed("open", &path, error)),
        };
        let stat = rustix::fs::fstat(&file).map_err(|error| failed("look at", &path, error))?;
        let unfit = |why: String| {
            let path = path.display();
            let remedy = "the device can still be deleted: 'ublkit delete'";
            Failure::Said(
                ErrorKind::Failed,
                format!("the record {path} is no use: {why}; {remedy}"),
            )
        };
        trusted(&stat, FileType::RegularFile, Mode::WGRP | Mode::WOTH).map_err(unfit)?;
        let mut text = String::new();
        let read = File::from(file).take(MAX_BYTES).read_to_string(&mut text);
        read.map_err(|error| unfit(error.to_string()))?;
        let record = Record::parse(&text).map_err(unfit)?;
        if record.tag != tag {
            return Err(unfit("it is another device's".into()));
        }
        Ok(Some(record))
    }

    /// Forgets a record, if it is there.
    pub(in crate::cli) fn remove(&self, tag: u64) {
        let _ = rustix::fs::unlinkat(&self.fd, file_name(tag), AtFlags::empty());
    }

    /// Where the socket of the device with this tag is: by the open directory, so that it is that
    /// one, and short enough for a socket's address.
    pub(in crate::cli) fn socket(&self, tag: u64) -> PathBuf {
        let folder = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
        Path::new(&folder).join(socket_name(tag))
    }

    /// Forgets a socket, if it is there.
    pub(in crate::cli) fn remove_socket(&self, tag: u64) {
        let _ = rustix::fs::unlinkat(&self.fd, socket_name(tag), AtFlags::empty());
    }

    /// Leaves word for the server of a device, or an answer of its; none is none.
    pub(in crate::cli) fn leave_word(&self, tag: u64, word: Option<&str>) -> Result<(), Failure> {
        match word {
            Some(word) => self.replace(&word_name(tag), word),
            None => {
                let _ = rustix::fs::unlinkat(&self.fd, word_name(tag), AtFlags::empty());
                Ok(())
            }
        }
    }

    /// The word that was left.
    pub(in crate::cli) fn word(&self, tag: u64) -> Option<String> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.fd, word_name(tag), flags, Mode::empty()).ok()?;
        let stat = rustix::fs::fstat(&file).ok()?;
        trusted(&stat, FileType::RegularFile, Mode::WGRP | Mode::WOTH).ok()?;
        let mut text = String::new();
        File::from(file).take(MAX_BYTES).read_to_string(&mut text).ok()?;
        Some(text)
    }

    /// The tags of all records, in order.
    pub(in crate::cli) fn tags(&self) -> Vec<u64> {
        self.tags_of(END)
    }

    /// Forgets the sockets without a record at which nobody listens: of servers that were killed
    /// after their device was gone, and their record with it.
    pub(super) fn remove_dead_sockets(&self) {
        let known = self.tags();
        for tag in self.tags_of(SOCKET_END).into_iter().filter(|tag| !known.contains(tag)) {
            let answer = UnixStream::connect(self.socket(tag));
            if answer.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
                self.remove_socket(tag);
            }
        }
    }

    /// The record of the device with that name, except one's own.
    pub(super) fn named(&self, name: &str, own: Option<u64>) -> Option<Record> {
        let tags = self.tags().into_iter().filter(|tag| Some(*tag) != own);
        let mut records = tags.filter_map(|tag| self.read(tag).ok()?);
        records.find(|record| record.name.as_deref() == Some(name))
    }

    /// The tags of all files that end so, in order.
    fn tags_of(&self, end: &str) -> Vec<u64> {
        let entries = Dir::read_from(&self.fd).into_iter().flatten().flatten();
        let tag = |name: &str| u64::from_str_radix(name.strip_suffix(end)?, 16).ok();
        let mut tags: Vec<u64> =
            entries.filter_map(|entry| tag(entry.file_name().to_str().ok()?)).collect();
        tags.sort_unstable();
        tags
    }
}

/// The file in which word is left for a server.
fn word_name(tag: u64) -> String {
    format!("{tag:016x}.word")
}

/// The file that a record is in.
fn file_name(tag: u64) -> String {
    format!("{tag:016x}{END}")
}

/// The socket at which its server tells what it does.
fn socket_name(tag: u64) -> String {
    format!("{tag:016x}{SOCKET_END}")
}

/// Whether something is what it should be and only we can have made it; the error says why not.
fn trusted(stat: &Stat, kind: FileType, forbidden: Mode) -> Result<(), String> {
    if FileType::from_raw_mode(stat.st_mode) != kind {
        return Err(format!("it is no {}", if kind.is_dir() { "directory" } else { "file" }));
    }
    let own = rustix::process::geteuid().as_raw();
    if stat.st_uid != own {
        return Err(format!("it belongs to uid {}, not {own}", stat.st_uid));
    }
    let mode = Mode::from_raw_mode(stat.st_mode);
    if mode.intersects(forbidden) {
        return Err(format!("others may use it (mode {:04o})", mode.as_raw_mode()));
    }
    Ok(())
}

/// What is told of a directory that others may have filled.
fn unbelieved(path: &Path, why: &str) -> String {
    let remedy = "make it yours with mode 0700, or remove it";
    format!("{} is not to be believed: {why}; {remedy}", path.display())
}

fn failed(what: &str, path: &Path, error: Errno) -> Failure {
    let errno = ublkit::Errno::from(error);
    let remedy = match error {
        Errno::LOOP | Errno::NOTDIR => {
            "; no symbolic link is followed here, and nothing else will do: remove it"
        }
        Errno::NOENT => "; the folder that it is to be in must be there",
        Errno::ACCESS | Errno::PERM => {
            "; it must be yours: see 'ls -ld', or name another in UBLKIT_STATE_DIR"
        }
        Errno::ROFS | Errno::NOSPC => {
            "; it must be where files can be written: name another in UBLKIT_STATE_DIR"
        }
        Errno::WOULDBLOCK => {
            "; another command has it: wait for that, or give it longer with '--timeout'"
        }
        _ => "",
    };
    let kind = match error {
        Errno::ACCESS | Errno::PERM => ErrorKind::Permission,
        _ => ErrorKind::Failed,
    };
    Failure::Said(kind, format!("cannot {what} {}: {errno}{remedy}", path.display()))
}

#[cfg(test)]
mod tests;
