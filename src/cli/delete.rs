//! `stop` and `delete`: also of devices that other servers left behind.

use super::exit::{Failure, say};
use super::{devices, state};
use core::time::Duration;
use ublkit::ErrorKind;

/// Takes a device's disk away.
pub(super) fn stop(id: u32, timeout: Duration) -> Result<(), Failure> {
    let mut control = devices::control()?;
    let info = devices::info(&mut control, id)?;
    Ok(devices::commands(&mut control, id, &info).within(timeout).stop()?)
}

/// Deletes one device.
pub(super) fn one(id: u32, force: bool, timeout: Duration) -> Result<(), Failure> {
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
    devices::commands(&mut control, id, &info).within(timeout).delete()?;
    state::gone(&info);
    Ok(())
}

/// Deletes all devices that no process serves, or all. Goes on after a failure and answers with the
/// last one.
pub(super) fn all(force: bool, timeout: Duration) -> Result<(), Failure> {
    let mut result = Ok(());
    for id in devices::ids() {
        match one(id, force, timeout) {
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
