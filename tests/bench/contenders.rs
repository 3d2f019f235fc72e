//! Who is measured, as data: each new mode or contender is a line.

use crate::totals::CONTROL;
use ublkit::DataPath;

/// How much of all disks is used, in MiB; most are that large.
pub const MIB: u32 = 32;

/// A way that requests and their data take between a client and a backend.
#[derive(Debug)]
pub struct Mode {
    pub name: &'static str,
    pub path: DataPath,
    pub batches: bool,
}

/// Those that user instructions are counted in.
pub const MODES: &[Mode] = &[
    Mode { name: "copy", path: DataPath::Copy, batches: false },
    Mode { name: "batches", path: DataPath::Copy, batches: true },
];

/// What a disk keeps. Those of one kind are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Null,
    Memory,
    File,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Null, Self::Memory, Self::File];

    pub fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Memory => "memory",
            Self::File => "file",
        }
    }
}

/// How a disk is started.
#[derive(Clone, Debug)]
pub enum Start {
    /// A ublk server by its command, in which `{queues}`, `{file}`, `{mib}`, `{rivals}` and
    /// `{bench}`, this program, stand for what they say. It may go to the background.
    Server(String),
    /// null_blk, with nothing behind it.
    NullBlk,
    /// The kernel's own memory disk.
    Brd,
    /// loop over a file; of those that keep memory, over one in memory, on a tmpfs.
    Loop { direct: bool },
}

/// Which tables something is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Those of ublkit beside others.
    Beside,
    /// Those of ublkit in every mode.
    Modes,
    Both,
}

impl Field {
    /// Whether two have a table in common.
    pub fn meets(self, other: Self) -> bool {
        self == other || self == Self::Both || other == Self::Both
    }
}

/// The modes in which ublkit stands beside others: the first of each kind is the one that it takes
/// by itself, with which others are compared.
const BESIDE: &[(Kind, DataPath, bool)] = &[
    (Kind::Null, DataPath::Copy, false),
    (Kind::Null, DataPath::Copy, true),
    (Kind::Memory, DataPath::GetData, false),
    (Kind::Memory, DataPath::Copy, false),
    (Kind::Memory, DataPath::UserCopy, false),
    (Kind::Memory, DataPath::Copy, true),
    (Kind::File, DataPath::ZeroCopy, false),
    (Kind::File, DataPath::Copy, false),
    (Kind::File, DataPath::UserCopy, false),
    (Kind::File, DataPath::ZeroCopy, true),
];

/// How much a disk with planted work does for nothing at each request: some hundred instructions.
const PLANTED: u32 = 150;

/// Somebody who serves a disk.
#[derive(Clone, Debug)]
pub struct Contender {
    pub name: String,
    pub kind: Kind,
    pub field: Field,
    pub start: Start,
    /// More queues than these it cannot have.
    pub queues: u16,
}

impl Contender {
    fn new(name: &str, kind: Kind, start: Start) -> Self {
        Self { name: name.into(), kind, field: Field::Beside, start, queues: u16::MAX }
    }

    /// A server by its command.
    fn server(name: &str, kind: Kind, command: &str) -> Self {
        Self::new(name, kind, Start::Server(command.into()))
    }

    /// One that the command line names: `KIND:NAME=COMMAND`.
    pub fn parse(word: &str) -> Option<Self> {
        let (kind, rest) = word.split_once(':')?;
        let (name, command) = rest.split_once('=')?;
        let kind = Kind::ALL.into_iter().find(|known| known.name() == kind)?;
        Some(Self::server(name, kind, command))
    }

    /// ublkit in one of its modes.
    fn ours(kind: Kind, mode: &str, options: &str) -> Self {
        let disk = match kind {
            Kind::File => "file {file}".into(),
            Kind::Null | Kind::Memory => format!("{} --size {{mib}}M", kind.name()),
        };
        let ublkit = env!("CARGO_BIN_EXE_ublkit");
        let command = format!("{ublkit} serve {disk} --queues {{queues}} {options}");
        Self::server(&format!("ublkit {mode}"), kind, &command)
    }

