//! [`Linux`]: the seam answered by system calls.
#![expect(unsafe_code, reason = "system calls take addresses; docs/safety.md, island `kernel`")]

use super::{Access, Destination, Kernel, Memory, Registration, RingName, Source};
use crate::errno::Errno;
use core::ffi::CStr;
use core::ptr::{NonNull, from_mut, from_ref};
use core::time::Duration;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::mm::{Advice, MapFlags, ProtFlags};
use rustix::thread::CpuSet;
use rustix::time::ClockId;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::thread::JoinHandle;
use ublkit_sys::io_uring::{
    __kernel_timespec, IORING_ENTER_EXT_ARG, IORING_ENTER_REGISTERED_RING,
    IORING_REGISTER_BUFFERS2, IORING_REGISTER_FILES, IORING_REGISTER_IOWQ_MAX_WORKERS,
    IORING_REGISTER_PBUF_RING, IORING_REGISTER_RING_FDS, IORING_RSRC_REGISTER_SPARSE,
    IORING_SETUP_NO_MMAP, IORING_UNREGISTER_RING_FDS, IOU_PBUF_RING_MMAP, io_uring_buf_reg,
    io_uring_getevents_arg, io_uring_params, io_uring_rsrc_register, io_uring_rsrc_update,
};

/// `linux/prctl.h`.
const PR_SET_IO_FLUSHER: libc::c_int = 57;

/// Between two looks at a thread that is about to end.
const JOIN_PAUSE: Duration = Duration::from_micros(100);

/// The running kernel.
#[derive(Clone, Copy, Debug, Default)]
pub struct Linux;

/// A time as the kernel takes it: 136 years at the most, for it adds what time it is.
pub(crate) fn timespec(time: Duration) -> __kernel_timespec {
    __kernel_timespec {
        tv_sec: i64::from(u32::try_from(time.as_secs()).unwrap_or(u32::MAX)),
        tv_nsec: i64::from(time.subsec_nanos()),
    }
}

/// The answer of a system call that returns -1 and sets errno on failure.
fn answer(result: libc::c_long) -> Result<u32, Errno> {
    match u32::try_from(result) {
        Ok(count) => Ok(count),
        Err(_) => Err(std::io::Error::last_os_error().into()),
    }
}

// SAFETY: mappings come from mmap with exactly that length and are unmapped only in Mapping::drop;
// the kernel touches what SQEs name, from submission to completion, and nothing else.
unsafe impl Kernel for Linux {
    type File = OwnedFd;
    type Mapping = Mapping;

    type Thread = Option<JoinHandle<()>>;

    fn task(&self) -> Self {
        *self
    }

    fn spawn<W>(&self, name: String, work: W) -> Result<Self::Thread, Errno>
    where
        W: FnOnce(Self) + Send + 'static,
    {
        Ok(Some(std::thread::Builder::new().name(name).spawn(move || work(Self))?))
    }

    fn join(&self, thread: &mut Self::Thread, timeout: Duration) -> bool {
        let deadline = self.now().saturating_add(timeout);
        let ended = |thread: &JoinHandle<()>| thread.is_finished();
        while !thread.as_ref().is_none_or(ended) && self.now() < deadline {
            self.sleep(JOIN_PAUSE);
        }
        if let Some(thread) = thread.take_if(|thread| thread.is_finished()) {
            let _ = thread.join(); // its panic was its own
        }
        thread.is_none()
    }

    fn process(&self) -> u32 {
        std::process::id()
    }

    fn open(&self, path: &CStr) -> Result<OwnedFd, Errno> {
        Ok(rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?)
    }

