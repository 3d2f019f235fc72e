//! Power cuts: a disk below that forgets what was not flushed, and a server above that said more.

use super::Context;
use crate::dice::Dice;
use crate::disk;
use crate::tools::{self, Serving, UBLKIT, eventually, run};
use rustix::fs::fdatasync;
use rustix::process::Signal;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use ublkit::{Backend, Blocking, Builder, DataPath, Durability, Errno, Geometry, Server};

const SOON: Duration = Duration::from_secs(60);

const BLOCK: usize = 4096;
const BLOCKS: usize = 256;
const WRITERS: usize = 4;
/// Blocks that a writer writes before it asks for durability.
const TOGETHER: u64 = 4;

/// A disk whose cache is lost when the power is cut.
#[derive(Clone, Debug)]
pub(super) struct Lossy(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    /// What clients see,
    now: Vec<u8>,
    /// what stays without power,
    durable: Vec<u8>,
    /// and the blocks that were written since the last flush, each time that they were.
    cached: Vec<(usize, Vec<u8>)>,
    has_power: bool,
}

impl Lossy {
    pub(super) fn new(blocks: usize) -> Self {
        let zeros = vec![0; blocks * BLOCK];
        let inner =
            Inner { now: zeros.clone(), durable: zeros, cached: Vec::new(), has_power: true };
        Self(Arc::new(Mutex::new(inner)))
    }

    fn inner(&self) -> Result<MutexGuard<'_, Inner>, Errno> {
        let inner = self.0.lock().expect("no panic");
        if inner.has_power { Ok(inner) } else { Err(Errno::EIO) }
    }

    /// Of what was not flushed, some is there and some is not, in any order. Answers what is left.
    pub(super) fn cut(&self, dice: &mut Dice) -> Vec<u8> {
        let mut inner = self.0.lock().expect("no panic");
        inner.has_power = false;
        while !inner.cached.is_empty() {
            let place = dice.below(inner.cached.len());
            let (offset, data) = inner.cached.swap_remove(place);
            if dice.below(2) == 0 {
                inner.durable[offset..][..BLOCK].copy_from_slice(&data);
            }
        }
        inner.durable.clone()
    }
}

impl Backend for Lossy {
    fn geometry(&self) -> Geometry {
        let mut geometry = Geometry::new(self.0.lock().expect("no panic").now.len() as u64);
        (geometry.logical_block_bytes, geometry.physical_block_bytes) =
            (BLOCK as u32, BLOCK as u32);
        geometry.durability = Durability::FlushAndFua;
        geometry
    }

    fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        data.copy_from_slice(&self.inner()?.now[offset as usize..][..data.len()]);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Errno> {
        let mut inner = self.inner()?;
        for (offset, block) in (offset as usize..).step_by(BLOCK).zip(data.chunks(BLOCK)) {
            inner.now[offset..][..BLOCK].copy_from_slice(block);
            inner.cached.push((offset, block.to_vec()));
        }
        Ok(())
    }

    fn write_durably(&self, offset: u64, data: &[u8]) -> Result<(), Errno> {
        let mut inner = self.inner()?;
        let offset = offset as usize;
        inner.now[offset..][..data.len()].copy_from_slice(data);
        inner.durable[offset..][..data.len()].copy_from_slice(data);
        let range = offset..offset + data.len();
        inner.cached.retain(|(cached, _)| !range.contains(cached));
        Ok(())
    }

    fn flush(&self) -> Result<(), Errno> {
        let mut inner = self.inner()?;
        let Inner { now, durable, cached, .. } = &mut *inner;
        durable.copy_from_slice(now);
        cached.clear();
        Ok(())
    }
}

/// What clients were told of each block.
#[derive(Debug, Default)]
struct Told {
    /// The newest generation that was written, or may be,
    written: AtomicU64,
    /// and the newest that is durable.
    durable: AtomicU64,
}

