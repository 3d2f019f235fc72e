//! `completions`: a queue whose kernel completes anything with any result, at any time.

use super::input::Input;
use super::machine::Part;
use super::scripted::Scripted;
use crate::data_path::DataPath;
use crate::errno::Errno;
use crate::geometry::Geometry;
use crate::handler::{Completion, Handler, Io, Step};
use crate::kernel::Kernel;
use crate::needs::Needs;
use crate::queue::{Meter, Queue, QueueError, QueuePlan, QueueStats, Turn};
use crate::request::{Limits, Operation};
use crate::ring::RingError;
use crate::sim::user::{self, Pages};
use crate::trace::{Detail, Log, Traced};
use core::time::Duration;
use std::sync::Arc;
use ublkit_sys::io_uring::*;
use ublkit_sys::ublk::{self as sys, ublksrv_io_desc};

const QUEUE: u16 = 0;

/// The queue ends as what it was told says, commits only what it was given, with the answer that
/// its handler gave, and keeps its accounts.
pub fn completions(bytes: &[u8]) {
    let _: Option<End> = run(bytes);
}

type End = Result<Turn, QueueError>;

fn run(bytes: &[u8]) -> Option<End> {
    let mut input = Input::new(bytes);
    let first = input.byte();
    let (depth, is_traced) = (1 + u16::from(first % 4), first >= 128);
    let descriptor_bytes = 24 + 8 * u16::from(input.byte() % 8);
    let max_io_bytes = 4096 << (input.byte() % 3);
    let handler_bytes = usize::from(input.byte());
    let plays = Input::new(&input.take(handler_bytes));
    let part = Slots {
        memory: Arc::new(Pages::new(usize::from(depth * descriptor_bytes))),
        descriptor_bytes,
        slots: vec![Slot::default(); depth.into()],
        max_io_bytes,
        due: None,
        told: QueueStats::default(),
    };
    let kernel = Scripted::new(part, input);
    let handler = Player { kernel: kernel.clone(), plays };
    if is_traced {
        let traced = Traced::new(kernel.clone(), Detail::ALL, Log::of_last(10));
        run_on(traced, &kernel, handler)
    } else {
        run_on(kernel.clone(), &kernel, handler)
    }
}

/// Runs a queue on `kernel`, which is `truth`, perhaps listened to.
fn run_on<K: Kernel>(kernel: K, truth: &Scripted<Slots>, handler: Player) -> Option<End> {
    let (depth, descriptor_bytes, max_io_bytes) = truth.lock().part.shape();
    let geometry = Geometry { discard_bytes: 4096, write_zeroes: true, ..Geometry::new(1 << 20) };
    let plan = QueuePlan {
        device: 0,
        queue: QUEUE,
        share: crate::slots::Share::ALL,
        depth,
        descriptor_bytes,
        limits: Limits { geometry, max_io_bytes },
        size_bytes: Arc::default(),
        path: DataPath::Copy,
        batches: false,
        needs: Needs { operations: 1, ..Needs::default() },
        char_device: Arc::new(kernel.open(c"/dev/ublkc0").ok()?),
        cpus: Vec::new(),
        meter: Some(Arc::new(Meter::new(QUEUE, depth))),
        request_timeout: None,
        leave: Arc::default(),
        wake: Arc::new(kernel.event().ok()?),
        calls: None,
    };
    let mut queue = Queue::new(kernel, plan, handler).ok()?;
    let end = serve(&mut queue);
    let machine = truth.lock();
    if !machine.lied {
        let expected = match (&machine.fatal, machine.part.due) {
            (Some(errno), _) => Err(QueueError::Ring(RingError::Enter(*errno))),
            (None, Some(due)) => due,
            (None, None) => Ok(Turn::Stopped),
        };
        let starved = matches!(end, Err(QueueError::Ring(RingError::Starved(_))));
        let may_starve = machine.no_progress >= 100;
        assert!(end == expected || starved && may_starve, "{end:?}, not {expected:?}");
    }
    // When nothing new comes, all is answered that a queue was asked, if the kernel takes answers.
    let takes = machine.fatal.is_none() && machine.stubborn < 100;
    let is_told_all = machine.script.is_empty() && !machine.lied && takes;
    drop(machine);
    queue.check();
    queue.fail_all(false);
    if is_told_all && end.is_ok() {
        let truth = truth.lock();
        let is_left = truth.part.slots.iter().any(|slot| slot.owner == Owner::Server);
        assert!(!is_left, "a request was not answered");
        assert_eq!(queue.stats(), truth.part.told);
    }
    queue.take_all_back();
    Some(end)
}

