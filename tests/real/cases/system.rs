//! Served as a machine does it: with udev's own daemon, and with systemd's.
//!
//! Both are the real programs, in a guest that has neither otherwise: udev gives nodes to their
//! devices' makers by our rule, and a service manager starts, restarts and stops our unit.

use super::Context;
use super::errors::Restore;
use super::ordinary;
use crate::tools::{self, Serving, UBLKIT, eventually, names, run};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use ublkit::Features;

const SOON: Duration = Duration::from_secs(30);

/// Where the rule and the unit expect the program.
const INSTALLED: &str = "/usr/local/bin/ublkit";

/// A file of `docs`.
pub(super) fn of_docs(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(path)
}

/// Installs the program; the guest's own `/usr` is thrown away with it.
pub(super) fn installed() -> Restore<impl Fn()> {
    fs::copy(UBLKIT, INSTALLED).unwrap();
    Restore(|| drop(fs::remove_file(INSTALLED)))
}

/// Whether the machine may be changed so.
pub(super) fn is_ours(context: Context) -> bool {
    if !context.expendable {
        println!("measured: nothing: this machine's own daemons are left alone");
    }
    context.expendable
}

/// What `tests/vm/prepare.sh` has unpacked.
fn udevadm() -> PathBuf {
    let vm = std::env::var_os("UBLKIT_VM_CACHE").map(PathBuf::from);
    let vm = vm.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/vm"));
    vm.join("udevadm")
}

/// udev with our rule, for as long as this lives.
struct Udev(Child);

impl Udev {
    fn start() -> Self {
        let rules = "/run/udev/rules.d";
        fs::create_dir_all(rules).unwrap();
        fs::copy(of_docs("udev/60-ublkit.rules"), format!("{rules}/60-ublkit.rules")).unwrap();
        // It is one program, and told apart by what it is called.
        let daemon = "/run/systemd-udevd";
        fs::copy(udevadm(), daemon).unwrap();
        let udev = Self(Command::new(daemon).stdin(Stdio::null()).spawn().unwrap());
        eventually("udev listens", SOON, || Path::new("/run/udev/control").exists());
        for words in [&["trigger", "--action=add", "--name-match=ublk-control"][..], &["settle"]] {
            let done = Command::new(udevadm()).args(words).stdin(Stdio::null()).status().unwrap();
            assert!(done.success(), "udevadm {words:?}");
        }
        udev
    }
}

impl Drop for Udev {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        let _ = fs::remove_dir_all("/run/udev");
    }
}

/// An ordinary user's device, whose nodes udev gives him, as the documentation has it installed.
pub fn nodes(context: Context) {
    if !is_ours(context) {
        return;
    }
    let _program = installed();
    let _udev = Udev::start();
    ordinary::with_nodes();
}

/// A service manager, for as long as this lives.
struct Manager(Child);

const RUNTIME: &str = "/run/ublkit-manager";

impl Manager {
    fn start() -> Self {
        let units = format!("{RUNTIME}/systemd/user");
        fs::create_dir_all(format!("{units}/ublkit@.service.d")).unwrap();
        fs::create_dir_all("/run/systemd/system").unwrap(); // as on a machine that it has booted
        fs::copy(of_docs("systemd/ublkit@.service"), format!("{units}/ublkit@.service")).unwrap();
        let again = "[Service]\nRestart=on-failure\n";
        fs::write(format!("{units}/ublkit@.service.d/again.conf"), again).unwrap();
        let mut command = Command::new("/usr/lib/systemd/systemd");
        command.args(["--user", "--unit=basic.target"]).env("XDG_RUNTIME_DIR", RUNTIME);
        let manager = Self(command.stdin(Stdio::null()).spawn().unwrap());
        let listens = format!("{RUNTIME}/systemd/private");
        eventually("the manager listens", SOON, || Path::new(&listens).exists());
        manager
    }

    /// What `systemctl` says, and whether it is content.
    fn systemctl(words: &[&str]) -> (bool, String) {
        let mut command = Command::new("systemctl");
        command.arg("--user").args(words).env("XDG_RUNTIME_DIR", RUNTIME).stdin(Stdio::null());
        let output = command.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).trim().to_string())
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        let _ = fs::remove_dir_all(RUNTIME);
        let _ = fs::remove_dir_all("/run/systemd/system");
    }
}

fn shown(device: &str) -> Value {
    serde_json::from_str(&run(UBLKIT, &["show", device, "--json"])).unwrap()
}

