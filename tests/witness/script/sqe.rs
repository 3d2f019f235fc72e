//! SQEs of a script: every field can be set, and what depends on the run (addresses, files, device
//! numbers) is named.

use super::batch::Batch;
use ublkit::sys::io_uring::{
    IORING_OP_ASYNC_CANCEL, IORING_OP_NOP, IORING_OP_POLL_ADD, IORING_OP_READ,
    IORING_OP_READ_FIXED, IORING_OP_URING_CMD, IORING_OP_WRITE, IORING_OP_WRITE_FIXED,
    IOSQE_FIXED_FILE,
};
use ublkit::sys::ublk as sys;
use ublkit::sys::ublk::{ublk_params, ublksrv_ctrl_dev_info};

/// A file as an SQE or a registration names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fd {
    Control,
    Char(usize),
    /// A file in memory.
    Memory(usize),
    Number(i32),
}

/// A word whose value may depend on the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    Number(u64),
    /// The address of a buffer.
    Buffer(usize),
    /// The number of the process that a task is of.
    PidOf(usize),
}

/// An address where nothing is mapped.
pub const NOWHERE: Word = Word::Number(0x10);
/// Buffers of such numbers begin at a page.
pub const ALIGNED: usize = 1000;
/// The number of no file.
pub const NO_FD: i32 = 9_999;

/// A device as a control command names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dev {
    /// The kernel chooses.
    Any,
    /// One of the script's.
    Of(usize),
    Number(u32),
}

/// What the address of a control command leads to.
#[derive(Clone, Debug)]
pub enum Payload {
    Nothing,
    /// An address as it is.
    At(Word),
    /// Bytes, and afterwards what the kernel made of them.
    Bytes(Vec<u8>),
    /// An info whose device number is that of the command.
    Info(Box<ublksrv_ctrl_dev_info>, Dev),
    /// What REG_BUF is told of a buffer: from where on, how long, with which flags.
    Share(usize, [u64; 3]),
    /// The path of a device's char device, and then so many more bytes.
    Path(usize, Vec<u8>),
}

/// The end of an SQE.
#[derive(Clone, Debug)]
pub enum Tail {
    Nothing,
    Batch(Batch),
    Io { queue: u16, tag: u16, result: i32, addr: Word },
    Control { dev: Dev, queue: u16, len: u16, payload: Payload, data: Word, path_len: Option<u16> },
}

/// One SQE, and how it is shown.
#[derive(Clone, Debug)]
pub struct Sqe {
    pub text: String,
    pub opcode: u8,
    pub flags: u8,
    pub ioprio: u16,
    pub fd: Fd,
    pub op: u32,
    /// The word after the command's opcode.
    pub high: u32,
    pub addr: Word,
    pub len: u32,
    pub op_flags: u32,
    /// The group of its buffers, or the place of its pages.
    pub group: u16,
    pub personality: u16,
    pub tail: Tail,
    /// Nobody waits for its answer: it may take until something else happens.
    pub patient: bool,
}

macro_rules! setters {
    ($($name:ident: $ty:ty;)+) => { $(
        #[must_use]
        pub fn $name(mut self, value: $ty) -> Self {
            self.text += &format!(concat!(" ", stringify!($name), "={:?}"), value);
            self.$name = value;
            self
        }
    )+ };
}

impl Sqe {
    pub(super) fn new(text: String, op: u32, fd: Fd, tail: Tail) -> Self {
        Self {
            text,
            opcode: IORING_OP_URING_CMD,
            flags: 0,
            ioprio: 0,
            fd,
            op,
            high: 0,
            addr: Word::Number(0),
            len: 0,
            op_flags: 0,
            group: 0,
            personality: 0,
            tail,
            patient: false,
        }
    }

    setters! { opcode: u8; flags: u8; ioprio: u16; fd: Fd; high: u32; addr: Word; len: u32;
    op_flags: u32; group: u16; personality: u16; }

    /// By another opcode of the driver.
    #[must_use]
    pub fn op(mut self, op: u32) -> Self {
        self.text += &format!(" op={op:#x}");
        self.op = op;
        self
    }

