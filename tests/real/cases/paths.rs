//! Every way for data to move, with every backend that can take it.

use super::Context;
use super::data::{memory, stamp_all, verify};
use crate::load;
use crate::tools::{self, Serving};
use rustix::process::Signal;
use std::time::Duration;
use ublkit::{Blocking, Builder, DataPath, Features, File, FileOptions, Geometry, Linux, Null};

const SOON: Duration = Duration::from_secs(30);

/// What all disks here hold.
const SIZE_BYTES: u64 = 64 << 20;

/// A file in memory, made anew.
fn file() -> File {
    let path = "/dev/shm/ublkit-disk";
    let _ = std::fs::remove_file(path);
    FileOptions::new(path).size_bytes(SIZE_BYTES).open().expect("a file")
}

/// A disk of the kernel's own, without the page cache.
fn direct() -> File {
    FileOptions::new("/dev/ram0").direct(true).open().expect("a disk")
}

/// Stamps and fio on one path, with all that it can serve, in batches or not.
fn all_on(path: DataPath, batches: bool, context: Context) {
    let builder = Builder::new().data_path(path).batches(batches).depth(16);
    let stamps = context.pick(32, 2000);
    let blocks: &[u64] =
        context.pick(&[4 << 10, 128 << 10], &[512, 1 << 10, 4 << 10, 32 << 10, 128 << 10, 1 << 20]);
    let count = context.pick(8, 64);
    tools::run("modprobe", &["brd", "rd_nr=1", "rd_size=65536"]);
    if !path.is_zero_copy() {
        stamp_all(Linux, &builder, memory(SIZE_BYTES), stamps).unwrap();
        verify(&builder, memory(4 << 30), 4, blocks, count);
        stamp_all(Linux, &builder, Blocking::new(memory(SIZE_BYTES)), stamps).unwrap();
    }
    stamp_all(Linux, &builder, file(), stamps).unwrap();
    verify(&builder, file(), 4, blocks, count);
    stamp_all(Linux, &builder, direct(), stamps).unwrap();
    verify(&builder, direct(), 4, blocks, count);
    tools::run("rmmod", &["brd"]);
    let _ = std::fs::remove_file("/dev/shm/ublkit-disk");
}

pub fn copy(context: Context) {
    all_on(DataPath::Copy, false, context);
}

pub fn get_data(context: Context) {
    all_on(DataPath::GetData, false, context);
}

pub fn user_copy(context: Context) {
    all_on(DataPath::UserCopy, false, context);
}

pub fn zero_copy(context: Context) {
    all_on(DataPath::ZeroCopy, false, context);
}

pub fn zero_copy_by_hand(context: Context) {
    all_on(DataPath::ZeroCopyByHand, false, context);
}

pub fn batches_of_copy(context: Context) {
    all_on(DataPath::Copy, true, context);
}

pub fn batches_of_user_copy(context: Context) {
    all_on(DataPath::UserCopy, true, context);
}

pub fn batches_of_zero_copy(context: Context) {
    all_on(DataPath::ZeroCopy, true, context);
}

pub fn batches_of_zero_copy_by_hand(context: Context) {
    all_on(DataPath::ZeroCopyByHand, true, context);
}

/// Queues that are served in batches come to their end as others do: stopped under load, killed
/// under load, and with a backend that panics.
pub fn batches_end(_: Context) {
    let words = ["memory", "--size", "64M", "--queues", "2", "--batches", "yes"];
    for path in ["copy", "user-copy"] {
        let serving = Serving::start(&[&words[..], &["--data", path]].concat());
        let shown = tools::run(tools::UBLKIT, &["show", &serving.path]);
        assert!(shown.contains("BATCH_IO"), "{shown}");
        let mut fio = load::mixed(&serving.path);
        load::busy(&serving.path);
        tools::run(tools::UBLKIT, &["stop", &serving.id().to_string()]);
        assert!(!tools::wait(&mut fio, SOON).success(), "requests were answered with errors");
        assert_eq!(serving.end(SOON).0, 0);

        let serving = Serving::start(&[&words[..], &["--data", path]].concat());
        let mut fio = load::mixed(&serving.path);
        load::busy(&serving.path);
        serving.signal(Signal::KILL);
        let id = serving.id().to_string();
        assert_eq!(serving.end(SOON).0, -9);
        assert!(!tools::wait(&mut fio, SOON).success(), "requests were answered with errors");
        tools::run(tools::UBLKIT, &["delete", &id]);
    }
}

