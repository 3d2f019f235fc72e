//! Which pages an address of the program leads to: what a driver that pins memory gets hold of.

use super::user::PAGE_BYTES;
use crate::errno::Errno;

/// Neighbouring pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// The file that they are of, by device and inode; of none: the program's own memory, whose
    /// pages are known by their address.
    file: Option<(String, u64)>,
    first: u64,
    pages: u64,
}

impl Run {
    /// Whether there is a page in both.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.file == other.file
            && self.first < other.first + other.pages
            && other.first < self.first + self.pages
    }
}

/// A line of `/proc/self/maps`.
struct Mapping {
    start: u64,
    end: u64,
    readable: bool,
    writable: bool,
    /// Whether a write is seen in the file.
    shared: bool,
    offset_bytes: u64,
    file: (String, u64),
}

fn parse(line: &str) -> Option<Mapping> {
    let hex = |word: &str| u64::from_str_radix(word, 16).ok();
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let rights = words.next()?.as_bytes();
    Some(Mapping {
        start: hex(start)?,
        end: hex(end)?,
        readable: rights.first() == Some(&b'r'),
        writable: rights.get(1) == Some(&b'w'),
        shared: rights.get(3) == Some(&b's'),
        offset_bytes: hex(words.next()?)?,
        file: (words.next()?.into(), words.next()?.parse().ok()?),
    })
}

/// The pages of `len_bytes` from `address` on, both whole pages, in the test process.
///
/// `EFAULT`: one of them is not there, or may not be written and `writes` wants that.
pub(super) fn pinned(address: u64, len_bytes: u64, writes: bool) -> Result<Vec<Run>, Errno> {
    let maps = std::fs::read_to_string("/proc/self/maps").map_err(Errno::from)?;
    runs(&maps, address, len_bytes, writes)
}

fn runs(maps: &str, address: u64, len_bytes: u64, writes: bool) -> Result<Vec<Run>, Errno> {
    let end = address.checked_add(len_bytes).ok_or(Errno::EOVERFLOW)?;
    let page = |bytes: u64| bytes / PAGE_BYTES as u64;
    let mut at = address;
    let mut runs = Vec::new();
    for mapping in maps.lines().filter_map(parse).filter(|mapping| mapping.end > address) {
        let allowed = if writes { mapping.writable } else { mapping.readable };
        if at >= end || mapping.start > at || !allowed {
            break;
        }
        let until = mapping.end.min(end);
        // Private pages are copies of the file's, or become such when they are pinned.
        let (file, first) = if mapping.shared {
            (Some(mapping.file), mapping.offset_bytes + (at - mapping.start))
        } else {
            (None, at)
        };
        runs.push(Run { file, first: page(first), pages: page(until - at) });
        at = until;
    }
    if at < end { Err(Errno::EFAULT) } else { Ok(runs) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
10000-12000 rw-s 00003000 00:01 77                         /memfd:one (deleted)
12000-14000 rw-p 00000000 00:00 0
14000-15000 r--s 00004000 00:01 77                         /memfd:one (deleted)
20000-21000 ---p 00000000 00:00 0                          [heap]
";

    fn of(address: u64, len_bytes: u64, writes: bool) -> Result<Vec<Run>, Errno> {
        runs(MAPS, address, len_bytes, writes)
    }

    fn file(first: u64, pages: u64) -> Run {
        Run { file: Some(("00:01".into(), 77)), first, pages }
    }

    #[test]
    fn pages_of_files_and_of_the_program() {
        assert_eq!(of(0x11000, 0x1000, true), Ok(vec![file(4, 1)]));
        let own = Run { file: None, first: 0x12, pages: 2 };
        assert_eq!(of(0x11000, 0x3000, true), Ok(vec![file(4, 1), own.clone()]));
        assert_eq!(of(0x10000, 0x5000, false), Ok(vec![file(3, 2), own, file(4, 1)]));
    }

    #[test]
    fn pages_that_are_not_there() {
        for (address, len) in [(0, 0x1000), (0xf000, 0x2000), (0x15000, 0x1000), (0x20000, 0x1000)]
        {
            assert_eq!(of(address, len, false), Err(Errno::EFAULT), "{address:#x}");
        }
        assert_eq!(of(0x13000, 0x2000, true), Err(Errno::EFAULT), "not to be written");
        assert!(of(0x13000, 0x2000, false).is_ok());
        assert_eq!(of(0x14000, 0x2000, false), Err(Errno::EFAULT), "the end is not there");
        assert_eq!(of(0u64.wrapping_sub(0x1000), 0x1000, false), Err(Errno::EOVERFLOW));
    }

    #[test]
    fn a_page_in_both() {
        assert!(file(3, 2).overlaps(&file(4, 1)) && file(4, 1).overlaps(&file(3, 2)));
        assert!(!file(3, 2).overlaps(&file(5, 1)) && !file(5, 1).overlaps(&file(3, 2)));
        let own = |first| Run { file: None, first, pages: 1 };
        assert!(own(3).overlaps(&own(3)) && !own(3).overlaps(&file(3, 1)));
        let other = Run { file: Some(("00:01".into(), 78)), ..file(3, 2) };
        assert!(!other.overlaps(&file(3, 2)));
    }

    #[test]
    fn the_programs_own_memory() {
        let pages = crate::sim::user::Pages::new(2 * PAGE_BYTES);
        let address = pages.base().as_ptr().expose_provenance() as u64;
        assert_eq!(pinned(address, 2 * PAGE_BYTES as u64, true).unwrap().len(), 1);
        assert_eq!(pinned(0, PAGE_BYTES as u64, false), Err(Errno::EFAULT));
    }
}
