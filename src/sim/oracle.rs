//! [`Oracle`]: what every sector of a disk may contain, given all that clients asked and were told.
//!
//! A sector holds the stamp of one write, or zeros. A read may find the newest write that was
//! answered before the read was asked, or any write that was under way at some time since then;
//! nothing else. A write that failed may have happened or not.

use std::collections::BTreeMap;

/// Bytes of a sector.
pub(super) const SECTOR: usize = 512;

/// The write that a sector's contents are of; 0 is zeros.
pub(super) type Stamp = u64;

/// A change that a sector may have seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Change {
    /// Who asked for it; 0 for what was there at first.
    id: u64,
    stamp: Stamp,
    /// When it was asked.
    asked: u64,
    /// When it was answered.
    answered: Option<u64>,
    /// Whether it was answered with success.
    sure: bool,
}

/// What is asked and not answered yet.
#[derive(Clone, Debug)]
enum Open {
    Read { first: u64, allowed: Vec<Vec<Stamp>> },
    Change { first: u64, count: u64, certain: bool },
    Flush,
}

/// What every sector of a disk may contain.
#[derive(Clone, Debug, Default)]
pub(super) struct Oracle {
    /// Sectors that were ever changed; others are zeros.
    sectors: BTreeMap<u64, Vec<Change>>,
    open: BTreeMap<u64, Open>,
    /// Counts what happens.
    clock: u64,
}

const ZEROS: Change = Change { id: 0, stamp: 0, asked: 0, answered: Some(0), sure: true };

/// What a write with this stamp puts into a sector: words that say which write and which sector.
pub(super) fn fill(stamp: Stamp, sector: u64, data: &mut [u8]) {
    for (index, word) in data.chunks_exact_mut(8).enumerate() {
        let value = stamp.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ sector << 8 ^ index as u64;
        word.copy_from_slice(&value.to_le_bytes());
    }
}

/// Whether a sector holds just what a write with this stamp puts there.
pub(super) fn holds(stamp: Stamp, sector: u64, data: &[u8]) -> bool {
    if stamp == 0 {
        return data.iter().all(|byte| *byte == 0);
    }
    let mut expected = [0; SECTOR];
    fill(stamp, sector, &mut expected);
    expected == data
}

impl Oracle {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn changes(&mut self, sector: u64) -> &mut Vec<Change> {
        self.sectors.entry(sector).or_insert_with(|| vec![ZEROS])
    }

    /// A read is asked, as `id`.
    pub(super) fn asks_read(&mut self, id: u64, first: u64, count: u64) {
        let stamps = |sector: u64| match self.sectors.get(&sector) {
            Some(changes) => changes.iter().map(|change| change.stamp).collect(),
            None => vec![0],
        };
        let allowed = (first..first + count).map(stamps).collect();
        self.open.insert(id, Open::Read { first, allowed });
    }

    /// A change is asked, as `id`: a write with a stamp of its own, or zeros with 0. If it is not
    /// `certain`, it may leave what was there and succeed, as a discard may.
    pub(super) fn asks_change(
        &mut self,
        id: u64,
        first: u64,
        count: u64,
        stamp: Stamp,
        certain: bool,
    ) {
        let asked = self.tick();
        let change = Change { id, stamp, asked, answered: None, sure: false };
        for sector in first..first + count {
            self.changes(sector).push(change);
        }
        for open in self.open.values_mut() {
            if let Open::Read { first: from, allowed } = open {
                let until = *from + allowed.len() as u64;
                for sector in first.max(*from)..(first + count).min(until) {
                    allowed[usize::try_from(sector - *from).expect("short")].push(stamp);
                }
            }
        }
        self.open.insert(id, Open::Change { first, count, certain });
    }

    /// A flush is asked, as `id`.
    pub(super) fn asks_flush(&mut self, id: u64) {
        self.open.insert(id, Open::Flush);
    }

    /// What `id` asked is answered; for a read with what it found. `Err` says what cannot be.
    pub(super) fn answered(&mut self, id: u64, success: bool, data: &[u8]) -> Result<(), String> {
        let now = self.tick();
        match self.open.remove(&id) {
            Some(Open::Read { first, allowed }) if success => {
                let sectors = data.chunks_exact(SECTOR).zip(&allowed);
                for (sector, (found, allowed)) in (first..).zip(sectors) {
                    if !allowed.iter().any(|stamp| holds(*stamp, sector, found)) {
                        return Err(self.explain(sector, found, allowed));
                    }
                }
                Ok(())
            }
            Some(Open::Change { first, count, certain }) => {
                for sector in first..first + count {
                    self.settle(sector, id, now, success && certain);
                }
                Ok(())
            }
            Some(Open::Read { .. } | Open::Flush) => Ok(()),
            None => Err(format!("asking {id} was answered twice, or never asked")),
        }
    }

