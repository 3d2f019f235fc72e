//! What a read must bring, as far as a recording can tell: not where requests raced.

use super::recording::Recorded;
use core::ops::Range;
use std::collections::BTreeMap;
use ublkit_sys::ublk as sys;

/// Ranges that do not overlap.
#[derive(Debug, Default)]
struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    fn overlaps(&self, range: &Range<u64>) -> bool {
        let before = self.0.range(..range.end).next_back();
        !range.is_empty() && before.is_some_and(|(_, end)| *end > range.start)
    }

    /// Whether all of it is in here.
    fn covers(&self, range: &Range<u64>) -> bool {
        let mut left = range.clone();
        while !left.is_empty() {
            match self.0.range(..=left.start).next_back() {
                Some((_, end)) if *end > left.start => left.start = *end,
                _ => return false,
            }
        }
        true
    }

    fn remove(&mut self, range: &Range<u64>) {
        while let Some((&start, &end)) = self.0.range(..range.end).next_back()
            && end > range.start
        {
            self.0.remove(&start);
            if end > range.end {
                self.0.insert(range.end, end);
            }
            if start < range.start {
                self.0.insert(start, range.start);
            }
        }
    }

    fn add(&mut self, range: &Range<u64>) {
        if !range.is_empty() {
            self.remove(range);
            self.0.insert(range.start, range.end);
        }
    }
}

/// What a request leaves of the contents of its range.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leaves {
    /// What was there.
    Same,
    /// What the request says.
    Known,
    /// Anything.
    Anything,
}

fn leaves(request: &Recorded) -> Leaves {
    let succeeded = request.answer.as_ref().is_some_and(|answer| answer.result >= 0);
    match request.op() {
        sys::UBLK_IO_OP_READ | sys::UBLK_IO_OP_FLUSH => Leaves::Same,
        sys::UBLK_IO_OP_WRITE if succeeded && request.sums.is_some() => Leaves::Known,
        sys::UBLK_IO_OP_WRITE_ZEROES if succeeded => Leaves::Known,
        _ => Leaves::Anything,
    }
}

/// Whether a read found what was on the disk before: not zeros, where nothing was changed.
fn finds_older(read: &Recorded, changed: &Ranges) -> bool {
    let found = read.answer.as_ref().and_then(|answer| answer.sums.as_ref());
    found.is_some_and(|sums| {
        let start = read.sectors().start;
        let place = |run: Range<u64>| start + run.start..start + run.end;
        sums.not_zeros().map(place).any(|run| !changed.covers(&run))
    })
}

