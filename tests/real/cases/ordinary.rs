//! A device of an ordinary user: made, served, used, looked at and stopped without privileges.
//!
//! There is no udev in the guest. What its rule (`docs/udev`) does is done here: it asks `ublkit
//! owner` whose a node is, and gives it to him. `system::nodes` does the same with udev itself.

use super::Context;
use super::errors::{Restore, as_nobody};
use crate::tools::{self, Serving, UBLKIT, eventually, names, run};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);
const NOBODY: u32 = 65534;
/// Another ordinary user.
const DAEMON: &str = "1";
const RUNTIME: &str = "/tmp/ublkit-nobodys";

/// Gives each node to its device's maker, as soon as it is there.
fn play_udev(is_over: &AtomicBool) {
    let mut given: Vec<String> = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        let nodes: Vec<String> = names("/dev").into_iter().filter(|name| is_node(name)).collect();
        given.retain(|name| nodes.contains(name));
        for name in nodes {
            if !given.contains(&name) {
                let path = format!("/dev/{name}");
                let output = tools::output(UBLKIT, &["owner", &path]);
                let said = String::from_utf8(output.stdout).unwrap();
                let mut numbers = said.split_whitespace().map(|word| word.parse::<u32>().unwrap());
                if let (Some(user), Some(group)) = (numbers.next(), numbers.next()) {
                    chown(&path, Some(user), Some(group)).unwrap();
                    given.push(name);
                }
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn is_node(name: &str) -> bool {
    ["ublkc", "ublkb"].iter().any(|kind| name.starts_with(kind))
}

fn nobodys(words: &[&str]) -> Command {
    let mut command = as_nobody(words);
    command.env("XDG_RUNTIME_DIR", RUNTIME).env_remove("UBLKIT_STATE_DIR");
    command
}

fn said(command: &mut Command) -> (Output, String) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, said)
}

pub fn whole_life(_: Context) {
    let control = "/dev/ublk-control";
    let mode = |mode| fs::set_permissions(control, PermissionsExt::from_mode(mode)).unwrap();
    mode(0o666);
    let _closed = Restore(|| mode(0o600));
    make_runtime_folder();

    // Nobody gives the node away: an error that says so, and root can clean up.
    let (output, why) = said(&mut nobodys(&["serve", "null", "--size", "1G", "--unprivileged"]));
    assert_eq!(output.status.code(), Some(3), "{why}");
    assert!(why.contains("udev has to see to that"), "{why}");
    run(UBLKIT, &["delete", "--all"]);

    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| play_udev(&is_over));
        let over = Restore(|| is_over.store(true, Ordering::Relaxed));
        used();
        drop(over);
    });
    nothing_is_left();
}

/// The same where somebody else gives the nodes away, and has given the control device.
pub fn with_nodes() {
    let _closed = Restore(|| {
        let mode = PermissionsExt::from_mode(0o600);
        fs::set_permissions("/dev/ublk-control", mode).unwrap();
    });
    make_runtime_folder();
    used();
    nothing_is_left();
}

fn make_runtime_folder() {
    let _ = fs::remove_dir_all(RUNTIME);
    fs::create_dir(RUNTIME).unwrap();
    chown(RUNTIME, Some(NOBODY), Some(NOBODY)).unwrap();
}

fn nothing_is_left() {
    let left = names(&format!("{RUNTIME}/ublkit"));
    let left: Vec<_> = left.iter().filter(|name| *name != "by-name").collect();
    assert!(left.is_empty(), "records are left: {left:?}");
}

/// What its maker can do with it, and others cannot.
fn used() {
    let words = ["serve", "memory", "--size", "64M", "--queues", "2", "--unprivileged"];
    let serving = Serving::started(&mut nobodys(&words));
    let (path, id) = (serving.path.clone(), serving.id().to_string());
    let shown = run(UBLKIT, &["show", &id]);
    assert!(shown.contains("UNPRIVILEGED_DEV") && shown.contains("uid 65534"), "{shown}");
    assert!(shown.contains("get-data"), "the best path that there is: {shown}");
    eventually("the disk is its maker's", SOON, || {
        dd(&NOBODY.to_string(), &path).is_ok() // the node of the disk comes last
    });
    dd(DAEMON, &path).unwrap_err();
    let (output, why) = said(&mut nobodys(&["show", &id, "--json"]));
    assert!(output.status.success(), "{why}");
    let (output, why) = said(&mut nobodys(&["stat", &id, "--json"]));
    assert!(output.status.success(), "{why}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("\"counted_by\": \"queues\""), "{text}");
    // Others may not command it.
    let daemons = ["--reuid", DAEMON, "--regid", DAEMON, "--clear-groups", "/tmp/ublkit-of-nobody"];
    let output = tools::output("setpriv", &[&daemons[..], &["stop", &id]].concat());
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let (output, why) = said(&mut nobodys(&["delete", &id, "--force", "--no-wait"]));
    assert_eq!(output.status.code(), Some(1), "{why}");
    assert!(why.contains("leave '--no-wait' out"), "{why}");
    let (output, why) = said(&mut nobodys(&["stop", &id]));
    assert!(output.status.success(), "{why}");
    let (code, why) = serving.end(SOON);
    assert_eq!((code, why.as_str()), (0, format!("ublkit: somebody stopped {path}\n").as_str()));
    assert_eq!(tools::devices(), Vec::<String>::new());

    // One that a signal ends deletes its device itself.
    let serving = Serving::started(&mut nobodys(&words));
    serving.stop();
    assert_eq!(tools::devices(), Vec::<String>::new());
}

/// Writes and reads a few blocks as that user.
fn dd(user: &str, path: &str) -> Result<(), String> {
    let script = "dd if=/dev/zero of=$0 bs=4k count=8 oflag=direct && \
                  dd if=$0 of=/dev/null bs=4k count=8 iflag=direct";
    let words = ["--reuid", user, "--regid", user, "--clear-groups", "sh", "-c", script, path];
    let output = tools::output("setpriv", &words);
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}