    /// A change of a sector was answered: what it certainly replaced is forgotten.
    fn settle(&mut self, sector: u64, id: u64, now: u64, sure: bool) {
        let changes = self.changes(sector);
        let this = changes.iter().position(|change| change.id == id);
        let Some(this) = this else { return };
        changes[this].answered = Some(now);
        changes[this].sure = sure;
        if !sure {
            return;
        }
        let asked = changes[this].asked;
        changes.retain(|change| change.answered.is_none_or(|answered| answered >= asked));
    }

    fn explain(&self, sector: u64, found: &[u8], allowed: &[Stamp]) -> String {
        let known = self.sectors.values().flatten().map(|change| change.stamp);
        let whose = known.chain([0]).find(|stamp| holds(*stamp, sector, found));
        let found = match whose {
            Some(stamp) => format!("write {stamp}, which is gone"),
            None => format!("{:02x?}…, which nobody wrote there", &found[..16]),
        };
        format!("sector {sector} holds {found}; allowed are writes {allowed:?} (0 is zeros)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sector(stamp: Stamp, sector: u64) -> Vec<u8> {
        let mut data = vec![0; SECTOR];
        if stamp != 0 {
            fill(stamp, sector, &mut data);
        }
        data
    }

    fn read(oracle: &mut Oracle, at: u64, found: &[u8]) -> Result<(), String> {
        oracle.asks_read(99, at, 1);
        oracle.answered(99, true, found)
    }

    #[test]
    fn the_last_answered_write_is_there() {
        let mut oracle = Oracle::default();
        read(&mut oracle, 5, &sector(0, 5)).unwrap();
        oracle.asks_change(1, 4, 4, 1, true);
        // Under way: both may be.
        read(&mut oracle, 5, &sector(0, 5)).unwrap();
        read(&mut oracle, 5, &sector(1, 5)).unwrap();
        oracle.answered(1, true, &[]).unwrap();
        read(&mut oracle, 5, &sector(1, 5)).unwrap();
        assert!(
            read(&mut oracle, 5, &sector(0, 5)).unwrap_err().contains("sector 5 holds write 0")
        );
        assert!(read(&mut oracle, 5, &sector(1, 6)).is_err(), "another sector's contents");
        assert!(read(&mut oracle, 5, &sector(7, 5)).unwrap_err().contains("nobody wrote"));
    }

    #[test]
    fn overlapping_writes_leave_either() {
        let mut oracle = Oracle::default();
        oracle.asks_change(1, 0, 1, 1, true);
        oracle.asks_change(2, 0, 1, 2, true);
        oracle.answered(1, true, &[]).unwrap();
        oracle.answered(2, true, &[]).unwrap();
        read(&mut oracle, 0, &sector(1, 0)).unwrap();
        read(&mut oracle, 0, &sector(2, 0)).unwrap();
        assert!(read(&mut oracle, 0, &sector(0, 0)).is_err());
        oracle.asks_change(3, 0, 1, 3, true);
        oracle.answered(3, true, &[]).unwrap();
        assert!(read(&mut oracle, 0, &sector(2, 0)).is_err());
    }

    #[test]
    fn a_failed_write_may_have_happened() {
        let mut oracle = Oracle::default();
        oracle.asks_change(1, 0, 1, 1, true);
        oracle.answered(1, false, &[]).unwrap();
        read(&mut oracle, 0, &sector(1, 0)).unwrap();
        read(&mut oracle, 0, &sector(0, 0)).unwrap();
        oracle.asks_change(2, 0, 1, 2, true);
        oracle.answered(2, true, &[]).unwrap();
        assert!(read(&mut oracle, 0, &sector(1, 0)).is_err());
    }

    #[test]
    fn a_read_may_find_what_changes_meanwhile() {
        let mut oracle = Oracle::default();
        oracle.asks_read(7, 0, 1);
        oracle.asks_change(1, 0, 1, 1, true);
        oracle.answered(1, true, &[]).unwrap();
        let mut other = oracle.clone();
        oracle.answered(7, true, &sector(0, 0)).unwrap();
        other.answered(7, true, &sector(1, 0)).unwrap();
    }

    #[test]
    fn a_discard_leaves_either() {
        let mut oracle = Oracle::default();
        oracle.asks_change(1, 0, 1, 1, true);
        oracle.answered(1, true, &[]).unwrap();
        oracle.asks_change(2, 0, 1, 0, false);
        oracle.answered(2, true, &[]).unwrap();
        read(&mut oracle, 0, &sector(1, 0)).unwrap();
        read(&mut oracle, 0, &sector(0, 0)).unwrap();
    }
}
