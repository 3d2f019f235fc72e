//! [`Task`]: the seam, answered by the simulated machine.
#![expect(unsafe_code, reason = "the seam is an unsafe trait; docs/safety.md, island `sim`")]

use super::schedule::Wait;
use super::shared::Shared;
use super::uring::{Entered, Name};
use super::user::Pages;
use super::world::{FileId, Kind, World};
use crate::errno::Errno;
use crate::kernel::{Access, Destination, Kernel, Memory, Registration, RingName, Source};
use core::ffi::CStr;
use core::ptr::NonNull;
use core::time::Duration;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, MutexGuard};
use ublkit_sys::io_uring::io_uring_params;

/// Whose calls these are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Calls {
    /// Those of a queue that serves.
    OfServing,
    Others,
}

/// The simulated kernel, as one task of a simulated process sees it.
#[derive(Clone, Debug)]
pub struct Task {
    shared: Arc<Shared>,
    id: usize,
}

impl Task {
    pub(super) fn new(shared: Arc<Shared>, id: usize) -> Self {
        Self { shared, id }
    }

    pub(super) fn id(&self) -> usize {
        self.id
    }

    /// Waits; whether what was waited for is there (or nothing ever will be), and not just time up.
    pub(super) fn block(&self, wait: Wait, timeout: Option<Duration>) {
        let mut world = self.shared.lock();
        let me = world.tasks[self.id].thread;
        let deadline = timeout.map(|timeout| world.now.saturating_add(timeout));
        world.threads.set_waiting(me, wait, deadline);
        world.threads.shares();
        self.shared.give_way(world, me).threads.shares();
    }

    /// A step uses memory that threads share, though it makes no call that says so: the disk that
    /// a handler serves, say. For those who try [every state](super::every_state).
    pub fn shares(&self) {
        self.shared.lock().threads.shares();
    }

    /// Whether calls fail: the process was killed, or nobody could go on.
    fn is_dead(&self, world: &World) -> bool {
        world.broken.is_some() || world.processes[world.tasks[self.id].process].dead
    }

    /// Locks the world for a call, which may be preempted first.
    fn call(&self, calls: Calls) -> Result<MutexGuard<'_, World>, Errno> {
        let mut world = self.shared.lock();
        let times = u32::from(world.faults.preempt);
        if times > 0 && world.broken.is_none() && world.choices.chance(times, 256) {
            let me = world.tasks[self.id].thread;
            world.threads.set_waiting(me, Wait::Turn, None);
            world = self.shared.give_way(world, me);
        }
        if self.is_dead(&world) {
            world.hears(Err(Errno::EIO));
            return Err(Errno::EIO);
        }
        if calls == Calls::Others {
            world.threads.shares();
        }
        let number = world.calls;
        world.calls += 1;
        match world.faults.fail_call {
            Some((call, errno)) if call == number => Err(errno),
            _ => Ok(world),
        }
    }

    /// The same for a call that may be refused for good.
    fn refusable(&self) -> Result<MutexGuard<'_, World>, Errno> {
        let mut world = self.call(Calls::Others)?;
        let times = u32::from(world.faults.refuse);
        if world.choices.chance(times, 256) { Err(Errno::ENOMEM) } else { Ok(world) }
    }

    fn file(&self, id: FileId) -> File {
        File { shared: Arc::clone(&self.shared), id }
    }

    fn process_of(&self, world: &World) -> usize {
        world.tasks[self.id].process
    }

    /// Waits in `io_uring_enter`, and says why the wait ended.
    fn wait_for_completions(
        &self,
        entered: Entered,
        want: u32,
        deadline: Option<Duration>,
    ) -> Result<u32, Errno> {
        let Entered { ring, taken, .. } = entered;
        let mut world = self.shared.lock();
        let me = world.tasks[self.id].thread;
        let want = want.min(world.most_completions(ring));
        loop {
            world.come_by(self.id, ring);
            let ready = world.completions(ring);
            if ready >= want {
                world.spins = if taken > 0 { 0 } else { world.spins + 1 };
                if world.spins == SPINS {
                    world.fail(format!("a task enters a ring {SPINS} times, and takes nothing"));
                }
                return Ok(taken);
            }
            world.spins = 0;
            let hidden = taken > 0 || ready > 0;
            let faults = world.faults;
            if world.choices.chance(faults.interrupt.into(), 256) {
                return if hidden { Ok(taken) } else { Err(Errno::EINTR) };
            }
            if world.choices.chance(faults.wake_early.into(), 256) {
                return Ok(taken);
            }
            if deadline.is_some_and(|deadline| world.now >= deadline) {
                return if hidden { Ok(taken) } else { Err(Errno::ETIME) };
            }
            world.threads.set_waiting(me, Wait::Completions(ring, want), deadline);
            world = self.shared.give_way(world, me);
            if self.is_dead(&world) {
                return Err(Errno::EIO);
            }
        }
    }

    /// A thread's life.
    fn live<W: FnOnce(Self)>(self, thread: usize, work: W) {
        self.shared.await_turn(self.shared.lock(), thread).looks_around();
        let (shared, id) = (Arc::clone(&self.shared), self.id);
        // A panic was reported by its hook, and ends this thread alone.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(self))) {
            std::mem::forget(panic);
        }
        let mut world = shared.lock();
        world.threads.shares();
        world.ends_step();
        world.threads.set_ended(thread);
        world.end_task(id);
        if let Some(next) = world.pick() {
            world.threads.run(next);
        }
    }
}

