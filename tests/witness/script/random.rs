//! Scripts from a seed: mostly what a server does, and between it what none should.

use super::build::{Plan, read, script, write};
use super::sqe::{self, Fd, NOWHERE, Payload, Sqe, Word, commit, fetch, get_data};
use super::{Script, Step, Wish};
use ublkit::sys::ublk as sys;

/// The task, and its ring, that is not the server.
const OTHER: usize = 2;

/// SplitMix64: the same numbers everywhere.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    }

    fn below(&mut self, of: usize) -> usize {
        usize::try_from(self.next() % of as u64).expect("it is below")
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }
}

/// What the script thinks that is the case.
struct Draft {
    numbers: Numbers,
    plan: Plan,
    /// Slots that were fetched.
    fetched: Vec<(u16, u16)>,
    started: bool,
    /// Not to be started any more: old kernels complete commands of before, which were freed.
    stopped: bool,
    /// A STOP_DEV may wait for a request, and has the device's mutex, which a FETCH takes: on new
    /// kernels a server that fetches then never answers the request.
    stopping: bool,
    /// Clients that wait, by queue.
    waiting: Vec<Vec<Wish>>,
    clients: usize,
    /// A server may go, and come again.
    may_go: bool,
    gone: bool,
}

/// The script of a seed. Those of odd seeds have servers that go.
pub fn random(seed: u64) -> Script {
    let mut numbers = Numbers(seed);
    let recovers = sys::UBLK_F_USER_RECOVERY;
    let flags = numbers.pick(&[
        0,
        0,
        sys::UBLK_F_NEED_GET_DATA,
        sys::UBLK_F_USER_COPY,
        recovers,
        recovers | sys::UBLK_F_USER_RECOVERY_REISSUE,
        recovers | sys::UBLK_F_USER_RECOVERY_FAIL_IO,
        recovers | sys::UBLK_F_QUIESCE,
        recovers | sys::UBLK_F_USER_RECOVERY_REISSUE | sys::UBLK_F_NEED_GET_DATA,
    ]);
    let queues = numbers.pick(&[1, 2]);
    let depth = numbers.pick(&[1, 1, 2]);
    let plan = Plan { queues, depth, ..Plan::with(flags) };
    let mut draft = Draft {
        numbers,
        plan,
        fetched: Vec::new(),
        started: false,
        stopped: false,
        stopping: false,
        waiting: vec![Vec::new(); queues.into()],
        clients: 0,
        may_go: seed % 2 == 1,
        gone: false,
    };
    let steps = 12 + draft.numbers.below(16);
    let made = script(format!("random: {seed}"), |s| {
        s.opened(&plan);
        s.ring(OTHER, OTHER, 8, 0);
        for _ in 0..steps {
            draft.step(s);
        }
    });
    if draft.may_go {
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
            0..30 => self.ask(s),
            30..60 => self.answer(s),
            60..80 => self.mistake(s),
            80..86 => self.copy(s),
            86..96 => self.command(s),
            _ if self.may_go => self.go(s),
            _ => s.control(sqe::info(0)),
        }
    }

    fn slot(&mut self) -> (u16, u16) {
        let queue = self.numbers.below(self.plan.queues.into());
        let tag = self.numbers.below(self.plan.depth.into());
        (u16::try_from(queue).expect("few"), u16::try_from(tag).expect("few"))
    }

    fn missing(&self) -> Option<(u16, u16)> {
        let slots = (0..self.plan.queues)
            .flat_map(|queue| (0..self.plan.depth).map(move |tag| (queue, tag)));
        slots.into_iter().find(|slot| !self.fetched.contains(slot))
    }

    /// Before the device is live.
    fn begin(&mut self, s: &mut Script) {
        let missing = self.missing();
        match (self.numbers.below(10), missing) {
            (0..7, Some((queue, tag))) => {
                s.send(1, [self.plan.fetch(queue, tag)]);
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

    /// A client asks, unless there are as many as tags: it is chance in which order others come,
    /// and those that are sent again.
    fn ask(&mut self, s: &mut Script) {
        let (queue, _) = self.slot();
        let waiting = &mut self.waiting[usize::from(queue)];
        if waiting.len() >= usize::from(self.plan.depth) {
            return;
        }
        let sector = 64 * self.clients as u64 % 1024;
        let sectors = self.numbers.pick(&[1, 8, 32]);
        let wish =
            if self.numbers.chance(50) { read(sector, sectors) } else { write(sector, sectors) };
        s.client(self.clients, wish.on(queue));
        self.clients += 1;
        waiting.push(wish);
    }

    /// The server answers a request, as it should for the most part.
    fn answer(&mut self, s: &mut Script) {
        let (queue, _) = self.slot();
        let tag = 0; // the oldest
        let waiting = &mut self.waiting[usize::from(queue)];
        let first = if waiting.is_empty() { None } else { Some(waiting.remove(0)) };
        let full = first.map_or(4096, |wish| i32::try_from(wish.sectors * 512).expect("short"));
        if self.plan.flags & sys::UBLK_F_NEED_GET_DATA != 0 {
            s.send(1, [get_data(queue, tag).buf(self.plan.buffer(queue))]);
        }
        let result = match self.numbers.below(10) {
            0 => -libc::EIO,
            1 => -libc::ENOSPC,
            _ => full,
        };
        s.fill(self.plan.buffer(queue), u8::try_from(self.clients % 251).expect("a byte"));
        s.send(1, [self.plan.commit(queue, tag, result)]);
    }

    /// What no server should do.
    fn mistake(&mut self, s: &mut Script) {
        let (queue, tag) = self.slot();
        let plan = self.plan;
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

    fn copy(&mut self, s: &mut Script) {
        let (queue, _) = self.slot();
        let offset = self.numbers.pick(&[0, 512, 4096, 16384]);
        let position = 0x8000_0000 + (u64::from(queue) << 41) + offset;
        let write = self.numbers.chance(50).then_some(0x77);
        if self.plan.depth == 1 {
            let len = self.numbers.pick(&[512, 4096]);
            s.step(Step::Copy { task: 1, file: 0, write, position, len });
        }
    }

    /// A control command.
    fn command(&mut self, s: &mut Script) {
        let sqe = match self.numbers.below(12) {
            0..4 => sqe::info(0),
            4 => sqe::set_params(0, &self.plan.params(), "sound"),
            5 => sqe::get_params(0),
            6 if !self.stopped => sqe::start(0, Word::PidOf(1)).patient(),
            7 => sqe::start_recovery(0),
            8 => sqe::end_recovery(0, Word::PidOf(1)).patient(),
            9 => sqe::start(0, Word::Number(0)),
            10 if self.numbers.chance(30) => {
                self.stopped = !self.may_go;
                self.stopping |= self.waiting.iter().any(|queue| !queue.is_empty());
                sqe::stop(0).patient()
            }
            11 if self.numbers.chance(50) => sqe::quiesce(0, 30).patient(),
            _ => sqe::set_params(0, &self.plan.params(), "null")
                .payload(Payload::At(NOWHERE), "nowhere"),
        };
        s.control(sqe);
    }

    /// The server lets go of everything.
    fn go(&mut self, s: &mut Script) {
        s.server_gone(&self.plan);
        s.control(sqe::info(0));
        self.gone = true;
        self.stopping = false;
        self.fetched.clear();
    }

    fn come_again(&mut self, s: &mut Script) {
        match self.numbers.below(4) {
            0 => self.ask(s),
            1 => s.control(sqe::start_recovery(0)),
            _ => {
                s.server(&self.plan);
                s.fetched(&self.plan);
                s.control(sqe::end_recovery(0, Word::PidOf(1)).patient());
                s.pause(50);
                s.control(sqe::info(0));
                self.gone = false;
                if self.plan.flags & sys::UBLK_F_USER_RECOVERY == 0 {
                    self.waiting.iter_mut().for_each(Vec::clear); // they failed
                }
            }
        }
    }
}
