//! [`Kept`]: the record of the device that this process serves, from before it is made until it is
//! gone.

use super::names::Names;
use super::{Directory, Granted, Process, Record, disk_path};
use crate::cli::exit::{Failure, say};
use std::io::Read;
use ublkit::{DeviceInfo, ErrorKind, MadeFile, PathReason};

/// How an answer begins that says why not.
pub(in crate::cli) const REFUSED: &str = "refused: ";

/// The record of the device that this process serves.
#[derive(Debug)]
pub(in crate::cli) struct Kept {
    /// None where records cannot be kept, and need not be.
    directory: Option<Directory>,
    record: Record,
    /// A file that was made for it, and that goes if the device does not come.
    made: Option<MadeFile>,
}

impl Kept {
    /// Keeps the record of a device that is about to be made. Where `must` says so, one that cannot
    /// be kept is an error, else the device is served without.
    pub(in crate::cli) fn begin(
        record: Record,
        made: Option<MadeFile>,
        must: bool,
    ) -> Result<Self, Failure> {
        let directory = match Directory::open() {
            Ok(directory) => directory,
            Err(failure) if must => return Err(failure),
            Err(_) => return Ok(Self { directory: None, record, made }),
        };
        super::forget_gone(&directory);
        let written = directory.write(&record);
        if must {
            written?;
        }
        let kept = Self { directory: Some(directory), record, made };
        // Written first, so that of two at one time at the most one keeps the name.
        if let Some(why) = kept.rival() {
            kept.forget();
            return Err(Failure::Said(ErrorKind::Busy, why));
        }
        Ok(kept)
    }

    /// Keeps the record of a device that is to be served again, by this process.
    pub(in crate::cli) fn again(record: Record, made: Option<MadeFile>) -> Result<Self, Failure> {
        let directory = Some(Directory::open()?);
        let record = Record { server: Process::own(), ..record };
        Ok(Self { directory, record, made })
    }

    /// Another device that has the name.
    fn rival(&self) -> Option<String> {
        let (directory, name) = (self.directory.as_ref()?, self.record.name.as_ref()?);
        let rival = directory.named(name, Some(self.record.tag))?;
        let device = rival.granted.map(|granted| format!("ublk device {}", granted.id));
        let device = device.unwrap_or_else(|| "a device that is being made".into());
        Some(format!("the name '{name}' is taken by {device}: choose another"))
    }

    /// The word by which the device shall be known.
    pub(in crate::cli) fn tag(&self) -> u64 {
        self.record.tag
    }

    /// The device is live: what was granted is noted, and the name leads to its disk.
    pub(in crate::cli) fn is_live(&mut self, info: &DeviceInfo, reason: PathReason) {
        if let Some(made) = self.made.take() {
            made.keep();
        }
        let Some(directory) = &self.directory else { return };
        self.record.granted = Granted::of(info);
        if reason != PathReason::Made {
            self.record.path_reason = Some(reason.to_string()); // later servers keep it
        }
        let named = self.record.name.as_ref().zip(info.id);
        let noted = directory.write(&self.record).and_then(|()| match named {
            Some((name, id)) => Names::open(directory)?.point(name, &disk_path(id)),
            None => Ok(()),
        });
        if let Err(Failure::Said(_, sentence)) = noted {
            say(&sentence); // it is served all the same
        }
    }

    /// Answers the word that was left for this server by what comes of it: nothing, or why not.
    pub(in crate::cli) fn answer(&self, work: impl FnOnce(&str) -> Result<(), Failure>) {
        let Some(directory) = &self.directory else { return };
        let Some(word) = directory.word(self.record.tag) else { return };
        let why = work(&word).err();
        let answer = why.map(|why| format!("{REFUSED}{}", why.sentence()));
        let _ = directory.leave_word(self.record.tag, answer.as_deref());
    }

    /// The device is gone.
    pub(in crate::cli) fn forget(self) {
        let Some(directory) = &self.directory else { return };
        super::forget(directory, &self.record);
    }
}

/// Why there can be no record.
pub(in crate::cli) fn nowhere(what: &str, error: &std::io::Error) -> Failure {
    let remedy = "is it there, and may it be read?";
    Failure::Said(ErrorKind::Failed, format!("cannot {what}: {error}; {remedy}"))
}

/// A record of a device that this process will serve, with a tag of its own.
pub(in crate::cli) fn new_record(name: Option<String>) -> Result<Record, Failure> {
    let mut tag = [0; 8];
    let random = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut tag));
    random.map_err(|error| nowhere("read /dev/urandom", &error))?;
    let folder =
        std::env::current_dir().map_err(|error| nowhere("tell the current folder", &error))?;
    Ok(Record {
        tag: u64::from_ne_bytes(tag),
        name,
        server: Process::own(),
        arguments: Vec::new(),
        folder,
        file: None,
        granted: None,
        path_reason: None,
    })
}