/// An open file of a simulated process. Closed when dropped.
#[derive(Debug)]
pub struct File {
    shared: Arc<Shared>,
    id: FileId,
}

impl Drop for File {
    fn drop(&mut self) {
        self.shared.lock().close(self.id);
    }
}

/// Memory that a simulated process shares with the simulated kernel.
#[derive(Debug)]
pub struct Mapping {
    shared: Arc<Shared>,
    file: FileId,
    pages: Arc<Pages>,
    len_bytes: usize,
}

// SAFETY: the pages live as long as the mapping, are page aligned and that long (`map` checked).
unsafe impl Memory for Mapping {
    fn base(&self) -> NonNull<u8> {
        self.pages.base()
    }

    fn len_bytes(&self) -> usize {
        self.len_bytes
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        self.shared.lock().unmap(self.file);
    }
}

/// A thread of a simulated process.
#[derive(Debug)]
pub struct Thread {
    id: usize,
}

// SAFETY: mappings are pages that live as long as they do. The simulated kernel touches those, and
// by address (`user`) only what SQEs name, from their submission to their completion.
unsafe impl Kernel for Task {
    type File = File;
    type Mapping = Mapping;
    type Thread = Thread;

    fn task(&self) -> Self {
        let mut world = self.shared.lock();
        let task = world.tasks[self.id];
        let id = world.add_task(task.process, task.thread);
        world.tasks[id].admin = task.admin;
        drop(world);
        Self { shared: Arc::clone(&self.shared), id }
    }

    fn spawn<W>(&self, name: String, work: W) -> Result<Thread, Errno>
    where
        W: FnOnce(Self) + Send + 'static,
    {
        let mut world = self.refusable()?;
        let process = self.process_of(&world);
        let thread = world.threads.add(process, name.clone());
        let task = Self::new(Arc::clone(&self.shared), world.add_task(process, thread));
        drop(world);
        let made = std::thread::Builder::new().name(name).spawn(move || task.live(thread, work));
        match made {
            Ok(handle) => self.shared.keep(thread, handle),
            Err(error) => {
                self.shared.lock().threads.set_ended(thread);
                return Err(error.into());
            }
        }
        Ok(Thread { id: thread })
    }

    fn join(&self, thread: &mut Thread, timeout: Duration) -> bool {
        self.block(Wait::End(thread.id), Some(timeout));
        self.shared.lock().threads.has_ended(thread.id)
    }

    fn process(&self) -> u32 {
        let world = self.shared.lock();
        world.processes[self.process_of(&world)].pid
    }

    fn open(&self, path: &CStr) -> Result<File, Errno> {
        let mut world = self.refusable()?;
        let process = self.process_of(&world);
        let path = path.to_str().map_err(|_| Errno::ENOENT)?;
        let id = match path.strip_prefix("/dev/ublkc") {
            // Open to all, as where an administrator let ordinary users make devices.
            _ if path == "/dev/ublk-control" => world.open_file(process, Kind::Control),
            Some(number) => {
                let number = number.parse().map_err(|_| Errno::ENOENT)?;
                world.open_char_device(process, number)?
            }
            None => return Err(Errno::ENOENT),
        };
        Ok(self.file(id))
    }

    fn event(&self) -> Result<File, Errno> {
        let mut world = self.refusable()?;
        let process = self.process_of(&world);
        Ok(self.file(world.open_file(process, Kind::Event(false))))
    }

    fn signal(&self, event: &File) {
        self.shares();
        self.shared.lock().set_readable(event.id, true);
    }

    fn clear(&self, event: &File) {
        self.shares();
        self.shared.lock().set_readable(event.id, false);
    }

    fn wait(&self, event: &File, timeout: Option<Duration>) -> bool {
        self.block(Wait::Event(event.id), timeout);
        let world = self.shared.lock();
        let kind = world.files.get(&event.id).map(|file| &file.kind);
        matches!(kind, Some(Kind::Event(true)))
    }

