//! Scripts from a seed, of devices that are served many slots at once.

use super::super::batch::{Element, commit_all, element, fetch_tags, prepare};
use super::super::build::{Plan, SERVER, script};
use super::super::sqe::{self, Fd, NOWHERE, Sqe, Word, commit, fetch, get_data};
use super::super::{Register, Script, Step, Wish};
use super::draft::{Draft, Numbers, OTHER};
use std::collections::VecDeque;
use ublkit::sys::ublk as sys;

/// Places in the table of a ring, for automatic buffers: one for each queue.
const PLACES: u32 = 4;

/// A queue, as far as the script knows.
#[derive(Clone, Default)]
struct Line {
    /// The rings of the commands that bring tags, the first of them in use; `None` for one whose
    /// group has no buffers.
    fetches: VecDeque<Option<usize>>,
    /// Requests whose tags are to be brought.
    late: usize,
    /// Requests that the server should have.
    brought: usize,
}

/// What the script thinks that is the case.
struct Batches {
    draft: Draft,
    lines: Vec<Line>,
    /// The buffers that are left for tags, of each ring.
    buffers: [usize; OTHER + 1],
    /// Rings whose first buffer has room for no tag, and stays the first.
    blocked: [bool; OTHER + 1],
}

/// The script of a seed. Those of odd seeds have servers that go.
pub fn random_batch(seed: u64) -> Script {
    let mut numbers = Numbers(seed);
    let recovers = sys::UBLK_F_USER_RECOVERY;
    let flags = numbers.pick(&[
        0,
        0,
        sys::UBLK_F_USER_COPY,
        sys::UBLK_F_AUTO_BUF_REG,
        recovers,
        recovers | sys::UBLK_F_USER_RECOVERY_REISSUE,
        recovers | sys::UBLK_F_USER_RECOVERY_REISSUE | sys::UBLK_F_AUTO_BUF_REG,
        recovers | sys::UBLK_F_USER_RECOVERY_FAIL_IO,
        recovers | sys::UBLK_F_QUIESCE,
    ]);
    let queues = numbers.pick(&[1, 1, 2]);
    let depth = numbers.pick(&[2, 2, 3]);
    let plan = Plan { queues, depth, ..Plan::with(sys::UBLK_F_BATCH_IO | flags) };
    let mut draft = Draft::new(numbers, plan, seed % 2 == 1);
    // With one at a time there is no chance in which of two is sent again first, and no place of a
    // table is needed twice.
    if draft.may_go || flags & sys::UBLK_F_AUTO_BUF_REG != 0 {
        draft.most = 1;
    }
    let lines = vec![Line::default(); queues.into()];
    let mut batches =
        Batches { draft, lines, buffers: [0; OTHER + 1], blocked: [false; OTHER + 1] };
    let steps = 14 + batches.draft.numbers.below(16);
    let made = script(format!("random batch: {seed}"), |s| {
        s.opened(&plan);
        batches.buffers_for_tags(s, SERVER);
        s.ring(OTHER, OTHER, 8, 0);
        if batches.others_fetch() {
            batches.buffers_for_tags(s, OTHER);
        }
        for _ in 0..steps {
            batches.step(s);
        }
    });
    made.not_on("6.12", "has no batches")
}

impl Batches {
    fn step(&mut self, s: &mut Script) {
        if self.draft.gone {
            return self.come_again(s);
        }
        if !self.draft.started {
            return self.begin(s);
        }
        match self.draft.numbers.below(100) {
            0..28 => self.ask(s),
            28..56 => self.answer(s),
            56..64 => self.bring(s),
            64..84 => self.mistake(s),
            84..88 => self.draft.copy(s),
            88..96 => self.draft.command(s),
            _ if self.draft.may_go => self.go(s),
            _ => s.control(sqe::info(0)),
        }
    }

    fn is_automatic(&self) -> bool {
        self.draft.plan.flags & sys::UBLK_F_AUTO_BUF_REG != 0
    }

    /// Whether the other task brings tags as well. A server is not gone while it does, and pages
    /// are to be registered with the ring that answers.
    fn others_fetch(&self) -> bool {
        !self.draft.may_go && !self.is_automatic()
    }

