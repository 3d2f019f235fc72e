//! [`World`]: all that the simulated machine is at one moment.

use super::block::Clients;
use super::choices::Choices;
use super::faults::Faults;
use super::journal::Journal;
use super::outside::Outside;
use super::profile::Profile;
use super::schedule::Threads;
use super::ublk::{Devices, PageUses};
use super::uring::Ring;
use crate::errno::Errno;
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// A process: its number, and what it may.
#[derive(Clone, Debug)]
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) admin: bool,
    /// Killed: its calls fail.
    pub(super) dead: bool,
    /// Killed, and what it had open is closed.
    exited: bool,
    /// What its mappings held when they were dropped between the two.
    unmapped: Vec<FileId>,
}

/// A task of a process: what the driver compares when it asks who sends a command.
#[derive(Clone, Copy, Debug)]
pub(super) struct TaskState {
    pub(super) process: usize,
    pub(super) thread: usize,
    /// Whether it has `CAP_SYS_ADMIN`.
    pub(super) admin: bool,
    pub(super) ended: bool,
    /// It made, used or registered a ring, so that it can have registered ones.
    pub(super) has_rings: bool,
}

/// The number of an open file; the number that its process knows it by, too.
pub(super) type FileId = i32;

/// The simulation numbers its own files from here on. A smaller number names a file outside of the
/// simulated machine: a real one, of the test process.
const FIRST_FILE: FileId = 1 << 20;

/// A file, as a ring holds it.
#[derive(Clone, Debug)]
pub(super) enum Named {
    Inside(FileId),
    Outside(Arc<Outside>),
}

/// An open file.
#[derive(Debug)]
pub(super) struct OpenFile {
    pub(super) kind: Kind,
    pub(super) process: usize,
    /// The handle, mappings, fixed-file entries and commands that hold it.
    pub(super) holders: u32,
    /// Whether the program still has its handle, so that its number means something.
    pub(super) open: bool,
}

/// What is open.
#[derive(Debug)]
pub(super) enum Kind {
    /// `/dev/ublk-control`.
    Control,
    /// `/dev/ublkcN`: the device's place in [`Devices`].
    Char(usize),
    /// A ring.
    Ring(Box<Ring>),
    /// An event: whether it is readable.
    Event(bool),
}

/// What the kernel does by itself, later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chore {
    /// The commands of a closed ring are cancelled, and its files let go.
    TearDown(FileId),
    /// The last holder of a char device is gone.
    Release(usize),
    /// Work for the ring's task is done in passing: by an interrupt, or by the task's worker.
    Interrupt(FileId),
    /// A killed process closes what it had open.
    Exit(usize),
    /// An operation of a ring on a file outside is done.
    Operate(FileId, u64),
}

/// All that the simulated machine is at one moment.
#[derive(Debug)]
pub(super) struct World {
    pub(super) profile: Profile,
    pub(super) faults: Faults,
    pub(super) choices: Choices,
    pub(super) cpus: u16,
    pub(super) now: Duration,
    pub(super) processes: Vec<Process>,
    pub(super) tasks: Vec<TaskState>,
    pub(super) threads: Threads,
    pub(super) files: BTreeMap<FileId, OpenFile>,
    next_file: FileId,
    /// The rings that tasks registered, by task and index.
    pub(super) ring_names: BTreeMap<(usize, u32), FileId>,
    pub(super) devices: Devices,
    pub(super) clients: Clients,
    /// Requests' pages that rings use.
    pub(super) page_uses: PageUses,
    /// What was written to files outside, where that is kept.
    pub(super) journal: Journal,
    /// Whether files outside play block devices, and discard.
    pub(super) disks_outside: bool,
    pub(super) chores: VecDeque<Chore>,
    pub(super) audit: Audit,
    /// What the memory that threads share follows from.
    pub(super) common: u64,
    /// Calls that can fail.
    pub(super) calls: u64,
    /// Calls of `io_uring_enter` in a row that took nothing and waited for nothing.
    pub(super) spins: u32,
    /// How often somebody dead looked at the clock.
    pub(super) late_looks: u32,
    /// Things that have happened since a client or a command was last answered.
    pub(super) happened: u32,
    /// Why nothing can go on; then every call fails, so that all ends.
    pub(super) broken: Option<String>,
}

