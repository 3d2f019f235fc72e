//! Whole lives of a device, step by step, whose steps may fail.

use crate::house::House;
use crate::properties::load;
use ublkit::sim::{Sim, Task};
use ublkit::{Control, Error, Features, Recovery, Server};

/// A device's life and how it is told: the errors of its steps, and who its clients are. It goes
/// on as an operator would who reads them.
#[derive(Default)]
pub struct Told {
    pub errors: Vec<Error>,
    pub clients: Option<usize>,
    /// How many commands came before its server was asked to end.
    pub before_end: Option<u64>,
}

impl Told {
    pub fn step<T>(&mut self, result: Result<T, Error>) -> Option<T> {
        result.map_err(|error| self.errors.push(error)).ok()
    }

    pub fn load(&mut self, sim: &Sim, server: &Server<Task>, requests: u64) {
        self.clients = Some(sim.load(server.id(), load(requests)));
    }

    pub fn stop(&mut self, sim: &Sim, server: Server<Task>) {
        self.before_end = Some(sim.commands());
        self.step(server.stop());
    }
}

pub type Life = fn(&House, &Sim, &mut Told) -> Option<()>;

/// By name, with what becomes of the device when its server leaves it.
pub const LIVES: [(&str, Recovery, Life); 8] = [
    ("served and stopped", Recovery::None, served),
    (UNDER_LOAD, Recovery::None, stopped_under_load),
    ("an ordinary user's", Recovery::None, ordinary),
    ("resized", Recovery::None, resized),
    ("operated by another", Recovery::Wait, operated),
    ("left and recovered, sent again", Recovery::Reissue, replaced),
    ("left and recovered, waited for", Recovery::Wait, replaced),
    ("left and recovered, failing", Recovery::Fail, replaced),
];

pub const UNDER_LOAD: &str = "stopped under load";

pub fn served(house: &House, sim: &Sim, told: &mut Told) -> Option<()> {
    let server = told.step(house.serve(sim.task()))?;
    told.load(sim, &server, 20);
    sim.until_answered();
    told.stop(sim, server);
    None
}

fn stopped_under_load(house: &House, sim: &Sim, told: &mut Told) -> Option<()> {
    let server = told.step(house.serve(sim.task()))?;
    told.load(sim, &server, 500);
    (0..40).for_each(|_| sim.give_way());
    told.before_end = Some(sim.commands());
    told.step(server.stop_now()).map(drop)
}

/// Each of its commands carries a path, and its queues ask for their CPUs.
fn ordinary(house: &House, sim: &Sim, told: &mut Told) -> Option<()> {
    let builder = house.builder().features(Features::UNPRIVILEGED_DEV).pinned(true);
    let server = told.step(builder.serve_on(sim.process(false), house.target()))?;
    told.load(sim, &server, 20);
    sim.until_answered();
    told.stop(sim, server);
    None
}

/// Told to be larger by another process, as `ublkit resize` does.
fn resized(house: &House, sim: &Sim, told: &mut Told) -> Option<()> {
    let server = told.step(house.serve(sim.task()))?;
    let mut control = told.step(Control::open(sim.process(true)))?;
    told.load(sim, &server, 20);
    if has(house, Features::UPDATE_SIZE) {
        server.grow(2 << 20).expect("whole blocks");
        told.step(control.device(server.id()).update_size(2 << 20));
    }
    sim.until_answered();
    told.stop(sim, server);
    None
}

/// Looked at, stopped and deleted by another process, which does the next thing if one fails.
fn operated(house: &House, sim: &Sim, told: &mut Told) -> Option<()> {
    let server = told.step(house.serve(sim.task()))?;
    let mut control = told.step(Control::open(sim.process(true)))?;
    told.load(sim, &server, 20);
    let id = server.id();
    told.step(control.features());
    told.step(control.device(id).info_by_path());
    told.step(control.device(id).params());
    told.step(control.device(id).queue_cpus(0));
    sim.until_answered();
    let safely = has(house, Features::SAFE_STOP_DEV);
    let tried = safely && told.step(control.device(id).try_stop()).is_some();
    if tried || told.step(control.device(id).stop()).is_some() {
        server.wait();
    }
    told.step(control.device(id).delete_async());
    told.stop(sim, server);
    None
}

/// Handed over while clients ask, by QUIESCE_DEV where the kernel has that. Who cannot take it over
/// tries again.
fn replaced(house: &House, sim: &Sim, told: &mut Told) -> Option<()> {
    let store = house.store();
    let mut server = told.step(house.serve_store(sim.process(true), &store))?;
    told.load(sim, &server, 100);
    (0..20).for_each(|_| sim.give_way());
    told.step(server.hand_over());
    drop(server);
    let server = told.step(house.recover(sim.task(), 0, &store));
    let server = server.or_else(|| told.step(house.recover(sim.task(), 0, &store)))?;
    sim.until_answered();
    told.stop(sim, server);
    None
}

pub fn has(house: &House, features: Features) -> bool {
    Features::from_bits_retain(house.profile.features()).contains(features)
}
