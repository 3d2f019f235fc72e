//! `completions`: a queue whose kernel completes anything with any result, at any time.

use super::input::Input;
use super::scripted::Scripted;
use super::slots::{Owner, QUEUE, Slot, Slots, pattern};
use crate::data_path::DataPath;
use crate::errno::Errno;
use crate::geometry::Geometry;
use crate::handler::{Completion, Handler, Io, Step};
use crate::kernel::Kernel;
use crate::needs::Needs;
use crate::queue::{Meter, Queue, QueueError, QueuePlan, QueueStats, Turn};
use crate::request::{Limits, Operation};
use crate::ring::RingError;
use crate::sim::user::Pages;
use crate::trace::{Detail, Log, Traced};
use core::time::Duration;
use std::sync::Arc;
use ublkit_sys::ublk as sys;

/// Of the first byte: whether the kernel is listened to, asks where a write's data goes, is looked
/// at before the queue sleeps, and takes commands for many slots (without their data, if it asks).
const TRACED: u8 = 0x80;
const ASKS: u8 = 0x40;
const SPINS: u8 = 0x20;
const BATCHES: u8 = 0x10;

/// The queue ends as what it was told says, commits only what it was given, with the answer that
/// its handler gave, and keeps its accounts.
pub fn completions(bytes: &[u8]) {
    let _: Option<End> = run(bytes);
}

type End = Result<Turn, QueueError>;

