//! What the tests share: a disk with whims, and a server over a simulated kernel.

use crate::file_disk::{FileDisk, Mistake};
use std::fmt;
use std::sync::Once;
use std::time::Duration;
use ublkit::sim::{Choices, Faults, Profile, Sim, Task};
use ublkit::{
    Access, Backend, Builder, Completion, DataPath, Durability, Errno, Error, Geometry, Handler,
    Io, Memory, Needs, Operation, QueueInfo, Recovery, Request, Server, Step, Target,
};

/// What a handler does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whim {
    Serve,
    /// Serves, and does not tell that it uses memory that handlers share.
    ServeUntold,
    Fail(Errno),
    Panic,
    /// Serves after so many delays, one after the other.
    Delay(u8),
    /// Serves by two operations at one time, where operations serve.
    Halves,
    /// Fails although an operation is under way: a delay, or what would serve.
    FailUnderWay,
    /// Panics while one is under way.
    PanicUnderWay,
    /// Looks at the data while an operation moves it, where operations serve.
    LookUnderWay,
    /// Waits for nothing.
    WaitForNothing,
    /// Says that it has served.
    Forget,
}

/// All of them, serving the most often.
pub const WHIMS: &[Whim] = &[
    Whim::Serve,
    Whim::Delay(1),
    Whim::Serve,
    Whim::Fail(Errno::ENOSPC),
    Whim::Serve,
    Whim::Panic,
    Whim::Delay(3),
    Whim::Serve,
    Whim::FailUnderWay,
    Whim::Serve,
    Whim::WaitForNothing,
    Whim::Halves,
    Whim::PanicUnderWay,
    Whim::Serve,
    Whim::LookUnderWay,
];

/// A memory disk whose handlers have whims, one after the other.
#[derive(Clone, Debug)]
pub struct Whimsical {
    memory: Memory,
    access: Access,
    whims: &'static [Whim],
    /// Who is told that handlers share the memory.
    told: Option<Task>,
}

impl Target for Whimsical {
    type Handler = Moods;

    fn geometry(&self) -> Geometry {
        self.memory.geometry()
    }

    fn needs(&self) -> Needs {
        Needs { access: self.access, operations: 1, ..self.memory.needs() }
    }

    fn handler(&self, queue: &QueueInfo) -> Result<Moods, Errno> {
        let Self { memory, access, whims, told } = self;
        Ok(Moods {
            memory: memory.clone(),
            access: *access,
            whims,
            told: told.clone(),
            next: queue.queue.into(),
            left: Vec::new(),
        })
    }
}

/// The handler of one queue.
pub struct Moods {
    memory: Memory,
    access: Access,
    whims: &'static [Whim],
    told: Option<Task>,
    next: usize,
    /// Delays that are left, by tag.
    left: Vec<(u16, u8)>,
}

impl Moods {
    fn serve(&mut self, io: &mut Io<'_>) -> Step {
        self.told.iter().for_each(Task::shares);
        self.serve_untold(io)
    }

    fn serve_untold(&mut self, io: &mut Io<'_>) -> Step {
        if self.access == Access::Regions {
            return self.memory.start(io);
        }
        let Request { operation, offset, len_bytes, .. } = io.request();
        Step::Done(match operation {
            Operation::Read => self.memory.read(offset, io.data()),
            Operation::Write { .. } => self.memory.write(offset, io.data()),
            Operation::Flush => self.memory.flush(),
            Operation::Discard => self.memory.discard(offset, len_bytes),
            Operation::WriteZeroes { may_unmap } => {
                self.memory.write_zeroes(offset, len_bytes, may_unmap)
            }
            _ => Err(Errno::EOPNOTSUPP),
        })
    }
}

const SOON: Duration = Duration::from_millis(3);

impl Handler for Moods {
    fn start(&mut self, io: &mut Io<'_>) -> Step {
        self.next += 1;
        let tag = io.tag();
        self.left.retain(|(other, _)| *other != tag);
        match self.whims[self.next % self.whims.len()] {
            Whim::Serve | Whim::Halves | Whim::LookUnderWay => self.serve(io),
            Whim::ServeUntold => self.serve_untold(io),
            Whim::Fail(errno) => Step::Done(Err(errno)),
            Whim::Panic => panic!("a whim"),
            Whim::Delay(times) => {
                self.left.push((tag, times));
                io.delay(SOON, times).expect("it has none under way");
                Step::Pending
            }
            Whim::FailUnderWay => {
                io.delay(SOON, 0).expect("it has none under way");
                Step::Done(Err(Errno::EREMOTEIO))
            }
            Whim::PanicUnderWay => {
                io.delay(SOON, 0).expect("it has none under way");
                panic!("a whim")
            }
            Whim::WaitForNothing => Step::Pending,
            Whim::Forget => Step::Done(Ok(())),
        }
    }

    fn resume(&mut self, io: &mut Io<'_>, done: Completion) -> Step {
        if done.cookie == 0 {
            self.told.iter().for_each(Task::shares);
            return self.memory.resume(io, done); // a write's data is there
        }
        let left = self.left.iter_mut().find(|(tag, _)| *tag == io.tag());
        let (_, times) = left.expect("it was delayed");
        assert_eq!((done.cookie, done.result), (*times, Err(Errno::ETIME)));
        *times -= 1;
        if *times == 0 {
            return self.serve(io);
        }
        io.delay(SOON, *times).expect("the last one has ended");
        Step::Pending
    }
}

