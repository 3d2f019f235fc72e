//! `ublkit doctor` on machines that were made bad in each way, one after the other.

use super::Context;
use super::errors::{Restore, as_nobody};
use crate::tools::{self, Serving, UBLKIT, run};
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);
const CONTROL: &str = "/dev/ublk-control";
const SWITCH: &str = "/proc/sys/kernel/io_uring_disabled";
const PLACE: &str = "UBLKIT_STATE_DIR";
const LIMIT: &str = "/sys/module/ublk_drv/parameters/ublks_max";

/// What a doctor said.
struct Said {
    code: i32,
    report: Value,
    heading: String,
}

/// Has a command that becomes `ublkit doctor --json` look at the machine.
fn ask(command: &mut Command) -> Said {
    let devices = tools::devices();
    let output = command.stdin(Stdio::null()).output().expect("it runs");
    assert_eq!(tools::devices(), devices, "a doctor changes nothing");
    let heading = format!("{command:?}");
    let report = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{heading}: {error}: {output:?}"));
    Said { code: output.status.code().expect("no signal ended it"), report, heading }
}

fn doctor() -> Said {
    ask(Command::new(UBLKIT).args(["doctor", "--json"]))
}

/// The same behind a program that takes something away first.
fn behind(words: &[&str]) -> Said {
    ask(Command::new(words[0]).args(&words[1..]).args([UBLKIT, "doctor", "--json"]))
}

fn nobodys_doctor() -> Said {
    ask(&mut as_nobody(&["doctor", "--json"]))
}

impl Said {
    /// The code, and one finding of it: its check, its verdict, and a part of what it says.
    #[track_caller]
    fn is(&self, code: i32, check: &str, verdict: &str, part: &str) -> &Self {
        let Self { report, heading, .. } = self;
        let fits = |finding: &Value| {
            let says = finding["sentence"].as_str().is_some_and(|said| said.contains(part));
            finding["check"] == check && finding["verdict"] == verdict && says
        };
        let findings = report["findings"].as_array().expect("a list");
        assert!(
            findings.iter().any(fits),
            "{heading}: no {verdict} of '{check}' says '{part}': {report:#}"
        );
        assert_eq!(self.code, code, "{heading}: {report:#}");
        assert_eq!(report["can_serve"], code == 0, "{heading}");
        self
    }
}

/// On the machines of these tests a device can be served, and the doctor says so.
pub fn well(_: Context) {
    doctor().is(0, "driver", "ok", "is there").is(0, "devices", "ok", "none");
    let serving = Serving::start(&["null", "--size", "1G"]);
    doctor().is(0, "devices", "ok", "1, all of them served");
    let id = serving.id().to_string();
    serving.signal(Signal::KILL);
    serving.end(SOON);
    doctor().is(0, "devices", "note", &format!("ublk device {id} is dead"));
    run(UBLKIT, &["delete", &id]);
    records();
    let text = run(UBLKIT, &["doctor"]);
    assert!(text.contains("ok       driver          ublk_drv is there"), "{text}");
}

/// Records that are not to be believed, or cannot be kept.
fn records() {
    let place = "/run/ublkit-doctor";
    let ask = || ask(Command::new(UBLKIT).args(["doctor", "--json"]).env(PLACE, place));
    let mode = |mode| fs::set_permissions(place, PermissionsExt::from_mode(mode)).unwrap();
    ask().is(0, "records", "ok", "can be kept");
    assert!(!Path::new(place).exists(), "a doctor makes nothing");
    fs::create_dir(place).unwrap();
    mode(0o777);
    ask().is(0, "records", "note", "others may use it (mode 0777)");
    mode(0o700);
    ask().is(0, "records", "ok", "can be kept");
    fs::write(format!("{place}/0000000000000007.json"), "no record").unwrap();
    ask().is(0, "records", "note", "0000000000000007.json is no use");
    fs::remove_dir_all(place).unwrap();
    let read_only = "mount -t tmpfs -o ro none /run && exec \"$@\"";
    let there = "cannot make /run/ublkit: EROFS";
    behind(&["unshare", "--mount", "sh", "-c", read_only, "sh"]).is(0, "records", "note", there);
}

/// What is taken from the process alone.
pub fn poor_process(_: Context) {
    behind(&["prlimit", "--nofile=16"]).is(4, "open files", "problem", "no more than 16 files");
    behind(&["prlimit", "--nofile=100"]).is(0, "open files", "note", "no more than 100 files");
    let without = |capability: &str| behind(&["setpriv", &format!("--bounding-set=-{capability}")]);
    without("sys_admin").is(0, "capabilities", "note", "no CAP_SYS_ADMIN: only devices");
    without("sys_resource").is(0, "capabilities", "note", "no CAP_SYS_RESOURCE");
    behind(&["prlimit", "--memlock=65536", "setpriv", "--bounding-set=-ipc_lock"]).is(
        0,
        "locked memory",
        "note",
        "no more than 64 KiB",
    );
    behind(&["unshare", "--map-root-user"]).is(
        0,
        "capabilities",
        "note",
        "root of a user namespace",
    );
    let no_dev = "mount -t tmpfs none /dev && exec \"$@\"";
    behind(&["unshare", "--mount", "sh", "-c", no_dev, "sh"]).is(
        4,
        "control device",
        "problem",
        "there is no /dev/ublk-control",
    );
}

/// What is closed to somebody, or to all.
pub fn closed(_: Context) {
    let mode = |mode| fs::set_permissions(CONTROL, PermissionsExt::from_mode(mode)).unwrap();
    mode(0o600);
    nobodys_doctor().is(3, "control device", "problem", "mode 0600").is(
        3,
        "capabilities",
        "problem",
        "no CAP_SYS_ADMIN",
    );
    let before = tools::read(SWITCH);
    let _open = Restore(|| {
        fs::write(SWITCH, before.trim()).unwrap();
        mode(0o600);
    });
    mode(0o666);
    nobodys_doctor().is(3, "capabilities", "problem", "nobody would give you the nodes");
    fs::write(SWITCH, "1").unwrap();
    nobodys_doctor().is(3, "io_uring", "problem", "io_uring is for few");
    doctor().is(0, "io_uring", "ok", "not by everybody");
    fs::write(SWITCH, "2").unwrap();
    doctor().is(4, "io_uring", "problem", "switched off for all");
}

/// What the driver lacks, or is lacking itself.
pub fn no_driver(_: Context) {
    let before = tools::read(LIMIT);
    let limit = Restore(|| fs::write(LIMIT, before.trim()).unwrap());
    fs::write(LIMIT, "0").unwrap();
    doctor().is(0, "device limit", "note", "limit for ordinary users is 0");
    drop(limit);

    let aside = "/dev/ublk-control.aside";
    fs::rename(CONTROL, aside).unwrap();
    let node = Restore(|| fs::rename(aside, CONTROL).unwrap());
    doctor().is(4, "control device", "problem", "there is no /dev/ublk-control");
    run("mknod", &[CONTROL, "c", "10", "254"]); // of nobody
    doctor().is(4, "control device", "problem", "left of another boot");
    fs::remove_file(CONTROL).unwrap();
    drop(node);

    let _loaded = Restore(|| drop(run("modprobe", &["ublk_drv"])));
    run("modprobe", &["-r", "ublk_drv"]);
    doctor().is(4, "driver", "problem", "ublk_drv is not loaded");
}
