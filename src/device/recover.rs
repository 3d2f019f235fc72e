//! Devices that outlive their servers: taking one over, and leaving one to the next.

use super::builder::{check_ring, check_threads};
use super::refusals;
use super::server::{GRACE, LEAST, Plan, Server, and, reason};
use crate::backend::Target;
use crate::control::{Control, DeviceInfo, DeviceState};
use crate::data_path::DataPath;
use crate::errno::Errno;
use crate::error::Error;
use crate::features::Features;
use crate::kernel::Kernel;
use crate::queue::{QueueError, QueueStats};
use crate::recovery::Recovery;
use core::time::Duration;

/// Between two looks whether the old server is gone.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(100));

/// How long QUIESCE_DEV may take at one time.
const QUIESCE_PATIENCE: Duration = Duration::from_secs(1);

impl<K: Kernel> Server<K> {
    /// Serves a device whose server is gone, or leaves it as it was.
    pub(super) fn recover<T: Target>(
        mut control: Control<K>,
        id: u32,
        plan: Plan,
        target: T,
    ) -> Result<Self, Error> {
        let timeout = plan.timeout;
        let deadline = control.kernel().now().saturating_add(timeout);
        let path = check(&control.device(id).within(timeout.max(LEAST)).info()?, &plan)?;
        let (info, was_begun) = take_over(&mut control, id, deadline)?;
        let mut server = Self::of(control, id, info, &plan, true);
        match server.bring_back(plan, path, deadline, target) {
            Ok(()) => Ok(server),
            // The next one begins anew; what failed here is the reason of what fails now.
            Err(first) => {
                let first = match server.let_go(Duration::ZERO) {
                    Err(then @ Error::Queue { .. }) => reason(first, then),
                    _ => first,
                };
                match first {
                    Error::Queue { error: QueueError::Descriptors(Errno::EINVAL), .. }
                        if was_begun =>
                    {
                        Err(refusals::half_recovered(id))
                    }
                    first => Err(first),
                }
            }
        }
    }

    fn bring_back<T: Target>(
        &mut self,
        plan: Plan,
        path: DataPath,
        deadline: Duration,
        target: T,
    ) -> Result<(), Error> {
        let Plan { geometry, needs, .. } = plan;
        let left = self.until(deadline);
        let params = self.control.device(self.id).within(left).params()?;
        geometry.check_same(&params).map_err(|why| {
            Error::Refused(format!(
                "ublk device {} is another disk: {why}; serve the one that it was, or \
                 delete the device",
                self.id
            ))
        })?;
        self.serve_queues(geometry, &needs, path, deadline, target)?;
        let left = self.until(deadline);
        let process = self.control.kernel().process();
        self.control.device(self.id).within(left).end_recovery(process)?;
        self.look(deadline)
    }

    /// Ends the server and leaves the device to the next one, which
    /// [`Builder::recover`](crate::Builder::recover) makes. Nothing is left to be done with this
    /// one: it is to be dropped, and [`stop`](Self::stop) does nothing any more.
    ///
    /// Where new requests [wait](DeviceInfo::waits_when_quiesced), all that are under way are
    /// answered first, until the timeout: no client sees an error, but with [`Recovery::Fail`],
    /// whose new requests fail until the next server is there. Elsewhere requests under way meet
    /// the fate that the recovery says.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`], and nothing was done: the device has no recovery. Otherwise the first
    /// of: a queue that ended in an error; a control command that failed or was late. The device is
    /// left to the next server all the same.
    pub fn hand_over(&mut self) -> Result<Vec<QueueStats>, Error> {
        if self.finished {
            return Ok(Vec::new());
        }
        if Recovery::of(self.info.features) == Recovery::None {
            return Err(Error::Refused(format!(
                "ublk device {} was made without recovery, so no other server can take it over: \
                 stop it, and make it anew with one",
                self.id
            )));
        }
        if !self.info.waits_when_quiesced() {
            return self.let_go(Duration::ZERO);
        }
        let deadline = self.control.kernel().now().saturating_add(self.timeout);
        if let Some(workers) = &mut self.workers {
            workers.close_ended(GRACE);
        }
        let quiet = self.quiesce(deadline);
        let left = deadline.saturating_sub(self.control.kernel().now());
        // Whatever came of it, new requests may wait already, and only another server helps them.
        let ended = self.let_go(left);
        and(ended, quiet)
    }

