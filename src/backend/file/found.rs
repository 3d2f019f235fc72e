//! [`Found`]: what a file turned out to be.

use rustix::fs::{AtFlags, FileType, StatxFlags};
use std::os::fd::OwnedFd;
use std::path::Path;

/// The units of addressing that a disk can have, and direct access need.
pub(super) const BLOCKS: core::ops::RangeInclusive<u32> = 512..=4096;

/// The largest unit of discards.
const MAX_UNIT_BYTES: u32 = 1 << 31;

/// What a file turned out to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) is_regular: bool,
    pub(super) is_block_device: bool,
    pub(super) size_bytes: u64,
    /// The least unit of its addresses.
    pub(super) block_bytes: u32,
    /// The same for direct access.
    pub(super) direct_bytes: u32,
    /// How memory must be aligned for direct access.
    pub(super) memory_align_bytes: u32,
    /// The unit that is fast.
    pub(super) best_bytes: u32,
    /// The unit in which a block device discards, 0 where it cannot; `None` where that is not
    /// known, and for files.
    pub(super) discard_bytes: Option<u32>,
}

impl Found {
    pub(super) fn of(file: &OwnedFd) -> Result<Self, rustix::io::Errno> {
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
            discard_bytes: is_block_device.then(|| discard_bytes(stat.st_rdev)).flatten(),
        })
    }
}

/// What the kernel says of the discards of the block device with this number.
fn discard_bytes(device: u64) -> Option<u32> {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    of_queue(Path::new(&format!("/sys/dev/block/{major}:{minor}")))
}

/// The same of the disk or partition whose folder in `/sys` this is. Only a whole disk has a queue,
/// and a partition's folder is in its disk's.
fn of_queue(device: &Path) -> Option<u32> {
    let text = |name: &str| {
        let places = ["queue", "../queue"].map(|queue| device.join(queue).join(name));
        places.iter().find_map(|path| std::fs::read_to_string(path).ok())
    };
    unit_of(&text("discard_max_bytes")?, &text("discard_granularity")?)
}

/// The same, told from how much a queue discards at once, and in which unit.
pub(crate) fn unit_of(most: &str, unit: &str) -> Option<u32> {
    let number = |text: &str| text.trim().parse::<u64>().ok();
    if number(most)? == 0 {
        return Some(0);
    }
    // A power of two, for ublk's sake: of other units, the largest one that divides them.
    let power = 1_u32.checked_shl(number(unit)?.trailing_zeros()).unwrap_or(1);
    Some(power.min(MAX_UNIT_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of a disk with these two attributes, and of a partition of it.
    fn said(most: &str, unit: &str) -> [Option<u32>; 2] {
        let disk = std::env::temp_dir().join(format!("ublkit-{}-queue", std::process::id()));
        std::fs::create_dir_all(disk.join("queue")).unwrap();
        std::fs::create_dir_all(disk.join("part")).unwrap();
        std::fs::write(disk.join("queue/discard_max_bytes"), most).unwrap();
        std::fs::write(disk.join("queue/discard_granularity"), unit).unwrap();
        let said = [of_queue(&disk), of_queue(&disk.join("part"))];
        std::fs::remove_dir_all(disk).unwrap();
        said
    }

    #[test]
    fn discards_are_what_the_queue_says() {
        assert_eq!(said("2147483648\n", "4096\n"), [Some(4096); 2]);
        assert_eq!(said("0\n", "4096\n"), [Some(0); 2], "it cannot");
        assert_eq!(said("4096\n", "0\n"), [Some(1); 2], "any unit");
        assert_eq!(said("4096\n", "3145728\n"), [Some(1 << 20); 2], "of thrice that");
        assert_eq!(said("4096\n", "8589934592\n"), [Some(1); 2]);
        assert_eq!(said("many\n", "4096\n"), [None; 2]);
        assert_eq!(discard_bytes(rustix::fs::makedev(0, 0)), None, "there is no such disk");
    }
}
