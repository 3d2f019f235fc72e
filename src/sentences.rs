//! The sentences of the library's errors, in `tests/golden/library.txt`: what a person is told
//! where no test without a kernel, or none at all, can cause the error.
//!
//! `UBLKIT_BLESS=1 cargo test --lib sentences` writes the file anew; then read what changed.

use crate::control::{crowd, odd_index};
use crate::device::refusals;
use crate::ring::broken;
use crate::sim::{Choices, Faults, Profile, Sim};
use crate::{
    Access, Backend, Blocking, Builder, Control, DataPath, DeviceInfo, DeviceState, Durability,
    Errno, Error, Features, FileOptions, Geometry, Needs, PathReason, QueueError, Recovery,
    RingError, Target, Tasks,
};
use core::time::Duration;
use std::fmt::Write;
use std::path::Path;

/// Whether there is an example of each variant. A variant that is not named here does not compile.
macro_rules! all_are_there {
    ($kind:ident, $examples:expr, $($variant:ident)*) => {
        let _named = |example: &$kind| match example { $($kind::$variant { .. } => {})* };
        $(assert!(
            $examples.iter().any(|example| matches!(example, $kind::$variant { .. })),
            "no example of {}::{}", stringify!($kind), stringify!($variant),
        );)*
    };
}

fn rings() -> Vec<RingError> {
    use RingError::{Enter, Map, Provide, Setup, Starved};
    let mut errors = vec![
        Setup(Errno::EPERM),
        Setup(Errno::ENOSYS),
        Setup(Errno::ENOMEM),
        Setup(Errno::EMFILE),
        Setup(Errno::ENFILE),
        Setup(Errno::EINVAL),
        Setup(Errno::EIO),
        Map(Errno::ENOMEM),
        Map(Errno::EAGAIN),
        Provide(Errno::ENOMEM),
        Provide(Errno::EINVAL),
        Enter(Errno::EBADR),
        Enter(Errno::EEXIST),
        Enter(Errno::EBADFD),
        Enter(Errno::EACCES),
        Starved(Errno::EAGAIN),
        RingError::SubmissionsFull,
        RingError::CompletionsOverrun,
    ];
    errors.extend(broken::ALL.map(RingError::Impossible));
    all_are_there!(RingError, errors, Setup Map Provide Impossible Enter Starved SubmissionsFull
        CompletionsOverrun);
    errors
}

fn queues() -> Vec<QueueError> {
    let errors = vec![
        QueueError::Ring(RingError::Setup(Errno::ENOMEM)),
        QueueError::Descriptors(Errno::ENOMEM),
        QueueError::Buffers(Errno::ENOMEM),
        QueueError::Cpus(Errno::EINVAL),
        QueueError::Handler(Errno::ENOMEM),
        QueueError::Event(Errno::EMFILE),
        QueueError::Refused { tag: 7, errno: Errno::EBUSY },
        QueueError::Batch { errno: Errno::EINVAL },
        QueueError::Unexpected { user_data: 0xff, result: -5 },
        QueueError::Panicked,
        QueueError::Stopped,
        QueueError::Late,
    ];
    all_are_there!(QueueError, errors, Ring Descriptors Buffers Cpus Handler Event Refused Batch
        Unexpected Panicked Stopped Late);
    errors
}

/// Each command, and each answer of the driver that has a remedy of its own.
fn commands() -> impl Iterator<Item = Error> {
    let command = |(command, device, errno, why)| Error::Command { command, device, errno, why };
    [
        ("GET_FEATURES", None, Errno::EOPNOTSUPP, None),
        ("ADD_DEV", None, Errno::EPERM, None),
        ("ADD_DEV", Some(7), Errno::EEXIST, None),
        ("ADD_DEV", None, Errno::EACCES, None),
        ("ADD_DEV", None, Errno::EINVAL, None),
        ("GET_DEV_INFO2", Some(7), Errno::EACCES, None),
        ("GET_DEV_INFO", Some(7), Errno::ENOENT, None),
        ("GET_DEV_INFO", Some(7), Errno::ENODEV, None),
        ("SET_PARAMS", Some(7), Errno::EINVAL, None),
        ("START_DEV", Some(7), Errno::EINVAL, None),
        ("START_DEV", Some(7), Errno::EBUSY, None),
        ("END_USER_RECOVERY", Some(7), Errno::EINVAL, None),
        ("UPDATE_SIZE", Some(7), Errno::EOPNOTSUPP, None),
        ("DEL_DEV", Some(7), Errno::EIO, None),
        ("DEL_DEV", Some(7), Errno::EINTR, None),
        ("DEL_DEV_ASYNC", Some(7), Errno::EINVAL, None),
    ]
    .into_iter()
    .map(command)
}

