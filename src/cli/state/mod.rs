//! Records of devices: what a server was told, so that another can take its place.
//!
//! A device is known by a tag, a random word that the kernel keeps for it (`ublksrv_flags`). Its
//! record is found by what the kernel says, never by the device's number, which may be another's by
//! now; and it is written before the device is made, so that there is none without.

mod directory;
mod kept;
mod names;
mod process;
mod record;

pub(super) use directory::Directory;
#[cfg(test)]
pub(super) use kept::nowhere;
pub(super) use kept::{Kept, REFUSED, new_record};
pub(super) use names::name;
pub(super) use process::Process;
pub(super) use record::{FileName, Granted, Record};

use super::devices;
use super::exit::Failure;
use names::Names;
use std::path::PathBuf;
use ublkit::DeviceInfo;

/// Where the directory of records is, if there is a place for it.
pub(super) fn place() -> Option<PathBuf> {
    std::path::absolute(Directory::place().ok()?).ok()
}

/// What keeps this user's records from being kept, or from being believed.
pub(super) fn troubles() -> Vec<String> {
    match Directory::place() {
        Ok(place) => Directory::troubles_at(&place),
        Err(failure) => vec![failure.sentence()],
    }
}

/// The record of a device that the kernel told of, if there is one.
pub(super) fn of(info: &DeviceInfo) -> Result<Option<Record>, Failure> {
    match Directory::find()? {
        Some(directory) => directory.read(info.server_word),
        None => Ok(None),
    }
}

/// The word of the device with that name, as its record says.
pub(super) fn tag_of(name: &str) -> Result<Option<u64>, Failure> {
    let Some(directory) = Directory::find()? else { return Ok(None) };
    Ok(directory.named(name, None).map(|record| record.tag))
}

/// A device is gone, and so is its record, if there is one.
pub(super) fn gone(info: &DeviceInfo) {
    if let (Ok(Some(directory)), Ok(Some(record))) = (Directory::find(), of(info)) {
        forget(&directory, &record);
    }
}

/// For fuzzing: reads a record, and what the kernel says of a process.
#[cfg(all(any(test, fuzzing), feature = "sim"))]
pub(super) fn exercise(text: &str) -> Result<Record, String> {
    process::exercise(text);
    let record = Record::parse(text)?;
    assert_eq!(Record::parse(&record.text()).as_ref(), Ok(&record), "it is written as it is read");
    Ok(record)
}

/// The disk of a device.
fn disk_path(id: u32) -> String {
    format!("/dev/ublkb{id}")
}

fn forget(directory: &Directory, record: &Record) {
    // First what needs the record to be found.
    if let (Some(name), Some(granted)) = (&record.name, &record.granted)
        // Another device may have the name by now, and even the number.
        && directory.named(name, Some(record.tag)).is_none_or(|other| other.granted.is_none())
        && let Ok(names) = Names::open(directory)
    {
        names.remove(name, &disk_path(granted.id));
    }
    directory.remove_socket(record.tag); // of a server that was killed
    let _ = directory.leave_word(record.tag, None);
    directory.remove(record.tag);
}

/// Forgets the records of devices that the kernel does not have any more. One whose server lives is
/// kept: it may be about to make its device.
fn forget_gone(directory: &Directory) {
    let Ok(mut control) = devices::control() else { return };
    let infos = devices::ids().into_iter().filter_map(|id| devices::info(&mut control, id).ok());
    let known: Vec<u64> = infos.map(|info| info.server_word).collect();
    for tag in directory.tags().into_iter().filter(|tag| !known.contains(tag)) {
        if let Ok(Some(record)) = directory.read(tag)
            && !record.server.is_alive()
        {
            forget(directory, &record);
        }
    }
    directory.remove_dead_sockets();
}
