//! What is measured, as data: each new mode, contender or cell is a line.

use crate::fio::Seen;
use serde_json::{Value, json};
use ublkit::DataPath;

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
    /// A ublk server by its command, in which `{queues}`, `{file}`, `{mib}` and `{rivals}` stand
    /// for what they say. It may go to the background.
    Server(String),
    /// null_blk, with nothing behind it.
    NullBlk,
    /// The kernel's own memory disk.
    Brd,
    /// loop over a file.
    Loop { direct: bool },
}

/// Somebody who serves a disk.
#[derive(Clone, Debug)]
pub struct Contender {
    pub name: String,
    pub kind: Kind,
    pub start: Start,
    /// More queues than these it cannot have.
    pub queues: u16,
}

impl Contender {
    fn new(name: &str, kind: Kind, start: Start) -> Self {
        Self { name: name.into(), kind, start, queues: u16::MAX }
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

    /// All that come with the bench. ublkit in the first mode of each kind is what others are
    /// compared with: the one that it takes by itself.
    pub fn all() -> Vec<Self> {
        use Kind::{File, Memory, Null};
        let path = |kind, path: DataPath| {
            Self::ours(kind, &path.to_string(), &format!("--data {path} --batches no"))
        };
        let direct = |path: DataPath| {
            let options = format!("--data {path} --batches no --direct");
            Self::ours(File, &format!("{path}, direct"), &options)
        };
        let in_batches = |kind, path: DataPath| {
            let options = format!("--data {path} --batches yes");
            match path {
                DataPath::Copy => Self::ours(kind, "batches", &options),
                _ => Self::ours(kind, &format!("batches of {path}"), &options),
            }
        };
        let mut all = vec![
            path(Null, DataPath::Copy),
            in_batches(Null, DataPath::Copy),
            path(Memory, DataPath::GetData),
            path(Memory, DataPath::Copy),
            path(Memory, DataPath::UserCopy),
            in_batches(Memory, DataPath::Copy),
            path(File, DataPath::ZeroCopy),
            path(File, DataPath::Copy),
            path(File, DataPath::UserCopy),
            in_batches(File, DataPath::ZeroCopy),
        ];
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

/// What clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// As fio says it: `randread`, `randwrite`, `randrw`.
    pub operation: &'static str,
    pub bytes: u32,
    /// Requests under way, for each queue.
    pub depth: u16,
}

impl Cell {
    pub fn name(self) -> String {
        let Self { operation, bytes, depth } = self;
        let operation = match operation {
            "randread" => "read",
            "randwrite" => "write",
            _ => "mixed",
        };
        let size = match bytes {
            0..1024 => format!("{bytes} B"),
            1024..1_048_576 => format!("{} KiB", bytes >> 10),
            _ => format!("{} MiB", bytes >> 20),
        };
        format!("{size} {operation} QD{depth}")
    }
}

/// Cells of one kind of disk, with so many queues.
#[derive(Clone, Debug)]
pub struct Group {
    pub kind: Kind,
    pub queues: u16,
    pub cells: Vec<Cell>,
}

impl Group {
    pub fn name(&self) -> String {
        let s = if self.queues == 1 { "" } else { "s" };
        format!("{}, {} queue{s}", self.kind.name(), self.queues)
    }
}

fn cell(operation: &'static str, bytes: u32, depth: u16) -> Cell {
    Cell { operation, bytes, depth }
}

/// What is measured for every change.
pub fn usual() -> Vec<Group> {
    let (read, write, mixed) = ("randread", "randwrite", "randrw");
    let of = |kind, queues, cells: &[Cell]| Group { kind, queues, cells: cells.to_vec() };
    let null = [
        cell(read, 4096, 1),
        cell(read, 4096, 8),
        cell(read, 4096, 32),
        cell(read, 4096, 128),
        cell(read, 512, 32),
        cell(write, 4096, 32),
        cell(mixed, 4096, 32),
        cell(read, 128 << 10, 8),
        cell(read, 1 << 20, 2),
    ];
    let memory = [
        cell(read, 4096, 1),
        cell(read, 4096, 32),
        cell(write, 4096, 32),
        cell(mixed, 4096, 32),
        cell(read, 128 << 10, 8),
        cell(write, 1 << 20, 2),
    ];
    let file = [
        cell(read, 4096, 1),
        cell(read, 4096, 32),
        cell(write, 4096, 32),
        cell(read, 128 << 10, 8),
    ];
    vec![
        of(Kind::Null, 1, &null),
        of(Kind::Null, 4, &[cell(read, 4096, 1), cell(read, 4096, 32)]),
        of(Kind::Memory, 1, &memory),
        of(Kind::Memory, 4, &[cell(read, 4096, 32)]),
        of(Kind::File, 1, &file),
    ]
}

/// The full grid: many hours.
pub fn full() -> Vec<Group> {
    let mut groups = Vec::new();
    for kind in Kind::ALL {
        for queues in [1, 2, 4] {
            let mut cells = Vec::new();
            for operation in ["randread", "randwrite", "randrw"] {
                for bytes in [512, 4096, 16 << 10, 64 << 10, 256 << 10, 1 << 20] {
                    cells.extend((0..8).map(|power| cell(operation, bytes, 1 << power)));
                }
            }
            groups.push(Group { kind, queues, cells });
        }
    }
    groups
}

/// What instructions are counted for.
pub fn counted() -> Vec<Group> {
    let cells = [1, 32].map(|depth| cell("randread", 4096, depth)).to_vec();
    vec![
        Group { kind: Kind::Null, queues: 1, cells: cells.clone() },
        Group { kind: Kind::Memory, queues: 1, cells: cells.clone() },
        Group { kind: Kind::File, queues: 1, cells },
    ]
}

/// One run of one contender in one cell.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The group's name, the cell's and the contender's.
    pub key: [String; 3],
    pub round: usize,
    pub iops: f64,
    pub bytes_per_second: f64,
    /// Completion latencies: median, 99 % and 99.9 %.
    pub latency_ns: [f64; 3],
    /// Of the server, where it is a process.
    pub cpu_ns_per_io: Option<f64>,
}

impl Sample {
    pub fn new(key: [String; 3], round: usize, seen: &Seen) -> Self {
        let Seen { iops, bytes_per_second, latency_ns, cpu_ns_per_io } = *seen;
        Self { key, round, iops, bytes_per_second, latency_ns, cpu_ns_per_io }
    }

    pub fn to_json(&self) -> Value {
        json!({
            "group": self.key[0], "cell": self.key[1], "contender": self.key[2],
            "round": self.round, "iops": self.iops, "bytes_per_second": self.bytes_per_second,
            "latency_ns": self.latency_ns, "cpu_ns_per_io": self.cpu_ns_per_io,
        })
    }

    pub fn from_json(value: &Value) -> Option<Self> {
        let text = |name: &str| Some(value[name].as_str()?.to_owned());
        let latency = |index: usize| value["latency_ns"][index].as_f64();
        Some(Self {
            key: [text("group")?, text("cell")?, text("contender")?],
            round: usize::try_from(value["round"].as_u64()?).ok()?,
            iops: value["iops"].as_f64()?,
            bytes_per_second: value["bytes_per_second"].as_f64()?,
            latency_ns: [latency(0)?, latency(1)?, latency(2)?],
            cpu_ns_per_io: value["cpu_ns_per_io"].as_f64(),
        })
    }
}
