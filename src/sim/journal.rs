//! [`Journal`]: what was written to files outside and is not durable yet, so that a power cut can
//! take it back.

use super::choices::Choices;
use super::outside::Outside;
use crate::errno::Errno;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes that a disk writes whole or not at all.
const SECTOR: usize = 512;

/// One change of a file.
#[derive(Debug)]
struct Change {
    /// When it happened, counted in changes.
    number: u64,
    offset: u64,
    before: Vec<u8>,
    after: Vec<u8>,
    durable: bool,
}

/// The changes of one file, oldest first, from the oldest that is not durable on.
#[derive(Debug)]
struct Changes {
    file: Arc<Outside>,
    all: Vec<Change>,
}

/// What was written to files outside, where that is kept.
///
/// A file's size and holes are not part of it: a power cut gives contents back, no more.
#[derive(Debug, Default)]
pub(super) struct Journal {
    pub(super) is_kept: bool,
    files: BTreeMap<(u64, u64), Changes>,
    changes: u64,
}

impl Journal {
    /// How many changes there were.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// Writes `data` to a file, or its beginning; answers how much.
    pub(super) fn write(
        &mut self,
        file: &Arc<Outside>,
        offset: u64,
        data: &[u8],
        durable: bool,
    ) -> Result<usize, Errno> {
        if !self.is_kept {
            return file.write(offset, data, durable);
        }
        let mut before = file.read_all(offset, data.len())?;
        let count = file.write(offset, data, durable)?;
        before.truncate(count);
        self.add(file, offset, before, data[..count].to_vec(), durable)?;
        Ok(count)
    }

    /// Takes space of a file, or gives it up.
    pub(super) fn allocate(
        &mut self,
        file: &Arc<Outside>,
        mode: u32,
        offset: u64,
        len_bytes: u64,
    ) -> Result<(), Errno> {
        if !self.is_kept {
            return file.allocate(mode, offset, len_bytes);
        }
        let len = usize::try_from(len_bytes).map_err(|_| Errno::EFBIG)?;
        let before = file.read_all(offset, len)?;
        file.allocate(mode, offset, len_bytes)?;
        let after = file.read_all(offset, len)?;
        self.add(file, offset, before, after, false)
    }

    fn add(
        &mut self,
        file: &Arc<Outside>,
        offset: u64,
        before: Vec<u8>,
        after: Vec<u8>,
        durable: bool,
    ) -> Result<(), Errno> {
        let number = self.changes;
        self.changes += 1;
        let changes = self
            .files
            .entry(file.identity()?)
            .or_insert_with(|| Changes { file: Arc::clone(file), all: Vec::new() });
        changes.all.push(Change { number, offset, before, after, durable });
        changes.forget();
        Ok(())
    }

    /// Makes durable what was written to a file before a sync was `asked`; what was written since
    /// then may be lost.
    pub(super) fn sync(
        &mut self,
        file: &Arc<Outside>,
        data_only: bool,
        asked: u64,
    ) -> Result<(), Errno> {
        file.sync(data_only)?;
        if let Some(changes) = self.files.get_mut(&file.identity()?) {
            for change in changes.all.iter_mut().filter(|change| change.number < asked) {
                change.durable = true;
            }
            changes.forget();
        }
        Ok(())
    }

    /// Takes back some of what is not durable, sector by sector, whatever its order; answers how
    /// many sectors' changes.
    pub(super) fn cut(&mut self, choices: &mut Choices) -> Result<u64, Errno> {
        let mut lost = 0;
        for Changes { file, all } in std::mem::take(&mut self.files).into_values() {
            for change in all.iter().rev() {
                file.write(change.offset, &change.before, false)?;
            }
            for change in &all {
                let sectors = (change.offset..).step_by(SECTOR).zip(change.after.chunks(SECTOR));
                for (offset, sector) in sectors {
                    if change.durable || choices.chance(1, 2) {
                        file.write(offset, sector, false)?;
                    } else {
                        lost += 1;
                    }
                }
            }
        }
        Ok(lost)
    }
}

impl Changes {
    /// Forgets those that nothing can take back.
    fn forget(&mut self) {
        let lasting = self.all.iter().take_while(|change| change.durable).count();
        self.all.drain(..lasting);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{MemfdFlags, memfd_create};
    use std::os::fd::AsRawFd;

    fn file() -> Arc<Outside> {
        let memory = memfd_create("journal", MemfdFlags::CLOEXEC).unwrap();
        Arc::new(Outside::hold(memory.as_raw_fd()).unwrap())
    }

    fn kept() -> Journal {
        Journal { is_kept: true, ..Journal::default() }
    }

    /// What the first sector begins with.
    fn first(file: &Outside) -> u8 {
        file.read_all(0, 1).unwrap()[0]
    }

    fn write(journal: &mut Journal, file: &Arc<Outside>, byte: u8, durable: bool) {
        assert_eq!(journal.write(file, 0, &[byte; 1024], durable), Ok(1024));
    }

    #[test]
    fn what_was_synced_stays() {
        let (mut journal, file) = (kept(), file());
        write(&mut journal, &file, 1, false);
        let asked = journal.changes();
        write(&mut journal, &file, 2, false);
        journal.sync(&file, true, asked).unwrap();
        assert_eq!(first(&file), 2);
        assert_eq!(journal.cut(&mut Choices::first()), Ok(2), "written after the sync was asked");
        assert_eq!(first(&file), 1);
        assert_eq!(journal.cut(&mut Choices::first()), Ok(0));
    }

    #[test]
    fn a_durable_write_stays_whatever_lies_under_it() {
        for seed in 0..20 {
            let (mut journal, file) = (kept(), file());
            write(&mut journal, &file, 1, false);
            write(&mut journal, &file, 2, true);
            write(&mut journal, &file, 3, false);
            journal.cut(&mut Choices::seed(seed)).unwrap();
            assert!([2, 3].contains(&first(&file)), "{}", first(&file));
        }
    }

    #[test]
    fn holes_are_changes() {
        let (mut journal, file) = (kept(), file());
        write(&mut journal, &file, 1, true);
        let hole = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        journal.allocate(&file, hole.unsigned_abs(), 0, 512).unwrap();
        assert_eq!(first(&file), 0);
        assert_eq!(journal.cut(&mut Choices::first()), Ok(1));
        assert_eq!(first(&file), 1);
    }
}
