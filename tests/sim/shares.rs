//! Queues whose slots are shared by several threads.

use crate::files;
use crate::house::{House, Whim};
use crate::properties::load;
use std::time::Duration;
use ublkit::sim::{Choices, Faults, Profile, Sim};
use ublkit::{
    Access, Builder, DataPath, Errno, Geometry, Needs, QueueStats, Recovery, Task, Tasks,
};

/// What cannot be is said, and leaves nothing behind.
#[test]
fn threads_that_cannot_be() {
    let refused = |house: House| {
        let sim = house.sim(Choices::first());
        let error = house.serve(sim.task()).expect_err("it cannot be").to_string();
        assert_eq!(sim.leftovers(), Vec::<String>::new());
        error
    };
    let two = House { threads: 2, ..House::new() };
    for profile in Profile::ALL.iter().filter(|profile| !files::shares_queues(**profile)) {
        let why = refused(House { profile: *profile, ..two });
        assert!(why.contains("lacks PER_IO_DAEMON, which is there since 6.16"), "{why}");
    }
    let why = refused(House { batches: true, ..two });
    assert!(why.contains("2 threads for a queue cannot be: in batches there is one"), "{why}");
    for threads in [0, 5] {
        let why = refused(House { threads, ..two });
        assert!(why.contains(&format!("{threads} threads for a queue cannot be")), "{why}");
    }
}

/// Each thread answers a part of its queue's requests, and all of them together answer all.
#[test]
fn threads_share_a_queue() {
    let house = House { threads: 3, depth: 8, whims: &[Whim::Delay(1)], ..House::new() };
    let sim = house.sim(Choices::seed(3));
    let server = house.serve(sim.task()).unwrap();
    sim.load(server.id(), load(500));
    sim.until_answered();
    let meters = server.meters().to_vec();
    let queues: Vec<u16> = meters.iter().map(|meter| meter.queue()).collect();
    assert_eq!(queues, [0, 0, 0, 1, 1, 1]);
    let all = server.stop().unwrap();
    let answered = all.iter().map(QueueStats::answered).sum::<u64>();
    assert!(answered > 400, "but for those that the disk need not be asked: {answered}");
    let each = meters.iter().map(|meter| meter.read().stats.answered());
    let each: Vec<u64> = each.collect();
    assert!(each.iter().all(|answered| *answered > 30), "{each:?}");
    assert_eq!(each.iter().sum::<u64>(), answered);
    sim.assert_clean();
}

/// The next server need not have as many, and no more than there are slots.
#[test]
fn the_next_server_has_other_threads() {
    let house = House { threads: 2, recovery: Recovery::Reissue, ..House::new() };
    let sim = house.sim(Choices::seed(5));
    let store = house.store();
    let mut server = house.serve_store(sim.task(), &store).unwrap();
    let clients = sim.load(server.id(), load(300));
    server.hand_over().unwrap();
    drop(server);
    let builder = || Builder::new().timeout(Duration::from_secs(90));
    for threads in [0, 5] {
        let builder = builder().threads_per_queue(threads);
        let refused = builder.recover_on(sim.task(), 0, house.target());
        let why = refused.expect_err("it has four slots").to_string();
        let expected = format!("{threads} threads for a queue cannot be: choose 1 to 4");
        assert!(why.contains(&expected), "{why}");
    }
    for threads in [4, 1] {
        let house = House { threads, ..house };
        let mut server = house.recover(sim.task(), 0, &store).unwrap();
        if threads == 1 {
            sim.until_answered();
            server.stop().unwrap();
        } else {
            server.hand_over().unwrap();
        }
    }
    assert_eq!(sim.tally(clients).succeeded, 300);
    sim.assert_clean();
}

/// A ring that would be too long is refused before there is a device: by hand there is one more
/// entry for each slot, and a thread has only those of its own.
#[test]
fn rings_are_not_too_long() {
    let geometry = Geometry::new(1 << 20);
    let needs = Needs { access: Access::Operations, operations: 7, ..Needs::default() };
    let target = || Tasks::new(geometry, needs.clone(), async |_: Task| Ok::<(), Errno>(()));
    for (path, threads, fits) in [
        (DataPath::ZeroCopy, 1, true),
        (DataPath::ZeroCopyByHand, 1, false),
        (DataPath::ZeroCopyByHand, 2, true),
    ] {
        let sim = Sim::new(Profile::NEWEST, Choices::first(), Faults::default());
        let builder = Builder::new().depth(4096).max_io_bytes(4096).data_path(path);
        let served = builder.threads_per_queue(threads).serve_on(sim.task(), target());
        match served {
            Ok(server) => drop(server.stop().unwrap()),
            Err(error) => {
                assert!(error.to_string().contains("a ring has 32768 entries"), "{error}")
            }
        }
        assert_eq!(sim.audit().fetched > 0, fits, "{path}, {threads} threads");
        sim.assert_clean();
    }
}
