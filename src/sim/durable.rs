//! [`Durable`]: what every sector of a disk may contain after its power was cut, given what clients
//! were promised.
//!
//! A write is promised when it was answered with success and was to be durable, or when a flush was
//! asked after that answer and succeeded. Then the sector holds it, or a write that was not over
//! when the promised one was asked; never an older one.

use super::oracle::{SECTOR, Stamp, holds};
use std::collections::BTreeMap;

/// A change that a sector may have seen.
#[derive(Clone, Copy, Debug)]
struct Change {
    id: u64,
    stamp: Stamp,
    asked: u64,
    /// When it was answered, and whether with success.
    over: Option<(u64, bool)>,
    /// Whether success means that it happened.
    certain: bool,
    promised: bool,
}

const ZEROS: Change =
    Change { id: 0, stamp: 0, asked: 0, over: Some((0, true)), certain: true, promised: true };

#[derive(Clone, Copy, Debug)]
enum Open {
    Change { first: u64, count: u64, promises: bool },
    Flush { asked: u64 },
}

/// What every sector may contain after a power cut. Sectors that were never changed are not looked
/// at.
#[derive(Clone, Debug, Default)]
pub(super) struct Durable {
    sectors: BTreeMap<u64, Vec<Change>>,
    open: BTreeMap<u64, Open>,
    clock: u64,
}

impl Durable {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// A write with a stamp is asked, or zeros; `promises` if it is to be durable when answered.
    pub(super) fn asks_change(
        &mut self,
        id: u64,
        first: u64,
        count: u64,
        stamp: Stamp,
        promises: bool,
    ) {
        let change = Change { id, stamp, certain: true, over: None, promised: false, asked: 0 };
        self.asks(first, count, change, promises);
    }

    /// A discard is asked.
    pub(super) fn asks_discard(&mut self, id: u64, first: u64, count: u64) {
        let change = Change { id, stamp: 0, certain: false, over: None, promised: false, asked: 0 };
        self.asks(first, count, change, false);
    }

    fn asks(&mut self, first: u64, count: u64, change: Change, promises: bool) {
        let change = Change { asked: self.tick(), ..change };
        for sector in first..first + count {
            self.sectors.entry(sector).or_insert_with(|| vec![ZEROS]).push(change);
        }
        self.open.insert(change.id, Open::Change { first, count, promises });
    }

    /// A flush is asked.
    pub(super) fn asks_flush(&mut self, id: u64) {
        let asked = self.tick();
        self.open.insert(id, Open::Flush { asked });
    }

    /// What `id` asked is answered.
    pub(super) fn answered(&mut self, id: u64, success: bool) {
        let now = self.tick();
        match self.open.remove(&id) {
            Some(Open::Change { first, count, promises }) => {
                for (_, changes) in self.sectors.range_mut(first..first + count) {
                    for change in changes.iter_mut().filter(|change| change.id == id) {
                        change.over = Some((now, success));
                        change.promised = success && promises && change.certain;
                    }
                    forget(changes);
                }
            }
            Some(Open::Flush { asked }) if success => {
                for changes in self.sectors.values_mut() {
                    for change in changes.iter_mut().filter(|change| change.certain) {
                        change.promised |=
                            change.over.is_some_and(|(over, success)| success && over < asked);
                    }
                    forget(changes);
                }
            }
            _ => {}
        }
    }

    /// Compares a disk with that; answers how many sectors hold something that was promised.
    pub(super) fn check(&self, mut read: impl FnMut(u64, &mut [u8])) -> Result<u64, String> {
        let mut promised = 0;
        for (sector, changes) in &self.sectors {
            let mut found = [0; SECTOR];
            read(sector * SECTOR as u64, &mut found);
            let of = |change: &Change| holds(change.stamp, *sector, &found);
            if !changes.iter().any(of) {
                let stamps: Vec<Stamp> = changes.iter().map(|change| change.stamp).collect();
                return Err(format!(
                    "after the power cut sector {sector} holds {:02x?}…; promised, or later, are \
                     writes {stamps:?} (0 is zeros)",
                    &found[..16]
                ));
            }
            let is_something = |change: &Change| change.promised && change.id != 0;
            promised += u64::from(changes.iter().any(is_something));
        }
        Ok(promised)
    }
}

/// Forgets what a promised change has certainly replaced.
fn forget(changes: &mut Vec<Change>) {
    let promised = changes.iter().filter(|change| change.promised);
    let newest = promised.map(|change| change.asked).max().unwrap_or(0);
    changes.retain(|change| change.over.is_none_or(|(over, _)| over >= newest));
}

#[cfg(test)]
mod tests {
    use super::super::oracle::fill;
    use super::*;

    fn check(durable: &Durable, stamp: Stamp) -> Result<u64, String> {
        durable.check(|offset, data| {
            if stamp != 0 {
                fill(stamp, offset / SECTOR as u64, data);
            }
        })
    }

    fn written(durable: &mut Durable, id: u64, stamp: Stamp, promises: bool) {
        durable.asks_change(id, 4, 2, stamp, promises);
        durable.answered(id, true);
    }

    #[test]
    fn a_promise_binds() {
        let mut durable = Durable::default();
        written(&mut durable, 1, 1, false);
        assert_eq!(check(&durable, 0), Ok(0), "nobody promised anything");
        written(&mut durable, 2, 2, true);
        assert_eq!(check(&durable, 2), Ok(2));
        assert!(check(&durable, 0).is_err() && check(&durable, 1).is_err());
        written(&mut durable, 3, 3, false);
        assert!(check(&durable, 2).is_ok() && check(&durable, 3).is_ok());
        assert!(check(&durable, 1).is_err());
    }

    #[test]
    fn a_flush_promises_what_was_answered_before_it() {
        let mut durable = Durable::default();
        written(&mut durable, 1, 1, false);
        durable.asks_flush(2);
        written(&mut durable, 3, 3, false);
        durable.answered(2, true);
        assert!(check(&durable, 0).is_err());
        assert!(check(&durable, 1).is_ok() && check(&durable, 3).is_ok());
        durable.asks_flush(4);
        durable.answered(4, false);
        assert!(check(&durable, 1).is_ok(), "a flush that failed promises nothing");
    }

    #[test]
    fn what_overlaps_may_be_either() {
        let mut durable = Durable::default();
        durable.asks_change(1, 4, 1, 1, false);
        written(&mut durable, 2, 2, true);
        durable.answered(1, false);
        let stamps = [0, 1, 2].map(|stamp| durable_first(&durable, stamp));
        assert_eq!(stamps, [false, true, true]);
    }

    /// Whether sector 4 may hold a stamp.
    fn durable_first(durable: &Durable, stamp: Stamp) -> bool {
        let mut durable = durable.clone();
        durable.sectors.retain(|sector, _| *sector == 4);
        check(&durable, stamp).is_ok()
    }
}
