//! Finding the machine's devices, whoever serves them, and having what is dirty written.

use super::exit::Failure;
use core::time::Duration;
use std::ffi::CString;
use std::fs::File;
use std::path::Path;
use std::sync::mpsc::channel;
use ublkit::{Control, DeviceControl, DeviceInfo, DeviceState, Error, ErrorKind, Features, Linux};

/// The numbers of all devices, in order: the driver has no command that tells, sysfs does.
pub(super) fn ids() -> Vec<u32> {
    let nodes = ["/sys/class/ublk-char", "/dev"];
    let entries = nodes.iter().find_map(|folder| std::fs::read_dir(folder).ok());
    let mut ids: Vec<u32> = entries
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_prefix("ublkc")?.parse().ok())
        .collect();
    ids.sort_unstable();
    ids
}

/// Opens the control device.
pub(super) fn control() -> Result<Control<Linux>, Failure> {
    Ok(Control::open(Linux)?)
}

/// What the driver says of a device.
pub(super) fn info(control: &mut Control<Linux>, id: u32) -> Result<DeviceInfo, Failure> {
    match control.device(id).info() {
        // An unprivileged device answers only those who name its node.
        Err(Error::Command { errno, .. }) if errno != ublkit::Errno::ENODEV => {
            Ok(control.device(id).info_by_path()?)
        }
        other => Ok(other?),
    }
}

/// The commands about a device that [`info`] told of.
pub(super) fn commands<'a>(
    control: &'a mut Control<Linux>,
    id: u32,
    info: &DeviceInfo,
) -> DeviceControl<'a, Linux> {
    let commands = control.device(id);
    let path = CString::new(format!("/dev/ublkc{id}"));
    match path {
        Ok(path) if info.features.contains(Features::UNPRIVILEGED_DEV) => commands.by_path(path),
        _ => commands,
    }
}

/// The process that serves the device now.
pub(super) fn server(info: &DeviceInfo) -> Option<u32> {
    let serving = info.state == DeviceState::Live;
    info.server_pid.filter(|pid| serving && Path::new(&format!("/proc/{pid}")).exists())
}

/// Whether the device vanished while it was looked at.
pub(super) fn is_gone(failure: &Failure) -> bool {
    match failure {
        Failure::Library(error) => error.kind() == ErrorKind::NotFound,
        Failure::Said(kind, _) => *kind == ErrorKind::NotFound,
        _ => false,
    }
}

/// Has a disk's dirty pages written, before something that would lose them.
pub(super) fn sync(id: u32, before: &str, timeout: Duration) -> Result<(), Failure> {
    let path = format!("/dev/ublkb{id}");
    let (sender, synced) = channel();
    // It cannot be interrupted while it waits for the server.
    let sync = move |path: &str| sender.send(File::open(path).and_then(|disk| disk.sync_all()));
    let (name, opened) = (path.clone(), path);
    let thread = std::thread::Builder::new().spawn(move || sync(&opened));
    let failed = |error| {
        let sentence = format!(
            "cannot sync {name} before {before}, which would lose its dirty pages: {error}; see \
             what its server says, and try again"
        );
        Failure::Said(ErrorKind::Failed, sentence)
    };
    thread.map_err(failed)?;
    match synced.recv_timeout(timeout) {
        Ok(synced) => synced.map_err(failed),
        Err(_) => Err(Failure::Said(ErrorKind::Timeout, unsynced(&name, before, timeout))),
    }
}

/// What is told of a disk whose dirty pages were not written in time.
pub(super) fn unsynced(name: &str, before: &str, timeout: Duration) -> String {
    let seconds = timeout.as_secs();
    format!(
        "the dirty pages of {name} were not written within {seconds} s: {before} would lose them, \
         and is not done; give them longer with '--timeout'"
    )
}
