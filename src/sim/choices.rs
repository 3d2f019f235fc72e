//! [`Choices`]: the one source of all that a simulation leaves open.

/// Where choices come from: who runs next, which request is delivered, what fails.
///
/// The same source makes the same simulation, to the byte.
#[derive(Clone, Debug)]
pub struct Choices {
    source: Source,
    /// What was chosen out of how many, where that is wanted.
    taken: Vec<Choice>,
    /// Whether the first choice is taken for the time being.
    held: bool,
}

/// One choice: the number chosen, and how many there were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Below [`of`](Self::of).
    pub chosen: u32,
    /// At least 2.
    pub of: u32,
}

#[derive(Clone, Debug)]
enum Source {
    /// Always the first: what is enabled longest.
    First,
    /// Pseudo-random numbers.
    Seed(u64),
    /// A fuzzer's bytes; the first choice once they are used up.
    Bytes { bytes: Vec<u8>, next: usize },
    /// A path that was taken before, then always the first.
    Path { path: Vec<Choice>, next: usize },
}

impl Choices {
    const fn from(source: Source) -> Self {
        Self { source, taken: Vec::new(), held: false }
    }

    /// Always the first choice: all that can happen does, in the order in which it became possible,
    /// before a task goes on.
    pub const fn first() -> Self {
        Self::from(Source::First)
    }

    /// Choices by chance, the same for the same seed.
    pub const fn seed(seed: u64) -> Self {
        Self::from(Source::Seed(seed))
    }

    /// Choices by a fuzzer.
    pub const fn bytes(bytes: Vec<u8>) -> Self {
        Self::from(Source::Bytes { bytes, next: 0 })
    }

    const fn path(path: Vec<Choice>) -> Self {
        Self::from(Source::Path { path, next: 0 })
    }

    /// While held, the first choice is taken and none used up.
    pub const fn hold(&mut self, held: bool) {
        self.held = held;
    }

    /// A number below `of`, which is at least 1.
    pub fn below(&mut self, of: usize) -> usize {
        if of < 2 || self.held {
            return 0;
        }
        let of = u32::try_from(of).unwrap_or(u32::MAX);
        let chosen = match &mut self.source {
            Source::First => 0,
            Source::Seed(state) => {
                // The high half of a product spreads evenly enough over small ranges.
                ((u64::from(mix(state)) * u64::from(of)) >> 32) as u32
            }
            Source::Bytes { bytes, next } => {
                let byte = bytes.get(*next).copied().unwrap_or(0);
                *next += 1;
                let more = if of > 256 { bytes.get(*next).copied().unwrap_or(0) } else { 0 };
                *next += usize::from(of > 256);
                (u32::from(byte) | u32::from(more) << 8) % of
            }
            Source::Path { path, next } => {
                let chosen = path.get(*next).map_or(0, |choice| choice.chosen);
                *next += 1;
                let chosen = chosen.min(of - 1);
                self.taken.push(Choice { chosen, of });
                chosen
            }
        };
        chosen as usize
    }

    /// Whether something happens that happens `times` in `of`.
    pub fn chance(&mut self, times: u32, of: u32) -> bool {
        // The first choice is that it does not.
        times > 0 && self.below(of as usize) >= of.saturating_sub(times) as usize
    }

    /// A number of 64 bits, for what is not explored exhaustively.
    pub fn word(&mut self) -> u64 {
        match &mut self.source {
            Source::Seed(state) => u64::from(mix(state)) << 32 | u64::from(mix(state)),
            _ => (0..8).fold(0, |word, _| word << 8 | self.below(256) as u64),
        }
    }
}

/// The next number of a SplitMix generator.
fn mix(state: &mut u64) -> u32 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut word = *state;
    word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((word ^ word >> 31) >> 32) as u32
}

/// Runs a simulation once for every combination of choices, depth first, in which at most
/// `deviations` choices are not the first one: what happens out of the order in which it became
/// possible. `u32::MAX` for all there are.
///
/// `run` gets the choices of one schedule, and gives them back when it has ended. Stops after
/// `limit` schedules.
pub fn every_schedule(
    deviations: u32,
    limit: u64,
    mut run: impl FnMut(Choices) -> Choices,
) -> Schedules {
    let mut path: Vec<Choice> = Vec::new();
    let mut count = 0;
    loop {
        path = run(Choices::path(path)).taken;
        count += 1;
        let mut spent = path.iter().filter(|choice| choice.chosen > 0).count();
        // The last choice that has a next one; all after it begin anew.
        while let Some(last) = path.last() {
            let is_first = last.chosen == 0;
            let affordable = !is_first || u32::try_from(spent).is_ok_and(|n| n < deviations);
            if last.chosen + 1 < last.of && affordable {
                break;
            }
            spent -= usize::from(!is_first);
            path.pop();
        }
        let Some(last) = path.last_mut() else { return Schedules { count, complete: true } };
        if count == limit {
            return Schedules { count, complete: false };
        }
        last.chosen += 1;
    }
}

/// What [`every_schedule`] has run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedules {
    /// How many.
    pub count: u64,
    /// Whether these were all that there are.
    pub complete: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_once() {
        let mut seen = Vec::new();
        let schedules = every_schedule(u32::MAX, u64::MAX, |mut choices| {
            let first = choices.below(2);
            let second = if first == 0 { choices.below(3) } else { 9 };
            seen.push((first, second, choices.below(1)));
            choices
        });
        assert_eq!(seen, [(0, 0, 0), (0, 1, 0), (0, 2, 0), (1, 9, 0)]);
        assert_eq!(schedules, Schedules { count: 4, complete: true });
    }

    #[test]
    fn deviations_are_bounded() {
        let run = |deviations| {
            every_schedule(deviations, u64::MAX, |mut choices| {
                (0..4).for_each(|_| _ = choices.below(3));
                choices
            })
        };
        assert_eq!([0, 1, 2, 3, 4].map(|deviations| run(deviations).count), [1, 9, 33, 65, 81]);
    }

    #[test]
    fn a_limit_is_told() {
        let schedules = every_schedule(u32::MAX, 3, |mut choices| {
            (0..4).for_each(|_| _ = choices.below(2));
            choices
        });
        assert_eq!(schedules, Schedules { count: 3, complete: false });
    }

    #[test]
    fn numbers_are_in_range_and_repeat() {
        for mut choices in [Choices::first(), Choices::seed(7), Choices::bytes((0..=255).collect())]
        {
            let mut again = choices.clone();
            for of in 1..600 {
                let chosen = choices.below(of);
                assert!(chosen < of);
                assert_eq!(again.below(of), chosen);
            }
        }
        let mut choices = Choices::seed(1);
        let counts = (0..4000).fold([0_u32; 4], |mut counts, _| {
            counts[choices.below(4)] += 1;
            counts
        });
        assert!(counts.iter().all(|count| (900..1100).contains(count)), "{counts:?}");
    }
}
