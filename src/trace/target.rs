//! [`TracedTarget`]: a backend whose operations are told.

use super::event::{Outcome, What};
use super::voice::Voice;
use crate::backend::Target;
use crate::data_path::DataPath;
use crate::errno::Errno;
use crate::geometry::Geometry;
use crate::handler::{Completion, Handler, Io, Step};
use crate::kernel::Kernel;
use crate::needs::{Needs, QueueInfo};
use core::time::Duration;

/// What another target serves; each call to its handlers is told when it ends. Without a wish its
/// data moves in copy mode, where all of it can be seen; on other paths some of it, or nothing.
#[derive(Debug)]
pub struct TracedTarget<T, K: Kernel> {
    inner: T,
    voice: Voice<K>,
}

/// A handler of a [`TracedTarget`].
#[derive(Debug)]
pub struct TracedHandler<H, K: Kernel> {
    inner: H,
    voice: Voice<K>,
    queue: u16,
}

impl<T: Target, K: Kernel> TracedTarget<T, K> {
    pub(super) fn new(inner: T, voice: Voice<K>) -> Self {
        Self { inner, voice }
    }
}

impl<T: Target, K: Kernel> Target for TracedTarget<T, K> {
    type Handler = TracedHandler<T::Handler, K>;

    fn geometry(&self) -> Geometry {
        self.inner.geometry()
    }

    /// The data shall be where the tracer can look at it: in the queue's buffer.
    fn needs(&self) -> Needs {
        Needs { data_path: Some(DataPath::Copy), ..self.inner.needs() }
    }

    fn handler(&self, queue: &QueueInfo) -> Result<Self::Handler, Errno> {
        let inner = self.inner.handler(queue)?;
        let task = std::thread::current().name().unwrap_or("a queue").into();
        let voice = Voice { task, ..self.voice.clone() };
        Ok(TracedHandler { inner, voice, queue: queue.queue })
    }
}

/// A call under way. A panic ends it, too.
struct Call<'a, K: Kernel> {
    voice: &'a Voice<K>,
    queue: u16,
    tag: u16,
    request: crate::Request,
    begun: Duration,
    outcome: Outcome,
}

impl<K: Kernel> Drop for Call<'_, K> {
    fn drop(&mut self) {
        let Self { queue, tag, request, begun, outcome, .. } = *self;
        self.voice.say(|now| {
            let took = now.saturating_sub(begun);
            What::Operation { queue, tag, request, outcome, took }
        });
    }
}

impl<H, K: Kernel> TracedHandler<H, K> {
    fn call(&mut self, io: &mut Io<'_>, call: impl FnOnce(&mut H, &mut Io<'_>) -> Step) -> Step {
        let Self { inner, voice, queue } = self;
        let (queue, tag, request) = (*queue, io.tag(), io.request());
        let begun = voice.now();
        let mut told = Call { voice, queue, tag, request, begun, outcome: Outcome::Panicked };
        let step = call(inner, io);
        told.outcome = match step {
            Step::Done(result) => Outcome::Done(result),
            Step::Pending => Outcome::Pending,
        };
        step
    }
}

impl<H: Handler, K: Kernel> Handler for TracedHandler<H, K> {
    fn start(&mut self, io: &mut Io<'_>) -> Step {
        self.call(io, |inner, io| inner.start(io))
    }

    fn resume(&mut self, io: &mut Io<'_>, done: Completion) -> Step {
        self.call(io, |inner, io| inner.resume(io, done))
    }
}
