//! A disk in a file, served by operations on the queue's ring, with whims and with mistakes.

use crate::house::{House, Whim};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;
use ublkit::{
    Access, Completion, Durability, Errno, FileIndex, Geometry, Handler, Io, Needs, Operation,
    QueueInfo, Request, Space, Step, Target,
};

/// What a handler gets wrong: the controls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    None,
    /// A flush is answered and nothing done.
    ForgetsSync,
    /// Writes with FUA are written like others.
    ForgetsFua,
    /// Zeros and discards are not.
    ForgetsToZero,
    /// Reads are answered before anything was read.
    AnswersEarly,
    /// The second half of a transfer is left out.
    ForgetsHalf,
}

/// A disk in a file of memory.
#[derive(Clone, Debug)]
pub struct FileDisk {
    pub file: Arc<OwnedFd>,
    geometry: Geometry,
    whims: &'static [Whim],
    mistake: Mistake,
}

impl FileDisk {
    pub fn new(house: &House, mistake: Mistake) -> Self {
        let file = memfd_create("a disk", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, house.geometry.size_bytes).unwrap();
        let House { mut geometry, whims, .. } = *house;
        geometry.discard_bytes = 4096;
        geometry.write_zeroes = true;
        Self { file: Arc::new(file), geometry, whims, mistake }
    }

    /// What the file holds.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        File::from(self.file.try_clone().unwrap()).read_exact_at(data, offset).unwrap();
    }
}

impl Target for FileDisk {
    type Handler = Files;

    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn needs(&self) -> Needs {
        let files = vec![Arc::clone(&self.file)];
        Needs { access: Access::Operations, operations: 2, files, ..Needs::default() }
    }

    fn handler(&self, queue: &QueueInfo) -> Result<Files, Errno> {
        Ok(Files {
            writes_through: self.geometry.durability == Durability::WriteThrough,
            whims: self.whims,
            mistake: self.mistake,
            next: queue.queue.into(),
            left: vec![0; queue.depth.into()],
        })
    }
}

/// The handler of one queue.
#[derive(Debug)]
pub struct Files {
    writes_through: bool,
    whims: &'static [Whim],
    mistake: Mistake,
    next: usize,
    /// Parts, or delays, that are under way or still to come, by tag.
    left: Vec<u8>,
}

const DISK: FileIndex = FileIndex(0);

// What a request waits for.
const FIRST_HALF: u8 = 1;
const SECOND_HALF: u8 = 2;
const WHOLE: u8 = 3;
const ZEROED: u8 = 4;
const GIVEN_UP: u8 = 5;
const SYNCED: u8 = 6;
const DELAYED: u8 = 7;
const DISCARDED: u8 = 8;

/// Where a request's data is cut in two.
fn half(request: &Request) -> u32 {
    u32::try_from(request.len_bytes / 2).unwrap().next_multiple_of(512)
}

/// The part of a request's data that an operation moves.
fn part(request: &Request, cookie: u8) -> std::ops::Range<u32> {
    let len_bytes = u32::try_from(request.len_bytes).unwrap();
    match cookie {
        FIRST_HALF => 0..half(request),
        SECOND_HALF => half(request)..len_bytes,
        _ => 0..len_bytes,
    }
}

impl Files {
    fn left(&mut self, io: &Io<'_>) -> &mut u8 {
        &mut self.left[usize::from(io.tag())]
    }

    /// Begins to move a part of a request's data.
    fn transfer(&mut self, io: &mut Io<'_>, cookie: u8) -> Result<(), Errno> {
        let request = io.request();
        let part = part(&request, cookie);
        let offset = request.offset + u64::from(part.start);
        match request.operation {
            Operation::Read => io.read(DISK, offset, part, cookie),
            Operation::Write { fua } => {
                let durable = (fua || self.writes_through) && self.mistake != Mistake::ForgetsFua;
                io.write(DISK, offset, part, durable, cookie)
            }
            _ => Err(Errno::EINVAL),
        }
    }

