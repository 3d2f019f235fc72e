//! What queues say of themselves while they serve.

use crate::house::{House, Whim};
use crate::properties::{cases, houses, load};
use proptest::prelude::*;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use ublkit::sim::{Ask, Choices, Faults, Profile, Sim, Task};
use ublkit::{Backend, Blocking, Builder, Errno, Geometry, Latencies, Meter, Reading, Server};

/// Whims that fail nobody, and make some wait.
const PATIENT: &[Whim] = &[Whim::Serve, Whim::Delay(1), Whim::Serve, Whim::Delay(3)];

/// Serves a house whose queues have meters.
fn metered(house: &House, sim: &Sim) -> Server<Task> {
    house.builder().metered(true).serve_on(sim.task(), house.target()).unwrap()
}

proptest! {
    #![proptest_config(cases())]

    /// What meters say is what the queues themselves say in the end, and listening changes nothing.
    #[test]
    fn meters_count_what_queues_did(house in houses(), seed: u64, patient: bool) {
        let whims = if patient { PATIENT } else { &[Whim::Serve][..] };
        let access = ublkit::Access::Slices;
        let path = ublkit::DataPath::Copy;
        let house = House { whims, access, path, ..house };
        let run = |is_metered: bool| {
            let sim = house.sim(Choices::seed(seed));
            let builder = house.builder().metered(is_metered);
            let server = builder.serve_on(sim.task(), house.target()).unwrap();
            let clients = sim.load(server.id(), load(200));
            sim.until_answered();
            let meters = server.meters().to_vec();
            let in_flight: u32 = meters.iter().map(|meter| meter.read().in_flight).sum();
            let stats = server.stop().unwrap();
            (meters, in_flight, stats, sim.tally(clients).succeeded)
        };
        let (none, _, quietly, _) = run(false);
        prop_assert!(none.is_empty());
        let (meters, in_flight, stats, succeeded) = run(true);
        prop_assert_eq!(&stats, &quietly, "a meter changes nothing");
        prop_assert_eq!((in_flight, succeeded), (0, 200));
        prop_assert_eq!(meters.len(), stats.len() * usize::from(house.threads));
        for (queue, stats) in (0..).zip(&stats) {
            let threads = meters.iter().filter(|meter| meter.queue() == queue);
            let reading = threads.fold(Reading::default(), |all, meter| all.with(&meter.read()));
            prop_assert_eq!(reading.stats, *stats);
            prop_assert_eq!(reading.in_flight, 0);
            prop_assert!(reading.latencies.count() <= stats.answered());
        }
    }
}

/// What all queues say that requests took, on a disk of such whims.
fn latencies(whims: &'static [Whim], depth: u16) -> Latencies {
    let house = House { whims, depth, ..House::new() };
    let sim = house.sim(Choices::seed(7));
    let server = metered(&house, &sim);
    sim.load(server.id(), load(1000));
    sim.until_answered();
    let all = server.meters().iter().map(|meter| meter.read().latencies);
    let all = all.reduce(|one, other| one.with(&other)).expect("two queues");
    server.stop().unwrap();
    sim.assert_clean();
    all
}

/// In the simulation time passes only while all wait: requests that are delayed took so long, and
/// others no time.
#[test]
fn waiting_is_timed() {
    let delay = Duration::from_millis(3);
    for depth in [1, 8] {
        let at_once = latencies(&[Whim::Serve], depth);
        assert!(at_once.count() > 20, "{at_once:?}");
        assert_eq!(at_once.quantile(1.0), Some(Duration::ZERO), "{at_once:?}");
        let delayed = latencies(&[Whim::Delay(2)], depth);
        assert!(delayed.count() > 20, "{delayed:?}");
        assert!(delayed.quantile(0.0) >= Some(2 * delay), "{delayed:?}");
    }
    // Of those that a depth of one keeps apart, half waits.
    let mixed = latencies(&[Whim::Serve, Whim::Delay(1)], 1);
    assert_eq!(mixed.quantile(0.0), Some(Duration::ZERO), "{mixed:?}");
    assert!(mixed.quantile(1.0) >= Some(delay), "{mixed:?}");
    let waited: u64 =
        mixed.buckets().filter(|(time, _)| *time >= delay).map(|(_, count)| count).sum();
    let part = waited as f64 / mixed.count() as f64;
    assert!((0.3..0.7).contains(&part), "{part} of {mixed:?}");
}

/// A disk that is asked and has not answered says so.
#[test]
fn what_is_under_way_is_told() {
    let house = House { whims: &[Whim::Delay(200)], queues: 1, depth: 4, ..House::new() };
    let sim = house.sim(Choices::first());
    let server = metered(&house, &sim);
    let meter = server.meters()[0].clone();
    sim.until_answered(); // who looks for partitions
    let before = meter.read().stats.reads;
    for _ in 0..3 {
        sim.ask(server.id(), 0, Ask::Read { offset: 0, len_bytes: 4096 }).unwrap();
    }
    sim.until_quiet(); // all that is left is to wait
    assert_eq!((meter.read().in_flight, meter.read().stats.reads), (3, before));
    sim.until_answered();
    assert_eq!((meter.read().in_flight, meter.read().stats.reads), (0, before + 3));
    server.stop().unwrap();
    sim.assert_clean();
}

/// A disk that looks at its queue's meter during its calls.
#[derive(Default)]
struct Watcher {
    meter: OnceLock<Arc<Meter>>,
    seen: Mutex<Vec<u32>>,
}

impl Backend for Watcher {
    fn geometry(&self) -> Geometry {
        Geometry::new(1 << 20)
    }

    fn read(&self, _: u64, _: &mut [u8]) -> Result<(), Errno> {
        if let Some(meter) = self.meter.get() {
            self.seen.lock().unwrap().push(meter.read().in_flight);
        }
        Ok(())
    }

    fn write(&self, _: u64, _: &[u8]) -> Result<(), Errno> {
        Ok(())
    }
}

/// While a backend is in its call, all requests that came with this one are under way.
#[test]
fn a_call_that_is_stuck_is_seen() {
    let sim = Sim::new(Profile::NEWEST, Choices::first(), Faults::default());
    let watcher = Arc::new(Watcher::default());
    let target = Blocking::<Watcher>::new(Arc::clone(&watcher));
    let server = Builder::new().depth(4).metered(true).serve_on(sim.task(), target).unwrap();
    sim.until_answered();
    watcher.meter.set(Arc::clone(&server.meters()[0])).unwrap();
    for _ in 0..3 {
        sim.ask(server.id(), 0, Ask::Read { offset: 0, len_bytes: 4096 }).unwrap();
    }
    sim.until_answered();
    assert_eq!(*watcher.seen.lock().unwrap(), [3; 3]);
    server.stop().unwrap();
    sim.assert_clean();
}
