//! Devices that outlive their servers: killed, failed at any call, handed over; and recovered.

use crate::ends::{Victim, clear_up};
use crate::house::{House, Store, WHIMS, Whim};
use crate::properties::{cases, houses, load};
use core::time::Duration;
use proptest::prelude::*;
use ublkit::kernel::Kernel;
use ublkit::sim::{Choices, Faults, Profile, Sim, Task};
use ublkit::sys::ublk as sys;
use ublkit::{Control, Errno, Error, Features, Geometry, Recovery, Server};

const MODES: [Recovery; 3] = [Recovery::Wait, Recovery::Reissue, Recovery::Fail];

prop_compose! {
    /// Any device that outlives its server, where the kernel has that.
    fn survivors()(house in houses(), mode in proptest::sample::select(&MODES[..])) -> House {
        let features = Features::from_bits_retain(house.profile.features());
        let has = features.contains(mode.features());
        House { recovery: if has { mode } else { Recovery::Reissue }, ..house }
    }
}

fn has_quiesce(house: &House) -> bool {
    Features::from_bits_retain(house.profile.features()).contains(Features::QUIESCE)
}

#[track_caller]
fn handed_over(sim: &Sim, mut server: Server<Task>) {
    let result = server.hand_over();
    assert!(result.is_ok(), "{result:?} {:?}", sim.failure());
}

/// Whether a device can only be deleted any more, on a driver before 6.15: a server that died while
/// it recovered had its descriptors mapped, and no slot fetched.
fn is_lost(error: &Error) -> bool {
    matches!(error, Error::Refused(why) if why.contains("can only be deleted: a process began"))
}

/// That is the only moment of a recovery after which nobody else can take over.
#[test]
fn a_death_between_mapping_and_fetching_costs_an_old_drivers_device() {
    for (profile, loses) in [(Profile::OLDEST, true), (Profile::NEWEST, false)] {
        let faults = Faults { preempt: 96, ..Faults::default() };
        let house = House { profile, faults, queues: 1, recovery: Recovery::Wait, ..House::new() };
        let (mut lost, mut recovered) = (0, 0);
        for moments in 0_u32..300 {
            let sim = house.sim(Choices::seed(moments.into()));
            let store = house.store();
            let mut server = house.serve_store(sim.task(), &store).unwrap();
            let _ = server.hand_over();
            drop(server);
            let second = store.clone();
            let victim = Victim::start(&sim, move |kernel| house.recover(kernel, 0, &second));
            victim.wait(&sim, moments % 60);
            sim.kill(&victim.process);
            assert!(victim.has_ended());
            match house.recover(sim.task(), 0, &store) {
                Ok(server) => {
                    server.stop().unwrap();
                    recovered += 1;
                }
                Err(error) if is_lost(&error) => lost += 1,
                Err(error) => panic!("{profile}, {moments}: {error} {:?}", sim.failure()),
            }
            drop(victim);
            assert_eq!(cleared(&sim), Vec::<String>::new());
        }
        println!("{profile}: {recovered} recovered, {lost} lost");
        assert!(recovered > 200 && (lost > 0) == loses, "{profile}: {recovered}, {lost}");
    }
}

/// What may be left that an operator can still clear up: the device.
fn cleared(sim: &Sim) -> Vec<String> {
    let cleared = clear_up(sim.process(true));
    assert!(cleared.is_ok(), "{cleared:?} {:?}", sim.failure());
    sim.leftovers()
}

