//! Bad machines, made of files; what is said of each is in `tests/golden/doctor.txt`.

use super::machine::Device;
use super::made::Made;
use super::{CHECKS, Report, Verdict};
use std::fs;
use std::path::Path;
use ublkit::{DeviceState, Errno, Features};

impl Made {
    fn release(&self, release: &str) {
        self.write("proc/sys/kernel/osrelease", release);
    }

    fn container(&self) {
        let name = self.root.join("proc/self/ns/pid");
        fs::create_dir_all(name.parent().expect("below the root")).expect("a folder");
        std::os::unix::fs::symlink("pid:[4026532000]", name).expect("a link");
    }

    fn device(&mut self, id: u32, state: DeviceState, is_served: bool) {
        self.machine.devices.push(Device { id, state, is_served });
    }

    fn without_capabilities(&self, uid: u32) {
        let status = format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}\nCapEff:\t0000000000000000\n");
        self.write("proc/self/status", &status);
    }

    fn no_driver(&self) {
        fs::remove_dir_all(self.root.join("sys/module/ublk_drv")).expect("it was there");
        self.remove("dev/ublk-control");
    }
}

/// What is wrong with a machine, and how it is made so.
type Bad = (&'static str, fn(&mut Made));

const BAD: &[Bad] = &[
    ("a kernel of 6.1", |made| made.release("6.1.0-31-amd64")),
    ("a kernel of 6.12", |made| made.release("6.12.117+deb13-amd64")),
    ("a kernel of Ubuntu's 6.17", |made| made.release("6.17.0-14-generic")),
    ("a kernel of 6.18.5", |made| made.release("6.18.5+deb13-amd64")),
    ("a kernel of 7.3", |made| made.release("7.3.4+deb13-amd64")),
    ("a container on 6.17", |made| {
        made.release("6.17.13+deb13-amd64");
        made.container();
    }),
    ("a container on an early 6.16", |made| {
        made.release("6.16.3+deb13-amd64");
        made.container();
    }),
    ("a container on an early 6.18", |made| {
        made.release("6.18.14+deb13-amd64");
        made.container();
    }),
    ("a container on 6.18.15", |made| {
        made.release("6.18.15+deb13-amd64");
        made.container();
    }),
    ("a container on 7.2", |made| made.container()),
    ("a kernel that has crashed", |made| made.write("proc/sys/kernel/tainted", "640")),
    ("a driver that is not loaded", |made| made.no_driver()),
    ("a kernel without the driver", |made| {
        made.no_driver();
        made.write("lib/modules/7.2.13+deb14-amd64/modules.dep", "kernel/fs/ext4.ko:\n");
    }),
    ("a container without modules", |made| {
        made.no_driver();
        fs::remove_dir_all(made.root.join("lib")).expect("it was there");
    }),
    ("no control device", |made| made.remove("dev/ublk-control")),
    ("a control device that is none", |made| {
        made.remove("dev/ublk-control");
        fs::create_dir(made.root.join("dev/ublk-control")).expect("a folder");
    }),
    ("a control device of another boot", |made| made.machine.closed = Some(Errno::ENXIO)),
    ("a control device of another user", |made| made.machine.closed = Some(Errno::EACCES)),
    ("io_uring for some", |made| made.write("proc/sys/kernel/io_uring_disabled", "1\n")),
    ("io_uring switched off", |made| {
        made.machine.ring = Err(Errno::EPERM);
        made.write("proc/sys/kernel/io_uring_disabled", "2\n");
    }),
    ("io_uring for few", |made| {
        made.machine.ring = Err(Errno::EPERM);
        made.write("proc/sys/kernel/io_uring_disabled", "1\n");
    }),
    ("no io_uring", |made| made.machine.ring = Err(Errno::ENOSYS)),
    ("io_uring forbidden", |made| made.machine.ring = Err(Errno::EPERM)),
    ("too many files", |made| made.machine.ring = Err(Errno::EMFILE)),
    ("an ordinary user", |made| {
        made.without_capabilities(1000);
    }),
    ("root without capabilities, and no udev", |made| {
        made.without_capabilities(0);
        made.remove("run/udev/control");
    }),
    ("an ordinary user, and no udev", |made| {
        made.without_capabilities(1000);
        made.remove("run/udev/control");
    }),
    ("an ordinary user whom udev gives nothing", |made| {
        made.without_capabilities(1000);
        made.write("etc/udev/rules.d/60-ublkit.rules", "# OWNER of ublkc\nKERNEL==\"sd*\"\n");
    }),
    ("an ordinary user who may not even ask", |made| {
        made.without_capabilities(1000);
        made.remove("dev/ublk-control");
    }),
    ("root of a container, and no udev", |made| {
        made.write("proc/self/status", "Uid:\t0\t0\t0\t0\nCapEff:\t000001ffffffffff\n");
        made.write("proc/self/uid_map", "         0     100000      65536\n");
        made.remove("run/udev/control");
    }),
    ("root of a container", |made| {
        made.write("proc/self/uid_map", "         0     100000      65536\n");
    }),
    ("few open files", |made| {
        made.write("proc/self/limits", "Max open files            256   1024   files\n");
    }),
    ("next to no open files", |made| {
        made.write("proc/self/limits", "Max open files            16    16     files\n");
    }),
    ("no udev", |made| made.remove("run/udev/control")),
    ("no devtmpfs", |made| made.write("proc/self/mounts", "none /dev tmpfs rw 0 0\n")),
    ("nobody who makes nodes", |made| {
        made.remove("run/udev/control");
        made.write("proc/self/mounts", "none /dev tmpfs rw 0 0\n");
    }),
    ("a driver that tells little", |made| {
        made.machine.features = None;
        made.remove("sys/module/ublk_drv/parameters/ublks_max");
    }),
    ("an old driver", |made| {
        made.machine.features = Some(Features::SERVED - Features::AUTO_BUF_REG);
    }),
    ("a limit that is reached", |made| {
        made.write("sys/module/ublk_drv/parameters/ublks_max", "1");
        made.device(0, DeviceState::Live, true);
    }),
    ("devices that are left", |made| {
        made.device(0, DeviceState::Live, true);
        made.device(1, DeviceState::Live, false);
        made.device(2, DeviceState::Dead, false);
        made.device(3, DeviceState::Quiesced, false);
        made.device(4, DeviceState::FailIo, false);
        made.device(5, DeviceState::Unknown(9), false);
    }),
    ("records that nobody may believe", |made| {
        made.machine.records = vec!["/run/ublkit is not to be believed: others may use it".into()];
    }),
];

/// Without who runs the tests.
fn masked(text: String) -> String {
    let Some((before, rest)) = text.split_once(": it is of user ") else { return text };
    let (_, after) = rest.split_once('\n').expect("a line's end");
    format!("{before}: it is of user UID and group GID, mode MODE\n{after}")
}

/// What is said that is not so on a good machine, and what comes of it.
fn block(name: &str, report: &Report, good: &str) -> String {
    let text = masked(report.text());
    let new: Vec<&str> =
        text.lines().filter(|line| !good.lines().any(|other| other == *line)).collect();
    let end = match report.verdict() {
        Ok(()) => "can serve".into(),
        Err(failure) => format!("{failure:?}"),
    };
    format!("# {name}\n{}\n=> {end}\n\n", new.join("\n"))
}

#[test]
fn bad_machines_are_explained() {
    let good = Report::of(&Made::good("good").machine);
    assert_eq!(good.0.len(), CHECKS.len());
    assert!(good.0.iter().all(|(_, finding)| finding.verdict == Verdict::Ok), "{}", good.text());
    let mut found = format!("# all is well\n{}=> can serve\n\n", good.text());
    for (name, spoil) in BAD {
        let mut made = Made::good(&name.replace(' ', "-"));
        spoil(&mut made);
        found += &block(name, &Report::of(&made.machine), &good.text());
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/doctor.txt");
    if std::env::var_os("UBLKIT_BLESS").is_some() {
        return fs::write(path, found).expect("the repository can be written");
    }
    let golden = fs::read_to_string(path).expect("the file is committed");
    assert!(golden == found, "tests/golden/doctor.txt differs; it should say:\n{found}");
}

/// What is no check of its own, but told in JSON: whether devices can be served.
#[test]
fn programs_are_told_too() {
    let made = Made::good("json");
    let good = Report::of(&made.machine).json();
    assert_eq!(good["can_serve"], true);
    assert_eq!(good["findings"].as_array().map(Vec::len), Some(CHECKS.len()));
    made.no_driver();
    let bad = Report::of(&made.machine).json();
    assert_eq!(bad["can_serve"], false);
    let driver = &bad["findings"][3];
    assert_eq!((&driver["check"], &driver["verdict"]), (&"driver".into(), &"problem".into()));
    assert!(driver["remedy"].as_str().is_some_and(|remedy| remedy.contains("modprobe")));
}

/// Each bad machine is bad: a check that says the same of it as of a good one tests nothing.
#[test]
fn all_that_is_made_bad_is_noticed() {
    let good = Report::of(&Made::good("same").machine).text();
    for (name, spoil) in BAD {
        let mut made = Made::good(&format!("same-{}", name.replace(' ', "-")));
        spoil(&mut made);
        assert_ne!(Report::of(&made.machine).text(), good, "{name}");
    }
}
