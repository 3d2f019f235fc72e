//! How scripts are written down.

use super::sqe::{self, Fd, Sqe, Word};
use super::{ADMIN, CONTROL_RING, Enter, Place, Register, Script, Step, Target, What, Wish};
use ublkit::kernel::Access;
use ublkit::sys::io_uring::IORING_SETUP_SQE128;
use ublkit::sys::ublk as sys;
use ublkit::sys::ublk::{ublk_param_basic, ublk_params, ublksrv_ctrl_dev_info};

/// The largest request of the scripts' devices, and the length of a buffer.
pub const MAX_IO_BYTES: u32 = 16 << 10;
/// The size of their disks.
pub const DISK_SECTORS: u64 = 2048;
/// Of a page, here and in the virtual machines.
pub const PAGE_BYTES: usize = 4096;
/// Between the descriptors of two queues.
pub const STRIDE_BYTES: u64 = 98_304;
/// The task that serves, unless said otherwise.
pub const SERVER: usize = 1;

/// The device of a script, and who serves it.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub queues: u16,
    pub depth: u16,
    pub flags: u64,
    pub attrs: u32,
    /// The flags of the serving rings.
    pub ring_flags: u32,
    /// A task and a ring for each queue, not one for all.
    pub task_per_queue: bool,
    /// With a disk that knows DISCARD and WRITE_ZEROES.
    pub discards: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            queues: 1,
            depth: 1,
            flags: 0,
            attrs: 0,
            ring_flags: 0,
            task_per_queue: false,
            discards: false,
        }
    }
}

impl Plan {
    pub fn with(flags: u64) -> Self {
        Self { flags, ..Self::default() }
    }

    /// The device that is asked for.
    pub fn info(&self) -> ublksrv_ctrl_dev_info {
        ublksrv_ctrl_dev_info {
            nr_hw_queues: self.queues,
            queue_depth: self.depth,
            max_io_buf_bytes: MAX_IO_BYTES,
            flags: self.flags,
            ..ublksrv_ctrl_dev_info::default()
        }
    }

    pub fn params(&self) -> ublk_params {
        let mut params = sound();
        params.basic.attrs = self.attrs;
        if self.discards {
            params.types |= sys::UBLK_PARAM_TYPE_DISCARD;
            params.discard.discard_granularity = 4096;
            params.discard.max_discard_sectors = 1024;
            params.discard.max_write_zeroes_sectors = 1024;
            params.discard.max_discard_segments = 1;
        }
        params
    }

    /// Whether the server's buffers are named in commands.
    pub fn copies(&self) -> bool {
        let others =
            sys::UBLK_F_USER_COPY | sys::UBLK_F_SUPPORT_ZERO_COPY | sys::UBLK_F_AUTO_BUF_REG;
        self.flags & others == 0
    }

    pub fn slots(&self) -> impl Iterator<Item = (u16, u16)> + use<> {
        let Self { queues, depth, .. } = *self;
        (0..queues).flat_map(move |queue| (0..depth).map(move |tag| (queue, tag)))
    }

    /// The buffer of a slot: slots of a queue share one, for it is chance which has a request.
    pub fn buffer(&self, queue: u16) -> usize {
        queue.into()
    }

    /// The ring, and the task, that serves a queue.
    pub fn server(&self, queue: u16) -> usize {
        if self.task_per_queue { SERVER + usize::from(queue) } else { SERVER }
    }

    /// The first FETCH of a slot.
    pub fn fetch(&self, queue: u16, tag: u16) -> Sqe {
        self.addressed(sqe::fetch(queue, tag), queue)
    }

    /// The COMMIT of a slot.
    pub fn commit(&self, queue: u16, tag: u16, result: i32) -> Sqe {
        self.addressed(sqe::commit(queue, tag, result), queue)
    }

    fn addressed(&self, sqe: Sqe, queue: u16) -> Sqe {
        if self.copies() { sqe.buf(self.buffer(queue)) } else { sqe }
    }
}

