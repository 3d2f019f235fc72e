//! [`Machine`]: what the checks look at.

use super::super::{devices, state};
use std::fs::Metadata;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use ublkit::sys::io_uring::io_uring_params;
use ublkit::{Control, DeviceState, Errno, Features, Kernel, Linux};

/// The control device, below the root.
pub(super) const CONTROL: &str = "dev/ublk-control";

/// A machine: files below a root, and what its kernel answered.
#[derive(Debug)]
pub(super) struct Machine {
    root: PathBuf,
    /// Whether a ring can be made.
    pub(super) ring: Result<(), Errno>,
    /// What keeps nodes from being opened that are there.
    pub(super) closed: Option<Errno>,
    /// What the driver knows; nothing where it could not be asked.
    pub(super) features: Option<Features>,
    /// Devices whose state could be asked for.
    pub(super) devices: Vec<Device>,
    /// What keeps records of devices from being kept or believed.
    pub(super) records: Vec<String>,
}

/// A device, as the driver tells of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Device {
    pub(super) id: u32,
    pub(super) state: DeviceState,
    /// Whether a process serves it.
    pub(super) is_served: bool,
}

impl Machine {
    /// The machine that this runs on.
    pub(super) fn here() -> Self {
        let mut machine = Self::below(Path::new("/"));
        machine.ring = Linux.ring_setup(1, &mut io_uring_params::default()).map(drop);
        machine.records = state::troubles();
        // A kernel that cannot make a ring, or has no driver, cannot be asked more.
        if let Ok(mut control) = devices::control() {
            machine.features = control.features().ok().flatten();
            machine.devices = asked(&mut control);
        }
        machine
    }

    /// The files below a folder, of a kernel that has io_uring and no devices.
    pub(super) fn below(root: &Path) -> Self {
        let (features, devices, records) = (None, Vec::new(), Vec::new());
        Self { root: root.into(), ring: Ok(()), closed: None, features, devices, records }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The text of a small file, trimmed; empty when it cannot be read.
    pub(super) fn text(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.path(name)).unwrap_or_default();
        text.trim().to_owned()
    }

    /// A number that is all of a file.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.text(name).parse().ok()
    }

    /// What stands behind `name:` in this process's status.
    pub(super) fn status(&self, name: &str) -> String {
        let status = self.text("proc/self/status");
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_default().trim().to_owned()
    }

    /// A soft limit of this process, as its line in `/proc/self/limits` begins. `None`: unlimited,
    /// or not told.
    pub(super) fn limit(&self, name: &str) -> Option<u64> {
        let limits = self.text("proc/self/limits");
        let line = limits.lines().find_map(|line| line.strip_prefix(name));
        line?.split_whitespace().next()?.parse().ok()
    }

    /// Whether this process has a capability that counts: one of the first user namespace.
    pub(super) fn may(&self, capability: u32) -> bool {
        let effective = u64::from_str_radix(&self.status("CapEff"), 16).unwrap_or(0);
        effective >> capability & 1 == 1 && self.is_first_user_namespace()
    }

    /// Whether this process is the user who owns the nodes: 0, and in a user namespace the 0 of
    /// the one around it.
    pub(super) fn is_root(&self) -> bool {
        let map = self.text("proc/self/uid_map");
        let is_same = map.is_empty() || map.split_whitespace().take(2).eq(["0", "0"]);
        is_same && self.status("Uid").split_whitespace().nth(1) == Some("0")
    }

    /// Only the first user namespace maps all of itself onto itself.
    pub(super) fn is_first_user_namespace(&self) -> bool {
        let map = self.text("proc/self/uid_map");
        map.is_empty() || map.split_whitespace().eq(["0", "0", "4294967295"])
    }

    /// Whether this process has the number that the kernel itself gives it: in a PID namespace of
    /// its own it has another. The first one's name is always the same (`PROC_PID_INIT_INO`).
    pub(super) fn is_first_pid_namespace(&self) -> bool {
        let name = std::fs::read_link(self.path("proc/self/ns/pid"));
        name.is_err() || name.is_ok_and(|name| name == Path::new("pid:[4026531836]"))
    }

    /// The kernel's release, as one word.
    pub(super) fn release(&self) -> String {
        let release = self.text("proc/sys/kernel/osrelease");
        release.chars().take_while(char::is_ascii_graphic).collect()
    }

    /// Its first three numbers; zero where there is none.
    pub(super) fn version(&self) -> (u32, u32, u32) {
        let release = self.release();
        let mut numbers = release
            .split(|c: char| !c.is_ascii_digit())
            .map(|number| number.parse().unwrap_or(0))
            .chain([0, 0, 0]);
        let mut next = || numbers.next().unwrap_or(0);
        (next(), next(), next())
    }

    pub(super) fn exists(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    /// What is in a folder; nothing if it is not there.
    pub(super) fn names(&self, folder: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(folder)).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }

    pub(super) fn metadata(&self, name: &str) -> io::Result<Metadata> {
        std::fs::metadata(self.path(name))
    }

    /// Opens a node as a server would.
    pub(super) fn open(&self, name: &str) -> Result<OwnedFd, Errno> {
        use rustix::fs::{Mode, OFlags};
        if let Some(errno) = self.closed {
            return Err(errno);
        }
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
        Ok(rustix::fs::open(self.path(name), flags, Mode::empty())?)
    }
}

/// What the driver tells of its devices, of those that it tells us of.
fn asked(control: &mut Control<Linux>) -> Vec<Device> {
    let look = |id| {
        let info = devices::info(control, id).ok()?;
        Some(Device { id, state: info.state, is_served: devices::server(&info).is_some() })
    };
    devices::ids().into_iter().filter_map(look).collect()
}
