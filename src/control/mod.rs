//! The control device: one typed method for every control command, each with a deadline.

mod commands;
mod info;
mod payload;

pub use commands::DeviceControl;
#[cfg(all(test, feature = "sim"))]
pub(crate) use commands::odd_index;
pub use info::{DeviceInfo, DeviceState};

use crate::errno::Errno;
use crate::error::Error;
use crate::kernel::Kernel;
use crate::ring::{FileName, Ring, RingError, RingPlan, Sqe128, broken};
use crate::shared::SharedMapping;
use core::time::Duration;
use payload::Payload;
use std::sync::Arc;
use ublkit_sys::ublk::ublksrv_ctrl_cmd;

/// How long a control command may take unless said otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Commands that may wait for the kernel at one time: all but one of them given up by their caller.
const CAPACITY: u32 = 16;

/// `dev_id` of a command that is about no device, or about one that the kernel shall number.
const NO_DEVICE: u32 = u32::MAX;

/// The control device, `/dev/ublk-control`, and a ring of its own to command it by.
///
/// It belongs to no thread, but to one at a time. Do not use it on a thread that serves I/O: many
/// commands wait for that thread's answers.
///
/// A command that is not answered in time is given up, not forgotten: its memory stays until its
/// completion, or is leaked when the `Control` is dropped first. What it wanted may still happen.
#[derive(Debug)]
pub struct Control<K: Kernel> {
    ring: Ring<K, Sqe128>,
    name: FileName,
    waiting: Vec<Waiting>,
    /// Why the ring cannot be used any more.
    broken: Option<RingError>,
    _file: K::File,
}

/// A command that the kernel has not completed.
#[derive(Debug)]
struct Waiting {
    /// The number of its SQE, and what that carries.
    id: u64,
    payload: Payload,
}

/// A command as the header calls it, and its opcode.
type Name = (&'static str, u32);

/// One control command, to be sent.
#[derive(Debug)]
struct Command<'a> {
    name: Name,
    device: u32,
    number: u64,
    path: &'a [u8],
    data: &'a [u8],
    /// Memory that `data` names.
    named: Option<Arc<SharedMapping>>,
}

/// What the kernel answered.
struct Answer {
    result: u32,
    data: Vec<u8>,
}

impl<K: Kernel> Control<K> {
    /// Opens the control device and makes a ring. Does not block.
    ///
    /// # Errors
    ///
    /// [`Error::Open`] (`ENOENT`: the driver is not loaded; `EACCES`), [`Error::Ring`].
    pub fn open(kernel: K) -> Result<Self, Error> {
        let file = kernel
            .open(c"/dev/ublk-control")
            .map_err(|errno| Error::Open { path: "/dev/ublk-control".into(), errno })?;
        let plan = RingPlan {
            submissions: CAPACITY,
            completions: CAPACITY,
            one_task: false,
            tells: false,
        };
        let name = FileName::Number(kernel.number(&file));
        let ring = Ring::new(kernel, plan)?;
        // By itself io_uring allows a task as many blocking commands as its first ring has entries,
        // or four a CPU: a STOP_DEV must not queue behind the START_DEV that it shall end.
        ring.allow_blocking(CAPACITY);
        Ok(Self { ring, name, waiting: Vec::new(), broken: None, _file: file })
    }

    /// How many commands were given up and may still happen.
    pub fn given_up(&self) -> usize {
        self.waiting.len()
    }

