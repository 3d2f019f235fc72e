//! A disk in a file, served by operations on the queue's ring: on every data path, with whims, with
//! faults of the operations; killed at any moment, and its power cut.

use crate::ends::Victim;
use crate::file_disk::{FileDisk, Mistake};
use crate::house::{DURABILITIES, House, WHIMS, Whim};
use crate::properties::{cases, load, profiles};
use proptest::prelude::*;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use ublkit::sim::{Ask, Audit, Choices, Faults, Profile};
use ublkit::{
    Access, Completion, DataPath, Durability, Errno, Features, FileIndex, FileOptions, Geometry,
    Handler, Io, Needs, QueueInfo, Request, Space, Step, Target,
};

fn geometry(durability: Durability) -> Geometry {
    let mut geometry = Geometry::new(1 << 20);
    geometry.durability = durability;
    geometry
}

/// A file's disk on a kernel.
fn house(profile: Profile, path: DataPath) -> House {
    House { profile, path, access: Access::Operations, ..House::new() }
}

/// Whether a kernel of this profile has a path.
pub fn has(profile: Profile, path: DataPath) -> bool {
    path.features().bits() & !profile.features() == 0
}

/// Whether one command can do for many slots there.
pub fn has_batches(profile: Profile, path: DataPath) -> bool {
    Features::BATCH_IO.bits() & !profile.features() == 0 && path != DataPath::GetData
}

/// Whether the slots of one queue can be of several threads there.
pub fn shares_queues(profile: Profile) -> bool {
    Features::PER_IO_DAEMON.bits() & !profile.features() == 0
}

/// Every path on every kernel that has it, in batches or not.
pub fn ways() -> impl Iterator<Item = House> {
    let all =
        Profile::ALL.iter().flat_map(|profile| DataPath::ALL.iter().map(|it| (*profile, *it)));
    let there = all.filter(|(profile, path)| has(*profile, *path));
    there.flat_map(|(profile, path)| {
        let batches = [false, has_batches(profile, path)];
        let batches = &batches[..1 + usize::from(batches[1])];
        let house = |&batches: &bool| House { batches, ..house(profile, path) };
        batches.iter().map(house).collect::<Vec<_>>()
    })
}

/// All that a device serves and is asked, once.
fn life(house: &House, seed: u64, mistake: Mistake) -> (Result<(), String>, u64, Audit) {
    let sim = house.sim(Choices::seed(seed));
    let server = house.serve_target(sim.task(), FileDisk::new(house, mistake)).unwrap();
    assert_eq!((server.data_path(), server.batches()), (house.path, house.batches));
    let clients = sim.load(server.id(), load(200));
    sim.until_answered();
    server.stop().unwrap();
    (sim.verdict(), sim.tally(clients).failed.values().sum(), sim.audit())
}

/// P31, P59 to P63, P67: every path on every kernel that has it moves the same data, and on the one
/// that copies nothing both ways are taken.
#[test]
fn every_path_on_every_kernel() {
    let mut lives = 0;
    for way in ways() {
        let faults = Faults { fewer_features: 0, ..Faults::bearable() };
        let (mut registered, mut fell_back) = (0, 0);
        for seed in 0..20 {
            let geometry = geometry(Durability::FlushAndFua);
            const WHIMS: &[Whim] = &[Whim::Serve, Whim::Halves, Whim::Delay(1)];
            let house = House { faults, geometry, whims: WHIMS, ..way };
            let (verdict, failed, audit) = life(&house, seed, Mistake::None);
            assert_eq!((verdict, failed), (Ok(()), 0), "{house:?}, seed {seed}");
            assert_eq!(audit.delivered, audit.committed, "{house:?}, seed {seed}");
            assert!(audit.operated >= audit.committed, "each takes an operation");
            registered += audit.registered;
            fell_back += audit.fell_back;
            lives += 1;
        }
        let both = registered > 0 && fell_back > 0;
        assert_eq!(both, way.path.is_zero_copy(), "{registered} and {fell_back}");
        println!("{way:?}: {registered} registered, {fell_back} fell back");
    }
    assert!(lives >= 20 * (3 * Profile::ALL.len() + 1 + 2 * 3));
}

/// Controls: a handler that leaves something out is found by what clients read; of pages that were
/// not filled they see nothing, for the queue fails such a read itself.
#[test]
fn what_is_left_out_is_noticed() {
    let judge = |mistake, path| {
        let geometry = geometry(Durability::FlushAndFua);
        let house = House { geometry, whims: &[Whim::Halves], ..house(Profile::NEWEST, path) };
        life(&house, 1, mistake)
    };
    for &path in DataPath::ALL {
        let (verdict, ..) = judge(Mistake::ForgetsToZero, path);
        assert!(verdict.unwrap_err().contains("holds write"), "{path}");
        let (verdict, failed, _) = judge(Mistake::ForgetsHalf, path);
        let is_found = verdict.is_err() || failed > 0;
        assert!(is_found, "{path}: half of the data");
        let (verdict, failed, audit) = judge(Mistake::AnswersEarly, path);
        if path.is_zero_copy() {
            assert!(audit.registered > 0 && audit.fell_back == 0);
            assert_eq!(verdict, Ok(()), "nobody sees what nobody read");
            assert!(failed > 0);
        } else {
            assert!(verdict.unwrap_err().contains("nobody wrote"), "{path}");
        }
    }
}

