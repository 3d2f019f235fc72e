//! Control commands over the simulated kernel: each asks what its name says, and says what was
//! answered.

use crate::file_disk::{FileDisk, Mistake};
use crate::house::House;
use crate::properties::load;
use std::time::Duration;
use ublkit::sim::{Ask, Choices, Faults, Profile, Sim, Task};
use ublkit::sys::ublk as sys;
use ublkit::sys::ublk::{ublk_param_basic, ublk_params};
use ublkit::{
    Access, Blocking, Builder, Control, DataPath, DeviceControl, DeviceInfo, DeviceState, Errno,
    Error, Features, Geometry, Null, PathReason, Recovery, SharedBuffer,
};

const SHORT: Duration = Duration::from_secs(1);

fn machine(profile: Profile) -> (Sim, Control<Task>) {
    let sim = Sim::new(profile, Choices::first(), Faults::default());
    let control = Control::open(sim.task()).unwrap();
    (sim, control)
}

/// Checks the command that was refused, the device it was about, and the errno.
#[track_caller]
fn refused<T>(result: Result<T, Error>, name: &str, id: u32, errno: Errno) {
    match result.err() {
        Some(Error::Command { command, device, errno: told, .. }) => {
            assert_eq!((command, device, told), (name, Some(id), errno));
        }
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn what_the_driver_knows_is_told() {
    for profile in Profile::ALL {
        let (sim, mut control) = machine(*profile);
        let told = control.features().unwrap();
        assert_eq!(told, Some(Features::from_bits_retain(profile.features())));
        drop(control);
        sim.assert_clean();
    }
}

/// Every command about a device says so when there is none.
#[test]
fn no_command_finds_a_device_that_is_not_there() {
    type Ask = fn(DeviceControl<'_, Task>) -> Result<(), Error>;
    let commands: [(&str, Ask); 15] = [
        ("GET_DEV_INFO", |device| device.info().map(drop)),
        ("GET_DEV_INFO2", |device| device.info_by_path().map(drop)),
        ("GET_QUEUE_AFFINITY", |device| device.queue_cpus(0).map(drop)),
        ("SET_PARAMS", |device| device.set_params(&ublk_params::default())),
        ("GET_PARAMS", |device| device.params().map(drop)),
        ("START_DEV", |device| device.start(1)),
        ("STOP_DEV", |device| device.stop()),
        ("TRY_STOP_DEV", |device| device.try_stop()),
        ("DEL_DEV", |device| device.delete()),
        ("DEL_DEV_ASYNC", |device| device.delete_async()),
        ("START_USER_RECOVERY", |device| device.start_recovery()),
        ("END_USER_RECOVERY", |device| device.end_recovery(1)),
        ("QUIESCE_DEV", |device| device.quiesce(SHORT)),
        ("REG_BUF", |device| {
            let buffer = SharedBuffer::new(4096).unwrap();
            device.register_buffer(&buffer, true).map(drop)
        }),
        ("UNREG_BUF", |device| device.unregister_buffer(0)),
    ];
    let (sim, mut control) = machine(Profile::NEWEST);
    for (name, ask) in commands {
        refused(ask(control.device(7)), name, 7, Errno::ENODEV);
    }
    // It looks for the disk first, and that is what the driver refuses.
    refused(control.device(7).update_size(512), "GET_DEV_INFO", 7, Errno::ENODEV);
    drop(control);
    sim.assert_clean();
}

#[test]
fn a_device_is_what_was_wished() {
    let (sim, mut control) = machine(Profile::NEWEST);
    sim.set_cpus(12);
    let features = Features::USER_RECOVERY | Features::UPDATE_SIZE;
    let wish = DeviceInfo { id: Some(5), features, ..DeviceInfo::wish(3, 16, 1 << 16) };
    let added = control.add(&wish, SHORT).unwrap();
    assert_eq!((added.id, added.queues, added.depth), (Some(5), 3, 16));
    assert_eq!((added.max_io_bytes, added.state), (1 << 16, DeviceState::Dead));
    assert!(added.features.contains(features), "{added:?}");
    assert_eq!(control.device(5).info().unwrap(), added);
    assert_eq!(control.device(5).info_by_path().unwrap(), added);
    refused(control.add(&wish, SHORT), "ADD_DEV", 5, Errno::EEXIST);

    // Every CPU sends its requests to one of the queues.
    let mut cpus = Vec::new();
    for queue in 0..3 {
        let own = control.device(5).queue_cpus(queue).unwrap();
        assert_eq!(own.len(), 4, "{own:?}");
        cpus.extend(own);
    }
    cpus.sort_unstable();
    assert_eq!(cpus, (0..12).collect::<Vec<_>>());
    refused(control.device(5).queue_cpus(3), "GET_QUEUE_AFFINITY", 5, Errno::EINVAL);

    refused(control.device(5).start(1), "START_DEV", 5, Errno::EINVAL);
    let params = ublk_params {
        len: 152,
        types: sys::UBLK_PARAM_TYPE_BASIC,
        basic: ublk_param_basic {
            logical_bs_shift: 9,
            physical_bs_shift: 12,
            io_opt_shift: 12,
            io_min_shift: 12,
            max_sectors: 128,
            dev_sectors: 2048,
            ..ublk_param_basic::default()
        },
        ..ublk_params::default()
    };
    control.device(5).set_params(&params).unwrap();
    let told = control.device(5).params().unwrap();
    assert_eq!((told.len, told.basic), (params.len, params.basic));
    assert_ne!(told.types & sys::UBLK_PARAM_TYPE_DEVT, 0);

    control.device(5).delete_async().unwrap();
    sim.until_quiet();
    refused(control.device(5).info(), "GET_DEV_INFO", 5, Errno::ENODEV);
    drop(control);
    sim.assert_clean();
}

/// As many CPUs as a kernel can be built for: none of them is forgotten.
#[test]
fn the_last_cpu_belongs_to_a_queue() {
    let (sim, mut control) = machine(Profile::NEWEST);
    sim.set_cpus(8192);
    let wish = DeviceInfo { id: Some(5), ..DeviceInfo::wish(2, 4, 4096) };
    control.add(&wish, SHORT).unwrap();
    let own = [0, 1].map(|queue| control.device(5).queue_cpus(queue).unwrap());
    assert_eq!(own.concat(), (0..8192).collect::<Vec<_>>());
    control.device(5).delete().unwrap();
    drop(control);
    sim.assert_clean();
}

#[test]
fn a_live_disk_is_measured_anew_and_stopped_when_nobody_has_it_open() {
    let house = House::new();
    let sim = house.sim(Choices::first());
    let server = house.serve(sim.task()).unwrap();
    let id = server.id();
    let mut control = Control::open(sim.process(true)).unwrap();
    assert_eq!(control.device(id).info().unwrap().state, DeviceState::Live);

    control.device(id).update_size(3 << 19).unwrap();
    assert_eq!(control.device(id).params().unwrap().basic.dev_sectors, 3 << 10);
    let odd = control.device(id).update_size(513);
    assert!(matches!(&odd, Err(Error::Refused(why)) if why.contains("513 bytes")), "{odd:?}");

    let open = sim.open_disk(id).unwrap();
    refused(control.device(id).try_stop(), "TRY_STOP_DEV", id, Errno::EBUSY);
    drop(open);
    control.device(id).try_stop().unwrap();
    server.wait();
    // Without a disk it is not even asked: old drivers crash.
    refused(control.device(id).update_size(1 << 20), "UPDATE_SIZE", id, Errno::ENODEV);
    server.stop().unwrap();
    drop(control);
    sim.assert_clean();
}

/// P47, P49: a command that is given up keeps its place, the others go on; when no place is left,
/// no command is sent.
#[test]
fn commands_that_are_given_up_are_counted() {
    let faults = Faults { never_answers: Some(sys::UBLK_U_CMD_STOP_DEV), ..Faults::default() };
    let sim = Sim::new(Profile::NEWEST, Choices::first(), faults);
    let mut control = Control::open(sim.task()).unwrap();
    let wish = DeviceInfo::wish(1, 4, 4096);
    let id = control.add(&wish, SHORT).unwrap().id.unwrap();
    for count in 0..16 {
        assert_eq!(control.given_up(), count);
        match control.device(id).within(SHORT).stop().err() {
            Some(Error::Timeout { what: "STOP_DEV", device, after }) => {
                assert_eq!((device, after), (Some(id), SHORT));
            }
            other => panic!("{other:?}"),
        }
        // The others are answered as long as there is a place.
        assert_eq!(control.device(id).info().is_ok(), count < 15);
    }
    let full = control.device(id).info().unwrap_err();
    assert!(matches!(&full, Error::Refused(why) if why.starts_with("16 control")), "{full:?}");
    assert_eq!(control.given_up(), 16);
}

/// P45: a device without privileges is named by its node in every command, from the first to the
/// last.
#[test]
fn an_ordinary_user_serves() {
    for seed in 0..20 {
        let house = House { queues: 2, ..House::new() };
        let sim = house.sim(Choices::seed(seed));
        let user = sim.process(false);
        let builder = house.builder().features(Features::UNPRIVILEGED_DEV);
        let server = builder.serve_on(user, house.target()).unwrap();
        assert!(server.info().features.contains(Features::UNPRIVILEGED_DEV));
        let clients = sim.load(server.id(), load(100));
        sim.until_answered();
        server.stop().unwrap();
        assert_eq!(sim.tally(clients).succeeded, 100);
        sim.assert_clean();
    }
    // Its control: without that feature nobody makes a device for him.
    let house = House::new();
    let sim = house.sim(Choices::seed(0));
    let error = house.builder().serve_on(sim.process(false), house.target()).unwrap_err();
    assert_eq!(error.kind(), ublkit::ErrorKind::Permission, "{error}");
}

/// A disk becomes smaller while a request is under way beyond its new end, and larger again, though
/// not by as much.
#[test]
fn a_disk_shrinks() {
    let sim = Sim::new(Profile::NEWEST, Choices::first(), Faults::default());
    let null = Blocking::new(Null::new(Geometry::new(4 << 20)));
    let server = Builder::new().serve_on(sim.task(), null).unwrap();
    let mut control = Control::open(sim.process(true)).unwrap();
    let ask_at = |offset: u64| sim.ask(server.id(), 0, Ask::Read { offset, len_bytes: 4096 });
    let answer = |asking: Option<u64>| {
        sim.until_quiet();
        sim.answer(asking.unwrap()).expect("it is answered").map(|data| data.len())
    };
    let under_way = ask_at((4 << 20) - 4096);
    control.device(server.id()).update_size(1 << 20).unwrap();
    server.grow(1 << 20).unwrap(); // no limit of what is under way
    assert_eq!(answer(under_way), Ok(4096));
    assert_eq!(answer(ask_at((1 << 20) - 4096)), Ok(4096));
    server.grow(2 << 20).unwrap();
    control.device(server.id()).update_size(2 << 20).unwrap();
    assert_eq!(answer(ask_at((2 << 20) - 4096)), Ok(4096));
    drop(control);
    server.stop().unwrap();
    assert_eq!(sim.leftovers(), Vec::<String>::new());
}

/// A disk that grows serves what it has grown by: not before its server knows, and then at once.
#[test]
fn a_disk_grows() {
    let sim = Sim::new(Profile::NEWEST, Choices::first(), Faults::default());
    let null = Blocking::new(Null::new(Geometry::new(1 << 20)));
    let server = Builder::new().queues(2).serve_on(sim.task(), null).unwrap();
    let mut control = Control::open(sim.process(true)).unwrap();
    let ask_at = |offset: u64| {
        let asking = sim.ask(server.id(), 1, Ask::Read { offset, len_bytes: 4096 }).unwrap();
        sim.until_quiet();
        sim.answer(asking).expect("it is answered").map(|data| data.len())
    };
    assert!(ask_at((1 << 20) - 4096).is_ok());
    control.device(server.id()).update_size(2 << 20).unwrap();
    assert!(ask_at(1 << 20).is_err(), "its server does not know yet");
    server.grow(2 << 20).unwrap();
    assert_eq!(ask_at(1 << 20), Ok(4096));
    assert_eq!(ask_at((2 << 20) - 4096), Ok(4096));
    assert!(server.grow((4 << 20) + 1).unwrap_err().to_string().contains("no multiple"));
    drop(control);
    server.stop().unwrap();
    assert_eq!(sim.leftovers(), Vec::<String>::new());
}

/// A device knows why its data moves as it does.
#[test]
fn a_path_is_taken_for_a_reason() {
    let reason = |profile, builder: &Builder, is_admin| {
        let house = House { profile, access: Access::Operations, ..House::new() };
        let sim = house.sim(Choices::first());
        let target = FileDisk::new(&house, Mistake::None);
        let server = builder.serve_on(sim.process(is_admin), target).expect("a device");
        (server.data_path(), server.path_reason())
    };
    let usual = Builder::new();
    let (zero_copy, newest) = (DataPath::ZeroCopy, Profile::NEWEST);
    let best = PathReason::Best(Access::Operations);
    assert_eq!(reason(newest, &usual, true), (zero_copy, best));
    let wish = usual.clone().data_path(DataPath::UserCopy);
    assert_eq!(reason(newest, &wish, true), (DataPath::UserCopy, PathReason::Wished));
    let unprivileged = usual.clone().features(Features::UNPRIVILEGED_DEV);
    let why = PathReason::Unprivileged(zero_copy);
    assert_eq!(reason(newest, &unprivileged, false), (DataPath::Copy, why));
    let old = Profile::named("6.12").expect("a profile");
    let lacking = Features::AUTO_BUF_REG | Features::SUPPORT_ZERO_COPY;
    let why = PathReason::Lacking(zero_copy, lacking);
    assert_eq!(reason(old, &usual, true), (DataPath::Copy, why));
    // Where both are so, it is the kernel's lack.
    assert!(matches!(reason(old, &unprivileged, false).1, PathReason::Lacking(..)));
}

/// A device that was there before is as it was made.
#[test]
fn a_recovered_path_is_as_it_was_made() {
    let house = House { recovery: Recovery::Wait, ..House::new() };
    let sim = house.sim(Choices::first());
    let mut server = house.serve(sim.task()).expect("a device");
    assert_eq!(server.path_reason(), PathReason::Wished);
    server.hand_over().expect("it can be handed over");
    let next = Builder::new().recover_on(sim.task(), server.id(), house.target());
    assert_eq!(next.expect("it goes on").path_reason(), PathReason::Made);
}
