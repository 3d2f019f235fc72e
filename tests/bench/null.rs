//! A null disk of the bench's own, for what `ublkit serve null` is not: one whose data stays with
//! the kernel, and one that does something for nothing.

use crate::contenders::MIB;
use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use ublkit::{
    Access, Builder, Completion, DataPath, Errno, FileIndex, Geometry, Handler, Io, Needs,
    Operation, QueueInfo, Step, Target,
};

/// What reads and writes of data that stays with the kernel are done on: a read must be filled.
const NOWHERE: &str = "/dev/zero";

/// A disk that keeps nothing and does so much work for nothing.
#[derive(Clone, Debug)]
pub struct Null {
    /// Where data stays with the kernel.
    file: Option<Arc<OwnedFd>>,
    work: u32,
}

impl Null {
    /// To be served on a path.
    pub fn new(path: DataPath, work: u32) -> Result<Self, String> {
        let open = || -> Result<File, std::io::Error> {
            OpenOptions::new().read(true).write(true).open(NOWHERE)
        };
        let file = path.is_zero_copy().then(open).transpose();
        let file = file.map_err(|error| format!("{NOWHERE}: {error}"))?;
        Ok(Self { file: file.map(|file| Arc::new(file.into())), work })
    }
}

impl Target for Null {
    type Handler = Self;

    fn geometry(&self) -> Geometry {
        Geometry::new(u64::from(MIB) << 20)
    }

    fn needs(&self) -> Needs {
        let files: Vec<_> = self.file.iter().cloned().collect();
        let operations = u8::from(self.file.is_some());
        Needs { access: Access::Operations, operations, files, ..Needs::default() }
    }

    fn handler(&self, _queue: &QueueInfo) -> Result<Self, Errno> {
        Ok(self.clone())
    }
}

impl Handler for Null {
    fn start(&mut self, io: &mut Io<'_>) -> Step {
        (0..self.work).for_each(|round| _ = black_box(round));
        if self.file.is_none() {
            return Step::Done(Ok(()));
        }
        let (all, file) = (0..io.request().data_bytes(), FileIndex(0));
        let asked = match io.request().operation {
            Operation::Read => io.read(file, 0, all, 0),
            Operation::Write { .. } => io.write(file, 0, all, false, 0),
            _ => return Step::Done(Ok(())),
        };
        asked.map_or_else(|errno| Step::Done(Err(errno)), |()| Step::Pending)
    }

    fn resume(&mut self, _io: &mut Io<'_>, done: Completion) -> Step {
        Step::Done(done.result.map(drop))
    }
}

/// The role: `null PATH BATCHES WORK QUEUES`, until somebody stops the device.
pub fn serve(words: &[String]) -> Result<(), String> {
    let [path, batches, work, queues] = words else { return Err("four words".into()) };
    let path: DataPath = path.parse()?;
    let work = work.parse().map_err(|_| "no work")?;
    let queues = queues.parse().map_err(|_| "no queues")?;
    let builder = Builder::new().data_path(path).batches(batches == "yes");
    let builder = builder.queues(queues).metered(true);
    let server = builder.serve(Null::new(path, work)?).map_err(|error| error.to_string())?;
    server.wait();
    server.stop().map(drop).map_err(|error| error.to_string())
}
