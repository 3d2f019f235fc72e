//! [`Server`]: a live device and its threads.

use super::builder::check_threads;
use super::refusals;
use super::workers::Workers;
use crate::backend::Target;
use crate::control::{Control, DeviceControl, DeviceInfo};
use crate::data_path::{DataPath, PathReason};
use crate::errno::Errno;
use crate::error::Error;
use crate::features::Features;
use crate::geometry::Geometry;
use crate::kernel::{Kernel, Linux};
use crate::needs::Needs;
use crate::queue::{Meter, QueueError};
use crate::recovery::Recovery;
use core::time::Duration;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// How long the kernel may take to make a device: it allocates and names things, no more.
const ADD_TIMEOUT: Duration = Duration::from_secs(10);

/// What each step gets at the least, so that what is done in no time is done.
pub(super) const LEAST: Duration = Duration::from_secs(1);

/// How long the char device's node may take to appear, or to get its owner, where udev does that.
const NODE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long threads get to end once nothing keeps them.
pub(super) const GRACE: Duration = Duration::from_secs(5);

/// What a device is to be, beside what the driver is asked for.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) geometry: Geometry,
    pub(super) needs: Needs,
    pub(super) timeout: Duration,
    pub(super) manner: Manner,
    /// Why its data is to move as it shall.
    pub(super) reason: PathReason,
}

/// How its queues are served.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    /// Whether they have meters.
    pub(super) metered: bool,
    /// How long a request may wait.
    pub(super) request_timeout: Option<Duration>,
    /// How long a queue looks for requests before it sleeps.
    pub(super) spin: Duration,
    /// Whether each queue's threads stay on the queue's CPUs,
    pub(super) pinned: bool,
    /// and how many it has.
    pub(super) threads_per_queue: u16,
}

/// A live device, served by threads of its own.
///
/// Dropped, it is stopped and deleted, as by [`stop`](Self::stop), and errors are lost.
#[derive(Debug)]
pub struct Server<K: Kernel = Linux> {
    pub(super) control: Control<K>,
    pub(super) id: u32,
    pub(super) info: DeviceInfo,
    pub(super) timeout: Duration,
    pub(super) workers: Option<Workers<K>>,
    /// The queues' meters, if they are to have any.
    pub(super) meters: Option<Vec<Arc<Meter>>>,
    /// Whether START_DEV was sent, so that there may be clients.
    pub(super) started: bool,
    pub(super) finished: bool,
    /// How large the disk is, for its queues,
    pub(super) size_bytes: Arc<AtomicU64>,
    /// in blocks of so many bytes.
    pub(super) block_bytes: u32,
    pub(super) manner: Manner,
    reason: PathReason,
}

impl<K: Kernel> Server<K> {
    /// Adds a device and brings it to life, or deletes it again. Its data shall move that way, and
    /// perhaps no other will do.
    pub(super) fn start<T: Target>(
        mut control: Control<K>,
        wish: &DeviceInfo,
        plan: Plan,
        path: (DataPath, bool),
        target: T,
    ) -> Result<Self, Error> {
        let timeout = plan.timeout;
        let deadline = control.kernel().now().saturating_add(timeout);
        // Given up, it would leave a device that nobody knows.
        let info = control.add(wish, ADD_TIMEOUT.min(timeout.max(LEAST)))?;
        let Some(id) = info.id else {
            return Err(refusals::nameless());
        };
        let mut server = Self::of(control, id, info, &plan, false);
        match server.bring_up(wish, plan, path, deadline, target) {
            Ok(()) => Ok(server),
            Err(first) => match server.finish() {
                // What the queues say now is what failed in the first place, or follows from it.
                Ok(_) => Err(first),
                Err(then @ Error::Queue { .. }) => Err(reason(first, then)),
                Err(then) => and(Err(first), Err(then)),
            },
        }
    }

