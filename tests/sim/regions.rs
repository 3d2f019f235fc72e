//! A disk in a region whose handlers could ask for operations as well: on every data path.

use crate::files::ways;
use crate::properties::load;
use ublkit::sim::Choices;
use ublkit::{Access, Errno, Geometry, Memory, Needs, QueueInfo, Target};

/// As a cache might be that serves hits from memory.
struct Cache(Memory);

impl Target for Cache {
    type Handler = <Memory as Target>::Handler;

    fn geometry(&self) -> Geometry {
        Target::geometry(&self.0)
    }

    fn needs(&self) -> Needs {
        Needs { access: Access::Operations, operations: 1, ..self.0.needs() }
    }

    fn handler(&self, queue: &QueueInfo) -> Result<Self::Handler, Errno> {
        self.0.handler(queue)
    }
}

/// Pages that were put into a ring's table by hand are taken out of it, although what a read asks
/// for was given without them.
#[test]
fn regions_beside_operations_on_every_path() {
    let mut registered = 0;
    for house in ways() {
        let sim = house.sim(Choices::seed(1));
        let cache = Cache(Memory::new(Geometry::new(1 << 20)).expect("a little memory"));
        let server = house.serve_target(sim.task(), cache).expect("a kernel without faults");
        let clients = sim.load(server.id(), load(200));
        sim.until_answered();
        server.stop().expect("nothing is under way");
        assert_eq!(sim.verdict(), Ok(()), "{house:?}");
        assert!(sim.tally(clients).failed.is_empty(), "{house:?}");
        registered += sim.audit().registered;
    }
    assert!(registered > 0);
}
