//! What a script says, as bytes: SQEs, and the memory that they name.

use super::ADMIN;
use super::bytes::Bytes;
use super::run::{File, Run};
use super::sqe::{ALIGNED, Dev, Fd, NO_FD, Payload, Sqe, Tail, Word};
use super::world::World;
use rustix::fs::{MemfdFlags, memfd_create};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use ublkit::kernel::Kernel;
use ublkit::sys::abi::as_bytes;
use ublkit::sys::io_uring::{io_uring_sqe, io_uring_sqe128};
use ublkit::sys::ublk::{
    UBLK_QID_BITS_MASK, UBLK_QID_OFF, UBLK_TAG_BITS_MASK, UBLK_TAG_OFF, UBLKSRV_IO_BUF_OFFSET,
    ublksrv_ctrl_cmd, ublksrv_io_cmd,
};

impl<W: World> Run<'_, W> {
    /// The bytes of an SQE, and the memory that it names.
    pub(super) fn raw(&mut self, sqe: &Sqe, user_data: u64) -> (io_uring_sqe128, Option<Bytes>) {
        let head = io_uring_sqe {
            opcode: sqe.opcode,
            flags: sqe.flags,
            ioprio: sqe.ioprio,
            fd: self.number(sqe.fd),
            off: u64::from(sqe.op) | u64::from(sqe.high) << 32,
            addr: self.word(sqe.addr),
            len: sqe.len,
            op_flags: sqe.op_flags,
            personality: sqe.personality,
            buf_index: sqe.group,
            user_data,
            ..io_uring_sqe::default()
        };
        let mut raw = io_uring_sqe128 { head, ..io_uring_sqe128::default() };
        let word = |bytes: &[u8], at: usize| {
            u64::from_ne_bytes(bytes[at * 8..][..8].try_into().expect("eight bytes"))
        };
        match &sqe.tail {
            Tail::Nothing => (raw, None),
            Tail::Batch(batch) => {
                let (head, elements) = self.batch(batch);
                raw.head.cmd = head;
                if sqe.addr == Word::Number(0) {
                    raw.head.addr = elements.address();
                }
                (raw, Some(elements))
            }
            Tail::Io { queue, tag, result, addr } => {
                let (addr, tag) = (self.word(*addr), self.real_tag(*queue, *tag));
                let command = ublksrv_io_cmd { q_id: *queue, tag, result: *result, addr };
                raw.head.cmd = [0, 1].map(|at| word(as_bytes(&command), at));
                (raw, None)
            }
            Tail::Control { dev, queue, len, payload, data, path_len } => {
                let (addr, memory, path) = self.payload(payload);
                let whole = memory.map_or(0, Bytes::len);
                let whole = u16::try_from(whole).expect("short");
                let by_path = *len == 0 && path > 0;
                let command = ublksrv_ctrl_cmd {
                    dev_id: self.device(*dev),
                    queue_id: *queue,
                    len: if by_path { whole } else { *len },
                    addr,
                    data: [self.word(*data)],
                    dev_path_len: path_len.unwrap_or(path),
                    ..ublksrv_ctrl_cmd::default()
                };
                raw.head.cmd = [0, 1].map(|at| word(as_bytes(&command), at));
                raw.tail[..2].copy_from_slice(&[2, 3].map(|at| word(as_bytes(&command), at)));
                (raw, memory)
            }
        }
    }

    /// The driver's number of a tag of the script: that of the request that came so many-th, or of
    /// one without a request.
    pub(super) fn real_tag(&self, queue: u16, tag: u16) -> u16 {
        let known = self.tags.get(&queue).map_or(&[][..], Vec::as_slice);
        match known.get(usize::from(tag)) {
            Some(real) => *real,
            None => {
                let rest = usize::from(tag) - known.len();
                let mut free = (0..=u16::MAX).filter(|real| !known.contains(real));
                free.nth(rest).unwrap_or(tag)
            }
        }
    }

    /// The driver's position of a request's data, whose tag is the script's.
    pub(super) fn real_position(&self, position: u64) -> u64 {
        let Some(place) = position.checked_sub(UBLKSRV_IO_BUF_OFFSET) else { return position };
        let queue = (place >> UBLK_QID_OFF & UBLK_QID_BITS_MASK) as u16;
        let tag = (place >> UBLK_TAG_OFF & UBLK_TAG_BITS_MASK) as u16;
        let others = place & !(UBLK_TAG_BITS_MASK << UBLK_TAG_OFF);
        let real = u64::from(self.real_tag(queue, tag)) << UBLK_TAG_OFF;
        UBLKSRV_IO_BUF_OFFSET + (others | real)
    }

    pub(super) fn buffer(&mut self, buffer: usize) -> Bytes {
        let len = super::build::MAX_IO_BYTES as usize;
        let new = if buffer < ALIGNED { Bytes::new } else { Bytes::pages };
        let fresh = || new(len, 0xbb);
        *self.buffers.entry(buffer).or_insert_with(fresh)
    }

    /// The address of a payload, its memory, and the length of the path in it.
    fn payload(&mut self, payload: &Payload) -> (u64, Option<Bytes>, u16) {
        let (bytes, path) = match payload {
            Payload::Nothing => return (0, None, 0),
            Payload::At(word) => return (self.word(*word), None, 0),
            Payload::Bytes(bytes) => (Bytes::from(bytes), 0),
            Payload::Share(buffer, [at, len, flags]) => {
                let words = [self.buffer(*buffer).address() + at, *len, *flags];
                let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
                (Bytes::from(&bytes), 0)
            }
            Payload::Info(info, dev) => {
                let mut info = **info;
                info.dev_id = self.device(*dev);
                (Bytes::from(as_bytes(&info)), 0)
            }
            Payload::Path(device, rest) => {
                let id = self.device(Dev::Of(*device));
                let path = format!("/dev/ublkc{id}");
                let bytes = [path.as_bytes(), rest].concat();
                (Bytes::from(&bytes), u16::try_from(path.len()).expect("short"))
            }
        };
        (bytes.address(), Some(bytes), path)
    }

    fn device(&self, dev: Dev) -> u32 {
        match dev {
            Dev::Any => u32::MAX,
            Dev::Of(device) => self.devices.get(&device).copied().unwrap_or(999_999),
            Dev::Number(number) => number,
        }
    }

    pub(super) fn number(&mut self, file: Fd) -> i32 {
        let opened = match file {
            Fd::Number(number) => return number,
            Fd::Char(file) => self.files.get(&file).cloned(),
            Fd::Memory(file) => return self.memory(file),
            Fd::Control => self.control(),
        };
        let number = opened.and_then(|file| self.on(ADMIN, move |k| k.number(&file)));
        number.unwrap_or(NO_FD)
    }

    /// The number of a file in memory, which is made when it is first named.
    fn memory(&mut self, file: usize) -> i32 {
        let made = || memfd_create("a script's", MemfdFlags::CLOEXEC).expect("memory");
        self.memories.entry(file).or_insert_with(made).as_raw_fd()
    }

    /// The control device, opened by the task with the rights.
    fn control(&mut self) -> Option<File<W>> {
        if self.control.is_none() {
            let opened = self.on(ADMIN, |kernel| kernel.open(c"/dev/ublk-control"));
            self.control = opened.and_then(Result::ok).map(Arc::new);
        }
        self.control.clone()
    }

    pub(super) fn word(&mut self, word: Word) -> u64 {
        match word {
            Word::Number(number) => number,
            Word::Buffer(buffer) => self.buffer(buffer).address(),
            Word::PidOf(task) => {
                let pid = self.on(task, Kernel::process).unwrap_or(0);
                self.pid = Some(pid);
                pid.into()
            }
        }
    }
}