    fn element(&self, queue: u16, tag: u16, result: i32) -> Element {
        let plan = self.draft.plan;
        if plan.copies() {
            return element(tag, result, plan.buffer(queue));
        }
        Element { tag, place: queue, result, addr: Word::Number(0) }
    }

    fn dressed(&self, sqe: Sqe) -> Sqe {
        if self.draft.plan.copies() { sqe } else { sqe.bare() }
    }

    fn offer(&self, queue: u16, tags: &[u16]) -> Sqe {
        let elements: Vec<Element> = tags.iter().map(|tag| self.element(queue, *tag, 0)).collect();
        self.dressed(prepare(queue, &elements))
    }

    fn commit(&self, queue: u16, results: &[(u16, i32)]) -> Sqe {
        let elements: Vec<Element> =
            results.iter().map(|(tag, result)| self.element(queue, *tag, *result)).collect();
        self.dressed(commit_all(queue, &elements))
    }

    /// A ring gets its group of buffers, with some in it, and a table for pages where one is used.
    fn buffers_for_tags(&mut self, s: &mut Script, ring: usize) {
        let count = self.draft.numbers.pick(&[0, 1, 4, 8]);
        s.tag_buffers(ring, count);
        self.buffers[ring] = count.into();
        self.blocked[ring] = false;
        if self.is_automatic() {
            s.register(ring, ring, Register::Buffers(PLACES));
        }
    }

    /// Before the device is live.
    fn begin(&mut self, s: &mut Script) {
        let missing = self.draft.missing();
        let idle = self.lines.iter().position(|line| line.fetches.is_empty());
        match (self.draft.numbers.below(10), missing, idle) {
            (0..7, Some((queue, tag)), _) => {
                let whole = self.draft.numbers.chance(60);
                let last = if whole { self.draft.plan.depth } else { tag + 1 };
                let offered = |tag: &u16| self.draft.fetched.contains(&(queue, *tag));
                let tags: Vec<u16> = (tag..last).filter(|tag| !offered(tag)).collect();
                s.send(SERVER, [self.offer(queue, &tags)]);
                self.draft.fetched.extend(tags.into_iter().map(|tag| (queue, tag)));
            }
            (0..5, None, Some(queue)) => {
                self.fetch(s, u16::try_from(queue).expect("few"), SERVER);
            }
            (0..7, None, _) => {
                if !self.draft.stopped {
                    s.control(sqe::start(0, Word::PidOf(SERVER)).patient());
                }
                self.draft.started = true;
            }
            (7, ..) => self.draft.command(s),
            _ => self.mistake(s),
        }
    }

    fn ask(&mut self, s: &mut Script) {
        if let Some(queue) = self.draft.ask(s) {
            self.lines[usize::from(queue)].late += 1;
            self.deliver(queue);
        }
    }

    /// The first command of a queue brings its tags, or ends without a buffer. The script thinks
    /// that each needs one of its own.
    fn deliver(&mut self, queue: u16) {
        let line = &mut self.lines[usize::from(queue)];
        let Some(first) = line.fetches.front() else { return };
        match first.map(|ring| &mut self.buffers[ring]) {
            Some(buffers) if *buffers >= line.late => {
                *buffers -= line.late;
                line.brought += std::mem::take(&mut line.late);
            }
            _ => drop(line.fetches.pop_front()),
        }
    }

    fn fetch(&mut self, s: &mut Script, queue: u16, ring: usize) {
        s.send(ring, [fetch_tags(queue)]);
        self.fetched(queue, Some(ring));
    }

    fn fetched(&mut self, queue: u16, source: Option<usize>) {
        let line = &mut self.lines[usize::from(queue)];
        line.fetches.push_back(source);
        if line.late > 0 {
            self.deliver(queue);
        }
    }

    fn provide(&mut self, s: &mut Script, ring: usize) {
        let count = self.draft.numbers.pick(&[1, 2, 4]);
        let len =
            if self.draft.numbers.chance(4) { 1 } else { self.draft.numbers.pick(&[2, 4, 64]) };
        s.step(Step::Provide { ring, count, len });
        self.blocked[ring] |= len == 1;
        if !self.blocked[ring] {
            self.buffers[ring] += usize::from(count);
        }
    }

