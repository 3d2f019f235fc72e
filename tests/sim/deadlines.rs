//! Requests that wait for longer than they may.

use crate::files;
use crate::house::House;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;
use ublkit::kernel::Kernel;
use ublkit::sim::{Answer, Ask, Choices, Faults, Profile, Sim, Task as Kernels};
use ublkit::{
    Access, Completion, DataPath, Errno, Features, FileIndex, Geometry, Handler, Io, Job, Needs,
    Offload, Operation, QueueInfo, Server, Step, Target, Task, Tasks, Watchdog,
};

const TIMEOUT: Duration = Duration::from_secs(2);
const LATER: Duration = Duration::from_secs(1);
const AT_ONCE: Duration = Duration::from_millis(100);

/// What a handler waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum For {
    /// A file that is never readable.
    Event,
    /// Time that does not come.
    Time,
    /// A waker that nobody wakes.
    Waker,
    /// An operation, though it has its answer.
    Nothing,
    /// The same, and the answer is success: what is waited for does nothing that could belie it.
    Success,
}

/// A disk whose first sector cannot be read; the others are full of ones.
#[derive(Debug)]
struct Waits {
    what: For,
    event: Arc<OwnedFd>,
}

impl Target for Waits {
    type Handler = Waiter;

    fn geometry(&self) -> Geometry {
        Geometry::new(1 << 20)
    }

    fn needs(&self) -> Needs {
        let files = vec![Arc::clone(&self.event)];
        Needs { operations: 1, wakers: true, files, ..Needs::default() }
    }

    fn handler(&self, _: &QueueInfo) -> Result<Waiter, Errno> {
        Ok(Waiter(self.what))
    }
}

#[derive(Debug)]
struct Waiter(For);

const FOR_EVER: Duration = Duration::from_secs(1 << 30);

impl Handler for Waiter {
    fn start(&mut self, io: &mut Io<'_>) -> Step {
        if io.request().offset != 0 {
            io.data().fill(1);
            return Step::Done(Ok(()));
        }
        match self.0 {
            For::Event => io.readable(FileIndex(0), 1).unwrap(),
            For::Time => io.delay(FOR_EVER, 1).unwrap(),
            For::Waker => io.park(1),
            For::Nothing => {
                io.delay(FOR_EVER, 1).unwrap();
                return Step::Done(Err(Errno::ENOSPC));
            }
            For::Success => {
                io.delay(FOR_EVER, 1).unwrap();
                return Step::Done(Ok(()));
            }
        }
        Step::Pending
    }

    fn resume(&mut self, _: &mut Io<'_>, done: Completion) -> Step {
        panic!("it is not entered again: {done:?}")
    }
}

fn read(offset: u64) -> Ask {
    Ask::Read { offset, len_bytes: 512 }
}

fn serve(house: &House, sim: &Sim, target: impl Target) -> Server<Kernels> {
    let builder = house.builder().features(Features::NO_AUTO_PART_SCAN);
    builder.metered(true).request_timeout(TIMEOUT).serve_on(sim.task(), target).unwrap()
}

/// Asks, and says after how long the answer came.
fn asked(sim: &Sim, server: &Server<Kernels>, ask: Ask) -> (Answer, Duration) {
    let begun = sim.task().now();
    let number = sim.ask(server.id(), 0, ask).unwrap();
    sim.until_answered();
    (sim.answer(number).unwrap(), sim.task().now() - begun)
}

/// Whatever a request waits for, on every path: its client is answered in time, and the slot serves
/// the next one.
#[test]
fn whoever_waits_too_long_is_answered() {
    for &path in DataPath::ALL.iter().filter(|path| !path.is_zero_copy()) {
        for batches in [false, files::has_batches(Profile::NEWEST, path)] {
            for what in [For::Event, For::Time, For::Waker, For::Nothing, For::Success] {
                let depth = if batches { 2 } else { 1 };
                let house = House { path, batches, queues: 1, depth, ..House::new() };
                let sim = house.sim(Choices::first());
                let event = Arc::new(eventfd(0, EventfdFlags::CLOEXEC).unwrap());
                let server = serve(&house, &sim, Waits { what, event });
                for _ in 0..3 {
                    let (answer, time) = asked(&sim, &server, read(0));
                    let errno = if what == For::Nothing { Errno::ENOSPC } else { Errno::ETIMEDOUT };
                    assert_eq!(answer.err(), (what != For::Success).then_some(errno), "{what:?}");
                    // What is cancelled ends at once, and need not be left behind.
                    assert!((TIMEOUT..TIMEOUT + AT_ONCE).contains(&time), "{what:?}: {time:?}");
                    let (answer, time) = asked(&sim, &server, read(512));
                    assert_eq!(answer, Ok(vec![1; 512]), "{what:?} on {path}");
                    assert!(time < LATER, "{time:?}");
                }
                let stats = server.stop().unwrap()[0];
                let (errors, timeouts) = match what {
                    For::Nothing => (3, 0),
                    For::Success => (0, 0),
                    _ => (3, 3),
                };
                assert_eq!((stats.errors, stats.timeouts), (errors, timeouts), "{what:?}");
                sim.assert_clean();
            }
        }
    }
}

