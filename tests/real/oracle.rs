//! What a disk must hold: writers who remember what they were told.

use crate::disk;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{io, sync::Arc};

pub const BLOCK: usize = 4096;

/// After a write that failed: on a disk that fails all, writers would take the whole machine.
const PAUSE: Duration = Duration::from_millis(20);

/// What is known of a block.
#[derive(Debug, Default)]
struct Block {
    /// The newest generation that was acknowledged; 0 for zeros.
    sure: u64,
    /// Generations that were written since, and failed: they may be there.
    perhaps: Vec<u64>,
}

/// What every block of a disk must hold.
#[derive(Debug)]
pub struct Oracle {
    blocks: Vec<Mutex<Block>>,
    generation: AtomicU64,
    acknowledged: AtomicU64,
    failed: AtomicU64,
}

impl Oracle {
    /// A disk of so many blocks, all zeros.
    pub fn new(blocks: usize) -> Self {
        Self {
            blocks: (0..blocks).map(|_| Mutex::default()).collect(),
            generation: AtomicU64::new(1),
            acknowledged: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    /// Writes a block, and remembers what came of it.
    fn write(&self, disk: &File, index: usize) -> io::Result<()> {
        let mut block = self.blocks[index].lock().expect("no panic");
        let generation = self.generation.fetch_add(1, Ordering::Relaxed);
        let stamp = disk::stamp(index as u64, generation, BLOCK);
        match disk::write(disk, (index * BLOCK) as u64, &stamp) {
            Ok(()) => {
                *block = Block { sure: generation, perhaps: Vec::new() };
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => {
                block.perhaps.push(generation);
                self.failed.fetch_add(1, Ordering::Relaxed);
                Err(error)
            }
        }
    }

    /// How many writes were acknowledged so far, and how many failed.
    pub fn counts(&self) -> (u64, u64) {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (of(&self.acknowledged), of(&self.failed))
    }

    /// Whether a disk, or what it is kept in, holds what was acknowledged. Nobody writes meanwhile.
    pub fn verify(&self, disk: &File) -> Result<(), String> {
        for (index, block) in self.blocks.iter().enumerate() {
            let block = block.lock().expect("no panic");
            let mut buffer = disk::Aligned::new(BLOCK);
            let found = buffer.page();
            let read = disk.read_exact_at(found, (index * BLOCK) as u64);
            read.map_err(|error| format!("block {index} cannot be read: {error}"))?;
            let holds = |generation: u64| match generation {
                0 => found.iter().all(|byte| *byte == 0),
                _ => *found == *disk::stamp(index as u64, generation, BLOCK),
            };
            let known = [block.sure].into_iter().chain(block.perhaps.iter().copied());
            if !known.into_iter().any(holds) {
                return Err(format!(
                    "block {index} does not hold its write {}, which was acknowledged",
                    block.sure
                ));
            }
        }
        Ok(())
    }
}

/// Writers who go on until they are told to stop.
#[derive(Debug)]
pub struct Writers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Writers {
    /// So many at one time, each with a part of the disk at `path`.
    pub fn start(oracle: &Arc<Oracle>, path: &str, count: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let each = |writer: usize| {
            let (oracle, stop, path) = (Arc::clone(oracle), Arc::clone(&stop), path.to_string());
            std::thread::spawn(move || {
                let disk = disk::open(&path, 0);
                let own = (writer..oracle.blocks.len()).step_by(count);
                for index in own.cycle() {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    if oracle.write(&disk, index).is_err() {
                        std::thread::sleep(PAUSE);
                    }
                }
            })
        };
        Self { threads: (0..count).map(each).collect(), stop }
    }

    /// Waits until all have ended; each ends with its last write.
    pub fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("no panic");
        }
    }
}
