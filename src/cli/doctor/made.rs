//! [`Made`]: machines made of files, for tests and for fuzzing.

use super::machine::{Device, Machine};
use super::{CHECKS, Check, Report, Verdict};
use std::fs;
use std::path::PathBuf;
use ublkit::{DeviceState, Errno, Features};

/// The files of a machine on which all is well.
pub(in crate::cli) const GOOD: &[(&str, &str)] = &[
    ("proc/sys/kernel/osrelease", "7.2.13+deb14-amd64\n"),
    ("proc/sys/kernel/tainted", "0\n"),
    ("proc/sys/kernel/io_uring_disabled", "0\n"),
    ("proc/self/status", "Name:\tublkit\nCapEff:\t000001ffffffffff\n"),
    ("proc/self/uid_map", "         0          0 4294967295\n"),
    (
        "proc/self/limits",
        "Limit                     Soft Limit           Hard Limit           Units\n\
         Max open files            1024                 1048576              files\n\
         Max locked memory         8388608              8388608              bytes\n",
    ),
    ("proc/self/mounts", "udev /dev devtmpfs rw,nosuid 0 0\n"),
    ("run/udev/control", ""),
    ("etc/udev/rules.d/60-ublkit.rules", "KERNEL==\"ublkc*|ublkb*\", OWNER=\"%c{1}\"\n"),
    ("sys/module/ublk_drv/parameters/ublks_max", "64\n"),
    ("dev/ublk-control", ""),
    ("lib/modules/7.2.13+deb14-amd64/modules.dep", "kernel/drivers/block/ublk_drv.ko.xz:\n"),
];

/// A machine in a folder of its own, which goes with it.
pub(super) struct Made {
    pub(super) root: PathBuf,
    pub(super) machine: Machine,
}

impl Made {
    /// One whose kernel has all features.
    fn bare(name: &str) -> Self {
        let root =
            std::env::temp_dir().join(format!("ublkit-doctor-{}-{name}", std::process::id()));
        let mut machine = Machine::below(&root);
        machine.features = Some(Features::SERVED);
        Self { root, machine }
    }

    pub(super) fn write(&self, file: &str, text: impl AsRef<[u8]>) {
        let path = self.root.join(file);
        fs::create_dir_all(path.parent().expect("below the root")).expect("a folder");
        fs::write(path, text).expect("a file");
    }
}

#[cfg(test)]
impl Made {
    pub(super) fn good(name: &str) -> Self {
        let made = Self::bare(name);
        for (file, text) in GOOD {
            made.write(file, text);
        }
        made
    }

    pub(super) fn remove(&self, file: &str) {
        fs::remove_file(self.root.join(file)).expect("it was there");
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// For fuzzing: a machine whose files have these texts, in the order of [`GOOD`], with no file
/// where there is no text, and whose kernel gives this answer. All that is found is said in words.
#[cfg(feature = "sim")]
pub(in crate::cli) fn exercise(answer: u8, texts: &[&[u8]]) {
    let mut made = Made::bare("any");
    for ((file, _), text) in GOOD.iter().zip(texts) {
        made.write(file, text);
    }
    made.machine.ring = Errno::new(answer.into()).map_or(Ok(()), Err);
    let state = DeviceState::Unknown(answer.into());
    made.machine.devices.push(Device { id: answer.into(), state, is_served: answer > 99 });
    let report = Report::of(&made.machine);
    for Check { name, .. } in CHECKS {
        assert!(report.0.iter().any(|(found, _)| found == name), "{name} says nothing");
    }
    for (name, finding) in &report.0 {
        let said = [Some(&finding.sentence), finding.remedy.as_ref()];
        for words in said.into_iter().flatten() {
            assert!(!words.trim().is_empty() && !words.contains('\n'), "{name}: {words:?}");
        }
        assert_eq!(finding.remedy.is_none(), finding.verdict == Verdict::Ok, "{name}");
    }
    let remedies = report.0.iter().filter(|(_, finding)| finding.remedy.is_some()).count();
    assert_eq!(report.text().lines().count(), report.0.len() + remedies);
    assert_eq!(report.json()["can_serve"], report.verdict().is_ok());
    assert!(answer == 0 || report.verdict().is_err(), "there is no ring");
}
