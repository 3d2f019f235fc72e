//! Clients who are told that what they wrote is durable, and remember it.

use super::{BLOCK, SOON};
use crate::disk;
use crate::tools::{self, eventually, run};
use rustix::fs::fdatasync;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

/// Blocks of a disk that writers write.
pub(super) const BLOCKS: usize = 256;
const WRITERS: usize = 4;
/// Blocks that a writer writes before it asks for durability.
const TOGETHER: u64 = 4;

/// Blocks of the disk that is to have a file system,
pub(in super::super) const DISK_BLOCKS: usize = 4096;
/// and of the file in it.
const FILE_BLOCKS: usize = 64;

/// How many overwrites there may be beyond one of each block.
pub(super) const MORE: usize = 2 * FILE_BLOCKS;

fn stamp(index: usize, generation: u64) -> Vec<u8> {
    disk::stamp(index as u64, generation, BLOCK)
}

/// What clients were told of each block.
#[derive(Debug, Default)]
struct Told {
    /// The newest generation that was written, or may be,
    written: AtomicU64,
    /// and the newest that is durable.
    durable: AtomicU64,
}

/// What clients were told until some moment.
#[derive(Debug)]
pub(super) struct Promises {
    told: Arc<Vec<Told>>,
    durable: Vec<u64>,
    /// Whether each block is where it was written; else a file system knows where it is.
    in_place: bool,
}

impl Promises {
    fn of(told: &Arc<Vec<Told>>, in_place: bool) -> Self {
        let durable = told.iter().map(|told| told.durable.load(Ordering::Relaxed)).collect();
        Self { told: Arc::clone(told), durable, in_place }
    }

    /// Whether what is left holds what clients were told is durable; and how many writes those are.
    pub(super) fn verify(&self, left: &[u8]) -> Result<u64, String> {
        for (index, (told, &durable)) in self.told.iter().zip(&self.durable).enumerate() {
            let holds = |block: &[u8], generation| match generation {
                0 if self.in_place => block.iter().all(|byte| *byte == 0),
                _ => block == stamp(index, generation),
            };
            let is_kept = if self.in_place {
                let block = &left[index * BLOCK..][..BLOCK];
                let written = told.written.load(Ordering::Relaxed);
                (durable..=written).any(|generation| holds(block, generation))
            } else {
                left.chunks(BLOCK).any(|block| holds(block, durable)) // it is there once
            };
            if !is_kept {
                return Err(format!("block {index} lost its write {durable}, which was durable"));
            }
        }
        Ok(self.durable.iter().sum())
    }
}

/// Writes blocks and has them made durable, each time in another way, until that fails or is
/// enough.
fn write_on(path: &str, told: &[Told], writer: usize, enough: &AtomicBool) {
    let (plain, durable) = (disk::open(path, 0), disk::open(path, libc::O_DSYNC));
    let own: Vec<usize> = (writer..BLOCKS).step_by(WRITERS).collect();
    let mut next = 0;
    while !enough.load(Ordering::Relaxed) {
        let at_once = next % 3 == 0;
        let blocks: Vec<usize> = (0..TOGETHER)
            .map(|_| {
                next += 1;
                own[next % own.len()]
            })
            .collect();
        for &index in &blocks {
            let generation = told[index].written.fetch_add(1, Ordering::Relaxed) + 1;
            let stamp = stamp(index, generation);
            let file = if at_once { &durable } else { &plain };
            if disk::write(file, (index * BLOCK) as u64, &stamp).is_err() {
                return;
            }
        }
        if !at_once && fdatasync(&plain).is_err() {
            return;
        }
        for &index in &blocks {
            let written = told[index].written.load(Ordering::Relaxed);
            told[index].durable.store(written, Ordering::Relaxed);
        }
    }
}

/// Clients of a disk itself, several at one time.
#[derive(Debug)]
pub(super) struct Writers {
    told: Arc<Vec<Told>>,
    enough: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Writers {
    pub(super) fn start(path: &str) -> Self {
        let told: Arc<Vec<Told>> = Arc::new((0..BLOCKS).map(|_| Told::default()).collect());
        let enough = Arc::new(AtomicBool::new(false));
        let write = |writer| {
            let (told, enough) = (Arc::clone(&told), Arc::clone(&enough));
            let path = path.to_string();
            std::thread::spawn(move || write_on(&path, &told, writer, &enough))
        };
        let threads = (0..WRITERS).map(write).collect();
        Self { told, enough, threads }
    }

    /// Waits until so many writes are durable.
    pub(super) fn until(&self, least: u64) {
        let sure = || self.promises().durable.iter().sum::<u64>();
        eventually("clients write", SOON, || sure() > least);
    }

    /// What they were told until now.
    pub(super) fn promises(&self) -> Promises {
        Promises::of(&self.told, true)
    }

    /// Has them end: where a page cache takes the writes and flushes are skipped, they see no error
    /// for ever. What they were told in the end.
    pub(super) fn finish(self) -> Promises {
        self.enough.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("no panic");
        }
        Promises::of(&self.told, true)
    }
}

/// A file system on a disk, and a file in it that is overwritten, each block durably. A file system
/// sends FUA for that and no flush, unlike a disk's own client.
#[derive(Debug)]
pub(super) struct Overwrites {
    told: Arc<Vec<Told>>,
    point: String,
    file: File,
}

impl Overwrites {
    /// Overwrites each of the file's blocks, and so many of them again.
    pub(super) fn made(path: &str, more: usize) -> Self {
        run("mkfs.ext4", &["-q", "-O", "^has_journal", "-b", "4096", path]);
        let point = tools::mount_point("power");
        run("mount", &[path, &point]);
        let name = format!("{point}/file");
        let told: Arc<Vec<Told>> = Arc::new((0..FILE_BLOCKS).map(|_| Told::default()).collect());
        let first: Vec<u8> = (0..FILE_BLOCKS).flat_map(|index| stamp(index, 0)).collect();
        std::fs::write(&name, first).unwrap();
        run("sync", &["-f", &name]);
        let file = disk::open(&name, libc::O_DSYNC);
        for count in 0..FILE_BLOCKS + more {
            let index = count % FILE_BLOCKS;
            let generation = told[index].written.fetch_add(1, Ordering::Relaxed) + 1;
            disk::write(&file, (index * BLOCK) as u64, &stamp(index, generation)).unwrap();
            told[index].durable.store(generation, Ordering::Relaxed);
        }
        Self { told, point, file }
    }

    pub(super) fn promises(&self) -> Promises {
        Promises::of(&self.told, false)
    }

    pub(super) fn finish(self) -> Promises {
        let Self { told, point, file } = self;
        drop(file);
        run("umount", &[&point]);
        Promises::of(&told, false)
    }
}
