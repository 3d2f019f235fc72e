//! That every block has its own place: of all sizes, and on a disk larger than the machine.

use super::{Context, PAGE};
use crate::disk;
use crate::tools::{self, Serving};
use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};
use ublkit::{Backend, Blocking, Builder, Geometry, Memory};

pub fn blocks(context: Context) {
    for bytes in context.pick(&[512, 4096][..], &[512, 1024, 2048, 4096]) {
        every_block_has_its_place(*bytes);
    }
    let serving = Serving::start(&["memory", "--size", "64M", "--block-size", "4096"]);
    assert_eq!(tools::run("blockdev", &["--getss", &serving.path]), "4096\n");
    serving.stop();
}

/// Stamps all of a small disk, block by block, and looks at the backend's own bytes too.
fn every_block_has_its_place(block_bytes: u32) {
    const BLOCKS: u64 = 257;
    let block = u64::from(block_bytes);
    let mut geometry = Geometry::new(BLOCKS * block);
    geometry.logical_block_bytes = block_bytes;
    geometry.physical_block_bytes = 4096;
    let memory = Arc::new(Memory::new(geometry).unwrap());
    let server = Builder::new().serve(Blocking::<Memory>::new(Arc::clone(&memory))).unwrap();
    let path = server.block_path();
    assert_eq!(tools::run("blockdev", &["--getss", &path]), format!("{block_bytes}\n"));
    assert_eq!(tools::run("blockdev", &["--getsize64", &path]), format!("{}\n", BLOCKS * block));
    let file = disk::open(&path, 0);
    let stamp = |index| disk::stamp(index, block, block_bytes as usize);
    for index in 0..BLOCKS {
        disk::write(&file, index * block, &stamp(index)).unwrap();
    }
    let mut stored = vec![0; block_bytes as usize];
    for index in 0..BLOCKS {
        let found = disk::read(&file, index * block, block_bytes as usize).unwrap();
        assert!(found == stamp(index), "block {index} of {block_bytes} reads wrong");
        memory.read(index * block, &mut stored).unwrap();
        assert!(stored == stamp(index), "block {index} of {block_bytes} is stored elsewhere");
    }
    parts_of_blocks_are_refused(&file, block_bytes);
    drop(file);
    server.stop().unwrap();
}

fn parts_of_blocks_are_refused(file: &File, block_bytes: u32) {
    let half = block_bytes as usize / 2;
    for (offset, len) in [(0, half), (half as u64, block_bytes as usize)] {
        let error = disk::read(file, offset, len).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{len} bytes at {offset}");
    }
}

/// What is measured here stays small, or the disk is not sparse.
pub fn larger_than_memory(_: Context) {
    const TIB: u64 = 1 << 40;
    let rss_before = tools::rss_bytes("self");
    let begun = Instant::now();
    let memory = Memory::new(Geometry::new(TIB)).unwrap();
    let server = Builder::new().serve(Blocking::new(memory)).unwrap();
    let live = begun.elapsed();
    println!("  measured: {} ms to a live disk of 1 TiB", live.as_millis());
    assert!(live < Duration::from_secs(10));
    let file = disk::open(&server.block_path(), 0);
    let places = (0..16).map(|i| i * (TIB / 16)).chain([TIB / 2 + 4096, TIB - 4096]);
    let places: Vec<u64> = places.collect();
    for place in &places {
        disk::write(&file, *place, &disk::stamp(*place, 1, PAGE)).unwrap();
    }
    for place in &places {
        let found = disk::read(&file, *place, PAGE).unwrap();
        assert!(found == disk::stamp(*place, 1, PAGE), "wrong bytes at {place}");
        let beside = (place + (1 << 30)) % TIB;
        assert_eq!(disk::read(&file, beside, 512).unwrap(), [0; 512], "not zeros at {beside}");
    }
    drop(file);
    let grown = tools::rss_bytes("self").saturating_sub(rss_before);
    assert!(grown < 8 << 20, "{grown} bytes for {} pages", places.len());
    server.stop().unwrap();
}
