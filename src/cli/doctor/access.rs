//! What whoever asks may do.

use super::Finding;
use super::machine::{CONTROL, Machine};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use ublkit::Errno;

/// `linux/capability.h`.
pub(super) const CAP_IPC_LOCK: u32 = 14;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_SYS_RESOURCE: u32 = 24;

/// Where udev has its rules (udev(7)).
const RULES: [&str; 5] = [
    "etc/udev/rules.d",
    "run/udev/rules.d",
    "usr/local/lib/udev/rules.d",
    "usr/lib/udev/rules.d",
    "lib/udev/rules.d",
];

/// The node through which all commands go.
pub(super) fn control_device(machine: &Machine) -> Vec<Finding> {
    vec![match machine.open(CONTROL) {
        Ok(_) => Finding::ok("/dev/ublk-control can be opened"),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Finding::cannot(
            "there is no /dev/ublk-control",
            "load the driver; if it is loaded, mount a devtmpfs on /dev, or give the node to the \
             container",
        ),
        Err(Errno::ENXIO | Errno::ENODEV) => Finding::cannot(
            "/dev/ublk-control is left of another boot: no driver answers there",
            "load the driver; if it is loaded, remove the node, and have udev make it anew",
        ),
        Err(Errno::EACCES | Errno::EPERM) => Finding::may_not(
            format!("/dev/ublk-control cannot be opened{}", owner(machine)),
            "run as root, or have udev give the node to you or your group",
        ),
        Err(errno) => Finding::cannot(
            format!("/dev/ublk-control cannot be opened: {errno}"),
            "remove what is there, and load the driver anew",
        ),
    }]
}

/// Whose the node is, as far as that can be seen.
fn owner(machine: &Machine) -> String {
    machine.metadata(CONTROL).map_or_else(
        |_| String::new(),
        |node| {
            let mode = node.permissions().mode() & 0o777;
            format!(": it is of user {} and group {}, mode {mode:04o}", node.uid(), node.gid())
        },
    )
}

/// Whether rings can be made.
pub(super) fn io_uring(machine: &Machine) -> Vec<Finding> {
    let switch = machine.number("proc/sys/kernel/io_uring_disabled").unwrap_or(0);
    vec![match (machine.ring, switch) {
        (Ok(()), 0) => Finding::ok("io_uring can be used"),
        (Ok(()), _) => Finding::ok("io_uring can be used, though not by everybody"),
        (Err(_), 2) => Finding::cannot(
            "io_uring is switched off for all: sysctl kernel.io_uring_disabled is 2",
            "run 'sysctl -w kernel.io_uring_disabled=0'",
        ),
        (Err(_), 1) => Finding::may_not(
            "io_uring is for few: sysctl kernel.io_uring_disabled is 1",
            "run as root, join the group of sysctl kernel.io_uring_group, or set the first to 0",
        ),
        (Err(Errno::ENOSYS), _) => Finding::cannot(
            "there is no io_uring: the kernel was built without it, or a container's filter \
             (seccomp) hides it",
            "boot another kernel, or have the filter allow io_uring_setup, _enter and _register",
        ),
        (Err(Errno::EPERM | Errno::EACCES), _) => Finding::may_not(
            "a security policy or a container's filter (seccomp) forbids io_uring",
            "have it allow io_uring_setup, io_uring_enter and io_uring_register",
        ),
        (Err(errno), _) => Finding::cannot(
            format!("no io_uring can be made: {errno}"),
            "if it is for lack of files or memory, see 'ulimit -a'",
        ),
    }]
}

/// What the process may do beyond others, and for what it would need that.
pub(super) fn capabilities(machine: &Machine) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !machine.may(CAP_SYS_ADMIN) {
        let whose = match machine.is_first_user_namespace() {
            true => "no CAP_SYS_ADMIN",
            false => "root of a user namespace is not root",
        };
        let remedy = "run as root in the first user namespace (sudo; a container: --privileged, no \
                      'userns')";
        // Whoever may open the control device may make devices of his own, if he is given them.
        let may_make = machine.open(CONTROL).is_ok();
        findings.push(match may_make.then(|| who_gives_nodes(machine)) {
            None => Finding::may_not(
                format!("{whose}: devices cannot be made, stopped or deleted"),
                remedy,
            ),
            Some(Ok(())) => Finding::note(
                format!("{whose}: only devices with '--unprivileged' can be made, see docs/udev"),
                remedy,
            ),
            Some(Err(why)) => Finding::may_not(
                format!("{whose}, and {why}: nobody would give you the nodes of your devices"),
                "run as root, or have udev give nodes away: docs/install, see docs/udev",
            ),
        });
    }
    if !machine.may(CAP_SYS_RESOURCE) {
        findings.push(Finding::note(
            "no CAP_SYS_RESOURCE: queue threads are no IO_FLUSHERs, and may wait for the very \
             disk they serve when memory is short",
            "give the capability before you swap to the disk or fill it by buffered writes",
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::ok("all that serving needs"));
    }
    findings
}

/// Whether whoever asks is given the nodes of devices that he makes, or why not.
fn who_gives_nodes(machine: &Machine) -> Result<(), &'static str> {
    if machine.is_root() {
        return Ok(()); // they are root's before anybody gives them away
    }
    if !machine.exists("run/udev/control") {
        return Err("no udev runs");
    }
    let is_rule = |name: &String| name.ends_with(".rules");
    let gives = |line: &str| {
        let words = ["ublkc", "OWNER"];
        !line.starts_with('#') && words.iter().all(|word| line.contains(word))
    };
    let speaks_of_us = |folder: &&str| {
        let rules = machine.names(folder).into_iter().filter(is_rule);
        let mut rules = rules.map(|name| machine.text(&format!("{folder}/{name}")));
        rules.any(|rule| rule.lines().any(gives))
    };
    let is_there = RULES.iter().any(speaks_of_us);
    if is_there { Ok(()) } else { Err("no rule of udev's gives ublk devices away") }
}
