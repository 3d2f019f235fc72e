//! A server that can have no more memory, and that nobody may kill for it: the kernel then puts no
//! data, or less than a client wrote, where the server has it put. What is acknowledged is whole.

use super::Context;
use crate::disk;
use crate::kernels::Quirk;
use crate::tools::{Serving, UBLKIT};
use std::fs::{self, File};
use std::process::Command;

const GROUP: &str = "/sys/fs/cgroup/ublkit-tight";
/// Where the program's own pages are not the first to go, and then cannot be read again: without
/// `--lock-memory` that is how such a server ends (SIGBUS).
const PROGRAM: &str = "/dev/shm/ublkit-tight";
const DISK_BYTES: usize = 32 << 20;
/// What is written at one time: many pages, so that some may be missing.
const BLOCK: usize = 256 << 10;
const BLOCKS: u64 = (DISK_BYTES / BLOCK) as u64;

/// A server of a memory disk in a cgroup of its own.
struct Tight {
    serving: Serving,
    disk: File,
}

impl Tight {
    fn serve(words: &[&str]) -> Self {
        fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+memory").unwrap();
        fs::create_dir(GROUP).unwrap();
        let _ = fs::write(format!("{GROUP}/memory.swap.max"), "0"); // without swap there is none
        fs::copy(UBLKIT, PROGRAM).unwrap();
        let script = format!("echo $$ >{GROUP}/cgroup.procs; exec \"$@\"");
        let mut command = Command::new("sh");
        command.args(["-ec", &script, "sh", PROGRAM, "serve", "memory", "--size", "32M"]);
        command.args(["--queues", "1", "--depth", "32", "--oom-score", "-1000"]).args(words);
        let serving = Serving::started(&mut command);
        let disk = disk::open(&serving.path, 0);
        Self { serving, disk }
    }

    /// Lets the server have so much more memory than it has.
    fn allow(&self, more_bytes: u64) {
        let has = fs::read_to_string(format!("{GROUP}/memory.current")).unwrap();
        let most = has.trim().parse::<u64>().unwrap() + more_bytes;
        fs::write(format!("{GROUP}/memory.max"), most.to_string()).unwrap();
    }

    /// Writes all blocks; which were acknowledged. A few errors are enough.
    fn write(&self, generation: u64) -> Vec<u64> {
        let (mut written, mut errors) = (Vec::new(), 0);
        for index in 0..BLOCKS {
            let stamp = disk::stamp(index, generation, BLOCK);
            match disk::write_large(&self.disk, index * BLOCK as u64, &stamp) {
                Ok(()) => written.push(index),
                Err(error) => {
                    assert_eq!(error.raw_os_error(), Some(libc::EIO), "block {index}");
                    errors += 1;
                }
            }
            if errors == 3 {
                break;
            }
        }
        written
    }

    /// Lets the server have what it likes, and looks which of the blocks are not there.
    fn lost(self, written: &[u64], generation: u64) -> usize {
        fs::write(format!("{GROUP}/memory.max"), "max").unwrap();
        let is_there = |&&index: &&u64| {
            let found = disk::read_large(&self.disk, index * BLOCK as u64, BLOCK).unwrap();
            found == disk::stamp(index, generation, BLOCK)
        };
        let there = written.iter().filter(is_there).count();
        drop(self.disk);
        self.serving.stop();
        fs::remove_dir(GROUP).unwrap();
        fs::remove_file(PROGRAM).unwrap();
        written.len() - there
    }
}

/// Where the server says where data goes, it sees what is missing: the client gets an error.
pub fn told(_: Context) {
    for path in ["get-data", "user-copy"] {
        let tight = Tight::serve(&["--data", path]);
        tight.allow(8 << 20);
        let written = tight.write(1);
        println!("  measured: {path}: {} of {BLOCKS} blocks found room", written.len());
        assert!((4..BLOCKS - 3).contains(&(written.len() as u64)), "{path}: it was not tight");
        assert_eq!(tight.lost(&written, 1), 0, "{path}: acknowledged, and not there");
    }
}

/// Where the driver copies before the server is told, it is told of less: with memory that is
/// locked nothing is missing. The control: without, 7.3 takes a part for the whole, and earlier
/// kernels send the rest again.
pub fn locked(context: Context) {
    for lock in [true, false] {
        let words = ["--data", "copy", "--lock-memory"];
        let tight = Tight::serve(if lock { &words } else { &words[..2] });
        // The disk's own memory is all there, and a page of each buffer.
        for index in 0..(DISK_BYTES / 4096) as u64 {
            disk::write(&tight.disk, index * 4096, &disk::stamp(index, 1, 4096)).unwrap();
        }
        tight.allow(64 << 10);
        let written = tight.write(2);
        assert_eq!(written.len() as u64, BLOCKS, "locked: {lock}");
        let lost = tight.lost(&written, 2);
        println!(
            "  measured: locked: {lock}: {lost} of {BLOCKS} blocks are not as they were written"
        );
        let may_lose = !lock && context.has(Quirk::PartsAreWhole);
        assert_eq!(lost > 0, may_lose, "locked: {lock}");
    }
}
