//! [`Shared`]: the machine as its tasks share it, one of which runs at a time.

use super::world::World;
use core::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The machine, shared by its tasks.
pub(super) struct Shared {
    world: Mutex<World>,
    /// The threads that play the simulated ones.
    threads: Mutex<Vec<(usize, std::thread::JoinHandle<()>)>>,
}

impl Shared {
    pub(super) fn new(world: World) -> Self {
        Self { world: Mutex::new(world), threads: Mutex::default() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, World> {
        // A panic inside is a defect of the simulation; whoever looks next may as well go on.
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn keep(&self, thread: usize, handle: std::thread::JoinHandle<()>) {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push((thread, handle));
    }

    /// Waits until the threads that have ended in the simulation have really ended.
    pub(super) fn join_ended(&self) {
        let mut threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        threads.retain(|(thread, _)| self.lock().threads.has_ended(*thread));
        for (_, handle) in threads {
            let _ = handle.join(); // a panic was reported by its hook
        }
    }

    /// Lets another thread run, if another is chosen; returns when this one is.
    pub(super) fn give_way<'a>(
        &'a self,
        mut world: MutexGuard<'a, World>,
        me: usize,
    ) -> MutexGuard<'a, World> {
        world.ends_step();
        let Some(next) = world.pick() else { return world };
        world.threads.run(next);
        let mut world = self.await_turn(world, me);
        world.looks_around();
        world
    }

    pub(super) fn await_turn<'a>(
        &'a self,
        mut world: MutexGuard<'a, World>,
        me: usize,
    ) -> MutexGuard<'a, World> {
        let wake = world.threads.wake(me);
        while world.threads.running() != me {
            world = wake.wait(world).unwrap_or_else(PoisonError::into_inner);
        }
        world
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sim").finish_non_exhaustive()
    }
}