/// What a worker's thread does.
fn serve<K: Kernel>(queue: &mut Queue<K, Player>) -> End {
    queue.offer_all()?;
    loop {
        queue.check();
        match queue.turn()? {
            Turn::Live => {}
            end => return Ok(end),
        }
    }
}

/// Who has a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Owner {
    #[default]
    Nobody,
    Driver,
    Server,
    /// Taken away, or refused.
    Gone,
}

/// The truth about one slot.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    owner: Owner,
    buffer: Option<u64>,
    request: ublksrv_io_desc,
    /// The result that the handler's answer makes.
    answer: Option<i32>,
}

/// The driver's side of a queue.
#[derive(Debug)]
struct Slots {
    memory: Arc<Pages>,
    descriptor_bytes: u16,
    slots: Vec<Slot>,
    max_io_bytes: u32,
    /// How the queue must end, by what it was told first.
    due: Option<End>,
    /// What it has told of its requests.
    told: QueueStats,
}

/// What a command's user_data says: kind, cookie, tag.
fn id(user_data: u64) -> (u8, u8, u16) {
    let [kind, cookie, low, high, ..] = user_data.to_le_bytes();
    (kind, cookie, u16::from_le_bytes([low, high]))
}

/// What the data of a request looks like.
fn pattern(tag: u16) -> u8 {
    0xa0 + tag.to_le_bytes()[0]
}

impl Slots {
    /// Depth, bytes of a descriptor, bytes of the largest request.
    fn shape(&self) -> (u16, u16, u32) {
        let depth = u16::try_from(self.slots.len()).expect("a few");
        (depth, self.descriptor_bytes, self.max_io_bytes)
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
            assert_eq!((queue, sqe.head.user_data), (QUEUE, 1 | u64::from(tag) << 16));
            let is = |op: u32| sqe.head.off == u64::from(op);
            let is_fetch = is(sys::UBLK_U_IO_FETCH_REQ);
            let is_commit = is(sys::UBLK_U_IO_COMMIT_AND_FETCH_REQ);
            assert!(is_fetch || is_commit, "{:#x} is no command of a slot", sqe.head.off);
            let owner = if is_fetch { Owner::Nobody } else { Owner::Server };
            assert_eq!(slot.owner, owner, "a command for tag {tag}, which it does not have");
            assert!(slot.buffer.is_none_or(|buffer| buffer == addr), "the buffer has moved");
            if is_commit {
                self.committed(tag, &slot, result);
            }
        }
        self.slots[usize::from(tag)] =
            Slot { owner: Owner::Driver, buffer: Some(addr), answer: None, ..slot };
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

    /// A request comes to a slot.
    fn describe(&mut self, tag: u16, script: &mut Input) {
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
        if sys::op(request.op_flags) == sys::UBLK_IO_OP_WRITE {
            let len = self.max_io_bytes.min(request.nr_sectors.saturating_mul(512));
            user::write(buffer, &vec![pattern(tag); len as usize]).expect("a mapped buffer");
        }
        let slot = &mut self.slots[usize::from(tag)];
        *slot = Slot { owner: Owner::Server, request, answer: None, ..*slot };
    }
}

impl Part for Slots {
    fn taken(&mut self, sqe: &io_uring_sqe128, trusts: bool) {
        let (kind, _, tag) = id(sqe.head.user_data);
        match sqe.head.opcode {
            IORING_OP_URING_CMD => self.command(sqe, trusts),
            IORING_OP_TIMEOUT if trusts => {
                let mut time = [0; 16];
                user::read(sqe.head.addr, &mut time).expect("a time to read");
                assert_eq!((kind, self.slots[usize::from(tag)].owner), (2, Owner::Server));
            }
            IORING_OP_POLL_ADD if trusts => assert_eq!(sqe.head.user_data, 3),
            other => assert!(!trusts, "opcode {other} was not expected"),
        }
    }

    fn completes(&mut self, sqe: &io_uring_sqe128, result: i32, script: &mut Input, _: bool) {
        let (_, _, tag) = id(sqe.head.user_data);
        let known = usize::from(tag) < self.slots.len();
        if sqe.head.opcode != IORING_OP_URING_CMD || !known {
            return;
        }
        match result {
            0 => self.describe(tag, script),
            _ => self.slots[usize::from(tag)].owner = Owner::Gone,
        }
    }

