//! How devices end: stopped at any moment, by anybody; killed at any moment.

use crate::house::{House, WHIMS, Whim};
use crate::properties::{cases, houses};
use proptest::prelude::*;
use std::cell::RefCell;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use ublkit::kernel::Kernel;
use ublkit::sim::{Ask, Choices, Load, Profile, Sim, Task, Thread};
use ublkit::{Access, Control, DataPath, Errno, Error, Server};

/// Clients that ask more than they will be answered.
const MANY: u64 = 1000;

fn busy(sim: &Sim, id: u32, moments: u32) {
    sim.load(id, Load::new(MANY));
    (0..moments).for_each(|_| sim.give_way());
}

/// Stops and deletes every device, as an operator does.
pub fn clear_up(operator: Task) -> Result<(), Error> {
    let gone_is_fine = |result| match result {
        Err(Error::Command { errno: Errno::ENODEV, .. }) => Ok(()),
        other => other,
    };
    let mut control = Control::open(operator)?;
    for id in 0..4 {
        gone_is_fine(control.device(id).within(PATIENCE).stop())?;
        gone_is_fine(control.device(id).within(PATIENCE).delete())?;
    }
    Ok(())
}

const PATIENCE: Duration = Duration::from_secs(60);

proptest! {
    #![proptest_config(cases())]

    /// P15, P37, P39, P48: a stop while clients ask, at any moment: what was asked before is
    /// answered, the rest fails, the tags are gone, nothing is left.
    #[test]
    fn stopped_while_clients_ask(house in houses(), seed: u64, moments in 0_u32..200) {
        let house = House { whims: WHIMS, ..house };
        let sim = house.sim(Choices::seed(seed));
        let server = house.serve(sim.task()).unwrap();
        busy(&sim, server.id(), moments);
        server.stop().unwrap();
        sim.until_answered();
        prop_assert_eq!(sim.verdict(), Ok(()));
    }

    /// The same without patience: requests in flight fail.
    #[test]
    fn stopped_at_once_while_clients_ask(house in houses(), seed: u64, moments in 0_u32..200) {
        let house = House { whims: WHIMS, ..house };
        let sim = house.sim(Choices::seed(seed));
        let server = house.serve(sim.task()).unwrap();
        busy(&sim, server.id(), moments);
        server.stop_now().unwrap();
        sim.until_answered();
        prop_assert_eq!(sim.verdict(), Ok(()));
    }

    /// P37: somebody else stops or deletes the device; the server notices and ends well.
    #[test]
    fn stopped_by_another(house in houses(), seed: u64, moments in 0_u32..100, deletes: bool) {
        let sim = house.sim(Choices::seed(seed));
        let server = house.serve(sim.task()).unwrap();
        let id = server.id();
        busy(&sim, id, moments);
        let operator = sim.process(true);
        let other = operator.spawn("operator".into(), move |kernel| {
            let mut control = Control::open(kernel).unwrap();
            let device = control.device(id).within(PATIENCE);
            if deletes { device.delete() } else { device.stop() }.unwrap();
        });
        server.wait();
        server.stop().unwrap();
        prop_assert!(operator.join(&mut other.unwrap(), PATIENCE));
        sim.until_answered();
        drop(operator);
        prop_assert_eq!(sim.verdict(), Ok(()));
    }

    /// P17, P49, P55, P57: a server that is killed at any moment, be it while it starts, serves or
    /// is stopped by another process, leaves nobody waiting, and a device that can be deleted.
    #[test]
    fn killed_at_any_moment(house in houses(), seed: u64, moments in 0_u32..400, stops: bool) {
        let house = House { whims: WHIMS, ..house };
        let sim = house.sim(Choices::seed(seed));
        let victim = Victim::start(&sim, move |kernel| house.serve(kernel));
        let operator = sim.process(true);
        let mut stopper = None;
        victim.keep_busy(&sim, moments);
        if stops {
            let stop = |kernel| drop(clear_up(kernel));
            stopper = Some(operator.spawn("operator".into(), stop).unwrap());
            (0..moments / 4).for_each(|_| sim.give_way());
        }
        sim.kill(&victim.process);
        sim.until_answered();
        prop_assert!(victim.has_ended());
        if let Some(mut stopper) = stopper {
            prop_assert!(operator.join(&mut stopper, Duration::from_secs(600)));
        }
        let cleared = clear_up(sim.process(true));
        prop_assert!(cleared.is_ok(), "{cleared:?} {:?}", sim.failure());
        drop((victim, operator));
        prop_assert_eq!(sim.failure(), None);
        prop_assert_eq!(sim.mistakes(), Vec::<String>::new());
        prop_assert_eq!(sim.leftovers(), Vec::<String>::new());
    }
}

/// What a server does once it is live.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Waits,
    /// Stops its device itself.
    Stops,
}