/// Marks the reads whose data the recording does not determine: they overlap in time and place with
/// a change, or follow a change of which that is true, or that failed, or that says nothing; or
/// they find what was there before.
pub(super) fn find_races(requests: &mut [Recorded]) {
    let mut order: Vec<usize> = (0..requests.len()).collect();
    order.sort_by_key(|index| requests[*index].done_line());
    let (mut anything, mut changed) = (Ranges::default(), Ranges::default());
    for (position, &index) in order.iter().enumerate() {
        let mut races_with_change = false;
        for &earlier in order[..position].iter().rev() {
            let (one, other) = (&requests[index], &requests[earlier]);
            if other.done_line() < one.line {
                break; // done before this one was delivered, and so were all before
            }
            let together = other.window().1 > one.window().0;
            let (a, b) = (one.sectors(), other.sectors());
            if !together || a.start >= b.end || b.start >= a.end {
                continue;
            }
            races_with_change |= leaves(other) != Leaves::Same;
            if leaves(one) != Leaves::Same {
                requests[earlier].is_open = true;
                if leaves(&requests[earlier]) != Leaves::Same {
                    anything.add(&requests[earlier].sectors());
                }
            }
        }
        let request = &mut requests[index];
        let range = request.sectors();
        match leaves(request) {
            Leaves::Same => {
                let unknown = anything.overlaps(&range) || finds_older(request, &changed);
                request.is_open |= races_with_change || unknown;
                continue;
            }
            Leaves::Known if !races_with_change => anything.remove(&range),
            _ => anything.add(&range),
        }
        changed.add(&range);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::Recording;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn ranges_are_sets(
            steps in prop::collection::vec((any::<bool>(), 0_u64..40, 0_u64..9), 0..40)
        ) {
            let (mut ranges, mut set) = (Ranges::default(), BTreeSet::new());
            for (adds, start, len) in steps {
                let range = start..start + len;
                prop_assert_eq!(ranges.overlaps(&range), range.clone().any(|at| set.contains(&at)));
                if adds {
                    ranges.add(&range);
                    set.extend(range);
                } else {
                    ranges.remove(&range);
                    set.retain(|at| !range.contains(at));
                }
            }
            let all = ranges.0.iter().flat_map(|(start, end)| *start..*end);
            prop_assert_eq!(all.collect::<BTreeSet<u64>>(), set);
        }
    }

    /// Which requests of a recording are open. Each is `op tag first-sector sectors from to
    /// answered`, the last three in microseconds; it is delivered when the backend begins. With
    /// `pending` at the end, the backend waits in between, and goes on in the last moment; with
    /// `found`, its data is no zeros.
    fn open(requests: &[&str]) -> Vec<bool> {
        let mut lines =
            vec![
            (0, "\"what\":\"answer\",\"command\":\"ADD_DEV\",\"result\":0,\"device\":0,\
                 \"queues\":1,\"depth\":9,\"max_io_bytes\":65536".to_string()),
            (0, "\"what\":\"command\",\"command\":\"SET_PARAMS\",\"attrs\":0,\"size_bytes\":65536,\
                 \"logical_block_bytes\":512,\"physical_block_bytes\":512".to_string()),
        ];
        for request in requests {
            let words: Vec<&str> = request.split(' ').collect();
            let n = |index: usize| words[index].parse::<u64>().unwrap();
            let (op, tag, offset, sectors) = (words[0], n(1), n(2) * 512, n(3));
            let len_bytes = sectors * 512;
            lines.push((
                n(4),
                format!(
                    "\"what\":\"request\",\"op\":\"{op}\",\"device\":0,\"queue\":0,\"tag\":{tag},\
                 \"offset\":{offset},\"len_bytes\":{len_bytes},\"sums\":\"-*{sectors}\""
                ),
            ));
            let mut took = (n(5) - n(4)) * 1000;
            if words.contains(&"pending") {
                lines.push((
                    n(4),
                    format!(
                        "\"what\":\"operation\",\"queue\":0,\"tag\":{tag},\
                     \"result\":\"pending\",\"took_ns\":0"
                    ),
                ));
                took = 0;
            }
            let sums = match words.contains(&"found") {
                true => format!(",\"sums\":\"7*{sectors}\""),
                false => String::new(),
            };
            lines.push((
                n(5),
                format!(
                    "\"what\":\"operation\",\"queue\":0,\"tag\":{tag},\"result\":\"ok\",\
                 \"took_ns\":{took}"
                ),
            ));
            lines.push((
                n(6),
                format!(
                    "\"what\":\"commit\",\"device\":0,\"queue\":0,\"tag\":{tag},\
                 \"result\":{len_bytes}{sums}"
                ),
            ));
        }
        lines.sort_by_key(|(at, _)| *at);
        let text: String = lines
            .iter()
            .map(|(at, line)| format!("{{\"at_ns\":{},{line}}}\n", at * 1000))
            .collect();
        let recording = Recording::parse(text.as_bytes()).unwrap();
        recording.requests.iter().map(|request| request.is_open).collect()
    }

    #[test]
    fn what_comes_after_another_does_not_race() {
        assert_eq!(open(&["WRITE 0 0 8 1 2 3", "READ 1 0 8 4 5 6"]), [false; 2]);
        // Under way together, but the backend did one after the other.
        assert_eq!(open(&["WRITE 0 0 8 1 2 9", "READ 1 4 8 3 4 8"]), [false; 2]);
        // Elsewhere.
        assert_eq!(open(&["WRITE 0 0 8 1 5 9", "READ 1 8 8 2 4 8"]), [false; 2]);
        // Two reads.
        assert_eq!(open(&["READ 0 0 8 1 5 9", "READ 1 0 8 2 4 8"]), [false; 2]);
    }

    #[test]
    fn what_is_done_at_one_time_races() {
        assert_eq!(open(&["READ 0 0 8 1 5 9", "WRITE 1 4 8 2 4 8"]), [true, false]);
        assert!(open(&["READ 0 0 8 1 5 9", "WRITE 1 4 8 2 6 8"])[0]);
    }

    /// What goes on in several calls goes on from the first to the last.
    #[test]
    fn what_waits_is_under_way_meanwhile() {
        let read = |more| format!("READ 0 0 8 1 5 9{more}");
        assert!(open(&[&read(" pending"), "WRITE 1 4 8 2 4 8"])[0]);
        assert!(!open(&["WRITE 1 4 8 1 2 8", "READ 0 0 8 3 5 9 pending"])[1]);
    }

    #[test]
    fn what_was_there_before_is_not_known() {
        assert!(open(&["READ 0 0 8 1 2 3 found"])[0]);
        assert!(!open(&["READ 0 0 8 1 2 3"])[0]);
        assert!(!open(&["WRITE 0 0 8 1 2 3", "READ 1 2 4 4 5 6 found"])[1]);
        assert!(open(&["WRITE 0 0 8 1 2 3", "READ 1 2 8 4 5 6 found"])[1]);
        let two = ["WRITE 0 0 4 1 2 3", "WRITE 0 4 4 4 5 6", "READ 1 2 6 7 8 9 found"];
        assert!(!open(&two)[2]);
    }

    #[test]
    fn a_race_of_changes_lasts_until_the_next_change() {
        let race = ["WRITE 0 0 8 1 5 9", "WRITE 1 4 8 2 4 8"];
        let then = |more: &[&str]| open(&[&race, more].concat())[2..].to_vec();
        assert_eq!(then(&["READ 2 0 4 20 21 22"]), [true]);
        assert_eq!(then(&["READ 2 12 4 20 21 22"]), [false]);
        assert!(!then(&["WRITE 2 0 12 20 21 22", "READ 3 0 8 30 31 32"])[1]);
        assert!(then(&["WRITE 2 0 6 20 21 22", "READ 3 0 8 30 31 32"])[1]);
        assert!(then(&["DISCARD 2 0 12 20 21 22", "READ 3 0 8 30 31 32"])[1]);
    }
}
