//! What each operation does on its way from a client to the backend and back.

use super::Context;
use crate::tools::{self, Serving};
use crate::{alloc, disk};
use rustix::fs::FallocateFlags;
use rustix::thread::CpuSet;
use std::fs::{File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use ublkit::{
    Backend, Blocking, Builder, Completion, Durability, Errno, Geometry, Handler, Io, Memory,
    QueueStats, Server, Step, Target,
};

/// A page, which is also the unit in which a memory disk forgets.
const PAGE: usize = 4096;

/// A place that no scan for partitions looks at.
const QUIET: u64 = 4 << 20;

/// What a backend was asked to change. Reads are not noted: the kernel makes its own.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Call {
    Write(Range<u64>),
    WriteDurably(Range<u64>),
    Flush,
    Discard(Range<u64>),
    Zero { range: Range<u64>, may_unmap: bool },
}

/// A memory disk that notes what it is asked.
struct Recorder {
    memory: Memory,
    geometry: Mutex<Geometry>,
    calls: Mutex<Vec<Call>>,
}

impl Recorder {
    fn new(geometry: Geometry) -> Arc<Self> {
        let memory = Memory::new(geometry).unwrap();
        let geometry = Mutex::new(memory.geometry());
        Arc::new(Self { memory, geometry, calls: Mutex::default() })
    }

    /// Serves it with few slots: their buffers would cloud what is measured of memory.
    fn serve(self: &Arc<Self>) -> Server {
        Builder::new().depth(4).serve(Blocking::<Self>::new(Arc::clone(self))).unwrap()
    }

    fn note(&self, call: Call) {
        self.calls.lock().unwrap().push(call);
    }

    /// What it was asked since the last time.
    fn taken(&self) -> Vec<Call> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }
}

fn range(offset: u64, len_bytes: u64) -> Range<u64> {
    offset..offset + len_bytes
}

impl Backend for Recorder {
    fn geometry(&self) -> Geometry {
        *self.geometry.lock().unwrap()
    }

    fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        self.memory.read(offset, data)
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Errno> {
        self.note(Call::Write(range(offset, data.len() as u64)));
        self.memory.write(offset, data)
    }

    fn write_durably(&self, offset: u64, data: &[u8]) -> Result<(), Errno> {
        self.note(Call::WriteDurably(range(offset, data.len() as u64)));
        self.memory.write(offset, data)
    }

    fn flush(&self) -> Result<(), Errno> {
        self.note(Call::Flush);
        Ok(())
    }

    fn discard(&self, offset: u64, len_bytes: u64) -> Result<(), Errno> {
        self.note(Call::Discard(range(offset, len_bytes)));
        self.memory.discard(offset, len_bytes)
    }

    fn write_zeroes(&self, offset: u64, len_bytes: u64, may_unmap: bool) -> Result<(), Errno> {
        self.note(Call::Zero { range: range(offset, len_bytes), may_unmap });
        self.memory.write_zeroes(offset, len_bytes, may_unmap)
    }
}

/// The ways to empty a range of a block device from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Emptying {
    /// `blkdiscard`: the ioctl BLKDISCARD.
    Discard,
    /// `blkdiscard --zeroout`: the ioctl BLKZEROOUT, which keeps the space.
    ZeroOut,
    /// `fallocate --zero-range`, which keeps the space.
    ZeroRange,
    /// `fallocate --punch-hole`, which gives the space back.
    PunchHole,
}

impl Emptying {
    const ALL: [Self; 4] = [Self::Discard, Self::ZeroOut, Self::ZeroRange, Self::PunchHole];

    /// Has the system's tool do it; the tool's errors are returned.
    fn try_on(self, path: &str, range: &Range<u64>) -> Result<(), String> {
        // Forced, as blkdiscard would else look at what is there first.
        let (program, flags) = match self {
            Self::Discard => ("blkdiscard", &["--force"][..]),
            Self::ZeroOut => ("blkdiscard", &["--force", "--zeroout"][..]),
            Self::ZeroRange => ("fallocate", &["--zero-range"][..]),
            Self::PunchHole => ("fallocate", &["--punch-hole"][..]),
        };
        let [offset, len] = [range.start, range.end - range.start].map(|n| n.to_string());
        let place = ["--offset", &offset, "--length", &len, path];
        let output = tools::output(program, &[flags, &place].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(()) } else { Err(said) }
    }

