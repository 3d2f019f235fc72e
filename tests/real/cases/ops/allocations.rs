//! That serving allocates nothing: each backend and adapter, on each path.

use super::super::adapters::apply;
use super::{Context, PAGE, QUIET, punch};
use crate::{alloc, disk};
use rustix::thread::CpuSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use ublkit::{
    Access, Backend, Blocking, Builder, Completion, DataPath, Errno, Features, FileIndex,
    FileOptions, Geometry, Handler, Io, Job, Memory, Needs, Offload, Operation, QueueInfo, Space,
    Step, Target, Task, Tasks,
};

const QUEUES: u16 = 4;
const SIZE_BYTES: u64 = 64 << 20;

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

    fn resume(&mut self, io: &mut Io<'_>, done: Completion) -> Step {
        self.inner.resume(io, done)
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

/// Jobs that wait for a thread, in room that was made before.
#[derive(Default)]
struct Jobs {
    waiting: Mutex<(Vec<Job>, bool)>,
    changed: Condvar,
}

impl Jobs {
    fn hand(&self, job: Job) {
        self.waiting.lock().unwrap().0.push(job);
        self.changed.notify_one();
    }

    fn next(&self) -> Option<Job> {
        let is_idle = |waiting: &mut (Vec<Job>, bool)| waiting.0.is_empty() && !waiting.1;
        self.changed.wait_while(self.waiting.lock().unwrap(), is_idle).unwrap().0.pop()
    }
}

/// Ends the thread that takes jobs, whatever else happens.
struct LastJob<'a>(&'a Jobs);

impl Drop for LastJob<'_> {
    fn drop(&mut self) {
        self.0.waiting.lock().unwrap().1 = true;
        self.0.changed.notify_all();
    }
}

/// How much is served, and on which kernel.
struct Trial {
    times: u64,
    context: Context,
}

impl Trial {
    /// Nothing is allocated on any path of this kernel that suits the target.
    fn every_path<T: Target>(&self, name: &str, target: impl Fn() -> T) {
        let features = self.context.features;
        let suits = |path: &&DataPath| {
            let suits = !path.is_zero_copy() || target().needs().access == Access::Operations;
            suits && features.contains(path.features())
        };
        for path in DataPath::ALL.iter().filter(suits) {
            let has_batches = features.contains(Features::BATCH_IO) && *path != DataPath::GetData;
            for batches in [false].into_iter().chain(has_batches.then_some(true)) {
                let builder = Builder::new().data_path(*path).batches(batches);
                for (requests, allocations) in allocations(&builder, target(), self.times) {
                    let what = format!("{name}, {path}, batches: {batches}");
                    assert!(requests >= 3 * self.times, "{what}: a queue carried {requests}");
                    assert_eq!(allocations, 0, "{what}: in {requests} requests of one queue");
                }
            }
        }
    }
}

/// A file, served by futures.
async fn over_file(task: Task) -> Result<(), Errno> {
    const FILE: FileIndex = FileIndex(0);
    let (request, all) = (task.request(), task.request().data_bytes());
    let moved = match request.operation {
        Operation::Read => task.read(FILE, request.offset, 0..all).await?,
        Operation::Write { .. } => task.write(FILE, request.offset, 0..all, false).await?,
        Operation::WriteZeroes { .. } => {
            let hole = request.offset..request.offset + request.len_bytes;
            task.allocate(FILE, Space::GivenUp, hole).await?;
            all
        }
        _ => return Err(Errno::EOPNOTSUPP),
    };
    if moved == all { Ok(()) } else { Err(Errno::EIO) }
}

pub fn no_allocation(context: Context) {
    let times = context.pick(100, 5000);
    let memory = || Memory::new(Geometry::new(SIZE_BYTES)).unwrap();
    let trial = Trial { times, context };
    trial.every_path("blocking", || Blocking::new(memory()));
    trial.every_path("memory", memory);
    let place = "/dev/shm/ublkit-allocations";
    let _ = std::fs::remove_file(place);
    trial.every_path("file", || FileOptions::new(place).size_bytes(SIZE_BYTES).open().unwrap());
    let file =
        Arc::new(std::fs::File::options().read(true).write(true).open(place).unwrap().into());
    let needs =
        Needs { access: Access::Operations, operations: 1, files: vec![file], ..Needs::default() };
    let mut geometry = Geometry::new(SIZE_BYTES);
    geometry.write_zeroes = true;
    trial.every_path("futures", || Tasks::new(geometry, needs.clone(), over_file));
    std::fs::remove_file(place).unwrap();

    let jobs = Arc::new(Jobs::default());
    jobs.waiting.lock().unwrap().0.reserve(4096);
    let disk = memory();
    std::thread::scope(|scope| {
        let _last = LastJob(&jobs);
        scope.spawn(|| {
            while let Some(mut job) = jobs.next() {
                let answer = apply(&disk, &mut job);
                job.answer(answer);
            }
        });
        trial.every_path("threads", || {
            let jobs = Arc::clone(&jobs);
            Offload::new(disk.geometry(), move |job| jobs.hand(job))
        });
    });

    // The check itself: what is allocated is seen.
    let allocating = Blocking::new(Allocating(memory()));
    for (_, allocations) in allocations(&Builder::new(), allocating, times) {
        assert!(allocations >= times - 1, "{allocations} allocations seen in {times} reads");
    }
}

/// Serves `target` to a client on each CPU. Each queue's requests, and how many allocations its
/// thread made between the first of them and the last.
fn allocations<T: Target>(builder: &Builder, target: T, times: u64) -> Vec<(u64, u64)> {
    let notes = Arc::<[Note; QUEUES as usize]>::default();
    let target = Counted { inner: target, queue: 0, notes: Arc::clone(&notes) };
    let server = builder.clone().queues(QUEUES).metered(true).serve(target).unwrap();
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
