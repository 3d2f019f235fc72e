//! What is the same in all scripts from a seed: numbers, clients, control commands.

use super::super::build::{Plan, read, write};
use super::super::sqe::{self, NOWHERE, Payload, Word};
use super::super::{Script, Step, Wish};
use ublkit::sys::ublk as sys;

/// The task, and its ring, that is not the server.
pub const OTHER: usize = 2;

/// SplitMix64: the same numbers everywhere.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    }

    pub fn below(&mut self, of: usize) -> usize {
        usize::try_from(self.next() % of as u64).expect("it is below")
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }
}

/// What the script thinks that is the case.
pub struct Draft {
    pub numbers: Numbers,
    pub plan: Plan,
    /// How many clients wait in a queue at the most: it is chance in which order more come.
    pub most: usize,
    /// Slots that were fetched, or offered.
    pub fetched: Vec<(u16, u16)>,
    pub started: bool,
    /// Not to be started any more: old kernels complete commands of before, which were freed.
    pub stopped: bool,
    /// A STOP_DEV may wait for a request, and has the device's mutex, which a FETCH of a slot and a
    /// PREP take: on new kernels a server that sends one then never answers the request.
    pub stopping: bool,
    /// Clients that wait, by queue.
    pub waiting: Vec<Vec<Wish>>,
    pub clients: usize,
    /// A server may go, and come again.
    pub may_go: bool,
    pub gone: bool,
}

impl Draft {
    pub fn new(numbers: Numbers, plan: Plan, may_go: bool) -> Self {
        Self {
            numbers,
            plan,
            most: plan.depth.into(),
            fetched: Vec::new(),
            started: false,
            stopped: false,
            stopping: false,
            waiting: vec![Vec::new(); plan.queues.into()],
            clients: 0,
            may_go,
            gone: false,
        }
    }

    pub fn slot(&mut self) -> (u16, u16) {
        let queue = self.numbers.below(self.plan.queues.into());
        let tag = self.numbers.below(self.plan.depth.into());
        (u16::try_from(queue).expect("few"), u16::try_from(tag).expect("few"))
    }

    pub fn missing(&self) -> Option<(u16, u16)> {
        let slots = (0..self.plan.queues)
            .flat_map(|queue| (0..self.plan.depth).map(move |tag| (queue, tag)));
        slots.into_iter().find(|slot| !self.fetched.contains(slot))
    }

    /// A client asks a queue, unless there are as many as tags: it is chance in which order others
    /// come, and those that are sent again.
    pub fn ask(&mut self, s: &mut Script) -> Option<u16> {
        let (queue, _) = self.slot();
        let waiting = &mut self.waiting[usize::from(queue)];
        if waiting.len() >= self.most {
            return None;
        }
        let sector = 64 * self.clients as u64 % 1024;
        let sectors = self.numbers.pick(&[1, 8, 32]);
        let wish =
            if self.numbers.chance(50) { read(sector, sectors) } else { write(sector, sectors) };
        s.client(self.clients, wish.on(queue));
        self.clients += 1;
        waiting.push(wish);
        Some(queue)
    }

    /// What the server answers to a request, as it should for the most part.
    pub fn result(&mut self, wish: Option<Wish>) -> i32 {
        let full = wish.map_or(4096, |wish| i32::try_from(wish.sectors * 512).expect("short"));
        match self.numbers.below(10) {
            0 => -libc::EIO,
            1 => -libc::ENOSPC,
            _ => full,
        }
    }

    /// What a buffer is filled with.
    pub fn byte(&self) -> u8 {
        u8::try_from(self.clients % 251).expect("a byte")
    }

    /// Whether its clients wait for the next server when one is gone.
    pub fn recovers(&self) -> bool {
        self.plan.flags & sys::UBLK_F_USER_RECOVERY != 0
    }

    /// The server copies data of its oldest request.
    pub fn copy(&mut self, s: &mut Script) {
        let (queue, _) = self.slot();
        let offset = self.numbers.pick(&[0, 512, 4096, 16384]);
        let position = 0x8000_0000 + (u64::from(queue) << 41) + offset;
        let write = self.numbers.chance(50).then_some(0x77);
        if self.plan.depth == 1 || self.plan.flags & sys::UBLK_F_BATCH_IO != 0 {
            let len = self.numbers.pick(&[512, 4096]);
            s.step(Step::Copy { task: 1, file: 0, write, position, len });
        }
    }

    /// A control command.
    pub fn command(&mut self, s: &mut Script) {
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
    pub fn go(&mut self, s: &mut Script) {
        s.server_gone(&self.plan);
        s.control(sqe::info(0));
        self.gone = true;
        self.stopping = false;
        self.fetched.clear();
    }
}
