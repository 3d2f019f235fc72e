//! Devices that outlive their servers. The library's queues do not serve them yet.

use super::{
    Context, LIMIT, NOBODY, NOTHING, SHORT, added, knows_opener, open, raw, refused, served, sound,
};
use crate::{disk, tools};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::thread::JoinHandle;
use ublkit::sys::ublk as sys;
use ublkit::{Control, DeviceState, Errno, Features, Linux};

pub fn quiesce(context: Context) {
    let mut control = open();
    let server = served(NOTHING);
    refused(control.device(server.id()).quiesce(SHORT), Errno::EOPNOTSUPP);
    server.stop().unwrap();
    let id = added(&mut control, Features::QUIESCE | Features::USER_RECOVERY);
    refused(control.device(id).quiesce(SHORT), Errno::ENODEV); // no disk
    let server = started(&mut control, id, None);
    control.device(id).quiesce(SHORT).unwrap();
    server.join().unwrap(); // the driver took all of its slots
    recovered(&mut control, id, context);
}

pub fn recovery(context: Context) {
    let mut control = open();
    let own_pid = std::process::id();
    refused(control.device(NOBODY).start_recovery(), Errno::ENODEV);
    refused(control.device(NOBODY).end_recovery(own_pid), Errno::ENODEV);
    let server = served(NOTHING);
    refused(control.device(server.id()).start_recovery(), Errno::EINVAL);
    refused(control.device(server.id()).end_recovery(own_pid), Errno::EINVAL);
    server.stop().unwrap();
    let id = added(&mut control, Features::USER_RECOVERY);
    // The old driver resets queues here, and finds none.
    let never_served = if is_old(context) { Errno::EINVAL } else { Errno::EBUSY };
    refused(control.device(id).start_recovery(), never_served);

    let server = started(&mut control, id, Some(FATAL_SECTOR));
    refused(control.device(id).start_recovery(), Errno::EBUSY);
    refused(control.device(id).end_recovery(own_pid), Errno::EBUSY);
    let client = disk::open(&block_path(id), 0);
    let lost = disk::read(&client, FATAL_SECTOR * sys::SECTOR_BYTES, 4096);
    assert!(lost.is_err(), "the request that the server had is not answered by another");
    server.join().unwrap();
    drop(client);
    recovered(&mut control, id, context);
}

/// A driver before 6.15.
fn is_old(context: Context) -> bool {
    !context.features.contains(Features::SUPPORT_ZERO_COPY)
}

/// A request for it ends the hand-made server as a crash would.
const FATAL_SECTOR: u64 = 1024;

fn block_path(id: u32) -> String {
    format!("/dev/ublkb{id}")
}

/// Starts an added device, served by hand.
fn started(control: &mut Control<Linux>, id: u32, fatal: Option<u64>) -> JoinHandle<u64> {
    control.device(id).set_params(&sound()).unwrap();
    let server = raw::serve(id, fatal);
    control.device(id).start(std::process::id()).unwrap();
    assert_eq!(control.device(id).info().unwrap().state, DeviceState::Live);
    server
}

/// A device whose server is gone gets a new one, and is the same disk again until it is deleted.
fn recovered(control: &mut Control<Linux>, id: u32, context: Context) {
    let ready = |control: &mut Control<Linux>| control.device(id).start_recovery();
    tools::eventually("the old server is gone", LIMIT, || ready(control).is_ok());
    assert_eq!(control.device(id).info().unwrap().state, DeviceState::Quiesced);
    let server = raw::serve(id, None);
    if knows_opener(context) {
        refused(control.device(id).end_recovery(1), Errno::EINVAL);
    }
    control.device(id).end_recovery(std::process::id()).unwrap();
    assert_eq!(control.device(id).info().unwrap().state, DeviceState::Live);
    refused(control.device(id).end_recovery(std::process::id()), Errno::EBUSY);
    let client = disk::open(&block_path(id), 0);
    assert_eq!(disk::read(&client, FATAL_SECTOR * sys::SECTOR_BYTES, 4096).unwrap(), [0; 4096]);
    drop(client);
    control.device(id).stop().unwrap();
    server.join().unwrap();
    control.device(id).delete().unwrap();
}

/// STOP_DEV writes dirty pages, but not those of a disk whose requests would wait for a new server.
pub fn dirty_pages(context: Context) {
    const DIRTY_BYTES: u64 = 256 << 10;
    let recovers = Features::USER_RECOVERY;
    for (features, kept_bytes) in [
        (NOTHING, DIRTY_BYTES),
        (recovers, 0),
        (recovers | Features::USER_RECOVERY_REISSUE, 0),
        (recovers | Features::USER_RECOVERY_FAIL_IO, DIRTY_BYTES),
    ] {
        if !context.features.contains(features) {
            continue;
        }
        let mut control = open();
        let id = added(&mut control, features);
        let server = started(&mut control, id, None);
        let client = File::options().write(true).open(block_path(id)).unwrap();
        client.write_all_at(&vec![7; 256 << 10], 0).unwrap();
        control.device(id).stop().unwrap();
        drop(client);
        assert_eq!(server.join().unwrap(), kept_bytes, "{features}");
        control.device(id).delete().unwrap();
    }
}
