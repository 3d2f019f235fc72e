//! What a backend's panics and errors cost.

use super::{Context, Emptying, PAGE, QUIET, counting_panics, errno, punch, range};
use crate::disk;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use ublkit::{Backend, Blocking, Builder, Durability, Errno, Geometry, Memory, QueueStats};

/// A memory disk with one block that is a defect.
struct Panicking(Memory);

impl Backend for Panicking {
    fn geometry(&self) -> Geometry {
        self.0.geometry()
    }

    fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        assert!(offset != QUIET, "on purpose");
        self.0.read(offset, data)
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Errno> {
        self.0.write(offset, data)
    }
}

pub fn panicking(_: Context) {
    const TIMES: u32 = 3;
    let memory = Memory::new(Geometry::new(64 << 20)).unwrap();
    // One slot: each request comes where the one before it panicked.
    let server = Builder::new().depth(1).serve(Blocking::new(Panicking(memory))).unwrap();
    let file = disk::open(&server.block_path(), 0);
    let seen = counting_panics(|| {
        for round in 0..TIMES.into() {
            assert_eq!(errno(disk::read(&file, QUIET, PAGE)), libc::EIO);
            let stamp = disk::stamp(round, 1, PAGE);
            disk::write(&file, QUIET + 4096, &stamp).unwrap();
            assert!(disk::read(&file, QUIET + 4096, PAGE).unwrap() == stamp);
        }
    });
    drop(file);
    let QueueStats { panics, errors, .. } = server.stop().unwrap()[0];
    assert_eq!((seen, panics, errors), (TIMES, TIMES.into(), TIMES.into()));
}

/// Where writes succeed all the same.
const SPARED: u64 = QUIET + (1 << 20);

/// A disk that answers what it is told to.
#[derive(Default)]
struct Failing {
    errno: AtomicI32,
    written_bytes: AtomicU64,
}

impl Failing {
    fn answer(&self) -> Result<(), Errno> {
        Errno::new(self.errno.load(Ordering::Relaxed)).map_or(Ok(()), Err)
    }

    fn with<T>(&self, errno: i32, body: impl FnOnce() -> T) -> T {
        self.errno.store(errno, Ordering::Relaxed);
        let result = body();
        self.errno.store(0, Ordering::Relaxed);
        result
    }
}

impl Backend for Failing {
    fn geometry(&self) -> Geometry {
        let mut geometry = Geometry::new(64 << 20);
        geometry.durability = Durability::Flush;
        geometry.discard_bytes = 4096;
        geometry.write_zeroes = true;
        geometry
    }

    fn read(&self, _: u64, data: &mut [u8]) -> Result<(), Errno> {
        data.fill(0);
        self.answer()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Errno> {
        if offset != SPARED {
            return self.answer();
        }
        self.written_bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn flush(&self) -> Result<(), Errno> {
        self.answer()
    }

    fn discard(&self, _: u64, _: u64) -> Result<(), Errno> {
        self.answer()
    }

    fn write_zeroes(&self, _: u64, _: u64, _: bool) -> Result<(), Errno> {
        self.answer()
    }
}

/// Errors that the block layer has a word for, and hands on.
const HANDED_ON: [i32; 13] = [
    libc::EOPNOTSUPP,
    libc::ETIMEDOUT,
    libc::ENOSPC,
    libc::ENOLINK,
    libc::EREMOTEIO,
    libc::EBADE,
    libc::ENODATA,
    libc::EILSEQ,
    libc::ENODEV,
    libc::ETOOMANYREFS,
    libc::EOVERFLOW,
    libc::ETIME,
    libc::EINVAL,
];

/// Errors that it has no word for.
const BECOME_EIO: [i32; 7] =
    [libc::EIO, libc::EPERM, libc::ENOENT, libc::EROFS, libc::EFBIG, libc::ENOSYS, 4095];

pub fn errors(_: Context) {
    let failing = Arc::new(Failing::default());
    let server = Builder::new().serve(Blocking::<Failing>::new(Arc::clone(&failing))).unwrap();
    let path = server.block_path();
    let file = disk::open(&path, 0);
    let handed_on = HANDED_ON.map(|errno| (errno, errno));
    let changed = BECOME_EIO.map(|errno| (errno, libc::EIO));
    for (answered, wanted) in handed_on.into_iter().chain(changed) {
        reaches_the_client(&failing, &file, answered, wanted);
    }
    drop(file);
    for (answered, said) in
        [(libc::EIO, "Input/output error"), (libc::ENOSPC, "No space left on device")]
    {
        for how in Emptying::ALL {
            let tried = failing.with(answered, || how.try_on(&path, &range(QUIET, 4096)));
            let heard = tried.unwrap_err();
            assert!(heard.contains(said), "{how:?} answered with {answered}: {heard}");
        }
    }
    unsupported_is_made_up_for(&failing, &path);
    server.stop().unwrap();
}

/// One answer of the backend, to each kind of request whose error a client hears.
fn reaches_the_client(failing: &Failing, file: &File, answered: i32, wanted: i32) {
    let stamp = disk::stamp(1, 1, PAGE);
    let read = failing.with(answered, || disk::read(file, QUIET, PAGE));
    assert_eq!(errno(read), wanted, "a read answered with {answered}");
    let written = failing.with(answered, || disk::write(file, QUIET, &stamp));
    assert_eq!(errno(written), wanted, "a write answered with {answered}");
    let punched = failing.with(answered, || punch(file, QUIET));
    assert_eq!(errno(punched), wanted, "a hole answered with {answered}");
    let synced = failing.with(answered, || file.sync_all());
    if answered == libc::EOPNOTSUPP {
        synced.expect("a disk that has nothing to flush");
    } else {
        assert_eq!(errno(synced), wanted, "a flush answered with {answered}");
    }
    disk::read(file, QUIET, PAGE).expect("the next request is answered well");
}

/// A disk that declares an operation and then does not support it: the kernel helps itself.
fn unsupported_is_made_up_for(failing: &Failing, path: &str) {
    let helped = [
        (Emptying::Discard, true, 0), // forgetting was a favour
        (Emptying::ZeroOut, true, 4096),
        (Emptying::ZeroRange, true, 4096),
        (Emptying::PunchHole, false, 0),
    ];
    for (how, succeeds, written_bytes) in helped {
        let tried = failing.with(libc::EOPNOTSUPP, || how.try_on(path, &range(SPARED, 4096)));
        let written = failing.written_bytes.swap(0, Ordering::Relaxed);
        assert_eq!((tried.is_ok(), written), (succeeds, written_bytes), "{how:?}: {tried:?}");
    }
}
