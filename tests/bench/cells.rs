//! What is measured, as data: each new cell is a line.

use crate::contenders::{Field, Kind};

/// What clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// As fio says it: `randread`, `randwrite`, `randrw`, and in order `read`, `write`.
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
            "read" => "sequential read",
            "write" => "sequential write",
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
    /// Who takes part.
    pub field: Field,
    pub queues: u16,
    pub cells: Vec<Cell>,
}

impl Group {
    pub fn name(&self) -> String {
        let s = if self.queues == 1 { "" } else { "s" };
        let modes = if self.field == Field::Modes { ", every mode" } else { "" };
        format!("{}, {} queue{s}{modes}", self.kind.name(), self.queues)
    }
}

fn cell(operation: &'static str, bytes: u32, depth: u16) -> Cell {
    Cell { operation, bytes, depth }
}

/// How long clients use each disk, and how often, unless that is said.
pub const MILLISECONDS: u32 = 600;
pub const ROUNDS: u32 = 4;

/// What is measured for every change. It ends within 25 minutes.
pub fn usual() -> Vec<Group> {
    let (read, write, mixed) = ("randread", "randwrite", "randrw");
    let of = |kind, queues, cells: &[Cell]| Group {
        kind,
        field: Field::Beside,
        queues,
        cells: cells.to_vec(),
    };
    let modes = |kind, cells: &[Cell]| Group { field: Field::Modes, ..of(kind, 1, cells) };
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
        cell("read", 128 << 10, 8),
        cell("write", 128 << 10, 8),
    ];
    vec![
        of(Kind::Null, 1, &null),
        of(Kind::Null, 4, &[cell(read, 4096, 1), cell(read, 4096, 32)]),
        of(Kind::Memory, 1, &memory),
        of(Kind::Memory, 4, &[cell(read, 4096, 32)]),
        of(Kind::File, 1, &file),
        modes(Kind::Null, &[cell(read, 4096, 1), cell(read, 4096, 32)]),
        modes(Kind::File, &[cell(read, 4096, 32), cell(read, 128 << 10, 8)]),
    ]
}

/// The full grid: many hours.
pub fn full() -> Vec<Group> {
    let mut groups = Vec::new();
    for kind in Kind::ALL {
        for queues in [1, 2, 4] {
            let mut cells = Vec::new();
            for operation in ["randread", "randwrite", "randrw", "read", "write"] {
                for bytes in [512, 4096, 16 << 10, 64 << 10, 256 << 10, 1 << 20] {
                    cells.extend((0..8).map(|power| cell(operation, bytes, 1 << power)));
                }
            }
            groups.push(Group { kind, field: Field::Beside, queues, cells });
        }
    }
    groups
}

/// What instructions are counted for.
pub fn counted() -> Vec<Group> {
    let cells = [1, 32].map(|depth| cell("randread", 4096, depth)).to_vec();
    let of = |kind| Group { kind, field: Field::Beside, queues: 1, cells: cells.clone() };
    Kind::ALL.map(of).to_vec()
}

/// These cells with every mode of ublkit, beside the others; what has its modes alone is of it.
pub fn with_modes(mut groups: Vec<Group>) -> Vec<Group> {
    groups.retain(|group| group.field != Field::Modes);
    groups.iter_mut().for_each(|group| group.field = Field::Both);
    groups
}
