//! The control device: one typed method for every control command, each with a deadline.

mod commands;
mod info;
mod payload;

pub use commands::DeviceControl;
pub use info::{DeviceInfo, DeviceState};

use crate::errno::Errno;
use crate::error::Error;
use crate::kernel::Kernel;
use crate::ring::{FileName, Ring, RingPlan, Sqe128};
use core::time::Duration;
use payload::Payload;
use ublkit_sys::ublk::ublksrv_ctrl_cmd;

/// How long a control command may take unless said otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Commands that may wait for the kernel at one time: all but one of them given up by their caller.
/// At least 8, for io_uring allows a task as many workers for blocking commands as its first ring
/// has entries, and a STOP_DEV must not queue behind the START_DEV that it shall end.
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
    next_id: u64,
    _file: K::File,
}

/// A command that the kernel has not completed.
#[derive(Debug)]
struct Waiting {
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
        let plan = RingPlan { submissions: CAPACITY, completions: CAPACITY, one_task: false };
        let name = FileName::Number(kernel.number(&file));
        let ring = Ring::new(kernel, plan)?;
        Ok(Self { ring, name, waiting: Vec::new(), next_id: 0, _file: file })
    }

    /// How many commands were given up and may still happen.
    pub fn given_up(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn kernel(&self) -> &K {
        self.ring.kernel()
    }

    /// Sends a command and waits for its completion until `timeout` has passed.
    fn run(&mut self, command: &Command<'_>, timeout: Duration) -> Result<Answer, Error> {
        let device = (command.device != NO_DEVICE).then_some(command.device);
        let (what, op) = command.name;
        let failed = |errno| Error::Command { command: what, device, errno, why: None };
        while let Some(cqe) = self.ring.pop()? {
            self.end(cqe.user_data); // of a command that was given up
        }
        if self.waiting.len() >= CAPACITY as usize {
            return Err(Error::Refused(format!(
                "{} control commands were never answered, so no more are sent",
                self.waiting.len()
            )));
        }
        let payload = Payload::new(command.path, command.data).map_err(failed)?;
        let words = ublksrv_ctrl_cmd {
            dev_id: command.device,
            queue_id: u16::MAX,
            len: payload.len_bytes(),
            addr: payload.address().get(),
            data: [command.number],
            dev_path_len: payload.path_bytes(),
            ..ublksrv_ctrl_cmd::default()
        };
        let id = self.next_id;
        self.next_id += 1;
        self.waiting.push(Waiting { id, payload });
        self.ring.submissions().push(Sqe128::control(self.name, op, &words, id))?;
        let deadline = self.kernel().now() + timeout;
        loop {
            self.ring.wait(Some(deadline))?;
            while let Some(cqe) = self.ring.pop()? {
                let data = self.end(cqe.user_data);
                if cqe.user_data == id {
                    let result = Errno::from_result(cqe.result).map_err(failed)?;
                    return Ok(Answer { result, data: data.unwrap_or_default() });
                }
            }
            if self.kernel().now() >= deadline {
                return Err(Error::Timeout { what, device, after: timeout });
            }
        }
    }

    /// Takes a completed command's memory back.
    fn end(&mut self, id: u64) -> Option<Vec<u8>> {
        let index = self.waiting.iter().position(|waiting| waiting.id == id)?;
        Some(self.waiting.swap_remove(index).payload.ended())
    }
}
