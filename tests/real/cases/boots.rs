//! A machine that boots with a disk of ours in its `/etc/fstab`, and powers off with it mounted.
//!
//! The machine is systemd as the first process of namespaces of its own: it reads the line of
//! `fstab` and the unit that docs/systemd gives, and puts both in their order.

use super::Context;
use super::errors::Restore;
use super::system::{installed, is_ours, of_docs};
use crate::kernels::Quirk;
use crate::tools::{self, eventually, run};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

/// How long a machine has for what it is asked, in seconds,
const PATIENCE_S: &str = "45";
/// and what `timeout` ends with when that was not enough.
const KILLED: i32 = 128 + 9;

const SERVICE: &str = "ublkit@scratch.service";
const GROUP: &str = "/sys/fs/cgroup/ublkit-boot";
/// What a disk has time for that does not wait.
const EARLY: Duration = Duration::from_secs(2);
/// Where the disk is mounted: the guest's root cannot be written.
const FOLDER: &str = "/mnt";

/// What comes before systemd: directories that it takes for a machine's own. Other units are out of
/// sight.
const BEFORE: &str = "
    mount -t tmpfs -o mode=755 none /run
    mount -t tmpfs -o mode=755 none /etc/systemd/system
    mount --bind $GROUP /sys/fs/cgroup
    cp $UNIT /etc/systemd/system/
    eval \"$MORE\"
    exec env -i container=ublkit PATH=$PATH SYSTEMD_LOG_TARGET=console \
        /usr/lib/systemd/systemd --system --unit=local-fs.target";

/// A machine that is up until it powers off.
struct Machine {
    outside: Child,
    /// Its first process, as we number it.
    first: u32,
}

impl Machine {
    /// With `more` before its first process.
    fn boot(more: &str) -> Self {
        fs::create_dir(GROUP).unwrap();
        let enter = format!("echo $$ >{GROUP}/cgroup.procs; exec \"$@\"");
        let mut command = Command::new("sh");
        command.args(["-c", &enter, "sh", "unshare", "--pid", "--fork", "--kill-child"]);
        command.args(["--mount", "--propagation=private", "--uts", "--ipc", "--cgroup"]);
        command.args(["--mount-proc", "sh", "-ec", BEFORE]);
        command.env("GROUP", GROUP).env("UNIT", of_docs("systemd/ublkit@.service"));
        command.env("MORE", more);
        let outside = command.stdin(Stdio::null()).spawn().unwrap();
        let mut machine = Self { outside, first: 0 };
        eventually("systemd runs", SOON, || {
            let outside = machine.outside.id();
            let children = format!("/proc/{outside}/task/{outside}/children");
            let children = fs::read_to_string(children).unwrap_or_default();
            machine.first = children.trim().parse().unwrap_or(0);
            machine.file("/run/systemd/private").exists()
        });
        machine
    }

    /// A file as it sees it.
    fn file(&self, path: &str) -> PathBuf {
        format!("/proc/{}/root{path}", self.first).into()
    }

    fn is_mounted(&self) -> bool {
        let mounts = tools::read(&format!("/proc/{}/mounts", self.first));
        mounts.lines().any(|line| line.starts_with(&format!("/dev/ublkb0 {FOLDER} ext4 ")))
    }

    /// What `systemctl` says, and whether it is content.
    fn systemctl(&self, words: &[&str]) -> (bool, String) {
        match self.systemctl_within(PATIENCE_S, words) {
            (Some(code), said) => (code == 0, said),
            (None, said) => panic!("{words:?} does not end: {said}\n{}", self.stands()),
        }
    }

    /// The same, with its code; none when it did not end in so many seconds.
    fn systemctl_within(&self, seconds: &str, words: &[&str]) -> (Option<i32>, String) {
        let first = self.first.to_string();
        let mut command = Command::new("timeout");
        command.args(["--signal=KILL", seconds, "nsenter", "--target", &first]);
        command.args(["--mount", "--pid", "--cgroup", "systemctl"]).args(words);
        let output = command.stdin(Stdio::null()).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let code = output.status.code().filter(|code| *code != KILLED);
        (code, String::from_utf8_lossy(&said).trim().to_string())
    }

    /// Where it stands, for whoever waits in vain.
    fn stands(&self) -> String {
        let asked = [&["list-jobs"][..], &["list-units", "--all", "*.mount", "*.service"]];
        let said = asked.map(|words| self.systemctl_within("5", words).1);
        [said.join("\n"), inhabitants().join("\n")].join("\n")
    }

