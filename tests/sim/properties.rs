//! Random devices, clients and faults: what must hold for all of them.

use crate::files;
use crate::house::{DURABILITIES, House, WHIMS, Whim};
use core::time::Duration;
use proptest::prelude::*;
use ublkit::sim::{Choices, Faults, Load, Profile, Sim};
use ublkit::{Access, Builder, DataPath, Geometry, Memory, PathReason, QueueStats};

/// How many cases each property has.
pub fn cases() -> ProptestConfig {
    let asked = std::env::var("UBLKIT_SIM_CASES").ok().and_then(|count| count.parse().ok());
    ProptestConfig { cases: asked.unwrap_or(150), ..ProptestConfig::default() }
}

pub fn profiles() -> impl Strategy<Value = Profile> {
    proptest::sample::select(Profile::ALL)
}

prop_compose! {
    /// Any device that serves all it is asked, on any kernel, with faults that it must bear.
    pub fn houses()(
        profile in profiles(),
        queues in 1_u16..4,
        threads in 1_u16..4,
        depth in prop_oneof![1_u16..6, Just(32)],
        max_io_pages in 1_u32..9,
        block_shift in 9_u32..13,
        durability in proptest::sample::select(&DURABILITIES[..]),
        path in proptest::sample::select(DataPath::ALL),
        access in proptest::sample::select(
            &[Access::Slices, Access::Operations, Access::Regions][..],
        ),
        batches: bool,
        spins: bool,
        bearable: bool,
    ) -> House {
        let mut geometry = Geometry::new(1 << 20);
        geometry.logical_block_bytes = 1 << block_shift;
        geometry.physical_block_bytes = 4096;
        geometry.durability = durability;
        let path = if files::has(profile, path) { path } else { DataPath::Copy };
        let access = if path.is_zero_copy() { Access::Operations } else { access };
        let faults = if bearable { Faults::bearable() } else { Faults::default() };
        let batches = batches && depth > 1 && files::has_batches(profile, path);
        let shares = !batches && files::shares_queues(profile);
        House {
            profile,
            queues,
            threads: if shares { threads.min(depth) } else { 1 },
            depth,
            max_io_bytes: max_io_pages * 4096,
            geometry,
            path,
            batches,
            spin: Duration::from_micros(if spins { 20 } else { 0 }),
            access,
            faults: Faults { fewer_features: 0, ..faults },
            ..House::new()
        }
    }
}

pub fn load(requests: u64) -> Load {
    let mut load = Load::new(requests);
    load.span_bytes = 64 << 10;
    load
}

proptest! {
    #![proptest_config(cases())]

    /// P10 to P13, P15, P17 to P28, P32, P33, P41, P42, P69 to P72, P75, P79: whatever the kernel
    /// does, clients read what was written, every request is answered once, no command is refused.
    #[test]
    fn clients_read_what_was_written(house in houses(), seed: u64) {
        let sim = house.sim(Choices::seed(seed));
        let server = house.serve(sim.task()).unwrap();
        let clients = sim.load(server.id(), load(300));
        sim.until_answered();
        let (queues, depth) = (server.info().queues, server.info().depth);
        prop_assert!(queues <= house.queues);
        prop_assert_eq!(sim.audit().fetched, u64::from(queues) * u64::from(depth), "P12, P41");
        let stats = server.stop().unwrap();
        prop_assert_eq!(sim.verdict(), Ok(()));
        let tally = sim.tally(clients);
        prop_assert_eq!((tally.succeeded, tally.failed.len()), (300, 0), "{:?}", tally);
        let audit = sim.audit();
        prop_assert_eq!(audit.delivered, audit.committed, "P17");
        prop_assert_eq!(audit.aborted, audit.fetched, "P15, P19");
        let served: u64 = stats.iter().map(|s| s.reads + s.writes + s.others + s.errors).sum();
        prop_assert_eq!(served, audit.committed, "P79");
        // None is shorter than a block, none longer than the largest.
        for s in &stats {
            let block = u64::from(house.geometry.logical_block_bytes);
            let most = u64::from(house.max_io_bytes);
            prop_assert!((s.reads * block..=s.reads * most).contains(&s.read_bytes), "{:?}", s);
            prop_assert!((s.writes * block..=s.writes * most).contains(&s.written_bytes));
        }
    }

    /// P16, P17, P29, P31: errors, panics, delays, a wait for nothing: each request is answered,
    /// the others do not suffer, and what succeeded is there.
    #[test]
    fn whims_of_a_backend_cost_their_own_requests(house in houses(), seed: u64) {
        let house = House { whims: WHIMS, ..house };
        let sim = house.sim(Choices::seed(seed));
        let server = house.serve(sim.task()).unwrap();
        let clients = sim.load(server.id(), load(300));
        sim.until_answered();
        let stats = server.stop().unwrap();
        prop_assert_eq!(sim.verdict(), Ok(()));
        let tally = sim.tally(clients);
        prop_assert_eq!(tally.succeeded + tally.failed.values().sum::<u64>(), 300);
        let expected = [libc::EIO, libc::ENOSPC, libc::EREMOTEIO];
        prop_assert!(tally.failed.keys().all(|errno| expected.contains(errno)), "{:?}", tally);
        let panics: u64 = stats.iter().map(|stats| stats.panics).sum();
        prop_assert!(panics > 0 || tally.failed.is_empty() || house.depth > 30);
        let served = |s: &QueueStats| s.reads + s.writes + s.others + s.errors;
        prop_assert_eq!(stats.iter().map(served).sum::<u64>(), sim.audit().committed, "P79");
        let errors: u64 = stats.iter().map(|stats| stats.errors).sum();
        let failed: u64 = tally.failed.values().sum();
        prop_assert!(errors >= failed.max(panics), "P79: {:?} {:?}", tally, stats);
        prop_assert_eq!(sim.audit().delivered, sim.audit().committed, "P17");
    }
}

