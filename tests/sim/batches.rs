//! Queues whose slots are answered by one command a turn.

use crate::files;
use crate::house::House;
use crate::properties::load;
use ublkit::sim::{Choices, Faults, Profile};
use ublkit::{DataPath, Errno, Error, QueueError};

fn house(path: DataPath, faults: Faults) -> House {
    let zero_copy = path.is_zero_copy();
    let access = if zero_copy { ublkit::Access::Operations } else { ublkit::Access::Slices };
    House { path, access, faults, batches: true, ..House::new() }
}

/// P64: of a batch that was not taken to its end the rest is sent again, and nothing twice: a
/// second answer would be refused. P65: commands that bring tags and end are begun again.
#[test]
fn what_was_not_taken_is_sent_again() {
    let faults = Faults { short_batch: 128, no_buffer: 64, ..Faults::default() };
    for &path in DataPath::ALL.iter().filter(|it| files::has_batches(Profile::NEWEST, **it)) {
        for seed in 0..20 {
            let house = house(path, faults);
            let sim = house.sim(Choices::seed(seed));
            let server = house.serve(sim.task()).unwrap();
            assert!(server.batches());
            let clients = sim.load(server.id(), load(200));
            sim.until_answered();
            server.stop().unwrap();
            sim.assert_clean();
            let audit = sim.audit();
            assert_eq!(sim.tally(clients).succeeded, 200, "{path}, seed {seed}");
            assert_eq!(audit.delivered, audit.committed, "{path}, seed {seed}");
        }
    }
}

/// P65: where no buffer can ever be filled the queue ends with an error, and does not try for ever.
#[test]
fn a_buffer_that_is_never_filled_is_an_error() {
    let faults = Faults { no_buffer: u8::MAX, ..Faults::default() };
    let house = house(DataPath::Copy, faults);
    let sim = house.sim(Choices::first());
    let failed = house.serve(sim.task()).map(|server| {
        sim.load(server.id(), load(10));
        server.wait();
        server.stop()
    });
    let error = match failed {
        Ok(stopped) => stopped.unwrap_err(),
        Err(error) => error,
    };
    let is_it =
        matches!(error, Error::Queue { error: QueueError::Batch { errno: Errno::ENOBUFS }, .. });
    assert!(is_it, "{error}");
    sim.until_answered();
    assert_eq!((sim.failure(), sim.leftovers()), (None, vec![]));
}

/// What cannot be is said.
#[test]
fn wishes_that_cannot_be() {
    let refused = |house: House| {
        let sim = house.sim(Choices::first());
        let error = house.serve(sim.task()).expect_err("it cannot be").to_string();
        assert_eq!(sim.leftovers(), Vec::<String>::new());
        error
    };
    let copy = house(DataPath::Copy, Faults::default());
    let old = Profile::ALL.iter().find(|it| !files::has_batches(**it, DataPath::Copy)).unwrap();
    assert!(refused(House { profile: *old, ..copy }).contains("lacks BATCH_IO"));
    assert!(refused(House { depth: 1, ..copy }).contains("one slot"));
    assert!(refused(House { path: DataPath::GetData, ..copy }).contains("get-data"));
}