/// What was seen of the program under test.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Audit {
    /// Commands for slots that the driver refused: a driver under test that obeys the protocol has
    /// none.
    pub refused: Vec<String>,
    /// The control command that failed for [`Faults::fail_command`], without its prefix.
    pub failed_command: Option<String>,
    /// What the program said that no server should, though a kernel takes it: a short write, say.
    pub mistakes: Vec<String>,
    /// What was asked that this simulation does not play.
    pub unmodelled: Vec<String>,
    /// Slots fetched.
    pub fetched: u64,
    /// Requests that were delivered to a server, deliveries of the same request counted each.
    pub delivered: u64,
    /// Requests that a server answered.
    pub committed: u64,
    /// Slots that were taken away.
    pub aborted: u64,
    /// Calls of `io_uring_enter`.
    pub entered: u64,
    /// Requests whose pages the driver put into a ring's table.
    pub registered: u64,
    /// Those whose pages it could not put there, so that the server moves the data otherwise.
    pub fell_back: u64,
    /// Completions and descriptors that said something else than they should.
    pub lies: u64,
    /// Operations that rings did on files.
    pub operated: u64,
}

/// As many lines are kept as help somebody.
const LINES: usize = 100;

impl Audit {
    pub(super) fn note(lines: &mut Vec<String>, line: String) {
        if lines.len() < LINES {
            lines.push(line);
        }
    }
}

impl World {
    pub(super) fn new(profile: Profile, choices: Choices, faults: Faults) -> Self {
        Self {
            profile,
            faults,
            choices,
            cpus: 4,
            // Not 0: times of day are differences, but a server word of 0 means none.
            now: Duration::from_secs(1000),
            processes: Vec::new(),
            tasks: Vec::new(),
            threads: Threads::default(),
            files: BTreeMap::new(),
            next_file: FIRST_FILE,
            ring_names: BTreeMap::new(),
            devices: Devices::default(),
            clients: Clients::default(),
            page_uses: PageUses::default(),
            journal: Journal::default(),
            disks_outside: false,
            chores: VecDeque::new(),
            audit: Audit::default(),
            common: 0,
            calls: 0,
            spins: 0,
            late_looks: 0,
            happened: 0,
            broken: None,
        }
    }

    /// Makes a process; answers its place.
    pub(super) fn add_process(&mut self, admin: bool) -> usize {
        let pid = 1000 + u32::try_from(self.processes.len()).expect("few processes");
        self.processes.push(Process {
            pid,
            admin,
            dead: false,
            exited: false,
            unmapped: Vec::new(),
        });
        self.processes.len() - 1
    }

    /// Makes a task; answers its place.
    pub(super) fn add_task(&mut self, process: usize, thread: usize) -> usize {
        let admin = self.processes[process].admin;
        self.tasks.push(TaskState { process, thread, admin, ended: false, has_rings: false });
        self.tasks.len() - 1
    }

    /// Opens a file for `process`; answers its number.
    pub(super) fn open_file(&mut self, process: usize, kind: Kind) -> FileId {
        let id = self.next_file;
        self.next_file += 1;
        self.files.insert(id, OpenFile { kind, process, holders: 1, open: true });
        id
    }

    /// The file that `process` knows by `number`.
    pub(super) fn file(&self, process: usize, number: i32) -> Result<&OpenFile, Errno> {
        let file = self.files.get(&number).filter(|file| file.open && file.process == process);
        file.ok_or(Errno::EBADF)
    }

    /// What a ring may hold by this number.
    pub(super) fn named(&self, process: usize, number: i32) -> Result<Named, Errno> {
        if number < FIRST_FILE {
            return Ok(Named::Outside(Arc::new(Outside::hold(number)?)));
        }
        self.file(process, number).map(|_| Named::Inside(number))
    }

    /// A ring holds a file once more.
    pub(super) fn hold_named(&mut self, file: &Named) {
        if let Named::Inside(id) = file {
            self.hold(*id);
        }
    }

    /// A ring lets go of a file.
    pub(super) fn let_go_named(&mut self, file: Named) {
        match file {
            Named::Inside(id) => self.let_go(id),
            Named::Outside(file) => drop(file),
        }
    }

    /// Whether a read of a file would not block.
    pub(super) fn is_readable(&self, file: &Named) -> bool {
        match file {
            Named::Outside(file) => file.is_readable(),
            Named::Inside(id) => match self.files.get(id).map(|file| &file.kind) {
                Some(Kind::Event(readable)) => *readable,
                _ => true,
            },
        }
    }

    pub(super) fn hold(&mut self, id: FileId) {
        self.files.get_mut(&id).expect("held by its holder").holders += 1;
    }

