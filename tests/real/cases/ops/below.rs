//! Discards, zeros and holes of the file backend on another disk: what arrives there.

use super::emptying::empties_just;
use super::{Call, Emptying, PAGE, QUIET, Recorder, range};
use crate::tools::{Serving, eventually, read, run};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use ublkit::{Backend, Geometry, Server};

const SIZE_BYTES: u64 = 64 << 20;

/// A disk below that can discard in units of so many bytes, and zero ranges or not.
fn below(discard_bytes: u32, write_zeroes: bool) -> (Arc<Recorder>, Server) {
    let recorder = Recorder::new(Geometry::new(SIZE_BYTES));
    {
        let mut geometry = recorder.geometry.lock().unwrap();
        (geometry.discard_bytes, geometry.write_zeroes) = (discard_bytes, write_zeroes);
    }
    let server = recorder.serve();
    (recorder, server)
}

/// An attribute of a disk's queue.
fn attribute(path: &str, name: &str) -> String {
    format!("/sys/block/{}/queue/{name}", path.trim_start_matches("/dev/"))
}

/// Each way to empty a range arrives as what it is, and so does a discard on a disk that could only
/// do that; one that cannot is not asked.
pub(super) fn on_a_disk(ranges: &[Range<u64>]) {
    let (recorder, server) = below(PAGE as u32, true);
    let disk = server.block_path();
    for options in [&[][..], &["--direct"]] {
        let words = [&["file", &disk][..], options].concat();
        let above = Serving::start(&words);
        for range in ranges {
            for how in Emptying::ALL {
                empties_just(&recorder, &above.path, how, range);
            }
        }
        above.stop();
    }
    in_a_partition(&recorder, &disk);
    server.stop().unwrap();

    let (recorder, server) = below(16 << 10, false);
    let talk = "/tmp/below.txt";
    let trace = format!("--trace={talk}");
    let above = Serving::start(&["file", &server.block_path(), "--direct", &trace]);
    let unit = read(&attribute(&above.path, "discard_granularity"));
    assert_eq!(unit.trim_end(), (16 << 10).to_string());
    for range in ranges {
        empties_just(&recorder, &above.path, Emptying::Discard, range);
    }
    above.stop();
    let told = read(talk);
    assert_eq!(told.matches("-> URING_CMD command=DISCARD").count(), ranges.len(), "{told}");
    std::fs::remove_file(talk).unwrap();
    server.stop().unwrap();

    let (recorder, server) = below(0, true);
    let above = Serving::start(&["file", &server.block_path(), "--direct"]);
    assert_eq!(read(&attribute(&above.path, "discard_max_bytes")).trim_end(), "0");
    let place = range(QUIET, PAGE as u64);
    let said = Emptying::Discard.try_on(&above.path, &place).unwrap_err();
    assert!(said.contains("supported"), "{said}");
    assert_eq!(recorder.taken(), []);
    above.stop();
    server.stop().unwrap();
    on_a_disk_that_cannot_any_more();
}

/// What a partition can is what its disk can, and what arrives there is where the partition is.
fn in_a_partition(recorder: &Recorder, path: &str) {
    const START: u64 = 1 << 20;
    run("addpart", &[path, "1", &(START / 512).to_string(), &(QUIET * 4 / 512).to_string()]);
    let partition = format!("{path}p1");
    eventually("the partition is there", Duration::from_secs(10), || {
        std::path::Path::new(&partition).exists()
    });
    let above = Serving::start(&["file", &partition, "--direct"]);
    recorder.taken();
    Emptying::Discard.run(&above.path, &range(QUIET, PAGE as u64));
    assert_eq!(recorder.taken(), [Call::Discard(range(START + QUIET, PAGE as u64))]);
    above.stop();
    run("delpart", &[path, "1"]);
}

/// Where a discard is refused, a hole is what it becomes.
fn on_a_disk_that_cannot_any_more() {
    let (recorder, server) = below(PAGE as u32, true);
    let above = Serving::start(&["file", &server.block_path(), "--direct"]);
    let place = range(QUIET, PAGE as u64);
    recorder.memory.write(QUIET, &[7; PAGE]).unwrap();
    std::fs::write(attribute(&server.block_path(), "discard_max_bytes"), "0").unwrap();
    recorder.taken();
    Emptying::Discard.run(&above.path, &place);
    assert_eq!(recorder.taken(), [Call::Zero { range: place, may_unmap: true }]);
    let mut found = [1; PAGE];
    recorder.memory.read(QUIET, &mut found).unwrap();
    assert!(found == [0; PAGE]);
    above.stop();
    server.stop().unwrap();
}