    /// With a buffer.
    #[must_use]
    pub fn buf(self, buffer: usize) -> Self {
        self.at(Word::Buffer(buffer))
    }

    /// With an address in the command.
    #[must_use]
    pub fn at(mut self, word: Word) -> Self {
        let Tail::Io { addr, .. } = &mut self.tail else { panic!("a command for a slot") };
        *addr = word;
        self.text += &match word {
            Word::Buffer(buffer) => format!(" b{buffer}"),
            other => format!(" at {other:?}"),
        };
        self
    }

    /// By the fixed file of that index.
    #[must_use]
    pub fn fixed(self, index: i32) -> Self {
        self.fd(Fd::Number(index)).flags(IOSQE_FIXED_FILE)
    }

    /// Without waiting for the answer.
    #[must_use]
    pub fn patient(mut self) -> Self {
        self.patient = true;
        self
    }

    fn control(mut self, change: impl FnOnce(&mut Tail), text: String) -> Self {
        change(&mut self.tail);
        self.text += &text;
        self
    }

    /// With another length in the command.
    #[must_use]
    pub fn size(self, bytes: u16) -> Self {
        let text = format!(" size={bytes}");
        let set = |tail: &mut Tail| match tail {
            Tail::Control { len, .. } => *len = bytes,
            _ => panic!("a control command"),
        };
        self.control(set, text)
    }

    /// With another queue number in the command.
    #[must_use]
    pub fn queue(self, number: u16) -> Self {
        let text = format!(" queue={number}");
        let set = |tail: &mut Tail| match tail {
            Tail::Control { queue, .. } => *queue = number,
            _ => panic!("a control command"),
        };
        self.control(set, text)
    }

    /// For another device.
    #[must_use]
    pub fn dev(self, which: Dev) -> Self {
        let text = format!(" dev={which:?}");
        let set = |tail: &mut Tail| match tail {
            Tail::Control { dev, .. } => *dev = which,
            _ => panic!("a control command"),
        };
        self.control(set, text)
    }

    /// With another payload.
    #[must_use]
    pub fn payload(self, what: Payload, text: &str) -> Self {
        let text = format!(" {text}");
        let set = |tail: &mut Tail| match tail {
            Tail::Control { payload, .. } => *payload = what,
            _ => panic!("a control command"),
        };
        self.control(set, text)
    }

    /// With a length of the path in the command.
    #[must_use]
    pub fn path_len(self, bytes: u16) -> Self {
        let text = format!(" path_len={bytes}");
        let set = |tail: &mut Tail| match tail {
            Tail::Control { path_len, .. } => *path_len = Some(bytes),
            _ => panic!("a control command"),
        };
        self.control(set, text)
    }
}

/// A NOP of io_uring.
pub fn nop() -> Sqe {
    Sqe { opcode: IORING_OP_NOP, ..Sqe::new("nop".into(), 0, Fd::Number(-1), Tail::Nothing) }
}

/// Ends when an event is signalled, or is cancelled.
pub fn poll(event: usize) -> Sqe {
    let text = format!("poll f{event}");
    let wanted = u32::from(libc::POLLIN.unsigned_abs());
    let sqe = Sqe::new(text, 0, Fd::Char(event), Tail::Nothing);
    Sqe { opcode: IORING_OP_POLL_ADD, op_flags: wanted, ..sqe }
}

/// Cancels the command that was the script's `number`th.
pub fn cancel(number: u64) -> Sqe {
    let sqe = Sqe::new(format!("cancel #{number}"), 0, Fd::Number(-1), Tail::Nothing);
    Sqe { opcode: IORING_OP_ASYNC_CANCEL, addr: Word::Number(number), ..sqe }
}