    /// How it ended.
    fn power_off(&mut self) -> ExitStatus {
        let mode = "--job-mode=replace-irreversibly";
        let wish = ["start", "--no-block", mode, "poweroff.target"];
        eventually("its power-off begins", SOON, || self.systemctl(&wish).0);
        tools::ends(&mut self.outside, SOON).unwrap_or_else(|| {
            panic!("it is not powered off yet: {}", self.stands());
        })
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.outside.kill(); // and all that is in it
        let _ = self.outside.wait();
        for _ in 0..100 {
            if remove_group(Path::new(GROUP)).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50)); // its processes go after it
        }
    }
}

/// Who is in a PID namespace of its own, and in which state.
fn inhabitants() -> Vec<String> {
    let status = |pid: &String| fs::read_to_string(format!("/proc/{pid}/status")).ok();
    let is_inside = |status: &str| {
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        numbers.is_some_and(|numbers| numbers.split_whitespace().count() > 1)
    };
    let told = |status: String| status.lines().take(3).collect::<Vec<_>>().join(", ");
    let processes = tools::names("/proc");
    processes.iter().filter_map(status).filter(|it| is_inside(it)).map(told).collect()
}

/// Removes a control group that nobody is in, with those that its first process has made in it.
fn remove_group(group: &Path) -> io::Result<()> {
    for entry in fs::read_dir(group)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_group(&entry.path())?;
        }
    }
    fs::remove_dir(group)
}

/// The line of the documentation, of a folder that can be there.
fn line_of_fstab() -> String {
    let text = tools::read(of_docs("systemd/README.md").to_str().unwrap());
    let line = text.lines().find(|line| line.starts_with("/run/ublkit/by-name/scratch "));
    line.expect("the documentation gives it").replace(" /scratch ", &format!(" {FOLDER} ")) + "\n"
}

/// Whether a file system was left in order: what its head says, in the file that holds the disk.
fn is_clean(image: &str) -> bool {
    let head = run("dumpe2fs", &["-h", image]);
    !head.contains("needs_recovery")
}

/// A server in a PID namespace, on a kernel that does not know it there.
fn contained() {
    let inside = |words: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--mount-proc", tools::UBLKIT]).args(words);
        let output = command.stdin(Stdio::null()).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    };
    let (code, said) = inside(&["serve", "null", "--size", "1M"]);
    assert!(code == Some(1) && said.contains("kernels from 6.16 to 6.18 do not know"), "{said}");
    let (code, said) = inside(&["doctor"]);
    assert!(code != Some(0) && said.contains("starts no device from one"), "{said}");
    assert_eq!(tools::devices(), Vec::<String>::new());
}

/// A file with a file system, which has an empty file of that name.
fn file_system(image: &str, name: &str) {
    fs::File::create(image).unwrap().set_len(64 << 20).unwrap();
    run("mkfs.ext4", &["-q", image]);
    run("debugfs", &["-w", "-R", &format!("write /dev/null {name}"), image]);
}

/// Has machines serve that file, and mount so.
fn told(image: &str, fstab: &str) -> Restore<impl Fn() + use<>> {
    fs::create_dir_all("/etc/ublkit").unwrap();
    let before = tools::read("/etc/fstab");
    let restore = Restore(move || {
        fs::write("/etc/fstab", &before).unwrap();
        fs::remove_dir_all("/etc/ublkit").unwrap();
    });
    fs::write("/etc/ublkit/scratch.conf", format!("SERVE=file {image}\n")).unwrap();
    fs::write("/etc/fstab", fstab).unwrap();
    restore
}

/// The disk is live before it is mounted, and is unmounted before its server goes: when the service
/// is stopped, and when the machine is.
///
/// The machine is in a PID namespace of its own, where some kernels start no device: that is said.
pub fn mounts(context: Context) {
    if !is_ours(context) {
        return;
    }
    if context.has(Quirk::FirstPids) {
        return contained();
    }
    let _program = installed();
    let image = "/tmp/ublkit-boot.img";
    let _image = Restore(|| drop(fs::remove_file(image)));
    file_system(image, "file");
    let _told = told(image, &line_of_fstab());

    let mut machine = Machine::boot("");
    eventually("it has booted", SOON, || machine.systemctl(&["is-active", "local-fs.target"]).0);
    assert!(machine.is_mounted());
    assert!(!is_clean(image), "what is in use is not told from what was left in order");
    let file = machine.file("/mnt/file");
    let contents = vec![0x5a; 8 << 20];
    fs::write(&file, &contents).unwrap(); // and nobody syncs it

    assert_eq!(machine.systemctl(&["stop", SERVICE]), (true, String::new()));
    assert_eq!((machine.is_mounted(), tools::devices()), (false, Vec::new()));
    assert!(is_clean(image), "the server went before the file system");

    assert_eq!(machine.systemctl(&["start", "mnt.mount"]), (true, String::new()));
    assert!(machine.is_mounted() && machine.systemctl(&["is-active", SERVICE]).0);
    assert!(fs::read(&file).unwrap() == contents);
    let turned: Vec<u8> = contents.iter().map(|byte| !byte).collect();
    fs::write(&file, &turned).unwrap();

    let ended = machine.power_off();
    println!("  measured: the machine ended with {ended}");
    assert_eq!(tools::devices(), Vec::<String>::new());
    assert!(is_clean(image), "the server went before the file system");
    run("debugfs", &["-R", "dump /file /tmp/ublkit-boot.file", image]);
    assert!(fs::read("/tmp/ublkit-boot.file").unwrap() == turned);
    fs::remove_file("/tmp/ublkit-boot.file").unwrap();
}

