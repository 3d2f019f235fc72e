//! The seam: everything this crate asks of a kernel.
//!
//! [`Linux`] answers with system calls. A simulated kernel can answer from memory instead: it plays
//! io_uring and the driver in the same shared pages, so that the code above runs unchanged, down to
//! its index arithmetic and the bytes of its SQEs.

mod bytes;
mod linux;

pub use bytes::{Destination, Source};
pub use linux::Linux;
pub(crate) use linux::timespec;

use crate::errno::Errno;
use core::ffi::CStr;
use core::fmt::Debug;
use core::ptr::NonNull;
use core::time::Duration;
use ublkit_sys::io_uring::io_uring_params;

/// A kernel, as one task (one thread) of a process sees it.
///
/// Errors are those of the system calls that each method names, and are listed where they are
/// handled (`ring`). All that blocks is here, so that a simulated kernel decides who runs next, and
/// when.
///
/// # Safety
///
/// The implementor's mappings really are that long and stay so while the mapping lives; and it
/// touches only its own mappings and the memory that SQEs and registrations name, only from their
/// submission to their completion.
#[expect(unsafe_code, reason = "a false answer would break memory safety")]
pub unsafe trait Kernel: Debug + Send + Sync + Sized + 'static {
    /// An open file: the control device, a char device, a ring, an event.
    type File: Debug + Send + Sync + 'static;
    /// A stretch of memory shared with the kernel.
    type Mapping: Memory;
    /// A task that was made by [`spawn`](Self::spawn).
    type Thread: Debug + Send + 'static;

    /// The kernel as another task of the same process sees it.
    fn task(&self) -> Self;

    /// Makes a thread, a task of its own, that does `work` and ends. A panic ends it too.
    fn spawn<W>(&self, name: String, work: W) -> Result<Self::Thread, Errno>
    where
        W: FnOnce(Self) + Send + 'static;

    /// Waits for a thread's end, for `timeout` at the most; whether it has ended.
    fn join(&self, thread: &mut Self::Thread, timeout: Duration) -> bool;

    /// The number of the calling process, `getpid()`.
    fn process(&self) -> u32;

    /// `open(path, O_RDWR | O_CLOEXEC)`.
    fn open(&self, path: &CStr) -> Result<Self::File, Errno>;

    /// `eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)`: readable once it was signalled.
    fn event(&self) -> Result<Self::File, Errno>;

    /// Makes an event readable. Never blocks.
    fn signal(&self, event: &Self::File);

    /// Makes an event unreadable, until it is signalled again. Never blocks.
    fn clear(&self, event: &Self::File);

    /// Waits until an event is readable, for `timeout` or without end; whether it is.
    fn wait(&self, event: &Self::File, timeout: Option<Duration>) -> bool;

    /// `io_uring_setup`; `params` is asked and answered. Makes the ring of the calling task.
    fn ring_setup(&self, entries: u32, params: &mut io_uring_params) -> Result<Self::File, Errno>;

    /// `io_uring_enter`; a wait ends after `timeout`, or never. Blocks as its arguments say.
    fn ring_enter(
        &self,
        ring: RingName<'_, Self::File>,
        to_submit: u32,
        min_complete: u32,
        flags: u32,
        timeout: Option<Duration>,
    ) -> Result<u32, Errno>;

    /// `io_uring_register`, for those registrations that name no memory of the caller beyond the
    /// call itself.
    fn ring_register(&self, ring: &Self::File, what: Registration<'_>) -> Result<u32, Errno>;

    /// `mmap(MAP_SHARED)` of `len_bytes` of `file` from `offset_bytes` on.
    fn map(
        &self,
        file: &Self::File,
        offset_bytes: u64,
        len_bytes: usize,
        access: Access,
    ) -> Result<Self::Mapping, Errno>;

    /// `pread` from a char device: a request's data, in user-copy mode.
    fn read_at(
        &self,
        file: &Self::File,
        data: Destination<'_>,
        offset: u64,
    ) -> Result<usize, Errno>;

    /// `pwrite` to a char device: a request's data, in user-copy mode.
    fn write_at(&self, file: &Self::File, data: Source<'_>, offset: u64) -> Result<usize, Errno>;

    /// Tells the kernel that the calling task serves a disk, so that its own need for memory must
    /// not wait for that disk (`prctl(PR_SET_IO_FLUSHER)`, since 5.6). Needs `CAP_SYS_RESOURCE`;
    /// without it nothing changes.
    fn serves_a_disk(&self);

    /// Has the calling task run on those CPUs alone (`sched_setaffinity`).
    ///
    /// `EINVAL`: the process may use none of them.
    fn runs_on(&self, cpus: &[u32]) -> Result<(), Errno>;

    /// The number that an SQE names `file` by.
    fn number(&self, file: &Self::File) -> i32;

    /// The time since some fixed moment; never goes back.
    fn now(&self) -> Duration;

    /// Blocks the calling task for at least `time`.
    fn sleep(&self, time: Duration);

    /// A moment of a busy wait, in which whoever else wants the CPU has it (`sched_yield`).
    fn give_way(&self);
}

/// A stretch of memory shared with the kernel, unmapped when dropped.
///
/// # Safety
///
/// `base` is page aligned and stays valid for `len_bytes` bytes while the value lives; the memory
/// is never accessed through Rust references by the implementor.
#[expect(unsafe_code, reason = "a false address would break memory safety")]
pub unsafe trait Memory: Debug + Send + Sync + 'static {
    /// Where it begins.
    fn base(&self) -> NonNull<u8>;
    /// How long it is.
    fn len_bytes(&self) -> usize;

    /// The place of `count` values of `T` from `offset_bytes` on, or `None` when they are not
    /// inside the mapping or not aligned.
    fn place<T>(&self, offset_bytes: usize, count: usize) -> Option<NonNull<T>>
    where
        Self: Sized,
    {
        let end = count.checked_mul(size_of::<T>())?.checked_add(offset_bytes)?;
        if end > self.len_bytes() || !offset_bytes.is_multiple_of(align_of::<T>()) {
            return None;
        }
        // SAFETY: inside the mapping, as just checked; the implementor promised its length.
        Some(unsafe { self.base().byte_add(offset_bytes) }.cast())
    }
}