    /// A server without threads yet.
    pub(super) fn of(
        control: Control<K>,
        id: u32,
        info: DeviceInfo,
        plan: &Plan,
        started: bool,
    ) -> Self {
        let (workers, finished, size_bytes) = (None, false, Arc::default());
        let (timeout, meters) = (plan.timeout, plan.manner.metered.then(Vec::new));
        Self {
            control,
            id,
            info,
            timeout,
            workers,
            meters,
            started,
            finished,
            size_bytes,
            block_bytes: 0,
            manner: plan.manner,
            reason: plan.reason,
        }
    }

    fn bring_up<T: Target>(
        &mut self,
        wish: &DeviceInfo,
        plan: Plan,
        path: (DataPath, bool),
        deadline: Duration,
        target: T,
    ) -> Result<(), Error> {
        if !self.info.is_grant_of(wish) {
            return Err(refusals::ungranted(&self.info, wish));
        }
        let Plan { geometry, needs, .. } = plan;
        let ((wanted, insists), features) = (path, self.info.features);
        let granted = DataPath::of(features).filter(|path| path.suits(needs.access));
        let path = granted.filter(|path| !insists || *path == wanted).ok_or_else(|| {
            Error::Refused(format!(
                "{wanted} cannot be: the driver granted no more than {features}; let ublkit choose"
            ))
        })?;
        if path != wanted {
            self.reason = PathReason::Granted(wanted);
        }
        let refused = wish.features.contains(Features::BATCH_IO) && !self.batches();
        if refused && insists {
            return Err(Error::Refused(format!(
                "batches cannot be: the driver granted no more than {features}; let ublkit choose"
            )));
        }
        let recovery = Recovery::of(wish.features);
        if Recovery::of(features) != recovery {
            return Err(Error::Refused(format!(
                "recovery by '{recovery}' cannot be: the driver granted no more than {features}; \
                 choose another, or none"
            )));
        }
        check_threads(self.manner.threads_per_queue, self.info.depth, features)
            .map_err(Error::Refused)?;
        let params = geometry.params(self.info.max_io_bytes);
        let left = self.until(deadline);
        self.wait_for_node(deadline)?;
        self.commands().within(left).set_params(&params)?;
        self.serve_queues(geometry, &needs, path, deadline, target)?;
        self.started = true;
        let left = self.until(deadline);
        let process = self.control.kernel().process();
        self.commands().within(left).start(process)?;
        self.look(deadline)
    }

    /// The device is live: asks the driver what it is now.
    pub(super) fn look(&mut self, deadline: Duration) -> Result<(), Error> {
        let left = self.until(deadline);
        self.info = self.commands().within(left).info()?;
        if let Some(workers) = &self.workers {
            workers.leave_device(Recovery::of(self.info.features));
        }
        Ok(())
    }

