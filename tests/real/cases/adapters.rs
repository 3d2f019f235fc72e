//! Backends whose requests are served by futures, or on threads of the program's own.

use super::Context;
use super::data::{memory, stamp_all, verify};
use rustix::fs::MemfdFlags;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use ublkit::{
    Access, Backend, Builder, Errno, FileIndex, Geometry, Job, Linux, Memory, Needs, Offload,
    Operation, Task, Tasks, join,
};

const SIZE_BYTES: u64 = 64 << 20;

pub fn apply(memory: &Memory, job: &mut Job) -> Result<(), Errno> {
    let request = job.request();
    match request.operation {
        Operation::Read => memory.read(request.offset, job.data()),
        Operation::Write { .. } => memory.write(request.offset, job.data()),
        Operation::WriteZeroes { may_unmap } => {
            memory.write_zeroes(request.offset, request.len_bytes, may_unmap)
        }
        Operation::Discard => memory.discard(request.offset, request.len_bytes),
        _ => Ok(()),
    }
}

/// Four threads take the requests of all queues from a channel.
pub fn offload(context: Context) {
    let (stamps, count) = (context.pick(64, 2000), context.pick(8, 64));
    for batches in [false, context.features.contains(ublkit::Features::BATCH_IO)] {
        let (hand, jobs) = channel::<Job>();
        let jobs = Arc::new(Mutex::new(jobs));
        let disk = memory(SIZE_BYTES);
        let geometry = disk.geometry();
        let work = |_| {
            let (jobs, disk) = (Arc::clone(&jobs), disk.clone());
            std::thread::spawn(move || {
                loop {
                    let Ok(mut job) = jobs.lock().unwrap().recv() else { return };
                    let answer = apply(&disk, &mut job);
                    job.answer(answer);
                }
            })
        };
        let threads: Vec<_> = (0..4).map(work).collect();
        let builder = Builder::new().depth(16).batches(batches);
        let target = || {
            let hand = hand.clone();
            Offload::new(geometry, move |job| _ = hand.send(job))
        };
        stamp_all(Linux, &builder, target(), stamps).unwrap();
        verify(&builder, target(), 4, &[4 << 10, 128 << 10], count);
        drop(hand);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

const COPIES: [FileIndex; 2] = [FileIndex(0), FileIndex(1)];

/// Keeps two copies, each write under way to both at one time.
async fn mirror(task: Task) -> Result<(), Errno> {
    let request = task.request();
    let all = 0..request.data_bytes();
    match request.operation {
        Operation::Read => {
            let copy = COPIES[usize::from(task.tag()) % 2];
            let read = task.read(copy, request.offset, all.clone()).await?;
            if read == all.end { Ok(()) } else { Err(Errno::EIO) }
        }
        Operation::Write { .. } => {
            let write = |copy| task.write(copy, request.offset, all.clone(), false);
            let (one, other) = join(write(COPIES[0]), write(COPIES[1])).await;
            if one? == all.end && other? == all.end { Ok(()) } else { Err(Errno::EIO) }
        }
        _ => Err(Errno::EOPNOTSUPP),
    }
}

/// Futures over two files, on the best path that the kernel has; both hold the same in the end.
pub fn futures(context: Context) {
    let stamps = context.pick(64, 2000);
    let file = || {
        let file =
            std::fs::File::from(rustix::fs::memfd_create("copy", MemfdFlags::CLOEXEC).unwrap());
        file.set_len(SIZE_BYTES).unwrap();
        Arc::new(OwnedFd::from(file))
    };
    let files = vec![file(), file()];
    let needs = Needs {
        access: Access::Operations,
        operations: 2,
        files: files.clone(),
        ..Needs::default()
    };
    let disk = || Tasks::new(Geometry::new(SIZE_BYTES), needs.clone(), mirror);
    let builder = Builder::new().depth(16);
    stamp_all(Linux, &builder, disk(), stamps).unwrap();
    verify(&builder, disk(), 4, &[4 << 10, 128 << 10], context.pick(8, 64));
    let contents = files.iter().map(|file| {
        let file = std::fs::File::from(file.try_clone().unwrap());
        let mut bytes = vec![0; usize::try_from(SIZE_BYTES).unwrap()];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    });
    let contents: Vec<Vec<u8>> = contents.collect();
    assert!(contents[0] == contents[1], "the copies are the same");
    assert!(contents[0].iter().any(|byte| *byte != 0), "and something was written");
}