/// Nobody waits for a request that is answered in time, and an idle queue has no timer.
#[test]
fn who_does_not_wait_is_left_alone() {
    let house = House { whims: &[crate::house::Whim::Delay(3)], ..House::new() };
    let sim = house.sim(Choices::seed(1));
    let server = serve(&house, &sim, house.target());
    let clients = sim.load(server.id(), crate::properties::load(100));
    sim.until_answered();
    assert_eq!(sim.tally(clients).succeeded, 100);
    let begun = sim.task().now();
    sim.until_quiet();
    assert_eq!(sim.task().now(), begun, "nothing happens by itself");
    let stats = server.stop().unwrap();
    assert!(stats.iter().all(|stats| stats.timeouts == 0));
    sim.assert_clean();
}

/// A disk in a file of which each sector holds its own number, served by one slot's operations.
fn numbered() -> Arc<OwnedFd> {
    let file = memfd_create("numbers", MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&file, 1 << 20).unwrap();
    for sector in 0..=255_u8 {
        rustix::io::pwrite(&file, &[sector; 512], u64::from(sector) * 512).unwrap();
    }
    Arc::new(file)
}

/// Operations that hang: cancelled, or left behind with their memory, which they still use while
/// the slot goes on. No client sees what was not his. (With zero copy they use the client's own
/// memory, and he has to wait.)
#[test]
fn what_hangs_is_left_behind() {
    hangs(true);
}

/// The same where success was settled before: what hangs may not have done what it says.
#[test]
fn success_is_not_told_of_what_hangs() {
    hangs(false);
}

/// A handler that does not look what comes of its operations.
#[derive(Debug)]
struct Hasty;

impl Target for Hasty {
    type Handler = Self;

    fn geometry(&self) -> Geometry {
        Geometry::new(1 << 20)
    }

    fn needs(&self) -> Needs {
        needs()
    }

    fn handler(&self, _: &QueueInfo) -> Result<Self, Errno> {
        Ok(Self)
    }
}

impl Handler for Hasty {
    fn start(&mut self, io: &mut Io<'_>) -> Step {
        let request = io.request();
        Step::Done(io.read(FileIndex(0), request.offset, 0..request.data_bytes(), 0))
    }

    fn resume(&mut self, _: &mut Io<'_>, done: Completion) -> Step {
        panic!("it is not entered again: {done:?}")
    }
}

fn needs() -> Needs {
    let (access, files) = (Access::Operations, vec![numbered()]);
    Needs { access, operations: 1, files, ..Needs::default() }
}

async fn copy(task: Task) -> Result<(), Errno> {
    let all = 0..task.request().data_bytes();
    task.read(FileIndex(0), task.request().offset, all).await.map(drop)
}

/// `waits`: the handler does, for its operations.
fn hangs(waits: bool) {
    let (mut timeouts, mut served) = (0, 0);
    for seed in 0..60 {
        for &path in DataPath::ALL.iter().filter(|path| !path.is_zero_copy()) {
            let faults =
                Faults { stuck_operation: 96, interrupt_operation: 64, ..Faults::default() };
            let house = House { path, faults, queues: 1, depth: 1, ..House::new() };
            let sim = house.sim(Choices::seed(seed));
            let server = match waits {
                true => serve(&house, &sim, Tasks::new(house.geometry, needs(), copy)),
                false => serve(&house, &sim, Hasty),
            };
            for sector in 0..12_u8 {
                let (answer, time) = asked(&sim, &server, read(u64::from(sector) * 512));
                match answer {
                    Ok(data) => {
                        assert_eq!(data, [sector; 512], "seed {seed}, {path}");
                        served += 1;
                    }
                    // Its places are taken by those that hang.
                    Err(_) if time < LATER => {}
                    Err(errno) => {
                        let most = TIMEOUT + LATER;
                        assert!((TIMEOUT..most).contains(&time), "{errno} after {time:?}");
                        timeouts += 1;
                    }
                }
            }
            server.stop().unwrap();
            sim.assert_clean();
        }
    }
    println!("{timeouts} requests were given up, {served} served");
    assert!(timeouts > 300 && served > 500);
}

