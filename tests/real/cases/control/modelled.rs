//! The simulated driver's rules, against this kernel's: the same is asked of both.

use super::granted::become_ordinary;
use super::{Context, NOTHING, char_path, open, wish};
use std::ffi::CString;
use std::fmt::Debug;
use ublkit::sim::{self, Profile};
use ublkit::sys::ublk as sys;
use ublkit::sys::ublk::ublksrv_ctrl_dev_info;
use ublkit::{Control, DEFAULT_TIMEOUT, DeviceInfo, Errno, Error, Features, Linux};

/// The profile that knows what this kernel's driver knows.
pub fn profile(context: Context) -> Profile {
    let known = context.features.bits();
    let profile = Profile::ALL.iter().find(|profile| profile.features() == known);
    *profile.unwrap_or_else(|| panic!("no profile knows just {}", context.features))
}

/// Differences, counted and told together.
#[derive(Debug, Default)]
pub struct Differences {
    asked: usize,
    found: Vec<String>,
}

impl Differences {
    pub fn compare<T>(&mut self, what: impl FnOnce() -> String, real: &T, modelled: &T)
    where
        T: PartialEq + Debug,
    {
        self.asked += 1;
        if real != modelled {
            let what = what();
            self.found.push(format!("{real:?}, where the model says {modelled:?}: {what}"));
        }
    }

    pub fn end(self, what: &str, least: usize) {
        println!("measured: {what}: {} compared", self.asked);
        assert!(self.asked >= least, "{what}: only {} were compared", self.asked);
        let (count, first) = (self.found.len(), self.found.iter().take(20));
        let first: Vec<&str> = first.map(String::as_str).collect();
        assert!(count == 0, "{what}: {count} differ:\n{}", first.join("\n"));
    }
}

/// The driver's errno, where it has one.
#[track_caller]
pub fn errno<T>(answer: Result<T, Error>) -> Result<T, Errno> {
    answer.map_err(|error| match error {
        Error::Command { errno, .. } => errno,
        other => panic!("{other}"),
    })
}

/// Features that are checked, or change what is granted.
const CHECKED: [Features; 11] = [
    Features::USER_RECOVERY,
    Features::USER_RECOVERY_REISSUE,
    Features::USER_RECOVERY_FAIL_IO,
    Features::QUIESCE,
    Features::USER_COPY,
    Features::SUPPORT_ZERO_COPY,
    Features::AUTO_BUF_REG,
    Features::INTEGRITY,
    Features::ZONED,
    Features::NEED_GET_DATA,
    Features::BATCH_IO,
];
/// Features on which no other depends, as far as is known.
const OTHERS: [Features; 4] = [
    Features::IO_DESC_SIZE,
    Features::PER_IO_DAEMON,
    Features::SHMEM_ZC,
    Features::NO_AUTO_PART_SCAN,
];

/// The sets of `of`.
fn sets(of: &[Features]) -> impl Iterator<Item = Features> {
    (0_u32..1 << of.len()).map(|set| {
        let members = of.iter().enumerate().filter(|(bit, _)| set >> bit & 1 == 1);
        members.map(|(_, feature)| *feature).collect()
    })
}

/// What is granted, in words that both sides have.
type Granted = (u64, u16, u32, u16);

/// A machine's CPUs, as the driver counts them.
fn cpus(control: &mut Control<Linux>) -> u16 {
    let granted = control.add(&DeviceInfo { queues: 4096, ..wish(NOTHING) }, DEFAULT_TIMEOUT);
    let granted = granted.unwrap();
    control.device(granted.id.unwrap()).delete().unwrap();
    granted.queues
}

/// Asks for a device, and deletes it.
fn asked(control: &mut Control<Linux>, wish: &DeviceInfo) -> Result<Granted, Errno> {
    let granted = errno(control.add(wish, DEFAULT_TIMEOUT))?;
    let device = control.device(granted.id.unwrap());
    if granted.features.contains(Features::UNPRIVILEGED_DEV) {
        let path = CString::new(char_path(granted.id.unwrap())).unwrap();
        device.by_path(path).delete().unwrap();
    } else {
        device.delete_async().unwrap();
    }
    let bits = granted.features.bits();
    Ok((bits, granted.queues, granted.max_io_bytes, granted.descriptor_bytes))
}

