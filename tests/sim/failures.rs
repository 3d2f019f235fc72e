//! Failures of single calls, refused flags, commands that are never answered, kernels that lie.

use crate::house::{House, Whim};
use crate::properties::{cases, houses};
use proptest::prelude::*;
use ublkit::sim::{Ask, Choices, Faults, Load, Profile, Sim};
use ublkit::sys::io_uring::{
    IORING_SETUP_COOP_TASKRUN, IORING_SETUP_DEFER_TASKRUN, IORING_SETUP_NO_SQARRAY,
    IORING_SETUP_SINGLE_ISSUER,
};
use ublkit::sys::ublk as sys;
use ublkit::{
    Access, Backend, Blocking, Builder, Control, DataPath, Durability, Errno, Error, Geometry,
    Needs, Null, QueueError, QueueInfo, Target,
};

/// A short life: started, asked, stopped.
fn live(house: &House, sim: &Sim) -> Result<(), Error> {
    let server = house.serve(sim.task())?;
    sim.load(server.id(), Load::new(20));
    sim.until_answered();
    server.stop().map(drop)
}

/// Whims that do not mind how a delay ends.
const SHORT_WHIMS: &[Whim] =
    &[Whim::Serve, Whim::FailUnderWay, Whim::Serve, Whim::Panic, Whim::WaitForNothing];

/// Deletes what a device's maker could not.
fn delete_all(sim: &Sim) {
    let Ok(mut control) = Control::open(sim.process(true)) else { return };
    for id in 0..2 {
        let _ = control.device(id).stop();
        let _ = control.device(id).delete();
    }
}

/// P40, P48, P56: every call of a whole life fails once, with each of some errnos: the life goes
/// on, or ends with an error that says why; clients are answered, nothing is left behind.
#[test]
fn every_call_fails_once() {
    let mut lives = 0;
    let mut failed = 0;
    for profile in [Profile::OLDEST, Profile::NEWEST] {
        for errno in [Errno::EIO, Errno::ENOMEM, Errno::EINTR, Errno::EINVAL, Errno::EBUSY] {
            for call in 0.. {
                let faults = Faults { fail_call: Some((call, errno)), ..Faults::default() };
                let house = House { profile, faults, ..House::new() };
                let sim = house.sim(Choices::first());
                let result = live(&house, &sim);
                let what = format!("{profile}: call {call} fails with {errno}: {result:?}");
                sim.until_answered();
                if sim.calls() <= call {
                    assert!(result.is_ok(), "{what}");
                    break; // it was not made any more
                }
                lives += 1;
                failed += u32::from(result.is_err());
                assert_eq!(sim.failure(), None, "{what}");
                assert_eq!(sim.mistakes(), Vec::<String>::new(), "{what}");
                let mut left = sim.leftovers();
                if result.is_err() && !left.is_empty() {
                    // The call that deletes may be the one that failed.
                    delete_all(&sim);
                    left = sim.leftovers();
                }
                assert_eq!(left, Vec::<String>::new(), "{what}");
            }
        }
    }
    println!("{lives} lives with a failed call, {failed} of them ended in an error");
    assert!(failed > 50 && failed < lives);
}

/// P77: for every subset of setup flags that a kernel may not know, there is a working ring.
#[test]
fn setup_flags_fall_back() {
    let flags = [
        IORING_SETUP_SINGLE_ISSUER,
        IORING_SETUP_DEFER_TASKRUN,
        IORING_SETUP_COOP_TASKRUN,
        IORING_SETUP_NO_SQARRAY,
    ];
    for subset in 0_u32..16 {
        let of_subset = |(bit, flag): (u32, &u32)| if subset >> bit & 1 == 1 { *flag } else { 0 };
        let unknown_setup_flags = (0..).zip(&flags).map(of_subset).fold(0, |all, flag| all | flag);
        let faults = Faults { unknown_setup_flags, ..Faults::bearable() };
        let house = House { faults, ..House::new() };
        let sim = house.sim(Choices::seed(subset.into()));
        live(&house, &sim)
            .unwrap_or_else(|error| panic!("without {unknown_setup_flags:#x}: {error}"));
        sim.assert_clean();
    }
}