    fn run(self, path: &str, range: &Range<u64>) {
        self.try_on(path, range).unwrap_or_else(|said| panic!("{self:?}: {said}"));
    }

    /// The range of a call that this asks for; `None` when it asks for something else.
    fn asked(self, call: &Call) -> Option<Range<u64>> {
        match (self, call) {
            (Self::Discard, Call::Discard(range))
            | (Self::ZeroOut | Self::ZeroRange, Call::Zero { range, may_unmap: false })
            | (Self::PunchHole, Call::Zero { range, may_unmap: true }) => Some(range.clone()),
            _ => None,
        }
    }

    /// What a memory disk promises to read as zeros. It forgets whole pages.
    fn zeroed(self, range: &Range<u64>) -> Range<usize> {
        let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
        if self != Self::Discard {
            return range;
        }
        let start = range.start.next_multiple_of(PAGE);
        start..start.max(range.end / PAGE * PAGE)
    }
}

pub fn discard_and_zero_out(context: Context) {
    let recorder = Recorder::new(Geometry::new(128 << 20));
    let server = recorder.serve();
    let path = server.block_path();
    let few = [64 << 10..128 << 10, 9 * 4096 + 512..14 * 4096 - 1536];
    let more = [512..1024, 4096..8192, 3584..4608, 4096..9728, 0..256 << 10];
    let ranges = [&few[..], context.pick(&[], &more)].concat();
    for range in &ranges {
        for how in Emptying::ALL {
            empties_just(&recorder, &path, how, range);
        }
    }
    memory_is_given_back(&path);
    server.stop().unwrap();
    without_such_operations();
}

/// A disk that declares neither: it is not asked, and zeros are written by the kernel.
fn without_such_operations() {
    let recorder = Recorder::new(Geometry::new(64 << 20));
    recorder.geometry.lock().unwrap().discard_bytes = 0;
    recorder.geometry.lock().unwrap().write_zeroes = false;
    let server = recorder.serve();
    let path = server.block_path();
    let place = range(QUIET, PAGE as u64);
    for how in [Emptying::Discard, Emptying::PunchHole] {
        let said = how.try_on(&path, &place).unwrap_err();
        assert!(said.contains("supported"), "{how:?}: {said}");
    }
    assert_eq!(recorder.taken(), []);
    for how in [Emptying::ZeroOut, Emptying::ZeroRange] {
        recorder.memory.write(QUIET, &disk::stamp(1, 1, PAGE)).unwrap();
        how.run(&path, &place);
        assert_eq!(recorder.taken(), [Call::Write(place.clone())], "{how:?}");
        let mut found = [1; PAGE];
        recorder.memory.read(QUIET, &mut found).unwrap();
        assert!(found == [0; PAGE], "{how:?} left something");
    }
    server.stop().unwrap();
}

/// Empties a range of a full area: the backend is asked for just that, and nothing else changes.
fn empties_just(recorder: &Recorder, path: &str, how: Emptying, range: &Range<u64>) {
    let mut model = disk::stamp(range.start, 1, 256 << 10);
    let file = disk::open(path, 0);
    disk::write_large(&file, 0, &model).unwrap();
    recorder.taken();
    how.run(path, range);
    let calls = recorder.taken();
    let mut at = range.start;
    for call in &calls {
        let part = how.asked(call).unwrap_or_else(|| panic!("{how:?} {range:?} made {calls:?}"));
        assert_eq!(part.start, at, "{how:?} {range:?} made {calls:?}");
        at = part.end;
    }
    assert_eq!(at, range.end, "{how:?} {range:?} made {calls:?}");
    model[how.zeroed(range)].fill(0);
    let found = disk::read_large(&file, 0, model.len()).unwrap();
    let wrong = (0..model.len()).find(|byte| found[*byte] != model[*byte]);
    assert_eq!(wrong, None, "{how:?} {range:?}: the first wrong byte");
}

