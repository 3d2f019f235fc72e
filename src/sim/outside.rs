//! [`Outside`]: a file outside of the simulated machine, on which operations are really done.

use super::user;
use crate::errno::Errno;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::{ReadWriteFlags, pwritev2};
use std::fs::File;
use std::io::IoSlice;
use std::os::unix::fs::{FileExt, MetadataExt};

/// A real file of the test process. Rings hold a handle of their own, as a kernel does, so that it
/// stays open until their operations have ended, whatever becomes of the program's.
#[derive(Debug)]
pub(super) struct Outside {
    file: File,
}

/// Files that are open past the page cache take data from whole pages on only.
const ALIGNMENT: usize = user::PAGE_BYTES;

impl Outside {
    /// The file that the test process has open as `number`.
    pub(super) fn hold(number: i32) -> Result<Self, Errno> {
        Ok(Self { file: user::held(number)?.into() })
    }

    /// Which file it is, by whatever number.
    pub(super) fn identity(&self) -> Result<(u64, u64), Errno> {
        let of = self.file.metadata()?;
        Ok((of.dev(), of.ino()))
    }

    /// Its size.
    pub(super) fn len_bytes(&self) -> Result<u64, Errno> {
        Ok(self.file.metadata()?.len())
    }

    /// Whether a read would not block. What makes it readable must happen inside the simulation, or
    /// before: nobody waits for it outside.
    pub(super) fn is_readable(&self) -> bool {
        let mut polled = [PollFd::new(&self.file, PollFlags::IN)];
        let now = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut polled, Some(&now)).is_ok_and(|ready| ready > 0)
    }

    /// Reads up to `len_bytes`.
    pub(super) fn read(&self, offset: u64, len_bytes: usize) -> Result<Vec<u8>, Errno> {
        let mut memory = vec![0; len_bytes + ALIGNMENT];
        let start = memory.as_ptr().align_offset(ALIGNMENT);
        let count = self.file.read_at(&mut memory[start..][..len_bytes], offset)?;
        Ok(memory[start..][..count].to_vec())
    }

    /// Reads all of `len_bytes`; what lies past the end are zeros.
    pub(super) fn read_all(&self, offset: u64, len_bytes: usize) -> Result<Vec<u8>, Errno> {
        let mut data = Vec::new();
        while data.len() < len_bytes {
            let part = self.read(offset + data.len() as u64, len_bytes - data.len())?;
            if part.is_empty() {
                data.resize(len_bytes, 0);
            }
            data.extend(part);
        }
        Ok(data)
    }

    /// Writes `data`, or its beginning; answers how much.
    pub(super) fn write(&self, offset: u64, data: &[u8], durable: bool) -> Result<usize, Errno> {
        let mut memory = vec![0; data.len() + ALIGNMENT];
        let start = memory.as_ptr().align_offset(ALIGNMENT);
        let data_again = &mut memory[start..][..data.len()];
        data_again.copy_from_slice(data);
        let flags = if durable { ReadWriteFlags::DSYNC } else { ReadWriteFlags::empty() };
        Ok(pwritev2(&self.file, &[IoSlice::new(data_again)], offset, flags)?)
    }

    /// Makes what was written durable.
    pub(super) fn sync(&self, data_only: bool) -> Result<(), Errno> {
        let synced = if data_only { self.file.sync_data() } else { self.file.sync_all() };
        Ok(synced?)
    }

    /// `fallocate(2)`.
    pub(super) fn allocate(&self, mode: u32, offset: u64, len_bytes: u64) -> Result<(), Errno> {
        Ok(fallocate(&self.file, FallocateFlags::from_bits_retain(mode), offset, len_bytes)?)
    }
}
