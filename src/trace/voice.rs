//! What all that listens shares: the clock, the sink, and who is who.

use super::event::{Event, Place, What};
use super::ring::Watch;
use crate::kernel::Kernel;
use core::fmt::{self, Debug};
use core::time::Duration;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Takes events as they happen. Who serves waits for it: it must not take long.
pub trait Sink: Send + 'static {
    /// The next event. Events come in the order of their times.
    fn take(&self, event: Event);
}

/// How much is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Detail {
    /// The addresses of buffers, which differ from run to run.
    pub addresses: bool,
    /// The sums of data, which a replay needs. Costs a copy of all data.
    pub sums: bool,
}

impl Detail {
    /// What a replay needs, and all else that there is.
    pub const ALL: Self = Self { addresses: true, sums: true };

    /// What is the same whenever the same is done again: no addresses.
    pub const REPEATABLE: Self = Self { addresses: false, sums: true };
}

impl Default for Detail {
    /// What people read: no sums.
    fn default() -> Self {
        Self { addresses: true, sums: false }
    }
}

/// Locks what no panic of ours leaves half done.
pub(super) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a file is.
pub(super) enum Kind<M> {
    Control,
    Char(Arc<CharDevice<M>>),
    Ring(Arc<Watch<M>>),
    Event,
}

impl<M> Clone for Kind<M> {
    fn clone(&self) -> Self {
        match self {
            Self::Control => Self::Control,
            Self::Char(device) => Self::Char(Arc::clone(device)),
            Self::Ring(ring) => Self::Ring(Arc::clone(ring)),
            Self::Event => Self::Event,
        }
    }
}

/// An open char device.
pub(super) struct CharDevice<M> {
    pub(super) id: u32,
    /// Stretches of its descriptors that are mapped, by their offsets.
    pub(super) descriptors: Mutex<Vec<(u64, Weak<M>)>>,
}

/// A file of a kernel that is listened to.
pub struct File<K: Kernel> {
    pub(super) inner: K::File,
    pub(super) kind: Kind<K::Mapping>,
    pub(super) number: i32,
    pub(super) shared: Arc<Shared<K::Mapping>>,
}

impl<K: Kernel> Debug for File<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl<K: Kernel> Drop for File<K> {
    fn drop(&mut self) {
        // Before it is closed: then its number may be another's.
        lock(&self.shared.files).remove(&self.number);
    }
}

impl<K: Kernel<File: AsFd>> AsFd for File<K> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

/// What all tasks share.
pub(super) struct Shared<M> {
    start: Duration,
    pub(super) detail: Detail,
    sink: Mutex<Box<dyn Sink>>,
    /// Open files by the numbers that SQEs call them.
    pub(super) files: Mutex<BTreeMap<i32, Kind<M>>>,
    /// Bytes from one I/O descriptor to the next, by device.
    pub(super) descriptor_bytes: Mutex<BTreeMap<u32, u16>>,
}

/// A task's way to the sink.
pub(super) struct Voice<K: Kernel> {
    pub(super) kernel: Arc<K>,
    pub(super) shared: Arc<Shared<K::Mapping>>,
    pub(super) task: Arc<str>,
}

impl<K: Kernel> Clone for Voice<K> {
    fn clone(&self) -> Self {
        let Self { kernel, shared, task } = self;
        Self { kernel: Arc::clone(kernel), shared: Arc::clone(shared), task: Arc::clone(task) }
    }
}

impl<K: Kernel> Debug for Voice<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kernel.fmt(f)
    }
}

impl<K: Kernel> Voice<K> {
    pub(super) fn new(kernel: K, detail: Detail, sink: impl Sink) -> Self {
        let shared = Shared {
            start: kernel.now(),
            detail,
            sink: Mutex::new(Box::new(sink)),
            files: Mutex::default(),
            descriptor_bytes: Mutex::default(),
        };
        Self { kernel: Arc::new(kernel), shared: Arc::new(shared), task: "owner".into() }
    }

    /// The time since the trace began.
    pub(super) fn now(&self) -> Duration {
        self.kernel.now().saturating_sub(self.shared.start)
    }

    /// Tells what happens now; `what` is told the time. The order of events is that of their times,
    /// whichever threads they come from.
    pub(super) fn say(&self, what: impl FnOnce(Duration) -> What) {
        let sink = lock(&self.shared.sink);
        let at = self.now();
        sink.take(Event { at, task: Arc::clone(&self.task), what: what(at) });
    }

    /// What is told of a place: no addresses, unless they are wanted.
    pub(super) fn told(&self, place: Place) -> Place {
        match place {
            Place::Buffer(_) if !self.shared.detail.addresses => Place::Nowhere,
            place => place,
        }
    }
}
