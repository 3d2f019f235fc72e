//! What a wish for a device comes to: granted values, refusals, and those without privileges.

use super::{Context, LIMIT, NOTHING, added, char_path, open, refused, sound, wish};
use crate::tools;
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use std::ffi::CString;
use ublkit::{Blocking, Builder, Control, DeviceInfo, Errno, Features, Geometry, Linux, Memory};

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

/// Takes `CAP_SYS_ADMIN` from the calling thread.
pub fn become_ordinary() {
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
