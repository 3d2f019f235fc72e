//! [`Server`]: a live device and its threads.

use super::workers::Workers;
use crate::backend::Target;
use crate::control::{Control, DeviceInfo};
use crate::errno::Errno;
use crate::error::Error;
use crate::geometry::Geometry;
use crate::kernel::{Kernel, Linux};
use crate::queue::{QueueError, QueuePlan, QueueStats};
use crate::request::Limits;
use core::time::Duration;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

/// How long the char device's node may take to appear, or to get its owner, where udev does that.
const NODE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long threads get once they were told to end at once.
const GRACE: Duration = Duration::from_secs(5);

/// How long the driver may take to forget a device that nobody serves any more. It waits for those
/// who have the disk open; they may take for ever, and the device goes when they do.
const DELETE_TIMEOUT: Duration = Duration::from_secs(10);

/// A live device, served by threads of its own.
///
/// Dropped, it is stopped and deleted, as by [`stop`](Self::stop), and errors are lost.
#[derive(Debug)]
pub struct Server<K: Kernel = Linux> {
    control: Control<K>,
    id: u32,
    info: DeviceInfo,
    timeout: Duration,
    workers: Option<Workers<K>>,
    finished: bool,
}

impl<K: Kernel> Server<K> {
    /// Brings a device to life that was just added, or deletes it again.
    pub(super) fn start<T: Target>(
        control: Control<K>,
        id: u32,
        granted: DeviceInfo,
        geometry: Geometry,
        timeout: Duration,
        target: T,
    ) -> Result<Self, Error> {
        let mut server =
            Self { control, id, info: granted, timeout, workers: None, finished: false };
        match server.bring_up(geometry, target) {
            Ok(()) => Ok(server),
            Err(first) => Err(match server.finish() {
                Ok(_) => first,
                // The queue's error is what failed in the first place.
                Err(Error::Queue { .. }) if matches!(first, Error::Queue { .. }) => first,
                Err(then) => Error::Undo { first: Box::new(first), then: Box::new(then) },
            }),
        }
    }

    fn bring_up<T: Target>(&mut self, geometry: Geometry, target: T) -> Result<(), Error> {
        let DeviceInfo { queues, depth, max_io_bytes, descriptor_bytes, .. } = self.info;
        let params = geometry.params(max_io_bytes);
        self.control.device(self.id).set_params(&params)?;
        let char_device = Arc::new(self.open_char_device()?);
        let operations = target.operations();
        let target = Arc::new(target);
        let kernel = self.control.kernel().task();
        let workers = self.workers.insert(Workers::new(kernel, self.id, queues)?);
        for queue in 0..queues {
            let plan = QueuePlan {
                device: self.id,
                queue,
                depth,
                descriptor_bytes,
                limits: Limits { geometry, max_io_bytes },
                char_device: Arc::clone(&char_device),
                wake: workers.wake(queue),
                operations,
            };
            workers.spawn(plan, Arc::clone(&target))?;
        }
        drop(char_device); // the threads hold it from here on: it closes with the last of them
        workers.ready(self.timeout)?;
        self.control.device(self.id).within(self.timeout).start(std::process::id())?;
        self.info = self.control.device(self.id).info()?;
        Ok(())
    }

    fn open_char_device(&self) -> Result<K::File, Error> {
        let path = format!("/dev/ublkc{}", self.id);
        let c_path = CString::new(path.clone()).map_err(|_| Error::Refused(path.clone()))?;
        let kernel = self.control.kernel();
        let deadline = kernel.now() + NODE_TIMEOUT;
        let mut pause = Duration::from_millis(1);
        loop {
            match kernel.open(&c_path) {
                Ok(file) => return Ok(file),
                Err(Errno::ENOENT | Errno::EACCES) if kernel.now() < deadline => {
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

    /// Where the disk is, `/dev/ublkbN`.
    pub fn block_path(&self) -> String {
        format!("/dev/ublkb{}", self.id)
    }

    /// Waits until a queue has ended: somebody else stopped the device, or something is wrong,
    /// which [`stop`](Self::stop) will tell. A program with an event loop polls the server's
    /// [`as_fd`](AsFd::as_fd) for reading instead.
    pub fn wait(&self) {
        let fd = self.as_fd();
        let mut polled = [rustix::event::PollFd::new(&fd, rustix::event::PollFlags::IN)];
        while rustix::event::poll(&mut polled, None) == Err(rustix::io::Errno::INTR) {}
    }

    /// Stops the device, joins the threads, and deletes it. Clients' requests are answered, and
    /// dirty pages written, until the timeout; what is left then fails.
    ///
    /// # Errors
    ///
    /// The first of: a queue that ended in an error; a control command that failed or was late. The
    /// rest is done all the same.
    pub fn stop(mut self) -> Result<Vec<QueueStats>, Error> {
        self.finish()
    }

    fn finish(&mut self) -> Result<Vec<QueueStats>, Error> {
        if std::mem::replace(&mut self.finished, true) {
            return Ok(Vec::new());
        }
        let begun = self.control.kernel().now();
        // The queues serve on until the driver has taken their slots away.
        let stopped = gone_is_fine(self.control.device(self.id).within(self.timeout).stop());
        let left = (begun + self.timeout).saturating_sub(self.control.kernel().now());
        let patience = if stopped.is_ok() { left } else { Duration::ZERO };
        let ended = match &mut self.workers {
            Some(workers) => workers.end(patience, GRACE),
            None => Ok(Vec::new()),
        };
        // All that held the char device is gone now, except what a late thread holds: do not wait
        // for its sake.
        let device = self.control.device(self.id).within(DELETE_TIMEOUT);
        let late = matches!(ended, Err(Error::Queue { error: QueueError::Late, .. }));
        let deleted = gone_is_fine(if late { device.delete_async() } else { device.delete() });
        ended.and_then(|stats| stopped.and(deleted).map(|()| stats))
    }
}

/// Somebody else deleted the device: that is what we wanted.
fn gone_is_fine(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(Error::Command { errno: Errno::ENODEV, .. }) => Ok(()),
        other => other,
    }
}

impl<K: Kernel> AsFd for Server<K> {
    /// Readable once a queue has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.workers.as_ref().expect("a server has workers from its start").as_fd()
    }
}

impl<K: Kernel> Drop for Server<K> {
    fn drop(&mut self) {
        let _ = self.finish();
    }
}
