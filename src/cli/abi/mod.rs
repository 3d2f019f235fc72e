//! `abi`: what this program says to a kernel, and whether a kernel agrees.

mod btf;
mod compare;
mod listing;
mod report;
mod theirs;

use super::exit::Failure;
use super::{Output, devices};
use btf::Btf;
use report::Report;
use std::collections::HashSet;
use std::fs::File;
use std::io::{ErrorKind as IoErrorKind, Read};
use std::path::{Path, PathBuf};
use theirs::Theirs;
use ublkit::sys::abi::{Constant, Layout};
use ublkit::sys::{blkdev, blkzoned, io_uring, ublk};
use ublkit::{ErrorKind, Features};

/// Where a kernel shows its BTF, for everybody to read.
const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";
/// The same of the driver, when it is a module and is loaded.
const DRIVER_BTF: &str = "/sys/kernel/btf/ublk_drv";
/// The largest file that is read. A kernel's is some 6 MB.
const MAX_BYTES: u64 = 256 << 20;

/// Whose fault it is that a file is not BTF, and what to do.
type Blame = (ErrorKind, &'static str);
const OUR_BLAME: Blame = (ErrorKind::Unsupported, "a newer ublkit may understand it");
const CALLERS_BLAME: Blame = (ErrorKind::Usage, "give a copy of what is in /sys/kernel/btf");

/// A part of `sys`.
struct Header {
    structs: &'static [Layout],
    constants: &'static [&'static [Constant]],
}

/// All that `sys` defines.
const HEADERS: &[Header] = &[
    Header { structs: ublk::LAYOUTS, constants: ublk::CONSTANTS },
    Header { structs: blkdev::LAYOUTS, constants: blkdev::CONSTANTS },
    Header { structs: blkzoned::LAYOUTS, constants: blkzoned::CONSTANTS },
    Header { structs: io_uring::LAYOUTS, constants: io_uring::CONSTANTS },
];