/// P49: a control command that the kernel never answers ends with a sentence; the rest is undone as
/// far as that goes.
#[test]
fn a_command_that_is_never_answered_is_given_up() {
    for (op, name) in [
        (sys::UBLK_U_CMD_ADD_DEV, "ADD_DEV"),
        (sys::UBLK_U_CMD_SET_PARAMS, "SET_PARAMS"),
        (sys::UBLK_U_CMD_START_DEV, "START_DEV"),
        (sys::UBLK_U_CMD_GET_DEV_INFO, "GET_DEV_INFO"),
        (sys::UBLK_U_CMD_STOP_DEV, "STOP_DEV"),
        (sys::UBLK_U_CMD_DEL_DEV, "DEL_DEV"),
    ] {
        let faults = Faults { never_answers: Some(op), ..Faults::default() };
        let house = House { faults, ..House::new() };
        let sim = house.sim(Choices::first());
        let error = live(&house, &sim).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("was not answered within"), "{error}");
        assert_eq!(sim.failure(), None, "{name}");
        assert_eq!(sim.mistakes(), Vec::<String>::new());
        // The device itself may be left: what deletes it may be what is never answered.
        let held = |line: &String| !line.ends_with("is not deleted");
        let left: Vec<String> = sim.leftovers().into_iter().filter(held).collect();
        assert_eq!(left, Vec::<String>::new(), "{name}");
    }
}

/// Of a thread that could not be made it was said that it panicked, where undoing failed, too.
#[test]
fn a_thread_that_was_not_made_did_not_panic() {
    let mut refused = 0;
    for call in 0..60 {
        let fail_call = Some((call, Errno::ENOMEM));
        let never_answers = Some(sys::UBLK_U_CMD_STOP_DEV);
        let house = House::new();
        let faults = Faults { fail_call, never_answers, ..Faults::default() };
        let error = live(&house, &House { faults, ..house }.sim(Choices::first())).unwrap_err();
        let words = error.to_string();
        let is_undone = words.contains("and afterwards: STOP_DEV");
        refused += u32::from(words.starts_with("cannot make a thread") && is_undone);
        assert!(!words.contains("panicked"), "{words}");
    }
    assert_eq!(refused, 2, "two queues");
}

/// A disk of which one queue's handler cannot be made without a panic.
#[derive(Debug)]
struct Panics;

impl Target for Panics {
    type Handler = Blocking<Null>;

    fn geometry(&self) -> Geometry {
        Geometry::new(1 << 20)
    }

    fn needs(&self) -> Needs {
        Needs::default()
    }

    fn handler(&self, queue: &QueueInfo) -> Result<Blocking<Null>, Errno> {
        assert_eq!(queue.queue, 0, "a planted panic");
        Ok(Blocking::new(Null::new(self.geometry())))
    }
}

/// P56: a queue's thread that panics outside of its handler takes the device down.
#[test]
fn a_thread_that_panics_takes_the_device_down() {
    for seed in 0..20 {
        let house = House { queues: 2, ..House::new() };
        let sim = house.sim(Choices::seed(seed));
        let error = house.builder().serve_on(sim.task(), Panics).unwrap_err();
        let is_it = matches!(error, Error::Queue { queue: 1, error: QueueError::Panicked, .. });
        assert!(is_it, "seed {seed}: {error}");
        sim.assert_clean();
    }
}

/// A disk that panics when some of its blocks are read.
#[derive(Debug)]
struct Brittle(Vec<u64>);

impl Backend for Brittle {
    fn geometry(&self) -> Geometry {
        Geometry::new(1 << 20)
    }

    fn read(&self, offset: u64, _data: &mut [u8]) -> Result<(), Errno> {
        assert!(!self.0.contains(&(offset / 4096)), "a planted panic");
        Ok(())
    }

    fn write(&self, _offset: u64, _data: &[u8]) -> Result<(), Errno> {
        Ok(())
    }
}

/// P17: of requests that come together each panic costs its own one an error, and the others are
/// served, whatever place they have among them.
#[test]
fn a_panic_costs_no_other_request_of_its_turn() {
    for batches in [false, true] {
        for brittle in [vec![8], vec![15], vec![10, 11], (8..16).collect::<Vec<u64>>()] {
            let sim = Sim::new(Profile::NEWEST, Choices::first(), Faults::default());
            let builder = Builder::new().data_path(DataPath::Copy).batches(batches);
            let target = Blocking::new(Brittle(brittle.clone()));
            let server = builder.serve_on(sim.task(), target).unwrap();
            for _ in 0..2 {
                let ask = |block: u64| Ask::Read { offset: block * 4096, len_bytes: 4096 };
                let asked: Vec<u64> = (8..16) // behind what is looked at for partitions
                    .map(|block| sim.ask(server.id(), 0, ask(block)).expect("it is there"))
                    .collect();
                sim.until_answered();
                for (block, asked) in (8..).zip(asked) {
                    let answer = sim.answer(asked).expect("an answer");
                    assert_eq!(answer.is_err(), brittle.contains(&block), "{brittle:?}: {block}");
                }
            }
            let stats = server.stop().unwrap();
            let panics: u64 = stats.iter().map(|queue| queue.panics).sum();
            assert_eq!(panics, 2 * brittle.len() as u64);
            sim.assert_clean();
        }
    }
}

