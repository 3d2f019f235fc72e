//! [`File`]: a disk in a file or on another disk, moved by operations on the queue's own ring.

mod found;
mod made;

#[cfg(any(test, fuzzing))]
pub(crate) use found::unit_of;
pub use made::MadeFile;

use super::Target;
use crate::errno::Errno;
use crate::error::Error;
use crate::geometry::{Durability, Geometry};
use crate::handler::{Completion, FileIndex, Handler, Io, Space, Step};
use crate::needs::{Access, Needs, QueueInfo};
use crate::request::Operation;
use core::time::Duration;
use found::{BLOCKS, Found};
use rustix::fs::{FileType, FlockOperation, Mode, OFlags};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// A disk in a regular file, or on another block device.
///
/// What clients wrote is durable after their next flush, or at once where they ask for that (FUA):
/// each becomes `fdatasync`, or a write with `RWF_DSYNC`. Discarded ranges become holes, and are
/// discarded on a block device: where that cannot discard, the disk cannot either.
#[derive(Debug)]
pub struct File {
    file: Arc<OwnedFd>,
    /// What becomes of discarded ranges.
    discards: Space,
    geometry: Geometry,
    /// The file itself, where opening it made it.
    made: Option<MadeFile>,
}

/// How a file is opened.
#[derive(Clone, Debug)]
#[must_use]
pub struct FileOptions {
    path: PathBuf,
    size_bytes: Option<u64>,
    direct: bool,
    read_only: bool,
    block_bytes: Option<u32>,
    patience: Duration,
    at_most: Option<u64>,
}

/// Between two looks whether another server has let go.
const PAUSE: Duration = Duration::from_millis(10);

/// The only file.
const ALL: FileIndex = FileIndex(0);

/// The cookie of a discard that the disk below is to do as its own.
const OWN: u8 = 1;

impl FileOptions {
    /// The file at `path`, as large as it is, through the page cache.
    pub fn new(path: impl AsRef<Path>) -> Self {
        let path = path.as_ref().to_owned();
        let (direct, read_only, patience) = (false, false, Duration::ZERO);
        let (size_bytes, block_bytes, at_most) = (None, None, None);
        Self { path, size_bytes, direct, read_only, block_bytes, patience, at_most }
    }

    /// Makes a sparse file of that size where there is none. One that is there must have it.
    pub fn size_bytes(mut self, size_bytes: u64) -> Self {
        self.size_bytes = Some(size_bytes);
        self
    }

    /// Goes around the page cache (`O_DIRECT`). The disk's blocks are what that needs.
    pub fn direct(mut self, direct: bool) -> Self {
        self.direct = direct;
        self
    }

    /// Opens it for reading, and lets nobody write the disk.
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// The disk's logical blocks; without them, what the file needs, 512 bytes at the least.
    pub fn block_bytes(mut self, block_bytes: u32) -> Self {
        self.block_bytes = Some(block_bytes);
        self
    }

    /// Makes a disk of no more than that of it: what a device is that was to grow, and was not told
    /// of it yet.
    pub fn at_most(mut self, size_bytes: u64) -> Self {
        self.at_most = Some(size_bytes);
        self
    }

    /// How long another server may take to let go of the file; not at all unless said otherwise.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Opens the file, and locks it (`flock`): two servers cannot write the same one, nor one while
    /// others read it. The lock of a server that died is there until all that it had under way has
    /// ended. Blocks as `open(2)` does, and for its patience.
    ///
    /// # Errors
    ///
    /// [`Error::File`]: what `open(2)` answers; `EBUSY`: a block device that is mounted or
    /// otherwise claimed. [`Error::Refused`], in a sentence: another server has it, it is no file
    /// or disk, it does not have that size, or cannot have such blocks.
    pub fn open(self) -> Result<File, Error> {
        let opened = self.patiently(rustix::io::Errno::BUSY, || self.open_file());
        let (file, made) = opened.map_err(|errno| self.failed(errno))?;
        self.disk(file, made)
    }

