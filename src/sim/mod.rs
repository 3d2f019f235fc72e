//! A kernel to test with: io_uring and the ublk driver, played in the same shared memory.
//!
//! [`Task`] is a [`Kernel`](crate::Kernel) that needs neither root nor a kernel module. The driver
//! above it runs unchanged: it writes SQEs, reads CQEs and descriptors, makes threads and waits,
//! and every answer comes from a model of what Linux does, check by check. One thread runs at a
//! time, and what happens next is chosen by [`Choices`], so that a run can be repeated, or all runs
//! be tried. Time is virtual: it passes when nothing else can happen. When nothing ever can, that
//! is a failure which names who waits for what.
//!
//! Clients are part of it: [`Load`] asks at random and knows what it may be answered. So are
//! [`Faults`]: whatever a kernel may do to a server that a server must take.
//!
//! ```
//! use ublkit::sim::{Choices, Faults, Load, Profile, Sim};
//! use ublkit::{Blocking, Builder, Geometry, Memory};
//!
//! let sim = Sim::new(Profile::NEWEST, Choices::seed(1), Faults::bearable());
//! let disk = Memory::new(Geometry::new(1 << 20))?;
//! let server = Builder::new().queues(2).depth(4).serve_on(sim.task(), Blocking::new(disk))?;
//! let load = sim.load(server.id(), Load::new(1000));
//! sim.until_answered();
//! server.stop()?;
//! assert_eq!(sim.tally(load).succeeded, 1000);
//! sim.assert_clean(); // nobody read what was not there, nothing hangs, nothing is left
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! It shares no code with what it judges: it knows the ABI (`ublkit_sys`) and the seam
//! ([`kernel`](crate::kernel)), no more.

mod asked;
mod block;
mod choices;
mod durable;
mod faults;
mod inject;
mod journal;
mod load;
mod maps;
mod merge;
mod oracle;
mod outside;
mod profile;
mod schedule;
mod seam;
mod shared;
mod ublk;
mod uring;
pub(crate) mod user;
mod world;

pub use asked::{Limits, Zones, accepts, disk, grant, set_params};
pub use block::{Answer, Ask};
pub use choices::{Choice, Choices, Schedules, every_schedule, every_state};
pub use faults::Faults;
pub use inject::Injected;
pub use load::{Load, Tally};
pub use profile::{Profile, Rule};
pub use seam::{File, Mapping, Task, Thread};
pub use world::Audit;

use schedule::Wait;
use shared::Shared;
use std::sync::Arc;
use ublkit_sys::ublk as sys;
use world::World;

/// A simulated machine, as those see it who look from outside: clients, operators, tests.
///
/// Its methods that wait belong to the thread that made it.
#[derive(Debug)]
pub struct Sim {
    shared: Arc<Shared>,
    first: Task,
}

/// A disk that a client has open. Closed when dropped.
#[derive(Debug)]
pub struct OpenDisk {
    shared: Arc<Shared>,
    place: usize,
}

impl Drop for OpenDisk {
    fn drop(&mut self) {
        self.shared.lock().close_disk(self.place);
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        self.shared.join_ended();
    }
}

impl Sim {
    /// A machine with 4 CPUs, one process with `CAP_SYS_ADMIN` and one task: the calling thread.
    pub fn new(profile: Profile, choices: Choices, faults: Faults) -> Self {
        let mut world = World::new(profile, choices, faults);
        let process = world.add_process(true);
        let thread = world.threads.add(process, "the first".into());
        let task = world.add_task(process, thread);
        let shared = Arc::new(Shared::new(world));
        let first = Task::new(Arc::clone(&shared), task);
        Self { shared, first }
    }

    /// The kernel as the first task sees it.
    pub fn task(&self) -> Task {
        self.first.clone()
    }

    /// The kernel as the first task of a new process sees it, called on the same thread. Without
    /// `is_admin` it lacks `CAP_SYS_ADMIN`.
    pub fn process(&self, is_admin: bool) -> Task {
        let mut world = self.shared.lock();
        let process = world.add_process(is_admin);
        let task = world.add_task(process, 0);
        drop(world);
        Task::new(Arc::clone(&self.shared), task)
    }

