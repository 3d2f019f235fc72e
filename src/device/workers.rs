//! [`Workers`]: the threads of a device's queues, one or more of each.

use crate::backend::Target;
use crate::error::Error;
use crate::kernel::Kernel;
use crate::queue::{Calls, Queue, QueueError, QueuePlan, QueueStats, Turn};
use crate::recovery::Recovery;
use crate::slots::Share;
use crate::wake::Wakers;
use core::time::Duration;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

/// What a worker tells the server's owner.
#[derive(Debug)]
enum Report<F> {
    /// All slots were offered to the driver.
    Ready,
    /// The thread is about to end, with nothing of the device left in its hands.
    Ended(End<F>),
}

/// How a worker ended.
#[derive(Debug)]
struct End<F> {
    worker: usize,
    what: Result<QueueStats, QueueError>,
    /// Its ring, if the device is the next server's, to be closed when the thread is no more.
    /// Before 6.15 what was on its way to a living thread whose ring is closed never ends; an
    /// ending one fails it.
    ring: Option<Arc<F>>,
}

/// The threads of a device's queues.
#[derive(Debug)]
pub(super) struct Workers<K: Kernel> {
    device: u32,
    /// How many each queue has.
    threads_per_queue: u16,
    shared: Arc<Shared<K>>,
    /// Queue after queue, each thread until it was joined; none where it could not be made.
    threads: Vec<Option<K::Thread>>,
    reports: Receiver<Report<K::File>>,
    sender: Sender<Report<K::File>>,
    /// Ends that were reported.
    ends: Vec<End<K::File>>,
}

/// What a worker needs to tell the others.
#[derive(Debug)]
struct Shared<K: Kernel> {
    kernel: K,
    /// Whether all queues shall leave,
    leave: Arc<AtomicBool>,
    /// or answer what they have and leave then, for the driver sends nothing new.
    drain: AtomicBool,
    /// Whether the device is the next server's,
    leaves_device: AtomicBool,
    /// and with it the requests that nobody has answered.
    leaves_requests: AtomicBool,
    /// and an event for each, in case it sleeps.
    wakes: Vec<Arc<K::File>>,
    /// Readable while there are reports to read.
    reported: K::File,
    /// Readable once a queue has ended, for ever.
    ended: K::File,
}

impl<K: Kernel> Shared<K> {
    fn report(&self, sender: &Sender<Report<K::File>>, report: Report<K::File>) {
        let _ = sender.send(report); // an owner who does not listen any more
        self.kernel.signal(&self.reported);
    }

    fn wake_all(&self) {
        self.leave.store(true, Ordering::Relaxed);
        self.wake();
    }

    fn wake(&self) {
        for wake in &self.wakes {
            self.kernel.signal(wake);
        }
    }
}

impl<K: Kernel> Workers<K> {
    /// No threads yet, but their events.
    pub(super) fn new(
        kernel: K,
        device: u32,
        queues: u16,
        threads_per_queue: u16,
    ) -> Result<Self, Error> {
        let failed =
            |queue| move |errno| Error::Queue { device, queue, error: QueueError::Event(errno) };
        let mut wakes = Vec::new();
        for queue in 0..queues {
            for _ in 0..threads_per_queue {
                wakes.push(Arc::new(kernel.event().map_err(failed(queue))?));
            }
        }
        let reported = kernel.event().map_err(failed(0))?;
        let ended = kernel.event().map_err(failed(0))?;
        let (sender, reports) = channel();
        let leave = Arc::default();
        let shared = Arc::new(Shared {
            kernel,
            leave,
            drain: AtomicBool::new(false),
            leaves_device: AtomicBool::new(false),
            leaves_requests: AtomicBool::new(false),
            wakes,
            reported,
            ended,
        });
        let (threads, ends) = (Vec::new(), Vec::new());
        Ok(Self { device, threads_per_queue, shared, threads, reports, sender, ends })
    }

    /// The event that the plan of such a thread carries.
    pub(super) fn wake(&self, queue: u16, share: Share) -> Arc<K::File> {
        Arc::clone(&self.shared.wakes[self.worker(queue, share)])
    }

    /// Which of all threads it is.
    fn worker(&self, queue: u16, share: Share) -> usize {
        usize::from(queue) * usize::from(self.threads_per_queue) + usize::from(share.thread)
    }

    /// The queue that a thread serves.
    fn queue(&self, worker: usize) -> u16 {
        u16::try_from(worker / usize::from(self.threads_per_queue)).unwrap_or(u16::MAX)
    }

    /// What wakes the requests of a thread of a queue with so many slots, if that is needed.
    pub(super) fn calls(
        &self,
        queue: u16,
        depth: u16,
        needed: bool,
    ) -> Result<Option<Calls<K::File>>, Error> {
        if !needed {
            return Ok(None);
        }
        let event = self.shared.kernel.event();
        let event = Arc::new(event.map_err(|errno| {
            let (device, error) = (self.device, QueueError::Event(errno));
            Error::Queue { device, queue, error }
        })?);
        let (kernel, own) = (self.shared.kernel.task(), Arc::clone(&event));
        let wakers = Wakers::new(depth, move || kernel.signal(&own));
        Ok(Some(Calls { event, wakers }))
    }

