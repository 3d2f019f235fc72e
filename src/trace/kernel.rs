//! [`Traced`]: a kernel that tells what is said to it.
#![expect(unsafe_code, reason = "the seam is an unsafe trait; docs/safety.md, island `trace`")]

use super::event::What;
use super::ring::Watch;
use super::target::TracedTarget;
use super::view::Mapping;
use super::voice::{CharDevice, Detail, File, Kind, Sink, Voice, lock};
use crate::backend::Target;
use crate::errno::Errno;
use crate::kernel::{Access, Destination, Kernel, Registration, RingName, Source};
use core::ffi::CStr;
use core::fmt;
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use ublkit_sys::io_uring::{
    IORING_OFF_PBUF_RING, IORING_OFF_SQ_RING, IORING_OFF_SQES, io_uring_params,
};

/// A kernel around another one: hands every call on, and tells a [`Sink`] what is said in rings,
/// read from the memory that the server shares with the kernel.
///
/// What it hears is what the kernel hears, not what the server meant to say.
pub struct Traced<K: Kernel> {
    pub(super) voice: Voice<K>,
    /// The rings that this task has registered, by their indices.
    registered: Mutex<BTreeMap<u32, Arc<Watch<K::Mapping>>>>,
}

impl<K: Kernel> Traced<K> {
    /// Tells `sink` what is said to `kernel` from now on. The calling thread is the `owner`.
    pub fn new(kernel: K, detail: Detail, sink: impl Sink) -> Self {
        Self::of(Voice::new(kernel, detail, sink))
    }

    /// `target`, whose operations are told as well.
    pub fn watch<T: Target>(&self, target: T) -> TracedTarget<T, K> {
        TracedTarget::new(target, self.voice.clone())
    }

    fn of(voice: Voice<K>) -> Self {
        Self { voice, registered: Mutex::default() }
    }

    /// Tells of a call that failed.
    fn told<T>(&self, call: &'static str, result: Result<T, Errno>) -> Result<T, Errno> {
        if let Err(errno) = result {
            self.voice.say(|_| What::Failed { call, errno });
        }
        result
    }

    fn file(&self, inner: K::File, kind: Kind<K::Mapping>) -> File<K> {
        let number = self.voice.kernel.number(&inner);
        let shared = Arc::clone(&self.voice.shared);
        lock(&shared.files).insert(number, kind.clone());
        File { inner, kind, number, shared }
    }
}

impl<K: Kernel> fmt::Debug for Traced<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Traced").field(&self.voice).finish()
    }
}

// SAFETY: hands every call on to a kernel that keeps these promises. It reads the memory that SQEs
// name, as a kernel may, only while that kernel may: before their submission returns, and before
// the server can have seen their completion (`tell_cqes`).
unsafe impl<K: Kernel> Kernel for Traced<K> {
    type File = File<K>;
    type Mapping = Mapping<K::Mapping>;
    type Thread = K::Thread;

    fn task(&self) -> Self {
        let kernel = Arc::new(self.voice.kernel.task());
        Self::of(Voice { kernel, ..self.voice.clone() })
    }

    fn spawn<W>(&self, name: String, work: W) -> Result<K::Thread, Errno>
    where
        W: FnOnce(Self) + Send + 'static,
    {
        let task: Arc<str> = name.as_str().into();
        let shared = Arc::clone(&self.voice.shared);
        let spawned = self.voice.kernel.spawn(name, move |kernel| {
            work(Self::of(Voice { kernel: Arc::new(kernel), shared, task }));
        });
        self.told("clone", spawned)
    }

    fn join(&self, thread: &mut K::Thread, timeout: Duration) -> bool {
        self.voice.kernel.join(thread, timeout)
    }

    fn process(&self) -> u32 {
        self.voice.kernel.process()
    }

    fn open(&self, path: &CStr) -> Result<File<K>, Errno> {
        let file = self.told("open", self.voice.kernel.open(path))?;
        let id = path.to_str().ok().and_then(|path| path.strip_prefix("/dev/ublkc")?.parse().ok());
        let kind = match id {
            Some(id) => Kind::Char(Arc::new(CharDevice { id, descriptors: Mutex::default() })),
            None => Kind::Control,
        };
        Ok(self.file(file, kind))
    }

    fn event(&self) -> Result<File<K>, Errno> {
        let file = self.told("eventfd", self.voice.kernel.event())?;
        Ok(self.file(file, Kind::Event))
    }

    fn signal(&self, event: &File<K>) {
        self.voice.kernel.signal(&event.inner);
    }

    fn clear(&self, event: &File<K>) {
        self.voice.kernel.clear(&event.inner);
    }

    fn wait(&self, event: &File<K>, timeout: Option<Duration>) -> bool {
        self.voice.kernel.wait(&event.inner, timeout)
    }

    fn ring_setup(&self, entries: u32, params: &mut io_uring_params) -> Result<File<K>, Errno> {
        let made = self.voice.kernel.ring_setup(entries, params);
        let file = self.told("io_uring_setup", made)?;
        let (submissions, completions) = (params.sq_entries, params.cq_entries);
        self.voice.say(|_| What::Ring { submissions, completions, flags: params.flags });
        Ok(self.file(file, Kind::Ring(Arc::new(Watch::new(*params)))))
    }