    fn posted(&mut self, user_data: u64, result: i32, command: Option<&io_uring_sqe128>) {
        let unexpected = Some(Err(QueueError::Unexpected { user_data, result }));
        let (_, _, tag) = id(user_data);
        let ends = match (command.map(|sqe| sqe.head.opcode), result) {
            (_, 0..) if user_data == 3 => Some(Ok(Turn::Woken)),
            (Some(IORING_OP_URING_CMD), 0 | sys::UBLK_IO_RES_ABORT) => None,
            (Some(IORING_OP_URING_CMD), ..0) => {
                let errno = Errno::from_result(result).expect_err("it is negative");
                Some(Err(QueueError::Refused { tag, errno }))
            }
            (Some(IORING_OP_TIMEOUT), _) => None,
            _ => unexpected,
        };
        self.due = self.due.or(ends);
    }

    fn last_result(&self, sqe: &io_uring_sqe128) -> Option<i32> {
        match sqe.head.opcode {
            IORING_OP_URING_CMD => Some(sys::UBLK_IO_RES_ABORT),
            IORING_OP_TIMEOUT => Some(-libc::ETIME),
            _ => None,
        }
    }

    fn char_device(&self) -> Option<Arc<Pages>> {
        Some(Arc::clone(&self.memory))
    }
}

/// A handler that answers, delays and errs as its bytes say.
#[derive(Debug)]
struct Player {
    kernel: Scripted<Slots>,
    plays: Input,
}

impl Player {
    fn play(&mut self, io: &mut Io<'_>) -> Step {
        let move_ = self.plays.byte();
        let answer = match move_ / 8 % 4 {
            0 => Err(Errno::new(i32::from(move_)).unwrap_or(Errno::EIO)),
            _ => Ok(()),
        };
        match move_ % 8 {
            0 => {
                io.delay(Duration::from_millis(1), move_).expect("no delay is under way");
                assert_eq!(io.delay(Duration::ZERO, 0), Err(Errno::EBUSY));
                Step::Pending
            }
            1 => {
                io.delay(Duration::MAX, move_).expect("no delay is under way");
                self.done(io, answer)
            }
            2 => {
                self.note(io, Err(Errno::EIO));
                Step::Pending // on nothing
            }
            _ => self.done(io, answer),
        }
    }

    fn done(&mut self, io: &mut Io<'_>, answer: Result<(), Errno>) -> Step {
        if io.request().operation == Operation::Read {
            let pattern = pattern(io.tag());
            io.data().fill(pattern);
        }
        self.note(io, answer);
        Step::Done(answer)
    }

    /// What the kernel shall be told, by the rules.
    fn note(&mut self, io: &Io<'_>, answer: Result<(), Errno>) {
        let slot = &mut self.kernel.lock().part.slots[usize::from(io.tag())];
        let sectors = slot.request.nr_sectors;
        let whole = match sys::op(slot.request.op_flags) {
            sys::UBLK_IO_OP_READ | sys::UBLK_IO_OP_WRITE => sectors * 512,
            _ => 0,
        };
        let whole = i32::try_from(whole).expect("decoded against the largest request");
        slot.answer = Some(answer.map_or_else(|errno| -errno.number(), |()| whole));
    }
}

impl Handler for Player {
    fn start(&mut self, io: &mut Io<'_>) -> Step {
        let lied = self.kernel.lock().lied;
        if io.request().operation == (Operation::Write { fua: false }) && !lied {
            let tag = io.tag();
            assert!(io.data().iter().all(|byte| *byte == pattern(tag)), "another request's data");
        }
        self.play(io)
    }

