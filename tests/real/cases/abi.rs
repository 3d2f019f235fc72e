//! `ublkit abi --check`: the running kernel describes its own structs as `sys` does.

use super::Context;
use super::errors::{Restore, as_nobody};
use crate::kernels;
use crate::tools::{self, UBLKIT};
use serde_json::Value;

/// What agrees on the oldest kernel, so that nobody takes an empty comparison for agreement.
const LEAST_STRUCTS: u64 = 33;
const LEAST_CONSTANTS: u64 = 120;

pub fn agrees(context: Context) {
    let report: Value =
        serde_json::from_str(&tools::run(UBLKIT, &["abi", "--check", "--json"])).expect("JSON");
    let count = |of: &str, what: &str| report[of][what].as_u64().expect("a number");
    assert_eq!(report["differing"], 0, "{report:#}");
    assert_eq!(report["driver_left_out"], Value::Null, "{report:#}");
    let release = tools::read("/proc/sys/kernel/osrelease");
    assert_eq!(report["kernel"], release.trim());
    for (of, least) in [("structs", LEAST_STRUCTS), ("constants", LEAST_CONSTANTS)] {
        let [agree, lacking, beyond_btf] =
            ["agree", "lacking", "not_comparable"].map(|what| count(of, what));
        println!("  measured: {of}: {agree} agree, {lacking} lacking, {beyond_btf} not comparable");
        assert_eq!(count(of, "differ"), 0, "{report:#}");
        assert!(agree >= least, "only {agree} {of} were compared: {report:#}");
        if kernels::series(&release).absent.is_empty() {
            assert_eq!(lacking, 0, "{report:#}");
        }
    }
    assert_eq!(report["features_bits"], context.features.bits(), "{report:#}");
    for finding in report["findings"].as_array().expect("a list") {
        let text = |what: &str| finding[what].as_str().unwrap_or_default().to_string();
        println!("  {} {}: {}", text("verdict"), text("what"), text("says"));
    }
    without_root();
    damaged();
    without_driver();
    without_btf();
}

/// BTF is for everybody to read; only the features are left out.
fn without_root() {
    let output = as_nobody(&["abi", "--check"]).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("features:  left out: cannot open /dev/ublk-control"), "{text}");
}

/// The control: the driver's own BTF, where every struct of four members and 24 bytes (the I/O
/// descriptor is one) is said to have 32.
fn damaged() {
    let mut bytes = std::fs::read("/sys/kernel/btf/ublk_drv").expect("the driver is a module");
    let shape = [4_u32 << 24 | 4, 24].map(u32::to_le_bytes).concat();
    let places: Vec<usize> = (0..bytes.len() / 4 - 1)
        .map(|word| word * 4)
        .filter(|at| bytes[*at..].starts_with(&shape))
        .collect();
    for at in &places {
        bytes[at + 4] = 32;
    }
    let copy = "/tmp/ublkit-damaged-btf";
    std::fs::write(copy, bytes).expect("/tmp is writable");
    let words = ["abi", "--check", "--btf", "/sys/kernel/btf/vmlinux", "--btf-module", copy];
    let output = tools::output(UBLKIT, &words);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("differs  ublksrv_io_desc"), "{} places: {text}", places.len());
}

/// Without the driver's structs nothing is said to agree.
fn without_driver() {
    let _loaded = Restore(|| drop(tools::run("modprobe", &["ublk_drv"])));
    tools::run("modprobe", &["-r", "ublk_drv"]);
    let output = tools::output(UBLKIT, &["abi", "--check"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains("modprobe ublk_drv"), "{said}");
}

/// A kernel without BTF, played by an empty folder over what it shows.
fn without_btf() {
    let hide = format!("mount -t tmpfs none /sys/kernel/btf && exec {UBLKIT} abi --check");
    let output = tools::output("unshare", &["--mount", "sh", "-c", &hide]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains("this kernel has no BTF"), "{said}");
    assert!(output.stdout.is_empty());
}
