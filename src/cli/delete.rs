//! `stop` and `delete`: also of devices that other servers left behind.

use super::exit::{Failure, say};
use super::{devices, state};
use core::time::Duration;
use std::time::Instant;
use ublkit::{
    Control, DeviceInfo, DeviceState, Errno, Error, ErrorKind, Features, Linux, Recovery,
};

/// How long the driver takes at the most to notice that a server was killed; before 6.15 as long as
/// a request may take, where the server had one for each slot (docs/protocol.md).
const NOTICED: Duration = Duration::from_secs(2);
const NOTICED_BEFORE_6_15: Duration = Duration::from_secs(35);

/// Takes a device's disk away.
pub(super) fn stop(id: u32, timeout: Duration) -> Result<(), Failure> {
    let mut control = devices::control()?;
    let mut info = devices::info(&mut control, id)?;
    let begun = Instant::now();
    if drops_dirty_pages(&info) {
        info = settled(&mut control, id, timeout)?;
        write_dirty_pages(&mut control, &info, id, timeout.saturating_sub(begun.elapsed()))?;
    }
    let left = timeout.saturating_sub(begun.elapsed());
    Ok(devices::commands(&mut control, id, &info).within(left).stop()?)
}

/// Has the dirty pages of a device written that the stop would drop, or says that they are lost.
fn write_dirty_pages(
    control: &mut Control<Linux>,
    info: &DeviceInfo,
    id: u32,
    timeout: Duration,
) -> Result<(), Failure> {
    let begun = Instant::now();
    if info.state == DeviceState::Live {
        let synced = devices::sync(id, "the stop", timeout);
        // The disk may have gone meanwhile, by another process's stop.
        if synced.is_err() && has_disk(control, id, timeout.saturating_sub(begun.elapsed())) {
            return synced;
        }
    } else if info.state == DeviceState::Quiesced {
        say(&lost(id));
    }
    Ok(())
}

/// What is told of dirty pages that nobody can write.
pub(super) fn lost(id: u32) -> String {
    format!("nobody serves /dev/ublkb{id}: what its clients wrote and did not sync is lost")
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
    let stopped = devices::commands(&mut control, id, &info).within(timeout).try_stop();
    stopped.map_err(|error| in_use(id, error))
}

/// Why a disk is not stopped that may be in use.
pub(super) fn in_use(id: u32, error: Error) -> Failure {
    let Error::Command { errno, .. } = error else { return error.into() };
    let (kind, sentence) = match errno {
        Errno::EBUSY => (
            ErrorKind::Busy,
            format!(
                "/dev/ublkb{id} is in use, so it is not stopped: 'fuser' and 'mount' tell by whom"
            ),
        ),
        Errno::ENODEV => (
            ErrorKind::NotFound,
            format!(
                "ublk device {id} has no disk: it was stopped before, or never started; \
                 'ublkit delete {id}' removes what is left"
            ),
        ),
        Errno::EOPNOTSUPP => (
            ErrorKind::Unsupported,
            format!(
                "this kernel cannot stop a disk only if nobody uses it (7.0 can): make sure, and \
                 'ublkit stop {id}'"
            ),
        ),
        _ => return error.into(),
    };
    Failure::Said(kind, sentence)
}

/// Whether the kernel drops the disk's dirty pages at a stop, and says nothing
/// (docs/protocol.md).
fn drops_dirty_pages(info: &DeviceInfo) -> bool {
    matches!(Recovery::of(info.features), Recovery::Wait | Recovery::Reissue)
}

/// How devices are deleted.
#[derive(Clone, Copy, Debug)]
pub(super) struct How {
    /// Also one that is live: a process serves it, in sight or not.
    pub(super) force: bool,
    /// Not waiting for those who have the disk open.
    pub(super) no_wait: bool,
    pub(super) timeout: Duration,
}

/// What the driver says of a device, once it has noticed that a server is gone: one that is live,
/// and whose server is not to be seen, may be served from another PID namespace.
fn settled(
    control: &mut Control<Linux>,
    id: u32,
    timeout: Duration,
) -> Result<DeviceInfo, Failure> {
    let is_new = |features: Features| features.contains(Features::UPDATE_SIZE); // of 6.15
    let is_new = control.features()?.is_some_and(is_new);
    let most = timeout.min(if is_new { NOTICED } else { NOTICED_BEFORE_6_15 });
    let begun = Instant::now();
    loop {
        let info = devices::info(control, id)?;
        let is_unseen = info.state == DeviceState::Live && devices::server(&info).is_none();
        if !is_unseen || begun.elapsed() >= most {
            return Ok(info);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Deletes one device.
pub(super) fn one(id: u32, how: How) -> Result<(), Failure> {
    let How { force, no_wait, timeout } = how;
    let mut control = devices::control()?;
    let info =
        if force { devices::info(&mut control, id) } else { settled(&mut control, id, timeout) }?;
    if info.state == DeviceState::Live && !force {
        return Err(is_live(id, devices::server(&info)));
    }
    let device = devices::commands(&mut control, id, &info).within(timeout);
    if no_wait { device.delete_async() } else { device.delete() }?;
    state::gone(&info);
    Ok(())
}

/// Somebody may serve it.
pub(super) fn is_live(id: u32, server: Option<u32>) -> Failure {
    let who = server.map_or_else(
        || format!("ublk device {id} is live, though its server is gone or out of sight"),
        |pid| format!("process {pid} serves ublk device {id}"),
    );
    let sentence = format!("{who}; stop it with 'ublkit stop {id}', or delete it with --force");
    Failure::Said(ErrorKind::Busy, sentence)
}

/// Deletes what is left of a device that was stopped, if its server is gone, too; whether it was.
pub(super) fn dead(id: u32, timeout: Duration) -> Result<bool, Failure> {
    let info = devices::info(&mut devices::control()?, id)?;
    let is_left = |record: state::Record| !record.server.is_alive();
    if info.state != DeviceState::Dead || !state::of(&info)?.is_some_and(is_left) {
        return Ok(false);
    }
    one(id, How { force: false, no_wait: false, timeout })?;
    Ok(true)
}

/// Whether a device was made to outlive its server, and has.
fn waits_for_a_server(id: u32) -> bool {
    let state = || devices::info(&mut devices::control()?, id).map(|info| info.state);
    matches!(state(), Ok(DeviceState::Quiesced | DeviceState::FailIo))
}

/// What is told of one that only who names it deletes.
pub(super) fn left_alone(id: u32) -> String {
    format!(
        "left alone: ublk device {id} waits for its next server; 'ublkit recover {id}' is one, \
         'ublkit delete {id}' deletes it all the same"
    )
}

/// Deletes all devices that are not live, or all. Goes on after a failure and answers with the
/// last one.
pub(super) fn all(how: How) -> Result<(), Failure> {
    let mut result = Ok(());
    for id in devices::ids() {
        if !how.force && waits_for_a_server(id) {
            say(&left_alone(id));
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
