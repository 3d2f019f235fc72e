//! Conversations over the simulated kernel: what they look like, and that they can be held again.
//!
//! `UBLKIT_BLESS=1 cargo test --test trace` writes the golden files anew; then read what changed.

mod conversation;
mod held_again;

use std::time::Duration;
use ublkit::sim::{Ask, Choices, Faults, Load, Profile, Sim};
use ublkit::trace::{Detail, Log, Traced};
use ublkit::{
    Backend, Blocking, Builder, Completion, Durability, Errno, Geometry, Handler, Io, Memory,
    Needs, Operation, QueueInfo, Server, Step, Target,
};

const PAGE: usize = 4096;

fn memory(size_bytes: u64) -> Blocking<Memory> {
    Blocking::new(Memory::new(Geometry::new(size_bytes)).unwrap())
}

/// Serves `target` on `sim`, and listens.
fn serve<T: Target>(
    sim: &Sim,
    builder: &Builder,
    target: T,
) -> (Server<Traced<ublkit::sim::Task>>, Log) {
    let log = Log::of_last(usize::MAX);
    let kernel = Traced::new(sim.task(), Detail::REPEATABLE, log.clone());
    let target = kernel.watch(target);
    (builder.serve_on(kernel, target).unwrap(), log)
}

fn json(log: &Log) -> String {
    log.events().iter().map(|event| format!("{}\n", event.json())).collect()
}

fn write(offset: u64, fill: u8) -> Ask {
    Ask::Write { offset, data: vec![fill; PAGE], fua: false }
}

fn read(offset: u64) -> Ask {
    Ask::Read { offset, len_bytes: 4096 }
}

/// A disk with a cache, and a place that cannot be read.
struct Disk(Memory);

impl Disk {
    fn new() -> Blocking<Self> {
        Blocking::new(Self(Memory::new(Geometry::new(1 << 20)).unwrap()))
    }
}

impl Backend for Disk {
    fn geometry(&self) -> Geometry {
        let mut geometry = self.0.geometry();
        geometry.durability = Durability::FlushAndFua;
        geometry
    }

    fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        if offset == 8192 { Err(Errno::ENODATA) } else { self.0.read(offset, data) }
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Errno> {
        self.0.write(offset, data)
    }

    fn write_zeroes(&self, offset: u64, len: u64, may_unmap: bool) -> Result<(), Errno> {
        self.0.write_zeroes(offset, len, may_unmap)
    }
}

/// Its flushes take their time.
struct Slow<T>(T);

impl<T: Target> Target for Slow<T> {
    type Handler = Slow<T::Handler>;

    fn geometry(&self) -> Geometry {
        self.0.geometry()
    }

    fn needs(&self) -> Needs {
        Needs { operations: 1, ..self.0.needs() }
    }

    fn handler(&self, queue: &QueueInfo) -> Result<Slow<T::Handler>, Errno> {
        self.0.handler(queue).map(Slow)
    }
}

impl<H: Handler> Handler for Slow<H> {
    fn start(&mut self, io: &mut Io<'_>) -> Step {
        if io.request().operation != Operation::Flush {
            return self.0.start(io);
        }
        io.delay(Duration::from_micros(1500), 0).unwrap();
        Step::Pending
    }

    fn resume(&mut self, io: &mut Io<'_>, _done: Completion) -> Step {
        self.0.start(io)
    }
}

/// A short life with fixed choices.
fn short_life() -> Log {
    let sim = Sim::new(Profile::NEWEST, Choices::first(), Faults::default());
    let (server, log) = serve(&sim, &Builder::new().depth(2), Slow(Disk::new()));
    let fua = Ask::Write { offset: 512, data: vec![7; 512], fua: true };
    let zeroes = Ask::WriteZeroes { offset: 0, len_bytes: 8192, no_unmap: true };
    for asks in [vec![write(0, 1), read(8192)], vec![fua, read(0)], vec![Ask::Flush, zeroes]] {
        for ask in asks {
            sim.ask(server.id(), 0, ask).unwrap();
        }
        sim.until_answered();
    }
    server.stop().unwrap();
    sim.assert_clean();
    log
}

/// Many clients, queues and faults; answers the recording and how often something was delivered.
fn busy(seed: u64, faults: Faults, profile: Profile) -> (String, u64) {
    let sim = Sim::new(profile, Choices::seed(seed), faults);
    let (server, log) = serve(&sim, &Builder::new().queues(4).depth(8), memory(1 << 20));
    let load = sim.load(server.id(), Load::new(400));
    sim.until_answered();
    server.stop().unwrap();
    sim.assert_clean();
    assert_eq!(sim.tally(load).succeeded, 400);
    (json(&log), sim.audit().delivered)
}
