//! That what was written is read back: by all queues, at all sizes.

use super::Context;
use crate::spy::Spy;
use crate::{disk, tools};
use rustix::thread::CpuSet;
use std::fmt::Write;
use std::time::Duration;
use ublkit::{Blocking, Builder, Geometry, Kernel, Linux, Memory, QueueStats, Target};

const QUEUES: u16 = 4;
const BLOCK: usize = 4096;

/// Runs the calling thread on one CPU only, so that its requests go to that CPU's queue.
fn pin(cpu: usize) {
    let mut cpus = CpuSet::new();
    cpus.set(cpu);
    rustix::thread::sched_setaffinity(None, &cpus).expect("the CPU exists");
}

/// Serves `target`, writes stamped blocks from every CPU at once and reads them back from another.
pub fn stamp_all<K: Kernel>(
    kernel: K,
    builder: &Builder,
    target: impl Target,
    blocks_each: u64,
) -> Result<Vec<QueueStats>, String> {
    let builder = builder.clone().queues(QUEUES).timeout(Duration::from_secs(10));
    let server = builder.serve_on(kernel, target).map_err(|e| e.to_string())?;
    assert_eq!(server.info().queues, QUEUES, "boot with four CPUs");
    let path = &server.block_path();
    let each = |work: fn(&std::fs::File, u64) -> Result<(), String>, shift: usize| {
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..usize::from(QUEUES))
                .map(|cpu| {
                    scope.spawn(move || {
                        pin((cpu + shift) % usize::from(QUEUES));
                        let file = disk::open(path, 0);
                        (0..blocks_each)
                            .map(|i| i * u64::from(QUEUES) + cpu as u64)
                            .try_for_each(|index| work(&file, index))
                    })
                })
                .collect();
            workers.into_iter().try_for_each(|worker| worker.join().expect("no panic"))
        })
    };
    each(
        |file, index| {
            let stamp = disk::stamp(index, 1, BLOCK);
            disk::write(file, index * BLOCK as u64, &stamp)
                .map_err(|e| format!("write {index}: {e}"))
        },
        0,
    )?;
    each(
        |file, index| {
            let found = disk::read(file, index * BLOCK as u64, BLOCK);
            let found = found.map_err(|e| format!("read {index}: {e}"))?;
            let right = found == disk::stamp(index, 1, BLOCK);
            right.then_some(()).ok_or(format!("block {index} holds another's data"))
        },
        1,
    )?;
    server.stop().map_err(|e| e.to_string())
}

pub fn stamps(context: Context) {
    let blocks_each = context.pick(64, 4000);
    let target = Blocking::new(memory(64 << 20));
    let stats = stamp_all(Linux, &Builder::new(), target, blocks_each).unwrap();
    for (queue, stats) in stats.iter().enumerate() {
        assert!(stats.writes >= blocks_each, "queue {queue} carried {} writes", stats.writes);
        assert!(stats.reads >= blocks_each, "queue {queue} carried {} reads", stats.reads);
    }
}

/// The control of [`stamps`]: with the classic mistake, it must fail.
pub fn wrong_stride(_: Context) {
    let spy = Spy { wrong_stride: true, ..Spy::default() };
    let target = Blocking::new(memory(64 << 20));
    let why = stamp_all(spy, &Builder::new(), target, 16);
    let why = why.expect_err("a wrong descriptor stride was not noticed");
    println!("  noticed: {why}");
}

/// fio's random and sequential verify at many block sizes, with one queue and with four.
pub fn fio_verify(context: Context) {
    let blocks: &[u64] = context.pick(
        &[512, 4 << 10, 64 << 10, 1 << 20],
        &[512, 1 << 10, 2 << 10, 4 << 10, 8 << 10, 32 << 10, 64 << 10, 256 << 10, 1 << 20],
    );
    let count = context.pick(32, 512);
    for queues in [1, QUEUES] {
        let target = Blocking::new(memory(4 << 30));
        verify(&Builder::new().queues(queues), target, queues, blocks, count);
    }
}

/// Serves `target` while fio verifies at these block sizes, so many blocks for each job.
pub fn verify(builder: &Builder, target: impl Target, queues: u16, blocks: &[u64], count: u64) {
    let server = builder.clone().queues(queues).serve(target).unwrap();
    assert_eq!(server.info().queues, queues, "boot with four CPUs");
    fio(&job_file(&server.block_path(), blocks, count));
    for (queue, stats) in server.stop().unwrap().iter().enumerate() {
        assert!(stats.writes > 0 && stats.reads > 0, "queue {queue} carried nothing: {stats:?}");
        assert_eq!(stats.errors, 0);
    }
}

/// A memory disk.
pub fn memory(size_bytes: u64) -> Memory {
    Memory::new(Geometry::new(size_bytes)).unwrap()
}

/// Four jobs, each on a CPU and a stretch of its own, for each block size and pattern.
fn job_file(path: &str, blocks: &[u64], count: u64) -> String {
    let mut jobs = format!(
        "[global]\nfilename={path}\ndirect=1\nioengine=libaio\niodepth=16\nnumjobs=4\n\
         cpus_allowed=0-3\ncpus_allowed_policy=split\nverify=crc32c\ndo_verify=1\n\
         verify_fatal=1\ngroup_reporting=1\nthread=1\n"
    );
    for (pattern, block) in
        ["randwrite", "write"].iter().flat_map(|pattern| blocks.iter().map(move |b| (pattern, b)))
    {
        let size = block * count;
        // Sequential jobs begin in the middle of a block of the random ones.
        let _ = write!(
            jobs,
            "[{pattern}-{block}]\nstonewall\nrw={pattern}\nbs={block}\nsize={size}\n\
             offset_increment={size}\n"
        );
    }
    jobs
}

fn fio(jobs: &str) {
    std::fs::write("/tmp/ublkit.fio", jobs).unwrap();
    tools::run("fio", &["--output-format=terse", "/tmp/ublkit.fio"]);
}
