//! File systems on the real program's memory disk.

use super::Context;
use crate::tools::{self, Serving};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

/// The smallest disk that mkfs.xfs takes is one of 300 MiB.
const SIZE: &str = "320M";

/// The file whose space is given back, in bytes.
const LARGE_BYTES: usize = 32 << 20;

/// A kind of file system: its programs.
struct Kind {
    name: &'static str,
    make: &'static [&'static str],
    check: &'static [&'static str],
}

const EXT4: Kind = Kind { name: "ext4", make: &["mkfs.ext4", "-q"], check: &["fsck.ext4", "-fn"] };
const XFS: Kind = Kind { name: "xfs", make: &["mkfs.xfs", "-q"], check: &["xfs_repair", "-n"] };

pub fn ext4(context: Context) {
    whole_life(context, &EXT4, "512");
}

pub fn ext4_of_4096(context: Context) {
    whole_life(context, &EXT4, "4096");
}

pub fn xfs(context: Context) {
    whole_life(context, &XFS, "512");
}

pub fn xfs_of_4096(context: Context) {
    whole_life(context, &XFS, "4096");
}

/// Makes, loads, trims, checks and remounts one file system.
fn whole_life(context: Context, kind: &Kind, block_size: &str) {
    let serving = Serving::start(&["memory", "--size", SIZE, "--block-size", block_size]);
    with(kind.make, &serving.path);
    let point = tools::mount_point(kind.name);
    tools::run("mount", &["-t", kind.name, &serving.path, &point]);
    let mut tree = Tree::new(&point);
    tree.fill(context.pick(4, 16), context.pick(12, 64));
    drop_caches();
    tree.check();
    tree.age();
    drop_caches();
    tree.check();
    deleted_space_is_given_back(&serving, &mut tree);
    tools::run("umount", &[&point]);
    with(kind.check, &serving.path);
    tools::run("mount", &["-t", kind.name, "-o", "ro", &serving.path, &point]);
    tree.check();
    tools::run("umount", &[&point]);
    serving.stop();
}

/// Runs a program with its words and a device.
fn with(command: &[&str], device: &str) {
    tools::run(command[0], &[&command[1..], &[device]].concat());
}

/// Writes everything out and forgets it, so that reads ask the disk.
fn drop_caches() {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3").expect("root may drop caches");
}

/// A deleted file's memory is the server's until the file system is trimmed, and not after.
fn deleted_space_is_given_back(serving: &Serving, tree: &mut Tree) {
    let pid = serving.child.id().to_string();
    let tenth = LARGE_BYTES as u64 / 10;
    let before = tools::rss_bytes(&pid);
    tree.write("large", &noise(0, LARGE_BYTES));
    rustix::fs::sync();
    let full = tools::rss_bytes(&pid);
    assert!(full > before + 9 * tenth, "{before} bytes before, {full} with the file");
    tree.delete("large");
    rustix::fs::sync();
    let deleted = tools::rss_bytes(&pid);
    assert!(deleted + tenth > full, "{full} bytes with the file, {deleted} before any trim");
    // Again and again: XFS frees a deleted file's blocks when it has time.
    tools::eventually(
        &format!("a trim leaves less of {full} bytes"),
        Duration::from_secs(10),
        || {
            tools::run("fstrim", &[&tree.point]);
            tools::rss_bytes(&pid) + 9 * tenth < full
        },
    );
}

/// Bytes that no two seeds share.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| next()).collect();
    bytes.truncate(len);
    bytes
}

/// Files in a mounted file system, and what they must hold.
struct Tree {
    point: String,
    files: BTreeMap<String, Vec<u8>>,
}

impl Tree {
    fn new(point: &str) -> Self {
        Self { point: point.to_string(), files: BTreeMap::new() }
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.point)
    }

    /// Files of many lengths, from empty to some hundred blocks.
    fn fill(&mut self, folders: u64, files_each: u64) {
        for folder in 0..folders {
            fs::create_dir(self.path(&format!("d{folder}"))).expect("a new folder");
            for file in 0..files_each {
                let seed = folder * files_each + file + 1;
                let bytes = noise(seed, usize::try_from(seed * seed * 61 % 200_000).unwrap());
                self.write(&format!("d{folder}/f{file}"), &bytes);
            }
        }
    }

    /// Deletes a third of the files, and overwrites parts of another third.
    fn age(&mut self) {
        let names: Vec<String> = self.files.keys().cloned().collect();
        for (number, name) in names.iter().enumerate() {
            match number % 3 {
                0 => self.delete(name),
                1 => self.overwrite(name, &noise(number as u64 + 1000, 7000)),
                _ => {}
            }
        }
    }

    fn write(&mut self, name: &str, bytes: &[u8]) {
        File::create(self.path(name)).and_then(|mut file| file.write_all(bytes)).expect(name);
        self.files.insert(name.to_string(), bytes.to_vec());
    }

    /// Puts `bytes` into the middle of a file, and past its end if it is short.
    fn overwrite(&mut self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        let known = self.files.get_mut(name).expect(name);
        let at = known.len() / 2;
        known.resize(known.len().max(at + bytes.len()), 0);
        known[at..at + bytes.len()].copy_from_slice(bytes);
        let file = File::options().write(true).open(path).expect(name);
        file.write_all_at(bytes, at as u64).expect(name);
    }

    fn delete(&mut self, name: &str) {
        fs::remove_file(self.path(name)).expect(name);
        self.files.remove(name);
    }

    /// Compares all names and contents.
    fn check(&self) {
        let found = files_below(Path::new(&self.point), "");
        let known: Vec<&String> = self.files.keys().collect();
        assert_eq!(found.iter().collect::<Vec<_>>(), known, "the names in {}", self.point);
        for (name, bytes) in &self.files {
            let found = fs::read(self.path(name)).expect(name);
            assert!(found == *bytes, "{name} of {} bytes was changed", bytes.len());
        }
    }
}

/// The files in a folder and below, sorted.
fn files_below(folder: &Path, prefix: &str) -> Vec<String> {
    let mut files = Vec::new();
    for name in tools::names(&folder.display().to_string()) {
        let path = folder.join(&name);
        if !path.is_dir() {
            files.push(format!("{prefix}{name}"));
        } else if name != "lost+found" {
            files.extend(files_below(&path, &format!("{prefix}{name}/")));
        }
    }
    files.sort();
    files
}
