//! Our layouts beside the kernel's.
//!
//! Offsets and sizes decide, for they are what both sides exchange. Names are told where they
//! differ: where the kernel has a union, `sys` has one field with a name of its own.

use super::btf::Place;
use super::theirs::{Enum, Struct, Theirs};
use std::collections::HashMap;
use ublkit::sys::abi::{Constant, Field, Layout};

/// Structs whose length the caller tells the kernel, so that each side may know a longer one.
const GROWING: &[&str] = &["ublk_params", "io_uring_query_opcode", "io_uring_query_scq"];

/// What no BTF has, and why.
const NEVER: &[(&str, &str)] = &[
    ("io_uring_sqe128", "not a struct of the header"),
    ("io_uring_cqe32", "not a struct of the header"),
    ("io_uring_files_update", "the kernel's own code does not use it"),
];

/// How many of the kernel's names for the same bytes are told.
const MAX_NAMES: usize = 4;

/// What was found about one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    /// The two do not fit together.
    Differs,
    /// We have it, the kernel does not.
    Lacks,
    /// The kernel has it, we do not.
    Beyond,
    /// The same bytes, with other names.
    Renamed,
}

/// One thing worth telling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) verdict: Verdict,
    /// A struct, a field or a constant.
    pub(super) what: String,
    pub(super) says: String,
}

/// How many things were compared, and with what result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) agree: usize,
    pub(super) differ: usize,
    pub(super) lacking: usize,
    pub(super) not_comparable: usize,
}

/// The outcome of a comparison.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    pub(super) findings: Vec<Finding>,
    pub(super) structs: Count,
    pub(super) constants: Count,
}

impl Outcome {
    fn tell(&mut self, verdict: Verdict, what: impl Into<String>, says: impl Into<String>) {
        let finding = Finding { verdict, what: what.into(), says: says.into() };
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }

    fn differing(&self) -> usize {
        self.findings.iter().filter(|finding| finding.verdict == Verdict::Differs).count()
    }
}

/// Compares all structs and constants of ours with what a kernel has.
pub(super) fn compare(layouts: &[Layout], groups: &[&[Constant]], theirs: &Theirs<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    for layout in layouts {
        compare_struct(layout, &theirs.structs, &mut outcome);
    }
    compare_constants(groups, &theirs.enums, &mut outcome);
    outcome.findings.sort_by_key(|finding| finding.verdict);
    outcome
}

/// Why no BTF has this struct, if that is so.
fn never(name: &str) -> Option<&'static str> {
    NEVER.iter().find(|(never, _)| *never == name).map(|(_, why)| *why)
}

fn compare_struct(ours: &Layout, structs: &[Struct<'_>], outcome: &mut Outcome) {
    let same: Vec<&Struct<'_>> = structs.iter().filter(|theirs| theirs.name == ours.name).collect();
    if same.is_empty() {
        if never(ours.name).is_some() {
            outcome.structs.not_comparable += 1;
        } else {
            outcome.structs.lacking += 1;
            outcome.tell(Verdict::Lacks, ours.name, "a struct");
        }
        return;
    }
    let before = outcome.differing();
    for theirs in same {
        compare_sizes(ours, theirs, outcome);
        for field in ours.fields {
            compare_field(ours, field, theirs, outcome);
        }
    }
    if outcome.differing() == before {
        outcome.structs.agree += 1;
    } else {
        outcome.structs.differ += 1;
    }
}

fn compare_sizes(ours: &Layout, theirs: &Struct<'_>, outcome: &mut Outcome) {
    let size = ours.size_bytes as u64;
    if size == theirs.size_bytes {
        return;
    }
    if !GROWING.contains(&ours.name) {
        let says = format!("ours has {size} bytes, the kernel's {}", theirs.size_bytes);
        return outcome.tell(Verdict::Differs, ours.name, says);
    }
    for place in theirs.places.iter().filter(|place| place.offset_bytes >= size) {
        if !reserved(place.name) {
            let what = format!("{}.{}", ours.name, place.name);
            let (from, len) = (place.offset_bytes, place.size_bytes);
            outcome.tell(Verdict::Beyond, what, format!("{len} bytes at {from}"));
        }
    }
}

fn compare_field(ours: &Layout, field: &Field, theirs: &Struct<'_>, outcome: &mut Outcome) {
    let (begin, len) = (field.offset_bytes as u64, field.size_bytes as u64);
    let end = begin + len;
    let what = || format!("{}.{}", ours.name, field.name);
    let at = |place: &Place<'_>| (place.offset_bytes, place.size_bytes);
    let end_of = |place: &Place<'_>| place.offset_bytes.saturating_add(place.size_bytes);
    let named = |place: &&Place<'_>| !place.name.is_empty();
    let here: Vec<&Place<'_>> = theirs
        .places
        .iter()
        .filter(|place| place.offset_bytes < end && end_of(place) > begin)
        .collect();
    let within = here.iter().all(|place| {
        // What is longer must be a nameless struct or union around the field.
        place.name.is_empty() || (place.offset_bytes >= begin && end_of(place) <= end)
    });
    let real: Vec<&str> = unique(here.iter().filter(|p| named(p) && !reserved(p.name)));
    let names: Vec<&str> = unique(here.iter().filter(|p| named(p)));
    let exact = here.iter().any(|place| at(place) == (begin, len));

    if reserved(field.name) {
        if real.is_empty() {
            return; // reserved there too, or padding
        }
        if within {
            return outcome.tell(Verdict::Beyond, what(), format!("now has {}", real.join(", ")));
        }
    } else if here.iter().any(|place| place.name == c_name(field) && at(place) == (begin, len)) {
        return;
    } else if real.is_empty() && !elsewhere(field, theirs) {
        let says = if names.is_empty() { "nothing is there" } else { "still reserved" };
        return outcome.tell(Verdict::Lacks, what(), says);
    } else if exact && within && !elsewhere(field, theirs) {
        let some = names.len().min(MAX_NAMES);
        let more = names.len() - some;
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        let says = format!("the kernel says {}{more}", names[..some].join(", "));
        return outcome.tell(Verdict::Renamed, what(), says);
    }
    let mut parts: Vec<String> = theirs
        .places
        .iter()
        .filter(|place| named(place))
        .filter(|place| place.name == c_name(field) || here.iter().any(|near| near == place))
        .map(|place| format!("{} ({} at {})", place.name, place.size_bytes, place.offset_bytes))
        .collect();
    parts.dedup();
    let says = format!("ours has {len} bytes at {begin}, the kernel {}", parts.join(", "));
    outcome.tell(Verdict::Differs, what(), says);
}

/// Whether the kernel has the field's name somewhere else, or for another size. An array without a
/// length, which lies over other members, does not count where it begins with the field.
fn elsewhere(field: &Field, theirs: &Struct<'_>) -> bool {
    let begin = field.offset_bytes as u64;
    let lies_over = |place: &Place<'_>| place.size_bytes == 0 && place.offset_bytes == begin;
    theirs.places.iter().any(|place| place.name == c_name(field) && !lies_over(place))
}

/// The field's name in the header. Words of Rust have an underscore behind them here.
fn c_name(field: &Field) -> &'static str {
    field.name.strip_suffix('_').unwrap_or(field.name)
}