/// One slot, so that reads and writes alternate on it: what a commit names for a read must not
/// receive the write that follows.
pub fn one_tag(context: Context) {
    for path in DataPath::ALL.iter().filter(|path| context.features.contains(path.features())) {
        let builder = Builder::new().data_path(*path).depth(1);
        let times = context.pick(50, 2000);
        let stats = match path {
            path if path.is_zero_copy() => alternate(&builder, file(), times),
            _ => alternate(&builder, memory(SIZE_BYTES), times),
        };
        assert_eq!(stats, times * 2, "{path}");
    }
}

/// Writes a block, reads another, and so on; then looks at all. Answers how many reads there were.
fn alternate(builder: &Builder, target: impl ublkit::Target, times: u64) -> u64 {
    const BLOCK: usize = 8192;
    let server = builder.serve(target).unwrap();
    let disk = crate::disk::open(&server.block_path(), 0);
    let stamp = |index| crate::disk::stamp(index, 1, BLOCK);
    let read = |index: u64| crate::disk::read(&disk, index * BLOCK as u64, BLOCK).unwrap();
    for index in 0..times {
        crate::disk::write(&disk, index * BLOCK as u64, &stamp(index)).unwrap();
        assert_eq!(read(index / 2), stamp(index / 2), "after the write of {index}");
    }
    for index in 0..times {
        assert_eq!(read(index), stamp(index), "in the end");
    }
    drop(disk);
    server.stop().unwrap();
    times * 2
}

/// What `show` says of how a device moves its data, and why.
fn shown_path(serving: &Serving) -> String {
    let shown = tools::run(tools::UBLKIT, &["show", &serving.path]);
    let line = shown.lines().find_map(|line| line.strip_prefix("data path:"));
    line.unwrap_or_else(|| panic!("{shown}")).trim().to_owned()
}

/// Of a file it is the best that the kernel has, and said what was better; also by the next server,
/// which knows it from the record.
fn of_a_file(context: Context) {
    let image = "/tmp/ublkit-reasons.img";
    let serving = Serving::start(&["file", image, "--size", "16M", "--recover", "wait"]);
    let said = shown_path(&serving);
    let lacking = DataPath::ZeroCopy.features() - context.features;
    if lacking.is_empty() {
        assert_eq!(said, "zero-copy (the best for what a file holds)");
    } else {
        let why = format!("zero-copy would be better, and this kernel's driver lacks {lacking}");
        assert!(said.ends_with(&format!(" ({why})")), "{said}");
    }
    serving.signal(Signal::KILL);
    let id = serving.id().to_string();
    serving.end(SOON);
    let mut command = std::process::Command::new(tools::UBLKIT);
    let next = Serving::started(command.args(["recover", &id]));
    assert_eq!(shown_path(&next), said);
    next.stop();
    std::fs::remove_file(image).unwrap();
}

/// What is taken when nobody asks, and what is said when it cannot be.
pub fn chosen(context: Context) {
    let chosen = |path: &str| {
        let parsed: DataPath = path.parse().unwrap();
        if context.features.contains(parsed.features()) { parsed } else { DataPath::Copy }
    };
    let null = Blocking::new(Null::new(Geometry::new(SIZE_BYTES)));
    let server = Builder::new().serve(null).unwrap();
    assert_eq!(server.data_path(), DataPath::Copy);
    drop(server);
    let server = Builder::new().serve(memory(SIZE_BYTES)).unwrap();
    assert_eq!(server.data_path(), chosen("get-data"));
    drop(server);
    let server = Builder::new().serve(file()).unwrap();
    assert_eq!(server.data_path(), chosen("zero-copy"));
    drop(server);
    let serving = Serving::start(&["memory", "--size", "64M", "--data", "user-copy"]);
    assert_eq!(shown_path(&serving), "user-copy (as was asked for)");
    serving.stop();
    let serving = Serving::start(&["null", "--size", "64M"]);
    assert_eq!(shown_path(&serving), "copy (the best for a backend that takes bytes)");
    serving.stop();
    let serving = Serving::start(&["memory", "--size", "64M"]);
    assert_eq!(shown_path(&serving), "get-data (the best for what memory holds)");
    serving.stop();
    of_a_file(context);
    if !context.features.contains(Features::AUTO_BUF_REG) {
        let refused = Builder::new().data_path(DataPath::ZeroCopy).serve(file());
        let said = refused.expect_err("this kernel cannot").to_string();
        assert!(said.contains("lacks SUPPORT_ZERO_COPY | AUTO_BUF_REG"), "{said}");
    }
    let refused = Builder::new().data_path(DataPath::ZeroCopy).serve(memory(SIZE_BYTES));
    let said = refused.expect_err("memory is no file").to_string();
    assert!(said.contains("in its own memory"), "{said}");
    let _ = std::fs::remove_file("/dev/shm/ublkit-disk");
}
