//! [`Paced`]: has a backend work, and answer, at the moments of a recording.

use crate::backend::Target;
use crate::errno::Errno;
use crate::geometry::Geometry;
use crate::handler::{Completion, Handler, Io, Step};
use crate::kernel::Kernel;
use crate::needs::{Needs, QueueInfo};
use crate::sim::Task;
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// When the request of a slot is to be done, and answered, on the simulation's clock.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moments {
    pub(super) done: Duration,
    pub(super) answered: Duration,
}

/// The moments of the requests under way, by queue and tag.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan(Arc<Mutex<BTreeMap<(u16, u16), Moments>>>);

impl Plan {
    pub(super) fn set(&self, queue: u16, tag: u16, moments: Moments) {
        let mut plan = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        plan.insert((queue, tag), moments);
    }

    fn get(&self, queue: u16, tag: u16) -> Moments {
        let plan = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        plan.get(&(queue, tag)).copied().unwrap_or_default()
    }
}

/// A target that keeps to a plan.
pub(super) struct Paced<T> {
    pub(super) inner: T,
    pub(super) plan: Plan,
    pub(super) clock: Task,
}

/// How far the request of a slot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The backend is not asked yet.
    Early,
    /// The backend has it, and waits for something of its own.
    Asked,
    /// This is the answer.
    Done(Result<(), Errno>),
}

pub(super) struct PacedHandler<H> {
    inner: H,
    plan: Plan,
    clock: Task,
    queue: u16,
    stages: BTreeMap<u16, Stage>,
}

impl<T: Target> Target for Paced<T> {
    type Handler = PacedHandler<T::Handler>;

    fn geometry(&self) -> Geometry {
        self.inner.geometry()
    }

    fn needs(&self) -> Needs {
        let inner = self.inner.needs();
        Needs { operations: inner.operations.max(1), ..inner } // a delay, when nothing else is
    }

    fn handler(&self, queue: &QueueInfo) -> Result<Self::Handler, Errno> {
        let (plan, clock) = (self.plan.clone(), self.clock.clone());
        let inner = self.inner.handler(queue)?;
        let queue = queue.queue;
        Ok(PacedHandler { inner, plan, clock, queue, stages: BTreeMap::new() })
    }
}

impl<H: Handler> PacedHandler<H> {
    /// Comes back at a moment; `false` when it is now, or gone by.
    fn waits(&self, io: &mut Io<'_>, moment: Duration) -> bool {
        let left = moment.saturating_sub(self.clock.now());
        !left.is_zero() && io.delay(left, 0).is_ok()
    }

    fn ask(&mut self, io: &mut Io<'_>) -> Step {
        self.stages.insert(io.tag(), Stage::Asked); // also should it panic
        let step = self.inner.start(io);
        self.hold(io, step)
    }

    /// Keeps an answer until its moment.
    fn hold(&mut self, io: &mut Io<'_>, step: Step) -> Step {
        let Step::Done(answer) = step else { return step };
        self.stages.insert(io.tag(), Stage::Done(answer));
        let moment = self.plan.get(self.queue, io.tag()).answered;
        if self.waits(io, moment) { Step::Pending } else { step }
    }
}

impl<H: Handler> Handler for PacedHandler<H> {
    fn start(&mut self, io: &mut Io<'_>) -> Step {
        self.stages.insert(io.tag(), Stage::Early);
        let moment = self.plan.get(self.queue, io.tag()).done;
        if self.waits(io, moment) { Step::Pending } else { self.ask(io) }
    }

    fn resume(&mut self, io: &mut Io<'_>, done: Completion) -> Step {
        match self.stages.get(&io.tag()) {
            Some(Stage::Early) => self.ask(io),
            Some(Stage::Done(answer)) => Step::Done(*answer),
            Some(Stage::Asked) | None => {
                let step = self.inner.resume(io, done);
                self.hold(io, step)
            }
        }
    }
}
