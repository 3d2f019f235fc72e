//! What a file's disk is, and what becomes of discards.

use super::*;
use crate::handler::tests::with_io_of;
use crate::slots::Action;
use std::os::fd::AsRawFd;

/// A path of its own for each test, in a folder that is there.
fn path(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("ublkit-{}-{name}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    path
}

fn why(opened: Result<File, Error>) -> String {
    opened.expect_err("it cannot be").to_string()
}

#[test]
fn a_file_is_made_sparse_and_found_again() {
    let path = path("made");
    let options = FileOptions::new(&path);
    assert!(why(options.clone().open()).contains("ENOENT"));
    let made = options.clone().size_bytes(1 << 30).open().unwrap();
    assert_eq!(made.geometry().size_bytes, 1 << 30);
    assert_eq!(made.geometry().durability, Durability::FlushAndFua);
    assert!(rustix::fs::fstat(&made.file).unwrap().st_blocks < 100, "it takes no space");
    drop(made);
    assert_eq!(options.clone().open().unwrap().geometry().size_bytes, 1 << 30);
    let other = why(options.clone().size_bytes(1 << 20).open());
    assert!(other.contains("has 1073741824 bytes, not 1048576"), "{other}");
    std::fs::remove_file(path).unwrap();
}

/// What cannot be a disk is not left in the way of the next attempt; what was there before is.
#[test]
fn a_file_that_is_no_disk_is_not_left_behind() {
    let path = path("unmade");
    let sized = |bytes| FileOptions::new(&path).size_bytes(bytes);
    for options in [sized(u64::MAX), sized(1 << 20).block_bytes(100)] {
        assert!(options.clone().open().is_err() && !path.exists(), "{options:?}");
    }
    drop(sized(4096).open().unwrap());
    assert!(sized(8192).open().is_err() && path.exists());
    std::fs::remove_file(&path).unwrap();
}

/// A file that was made goes where no device comes of it, whatever its path leads to by then.
#[test]
fn a_file_that_was_made_goes_again() {
    let folder = path("folder");
    std::fs::create_dir(&folder).unwrap();
    let options = FileOptions::new(folder.join("disk")).size_bytes(4096);
    let mut file = options.clone().open().unwrap();
    let made = file.take_made().expect("it was made");
    assert!(file.take_made().is_none());
    let moved = path("moved-folder");
    std::fs::rename(&folder, &moved).unwrap();
    drop(file);
    let still = FileOptions::new(moved.join("disk"));
    assert!(why(still.open()).contains("another server has it"), "until it is gone");
    drop(made);
    let names = || std::fs::read_dir(&moved).unwrap().count();
    assert_eq!(names(), 0);
    std::fs::rename(&moved, &folder).unwrap();
    options.clone().open().unwrap().take_made().expect("it was made again").keep();
    let mut file = options.clone().open().unwrap();
    assert!(file.take_made().is_none(), "it was there");
    drop(file);
    assert!(folder.join("disk").exists());
    // Another one by its name stays.
    std::fs::remove_file(folder.join("disk")).unwrap();
    let made = options.open().unwrap().take_made().unwrap();
    std::fs::rename(folder.join("disk"), folder.join("moved")).unwrap();
    std::fs::write(folder.join("disk"), "precious").unwrap();
    drop(made);
    assert!(folder.join("disk").exists());
    let slash = FileOptions::new(folder.join("new/")).size_bytes(4096);
    assert!(slash.open().is_err() && !folder.join("new").exists());
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn two_servers_do_not_write_one_file() {
    let path = path("locked");
    let options = FileOptions::new(&path).size_bytes(1 << 20);
    let first = options.clone().open().unwrap();
    let readers = FileOptions::new(&path).read_only(true);
    assert!(why(options.clone().open()).contains("another server has it"));
    assert!(why(readers.clone().open()).contains("another server has it"));
    drop(first);
    let read = readers.clone().open().unwrap();
    assert!(read.geometry().read_only && read.geometry().discard_bytes == 0);
    let _another = readers.open().unwrap();
    assert!(why(options.open()).contains("another server has it"));
    std::fs::remove_file(path).unwrap();
}

#[test]
fn what_is_no_disk_is_refused() {
    assert!(why(FileOptions::new("/dev/null").open()).contains("neither"));
    let path = path("blocks");
    let options = FileOptions::new(&path).size_bytes(10_000);
    let file = options.clone().open().unwrap();
    assert_eq!(file.geometry().size_bytes, 9728, "whole blocks");
    drop(file);
    let file = FileOptions::new(&path).block_bytes(4096).open().unwrap();
    assert_eq!(file.geometry().size_bytes, 8192);
    drop(file);
    let small = FileOptions::new(&path).block_bytes(256);
    assert!(why(small.open()).contains("cannot be of 256"));
    std::fs::remove_file(path).unwrap();
}

#[test]
fn direct_access_has_the_blocks_that_it_needs() {
    let path = path("direct");
    match FileOptions::new(&path).size_bytes(1 << 20).direct(true).open() {
        Ok(file) => {
            let flags = rustix::fs::fcntl_getfl(&file.file).unwrap();
            assert!(flags.contains(OFlags::DIRECT), "{}", file.file.as_raw_fd());
            let geometry = file.geometry();
            assert!(geometry.data_align_bytes.is_power_of_two());
            assert_eq!(geometry.size_bytes % u64::from(geometry.logical_block_bytes), 0);
        }
        // A file system without it.
        Err(error) => assert!(error.to_string().contains("cannot do '--direct'"), "{error}"),
    }
    let _ = std::fs::remove_file(path);
}

/// A disk below discards itself; where it does not know how, or cannot, a hole does.
#[test]
fn discards_are_the_disks_own_or_holes() {
    let space_of = |io: &mut Io<'_>| match io.at.again(0, 0) {
        Action::Allocate { file: 0, space, offset: 512, len_bytes: 1024 } => {
            io.at.forget_operation(0);
            space
        }
        other => panic!("{other:?}"),
    };
    let begun = |discards| {
        let start = |io: &mut Io<'_>| (FileQueue { discards }.start(io), space_of(io));
        with_io_of(Operation::Discard, start)
    };
    assert_eq!(begun(Space::Discarded), (Step::Pending, Space::Discarded));
    assert_eq!(begun(Space::GivenUp), (Step::Pending, Space::GivenUp));

    let resume = |io: &mut Io<'_>, cookie, result| {
        FileQueue { discards: Space::Discarded }.resume(io, Completion { cookie, result })
    };
    let done = |cookie, result| {
        with_io_of(Operation::Discard, |io| match resume(io, cookie, result) {
            Step::Done(answer) => answer,
            Step::Pending => panic!("{:?} was begun", space_of(io)),
        })
    };
    assert_eq!(done(OWN, Ok(0)), Ok(()));
    assert_eq!(done(OWN, Err(Errno::EIO)), Err(Errno::EIO));
    for errno in [Errno::EOPNOTSUPP, Errno::EINVAL, Errno::EBUSY] {
        with_io_of(Operation::Discard, |io| {
            assert_eq!(resume(io, OWN, Err(errno)), Step::Pending);
            assert_eq!(space_of(io), Space::GivenUp, "{errno}");
        });
    }
    assert_eq!(done(0, Err(Errno::EOPNOTSUPP)), Ok(()), "a favour");
    assert_eq!(done(0, Err(Errno::EINVAL)), Err(Errno::EINVAL));
}

/// What a disk offers is what the one below can, and nothing that would come to nothing.
#[test]
fn a_disk_below_says_what_can_be_discarded() {
    let options = FileOptions::new("/nowhere");
    let discards = |options: &FileOptions, discard_bytes| {
        let found = Found {
            is_regular: false,
            is_block_device: true,
            size_bytes: 1 << 30,
            block_bytes: 512,
            direct_bytes: 4096,
            memory_align_bytes: 4096,
            best_bytes: 4096,
            discard_bytes,
        };
        options.geometry(&found, 1 << 30).unwrap().discard_bytes
    };
    let of = |discard_bytes| discards(&options, discard_bytes);
    assert_eq!([of(None), of(Some(0)), of(Some(1)), of(Some(1 << 20))], [4096, 0, 512, 1 << 20]);
    let read_only = options.clone().read_only(true);
    assert_eq!(discards(&read_only, Some(4096)), 0);
    let direct = options.clone().direct(true);
    assert_eq!(discards(&direct, Some(512)), 4096);
}
