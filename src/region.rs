//! [`Region`]: backend memory that threads and the kernel copy into and out of without locks.
#![expect(unsafe_code, reason = "shares memory between threads; docs/safety.md, island `region`")]

use crate::errno::Errno;
use crate::kernel::{Destination, Source};
use crate::memory::{Pages, page_bytes};
use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

/// Bytes of a word: the unit in which contents are copied.
const WORD: usize = size_of::<u64>();

/// Zeroed memory that costs nothing until it is written.
///
/// It is never seen as a slice of bytes. Copies go word by word with relaxed atomics, so that
/// clients who race for the same blocks get some mixture of words, and nobody gets undefined
/// behaviour. So a kernel may copy into and out of it at any time, too
/// ([`Io::load`](crate::Io::load), [`Io::store`](crate::Io::store)).
#[derive(Debug)]
pub struct Region {
    pages: Pages,
}

impl Region {
    /// A region of `len_bytes`, rounded up to whole pages. Takes address space, no memory.
    ///
    /// # Errors
    ///
    /// `ENOMEM`: more address space than there is, or the machine does not overcommit memory.
    pub fn new(len_bytes: usize) -> Result<Self, Errno> {
        Ok(Self { pages: Pages::new(len_bytes)? })
    }

    /// How long it is.
    pub fn len_bytes(&self) -> usize {
        self.pages.len_bytes()
    }

    /// The place of a range, for a command that names it while the region lives.
    pub(crate) fn at(&self, offset: usize, len_bytes: usize) -> NonNull<u8> {
        self.pages.at(offset, len_bytes)
    }

    /// A range, for a call of the kernel that reads it.
    pub(crate) fn source(&self, range: Range<usize>) -> Source<'_> {
        // SAFETY: inside the mapping (`at`), alive as long as `self`; all who write it are atomic.
        unsafe { Source::new(self.pages.at(range.start, range.len()), range.len()) }
    }

    /// A range, for a call of the kernel that fills it.
    pub(crate) fn destination(&self, range: Range<usize>) -> Destination<'_> {
        // SAFETY: inside the mapping (`at`), alive as long as `self`; all who use it are atomic.
        unsafe { Destination::new(self.pages.at(range.start, range.len()), range.len()) }
    }

    /// The words from `offset` on.
    ///
    /// # Panics
    ///
    /// When they are not whole words inside the region: the caller's ranges are whole blocks.
    fn words(&self, offset: usize, len_bytes: usize) -> &[AtomicU64] {
        assert!(offset.is_multiple_of(WORD) && len_bytes.is_multiple_of(WORD));
        let start = self.pages.at(offset, len_bytes).as_ptr().cast::<AtomicU64>();
        // SAFETY: inside the mapping (`at`) and aligned (asserted; mappings are page aligned),
        // zeroed and so initialised, alive as long as `self`. All access is through these atomics;
        // `zero` may replace whole pages by zeroed ones, which to other threads is one more racing
        // store.
        unsafe { core::slice::from_raw_parts(start, len_bytes / WORD) }
    }

    /// Fills `data` from `offset` on.
    ///
    /// # Panics
    ///
    /// When that is not whole words of 8 bytes inside the region; so do all that follow.
    pub fn read(&self, offset: usize, data: &mut [u8]) {
        let (chunks, rest) = data.as_chunks_mut::<WORD>();
        assert!(rest.is_empty(), "whole blocks");
        let words = self.words(offset, chunks.len() * WORD);
        for (chunk, word) in chunks.iter_mut().zip(words) {
            *chunk = word.load(Ordering::Relaxed).to_ne_bytes();
        }
    }

    /// Writes `data` at `offset`.
    pub fn write(&self, offset: usize, data: &[u8]) {
        let (chunks, rest) = data.as_chunks::<WORD>();
        assert!(rest.is_empty(), "whole blocks");
        let words = self.words(offset, chunks.len() * WORD);
        for (chunk, word) in chunks.iter().zip(words) {
            word.store(u64::from_ne_bytes(*chunk), Ordering::Relaxed);
        }
    }

    /// Makes `range` read as zeros; with `release`, whole pages of it are given back.
    ///
    /// # Errors
    ///
    /// What `madvise(2)` answers.
    pub fn zero(&self, range: Range<usize>, release: bool) -> Result<(), Errno> {
        let inner = whole_pages(&range);
        if !release || inner.is_empty() {
            self.fill_zero(range);
            return Ok(());
        }
        self.fill_zero(range.start..inner.start);
        self.fill_zero(inner.end..range.end);
        self.release_pages(inner)
    }

    /// Gives the whole pages of `range` back, which then read as zeros, and leaves the rest as it
    /// is.
    ///
    /// # Errors
    ///
    /// What `madvise(2)` answers.
    pub fn release(&self, range: Range<usize>) -> Result<(), Errno> {
        self.release_pages(whole_pages(&range))
    }

    /// Memory that is locked (`mlockall`) cannot be given back, and nobody wants it to be: it is
    /// only made zero.
    fn release_pages(&self, range: Range<usize>) -> Result<(), Errno> {
        match self.pages.release(range.start, range.len()) {
            Err(Errno::EINVAL) => {
                self.fill_zero(range);
                Ok(())
            }
            other => other,
        }
    }

    fn fill_zero(&self, range: Range<usize>) {
        for word in self.words(range.start, range.len()) {
            word.store(0, Ordering::Relaxed);
        }
    }
}