proptest! {
    #![proptest_config(cases())]

    /// P51, P52, P54, P55: a server that is killed at any moment leaves a device that another one
    /// takes over, with the queues that it has: what was answered is there, nobody waits for ever,
    /// and who was promised that sees no error.
    #[test]
    fn a_killed_server_is_replaced(house in survivors(), seed: u64, moments in 0_u32..400) {
        let sim = house.sim(Choices::seed(seed));
        let store = house.store();
        let first = store.clone();
        let victim = Victim::start(&sim, move |kernel| house.serve_store(kernel, &first));
        let clients = victim.keep_busy(&sim, moments);
        sim.kill(&victim.process);
        prop_assert!(victim.has_ended());
        let state = sim.state(0);
        let next = sim.process(true);
        let other = House { queues: 9, depth: 99, ..house };
        match other.recover(next.clone(), 0, &store) {
            Ok(server) => {
                sim.until_answered();
                server.stop().unwrap();
            }
            // It was killed before there was a disk, or before there was a device.
            Err(Error::Refused(_)) if state == Some(sys::UBLK_S_DEV_DEAD) => {}
            Err(Error::Command { errno: Errno::ENODEV, .. }) if state.is_none() => {}
            Err(error) => prop_assert!(false, "{error} {:?}", sim.failure()),
        }
        if let Some(clients) = clients {
            let tally = sim.tally(clients);
            prop_assert_eq!(&tally.wrong, &Vec::<String>::new());
            let reissues = house.recovery == Recovery::Reissue;
            prop_assert!(!reissues || tally.failed.is_empty(), "{tally:?}");
            prop_assert!(tally.failed.keys().all(|e| [libc::EIO, libc::EREMOTEIO].contains(e)));
        }
        drop((victim, next));
        prop_assert_eq!(cleared(&sim), Vec::<String>::new());
        prop_assert_eq!(sim.failure(), None);
        prop_assert_eq!(sim.mistakes(), Vec::<String>::new());
    }

    /// P55: killed while it recovers, at any moment: the device can be recovered once more, or at
    /// least be deleted.
    #[test]
    fn a_server_is_killed_while_it_recovers(
        house in survivors(), seed: u64, moments in 0_u32..150, deletes: bool,
    ) {
        let sim = house.sim(Choices::seed(seed));
        let store = house.store();
        let server = house.serve_store(sim.task(), &store).unwrap();
        let clients = sim.load(server.id(), load(200));
        (0..50).for_each(|_| sim.give_way());
        let mut server = server;
        let _ = server.hand_over();
        drop(server);
        let second = store.clone();
        let victim = Victim::start(&sim, move |kernel| house.recover(kernel, 0, &second));
        victim.wait(&sim, moments);
        sim.kill(&victim.process);
        prop_assert!(victim.has_ended());
        if !deletes {
            match house.recover(sim.task(), 0, &store) {
                Ok(server) => {
                    sim.until_answered();
                    prop_assert_eq!(sim.tally(clients).wrong, Vec::<String>::new());
                    server.stop().unwrap();
                }
                Err(error) => {
                    let is_lost = house.profile == Profile::OLDEST && is_lost(&error);
                    prop_assert!(is_lost, "{error} {:?}", sim.failure());
                }
            }
        }
        drop(victim);
        prop_assert_eq!(cleared(&sim), Vec::<String>::new());
        sim.until_answered();
        prop_assert_eq!(sim.failure(), None);
        prop_assert_eq!(sim.mistakes(), Vec::<String>::new());
    }

    /// P57: a server hands its device over in the middle of everything, and the next one takes it:
    /// nobody sees an error, whatever the recovery. Slots that are never taken away are no matter.
    /// In batches the driver lets nobody wait: requests meet the fate that the recovery says.
    #[test]
    fn a_device_is_handed_over(house in survivors(), seed: u64, moments in 0_u32..200) {
        prop_assume!(has_quiesce(&house));
        let house = House { whims: &[Whim::Serve, Whim::Delay(2), Whim::Serve], ..house };
        let sim = house.sim(Choices::seed(seed));
        let store = house.store();
        let server = house.serve_store(sim.task(), &store).unwrap();
        let clients = sim.load(server.id(), load(300));
        (0..moments).for_each(|_| sim.give_way());
        handed_over(&sim, server);
        let server = house.recover(sim.process(true), 0, &store).unwrap();
        (0..moments).for_each(|_| sim.give_way());
        handed_over(&sim, server);
        let server = house.recover(sim.process(true), 0, &store).unwrap();
        sim.until_answered();
        server.stop().unwrap();
        let tally = sim.tally(clients);
        // Before the next server comes, requests fail where they are to.
        let fails = house.recovery == Recovery::Fail
            || house.batches && house.recovery == Recovery::Wait;
        prop_assert!(fails || tally.failed.is_empty(), "{tally:?}");
        prop_assert_eq!(sim.failure(), None);
        prop_assert_eq!(sim.mistakes(), Vec::<String>::new());
        prop_assert_eq!(sim.verdict(), Ok(()));
    }

    /// P29: the same with a backend that has whims.
    #[test]
    fn whims_do_not_keep_a_device(house in survivors(), seed: u64, moments in 0_u32..200) {
        let house = House { whims: WHIMS, ..house };
        let sim = house.sim(Choices::seed(seed));
        let store = house.store();
        let server = house.serve_store(sim.task(), &store).unwrap();
        let clients = sim.load(server.id(), load(300));
        (0..moments).for_each(|_| sim.give_way());
        handed_over(&sim, server);
        let server = house.recover(sim.process(true), 0, &store).unwrap();
        sim.until_answered();
        prop_assert_eq!(sim.failure(), None, "{:?}", sim.state(0));
        prop_assert_eq!(sim.mistakes(), Vec::<String>::new());
        server.stop().unwrap();
        prop_assert_eq!(sim.tally(clients).wrong, Vec::<String>::new());
        prop_assert_eq!(sim.leftovers(), Vec::<String>::new());
    }
}

