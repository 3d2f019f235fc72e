//! [`Event`]: one thing that was said, or done.

use super::sums::Sums;
use crate::errno::Errno;
use crate::request::Request;
use core::time::Duration;
use std::sync::Arc;
use ublkit_sys::ublk::{ublk_params, ublk_shmem_buf_reg, ublksrv_ctrl_dev_info, ublksrv_io_desc};

/// One thing that was said to the kernel, by it, or done in between. Its
/// [`Display`](core::fmt::Display) is a line of text, [`json`](Self::json) a line of JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// When, since the trace began.
    pub at: Duration,
    /// The thread, by the name that it was made with; `owner` for the one that serves.
    pub task: Arc<str>,
    /// What.
    pub what: What,
}

/// Which slot of which device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    /// The device's number.
    pub device: u32,
    /// The queue.
    pub queue: u16,
    /// The tag.
    pub tag: u16,
}

/// What a slot's command says of where a request's data is to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// Nothing; or addresses are left out.
    #[default]
    Nowhere,
    /// The address of a buffer.
    Buffer(u64),
    /// The place of the ring's table that the driver puts the request's pages into.
    Table(u16),
}

impl Place {
    /// What an address says: 0 is none.
    pub(super) fn of(address: u64) -> Self {
        if address == 0 { Self::Nowhere } else { Self::Buffer(address) }
    }
}

/// A control command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// One of [`CONTROL_OPCODES`](ublkit_sys::ublk::CONTROL_OPCODES).
    pub opcode: u32,
    /// Which device; none where it is about none, or where the kernel shall choose a number.
    pub device: Option<u32>,
    /// The command's own number (`data[0]`).
    pub number: u64,
    /// The device's path, where the command names it.
    pub path: Option<String>,
}

/// What a control command carries, or its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Payload {
    /// What a device is.
    Device(ublksrv_ctrl_dev_info),
    /// What a disk is.
    Params(ublk_params),
    /// `UBLK_F_*`.
    Features(u64),
    /// The CPUs of a queue.
    Cpus(Vec<u32>),
    /// Memory to be registered.
    Buffer(ublk_shmem_buf_reg),
}

/// What a call to a handler came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The request is answered.
    Done(Result<(), Errno>),
    /// The request waits for something.
    Pending,
    /// The call panicked.
    Panicked,
}

/// What was said or done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum What {
    /// A ring was made.
    Ring {
        /// How many SQEs it holds.
        submissions: u32,
        /// How many CQEs it holds.
        completions: u32,
        /// `IORING_SETUP_*`.
        flags: u32,
    },
    /// A control command is sent.
    Command {
        /// Which.
        command: Command,
        /// What it carries, where that could be read.
        payload: Option<Payload>,
    },
    /// A control command is answered.
    Answer {
        /// Which; of ADD_DEV with the number that was granted.
        command: Command,
        /// 0 or more, or a negated errno.
        result: i32,
        /// How long the answer took.
        latency: Duration,
        /// What came with it, where that could be read.
        payload: Option<Payload>,
    },
    /// A slot is offered for the first time.
    Fetch {
        /// Which.
        slot: Slot,
        /// Where its data is to be.
        place: Place,
    },
    /// A slot's command completed with a write, whose data is to be asked for (get-data).
    NeedsData {
        /// Which slot.
        slot: Slot,
    },
    /// That is done.
    GetData {
        /// Which slot.
        slot: Slot,
        /// Where the data is to be put.
        place: Place,
    },
    /// A request's pages enter the ring's table, or leave it (zero copy by hand).
    Pages {
        /// Which slot's.
        slot: Slot,
        /// The table's place.
        index: u64,
        /// Whether they enter.
        enter: bool,
    },
    /// A slot's command completed with a request.
    Request {
        /// Which slot.
        slot: Slot,
        /// The I/O descriptor.
        descriptor: ublksrv_io_desc,
        /// What a write brings, where sums are wanted.
        sums: Option<Sums>,
    },
    /// A call to the backend's handler ended.
    Operation {
        /// The queue.
        queue: u16,
        /// The tag.
        tag: u16,
        /// What was asked, as the handler sees it.
        request: Request,
        /// What the call came to.
        outcome: Outcome,
        /// How long it took.
        took: Duration,
    },
    /// A request is answered, and its slot offered again.
    Commit {
        /// Which slot.
        slot: Slot,
        /// Bytes, or a negated errno.
        result: i32,
        /// Where the next request's data is to be; a read's is taken from there.
        place: Place,
        /// The time since the request, where it was seen.
        latency: Option<Duration>,
        /// What a read brings, where sums are wanted.
        sums: Option<Sums>,
    },
    /// A slot's command ended without a request: the slot was taken away, or the command refused.
    Ended {
        /// Which slot.
        slot: Slot,
        /// [`UBLK_IO_RES_ABORT`](ublkit_sys::ublk::UBLK_IO_RES_ABORT), or the driver's refusal.
        result: i32,
    },
    /// Another entry was submitted: a poll, a timeout, an I/O command that the driver does not use.
    Sent {
        /// One of [`OPCODES`](ublkit_sys::io_uring::OPCODES).
        opcode: u8,
        /// Which command, where it is one to a file that is not the driver's.
        command: Option<u32>,
        /// What it carries.
        user_data: u64,
    },
    /// Another entry completed.
    Done {
        /// Its opcode, where its submission was seen.
        opcode: Option<u8>,
        /// What it carried.
        user_data: u64,
        /// The result.
        result: i32,
    },
    /// Data was read from a char device or written to it (user copy).
    Copied {
        /// `true` for `pread`.
        reads: bool,
        /// The place: queue, tag and offset in one word.
        place: u64,
        /// How much was asked for, in bytes.
        len_bytes: u64,
        /// Bytes, or a negated errno.
        result: i64,
    },
    /// A system call failed.
    Failed {
        /// Which.
        call: &'static str,
        /// Why.
        errno: Errno,
    },
    /// `io_uring_enter` took fewer entries than it was offered.
    Short {
        /// So many.
        taken: u32,
        /// Of so many.
        offered: u32,
    },
    /// Completions were overwritten before they could be read.
    Missed {
        /// How many.
        completions: u32,
    },
    /// The trace ends.
    End {
        /// Events that were not written: the sink was too slow, or failed.
        lost: u64,
    },
}