/// The words of `ublkit abi`.
#[derive(clap::Args, Debug)]
pub(super) struct Abi {
    /// Only structs and constants whose name contains one of these
    #[arg(value_name = "NAME", conflicts_with = "check")]
    names: Vec<String>,
    /// Compare with the running kernel instead: its BTF, and the driver's features
    #[arg(long)]
    check: bool,
    /// Compare with a copy of another kernel's /sys/kernel/btf/vmlinux
    #[arg(long, value_name = "FILE", requires = "check")]
    btf: Option<PathBuf>,
    /// A copy of that kernel's /sys/kernel/btf/ublk_drv, if the driver is a module there
    #[arg(long, value_name = "FILE", requires = "btf")]
    btf_module: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

/// Prints what `sys` defines, or compares it with a kernel.
pub(super) fn run(abi: &Abi) -> Result<(), Failure> {
    if !abi.check {
        return listing::print(&abi.names, abi.output.json);
    }
    let report = match &abi.btf {
        Some(file) => saved(file, abi.btf_module.as_deref())?,
        None => running()?,
    };
    report.print(abi.output.json)?;
    verdict(&report)
}

const NO_BTF: &str = "this kernel has no BTF, so its structs cannot be seen: mount sysfs, or boot \
                      one that was built with CONFIG_DEBUG_INFO_BTF";

/// Compares with the running kernel.
fn running() -> Result<Report, Failure> {
    let no_btf = || Failure::Said(ErrorKind::Unsupported, NO_BTF.into());
    let kernel = read(Path::new(KERNEL_BTF))?.ok_or_else(no_btf)?;
    let driver = read(Path::new(DRIVER_BTF))?;
    let named = driver.as_deref().map(|bytes| (DRIVER_BTF, bytes));
    let mut report = compared((KERNEL_BTF, &kernel), named, OUR_BLAME)?;
    if driver.is_none() && report.driver_left_out.is_some() {
        report.driver_left_out = Some(format!("there is no {DRIVER_BTF}"));
    }
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    report.kernel = Some(release.trim().into());
    report.features = features();
    Ok(report)
}

/// Compares with files of another kernel.
fn saved(kernel: &Path, driver: Option<&Path>) -> Result<Report, Failure> {
    let load = |path: &Path| match read(path) {
        Ok(Some(bytes)) => Ok((path.display().to_string(), bytes)),
        Ok(None) => {
            Err(Failure::Said(ErrorKind::Usage, format!("there is no file {}", path.display())))
        }
        Err(failure) => Err(failure),
    };
    let kernel = load(kernel)?;
    let driver = driver.map(load).transpose()?;
    let named = driver.as_ref().map(|(name, bytes)| (&name[..], &bytes[..]));
    compared((&kernel.0, &kernel.1), named, CALLERS_BLAME)
}

fn unreadable(name: &str, error: &btf::Error, (kind, remedy): Blame) -> Failure {
    Failure::Said(kind, format!("cannot read the BTF of {name}: {error}; {remedy}"))
}

/// Compares with BTF: names of files and their bytes.
fn compared(
    kernel: (&str, &[u8]),
    driver: Option<(&str, &[u8])>,
    blame: Blame,
) -> Result<Report, Failure> {
    let parse = |(name, bytes), base| {
        Btf::parse(bytes, base).map_err(|error| unreadable(name, &error, blame))
    };
    let base = parse(kernel, None)?;
    let module = driver.map(|driver| parse(driver, Some(&base))).transpose()?;
    let sources: Vec<&Btf<'_>> = [&base].into_iter().chain(&module).collect();

    let mut layouts: Vec<Layout> =
        HEADERS.iter().flat_map(|header| header.structs).copied().collect();
    let groups: Vec<&[Constant]> =
        HEADERS.iter().flat_map(|header| header.constants).copied().collect();
    let structs: HashSet<&str> = layouts.iter().map(|layout| layout.name).collect();
    let constants: HashSet<&str> = groups.concat().iter().map(|constant| constant.name).collect();
    let theirs = Theirs::find(&sources, &structs, &constants);
    let has_driver = theirs.structs.iter().any(|theirs| theirs.name.starts_with("ublk"));
    if !has_driver {
        layouts.retain(|layout| !layout.name.starts_with("ublk"));
    }
    Ok(Report {
        kernel: None,
        files: [kernel].iter().chain(&driver).map(|(name, _)| (*name).into()).collect(),
        driver_left_out: (!has_driver).then(|| "no struct of ublk is there".into()),
        outcome: compare::compare(&layouts, &groups, &theirs),
        features: Err("files do not tell what the driver answers".into()),
    })
}

/// For fuzzing: how many types a kernel's file has, and in words what comes of comparing it.
#[cfg(all(any(test, fuzzing), feature = "sim"))]
pub(super) fn exercise(kernel: &[u8], module: Option<&[u8]>) -> (usize, Result<String, Failure>) {
    let module = module.map(|bytes| ("module", bytes));
    let report = compared(("kernel", kernel), module, CALLERS_BLAME);
    (btf::exercise(kernel), report.map(|report| format!("{report:?}")))
}

const NO_FEATURES: &str = "this driver is older than GET_FEATURES";

/// What the driver answers to GET_FEATURES, or why it does not.
fn features() -> Result<Features, String> {
    let asked = devices::control().and_then(|mut control| Ok(control.features()?));
    match asked {
        Ok(Some(features)) => Ok(features),
        Ok(None) => Err(NO_FEATURES.into()),
        Err(failure) => Err(failure.sentence()),
    }
}

/// Reads a file that may be anything. None if there is no such file.
fn read(path: &Path) -> Result<Option<Vec<u8>>, Failure> {
    let failed = |sentence: String| Failure::Said(ErrorKind::Failed, sentence);
    let mut bytes = Vec::new();
    let outcome =
        File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes));
    match outcome {
        Err(error) if error.kind() == IoErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(format!("cannot read {}: {error}", path.display()))),
        Ok(len) if len as u64 > MAX_BYTES => Err(failed(too_large(path))),
        Ok(_) => Ok(Some(bytes)),
    }
}

fn too_large(path: &Path) -> String {
    format!("{} is too large to be BTF: give a copy of what is in /sys/kernel/btf", path.display())
}

/// What is said of kernels and files that no test has.
#[cfg(test)]
pub(super) fn sentences() -> Vec<String> {
    let mut said = vec![NO_BTF.into(), NO_FEATURES.into(), too_large(Path::new("vmlinux"))];
    let broken = btf::Error::all();
    said.extend(broken.map(|error| unreadable("vmlinux", &error, OUR_BLAME).sentence()));
    said
}

/// Whether the kernel agrees, as an exit code.
fn verdict(report: &Report) -> Result<(), Failure> {
    match report.differing() {
        0 if report.driver_left_out.is_some() => Err(Failure::Said(
            ErrorKind::Unsupported,
            "nothing of the driver could be compared; load it with 'modprobe ublk_drv', or add \
             --btf-module; a kernel may also be built without BTF of its modules"
                .into(),
        )),
        0 => Ok(()),
        differing => Err(Failure::Said(
            ErrorKind::Failed,
            format!(
                "this kernel and ublkit differ in {differing} {}, see 'differs' above; do not \
                 serve devices on it, and tell ublkit's authors",
                if differing == 1 { "place" } else { "places" }
            ),
        )),
    }
}