    fn event(&self) -> Result<OwnedFd, Errno> {
        Ok(rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
    }

    fn signal(&self, event: &OwnedFd) {
        // It can fail only with EAGAIN, when the counter is full: then it is readable already.
        let _ = rustix::io::write(event, &1_u64.to_ne_bytes());
    }

    fn clear(&self, event: &OwnedFd) {
        // It can fail only with EAGAIN, when it is not readable anyway.
        let _ = rustix::io::read(event, &mut [0; 8]);
    }

    fn wait(&self, event: &OwnedFd, timeout: Option<Duration>) -> bool {
        let deadline = timeout.map(|timeout| self.now().saturating_add(timeout));
        loop {
            let left = deadline.map(|end| timespec(end.saturating_sub(self.now())));
            let left = left.map(|time| Timespec { tv_sec: time.tv_sec, tv_nsec: time.tv_nsec });
            match poll(&mut [PollFd::new(event, PollFlags::IN)], left.as_ref()) {
                Ok(readable) => return readable > 0,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return false, // no memory for one file: as good as late
            }
        }
    }

    fn ring_setup(&self, entries: u32, params: &mut io_uring_params) -> Result<OwnedFd, Errno> {
        if params.flags & IORING_SETUP_NO_MMAP != 0 {
            return Err(Errno::EINVAL); // it would let a caller choose the memory that is written
        }
        // SAFETY: `params` is a whole io_uring_params that outlives the call, which alone uses it.
        let result = unsafe { libc::syscall(libc::SYS_io_uring_setup, entries, from_mut(params)) };
        let fd = answer(result)?;
        // SAFETY: the kernel just made this file for us (with O_CLOEXEC), nobody else closes it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd.cast_signed()) })
    }

    fn ring_enter(
        &self,
        ring: RingName<'_, OwnedFd>,
        to_submit: u32,
        min_complete: u32,
        flags: u32,
        timeout: Option<Duration>,
    ) -> Result<u32, Errno> {
        let time = timeout.map(timespec);
        let wait = time.as_ref().map(|time| io_uring_getevents_arg {
            ts: from_ref(time).expose_provenance() as u64,
            ..io_uring_getevents_arg::default()
        });
        let (argument, len_bytes, wait_flags) = match &wait {
            Some(wait) => (from_ref(wait), size_of_val(wait), IORING_ENTER_EXT_ARG),
            None => (core::ptr::null(), 0, 0),
        };
        let (number, name_flags) = match ring {
            RingName::File(file) => (file.as_raw_fd(), 0),
            RingName::Registered(index) => (index.cast_signed(), IORING_ENTER_REGISTERED_RING),
        };
        // SAFETY: `wait` and `time` outlive the call, which only reads them. What the submitted
        // SQEs name is the promise of `ring::Address`.
        let result = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                number,
                to_submit,
                min_complete,
                flags | name_flags | wait_flags,
                argument,
                len_bytes,
            )
        };
        answer(result)
    }

    fn ring_register(&self, ring: &OwnedFd, what: Registration<'_>) -> Result<u32, Errno> {
        let register = |opcode: u32, argument: *mut libc::c_void, count: usize| {
            // SAFETY: each arm below passes an array of `count` elements of the type that the
            // opcode wants, which lives through the call; the kernel keeps no pointer to it.
            answer(unsafe {
                libc::syscall(
                    libc::SYS_io_uring_register,
                    ring.as_raw_fd(),
                    opcode,
                    argument,
                    count,
                )
            })
        };
        let mut update = io_uring_rsrc_update::default();
        match what {
            Registration::Files(files) => register(
                IORING_REGISTER_FILES,
                files.as_ptr().cast_mut().cast(), // only read
                files.len(),
            ),
            Registration::RingFd => {
                update.offset = u32::MAX; // any free index
                update.data = u64::from(ring.as_raw_fd().cast_unsigned());
                register(IORING_REGISTER_RING_FDS, from_mut(&mut update).cast(), 1)?;
                Ok(update.offset)
            }
            Registration::MaxWorkers(bounded) => {
                let mut most = [bounded, 0]; // unbounded ones stay as they are
                register(IORING_REGISTER_IOWQ_MAX_WORKERS, most.as_mut_ptr().cast(), most.len())
            }
            Registration::Buffers(count) => {
                let mut table = io_uring_rsrc_register {
                    nr: count,
                    flags: IORING_RSRC_REGISTER_SPARSE,
                    ..io_uring_rsrc_register::default()
                };
                let bytes = size_of_val(&table);
                register(IORING_REGISTER_BUFFERS2, from_mut(&mut table).cast(), bytes)
            }
            Registration::BufferRing { group, entries } => {
                let mut ring = io_uring_buf_reg {
                    ring_entries: entries.into(),
                    bgid: group,
                    flags: IOU_PBUF_RING_MMAP,
                    ..io_uring_buf_reg::default()
                };
                register(IORING_REGISTER_PBUF_RING, from_mut(&mut ring).cast(), 1)
            }
            Registration::UnregisterRingFd(index) => {
                update.offset = index;
                register(IORING_UNREGISTER_RING_FDS, from_mut(&mut update).cast(), 1)
            }
        }
    }

    fn map(
        &self,
        file: &OwnedFd,
        offset_bytes: u64,
        len_bytes: usize,
        access: Access,
    ) -> Result<Mapping, Errno> {
        let protection = match access {
            Access::Read => ProtFlags::READ,
            Access::ReadWrite => ProtFlags::READ | ProtFlags::WRITE,
        };
        // SAFETY: a new mapping at an address that the kernel chooses disturbs no other memory.
        let base = unsafe {
            rustix::mm::mmap(
                core::ptr::null_mut(),
                len_bytes,
                protection,
                MapFlags::SHARED | MapFlags::POPULATE,
                file,
                offset_bytes,
            )
        }?;
        let base = NonNull::new(base.cast()).ok_or(Errno::EFAULT)?;
        let mapping = Mapping { base, len_bytes };
        // A forked child must not keep the char device alive: DEL_DEV would wait for it.
        // SAFETY: advice on our own fresh mapping; DONTFORK does not change what it holds.
        unsafe { rustix::mm::madvise(base.as_ptr().cast(), len_bytes, Advice::LinuxDontFork) }?;
        Ok(mapping)
    }

    fn read_at(&self, file: &OwnedFd, data: Destination<'_>, offset: u64) -> Result<usize, Errno> {
        let offset = i64::try_from(offset).map_err(|_| Errno::EINVAL)?;
        let (start, len) = (data.start().as_ptr().cast(), data.len_bytes());
        // SAFETY: a destination is valid for writes of that length through the call.
        let count = unsafe { libc::pread64(file.as_raw_fd(), start, len, offset) };
        usize::try_from(count).map_err(|_| std::io::Error::last_os_error().into())
    }

    fn write_at(&self, file: &OwnedFd, data: Source<'_>, offset: u64) -> Result<usize, Errno> {
        let offset = i64::try_from(offset).map_err(|_| Errno::EINVAL)?;
        let (start, len) = (data.start().as_ptr().cast_const().cast(), data.len_bytes());
        // SAFETY: a source is valid for reads of that length through the call.
        let count = unsafe { libc::pwrite64(file.as_raw_fd(), start, len, offset) };
        usize::try_from(count).map_err(|_| std::io::Error::last_os_error().into())
    }

    fn serves_a_disk(&self) {
        // SAFETY: changes a flag of the calling thread and takes no address.
        unsafe { libc::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) };
    }

    fn runs_on(&self, cpus: &[u32]) -> Result<(), Errno> {
        let mut set = CpuSet::new();
        let known = cpus.iter().map(|cpu| *cpu as usize).filter(|cpu| *cpu < CpuSet::MAX_CPU);
        known.for_each(|cpu| set.set(cpu));
        Ok(rustix::thread::sched_setaffinity(None, &set)?)
    }

    fn number(&self, file: &OwnedFd) -> i32 {
        file.as_raw_fd()
    }

    fn now(&self) -> Duration {
        let now = rustix::time::clock_gettime(ClockId::Monotonic);
        // The monotonic clock begins at boot: neither part is ever negative.
        Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
    }

    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }

    fn give_way(&self) {
        std::thread::yield_now();
    }
}

/// A shared mapping of a file.
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<u8>,
    len_bytes: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread; access is the user's business.
unsafe impl Send for Mapping {}
// SAFETY: as above; this type itself never reads or writes the memory.
unsafe impl Sync for Mapping {}

// SAFETY: mmap returned this page-aligned stretch, which only Drop unmaps.
unsafe impl Memory for Mapping {
    fn base(&self) -> NonNull<u8> {
        self.base
    }

    fn len_bytes(&self) -> usize {
        self.len_bytes
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the stretch is ours since Kernel::map, and nobody uses it after this value.
        let unmapped = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len_bytes) };
        debug_assert!(unmapped.is_ok(), "munmap of our own mapping: {unmapped:?}");
    }
}