/// Writes blocks and has them made durable, each time in another way, until that fails.
fn write_on(path: &str, told: &[Told], writer: usize) {
    let (plain, durable) = (disk::open(path, 0), disk::open(path, libc::O_DSYNC));
    let own: Vec<usize> = (writer..BLOCKS).step_by(WRITERS).collect();
    let mut next = 0;
    loop {
        let at_once = next % 3 == 0;
        let blocks: Vec<usize> = (0..TOGETHER)
            .map(|_| {
                next += 1;
                own[next % own.len()]
            })
            .collect();
        for &index in &blocks {
            let generation = told[index].written.fetch_add(1, Ordering::Relaxed) + 1;
            let stamp = disk::stamp(index as u64, generation, BLOCK);
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

/// Whether what is left holds what clients were told is durable.
fn verify(left: &[u8], told: &[Told]) -> Result<u64, String> {
    let mut sure = 0;
    for (index, (block, told)) in left.chunks(BLOCK).zip(told).enumerate() {
        let (durable, written) =
            (told.durable.load(Ordering::Relaxed), told.written.load(Ordering::Relaxed));
        let holds = |generation| match generation {
            0 => block.iter().all(|byte| *byte == 0),
            _ => block == disk::stamp(index as u64, generation, BLOCK),
        };
        if !(durable..=written).any(holds) {
            return Err(format!("block {index} lost its write {durable}, which was durable"));
        }
        sure += durable;
    }
    Ok(sure)
}

/// Has clients write to the disk at `path`, and cuts the power of the one below in the middle.
fn cut_under(path: &str, below: &Lossy, dice: &mut Dice) -> Result<u64, String> {
    let told: Arc<Vec<Told>> = Arc::new((0..BLOCKS).map(|_| Told::default()).collect());
    let write = |writer| {
        let (path, told) = (path.to_string(), Arc::clone(&told));
        std::thread::spawn(move || write_on(&path, &told, writer))
    };
    let threads: Vec<_> = (0..WRITERS).map(write).collect();
    let sure = || told.iter().map(|told| told.durable.load(Ordering::Relaxed)).sum::<u64>();
    let least = 100 + dice.below(200) as u64;
    eventually("clients write", SOON, || sure() > least);
    let left = below.cut(dice);
    for thread in threads {
        thread.join().expect("no panic");
    }
    verify(&left, &told)
}

pub(super) fn serve_below(lossy: &Lossy) -> Server {
    Builder::new().serve(Blocking::new(lossy.clone())).expect("a device")
}

/// The file backend on such a disk, buffered and direct, on each path: what it says is durable is
/// so, whatever the power cut takes.
pub fn cut(context: Context) {
    let mut dice = Dice::new("power cuts");
    let offered = context.features;
    for &path in DataPath::ALL.iter().filter(|path| offered.contains(path.features())) {
        for direct in [false, true] {
            for _ in 0..context.pick(1, 10) {
                let lossy = Lossy::new(BLOCKS);
                let below = serve_below(&lossy);
                let mut words = vec!["file".into(), below.block_path(), "--queues".into()];
                words.extend(["2", "--data", path.name()].map(String::from));
                words.extend(direct.then(|| "--direct".into()));
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                let serving = Serving::start(&words);
                let sure = cut_under(&serving.path, &lossy, &mut dice);
                let sure = sure.unwrap_or_else(|lost| panic!("{words:?}: {lost}"));
                println!("  {path}, direct: {direct}: {sure} writes were durable, and are there");
                let id = serving.id().to_string();
                serving.signal(Signal::KILL);
                serving.end(SOON);
                tools::output(UBLKIT, &["delete", &id]); // if it is still there
                below.stop().unwrap();
            }
        }
    }
}

/// Blocks of the disk that is to have a file system.
pub(super) const DISK_BLOCKS: usize = 4096;
/// Of the file in it.
const FILE_BLOCKS: usize = 64;

/// Overwrites a file on a file system of the disk at `path`, each block durably, and cuts the power
/// of the disk below. A file system sends FUA for that and no flush, unlike a disk's own client.
fn cut_under_file(path: &str, below: &Lossy, dice: &mut Dice) -> Result<u64, String> {
    run("mkfs.ext4", &["-q", "-O", "^has_journal", "-b", "4096", path]);
    let point = tools::mount_point("power");
    run("mount", &[path, &point]);
    let name = format!("{point}/file");
    let told: Vec<Told> = (0..FILE_BLOCKS).map(|_| Told::default()).collect();
    let stamp = |index: usize, generation| disk::stamp(index as u64, generation, BLOCK);
    let first: Vec<u8> = (0..FILE_BLOCKS).flat_map(|index| stamp(index, 0)).collect();
    std::fs::write(&name, first).unwrap();
    run("sync", &["-f", &name]);
    let file = disk::open(&name, libc::O_DSYNC);
    for count in 0..FILE_BLOCKS + dice.below(2 * FILE_BLOCKS) {
        let index = count % FILE_BLOCKS;
        let generation = told[index].written.fetch_add(1, Ordering::Relaxed) + 1;
        disk::write(&file, (index * BLOCK) as u64, &stamp(index, generation)).unwrap();
        told[index].durable.store(generation, Ordering::Relaxed);
    }
    let left = below.cut(dice);
    drop(file);
    run("umount", &[&point]);
    let mut sure = 0;
    for (index, told) in told.iter().enumerate() {
        let durable = told.durable.load(Ordering::Relaxed);
        // The file system knows where it is; it is there once.
        let wanted = stamp(index, durable);
        if !left.chunks(BLOCK).any(|block| block == wanted) {
            return Err(format!("block {index} lost its write {durable}, which was durable"));
        }
        sure += durable;
    }
    Ok(sure)
}

/// The file backend below a file system's durable overwrites.
pub fn overwrites(context: Context) {
    let mut dice = Dice::new("power cuts");
    for options in [&[][..], &["--direct"]] {
        for _ in 0..context.pick(1, 10) {
            let lossy = Lossy::new(DISK_BLOCKS);
            let below = serve_below(&lossy);
            let words = ["file", &below.block_path(), "--queues", "2"];
            let serving = Serving::start(&[&words[..], options].concat());
            let sure = cut_under_file(&serving.path, &lossy, &mut dice);
            let sure = sure.unwrap_or_else(|lost| panic!("{options:?}: {lost}"));
            println!("  {options:?}: {sure} overwrites were durable, and are there");
            serving.signal(Signal::INT);
            serving.end(SOON);
            below.stop().unwrap();
        }
    }
}

/// A server that breaks a promise.
#[derive(Debug)]
struct Forgetful {
    file: File,
    /// Of the disk below.
    geometry: Geometry,
    /// Whether it writes FUA as it writes all; otherwise it says that it has flushed, and has not.
    drops_fua: bool,
}

impl Backend for Forgetful {
    fn geometry(&self) -> Geometry {
        let mut geometry = self.geometry;
        let (fua, flush) = (Durability::FlushAndFua, Durability::Flush);
        geometry.durability = if self.drops_fua { fua } else { flush };
        geometry
    }

    fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        self.file.read_exact_at(data, offset).map_err(|_| Errno::EIO)
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Errno> {
        self.file.write_all_at(data, offset).map_err(|_| Errno::EIO)
    }

    fn write_durably(&self, offset: u64, data: &[u8]) -> Result<(), Errno> {
        self.write(offset, data)
    }

    fn flush(&self) -> Result<(), Errno> {
        if self.drops_fua { self.file.sync_data().map_err(|_| Errno::EIO) } else { Ok(()) }
    }
}

/// The controls: a server that skips flushes loses what it promised, and so does one that drops FUA
/// alone; both are noticed.
pub fn forgetful(_: Context) {
    let mut dice = Dice::new("power cuts");
    for drops_fua in [false, true] {
        let lossy = Lossy::new(if drops_fua { DISK_BLOCKS } else { BLOCKS });
        let below = serve_below(&lossy);
        let file = disk::open(&below.block_path(), 0);
        let above = Forgetful { file, geometry: lossy.geometry(), drops_fua };
        let above = Builder::new().serve(Blocking::new(above)).expect("a device");
        let cut = if drops_fua { cut_under_file } else { cut_under };
        let lost = cut(&above.block_path(), &lossy, &mut dice).expect_err("nothing was lost");
        println!("  noticed: {lost}");
        above.stop().unwrap();
        below.stop().unwrap();
    }
}