    /// Lets go of a file; with its last holder it is closed.
    pub(super) fn let_go(&mut self, id: FileId) {
        let Some(file) = self.files.get_mut(&id) else { return };
        file.holders -= 1;
        if file.holders > 0 {
            return;
        }
        match &file.kind {
            Kind::Ring(_) => {
                // A ring is torn down by a worker: what it holds stays for a while.
                self.chores.push_back(Chore::TearDown(id));
            }
            Kind::Char(device) => {
                let device = *device;
                self.files.remove(&id);
                self.devices.let_go(device);
                self.chores.push_back(Chore::Release(device));
            }
            Kind::Control | Kind::Event(_) => drop(self.files.remove(&id)),
        }
    }

    /// The program closes its handle.
    pub(super) fn close(&mut self, id: FileId) {
        let Some(file) = self.files.get_mut(&id) else { return };
        let process = &self.processes[file.process];
        if process.dead && !process.exited {
            return; // by its exit
        }
        if std::mem::replace(&mut file.open, false) {
            self.let_go(id);
        }
    }

    /// The ring of an open file.
    pub(super) fn ring(&mut self, id: FileId) -> Option<&mut Ring> {
        match &mut self.files.get_mut(&id)?.kind {
            Kind::Ring(ring) => Some(ring),
            _ => None,
        }
    }

    /// Nothing can go on, or what must not be has happened: from here on every call fails.
    pub(super) fn fail(&mut self, why: String) {
        self.broken.get_or_insert(why);
    }

    /// A process ends: its tasks are gone, its files closed.
    pub(super) fn kill(&mut self, process: usize) {
        self.processes[process].dead = true;
        for task in 0..self.tasks.len() {
            if self.tasks[task].process == process {
                self.end_task(task);
            }
        }
        self.chores.push_back(Chore::Exit(process));
    }

    /// A killed process closes what it had open.
    pub(super) fn exit(&mut self, process: usize) {
        self.processes[process].exited = true;
        for file in std::mem::take(&mut self.processes[process].unmapped) {
            self.let_go(file);
        }
        let is_its = |(id, file): (&FileId, &OpenFile)| (file.process == process).then_some(*id);
        let open: Vec<FileId> = self.files.iter().filter_map(is_its).collect();
        for id in open {
            self.close(id);
        }
    }

    /// Whether a chore can be done now. A process does not get past a worker of its own that is
    /// inside a control command: if that waits for what only the process's end brings, both wait
    /// for ever.
    pub(super) fn can_do(&self, chore: Chore) -> bool {
        match chore {
            Chore::Exit(process) => !self.devices.has_control_of(process),
            // A request's pages outlive the server's files, while a ring uses them.
            Chore::Release(device) => !self.uses_pages(device),
            _ => true,
        }
    }

    /// The program unmaps what held a file.
    pub(super) fn unmap(&mut self, id: FileId) {
        let Some(process) = self.files.get(&id).map(|file| file.process) else { return };
        let process = &mut self.processes[process];
        if process.dead && !process.exited {
            process.unmapped.push(id);
        } else {
            self.let_go(id);
        }
    }

    /// A task ends. Its control commands that wait are interrupted; of those for slots the driver
    /// learns nothing before their ring is closed, or a request comes to them.
    pub(super) fn end_task(&mut self, task: usize) {
        if std::mem::replace(&mut self.tasks[task].ended, true) {
            return;
        }
        let is_ring = |(id, file): (&FileId, &OpenFile)| match file.kind {
            Kind::Ring(_) => Some(*id),
            _ => None,
        };
        let rings: Vec<FileId> = self.files.iter().filter_map(is_ring).collect();
        for ring in rings {
            self.interrupt_controls(ring, Some(task));
        }
        self.lose_task(task);
        let named = (task, 0)..(task + 1, 0);
        let names: Vec<(usize, u32)> =
            self.ring_names.range(named).map(|(name, _)| *name).collect();
        for name in names {
            if let Some(ring) = self.ring_names.remove(&name) {
                self.let_go(ring);
            }
        }
    }

    /// What is left of the program under test: nothing, when it has let go of everything.
    pub(super) fn leftovers(&self) -> Vec<String> {
        let file = |(id, file): (&FileId, &OpenFile)| {
            let kind = match &file.kind {
                Kind::Control => "the control device".to_string(),
                Kind::Char(device) => format!("char device {}", self.devices.number(*device)),
                Kind::Ring(_) => "a ring".to_string(),
                Kind::Event(_) => "an event".to_string(),
            };
            format!("{kind} is open (file {id}, {} holders)", file.holders)
        };
        let mut left: Vec<String> = self.files.iter().map(file).collect();
        left.extend(self.devices.leftovers());
        left.extend(self.threads.leftovers());
        left.extend(self.page_uses.leftovers());
        left
    }
}