/// The whole pages inside `range`; empty, at its start, when there is none.
fn whole_pages(range: &Range<usize>) -> Range<usize> {
    let page = page_bytes();
    let start = range.start.next_multiple_of(page);
    let end = range.end / page * page;
    if start < end { start..end } else { range.end / page * page..range.end / page * page }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(region: &Region, offset: usize, len: usize) -> Vec<u8> {
        let mut data = vec![0xee; len];
        region.read(offset, &mut data);
        data
    }

    #[test]
    fn reads_back_what_was_written() {
        let region = Region::new(1 << 20).unwrap();
        let data: Vec<u8> = (0..=255).cycle().take(4096).collect();
        region.write(512, &data);
        assert_eq!(bytes(&region, 512, 4096), data);
        assert_eq!(bytes(&region, 0, 512), [0; 512]);
    }

    #[test]
    fn zeroing_spares_what_lies_beside() {
        let page = page_bytes();
        for release in [false, true] {
            let region = Region::new(page * 4).unwrap();
            region.write(0, &vec![1; page * 4]);
            region.zero(512..page * 3 - 512, release).unwrap();
            let all = bytes(&region, 0, page * 4);
            assert!(all[..512].iter().all(|byte| *byte == 1));
            assert!(all[512..page * 3 - 512].iter().all(|byte| *byte == 0));
            assert!(all[page * 3 - 512..].iter().all(|byte| *byte == 1));
        }
    }

    #[test]
    fn a_range_without_a_whole_page() {
        let page = page_bytes();
        let region = Region::new(page * 2).unwrap();
        region.write(0, &vec![1; page * 2]);
        region.release(512..page + 512).unwrap();
        region.zero(page - 512..page + 512, true).unwrap();
        let all = bytes(&region, 0, page * 2);
        assert!(all[..page - 512].iter().all(|byte| *byte == 1));
        assert!(all[page - 512..page + 512].iter().all(|byte| *byte == 0));
        assert!(all[page + 512..].iter().all(|byte| *byte == 1));
    }

    #[test]
    #[should_panic(expected = "outside of the mapping")]
    fn ranges_outside_are_a_defect() {
        Region::new(4096).unwrap().write(page_bytes() - 512, &[0; 1024]);
    }

    #[test]
    fn racing_threads_see_whole_words() {
        let region = Region::new(4096).unwrap();
        std::thread::scope(|scope| {
            for fill in [1_u8, 2] {
                let region = &region;
                scope.spawn(move || {
                    for _ in 0..if cfg!(miri) { 5 } else { 1000 } {
                        region.write(0, &[fill; 512]);
                    }
                });
            }
            for _ in 0..if cfg!(miri) { 5 } else { 1000 } {
                let data = bytes(&region, 0, 512);
                for word in data.chunks(8) {
                    assert!(word.iter().all(|byte| *byte == word[0]), "{word:?}");
                }
            }
        });
    }
}
