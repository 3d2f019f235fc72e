//! Every control command of the library: done once, and refused once in the driver's own words.

mod attached;
mod granted;
mod modelled;
mod params;
mod raw;
mod recovery;
mod taken;
mod waiting;

pub use attached::disks;
pub use granted::{negotiation, unprivileged};
pub use modelled::wishes;
pub use params::parameters;
pub use recovery::{dirty_pages, quiesce, recovery};
pub use taken::parameters_taken;
pub use waiting::{deadlines, given_up_commands, unserved_start};

use super::Context;
use crate::kernels::Quirk;
use crate::tools;
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

fn wish(features: Features) -> DeviceInfo {
    DeviceInfo { features, ..DeviceInfo::wish(1, raw::DEPTH, raw::MAX_IO_BYTES) }
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

/// The number of a device that was deleted without waiting is taken while its char device is open.
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

/// A driver that takes nobody else for the server than who opened the char device.
fn knows_opener(context: Context) -> bool {
    !context.has(Quirk::AnyOpener)
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
    let of_another = if knows_opener(context) { Errno::EINVAL } else { Errno::EEXIST };
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

pub fn resize(_: Context) {
    let mut control = open();
    let server = served(Features::UPDATE_SIZE);
    let id = server.id();
    let sectors = || tools::read(&format!("/sys/block/ublkb{id}/size")).trim().to_string();
    assert_eq!(sectors(), (64 << 11).to_string());
    control.device(id).update_size(32 << 20).unwrap();
    assert_eq!(sectors(), (32 << 11).to_string());
    // The command makes the disk smaller whoever serves it, and larger only what it serves itself.
    let resized = |words: &[&str]| {
        let output = tools::output(tools::UBLKIT, &[&["resize", &id.to_string()], words].concat());
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(resized(&["16M", "--shrink"]), (Some(0), String::new()));
    assert_eq!(sectors(), (16 << 11).to_string());
    let (code, why) = resized(&["32M"]);
    assert!(code == Some(6) && why.contains("use its own means"), "{why}");
    assert_eq!(sectors(), (16 << 11).to_string());
    let odd = control.device(id).update_size(1000);
    assert!(matches!(odd, Err(Error::Refused(_))), "{odd:?}");
    control.device(id).stop().unwrap();
    refused(control.device(id).update_size(32 << 20), Errno::ENODEV);
    server.stop().unwrap();
}

pub fn buffers(_: Context) {
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