    /// Buffers, and a command that uses them.
    fn bring(&mut self, s: &mut Script) {
        let (queue, _) = self.draft.slot();
        let other = self.others_fetch() && self.draft.numbers.chance(30);
        let ring = if other { OTHER } else { SERVER };
        if self.buffers[ring] == 0 && self.draft.numbers.chance(80) {
            self.provide(s, ring);
        }
        if self.lines[usize::from(queue)].fetches.is_empty() || self.draft.numbers.chance(20) {
            self.fetch(s, queue, ring);
        }
    }

    /// The server answers requests, as it should for the most part.
    fn answer(&mut self, s: &mut Script) {
        let (queue, _) = self.draft.slot();
        let line = &mut self.lines[usize::from(queue)];
        if line.brought == 0 {
            return self.bring(s);
        }
        let count = 1 + self.draft.numbers.below(line.brought);
        line.brought -= count;
        let waiting = &mut self.draft.waiting[usize::from(queue)];
        let wishes: Vec<Wish> = waiting.drain(..count.min(waiting.len())).collect();
        let results: Vec<(u16, i32)> =
            (0..).zip(wishes).map(|(tag, wish)| (tag, self.draft.result(Some(wish)))).collect();
        let other = !self.is_automatic() && self.draft.numbers.chance(15);
        s.fill(self.draft.plan.buffer(queue), self.draft.byte());
        s.send(if other { OTHER } else { SERVER }, [self.commit(queue, &results)]);
    }

    /// What no server should do.
    fn mistake(&mut self, s: &mut Script) {
        let (queue, tag) = self.draft.slot();
        match self.draft.numbers.below(10) {
            0..3 => self.offered_wrongly(s, queue, tag),
            3..6 => self.answered_wrongly(s, queue, tag),
            6..8 => self.fetched_wrongly(s, queue),
            _ => self.of_the_other_kind(s, queue, tag),
        }
    }

    /// A command of elements with one thing that is wrong with all such commands.
    fn spoiled(&mut self, queue: u16, make: fn(u16, &[Element]) -> Sqe) -> Sqe {
        let plan = self.draft.plan;
        let which = self.draft.numbers.below(12);
        let all = |queue, count| -> Vec<Element> {
            (0..count).map(|tag| self.element(queue, tag, 0)).collect()
        };
        let right = self.dressed(make(queue, &all(queue, plan.depth)));
        match which {
            0 => self.dressed(make(plan.queues, &all(plan.queues, plan.depth))),
            1 => self.dressed(make(queue, &all(queue, plan.depth + 1))),
            2 => right.head("zones", |head| head.flags |= sys::UBLK_BATCH_F_HAS_ZONE_LBA),
            3 => right.head("unknown flag", |head| head.flags |= 8),
            4 => right.head("one byte more", |head| head.elem_bytes += 1),
            5 => right.head("24 each", |head| head.elem_bytes = 24),
            6 => right.head("nothing each", |head| head.elem_bytes = 0),
            7 => right.head("the other flag", |head| {
                head.flags ^= sys::UBLK_BATCH_F_HAS_BUF_ADDR;
                head.elem_bytes ^= 16 ^ 8;
            }),
            8 => right.addr(NOWHERE),
            9 => right.fd(Fd::Number(-1)),
            10 => right.high(1),
            _ => self.dressed(make(queue, &[])),
        }
    }

    fn offered_wrongly(&mut self, s: &mut Script, queue: u16, tag: u16) {
        if self.draft.stopping {
            return;
        }
        let ring = if self.draft.numbers.chance(25) { OTHER } else { SERVER };
        let depth = self.draft.plan.depth;
        let sqe = match self.draft.numbers.below(6) {
            0 => {
                // Not a mistake the first time.
                if !self.draft.fetched.contains(&(queue, tag)) {
                    self.draft.fetched.push((queue, tag));
                }
                self.offer(queue, &[tag])
            }
            1 => self.offer(queue, &[tag, tag]),
            2 => self.offer(queue, &[tag, depth]),
            3 if self.draft.plan.copies() => {
                prepare(queue, &[Element { addr: Word::Number(0), ..element(tag, 0, 0) }])
            }
            _ => self.spoiled(queue, prepare),
        };
        s.send(ring, [sqe]);
    }

