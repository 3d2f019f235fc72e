//! How fast the simulation is.

use crate::guest::Outcome;
use std::time::Instant;
use ublkit::sim::{Choices, Faults, Load, Profile, Sim};
use ublkit::{Blocking, Builder, Geometry, Memory};

/// Requests a second that it serves at the least.
const LEAST: f64 = 100_000.0;

const REQUESTS: u32 = 200_000;

/// Tries: others may be busy on this machine.
const TRIES: u32 = 5;

/// Serves clients of a memory disk that read and write, and judges each answer; fails when that is
/// slower than it must be.
pub fn check() -> Outcome<()> {
    let mut best = 0.0_f64;
    for _ in 0..TRIES {
        best = best.max(rate());
        if best >= LEAST {
            println!("the simulation serves {best:.0} requests a second, of {LEAST:.0} at least");
            return Ok(());
        }
    }
    Err(format!("the simulation serves {best:.0} requests a second, not {LEAST:.0}"))
}

fn rate() -> f64 {
    let sim = Sim::new(Profile::NEWEST, Choices::seed(1), Faults::default());
    let disk = Memory::new(Geometry::new(1 << 20)).expect("a MiB");
    let server = Builder::new().serve_on(sim.task(), Blocking::new(disk)).expect("it is served");
    let mut load = Load::new(REQUESTS.into());
    load.max_len_bytes = 4096;
    let begun = Instant::now();
    let clients = sim.load(server.id(), load);
    sim.until_answered();
    let seconds = begun.elapsed().as_secs_f64();
    assert_eq!(sim.tally(clients).succeeded, u64::from(REQUESTS));
    server.stop().expect("it stops");
    sim.assert_clean();
    f64::from(REQUESTS) / seconds
}