/// Parameters that every driver takes.
pub fn sound() -> ublk_params {
    ublk_params {
        len: u32::try_from(size_of::<ublk_params>()).expect("short"),
        types: sys::UBLK_PARAM_TYPE_BASIC,
        basic: ublk_param_basic {
            logical_bs_shift: 9,
            physical_bs_shift: 12,
            io_opt_shift: 12,
            io_min_shift: 12,
            max_sectors: MAX_IO_BYTES / 512,
            dev_sectors: DISK_SECTORS,
            ..ublk_param_basic::default()
        },
        ..ublk_params::default()
    }
}

/// Makes a script.
pub fn script(name: impl Into<String>, write: impl FnOnce(&mut Script)) -> Script {
    let mut script =
        Script { name: name.into(), steps: Vec::new(), not_on: Vec::new(), warns_on: Vec::new() };
    write(&mut script);
    script
}

impl Script {
    /// Spares a series of kernels, for a reason.
    #[must_use]
    pub fn not_on(mut self, series: &'static str, reason: &'static str) -> Self {
        self.not_on.push((series, reason));
        self
    }

    /// Says that a series of kernels warns in its log, and why.
    #[must_use]
    pub fn warns_on(mut self, series: &'static str, reason: &'static str) -> Self {
        self.warns_on.push((series, reason));
        self
    }

    /// Whether a series of kernels warns in its log.
    pub fn warns(&self, series: &str) -> bool {
        self.warns_on.iter().any(|(name, _)| *name == series)
    }