    /// What tells the queues to leave between two requests.
    pub(super) fn leave(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.shared.leave)
    }

    /// What becomes of the device when its queues leave: whether they must not answer what is the
    /// next server's with errors.
    pub(super) fn leave_device(&self, recovery: Recovery) {
        let Shared { leaves_device, leaves_requests, .. } = &*self.shared;
        leaves_device.store(recovery != Recovery::None, Ordering::Relaxed);
        leaves_requests.store(recovery == Recovery::Reissue, Ordering::Relaxed);
    }

    /// The queues fail what they have and what still comes, without calling their handlers.
    pub(super) fn fail_all(&self) {
        self.shared.wake_all();
    }

    /// The driver sends nothing new: the queues answer what they have, and leave.
    pub(super) fn drain(&self) {
        self.shared.drain.store(true, Ordering::Relaxed);
        self.shared.wake();
    }

    /// Makes a thread, the next in the order of queues and shares.
    pub(super) fn spawn<T: Target>(
        &mut self,
        plan: QueuePlan<K::File>,
        target: Arc<T>,
    ) -> Result<(), Error> {
        let last_word = LastWord {
            worker: self.threads.len(),
            what: Ok(QueueStats::default()), // of a thread that never was, nothing is to be told
            ring: None,
            sender: self.sender.clone(),
            shared: Arc::clone(&self.shared),
        };
        let name = name(plan.device, plan.queue, plan.share);
        let thread = self.shared.kernel.spawn(name, move |kernel| {
            work(kernel, plan, target, last_word);
        });
        // Where there is no thread, its last word was said all the same.
        let (thread, result) = match thread {
            Ok(thread) => (Some(thread), Ok(())),
            Err(errno) => {
                self.shared.wake_all();
                (None, Err(Error::Thread(errno)))
            }
        };
        self.threads.push(thread);
        result
    }

    /// Waits until all threads have offered their slots to the driver.
    pub(super) fn ready(&mut self, deadline: Duration) -> Result<(), Error> {
        for worker in 0..self.threads.len() {
            match self.next(deadline) {
                Some(Report::Ready) => {}
                Some(Report::Ended(end)) => {
                    let error = end.what.err().unwrap_or(QueueError::Stopped);
                    let error = self.error(end.worker, error);
                    self.ends.push(end);
                    return Err(error);
                }
                None => return Err(self.error(worker, QueueError::Late)),
            }
        }
        Ok(())
    }

    /// Waits until all threads have ended: by themselves until `deadline`, then, woken, for
    /// `grace`. Answers what the queues did, or the first error; [`QueueError::Late`] when a thread
    /// did not end at all, which then goes on without us.
    pub(super) fn end(
        &mut self,
        deadline: Duration,
        grace: Duration,
    ) -> Result<Vec<QueueStats>, Error> {
        if !self.collect(deadline) {
            self.shared.wake_all();
        }
        let last = self.shared.kernel.now().saturating_add(grace);
        self.collect(last);
        self.join_ended(last);
        if let Some(late) = self.threads.iter().position(Option::is_some) {
            return Err(self.error(late, QueueError::Late));
        }
        self.ends.sort_by_key(|end| end.worker);
        let mut queues = Vec::new();
        for End { worker, what, .. } in &self.ends {
            let stats = what.map_err(|error| self.error(*worker, error))?;
            queues.resize(usize::from(self.queue(*worker)) + 1, QueueStats::default());
            queues[usize::from(self.queue(*worker))] += stats;
        }
        Ok(queues)
    }

    /// Closes the rings of threads that have ended by now. Since 6.15 the driver answers what they
    /// had only when all are closed, and STOP_DEV and QUIESCE_DEV wait for that.
    pub(super) fn close_ended(&mut self, grace: Duration) {
        let now = self.shared.kernel.now();
        self.collect(now);
        self.join_ended(now.saturating_add(grace));
    }

    fn join_ended(&mut self, deadline: Duration) {
        for index in 0..self.ends.len() {
            self.join(index, deadline);
        }
    }

    /// Joins a thread that has sent its last word. What is left of it is short, but for destructors
    /// of a backend's own thread-locals.
    fn join(&mut self, index: usize, deadline: Duration) {
        let kernel = &self.shared.kernel;
        let left = deadline.saturating_sub(kernel.now());
        let end = &mut self.ends[index];
        let thread = &mut self.threads[end.worker];
        thread.take_if(|thread| kernel.join(thread, left));
        if thread.is_none() {
            end.ring = None;
        }
    }

    /// Collects reports until all threads have ended; whether they have.
    fn collect(&mut self, deadline: Duration) -> bool {
        while self.ends.len() < self.threads.len() {
            match self.next(deadline) {
                Some(Report::Ready) => {}
                Some(Report::Ended(end)) => self.ends.push(end),
                None => return false,
            }
        }
        true
    }

    /// The next report until `deadline`.
    fn next(&self, deadline: Duration) -> Option<Report<K::File>> {
        let Shared { kernel, reported, .. } = &*self.shared;
        loop {
            if let Ok(report) = self.reports.try_recv() {
                return Some(report);
            }
            let left = deadline.saturating_sub(kernel.now());
            if !kernel.wait(reported, Some(left)) {
                return None;
            }
            kernel.clear(reported); // before the look: what is sent from here on is signalled anew
        }
    }

    /// Readable once a queue has ended.
    pub(super) fn ended(&self) -> &K::File {
        &self.shared.ended
    }

    fn error(&self, worker: usize, error: QueueError) -> Error {
        Error::Queue { device: self.device, queue: self.queue(worker), error }
    }
}

