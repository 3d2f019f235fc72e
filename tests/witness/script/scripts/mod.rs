//! The scripts, by the part of the protocol that they are about.

mod batch;
mod cancel;
mod control;
mod lives;
pub mod optional;
mod params;
mod results;
mod rings;
mod server;
mod shared;
mod slots;
mod user_copy;

use super::Script;

/// A name for a part of the scripts, and the scripts.
pub type Part = (&'static str, fn() -> Vec<Script>);

/// The seeds that are recorded.
pub const SEEDS: std::ops::Range<u64> = 1..121;
/// Those of devices that are served in batches.
pub const SEEDS_OF_BATCHES: std::ops::Range<u64> = 1..61;

fn random() -> Vec<Script> {
    SEEDS.map(super::random::random).collect()
}

fn random_batch() -> Vec<Script> {
    SEEDS_OF_BATCHES.map(super::random::random_batch).collect()
}

/// All that are written by hand, and those of the recorded seeds.
pub const PARTS: &[Part] = &[
    ("control", control::all),
    ("params", params::all),
    ("lives", lives::all),
    ("slots", slots::all),
    ("results", results::all),
    ("user-copy", user_copy::all),
    ("server", server::all),
    ("rings", rings::all),
    ("optional", optional::all),
    ("batch", batch::all),
    ("cancel", cancel::all),
    ("random", random),
    ("random-batch", random_batch),
];
