//! What the schedules of small worlds must come to: the answers, and what the disk holds then.
//!
//! All is asked at one time, so that whatever order is possible is right. A write is a sector full
//! of its stamp.

use crate::house::{House, Whim};
use ublkit::Errno;
use ublkit::sim::{Answer, Ask};

/// What a schedule came to.
pub struct Outcome<'a> {
    pub house: &'a House,
    /// What was asked, on which queue.
    pub asks: &'a [(u16, Ask)],
    pub answers: &'a [Answer],
    /// Whether the device ended meanwhile.
    pub ended: bool,
    /// The sectors of the disk in the end, from the first on.
    pub disk: &'a [[u8; SECTOR]],
}

pub const SECTOR: usize = 512;

/// The stamp of a sector; nothing if there is more than one in it.
pub fn stamp(data: &[u8]) -> Option<u8> {
    let (first, rest) = data.split_first()?;
    rest.iter().all(|byte| byte == first).then_some(*first)
}

impl Outcome<'_> {
    /// What is wrong with it, if something is.
    pub fn judge(&self) -> Result<(), String> {
        self.judge_errors()?;
        self.judge_reads()?;
        (0..).zip(self.disk).try_for_each(|(sector, data)| self.judge_sector(sector, data))
    }

    /// P17, P29: who fails does so with an error of the backend's, or because the device ended. If
    /// it did not, just those fail that the backend has failed.
    fn judge_errors(&self) -> Result<(), String> {
        let errors = |queue| {
            let of_queue =
                self.asks.iter().zip(self.answers).filter(move |((q, _), _)| *q == queue);
            of_queue.filter_map(|(_, answer)| answer.as_ref().err().copied())
        };
        for queue in 0..self.house.queues {
            let told = sorted(errors(queue));
            let asked = self.asks.iter().filter(|(q, _)| *q == queue).count();
            // Of the threads that share a queue, nobody knows who takes what.
            let is_known = self.house.threads == 1;
            let whims = match is_known {
                true => self.house.whims_of(queue, asked),
                false => self.house.whims.to_vec(),
            };
            let due = sorted(whims.iter().filter_map(|whim| fails_with(*whim)));
            let may_be = |errno| due.contains(errno) || self.ended && *errno == Errno::EIO;
            let differs = is_known && !self.ended && told != due;
            if differs || !told.iter().all(may_be) {
                return Err(format!("queue {queue} answered {told:?}, where {due:?} are due"));
            }
        }
        Ok(())
    }

    /// A read finds zeros, or a write to its sector that may have come to the disk.
    fn judge_reads(&self) -> Result<(), String> {
        for ((_, ask), answer) in self.asks.iter().zip(self.answers) {
            if let (Ask::Read { offset, .. }, Ok(data)) = (ask, answer) {
                self.judge_stamp("a read of", *offset, data)?;
            }
        }
        Ok(())
    }

    /// So does a sector hold in the end; and no zeros if a write succeeded.
    fn judge_sector(&self, sector: u64, data: &[u8]) -> Result<(), String> {
        let offset = sector * SECTOR as u64;
        let found = self.judge_stamp("the disk at", offset, data)?;
        match self.writes(offset).find(|(_, answer)| answer.is_ok()) {
            Some((lost, _)) if found == 0 => {
                Err(format!("write {lost} at {offset} succeeded, and the disk holds zeros there"))
            }
            _ => Ok(()),
        }
    }

    fn judge_stamp(&self, what: &str, offset: u64, data: &[u8]) -> Result<u8, String> {
        let found = stamp(data).ok_or_else(|| format!("{what} {offset}: torn"))?;
        let is_it = |(stamp, answer)| stamp == found && self.may_be_there(answer);
        match found == 0 || self.writes(offset).any(is_it) {
            true => Ok(found),
            false => Err(format!("{what} {offset}: {found}, which cannot be there")),
        }
    }

    /// The stamps of the writes at an offset, and what they were answered.
    fn writes(&self, at: u64) -> impl Iterator<Item = (u8, &Answer)> {
        self.asks.iter().zip(self.answers).filter_map(move |((_, ask), answer)| match ask {
            Ask::Write { offset, data, .. } if *offset == at => Some((data[0], answer)),
            _ => None,
        })
    }

    /// Whims that fail do nothing before; what fails because the device ended may have been done.
    fn may_be_there(&self, answer: &Answer) -> bool {
        answer.as_ref().map_or_else(|errno| self.ended && *errno == Errno::EIO, |_| true)
    }
}

