//! A handler whose answers come late, and its mistakes.

use super::{Context, PAGE, QUIET, counting_panics, errno};
use crate::disk;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::time::{Duration, Instant};
use ublkit::{
    Builder, Completion, Errno, Geometry, Handler, Io, Needs, QueueInfo, QueueStats, Step, Target,
};

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

    fn needs(&self) -> Needs {
        Needs { operations: 1, ..Needs::default() }
    }

    fn handler(&self, _queue: &QueueInfo) -> Result<Self, Errno> {
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
