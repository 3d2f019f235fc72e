//! What each operation does on its way from a client to the backend and back.

mod allocations;
mod below;
mod delayed;
mod durability;
mod emptying;
mod mistakes;
mod places;

pub use allocations::no_allocation;
pub use delayed::delayed;
pub use durability::{flush_and_fua, read_only};
pub use emptying::discard_and_zero_out;
pub use mistakes::{errors, panicking};
pub use places::{blocks, larger_than_memory};

use super::Context;
use crate::tools;
use rustix::fs::FallocateFlags;
use std::fs::File;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use ublkit::{Backend, Blocking, Builder, Errno, Geometry, Memory, Server};

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

/// The error number of what must have failed.
fn errno<T: std::fmt::Debug>(result: std::io::Result<T>) -> i32 {
    result.map(drop).expect_err("it must fail").raw_os_error().expect("the system's error")
}

/// Punches a hole of a page.
fn punch(file: &File, offset: u64) -> std::io::Result<()> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    Ok(rustix::fs::fallocate(file, flags, offset, PAGE as u64)?)
}