    /// Kills the process of `task`, as by SIGKILL: its calls fail from here on, what it had open is
    /// closed.
    pub fn kill(&self, task: &Task) {
        let mut world = self.shared.lock();
        let process = world.tasks[task.id()].process;
        world.kill(process);
    }

    /// A task loses `CAP_SYS_ADMIN`, as one thread of a process may.
    pub fn drop_admin(&self, task: &Task) {
        self.shared.lock().tasks[task.id()].admin = false;
    }

    /// Registers a task's rights with a ring, by the number of its file, as a personality: SQEs
    /// that name the answered number are sent with them. No server of this library does that.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP`: the file is no ring; `EEXIST`: a ring that another task alone may use.
    pub fn register_personality(&self, task: &Task, ring: i32) -> Result<u32, crate::Errno> {
        self.shared.lock().register_personality(task.id(), ring)
    }

    /// A task that is called inline ends, as a thread does whose work is done.
    pub fn end_task(&self, task: &Task) {
        self.shared.lock().end_task(task.id());
    }

    /// A client opens the disk of device `id`, unless there is none. Until it lets go, TRY_STOP_DEV
    /// fails and DEL_DEV waits.
    pub fn open_disk(&self, id: u32) -> Option<OpenDisk> {
        let place = self.shared.lock().open_disk(id)?;
        Some(OpenDisk { shared: Arc::clone(&self.shared), place })
    }

    /// A client asks something of the disk of device `id`; answers the asking's number. A client on
    /// another CPU would use another `queue`.
    pub fn ask(&self, id: u32, queue: u16, ask: Ask) -> Option<u64> {
        let mut world = self.shared.lock();
        let device = world.devices.find(id)?;
        Some(world.ask(device, queue, ask, None))
    }

    /// What a client was answered, if it was.
    pub fn answer(&self, asking: u64) -> Option<Answer> {
        self.shared.lock().clients.answers.remove(&asking)
    }

    /// Clients begin to ask; answers the load's number.
    ///
    /// # Panics
    ///
    /// When there is no such device.
    pub fn load(&self, id: u32, load: Load) -> usize {
        let mut world = self.shared.lock();
        let device = world.devices.find(id).expect("the device was made");
        world.clients.loads.add(device, load)
    }

    /// The same clients ask for more, and remember what they wrote.
    pub fn load_on(&self, load: usize, requests: u64) {
        self.shared.lock().clients.loads.go_on(load, requests);
    }

    /// What came of a load so far.
    pub fn tally(&self, load: usize) -> Tally {
        self.shared.lock().clients.loads.tally(load)
    }

    /// From here on it is kept what is written to files outside of the simulated machine, so that
    /// the [power can be cut](Self::power_cut).
    pub fn may_lose_power(&self) {
        self.shared.lock().journal.is_kept = true;
    }

    /// From here on the files outside of the simulated machine play block devices, which discard
    /// ([`Space::Discarded`](crate::Space::Discarded)): what is discarded becomes a hole.
    pub fn has_disks_outside(&self) {
        self.shared.lock().disks_outside = true;
    }

    /// Cuts the power of the disk below the files outside: of what was written to them and was not
    /// durable, each sector is lost or not, whatever was written first. Durable is what was written
    /// before the sync was asked that succeeded, and a write that was to be durable by itself.
    /// Answers how many writes of a sector were lost.
    ///
    /// To cut the power of the whole machine, [`kill`](Self::kill) the server first and wait
    /// [until it is quiet](Self::until_quiet).
    ///
    /// # Panics
    ///
    /// When a file cannot be read or written any more.
    pub fn power_cut(&self) -> u64 {
        let World { journal, choices, .. } = &mut *self.shared.lock();
        journal.cut(choices).expect("the files are still there")
    }

    /// Whether the disk still holds what the clients of a load were promised, after a
    /// [power cut](Self::power_cut): writes that were answered with success, if they were to be
    /// durable (FUA, or any on a disk without a cache) or a flush was asked after that and
    /// succeeded. `read` fills a sector from the disk's bytes at an offset. Answers how many
    /// sectors hold something of which that was promised.
    ///
    /// # Errors
    ///
    /// What is not there, in words.
    pub fn promises_kept(
        &self,
        load: usize,
        read: impl FnMut(u64, &mut [u8]),
    ) -> Result<u64, String> {
        self.shared.lock().clients.loads.durable(load).check(read)
    }