/// What may be done with a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// `PROT_READ`.
    Read,
    /// `PROT_READ | PROT_WRITE`.
    ReadWrite,
}

/// How `io_uring_enter` is told which ring is meant.
#[derive(Debug)]
pub enum RingName<'a, File> {
    /// By its file.
    File(&'a File),
    /// By the index that registering it gave (`IORING_ENTER_REGISTERED_RING`, since 5.18).
    Registered(u32),
}

impl<File> Clone for RingName<'_, File> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<File> Copy for RingName<'_, File> {}

/// What `io_uring_register` is asked.
#[derive(Debug)]
pub enum Registration<'a> {
    /// `IORING_REGISTER_FILES`: the fixed files, by their numbers.
    Files(&'a [i32]),
    /// `IORING_REGISTER_RING_FDS`: lets the calling task name the ring by the answered index, which
    /// spares a file look-up per `io_uring_enter`.
    RingFd,
    /// `IORING_REGISTER_IOWQ_MAX_WORKERS`: how many of the ring's commands may block at one time,
    /// each in a worker of its own.
    MaxWorkers(u32),
    /// `IORING_REGISTER_BUFFERS2`, sparse: a table of so many places for requests' pages.
    Buffers(u32),
    /// `IORING_REGISTER_PBUF_RING` with `IOU_PBUF_RING_MMAP`: a ring of so many provided buffers,
    /// which the kernel makes, to be mapped.
    BufferRing {
        /// The group's number.
        group: u16,
        /// A power of two.
        entries: u16,
    },
    /// `IORING_UNREGISTER_RING_FDS`: takes the index back; until then the ring stays alive.
    UnregisterRingFd(u32),
}
