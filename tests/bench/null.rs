//! A null disk of the bench's own, for what `ublkit serve null` is not: one that looks at no data,
//! so that it can stay with the kernel, and one that does something for nothing.

use crate::disk::MIB;
use crate::guest::Outcome;
use std::hint::black_box;
use ublkit::{
    Access, Builder, DataPath, Errno, Geometry, Handler, Io, Needs, QueueInfo, Step, Target,
};

/// A disk that keeps nothing and does so much work for nothing.
#[derive(Clone, Copy, Debug)]
struct Null {
    work: u32,
}

impl Target for Null {
    type Handler = Self;

    fn geometry(&self) -> Geometry {
        Geometry::new(u64::from(MIB) << 20)
    }

    fn needs(&self) -> Needs {
        Needs { access: Access::Operations, ..Needs::default() }
    }

    fn handler(&self, _queue: &QueueInfo) -> Result<Self, Errno> {
        Ok(*self)
    }
}

impl Handler for Null {
    fn start(&mut self, _io: &mut Io<'_>) -> Step {
        (0..self.work).for_each(|round| _ = black_box(round));
        Step::Done(Ok(()))
    }
}

/// The role: `null PATH BATCHES WORK QUEUES`, until somebody stops the device.
pub fn serve(words: &[String]) -> Outcome<()> {
    let [path, batches, work, queues] = words else { return Err("four words".into()) };
    let path: DataPath = path.parse()?;
    let work = work.parse().map_err(|_| "no work")?;
    let queues = queues.parse().map_err(|_| "no queues")?;
    let builder = Builder::new().data_path(path).batches(batches == "yes");
    let builder = builder.queues(queues).metered(true);
    let server = builder.serve(Null { work }).map_err(|error| error.to_string())?;
    server.wait();
    server.stop().map(drop).map_err(|error| error.to_string())
}