/// One request, asked while its handler's only whim is this one.
fn asked(path: DataPath, whim: &'static [Whim], ask: Ask) -> Result<Vec<u8>, Errno> {
    let house = House { whims: whim, ..house(Profile::NEWEST, path) };
    let sim = house.sim(Choices::first());
    let server = house.serve_target(sim.task(), FileDisk::new(&house, Mistake::None)).unwrap();
    let asking = sim.ask(server.id(), 0, ask).unwrap();
    sim.until_answered();
    server.stop().unwrap();
    sim.assert_clean();
    sim.answer(asking).unwrap()
}

/// P17: each mistake while an operation is under way costs its own request an error.
#[test]
fn mistakes_under_way_cost_an_error() {
    for &path in DataPath::ALL {
        for (whim, errno) in [
            (&[Whim::FailUnderWay][..], Errno::EREMOTEIO),
            (&[Whim::PanicUnderWay], Errno::EIO),
            (&[Whim::LookUnderWay], Errno::EIO),
        ] {
            let write = Ask::Write { offset: 0, data: vec![1; 4096], fua: false };
            for ask in [write, Ask::Read { offset: 0, len_bytes: 4096 }] {
                assert_eq!(asked(path, whim, ask.clone()), Err(errno), "{path} {whim:?} {ask:?}");
            }
        }
        let read = Ask::Read { offset: 0, len_bytes: 4096 };
        assert_eq!(asked(path, &[Whim::Serve], read), Ok(vec![0; 4096]), "{path}");
    }
}

/// What a short operation leaves is asked for while somebody waits for it, and not for a request
/// that has failed meanwhile.
#[test]
fn nobody_wants_the_rest_of_what_has_failed() {
    let goes_on = |whims, seed| {
        let faults = Faults::bearable();
        let house = House { faults, whims, ..house(Profile::NEWEST, DataPath::Copy) };
        let sim = house.sim(Choices::seed(seed));
        let server = house.serve_target(sim.task(), FileDisk::new(&house, Mistake::None)).unwrap();
        sim.ask(server.id(), 0, Ask::Read { offset: 0, len_bytes: 4096 }).unwrap();
        sim.until_answered();
        server.stop().unwrap();
        sim.assert_clean();
        let Audit { operated, committed, .. } = sim.audit();
        operated > committed
    };
    assert!((0..50).any(|seed| goes_on(&[Whim::Serve], seed)), "some are short");
    assert!((0..50).all(|seed| !goes_on(&[Whim::FailUnderWay], seed)));
}

/// A server with clients is killed, and the power cut; how many sectors its clients were promised,
/// and how many writes were lost.
fn cut(house: &House, seed: u64, moments: u32, mistake: Mistake) -> (Result<u64, String>, u64) {
    let disk = FileDisk::new(house, mistake);
    cut_of(house, seed, moments, disk.clone(), &disk)
}

/// The same of any target that keeps its data in the file of `disk`.
fn cut_of(
    house: &House,
    seed: u64,
    moments: u32,
    target: impl Target,
    disk: &FileDisk,
) -> (Result<u64, String>, u64) {
    let house = *house;
    let sim = house.sim(Choices::seed(seed));
    sim.may_lose_power();
    let victim = Victim::start(&sim, move |kernel| house.serve_target(kernel, target));
    let load = victim.keep_busy(&sim, moments);
    sim.kill(&victim.process);
    sim.until_answered();
    assert!(victim.has_ended());
    sim.until_quiet();
    assert_eq!(sim.failure(), None);
    let lost = sim.power_cut();
    let kept = load.map_or(Ok(0), |load| sim.promises_kept(load, |at, data| disk.read(at, data)));
    (kept, lost)
}

prop_compose! {
    /// Any disk in a file.
    fn disks()(
        profile in profiles(),
        path in proptest::sample::select(DataPath::ALL),
        durability in proptest::sample::select(&DURABILITIES[..]),
        depth in 1_u16..6,
        batches: bool,
        bearable: bool,
        disks: bool,
        shared: bool,
        whims in proptest::sample::select(vec![&[Whim::Serve][..], &[Whim::Halves][..], WHIMS]),
    ) -> House {
        let path = if has(profile, path) { path } else { DataPath::Copy };
        let faults = if bearable { Faults::bearable() } else { Faults::default() };
        let faults = Faults { fewer_features: 0, ..faults };
        let geometry = geometry(durability);
        let batches = batches && depth > 1 && has_batches(profile, path);
        let shared = shared && !batches && depth > 1 && shares_queues(profile);
        let threads = if shared { 2 } else { 1 };
        House { faults, depth, threads, geometry, whims, batches, disks, ..house(profile, path) }
    }
}

