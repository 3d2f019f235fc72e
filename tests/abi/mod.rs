//! `ublkit abi` and its check, against BTF that is made from `sys`, and changed in one place.
//!
//! That the tables of `sys` are right is for others to say (`sys/tests`, `tests/real`). Here it is
//! shown that the check sees a difference where there is one.

mod btf;

use super::{block, compare, run};
use btf::{File, Member, Type};
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use ublkit::sys::abi::{Constant, Field, Layout};
use ublkit::sys::{blkdev, blkzoned, io_uring, ublk};

/// Groups of constants that are enums in the header.
const ENUMS: &[&[Constant]] = &[io_uring::OPCODES, io_uring::QUERY_OPS, blkzoned::ZONE_TYPES];

/// Structs that no kernel shows.
const NEVER: &[&str] = &["io_uring_sqe128", "io_uring_cqe32", "io_uring_files_update"];

/// The kernel and the driver that `sys` describes.
fn same() -> (Vec<Type>, Vec<Type>) {
    let structs = [blkzoned::LAYOUTS, io_uring::LAYOUTS].concat();
    let shown = structs.iter().filter(|layout| !NEVER.contains(&layout.name));
    let mut kernel: Vec<Type> = shown.map(Type::of_layout).collect();
    kernel.extend(ENUMS.iter().map(|group| Type::of_constants(group)));
    (kernel, ublk::LAYOUTS.iter().map(Type::of_layout).collect())
}

/// A folder with the two as files.
fn write(name: &str, kernel: &[Type], driver: &[Type]) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let mut base = File::kernel();
    base.add(kernel);
    let mut module = File::module(&base);
    module.add(driver);
    std::fs::write(folder.join("vmlinux"), base.bytes()).unwrap();
    std::fs::write(folder.join("ublk_drv"), module.bytes()).unwrap();
    folder
}

fn check(folder: &PathBuf, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ublkit"))
        .args(["abi", "--check"])
        .args(words)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .expect("the program was built")
}

const BOTH: &[&str] = &["--btf", "vmlinux", "--btf-module", "ublk_drv"];

fn member<'a>(types: &'a mut [Type], of: &str, wanted: &str) -> &'a mut Member {
    let found = types.iter_mut().find_map(|one| match one {
        Type::Struct { name, members, .. } if name == of => {
            members.iter_mut().find(|member| member.name == wanted)
        }
        _ => None,
    });
    found.expect("there is such a field")
}

fn values<'a>(types: &'a mut [Type], with: &str) -> &'a mut Vec<(String, u32)> {
    let found = types.iter_mut().find_map(|one| match one {
        Type::Enum { values } if values.iter().any(|(name, _)| name == with) => Some(values),
        _ => None,
    });
    found.expect("there is such an enum")
}

/// Calls whose output is read by people: a kernel like ours, and one that differs in each way.
#[test]
fn the_check_says_what_it_sees() {
    let (mut kernel, mut driver) = same();
    let alike = write("abi-alike", &kernel, &driver);
    member(&mut driver, "ublksrv_io_desc", "start_sector").offset_bytes = 4;
    member(&mut driver, "ublksrv_ctrl_cmd", "queue_id").name = "reserved".into();
    member(&mut kernel, "io_uring_cqe", "res").name = "result".into();
    member(&mut kernel, "io_uring_params", "resv").name = "colour".into();
    driver.retain(|one| !matches!(one, Type::Struct { name, .. } if name == "ublk_batch_io"));
    let opcodes = values(&mut kernel, "IORING_OP_NOP");
    opcodes[1].1 = 77;
    opcodes.remove(2);
    opcodes.push(("IORING_OP_PAINT".into(), 99));
    let other = write("abi-other", &kernel, &driver);
    let junk = write("abi-junk", &[], &[]);
    std::fs::write(junk.join("vmlinux"), "#!/bin/sh\n").unwrap();

    let mut found = String::new();
    for (folder, words, code) in [
        (&alike, BOTH, 0),
        (&other, BOTH, 1),
        (&alike, &BOTH[..2], 4),
        (&junk, &BOTH[..2], 2),
        (&alike, &["--btf", "ublk_drv"], 2),
        (&alike, &["--btf", "missing"], 2),
        (&alike, &["--btf", "."], 1),
    ] {
        let output = check(folder, words);
        let text = [&output.stdout[..], &output.stderr].concat();
        assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&text));
        let words = [&["abi", "--check"], words].concat();
        found += &block(&words, &output, &text);
    }
    compare("abi-check.txt", &found);
    let output = check(&other, &[BOTH, &["--json"]].concat());
    compare(
        "abi-check.json",
        &String::from_utf8(output.stdout).unwrap().replace(env!("CARGO_PKG_VERSION"), "VERSION"),
    );
}