/// A disk that is a service: live when it has started, there again when its server was killed, gone
/// when it has stopped.
pub fn service(context: Context) {
    if !is_ours(context) {
        return;
    }
    let _program = installed();
    let (name, service) = ("scratch", "ublkit@scratch");
    let image = "/tmp/ublkit-service.img";
    let _image = Restore(|| drop(fs::remove_file(image)));
    fs::create_dir_all("/etc/ublkit").unwrap();
    let words = format!("SERVE=file {image} --size 16M --recover reissue --resume\n");
    fs::write("/etc/ublkit/scratch.conf", words).unwrap();
    let _told = Restore(|| drop(fs::remove_dir_all("/etc/ublkit")));
    let _manager = Manager::start();

    assert_eq!(Manager::systemctl(&["start", service]), (true, String::new()));
    let first = shown(name); // that it started says that it is live
    assert_eq!(first["state"], "live", "{first}");
    let (_, status) = Manager::systemctl(&["show", service, "--property=StatusText"]);
    assert_eq!(status, "StatusText=serving /dev/ublkb0");

    // Upgraded by hand it would be the unit's no more, which is said, and not done.
    let kept = tools::output(UBLKIT, &["upgrade", name]);
    let why = String::from_utf8_lossy(&kept.stderr);
    assert!(why.contains("is served by ublkit@scratch.service, which would end"), "{why}");
    assert_eq!(kept.status.code(), Some(2), "{why}");
    assert_eq!(shown(name)["server_pid"], first["server_pid"]);

    let killed = Manager::systemctl(&["kill", "--signal=KILL", service]);
    assert_eq!(killed, (true, String::new()));
    eventually("another server serves it", SOON * 2, || {
        let now = shown(name);
        now["state"] == "live" && now["server_pid"] != first["server_pid"]
    });
    assert_eq!(shown(name)["tag"], first["tag"], "it is the same device");
    eventually("the manager knows", SOON, || Manager::systemctl(&["is-active", service]).0);

    assert_eq!(Manager::systemctl(&["stop", service]), (true, String::new()));
    assert_eq!(tools::devices(), Vec::<String>::new());
    let (_, result) = Manager::systemctl(&["show", service, "--property=Result"]);
    assert_eq!(result, "Result=success");
    assert!(!names("/run/ublkit").iter().any(|name| name.ends_with(".json")), "a record is left");

    assert_eq!(Manager::systemctl(&["start", service]), (true, String::new()));
    if context.features.contains(Features::QUIESCE) {
        leaves_its_unit(name, service);
    } else {
        let kept = tools::output(UBLKIT, &["upgrade", name, "--leave-unit"]);
        let why = String::from_utf8_lossy(&kept.stderr);
        assert!(why.contains("ublkit@scratch.service may start the next"), "{why}");
        assert_eq!(kept.status.code(), Some(2), "{why}");
        assert_eq!(Manager::systemctl(&["stop", service]), (true, String::new()));
    }

    // What keeps it from being served is told.
    fs::write("/etc/ublkit/scratch.conf", "SERVE=file /nowhere/disk.img\n").unwrap();
    let (started, why) = Manager::systemctl(&["start", service]);
    assert!(!started && why.contains("failed"), "{why}");
}

/// Who wants it all the same says so: the unit ends, and does not start again.
fn leaves_its_unit(name: &str, service: &str) {
    let mut command = Command::new(UBLKIT);
    let next = Serving::started(command.args(["upgrade", name, "--leave-unit"]));
    eventually("the unit ends", SOON, || {
        Manager::systemctl(&["show", service, "--property=ActiveState"]).1 == "ActiveState=inactive"
    });
    assert_eq!(shown(name)["server_pid"], next.child.id());
    next.signal(rustix::process::Signal::INT);
    let (code, said) = next.end(SOON);
    assert!(code == 0 && said.contains("has left ublkit@scratch.service"), "{code}: {said}");
}

const GROUP: &str = "/sys/fs/cgroup/ublkit-pinned";

/// Each queue's thread stays on its queue's CPUs; and where the process may not use them, that is
/// said.
pub fn pinned(context: Context) {
    let words = ["serve", "memory", "--size", "16M", "--queues", "2", "--pin-queues"];
    let serving = Serving::start(&words[1..]);
    let (pid, id) = (serving.child.id(), serving.id());
    let mut seen = 0;
    for task in names(&format!("/proc/{pid}/task")) {
        let comm = tools::read(&format!("/proc/{pid}/task/{task}/comm"));
        let Some(queue) = comm.trim().strip_prefix(&format!("ublk{id}-q")) else { continue };
        let status = tools::read(&format!("/proc/{pid}/task/{task}/status"));
        let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        let own = tools::read(&format!("/sys/block/ublkb{id}/mq/{queue}/cpu_list"));
        let own = own.trim().split(", ").map(|cpu| cpu.parse().unwrap()).collect::<BTreeSet<u32>>();
        assert_eq!(cpus(allowed.unwrap()), own, "queue {queue}");
        seen += 1;
    }
    assert_eq!(seen, 2, "both threads were seen");
    serving.stop();
    if !is_ours(context) {
        return;
    }
    fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+cpuset").unwrap();
    fs::create_dir(GROUP).unwrap();
    let _group = Restore(|| drop(fs::remove_dir(GROUP)));
    fs::write(format!("{GROUP}/cpuset.cpus"), "0").unwrap();
    let script = format!("echo $$ >{GROUP}/cgroup.procs; exec \"$@\"");
    let output = tools::output("sh", &[&["-c", &script, "sh", UBLKIT][..], &words].concat());
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(why.contains("queue's CPUs failed with EINVAL"), "{why}");
    assert_eq!(tools::devices(), Vec::<String>::new());
}

/// The CPUs of a list such as `0-1,3`.
fn cpus(list: &str) -> BTreeSet<u32> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        first.parse::<u32>().unwrap()..=last.parse().unwrap()
    };
    list.trim().split(',').flat_map(range).collect()
}