/// A device whose server has left it, with clients who wait.
fn orphan(house: &House, sim: &Sim, store: &Store) -> usize {
    let mut server = house.serve_store(sim.process(true), store).unwrap();
    let clients = sim.load(server.id(), load(40));
    (0..20).for_each(|_| sim.give_way());
    let _ = server.hand_over();
    clients
}

/// A queue that fails leaves its ring open until its thread is no more and the server lets go:
/// before 6.15 the driver loses what is on its way to a living thread whose ring is closed.
#[test]
fn a_ring_outlives_its_thread() {
    for profile in [Profile::OLDEST, Profile::NEWEST] {
        let house = House { profile, queues: 1, recovery: Recovery::Reissue, ..House::new() };
        let (sim, store) = (house.sim(Choices::first()), house.store());
        let mut server = house.serve_store(sim.process(true), &store).unwrap();
        let failing = Faults { fail_call: Some((sim.calls() + 9, Errno::EIO)), ..house.faults };
        sim.set_faults(failing);
        sim.load(server.id(), load(40));
        server.wait();
        sim.until_quiet(); // the thread has ended
        let next = sim.process(true);
        let open = || next.open(c"/dev/ublkc0").map(drop);
        assert_eq!(open(), Err(Errno::EBUSY), "{profile}");
        server.hand_over().unwrap_err();
        drop(server);
        sim.until_quiet(); // the kernel's worker has torn the ring down
        assert_eq!(open(), Ok(()), "{profile}");
        house.recover(next, 0, &store).unwrap().stop().unwrap();
        sim.assert_clean();
    }
}

/// A server one of whose queues has failed stops its device at once, though what its clients had
/// asked is answered only when all rings are closed.
#[test]
fn who_has_failed_stops_at_once() {
    for (profile, recovery) in [Profile::OLDEST, Profile::NEWEST]
        .into_iter()
        .flat_map(|profile| MODES.map(|recovery| (profile, recovery)))
        .filter(|(profile, mode)| {
            Features::from_bits_retain(profile.features()).contains(mode.features())
        })
    {
        let house = House { profile, queues: 2, recovery, ..House::new() };
        let sim = house.sim(Choices::first());
        let server = house.serve_store(sim.process(true), &house.store()).unwrap();
        let failing = Faults { fail_call: Some((sim.calls() + 9, Errno::EIO)), ..house.faults };
        sim.set_faults(failing);
        sim.load(server.id(), load(40));
        server.wait();
        let begun = sim.task().now();
        let error = server.stop().unwrap_err();
        assert!(matches!(error, Error::Queue { .. }), "{profile}, {recovery}: {error}");
        let took = sim.task().now() - begun;
        assert!(took < Duration::from_secs(1), "{profile}, {recovery}: {took:?}");
        sim.until_answered();
        assert_eq!(sim.leftovers(), Vec::<String>::new(), "{profile}, {recovery}");
    }
}

/// P40, P48, P55: every call of a recovery fails once, with each of some errnos: it succeeds all
/// the same, or ends with an error and leaves a device that the next server recovers, and nobody
/// sees an error.
#[test]
fn every_call_of_a_recovery_fails_once() {
    let (mut tried, mut failed) = (0, 0);
    for profile in [Profile::OLDEST, Profile::ALL[1], Profile::NEWEST] {
        for errno in [Errno::EIO, Errno::ENOMEM, Errno::EINTR, Errno::EINVAL, Errno::EBUSY] {
            for call in 0.. {
                let house = House { profile, recovery: Recovery::Reissue, ..House::new() };
                // How many calls come before it is the same each time.
                let before = {
                    let sim = house.sim(Choices::first());
                    orphan(&house, &sim, &house.store());
                    sim.calls()
                };
                let fail_call = Some((before + call, errno));
                let faults = Faults { fail_call, ..Faults::default() };
                let house = House { faults, ..house };
                let sim = house.sim(Choices::first());
                let store = house.store();
                let clients = orphan(&house, &sim, &store);
                let result = house.recover(sim.task(), 0, &store);
                let what = format!("{profile}: call {call} fails with {errno}: {result:?}");
                tried += 1;
                let all = sim.calls() <= before + call;
                if all {
                    break; // it was not made any more
                }
                match result {
                    // A queue may have died meanwhile.
                    Ok(mut server) => drop(server.hand_over()),
                    Err(_) => failed += 1,
                }
                let again = house.recover(sim.task(), 0, &store);
                let server = again.unwrap_or_else(|error| panic!("{what}; and again: {error}"));
                sim.until_answered();
                let tally = sim.tally(clients);
                assert!(tally.wrong.is_empty() && tally.failed.is_empty(), "{what}");
                server.stop().unwrap();
                assert_eq!(sim.failure(), None, "{what}");
                assert_eq!(sim.mistakes(), Vec::<String>::new());
                assert_eq!(cleared(&sim), Vec::<String>::new(), "{what}");
                sim.until_answered();
            }
        }
    }
    println!("{tried} recoveries with a failed call, {failed} of them failed");
    assert!(failed > 50 && failed < tried);
}