/// What a thread is called: the kernel keeps fifteen letters.
fn name(device: u32, queue: u16, share: Share) -> String {
    match share {
        Share { threads: 1, .. } => format!("ublk{device}-q{queue}"),
        Share { thread, .. } => format!("ublk{device}-q{queue}.{thread}"),
    }
}

/// What a worker says when it ends, however it ends: a panic included.
struct LastWord<K: Kernel> {
    worker: usize,
    what: Result<QueueStats, QueueError>,
    ring: Option<Arc<K::File>>,
    sender: Sender<Report<K::File>>,
    shared: Arc<Shared<K>>,
}

impl<K: Kernel> Drop for LastWord<K> {
    fn drop(&mut self) {
        let Self { worker, what, ref mut ring, ref sender, ref shared } = *self;
        if what.is_err() {
            shared.wake_all(); // a device does not limp along with a dead queue
        }
        let ring = ring.take().filter(|_| shared.leaves_device.load(Ordering::Relaxed));
        shared.report(sender, Report::Ended(End { worker, what, ring }));
        shared.kernel.signal(&shared.ended);
    }
}

/// A worker's whole life.
fn work<K: Kernel, T: Target>(
    kernel: K,
    plan: QueuePlan<K::File>,
    target: Arc<T>,
    mut last_word: LastWord<K>,
) {
    last_word.what = Err(QueueError::Panicked);
    // Handlers are caught where the queue calls them; this is for our own defects, and for a target
    // that panics when it makes a handler.
    let serving = || serve(kernel, plan, &*target, &mut last_word);
    let (what, handler) = match catch_unwind(AssertUnwindSafe(serving)) {
        Ok(Ok((end, handler))) => (end, Some(handler)),
        Ok(Err(error)) => (Err(error), None),
        Err(panic) => {
            std::mem::forget(panic); // its own drop might panic again
            (Err(QueueError::Panicked), None)
        }
    };
    last_word.what = what;
    drop(last_word);
    // The driver has all back, and the owner knows. What a backend does when it is dropped is its
    // own affair; the owner waits a little for it.
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop((handler, target)))) {
        std::mem::forget(panic);
    }
}

/// Serves one queue, or its share of it, until its end, and leaves the handler. Nothing of the
/// device is held after that, but its ring by the last word.
fn serve<K: Kernel, T: Target>(
    kernel: K,
    plan: QueuePlan<K::File>,
    target: &T,
    last_word: &mut LastWord<K>,
) -> Result<(Result<QueueStats, QueueError>, T::Handler), QueueError> {
    let LastWord { ring, sender, shared, .. } = last_word;
    kernel.serves_a_disk();
    // Before any memory is touched, which then is near.
    if !plan.cpus.is_empty() {
        kernel.runs_on(&plan.cpus).map_err(QueueError::Cpus)?;
    }
    let handler = target.handler(&plan.info()).map_err(QueueError::Handler)?;
    let mut queue = Queue::new(kernel, plan, handler)?;
    queue.offer_all()?;
    *ring = Some(queue.ring_file());
    shared.report(sender, Report::Ready);
    let end = loop {
        match queue.turn() {
            Ok(Turn::Live) => {}
            Ok(Turn::Stopped) => break Ok(Turn::Stopped),
            Ok(Turn::Woken) => {
                let drains = shared.drain.load(Ordering::Relaxed);
                break if drains { queue.drain() } else { Ok(Turn::Woken) };
            }
            Err(error) => break Err(error),
        }
    };
    if end.is_err() {
        // Before anything that may take its time; the owner may stop the device.
        shared.wake_all();
        shared.kernel.signal(&shared.ended);
    }
    if end != Ok(Turn::Stopped) && !shared.leaves_requests.load(Ordering::Relaxed) {
        queue.fail_all(!shared.leaves_device.load(Ordering::Relaxed));
    }
    let end = end.map(|_| queue.stats());
    Ok((end, queue.into_handler()))
}
