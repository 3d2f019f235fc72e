//! The end of a [`Server`]: its device is stopped and deleted.

use super::server::{GRACE, Server, and};
use crate::control::{Control, DeviceControl};
use crate::errno::Errno;
use crate::error::Error;
use crate::features::Features;
use crate::kernel::Kernel;
use crate::queue::{QueueError, QueueStats};
use crate::recovery::Recovery;
use core::time::Duration;

/// How long the driver may take to forget a device that nobody serves any more. It waits for those
/// who have the disk open; they may take for ever, and the device goes when they do.
const DELETE_TIMEOUT: Duration = Duration::from_secs(10);

impl<K: Kernel> Server<K> {
    /// Lets the kernel have back what queues have that ended: for whoever has another process stop
    /// the device, which waits for that since 6.15. Does not wait for threads that are about to
    /// end: call it again. [`stop`](Self::stop) sees to it by itself.
    pub fn close_ended(&mut self) {
        if let Some(workers) = &mut self.workers {
            workers.close_ended(Duration::ZERO);
        }
    }

    /// Stops the device, joins the threads, and deletes it. Clients' requests are answered, and
    /// dirty pages written, until the timeout; what is left then fails.
    ///
    /// # Errors
    ///
    /// The first of: a queue that ended in an error; a control command that failed or was late. The
    /// rest is done all the same.
    ///
    /// A process that is killed while this waits cannot end before the device has stopped, and the
    /// device may be waiting for the process: the kernel then keeps both for ever (seen on 7.3). A
    /// program that may be killed has another process stop the device (`ublkit stop`, or
    /// [`DeviceControl::stop`](crate::DeviceControl::stop)) and calls this after
    /// [`wait`](Self::wait).
    ///
    /// Of a device with [`Wait`](Recovery::Wait) or [`Reissue`](Recovery::Reissue) the kernel drops
    /// dirty pages at a stop: have another process sync the disk before (`ublkit stop` does).
    pub fn stop(mut self) -> Result<Vec<QueueStats>, Error> {
        self.finish()
    }

    /// The same without patience: clients' requests fail, dirty pages are lost. Blocks for half a
    /// minute at the most.
    ///
    /// # Errors
    ///
    /// As [`stop`](Self::stop).
    pub fn stop_now(mut self) -> Result<Vec<QueueStats>, Error> {
        self.timeout = Duration::ZERO;
        self.finish()
    }

    pub(super) fn finish(&mut self) -> Result<Vec<QueueStats>, Error> {
        if std::mem::replace(&mut self.finished, true) {
            return Ok(Vec::new());
        }
        let timeout = self.timeout;
        let deadline = self.control.kernel().now().saturating_add(timeout);
        if let Some(workers) = &mut self.workers {
            workers.leave_device(Recovery::None); // nobody else will answer what is left
            if timeout.is_zero() {
                workers.fail_all();
            }
            workers.close_ended(GRACE);
        }
        // The queues serve on, or fail all, until the driver has taken their slots away.
        let limit = if timeout.is_zero() { GRACE } else { timeout };
        let stopped = self.ours(|device| device.within(limit).stop());
        let now = self.control.kernel().now();
        let patience = match stopped {
            Ok(true) if self.started => deadline,
            // Nothing keeps the threads: there were no clients, or whoever deleted the device has
            // stopped it before.
            Ok(_) => now.saturating_add(GRACE.min(timeout)),
            Err(_) => now,
        };
        let ended = match &mut self.workers {
            Some(workers) => workers.end(patience, GRACE),
            None => Ok(Vec::new()),
        };
        // All that held the char device is gone now, except what a late thread holds: do not wait
        // for its sake.
        let late = matches!(ended, Err(Error::Queue { error: QueueError::Late, .. }));
        let unprivileged = self.info.features.contains(Features::UNPRIVILEGED_DEV);
        let deleted = self.ours(|device| {
            let device = device.within(DELETE_TIMEOUT);
            // For an unprivileged device the driver has no command that does not wait.
            if late && !unprivileged { device.delete_async() } else { device.delete() }
        });
        and(and(ended, stopped.map(drop)), deleted.map(drop))
    }

    /// Does something about our device, if it is still there, and still ours: once we let go of it,
    /// somebody may have deleted it, and somebody else have taken its number. Answers whether it
    /// was done.
    fn ours(
        &mut self,
        command: impl Fn(DeviceControl<'_, K>) -> Result<(), Error>,
    ) -> Result<bool, Error> {
        let result = self.ours_once(&command);
        if self.control.is_broken() { self.ours_once(&command) } else { result }
    }

    fn ours_once(
        &mut self,
        command: impl Fn(DeviceControl<'_, K>) -> Result<(), Error>,
    ) -> Result<bool, Error> {
        if self.control.is_broken() || self.control.given_up() > 0 {
            // The device must go all the same; and on old kernels a START_DEV that waits holds it
            // until its ring is closed.
            self.control = Control::open(self.control.kernel().task())?;
        }
        match self.commands().info() {
            Ok(info) if info.server_word != self.info.server_word => Ok(false),
            _ => was_there(command(self.commands())),
        }
    }
}

/// Whether the device was there to be stopped or deleted. If somebody else deleted it, that is what
/// we wanted.
fn was_there(result: Result<(), Error>) -> Result<bool, Error> {
    match result {
        Err(Error::Command { errno: Errno::ENODEV, .. }) => Ok(false),
        other => other.map(|()| true),
    }
}