    fn ring_setup(&self, entries: u32, params: &mut io_uring_params) -> Result<File, Errno> {
        let mut world = self.refusable()?;
        Ok(self.file(world.ring_setup(self.id, entries, params)?))
    }

    fn ring_enter(
        &self,
        ring: RingName<'_, File>,
        to_submit: u32,
        min_complete: u32,
        flags: u32,
        timeout: Option<Duration>,
    ) -> Result<u32, Errno> {
        let mut world = self.call(Calls::OfServing)?;
        let name = match ring {
            RingName::File(file) => Name::File(file.id),
            RingName::Registered(index) => Name::Registered(index),
        };
        let entered = world.enter(self.id, name, to_submit, flags);
        let entered = entered.inspect_err(|errno| world.hears(Err(*errno)))?;
        let deadline = timeout.map(|timeout| world.now.saturating_add(timeout));
        drop(world);
        let answer = if entered.waits {
            self.wait_for_completions(entered, min_complete, deadline)
        } else {
            Ok(entered.taken)
        };
        self.shared.lock().hears(answer.map(u64::from));
        answer
    }

    fn ring_register(&self, ring: &File, what: Registration<'_>) -> Result<u32, Errno> {
        let mut world = self.call(Calls::Others)?;
        let times = u32::from(world.faults.refuse_registration);
        // Undoing does not fail, and a queue that is served in batches needs its buffers.
        let is_spared =
            matches!(what, Registration::UnregisterRingFd(_) | Registration::BufferRing { .. });
        if !is_spared && world.choices.chance(times, 256) {
            return Err(Errno::EINVAL);
        }
        world.register(self.id, ring.id, &what)
    }

    fn map(
        &self,
        file: &File,
        offset_bytes: u64,
        len_bytes: usize,
        access: Access,
    ) -> Result<Mapping, Errno> {
        let mut world = self.refusable()?;
        let process = self.process_of(&world);
        let pages = match world.file(process, file.id)?.kind {
            Kind::Ring(_) => world.map_ring(file.id, offset_bytes, len_bytes)?,
            Kind::Char(device) => {
                let writable = access == Access::ReadWrite;
                world.map_descriptors(process, device, offset_bytes, len_bytes, writable)?
            }
            Kind::Control | Kind::Event(_) => return Err(Errno::ENODEV),
        };
        if len_bytes > pages.len_bytes() {
            return Err(Errno::EINVAL);
        }
        world.hold(file.id);
        Ok(Mapping { shared: Arc::clone(&self.shared), file: file.id, pages, len_bytes })
    }

    fn read_at(&self, file: &File, data: Destination<'_>, offset: u64) -> Result<usize, Errno> {
        let mut world = self.call(Calls::OfServing)?;
        let process = self.process_of(&world);
        let answer = match world.file(process, file.id)?.kind {
            Kind::Char(device) => {
                world.read_data(device, offset, (address(data.start()), data.len_bytes()))
            }
            _ => Err(Errno::EINVAL),
        };
        world.hears(answer.map(|bytes| bytes as u64));
        answer
    }

    fn write_at(&self, file: &File, data: Source<'_>, offset: u64) -> Result<usize, Errno> {
        let mut world = self.call(Calls::OfServing)?;
        let process = self.process_of(&world);
        let answer = match world.file(process, file.id)?.kind {
            Kind::Char(device) => {
                world.write_data(device, offset, (address(data.start()), data.len_bytes()))
            }
            _ => Err(Errno::EINVAL),
        };
        world.hears(answer.map(|bytes| bytes as u64));
        answer
    }

    fn serves_a_disk(&self) {}

    fn runs_on(&self, _: &[u32]) -> Result<(), Errno> {
        Ok(())
    }

    fn number(&self, file: &File) -> i32 {
        file.id
    }

    fn now(&self) -> Duration {
        let mut world = self.shared.lock();
        if self.is_dead(&world) {
            world.late_looks = world.late_looks.saturating_add(1);
            return world.now.saturating_add(LONG.saturating_mul(world.late_looks));
        }
        world.now
    }

    fn sleep(&self, time: Duration) {
        self.block(Wait::Time, Some(time));
    }

    fn give_way(&self) {
        self.sleep(Duration::from_micros(1));
    }
}

fn address(start: NonNull<u8>) -> u64 {
    start.as_ptr().expose_provenance() as u64
}

/// More calls in a row that come to nothing than a program makes that looks at its completions.
const SPINS: u32 = 100_000;

/// Later than any deadline, for those who do not live to see one: each of their looks at the clock
/// is so much later than the last.
const LONG: Duration = Duration::from_secs(1 << 40);
