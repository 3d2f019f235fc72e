//! [`File`]: a disk in a file or on another disk, moved by operations on the queue's own ring.

use super::Target;
use crate::errno::Errno;
use crate::error::Error;
use crate::geometry::{Durability, Geometry};
use crate::handler::{Completion, FileIndex, Handler, Io, Space, Step};
use crate::needs::{Access, Needs, QueueInfo};
use crate::request::Operation;
use core::time::Duration;
use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, StatxFlags};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// A disk in a regular file, or on another block device.
///
/// What clients wrote is durable after their next flush, or at once where they ask for that (FUA):
/// each becomes `fdatasync`, or a write with `RWF_DSYNC`. Discarded ranges become holes.
#[derive(Debug)]
pub struct File {
    file: Arc<OwnedFd>,
    geometry: Geometry,
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

/// The units of addressing that a disk can have, and direct access need.
const BLOCKS: core::ops::RangeInclusive<u32> = 512..=4096;

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
        let failed = |errno| Error::File { path: self.path.display().to_string(), errno };
        let failed_call = |error: rustix::io::Errno| failed(error.into());
        let refused = |why: String| Error::Refused(format!("{}: {why}", self.path.display()));
        let opened = self.patiently(rustix::io::Errno::BUSY, || self.open_file());
        let (file, is_new) = opened.map_err(failed_call)?;
        let found = Found::of(&file).map_err(failed_call)?;
        if !found.is_regular && !found.is_block_device {
            return Err(refused("it is neither a regular file nor a block device".into()));
        }
        let lock = if self.read_only {
            FlockOperation::NonBlockingLockShared
        } else {
            FlockOperation::NonBlockingLockExclusive
        };
        match self.patiently(rustix::io::Errno::WOULDBLOCK, || rustix::fs::flock(&file, lock)) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(refused("another server has it: it is locked".into()));
            }
            // A file system without locks keeps nobody from serving.
            Err(rustix::io::Errno::NOSYS | rustix::io::Errno::OPNOTSUPP) => {}
            Err(error) => return Err(failed_call(error)),
        }
        let size_bytes = match self.size_bytes {
            Some(size_bytes) if is_new => {
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
        Ok(File { file: Arc::new(file), geometry })
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

    /// Opens what is there, or makes it; whether it was made.
    fn open_file(&self) -> Result<(OwnedFd, bool), rustix::io::Errno> {
        let mut flags = OFlags::CLOEXEC | OFlags::NOCTTY;
        flags |= if self.read_only { OFlags::RDONLY } else { OFlags::RDWR };
        flags.set(OFlags::DIRECT, self.direct);
        if self.size_bytes.is_some() && !self.read_only {
            let made = flags | OFlags::CREATE | OFlags::EXCL;
            match rustix::fs::open(&self.path, made, Mode::RUSR | Mode::WUSR) {
                Ok(file) => return Ok((file, true)),
                Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
        }
        // Without O_CREAT, O_EXCL claims a block device for us alone, and means nothing for files.
        let is_block_device = rustix::fs::stat(&self.path)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::BlockDevice);
        flags.set(OFlags::EXCL, is_block_device && !self.read_only);
        Ok((rustix::fs::open(&self.path, flags, Mode::empty())?, false))
    }

    /// The disk that the file makes.
    fn geometry(&self, found: &Found, size_bytes: u64) -> Result<Geometry, String> {
        let least = if self.direct { found.direct_bytes } else { found.block_bytes };
        let least = least.max(*BLOCKS.start());
        let block_bytes = self.block_bytes.unwrap_or(least);
        if block_bytes < least || !BLOCKS.contains(&least) {
            return Err(format!("its blocks are of {least} bytes, and cannot be of {block_bytes}"));
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
            discard_bytes: if self.read_only { 0 } else { block_bytes.max(4096) },
            write_zeroes: !self.read_only,
            data_align_bytes: if self.direct { found.memory_align_bytes } else { 0 },
            ..Geometry::new(size_bytes)
        })
    }
}

/// What a file turned out to be.
#[derive(Clone, Copy, Debug)]
struct Found {
    is_regular: bool,
    is_block_device: bool,
    size_bytes: u64,
    /// The least unit of its addresses.
    block_bytes: u32,
    /// The same for direct access.
    direct_bytes: u32,
    /// How memory must be aligned for direct access.
    memory_align_bytes: u32,
    /// The unit that is fast.
    best_bytes: u32,
}

impl Found {
    fn of(file: &OwnedFd) -> Result<Self, rustix::io::Errno> {
        let stat = rustix::fs::fstat(file)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let is_block_device = kind == FileType::BlockDevice;
        let is_regular = kind == FileType::RegularFile;
        let block_bytes =
            if is_block_device { rustix::fs::ioctl_blksszget(file)? } else { *BLOCKS.start() };
        let physical_bytes = if is_block_device { rustix::fs::ioctl_blkpbszget(file)? } else { 0 };
        let size_bytes = if is_block_device {
            rustix::fs::seek(file, rustix::fs::SeekFrom::End(0))?
        } else {
            u64::try_from(stat.st_size).unwrap_or(0)
        };
        // Kernels before 6.1, and some file systems, do not say: then a page is safe.
        let page = 4096;
        let asked = rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN);
        let known = asked.ok().filter(|statx| statx.stx_dio_offset_align != 0);
        let (direct_bytes, memory_align_bytes) = known
            .map_or((page, page), |statx| (statx.stx_dio_offset_align, statx.stx_dio_mem_align));
        let best_bytes = u32::try_from(stat.st_blksize).unwrap_or(0).max(physical_bytes);
        Ok(Self {
            is_regular,
            is_block_device,
            size_bytes,
            block_bytes,
            direct_bytes: direct_bytes.max(block_bytes),
            memory_align_bytes,
            best_bytes,
        })
    }
}

