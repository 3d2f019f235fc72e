//! One queue over the simulated kernel, turned by hand: moments that no whole server can be brought
//! to, and completions that no kernel should send.

mod leaving;
mod room;
mod spin;
mod tags;

use super::*;
use crate::control::{Control, DeviceInfo};
use crate::features::Features;
use crate::geometry::Geometry;
use crate::handler::{Completion, Io, RegionIndex, Step};
use crate::needs::{Access, Needs};
use crate::request::{Limits, Operation, Request};
use crate::sim::{Ask, Choices, Faults, Profile, Sim, Task};
use crate::slots::{Share, Where};
use crate::wake::Wakers;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);
const TIMEOUT: Duration = SECOND;

/// What comes at each place of the disk is served in its own way.
mod at {
    /// Answered at once.
    pub(super) const DONE: u64 = 0;
    /// Waits for a tenth of a second.
    pub(super) const DELAY: u64 = 4096;
    /// Waits for a millisecond.
    pub(super) const SOON: u64 = 5 * 4096;
    /// Waits for a waker.
    pub(super) const PARK: u64 = 2 * 4096;
    /// Answered, though parked.
    pub(super) const PARKED_AND_DONE: u64 = 3 * 4096;
    /// Answered, though it has an operation under way.
    pub(super) const DONE_MEANWHILE: u64 = 6 * 4096;
    /// Panics.
    pub(super) const PANIC: u64 = 7 * 4096;
    /// Has its data put into a region, and waits for a tenth of a second if that does not come.
    pub(super) const STORE: u64 = 4 * 4096;
}

/// The number of a request that waits for its data to come into a region.
const STORING: u8 = 7;

/// Serves by place, and counts how often it is entered anew.
#[derive(Debug, Default)]
struct ByPlace {
    started: u32,
    resumed: u32,
    /// What it sets when it is resumed, or panics.
    leaves: Option<Arc<AtomicBool>>,
}

impl ByPlace {
    fn leave(&self) {
        if let Some(leave) = &self.leaves {
            leave.store(true, Ordering::Relaxed);
        }
    }
}

impl Handler for ByPlace {
    fn start(&mut self, io: &mut Io<'_>) -> Step {
        self.started += 1;
        match io.request().offset {
            at::PANIC => {
                self.leave();
                std::panic::resume_unwind(Box::new("a handler's own")); // without a message
            }
            at::DELAY => io.delay(100 * MS, 0).unwrap(),
            at::SOON => io.delay(MS, 0).unwrap(),
            at::PARK => io.park(0),
            at::STORE => return io.store(RegionIndex(0), 0, STORING),
            place => {
                match place {
                    at::PARKED_AND_DONE => io.park(0),
                    at::DONE_MEANWHILE => io.delay(100 * MS, 0).unwrap(),
                    _ => {}
                }
                return Step::Done(Ok(()));
            }
        }
        Step::Pending
    }

    fn resume(&mut self, io: &mut Io<'_>, done: Completion) -> Step {
        self.resumed += 1;
        self.leave();
        if done.cookie == STORING && done.result.is_err() {
            assert_eq!(done.result, Err(Errno::ECANCELED));
            let again = io.store(RegionIndex(0), 0, STORING);
            assert!(matches!(again, Step::Done(Err(Errno::EIO))), "it is not there");
            io.delay(100 * MS, 0).unwrap();
            return Step::Pending;
        }
        Step::Done(Ok(()))
    }
}

/// A device of one queue.
struct House {
    sim: Sim,
    control: Control<Task>,
    queue: Queue<Task, ByPlace>,
    wakers: Wakers,
    id: u32,
}

/// A queue that has offered nothing yet.
fn made(path: DataPath, batches: bool, depth: u16) -> House {
    let sim = Sim::new(Profile::NEWEST, Choices::first(), Faults::default());
    let needs = Needs { operations: 1, wakers: true, ..Needs::default() };
    made_on(sim, Wish { path, batches, depth, needs, spin: Duration::ZERO })
}