    /// The commands about our device. An unprivileged one is to be named by its node as well.
    pub(super) fn commands(&mut self) -> DeviceControl<'_, K> {
        let device = self.control.device(self.id);
        let path = CString::new(format!("/dev/ublkc{}", self.id));
        match path {
            Ok(path) if self.info.features.contains(Features::UNPRIVILEGED_DEV) => {
                device.by_path(path)
            }
            _ => device,
        }
    }

    /// Waits until an unprivileged device's node belongs to its maker: udev sees to that, some time
    /// after the device was made, and before that the driver takes no command.
    fn wait_for_node(&mut self, deadline: Duration) -> Result<(), Error> {
        if !self.info.features.contains(Features::UNPRIVILEGED_DEV) {
            return Ok(());
        }
        let now = self.control.kernel().now();
        let deadline = deadline.min(now.saturating_add(NODE_TIMEOUT));
        loop {
            match self.commands().info() {
                Err(Error::Command { errno: Errno::ENOENT | Errno::EACCES, .. })
                    if self.control.kernel().now() < deadline =>
                {
                    self.control.kernel().sleep(Duration::from_millis(20));
                }
                answer => return answer.map(drop),
            }
        }
    }

    /// The time from now to `deadline`, and [`LEAST`] at the least.
    pub(super) fn until(&self, deadline: Duration) -> Duration {
        deadline.saturating_sub(self.control.kernel().now()).max(LEAST)
    }

    pub(super) fn open_char_device(&self, deadline: Duration) -> Result<K::File, Error> {
        let path = format!("/dev/ublkc{}", self.id);
        let c_path = CString::new(path.clone()).map_err(|_| Error::Refused(path.clone()))?;
        let kernel = self.control.kernel();
        let deadline = deadline.min(kernel.now().saturating_add(NODE_TIMEOUT));
        let mut pause = Duration::from_millis(1);
        loop {
            match kernel.open(&c_path) {
                Ok(file) => return Ok(file),
                // EBUSY: a process that was killed has it, until its ring has ended.
                Err(Errno::ENOENT | Errno::EACCES | Errno::EBUSY) if kernel.now() < deadline => {
                    kernel.sleep(pause);
                    pause = (pause * 2).min(Duration::from_millis(100));
                }
                Err(errno) => return Err(Error::Open { path, errno }),
            }
        }
    }

    /// The device's number.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// What the driver granted and says of the device.
    pub fn info(&self) -> &DeviceInfo {
        &self.info
    }

    /// Of a [metered](crate::Builder::metered) device: its queues' meters, in their order, as many
    /// of each as it has threads. They may be read at any time, also after the device's end.
    pub fn meters(&self) -> &[Arc<Meter>] {
        self.meters.as_deref().unwrap_or_default()
    }

    /// How data moves.
    pub fn data_path(&self) -> DataPath {
        DataPath::of(self.info.features).unwrap_or(DataPath::Copy)
    }

    /// Why it moves so.
    pub fn path_reason(&self) -> PathReason {
        self.reason
    }

    /// Whether one command does for many slots.
    pub fn batches(&self) -> bool {
        self.info.features.contains(Features::BATCH_IO)
    }

    /// Where the disk is, `/dev/ublkbN`.
    pub fn block_path(&self) -> String {
        format!("/dev/ublkb{}", self.id)
    }

    /// Waits until a queue has ended: somebody else stopped the device, or something is wrong,
    /// which [`stop`](Self::stop) will tell. A program with an event loop polls the server's
    /// [`as_fd`](AsFd::as_fd) for reading instead.
    ///
    /// A device that outlives its server can be recovered by another only when this one was asked
    /// to [`stop`](Self::stop) or to [`hand_over`](Self::hand_over), or was dropped: until then it
    /// has the char device open.
    pub fn wait(&self) {
        self.control.kernel().wait(self.ended(), None);
    }

    fn ended(&self) -> &K::File {
        self.workers.as_ref().expect("a server has workers from its start").ended()
    }
}

/// What came of two steps; when both failed, both errors.
pub(super) fn and<T>(first: Result<T, Error>, then: Result<(), Error>) -> Result<T, Error> {
    match (first, then) {
        (first, Ok(())) => first,
        (Ok(_), Err(then)) => Err(then),
        (Err(first), Err(then)) => {
            Err(Error::Undo { first: Box::new(first), then: Box::new(then) })
        }
    }
}

/// Why a device is not served where a queue failed, too. When the driver waited in vain, that was
/// for this queue, which tells only when it has ended.
pub(super) fn reason(first: Error, queue: Error) -> Error {
    let follows =
        matches!(queue, Error::Queue { error: QueueError::Late | QueueError::Stopped, .. });
    if matches!(first, Error::Timeout { .. }) && !follows { queue } else { first }
}

impl<K: Kernel<File: AsFd>> AsFd for Server<K> {
    /// Readable once a queue has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ended().as_fd()
    }
}

impl<K: Kernel> Drop for Server<K> {
    fn drop(&mut self) {
        let _ = self.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_that_failed_is_the_reason_of_a_wait_in_vain() {
        let late = || Error::Timeout { what: "START_DEV", device: Some(0), after: Duration::ZERO };
        let queue = |error| Error::Queue { device: 0, queue: 0, error };
        let refused = || QueueError::Refused { tag: 0, errno: Errno::EINVAL };
        assert!(matches!(reason(late(), queue(refused())), Error::Queue { .. }));
        assert!(matches!(reason(late(), queue(QueueError::Late)), Error::Timeout { .. }));
        let thread = reason(Error::Thread(Errno::EAGAIN), queue(refused()));
        assert!(matches!(thread, Error::Thread(_)));
    }
}