/// The file system that comes late: the folder that becomes it, and where it is mounted. There the
/// machine has another file of the same name before.
const LATE: &str = "/tmp/ublkit-late";
const LATE_POINT: &str = "/media/late";

/// A mount that takes until it is told to go on.
const WAITS: &str = "
    mount -t tmpfs none /media
    mkdir /media/late
    cp $OTHER /media/late/scratch.img
    printf '%s\\n' '[Unit]' 'DefaultDependencies=no' '[Service]' 'Type=oneshot' \\
        'RemainAfterExit=yes' \\
        'ExecStart=/bin/sh -c \"while ! test -e /run/go; do sleep 0.1; done\"' \\
        >/etc/systemd/system/late.service
";

/// The drop-in of the documentation, of that mount.
fn drop_in() -> String {
    let text = tools::read(of_docs("systemd/README.md").to_str().unwrap());
    let lines = text.split("\n[Unit]\n").nth(1).and_then(|rest| rest.lines().next());
    let line =
        lines.expect("the documentation gives it").replace("=/srv", &format!("={LATE_POINT}"));
    let folder = format!("/etc/systemd/system/{SERVICE}.d");
    format!("mkdir {folder}; printf '[Unit]\\n{line}\\n' >{folder}/mounts.conf\n")
}

/// A disk whose file lies on a file system that is mounted late: with the drop-in that the
/// documentation gives, it is served from there, and stopped before the file system is unmounted.
/// Without it, as a control, it is served too early, and is another.
pub fn late_mounts(context: Context) {
    if !is_ours(context) || context.has(Quirk::FirstPids) {
        return;
    }
    let _program = installed();
    let (image, other) = (&format!("{LATE}/scratch.img"), "/tmp/ublkit-other.img");
    let _images = Restore(|| {
        let _ = fs::remove_dir_all(LATE);
        let _ = fs::remove_file(other);
    });
    fs::create_dir_all(LATE).unwrap();
    file_system(image, "right");
    file_system(other, "other");
    let late = format!("{LATE} {LATE_POINT} none bind,x-systemd.requires=late.service 0 0\n");
    let _told = told(&format!("{LATE_POINT}/scratch.img"), &(late + &line_of_fstab()));
    let waits = format!("OTHER={other}\n{WAITS}");

    let mut machine = Machine::boot(&(waits.clone() + &drop_in()));
    let waiting = || machine.systemctl(&["list-jobs"]).1;
    let is_waiting = |unit: &str, how: &str| {
        let jobs = waiting();
        jobs.lines().any(|line| line.contains(unit) && line.trim_end().ends_with(how))
    };
    eventually("the mount is under way", SOON, || is_waiting("late.service", "running"));
    std::thread::sleep(EARLY);
    assert!(is_waiting(SERVICE, "waiting"), "{}", waiting());
    assert_eq!(tools::devices(), Vec::<String>::new());
    fs::write(machine.file("/run/go"), "").unwrap();
    eventually("it has booted", SOON, || machine.systemctl(&["is-active", "local-fs.target"]).0);
    assert!(machine.is_mounted() && machine.file("/mnt/right").exists());
    assert!(!is_clean(image));
    assert_eq!(machine.systemctl(&["stop", "media-late.mount"]), (true, String::new()));
    assert_eq!((machine.is_mounted(), tools::devices()), (false, Vec::new()));
    assert!(is_clean(image), "the file went before the disk in it");
    assert_eq!(machine.systemctl(&["start", "mnt.mount"]), (true, String::new()));
    assert!(machine.is_mounted() && machine.file("/mnt/right").exists());
    machine.power_off();
    assert_eq!(tools::devices(), Vec::<String>::new());
    assert!(is_clean(image), "the file went before the disk in it");
    drop(machine);

    let mut machine = Machine::boot(&waits);
    eventually("it is too early", SOON, || machine.systemctl(&["is-active", SERVICE]).0);
    fs::write(machine.file("/run/go"), "").unwrap();
    eventually("it has booted", SOON, || machine.systemctl(&["is-active", "local-fs.target"]).0);
    assert!(machine.is_mounted() && machine.file("/mnt/other").exists());
    machine.power_off();
    assert_eq!(tools::devices(), Vec::<String>::new());
}