/// P50: a driver that grants less than was asked for is served as it is, if nobody insists.
#[test]
fn what_was_granted_is_served() {
    let faults = Faults { fewer_features: 128, ..Faults::default() };
    let mut seen = [false; 2];
    for seed in 0..20 {
        let sim = Sim::new(Profile::NEWEST, Choices::seed(seed), faults);
        let disk = Memory::new(Geometry::new(1 << 20)).unwrap();
        let server = Builder::new().serve_on(sim.task(), disk).unwrap();
        let copies = server.data_path() == DataPath::Copy;
        seen[usize::from(copies)] = true;
        let granted = PathReason::Granted(DataPath::GetData);
        let reason = if copies { granted } else { PathReason::Best(Access::Regions) };
        assert_eq!(server.path_reason(), reason);
        let clients = sim.load(server.id(), load(100));
        sim.until_answered();
        server.stop().unwrap();
        assert_eq!((sim.tally(clients).succeeded, sim.verdict()), (100, Ok(())), "seed {seed}");
    }
    assert_eq!(seen, [true, true], "both paths");
    for seed in 0..20 {
        let sim = Sim::new(Profile::NEWEST, Choices::seed(seed), faults);
        let disk = Memory::new(Geometry::new(1 << 20)).unwrap();
        let served = Builder::new().data_path(DataPath::UserCopy).serve_on(sim.task(), disk);
        match served {
            Ok(server) => assert_eq!(server.data_path(), DataPath::UserCopy),
            Err(error) => assert!(error.to_string().contains("user-copy cannot be"), "{error}"),
        }
        sim.assert_clean();
    }
}

/// P29: who waits and then serves has served.
#[test]
fn delays_cost_nothing_but_time() {
    let whims = &[Whim::Delay(1), Whim::Serve, Whim::Delay(3)];
    let house = House { whims, faults: Faults::bearable(), ..House::new() };
    let sim = house.sim(Choices::seed(1));
    let server = house.serve(sim.task()).unwrap();
    let clients = sim.load(server.id(), load(300));
    sim.until_answered();
    server.stop().unwrap();
    sim.assert_clean();
    assert_eq!(sim.tally(clients).succeeded, 300);
}

/// The same seed gives the same run, to the last count; another seed another one.
#[test]
fn a_seed_replays() {
    let run = |seed| {
        let house = House { faults: Faults::bearable(), whims: WHIMS, ..House::new() };
        let sim = house.sim(Choices::seed(seed));
        let server = house.serve(sim.task()).unwrap();
        let clients = sim.load(server.id(), load(500));
        sim.until_answered();
        let stats = server.stop().unwrap();
        (sim.audit(), sim.tally(clients), stats, sim.calls())
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7).0, run(8).0);
}
