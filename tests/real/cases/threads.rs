//! Queues that several threads share.

use super::Context;
use super::data::{memory, stamp_all};
use crate::disk;
use crate::load;
use crate::tools::{self, Serving};
use rustix::process::Signal;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use ublkit::{Backend, Blocking, Builder, DataPath, Errno, File, FileOptions, Geometry, Linux};

const SOON: Duration = Duration::from_secs(30);

/// Every path, with what a client wrote last in each block.
pub fn every_path(context: Context) {
    let file = || -> File {
        let path = "/dev/shm/ublkit-disk";
        let _ = std::fs::remove_file(path);
        FileOptions::new(path).size_bytes(64 << 20).open().expect("a file")
    };
    let count = context.pick(32, 2000);
    for path in DataPath::ALL.iter().filter(|path| context.features.contains(path.features())) {
        let builder = Builder::new().data_path(*path).depth(16).queues(2).threads_per_queue(3);
        if !path.is_zero_copy() {
            stamp_all(Linux, &builder, memory(64 << 20), count).unwrap();
        }
        stamp_all(Linux, &builder, file(), count).unwrap();
    }
    let _ = std::fs::remove_file("/dev/shm/ublkit-disk");
}

/// Blocks its thread for a while with each read of the disk's second half, and counts how many do
/// so at one time, and did at the most.
#[derive(Debug)]
struct Slow {
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

const PAUSE: Duration = Duration::from_millis(20);
const SIZE_BYTES: u64 = 64 << 20;

impl Backend for Slow {
    fn geometry(&self) -> Geometry {
        Geometry::new(SIZE_BYTES)
    }

    fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        if offset >= SIZE_BYTES / 2 {
            let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
            self.most.fetch_max(now, Ordering::Relaxed);
            std::thread::sleep(PAUSE);
            self.now.fetch_sub(1, Ordering::Relaxed);
        }
        data.fill(7);
        Ok(())
    }

    fn write(&self, _: u64, _: &[u8]) -> Result<(), Errno> {
        Err(Errno::EROFS)
    }
}

/// Requests of one queue do not wait for one another in a backend that blocks; with one thread they
/// do.
pub fn in_parallel(_: Context) {
    // As many as there are slots, so that each thread has its share of them.
    const READERS: u64 = 64;
    let at_one_time = |threads: u16| {
        let builder = Builder::new().queues(1).depth(64).threads_per_queue(threads).metered(true);
        let most: Arc<AtomicUsize> = Arc::default();
        let slow = Slow { now: Arc::default(), most: Arc::clone(&most) };
        let server = builder.serve(Blocking::new(slow)).unwrap();
        let path = server.block_path();
        std::thread::scope(|scope| {
            for reader in 0..READERS {
                let path = &path;
                scope.spawn(move || {
                    let disk = disk::open(path, libc::O_DIRECT);
                    // Apart, or the kernel would make one request of them.
                    let offset = SIZE_BYTES / 2 + reader * (256 << 10);
                    assert_eq!(disk::read(&disk, offset, 4096).unwrap(), [7; 4096]);
                });
            }
        });
        let reads = server.meters().iter().map(|meter| meter.read().stats.reads);
        let served = reads.filter(|reads| *reads > 0).count();
        server.stop().unwrap();
        (most.load(Ordering::Relaxed), served)
    };
    assert_eq!(at_one_time(1), (1, 1), "one after another");
    let (most, threads) = at_one_time(8);
    println!("measured: {READERS} slow reads, {most} at one time on {threads} threads of eight");
    assert!((3..=8).contains(&most) && threads > 4, "{most} at one time on {threads} threads");
}

/// They come to their end as others do: stopped and killed under load; and the next server has as
/// many.
pub fn end(_: Context) {
    let words = ["memory", "--size", "64M", "--queues", "1", "--threads-per-queue", "3"];
    let serving = Serving::start(&words);
    let pid = serving.child.id();
    let names = |pid: u32| -> Vec<String> {
        let tasks = tools::names(&format!("/proc/{pid}/task"));
        let comm = |task: &String| tools::read(&format!("/proc/{pid}/task/{task}/comm"));
        let mut all: Vec<_> = tasks.iter().map(comm).map(|it| it.trim().to_owned()).collect();
        all.retain(|name| name.contains("-q"));
        all.sort();
        all
    };
    let expected = |id: u32| [0, 1, 2].map(|thread| format!("ublk{id}-q0.{thread}"));
    assert_eq!(names(pid), expected(serving.id()));
    let mut fio = load::mixed(&serving.path);
    load::busy(&serving.path);
    let told = tools::run(tools::UBLKIT, &["stat", &serving.path, "--json"]);
    assert_eq!(told.matches("\"queue\":").count(), 1, "one queue, whoever serves it: {told}");
    serving.stop();
    assert!(!tools::wait(&mut fio, SOON).success(), "requests were answered with errors");

    let serving = Serving::start(&[&words[..], &["--recover", "reissue"]].concat());
    let mut fio = load::mixed(&serving.path);
    load::busy(&serving.path);
    let id = serving.id();
    serving.signal(Signal::KILL);
    assert_eq!(serving.end(SOON).0, -9);
    let mut recover = std::process::Command::new(tools::UBLKIT);
    let next = Serving::started(recover.args(["recover", &id.to_string(), "--data-lost"]));
    assert_eq!(names(next.child.id()), expected(id));
    load::busy(&next.path);
    next.stop();
    assert!(!tools::wait(&mut fio, SOON).success(), "requests were answered with errors");
}

/// Where the driver has one task for each queue, that is said.
pub fn refused(context: Context) {
    let words = ["serve", "null", "--size", "1M", "--threads-per-queue", "2"];
    if context.features.contains(ublkit::Features::PER_IO_DAEMON) {
        let serving = Serving::start(&words[1..]);
        let disk = std::fs::File::open(&serving.path).unwrap();
        disk.read_exact_at(&mut [0; 4096], 0).unwrap();
        drop(disk);
        return serving.stop();
    }
    let output = tools::output(tools::UBLKIT, &words);
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(why.contains("lacks PER_IO_DAEMON, which is there since 6.16"), "{why}");
    assert_eq!(tools::devices(), Vec::<String>::new());
}
