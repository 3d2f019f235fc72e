//! Handlers that use regions wrongly: each mistake costs its own request, on every data path.

use crate::house::House;
use std::time::Duration;
use ublkit::sim::{Ask, Choices};
use ublkit::{
    Access, Completion, DataPath, Errno, Geometry, Handler, Io, Memory, Needs, Operation,
    QueueInfo, RegionIndex, Step, Target,
};

/// What a handler does to a request that it should not.
#[derive(Clone, Copy, Debug)]
enum Mistake {
    /// It takes a write for a read, and a read for a write.
    WrongWay,
    /// It moves a write's data while a delay is under way.
    StoresWhileDelayed,
    /// It asks for a write's data twice.
    StoresTwice,
    /// It fails a write although two delays are under way.
    FailsWhileDelayedTwice,
}

/// A memory disk whose handler makes one mistake with each request.
#[derive(Clone, Debug)]
struct Clumsy(Memory, Mistake);

/// The paths that suit regions.
const PATHS: [DataPath; 3] = [DataPath::Copy, DataPath::GetData, DataPath::UserCopy];

const ALL: RegionIndex = RegionIndex(0);

impl Target for Clumsy {
    type Handler = Self;

    fn geometry(&self) -> Geometry {
        self.0.geometry()
    }

    fn needs(&self) -> Needs {
        Needs { operations: 2, ..self.0.needs() }
    }

    fn handler(&self, _: &QueueInfo) -> Result<Self, Errno> {
        Ok(self.clone())
    }
}

impl Handler for Clumsy {
    fn start(&mut self, io: &mut Io<'_>) -> Step {
        let is_read = io.request().operation == Operation::Read;
        match self.1 {
            Mistake::WrongWay if is_read => io.store(ALL, 0, 0),
            Mistake::WrongWay => io.load(ALL, 0),
            _ if is_read => io.load(ALL, 0),
            Mistake::StoresWhileDelayed => {
                io.delay(Duration::from_millis(1), 1).expect("none is under way");
                io.store(ALL, 0, 0)
            }
            Mistake::FailsWhileDelayedTwice => {
                for ms in [1, 5] {
                    io.delay(Duration::from_millis(ms), 1).expect("there may be two");
                }
                Step::Done(Err(Errno::ENOSPC))
            }
            Mistake::StoresTwice => {
                let _ = io.store(ALL, 0, 0);
                io.store(ALL, 0, 0)
            }
        }
    }

    fn resume(&mut self, _: &mut Io<'_>, done: Completion) -> Step {
        Step::Done(done.result.map(drop))
    }
}

/// What a write and a read are answered.
fn answers(path: DataPath, mistake: Mistake) -> [Option<Result<Vec<u8>, Errno>>; 2] {
    let house = House { path, access: Access::Regions, ..House::new() };
    let sim = house.sim(Choices::first());
    let disk = Clumsy(Memory::new(house.geometry).unwrap(), mistake);
    let server = house.serve_target(sim.task(), disk).unwrap();
    let write = Ask::Write { offset: 0, data: vec![7; 4096], fua: false };
    let asked = [write, Ask::Read { offset: 0, len_bytes: 4096 }].map(|ask| {
        let asking = sim.ask(server.id(), 0, ask).unwrap();
        sim.until_answered();
        asking
    });
    let stats = server.stop();
    assert!(stats.is_ok(), "{path} {mistake:?}: the queue did not survive: {stats:?}");
    assert_eq!(sim.verdict(), Ok(()), "{path} {mistake:?}");
    asked.map(|asking| sim.answer(asking))
}

#[test]
fn data_moved_the_wrong_way_is_refused() {
    for path in PATHS {
        let refused = Some(Err(Errno::EINVAL));
        assert_eq!(answers(path, Mistake::WrongWay), [refused.clone(), refused], "{path}");
    }
}

/// P17: whatever the path, nobody waits for ever.
#[test]
fn data_moved_at_the_wrong_time_costs_its_request() {
    for path in PATHS {
        for mistake in [Mistake::StoresWhileDelayed, Mistake::StoresTwice] {
            let [write, read] = answers(path, mistake);
            assert!(write.is_some() && read.is_some_and(|read| read.is_ok()), "{path} {mistake:?}");
        }
    }
}

/// P17: an answer waits for the last operation of its request.
#[test]
fn a_failure_waits_for_all_that_is_under_way() {
    for path in PATHS {
        let [write, read] = answers(path, Mistake::FailsWhileDelayedTwice);
        assert_eq!(write, Some(Err(Errno::ENOSPC)), "{path}");
        assert!(read.is_some_and(|read| read.is_ok()), "{path}");
    }
}