/// A device to make.
#[derive(Clone, Copy)]
pub struct House {
    pub profile: Profile,
    pub faults: Faults,
    pub queues: u16,
    /// Of each queue.
    pub threads: u16,
    pub depth: u16,
    pub max_io_bytes: u32,
    pub geometry: Geometry,
    pub path: DataPath,
    /// Whether one command does for many slots.
    pub batches: bool,
    /// How long queues look before they sleep.
    pub spin: Duration,
    pub access: Access,
    /// Whether the files that it serves play disks, which discard.
    pub disks: bool,
    pub whims: &'static [Whim],
    pub recovery: Recovery,
}

/// What a house's disk holds, whoever serves it.
#[derive(Clone, Debug)]
pub enum Store {
    Memory(Whimsical),
    File(FileDisk),
}

impl Store {
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        match self {
            Self::Memory(Whimsical { memory, .. }) => memory.read(offset, data).unwrap(),
            Self::File(file) => file.read(offset, data),
        }
    }
}

impl fmt::Debug for House {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { profile, queues, threads, depth, max_io_bytes, geometry, path, .. } = self;
        let (access, recovery) = (self.access, self.recovery);
        let batches = if self.batches { ", in batches" } else { "" };
        let spin = if self.spin.is_zero() { "" } else { ", that spin" };
        let Geometry { logical_block_bytes, durability, .. } = geometry;
        write!(
            f,
            "{profile}, {queues} queues of {depth} for {threads} threads, {max_io_bytes} B, "
        )?;
        write!(
            f,
            "blocks of {logical_block_bytes}, {durability:?}, {path} to {access:?}{batches}{spin}"
        )?;
        write!(f, ", {recovery}")
    }
}

impl House {
    /// A disk of 1 MiB with two queues of four slots, on the newest kernel, that serves all.
    pub fn new() -> Self {
        Self {
            profile: Profile::NEWEST,
            faults: Faults::default(),
            queues: 2,
            threads: 1,
            depth: 4,
            max_io_bytes: 16 << 10,
            geometry: Geometry::new(1 << 20),
            path: DataPath::Copy,
            batches: false,
            spin: Duration::ZERO,
            access: Access::Slices,
            disks: false,
            whims: &[Whim::Serve],
            recovery: Recovery::None,
        }
    }

    pub fn sim(&self, choices: Choices) -> Sim {
        let sim = Sim::new(self.profile, choices, self.faults);
        if self.disks {
            sim.has_disks_outside();
        }
        sim
    }

    pub fn target(&self) -> Whimsical {
        let memory = Memory::new(self.geometry).unwrap();
        Whimsical { memory, access: self.access, whims: self.whims, told: None }
    }

    /// What becomes of clients' first requests on a queue, where one thread serves it. The very
    /// first one of the first queue looks for partitions.
    pub fn whims_of(&self, queue: u16, requests: usize) -> Vec<Whim> {
        let first = usize::from(queue.max(1)) + 1;
        let whims = (first..first + requests).map(|next| self.whims[next % self.whims.len()]);
        whims.collect()
    }

    /// Memory, or a file where operations are to move the data.
    pub fn store(&self) -> Store {
        match self.access {
            Access::Operations => Store::File(FileDisk::new(self, Mistake::None)),
            _ => Store::Memory(self.target()),
        }
    }

    pub fn serve(&self, kernel: Task) -> Result<Server<Task>, Error> {
        self.serve_store(kernel, &self.store())
    }

    pub fn serve_store(&self, kernel: Task, store: &Store) -> Result<Server<Task>, Error> {
        match store.clone() {
            Store::Memory(mut memory) => {
                memory.told = Some(kernel.clone());
                self.serve_target(kernel, memory)
            }
            Store::File(file) => self.serve_target(kernel, file),
        }
    }

    /// Serves a device whose server is gone.
    pub fn recover(&self, kernel: Task, id: u32, store: &Store) -> Result<Server<Task>, Error> {
        // The oldest kernel may notice only after half a minute that a server is gone.
        let builder = Builder::new().timeout(Duration::from_secs(90));
        let builder = builder.threads_per_queue(self.threads).spin(self.spin);
        match store.clone() {
            Store::Memory(mut memory) => {
                memory.told = Some(kernel.clone());
                builder.recover_on(kernel, id, memory)
            }
            Store::File(file) => builder.recover_on(kernel, id, file),
        }
    }

    pub fn serve_target(&self, kernel: Task, target: impl Target) -> Result<Server<Task>, Error> {
        self.builder().metered(true).serve_on(kernel, target)
    }

    pub fn builder(&self) -> Builder {
        quiet();
        Builder::new()
            .queues(self.queues)
            .threads_per_queue(self.threads)
            .depth(self.depth)
            .max_io_bytes(self.max_io_bytes)
            .data_path(self.path)
            .batches(self.batches)
            .spin(self.spin)
            .recovery(self.recovery)
            .timeout(Duration::from_secs(30))
    }
}

/// Panics that are meant do not fill the terminal.
fn quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let looks = "an operation is using the request's data";
            let said = panic.payload().downcast_ref();
            if said != Some(&"a whim") && said != Some(&looks) {
                usual(panic);
            }
        }));
    });
}

/// All kinds of durability.
pub const DURABILITIES: [Durability; 3] =
    [Durability::WriteThrough, Durability::Flush, Durability::FlushAndFua];
