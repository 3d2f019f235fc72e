//! A mount namespace of the server's own.
//!
//! When the last process of a mount namespace ends, it is that process which unmounts what is
//! mounted there, and writes what is dirty. If that lies on a disk that the process itself serves,
//! it waits for its own answers, before its char device is closed and the driver could fail them:
//! for ever, and nobody can end it (`supervise: control: a server that shares its mounts`).
//! So a server has a namespace that knows nothing of mounts that are made later.

use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};
use rustix::thread::UnshareFlags;
use std::path::{Path, PathBuf};

/// What the server may still look for, beside what it says.
const KEPT: [&str; 8] = ["/", "/dev", "/proc", "/sys", "/run", "/usr", "/lib", "/lib64"];

/// Leaves the caller's mount namespace, if that is permitted.
pub(super) fn leave(kept: &[&Path]) {
    #[expect(deprecated, reason = "it is unsafe for flags that take open files away; not for this")]
    let left = rustix::thread::unshare(UnshareFlags::NEWNS);
    if left.is_err() {
        return; // as an ordinary user; `ublkit doctor` speaks of capabilities
    }
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    if mount_change("/", private).is_err() {
        return;
    }
    // File systems that are mounted here as well could not be unmounted elsewhere: their disks
    // would stay in use.
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let program = std::env::current_exe().unwrap_or_default();
    for point in disks_of_others(&table, &[kept, &[&program]].concat()).iter().rev() {
        let _ = unmount(point, UnmountFlags::DETACH);
    }
}

/// Where disks are mounted that a server has no use for, in the table's order.
fn disks_of_others(table: &str, kept: &[&Path]) -> Vec<PathBuf> {
    let kept = |point: &Path| {
        KEPT.iter().any(|kept| Path::new(kept) == point)
            || kept.iter().any(|kept| kept.starts_with(point))
    };
    let point = |line: &str| {
        let (place, what) = line.split_once(" - ")?;
        let source = what.split(' ').nth(1)?;
        let point = PathBuf::from(unescaped(place.split(' ').nth(4)?));
        (source.starts_with("/dev/") && !kept(&point)).then_some(point)
    };
    table.lines().filter_map(point).collect()
}

/// Spaces and the like are written as `\040`.
fn unescaped(field: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), field.as_bytes());
    while let [first, more @ ..] = rest {
        let code = (*first == b'\\').then(|| more.get(..3)).flatten();
        let code =
            code.and_then(|code| u8::from_str_radix(core::str::from_utf8(code).ok()?, 8).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &more[3..] } else { more };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// For fuzzing: what a table of mounts has that a server has no use for.
#[cfg(all(any(test, fuzzing), feature = "sim"))]
pub(super) fn exercise(table: &str) -> usize {
    disks_of_others(table, &[Path::new("/srv")]).len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw
23 22 0:5 / /dev rw shared:2 - devtmpfs udev rw
24 22 0:20 / /run rw shared:3 - tmpfs tmpfs rw
25 22 8:2 / /home rw shared:4 - ext4 /dev/sda2 rw
26 25 8:3 / /home/a\\040b rw shared:5 - xfs /dev/sda3 rw
27 22 8:4 / /srv rw - ext4 /dev/sda4 rw
28 22 0:30 / /net rw - nfs host:/x rw
29 22 8:5 / /usr rw - ext4 /dev/sda5 rw
odd
";

    #[test]
    fn disks_are_left_and_what_is_needed_is_kept() {
        let left = |kept: &[&Path]| disks_of_others(TABLE, kept);
        let all = ["/home", "/home/a b", "/srv"].map(PathBuf::from);
        assert_eq!(left(&[]), all);
        assert_eq!(left(&[Path::new("/srv/state")]), all[..2]);
        assert_eq!(left(&[Path::new("/home/x")]), all[1..]);
        assert_eq!(left(&[Path::new("/home/a b/bin/ublkit")]), all[2..]);
    }

    #[test]
    fn names_are_read_as_the_kernel_writes_them() {
        for (written, meant) in
            [("/a", "/a"), ("\\040", " "), ("a\\134b", "a\\b"), ("\\", "\\"), ("\\99", "\\99")]
        {
            assert_eq!(unescaped(written), meant);
        }
    }
}