    /// Has the driver send nothing new. When that fails, requests may wait all the same.
    fn quiesce(&mut self, deadline: Duration) -> Result<(), Error> {
        loop {
            let left = self.until(deadline);
            let device = self.control.device(self.id).within(left);
            let busy = match device.quiesce(QUIESCE_PATIENCE.min(left)) {
                Err(Error::Command { errno: Errno::EBUSY | Errno::EINTR, .. }) => true,
                // A device that has no disk is as quiet as can be.
                Err(Error::Command { errno: Errno::ENODEV, .. }) => false,
                other => return other,
            };
            if !busy {
                return Ok(());
            }
            if self.control.kernel().now() >= deadline {
                let (what, device, after) = ("QUIESCE_DEV", Some(self.id), self.timeout);
                return Err(Error::Timeout { what, device, after });
            }
        }
    }

    /// Ends the threads, and neither stops nor deletes the device. Without patience, requests that
    /// they have are not answered first.
    fn let_go(&mut self, patience: Duration) -> Result<Vec<QueueStats>, Error> {
        self.finished = true;
        let Some(workers) = &mut self.workers else { return Ok(Vec::new()) };
        let deadline = self.control.kernel().now().saturating_add(patience);
        if !patience.is_zero() {
            workers.drain();
        }
        workers.end(deadline, GRACE)
    }
}

/// Why a device cannot be taken over, or the way that its data moves.
fn check(info: &DeviceInfo, plan: &Plan) -> Result<DataPath, Error> {
    let DeviceInfo { features, depth, .. } = *info;
    let id = info.id.unwrap_or_default();
    let refused = |why: String| Err(Error::Refused(format!("ublk device {id} {why}")));
    if !info.is_sound() {
        return Err(refusals::unsound(id, info));
    }
    if Recovery::of(features) == Recovery::None {
        return refused("was made without recovery: it can only be deleted".into());
    }
    if info.state == DeviceState::Dead {
        return refused("was stopped: there is no disk to recover, it can only be deleted".into());
    }
    let unserved = features - Features::SERVED - Features::IO_DESC_SIZE;
    if !unserved.is_empty() {
        return Err(refusals::unserved(id, unserved));
    }
    check_threads(plan.manner.threads_per_queue, depth, features).map_err(Error::Refused)?;
    let path = DataPath::of(features).filter(|path| path.suits(plan.needs.access));
    let Some(path) = path else {
        return refused(format!(
            "moves data as this backend cannot: it has {features}; serve it with the backend that \
             it had"
        ));
    };
    let slots = depth.div_ceil(plan.manner.threads_per_queue);
    let gives_up = plan.manner.request_timeout.is_some();
    check_ring(slots, path, &plan.needs, gives_up).map_err(Error::Refused)?;
    Ok(path)
}

/// Waits until the old server is gone from the kernel; answers what the device is then, and whether
/// another server came so far, and died.
fn take_over<K: Kernel>(
    control: &mut Control<K>,
    id: u32,
    deadline: Duration,
) -> Result<(DeviceInfo, bool), Error> {
    let mut pause = PAUSES.0;
    loop {
        let left = deadline.saturating_sub(control.kernel().now()).max(LEAST);
        match control.device(id).within(left).start_recovery() {
            Ok(()) => return Ok((control.device(id).within(left).info()?, false)),
            // Drivers before 6.15 take this command once.
            Err(Error::Command { errno: Errno::EINVAL, .. }) => {
                let info = control.device(id).within(left).info()?;
                return match info.state {
                    DeviceState::Quiesced => Ok((info, true)),
                    state => Err(refusals::unrecoverable(id, state)),
                };
            }
            Err(Error::Command { errno: Errno::EBUSY, .. })
                if control.kernel().now() < deadline =>
            {
                control.kernel().sleep(pause);
                pause = (pause * 2).min(PAUSES.1);
            }
            Err(error) => return Err(error),
        }
    }
}
