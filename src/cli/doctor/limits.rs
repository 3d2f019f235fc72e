//! How much a server may have.

use super::Finding;
use super::access::CAP_IPC_LOCK;
use super::machine::Machine;

/// Files that a server of few queues has open: three of its own, the control device and its ring,
/// the char device, and two for each queue; and the few that `ublkit stop` needs beside it.
const FEW_FILES: u64 = 32;
/// Enough for a queue on each of many CPUs.
const MANY_FILES: u64 = 1024;

/// The limit on open files.
pub(super) fn open_files(machine: &Machine) -> Vec<Finding> {
    vec![match machine.limit("Max open files") {
        Some(most) if most < FEW_FILES => Finding::cannot(
            format!("no more than {most} files can be open, and each queue needs two"),
            "raise the limit: 'ulimit -n 1024', or LimitNOFILE= of a unit",
        ),
        Some(most) if most < MANY_FILES => Finding::note(
            format!("no more than {most} files can be open, and each queue needs two"),
            "for many queues raise the limit: 'ulimit -n 1024', or LimitNOFILE= of a unit",
        ),
        _ => Finding::ok("enough can be open"),
    }]
}

/// The limit on memory that is kept from being swapped out.
pub(super) fn locked_memory(machine: &Machine) -> Vec<Finding> {
    vec![match machine.limit("Max locked memory") {
        Some(bytes) if !machine.may(CAP_IPC_LOCK) => Finding::note(
            format!("no more than {} KiB can be locked", bytes >> 10),
            "a server that is to lock its memory needs CAP_IPC_LOCK, 'ulimit -l unlimited', or \
             LimitMEMLOCK= of a unit",
        ),
        _ => Finding::ok("memory can be locked"),
    }]
}

/// How many devices users without privileges may have, all together. Some old drivers count every
/// device.
pub(super) fn unprivileged_devices(machine: &Machine) -> Vec<Finding> {
    let Some(most) = machine.number("sys/module/ublk_drv/parameters/ublks_max") else {
        return vec![Finding::ok("the driver does not tell of one")];
    };
    let remedy = "raise it: echo 256 > /sys/module/ublk_drv/parameters/ublks_max";
    let there = machine.devices.len() as u64;
    vec![if there >= most {
        Finding::note(
            format!(
                "{there} devices are there, and the driver's limit for ordinary users is {most}"
            ),
            remedy,
        )
    } else {
        Finding::ok(format!("{most} devices of ordinary users, {there} of any are there"))
    }]
}