/// READ, or WRITE, of so many bytes of a file from `position` on: to a buffer, or from it.
pub fn transfer(is_write: bool, file: Fd, position: u64, buffer: usize, len: u32) -> Sqe {
    let name = if is_write { "write" } else { "read" };
    let opcode = if is_write { IORING_OP_WRITE } else { IORING_OP_READ };
    let text = format!("{name} {file:?} at {position:#x}: {len} bytes, b{buffer}");
    placed(Sqe { opcode, addr: Word::Buffer(buffer), len, ..bare(text, file) }, position)
}

/// A part of a request's pages: the place that they have in the ring's table, where it begins in
/// them, and how long it is.
pub type Part = (u16, u64, u32);

/// READ_FIXED, or WRITE_FIXED, of a file from `position` on: to a request's pages, or from them.
pub fn transfer_pages(is_write: bool, file: Fd, position: u64, part: Part) -> Sqe {
    let (group, start, len) = part;
    let name = if is_write { "write-fixed" } else { "read-fixed" };
    let opcode = if is_write { IORING_OP_WRITE_FIXED } else { IORING_OP_READ_FIXED };
    let pages = format!("{len} bytes from {start} on of place {group}");
    let text = format!("{name} {file:?} at {position:#x}: {pages}");
    let sqe = Sqe { opcode, addr: Word::Number(start), len, group, ..bare(text, file) };
    placed(sqe, position)
}

fn bare(text: String, file: Fd) -> Sqe {
    Sqe::new(text, 0, file, Tail::Nothing)
}

/// The position in the file is where commands have their number.
fn placed(sqe: Sqe, position: u64) -> Sqe {
    let half = |shift: u32| u32::try_from(position >> shift & 0xffff_ffff).expect("half of it");
    Sqe { op: half(0), high: half(32), ..sqe }
}

fn slot(name: &str, op: u32, queue: u16, tag: u16, result: i32) -> Sqe {
    let text = format!("{name} {queue}.{tag}");
    let tail = Tail::Io { queue, tag, result, addr: Word::Number(0) };
    Sqe::new(text, op, Fd::Char(0), tail)
}

pub fn fetch(queue: u16, tag: u16) -> Sqe {
    slot("fetch", sys::UBLK_U_IO_FETCH_REQ, queue, tag, 0)
}

pub fn commit(queue: u16, tag: u16, result: i32) -> Sqe {
    let mut sqe = slot("commit", sys::UBLK_U_IO_COMMIT_AND_FETCH_REQ, queue, tag, result);
    sqe.text += &format!(" res={result}");
    sqe
}

pub fn get_data(queue: u16, tag: u16) -> Sqe {
    slot("get-data", sys::UBLK_U_IO_NEED_GET_DATA, queue, tag, 0)
}

/// REGISTER_IO_BUF: the pages of the request of a queue's first tag come to a place of the ring's
/// table.
pub fn put_pages(queue: u16, place: u64) -> Sqe {
    fetch(queue, 0).op(sys::UBLK_U_IO_REGISTER_IO_BUF).at(Word::Number(place))
}

/// UNREGISTER_IO_BUF: what is there leaves it.
pub fn take_pages(queue: u16, place: u64) -> Sqe {
    fetch(queue, 0).op(sys::UBLK_U_IO_UNREGISTER_IO_BUF).at(Word::Number(place))
}

fn command(name: &str, op: u32, device: usize) -> Sqe {
    let tail = Tail::Control {
        dev: Dev::Of(device),
        queue: u16::MAX,
        len: 0,
        payload: Payload::Nothing,
        data: Word::Number(0),
        path_len: None,
    };
    Sqe::new(format!("{name} d{device}"), op, Fd::Control, tail)
}

fn with(mut sqe: Sqe, bytes: usize, payload: Payload, word: Word) -> Sqe {
    if let Tail::Control { len, payload: place, data, .. } = &mut sqe.tail {
        *len = u16::try_from(bytes).expect("short");
        *place = payload;
        *data = word;
    }
    sqe
}

fn number(sqe: Sqe, word: Word) -> Sqe {
    let mut sqe = with(sqe, 0, Payload::Nothing, word);
    sqe.text += &format!(" {word:?}");
    sqe
}

/// What room for an info is filled with.
const UNTOUCHED: u8 = 0xee;

