//! The kernel and its driver.

use super::Finding;
use super::Verdict::{self, Cannot, Note};
use super::machine::Machine;
use core::ops::Range;

type Release = (u32, u32, u32);

/// What is known of some kernels: docs/protocol.md has more of it.
struct Known {
    releases: Range<Release>,
    verdict: Verdict,
    sentence: &'static str,
    remedy: &'static str,
}

const KNOWN: &[Known] = &[
    Known {
        releases: (0, 0, 0)..(6, 4, 0),
        verdict: Cannot,
        sentence: "is older than the commands that ublkit speaks",
        remedy: "boot a kernel from 6.4 on; 6.12 and newer are tested",
    },
    Known {
        releases: (6, 12, 0)..(6, 13, 0),
        verdict: Note,
        sentence: "crashes when a server starts its device anew after a stop; ublkit does not",
        remedy: "do not do so with other servers, or boot 7.3 or newer",
    },
    Known {
        releases: (6, 16, 0)..(6, 19, 0),
        verdict: Note,
        sentence: "crashes when a device without a disk is resized; ublkit looks for one first",
        remedy: "do not resize stopped devices with other programs, or boot 7.3 or newer",
    },
    Known {
        releases: (6, 17, 0)..(6, 17, 1),
        verdict: Note,
        sentence: "is told to crash in some builds when a device is made",
        remedy: "if 'ublkit serve' is not answered, look at dmesg and update",
    },
    Known {
        releases: (6, 18, 4)..(6, 18, 6),
        verdict: Cannot,
        sentence: "crashes when a device is made, and the process that asked never ends",
        remedy: "update: 6.18.6 has the fix, and 6.18.15 was tested",
    },
    Known {
        releases: (7, 3, 0)..(7, 4, 0),
        verdict: Note,
        sentence: "acknowledges all of a write of which a server short of memory was given a part",
        remedy: "where memory can be short, serve with '--lock-memory'",
    },
];

/// The kernel's release, and what is known of it.
pub(super) fn release(machine: &Machine) -> Vec<Finding> {
    let name = machine.release();
    let release = machine.version();
    let of_this = |known: &&Known| known.releases.contains(&release);
    let finding = |known: &Known| {
        Finding::bad(known.verdict, format!("{name} {}", known.sentence), known.remedy)
    };
    let known: Vec<Finding> = KNOWN.iter().filter(of_this).map(finding).collect();
    if known.is_empty() { vec![Finding::ok(name)] } else { known }
}

/// Kernels that know a server only by the number that they give it themselves: 6.16.12 and 6.17.13
/// were seen to, 6.12.117 and 6.18.15 not.
const OWN_NUMBERS: Range<Release> = (6, 16, 12)..(6, 18, 0);

/// Those around them that nobody has asked: early ones may not look at the number yet, and late
/// ones may translate it.
const PERHAPS_OWN_NUMBERS: Range<Release> = (6, 16, 0)..(6, 18, 15);

/// Whether the kernel can know a server of this process's PID namespace.
pub(super) fn processes(machine: &Machine) -> Vec<Finding> {
    const REMEDY: &str = "serve outside of it (docker run --pid=host), or boot 6.18.15 or newer";
    let release = machine.version();
    vec![if machine.is_first_pid_namespace() {
        Finding::ok("the kernel knows this process by its number")
    } else if OWN_NUMBERS.contains(&release) {
        Finding::cannot(
            "this is a PID namespace (a container), and this kernel starts no device from one",
            REMEDY,
        )
    } else if PERHAPS_OWN_NUMBERS.contains(&release) {
        Finding::note(
            "this is a PID namespace (a container), and some kernels before 6.18.15 start no \
             device from one",
            REMEDY,
        )
    } else {
        Finding::ok("this is a PID namespace (a container), where this kernel serves, too")
    }]
}

/// `TAINT_DIE` in the kernel's word of what happened to it: it has crashed, and gone on.
const TAINT_DIE: u64 = 1 << 7;

/// Whether the kernel has crashed since it booted.
pub(super) fn health(machine: &Machine) -> Vec<Finding> {
    let tainted = machine.number("proc/sys/kernel/tainted").unwrap_or(0);
    vec![match tainted & TAINT_DIE {
        0 => Finding::ok("the kernel has not crashed since it booted"),
        _ => Finding::note(
            "the kernel has crashed since it booted, and goes on with what is left",
            "look at dmesg; if ublk was in it, its devices stay as they are until a reboot",
        ),
    }]
}

/// Whether the driver is loaded, or could be.
pub(super) fn driver(machine: &Machine) -> Vec<Finding> {
    if machine.exists("sys/module/ublk_drv") || machine.exists(super::machine::CONTROL) {
        return vec![Finding::ok("ublk_drv is there")];
    }
    let modules = format!("lib/modules/{}", machine.release());
    let list = machine.text(&format!("{modules}/modules.dep"));
    vec![if list.contains("/ublk_drv.ko") {
        Finding::cannot(
            "ublk_drv is not loaded",
            "run 'modprobe ublk_drv'; to have it after a reboot: \
             echo ublk_drv > /etc/modules-load.d/ublk.conf",
        )
    } else if machine.exists(&modules) {
        Finding::cannot(
            "this kernel has no ublk_drv",
            "install your distribution's extra modules (Ubuntu: linux-modules-extra-$(uname -r)), \
             or boot a kernel built with CONFIG_BLK_DEV_UBLK",
        )
    } else {
        Finding::cannot(
            "ublk_drv is not loaded, and the modules of this kernel are not here",
            "in a container, run 'modprobe ublk_drv' on its host; else reboot after a kernel's \
             update",
        )
    }]
}
