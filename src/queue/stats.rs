//! [`QueueStats`]: what a queue has done.

use crate::errno::Errno;
use crate::request::Operation;

/// What a queue has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueStats {
    /// Reads answered with success.
    pub reads: u64,
    /// Writes answered with success.
    pub writes: u64,
    /// Flushes, discards and zeroings answered with success.
    pub others: u64,
    /// Bytes of those reads.
    pub read_bytes: u64,
    /// Bytes of those writes.
    pub written_bytes: u64,
    /// Requests answered with an error.
    pub errors: u64,
    /// Of those: because the handler panicked,
    pub panics: u64,
    /// or because the request had waited for too long.
    pub timeouts: u64,
}

impl QueueStats {
    /// How many numbers these are.
    pub(super) const COUNTS: usize = 8;

    /// All of them, in order.
    #[inline]
    pub(super) fn counts(&self) -> [u64; Self::COUNTS] {
        let Self { reads, writes, others, read_bytes, written_bytes, errors, panics, timeouts } =
            *self;
        [reads, writes, others, read_bytes, written_bytes, errors, panics, timeouts]
    }

    /// The same from their numbers.
    pub(super) fn of(counts: [u64; Self::COUNTS]) -> Self {
        let [reads, writes, others, read_bytes, written_bytes, errors, panics, timeouts] = counts;
        Self { reads, writes, others, read_bytes, written_bytes, errors, panics, timeouts }
    }

    /// Requests answered, with success or an error.
    #[inline]
    pub fn answered(&self) -> u64 {
        self.reads + self.writes + self.others + self.errors
    }

    /// Counts an answer to what was asked, of so much data.
    #[inline(always)]
    pub(super) fn count(&mut self, asked: Operation, data_bytes: u32, answer: Result<(), Errno>) {
        let bytes = u64::from(data_bytes);
        match (answer, asked) {
            (Err(_), _) => self.errors += 1,
            (Ok(()), Operation::Read) => {
                self.reads += 1;
                self.read_bytes += bytes;
            }
            (Ok(()), Operation::Write { .. }) => {
                self.writes += 1;
                self.written_bytes += bytes;
            }
            (Ok(()), _) => self.others += 1,
        }
    }
}

impl core::ops::AddAssign for QueueStats {
    /// Both together, of threads of one queue, or of several queues.
    fn add_assign(&mut self, other: Self) {
        let (mine, theirs) = (self.counts(), other.counts());
        *self = Self::of(core::array::from_fn(|index| mine[index].saturating_add(theirs[index])));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_by_what_was_asked() {
        let mut stats = QueueStats::default();
        let mut count = |asked, data_bytes, answer| stats.count(asked, data_bytes, answer);
        for _ in 0..2 {
            count(Operation::Read, 512, Ok(()));
            count(Operation::Write { fua: false }, 4096, Ok(()));
            count(Operation::Discard, 0, Ok(()));
            count(Operation::Read, 1 << 12, Err(Errno::EIO));
        }
        let [reads, writes, others, errors] = [2; 4];
        let (read_bytes, written_bytes) = (1024, 8192);
        let (panics, timeouts) = (0, 0);
        let all = QueueStats {
            reads,
            writes,
            others,
            read_bytes,
            written_bytes,
            errors,
            panics,
            timeouts,
        };
        assert_eq!(stats, all);
    }

    #[test]
    fn counts_have_their_places() {
        let counts = [1, 2, 4, 8, 16, 32, 64, 128];
        let stats = QueueStats::of(counts);
        assert_eq!((stats.reads, stats.panics, stats.timeouts), (1, 64, 128));
        assert_eq!(stats.counts(), counts);
        assert_eq!(stats.answered(), 1 + 2 + 4 + 32);
        let mut twice = stats;
        twice += stats;
        assert_eq!(twice.counts(), counts.map(|count| 2 * count));
    }
}