/// ADD_DEV; where it succeeds, the device is `device` from then on.
pub fn add(device: usize, info: ublksrv_ctrl_dev_info) -> Sqe {
    let ublksrv_ctrl_dev_info { nr_hw_queues, queue_depth, max_io_buf_bytes, flags, .. } = info;
    let mut sqe = command("add", sys::UBLK_U_CMD_ADD_DEV, device);
    sqe.text += &format!(" {nr_hw_queues}x{queue_depth} {max_io_buf_bytes} {flags:#x}");
    let sqe = with(sqe, size_of_val(&info), Payload::Info(Box::new(info), Dev::Any), NONE);
    let mut sqe = sqe;
    if let Tail::Control { dev, .. } = &mut sqe.tail {
        *dev = Dev::Any;
    }
    sqe
}

const NONE: Word = Word::Number(0);

pub fn delete(device: usize) -> Sqe {
    command("delete", sys::UBLK_U_CMD_DEL_DEV, device)
}

pub fn delete_async(device: usize) -> Sqe {
    command("delete-async", sys::UBLK_U_CMD_DEL_DEV_ASYNC, device)
}

pub fn stop(device: usize) -> Sqe {
    command("stop", sys::UBLK_U_CMD_STOP_DEV, device)
}

pub fn try_stop(device: usize) -> Sqe {
    command("try-stop", sys::UBLK_U_CMD_TRY_STOP_DEV, device)
}

pub fn start(device: usize, pid: Word) -> Sqe {
    number(command("start", sys::UBLK_U_CMD_START_DEV, device), pid)
}

pub fn start_recovery(device: usize) -> Sqe {
    command("start-recovery", sys::UBLK_U_CMD_START_USER_RECOVERY, device)
}

pub fn end_recovery(device: usize, pid: Word) -> Sqe {
    number(command("end-recovery", sys::UBLK_U_CMD_END_USER_RECOVERY, device), pid)
}

pub fn quiesce(device: usize, timeout_ms: u64) -> Sqe {
    number(command("quiesce", sys::UBLK_U_CMD_QUIESCE_DEV, device), Word::Number(timeout_ms))
}

pub fn update_size(device: usize, sectors: u64) -> Sqe {
    number(command("update-size", sys::UBLK_U_CMD_UPDATE_SIZE, device), Word::Number(sectors))
}

pub fn info(device: usize) -> Sqe {
    let room = Payload::Bytes(vec![UNTOUCHED; 64]);
    with(command("info", sys::UBLK_U_CMD_GET_DEV_INFO, device), 64, room, NONE)
}

pub fn features() -> Sqe {
    let room = Payload::Bytes(vec![UNTOUCHED; 8]);
    with(command("features", sys::UBLK_U_CMD_GET_FEATURES, 0), 8, room, NONE)
}

pub fn affinity(device: usize, queue: u64, bytes: u16) -> Sqe {
    let room = Payload::Bytes(vec![UNTOUCHED; bytes.into()]);
    let sqe = command("affinity", sys::UBLK_U_CMD_GET_QUEUE_AFFINITY, device);
    let mut sqe = with(sqe, bytes.into(), room, Word::Number(queue));
    sqe.text += &format!(" of queue {queue}, {bytes} bytes");
    sqe
}

pub fn set_params(device: usize, params: &ublk_params, what: &str) -> Sqe {
    let bytes = ublkit::sys::abi::as_bytes(params).to_vec();
    let mut sqe = command("set-params", sys::UBLK_U_CMD_SET_PARAMS, device);
    sqe.text += &format!(" {what}");
    with(sqe, bytes.len(), Payload::Bytes(bytes), NONE)
}

pub fn get_params(device: usize) -> Sqe {
    let mut bytes = vec![0; size_of::<ublk_params>()];
    bytes[0] = 152;
    let sqe = command("get-params", sys::UBLK_U_CMD_GET_PARAMS, device);
    with(sqe, bytes.len(), Payload::Bytes(bytes), NONE)
}
