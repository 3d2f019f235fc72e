use super::Verdict::{Beyond, Differs, Lacks, Renamed};
use super::{Count, Outcome, Verdict, compare};
use crate::cli::abi::btf::Place;
use crate::cli::abi::theirs::{Enum, Struct, Theirs};
use ublkit::sys::abi::{Constant, Field, Layout};

const fn field(name: &'static str, offset_bytes: usize, size_bytes: usize) -> Field {
    Field { name, offset_bytes, size_bytes }
}

const fn place(name: &str, offset_bytes: u64, size_bytes: u64) -> Place<'_> {
    Place { name, offset_bytes, size_bytes }
}

/// Ours: two small numbers, a word, something reserved.
const CMD: Layout = Layout {
    name: "cmd",
    size_bytes: 16,
    fields: &[field("q_id", 0, 2), field("tag", 2, 2), field("len", 4, 4), field("resv", 8, 8)],
};

const AGREEING: [Place<'_>; 4] =
    [place("q_id", 0, 2), place("tag", 2, 2), place("len", 4, 4), place("resv", 8, 8)];

fn beside(layout: Layout, size_bytes: u64, places: &[Place<'_>]) -> Outcome {
    let theirs = Struct { name: layout.name, size_bytes, places: places.to_vec() };
    compare(&[layout], &[], &Theirs { structs: vec![theirs], enums: vec![] })
}

/// What is said, without the words.
fn told(outcome: &Outcome) -> Vec<(Verdict, &str)> {
    outcome.findings.iter().map(|finding| (finding.verdict, &finding.what[..])).collect()
}

/// One change to a struct that agrees, and what is then said.
#[track_caller]
fn changed(places: &[Place<'_>], expected: &[(Verdict, &str)]) {
    let outcome = beside(CMD, 16, places);
    assert_eq!(told(&outcome), expected, "{:?}", outcome.findings);
    let differs = expected.iter().any(|(verdict, _)| *verdict == Differs);
    assert_eq!(outcome.structs.differ, usize::from(differs));
    assert_eq!(outcome.structs.agree, usize::from(!differs));
}

#[test]
fn the_same_agrees() {
    changed(&AGREEING, &[]);
}

#[test]
fn a_moved_or_resized_field_differs() {
    let [q_id, tag, len, resv] = AGREEING;
    // Two fields that changed places have the same offsets and sizes.
    let swapped = [place("tag", 0, 2), place("q_id", 2, 2), len, resv];
    changed(&swapped, &[(Differs, "cmd.q_id"), (Differs, "cmd.tag")]);
    changed(&[place("q_id", 0, 4), len, resv], &[(Differs, "cmd.q_id"), (Differs, "cmd.tag")]);
    changed(
        &[q_id, tag, place("len", 4, 8), place("resv", 12, 4)],
        &[(Differs, "cmd.len"), (Differs, "cmd.resv")],
    );
    changed(&[q_id, tag, place("len", 8, 4)], &[(Differs, "cmd.len"), (Beyond, "cmd.resv")]);
    // It also went where something was reserved.
    changed(
        &[q_id, tag, place("pad", 4, 4), place("len", 8, 8)],
        &[(Differs, "cmd.len"), (Beyond, "cmd.resv")],
    );
}

#[test]
fn another_size_differs_even_if_all_fields_agree() {
    for size in [8, 15, 17, 24] {
        let outcome = beside(CMD, size, &AGREEING);
        assert_eq!(told(&outcome), [(Differs, "cmd")]);
        assert!(outcome.findings[0].says.contains(&size.to_string()));
    }
}

#[test]
fn what_was_reserved_there_is_lacking_here() {
    let [q_id, _, len, resv] = AGREEING;
    changed(&[q_id, place("pad0", 2, 2), len, resv], &[(Lacks, "cmd.tag")]);
    changed(
        &[place("__resv", 0, 8), resv],
        &[(Lacks, "cmd.q_id"), (Lacks, "cmd.tag"), (Lacks, "cmd.len")],
    );
    // A hole that the compiler left.
    changed(&[q_id, len, resv], &[(Lacks, "cmd.tag")]);
}

#[test]
fn what_is_reserved_here_and_used_there_is_beyond_us() {
    let [q_id, tag, len, _] = AGREEING;
    let grown = [q_id, tag, len, place("min_left", 8, 4), place("resv", 12, 4)];
    changed(&grown, &[(Beyond, "cmd.resv")]);
    changed(&[q_id, tag, len, place("pad", 8, 4), place("resv2", 12, 4)], &[]);
    changed(&[q_id, tag, len], &[]);
    // But not half of something.
    changed(&[q_id, tag, place("len", 4, 4), place("wide", 12, 8)], &[(Differs, "cmd.resv")]);
}

#[test]
fn other_names_for_the_same_bytes_are_told() {
    let [q_id, tag, len, resv] = AGREEING;
    changed(&[q_id, tag, place("bytes", 4, 4), resv], &[(Renamed, "cmd.len")]);
    // A union with our name in it, one without, and one that is cut differently.
    changed(&[q_id, tag, place("", 4, 4), place("addr", 4, 4), len, resv], &[]);
    let union = [q_id, tag, place("", 4, 4), place("low", 4, 2), place("high", 6, 2), resv];
    changed(&union, &[(Renamed, "cmd.len")]);
    changed(&[q_id, tag, place("low", 4, 2), place("high", 6, 2), resv], &[(Differs, "cmd.len")]);
    // An array without a length lies over what follows.
    changed(
        &[q_id, tag, place("", 4, 4), place("x", 4, 4), place("len", 4, 0), resv],
        &[(Renamed, "cmd.len")],
    );
}

#[test]
fn words_of_rust_are_no_other_names() {
    const ZONE: Layout = Layout { name: "zone", size_bytes: 1, fields: &[field("type_", 0, 1)] };
    assert_eq!(told(&beside(ZONE, 1, &[place("type", 0, 1)])), []);
}

#[test]
fn a_struct_that_tells_its_length_may_grow_and_shrink() {
    let params = Layout { name: "ublk_params", ..CMD };
    let longer = [&AGREEING[..], &[place("pad", 16, 4), place("new", 20, 4)]].concat();
    assert_eq!(told(&beside(params, 24, &longer)), [(Beyond, "ublk_params.new")]);
    assert_eq!(told(&beside(params, 4, &AGREEING[..2])), [(Lacks, "ublk_params.len")]);
}

#[test]
fn missing_structs_are_told_unless_no_kernel_shows_them() {
    let never = Layout { name: "io_uring_sqe128", ..CMD };
    let outcome = compare(&[CMD, never], &[], &Theirs::default());
    assert_eq!(told(&outcome), [(Lacks, "cmd")]);
    assert_eq!(outcome.structs, Count { lacking: 1, not_comparable: 1, ..Count::default() });
}

#[test]
fn every_struct_of_a_name_is_compared() {
    let theirs =
        |places: &[Place<'static>]| Struct { name: "cmd", size_bytes: 16, places: places.to_vec() };
    let mut other = AGREEING;
    other[2].offset_bytes = 6;
    for structs in [[theirs(&AGREEING), theirs(&other)], [theirs(&other), theirs(&AGREEING)]] {
        let outcome = compare(&[CMD], &[], &Theirs { structs: structs.into(), enums: vec![] });
        assert_eq!(outcome.structs, Count { differ: 1, ..Count::default() });
    }
}

fn constants(values: &[(&'static str, u64)], size_bytes: u64, theirs: &[(&str, u64)]) -> Outcome {
    let ours: Vec<Constant> =
        values.iter().map(|&(name, value)| Constant { name, value }).collect();
    let found = Enum { name: "ops", size_bytes, values: theirs.to_vec() };
    let macros = [Constant { name: "MACRO", value: 1 }];
    compare(&[], &[&ours, &macros], &Theirs { structs: vec![], enums: vec![found] })
}

#[test]
fn values_of_enums_are_compared_and_macros_counted() {
    let theirs = [("A", 0), ("B", 9), ("NEW", 3), ("OPS_LAST", 4)];
    let outcome = constants(&[("A", 0), ("B", 1), ("C", 2)], 4, &theirs);
    assert_eq!(told(&outcome), [(Differs, "B"), (Lacks, "C"), (Beyond, "NEW")]);
    assert_eq!(outcome.constants, Count { agree: 1, differ: 1, lacking: 1, not_comparable: 1 });
}

#[test]
fn a_sign_makes_no_difference_but_a_bit_does() {
    let high = 0x8000_0000_u64;
    for (ours, size_bytes, theirs, differs) in [
        (high, 4, high, false),
        (high, 4, 0xffff_ffff_8000_0000, false), // of an enum that is said to be signed
        ((-1_i64).cast_unsigned(), 4, 0xffff_ffff, false),
        ((-1_i64).cast_unsigned(), 8, u64::MAX, false),
        (1 << 32, 4, 0, true),
        (1 << 32, 8, 1 << 32, false),
        (1 << 32, 8, 0, true),
        (1, 0, 0, true),
        (0x1ff, 1, 0xff, true),
    ] {
        let outcome = constants(&[("A", ours)], size_bytes, &[("A", theirs)]);
        assert_eq!(
            outcome.constants.differ == 1,
            differs,
            "{ours:#x} of {size_bytes}: {theirs:#x}"
        );
    }
}
