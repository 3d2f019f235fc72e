//! Load: clients that keep a disk busy.

use crate::tools::{self, eventually};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);

/// Four jobs that never stop reading and writing.
pub fn mixed(path: &str) -> Child {
    fio(path, &["--rw=randrw"])
}

/// The same, all of it before `end_bytes`.
pub fn mixed_below(path: &str, end_bytes: u64) -> Child {
    fio(path, &["--rw=randrw", &format!("--size={end_bytes}")])
}

/// Four jobs that never stop writing, all of it from `offset_bytes` on.
pub fn writes_from(path: &str, offset_bytes: u64) -> Child {
    fio(path, &["--rw=randwrite", &format!("--offset={offset_bytes}")])
}

fn fio(path: &str, words: &[&str]) -> Child {
    let common = [
        "--name=load",
        "--direct=1",
        "--ioengine=libaio",
        "--iodepth=32",
        "--numjobs=4",
        "--bs=4k",
        "--time_based",
        "--runtime=100",
        "--thread=1",
    ];
    Command::new("fio")
        .args(common)
        .args(words)
        .arg(format!("--filename={path}"))
        .current_dir("/tmp")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("fio runs")
}

/// Waits until a disk is really used.
pub fn busy(path: &str) {
    let stat = format!("/sys/block/{}/stat", &path["/dev/".len()..]);
    // Reads and writes that have ended.
    let done = || {
        let text = tools::read(&stat);
        let number = |at| text.split_whitespace().nth(at).unwrap().parse::<u64>().unwrap();
        number(0) + number(4)
    };
    let first = done();
    eventually("fio begins", SOON, || done() > first + 500);
}

/// Leaves pages in the page cache that the disk does not have yet: `mib` MiB from its beginning on.
/// They stay there while somebody else has the disk open.
pub fn dirty(path: &str, mib: u64) {
    let before = dirty_kib();
    let mut dd = Command::new("dd")
        .args(["if=/dev/zero", &format!("of={path}"), "bs=1M", &format!("count={mib}")])
        .args(["conv=notrunc"])
        .stderr(Stdio::null())
        .spawn()
        .expect("dd runs");
    assert!(tools::wait(&mut dd, SOON).success(), "dd failed");
    let grown = dirty_kib().saturating_sub(before);
    assert!(grown > mib << 9, "of {mib} MiB only {grown} KiB are dirty");
}

/// What of the page cache no disk has yet.
pub fn dirty_kib() -> u64 {
    let info = tools::read("/proc/meminfo");
    let line = info.lines().find_map(|line| line.strip_prefix("Dirty:")).expect("its line");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