    fn resume(&mut self, io: &mut Io<'_>, _: Completion) -> Step {
        self.play(io)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::corpus;

    /// Two slots, a handler that plays so, and what the kernel does.
    fn seed(plays: &[u8], script: &[&[u8]]) -> Vec<u8> {
        let len = u8::try_from(plays.len()).expect("few");
        // A ring of honest make, whose indices begin just before their wrap, and the offer of all.
        let ring: &[u8] = &[0, 0xfe, 0xff, 0xff, 0xff, 1, 1, 6, 0];
        [&[1, 0, 1, len], plays, ring, &script.concat()].concat()
    }

    /// The same, listened to.
    fn traced(plays: &[u8], script: &[&[u8]]) -> Vec<u8> {
        [&[0x81], &seed(plays, script)[1..]].concat()
    }

    /// All is taken, then so many steps follow.
    const fn takes(steps: u8) -> [u8; 2] {
        [6, steps]
    }

    /// The first command under way but the poll completes with a request for so many sectors.
    const fn asks(op: u8, sectors: u8) -> [u8; 5] {
        [0, 1, op, sectors - 1, 8]
    }

    const DONE: u8 = 0xff;

    #[test]
    fn corpus_of_completions() {
        let [write, read, flush] = [asks(1, 8), asks(0, 8), asks(2, 1)];
        let (one, two) = (takes(1), takes(2));
        let errno = |number: u8| [0, number, 0];
        let first = |op: u8| [0, 0, op, 7, 8]; // once the poll is over
        let halves: &[&[u8]] = &[&two, &write, &read, &[1, 1, 0], &[1, 0, 0], &one, &flush];
        let stopped = "Ok(Stopped)";
        let seeds: &[(&str, Vec<u8>, &str)] = &[
            ("serves", seed(&[DONE; 9], &[&two, &write, &read, &two, &flush, &read]), stopped),
            ("fails", seed(&[5 << 3 | 3, 7], &[&two, &write, &read]), stopped),
            ("delays", seed(&[0, 0, 1, 2], &[&two, &write, &read, &[6, 2, 0, 1, 0, 1]]), stopped),
            ("strange", seed(&[DONE], &[&one, &[0, 1, 0xff, 9, 9, 9, 9, 9, 9]]), stopped),
            ("short", seed(&[DONE; 4], halves), stopped),
            ("time", seed(&[DONE], &[&[4, 0], &one, &write]), stopped),
            ("signal", seed(&[DONE], &[&errno(0), &one, &write, &errno(0)]), stopped),
            ("memory", seed(&[DONE], &[&[5, 98], &one, &write]), stopped),
            ("starved", seed(&[DONE], &[&[5, 101]]), "Err(Ring(Starved(EAGAIN"),
            ("fatal", seed(&[DONE], &[&errno(8)]), "Err(Ring(Enter(EBADFD"),
            ("aborts", seed(&[DONE], &[&two, &[4, 1, 4, 1]]), stopped),
            ("refused", seed(&[DONE], &[&one, &[5, 1, 0xea, 0xff, 0xff, 0xff]]), "Err(Refused"),
            ("positive", seed(&[DONE], &[&one, &[5, 1, 1, 0, 0, 0]]), "Err(Unexpected"),
            ("woken", seed(&[DONE], &[&two, &write, &[0, 0]]), "Ok(Woken)"),
            ("woken-first", seed(&[DONE], &[&takes(3), &[0, 0], &first(1), &first(0)]), "Ok(Woken"),
            ("woken-delayed", seed(&[0], &[&one, &write, &one, &[0, 0]]), "Ok(Woken)"),
            ("failed-wake", seed(&[DONE], &[&one, &[6, 1, 3, 0, 0, 0, 9, 9, 9, 255]]), "Err(Unex"),
            ("no-tag-delay", seed(&[DONE], &[&one, &[6, 0, 2, 0, 9, 0]]), "Err(Unexpected"),
            ("no-tag", seed(&[DONE], &[&one, &[6, 0, 1, 0, 9, 0]]), "Err(Unexpected"),
            ("nonsense", seed(&[DONE], &[&one, &[7, 0, 9, 9, 9, 9, 9, 9, 9, 9]]), "Err(Unex"),
            ("no-delay", seed(&[DONE], &[&one, &[6, 0, 2, 7, 0, 0]]), "Err(Unexpected"),
            ("count", seed(&[DONE], &[&[2, 9, 0, 0, 0, 0]]), "Err(Ring(Impossible"),
            ("traced", traced(&[DONE; 9], &[&two, &write, &read, &two, &flush, &read]), stopped),
            ("traced-delays", traced(&[0, 1, 2], &[&two, &write, &read, &[6, 1, 0, 1]]), stopped),
            ("traced-no-tag", traced(&[DONE], &[&one, &[6, 0, 1, 0, 9, 0]]), "Err(Unexpected"),
            ("traced-tail", traced(&[DONE], &[&[3, 9, 0, 0, 0, 0]]), "Err(Ring(Comp"),
            ("tail", seed(&[DONE], &[&[3, 9, 0, 0, 0, 0]]), "Err(Ring(CompletionsOverrun"),
        ];
        for (name, bytes, end) in seeds {
            let found = run(bytes).map_or_else(String::new, |end| format!("{end:?}"));
            assert!(found.starts_with(end), "{name}: {found}");
        }
        let named: Vec<_> = seeds.iter().map(|(name, bytes, _)| (*name, bytes.clone())).collect();
        corpus::check("completions", completions, &named);
    }
}
