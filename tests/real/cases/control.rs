//! Every control command of the library: done once, and refused once in the driver's own words.

use super::Context;
use crate::tools;
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use std::collections::BTreeSet;
use std::ffi::CString;
use std::fmt::Debug;
use std::fs::File;
use std::path::Path;
use std::time::Duration;
use ublkit::sys::ublk as sys;
use ublkit::sys::ublk::{ublk_param_basic, ublk_params};
use ublkit::{
    Blocking, Builder, Control, DEFAULT_TIMEOUT, DeviceInfo, DeviceState, Errno, Error, Features,
    Geometry, Linux, Memory, Server, SharedBuffer,
};

/// A number that no device has.
const NOBODY: u32 = 999_999;
/// Long enough to be sure that a command waits.
const SHORT: Duration = Duration::from_millis(200);
const LIMIT: Duration = Duration::from_secs(20);
const NOTHING: Features = Features::empty();

fn open() -> Control<Linux> {
    Control::open(Linux).unwrap()
}

#[track_caller]
fn refused<T: Debug>(answer: Result<T, Error>, errno: Errno) {
    match answer {
        Err(Error::Command { errno: found, .. }) if found == errno => {}
        other => panic!("{other:?}, where the driver should say {errno}"),
    }
}

#[track_caller]
fn late<T: Debug>(answer: Result<T, Error>) {
    assert!(matches!(answer, Err(Error::Timeout { .. })), "{answer:?}, where it should wait");
}

fn wish(features: Features) -> DeviceInfo {
    DeviceInfo { features, ..DeviceInfo::wish(1, 8, 64 << 10) }
}

/// Adds a device that has no disk yet; its number.
fn added(control: &mut Control<Linux>, features: Features) -> u32 {
    let granted = control.add(&wish(features), DEFAULT_TIMEOUT).unwrap();
    assert_eq!(granted.features & features, features, "granted all that was asked for");
    granted.id.expect("a granted device has a number")
}

/// A live device of this process.
fn served(features: Features) -> Server {
    let memory = Memory::new(Geometry::new(64 << 20)).unwrap();
    Builder::new().features(features).serve(Blocking::new(memory)).unwrap()
}

fn char_path(id: u32) -> String {
    format!("/dev/ublkc{id}")
}

fn open_char_device(id: u32) -> File {
    File::options().read(true).write(true).open(char_path(id)).unwrap()
}

pub fn add_and_delete(context: Context) {
    let mut control = open();
    assert_eq!(control.features().unwrap(), Some(context.features));
    let id = added(&mut control, NOTHING);
    assert!(Path::new(&char_path(id)).exists());
    for (queues, depth) in [(0, 8), (4097, 8), (1, 0), (1, 4097)] {
        refused(control.add(&DeviceInfo { queues, depth, ..wish(NOTHING) }, LIMIT), Errno::EINVAL);
    }
    let numbered = |id| DeviceInfo { id: Some(id), ..wish(NOTHING) };
    refused(control.add(&numbered(id), LIMIT), Errno::EEXIST);
    refused(control.add(&numbered(1 << 20), LIMIT), Errno::EINVAL);
    control.device(id).delete().unwrap();
    assert!(!Path::new(&char_path(id)).exists());
    refused(control.device(id).delete(), Errno::ENODEV);
    delete_async(&mut control);
}

/// The number of a device that was deleted without waiting is taken until its char device is closed.
fn delete_async(control: &mut Control<Linux>) {
    let id = added(control, NOTHING);
    let held = open_char_device(id);
    control.device(id).delete_async().unwrap();
    assert!(!Path::new(&char_path(id)).exists());
    let again = DeviceInfo { id: Some(id), ..wish(NOTHING) };
    refused(control.add(&again, LIMIT), Errno::EEXIST);
    drop(held);
    tools::eventually("its number is free", LIMIT, || control.add(&again, LIMIT).is_ok());
    control.device(id).delete_async().unwrap();
    tools::eventually("it is gone", LIMIT, || control.device(id).info().is_err());
    refused(control.device(id).delete_async(), Errno::ENODEV);
}