fn errors() -> Vec<Error> {
    let open = |path: &str, errno| Error::Open { path: path.into(), errno };
    let file = |errno| Error::File { path: "disk.img".into(), errno };
    let late = |what, device| Error::Timeout { what, device, after: Duration::from_secs(30) };
    let mut errors = Vec::new();
    for errno in [Errno::ENOENT, Errno::EACCES, Errno::EMFILE] {
        errors.push(open("/dev/ublk-control", errno));
    }
    for errno in [Errno::ENOENT, Errno::EACCES, Errno::EBUSY, Errno::EMFILE] {
        errors.push(open("/dev/ublkc7", errno));
    }
    let of_files =
        [Errno::ENOENT, Errno::EACCES, Errno::EROFS, Errno::EBUSY, Errno::EINVAL, Errno::EISDIR];
    errors.extend(of_files.into_iter().chain([Errno::ENOSPC, Errno::EFBIG, Errno::EIO]).map(file));
    errors.extend(commands());
    errors.extend([late("GET_FEATURES", None), late("ADD_DEV", None), late("DEL_DEV", Some(7))]);
    errors.extend([late("STOP_DEV", Some(7)), Error::Thread(Errno::EAGAIN)]);
    errors.extend([crowd(64), odd_index(1 << 16)]);
    errors.extend(strange());
    errors.extend(rings().into_iter().map(Error::Ring));
    let queue = |error| Error::Queue { device: 7, queue: 1, error };
    errors.extend(queues().into_iter().map(queue));
    let (first, then) = (Box::new(late("START_DEV", Some(7))), Box::new(late("DEL_DEV", Some(7))));
    errors.push(Error::Undo { first, then });
    all_are_there!(Error, errors, Open File Ring Command Timeout Refused Impossible Queue Thread
        Undo);
    errors
}

/// What a driver of ours never gives cause for.
fn strange() -> [Error; 6] {
    let wish = DeviceInfo::wish(1, 2, 4096);
    let odd = DeviceInfo { queues: 0, ..wish };
    [
        refusals::nameless(),
        refusals::ungranted(&odd, &wish),
        refusals::unsound(7, &odd),
        refusals::unserved(7, Features::ZONED),
        refusals::half_recovered(7),
        refusals::unrecoverable(7, DeviceState::Live),
    ]
}

/// A disk of which nothing but its shape is of interest.
struct Disk(Geometry);

impl Backend for Disk {
    fn geometry(&self) -> Geometry {
        self.0
    }

    fn read(&self, _offset: u64, _data: &mut [u8]) -> Result<(), Errno> {
        Ok(())
    }

    fn write(&self, _offset: u64, _data: &[u8]) -> Result<(), Errno> {
        Ok(())
    }
}

/// What is said of a disk that `builder` does not make of `target`.
fn refused_on(series: &str, builder: &Builder, target: impl Target) -> Error {
    let profile = Profile::named(series).expect("a profile");
    let sim = Sim::new(profile, Choices::first(), Faults::default());
    let error = builder.serve_on(sim.task(), target).expect_err("it cannot be");
    sim.assert_clean();
    error
}

/// A disk each of whose requests may have many operations under way.
fn busy() -> impl Target {
    let needs = Needs { access: Access::Operations, operations: 255, ..Needs::default() };
    Tasks::new(Geometry::new(1 << 30), needs, |_| async { Ok(()) })
}

/// What is refused by the library itself, word for word.
fn refusals() -> Vec<Error> {
    let good = Geometry::new(1 << 30);
    let null = |geometry| Blocking::new(Disk(geometry));
    let disk = |geometry| refused_on("7.3", &Builder::new(), null(geometry));
    let device = |builder: &Builder| refused_on("7.3", builder, null(good));
    let old = |builder: &Builder| refused_on("6.12", builder, null(good));
    let one = Builder::new().queues(1).depth(1);
    let path = |path| Builder::new().data_path(path);
    vec![
        disk(Geometry { logical_block_bytes: 1000, ..good }),
        disk(Geometry { physical_block_bytes: 1000, ..good }),
        disk(Geometry { size_bytes: 0, ..good }),
        disk(Geometry { size_bytes: 1000, ..good }),
        disk(Geometry { size_bytes: 1 << 63, ..good }),
        disk(Geometry { discard_bytes: 3000, ..good }),
        disk(Geometry { data_align_bytes: 3, ..good }),
        device(&Builder::new().queues(0)),
        device(&Builder::new().depth(5000)),
        device(&Builder::new().max_io_bytes(1000)),
        device(&Builder::new().id(1 << 20)),
        device(&Builder::new().features(Features::USER_COPY)),
        device(&Builder::new().features(Features::USER_RECOVERY)),
        device(&Builder::new().features(Features::ZONED)),
        device(&Builder::new().depth(4).threads_per_queue(5)),
        device(&Builder::new().batches(true).threads_per_queue(2)),
        refused_on("7.3", &Builder::new().depth(4096), busy()),
        old(&Builder::new().threads_per_queue(2)),
        device(&path(DataPath::ZeroCopy)),
        refused_on(
            "6.12",
            &path(DataPath::ZeroCopy),
            file("path", |options| options.size_bytes(4096)).unwrap(),
        ),
        device(&path(DataPath::GetData).batches(true)),
        device(&one.clone().batches(true)),
        old(&Builder::new().batches(true)),
        old(&Builder::new().recovery(Recovery::Fail)),
    ]
}

