//! Scripts: what tasks say to a kernel, one level below the safe driver, so that illegal things can
//! be said as well. A script is data; [`run`] executes it on a real or a simulated kernel.

pub mod batch;
pub mod build;
pub mod bytes;
mod encode;
mod end;
mod events;
mod made;
pub mod queues;
pub mod random;
pub mod record;
pub mod run;
pub mod scripts;
pub mod show;
pub mod sqe;
pub mod world;

use sqe::Sqe;
use ublkit::kernel::Access;

/// The task that has CAP_SYS_ADMIN and sends control commands; the others have it not, so that no
/// partitions are looked for.
pub const ADMIN: usize = 0;
/// The control ring of [`ADMIN`].
pub const CONTROL_RING: usize = 0;
/// A task that has it, too, and serves.
pub const PRIVILEGED: usize = 50;
/// Tasks from here on are made by the interpreter, to clean up.
pub const CLEANER: usize = 100;

/// Whether a task has CAP_SYS_ADMIN.
pub fn is_admin(task: usize) -> bool {
    [ADMIN, PRIVILEGED, CLEANER].contains(&task)
}

/// What is said, step by step.
#[derive(Clone, Debug)]
pub struct Script {
    /// The row of the protocol that it is about, or the seed that it was made from.
    pub name: String,
    /// What is done, in order.
    pub steps: Vec<Step>,
    /// Series of kernels that would be damaged by it, or that lack what it is about, and why.
    pub not_on: Vec<(&'static str, &'static str)>,
    /// Series of kernels that only write a warning into their log, and why: there it runs only to
    /// be recorded.
    pub warns_on: Vec<(&'static str, &'static str)>,
}

/// One thing that a task does. Rings, files, mappings, buffers, devices, clients and tasks have
/// small numbers; what they really are is not seen in an observation.
#[derive(Clone, Debug)]
pub enum Step {
    /// `io_uring_setup`, and both mappings where it succeeds.
    Ring { task: usize, ring: usize, entries: u32, flags: u32, cq_entries: u32 },
    /// Closes a ring, mappings included.
    CloseRing(usize),
    /// Opens the char device of a device.
    Open { task: usize, file: usize, device: usize },
    /// Closes a char device.
    Close(usize),
    /// Maps descriptors; with `queue`, they are looked at from then on.
    Map { task: usize, map: usize, place: Place },
    /// Unmaps them.
    Unmap(usize),
    /// Queues SQEs and submits them all with one call, by `task` or by the ring's own.
    Send { task: Option<usize>, ring: usize, sqes: Vec<Sqe> },
    /// Queues one SQE without a call.
    Put { ring: usize, sqe: Sqe },
    /// `io_uring_enter`.
    Enter { task: usize, ring: Target, call: Enter },
    /// `io_uring_enter` of the ring's own task that submits, and no look at what it completes.
    Blind { ring: usize, submit: u32 },
    /// `io_uring_register`.
    Register { task: usize, ring: usize, what: Register },
    /// `pread` or, with a byte to write, `pwrite` of a char device.
    Copy { task: usize, file: usize, write: Option<u8>, position: u64, len: usize },
    /// Puts so many buffers in the ring's group.
    Provide { ring: usize, count: u16, len: usize },
    /// Makes an event, as a file.
    Event { task: usize, file: usize },
    /// Fills a buffer.
    Fill { buffer: usize, byte: u8 },
    /// Shows what a buffer begins with.
    Look { buffer: usize, len: usize },
    /// Begins a client's request; its answer is seen when it comes.
    Client { client: usize, device: usize, wish: Wish },
    /// Ends a task.
    EndTask(usize),
    /// Lets so many milliseconds pass.
    Pause(u64),
    /// A control command; where it makes a device, that is deleted again.
    Try(Sqe),
    /// Steps of a known outcome, shown as one when they have it.
    Together(String, Vec<Self>),
}

/// What part of a char device is mapped.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub file: usize,
    pub queue: Option<u16>,
    pub offset: u64,
    pub len: usize,
    pub access: Access,
}

/// Which ring is entered.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// One of the script's.
    Ring(usize),
    /// A char device, which is none.
    File(usize),
    /// A registered index.
    Registered(u32),
}

/// The arguments of `io_uring_enter`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Enter {
    pub submit: u32,
    pub want: u32,
    pub flags: u32,
    pub timeout_ms: Option<u64>,
}

/// What is registered with a ring.
#[derive(Clone, Debug)]
pub enum Register {
    Files(Vec<sqe::Fd>),
    RingFd,
    UnregisterRingFd(u32),
    Buffers(u32),
    Workers(u32),
    /// A ring of so many provided buffers, as the group that scripts use.
    Group(u16),
    /// The task's rights, for SQEs that name them.
    Personality,
}

/// What a client asks of the disk.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    pub what: What,
    /// The queue on whose CPU the client runs.
    pub queue: u16,
    pub sector: u64,
    pub sectors: u32,
    /// What it writes.
    pub byte: u8,
}

/// A client's operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Read,
    Write,
    Flush,
    Discard,
    /// Keeps what it covers allocated.
    Zero,
    /// May give it back.
    PunchHole,
    /// Only opens the disk, and keeps it open until the script's end.
    Hold,
}