    /// Whether the ring failed, so that every command will.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    pub(crate) fn kernel(&self) -> &K {
        self.ring.kernel()
    }

    /// Sends a command and waits for its completion until `timeout` has passed.
    fn run(&mut self, command: Command<'_>, timeout: Duration) -> Result<Answer, Error> {
        let device = (command.device != NO_DEVICE).then_some(command.device);
        let what = command.name.0;
        let failed = |errno| Error::Command { command: what, device, errno, why: None };
        if let Some(error) = self.broken {
            return Err(error.into());
        }
        let deadline = self.kernel().now().saturating_add(timeout);
        let id = self.send(command).map_err(|error| self.note(error, failed))?;
        let answer = self.wait(id, deadline).map_err(|error| self.note(error.into(), failed))?;
        let (result, data) = answer.ok_or(Error::Timeout { what, device, after: timeout })?;
        let result = Errno::from_result(result).map_err(failed)?;
        Ok(Answer { result, data })
    }

    /// A ring that failed is not used again: what is queued in it must not be sent late.
    fn note(&mut self, error: SendError, failed: impl Fn(Errno) -> Error) -> Error {
        match error {
            SendError::Payload(errno) => failed(errno),
            SendError::Crowd(count) => crowd(count),
            SendError::Ring(error) => {
                self.broken = Some(error);
                error.into()
            }
        }
    }

    /// Queues a command; its memory waits for its completion from here on.
    fn send(&mut self, command: Command<'_>) -> Result<u64, SendError> {
        while let Some(cqe) = self.ring.pop()? {
            self.end(cqe.user_data)?; // of a command that was given up
        }
        if self.waiting.len() >= CAPACITY as usize {
            return Err(SendError::Crowd(self.waiting.len()));
        }
        let payload =
            Payload::new(command.path, command.data, command.named).map_err(SendError::Payload)?;
        let words = ublksrv_ctrl_cmd {
            dev_id: command.device,
            queue_id: u16::MAX,
            len: payload.len_bytes(),
            addr: payload.address().get(),
            data: [command.number],
            dev_path_len: payload.path_bytes(),
            ..ublksrv_ctrl_cmd::default()
        };
        let id = self.ring.submissions().number();
        self.waiting.push(Waiting { id, payload });
        self.ring.submissions().push(Sqe128::control(self.name, command.name.1, &words, id))?;
        Ok(id)
    }

    /// Waits for the completion of command `id`: its result and its data, or `None` in time. By
    /// then the kernel has taken it: what was given up must not be sent late.
    fn wait(&mut self, id: u64, deadline: Duration) -> Result<Option<(i32, Vec<u8>)>, RingError> {
        loop {
            self.ring.wait(Some(deadline))?;
            while let Some(cqe) = self.ring.pop()? {
                let data = self.end(cqe.user_data)?;
                if cqe.user_data == id {
                    return Ok(Some((cqe.result, data)));
                }
            }
            if id < self.ring.taken() && self.kernel().now() >= deadline {
                return Ok(None);
            }
        }
    }

    /// Takes a completed command's memory back. The kernel may still use that of one that it has
    /// not taken.
    fn end(&mut self, id: u64) -> Result<Vec<u8>, RingError> {
        let index = self.waiting.iter().position(|waiting| waiting.id == id);
        match index.filter(|_| id < self.ring.taken()) {
            Some(index) => Ok(self.waiting.swap_remove(index).payload.ended()),
            None => Err(RingError::Impossible(broken::UNKNOWN)),
        }
    }
}

#[cfg(any(test, fuzzing))]
impl<K: Kernel> Control<K> {
    /// A kernel that is played uses nothing any more, so that nothing need be leaked.
    pub(crate) fn end_all(&mut self) {
        for waiting in self.waiting.drain(..) {
            waiting.payload.ended();
        }
    }
}

/// Why a command could not be sent.
enum SendError {
    /// Its memory could not be had.
    Payload(Errno),
    /// So many commands wait already.
    Crowd(usize),
    /// The ring failed.
    Ring(RingError),
}

impl From<RingError> for SendError {
    fn from(error: RingError) -> Self {
        Self::Ring(error)
    }
}

/// So many commands are under way that no more are sent.
pub(crate) fn crowd(count: usize) -> Error {
    Error::Refused(format!(
        "{count} control commands were never answered, so no more are sent; the kernel's log \
         (dmesg) may say why"
    ))
}