/// What is said where the driver grants less than it offers.
fn broken_promises() -> Vec<Error> {
    let less = |builder: &Builder| {
        let faults = Faults { fewer_features: u8::MAX, ..Faults::default() };
        let sim = Sim::new(Profile::NEWEST, Choices::seed(1), faults);
        let disk = Blocking::new(Disk(Geometry::new(1 << 30)));
        builder.serve_on(sim.task(), disk).expect_err("it is not granted")
    };
    vec![
        less(&Builder::new().data_path(DataPath::UserCopy)),
        less(&Builder::new().batches(true)),
        less(&Builder::new().recovery(Recovery::Wait)),
    ]
}

/// What is said to whoever would serve a disk of pages that nobody copies from memory.
fn other_path() -> Error {
    let sim = Sim::new(Profile::NEWEST, Choices::first(), Faults::default());
    let pages = Builder::new().recovery(Recovery::Wait).data_path(DataPath::ZeroCopy);
    let target = file("pages", |options| options.size_bytes(1 << 20)).expect("a file");
    let mut server = pages.serve_on(sim.task(), target).expect("a device");
    server.hand_over().expect("it can be handed over");
    let memory = Blocking::new(Disk(Geometry::new(1 << 20)));
    Builder::new().recover_on(sim.task(), server.id(), memory).expect_err("it cannot be")
}

/// Opens a file as `options` say; where it is is of no matter.
fn file(
    name: &str,
    options: impl FnOnce(FileOptions) -> FileOptions,
) -> Result<crate::File, String> {
    let path = std::env::temp_dir().join(format!("ublkit-sentences-{}-{name}", std::process::id()));
    let made = options(FileOptions::new(&path)).open();
    let _ = std::fs::remove_file(&path);
    made.map_err(|error| error.to_string().replace(&path.display().to_string(), "disk.img"))
}

/// What is said of files that cannot be disks.
fn files() -> Vec<String> {
    let why = |made: Result<crate::File, String>| made.expect_err("it cannot be");
    let path = std::env::temp_dir().join(format!("ublkit-sentences-{}", std::process::id()));
    let said = |options: FileOptions| {
        let error = options.open().expect_err("it cannot be").to_string();
        error.replace(&path.display().to_string(), "disk.img")
    };
    let first = FileOptions::new(&path).size_bytes(1 << 20).open().expect("it can be made");
    let locked = said(FileOptions::new(&path));
    drop(first);
    let all = vec![
        locked,
        said(FileOptions::new(&path).size_bytes(1 << 21)),
        said(FileOptions::new(&path).block_bytes(256)),
        said(FileOptions::new("/dev/null")),
        said(FileOptions::new("/nowhere/disk.img").size_bytes(1 << 20)),
        why(file("none", |options| options)),
        crate::backend::too_large_blocks(8192),
    ];
    let _ = std::fs::remove_file(&path);
    all
}

