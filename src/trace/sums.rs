//! [`Sums`]: data, as one number for each sector.

use core::fmt;

const SECTOR: usize = 512;

/// The most sectors that a request can have: 32 MiB.
const MOST_SECTORS: usize = 1 << 16;

/// A request's data, told as one number for each 512 bytes: enough to see whether it is the same
/// again, and to make up other data that is equal where this is equal. Zeros stay zeros. Nobody's
/// data can be read from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// A sum, 0 for a sector of zeros, and how many sectors in a row have it.
    runs: Vec<(u64, u32)>,
}

/// FNV-1a over a sector; 0 for zeros and for nothing else.
fn sum(sector: &[u8]) -> u64 {
    if sector.iter().all(|byte| *byte == 0) {
        return 0;
    }
    let step = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    sector.iter().fold(0xcbf2_9ce4_8422_2325, step).max(1)
}

/// A sector made up for a sum: the same for the same, and zeros for 0.
fn fill(sum: u64, sector: &mut [u8]) {
    let mut state = sum;
    for chunk in sector.chunks_mut(8) {
        if sum != 0 {
            // A SplitMix generator.
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = state;
            word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            word ^= word >> 31;
            chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
        } else {
            chunk.fill(0);
        }
    }
}

impl Sums {
    /// The sums of `data`; what is no whole sector at its end has a sum of its own.
    pub fn of(data: &[u8]) -> Self {
        let mut sums = Self::default();
        for sector in data.chunks(SECTOR) {
            sums.push(sum(sector), 1);
        }
        sums
    }

    fn push(&mut self, sum: u64, count: u32) {
        match self.runs.last_mut() {
            Some((last, length)) if *last == sum => *length += count,
            _ => self.runs.push((sum, count)),
        }
    }

    fn all(&self) -> impl Iterator<Item = u64> {
        let one = |(sum, count): &(u64, u32)| std::iter::repeat_n(*sum, *count as usize);
        self.runs.iter().flat_map(one)
    }

    /// How many sectors.
    pub fn sectors(&self) -> u64 {
        self.runs.iter().map(|(_, count)| u64::from(*count)).sum()
    }

    /// The ranges of sectors that are not zeros.
    #[cfg(feature = "replay")]
    pub(crate) fn not_zeros(&self) -> impl Iterator<Item = core::ops::Range<u64>> {
        let mut end = 0;
        self.runs.iter().filter_map(move |(sum, count)| {
            let start = end;
            end += u64::from(*count);
            (*sum != 0).then_some(start..end)
        })
    }

    /// Data made up for these sums: sectors with the same sum are the same.
    pub fn made_up(&self) -> Vec<u8> {
        let len = usize::try_from(self.sectors()).unwrap_or(0) * SECTOR;
        let mut data = vec![0; len];
        for (sector, sum) in data.chunks_mut(SECTOR).zip(self.all()) {
            fill(sum, sector);
        }
        data
    }

    /// The first sector whose made-up data would not have the sum that `found` has there, or the
    /// end of the shorter one.
    pub fn first_difference(&self, found: &Self) -> Option<u64> {
        let mut sector = [0; SECTOR];
        let made_up = |expected: u64| {
            fill(expected, &mut sector);
            sum(&sector)
        };
        let mut expected = self.all().map(made_up);
        let mut index = 0;
        let mut found = found.all();
        loop {
            match (expected.next(), found.next()) {
                (None, None) => return None,
                (expected, found) if expected == found => index += 1,
                _ => return Some(index),
            }
        }
    }

    /// Reads what [`Display`](fmt::Display) wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let mut sums = Self::default();
        for word in text.split_ascii_whitespace() {
            let (sum, count) = word.split_once('*').unwrap_or((word, "1"));
            let sum = if sum == "-" { 0 } else { u64::from_str_radix(sum, 16).ok()? };
            let count: u32 = count.parse().ok().filter(|count| *count > 0)?;
            sums.push(sum, 0);
            sums.runs.last_mut()?.1 = sums.runs.last()?.1.checked_add(count)?;
            if sums.sectors() > MOST_SECTORS as u64 {
                return None;
            }
        }
        Some(sums)
    }
}

impl fmt::Display for Sums {
    /// A word for each run: the sum in hex, or `-` for zeros; then `*` and how often, if more than
    /// once.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (sum, count)) in self.runs.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            match sum {
                0 => f.write_str("-")?,
                sum => write!(f, "{sum:016x}")?,
            }
            if *count > 1 {
                write!(f, "*{count}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn zeros_are_told_from_all_else() {
        let mut data = vec![0; 4 * SECTOR];
        assert_eq!(Sums::of(&data).to_string(), "-*4");
        data[2 * SECTOR + 5] = 1;
        let sums = Sums::of(&data);
        assert_eq!(sums.sectors(), 4);
        assert!(sums.to_string().starts_with("-*2 ") && sums.to_string().ends_with(" -"));
        let made_up = sums.made_up();
        assert_eq!(made_up[..2 * SECTOR], data[..2 * SECTOR]);
        assert_eq!(made_up[3 * SECTOR..], data[3 * SECTOR..]);
        assert_ne!(made_up[2 * SECTOR..3 * SECTOR], data[..SECTOR]);
    }

    #[test]
    fn differences_are_found_where_they_are() {
        let sums = Sums::parse("5 - 7*2").unwrap();
        let mut data = sums.made_up();
        assert_eq!(sums.first_difference(&Sums::of(&data)), None);
        assert_eq!(sums.first_difference(&Sums::of(&data[..2 * SECTOR])), Some(2));
        data[3 * SECTOR + 1] ^= 1;
        assert_eq!(sums.first_difference(&Sums::of(&data)), Some(3));
        data[SECTOR] = 1;
        assert_eq!(sums.first_difference(&Sums::of(&data)), Some(1));
    }

    #[test]
    fn nonsense_is_none() {
        for text in
            ["x", "5*", "5*0", "*3", "-*65537", "5*40000 6*40000", "5*-1", "11112222333344445"]
        {
            assert_eq!(Sums::parse(text), None, "{text}");
        }
        assert_eq!(Sums::parse("").unwrap().sectors(), 0);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(runs in prop::collection::vec((0_u64..4, 1_u32..9), 0..9)) {
            let mut sums = Sums::default();
            for (sum, count) in runs {
                sums.push(sum.wrapping_mul(0x0123_4567_89ab_cdef), count);
            }
            prop_assert_eq!(Sums::parse(&sums.to_string()), Some(sums));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC*") {
            let _ = Sums::parse(&text);
        }
    }
}