fn unique<'a>(places: impl Iterator<Item = &'a &'a Place<'a>>) -> Vec<&'a str> {
    let mut names = Vec::new();
    for place in places {
        if !names.contains(&place.name) {
            names.push(place.name);
        }
    }
    names
}

/// Whether a field with such a name means nothing yet.
fn reserved(name: &str) -> bool {
    let name = name.trim_start_matches('_');
    let name = name.trim_end_matches(|c: char| c.is_ascii_digit());
    ["resv", "reserved", "pad", "padding"].contains(&name)
}

/// Whether a constant is only the number of those before it.
fn is_count(name: &str) -> bool {
    name.ends_with("_LAST") || name.ends_with("_MAX")
}

/// Whether a constant of ours, sign-extended or not, is a value of an enum of so many bytes.
fn same_value(ours: u64, theirs: u64, size_bytes: u64) -> bool {
    if size_bytes == 0 || size_bytes >= 8 {
        return ours == theirs;
    }
    let bits = (1 << (size_bytes * 8)) - 1;
    let beyond = ours & !bits;
    ours & bits == theirs & bits && (beyond == 0 || beyond == !bits)
}

fn compare_constants(groups: &[&[Constant]], enums: &[Enum<'_>], outcome: &mut Outcome) {
    let ours: HashMap<&str, u64> =
        groups.concat().iter().map(|one| (one.name, one.value)).collect();
    let mut found: HashMap<&str, bool> = HashMap::new();
    for theirs in enums {
        for &(name, value) in &theirs.values {
            match ours.get(name) {
                Some(our) => {
                    let agrees = same_value(*our, value, theirs.size_bytes);
                    *found.entry(name).or_insert(true) &= agrees;
                    if !agrees {
                        let says = format!("ours is {our:#x}, the kernel's {value:#x}");
                        outcome.tell(Verdict::Differs, name, says);
                    }
                }
                None if is_count(name) => {}
                None => {
                    let of = if theirs.name.is_empty() { "an enum" } else { theirs.name };
                    outcome.tell(Verdict::Beyond, name, format!("{value:#x} of {of}"));
                }
            }
        }
    }
    for group in groups {
        // A group that has one of its constants in an enum is that enum; others are macros, or the
        // kernel lacks them altogether, which cannot be told apart.
        let is_enum = group.iter().any(|one| found.contains_key(one.name));
        for name in group.iter().map(|one| one.name) {
            match found.get(name) {
                Some(true) => outcome.constants.agree += 1,
                Some(false) => outcome.constants.differ += 1,
                None if is_enum => {
                    outcome.constants.lacking += 1;
                    outcome.tell(Verdict::Lacks, name, "a value of an enum");
                }
                None => outcome.constants.not_comparable += 1,
            }
        }
    }
}

#[cfg(test)]
mod tests;