    /// Why a series of kernels is spared, where it is.
    pub fn spares(&self, series: &str) -> Option<&'static str> {
        self.not_on.iter().find(|(name, _)| *name == series).map(|(_, reason)| *reason)
    }

    pub fn step(&mut self, step: Step) {
        self.steps.push(step);
    }

    /// Makes one step of what `write` adds.
    pub fn together(&mut self, name: impl Into<String>, write: impl FnOnce(&mut Self)) {
        let before = std::mem::take(&mut self.steps);
        write(self);
        let steps = std::mem::replace(&mut self.steps, before);
        self.step(Step::Together(name.into(), steps));
    }

    pub fn ring(&mut self, task: usize, ring: usize, entries: u32, flags: u32) {
        self.step(Step::Ring { task, ring, entries, flags, cq_entries: 0 });
    }

    /// The control ring, needed before [`control`](Self::control).
    pub fn control_ring(&mut self) {
        self.ring(ADMIN, CONTROL_RING, 8, IORING_SETUP_SQE128);
    }

    /// Sends a control command.
    pub fn control(&mut self, sqe: Sqe) {
        self.send(CONTROL_RING, [sqe]);
    }

    /// Submits SQEs by the ring's own task.
    pub fn send<const N: usize>(&mut self, ring: usize, sqes: [Sqe; N]) {
        self.step(Step::Send { task: None, ring, sqes: sqes.to_vec() });
    }

    /// Submits SQEs by a task.
    pub fn send_by<const N: usize>(&mut self, task: usize, ring: usize, sqes: [Sqe; N]) {
        self.step(Step::Send { task: Some(task), ring, sqes: sqes.to_vec() });
    }

    pub fn enter(&mut self, task: usize, ring: usize, call: Enter) {
        self.step(Step::Enter { task, ring: Target::Ring(ring), call });
    }

    pub fn register(&mut self, task: usize, ring: usize, what: Register) {
        self.step(Step::Register { task, ring, what });
    }

    pub fn open(&mut self, task: usize, file: usize, device: usize) {
        self.step(Step::Open { task, file, device });
    }

    /// Maps the descriptors of queue `queue` of file 0 as mapping `queue`.
    pub fn map(&mut self, task: usize, plan: &Plan, queue: u16) {
        let place = Place {
            file: 0,
            queue: Some(queue),
            offset: u64::from(queue) * STRIDE_BYTES,
            len: (usize::from(plan.depth) * 24).next_multiple_of(PAGE_BYTES),
            access: Access::Read,
        };
        self.step(Step::Map { task, map: queue.into(), place });
    }

    pub fn client(&mut self, client: usize, wish: Wish) {
        self.step(Step::Client { client, device: 0, wish });
    }

    pub fn look(&mut self, buffer: usize, len: usize) {
        self.step(Step::Look { buffer, len });
    }

    pub fn fill(&mut self, buffer: usize, byte: u8) {
        self.step(Step::Fill { buffer, byte });
    }

    pub fn pause(&mut self, ms: u64) {
        self.step(Step::Pause(ms));
    }

    /// A device with parameters, not yet opened.
    pub fn added(&mut self, plan: &Plan) {
        self.together("a device", |s| {
            s.control_ring();
            s.control(sqe::add(0, plan.info()));
            s.control(sqe::set_params(0, &plan.params(), "sound"));
        });
    }

    /// Opens it, and makes rings and mappings.
    pub fn opened(&mut self, plan: &Plan) {
        self.added(plan);
        self.together("its server", |s| s.server(plan));
    }

    /// What a server does before it fetches.
    pub fn server(&mut self, plan: &Plan) {
        self.open(SERVER, 0, 0);
        self.serving_rings(plan);
        (0..plan.queues).for_each(|queue| self.map(SERVER, plan, queue));
    }

    fn serving_rings(&mut self, plan: &Plan) {
        for queue in 0..if plan.task_per_queue { plan.queues } else { 1 } {
            let server = plan.server(queue);
            self.ring(server, server, 8, plan.ring_flags);
        }
    }

    /// Fetches all slots.
    pub fn fetched(&mut self, plan: &Plan) {
        for (queue, tag) in plan.slots() {
            self.send(plan.server(queue), [plan.fetch(queue, tag)]);
        }
    }

    /// A live device.
    pub fn live(&mut self, plan: &Plan) {
        self.opened(plan);
        self.together("live", |s| {
            s.fetched(plan);
            s.control(sqe::start(0, Word::PidOf(SERVER)));
        });
    }

    /// Closes all that a server of `plan` has.
    pub fn server_gone(&mut self, plan: &Plan) {
        for queue in 0..if plan.task_per_queue { plan.queues } else { 1 } {
            self.step(Step::CloseRing(plan.server(queue)));
        }
        (0..plan.queues).for_each(|queue| self.step(Step::Unmap(queue.into())));
        self.step(Step::Close(0));
        self.pause(100);
    }

    /// Registers the char device as the only fixed file.
    pub fn fixed_file(&mut self, task: usize, ring: usize) {
        self.register(task, ring, Register::Files(vec![Fd::Char(0)]));
    }
}

fn wish(what: What, sector: u64, sectors: u32) -> Wish {
    Wish { what, queue: 0, sector, sectors, byte: 0x5a }
}

pub fn read(sector: u64, sectors: u32) -> Wish {
    wish(What::Read, sector, sectors)
}

pub fn write(sector: u64, sectors: u32) -> Wish {
    wish(What::Write, sector, sectors)
}

pub fn flush() -> Wish {
    wish(What::Flush, 0, 0)
}

pub fn discard(sector: u64, sectors: u32) -> Wish {
    wish(What::Discard, sector, sectors)
}

pub fn zero(sector: u64, sectors: u32) -> Wish {
    wish(What::Zero, sector, sectors)
}

pub fn punch(sector: u64, sectors: u32) -> Wish {
    wish(What::PunchHole, sector, sectors)
}

pub fn hold() -> Wish {
    wish(What::Hold, 0, 0)
}

impl Wish {
    /// From the CPU of another queue.
    #[must_use]
    pub fn on(self, queue: u16) -> Self {
        Self { queue, ..self }
    }
}
