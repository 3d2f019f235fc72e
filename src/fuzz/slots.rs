//! The truth about a queue's slots: what the driver gave them, and what they may be told.

use super::input::Input;
use super::machine::Part;
use crate::errno::Errno;
use crate::queue::{QueueError, QueueStats, Turn};
use crate::sim::user::{self, Pages};
use std::sync::Arc;
use ublkit_sys::io_uring::*;
use ublkit_sys::ublk::{self as sys, ublksrv_io_desc};

pub(super) const QUEUE: u16 = 0;

/// Who has a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Owner {
    #[default]
    Nobody,
    Driver,
    Server,
    /// The server, which is to say where the data goes.
    Asked,
    /// Taken away, or refused.
    Gone,
}

/// The truth about one slot.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Slot {
    pub(super) owner: Owner,
    pub(super) buffer: Option<u64>,
    pub(super) request: ublksrv_io_desc,
    /// The result that the handler's answer makes.
    pub(super) answer: Option<i32>,
}

/// The driver's side of a queue.
#[derive(Debug)]
pub(super) struct Slots {
    pub(super) memory: Arc<Pages>,
    pub(super) descriptor_bytes: u16,
    pub(super) slots: Vec<Slot>,
    pub(super) max_io_bytes: u32,
    /// Whether it asks where a write's data goes.
    pub(super) asks: bool,
    /// Where data goes that the server does not want, once it was.
    pub(super) waste: Option<u64>,
    /// Whether commands are for many slots: then it judges nothing but that all ends.
    pub(super) batches: bool,
    /// Whether the queue looks before it sleeps.
    pub(super) spins: bool,
    /// How the queue must end, by what it was told first.
    pub(super) due: Option<Result<Turn, QueueError>>,
    /// What it has told of its requests.
    pub(super) told: QueueStats,
}

/// What a command's user_data says: kind, cookie, tag.
fn id(user_data: u64) -> (u8, u8, u16) {
    let [low, high, kind, cookie, ..] = user_data.to_le_bytes();
    (kind, cookie, u16::from_le_bytes([low, high]))
}

/// The user_data of a slot's command, but for the tag.
const COMMAND: u64 = 1 << 16;
/// And that of the event's poll.
const WAKE: u64 = 3 << 16;

fn is_get_data(sqe: &io_uring_sqe128) -> bool {
    sqe.head.off == u64::from(sys::UBLK_U_IO_NEED_GET_DATA)
}

/// How long the elements of a command are.
pub(super) fn elements_bytes(sqe: &io_uring_sqe128) -> i32 {
    let [words, _] = sqe.head.cmd;
    let [.., low, high, each_bytes, _] = words.to_le_bytes();
    i32::from(u16::from_le_bytes([low, high])) * i32::from(each_bytes)
}

/// What the data of a request looks like.
pub(super) fn pattern(tag: u16) -> u8 {
    0xa0 + tag.to_le_bytes()[0]
}

impl Slots {
    pub(super) fn depth(&self) -> u16 {
        u16::try_from(self.slots.len()).expect("a few")
    }

    fn command(&mut self, sqe: &io_uring_sqe128, trusts: bool) {
        let [words, addr] = sqe.head.cmd;
        let [q0, q1, t0, t1, result @ ..] = words.to_le_bytes();
        let (queue, tag) = (u16::from_le_bytes([q0, q1]), u16::from_le_bytes([t0, t1]));
        let result = i32::from_le_bytes(result);
        let Some(slot) = self.slots.get(usize::from(tag)).copied() else {
            assert!(!trusts, "tag {tag} does not exist");
            return;
        };
        if trusts {
            assert_eq!((queue, sqe.head.user_data), (QUEUE, COMMAND | u64::from(tag)));
            let is = |op: u32| sqe.head.off == u64::from(op);
            let is_fetch = is(sys::UBLK_U_IO_FETCH_REQ);
            let is_commit = is(sys::UBLK_U_IO_COMMIT_AND_FETCH_REQ);
            let owner = match () {
                () if is_fetch => Owner::Nobody,
                () if is_commit => Owner::Server,
                () => {
                    assert!(is_get_data(sqe), "{:#x} is no command of a slot", sqe.head.off);
                    Owner::Asked
                }
            };
            assert_eq!(slot.owner, owner, "a command for tag {tag}, which it does not have");
            if slot.buffer.is_some_and(|buffer| buffer != addr) {
                let waste = is_get_data(sqe).then(|| *self.waste.get_or_insert(addr));
                assert_eq!(waste, Some(addr), "the buffer has moved");
            }
            if is_commit {
                self.committed(tag, &slot, result);
            }
        }
        let buffer = if is_get_data(sqe) { slot.buffer } else { Some(addr) };
        self.slots[usize::from(tag)] = Slot { owner: Owner::Driver, buffer, answer: None, ..slot };
    }

