//! That what was written is read back: by all queues, at all sizes.

use super::Context;
use crate::disk;
use rustix::thread::CpuSet;
use ublkit::{Blocking, Builder, Geometry, Linux, Memory};

const QUEUES: u16 = 4;
const BLOCK: usize = 4096;

/// Runs the calling thread on one CPU only, so that its requests go to that CPU's queue.
fn pin(cpu: usize) {
    let mut cpus = CpuSet::new();
    cpus.set(cpu);
    rustix::thread::sched_setaffinity(None, &cpus).expect("the CPU exists");
}

pub fn stamps(context: Context) {
    let blocks_each: u64 = context.pick(64, 4096);
    let memory = Memory::new(Geometry::new(64 << 20)).unwrap();
    let server =
        Builder::new().queues(QUEUES).serve_on(Linux, Blocking::new(memory)).unwrap();
    assert_eq!(server.info().queues, QUEUES, "boot with four CPUs");
    let path = server.block_path();
    std::thread::scope(|scope| {
        for cpu in 0..usize::from(QUEUES) {
            let path = &path;
            scope.spawn(move || {
                pin(cpu);
                let file = disk::open(path, 0);
                let indices = (0..blocks_each).map(|i| i * u64::from(QUEUES) + cpu as u64);
                for index in indices {
                    let at = index * BLOCK as u64;
                    disk::write(&file, at, &disk::stamp(index, 1, BLOCK)).unwrap();
                }
            });
        }
    });
    let file = disk::open(&path, 0);
    for index in 0..blocks_each * u64::from(QUEUES) {
        let found = disk::read(&file, index * BLOCK as u64, BLOCK).unwrap();
        assert!(found == disk::stamp(index, 1, BLOCK), "block {index} holds another's data");
    }
    drop(file);
    let stats = server.stop().unwrap();
    for (queue, stats) in stats.iter().enumerate() {
        assert!(stats.writes >= blocks_each, "queue {queue} carried {} writes", stats.writes);
    }
}
