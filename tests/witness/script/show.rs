//! How steps are shown.

use super::sqe::Sqe;
use super::{Enter, Register, Step, Target, What, Wish};
use std::fmt;
use ublkit::Errno;
use ublkit::kernel::Access;

/// The name of an error, or its number.
pub fn errno(errno: Errno) -> String {
    errno.name().map_or_else(|| format!("errno {}", errno.number()), str::to_owned)
}

/// A result as system calls and CQEs have it.
pub fn result(number: i32) -> String {
    match Errno::from_result(number) {
        Ok(count) => count.to_string(),
        Err(_) if number < -4095 => number.to_string(),
        Err(error) => errno(error),
    }
}

fn sqes(sqes: &[Sqe]) -> String {
    let texts: Vec<&str> = sqes.iter().map(|sqe| sqe.text.as_str()).collect();
    texts.join("; ")
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ring { task, ring, entries, flags, cq_entries } => {
                write!(f, "t{task} makes r{ring}, {entries} entries, flags {flags:#x}")?;
                if *cq_entries != 0 { write!(f, ", {cq_entries} CQEs") } else { Ok(()) }
            }
            Self::CloseRing(ring) => write!(f, "r{ring} is closed"),
            Self::Open { task, file, device } => write!(f, "t{task} opens f{file} of d{device}"),
            Self::Close(file) => write!(f, "f{file} is closed"),
            Self::Map { task, map, place } => {
                let access = if place.access == Access::Read { "" } else { " to write" };
                write!(
                    f,
                    "t{task} maps m{map} of f{}: {} bytes at {}{access}",
                    place.file, place.len, place.offset
                )
            }
            Self::Unmap(map) => write!(f, "m{map} is unmapped"),
            Self::Send { task: None, ring, sqes: list } => write!(f, "r{ring}: {}", sqes(list)),
            Self::Send { task: Some(task), ring, sqes: list } => {
                write!(f, "t{task} on r{ring}: {}", sqes(list))
            }
            Self::Put { ring, sqe } => write!(f, "r{ring} queued: {}", sqe.text),
            Self::Enter { task, ring, call } => write!(f, "t{task} enters {ring}{call}"),
            Self::Blind { ring, submit } => write!(f, "r{ring} submits {submit}"),
            Self::Register { task, ring, what } => {
                write!(f, "t{task} registers {what} with r{ring}")
            }
            Self::Copy { task, file, write: Some(byte), position, len } => {
                write!(f, "t{task} writes {len} of {byte:02x} to f{file} at {position:#x}")
            }
            Self::Copy { task, file, write: None, position, len } => {
                write!(f, "t{task} reads {len} from f{file} at {position:#x}")
            }
            Self::Provide { ring, count, len } => {
                write!(f, "r{ring} is provided with {count} buffers of {len} bytes")
            }
            Self::Event { task, file } => write!(f, "t{task} makes the event f{file}"),
            Self::Fill { buffer, byte } => write!(f, "b{buffer} is filled with {byte:02x}"),
            Self::Look { buffer, len } => write!(f, "b{buffer} begins with {len} bytes"),
            Self::Client { client, device, wish } => write!(f, "c{client} of d{device}: {wish}"),
            Self::EndTask(task) => write!(f, "t{task} ends"),
            Self::Pause(ms) => write!(f, "{ms} ms pass"),
            Self::Try(sqe) => write!(f, "{}", sqe.text),
            Self::Together(name, _) => write!(f, "{name}"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ring(ring) => write!(f, "r{ring}"),
            Self::File(file) => write!(f, "f{file}"),
            Self::Registered(index) => write!(f, "registered ring {index}"),
        }
    }
}

impl fmt::Display for Enter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { submit, want, flags, timeout_ms } = self;
        write!(f, ": submit {submit}, want {want}, flags {flags:#x}")?;
        if let Some(ms) = timeout_ms { write!(f, ", {ms} ms") } else { Ok(()) }
    }
}

impl fmt::Display for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files(files) => write!(f, "files {files:?}"),
            Self::RingFd => write!(f, "the ring"),
            Self::UnregisterRingFd(index) => write!(f, "(the reverse) ring {index}"),
            Self::Buffers(count) => write!(f, "{count} buffers"),
            Self::Workers(count) => write!(f, "{count} workers"),
            Self::Group(entries) => write!(f, "{entries} provided buffers"),
            Self::Personality => write!(f, "its personality"),
        }
    }
}

impl fmt::Display for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, queue, sector, sectors, byte } = self;
        match what {
            What::Hold => write!(f, "holds it open")?,
            What::Flush => write!(f, "flush")?,
            What::Write => write!(f, "write {sector}+{sectors} of {byte:02x}")?,
            other => write!(f, "{} {sector}+{sectors}", format!("{other:?}").to_lowercase())?,
        }
        if *queue != 0 { write!(f, " on queue {queue}") } else { Ok(()) }
    }
}
