//! Compares our tables with what a C compiler made of the kernel's headers (`witness/*.txt`).
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use ublkit_sys::abi::{Constant, Layout};
use ublkit_sys::{blkdev, blkzoned, io_uring, ublk};

/// What one side says.
#[derive(Clone, Default)]
struct Abi {
    /// Name to value.
    constants: BTreeMap<String, u64>,
    /// Struct to size.
    sizes: BTreeMap<String, usize>,
    /// `struct.field` to offset and size.
    fields: BTreeMap<String, (usize, usize)>,
    /// Structs that the headers declare, whether described or not.
    declared: BTreeSet<String>,
}

impl Abi {
    fn ours() -> Self {
        let layouts: [&[Layout]; 4] =
            [ublk::LAYOUTS, blkdev::LAYOUTS, blkzoned::LAYOUTS, io_uring::LAYOUTS];
        let constants: [&[&[Constant]]; 4] =
            [ublk::CONSTANTS, blkdev::CONSTANTS, blkzoned::CONSTANTS, io_uring::CONSTANTS];
        let mut abi = Self::default();
        for layout in layouts.concat() {
            for field in layout.fields {
                let name = format!("{}.{}", layout.name, field.name);
                let known = abi.fields.insert(name, (field.offset_bytes, field.size_bytes));
                assert_eq!(known, None, "{}.{} is listed twice", layout.name, field.name);
            }
            abi.sizes.insert(layout.name.to_owned(), layout.size_bytes);
        }
        for constant in constants.concat().concat() {
            let known = abi.constants.insert(constant.name.to_owned(), constant.value);
            assert_eq!(known, None, "{} is listed twice", constant.name);
        }
        abi
    }

    fn of_witness(text: &str) -> Self {
        let mut abi = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let number = |at: usize| words[at].parse::<usize>().expect(line);
            let name = words[1].to_owned();
            match (words[0], words.len()) {
                ("const", 3) => drop(abi.constants.insert(name, words[2].parse().expect(line))),
                ("struct", 3) => drop(abi.sizes.insert(name, number(2))),
                ("field", 4) => drop(abi.fields.insert(name, (number(2), number(3)))),
                ("declared", 2) => drop(abi.declared.insert(name)),
                _ => panic!("a line that makes no sense: {line}"),
            }
        }
        abi
    }
}

/// `left-out.txt`: kind and name, or the beginning of one.
struct LeftOut(Vec<(String, String)>);

impl LeftOut {
    fn read() -> Self {
        let text = fs::read_to_string(witness_dir().join("left-out.txt")).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Self(
            lines
                .map(|line| {
                    let words: Vec<&str> = line.split_whitespace().collect();
                    assert!(words.len() > 2, "kind, name and reason: {line}");
                    (words[0].to_owned(), words[1].to_owned())
                })
                .collect(),
        )
    }

    fn has(&self, kind: &str, name: &str) -> bool {
        self.0.iter().any(|(k, n)| k == kind && means(n, name))
    }
}

fn means(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |begin| name.starts_with(begin))
}

/// Everything on which header and crate differ, a sentence each.
fn compare(header: &Abi, ours: &Abi, left_out: &LeftOut) -> Vec<String> {
    let mut found = Vec::new();
    for (name, value) in &header.constants {
        let out = left_out.has("const", name);
        match ours.constants.get(name) {
            Some(_) if out => found.push(format!("{name} is left out, and is here")),
            Some(our) if our != value => found.push(format!("{name} is {value}, not {our}")),
            None if !out => found.push(format!("{name} is neither here nor left out")),
            _ => {}
        }
    }
    for name in ours.constants.keys().filter(|name| !header.constants.contains_key(*name)) {
        found.push(format!("{name} is not in the headers"));
    }
    for name in &header.declared {
        let (here, out) = (ours.sizes.contains_key(name), left_out.has("struct", name));
        if here == out {
            found.push(format!("struct {name}: here {here}, left out {out}"));
        }
    }
    same("size of", &header.sizes, &ours.sizes, &mut found);
    same("offset and size of", &header.fields, &ours.fields, &mut found);
    for (kind, pattern) in &left_out.0 {
        let used = match kind.as_str() {
            "const" => header.constants.keys().any(|name| means(pattern, name)),
            "struct" => header.declared.iter().any(|name| means(pattern, name)),
            _ => false,
        };
        if !used {
            found.push(format!("left-out.txt: nothing is called {kind} {pattern}"));
        }
    }
    found
}

fn same<T: PartialEq + std::fmt::Debug>(
    what: &str,
    header: &BTreeMap<String, T>,
    ours: &BTreeMap<String, T>,
    found: &mut Vec<String>,
) {
    let names: BTreeSet<&String> = header.keys().chain(ours.keys()).collect();
    for name in names {
        let (theirs, our) = (header.get(name), ours.get(name));
        if theirs != our {
            found.push(format!("{what} {name}: header {theirs:?}, here {our:?}"));
        }
    }
}

