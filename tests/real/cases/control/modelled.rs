//! The simulated driver's rules, against this kernel's: the same is asked of both.

use super::granted::become_ordinary;
use super::{Context, NOTHING, char_path, open, wish};
use crate::dice::Dice;
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

/// Another, whose driver answers differently: the control of each comparison.
pub fn another(profile: Profile) -> Profile {
    if profile == Profile::OLDEST { Profile::NEWEST } else { Profile::OLDEST }
}

/// What was compared with a model, and what was not the same.
#[derive(Debug, Default)]
pub struct Comparison {
    count: usize,
    differences: Vec<String>,
}

impl Comparison {
    pub fn compare<T>(&mut self, what: impl FnOnce() -> String, real: &T, modelled: &T)
    where
        T: PartialEq + Debug,
    {
        self.count += 1;
        if real != modelled {
            let what = what();
            self.differences
                .push(format!("{real:02x?}, where the model says {modelled:02x?}: {what}"));
        }
    }

    /// Panics if anything differed, if less than `least` was compared, or if nothing differed from
    /// the wrong model, which `control` was compared with.
    pub fn end(self, what: &str, least: usize, control: &Self) {
        let Self { count, differences } = self;
        println!("measured: {what}: {count} answers compared with the model");
        assert!(count >= least, "{what}: only {count} were compared");
        let first: Vec<&str> = differences.iter().take(20).map(String::as_str).collect();
        assert!(first.is_empty(), "{what}: {} differ:\n{}", differences.len(), first.join("\n"));
        assert!(!control.differences.is_empty(), "{what}: a wrong model is not noticed");
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

/// Features whose checks depend on each other.
const CHECKED: [Features; 10] = [
    Features::USER_RECOVERY,
    Features::USER_RECOVERY_REISSUE,
    Features::USER_RECOVERY_FAIL_IO,
    Features::QUIESCE,
    Features::USER_COPY,
    Features::SUPPORT_ZERO_COPY,
    Features::AUTO_BUF_REG,
    Features::INTEGRITY,
    Features::ZONED,
    Features::BATCH_IO,
];
/// Features that are granted or dropped by themselves, or by what follows.
const SETTLED: [Features; 3] =
    [Features::NEED_GET_DATA, Features::PER_IO_DAEMON, Features::IO_DESC_SIZE];
/// The features that drop one of those.
const DROPPING: [Features; 4] =
    [Features::USER_COPY, Features::SUPPORT_ZERO_COPY, Features::AUTO_BUF_REG, Features::BATCH_IO];

/// The sets of `of`.
fn sets(of: &[Features]) -> impl Iterator<Item = Features> {
    (0_u32..1 << of.len()).map(|set| {
        let members = of.iter().enumerate().filter(|(bit, _)| set >> bit & 1 == 1);
        members.map(|(_, feature)| *feature).collect()
    })
}

/// Sets of any bits at all, random ones; fewer of those that are checked.
fn anything(count: usize) -> Vec<Features> {
    let mut dice = Dice::new("wishes");
    let set = |dice: &mut Dice| {
        let checked = CHECKED.iter().filter(|_| dice.below(3) > 0);
        let dropped: Features = checked.copied().collect();
        Features::from_bits_retain(dice.number()) - dropped
    };
    (0..count).map(|_| set(&mut dice)).collect()
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
    let [mut all, mut control_group] = [Comparison::default(), Comparison::default()];
    let mut compare = |control: &mut Control<Linux>, is_admin, tried: &DeviceInfo| {
        let real = asked(control, tried);
        let modelled = |profile| modelled(profile, is_admin, cpus, tried);
        let what = || format!("{tried:?}, {is_admin}");
        all.compare(what, &real, &modelled(profile));
        control_group.compare(what, &real, &modelled(another(profile)));
        // What has a reason to be refused is, by the newest driver, and nothing else.
        if profile == Profile::NEWEST && *tried == wish(tried.features) {
            let why = tried.features.conflict(is_admin);
            all.compare(|| format!("{tried:?}: {why:?}"), &real.is_err(), &why.is_some());
        }
    };
    for asked in sizes() {
        compare(&mut control, true, &asked);
    }
    let checked = context.pick(CHECKED.to_vec(), [&CHECKED[..], &SETTLED].concat());
    let random = anything(context.pick(200, 2000));
    let settled = [&DROPPING[..], &SETTLED].concat();
    for features in sets(&checked).chain(sets(&settled)).chain(random.iter().copied()) {
        compare(&mut control, true, &wish(features));
    }
    drop(control);
    let ordinary = || {
        become_ordinary();
        let mut control = open();
        for asked in sizes() {
            compare(&mut control, false, &asked);
        }
        for features in sets(&checked) {
            compare(&mut control, false, &wish(features | Features::UNPRIVILEGED_DEV));
        }
        for features in random {
            compare(&mut control, false, &wish(features));
        }
    };
    std::thread::scope(|scope| scope.spawn(ordinary).join().unwrap());
    all.end("wishes", 2 << CHECKED.len(), &control_group);
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
