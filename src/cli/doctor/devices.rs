//! Devices, their nodes, and what the driver can do with them.

use super::Finding;
use super::machine::{Device, Machine};
use ublkit::{DeviceState, Features};

/// Who makes the nodes of devices.
pub(super) fn nodes(machine: &Machine) -> Vec<Finding> {
    let mounts = machine.text("proc/self/mounts");
    let is_devtmpfs = |line: &str| {
        let mut words = line.split(' ').skip(1);
        words.next() == Some("/dev") && words.next() == Some("devtmpfs")
    };
    let kernel = mounts.lines().any(is_devtmpfs);
    let udev = machine.exists("run/udev/control");
    vec![match (kernel, udev) {
        (true, true) => Finding::ok("the kernel makes them, and udev looks after them"),
        (true, false) => Finding::note(
            "the kernel makes them, and no udev looks after them: they are root's, and nobody \
             makes links",
            "where ordinary users are to have devices, run udev",
        ),
        (false, true) => Finding::note(
            "/dev is no devtmpfs: nodes come when udev makes them",
            "a container: mount the host's /dev, or make the nodes yourself",
        ),
        (false, false) => Finding::cannot(
            "/dev is no devtmpfs, and there is no udev: nobody makes /dev/ublkcN and /dev/ublkbN",
            "mount a devtmpfs on /dev (a container: the host's /dev)",
        ),
    }]
}

/// What ublkit can use of a driver, and this one lacks.
pub(super) fn features(machine: &Machine) -> Vec<Finding> {
    let Some(offered) = machine.features else {
        return vec![Finding::ok("could not be asked for: the driver was not reached, or is old")];
    };
    let lacking = Features::SERVED - offered;
    vec![if lacking.is_empty() {
        Finding::ok("all that ublkit can use")
    } else {
        Finding::note(
            format!("this kernel lacks {lacking}"),
            "nothing needs them; 'ublkit features' tells more",
        )
    }]
}

/// Devices that nobody serves.
pub(super) fn leftovers(machine: &Machine) -> Vec<Finding> {
    let mut findings: Vec<Finding> = machine.devices.iter().filter_map(left).collect();
    if findings.is_empty() {
        let count = machine.devices.len();
        findings.push(Finding::ok(match count {
            0 => "none".into(),
            _ => format!("{count}, all of them served"),
        }));
    }
    findings
}

/// What a device's next server would have to go by.
pub(super) fn records(machine: &Machine) -> Vec<Finding> {
    if machine.records.is_empty() {
        return vec![Finding::ok("records of devices can be kept")];
    }
    let told = |why: &String| {
        Finding::note(
            why.clone(),
            "without its record a device cannot be recovered, upgraded, made larger or named",
        )
    };
    machine.records.iter().map(told).collect()
}

/// What is wrong with a device, if anything is.
fn left(device: &Device) -> Option<Finding> {
    let Device { id, state, is_served } = *device;
    Some(match state {
        DeviceState::Live if is_served => return None,
        DeviceState::Live => Finding::note(
            format!("ublk device {id} is live, and its server is gone or out of sight"),
            format!("if it stays so, delete it: 'ublkit delete {id} --force'"),
        ),
        DeviceState::Dead => Finding::note(
            format!("ublk device {id} is dead: its server stopped, died, or is only starting"),
            format!("if it stays so, delete it: 'ublkit delete {id}', or '--all'"),
        ),
        DeviceState::Quiesced => Finding::note(
            format!("ublk device {id} waits for its next server, and so do its clients"),
            format!("have its server recover it, or delete it: 'ublkit delete {id}'"),
        ),
        DeviceState::FailIo => Finding::note(
            format!("ublk device {id} has no server, and its clients' requests fail"),
            format!("have its server recover it, or delete it: 'ublkit delete {id}'"),
        ),
        other => Finding::note(
            format!("ublk device {id} is in {other}, which ublkit does not know"),
            "a newer ublkit may",
        ),
    })
}
