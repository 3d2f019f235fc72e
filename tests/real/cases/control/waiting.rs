//! Commands that wait: they are given up in time, and are still cared for.

use super::{Context, LIMIT, NOTHING, SHORT, added, open, open_char_device, refused, sound};
use crate::tools;
use std::fmt::Debug;
use std::time::Duration;
use ublkit::{Errno, Error, Features};

#[track_caller]
fn late<T: Debug>(answer: Result<T, Error>) {
    assert!(matches!(answer, Err(Error::Timeout { .. })), "{answer:?}, where it should wait");
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
pub fn unserved_start(context: Context) {
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