/// Nor where the server gives up meanwhile.
#[test]
fn success_is_not_told_of_what_was_cut_short() {
    let (mut served, mut failed) = (0, 0);
    for seed in 0..200 {
        for &path in DataPath::ALL.iter().filter(|path| !path.is_zero_copy()) {
            let faults =
                Faults { stuck_operation: 64, interrupt_operation: 128, ..Faults::default() };
            let house = House { path, faults, queues: 1, depth: 1, ..House::new() };
            let sim = house.sim(Choices::seed(seed));
            let server = serve(&house, &sim, Hasty);
            let number = sim.ask(server.id(), 0, read(7 * 512)).unwrap();
            let moment = seed % 20;
            (0..moment).all(|_| sim.until_other());
            let _ = server.stop_now();
            sim.until_answered();
            match sim.answer(number).unwrap() {
                Ok(data) => {
                    assert_eq!(data, [7; 512], "seed {seed}, {path}");
                    served += 1;
                }
                Err(_) => failed += 1,
            }
        }
    }
    println!("{served} requests were served, {failed} failed");
    assert!(served > 20 && failed > 20);
}

/// A future that is never ready, and a job that nobody answers in time, cost their clients an
/// error; a late answer is nobody's.
#[test]
fn futures_and_jobs_that_are_late() {
    let house = House { queues: 1, depth: 2, ..House::new() };
    let sim = house.sim(Choices::first());
    let disk = Tasks::new(house.geometry, Needs::default(), |task: Task| async move {
        if task.request().offset == 0 {
            std::future::pending::<()>().await;
        }
        task.with_data(|data| data.fill(2))
    });
    let server = serve(&house, &sim, disk);
    for _ in 0..3 {
        let (answer, time) = asked(&sim, &server, read(0));
        assert!(answer.is_err() && (TIMEOUT..TIMEOUT + LATER).contains(&time));
        assert_eq!(asked(&sim, &server, read(512)).0, Ok(vec![2; 512]));
    }
    server.stop().unwrap();
    sim.assert_clean();

    let sim = house.sim(Choices::first());
    let late: Arc<Mutex<Vec<Job>>> = Arc::default();
    let put = Arc::clone(&late);
    let disk = Offload::new(house.geometry, move |mut job: Job| {
        if job.request().offset == 0 {
            return put.lock().unwrap().push(job);
        }
        job.data().fill(3);
        job.answer(Ok(()));
    });
    let server = serve(&house, &sim, disk);
    for _ in 0..5 {
        let (answer, time) = asked(&sim, &server, read(0));
        assert!(answer.is_err() && (TIMEOUT..TIMEOUT + LATER).contains(&time));
    }
    // More than there are slots, all at one time.
    for mut job in late.lock().unwrap().drain(..) {
        assert_eq!(job.request().operation, Operation::Read);
        job.data().fill(9);
        job.answer(Ok(()));
    }
    for _ in 0..3 {
        assert_eq!(asked(&sim, &server, read(512)).0, Ok(vec![3; 512]));
    }
    server.stop().unwrap();
    sim.assert_clean();
}

/// A watchdog tells of a request that waits, for how long, and no more once it is answered.
#[test]
fn a_watchdog_tells() {
    let house = House { queues: 2, depth: 4, access: Access::Slices, ..House::new() };
    let sim = house.sim(Choices::first());
    let event = Arc::new(eventfd(0, EventfdFlags::CLOEXEC).unwrap());
    let server = serve(&house, &sim, Waits { what: For::Event, event });
    let mut watchdog = Watchdog::new(server.meters());
    let second = Duration::from_secs(1);
    assert_eq!(watchdog.look(second, Duration::ZERO), []);
    let number = sim.ask(server.id(), 1, read(0)).unwrap();
    sim.until_quiet();
    let seen = watchdog.look(2 * second, Duration::ZERO);
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert!(seen[0].queue == 1 && seen[0].tag.is_some() && seen[0].time.is_zero());
    assert_eq!(watchdog.look(4 * second, 3 * second), [], "not yet");
    assert_eq!(watchdog.look(5 * second, 3 * second)[0].time, 3 * second);
    sim.until_answered();
    assert!(sim.answer(number).unwrap().is_err());
    assert_eq!(watchdog.look(6 * second, Duration::ZERO), []);
    server.stop().unwrap();
    sim.assert_clean();
}

/// A future that wakes itself while it is polled lets the others of its queue go on: here the one
/// that it waits for.
#[test]
fn who_wakes_himself_lets_others_go_on() {
    let house = House { queues: 1, depth: 2, ..House::new() };
    let sim = house.sim(Choices::first());
    let told = Arc::new(AtomicBool::new(false));
    let serve_one = move |task: Task| {
        let told = Arc::clone(&told);
        async move {
            if task.request().operation != Operation::Read {
                told.store(true, Ordering::Relaxed);
            }
            std::future::poll_fn(|context| {
                context.waker().wake_by_ref();
                if told.load(Ordering::Relaxed) { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            Ok(())
        }
    };
    let server = serve(&house, &sim, Tasks::new(house.geometry, Needs::default(), serve_one));
    let write = Ask::Write { offset: 0, data: vec![1; 512], fua: false };
    let asked = [read(0), write].map(|ask| sim.ask(server.id(), 0, ask).unwrap());
    sim.until_answered();
    assert!(asked.iter().all(|number| sim.answer(*number).unwrap().is_ok()));
    server.stop().unwrap();
    sim.assert_clean();
}