/// What a device and its queue are to be.
struct Wish {
    path: DataPath,
    batches: bool,
    depth: u16,
    needs: Needs,
    spin: Duration,
}

fn made_on(sim: Sim, wish: Wish) -> House {
    let Wish { path, batches, depth, needs, spin } = wish;
    let kernel = sim.task();
    let mut control = Control::open(kernel.clone()).unwrap();
    let batch = if batches { Features::BATCH_IO } else { Features::empty() };
    let features = path.features() | batch | Features::NO_AUTO_PART_SCAN | Features::QUIESCE;
    let features = features | Features::USER_RECOVERY;
    let wish = DeviceInfo { features, ..DeviceInfo::wish(1, depth, 1 << 16) };
    let info = control.add(&wish, SECOND).unwrap();
    let id = info.id.unwrap();
    let geometry = Geometry::new(1 << 20);
    control.device(id).set_params(&geometry.params(info.max_io_bytes)).unwrap();
    let event = Arc::new(kernel.event().unwrap());
    let (signal, called) = (kernel.clone(), Arc::clone(&event));
    let wakers = Wakers::new(depth, move || signal.signal(&called));
    let plan = QueuePlan {
        device: id,
        queue: 0,
        share: Share::ALL,
        depth,
        descriptor_bytes: info.descriptor_bytes,
        limits: Limits::new(geometry, info.max_io_bytes),
        size_bytes: Arc::default(),
        path,
        batches,
        needs,
        char_device: Arc::new(kernel.open(c"/dev/ublkc0").unwrap()),
        cpus: Vec::new(),
        meter: None,
        request_timeout: Some(TIMEOUT),
        spin,
        leave: Arc::default(),
        wake: Arc::new(kernel.event().unwrap()),
        calls: Some(Calls { event, wakers: wakers.clone() }),
    };
    let queue = Queue::new(kernel, plan, ByPlace::default()).unwrap();
    House { sim, control, queue, wakers, id }
}

/// The same, live.
fn live(path: DataPath, batches: bool, depth: u16) -> House {
    made(path, batches, depth).live()
}

fn read(offset: u64) -> Ask {
    Ask::Read { offset, len_bytes: 512 }
}

fn write(offset: u64) -> Ask {
    Ask::Write { offset, data: vec![7; 512], fua: false }
}

impl House {
    fn live(mut self) -> Self {
        self.queue.offer_all().unwrap();
        let pid = self.queue.ring.kernel().process();
        self.control.device(self.id).start(pid).unwrap();
        self
    }

    fn ask(&self, ask: Ask) -> u64 {
        self.sim.ask(self.id, 0, ask).unwrap()
    }

    /// Turns, and sends what was answered.
    fn turn(&mut self) {
        assert_eq!(self.queue.turn(), Ok(Turn::Live));
        self.queue.send_batch().unwrap();
        self.queue.ring.submit().unwrap();
    }

    /// Turns until the handler was entered with so many requests.
    fn until_started(&mut self, count: u32) {
        while self.queue.handler.started < count {
            self.turn();
        }
    }

    /// Turns until a request's data is being fetched, in a command that is not submitted yet.
    fn until_fetching(&mut self) {
        while !self.queue.slots[0].is_fetching() {
            assert_eq!(self.queue.turn(), Ok(Turn::Live));
        }
    }

    /// Turns until a request's pages are to be registered, by a command that is not submitted yet.
    fn until_registering(&mut self) {
        while self.queue.slots.under_way(0).count() == 0 {
            assert_eq!(self.queue.turn(), Ok(Turn::Live));
        }
        assert_eq!(self.queue.handler.started, 0);
    }

    /// Turns until a client is answered, which is soon; with what errno.
    fn until_answered(&mut self, asking: u64) -> i32 {
        let answers = (0..20).map(|_| {
            self.turn();
            self.answered(asking)
        });
        answers.flatten().next().expect("an answer")
    }

    fn now(&self) -> Duration {
        self.queue.ring.kernel().now()
    }