/// What may be unmapped is given back to the machine; what may not is kept.
fn memory_is_given_back(path: &str) {
    const MIB: u64 = 1 << 20;
    let file = disk::open(path, 0);
    let stamp = disk::stamp(1, 1, MIB as usize);
    let empty = tools::rss_bytes("self");
    (0..64).for_each(|mib| disk::write_large(&file, mib * MIB, &stamp).unwrap());
    drop(file);
    let full = tools::rss_bytes("self");
    assert!(full > empty + 60 * MIB, "{empty} bytes before, {full} full");
    Emptying::ZeroOut.run(path, &(0..64 * MIB));
    let zeroed = tools::rss_bytes("self");
    assert!(zeroed + 4 * MIB > full, "{full} bytes full, {zeroed} zeroed: space was given up");
    Emptying::PunchHole.run(path, &(0..32 * MIB));
    let punched = tools::rss_bytes("self");
    assert!(punched + 28 * MIB < zeroed, "{zeroed} bytes before the hole, {punched} after it");
    Emptying::Discard.run(path, &(32 * MIB..64 * MIB));
    let discarded = tools::rss_bytes("self");
    assert!(discarded + 28 * MIB < punched, "{punched} before the discard, {discarded} after it");
}

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

/// Runs `body` while panics on a server's threads are counted instead of printed; how many.
fn counting_panics(body: impl FnOnce()) -> u32 {
    let count = Arc::new(AtomicU32::new(0));
    let noted = Arc::clone(&count);
    std::panic::set_hook(Box::new(move |info| {
        match std::thread::current().name() {
            Some(name) if name.starts_with("ublk") => drop(noted.fetch_add(1, Ordering::Relaxed)),
            _ => eprintln!("{info}"),
        };
    }));
    let result = catch_unwind(AssertUnwindSafe(body));
    drop(std::panic::take_hook());
    result.unwrap_or_else(|panic| resume_unwind(panic));
    count.load(Ordering::Relaxed)
}

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

/// The error number of what must have failed.
fn errno<T: std::fmt::Debug>(result: std::io::Result<T>) -> i32 {
    result.map(drop).expect_err("it must fail").raw_os_error().expect("the system's error")
}

/// How long a late answer takes.
const DELAY: Duration = Duration::from_secs(1);
const COOKIE: u8 = 42;

/// Blocks whose readers meet a mistake of the handler, and from `LATE` on blocks that come late.
const PENDING_ON_NOTHING: u64 = QUIET;
const PANICS: u64 = QUIET + 4096;
const DONE_EARLY: u64 = QUIET + 2 * 4096;
const SECOND_DELAY: u64 = QUIET + 3 * 4096;
const LATE: u64 = QUIET + (1 << 20);

/// What a handler did.
#[derive(Debug, Default)]
struct Tally {
    under_way: AtomicU32,
    most_under_way: AtomicU32,
    resumed: AtomicU32,
    second_delay: AtomicI32,
}

struct Delayed(Arc<Tally>);

impl Target for Delayed {
    type Handler = Self;

    fn geometry(&self) -> Geometry {
        Geometry::new(64 << 20)
    }

    fn operations(&self) -> u8 {
        1
    }

    fn handler(&self, _queue: u16) -> Result<Self, Errno> {
        Ok(Self(Arc::clone(&self.0)))
    }
}

/// What a late block holds: bytes that say which it is.
fn late_byte(offset: u64) -> u8 {
    u8::try_from((offset - QUIET) / 4096 % 251).unwrap()
}

impl Delayed {
    fn delay(&self, io: &mut Io<'_>) {
        io.delay(DELAY, COOKIE).expect("the first delay of this request");
        let now = self.0.under_way.fetch_add(1, Ordering::Relaxed) + 1;
        self.0.most_under_way.fetch_max(now, Ordering::Relaxed);
    }
}

