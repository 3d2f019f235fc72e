//! What makes writes durable, and what keeps them away.

use super::{Call, Context, Emptying, PAGE, QUIET, Recorder, range};
use crate::disk;
use crate::tools::{self, Serving};
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use ublkit::{Durability, Geometry};

pub fn flush_and_fua(_: Context) {
    for durability in [Durability::WriteThrough, Durability::Flush, Durability::FlushAndFua] {
        let mut geometry = Geometry::new(64 << 20);
        geometry.durability = durability;
        let recorder = Recorder::new(geometry);
        let server = recorder.serve();
        recorder.taken();
        fsync_flushes(&recorder, &server.block_path(), durability);
        dsync_is_durable(&recorder, &server.block_path(), durability);
        server.stop().unwrap();
        let calls = recorder.taken();
        assert_eq!(calls, [], "{durability:?}: what comes after the last client");
    }
}

/// fsync of a block device: what was written comes first, then a flush if that is of use.
fn fsync_flushes(recorder: &Recorder, path: &str, durability: Durability) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&disk::stamp(1, 1, PAGE), QUIET).unwrap();
    file.sync_all().unwrap();
    let write = Call::Write(range(QUIET, PAGE as u64));
    let flushes = if durability == Durability::WriteThrough { vec![] } else { vec![Call::Flush] };
    let wanted = [&[write][..], &flushes].concat();
    assert_eq!(recorder.taken(), wanted, "{durability:?}: a write and fsync");
    file.sync_all().unwrap();
    assert_eq!(recorder.taken(), flushes, "{durability:?}: an fsync alone");
}

/// An O_DSYNC write has reached the disk's lasting store when it returns, by one way or another.
fn dsync_is_durable(recorder: &Recorder, path: &str, durability: Durability) {
    let file = disk::open(path, libc::O_DSYNC);
    disk::write(&file, QUIET, &disk::stamp(1, 2, PAGE)).unwrap();
    let calls = recorder.taken();
    let place = range(QUIET, PAGE as u64);
    let first = match durability {
        Durability::FlushAndFua => Call::WriteDurably(place),
        _ => Call::Write(place),
    };
    assert_eq!(calls.first(), Some(&first), "{durability:?}: {calls:?}");
    let flushes = calls[1..].iter().filter(|call| **call == Call::Flush).count();
    assert_eq!(flushes, calls.len() - 1, "{durability:?}: {calls:?}");
    match durability {
        Durability::WriteThrough => assert_eq!(flushes, 0, "{calls:?}"),
        Durability::Flush => assert_ne!(flushes, 0, "{calls:?}"),
        Durability::FlushAndFua => {}
    }
}

pub fn read_only(_: Context) {
    let recorder = Recorder::new(Geometry::new(64 << 20));
    let server = recorder.serve();
    tools::run("mkfs.ext4", &["-q", &server.block_path()]);
    server.stop().unwrap();
    recorder.geometry.lock().unwrap().read_only = true;
    recorder.taken();
    let server = recorder.serve();
    changes_are_refused(&server.block_path());
    let stats = server.stop().unwrap();
    assert_eq!(recorder.taken(), [], "the backend saw a change");
    assert_eq!(stats[0].errors, 0, "the kernel sent on what it has to refuse");

    let serving = Serving::start(&["memory", "--size", "64M", "--read-only"]);
    assert_eq!(tools::run("blockdev", &["--getro", &serving.path]), "1\n");
    serving.stop();
}

fn changes_are_refused(path: &str) {
    assert_eq!(tools::run("blockdev", &["--getro", path]), "1\n");
    let file = disk::open(path, 0); // for writing: that works, on Linux
    disk::read(&file, QUIET, PAGE).unwrap();
    let written = disk::write(&file, QUIET, &disk::stamp(1, 1, PAGE)).unwrap_err();
    assert_eq!(written.raw_os_error(), Some(libc::EPERM));
    drop(file);
    for how in Emptying::ALL {
        let said = how.try_on(path, &range(QUIET, PAGE as u64)).unwrap_err();
        assert!(said.contains("Operation not permitted"), "{how:?}: {said}");
    }
    let point = tools::mount_point("read-only");
    let mounted = tools::output("mount", &["-t", "ext4", "--read-write", path, &point]);
    assert!(!mounted.status.success(), "mounted for writing");
    tools::run("mount", &["-t", "ext4", "-o", "ro", path, &point]);
    assert_eq!(tools::names(&point), ["lost+found"]);
    tools::run("umount", &[&point]);
}