    fn committed(&mut self, tag: u16, slot: &Slot, result: i32) {
        match slot.answer {
            Some(answer) => assert_eq!(result, answer, "not what the handler said: {slot:?}"),
            None => assert!((-4095..0).contains(&result), "{result} for what nobody served"),
        }
        let is_read = sys::op(slot.request.op_flags) == sys::UBLK_IO_OP_READ;
        if is_read && result > 0 {
            let mut data = vec![0; result.unsigned_abs() as usize];
            user::read(slot.buffer.unwrap_or(0), &mut data).expect("a mapped buffer");
            assert!(data.iter().all(|byte| *byte == pattern(tag)), "another request's data");
        }
        let told = &mut self.told;
        match (u64::try_from(result), sys::op(slot.request.op_flags)) {
            (Err(_), _) => told.errors += 1,
            (Ok(bytes), sys::UBLK_IO_OP_READ) => {
                told.reads += 1;
                told.read_bytes += bytes;
            }
            (Ok(bytes), sys::UBLK_IO_OP_WRITE) => {
                told.writes += 1;
                told.written_bytes += bytes;
            }
            _ => told.others += 1,
        }
    }

    /// A request comes to a slot, whose owner says what is to be done first.
    fn describe(&mut self, tag: u16, owner: Owner, script: &mut Input) {
        let buffer = self.slots[usize::from(tag)].buffer.unwrap_or(0);
        let kind = script.byte();
        let request = if kind < 0xe0 {
            ublksrv_io_desc {
                op_flags: u32::from(kind % 6),
                nr_sectors: 1 + u32::from(script.byte() % 24),
                start_sector: script.byte().into(),
                addr: buffer,
            }
        } else {
            let (op_flags, nr_sectors) = (script.u32(), script.u32());
            ublksrv_io_desc { op_flags, nr_sectors, start_sector: script.u64(), addr: buffer }
        };
        self.memory.store(usize::from(tag) * usize::from(self.descriptor_bytes), request);
        if owner == Owner::Server {
            self.copy(tag, &request, buffer);
        }
        let slot = &mut self.slots[usize::from(tag)];
        *slot = Slot { owner, request, answer: None, ..*slot };
    }

    /// Puts a write's data where the server has it put.
    fn copy(&self, tag: u16, request: &ublksrv_io_desc, addr: u64) {
        if sys::op(request.op_flags) == sys::UBLK_IO_OP_WRITE && !self.batches {
            let len = self.max_io_bytes.min(request.nr_sectors.saturating_mul(512));
            user::write(addr, &vec![pattern(tag); len as usize]).expect("a mapped buffer");
        }
    }

    /// The server has said where a write's data goes, and the slot's command is over: the data is
    /// there, or the request was taken back, and the slot has another one; or the same again.
    fn fetched(&mut self, tag: u16, sqe: &io_uring_sqe128, asked: Owner, script: &mut Input) {
        let slot = self.slots[usize::from(tag)];
        let [_, addr] = sqe.head.cmd;
        match script.byte() % 4 {
            0 => self.describe(tag, asked, script),
            _ => {
                if asked == Owner::Server {
                    self.copy(tag, &slot.request, addr);
                }
                self.slots[usize::from(tag)] = Slot { owner: asked, ..slot };
            }
        }
    }
}

