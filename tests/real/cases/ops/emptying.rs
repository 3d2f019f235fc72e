//! Discards, zeros and holes.

use super::{Call, Context, Emptying, PAGE, QUIET, Recorder, below, range};
use crate::{disk, tools};
use std::ops::Range;
use ublkit::{Backend, Geometry};

pub fn discard_and_zero_out(context: Context) {
    let recorder = Recorder::new(Geometry::new(128 << 20));
    let server = recorder.serve();
    let path = server.block_path();
    let few = [64 << 10..128 << 10, 9 * 4096 + 512..14 * 4096 - 1536];
    let more = [512..1024, 4096..8192, 3584..4608, 4096..9728, 0..256 << 10];
    let ranges = [&few[..], context.pick(&[], &more)].concat();
    for range in &ranges {
        for how in Emptying::ALL {
            empties_just(&recorder, &path, how, range);
        }
    }
    memory_is_given_back(&path);
    server.stop().unwrap();
    without_such_operations();
    below::on_a_disk(&few);
}

/// A disk that declares neither: it is not asked, and zeros are written by the kernel.
fn without_such_operations() {
    let recorder = Recorder::new(Geometry::new(64 << 20));
    recorder.geometry.lock().unwrap().discard_bytes = 0;
    recorder.geometry.lock().unwrap().write_zeroes = false;
    let server = recorder.serve();
    let path = server.block_path();
    let place = range(QUIET, PAGE as u64);
    for how in [Emptying::Discard, Emptying::PunchHole] {
        let said = how.try_on(&path, &place).unwrap_err();
        assert!(said.contains("supported"), "{how:?}: {said}");
    }
    assert_eq!(recorder.taken(), []);
    for how in [Emptying::ZeroOut, Emptying::ZeroRange] {
        recorder.memory.write(QUIET, &disk::stamp(1, 1, PAGE)).unwrap();
        how.run(&path, &place);
        assert_eq!(recorder.taken(), [Call::Write(place.clone())], "{how:?}");
        let mut found = [1; PAGE];
        recorder.memory.read(QUIET, &mut found).unwrap();
        assert!(found == [0; PAGE], "{how:?} left something");
    }
    server.stop().unwrap();
}

/// Empties a range of a full area: the backend is asked for just that, and nothing else changes.
pub(super) fn empties_just(recorder: &Recorder, path: &str, how: Emptying, range: &Range<u64>) {
    let mut model = disk::stamp(range.start, 1, 256 << 10);
    let file = disk::open(path, 0);
    disk::write_large(&file, 0, &model).unwrap();
    file.sync_all().unwrap(); // nothing of it comes later
    recorder.taken();
    how.run(path, range);
    let calls = recorder.taken();
    let mut at = range.start;
    for call in &calls {
        let part = how.asked(call).unwrap_or_else(|| panic!("{how:?} {range:?} made {calls:?}"));
        assert_eq!(part.start, at, "{how:?} {range:?} made {calls:?}");
        at = part.end;
    }
    assert_eq!(at, range.end, "{how:?} {range:?} made {calls:?}");
    model[how.zeroed(range)].fill(0);
    let found = disk::read_large(&file, 0, model.len()).unwrap();
    let wrong = (0..model.len()).find(|byte| found[*byte] != model[*byte]);
    assert_eq!(wrong, None, "{how:?} {range:?}: the first wrong byte");
}

/// What may be unmapped is given back to the machine; what may not is kept.
fn memory_is_given_back(path: &str) {
    const MIB: u64 = 1 << 20;
    let file = disk::open(path, 0);
    let stamp = disk::stamp(1, 1, MIB as usize);
    let empty = tools::rss_bytes("self");
    (0..64).for_each(|mib| disk::write_large(&file, mib * MIB, &stamp).unwrap());
    drop(file);
    let full = tools::rss_bytes("self");
    assert!(full > empty + 60 * MIB, "{empty} bytes before, {full} full");
    Emptying::ZeroOut.run(path, &(0..64 * MIB));
    let zeroed = tools::rss_bytes("self");
    assert!(zeroed + 4 * MIB > full, "{full} bytes full, {zeroed} zeroed: space was given up");
    Emptying::PunchHole.run(path, &(0..32 * MIB));
    let punched = tools::rss_bytes("self");
    assert!(punched + 28 * MIB < zeroed, "{zeroed} bytes before the hole, {punched} after it");
    Emptying::Discard.run(path, &(32 * MIB..64 * MIB));
    let discarded = tools::rss_bytes("self");
    assert!(discarded + 28 * MIB < punched, "{punched} before the discard, {discarded} after it");
}
