//! A disk in a file, and what is below it refuses: what clients are told, and what still works.

use super::Context;
use super::errors::Restore;
use super::power::{DISK_BLOCKS, Lossy, serve_below};
use crate::dice::Dice;
use crate::disk;
use crate::tools::{self, Serving, devices, mount_point, run};
use rustix::fs::fdatasync;
use rustix::process::Signal;
use std::fs::File;
use std::io;
use std::time::Duration;
use ublkit::{DataPath, Errno};

const SOON: Duration = Duration::from_secs(60);

/// What is written at one time: many pages, so that some of them may find room.
const BLOCK: usize = 256 << 10;
/// Blocks of the disk,
const BLOCKS: u64 = 64;
/// those that the file system has room for, and the pages that are left then.
const ROOM: u64 = 32;
const REST_BYTES: u64 = 5 * 4096;

fn errno(error: &io::Error) -> Option<i32> {
    error.raw_os_error()
}

/// A sparse file on a file system that is smaller than the disk: on each path clients are told, and
/// go on with what there is.
pub fn no_space(context: Context) {
    let point = mount_point("small");
    let size = format!("size={}", ROOM * BLOCK as u64 + REST_BYTES);
    run("mount", &["-t", "tmpfs", "-o", &size, "small", &point]);
    let _mounted = Restore(|| drop(tools::output("umount", &[&point])));
    let offered = context.features;
    for &path in DataPath::ALL.iter().filter(|path| offered.contains(path.features())) {
        let image = format!("{point}/image");
        full(&image, path);
        std::fs::remove_file(&image).unwrap();
    }
}

fn full(image: &str, data: DataPath) {
    let size = (BLOCKS * BLOCK as u64).to_string();
    let words = ["file", image, "--size", &size, "--queues", "2", "--data", data.name()];
    let serving = Serving::start(&words);
    let client = disk::open(&serving.path, 0);
    let write = |index: u64, generation| {
        let stamp = disk::stamp(index, generation, BLOCK);
        disk::write_large(&client, index * BLOCK as u64, &stamp)
    };
    let holds = |index: u64, bytes: Vec<u8>| {
        let found = disk::read_large(&client, index * BLOCK as u64, BLOCK);
        assert!(found.expect("reads go on") == bytes, "{data}: block {index} is another");
    };
    let answers: Vec<_> = (0..BLOCKS).map(|index| write(index, 1)).collect();
    let written = answers.iter().take_while(|answer| answer.is_ok()).count();
    println!("  measured: {data}: {written} blocks of {BLOCKS} found room");
    assert!((ROOM / 2..=ROOM).contains(&(written as u64)), "{data}: {written} blocks");
    for answer in &answers[written..] {
        let refused = answer.as_ref().map_err(errno);
        assert_eq!(refused, Err(Some(Errno::ENOSPC.number())), "{data}");
    }
    let written = written as u64;
    fdatasync(&client).expect("flushes go on");
    (0..written).for_each(|index| holds(index, disk::stamp(index, 1, BLOCK)));
    holds(BLOCKS - 1, vec![0; BLOCK]);
    write(written - 1, 2).expect("what has room is written anew");
    // What is discarded makes room for others.
    let length = BLOCK.to_string();
    run("blkdiscard", &["--force", "--offset", "0", "--length", &length, &serving.path]);
    write(BLOCKS - 1, 2).expect("there is room again");
    holds(0, vec![0; BLOCK]);
    (1..written - 1).for_each(|index| holds(index, disk::stamp(index, 1, BLOCK)));
    for index in [written - 1, BLOCKS - 1] {
        holds(index, disk::stamp(index, 2, BLOCK));
    }
    drop(client);
    serving.stop();
}

/// A disk below that does nothing any more: reads, writes and flushes fail with EIO. A stop that
/// would lose dirty pages cannot write them; it fails what is left, and says so.
pub fn broken(_: Context) {
    let mut dice = Dice::new("power cuts");
    for options in [&[][..], &["--direct"]] {
        let lossy = Lossy::new(DISK_BLOCKS);
        let below = serve_below(&lossy);
        let words = ["file", &below.block_path(), "--queues", "2", "--recover", "reissue"];
        let serving = Serving::start(&[&words[..], options].concat());
        let path = serving.path.clone();
        let client = disk::open(&path, 0);
        disk::write(&client, 0, &disk::stamp(0, 1, 4096)).unwrap();
        fdatasync(&client).unwrap();
        lossy.cut(&mut dice);
        refused(&client, options.contains(&"--direct"));
        drop(client);
        serving.signal(Signal::INT);
        let (code, said) = serving.end(SOON);
        let sync = format!("ublkit: cannot sync {path} before the stop, which would lose");
        let stop = format!(
            "{path} could not be stopped, so its clients' requests were failed: what was said \
             before tells why\n"
        );
        assert!(said.starts_with(&sync) && said.ends_with(&stop), "{options:?}: {said}");
        assert_eq!(code, 1, "{options:?}: {said}");
        assert_eq!(devices(), [format!("ublkc{}", below.id())]);
        below.stop().unwrap();
    }
}

/// What a client is told of a disk whose disk below has no power.
fn refused(client: &File, is_direct: bool) {
    let eio = Some(Errno::EIO.number());
    let middle = (DISK_BLOCKS / 2 * 4096) as u64; // nobody has read there
    let read = disk::read(client, middle, 4096);
    assert_eq!(read.as_ref().map_err(errno), Err(eio), "a read");
    // The page cache of the disk below takes writes; then the flush tells.
    let write = disk::write(client, middle, &[1; 4096]);
    assert_eq!(write.as_ref().map_err(errno).err(), is_direct.then_some(eio), "a write");
    assert_eq!(fdatasync(client), Err(rustix::io::Errno::IO), "a flush");
}