fn run(bytes: &[u8]) -> Option<End> {
    let mut input = Input::new(bytes);
    let first = input.byte();
    let (depth, is_traced) = (1 + u16::from(first % 4), first & TRACED != 0);
    let descriptor_bytes = 24 + 8 * u16::from(input.byte() % 8);
    let max_io_bytes = 4096 << (input.byte() % 3);
    let handler_bytes = usize::from(input.byte());
    let plays = Input::new(&input.take(handler_bytes));
    let part = Slots {
        memory: Arc::new(Pages::new(usize::from(depth * descriptor_bytes))),
        descriptor_bytes,
        slots: vec![Slot::default(); depth.into()],
        max_io_bytes,
        asks: first & ASKS != 0,
        waste: None,
        batches: first & BATCHES != 0,
        spins: first & SPINS != 0,
        due: None,
        told: QueueStats::default(),
    };
    let kernel = Scripted::new(part, input);
    if first & BATCHES != 0 {
        let mut machine = kernel.lock();
        (machine.batches, machine.lied) = (true, true); // what is said in batches is not judged
    }
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
    let Slots { descriptor_bytes, max_io_bytes, asks, batches, spins, .. } = truth.lock().part;
    let depth = truth.lock().part.depth();
    let geometry = Geometry { discard_bytes: 4096, write_zeroes: true, ..Geometry::new(1 << 20) };
    let plan = QueuePlan {
        device: 0,
        queue: QUEUE,
        share: crate::slots::Share::ALL,
        depth,
        descriptor_bytes,
        limits: Limits::new(geometry, max_io_bytes),
        size_bytes: Arc::default(),
        path: match (asks, batches) {
            (true, false) => DataPath::GetData,
            (true, true) => DataPath::UserCopy,
            (false, _) => DataPath::Copy,
        },
        batches,
        needs: Needs { operations: 1, ..Needs::default() },
        char_device: Arc::new(kernel.open(c"/dev/ublkc0").ok()?),
        cpus: Vec::new(),
        meter: Some(Arc::new(Meter::new(QUEUE, depth))),
        request_timeout: None,
        spin: Duration::from_micros(if spins { 10 } else { 0 }),
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
        let has = |slot: &Slot| matches!(slot.owner, Owner::Server | Owner::Asked);
        let is_left = truth.part.slots.iter().any(has);
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

    /// The same on a kernel that asks where a write's data goes.
    fn asking(plays: &[u8], script: &[&[u8]]) -> Vec<u8> {
        [&[ASKS | 1], &seed(plays, script)[1..]].concat()
    }

    /// The first command under way but the poll completes: a write's data is to be fetched.
    const WANTS: [u8; 9] = [5, 1, 1, 0, 0, 0, 1, 7, 8];

    /// The second one, which was to fetch data, completes: it is there, it found no room, or a read
    /// came meanwhile.
    const THERE: [u8; 3] = [0, 2, 1];
    /// As before 6.2, for a flush.
    const FLUSH: [u8; 9] = [5, 1, 1, 0, 0, 0, 2, 0, 8];
    /// A write that is too long.
    const LONG: [u8; 9] = [5, 1, 1, 0, 0, 0, 1, 23, 8];
    const NO_ROOM: [u8; 7] = [5, 2, 1, 0, 0, 0, 1];
    const OTHER: [u8; 6] = [0, 2, 0, 0, 7, 8];

    /// All is taken, then so many steps follow.
    const fn takes(steps: u8) -> [u8; 2] {
        [6, steps]
    }

    /// The first command under way but the poll completes with a request for so many sectors.
    const fn asks(op: u8, sectors: u8) -> [u8; 5] {
        [0, 1, op, sectors - 1, 8]
    }

    /// In batches: the offer of all slots, the timer, the command that brings tags and the poll are
    /// under way.
    fn batches(first: u8, plays: &[u8], script: &[&[u8]]) -> Vec<u8> {
        let len = u8::try_from(plays.len()).expect("few");
        let ring: &[u8] = &[0, 0xfe, 0xff, 0xff, 0xff, 1, 1, 1, 6, 0];
        [&[BATCHES | first | 1, 0, 1, len], plays, ring, &script.concat()].concat()
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
            ("asks", asking(&[DONE], &[&one, &WANTS, &one, &THERE]), stopped),
            ("no-room", asking(&[DONE], &[&one, &WANTS, &one, &NO_ROOM, &one, &THERE]), stopped),
            ("nonsense-asks", asking(&[DONE], &[&one, &LONG, &one, &THERE]), stopped),
            ("asks-flush", asking(&[DONE], &[&one, &FLUSH, &one, &THERE]), stopped),
            ("other", asking(&[DONE; 2], &[&one, &WANTS, &one, &OTHER]), stopped),
            ("asks-woken", asking(&[DONE], &[&one, &WANTS, &two, &NO_ROOM, &[0, 0]]), "Ok(Woken"),
            (
                "spins",
                [&[SPINS | 1], &seed(&[0, 0, DONE, DONE], &[&two, &write, &read])[1..]].concat(),
                stopped,
            ),
            ("tail", seed(&[DONE], &[&[3, 9, 0, 0, 0, 0]]), "Err(Ring(CompletionsOverrun"),
        ];
        let brought: &[&[u8]] = &[&[0, 2, 1], &[0, 1, 7, 8], &[1, 0, 7, 8]]; // a write, a read
        let again: &[&[u8]] = &[&[0, 2, 1], &[0, 1, 7, 8], &[0, 0, 7, 8]];
        let (offered, brought, again) = (&[0, 1][..], brought.concat(), again.concat());
        let lies = |result: u8, flags: [u8; 4]| {
            let lie: [u8; 12] = [0x80, 2, 0, 0, 1, 7, 8, result, 0, 0, 0, flags[0]];
            [&two, offered, &lie, &flags[1..]].concat()
        };
        let minus = |errno: i32| (-errno).to_le_bytes();
        let [full, gone] = [minus(libc::ENOBUFS), minus(libc::EINVAL)];
        let batch = |script: &[&[u8]]| batches(0, &[DONE; 4], script);
        let in_batches: &[(&str, Vec<u8>, &str)] = &[
            ("batch", batch(&[&two, offered, &brought, &one, &[0, 3]]), stopped),
            ("batch-short", batch(&[&two, offered, &brought, &one, &[3, 3, 2]]), stopped),
            // There was no room for what was brought again and, it was said, not taken before.
            (
                "batch-both",
                batch(&[&two, offered, &brought, &two, &brought, &[3, 3, 2]]),
                "Err(Unexpected",
            ),
            ("batch-most", batch(&[&two, offered, &brought, &one, &[5, 3, 7, 0, 0, 0]]), "Err("),
            ("batch-early", batch(&[&one, &[0, 3, 0, 0, 1, 7, 8]]), stopped),
            ("batch-twice", batch(&[&two, offered, &again]), "Err(Unexpected"),
            ("batch-no-tag", batch(&[&two, offered, &[0, 2, 0, 0xff, 9, 0]]), "Err(Unexpected"),
            ("batch-refused", batch(&[&one, &[5, 1], &gone]), "Err(Batch"),
            ("batch-full", batch(&[&one, &[5, 3], &full, &two, offered, &[0, 2]]), stopped),
            ("batch-no-fetch", batch(&[&one, &[5, 3], &gone]), "Err(Batch"),
            ("batch-last", batch(&[&lies(2, [0, 0, 0, 0])]), "Err(Unexpected"),
            ("batch-odd", batch(&[&lies(3, [3, 0, 0, 0])]), "Err(Unexpected"),
            ("batch-other", batch(&[&lies(2, [3, 0, 9, 0])]), "Err(Unexpected"),
            ("batch-delays", batches(0, &[0, 0, DONE, DONE], &[&two, offered, &brought]), stopped),
            ("batch-outside", batches(ASKS, &[DONE; 2], &[&two, offered, &brought]), stopped),
            ("batch-traced", batches(TRACED, &[DONE; 2], &[&two, offered, &brought]), stopped),
        ];
        let seeds = [seeds, in_batches].concat();
        for (name, bytes, end) in &seeds {
            let found = run(bytes).map_or_else(String::new, |end| format!("{end:?}"));
            assert!(found.starts_with(end), "{name}: {found}");
        }
        let named: Vec<_> = seeds.iter().map(|(name, bytes, _)| (*name, bytes.clone())).collect();
        corpus::check("completions", completions, &named);
    }
}
