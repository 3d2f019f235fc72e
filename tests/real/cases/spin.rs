//! Queues that look for requests before they sleep.

use super::Context;
use super::data::{memory, stamp_all};
use crate::disk;
use crate::spy::Spy;
use std::sync::atomic::Ordering;
use std::time::Duration;
use ublkit::{Blocking, Builder, Features};

/// How long they look.
const LOOK: Duration = Duration::from_millis(1);

/// What they carry is right, in batches too, and they do look.
pub fn data(context: Context) {
    let in_batches = context.features.contains(Features::BATCH_IO);
    for batches in [false, true].into_iter().take(1 + usize::from(in_batches)) {
        let spy = Spy::default();
        let builder = Builder::new().spin(LOOK).batches(batches);
        let target = Blocking::new(memory(64 << 20));
        stamp_all(spy.clone(), &builder, target, context.pick(64, 4000)).unwrap();
        let looks = spy.looks.load(Ordering::Relaxed);
        assert!(looks > 0, "batches: {batches}: no queue looked");
    }
}

/// Who asks rarely costs hardly a look.
pub fn rare_requests(_: Context) {
    let spy = Spy::default();
    let server = Builder::new().spin(LOOK).serve_on(spy.clone(), Blocking::new(memory(1 << 20)));
    let server = server.unwrap();
    let file = disk::open(&server.block_path(), 0);
    let rare = |times: u32| {
        let before = spy.looks.load(Ordering::Relaxed);
        for _ in 0..times {
            disk::read(&file, 0, 4096).unwrap();
            std::thread::sleep(4 * LOOK);
        }
        spy.looks.load(Ordering::Relaxed) - before
    };
    let (first, later) = (rare(50), rare(200));
    println!("  measured: {first} looks for 50 requests, then {later} for 200");
    assert!(first > 0 && later < first, "it goes on looking: {first}, {later}");
    drop(file);
    server.stop().unwrap();
}
