//! Buffers that a server shares with clients: REG_BUF and UNREG_BUF over the simulated kernel, of
//! devices without a disk. This library serves none with `SHMEM_ZC`; what a live one does, the
//! witness's scripts try.

use std::time::Duration;
use ublkit::sim::{Choices, Faults, Profile, Sim, Task};
use ublkit::{Control, DeviceInfo, Errno, Error, Features, SharedBuffer};

const SHORT: Duration = Duration::from_secs(1);

fn machine(profile: Profile) -> (Sim, Control<Task>) {
    let sim = Sim::new(profile, Choices::first(), Faults::default());
    let control = Control::open(sim.task()).unwrap();
    (sim, control)
}

fn added(control: &mut Control<Task>, features: Features) -> u32 {
    let wish = DeviceInfo { features, ..DeviceInfo::wish(1, 4, 4096) };
    control.add(&wish, SHORT).unwrap().id.unwrap()
}

fn buffer() -> SharedBuffer {
    SharedBuffer::new(8192).unwrap()
}

#[track_caller]
fn refused<T>(result: Result<T, Error>, errno: Errno) {
    match result.err() {
        Some(Error::Command { errno: told, .. }) => assert_eq!(told, errno),
        other => panic!("{other:?}"),
    }
}

/// P46: the index 0 is one as well, and the lowest that is free is the next.
#[test]
fn buffers_are_registered_and_forgotten() {
    let (sim, mut control) = machine(Profile::NEWEST);
    let id = added(&mut control, Features::SHMEM_ZC);
    let [one, other] = [buffer(), buffer()];
    let register = |control: &mut Control<Task>, buffer: &SharedBuffer, read_only| {
        control.device(id).register_buffer(buffer, read_only)
    };
    refused(control.device(id).unregister_buffer(0), Errno::ENOENT);
    assert_eq!(register(&mut control, &one, false).unwrap(), 0);
    assert_eq!(register(&mut control, &other, true).unwrap(), 1);
    refused(register(&mut control, &one, true), Errno::EEXIST);
    control.device(id).unregister_buffer(0).unwrap();
    for index in [0, 2, u16::MAX] {
        refused(control.device(id).unregister_buffer(index), Errno::ENOENT);
    }
    assert_eq!(register(&mut control, &one, true).unwrap(), 0);
    // The pages are registered, not the address: another buffer may be mapped there.
    drop(other);
    let third = buffer();
    assert_eq!(register(&mut control, &third, false).unwrap(), 2);

    // Each device has buffers of its own, and they go with it.
    let second = added(&mut control, Features::SHMEM_ZC);
    assert_eq!(control.device(second).register_buffer(&one, false).unwrap(), 0);
    for device in [id, second] {
        control.device(device).delete().unwrap();
        refused(control.device(device).unregister_buffer(0), Errno::ENODEV);
    }
    let id = added(&mut control, Features::SHMEM_ZC);
    refused(control.device(id).unregister_buffer(0), Errno::ENOENT);
    assert_eq!(control.device(id).register_buffer(&one, false).unwrap(), 0);
    control.device(id).delete().unwrap();
    drop(control);
    sim.assert_clean();
}

/// On each kernel, of a device with the feature, where there is one, and of one without it.
#[test]
fn without_the_feature_there_are_none() {
    for profile in Profile::ALL {
        let (sim, mut control) = machine(*profile);
        let has = Features::from_bits_retain(profile.features()).contains(Features::SHMEM_ZC);
        for (features, works) in [(Features::SHMEM_ZC, has), (Features::USER_COPY, false)] {
            let id = added(&mut control, features);
            let answer = control.device(id).register_buffer(&buffer(), false);
            if works {
                assert_eq!(answer.unwrap(), 0);
                control.device(id).unregister_buffer(0).unwrap();
            } else {
                refused(answer, Errno::EOPNOTSUPP);
                refused(control.device(id).unregister_buffer(0), Errno::EOPNOTSUPP);
            }
            control.device(id).delete().unwrap();
        }
        drop(control);
        sim.assert_clean();
    }
}