    fn ring_enter(
        &self,
        ring: RingName<'_, File<K>>,
        to_submit: u32,
        min_complete: u32,
        flags: u32,
        timeout: Option<Duration>,
    ) -> Result<u32, Errno> {
        let (inner, watch) = match ring {
            RingName::File(file) => (RingName::File(&file.inner), file.ring()),
            RingName::Registered(index) => {
                (RingName::Registered(index), lock(&self.registered).get(&index).cloned())
            }
        };
        if let Some(watch) = &watch {
            self.tell_cqes(watch, true);
            self.tell_sqes(watch, to_submit);
        }
        let kernel = &self.voice.kernel;
        let entered = kernel.ring_enter(inner, to_submit, min_complete, flags, timeout);
        if let Some(watch) = &watch {
            self.tell_cqes(watch, false);
        }
        match entered {
            Ok(taken) if taken < to_submit => {
                self.voice.say(|_| What::Short { taken, offered: to_submit });
            }
            // A deadline that passed is no failure.
            Ok(_) | Err(Errno::ETIME) => {}
            Err(errno) => self.voice.say(|_| What::Failed { call: "io_uring_enter", errno }),
        }
        entered
    }

    fn ring_register(&self, ring: &File<K>, what: Registration<'_>) -> Result<u32, Errno> {
        enum Noted<'a> {
            Files(&'a [i32]),
            Ring,
            NoRing(u32),
            Nothing,
        }
        let noted = match what {
            Registration::Files(numbers) => Noted::Files(numbers),
            Registration::RingFd => Noted::Ring,
            Registration::UnregisterRingFd(index) => Noted::NoRing(index),
            Registration::MaxWorkers(_)
            | Registration::Buffers(_)
            | Registration::BufferRing { .. } => Noted::Nothing,
        };
        let registered = self.voice.kernel.ring_register(&ring.inner, what);
        let answer = self.told("io_uring_register", registered)?;
        let watch = ring.ring();
        match (noted, watch) {
            (Noted::Files(numbers), Some(watch)) => {
                let files = lock(&self.voice.shared.files);
                let kinds = numbers.iter().map(|number| files.get(number).cloned());
                watch.lock().fixed = kinds.collect();
            }
            (Noted::Ring, Some(watch)) => drop(lock(&self.registered).insert(answer, watch)),
            (Noted::NoRing(index), _) => drop(lock(&self.registered).remove(&index)),
            _ => {}
        }
        Ok(answer)
    }

    fn map(
        &self,
        file: &File<K>,
        offset_bytes: u64,
        len_bytes: usize,
        access: Access,
    ) -> Result<Mapping<K::Mapping>, Errno> {
        let mapped = self.voice.kernel.map(&file.inner, offset_bytes, len_bytes, access);
        let mapping = Arc::new(self.told("mmap", mapped)?);
        match &file.kind {
            Kind::Ring(watch) if offset_bytes == IORING_OFF_SQ_RING => {
                watch.lock().set_indices(&mapping);
            }
            Kind::Ring(watch) if offset_bytes == IORING_OFF_SQES => {
                watch.lock().set_sqes(&mapping);
            }
            Kind::Ring(watch) if offset_bytes & IORING_OFF_PBUF_RING == IORING_OFF_PBUF_RING => {
                watch.lock().set_provided(&mapping);
            }
            Kind::Char(device) => {
                let mut descriptors = lock(&device.descriptors);
                descriptors.retain(|(_, memory)| memory.strong_count() > 0);
                descriptors.push((offset_bytes, Arc::downgrade(&mapping)));
            }
            Kind::Ring(_) | Kind::Control | Kind::Event => {}
        }
        Ok(Mapping(mapping))
    }

    fn read_at(&self, file: &File<K>, data: Destination<'_>, place: u64) -> Result<usize, Errno> {
        let len_bytes = data.len_bytes() as u64;
        let copied = self.voice.kernel.read_at(&file.inner, data, place);
        self.voice.say(|_| What::Copied { reads: true, place, len_bytes, result: count(copied) });
        copied
    }

    fn write_at(&self, file: &File<K>, data: Source<'_>, place: u64) -> Result<usize, Errno> {
        let len_bytes = data.len_bytes() as u64;
        let copied = self.voice.kernel.write_at(&file.inner, data, place);
        self.voice.say(|_| What::Copied { reads: false, place, len_bytes, result: count(copied) });
        copied
    }

    fn serves_a_disk(&self) {
        self.voice.kernel.serves_a_disk();
    }

    fn runs_on(&self, cpus: &[u32]) -> Result<(), Errno> {
        self.voice.kernel.runs_on(cpus)
    }

    fn number(&self, file: &File<K>) -> i32 {
        file.number
    }

    fn now(&self) -> Duration {
        self.voice.kernel.now()
    }

    fn sleep(&self, time: Duration) {
        self.voice.kernel.sleep(time);
    }

    fn give_way(&self) {
        self.voice.kernel.give_way();
    }
}

impl<K: Kernel> File<K> {
    fn ring(&self) -> Option<Arc<Watch<K::Mapping>>> {
        match &self.kind {
            Kind::Ring(watch) => Some(Arc::clone(watch)),
            _ => None,
        }
    }
}

/// A count, or a negated errno.
fn count(copied: Result<usize, Errno>) -> i64 {
    match copied {
        Ok(count) => i64::try_from(count).unwrap_or(i64::MAX),
        Err(errno) => -i64::from(errno.number()),
    }
}