    /// ublkit's mode of a data path.
    fn mode(kind: Kind, path: DataPath, batches: bool, field: Field) -> Self {
        let name = match (path, batches) {
            (_, false) => path.to_string(),
            (DataPath::Copy, true) => "batches".into(),
            (_, true) => format!("batches of {path}"),
        };
        let yes = if batches { "yes" } else { "no" };
        if kind == Kind::Null && path.is_zero_copy() {
            // `serve null` has its data in memory: a disk of the bench's own has it in a file that
            // is nowhere.
            let command = format!("{{bench}} null {path} {yes} 0 {{queues}}");
            return Self {
                field,
                ..Self::server(&format!("ublkit {name}, by operations"), kind, &command)
            };
        }
        Self { field, ..Self::ours(kind, &name, &format!("--data {path} --batches {yes}")) }
    }

    /// All modes of ublkit: first those that stand beside others.
    fn modes() -> Vec<Self> {
        let beside = BESIDE.iter();
        let mut all: Vec<Self> = beside
            .map(|&(kind, path, batches)| Self::mode(kind, path, batches, Field::Both))
            .collect();
        for kind in Kind::ALL {
            for &path in DataPath::ALL {
                for batches in [false, true] {
                    // Memory is copied, and batches have no command for each request's data.
                    let can = (kind != Kind::Memory || !path.is_zero_copy())
                        && (!batches || path != DataPath::GetData);
                    if can && !BESIDE.contains(&(kind, path, batches)) {
                        all.push(Self::mode(kind, path, batches, Field::Modes));
                    }
                }
            }
        }
        all
    }

    /// Two disks of the bench's own: one is honest, the other does something for nothing. That has
    /// to be seen of them, or nothing is seen of others.
    pub fn controls() -> [Self; 2] {
        let command = |work: u32| format!("{{bench}} null copy no {work} {{queues}}");
        let [honest, planted] = CONTROL;
        [(honest, 0), (planted, PLANTED)]
            .map(|(name, work)| Self::server(name, Kind::Null, &command(work)))
    }

    /// All that come with the bench.
    pub fn all() -> Vec<Self> {
        use Kind::{File, Memory, Null};
        let direct = |path: DataPath| {
            let options = format!("--data {path} --batches no --direct");
            Self::ours(File, &format!("{path}, direct"), &options)
        };
        let mut all = Self::modes();
        let kublk = "{rivals}/bin/kublk add --foreground -q {queues} -d 128";
        let rublk = "{rivals}/bin/rublk add";
        let ours = " --foreground -q {queues} -d 128";
        all.extend([
            Self::ours(Null, "copy, no meter", "--no-meter"),
            // As the other servers open the file.
            direct(DataPath::ZeroCopy),
            direct(DataPath::Copy),
            Self::new("null_blk", Null, Start::NullBlk),
            Self::server("kublk", Null, &format!("{kublk} -t null")),
            Self::server("kublk batch", Null, &format!("{kublk} -t null -b")),
            Self::server("kublk auto_zc", Null, &format!("{kublk} -t null --auto_zc")),
            Self::server("rublk", Null, &format!("{rublk} null{ours}")),
            Self::server("libublk", Null, &format!("{{rivals}}/bin/libublk-null add{ours}")),
            Self::new("brd", Memory, Start::Brd),
            Self::new("loop over tmpfs", Memory, Start::Loop { direct: false }),
            Self {
                queues: 1,
                ..Self::server("libublk", Memory, "{rivals}/bin/libublk-ramdisk add -1 {mib}")
            },
            Self::new("loop", File, Start::Loop { direct: false }),
            Self::new("loop direct", File, Start::Loop { direct: true }),
            Self::server("kublk", File, &format!("{kublk} -t loop {{file}}")),
            Self::server("kublk auto_zc", File, &format!("{kublk} -t loop --auto_zc {{file}}")),
            Self::server("rublk", File, &format!("{rublk} loop{ours} -f {{file}}")),
            Self::server("rublk zero copy", File, &format!("{rublk} loop{ours} -z -f {{file}}")),
        ]);
        all
    }
}