    /// The errno that a client was answered with, or 0 for no error; nothing when he waits.
    fn answered(&self, asking: u64) -> Option<i32> {
        let errno = |answer: Result<_, Errno>| answer.map_or_else(|errno| errno.number(), |_| 0);
        self.sim.answer(asking).map(errno)
    }
}

fn cqe(id: Id, result: i32, flags: u32) -> Cqe {
    Cqe { user_data: id.encode(), result, flags }
}

/// One request after the other costs a call each: who is served in batches does not wake for the
/// end of the command that answers.
#[test]
fn a_request_costs_a_call() {
    for batches in [false, true] {
        let mut house = live(DataPath::Copy, batches, 2);
        let mut calls = Vec::new();
        for count in 1..=10 {
            let before = house.sim.calls();
            let asked = house.ask(read(at::DONE));
            while house.queue.handler.started < count {
                assert_eq!(house.queue.turn(), Ok(Turn::Live));
            }
            calls.push(house.sim.calls() - before);
            assert!(count == 10 || house.answered(asked).is_none(), "with the next call");
        }
        assert!(calls[1..].iter().all(|calls| *calls == 1), "batches: {batches}: {calls:?}");
    }
}

/// Where data is when a request begins, by path: of a read, of a write, of a write whose data is
/// yet to be fetched, of a request whose pages are in no table, and of one without data.
#[test]
fn data_is_where_the_path_has_it() {
    use Where::{Buffer, Kernel, Table};
    let unregistered = ublkit_sys::ublk::UBLK_IO_F_NEED_REG_BUF;
    for (path, access, places) in [
        (DataPath::Copy, Access::Slices, [Buffer; 5]),
        (DataPath::GetData, Access::Slices, [Buffer, Buffer, Kernel, Buffer, Buffer]),
        (DataPath::GetData, Access::Regions, [Kernel, Buffer, Kernel, Kernel, Buffer]),
        (DataPath::UserCopy, Access::Regions, [Kernel, Kernel, Kernel, Kernel, Buffer]),
        (DataPath::ZeroCopy, Access::Operations, [Table, Table, Table, Kernel, Buffer]),
        (DataPath::ZeroCopyByHand, Access::Operations, [Kernel, Kernel, Kernel, Kernel, Buffer]),
    ] {
        let mut house = made(path, false, 1);
        house.queue.plan.needs.access = access;
        let request = |operation, len_bytes| Request { operation, offset: 0, len_bytes };
        let read = request(Operation::Read, 512);
        let write = request(Operation::Write { fua: false }, 512);
        let place = |request, flags, fetches| house.queue.plan.place(&request, flags, fetches);
        let found = [
            place(read, 0, false),
            place(write, 0, false),
            place(write, 0, true),
            place(read, unregistered, false),
            place(request(Operation::Flush, 0), 0, false),
        ];
        assert_eq!(found, places, "{path}");
    }
}

/// The driver says anew what was written when it has put it where it was told to: less, if that was
/// no good place.
#[test]
fn data_that_is_not_what_was_asked_for_is_an_error() {
    for (len_bytes, errno) in [(512, 0), (1024, libc::EIO)] {
        let mut house = live(DataPath::GetData, false, 1);
        let asked = house.ask(write(at::DONE));
        house.until_fetching();
        let slots = &mut house.queue.slots;
        let mut slot = slots.at(0);
        slot.set_request(Request { len_bytes, ..slot.request() }, slot.place());
        house.turn();
        assert_eq!(house.answered(asked), Some(errno), "{len_bytes} bytes were asked for");
    }
}

/// What cannot be, at the moment, is no fit.
#[test]
fn completions_of_nothing_are_noticed() {
    let mut house = live(DataPath::Copy, false, 2);
    let queue = &mut house.queue;
    let mut fits = |id, result| match queue.complete(cqe(id, result, 0)) {
        Err(QueueError::Unexpected { .. }) => Ok(false),
        other => other,
    };
    assert_eq!(fits(Id::Cancel, -libc::ENOENT), Ok(false), "nothing is cancelled");
    assert_eq!(fits(Id::Call, -libc::EIO), Ok(false), "the event has failed");
    for id in [Id::Tags, Id::Elements, Id::Timer] {
        assert_eq!(fits(id, 0), Ok(false), "there are no batches");
    }
    queue.listens = false;
    assert_eq!(queue.other_ended(Id::Call, 1), Ok(false), "nobody listens");
}