/// Any field that is elsewhere makes the check fail, whichever it is.
#[test]
fn every_moved_field_is_noticed() {
    let (kernel, driver) = same();
    let structs =
        [(&kernel, blkzoned::LAYOUTS), (&kernel, io_uring::LAYOUTS), (&driver, ublk::LAYOUTS)];
    let mut noticed = 0;
    for (of, layouts) in structs {
        for layout in layouts.iter().filter(|layout| !NEVER.contains(&layout.name)) {
            let reserved = ["resv", "pad", "reserved"];
            let means = |field: &&Field| !reserved.iter().any(|not| field.name.contains(not));
            for field in layout.fields.iter().filter(means) {
                let mut changed = of.clone();
                let name = field.name.trim_end_matches('_');
                member(&mut changed, layout.name, name).offset_bytes += 1;
                let of_driver = layouts == ublk::LAYOUTS;
                let (kernel, driver) =
                    if of_driver { (&kernel, &changed) } else { (&changed, &driver) };
                let output = check(&write("abi-moved", kernel, driver), BOTH);
                let said = String::from_utf8_lossy(&output.stdout);
                let line = format!("differs  {}.{} ", layout.name, field.name);
                assert!(said.contains(&line), "{line}: {said}");
                assert_eq!(output.status.code(), Some(1), "{line}");
                noticed += 1;
            }
        }
    }
    println!("{noticed} moved fields were noticed");
    assert!(noticed >= 150, "only {noticed} fields were moved");
}

#[test]
fn the_listing_reads_well() {
    let mut found = String::new();
    for words in [
        &["abi", "ublksrv_io", "IO_RES", "F_INTEGRITY", "U_IO_"][..],
        &["abi", "--json", "blk_zone_range", "ZONE_TYPE"],
        &["abi", "frobnicate", "x y"],
    ] {
        let output = run(words);
        found += &block(words, &output, &[&output.stdout[..], &output.stderr].concat());
    }
    compare("abi.txt", &found);
}

/// All that `sys` has is listed: checked against the tables rather than a file of 800 lines.
#[test]
fn the_listing_is_complete() {
    let layouts = [ublk::LAYOUTS, blkzoned::LAYOUTS, io_uring::LAYOUTS].concat();
    let constants = [ublk::CONSTANTS, blkdev::CONSTANTS, blkzoned::CONSTANTS, io_uring::CONSTANTS];
    let constants = constants.concat().concat();
    let text = String::from_utf8(run(&["abi"]).stdout).unwrap();
    let json: Value = serde_json::from_slice(&run(&["abi", "--json"]).stdout).unwrap();
    assert_eq!(json["structs"].as_array().unwrap().len(), layouts.len());
    assert_eq!(json["constants"].as_array().unwrap().len(), constants.len());
    for (Layout { name, size_bytes, fields }, shown) in
        layouts.iter().zip(json["structs"].as_array().unwrap())
    {
        assert!(text.contains(&format!("struct {name}: {size_bytes} bytes\n")), "{name}");
        assert_eq!(
            (shown["name"].as_str(), shown["size_bytes"].as_u64()),
            (Some(*name), Some(*size_bytes as u64))
        );
        let shown: Vec<(&str, u64, u64)> = shown["fields"]
            .as_array()
            .unwrap()
            .iter()
            .map(|field| {
                (
                    field["name"].as_str().unwrap(),
                    field["offset_bytes"].as_u64().unwrap(),
                    field["size_bytes"].as_u64().unwrap(),
                )
            })
            .collect();
        let fields: Vec<(&str, u64, u64)> = fields
            .iter()
            .map(|field| (field.name, field.offset_bytes as u64, field.size_bytes as u64))
            .collect();
        assert_eq!(shown, fields, "{name}");
    }
    for (Constant { name, value }, shown) in
        constants.iter().zip(json["constants"].as_array().unwrap())
    {
        assert_eq!((shown["name"].as_str(), shown["value"].as_u64()), (Some(*name), Some(*value)));
        assert!(text.contains(&format!("\n{name} ")), "{name}");
    }
    let fields: usize = layouts.iter().map(|layout| layout.fields.len()).sum();
    let lines = text.lines().filter(|line| !line.is_empty()).count();
    assert_eq!(lines, layouts.len() + fields + constants.len(), "nothing else is listed");
}
