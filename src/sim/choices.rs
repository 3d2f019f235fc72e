//! [`Choices`]: the one source of all that a simulation leaves open.

use std::collections::HashMap;

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

/// States, and with how few choices that were not the first they were come to.
type States = HashMap<u64, u32>;

#[derive(Clone, Debug)]
enum Source {
    /// Always the first: what is enabled longest.
    First,
    /// Pseudo-random numbers.
    Seed(u64),
    /// A fuzzer's bytes; the first choice once they are used up.
    Bytes { bytes: Vec<u8>, next: usize },
    /// A path that was taken before, then always the first.
    Path {
        path: Vec<Choice>,
        next: usize,
        /// How many choices so far were not the first.
        spent: u32,
        /// Whether there is a bound to that.
        bounded: bool,
        /// The states that were come to, and after how few of those; where that is wanted.
        states: Option<States>,
        /// Whether all that follows was tried: from here on the first choices are taken.
        known: bool,
    },
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

    const fn path(path: Vec<Choice>, bounded: bool, states: Option<States>) -> Self {
        Self::from(Source::Path { path, next: 0, spent: 0, bounded, states, known: false })
    }

    /// Whether it matters how many choices are not the first.
    pub(super) fn counts_deviations(&self) -> bool {
        matches!(self.source, Source::Path { bounded: true, .. })
    }

    /// Whether it matters which state the next choice is made in.
    pub(super) fn asks_for_states(&self) -> bool {
        match &self.source {
            Source::Path { path, next, states: Some(_), known: false, .. } => {
                !self.held && *next >= path.len()
            }
            _ => false,
        }
    }

    /// The next choice is made in this state.
    pub(super) fn comes_to(&mut self, state: u64) {
        if let Source::Path { states: Some(states), known, spent, .. } = &mut self.source {
            let least = states.entry(state).or_insert(u32::MAX);
            *known = *least <= *spent;
            *least = (*least).min(*spent);
        }
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
            Source::Path { known: true, .. } => 0,
            Source::Path { path, next, spent, .. } => {
                let chosen = path.get(*next).map_or(0, |choice| choice.chosen);
                *next += 1;
                let chosen = chosen.min(of - 1);
                *spent += u32::from(chosen > 0);
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
    run: impl FnMut(Choices) -> Choices,
) -> Schedules {
    every(deviations, limit, None, run)
}

/// The same, but of several schedules that have come to the same state only one goes on: every
/// state is come to, and all that can follow from it is tried.
///
/// A state is what the simulated kernel and its clients have, and what each thread has seen. What
/// threads share beside that, such as the memory that handlers serve, is not seen; a handler tells
/// when it uses it ([`Task::shares`](super::Task::shares)). Nor is all seen that faults do to a
/// thread, or what files outside hold: this is for memory, without [`Faults`](super::Faults).
pub fn every_state(deviations: u32, limit: u64, run: impl FnMut(Choices) -> Choices) -> Schedules {
    every(deviations, limit, Some(States::new()), run)
}

fn every(
    deviations: u32,
    limit: u64,
    mut states: Option<States>,
    mut run: impl FnMut(Choices) -> Choices,
) -> Schedules {
    let mut path: Vec<Choice> = Vec::new();
    let mut count = 0;
    loop {
        let done = run(Choices::path(path, deviations < u32::MAX, states.take()));
        path = done.taken;
        if let Source::Path { states: seen, .. } = done.source {
            states = seen;
        }
        count += 1;
        let met = states.as_ref().map_or(0, HashMap::len);
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
        let Some(last) = path.last_mut() else {
            return Schedules { count, states: met, complete: true };
        };
        if count == limit {
            return Schedules { count, states: met, complete: false };
        }
        last.chosen += 1;
    }
}

/// What [`every_schedule`] or [`every_state`] has run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedules {
    /// How many.
    pub count: u64,
    /// In how many states there was a choice; 0 where states were not looked at.
    pub states: usize,
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
        assert_eq!(schedules, Schedules { count: 4, states: 0, complete: true });
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

    /// Three steps to the left or to the right; the state is where they lead.
    fn walk(mut choices: Choices, state_of: fn(u64, u64) -> u64, ends: &mut Vec<u64>) -> Choices {
        let mut place = 0;
        for step in 0..3 {
            if choices.asks_for_states() {
                choices.comes_to(state_of(step, place));
            }
            place += choices.below(2) as u64;
        }
        ends.push(place);
        choices
    }

    fn ends(deviations: u32, state_of: fn(u64, u64) -> u64) -> (Schedules, Vec<u64>) {
        let mut all = Vec::new();
        let schedules =
            every_state(deviations, u64::MAX, |choices| walk(choices, state_of, &mut all));
        all.sort_unstable();
        all.dedup();
        (schedules, all)
    }

    #[test]
    fn a_state_is_gone_on_from_once() {
        let (schedules, all) = ends(u32::MAX, |step, place| step << 8 | place);
        // Seven choices in eight ways would be a tree; these are six states.
        assert_eq!(schedules, Schedules { count: 7, states: 6, complete: true });
        assert_eq!(all, [0, 1, 2, 3]);
        assert_eq!(ends(1, |step, place| step << 8 | place).1, [0, 1]);
        // Control: where different states are taken for one, something is missed.
        assert_eq!(ends(u32::MAX, |step, _| step).1, [0, 1]);
    }

    /// A state is come to with no deviation left, and then again by a way that leaves one.
    #[test]
    fn a_state_is_gone_on_from_again_with_more_left() {
        let mut seen = Vec::new();
        every_state(2, u64::MAX, |mut choices| {
            let is_short = choices.below(2) == 1;
            if is_short || choices.below(2) == 1 && choices.below(2) == 1 {
                if choices.asks_for_states() {
                    choices.comes_to(7);
                }
                seen.push((is_short, choices.below(2)));
            }
            choices
        });
        assert_eq!(seen, [(false, 0), (true, 0), (true, 1)]);
    }

    #[test]
    fn a_limit_is_told() {
        let schedules = every_schedule(u32::MAX, 3, |mut choices| {
            (0..4).for_each(|_| _ = choices.below(2));
            choices
        });
        assert_eq!(schedules, Schedules { count: 3, states: 0, complete: false });
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
