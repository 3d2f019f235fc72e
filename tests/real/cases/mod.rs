//! The cases, each a behaviour of the program or the library on a real kernel.

mod data;
mod life;

use crate::Depth;
use ublkit::Features;

/// What a case is told.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// How much to do.
    pub depth: Depth,
    /// What the driver knows.
    pub features: Features,
}

impl Context {
    /// One of two, by depth.
    pub fn pick<T>(self, slice: T, full: T) -> T {
        match self.depth {
            Depth::Slice => slice,
            Depth::Full => full,
        }
    }
}

/// A behaviour on a real kernel.
#[derive(Debug)]
pub struct Case {
    /// Module and behaviour.
    pub name: &'static str,
    /// What the driver must know.
    pub needs: Features,
    /// Panics when the behaviour is wrong.
    pub run: fn(Context),
}

const NOTHING: Features = Features::empty();

/// All cases, in the order in which they run.
pub const CASES: &[Case] = &[
    Case { name: "life: a server is stopped by signals", needs: NOTHING, run: life::signals },
    Case { name: "data: stamps on every queue", needs: NOTHING, run: data::stamps },
];