/// Parameters that every driver takes for a [`wish`].
fn sound() -> ublk_params {
    let shift = 12;
    ublk_params {
        len: u32::try_from(size_of::<ublk_params>()).unwrap(),
        types: sys::UBLK_PARAM_TYPE_BASIC,
        basic: ublk_param_basic {
            logical_bs_shift: 9,
            physical_bs_shift: shift,
            io_opt_shift: shift,
            io_min_shift: shift,
            max_sectors: 128,
            dev_sectors: 2048,
            ..ublk_param_basic::default()
        },
        ..ublk_params::default()
    }
}

/// A way to spoil parameters, and the feature with which a check for it came.
type Spoil = (&'static str, Features, fn(&mut ublk_params));

const SPOILS: &[Spoil] = &[
    ("no length", NOTHING, |p| p.len = 0),
    ("no types", NOTHING, |p| p.types = 0),
    ("no basic ones", NOTHING, |p| {
        p.types = sys::UBLK_PARAM_TYPE_DISCARD;
        p.discard.discard_granularity = 4096;
    }),
    ("logical blocks of 256 bytes", NOTHING, |p| p.basic.logical_bs_shift = 8),
    ("logical blocks of two pages", NOTHING, |p| {
        p.basic.logical_bs_shift = 13;
        p.basic.physical_bs_shift = 13;
    }),
    ("physical below logical blocks", NOTHING, |p| p.basic.physical_bs_shift = 8),
    ("physical blocks of 512 MiB", Features::SHMEM_ZC, |p| p.basic.physical_bs_shift = 29),
    ("best requests of 512 MiB", Features::SHMEM_ZC, |p| p.basic.io_opt_shift = 29),
    ("least requests of 512 MiB", Features::SHMEM_ZC, |p| p.basic.io_min_shift = 29),
    ("requests above the granted size", NOTHING, |p| p.basic.max_sectors = 129),
    ("requests below a page", NOTHING, |p| p.basic.max_sectors = 7),
    ("discards of nothing", NOTHING, |p| p.types |= sys::UBLK_PARAM_TYPE_DISCARD),
    ("discards of two pieces", NOTHING, |p| {
        p.types |= sys::UBLK_PARAM_TYPE_DISCARD;
        p.discard.discard_granularity = 4096;
        p.discard.max_discard_sectors = 8;
        p.discard.max_discard_segments = 2;
    }),
    ("device numbers", NOTHING, |p| p.types |= sys::UBLK_PARAM_TYPE_DEVT),
    ("zones of an ordinary disk", NOTHING, |p| p.types |= sys::UBLK_PARAM_TYPE_ZONED),
    ("memory aligned to 3 bytes", Features::SUPPORT_ZERO_COPY, |p| {
        p.types |= sys::UBLK_PARAM_TYPE_DMA_ALIGN;
        p.dma.alignment = 2;
    }),
    ("segments within 3 KiB", Features::SUPPORT_ZERO_COPY, |p| {
        p.types |= sys::UBLK_PARAM_TYPE_SEGMENT;
        p.seg.seg_boundary_mask = 3071;
        p.seg.max_segment_size = 4096;
    }),
    ("integrity without the feature", Features::INTEGRITY, |p| {
        p.types |= sys::UBLK_PARAM_TYPE_INTEGRITY;
        p.integrity.metadata_size = 8;
    }),
];

pub fn parameters(context: Context) {
    let mut control = open();
    let id = added(&mut control, NOTHING);
    for (what, since, spoil) in SPOILS {
        control.device(id).set_params(&sound()).unwrap();
        let kept = control.device(id).params().unwrap();
        assert_eq!((kept.basic, kept.types & 1), (sound().basic, sys::UBLK_PARAM_TYPE_BASIC));
        assert_ne!(kept.types & sys::UBLK_PARAM_TYPE_DEVT, 0, "DEVT is in every answer");
        let mut params = sound();
        spoil(&mut params);
        let answer = control.device(id).set_params(&params);
        if !context.features.contains(*since) {
            answer.unwrap_or_else(|error| panic!("{what}: {error}, for this driver knows no rule"));
            continue;
        }
        assert!(
            matches!(answer, Err(Error::Command { errno: Errno::EINVAL, .. })),
            "{what}: {answer:?}"
        );
    }
    refused(control.device(NOBODY).params(), Errno::ENODEV);
    control.device(id).delete().unwrap();
    let server = served(NOTHING);
    refused(control.device(server.id()).set_params(&sound()), Errno::EACCES);
    server.stop().unwrap();
}

pub fn start_and_stop(context: Context) {
    let mut control = open();
    let own_pid = std::process::id();
    let id = added(&mut control, NOTHING);
    refused(control.device(id).start(own_pid), Errno::EINVAL); // no parameters
    control.device(id).set_params(&sound()).unwrap();
    refused(control.device(id).start(0), Errno::EINVAL);
    control.device(id).stop().unwrap(); // it is stopped already
    control.device(id).delete().unwrap();
    refused(control.device(NOBODY).start(own_pid), Errno::ENODEV);
    refused(control.device(NOBODY).stop(), Errno::ENODEV);

    // That it could be served means that START_DEV was done.
    let server = served(NOTHING);
    let id = server.id();
    assert_eq!(control.device(id).info().unwrap().state, DeviceState::Live);
    refused(control.device(id).start(own_pid), Errno::EEXIST);
    let knows_opener = context.features.contains(Features::BUF_REG_OFF_DAEMON);
    let of_another = if knows_opener { Errno::EINVAL } else { Errno::EEXIST };
    refused(control.device(id).start(1), of_another);
    control.device(id).stop().unwrap();
    assert_eq!(control.device(id).info().unwrap().state, DeviceState::Dead);
    assert!(!Path::new(&server.block_path()).exists());
    server.wait();
    server.stop().unwrap();
}

pub fn try_stop(_: Context) {
    let mut control = open();
    let server = served(NOTHING);
    let id = server.id();
    let client = File::open(server.block_path()).unwrap();
    refused(control.device(id).try_stop(), Errno::EBUSY);
    assert_eq!(control.device(id).info().unwrap().state, DeviceState::Live);
    drop(client);
    // The partition scan may have it open for a moment.
    tools::eventually("an unused disk stops", LIMIT, || control.device(id).try_stop().is_ok());
    refused(control.device(id).try_stop(), Errno::ENODEV);
    server.wait();
    server.stop().unwrap();
}

pub fn info(_: Context) {
    let mut control = open();
    let server = served(NOTHING);
    let id = server.id();
    let info = control.device(id).info().unwrap();
    assert_eq!(&info, server.info());
    assert_eq!((info.state, info.id), (DeviceState::Live, Some(id)));
    assert_eq!((info.server_pid, info.owner_uid), (Some(std::process::id()), 0));
    assert_eq!(control.device(id).info_by_path().unwrap(), info);
    refused(control.device(NOBODY).info(), Errno::ENODEV);
    let by = |control: &mut Control<Linux>, path: &str| {
        control.device(id).by_path(CString::new(path).unwrap()).info_by_path()
    };
    assert_eq!(by(&mut control, &char_path(id)).unwrap(), info);
    let nowhere = by(&mut control, "/dev/ublkc-none");
    let elsewhere = by(&mut control, "/dev/null");
    let endless = by(&mut control, &"/".repeat(5000));
    server.stop().unwrap();
    refused(nowhere, Errno::ENOENT);
    refused(elsewhere, Errno::EPERM);
    refused(endless, Errno::EINVAL);
}

pub fn affinity(_: Context) {
    let mut control = open();
    let queues = 2;
    let asked = DeviceInfo { queues, ..wish(NOTHING) };
    let id = control.add(&asked, LIMIT).unwrap().id.unwrap();
    let of = |control: &mut Control<Linux>, queue| control.device(id).queue_cpus(queue);
    let [first, second] = [0, 1].map(|queue| of(&mut control, queue).unwrap());
    let both: BTreeSet<u32> = first.iter().chain(&second).copied().collect();
    assert_eq!(both.len(), first.len() + second.len(), "a CPU belongs to one queue");
    let cpus = std::thread::available_parallelism().unwrap().get();
    assert!((0..u32::try_from(cpus).unwrap()).all(|cpu| both.contains(&cpu)), "{both:?}");
    refused(of(&mut control, queues), Errno::EINVAL);
    control.device(id).delete().unwrap();
}

pub fn negotiation(context: Context) {
    let mut control = open();
    let future = Features::from_bits_retain(1 << 63);
    let asked = DeviceInfo {
        queues: 4096,
        max_io_bytes: 100_000,
        features: future | Features::IO_DESC_SIZE | Features::USER_RECOVERY,
        descriptor_bytes: 32,
        server_word: 0x0123_4567_89ab_cdef,
        ..wish(NOTHING)
    };
    let granted = control.add(&asked, LIMIT).unwrap();
    let id = granted.id.unwrap();
    let told = control.device(id).info().unwrap();
    control.device(id).delete().unwrap();
    assert_eq!(told, granted, "the answer is what the device is");
    let cpus = u16::try_from(std::thread::available_parallelism().unwrap().get()).unwrap();
    assert!((cpus..4096).contains(&granted.queues), "{} queues", granted.queues);
    assert_eq!(granted.max_io_bytes, 100_000 / 4096 * 4096);
    let known = asked.features & context.features;
    let forced = Features::FORCED & context.features;
    assert_eq!(granted.features, known | forced);
    let sized = context.features.contains(Features::IO_DESC_SIZE);
    assert_eq!(granted.descriptor_bytes, if sized { 32 } else { 24 });
    assert_eq!((granted.depth, granted.server_word), (asked.depth, asked.server_word));
    for descriptor_bytes in [16, 28, 264] {
        let answer = control.add(&DeviceInfo { descriptor_bytes, ..asked }, LIMIT);
        if sized {
            refused(answer, Errno::EINVAL);
        } else {
            control.device(answer.unwrap().id.unwrap()).delete().unwrap();
        }
    }
    served_as_granted(granted.queues);
}

/// A server lives by what it was granted, not by what it wished for.
fn served_as_granted(queues: u16) {
    let memory = Memory::new(Geometry::new(1 << 20)).unwrap();
    let builder = Builder::new().queues(4096).depth(4).max_io_bytes(100_000);
    let server = builder.serve(Blocking::new(memory)).unwrap();
    assert_eq!((server.info().queues, server.info().max_io_bytes), (queues, 98_304));
    assert_eq!(server.stop().unwrap().len(), usize::from(queues));
}

/// The features whose combinations exclude each other.
const LATTICE: [Features; 8] = [
    Features::USER_RECOVERY,
    Features::USER_RECOVERY_REISSUE,
    Features::USER_RECOVERY_FAIL_IO,
    Features::QUIESCE,
    Features::USER_COPY,
    Features::SUPPORT_ZERO_COPY,
    Features::INTEGRITY,
    Features::ZONED,
];

/// What a driver that knows `known` checks of a wish: the features that it does not know it drops,
/// and until there were three ways to recover it did not mind the second without the first.
fn as_understood(wanted: Features, known: Features) -> Features {
    let is_lone_reissue = !wanted.contains(Features::USER_RECOVERY)
        && !known.contains(Features::USER_RECOVERY_FAIL_IO);
    let unchecked = if is_lone_reissue { Features::USER_RECOVERY_REISSUE } else { NOTHING };
    (wanted & known) - unchecked
}

pub fn conflicts(context: Context) {
    let mut control = open();
    let mut wrong = Vec::new();
    for set in 0_u32..1 << LATTICE.len() {
        let members = LATTICE.iter().enumerate().filter(|(bit, _)| set >> bit & 1 == 1);
        let features: Features = members.map(|(_, feature)| *feature).collect();
        let answer = control.add(&wish(features), DEFAULT_TIMEOUT);
        let is_refused = match &answer {
            Ok(granted) => {
                control.device(granted.id.unwrap()).delete().unwrap();
                false
            }
            Err(Error::Command { errno: Errno::EINVAL, .. }) => true,
            Err(error) => panic!("{features}: {error}"),
        };
        let why = as_understood(features, context.features).conflict(true);
        if why.is_some() != is_refused {
            let granted = answer.map(|granted| granted.features.to_string());
            wrong.push(format!("{features}: {why:?}, but the driver says {granted:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// Takes `CAP_SYS_ADMIN` from the calling thread.
fn become_ordinary() {
    let mut sets = capabilities(None).unwrap();
    for set in [&mut sets.effective, &mut sets.permitted, &mut sets.inheritable] {
        set.remove(CapabilitySet::SYS_ADMIN);
    }
    set_capabilities(None, sets).unwrap();
}

pub fn unprivileged(_: Context) {
    let mut control = open();
    let id = added(&mut control, NOTHING);
    std::thread::scope(|scope| scope.spawn(|| unprivileged_thread(id)).join().unwrap());
    control.device(id).delete().unwrap();
}

/// `id` is a privileged device.
fn unprivileged_thread(id: u32) {
    let mut privileged = open();
    let own = Features::UNPRIVILEGED_DEV;
    let granted = privileged.add(&wish(own), LIMIT).unwrap();
    assert!(!granted.features.contains(own), "the privileged make no unprivileged devices");
    privileged.device(granted.id.unwrap()).delete().unwrap();

    become_ordinary();
    let mut control = open();
    refused(control.add(&wish(NOTHING), LIMIT), Errno::EPERM);
    refused(control.add(&wish(own | Features::USER_COPY), LIMIT), Errno::EINVAL);
    refused(control.device(id).info(), Errno::EPERM);
    refused(control.device(id).stop(), Errno::EPERM);
    with_path(&mut control);
    drop(control);
    // Not the opener's rights count, but those of whoever sends the command.
    refused(privileged.device(id).delete(), Errno::EPERM);
}

/// Whoever asks about an unprivileged device names it by its path as well.
fn with_path(control: &mut Control<Linux>) {
    let id = added(control, Features::UNPRIVILEGED_DEV);
    let path = CString::new(char_path(id)).unwrap();
    refused(control.device(id).info(), Errno::EINVAL);
    refused(control.device(id).set_params(&sound()), Errno::EINVAL);
    let info = control.device(id).by_path(path.clone()).info().unwrap();
    assert_eq!((info.id, info.owner_uid), (Some(id), 0));
    assert_eq!(control.device(id).info_by_path().unwrap(), info);
    control.device(id).by_path(path.clone()).set_params(&sound()).unwrap();
    let kept = control.device(id).by_path(path.clone()).params().unwrap();
    assert_eq!(kept.basic, sound().basic, "the path came before the parameters");
    refused(control.device(id).by_path(c"/dev/null".into()).info(), Errno::EPERM);
    refused(control.device(id).by_path(path.clone()).delete_async(), Errno::EINVAL);
    refused(control.device(id).delete(), Errno::EINVAL);
    control.device(id).by_path(path).delete().unwrap();
    quota(control);
}

/// Ordinary users may have so many devices and no more.
fn quota(control: &mut Control<Linux>) {
    let limit = "/sys/module/ublk_drv/parameters/ublks_max";
    let before = tools::read(limit);
    std::fs::write(limit, "0").unwrap();
    let answer = control.add(&wish(Features::UNPRIVILEGED_DEV), LIMIT);
    std::fs::write(limit, before.trim()).unwrap();
    refused(answer, Errno::EACCES);
}

pub fn resize(_: Context) {
    let mut control = open();
    let server = served(Features::UPDATE_SIZE);
    let id = server.id();
    let sectors = || tools::read(&format!("/sys/block/ublkb{id}/size")).trim().to_string();
    assert_eq!(sectors(), (64 << 11).to_string());
    control.device(id).update_size(32 << 20).unwrap();
    assert_eq!(sectors(), (32 << 11).to_string());
    let odd = control.device(id).update_size(1000);
    assert!(matches!(odd, Err(Error::Refused(_))), "{odd:?}");
    control.device(id).stop().unwrap();
    refused(control.device(id).update_size(32 << 20), Errno::ENODEV);
    server.stop().unwrap();
}

pub fn quiesce(_: Context) {
    let mut control = open();
    let server = served(NOTHING);
    refused(control.device(server.id()).quiesce(SHORT), Errno::EOPNOTSUPP);
    server.stop().unwrap();
    let id = added(&mut control, Features::QUIESCE | Features::USER_RECOVERY);
    refused(control.device(id).quiesce(SHORT), Errno::ENODEV); // no disk
    control.device(id).delete().unwrap();
}

pub fn recovery(context: Context) {
    let mut control = open();
    let server = served(NOTHING);
    let own_pid = std::process::id();
    refused(control.device(server.id()).start_recovery(), Errno::EINVAL);
    refused(control.device(server.id()).end_recovery(own_pid), Errno::EINVAL);
    server.stop().unwrap();
    refused(control.device(NOBODY).start_recovery(), Errno::ENODEV);
    refused(control.device(NOBODY).end_recovery(own_pid), Errno::ENODEV);
    let id = added(&mut control, Features::USER_RECOVERY);
    // The old driver resets queues here, and finds none.
    let is_old = !context.features.contains(Features::SUPPORT_ZERO_COPY);
    let never_served = if is_old { Errno::EINVAL } else { Errno::EBUSY };
    refused(control.device(id).start_recovery(), never_served);
    control.device(id).delete().unwrap();
}

pub fn shared_buffers(_: Context) {
    let mut control = open();
    let id = added(&mut control, Features::SHMEM_ZC);
    let [first, second] = [1 << 20, 4096].map(|len| SharedBuffer::new(len).unwrap());
    let register = |control: &mut Control<Linux>, buffer: &SharedBuffer, read_only| {
        control.device(id).register_buffer(buffer, read_only)
    };
    assert_eq!(register(&mut control, &first, false).unwrap(), 0, "an index, not just success");
    assert_eq!(register(&mut control, &second, true).unwrap(), 1);
    refused(register(&mut control, &first, false), Errno::EEXIST);
    control.device(id).unregister_buffer(0).unwrap();
    refused(control.device(id).unregister_buffer(0), Errno::ENOENT);
    assert_eq!(register(&mut control, &first, true).unwrap(), 0);
    let plain = added(&mut control, NOTHING);
    let unused = SharedBuffer::new(4096).unwrap();
    refused(control.device(plain).register_buffer(&unused, false), Errno::EOPNOTSUPP);
    refused(control.device(NOBODY).unregister_buffer(0), Errno::ENODEV);
    for id in [id, plain] {
        control.device(id).delete().unwrap(); // and with the device goes its buffer 1
    }
}

/// Memory that commands lend to the kernel: nothing else here maps any that children do not inherit
/// and that has no huge pages.
fn lent_kib() -> u64 {
    let (mut lent, mut size_kib) = (0, 0);
    for line in tools::read("/proc/self/smaps").lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("Size:") => size_kib = words.next().unwrap().parse().unwrap(),
            Some("VmFlags:") => {
                let flags: Vec<&str> = words.collect();
                if ["dc", "nh"].iter().all(|flag| flags.contains(flag)) {
                    lent += size_kib;
                }
            }
            _ => {}
        }
    }
    lent
}

pub fn deadlines(_: Context) {
    let mut control = open();
    let before_kib = lent_kib();
    let id = added(&mut control, NOTHING);
    let held = open_char_device(id);
    late(control.device(id).within(SHORT).delete());
    assert_eq!((control.given_up(), lent_kib()), (1, before_kib + 4));
    // It may be used on, and what was given up may still happen.
    control.features().unwrap();
    assert_eq!(control.given_up(), 1);
    drop(held);
    tools::eventually("DEL_DEV completes", LIMIT, || {
        control.features().unwrap();
        control.given_up() == 0
    });
    assert_eq!(lent_kib(), before_kib);
    refused(control.device(id).info(), Errno::ENODEV);
}

/// Commands that are never answered do not pile up without end.
pub fn given_up_commands(_: Context) {
    let mut control = open();
    let before_kib = lent_kib();
    let id = added(&mut control, NOTHING);
    let held = open_char_device(id);
    let most = 16;
    for given_up in 1..=most {
        late(control.device(id).within(Duration::from_millis(20)).delete());
        assert_eq!(control.given_up(), given_up);
    }
    let one_more = control.device(id).delete();
    assert!(matches!(one_more, Err(Error::Refused(_))), "{one_more:?}");
    assert_eq!(lent_kib(), before_kib + 4 * 16);
    drop(held);
    tools::eventually("all complete", LIMIT, || {
        control.features().is_ok() && control.given_up() == 0
    });
    assert_eq!(lent_kib(), before_kib);
}

/// A START_DEV that nobody fetches for ends when its device is stopped, or with its ring.
pub fn start_without_server(context: Context) {
    let (mut control, mut second) = (open(), open());
    let id = added(&mut control, NOTHING);
    control.device(id).set_params(&sound()).unwrap();
    let held = open_char_device(id);
    late(control.device(id).within(SHORT).start(std::process::id()));
    assert_eq!(control.given_up(), 1);
    second.device(id).stop().unwrap();
    if context.features.contains(Features::IO_DESC_SIZE) {
        tools::eventually("START_DEV is answered", LIMIT, || {
            control.features().unwrap();
            control.given_up() == 0
        });
    } else {
        std::thread::sleep(SHORT);
        control.features().unwrap();
        assert_eq!(control.given_up(), 1, "before 7.3 stopping did not wake a start");
    }
    drop(held);
    drop(control); // takes a waiting START_DEV along, which would keep the device
    second.device(id).delete().unwrap();
}