proptest! {
    #![proptest_config(cases())]

    /// P40: calls are refused now and then: the device is live or there is an error, and what was
    /// begun is undone.
    #[test]
    fn a_failed_start_leaves_nothing(house in houses(), seed: u64) {
        let house = House { faults: Faults::fatal(), ..house };
        let sim = house.sim(Choices::seed(seed));
        let result = live(&house, &sim);
        sim.until_answered();
        prop_assert_eq!(sim.failure(), None, "{:?}", result);
        prop_assert_eq!(sim.mistakes(), Vec::<String>::new());
        let mut left = sim.leftovers();
        if result.is_err() {
            delete_all(&sim);
            left = sim.leftovers();
            left.retain(|line| !line.ends_with("is not deleted")); // refused as well
        }
        prop_assert_eq!(left, Vec::<String>::new(), "{:?}", result);
    }

    /// P5, P6, P23: a kernel that breaks its rules gets no panic out of us, and no hang: requests
    /// are answered or fail, threads end, files are closed.
    #[test]
    fn a_lying_kernel_is_borne(house in houses(), seed: u64, lies in 1_u8..20) {
        let mut faults = house.faults;
        faults.lies = lies;
        let mut house = House { faults, whims: SHORT_WHIMS, ..house };
        if house.access == Access::Operations {
            // No server can bear a kernel that moves data after it said that it has.
            (house.access, house.path, house.batches) = (Access::Slices, DataPath::Copy, false);
        }
        let sim = house.sim(Choices::seed(seed));
        // Clients may wait until the stop: a tag that is said to be gone is believed to be gone.
        let result = house.serve(sim.task()).and_then(|server| {
            sim.load(server.id(), Load::new(200));
            (0..200).for_each(|_| sim.give_way());
            server.stop()
        });
        sim.until_answered();
        let left = sim.leftovers();
        prop_assert_eq!(sim.failure(), None, "{:?}", result);
        prop_assert!(!format!("{result:?}").contains("Panicked"), "{:?}", result);
        let held = |line: &String| !line.ends_with("is not deleted");
        let left: Vec<String> = left.into_iter().filter(held).collect();
        prop_assert_eq!(left, Vec::<String>::new(), "{:?}", result);
    }
}

/// P6: a descriptor that says what cannot be costs its client an error that the server alone says.
#[test]
fn nonsense_is_refused() {
    let (mut lies, mut refused) = (0, 0);
    for seed in 0..40 {
        let house = House::new();
        let sim = house.sim(Choices::seed(seed));
        let server = house.serve(sim.task()).unwrap();
        sim.set_faults(Faults { lies: 8, ..Faults::default() });
        let clients = sim.load(server.id(), Load::new(20));
        (0..200).for_each(|_| sim.give_way());
        let _ = server.stop();
        sim.until_answered();
        assert_eq!(sim.failure(), None, "seed {seed}");
        let failed = sim.tally(clients).failed;
        // What the server alone says, when it decodes.
        let decoding = [libc::EOPNOTSUPP, libc::EINVAL].map(|errno| failed.get(&errno));
        refused += decoding.into_iter().flatten().sum::<u64>();
        lies += sim.audit().lies;
    }
    assert!(refused > 5 && lies > refused, "{refused} refused of {lies}");
}

/// P14: a kernel asked once more where a write's data is to go, when it had been told and the queue
/// was leaving: the queue waited for that data for ever, and looked without end.
#[test]
fn data_that_is_asked_for_twice_is_not_waited_for() {
    let mut geometry = Geometry::new(1 << 20);
    geometry.logical_block_bytes = 2048;
    geometry.physical_block_bytes = 4096;
    geometry.durability = Durability::FlushAndFua;
    let faults = Faults { lies: 8, ..Faults::default() };
    let house = House {
        profile: Profile::OLDEST,
        depth: 32,
        max_io_bytes: 24 << 10,
        geometry,
        path: DataPath::GetData,
        access: Access::Regions,
        faults,
        whims: SHORT_WHIMS,
        ..House::new()
    };
    // The last seed is the one that found it.
    for seed in (0..200).chain([7_033_852_702_701_597_961]) {
        let sim = house.sim(Choices::seed(seed));
        let result = house.serve(sim.task()).and_then(|server| {
            sim.load(server.id(), Load::new(200));
            (0..200).for_each(|_| sim.give_way());
            server.stop()
        });
        sim.until_answered();
        assert_eq!(sim.failure(), None, "seed {seed}: {result:?}");
    }
}

/// A load that finds less than a block to ask for ends.
#[test]
fn there_is_a_block_to_ask_for_or_none() {
    let house = House::new();
    let sim = house.sim(Choices::first());
    let server = house.serve(sim.task()).unwrap();
    let clients = sim.load(server.id(), Load { span_bytes: 1, ..Load::new(10) });
    sim.until_answered();
    assert_eq!(sim.tally(clients).succeeded, 0);
    server.stop().unwrap();
    sim.assert_clean();
}
