//! A kernel seam that counts calls, or gets one thing wrong on purpose.
#![expect(unsafe_code, reason = "the seam is an unsafe trait")]

use rustix::process::Signal;
use std::ffi::CStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use ublkit::Errno;
use ublkit::kernel::{Access, Destination, Kernel, Linux, Registration, RingName, Source};
use ublkit::sys::io_uring::io_uring_params;
use ublkit::sys::ublk::descriptors_offset_bytes;

/// The running kernel, watched.
#[derive(Clone, Debug, Default)]
pub struct Spy {
    /// Calls through the seam so far, sleeps and looks at the clock aside.
    pub calls: Arc<AtomicU64>,
    /// How often a busy wait gave way to others.
    pub looks: Arc<AtomicU64>,
    /// Maps a queue's descriptors at a place that is computed from the queue's own depth: the
    /// mistake that gives every queue the first one's descriptors.
    pub wrong_stride: bool,
    /// The call that fails, counted from 0.
    pub fails_at: Option<u64>,
    /// The call before which the process is killed.
    pub dies_at: Option<u64>,
}

impl Spy {
    /// Counts a call, which may be the one that fails.
    fn count(&self) -> Result<(), Errno> {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        if self.dies_at == Some(number) {
            rustix::process::kill_process(rustix::process::getpid(), Signal::KILL).expect("ours");
        }
        if self.fails_at == Some(number) { Err(Errno::EIO) } else { Ok(()) }
    }
}

type File = <Linux as Kernel>::File;

// SAFETY: hands every call on to Linux; the wrong offset still maps what the driver allows.
unsafe impl Kernel for Spy {
    type File = File;
    type Mapping = <Linux as Kernel>::Mapping;
    type Thread = <Linux as Kernel>::Thread;

    fn task(&self) -> Self {
        self.clone()
    }

    fn spawn<W>(&self, name: String, work: W) -> Result<Self::Thread, Errno>
    where
        W: FnOnce(Self) + Send + 'static,
    {
        self.count()?;
        let task = self.task();
        Linux.spawn(name, move |_| work(task))
    }

    fn join(&self, thread: &mut Self::Thread, timeout: Duration) -> bool {
        Linux.join(thread, timeout)
    }

    fn process(&self) -> u32 {
        Linux.process()
    }

    fn open(&self, path: &CStr) -> Result<File, Errno> {
        self.count()?;
        Linux.open(path)
    }

    fn event(&self) -> Result<File, Errno> {
        self.count()?;
        Linux.event()
    }

    fn signal(&self, event: &File) {
        let _ = self.count();
        Linux.signal(event);
    }

    fn clear(&self, event: &File) {
        Linux.clear(event);
    }

    fn wait(&self, event: &File, timeout: Option<Duration>) -> bool {
        Linux.wait(event, timeout)
    }

    fn ring_setup(&self, entries: u32, params: &mut io_uring_params) -> Result<File, Errno> {
        self.count()?;
        Linux.ring_setup(entries, params)
    }

    fn ring_enter(
        &self,
        ring: RingName<'_, File>,
        to_submit: u32,
        min_complete: u32,
        flags: u32,
        timeout: Option<Duration>,
    ) -> Result<u32, Errno> {
        self.count()?;
        Linux.ring_enter(ring, to_submit, min_complete, flags, timeout)
    }

    fn ring_register(&self, ring: &File, what: Registration<'_>) -> Result<u32, Errno> {
        self.count()?;
        Linux.ring_register(ring, what)
    }

    fn map(
        &self,
        file: &File,
        offset_bytes: u64,
        len_bytes: usize,
        access: Access,
    ) -> Result<Self::Mapping, Errno> {
        self.count()?;
        let stride = descriptors_offset_bytes(1, 24, rustix::param::page_size());
        let wrong = self.wrong_stride && access == Access::Read;
        let offset = if wrong { offset_bytes / stride * len_bytes as u64 } else { offset_bytes };
        Linux.map(file, offset, len_bytes, access)
    }

    fn read_at(&self, file: &File, data: Destination<'_>, offset: u64) -> Result<usize, Errno> {
        self.count()?;
        Linux.read_at(file, data, offset)
    }

    fn write_at(&self, file: &File, data: Source<'_>, offset: u64) -> Result<usize, Errno> {
        self.count()?;
        Linux.write_at(file, data, offset)
    }

    fn serves_a_disk(&self) {
        Linux.serves_a_disk();
    }

    fn runs_on(&self, cpus: &[u32]) -> Result<(), Errno> {
        self.count()?;
        Linux.runs_on(cpus)
    }

    fn number(&self, file: &File) -> i32 {
        Linux.number(file)
    }

    fn now(&self) -> Duration {
        Linux.now()
    }

    fn sleep(&self, time: Duration) {
        Linux.sleep(time);
    }

    fn give_way(&self) {
        self.looks.fetch_add(1, Ordering::Relaxed);
        Linux.give_way();
    }
}