/// What a handler with such a whim answers, if that is an error.
fn fails_with(whim: Whim) -> Option<Errno> {
    match whim {
        Whim::Fail(errno) => Some(errno),
        Whim::FailUnderWay => Some(Errno::EREMOTEIO),
        Whim::Panic | Whim::PanicUnderWay | Whim::WaitForNothing => Some(Errno::EIO),
        _ => None,
    }
}

fn sorted(errnos: impl Iterator<Item = Errno>) -> Vec<Errno> {
    let mut errnos: Vec<Errno> = errnos.collect();
    errnos.sort_unstable();
    errnos
}

/// A write to sector 1 and a read of it, which come to an outcome with one mistake in it.
#[test]
fn mistakes_are_noticed() {
    let write = |sector, stamp| Ask::Write {
        offset: sector * SECTOR as u64,
        data: vec![stamp; SECTOR],
        fua: false,
    };
    let read = Ask::Read { offset: SECTOR as u64, len_bytes: 512 };
    let asks = [(0, write(1, 1)), (0, write(2, 2)), (0, read)];
    let done = || Ok(Vec::new());
    let found = |stamp| Ok(vec![stamp; SECTOR]);
    let serves = House { queues: 1, ..House::new() };
    let fails = House { whims: &[Whim::Serve, Whim::Fail(Errno::ENOSPC), Whim::Serve], ..serves };
    let judge = |house: &House, answers: [Answer; 3], disk: [u8; 3], ended: bool| {
        let disk = disk.map(|stamp| [stamp; SECTOR]);
        Outcome { house, asks: &asks, answers: &answers, ended, disk: &disk }.judge()
    };
    let wrong = |house, answers, disk, ended, why: &str| {
        let judged = judge(house, answers, disk, ended);
        assert!(judged.as_ref().is_err_and(|said| said.contains(why)), "{judged:?}: {why}");
    };
    let (eio, full) = (Err(Errno::EIO), Err(Errno::ENOSPC));
    for stamp in [0, 1] {
        assert_eq!(judge(&serves, [done(), done(), found(stamp)], [0, 1, 2], false), Ok(()));
        assert_eq!(judge(&fails, [full.clone(), done(), found(0)], [0, 0, 2], false), Ok(()));
        assert_eq!(judge(&serves, [eio.clone(), done(), found(1)], [0, stamp, 2], true), Ok(()));
    }
    wrong(&serves, [done(), done(), found(2)], [0, 1, 2], false, "a read of 512: 2");
    wrong(&serves, [done(), done(), Ok(vec![])], [0, 1, 2], false, "a read of 512: torn");
    wrong(&serves, [done(), done(), found(1)], [0, 0, 2], false, "write 1 at 512 succeeded");
    wrong(&serves, [done(), done(), found(1)], [1, 1, 2], false, "the disk at 0: 1");
    wrong(&serves, [eio.clone(), done(), found(0)], [0, 0, 2], false, "answered [EIO");
    wrong(&serves, [full.clone(), done(), found(0)], [0, 0, 2], true, "answered [ENOSPC");
    wrong(&fails, [done(), done(), found(1)], [0, 1, 2], false, "answered []");
    wrong(&fails, [eio, done(), found(1)], [0, 1, 2], false, "answered [EIO");
    wrong(&fails, [full.clone(), done(), found(1)], [0, 0, 2], false, "a read of 512: 1");
    wrong(&fails, [full, done(), found(0)], [0, 1, 2], true, "the disk at 512: 1");
}