    /// Waits until all that clients ask was answered.
    pub fn until_answered(&self) {
        self.first.block(Wait::Answers, None);
    }

    /// Lets others run for a while, none or long.
    pub fn give_way(&self) {
        self.first.block(Wait::Turn, None);
    }

    /// Lets something else happen; `false`: nothing ever will.
    pub fn until_other(&self) -> bool {
        self.first.block(Wait::Other, None);
        self.shared.lock().threads.others
    }

    /// Lets others run until nothing happens unless time passes.
    pub fn until_quiet(&self) {
        self.first.block(Wait::Quiet, None);
    }

    /// The state of device `id` (`UBLK_S_DEV_*`), if there is one.
    pub fn state(&self, id: u32) -> Option<u16> {
        let world = self.shared.lock();
        Some(world.devices.state(world.devices.find(id)?))
    }

    /// Whether device `id` has a disk that takes requests now.
    pub fn is_live(&self, id: u32) -> bool {
        self.state(id) == Some(sys::UBLK_S_DEV_LIVE)
    }

    /// What was seen of the program under test so far.
    pub fn audit(&self) -> Audit {
        self.shared.lock().audit.clone()
    }

    /// Why everything fails by now: nobody could go on.
    pub fn failure(&self) -> Option<String> {
        self.shared.lock().broken.clone()
    }

    /// What the program under test has left behind: open files, devices, threads. Lets everything
    /// that can happen happen first.
    pub fn leftovers(&self) -> Vec<String> {
        self.until_quiet();
        self.shared.lock().leftovers()
    }

    /// What is wrong whatever was done to the program under test: its mistakes, and clients that
    /// read what cannot be. (Commands that are refused and things left behind may be no fault of
    /// its own.)
    pub fn mistakes(&self) -> Vec<String> {
        let world = self.shared.lock();
        world.audit.mistakes.iter().cloned().chain(world.clients.loads.wrong()).collect()
    }

    /// What is wrong, if something is: a failure, a refused command, a mistake, a client that read
    /// what cannot be, something left behind.
    pub fn verdict(&self) -> Result<(), String> {
        let leftovers = self.leftovers();
        let world = self.shared.lock();
        let Audit { refused, mistakes, unmodelled, .. } = &world.audit;
        let wrong = world.clients.loads.wrong();
        let all = world.broken.iter().chain(refused).chain(mistakes).chain(unmodelled);
        let all: Vec<&str> = all.chain(&wrong).chain(&leftovers).map(String::as_str).collect();
        if all.is_empty() { Ok(()) } else { Err(all.join("\n")) }
    }

    /// Panics with the [`verdict`](Self::verdict), if there is one.
    #[track_caller]
    pub fn assert_clean(&self) {
        if let Err(verdict) = self.verdict() {
            panic!("{verdict}");
        }
    }

    /// A choice of the test's own: a number below `of`.
    pub fn choose(&self, of: usize) -> usize {
        let mut world = self.shared.lock();
        let chosen = world.choices.below(of);
        world.threads.learns(chosen);
        chosen
    }

    /// Whether all that clients asked was answered.
    pub fn all_answered(&self) -> bool {
        self.shared.lock().clients.all_answered()
    }

    /// While held, choices are not used up: the first one is taken. For the parts of a schedule
    /// that are not to be explored.
    pub fn hold_choices(&self, held: bool) {
        self.shared.lock().choices.hold(held);
    }

    /// Of the threads that can go on, the one that waits longest does; which one is no choice any
    /// more. Makes fewer schedules where threads share nothing.
    pub fn take_turns(&self) {
        self.shared.lock().threads.take_turns = true;
    }

    /// The state that it is in, as [`every_state`] tells states apart.
    pub fn fingerprint(&self) -> u64 {
        self.shared.lock().state()
    }

    /// Calls through the seam so far that can fail.
    pub fn calls(&self) -> u64 {
        self.shared.lock().calls
    }

    /// Control commands that the driver has begun so far, whoever sent them.
    pub fn commands(&self) -> u64 {
        self.shared.lock().devices.begun()
    }

    /// The choices, with what was chosen: for [`every_schedule`] and [`every_state`].
    pub fn into_choices(self) -> Choices {
        std::mem::replace(&mut self.shared.lock().choices, Choices::first())
    }
}