    fn serve(&mut self, io: &mut Io<'_>, in_halves: bool) -> Result<Step, Errno> {
        let request = io.request();
        let range = request.offset..request.offset + request.len_bytes;
        match request.operation {
            Operation::Read if self.mistake == Mistake::AnswersEarly => {
                return Ok(Step::Done(Ok(())));
            }
            Operation::Read | Operation::Write { .. } if in_halves && request.len_bytes > 512 => {
                *self.left(io) = 1;
                self.transfer(io, SECOND_HALF)?;
                if self.mistake != Mistake::ForgetsHalf {
                    *self.left(io) = 2;
                    self.transfer(io, FIRST_HALF)?;
                }
            }
            Operation::Read | Operation::Write { .. } => {
                *self.left(io) = 1;
                self.transfer(io, WHOLE)?;
            }
            Operation::Flush if self.mistake == Mistake::ForgetsSync => {
                return Ok(Step::Done(Ok(())));
            }
            Operation::Flush => io.sync(DISK, true, SYNCED)?,
            Operation::Discard | Operation::WriteZeroes { .. }
                if self.mistake == Mistake::ForgetsToZero =>
            {
                return Ok(Step::Done(Ok(())));
            }
            Operation::WriteZeroes { may_unmap: false } => {
                io.allocate(DISK, Space::Zeroed, range, ZEROED)?;
            }
            Operation::Discard => io.allocate(DISK, Space::Discarded, range, DISCARDED)?,
            Operation::WriteZeroes { may_unmap: true } => {
                io.allocate(DISK, Space::GivenUp, range, GIVEN_UP)?;
            }
            _ => return Ok(Step::Done(Err(Errno::EOPNOTSUPP))),
        }
        Ok(Step::Pending)
    }

    /// Something is under way, whatever the request is.
    fn something(&mut self, io: &mut Io<'_>) {
        let _ = self.serve(io, false).expect("it has none under way");
    }
}

/// A result as a step.
fn step(result: Result<Step, Errno>) -> Step {
    result.unwrap_or_else(|errno| Step::Done(Err(errno)))
}

const SOON: Duration = Duration::from_millis(3);

impl Handler for Files {
    fn start(&mut self, io: &mut Io<'_>) -> Step {
        self.next += 1;
        match self.whims[self.next % self.whims.len()] {
            Whim::Serve | Whim::ServeUntold => step(self.serve(io, false)),
            Whim::Halves => step(self.serve(io, true)),
            Whim::Fail(errno) => Step::Done(Err(errno)),
            Whim::Panic => panic!("a whim"),
            Whim::Delay(times) => {
                *self.left(io) = times;
                io.delay(SOON, DELAYED).expect("it has none under way");
                Step::Pending
            }
            Whim::FailUnderWay => {
                self.something(io);
                Step::Done(Err(Errno::EREMOTEIO))
            }
            Whim::PanicUnderWay => {
                self.something(io);
                panic!("a whim")
            }
            Whim::LookUnderWay => {
                self.something(io);
                if let Operation::Read | Operation::Write { .. } = io.request().operation {
                    let _ = io.data().len(); // it is being moved: a panic, so an EIO
                }
                Step::Pending
            }
            Whim::WaitForNothing => Step::Pending,
            Whim::Forget => Step::Done(Ok(())),
        }
    }

    fn resume(&mut self, io: &mut Io<'_>, done: Completion) -> Step {
        let request = io.request();
        match (done.cookie, done.result) {
            (DELAYED, result) => {
                assert_eq!(result, Err(Errno::ETIME));
                *self.left(io) -= 1;
                if *self.left(io) == 0 {
                    return step(self.serve(io, true));
                }
                io.delay(SOON, DELAYED).expect("the last one has ended");
                Step::Pending
            }
            (ZEROED | DISCARDED, Err(Errno::EOPNOTSUPP)) => {
                // Files of memory cannot, but what they give up reads as zeros.
                let range = request.offset..request.offset + request.len_bytes;
                step(io.allocate(DISK, Space::GivenUp, range, GIVEN_UP).map(|()| Step::Pending))
            }
            (_, Err(errno)) => Step::Done(Err(errno)),
            (ZEROED | GIVEN_UP | DISCARDED, Ok(_)) if self.writes_through => {
                step(io.sync(DISK, true, SYNCED).map(|()| Step::Pending))
            }
            (ZEROED | GIVEN_UP | DISCARDED | SYNCED, Ok(_)) => Step::Done(Ok(())),
            (cookie, Ok(count)) => {
                assert_eq!(count as usize, part(&request, cookie).len(), "the file is that long");
                *self.left(io) -= 1;
                if *self.left(io) == 0 { Step::Done(Ok(())) } else { Step::Pending }
            }
        }
    }
}
