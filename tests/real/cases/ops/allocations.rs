//! That serving allocates nothing.

use super::{Context, PAGE, QUIET, punch};
use crate::{alloc, disk};
use rustix::thread::CpuSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use ublkit::{
    Backend, Blocking, Builder, Errno, Geometry, Handler, Io, Memory, Needs, QueueInfo, Step,
    Target,
};

const QUEUES: u16 = 4;

/// Allocations of a queue's thread before its first request and before its last.
#[derive(Debug, Default)]
struct Note {
    requests: AtomicU64,
    first: AtomicU64,
    last: AtomicU64,
}

/// Serves what `inner` serves, and notes each thread's allocations.
struct Counted<T> {
    inner: T,
    queue: u16,
    notes: Arc<[Note; QUEUES as usize]>,
}

impl<T: Target> Target for Counted<T> {
    type Handler = Counted<T::Handler>;

    fn geometry(&self) -> Geometry {
        self.inner.geometry()
    }

    fn needs(&self) -> Needs {
        self.inner.needs()
    }

    fn handler(&self, queue: &QueueInfo) -> Result<Counted<T::Handler>, Errno> {
        let inner = self.inner.handler(queue)?;
        Ok(Counted { inner, queue: queue.queue, notes: Arc::clone(&self.notes) })
    }
}

impl<H: Handler> Handler for Counted<H> {
    fn start(&mut self, io: &mut Io<'_>) -> Step {
        let note = &self.notes[usize::from(self.queue)];
        if note.requests.fetch_add(1, Ordering::Relaxed) == 0 {
            note.first.store(alloc::count(), Ordering::Relaxed);
        }
        note.last.store(alloc::count(), Ordering::Relaxed);
        self.inner.start(io)
    }
}

/// A memory disk that allocates for each read.
struct Allocating(Memory);

impl Backend for Allocating {
    fn geometry(&self) -> Geometry {
        self.0.geometry()
    }

    fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        drop(std::hint::black_box(Box::new(offset)));
        self.0.read(offset, data)
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Errno> {
        self.0.write(offset, data)
    }

    fn write_zeroes(&self, offset: u64, len_bytes: u64, may_unmap: bool) -> Result<(), Errno> {
        self.0.write_zeroes(offset, len_bytes, may_unmap)
    }
}

pub fn no_allocation(context: Context) {
    let times = context.pick(100, 5000);
    let memory = || Memory::new(Geometry::new(64 << 20)).unwrap();
    for (requests, allocations) in allocations(Blocking::new(memory()), times) {
        assert!(requests >= 3 * times, "a queue carried only {requests} requests");
        assert_eq!(allocations, 0, "in {requests} requests of one queue");
    }
    // The check itself: what is allocated is seen.
    for (_, allocations) in allocations(Blocking::new(Allocating(memory())), times) {
        assert!(allocations >= times - 1, "{allocations} allocations seen in {times} reads");
    }
}

/// Serves `target` to a client on each CPU. Each queue's requests, and how many allocations its
/// thread made between the first of them and the last.
fn allocations<T: Target>(target: T, times: u64) -> Vec<(u64, u64)> {
    let notes = Arc::<[Note; QUEUES as usize]>::default();
    let target = Counted { inner: target, queue: 0, notes: Arc::clone(&notes) };
    let server = Builder::new().queues(QUEUES).metered(true).serve(target).unwrap();
    let path = server.block_path();
    std::thread::scope(|scope| {
        for cpu in 0..QUEUES {
            let path = &path;
            scope.spawn(move || every_operation(cpu, path, times));
        }
    });
    server.stop().unwrap();
    let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
    notes.iter().map(|note| (of(&note.requests), of(&note.last) - of(&note.first))).collect()
}

/// Holes, writes and reads from one CPU, so that they go to that CPU's queue.
fn every_operation(cpu: u16, path: &str, times: u64) {
    let mut cpus = CpuSet::new();
    cpus.set(cpu.into());
    rustix::thread::sched_setaffinity(None, &cpus).expect("the CPU exists");
    let file = disk::open(path, 0);
    let stamp = disk::stamp(cpu.into(), 1, PAGE);
    for turn in 0..times {
        let offset = QUIET + (turn % 64 * u64::from(QUEUES) + u64::from(cpu)) * 4096;
        punch(&file, offset).unwrap();
        disk::write(&file, offset, &stamp).unwrap();
        assert!(disk::read(&file, offset, PAGE).unwrap() == stamp);
    }
}