proptest! {
    #![proptest_config(cases())]

    /// P35, P36: what was answered as durable is there after a power cut at any moment.
    #[test]
    fn promises_outlast_a_power_cut(house in disks(), seed: u64, moments in 0_u32..600) {
        let (kept, _) = cut(&house, seed, moments, Mistake::None);
        prop_assert!(kept.is_ok(), "{kept:?}");
    }

    /// Operations that fail cost their own requests; what succeeded is there.
    #[test]
    fn failed_operations_cost_their_own_requests(house in disks(), seed: u64) {
        let faults = Faults { fail_operation: 16, ..house.faults };
        let house = House { faults, ..house };
        let sim = house.sim(Choices::seed(seed));
        let server = house.serve_target(sim.task(), FileDisk::new(&house, Mistake::None)).unwrap();
        let clients = sim.load(server.id(), load(200));
        sim.until_answered();
        server.stop().unwrap();
        prop_assert_eq!(sim.verdict(), Ok(()));
        let tally = sim.tally(clients);
        prop_assert_eq!(tally.succeeded + tally.failed.values().sum::<u64>(), 200);
        let expected = [libc::EIO, libc::ENOSPC, libc::EREMOTEIO];
        prop_assert!(tally.failed.keys().all(|errno| expected.contains(errno)), "{:?}", tally);
    }
}

/// P35, P36: so does the file backend, on every path.
#[test]
fn the_file_backend_keeps_its_promises() {
    let (mut promised, mut losses) = (0, 0);
    for &path in DataPath::ALL {
        for seed in 0..20 {
            let house = House {
                geometry: geometry(Durability::FlushAndFua),
                ..house(Profile::NEWEST, path)
            };
            let disk = FileDisk::new(&house, Mistake::None);
            let name = format!("/proc/self/fd/{}", disk.file.as_raw_fd());
            let target = FileOptions::new(name).open().unwrap();
            let (kept, lost) = cut_of(&house, seed, 500, target, &disk);
            promised += kept.unwrap_or_else(|why| panic!("{path}, seed {seed}: {why}"));
            losses += lost;
        }
    }
    println!("{promised} sectors promised and kept, {losses} writes lost");
    assert!(promised > 0 && losses > 0);
}

/// What the file backend is told to forget, or to zero without keeping its space, takes none any
/// more, and reads as zeros.
#[test]
fn discarded_ranges_become_holes() {
    const MIB: u32 = 1 << 20;
    for &path in DataPath::ALL {
        let house = House { max_io_bytes: MIB, ..house(Profile::NEWEST, path) };
        let disk = FileDisk::new(&house, Mistake::None);
        let blocks = || rustix::fs::fstat(&disk.file).unwrap().st_blocks * 512;
        let name = format!("/proc/self/fd/{}", disk.file.as_raw_fd());
        let sim = house.sim(Choices::first());
        let server =
            house.serve_target(sim.task(), FileOptions::new(name).open().unwrap()).unwrap();
        let asked = |ask| {
            let asking = sim.ask(server.id(), 0, ask).unwrap();
            sim.until_answered();
            sim.answer(asking).unwrap()
        };
        let write = Ask::Write { offset: 0, data: vec![7; MIB as usize], fua: false };
        assert_eq!(asked(write), Ok(vec![]), "{path}");
        let half = u64::from(MIB / 2);
        assert_eq!(blocks(), i64::from(MIB), "{path}");
        assert_eq!(asked(Ask::Discard { offset: 0, len_bytes: half }), Ok(vec![]), "{path}");
        assert_eq!(blocks(), i64::from(MIB / 2), "{path}");
        let zero = Ask::WriteZeroes { offset: half, len_bytes: half, no_unmap: false };
        assert_eq!(asked(zero), Ok(vec![]), "{path}");
        assert_eq!(blocks(), 0, "{path}");
        assert_eq!(asked(Ask::Read { offset: 0, len_bytes: MIB }), Ok(vec![0; MIB as usize]));
        server.stop().unwrap();
        sim.assert_clean();
    }
}

/// Discards what it is told to, once.
#[derive(Debug)]
struct Discarding(Arc<OwnedFd>);

impl Target for Discarding {
    type Handler = Self;

    fn geometry(&self) -> Geometry {
        let mut geometry = Geometry::new(1 << 20);
        geometry.discard_bytes = 512;
        geometry
    }

