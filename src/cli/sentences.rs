//! Sentences of the command line's own that no call without a kernel can cause, in
//! `tests/golden/sentences.txt`.
//!
//! `UBLKIT_BLESS=1 cargo test --bin ublkit sentences` writes the file anew; then read what changed.

use super::exit::{self, Failure};
use super::state::{FileName, Record};
use super::{
    abi, delete, device, devices, recover, resize, serve, signals, stop, supervise, trace, upgrade,
    wait, watch,
};
use core::time::Duration;
use std::path::Path;
use ublkit::{DeviceInfo, Errno, Error, Features, Stuck};

/// A name that no process and no device has.
const ID: u32 = u32::MAX;

fn why<T>(result: Result<T, Failure>) -> String {
    match result {
        Ok(_) => panic!("it cannot be"),
        Err(failure) => failure.sentence(),
    }
}

fn record(arguments: &str) -> Record {
    let arguments = arguments.split(' ').map(String::from).collect();
    let file = Some(FileName { device: 3, inode: 4 });
    Record { arguments, file, ..super::state::new_record(None).expect("a record") }
}

/// What is wrong with a device, its server or its record.
fn of_devices() -> Vec<String> {
    let mut dead = DeviceInfo::wish(1, 1, 4096);
    dead.id = Some(ID);
    let mut told = vec![why(recover::known(&dead, Duration::ZERO))];
    dead.features = Features::USER_RECOVERY;
    told.push(why(recover::known(&dead, Duration::ZERO)));
    let of_a_newer_one = record("file disk.img --shiny");
    let other = FileName { device: 3, inode: 5 };
    told.extend([
        why(recover::said(ID, &of_a_newer_one)),
        why(of_a_newer_one.check_file(Some(other))),
        why::<()>(Err(recover::not_ours(ID, 4321))),
        why(devices::sync(ID, "the stop", Duration::from_secs(60))),
        devices::unsynced("/dev/ublkb7", "a smaller size", Duration::from_secs(30)),
    ]);
    told
}

/// What becomes of commands that stop, delete and resize.
fn of_ends() -> Vec<String> {
    let refused = |errno| {
        let (command, device, why) = ("TRY_STOP_DEV", Some(7), None);
        delete::in_use(7, Error::Command { command, device, errno, why }).sentence()
    };
    let folder = Path::new("/nowhere/at/all");
    let anywhere = Record { file: None, ..record("file disk.img") };
    let device = |text| device::Device::named(device::Which::parse(text).expect("a device"));
    let half_a_minute = Duration::from_secs(30);
    let mut told = vec![
        delete::lost(7),
        refused(Errno::EBUSY),
        refused(Errno::ENODEV),
        refused(Errno::EOPNOTSUPP),
        refused(Errno::EPERM),
        delete::is_live(7, None).sentence(),
        delete::is_live(7, Some(4321)).sentence(),
        delete::left_alone(7),
        stop::requests_failed("/dev/ublkb7", stop::LATE).sentence(),
        stop::requests_failed("/dev/ublkb7", stop::NOT_DONE).sentence(),
        resize::no_room(7, 1 << 31).sentence(),
        resize::unanswered(half_a_minute).sentence(),
        resize::no_size("soon").sentence(),
        why(resize::grow_file(&anywhere, folder, 4096)),
        why(resize::grow_file(&anywhere, Path::new("/dev/null"), 4096)),
    ];
    for (text, gone) in [("7", false), ("/dev/disk/by-id/x", true), ("scratch", true)] {
        told.push(wait::late(&device(text), gone, 30).sentence());
    }
    told
}

/// What becomes of commands that replace a server.
fn of_upgrades() -> Vec<String> {
    let group = "0::/system.slice/ublkit@scratch.service";
    let unit = &supervise::told(7, b"SYSTEMD_EXEC_PID=7", group).unwrap();
    let late = Duration::from_secs(60);
    vec![
        upgrade::of_unit(7, unit, true),
        upgrade::of_unit(7, &supervise::Unit::default(), false),
        upgrade::unit_goes_on(7, unit),
        upgrade::leaves_unit(7, unit),
        upgrade::unserved(7),
        upgrade::ASKED_AGAIN.into(),
        upgrade::cannot_wait(7, false).sentence(),
        upgrade::cannot_wait(7, true).sentence(),
        upgrade::keeps_it(7, late).sentence(),
        upgrade::outlives_kill(7).sentence(),
        upgrade::not_signalled(Errno::EPERM).sentence(),
    ]
}

/// What keeps a process from its work.
fn of_processes() -> Vec<String> {
    let error = |number| std::io::Error::from_raw_os_error(number);
    let (again, missing) = (error(11), error(2));
    let killed = "signal: 9 (SIGKILL)";
    vec![
        signals::uncaught("catch", &error(24)).sentence(),
        signals::uncaught("wait for", &error(12)).sentence(),
        supervise::failed("start", error(11)).sentence(),
        supervise::failed("hear of", error(5)).sentence(),
        supervise::failed("wait for", error(10)).sentence(),
        supervise::wordless(supervise::UNDONE, killed).sentence(),
        supervise::wordless(supervise::NOT_LIVE, killed).sentence(),
        watch::unwatched(&again),
        super::state::nowhere("read /dev/urandom", &missing).sentence(),
        super::state::nowhere("tell the current folder", &missing).sentence(),
    ]
}

/// What a server cannot have, or says of itself.
fn of_servers() -> Vec<String> {
    let stuck = |tag, secs| Stuck { queue: 1, tag, time: Duration::from_secs(secs) };
    let (one, two, all) = (stuck(Some(3), 31), stuck(Some(4), 40), stuck(None, 30));
    let said = |all: &[Stuck], most: Option<u64>| {
        watch::sentence("/dev/ublkb7", all, most.map(Duration::from_secs))
    };
    let full = std::io::Error::from_raw_os_error(28);
    let whole = [trace::not_whole(3, Some(&full)), trace::not_whole(3, None)];
    let mut told = vec![
        supervise::unlocked(Errno::EPERM).sentence(),
        supervise::unlocked(Errno::ENOMEM).sentence(),
        supervise::unset(-1000, Errno::EACCES).sentence(),
        supervise::unset(0, Errno::ENOENT).sentence(),
        said(&[one], None),
        said(&[one, two], Some(50)),
        said(&[one, all], Some(50)),
        said(&[all], None),
        watch::given_up("/dev/ublkb7", 1),
        serve::ALWAYS_SCANS.into(),
        serve::left(7, "/dev/ublkb7", true, true),
        serve::left(7, "/dev/ublkb7", false, true),
        serve::left(7, "/dev/ublkb7", true, false),
        Failure::Told(exit::LATE.try_into().expect("a code")).sentence(),
    ];
    told.extend(whole.map(|sentence| sentence.expect("it lacks lines")));
    assert_eq!(trace::not_whole(0, None), None);
    told
}

#[test]
fn sentences_are_as_committed() {
    let part = |title: &str, told: Vec<String>| format!("# {title}\n{}\n", told.join("\n"));
    let found = [
        part("devices", of_devices()),
        part("ends", of_ends()),
        part("upgrades", of_upgrades()),
        part("servers", of_servers()),
        part("processes", of_processes()),
        part("kernels", abi::sentences()),
    ];
    let found = found.join("\n");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/sentences.txt");
    if std::env::var_os("UBLKIT_BLESS").is_some() {
        return std::fs::write(path, found).expect("the repository can be written");
    }
    let golden = std::fs::read_to_string(path).expect("the file is committed");
    assert!(golden == found, "sentences.txt differs; the program says:\n{found}");
}