impl Handler for Delayed {
    fn start(&mut self, io: &mut Io<'_>) -> Step {
        let offset = io.request().offset;
        if offset < QUIET || offset == PENDING_ON_NOTHING {
            return if offset < QUIET { Step::Done(Ok(())) } else { Step::Pending };
        }
        self.delay(io);
        match offset {
            PANICS => panic!("on purpose"),
            DONE_EARLY => {
                io.data().fill(late_byte(offset));
                return Step::Done(Ok(()));
            }
            SECOND_DELAY => {
                let answer = io.delay(DELAY, COOKIE).err().map_or(0, Errno::number);
                self.0.second_delay.store(answer, Ordering::Relaxed);
            }
            _ => {}
        }
        Step::Pending
    }

    fn resume(&mut self, io: &mut Io<'_>, done: Completion) -> Step {
        self.0.resumed.fetch_add(1, Ordering::Relaxed);
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
        if done != (Completion { cookie: COOKIE, result: Err(Errno::ETIME) }) {
            return Step::Done(Err(Errno::ENODATA));
        }
        let byte = late_byte(io.request().offset);
        io.data().fill(byte);
        Step::Done(Ok(()))
    }
}

pub fn delayed(_: Context) {
    const READERS: u16 = 16;
    let tally = Arc::new(Tally::default());
    let server = Builder::new().depth(READERS).serve(Delayed(Arc::clone(&tally))).unwrap();
    let path = server.block_path();
    many_wait_together(&path, READERS);
    let of = |count: &AtomicU32| count.load(Ordering::Relaxed);
    let readers = u32::from(READERS);
    assert_eq!(of(&tally.most_under_way), readers, "requests under way at one time");
    assert_eq!((of(&tally.under_way), of(&tally.resumed)), (0, readers));
    mistakes_cost_no_more_than_an_error(&path);
    assert_eq!(tally.second_delay.load(Ordering::Relaxed), libc::EBUSY);
    // The second delay's request went on; the settled ones were not entered again.
    assert_eq!(of(&tally.resumed), readers + 1);
    let QueueStats { panics, errors, .. } = server.stop().unwrap()[0];
    assert_eq!((panics, errors), (1, 2));
}

/// Readers of as many late blocks as there are slots get them all after about one delay.
fn many_wait_together(path: &str, readers: u16) {
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for reader in 0..u64::from(readers) {
            // Apart: the kernel would make one request of neighbours.
            scope.spawn(move || late_read_works(path, LATE + reader * 8192));
        }
    });
    let took = begun.elapsed();
    assert!(took < DELAY * 4, "{readers} readers took {took:?}");
}

/// A read that is answered only after the delay, with the right bytes.
fn late_read_works(path: &str, offset: u64) {
    let (found, took) = timed_read(path, offset);
    assert!(found.unwrap() == [late_byte(offset); PAGE], "wrong bytes at {offset}");
    assert!(took >= DELAY, "an answer before its time: {took:?}");
}

fn timed_read(path: &str, offset: u64) -> (std::io::Result<Vec<u8>>, Duration) {
    let file = disk::open(path, 0);
    let begun = Instant::now();
    let found = disk::read(&file, offset, PAGE);
    (found, begun.elapsed())
}

fn mistakes_cost_no_more_than_an_error(path: &str) {
    assert_eq!(errno(timed_read(path, PENDING_ON_NOTHING).0), libc::EIO);
    let panics = counting_panics(|| {
        let (found, took) = timed_read(path, PANICS);
        assert_eq!(errno(found), libc::EIO);
        assert!(took >= DELAY, "answered while an operation was under way: {took:?}");
    });
    assert_eq!(panics, 1);
    late_read_works(path, DONE_EARLY);
    late_read_works(path, SECOND_DELAY);
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

/// Punches a hole of a page.
fn punch(file: &File, offset: u64) -> std::io::Result<()> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    Ok(rustix::fs::fallocate(file, flags, offset, PAGE as u64)?)
}