    fn needs(&self) -> Needs {
        let files = vec![Arc::clone(&self.0)];
        Needs { access: Access::Operations, operations: 1, files, ..Needs::default() }
    }

    fn handler(&self, _: &QueueInfo) -> Result<Self, Errno> {
        Ok(Self(Arc::clone(&self.0)))
    }
}

impl Handler for Discarding {
    fn start(&mut self, io: &mut Io<'_>) -> Step {
        let Request { offset, len_bytes, .. } = io.request();
        match io.allocate(FileIndex(0), Space::Discarded, offset..offset + len_bytes, 0) {
            Ok(()) => Step::Pending,
            Err(errno) => Step::Done(Err(errno)),
        }
    }

    fn resume(&mut self, _: &mut Io<'_>, done: Completion) -> Step {
        Step::Done(done.result.map(drop))
    }
}

/// A disk's own discard is done where the file plays a disk that has such a range, and refused as a
/// kernel does it elsewhere.
#[test]
fn disks_discard_and_files_do_not() {
    for (disks, len_bytes, expected) in [
        (true, 1 << 20, Ok(vec![])),
        (true, 1 << 19, Err(Errno::EINVAL)),
        (false, 1 << 20, Err(Errno::EOPNOTSUPP)),
    ] {
        let house = House { disks, ..house(Profile::OLDEST, DataPath::Copy) };
        let disk = FileDisk::new(&house, Mistake::None);
        let file = File::from(disk.file.try_clone().unwrap());
        file.write_all_at(&[7; 1 << 20], 0).unwrap();
        file.set_len(len_bytes).unwrap();
        let sim = house.sim(Choices::first());
        let target = Discarding(Arc::clone(&disk.file));
        let server = house.serve_target(sim.task(), target).unwrap();
        let ask = Ask::Discard { offset: 1 << 18, len_bytes: 1 << 19 };
        let asking = sim.ask(server.id(), 0, ask).unwrap();
        sim.until_answered();
        let is_hole = expected.is_ok();
        assert_eq!(sim.answer(asking), Some(expected));
        let holds = |offset| {
            let mut byte = [0];
            file.read_exact_at(&mut byte, offset).unwrap();
            byte[0] == 7
        };
        assert_eq!((holds((1 << 18) - 1), holds(1 << 18)), (true, !is_hole));
        server.stop().unwrap();
        sim.assert_clean();
    }
}

/// Controls of the power cut: handlers that forget to make something durable are found, and there
/// is something to lose and something promised.
#[test]
fn forgotten_syncs_are_noticed() {
    for (mistake, durability) in [
        (Mistake::ForgetsSync, Durability::Flush),
        (Mistake::ForgetsSync, Durability::FlushAndFua),
        (Mistake::ForgetsFua, Durability::FlushAndFua),
        (Mistake::ForgetsFua, Durability::WriteThrough),
    ] {
        for path in [DataPath::Copy, DataPath::ZeroCopy, DataPath::ZeroCopyByHand] {
            let house = House { geometry: geometry(durability), ..house(Profile::NEWEST, path) };
            let (mut promised, mut losses) = (0, 0);
            let mut found = 0;
            for seed in 0..20 {
                let (kept, lost) = cut(&house, seed, 500, Mistake::None);
                promised += kept.unwrap();
                losses += lost;
                found += u32::from(cut(&house, seed, 500, mistake).0.is_err());
            }
            println!("{path}, {durability:?}: {promised} sectors promised, {losses} writes lost");
            println!("{mistake:?} was found by {found} of 20 power cuts");
            assert!(found > 0 && promised > 0, "{path} {mistake:?} {durability:?}");
            assert!(losses > 0 || durability == Durability::WriteThrough);
        }
    }
}

/// The same seed is the same run, although files are real.
#[test]
fn a_seed_replays_with_files() {
    let faults = Faults { fewer_features: 0, ..Faults::bearable() };
    let house = House { faults, whims: WHIMS, ..house(Profile::NEWEST, DataPath::ZeroCopy) };
    let run = |seed| life(&house, seed, Mistake::None);
    assert_eq!(run(7), run(7));
    assert_ne!(run(7).2, run(8).2);
}

/// What the simulation does not play of files, it says.
#[test]
fn an_operation_on_what_is_no_file() {
    let house = house(Profile::NEWEST, DataPath::Copy);
    let mut disk = FileDisk::new(&house, Mistake::None);
    disk.file = Arc::new(rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap());
    let sim = house.sim(Choices::first());
    let server = house.serve_target(sim.task(), disk).unwrap();
    let asking = sim.ask(server.id(), 0, Ask::Read { offset: 0, len_bytes: 512 }).unwrap();
    sim.until_answered();
    server.stop().unwrap();
    assert_eq!(sim.answer(asking), Some(Err(Errno::EIO)), "an event has no offsets");
    sim.assert_clean();
}
