//! [`World`]: where a script runs. Two kinds: the running kernel, with a thread for each task, and
//! a simulated one, where all tasks are called in turn.

use super::Wish;
use std::time::Duration;
use ublkit::Errno;
use ublkit::kernel::Kernel;

/// A kernel with tasks and clients, for one script.
pub trait World {
    type K: Kernel;

    /// Has a task do something, and its answer; `None` when it does not come back. The task is made
    /// when it is first needed.
    fn run<R, F>(&mut self, task: usize, work: F) -> Option<R>
    where
        R: Send + 'static,
        F: FnOnce(&Self::K) -> R + Send + 'static;

    /// Ends a task; whether it ended.
    fn end_task(&mut self, task: usize) -> bool;

    /// Whether the task can do something (was not ended).
    fn is_alive(&self, task: usize) -> bool;

    /// Lets time pass.
    fn sleep(&mut self, time: Duration);

    /// Has a task register its rights with a ring, by the number of the ring's file: no part of the
    /// seam, for servers have no use for it. `None` as from `run`.
    fn personality(&mut self, task: usize, ring: i32) -> Option<Result<u32, Errno>>;

    /// The time since some moment.
    fn now(&mut self) -> Duration;

    /// Begins a client's request to the disk of a device.
    fn client(&mut self, client: usize, device: u32, wish: Wish);

    /// Whether all clients are answered, or wait in the kernel.
    fn clients_wait(&mut self) -> bool;

    /// Clients close the disks that they only hold open.
    fn let_go(&mut self);

    /// The answers of clients that came since.
    fn answers(&mut self) -> Vec<(usize, Answer)>;
}

/// What a client learns.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Done; what was read.
    Done(Vec<u8>),
    Failed(Errno),
    /// The disk could not be opened.
    NoDisk,
}