    /// The disk in a file that was just opened, or made.
    fn disk(&self, file: OwnedFd, mut made: Option<MadeFile>) -> Result<File, Error> {
        let failed_call = |error| self.failed(error);
        let refused = |why: String| Error::Refused(format!("{}: {why}", self.path.display()));
        let found = Found::of(&file).map_err(failed_call)?;
        if !found.is_regular && !found.is_block_device {
            return Err(refused(
                "it is neither a regular file nor a block device: give one of those".into(),
            ));
        }
        let lock = if self.read_only {
            FlockOperation::NonBlockingLockShared
        } else {
            FlockOperation::NonBlockingLockExclusive
        };
        match self.patiently(rustix::io::Errno::WOULDBLOCK, || rustix::fs::flock(&file, lock)) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(refused(
                    "another server has it: it is locked; stop that one, or serve both with \
                     '--read-only'"
                        .into(),
                ));
            }
            // A file system without locks keeps nobody from serving.
            Err(rustix::io::Errno::NOSYS | rustix::io::Errno::OPNOTSUPP) => {}
            Err(error) => return Err(failed_call(error)),
        }
        let size_bytes = match self.size_bytes {
            Some(size_bytes) if made.is_some() => {
                rustix::fs::ftruncate(&file, size_bytes).map_err(failed_call)?;
                size_bytes
            }
            Some(wanted) if wanted != found.size_bytes => {
                let size = found.size_bytes;
                return Err(refused(format!("it has {size} bytes, not {wanted}: give no size")));
            }
            _ => found.size_bytes,
        };
        let geometry = self.geometry(&found, size_bytes).map_err(refused)?;
        let discards = if found.is_block_device { Space::Discarded } else { Space::GivenUp };
        if let Some(made) = &mut made {
            made.goes(false);
        }
        Ok(File { file: Arc::new(file), discards, geometry, made })
    }

    fn failed(&self, error: rustix::io::Errno) -> Error {
        Error::File { path: self.path.display().to_string(), errno: error.into() }
    }

    /// Tries until it is not `busy` any more, or patience ends.
    fn patiently<T>(
        &self,
        busy: rustix::io::Errno,
        mut attempt: impl FnMut() -> Result<T, rustix::io::Errno>,
    ) -> Result<T, rustix::io::Errno> {
        let begun = Instant::now();
        loop {
            match attempt() {
                Err(error) if error == busy && begun.elapsed() < self.patience => {
                    std::thread::sleep(PAUSE);
                }
                other => return other,
            }
        }
    }

    /// Opens what is there, or makes it.
    fn open_file(&self) -> Result<(OwnedFd, Option<MadeFile>), rustix::io::Errno> {
        let mut flags = OFlags::CLOEXEC | OFlags::NOCTTY;
        flags |= if self.read_only { OFlags::RDONLY } else { OFlags::RDWR };
        flags.set(OFlags::DIRECT, self.direct);
        if self.size_bytes.is_some() && !self.read_only {
            match MadeFile::open(&self.path, flags) {
                Ok((file, made)) => return Ok((file, Some(made))),
                Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
        }
        // Without O_CREAT, O_EXCL claims a block device for us alone, and means nothing for files.
        let is_block_device = rustix::fs::stat(&self.path)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::BlockDevice);
        flags.set(OFlags::EXCL, is_block_device && !self.read_only);
        Ok((rustix::fs::open(&self.path, flags, Mode::empty())?, None))
    }

    /// The disk that the file makes.
    fn geometry(&self, found: &Found, size_bytes: u64) -> Result<Geometry, String> {
        let least = if self.direct { found.direct_bytes } else { found.block_bytes };
        let least = least.max(*BLOCKS.start());
        let block_bytes = self.block_bytes.unwrap_or(least);
        let most = *BLOCKS.end();
        if least > most {
            return Err(too_large_blocks(least));
        }
        if block_bytes < least {
            return Err(format!(
                "its blocks are of {least} bytes, and cannot be of {block_bytes}: choose {least} \
                 to {most}"
            ));
        }
        let size_bytes = size_bytes.min(self.at_most.unwrap_or(u64::MAX));
        // What does not fill a block at the end is left out.
        let size_bytes = size_bytes - size_bytes % u64::from(block_bytes.max(1));
        let physical = found.best_bytes.clamp(block_bytes, 1 << 20);
        Ok(Geometry {
            logical_block_bytes: block_bytes,
            physical_block_bytes: if physical.is_power_of_two() { physical } else { block_bytes },
            durability: Durability::FlushAndFua,
            read_only: self.read_only,
            discard_bytes: match found.discard_bytes {
                _ if self.read_only => 0,
                Some(0) => 0,
                Some(unit) => unit.max(block_bytes),
                None => block_bytes.max(4096),
            },
            write_zeroes: !self.read_only,
            data_align_bytes: if self.direct { found.memory_align_bytes } else { 0 },
            ..Geometry::new(size_bytes)
        })
    }
}