impl File {
    /// What the disk is.
    pub fn geometry(&self) -> Geometry {
        self.geometry
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
        Ok(FileQueue)
    }
}

/// Serves one queue of a [`File`]. It remembers nothing: each request is one operation.
#[derive(Debug)]
pub struct FileQueue;

impl Handler for FileQueue {
    fn start(&mut self, io: &mut Io<'_>) -> Step {
        let request = io.request();
        let (offset, range) = (request.offset, request.offset..request.offset + request.len_bytes);
        let data = 0..request.data_bytes();
        let asked = match request.operation {
            Operation::Read => io.read(ALL, offset, data, 0),
            Operation::Write { fua } => io.write(ALL, offset, data, fua, 0),
            Operation::Flush => io.sync(ALL, true, 0),
            Operation::Discard | Operation::WriteZeroes { may_unmap: true } => {
                io.allocate(ALL, Space::GivenUp, range, 0)
            }
            Operation::WriteZeroes { may_unmap: false } => {
                io.allocate(ALL, Space::Zeroed, range, 0)
            }
        };
        match asked {
            Ok(()) => Step::Pending,
            Err(errno) => Step::Done(Err(errno)),
        }
    }

    fn resume(&mut self, io: &mut Io<'_>, done: Completion) -> Step {
        let request = io.request();
        Step::Done(match (request.operation, done.result) {
            // Somebody made the file shorter.
            (Operation::Read | Operation::Write { .. }, Ok(count))
                if count < request.data_bytes() =>
            {
                Err(Errno::EIO)
            }
            // A disk need not forget what it was told to.
            (Operation::Discard, Err(Errno::EOPNOTSUPP)) => Ok(()),
            (_, result) => result.map(drop),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    /// A path of its own for each test, in a folder that is there.
    fn path(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("ublkit-{}-{name}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        path
    }

    fn why(opened: Result<File, Error>) -> String {
        opened.expect_err("it cannot be").to_string()
    }

    #[test]
    fn a_file_is_made_sparse_and_found_again() {
        let path = path("made");
        let options = FileOptions::new(&path);
        assert!(why(options.clone().open()).contains("ENOENT"));
        let made = options.clone().size_bytes(1 << 30).open().unwrap();
        assert_eq!(made.geometry().size_bytes, 1 << 30);
        assert_eq!(made.geometry().durability, Durability::FlushAndFua);
        assert!(rustix::fs::fstat(&made.file).unwrap().st_blocks < 100, "it takes no space");
        drop(made);
        assert_eq!(options.clone().open().unwrap().geometry().size_bytes, 1 << 30);
        let other = why(options.clone().size_bytes(1 << 20).open());
        assert!(other.contains("has 1073741824 bytes, not 1048576"), "{other}");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn two_servers_do_not_write_one_file() {
        let path = path("locked");
        let options = FileOptions::new(&path).size_bytes(1 << 20);
        let first = options.clone().open().unwrap();
        let readers = FileOptions::new(&path).read_only(true);
        assert!(why(options.clone().open()).contains("another server has it"));
        assert!(why(readers.clone().open()).contains("another server has it"));
        drop(first);
        let read = readers.clone().open().unwrap();
        assert!(read.geometry().read_only && read.geometry().discard_bytes == 0);
        let _another = readers.open().unwrap();
        assert!(why(options.open()).contains("another server has it"));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn what_is_no_disk_is_refused() {
        assert!(why(FileOptions::new("/dev/null").open()).contains("neither"));
        let path = path("blocks");
        let options = FileOptions::new(&path).size_bytes(10_000);
        let file = options.clone().open().unwrap();
        assert_eq!(file.geometry().size_bytes, 9728, "whole blocks");
        drop(file);
        let file = FileOptions::new(&path).block_bytes(4096).open().unwrap();
        assert_eq!(file.geometry().size_bytes, 8192);
        drop(file);
        let small = FileOptions::new(&path).block_bytes(256);
        assert!(why(small.open()).contains("cannot be of 256"));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn direct_access_has_the_blocks_that_it_needs() {
        let path = path("direct");
        match FileOptions::new(&path).size_bytes(1 << 20).direct(true).open() {
            Ok(file) => {
                let flags = rustix::fs::fcntl_getfl(&file.file).unwrap();
                assert!(flags.contains(OFlags::DIRECT), "{}", file.file.as_raw_fd());
                let geometry = file.geometry();
                assert!(geometry.data_align_bytes.is_power_of_two());
                assert_eq!(geometry.size_bytes % u64::from(geometry.logical_block_bytes), 0);
            }
            // A file system without it.
            Err(error) => assert!(error.to_string().contains("cannot do '--direct'"), "{error}"),
        }
        let _ = std::fs::remove_file(path);
    }
}
