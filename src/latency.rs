//! [`Latencies`]: how long requests took, counted in buckets, each a sixteenth of a power of two.

use core::fmt;
use core::time::Duration;

/// Each power of two has 2^this buckets: a bucket is no wider than 6.25 % of what is in it.
const PART_BITS: u32 = 4;
const PARTS: u64 = 1 << PART_BITS;

/// What takes 2^this nanoseconds or longer (half an hour) is all in the last bucket.
const MAX_BITS: u32 = 41;

/// How many buckets there are.
pub(crate) const BUCKETS: usize = ((MAX_BITS - PART_BITS + 1) << PART_BITS) as usize;

/// The bucket of a time.
#[inline]
pub(crate) fn bucket(nanoseconds: u64) -> usize {
    let nanoseconds = nanoseconds.min((1 << MAX_BITS) - 1);
    // Below the first whole power of two, each nanosecond has its own.
    let shift = (nanoseconds | PARTS).ilog2() - PART_BITS;
    let part = (nanoseconds >> shift) & (PARTS - 1);
    let power = if nanoseconds < PARTS { 0 } else { u64::from(shift) + 1 };
    usize::try_from(power << PART_BITS | part).unwrap_or(BUCKETS - 1)
}

/// The shortest time that a bucket holds.
fn least(bucket: usize) -> u64 {
    let (power, part) = (bucket as u64 >> PART_BITS, bucket as u64 & (PARTS - 1));
    match power {
        0 => part,
        _ => (PARTS | part) << (power - 1),
    }
}

/// How long requests took: how many of them, in buckets.
///
/// Times are exact to 6.25 %, rounded up.
///
/// It is code of our own, and no crate's, because it is on the way of requests: a
/// [`Meter`](crate::Meter) has such buckets as atomics, which the queue's thread writes without a
/// lock or an allocation while others read them; and a crate would be one more dependency, where
/// the library has few.
#[derive(Clone, PartialEq, Eq)]
pub struct Latencies {
    counts: Box<[u64]>,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS].into() }
    }
}

impl Latencies {
    /// What `count` says of each bucket.
    pub(crate) fn of(count: impl FnMut(usize) -> u64) -> Self {
        Self { counts: (0..BUCKETS).map(count).collect() }
    }

    /// Counts `requests` that took so long.
    pub fn add(&mut self, time: Duration, requests: u64) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let count = &mut self.counts[bucket(nanoseconds)];
        *count = count.saturating_add(requests);
    }

    /// How many requests were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The time within which that part of the requests (0 to 1) was answered; `None` when there
    /// were none.
    pub fn quantile(&self, part: f64) -> Option<Duration> {
        let count = self.count();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to count")]
        let wanted = ((part.clamp(0.0, 1.0) * count as f64).ceil() as u64).clamp(1, count.max(1));
        let mut seen = 0_u64;
        let holds = |count: &u64| {
            seen = seen.saturating_add(*count);
            seen >= wanted
        };
        let bucket = self.counts.iter().position(holds)?;
        // All that a bucket can say is which times it does not hold any more.
        Some(Duration::from_nanos(least(bucket + 1) - 1))
    }

    /// What was counted after `earlier` was.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self::of(|bucket| self.counts[bucket].saturating_sub(earlier.counts[bucket]))
    }

    /// Both together.
    #[must_use]
    pub fn with(&self, other: &Self) -> Self {
        Self::of(|bucket| self.counts[bucket].saturating_add(other.counts[bucket]))
    }

    /// The buckets that hold something: the longest time of each, and how many there are.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> {
        let full = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        full.map(|(bucket, count)| (Duration::from_nanos(least(bucket + 1) - 1), *count))
    }
}

impl fmt::Debug for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.buckets()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn buckets_are_in_order_and_leave_nothing_out() {
        for number in 0..BUCKETS {
            assert_eq!(bucket(least(number)), number);
            assert_eq!(bucket(least(number + 1) - 1), number);
            let (from, to) = (least(number), least(number + 1));
            assert!(to - from == 1 || (to - from) * PARTS <= from, "{from} to {to}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn nothing_has_no_quantiles() {
        assert_eq!(Latencies::default().quantile(0.5), None);
        assert_eq!(Latencies::default().count(), 0);
    }

    #[test]
    fn what_came_later_is_told_apart() {
        let mut before = Latencies::default();
        before.add(Duration::from_micros(1), 5);
        let mut after = before.clone();
        after.add(Duration::from_micros(100), 2);
        let between = after.since(&before);
        assert_eq!(between.count(), 2);
        assert!(between.quantile(0.0) >= Some(Duration::from_micros(100)));
        assert_eq!(before.with(&between), after);
        assert_eq!(after.buckets().map(|(_, count)| count).collect::<Vec<_>>(), [5, 2]);
    }

    proptest! {
        /// As if all times had been kept, to the width of a bucket.
        #[test]
        fn quantiles_are_those_of_the_times(
            mut times in proptest::collection::vec(0..1_u64 << 40, 1..200),
            part in 0.0_f64..=1.0,
        ) {
            let mut latencies = Latencies::default();
            for time in &times {
                latencies.add(Duration::from_nanos(*time), 1);
            }
            times.sort_unstable();
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small")]
            let index = ((part * times.len() as f64).ceil() as usize).max(1) - 1;
            let exact = times[index];
            let told = latencies.quantile(part).expect("some").as_nanos();
            let exact = u128::from(exact);
            prop_assert!(told >= exact, "{told} for {exact}");
            prop_assert!(told - exact <= exact / u128::from(PARTS), "{told} for {exact}");
        }
    }
}