/// A server in a process that will be killed.
pub struct Victim {
    pub process: Task,
    thread: RefCell<Thread>,
    live: Arc<Mutex<Option<u32>>>,
}

impl Victim {
    /// One that waits once it is live.
    pub fn start(
        sim: &Sim,
        serve: impl FnOnce(Task) -> Result<Server<Task>, Error> + Send + 'static,
    ) -> Self {
        Self::start_to(sim, serve, Ending::Waits)
    }

    fn start_to(
        sim: &Sim,
        serve: impl FnOnce(Task) -> Result<Server<Task>, Error> + Send + 'static,
        ending: Ending,
    ) -> Self {
        let process = sim.process(true);
        let live = Arc::new(Mutex::new(None));
        let said = Arc::clone(&live);
        let live_and_die = move |kernel| {
            let Ok(server) = serve(kernel) else { return };
            *said.lock().unwrap() = Some(server.id());
            if ending == Ending::Waits {
                server.wait();
            }
            let _ = server.stop();
        };
        let thread = RefCell::new(process.spawn("server".into(), live_and_die).unwrap());
        Self { process, thread, live }
    }

    /// Lets it live for so many moments, with clients once it is live; answers their load.
    pub fn keep_busy(&self, sim: &Sim, moments: u32) -> Option<usize> {
        let mut clients = None;
        for _ in 0..moments {
            sim.give_way();
            if let Some(id) = *self.live.lock().unwrap()
                && clients.is_none()
                && sim.is_live(id)
            {
                clients = Some(sim.load(id, Load::new(MANY)));
            }
        }
        clients
    }

    /// Lets it live for so many moments.
    pub fn wait(&self, sim: &Sim, moments: u32) {
        (0..moments).for_each(|_| sim.give_way());
    }

    pub fn has_ended(&self) -> bool {
        self.process.join(&mut self.thread.borrow_mut(), Duration::from_secs(600))
    }
}

/// P37, and why `ublkit serve` has another process stop its device: a server that sends STOP_DEV
/// itself and is killed while it waits stays for ever, as on real kernels (docs/protocol.md).
#[test]
fn a_server_that_stops_itself_must_not_be_killed() {
    let stuck = |seed: &u64| {
        let house = House { whims: &[Whim::Delay(3)], ..House::new() };
        let sim = house.sim(Choices::seed(*seed));
        let serve = move |kernel| house.serve(kernel);
        let victim = Victim::start_to(&sim, serve, Ending::Stops);
        victim.keep_busy(&sim, 60 + u32::try_from(*seed).unwrap() % 60);
        sim.kill(&victim.process);
        sim.until_answered();
        let why = sim.failure();
        why.is_some_and(|why| why.contains("STOP_DEV of device 0 waits: Drained"))
    };
    let count = (0..100).filter(stuck).count();
    println!("{count} of 100 servers that stopped themselves and were killed stayed for ever");
    assert!(count > 0);
}

/// P14, P17: a queue that leaves answers the writes whose data it has asked for, or has
/// still to ask for: the driver of 6.12 takes half a minute to see that a server without commands
/// is gone.
#[test]
fn writes_that_are_fetched_are_answered_at_the_end() {
    let mut answered = 0;
    for (access, depth) in [(Access::Slices, 1), (Access::Slices, 2), (Access::Regions, 2)] {
        for seed in 0..50 {
            let (profile, path) = (Profile::OLDEST, DataPath::GetData);
            let house = House { profile, path, access, queues: 1, depth, ..House::new() };
            let sim = house.sim(Choices::seed(seed));
            let server = house.serve(sim.task()).unwrap();
            sim.until_answered();
            for offset in (0..u64::from(depth)).map(|write| write * 4096) {
                let write = Ask::Write { offset, data: vec![1; 4096], fua: false };
                sim.ask(server.id(), 0, write).unwrap();
            }
            let what = format!("{access:?}, {depth} writes, seed {seed}");
            server.stop_now().unwrap_or_else(|error| panic!("{what}: {error}"));
            sim.until_answered();
            assert_eq!(sim.verdict(), Ok(()), "{what}");
            assert_eq!(sim.audit().delivered, sim.audit().committed, "{what}");
            answered += sim.audit().committed;
        }
    }
    assert!(answered > 300, "{answered}: partitions are looked for once a life");
}

/// Who was killed sees every deadline pass, also one set after that: a queue that looks for
/// requests by the clock would otherwise never end. The fuzzer found that it did not.
#[test]
fn no_deadline_outlives_the_dead() {
    let sim = House::new().sim(Choices::first());
    let task = sim.process(true);
    sim.kill(&task);
    for _ in 0..3 {
        let until = task.now().saturating_add(Duration::from_micros(20));
        assert!(task.now() >= until);
    }
}
