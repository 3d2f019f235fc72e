//! Transparent huge pages: of buffers that are touched here and there a kernel likes to make memory
//! that is all there, by the first touch or later. What a server keeps for its queues stays as
//! small as what was touched.

use super::Context;
use super::errors::Restore;
use crate::tools::{self, Serving, eventually};
use std::fs;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

const SETTINGS: &str = "/sys/kernel/mm/transparent_hugepage";

/// What a queue's buffers take when they are all there: 128 of 512 KiB.
const BUFFERS_BYTES: usize = 64 << 20;
const STEP_BYTES: usize = 512 << 10;

/// What a server may have in all, its program included.
const MOST_BYTES: u64 = 16 << 20;

/// Sets one of the settings, and later what it was before.
fn set(name: &str, value: &str) -> Restore<impl Fn() + use<>> {
    let file = format!("{SETTINGS}/{name}");
    let was = tools::read(&file);
    // Of several words the one in brackets.
    let was = was.split_once('[').and_then(|(_, rest)| rest.split(']').next()).unwrap_or(&was);
    let was = was.trim().to_owned();
    fs::write(&file, value).unwrap_or_else(|error| panic!("{file}: {error}"));
    Restore(move || fs::write(&file, &was).unwrap())
}

/// How often all memory was looked through.
fn scans() -> u64 {
    tools::read(&format!("{SETTINGS}/khugepaged/full_scans")).trim().parse().unwrap()
}

/// What a process has of its large mappings.
#[derive(Debug, Default)]
struct Large {
    resident_bytes: u64,
    huge_bytes: u64,
}

impl Large {
    /// Of mappings that are no smaller than a queue's buffers.
    fn of(pid: &str) -> Self {
        let (mut all, mut is_large) = (Self::default(), false);
        for line in tools::read(&format!("/proc/{pid}/smaps")).lines() {
            let mut words = line.split_whitespace();
            let (Some(name), Some(value)) = (words.next(), words.next()) else { continue };
            let bytes = || value.parse::<u64>().unwrap() << 10;
            match name {
                "Size:" => is_large = bytes() >= BUFFERS_BYTES as u64,
                "Rss:" if is_large => all.resident_bytes += bytes(),
                "AnonHugePages:" if is_large => all.huge_bytes += bytes(),
                _ => {}
            }
        }
        all
    }
}

/// Touches memory that nobody gave advice about, as a careless server's buffers: a byte of each.
fn touch(buffers: &mut Vec<u8>, part: std::ops::Range<usize>) {
    let room = buffers.spare_capacity_mut();
    part.step_by(STEP_BYTES).for_each(|at| _ = room[at].write(1));
}

/// Clients who have all of a queue's buffers in use, and put little into each.
fn use_all_buffers(path: &str) {
    let words = ["--name=little", "--direct=1", "--ioengine=libaio", "--iodepth=128", "--bs=4k"];
    let more = ["--rw=randwrite", "--size=1m", "--time_based", "--runtime=2", "--thread=1"];
    let file = format!("--filename={path}");
    tools::run("fio", &[&words[..], &more, &[&file]].concat());
}

/// With huge pages for everybody, and a kernel that is eager to make them: what a server has of its
/// buffers is what was touched. The control, beside it: buffers without advice are all there.
pub fn none(_: Context) {
    let eager = [
        set("khugepaged/scan_sleep_millisecs", "10"),
        set("khugepaged/alloc_sleep_millisecs", "10"),
        set("khugepaged/pages_to_scan", "65536"),
        set("khugepaged/max_ptes_none", "511"),
    ];
    let mut careless = Vec::with_capacity(BUFFERS_BYTES);
    let sparing = set("enabled", "never");
    touch(&mut careless, 0..BUFFERS_BYTES / 2);
    let huge_before = Large::of("self").huge_bytes; // others' memory may lie beside
    let always = set("enabled", "always");
    touch(&mut careless, BUFFERS_BYTES / 2..BUFFERS_BYTES);

    for backend in ["null", "memory"] {
        let words = [backend, "--size", "1G", "--queues", "1", "--depth", "128", "--data", "copy"];
        let serving = Serving::start(&words);
        use_all_buffers(&serving.path);
        let before = scans();
        eventually("all memory is looked through", SOON, || scans() > before + 3);
        let pid = serving.child.id().to_string();
        let (large, rss_bytes) = (Large::of(&pid), tools::rss_bytes(&pid));
        println!("  measured: {backend}: {large:?}, {} KiB in all", rss_bytes >> 10);
        assert!(large.resident_bytes > 100 * 4096, "{backend}: its buffers were not used");
        assert_eq!(large.huge_bytes, 0, "{backend}");
        assert!(rss_bytes < MOST_BYTES, "{backend}: {rss_bytes} bytes");
        serving.stop();
    }
    // What was touched before was put together by the kernel, later.
    let most = || Large::of("self").huge_bytes > huge_before + BUFFERS_BYTES as u64 * 3 / 4;
    eventually("buffers without advice are all there", SOON, most);
    println!("  noticed: without advice: {:?}", Large::of("self"));
    drop((always, sparing, eager));
}