/// What is said to whoever would serve a device anew, or a server that goes on.
fn others() -> Vec<Error> {
    let known = Geometry {
        logical_block_bytes: 1024,
        physical_block_bytes: 4096,
        durability: Durability::FlushAndFua,
        write_zeroes: true,
        data_align_bytes: 512,
        ..Geometry::new(1 << 30)
    };
    let null = |geometry| Blocking::new(Disk(geometry));
    let begun = |builder: &Builder| {
        let sim = Sim::new(Profile::NEWEST, Choices::first(), Faults::default());
        let server = builder.serve_on(sim.task(), null(known)).expect("a device");
        (sim, server)
    };
    let lasting = Builder::new().queues(1).recovery(Recovery::Wait);
    let again = |geometry, way: &Builder| {
        let (sim, mut server) = begun(&lasting);
        let id = server.id();
        server.hand_over().expect("it can be handed over");
        way.recover_on(sim.task(), id, null(geometry)).expect_err("it is another")
    };
    let new = Builder::new();
    let mut all = vec![
        again(Geometry { size_bytes: 1 << 31, ..known }, &new),
        again(Geometry { logical_block_bytes: 512, ..known }, &new),
        again(Geometry { read_only: true, ..known }, &new),
        again(Geometry { durability: Durability::WriteThrough, ..known }, &new),
        again(Geometry { write_zeroes: false, ..known }, &new),
        again(Geometry { data_align_bytes: 1024, ..known }, &new),
        again(known, &new.clone().threads_per_queue(1000)),
    ];
    let (sim, server) = begun(&lasting);
    let mut control = Control::open(sim.task()).expect("the driver is there");
    control.device(server.id()).stop().expect("it stops");
    all.push(new.recover_on(sim.task(), server.id(), null(known)).expect_err("it was stopped"));
    drop(server);
    let (sim, mut server) = begun(&Builder::new().queues(1));
    all.push(server.hand_over().expect_err("it was made without"));
    all.push(server.grow(1000).expect_err("no whole blocks"));
    let id = server.id();
    all.push(new.recover_on(sim.task(), id, null(known)).expect_err("it was made without"));
    let mut control = Control::open(sim.task()).expect("the driver is there");
    all.push(control.device(id).update_size(1000).expect_err("no whole sectors"));
    server.stop().expect("it stops");
    all.push(control.device(id).info().expect_err("it is gone"));
    let unstarted = control.add(&DeviceInfo::wish(1, 1, 4096), Duration::from_secs(1));
    let id = unstarted.expect("a device").id.expect("it has a number");
    all.push(control.device(id).update_size(4096).expect_err("it has no disk"));
    all
}

/// Why data moves as it does.
fn reasons() -> Vec<String> {
    use crate::PathReason::{Batches, Best, Granted, Lacking, Made, Unprivileged, Wished};
    let (file, memory) = (DataPath::ZeroCopy, DataPath::GetData);
    let all = [
        Wished,
        Best(Access::Slices),
        Best(Access::Operations),
        Best(Access::Regions),
        Lacking(file, Features::AUTO_BUF_REG),
        Unprivileged(file),
        Batches(memory),
        Granted(memory),
        Made,
    ];
    all_are_there!(PathReason, all, Wished Best Lacking Unprivileged Batches Granted Made);
    all.map(|reason| reason.to_string()).into()
}

/// What the driver would say of features, if it said anything.
fn conflicts() -> Vec<&'static str> {
    let reissue = Features::USER_RECOVERY_REISSUE;
    let all = [
        (Features::empty(), false),
        (reissue | Features::USER_RECOVERY_FAIL_IO, true),
        (reissue, true),
        (Features::USER_RECOVERY_FAIL_IO, true),
        (Features::QUIESCE, true),
        (Features::UNPRIVILEGED_DEV | Features::USER_COPY, false),
        (Features::INTEGRITY, true),
        (Features::ZONED, true),
    ];
    all.into_iter().map(|(features, root)| features.conflict(root).expect("they do")).collect()
}

/// What the numbers mean.
fn numbers() -> String {
    let errors = (1..4096).filter_map(Errno::new).map(|errno| errno.to_string());
    errors.filter(|said| !said.starts_with("errno ")).map(|said| said + "\n").collect()
}

#[test]
fn sentences_are_as_committed() {
    let mut found = String::new();
    let mut part = |title: &str, errors: &[Error]| {
        writeln!(found, "# {title}").expect("memory can be written");
        for error in errors {
            writeln!(found, "{:12}{error}", format!("{:?}", error.kind())).expect("memory");
        }
        found.push('\n');
    };
    part("each error", &errors());
    part("devices that cannot be", &refusals());
    part("promises that are not kept", &broken_promises());
    part("devices that are there", &others());
    part("devices of another path", &[other_path()]);
    let lists = [
        ("files that cannot be disks", files().join("\n") + "\n"),
        ("why data moves as it does", reasons().join("\n") + "\n"),
        ("features that cannot be together", conflicts().join("\n") + "\n"),
        ("what the numbers mean", numbers()),
    ];
    found += &lists.map(|(title, lines)| format!("# {title}\n{lines}")).join("\n");
    for line in found.lines().filter(|line| !line.starts_with('#')) {
        assert!(!line.contains(['\t', '\r']) && line.len() < 400, "{line}");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/library.txt");
    if std::env::var_os("UBLKIT_BLESS").is_some() {
        return std::fs::write(path, found).expect("the repository can be written");
    }
    let golden = std::fs::read_to_string(path).expect("the file is committed");
    assert!(golden == found, "library.txt differs; the library says:\n{found}");
}
