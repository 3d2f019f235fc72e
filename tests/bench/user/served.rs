//! The role under callgrind: a server and its clients in one process, over the simulated kernel.

use super::kernel::Apart;
use crate::contenders::{MODES, Mode};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use ublkit::sim::{Ask, Choices, Faults, Profile, Sim};
use ublkit::{Backend, Blocking, Builder, Errno, FileOptions, Geometry, Memory, Null, Target};

const BLOCK: u32 = 4096;

/// One cell: what is served, how, and what its clients do.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    pub mode: &'static Mode,
    pub backend: &'static str,
    pub writes: bool,
    pub under_way: usize,
}

impl Cell {
    /// All that are counted.
    pub fn all() -> Vec<Self> {
        let kinds = [
            ("null", false, 1),
            ("null", false, 32),
            ("metered null", false, 1),
            ("metered null", false, 32),
            ("memory", false, 32),
            ("memory", true, 32),
            ("file", false, 1),
            ("file", false, 32),
        ];
        let of = |mode| {
            kinds.map(|(backend, writes, under_way)| Self { mode, backend, writes, under_way })
        };
        MODES.iter().flat_map(of).collect()
    }

    /// As it stands in tables and in the budget.
    pub fn name(&self) -> String {
        let Self { mode, backend, writes, under_way } = self;
        let operation = if *writes { "write" } else { "read" };
        format!("{backend} {} {operation} QD{under_way}", mode.name)
    }

    /// The words of the role.
    pub fn words(&self) -> [String; 4] {
        let Self { mode, backend, writes, under_way } = self;
        let operation = if *writes { "write" } else { "read" };
        [mode.name.into(), (*backend).into(), operation.into(), under_way.to_string()]
    }
}

/// A disk with a defect: it does for nothing what a careless change might.
struct Planted(Null);

impl Backend for Planted {
    fn geometry(&self) -> Geometry {
        self.0.geometry()
    }

    fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        (0..black_box(4)).for_each(|round| _ = black_box(round)); // some ten instructions
        self.0.read(offset, data)
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Errno> {
        self.0.write(offset, data)
    }
}

/// `served MODE BACKEND OPERATION UNDER-WAY BURSTS`: serves so many bursts of requests of 4 KiB,
/// and prints how many calls that took.
pub fn run(words: &[String]) {
    let [mode, backend, operation, under_way, bursts] = words else { panic!("five words") };
    let number = |word: &String| word.parse::<u32>().expect("a number");
    let mode = MODES.iter().find(|known| known.name == mode).expect("a known mode");
    let clients = Clients {
        writes: operation == "write",
        under_way: number(under_way),
        bursts: number(bursts),
        metered: backend.starts_with("metered "),
    };
    let geometry = Geometry::new(1 << 20);
    match backend.as_str() {
        "null" | "metered null" => clients.of(mode, Blocking::new(Null::new(geometry))),
        "memory" => clients.of(mode, Blocking::new(Memory::new(geometry).expect("a MiB"))),
        "file" => {
            let path = std::env::temp_dir().join(format!("ublkit-{}", std::process::id()));
            let file = FileOptions::new(&path).size_bytes(geometry.size_bytes).open();
            std::fs::remove_file(&path).expect("it was made");
            clients.of(mode, file.expect("a file"));
        }
        "planted" => clients.of(mode, Blocking::new(Planted(Null::new(geometry)))),
        _ => panic!("no backend {backend}"),
    }
}

/// What is asked of the disk.
struct Clients {
    writes: bool,
    under_way: u32,
    bursts: u32,
    /// Whether the queue counts what it does.
    metered: bool,
}

impl Clients {
    /// Asks it of a disk.
    fn of(&self, mode: &Mode, target: impl Target) {
        // All that can happen does before the server goes on: it finds the whole burst.
        let sim = Sim::new(Profile::NEWEST, Choices::first(), Faults::default());
        let kernel = Apart::new(sim.task());
        let calls = Arc::clone(&kernel.calls);
        let builder =
            Builder::new().data_path(mode.path).batches(mode.batches).metered(self.metered);
        let server = builder.serve_on(kernel, target).expect("it is served");
        for _ in 0..self.bursts {
            let ask = |block| {
                let offset = u64::from(block * BLOCK);
                sim.ask(server.id(), 0, self.one(offset)).expect("the device is there")
            };
            let asked: Vec<u64> = (0..self.under_way).map(ask).collect();
            sim.until_answered();
            assert!(asked.iter().all(|&asking| sim.answer(asking).is_some_and(|it| it.is_ok())));
        }
        let calls = calls.load(Ordering::Relaxed);
        server.stop().expect("it stops");
        sim.assert_clean();
        println!("calls: {calls}");
    }

    fn one(&self, offset: u64) -> Ask {
        if self.writes {
            Ask::Write { offset, data: vec![7; BLOCK as usize], fua: false }
        } else {
            Ask::Read { offset, len_bytes: BLOCK }
        }
    }
}