const QUEUES: u16 = 4;

/// Allocations of a queue's thread before its first request and before its last.
#[derive(Debug, Default)]
struct Note {
    requests: AtomicU64,
    first: AtomicU64,
    last: AtomicU64,
}

/// Serves what `inner` serves, and notes each thread's allocations.
struct Counted<T> {
    inner: T,
    queue: u16,
    notes: Arc<[Note; QUEUES as usize]>,
}

impl<T: Target> Target for Counted<T> {
    type Handler = Counted<T::Handler>;

    fn geometry(&self) -> Geometry {
        self.inner.geometry()
    }

    fn handler(&self, queue: u16) -> Result<Counted<T::Handler>, Errno> {
        let inner = self.inner.handler(queue)?;
        Ok(Counted { inner, queue, notes: Arc::clone(&self.notes) })
    }
}

impl<H: Handler> Handler for Counted<H> {
    fn start(&mut self, io: &mut Io<'_>) -> Step {
        let note = &self.notes[usize::from(self.queue)];
        if note.requests.fetch_add(1, Ordering::Relaxed) == 0 {
            note.first.store(alloc::count(), Ordering::Relaxed);
        }
        note.last.store(alloc::count(), Ordering::Relaxed);
        self.inner.start(io)
    }
}

/// A memory disk that allocates for each read.
struct Allocating(Memory);

impl Backend for Allocating {
    fn geometry(&self) -> Geometry {
        self.0.geometry()
    }

    fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        drop(std::hint::black_box(Box::new(offset)));
        self.0.read(offset, data)
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Errno> {
        self.0.write(offset, data)
    }

    fn write_zeroes(&self, offset: u64, len_bytes: u64, may_unmap: bool) -> Result<(), Errno> {
        self.0.write_zeroes(offset, len_bytes, may_unmap)
    }
}

pub fn no_allocation(context: Context) {
    let times = context.pick(100, 5000);
    let memory = || Memory::new(Geometry::new(64 << 20)).unwrap();
    for (requests, allocations) in allocations(Blocking::new(memory()), times) {
        assert!(requests >= 3 * times, "a queue carried only {requests} requests");
        assert_eq!(allocations, 0, "in {requests} requests of one queue");
    }
    // The check itself: what is allocated is seen.
    for (_, allocations) in allocations(Blocking::new(Allocating(memory())), times) {
        assert!(allocations >= times - 1, "{allocations} allocations seen in {times} reads");
    }
}

/// Serves `target` to a client on each CPU. Each queue's requests, and how many allocations its
/// thread made between the first of them and the last.
fn allocations<T: Target>(target: T, times: u64) -> Vec<(u64, u64)> {
    let notes = Arc::<[Note; QUEUES as usize]>::default();
    let target = Counted { inner: target, queue: 0, notes: Arc::clone(&notes) };
    let server = Builder::new().queues(QUEUES).serve(target).unwrap();
    let path = server.block_path();
    std::thread::scope(|scope| {
        for cpu in 0..QUEUES {
            let path = &path;
            scope.spawn(move || every_operation(cpu, path, times));
        }
    });
    server.stop().unwrap();
    let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
    notes.iter().map(|note| (of(&note.requests), of(&note.last) - of(&note.first))).collect()
}

/// Holes, writes and reads from one CPU, so that they go to that CPU's queue.
fn every_operation(cpu: u16, path: &str, times: u64) {
    let mut cpus = CpuSet::new();
    cpus.set(cpu.into());
    rustix::thread::sched_setaffinity(None, &cpus).expect("the CPU exists");
    let file = disk::open(path, 0);
    let stamp = disk::stamp(cpu.into(), 1, PAGE);
    for turn in 0..times {
        let offset = QUIET + (turn % 64 * u64::from(QUEUES) + u64::from(cpu)) * 4096;
        punch(&file, offset).unwrap();
        disk::write(&file, offset, &stamp).unwrap();
        assert!(disk::read(&file, offset, PAGE).unwrap() == stamp);
    }
}
