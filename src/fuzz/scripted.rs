//! [`Scripted`]: the seam, answered by a [`Machine`].
#![expect(unsafe_code, reason = "the seam is an unsafe trait; docs/safety.md, island `fuzz`")]

use super::input::Input;
use super::machine::{Machine, Part};
use crate::errno::Errno;
use crate::kernel::{Access, Destination, Kernel, Memory, Registration, RingName, Source};
use crate::sim::user::Pages;
use core::ffi::CStr;
use core::ptr::NonNull;
use core::time::Duration;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use ublkit_sys::io_uring::io_uring_params;

/// The kernel as a task sees it.
#[derive(Debug)]
pub(super) struct Scripted<P>(Arc<Mutex<Machine<P>>>);

impl<P> Clone for Scripted<P> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<P: Part> Scripted<P> {
    pub(super) fn new(part: P, script: Input) -> Self {
        Self(Arc::new(Mutex::new(Machine::new(part, script))))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Machine<P>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum File {
    Control,
    Char,
    Event,
    Ring,
}

#[derive(Debug)]
pub(super) struct Mapping(Arc<Pages>);

// SAFETY: the pages live as long as the mapping, are page aligned, and no Rust reference to their
// bytes is made but to atomics.
unsafe impl Memory for Mapping {
    fn base(&self) -> NonNull<u8> {
        self.0.base()
    }

    fn len_bytes(&self) -> usize {
        self.0.len_bytes()
    }
}

// SAFETY: mappings are pages that live as long as they do. By address a `Part` touches only what
// the SQE of a command under way names, before it completes, through calls that check the address.
unsafe impl<P: Part> Kernel for Scripted<P> {
    type File = File;
    type Mapping = Mapping;
    type Thread = ();

    fn task(&self) -> Self {
        self.clone()
    }

    fn spawn<W: FnOnce(Self) + Send + 'static>(&self, _: String, _: W) -> Result<(), Errno> {
        Err(Errno::EAGAIN)
    }

    fn join(&self, (): &mut (), _: Duration) -> bool {
        true
    }

    fn process(&self) -> u32 {
        7
    }

    fn open(&self, path: &CStr) -> Result<File, Errno> {
        Ok(if path == c"/dev/ublk-control" { File::Control } else { File::Char })
    }

    fn event(&self) -> Result<File, Errno> {
        Ok(File::Event)
    }

    fn signal(&self, _: &File) {}

    fn clear(&self, _: &File) {}

    fn wait(&self, _: &File, _: Option<Duration>) -> bool {
        false
    }

    fn ring_setup(&self, entries: u32, params: &mut io_uring_params) -> Result<File, Errno> {
        self.lock().set_up(entries, params)
    }

    fn ring_enter(
        &self,
        _: RingName<'_, File>,
        to_submit: u32,
        min_complete: u32,
        _: u32,
        timeout: Option<Duration>,
    ) -> Result<u32, Errno> {
        self.lock().enter(to_submit, min_complete > 0, timeout)
    }

    fn ring_register(&self, _: &File, what: Registration<'_>) -> Result<u32, Errno> {
        let mut machine = self.lock();
        if let Registration::BufferRing { entries, .. } = what {
            machine.buffers = entries;
        }
        match machine.script.byte() % 4 {
            0 => Err(Errno::EINVAL),
            _ => Ok(0),
        }
    }

    fn map(&self, file: &File, at: u64, len_bytes: usize, _: Access) -> Result<Mapping, Errno> {
        self.lock().map(file, at, len_bytes).map(Mapping)
    }

    fn read_at(&self, _: &File, _: Destination<'_>, _: u64) -> Result<usize, Errno> {
        Err(Errno::EINVAL)
    }

    fn write_at(&self, _: &File, _: Source<'_>, _: u64) -> Result<usize, Errno> {
        Err(Errno::EINVAL)
    }

    fn serves_a_disk(&self) {}

    fn runs_on(&self, _: &[u32]) -> Result<(), Errno> {
        Ok(())
    }

    fn number(&self, file: &File) -> i32 {
        3 + *file as i32
    }

    fn now(&self) -> Duration {
        self.lock().now
    }

    fn sleep(&self, time: Duration) {
        self.lock().now += time;
    }

    fn give_way(&self) {
        self.sleep(Duration::from_micros(1));
    }
}
