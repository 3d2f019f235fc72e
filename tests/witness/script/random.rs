//! Scripts from a seed: mostly what a server does, and between it what none should.

mod batch;
mod draft;
mod pages;

pub use batch::random_batch;

use super::Script;
use super::build::{Plan, SERVER, script};
use super::scripts::optional::{FREES_TWICE, LACKS_PAGES};
use super::sqe::{self, Fd, Sqe, Word, commit, fetch, get_data};
use draft::{Draft, Numbers, OTHER};
use ublkit::sys::ublk as sys;

/// The script of a seed. Those of odd seeds have servers that go.
pub fn random(seed: u64) -> Script {
    let mut numbers = Numbers(seed);
    let recovers = sys::UBLK_F_USER_RECOVERY;
    let (automatic, zero_copy) = (sys::UBLK_F_AUTO_BUF_REG, sys::UBLK_F_SUPPORT_ZERO_COPY);
    let flags = numbers.pick(&[
        0,
        0,
        sys::UBLK_F_NEED_GET_DATA,
        sys::UBLK_F_USER_COPY,
        zero_copy,
        automatic | zero_copy,
        automatic | sys::UBLK_F_USER_COPY,
        recovers | sys::UBLK_F_USER_RECOVERY_REISSUE | automatic | zero_copy,
        recovers | automatic,
        recovers,
        recovers | sys::UBLK_F_USER_RECOVERY_REISSUE,
        recovers | sys::UBLK_F_USER_RECOVERY_FAIL_IO,
        recovers | sys::UBLK_F_QUIESCE,
        recovers | sys::UBLK_F_USER_RECOVERY_REISSUE | sys::UBLK_F_NEED_GET_DATA,
    ]);
    let queues = numbers.pick(&[1, 2]);
    let depth = numbers.pick(&[1, 1, 2]);
    // With one slot a queue no two requests need one place of a table.
    let has_pages = flags & (automatic | zero_copy) != 0;
    let depth = if has_pages { 1 } else { depth };
    let plan = Plan { queues, depth, ..Plan::with(flags) };
    let mut draft = Draft::new(numbers, plan, seed % 2 == 1);
    let steps = 12 + draft.numbers.below(16);
    let made = script(format!("random: {seed}"), |s| {
        s.opened(&plan);
        s.ring(OTHER, OTHER, 8, 0);
        [SERVER, OTHER].into_iter().for_each(|ring| draft.table(s, ring));
        draft.file(s);
        for _ in 0..steps {
            draft.step(s);
        }
    });
    if flags & automatic != 0 {
        made.not_on("6.12", LACKS_PAGES).not_on("6.18", FREES_TWICE)
    } else if has_pages {
        made.not_on("6.12", LACKS_PAGES)
    } else if draft.may_go {
        made.not_on("6.12", "servers that go do it harm; see the scripts about them")
    } else {
        made
    }
}

impl Draft {
    fn step(&mut self, s: &mut Script) {
        if self.gone {
            return self.come_again(s);
        }
        if !self.started {
            return self.begin(s);
        }
        match self.numbers.below(100) {
            0..30 => drop(self.ask(s)),
            30..60 => self.answer(s),
            60..80 => self.mistake(s),
            80..86 => self.copy(s),
            86..96 => self.command(s),
            _ if self.may_go => self.go(s),
            _ => s.control(sqe::info(0)),
        }
    }

    /// Before the device is live.
    fn begin(&mut self, s: &mut Script) {
        let missing = self.missing();
        match (self.numbers.below(10), missing) {
            (0..7, Some((queue, tag))) => {
                let fetch = self.placed(self.plan.fetch(queue, tag), queue);
                s.send(1, [fetch]);
                self.fetched.push((queue, tag));
            }
            (0..7, None) => {
                if !self.stopped {
                    s.control(sqe::start(0, Word::PidOf(1)).patient());
                }
                self.started = true;
            }
            (7, _) => self.command(s),
            _ => self.mistake(s),
        }
    }

    /// The server answers a request, as it should for the most part.
    fn answer(&mut self, s: &mut Script) {
        let (queue, _) = self.slot();
        let tag = 0; // the oldest
        let waiting = &mut self.waiting[usize::from(queue)];
        let first = if waiting.is_empty() { None } else { Some(waiting.remove(0)) };
        if self.plan.flags & sys::UBLK_F_NEED_GET_DATA != 0 {
            s.send(1, [get_data(queue, tag).buf(self.plan.buffer(queue))]);
        }
        let result = self.result(first);
        s.fill(self.plan.buffer(queue), self.byte());
        let answer = self.placed(self.plan.commit(queue, tag, result), queue);
        if self.has_pages() {
            return self.answer_pages(s, queue, first, answer);
        }
        s.send(1, [answer]);
    }

    /// What no server should do.
    fn mistake(&mut self, s: &mut Script) {
        let (queue, tag) = self.slot();
        let plan = self.plan;
        if self.has_pages() && self.numbers.chance(40) {
            return self.mistake_pages(s, queue);
        }
        let by_other = self.numbers.chance(25);
        let ring = if by_other { OTHER } else { 1 };
        let sqe: Sqe = match self.numbers.below(12) {
            0 => fetch(queue, tag).buf(0),
            1 if self.fetched.contains(&(queue, tag)) => plan.fetch(queue, tag),
            2 => plan.commit(queue, plan.depth, 0),
            3 => plan.commit(plan.queues, tag, 0),
            4 => get_data(queue, tag).buf(0),
            5 => plan.commit(queue, tag, 0).op(0xc010_757f),
            6 => plan.commit(queue, tag, 0).op(0xc010_6121),
            7 => plan.commit(queue, tag, 0).fd(Fd::Number(-1)),
            8 => plan.commit(queue, tag, 0).high(1),
            9 => commit(queue, tag, 4096),
            10 if by_other => plan.commit(queue, tag, 4096),
            _ => plan.commit(queue, tag, 4096).op(sys::UBLK_U_IO_UNREGISTER_IO_BUF),
        };
        // A FETCH that goes well is the server's to do: otherwise it is chance who has what.
        let takes = sqe.op & 0xff == sys::UBLK_U_IO_FETCH_REQ & 0xff;
        if takes && self.stopping {
            return;
        }
        if takes && !self.fetched.contains(&(queue, tag)) {
            self.fetched.push((queue, tag));
            s.send(1, [plan.fetch(queue, tag)]);
            return;
        }
        s.send(ring, [sqe]);
    }

    fn come_again(&mut self, s: &mut Script) {
        match self.numbers.below(4) {
            0 => drop(self.ask(s)),
            1 => s.control(sqe::start_recovery(0)),
            _ => {
                s.server(&self.plan);
                self.table(s, SERVER);
                for (queue, tag) in self.plan.slots() {
                    let fetch = self.placed(self.plan.fetch(queue, tag), queue);
                    s.send(SERVER, [fetch]);
                }
                s.control(sqe::end_recovery(0, Word::PidOf(1)).patient());
                s.pause(50);
                s.control(sqe::info(0));
                self.gone = false;
                if !self.recovers() {
                    self.waiting.iter_mut().for_each(Vec::clear); // they failed
                }
            }
        }
    }
}