fn modelled(
    profile: Profile,
    is_admin: bool,
    cpus: u16,
    wish: &DeviceInfo,
) -> Result<Granted, Errno> {
    let is_sized = wish.features.contains(Features::IO_DESC_SIZE);
    let raw = ublksrv_ctrl_dev_info {
        nr_hw_queues: wish.queues,
        queue_depth: wish.depth,
        max_io_buf_bytes: wish.max_io_bytes,
        dev_id: wish.id.unwrap_or(u32::MAX),
        flags: wish.features.bits(),
        io_desc_size: if is_sized { wish.descriptor_bytes } else { 0 },
        ..ublksrv_ctrl_dev_info::default()
    };
    let granted = sim::grant(profile, is_admin, cpus, &raw)?;
    let is_sized = granted.flags & sys::UBLK_F_IO_DESC_SIZE != 0;
    let descriptor_bytes = if is_sized { granted.io_desc_size } else { 24 };
    Ok((granted.flags, granted.nr_hw_queues, granted.max_io_buf_bytes, descriptor_bytes))
}

pub fn wishes(context: Context) {
    let profile = profile(context);
    let mut control = open();
    let cpus = cpus(&mut control);
    let mut differences = Differences::default();
    let mut compare = |control: &mut Control<Linux>, is_admin, tried: &DeviceInfo| {
        let (real, modelled) = (asked(control, tried), modelled(profile, is_admin, cpus, tried));
        differences.compare(|| format!("{tried:?}, {is_admin}"), &real, &modelled);
        // What has a reason to be refused is, by the newest driver, and nothing else.
        if profile == Profile::NEWEST && *tried == wish(tried.features) {
            let why = tried.features.conflict(is_admin);
            differences.compare(|| format!("{tried:?}: {why:?}"), &real.is_err(), &why.is_some());
        }
    };
    for asked in sizes() {
        compare(&mut control, true, &asked);
    }
    let others = sets(context.pick(&OTHERS[..0], &OTHERS));
    for features in others.flat_map(|more| sets(&CHECKED).map(move |set| set | more)) {
        compare(&mut control, true, &wish(features));
    }
    drop(control);
    let ordinary = || {
        become_ordinary();
        let mut control = open();
        for asked in sizes() {
            compare(&mut control, false, &asked);
        }
        for features in sets(&CHECKED) {
            compare(&mut control, false, &wish(features | Features::UNPRIVILEGED_DEV));
        }
    };
    std::thread::scope(|scope| scope.spawn(ordinary).join().unwrap());
    differences.end("wishes", 2 << CHECKED.len());
}

/// Wishes that are about numbers.
fn sizes() -> Vec<DeviceInfo> {
    let plain = wish(NOTHING);
    let odd = Features::from_bits_retain(1 << 63 | 1 << 40);
    let mut all = vec![
        DeviceInfo { features: odd | Features::UNPRIVILEGED_DEV, ..plain },
        DeviceInfo { id: Some(1 << 20), ..plain },
        DeviceInfo { id: Some((1 << 20) - 1), ..plain },
    ];
    for queues in [0, 1, 3, 4096, 4097] {
        for depth in [0, 1, 4096, 4097] {
            all.push(DeviceInfo { queues, depth, ..plain });
        }
    }
    for max_io_bytes in [0, 1, 4095, 4096, 100_000, u32::MAX] {
        all.push(DeviceInfo { max_io_bytes, ..plain });
    }
    for descriptor_bytes in [0, 16, 23, 24, 28, 32, 256, 264] {
        all.push(DeviceInfo { descriptor_bytes, features: Features::IO_DESC_SIZE, ..plain });
    }
    all
}
