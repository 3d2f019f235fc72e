//! The driver over the simulated kernel.

use ublkit::sim::{Choices, Faults, Load, Profile, Sim};
use ublkit::{Blocking, Builder, Geometry, Memory};

#[test]
fn smoke() {
    for profile in Profile::ALL {
        for (seed, faults) in
            [(0, Faults::default()), (1, Faults::default()), (2, Faults::bearable())]
        {
            let choices = if seed == 0 { Choices::first() } else { Choices::seed(seed) };
            let sim = Sim::new(*profile, choices, faults);
            let disk = Memory::new(Geometry::new(1 << 20)).unwrap();
            let server =
                Builder::new().queues(2).depth(4).serve_on(sim.task(), Blocking::new(disk));
            let server = server
                .unwrap_or_else(|error| panic!("{profile} {seed}: {error}; {:?}", sim.failure()));
            let load = sim.load(server.id(), Load::new(1000));
            sim.until_answered();
            eprintln!("{profile} {seed} {:?}", sim.audit());
            let stop = server.stop();
            let verdict = sim.verdict();
            assert_eq!(verdict, Ok(()));
            stop.unwrap();
            assert_eq!(sim.tally(load).succeeded, 1000, "{:?}", sim.tally(load));
        }
    }
}
