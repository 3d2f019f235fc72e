//! The line between the library and its kernel, where callgrind can see it.
#![expect(unsafe_code, reason = "the seam is an unsafe trait")]

use std::ffi::CStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use ublkit::Errno;
use ublkit::kernel::{Access, Destination, Kernel, Registration, RingName, Source};
use ublkit::sys::io_uring::io_uring_params;

/// What callgrind counts: a queue's thread. It knows the function by its name.
#[inline(never)]
fn the_librarys_work(work: impl FnOnce()) {
    work();
}

/// What it leaves out of that: the kernel's answers.
#[inline(never)]
fn the_kernels_work<T>(work: impl FnOnce() -> T) -> T {
    work()
}

/// Patterns of the functions at whose beginning and end callgrind turns over.
pub const TURNS: [&str; 2] = ["*::the_librarys_work*", "*::the_kernels_work*"];

/// Another kernel, whose work is told apart from the library's, and whose calls by queues' threads
/// are counted.
#[derive(Clone, Debug)]
pub struct Apart<K> {
    kernel: K,
    is_queue: bool,
    pub calls: Arc<AtomicU64>,
}

impl<K> Apart<K> {
    pub fn new(kernel: K) -> Self {
        Self { kernel, is_queue: false, calls: Arc::default() }
    }

    /// What costs a system call on Linux.
    fn call<T>(&self, work: impl FnOnce(&K) -> T) -> T {
        the_kernels_work(move || {
            if self.is_queue {
                self.calls.fetch_add(1, Ordering::Relaxed);
            }
            work(&self.kernel)
        })
    }
}

// SAFETY: hands every call on to a kernel that keeps the promises.
unsafe impl<K: Kernel> Kernel for Apart<K> {
    type File = K::File;
    type Mapping = K::Mapping;
    type Thread = K::Thread;

    fn task(&self) -> Self {
        the_kernels_work(|| Self {
            kernel: self.kernel.task(),
            is_queue: false,
            calls: Arc::clone(&self.calls),
        })
    }

    fn spawn<W>(&self, name: String, work: W) -> Result<Self::Thread, Errno>
    where
        W: FnOnce(Self) + Send + 'static,
    {
        let calls = Arc::clone(&self.calls);
        self.kernel.spawn(name, move |kernel| {
            the_librarys_work(|| work(Self { kernel, is_queue: true, calls }));
        })
    }

    fn join(&self, thread: &mut Self::Thread, timeout: Duration) -> bool {
        self.call(|kernel| kernel.join(thread, timeout))
    }

    fn process(&self) -> u32 {
        self.call(|kernel| kernel.process())
    }

    fn open(&self, path: &CStr) -> Result<K::File, Errno> {
        self.call(|kernel| kernel.open(path))
    }

    fn event(&self) -> Result<K::File, Errno> {
        self.call(K::event)
    }

    fn signal(&self, event: &K::File) {
        self.call(|kernel| kernel.signal(event));
    }

    fn clear(&self, event: &K::File) {
        self.call(|kernel| kernel.clear(event));
    }

    fn wait(&self, event: &K::File, timeout: Option<Duration>) -> bool {
        self.call(|kernel| kernel.wait(event, timeout))
    }

    fn ring_setup(&self, entries: u32, params: &mut io_uring_params) -> Result<K::File, Errno> {
        self.call(|kernel| kernel.ring_setup(entries, params))
    }

    fn ring_enter(
        &self,
        ring: RingName<'_, K::File>,
        to_submit: u32,
        min_complete: u32,
        flags: u32,
        timeout: Option<Duration>,
    ) -> Result<u32, Errno> {
        // By value, as a system call's arguments are: to refer to each costs the caller twelve.
        self.call(move |kernel| kernel.ring_enter(ring, to_submit, min_complete, flags, timeout))
    }

    fn ring_register(&self, ring: &K::File, what: Registration<'_>) -> Result<u32, Errno> {
        self.call(|kernel| kernel.ring_register(ring, what))
    }

    fn map(
        &self,
        file: &K::File,
        offset_bytes: u64,
        len_bytes: usize,
        access: Access,
    ) -> Result<K::Mapping, Errno> {
        self.call(|kernel| kernel.map(file, offset_bytes, len_bytes, access))
    }

    fn read_at(&self, file: &K::File, data: Destination<'_>, offset: u64) -> Result<usize, Errno> {
        self.call(|kernel| kernel.read_at(file, data, offset))
    }

    fn write_at(&self, file: &K::File, data: Source<'_>, offset: u64) -> Result<usize, Errno> {
        self.call(|kernel| kernel.write_at(file, data, offset))
    }

    fn serves_a_disk(&self) {
        self.call(K::serves_a_disk);
    }

    fn runs_on(&self, cpus: &[u32]) -> Result<(), Errno> {
        self.call(|kernel| kernel.runs_on(cpus))
    }

    // What follows costs none: a look at a handle, and the clock, which is a page of the kernel's.

    fn number(&self, file: &K::File) -> i32 {
        the_kernels_work(|| self.kernel.number(file))
    }

    fn now(&self) -> Duration {
        the_kernels_work(|| self.kernel.now())
    }

    fn sleep(&self, time: Duration) {
        self.call(|kernel| kernel.sleep(time));
    }

    fn give_way(&self) {
        self.call(Kernel::give_way);
    }
}