impl File {
    /// What the disk is.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// The file, where opening it made it, to be removed again if no device comes of it: with this
    /// dropped it is gone, if it was not [kept](MadeFile::keep). Without this call it stays.
    pub fn take_made(&mut self) -> Option<MadeFile> {
        let mut made = self.made.take()?;
        made.goes(true);
        Some(made)
    }
}

impl Target for File {
    type Handler = FileQueue;

    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn needs(&self) -> Needs {
        let files = vec![Arc::clone(&self.file)];
        Needs { access: Access::Operations, operations: 1, files, ..Needs::default() }
    }

    fn handler(&self, _queue: &QueueInfo) -> Result<FileQueue, Errno> {
        Ok(FileQueue { discards: self.discards })
    }
}

/// Disks with such blocks are rare.
pub(crate) fn too_large_blocks(least: u32) -> String {
    format!(
        "its blocks are of {least} bytes, and a disk's are of {} at the most: put a file on it, \
         and serve that",
        BLOCKS.end()
    )
}

/// Serves one queue of a [`File`]. It remembers nothing: each request is one operation, and a
/// discard that its disk does not know a second one.
#[derive(Debug)]
pub struct FileQueue {
    discards: Space,
}

impl Handler for FileQueue {
    #[inline(always)] // as `resume`
    fn start(&mut self, io: &mut Io<'_>) -> Step {
        let request = io.request();
        let (offset, range) = (request.offset, request.offset..request.offset + request.len_bytes);
        let data = 0..io.data_bytes();
        let (space, cookie) = match request.operation {
            Operation::Read => return Step::of(io.read(ALL, offset, data, 0)),
            Operation::Write { fua } => return Step::of(io.write(ALL, offset, data, fua, 0)),
            Operation::Flush => return Step::of(io.sync(ALL, true, 0)),
            Operation::Discard if self.discards == Space::Discarded => (Space::Discarded, OWN),
            Operation::Discard => (self.discards, 0),
            Operation::WriteZeroes { may_unmap: true } => (Space::GivenUp, 0),
            Operation::WriteZeroes { may_unmap: false } => (Space::Zeroed, 0),
        };
        Step::of(io.allocate(ALL, space, range, cookie))
    }

    #[inline(always)] // the queue calls it in one place
    fn resume(&mut self, io: &mut Io<'_>, done: Completion) -> Step {
        let request = io.request();
        Step::Done(match (request.operation, done.result) {
            // Somebody made the file shorter.
            (Operation::Read | Operation::Write { .. }, Ok(count)) if count < io.data_bytes() => {
                Err(Errno::EIO)
            }
            // An older kernel, a disk that cannot any more, or pages that others use: what is
            // given up may be forgotten, too.
            (Operation::Discard, Err(Errno::EOPNOTSUPP | Errno::EINVAL | Errno::EBUSY))
                if done.cookie == OWN =>
            {
                let range = request.offset..request.offset + request.len_bytes;
                return Step::of(io.allocate(ALL, Space::GivenUp, range, 0));
            }
            // A disk need not forget what it was told to.
            (Operation::Discard, Err(Errno::EOPNOTSUPP)) => Ok(()),
            (_, result) => result.map(drop),
        })
    }
}

#[cfg(test)]
mod tests;
