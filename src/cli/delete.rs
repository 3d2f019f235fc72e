//! `stop` and `delete`: also of devices that other servers left behind.

use super::exit::{Failure, say};
use super::{devices, state};
use core::time::Duration;
use std::time::Instant;
use ublkit::{Control, DeviceInfo, DeviceState, Errno, Error, ErrorKind, Linux, Recovery};

/// Takes a device's disk away.
pub(super) fn stop(id: u32, timeout: Duration) -> Result<(), Failure> {
    let mut control = devices::control()?;
    let info = devices::info(&mut control, id)?;
    let begun = Instant::now();
    if drops_dirty_pages(&info) && devices::server(&info).is_some() {
        let synced = devices::sync(id, "the stop", timeout);
        let left = timeout.saturating_sub(begun.elapsed());
        // The disk may have gone meanwhile, by another process's stop.
        if synced.is_err() && has_disk(&mut control, id, left) {
            synced?;
        }
    } else if drops_dirty_pages(&info) && info.state == DeviceState::Quiesced {
        say(&format!(
            "nobody serves /dev/ublkb{id}: what its clients wrote and did not sync is lost"
        ));
    }
    let left = timeout.saturating_sub(begun.elapsed());
    Ok(devices::commands(&mut control, id, &info).within(left).stop()?)
}

/// Whether a device has a disk, once a stop that is under way is over: GET_PARAMS waits for it.
fn has_disk(control: &mut Control<Linux>, id: u32, timeout: Duration) -> bool {
    let mut look = || -> Result<DeviceState, Failure> {
        let info = devices::info(control, id)?;
        devices::commands(control, id, &info).within(timeout).params()?;
        Ok(devices::info(control, id)?.state)
    };
    match look() {
        Ok(state) => state != DeviceState::Dead,
        Err(failure) => !devices::is_gone(&failure),
    }
}

/// Takes a device's disk away, if nobody has it open.
pub(super) fn stop_unused(id: u32, timeout: Duration) -> Result<(), Failure> {
    let mut control = devices::control()?;
    let info = devices::info(&mut control, id)?;
    match devices::commands(&mut control, id, &info).within(timeout).try_stop() {
        Err(Error::Command { errno: Errno::EBUSY, .. }) => Err(Failure::Said(
            ErrorKind::Busy,
            format!(
                "/dev/ublkb{id} is in use, so it is not stopped: 'fuser' and 'mount' tell by whom"
            ),
        )),
        Err(Error::Command { errno: Errno::ENODEV, .. }) => Err(Failure::Said(
            ErrorKind::NotFound,
            format!("ublk device {id} has no disk: it was stopped before, or never started"),
        )),
        Err(Error::Command { errno: Errno::EOPNOTSUPP, .. }) => Err(Failure::Said(
            ErrorKind::Unsupported,
            format!(
                "this kernel cannot stop a disk only if nobody uses it (7.0 can): make sure, and \
                 'ublkit stop {id}'"
            ),
        )),
        other => Ok(other?),
    }
}

/// Whether the kernel drops the disk's dirty pages at a stop, and says nothing
/// (docs/protocol.md).
fn drops_dirty_pages(info: &DeviceInfo) -> bool {
    matches!(Recovery::of(info.features), Recovery::Wait | Recovery::Reissue)
}

/// How devices are deleted.
#[derive(Clone, Copy, Debug)]
pub(super) struct How {
    /// Also one that a process serves.
    pub(super) force: bool,
    /// Not waiting for those who have the disk open.
    pub(super) no_wait: bool,
    pub(super) timeout: Duration,
}

/// Deletes one device.
pub(super) fn one(id: u32, how: How) -> Result<(), Failure> {
    let How { force, no_wait, timeout } = how;
    let mut control = devices::control()?;
    let info = devices::info(&mut control, id)?;
    if let Some(pid) = devices::server(&info).filter(|_| !force) {
        return Err(Failure::Said(
            ErrorKind::Busy,
            format!(
                "process {pid} serves ublk device {id}; stop it with 'ublkit stop {id}', or delete \
                 it with --force"
            ),
        ));
    }
    let device = devices::commands(&mut control, id, &info).within(timeout);
    if no_wait { device.delete_async() } else { device.delete() }?;
    state::gone(&info);
    Ok(())
}

/// Whether a device was made to outlive its server, and has.
fn waits_for_a_server(id: u32) -> bool {
    let state = || devices::info(&mut devices::control()?, id).map(|info| info.state);
    matches!(state(), Ok(DeviceState::Quiesced | DeviceState::FailIo))
}

/// Deletes all devices that no process serves, or all. Goes on after a failure and answers with the
/// last one.
pub(super) fn all(how: How) -> Result<(), Failure> {
    let mut result = Ok(());
    for id in devices::ids() {
        if !how.force && waits_for_a_server(id) {
            say(&format!(
                "left alone: ublk device {id} waits for its next server; 'ublkit recover {id}' is \
                 one, 'ublkit delete {id}' deletes it all the same"
            ));
            continue;
        }
        match one(id, how) {
            Err(failure) if devices::is_gone(&failure) => {}
            Err(Failure::Said(ErrorKind::Busy, sentence)) => {
                say(&format!("left alone: {sentence}"))
            }
            Err(failure) => {
                if let Err(Failure::Library(error)) = &result {
                    say(&error.to_string());
                }
                result = Err(failure);
            }
            Ok(()) => {}
        }
    }
    result
}