/// Whatever the driver has against a command, the queue does not go on as if it had none.
#[test]
fn a_refused_command_ends_the_queue() {
    for errno in [libc::EINVAL, libc::EBUSY, libc::EINTR] {
        let mut house = live(DataPath::Copy, false, 2);
        let refused = house.queue.complete(cqe(Id::Command { tag: 1 }, -errno, 0));
        let errno = Errno::from_result(-errno).unwrap_err();
        assert_eq!(refused, Err(QueueError::Refused { tag: 1, errno }));
    }
    let mut house = live(DataPath::Copy, false, 2);
    assert_eq!(house.queue.complete(cqe(Id::Command { tag: 1 }, UBLK_IO_RES_ABORT, 0)), Ok(false));
    assert_eq!(house.queue.slots.live(), 1, "that one is gone");
}

/// Wakes are for requests that wait for them: not for a slot that is not there, nor for one whose
/// request was answered, though it had asked to wait.
#[test]
fn only_who_is_parked_is_woken() {
    let mut house = live(DataPath::Copy, false, 2);
    let answered = house.ask(read(at::PARKED_AND_DONE));
    house.until_started(1);
    assert_eq!(house.queue.deadlines.as_ref().unwrap().next(), None, "nobody waits");
    let parked = house.ask(read(at::PARK));
    house.until_started(2);
    assert_eq!(house.answered(answered), Some(0));
    for tag in 0..64 {
        house.wakers.wake(tag);
    }
    house.turn();
    assert_eq!((house.answered(parked), house.queue.handler.resumed), (Some(0), 1));
}

/// A request that is late is answered whenever it is seen.
#[test]
fn who_is_long_overdue_is_answered() {
    let mut house = live(DataPath::Copy, false, 2);
    let asked = house.ask(read(at::PARK));
    house.until_started(1);
    house.queue.end_overdue().unwrap();
    assert_eq!(house.queue.stats.timeouts, 0);
    house.queue.ring.kernel().sleep(3 * TIMEOUT);
    house.queue.end_overdue().unwrap();
    house.queue.ring.submit().unwrap();
    assert_eq!((house.queue.stats.timeouts, house.answered(asked)), (1, Some(libc::ETIMEDOUT)));
}

/// A request that was given up while its pages were being registered waits no more: the slot's next
/// one has all its time, and its answer.
#[test]
fn given_up_while_its_pages_are_registered() {
    let mut house = live(DataPath::ZeroCopyByHand, false, 1);
    let asked = house.ask(write(at::PARK));
    house.until_registering();
    house.queue.ring.kernel().sleep(TIMEOUT);
    house.queue.end_overdue().unwrap();
    assert_eq!(house.until_answered(asked), libc::ETIMEDOUT);
    assert_eq!(house.queue.handler.started, 0);
    let (asked, begun) = (house.ask(write(at::PARK)), house.now());
    assert_eq!(house.until_answered(asked), libc::ETIMEDOUT);
    assert_eq!(house.now() - begun, TIMEOUT);
}

/// A handler without operations could not use the ring's table: its data is copied.
#[test]
fn a_handler_without_operations_gets_copies() {
    let sim = Sim::new(Profile::NEWEST, Choices::first(), Faults::default());
    let needs = Needs { wakers: true, ..Needs::default() };
    let (path, batches, depth, spin) = (DataPath::ZeroCopyByHand, false, 1, Duration::ZERO);
    let mut house = made_on(sim, Wish { path, batches, depth, needs, spin }).live();
    for ask in [read(at::DONE), write(at::DONE)] {
        let asked = house.ask(ask);
        assert_eq!(house.until_answered(asked), 0);
    }
    assert_eq!((house.queue.handler.started, house.sim.audit().registered), (2, 0));
}