/// P49: a command of a recovery that is never answered is given up, and what was begun is undone.
#[test]
fn a_recovery_that_is_never_answered_is_given_up() {
    for (op, name) in [
        (sys::UBLK_U_CMD_START_USER_RECOVERY, "START_USER_RECOVERY"),
        (sys::UBLK_U_CMD_GET_PARAMS, "GET_PARAMS"),
        (sys::UBLK_U_CMD_END_USER_RECOVERY, "END_USER_RECOVERY"),
    ] {
        let faults = Faults { never_answers: Some(op), ..Faults::default() };
        let house = House { faults, recovery: Recovery::Wait, ..House::new() };
        let sim = house.sim(Choices::first());
        let store = house.store();
        orphan(&house, &sim, &store);
        let error = house.recover(sim.task(), 0, &store).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("was not answered within"), "{error}");
        assert_eq!(cleared(&sim), Vec::<String>::new(), "{name}");
        sim.until_answered();
        assert_eq!(sim.failure(), None, "{name}");
        assert_eq!(sim.mistakes(), Vec::<String>::new());
    }
}

#[track_caller]
fn why(result: Result<Server<impl Kernel>, Error>) -> String {
    result.map(drop).unwrap_err().to_string()
}

/// P53, P54: what cannot be recovered is refused in words, and stays as it was.
#[test]
fn what_cannot_be_recovered_is_refused() {
    let house = House { recovery: Recovery::Wait, ..House::new() };
    let sim = house.sim(Choices::first());
    let store = house.store();
    let task = || sim.process(true);
    assert!(why(house.recover(task(), 0, &store)).contains("no such device"));
    let server = House::new().serve(task()).unwrap();
    assert!(why(house.recover(task(), 0, &store)).contains("made without recovery"));
    server.stop().unwrap();
    // Its server is still there: that is waited for, and then said.
    let mut server = house.serve_store(task(), &store).unwrap();
    assert!(why(house.recover(task(), 0, &store)).contains("EBUSY"));
    server.hand_over().unwrap();
    drop(server);
    let small = House { geometry: Geometry::new(1 << 19), ..house };
    assert!(why(house.recover(task(), 0, &small.store())).contains("another disk: it has 1048576"));
    let mut blocks = Geometry::new(1 << 20);
    blocks.logical_block_bytes = 4096;
    blocks.physical_block_bytes = 4096;
    let coarse = House { geometry: blocks, ..house };
    assert!(why(house.recover(task(), 0, &coarse.store())).contains("of 512 bytes, and of this"));
    let mut readers = Geometry::new(1 << 20);
    readers.read_only = true;
    let readers = House { geometry: readers, ..house };
    assert!(why(house.recover(task(), 0, &readers.store())).contains("not read-only, unlike"));
    house.recover(task(), 0, &store).unwrap().stop().unwrap();
    // A device that was stopped has no disk.
    let server = house.serve_store(task(), &store).unwrap();
    let mut control = Control::open(task()).unwrap();
    control.device(0).stop().unwrap();
    server.wait();
    assert!(why(house.recover(task(), 0, &store)).contains("it can only be deleted"));
    server.stop().unwrap();
    let mut server = House::new().serve(task()).unwrap();
    assert!(server.hand_over().unwrap_err().to_string().contains("made without recovery"));
    server.stop().unwrap();
    drop(control);
    assert_eq!(sim.leftovers(), Vec::<String>::new());
}

/// A kernel that lacks a recovery, or does not grant it, is told so before a device is made of it.
#[test]
fn what_the_kernel_lacks_is_no_recovery() {
    let house = House { profile: Profile::OLDEST, recovery: Recovery::Fail, ..House::new() };
    let sim = house.sim(Choices::first());
    assert!(why(house.serve(sim.task())).contains("lacks USER_RECOVERY_FAIL_IO"));
    sim.assert_clean();
    let faults = Faults { fewer_features: 255, ..Faults::default() };
    let house = House { recovery: Recovery::Wait, faults, ..House::new() };
    let sim = house.sim(Choices::seed(3));
    assert!(why(house.serve(sim.task())).contains("recovery by 'wait' cannot be"));
    sim.assert_clean();
}