    fn answered_wrongly(&mut self, s: &mut Script, queue: u16, tag: u16) {
        let other = !self.is_automatic() && self.draft.numbers.chance(25);
        let depth = self.draft.plan.depth;
        let sqe = match self.draft.numbers.below(8) {
            0 => self.commit(queue, &[(tag, 4096)]),
            1 => self.commit(queue, &[(tag, 4096), (tag, 4096)]),
            2 => self.commit(queue, &[(tag, 4096), (depth, 0)]),
            3 => self.commit(queue, &[(depth, 0), (tag, 4096)]),
            4 if self.draft.plan.copies() => {
                commit_all(queue, &[Element { addr: Word::Number(0), ..element(tag, 4096, 0) }])
            }
            _ => self.spoiled(queue, commit_all),
        };
        s.send(if other { OTHER } else { SERVER }, [sqe]);
    }

    fn fetched_wrongly(&mut self, s: &mut Script, queue: u16) {
        let right = fetch_tags(queue);
        let sqe = match self.draft.numbers.below(7) {
            0 => fetch_tags(self.draft.plan.queues),
            1 => right.op_flags(0),
            2 => right.flags(0),
            3 => right.head("4 each", |head| head.elem_bytes = 4),
            4 => right.head("flags", |head| head.flags = 1),
            5 => right.high(1),
            _ => {
                self.fetched(queue, None);
                right.group(5)
            }
        };
        s.send(SERVER, [sqe]);
    }

    /// Commands of one slot.
    fn of_the_other_kind(&mut self, s: &mut Script, queue: u16, tag: u16) {
        let ring = if self.draft.numbers.chance(25) { OTHER } else { SERVER };
        let depth = self.draft.plan.depth;
        let sqe = match self.draft.numbers.below(9) {
            0 => fetch(queue, tag).buf(0),
            1 => commit(queue, tag, 4096).buf(0),
            2 => commit(queue, depth, 0),
            3 => get_data(queue, tag).buf(0),
            4 => commit(queue, tag, 0).op(0xc010_757f),
            5 => commit(queue, tag, 4096).op(sys::UBLK_U_IO_PREP_IO_CMDS),
            6 => commit(queue, tag, 4096).op(sys::UBLK_U_IO_COMMIT_IO_CMDS),
            7 => fetch(queue, tag).op(sys::UBLK_U_IO_FETCH_IO_CMDS),
            // By hand, pages that the driver registers would be its to unregister no more.
            _ if self.is_automatic() => get_data(queue, depth),
            _ => commit(queue, tag, 4096).op(sys::UBLK_U_IO_UNREGISTER_IO_BUF),
        };
        s.send(ring, [sqe]);
    }

    fn go(&mut self, s: &mut Script) {
        self.draft.go(s);
        for (line, waiting) in self.lines.iter_mut().zip(&self.draft.waiting) {
            *line = Line { late: waiting.len(), ..Line::default() };
        }
    }

    fn come_again(&mut self, s: &mut Script) {
        match self.draft.numbers.below(6) {
            0 => self.ask(s),
            1..4 => s.control(sqe::start_recovery(0)),
            _ => {
                let plan = self.draft.plan;
                s.server(&plan);
                self.buffers_for_tags(s, SERVER);
                for queue in 0..plan.queues {
                    let tags: Vec<u16> = (0..plan.depth).collect();
                    s.send(SERVER, [self.offer(queue, &tags)]);
                    self.draft.fetched.extend(tags.into_iter().map(|tag| (queue, tag)));
                }
                for queue in 0..plan.queues {
                    s.send(SERVER, [fetch_tags(queue)]);
                }
                s.control(sqe::end_recovery(0, Word::PidOf(SERVER)).patient());
                s.pause(50);
                s.control(sqe::info(0));
                self.draft.gone = false;
                if !self.draft.recovers() {
                    self.draft.waiting.iter_mut().for_each(Vec::clear); // they failed
                    self.lines.iter_mut().for_each(|line| line.late = 0);
                }
                (0..plan.queues).for_each(|queue| self.fetched(queue, Some(SERVER)));
            }
        }
    }
}
