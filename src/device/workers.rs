//! [`Workers`]: the threads of a device's queues.

use crate::backend::Target;
use crate::errno::Errno;
use crate::error::Error;
use crate::kernel::Kernel;
use crate::queue::{Queue, QueueError, QueuePlan, QueueStats, Turn};
use core::time::Duration;
use rustix::event::EventfdFlags;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Instant;

/// What a worker tells the server's owner.
#[derive(Debug)]
enum Report {
    /// All slots were offered to the driver.
    Ready,
    /// The thread is about to end, with nothing left in its hands.
    Ended { queue: u16, end: Result<QueueStats, QueueError> },
}

/// The threads of a device's queues.
#[derive(Debug)]
pub(super) struct Workers<K: Kernel> {
    device: u32,
    shared: Arc<Shared<K>>,
    threads: Vec<Option<JoinHandle<()>>>,
    reports: Receiver<Report>,
    sender: Sender<Report>,
    /// Ends that were reported.
    ends: Vec<(u16, Result<QueueStats, QueueError>)>,
}

/// What a worker needs to tell the others.
#[derive(Debug)]
struct Shared<K: Kernel> {
    kernel: K,
    /// One event for each queue: it shall leave.
    wakes: Vec<Arc<K::File>>,
    /// Readable once a queue has ended.
    ended: OwnedFd,
}

impl<K: Kernel> Shared<K> {
    fn wake_all(&self) {
        for wake in &self.wakes {
            self.kernel.signal(wake);
        }
    }
}

impl<K: Kernel> Workers<K> {
    /// No threads yet, but their events.
    pub(super) fn new(kernel: K, device: u32, queues: u16) -> Result<Self, Error> {
        let failed =
            |queue| move |errno| Error::Queue { device, queue, error: QueueError::Event(errno) };
        let mut wakes = Vec::with_capacity(usize::from(queues));
        for queue in 0..queues {
            wakes.push(Arc::new(kernel.event().map_err(failed(queue))?));
        }
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let ended =
            rustix::event::eventfd(0, flags).map_err(|errno| failed(0)(Errno::from(errno)))?;
        let (sender, reports) = channel();
        let shared = Arc::new(Shared { kernel, wakes, ended });
        Ok(Self { device, shared, threads: Vec::new(), reports, sender, ends: Vec::new() })
    }

    /// The event that queue `queue`'s plan carries.
    pub(super) fn wake(&self, queue: u16) -> Arc<K::File> {
        Arc::clone(&self.shared.wakes[usize::from(queue)])
    }

    /// Makes the thread of one queue.
    pub(super) fn spawn<T: Target>(
        &mut self,
        plan: QueuePlan<K::File>,
        target: Arc<T>,
    ) -> Result<(), Error> {
        let shared = Arc::clone(&self.shared);
        let sender = self.sender.clone();
        let kernel = shared.kernel.task();
        let thread = std::thread::Builder::new()
            .name(format!("ublk{}-q{}", plan.device, plan.queue))
            .spawn(move || {
                let queue = plan.queue;
                let work = || serve(kernel, plan, &*target, &sender);
                // Handlers are caught where the queue calls them; this is for our own defects, and
                // for a target that panics when it makes a handler.
                let end = catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(QueueError::Panicked));
                drop(target);
                let end = match end {
                    Ok((Turn::Stopped, stats)) => Ok(stats),
                    Ok((_, stats)) => {
                        shared.wake_all();
                        Ok(stats)
                    }
                    Err(error) => {
                        shared.wake_all(); // a device does not limp along with a dead queue
                        Err(error)
                    }
                };
                let _ = sender.send(Report::Ended { queue, end });
                let _ = rustix::io::write(&shared.ended, &1_u64.to_ne_bytes());
            })
            .map_err(|error| Error::Thread(error.into()))?;
        self.threads.push(Some(thread));
        Ok(())
    }

    /// Waits until all threads have offered their slots to the driver.
    pub(super) fn ready(&mut self, timeout: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + timeout;
        for queue in 0..self.threads.len() {
            match self.reports.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Report::Ready) => {}
                Ok(Report::Ended { queue, end }) => {
                    self.ends.push((queue, end));
                    let error = end.err().unwrap_or(QueueError::Late);
                    return Err(self.error(queue, error));
                }
                Err(_) => {
                    let queue = u16::try_from(queue).unwrap_or(u16::MAX);
                    return Err(self.error(queue, QueueError::Late));
                }
            }
        }
        Ok(())
    }

    /// Waits until all threads have ended: by themselves until `timeout` has passed, then, woken,
    /// for
    /// `grace`. Answers what they did, or the first error; [`QueueError::Late`] when a thread did
    /// not end at all, which then goes on without us.
    pub(super) fn end(
        &mut self,
        timeout: Duration,
        grace: Duration,
    ) -> Result<Vec<QueueStats>, Error> {
        if !self.collect(Instant::now() + timeout) {
            self.shared.wake_all();
            self.collect(Instant::now() + grace);
        }
        for (queue, _) in &self.ends {
            // It has sent its last word: this is short.
            if let Some(thread) = self.threads[usize::from(*queue)].take() {
                let _ = thread.join();
            }
        }
        if let Some(late) = self.threads.iter().position(Option::is_some) {
            let queue = u16::try_from(late).unwrap_or(u16::MAX);
            return Err(self.error(queue, QueueError::Late));
        }
        self.ends.sort_by_key(|(queue, _)| *queue);
        let stats = |(queue, end): &(u16, Result<QueueStats, QueueError>)| {
            end.map_err(|error| self.error(*queue, error))
        };
        self.ends.iter().map(stats).collect()
    }

    /// Collects reports until all threads have ended; whether they have.
    fn collect(&mut self, deadline: Instant) -> bool {
        while self.ends.len() < self.threads.len() {
            match self.reports.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Report::Ready) => {}
                Ok(Report::Ended { queue, end }) => self.ends.push((queue, end)),
                Err(_) => return false,
            }
        }
        true
    }

    fn error(&self, queue: u16, error: QueueError) -> Error {
        Error::Queue { device: self.device, queue, error }
    }
}

impl<K: Kernel> AsFd for Workers<K> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.ended.as_fd()
    }
}

/// A worker's whole work. All that it holds is gone when it returns.
fn serve<K: Kernel, T: Target>(
    kernel: K,
    plan: QueuePlan<K::File>,
    target: &T,
    reports: &Sender<Report>,
) -> Result<(Turn, QueueStats), QueueError> {
    let handler = target.handler(plan.queue).map_err(QueueError::Handler)?;
    let mut queue = Queue::new(kernel, plan, handler)?;
    queue.offer_all()?;
    let _ = reports.send(Report::Ready);
    loop {
        match queue.turn(None)? {
            Turn::Live => {}
            end => return Ok((end, queue.stats())),
        }
    }
}