fn witness_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/witness")
}

/// The committed witnesses as version, name and contents; the newest is last.
fn witnesses() -> Vec<((u32, u32), String, Abi)> {
    let mut all: Vec<_> = fs::read_dir(witness_dir())
        .unwrap()
        .filter_map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name()?.to_str()?.strip_suffix(".txt")?.to_owned();
            let (major, minor) = name.split_once('.')?;
            let version = (major.parse().ok()?, minor.parse().ok()?);
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.starts_with(&format!("# linux-libc-dev {name}.")), "{name}.txt: line 1");
            Some((version, name, Abi::of_witness(&text)))
        })
        .collect();
    all.sort_by_key(|(version, ..)| *version);
    all
}

fn newest() -> Abi {
    witnesses().pop().expect("a witness is committed").2
}

#[test]
fn the_crate_is_what_the_newest_headers_are() {
    let header = newest();
    assert!(header.constants.len() > 400 && header.fields.len() > 250 && header.sizes.len() > 45);
    let found = compare(&header, &Abi::ours(), &LeftOut::read());
    assert!(found.is_empty(), "{found:#?}");
}

/// Older headers know less. What they know has the same meaning today, but for what is named here.
#[test]
fn older_headers_agree_on_what_they_know() {
    const CHANGED: &[&str] = &[
        "IORING_URING_CMD_MASK",      // a flag was added (6.18)
        "ublk_params",                // parts were added at the end (6.15, 7.0)
        "io_uring_clone_buffers.pad", // fields were made of its beginning (6.13)
    ];
    let ours = Abi::ours();
    let mut all = witnesses();
    all.pop();
    assert!(!all.is_empty(), "an older witness is committed");
    for (_, version, mut header) in all {
        let changed = |name: &String| CHANGED.contains(&name.as_str());
        header.constants.retain(|name, _| ours.constants.contains_key(name) && !changed(name));
        header.sizes.retain(|name, _| !changed(name));
        header.fields.retain(|name, _| !changed(name));
        assert!(header.constants.len() > 250 && header.fields.len() > 150, "{version} is empty");
        for (name, value) in &header.constants {
            assert_eq!(ours.constants[name], *value, "{name} in {version}");
        }
        for (name, size_bytes) in &header.sizes {
            assert_eq!(ours.sizes[name], *size_bytes, "struct {name} in {version}");
        }
        for (name, place) in &header.fields {
            assert_eq!(ours.fields[name], *place, "{name} in {version}");
        }
    }
}

/// The comparison must be able to fail: one mutation of each kind, one sentence about each.
#[test]
fn every_mutation_is_reported() {
    type Mutation = fn(&mut Abi);
    let mutations: [(&str, Mutation, &str); 9] = [
        ("value", |h| *h.constants.get_mut("UBLK_F_ZONED").unwrap() += 1, "UBLK_F_ZONED is 257"),
        ("new constant", |h| _ = h.constants.insert("UBLK_F_NEW".into(), 0), "UBLK_F_NEW is nei"),
        ("lost constant", |h| _ = h.constants.remove("UBLK_F_ZONED"), "UBLK_F_ZONED is not in"),
        ("new struct", |h| _ = h.declared.insert("ublk_new".into()), "struct ublk_new"),
        ("size", |h| *h.sizes.get_mut("ublk_params").unwrap() += 8, "size of ublk_params"),
        ("lost struct", |h| _ = h.sizes.remove("blk_zone"), "size of blk_zone"),
        ("offset", |h| h.fields.get_mut("ublksrv_io_cmd.addr").unwrap().0 = 0, "ublksrv_io_cmd.a"),
        ("width", |h| h.fields.get_mut("ublksrv_io_cmd.tag").unwrap().1 = 4, "ublksrv_io_cmd.tag"),
        ("left out", |h| h.constants.retain(|n, _| n != "IORING_OP_LAST"), "IORING_OP_LAST"),
    ];
    for (kind, mutate, sentence) in mutations {
        let mut header = newest();
        mutate(&mut header);
        let found = compare(&header, &Abi::ours(), &LeftOut::read());
        assert_eq!(found.len(), 1, "{kind}: {found:#?}");
        assert!(found[0].contains(sentence), "{kind}: {found:#?}");
    }
    let mut left_out = LeftOut::read();
    left_out.0.push(("const".into(), "UBLK_F_ZONED".into()));
    let found = compare(&newest(), &Abi::ours(), &left_out);
    assert_eq!(found, ["UBLK_F_ZONED is left out, and is here"]);
}
