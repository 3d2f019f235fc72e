//! A block device as its clients see it: direct, block-aligned reads and writes.

use std::fs::{File, OpenOptions};
use std::io::{IoSlice, IoSliceMut};
use std::os::unix::fs::{FileExt, OpenOptionsExt};

/// A page-aligned buffer, as direct I/O needs.
#[derive(Clone, Debug)]
pub struct Aligned {
    pages: Vec<Page>,
    len: usize,
}

#[derive(Clone, Copy, Debug)]
#[repr(align(4096))]
struct Page([u8; 4096]);

impl Aligned {
    /// Zeros.
    pub fn new(len: usize) -> Self {
        Self { pages: vec![Page([0; 4096]); len.div_ceil(4096)], len }
    }

    /// A copy of `bytes`.
    pub fn from(bytes: &[u8]) -> Self {
        let mut buffer = Self::new(bytes.len());
        for (page, chunk) in buffer.pages.iter_mut().zip(bytes.chunks(4096)) {
            page.0[..chunk.len()].copy_from_slice(chunk);
        }
        buffer
    }

    /// The first page.
    pub fn page(&mut self) -> &mut [u8; 4096] {
        &mut self.pages[0].0
    }

    /// The bytes, copied out.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.pages.iter().flat_map(|page| page.0).collect();
        bytes.truncate(self.len);
        bytes
    }
}

/// Opens a block device for direct I/O, with more open flags.
pub fn open(path: &str, flags: i32) -> File {
    try_open(path, flags).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The same, where it may fail.
pub fn try_open(path: &str, flags: i32) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_DIRECT | flags).open(path)
}

/// Reads `len` bytes, at most a page a call so that the buffer is one slice.
pub fn read(file: &File, offset: u64, len: usize) -> std::io::Result<Vec<u8>> {
    let mut buffer = Aligned::new(len);
    let mut at = offset;
    let mut left = len;
    for page in &mut buffer.pages {
        let now = left.min(4096);
        file.read_exact_at(&mut page.0[..now], at)?;
        at += now as u64;
        left -= now;
    }
    Ok(buffer.to_vec())
}

/// Writes `bytes`, at most a page a call.
pub fn write(file: &File, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
    let buffer = Aligned::from(bytes);
    let mut at = offset;
    let mut left = bytes.len();
    for page in &buffer.pages {
        let now = left.min(4096);
        file.write_all_at(&page.0[..now], at)?;
        at += now as u64;
        left -= now;
    }
    Ok(())
}

/// A block that says who wrote it where: its index and a generation, all through.
pub fn stamp(index: u64, generation: u64, len: usize) -> Vec<u8> {
    let word = index.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ generation;
    let words = (0..len as u64 / 8).map(|i| word.wrapping_add(i));
    words.flat_map(u64::to_le_bytes).collect()
}

/// Pages that go to the kernel in one call; more would be split anyway.
const PAGES_A_CALL: usize = 256;

/// Writes whole pages in few calls, so that the kernel makes its largest requests of them.
pub fn write_large(file: &File, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
    let mut at = offset;
    for pages in Aligned::from(bytes).pages.chunks(PAGES_A_CALL) {
        let slices: Vec<IoSlice<'_>> = pages.iter().map(|page| IoSlice::new(&page.0)).collect();
        let written = rustix::io::pwritev(file, &slices, at)?;
        assert_eq!(written, pages.len() * 4096, "a short write at {at}");
        at += written as u64;
    }
    Ok(())
}

/// Reads whole pages in few calls.
pub fn read_large(file: &File, offset: u64, len: usize) -> std::io::Result<Vec<u8>> {
    let mut buffer = Aligned::new(len);
    let mut at = offset;
    for pages in buffer.pages.chunks_mut(PAGES_A_CALL) {
        let wanted = pages.len() * 4096;
        let mut slices: Vec<IoSliceMut<'_>> =
            pages.iter_mut().map(|page| IoSliceMut::new(&mut page.0)).collect();
        let read = rustix::io::preadv(file, &mut slices, at)?;
        assert_eq!(read, wanted, "a short read at {at}");
        at += read as u64;
    }
    Ok(buffer.to_vec())
}

/// What the buffer of [`read_once`] holds before.
const UNTOUCHED: u8 = 0xa5;

/// Reads with one call, any number of sectors; what was read, which may be less.
pub fn read_once(file: &File, offset: u64, len: usize) -> std::io::Result<Vec<u8>> {
    let mut buffer = Aligned::from(&vec![UNTOUCHED; len]);
    let mut left = len;
    let mut slices = Vec::new();
    for page in &mut buffer.pages {
        let now = left.min(4096);
        slices.push(IoSliceMut::new(&mut page.0[..now]));
        left -= now;
    }
    let read = rustix::io::preadv(file, &mut slices, offset)?;
    let mut bytes = buffer.to_vec();
    bytes.truncate(read);
    Ok(bytes)
}

/// Writes with one call, any number of sectors.
pub fn write_once(file: &File, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
    let buffer = Aligned::from(bytes);
    let lengths = bytes.chunks(4096).map(<[u8]>::len);
    let slices: Vec<IoSlice<'_>> =
        buffer.pages.iter().zip(lengths).map(|(page, len)| IoSlice::new(&page.0[..len])).collect();
    let written = rustix::io::pwritev(file, &slices, offset)?;
    assert_eq!(written, bytes.len(), "a short write at {offset}");
    Ok(())
}