impl Part for Slots {
    fn taken(&mut self, sqe: &io_uring_sqe128, trusts: bool) {
        if self.batches {
            return;
        }
        let (kind, _, tag) = id(sqe.head.user_data);
        match sqe.head.opcode {
            IORING_OP_URING_CMD => self.command(sqe, trusts),
            IORING_OP_TIMEOUT if trusts => {
                let mut time = [0; 16];
                user::read(sqe.head.addr, &mut time).expect("a time to read");
                assert_eq!((kind, self.slots[usize::from(tag)].owner), (2, Owner::Server));
            }
            IORING_OP_POLL_ADD if trusts => assert_eq!(sqe.head.user_data, WAKE),
            other => assert!(!trusts, "opcode {other} was not expected"),
        }
    }

    fn completes(&mut self, sqe: &io_uring_sqe128, result: i32, script: &mut Input, _: bool) {
        let (_, _, tag) = id(sqe.head.user_data);
        let known = usize::from(tag) < self.slots.len();
        if sqe.head.opcode != IORING_OP_URING_CMD || !known || self.batches {
            return;
        }
        let owner = match result {
            sys::UBLK_IO_RES_OK => Owner::Server,
            sys::UBLK_IO_RES_NEED_GET_DATA if self.asks => Owner::Asked,
            _ => Owner::Gone,
        };
        match owner {
            Owner::Gone => self.slots[usize::from(tag)].owner = owner,
            _ if is_get_data(sqe) => self.fetched(tag, sqe, owner, script),
            _ => self.describe(tag, owner, script),
        }
    }

    fn posted(&mut self, user_data: u64, result: i32, command: Option<&io_uring_sqe128>) {
        let unexpected = Some(Err(QueueError::Unexpected { user_data, result }));
        let (_, _, tag) = id(user_data);
        let ends = match (command.map(|sqe| sqe.head.opcode), result) {
            (_, 0..) if user_data == WAKE => Some(Ok(Turn::Woken)),
            (Some(IORING_OP_URING_CMD), 0 | sys::UBLK_IO_RES_ABORT) => None,
            (Some(IORING_OP_URING_CMD), sys::UBLK_IO_RES_NEED_GET_DATA) if self.asks => None,
            (Some(IORING_OP_URING_CMD), ..0) => {
                let errno = Errno::from_result(result).expect_err("it is negative");
                Some(Err(QueueError::Refused { tag, errno }))
            }
            (Some(IORING_OP_TIMEOUT), _) => None,
            _ => unexpected,
        };
        self.due = self.due.or(ends);
    }

    fn named(&self, [kind, cookie, low, high]: [u8; 4]) -> u64 {
        u32::from_le_bytes([low, high, kind, cookie]).into()
    }

    fn last_result(&self, sqe: &io_uring_sqe128) -> Option<i32> {
        match sqe.head.opcode {
            IORING_OP_URING_CMD if self.batches => match u32::try_from(sqe.head.off) {
                Ok(sys::UBLK_U_IO_PREP_IO_CMDS) => Some(0),
                Ok(sys::UBLK_U_IO_COMMIT_IO_CMDS) => Some(elements_bytes(sqe)),
                _ => Some(sys::UBLK_IO_RES_ABORT),
            },
            IORING_OP_URING_CMD => Some(sys::UBLK_IO_RES_ABORT),
            IORING_OP_TIMEOUT => Some(-libc::ETIME),
            _ => None,
        }
    }

    fn brings(&mut self, script: &mut Input) -> u16 {
        let choice = script.byte();
        if choice >= 0xf0 {
            return script.u16();
        }
        let tag = u16::from(choice) % self.depth();
        self.describe(tag, Owner::Server, script);
        tag
    }

    fn char_device(&self) -> Option<Arc<Pages>> {
        Some(Arc::clone(&self.memory))
    }
}
