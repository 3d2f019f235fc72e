//! `resize`: a disk changes its size while it is used. To become larger: first what holds it, then
//! its server, then the kernel's idea of it. To become smaller, the last alone: requests that are
//! under way beyond the new end are still served, and what was there stays where it is.

use super::device::Device;
use super::exit::Failure;
use super::recover::{ask, not_ours, refused, said, size_bytes};
use super::signals::GROW;
use super::state::{self, Directory, FileName, Kept, REFUSED, Record};
use super::supervise::Apart;
use super::upgrade::Old;
use super::{BackendName, devices, number};
use clap::Args;
use core::time::Duration;
use rustix::process::Signal;
use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom};
use std::path::Path;
use std::time::Instant;
use ublkit::{DeviceInfo, ErrorKind, Features, Kernel, Server};

/// Between two looks whether the server has answered.
const PAUSE: Duration = Duration::from_millis(5);

#[derive(Args, Debug)]
pub(super) struct Resize {
    #[command(flatten)]
    device: Device,
    /// The new size in bytes, or with K, M, G, T or P for powers of 1024
    #[arg(value_parser = number::size)]
    size: u64,
    /// Let the disk become smaller: what is on it must end before its new end
    ///
    /// File systems, partitions and swap on it are not asked. What is beyond the new end is out of
    /// reach, and a file keeps its length, so that the old size brings it back. Requests that are
    /// under way there are still served, but not by a next server.
    #[arg(long)]
    shrink: bool,
    /// Seconds to wait for the server and for the kernel at the most, each
    #[arg(long, value_name = "SECONDS", value_parser = number::count, default_value = "30")]
    timeout: u16,
    #[command(flatten)]
    pub(super) apart: Apart,
}

/// Gives a disk another size.
pub(super) fn run(resize: &Resize) -> Result<(), Failure> {
    let Resize { ref device, size, shrink, timeout, .. } = *resize;
    let id = device.id()?;
    let timeout = Duration::from_secs(timeout.into());
    let info = ask(id)?;
    let offered = devices::control()?.features()?.unwrap_or_default();
    if !offered.contains(Features::UPDATE_SIZE) {
        let sentence = "this kernel cannot resize a disk (6.16 can): serve it anew".into();
        return Err(Failure::Said(ErrorKind::Unsupported, sentence));
    }
    // Of two that resize at one time the second sees what the first has done.
    let directory = Directory::find()?;
    let _alone = directory.as_ref().map(|directory| directory.lock(timeout)).transpose()?;
    let (before, block_bytes) = size_bytes(&info, timeout)?;
    if !size.is_multiple_of(block_bytes) {
        return Err(refused(format!(
            "a size of {size} bytes is no multiple of the block size of {block_bytes}: \
             choose one that is"
        )));
    }
    let Some(pid) = devices::server(&info) else {
        let sentence = format!("nobody serves ublk device {id}: 'ublkit show {id}' tells more");
        return Err(Failure::Said(ErrorKind::Failed, sentence));
    };
    if size == 0 {
        return Err(refused("a disk has a block at least: give a larger size".into()));
    }
    if size < before && !shrink {
        return Err(refused(format!(
            "ublk device {id} has {before} bytes, and would lose those beyond {size}: make what is \
             on it smaller first, then say --shrink"
        )));
    }
    if size > before {
        enlarge(id, &info, pid, size, timeout)?;
    } else if size < before {
        devices::sync(id, "a smaller size", timeout)?;
    }
    let mut control = devices::control()?;
    Ok(devices::commands(&mut control, id, &info).within(timeout).update_size(size)?)
}

/// Has what holds a disk, and its server, take it for larger.
fn enlarge(
    id: u32,
    info: &DeviceInfo,
    pid: u32,
    size: u64,
    timeout: Duration,
) -> Result<(), Failure> {
    let (Some(directory), Some(record)) = (Directory::find()?, state::of(info)?) else {
        return Err(not_ours(id, pid));
    };
    let serve = said(id, &record)?;
    let server = Old::find(pid, &record).ok_or_else(|| not_ours(id, pid))?;
    match (serve.backend, &serve.path) {
        (BackendName::File, Some(path)) => grow_file(&record, path, size)?,
        (BackendName::Memory, _) if size > serve.room.or(serve.size).unwrap_or(0) => {
            return Err(no_room(id, size));
        }
        _ => {}
    }
    directory.leave_word(record.tag, Some(&size.to_string()))?;
    server.signal(Signal::from_named_raw(GROW).unwrap_or(Signal::USR2))?;
    let answer = answer(&directory, record.tag, timeout);
    directory.leave_word(record.tag, None)?;
    answer
}

/// Memory of a disk is taken once.
pub(super) fn no_room(id: u32, size: u64) -> Failure {
    refused(format!(
        "ublk device {id} is in memory, and was given no room for {size} bytes: \
         'ublkit serve memory --room' gives it"
    ))
}

/// The server does not do as it was asked.
pub(super) fn unanswered(timeout: Duration) -> Failure {
    let sentence = format!(
        "the server did not answer within {} s: 'ublkit show' tells what it does",
        timeout.as_secs()
    );
    Failure::Said(ErrorKind::Timeout, sentence)
}

/// Waits until the server has done as it was asked.
fn answer(directory: &Directory, tag: u64, timeout: Duration) -> Result<(), Failure> {
    let begun = Instant::now();
    while let Some(word) = directory.word(tag) {
        if let Some(why) = word.strip_prefix(REFUSED) {
            return Err(Failure::Said(ErrorKind::Failed, why.into()));
        }
        if begun.elapsed() > timeout {
            return Err(unanswered(timeout));
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// Makes the file larger that holds the disk; another disk must be.
pub(super) fn grow_file(record: &Record, path: &Path, size: u64) -> Result<(), Failure> {
    record.check_file(FileName::of(path))?;
    let failed = |error: std::io::Error| {
        let sentence = format!(
            "cannot make {} larger: {error}; make it so large yourself, and try again",
            path.display()
        );
        Failure::Said(ErrorKind::Failed, sentence)
    };
    let mut file = OpenOptions::new().read(true).write(true).open(path).map_err(failed)?;
    let now = file.seek(SeekFrom::End(0)).map_err(failed)?;
    if now >= size {
        return Ok(());
    }
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(refused(format!(
            "{} has {now} bytes, not {size}: make it so large first (lvextend, say)",
            path.display()
        )));
    }
    file.set_len(size).map_err(failed)
}

/// The server's part: requests are served up to the size that was asked for.
pub(super) fn grow<K: Kernel>(server: &Server<K>, kept: &Kept) {
    kept.answer(|word| {
        let size = word.trim().parse().map_err(|_| no_size(word))?;
        Ok(server.grow(size)?)
    });
}

/// Another version may leave other words.
pub(super) fn no_size(word: &str) -> Failure {
    refused(format!("'{word}' is no size: resize it with the ublkit that serves it"))
}
