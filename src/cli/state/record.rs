//! [`Record`]: what is kept of one device.

use super::Process;
use crate::cli::exit::Failure;
use serde_json::{Value, json};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use ublkit::{DeviceInfo, ErrorKind};

/// The form of the record. What is added changes nothing; what changes its meaning is another.
const VERSION: u64 = 1;

/// What is kept of one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Record {
    /// The word by which the kernel knows the device.
    pub(in crate::cli) tag: u64,
    /// What its user calls it.
    pub(in crate::cli) name: Option<String>,
    /// Who serves it, or did last.
    pub(in crate::cli) server: Process,
    /// The words after `ublkit serve`,
    pub(in crate::cli) arguments: Vec<String>,
    /// and the folder in which they were said.
    pub(in crate::cli) folder: PathBuf,
    /// The file that holds the disk's contents, where one does.
    pub(in crate::cli) file: Option<FileName>,
    /// What the kernel granted, once it has,
    pub(in crate::cli) granted: Option<Granted>,
    /// and why data moves as it does then.
    pub(in crate::cli) path_reason: Option<String>,
}

/// A file that is known again, although its name may be another's later: its device and inode, or
/// the number of the disk that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) struct FileName {
    pub(in crate::cli) device: u64,
    pub(in crate::cli) inode: u64,
}

/// What the kernel granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Granted {
    pub(in crate::cli) id: u32,
    pub(in crate::cli) queues: u16,
    pub(in crate::cli) depth: u16,
    pub(in crate::cli) max_io_bytes: u32,
    pub(in crate::cli) features: u64,
}

impl FileName {
    /// That of a file or a disk at `path`, which was opened.
    pub(in crate::cli) fn of(path: &Path) -> Option<Self> {
        let found = std::fs::metadata(path).ok()?;
        let is_disk = found.file_type().is_block_device();
        let device = if is_disk { found.rdev() } else { found.dev() };
        Some(Self { device, inode: if is_disk { 0 } else { found.ino() } })
    }
}

impl Granted {
    /// What the driver says of a device, if it says which.
    pub(in crate::cli) fn of(info: &DeviceInfo) -> Option<Self> {
        let DeviceInfo { id, queues, depth, max_io_bytes, features, .. } = *info;
        Some(Self { id: id?, queues, depth, max_io_bytes, features: features.bits() })
    }
}

impl Record {
    /// As it is written.
    pub(in crate::cli) fn text(&self) -> String {
        let Self { tag, name, server, arguments, folder, file, granted, path_reason } = self;
        let granted = granted.map(|granted| {
            json!({
                "id": granted.id,
                "queues": granted.queues,
                "depth": granted.depth,
                "max_io_bytes": granted.max_io_bytes,
                "features": granted.features,
            })
        });
        let file = file.map(|file| json!({ "device": file.device, "inode": file.inode }));
        let record = json!({
            "version": VERSION,
            "tag": format!("{tag:016x}"),
            "name": name,
            "server": { "pid": server.pid, "began": server.began },
            "arguments": arguments,
            "folder": folder.to_string_lossy(),
            "file": file,
            "granted": granted,
            "data_path_reason": path_reason,
        });
        format!("{record:#}\n")
    }

    /// Whether the device's contents are in a file that is still the same; the error says that it
    /// is not.
    pub(in crate::cli) fn check_file(&self, found: Option<FileName>) -> Result<(), Failure> {
        if self.file.is_none() || self.file == found {
            return Ok(());
        }
        Err(Failure::Said(
            ErrorKind::Failed,
            "the file is another than the one that was served, and holds other data: put that one \
             back, or delete the device"
                .into(),
        ))
    }

    /// Reads what [`text`](Self::text) wrote; the error is half a sentence.
    pub(in crate::cli) fn parse(text: &str) -> Result<Self, String> {
        let all: Value = serde_json::from_str(text).map_err(|error| format!("{error}"))?;
        let version: u64 = number(&all["version"], "version")?;
        if version != VERSION {
            return Err(format!("it has version {version}, where this ublkit reads {VERSION}"));
        }
        let tag = all["tag"].as_str().and_then(|tag| u64::from_str_radix(tag, 16).ok());
        let words = |value: &Value| -> Option<Vec<String>> {
            value.as_array()?.iter().map(|word| Some(word.as_str()?.to_owned())).collect()
        };
        let file = |file: &Value| -> Result<FileName, String> {
            let device = number(&file["device"], "file's device")?;
            Ok(FileName { device, inode: number(&file["inode"], "file's inode")? })
        };
        let granted = |granted: &Value| -> Result<Granted, String> {
            Ok(Granted {
                id: number(&granted["id"], "id")?,
                queues: number(&granted["queues"], "queues")?,
                depth: number(&granted["depth"], "depth")?,
                max_io_bytes: number(&granted["max_io_bytes"], "max_io_bytes")?,
                features: number(&granted["features"], "features")?,
            })
        };
        let server = &all["server"];
        Ok(Self {
            tag: tag.ok_or("its tag is none")?,
            name: all["name"].as_str().map(str::to_owned),
            server: Process {
                pid: number(&server["pid"], "server's pid")?,
                began: number(&server["began"], "server's beginning")?,
            },
            arguments: words(&all["arguments"]).ok_or("its arguments are none")?,
            folder: all["folder"].as_str().ok_or("its folder is none")?.into(),
            file: optional(&all["file"], file)?,
            granted: optional(&all["granted"], granted)?,
            path_reason: all["data_path_reason"].as_str().map(str::to_owned),
        })
    }
}

fn number<N: TryFrom<u64>>(value: &Value, what: &str) -> Result<N, String> {
    let number = value.as_u64().and_then(|number| number.try_into().ok());
    number.ok_or_else(|| format!("its {what} is none"))
}

fn optional<T>(
    value: &Value,
    read: impl FnOnce(&Value) -> Result<T, String>,
) -> Result<Option<T>, String> {
    if value.is_null() { Ok(None) } else { read(value).map(Some) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(in crate::cli::state) fn whole() -> Record {
        Record {
            tag: 0x0123_4567_89ab_cdef,
            name: Some("scratch".into()),
            server: Process { pid: 7, began: 99 },
            arguments: ["file", "disk.img", "--recover", "reissue"].map(String::from).into(),
            folder: "/srv".into(),
            file: Some(FileName { device: 3, inode: 4 }),
            granted: Some(Granted {
                id: 2,
                queues: 4,
                depth: 128,
                max_io_bytes: 1 << 19,
                features: u64::MAX,
            }),
            path_reason: Some("as was asked for".into()),
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let whole = whole();
        assert_eq!(Record::parse(&whole.text()), Ok(whole.clone()));
        let first = Record { name: None, file: None, granted: None, path_reason: None, ..whole };
        assert_eq!(Record::parse(&first.text()), Ok(first));
    }

    #[test]
    fn what_is_no_record_is_refused_in_words() {
        let text = whole().text();
        for (right, wrong, why) in [
            ("\"version\": 1", "\"version\": 2", "version 2"),
            ("0123456789abcdef", "soon", "tag"),
            ("\"pid\": 7", "\"pid\": -7", "pid"),
            ("\"queues\": 4", "\"queues\": 65536", "queues"),
            ("\"inode\": 4", "\"inode\": \"4\"", "inode"),
            ("\"disk.img\"", "1", "arguments"),
        ] {
            assert!(text.contains(right), "{right} in {text}");
            let said = Record::parse(&text.replace(right, wrong)).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
        assert!(Record::parse(&text[..text.len() / 2]).is_err());
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "\\PC*") {
            let _ = Record::parse(&text);
        }
    }
}
